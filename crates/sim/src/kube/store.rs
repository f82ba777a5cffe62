//! The store: current objects, one revision counter, and the recent changes that watches and old reads need.
//!
//! Knows nothing of kinds, validation or HTTP. Objects are JSON values under `(store, key)`, where the key is
//! `namespace/name` or `name`, so that its order is that of a real cluster's lists.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::sync::Arc;

use serde_json::{Value, json};

use super::journal::{Entry, Journal, Opened};

/// Changes kept for watches and consistent pages; older ones are compacted away (410 Gone for who asks).
pub const EVENTS_MAX: usize = 20_000;

/// First revision of a new store: older ones count as compacted, as in a cluster that has lived a while.
const REVISION_FIRST: u64 = 100;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was created.
    Added,
    /// It was changed.
    Modified,
    /// It was removed.
    Deleted,
}

/// One change. `object` is the state after it (the last state for a removal, with the revision of the
/// removal).
#[derive(Clone, Debug)]
pub struct Event {
    /// Revision of the change.
    pub revision: u64,
    /// Which store.
    pub store: Arc<str>,
    /// Key in the store.
    pub key: String,
    /// What happened.
    pub change: Change,
    /// The object.
    pub object: Arc<Value>,
    /// The state before.
    pub previous: Option<Arc<Value>>,
}

/// An object with its key.
pub type Keyed = (String, Arc<Value>);

/// See the head of this file.
pub struct Store {
    revision: u64,
    compacted: u64,
    objects: HashMap<Arc<str>, BTreeMap<String, Arc<Value>>>,
    events: VecDeque<Event>,
    dependents: HashMap<String, BTreeSet<(Arc<str>, String)>>,
    journal: Option<Journal>,
}

impl Store {
    /// An empty store, or what `journal` holds.
    pub fn open(journal: Option<Opened>) -> Store {
        let mut store = Store {
            revision: REVISION_FIRST,
            compacted: REVISION_FIRST,
            objects: HashMap::new(),
            events: VecDeque::new(),
            dependents: HashMap::new(),
            journal: None,
        };
        if let Some((journal, revision, objects)) = journal {
            for (name, key, object) in objects {
                let (name, object) = (Arc::<str>::from(name), Arc::new(object));
                store.index(&name, &key, &object, true);
                store.objects.entry(name).or_default().insert(key, object);
            }
            store.revision = revision.max(REVISION_FIRST);
            store.compacted = store.revision;
            store.journal = Some(journal);
        }
        store
    }

    /// The current revision.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The newest revision that is gone: reads and watches must begin at or after it.
    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    /// One object.
    pub fn get(&self, store: &str, key: &str) -> Option<&Arc<Value>> {
        self.objects.get(store)?.get(key)
    }

    /// Every object whose key begins with `prefix`, in order.
    pub fn list(&self, store: &str, prefix: &str) -> Vec<Keyed> {
        let Some(objects) = self.objects.get(store) else { return Vec::new() };
        let range = objects.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        range.map(|(key, object)| (key.clone(), Arc::clone(object))).collect()
    }

    /// The same as of an older revision, or nothing if that has been compacted away.
    pub fn list_at(&self, store: &str, prefix: &str, revision: u64) -> Option<Vec<Keyed>> {
        if revision < self.compacted {
            return None;
        }
        let mut objects: BTreeMap<String, Arc<Value>> = self.list(store, prefix).into_iter().collect();
        for event in self.events.iter().rev().take_while(|event| event.revision > revision) {
            if &*event.store == store && event.key.starts_with(prefix) {
                match &event.previous {
                    Some(previous) => objects.insert(event.key.clone(), Arc::clone(previous)),
                    None => objects.remove(&event.key),
                };
            }
        }
        Some(objects.into_iter().collect())
    }

    /// Changes after `revision`, oldest first, or nothing if some of them have been compacted away.
    pub fn changes_after(&self, revision: u64) -> Option<impl Iterator<Item = &Event>> {
        if revision < self.compacted {
            return None;
        }
        let start = self.events.partition_point(|event| event.revision <= revision);
        Some(self.events.range(start..))
    }

    /// Creates or replaces an object; sets its resourceVersion and returns it.
    pub fn put(&mut self, store: &Arc<str>, key: &str, mut object: Value) -> io::Result<Arc<Value>> {
        let revision = self.revision + 1;
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        self.write_down(&Entry::Put {
            revision,
            store: store.to_string(),
            key: key.to_owned(),
            object: &object,
        })?;
        self.revision = revision;
        let object = Arc::new(object);
        let previous =
            self.objects.entry(Arc::clone(store)).or_default().insert(key.to_owned(), Arc::clone(&object));
        if let Some(previous) = &previous {
            self.index(store, key, previous, false);
        }
        self.index(store, key, &object, true);
        let change = if previous.is_some() { Change::Modified } else { Change::Added };
        self.record(store, key, change, Arc::clone(&object), previous);
        Ok(object)
    }

