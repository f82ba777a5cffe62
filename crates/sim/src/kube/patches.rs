//! `PATCH`: JSON patch, merge patch, strategic merge patch and server-side apply.
//!
//! The arithmetic is in `patch` and `apply`; storing is in `write`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::apply::{self, ApplyError, Manager, Operation};
use super::body;
use super::call::{Call, Outcome};
use super::kinds::Resource;
use super::metadata;
use super::options::{FieldValidation, WriteOptions};
use super::patch::{self, PatchError};
use super::read::served;
use super::state::State;
use super::status::{MODIFIED, Refusal, go_quoted, invalid_value};
use super::strict;
use super::write::{self, Managed};

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// `PATCH` of any type.
pub fn patch(state: &mut State, call: &Call) -> Result<Outcome, Refusal> {
    let resource = call.resource();
    match call.content_type.as_str() {
        APPLY => server_side_apply(state, call),
        JSON_PATCH | MERGE_PATCH => change(state, call),
        STRATEGIC if !resource.custom => change(state, call),
        _ => {
            let strategic = if resource.custom { "" } else { "application/strategic-merge-patch+json, " };
            Err(Refusal::unsupported_media_type(&format!("{JSON_PATCH}, {MERGE_PATCH}, {strategic}{APPLY}")))
        }
    }
}

fn change(state: &mut State, call: &Call) -> Result<Outcome, Refusal> {
    let options = WriteOptions::parse("PatchOptions", &call.query, &call.agent, false)?;
    let resource = Arc::clone(call.resource());
    let name = &call.place.name;
    let key = metadata::key(&call.place.namespace, name);
    let live =
        state.store.get(&resource.store, &key).cloned().ok_or_else(|| Refusal::not_found(&resource, name))?;
    let decoded = strict::decode_json(&call.body).map_err(Refusal::bad_request)?;
    let mut object = served(&resource, &live);
    compute(&resource, &call.content_type, &mut object, &decoded.value)?;
    check_identity(&resource, &object, &live)?;
    body::admit(&resource, &object)?;
    let unknown = body::clean(&resource, &mut object);
    let problems: Vec<String> =
        decoded.duplicates.into_iter().chain(unknown.iter().map(|path| body::unknown_field(path))).collect();
    let warnings = match options.field_validation {
        FieldValidation::Strict if !problems.is_empty() => {
            let why = format!("strict decoding error: {}", problems.join(", "));
            let shown = go_quoted(&String::from_utf8_lossy(&call.body));
            return Err(Refusal::invalid("", "", "", &[invalid_value("patch", &shown, &why)]));
        }
        FieldValidation::Warn => problems,
        _ => Vec::new(),
    };
    write::check_namespace(call, &mut object)?;
    write::replace(state, call, &live, object, &options, warnings, Managed::Update)
}

fn compute(resource: &Resource, kind: &str, object: &mut Value, wanted: &Value) -> Result<(), Refusal> {
    match kind {
        JSON_PATCH => patch::json_patch(object, wanted).map_err(|error| match error {
            PatchError::Malformed(why) => Refusal::bad_request(why),
            PatchError::TooLarge(_) => Refusal::new(413, "RequestEntityTooLarge", error.to_string()),
            PatchError::Failed(_) => {
                let words = "the server rejected our request due to an error in our request";
                Refusal { details: Some(json!({})), ..Refusal::new(422, "Invalid", words) }
            }
        }),
        STRATEGIC => patch::strategic_merge(&resource.schema, object, wanted).map_err(Refusal::bad_request),
        _ if !wanted.is_object() => {
            Err(Refusal::bad_request("json: cannot unmarshal the patch into an object"))
        }
        _ => {
            patch::merge_patch(object, wanted);
            Ok(())
        }
    }
}

/// A patch may change neither kind nor name.
fn check_identity(resource: &Resource, object: &Value, live: &Value) -> Result<(), Refusal> {
    let (kind, version) = (object["kind"].as_str().unwrap_or_default(), resource.api_version());
    if kind != resource.kind || object["apiVersion"] != json!(version) {
        let found = object["apiVersion"].as_str().unwrap_or_default();
        return Err(Refusal::bad_request(format!("invalid object type: {found}, Kind={kind}")));
    }
    let (new, old) = (metadata::text(object, "name"), metadata::text(live, "name"));
    if new != old {
        let cause = invalid_value("metadata.name", &go_quoted(new), "field is immutable");
        return Err(Refusal::invalid(&resource.group, &resource.kind, old, &[cause]));
    }
    Ok(())
}

