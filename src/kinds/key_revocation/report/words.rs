//! Conditions, checks and sentences of a KeyRevocation. Pure.

use super::super::api::{Evidence, KeyRevocation, KeyRevocationStatus, Method, VerificationResult};
use super::super::blast::{Blast, ROLE_LIMIT};
use super::super::decide::{
    Goal, Inventory, KeyCheck, Lever, Observed, RevocationEffect, Stage, Switch, Wanted,
};
use super::super::promise;
use crate::decision::report::{Fact, Truth};
use crate::decision::{Decision, Reason};

/// Whether no running instance holds a data key; None while that cannot be said.
pub fn contained(observed: &Observed) -> Option<bool> {
    // Until the cut was seen, every list is from before it.
    if observed.stage < Stage::Cut {
        return None;
    }
    let Inventory::Done(blast) = &observed.inventory else { return None };
    match blast.still_readable().next() {
        Some(_) => Some(false),
        None if blast.is_all() => Some(true),
        None => None,
    }
}

/// Every check that was made: name, result and what was seen. A check that cannot be made is not in here; one that was made and
/// says nothing is Unknown.
pub fn checks(
    wanted: &Wanted,
    observed: &Observed,
    evidence: Option<&Evidence>,
) -> Vec<(&'static str, VerificationResult, String)> {
    use VerificationResult::{Fail, Pass, Unknown};
    let mut checks = Vec::new();
    let off = match observed.switch {
        switch if promise::rejected(switch) => Pass,
        Switch::On => Fail,
        _ => Unknown,
    };
    match wanted.lever {
        Lever::Key => checks.push(("KeyState", off, format!("DescribeKey says {}", observed.word))),
        Lever::Role => {
            let policies = observed.policies.clone().unwrap_or_default();
            let others = off == Pass && !policies.is_empty();
            let detail = match others {
                true => format!(
                    "the grant is detached, but the role has {}, which may allow the same",
                    policies.join(", ")
                ),
                false => format!("the grant is {}", observed.word),
            };
            checks.push(("EcsRolePolicies", if others { Unknown } else { off }, detail));
        }
    }
    if let Some(probe) = &observed.probe {
        let (result, what) = match probe.cut_off {
            Some(true) => (Pass, "refused for the key"),
            Some(false) => (Fail, "not refused"),
            None => (Unknown, "refused for another reason"),
        };
        checks.push((
            "StartProbe",
            result,
            format!("the rehearsed start of {} was {what}: {}", probe.instance, probe.word),
        ));
    }
    if let Some(evidence) = evidence {
        let result = if evidence.refused == 0 && evidence.missing.is_none() { Pass } else { Fail };
        let counted = || format!("{} snapshots accepted, {} refused", evidence.accepted, evidence.refused);
        checks.push(("EvidenceSnapshots", result, evidence.missing.clone().unwrap_or_else(counted)));
    }
    checks
}

/// Why the cut stands without evidence; None while that cannot be said, and where there is nothing to take any of.
pub fn no_evidence(observed: &Observed, status: &KeyRevocationStatus) -> Option<String> {
    let cut = status.journal.iter().any(|entry| {
        matches!(entry.action.as_str(), "DisableKey" | "DetachPolicyFromRole") && entry.result == "Accepted"
    });
    let prior = status.prior_state.as_ref().map_or("off", |prior| prior.key_state.as_str());
    let unlisted = |blast: &Blast| blast.missing.iter().find(|missing| missing.starts_with("disks")).cloned();
    match &observed.inventory {
        _ if observed.prior.is_some_and(|prior| prior != Switch::On) => {
            Some(format!("none was taken: before the revocation it was {prior} already"))
        }
        Inventory::Done(blast) if blast.disks.is_empty() => {
            unlisted(blast).map(|missing| format!("none was taken: not listed: {missing}"))
        }
        _ if cut => Some("none was taken: the list of disks did not come in time".to_owned()),
        // Another process may be about to write down what it took.
        _ if observed.stage < Stage::Cut => None,
        _ => Some(
            "none is recorded: it was found off before any was asked for, or whoever asked could not write it down"
                .to_owned(),
        ),
    }
}

