//! What an EncryptionAudit says about itself. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::api::{
    AuditFinding, AuditSummary, AuditedRegion, EncryptionAudit, EncryptionAuditStatus, NamespaceTally,
    ResourceTally,
};
use super::decide::{Desired, NoEffect, Observed, Scan};
use super::judge::{DefaultFact, Finding, Sort, Tally, rank};
use super::outcome::{Compliance, Outcome};
use crate::decision::report::{Fact, Report, Truth};
use crate::decision::{Decision, Reason};
use crate::kind::requested_at;

/// Findings in status.
pub const FINDINGS_MAX: usize = 100;
/// Namespaces in status.
const NAMESPACES_MAX: usize = 100;
/// Parts that a finding names.
const PARTS_MAX: usize = 20;
/// Regions in status.
const REGIONS_MAX: usize = 100;
/// Characters of a key's id in status.
const KEY_MAX: usize = 64;
/// How long after its time a scan may still come that was held up by what passes.
const GRACE_SECONDS: i64 = 600;

/// Status, conditions and the sentence for Ready.
pub fn report(
    object: &EncryptionAudit,
    desired: &Desired,
    observed: &Observed,
    decision: &Decision<NoEffect>,
    now: jiff::Timestamp,
) -> Report<EncryptionAuditStatus> {
    let before = object.status.clone().unwrap_or_default();
    let said = |message: &str, status: EncryptionAuditStatus| {
        let facts = standing(&status);
        Report { status, facts, message: message.to_owned() }
    };
    match (desired, &observed.scan, decision) {
        (Desired::Absent, ..) => {
            Report { facts: Vec::new(), ..said("Nothing is changed in the account.", before) }
        }
        (Desired::Suspended, ..) => said(
            "Suspended by spec.suspend: nothing is looked at; what was found last stands. Set it to false to go on.",
            before,
        ),
        (Desired::Present(_), Scan::Done(outcome), _) => scanned(object, before, outcome, now),
        (Desired::Present(_), _, Decision::Settled) => {
            let message = ready_message(&before);
            said(&message, before)
        }
        (Desired::Present(_), ..) => {
            let message = "The account is being looked at.".to_owned();
            if before.scanned_generation == object.metadata.generation {
                return said(&message, before);
            }
            // What an earlier scan found was judged by another spec.
            let (truth, reason) = (Truth::Unknown, Reason::Scanning);
            let facts = vec![Fact { name: "Compliant", truth, reason, message: message.clone() }];
            Report { status: before, facts, message }
        }
    }
}

/// What is said in place of what stands once a look failed: what was found compliant is not known to be so any more after the time
/// at which it was to be looked at again, or under another spec.
pub fn in_doubt(object: &EncryptionAudit, now: jiff::Timestamp, lasting: bool) -> Vec<Fact> {
    let scanned = object.status.as_ref().filter(|_| !object.spec.suspend);
    let Some((status, next)) = scanned.and_then(|status| Some((status, status.next_scan_time.as_ref()?.0)))
    else {
        return Vec::new();
    };
    // What heals by itself may heal within a few tries.
    let grace = if lasting { 0 } else { GRACE_SECONDS };
    let message = if status.scanned_generation != object.metadata.generation {
        "The account could not be looked at as spec asks now: Ready says why.".to_owned()
    } else if now.as_second() >= next.as_second() + grace {
        format!(
            "The scan that was due at {next} could not be made: Ready says why. What is told here was found before."
        )
    } else {
        return Vec::new();
    };
    let compliant = is_true(status, "Compliant");
    let said =
        status.shared.conditions.iter().any(|one| one.type_ == "PartialScan" && one.message == message);
    if said && !compliant && !is_true(status, "Ready") {
        return Vec::new();
    }
    let reason = Reason::InventoryIncomplete;
    let partial = Fact { name: "PartialScan", truth: Truth::True, reason, message: message.clone() };
    let unknown = Fact { name: "Compliant", truth: Truth::Unknown, reason, message };
    [partial].into_iter().chain(compliant.then_some(unknown)).collect()
}

/// True if the condition is.
pub fn is_true(status: &EncryptionAuditStatus, name: &str) -> bool {
    status.shared.conditions.iter().any(|condition| condition.type_ == name && condition.status == "True")
}

/// What the last scan said, for a look that brings nothing new.
fn standing(status: &EncryptionAuditStatus) -> Vec<Fact> {
    let found = |name: &'static str| {
        let condition = status.shared.conditions.iter().find(|condition| condition.type_ == name)?;
        let truth = match condition.status.as_str() {
            "True" => Truth::True,
            "False" => Truth::False,
            _ => Truth::Unknown,
        };
        let reason = Reason::parse(&condition.reason)?;
        Some(Fact { name, truth, reason, message: condition.message.clone() })
    };
    ["Compliant", "PartialScan"].into_iter().filter_map(found).collect()
}

