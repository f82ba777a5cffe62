//! The table of sentences that an EncryptedImage's decisions must satisfy.

use super::*;
use crate::decision::creation::{Claim, Intent};

fn wanted() -> Wanted {
    Wanted { manage: true, key: "key-a".into(), source_image_id: "m-1".into(), ..Wanted::default() }
}

fn present() -> Desired {
    Desired::Present(wanted())
}

fn absent(delete_image: bool, delete_snapshots: bool) -> Desired {
    Desired::Absent { manage: true, delete_image, delete_snapshots }
}

fn nothing() -> Observed {
    Observed {
        key: KeyFact::Usable { id: "key-a".into(), service: false },
        source: SourceFact::Ready,
        copies: BTreeSet::new(),
        known: None,
        creation: Creation::default(),
        refusal: None,
        namesake: None,
        repointed: None,
        queued_behind: 0,
        timed_out: false,
        leftover_snapshots: BTreeSet::new(),
        unwritten_snapshots: false,
    }
}

fn copy(id: &str, state: CopyState) -> Copy {
    Copy {
        id: id.into(),
        state,
        protection: Protection::Exact,
        own: true,
        amendment: Amendment::default(),
        status: String::new(),
        progress: None,
        size_gib: 20,
        snapshots: Vec::new(),
        drift: BTreeSet::new(),
    }
}

fn with(copy: Copy) -> Observed {
    Observed { copies: BTreeSet::from([copy]), ..nothing() }
}

fn intent(claim: Claim) -> Creation {
    Creation {
        intent: Some(Intent { attempt: 1, sends: 1, answered: 0, accepted: false }),
        claim,
        aged: false,
    }
}

#[test]
fn while_its_key_is_revoked_nothing_is_copied_cancelled_or_deleted() {
    let key = || KeyFact::Unusable { id: "key-a".into(), reason: Reason::KeyRevoked };
    let blocked = || Decision::Blocked(Reason::KeyRevoked);
    check(present(), Observed { key: key(), ..nothing() }, blocked());
    for state in [CopyState::Copying, CopyState::Available] {
        let observed = Observed { key: key(), ..with(copy("m-2", state)) };
        check(present(), observed.clone(), blocked());
        check(absent(true, true), observed, blocked());
    }
    let kept = Observed { key: key(), ..with(copy("m-2", CopyState::Available)) };
    check(absent(false, false), kept, Decision::Settled);
}

#[track_caller]
fn check(desired: Desired, observed: Observed, expected: Decision<ImageEffect>) {
    assert_eq!(ImageMachine::decide(&desired, &observed), expected);
}

#[test]
fn a_new_object_records_its_intent_then_sends_it() {
    check(present(), nothing(), Decision::Do(ImageEffect::Claim(Take::Record { attempt: 1 })));
    let claimed = Observed { creation: intent(Claim::Open), ..nothing() };
    check(present(), claimed, Decision::Do(ImageEffect::Copy { attempt: 1 }));
    let lost = Observed { creation: intent(Claim::Unclear), ..nothing() };
    check(present(), lost, Decision::Do(ImageEffect::Claim(Take::Replay { attempt: 1 })));
}

#[test]
fn a_large_source_is_refused_before_the_key_is_even_considered() {
    let observed =
        Observed { source: SourceFact::TooLarge { size_gib: 600 }, key: KeyFact::Missing, ..nothing() };
    check(present(), observed, Decision::Blocked(Reason::SourceTooLarge));
}

#[test]
fn a_source_that_is_not_available_is_waited_for() {
    for (source, decision) in [
        (SourceFact::Missing, Decision::Blocked(Reason::SourceNotFound)),
        (SourceFact::NotReady, Decision::wait_minutes(Reason::DependencyNotReady)),
        (SourceFact::Unusable, Decision::wait_patient(Reason::DependencyNotReady)),
    ] {
        check(present(), Observed { source, ..nothing() }, decision);
    }
}

