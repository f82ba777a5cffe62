//! Leader election: two candidates, the real `next_move`, clocks that may run slow, processes that may pause anywhere.
//!
//! Mirrors `Elector::attempt` and `Elector::hold`. Time is counted in ticks; what the model leaves out is the API's latency,
//! which a pause between two steps stands for.

use std::time::Duration;

use ecskms::engine::lease::{LEASE_DURATION, Move, RENEW_DEADLINE, Record, next_move};
use stateright::{Checker, HasDiscoveries, Model, Property};

/// One tick.
const TICK: Duration = Duration::from_millis(1250);
/// A clock loses at most one tick in this many: far worse than any real clock, yet less than what the two figures allow.
const SLOW_EVERY: u8 = 4;
const CANDIDATES: usize = 2;
const NAMES: [&str; CANDIDATES] = ["a", "b"];

/// What is wrong with the election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// The lease is written whatever its version is by now.
    NoCompareAndSwap,
    /// The holder notices its deadline only after the pause and two calls of one more attempt.
    NoticesLate,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// Who holds the Lease object; None if there is none.
    holder: Option<Holder>,
    candidates: [Candidate; CANDIDATES],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Holder {
    Nobody,
    Candidate(usize),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Candidate {
    /// The record as last seen.
    seen: Option<Holder>,
    /// Whether the Lease has not been written since.
    current: bool,
    /// Ticks since it was seen to change, by its own clock.
    unchanged: u8,
    /// The attempt under way.
    attempt: Option<Attempt>,
    /// Ticks since the last successful attempt began; None if it does not lead.
    leading: Option<u8>,
    /// Ticks since its clock last lost one.
    steady: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Attempt {
    age: u8,
    written: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    /// Read the lease and decide.
    Look(usize),
    /// Write it on the version that was read.
    Write(usize),
    /// Hear that the write was done.
    Hear(usize),
    /// Never hear of it.
    Lose(usize),
    /// Give the lease back after all work has stopped.
    Release(usize),
    /// Die and start anew.
    Crash(usize),
    /// Time passes; the clocks of these candidates lose the tick.
    Tick([bool; CANDIDATES]),
}

struct Election(Flaw);

fn ticks(duration: Duration) -> u8 {
    u8::try_from(duration.as_millis().div_ceil(TICK.as_millis())).expect("a few ticks")
}

impl Election {
    /// How long a holder believes itself to be one.
    fn belief(&self) -> u8 {
        match self.0 {
            Flaw::NoticesLate => ticks(RENEW_DEADLINE + Duration::from_secs(8)),
            Flaw::None | Flaw::NoCompareAndSwap => ticks(RENEW_DEADLINE),
        }
    }

    fn look(&self, state: &mut State, index: usize) {
        let holder = state.holder;
        let candidate = &mut state.candidates[index];
        if !candidate.current || candidate.seen != holder {
            (candidate.seen, candidate.current, candidate.unchanged) = (holder, true, 0);
        }
        let record = holder.map(|holder| Record {
            holder: match holder {
                Holder::Nobody => String::new(),
                Holder::Candidate(other) => NAMES[other].to_owned(),
            },
            duration_seconds: LEASE_DURATION.as_secs(),
            ..Record::default()
        });
        let unchanged = TICK * u32::from(candidate.unchanged);
        match next_move(record.as_ref(), unchanged, NAMES[index]) {
            Move::Wait => candidate.leading = None,
            Move::Create | Move::Take { .. } => candidate.attempt = Some(Attempt { age: 0, written: false }),
        }
    }

    fn write(&self, state: &mut State, index: usize) {
        let candidate = &mut state.candidates[index];
        if !candidate.current && self.0 != Flaw::NoCompareAndSwap {
            (candidate.attempt, candidate.leading) = (None, None);
            return;
        }
        if let Some(attempt) = candidate.attempt.as_mut() {
            attempt.written = true;
        }
        put(state, index, Holder::Candidate(index));
    }
}

/// Every write makes a new version, which only its writer knows.
fn put(state: &mut State, index: usize, holder: Holder) {
    state.holder = Some(holder);
    for (other, candidate) in state.candidates.iter_mut().enumerate() {
        candidate.current = other == index;
    }
}

impl Model for Election {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State { holder: None, candidates: Default::default() }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (index, candidate) in state.candidates.iter().enumerate() {
            match candidate.attempt {
                None => actions.push(Action::Look(index)),
                Some(Attempt { written: false, .. }) => actions.push(Action::Write(index)),
                Some(Attempt { written: true, .. }) => {
                    actions.extend([Action::Hear(index), Action::Lose(index)])
                }
            }
            let at_rest = candidate.leading.is_some() && candidate.attempt.is_none();
            actions.extend(at_rest.then_some(Action::Release(index)));
            actions.push(Action::Crash(index));
        }
        for losses in [[false, false], [true, false], [false, true], [true, true]] {
            let possible = (0..CANDIDATES)
                .all(|index| !losses[index] || state.candidates[index].steady >= SLOW_EVERY - 1);
            actions.extend(possible.then_some(Action::Tick(losses)));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Look(index) => self.look(&mut state, index),
            Action::Write(index) => self.write(&mut state, index),
            Action::Hear(index) => {
                let candidate = &mut state.candidates[index];
                let age = candidate.attempt.take()?.age;
                candidate.leading = (age < self.belief()).then_some(age);
                (candidate.seen, candidate.unchanged) = (Some(Holder::Candidate(index)), 0);
            }
            Action::Lose(index) => {
                let candidate = &mut state.candidates[index];
                (candidate.attempt, candidate.current) = (None, false);
            }
            Action::Release(index) => {
                state.candidates[index].leading = None;
                if state.candidates[index].current {
                    put(&mut state, index, Holder::Nobody);
                    state.candidates[index].current = false;
                }
            }
            Action::Crash(index) => {
                let steady = state.candidates[index].steady;
                state.candidates[index] = Candidate { steady, ..Candidate::default() };
            }
            Action::Tick(losses) => {
                let belief = self.belief();
                state
                    .candidates
                    .iter_mut()
                    .zip(losses)
                    .for_each(|(candidate, loses)| candidate.tick(loses, belief));
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("at most one leads", |_, state: &State| {
                state.candidates.iter().filter(|candidate| candidate.leading.is_some()).count() <= 1
            }),
            Property::sometimes("the first leads", |_, state: &State| state.candidates[0].leading.is_some()),
            Property::sometimes("the second leads", |_, state: &State| state.candidates[1].leading.is_some()),
            Property::sometimes("a lease is released", |_, state: &State| {
                state.holder == Some(Holder::Nobody)
            }),
            Property::sometimes("a lease expires under its holder", |_, state: &State| {
                state.holder == Some(Holder::Candidate(0))
                    && state.candidates[1].attempt == Some(Attempt { age: 0, written: false })
            }),
        ]
    }
}

impl Candidate {
    /// Ages stop growing where they no longer matter, which keeps the space finite.
    fn tick(&mut self, loses: bool, belief: u8) {
        self.steady = if loses { 0 } else { (self.steady + 1).min(SLOW_EVERY - 1) };
        if loses {
            return;
        }
        self.unchanged = (self.unchanged + 1).min(ticks(LEASE_DURATION));
        if let Some(attempt) = self.attempt.as_mut() {
            attempt.age = (attempt.age + 1).min(belief);
        }
        self.leading = self.leading.map(|age| age + 1).filter(|age| *age < belief);
    }
}

#[test]
fn at_most_one_candidate_believes_that_it_leads() {
    let checker = Election(Flaw::None).checker().threads(2).spawn_bfs().join();
    println!("lease: {} states", checker.unique_state_count());
    checker.assert_properties();
    assert_eq!(checker.unique_state_count(), 2_268_698);
}

#[test]
fn wrong_elections_are_rejected() {
    for flaw in [Flaw::NoCompareAndSwap, Flaw::NoticesLate] {
        let checker =
            Election(flaw).checker().finish_when(HasDiscoveries::AnyFailures).threads(2).spawn_bfs().join();
        assert!(checker.discovery("at most one leads").is_some(), "{flaw:?} was not rejected");
    }
}
