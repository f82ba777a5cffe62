//! The reconcile loop, written once for every kind: look, decide, do one thing, look again; then tell what was seen.
//!
//! Nothing is written that changes nothing, and every write is a compare-and-swap on the object that was looked at.

use std::sync::Arc;
use std::time::Duration;

use kube::api::Patch;
use serde_json::json;
use tokio::time::Instant;
use tracing::Instrument;

use super::conditions::{Standing, conditions, standing_facts};
use super::controller::{Context, as_ecskms};
use super::merge::{difference, to_value};
use super::news::{is_old_news, is_ready};
use super::pace::{Outcome, Pace, is_outage, pace};
use crate::decision::reason::Mover;
use crate::decision::report::{Report, Truth};
use crate::decision::{Decision, Effect, Machine, Reason, Take, WaitPace};
use crate::kind::{
    EffectOf, Fault, FaultClass, Invalid, Kind, KindStatus, Lane, Obstacle, Owner, World, requested_at,
};
use crate::resource::{FINALIZER, IntentRecord, LastError};

/// How many steps one pass may take before it must give way; a kind that needs more is going in circles.
pub const STEPS_MAX: usize = 12;
/// How long one pass may take in all.
pub const PASS_MAX: Duration = Duration::from_secs(120);
/// The word for an effect that the next look does not show.
const NOT_SEEN: &str = "NotSeenYet";
/// How soon it is looked for again, at first.
const NOT_SEEN_WAIT: Duration = Duration::from_secs(2);
/// How often in a row that is nothing to tell: lists lag.
const NOT_SEEN_QUIET: u32 = 3;

/// One pass over one object, and when to come back; None: when it changes. Never fails: faults are outcomes.
pub async fn reconcile<K: Kind>(object: Arc<K>, ctx: Arc<Context<K>>) -> Option<Duration> {
    let span = tracing::info_span!(
        "reconcile",
        kind = %K::kind(&()),
        namespace = object.meta().namespace.as_deref().unwrap_or_default(),
        name = object.meta().name.as_deref().unwrap_or_default(),
        generation = object.meta().generation.unwrap_or_default(),
    );
    let uid = object.meta().uid.clone().unwrap_or_default();
    let begun = Instant::now();
    let outcome =
        match tokio::time::timeout(PASS_MAX, pass((*object).clone(), &ctx).instrument(span.clone())).await {
            Ok(outcome) => outcome,
            Err(_) => tell_late(&*object, &ctx).instrument(span).await,
        };
    ctx.metrics.observe_pass(&K::kind(&()), &outcome, begun.elapsed());
    let failures = ctx.count_failure(&uid, &outcome);
    let sooner = match &outcome {
        Outcome::Fault(_) | Outcome::Gone | Outcome::Blocked(_) => None,
        Outcome::Settled | Outcome::Waiting(_) => object.look_again(&ctx.shared, ctx.world.clock.now()),
    };
    match pace(K::LANE, &outcome, failures) {
        Pace::OnChange => sooner,
        Pace::After(delay) => Some(sooner.into_iter().fold(ctx.soften(delay, &outcome), Duration::min)),
    }
}

async fn pass<K: Kind>(mut object: K, ctx: &Context<K>) -> Outcome {
    let mut done = None;
    for _ in 0..STEPS_MAX {
        let fault = match step(&object, ctx, &mut done).await {
            Ok(Next::Again(fresh)) => {
                object = *fresh;
                continue;
            }
            Ok(Next::Done(outcome)) => return outcome,
            Err(fault) => fault,
        };
        match fault.class {
            FaultClass::Gone => return ctx.let_go(&object),
            // Somebody else wrote the object: the decision stood on an old look, so look at the new one.
            FaultClass::Conflict if fault.code == "Conflict" => match ctx.fetch(&object).await {
                Ok(Some(fresh)) => object = fresh,
                Ok(None) => return ctx.let_go(&object),
                Err(fault) => return Outcome::Fault(fault),
            },
            _ if fault.code == NOT_SEEN && ctx.failures(uid_of(&object)) < NOT_SEEN_QUIET => {
                return Outcome::Fault(fault);
            }
            _ => return tell_fault(&object, ctx, fault).await,
        }
    }
    let restless = "The object did not come to rest within one pass. It is tried again; please report this.";
    let fault = Fault::defect("Restless", restless);
    // Long work, such as the deletion of many snapshots, may need a second pass.
    if ctx.failures(uid_of(&object)) < NOT_SEEN_QUIET {
        tracing::warn!("{}", fault.message);
        return Outcome::Fault(fault);
    }
    tell_fault(&object, ctx, fault).await
}

