//! What happened, as it happens: the journal line by line, then the outcome and how to undo it.

use std::path::Path;

use serde_json::json;

use super::neighbours::LOOKS_BACK;
use super::{account, condition, may_still_be_cut};
use crate::cli::output;
use crate::decision::Reason;
use crate::kinds::KeyRevocation;
use crate::kinds::key_revocation::api::{
    BlastRadius, DesiredState, JournalEntry, KeyRevocationStatus, Method,
};

/// Names of instances that are told in one line.
const NAMES_MAX: usize = 10;

/// For people, or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Lines for people.
    #[value(alias = "table")]
    Text,
    /// One JSON object in each line.
    Json,
}

/// Tells each entry of the journal once.
pub struct Teller {
    form: Form,
    told: i64,
    aside: String,
}

impl Teller {
    /// Begins after what the record says already.
    pub fn new(form: Form, object: &KeyRevocation) -> Teller {
        let told =
            object.status.as_ref().and_then(|status| status.journal.last()).map_or(0, |entry| entry.seq);
        Teller { form, told, aside: String::new() }
    }

    /// The entries that are new.
    pub fn entries(&mut self, object: &KeyRevocation) {
        let Some(status) = &object.status else { return };
        for entry in status.journal.iter().filter(|entry| entry.seq > self.told) {
            match self.form {
                Form::Json => output::say(json!(entry)),
                Form::Text => output::say(line(entry)),
            }
        }
        self.told = status.journal.last().map_or(self.told, |entry| entry.seq.max(self.told));
    }

    /// What it waits for, once, on standard error: a fault that is tried again, or a cut that may still arrive.
    pub fn aside(&mut self, object: &KeyRevocation) {
        let Some((status, reason, message)) = condition(object, "Ready") else { return };
        let failed = object.status.as_ref().is_some_and(|status| status.shared.last_error.is_some());
        let (key, text) = match (still_looking(object), failed && status != "True") {
            (Some(text), _) => ("looking".to_owned(), text),
            (None, true) => (reason.clone(), format!("{reason}: {message}")),
            (None, false) => return,
        };
        if std::mem::replace(&mut self.aside, key.clone()) != key {
            output::note(format_args!("ecskms: {text}"));
        }
    }

    /// The outcome.
    pub fn end(&self, object: &KeyRevocation, code: u8, record: Option<&Path>) {
        let status = object.status.clone().unwrap_or_default();
        let (_, reason, message) = condition(object, "Ready").unwrap_or_else(|| {
            (String::new(), "NotSeen".to_owned(), "It ended before anything was seen of the key.".to_owned())
        });
        let advice = advice(object, &reason);
        if self.form == Form::Json {
            output::say(json!({
                "keyId": object.spec.key_id, "region": object.spec.region, "method": object.spec.method,
                "desiredState": object.spec.desired_state,
                "exitCode": code, "reason": reason, "message": message, "advice": advice, "record": record,
                "uid": object.metadata.uid, "status": status,
            }));
            return;
        }
        output::say(format_args!("{reason}: {message}"));
        for line in advice.iter().map(|advice| (*advice).to_owned()).chain(still_looking(object)) {
            output::say(line);
        }
        output::say(scope(object));
        // Once the key is back, what was found after the cut would read as if it still were so.
        if object.spec.desired_state != DesiredState::Restored || code != 0 {
            facts(&status).into_iter().for_each(output::say);
        }
        if let Some(next) = next(object, code, record) {
            output::say(next);
        }
    }
}

/// Whose keys it is about.
fn scope(object: &KeyRevocation) -> String {
    let account =
        account::words(object.status.as_ref().and_then(|status| status.shared.account_id.as_deref()));
    match object.spec.method {
        Method::DisableKey => format!("It is about key {} {account}.", object.spec.key_id),
        Method::DetachEcsRole => format!("It is about EVERY customer key in EVERY region {account}."),
    }
}

/// Until when a cut is looked for whose answer nobody saw, if the key is back and that is all that is waited for.
fn still_looking(object: &KeyRevocation) -> Option<String> {
    if object.spec.desired_state != DesiredState::Restored || !may_still_be_cut(object) {
        return None;
    }
    let restored = object.status.as_ref()?.timings.restored_at.as_ref()?.0;
    let until = restored.checked_add(LOOKS_BACK).ok()?;
    Some(format!(
        "What was recorded stands again, but the answer to a cut was never seen: it may arrive until {until:.0}, and is undone as \
         long as this command looks."
    ))
}

