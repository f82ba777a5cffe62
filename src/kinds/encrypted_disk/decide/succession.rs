//! How a disk takes the place of an existing one: detach, snapshot, create, attach, verify; and only then, if asked, retire.
//!
//! **No write may be missing from the successor.** So the snapshot that it is made of is only ever taken of a source that is
//! attached to nothing, and a source that was attached again afterwards stops everything. **The data is never in fewer than one
//! place.** So the source goes last, and only if it provably was not attached again since its snapshot.

use std::collections::BTreeSet;

use super::{DiskEffect, DiskState, Noted, Observed, Place, Role, Wanted};
use crate::decision::key::Protection;
use crate::decision::{Decision, Reason, Take};

/// The disk that is replaced, and when.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Succession {
    /// The source disk.
    pub disk_id: String,
    /// When its place may be taken.
    pub cutover: Cutover,
    /// Whether it is deleted in the end.
    pub retire: bool,
}

/// When the source's place may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cutover {
    /// Not yet.
    Manual,
    /// Once somebody has detached it.
    WhenDetached,
    /// At once: the operator detaches it.
    Now,
}

/// What is known of the disk that is replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Heritage {
    /// The source disk; None if it was not found or not looked for.
    pub origin: Option<OriginDisk>,
    /// Where status says that it was attached.
    pub origin_place: Option<Place>,
    /// True if the object says where the successor should be, so that the source's place does not matter.
    pub place_is_given: bool,
    /// The snapshots of it that are this object's.
    pub snapshots: BTreeSet<Snapshot>,
    /// The snapshot that status remembers.
    pub known_snapshot: Option<String>,
    /// True if status says that the successor was verified in its place.
    pub replaced: bool,
}

impl Heritage {
    /// True if the snapshot is not the last copy of the data.
    pub fn may_forget(&self) -> bool {
        self.replaced || self.origin.is_some()
    }

    /// The snapshot that the successor is made of.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        let known = self.snapshots.iter().find(|snapshot| Some(&snapshot.id) == self.known_snapshot.as_ref());
        known.or(self.snapshots.first())
    }
}

/// The source disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OriginDisk {
    /// Its id.
    pub id: String,
    /// Its state.
    pub state: DiskState,
    /// The instance that uses it, and whether it goes with that instance.
    pub place: Option<Place>,
    /// How it is encrypted, seen against the key that the successor gets.
    pub protection: Protection,
    /// Its size in GiB.
    pub size_gib: u32,
    /// Why it cannot be replaced by such a disk; None if it can.
    pub unsuitable: Option<String>,
    /// Whether it was attached again since the snapshot.
    pub since: Since,
}

/// Whether a disk was attached since a snapshot of it, by the times that the cloud shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Since {
    /// It was not.
    Untouched,
    /// It was.
    Touched,
    /// There is no snapshot, or no such times.
    Unsaid,
}

/// A snapshot of the source that the operator took.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Snapshot {
    /// Its id.
    pub id: String,
    /// Its state.
    pub state: SnapshotState,
}

/// State of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SnapshotState {
    /// Being taken.
    Progressing,
    /// Complete.
    Ready,
    /// Failed.
    Failed,
    /// A word that is not documented.
    Unknown,
}

/// While there is no successor: what leads to its creation.
pub(super) fn create(wanted: &Wanted, succession: &Succession, observed: &Observed) -> Decision<DiskEffect> {
    let heritage = &observed.heritage;
    match (&heritage.origin, heritage.snapshot()) {
        (None, None) if heritage.known_snapshot.is_none() => {
            return Decision::Blocked(Reason::SourceNotFound);
        }
        (Some(origin), _) if origin.unsuitable.is_some() => return Decision::Blocked(Reason::InvalidSpec),
        (Some(origin), _) if wanted.size_gib.is_some_and(|size| size < origin.size_gib) => {
            return Decision::Blocked(Reason::InvalidSpec);
        }
        _ => {}
    }
    match (heritage.snapshot(), &heritage.origin) {
        (None, Some(origin)) if heritage.known_snapshot.is_none() => {
            take_snapshot(succession.cutover, observed, origin)
        }
        (None, _) => Decision::Blocked(Reason::ExternalGone),
        (Some(snapshot), _) => match snapshot.state {
            SnapshotState::Progressing => Decision::wait_minutes(Reason::Snapshotting),
            SnapshotState::Failed => Decision::Blocked(Reason::CopyFailed),
            SnapshotState::Unknown => Decision::wait_patient(Reason::StatusUnknown),
            SnapshotState::Ready if is_stale(heritage) => Decision::Blocked(Reason::SourceChanged),
            SnapshotState::Ready => make(observed),
        },
    }
}

