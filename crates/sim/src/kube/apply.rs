//! Server-side apply, and the bookkeeping of who manages which field (`metadata.managedFields`).
//!
//! Deliberately pure: the live object, the applied one and the time come in, the merged object goes out.
//! Defaulting, validation, storing and the check of kind and name stay with the server. One version per kind
//! is assumed: managers of other versions are compared as they are. Facts: k8s.io/apimachinery,
//! managedfields; sigs.k8s.io/structured-merge-diff.

mod last_applied;
mod managers;
mod merge;
mod typed;

use serde_json::{Map, Value};

use super::fields::{FieldSet, shown};
use super::schema::{Cause, Schema};
use super::validate::same;
use managers::{Entry, Key, Managers};
use merge::Comparison;

/// How a manager wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// By server-side apply.
    Apply,
    /// By any other write.
    Update,
}

/// Who writes, how, where and when.
#[derive(Clone, Copy, Debug)]
pub struct Manager<'a> {
    /// The field manager.
    pub name: &'a str,
    /// How it writes.
    pub operation: Operation,
    /// The subresource that is written, or nothing.
    pub subresource: &'a str,
    /// The `apiVersion` of the request.
    pub api_version: &'a str,
    /// Now, in RFC 3339 with seconds.
    pub time: &'a str,
}

/// Why an apply was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// Others manage fields that would change: the causes, and the whole message.
    Conflict(Vec<Cause>, String),
    /// The live object cannot be merged with.
    Invalid(String),
    /// An HTTP code and the message; the API server gives no reason for code 500.
    Bad(u16, String),
}

/// The manager that owns what was there before anybody applied.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Fields that are never recorded: they belong to the server.
const NEVER_OWNED: [&[&str]; 12] = [
    &["apiVersion"],
    &["kind"],
    &["metadata"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "clusterName"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

/// Merges an applied configuration into the live object and records who owns what.
///
/// `live` is `None` on create. The result carries `metadata.managedFields`, and is neither defaulted nor
/// validated.
///
/// # Errors
/// See [`ApplyError`].
pub fn apply(
    schema: &Schema,
    live: Option<&Value>,
    applied: &Value,
    manager: &Manager<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    let applied = prepared(applied)?;
    let mut managers = match live {
        Some(live) => Managers::decode(live)
            .map_err(|why| ApplyError::Invalid(format!("failed to decode managed fields: {why}")))?,
        None => Managers::default(),
    };
    let empty = nothing(&applied);
    let base = live.map_or_else(|| empty.clone(), without_managed_fields);
    check_types(schema, &applied, &base)?;
    if managers.is_empty() && live.is_some() {
        let before = Manager { name: BEFORE_FIRST_APPLY, operation: Operation::Update, ..*manager };
        update(schema, &empty, &base, &mut managers, &before);
    }
    let outcome = merge_owned(schema, &base, &applied, managers.clone(), manager, force);
    let (mut merged, managers) = match outcome {
        Err(conflicts) if manager.name == last_applied::MANAGER => {
            let allowed = last_applied::allowed(schema, &base, manager.api_version);
            let rest = conflicts.without(&allowed);
            if !rest.is_empty() {
                return Err(rest.into_error());
            }
            merge_owned(schema, &base, &applied, managers, manager, true).map_err(Conflicts::into_error)?
        }
        outcome => outcome.map_err(Conflicts::into_error)?,
    };
    if manager.name == last_applied::MANAGER {
        last_applied::record(&mut merged, &applied);
    }
    managers.encode(&mut merged);
    Ok(merged)
}

/// Records the changes of any other write in `new`, and drops them from the managers that had them.
///
/// `live` is `None` on create. A `managedFields` in `new` is the client's: an edited list counts, `[{}]`
/// clears it, anything that cannot be read is ignored.
pub fn track_update(schema: &Schema, live: Option<&Value>, new: &mut Value, manager: &Manager<'_>) {
    let before = live.map_or_else(|| nothing(new), without_managed_fields);
    let requested = new.pointer("/metadata/managedFields").cloned();
    let kept = || live.map(|live| Managers::decode(live).unwrap_or_default()).unwrap_or_default();
    let mut managers = match requested {
        Some(Value::Array(entries)) if manager.subresource.is_empty() && !entries.is_empty() => {
            if matches!(entries.as_slice(), [Value::Object(entry)] if entry.is_empty()) {
                Managers::default()
            } else {
                match Managers::decode(new) {
                    Ok(managers) if !managers.is_empty() => managers,
                    _ => kept(),
                }
            }
        }
        _ => kept(),
    };
    remove_managed_fields(new);
    if managers.is_empty() && live.is_some() {
        // Whoever cleared the list, or never had one, is not tracked until somebody applies.
        return;
    }
    let readable = |value: &Value| typed::mistakes(&schema.root, value, true).is_empty();
    if !readable(new) || !readable(&before) {
        kept().encode(new);
        return;
    }
    update(schema, &before, new, &mut managers, manager);
    managers.cap();
    managers.encode(new);
}

/// The applied configuration without what client libraries send along empty.
fn prepared(applied: &Value) -> Result<Value, ApplyError> {
    let mut applied = applied.clone();
    if let Some(metadata) = applied.get_mut("metadata").and_then(Value::as_object_mut) {
        if metadata.get("creationTimestamp").is_some_and(Value::is_null) {
            metadata.remove("creationTimestamp");
        }
        if metadata.get("managedFields").is_some_and(|fields| !fields.is_null()) {
            return Err(ApplyError::Bad(400, "metadata.managedFields must be nil".to_owned()));
        }
        metadata.remove("managedFields");
    }
    Ok(applied)
}

/// An object of the same kind with nothing in it.
fn nothing(object: &Value) -> Value {
    let kept = ["apiVersion", "kind"]
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), object.get(name)?.clone())));
    Value::Object(kept.collect::<Map<String, Value>>())
}

