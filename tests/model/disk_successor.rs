//! The successor of a disk, around the real `decide`: guests that write, people that interfere, operators that die.
//!
//! A world of its own, because two roles share one recorded intent here. Mirrors `engine::reconcile` (one look, one decision, one
//! effect; every write a compare-and-swap), `report` (what is remembered) and `act` (what is read again). Attaching takes no time.

use std::collections::{BTreeSet, HashSet};
use std::sync::Mutex;

use ecskms::decision::creation::{Claim, Intent};
use ecskms::decision::key::{KeyFact, Protection};
use ecskms::decision::{Creation, Decision, Machine, Take};
use ecskms::kinds::encrypted_disk::decide::{
    Amendment, Cutover, Desired, Disk, DiskEffect, DiskMachine, DiskState, Heritage, InstanceFact, Noted,
    Observed, OriginDisk, Place, Role, Since, Snapshot, SnapshotState, SourceFact, Succession, Target,
    Wanted, placed_next,
};
use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::world::digest;

const PROCESSES: usize = 2;

/// The world that is checked.
#[derive(Clone, Copy, Debug)]
struct Config {
    processes: usize,
    cutover: Cutover,
    retire: bool,
    budget: Budget,
    flaw: Flaw,
}

/// Ways to get it wrong, each of which must be rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// The product.
    None,
    /// The snapshot is taken while the source is attached.
    SnapshotsAttached,
    /// The source is deleted without asking whether it was attached again.
    RetiresBlindly,
    /// The place of the source is not written down before it is detached.
    ForgetsThePlace,
}

/// How often each thing may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Budget {
    writes: u8,
    crashes: u8,
    lost: u8,
    agings: u8,
    /// Somebody attaches the source, or detaches it.
    hands: u8,
}

