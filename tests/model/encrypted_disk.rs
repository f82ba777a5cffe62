//! The creation protocol around the real `decide` of EncryptedDisk.

use std::collections::BTreeSet;

use ecskms::decision::key::{KeyFact, Protection};
use ecskms::decision::{Decision, Machine, Reason, Take};
use ecskms::kinds::encrypted_disk::decide::{
    Amendment, Desired, Disk, DiskEffect, DiskMachine, DiskState, Heritage, Observed, Role, SourceFact,
    Target, Wanted,
};
use ecskms::kinds::encrypted_disk::promise;
use stateright::Property;

use crate::process::{Subject, View};
use crate::protocol::{Config, Flaw, Protocol, decided, prove, refute};
use crate::world::{Budget, Resource, Verdict};

/// What EncryptedDisk lends to the model.
pub struct DiskSubject;

const SMALL_GIB: u32 = 20;
const LARGE_GIB: u32 = 40;

fn desired(view: &View) -> Desired {
    if view.object.deleting {
        return Desired::Absent { delete: view.delete };
    }
    let size_gib = Some(if view.object.large { LARGE_GIB } else { SMALL_GIB });
    Desired::Present(Wanted { size_gib, manage: true, key: "key-a".into(), ..Wanted::default() })
}

fn observed(view: &View) -> Observed {
    let disk = |resource: &Resource| Disk {
        id: format!("d-{}", resource.id),
        state: if resource.done { DiskState::Available } else { DiskState::Creating },
        protection: Protection::Exact,
        attached_to: None,
        delete_with_instance: false,
        amendment: Amendment::default(),
        size_gib: if resource.large { LARGE_GIB } else { SMALL_GIB },
        own: true,
        status: String::new(),
        drift: BTreeSet::new(),
    };
    Observed {
        key: KeyFact::Usable { id: "key-a".into(), service: false },
        source: SourceFact::Blank,
        disks: view.seen.iter().map(disk).collect(),
        known: view.object.known.map(|id| format!("d-{id}")),
        creation: view.creation.clone(),
        refusal: view.object.refused.then_some(Reason::RequestRefused),
        namesake: None,
        repointed: None,
        role: Role::Disk,
        target: Target::Nowhere,
        placed: None,
        heritage: Heritage::default(),
    }
}

fn number(id: &str) -> u8 {
    id.trim_start_matches("d-").parse().expect("ids of this model are small numbers")
}

fn attempt(number: u32) -> u8 {
    u8::try_from(number).expect("budgets keep attempts few")
}

impl Subject for DiskSubject {
    fn decide(view: &View) -> Verdict {
        match DiskMachine::decide(&desired(view), &observed(view)) {
            Decision::Do(DiskEffect::Claim(_, Take::Record { attempt: number })) => {
                Verdict::Record(attempt(number))
            }
            Decision::Do(DiskEffect::Claim(_, Take::Replay { attempt: number })) => {
                Verdict::Replay(attempt(number))
            }
            Decision::Do(DiskEffect::Create { attempt: number, .. }) => Verdict::Send(attempt(number)),
            Decision::Do(DiskEffect::Resize { id, .. }) => Verdict::Grow(number(&id)),
            Decision::Do(DiskEffect::Delete { id }) => Verdict::Remove(number(&id)),
            Decision::Do(other) => unreachable!("this world has no instances and no source: {other:?}"),
            Decision::Settled if view.object.deleting => Verdict::Leave,
            Decision::Settled => Verdict::Settled,
            Decision::Wait(_) => Verdict::Wait,
            Decision::Blocked(_) => Verdict::Blocked,
        }
    }

    fn holds(view: &View) -> bool {
        promise::holds(&desired(view), &observed(view))
    }

    fn records(resource: &Resource) -> bool {
        resource.done
    }

    fn examples(config: &Config) -> Vec<Property<Protocol<DiskSubject>>> {
        let mut list = Vec::new();
        if config.budget.edits > 0 {
            list.push(Property::sometimes("a disk grows", |_, state| {
                decided(state, |verdict| matches!(verdict, Verdict::Grow(_)))
            }));
        }
        if config.budget.deletions > 0 && config.delete {
            list.push(Property::sometimes("a disk is deleted", |_, state| {
                decided(state, |verdict| matches!(verdict, Verdict::Remove(_)))
            }));
        }
        list
    }
}

