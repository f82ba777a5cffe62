//! A plan as lines for people, and as JSON.

use serde_json::{Value, json};

use super::{Plan, Planned, ram_actions};
use crate::cli::output;
use crate::decision::Reason;
use crate::engine::rehearse::{End, Rehearsal, Step};
use crate::kind::Call;
use crate::resource::tag;

const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;
/// Calls of one action in a row that are told one by one.
const ALIKE_MAX: usize = 3;

/// Prints each object with its steps, and then all calls and RAM actions together.
pub fn table(plan: &Plan) {
    for object in &plan.objects {
        one(plan, object);
    }
    let done = plan.objects.iter().filter_map(|object| object.outcome.as_ref().ok());
    let calls: Vec<&Call> = done.flat_map(Rehearsal::calls).collect();
    output::say("");
    let deletions = calls.iter().filter(|call| call.deletes()).count();
    let deletions = if deletions > 0 { format!(", {deletions} of them a deletion") } else { String::new() };
    let is_known = |object: &Planned| object.outcome.as_ref().is_ok_and(|one| one.end != End::Unknown);
    match calls.len() {
        0 if plan.objects.iter().all(is_known) => output::say("Nothing in the cloud would change."),
        0 => output::say("Not everything could be planned; nothing else in the cloud would change."),
        1 => output::say(format_args!("1 call would change the cloud{deletions}.")),
        many => output::say(format_args!("{many} calls would change the cloud{deletions}.")),
    }
    let actions = ram_actions(plan);
    for (what, words) in [("change", "RAM actions that change"), ("look", "RAM actions that look")] {
        let list = actions.get(what).map(|list| list.join(" ")).unwrap_or_default();
        output::say(format_args!("{words}: {}", if list.is_empty() { "none" } else { &list }));
    }
    if plan.others > 0 {
        let noun = if plan.others == 1 { "object" } else { "objects" };
        output::say(format_args!(
            "Left out: {} {noun} that the operator has nothing to do with.",
            plan.others
        ));
    }
}

fn one(plan: &Plan, object: &Planned) {
    let (word, colour) = verdict(object);
    let how = match (&object.outcome, plan.is_deletion, object.is_new) {
        (Err(_), ..) => "",
        (_, true, _) => " (delete)",
        (_, false, true) => " (new)",
        (_, false, false) => " (there)",
    };
    output::say(output::paint(&format!("{}{how}: {word}", name(object)), colour));
    let rehearsal = match &object.outcome {
        Ok(rehearsal) => rehearsal,
        Err(why) => return output::say(format_args!("     {}", output::clean(why))),
    };
    if let Some(shows) = &rehearsal.shows {
        output::say(format_args!("     {}", output::clean(shows)));
    }
    let mut number = 0;
    for group in rehearsal.steps.chunk_by(alike) {
        for step in group.iter().take(ALIKE_MAX) {
            match step {
                Step::Change(call) => {
                    number += 1;
                    let text = format!("{number:>3}  {}", output::clean(&line(call)));
                    output::say(if call.deletes() { output::paint(&text, RED) } else { text });
                    if call.action == "DeleteInstance" {
                        output::say(
                            "     with it goes its system disk, and every data disk with DeleteWithInstance",
                        );
                    }
                }
                Step::Wait { message, .. } => {
                    output::say(format_args!("     waits: {}", output::clean(message)));
                }
            }
        }
        if let Some(more) = group.len().checked_sub(ALIKE_MAX).filter(|more| *more > 0) {
            number += more;
            output::say(format_args!("     and {more} more of the same; -o json names all"));
        }
    }
    let request = rehearsal.request_id.as_ref().map(|id| format!(" RequestId {id}.")).unwrap_or_default();
    let text = output::clean(&rehearsal.message);
    let end = match rehearsal.end {
        End::Settled => format!("{}: {text}", rehearsal.reason),
        End::Waiting => format!("waits: {}: {text}", rehearsal.reason),
        End::Blocked => format!("blocked: {}: {text}", rehearsal.reason),
        End::Unknown => format!("not known: {}: {text}{request}", rehearsal.reason),
    };
    output::say(format_args!("     {}{end}", if rehearsal.steps.is_empty() { "" } else { "ends " }));
}