/// Tells that a pass took too long, on the object as it stands: the pass itself may have written it.
async fn tell_late<K: Kind>(object: &K, ctx: &Context<K>) -> Outcome {
    let text = "One pass over the object took too long, because the cloud or the Kubernetes API answers slowly. It is tried again.";
    let fault = Fault {
        class: FaultClass::Transient,
        reason: Reason::CloudUnavailable,
        ..Fault::defect("Timeout", text)
    };
    // In an emergency the next try is worth more than the telling.
    if K::LANE == Lane::Ordinary
        && let Ok(found) = ctx.fetch(object).await
    {
        return match found {
            Some(fresh) => tell_fault(&fresh, ctx, fault).await,
            None => ctx.let_go(object),
        };
    }
    tracing::warn!("{}", fault.message);
    Outcome::Fault(fault)
}

enum Next<K> {
    Again(Box<K>),
    Done(Outcome),
}

/// One look, one decision, and at most one mutation, which is noted in `done`.
async fn step<K: Kind>(
    object: &K,
    ctx: &Context<K>,
    done: &mut Option<EffectOf<K>>,
) -> Result<Next<K>, Fault> {
    let desired = match object.desired() {
        Ok(desired) => desired,
        Err(invalid) => return tell_invalid(object, ctx, &invalid).await.map(Next::Done),
    };
    let world = match ctx.world.of(object).await? {
        Ok(world) => world,
        Err(obstacle) => return tell_obstacle(object, ctx, obstacle).await.map(Next::Done),
    };
    let account = account_of(object, &world).await?;
    let observed = object.observe(&desired, &world, &ctx.shared).await?;
    let decision = K::Machine::decide(&desired, &observed);
    tracing::debug!(?decision, "decided");
    let leaving = object.meta().deletion_timestamp.is_some();
    if !has_finalizer(object) && !leaving && object.wants_finalizer(&decision) {
        return ctx.add_finalizer(object).await.map(Box::new).map(Next::Again);
    }
    let now = ctx.world.clock.now();
    // Made only where it is written: a mutation that allows no delay does not wait for it.
    let report = || object.report(&desired, &observed, &decision, now);
    let settled = object.settled(&desired, &observed);
    match &decision {
        Decision::Do(effect) if effect.records() => {
            ctx.metrics.count_effect(&K::kind(&()), effect.name());
            record(object, ctx, &decision, settled, pinned(report(), account))
                .await
                .map(Box::new)
                .map(Next::Again)
        }
        Decision::Do(effect) => match effect.claim() {
            Some(take) => {
                let taken = Instant::now();
                let record = take_claim(object, take, effect.role(), ctx, |owner, attempt| {
                    object.request(&desired, &observed, owner, attempt)
                })?;
                let report = pinned(report(), account);
                claim(object, ctx, &decision, report, record, taken).await.map(Box::new).map(Next::Again)
            }
            None if K::LANE == Lane::Ordinary && done.as_ref() == Some(effect) => Err(not_seen(effect)),
            None => {
                ctx.metrics.count_effect(&K::kind(&()), effect.name());
                object.act(&world, &ctx.shared, effect).await?;
                *done = Some(effect.clone());
                Ok(Next::Again(Box::new(object.clone())))
            }
        },
        Decision::Settled if leaving => {
            object.last_words(&world).await?;
            ctx.world.claims.renounce(uid_of(object));
            ctx.remove_finalizer(object).await?;
            Ok(Next::Done(ctx.let_go(object)))
        }
        Decision::Settled => {
            let report = pinned(report(), account);
            tell(object, ctx, &decision, settled, report).await.map(|()| Next::Done(Outcome::Settled))
        }
        Decision::Wait(wait) => tell(object, ctx, &decision, settled, report())
            .await
            .map(|()| Next::Done(Outcome::Waiting(wait.pace))),
        Decision::Blocked(reason) => tell(object, ctx, &decision, settled, report())
            .await
            .map(|()| Next::Done(Outcome::Blocked(*reason))),
    }
}

