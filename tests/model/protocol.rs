//! The creation protocol as a transition system: who may do what next, and what must always hold.
//!
//! Budgets bound the faults, so that every space is finite without a boundary that would cut it silently.

use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ecskms::decision::creation::Claim;
use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::process::{Fate, Subject, act, catch_up, crash, end_pass, expire, observe, open, send};
use crate::recovery::recoverable;
use crate::world::{Budget, PROCESSES, State, Verdict};

/// What world is checked.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How many processes work at the same time.
    pub processes: usize,
    /// How much may go wrong.
    pub budget: Budget,
    /// Whether lookups show a new resource only later.
    pub lag: bool,
    /// Whether a new resource is finished at once.
    pub instant: bool,
    /// Whether the resource goes with the object.
    pub delete: bool,
    /// Whether a finished resource leaves a snapshot behind that must go too.
    pub snapshots: bool,
    /// Whether a refusal stands until the object changes.
    pub refusals_stand: bool,
    /// What is wrong with the protocol.
    pub flaw: Flaw,
}

/// Ways to get it wrong. Each must be rejected by the same properties that the product passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The product.
    None,
    /// Create whenever status holds no id.
    Naive,
    /// Look up by tag, then create, without an intent.
    LooksThenCreates,
    /// Any refusal clears the attempt, whatever became of its other sends.
    RefusalClears,
    /// The finalizer goes once the known resource is deleted, although a send was never answered.
    LeavesOnceDeleted,
    /// A replay carries a new token.
    FreshToken,
    /// The request is rebuilt from the present spec instead of replayed.
    RebuildsRequest,
    /// The settle time is shorter than the life of a signature: old requests may still be executed.
    SettlesEarly,
    /// The finalizer goes once every send was answered, although the accepted resource was never seen.
    LeavesUnseen,
    /// The send window of a claim is counted from the answer to its write.
    OpensLate,
    /// An answer is counted again after a write whose own answer was lost.
    CountsTwice,
    /// The finalizer goes while the process may still send.
    LeavesArmed,
    /// On deletion the resource is looked for by its known id alone.
    DepartsById,
    /// The id that the cloud answered is believed even when the attempt has aged.
    BelievesOldAnswer,
}

/// One move of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A process looks and decides.
    Observe(usize),
    /// It performs what it decided.
    Act(usize),
    /// It takes a claim, and is paused before it hears that it won.
    ActPaused(usize),
    /// It writes to the API, and the answer is lost.
    ActUnheard(usize),
    /// It wakes up and hears that it won the claim.
    Hear(usize),
    /// It sends the creation.
    Send(usize, Fate),
    /// Its pass ends early: a fault while looking, or a time-out.
    Abandon(usize),
    /// Its claim runs out.
    Expire(usize),
    /// It dies and starts anew.
    Crash(usize),
    /// Its store hears of the newest version.
    CatchUp(usize),
    /// The cloud executes a request that was under way.
    Execute(usize),
    /// Lookups begin to show a resource.
    Appear(u8),
    /// The cloud finishes a resource.
    Finish(u8),
    /// The settle time passes since the last claim.
    Age,
    /// The user deletes the object.
    Delete,
    /// The user asks for the larger size.
    Edit,
    /// Somebody deletes a resource in the console.
    Intrude(u8),
}

/// The protocol around one kind.
pub struct Protocol<S> {
    /// The world.
    pub config: Config,
    /// Quiet states that are known to recover.
    pub recovering: Mutex<HashSet<u64>>,
    subject: PhantomData<S>,
}

