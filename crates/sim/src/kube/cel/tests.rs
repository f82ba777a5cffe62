//! CEL rules through whole schemas: words, transitions, types, ratcheting.
//!
//! Deliberately does not test the language itself, which is the library's.

use serde_json::{Value, json};

use crate::kube::schema::{Schema, Scope};

fn check(schema: Value, object: Value, old: Option<Value>) -> Vec<String> {
    let causes = Schema::compile(&schema).unwrap().validate(&object, old.as_ref(), Scope::Whole);
    causes.iter().map(|cause| format!("{} {} {}", cause.reason, cause.field, cause.message)).collect()
}

fn spec(properties: Value, rules: Value) -> Value {
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties,
        "x-kubernetes-validations": rules}}})
}

#[test]
fn messages_reasons_and_paths() {
    let properties =
        json!({"size": {"type": "integer"}, "min": {"type": "integer"}, "mode": {"type": "string"}});
    let rules = json!([
        {"rule": "!has(self.min) || self.min <= self.size", "fieldPath": ".min",
         "messageExpression": "'min is above size' + (has(self.mode) ? ' in mode ' + self.mode : '')"},
        {"rule": "self.size != 13"},
        {"rule": "self.size != 14", "message": " fourteen is not allowed ", "reason": "FieldValueForbidden"}
    ]);
    let schema = spec(properties, rules);
    for (object, words) in [
        (json!({"size": 1, "min": 2}), "FieldValueInvalid spec.min Invalid value: min is above size"),
        (
            json!({"size": 1, "min": 2, "mode": "x"}),
            "FieldValueInvalid spec.min Invalid value: min is above size in mode x",
        ),
        (json!({"size": 13}), "FieldValueInvalid spec Invalid value: failed rule: self.size != 13"),
        (json!({"size": 14}), "FieldValueForbidden spec Forbidden: fourteen is not allowed"),
        (
            json!({"min": 1}),
            "FieldValueInvalid spec Invalid value: \"object\": no such key: size evaluating rule: \
                !has(self.min) || self.min <= self.size",
        ),
    ] {
        assert_eq!(check(schema.clone(), json!({"spec": object}), None)[0], words);
    }
}

#[test]
fn scalars_are_shown_and_the_root_has_no_name() {
    let schema = json!({"type": "object",
        "x-kubernetes-validations": [{"rule": "self.metadata.name != 'bad'",
            "message": "this name is forbidden"}],
        "properties": {"spec": {"type": "object", "properties": {
            "text": {"type": "string", "x-kubernetes-validations": [{"rule": "self != 'x'",
                "message": "not x"}]}}}}});
    assert_eq!(
        check(schema, json!({"metadata": {"name": "bad"}, "spec": {"text": "x"}}), None),
        [
            "FieldValueInvalid <nil> Invalid value: this name is forbidden",
            "FieldValueInvalid spec.text Invalid value: \"x\": not x"
        ]
    );
}

#[test]
fn transition_rules_need_an_old_value() {
    let schema = spec(
        json!({
            "mode": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf",
                "message": "immutable"}]},
            "counter": {"type": "integer", "x-kubernetes-validations": [
                {"rule": "!oldSelf.hasValue() || self >= oldSelf.value()", "optionalOldSelf": true,
                    "message": "may not go down"},
                {"rule": "oldSelf.hasValue() || self == 0", "optionalOldSelf": true,
                    "message": "starts at zero"}]},
            "sticky": {"type": "string"}
        }),
        json!([{"rule": "!has(oldSelf.sticky) || has(self.sticky)", "message": "sticky stays",
            "fieldPath": ".sticky"}]),
    );
    let run = |new: Value, old: Option<Value>| {
        check(schema.clone(), json!({"spec": new}), old.map(|old| json!({"spec": old})))
    };
    assert!(run(json!({"mode": "a", "counter": 0}), None).is_empty());
    assert!(run(json!({"mode": "b"}), Some(json!({}))).is_empty());
    assert_eq!(
        run(json!({"mode": "b"}), Some(json!({"mode": "a"}))),
        ["FieldValueInvalid spec.mode Invalid value: \"b\": immutable"]
    );
    assert_eq!(
        run(json!({"counter": 5}), None),
        ["FieldValueInvalid spec.counter Invalid value: 5: starts at zero"]
    );
    assert_eq!(
        run(json!({"counter": 1}), Some(json!({"counter": 2}))),
        ["FieldValueInvalid spec.counter Invalid value: 1: may not go down"]
    );
    assert_eq!(
        run(json!({}), Some(json!({"sticky": "s"}))),
        ["FieldValueInvalid spec.sticky Invalid value: sticky stays"]
    );
}

