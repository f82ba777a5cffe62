//! What is decided in one situation each, as sentences.

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
        repointed: None,
        role: Role::Disk,
        target: Target::Nowhere,
        placed: None,
        heritage: Heritage::default(),
    }
}

fn disk(id: &str) -> Disk {
    Disk {
        id: id.into(),
        state: DiskState::Available,
        protection: Protection::Exact,
        attached_to: None,
        delete_with_instance: false,
        amendment: Amendment::default(),
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
    check(present(), nothing(), Decision::Do(DiskEffect::Claim(Role::Disk, Take::Record { attempt: 1 })));
    let observed = Observed { creation: intent(Claim::Open), ..nothing() };
    check(present(), observed, Decision::Do(DiskEffect::Create { role: Role::Disk, attempt: 1 }));
}

#[test]
fn a_lost_answer_is_replayed_and_never_made_anew() {
    let observed = Observed { creation: intent(Claim::None), ..nothing() };
    check(present(), observed, Decision::Do(DiskEffect::Claim(Role::Disk, Take::Replay { attempt: 1 })));
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
    let small = |state| with(Disk { size_gib: 20, state, ..disk("d-1") });
    let grow = DiskEffect::Resize { id: "d-1".into(), size_gib: 40, online: false };
    check(present(), small(DiskState::Available), Decision::Do(grow));
    check(present(), small(DiskState::Moving), Decision::wait_seconds(Reason::Adjusting));
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

#[test]
fn nothing_under_a_key_that_was_taken_away_is_deleted_with_its_object() {
    let key = |reason| KeyFact::Unusable { id: "key-a".into(), reason };
    let held = |key| Observed { key, ..with(disk("d-1")) };
    let delete = || Desired::Absent { delete: true };
    check(delete(), held(key(Reason::KeyDisabled)), Decision::Blocked(Reason::KeyDisabled));
    check(Desired::Absent { delete: false }, held(key(Reason::KeyDisabled)), Decision::Settled);
    // A key that is gone for good would hold the object for ever.
    check(delete(), held(KeyFact::Missing), Decision::Do(DiskEffect::Delete { id: "d-1".into() }));
}

fn place(instance: &str) -> Place {
    Place { instance: instance.into(), delete_with_instance: false }
}

fn at(instance: &str, fact: InstanceFact) -> Target {
    Target::At(place(instance), fact)
}

fn held(instance: &str) -> Disk {
    Disk { state: DiskState::InUse, attached_to: Some(instance.into()), ..disk("d-1") }
}

fn attach(instance: &str) -> Decision<DiskEffect> {
    Decision::Do(DiskEffect::Attach { id: "d-1".into(), place: place(instance) })
}

fn detach(instance: &str) -> Decision<DiskEffect> {
    Decision::Do(DiskEffect::Detach { id: "d-1".into(), instance: instance.into() })
}

/// A disk, its target, and where status says it was put.
#[track_caller]
fn placed(disk: Disk, target: Target, placed: Option<&str>, expected: Decision<DiskEffect>) {
    let observed = Observed { target, placed: placed.map(place), ..with(disk) };
    check(present(), observed, expected);
}

#[test]
fn a_place_is_written_down_before_the_disk_is_attached_there() {
    let ready = || at("i-1", InstanceFact::Ready);
    let note = || Decision::Do(DiskEffect::Note(Noted::Place));
    placed(disk("d-1"), ready(), None, note());
    placed(disk("d-1"), ready(), Some("i-0"), note());
    placed(disk("d-1"), ready(), Some("i-1"), attach("i-1"));
    let moving = Disk { state: DiskState::Moving, ..held("i-1") };
    placed(moving, ready(), Some("i-1"), Decision::wait_seconds(Reason::Attaching));
    placed(held("i-1"), ready(), Some("i-1"), Decision::Settled);
    placed(held("i-1"), ready(), None, Decision::Settled);
}

#[test]
fn a_changed_instance_means_detach_then_attach() {
    let ready = || at("i-2", InstanceFact::Ready);
    placed(held("i-1"), ready(), Some("i-1"), detach("i-1"));
    let moving = Disk { state: DiskState::Moving, ..held("i-1") };
    placed(moving, ready(), Some("i-1"), Decision::wait_seconds(Reason::Detaching));
}

#[test]
fn a_disk_is_not_taken_from_a_place_that_the_operator_did_not_choose() {
    let ready = || at("i-2", InstanceFact::Ready);
    placed(held("i-9"), ready(), Some("i-2"), Decision::Blocked(Reason::AttachedElsewhere));
    placed(held("i-9"), ready(), None, Decision::Blocked(Reason::AttachedElsewhere));
    placed(held("i-9"), Target::Nowhere, Some("i-2"), Decision::Settled);
    placed(held("i-9"), Target::Nowhere, None, Decision::Settled);
}

#[test]
fn without_an_attachment_only_what_the_operator_attached_is_detached() {
    placed(held("i-1"), Target::Nowhere, Some("i-1"), detach("i-1"));
    placed(disk("d-1"), Target::Nowhere, Some("i-1"), Decision::Settled);
}

#[test]
fn an_instance_that_cannot_have_the_disk_is_refused_before_anything_is_done() {
    let zone = || InstanceFact::OtherZone("cn-a-c".into());
    let creating = |target| Observed { target, ..nothing() };
    check(present(), creating(at("i-1", zone())), Decision::Blocked(Reason::InvalidSpec));
    check(present(), creating(at("i-1", InstanceFact::Missing)), Decision::Blocked(Reason::InstanceNotFound));
    check(present(), creating(Target::Pending), Decision::wait_minutes(Reason::DependencyNotReady));
    placed(disk("d-1"), at("i-1", zone()), Some("i-1"), Decision::Blocked(Reason::InvalidSpec));
    placed(held("i-1"), at("i-2", zone()), Some("i-1"), Decision::Blocked(Reason::InvalidSpec));
    placed(held("i-1"), Target::Pending, Some("i-1"), Decision::wait_minutes(Reason::DependencyNotReady));
    let busy = at("i-1", InstanceFact::Busy);
    placed(disk("d-1"), busy, Some("i-1"), Decision::wait_seconds(Reason::DependencyNotReady));
}

#[test]
fn nothing_is_attached_or_detached_while_the_key_cannot_be_used() {
    let key = KeyFact::Unusable { id: "key-a".into(), reason: Reason::KeyDisabled };
    for (disk, target) in [
        (disk("d-1"), at("i-1", InstanceFact::Ready)),
        (held("i-1"), at("i-2", InstanceFact::Ready)),
        (held("i-1"), Target::Nowhere),
    ] {
        let observed = Observed { key: key.clone(), target, placed: Some(place("i-1")), ..with(disk) };
        check(present(), observed, Decision::Blocked(Reason::KeyDisabled));
    }
}

#[test]
fn deletion_detaches_what_the_operator_attached_and_nothing_else() {
    let departing = |placed: Option<&str>| Observed { placed: placed.map(place), ..with(held("i-1")) };
    let delete = || Desired::Absent { delete: true };
    check(delete(), departing(Some("i-1")), detach("i-1"));
    check(delete(), departing(Some("i-2")), Decision::Blocked(Reason::InUse));
    check(Desired::Absent { delete: false }, departing(Some("i-1")), Decision::Settled);
    let moving =
        Observed { placed: Some(place("i-1")), ..with(Disk { state: DiskState::Moving, ..held("i-1") }) };
    check(delete(), moving, Decision::wait_seconds(Reason::Detaching));
}

#[test]
fn names_and_tags_are_corrected_and_nothing_else_is() {
    let renamed = Amendment { name: Some("a".into()), ..Amendment::default() };
    let drifted = Disk { amendment: renamed.clone(), ..disk("d-1") };
    let amend = |amendment| Decision::Do(DiskEffect::Amend { id: "d-1".into(), amendment });
    check(present(), with(drifted.clone()), amend(renamed));
    let observing = Desired::Present(Wanted { manage: false, ..wanted() });
    check(observing, with(drifted), Decision::Settled);
    let fate = Disk { delete_with_instance: true, ..held("i-1") };
    let kept = Amendment { delete_with_instance: Some(false), ..Amendment::default() };
    placed(fate, at("i-1", InstanceFact::Unasked), Some("i-1"), amend(kept));
    let elsewhere =
        Disk { drift: BTreeSet::from([("spec.zoneId".into(), "a".into(), "b".into())]), ..disk("d-1") };
    check(present(), with(elsewhere), Decision::Settled);
}

fn succeeding(cutover: Cutover, retire: bool) -> Desired {
    let succession = Some(Succession { disk_id: "d-0".into(), cutover, retire });
    Desired::Present(Wanted { succession, size_gib: None, ..wanted() })
}

fn origin() -> OriginDisk {
    OriginDisk {
        id: "d-0".into(),
        state: DiskState::Available,
        place: None,
        protection: Protection::Plain,
        size_gib: 40,
        unsuitable: None,
        since: Since::Untouched,
    }
}

fn origin_at(instance: &str) -> OriginDisk {
    OriginDisk { state: DiskState::InUse, place: Some(place(instance)), ..origin() }
}

fn snapshot(state: SnapshotState) -> Heritage {
    let snapshots = BTreeSet::from([Snapshot { id: "s-1".into(), state }]);
    Heritage { origin: Some(origin()), snapshots, ..Heritage::default() }
}

fn inherits(heritage: Heritage) -> Observed {
    Observed { heritage, ..nothing() }
}

#[test]
fn a_source_is_only_touched_once_the_cutover_allows_it() {
    let heritage = |origin| inherits(Heritage { origin: Some(origin), ..Heritage::default() });
    let pending = || Decision::Blocked(Reason::CutoverPending);
    let record = || Decision::Do(DiskEffect::Claim(Role::Snapshot, Take::Record { attempt: 1 }));
    check(succeeding(Cutover::Manual, false), heritage(origin_at("i-1")), pending());
    check(succeeding(Cutover::Manual, false), heritage(origin()), pending());
    check(
        succeeding(Cutover::WhenDetached, false),
        heritage(origin_at("i-1")),
        Decision::wait_patient(Reason::CutoverPending),
    );
    check(succeeding(Cutover::WhenDetached, false), heritage(origin()), record());
    check(succeeding(Cutover::Now, false), heritage(origin()), record());
}

#[test]
fn the_place_of_the_source_is_written_down_before_it_is_detached() {
    let attached = |noted: Option<&str>, given| {
        inherits(Heritage {
            origin: Some(origin_at("i-1")),
            origin_place: noted.map(place),
            place_is_given: given,
            ..Heritage::default()
        })
    };
    let now = || succeeding(Cutover::Now, false);
    let detach = || Decision::Do(DiskEffect::DetachSource { id: "d-0".into(), instance: "i-1".into() });
    check(now(), attached(None, false), Decision::Do(DiskEffect::Note(Noted::Origin)));
    check(now(), attached(Some("i-9"), false), Decision::Do(DiskEffect::Note(Noted::Origin)));
    check(now(), attached(Some("i-1"), false), detach());
    check(now(), attached(None, true), detach());
    let moving = OriginDisk { state: DiskState::Moving, ..origin_at("i-1") };
    let moving = inherits(Heritage { origin: Some(moving), ..Heritage::default() });
    check(now(), moving, Decision::wait_seconds(Reason::Detaching));
}

#[test]
fn a_source_that_cannot_be_replaced_is_refused_before_anything_is_done() {
    let unsuitable = OriginDisk { unsuitable: Some("it is a system disk".into()), ..origin_at("i-1") };
    let heritage = |origin| inherits(Heritage { origin, ..Heritage::default() });
    let now = || succeeding(Cutover::Now, false);
    check(now(), heritage(Some(unsuitable)), Decision::Blocked(Reason::InvalidSpec));
    check(now(), heritage(None), Decision::Blocked(Reason::SourceNotFound));
    let smaller = Desired::Present(Wanted {
        size_gib: Some(20),
        succession: Some(Succession { disk_id: "d-0".into(), cutover: Cutover::Now, retire: false }),
        ..wanted()
    });
    check(smaller, heritage(Some(origin())), Decision::Blocked(Reason::InvalidSpec));
}

#[test]
fn the_disk_is_made_once_the_snapshot_is_complete_and_no_request_for_one_can_follow() {
    let now = || succeeding(Cutover::Now, false);
    let answered = Intent { attempt: 1, sends: 1, answered: 1, accepted: true };
    let of = |state, intent| Observed {
        role: Role::Snapshot,
        creation: Creation { intent: Some(intent), claim: Claim::None, aged: false },
        ..inherits(snapshot(state))
    };
    let disk = || Decision::Do(DiskEffect::Claim(Role::Disk, Take::Record { attempt: 2 }));
    check(now(), of(SnapshotState::Progressing, answered), Decision::wait_minutes(Reason::Snapshotting));
    check(now(), of(SnapshotState::Ready, answered), disk());
    let unanswered = Intent { answered: 0, accepted: false, ..answered };
    check(now(), of(SnapshotState::Ready, unanswered), Decision::wait_patient(Reason::Settling));
    let mut aged = of(SnapshotState::Ready, unanswered);
    aged.creation.aged = true;
    check(now(), aged, disk());
    check(now(), of(SnapshotState::Failed, answered), Decision::Blocked(Reason::CopyFailed));
}

#[test]
fn a_source_that_was_attached_after_its_snapshot_stops_everything() {
    let now = || succeeding(Cutover::Now, false);
    for origin in [origin_at("i-1"), OriginDisk { since: Since::Touched, ..origin() }] {
        let heritage = Heritage { origin: Some(origin), ..snapshot(SnapshotState::Ready) };
        check(now(), inherits(heritage.clone()), Decision::Blocked(Reason::SourceChanged));
        let made = Observed {
            heritage: heritage.clone(),
            target: at("i-1", InstanceFact::Ready),
            ..with(disk("d-1"))
        };
        check(now(), made, Decision::Blocked(Reason::SourceChanged));
        let serves = Heritage { replaced: true, ..heritage };
        check(now(), Observed { heritage: serves, ..with(disk("d-1")) }, Decision::Settled);
    }
}

#[test]
fn a_snapshot_that_vanished_is_not_taken_again_behind_anybody_s_back() {
    let heritage =
        Heritage { origin: Some(origin()), known_snapshot: Some("s-1".into()), ..Heritage::default() };
    check(
        succeeding(Cutover::Now, false),
        inherits(heritage.clone()),
        Decision::Blocked(Reason::ExternalGone),
    );
    let made = Observed { heritage, ..with(disk("d-1")) };
    check(succeeding(Cutover::Now, false), made, Decision::Blocked(Reason::ExternalGone));
}

#[test]
fn the_source_goes_last_and_only_if_it_provably_was_not_attached_again() {
    let retire = || succeeding(Cutover::Now, true);
    let verified = |origin: Option<OriginDisk>, replaced| {
        let heritage = Heritage { origin, replaced, ..snapshot(SnapshotState::Ready) };
        Observed { heritage, ..with(disk("d-1")) }
    };
    check(retire(), verified(Some(origin()), false), Decision::Do(DiskEffect::Note(Noted::Replaced)));
    check(
        retire(),
        verified(Some(origin()), true),
        Decision::Do(DiskEffect::RetireSource { id: "d-0".into() }),
    );
    for doubtful in [
        origin_at("i-1"),
        OriginDisk { since: Since::Touched, ..origin() },
        OriginDisk { since: Since::Unsaid, ..origin() },
    ] {
        check(retire(), verified(Some(doubtful), true), Decision::Blocked(Reason::SourceChanged));
    }
    check(retire(), verified(None, true), Decision::Do(DiskEffect::DeleteSnapshot { id: "s-1".into() }));
    let mut done = verified(None, true);
    done.heritage.snapshots.clear();
    check(retire(), done, Decision::Settled);
    check(succeeding(Cutover::Now, false), verified(Some(origin()), true), Decision::Settled);
}

#[test]
fn deletion_takes_the_snapshot_along_unless_it_is_the_last_copy() {
    let delete = || Desired::Absent { delete: true };
    let gone = Decision::Do(DiskEffect::DeleteSnapshot { id: "s-1".into() });
    check(delete(), inherits(snapshot(SnapshotState::Ready)), gone.clone());
    let last = Heritage { origin: None, ..snapshot(SnapshotState::Ready) };
    check(delete(), inherits(last.clone()), Decision::Settled);
    check(delete(), inherits(Heritage { replaced: true, ..last }), gone);
    check(Desired::Absent { delete: false }, inherits(snapshot(SnapshotState::Ready)), Decision::Settled);
}
