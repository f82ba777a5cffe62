//! Errors of values, word for word.
//!
//! Deliberately without CEL, which has its own tests.

use serde_json::{Value, json};

use crate::kube::schema::{Cause, Schema, Scope};

fn field_schema(schema: Value) -> Schema {
    let root = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"f": schema}},
        "status": {"type": "object", "properties": {"phase": {"type": "string", "enum": ["A", "B"]},
            "used": {"type": "integer", "maximum": 9}}}
    }});
    Schema::compile(&root).unwrap()
}

fn messages(causes: &[Cause]) -> Vec<String> {
    causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

fn check(schema: Value, value: Value) -> Vec<String> {
    messages(&field_schema(schema).validate(&json!({"spec": {"f": value}}), None, Scope::Whole))
}

#[test]
fn types_and_formats_have_their_words() {
    for (schema, value, words) in [
        (
            json!({"type": "string"}),
            json!(5),
            "spec.f: Invalid value: \"integer\": spec.f in body must be of type string: \"integer\"",
        ),
        (
            json!({"type": "string"}),
            json!(null),
            "spec.f: Invalid value: \"null\": spec.f in body must be of type string: \"null\"",
        ),
        (
            json!({"type": "integer", "format": "int32"}),
            json!("x"),
            "spec.f: Invalid value: \"string\": spec.f in body must be of type integer: \"string\"",
        ),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(true),
            "spec.f: Invalid value: \"\": spec.f in body must be of type int32: \"\"",
        ),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(3_000_000_000_i64),
            "<nil>: Invalid value: \"\": Checked value must be of type integer with format int32 in spec.f",
        ),
        (
            json!({"type": "string", "format": "date-time"}),
            json!("x"),
            "spec.f: Invalid value: \"x\": spec.f in body must be of type date-time: \"x\"",
        ),
        (
            json!({"type": "string", "format": "date-time"}),
            json!(5),
            "spec.f: Invalid value: \"int64\": spec.f in body must be of type date-time: \"int64\"",
        ),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            json!([1]),
            "spec.f[0]: Invalid value: \"integer\": spec.f[0] in body must be of type string: \"integer\"",
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"a": 1}),
            "spec.f.a: Invalid value: \"integer\": spec.f.a in body must be of type string: \"integer\"",
        ),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            "spec.f: Invalid value: \"boolean\": spec.f in body must be of type integer,string: \"boolean\"",
        ),
    ] {
        assert_eq!(check(schema, value), [words]);
    }
}

#[test]
fn limits_of_numbers_have_their_words() {
    for (schema, value, words) in [
        (
            json!({"type": "integer", "minimum": 1}),
            json!(0),
            "spec.f: Invalid value: 0: spec.f in body should be greater than or equal to 1",
        ),
        (
            json!({"type": "number", "maximum": 1, "exclusiveMaximum": true}),
            json!(1),
            "spec.f: Invalid value: 1: spec.f in body should be less than 1",
        ),
        (
            json!({"type": "number", "maximum": 0.5}),
            json!(0.75),
            "spec.f: Invalid value: 0.75: spec.f in body should be less than or equal to 0.5",
        ),
        (
            json!({"type": "integer", "multipleOf": 5}),
            json!(7),
            "spec.f: Invalid value: 7: spec.f in body should be a multiple of 5",
        ),
    ] {
        assert_eq!(check(schema, value), [words]);
    }
}

#[test]
fn limits_of_text_and_collections_have_their_words() {
    for (schema, value, words) in [
        (
            json!({"type": "string", "maxLength": 2}),
            json!("abc"),
            "spec.f: Too long: may not be more than 2 bytes",
        ),
        (
            json!({"type": "string", "minLength": 2}),
            json!("a"),
            "spec.f: Invalid value: \"a\": spec.f in body should be at least 2 chars long",
        ),
        (
            json!({"type": "string", "pattern": "^[a-z]+$"}),
            json!("A"),
            "spec.f: Invalid value: \"A\": spec.f in body should match '^[a-z]+$'",
        ),
        (
            json!({"type": "string", "enum": ["a", "b"]}),
            json!("c"),
            "spec.f: Unsupported value: \"c\": supported values: \"a\", \"b\"",
        ),
        (
            json!({"type": "array", "maxItems": 1, "items": {"type": "string"}}),
            json!(["a", "b"]),
            "spec.f: Too many: 2: must have at most 1 item",
        ),
        (
            json!({"type": "array", "minItems": 1, "items": {"type": "string"}}),
            json!([]),
            "spec.f: Invalid value: 0: spec.f in body should have at least 1 items",
        ),
        (
            json!({"type": "object", "maxProperties": 1, "additionalProperties": {"type": "string"}}),
            json!({"a": "", "b": ""}),
            "spec.f: Too many: 2: must have at most 1 item",
        ),
        (
            json!({"type": "object", "required": ["x"], "properties": {"x": {"type": "string"}}}),
            json!({}),
            "spec.f.x: Required value",
        ),
    ] {
        assert_eq!(check(schema, value), [words]);
    }
}

