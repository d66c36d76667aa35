//! The `Conditions` section: each is worked out once, from parameters, mappings and other conditions alone. And the `Rules`
//! section, which is held to before anything else is read: what it asserts of the parameters.

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
        match function.as_str() {
            "Condition" => {
                let name = argument.as_str().ok_or_else(|| fault("Condition takes a name"))?;
                self.condition(at, name)
            }
            _ => {
                let scope = self.scope;
                combined(scope, at, function, argument, &mut |inner| self.test(at, inner))
                    .unwrap_or_else(|| Err(Fault::new(at, format!("{function} is not a condition function"))))
            }
        }
    }
}

/// What conditions and rules write alike; none for another function.
fn combined<'d>(
    scope: &Scope<'_>,
    at: &str,
    function: &str,
    argument: &'d Value,
    test: &mut dyn FnMut(&'d Value) -> Result<bool, Fault>,
) -> Option<Result<bool, Fault>> {
    let fault = |rule: &str| Some(Err(Fault::new(at, rule)));
    let arguments = argument.as_array().map(Vec::as_slice);
    match (function, arguments) {
        ("Fn::Equals", Some([left, right])) => {
            let side = |value| Ok(scope.resolve(at, value)?.as_ref().and_then(scalar));
            Some(side(left).and_then(|left| Ok(left == side(right)?)))
        }
        ("Fn::Not", Some([inner])) => Some(test(inner).map(|holds| !holds)),
        ("Fn::And", Some(inner @ [_, _, ..])) => {
            Some(inner.iter().try_fold(true, |all, inner| Ok(test(inner)? && all)))
        }
        ("Fn::Or", Some(inner @ [_, _, ..])) => {
            Some(inner.iter().try_fold(false, |any, inner| Ok(test(inner)? || any)))
        }
        ("Fn::Equals", _) => fault("Fn::Equals takes two values"),
        ("Fn::Not", _) => fault("Fn::Not takes one condition"),
        ("Fn::And" | "Fn::Or", _) => fault(&format!("{function} takes two conditions or more")),
        _ => None,
    }
}

/// Refuses parameters that a rule of the template forbids, with what the rule says of it.
pub(super) fn check_rules(scope: &Scope<'_>, rules: &Map<String, Value>) -> Result<(), Fault> {
    for (name, rule) in rules {
        let at = format!("Rules.{name}");
        let applies = match rule.get("RuleCondition") {
            Some(condition) => asserted(scope, &at, condition)?,
            None => true,
        };
        let assertions = rule.get("Assertions").and_then(Value::as_array);
        let assertions = assertions.ok_or_else(|| Fault::new(&at, "has no Assertions"))?;
        for assertion in assertions.iter().filter(|_| applies) {
            let wanted = assertion.get("Assert").ok_or_else(|| Fault::new(&at, "an assertion has no Assert"))?;
            if !asserted(scope, &at, wanted)? {
                let said = assertion.get("AssertDescription").and_then(Value::as_str);
                return Err(Fault::new(at, said.unwrap_or("the parameters do not keep it")));
            }
        }
    }
    Ok(())
}

fn asserted(scope: &Scope<'_>, at: &str, expression: &Value) -> Result<bool, Fault> {
    let only = expression.as_object().filter(|map| map.len() == 1).and_then(|map| map.iter().next());
    let (function, argument) = only.ok_or_else(|| Fault::new(at, "an assertion must be one rule function"))?;
    if let Some(holds) = combined(scope, at, function, argument, &mut |inner| asserted(scope, at, inner)) {
        return holds;
    }
    let list = |value| match scope.resolve(at, value)? {
        Some(Value::Array(items)) => Ok(items.iter().filter_map(scalar).collect::<Vec<_>>()),
        _ => Err(Fault::new(at, format!("{function} takes a list of strings"))),
    };
    let one = |value| Ok(scope.resolve(at, value)?.as_ref().and_then(scalar).unwrap_or_default());
    match (function.as_str(), argument.as_array().map(Vec::as_slice)) {
        ("Fn::Contains", Some([items, item])) => Ok(list(items)?.contains(&one(item)?)),
        ("Fn::EachMemberEquals", Some([items, item])) => {
            let item = one(item)?;
            Ok(list(items)?.iter().all(|each| *each == item))
        }
        ("Fn::EachMemberIn", Some([items, allowed])) => {
            let allowed = list(allowed)?;
            Ok(list(items)?.iter().all(|each| allowed.contains(each)))
        }
        _ => Err(Fault::new(at, format!("{function} is not a rule function that is understood here"))),
    }
}
