//! Strategic merge patch for built-in kinds: lists merge by their key instead of being replaced.
//!
//! Deliberately takes the merge keys from the schema that server-side apply uses; they are the same for the
//! fields that clients patch. Facts: k8s.io/apimachinery, strategicpatch.

use serde_json::{Map, Value};

use crate::kube::schema::Schema;
use crate::kube::schema::node::{ListType, Node};
use crate::kube::validate::same;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
const ELEMENT_ORDER: &str = "$setElementOrder/";

/// Applies a strategic merge patch.
///
/// # Errors
/// A patch or an item that is not an object where one is needed, an item without its merge key, an unknown
/// directive.
pub fn strategic_merge(schema: &Schema, target: &mut Value, patch: &Value) -> Result<(), String> {
    let Value::Object(patch) = patch else {
        return Err("cannot unmarshal a patch that is not an object".to_owned());
    };
    let Value::Object(fields) = target else {
        return Err("cannot patch a value that is not an object".to_owned());
    };
    merge_map(&schema.root, fields, patch)
}

fn merge_map(node: &Node, target: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), String> {
    match patch.get(DIRECTIVE).and_then(Value::as_str) {
        None => {}
        Some("replace") => {
            *target = without_directives(patch);
            return Ok(());
        }
        Some("delete") => {
            target.clear();
            return Ok(());
        }
        Some("merge") => {}
        Some(other) => return Err(format!("Unknown patch type found: {other}")),
    }
    if let Some(keys) = patch.get(RETAIN_KEYS).and_then(Value::as_array) {
        target.retain(|key, _| keys.iter().any(|kept| kept == key));
    }
    let lengths: Map<String, Value> = target
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), Value::from(value.as_array()?.len()))))
        .collect();
    for (key, change) in patch {
        if let Some(list) = key.strip_prefix(DELETE_FROM_LIST) {
            if let (Some(Value::Array(items)), Value::Array(gone)) = (target.get_mut(list), change) {
                items.retain(|item| !gone.iter().any(|value| same(value, item)));
            }
        } else if !key.starts_with('$') {
            let child = node.entry(key);
            merge_field(child, target, key, change)?;
        }
    }
    for (key, order) in patch {
        if let Some(list) = key.strip_prefix(ELEMENT_ORDER)
            && let (Some(Value::Array(items)), Value::Array(order)) = (target.get_mut(list), order)
        {
            let known = lengths.get(list).and_then(Value::as_u64).unwrap_or(0);
            reorder(items, order, merge_key(node.entry(list)), known as usize);
        }
    }
    Ok(())
}

fn merge_field(
    node: Option<&Node>,
    target: &mut Map<String, Value>,
    key: &str,
    change: &Value,
) -> Result<(), String> {
    match (target.get_mut(key), change, node) {
        (_, Value::Null, _) => {
            target.remove(key);
        }
        (Some(Value::Object(fields)), Value::Object(patch), Some(node)) => merge_map(node, fields, patch)?,
        (Some(Value::Array(items)), Value::Array(patch), Some(node)) => merge_list(node, items, patch)?,
        (None, Value::Array(patch), Some(node)) => {
            let mut items = Vec::new();
            merge_list(node, &mut items, patch)?;
            target.insert(key.to_owned(), Value::Array(items));
        }
        (None, Value::Object(patch), _) => {
            if patch.get(DIRECTIVE).and_then(Value::as_str) != Some("delete") {
                target.insert(key.to_owned(), Value::Object(without_directives(patch)));
            }
        }
        (_, other, _) => {
            target.insert(key.to_owned(), other.clone());
        }
    }
    Ok(())
}

fn merge_list(node: &Node, items: &mut Vec<Value>, patch: &[Value]) -> Result<(), String> {
    match &node.list_type {
        ListType::Atomic => *items = patch.to_vec(),
        ListType::Set => {
            for value in patch {
                if !items.iter().any(|item| same(item, value)) {
                    items.push(value.clone());
                }
            }
        }
        ListType::Map(_) => {
            let key = merge_key(Some(node)).unwrap_or_default();
            let replaces = |value: &&Value| value.get(DIRECTIVE).and_then(Value::as_str) == Some("replace");
            if patch.iter().any(|value| replaces(&value)) {
                items.clear();
            }
            for value in patch {
                merge_item(node, items, value, key)?;
            }
        }
    }
    Ok(())
}

fn merge_item(node: &Node, items: &mut Vec<Value>, value: &Value, key: &str) -> Result<(), String> {
    let Value::Object(patch) = value else {
        return Err(format!("expected an object in a list with merge key {key}, got {value}"));
    };
    let directive = patch.get(DIRECTIVE).and_then(Value::as_str);
    let Some(wanted) = patch.get(key) else {
        if directive == Some("replace") {
            return Ok(());
        }
        return Err(format!("map: {value} does not contain declared merge key: {key}"));
    };
    let found = items.iter().position(|item| item.get(key).is_some_and(|other| same(other, wanted)));
    match (found, directive) {
        (Some(index), Some("delete")) => {
            items.remove(index);
        }
        (None, Some("delete")) => {}
        (Some(index), _) => {
            if let Some(Value::Object(fields)) = items.get_mut(index) {
                merge_map(node.element(), fields, patch)?;
            }
        }
        (None, _) => items.push(Value::Object(without_directives(patch))),
    }
    Ok(())
}

