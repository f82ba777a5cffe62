//! Create, update and the common end of every patch: admission, defaults, validation, field managers,
//! storage.
//!
//! Decoding is done before (`body`), patches are computed in `patches`; this room decides what is stored.

use std::sync::Arc;

use rand::RngExt;
use serde_json::{Value, json};

use super::apply::{self, Manager, Operation};
use super::body;
use super::builtin;
use super::call::{Answer, Call, Outcome};
use super::definitions;
use super::kinds::Resource;
use super::metadata;
use super::options::{WriteOptions, version_missing};
use super::schema::{Cause, Scope};
use super::state::State;
use super::status::{MODIFIED, Refusal, cause, go_quoted, invalid_value};

/// Letters of generated names, chosen by Kubernetes so that no word comes out.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Length of the random end of a generated name.
const SUFFIX_LENGTH: usize = 5;
/// Length of a generated name.
const GENERATED_LENGTH_MAX: usize = 63;
/// Tries to find a generated name that is free.
const GENERATE_TRIES_MAX: usize = 8;

/// How the managedFields of a write come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Managed {
    /// The difference to the live object belongs to the client.
    Update,
    /// Server-side apply has already written them.
    Applied,
}

/// `POST`.
pub fn create(state: &mut State, call: &Call) -> Result<Outcome, Refusal> {
    let options = WriteOptions::parse("CreateOptions", &call.query, &call.agent, false)?;
    let (mut object, warnings) = body::object(call, &options)?;
    if call.resource().is("authorization.k8s.io", "SelfSubjectAccessReview") {
        return Ok(review(object));
    }
    check_namespace(call, &mut object)?;
    create_object(state, call, object, &options, warnings, Managed::Update)
}

/// `PUT`.
pub fn update(state: &mut State, call: &Call) -> Result<Outcome, Refusal> {
    let options = WriteOptions::parse("UpdateOptions", &call.query, &call.agent, false)?;
    let (mut object, warnings) = body::object(call, &options)?;
    check_name(call, &object)?;
    check_namespace(call, &mut object)?;
    let resource = call.resource();
    let key = metadata::key(&call.place.namespace, &call.place.name);
    let Some(live) = state.store.get(&resource.store, &key).cloned() else {
        if resource.is("coordination.k8s.io", "Lease") && call.place.subresource.is_empty() {
            return create_object(state, call, object, &options, warnings, Managed::Update);
        }
        return Err(Refusal::not_found(resource, &call.place.name));
    };
    replace(state, call, &live, object, &options, warnings, Managed::Update)
}

/// Access reviews are always allowed: this server has no users.
fn review(mut object: Value) -> Outcome {
    object["metadata"] = json!({});
    object["status"] = json!({ "allowed": true, "reason": "every client of this server may do everything" });
    Outcome { code: 201, answer: Answer::Plain(object), warnings: Vec::new(), unchanged: false }
}

/// The name in the body must be there and be that of the path.
pub fn check_name(call: &Call, object: &Value) -> Result<(), Refusal> {
    let (name, path) = (metadata::text(object, "name"), &call.place.name);
    match name {
        "" => Err(Refusal::bad_request(format!(
            "the name of the object ({path} based on URL) was undeterminable: name must be provided"
        ))),
        name if name != path => Err(Refusal::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({path})"
        ))),
        _ => Ok(()),
    }
}

/// The namespace in the body is filled in from the path, and must not contradict it.
pub fn check_namespace(call: &Call, object: &mut Value) -> Result<(), Refusal> {
    let namespace = metadata::text(object, "namespace");
    if !call.resource().namespaced {
        if let Some(fields) = object["metadata"].as_object_mut() {
            fields.remove("namespace");
        }
        return Ok(());
    }
    if !namespace.is_empty() && namespace != call.place.namespace {
        let words = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Refusal::bad_request(words));
    }
    object["metadata"]["namespace"] = json!(call.place.namespace);
    Ok(())
}

