//! The revocations that were ordered and are not over: which, how far, who is hit, what is still readable, what is proven.

use serde_json::{Value, json};

use super::Findings;
use crate::cli::output;
use crate::cli::reading::{Detail, conditions, words};
use crate::diagnosis::Object;
use crate::kind::Incident;

/// The live revocations.
fn live(found: &Findings) -> impl Iterator<Item = (&Object, &Detail, &Incident)> {
    found.objects().iter().filter_map(|object| {
        let detail = found.picture.details.get(&object.id)?;
        Some((object, detail, detail.incident.as_ref()?))
    })
}

/// Prints them, if there are any.
pub fn print(found: &Findings) {
    let mut table = output::table([
        "REVOCATION",
        "PHASE",
        "KEY",
        "REGION",
        "ACCOUNT",
        "STILL READABLE",
        "VERIFIED",
        "HIT",
    ]);
    let mut messages = Vec::new();
    for (object, detail, incident) in live(found) {
        table.add_row([
            object.id.name.clone(),
            output::clean(&incident.phase),
            incident.hold.key_id.clone().unwrap_or_else(|| "every customer key".to_owned()),
            incident.hold.region.clone(),
            incident.hold.account.clone().unwrap_or_default(),
            incident.still_readable.map_or_else(|| "not known".to_owned(), |count| count.to_string()),
            verified(detail),
            incident.hit.as_ref().map_or_else(|| "not known".to_owned(), words::hit),
        ]);
        messages.push(format!("  {}: {}", object.id.name, object.message));
        messages.extend(words::readers(incident).map(|text| format!("  {}: {text}", object.id.name)));
    }
    if !messages.is_empty() {
        output::say("");
        output::say(output::paint("LIVE REVOCATIONS", 1));
        output::say(table);
        messages.into_iter().for_each(output::say);
    }
}

/// The same for programs.
pub fn json(found: &Findings) -> Vec<Value> {
    let one = |(object, detail, incident): (&Object, &Detail, &Incident)| {
        json!({
            "kind": object.id.kind, "name": object.id.name,
            "phase": incident.phase, "holdsKey": incident.is_held,
            "keyId": incident.hold.key_id, "region": incident.hold.region, "account": incident.hold.account,
            "stillReadable": incident.still_readable, "stillReadableInstances": incident.readers,
            "verified": condition(detail).map(|condition| condition["status"].clone()),
            "verification": detail.status["verification"],
            "blastRadius": detail.status["blastRadius"],
            "reason": object.reason, "message": object.message,
        })
    };
    live(found).map(one).collect()
}

fn condition(detail: &Detail) -> Option<&Value> {
    conditions(&detail.status).find(|condition| condition["type"] == "Verified")
}

/// What is not said does not count as verified.
fn verified(detail: &Detail) -> String {
    let Some(condition) = condition(detail) else { return "not yet".to_owned() };
    let reason = condition["reason"].as_str().unwrap_or_default();
    match condition["status"].as_str() {
        Some("True") => "yes".to_owned(),
        Some("False") => format!("no: {reason}"),
        _ => format!("not known: {reason}"),
    }
}
