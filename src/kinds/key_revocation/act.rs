//! Performs one mutation. Everything here may be done by all replicas at once, and again after a crash: it comes to the same.

use std::sync::Mutex;
use std::time::Duration;

use futures::StreamExt;
use kube::Api;

use super::api::KeyRevocation;
use super::blast::Blast;
use super::decide::{Deed, ECS_GRANT, Goal, Lever, Probe, RevocationEffect};
use super::notes::Notes;
use super::promise::ACCEPTED;
use super::{journal, report, request};
use crate::alibaba::{self, Accepted, Cloud, StartProbe};
use crate::kind::{Fault, FaultClass, Owner, World};

pub mod machines;
pub mod publish;

/// Snapshots that are asked for at the same time.
const SNAPSHOTS_AT_ONCE: usize = 8;
/// How long all of them may take, whatever is waited for the list: half of a pass, which would else be given up before the cut
/// and begin anew with the same snapshots.
const EVIDENCE_MAX: Duration = Duration::from_secs(60);
/// How long evidence and stop calls may take together, so that the cut comes in the same pass.
const BOTH_MAX: Duration = Duration::from_secs(100);

/// Performs the effect. Effects that only record never come here.
pub async fn act(
    object: &KeyRevocation,
    world: &World,
    notes: &Notes,
    effect: &RevocationEffect,
) -> Result<(), Fault> {
    match effect {
        RevocationEffect::Cut => {
            read_afresh(object, world, Goal::Revoked).await?;
            let cut = switch(object, world, notes, false).await;
            let passes = |fault: &Fault| matches!(fault.class, FaultClass::Transient | FaultClass::Throttled);
            notes.try_cut(
                object.metadata.uid.as_deref().unwrap_or_default(),
                cut.as_ref().map_or_else(passes, |()| true),
            );
            cut
        }
        RevocationEffect::Return { on } => {
            read_afresh(object, world, Goal::Restored).await?;
            switch(object, world, notes, *on).await
        }
        RevocationEffect::TakeEvidence => take_evidence(object, world, notes).await,
        RevocationEffect::Stop => machines::stop(object, world, notes).await,
        RevocationEffect::Start => machines::start(object, world, notes).await,
        RevocationEffect::Publish => publish::list(object, world, notes).await,
        RevocationEffect::Record
        | RevocationEffect::Reassert
        | RevocationEffect::RecordStops
        | RevocationEffect::NoteCut
        | RevocationEffect::BeginRestore
        | RevocationEffect::EndRestore
        | RevocationEffect::Farewell => {
            Err(Fault::defect("Misrouted", "a record is not a mutation; please report this"))
        }
    }
}

/// Nothing is switched, stopped or started on an old look. The compare-and-swap that recorded the prior state is a fresh look, and so is a watch event
/// that comes within a moment of the creation that it tells of, so the first cut needs no other; a process that resumes after a crash, or was paused, reads the object once more.
async fn read_afresh(object: &KeyRevocation, world: &World, goal: Goal) -> Result<(), Fault> {
    if world.fresh.holds(object) {
        return Ok(());
    }
    let api: Api<KeyRevocation> = Api::all(world.kube.clone());
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let found = world.read(api.get_opt(name)).await?;
    let phase = |object: &KeyRevocation| object.status.as_ref().and_then(|status| status.phase);
    let same = found.is_some_and(|fresh| {
        fresh.metadata.uid == object.metadata.uid
            && fresh.metadata.generation == object.metadata.generation
            && fresh.metadata.deletion_timestamp.is_none()
            && (goal == Goal::Restored || super::is_live(&fresh) || super::cuts_at_once(&fresh))
            // Another replica may have come further meanwhile; what was decided then belongs to an earlier step.
            && phase(&fresh) == phase(object)
    });
    match same {
        true => Ok(()),
        false => Err(Fault::conflict("the object changed meanwhile; reading it again")),
    }
}

async fn switch(object: &KeyRevocation, world: &World, notes: &Notes, on: bool) -> Result<(), Fault> {
    let spec = &object.spec;
    let cloud = &world.cloud;
    let (action, target, answer) = match (super::lever(spec), on) {
        (Lever::Key, false) => {
            ("DisableKey", spec.key_id.as_str(), cloud.disable_key(&spec.region, &spec.key_id).await)
        }
        (Lever::Key, true) => {
            ("EnableKey", spec.key_id.as_str(), cloud.enable_key(&spec.region, &spec.key_id).await)
        }
        (Lever::Role, false) => ("DetachPolicyFromRole", ECS_GRANT, cloud.detach_ecs_grant().await),
        (Lever::Role, true) => ("AttachPolicyToRole", ECS_GRANT, cloud.attach_ecs_grant().await),
    };
    record(object, world, notes, action, target, &answer);
    answer.map(drop).map_err(Fault::from)
}

