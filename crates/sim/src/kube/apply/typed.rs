//! Values seen through a schema as server-side apply sees them: scalar, list or map, and the checks that go
//! with it.
//!
//! Deliberately separate from validation: the checks here are fewer and answer with other words. Facts:
//! sigs.k8s.io/structured-merge-diff, typed.

use serde_json::{Map, Value};

use crate::kube::fields::{FieldSet, Literal, Step};
use crate::kube::schema::node::{Kind, ListType, Node};
use crate::kube::validate::go_float;

/// How a value is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Scalar,
    List,
    Map,
    /// A node that may be anything, before a value told which: treated as a map.
    Undecided,
}

/// The shape that a node gives a value; a value of the wrong type has the shape of the node.
pub(super) fn shape(node: &Node, value: Option<&Value>) -> Shape {
    match (node.kind, value) {
        (Some(Kind::Object), _) => Shape::Map,
        (Some(Kind::Array), _) => Shape::List,
        (Some(_), _) => Shape::Scalar,
        (None, Some(Value::Object(_))) => Shape::Map,
        (None, Some(Value::Array(_))) => Shape::List,
        (None, Some(Value::Null) | None) => Shape::Undecided,
        (None, Some(_)) => Shape::Scalar,
    }
}

/// Whether a list is owned as a whole.
pub(super) fn atomic_list(node: &Node) -> bool {
    matches!(node.list_type, ListType::Atomic)
}

/// The step to an item of a keyed list or a set.
///
/// # Errors
/// An item that has none of the keys, or that cannot be one of a set.
pub(super) fn item_step(node: &Node, item: &Value) -> Result<Step, String> {
    let ListType::Map(keys) = &node.list_type else {
        return match item {
            Value::Object(_) => {
                Err("associative list without keys has an element that's a map type".to_owned())
            }
            Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
            Value::Null => {
                Err("associative list without keys has an element that's an explicit null".to_owned())
            }
            scalar => Ok(Step::Item(Literal(scalar.clone()))),
        };
    };
    let fields = match item {
        Value::Object(fields) => fields,
        Value::Null => {
            return Err("associative list with keys may not have a null element".to_owned());
        }
        _ => return Err("associative list with keys may not have non-map elements".to_owned()),
    };
    let element = node.element();
    let named: std::collections::BTreeMap<String, Literal> = keys
        .iter()
        .filter_map(|key| {
            let default = || element.properties.get(key).and_then(|property| property.default.as_ref());
            let value = fields.get(key).or_else(default)?;
            Some((key.clone(), Literal(value.clone())))
        })
        .collect();
    if named.is_empty() {
        let listed: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have \
                default \
             values for any key fields)",
            listed.join(" ")
        ));
    }
    Ok(Step::Key(named))
}

/// Every mistake of a value that server-side apply cannot merge, with its path in front.
pub(super) fn mistakes(node: &Node, value: &Value, allow_duplicates: bool) -> Vec<String> {
    let mut found = Vec::new();
    check(node, value, "", allow_duplicates, &mut found);
    found
}

fn check(node: &Node, value: &Value, path: &str, lenient: bool, found: &mut Vec<String>) {
    let mut push = |why: String| {
        found.push(if path.is_empty() { why } else { format!("{path}: {why}") });
    };
    match (shape(node, Some(value)), value) {
        (_, Value::Null) => {}
        (Shape::Map, Value::Object(fields)) => check_map(node, fields, path, lenient, found),
        (Shape::List, Value::Array(items)) => check_list(node, items, path, lenient, found),
        (Shape::Map, other) => push(format!("expected map, got &{{{}}}", go_plain(other))),
        (Shape::List, other) => push(format!("expected list, got &{{{}}}", go_plain(other))),
        (Shape::Undecided, _) => {}
        (Shape::Scalar, value) => {
            if let Some(why) = wrong_scalar(node, value) {
                push(why);
            }
        }
    }
}

fn check_map(node: &Node, fields: &Map<String, Value>, path: &str, lenient: bool, found: &mut Vec<String>) {
    for (key, field) in fields {
        let below = format!("{path}.{key}");
        match node.entry(key) {
            Some(child) => check(child, field, &below, lenient, found),
            None => {
                found.push(format!("{below}: field not declared in schema"));
                return;
            }
        }
    }
}

fn check_list(node: &Node, items: &[Value], path: &str, lenient: bool, found: &mut Vec<String>) {
    let place = |why: String| if path.is_empty() { why } else { format!("{path}: {why}") };
    let mut seen: Vec<Step> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let step = if atomic_list(node) {
            Step::Index(index as i64)
        } else {
            match item_step(node, item) {
                Ok(step) => step,
                Err(why) => {
                    found.push(place(format!("element {index}: {why}")));
                    return;
                }
            }
        };
        if seen.contains(&step) && !lenient {
            found.push(place(format!("duplicate entries for key {step}")));
        }
        check(node.element(), item, &format!("{path}{step}"), lenient, found);
        seen.push(step);
    }
}

