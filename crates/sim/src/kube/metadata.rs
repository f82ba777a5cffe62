//! Object metadata: its types, its clean-up at the door, its validation on create and on update.
//!
//! managedFields are only carried here; `apply` works on them.

use serde_json::{Map, Value, json};

use super::kinds::Resource;
use super::names;
use super::schema::Cause;
use super::status::{forbidden_value, go_quoted, invalid_value, required_value};

/// All annotations together, in bytes.
const ANNOTATION_BYTES_MAX: usize = 256 * 1024;

/// Finalizers of the API server itself, which need no domain.
const FINALIZERS_BUILTIN: &[&str] = &["orphan", "foregroundDeletion", "kubernetes"];

/// Fields of ObjectMeta and the JSON type of each.
const FIELDS: &[(&str, &str)] = &[
    ("name", "string"),
    ("generateName", "string"),
    ("namespace", "string"),
    ("selfLink", "string"),
    ("uid", "string"),
    ("resourceVersion", "string"),
    ("generation", "int64"),
    ("creationTimestamp", "time"),
    ("deletionTimestamp", "time"),
    ("deletionGracePeriodSeconds", "int64"),
    ("labels", "strings"),
    ("annotations", "strings"),
    ("ownerReferences", "objects"),
    ("finalizers", "list"),
    ("managedFields", "objects"),
];

/// A text field of the metadata, empty if it is missing.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// The finalizers.
pub fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether the object is being deleted.
pub fn is_terminating(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// Key of an object in its store.
pub fn key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

/// Checks the JSON types of the metadata, in the words of Go's decoder.
pub fn check_types(object: &Value) -> Result<(), String> {
    let metadata = match &object["metadata"] {
        Value::Null => return Ok(()),
        Value::Object(metadata) => metadata,
        other => return Err(mismatch(other, "ObjectMeta", "v1.ObjectMeta")),
    };
    for (field, kind) in FIELDS {
        let value = metadata.get(*field).unwrap_or(&Value::Null);
        let path = format!("ObjectMeta.metadata.{field}");
        match (*kind, value) {
            (_, Value::Null) => {}
            ("string", value) if !value.is_string() => return Err(mismatch(value, &path, "string")),
            ("time", value) if !value.is_string() => return Err(mismatch(value, &path, "Time")),
            ("int64", value) if value.as_i64().is_none() => return Err(mismatch(value, &path, "int64")),
            ("strings", Value::Object(map)) => {
                if let Some(value) = map.values().find(|value| !value.is_string() && !value.is_null()) {
                    return Err(mismatch(value, &path, "string"));
                }
            }
            ("strings", value) => return Err(mismatch(value, &path, "map[string]string")),
            ("list", Value::Array(list)) => {
                if let Some(value) = list.iter().find(|value| !value.is_string()) {
                    return Err(mismatch(value, &path, "string"));
                }
            }
            ("list", value) => return Err(mismatch(value, &path, "[]string")),
            ("objects", Value::Array(list)) => {
                if let Some(value) = list.iter().find(|value| !value.is_object()) {
                    return Err(mismatch(value, &path, "v1.OwnerReference"));
                }
            }
            ("objects", value) => return Err(mismatch(value, &path, "[]v1.OwnerReference")),
            _ => {}
        }
    }
    Ok(())
}

fn mismatch(value: &Value, path: &str, expected: &str) -> String {
    let found = match value {
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        _ => "object",
    };
    format!("json: cannot unmarshal {found} into Go struct field {path} of type {expected}")
}

/// Drops unknown fields of the metadata and returns their paths.
pub fn prune(object: &mut Value) -> Vec<String> {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return Vec::new() };
    let known = |field: &str| FIELDS.iter().any(|(name, _)| *name == field);
    let unknown: Vec<String> = metadata.keys().filter(|field| !known(field)).cloned().collect();
    unknown.iter().for_each(|field| drop(metadata.remove(field)));
    unknown.into_iter().map(|field| format!("metadata.{field}")).collect()
}

/// Drops nulls and empty values, which the typed form of the metadata cannot hold. managedFields stay: an
/// empty list and a list of one empty entry mean something.
pub fn normalize(object: &mut Value) {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    metadata.retain(|field, value| {
        field == "managedFields" && !value.is_null()
            || !is_blank(value)
            || field == "deletionGracePeriodSeconds" && !value.is_null()
    });
    for field in ["labels", "annotations"] {
        for value in
            metadata.get_mut(field).and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut)
        {
            if value.is_null() {
                *value = json!("");
            }
        }
    }
    for owner in metadata.get_mut("ownerReferences").and_then(Value::as_array_mut).into_iter().flatten() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].is_null() {
                owner[field] = json!("");
            }
        }
    }
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Bool(_) => false,
    }
}

/// Removes what only the server may set on a new object.
pub fn strip_for_create(object: &mut Value) {
    let owned = [
        "uid",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "resourceVersion",
    ];
    if let Some(metadata) = object["metadata"].as_object_mut() {
        owned.iter().for_each(|field| drop(metadata.remove(*field)));
    }
}

/// Takes over from the live object what a client may not change.
pub fn keep_from_live(object: &mut Value, live: &Value) {
    let kept = [
        "name",
        "namespace",
        "uid",
        "generateName",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "generation",
        "resourceVersion",
    ];
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    for field in kept {
        match live["metadata"].get(field) {
            Some(value) => drop(metadata.insert(field.to_owned(), value.clone())),
            None => drop(metadata.remove(field)),
        }
    }
}

