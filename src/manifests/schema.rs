//! Turns a derived schema into one that a Kubernetes API server accepts and `kubectl explain` shows well.
//!
//! Adds no field and no rule of a kind: those are written in the kind's `api.rs`. What is changed here is the
//! same for all.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

/// Finishes the schema of a whole object.
pub fn finish(root: &mut JSONSchemaProps) {
    tidy(root);
    let status = root.properties.as_mut().and_then(|fields| fields.get_mut("status"));
    let conditions = status.and_then(|status| status.properties.as_mut()?.get_mut("conditions"));
    if let Some(conditions) = conditions {
        conditions.items = Some(JSONSchemaPropsOrArray::Schema(Box::new(condition())));
    }
}

/// Numbers that are whole lose their fraction, as in every CRD that people write: `minimum: 0`, not `0.0`.
pub fn whole_numbers(value: Value) -> Value {
    /// Beyond this, a 64-bit float does not hold every whole number.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() <= EXACT_MAX => {
                (float as i64).into()
            }
            _ => Value::Number(number),
        },
        Value::Array(items) => items.into_iter().map(whole_numbers).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, whole_numbers(value))).collect(),
        other => other,
    }
}

fn tidy(schema: &mut JSONSchemaProps) {
    // The operator leaves absent fields out; null would be a second way to say the same.
    schema.nullable = None;
    // Repeats the kind's name.
    schema.title = None;
    // Where a comment breaks its lines means nothing to a reader of `kubectl explain`.
    schema.description = schema.description.take().map(|text| text.replace('\n', " "));
    schema.default = schema.default.take().filter(|default| !default.0.is_null());
    limit_integer(schema);
    if schema.type_.as_deref() == Some("array") && schema.x_kubernetes_list_type.is_none() {
        schema.x_kubernetes_list_type = Some("atomic".to_owned());
    }
    schema.properties.iter_mut().flat_map(|fields| fields.values_mut()).for_each(tidy);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        tidy(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        tidy(values);
    }
}

/// Kubernetes knows int32 and int64 only; the range keeps every accepted number readable for the operator's
/// own types.
fn limit_integer(schema: &mut JSONSchemaProps) {
    let Some((low, high)) = schema.format.as_deref().and_then(range) else { return };
    let high = schema.maximum.map_or(high, |maximum| maximum.min(high));
    let fits = high <= f64::from(i32::MAX);
    schema.format = Some(if fits { "int32" } else { "int64" }.to_owned());
    schema.minimum = Some(schema.minimum.map_or(low, |minimum| minimum.max(low)));
    schema.maximum = Some(high);
}

/// The range of an unsigned integer format; None for formats that Kubernetes knows.
fn range(format: &str) -> Option<(f64, f64)> {
    match format {
        "uint8" => Some((0.0, f64::from(u8::MAX))),
        "uint16" => Some((0.0, f64::from(u16::MAX))),
        "uint32" | "uint" => Some((0.0, f64::from(u32::MAX))),
        _ => None,
    }
}

/// One `metav1.Condition` with the bounds that its Go type has (k8s.io/apimachinery, meta/v1 types.go).
fn condition() -> JSONSchemaProps {
    let mut time = text("When the status changed last.", None);
    time.format = Some("date-time".to_owned());
    let mut generation = text("Generation of the object that the condition speaks of.", None);
    generation.type_ = Some("integer".to_owned());
    generation.format = Some("int64".to_owned());
    generation.minimum = Some(0.0);
    let mut reason = text("Why, in one word of a closed list; also the reason of the Event.", Some(1_024));
    reason.min_length = Some(1);
    reason.pattern = Some("^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$".to_owned());
    let mut status = text("True, False or Unknown.", None);
    status.enum_ = Some(["True", "False", "Unknown"].map(|word| JSON(word.into())).to_vec());
    let mut subject =
        text("What the condition is about, for example Ready, Stalled or Encrypted.", Some(316));
    subject.pattern = Some(TYPE_PATTERN.to_owned());
    let fields = [
        ("lastTransitionTime", time),
        ("message", text("What happened, in words, and the next step.", Some(32_768))),
        ("observedGeneration", generation),
        ("reason", reason),
        ("status", status),
        ("type", subject),
    ];
    let required = ["lastTransitionTime", "message", "reason", "status", "type"];
    JSONSchemaProps {
        type_: Some("object".to_owned()),
        description: Some("One statement about the object at this time.".to_owned()),
        properties: Some(fields.map(|(name, schema)| (name.to_owned(), schema)).into()),
        required: Some(required.map(str::to_owned).to_vec()),
        ..JSONSchemaProps::default()
    }
}

fn text(description: &str, max_length: Option<i64>) -> JSONSchemaProps {
    JSONSchemaProps {
        type_: Some("string".to_owned()),
        description: Some(description.to_owned()),
        max_length,
        ..JSONSchemaProps::default()
    }
}

/// An optional DNS name with a slash, then a word; the pattern of a qualified name.
const TYPE_PATTERN: &str = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?\
                            (([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$";

#[cfg(test)]
mod tests {
    use super::*;

    fn integer(format: &str, maximum: Option<f64>) -> JSONSchemaProps {
        let mut schema = JSONSchemaProps {
            type_: Some("integer".to_owned()),
            format: Some(format.to_owned()),
            maximum,
            ..JSONSchemaProps::default()
        };
        tidy(&mut schema);
        schema
    }

    #[test]
    fn unsigned_integers_get_a_format_that_kubernetes_knows_and_the_range_of_their_type() {
        let percent = integer("uint8", Some(100.0));
        assert_eq!(
            (percent.format.as_deref(), percent.minimum, percent.maximum),
            (Some("int32"), Some(0.0), Some(100.0))
        );
        let count = integer("uint32", None);
        assert_eq!((count.format.as_deref(), count.maximum), (Some("int64"), Some(4_294_967_295.0)));
        assert_eq!(integer("int64", None).minimum, None, "what Kubernetes knows stays as it is");
    }

    #[test]
    fn whole_numbers_are_written_without_a_fraction() {
        let value = serde_json::json!({"a": [1.0, 1.5, 2], "b": "1.0", "c": -0.0});
        assert_eq!(whole_numbers(value).to_string(), r#"{"a":[1,1.5,2],"b":"1.0","c":0}"#);
    }
}
