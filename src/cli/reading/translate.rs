//! From objects as the API serves them to what their causes are found by.
//!
//! Every text is made safe to show here, once: nothing behind this sees another one.

use std::collections::BTreeMap;

use kube::api::DynamicObject;
use serde_json::Value;

use super::{Detail, Facts, Served, Unread};
use crate::cli::output;
use crate::decision::Reason;
use crate::decision::reason::Mover;
use crate::decision::report::Truth;
use crate::diagnosis::{Concern, Id, Object};
use crate::kind::accounts;
use crate::kind::fault::denied_action;
use crate::kind::{Dependency, Revocations};

/// All objects, what else is known of them, and those that do not fit their types.
pub fn all(raw: Vec<(&Served, DynamicObject)>) -> (Vec<Object>, BTreeMap<Id, Detail>, Vec<Unread>) {
    let mut unfit = Vec::new();
    let raw: Vec<_> =
        raw.into_iter().map(|(kind, object)| (kind, Raw::of(kind, object, &mut unfit))).collect();
    // The operator's own answer to who holds a key.
    let (revocations, holders) = (Revocations::default(), holders(&raw));
    for (_, one) in &raw {
        let hold =
            one.facts.incident.as_ref().filter(|incident| incident.is_held).map(|incident| &incident.hold);
        revocations.set(&one.detail.uid, hold.cloned());
    }
    let mut details = BTreeMap::new();
    let mut objects = Vec::with_capacity(raw.len());
    for (kind, one) in raw {
        objects.push(object(kind, &one, |account, region, key| {
            revocations.holder(account, region, key).and_then(|name| holders.get(&name).cloned())
        }));
        details.insert(one.id, Detail { incident: one.facts.incident, ..one.detail });
    }
    (objects, details, unfit)
}

/// The objects that may hold keys, by their names.
fn holders(raw: &[(&Served, Raw)]) -> BTreeMap<String, Id> {
    let held = raw.iter().filter(|(_, one)| one.facts.incident.is_some());
    held.map(|(_, one)| (one.id.name.clone(), one.id.clone())).collect()
}

/// An object that was taken apart.
struct Raw {
    id: Id,
    generation: Option<i64>,
    region: Option<String>,
    facts: Facts,
    detail: Detail,
}

impl Raw {
    fn of(kind: &Served, object: DynamicObject, unfit: &mut Vec<Unread>) -> Raw {
        let mut value = serde_json::to_value(&object).unwrap_or_default();
        clean(&mut value);
        let meta = object.metadata;
        let status = value["status"].take();
        let region = value["spec"]["region"].as_str().map(str::to_owned);
        value["status"] = status.clone();
        let id = Id {
            kind: kind.resource.kind.clone(),
            namespace: meta.namespace,
            name: meta.name.unwrap_or_default(),
        };
        let facts = (kind.facts)(&value).unwrap_or_else(|error| {
            unfit.push(Unread::object(id.clone(), &error));
            Facts::default()
        });
        let since = ready(&status).and_then(|ready| ready["lastTransitionTime"].as_str()?.parse().ok());
        Raw {
            id,
            generation: meta.generation,
            region,
            facts,
            detail: Detail {
                uid: meta.uid.unwrap_or_default(),
                since,
                created: meta.creation_timestamp.map(|time| time.0),
                is_leaving: meta.deletion_timestamp.is_some(),
                status,
                incident: None,
            },
        }
    }
}

fn ready(status: &Value) -> Option<&Value> {
    conditions(status).find(|condition| condition["type"] == "Ready")
}

