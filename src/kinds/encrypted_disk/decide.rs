//! What to do next for an EncryptedDisk. Pure: no clock, no client, no Kubernetes.
//!
//! Existence and deletion are decided here, where the disk is attached in `placement`, and how it takes the place of an existing
//! disk in `succession`.

use std::collections::BTreeSet;

use crate::decision::creation::{Creation, Step};
use crate::decision::key::{KeyFact, Protection};
use crate::decision::{Decision, Effect, Machine, Reason, Take};

mod effect;
mod placement;
mod succession;

pub use effect::{DiskEffect, Noted, Role};
pub use placement::{Amendment, InstanceFact, Place, Target, placed_next};
pub use succession::{
    Cutover, Heritage, OriginDisk, Since, Snapshot, SnapshotState, Succession, is_concluded,
};

/// The brain of the kind.
pub struct DiskMachine;

/// What the object asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(
    clippy::large_enum_variant,
    reason = "one lives for one pass, and a box would stand in every pattern"
)]
pub enum Desired {
    /// The disk should exist.
    Present(Wanted),
    /// The object is being deleted.
    Absent {
        /// True if the disk goes with it.
        delete: bool,
    },
}

/// The disk that should exist.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// Region of disk and key.
    pub region: String,
    /// Zone of the disk.
    pub zone_id: String,
    /// Category in the words of the ECS API.
    pub category: String,
    /// Performance level in the words of the ECS API.
    pub performance_level: Option<String>,
    /// Size in GiB; None only with a snapshot or an adopted disk.
    pub size_gib: Option<u32>,
    /// The snapshot to start with.
    pub snapshot_id: Option<String>,
    /// The disk of which this becomes the encrypted successor.
    pub succession: Option<Succession>,
    /// Where the disk should be.
    pub attachment: Option<Attachment>,
    /// Name in the console.
    pub disk_name: Option<String>,
    /// Description in the console.
    pub description: Option<String>,
    /// The user's tags.
    pub tags: Vec<(String, String)>,
    /// Resource group.
    pub resource_group_id: Option<String>,
    /// Id or alias of the key, as the KMS API takes it.
    pub key: String,
    /// True for the service key.
    pub service_key: bool,
    /// The disk to take over instead of creating one.
    pub adopt: Option<String>,
    /// True if the operator may change the cloud.
    pub manage: bool,
    /// True if nothing is to be done.
    pub suspend: bool,
}

/// The instance that should have the disk, as the object names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attachment {
    /// The instance.
    pub instance: InstanceName,
    /// Whether the disk goes with it.
    pub delete_with_instance: bool,
}

/// How an object names an instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum InstanceName {
    /// By its id in the cloud.
    Id(String),
    /// By the name of another object.
    Reference(String),
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Observed {
    /// The key.
    pub key: KeyFact,
    /// The key that the alias names now, if that is not the pinned one; shown, never decided on.
    pub repointed: Option<String>,
    /// The source.
    pub source: SourceFact,
    /// Every disk that is this object's: by ownership tags, or the adopted one. A set, so that a duplicate can be seen.
    pub disks: BTreeSet<Disk>,
    /// The id that status remembers: this disk was seen before.
    pub known: Option<String>,
    /// The creation.
    pub creation: Creation,
    /// What the recorded creation makes.
    pub role: Role,
    /// A refusal of the cloud that stands until the object changes.
    pub refusal: Option<Reason>,
    /// A disk that carries this object's name from another life of it (same cluster, namespace and name, another uid).
    pub namesake: Option<String>,
    /// Where the disk should be.
    pub target: Target,
    /// Where status says that the operator attached the disk, or is about to.
    pub placed: Option<Place>,
    /// The disk that this one replaces, and what was taken of it.
    pub heritage: Heritage,
}

impl Observed {
    /// True while status does not name the disk that was created: gone before it is, nobody could tell a deletion from a list
    /// that lags, and the object would have to wait for its creation to age.
    fn must_be_written_down(&self) -> bool {
        self.known.is_none() && self.creation.intent.is_some()
    }
}

/// One disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Disk {
    /// Its id.
    pub id: String,
    /// Its state.
    pub state: DiskState,
    /// How it is encrypted.
    pub protection: Protection,
    /// The instance that uses it.
    pub attached_to: Option<String>,
    /// Whether it goes with that instance.
    pub delete_with_instance: bool,
    /// Size in GiB.
    pub size_gib: u32,
    /// True if its tags prove that the operator created it for this object.
    pub own: bool,
    /// What must be set so that its names and tags are as wanted.
    pub amendment: Amendment,
    /// Its status in the words of the ECS API; shown, never decided on.
    pub status: String,
    /// Field, wanted value and real value of what cannot be mended; shown, never decided on.
    pub drift: BTreeSet<(String, String, String)>,
}