/// What to do here, where there is no object to change: the operator's own messages speak of one.
fn advice(object: &KeyRevocation, reason: &str) -> Option<&'static str> {
    let status = object.status.clone().unwrap_or_default();
    let unrecorded = status.prior_state.is_none();
    let readable = status.still_readable.is_some_and(|readable| readable.count > 0);
    let text = match (object.spec.desired_state, Reason::parse(reason)?) {
        (_, Reason::AccessDenied | Reason::CredentialsInvalid) => {
            "Here: the identity is that of this command's credentials, and deploy/ram/revocation.json is what it needs; for --plan, \
             deploy/ram/read.json."
        }
        (_, Reason::KeyNotFound) => {
            "Here: check KEYID, --region, and whether these credentials are of the key's account."
        }
        (_, Reason::TooManyAffected) => "Here: the limit is --max-affected-instances.",
        (_, Reason::DigestMismatch) => {
            "Here: the digest is --acknowledged-digest, and --plan shows the present one."
        }
        (DesiredState::Planned, Reason::InventoryIncomplete) => {
            "Here: give the identity what deploy/ram/read.json allows, and ask again. A cut does not wait for the list."
        }
        (_, Reason::InventoryIncomplete) => {
            "Here: without --max-affected-instances and --acknowledged-digest the cut does not wait for the list."
        }
        (_, Reason::OverlappingRevocation) => {
            "Here: restore with that record too, and then with this one again. --ignore-other-records gives the key back at once."
        }
        (_, Reason::SwitchedSinceRestored) => {
            "Here: there is no object to delete. If it is meant, keep the record and do nothing."
        }
        (DesiredState::Revoked, Reason::CloudUnavailable | Reason::Throttled) if unrecorded => {
            "Here: --restore-to Enabled cuts without a look, if the key is to be enabled in the end."
        }
        (DesiredState::Revoked, Reason::Revoked) if readable => {
            "Here: the same command with --running-instances ForceStop stops what still runs."
        }
        _ => return None,
    };
    Some(text)
}

fn line(entry: &JournalEntry) -> String {
    let request = entry.request_id.as_deref().map(|id| format!("  request {id}")).unwrap_or_default();
    format!("{}  {}  {}  {}{request}", entry.time.0, entry.action, entry.target, entry.result)
}

fn facts(status: &KeyRevocationStatus) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(status.timings.time_to_revoke_ms.map(|time| format!("Time to revoke: {time} ms.")));
    lines.extend(status.blast_radius.iter().flat_map(hit));
    if let Some(readable) = status.still_readable.as_ref().filter(|readable| readable.count > 0) {
        let names: Vec<&str> =
            readable.instances.iter().take(NAMES_MAX).map(|instance| instance.id.as_str()).collect();
        lines.push(format!(
            "Still readable: {} running instances hold a data key until they stop: {}.",
            readable.count,
            names.join(", ")
        ));
    }
    let check = |check: &crate::kinds::key_revocation::api::Verification| {
        format!("Check {}: {:?}. {}", check.check, check.result, check.detail)
    };
    lines.extend(status.verification.iter().map(check));
    lines
}

fn hit(blast: &BlastRadius) -> Vec<String> {
    let mut lines = Vec::new();
    if let (Some(instances), Some(running), Some(disks), Some(snapshots), Some(images)) =
        (blast.instances_affected, blast.instances_running, blast.disks, blast.snapshots, blast.images)
    {
        lines.push(format!(
            "Hit: {instances} instances, of which {running} run, {disks} disks, {snapshots} snapshots, {images} images. Digest {}.",
            blast.digest
        ));
    }
    lines.push(
        "Not looked at: what runs on these in a cluster, and whether they are nodes of one.".to_owned(),
    );
    lines.extend(blast.missing.iter().map(|missing| format!("Not known: {missing}.")));
    lines
}

fn next(object: &KeyRevocation, code: u8, record: Option<&Path>) -> Option<String> {
    let (key, region) = (&object.spec.key_id, &object.spec.region);
    let record = record.map(|path| format!(" --record {}", path.display())).unwrap_or_default();
    match (object.spec.desired_state, code) {
        (DesiredState::Planned, 0) => {
            Some(format!("To revoke it: ecskms revoke {key} --region {region} --reason TEXT"))
        }
        // A plan leaves no record to go on with.
        (DesiredState::Planned, 1) => Some("The plan did not come to its end; ask for it again.".to_owned()),
        (DesiredState::Revoked, 0) => Some(format!(
            "To undo exactly this: ecskms restore {key} --region {region} --reason TEXT{record}"
        )),
        (_, 1) => Some("It is not at its end; the same command goes on with it.".to_owned()),
        _ => None,
    }
}