fn scanned(
    object: &EncryptionAudit,
    before: EncryptionAuditStatus,
    outcome: &Outcome,
    now: jiff::Timestamp,
) -> Report<EncryptionAuditStatus> {
    let generation = object.metadata.generation.unwrap_or_default();
    let mut findings: Vec<AuditFinding> =
        outcome.findings().into_iter().map(|one| listed(one, now)).collect();
    let kept = kept(&before, outcome, &findings, generation);
    let found = outcome.found() as usize + kept.len();
    let kept_count = kept.len();
    findings.extend(kept);
    let seen: BTreeMap<_, _> =
        before.findings.iter().map(|old| (place(old), old.first_seen.clone())).collect();
    for finding in &mut findings {
        if let Some(first) = seen.get(&place(finding)) {
            finding.first_seen = first.clone();
        }
    }
    findings.sort_by_cached_key(order);
    findings.truncate(FINDINGS_MAX);
    let (by_namespace, more_namespaces) = by_namespace(outcome);
    let (total, cluster) = (outcome.total(), outcome.cluster.as_ref());
    let status = EncryptionAuditStatus {
        summary: Some(AuditSummary {
            total: total.total,
            customer_key: total.customer_key,
            service_key: total.service_key,
            unencrypted: total.unencrypted,
            unknown: total.unknown,
            exempt: total.exempt,
            violations: total.violations,
            findings: u32::try_from(found).unwrap_or(u32::MAX),
            coverage_percent: total.coverage_percent(),
            revocable_percent: total.revocable_percent(),
        }),
        by_resource: by_resource(outcome),
        by_namespace,
        namespaces_error: cluster.and_then(|cluster| cluster.namespaces_error.clone()),
        storage_classes_error: cluster.and_then(|cluster| {
            cluster.gap.as_ref().map(|gap| gap.text.clone()).or_else(|| cluster.key_error.clone())
        }),
        regions: outcome
            .regions
            .iter()
            .take(REGIONS_MAX)
            .map(|(name, _)| region(name, outcome, &before))
            .collect(),
        truncated: found > findings.len() || more_namespaces,
        findings,
        last_scan_time: time(outcome.at),
        next_scan_time: time(outcome.next),
        scanned_generation: Some(generation),
        scanned_request: requested_at(object).map(|value| value.chars().take(256).collect()),
        shared: before.shared,
    };
    let facts = facts(&status, outcome, kept_count);
    Report { message: ready_message(&status), facts, status }
}

/// Findings of the scan before whose place could not be read now: they have not gone away for that. Not from before a change of
/// spec, which may have required something else.
fn kept(
    before: &EncryptionAuditStatus,
    outcome: &Outcome,
    new: &[AuditFinding],
    generation: i64,
) -> Vec<AuditFinding> {
    if before.scanned_generation != Some(generation) {
        return Vec::new();
    }
    let new: BTreeSet<_> = new.iter().map(place).collect();
    let sort = |word: &str| Sort::ALL.into_iter().find(|sort| sort.word() == word);
    let unread = |old: &&AuditFinding| {
        let region = old.region.as_deref().unwrap_or_default();
        sort(&old.type_).is_some_and(|sort| outcome.lacks(region, sort)) && !new.contains(&place(old))
    };
    before.findings.iter().filter(unread).cloned().collect()
}

/// What a finding is about, whatever is wrong with it.
fn place(finding: &AuditFinding) -> (String, String, String) {
    (finding.type_.clone(), finding.region.clone().unwrap_or_default(), finding.id.clone())
}

fn order(finding: &AuditFinding) -> (u8, String, String, String) {
    let (type_, region, id) = place(finding);
    (Reason::parse(&finding.reason).map_or(u8::MAX, rank), id, region, type_)
}

/// A finding as status lists it, seen now for the first time.
pub fn listed(finding: &Finding, now: jiff::Timestamp) -> AuditFinding {
    AuditFinding {
        type_: finding.sort.word().to_owned(),
        id: finding.id.clone(),
        region: Some(finding.region.clone()).filter(|region| !region.is_empty()),
        instance_id: finding.instance.clone(),
        namespace: finding.namespace.clone(),
        reason: finding.reason.as_str().to_owned(),
        key_id: finding.key.as_deref().map(key_id),
        parts: finding.parts.iter().take(PARTS_MAX).cloned().collect(),
        message: sentence(finding).chars().take(512).collect(),
        first_seen: Time(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now)),
    }
}