#[test]
fn a_fraction_in_an_integer_field_is_reported_twice() {
    assert_eq!(
        check(json!({"type": "integer"}), json!(1.5)),
        [
            "spec.f: Invalid value: \"number\": spec.f in body must be of type integer: \"number\"",
            "<nil>: Invalid value: \"\": Checked value must be of type integer (default format) in spec.f"
        ]
    );
}

#[test]
fn right_values_pass() {
    for (schema, value) in [
        (json!({"type": "integer"}), json!(1)),
        (json!({"type": "number"}), json!(1)),
        (json!({"type": "number", "maximum": 1, "exclusiveMaximum": true}), json!(0.99)),
        (json!({"type": "string", "nullable": true}), json!(null)),
        (json!({"x-kubernetes-int-or-string": true, "pattern": "^[0-9]+%?$"}), json!("5%")),
        (
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
            json!(5),
        ),
        (json!({"type": "string", "format": "unknown-format"}), json!("x")),
        (json!({"type": "number", "multipleOf": 0.1}), json!(0.3)),
    ] {
        assert_eq!(check(schema.clone(), value), Vec::<String>::new(), "{schema}");
    }
}

#[test]
fn logical_branches_report_the_best_failure() {
    let choice = json!({"type": "object", "properties": {"left": {"type": "string"},
        "right": {"type": "string"}},
        "oneOf": [{"required": ["left"]}, {"required": ["right"]}]});
    let none = check(choice.clone(), json!({}));
    assert_eq!(
        none[0],
        "<nil>: Invalid value: \"\": \"spec.f\" must validate one and only one schema (oneOf). Found none \
            valid"
    );
    assert_eq!(none[1], "spec.f.left: Required value");
    let both = check(choice.clone(), json!({"left": "", "right": ""}));
    assert_eq!(
        both,
        ["<nil>: Invalid value: \"\": \"spec.f\" must validate one and only one schema (oneOf). Found 2 \
                valid alternatives"]
    );
    assert!(check(choice, json!({"left": ""})).is_empty());
    let not = json!({"type": "string", "not": {"pattern": "^x"}});
    assert_eq!(
        check(not, json!("xy")),
        ["<nil>: Invalid value: \"\": \"spec.f\" must not validate the schema (not)"]
    );
    let all = json!({"type": "integer", "allOf": [{"minimum": 5}, {"maximum": 9}]});
    assert_eq!(
        check(all, json!(3)),
        [
            "spec.f: Invalid value: 3: spec.f in body should be greater than or equal to 5",
            "<nil>: Invalid value: \"\": \"spec.f\" must validate all the schemas (allOf)"
        ]
    );
}

#[test]
fn duplicates_in_sets_and_keyed_lists() {
    let set = json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}});
    assert_eq!(check(set, json!(["a", "b", "a", "a"])), ["spec.f[2]: Duplicate value: \"a\""]);
    let keyed = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
        "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "integer"}}}});
    assert_eq!(check(keyed, json!([{"k": 1}, {"k": 1}])), ["spec.f[1]: Duplicate value: {\"k\":1}"]);
}

#[test]
fn an_update_may_keep_what_is_wrong_but_not_change_it() {
    let schema =
        field_schema(json!({"type": "object", "properties": {"a": {"type": "integer", "maximum": 5},
            "b": {"type": "string"}}}));
    let old = json!({"spec": {"f": {"a": 9, "b": "x"}}});
    assert!(
        schema.validate(&json!({"spec": {"f": {"a": 9, "b": "y"}}}), Some(&old), Scope::Whole).is_empty()
    );
    assert_eq!(
        schema.validate(&json!({"spec": {"f": {"a": 8, "b": "x"}}}), Some(&old), Scope::Whole).len(),
        1
    );
    assert_eq!(schema.validate(&old, None, Scope::Whole).len(), 1);
}

#[test]
fn status_writes_check_the_status_only() {
    let schema = field_schema(json!({"type": "string"}));
    let object = json!({"spec": {"f": 5}, "status": {"phase": "C", "used": "x"}});
    assert_eq!(
        messages(&schema.validate(&object, Some(&json!({})), Scope::Status)),
        [
            "status.phase: Unsupported value: \"C\": supported values: \"A\", \"B\"",
            "status.used: Invalid value: \"string\": used in body must be of type integer: \"string\""
        ]
    );
}

#[test]
fn embedded_resources_must_look_like_resources() {
    let template = json!({"type": "object", "x-kubernetes-embedded-resource": true,
        "x-kubernetes-preserve-unknown-fields": true});
    let causes = check(template.clone(), json!({"kind": "Not A Kind", "metadata": {"name": "p"}}));
    assert_eq!(causes[0], "spec.f.apiVersion: Required value");
    assert!(causes[1].starts_with("spec.f.kind: Invalid value: \"Not A Kind\": may have mixed case"));
    assert!(
        check(template, json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}})).is_empty()
    );
}
