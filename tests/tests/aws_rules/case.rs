//! A documented rule of AWS as a case: the page that states it, the rule in one sentence, and a check that can fail.

use std::fmt::Display;

/// Why a rule is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unmet {
    /// In words: what was seen instead.
    Broken(String),
    /// The subject has nothing that the rule is about.
    NotOffered,
}

pub type Outcome = Result<(), Unmet>;

impl<E: Display> From<E> for Unmet {
    fn from(e: E) -> Unmet {
        Unmet::Broken(e.to_string())
    }
}

/// One rule.
pub struct Case<C> {
    /// Unique in the suite.
    pub id: &'static str,
    /// AWS's documentation.
    pub page: &'static str,
    /// In one sentence.
    pub rule: &'static str,
    pub check: C,
}

/// What the table shows of a case, and the subject that it stands under.
#[derive(Debug, Clone, Copy)]
pub struct Meta {
    pub subject: &'static str,
    pub id: &'static str,
    pub page: &'static str,
    pub rule: &'static str,
}

pub fn metas<C>(subject: &'static str, cases: &[Case<C>]) -> Vec<Meta> {
    cases.iter().map(|case| Meta { subject, id: case.id, page: case.page, rule: case.rule }).collect()
}

/// Cases as a constant list: id, page, rule, and a block with the subject's name.
macro_rules! cases {
    ($($id:literal, $page:expr, $rule:literal, |$subject:pat_param| $body:block)*) => {
        &[$(Case { id: $id, page: $page, rule: $rule, check: |$subject| Box::pin(async move { $body; Ok(()) }) }),*]
    };
}

/// Ends a check with what was seen, unless it is what the rule says.
macro_rules! holds {
    ($seen:expr, $wanted:expr) => {
        // A `match` keeps what both sides borrow.
        match (&$seen, &$wanted) {
            (seen, wanted) if *seen != *wanted => {
                return Err(Unmet::Broken(format!("{} is {seen:?}, not {wanted:?}", stringify!($seen))));
            }
            _ => {}
        }
    };
    ($held:expr) => {
        let held: bool = $held;
        if !held {
            return Err(Unmet::Broken(format!("not: {}", stringify!($held))));
        }
    };
}

pub(crate) use {cases, holds};
