//! What a Kubernetes API server demands of a schema, and what `kubectl explain` readers may expect.
//!
//! The rules of structural schemas that matter here; CEL is judged in `rules`.

use ecskms::manifests;
use serde_json::{Map, Value};

/// One schema node and the path to it, for example `encrypteddisks.spec.key.id`.
struct Node<'a> {
    path: String,
    schema: &'a Map<String, Value>,
    is_field: bool,
}

#[test]
fn every_string_list_and_map_is_bounded() {
    check(|node| {
        let bound = match node.word("type") {
            Some("string") => {
                node.has("maxLength") || node.has("enum") || node.word("format") == Some("date-time")
            }
            Some("array") => node.has("maxItems"),
            Some("object") if node.has("additionalProperties") => node.has("maxProperties"),
            _ => true,
        };
        bound.then_some(()).ok_or("has no bound")
    });
}

#[test]
fn every_integer_has_a_format_that_kubernetes_knows() {
    check(|node| match (node.word("type"), node.word("format")) {
        (Some("integer"), Some("int32" | "int64")) => Ok(()),
        (Some("integer"), _) => Err("is an integer without int32 or int64"),
        (Some("number"), _) => Err("is a fraction; say it in a smaller unit"),
        _ => Ok(()),
    });
}

#[test]
fn every_field_has_a_description_that_ends_like_a_sentence() {
    check(|node| match node.word("description") {
        Some(text) if text.contains('\n') => Err("has a description with a line break"),
        Some(text) if text.ends_with('.') => Ok(()),
        Some(_) => Err("has a description that is no sentence"),
        None if node.is_field => Err("has no description"),
        None => Ok(()),
    });
}

#[test]
fn every_size_and_time_names_its_unit() {
    check(|node| {
        let field = node.path.rsplit('.').next().unwrap_or_default();
        let text = node.word("description").unwrap_or_default();
        match node.word("type") {
            Some("integer") if field.starts_with("size") => {
                text.contains("GiB").then_some(()).ok_or("names no unit")
            }
            Some("integer") if field == "progress" => {
                text.contains("Percent").then_some(()).ok_or("names no unit")
            }
            _ => Ok(()),
        }
    });
}

#[test]
fn every_node_has_a_type_and_nothing_that_kubernetes_refuses() {
    const REFUSED: [&str; 10] = [
        "$ref",
        "nullable",
        "anyOf",
        "oneOf",
        "allOf",
        "not",
        "definitions",
        "patternProperties",
        "uniqueItems",
        "title",
    ];
    check(|node| match REFUSED.iter().find(|word| node.has(word)) {
        Some(_) => Err("holds a word that structural schemas lack, or that this project does without"),
        None if node.word("type").is_none() => Err("has no type"),
        None if node.has("properties") && node.has("additionalProperties") => Err("is a struct and a map"),
        None if node.schema.get("default").is_some_and(Value::is_null) => Err("defaults to null"),
        None => Ok(()),
    });
}

#[test]
fn every_list_says_how_it_is_merged_and_keys_of_maps_are_required() {
    check(|node| match (node.word("type"), node.word("x-kubernetes-list-type")) {
        (Some("array"), Some("atomic" | "set")) => Ok(()),
        (Some("array"), Some("map")) => {
            let required = &node.schema["items"]["required"];
            let keys = node.schema["x-kubernetes-list-map-keys"].as_array().expect("keys");
            let all = keys.iter().all(|key| required.as_array().is_some_and(|list| list.contains(key)));
            all.then_some(()).ok_or("has a key that is not required")
        }
        (Some("array"), _) => Err("has no list type"),
        _ => Ok(()),
    });
}

