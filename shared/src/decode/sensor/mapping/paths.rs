//! Their names: dotted paths into a message, and patterns of names.

use serde_json::Value;

/// The value at a dotted path. A name may hold dots itself (`pm2.5`), and a list's items go by their places, from 0.
pub(super) fn find<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    if let Some(found) = member(value, path) {
        return Some(found);
    }
    dots(path).find_map(|dot| find(member(value, &path[..dot])?, &path[dot + 1..]))
}

/// Takes the value away; a list's item becomes null, so that the others keep their places.
pub(super) fn remove(value: &mut Value, path: &str) -> bool {
    let is_here = match &mut *value {
        Value::Object(fields) => fields.remove(path).is_some(),
        Value::Array(items) => {
            let item = path.parse::<usize>().ok().and_then(|at| items.get_mut(at));
            item.map(|item| *item = Value::Null).is_some()
        }
        _ => false,
    };
    if is_here {
        return true;
    }
    dots(path).any(|dot| {
        let inner = match &mut *value {
            Value::Object(fields) => fields.get_mut(&path[..dot]),
            Value::Array(items) => path[..dot].parse::<usize>().ok().and_then(|at| items.get_mut(at)),
            _ => None,
        };
        inner.is_some_and(|inner| remove(inner, &path[dot + 1..]))
    })
}

fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match value {
        Value::Object(fields) => fields.get(name),
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        _ => None,
    }
}

fn dots(path: &str) -> impl Iterator<Item = usize> + '_ {
    path.bytes().enumerate().filter(|(_, byte)| *byte == b'.').map(|(at, _)| at)
}

/// Whether `pattern`, in which `*` stands for any run of characters, is the whole of `name`.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    let Some((start, mut rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(start) else { return false };
    while let Some((part, behind)) = rest.split_once('*') {
        let Some(at) = name.find(part) else { return false };
        (name, rest) = (&name[at + part.len()..], behind);
    }
    name.ends_with(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_path_goes_through_objects_lists_and_names_with_dots() {
        let mut message = json!({"a": {"pm2.5": 9, "b.c": {"d": 1}}, "list": [{"t": 5}, 6], "a.x": 2});
        for (path, value) in [
            ("a.pm2.5", Some(json!(9))),
            ("a.b.c.d", Some(json!(1))),
            ("list.0.t", Some(json!(5))),
            ("list.1", Some(json!(6))),
            ("a.x", Some(json!(2))),
            ("a.y", None),
            ("list.x", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(find(&message, path).cloned(), value, "{path}");
            assert_eq!(remove(&mut message.clone(), path), value.is_some(), "{path}");
        }
        assert!(remove(&mut message, "list.0") && remove(&mut message, "a.b.c.d"));
        assert_eq!(message, json!({"a": {"pm2.5": 9, "b.c": {}}, "list": [null, 6], "a.x": 2}));
    }

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, name, is_it) in [
            ("heap", "heap", true),
            ("heap", "heaps", false),
            ("temp*f", "temp1f", true),
            ("temp*f", "tempf", true),
            ("temp*f", "temp1c", false),
            ("*.CF1", "PMS5003.CF1", true),
            ("wifi.*", "wifi.rssi", true),
            ("*a*b*", "xaybz", true),
            ("*a*b*", "xbya", false),
            ("*", "", true),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(fits(pattern, name), is_it, "{pattern} {name}");
        }
    }
}
