//! Counters of requests, for tests and figures: by client, verb, resource and subresource.
//!
//! Read at `/_kube/stats`; they are not persisted and never affect an answer.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::state::State;

/// Different keys that are counted; further ones go under a single key.
const KEYS_MAX: usize = 10_000;

/// Who did what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// User-Agent.
    pub agent: String,
    /// Verb as in RBAC: get, list, watch, create, update, patch, apply, delete, deletecollection.
    pub verb: String,
    /// `plural.group`.
    pub resource: String,
    /// Subresource, or empty.
    pub subresource: String,
}

#[derive(Clone, Debug, Default)]
struct Count {
    requests: u64,
    refused: u64,
    unchanged: u64,
}

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    counts: BTreeMap<Key, Count>,
}

impl Statistics {
    /// Counts one request. `unchanged` is a write that left everything as it was.
    pub fn count(&mut self, key: Key, refused: bool, unchanged: bool) {
        let full = self.counts.len() >= KEYS_MAX && !self.counts.contains_key(&key);
        let key = if full { Key { agent: "others".to_owned(), ..key } } else { key };
        let count = self.counts.entry(key).or_default();
        count.requests += 1;
        count.refused += u64::from(refused);
        count.unchanged += u64::from(unchanged);
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.counts.clear();
    }
}

/// `/_kube/stats`: `{revision, objects: {store: n}, requests: [{agent, verb, resource, subresource, requests,
/// refused, unchanged}], writes, writesUnchanged}`.
pub fn report(state: &State) -> Value {
    let writing = ["create", "update", "patch", "apply", "delete", "deletecollection"];
    let (mut writes, mut unchanged) = (0, 0);
    let mut requests = Vec::new();
    for (key, count) in &state.statistics.counts {
        if writing.contains(&key.verb.as_str()) {
            writes += count.requests - count.refused;
            unchanged += count.unchanged;
        }
        requests.push(json!({
            "agent": key.agent, "verb": key.verb, "resource": key.resource, "subresource": key.subresource,
            "requests": count.requests, "refused": count.refused, "unchanged": count.unchanged,
        }));
    }
    let mut objects: BTreeMap<String, u64> = BTreeMap::new();
    for (store, _, _) in state.store.every() {
        *objects.entry(store.to_owned()).or_default() += 1;
    }
    json!({
        "revision": state.store.revision(), "compacted": state.store.compacted(), "objects": objects,
        "requests": requests, "writes": writes, "writesUnchanged": unchanged,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_limit_clients_are_counted_together() {
        let mut statistics = Statistics::default();
        let key = |agent: String| Key {
            agent,
            verb: "get".into(),
            resource: "things".into(),
            subresource: String::new(),
        };
        for number in 0..KEYS_MAX + 5 {
            statistics.count(key(number.to_string()), false, false);
        }
        statistics.count(key("0".into()), true, false);
        assert_eq!(statistics.counts.len(), KEYS_MAX + 1);
        assert_eq!(statistics.counts[&key("others".into())].requests, 5);
        assert_eq!(
            (statistics.counts[&key("0".into())].requests, statistics.counts[&key("0".into())].refused),
            (2, 1)
        );
    }
}
