//! The three patch formats besides apply: JSON patch, JSON merge patch, strategic merge patch.
//!
//! Deliberately applies to plain values: which format a kind accepts, and what follows a patch, is the
//! server's business.

mod strategic;

use json_patch::{PatchErrorKind, PatchOperation};
use serde_json::Value;
use thiserror::Error;

pub use strategic::strategic_merge;

/// The most operations that one JSON patch may have (apiserver, maxJSONPatchOperations).
pub const MOST_OPERATIONS: usize = 10_000;

/// Why a JSON patch was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PatchError {
    /// The body is not a JSON patch: a bad request.
    #[error("{0}")]
    Malformed(String),
    /// More operations than allowed: a request entity too large.
    #[error("The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {0}")]
    TooLarge(usize),
    /// An operation does not fit the object: an unprocessable entity, with the words of the API server's
    /// library.
    #[error("{0}")]
    Failed(String),
}

/// Applies a JSON patch (RFC 6902) as a whole: after an error the target is as it was.
///
/// # Errors
/// See [`PatchError`].
pub fn json_patch(target: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let Value::Array(raw) = patch else {
        let kind = match patch {
            Value::Object(_) => "object",
            Value::String(_) => "string",
            Value::Number(_) => "number",
            _ => "value",
        };
        let words = format!("json: cannot unmarshal {kind} into Go value of type jsonpatch.Patch");
        return Err(PatchError::Malformed(words));
    };
    if raw.len() > MOST_OPERATIONS {
        return Err(PatchError::TooLarge(raw.len()));
    }
    let mut patched = target.clone();
    for operation in raw {
        let parsed = parse(operation)?;
        json_patch::patch(&mut patched, std::slice::from_ref(&parsed))
            .map_err(|error| PatchError::Failed(words(&patched, &parsed, &error.kind)))?;
    }
    *target = patched;
    Ok(())
}

/// Applies a JSON merge patch (RFC 7386).
pub fn merge_patch(target: &mut Value, patch: &Value) {
    json_patch::merge(target, patch);
}

fn parse(operation: &Value) -> Result<PatchOperation, PatchError> {
    let name = operation.get("op").and_then(Value::as_str).unwrap_or("unknown");
    serde_json::from_value(operation.clone()).map_err(|error| {
        let failed = |words: String| PatchError::Failed(words);
        match name {
            "add" | "remove" | "replace" | "move" | "copy" | "test" => {
                if operation.get("path").is_none() {
                    failed(format!("{name} operation failed to decode path: missing value"))
                } else if operation.get("value").is_none() && matches!(name, "add" | "replace" | "test") {
                    failed("operation, missing value field: missing value".to_owned())
                } else {
                    failed(format!("{name} operation does not apply: {error}"))
                }
            }
            other => failed(format!("Unexpected kind: {other}")),
        }
    })
}

/// The words of the API server's JSON patch library for an operation that failed.
fn words(doc: &Value, operation: &PatchOperation, kind: &PatchErrorKind) -> String {
    let path = operation.path().to_string();
    let parent = |path: &str| {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        doc.pointer(parent).cloned()
    };
    let key = path.rsplit('/').next().unwrap_or_default();
    let at_index = |verb: &str| match key.parse::<i64>() {
        Ok(index) => {
            format!(
                "error in {verb} for path: '{path}': Unable to access invalid index: {index}: invalid index \
                    referenced"
            )
        }
        Err(_) => format!(
            "error in {verb} for path: '{path}': value was not a proper array index: '{key}': strconv.Atoi: \
                parsing \
             \"{key}\": invalid syntax"
        ),
    };
    let compound = |parent: Option<Value>| parent.filter(|parent| parent.is_object() || parent.is_array());
    match (operation, compound(parent(&path))) {
        (PatchOperation::Test(_), None) => {
            format!("test operation does not apply: is missing path: {path}: missing value")
        }
        (PatchOperation::Test(_), Some(Value::Array(_))) if !matches!(kind, PatchErrorKind::TestFailed) => {
            at_index("test")
        }
        (PatchOperation::Test(_), _) => format!("testing value {path} failed: test failed"),
        (PatchOperation::Remove(_), None) => {
            format!("remove operation does not apply: doc is missing path: \"{path}\": missing value")
        }
        (PatchOperation::Remove(_), Some(Value::Array(_))) => at_index("remove"),
        (PatchOperation::Remove(_), Some(_)) => {
            format!(
                "error in remove for path: '{path}': Unable to remove nonexistent key: {key}: missing value"
            )
        }
        (PatchOperation::Replace(_), None) => {
            format!("replace operation does not apply: doc is missing path: {path}: missing value")
        }
        (PatchOperation::Replace(_), Some(_)) => {
            format!("replace operation does not apply: doc is missing key: {path}: missing value")
        }
        (PatchOperation::Add(_), Some(Value::Array(_))) => at_index("add"),
        (PatchOperation::Add(_), _) => {
            format!("add operation does not apply: doc is missing path: \"{path}\": missing value")
        }
        (PatchOperation::Move(moved), _) => transfer_words("move", moved.from.as_str(), &path, kind),
        (PatchOperation::Copy(copied), _) => transfer_words("copy", copied.from.as_str(), &path, kind),
    }
}

