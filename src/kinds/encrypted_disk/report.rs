//! What an EncryptedDisk says about itself. Pure.

use super::api::{DiskPhase, EncryptedDiskStatus, Placement};
use super::decide::{
    Desired, Disk, DiskEffect, DiskState, Noted, Observed, Place, Role, Target, Wanted, placed_next,
};
use crate::decision::key::Protection;
use crate::decision::report::{Fact, Report, Truth, key_facts};
use crate::decision::{Decision, Reason};
use crate::resource::Drift;

mod words;

/// Status, conditions and the sentence for Ready.
pub fn report(
    before: Option<&EncryptedDiskStatus>,
    desired: &Desired,
    observed: &Observed,
    decision: &Decision<DiskEffect>,
) -> Report<EncryptedDiskStatus> {
    let mut status = before.cloned().unwrap_or_default();
    status.source_snapshot_id =
        observed.heritage.snapshot().map(|snapshot| snapshot.id.clone()).or(status.source_snapshot_id);
    let Desired::Present(wanted) = desired else {
        // Remembered, so that the object need not wait for its creation to age once this very disk is gone.
        let seen = observed.disks.iter().find(|disk| disk.own).map(|disk| disk.id.clone());
        status.disk_id = status.disk_id.or(seen);
        status.phase = Some(phase(desired, decision));
        return Report { status, facts: Vec::new(), message: words::departure(observed, decision) };
    };
    if !wanted.suspend {
        status.phase = Some(phase(desired, decision));
    }
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
        status.drift = drifts(wanted, observed, disk);
        facts.push(encrypted(disk, observed));
        facts.extend(drifted(&status.drift));
    }
    remember_places(&mut status, wanted, observed, decision);
    Report { status, facts, message: words::message(wanted, observed, decision) }
}

/// What must not be forgotten, because the next step depends on it.
fn remember_places(
    status: &mut EncryptedDiskStatus,
    wanted: &Wanted,
    observed: &Observed,
    decision: &Decision<DiskEffect>,
) {
    if wanted.suspend {
        return;
    }
    let record = |place: Place| Placement {
        instance_id: place.instance,
        delete_with_instance: place.delete_with_instance,
    };
    let heritage = &observed.heritage;
    status.attachment = placed_next(wanted, observed, decision).map(record);
    if heritage.place_is_given {
        status.source_attachment = None;
    } else if let (Some(origin), false) = (&heritage.origin, heritage.replaced) {
        // A disk on its way from its instance has already lost what became of it there.
        let attached = origin.place.clone().filter(|_| origin.state == DiskState::InUse);
        status.source_attachment = attached.map(record).or(status.source_attachment.take());
    }
    let verified = matches!(decision, Decision::Settled | Decision::Do(DiskEffect::Note(Noted::Replaced)));
    if let Some(succession) = wanted.succession.as_ref().filter(|_| verified && wanted.manage) {
        status.replaced_disk_id = Some(succession.disk_id.clone());
    }
}

/// Which step is under way.
fn phase(desired: &Desired, decision: &Decision<DiskEffect>) -> DiskPhase {
    if matches!(desired, Desired::Absent { .. }) {
        return DiskPhase::Deleting;
    }
    match decision {
        Decision::Settled => DiskPhase::Ready,
        Decision::Do(effect) => match effect {
            DiskEffect::Claim(Role::Snapshot, _) | DiskEffect::Create { role: Role::Snapshot, .. } => {
                DiskPhase::Snapshotting
            }
            DiskEffect::Claim(Role::Disk, _) | DiskEffect::Create { role: Role::Disk, .. } => {
                DiskPhase::Creating
            }
            DiskEffect::Note(Noted::Place) | DiskEffect::Attach { .. } => DiskPhase::Attaching,
            DiskEffect::Note(Noted::Origin) | DiskEffect::DetachSource { .. } => DiskPhase::DetachingSource,
            DiskEffect::Detach { .. } => DiskPhase::Detaching,
            DiskEffect::Amend { .. } | DiskEffect::Resize { .. } => DiskPhase::Amending,
            DiskEffect::Delete { .. } => DiskPhase::Deleting,
            DiskEffect::Note(Noted::Replaced)
            | DiskEffect::RetireSource { .. }
            | DiskEffect::DeleteSnapshot { .. } => DiskPhase::RetiringSource,
        },
        Decision::Wait(wait) => waiting_phase(wait.reason),
        Decision::Blocked(Reason::CutoverPending) => DiskPhase::AwaitingCutover,
        Decision::Blocked(_) => DiskPhase::Waiting,
    }
}

fn waiting_phase(reason: Reason) -> DiskPhase {
    match reason {
        Reason::CutoverPending => DiskPhase::AwaitingCutover,
        Reason::Snapshotting => DiskPhase::Snapshotting,
        Reason::Creating => DiskPhase::Creating,
        Reason::Attaching => DiskPhase::Attaching,
        Reason::Detaching => DiskPhase::Detaching,
        _ => DiskPhase::Waiting,
    }
}

/// What differs from the object and is not mended by itself.
fn drifts(wanted: &Wanted, observed: &Observed, disk: &Disk) -> Vec<Drift> {
    let drift = |path: &str, desired: &str, observed: &str| {
        Drift::of((path.to_owned(), desired.to_owned(), observed.to_owned()))
    };
    let mut list: Vec<_> = disk.drift.iter().cloned().map(Drift::of).collect();
    if let (Some(now), Some(pinned)) = (&observed.repointed, observed.key.id()) {
        list.push(drift("spec.key.alias", pinned, now));
    }
    if let (Target::At(place, _), Some(instance)) = (&observed.target, &disk.attached_to)
        && place.instance != *instance
        && (!wanted.manage || observed.placed.as_ref().is_none_or(|placed| placed.instance != *instance))
    {
        list.push(drift("spec.attachment", &place.instance, instance));
    }
    list
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

fn drifted(drift: &[Drift]) -> Option<Fact> {
    let (Drift { path, desired, .. }, observed, more) = Drift::first(drift)?;
    let message = match path.as_str() {
        "spec.key.alias" => format!(
            "The alias names {observed} now; the disk stays under {desired}, because a disk cannot change its key. \
             Create a new object to have a disk under the other key.{more}"
        ),
        "spec.attachment" => {
            format!("The disk should be attached to {desired}, but is attached to {observed}.{more}")
        }
        _ => format!("{path} asks for {desired}, but the disk has {observed}.{more}"),
    };
    Some(Fact { name: "Drifted", truth: Truth::True, reason: Reason::ImmutableFieldChanged, message })
}
