//! What an EncryptedDisk says about itself. Pure.

use super::api::EncryptedDiskStatus;
use super::decide::{Desired, Disk, DiskEffect, DiskState, Observed, Wanted};
use crate::decision::key::Protection;
use crate::decision::report::{Fact, Report, Truth, key_facts, key_obstacle};
use crate::decision::{Decision, Reason};
use crate::resource::Drift;

/// Status, conditions and the sentence for Ready.
pub fn report(
    before: Option<&EncryptedDiskStatus>,
    desired: &Desired,
    observed: &Observed,
    decision: &Decision<DiskEffect>,
) -> Report<EncryptedDiskStatus> {
    let mut status = before.cloned().unwrap_or_default();
    let Desired::Present(wanted) = desired else {
        // Remembered, so that the object need not wait for its creation to age once this very disk is gone.
        let seen = observed.disks.iter().find(|disk| disk.own).map(|disk| disk.id.clone());
        status.disk_id = status.disk_id.or(seen);
        return Report { status, facts: Vec::new(), message: departure(observed, decision) };
    };
    if let Some(id) = observed.key.id().filter(|id| !id.starts_with("alias/")) {
        status.key_id = Some(id.to_owned());
    }
    let mut facts = key_facts(&observed.key, &wanted.region);
    let chosen = observed.disks.iter().find(|disk| Some(&disk.id) == observed.known.as_ref());
    // A disk that is still being created is not written down: its intent is, and one write fewer is one write fewer.
    if let Some(disk) = chosen.or(observed.disks.first()).filter(|disk| disk.state != DiskState::Creating) {
        status.disk_id = Some(disk.id.clone());
        status.disk_status = Some(disk.status.clone());
        status.attached_to = disk.attached_to.clone();
        status.size_gib = Some(disk.size_gib);
        status.drift = disk.drift.iter().map(drift).collect();
        facts.push(encrypted(disk, observed));
        facts.extend(drifted(disk));
    }
    Report { status, facts, message: message(wanted, observed, decision) }
}

fn drift((path, desired, observed): &(String, String, String)) -> Drift {
    Drift { path: path.clone(), desired: desired.clone(), observed: observed.clone() }
}

fn encrypted(disk: &Disk, observed: &Observed) -> Fact {
    let key = observed.key.id().unwrap_or("the key");
    let id = &disk.id;
    let (truth, reason, message) = match disk.protection {
        Protection::Exact => (Truth::True, Reason::Available, format!("Disk {id} is encrypted under {key}.")),
        Protection::Unproven => {
            (Truth::Unknown, Reason::KeyMismatch, format!("Disk {id} is encrypted, but shows no key."))
        }
        Protection::OtherKey => (
            Truth::False,
            Reason::KeyMismatch,
            format!("Disk {id} is encrypted under another key than {key}."),
        ),
        Protection::Plain => (Truth::False, Reason::NotEncrypted, format!("Disk {id} is not encrypted.")),
    };
    Fact { name: "Encrypted", truth, reason, message }
}

fn drifted(disk: &Disk) -> Option<Fact> {
    let (path, desired, observed) = disk.drift.first()?;
    Some(Fact {
        name: "Drifted",
        truth: Truth::True,
        reason: Reason::ImmutableFieldChanged,
        message: format!(
            "{path} asks for {desired}, but the disk has {observed}, which cannot be changed on a disk."
        ),
    })
}

fn departure(observed: &Observed, decision: &Decision<DiskEffect>) -> String {
    let id = observed.disks.first().map(|disk| disk.id.as_str()).unwrap_or("of this object");
    match decision {
        Decision::Blocked(Reason::KeyRevoked) => {
            let key = observed.key.id().unwrap_or("of this object");
            format!("Nothing is deleted while a KeyRevocation holds key {key}. See kubectl get keyrevocations.")
        }
        Decision::Blocked(_) => format!("Disk {id} is in use and is not deleted. Detach it, or set deletionPolicy to Retain."),
        Decision::Wait(wait) if wait.reason == Reason::Settling => {
            "A creation whose answer was lost may still take effect; the object stays until that is ruled out.".to_owned()
        }
        Decision::Wait(wait) if wait.reason == Reason::StatusUnknown => {
            format!("Disk {id} shows a status that is not documented; it is not deleted until that changes.")
        }
        _ => format!("Disk {id} is being deleted."),
    }
}

