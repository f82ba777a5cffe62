//! The managers of an object: `metadata.managedFields` read, changed and written.
//!
//! Deliberately decides nothing: which fields a manager gains or loses comes from the walkers beside this file.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::{Manager, Operation};
use crate::kube::fields::{FieldSet, Step};
use crate::kube::schema::node::{Kind, ListType, Node};
use crate::kube::validate::quoted;

/// The most managers that are kept for writes other than apply; older ones are put together.
const MOST_UPDATE_MANAGERS: usize = 10;

/// The manager under which they are put together.
const ANCIENT: &str = "ancient-changes";

/// What tells one manager from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    manager: String,
    operation: Operation,
    /// Empty for appliers: they keep their fields when they move to another version.
    version: String,
    subresource: String,
}

impl Key {
    pub(super) fn of(manager: &Manager<'_>) -> Key {
        let version = match manager.operation {
            Operation::Apply => String::new(),
            Operation::Update => manager.api_version.to_owned(),
        };
        Key {
            manager: if manager.name.is_empty() { "unknown".to_owned() } else { manager.name.to_owned() },
            operation: manager.operation,
            version,
            subresource: manager.subresource.to_owned(),
        }
    }
}

/// The manager as conflict messages name it.
impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&quoted(&self.manager))?;
        if !self.subresource.is_empty() {
            write!(formatter, " with subresource {}", quoted(&self.subresource))?;
        }
        match self.operation {
            Operation::Update => write!(formatter, " using {}", self.version),
            Operation::Apply => Ok(()),
        }
    }
}

/// What a manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) set: FieldSet,
    pub(super) version: String,
    pub(super) time: Option<String>,
}

/// All managers of an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Managers(BTreeMap<Key, Entry>);

impl Managers {
    /// Reads `metadata.managedFields`; a missing list is an empty one.
    ///
    /// # Errors
    /// An entry that the API server would not read either.
    pub(super) fn decode(object: &Value) -> Result<Managers, String> {
        let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
        let mut managers = BTreeMap::new();
        for (index, entry) in entries.into_iter().flatten().enumerate() {
            let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
            let operation = match text("operation") {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return Err("operation must be `Apply` or `Update`".to_owned()),
            };
            if text("apiVersion").is_empty() {
                return Err("apiVersion must not be empty".to_owned());
            }
            match text("fieldsType") {
                "FieldsV1" => {}
                "" => return Err(format!("missing fieldsType in managed fields entry {index}")),
                other => return Err(format!("invalid fieldsType {other:?} in managed fields entry {index}")),
            }
            let manager = Manager {
                name: text("manager"),
                operation,
                subresource: text("subresource"),
                api_version: text("apiVersion"),
                time: text("time"),
            };
            let mut key = Key::of(&manager);
            key.manager = text("manager").to_owned();
            let set = FieldSet::from_json(entry.get("fieldsV1").unwrap_or(&Value::Null))?;
            let time = Some(manager.time.to_owned()).filter(|time| !time.is_empty());
            managers.insert(key, Entry { set, version: manager.api_version.to_owned(), time });
        }
        Ok(Managers(managers))
    }