/// Remembers what was called until status says it, and logs it.
fn record(
    object: &KeyRevocation,
    world: &World,
    notes: &Notes,
    action: &'static str,
    target: &str,
    answer: &Result<Accepted, alibaba::Error>,
) {
    let (request_id, result) = match answer {
        Ok(accepted) => (accepted.request_id.clone(), ACCEPTED.to_owned()),
        Err(error) => (error.request_id.as_deref().map(str::to_owned), error.code.clone()),
    };
    let deed = Deed {
        at: world.clock.now().as_microsecond(),
        action,
        target: target.to_owned(),
        request_id,
        result,
        details: Vec::new(),
    };
    remember(object, notes, deed);
}

fn remember(object: &KeyRevocation, notes: &Notes, deed: Deed) {
    say(object, &deed);
    notes.add(object.metadata.uid.as_deref().unwrap_or_default(), deed);
}

/// Logs it, which outlives the object.
fn say(object: &KeyRevocation, deed: &Deed) {
    let Deed { action, target, request_id, result, .. } = deed;
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let request_id = request_id.as_deref();
    tracing::info!(revocation = name, action, target, request_id, result, "revocation step");
}

/// Logs one call of a step that takes several: the journal has room for the first of them.
fn say_call(object: &KeyRevocation, action: &str, target: &str, request_id: Option<&str>) {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    tracing::info!(revocation = name, action, target, request_id, "revocation call");
}

/// What one call said of many.
fn summary(details: &[(String, String)], good: impl Fn(&str) -> bool) -> String {
    let accepted = details.iter().filter(|(_, outcome)| good(outcome)).count();
    match details.iter().find(|(_, outcome)| !good(outcome)) {
        None => ACCEPTED.to_owned(),
        Some((id, code)) => format!("{accepted} of {} accepted; {id}: {code}", details.len()),
    }
}

/// One call for each disk, the same token for the same disk however often it is asked. Waits for the answers, not for the
/// snapshots: they are of the moment at which they were asked for.
async fn take_evidence(object: &KeyRevocation, world: &World, notes: &Notes) -> Result<(), Fault> {
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let Some(blast) = notes.latest(uid) else {
        return Err(Fault::conflict("the list of disks is not there any more; looking again"));
    };
    let owner = Owner::of(&world.settings.cluster, object);
    let patience = Duration::from_secs(u64::from(object.spec.safety.inventory_timeout_seconds));
    let stops = Duration::from_secs(u64::from(object.spec.stop_deadline_seconds));
    let limit = patience.min(EVIDENCE_MAX).min(BOTH_MAX.saturating_sub(stops));
    let (details, requests) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let asked = futures::stream::iter(blast.disks.keys()).for_each_concurrent(SNAPSHOTS_AT_ONCE, |disk| {
        let (owner, details, requests) = (&owner, &details, &requests);
        async move {
            let parameters = request::evidence(object, owner, disk);
            let (outcome, request_id) =
                match world.cloud.create_snapshot(&object.spec.region, &parameters).await {
                    Ok(created) => (created.id, created.request_id),
                    Err(error) => (error.code, error.request_id.map(String::from)),
                };
            say_call(object, report::EVIDENCE, &format!("{disk}: {outcome}"), request_id.as_deref());
            push(requests, request_id);
            push(details, Some((disk.clone(), outcome)));
        }
    });
    let in_time = tokio::time::timeout(limit, asked).await.is_ok();
    let mut details = details.into_inner().unwrap_or_default();
    if !in_time {
        let silent: Vec<String> =
            blast.disks.keys().filter(|disk| !details.iter().any(|(id, _)| id == *disk)).cloned().collect();
        details.extend(silent.into_iter().map(|disk| (disk, "NotAnswered".to_owned())));
    }
    details.sort();
    let deed = Deed {
        at: world.clock.now().as_microsecond(),
        action: report::EVIDENCE,
        target: format!("{} disks", details.len()),
        request_id: journal::requests(&requests.into_inner().unwrap_or_default()),
        result: summary(&details, |outcome| outcome.starts_with("s-")),
        details,
    };
    remember(object, notes, deed);
    notes.take_evidence(uid);
    Ok(())
}

fn push<T>(list: &Mutex<Vec<T>>, items: impl IntoIterator<Item = T>) {
    list.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(items);
}

/// Rehearses the start of one stopped instance under the key: the only way to see that ECS cannot use it.
pub async fn probe(cloud: &Cloud, region: &str, blast: &Blast) -> Option<Probe> {
    let (instance, _) = blast.instances.iter().find(|(_, instance)| instance.is_stopped())?;
    let (cut_off, word) = match cloud.start_probe(region, instance).await {
        Ok(StartProbe::CutOff(code)) => (Some(true), code),
        Ok(StartProbe::WouldStart) => (Some(false), "it would have started".to_owned()),
        Ok(StartProbe::Unclear(code)) => (None, code),
        Err(error) => (None, error.code),
    };
    Some(Probe { instance: instance.clone(), cut_off, word })
}
