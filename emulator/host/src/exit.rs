//! Exit codes and the one line that a failure prints: what, where, what to do.

use std::fmt;
use std::process::ExitCode;

use streammanager::error::BackendError;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done and accounted for.
    Done,
    /// Not done; the line on stderr says why.
    Failed,
    /// Wrong usage, where clap could not see it.
    Usage,
    /// Done, but something was rejected or is still queued.
    Partly,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Partly => 3,
        })
    }
}

/// A command failed; the text is one line for a person.
#[derive(Debug)]
pub struct Failure {
    text: String,
    exit: Exit,
}

impl Failure {
    /// A failure of the system; exit code 1.
    pub fn new(text: impl fmt::Display) -> Failure {
        Failure { text: text.to_string(), exit: Exit::Failed }
    }

    /// The caller asked for what can never be done, whatever the state of the system.
    pub fn usage(text: impl fmt::Display) -> Failure {
        Failure { text: text.to_string(), exit: Exit::Usage }
    }

    /// How the command ends for it.
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<BackendError> for Failure {
    fn from(e: BackendError) -> Failure {
        Failure::new(e)
    }
}
