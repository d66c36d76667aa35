//! Why a template cannot be run: the file, the place in it, and the rule that it breaks.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The caller can only show it: each kind says what to look at.
#[allow(missing_docs)] // each text says what its parts are
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The file cannot be opened.
    #[error("{}: cannot be read: {cause}; name it with --template", file.display())]
    Unreadable { file: PathBuf, cause: io::Error },
    /// Not YAML. Line and column count from 1.
    #[error("{}:{line}:{column}: {what}", file.display())]
    Syntax { file: PathBuf, line: usize, column: usize, what: String },
    /// YAML, but not a template that can be deployed or run. `at` is the path of keys, such as
    /// `Resources.HighQueue.Properties.VisibilityTimeout`.
    #[error("{}: {at}: {rule}", file.display())]
    Invalid { file: PathBuf, at: String, rule: String },
}

/// An `Invalid` before the file's name is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: String,
    pub(super) rule: String,
}

impl Fault {
    pub(super) fn new(at: impl Into<String>, rule: impl fmt::Display) -> Fault {
        Fault { at: at.into(), rule: rule.to_string() }
    }

    pub(super) fn in_file(self, file: &Path) -> TemplateError {
        TemplateError::Invalid { file: file.into(), at: self.at, rule: self.rule }
    }
}
