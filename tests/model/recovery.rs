//! "Always recoverable": from every reachable state, once faults stop, a calm world brings the promise about in a few passes.
//!
//! Stateright's `eventually` overlooks cycles, so convergence is checked as a property of each single state: play a fair,
//! fault-free schedule from it and see where it ends.

use crate::process::{Fate, Subject, act, catch_up, look, observe, open, send};
use crate::protocol::{Protocol, age};
use crate::world::{PROCESSES, State, Verdict, digest};

/// Rounds in which every process makes a pass and the world comes to rest; a protocol that needs more is going in circles.
const ROUNDS_MAX: usize = 16;

/// Steps of one pass; the engine's own limit is `engine::reconcile::STEPS_MAX`.
///
/// Looking and acting are one step there and two here.
const STEPS_MAX: usize = 2 * ecskms::engine::reconcile::STEPS_MAX;

/// True if a calm world settles from here.
pub fn recoverable<S: Subject>(model: &Protocol<S>, state: &State) -> bool {
    let mut state = state.clone();
    let mut trail = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let passes = (0..PROCESSES).all(|index| finish_pass(model, &mut state, index));
        if !passes {
            return false;
        }
        quiet(model, &mut state);
        let print = digest(&(&state.api, &state.processes, &state.cloud));
        if known(model, print) {
            return remember(model, &trail);
        }
        let stands_still = trail.last() == Some(&print);
        trail.push(print);
        if stands_still {
            if reached_goal(model, &state) {
                return remember(model, &trail);
            }
            if state.api.as_ref().is_none_or(|object| object.intent.is_none_or(|recorded| recorded.aged)) {
                return false;
            }
            age(&mut state);
        }
        (0..PROCESSES).for_each(|index| {
            observe::<S>(&model.config, &mut state, index);
        });
    }
    false
}

/// Nothing that was sent is left, every list has caught up, every copy is finished, every store is current.
fn quiet<S: Subject>(model: &Protocol<S>, state: &mut State) {
    for request in std::mem::take(&mut state.cloud.flights) {
        state.cloud.execute(request, false, true);
    }
    for resource in &mut state.cloud.resources {
        (resource.visible, resource.done) = (true, true);
    }
    (0..model.config.processes).for_each(|index| catch_up(state, index));
}

/// Carries a pass that is under way to its end, with every answer arriving.
fn finish_pass<S: Subject>(model: &Protocol<S>, state: &mut State, index: usize) -> bool {
    let config = &model.config;
    for _ in 0..STEPS_MAX {
        open(config, state, index);
        let process = &state.processes[index];
        match process.pending.map(|pending| pending.verdict) {
            None if process.hand.is_none() => return true,
            None => observe::<S>(config, state, index),
            Some(Verdict::Send(_) | Verdict::CreateBlind) => send(config, state, index, Fate::Answered),
            Some(_) => {
                act(config, state, index, true);
                open(config, state, index);
            }
        }
    }
    false
}

/// Gone if it is being deleted; else one resource that every process calls ready, or a blocker that only somebody else can
/// remove: a standing refusal, or a resource that was deleted behind the operator's back.
fn reached_goal<S: Subject>(model: &Protocol<S>, state: &State) -> bool {
    let Some(object) = &state.api else { return true };
    if object.deleting {
        return false;
    }
    state.processes[..model.config.processes].iter().all(|process| {
        let (pending, truthful) = look::<S>(&model.config, state, object, process.held);
        let gone =
            object.known.is_some_and(|id| state.cloud.resources.iter().all(|resource| resource.id != id));
        match pending.verdict {
            Verdict::Settled => truthful && state.cloud.resources.len() == 1,
            Verdict::Blocked => {
                object.refused || (gone && model.config.budget.intrusions > state.left.intrusions)
            }
            _ => false,
        }
    })
}

fn known<S: Subject>(model: &Protocol<S>, print: u64) -> bool {
    model.recovering.lock().is_ok_and(|recovering| recovering.contains(&print))
}

fn remember<S: Subject>(model: &Protocol<S>, trail: &[u64]) -> bool {
    if let Ok(mut recovering) = model.recovering.lock() {
        recovering.extend(trail);
    }
    true
}
