//! One process of the operator around the real `decide`: what it looks at, what it remembers, what it writes.
//!
//! A mirror of `engine::reconcile`, `kind::claims` and the `observe` of the kinds, reduced to what creation depends on. It
//! also knows the wrong turns of [`Flaw`], which the properties must reject.

use ecskms::decision::Creation;
use ecskms::decision::creation::Claim;
use stateright::Property;

use crate::protocol::{Config, Flaw, Protocol};
use crate::world::{Held, Object, Pending, Recorded, Request, Resource, Snapshot, State, Verdict};

/// What a kind lends to the model.
pub trait Subject: Send + Sync + 'static {
    /// Whether a known id that is gone is looked for by tags as well, also while the object stays.
    const LOOKS_AGAIN: bool = false;
    /// The real decision.
    fn decide(view: &View) -> Verdict;
    /// The real promise.
    fn holds(view: &View) -> bool;
    /// Whether the real report writes the id of such a resource into status.
    fn records(resource: &Resource) -> bool;
    /// What must happen somewhere: the effects that only this kind has.
    fn examples(config: &Config) -> Vec<Property<Protocol<Self>>>
    where
        Self: Sized;
}

/// Everything that a kind's `Desired` and `Observed` are built of.
pub struct View<'a> {
    /// The object in hand.
    pub object: &'a Object,
    /// What is known of the creation.
    pub creation: Creation,
    /// What the lookup showed.
    pub seen: &'a [Resource],
    /// Whether snapshots that status names are left.
    pub leftovers: bool,
    /// Whether the resource goes with the object.
    pub delete: bool,
}

/// What becomes of a request that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Executed and answered.
    Answered,
    /// No answer; executed later or never.
    Lost,
    /// As Lost, and the process dies.
    LostAndCrash,
    /// Refused before any effect.
    Refused,
    /// Throttled: certainly not executed.
    Throttled,
}

/// Looks and decides; the effect comes later. Mirrors the first half of `engine::reconcile::step`.
pub fn observe<S: Subject>(config: &Config, state: &mut State, index: usize) {
    let process = &state.processes[index];
    let Some(hand) = process.hand.clone().or(process.cache.clone()) else { return };
    let (pending, truthful) = look::<S>(config, state, &hand.object, process.held);
    let rests = matches!(pending.verdict, Verdict::Settled | Verdict::Wait | Verdict::Blocked);
    let ends = rests && !has_news(&hand.object, &pending, process.held);
    state.lied |= !truthful;
    let process = &mut state.processes[index];
    (process.hand, process.pending) = if ends { (None, None) } else { (Some(hand), Some(pending)) };
}

/// One look and one decision, and whether the decision tells the truth about the world as it really is.
pub fn look<S: Subject>(
    config: &Config,
    state: &State,
    object: &Object,
    held: Option<Held>,
) -> (Pending, bool) {
    let seen = lookup(config, state, object, held, S::LOOKS_AGAIN);
    let creation = believed(config, object, creation_facts(config, object, held));
    let leftovers = object.deleting && object.listed && state.cloud.snapshots > 0 && seen.is_empty();
    let view = View { object, creation, seen: &seen, leftovers, delete: config.delete };
    let verdict = finalizer_first(object, overrule(config, S::decide(&view)));
    let reported = seen.first().filter(|resource| object.deleting || S::records(resource));
    let pending = Pending {
        verdict,
        // A new attempt begins without what an earlier one made.
        known: match verdict {
            Verdict::Record(_) => None,
            _ => object.known.or(reported.map(|resource| resource.id)),
        },
        listed: object.listed
            || (config.snapshots && !object.deleting && reported.is_some_and(|resource| resource.done)),
        refused: object.refused,
    };
    let truthful = verdict != Verdict::Settled || S::holds(&View { seen: &state.cloud.resources, ..view });
    (pending, truthful)
}

