//! The sentences of an EncryptedDisk: what it is doing, or what somebody must do next. Pure.

use super::super::decide::{
    Disk, DiskEffect, InstanceFact, InstanceName, Noted, Observed, Role, SnapshotState, Target, Wanted,
};
use crate::decision::report::key_obstacle;
use crate::decision::{Decision, Reason};

/// For an object that is being deleted.
pub(super) fn departure(observed: &Observed, decision: &Decision<DiskEffect>) -> String {
    let id = observed.disks.first().map(|disk| disk.id.as_str()).unwrap_or("of this object");
    match decision {
        Decision::Blocked(Reason::InUse) => format!("Disk {id} is in use and is not deleted. Detach it, or set deletionPolicy to Retain."),
        Decision::Blocked(reason) => format!(
            "Nothing under key {} is deleted while it cannot be used ({reason}). Make the key usable again, or set \
             deletionPolicy to Retain.",
            observed.key.id().unwrap_or("of the disk")
        ),
        Decision::Wait(wait) if wait.reason == Reason::Settling => {
            "A creation whose answer was lost may still take effect; the object stays until that is ruled out.".to_owned()
        }
        Decision::Wait(wait) if wait.reason == Reason::StatusUnknown => {
            format!("Disk {id} shows a status that is not documented; it is not deleted until that changes.")
        }
        Decision::Wait(wait) if wait.reason == Reason::Detaching => {
            format!("Disk {id} is being detached from where the operator attached it, and then deleted.")
        }
        _ => format!("Disk {id} is being deleted."),
    }
}

/// For an object that stays.
pub(super) fn message(wanted: &Wanted, observed: &Observed, decision: &Decision<DiskEffect>) -> String {
    let names = Names::of(wanted, observed);
    match decision {
        Decision::Settled => settled(&names, observed),
        Decision::Do(effect) => doing(effect, &names),
        Decision::Wait(wait) => waiting(wait.reason, wanted, observed, &names),
        Decision::Blocked(reason) => blocked(*reason, wanted, observed, &names),
    }
}

/// What the sentences speak of.
struct Names<'a> {
    disk: &'a str,
    key: &'a str,
    source: &'a str,
    snapshot: &'a str,
    instance: &'a str,
}

impl<'a> Names<'a> {
    fn of(wanted: &'a Wanted, observed: &'a Observed) -> Names<'a> {
        let disk = observed.disks.first().map(|disk| disk.id.as_str());
        let taken = observed.heritage.snapshot().map(|snapshot| snapshot.id.as_str());
        let instance = match &observed.target {
            Target::At(place, _) => place.instance.as_str(),
            Target::Nowhere | Target::Pending => "",
        };
        Names {
            disk: disk.or(observed.known.as_deref()).unwrap_or("of this object"),
            key: observed.key.id().unwrap_or(&wanted.key),
            source: wanted.succession.as_ref().map_or("", |succession| &succession.disk_id),
            snapshot: wanted
                .snapshot_id
                .as_deref()
                .or(taken)
                .or(observed.heritage.known_snapshot.as_deref())
                .unwrap_or_default(),
            instance,
        }
    }
}

fn settled(names: &Names, observed: &Observed) -> String {
    let Names { disk, key, source, .. } = names;
    let attached = observed.disks.first().and_then(|disk| disk.attached_to.as_deref());
    let place = attached.map(|instance| format!(" and attached to {instance}")).unwrap_or_default();
    let kept = match (source.is_empty(), observed.heritage.origin.is_some()) {
        (false, true) => format!(
            " It has taken the place of {source}, which is kept; set retireSource to true to have it deleted."
        ),
        (false, false) => format!(" It has taken the place of {source}."),
        (true, _) => String::new(),
    };
    format!("Disk {disk} exists, encrypted under {key}{place}.{kept}")
}