/// The object's status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Object {
    intent: Option<Recorded>,
    disk: bool,
    snapshot: bool,
    placed: bool,
    origin_place: bool,
    replaced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Recorded {
    role: Role,
    intent: Intent,
    aged: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Version {
    object: Object,
    fresh: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Process {
    cache: Version,
    hand: Option<Version>,
    pending: Option<Pending>,
    claim: Option<(u32, Claim)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pending {
    decision: Decision<DiskEffect>,
    report: Object,
    /// Whether, at the time of the look, the successor held every write and was where its source had been.
    whole: bool,
}

/// The source: whether it is attached, what was written to it, and whether it was attached since the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Source {
    attached: bool,
    touched: bool,
}

/// A snapshot or a successor; `content` is the last write that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Made {
    token: (Role, u32),
    content: u8,
    done: bool,
    attached: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    api: Object,
    processes: [Process; PROCESSES],
    source: Option<Source>,
    /// How many writes the source has taken.
    written: u8,
    snapshots: Vec<Made>,
    disks: Vec<Made>,
    flights: BTreeSet<(Role, u32)>,
    left: Budget,
    /// The operator detached the source, so that the successor must take its place.
    displaced: bool,
    /// It was written down that a successor serves which misses a write, or is not in the place of its source.
    lied: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Look(usize),
    Act(usize),
    /// The request is sent and the answer lost; it is executed later or never.
    Lose(usize),
    Crash(usize),
    CatchUp(usize),
    Execute(Role, u32),
    Finish(Role),
    Write,
    Attach,
    Detach,
    Age,
}

/// The model, and the calm states that are known to end well.
struct Succeeding(Config, Mutex<HashSet<u64>>);

fn wanted(config: &Config) -> Wanted {
    let succession = Succession { disk_id: "d-0".into(), cutover: config.cutover, retire: config.retire };
    Wanted { succession: Some(succession), manage: true, key: "key-a".into(), ..Wanted::default() }
}

fn home() -> Place {
    Place { instance: "i-1".into(), delete_with_instance: false }
}

/// What a look shows to a process that holds this version of the object. Mirrors `observe`.
fn observed(config: &Config, state: &State, process: &Process, object: &Object) -> Observed {
    let recorded = object.intent;
    let claim = recorded
        .filter(|recorded| !recorded.aged)
        .and_then(|recorded| process.claim.filter(|(attempt, _)| *attempt == recorded.intent.attempt))
        .map(|(_, claim)| claim);
    let creation = Creation {
        intent: recorded.map(|recorded| recorded.intent),
        claim: claim.unwrap_or_default(),
        aged: recorded.is_some_and(|recorded| recorded.aged),
    };
    let origin = state.source.map(|source| origin(config, state, source));
    let attached = origin.as_ref().is_some_and(|origin| origin.place.is_some());
    let place_matters = (attached && !object.replaced) || object.origin_place;
    let disks = state.disks.iter().enumerate().map(|(index, disk)| Disk {
        id: format!("d-{}", index + 1),
        state: match (disk.done, disk.attached) {
            (false, _) => DiskState::Creating,
            (true, false) => DiskState::Available,
            (true, true) => DiskState::InUse,
        },
        protection: Protection::Exact,
        attached_to: disk.attached.then(|| home().instance),
        delete_with_instance: false,
        size_gib: 40,
        own: true,
        amendment: Amendment::default(),
        status: String::new(),
        drift: BTreeSet::new(),
    });
    let snapshots = state.snapshots.iter().enumerate().map(|(index, snapshot)| Snapshot {
        id: format!("s-{}", index + 1),
        state: if snapshot.done { SnapshotState::Ready } else { SnapshotState::Progressing },
    });
    Observed {
        key: KeyFact::Usable { id: "key-a".into(), service: false },
        repointed: None,
        source: SourceFact::Blank,
        disks: disks.collect(),
        known: object.disk.then(|| "d-1".into()),
        creation,
        role: recorded.map(|recorded| recorded.role).unwrap_or_default(),
        refusal: None,
        namesake: None,
        target: if place_matters { Target::At(home(), InstanceFact::Ready) } else { Target::Nowhere },
        placed: object.placed.then(home),
        heritage: Heritage {
            origin,
            origin_place: object.origin_place.then(home),
            place_is_given: config.flaw == Flaw::ForgetsThePlace,
            snapshots: snapshots.collect(),
            known_snapshot: object.snapshot.then(|| "s-1".into()),
            replaced: object.replaced,
        },
    }
}

fn origin(config: &Config, state: &State, source: Source) -> OriginDisk {
    let lies = config.flaw == Flaw::SnapshotsAttached;
    let attached = source.attached && !lies;
    let blind = config.flaw == Flaw::RetiresBlindly && state.api.replaced;
    let touched = source.touched && !lies && !blind;
    OriginDisk {
        id: "d-0".into(),
        state: if attached { DiskState::InUse } else { DiskState::Available },
        place: attached.then(home),
        protection: Protection::Plain,
        size_gib: 40,
        unsuitable: None,
        since: match (state.snapshots.is_empty(), touched) {
            (true, _) => Since::Unsaid,
            (false, true) => Since::Touched,
            (false, false) => Since::Untouched,
        },
    }
}

/// What the report remembers. Mirrors `report::remember_places` and what the engine adds.
fn report(
    config: &Config,
    observed: &Observed,
    decision: &Decision<DiskEffect>,
    process: &Process,
    object: &Object,
) -> Object {
    let mut next = object.clone();
    next.snapshot |= !observed.heritage.snapshots.is_empty();
    next.disk |= observed.disks.iter().any(|disk| disk.state != DiskState::Creating);
    next.placed = placed_next(&wanted(config), observed, decision).is_some();
    let attached = observed.heritage.origin.as_ref().is_some_and(|origin| origin.place.is_some());
    next.origin_place |= attached && !object.replaced && config.flaw != Flaw::ForgetsThePlace;
    next.replaced |= matches!(decision, Decision::Settled | Decision::Do(DiskEffect::Note(Noted::Replaced)));
    if let (Some(recorded), Some((attempt, claim))) = (next.intent.as_mut(), process.claim)
        && recorded.intent.attempt == attempt
        && claim == Claim::Accepted
        && recorded.intent.answered < recorded.intent.sends
    {
        recorded.intent.answered += 1;
        recorded.intent.accepted = true;
    }
    next
}

impl State {
    fn start(config: &Config) -> State {
        let version = Version { object: Object::default(), fresh: true };
        let process = Process { cache: version, hand: None, pending: None, claim: None };
        State {
            api: Object::default(),
            processes: [process.clone(), process],
            source: Some(Source { attached: true, touched: false }),
            written: 0,
            snapshots: Vec::new(),
            disks: Vec::new(),
            flights: BTreeSet::new(),
            left: config.budget,
            displaced: false,
            lied: false,
        }
    }

    /// The same state with interchangeable processes in one order: halves the space.
    fn in_order(mut self, processes: usize) -> State {
        if processes == PROCESSES && digest(&self.processes[1]) < digest(&self.processes[0]) {
            self.processes.swap(0, 1);
        }
        self
    }

    fn look(&mut self, config: &Config, index: usize) {
        let process = &self.processes[index];
        let hand = process.hand.clone().unwrap_or_else(|| process.cache.clone());
        let facts = observed(config, self, process, &hand.object);
        let decision = DiskMachine::decide(&Desired::Present(wanted(config)), &facts);
        let report = report(config, &facts, &decision, process, &hand.object);
        let in_place = |disk: &Made| disk.attached || !self.displaced;
        let whole = self.disks.iter().all(|disk| disk.content == self.written && in_place(disk));
        let process = &mut self.processes[index];
        (process.hand, process.pending) = (Some(hand), Some(Pending { decision, report, whole }));
    }

    /// A compare-and-swap of the version in hand. False if somebody was faster: then the newest is read.
    fn write(&mut self, index: usize, object: Object) -> bool {
        let fresh = self.processes[index].hand.as_ref().is_some_and(|hand| hand.fresh);
        if fresh {
            self.api = object;
            for process in &mut self.processes {
                process.cache.fresh = false;
                process.hand.iter_mut().for_each(|hand| hand.fresh = false);
            }
        }
        self.processes[index].hand = Some(Version { object: self.api.clone(), fresh: true });
        fresh
    }

    fn act(&mut self, config: &Config, index: usize) {
        let Some(Pending { decision, report, whole }) = self.processes[index].pending.take() else { return };
        let replaced = report.replaced && !self.api.replaced;
        match decision {
            Decision::Do(DiskEffect::Claim(role, take)) => self.take(index, role, take, report),
            Decision::Do(DiskEffect::Note(_)) => {
                self.lied |= self.write(index, report) && replaced && !whole;
            }
            Decision::Do(DiskEffect::Create { role, attempt }) => {
                if self.may_send(index, attempt) {
                    self.execute(role, attempt);
                    self.processes[index].claim = Some((attempt, Claim::Accepted));
                } else {
                    self.read_again(index);
                }
            }
            Decision::Do(DiskEffect::Attach { .. }) => {
                self.disks.iter_mut().filter(|disk| disk.done).for_each(|disk| disk.attached = true);
            }
            Decision::Do(DiskEffect::DetachSource { .. }) => {
                self.displaced = true;
                self.source.iter_mut().for_each(|source| source.attached = false);
            }
            Decision::Do(DiskEffect::RetireSource { id }) => {
                // Mirrors `act::retire`, which asks the same question again.
                let process = &self.processes[index];
                let Some(hand) = &process.hand else { return };
                let facts = observed(config, self, process, &hand.object);
                let again = DiskMachine::decide(&Desired::Present(wanted(config)), &facts);
                if again == Decision::Do(DiskEffect::RetireSource { id }) {
                    self.source = None;
                }
            }
            Decision::Do(DiskEffect::DeleteSnapshot { .. }) => self.snapshots.clear(),
            Decision::Do(other) => unreachable!("nothing asks for {other:?} here"),
            Decision::Settled | Decision::Wait(_) | Decision::Blocked(_) => {
                let news = self.processes[index].hand.as_ref().is_some_and(|hand| hand.object != report);
                if news && self.write(index, report) {
                    self.lied |= replaced && !whole;
                    let process = &mut self.processes[index];
                    process.claim = process.claim.filter(|(_, claim)| *claim != Claim::Accepted);
                }
                self.processes[index].hand = None;
            }
        }
    }

    fn take(&mut self, index: usize, role: Role, take: Take, mut report: Object) {
        let (attempt, sends, answered, accepted) = match (take, report.intent) {
            (Take::Record { attempt }, _) => (attempt, 1, 0, false),
            (Take::Replay { attempt }, Some(Recorded { intent, .. })) => {
                (attempt, intent.sends + 1, intent.answered, intent.accepted)
            }
            (Take::Replay { .. }, None) => return self.read_again(index),
        };
        let intent = Intent { attempt, sends, answered, accepted };
        report.intent = Some(Recorded { role, intent, aged: false });
        if self.write(index, report) {
            self.processes[index].claim = Some((attempt, Claim::Open));
        }
    }

    fn may_send(&self, index: usize, attempt: u32) -> bool {
        self.processes[index].claim == Some((attempt, Claim::Open))
    }

    fn read_again(&mut self, index: usize) {
        self.processes[index].hand = Some(Version { object: self.api.clone(), fresh: true });
    }

    /// CreateSnapshot or CreateDisk; the same token while its resource lives is the same resource.
    fn execute(&mut self, role: Role, attempt: u32) {
        let token = (role, attempt);
        let made = |content| Made { token, content, done: false, attached: false };
        match role {
            Role::Snapshot => {
                if self.source.is_some() && self.snapshots.iter().all(|snapshot| snapshot.token != token) {
                    self.snapshots.push(made(self.written));
                    self.source.iter_mut().for_each(|source| source.touched = source.attached);
                }
            }
            Role::Disk => {
                let of = self.snapshots.first().filter(|snapshot| snapshot.done).map(|one| one.content);
                if let (Some(content), true) = (of, self.disks.iter().all(|disk| disk.token != token)) {
                    self.disks.push(made(content));
                }
            }
        }
    }

    fn age(&mut self) {
        self.flights.clear();
        let State { api, processes, .. } = self;
        let versions = processes.iter_mut().flat_map(|process| {
            process.claim = process.claim.filter(|(_, claim)| *claim != Claim::Open);
            std::iter::once(&mut process.cache).chain(process.hand.iter_mut())
        });
        for object in versions.map(|version| &mut version.object).chain(std::iter::once(api)) {
            object.intent.iter_mut().for_each(|recorded| recorded.aged = true);
        }
    }
}

impl Model for Succeeding {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::start(&self.0)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for index in 0..self.0.processes {
            let process = &state.processes[index];
            match &process.pending {
                None => actions.push(Action::Look(index)),
                Some(pending) => {
                    actions.push(Action::Act(index));
                    let sends = matches!(pending.decision, Decision::Do(DiskEffect::Create { .. }));
                    actions.extend((sends && state.left.lost > 0).then_some(Action::Lose(index)));
                }
            }
            actions.extend((!process.cache.fresh).then_some(Action::CatchUp(index)));
            let remembers = process.hand.is_some() || process.claim.is_some();
            actions.extend((remembers && state.left.crashes > 0).then_some(Action::Crash(index)));
        }
        actions.extend(state.flights.iter().map(|(role, attempt)| Action::Execute(*role, *attempt)));
        for (role, made) in [(Role::Snapshot, &state.snapshots), (Role::Disk, &state.disks)] {
            actions.extend(made.iter().any(|one| !one.done).then_some(Action::Finish(role)));
        }
        let young = state.api.intent.is_some_and(|recorded| !recorded.aged);
        actions.extend((young && state.left.agings > 0).then_some(Action::Age));
        if let Some(source) = state.source {
            actions.extend((source.attached && state.left.writes > 0).then_some(Action::Write));
            let hand = if source.attached { Action::Detach } else { Action::Attach };
            actions.extend((state.left.hands > 0).then_some(hand));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let config = &self.0;
        match action {
            Action::Look(index) => state.look(config, index),
            Action::Act(index) => state.act(config, index),
            Action::Lose(index) => {
                state.left.lost -= 1;
                let pending = state.processes[index].pending.take().map(|pending| pending.decision);
                if let Some(Decision::Do(DiskEffect::Create { role, attempt })) = pending
                    && state.may_send(index, attempt)
                {
                    state.flights.insert((role, attempt));
                    state.processes[index].claim = Some((attempt, Claim::Unclear));
                }
                state.processes[index].hand = None;
            }
            Action::Crash(index) => {
                state.left.crashes -= 1;
                let process = &mut state.processes[index];
                (process.hand, process.pending, process.claim) = (None, None, None);
            }
            Action::CatchUp(index) => {
                state.processes[index].cache = Version { object: state.api.clone(), fresh: true }
            }
            Action::Execute(role, attempt) => {
                state.flights.remove(&(role, attempt));
                state.execute(role, attempt);
            }
            Action::Finish(role) => {
                let made = if role == Role::Snapshot { &mut state.snapshots } else { &mut state.disks };
                made.iter_mut().for_each(|one| one.done = true);
            }
            Action::Write => (state.left.writes, state.written) = (state.left.writes - 1, state.written + 1),
            Action::Attach | Action::Detach => {
                state.left.hands -= 1;
                let attached = action == Action::Attach;
                let taken = !state.snapshots.is_empty();
                state.source.iter_mut().for_each(|source| {
                    (source.attached, source.touched) = (attached, source.touched || (attached && taken))
                });
            }
            Action::Age => {
                state.left.agings -= 1;
                state.age();
            }
        }
        Some(state.in_order(config.processes))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut list = vec![
            Property::always("one snapshot and one successor", |_, state: &State| {
                state.snapshots.len() <= 1 && state.disks.len() <= 1
            }),
            Property::always("every write is in at least one place", |_, state: &State| {
                let serves = |disk: &Made| disk.done && disk.content == state.written;
                state.source.is_some() || state.disks.iter().any(serves)
            }),
            Property::always("the source goes only when asked", |model: &Self, state: &State| {
                state.source.is_some() || (model.0.retire && state.api.replaced)
            }),
            Property::always("ready is true: whole, and in place", |_, state: &State| !state.lied),
            Property::always("it ends well", |model: &Self, state: &State| ends_well(model, state)),
        ];
        if self.0.flaw == Flaw::None {
            list.push(Property::sometimes("a successor serves", |_, state: &State| {
                state.disks.iter().any(|disk| disk.attached) && state.api.replaced
            }));
            if self.0.retire {
                list.push(Property::sometimes("the source is retired", |_, state: &State| {
                    state.source.is_none() && state.snapshots.is_empty()
                }));
            }
            if self.0.budget.lost > 0 {
                list.push(Property::sometimes("an answer is lost", |_, state: &State| {
                    !state.flights.is_empty()
                }));
            }
            if self.0.budget.hands > 0 {
                list.push(Property::sometimes("somebody attaches the source again", |_, state: &State| {
                    state.source.is_some_and(|source| source.touched)
                }));
            }
        }
        list
    }
}

/// Stateright's `eventually` overlooks cycles, so convergence is checked of each single state. Once faults stop, a calm world settles; or it says that somebody attached the source again, or waits to be allowed.
fn ends_well(model: &Succeeding, state: &State) -> bool {
    const ROUNDS_MAX: usize = 40;
    let config = &model.0;
    let mut state = state.clone();
    let mut trail = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let before = digest(&(&state.api, &state.source, &state.snapshots, &state.disks));
        for (role, attempt) in std::mem::take(&mut state.flights) {
            state.execute(role, attempt);
        }
        state.snapshots.iter_mut().chain(state.disks.iter_mut()).for_each(|made| made.done = true);
        for index in 0..config.processes {
            state.processes[index].cache = Version { object: state.api.clone(), fresh: true };
            for _ in 0..ecskms::engine::reconcile::STEPS_MAX {
                if state.processes[index].pending.is_none() {
                    state.look(config, index);
                }
                state.act(config, index);
                if state.processes[index].hand.is_none() {
                    break;
                }
            }
        }
        let print = digest(&(&state.api, &state.processes, &state.source, &state.snapshots, &state.disks));
        if model.1.lock().is_ok_and(|known| known.contains(&print)) {
            return remember(model, trail);
        }
        trail.push(print);
        if before == digest(&(&state.api, &state.source, &state.snapshots, &state.disks)) {
            if is_goal(config, &mut state) {
                return remember(model, trail);
            }
            state.age();
        }
    }
    false
}

