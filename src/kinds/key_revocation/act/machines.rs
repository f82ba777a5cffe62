//! Stops the machines under the key before the cut, and starts again what was stopped.
//!
//! Only what certainly had no effect counts as refused. Whatever else may have stopped a machine leaves it among those that a
//! restoration starts: starting one that runs is refused and harms nobody, but one that is forgotten stands for ever.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rand::RngExt;

use super::super::api::KeyRevocation;
use super::super::decide::{Deed, Goal};
use super::super::notes::{ACCEPTED, Notes};
use super::super::report;
use super::{read_afresh, remember, summary};
use crate::alibaba::{self, BatchOutcome, Class};
use crate::kind::{Fault, World};

/// The cloud's word for an instance that does not exist.
pub const GONE: &str = "InvalidInstanceId.NotFound";
/// The cloud's word for an instance that is not in the state from which it could be stopped: it stands or is on its way.
const NOT_RUNNING: &str = "IncorrectInstanceStatus";
/// Instances of one batch call.
const BATCH: usize = 100;

/// What is known so far of each instance.
type Outcomes = Mutex<BTreeMap<String, String>>;

/// Every batch at once; the cut follows when all are answered or the deadline has passed, not when the machines are down.
pub async fn stop(object: &KeyRevocation, world: &World, notes: &Notes) -> Result<(), Fault> {
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let Some(stops) = object.status.as_ref().and_then(|status| status.stops.as_ref()) else {
        return Err(Fault::conflict("the recorded stops are not there any more; looking again"));
    };
    read_afresh(object, world, Goal::Revoked).await?;
    let outcomes = Outcomes::default();
    let calls = FuturesUnordered::new();
    for (ids, force) in [(&stops.instances, false), (&stops.forced, true)] {
        for batch in ids.chunks(BATCH) {
            calls.push(stop_batch(object, world, batch, force, &outcomes));
        }
    }
    let limit = Duration::from_secs(u64::from(object.spec.stop_deadline_seconds));
    let in_time = tokio::time::timeout(limit, calls.for_each(|()| async {})).await.is_ok();
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    for id in stops.instances.iter().chain(&stops.forced) {
        outcomes.entry(id.clone()).or_insert_with(|| format!("{}NotAnswered", report::UNCLEAR));
    }
    let details: Vec<(String, String)> = outcomes.into_iter().collect();
    let result = told(&details);
    let deed = Deed {
        at: world.clock.now().as_microsecond(),
        action: report::STOP,
        target: format!("{} instances", details.len()),
        request_id: None,
        result: if in_time { result } else { format!("deadline passed; {result}") },
        details,
    };
    remember(object, notes, deed);
    notes.answer_stops(uid, stops.requested_at.0.as_microsecond());
    Ok(())
}

/// Asks again at once for what was not reached, or not answered so that it can be understood; the caller's deadline ends it.
async fn stop_batch(
    object: &KeyRevocation,
    world: &World,
    batch: &[String],
    force: bool,
    outcomes: &Outcomes,
) {
    let mut open = batch.to_vec();
    while !open.is_empty() {
        let answers: Vec<(String, Result<(), alibaba::Error>)> =
            match world.cloud.stop_instances(&object.spec.region, &open, force).await {
                Ok(answers) => answers.into_iter().map(|answer| (answer.id, answer.result)).collect(),
                Err(error) => open.iter().map(|id| (id.clone(), Err(error.clone()))).collect(),
            };
        answers.iter().for_each(|(id, answer)| note(outcomes, id, answer));
        let again = |(id, answer): (String, Result<(), alibaba::Error>)| {
            answer.is_err_and(|error| is_asked_again(&error)).then_some(id)
        };
        open = answers.into_iter().filter_map(again).collect();
        if !open.is_empty() {
            let pause = rand::rng().random_range(Duration::ZERO..Duration::from_millis(400));
            tokio::time::sleep(pause).await;
            // Meanwhile the restoration may have begun elsewhere; whoever stopped a machine after it would leave it standing.
            if read_afresh(object, world, Goal::Revoked).await.is_err() {
                return;
            }
        }
    }
}