impl<S: Subject> Model for Protocol<S> {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::start(self.config.processes, self.config.budget)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        (0..self.config.processes).for_each(|index| self.process_actions(state, index, actions));
        let left = &state.left;
        for index in 0..state.cloud.flights.len() {
            if index == 0 || state.cloud.flights[index] != state.cloud.flights[index - 1] {
                actions.push(Action::Execute(index));
            }
        }
        for resource in &state.cloud.resources {
            actions.extend((!resource.visible).then_some(Action::Appear(resource.id)));
            actions.extend((!resource.done).then_some(Action::Finish(resource.id)));
            actions.extend((left.intrusions > 0).then_some(Action::Intrude(resource.id)));
        }
        let Some(object) = &state.api else { return };
        let young = object.intent.is_some_and(|recorded| !recorded.aged);
        actions.extend((left.agings > 0 && young).then_some(Action::Age));
        actions.extend((left.deletions > 0 && !object.deleting).then_some(Action::Delete));
        actions.extend((left.edits > 0 && !object.large && !object.deleting).then_some(Action::Edit));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        self.perform(&mut state, action);
        Some(state.in_order(self.config.processes))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("never more than one resource", |_, state: &State| {
                state.cloud.resources.len() <= 1
            }),
            Property::always("no resource without its object", |model: &Self, state: &State| {
                state.api.is_some() || !model.config.delete || state.cloud.resources.is_empty()
            }),
            Property::always("nothing appears once the object is gone", |_, state: &State| {
                state.api.is_some() || state.cloud.flights.is_empty() || !state.cloud.resources.is_empty()
            }),
            Property::always("ready is true", |_, state: &State| !state.lied),
            Property::always("a token keeps its parameters", |_, state: &State| !state.mismatched),
            Property::always("recoverable", recoverable::<S>),
        ];
        if self.config.flaw == Flaw::None {
            properties.extend(examples(&self.config.budget));
            properties.extend(S::examples(&self.config));
        }
        properties
    }
}

impl<S: Subject> Protocol<S> {
    /// The protocol in a world.
    pub fn new(config: Config) -> Protocol<S> {
        Protocol { config, recovering: Mutex::default(), subject: PhantomData }
    }

    fn process_actions(&self, state: &State, index: usize, actions: &mut Vec<Action>) {
        let (process, left) = (&state.processes[index], &state.left);
        let busy = process.hand.is_some() || process.won.is_some();
        match process.pending.map(|pending| pending.verdict) {
            _ if process.won.is_some() => actions.push(Action::Hear(index)),
            None => actions.extend((busy || process.cache.is_some()).then_some(Action::Observe(index))),
            Some(Verdict::Send(_) | Verdict::CreateBlind) => {
                actions.extend([Action::Send(index, Fate::Answered), Action::Send(index, Fate::Throttled)]);
                actions.extend((left.lost > 0).then_some(Action::Send(index, Fate::Lost)));
                actions.extend((left.crashes > 0).then_some(Action::Send(index, Fate::LostAndCrash)));
                actions.extend((left.refusals > 0).then_some(Action::Send(index, Fate::Refused)));
            }
            Some(verdict) => {
                actions.push(Action::Act(index));
                let claims = matches!(verdict, Verdict::Record(_) | Verdict::Replay(_));
                let writes = !matches!(
                    verdict,
                    Verdict::Remove(_) | Verdict::Cancel(_) | Verdict::Grow(_) | Verdict::DropSnapshot
                );
                actions.extend((claims && left.pauses > 0).then_some(Action::ActPaused(index)));
                actions.extend((writes && left.lost_writes > 0).then_some(Action::ActUnheard(index)));
            }
        }
        actions.extend((process.hand.is_some() && process.won.is_none()).then_some(Action::Abandon(index)));
        let open =
            process.held.is_some_and(|held| held.claim == Claim::Open) || process.won == Some((0, false));
        actions.extend((open && left.expiries > 0).then_some(Action::Expire(index)));
        let remembers = busy || process.held.is_some();
        actions.extend((remembers && left.crashes > 0).then_some(Action::Crash(index)));
        let behind = process.cache.as_ref().is_some_and(|cache| !cache.fresh);
        actions.extend(behind.then_some(Action::CatchUp(index)));
    }

