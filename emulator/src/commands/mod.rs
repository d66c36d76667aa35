//! One file a command.

#[cfg(feature = "up")]
pub mod bench;
pub mod decode;
pub mod ingest;
#[cfg(feature = "up")]
pub mod operate;
#[cfg(feature = "up")]
pub mod topics;

use streammanager::decode::Format;
use streammanager_host::exit::Failure;

use crate::cli::InputArgs;

/// The format that `--format` names, else the source's.
fn format(input: &InputArgs) -> Result<Format, Failure> {
    Format::named(&input.format).or_else(|| Format::of(&input.source)).ok_or_else(|| {
        Failure::usage(format!(
            "--source {}: no decoder reads this source; known are firms_…, landsat_nrt, historical_firms…, iot_… and the critical ids",
            input.source
        ))
    })
}

/// Prints to standard output; a reader that has seen enough, such as `head`, is no failure.
#[cfg(feature = "up")]
fn print(lines: impl IntoIterator<Item = impl std::fmt::Display>) -> Result<(), Failure> {
    use std::io::{BufWriter, ErrorKind, Write, stdout};
    let mut out = BufWriter::new(stdout().lock());
    match lines.into_iter().try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Failure::new(format!("standard output: {e}"))),
        _ => Ok(()),
    }
}
