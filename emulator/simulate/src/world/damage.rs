//! Bits that the disk turns over, and what must become of them [Q1].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use streammanager::dead::{self, DeadLetter};
use streammanager::record::{Envelope, Tier};
use tokio::time::sleep;

use super::World;
use crate::judge::{Published, kind};

/// Where the seen-set of the world's stream lies.
const SEEN_OF_DETECTIONS: &str = "seen/cal-fire/firms_viirs_snpp";

/// A row of which the disk turned a bit over.
pub(super) struct Turned {
    /// As it stands there, or stood before another bit was turned.
    bytes: Bytes,
    /// What an envelope held, and what kind each is.
    records: Vec<(Published, String)>,
}

impl World {
    /// One bit of what waits in a queue, or of what is known of the detections, is another on the disk.
    pub(crate) async fn turn_bits(&self) {
        let Some(embedded) = self.embedded() else { return };
        let rng = self.dice.rng();
        let turned = if self.dice.once_in(3) {
            self.judge.forgot("firms");
            embedded.turn_item(&self.disk, SEEN_OF_DETECTIONS, rng)
        } else {
            let tier = Tier::ALL[self.dice.below(4) as usize];
            embedded.turn_body(&self.disk, self.settings.queues.tier(tier), rng)
        };
        let Some((was, is)) = turned else { return };
        let records: Vec<(Published, String)> = Envelope::decode(&was)
            .and_then(|envelope| envelope.unpack())
            .into_iter()
            .flatten()
            .map(|record| ((record.event, record.revision), kind(&record)))
            .collect();
        self.judge.damaged(records.iter().map(|(published, _)| *published));
        let mut rows = self.turned.lock();
        // A second bit of the same row: whoever has met the first may set it aside as it stood then.
        let before = rows.iter().find(|row| row.bytes == was);
        let records = before.map_or(records, |row| row.records.clone());
        rows.push(Turned { bytes: is, records });
    }

    /// As the host's lookout does it.
    pub(super) async fn damage(self: Arc<World>) {
        loop {
            sleep(Duration::from_secs(10)).await;
            let Some(embedded) = self.embedded() else { continue };
            // What could not be buried now is buried next time.
            let _ = self.invoke(|app| async move { dead::bury_damaged(&app, &embedded).await }).await;
        }
    }

    /// Whether the letter holds a row that the disk damaged, as it stood there [Q1].
    pub(super) async fn is_set_aside(&self, letter: &DeadLetter) -> bool {
        let Ok(Some(raw)) = dead::raw(&self.blobs, letter).await else { return false };
        let rows = self.turned.lock();
        let found = rows.iter().find(|row| row.bytes == raw && letter.stream.as_str() == "stray");
        found.inspect(|row| self.judge.set_aside(&row.records)).is_some()
    }
}
