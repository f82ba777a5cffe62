//! The table of decisions: each row one situation and the one thing that follows from it.

use super::*;
use crate::decision::creation::{Claim, Intent};

const KEY: &str = "key-a";

fn wanted() -> Wanted {
    Wanted {
        manage: true,
        protect: true,
        running: true,
        key: KeyChoice { text: KEY.into(), service: false },
        system: DiskWish { size_gib: 40, ..DiskWish::default() },
        ..Wanted::default()
    }
}

fn present() -> Desired {
    Desired::Present(Box::new(wanted()))
}

fn wanting(change: impl FnOnce(&mut Wanted)) -> Desired {
    let mut wanted = wanted();
    change(&mut wanted);
    Desired::Present(Box::new(wanted))
}

fn key(fact: KeyFact) -> BTreeMap<String, KeyFact> {
    BTreeMap::from([(KEY.to_owned(), fact)])
}

fn unusable(reason: Reason) -> KeyFact {
    KeyFact::Unusable { id: KEY.into(), reason }
}

fn nothing() -> Observed {
    Observed {
        keys: key(KeyFact::Usable { id: KEY.into(), service: false }),
        image: ImageFact::Ready { id: "m-1".into(), size_gib: 20 },
        user_data: UserDataFact::Unasked,
        instances: BTreeSet::new(),
        hidden: None,
        known: None,
        born: false,
        missed: false,
        creation: Creation::default(),
        refusal: None,
        namesake: None,
        repointed: BTreeSet::new(),
    }
}

fn disk(id: &str, protection: Protection) -> Disk {
    Disk { id: id.into(), system: id == "d-0", name: None, protection, key_id: Some(KEY.into()) }
}

fn instance(state: InstanceState) -> Instance {
    Instance {
        id: "i-1".into(),
        state,
        disks: BTreeSet::from([disk("d-0", Protection::Exact), disk("d-1", Protection::Exact)]),
        own: true,
        protected: true,
        named: true,
        tags_amiss: Vec::new(),
        in_zone: true,
        status: String::new(),
        private_ips: Vec::new(),
        drift: BTreeSet::new(),
    }
}

fn running() -> Instance {
    instance(InstanceState::Running)
}

fn with(instance: Instance) -> Observed {
    Observed { known: Some(instance.id.clone()), instances: BTreeSet::from([instance]), ..nothing() }
}

fn gone() -> Observed {
    Observed { known: Some("i-1".into()), creation: answered(1), ..nothing() }
}

fn answered(sends: u32) -> Creation {
    let intent = Intent { attempt: 3, sends, answered: 1, accepted: true };
    Creation { intent: Some(intent), claim: Claim::None, aged: false }
}

fn open() -> Creation {
    let intent = Intent { attempt: 1, sends: 1, answered: 0, accepted: false };
    Creation { intent: Some(intent), claim: Claim::Open, aged: false }
}

#[track_caller]
fn check(desired: Desired, observed: Observed, expected: Decision<InstanceEffect>) {
    assert_eq!(InstanceMachine::decide(&desired, &observed), expected);
}

#[test]
fn a_new_object_records_its_intent_before_it_sends() {
    check(present(), nothing(), Decision::Do(InstanceEffect::Claim(Take::Record { attempt: 1 })));
    let observed = Observed { creation: open(), ..nothing() };
    check(present(), observed, Decision::Do(InstanceEffect::Create { attempt: 1 }));
}

#[test]
fn a_running_encrypted_instance_settles_and_a_pending_one_is_waited_for() {
    check(present(), with(running()), Decision::Settled);
    let pending = Instance { disks: BTreeSet::new(), ..instance(InstanceState::Pending) };
    check(present(), with(pending), Decision::wait_seconds(Reason::Creating));
    check(present(), with(instance(InstanceState::Starting)), Decision::wait_seconds(Reason::Creating));
    check(present(), with(instance(InstanceState::Unknown)), Decision::wait_patient(Reason::StatusUnknown));
}

#[test]
fn one_plain_or_foreign_disk_is_enough_and_an_unseen_system_disk_proves_nothing() {
    let attached = |protection| {
        let mut instance = running();
        instance.disks.insert(disk("d-9", protection));
        with(instance)
    };
    check(present(), attached(Protection::Plain), Decision::Blocked(Reason::NotEncrypted));
    check(present(), attached(Protection::OtherKey), Decision::Blocked(Reason::KeyMismatch));
    check(present(), attached(Protection::Unproven), Decision::wait_patient(Reason::KeyMismatch));
    let data_only = Instance { disks: BTreeSet::from([disk("d-1", Protection::Exact)]), ..running() };
    check(present(), with(data_only), Decision::wait_patient(Reason::KeyMismatch));
    let bare = Instance { disks: BTreeSet::new(), ..running() };
    check(present(), with(bare), Decision::wait_patient(Reason::KeyMismatch));
}