fn remember(model: &Succeeding, trail: Vec<u64>) -> bool {
    if let Ok(mut known) = model.1.lock() {
        known.extend(trail);
    }
    true
}

fn is_goal(config: &Config, state: &mut State) -> bool {
    use ecskms::decision::Reason;
    let touched = state.source.is_some_and(|source| source.touched || source.attached);
    (0..config.processes).all(|index| {
        state.processes[index].cache = Version { object: state.api.clone(), fresh: true };
        state.look(config, index);
        let decision = state.processes[index].pending.take().map(|pending| pending.decision);
        state.processes[index].hand = None;
        match decision {
            Some(Decision::Settled) => true,
            Some(Decision::Blocked(Reason::SourceChanged)) => touched,
            Some(Decision::Wait(wait)) => {
                wait.reason == Reason::CutoverPending && config.cutover == Cutover::WhenDetached && touched
            }
            _ => false,
        }
    })
}

fn prove(name: &str, config: Config, states: usize) {
    let checker = Succeeding(config, Mutex::default()).checker().threads(2).spawn_bfs().join();
    println!("{name}: {} states", checker.unique_state_count());
    assert!(checker.is_done(), "{name}: the space was not exhausted");
    checker.assert_properties();
    // Another number means another model: say why when it changes.
    assert_eq!(checker.unique_state_count(), states, "{name}");
}

