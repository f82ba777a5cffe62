//! What a CustomResourceDefinition may not say in its schema, in the words of the API server.
//!
//! Deliberately not a complete copy of every rule: those that authors meet are here; the cost of CEL rules is
//! not estimated. Facts: k8s.io/apiextensions-apiserver, structural schema and OpenAPI schema validation.

use serde_json::Value;

use super::Cause;
use super::compile::below;
use super::node::Kind;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Field,
    Item,
}

/// Every mistake of the schema, with fields relative to it.
pub(super) fn check(schema: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    if schema.get("nullable") == Some(&Value::Bool(true)) {
        forbidden(&mut causes, "nullable".to_owned(), "nullable cannot be true at the root");
    }
    check_node(schema, "", Level::Root, &mut causes);
    causes
}

fn push(causes: &mut Vec<Cause>, reason: &'static str, field: String, message: String) {
    let field = if field.is_empty() { String::new() } else { field };
    causes.push(Cause { reason, message, field });
}

fn forbidden(causes: &mut Vec<Cause>, field: String, why: &str) {
    push(causes, "FieldValueForbidden", field, format!("Forbidden: {why}"));
}

fn required(causes: &mut Vec<Cause>, field: String, why: &str) {
    push(causes, "FieldValueRequired", field, format!("Required value: {why}"));
}

fn invalid(causes: &mut Vec<Cause>, field: String, value: &Value, why: &str) {
    push(causes, "FieldValueInvalid", field, format!("Invalid value: {value}: {why}"));
}

fn check_node(schema: &Value, path: &str, level: Level, causes: &mut Vec<Cause>) {
    check_type(schema, path, level, causes);
    check_extensions(schema, path, causes);
    check_unsupported(schema, path, causes);
    check_nested(schema, path, causes);
    let properties = schema.get("properties").and_then(Value::as_object);
    let additional = schema.get("additionalProperties");
    if let Some(additional) = additional {
        if properties.is_some_and(|map| !map.is_empty()) && additional != &Value::Bool(true) {
            let why = "additionalProperties and properties are mutual exclusive";
            forbidden(causes, below(path, "additionalProperties"), why);
        }
        if additional.is_object() {
            check_node(additional, &below(path, "additionalProperties"), Level::Field, causes);
        }
    }
    for (name, property) in properties.into_iter().flatten() {
        if level == Level::Root && name == "metadata" {
            check_metadata(property, &below(path, "properties[metadata]"), causes);
        } else {
            check_node(property, &below(path, &format!("properties[{name}]")), Level::Field, causes);
        }
    }
    if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
        check_node(items, &below(path, "items"), Level::Item, causes);
    }
}

fn check_type(schema: &Value, path: &str, level: Level, causes: &mut Vec<Cause>) {
    let flag = |name: &str| schema.get(name) == Some(&Value::Bool(true));
    let name = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    let field = below(path, "type");
    if !name.is_empty() && Kind::parse(name).is_none() {
        let message = format!(
            "Unsupported value: {name:?}: supported values: \"array\", \"boolean\", \"integer\", \"number\", \
             \"object\", \"string\""
        );
        push(causes, "FieldValueNotSupported", field, message);
        return;
    }
    if flag("x-kubernetes-embedded-resource") && name != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        match name {
            "" => required(causes, field, why),
            _ => invalid(causes, field, &Value::from(name), why),
        }
    } else if name.is_empty()
        && !flag("x-kubernetes-int-or-string")
        && !flag("x-kubernetes-preserve-unknown-fields")
    {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        required(causes, field, why);
    } else if level == Level::Root && !name.is_empty() && name != "object" {
        invalid(causes, field, &Value::from(name), "must be object at the root");
    }
    if name == "array" && schema.get("items").is_none() {
        required(causes, below(path, "items"), "must be specified");
    }
}