fn fact(name: &'static str, truth: Truth, reason: Reason, message: impl Into<String>) -> Fact {
    Fact { name, truth, reason, message: message.into() }
}

/// The conditions.
pub fn facts(
    object: &KeyRevocation,
    wanted: &Wanted,
    observed: &Observed,
    status: &KeyRevocationStatus,
) -> Vec<Fact> {
    let mut facts = vec![planned(observed, status), approved(object, wanted)];
    if wanted.goal >= Goal::Revoked {
        facts.push(revoked(wanted, observed));
        facts.push(contained_fact(wanted, observed, status));
        facts.push(verified(wanted, observed, status));
    }
    if promise::goal(wanted, observed) == Goal::Restored {
        let done = promise::holds(&super::Desired::Present(wanted.clone()), observed);
        let (truth, reason) =
            if done { (Truth::True, Reason::Restored) } else { (Truth::False, Reason::Restoring) };
        let prior = status.prior_state.as_ref();
        let word = prior.map_or("nothing", |prior| prior.key_state.as_str());
        let first = prior.and_then(|prior| prior.inherited_from.as_ref());
        let by = first.map_or(String::new(), |name| format!(" by KeyRevocation {name}, which was first"));
        let lacks = if done { lacks(status, observed) } else { String::new() };
        let message = format!("Recorded before the revocation{by}: {word}.{lacks}");
        facts.push(fact("Restored", truth, reason, message));
    }
    let ordered = promise::goal(wanted, observed) == Goal::Revoked && observed.stage == Stage::Fresh;
    if ordered && observed.self_lockout && !wanted.allow_self_lockout {
        let why = "Nodes of this very cluster need what would be taken.";
        facts.push(fact(promise::SELF_LOCKOUT, Truth::True, Reason::SelfLockout, why));
    }
    facts.extend(warnings(status, observed));
    facts
}

/// Policies that the role had and has no more. Others than ECS's grant are not the operator's to attach.
fn lacks(status: &KeyRevocationStatus, observed: &Observed) -> String {
    let prior = status.prior_state.as_ref().and_then(|prior| prior.ecs_role_policies.as_deref());
    let (Some(prior), Some(now)) = (prior, &observed.policies) else { return String::new() };
    let gone: Vec<&str> = prior.iter().filter(|policy| !now.contains(policy)).map(String::as_str).collect();
    match gone.is_empty() {
        true => String::new(),
        false => format!(
            " Somebody else detached {} meanwhile; attach it in RAM if ECS needs it.",
            gone.join(", ")
        ),
    }
}

fn planned(observed: &Observed, status: &KeyRevocationStatus) -> Fact {
    match (&observed.inventory, &status.blast_radius) {
        (Inventory::Done(blast), _) if !blast.complete() => fact(
            "Planned",
            Truth::False,
            Reason::InventoryIncomplete,
            format!("Not everything could be listed: {}", blast.missing.join("; ")),
        ),
        (Inventory::Late, Some(radius)) if !radius.is_listed() => {
            fact("Planned", Truth::False, Reason::InventoryIncomplete, "The list did not come in time.")
        }
        (_, Some(radius)) if radius.missing.iter().all(|what| what.starts_with(ROLE_LIMIT)) => {
            let limit = radius.missing.first().map(|limit| format!(" Beyond that: {limit}."));
            let list = format!(
                "{} instances, {} disks; digest {}.",
                radius.instances_affected.unwrap_or_default(),
                radius.disks.unwrap_or_default(),
                radius.digest
            );
            fact("Planned", Truth::True, Reason::Planned, list + &limit.unwrap_or_default())
        }
        (_, Some(_)) => {
            fact("Planned", Truth::False, Reason::InventoryIncomplete, "Not everything could be listed.")
        }
        (_, None) => fact("Planned", Truth::Unknown, Reason::Planning, "The list is not there yet."),
    }
}

