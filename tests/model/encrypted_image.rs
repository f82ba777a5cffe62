//! The creation protocol around the real `decide` of EncryptedImage.
//!
//! The queue of copies is not part of it: it only delays a first attempt.

use std::collections::BTreeSet;

use ecskms::decision::key::{KeyFact, Protection};
use ecskms::decision::{Decision, Machine, Reason, Take};
use ecskms::kinds::encrypted_image::decide::{
    Amendment, Copy, CopyState, Desired, ImageEffect, ImageMachine, Observed, SourceFact, Wanted,
};
use ecskms::kinds::encrypted_image::promise;
use stateright::Property;

use crate::process::{Subject, View};
use crate::protocol::{Config, Flaw, Protocol, decided, prove, refute};
use crate::world::{Budget, Resource, Verdict};

/// What EncryptedImage lends to the model.
pub struct ImageSubject;

fn desired(view: &View) -> Desired {
    if view.object.deleting {
        return Desired::Absent { manage: true, delete_image: view.delete, delete_snapshots: view.delete };
    }
    Desired::Present(Wanted {
        manage: true,
        key: "key-a".into(),
        source_image_id: "m-0".into(),
        ..Wanted::default()
    })
}

fn observed(view: &View) -> Observed {
    let copy = |resource: &Resource| Copy {
        id: format!("m-{}", resource.id),
        state: if resource.done { CopyState::Available } else { CopyState::Copying },
        protection: Protection::Exact,
        own: true,
        amendment: Amendment::default(),
        status: String::new(),
        progress: None,
        size_gib: 20,
        snapshots: Vec::new(),
        drift: BTreeSet::new(),
    };
    Observed {
        key: KeyFact::Usable { id: "key-a".into(), service: false },
        source: SourceFact::Ready,
        copies: view.seen.iter().map(copy).collect(),
        known: view.object.known.map(|id| format!("m-{id}")),
        creation: view.creation.clone(),
        refusal: view.object.refused.then_some(Reason::RequestRefused),
        namesake: None,
        repointed: None,
        queued_behind: 0,
        timed_out: false,
        leftover_snapshots: BTreeSet::from_iter(view.leftovers.then(|| "s-1".to_owned())),
        unwritten_snapshots: false,
    }
}

fn number(id: &str) -> u8 {
    id.trim_start_matches("m-").parse().expect("ids of this model are small numbers")
}

fn attempt(number: u32) -> u8 {
    u8::try_from(number).expect("budgets keep attempts few")
}

impl Subject for ImageSubject {
    fn decide(view: &View) -> Verdict {
        match ImageMachine::decide(&desired(view), &observed(view)) {
            Decision::Do(ImageEffect::Claim(Take::Record { attempt: number })) => {
                Verdict::Record(attempt(number))
            }
            Decision::Do(ImageEffect::Claim(Take::Replay { attempt: number })) => {
                Verdict::Replay(attempt(number))
            }
            Decision::Do(ImageEffect::Copy { attempt: number }) => Verdict::Send(attempt(number)),
            Decision::Do(ImageEffect::Cancel { id }) => Verdict::Cancel(number(&id)),
            Decision::Do(ImageEffect::Delete { id }) => Verdict::Remove(number(&id)),
            Decision::Do(ImageEffect::DeleteSnapshot { .. }) => Verdict::DropSnapshot,
            // Not part of this world; if it were decided, nothing would come of it, and "recoverable" would fail.
            Decision::Do(ImageEffect::Amend { .. }) => Verdict::Blocked,
            Decision::Settled if view.object.deleting => Verdict::Leave,
            Decision::Settled => Verdict::Settled,
            Decision::Wait(_) => Verdict::Wait,
            Decision::Blocked(_) => Verdict::Blocked,
        }
    }

    fn holds(view: &View) -> bool {
        promise::holds(&desired(view), &observed(view))
    }

    /// A copy that runs is written down at once.
    fn records(_resource: &Resource) -> bool {
        true
    }

    fn examples(config: &Config) -> Vec<Property<Protocol<ImageSubject>>> {
        if config.budget.deletions == 0 {
            return Vec::new();
        }
        vec![
            Property::sometimes("a copy is cancelled", |_, state| {
                decided(state, |verdict| matches!(verdict, Verdict::Cancel(_)))
            }),
            Property::sometimes("an image is deleted", |_, state| {
                decided(state, |verdict| matches!(verdict, Verdict::Remove(_)))
            }),
            Property::sometimes("a snapshot is deleted", |_, state| {
                decided(state, |verdict| verdict == Verdict::DropSnapshot)
            }),
        ]
    }
}

/// A calm world with one process, which each test makes worse.
fn calm() -> Config {
    Config {
        processes: 1,
        budget: Budget::default(),
        lag: true,
        instant: false,
        delete: true,
        snapshots: true,
        refusals_stand: false,
        flaw: Flaw::None,
    }
}

#[test]
fn one_process_survives_every_fault() {
    let budget = Budget {
        crashes: 1,
        lost: 1,
        refusals: 1,
        lost_writes: 1,
        pauses: 0,
        expiries: 0,
        agings: 1,
        deletions: 1,
        edits: 0,
        intrusions: 0,
    };
    let states = prove::<ImageSubject>("image, one process", Config { budget, ..calm() });
    assert_eq!(states, 1_049_172);
}

#[test]
fn two_processes_without_election_make_one_image() {
    let budget = Budget { lost: 1, agings: 1, ..Budget::default() };
    let states = prove::<ImageSubject>("image, two processes", Config { processes: 2, budget, ..calm() });
    assert_eq!(states, 3_437_305);
}

#[test]
fn wrong_protocols_are_rejected() {
    let budget = Budget { lost: 1, refusals: 1, agings: 1, deletions: 1, ..Budget::default() };
    let double = "never more than one resource";
    let late = "nothing appears once the object is gone";
    let leak = &["no resource without its object", late];
    let wrong = |flaw| Config { flaw, budget, ..calm() };
    refute::<ImageSubject>(Config { budget: Budget::default(), ..wrong(Flaw::Naive) }, &[double]);
    refute::<ImageSubject>(wrong(Flaw::RefusalClears), &[double, late]);
    refute::<ImageSubject>(wrong(Flaw::FreshToken), &[double]);
    refute::<ImageSubject>(wrong(Flaw::DepartsById), leak);
    refute::<ImageSubject>(wrong(Flaw::LeavesOnceDeleted), leak);
}
