//! Pruning, defaulting, and mistakes of schemas.
//!
//! Deliberately leaves errors of values to the tests of validation.

use serde_json::json;

use super::*;

fn compiled(schema: Value) -> Schema {
    Schema::compile(&schema).unwrap()
}

#[test]
fn pruning_reports_paths_and_keeps_preserved_parts() {
    let schema = compiled(json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "known": {"type": "string"},
        "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "map": {"type": "object", "additionalProperties": {"type": "string"}}
    }}}}));
    let mut object = json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "x", "bogus": 1},
        "top": 1, "spec": {
        "known": "a", "other": 1, "list": [{"a": "1", "b": 2}], "free": {"x": {"y": 1}}, "map": {"k": "v"}}});
    let unknown = schema.prune(&mut object);
    assert_eq!(unknown, ["metadata.bogus", "spec.list[0].b", "spec.other", "top"]);
    let expected = json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "x"}, "spec": {
        "known": "a", "list": [{"a": "1"}], "free": {"x": {"y": 1}}, "map": {"k": "v"}}});
    assert_eq!(object, expected);
}

#[test]
fn defaulting_fills_nested_defaults_and_replaces_refused_nulls() {
    let schema = compiled(json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "color": {"type": "string", "default": "red"},
        "note": {"type": "string", "nullable": true, "default": "n"},
        "code": {"type": "string"},
        "nested": {"type": "object", "default": {}, "properties": {"level": {"type": "integer",
            "default": 3}}},
        "ports": {"type": "array", "items": {"type": "object", "properties": {"p": {"type": "string",
            "default": "TCP"}}}}
    }}}}));
    let mut object = json!({"spec": {"color": null, "note": null, "code": null, "ports": [{}]},
        "metadata": {"labels": null}});
    let mut applied = object.clone();
    schema.default(&mut object);
    let spec = json!({"color": "red", "note": null, "nested": {"level": 3}, "ports": [{"p": "TCP"}]});
    assert_eq!(object, json!({"spec": spec, "metadata": {}}));
    schema.default_applied(&mut applied);
    assert_eq!(applied["spec"]["code"], Value::Null);
    assert!(applied["spec"].get("code").is_some());
}

#[test]
fn mistakes_of_a_schema_are_named() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "untyped": {"description": "x"},
        "list": {"type": "array"},
        "keyed": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}}}},
        "broken": {"type": "string", "pattern": "["},
        "branch": {"type": "string", "anyOf": [{"type": "string"}]}
    }}}});
    let causes = Schema::compile(&schema).unwrap_err();
    let fields: Vec<&str> = causes.iter().map(|cause| cause.field.as_str()).collect();
    for field in [
        "untyped].type",
        "list].items",
        "keyed].items.properties[k].default",
        "broken].pattern",
        "branch].anyOf[0].type",
    ] {
        assert!(fields.iter().any(|found| found.ends_with(field)), "{field} in {fields:?}");
    }
}

#[test]
fn a_rule_that_does_not_compile_is_a_mistake_of_the_schema() {
    for (rule, why) in [
        ("self.size >", "Syntax error"),
        ("self.nope > 1", "undefined field 'nope'"),
        ("self.size == 'a'", "found no matching overload"),
        ("nosuch(self.size)", "undeclared reference to 'nosuch'"),
        ("other.size > 1", "undeclared reference to 'other'"),
        ("self.size", "cel expression must evaluate to a bool"),
    ] {
        let schema = json!({"type": "object", "properties": {"size": {"type": "integer"}},
            "x-kubernetes-validations": [{"rule": rule}]});
        let causes = Schema::compile(&schema).unwrap_err();
        assert_eq!(causes[0].field, "x-kubernetes-validations[0].rule", "{rule}");
        assert!(causes[0].message.contains(why), "{rule}: {}", causes[0].message);
    }
}

#[test]
fn built_in_kinds_are_known_by_list_keys() {
    let schema = Schema::builtin("apps", "v1", "Deployment").unwrap();
    assert!(schema.has_status_subresource());
    let mut object = json!({"spec": {"template": {"spec": {"containers": [{"name": "a",
        "ports": [{"containerPort": 1}]}]}}}});
    schema.default(&mut object);
    assert_eq!(object["spec"]["template"]["spec"]["containers"][0]["ports"][0]["protocol"], "TCP");
    assert!(schema.prune(&mut object).is_empty());
    let secret = Schema::builtin("", "v1", "Secret").unwrap();
    assert_eq!(secret.prune(&mut json!({"metadata": {"name": "s"}, "dota": {}})), ["dota"]);
    assert!(Schema::builtin("", "v1", "Nothing").is_none());
}

#[test]
fn defaults_must_be_valid() {
    let schema = json!({"type": "object", "properties": {"size": {"type": "integer", "default": "x"}}});
    let causes = Schema::compile(&schema).unwrap_err();
    assert_eq!(causes[0].field, "properties[size].default");
    assert_eq!(causes[0].message, "Invalid value: \"string\":  in body must be of type integer: \"string\"");
}