fn message(wanted: &Wanted, observed: &Observed, decision: &Decision<DiskEffect>) -> String {
    let disk = observed.disks.first();
    let id = disk.map(|disk| disk.id.as_str()).or(observed.known.as_deref()).unwrap_or("of this object");
    let key = observed.key.id().unwrap_or("the key");
    match decision {
        Decision::Settled => format!("Disk {id} exists and is encrypted under {key}."),
        Decision::Do(DiskEffect::Resize { size_gib, .. }) => format!("Disk {id} grows to {size_gib} GiB."),
        Decision::Do(_) => "The disk is being created.".to_owned(),
        Decision::Wait(wait) => waiting(wait.reason, wanted, id),
        Decision::Blocked(reason) => blocked(*reason, wanted, observed, id),
    }
}

fn waiting(reason: Reason, wanted: &Wanted, id: &str) -> String {
    match reason {
        Reason::DependencyNotReady => {
            format!("Snapshot {} is still being taken.", wanted.snapshot_id.as_deref().unwrap_or_default())
        }
        Reason::Settling => "The answer to the creation was lost; before it may be sent anew, it must be certain that the first request can no longer take effect.".to_owned(),
        Reason::StatusUnknown => format!("Disk {id} shows a status that is not documented. Look at it in the console."),
        Reason::KeyMismatch => format!("Disk {id} is encrypted, but the cloud does not show under which key. Look at it in the console."),
        _ => "The disk is being created.".to_owned(),
    }
}

fn blocked(reason: Reason, wanted: &Wanted, observed: &Observed, id: &str) -> String {
    let key = observed.key.id().unwrap_or(&wanted.key);
    let snapshot = wanted.snapshot_id.as_deref().unwrap_or_default();
    match reason {
        Reason::Suspended => "Suspended by spec.suspend; set it to false to go on.".to_owned(),
        Reason::SourceNotFound => {
            format!("Snapshot {snapshot} does not exist in region {}, or failed. Check spec.source.", wanted.region)
        }
        Reason::InvalidSpec => format!("spec.sizeGiB is smaller than the disk that snapshot {snapshot} was taken of. Leave it out or make it larger."),
        Reason::NotEncrypted => format!("Disk {id} is not encrypted, and a disk cannot be encrypted in place. Create a new object from a snapshot of it."),
        Reason::KeyMismatch => format!("Disk {id} is encrypted under another key than {key}, and a disk cannot change its key. Create a new object from a snapshot of it."),
        Reason::AdoptionMismatch => match &observed.namesake {
            Some(other) => format!("Disk {other} carries the name of this object but belongs to an earlier life of it. Adopt it with spec.adopt in a new object, or remove its ecskms: tags."),
            None => "More than one disk belongs to this object and at least one is in use. Decide which one stays and delete the other.".to_owned(),
        },
        Reason::ExternalGone if wanted.adopt.is_none() && observed.known.is_none() => {
            "managementPolicy is Observe and there is no disk to observe. Set spec.adopt in a new object.".to_owned()
        }
        Reason::ExternalGone => {
            let id = observed.known.as_deref().or(wanted.adopt.as_deref()).unwrap_or(id);
            format!("Disk {id} is gone, or the operator may no longer see it. It is not made again by itself; create a new object.")
        }
        Reason::RequestRefused | Reason::QuotaExceeded | Reason::NoStock => {
            "The cloud refused the request for good; see status.lastError. Correct the object, or request a reconcile.".to_owned()
        }
        other => key_obstacle(other, key, &wanted.region),
    }
}