/// Mirrors `engine::reconcile::needs_finalizer`.
fn finalizer_first(object: &Object, verdict: Verdict) -> Verdict {
    let needs = !object.finalizer && !object.deleting && (object.intent.is_some() || verdict.is_effect());
    if needs && verdict != Verdict::CreateBlind { Verdict::Secure } else { verdict }
}

/// True if `engine::reconcile::tell` would find a difference that matters here.
fn has_news(object: &Object, pending: &Pending, held: Option<Held>) -> bool {
    let answer = object.intent.is_some_and(|recorded| recorded_answer(recorded, held) != recorded);
    let first_ready = pending.verdict == Verdict::Settled && !object.settled;
    first_ready
        || (pending.known, pending.listed, pending.refused) != (object.known, object.listed, object.refused)
        || answer
}

/// Mirrors `World::creation`: once an attempt has aged, what this process remembers of it no longer counts.
fn creation_facts(config: &Config, object: &Object, held: Option<Held>) -> Creation {
    let Some(recorded) = object.intent else { return Creation::default() };
    let claim =
        held.filter(|held| held.attempt == recorded.attempt).map(|held| held.claim).unwrap_or_default();
    let forgets = recorded.aged && !matches!(config.flaw, Flaw::BelievesOldAnswer | Flaw::OpensLate);
    Creation {
        intent: Some(recorded.fact()),
        claim: if forgets { Claim::None } else { claim },
        aged: recorded.aged,
    }
}

/// Mirrors `find_disks` and `find_copies`: by known or answered id, else by tags; on deletion also by tags.
fn lookup(
    config: &Config,
    state: &State,
    object: &Object,
    held: Option<Held>,
    looks_again: bool,
) -> Vec<Resource> {
    let visible = || state.cloud.resources.iter().filter(|resource| resource.visible).copied();
    let answered = match creation_facts(config, object, held) {
        Creation { claim: Claim::Accepted, .. } => held.and_then(|held| held.id),
        _ => None,
    };
    if config.flaw == Flaw::Naive {
        return visible().filter(|resource| Some(resource.id) == object.known).collect();
    }
    if let Some(id) = object.known.or(answered) {
        let found: Vec<Resource> = visible().filter(|resource| resource.id == id).collect();
        let by_id_alone = !(object.deleting || looks_again) || config.flaw == Flaw::DepartsById;
        if by_id_alone || !found.is_empty() {
            return found;
        }
    }
    visible().collect()
}

/// What the wrong protocols make of the facts before the real decision sees them.
fn believed(config: &Config, object: &Object, mut creation: Creation) -> Creation {
    match config.flaw {
        // Looks like nothing in flight, and like something seen: what the first version of the product believed.
        Flaw::LeavesUnseen if object.deleting && creation.claim == Claim::Accepted => {
            creation = Creation::default()
        }
        Flaw::RefusalClears if creation.claim == Claim::Refused => {
            if let Some(intent) = creation.intent.as_mut() {
                intent.answered = intent.sends;
            }
        }
        Flaw::LeavesOnceDeleted if object.deleting && object.known.is_some() => {
            creation = Creation::default()
        }
        _ => {}
    }
    creation
}

/// What the wrong protocols decide instead.
fn overrule(config: &Config, verdict: Verdict) -> Verdict {
    let blind = matches!(config.flaw, Flaw::Naive | Flaw::LooksThenCreates);
    match verdict {
        Verdict::Record(_) if blind => Verdict::CreateBlind,
        other => other,
    }
}

