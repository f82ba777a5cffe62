//! Sets of fields, and their form in `metadata.managedFields` (FieldsV1).
//!
//! Deliberately knows no schema: which field belongs where is decided by the walkers of server-side apply.
//! Facts: sigs.k8s.io/structured-merge-diff, fieldpath.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

use super::validate::{quoted, same};

/// One step from an object to a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// A field of an object or a key of a map.
    Field(String),
    /// An item of a keyed list, by the keys that it has.
    Key(BTreeMap<String, Literal>),
    /// An item of a set, by its value.
    Item(Literal),
    /// An item of a list by place; only read, never written.
    Index(i64),
}

/// A JSON value that can be ordered: numbers by value, then text, then booleans, then the rest.
#[derive(Clone, Debug)]
pub(crate) struct Literal(pub(crate) Value);

impl PartialEq for Literal {
    fn eq(&self, other: &Self) -> bool {
        same(&self.0, &other.0)
    }
}

impl Eq for Literal {}

impl PartialOrd for Literal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Literal {
    fn cmp(&self, other: &Self) -> Ordering {
        if self == other {
            return Ordering::Equal;
        }
        let rank = |value: &Value| match value {
            Value::Number(_) => 0,
            Value::String(_) => 1,
            Value::Bool(_) => 2,
            Value::Array(_) => 3,
            Value::Object(_) => 4,
            Value::Null => 5,
        };
        match (&self.0, &other.0) {
            (Value::Number(left), Value::Number(right)) => left
                .as_f64()
                .unwrap_or(0.0)
                .total_cmp(&right.as_f64().unwrap_or(0.0))
                .then_with(|| left.as_i64().cmp(&right.as_i64())),
            (Value::String(left), Value::String(right)) => left.cmp(right),
            (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
            (left, right) => {
                rank(left).cmp(&rank(right)).then_with(|| left.to_string().cmp(&right.to_string()))
            }
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Value::String(text) => formatter.write_str(&quoted(text)),
            other => write!(formatter, "{other}"),
        }
    }
}

/// The step as conflict messages show it: `.spec`, `[port=1,protocol="TCP"]`, `[="a"]`.
impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Field(name) => write!(formatter, ".{name}"),
            Step::Key(keys) => {
                let shown: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(formatter, "[{}]", shown.join(","))
            }
            Step::Item(value) => write!(formatter, "[={value}]"),
            Step::Index(index) => write!(formatter, "[{index}]"),
        }
    }
}

/// A set of fields: a tree in which members are the fields themselves and children are below them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSet {
    pub(crate) members: BTreeSet<Step>,
    pub(crate) children: BTreeMap<Step, FieldSet>,
}

impl FieldSet {
    /// A set of one path per list of field names.
    pub(crate) fn of(paths: &[&[&str]]) -> FieldSet {
        let mut set = FieldSet::default();
        for path in paths {
            let steps: Vec<Step> = path.iter().map(|name| Step::Field((*name).to_owned())).collect();
            set.insert(&steps);
        }
        set
    }