fn check_extensions(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let flag = |name: &str| schema.get(name) == Some(&Value::Bool(true));
    let embedded = flag("x-kubernetes-embedded-resource");
    let int_or_string = flag("x-kubernetes-int-or-string");
    let preserve = flag("x-kubernetes-preserve-unknown-fields");
    if int_or_string && preserve {
        let why = "must be false if x-kubernetes-int-or-string is true";
        invalid(causes, below(path, "x-kubernetes-preserve-unknown-fields"), &Value::Bool(true), why);
    }
    if int_or_string && embedded {
        let why = "must be false if x-kubernetes-int-or-string is true";
        invalid(causes, below(path, "x-kubernetes-embedded-resource"), &Value::Bool(true), why);
    }
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let why = "must be true or undefined";
        invalid(causes, below(path, "x-kubernetes-preserve-unknown-fields"), &Value::Bool(false), why);
    }
    if embedded && schema.get("additionalProperties").is_some() {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        forbidden(causes, below(path, "additionalProperties"), why);
    }
    if embedded && !preserve && schema.get("properties").is_none() {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without \
             x-kubernetes-preserve-unknown-fields";
        required(causes, below(path, "properties"), why);
    }
    check_map_type(schema, path, causes);
    check_list_type(schema, path, causes);
}

fn check_map_type(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let Some(map_type) = schema.get("x-kubernetes-map-type").and_then(Value::as_str) else { return };
    let name = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    let why = "must be object if x-kubernetes-map-type is specified";
    match name {
        "object" => {}
        "" => required(causes, below(path, "type"), why),
        _ => invalid(causes, below(path, "type"), &Value::from(name), why),
    }
    if !matches!(map_type, "atomic" | "granular") {
        let message = format!("Unsupported value: {map_type:?}: supported values: \"atomic\", \"granular\"");
        push(causes, "FieldValueNotSupported", below(path, "x-kubernetes-map-type"), message);
    }
}

fn check_list_type(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let keys: Vec<&str> = schema
        .get("x-kubernetes-list-map-keys")
        .and_then(Value::as_array)
        .map(|keys| keys.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let Some(list_type) = schema.get("x-kubernetes-list-type").and_then(Value::as_str) else {
        if !keys.is_empty() {
            let why = "must be map if x-kubernetes-list-map-keys is non-empty";
            required(causes, below(path, "x-kubernetes-list-type"), why);
        }
        return;
    };
    let name = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    let why = "must be array if x-kubernetes-list-type is specified";
    match name {
        "array" => {}
        "" => required(causes, below(path, "type"), why),
        _ => invalid(causes, below(path, "type"), &Value::from(name), why),
    }
    match list_type {
        "atomic" | "set" if !keys.is_empty() => {
            let why = "must be map if x-kubernetes-list-map-keys is non-empty";
            invalid(causes, below(path, "x-kubernetes-list-type"), &Value::from(list_type), why);
        }
        "atomic" => {}
        "set" => check_set(schema, path, causes),
        "map" => check_list_map(schema, path, &keys, causes),
        _ => {
            let message =
                format!("Unsupported value: {list_type:?}: supported values: \"atomic\", \"set\", \"map\"");
            push(causes, "FieldValueNotSupported", below(path, "x-kubernetes-list-type"), message);
        }
    }
}

fn check_set(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let Some(items) = schema.get("items") else { return };
    let atomic = |name: &str| items.get(name).and_then(Value::as_str).is_some_and(|kind| kind != "atomic");
    let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
    if items.get("type").and_then(Value::as_str) == Some("array") && atomic("x-kubernetes-list-type") {
        invalid(causes, below(path, "items.x-kubernetes-list-type"), &Value::Null, why);
    }
    if items.get("type").and_then(Value::as_str) == Some("object")
        && items.get("x-kubernetes-map-type").and_then(Value::as_str) != Some("atomic")
    {
        invalid(causes, below(path, "items.x-kubernetes-map-type"), &Value::Null, why);
    }
    if items.get("nullable") == Some(&Value::Bool(true)) {
        let why = "cannot be nullable when x-kubernetes-list-type is set";
        forbidden(causes, below(path, "items.nullable"), why);
    }
}

fn check_list_map(schema: &Value, path: &str, keys: &[&str], causes: &mut Vec<Cause>) {
    if keys.is_empty() {
        let why = "must not be empty if x-kubernetes-list-type is map";
        required(causes, below(path, "x-kubernetes-list-map-keys"), why);
    }
    let Some(items) = schema.get("items") else {
        required(causes, below(path, "items"), "must have a schema if x-kubernetes-list-type is map");
        return;
    };
    if items.get("type").and_then(Value::as_str) != Some("object") {
        let name = items.get("type").cloned().unwrap_or_else(|| Value::from(""));
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        invalid(causes, below(path, "items.type"), &name, why);
    }
    if items.get("nullable") == Some(&Value::Bool(true)) {
        let why = "cannot be nullable when x-kubernetes-list-type is map";
        forbidden(causes, below(path, "items.nullable"), why);
    }
    let needed: Vec<&str> = items
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    for (index, key) in keys.iter().enumerate() {
        let field = below(path, "x-kubernetes-list-map-keys");
        if keys[..index].contains(key) {
            invalid(causes, field, &serde_json::json!(keys), "must not contain duplicate entries");
            continue;
        }
        let Some(property) = items.get("properties").and_then(|properties| properties.get(key)) else {
            invalid(causes, field, &serde_json::json!(keys), "entries must all be names of item properties");
            continue;
        };
        let place = below(path, &format!("items.properties[{key}]"));
        if matches!(property.get("type").and_then(Value::as_str), Some("array" | "object")) {
            let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            invalid(causes, below(&place, "type"), &items["type"], why);
        }
        if !needed.contains(key) && property.get("default").is_none() {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a \
                 required property";
            required(causes, below(&place, "default"), why);
        }
        if property.get("nullable") == Some(&Value::Bool(true)) {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            forbidden(causes, below(&place, "nullable"), why);
        }
    }
}

fn check_unsupported(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    if schema.get("uniqueItems") == Some(&Value::Bool(true)) {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        forbidden(causes, below(path, "uniqueItems"), why);
    }
    if schema.get("items").is_some_and(Value::is_array) {
        forbidden(causes, below(path, "items"), "items must be a schema object and not an array");
    }
    for name in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        if schema.get(name).is_some() {
            forbidden(causes, below(path, name), &format!("{name} is not supported"));
        }
    }
}