/// Performs what was decided, unless it is a send. Mirrors the second half of `step`. `heard` is false if the answer of the
/// write is lost on its way back.
pub fn act(config: &Config, state: &mut State, index: usize, heard: bool) {
    let process = &mut state.processes[index];
    let (Some(pending), Some(hand)) = (process.pending.take(), process.hand.clone()) else { return };
    let held = process.held;
    if pending.verdict == Verdict::Leave && config.flaw != Flaw::LeavesArmed {
        // Mirrors `Claims::renounce`.
        expire(state, index);
    }
    let won = match pending.verdict {
        Verdict::Secure => state.write(index, |object| object.finalizer = true),
        Verdict::Record(attempt) => state.write(index, |object| {
            let large = object.large;
            (object.known, object.settled) = (None, false);
            object.intent =
                Some(Recorded { attempt, sends: 1, answered: 0, accepted: false, aged: false, large });
        }),
        Verdict::Replay(_) => state.write(index, |object| {
            object.intent = object.intent.map(|recorded| {
                let counted = recorded_answer(recorded, held);
                Recorded { sends: counted.sends + 1, aged: false, ..counted }
            });
        }),
        Verdict::Remove(id) | Verdict::Cancel(id) => {
            state.cloud.remove(id, config.snapshots && matches!(pending.verdict, Verdict::Remove(_)));
            return;
        }
        Verdict::Grow(id) => {
            state
                .cloud
                .resources
                .iter_mut()
                .filter(|resource| resource.id == id)
                .for_each(|resource| resource.large = true);
            return;
        }
        Verdict::DropSnapshot => {
            state.cloud.snapshots = state.cloud.snapshots.saturating_sub(1);
            return;
        }
        Verdict::Leave => state.write(index, |object| object.finalizer = false),
        Verdict::Settled | Verdict::Wait | Verdict::Blocked => state.write(index, |object| {
            (object.known, object.listed, object.refused) = (pending.known, pending.listed, pending.refused);
            object.settled |= pending.verdict == Verdict::Settled;
            object.intent = object.intent.map(|recorded| recorded_answer(recorded, held));
        }),
        Verdict::Send(_) | Verdict::CreateBlind => return,
    };
    match (won, heard) {
        (false, _) => read_again(state, index),
        (true, false) => unheard(config, state, index, &hand),
        (true, true) => written(state, index, pending.verdict),
    }
}

/// What follows a write that is known to have won.
fn written(state: &mut State, index: usize, verdict: Verdict) {
    match verdict {
        Verdict::Secure => {}
        Verdict::Record(attempt) | Verdict::Replay(attempt) => {
            state.processes[index].won = Some((attempt, false))
        }
        Verdict::Leave => let_go(state, index),
        _ => {
            forget_answered(state, index);
            end_pass(state, index);
        }
    }
}

/// The write took effect and nobody was told: the pass ends as a fault, and its own note of that finds a newer version.
///
/// Mirrors `Claims::take_answered`: an answer that may have been counted is forgotten.
fn unheard(config: &Config, state: &mut State, index: usize, before: &Snapshot) {
    if config.flaw != Flaw::CountsTwice {
        forget_answered(state, index);
    }
    state.processes[index].hand = Some(Snapshot { fresh: false, ..before.clone() });
    end_pass(state, index);
}

/// A conflict: the pass goes on with the newest version. Mirrors `Context::fetch` in `pass`.
fn read_again(state: &mut State, index: usize) {
    match state.read() {
        Some(snapshot) => state.processes[index].hand = Some(snapshot),
        None => let_go(state, index),
    }
}

/// The winner of a claim hears of it. Mirrors `Claims::open`, which counts the send window from before the write.
pub fn open(config: &Config, state: &mut State, index: usize) {
    let process = &mut state.processes[index];
    let Some((attempt, expired)) = process.won.take() else { return };
    let claim = if expired && config.flaw != Flaw::OpensLate { Claim::Refused } else { Claim::Open };
    process.held = Some(Held { attempt, claim, id: None });
}

