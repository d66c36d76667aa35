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
use streammanager::sources;
use streammanager_host::exit::Failure;

use crate::cli::InputArgs;

/// The format that `--format` names, else the source's.
fn format(input: &InputArgs) -> Result<Format, Failure> {
    let named = sources::formats().into_iter().find(|format| format.name == input.format);
    named.or_else(|| sources::format_of(&input.source)).ok_or_else(|| {
        Failure::usage(format!(
            "--source {}: no decoder reads this source; known are {}",
            input.source,
            sources::readable_ids()
        ))
    })
}

/// Prints to standard output; a reader that has seen enough, such as `head`, does not make it fail.
#[cfg(feature = "up")]
fn print(lines: impl IntoIterator<Item = impl std::fmt::Display>) -> Result<(), Failure> {
    use std::io::{BufWriter, ErrorKind, Write, stdout};
    let mut out = BufWriter::new(stdout().lock());
    match lines.into_iter().try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Failure::new(format!("standard output: {e}"))),
        _ => Ok(()),
    }
}