    /// Writes `metadata.managedFields`, sorted; removes it if nobody manages anything.
    pub(super) fn encode(&self, object: &mut Value) {
        let mut entries: Vec<(&Key, &Entry)> = self.0.iter().collect();
        entries.sort_by_key(|(key, entry)| {
            (key.operation, seconds(entry.time.as_deref()), &key.manager, &entry.version, &key.subresource)
        });
        let list: Vec<Value> = entries.into_iter().map(|(key, entry)| form(key, entry)).collect();
        let Value::Object(fields) = object else { return };
        let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(metadata) = metadata {
            if list.is_empty() {
                metadata.remove("managedFields");
            } else {
                metadata.insert("managedFields".to_owned(), Value::Array(list));
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn insert(&mut self, key: Key, entry: Entry) {
        self.0.insert(key, entry);
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Entry> {
        self.0.remove(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&Key, &mut Entry)> {
        self.0.iter_mut()
    }

    pub(super) fn drop_empty(&mut self) {
        self.0.retain(|_, entry| !entry.set.is_empty());
    }

    /// Takes fields that nobody may own from one manager.
    pub(super) fn strip(&mut self, key: &Key, fields: &FieldSet) {
        if let Some(entry) = self.0.get_mut(key) {
            entry.set = entry.set.difference(fields);
        }
        self.drop_empty();
    }

    /// Notes when a manager last changed something.
    pub(super) fn touch(&mut self, key: &Key, time: &str) {
        if let Some(entry) = self.0.get_mut(key) {
            entry.time = Some(time.to_owned());
        }
    }

    /// Everything that anybody owns.
    pub(super) fn union(&self) -> FieldSet {
        self.0.values().fold(FieldSet::default(), |union, entry| union.union(&entry.set))
    }

    /// Follows a schema that made a list or map atomic: fields inside become the whole.
    pub(super) fn reconcile(&mut self, root: &Node) {
        for entry in self.0.values_mut() {
            entry.set = reconciled(root, &entry.set);
        }
    }

    /// Puts the oldest managers of other writes together when there are too many.
    pub(super) fn cap(&mut self) {
        let mut updaters: Vec<Key> =
            self.0.keys().filter(|key| key.operation == Operation::Update).cloned().collect();
        let mut count = updaters.len();
        if count <= MOST_UPDATE_MANAGERS {
            return;
        }
        updaters.sort_by_key(|key| {
            (seconds(self.0.get(key).and_then(|entry| entry.time.as_deref())), key.clone())
        });
        let mut first: BTreeMap<String, Key> = BTreeMap::new();
        for key in updaters {
            if count <= MOST_UPDATE_MANAGERS {
                break;
            }
            let Some(version) = self.0.get(&key).map(|entry| entry.version.clone()) else { continue };
            let Some(earlier) = first.get(&version).cloned() else {
                first.insert(version, key);
                continue;
            };
            let bucket = Key {
                manager: ANCIENT.to_owned(),
                operation: Operation::Update,
                version: version.clone(),
                subresource: String::new(),
            };
            if !self.0.contains_key(&bucket)
                && let Some(entry) = self.0.remove(&earlier)
            {
                self.0.insert(bucket.clone(), entry);
            }
            if let Some(entry) = self.0.remove(&key)
                && let Some(old) = self.0.get_mut(&bucket)
            {
                old.set = old.set.union(&entry.set);
                old.time = entry.time;
                count -= 1;
            }
        }
    }
}

fn form(key: &Key, entry: &Entry) -> Value {
    let operation = match key.operation {
        Operation::Apply => "Apply",
        Operation::Update => "Update",
    };
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    if !key.manager.is_empty() {
        put("manager", Value::from(key.manager.as_str()));
    }
    put("operation", Value::from(operation));
    put("apiVersion", Value::from(entry.version.as_str()));
    if let Some(time) = &entry.time {
        put("time", Value::from(time.as_str()));
    }
    put("fieldsType", Value::from("FieldsV1"));
    put("fieldsV1", entry.set.to_json());
    if !key.subresource.is_empty() {
        put("subresource", Value::from(key.subresource.as_str()));
    }
    Value::Object(fields)
}

fn seconds(time: Option<&str>) -> i64 {
    time.and_then(|text| text.parse::<jiff::Timestamp>().ok()).map_or(0, jiff::Timestamp::as_second)
}

fn reconciled(node: &Node, set: &FieldSet) -> FieldSet {
    let mut result = FieldSet { members: set.members.clone(), ..FieldSet::default() };
    for (step, child) in &set.children {
        let below = match step {
            Step::Field(name) => node.entry(name),
            Step::Key(_) | Step::Item(_) | Step::Index(_) => Some(node.element()),
        };
        match below {
            Some(below) if whole(below) => {
                result.members.insert(step.clone());
            }
            Some(below) => {
                result.children.insert(step.clone(), reconciled(below, child));
            }
            None => {
                result.children.insert(step.clone(), child.clone());
            }
        }
    }
    result
}

fn whole(node: &Node) -> bool {
    match node.kind {
        Some(Kind::Object) => node.atomic_map,
        Some(Kind::Array) => matches!(node.list_type, ListType::Atomic),
        _ => false,
    }
}