fn transfer_words(verb: &str, from: &str, path: &str, kind: &PatchErrorKind) -> String {
    match kind {
        PatchErrorKind::InvalidFromPointer => {
            format!("{verb} operation does not apply: doc is missing from path: {from}: missing value")
        }
        _ => {
            format!("{verb} operation does not apply: doc is missing destination path: {path}: missing value")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_json_patch_applies_as_a_whole() {
        let mut target = json!({"a": {"b": [1, 2]}, "c": "x"});
        let patch = json!([
            {"op": "test", "path": "/a/b/0", "value": 1},
            {"op": "remove", "path": "/a/b/0"},
            {"op": "add", "path": "/a/b/-", "value": 3},
            {"op": "replace", "path": "/c", "value": "y"},
            {"op": "move", "from": "/c", "path": "/d"},
            {"op": "copy", "from": "/d", "path": "/e"}
        ]);
        json_patch(&mut target, &patch).unwrap();
        assert_eq!(target, json!({"a": {"b": [2, 3]}, "d": "y", "e": "y"}));
        let before = target.clone();
        let failing = json!([{"op": "remove", "path": "/d"}, {"op": "test", "path": "/e", "value": "z"}]);
        let error = json_patch(&mut target, &failing).unwrap_err();
        assert_eq!(error.to_string(), "testing value /e failed: test failed");
        assert_eq!(target, before);
    }

    #[test]
    fn failures_have_the_words_of_the_api_server() {
        let doc = json!({"a": {"l": [1]}});
        for (operation, words) in [
            (
                json!({"op": "remove", "path": "/a/x"}),
                "error in remove for path: '/a/x': Unable to remove nonexistent key: x: missing value",
            ),
            (
                json!({"op": "remove", "path": "/z/x"}),
                "remove operation does not apply: doc is missing path: \"/z/x\": missing value",
            ),
            (
                json!({"op": "replace", "path": "/a/x", "value": 1}),
                "replace operation does not apply: doc is missing key: /a/x: missing value",
            ),
            (
                json!({"op": "add", "path": "/a/l/9", "value": 1}),
                "error in add for path: '/a/l/9': Unable to access invalid index: 9: invalid index \
                    referenced",
            ),
            (json!({"op": "sing", "path": "/a"}), "Unexpected kind: sing"),
        ] {
            let error = json_patch(&mut doc.clone(), &json!([operation])).unwrap_err();
            assert_eq!(error.to_string(), words);
        }
        assert!(matches!(json_patch(&mut doc.clone(), &json!({})), Err(PatchError::Malformed(_))));
    }

    #[test]
    fn a_merge_patch_removes_by_null() {
        let mut target = json!({"a": 1, "b": {"c": 1, "d": 2}, "l": [1]});
        merge_patch(&mut target, &json!({"a": null, "b": {"c": null, "e": 3}, "l": [2, 3]}));
        assert_eq!(target, json!({"b": {"d": 2, "e": 3}, "l": [2, 3]}));
    }
}
