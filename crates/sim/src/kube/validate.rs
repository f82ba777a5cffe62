//! Checks values against compiled schemas, with the errors, fields and words of the API server.
//!
//! Deliberately knows nothing of CEL and of `metadata`. Facts: k8s.io/kube-openapi, validation/validate, and
//! k8s.io/apiextensions-apiserver, validation of custom resources.

mod embedded;
mod formats;
mod lists;
mod numbers;
mod words;

use std::borrow::Cow;

use serde_json::Value;

use crate::kube::schema::Cause;
use crate::kube::schema::node::{Additional, Kind, ListType, Node};
pub(crate) use embedded::embedded;
pub(crate) use lists::lists;
pub(crate) use words::{go_float, json, quoted, shown};

/// The value that an update replaces, where it can be told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Old<'a> {
    /// A create, or no counterpart: nothing is let through.
    Nothing,
    /// The counterpart before the update: an invalid value that equals it is let through.
    Value(&'a Value),
}

/// Checks `value` against `node`; `prefix` is put in front of the fields but not of the words.
pub(crate) fn schema(node: &Node, value: &Value, old: Old<'_>, prefix: Option<&str>) -> Vec<Cause> {
    let found = check(node, value, "", old);
    found.issues.into_iter().map(|issue| issue.cause(prefix)).collect()
}

/// One finding; `words` tell findings apart, equal ones are reported once.
struct Issue {
    reason: &'static str,
    /// The path of the value, or `None` for findings that the API server puts at the root.
    path: Option<String>,
    message: String,
    words: String,
}

impl Issue {
    fn cause(self, prefix: Option<&str>) -> Cause {
        let path =
            self.path.as_deref().map(|path| path.strip_prefix('.').unwrap_or(path)).unwrap_or_default();
        let field = match (prefix, path) {
            (None, "") => "<nil>".to_owned(),
            (None, path) => path.to_owned(),
            (Some(prefix), "") => prefix.to_owned(),
            (Some(prefix), path) => format!("{prefix}.{path}"),
        };
        Cause { reason: self.reason, message: self.message, field }
    }
}

/// The findings of one value, and how well it matched: the best failure of an `anyOf` is the one shown.
#[derive(Default)]
struct Found {
    issues: Vec<Issue>,
    matches: u32,
}

impl Found {
    fn valid(&self) -> bool {
        self.issues.is_empty()
    }

    fn add(&mut self, issue: Issue) {
        if !self.issues.iter().any(|known| known.words == issue.words) {
            self.issues.push(issue);
        }
    }

    fn merge(&mut self, other: Found) {
        self.matches += other.matches;
        for issue in other.issues {
            self.add(issue);
        }
    }

    fn invalid(&mut self, path: &str, value: &Value, words: String) {
        let message = format!("Invalid value: {}: {words}", shown(value));
        self.add(Issue { reason: "FieldValueInvalid", path: Some(path.to_owned()), message, words });
    }

    /// A finding that has no field of its own in the API server's answer.
    fn rootless(&mut self, words: String) {
        let message = format!("Invalid value: \"\": {words}");
        self.add(Issue { reason: "FieldValueInvalid", path: None, message, words });
    }

    fn type_mismatch(&mut self, path: &str, expected: &str, actual: &str) {
        let words = format!("{path} in body must be of type {expected}: {}", quoted(actual));
        let message = format!("Invalid value: {}: {words}", quoted(actual));
        self.add(Issue { reason: "FieldValueTypeInvalid", path: Some(path.to_owned()), message, words });
    }

    fn too_many(&mut self, path: &str, actual: usize, most: u64, words: String) {
        let items = if most == 1 { "item" } else { "items" };
        let message = format!("Too many: {actual}: must have at most {most} {items}");
        self.add(Issue { reason: "FieldValueTooMany", path: Some(path.to_owned()), message, words });
    }
}