/// Mirrors `World::send_once`, which looks at the claim immediately before the send.
pub fn send(config: &Config, state: &mut State, index: usize, fate: Fate) {
    let process = &mut state.processes[index];
    let Some(pending) = process.pending.take() else { return };
    let Some(request) = request(config, state, index, pending) else { return read_again(state, index) };
    let (claim, id) = match fate {
        Fate::Answered => {
            let executed = state.cloud.execute(request, config.lag, config.instant);
            state.mismatched |= executed.mismatched;
            (Claim::Accepted, Some(executed.id))
        }
        Fate::Lost | Fate::LostAndCrash => {
            state.cloud.flights.push(request);
            (Claim::Unclear, None)
        }
        Fate::Refused => (Claim::Refused, None),
        Fate::Throttled => (Claim::Open, None),
    };
    let process = &mut state.processes[index];
    if let Some(held) = process.held.as_mut() {
        (held.claim, held.id) = (claim, id);
    }
    match fate {
        Fate::Answered if pending.verdict == Verdict::CreateBlind => {
            process.pending = Some(Pending { verdict: Verdict::Settled, known: id, ..pending });
        }
        Fate::Answered => {}
        // `tell_fault` writes the refusal down, and the answer with it.
        Fate::Refused => {
            let refused = config.refusals_stand;
            process.pending = Some(Pending { verdict: Verdict::Blocked, refused, ..pending });
        }
        Fate::LostAndCrash => crash(state, index),
        Fate::Lost | Fate::Throttled => end_pass(state, index),
    }
}

/// The request that may be sent now; None if the right to send it has passed.
fn request(config: &Config, state: &State, index: usize, pending: Pending) -> Option<Request> {
    /// Tokens that no attempt has.
    const BLIND: u8 = 100;
    let process = &state.processes[index];
    let object = &process.hand.as_ref()?.object;
    if pending.verdict == Verdict::CreateBlind {
        let used = u8::try_from(state.cloud.flights.len()).unwrap_or(u8::MAX);
        return Some(Request { token: BLIND + state.cloud.made + used, large: object.large });
    }
    let recorded = object.intent?;
    let held = process.held.filter(|held| held.attempt == recorded.attempt && held.claim == Claim::Open)?;
    let token = match config.flaw {
        Flaw::FreshToken => recorded.attempt * 10 + recorded.sends,
        _ => held.attempt,
    };
    let large = if config.flaw == Flaw::RebuildsRequest { object.large } else { recorded.large };
    Some(Request { token, large })
}

/// Mirrors `engine::reconcile::record_answer`.
fn recorded_answer(recorded: Recorded, held: Option<Held>) -> Recorded {
    let own = held.filter(|held| held.attempt == recorded.attempt).map(|held| held.claim);
    match own {
        Some(claim @ (Claim::Accepted | Claim::Refused)) if recorded.answered < recorded.sends => Recorded {
            answered: recorded.answered + 1,
            accepted: recorded.accepted || claim == Claim::Accepted,
            ..recorded
        },
        _ => recorded,
    }
}

/// Mirrors `Claims::forget_answered`.
fn forget_answered(state: &mut State, index: usize) {
    let held = &mut state.processes[index].held;
    *held = held.filter(|held| !matches!(held.claim, Claim::Accepted | Claim::Refused));
}

/// Mirrors `Context::let_go`.
fn let_go(state: &mut State, index: usize) {
    state.processes[index].held = None;
    end_pass(state, index);
}

/// The pass ends; what the process remembers stays.
pub fn end_pass(state: &mut State, index: usize) {
    let process = &mut state.processes[index];
    (process.hand, process.pending) = (None, None);
}

/// The process dies and starts anew. It may still be served an old version by its first list.
pub fn crash(state: &mut State, index: usize) {
    let process = &mut state.processes[index];
    (process.hand, process.pending, process.held, process.won) = (None, None, None, None);
}

/// The store hears of the newest version.
pub fn catch_up(state: &mut State, index: usize) {
    let newest = state.read();
    let process = &mut state.processes[index];
    if newest.is_none() {
        (process.held, process.won, process.hand, process.pending) = (None, None, None, None);
    }
    process.cache = newest;
}

/// A claim that was open runs out. Mirrors `Claims::view`.
pub fn expire(state: &mut State, index: usize) {
    let process = &mut state.processes[index];
    if let Some(held) = process.held.as_mut().filter(|held| held.claim == Claim::Open) {
        held.claim = Claim::Refused;
    }
    if let Some(won) = process.won.as_mut() {
        won.1 = true;
    }
}
