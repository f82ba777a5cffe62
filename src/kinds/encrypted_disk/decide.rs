//! What to do next for an EncryptedDisk. Pure: no clock, no client, no Kubernetes.

use std::collections::BTreeSet;

use crate::decision::creation::{Creation, Step};
use crate::decision::key::{KeyFact, Protection};
use crate::decision::{Decision, Effect, Machine, Reason, Take};

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

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Observed {
    /// The key.
    pub key: KeyFact,
    /// The source.
    pub source: SourceFact,
    /// Every disk that is this object's: by ownership tags, or the adopted one. A set, so that a duplicate can be seen.
    pub disks: BTreeSet<Disk>,
    /// The id that status remembers: this disk was seen before.
    pub known: Option<String>,
    /// The creation.
    pub creation: Creation,
    /// A refusal of the cloud that stands until the object changes.
    pub refusal: Option<Reason>,
    /// A disk that carries this object's name from another life of it (same cluster, namespace and name, another uid).
    pub namesake: Option<String>,
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
    /// Size in GiB.
    pub size_gib: u32,
    /// True if its tags prove that the operator created it for this object.
    pub own: bool,
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
    /// Used, or on the way to or from being used.
    InUse,
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

/// A mutation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DiskEffect {
    /// Take the right to send the creation once.
    Claim(Take),
    /// Send the recorded creation.
    Create {
        /// The attempt's number.
        attempt: u32,
    },
    /// Grow the disk.
    Resize {
        /// The disk.
        id: String,
        /// The new size in GiB.
        size_gib: u32,
        /// True for a disk in use.
        online: bool,
    },
    /// Delete the disk.
    Delete {
        /// The disk.
        id: String,
    },
}

impl Effect for DiskEffect {
    fn claim(&self) -> Option<Take> {
        match self {
            DiskEffect::Claim(take) => Some(*take),
            _ => None,
        }
    }

    fn reason(&self) -> Reason {
        match self {
            DiskEffect::Delete { .. } => Reason::Deleting,
            DiskEffect::Claim(_) | DiskEffect::Create { .. } | DiskEffect::Resize { .. } => Reason::Creating,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            DiskEffect::Claim(Take::Record { .. }) => "record",
            DiskEffect::Claim(Take::Replay { .. }) => "replay",
            DiskEffect::Create { .. } => "create",
            DiskEffect::Resize { .. } => "resize",
            DiskEffect::Delete { .. } => "delete",
        }
    }
}

impl Machine for DiskMachine {
    type Desired = Desired;
    type Observed = Observed;
    type Effect = DiskEffect;