/// The id in an id or an ARN; of an alias that led to no key, as much as status takes.
fn key_id(key: &str) -> String {
    key.rsplit_once(":key/").map_or(key, |(_, id)| id).chars().take(KEY_MAX).collect()
}

/// What is wrong, and what to do.
pub fn sentence(finding: &Finding) -> String {
    let expired = match finding.reason {
        Reason::ExemptionExpired => "Its exemption has expired: renew it, or mend what it was for. ",
        _ => "",
    };
    let what = match (finding.sort, finding.parts.len()) {
        (Sort::Instance, 1) => "A disk of it is".to_owned(),
        (Sort::Instance, count) => format!("{count} disks of it are"),
        (Sort::Image, 0) => "A snapshot behind it is".to_owned(),
        (Sort::Image, 1) => "A snapshot behind it is".to_owned(),
        (Sort::Image, count) => format!("{count} snapshots behind it are"),
        _ => "It is".to_owned(),
    };
    let key = finding.key.as_deref().map_or_else(|| "its key".to_owned(), |key| format!("key {key}"));
    let rest = match (finding.behind, finding.sort) {
        (Reason::NotEncrypted, Sort::StorageClass) => {
            "It makes plain disks: make another class with encrypted: \"true\" and kmsKeyId.".to_owned()
        }
        (Reason::NotEncrypted, Sort::Image) => {
            format!("{what} not encrypted: make an EncryptedImage of it, and delete it.")
        }
        (Reason::NotEncrypted, Sort::Snapshot) => {
            format!("{what} not encrypted: delete it once it is not needed any more.")
        }
        (Reason::NotEncrypted, Sort::Instance) => format!(
            "{what} not encrypted, and cannot be in place: make successors of data disks (EncryptedDisk), and another instance \
             for a system disk (EncryptedInstance)."
        ),
        (Reason::NotEncrypted, _) => {
            format!("{what} not encrypted, and cannot be in place: make an encrypted successor of it (EncryptedDisk).")
        }
        (Reason::EncryptionUnsupported, _) => {
            format!("{what} local to the host, which the cloud cannot encrypt: move the data to a disk of the cloud, or exempt it.")
        }
        (Reason::DefaultOff, _) => "New disks of the region stay plain unless somebody asks: switch default encryption on in the ECS console.".to_owned(),
        (Reason::ServiceKey, Sort::StorageClass) => {
            "Its disks are under the service key, which can never be revoked: give it kmsKeyId.".to_owned()
        }
        (Reason::ServiceKey, Sort::AccountDefault) => {
            "New disks of the region are under the service key unless somebody asks for another one: choose a customer key in the ECS console.".to_owned()
        }
        (Reason::ServiceKey, _) => format!("{what} under the service key ({key}), which can never be revoked: copy it to a customer key."),
        (Reason::KeyMismatch, _) => format!("{what} under {key}, which spec.allowedKeyIds does not name."),
        (Reason::KeyDisabled, _) => format!("{what} under {key}, which is disabled: it cannot be used until the key is enabled."),
        (Reason::KeyPendingDeletion, _) => {
            format!("{what} under {key}, which is about to be deleted: cancel the deletion, or the data is lost for good.")
        }
        (Reason::KeyPendingImport, _) => format!("{what} under {key}, which has no key material: import it."),
        (Reason::KeyNotFound, _) => format!("{what} under {key}, which does not exist in its region: the data cannot be read."),
        _ if finding.key.is_none() => format!("{what} not shown with a key: look at it in the ECS console."),
        (_, Sort::StorageClass) => {
            format!("Its disks are under {key}, whose state is not known: status.storageClassesError says why where it could not be read.")
        }
        _ => format!("{what} under {key}, whose state is not known: keyError of the region says why where it could not be read."),
    };
    format!("{expired}{rest}")
}

fn by_resource(outcome: &Outcome) -> Vec<ResourceTally> {
    let sorts = outcome.sorts();
    let line = |sort: Sort| {
        let Tally { total, customer_key, service_key, unencrypted, unknown, exempt, violations } =
            sorts.get(&sort)?.clone();
        let type_ = sort.word().to_owned();
        Some(ResourceTally {
            type_,
            total,
            customer_key,
            service_key,
            unencrypted,
            unknown,
            exempt,
            violations,
        })
    };
    Sort::ALL.into_iter().filter_map(line).collect()
}

