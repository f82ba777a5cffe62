//! What kube-controller-manager does beside a real API server: garbage collection by owner references, the
//! emptying of namespaces, the clean-up behind a deleted CustomResourceDefinition.
//!
//! Runs after writes, a bounded piece at a time; it starts no workloads and knows no other controllers.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::builtin::{DEFINITIONS, NAMESPACES};
use super::definitions::CLEANUP;
use super::delete::{self, Removal};
use super::kinds::Resource;
use super::metadata;
use super::options::Propagation;
use super::state::State;

/// Pieces of work done under one hold of the lock.
pub const PIECES_MAX: usize = 64;

/// One thing to look at.
#[derive(Clone, Debug)]
pub enum Work {
    /// An object was removed: its dependents may have to follow. Holds its uid.
    Orphaned(String),
    /// An object may be ready for the next step. Holds its store and key.
    Inspect(Arc<str>, String),
}

/// Works off at most `PIECES_MAX` pieces; returns whether any are left.
pub fn run(state: &mut State, now: Timestamp) -> bool {
    for _ in 0..PIECES_MAX {
        let Some(work) = state.work.pop_front() else { return false };
        let done = match &work {
            Work::Orphaned(uid) => {
                for (store, key) in state.store.dependents(uid) {
                    state.work.push_back(Work::Inspect(store, key));
                }
                Ok(())
            }
            Work::Inspect(store, key) => inspect(state, store, key, now),
        };
        if let Err(refusal) = done {
            tracing::warn!(?work, error = %refusal.message, "the collector could not finish a piece of work");
        }
    }
    !state.work.is_empty()
}

type Done = Result<(), super::status::Refusal>;

fn inspect(state: &mut State, store: &Arc<str>, key: &str, now: Timestamp) -> Done {
    let Some(object) = state.store.get(store, key).cloned() else { return Ok(()) };
    let Some(resource) = state.registry.find_store(store).cloned() else { return Ok(()) };
    if !metadata::is_terminating(&object) {
        return collect_if_orphaned(state, &resource, key, &object, now);
    }
    match &**store {
        NAMESPACES => empty_namespace(state, &resource, key, &object, now)?,
        DEFINITIONS => empty_definition(state, &resource, key, &object, now)?,
        _ => {}
    }
    let Some(object) = state.store.get(store, key).cloned() else { return Ok(()) };
    let finalizers = metadata::finalizers(&object);
    if finalizers.contains(&"orphan") {
        return orphan_dependents(state, &resource, key, &object);
    }
    if finalizers.contains(&"foregroundDeletion") {
        return wait_for_dependents(state, &resource, key, &object, now);
    }
    Ok(())
}

/// Deletes an object whose owners are all gone; drops the references to those that are, if others remain.
fn collect_if_orphaned(
    state: &mut State,
    resource: &Resource,
    key: &str,
    object: &Value,
    now: Timestamp,
) -> Done {
    let Some(owners) = object["metadata"]["ownerReferences"].as_array() else { return Ok(()) };
    let namespace = metadata::text(object, "namespace");
    let exists = |owner: &Value| match state.owner_place(owner, namespace) {
        // A kind that is not served cannot be looked up, and is left alone like in a real cluster.
        None => true,
        Some((store, key)) => {
            state.store.get(&store, &key).is_some_and(|found| found["metadata"]["uid"] == owner["uid"])
        }
    };
    let (solid, dangling): (Vec<&Value>, Vec<&Value>) = owners.iter().partition(|owner| exists(owner));
    if dangling.is_empty() {
        return Ok(());
    }
    if solid.is_empty() {
        let policy = match metadata::finalizers(object) {
            finalizers if finalizers.contains(&"orphan") => Propagation::Orphan,
            finalizers if finalizers.contains(&"foregroundDeletion") => Propagation::Foreground,
            _ => Propagation::Background,
        };
        return delete::remove(state, resource, key, Some(policy), now).map(drop);
    }
    let mut changed = object.clone();
    changed["metadata"]["ownerReferences"] = json!(solid);
    state.save(resource, key, changed).map(drop)
}