/// Admits, completes, validates and stores a new object in its stored form.
pub fn create_object(
    state: &mut State,
    call: &Call,
    mut object: Value,
    options: &WriteOptions,
    mut warnings: Vec<String>,
    managed: Managed,
) -> Result<Outcome, Refusal> {
    let resource = Arc::clone(call.resource());
    let numbered = managed == Managed::Update && !metadata::text(&object, "resourceVersion").is_empty();
    metadata::strip_for_create(&mut object);
    admit_namespace(state, call, &object)?;
    if resource.terminating {
        return Err(Refusal::method_not_allowed(
            &resource,
            "create not allowed while custom resource definition is terminating: create",
        ));
    }
    if metadata::text(&object, "name").is_empty() && !metadata::text(&object, "generateName").is_empty() {
        object["metadata"]["name"] = json!(generate_name(state, call, &object));
    }
    let name = metadata::text(&object, "name").to_owned();
    if resource.custom {
        if resource.has_status {
            object.as_object_mut().map(|map| map.remove("status"));
        }
    } else {
        builtin::complete_new(&resource, &mut object, &name);
    }
    fill_in(&resource, &mut object, managed);
    validate(&resource, &object, None, Scope::Whole)?;
    if numbered {
        return Err(Refusal::unexpected("resourceVersion should not be set on objects to be created"));
    }
    let key = metadata::key(&call.place.namespace, &name);
    if let Some(live) = state.store.get(&resource.store, &key) {
        let prefix = if metadata::is_terminating(live) { "object is being deleted: " } else { "" };
        return Err(Refusal::already_exists(&resource, &name, prefix));
    }
    object["metadata"]["uid"] = json!(random_uid());
    object["metadata"]["creationTimestamp"] = json!(call.time());
    if resource.has_generation {
        object["metadata"]["generation"] = json!(1);
    }
    if managed == Managed::Update {
        object["metadata"].as_object_mut().map(|fields| fields.remove("managedFields"));
        track(call, &resource, None, &mut object, options);
    }
    warnings.extend(metadata::finalizer_warnings(&object));
    let stored = match options.dry_run {
        true => Arc::new(object),
        false => state.save(&resource, &key, object)?,
    };
    Ok(Outcome::object(201, stored, warnings))
}

/// Validates and stores the new state of a live object, both in their stored form.
pub fn replace(
    state: &mut State,
    call: &Call,
    live: &Arc<Value>,
    mut object: Value,
    options: &WriteOptions,
    mut warnings: Vec<String>,
    managed: Managed,
) -> Result<Outcome, Refusal> {
    let resource = Arc::clone(call.resource());
    check_uid(&resource, live, &object, managed)?;
    check_version(&resource, live, &object, managed)?;
    isolate(&resource, &call.place.subresource, &mut object, live);
    metadata::keep_from_live(&mut object, live);
    if !resource.custom {
        builtin::complete(&resource, &mut object);
    }
    fill_in(&resource, &mut object, managed);
    let scope = if call.place.subresource == "status" { Scope::Status } else { Scope::Whole };
    validate(&resource, &object, Some(live), scope)?;
    if resource.has_generation && !same_content(&resource, &object, live) {
        let generation = live["metadata"]["generation"].as_i64().unwrap_or(0);
        object["metadata"]["generation"] = json!(generation + 1);
    }
    if managed == Managed::Update {
        track(call, &resource, Some(live), &mut object, options);
    }
    let old_finalizers = metadata::finalizers(live);
    if metadata::finalizers(&object) != old_finalizers {
        warnings.extend(metadata::finalizer_warnings(&object));
    }
    if is_same(&object, live) {
        return Ok(Outcome { unchanged: true, ..Outcome::object(200, Arc::clone(live), warnings) });
    }
    if options.dry_run {
        return Ok(Outcome::object(200, Arc::new(object), warnings));
    }
    let key = metadata::key(&call.place.namespace, &call.place.name);
    if is_finished(&resource, &object) {
        state.erase(&resource, &key)?;
        return Ok(Outcome::object(200, Arc::new(object), warnings));
    }
    let stored = state.save(&resource, &key, object)?;
    Ok(Outcome::object(200, stored, warnings))
}