fn merge_key(node: Option<&Node>) -> Option<&str> {
    match &node?.list_type {
        ListType::Map(keys) => keys.first().map(String::as_str),
        ListType::Atomic | ListType::Set => None,
    }
}

/// A value of a patch as it is stored: without directives and nulls.
fn without_directives(patch: &Map<String, Value>) -> Map<String, Value> {
    let clean = |value: &Value| match value {
        Value::Object(inner) => Value::Object(without_directives(inner)),
        Value::Array(items) => Value::Array(
            items
                .iter()
                .filter(|item| item.get(DIRECTIVE).and_then(Value::as_str) != Some("delete"))
                .map(|item| {
                    item.as_object().map_or_else(|| item.clone(), |map| without_directives(map).into())
                })
                .collect(),
        ),
        other => other.clone(),
    };
    patch
        .iter()
        .filter(|(key, value)| !key.starts_with('$') && !value.is_null())
        .map(|(key, value)| (key.clone(), clean(value)))
        .collect()
}

/// Puts the items named by `order` in that order; the others keep their place among the first `known` items,
/// which were there before the patch.
fn reorder(items: &mut Vec<Value>, order: &[Value], key: Option<&str>, known: usize) {
    let rank = |item: &Value| {
        order.iter().position(|wanted| match key {
            Some(key) => match (wanted.get(key), item.get(key)) {
                (Some(left), Some(right)) => same(left, right),
                _ => false,
            },
            None => same(wanted, item),
        })
    };
    let original: Vec<(usize, Value)> = std::mem::take(items).into_iter().enumerate().collect();
    let (mut named, others): (Vec<_>, Vec<_>) =
        original.into_iter().partition(|(_, item)| rank(item).is_some());
    named.sort_by_key(|(_, item)| rank(item));
    let mut others = others.into_iter().peekable();
    for (place, item) in named {
        while let Some((_, other)) = others.next_if(|(before, _)| place < known && *before < place) {
            items.push(other);
        }
        items.push(item);
    }
    items.extend(others.map(|(_, other)| other));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(target: Value, patch: &Value) -> Value {
        let schema = Schema::builtin("apps", "v1", "Deployment").unwrap();
        let mut target = target;
        strategic_merge(&schema, &mut target, patch).unwrap();
        target
    }

    fn deployment(containers: Value) -> Value {
        json!({"spec": {"template": {"spec": {"containers": containers}}}})
    }

    #[test]
    fn lists_merge_by_key_and_items_can_be_deleted() {
        let target = deployment(json!([
            {"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}]},
            {"name": "b", "image": "b:1"}
        ]));
        let patch = deployment(json!([
            {"name": "a", "env": [{"name": "Y", "value": "2"}, {"name": "X", "$patch": "delete"}],
                "args": ["z"]},
            {"name": "b", "$patch": "delete"},
            {"name": "c", "image": "c:1", "tty": null}
        ]));
        let expected = deployment(json!([
            {"name": "a", "image": "a:1", "env": [{"name": "Y", "value": "2"}], "args": ["z"]},
            {"name": "c", "image": "c:1"}
        ]));
        assert_eq!(patched(target, &patch), expected);
    }

    #[test]
    fn order_and_primitive_lists_follow_their_directives() {
        let target = json!({"metadata": {"finalizers": ["a", "b"]},
            "spec": {"template": {"spec": {"containers":
            [{"name": "one"}, {"name": "server"}, {"name": "two"}]}}}});
        let patch = json!({
            "metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]},
            "spec": {"template": {"spec": {
                "$setElementOrder/containers": [{"name": "two"}, {"name": "one"}],
                "containers": [{"name": "one", "image": "i"}]
            }}}
        });
        let result = patched(target, &patch);
        assert_eq!(result["metadata"]["finalizers"], json!(["b", "c"]));
        let names: Vec<&str> = result["spec"]["template"]["spec"]["containers"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|item| item["name"].as_str())
            .collect();
        assert_eq!(names, ["server", "two", "one"]);
    }

    #[test]
    fn replace_and_missing_keys() {
        let target =
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
        let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
        assert_eq!(patched(target, &patch), json!({"spec": {"strategy": {"type": "Recreate"}}}));
        let schema = Schema::builtin("apps", "v1", "Deployment").unwrap();
        let error =
            strategic_merge(&schema, &mut deployment(json!([])), &deployment(json!([{"image": "i"}])));
        assert!(error.unwrap_err().contains("does not contain declared merge key: name"));
    }
}