/// The account that the object is bound to, or will be. None where nobody asks: in an emergency, and for what is kept when its
/// object goes.
pub(super) async fn account_of<K: Kind>(object: &K, world: &World) -> Result<Option<String>, Fault> {
    let kept = object.meta().deletion_timestamp.is_some() && object.keeps_what_it_made();
    match K::PINNED && K::LANE == Lane::Ordinary && !kept {
        true => world.same_account(object.status().map(KindStatus::shared)).await.map(Some),
        false => Ok(None),
    }
}

/// What is about to be made, or was seen to be there, is in this account from now on. Not written before that: an object for which
/// nothing was ever made is bound to none.
fn pinned<S: KindStatus>(mut report: Report<S>, account: Option<String>) -> Report<S> {
    let shared = report.status.shared_mut();
    shared.account_id = account.or(shared.account_id.take());
    report
}

/// The same effect twice in a row: the cloud does not show yet what was done, and doing it again makes that no faster.
fn not_seen(effect: &impl Effect) -> Fault {
    let name = effect.name();
    let text = format!("The cloud accepted {name}, but does not show its effect yet. It is tried again.");
    Fault {
        class: FaultClass::Transient,
        reason: effect.reason(),
        retry_after: Some(NOT_SEEN_WAIT),
        ..Fault::defect(NOT_SEEN, text)
    }
}

fn uid_of<K: Kind>(object: &K) -> &str {
    object.meta().uid.as_deref().unwrap_or_default()
}

/// It comes back if somebody took it off an object that still wants it.
pub(super) fn has_finalizer<K: Kind>(object: &K) -> bool {
    object.meta().finalizers.as_ref().is_some_and(|list| list.iter().any(|name| name == FINALIZER))
}

/// The intent that the claim writes: a new attempt, or one more send of the recorded one.
fn take_claim<K: Kind>(
    object: &K,
    take: Take,
    role: Option<&str>,
    ctx: &Context<K>,
    request: impl FnOnce(&Owner, u32) -> std::collections::BTreeMap<String, String>,
) -> Result<IntentRecord, Fault> {
    let owner = Owner::of(&ctx.world.settings.cluster, object);
    let recorded_at = k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(ctx.world.clock.now());
    let recorded = object.status().and_then(|status| status.shared().intent.clone());
    match (take, recorded) {
        (Take::Record { attempt }, _) => {
            let (parameters, role) = (request(&owner, attempt), role.map(str::to_owned));
            Ok(IntentRecord {
                attempt,
                role,
                sends: 1,
                answered: 0,
                accepted: false,
                recorded_at,
                parameters,
            })
        }
        (Take::Replay { attempt }, Some(mut record)) if record.attempt == attempt => {
            record_answer(&mut record, ctx, &owner.uid);
            Ok(IntentRecord { sends: record.sends + 1, recorded_at, ..record })
        }
        (Take::Replay { .. }, _) => {
            Err(Fault::conflict("the recorded attempt is another one; looking again"))
        }
    }
}

/// Writes the intent by compare-and-swap; only its winner holds the claim.
async fn claim<K: Kind>(
    object: &K,
    ctx: &Context<K>,
    decision: &Decision<EffectOf<K>>,
    report: Report<K::Status>,
    record: IntentRecord,
    taken: Instant,
) -> Result<K, Fault> {
    let (attempt, replay) = (record.attempt, record.sends > 1);
    let uid = uid_of(object);
    let mut status = full_status(object, ctx, &Standing::of_decision(decision, Reason::Available), report);
    status.shared_mut().intent = Some(record);
    let written = write_status(object, ctx, &status).await?;
    ctx.world.claims.open(uid, attempt, taken, replay);
    Ok(written)
}

/// Writes down what is about to be done, by compare-and-swap, and returns the object that says so.
async fn record<K: Kind>(
    object: &K,
    ctx: &Context<K>,
    decision: &Decision<EffectOf<K>>,
    settled: Reason,
    report: Report<K::Status>,
) -> Result<K, Fault> {
    let mut status = full_status(object, ctx, &Standing::of_decision(decision, settled), report);
    if let Some(record) = &mut status.shared_mut().intent {
        record_answer(record, ctx, uid_of(object));
    }
    let written = write_status(object, ctx, &status).await?;
    ctx.alarm(object, &status).await;
    Ok(written)
}

