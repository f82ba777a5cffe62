//! CustomResourceDefinitions: their defaults, their validation, their conditions, and the kinds that follow
//! from them.
//!
//! No conversion between versions beyond the apiVersion, no webhooks.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::builtin::{DEFINITIONS, pointer};
use super::kinds::{Resource, Selectable, VERBS_CUSTOM, version_rank};
use super::metadata;
use super::names;
use super::schema::{Cause, Schema};
use super::status::{cause, go_quoted, invalid_value, qualified, required_value, unsupported_value};
use super::store::Store;
use super::table::crd_columns;

/// Finalizer that keeps a definition until its objects are gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Fills in what the real server derives from the rest of the spec.
pub fn complete(definition: &mut Value) {
    let spec = &mut definition["spec"];
    if !spec.is_object() {
        return;
    }
    let kind = spec["names"]["kind"].as_str().unwrap_or_default().to_owned();
    if spec["names"].is_object() {
        if spec["names"]["singular"].as_str().unwrap_or_default().is_empty() {
            spec["names"]["singular"] = json!(kind.to_lowercase());
        }
        if spec["names"]["listKind"].as_str().unwrap_or_default().is_empty() && !kind.is_empty() {
            spec["names"]["listKind"] = json!(format!("{kind}List"));
        }
    }
    if spec["conversion"].is_null() {
        spec["conversion"] = json!({ "strategy": "None" });
    }
}

/// Errors of a definition besides those of its metadata.
pub fn validate(definition: &Value) -> Vec<Cause> {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    let mut causes = Vec::new();
    if group.is_empty() {
        causes.push(required_value("spec.group", ""));
    } else if !group.contains('.') {
        causes.push(invalid_value(
            "spec.group",
            &go_quoted(&group),
            "should be a domain with at least one dot",
        ));
    } else {
        causes.extend(
            names::subdomain(&group, "bytes")
                .iter()
                .map(|why| invalid_value("spec.group", &go_quoted(&group), why)),
        );
    }
    match spec["scope"].as_str() {
        Some("Namespaced" | "Cluster") => {}
        None | Some("") => causes.push(required_value("spec.scope", "")),
        Some(other) => {
            causes.push(unsupported_value("spec.scope", &go_quoted(other), &["Cluster", "Namespaced"]))
        }
    }
    for field in ["plural", "singular", "kind", "listKind"] {
        let name = text(&spec["names"][field]);
        let path = format!("spec.names.{field}");
        if name.is_empty() {
            causes.push(required_value(&path, ""));
        } else {
            let errors = names::label_1035(&name.to_lowercase());
            causes.extend(errors.iter().map(|why| invalid_value(&path, &go_quoted(&name), why)));
        }
    }
    let name = metadata::text(definition, "name");
    if !group.is_empty() && !plural.is_empty() && name != qualified(&group, &plural) {
        causes.push(invalid_value(
            "metadata.name",
            &go_quoted(name),
            "must be spec.names.plural+\".\"+spec.group",
        ));
    }
    causes.extend(validate_versions(&spec["versions"]));
    causes
}

/// What an update may not change: the place of the objects, and once they can exist also their kind.
pub fn validate_changed(definition: &Value, live: &Value) -> Vec<Cause> {
    let mut fixed = vec!["/spec/group", "/spec/names/plural"];
    if is_established(live) {
        fixed.extend(["/spec/scope", "/spec/names/kind"]);
    }
    let changed = fixed.into_iter().filter(|pointer| definition.pointer(pointer) != live.pointer(pointer));
    let words = |pointer: &str| {
        let value = definition.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        invalid_value(&pointer[1..].replace('/', "."), &go_quoted(value), "field is immutable")
    };
    changed.map(words).collect()
}

