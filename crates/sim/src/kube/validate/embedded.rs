//! Embedded resources: objects inside an object that must look like resources themselves.
//!
//! Deliberately leaves out what only the server can know, such as whether the kind exists.

use serde_json::Value;

use crate::kube::metadata;
use crate::kube::schema::Cause;
use crate::kube::schema::node::Node;

/// The longest a DNS label may be (RFC 1035).
const LABEL_LENGTH: usize = 63;

/// Checks every embedded resource below the root, but not the root itself.
pub(crate) fn embedded(root: &Node, object: &Value, causes: &mut Vec<Cause>) {
    walk(root, object, "", false, causes);
}

fn walk(node: &Node, value: &Value, path: &str, check: bool, causes: &mut Vec<Cause>) {
    match value {
        Value::Object(fields) => {
            if check && node.embedded {
                resource(value, path, causes);
            }
            for (key, field) in fields {
                if let Some(property) = node.properties.get(key) {
                    let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    walk(property, field, &below, true, causes);
                } else if let Some(inner) = node.additional_schema() {
                    walk(inner, field, &format!("{path}[{key}]"), true, causes);
                }
            }
        }
        Value::Array(items) => {
            if let Some(element) = &node.items {
                for (index, item) in items.iter().enumerate() {
                    walk(element, item, &format!("{path}[{index}]"), true, causes);
                }
            }
        }
        _ => {}
    }
}

fn resource(value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let mut push = |reason, name: &str, message: String| {
        causes.push(Cause { reason, message, field: format!("{path}.{name}") });
    };
    for name in ["apiVersion", "kind"] {
        match value.get(name) {
            None => push("FieldValueRequired", name, "Required value".to_owned()),
            Some(Value::String(text)) if text.is_empty() => {
                push("FieldValueInvalid", name, "Invalid value: \"\": must not be empty".to_owned());
            }
            Some(Value::String(text)) => {
                if let Some(why) = wrong(name, text) {
                    push("FieldValueInvalid", name, format!("Invalid value: {}: {why}", super::quoted(text)));
                }
            }
            Some(other) => {
                let message = format!("Invalid value: {}: must be a string", super::shown(other));
                push("FieldValueInvalid", name, message);
            }
        }
    }
    let inner = metadata::validate_common(value);
    causes.extend(inner.into_iter().map(|cause| Cause { field: format!("{path}.{}", cause.field), ..cause }));
}

fn wrong(name: &str, text: &str) -> Option<String> {
    if name == "apiVersion" {
        return (text.matches('/').count() > 1).then(|| format!("unexpected GroupVersion string: {text}"));
    }
    let label = text.to_lowercase();
    let letters =
        label.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-');
    let edges = label.starts_with(|first: char| first.is_ascii_lowercase()) && !label.ends_with('-');
    (!letters || !edges || label.len() > LABEL_LENGTH).then(|| {
        "may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case \
         alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric \
         character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
            .to_owned()
    })
}