#[test]
fn items_of_keyed_lists_are_compared_by_key() {
    let schema = spec(
        json!({"ports": {"type": "array", "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["port"],
            "items": {"type": "object", "required": ["port"], "properties": {"port": {"type": "integer"},
                "target": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf",
                    "message": "fixed"}]}}}}}),
        json!([]),
    );
    let old = json!({"spec": {"ports": [{"port": 1, "target": "a"}, {"port": 2, "target": "b"}]}});
    let swapped = json!({"spec": {"ports": [{"port": 2, "target": "b"}, {"port": 1, "target": "a"}]}});
    assert!(check(schema.clone(), swapped, Some(old.clone())).is_empty());
    let changed = json!({"spec": {"ports": [{"port": 2, "target": "c"}]}});
    assert_eq!(
        check(schema, changed, Some(old)),
        ["FieldValueInvalid spec.ports[0].target Invalid value: \"c\": fixed"]
    );
}

#[test]
fn values_are_typed_by_the_schema() {
    let schema = |field: Value, rule: &str| {
        let mut field = field;
        field["x-kubernetes-validations"] = json!([{"rule": rule}]);
        spec(json!({"f": field}), json!([]))
    };
    for (field, rule, good, bad) in [
        (json!({"type": "string", "format": "duration"}), "self < duration('1h')", json!("30m"), json!("2h")),
        (
            json!({"type": "string", "format": "date-time"}),
            "self < timestamp('2020-01-01T00:00:00Z')",
            json!("2001-01-01T00:00:00Z"),
            json!("2021-01-01T00:00:00Z"),
        ),
        (
            json!({"type": "string", "format": "date"}),
            "self.getFullYear() == 2001",
            json!("2001-02-03"),
            json!("2002-02-03"),
        ),
        (json!({"type": "string", "format": "byte"}), "size(self) == 2", json!("aGk="), json!("aA==")),
        (json!({"type": "number"}), "self < 1.5", json!(1), json!(2)),
        (json!({"type": "string"}), "isIP(self) && ip(self).family() == 4", json!("10.0.0.1"), json!("::1")),
        (
            json!({"type": "string"}),
            "isURL(self) && url(self).getScheme() == 'https'",
            json!("https://a/"),
            json!("http://a/"),
        ),
        (
            json!({"type": "string"}),
            "quantity(self).isGreaterThan(quantity('100m'))",
            json!("1"),
            json!("50m"),
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            "self.all(k, k.size() < 7)",
            json!({"a": ""}),
            json!({"abcdefgh": ""}),
        ),
        (
            json!({"x-kubernetes-int-or-string": true}),
            "type(self) == int ? self > 1 : self.endsWith('%')",
            json!("5%"),
            json!(1),
        ),
        (
            json!({"type": "object", "properties": {"a-b": {"type": "integer"},
                "namespace": {"type": "string"}}}),
            "self.a__dash__b > 1 && self.__namespace__ == 'n'",
            json!({"a-b": 2, "namespace": "n"}),
            json!({"a-b": 1, "namespace": "n"}),
        ),
        (
            json!({"type": "array", "maxItems": 3, "items": {"type": "string"}}),
            "self.exists(x, x == 'a')",
            json!(["a"]),
            json!(["b"]),
        ),
    ] {
        let schema = schema(field, rule);
        assert_eq!(check(schema.clone(), json!({"spec": {"f": good}}), None), Vec::<String>::new(), "{rule}");
        assert_eq!(check(schema, json!({"spec": {"f": bad}}), None).len(), 1, "{rule}");
    }
}

#[test]
fn unchanged_parts_are_forgiven_on_update_but_not_transition_rules() {
    let schema = spec(
        json!({"a": {"type": "string", "x-kubernetes-validations": [{"rule": "self != 'x'"}]},
            "b": {"type": "string"}}),
        json!([]),
    );
    let old = json!({"spec": {"a": "x", "b": "1"}});
    assert!(check(schema.clone(), json!({"spec": {"a": "x", "b": "2"}}), Some(old.clone())).is_empty());
    assert_eq!(check(schema, old, None).len(), 1);
}

#[test]
fn rules_are_not_evaluated_on_values_of_the_wrong_type() {
    let schema = spec(json!({"size": {"type": "integer"}}), json!([{"rule": "self.size > 0"}]));
    let found = check(schema, json!({"spec": {"size": "x"}}), None);
    assert_eq!(found.len(), 2);
    assert!(found[1].contains("some validation rules were not checked"));
}

#[test]
fn rules_inside_all_of_see_the_types_around_them() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object",
        "properties": {"size": {"type": "integer"}},
        "allOf": [{"x-kubernetes-validations": [{"rule": "self.size < 5", "message": "below five"}]}]}}});
    assert_eq!(
        check(schema, json!({"spec": {"size": 9}}), None),
        ["FieldValueInvalid spec Invalid value: below five"]
    );
}
