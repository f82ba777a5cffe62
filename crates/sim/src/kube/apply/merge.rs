//! Merging an applied configuration into the live object, and comparing two objects field by field.
//!
//! Deliberately ignores who owns what: ownership is decided with the sets that the comparison gives.

use serde_json::{Map, Value};

use super::typed::{Shape, atomic_list, item_step, shape};
use crate::kube::fields::{FieldSet, Step};
use crate::kube::schema::node::Node;
use crate::kube::validate::same;

/// The live value with everything that the applied one says; `None` where neither says anything.
pub(super) fn merge(node: &Node, live: Option<&Value>, applied: Option<&Value>) -> Option<Value> {
    let leaf = || applied.or(live).cloned();
    let shape = match applied {
        Some(applied) => shape(node, Some(applied)),
        None => shape(node, live),
    };
    match shape {
        Shape::Scalar => leaf(),
        Shape::List => {
            let (left, right) = (items(live), items(applied));
            if atomic_list(node) || (left.is_empty() && right.is_empty()) {
                return leaf();
            }
            let merged = merge_items(node, left, right);
            (!merged.is_empty()).then_some(Value::Array(merged))
        }
        Shape::Map | Shape::Undecided => {
            let (left, right) = (fields(live), fields(applied));
            if node.atomic_map || (left.is_none_or(Map::is_empty) && right.is_none_or(Map::is_empty)) {
                return leaf();
            }
            let mut merged = Map::new();
            for key in keys(left, right) {
                let (left, right) =
                    (left.and_then(|fields| fields.get(key)), right.and_then(|fields| fields.get(key)));
                let value = match node.entry(key) {
                    Some(child) => merge(child, left, right),
                    None => right.or(left).cloned(),
                };
                if let Some(value) = value {
                    merged.insert(key.clone(), value);
                }
            }
            (!merged.is_empty()).then_some(Value::Object(merged))
        }
    }
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn fields(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

fn keys<'a>(left: Option<&'a Map<String, Value>>, right: Option<&'a Map<String, Value>>) -> Vec<&'a String> {
    let mut keys: Vec<&String> = left.into_iter().flat_map(Map::keys).collect();
    for key in right.into_iter().flat_map(Map::keys) {
        if left.is_none_or(|left| !left.contains_key(key)) {
            keys.push(key);
        }
    }
    keys
}

/// A list with the steps to its items.
struct Indexed<'a> {
    steps: Vec<Step>,
    items: Vec<&'a Value>,
}

impl<'a> Indexed<'a> {
    fn new(node: &Node, items: &'a [Value]) -> Indexed<'a> {
        let (steps, items) =
            items.iter().filter_map(|item| Some((item_step(node, item).ok()?, item))).unzip();
        Indexed { steps, items }
    }

    fn has(&self, step: &Step) -> bool {
        self.steps.contains(step)
    }

    /// The only item of a step; duplicates are nobody's counterpart.
    fn find(&self, step: &Step) -> Option<&'a Value> {
        let mut found = self.steps.iter().zip(&self.items).filter(|(other, _)| *other == step);
        match (found.next(), found.next()) {
            (Some((_, item)), None) => Some(item),
            _ => None,
        }
    }
}

/// Items of both lists: those in both follow the applied order, the others keep their place among them.
fn merge_items(node: &Node, live: &[Value], applied: &[Value]) -> Vec<Value> {
    let (left, right) = (Indexed::new(node, live), Indexed::new(node, applied));
    let mut shared = right.steps.iter().filter(|step| left.has(step));
    let mut next = shared.next();
    let mut taken: Vec<&Step> = Vec::new();
    let mut merged = Vec::new();
    let (mut l, mut r) = (0, 0);
    let both = |step: &Step| merge(node.element(), left.find(step), right.find(step));
    while l < left.steps.len() || r < right.steps.len() {
        if let (Some(own), Some(wanted)) = (left.steps.get(l), right.steps.get(r)) {
            if own == wanted {
                taken.push(wanted);
                merged.extend(both(wanted));
                (l, r) = (l + 1, r + 1);
                next = shared.next();
                continue;
            }
            if right.has(own) && next.is_some_and(|next| next != own) {
                // It is in both lists, but another one is due first.
                l += 1;
                continue;
            }
        }
        if let Some(own) = left.steps.get(l) {
            if !right.has(own) {
                merged.extend(merge(node.element(), Some(left.items[l]), None));
                l += 1;
                continue;
            }
            if taken.contains(&own) {
                l += 1;
            }
        }
        if let Some(wanted) = right.steps.get(r) {
            taken.push(wanted);
            merged.extend(both(wanted));
            r += 1;
            if next == Some(wanted) {
                next = shared.next();
            }
        }
    }
    merged
}

/// The fields in which two objects differ.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) removed: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) added: FieldSet,
}