fn is_established(definition: &Value) -> bool {
    let conditions = definition["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|one| one["type"] == "Established" && one["status"] == "True")
}

fn validate_versions(versions: &Value) -> Vec<Cause> {
    let versions: &[Value] = versions.as_array().map_or(&[], Vec::as_slice);
    let mut causes = Vec::new();
    let stored = versions.iter().filter(|version| version["storage"] == json!(true)).count();
    if stored != 1 {
        let why = "must have exactly one version marked as storage version";
        causes.push(invalid_value("spec.versions", &json!(versions).to_string(), why));
    }
    let mut seen = BTreeSet::new();
    for (place, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{place}]");
        let name = version["name"].as_str().unwrap_or_default();
        let errors = names::label_1035(name);
        causes.extend(errors.iter().map(|why| invalid_value(&format!("{path}.name"), &go_quoted(name), why)));
        if !seen.insert(name) {
            let why = "must contain unique version names";
            causes.push(invalid_value("spec.versions", &json!(versions).to_string(), why));
        }
        let schema = &version["schema"]["openAPIV3Schema"];
        if schema.is_null() {
            causes.push(required_value(&format!("{path}.schema.openAPIV3Schema"), "schemas are required"));
            continue;
        }
        if let Err(errors) = Schema::compile(schema) {
            // The real server works on a form in which a schema that all share stands outside the versions.
            let prefix = match versions.len() {
                1 => "spec.validation.openAPIV3Schema".to_owned(),
                _ => format!("{path}.schema.openAPIV3Schema"),
            };
            causes.extend(
                errors.into_iter().map(|error| Cause { field: below(&prefix, &error.field), ..error }),
            );
        }
        let fields = version["selectableFields"].as_array().into_iter().flatten();
        for (number, field) in fields.enumerate() {
            let json_path = field["jsonPath"].as_str().unwrap_or_default();
            if !is_selectable(schema, json_path) {
                let path = format!("{path}.selectableFields[{number}].jsonPath");
                let why = "must point to a field of type string, boolean or integer. \
                           Enum string fields and strings with formats are allowed.";
                causes.push(cause(
                    "FieldValueInvalid",
                    &path,
                    format!("Invalid value: {}: {why}", go_quoted(json_path)),
                ));
            }
        }
    }
    causes
}

/// Paths of schema errors are relative to the schema.
fn below(prefix: &str, field: &str) -> String {
    if field.is_empty() { prefix.to_owned() } else { format!("{prefix}.{field}") }
}

fn is_selectable(schema: &Value, json_path: &str) -> bool {
    if !json_path.starts_with('.') {
        return false;
    }
    let found = json_path[1..].split('.').fold(schema, |at, step| &at["properties"][step]);
    ["string", "boolean", "integer"].into_iter().any(|kind| found["type"] == json!(kind))
}

/// What the naming and establishing controllers of a real cluster write into the status, or nothing if it is
/// there.
pub fn settle(store: &Store, definition: &Value) -> Option<Value> {
    let spec = &definition["spec"];
    let conflict = naming_conflict(store, definition);
    let (accepted, reason, message) = match &conflict {
        None => ("True", "NoConflicts", "no conflicts found".to_owned()),
        Some((reason, message)) => ("False", *reason, message.clone()),
    };
    let established = match conflict {
        None => ("True", "InitialNamesAccepted", "the initial names have been accepted"),
        Some(_) => ("False", "NotAccepted", "not all names are accepted"),
    };
    let mut new = definition.clone();
    let status = &mut new["status"];
    set_condition(status, "NamesAccepted", accepted, reason, &message, definition);
    set_condition(status, "Established", established.0, established.1, established.2, definition);
    if metadata::is_terminating(definition) {
        let why = "CustomResource deletion is in progress";
        set_condition(status, "Terminating", "True", "InstanceDeletionInProgress", why, definition);
    }
    if accepted == "True" {
        status["acceptedNames"] = spec["names"].clone();
    } else if status["acceptedNames"].is_null() {
        status["acceptedNames"] = json!({ "plural": "", "kind": "" });
    }
    let stored =
        spec["versions"].as_array().into_iter().flatten().find(|version| version["storage"] == json!(true));
    let mut versions: Vec<Value> = status["storedVersions"].as_array().cloned().unwrap_or_default();
    if let Some(name) = stored.map(|version| version["name"].clone()).filter(|name| !versions.contains(name))
    {
        versions.push(name);
    }
    status["storedVersions"] = json!(versions);
    (new != *definition).then_some(new)
}

fn set_condition(
    status: &mut Value,
    kind: &str,
    value: &str,
    reason: &str,
    message: &str,
    definition: &Value,
) {
    let fresh = json!({
        "type": kind, "status": value, "reason": reason, "message": message,
        "lastTransitionTime": transition_time(definition),
    });
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let Some(list) = status["conditions"].as_array_mut() else { return };
    match list.iter_mut().find(|condition| condition["type"] == json!(kind)) {
        Some(old) if old["status"] == json!(value) && old["reason"] == json!(reason) => {}
        Some(old) => *old = fresh,
        None => list.push(fresh),
    }
}