    /// Makes one move.
    pub fn perform(&self, state: &mut State, action: Action) {
        let config = &self.config;
        let left = &mut state.left;
        match action {
            Action::ActPaused(_) => left.pauses -= 1,
            Action::ActUnheard(_) => left.lost_writes -= 1,
            Action::Send(_, Fate::Lost) => left.lost -= 1,
            Action::Send(_, Fate::LostAndCrash) | Action::Crash(_) => left.crashes -= 1,
            Action::Send(_, Fate::Refused) => left.refusals -= 1,
            Action::Expire(_) => left.expiries -= 1,
            Action::Age => left.agings -= 1,
            Action::Delete => left.deletions -= 1,
            Action::Edit => left.edits -= 1,
            Action::Intrude(_) => left.intrusions -= 1,
            _ => {}
        }
        match action {
            Action::Observe(index) => observe::<S>(config, state, index),
            Action::Act(index) => {
                act(config, state, index, true);
                open(config, state, index);
            }
            Action::ActPaused(index) => act(config, state, index, true),
            Action::ActUnheard(index) => act(config, state, index, false),
            Action::Hear(index) => open(config, state, index),
            Action::Send(index, fate) => send(config, state, index, fate),
            Action::Abandon(index) => end_pass(state, index),
            Action::Expire(index) => expire(state, index),
            Action::Crash(index) => crash(state, index),
            Action::CatchUp(index) => catch_up(state, index),
            Action::Execute(index) => {
                let request = state.cloud.flights.remove(index);
                state.mismatched |= state.cloud.execute(request, config.lag, config.instant).mismatched;
            }
            Action::Appear(id) => resource(state, id, |resource| resource.visible = true),
            Action::Finish(id) => resource(state, id, |resource| resource.done = true),
            Action::Age if config.flaw == Flaw::SettlesEarly => {
                let flights = state.cloud.flights.clone();
                age(state);
                state.cloud.flights = flights;
            }
            Action::Age => age(state),
            Action::Delete => state.edit(|object| object.deleting = true),
            Action::Edit => state.edit(|object| (object.large, object.refused) = (true, false)),
            Action::Intrude(id) => state.cloud.remove(id, config.snapshots),
        }
    }
}

fn resource(state: &mut State, id: u8, change: impl FnOnce(&mut crate::world::Resource)) {
    if let Some(resource) = state.cloud.resources.iter_mut().find(|resource| resource.id == id) {
        change(resource);
    }
}

/// The settle time has passed since the last claim: send windows are over, signatures have expired, lists have caught up.
///
/// Versions that are older than the newest claim age with it, though they may have aged before: whatever an older version
/// suggests must pass a compare-and-swap, which it loses either way.
pub fn age(state: &mut State) {
    let State { api, processes, cloud, .. } = state;
    let hands =
        processes.iter_mut().flat_map(|process| process.cache.iter_mut().chain(process.hand.iter_mut()));
    for object in hands.map(|snapshot| &mut snapshot.object).chain(api.iter_mut()) {
        object.intent = object.intent.map(|recorded| crate::world::Recorded { aged: true, ..recorded });
    }
    cloud.flights.clear();
    cloud.resources.iter_mut().for_each(|resource| resource.visible = true);
    (0..PROCESSES).for_each(|index| expire(state, index));
}