fn check(node: &Node, value: &Value, path: &str, old: Old<'_>) -> Found {
    let mut found = check_value(node, value, path, old);
    if !found.valid()
        && let Old::Value(old) = old
        && unchanged(node, value, old)
    {
        found.issues.clear();
    }
    found
}

fn check_value(node: &Node, value: &Value, path: &str, old: Old<'_>) -> Found {
    let mut found = check_type(node, value, path);
    if value.is_null() {
        check_options(node, value, path, &mut found);
        return found;
    }
    if !node.type_names().is_empty() || node.format.is_some() {
        found.matches += 1;
    }
    found.merge(check_branches(node, value, path, old));
    found.matches += 2;
    match value {
        Value::String(text) => {
            check_string(node, text, path, &mut found);
            if let Some(format) = &node.format
                && formats::known(format)
            {
                if !formats::matches(format, text) {
                    found.type_mismatch(path, format, text);
                }
                found.matches += 1;
            }
            found.matches += 1;
        }
        Value::Number(number) => {
            numbers::check(node, number, path, &mut found);
            found.matches += 2;
        }
        Value::Array(items) => {
            check_array(node, value, items, path, old, &mut found);
            found.matches += 2;
        }
        Value::Object(_) => {
            check_object(node, value, path, old, &mut found);
            found.matches += 1;
        }
        Value::Bool(_) | Value::Null => {}
    }
    check_options(node, value, path, &mut found);
    found.matches += 2;
    found
}

fn check_type(node: &Node, value: &Value, path: &str) -> Found {
    let mut found = Found::default();
    let types = node.type_names();
    if types.is_empty() && node.format.is_none() {
        return found;
    }
    let (name, format) = match value {
        Value::Null if types.is_empty() || node.nullable => {
            found.matches += 1;
            return found;
        }
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
        Value::Number(number) if number.is_i64() => ("integer", "int64"),
        Value::Number(_) => ("number", "float64"),
    };
    let whole = matches!(value, Value::Number(number) if number.as_f64().is_some_and(|n| n.fract() == 0.0));
    let fits = types.contains(&name)
        || (name == "number" && whole && types.contains(&"integer"))
        || (name == "integer" && types.contains(&"number"));
    let numeric = types.contains(&"number") || types.contains(&"integer");
    match &node.format {
        Some(expected)
            if !matches!(value, Value::String(_) | Value::Array(_) | Value::Null)
                && !fits
                && expected != format =>
        {
            found.type_mismatch(path, expected, format);
            return found;
        }
        // Text in a formatted field is the format's business.
        Some(_) if !numeric && matches!(value, Value::String(_) | Value::Array(_)) => {
            found.matches += 1;
            return found;
        }
        _ => {}
    }
    if fits {
        found.matches += 1;
    } else {
        found.type_mismatch(path, &types.join(","), name);
    }
    found
}

fn check_options(node: &Node, value: &Value, path: &str, found: &mut Found) {
    let options = &node.limits.options;
    if options.is_empty() || options.iter().any(|option| same(option, value)) {
        return;
    }
    let quoted: Vec<String> = options
        .iter()
        .map(|option| match option {
            Value::String(text) => quoted(text),
            other => quoted(&other.to_string()),
        })
        .collect();
    let words = format!("{path} in body should be one of {}", quoted.join(" "));
    let message = format!("Unsupported value: {}: supported values: {}", shown(value), quoted.join(", "));
    found.add(Issue { reason: "FieldValueNotSupported", path: Some(path.to_owned()), message, words });
}

fn check_string(node: &Node, text: &str, path: &str, found: &mut Found) {
    let limits = &node.limits;
    let length = text.chars().count() as u64;
    let value = || Value::from(text);
    if let Some(most) = limits.max_length
        && length > most
    {
        let bytes = if most == 1 { "byte" } else { "bytes" };
        let message = format!("Too long: may not be more than {most} {bytes}");
        let words = format!("{path} in body should be at most {most} chars long");
        found.add(Issue { reason: "FieldValueTooLong", path: Some(path.to_owned()), message, words });
    } else if let Some(least) = limits.min_length
        && length < least
    {
        found.invalid(path, &value(), format!("{path} in body should be at least {least} chars long"));
    } else if let Some(pattern) = &limits.pattern
        && !pattern.regex.is_match(text)
    {
        found.invalid(path, &value(), format!("{path} in body should match '{}'", pattern.source));
    }
}

