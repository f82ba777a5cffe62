//! The difference between two values, as the merge patch that turns one into the other. Pure.

use serde_json::{Value, json};

use crate::kind::Fault;

/// A status as JSON; an empty object where there is none.
pub fn to_value<S: serde::Serialize>(status: Option<&S>) -> Result<Value, Fault> {
    match status {
        None => Ok(json!({})),
        Some(status) => {
            serde_json::to_value(status).map_err(|error| Fault::defect("Encode", error.to_string()))
        }
    }
}

/// The RFC 7386 merge patch that turns one value into the other.
pub fn difference(before: &Value, after: &Value) -> Value {
    let (Value::Object(before), Value::Object(after)) = (before, after) else { return after.clone() };
    let removed = before.keys().filter(|key| !after.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let changed = after.iter().filter_map(|(key, value)| match before.get(key) {
        Some(old) if old == value => None,
        Some(old) => Some((key.clone(), difference(old, value))),
        None => Some((key.clone(), value.clone())),
    });
    removed.chain(changed).collect::<serde_json::Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_holds_what_changed_and_nothing_else() {
        let before = json!({"a": 1, "b": {"c": 2, "d": 3}, "list": [1, 2], "gone": true});
        let after = json!({"a": 1, "b": {"c": 2, "d": 4}, "list": [1], "new": "x"});
        let patch = difference(&before, &after);
        assert_eq!(patch, json!({"b": {"d": 4}, "list": [1], "gone": null, "new": "x"}));
        assert_eq!(difference(&after, &after), json!({}));
    }
}