#[test]
fn the_queue_holds_back_a_new_copy_but_never_one_that_may_already_run() {
    check(present(), Observed { queued_behind: 2, ..nothing() }, Decision::wait_minutes(Reason::CopyQueued));
    let running = Observed { queued_behind: 2, creation: intent(Claim::None), ..nothing() };
    check(present(), running, Decision::Do(ImageEffect::Claim(Take::Replay { attempt: 1 })));
}

#[test]
fn an_image_is_ready_only_when_every_snapshot_shows_the_key() {
    check(present(), with(copy("m-2", CopyState::Available)), Decision::Settled);
    for (protection, decision) in [
        (Protection::Plain, Decision::Blocked(Reason::NotEncrypted)),
        (Protection::OtherKey, Decision::Blocked(Reason::KeyMismatch)),
        (Protection::Unproven, Decision::wait_minutes(Reason::KeyMismatch)),
    ] {
        check(present(), with(Copy { protection, ..copy("m-2", CopyState::Available) }), decision);
    }
}

#[test]
fn name_description_and_tags_are_mended_once_all_else_is_right() {
    let amendment = || Amendment {
        name: Some("base".into()),
        description: Some("of the shop".into()),
        tags: vec![("team".into(), "shop".into())],
    };
    let changed = |state| Copy { amendment: amendment(), ..copy("m-2", state) };
    let available = || with(changed(CopyState::Available));
    let amend = Decision::Do(ImageEffect::Amend { id: "m-2".into(), amendment: amendment() });
    check(present(), available(), amend);
    check(present(), with(changed(CopyState::Copying)), Decision::wait_minutes(Reason::Copying));
    let plain = Copy { protection: Protection::Plain, ..changed(CopyState::Available) };
    check(present(), with(plain), Decision::Blocked(Reason::NotEncrypted));
    let key = KeyFact::Unusable { id: "key-a".into(), reason: Reason::KeyDisabled };
    check(present(), Observed { key, ..available() }, Decision::Blocked(Reason::KeyDisabled));
    let refused = Observed { refusal: Some(Reason::RequestRefused), ..available() };
    check(present(), refused, Decision::Blocked(Reason::RequestRefused));
    check(Desired::Present(Wanted { manage: false, ..wanted() }), available(), Decision::Settled);
    let refusal = Some(Reason::RequestRefused);
    check(present(), Observed { refusal, ..with(copy("m-2", CopyState::Available)) }, Decision::Settled);
}

#[test]
fn a_difference_that_is_only_told_decides_nothing() {
    let drift = BTreeSet::from([("spec.resourceGroupId".to_owned(), "rg-1".to_owned(), "rg-2".to_owned())]);
    let told = with(Copy { drift, ..copy("m-2", CopyState::Available) });
    check(present(), Observed { repointed: Some("key-b".into()), ..told }, Decision::Settled);
}

#[test]
fn a_running_copy_is_waited_for_until_it_takes_too_long() {
    check(present(), with(copy("m-2", CopyState::Copying)), Decision::wait_minutes(Reason::Copying));
    let late = Observed { timed_out: true, ..with(copy("m-2", CopyState::Copying)) };
    check(present(), late, Decision::Blocked(Reason::CopyFailed));
    let late_but_done = Observed { timed_out: true, ..with(copy("m-2", CopyState::Available)) };
    check(present(), late_but_done, Decision::Settled);
    check(present(), with(copy("m-2", CopyState::Failed)), Decision::Blocked(Reason::CopyFailed));
    check(present(), with(copy("m-2", CopyState::Unknown)), Decision::wait_patient(Reason::StatusUnknown));
}

#[test]
fn nothing_is_copied_under_a_key_that_cannot_be_used() {
    let key = KeyFact::Unusable { id: "key-a".into(), reason: Reason::EcsRoleMissing };
    check(present(), Observed { key, ..nothing() }, Decision::Blocked(Reason::EcsRoleMissing));
    check(
        present(),
        Observed { refusal: Some(Reason::RequestRefused), ..nothing() },
        Decision::Blocked(Reason::RequestRefused),
    );
}

