//! Pruning of unknown fields, pruning of nulls, and defaulting.
//!
//! Deliberately checks nothing: a value of the wrong type passes through untouched and is refused by
//! validation.

use serde_json::{Map, Value};

use super::node::{Additional, META_FIELDS, Node, OBJECT_META};

/// Drops what the schema does not know and returns the paths, sorted.
pub(super) fn prune(root: &Node, object: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    prune_value(Some(root), object, "", &mut unknown);
    unknown.sort();
    unknown
}

/// Drops unknown fields of `metadata` only, for kinds that are not described completely.
pub(super) fn prune_metadata(object: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    if let Some(metadata) = object.get_mut("metadata") {
        prune_value(Some(&OBJECT_META), metadata, "metadata", &mut unknown);
    }
    unknown.sort();
    unknown
}

fn prune_value(node: Option<&Node>, value: &mut Value, path: &str, unknown: &mut Vec<String>) {
    match value {
        Value::Object(fields) => prune_map(node, fields, path, unknown),
        Value::Array(items) => {
            let skip = node.is_some_and(|node| node.preserve_unknown && node.items.is_none());
            let element = node.and_then(|node| node.items.as_deref());
            for (index, item) in items.iter_mut().enumerate() {
                if !skip {
                    prune_value(element, item, &format!("{path}[{index}]"), unknown);
                }
            }
        }
        _ => {}
    }
}

fn prune_map(node: Option<&Node>, fields: &mut Map<String, Value>, path: &str, unknown: &mut Vec<String>) {
    let keys: Vec<String> = fields.keys().cloned().collect();
    for key in keys {
        let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let Some(value) = fields.get_mut(&key) else { continue };
        if node.is_some_and(|node| node.embedded) && META_FIELDS.contains(&key.as_str()) {
            if key == "metadata" {
                prune_value(Some(&OBJECT_META), value, &below, unknown);
            }
            continue;
        }
        match node {
            Some(node) if node.child(&key).is_some() => prune_value(node.child(&key), value, &below, unknown),
            Some(node) if node.preserve_unknown => {}
            Some(Node { additional: Additional::Any, .. }) => prune_value(None, value, &below, unknown),
            _ => {
                unknown.push(below);
                fields.remove(&key);
            }
        }
    }
}

/// Drops nulls of fields that are not nullable and have no default; `closed` extends it to undeclared fields.
pub(super) fn drop_nulls(node: Option<&Node>, value: &mut Value, closed: bool) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, field| {
                let meta = node.is_some_and(|node| node.embedded) && META_FIELDS.contains(&key.as_str());
                let child = node.and_then(|node| if meta { node.declared(key) } else { node.child(key) });
                match (child, &*field) {
                    (Some(child), Value::Null) => child.nullable || child.default.is_some(),
                    (None, Value::Null) => closed,
                    _ => {
                        drop_nulls(child, field, closed);
                        true
                    }
                }
            });
        }
        Value::Array(items) => {
            let element = node.and_then(|node| node.items.as_deref());
            for item in items {
                drop_nulls(element, item, closed);
            }
        }
        _ => {}
    }
}

/// Fills in the defaults of missing fields and of nulls that are not allowed.
pub(super) fn default(node: &Node, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, property) in &node.properties {
                let Some(filler) = &property.default else { continue };
                if fields.get(name).is_none_or(|field| field.is_null() && !property.nullable) {
                    fields.insert(name.clone(), filler.clone());
                }
            }
            for (key, field) in fields.iter_mut() {
                if let Some(child) = node.child(key) {
                    default_entry(child, field, !node.properties.contains_key(key));
                }
            }
        }
        Value::Array(items) => {
            if let Some(element) = &node.items {
                for item in items {
                    default_entry(element, item, true);
                }
            }
        }
        _ => {}
    }
}

fn default_entry(node: &Node, value: &mut Value, replace_null: bool) {
    if replace_null
        && value.is_null()
        && !node.nullable
        && let Some(filler) = &node.default
    {
        *value = filler.clone();
    }
    default(node, value);
}