/// What passes by itself, and what was answered with something that is no answer.
fn is_asked_again(error: &alibaba::Error) -> bool {
    matches!(error.class, Class::Throttled | Class::Transient | Class::InProgress | Class::Defect)
}

/// Once a call may have reached the instance, a later refusal does not say that none did.
fn note(outcomes: &Outcomes, id: &str, answer: &Result<(), alibaba::Error>) {
    let mut known = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
    let before = known.get(id).map(String::as_str);
    let outcome = match answer {
        Ok(()) => ACCEPTED.to_owned(),
        // An instance that stands already, or is on its way, is as good as stopped.
        Err(error) if error.code == NOT_RUNNING => ACCEPTED.to_owned(),
        Err(error) if may_stop(error) || before.is_some_and(|before| before.starts_with(report::UNCLEAR)) => {
            format!("{}{}", report::UNCLEAR, error.code)
        }
        Err(error) => error.code.clone(),
    };
    known.insert(id.to_owned(), outcome);
}

/// True unless the refusal says for certain that nobody stops the instance: a call of another replica may have been accepted
/// where this one was throttled, or met an instance that was on its way already.
fn may_stop(error: &alibaba::Error) -> bool {
    !error.definite() || is_asked_again(error) || error.class == Class::Conflict
}

/// How many were accepted, which was refused, and which may stop although no answer says so.
fn told(details: &[(String, String)]) -> String {
    let (unclear, clear): (Vec<_>, Vec<_>) =
        details.iter().cloned().partition(|(_, outcome)| outcome.starts_with(report::UNCLEAR));
    let Some((id, outcome)) = unclear.first() else {
        return summary(details, |outcome| outcome == ACCEPTED);
    };
    let accepted = clear.iter().filter(|(_, outcome)| outcome == ACCEPTED).count();
    let refused = clear.iter().find(|(_, outcome)| outcome != ACCEPTED);
    let refused = refused.map(|(id, code)| format!("; {id}: {code}")).unwrap_or_default();
    let (all, count, code) = (details.len(), unclear.len(), outcome.trim_start_matches(report::UNCLEAR));
    format!("{accepted} of {all} accepted{refused}; {count} may stop all the same, {id}: {code}")
}

/// Starts what this revocation stopped, and stands.
pub async fn start(object: &KeyRevocation, world: &World, notes: &Notes) -> Result<(), Fault> {
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let Some(stops) = object.status.as_ref().and_then(|status| status.stops.as_ref()) else {
        return Err(Fault::conflict("the recorded stops are not there any more; looking again"));
    };
    read_afresh(object, world, Goal::Restored).await?;
    let ids: Vec<String> = stops.instances.iter().chain(&stops.forced).cloned().collect();
    let region = &object.spec.region;
    let shown = world.cloud.instances(region, &ids).await?;
    let runs = |id: &String| {
        let status = shown.iter().find(|instance| instance.id == *id).map(|instance| instance.status.word());
        status.is_some_and(|status| status != "Stopped")
    };
    let still: Vec<String> = ids.into_iter().filter(|id| !runs(id)).collect();
    let mut details = Vec::new();
    for batch in still.chunks(BATCH) {
        for BatchOutcome { id, result, .. } in world.cloud.start_instances(region, batch).await? {
            let code = match result {
                Ok(()) => ACCEPTED.to_owned(),
                Err(error) => {
                    notes.refuse_start(uid, &id, &error.code);
                    error.code
                }
            };
            details.push((id, code));
        }
    }
    let deed = Deed {
        at: world.clock.now().as_microsecond(),
        action: report::START,
        target: format!("{} instances", still.len()),
        request_id: None,
        result: summary(&details, |outcome| outcome == ACCEPTED),
        details,
    };
    remember(object, notes, deed);
    Ok(())
}
