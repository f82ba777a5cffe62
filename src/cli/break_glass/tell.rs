//! What happened, as it happens: the journal line by line, then the outcome and how to undo it.

use std::path::Path;

use serde_json::json;

use super::condition;
use crate::cli::output;
use crate::kinds::KeyRevocation;
use crate::kinds::key_revocation::api::{BlastRadius, DesiredState, JournalEntry, KeyRevocationStatus};

/// Names of instances that are told in one line.
const NAMES_MAX: usize = 10;

/// For people, or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Lines for people.
    Text,
    /// One JSON object in each line.
    Json,
}

/// Tells each entry of the journal once.
pub struct Teller {
    form: Form,
    told: i64,
}

impl Teller {
    /// Begins after what the record says already.
    pub fn new(form: Form, object: &KeyRevocation) -> Teller {
        let told =
            object.status.as_ref().and_then(|status| status.journal.last()).map_or(0, |entry| entry.seq);
        Teller { form, told }
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

    /// The outcome.
    pub fn end(&self, object: &KeyRevocation, code: u8, record: Option<&Path>) {
        let status = object.status.clone().unwrap_or_default();
        let (_, reason, message) = condition(object, "Ready").unwrap_or_default();
        if self.form == Form::Json {
            output::say(json!({
                "keyId": object.spec.key_id, "region": object.spec.region, "desiredState": object.spec.desired_state,
                "exitCode": code, "reason": reason, "message": message, "record": record, "status": status,
            }));
            return;
        }
        output::say(format_args!("{reason}: {message}"));
        for line in facts(&status) {
            output::say(line);
        }
        if let Some(next) = next(object, code, record) {
            output::say(next);
        }
    }
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
