//! JSON values as CEL sees them through a schema: formats become times and durations, names are escaped.
//!
//! Deliberately shows only declared fields of objects, as the API server does.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use kube_cel::cel::Value as Cel;
use kube_cel::cel::functions::time;
use kube_cel::cel::objects::{Key, Map, OptionalValue};
use serde_json::Value;

use crate::kube::schema::node::{Kind, ListType, META_FIELDS, Node, STRING, UNDECLARED};
use crate::kube::validate::{same, unchanged};

/// The words that are escaped when they name a field (Kubernetes CEL, reserved words).
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Converts a value; `peer` is the value after the update when an old one is converted.
///
/// A set or keyed list that only changed its order takes the order of the new one, because such lists are
/// equal in any order while the library compares them item by item.
pub(super) fn convert(node: &Node, value: &Value, peer: Option<&Value>) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(flag) => Cel::Bool(*flag),
        Value::Number(number) => convert_number(node, number),
        Value::String(text) => convert_string(node, text),
        Value::Array(items) => {
            let ordered = peer.filter(|peer| reordered(node, value, peer));
            let items = ordered.and_then(Value::as_array).unwrap_or(items);
            let element = node.element();
            Cel::List(Arc::new(items.iter().map(|item| convert(element, item, None)).collect()))
        }
        Value::Object(fields) => {
            let mut map = HashMap::with_capacity(fields.len());
            for (name, field) in fields {
                let Some((key, child)) = entry(node, name) else { continue };
                let peer = peer.and_then(|peer| peer.get(name));
                let converted = if node.embedded && name == "metadata" {
                    metadata(field)
                } else {
                    convert(child, field, peer)
                };
                map.insert(Key::String(Arc::new(key)), converted);
            }
            Cel::Map(Map { map: Arc::new(map) })
        }
    }
}

/// An optional value, as `oldSelf` is where `optionalOldSelf` is set.
pub(super) fn optional(value: Option<Cel>) -> Cel {
    Cel::Opaque(Arc::new(value.map_or_else(OptionalValue::none, OptionalValue::of)))
}

/// A field name as rules spell it.
pub(super) fn escape(name: &str) -> String {
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    name.replace("__", "__underscores__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__")
}

fn entry<'a>(node: &'a Node, name: &str) -> Option<(String, &'a Node)> {
    if node.embedded && META_FIELDS.contains(&name) {
        return Some((name.to_owned(), &STRING));
    }
    if let Some(property) = node.properties.get(name) {
        return Some((escape(name), property));
    }
    match node.additional_schema() {
        Some(inner) => Some((name.to_owned(), inner)),
        None if node.kind == Some(Kind::Object) && !node.properties.is_empty() => None,
        None => Some((escape(name), &UNDECLARED)),
    }
}

/// Rules see the name of an object and nothing else of its metadata.
fn metadata(value: &Value) -> Cel {
    let mut map = HashMap::new();
    for name in ["name", "generateName"] {
        if let Some(text) = value.get(name).and_then(Value::as_str) {
            map.insert(Key::String(Arc::new(name.to_owned())), Cel::String(Arc::new(text.to_owned())));
        }
    }
    Cel::Map(Map { map: Arc::new(map) })
}

fn convert_number(node: &Node, number: &serde_json::Number) -> Cel {
    let float = number.as_f64().unwrap_or(f64::NAN);
    match (node.kind, number.as_i64()) {
        (Some(Kind::Number), _) => Cel::Float(float),
        (_, Some(whole)) => Cel::Int(whole),
        (Some(Kind::Integer), None) if float.fract() == 0.0 => Cel::Int(float as i64),
        (_, None) => Cel::Float(float),
    }
}

fn convert_string(node: &Node, text: &str) -> Cel {
    let plain = || Cel::String(Arc::new(text.to_owned()));
    if node.int_or_string {
        return plain();
    }
    match node.format.as_deref() {
        Some("date-time") => time::timestamp(Arc::new(text.to_owned())).unwrap_or_else(|_| plain()),
        Some("date") => time::timestamp(Arc::new(format!("{text}T00:00:00Z"))).unwrap_or_else(|_| plain()),
        Some("duration") => time::duration(Arc::new(text.to_owned())).unwrap_or_else(|_| plain()),
        Some("byte") => match base64::engine::general_purpose::STANDARD.decode(text) {
            Ok(bytes) => Cel::Bytes(Arc::new(bytes)),
            Err(_) => plain(),
        },
        _ => plain(),
    }
}

fn reordered(node: &Node, old: &Value, new: &Value) -> bool {
    let (Some(before), Some(after)) = (old.as_array(), new.as_array()) else { return false };
    match node.list_type {
        ListType::Atomic => false,
        ListType::Map(_) => unchanged(node, new, old),
        ListType::Set => {
            before.len() == after.len()
                && before.iter().all(|item| after.iter().any(|other| same(item, other)))
        }
    }
}