/// The source must be attached to nothing first, and stay so: what is written later would be missing from the successor.
fn take_snapshot(cutover: Cutover, observed: &Observed, origin: &OriginDisk) -> Decision<DiskEffect> {
    let begun = observed.role == Role::Snapshot && observed.creation.intent.is_some();
    match (&origin.place, origin.state, cutover) {
        (_, DiskState::Unknown, _) => Decision::wait_patient(Reason::StatusUnknown),
        (_, _, Cutover::Manual) if !begun => Decision::Blocked(Reason::CutoverPending),
        (None, DiskState::Available, _) => match (observed.role, observed.creation.intent) {
            // A disk was begun, so there was a snapshot, and it is gone.
            (Role::Disk, Some(_)) => Decision::Blocked(Reason::ExternalGone),
            _ => super::send(observed, Role::Snapshot),
        },
        (Some(place), DiskState::InUse, Cutover::Now) => {
            let noted = heritage_notes(&observed.heritage, place);
            match noted {
                true => Decision::Do(DiskEffect::DetachSource {
                    id: origin.id.clone(),
                    instance: place.instance.clone(),
                }),
                false => Decision::Do(DiskEffect::Note(Noted::Origin)),
            }
        }
        (_, DiskState::InUse, Cutover::WhenDetached | Cutover::Manual) => {
            Decision::wait_patient(Reason::CutoverPending)
        }
        _ => Decision::wait_seconds(Reason::Detaching),
    }
}

fn heritage_notes(heritage: &Heritage, place: &Place) -> bool {
    heritage.place_is_given || heritage.origin_place.as_ref() == Some(place)
}

/// The slot of the intent is taken over from the snapshot only once no request for one can be under way any more.
fn make(observed: &Observed) -> Decision<DiskEffect> {
    match (observed.role, observed.creation.intent) {
        (Role::Snapshot, Some(_)) if !observed.creation.nothing_in_flight(true) => {
            Decision::wait_patient(Reason::Settling)
        }
        (Role::Snapshot, Some(intent)) => {
            let attempt = intent.attempt + 1;
            Decision::Do(DiskEffect::Claim(Role::Disk, Take::Record { attempt }))
        }
        _ => super::send(observed, Role::Disk),
    }
}

/// True if the source may hold writes that its snapshot does not.
fn is_stale(heritage: &Heritage) -> bool {
    heritage.origin.as_ref().is_some_and(|origin| origin.place.is_some() || origin.since == Since::Touched)
}

/// Until the successor was verified in its place: nothing may have been written to the source since its snapshot. Also once it
/// is attached, because somebody may have been faster while it was.
pub(super) fn before_service(wanted: &Wanted, observed: &Observed) -> Option<Decision<DiskEffect>> {
    let heritage = &observed.heritage;
    if wanted.succession.is_none() || heritage.replaced {
        return None;
    }
    if heritage.snapshot().is_none() {
        return Some(Decision::Blocked(Reason::ExternalGone));
    }
    is_stale(heritage).then_some(Decision::Blocked(Reason::SourceChanged))
}

/// The successor is verified in its place: that is written down, and then, if asked, the source goes and its snapshot after it.
pub(super) fn conclude(wanted: &Wanted, observed: &Observed) -> Option<Decision<DiskEffect>> {
    let heritage = &observed.heritage;
    let succession = wanted.succession.as_ref().filter(|succession| succession.retire)?;
    if !heritage.replaced {
        return Some(Decision::Do(DiskEffect::Note(Noted::Replaced)));
    }
    let Some(origin) = &heritage.origin else {
        let left = heritage.snapshots.first()?;
        return Some(Decision::Do(DiskEffect::DeleteSnapshot { id: left.id.clone() }));
    };
    Some(match origin.state {
        DiskState::Moving | DiskState::Creating => Decision::wait_seconds(Reason::Detaching),
        DiskState::Unknown => Decision::wait_patient(Reason::StatusUnknown),
        DiskState::Available
            if origin.id == succession.disk_id
                && origin.place.is_none()
                && origin.since == Since::Untouched =>
        {
            Decision::Do(DiskEffect::RetireSource { id: origin.id.clone() })
        }
        DiskState::Available | DiskState::InUse => Decision::Blocked(Reason::SourceChanged),
    })
}

/// Whether the promise of the succession holds: the source is replaced, and gone with its snapshot if that was asked for.
pub fn is_concluded(wanted: &Wanted, observed: &Observed) -> bool {
    let heritage = &observed.heritage;
    match &wanted.succession {
        None => true,
        Some(succession) if succession.retire => {
            heritage.replaced && heritage.origin.is_none() && heritage.snapshots.is_empty()
        }
        Some(_) => {
            let provable = heritage.snapshot().is_some() && !is_stale(heritage);
            heritage.replaced || provable
        }
    }
}