fn doing(effect: &DiskEffect, names: &Names) -> String {
    let Names { disk, source, instance, .. } = names;
    match effect {
        DiskEffect::Claim(Role::Snapshot, _) | DiskEffect::Create { role: Role::Snapshot, .. } => {
            format!("The last snapshot of disk {source} is being taken.")
        }
        DiskEffect::Claim(Role::Disk, _) | DiskEffect::Create { role: Role::Disk, .. } => {
            "The disk is being created.".to_owned()
        }
        DiskEffect::Note(Noted::Place) | DiskEffect::Attach { .. } => {
            format!("Disk {disk} is being attached to {instance}.")
        }
        DiskEffect::Note(Noted::Origin) | DiskEffect::DetachSource { .. } => {
            format!("Disk {source} is being detached, to be replaced.")
        }
        DiskEffect::Note(Noted::Replaced) => format!("Disk {disk} has taken the place of {source}."),
        DiskEffect::Detach { instance, .. } => format!("Disk {disk} is being detached from {instance}."),
        DiskEffect::Amend { .. } => format!("Names and tags of disk {disk} are being corrected."),
        DiskEffect::Resize { size_gib, .. } => format!("Disk {disk} grows to {size_gib} GiB."),
        DiskEffect::Delete { id } | DiskEffect::RetireSource { id } => {
            format!("Disk {id} is being deleted.")
        }
        DiskEffect::DeleteSnapshot { id } => format!("Snapshot {id} is being deleted."),
    }
}

fn waiting(reason: Reason, wanted: &Wanted, observed: &Observed, names: &Names) -> String {
    let Names { disk, source, snapshot, instance, .. } = names;
    match reason {
        Reason::DependencyNotReady => match (&observed.target, &wanted.attachment) {
            (Target::Pending, Some(attachment)) => match &attachment.instance {
                InstanceName::Reference(name) => {
                    format!("EncryptedInstance {name} does not exist or has no instance yet; the disk waits for it.")
                }
                InstanceName::Id(id) => format!("Instance {id} is not there yet."),
            },
            (Target::At(_, InstanceFact::Busy), _) => {
                format!("Instance {instance} is on its way between two states; the disk is attached once it is Running or Stopped.")
            }
            _ => format!("Snapshot {snapshot} is still being taken."),
        },
        Reason::CutoverPending => format!(
            "Disk {source} is attached, and spec.cutover is WhenDetached: detach it, or set spec.cutover to Now to have it \
             detached. Its last snapshot is taken after that, so that no write is missing."
        ),
        Reason::Snapshotting => {
            format!("The last snapshot of disk {source} is being taken; leave the disk detached until this one is Ready.")
        }
        Reason::Attaching => format!("Disk {disk} is {}; it should be attached to {instance}.", shown(observed)),
        Reason::Detaching if observed.disks.is_empty() => format!("Disk {source} is being detached, to be replaced."),
        Reason::Detaching => format!("Disk {disk} is {}; something is being detached.", shown(observed)),
        Reason::Settling => "The answer to a creation was lost; before the next may be sent, it must be certain that the first request can no longer take effect.".to_owned(),
        Reason::StatusUnknown => format!("A disk or snapshot of this object ({disk} {source} {snapshot}) shows a status that is not documented. Look at it in the console."),
        Reason::KeyMismatch => format!("Disk {disk} is encrypted, but the cloud does not show under which key. Look at it in the console."),
        Reason::Adjusting => format!("Disk {disk} is {}; it grows after that.", shown(observed)),
        _ => "The disk is being created.".to_owned(),
    }
}

/// The status word of the disk.
fn shown(observed: &Observed) -> &str {
    observed.disks.first().map_or("not there", |disk: &Disk| &disk.status)
}