    /// Adds a path; the empty path stands for the whole object, which nobody owns.
    pub(crate) fn insert(&mut self, path: &[Step]) {
        match path {
            [] => {}
            [last] => {
                self.members.insert(last.clone());
            }
            [first, rest @ ..] => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    /// Whether nothing is in the set.
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.values().all(FieldSet::is_empty)
    }

    /// What is in either set.
    pub(crate) fn union(&self, other: &FieldSet) -> FieldSet {
        let mut result = self.clone();
        result.members.extend(other.members.iter().cloned());
        for (step, child) in &other.children {
            let merged = result.children.get(step).map_or_else(|| child.clone(), |own| own.union(child));
            result.children.insert(step.clone(), merged);
        }
        result
    }

    /// What is in both sets.
    pub(crate) fn intersection(&self, other: &FieldSet) -> FieldSet {
        let members = self.members.intersection(&other.members).cloned().collect();
        let children = self
            .children
            .iter()
            .filter_map(|(step, child)| {
                let common = child.intersection(other.children.get(step)?);
                (!common.is_empty()).then(|| (step.clone(), common))
            })
            .collect();
        FieldSet { members, children }
    }

    /// What is in this set and not in the other; children of a removed field stay.
    pub(crate) fn difference(&self, other: &FieldSet) -> FieldSet {
        let members = self.members.difference(&other.members).cloned().collect();
        let children = self
            .children
            .iter()
            .filter_map(|(step, child)| {
                let rest = match other.children.get(step) {
                    Some(gone) => child.difference(gone),
                    None => child.clone(),
                };
                (!rest.is_empty()).then(|| (step.clone(), rest))
            })
            .collect();
        FieldSet { members, children }
    }

    /// What is in this set and neither in the other nor below one of its members.
    pub(crate) fn difference_below(&self, other: &FieldSet) -> FieldSet {
        let members = self.members.difference(&other.members).cloned().collect();
        let children = self
            .children
            .iter()
            .filter(|(step, _)| !other.members.contains(*step))
            .filter_map(|(step, child)| {
                let rest = match other.children.get(step) {
                    Some(gone) => child.difference_below(gone),
                    None => child.clone(),
                };
                (!rest.is_empty()).then(|| (step.clone(), rest))
            })
            .collect();
        FieldSet { members, children }
    }

    /// The set below a step.
    pub(crate) fn below(&self, step: &Step) -> Option<&FieldSet> {
        self.children.get(step).filter(|child| !child.is_empty())
    }

    /// Every path, members before children, as messages list them.
    pub(crate) fn paths(&self) -> Vec<Vec<Step>> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect(&self, prefix: &mut Vec<Step>, paths: &mut Vec<Vec<Step>>) {
        for member in &self.members {
            let mut path = prefix.clone();
            path.push(member.clone());
            paths.push(path);
        }
        for (step, child) in &self.children {
            prefix.push(step.clone());
            child.collect(prefix, paths);
            prefix.pop();
        }
    }

    /// The FieldsV1 form: `{"f:spec":{".":{},"f:size":{}}}`.
    pub(crate) fn to_json(&self) -> Value {
        let mut fields = Map::new();
        for member in &self.members {
            fields.insert(encode(member), Value::Object(Map::new()));
        }
        for (step, child) in &self.children {
            let Value::Object(mut below) = child.to_json() else { continue };
            if self.members.contains(step) && !below.is_empty() {
                below.insert(".".to_owned(), Value::Object(Map::new()));
            }
            fields.insert(encode(step), Value::Object(below));
        }
        Value::Object(fields)
    }

    /// Reads the FieldsV1 form; steps of an unknown kind are dropped, as the API server does.
    ///
    /// # Errors
    /// A step that cannot be read.
    pub(crate) fn from_json(value: &Value) -> Result<FieldSet, String> {
        Ok(decode_set(value)?.0.unwrap_or_default())
    }
}

/// The set below a value, and whether the field itself is a member.
fn decode_set(value: &Value) -> Result<(Option<FieldSet>, bool), String> {
    let mut set: Option<FieldSet> = None;
    let mut member = false;
    for (key, below) in value.as_object().into_iter().flatten() {
        if key == "." {
            member = true;
            continue;
        }
        let Some(step) = decode(key)? else { continue };
        let (child, child_member) = decode_set(below)?;
        let set = set.get_or_insert_default();
        if child_member {
            set.members.insert(step.clone());
        }
        if let Some(child) = child {
            set.children.insert(step, child);
        }
    }
    let member = member || set.is_none();
    Ok((set, member))
}

fn encode(step: &Step) -> String {
    match step {
        Step::Field(name) => format!("f:{name}"),
        Step::Key(keys) => {
            let map: Map<String, Value> =
                keys.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect();
            format!("k:{}", Value::Object(map))
        }
        Step::Item(value) => format!("v:{}", value.0),
        Step::Index(index) => format!("i:{index}"),
    }
}

fn decode(key: &str) -> Result<Option<Step>, String> {
    let Some((kind, rest)) = key.split_once(':') else {
        return Err(format!("missing colon: {key}"));
    };
    let json = || serde_json::from_str::<Value>(rest).map_err(|error| format!("{key}: {error}"));
    Ok(Some(match kind {
        "f" => Step::Field(rest.to_owned()),
        "v" => Step::Item(Literal(json()?)),
        "k" => {
            let Value::Object(map) = json()? else { return Err(format!("{key}: not an object")) };
            Step::Key(map.into_iter().map(|(name, value)| (name, Literal(value))).collect())
        }
        "i" => Step::Index(rest.parse().map_err(|error| format!("{key}: {error}"))?),
        _ => return Ok(None),
    }))
}

/// A path as messages show it.
pub(crate) fn shown(path: &[Step]) -> String {
    path.iter().map(Step::to_string).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(value: &Value) -> FieldSet {
        FieldSet::from_json(value).unwrap()
    }

    #[test]
    fn the_form_survives_reading_and_writing() {
        let form = json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {"f:ports": {
            "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}, "f:tags": {"v:\"a\"": {}},
                "f:empty": {}}});
        assert_eq!(set(&form).to_json(), form);
        assert_eq!(set(&json!({"x:spec": {}})), FieldSet::default());
        assert!(FieldSet::from_json(&json!({"k:[": {}})).is_err());
    }

    #[test]
    fn set_arithmetic() {
        let left = set(&json!({"f:a": {".": {}, "f:b": {}, "f:c": {}}}));
        let right = set(&json!({"f:a": {"f:b": {}}, "f:d": {}}));
        assert_eq!(left.difference(&right).to_json(), json!({"f:a": {".": {}, "f:c": {}}}));
        assert_eq!(left.intersection(&right).to_json(), json!({"f:a": {"f:b": {}}}));
        assert_eq!(left.union(&right).to_json(), json!({"f:a": {".": {}, "f:b": {}, "f:c": {}}, "f:d": {}}));
        assert!(left.difference_below(&set(&json!({"f:a": {}}))).is_empty());
        assert_eq!(
            left.difference(&set(&json!({"f:a": {}}))).to_json(),
            json!({"f:a": {"f:b": {}, "f:c": {}}})
        );
    }

    #[test]
    fn paths_list_members_first_and_print_like_the_api_server() {
        let fields = set(&json!({"f:spec": {"f:nested": {"f:name": {}}, "f:size": {}, "f:color": {},
            "f:ports": {"k:{\"port\":1,\"protocol\":\"TCP\"}": {"f:name": {}}}, "f:tags": {"v:\"a\"": {}}}}));
        let listed: Vec<String> = fields.paths().iter().map(|path| shown(path)).collect();
        assert_eq!(
            listed,
            [
                ".spec.color",
                ".spec.size",
                ".spec.nested.name",
                ".spec.ports[port=1,protocol=\"TCP\"].name",
                ".spec.tags[=\"a\"]"
            ]
        );
    }
}
