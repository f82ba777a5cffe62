//! The words for causes, movers and times, which more than one subcommand uses.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::decision::reason::Mover;
use crate::diagnosis::{Cause, Diagnosis, Id, Object, Subject, Urgency};
use crate::kind::Incident;
use crate::kind::revocations::Hit;

/// An object, for example `Kind/orders in shop`.
pub fn object(id: &Id) -> String {
    let Id { kind, namespace, name } = id;
    namespace.as_ref().map_or_else(|| format!("{kind}/{name}"), |space| format!("{kind}/{name} in {space}"))
}

/// The command that looks closer at an object.
pub fn why(id: &Id) -> String {
    let Id { kind, namespace, name } = id;
    let place = namespace.as_ref().map(|namespace| format!(" -n {namespace}")).unwrap_or_default();
    format!("ecskms why {kind}/{name}{place}")
}

/// A cause, in a few words.
pub fn cause(cause: &Cause) -> String {
    match cause {
        Cause::Object(id) => object(id),
        Cause::Absent(id) => format!("{} is not there", object(id)),
        Cause::Unread(id) => format!("{}, which could not be read", object(id)),
        Cause::Circle(id) => format!("{} and others wait for one another", object(id)),
        Cause::Unseen => "Not looked at yet".to_owned(),
        Cause::Forsaken => "No operator looks at it".to_owned(),
        Cause::Outside { account, region, subject, .. } => {
            let subject = match subject {
                Subject::Nothing => None,
                Subject::Key(key) => Some(format!("key {key}")),
                Subject::Action(action) => Some(format!("RAM action {action}")),
                Subject::Code(code) => Some(format!("error {code}")),
                Subject::Namespace(namespace) => Some(format!("namespace {namespace}")),
            };
            let region = region.as_ref().map(|region| format!("region {region}"));
            let account = account.as_ref().map(object);
            let parts: Vec<String> = subject.into_iter().chain(region).chain(account).collect();
            parts.join(", ")
        }
    }
}

/// A cause and the reason that it shows, and for how long if it is an object's own.
pub fn head(of: &Cause, speaker: &Object, since: Option<Timestamp>, now: Timestamp) -> String {
    let subject = cause(of);
    let since = since.map(|since| format!(", for {}", ago(since, now))).unwrap_or_default();
    match of {
        Cause::Unseen | Cause::Forsaken => subject,
        Cause::Object(_) => format!("{subject}: {}{since}", speaker.reason),
        _ if subject.is_empty() => speaker.reason.clone(),
        _ => format!("{subject}: {}", speaker.reason),
    }
}

/// A cause for programs.
pub fn cause_json(cause: &Cause) -> Value {
    let of = |sort: &str, id: &Id| json!({ "sort": sort, "kind": id.kind, "namespace": id.namespace, "name": id.name });
    match cause {
        Cause::Object(id) => of("Object", id),
        Cause::Absent(id) => of("Absent", id),
        Cause::Unread(id) => of("NotRead", id),
        Cause::Circle(id) => of("Circle", id),
        Cause::Unseen => json!({ "sort": "NotLookedAt" }),
        Cause::Forsaken => json!({ "sort": "NoOperator" }),
        Cause::Outside { reason, account, region, subject } => {
            let (what, value) = match subject {
                Subject::Nothing => ("nothing", None),
                Subject::Key(key) => ("keyId", Some(key)),
                Subject::Action(action) => ("ramAction", Some(action)),
                Subject::Code(code) => ("code", Some(code)),
                Subject::Namespace(namespace) => ("namespace", Some(namespace)),
            };
            let account = account.as_ref().map(|account| &account.name);
            let mut json =
                json!({ "sort": "Outside", "reason": reason, "account": account, "region": region });
            if let Some(value) = value {
                json[what] = json!(value);
            }
            json
        }
    }
}

/// Who must move, as the README's table of reasons has it.
pub fn mover(mover: Mover) -> &'static str {
    match mover {
        Mover::Nobody => "nobody",
        Mover::Time => "nobody; it goes on by itself",
        Mover::Outside => "you, outside of the object",
        Mover::Object => "you, in the object",
    }
}

/// The word for programs.
pub fn mover_word(mover: Mover) -> &'static str {
    match mover {
        Mover::Nobody => "Nobody",
        Mover::Time => "Time",
        Mover::Outside => "Outside",
        Mover::Object => "Object",
    }
}

/// The word for programs.
pub fn urgency_word(urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::Alarm => "Alarm",
        Urgency::Needs => "NeedsSomebody",
        Urgency::Unseen => "NotLookedAt",
        Urgency::Working => "Working",
        Urgency::Suspended => "Suspended",
    }
}

/// How long ago, in the largest unit that says something.
pub fn ago(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Names that are told in one line.
const NAMES_MAX: usize = 10;

/// Who is hit by a revocation.
pub fn hit(hit: &Hit) -> String {
    let places = match hit.namespaces.is_empty() {
        true => String::new(),
        false => format!(", namespaces {}", some(&hit.namespaces)),
    };
    let rest = if hit.is_complete { "" } else { ", and what could not be listed" };
    format!("{} instances, {} disks{places}{rest}", hit.instances, hit.disks)
}

/// Who may still read what a revocation should take away; None if nobody, or nobody knows.
pub fn readers(incident: &Incident) -> Option<String> {
    let is_told = !incident.readers.is_empty();
    is_told.then(|| format!("still readable on {}", some(&incident.readers)))
}

/// The first names, and that there are more.
fn some(names: &[String]) -> String {
    let more = if names.len() > NAMES_MAX { " …" } else { "" };
    let first: Vec<&str> = names.iter().take(NAMES_MAX).map(String::as_str).collect();
    format!("{}{more}", first.join(" "))
}

/// Objects by kind and namespace, `limit` names at most, and how many are left out.
pub fn members(diagnosis: &Diagnosis, places: &[usize], limit: usize) -> (Vec<String>, usize) {
    let mut lists: BTreeMap<(&str, Option<&str>), Vec<&str>> = BTreeMap::new();
    for place in places.iter().take(limit) {
        let id = &diagnosis.objects()[*place].id;
        lists.entry((&id.kind, id.namespace.as_deref())).or_default().push(&id.name);
    }
    let line = |((kind, namespace), names): ((&str, Option<&str>), Vec<&str>)| {
        let place = namespace.map(|namespace| format!(" in {namespace}")).unwrap_or_default();
        format!("{kind}{place}: {}", names.join(", "))
    };
    (lists.into_iter().map(line).collect(), places.len().saturating_sub(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_the_unit_that_says_something() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        for (seconds, word) in
            [(0, "0s"), (119, "119s"), (120, "2m"), (7_199, "119m"), (7_200, "2h"), (172_800, "2d")]
        {
            assert_eq!(ago(at(0), at(seconds)), word);
        }
        assert_eq!(ago(at(10), at(0)), "0s", "a clock that is ahead");
    }
}