fn blocked(reason: Reason, wanted: &Wanted, observed: &Observed, names: &Names) -> String {
    let Names { disk, key, source, snapshot, instance } = names;
    match reason {
        Reason::Suspended => "Suspended by spec.suspend; set it to false to go on.".to_owned(),
        Reason::SourceNotFound if wanted.succession.is_some() => {
            format!("Disk {source} does not exist in region {}, or the operator may not see it. Check spec.source.", wanted.region)
        }
        Reason::SourceNotFound => {
            format!("Snapshot {snapshot} does not exist in region {}, or failed. Check spec.source.", wanted.region)
        }
        Reason::InvalidSpec => unfit(wanted, observed, names),
        Reason::CutoverPending => format!(
            "Everything is checked, and nothing is done yet. To replace disk {source}, unmount it and set spec.cutover to Now, \
             or to WhenDetached and detach it yourself."
        ),
        Reason::SourceChanged => format!(
            "Disk {source} was attached again after snapshot {snapshot}, or it cannot be proved that it was not: writes may be \
             missing from this object's disk. The source is not deleted. Detach it for good, delete this object and create it \
             again, or delete {source} yourself if nothing was written."
        ),
        Reason::CopyFailed => format!("Snapshot {snapshot} of disk {source} failed. Delete this object and create it again."),
        Reason::InstanceNotFound => format!(
            "Instance {instance} does not exist in region {}, or the operator may not see it (ecs:DescribeInstances). Check \
             spec.attachment.",
            wanted.region
        ),
        Reason::AttachedElsewhere => format!(
            "Disk {disk} is attached to {}, where this object did not put it, and should be at {instance}. Detach it there, or \
             name that instance in spec.attachment.",
            observed.disks.first().and_then(|disk| disk.attached_to.as_deref()).unwrap_or("another instance")
        ),
        Reason::NotEncrypted => format!("Disk {disk} is not encrypted, and a disk cannot be encrypted in place. Create a new object with it as spec.source.diskId."),
        Reason::KeyMismatch => format!("Disk {disk} is encrypted under another key than {key}, and a disk cannot change its key. Create a new object with it as spec.source.diskId."),
        Reason::AdoptionMismatch => match &observed.namesake {
            Some(other) => format!("Disk {other} carries the name of this object but belongs to an earlier life of it. Adopt it with spec.adopt in a new object, or remove its ecskms: tags."),
            None => "More than one disk belongs to this object and at least one is in use. Decide which one stays and delete the other.".to_owned(),
        },
        Reason::ExternalGone => gone(wanted, observed, names),
        Reason::RequestRefused | Reason::QuotaExceeded | Reason::NoStock => {
            "The cloud refused the request for good; see status.lastError. Correct the object, or request a reconcile.".to_owned()
        }
        other => key_obstacle(other, key, &wanted.region),
    }
}

/// Which value of the object cannot work.
fn unfit(wanted: &Wanted, observed: &Observed, names: &Names) -> String {
    let Names { source, snapshot, instance, .. } = names;
    if let Target::At(_, InstanceFact::OtherZone(zone)) = &observed.target {
        return format!(
            "Instance {instance} is in zone {zone} and can only use disks of that zone; the disk is for {}. Choose another \
             instance, or create a new object in zone {zone}.",
            wanted.zone_id
        );
    }
    match observed.heritage.origin.as_ref().map(|origin| &origin.unsuitable) {
        Some(Some(why)) => format!("spec.source.diskId: disk {source} cannot be replaced: {why}."),
        Some(None) => format!("spec.sizeGiB is smaller than disk {source}. Leave it out or make it larger."),
        None => format!(
            "spec.sizeGiB is smaller than the disk that snapshot {snapshot} was taken of. Leave it out or make it larger."
        ),
    }
}

fn gone(wanted: &Wanted, observed: &Observed, names: &Names) -> String {
    let Names { source, snapshot, .. } = names;
    let adopted = wanted.adopt.as_deref();
    let never_there = adopted.is_none() && observed.known.is_none();
    if wanted.succession.is_some() && !wanted.manage && never_there {
        return "managementPolicy is Observe, so disk {source} is not replaced.".replace("{source}", source);
    }
    let failed = observed.heritage.snapshots.iter().any(|one| one.state == SnapshotState::Failed);
    if wanted.succession.is_some() && (never_there || !observed.disks.is_empty()) && !failed {
        return format!(
            "Snapshot {snapshot} of disk {source} is gone, so the copy cannot be proved whole. The source is not touched. Delete this object and create it again."
        );
    }
    if never_there {
        return "managementPolicy is Observe and there is no disk to observe. Set spec.adopt in a new object.".to_owned();
    }
    let id = observed.known.as_deref().or(adopted).unwrap_or(names.disk);
    format!(
        "Disk {id} is gone, or the operator may no longer see it. It is not made again by itself; create a new object."
    )
}