fn check_array(node: &Node, value: &Value, items: &[Value], path: &str, old: Old<'_>, found: &mut Found) {
    if let Some(element) = &node.items {
        for (index, item) in items.iter().enumerate() {
            let old = old_item(node, value, index, old);
            found.merge(check(element, item, &format!("{path}[{index}]"), old));
        }
    }
    let size = items.len();
    if let Some(least) = node.limits.min_items
        && (size as u64) < least
    {
        found.invalid(path, &size.into(), format!("{path} in body should have at least {least} items"));
    }
    if let Some(most) = node.limits.max_items
        && size as u64 > most
    {
        found.too_many(path, size, most, format!("{path} in body should have at most {most} items"));
    }
}

fn check_object(node: &Node, value: &Value, path: &str, old: Old<'_>, found: &mut Found) {
    let Value::Object(fields) = value else { return };
    let size = fields.len();
    if let Some(least) = node.limits.min_properties
        && (size as u64) < least
    {
        found.invalid(path, &size.into(), format!("{path} in body should have at least {least} properties"));
    }
    if let Some(most) = node.limits.max_properties
        && size as u64 > most
    {
        found.too_many(path, size, most, format!("{path} in body should have at most {most} properties"));
    }
    for (key, field) in fields {
        let old = old_field(node, value, key, path.is_empty(), old);
        if let Some(property) = node.properties.get(key) {
            let below = if path.is_empty() { Cow::from(key) } else { Cow::from(format!("{path}.{key}")) };
            found.merge(check(property, field, &below, old));
        } else {
            match &node.additional {
                Additional::Schema(inner) => found.merge(check(inner, field, &format!("{path}.{key}"), old)),
                Additional::Nothing => {
                    found.invalid(
                        path,
                        &Value::from(key.as_str()),
                        format!("{path}.{key} in body is a forbidden property"),
                    );
                }
                Additional::Absent | Additional::Any => {}
            }
        }
    }
    for name in &node.limits.required {
        if !fields.contains_key(name) {
            let words = format!("{path}.{name} in body is required");
            let message = "Required value".to_owned();
            let path = Some(format!("{path}.{name}"));
            found.add(Issue { reason: "FieldValueRequired", path, message, words });
        }
    }
}

/// `anyOf`, `oneOf`, `allOf` and `not`.
fn check_branches(node: &Node, value: &Value, path: &str, old: Old<'_>) -> Found {
    let mut found = Found::default();
    let limits = &node.limits;
    if !limits.any_of.is_empty() {
        let (best, valid) = best_of(&limits.any_of, value, path, old, true);
        if valid == 0 {
            found.rootless(format!("{path:?} must validate at least one schema (anyOf)"));
        }
        found.merge(best);
    }
    if !limits.one_of.is_empty() {
        let (best, valid) = best_of(&limits.one_of, value, path, old, false);
        match valid {
            0 => found.rootless(format!(
                "{path:?} must validate one and only one schema (oneOf). Found none valid"
            )),
            1 => {}
            many => found.rootless(format!(
                "{path:?} must validate one and only one schema (oneOf). Found {many} valid alternatives"
            )),
        }
        if valid <= 1 {
            found.merge(best);
        }
    }
    let results: Vec<Found> = limits.all_of.iter().map(|branch| check(branch, value, path, old)).collect();
    let valid = results.iter().filter(|result| result.valid()).count();
    let total = results.len();
    for result in results {
        found.merge(result);
    }
    if valid != total {
        let none = if valid == 0 { ". None validated" } else { "" };
        found.rootless(format!("{path:?} must validate all the schemas (allOf){none}"));
    }
    if let Some(branch) = &limits.not
        && check(branch, value, path, old).valid()
    {
        found.rootless(format!("{path:?} must not validate the schema (not)"));
    }
    found
}