/// Writes what was seen, if it says anything new. What this process knows of answered sends rides along.
async fn tell<K: Kind>(
    object: &K,
    ctx: &Context<K>,
    decision: &Decision<EffectOf<K>>,
    settled: Reason,
    report: Report<K::Status>,
) -> Result<(), Fault> {
    let mut status = full_status(object, ctx, &Standing::of_decision(decision, settled), report);
    if object.status() == Some(&status) {
        return Ok(());
    }
    let uid = uid_of(object);
    if let Some(record) = &mut status.shared_mut().intent {
        record_answer(record, ctx, uid);
        if matches!(decision, Decision::Settled) {
            record.parameters.clear();
        }
    }
    write_status(object, ctx, &status).await?;
    ctx.announce(object, &status).await;
    Ok(())
}

fn record_answer<K: Kind>(record: &mut IntentRecord, ctx: &Context<K>, uid: &str) {
    use crate::decision::creation::Claim;
    let (claim, _) = ctx.world.claims.view(uid, record.attempt, ctx.world.settings.send_window);
    if matches!(claim, Claim::Accepted | Claim::Refused) && record.answered < record.sends {
        record.answered += 1;
        record.accepted |= claim == Claim::Accepted;
    }
}

/// The report with everything that the engine adds: generation, echo of the request, error, conditions.
fn full_status<K: Kind>(
    object: &K,
    ctx: &Context<K>,
    standing: &Standing,
    report: Report<K::Status>,
) -> K::Status {
    let mut status = report.status;
    let generation = object.meta().generation;
    // Ready speaks of what was there before the request until that is answered.
    let early = standing.ready == Truth::True && !object.answered(&status);
    let shared = status.shared_mut();
    let explains = |error: &LastError| standing.stalled && error.reason == standing.reason.as_str();
    shared.last_error = shared.last_error.take().filter(explains);
    // What the cloud said of a standing refusal, request id included, is worth more than that it was refused.
    let told =
        shared.conditions.iter().find(|condition| condition.type_ == "Ready" && shared.last_error.is_some());
    let message = told.map_or(report.message, |condition| condition.message.clone());
    let list =
        conditions(&shared.conditions, standing, &message, &report.facts, generation, ctx.world.clock.now());
    shared.conditions = list;
    shared.observed_generation = generation;
    if !early {
        shared.last_handled_reconcile_at =
            requested_at(object).map(|value| value.chars().take(256).collect());
    }
    status
}

async fn tell_invalid<K: Kind>(object: &K, ctx: &Context<K>, invalid: &Invalid) -> Result<Outcome, Fault> {
    let status = object.status().cloned().unwrap_or_default();
    let report = Report {
        status,
        facts: Vec::new(),
        message: format!("{} Correct the object.", sentence(&invalid.message)),
    };
    let status = full_status(object, ctx, &Standing::blocked(invalid.reason), report);
    write_news(object, ctx, status).await?;
    Ok(Outcome::Blocked(invalid.reason))
}

/// Says why the object's account cannot be used. What was seen of the resource before stays as it was.
async fn tell_obstacle<K: Kind>(object: &K, ctx: &Context<K>, obstacle: Obstacle) -> Result<Outcome, Fault> {
    let (standing, outcome) = match obstacle.reason.mover() {
        Mover::Time => (Standing::moving(obstacle.reason), Outcome::Waiting(WaitPace::Minutes)),
        _ => (Standing::blocked(obstacle.reason), Outcome::Blocked(obstacle.reason)),
    };
    let before = object.status().cloned().unwrap_or_default();
    // An account that is only being looked at anew does not take Ready away from everything in it; but what is asked for meanwhile,
    // be it the end, is not done. In the emergency lane Ready says that the key is watched over, which it is not.
    let meta = object.meta();
    let asked = meta.deletion_timestamp.is_some() || before.shared().observed_generation != meta.generation;
    let doubt = object.in_doubt(ctx.world.clock.now(), !standing.reconciling);
    let quiet = K::LANE == Lane::Ordinary && standing.reconciling && !asked && doubt.is_empty();
    if quiet && is_ready(before.shared()) {
        return Ok(outcome);
    }
    let kept = standing_facts(&before.shared().conditions, &doubt);
    let report = Report { status: before, facts: doubt, message: sentence(&obstacle.message) };
    let mut status = full_status(object, ctx, &standing, report);
    status.shared_mut().conditions.extend(kept);
    write_news(object, ctx, status).await?;
    Ok(outcome)
}