#[test]
fn the_power_state_is_kept_as_asked() {
    let stopped = || instance(InstanceState::Stopped);
    check(present(), with(stopped()), Decision::Do(InstanceEffect::Start { id: "i-1".into() }));
    let off = || wanting(|wanted| wanted.running = false);
    check(off(), with(running()), Decision::Do(InstanceEffect::Stop { id: "i-1".into() }));
    check(off(), with(stopped()), Decision::Settled);
    let moving = Observed { born: true, ..with(instance(InstanceState::Starting)) };
    check(present(), moving, Decision::wait_seconds(Reason::Adjusting));
    check(off(), with(instance(InstanceState::Stopping)), Decision::wait_seconds(Reason::Adjusting));
    let refused = Observed { refusal: Some(Reason::RequestRefused), ..with(stopped()) };
    check(present(), refused, Decision::Blocked(Reason::RequestRefused));
}

#[test]
fn nothing_is_started_or_stopped_under_a_key_that_cannot_be_used() {
    for reason in
        [Reason::KeyDisabled, Reason::KeyRevoked, Reason::KeyPendingDeletion, Reason::EcsRoleMissing]
    {
        let stopped = Observed { keys: key(unusable(reason)), ..with(instance(InstanceState::Stopped)) };
        check(present(), stopped, Decision::Blocked(reason));
        let off = wanting(|wanted| wanted.running = false);
        check(off, Observed { keys: key(unusable(reason)), ..with(running()) }, Decision::Blocked(reason));
        check(present(), Observed { keys: key(unusable(reason)), ..nothing() }, Decision::Blocked(reason));
    }
}

#[test]
fn the_worst_of_several_keys_speaks() {
    let usable = KeyFact::Usable { id: KEY.into(), service: false };
    let keys = BTreeMap::from([
        ("a".to_owned(), usable),
        ("b".to_owned(), unusable(Reason::KeyDisabled)),
        ("c".to_owned(), unusable(Reason::KeyPendingDeletion)),
        ("d".to_owned(), unusable(Reason::EcsRoleMissing)),
    ]);
    let observed = Observed { keys, ..with(running()) };
    assert_eq!(
        worst_key(&observed).map(|(text, _, reason)| (text, reason)),
        Some(("c", Reason::KeyPendingDeletion))
    );
    check(present(), observed.clone(), Decision::Blocked(Reason::KeyPendingDeletion));
    let mut missing = observed;
    missing.keys.insert("e".into(), KeyFact::Missing);
    check(present(), missing, Decision::Blocked(Reason::KeyNotFound));
}

#[test]
fn protection_name_and_tags_are_mended_before_power() {
    let team = || vec![("team".to_owned(), "shop".to_owned())];
    let bare =
        Instance { protected: false, named: false, tags_amiss: team(), ..instance(InstanceState::Stopped) };
    check(
        present(),
        with(bare.clone()),
        Decision::Do(InstanceEffect::Protect { id: "i-1".into(), on: true }),
    );
    let named = || wanting(|wanted| (wanted.protect, wanted.instance_name) = (false, Some("web".into())));
    let rename = InstanceEffect::Rename { id: "i-1".into(), name: "web".into() };
    check(named(), with(bare.clone()), Decision::Do(rename));
    let tag = Decision::Do(InstanceEffect::Tag { id: "i-1".into(), tags: team() });
    check(named(), with(Instance { named: true, ..bare.clone() }), tag.clone());
    check(present(), with(Instance { tags_amiss: team(), ..running() }), tag);
    let untagged = || with(Instance { tags_amiss: team(), ..running() });
    let refused = Observed { refusal: Some(Reason::QuotaExceeded), ..untagged() };
    check(present(), refused, Decision::Blocked(Reason::QuotaExceeded));
    let disabled = Observed { keys: key(unusable(Reason::KeyDisabled)), ..untagged() };
    check(present(), disabled, Decision::Blocked(Reason::KeyDisabled));
    let lifted = wanting(|wanted| wanted.protect = false);
    check(lifted, with(running()), Decision::Do(InstanceEffect::Protect { id: "i-1".into(), on: false }));
}