    /// Removes an object; returns its last state under the revision of the removal.
    pub fn remove(&mut self, store: &Arc<str>, key: &str) -> io::Result<Option<Arc<Value>>> {
        let Some(previous) = self.get(store, key).cloned() else { return Ok(None) };
        let revision = self.revision + 1;
        self.write_down(&Entry::Remove { revision, store: store.to_string(), key: key.to_owned() })?;
        self.revision = revision;
        if let Some(objects) = self.objects.get_mut(store) {
            objects.remove(key);
        }
        self.index(store, key, &previous, false);
        let mut last = (*previous).clone();
        last["metadata"]["resourceVersion"] = json!(revision.to_string());
        let last = Arc::new(last);
        self.record(store, key, Change::Deleted, Arc::clone(&last), Some(previous));
        Ok(Some(last))
    }

    /// Objects that name `uid` in their owner references.
    pub fn dependents(&self, uid: &str) -> Vec<(Arc<str>, String)> {
        self.dependents.get(uid).map(|set| set.iter().cloned().collect()).unwrap_or_default()
    }

    /// Forgets every change, so that all revisions before the current one are gone.
    pub fn compact(&mut self) {
        self.events.clear();
        self.compacted = self.revision;
    }

    /// Every object with its place, for counting and for snapshots.
    pub fn every(&self) -> impl Iterator<Item = (&str, &str, &Value)> {
        self.objects.iter().flat_map(|(store, objects)| {
            objects.iter().map(move |(key, object)| (&**store, key.as_str(), &**object))
        })
    }

    fn write_down(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let Some(mut journal) = self.journal.take() else { return Ok(()) };
        let mut done = journal.append(entry);
        if done.is_ok() && journal.is_long() {
            // The snapshot holds the state before this entry, which stays in the new log.
            done = journal.rewrite(self.revision, self.every()).and_then(|()| journal.append(entry));
        }
        self.journal = Some(journal);
        done
    }

    fn record(
        &mut self,
        store: &Arc<str>,
        key: &str,
        change: Change,
        object: Arc<Value>,
        previous: Option<Arc<Value>>,
    ) {
        let (store, key, revision) = (Arc::clone(store), key.to_owned(), self.revision);
        self.events.push_back(Event { revision, store, key, change, object, previous });
        while self.events.len() > EVENTS_MAX {
            if let Some(event) = self.events.pop_front() {
                self.compacted = event.revision;
            }
        }
    }

    fn index(&mut self, store: &Arc<str>, key: &str, object: &Value, present: bool) {
        let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        for uid in owners.into_iter().flatten().filter_map(|owner| owner["uid"].as_str()) {
            let place = (Arc::clone(store), key.to_owned());
            if present {
                self.dependents.entry(uid.to_owned()).or_default().insert(place);
            } else if let Some(set) = self.dependents.get_mut(uid) {
                set.remove(&place);
                if set.is_empty() {
                    self.dependents.remove(uid);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &mut Store, key: &str, value: u64) -> u64 {
        let object = json!({ "metadata": { "name": key }, "value": value });
        store.put(&"things".into(), key, object).unwrap();
        store.revision()
    }

    fn names(found: Option<Vec<Keyed>>) -> Vec<String> {
        found.unwrap().into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn an_older_moment_can_be_read_again() {
        let mut store = Store::open(None);
        let first = put(&mut store, "a", 1);
        put(&mut store, "b", 1);
        let second = put(&mut store, "a", 2);
        store.remove(&"things".into(), "a").unwrap();
        assert_eq!(names(store.list_at("things", "", first)), ["a"]);
        assert_eq!(names(store.list_at("things", "", second)), ["a", "b"]);
        assert_eq!(store.list_at("things", "", second).unwrap()[0].1["value"], 2);
        assert_eq!(names(store.list_at("things", "", store.revision())), ["b"]);
    }

    #[test]
    fn keys_of_a_namespace_do_not_mix_with_those_of_a_longer_name() {
        let mut store = Store::open(None);
        for key in ["a/x", "a-b/x", "a/y"] {
            put(&mut store, key, 1);
        }
        assert_eq!(names(Some(store.list("things", "a/"))), ["a/x", "a/y"]);
        assert_eq!(names(Some(store.list("things", ""))), ["a-b/x", "a/x", "a/y"]);
    }

    #[test]
    fn the_oldest_changes_are_compacted_at_the_limit() {
        let mut store = Store::open(None);
        let start = store.revision();
        for value in 0..EVENTS_MAX as u64 {
            put(&mut store, "a", value);
        }
        assert_eq!(store.changes_after(start).unwrap().count(), EVENTS_MAX);
        put(&mut store, "a", 0);
        assert!(store.changes_after(start).is_none());
        assert_eq!(store.changes_after(store.compacted()).unwrap().count(), EVENTS_MAX);
        assert_eq!(store.compacted(), start + 1);
    }

    #[test]
    fn dependents_are_found_by_the_uid_of_their_owner() {
        let mut store = Store::open(None);
        let owned = json!({ "metadata": { "ownerReferences": [{ "uid": "u" }] } });
        store.put(&"things".into(), "a", owned).unwrap();
        assert_eq!(store.dependents("u"), [("things".into(), "a".to_owned())]);
        put(&mut store, "a", 1);
        assert!(store.dependents("u").is_empty());
    }
}
