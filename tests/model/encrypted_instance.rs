//! The creation protocol around the real `decide` of EncryptedInstance.
//!
//! What is new here is the instance that vanishes before it was ever Ready and is asked for again. The second look that the
//! product waits for before it concludes that is left out: without it the model is less patient, and so stricter.

use std::collections::{BTreeMap, BTreeSet};

use ecskms::decision::key::{KeyFact, Protection};
use ecskms::decision::{Decision, Machine, Reason, Take};
use ecskms::kinds::encrypted_instance::decide::{
    Desired, Disk, DiskWish, ImageFact, Instance, InstanceEffect, InstanceMachine, InstanceState, KeyChoice,
    Observed, UserDataFact, Wanted,
};
use ecskms::kinds::encrypted_instance::promise;
use stateright::Property;

use crate::process::{Subject, View};
use crate::protocol::{Config, Flaw, Protocol, decided, prove, refute};
use crate::world::{Budget, Resource, State, Verdict};

/// What EncryptedInstance lends to the model.
pub struct InstanceSubject;

/// A decider that asks again for whatever vanished, even if another send of the old attempt may still take effect.
pub struct HastySubject;

/// The size of the model's resources stands for the name, which can be changed afterwards.
fn desired(view: &View) -> Desired {
    if view.object.deleting {
        return Desired::Absent { delete: view.delete, protect: false };
    }
    Desired::Present(Box::new(Wanted {
        manage: true,
        key: KeyChoice { text: "key-a".into(), service: false },
        system: DiskWish { size_gib: 40, ..DiskWish::default() },
        instance_name: Some(if view.object.large { "large" } else { "small" }.into()),
        ..Wanted::default()
    }))
}

fn observed(view: &View) -> Observed {
    let disk =
        Disk { id: "d-0".into(), system: true, name: None, protection: Protection::Exact, key_id: None };
    let instance = |resource: &Resource| Instance {
        id: format!("i-{}", resource.id),
        state: if resource.done { InstanceState::Stopped } else { InstanceState::Pending },
        disks: BTreeSet::from([disk.clone()]),
        own: true,
        protected: false,
        // A pass on an old version of the object would name it back, and the next pass forth: only forth is modelled.
        named: view.object.deleting || resource.large || !view.object.large,
        tags_amiss: Vec::new(),
        in_zone: true,
        status: String::new(),
        private_ips: Vec::new(),
        drift: BTreeSet::new(),
    };
    let key = KeyFact::Usable { id: "key-a".into(), service: false };
    Observed {
        keys: BTreeMap::from([("key-a".to_owned(), key)]),
        image: ImageFact::Ready { id: "m-1".into(), size_gib: 20 },
        user_data: UserDataFact::Unasked,
        instances: view.seen.iter().map(instance).collect(),
        hidden: None,
        known: view.object.known.map(|id| format!("i-{id}")),
        born: view.object.settled,
        missed: true,
        creation: view.creation.clone(),
        refusal: view.object.refused.then_some(Reason::RequestRefused),
        namesake: None,
        repointed: BTreeSet::new(),
    }
}

fn number(id: &str) -> u8 {
    id.trim_start_matches("i-").parse().expect("ids of this model are small numbers")
}

fn attempt(number: u32) -> u8 {
    u8::try_from(number).expect("budgets keep attempts few")
}

fn verdict(view: &View, observed: &Observed) -> Verdict {
    match InstanceMachine::decide(&desired(view), observed) {
        Decision::Do(InstanceEffect::Claim(Take::Record { attempt: number })) => {
            Verdict::Record(attempt(number))
        }
        Decision::Do(InstanceEffect::Claim(Take::Replay { attempt: number })) => {
            Verdict::Replay(attempt(number))
        }
        Decision::Do(InstanceEffect::Create { attempt: number }) => Verdict::Send(attempt(number)),
        Decision::Do(InstanceEffect::Rename { id, .. }) => Verdict::Grow(number(&id)),
        Decision::Do(InstanceEffect::Delete { id }) => Verdict::Remove(number(&id)),
        // Not part of this world; if it were decided, nothing would come of it, and "recoverable" would fail.
        Decision::Do(
            InstanceEffect::Start { .. }
            | InstanceEffect::Stop { .. }
            | InstanceEffect::Protect { .. }
            | InstanceEffect::Tag { .. },
        ) => Verdict::Blocked,
        Decision::Settled if view.object.deleting => Verdict::Leave,
        Decision::Settled => Verdict::Settled,
        Decision::Wait(_) => Verdict::Wait,
        Decision::Blocked(_) => Verdict::Blocked,
    }
}

impl Subject for InstanceSubject {
    const LOOKS_AGAIN: bool = true;

    fn decide(view: &View) -> Verdict {
        verdict(view, &observed(view))
    }

    fn holds(view: &View) -> bool {
        promise::holds(&desired(view), &observed(view))
    }

    /// Also while it is Pending: else nobody could tell that one vanished from one that no list shows yet.
    fn records(_: &Resource) -> bool {
        true
    }

