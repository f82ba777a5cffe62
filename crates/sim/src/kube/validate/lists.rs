//! Duplicates in lists of type set and map.
//!
//! Deliberately compares values as they are stored: keys that are missing on both sides count as equal.

use serde_json::{Map, Value};

use super::shown;
use crate::kube::schema::Cause;
use crate::kube::schema::node::{ListType, Node};

/// Every duplicate in the sets and keyed lists of an object.
pub(crate) fn lists(root: &Node, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    walk(root, object, "", &mut causes);
    causes
}

fn walk(node: &Node, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                if let Some(property) = node.properties.get(key) {
                    let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    walk(property, field, &below, causes);
                } else if let Some(inner) = node.additional_schema() {
                    walk(inner, field, &format!("{path}[{key}]"), causes);
                }
            }
        }
        Value::Array(items) => {
            match &node.list_type {
                ListType::Atomic => {}
                ListType::Set => duplicates(items, path, causes),
                ListType::Map(keys) => duplicate_keys(items, keys, path, causes),
            }
            if let Some(element) = &node.items {
                for (index, item) in items.iter().enumerate() {
                    walk(element, item, &format!("{path}[{index}]"), causes);
                }
            }
        }
        _ => {}
    }
}

/// Reports the second occurrence of each value; later ones are not reported again.
fn duplicates(items: &[Value], path: &str, causes: &mut Vec<Cause>) {
    for (index, item) in items.iter().enumerate() {
        if items[..index].iter().filter(|earlier| *earlier == item).count() == 1 {
            let message = format!("Duplicate value: {}", shown(item));
            causes.push(Cause { reason: "FieldValueDuplicate", message, field: format!("{path}[{index}]") });
        }
    }
}

fn duplicate_keys(items: &[Value], keys: &[String], path: &str, causes: &mut Vec<Cause>) {
    if let Some(index) = items.iter().position(|item| !item.is_object() && !item.is_null()) {
        let shown = shown(&items[index]);
        let message = format!("Invalid value: {shown}: must be an object for an array of list-type map");
        causes.push(Cause { reason: "FieldValueInvalid", message, field: format!("{path}[{index}]") });
        return;
    }
    let named: Vec<Value> = items
        .iter()
        .map(|item| {
            let present = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
            Value::Object(present.collect::<Map<String, Value>>())
        })
        .collect();
    duplicates(&named, path, causes);
}
