//! What would be seen of an EncryptedDisk after a decision if all goes well, and the calls that its effects stand for. Pure.

use std::collections::BTreeSet;

use super::api::EncryptedDisk;
use super::decide::{
    Amendment, Attachment, Desired, Disk, DiskEffect, DiskState, InstanceFact, InstanceName, Noted, Observed,
    Place, Role, Since, Snapshot, SnapshotState, SourceFact, Target, Wanted, placed_next,
};
use super::request;
use crate::decision::key::Protection;
use crate::decision::{Decision, Reason};
use crate::kind::{Call, Owner};

/// Stands for the id of a disk that is not there yet.
const NEW_DISK: &str = "<new disk>";
/// Stands for the id of a snapshot that is not there yet.
const NEW_SNAPSHOT: &str = "<new snapshot>";

/// The RAM actions that looking takes.
pub const READS: &[&str] = &[
    "ecs:DescribeDisks",
    "ecs:DescribeInstances",
    "ecs:DescribeSnapshots",
    "kms:DescribeKey",
    "ram:GetRole",
    "ram:ListPoliciesForRole",
];

/// The next look; None where nothing follows by itself.
pub fn after(desired: &Desired, before: &Observed, decision: &Decision<DiskEffect>) -> Option<Observed> {
    let mut seen = before.clone();
    match decision {
        Decision::Do(effect) => done(desired, before, decision, effect, &mut seen),
        Decision::Wait(wait) => passed(desired, before, wait.reason, &mut seen),
        Decision::Settled | Decision::Blocked(_) => return None,
    }
    (seen != *before).then_some(seen)
}

fn done(
    desired: &Desired,
    before: &Observed,
    decision: &Decision<DiskEffect>,
    effect: &DiskEffect,
    seen: &mut Observed,
) {
    if let Desired::Present(wanted) = desired {
        seen.placed = placed_next(wanted, before, decision);
    }
    match effect {
        DiskEffect::Claim(role, take) => {
            seen.creation = before.creation.claimed(*take);
            seen.role = *role;
        }
        DiskEffect::Create { role, .. } => {
            seen.creation = before.creation.accepted();
            appear(desired, *role, seen);
        }
        DiskEffect::Note(Noted::Place) => {}
        DiskEffect::Note(Noted::Origin) => {
            seen.heritage.origin_place =
                before.heritage.origin.as_ref().and_then(|origin| origin.place.clone());
        }
        DiskEffect::Note(Noted::Replaced) => seen.heritage.replaced = true,
        DiskEffect::Attach { id, place } => change(&mut seen.disks, id, |disk| {
            disk.state = DiskState::InUse;
            disk.attached_to = Some(place.instance.clone());
            disk.delete_with_instance = place.delete_with_instance;
        }),
        DiskEffect::Detach { id, .. } => change(&mut seen.disks, id, |disk| {
            disk.state = DiskState::Available;
            disk.attached_to = None;
        }),
        DiskEffect::DetachSource { .. } => {
            if let Some(origin) = &mut seen.heritage.origin {
                (origin.state, origin.place) = (DiskState::Available, None);
            }
        }
        DiskEffect::Amend { id, amendment } => change(&mut seen.disks, id, |disk| {
            let tags = if amends(amendment) { amendment.tags.clone() } else { Vec::new() };
            disk.amendment = Amendment { tags, ..Amendment::default() };
            disk.delete_with_instance = amendment.delete_with_instance.unwrap_or(disk.delete_with_instance);
        }),
        DiskEffect::Resize { id, size_gib, .. } => {
            change(&mut seen.disks, id, |disk| disk.size_gib = *size_gib);
        }
        DiskEffect::Delete { id } => seen.disks.retain(|disk| disk.id != *id),
        DiskEffect::RetireSource { .. } => seen.heritage.origin = None,
        DiskEffect::DeleteSnapshot { id } => seen.heritage.snapshots.retain(|snapshot| snapshot.id != *id),
    }
}

/// True if names are set, which takes a call of its own, after which the tags follow.
fn amends(amendment: &Amendment) -> bool {
    let Amendment { tags: _, name, description, delete_with_instance } = amendment;
    name.is_some() || description.is_some() || delete_with_instance.is_some()
}

fn change(disks: &mut BTreeSet<Disk>, id: &str, change: impl Fn(&mut Disk)) {
    *disks = std::mem::take(disks)
        .into_iter()
        .map(|mut disk| {
            if disk.id == id {
                change(&mut disk);
            }
            disk
        })
        .collect();
}

/// What a creation made shows.
fn appear(desired: &Desired, role: Role, seen: &mut Observed) {
    match role {
        Role::Disk => {
            let wanted = match desired {
                Desired::Present(wanted) => wanted.size_gib,
                Desired::Absent { .. } => None,
            };
            let origin = seen.heritage.origin.as_ref().map(|origin| origin.size_gib);
            let snapshot = match seen.source {
                SourceFact::Ready { size_gib } => Some(size_gib),
                SourceFact::Blank | SourceFact::NotReady | SourceFact::Missing => None,
            };
            seen.known = Some(NEW_DISK.to_owned());
            seen.disks.insert(Disk {
                id: NEW_DISK.to_owned(),
                state: DiskState::Creating,
                protection: Protection::Exact,
                attached_to: None,
                delete_with_instance: false,
                size_gib: wanted.or(snapshot).or(origin).unwrap_or_default(),
                own: true,
                amendment: Amendment::default(),
                status: "Creating".to_owned(),
                drift: BTreeSet::new(),
            });
        }
        Role::Snapshot => {
            seen.heritage.known_snapshot = Some(NEW_SNAPSHOT.to_owned());
            let snapshot = Snapshot { id: NEW_SNAPSHOT.to_owned(), state: SnapshotState::Progressing };
            seen.heritage.snapshots.insert(snapshot);
            if let Some(origin) = &mut seen.heritage.origin {
                origin.since = Since::Untouched;
            }
        }
    }
}