#[test]
fn sources_are_checked_before_any_creation() {
    let image = |image| Observed { image, ..nothing() };
    check(present(), image(ImageFact::NotReady), Decision::wait_minutes(Reason::DependencyNotReady));
    check(present(), image(ImageFact::Missing), Decision::Blocked(Reason::SourceNotFound));
    check(present(), image(ImageFact::PlainData), Decision::Blocked(Reason::NotEncrypted));
    let large = ImageFact::Ready { id: "m-1".into(), size_gib: 41 };
    check(present(), image(large), Decision::Blocked(Reason::InvalidSpec));
    let data = |user_data| Observed { user_data, ..nothing() };
    check(present(), data(UserDataFact::Missing), Decision::wait_minutes(Reason::DependencyNotReady));
    check(present(), data(UserDataFact::TooLarge), Decision::Blocked(Reason::InvalidSpec));
    let known = Observed { namesake: Some("i-0".into()), ..nothing() };
    check(present(), known, Decision::Blocked(Reason::AdoptionMismatch));
    let refused = Observed { refusal: Some(Reason::RequestRefused), ..nothing() };
    check(present(), refused, Decision::Blocked(Reason::RequestRefused));
}

#[test]
fn changed_user_data_is_never_sent_under_the_old_token() {
    let user_data = |replayable| UserDataFact::Ready { version: "u@2".into(), replayable };
    let observed =
        |creation, replayable| Observed { creation, user_data: user_data(replayable), ..nothing() };
    check(present(), observed(open(), false), Decision::wait_patient(Reason::Settling));
    let lost = || Creation { claim: Claim::None, ..open() };
    check(present(), observed(lost(), false), Decision::wait_patient(Reason::Settling));
    let replay = Decision::Do(InstanceEffect::Claim(Take::Replay { attempt: 1 }));
    check(present(), observed(lost(), true), replay);
    let aged = Creation { aged: true, ..lost() };
    let record = Decision::Do(InstanceEffect::Claim(Take::Record { attempt: 2 }));
    check(present(), observed(aged, false), record);
}

#[test]
fn an_empty_list_alone_concludes_nothing() {
    let hidden = |observed| Observed { hidden: Some("d-0".into()), ..observed };
    check(present(), hidden(gone()), Decision::Blocked(Reason::AccessDenied));
    let aged = Creation { aged: true, ..answered(1) };
    let observed = Observed { known: None, creation: aged, ..gone() };
    check(present(), hidden(observed), Decision::Blocked(Reason::AccessDenied));
    let leaving = Desired::Absent { delete: true, protect: false };
    check(leaving, hidden(gone()), Decision::Blocked(Reason::AccessDenied));
    let born = Observed { born: true, ..gone() };
    check(present(), born.clone(), Decision::wait_seconds(Reason::CloudUnavailable));
    check(present(), Observed { missed: true, ..born }, Decision::Blocked(Reason::ExternalGone));
}

#[test]
fn an_instance_that_vanishes_before_it_was_ready_had_no_stock_and_gets_a_new_attempt() {
    check(present(), gone(), Decision::Blocked(Reason::NoStock));
    let again = Observed { missed: true, ..gone() };
    let record = || Decision::Do(InstanceEffect::Claim(Take::Record { attempt: 4 }));
    check(present(), again.clone(), record());
    let twice = Observed { creation: answered(2), ..again.clone() };
    check(present(), twice.clone(), Decision::wait_patient(Reason::Settling));
    let aged = Creation { aged: true, ..answered(2) };
    check(present(), Observed { creation: aged, ..twice }, record());
    let disabled = Observed { keys: key(unusable(Reason::KeyDisabled)), ..again };
    check(present(), disabled, Decision::Blocked(Reason::KeyDisabled));
}

#[test]
fn adoption_compares_zone_encryption_and_key_and_creates_nothing() {
    let adopting = || wanting(|wanted| wanted.adopt = Some("i-1".into()));
    check(adopting(), with(Instance { own: false, ..running() }), Decision::Settled);
    let elsewhere = Instance { own: false, in_zone: false, ..running() };
    check(adopting(), with(elsewhere), Decision::Blocked(Reason::AdoptionMismatch));
    check(adopting(), nothing(), Decision::Blocked(Reason::ExternalGone));
}

#[test]
fn observing_and_suspended_objects_change_nothing() {
    let observing = || wanting(|wanted| wanted.manage = false);
    check(observing(), nothing(), Decision::Blocked(Reason::ExternalGone));
    let stopped = Instance {
        protected: false,
        named: false,
        tags_amiss: vec![("team".into(), "shop".into())],
        ..instance(InstanceState::Stopped)
    };
    check(observing(), with(stopped), Decision::Settled);
    check(wanting(|wanted| wanted.suspend = true), nothing(), Decision::Blocked(Reason::Suspended));
}

