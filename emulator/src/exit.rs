//! Exit codes and the one line that a failure prints: what, where, what to do.

use std::fmt;
use std::process::ExitCode;

use streammanager::error::BackendError;

/// How a command ended; wrong usage (2) is clap's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done and accounted for.
    Done,
    Failed,
    /// Done, but something was rejected or is still queued.
    Partly,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Partly => 3,
        })
    }
}

/// A command failed; the text is one line for a person.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    pub fn new(text: impl fmt::Display) -> Failure {
        Failure(text.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<BackendError> for Failure {
    fn from(e: BackendError) -> Failure {
        Failure::new(e)
    }
}