/// What must happen somewhere in the space: without examples an `always` might hold of nothing.
fn examples<S: Subject>(budget: &Budget) -> Vec<Property<Protocol<S>>> {
    type Example<S> = Property<Protocol<S>>;
    let mut list: Vec<Example<S>> = vec![
        Property::sometimes("an intent is recorded", |_, state| {
            decided(state, |verdict| verdict == Verdict::Record(1))
        }),
        Property::sometimes("a request is sent", |_, state| {
            decided(state, |verdict| matches!(verdict, Verdict::Send(_)))
        }),
        Property::sometimes("the id is in status", |_, state: &State| {
            state.api.as_ref().is_some_and(|object| object.known.is_some())
        }),
        Property::sometimes("a lookup misses a resource", |_, state: &State| {
            state.cloud.resources.iter().any(|resource| !resource.visible)
        }),
    ];
    let mut faulty = |allowed: u8, example: Example<S>| list.extend((allowed > 0).then_some(example));
    faulty(
        budget.lost + budget.crashes,
        Property::sometimes("a send is taken again", |_, state| {
            decided(state, |verdict| matches!(verdict, Verdict::Replay(_)))
        }),
    );
    faulty(
        budget.lost + budget.crashes,
        Property::sometimes("a request is under way", |_, state: &State| !state.cloud.flights.is_empty()),
    );
    faulty(
        budget.agings,
        Property::sometimes("a second attempt", |_, state| {
            decided(state, |verdict| verdict == Verdict::Send(2))
        }),
    );
    faulty(budget.deletions, Property::sometimes("the object goes", |_, state: &State| state.api.is_none()));
    faulty(
        budget.crashes,
        Property::sometimes("a crash", |model, state: &State| {
            state.left.crashes < model.config.budget.crashes
        }),
    );
    faulty(
        budget.refusals,
        Property::sometimes("a refusal", |model, state: &State| {
            state.left.refusals < model.config.budget.refusals
        }),
    );
    faulty(
        budget.lost_writes,
        Property::sometimes("a lost write", |model, state: &State| {
            state.left.lost_writes < model.config.budget.lost_writes
        }),
    );
    faulty(
        budget.pauses,
        Property::sometimes("a paused winner", |_, state: &State| {
            state.processes.iter().any(|process| process.won.is_some_and(|(_, expired)| expired))
        }),
    );
    faulty(
        budget.intrusions,
        Property::sometimes("an intrusion", |model, state: &State| {
            state.left.intrusions < model.config.budget.intrusions
        }),
    );
    list
}

/// True if some process has just decided so.
pub fn decided(state: &State, is: impl Fn(Verdict) -> bool) -> bool {
    state.processes.iter().any(|process| process.pending.is_some_and(|pending| is(pending.verdict)))
}

/// Explores the whole space, checks every property, and returns the number of states.
pub fn prove<S: Subject>(name: &str, config: Config) -> usize {
    /// Longer than any space of these tests takes on a slow machine; a run that reaches it has proved nothing.
    const TIME_MAX: Duration = Duration::from_secs(3600);
    let begun = Instant::now();
    let checker = Protocol::<S>::new(config).checker().timeout(TIME_MAX).threads(2).spawn_bfs().join();
    println!("{name}: {} states in {:.1} s", checker.unique_state_count(), begun.elapsed().as_secs_f64());
    assert!(checker.is_done(), "{name}: the space was not exhausted");
    checker.assert_properties();
    checker.unique_state_count()
}

/// Requires that a wrong protocol breaks one of the named properties.
#[track_caller]
pub fn refute<S: Subject>(config: Config, broken: &[&str]) {
    /// Every known counterexample is far nearer than this.
    const STATES_MAX: usize = 2_000_000;
    let checker = Protocol::<S>::new(config)
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .target_state_count(STATES_MAX)
        .threads(2)
        .spawn_bfs()
        .join();
    let found = checker.discoveries();
    let named = broken.iter().find(|name| found.contains_key(*name));
    assert!(
        named.is_some(),
        "{:?} was not rejected: {} states, {:?}",
        config.flaw,
        checker.unique_state_count(),
        found.keys()
    );
    for (name, path) in &found {
        println!(
            "{:?}: {name} after {} moves:\n{}",
            config.flaw,
            path.clone().into_actions().len(),
            Moves(path.clone().into_actions())
        );
    }
}

struct Moves(Vec<Action>);

impl fmt::Display for Moves {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|action| writeln!(formatter, "  {action:?}"))
    }
}