/// State of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DiskState {
    /// Not usable yet.
    Creating,
    /// Usable and free.
    Available,
    /// Used.
    InUse,
    /// On the way to or from being used.
    Moving,
    /// A word that is not documented.
    Unknown,
}

/// The source of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceFact {
    /// Blank, or not looked at.
    Blank,
    /// The snapshot is complete.
    Ready {
        /// Size in GiB of the disk that it was taken of.
        size_gib: u32,
    },
    /// The snapshot is being taken.
    NotReady,
    /// There is no such snapshot, or it failed.
    Missing,
}

impl Machine for DiskMachine {
    type Desired = Desired;
    type Observed = Observed;
    type Effect = DiskEffect;

    fn decide(desired: &Desired, observed: &Observed) -> Decision<DiskEffect> {
        match desired {
            Desired::Absent { delete } => depart(*delete, observed),
            Desired::Present(wanted) if wanted.suspend => Decision::Blocked(Reason::Suspended),
            Desired::Present(_) if observed.key.is_revoked() => Decision::Blocked(Reason::KeyRevoked),
            Desired::Present(wanted) => match pick(observed) {
                Pick::None => create(wanted, observed),
                Pick::One(disk) => keep(wanted, observed, disk),
                Pick::Surplus(disk) => remove_surplus(wanted, observed, disk),
            },
        }
    }
}

enum Pick<'a> {
    None,
    One(&'a Disk),
    Surplus(&'a Disk),
}

/// The disk that counts is the one that status remembers, else the one with the smallest id; any other is a surplus.
fn pick(observed: &Observed) -> Pick<'_> {
    let remembered = observed.disks.iter().find(|disk| Some(&disk.id) == observed.known.as_ref());
    let Some(chosen) = remembered.or_else(|| observed.disks.first()) else { return Pick::None };
    match observed.disks.iter().find(|disk| disk.id != chosen.id) {
        Some(surplus) => Pick::Surplus(surplus),
        None => Pick::One(chosen),
    }
}

/// A surplus is removed only while it is provably the operator's own and nobody has begun to use it.
fn remove_surplus(wanted: &Wanted, observed: &Observed, surplus: &Disk) -> Decision<DiskEffect> {
    match surplus.state {
        DiskState::Creating => Decision::wait_seconds(Reason::Creating),
        DiskState::Available if surplus.own && wanted.manage => match observed.key.obstacle() {
            Some(obstacle) => Decision::Blocked(obstacle),
            None => Decision::Do(DiskEffect::Delete { id: surplus.id.clone() }),
        },
        _ => Decision::Blocked(Reason::AdoptionMismatch),
    }
}

fn keep(wanted: &Wanted, observed: &Observed, disk: &Disk) -> Decision<DiskEffect> {
    match (disk.state, disk.protection) {
        (_, Protection::Plain) => return Decision::Blocked(Reason::NotEncrypted),
        (_, Protection::OtherKey) => return Decision::Blocked(Reason::KeyMismatch),
        (DiskState::Creating, _) => return Decision::wait_seconds(Reason::Creating),
        (DiskState::Unknown, _) => return Decision::wait_patient(Reason::StatusUnknown),
        (_, Protection::Unproven) => return Decision::wait_patient(Reason::KeyMismatch),
        (DiskState::Available | DiskState::InUse | DiskState::Moving, Protection::Exact) => {}
    }
    if let Some(obstacle) = observed.key.obstacle() {
        return Decision::Blocked(obstacle);
    }
    if !wanted.manage {
        return Decision::Settled;
    }
    let next = succession::before_service(wanted, observed)
        .or_else(|| placement::place(observed, disk))
        .or_else(|| improve(wanted, observed, disk))
        .or_else(|| succession::conclude(wanted, observed));
    match (next, observed.refusal) {
        (Some(Decision::Do(effect)), Some(reason)) if !effect.records() => Decision::Blocked(reason),
        (next, _) => next.unwrap_or(Decision::Settled),
    }
}

