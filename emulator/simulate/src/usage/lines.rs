//! What the functions log, as their binaries do it: lines of JSON at level info.

use std::io::{self, Write};
use std::sync::Arc;

use tracing::Level;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

use super::Billed;
use super::meter::Meter;

/// What CloudWatch counts of its own for each line.
pub(super) const EACH_LINE: u64 = 26;
/// With it what Lambda's span adds, the identifiers of request and trace.
const AROUND_A_LINE: u64 = 220 + EACH_LINE;

/// Counts the lines of this thread until what it gives is dropped.
pub(super) fn counted(meter: Arc<Meter>) -> DefaultGuard {
    let lines = tracing_subscriber::fmt::layer().json().with_current_span(false).with_writer(Counted(meter));
    let info = Targets::new().with_default(Level::INFO);
    tracing::subscriber::set_default(tracing_subscriber::registry().with(lines).with(info))
}

struct Counted(Arc<Meter>);

impl<'a> MakeWriter<'a> for Counted {
    type Writer = &'a Counted;

    fn make_writer(&'a self) -> &'a Counted {
        self
    }
}

impl Write for &Counted {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.add(Billed::LineBytes, line.len() as u64 + AROUND_A_LINE);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
