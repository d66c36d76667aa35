//! Typed reading of one mapping of properties: each value is resolved when it is asked for, and a wrong one is named by
//! its whole path.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value};

use super::error::Fault;
use super::scope::Scope;
use super::values::{function_call, scalar};

pub(super) struct Properties<'s> {
    scope: &'s Scope<'s>,
    at: String,
    raw: Map<String, Value>,
}

impl<'s> Properties<'s> {
    pub(super) fn new(scope: &'s Scope<'s>, at: String, raw: Map<String, Value>) -> Properties<'s> {
        Properties { scope, at, raw }
    }

    /// What is given; `AWS::NoValue` gives nothing.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let given =
            |(name, raw): &(&String, &Value)| function_call(raw).is_none() || !matches!(self.value(name), Ok(None));
        self.raw.iter().filter(given).map(|(name, _)| name.as_str())
    }

    pub(super) fn fault(&self, name: &str, rule: impl std::fmt::Display) -> Fault {
        Fault::new(self.path(name), rule)
    }

    pub(super) fn required<T>(&self, name: &str, value: Option<T>) -> Result<T, Fault> {
        value.ok_or_else(|| self.fault(name, "is missing"))
    }

    pub(super) fn value(&self, name: &str) -> Result<Option<Value>, Fault> {
        match self.raw.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => self.scope.resolve(&self.path(name), value),
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Fault> {
        let not_text = || self.fault(name, "must be a string");
        self.value(name)?.map(|value| scalar(&value).ok_or_else(not_text)).transpose()
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Fault> {
        match self.text(name)?.as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(self.fault(name, format!("must be true or false, not {other:?}"))),
        }
    }

    pub(super) fn number(&self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, Fault> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => Err(self.fault(name, format!("must be {} to {}, not {text}", range.start(), range.end()))),
        }
    }

    /// A count that is never negative.
    pub(super) fn count(&self, name: &str, range: RangeInclusive<u32>) -> Result<Option<u32>, Fault> {
        let number = self.number(name, i64::from(*range.start())..=i64::from(*range.end()))?;
        Ok(number.map(|number| number.unsigned_abs() as u32))
    }

    pub(super) fn seconds(&self, name: &str, range: RangeInclusive<u32>) -> Result<Option<Duration>, Fault> {
        Ok(self.count(name, range)?.map(|seconds| Duration::from_secs(seconds.into())))
    }

    /// A mapping below this one, itself read as it is asked for.
    pub(super) fn inner(&self, name: &str) -> Result<Option<Properties<'s>>, Fault> {
        let raw = match self.raw.get(name) {
            Some(plain) if function_call(plain).is_none() => Some(plain.clone()).filter(|value| !value.is_null()),
            _ => self.value(name)?,
        };
        raw.map(|value| self.below(self.path(name), value)).transpose()
    }

    pub(super) fn list(&self, name: &str) -> Result<Vec<Value>, Fault> {
        match self.value(name)? {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => Ok(items),
            Some(_) => Err(self.fault(name, "must be a list")),
        }
    }

    /// A list of mappings.
    pub(super) fn inners(&self, name: &str) -> Result<Vec<Properties<'s>>, Fault> {
        let items = self.list(name)?.into_iter().enumerate();
        items.map(|(index, item)| self.below(format!("{}[{index}]", self.path(name)), item)).collect()
    }

    fn below(&self, at: String, value: Value) -> Result<Properties<'s>, Fault> {
        match value {
            Value::Object(raw) => Ok(Properties { scope: self.scope, at, raw }),
            _ => Err(Fault::new(at, "must be a mapping")),
        }
    }

    fn path(&self, name: &str) -> String {
        if name.is_empty() { self.at.clone() } else { format!("{}.{name}", self.at) }
    }
}