fn approved(object: &KeyRevocation, wanted: &Wanted) -> Fact {
    let required = object.spec.approvals_required;
    match wanted.approvals_missing {
        0 if required == 0 => fact("Approved", Truth::True, Reason::Approved, "No approval is asked for."),
        0 => fact("Approved", Truth::True, Reason::Approved, format!("{required} approvals are there.")),
        missing => fact(
            "Approved",
            Truth::False,
            Reason::ApprovalMissing,
            format!("{missing} of {required} approvals are missing."),
        ),
    }
}

fn revoked(wanted: &Wanted, observed: &Observed) -> Fact {
    if promise::goal(wanted, observed) == Goal::Restored && observed.stage == Stage::Restored {
        return fact("Revoked", Truth::False, Reason::Restored, "The revocation was taken back.");
    }
    let what = match wanted.lever {
        Lever::Key => "The key",
        Lever::Role => "ECS's grant",
    };
    let word = &observed.word;
    match (observed.prior, promise::rejected(observed.switch)) {
        (Some(_), true) => {
            fact("Revoked", Truth::True, Reason::Revoked, format!("{what} is {word}; new uses are rejected."))
        }
        (None, true) => fact(
            "Revoked",
            Truth::False,
            Reason::Revoking,
            format!("{what} is {word}, but not by this revocation."),
        ),
        (_, false) if promise::goal(wanted, observed) == Goal::Restored => {
            fact("Revoked", Truth::False, Reason::Restored, format!("{what} is {word}."))
        }
        (_, false) => fact("Revoked", Truth::False, Reason::Revoking, format!("{what} is {word}.")),
    }
}

fn contained_fact(wanted: &Wanted, observed: &Observed, status: &KeyRevocationStatus) -> Fact {
    let count = status.still_readable.as_ref().map_or(0, |readable| readable.count);
    match contained(observed) {
        _ if promise::goal(wanted, observed) == Goal::Restored => {
            fact("Contained", Truth::False, Reason::Restoring, given_back(observed) + ".")
        }
        _ if observed.stage < Stage::Cutting || !promise::rejected(observed.switch) => {
            fact("Contained", Truth::False, Reason::Revoking, "The key is not revoked.")
        }
        Some(true) => {
            fact("Contained", Truth::True, Reason::Contained, "No running instance holds a data key.")
        }
        Some(false) => fact(
            "Contained",
            Truth::False,
            Reason::StillReadable,
            format!("{count} running instances may hold a data key in memory until they stop."),
        ),
        None => fact(
            "Contained",
            Truth::Unknown,
            Reason::InventoryIncomplete,
            "It is not known which instances run under the key.",
        ),
    }
}

fn given_back(observed: &Observed) -> String {
    match &observed.holder {
        Some(holder) => format!("The key is given back once KeyRevocation {holder} is restored too"),
        None => "The key is given back".to_owned(),
    }
}

fn verified(wanted: &Wanted, observed: &Observed, status: &KeyRevocationStatus) -> Fact {
    if promise::goal(wanted, observed) == Goal::Restored {
        return fact(
            "Verified",
            Truth::False,
            Reason::Restoring,
            given_back(observed) + "; status.verification says what was seen before.",
        );
    }
    let checks: Vec<_> =
        status.verification.iter().filter(|check| check.check != "EvidenceSnapshots").collect();
    let with = |result| checks.iter().find(|check| check.result == result);
    match (with(VerificationResult::Fail), with(VerificationResult::Unknown)) {
        (Some(check), _) => fact(
            "Verified",
            Truth::False,
            Reason::NotVerified,
            format!("{} failed: {}.", check.check, check.detail),
        ),
        (None, Some(check)) => fact(
            "Verified",
            Truth::Unknown,
            Reason::NotVerified,
            format!("{} says nothing: {}.", check.check, check.detail),
        ),
        (None, None) if checks.is_empty() => {
            fact("Verified", Truth::Unknown, Reason::NotVerified, "Nothing was checked yet.")
        }
        (None, None) => {
            let names: Vec<_> = checks.iter().map(|check| check.check.as_str()).collect();
            fact("Verified", Truth::True, Reason::Revoked, format!("Passed: {}.", names.join(", ")))
        }
    }
}