fn wrong_scalar(node: &Node, value: &Value) -> Option<String> {
    let plain = node.format.is_none() || node.format.as_deref() == Some("byte");
    match (node.kind, value) {
        (Some(Kind::Integer | Kind::Number), Value::Number(_))
        | (Some(Kind::Boolean), Value::Bool(_))
        | (Some(Kind::String), Value::String(_)) => None,
        (Some(Kind::Integer | Kind::Number), other) => {
            Some(format!("expected numeric (int or float), got {}", go_type(other)))
        }
        (Some(Kind::Boolean), other) => Some(format!("expected boolean, got &{{{}}}", go_plain(other))),
        (Some(Kind::String), other) if plain => {
            Some(format!("expected string, got &value.valueUnstructured{{Value:{}}}", go_syntax(other)))
        }
        (_, Value::Object(_) | Value::Array(_)) => {
            Some(format!("expected any scalar, got &{{{}}}", go_plain(value)))
        }
        _ => None,
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value as Go's `%v` prints it.
fn go_plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (None, Some(float)) => go_float(float),
            _ => number.to_string(),
        },
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_plain).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let shown: Vec<String> =
                fields.iter().map(|(key, field)| format!("{key}:{}", go_plain(field))).collect();
            format!("map[{}]", shown.join(" "))
        }
        Value::Bool(flag) => flag.to_string(),
    }
}

/// A value as Go's `%#v` prints it.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::Array(items) => {
            format!("[]interface {{}}{{{}}}", items.iter().map(go_syntax).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let shown: Vec<String> =
                fields.iter().map(|(key, field)| format!("{key:?}:{}", go_syntax(field))).collect();
            format!("map[string]interface {{}}{{{}}}", shown.join(", "))
        }
        other => other.to_string(),
    }
}

/// The fields that an applied configuration names.
pub(super) fn field_set(node: &Node, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    collect(node, value, &mut Vec::new(), &mut set);
    set
}

fn collect(node: &Node, value: &Value, path: &mut Vec<Step>, set: &mut FieldSet) {
    match (shape(node, Some(value)), value) {
        (Shape::Scalar, _) => set.insert(path),
        (Shape::List, _) if atomic_list(node) => set.insert(path),
        (Shape::List, Value::Array(items)) => collect_items(node, items, path, set),
        (Shape::Map | Shape::Undecided, _) if node.atomic_map => set.insert(path),
        (Shape::Map, Value::Object(fields)) => {
            for (key, field) in fields {
                let Some(child) = node.entry(key) else { continue };
                path.push(Step::Field(key.clone()));
                collect(child, field, path, set);
                let empty = field.is_null() || field.as_object().is_some_and(Map::is_empty);
                if empty || node.declared(key).is_none() {
                    set.insert(path);
                }
                path.pop();
            }
        }
        (Shape::List | Shape::Map | Shape::Undecided, _) => {}
    }
}

fn collect_items(node: &Node, items: &[Value], path: &mut Vec<Step>, set: &mut FieldSet) {
    let steps: Vec<Option<Step>> = items.iter().map(|item| item_step(node, item).ok()).collect();
    for (step, item) in steps.iter().zip(items) {
        let Some(step) = step else { continue };
        path.push(step.clone());
        // Of duplicates only the item itself is named, because its fields cannot be told apart.
        if steps.iter().filter(|other| other.as_ref() == Some(step)).count() == 1 {
            collect(node.element(), item, path, set);
        }
        set.insert(path);
        path.pop();
    }
}

/// Adds the declared fields above members, which are not written down but go away with the last field below
/// them.
pub(super) fn with_named_fields(node: &Node, set: &FieldSet) -> FieldSet {
    let mut members = set.members.clone();
    let mut children = std::collections::BTreeMap::new();
    for (step, child) in &set.children {
        let below = match step {
            Step::Field(name) => {
                if node.declared(name).is_some() {
                    members.insert(step.clone());
                }
                node.entry(name)
            }
            Step::Key(_) => Some(node.element()),
            Step::Item(_) | Step::Index(_) => None,
        };
        let child = below.map_or_else(|| child.clone(), |node| with_named_fields(node, child));
        children.insert(step.clone(), child);
    }
    FieldSet { members, children }
}

/// The value without the fields of a set. A list or map that loses everything becomes `None`.
pub(super) fn without(node: &Node, value: &Value, gone: &FieldSet) -> Option<Value> {
    match (shape(node, Some(value)), value) {
        (Shape::Scalar | Shape::Undecided, _) => Some(value.clone()),
        (Shape::List, Value::Array(items)) if !atomic_list(node) => {
            let kept: Vec<Value> = items
                .iter()
                .filter_map(|item| {
                    let Ok(step) = item_step(node, item) else { return Some(item.clone()) };
                    if gone.members.contains(&step) {
                        return None;
                    }
                    match gone.below(&step) {
                        Some(below) => Some(without(node.element(), item, below).unwrap_or(Value::Null)),
                        None => Some(item.clone()),
                    }
                })
                .collect();
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        (Shape::Map, Value::Object(fields)) if !node.atomic_map => {
            let mut kept = Map::new();
            for (key, field) in fields {
                let step = Step::Field(key.clone());
                if gone.members.contains(&step) {
                    continue;
                }
                let rest = match (gone.below(&step), node.entry(key)) {
                    (Some(below), Some(child)) => without(child, field, below).unwrap_or(Value::Null),
                    _ => field.clone(),
                };
                kept.insert(key.clone(), rest);
            }
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        (Shape::List | Shape::Map, _) => None,
    }
}
