//! The data folder of this host: whose records it holds, files that only its owner reads, and what waits in its queues.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bytes::Bytes;
use streammanager::embedded::Embedded;
use streammanager::express::marks;
use streammanager::record::{Envelope, Tier};
use streammanager::settings::Settings;

use crate::exit::Failure;

/// Marks a data folder that holds the made-up records of a demo.
const DEMO: &str = "demo";

/// Whether the folder holds the made-up records of a demo.
pub fn is_demo(data: &Path) -> bool {
    data.join(DEMO).exists()
}

/// # Errors
/// For a demo's folder: what is queued there must not reach real brokers, nor real records its topics.
pub fn refuse_demo(data: &Path) -> Result<(), Failure> {
    if is_demo(data) {
        Err(Failure::new(format!(
            "{} holds the made-up records of a demo; name another folder with --data, or delete this one",
            data.display()
        )))
    } else {
        Ok(())
    }
}

/// From now on the folder is a demo's.
pub fn mark_demo(data: &Path) -> Result<(), Failure> {
    let mark = data.join(DEMO);
    std::fs::write(&mark, "").map_err(|e| Failure::new(format!("{}: {e}", mark.display())))
}

/// A new file that its owner alone can read; one that is there already is left as it is.
pub fn new_private(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

/// Records that wait in the tiers' queues, counted from the envelopes' heads: a counter beside the queue could differ from
/// it. The queue's copy of an alert that the broker acknowledged is not counted.
pub async fn queued_records(embedded: &Embedded, settings: &Settings) -> Result<u64, Failure> {
    let (mut records, mut copies) = (0, Vec::new());
    for tier in Tier::ALL {
        embedded.each_body(settings.queues.tier(tier), |body| {
            match Envelope::decode(&Bytes::copy_from_slice(body)) {
                Ok(envelope) if tier == Tier::Critical => copies.push(envelope.id),
                Ok(envelope) => records += u64::from(envelope.count),
                Err(_) => records += 1,
            }
        })?;
    }
    // A CRITICAL envelope holds one alert.
    for id in copies {
        records += u64::from(!marks::is_void(embedded, id).await);
    }
    Ok(records)
}