/// The namespaces, and whether there are more.
fn by_namespace(outcome: &Outcome) -> (Vec<NamespaceTally>, bool) {
    let mut namespaces: Vec<_> = outcome.namespaces().unwrap_or_default().into_iter().collect();
    let more = namespaces.len() > NAMESPACES_MAX;
    if more {
        namespaces.sort_by(|a, b| b.1.violations.cmp(&a.1.violations).then_with(|| a.0.cmp(&b.0)));
        namespaces.truncate(NAMESPACES_MAX);
        namespaces.sort_by(|a, b| a.0.cmp(&b.0));
    }
    let line = |(namespace, tally): (String, Tally)| {
        let Tally { total, customer_key, service_key, unencrypted, unknown, exempt, violations } = tally;
        NamespaceTally {
            namespace,
            total,
            customer_key,
            service_key,
            unencrypted,
            unknown,
            exempt,
            violations,
        }
    };
    (namespaces.into_iter().map(line).collect(), more)
}

fn region(name: &str, outcome: &Outcome, before: &EncryptionAuditStatus) -> AuditedRegion {
    let seen = &outcome.regions[name];
    let old = before.regions.iter().find(|old| old.name == name);
    let texts: Vec<&str> = seen.gaps.iter().map(|gap| gap.text.as_str()).collect();
    let error: String = texts.join(" ").chars().take(1024).collect();
    let (word, default_key_id) = match &seen.default {
        None => ("Unknown", None),
        Some(DefaultFact::Unavailable) => ("Unavailable", None),
        Some(DefaultFact::Off) => ("Off", None),
        Some(DefaultFact::On(key)) => ("On", key.as_deref().map(key_id)),
    };
    AuditedRegion {
        name: name.to_owned(),
        last_scan_time: match seen.read {
            true => time(seen.at),
            false => old.and_then(|old| old.last_scan_time.clone()),
        },
        error: Some(error).filter(|error| !error.is_empty()),
        key_error: seen.key_error.clone(),
        default_encryption: word.to_owned(),
        default_key_id,
    }
}

fn time(seconds: i64) -> Option<Time> {
    jiff::Timestamp::from_second(seconds).ok().map(Time)
}

/// The conditions of the kind's own.
fn facts(status: &EncryptionAuditStatus, outcome: &Outcome, kept: usize) -> Vec<Fact> {
    let mut places: Vec<&str> =
        outcome.gaps().map(|(region, _)| if region.is_empty() { "the cluster" } else { region }).collect();
    places.dedup();
    let unread = places.join(", ");
    let found = status.summary.as_ref().map_or(0, |summary| summary.findings);
    let (truth, reason, message) = match outcome.compliance(kept) {
        Compliance::Yes => {
            (Truth::True, Reason::Compliant, "All that was found is as spec requires.".to_owned())
        }
        Compliance::Unknown => (
            Truth::Unknown,
            Reason::InventoryIncomplete,
            format!("Nothing that was read is amiss, but not everything could be read: {unread}."),
        ),
        Compliance::No => {
            let worst = status.findings.first().and_then(|worst| Reason::parse(&worst.reason));
            let examples: Vec<String> = status
                .findings
                .iter()
                .take(3)
                .map(|finding| format!("{} {} ({})", finding.type_, finding.id, finding.reason))
                .collect();
            let text = format!(
                "{}, worst first: {}{}. See status.findings.",
                findings_word(found),
                examples.join(", "),
                if found > 3 { ", …" } else { "" }
            );
            (Truth::False, worst.unwrap_or(Reason::NotEncrypted), text)
        }
    };
    let mut facts = vec![Fact { name: "Compliant", truth, reason, message }];
    if !places.is_empty() {
        let message = format!("Not everything could be read: {unread}. See status.regions.");
        let reason = Reason::InventoryIncomplete;
        facts.push(Fact { name: "PartialScan", truth: Truth::True, reason, message });
    }
    facts
}

fn findings_word(count: u32) -> String {
    if count == 1 { "1 finding".to_owned() } else { format!("{count} findings") }
}

fn ready_message(status: &EncryptionAuditStatus) -> String {
    let Some(summary) = &status.summary else { return "The account was looked at.".to_owned() };
    let coverage = match summary.coverage_percent {
        Some(percent) => format!(", {percent}% of them encrypted"),
        None => String::new(),
    };
    let unread = status.regions.iter().filter(|region| region.error.is_some()).count();
    let unread = match unread {
        0 => String::new(),
        count => format!(" {count} of {} regions could not be read completely.", status.regions.len()),
    };
    format!(
        "{} disks and snapshots in {} regions{coverage}; {}.{unread}",
        summary.total,
        status.regions.len(),
        findings_word(summary.findings)
    )
}

#[cfg(test)]
mod tests;