#[test]
fn an_image_that_existed_and_is_gone_is_not_made_again() {
    check(
        present(),
        Observed { known: Some("m-2".into()), ..nothing() },
        Decision::Blocked(Reason::ExternalGone),
    );
    check(
        present(),
        Observed { namesake: Some("m-0".into()), ..nothing() },
        Decision::Blocked(Reason::AdoptionMismatch),
    );
}

#[test]
fn the_surplus_goes_and_the_remembered_copy_stays() {
    let both = |state| Observed {
        copies: BTreeSet::from([copy("m-2", state), copy("m-3", CopyState::Available)]),
        known: Some("m-3".into()),
        ..nothing()
    };
    check(present(), both(CopyState::Copying), Decision::Do(ImageEffect::Cancel { id: "m-2".into() }));
    check(present(), both(CopyState::Available), Decision::Do(ImageEffect::Delete { id: "m-2".into() }));
}

#[test]
fn deletion_cancels_a_running_copy_whatever_the_policy() {
    check(
        absent(false, false),
        with(copy("m-2", CopyState::Copying)),
        Decision::Do(ImageEffect::Cancel { id: "m-2".into() }),
    );
    check(
        absent(true, false),
        with(copy("m-2", CopyState::Copying)),
        Decision::Do(ImageEffect::Cancel { id: "m-2".into() }),
    );
}

#[test]
fn an_object_that_observes_cancels_no_copy_when_it_is_deleted() {
    let leaving = Desired::Absent { manage: false, delete_image: false, delete_snapshots: false };
    check(leaving, with(copy("m-2", CopyState::Copying)), Decision::Settled);
}

#[test]
fn snapshots_that_go_are_written_down_before_their_image_goes() {
    let unwritten = || Observed { unwritten_snapshots: true, ..with(copy("m-2", CopyState::Available)) };
    check(absent(true, true), unwritten(), Decision::wait_seconds(Reason::Deleting));
    check(absent(true, false), unwritten(), Decision::Do(ImageEffect::Delete { id: "m-2".into() }));
}

#[test]
fn deletion_follows_the_policies() {
    check(absent(false, false), with(copy("m-2", CopyState::Available)), Decision::Settled);
    check(
        absent(true, false),
        with(copy("m-2", CopyState::Available)),
        Decision::Do(ImageEffect::Delete { id: "m-2".into() }),
    );
    check(
        absent(true, true),
        with(Copy { own: false, ..copy("m-2", CopyState::Available) }),
        Decision::Settled,
    );
    let leftovers = || Observed { leftover_snapshots: BTreeSet::from(["s-1".into()]), ..nothing() };
    check(absent(true, true), leftovers(), Decision::Do(ImageEffect::DeleteSnapshot { id: "s-1".into() }));
    check(absent(true, false), leftovers(), Decision::Settled);
}

#[test]
fn a_copy_is_written_down_before_it_is_cancelled_or_deleted() {
    for (state, effect) in [
        (CopyState::Copying, ImageEffect::Cancel { id: "m-2".into() }),
        (CopyState::Available, ImageEffect::Delete { id: "m-2".into() }),
    ] {
        let made = Creation { claim: Claim::Accepted, ..intent(Claim::None) };
        let observed = Observed { creation: made, ..with(copy("m-2", state)) };
        check(absent(true, false), observed.clone(), Decision::wait_seconds(Reason::Deleting));
        let written = Observed { known: Some("m-2".into()), ..observed };
        check(absent(true, false), written, Decision::Do(effect));
    }
}

#[test]
fn deletion_waits_for_a_creation_whose_answer_was_lost() {
    check(
        absent(false, false),
        Observed { creation: intent(Claim::None), ..nothing() },
        Decision::wait_patient(Reason::Settling),
    );
}

#[test]
fn suspended_and_observing_objects_change_nothing() {
    check(
        Desired::Present(Wanted { suspend: true, ..wanted() }),
        nothing(),
        Decision::Blocked(Reason::Suspended),
    );
    check(
        Desired::Present(Wanted { manage: false, ..wanted() }),
        nothing(),
        Decision::Blocked(Reason::ExternalGone),
    );
}