/// Conditions that are there only while something is wrong, or was.
fn warnings(status: &KeyRevocationStatus, observed: &Observed) -> Vec<Fact> {
    let mut facts = Vec::new();
    if status.reverts > 0 {
        facts.push(fact(
            "RevocationReverted",
            Truth::True,
            Reason::RevocationReverted,
            format!(
                "The revocation was taken back out of band {} times and made again. Find out who did it: ActionTrail shows \
                 EnableKey, CancelKeyDeletion and AttachPolicyToRole.",
                status.reverts
            ),
        ));
    }
    if let Some(holder) = &observed.holder {
        facts.push(fact(
            "OverlappingRevocation",
            Truth::True,
            Reason::OverlappingRevocation,
            format!("KeyRevocation {holder} holds the same; it returns with the last of them."),
        ));
    }
    // Once broken, it stays so: when old entries have been dropped, the rest may fit again.
    let was_broken = status.shared.conditions.iter().any(|condition| condition.type_ == "JournalBroken");
    if !observed.journal_intact || was_broken {
        facts.push(fact(
            "JournalBroken",
            Truth::True,
            Reason::JournalBroken,
            "The journal in status, or the prior state that it tells of, was changed by somebody else. The operator's log has \
             every entry; find out who may write keyrevocations/status.",
        ));
    }
    facts
}

/// The sentence of Ready.
pub fn message(
    object: &KeyRevocation,
    wanted: &Wanted,
    observed: &Observed,
    decision: &Decision<RevocationEffect>,
    status: &KeyRevocationStatus,
) -> String {
    let key = &object.spec.key_id;
    match decision {
        Decision::Do(RevocationEffect::Publish) => "The list of what is hit is being written.".to_owned(),
        Decision::Do(effect) => format!("Key {key}: step {effect} is under way.", effect = name(effect)),
        Decision::Wait(wait) => waiting(wait.reason, object, observed),
        Decision::Blocked(reason) => blocked(*reason, object, observed, status),
        Decision::Settled => settled(object, wanted, observed, status),
    }
}

fn name(effect: &RevocationEffect) -> &'static str {
    use crate::decision::Effect;
    effect.name()
}

fn settled(
    object: &KeyRevocation,
    wanted: &Wanted,
    observed: &Observed,
    status: &KeyRevocationStatus,
) -> String {
    let key = &object.spec.key_id;
    let count = status.still_readable.as_ref().map_or(0, |readable| readable.count);
    let hit = status.blast_radius.as_ref().and_then(|radius| radius.instances_affected).unwrap_or_default();
    match promise::goal(wanted, observed) {
        Goal::Planned if wanted.lever == Lever::Role => format!(
            "Without its role, ECS would lose every customer key in every region of the account; {hit} instances are under key {key} \
             alone. Set desiredState to Revoked to do it."
        ),
        Goal::Planned => {
            format!("Revoking key {key} would hit {hit} instances. Set desiredState to Revoked to do it.")
        }
        Goal::Revoked => match contained(observed) {
            Some(true) => format!("Key {key} is revoked and no running instance holds a data key."),
            Some(false) => format!(
                "Key {key} is revoked. {count} running instances may hold a data key in memory; raise runningInstances, or stop them."
            ),
            None => format!(
                "Key {key} is revoked. Which instances still run under it is not known completely; see status.blastRadius.missing."
            ),
        },
        Goal::Restored => format!("Key {key} is as it was before the revocation."),
    }
}