/// A calm world with one process, which each test makes worse.
fn calm() -> Config {
    Config {
        processes: 1,
        budget: Budget::default(),
        lag: true,
        instant: true,
        delete: true,
        snapshots: false,
        refusals_stand: false,
        flaw: Flaw::None,
    }
}

#[test]
fn one_process_survives_refusals_and_lost_answers() {
    let budget = Budget {
        lost: 1,
        refusals: 1,
        lost_writes: 1,
        agings: 1,
        deletions: 1,
        edits: 1,
        ..Budget::default()
    };
    let states =
        prove::<DiskSubject>("disk, one process, answers", Config { budget, instant: false, ..calm() });
    assert_eq!(states, 730_597);
}

#[test]
fn one_process_survives_crashes_pauses_and_intruders() {
    let budget = Budget {
        crashes: 1,
        lost: 1,
        pauses: 1,
        expiries: 1,
        agings: 1,
        deletions: 1,
        intrusions: 1,
        ..Budget::default()
    };
    let states = prove::<DiskSubject>("disk, one process, crashes", Config { budget, ..calm() });
    assert_eq!(states, 808_350);
}

#[test]
fn a_standing_refusal_waits_for_an_edit() {
    let budget = Budget { refusals: 2, lost: 1, edits: 1, deletions: 1, ..Budget::default() };
    let states = prove::<DiskSubject>("disk, refused", Config { budget, refusals_stand: true, ..calm() });
    assert_eq!(states, 75_329);
}

#[test]
fn a_retained_disk_is_still_only_one() {
    let budget = Budget { crashes: 1, lost: 1, refusals: 1, agings: 1, deletions: 1, ..Budget::default() };
    let states = prove::<DiskSubject>("disk, retained", Config { budget, delete: false, ..calm() });
    assert_eq!(states, 104_399);
}

#[test]
fn two_processes_without_election_make_one_disk() {
    let budget = Budget { lost: 1, agings: 1, ..Budget::default() };
    let states = prove::<DiskSubject>("disk, two processes", Config { processes: 2, budget, ..calm() });
    assert_eq!(states, 908_559);
}

#[test]
fn two_processes_without_election_delete_one_disk() {
    let budget = Budget { lost: 1, deletions: 1, ..Budget::default() };
    let states =
        prove::<DiskSubject>("disk, two processes, deletion", Config { processes: 2, budget, ..calm() });
    assert_eq!(states, 1_747_521);
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
    let double = "never more than one resource";
    let leak = &["no resource without its object", "nothing appears once the object is gone"];
    let mismatch = "a token keeps its parameters";
    let wrong = |flaw, budget| Config { flaw, budget, ..calm() };
    refute::<DiskSubject>(wrong(Flaw::Naive, Budget::default()), &[double]);
    refute::<DiskSubject>(
        Config { processes: 2, ..wrong(Flaw::LooksThenCreates, Budget::default()) },
        &[double],
    );
    refute::<DiskSubject>(wrong(Flaw::RefusalClears, budget), &[double]);
    refute::<DiskSubject>(wrong(Flaw::LeavesOnceDeleted, deleting), leak);
    refute::<DiskSubject>(wrong(Flaw::FreshToken, budget), &[double]);
    refute::<DiskSubject>(wrong(Flaw::RebuildsRequest, Budget { edits: 1, ..budget }), &[mismatch]);
    refute::<DiskSubject>(wrong(Flaw::SettlesEarly, budget), &[double]);
    refute::<DiskSubject>(wrong(Flaw::LeavesUnseen, deleting), leak);
    refute::<DiskSubject>(Config { processes: 2, ..wrong(Flaw::OpensLate, budget) }, &[double]);
    refute::<DiskSubject>(wrong(Flaw::CountsTwice, budget), &[double]);
    refute::<DiskSubject>(wrong(Flaw::LeavesArmed, deleting), leak);
    refute::<DiskSubject>(wrong(Flaw::DepartsById, deleting), leak);
    let twice_gone = Budget { lost: 1, agings: 1, deletions: 1, intrusions: 1, ..Budget::default() };
    refute::<DiskSubject>(wrong(Flaw::BelievesOldAnswer, twice_gone), leak);
}