    fn examples(config: &Config) -> Vec<Property<Protocol<InstanceSubject>>> {
        let mut list = Vec::new();
        if config.budget.edits > 0 {
            list.push(Property::sometimes("an instance is renamed", |_, state| {
                decided(state, |verdict| matches!(verdict, Verdict::Grow(_)))
            }));
        }
        if config.budget.deletions > 0 && config.delete {
            list.push(Property::sometimes("an instance is deleted", |_, state| {
                decided(state, |verdict| matches!(verdict, Verdict::Remove(_)))
            }));
        }
        if config.budget.intrusions > 0 {
            list.push(Property::sometimes("a vanished instance is asked for again", |_, state: &State| {
                let vanished = state.cloud.made > 0 && state.cloud.resources.is_empty();
                vanished && decided(state, |verdict| verdict == Verdict::Record(2))
            }));
            list.push(Property::sometimes("an instance that was Ready is not", |_, state: &State| {
                let settled = state.api.as_ref().is_some_and(|object| object.settled && !object.deleting);
                settled
                    && state.cloud.resources.is_empty()
                    && decided(state, |verdict| verdict == Verdict::Blocked)
            }));
        }
        list
    }
}

impl Subject for HastySubject {
    const LOOKS_AGAIN: bool = true;

    fn decide(view: &View) -> Verdict {
        let mut observed = observed(view);
        let vanished = observed.known.is_some() && observed.instances.is_empty() && !view.object.deleting;
        if let (true, Some(intent)) = (vanished, observed.creation.intent.as_mut()) {
            (intent.sends, intent.answered) = (1, 1);
        }
        verdict(view, &observed)
    }

    fn holds(view: &View) -> bool {
        InstanceSubject::holds(view)
    }

    fn records(resource: &Resource) -> bool {
        InstanceSubject::records(resource)
    }

    fn examples(_: &Config) -> Vec<Property<Protocol<HastySubject>>> {
        Vec::new()
    }
}

/// A world with one process, which each test makes worse. Instances are not finished at once: they can vanish before.
fn calm() -> Config {
    Config {
        processes: 1,
        budget: Budget::default(),
        lag: true,
        instant: false,
        delete: true,
        snapshots: false,
        refusals_stand: false,
        flaw: Flaw::None,
    }
}

#[test]
fn one_process_survives_refusals_and_lost_answers() {
    let budget = Budget { lost: 1, refusals: 1, lost_writes: 1, agings: 1, edits: 1, ..Budget::default() };
    let states = prove::<InstanceSubject>("instance, one process, answers", Config { budget, ..calm() });
    assert_eq!(states, 329_379);
}

#[test]
fn one_process_survives_crashes_and_instances_that_vanish() {
    let budget = Budget { crashes: 1, lost: 1, agings: 1, deletions: 1, intrusions: 1, ..Budget::default() };
    let states = prove::<InstanceSubject>("instance, one process, vanishing", Config { budget, ..calm() });
    assert_eq!(states, 411_339);
}

#[test]
fn one_process_survives_pauses_and_two_that_vanish() {
    let budget = Budget { lost: 1, pauses: 1, expiries: 1, agings: 1, intrusions: 2, ..Budget::default() };
    let states =
        prove::<InstanceSubject>("instance, one process, vanishing twice", Config { budget, ..calm() });
    assert_eq!(states, 359_984);
}

#[test]
fn two_processes_without_election_make_one_instance() {
    let budget = Budget { lost: 1, ..Budget::default() };
    let config = Config { processes: 2, budget, instant: true, ..calm() };
    let states = prove::<InstanceSubject>("instance, two processes", config);
    assert_eq!(states, 128_256);
}

#[test]
fn two_processes_without_election_replace_one_that_vanished() {
    let budget = Budget { intrusions: 1, ..Budget::default() };
    let config = Config { processes: 2, budget, ..calm() };
    let states = prove::<InstanceSubject>("instance, two processes, vanishing", config);
    assert_eq!(states, 682_453);
}

#[test]
fn a_retained_instance_is_still_only_one() {
    let budget = Budget { crashes: 1, lost: 1, refusals: 1, agings: 1, deletions: 1, ..Budget::default() };
    let states = prove::<InstanceSubject>(
        "instance, retained",
        Config { budget, delete: false, instant: true, ..calm() },
    );
    assert_eq!(states, 104_399);
}

#[test]
fn asking_again_while_another_send_is_under_way_is_rejected() {
    let budget = Budget { lost: 1, intrusions: 1, ..Budget::default() };
    let double = ["never more than one resource", "recoverable"];
    refute::<HastySubject>(Config { budget, ..calm() }, &double);
}

#[test]
fn wrong_protocols_are_rejected() {
    let budget = Budget {
        crashes: 1,
        lost: 1,
        refusals: 1,
        lost_writes: 1,
        pauses: 1,
        agings: 1,
        ..Budget::default()
    };
    let deleting = Budget { deletions: 1, ..budget };
    // Of two instances neither goes by itself, so a world that will have two is already one that cannot recover.
    let double = &["never more than one resource", "recoverable"];
    let leak = &["no resource without its object", "nothing appears once the object is gone"];
    let wrong = |flaw, budget| Config { flaw, budget, instant: true, ..calm() };
    refute::<InstanceSubject>(wrong(Flaw::RefusalClears, budget), double);
    refute::<InstanceSubject>(wrong(Flaw::FreshToken, budget), double);
    refute::<InstanceSubject>(wrong(Flaw::SettlesEarly, budget), double);
    refute::<InstanceSubject>(wrong(Flaw::CountsTwice, budget), double);
    refute::<InstanceSubject>(wrong(Flaw::LeavesOnceDeleted, deleting), leak);
    refute::<InstanceSubject>(wrong(Flaw::LeavesUnseen, deleting), leak);
    refute::<InstanceSubject>(
        wrong(Flaw::RebuildsRequest, Budget { edits: 1, ..budget }),
        &["a token keeps its parameters"],
    );
}