fn alike(one: &Step, other: &Step) -> bool {
    matches!((one, other), (Step::Change(one), Step::Change(other)) if one.action == other.action)
}

fn name(object: &Planned) -> String {
    let document = &object.document;
    let place = object.namespace.as_ref().map(|namespace| format!(" in {namespace}")).unwrap_or_default();
    output::clean(&format!("{}/{}{place}", document.kind, document.name))
}

/// The one word for what would become of an object, and its colour.
fn verdict(object: &Planned) -> (String, u8) {
    let Ok(rehearsal) = &object.outcome else { return ("not planned".to_owned(), RED) };
    let calls = rehearsal.calls().count();
    let calls = match calls {
        0 => "no change".to_owned(),
        1 => "1 call".to_owned(),
        many => format!("{many} calls"),
    };
    match rehearsal.end {
        End::Unknown => ("not planned".to_owned(), RED),
        End::Settled => (calls, if rehearsal.changes() { YELLOW } else { GREEN }),
        End::Blocked if rehearsal.reason == Reason::Suspended => (format!("{calls}, suspended"), YELLOW),
        End::Blocked => (format!("{calls}, then blocked"), RED),
        End::Waiting => (format!("{calls}, then waits"), YELLOW),
    }
}

/// `product:Action name=value …`, and the tags but for those by which the operator knows its own.
fn line(call: &Call) -> String {
    let pairs = call.parameters.iter().map(|(name, value)| format!("{name}={}", quoted(value)));
    const OWN: [&str; 4] = [tag::CLUSTER, tag::NAMESPACE, tag::NAME, tag::KIND];
    let tags = call.tags.iter().filter(|(key, _)| !OWN.contains(&key.as_str()));
    let tags = tags.map(|(key, value)| format!("tag:{key}={}", quoted(value)));
    let words: Vec<String> = pairs.chain(tags).collect();
    format!("{}:{} {}", call.product, call.action, words.join(" "))
}

fn quoted(value: &str) -> String {
    let is_plain = value.starts_with('<') || (!value.is_empty() && !value.contains(char::is_whitespace));
    if is_plain { value.to_owned() } else { format!("{value:?}") }
}

/// Everything, for programs.
pub fn json(plan: &Plan) -> Value {
    let objects: Vec<Value> = plan.objects.iter().map(|object| object_json(plan, object)).collect();
    let done = plan.objects.iter().filter_map(|object| object.outcome.as_ref().ok());
    let calls: Vec<&Call> = done.flat_map(Rehearsal::calls).collect();
    json!({
        "objects": objects,
        "calls": calls.len(),
        "deletions": calls.iter().filter(|call| call.deletes()).count(),
        "ramActions": ram_actions(plan),
        "leftOut": plan.others,
        "exitCode": plan.code(),
    })
}

fn object_json(plan: &Plan, object: &Planned) -> Value {
    let document = &object.document;
    let mut value = json!({
        "kind": document.kind, "namespace": object.namespace, "name": document.name, "origin": document.origin,
        "operation": match (plan.is_deletion, object.is_new) {
            (true, _) => "Delete",
            (false, true) => "Create",
            (false, false) => "Update",
        },
    });
    match &object.outcome {
        Err(why) => value["error"] = json!(why),
        Ok(rehearsal) => {
            let end = match rehearsal.end {
                End::Settled => "Settled",
                End::Waiting => "Waiting",
                End::Blocked => "Blocked",
                End::Unknown => "Unknown",
            };
            value["steps"] = rehearsal.steps.iter().map(step_json).collect();
            value["end"] = json!({ "state": end, "reason": rehearsal.reason.as_str(), "message": rehearsal.message,
                "requestId": rehearsal.request_id });
            value["shows"] = json!(rehearsal.shows);
        }
    }
    value
}

fn step_json(step: &Step) -> Value {
    match step {
        Step::Change(call) => json!({ "call": { "product": call.product, "action": call.action,
            "parameters": call.parameters, "tags": call.tags } }),
        Step::Wait { reason, message } => {
            json!({ "wait": { "reason": reason.as_str(), "message": message } })
        }
    }
}