/// Takes the references to this owner out of its dependents, then lets it go.
fn orphan_dependents(state: &mut State, resource: &Resource, key: &str, object: &Value) -> Done {
    let uid = metadata::text(object, "uid").to_owned();
    for (store, dependent_key) in state.store.dependents(&uid) {
        let Some(dependent) = state.store.get(&store, &dependent_key) else { continue };
        let Some(kind) = state.registry.find_store(&store).cloned() else { continue };
        let mut changed = (**dependent).clone();
        if let Some(owners) = changed["metadata"]["ownerReferences"].as_array_mut() {
            owners.retain(|owner| owner["uid"] != json!(uid));
        }
        metadata::normalize(&mut changed);
        state.save(&kind, &dependent_key, changed)?;
    }
    drop_finalizer(state, resource, key, "orphan")
}

/// Deletes the dependents and lets the owner go once none of them blocks it any longer.
fn wait_for_dependents(
    state: &mut State,
    resource: &Resource,
    key: &str,
    object: &Value,
    now: Timestamp,
) -> Done {
    let uid = metadata::text(object, "uid").to_owned();
    let mut blocked = false;
    for (store, dependent_key) in state.store.dependents(&uid) {
        let Some(kind) = state.registry.find_store(&store).cloned() else { continue };
        let Some(dependent) = state.store.get(&store, &dependent_key).cloned() else { continue };
        let blocks = |owner: &Value| owner["uid"] == json!(uid) && owner["blockOwnerDeletion"] == json!(true);
        let blocking = dependent["metadata"]["ownerReferences"]
            .as_array()
            .is_some_and(|owners| owners.iter().any(blocks));
        let gone = match metadata::is_terminating(&dependent) {
            true => false,
            false => {
                let policy = Some(Propagation::Foreground);
                matches!(delete::remove(state, &kind, &dependent_key, policy, now)?, Removal::Gone(_))
            }
        };
        blocked |= blocking && !gone;
    }
    if blocked { Ok(()) } else { drop_finalizer(state, resource, key, "foregroundDeletion") }
}

/// Deletes what lives in a terminating namespace; finishes the namespace when nothing is left.
fn empty_namespace(
    state: &mut State,
    resource: &Resource,
    key: &str,
    object: &Value,
    now: Timestamp,
) -> Done {
    let mut left = 0;
    let registry = Arc::clone(&state.registry);
    let mut stores: Vec<&Arc<Resource>> = registry.all().filter(|one| one.namespaced).collect();
    stores.sort_by(|a, b| a.store.cmp(&b.store));
    stores.dedup_by(|a, b| a.store == b.store);
    for kind in stores {
        left += empty(state, kind, &format!("{key}/"), now)?;
    }
    if left > 0 {
        return Ok(());
    }
    let mut changed = object.clone();
    if let Some(list) = changed["spec"]["finalizers"].as_array_mut() {
        list.retain(|one| one != "kubernetes");
    }
    let free = changed["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty);
    match free && metadata::finalizers(&changed).is_empty() {
        true => state.erase(resource, key).map(drop),
        false if changed != *object => state.save(resource, key, changed).map(drop),
        false => Ok(()),
    }
}

/// Deletes the objects of a terminating definition; lets the definition go when none are left.
fn empty_definition(
    state: &mut State,
    resource: &Resource,
    key: &str,
    object: &Value,
    now: Timestamp,
) -> Done {
    if !metadata::finalizers(object).contains(&CLEANUP) {
        return Ok(());
    }
    let left = match state.registry.find_store(key).cloned() {
        Some(kind) => empty(state, &kind, "", now)?,
        None => 0,
    };
    if left > 0 { Ok(()) } else { drop_finalizer(state, resource, key, CLEANUP) }
}

/// Deletes every object below a prefix; returns how many are still there.
fn empty(
    state: &mut State,
    kind: &Resource,
    prefix: &str,
    now: Timestamp,
) -> Result<usize, super::status::Refusal> {
    for (key, object) in state.store.list(&kind.store, prefix) {
        if !metadata::is_terminating(&object) {
            delete::remove(state, kind, &key, Some(Propagation::Background), now)?;
        }
    }
    Ok(state.store.list(&kind.store, prefix).len())
}

fn drop_finalizer(state: &mut State, resource: &Resource, key: &str, finalizer: &str) -> Done {
    let Some(object) = state.store.get(&resource.store, key) else { return Ok(()) };
    let mut changed = (**object).clone();
    if let Some(list) = changed["metadata"]["finalizers"].as_array_mut() {
        list.retain(|one| one != finalizer);
    }
    metadata::normalize(&mut changed);
    if metadata::finalizers(&changed).is_empty() {
        return state.erase(resource, key).map(drop);
    }
    state.save(resource, key, changed).map(drop)
}