/// Growth first, then names and tags: all that may be changed of a disk that is in service.
fn improve(wanted: &Wanted, observed: &Observed, disk: &Disk) -> Option<Decision<DiskEffect>> {
    let id = || disk.id.clone();
    match wanted.size_gib {
        // Too small still, and not to be touched on its way: the promise does not hold yet.
        Some(size_gib) if disk.size_gib < size_gib && disk.state == DiskState::Moving => {
            return Some(Decision::wait_seconds(Reason::Adjusting));
        }
        Some(size_gib) if disk.size_gib < size_gib => {
            let online = disk.state == DiskState::InUse;
            return Some(Decision::Do(DiskEffect::Resize { id: id(), size_gib, online }));
        }
        _ => {}
    }
    let mut amendment = disk.amendment.clone();
    amendment.delete_with_instance = placement::wrong_fate(observed, disk);
    let amends = amendment != Amendment::default();
    amends.then(|| Decision::Do(DiskEffect::Amend { id: id(), amendment }))
}

fn create(wanted: &Wanted, observed: &Observed) -> Decision<DiskEffect> {
    if observed.known.is_some() || wanted.adopt.is_some() || !wanted.manage {
        return Decision::Blocked(Reason::ExternalGone);
    }
    if observed.namesake.is_some() {
        return Decision::Blocked(Reason::AdoptionMismatch);
    }
    if let Some(reason) = observed.refusal.or(observed.key.obstacle()) {
        return Decision::Blocked(reason);
    }
    if let Some(obstacle) = placement::obstacle(&observed.target) {
        return obstacle;
    }
    if let Some(succession) = &wanted.succession {
        return succession::create(wanted, succession, observed);
    }
    match (observed.source, wanted.size_gib) {
        (SourceFact::Missing, _) => return Decision::Blocked(Reason::SourceNotFound),
        (SourceFact::NotReady, _) => return Decision::wait_minutes(Reason::DependencyNotReady),
        (SourceFact::Ready { size_gib }, Some(size)) if size < size_gib => {
            return Decision::Blocked(Reason::InvalidSpec);
        }
        (SourceFact::Blank | SourceFact::Ready { .. }, _) => {}
    }
    send(observed, Role::Disk)
}

/// The next step of the creation protocol for the role of which the recorded attempt is.
fn send(observed: &Observed, role: Role) -> Decision<DiskEffect> {
    match observed.creation.step() {
        Step::Record { attempt } => Decision::Do(DiskEffect::Claim(role, Take::Record { attempt })),
        Step::Replay { attempt } => Decision::Do(DiskEffect::Claim(role, Take::Replay { attempt })),
        Step::Send { attempt } => Decision::Do(DiskEffect::Create { role, attempt }),
        Step::Appearing => Decision::wait_seconds(match role {
            Role::Disk => Reason::Creating,
            Role::Snapshot => Reason::Snapshotting,
        }),
        Step::Settle => Decision::wait_patient(Reason::Settling),
    }
}

/// Deletion: never a disk that others use, never one that was adopted, never under a key that was taken away, and never done
/// while a request may still create something.
fn depart(delete: bool, observed: &Observed) -> Decision<DiskEffect> {
    let disk = observed.disks.iter().find(|disk| disk.own).filter(|_| delete);
    let snapshot = observed.heritage.snapshots.first().filter(|_| delete && observed.heritage.may_forget());
    if let (KeyFact::Unusable { reason, .. }, true) = (&observed.key, disk.is_some() || snapshot.is_some()) {
        return Decision::Blocked(*reason);
    }
    if let Some(disk) = disk {
        return match disk.state {
            DiskState::Creating => Decision::wait_seconds(Reason::Deleting),
            DiskState::InUse => placement::take_back(observed, disk),
            DiskState::Moving => Decision::wait_seconds(Reason::Detaching),
            DiskState::Unknown => Decision::wait_patient(Reason::StatusUnknown),
            DiskState::Available if observed.must_be_written_down() => {
                Decision::wait_seconds(Reason::Deleting)
            }
            DiskState::Available => Decision::Do(DiskEffect::Delete { id: disk.id.clone() }),
        };
    }
    if let Some(snapshot) = snapshot {
        return Decision::Do(DiskEffect::DeleteSnapshot { id: snapshot.id.clone() });
    }
    match over(observed) {
        true => Decision::Settled,
        false => Decision::wait_patient(Reason::Settling),
    }
}

/// True if no request of the recorded attempt can make anything any more that the object would leave unseen.
pub fn over(observed: &Observed) -> bool {
    let (seen, present) = match observed.role {
        Role::Disk => (observed.known.is_some(), !observed.disks.is_empty()),
        Role::Snapshot => {
            (observed.heritage.known_snapshot.is_some(), !observed.heritage.snapshots.is_empty())
        }
    };
    observed.creation.nothing_in_flight(seen) || present
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