#[test]
fn every_definition_names_status_columns_and_where_it_belongs() {
    for crd in manifests::crds() {
        let name = crd.metadata.name.clone().expect("a name");
        assert_eq!(name, format!("{}.{}", crd.spec.names.plural, crd.spec.group));
        let labels = crd.metadata.labels.clone().unwrap_or_default();
        assert_eq!(labels.get("app.kubernetes.io/part-of").map(String::as_str), Some("ecskms"), "{name}");
        let categories = crd.spec.names.categories.clone().unwrap_or_default();
        assert!(
            categories.contains(&"ecskms".to_owned()) && categories.contains(&"alicloud".to_owned()),
            "{name}"
        );
        for version in &crd.spec.versions {
            assert!(version.subresources.as_ref().is_some_and(|part| part.status.is_some()), "{name}");
            let columns = version.additional_printer_columns.iter().flatten();
            let columns: Vec<_> = columns.map(|column| column.name.as_str()).collect();
            assert!(
                ["Ready", "Reason", "Age"].iter().all(|column| columns.contains(column)),
                "{name}: {columns:?}"
            );
        }
    }
}

/// A column whose path leads nowhere stays empty, and nobody is told.
#[test]
fn every_column_shows_a_field_that_the_schema_has_and_as_what_it_is() {
    let mut seen = 0;
    for crd in manifests::crds() {
        for version in crd.spec.versions {
            let schema = version.schema.and_then(|schema| schema.open_api_v3_schema).expect("a schema");
            let schema = serde_json::to_value(schema).expect("it is JSON");
            for column in version.additional_printer_columns.into_iter().flatten() {
                seen += 1;
                let place = format!("{}: {} at {}", crd.spec.names.plural, column.name, column.json_path);
                // The API server knows these, and no definition says so.
                let shown = match column.json_path.as_str() {
                    ".metadata.creationTimestamp" => "date",
                    path => match named(&schema, path) {
                        Some(field) if field["format"] == "date-time" => "date",
                        Some(field) => field["type"].as_str().expect("a type"),
                        None => panic!("{place} is no field"),
                    },
                };
                assert_eq!(column.type_, shown, "{place}");
            }
        }
    }
    assert!(seen > 50, "only {seen} columns were looked at");
}

/// The field that the path of a column names. What stands in brackets picks an item of a list by one of its fields.
fn named<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    let mut node = schema;
    let mut rest = path;
    while let Some(after) = rest.strip_prefix('.') {
        let end = after.find(['.', '[']).unwrap_or(after.len());
        node = node["properties"].get(&after[..end])?;
        rest = &after[end..];
        if let Some(filter) = rest.strip_prefix("[?(@.") {
            let (field, after) = filter.split_once("==")?;
            node = node.get("items")?;
            node["properties"].get(field)?;
            rest = after.split_once(")]")?.1;
        }
    }
    rest.is_empty().then_some(node)
}

impl Node<'_> {
    fn word(&self, key: &str) -> Option<&str> {
        self.schema.get(key)?.as_str()
    }

    fn has(&self, key: &str) -> bool {
        self.schema.contains_key(key)
    }
}

/// Shows every node of every schema to `law` and collects what it says.
fn check(law: impl Fn(&Node) -> Result<(), &'static str>) {
    let mut broken = Vec::new();
    let mut seen = 0;
    for (plural, root) in schemas() {
        walk(plural, &root, false, &mut |node| {
            seen += 1;
            broken.extend(law(node).err().map(|problem| format!("{} {problem}", node.path)));
        });
    }
    assert!(seen > 50, "only {seen} nodes were looked at");
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Plural and schema of every version of every kind.
pub fn schemas() -> Vec<(String, Value)> {
    let mut schemas = Vec::new();
    for crd in manifests::crds() {
        for version in crd.spec.versions {
            let schema = version
                .schema
                .and_then(|schema| schema.open_api_v3_schema)
                .expect("every version has a schema");
            schemas.push((crd.spec.names.plural.clone(), serde_json::to_value(schema).expect("it is JSON")));
        }
    }
    schemas
}

fn walk(path: String, schema: &Value, is_field: bool, visit: &mut impl FnMut(&Node)) {
    let Value::Object(fields) = schema else { return };
    for (name, field) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
        walk(format!("{path}.{name}"), field, true, visit);
    }
    for word in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get(word) {
            walk(format!("{path}[]"), inner, false, visit);
        }
    }
    visit(&Node { path, schema: fields, is_field });
}
