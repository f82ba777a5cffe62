//! The table of sentences that an EncryptedDisk's decisions must satisfy.

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
    for reason in
        [Reason::KeyDisabled, Reason::KeyPendingDeletion, Reason::KeySpecUnsupported, Reason::EcsRoleMissing]
    {
        let key = KeyFact::Unusable { id: "key-a".into(), reason };
        check(present(), Observed { key, ..nothing() }, Decision::Blocked(reason));
    }
    check(present(), Observed { key: KeyFact::Missing, ..nothing() }, Decision::Blocked(Reason::KeyNotFound));
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
    check(present(), with_source(SourceFact::NotReady), Decision::wait_minutes(Reason::DependencyNotReady));
    check(present(), with_source(SourceFact::Ready { size_gib: 60 }), Decision::Blocked(Reason::InvalidSpec));
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
    check(delete(), with(Disk { state: DiskState::InUse, ..disk("d-1") }), Decision::Blocked(Reason::InUse));
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
