//! The `Conditions` section: each is worked out once, from parameters, mappings and other conditions alone.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::Fault;
use super::scope::Scope;
use super::values::scalar;

pub(super) fn settle<'d>(
    scope: &Scope<'d>,
    declared: &'d Map<String, Value>,
) -> Result<BTreeMap<&'d str, bool>, Fault> {
    let mut settling = Settling { scope, declared, known: BTreeMap::new(), open: Vec::new() };
    for name in declared.keys() {
        settling.condition("Conditions", name)?;
    }
    Ok(settling.known)
}

struct Settling<'s, 'd> {
    scope: &'s Scope<'d>,
    declared: &'d Map<String, Value>,
    known: BTreeMap<&'d str, bool>,
    /// Being worked out, outermost first.
    open: Vec<&'d str>,
}

impl<'d> Settling<'_, 'd> {
    fn condition(&mut self, asked_at: &str, name: &str) -> Result<bool, Fault> {
        if let Some(holds) = self.known.get(name) {
            return Ok(*holds);
        }
        let (name, expression) = self
            .declared
            .get_key_value(name)
            .ok_or_else(|| Fault::new(asked_at, format!("{name:?} is not a condition of this template")))?;
        let at = format!("Conditions.{name}");
        if self.open.contains(&name.as_str()) {
            return Err(Fault::new(at, format!("is circular: {} → {name}", self.open.join(" → "))));
        }
        self.open.push(name);
        let holds = self.test(&at, expression)?;
        self.open.pop();
        self.known.insert(name, holds);
        Ok(holds)
    }

    fn test(&mut self, at: &str, expression: &'d Value) -> Result<bool, Fault> {
        let fault = |rule: &str| Fault::new(at, rule);
        let only = expression.as_object().filter(|map| map.len() == 1).and_then(|map| map.iter().next());
        let (function, argument) = only.ok_or_else(|| fault("must be one of Equals, And, Or, Not, Condition"))?;
        let arguments = argument.as_array().map(Vec::as_slice);
        match (function.as_str(), arguments) {
            ("Condition", None) => {
                let name = argument.as_str().ok_or_else(|| fault("Condition takes a name"))?;
                self.condition(at, name)
            }
            ("Fn::Equals", Some([left, right])) => {
                let side = |value| Ok(self.scope.resolve(at, value)?.as_ref().and_then(scalar));
                Ok(side(left)? == side(right)?)
            }
            ("Fn::Not", Some([inner])) => Ok(!self.test(at, inner)?),
            ("Fn::And", Some(inner @ [_, _, ..])) => {
                inner.iter().try_fold(true, |all, inner| Ok(self.test(at, inner)? && all))
            }
            ("Fn::Or", Some(inner @ [_, _, ..])) => {
                inner.iter().try_fold(false, |any, inner| Ok(self.test(at, inner)? || any))
            }
            ("Fn::Equals", _) => Err(fault("Fn::Equals takes two values")),
            ("Fn::Not", _) => Err(fault("Fn::Not takes one condition")),
            ("Fn::And" | "Fn::Or", _) => Err(Fault::new(at, format!("{function} takes two conditions or more"))),
            _ => Err(Fault::new(at, format!("{function} is not a condition function"))),
        }
    }
}