fn waiting(reason: Reason, object: &KeyRevocation, observed: &Observed) -> String {
    let key = &object.spec.key_id;
    match reason {
        Reason::InventoryIncomplete => {
            let missing = match &observed.inventory {
                Inventory::Done(blast) => blast.missing.join("; "),
                _ => "it takes too long".to_owned(),
            };
            format!("Not everything under key {key} could be listed: {missing}. It is tried again.")
        }
        Reason::OverlappingRevocation => match &observed.holder {
            Some(holder) => format!(
                "KeyRevocation {holder} holds key {key} as well; the key returns with the last of them. Restore that one too."
            ),
            None => format!("Another KeyRevocation of key {key} is being restored; this one ends after it."),
        },
        Reason::InstancesNotStarted => format!(
            "Key {key} is as it was, but instances that were stopped refuse to start; see the journal. It is tried again."
        ),
        Reason::Restoring => "Instances that were stopped are starting.".to_owned(),
        _ => format!("What is under key {key} is being listed."),
    }
}

fn blocked(
    reason: Reason,
    object: &KeyRevocation,
    observed: &Observed,
    status: &KeyRevocationStatus,
) -> String {
    let spec = &object.spec;
    let key = &spec.key_id;
    let radius = status.blast_radius.clone().unwrap_or_default();
    match reason {
        Reason::ServiceKeyNotRevocable => format!(
            "Key {key} belongs to a cloud service and can be neither disabled nor taken from ECS. Move the workloads to a customer key."
        ),
        Reason::KeyNotFound => format!(
            "There is no key {key} in region {}. Check spec.region and spec.keyId in a new object; keys do not leave their region.",
            spec.region
        ),
        Reason::ApprovalMissing => format!(
            "{} approvals by others than {} are needed and not all there. Approvers add themselves to spec.approvals.",
            spec.approvals_required, spec.requested_by
        ),
        Reason::SelfLockout => {
            let what = match spec.method {
                Method::DisableKey => format!("key {key}"),
                Method::DetachEcsRole => "customer keys, all of which ECS would lose".to_owned(),
            };
            format!(
                "Nodes of this very cluster have disks under {what}: it could not start them again. Set safety.allowSelfLockout in a \
                 new object if that is meant, or use ecskms revoke from outside."
            )
        }
        Reason::TooManyAffected => format!(
            "{} instances would be hit and safety.maxAffectedInstances is {}. Create a new object with a higher limit if that is meant.",
            radius.instances_affected.unwrap_or_default(),
            spec.safety.max_affected_instances.unwrap_or_default()
        ),
        Reason::DigestMismatch => format!(
            "safety.acknowledgedDigest is not {}, the digest of what would be hit now. Read status.blastRadius and set it.",
            radius.digest
        ),
        Reason::NothingToRestore => {
            "This object never revoked anything, so there is nothing to restore. Delete it.".to_owned()
        }
        Reason::KeyPendingDeletion => format!(
            "Key {key} is scheduled for deletion, which the operator never cancels, because that would enable the key. Cancel the \
             deletion in KMS, and the recorded state is given back."
        ),
        Reason::KeyPendingImport => format!("Key {key} has no key material. Import it in KMS."),
        Reason::SwitchedSinceRestored => {
            let when =
                status.timings.restored_at.as_ref().map_or("earlier".to_owned(), |at| format!("at {}", at.0));
            format!(
                "Key {key} was given back {when} and is {} now. Whoever did that since may have meant it, so it stays. If nobody \
                 did, switch it in KMS; if it is meant, delete this object.",
                observed.word
            )
        }
        Reason::PriorStateUnreachable => {
            let prior = status.prior_state.as_ref().map_or("unknown", |prior| prior.key_state.as_str());
            format!(
                "Key {key} was {prior} before and is {} now; the operator neither deletes keys nor takes their material. It stays as it is.",
                observed.word
            )
        }
        other if observed.key == KeyCheck::Missing => format!("Key {key} is not there: {other}."),
        other => format!("Key {key}: {other}."),
    }
}