/// What the branches of `allOf`, `anyOf`, `oneOf` and `not` may not contain.
fn check_nested(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let int_or_string = serde_json::json!([{"type": "integer"}, {"type": "string"}]);
    for name in ["anyOf", "allOf", "oneOf"] {
        let branches = schema.get(name).and_then(Value::as_array).into_iter().flatten();
        // The types of an int-or-string field may be spelled out, for readers that do not know the extension.
        let skip_types = name == "anyOf" && schema.get(name) == Some(&int_or_string);
        for (index, branch) in branches.enumerate() {
            if !skip_types {
                check_branch(branch, &below(path, &format!("{name}[{index}]")), causes);
            }
        }
    }
    if let Some(branch) = schema.get("not") {
        check_branch(branch, &below(path, "not"), causes);
    }
}

fn check_branch(branch: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (name, words) in [
        ("type", "must be empty to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
    ] {
        let present = branch.get(name).is_some_and(|value| value != &Value::Bool(false));
        if present && !(name == "additionalProperties" && branch[name].is_object()) {
            forbidden(causes, below(path, name), words);
        }
    }
    check_nested(branch, path, causes);
    for (name, property) in branch.get("properties").and_then(Value::as_object).into_iter().flatten() {
        check_branch(property, &below(path, &format!("properties[{name}]")), causes);
    }
    if let Some(items) = branch.get("items") {
        check_branch(items, &below(path, "items"), causes);
    }
}

fn check_metadata(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        let name = schema.get("type").cloned().unwrap_or_else(|| Value::from(""));
        invalid(causes, below(path, "type"), &name, "must be object");
    }
    let only_names = schema
        .get("properties")
        .and_then(Value::as_object)
        .is_none_or(|properties| properties.keys().all(|key| key == "name" || key == "generateName"));
    if !only_names {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly \
            specified";
        forbidden(causes, path.to_owned(), why);
    }
}