fn server_side_apply(state: &mut State, call: &Call) -> Result<Outcome, Refusal> {
    let options = WriteOptions::parse("PatchOptions", &call.query, &call.agent, true)?;
    let resource = Arc::clone(call.resource());
    let (mut applied, warnings) = applied_object(call, &options)?;
    check_applied(call, &applied)?;
    let key = metadata::key(&call.place.namespace, &call.place.name);
    let live = state.store.get(&resource.store, &key).cloned();
    if live.is_none() && !call.place.subresource.is_empty() {
        return Err(Refusal::not_found(&resource, &call.place.name));
    }
    let uid = metadata::text(&applied, "uid");
    if !uid.is_empty() && live.as_deref().is_none_or(|live| metadata::text(live, "uid") != uid) {
        let cause = invalid_value("metadata.uid", &go_quoted(uid), "field is immutable");
        return Err(Refusal::invalid(&resource.group, &resource.kind, &call.place.name, &[cause]));
    }
    let asked = metadata::text(&applied, "resourceVersion");
    if let Some(live) = &live
        && !asked.is_empty()
        && asked != metadata::text(live, "resourceVersion")
    {
        return Err(Refusal::conflict(&resource.group, &resource.plural, &call.place.name, MODIFIED));
    }
    strip_foreign_parts(&resource, &call.place.subresource, &mut applied);
    let view = live.as_ref().map(|live| served(&resource, live));
    let (version, time) = (resource.api_version(), call.time());
    let manager = Manager {
        name: &options.manager,
        operation: Operation::Apply,
        subresource: &call.place.subresource,
        api_version: &version,
        time: &time,
    };
    let merged = apply::apply(&resource.schema, view.as_ref(), &applied, &manager, options.force);
    let mut merged = merged.map_err(|error| match error {
        ApplyError::Conflict(causes, message) => Refusal::apply_conflict(&causes, message),
        ApplyError::Invalid(message) => Refusal::unexpected(message),
        ApplyError::Bad(400, message) => Refusal::bad_request(message),
        ApplyError::Bad(code, message) => Refusal::new(code, "", message),
    })?;
    body::admit(&resource, &merged)?;
    super::events::to_stored(&resource, &mut merged);
    metadata::normalize(&mut merged);
    write::check_namespace(call, &mut merged)?;
    match live {
        Some(live) => write::replace(state, call, &live, merged, &options, warnings, Managed::Applied),
        None => write::create_object(state, call, merged, &options, warnings, Managed::Applied),
    }
}

/// Decodes the applied configuration, with warnings about duplicate keys.
fn applied_object(call: &Call, options: &WriteOptions) -> Result<(Value, Vec<String>), Refusal> {
    let wrong = |why: String| Refusal::bad_request(format!("error decoding YAML: {why}"));
    let decoded = strict::decode_yaml(&call.body).map_err(wrong)?;
    if !decoded.value.is_object() {
        return Err(wrong("error converting YAML to JSON: the document is not an object".to_owned()));
    }
    match options.field_validation {
        FieldValidation::Strict if !decoded.duplicates.is_empty() => {
            let list = decoded.duplicates.join("\n  ");
            let words = "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:";
            Err(Refusal::bad_request(format!("{words}\n  {list}")))
        }
        FieldValidation::Ignore => Ok((decoded.value, Vec::new())),
        _ => Ok((decoded.value, decoded.duplicates)),
    }
}

fn check_applied(call: &Call, applied: &Value) -> Result<(), Refusal> {
    let resource = call.resource();
    let kind = applied["kind"].as_str().unwrap_or_default();
    let version = applied["apiVersion"].as_str().unwrap_or_default();
    if kind != resource.kind || version != resource.api_version() {
        let shown = if version.is_empty() { "/" } else { version };
        return Err(Refusal::bad_request(format!("invalid object type: {shown}, Kind={kind}")));
    }
    if !applied["metadata"]["managedFields"].is_null() {
        return Err(Refusal::bad_request("metadata.managedFields must be nil"));
    }
    metadata::check_types(applied).map_err(Refusal::bad_request)?;
    write::check_name(call, applied)?;
    // The configuration itself stays as the client wrote it: errors about it show what it says.
    write::check_namespace(call, &mut applied.clone())
}

/// Removes from an applied configuration what its path may not change, so that nobody comes to own it.
fn strip_foreign_parts(resource: &Resource, subresource: &str, applied: &mut Value) {
    let Some(map) = applied.as_object_mut() else { return };
    match subresource {
        "status" => {
            map.retain(|field, _| ["apiVersion", "kind", "metadata", "status"].contains(&field.as_str()));
            if let Some(fields) =
                map.get_mut("metadata").and_then(Value::as_object_mut).filter(|_| resource.custom)
            {
                fields.retain(|field, _| {
                    ["name", "namespace", "uid", "resourceVersion"].contains(&field.as_str())
                });
            }
        }
        _ if resource.has_status => drop(map.remove("status")),
        _ => {}
    }
}