/// The conditions of a status.
pub fn conditions(status: &Value) -> impl Iterator<Item = &Value> {
    status["conditions"].as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn object(kind: &Served, raw: &Raw, holder: impl Fn(Option<&str>, &str, &str) -> Option<Id>) -> Object {
    let status = &raw.detail.status;
    let ready = ready(status);
    let message = ready.map(|ready| text(&ready["message"])).unwrap_or_default();
    let holds = |name: &str| {
        conditions(status).any(|condition| condition["type"] == name && condition["status"] == "True")
    };
    let account = raw.facts.account.as_ref().and_then(|account| named(account, &raw.id));
    let account_name = account.as_ref().map(|account| account.name.as_str());
    let keys = raw.facts.dependencies.iter().filter_map(|one| match one {
        Dependency::Key { region, id } => Some((region, id)),
        Dependency::Object { .. } | Dependency::Secret { .. } => None,
    });
    let held_by = keys.clone().find_map(|(region, key)| holder(account_name, region, key));
    Object {
        id: raw.id.clone(),
        looked_at: ready.is_some() && status["observedGeneration"].as_i64() == raw.generation,
        ready: match ready.and_then(|ready| ready["status"].as_str()) {
            Some("True") => Truth::True,
            Some("False") => Truth::False,
            _ => Truth::Unknown,
        },
        stalled: holds("Stalled"),
        reason: ready.map(|ready| text(&ready["reason"])).unwrap_or_default(),
        alarms: alarms(kind, status),
        concerns: concerns(kind, status),
        // Who looks at what is not said by objects.
        forsaken: false,
        is_account: raw.id.kind == accounts::KIND,
        region: raw.region.clone(),
        needs: raw.facts.dependencies.iter().filter_map(|one| named(one, &raw.id)).collect(),
        keys: keys.map(|(_, id)| id.clone()).collect(),
        held_by,
        denied: denied_action(&message).map(str::to_owned),
        code: status["lastError"]["code"].as_str().map(str::to_owned),
        message,
        account,
    }
}

/// The alarms of a kind that hold, in words.
fn alarms(kind: &Served, status: &Value) -> Vec<String> {
    let is_on = |condition: &&Value| {
        condition["status"] == "True" && kind.alarms.iter().any(|alarm| condition["type"] == *alarm)
    };
    let words = |condition: &Value| format!("{}: {}", text(&condition["type"]), text(&condition["message"]));
    conditions(status).filter(is_on).map(words).collect()
}

/// The conditions of a kind by which something is not as promised although Ready may be True.
fn concerns(kind: &Served, status: &Value) -> Vec<Concern> {
    let is_one = |condition: &&Value| {
        let mover = condition["reason"].as_str().and_then(Reason::parse).map(Reason::mover);
        kind.concerns.iter().any(|name| condition["type"] == *name)
            && matches!(mover, Some(Mover::Outside | Mover::Object) | None)
    };
    let concern = |condition: &Value| {
        let [name, truth, reason, message] =
            ["type", "status", "reason", "message"].map(|field| text(&condition[field]));
        Concern { words: format!("{name} is {truth}: {reason}: {message}"), reason }
    };
    amiss(status).filter(is_one).map(concern).collect()
}

/// The conditions that are not as they should be, by who must move for them; what Ready says already is left out.
pub fn amiss(status: &Value) -> impl Iterator<Item = &Value> {
    let is_amiss = |condition: &&Value| {
        let said = ["Ready", "Reconciling", "Stalled"].iter().any(|name| condition["type"] == *name);
        let mover = condition["reason"].as_str().and_then(Reason::parse).map(Reason::mover);
        !said && mover.map_or(condition["status"] != "True", |mover| mover != Mover::Nobody)
    };
    conditions(status).filter(is_amiss)
}

/// The object that a dependency names: in the namespace of who names it, but for accounts, which belong to the cluster.
fn named(dependency: &Dependency, of: &Id) -> Option<Id> {
    let Dependency::Object { kind, name } = dependency else { return None };
    let namespace = of.namespace.clone().filter(|_| *kind != accounts::KIND);
    Some(Id { kind: (*kind).to_owned(), namespace, name: name.clone() })
}

/// Makes every text in a value safe to show.
pub fn clean(value: &mut Value) {
    match value {
        Value::String(text) => *text = output::clean(text),
        Value::Array(list) => list.iter_mut().for_each(clean),
        Value::Object(fields) => fields.values_mut().for_each(clean),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
