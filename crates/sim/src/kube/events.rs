//! Events live in two APIs and are stored once: in the form of the core API.
//!
//! Renames fields at the door, both ways; it does not merge or expire Events.

use serde_json::{Value, json};

use super::kinds::Resource;

/// Field names: core API, events.k8s.io.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// Whether the kind is the newer form of Events.
pub fn is_new_form(resource: &Resource) -> bool {
    resource.is("events.k8s.io", "Event")
}

/// Brings an object of the newer API to the stored form; leaves everything else alone.
pub fn to_stored(resource: &Resource, object: &mut Value) {
    if !is_new_form(resource) {
        return;
    }
    rename(object, |(core, new)| (new, core));
    object["apiVersion"] = json!("v1");
}

/// Brings a stored object to the form of the newer API; leaves everything else alone.
pub fn to_served(resource: &Resource, object: &mut Value) {
    if !is_new_form(resource) {
        return;
    }
    rename(object, |(core, new)| (core, new));
    object["apiVersion"] = json!("events.k8s.io/v1");
}

fn rename(
    object: &mut Value,
    direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str),
) {
    let Some(map) = object.as_object_mut() else { return };
    for pair in RENAMED {
        let (from, to) = direction(*pair);
        if let Some(value) = map.remove(from) {
            map.insert(to.to_owned(), value);
        }
    }
}
