//! Everything that one server holds, behind one lock, and the two doors through which objects change.
//!
//! `save` and `erase` keep the registry and the collector's queue in step with the store; nothing else writes
//! to it.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::builtin::{self, DEFINITIONS, EVENTS, NAMESPACES};
use super::collector::Work;
use super::definitions;
use super::faults::Faults;
use super::kinds::{Registry, Resource};
use super::metadata;
use super::statistics::Statistics;
use super::status::Refusal;
use super::store::Store;

/// Age at which Events are removed, as by kube-apiserver's default.
const EVENT_SECONDS_MAX: i64 = 3600;

/// See the head of this file.
pub struct State {
    /// Objects.
    pub store: Store,
    /// Kinds.
    pub registry: Arc<Registry>,
    builtin: Registry,
    /// When each Event was made, oldest first, and its key.
    events: VecDeque<(Timestamp, String)>,
    /// What the collector has yet to look at.
    pub work: VecDeque<Work>,
    /// Counters.
    pub statistics: Statistics,
    /// Faults to inject.
    pub faults: Faults,
}

impl State {
    /// A state around `store`; the registry follows from the definitions in it.
    pub fn new(store: Store) -> State {
        let builtin = builtin::registry();
        let mut state = State {
            store,
            registry: Arc::new(builtin.clone()),
            builtin,
            events: VecDeque::new(),
            work: VecDeque::new(),
            statistics: Statistics::default(),
            faults: Faults::default(),
        };
        let mut events: Vec<(Timestamp, String)> = state
            .store
            .list(EVENTS, "")
            .into_iter()
            .filter_map(|(key, event)| Some((created(&event)?, key)))
            .collect();
        events.sort();
        state.events = events.into();
        state.reload();
        state
    }

    /// Stores an object and queues what follows from it.
    pub fn save(&mut self, resource: &Resource, key: &str, object: Value) -> Result<Arc<Value>, Refusal> {
        let fresh = self.store.get(&resource.store, key).is_none();
        let object = self.store.put(&resource.store, key, object).map_err(storage_failed)?;
        let owned = object["metadata"]["ownerReferences"].is_array();
        if metadata::is_terminating(&object) || (fresh && owned) {
            self.work.push_back(Work::Inspect(Arc::clone(&resource.store), key.to_owned()));
        }
        if let Some(made) = created(&object).filter(|_| fresh && &*resource.store == EVENTS) {
            self.events.push_back((made, key.to_owned()));
            self.expire_events(made);
        }
        if &*resource.store == DEFINITIONS {
            let settled = definitions::settle(&self.store, &object);
            if let Some(settled) = settled {
                self.store.put(&resource.store, key, settled).map_err(storage_failed)?;
            }
            self.reload();
        }
        Ok(object)
    }

    /// Removes an object and queues what follows from it. Returns its last state.
    pub fn erase(&mut self, resource: &Resource, key: &str) -> Result<Option<Arc<Value>>, Refusal> {
        let removed = self.store.remove(&resource.store, key).map_err(storage_failed)?;
        let Some(last) = &removed else { return Ok(None) };
        self.work.push_back(Work::Orphaned(metadata::text(last, "uid").to_owned()));
        for owner in last["metadata"]["ownerReferences"].as_array().into_iter().flatten() {
            if let Some(place) = self.owner_place(owner, metadata::text(last, "namespace")) {
                self.work.push_back(Work::Inspect(place.0, place.1));
            }
        }
        let namespace = metadata::text(last, "namespace");
        if !namespace.is_empty() {
            self.work.push_back(Work::Inspect(NAMESPACES.into(), namespace.to_owned()));
        }
        if resource.custom {
            self.work.push_back(Work::Inspect(DEFINITIONS.into(), resource.qualified()));
        }
        if &*resource.store == DEFINITIONS {
            self.reload();
        }
        Ok(removed)
    }

    /// Where an owner reference points, if its kind is known.
    pub fn owner_place(&self, owner: &Value, namespace: &str) -> Option<(Arc<str>, String)> {
        let (version, kind) = (owner["apiVersion"].as_str()?, owner["kind"].as_str()?);
        let resource = self.registry.find_kind(version, kind)?;
        // A cluster-scoped object cannot have a namespaced owner: such a reference points nowhere.
        if resource.namespaced && namespace.is_empty() {
            return None;
        }
        let namespace = if resource.namespaced { namespace } else { "" };
        Some((Arc::clone(&resource.store), metadata::key(namespace, owner["name"].as_str()?)))
    }

    /// Removes the Events that are too old at `now`.
    fn expire_events(&mut self, now: Timestamp) {
        let limit = now - SignedDuration::from_secs(EVENT_SECONDS_MAX);
        while let Some((made, _)) = self.events.front()
            && *made < limit
        {
            let Some((made, key)) = self.events.pop_front() else { return };
            // The key may belong to a younger Event of the same name by now.
            let same = self.store.get(EVENTS, &key).is_some_and(|event| created(event) == Some(made));
            if same && let Err(error) = self.store.remove(&EVENTS.into(), &key) {
                tracing::warn!(%error, key, "an old Event could not be removed");
            }
        }
    }

    fn reload(&mut self) {
        let mut registry = self.builtin.clone();
        for (_, definition) in self.store.list(DEFINITIONS, "") {
            definitions::resources(&definition)
                .into_iter()
                .for_each(|resource| registry.add(Arc::new(resource)));
        }
        self.registry = Arc::new(registry);
    }
}

fn created(object: &Value) -> Option<Timestamp> {
    metadata::text(object, "creationTimestamp").parse().ok()
}

fn storage_failed(error: std::io::Error) -> Refusal {
    tracing::error!(%error, "a change could not be written to the data directory");
    Refusal::new(500, "InternalError", format!("Internal error occurred: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_removed_after_an_hour() {
        let mut state = State::new(Store::open(None));
        let kind = state.registry.find("", "v1", "events").unwrap().clone();
        let mut save = |name: &str, time: &str| {
            let event = json!({ "metadata": { "name": name, "creationTimestamp": time } });
            state.save(&kind, name, event).unwrap();
            state.store.list(EVENTS, "").len()
        };
        assert_eq!(save("a", "2026-01-01T00:00:00Z"), 1);
        assert_eq!(save("b", "2026-01-01T00:30:00Z"), 2);
        assert_eq!(save("c", "2026-01-01T01:00:00Z"), 3);
        assert_eq!(save("d", "2026-01-01T01:00:01Z"), 3);
    }
}
