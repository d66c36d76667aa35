//! What is wrong with the text of a streams file, for whoever mends it: field, rule, line and column.

use std::fmt;

use serde::Serialize;

use super::lines;
use crate::sources::WrongFields;

/// So many are told: each is looked for in the text, and nobody mends more at one time.
const TOLD: usize = 100;

/// One field of a streams file that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// The way to it, such as `streams[1].config.days`; empty for the text as a whole.
    pub field: String,
    /// What is wrong with it.
    pub rule: String,
    /// From 1; of what it would stand in when it is missing.
    pub line: usize,
    /// From 1.
    pub column: usize,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mistake { field, rule, line, column } = self;
        let between = if field.is_empty() { "" } else { ": " };
        write!(f, "{field}{between}{rule} at line {line} column {column}")
    }
}

/// All of them, in the order of the text; at least one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mistakes {
    /// As many as are told.
    pub mistakes: Vec<Mistake>,
    /// So many more there are.
    pub more: usize,
}

impl Mistakes {
    /// Of a text that holds no value.
    pub(super) fn no_value(problem: &yaml_serde::Error) -> Mistakes {
        let (line, column) = problem.location().map_or((1, 1), |at| (at.line(), at.column()));
        let text = problem.to_string();
        let rule = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text).to_owned();
        Mistakes { mistakes: vec![Mistake { field: String::new(), rule, line, column }], more: 0 }
    }

    /// Of the value of `text`.
    pub(super) fn placed(text: &str, wrong: WrongFields) -> Mistakes {
        let more = wrong.0.len().saturating_sub(TOLD);
        let told = wrong.0.iter().take(TOLD).map(|wrong| {
            let (line, column) = lines::find(text, wrong.path());
            Mistake { field: wrong.field(), rule: wrong.rule().to_owned(), line, column }
        });
        let mut mistakes: Vec<Mistake> = told.collect();
        mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        Mistakes { mistakes, more }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let ([mistake], 0) = (&self.mistakes[..], self.more) {
            return mistake.fmt(f);
        }
        write!(f, "{} mistakes:", self.mistakes.len() + self.more)?;
        self.mistakes.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))?;
        if self.more > 0 { write!(f, "\n  and {} more", self.more) } else { Ok(()) }
    }
}