    fn decide(desired: &Desired, observed: &Observed) -> Decision<DiskEffect> {
        match desired {
            Desired::Absent { delete } => depart(*delete, observed),
            Desired::Present(wanted) if wanted.suspend => Decision::Blocked(Reason::Suspended),
            Desired::Present(wanted) => match pick(observed) {
                Pick::None => create(wanted, observed),
                Pick::One(disk) => keep(wanted, observed, disk),
                Pick::Surplus(disk) => remove_surplus(wanted, disk),
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
fn remove_surplus(wanted: &Wanted, surplus: &Disk) -> Decision<DiskEffect> {
    match surplus.state {
        DiskState::Creating => Decision::wait_seconds(Reason::Creating),
        DiskState::Available if surplus.own && wanted.manage => {
            Decision::Do(DiskEffect::Delete { id: surplus.id.clone() })
        }
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
        (DiskState::Available | DiskState::InUse, Protection::Exact) => {}
    }
    if let Some(obstacle) = observed.key.obstacle() {
        return Decision::Blocked(obstacle);
    }
    match wanted.size_gib {
        Some(size_gib) if wanted.manage && disk.size_gib < size_gib => match observed.refusal {
            Some(reason) => Decision::Blocked(reason),
            None => Decision::Do(DiskEffect::Resize {
                id: disk.id.clone(),
                size_gib,
                online: disk.state == DiskState::InUse,
            }),
        },
        _ => Decision::Settled,
    }
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
    match (observed.source, wanted.size_gib) {
        (SourceFact::Missing, _) => return Decision::Blocked(Reason::SourceNotFound),
        (SourceFact::NotReady, _) => return Decision::wait_minutes(Reason::DependencyNotReady),
        (SourceFact::Ready { size_gib }, Some(size)) if size < size_gib => {
            return Decision::Blocked(Reason::InvalidSpec);
        }
        (SourceFact::Blank | SourceFact::Ready { .. }, _) => {}
    }
    match observed.creation.step() {
        Step::Record { attempt } => Decision::Do(DiskEffect::Claim(Take::Record { attempt })),
        Step::Replay { attempt } => Decision::Do(DiskEffect::Claim(Take::Replay { attempt })),
        Step::Send { attempt } => Decision::Do(DiskEffect::Create { attempt }),
        Step::Appearing => Decision::wait_seconds(Reason::Creating),
        Step::Settle => Decision::wait_patient(Reason::Settling),
    }
}

/// Deletion: never a disk in use, never one that was adopted, and never done while a request may still create one.
fn depart(delete: bool, observed: &Observed) -> Decision<DiskEffect> {
    if delete && let Some(disk) = observed.disks.iter().find(|disk| disk.own) {
        return match disk.state {
            DiskState::Creating => Decision::wait_seconds(Reason::Deleting),
            DiskState::InUse => Decision::Blocked(Reason::InUse),
            DiskState::Unknown => Decision::wait_patient(Reason::StatusUnknown),
            DiskState::Available if observed.must_be_written_down() => {
                Decision::wait_seconds(Reason::Deleting)
            }
            DiskState::Available => Decision::Do(DiskEffect::Delete { id: disk.id.clone() }),
        };
    }
    match observed.creation.nothing_in_flight(observed.known.is_some()) || !observed.disks.is_empty() {
        true => Decision::Settled,
        false => Decision::wait_patient(Reason::Settling),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::creation::{Claim, Intent};

    fn wanted() -> Wanted {
        Wanted { size_gib: Some(40), manage: true, key: "key-a".into(), ..Wanted::default() }
    }

    fn present() -> Desired {
        Desired::Present(wanted())
    }

    fn nothing() -> Observed {
        Observed {
            key: KeyFact::Usable { id: "key-a".into(), service: false },
            source: SourceFact::Blank,
            disks: BTreeSet::new(),
            known: None,
            creation: Creation::default(),
            refusal: None,
            namesake: None,
        }
    }

    fn disk(id: &str) -> Disk {
        Disk {
            id: id.into(),
            state: DiskState::Available,
            protection: Protection::Exact,
            attached_to: None,
            size_gib: 40,
            own: true,
            status: "Available".into(),
            drift: BTreeSet::new(),
        }
    }

    fn with(disk: Disk) -> Observed {
        Observed { disks: BTreeSet::from([disk]), ..nothing() }
    }

    fn intent(claim: Claim) -> Creation {
        Creation {
            intent: Some(Intent { attempt: 1, sends: 1, answered: 0, accepted: false }),
            claim,
            aged: false,
        }
    }

    #[track_caller]
    fn check(desired: Desired, observed: Observed, expected: Decision<DiskEffect>) {
        assert_eq!(DiskMachine::decide(&desired, &observed), expected);
    }

    #[test]
    fn a_new_object_records_its_intent_before_it_sends() {
        check(present(), nothing(), Decision::Do(DiskEffect::Claim(Take::Record { attempt: 1 })));
        let observed = Observed { creation: intent(Claim::Open), ..nothing() };
        check(present(), observed, Decision::Do(DiskEffect::Create { attempt: 1 }));
    }

    #[test]
    fn a_lost_answer_is_replayed_and_never_made_anew() {
        let observed = Observed { creation: intent(Claim::None), ..nothing() };
        check(present(), observed, Decision::Do(DiskEffect::Claim(Take::Replay { attempt: 1 })));
    }

    #[test]
    fn an_encrypted_available_disk_settles() {
        check(present(), with(disk("d-1")), Decision::Settled);
        check(present(), with(Disk { state: DiskState::InUse, ..disk("d-1") }), Decision::Settled);
        check(
            present(),
            with(Disk { state: DiskState::Creating, ..disk("d-1") }),
            Decision::wait_seconds(Reason::Creating),
        );
    }

    #[test]
    fn a_disk_that_is_not_under_the_key_is_never_called_ready() {
        check(
            present(),
            with(Disk { protection: Protection::Plain, ..disk("d-1") }),
            Decision::Blocked(Reason::NotEncrypted),
        );
        check(
            present(),
            with(Disk { protection: Protection::OtherKey, ..disk("d-1") }),
            Decision::Blocked(Reason::KeyMismatch),
        );
        let unproven = with(Disk { protection: Protection::Unproven, ..disk("d-1") });
        check(present(), unproven, Decision::wait_patient(Reason::KeyMismatch));
    }

    #[test]
    fn nothing_is_created_under_a_key_that_cannot_be_used() {
        for reason in [
            Reason::KeyDisabled,
            Reason::KeyPendingDeletion,
            Reason::KeySpecUnsupported,
            Reason::EcsRoleMissing,
        ] {
            let key = KeyFact::Unusable { id: "key-a".into(), reason };
            check(present(), Observed { key, ..nothing() }, Decision::Blocked(reason));
        }
        check(
            present(),
            Observed { key: KeyFact::Missing, ..nothing() },
            Decision::Blocked(Reason::KeyNotFound),
        );
    }

    #[test]
    fn a_disk_whose_key_was_disabled_is_no_longer_ready() {
        let key = KeyFact::Unusable { id: "key-a".into(), reason: Reason::KeyDisabled };
        check(present(), Observed { key, ..with(disk("d-1")) }, Decision::Blocked(Reason::KeyDisabled));
    }

    #[test]
    fn sources_are_checked_before_any_creation() {
        let with_source = |source| Observed { source, ..nothing() };
        check(present(), with_source(SourceFact::Missing), Decision::Blocked(Reason::SourceNotFound));
        check(
            present(),
            with_source(SourceFact::NotReady),
            Decision::wait_minutes(Reason::DependencyNotReady),
        );
        check(
            present(),
            with_source(SourceFact::Ready { size_gib: 60 }),
            Decision::Blocked(Reason::InvalidSpec),
        );
    }

    #[test]
    fn a_disk_that_existed_and_is_gone_is_not_made_again() {
        check(
            present(),
            Observed { known: Some("d-1".into()), ..nothing() },
            Decision::Blocked(Reason::ExternalGone),
        );
    }

    #[test]
    fn a_disk_from_an_earlier_life_of_the_object_is_reported_and_not_doubled() {
        let observed = Observed { namesake: Some("d-0".into()), ..nothing() };
        check(present(), observed, Decision::Blocked(Reason::AdoptionMismatch));
    }

    #[test]
    fn the_surplus_goes_and_the_remembered_disk_stays() {
        let observed = Observed {
            disks: BTreeSet::from([disk("d-1"), disk("d-2")]),
            known: Some("d-2".into()),
            ..nothing()
        };
        check(present(), observed, Decision::Do(DiskEffect::Delete { id: "d-1".into() }));
        let used = Disk { state: DiskState::InUse, ..disk("d-2") };
        let observed = Observed { disks: BTreeSet::from([disk("d-1"), used]), ..nothing() };
        check(present(), observed, Decision::Blocked(Reason::AdoptionMismatch));
    }

    #[test]
    fn a_larger_size_grows_the_disk() {
        let small = with(Disk { size_gib: 20, ..disk("d-1") });
        check(
            present(),
            small,
            Decision::Do(DiskEffect::Resize { id: "d-1".into(), size_gib: 40, online: false }),
        );
    }

    #[test]
    fn observing_and_suspended_objects_change_nothing() {
        let observing = Desired::Present(Wanted { manage: false, ..wanted() });
        check(observing, nothing(), Decision::Blocked(Reason::ExternalGone));
        let suspended = Desired::Present(Wanted { suspend: true, ..wanted() });
        check(suspended, nothing(), Decision::Blocked(Reason::Suspended));
    }

    #[test]
    fn deletion_keeps_what_is_used_retained_or_not_ours() {
        let delete = || Desired::Absent { delete: true };
        check(delete(), with(disk("d-1")), Decision::Do(DiskEffect::Delete { id: "d-1".into() }));
        check(
            delete(),
            with(Disk { state: DiskState::InUse, ..disk("d-1") }),
            Decision::Blocked(Reason::InUse),
        );
        check(delete(), with(Disk { own: false, ..disk("d-1") }), Decision::Settled);
        check(Desired::Absent { delete: false }, with(disk("d-1")), Decision::Settled);
    }

    #[test]
    fn a_disk_is_written_down_before_it_is_deleted() {
        let made = Creation { claim: Claim::Accepted, ..intent(Claim::None) };
        let observed = Observed { creation: made, ..with(disk("d-1")) };
        let delete = || Desired::Absent { delete: true };
        check(delete(), observed.clone(), Decision::wait_seconds(Reason::Deleting));
        let written = Observed { known: Some("d-1".into()), ..observed };
        check(delete(), written, Decision::Do(DiskEffect::Delete { id: "d-1".into() }));
    }

    #[test]
    fn deletion_waits_for_a_creation_whose_answer_was_lost() {
        let observed = Observed { creation: intent(Claim::None), ..nothing() };
        check(Desired::Absent { delete: true }, observed.clone(), Decision::wait_patient(Reason::Settling));
        let aged = Creation { aged: true, ..intent(Claim::None) };
        check(Desired::Absent { delete: true }, Observed { creation: aged, ..observed }, Decision::Settled);
    }
}