fn without_managed_fields(object: &Value) -> Value {
    let mut object = object.clone();
    remove_managed_fields(&mut object);
    object
}

fn remove_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

fn check_types(schema: &Schema, applied: &Value, live: &Value) -> Result<(), ApplyError> {
    let text = |pointer: &str| applied.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let name = format!(
        "{}/{}; {}, Kind={}",
        text("/metadata/namespace"),
        text("/metadata/name"),
        text("/apiVersion"),
        text("/kind")
    );
    let listed = |mistakes: Vec<String>| match mistakes.as_slice() {
        [only] => only.clone(),
        several => format!("errors:\n  {}", several.join("\n  ")),
    };
    let mistakes = typed::mistakes(&schema.root, applied, false);
    if !mistakes.is_empty() {
        let why = format!("failed to create typed patch object ({name}): {}", listed(mistakes));
        return Err(ApplyError::Bad(500, why));
    }
    let mistakes = typed::mistakes(&schema.root, live, true);
    if !mistakes.is_empty() {
        let why = format!("failed to create typed live object ({name}): {}", listed(mistakes));
        return Err(ApplyError::Bad(500, why));
    }
    Ok(())
}

/// The fields that a write through this door cannot change, so that nobody comes to own them.
fn out_of_reach(schema: &Schema, manager: &Manager<'_>) -> FieldSet {
    match manager.subresource {
        "status" => FieldSet::of(&[&["metadata"], &["spec"]]),
        "" if schema.has_status_subresource() => FieldSet::of(&[&["status"]]),
        _ => FieldSet::default(),
    }
}

/// Fields that would be taken from other managers.
#[derive(Debug, Default)]
struct Conflicts(Vec<(Key, FieldSet)>);

impl Conflicts {
    fn is_empty(&self) -> bool {
        self.0.iter().all(|(_, set)| set.is_empty())
    }

    fn without(self, allowed: &FieldSet) -> Conflicts {
        let rest = self.0.into_iter().map(|(key, set)| (key, set.difference(allowed)));
        Conflicts(rest.filter(|(_, set)| !set.is_empty()).collect())
    }

    fn into_error(self) -> ApplyError {
        let mut causes = Vec::new();
        let mut lines = Vec::new();
        for (key, set) in &self.0 {
            lines.push(format!("conflicts with {key}:"));
            for path in set.paths() {
                lines.push(format!("- {}", shown(&path)));
                causes.push(Cause {
                    reason: "FieldManagerConflict",
                    message: format!("conflict with {key}"),
                    field: shown(&path),
                });
            }
        }
        let message = match causes.as_slice() {
            [only] => format!("Apply failed with 1 conflict: {}: {}", only.message, only.field),
            several => format!("Apply failed with {} conflicts: {}", several.len(), lines.join("\n")),
        };
        ApplyError::Conflict(causes, message)
    }
}