/// Whether a terminating object has lost its last finalizer.
fn is_finished(resource: &Resource, object: &Value) -> bool {
    let held = object["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
    metadata::is_terminating(object)
        && metadata::finalizers(object).is_empty()
        && !(resource.is("", "Namespace") && held)
}

/// No new objects in a namespace that is missing or going.
fn admit_namespace(state: &State, call: &Call, object: &Value) -> Result<(), Refusal> {
    let (resource, namespace) = (call.resource(), &call.place.namespace);
    if !resource.namespaced {
        return Ok(());
    }
    let Some(found) = state.store.get(builtin::NAMESPACES, namespace) else {
        let kind = state.registry.find("", "v1", builtin::NAMESPACES).cloned();
        return Err(kind.map_or_else(Refusal::no_such_path, |kind| Refusal::not_found(&kind, namespace)));
    };
    if !metadata::is_terminating(found) {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut refusal = Refusal::forbidden(resource, metadata::text(object, "name"), &why);
    if let Some(details) = &mut refusal.details {
        let message = format!("namespace {namespace} is being terminated");
        details["causes"] =
            json!([{ "reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace" }]);
    }
    Err(refusal)
}

fn check_uid(resource: &Resource, live: &Value, object: &Value, managed: Managed) -> Result<(), Refusal> {
    let (new, old) = (metadata::text(object, "uid"), metadata::text(live, "uid"));
    if new.is_empty() || new == old {
        return Ok(());
    }
    let name = metadata::text(live, "name");
    if managed == Managed::Applied {
        let cause = invalid_value("metadata.uid", &go_quoted(new), "field is immutable");
        return Err(Refusal::invalid(&resource.group, &resource.kind, name, &[cause]));
    }
    let why = format!("Precondition failed: UID in precondition: {new}, UID in object meta: {old}");
    Err(Refusal::conflict(&resource.group, &resource.plural, name, &why))
}

/// Compare-and-swap on resourceVersion. Custom kinds and Leases must name one in an update; apply never needs
/// to.
fn check_version(resource: &Resource, live: &Value, object: &Value, managed: Managed) -> Result<(), Refusal> {
    let (asked, current) =
        (metadata::text(object, "resourceVersion"), metadata::text(live, "resourceVersion"));
    let name = metadata::text(live, "name");
    if asked.is_empty() || asked == "0" {
        let demanded = resource.custom || resource.is("coordination.k8s.io", "Lease");
        return match demanded && managed == Managed::Update {
            true => Err(Refusal::invalid(&resource.group, &resource.plural, name, &[version_missing()])),
            false => Ok(()),
        };
    }
    if asked.parse::<u64>().is_err() {
        let words = format!("strconv.ParseUint: parsing {}: invalid syntax", go_quoted(asked));
        return Err(Refusal::unexpected(words));
    }
    match asked == current {
        true => Ok(()),
        false => Err(Refusal::conflict(&resource.group, &resource.plural, name, MODIFIED)),
    }
}

/// Defaults; nulls of an applied configuration stay and are refused by validation.
fn fill_in(resource: &Resource, object: &mut Value, managed: Managed) {
    match managed {
        Managed::Update => resource.schema.default(object),
        Managed::Applied => resource.schema.default_applied(object),
    }
}

/// Keeps the parts of the object that this path may not change as they are.
fn isolate(resource: &Resource, subresource: &str, object: &mut Value, live: &Value) {
    match subresource {
        "" if resource.has_status => copy_field(object, live, "status"),
        "status" => {
            let mut kept = live.clone();
            copy_field(&mut kept, object, "status");
            match resource.custom {
                true => {
                    let mut sent = json!({});
                    std::mem::swap(&mut sent, &mut object["metadata"]);
                    copy_field(&mut kept["metadata"], &sent, "managedFields");
                }
                false => kept["metadata"] = object["metadata"].take(),
            }
            *object = kept;
        }
        "finalize" => {
            let mut kept = live.clone();
            kept["spec"]["finalizers"] = object["spec"]["finalizers"].take();
            *object = kept;
        }
        _ => {}
    }
}

fn copy_field(to: &mut Value, from: &Value, field: &str) {
    let Some(map) = to.as_object_mut() else { return };
    match from.get(field) {
        Some(value) => drop(map.insert(field.to_owned(), value.clone())),
        None => drop(map.remove(field)),
    }
}

fn validate(resource: &Resource, object: &Value, live: Option<&Value>, scope: Scope) -> Result<(), Refusal> {
    let mut causes = match live {
        None => metadata::validate_new(resource, object),
        Some(live) => metadata::validate_changed(object, live),
    };
    let more = resource.schema.validate_after(&causes, object, live, scope);
    causes.extend(more);
    if resource.is("apiextensions.k8s.io", "CustomResourceDefinition") && scope == Scope::Whole {
        causes.extend(definitions::validate(object));
        causes.extend(live.into_iter().flat_map(|live| definitions::validate_changed(object, live)));
    }
    causes.extend(immutable_secret(resource, object, live));
    match causes.is_empty() {
        true => Ok(()),
        false => {
            Err(Refusal::invalid(&resource.group, &resource.kind, metadata::text(object, "name"), &causes))
        }
    }
}

/// The type of a Secret and an immutable Secret or ConfigMap cannot be changed.
fn immutable_secret(resource: &Resource, object: &Value, live: Option<&Value>) -> Vec<Cause> {
    let Some(live) = live else { return Vec::new() };
    let mut causes = Vec::new();
    if resource.is("", "Secret") && object["type"] != live["type"] {
        let value = go_quoted(object["type"].as_str().unwrap_or_default());
        causes.push(invalid_value("type", &value, "field is immutable"));
    }
    let holds_data = resource.is("", "Secret") || resource.is("", "ConfigMap");
    if holds_data && live["immutable"] == json!(true) {
        let why = "Forbidden: field is immutable when `immutable` is set";
        let changed =
            ["data", "binaryData", "immutable"].into_iter().filter(|field| object[*field] != live[*field]);
        causes.extend(changed.map(|field| cause("FieldValueForbidden", field, why.to_owned())));
    }
    causes
}

fn track(call: &Call, resource: &Resource, live: Option<&Value>, object: &mut Value, options: &WriteOptions) {
    let (version, time) = (resource.api_version(), call.time());
    let manager = Manager {
        name: &options.manager,
        operation: Operation::Update,
        subresource: &call.place.subresource,
        api_version: &version,
        time: &time,
    };
    apply::track_update(&resource.schema, live, object, &manager);
}

/// Whether two states differ in nothing but metadata (and status, where that is apart).
fn same_content(resource: &Resource, object: &Value, live: &Value) -> bool {
    let content = |value: &Value| {
        let mut content = value.clone();
        if let Some(map) = content.as_object_mut() {
            map.remove("metadata");
            map.remove("apiVersion");
            if resource.has_status {
                map.remove("status");
            }
        }
        content
    };
    content(object) == content(live)
}

/// Whether two states are equal but for the times of managedFields: then nothing is written.
fn is_same(object: &Value, live: &Value) -> bool {
    let timeless = |value: &Value| {
        let mut value = value.clone();
        let entries = value.pointer_mut("/metadata/managedFields").and_then(Value::as_array_mut);
        for entry in entries.into_iter().flatten().filter_map(Value::as_object_mut) {
            entry.remove("time");
        }
        value
    };
    object == live || timeless(object) == timeless(live)
}

fn generate_name(state: &State, call: &Call, object: &Value) -> String {
    let prefix = metadata::text(object, "generateName");
    let stem: String = prefix.chars().take(GENERATED_LENGTH_MAX - SUFFIX_LENGTH).collect();
    let mut name = String::new();
    for _ in 0..GENERATE_TRIES_MAX {
        let mut random = rand::rng();
        let letter = |_| char::from(LETTERS[random.random_range(0..LETTERS.len())]);
        name = format!("{stem}{}", (0..SUFFIX_LENGTH).map(letter).collect::<String>());
        let key = metadata::key(&call.place.namespace, &name);
        if state.store.get(&call.resource().store, &key).is_none() {
            break;
        }
    }
    name
}

/// A random UUID, version 4.
pub fn random_uid() -> String {
    let mut bytes: [u8; 16] = rand::random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