/// Time passes: what is on its way arrives, and what others have begun is finished.
fn passed(desired: &Desired, before: &Observed, reason: Reason, seen: &mut Observed) {
    let arrived = |state: DiskState, attached: bool| match state {
        DiskState::Creating => DiskState::Available,
        DiskState::Moving if attached => DiskState::InUse,
        DiskState::Moving => DiskState::Available,
        DiskState::Available | DiskState::InUse | DiskState::Unknown => state,
    };
    for disk in &before.disks {
        change(&mut seen.disks, &disk.id, |disk| {
            disk.state = arrived(disk.state, disk.attached_to.is_some());
        });
    }
    if let Some(origin) = &mut seen.heritage.origin {
        origin.state = arrived(origin.state, origin.place.is_some());
    }
    let taken = before.heritage.snapshots.iter().cloned().map(|snapshot| Snapshot {
        state: match snapshot.state {
            SnapshotState::Progressing => SnapshotState::Ready,
            other => other,
        },
        ..snapshot
    });
    seen.heritage.snapshots = taken.collect();
    if let Desired::Present(wanted) = desired {
        others_are_done(wanted, seen);
    }
    // Seen, and so written down with this look.
    if let Some(disk) = before.disks.iter().find(|disk| disk.own) {
        seen.known = before.known.clone().or(Some(disk.id.clone()));
    }
    if reason == Reason::Settling {
        seen.creation.aged = true;
    } else if before.creation.is_accepted() && is_unseen(before) {
        appear(desired, before.role, seen);
    }
}

/// True if what the recorded creation made was never seen.
fn is_unseen(before: &Observed) -> bool {
    match before.role {
        Role::Disk => before.known.is_none() && before.disks.is_empty(),
        Role::Snapshot => before.heritage.known_snapshot.is_none() && before.heritage.snapshots.is_empty(),
    }
}

/// The instance that another object makes, and the snapshot that somebody takes.
fn others_are_done(wanted: &Wanted, seen: &mut Observed) {
    seen.target = match (&seen.target, &wanted.attachment) {
        (Target::Pending, Some(Attachment { instance, delete_with_instance })) => {
            let instance = match instance {
                InstanceName::Id(id) => id.clone(),
                InstanceName::Reference(name) => format!("<instance of {name}>"),
            };
            let place = Place { instance, delete_with_instance: *delete_with_instance };
            Target::At(place, InstanceFact::Ready)
        }
        (Target::At(place, InstanceFact::Busy), _) => Target::At(place.clone(), InstanceFact::Ready),
        (other, _) => other.clone(),
    };
    if seen.source == SourceFact::NotReady {
        seen.source = SourceFact::Ready { size_gib: wanted.size_gib.unwrap_or_default() };
    }
}

/// The calls that an effect stands for.
pub fn calls(
    object: &EncryptedDisk,
    desired: &Desired,
    observed: &Observed,
    owner: &Owner,
    effect: &DiskEffect,
) -> Vec<Call> {
    let region = object.spec.region.as_str();
    let of_disk = |action, id: &str| Call::new("ecs", action, [("RegionId", region), ("DiskId", id)]);
    let call = match effect {
        DiskEffect::Claim(..) | DiskEffect::Note(_) => return Vec::new(),
        DiskEffect::Create { role, attempt } => {
            let action = match role {
                Role::Disk => "CreateDisk",
                Role::Snapshot => "CreateSnapshot",
            };
            Call::creation(action, request::request(desired, observed, owner, *role, *attempt))
        }
        DiskEffect::Attach { id, place } => of_disk("AttachDisk", id)
            .with("InstanceId", Some(&place.instance))
            .with("DeleteWithInstance", Some(place.delete_with_instance)),
        DiskEffect::Detach { id, instance } | DiskEffect::DetachSource { id, instance } => {
            of_disk("DetachDisk", id).with("InstanceId", Some(instance))
        }
        DiskEffect::Amend { id, amendment } if amends(amendment) => of_disk("ModifyDiskAttribute", id)
            .with("DiskName", amendment.name.as_ref())
            .with("Description", amendment.description.as_ref())
            .with("DeleteWithInstance", amendment.delete_with_instance),
        DiskEffect::Amend { id, amendment } => Call::new(
            "ecs",
            "TagResources",
            [("RegionId", region), ("ResourceType", "disk"), ("ResourceId.1", id)],
        )
        .tagged(&amendment.tags),
        DiskEffect::Resize { id, size_gib, online } => of_disk("ResizeDisk", id)
            .with("NewSize", Some(size_gib))
            .with("Type", Some(if *online { "online" } else { "offline" })),
        DiskEffect::Delete { id } | DiskEffect::RetireSource { id } => of_disk("DeleteDisk", id),
        DiskEffect::DeleteSnapshot { id } => {
            Call::new("ecs", "DeleteSnapshot", [("RegionId", region), ("SnapshotId", id), ("Force", "true")])
        }
    };
    vec![call]
}