/// Warnings about finalizers that lack a domain.
pub fn finalizer_warnings(object: &Value) -> Vec<String> {
    let plain =
        finalizers(object).into_iter().filter(|one| !one.contains('/') && !FINALIZERS_BUILTIN.contains(one));
    let why =
        "prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers";
    plain.map(|one| format!("metadata.finalizers: {}: {why}", go_quoted(one))).collect()
}

/// Errors of the metadata of a new object, the name already generated.
pub fn validate_new(resource: &Resource, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let (name, generate) = (text(object, "name"), text(object, "generateName"));
    if !generate.is_empty() {
        let prefix = masked(generate);
        causes.extend(
            name_errors(resource, &prefix)
                .iter()
                .map(|why| invalid_value("metadata.generateName", &go_quoted(generate), why)),
        );
    }
    if name.is_empty() {
        causes.push(required_value("metadata.name", "name or generateName is required"));
    } else {
        causes.extend(
            name_errors(resource, name)
                .iter()
                .map(|why| invalid_value("metadata.name", &go_quoted(name), why)),
        );
    }
    causes.extend(validate_common(object));
    causes
}

/// Errors of the metadata of a changed object.
pub fn validate_changed(object: &Value, live: &Value) -> Vec<Cause> {
    let mut causes = validate_common(object);
    if is_terminating(live) {
        let old = finalizers(live);
        let mut new: Vec<&str> = finalizers(object).into_iter().filter(|one| !old.contains(one)).collect();
        new.sort_unstable();
        new.dedup();
        if !new.is_empty() {
            let list = new.iter().map(|one| go_quoted(one)).collect::<Vec<_>>().join(", ");
            let why = "no new finalizers can be added if the object is being deleted, found new finalizers";
            causes.push(forbidden_value("metadata.finalizers", &format!("{why} []string{{{list}}}")));
        }
    }
    causes
}

/// A prefix may end in a dash, which a name may not.
fn masked(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(stem) if !stem.is_empty() => format!("{stem}a"),
        _ => prefix.to_owned(),
    }
}

fn name_errors(resource: &Resource, name: &str) -> Vec<String> {
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Namespace") => names::label(name),
        ("", "Service") => names::label_1035(name),
        ("rbac.authorization.k8s.io", _) => names::path_segment(name),
        _ => names::subdomain(name, "characters"),
    }
}

/// Errors of labels, annotations, owners and finalizers; those of embedded resources as well.
pub fn validate_common(object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let entries = |field: &str| object["metadata"][field].as_object().into_iter().flatten();
    for (key, value) in entries("labels") {
        let value = value.as_str().unwrap_or_default();
        causes.extend(
            names::qualified_name(key)
                .iter()
                .map(|why| invalid_value("metadata.labels", &go_quoted(key), why)),
        );
        causes.extend(
            names::label_value(value)
                .iter()
                .map(|why| invalid_value("metadata.labels", &go_quoted(value), why)),
        );
    }
    let mut bytes = 0;
    for (key, value) in entries("annotations") {
        bytes += key.len() + value.as_str().unwrap_or_default().len();
        let errors = names::qualified_name(&key.to_lowercase());
        causes.extend(errors.iter().map(|why| invalid_value("metadata.annotations", &go_quoted(key), why)));
    }
    if bytes > ANNOTATION_BYTES_MAX {
        causes.push(super::status::too_long("metadata.annotations", ANNOTATION_BYTES_MAX));
    }
    causes.extend(owner_causes(object));
    let names = finalizers(object);
    for name in &names {
        causes.extend(
            names::qualified_name(name)
                .iter()
                .map(|why| invalid_value("metadata.finalizers", &go_quoted(name), why)),
        );
    }
    if names.contains(&"orphan") && names.contains(&"foregroundDeletion") {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        causes.push(invalid_value("metadata.finalizers", "[]string", why));
    }
    causes
}

fn owner_causes(object: &Value) -> Vec<Cause> {
    let owners: Vec<&Value> =
        object["metadata"]["ownerReferences"].as_array().into_iter().flatten().collect();
    let field = "metadata.ownerReferences";
    let mut causes = Vec::new();
    let mut controller: Option<&Value> = None;
    for owner in &owners {
        let inner = |name: &str| owner[name].as_str().unwrap_or_default();
        if inner("apiVersion").is_empty() {
            causes.push(invalid_value(&format!("{field}.apiVersion"), "\"\"", "version must not be empty"));
        }
        for name in ["kind", "name", "uid"] {
            if inner(name).is_empty() {
                causes.push(invalid_value(&format!("{field}.{name}"), "\"\"", "must not be empty"));
            }
        }
        if inner("apiVersion") == "v1" && inner("kind") == "Event" {
            let why = "/v1, Kind=Event is disallowed from being an owner";
            causes.push(invalid_value(field, &owner_json(owner), why));
        }
        if owner["controller"] == json!(true) {
            if let Some(first) = controller {
                let list = owners.iter().map(|one| owner_json(one)).collect::<Vec<_>>().join(",");
                let names = |one: &Value| {
                    format!(
                        "{}/{}",
                        one["kind"].as_str().unwrap_or_default(),
                        one["name"].as_str().unwrap_or_default()
                    )
                };
                let why = format!(
                    "Only one reference can have Controller set to true. \
                     Found \"true\" in references for {} and {}",
                    names(first),
                    names(owner)
                );
                causes.push(invalid_value(field, &format!("[{list}]"), &why));
            }
            controller = Some(owner);
        }
    }
    causes
}

/// An owner reference with its fields in the order of the Go type, as messages print it.
fn owner_json(owner: &Value) -> String {
    let fields = ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
    let present = fields.iter().filter(|field| !owner[**field].is_null());
    let parts: Vec<String> = present.map(|field| format!("\"{field}\":{}", owner[*field])).collect();
    format!("{{{}}}", parts.join(","))
}
