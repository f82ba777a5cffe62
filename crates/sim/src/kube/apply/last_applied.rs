//! The move from client-side to server-side apply: kubectl may take over what its own annotation says it
//! applied.
//!
//! Deliberately for the manager `kubectl` alone, as in the API server: no other client keeps the annotation.

use serde_json::Value;

use super::{merge, typed};
use crate::kube::fields::FieldSet;
use crate::kube::schema::Schema;

/// The field manager of kubectl's server-side apply.
pub(super) const MANAGER: &str = "kubectl";

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The fields that the last client-side apply set and that nobody changed since.
pub(super) fn allowed(schema: &Schema, live: &Value, api_version: &str) -> FieldSet {
    let text = annotation(live).and_then(|text| serde_json::from_str::<Value>(text).ok());
    let Some(last) = text.filter(|last| last.get("apiVersion").and_then(Value::as_str) == Some(api_version))
    else {
        return FieldSet::default();
    };
    if !typed::mistakes(&schema.root, &last, false).is_empty() {
        return FieldSet::default();
    }
    let comparison = merge::compare(&schema.root, &last, live);
    typed::field_set(&schema.root, &last)
        .difference(&comparison.modified)
        .difference(&comparison.added)
        .difference(&comparison.removed)
}

/// Keeps the annotation true where it exists, so that client-side apply works again afterwards.
pub(super) fn record(merged: &mut Value, applied: &Value) {
    if annotation(merged).is_none_or(str::is_empty) {
        return;
    }
    let mut last = applied.clone();
    if let Some(annotations) = last.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(ANNOTATION);
    }
    if let Some(annotations) = merged.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.insert(ANNOTATION.to_owned(), Value::from(format!("{last}\n")));
    }
}

fn annotation(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("annotations")?.get(ANNOTATION)?.as_str()
}
