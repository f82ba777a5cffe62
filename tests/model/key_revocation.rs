//! Revocation: every interleaving of two replicas without election, of crashes, of calls that arrive late, of somebody who enables
//! the key out of band, and of two revocations of one key, on the product's own `decide`.
//!
//! Mirrors `observe` (the key is read before the other revocations), `act` (the object is read afresh before a switch), the report's
//! records and the compare-and-swap of status. A call that was sent may arrive at any later time, also after its sender has died.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex};

use ecskms::decision::{Decision, Machine, Reason};
use ecskms::kinds::key_revocation::decide::{
    Desired, Goal, Inventory, KeyCheck, Observed, RevocationEffect, RevocationMachine, Stage, Starts, Step,
    Switch, Wanted,
};
use ecskms::kinds::key_revocation::promise;
use stateright::{Checker, HasDiscoveries, Model, Property};

const PROCESSES: usize = 2;

/// Ways to get it wrong. Each must be rejected by the properties that the product passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Flaw {
    None,
    /// Cuts before the prior state is recorded.
    CutsFirst,
    /// Gives back Enabled whatever was recorded.
    AlwaysEnables,
    /// Gives the key back although another revocation holds it.
    ForgetsOthers,
    /// Takes the state that another revocation made for the prior one.
    InheritsNothing,
    /// Switches on an old look.
    TrustsOldLooks,
    /// Closes the record at once, although a late cut may still arrive.
    NeverLooksBack,
    /// Leaves a key on that somebody enabled.
    Forgives,
    /// Gives back its own record although another one was first.
    KeepsItsOwn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct World {
    objects: usize,
    before: Switch,
    /// How many of the objects, from the first, say themselves that the key goes back to On.
    declared: usize,
    /// True: the first object comes at any later time, when another may have changed the key already.
    late: bool,
    /// True: nobody may look for a whole minute after a restoration.
    absent: bool,
    crashes: u8,
    enables: u8,
    /// How many calls are throttled, or not answered in time: then they may still arrive.
    unanswered: u8,
    flaw: Flaw,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    key: Switch,
    objects: Vec<Object>,
    processes: [Process; PROCESSES],
    /// Which process has just cut for which object without a look, so that it looks and records next. Gone with a crash.
    tried: [Vec<bool>; PROCESSES],
    /// Calls under way: of which object, and whether they switch on.
    flights: Vec<(usize, bool)>,
    crashes: u8,
    enables: u8,
    unanswered: u8,
    /// What has already gone wrong for good.
    broken: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Object {
    goal: Goal,
    stage: Stage,
    prior: Option<Switch>,
    aged: bool,
    closed: bool,
    exists: bool,
    /// Which of the records it was, from 1; 0 before it has one.
    captured: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum Process {
    #[default]
    Idle,
    /// Has read one object and the key. Stale once somebody has written the object since.
    /// The key is Unasked where the object's declaration is enough for the cut.
    Looked { object: usize, seen: Object, key: Switch, stale: bool },
    /// Has decided as well.
    Decided {
        object: usize,
        seen: Object,
        key: Switch,
        stale: bool,
        inherited: Option<Switch>,
        unfinished: bool,
        decision: Decision<RevocationEffect>,
    },
    /// Waits for the answer to its call.
    Waits { object: usize, on: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Look(usize, usize),
    Decide(usize),
    Act(usize),
    Arrive(usize),
    Crash(usize),
    /// A call is refused for being too much.
    Refuse(usize),
    /// A process stops waiting for the answer to its call.
    GiveUp(usize),
    /// The user asks for the restoration.
    Restore(usize),
    /// The late object comes.
    Create,
    /// Somebody enables the key.
    Enable,
    /// A minute passes after the restoration; whatever was under way has arrived.
    Age(usize),
}

fn observed(seen: &Object, key: Switch, inherited: Option<Switch>, holder: bool) -> Observed {
    Observed {
        switch: key,
        word: String::new(),
        request_id: None,
        policies: None,
        key: KeyCheck::Customer,
        prior: seen.prior,
        inherited: inherited.map(|switch| (String::new(), switch, String::new())),
        stage: seen.stage,
        inventory: Inventory::Done(Box::default()),
        self_lockout: false,
        evidence: Step::None,
        stops: Step::None,
        unasked: 0,
        starts: Starts::None,
        holder: holder.then(String::new),
        unfinished: false,
        drill_over: false,
        aged: seen.aged,
        closed: seen.closed,
        deeds: Vec::new(),
        probe: None,
        journal_intact: true,
        published: true,
        report_namespace: None,
        farewell: false,
        asked_at: 0,
    }
}

impl World {
    /// The number of the next record. It matters only where records can differ.
    fn captures(&self, state: &State) -> u8 {
        let last = state.objects.iter().map(|object| object.captured).max().unwrap_or_default();
        if self.late { last + 1 } else { 1 }
    }

    fn is_declared(&self, index: usize) -> bool {
        index < self.declared
    }

    /// What a process reads of the key: nothing, where the cut needs no reading.
    fn read(&self, state: &State, process: usize, index: usize) -> Switch {
        let object = &state.objects[index];
        let fresh = object.stage == Stage::Fresh && object.goal == Goal::Revoked;
        match self.is_declared(index) && fresh && !state.tried[process][index] {
            true => Switch::Unasked,
            false => state.key,
        }
    }

    fn live(object: &Object) -> bool {
        object.prior.is_some() && object.stage != Stage::Restored
    }

    /// The second half of a look: the list of the others, read after the key.
    fn decide(
        &self,
        state: &State,
        index: usize,
        seen: &Object,
        key: Switch,
    ) -> (Option<Switch>, bool, Decision<RevocationEffect>) {
        let others =
            || state.objects.iter().enumerate().filter(|(other, object)| *other != index && object.exists);
        let declared = self.is_declared(index);
        let capturing =
            !declared && seen.goal == Goal::Revoked && seen.stage == Stage::Fresh && key != Switch::On;
        let goes_back = |(other, object): (usize, &Object)| {
            object.prior.or(self.is_declared(other).then_some(Switch::On)).filter(|_| !object.closed)
        };
        let restoring = seen.goal == Goal::Restored && !seen.closed;
        let first = others()
            .filter(|(_, object)| object.captured > 0 && !object.closed)
            .min_by_key(|(_, object)| object.captured)
            .filter(|(_, object)| seen.captured == 0 || object.captured < seen.captured)
            .and_then(|(_, object)| object.prior);
        let inherited = match restoring {
            true => first.filter(|first| Some(*first) != seen.prior && self.flaw != Flaw::KeepsItsOwn),
            false => others().find_map(goes_back).filter(|_| capturing && self.flaw != Flaw::InheritsNothing),
        };
        let holds = others().any(|(other, object)| {
            let live = Self::live(object) || (object.prior.is_none() && self.is_declared(other));
            live && object.goal == Goal::Revoked
        });
        let holder = seen.goal == Goal::Restored && holds && self.flaw != Flaw::ForgetsOthers;
        let wanted = Wanted { goal: seen.goal, declared, ..Wanted::default() };
        let unfinished = others().any(|(other, object)| {
            (object.prior.is_some() || self.is_declared(other)) && object.stage != Stage::Restored
        });
        let mut seen = Observed { unfinished, ..observed(seen, key, inherited, holder) };
        if declared && seen.prior.is_none() && wanted.goal == Goal::Restored {
            seen.prior = Some(Switch::On);
        }
        if restoring && inherited.is_some() {
            seen.prior = inherited;
        }
        let decision = RevocationMachine::decide(&Desired::Present(wanted), &seen);
        let decision = match (self.flaw, decision) {
            (Flaw::CutsFirst, Decision::Do(RevocationEffect::Record)) => Decision::Do(RevocationEffect::Cut),
            (Flaw::AlwaysEnables, Decision::Settled)
                if seen.stage == Stage::Restoring && key == Switch::Off =>
            {
                Decision::Do(RevocationEffect::Return { on: true })
            }
            (Flaw::Forgives, Decision::Do(RevocationEffect::Reassert)) => Decision::Settled,
            (_, decision) => decision,
        };
        (inherited, unfinished, decision)
    }

    fn write(&self, state: &mut State, index: usize, object: Object) {
        if state.objects[index] == object {
            return;
        }
        state.objects[index] = object;
        for process in &mut state.processes {
            match process {
                Process::Looked { object, stale, .. } | Process::Decided { object, stale, .. }
                    if *object == index =>
                {
                    *stale = true;
                }
                _ => {}
            }
        }
    }

    fn act(&self, state: &mut State, index: usize) {
        let Process::Decided { object, seen, key, stale, inherited, unfinished, decision } =
            std::mem::take(&mut state.processes[index])
        else {
            return;
        };
        let mut next = seen.clone();
        match decision {
            Decision::Do(effect @ (RevocationEffect::Cut | RevocationEffect::Return { .. })) => {
                let on = effect == RevocationEffect::Return { on: true };
                // Read afresh: what is asked for, and how far it has come, must be what was decided on.
                let now = &state.objects[object];
                let fresh = (now.goal, now.stage) == (seen.goal, seen.stage);
                if !fresh && self.flaw != Flaw::TrustsOldLooks {
                    return;
                }
                if state.objects[object].prior.is_none() && !self.is_declared(object) {
                    state.broken = Some("a cut without a record");
                }
                if on && state.objects[object].goal != Goal::Restored {
                    state.broken = Some("switched on before it was asked");
                }
                state.flights.push((object, on));
                state.flights.sort_unstable();
                state.tried[index][object] |= !on;
                state.processes[index] = Process::Waits { object, on };
                return;
            }
            Decision::Do(RevocationEffect::Record) => {
                next.prior = Some(match self.is_declared(object) {
                    true => Switch::On,
                    false => inherited.unwrap_or(key),
                });
                next.stage = Stage::Cutting;
                next.captured = self.captures(state);
            }
            Decision::Do(RevocationEffect::Reassert) => next.stage = Stage::Cutting,
            Decision::Do(RevocationEffect::BeginRestore) => {
                next.stage = Stage::Restoring;
                if next.captured == 0 {
                    next.captured = self.captures(state);
                }
                // Only a declaration can be restored without a record.
                next.prior = inherited.or(next.prior).or(Some(Switch::On));
            }
            Decision::Settled if seen.goal == Goal::Restored && seen.stage != Stage::Restored => {
                next.stage = Stage::Restored;
                next.closed = self.flaw == Flaw::NeverLooksBack;
            }
            Decision::Settled
                if seen.stage == Stage::Restored && seen.aged && !unfinished && seen.prior == Some(key) =>
            {
                next.closed = true;
            }
            Decision::Settled | Decision::Wait(_)
                if seen.goal == Goal::Revoked && seen.stage == Stage::Cutting && promise::rejected(key) =>
            {
                next.stage = Stage::Cut
            }
            _ => {}
        }
        // Compare-and-swap.
        if !stale {
            self.write(state, object, next);
        }
    }

    fn arrive(state: &mut State, index: usize) {
        let (object, on) = state.flights.remove(index);
        state.key = if on { Switch::On } else { Switch::Off };
        let waiting = Process::Waits { object, on };
        if let Some(process) = state.processes.iter().position(|process| *process == waiting) {
            state.processes[process] = Process::Idle;
        }
    }

    /// What the key is when everything is over.
    fn after(&self) -> Switch {
        if self.declared > 0 { Switch::On } else { self.before }
    }

    /// From here on nothing goes wrong any more: does it come to what is promised?
    fn recovers(&self, state: &State) -> bool {
        /// Calm states that are known to: many states come to the same calm one.
        static KNOWN: LazyLock<Mutex<HashSet<(World, State)>>> = LazyLock::new(Mutex::default);
        let mut state = state.clone();
        (0..PROCESSES).for_each(|index| state.processes[index] = Process::Idle);
        while !state.flights.is_empty() {
            Self::arrive(&mut state, 0);
        }
        let calm = (*self, State { crashes: 0, unanswered: 0, broken: None, ..state.clone() });
        if KNOWN.lock().expect("nobody panicked").contains(&calm) {
            return true;
        }
        let recovers = self.comes_to_rest(state);
        if recovers {
            KNOWN.lock().expect("nobody panicked").insert(calm);
        }
        recovers
    }

    fn comes_to_rest(&self, mut state: State) -> bool {
        // More than any run needs: two objects, six steps each, twice.
        let mut changed = 0;
        for round in 0..60 {
            let object = round % self.objects;
            let before = state.key;
            if !state.objects[object].exists {
                continue;
            }
            let seen = state.objects[object].clone();
            let key = self.read(&state, 0, object);
            state.tried[0][object] = false;
            let (inherited, unfinished, decision) = self.decide(&state, object, &seen, key);
            state.processes[0] =
                Process::Decided { object, seen, key, stale: false, inherited, unfinished, decision };
            self.act(&mut state, 0);
            while !state.flights.is_empty() {
                Self::arrive(&mut state, 0);
            }
            if state.key != before {
                changed = round;
            }
        }
        let held = state.objects.iter().any(|object| object.exists && object.goal == Goal::Revoked);
        if self.late && !held {
            // The records may differ, but nobody undoes any more what another one gives back.
            let open = state.objects.iter().filter(|object| object.prior.is_some() && !object.closed);
            let agree = open.clone().all(|object| object.prior == Some(state.key));
            return changed < 40 && agree && open.clone().all(|object| object.stage == Stage::Restored);
        }
        if held {
            return promise::rejected(state.key)
                && state.objects.iter().all(|object| {
                    !object.exists || object.goal == Goal::Restored || object.stage == Stage::Cut
                });
        }
        // A record that was closed for good leaves the key to its owner, who may have enabled it since.
        let closed = state.objects.iter().all(|object| object.closed);
        let touched = self.enables > state.enables;
        // What a late cut did while nobody looked cannot be told from what somebody else did since: it stays, and is said.
        let left = |object: &Object| object.aged && Some(state.key) != object.prior;
        if self.absent && state.objects.iter().any(left) {
            let seen = &state.objects[0];
            let (.., decision) = self.decide(&state, 0, seen, state.key);
            return decision == Decision::Blocked(Reason::SwitchedSinceRestored);
        }
        state.objects.iter().all(|object| object.stage == Stage::Restored || object.prior.is_none())
            && (state.key == self.after() || (closed && touched))
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let object = Object {
            goal: Goal::Revoked,
            stage: Stage::Fresh,
            prior: None,
            aged: false,
            closed: false,
            exists: true,
            captured: 0,
        };
        let mut objects = vec![object; self.objects];
        objects[0].exists = !self.late;
        vec![State {
            key: self.before,
            objects,
            processes: Default::default(),
            tried: std::array::from_fn(|_| vec![false; self.objects]),
            flights: Vec::new(),
            crashes: self.crashes,
            enables: self.enables,
            unanswered: self.unanswered,
            broken: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (index, process) in state.processes.iter().enumerate() {
            match process {
                Process::Idle => {
                    let there = (0..self.objects).filter(|object| state.objects[*object].exists);
                    actions.extend(there.map(|object| Action::Look(index, object)));
                }
                Process::Looked { .. } => actions.push(Action::Decide(index)),
                Process::Decided { .. } => actions.push(Action::Act(index)),
                Process::Waits { .. } if state.unanswered > 0 => actions.push(Action::GiveUp(index)),
                Process::Waits { .. } => {}
            }
            if state.crashes > 0 && *process != Process::Idle {
                actions.push(Action::Crash(index));
            }
        }
        actions.extend((0..state.flights.len()).map(Action::Arrive));
        if state.unanswered > 0 {
            actions.extend((0..state.flights.len()).map(Action::Refuse));
        }
        for (index, object) in state.objects.iter().enumerate() {
            if object.exists
                && object.goal == Goal::Revoked
                && (object.prior.is_some() || self.is_declared(index))
            {
                actions.push(Action::Restore(index));
            }
            // A look and its record are too short to outlast a minute, and whoever looks every ten seconds repairs a deviation within it.
            let looking = |process: &Process| match process {
                Process::Looked { key, .. } => Some(*key) != object.prior,
                Process::Decided { decision, .. } => *decision == Decision::Do(RevocationEffect::Record),
                _ => false,
            };
            let under_way =
                state.flights.iter().any(|(of, _)| *of == index) || state.processes.iter().any(looking);
            if object.stage == Stage::Restored
                && !object.aged
                && !under_way
                && (self.absent || Some(state.key) == object.prior)
            {
                actions.push(Action::Age(index));
            }
        }
        if !state.objects[0].exists {
            actions.push(Action::Create);
        }
        if state.enables > 0 && state.key == Switch::Off {
            actions.push(Action::Enable);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Look(process, object) => {
                let seen = state.objects[object].clone();
                let key = self.read(&state, process, object);
                state.tried[process][object] = false;
                state.processes[process] = Process::Looked { object, seen, key, stale: false };
            }
            Action::Decide(process) => {
                let Process::Looked { object, seen, key, stale } =
                    std::mem::take(&mut state.processes[process])
                else {
                    return None;
                };
                let (inherited, unfinished, decision) = self.decide(&state, object, &seen, key);
                // A decision to wait, or one that writes what stands already, changes nothing.
                state.processes[process] =
                    Process::Decided { object, seen, key, stale, inherited, unfinished, decision };
            }
            Action::Act(process) => self.act(&mut state, process),
            Action::Arrive(index) => Self::arrive(&mut state, index),
            Action::Crash(process) => {
                state.crashes -= 1;
                state.processes[process] = Process::Idle;
                state.tried[process] = vec![false; self.objects];
            }
            Action::Refuse(index) => {
                state.unanswered -= 1;
                let (object, on) = state.flights.remove(index);
                let waiting = Process::Waits { object, on };
                if let Some(process) = state.processes.iter_mut().find(|process| **process == waiting) {
                    *process = Process::Idle;
                }
            }
            Action::GiveUp(process) => {
                state.unanswered -= 1;
                state.processes[process] = Process::Idle;
            }
            Action::Restore(index) => {
                let object = Object { goal: Goal::Restored, ..state.objects[index].clone() };
                self.write(&mut state, index, object);
            }
            Action::Create => state.objects[0].exists = true,
            Action::Enable => {
                state.enables -= 1;
                state.key = Switch::On;
            }
            Action::Age(index) => {
                // Time is no write: nobody's look becomes stale by it.
                state.objects[index].aged = true;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing is cut without a record or switched on unasked", |_, state: &State| {
                state.broken.is_none()
            }),
            Property::always("what is recorded is what stood before", |world: &World, state: &State| {
                let right = |prior| prior == world.after() || (world.late && prior == world.before);
                state.objects.iter().all(|object| object.prior.is_none_or(right))
            }),
            Property::always("it comes to what is promised", |world: &World, state: &State| {
                world.recovers(state)
            }),
            Property::sometimes("a restored key", |world: &World, state: &State| {
                state.key == world.after()
                    && state.objects.iter().all(|object| object.stage == Stage::Restored)
            }),
        ]
    }
}

const PRODUCT: World = World {
    objects: 1,
    before: Switch::On,
    declared: 0,
    late: false,
    absent: false,
    crashes: 2,
    enables: 0,
    unanswered: 0,
    flaw: Flaw::None,
};

#[track_caller]
fn passes(world: World, states: usize) {
    let checker = world.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    println!("revocation: {} states", checker.unique_state_count());
    // Another number means another model: say why when it changes.
    assert_eq!(checker.unique_state_count(), states);
}

#[test]
fn two_replicas_without_election_and_crashes_revoke_and_restore_exactly() {
    passes(PRODUCT, 11_770);
    passes(World { before: Switch::Off, ..PRODUCT }, 1_911);
}

#[test]
fn a_key_that_somebody_enables_is_lost_again() {
    passes(World { enables: 1, crashes: 1, ..PRODUCT }, 13_406);
}

#[test]
fn two_revocations_of_one_key_give_it_back_with_the_last_and_exactly() {
    passes(World { objects: 2, crashes: 1, ..PRODUCT }, 877_343);
    passes(World { objects: 2, crashes: 0, before: Switch::Off, ..PRODUCT }, 33_089);
}

#[test]
fn a_declared_state_is_a_record_and_the_cut_needs_no_other() {
    passes(World { declared: 1, ..PRODUCT }, 12_427);
    passes(World { declared: 1, before: Switch::Off, ..PRODUCT }, 11_402);
    passes(World { declared: 1, enables: 1, crashes: 1, ..PRODUCT }, 16_575);
    passes(World { declared: 1, objects: 2, crashes: 1, ..PRODUCT }, 723_813);
    passes(World { declared: 2, objects: 2, crashes: 0, ..PRODUCT }, 121_281);
}

#[test]
fn calls_that_are_throttled_or_not_answered_change_nothing_of_it() {
    passes(World { unanswered: 1, crashes: 1, ..PRODUCT }, 15_400);
    passes(World { unanswered: 2, crashes: 1, declared: 1, ..PRODUCT }, 44_090);
    passes(World { unanswered: 1, crashes: 0, declared: 1, objects: 2, ..PRODUCT }, 784_128);
}

#[test]
fn what_happened_to_the_key_while_nobody_looked_stays() {
    passes(World { absent: true, crashes: 1, ..PRODUCT }, 5_404);
}

#[test]
fn records_that_differ_end_in_the_first_one() {
    passes(
        World { declared: 1, late: true, objects: 2, before: Switch::Off, crashes: 0, ..PRODUCT },
        247_842,
    );
}

#[test]
fn wrong_protocols_fail_the_same_checks() {
    let wrong = [
        World { flaw: Flaw::CutsFirst, ..PRODUCT },
        World { flaw: Flaw::AlwaysEnables, before: Switch::Off, ..PRODUCT },
        World { flaw: Flaw::ForgetsOthers, objects: 2, crashes: 0, ..PRODUCT },
        World { flaw: Flaw::InheritsNothing, objects: 2, crashes: 0, ..PRODUCT },
        World { flaw: Flaw::InheritsNothing, declared: 1, objects: 2, crashes: 0, ..PRODUCT },
        World { flaw: Flaw::TrustsOldLooks, ..PRODUCT },
        World { flaw: Flaw::NeverLooksBack, ..PRODUCT },
        World { flaw: Flaw::Forgives, enables: 1, ..PRODUCT },
        World {
            flaw: Flaw::KeepsItsOwn,
            declared: 1,
            late: true,
            objects: 2,
            before: Switch::Off,
            crashes: 0,
            ..PRODUCT
        },
    ];
    for world in wrong {
        let checker = world.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let failed = checker.discoveries().keys().any(|name| *name != "a restored key");
        assert!(failed, "{:?} passes", world.flaw);
    }
}