/// The first success, or the failure that matched best, and how many branches were valid.
fn best_of(branches: &[Node], value: &Value, path: &str, old: Old<'_>, stop_early: bool) -> (Found, usize) {
    let mut valid = 0;
    let mut best: Option<Found> = None;
    for branch in branches {
        let result = check(branch, value, path, old);
        if result.valid() {
            valid += 1;
            if valid == 1 {
                best = Some(result);
            }
            if stop_early {
                break;
            }
        } else if valid == 0 && best.as_ref().is_none_or(|best| result.matches > best.matches) {
            best = Some(result);
        }
    }
    (best.unwrap_or_default(), valid)
}

/// Equality of JSON values in which `1` and `1.0` are the same.
pub(crate) fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => match (left.as_i64(), right.as_i64()) {
            (Some(left), Some(right)) => left == right,
            _ => left.as_f64() == right.as_f64(),
        },
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, value)| right.get(key).is_some_and(|other| same(value, other)))
        }
        _ => left == right,
    }
}

/// The counterpart of a field before the update, if both exist and the schema knows the field.
pub(crate) fn counterpart<'a>(node: &'a Node, key: &str, old: &'a Value) -> Option<(&'a Node, &'a Value)> {
    Some((node.child(key)?, old.get(key)?))
}

/// The counterpart of the item `index` of a keyed list before the update.
pub(crate) fn counterpart_item<'a>(
    node: &'a Node,
    new: &Value,
    index: usize,
    old: &'a Value,
) -> Option<(&'a Node, &'a Value)> {
    let ListType::Map(keys) = &node.list_type else { return None };
    let item = new.get(index)?.as_object()?;
    let found = old.as_array()?.iter().find(|other| {
        other.is_object()
            && keys.iter().all(|key| match (item.get(key), other.get(key)) {
                (Some(left), Some(right)) => same(left, right),
                (left, right) => left.is_none() && right.is_none(),
            })
    })?;
    Some((node.items.as_deref()?, found))
}

/// Whether an update left a value as it was; the order of keyed lists does not count.
pub(crate) fn unchanged(node: &Node, new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Array(items), Value::Array(before)) => {
            if items.len() != before.len() {
                return false;
            }
            if !matches!(node.list_type, ListType::Map(_)) {
                return items == before;
            }
            (0..items.len()).all(|index| {
                counterpart_item(node, new, index, old)
                    .is_some_and(|(element, before)| unchanged(element, &items[index], before))
            })
        }
        (Value::Object(fields), Value::Object(before)) => {
            fields.len() == before.len()
                && fields.iter().all(|(key, field)| {
                    counterpart(node, key, old).is_some_and(|(child, before)| unchanged(child, field, before))
                })
        }
        _ => new == old,
    }
}

fn old_field<'a>(node: &'a Node, new: &Value, key: &str, at_root: bool, old: Old<'a>) -> Old<'a> {
    let Old::Value(before) = old else { return Old::Nothing };
    if (at_root && matches!(key, "kind" | "apiVersion")) || !new.is_object() {
        return Old::Nothing;
    }
    counterpart(node, key, before).map_or(Old::Nothing, |(_, before)| Old::Value(before))
}

fn old_item<'a>(node: &'a Node, new: &Value, index: usize, old: Old<'a>) -> Old<'a> {
    let Old::Value(before) = old else { return Old::Nothing };
    counterpart_item(node, new, index, before).map_or(Old::Nothing, |(_, before)| Old::Value(before))
}

/// Whether a node describes an object; used where the messages leave out the value.
pub(crate) fn is_compound(node: &Node) -> bool {
    matches!(node.kind, Some(Kind::Object | Kind::Array))
}

#[cfg(test)]
mod tests;
