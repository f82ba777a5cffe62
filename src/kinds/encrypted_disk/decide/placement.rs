//! Which instance should have the disk, and the one step towards it. Pure.
//!
//! AttachDisk and DetachDisk take no token. What makes them safe to repeat is that the place is written into status before the
//! disk is attached there, and that a disk is only ever detached from the place that status names.

use super::{Disk, DiskEffect, DiskState, Noted, Observed, Role, Wanted};
use crate::decision::{Decision, Reason, Take};

/// An instance, and whether the disk goes with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Id of the instance.
    pub instance: String,
    /// Whether the disk is deleted with it.
    pub delete_with_instance: bool,
}

/// Where the disk should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Target {
    /// Nobody asks for an attachment.
    #[default]
    Nowhere,
    /// At an instance that does not exist yet.
    Pending,
    /// There.
    At(Place, InstanceFact),
}

/// The instance that should have the disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum InstanceFact {
    /// Not looked at: it has the disk already.
    Unasked,
    /// Takes disks.
    Ready,
    /// On its way between two states.
    Busy,
    /// In this other zone, whose disks alone it can use.
    OtherZone(String),
    /// Does not exist in the region, or may not be seen.
    Missing,
}

/// What ModifyDiskAttribute and TagResources should set; empty where all is as wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Amendment {
    /// The name.
    pub name: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// Tags that are missing or have another value.
    pub tags: Vec<(String, String)>,
    /// Whether the disk goes with its instance.
    pub delete_with_instance: Option<bool>,
}

/// Why the disk cannot come to its place now; None if it can. Nothing is created for a place that cannot have it.
pub(super) fn obstacle(target: &Target) -> Option<Decision<DiskEffect>> {
    match target {
        Target::Pending => Some(Decision::wait_minutes(Reason::DependencyNotReady)),
        Target::At(_, InstanceFact::OtherZone(_)) => Some(Decision::Blocked(Reason::InvalidSpec)),
        Target::At(_, InstanceFact::Missing) => Some(Decision::Blocked(Reason::InstanceNotFound)),
        Target::Nowhere | Target::At(_, InstanceFact::Unasked | InstanceFact::Ready | InstanceFact::Busy) => {
            None
        }
    }
}

/// The step towards the target; None if the disk is where it should be.
pub(super) fn place(observed: &Observed, disk: &Disk) -> Option<Decision<DiskEffect>> {
    let ours = is_placed_here(observed, disk);
    match (&observed.target, disk.attached_to.as_deref()) {
        (Target::Nowhere, Some(instance)) if ours => Some(take_away(disk, instance)),
        (Target::Nowhere, _) => None,
        (Target::At(place, _), Some(instance)) if place.instance == instance => match disk.state {
            DiskState::InUse => None,
            _ => Some(Decision::wait_seconds(Reason::Attaching)),
        },
        // A disk is left where it is until its new place can have it.
        (target, _) if obstacle(target).is_some() => obstacle(target),
        (Target::At(..), Some(instance)) if ours => Some(take_away(disk, instance)),
        (_, Some(_)) => Some(Decision::Blocked(Reason::AttachedElsewhere)),
        (Target::At(place, fact), None) => Some(bring(observed, disk, place, fact)),
        (Target::Pending, None) => Some(Decision::wait_minutes(Reason::DependencyNotReady)),
    }
}

fn bring(observed: &Observed, disk: &Disk, place: &Place, fact: &InstanceFact) -> Decision<DiskEffect> {
    match (disk.state, fact) {
        (DiskState::Available, InstanceFact::Busy) => Decision::wait_seconds(Reason::DependencyNotReady),
        (DiskState::Available, _) if observed.placed.as_ref() == Some(place) => {
            Decision::Do(DiskEffect::Attach { id: disk.id.clone(), place: place.clone() })
        }
        (DiskState::Available, _) => Decision::Do(DiskEffect::Note(Noted::Place)),
        _ => Decision::wait_seconds(Reason::Attaching),
    }
}

fn take_away(disk: &Disk, instance: &str) -> Decision<DiskEffect> {
    match disk.state {
        DiskState::InUse => {
            Decision::Do(DiskEffect::Detach { id: disk.id.clone(), instance: instance.to_owned() })
        }
        _ => Decision::wait_seconds(Reason::Detaching),
    }
}

/// Before a deletion: only what the operator attached is detached.
pub(super) fn take_back(observed: &Observed, disk: &Disk) -> Decision<DiskEffect> {
    match disk.attached_to.as_deref() {
        Some(instance) if is_placed_here(observed, disk) => take_away(disk, instance),
        _ => Decision::Blocked(Reason::InUse),
    }
}

fn is_placed_here(observed: &Observed, disk: &Disk) -> bool {
    let placed = observed.placed.as_ref().map(|place| &place.instance);
    placed.is_some() && placed == disk.attached_to.as_ref()
}

/// The wanted fate of the disk, if it is at its place and has another one.
pub(super) fn wrong_fate(observed: &Observed, disk: &Disk) -> Option<bool> {
    match &observed.target {
        Target::At(place, _) if Some(&place.instance) == disk.attached_to.as_ref() => {
            let wanted = place.delete_with_instance;
            (disk.delete_with_instance != wanted).then_some(wanted)
        }
        _ => None,
    }
}

/// Where status says, from this decision on, that the operator attached the disk or is about to.
///
/// The place is written with the first intent, or by a note of its own; never later than that, and never cleared while the disk
/// is still there.
pub fn placed_next(wanted: &Wanted, observed: &Observed, decision: &Decision<DiskEffect>) -> Option<Place> {
    let at = observed.disks.first().and_then(|disk| disk.attached_to.as_ref());
    let kept = || observed.placed.clone();
    match &observed.target {
        _ if !wanted.manage || observed.disks.len() > 1 => kept(),
        Target::At(place, _) if at == Some(&place.instance) => Some(place.clone()),
        Target::At(place, _) if at.is_none() => match decision {
            Decision::Do(DiskEffect::Note(Noted::Place))
            | Decision::Do(DiskEffect::Claim(Role::Disk, Take::Record { .. })) => Some(place.clone()),
            _ => kept(),
        },
        Target::Nowhere => kept().filter(|placed| at == Some(&placed.instance)),
        Target::At(..) | Target::Pending => kept(),
    }
}
