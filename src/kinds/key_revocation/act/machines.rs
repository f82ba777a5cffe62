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
use super::super::decide::{Deed, Goal, Starts};
use super::super::notes::{Notes, StartTry};
use super::super::promise::ACCEPTED;
use super::super::request::BATCH;
use super::super::{journal, report};
use super::{read_afresh, remember, say, say_call, summary};
use crate::alibaba::{self, BatchOutcome, Class, Instance};
use crate::kind::{Fault, World};

/// The cloud's word for an instance that does not exist.
pub const GONE: &str = "InvalidInstanceId.NotFound";
/// The cloud's word for an instance that is not in the state from which it could be stopped: it stands or is on its way.
const NOT_RUNNING: &str = "IncorrectInstanceStatus";

/// What is known so far of each instance, and which requests said so.
#[derive(Default)]
struct Answers {
    outcomes: BTreeMap<String, String>,
    requests: Vec<String>,
}

type Outcomes = Mutex<Answers>;

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
    let Answers { mut outcomes, requests } = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    for id in stops.instances.iter().chain(&stops.forced) {
        outcomes.entry(id.clone()).or_insert_with(|| format!("{}NotAnswered", report::UNCLEAR));
    }
    let details: Vec<(String, String)> = outcomes.into_iter().collect();
    let result = told(&details);
    let deed = Deed {
        at: world.clock.now().as_microsecond(),
        action: report::STOP,
        target: format!("{} instances", details.len()),
        request_id: journal::requests(&requests),
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
        let answered = world.cloud.stop_instances(&object.spec.region, &open, force).await;
        let request_id = request_of(&answered);
        say_call(object, report::STOP, &format!("{} instances", open.len()), request_id.as_deref());
        outcomes.lock().unwrap_or_else(PoisonError::into_inner).requests.extend(request_id);
        let answers: Vec<(String, Result<(), alibaba::Error>)> = match answered {
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

/// The request that was about a whole batch.
fn request_of(answered: &Result<Vec<BatchOutcome>, alibaba::Error>) -> Option<String> {
    match answered {
        Ok(answers) => answers.first().and_then(|answer| answer.request_id.clone()),
        Err(error) => error.request_id.as_deref().map(str::to_owned),
    }
}

/// What passes by itself, and what was answered with something that is no answer.
fn is_asked_again(error: &alibaba::Error) -> bool {
    matches!(error.class, Class::Throttled | Class::Transient | Class::InProgress | Class::Defect)
}

/// Once a call may have reached the instance, a later refusal does not say that none did.
fn note(outcomes: &Outcomes, id: &str, answer: &Result<(), alibaba::Error>) {
    let known = &mut outcomes.lock().unwrap_or_else(PoisonError::into_inner).outcomes;
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

/// Starts what this revocation stopped, stands, and is due to be asked. The journal hears of it only where an instance answers
/// otherwise than the time before: what has no stock for hours must not push the incident out of it.
pub async fn start(object: &KeyRevocation, world: &World, notes: &Notes) -> Result<(), Fault> {
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let Some(status) = &object.status else { return Ok(()) };
    let Some(stops) = &status.stops else {
        return Err(Fault::conflict("the recorded stops are not there any more; looking again"));
    };
    read_afresh(object, world, Goal::Restored).await?;
    let ids: Vec<String> = stops.instances.iter().chain(&stops.forced).cloned().collect();
    let region = &object.spec.region;
    let shown = world.cloud.instances(region, &ids).await?;
    let due = |id: &String| standing(word_of(&shown, id), notes.start_try(uid, id).as_ref()) == Starts::Due;
    let due: Vec<String> = ids.into_iter().filter(due).collect();
    let (mut details, mut requests, mut news, mut failure) = (Vec::new(), Vec::new(), false, None);
    for batch in due.chunks(BATCH) {
        let answered = world.cloud.start_instances(region, batch).await;
        let request_id = request_of(&answered);
        say_call(object, report::START, &format!("{} instances", batch.len()), request_id.as_deref());
        requests.extend(request_id);
        match answered {
            Ok(answers) => details.extend(answers.into_iter().map(|BatchOutcome { id, result, .. }| {
                let outcome = result.err().map_or(ACCEPTED.to_owned(), |error| error.code);
                news |= notes.try_start(uid, &id, &outcome);
                (id, outcome)
            })),
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    let deed = Deed {
        at: world.clock.now().as_microsecond(),
        action: report::START,
        target: format!("{} instances", details.len()),
        request_id: journal::requests(&requests),
        result: summary(&details, |outcome| outcome == ACCEPTED),
        details,
    };
    // Another process may have written the same refusal.
    let last = status.journal.iter().rev().find(|entry| entry.action == report::START);
    let stands = deed.result != ACCEPTED
        && last.is_some_and(|last| (&last.target, &last.result) == (&deed.target, &deed.result));
    match news && !stands {
        true => remember(object, notes, deed),
        false => say(object, &deed),
    }
    failure.map_or(Ok(()), |error| Err(error.into()))
}

/// The cloud's word for the status of an instance, if it shows it.
pub fn word_of<'a>(shown: &'a [Instance], id: &str) -> Option<&'a str> {
    shown.iter().find(|instance| instance.id == *id).map(|instance| instance.status.word())
}

/// What is to be done about one instance that was stopped.
pub fn standing(status: Option<&str>, tried: Option<&StartTry>) -> Starts {
    match (status, tried) {
        (Some("Stopping" | "Pending"), _) => Starts::Moving,
        (Some("Stopped") | None, None) => Starts::Due,
        (Some("Stopped") | None, Some(tried)) if tried.outcome == GONE => Starts::None,
        // What is not shown can say no more than that it was accepted.
        (None, Some(tried)) if tried.outcome == ACCEPTED => Starts::None,
        (Some("Stopped") | None, Some(tried)) if tried.age >= tried.pause() => Starts::Due,
        (Some("Stopped"), Some(tried)) if tried.outcome == ACCEPTED && tried.times == 1 => Starts::Moving,
        (Some("Stopped") | None, Some(_)) => Starts::Refused,
        _ => Starts::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_is_refused_is_tried_again_ever_less_often_and_never_given_up() {
        let tried = |outcome: &str, times, seconds| StartTry {
            outcome: outcome.into(),
            times,
            age: Duration::from_secs(seconds),
        };
        let refused = |times, seconds| standing(Some("Stopped"), Some(&tried("NoStock", times, seconds)));
        assert_eq!((refused(1, 3), refused(1, 4)), (Starts::Refused, Starts::Due));
        assert_eq!((refused(3, 15), refused(3, 16)), (Starts::Refused, Starts::Due));
        assert_eq!((refused(u32::MAX, 299), refused(u32::MAX, 300)), (Starts::Refused, Starts::Due));
        assert_eq!(standing(None, Some(&tried("NoStock", 1, 0))), Starts::Refused, "also if it is not shown");
        assert_eq!(standing(None, Some(&tried(ACCEPTED, 1, 0))), Starts::None);
        assert_eq!(standing(Some("Stopped"), Some(&tried(ACCEPTED, 1, 0))), Starts::Moving, "lists lag");
        assert_eq!(standing(Some("Stopped"), Some(&tried(GONE, 1, 900))), Starts::None);
        assert_eq!(standing(Some("Running"), Some(&tried("NoStock", 1, 900))), Starts::None);
    }
}