#[test]
fn of_two_instances_neither_goes_by_itself() {
    let mut observed = with(running());
    observed.instances.insert(Instance { id: "i-2".into(), ..running() });
    check(present(), observed, Decision::Blocked(Reason::AdoptionMismatch));
}

#[test]
fn deletion_lifts_the_protection_only_if_the_object_does_then_stops_then_deletes() {
    let leaving = |protect| Desired::Absent { delete: true, protect };
    check(leaving(true), with(running()), Decision::Blocked(Reason::DeletionProtected));
    let lifted = Decision::Do(InstanceEffect::Protect { id: "i-1".into(), on: false });
    check(leaving(false), with(running()), lifted);
    let bare = |state| with(Instance { protected: false, ..instance(state) });
    check(
        leaving(false),
        bare(InstanceState::Running),
        Decision::Do(InstanceEffect::Stop { id: "i-1".into() }),
    );
    for state in [InstanceState::Pending, InstanceState::Starting, InstanceState::Stopping] {
        check(leaving(false), bare(state), Decision::wait_seconds(Reason::Deleting));
    }
    check(
        leaving(false),
        bare(InstanceState::Stopped),
        Decision::Do(InstanceEffect::Delete { id: "i-1".into() }),
    );
    check(leaving(false), bare(InstanceState::Unknown), Decision::wait_patient(Reason::StatusUnknown));
}

#[test]
fn while_a_key_is_revoked_a_deletion_neither_stops_nor_deletes() {
    let leaving = |delete| Desired::Absent { delete, protect: false };
    for state in [InstanceState::Starting, InstanceState::Running, InstanceState::Stopped] {
        for protected in [true, false] {
            let held = Instance { protected, ..instance(state) };
            let observed = Observed { keys: key(unusable(Reason::KeyRevoked)), ..with(held) };
            check(leaving(true), observed.clone(), Decision::Blocked(Reason::KeyRevoked));
            check(leaving(false), observed, Decision::Settled);
        }
    }
    let gone = Observed { keys: key(unusable(Reason::KeyRevoked)), ..nothing() };
    check(leaving(true), gone, Decision::Settled);
}

#[test]
fn deletion_keeps_what_is_retained_or_not_ours_and_waits_for_a_lost_answer() {
    let leaving = |delete| Desired::Absent { delete, protect: false };
    check(leaving(false), with(running()), Decision::Settled);
    check(leaving(true), with(Instance { own: false, ..running() }), Decision::Settled);
    let lost = Creation { claim: Claim::None, ..open() };
    let observed = Observed { creation: lost, ..nothing() };
    check(leaving(true), observed.clone(), Decision::wait_patient(Reason::Settling));
    let aged = Creation { aged: true, ..observed.creation.clone() };
    check(leaving(true), Observed { creation: aged, ..observed }, Decision::Settled);
}

#[test]
fn whatever_settles_keeps_the_promise() {
    use crate::kinds::encrypted_instance::promise;
    let states = [
        InstanceState::Pending,
        InstanceState::Starting,
        InstanceState::Running,
        InstanceState::Stopping,
        InstanceState::Stopped,
        InstanceState::Unknown,
    ];
    let keys =
        [KeyFact::Usable { id: KEY.into(), service: false }, unusable(Reason::KeyDisabled), KeyFact::Missing];
    let protections = [Protection::Exact, Protection::Unproven, Protection::OtherKey, Protection::Plain];
    let (mut settled, mut looked) = (0, 0);
    for state in states {
        for (protected, running, manage, protection, key_fact) in
            [true, false].into_iter().flat_map(|protected| {
                let keys = &keys;
                [true, false].into_iter().flat_map(move |running| {
                    [true, false].into_iter().flat_map(move |manage| {
                        protections.into_iter().flat_map(move |protection| {
                            keys.iter().map(move |key| (protected, running, manage, protection, key.clone()))
                        })
                    })
                })
            })
        {
            let desired = wanting(|wanted| (wanted.running, wanted.manage) = (running, manage));
            let disks = BTreeSet::from([disk("d-0", Protection::Exact), disk("d-1", protection)]);
            let observed =
                Observed { keys: key(key_fact), ..with(Instance { disks, protected, ..instance(state) }) };
            looked += 1;
            if InstanceMachine::decide(&desired, &observed) == Decision::Settled {
                settled += 1;
                assert!(promise::holds(&desired, &observed), "{desired:?} {observed:?}");
            }
        }
    }
    assert!(settled >= 6 && looked == 6 * 2 * 2 * 2 * 4 * 3, "{settled} of {looked}");
}
