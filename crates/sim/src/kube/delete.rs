//! Deletion: of one object, of a collection, with preconditions, finalizers and propagation.
//!
//! What follows for dependents, namespaces and custom kinds is done afterwards by the `collector`.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::body;
use super::builtin::DEFINITIONS;
use super::call::{Answer, Call, Outcome, stamp};
use super::definitions::CLEANUP;
use super::kinds::Resource;
use super::metadata;
use super::options::{DeleteOptions, Propagation};
use super::selector::Selector;
use super::state::State;
use super::status::{self, Refusal};

/// Namespaces that cannot be deleted.
const NAMESPACES_IMMORTAL: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

/// What became of an object that was to be removed.
#[derive(Clone, Debug)]
pub enum Removal {
    /// It is gone; this was its last state.
    Gone(Arc<Value>),
    /// It waits for its finalizers.
    Waiting(Arc<Value>),
}

/// `DELETE` of one object.
pub fn one(state: &mut State, call: &Call) -> Result<Outcome, Refusal> {
    let (resource, name) = (call.resource(), call.place.name.as_str());
    let options = options(call)?;
    let key = metadata::key(&call.place.namespace, name);
    let live =
        state.store.get(&resource.store, &key).cloned().ok_or_else(|| Refusal::not_found(resource, name))?;
    check_preconditions(resource, name, &live, &options)?;
    if resource.is("", "Namespace") && NAMESPACES_IMMORTAL.contains(&name) {
        return Err(Refusal::forbidden(resource, name, "this namespace may not be deleted"));
    }
    let removal = match options.dry_run {
        true => rehearse(resource, &live, options.propagation, call.now),
        false => remove(state, resource, &key, options.propagation, call.now)?,
    };
    Ok(match removal {
        Removal::Waiting(object) => {
            let unchanged = object == live;
            Outcome { unchanged, ..Outcome::object(200, object, Vec::new()) }
        }
        Removal::Gone(last) => {
            let answer = Answer::Plain(status::deleted(resource, name, metadata::text(&last, "uid")));
            Outcome { code: 200, answer, warnings: Vec::new(), unchanged: false }
        }
    })
}

/// `DELETE` of a collection. The answer shows the objects as they were before.
pub fn collection(state: &mut State, call: &Call) -> Result<Outcome, Refusal> {
    let resource = Arc::clone(call.resource());
    let options = options(call)?;
    let selector = Selector::parse(&call.query, &resource)?;
    let prefix =
        if call.place.namespace.is_empty() { String::new() } else { format!("{}/", call.place.namespace) };
    let mut found = state.store.list(&resource.store, &prefix);
    found.retain(|(_, object)| selector.matches(object));
    let metadata = json!({ "resourceVersion": state.store.revision().to_string() });
    if !options.dry_run {
        for (key, _) in &found {
            remove(state, &resource, key, options.propagation, call.now)?;
        }
    }
    let objects = found.into_iter().map(|(_, object)| object).collect();
    Ok(Outcome { code: 200, answer: Answer::List(objects, metadata), warnings: Vec::new(), unchanged: false })
}

/// Removes an object, or marks it if finalizers hold it back.
pub fn remove(
    state: &mut State,
    resource: &Resource,
    key: &str,
    policy: Option<Propagation>,
    now: Timestamp,
) -> Result<Removal, Refusal> {
    let Some(live) = state.store.get(&resource.store, key).cloned() else {
        return Err(Refusal::not_found(resource, key.rsplit('/').next().unwrap_or_default()));
    };
    match rehearse(resource, &live, policy, now) {
        Removal::Waiting(object) if object == live => Ok(Removal::Waiting(object)),
        Removal::Waiting(object) => {
            let object = Arc::unwrap_or_clone(object);
            Ok(Removal::Waiting(state.save(resource, key, object)?))
        }
        Removal::Gone(_) => Ok(Removal::Gone(state.erase(resource, key)?.unwrap_or(live))),
    }
}

/// What a removal would do to `live`, without doing it.
fn rehearse(resource: &Resource, live: &Arc<Value>, policy: Option<Propagation>, now: Timestamp) -> Removal {
    let mut finalizers: Vec<&str> = metadata::finalizers(live);
    if let Some(policy) = policy {
        finalizers.retain(|one| *one != "orphan" && *one != "foregroundDeletion");
        match policy {
            Propagation::Orphan => finalizers.push("orphan"),
            Propagation::Foreground => finalizers.push("foregroundDeletion"),
            Propagation::Background => {}
        }
    }
    if &*resource.store == DEFINITIONS && !metadata::is_terminating(live) && !finalizers.contains(&CLEANUP) {
        finalizers.push(CLEANUP);
    }
    let held = live["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
    if finalizers.is_empty() && !(resource.is("", "Namespace") && held) {
        return Removal::Gone(Arc::clone(live));
    }
    let mut object = (**live).clone();
    object["metadata"]["finalizers"] = json!(finalizers);
    metadata::normalize(&mut object);
    if !metadata::is_terminating(live) {
        object["metadata"]["deletionTimestamp"] = json!(stamp(now));
        object["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        if let Some(generation) = live["metadata"]["generation"].as_i64() {
            object["metadata"]["generation"] = json!(generation + 1);
        }
        if resource.is("", "Namespace") {
            object["status"]["phase"] = json!("Terminating");
        }
    }
    Removal::Waiting(Arc::new(object))
}

fn options(call: &Call) -> Result<DeleteOptions, Refusal> {
    let body = match call.body.is_empty() {
        true => Value::Null,
        false => body::decode(call)?.value,
    };
    let kind = body["kind"].as_str().unwrap_or("DeleteOptions");
    if !(body.is_object() || body.is_null()) || kind != "DeleteOptions" {
        let version = body["apiVersion"].as_str().unwrap_or_default();
        let words = format!("converting ({version}.{kind}) to (v1.DeleteOptions): unknown conversion");
        return Err(Refusal::bad_request(words));
    }
    DeleteOptions::parse(&call.query, &body)
}

fn check_preconditions(
    resource: &Resource,
    name: &str,
    live: &Value,
    options: &DeleteOptions,
) -> Result<(), Refusal> {
    let stale = |why: &str| Err(Refusal::conflict(&resource.group, &resource.kind, name, why));
    let (uid, version) = (metadata::text(live, "uid"), metadata::text(live, "resourceVersion"));
    match (&options.uid, &options.version) {
        (Some(asked), _) if asked != uid => stale(&format!(
            "the UID in the precondition ({asked}) does not match the UID in record ({uid}). \
             The object might have been deleted and then recreated"
        )),
        (_, Some(asked)) if asked != version => stale(&format!(
            "the ResourceVersion in the precondition ({asked}) does not match the ResourceVersion in record \
             ({version}). The object might have been modified"
        )),
        _ => Ok(()),
    }
}