/// Writes a status that rests on no new look at the cloud, if it says anything new.
async fn write_news<K: Kind>(object: &K, ctx: &Context<K>, mut status: K::Status) -> Result<(), Fault> {
    if object.status() == Some(&status) {
        return Ok(());
    }
    if let Some(record) = &mut status.shared_mut().intent {
        record_answer(record, ctx, uid_of(object));
    }
    write_status(object, ctx, &status).await?;
    ctx.announce(object, &status).await;
    Ok(())
}

pub(super) fn sentence(text: &str) -> String {
    if text.ends_with('.') { text.to_owned() } else { format!("{text}.") }
}

/// Writes a fault down, unless it passes by itself on an object that is Ready and leaves nothing there in doubt, or says what status
/// already says.
async fn tell_fault<K: Kind>(object: &K, ctx: &Context<K>, fault: Fault) -> Outcome {
    tracing::warn!(class = %fault.class, code = %fault.code, request_id = fault.request_id.as_deref(), "{}", fault.message);
    let standing = Standing::of_fault(&fault);
    let mut status = object.status().cloned().unwrap_or_default();
    let generation = object.meta().generation;
    let error = LastError {
        code: fault.code.chars().take(256).collect(),
        request_id: fault.request_id.clone(),
        class: fault.class.as_str().to_owned(),
        reason: fault.reason.as_str().to_owned(),
        generation: generation.unwrap_or_default(),
    };
    let failures = ctx.failures(uid_of(object));
    let shown = status.shared();
    // Whoever revokes must know soon that it cannot be looked at; and what was just asked for cannot be Ready.
    let asked = shown.observed_generation != generation;
    let pressing = match K::LANE {
        Lane::Emergency => is_outage(failures) || asked,
        // What was asked for is not done, though what stands is well.
        Lane::Ordinary => (asked || object.meta().deletion_timestamp.is_some()) && failures >= NOT_SEEN_QUIET,
    };
    let now = ctx.world.clock.now();
    let doubt = object.in_doubt(now, !standing.reconciling);
    let old = is_old_news(shown, &standing, &error, &sentence(&fault.message)) && doubt.is_empty();
    if old && !(pressing && is_ready(shown)) {
        return Outcome::Fault(fault);
    }
    let shared = status.shared_mut();
    let kept = standing_facts(&shared.conditions, &doubt);
    shared.conditions =
        conditions(&shared.conditions, &standing, &sentence(&fault.message), &doubt, generation, now);
    shared.conditions.extend(kept);
    shared.observed_generation = generation;
    shared.last_handled_reconcile_at = requested_at(object).map(|value| value.chars().take(256).collect());
    shared.last_error = Some(error);
    let uid = uid_of(object);
    if let Some(record) = &mut shared.intent {
        record_answer(record, ctx, uid);
    }
    match write_status(object, ctx, &status).await {
        Ok(_) => ctx.announce(object, &status).await,
        Err(write) => tracing::debug!("the fault could not be written down: {write}"),
    }
    Outcome::Fault(fault)
}

/// Merge-patches /status with the difference only, on the very version that was looked at.
///
/// Whoever calls has counted what this process knows of answered sends; it is remembered only if the write certainly failed.
async fn write_status<K: Kind>(object: &K, ctx: &Context<K>, status: &K::Status) -> Result<K, Fault> {
    let before = to_value(object.status())?;
    let after = to_value(Some(status))?;
    let mut body = json!({ "metadata": { "uid": object.meta().uid, "resourceVersion": object.meta().resource_version } });
    body["status"] = difference(&before, &after);
    ctx.metrics.count_write(&K::kind(&()), "status");
    let api = K::api(ctx.world.kube.clone(), object.meta().namespace.as_deref());
    let name = object.meta().name.as_deref().unwrap_or_default();
    let uid = uid_of(object);
    let answered = ctx.world.claims.take_answered(uid);
    let asked = Instant::now();
    let written = ctx.within(api.patch_status(name, &as_ecskms(), &Patch::Merge(body))).await;
    ctx.note_fresh(written.as_ref().ok(), asked);
    if let Ok(after) = &written {
        object.written(after);
    }
    if let (Err(Fault { class: FaultClass::Conflict, .. }), Some(answered)) = (&written, answered) {
        ctx.world.claims.put_back(uid, answered);
    }
    written
}