/// Merges, prunes what the manager no longer applies, and takes ownership or reports conflicts.
fn merge_owned(
    schema: &Schema,
    live: &Value,
    applied: &Value,
    mut managers: Managers,
    manager: &Manager<'_>,
    force: bool,
) -> Result<(Value, Managers), Conflicts> {
    let root = &schema.root;
    managers.reconcile(root);
    let key = Key::of(manager);
    let merged = merge::merge(root, Some(live), Some(applied)).unwrap_or_else(|| nothing(applied));
    let unreachable = out_of_reach(schema, manager);
    let set = typed::field_set(root, applied).difference_below(&unreachable);
    let last = managers.remove(&key);
    let time = last.as_ref().and_then(|entry| entry.time.clone());
    managers.insert(key.clone(), Entry { set, version: manager.api_version.to_owned(), time });
    let merged = match &last {
        Some(last) if !last.set.is_empty() => prune(schema, &merged, &managers, &last.set),
        _ => merged,
    };
    let mut comparison = merge::compare(root, live, &merged);
    comparison.exclude(&unreachable);
    take(&mut managers, &comparison, Some(&key), force)?;
    managers.strip(&key, &FieldSet::of(&NEVER_OWNED));
    if !same(live, &merged) {
        managers.touch(&key, manager.time);
    }
    Ok((merged, managers))
}

/// Removes what the manager applied last time and nobody claims now.
fn prune(schema: &Schema, merged: &Value, managers: &Managers, last: &FieldSet) -> Value {
    let root = &schema.root;
    let empty = || nothing(merged);
    let named = |value: &Value| typed::with_named_fields(root, &typed::field_set(root, value));
    let last = typed::with_named_fields(root, last);
    let pruned = typed::without(root, merged, &last).unwrap_or_else(empty);
    let owned = typed::with_named_fields(root, &managers.union());
    let gone = named(merged).difference(&named(&pruned).union(&owned));
    let pruned = typed::without(root, merged, &gone).unwrap_or_else(empty);
    let gone = named(merged).difference(&named(&pruned)).intersection(&last);
    typed::without(root, merged, &gone).unwrap_or_else(empty)
}

/// Takes changed fields away from every manager but one; without force that is a conflict.
fn take(
    managers: &mut Managers,
    comparison: &Comparison,
    except: Option<&Key>,
    force: bool,
) -> Result<(), Conflicts> {
    let changed = comparison.modified.union(&comparison.added);
    let conflicts: Vec<(Key, FieldSet)> = managers
        .iter()
        .filter(|(key, _)| Some(*key) != except)
        .map(|(key, entry)| (key.clone(), entry.set.intersection(&changed)))
        .filter(|(_, set)| !set.is_empty())
        .collect();
    if !force && !conflicts.is_empty() {
        return Err(Conflicts(conflicts));
    }
    for (key, entry) in managers.iter_mut() {
        if Some(key) != except {
            entry.set = entry.set.difference(&changed).difference(&comparison.removed);
        }
    }
    managers.drop_empty();
    Ok(())
}

/// Records what changed from `before` to `after` as the manager's.
fn update(schema: &Schema, before: &Value, after: &Value, managers: &mut Managers, manager: &Manager<'_>) {
    managers.reconcile(&schema.root);
    let mut comparison = merge::compare(&schema.root, before, after);
    comparison.exclude(&out_of_reach(schema, manager));
    // With force nothing conflicts.
    let taken = take(managers, &comparison, None, true);
    debug_assert!(taken.is_ok());
    let changed = comparison.modified.union(&comparison.added).difference(&FieldSet::of(&NEVER_OWNED));
    if changed.is_empty() {
        return;
    }
    let key = Key::of(&Manager { operation: Operation::Update, ..*manager });
    let set = managers.remove(&key).map(|entry| entry.set.union(&changed)).unwrap_or(changed);
    let time = Some(manager.time.to_owned());
    managers.insert(key, Entry { set, version: manager.api_version.to_owned(), time });
}

#[cfg(test)]
mod tests;
