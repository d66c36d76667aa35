//! One file a command.

#[cfg(feature = "up")]
mod api;
#[cfg(feature = "up")]
pub(crate) mod bench;
#[cfg(feature = "up")]
pub(crate) mod buffer;
#[cfg(feature = "up")]
mod check;
#[cfg(feature = "up")]
pub(crate) mod cost;
#[cfg(feature = "up")]
pub(crate) mod dead_letters;
pub(crate) mod decode;
pub(crate) mod ingest;
#[cfg(feature = "up")]
pub(crate) mod operate;
#[cfg(feature = "up")]
pub(crate) mod simulate;
#[cfg(feature = "up")]
pub(crate) mod status;
#[cfg(feature = "up")]
pub(crate) mod tap;
#[cfg(feature = "up")]
pub(crate) mod top;
#[cfg(feature = "up")]
pub(crate) mod topics;
#[cfg(feature = "up")]
pub(crate) mod trace;

use streammanager::decode::{Format, sensor};
use streammanager::record::SourceId;
use streammanager::sources;
use streammanager_host::exit::Failure;

use crate::cli::InputArgs;

/// As [`named`].
fn source_and_format(input: &InputArgs) -> Result<(SourceId, Format), Failure> {
    let without = || Failure::usage("name the source with --source or the topic with --topic");
    if input.source.is_none() && input.topic.is_none() {
        return Err(without());
    }
    named(input)?.ok_or_else(without)
}

/// The source that `--source` names, else the topic's, else the format's; and the format that `--format` names, else the source's.
/// `None` where nothing is named.
fn named(input: &InputArgs) -> Result<Option<(SourceId, Format)>, Failure> {
    let format = sources::formats().into_iter().find(|format| format.name == input.format);
    let of_topic = |topic: &String| {
        sensor::source_of(topic).or_else(|| SourceId::new(topic.strip_prefix("alerts/")?).ok()).ok_or_else(|| {
            Failure::usage(format!(
                "--topic {topic}: it is neither sensors/{{kind}}/{{id}}/state nor alerts/{{source_id}}: name the source with --source"
            ))
        })
    };
    let source = match (&input.source, &input.topic) {
        (Some(source), _) => source.clone(),
        (None, Some(topic)) => of_topic(topic)?,
        (None, None) => return Ok(format.and_then(|format| Some((sources::source_of(format)?, format)))),
    };
    let format = format.or_else(|| sources::format_of(&source)).ok_or_else(|| {
        Failure::usage(format!(
            "--source {source}: no decoder reads this source; known are {}",
            sources::readable_ids()
        ))
    })?;
    Ok(Some((source, format)))
}

/// Prints to standard output; a reader that has seen enough, such as `head`, does not make it fail.
fn print(lines: impl IntoIterator<Item = impl std::fmt::Display>) -> Result<(), Failure> {
    use std::io::{BufWriter, ErrorKind, Write, stdout};
    let mut out = BufWriter::new(stdout().lock());
    match lines.into_iter().try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Failure::new(format!("standard output: {e}"))),
        _ => Ok(()),
    }
}

/// Asks the person at the terminal, who answers in words.
///
/// # Errors
/// When the terminal cannot be written to or read.
#[cfg(feature = "up")]
fn says_yes(question: &str) -> Result<bool, Failure> {
    use std::io::{BufRead, Write, stderr, stdin};
    let asked = write!(stderr(), "{question} Type yes: ").and_then(|()| stderr().flush());
    asked.map_err(|e| Failure::new(format!("standard error: {e}")))?;
    let mut answer = String::new();
    stdin().lock().read_line(&mut answer).map_err(|e| Failure::new(format!("standard input: {e}")))?;
    Ok(answer.trim().eq_ignore_ascii_case("yes"))
}

/// A line on standard error; that nobody reads it is no reason to stop.
fn say(line: impl std::fmt::Display) {
    use std::io::{Write, stderr};
    drop(writeln!(stderr().lock(), "{line}"));
}