impl Comparison {
    /// Leaves out everything at and below the members of a set.
    pub(super) fn exclude(&mut self, fields: &FieldSet) {
        self.removed = self.removed.difference_below(fields);
        self.modified = self.modified.difference_below(fields);
        self.added = self.added.difference_below(fields);
    }
}

/// Compares two objects.
pub(super) fn compare(node: &Node, before: &Value, after: &Value) -> Comparison {
    let mut comparison = Comparison::default();
    step(node, Some(before), Some(after), &mut Vec::new(), &mut comparison);
    comparison
}

fn step(
    node: &Node,
    left: Option<&Value>,
    right: Option<&Value>,
    path: &mut Vec<Step>,
    found: &mut Comparison,
) {
    let (before, after) = (shape(node, left), shape(node, right));
    let leaf = match (left, right) {
        (_, None) => handle(node, before, left, right, path, found),
        (Some(_), Some(_)) if before != after => {
            handle(node, before, left, right, path, found);
            handle(node, after, left, right, path, found)
        }
        _ => handle(node, after, left, right, path, found),
    };
    if !leaf {
        match (left, right) {
            (None, _) => found.added.insert(path),
            (_, None) => found.removed.insert(path),
            _ => {}
        }
    }
}

/// Compares as one shape; whether the value was taken as a whole.
fn handle(
    node: &Node,
    shape: Shape,
    left: Option<&Value>,
    right: Option<&Value>,
    path: &mut Vec<Step>,
    found: &mut Comparison,
) -> bool {
    let whole = match shape {
        Shape::Scalar => true,
        Shape::List => atomic_list(node) || (items(left).is_empty() && items(right).is_empty()),
        Shape::Map | Shape::Undecided => {
            node.atomic_map
                || (fields(left).is_none_or(Map::is_empty) && fields(right).is_none_or(Map::is_empty))
        }
    };
    if whole {
        match (left, right) {
            (None, _) => found.added.insert(path),
            (_, None) => found.removed.insert(path),
            (Some(left), Some(right)) if !same(left, right) => found.modified.insert(path),
            _ => {}
        }
        return true;
    }
    if shape == Shape::List {
        compare_items(node, items(left), items(right), path, found);
    } else {
        let (left, right) = (fields(left), fields(right));
        for key in keys(left, right) {
            let Some(child) = node.entry(key) else { continue };
            path.push(Step::Field(key.clone()));
            let before = left.and_then(|fields| fields.get(key));
            let after = right.and_then(|fields| fields.get(key));
            step(child, before, after, path, found);
            path.pop();
        }
    }
    false
}

fn compare_items(node: &Node, left: &[Value], right: &[Value], path: &mut Vec<Step>, found: &mut Comparison) {
    let (left, right) = (Indexed::new(node, left), Indexed::new(node, right));
    let mut steps: Vec<&Step> = Vec::new();
    for candidate in left.steps.iter().chain(&right.steps) {
        if !steps.contains(&candidate) {
            steps.push(candidate);
        }
    }
    fn all<'a>(list: &Indexed<'a>, wanted: &Step) -> Vec<&'a Value> {
        let pairs = list.steps.iter().zip(&list.items).filter(|(step, _)| *step == wanted);
        pairs.map(|(_, item)| *item).collect()
    }
    for wanted in steps {
        let (before, after) = (all(&left, wanted), all(&right, wanted));
        path.push(wanted.clone());
        match (before.len(), after.len()) {
            (0 | 1, 0 | 1) => {
                step(node.element(), before.first().copied(), after.first().copied(), path, found)
            }
            (2.., 2..) => {
                if before != after {
                    found.modified.insert(path);
                }
            }
            (2.., _) => {
                if let Some(item) = after.first() {
                    step(node.element(), None, Some(item), path, found);
                }
                found.removed.insert(path);
            }
            (_, _) => {
                if let Some(item) = before.first() {
                    step(node.element(), Some(item), None, path, found);
                }
                found.added.insert(path);
            }
        }
        path.pop();
    }
}