/// Requires that the wrong way breaks one of the named properties.
fn refute(config: Config, broken: &[&str]) {
    let checker = Succeeding(config, Mutex::default())
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .threads(2)
        .spawn_bfs()
        .join();
    let found = checker.discoveries();
    assert!(
        broken.iter().any(|name| found.contains_key(*name)),
        "{:?} was not rejected: {:?}",
        config.flaw,
        found.keys()
    );
}

fn calm() -> Config {
    Config { processes: 1, cutover: Cutover::Now, retire: true, budget: Budget::default(), flaw: Flaw::None }
}

#[test]
fn no_write_is_missing_whoever_interferes() {
    let budget = Budget { writes: 2, hands: 2, ..Budget::default() };
    prove("successor, now", Config { budget, ..calm() }, 16_236);
    prove("successor, kept", Config { budget, retire: false, ..calm() }, 12_873);
    prove("successor, when detached", Config { budget, cutover: Cutover::WhenDetached, ..calm() }, 6_495);
}

#[test]
fn a_crash_and_a_lost_answer_are_survived() {
    let budget = Budget { writes: 1, crashes: 1, lost: 1, agings: 1, ..Budget::default() };
    prove("successor, crashes and lost answers", Config { budget, ..calm() }, 67_440);
    let budget = Budget { writes: 1, crashes: 1, hands: 1, ..Budget::default() };
    prove("successor, a crash and a hand", Config { budget, ..calm() }, 13_023);
}

#[test]
fn two_operators_make_one_successor() {
    let budget = Budget { writes: 1, ..Budget::default() };
    prove("successor, two processes", Config { processes: 2, retire: false, budget, ..calm() }, 197_856);
}

#[test]
fn wrong_ways_to_replace_a_disk_are_rejected() {
    let budget = Budget { writes: 1, hands: 2, crashes: 1, ..Budget::default() };
    let wrong = |flaw| Config { flaw, budget, ..calm() };
    let lost = ["every write is in at least one place", "ready is true: whole, and in place"];
    refute(wrong(Flaw::SnapshotsAttached), &lost);
    refute(wrong(Flaw::RetiresBlindly), &lost[..1]);
    let kept = Config { retire: false, ..wrong(Flaw::ForgetsThePlace) };
    refute(Config { budget: Budget { crashes: 1, ..Budget::default() }, ..kept }, &lost[1..]);
}
