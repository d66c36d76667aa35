//! What CloudFormation refuses before it creates anything: a name that does not exist, and resources that wait for each
//! other in a circle.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::Fault;
use super::intrinsics::names_in;
use super::scope::{Scope, kind, unknown_name};

pub(super) fn check(scope: &Scope<'_>, template: &Map<String, Value>) -> Result<(), Fault> {
    let mut needs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (id, resource) in &scope.resources {
        let mut named = Vec::new();
        for (property, value) in &resource.properties {
            let mut here = Vec::new();
            names_in(&format!("Resources.{id}.Properties.{property}"), value, &mut here)?;
            known(scope, &here)?;
            // A function's events and its deployment become resources of their own: the function does not wait for them.
            let apart = ["Events", "DeploymentPreference"].contains(&property.as_str());
            if !(resource.kind == kind::FUNCTION && apart) {
                named.append(&mut here);
            }
        }
        let first = |name: &str| name.split('.').next().and_then(|id| scope.resources.get_key_value(id));
        needs.insert(id, named.iter().filter_map(|(_, name)| first(name)).map(|(id, _)| *id).collect());
    }
    for section in ["Outputs", "Conditions"] {
        let mut named = Vec::new();
        names_in(section, template.get(section).unwrap_or(&Value::Null), &mut named)?;
        known(scope, &named)?;
    }
    acyclic(&needs)
}

fn known(scope: &Scope<'_>, names: &[(String, String)]) -> Result<(), Fault> {
    let unknown = names.iter().find(|(_, name)| {
        // `Fn::Sub` writes an attribute as `Resource.Attribute`.
        let resource = name.split('.').next().unwrap_or(name);
        !scope.knows(name) && !scope.resources.contains_key(resource)
    });
    unknown.map_or(Ok(()), |(at, name)| Err(unknown_name(at, name)))
}

fn acyclic(needs: &BTreeMap<&str, Vec<&str>>) -> Result<(), Fault> {
    let mut done = Vec::new();
    for id in needs.keys() {
        visit(needs, id, &mut Vec::new(), &mut done)?;
    }
    Ok(())
}

fn visit<'n>(
    needs: &BTreeMap<&'n str, Vec<&'n str>>,
    id: &'n str,
    open: &mut Vec<&'n str>,
    done: &mut Vec<&'n str>,
) -> Result<(), Fault> {
    if done.contains(&id) {
        return Ok(());
    }
    open.push(id);
    if let Some(start) = open[..open.len() - 1].iter().position(|earlier| *earlier == id) {
        return Err(Fault::new(format!("Resources.{id}"), format!("refers to itself: {}", open[start..].join(" → "))));
    }
    for next in needs.get(id).into_iter().flatten() {
        visit(needs, next, open, done)?;
    }
    open.pop();
    done.push(id);
    Ok(())
}