/// Conditions settle in the moment of the write, whose time the youngest managedFields entry or the object
/// carries.
fn transition_time(definition: &Value) -> Value {
    let entries = definition["metadata"]["managedFields"].as_array().into_iter().flatten();
    let times = entries.filter_map(|entry| entry["time"].as_str());
    let created = definition["metadata"]["creationTimestamp"].as_str();
    json!(times.chain(created).max().unwrap_or_default())
}

/// A name that another definition of the same group already holds; of several the last, like the real
/// controller.
fn naming_conflict(store: &Store, definition: &Value) -> Option<(&'static str, String)> {
    let name = metadata::text(definition, "name");
    let ours = &definition["spec"]["names"];
    let (mut words_taken, mut kinds_taken) = (Vec::new(), Vec::new());
    for (_, other) in store.list(DEFINITIONS, "") {
        if metadata::text(&other, "name") == name || other["spec"]["group"] != definition["spec"]["group"] {
            continue;
        }
        let theirs = &other["status"]["acceptedNames"];
        words_taken.extend([theirs["plural"].clone(), theirs["singular"].clone()]);
        words_taken.extend(theirs["shortNames"].as_array().into_iter().flatten().cloned());
        kinds_taken.extend([theirs["kind"].clone(), theirs["listKind"].clone()]);
    }
    let short = ours["shortNames"].as_array().into_iter().flatten();
    let words = [("PluralConflict", &ours["plural"]), ("SingularConflict", &ours["singular"])];
    let words = words.into_iter().chain(short.map(|name| ("ShortNamesConflict", name)));
    let kinds = [("KindConflict", &ours["kind"]), ("ListKindConflict", &ours["listKind"])];
    let words = words.filter(|(_, name)| name.is_string() && words_taken.contains(name));
    let kinds = kinds.into_iter().filter(|(_, name)| name.is_string() && kinds_taken.contains(name));
    let (reason, name) = words.chain(kinds).last()?;
    Some((reason, format!("{} is already in use", go_quoted(name.as_str().unwrap_or_default()))))
}

/// The kinds that an established definition serves, one for each served version.
pub fn resources(definition: &Value) -> Vec<Resource> {
    if !is_established(definition) {
        return Vec::new();
    }
    let mut versions: Vec<&Value> = definition["spec"]["versions"].as_array().into_iter().flatten().collect();
    versions.retain(|version| version["served"] == json!(true));
    versions
        .sort_by_key(|version| std::cmp::Reverse(version_rank(version["name"].as_str().unwrap_or_default())));
    versions.into_iter().filter_map(|version| resource(definition, version)).collect()
}

fn resource(definition: &Value, version: &Value) -> Option<Resource> {
    let (spec, names) = (&definition["spec"], &definition["status"]["acceptedNames"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
    let schema = &version["schema"]["openAPIV3Schema"];
    let compiled = match Schema::compile(schema) {
        Ok(compiled) => compiled,
        Err(causes) => {
            tracing::error!(
                name = metadata::text(definition, "name"),
                ?causes,
                "a stored schema does not compile"
            );
            return None;
        }
    };
    let fields =
        version["selectableFields"].as_array().into_iter().flatten().map(|field| text(&field["jsonPath"]));
    let (group, plural) = (text(&spec["group"]), text(&names["plural"]));
    Some(Resource {
        version: text(&version["name"]),
        singular: text(&names["singular"]),
        kind: text(&names["kind"]),
        list_kind: text(&names["listKind"]),
        namespaced: spec["scope"] == "Namespaced",
        custom: true,
        short_names: list(&names["shortNames"]),
        categories: list(&names["categories"]),
        verbs: VERBS_CUSTOM,
        has_status: version["subresources"]["status"].is_object(),
        has_generation: true,
        store: qualified(&group, &plural).into(),
        columns: crd_columns(version.get("additionalPrinterColumns")),
        selectable: fields
            .map(|path| Selectable {
                label: path.trim_start_matches('.').to_owned(),
                pointer: pointer(&path),
            })
            .collect(),
        schema: compiled.with_status_subresource(version["subresources"]["status"].is_object()),
        definition: Some(schema.clone()),
        terminating: metadata::is_terminating(definition),
        group,
        plural,
    })
}
