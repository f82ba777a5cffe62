//! Looks at the key, at the other revocations and at what is hit. Reads only, past every memory.
//!
//! Before the cut, nothing is asked that the cut does not need: with `Leave` one DescribeKey is all.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::api::{KeyRevocation, KeyRevocationStatus, Phase, RestoreTo};
use super::blast;
use super::decide::{
    Desired, Goal, Inventory, KeyCheck, Lever, Observed, Running, Stage, Starts, Step, Switch, Wanted,
};
use super::inventory::{self, Question};
use super::notes::{Found, Notes, Wish};
use super::{act, journal, others, own_nodes, promise};
use crate::alibaba::{Cloud, KeyState};
use crate::kind::{Fault, FaultClass, World};

/// How long after a restoration a cut that another process had begun before may still arrive.
const SETTLE: Duration = Duration::from_secs(60);

/// How much time may lie between the reading of the key and that of the other revocations: less than any of them needs to close.
const LOOK_MAX: Duration = Duration::from_secs(30);

/// Everything that `decide` needs to know.
pub async fn observe(
    object: &KeyRevocation,
    desired: &Desired,
    world: &World,
    notes: &Notes,
) -> Result<Observed, Fault> {
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let status = object.status.clone().unwrap_or_default();
    let now = world.clock.now();
    let lockout = own_nodes::are_told(object, desired, &status, world, notes).await;
    let mut observed = remembered(object, &status, notes, uid, now);
    observed.self_lockout |= lockout;
    let Desired::Present(wanted) = desired else { return Ok(observed) };
    if observed.stage == Stage::Restored && observed.closed {
        // The record is closed: what becomes of the key now is its owner's business. Machines may still be to be started.
        observed.switch = observed.prior.unwrap_or(Switch::Unasked);
        look_at_starts(object, &status, world, notes, &mut observed).await?;
        let account = object.spec.account_ref.as_ref().map(|account| account.name.as_str());
        observed.holder = world.revocations.holder(account, &object.spec.region, &object.spec.key_id);
        return Ok(observed);
    }
    let cut = promise::has_cut(&observed);
    if observed.stage == Stage::Fresh && !cut && super::cuts_at_once(object) && !notes.take_tried_cut(uid) {
        // The object says what it goes back to, and is the record of it: nothing is asked before the cut.
        return Ok(observed);
    }
    let began = tokio::time::Instant::now();
    if observed.stage == Stage::Cutting && world.fresh.holds(object) && notes.just_on(uid) {
        // The record was won a moment after the switch was read to be on. Reading it again would only delay the cut, which does
        // no harm if somebody else has been faster.
        observed.switch = Switch::On;
    } else if let Err(fault) = look_at_switch(object, wanted, &world.cloud, &mut observed).await {
        let unwritten =
            observed.stage == Stage::Cutting && cut && promise::goal(wanted, &observed) == Goal::Revoked;
        if !goes_on_unseen(object, wanted, &observed, notes, &fault) {
            return Err(held_back(fault, wanted, &observed));
        }
        let switch = if unwritten { Switch::Unasked } else { Switch::Unknown };
        (observed.switch, observed.word) = (switch, "Unknown".to_owned());
    }
    let saw_on = observed.stage == Stage::Fresh && observed.switch == Switch::On;
    notes.saw_on(uid, saw_on.then_some(began));
    let goal = promise::goal(wanted, &observed);
    others::look_at_others(object, wanted, goal, world, &mut observed).await?;
    if began.elapsed() > LOOK_MAX {
        return Err(Fault::conflict(
            "the look took so long that its parts do not belong together; looking again",
        ));
    }
    if goal == Goal::Restored {
        look_at_starts(object, &status, world, notes, &mut observed).await?;
        return Ok(observed);
    }
    let listed = goal == Goal::Planned || observed.stage != Stage::Fresh || promise::needs_inventory(wanted);
    let before_the_cut = observed.stage == Stage::Cutting && !needs_list_now(wanted, &status);
    if observed.key == KeyCheck::Customer && listed && !before_the_cut && !observed.self_lockout_holds(wanted)
    {
        look_at_inventory(object, wanted, world, notes, &mut observed);
    }
    look_at_steps(object, &status, wanted, notes, &mut observed);
    Ok(observed)
}

/// Between the record and the cut only the evidence still needs the list.
fn needs_list_now(wanted: &Wanted, status: &KeyRevocationStatus) -> bool {
    wanted.evidence && status.evidence.is_none()
}

impl Observed {
    fn self_lockout_holds(&self, wanted: &Wanted) -> bool {
        self.stage == Stage::Fresh
            && self.self_lockout
            && !wanted.allow_self_lockout
            && wanted.goal != Goal::Planned
    }
}

/// What status and this process say, without asking anybody.
fn remembered(
    object: &KeyRevocation,
    status: &KeyRevocationStatus,
    notes: &Notes,
    uid: &str,
    now: jiff::Timestamp,
) -> Observed {
    let restoring = object.spec.desired_state == super::api::DesiredState::Restored;
    let deeds = notes.deeds(uid, &status.journal);
    let cut = object.spec.restore_to == RestoreTo::Enabled && promise::tell_cut(&deeds);
    let known = super::goes_back_to(object)
        .or_else(|| cut.then(|| promise::declared(super::lever(&object.spec))))
        .filter(|_| restoring || status.prior_state.is_some());
    let prior = known.map(|(word, policies)| switch_recorded(object, &word, policies.as_deref()));
    let passed = |since: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime>,
                  limit: Duration| {
        since.as_ref().is_some_and(|since| {
            jiff::SignedDuration::try_from(limit)
                .ok()
                .and_then(|limit| since.0.checked_add(limit).ok())
                .is_some_and(|end| now >= end)
        })
    };
    let drill =
        object.spec.drill.map(|drill| Duration::from_secs(u64::from(drill.restore_after_minutes) * 60));
    let verified = journal::verify(uid, &status.journal, status.journal_anchor.as_ref());
    let continued = notes.continues(uid, &status.journal, status.journal_anchor.as_ref());
    let prior_fits = status
        .prior_state
        .as_ref()
        .is_none_or(|prior| journal::tells_prior(&status.journal, &prior.key_state));
    let intact = verified.is_ok() && continued && prior_fits;
    if !intact && !status.shared.conditions.iter().any(|condition| condition.type_ == "JournalBroken") {
        let name = object.metadata.name.as_deref();
        tracing::error!(
            revocation = name,
            prior_fits,
            "somebody else changed the journal or the prior state in status: {verified:?}"
        );
    }
    Observed {
        switch: Switch::Unasked,
        word: String::new(),
        request_id: None,
        policies: None,
        key: KeyCheck::Customer,
        prior,
        inherited: None,
        stage: stage(status),
        inventory: Inventory::Unasked,
        self_lockout: own_nodes::are_hit(object, notes),
        evidence: Step::None,
        stops: Step::None,
        unasked: 0,
        starts: Starts::None,
        holder: None,
        unfinished: false,
        drill_over: drill.is_some_and(|drill| passed(&status.timings.revoked_at, drill)),
        aged: passed(&status.timings.restored_at, SETTLE),
        closed: status.timings.closed_at.is_some(),
        deeds,
        probe: None,
        journal_intact: intact,
        published: true,
        report_namespace: None,
        farewell: status.journal.last().is_some_and(|entry| entry.action == super::report::FAREWELL),
        asked_at: asked_at(object, notes, uid, now).as_microsecond(),
    }
}

/// What a record, or a declaration, means as a switch.
pub fn switch_recorded(object: &KeyRevocation, word: &str, policies: Option<&[String]>) -> Switch {
    match object.spec.method {
        super::api::Method::DisableKey => switch_of(&KeyState::from_word(word)),
        super::api::Method::DetachEcsRole => grant(policies.unwrap_or_default()),
    }
}

/// The key that a hold is of; None for the role, which is of all.
pub fn named_key(object: &KeyRevocation) -> Option<&str> {
    match object.spec.method {
        super::api::Method::DisableKey => Some(&object.spec.key_id),
        super::api::Method::DetachEcsRole => None,
    }
}

pub fn stage(status: &KeyRevocationStatus) -> Stage {
    match (status.prior_state.is_some(), status.timings.restored_at.is_some(), status.phase) {
        (false, ..) => Stage::Fresh,
        // Also once more, where a late cut came after the first time.
        (true, _, Some(Phase::Restoring)) => Stage::Restoring,
        (true, true, _) => Stage::Restored,
        (true, false, Some(Phase::Revoked | Phase::Contained)) => Stage::Cut,
        (true, false, _) => Stage::Cutting,
    }
}

/// The object's creation, if it was created as a request that nobody saw in time; else the moment of the first look. A plan asks
/// for nothing yet.
fn asked_at(object: &KeyRevocation, notes: &Notes, uid: &str, now: jiff::Timestamp) -> jiff::Timestamp {
    /// A creation's time has seconds only; what is seen within this time is told by the more exact clock.
    const SLACK_SECONDS: i64 = 2;
    if object.spec.desired_state == super::api::DesiredState::Planned {
        return now;
    }
    let seen = notes.asked_at(uid, now);
    let created = object.metadata.creation_timestamp.as_ref().map(|time| time.0);
    match created {
        Some(created)
            if object.metadata.generation == Some(1)
                && seen.as_second() - created.as_second() > SLACK_SECONDS =>
        {
            created
        }
        _ => seen,
    }
}

/// True if the next step is right whatever the look would have shown: the record of a cut that was accepted or that is declared, a
/// cut that is recorded, and the return to what is recorded where looking is not allowed. What cannot be looked at is never called
/// revoked or restored, and what was never cut is not returned.
fn goes_on_unseen(
    object: &KeyRevocation,
    wanted: &Wanted,
    observed: &Observed,
    notes: &Notes,
    fault: &Fault,
) -> bool {
    let denied = fault.class == FaultClass::Denied;
    let journal = object.status.as_ref().map(|status| status.journal.as_slice()).unwrap_or_default();
    let revoked = object.status.as_ref().is_some_and(|status| status.timings.revoked_at.is_some());
    let cut = || promise::has_cut(observed) || journal::tells_cut(journal);
    // Where something is waited for, the record comes before the first try.
    let open = || {
        let uid = object.metadata.uid.as_deref().unwrap_or_default();
        notes.may_have_cut(uid) || (denied && !super::cuts_at_once(object))
    };
    let returned = || {
        let accepted = |deed: &super::decide::Deed| deed.result == promise::ACCEPTED;
        observed.deeds.iter().any(|deed| promise::RETURNS.contains(&deed.action) && accepted(deed))
    };
    match (promise::goal(wanted, observed), observed.stage) {
        (Goal::Revoked, Stage::Fresh) => wanted.declared && (promise::has_cut(observed) || open()),
        // What was accepted is journalled even so.
        (Goal::Revoked, Stage::Cutting) => promise::has_cut(observed) || !cut(),
        (Goal::Restored, Stage::Cut) => denied,
        (Goal::Restored, Stage::Cutting) => denied && (revoked || cut()),
        (Goal::Restored, Stage::Restoring) => denied && (revoked || cut()) && !returned(),
        _ => false,
    }
}

/// Says how to cut all the same, where only the reading of the key holds the cut back.
fn held_back(fault: Fault, wanted: &Wanted, observed: &Observed) -> Fault {
    if wanted.goal != Goal::Revoked || observed.stage != Stage::Fresh || wanted.declared {
        return fault;
    }
    let hint = "Nothing is cut before the state to go back to is known; another KeyRevocation with restoreTo: Enabled does not wait for it.";
    Fault { message: format!("{} {hint}", fault.message), ..fault }
}

async fn look_at_switch(
    object: &KeyRevocation,
    wanted: &Wanted,
    cloud: &Cloud,
    observed: &mut Observed,
) -> Result<(), Fault> {
    let spec = &object.spec;
    // A cut waits for this reading, and the cut for nothing.
    let waiting = observed.stage == Stage::Fresh
        && wanted.goal == Goal::Revoked
        && wanted.approvals_missing == 0
        && !promise::needs_inventory(wanted)
        && object.status.as_ref().is_none_or(|status| status.phase != Some(Phase::Held));
    let cloud = if waiting { &cloud.ahead() } else { cloud };
    let found = match wanted.lever {
        Lever::Key => {
            let reading = cloud.key_now(&spec.region, &spec.key_id).await?;
            observed.request_id = reading.request_id;
            Some(reading.found)
        }
        Lever::Role => {
            // The key only names the incident: once something was done, or where it cannot be read, the grant alone counts.
            let key = async {
                match observed.stage {
                    Stage::Fresh => {
                        cloud.key_now(&spec.region, &spec.key_id).await.ok().map(|reading| reading.found)
                    }
                    _ => None,
                }
            };
            let (key, policies) = tokio::join!(key, cloud.ecs_role_policies());
            let policies = policies?;
            observed.request_id = policies.request_id;
            let names = policies
                .found
                .unwrap_or_default()
                .iter()
                .map(|policy| format!("{}/{}", policy.kind, policy.name))
                .collect();
            observed.policies = Some(names);
            key
        }
    };
    observed.key = match &found {
        Some(None) => KeyCheck::Missing,
        Some(Some(key)) if key.is_service_key => KeyCheck::Service,
        Some(Some(_)) | None => KeyCheck::Customer,
    };
    (observed.switch, observed.word) = match (wanted.lever, &observed.policies, found) {
        (Lever::Role, Some(policies), _) => {
            let switch = grant(policies);
            (switch, if switch == Switch::On { "Attached" } else { "Detached" }.to_owned())
        }
        (_, _, Some(Some(key))) => (switch_of(&key.state), key.state.word().to_owned()),
        _ => (Switch::Missing, "Missing".to_owned()),
    };
    Ok(())
}

fn switch_of(state: &KeyState) -> Switch {
    match state {
        KeyState::Enabled => Switch::On,
        KeyState::Disabled => Switch::Off,
        KeyState::PendingDeletion => Switch::Deletion,
        KeyState::PendingImport => Switch::Import,
        KeyState::Unknown(_) => Switch::Unknown,
    }
}

fn grant(policies: &[String]) -> Switch {
    match policies.iter().any(|policy| policy == super::decide::ECS_GRANT) {
        true => Switch::On,
        false => Switch::Off,
    }
}

fn look_at_inventory(
    object: &KeyRevocation,
    wanted: &Wanted,
    world: &World,
    notes: &Notes,
    observed: &mut Observed,
) {
    let uid = object.metadata.uid.clone().unwrap_or_default();
    let after_cut = observed.stage == Stage::Cut;
    let reverts = object.status.as_ref().map_or(0, |status| status.reverts);
    let complete = notes.latest(&uid).is_some_and(|blast| blast.complete());
    let stopping = wanted.running != Running::Leave
        && notes.latest(&uid).is_some_and(|blast| blast.still_readable().next().is_some());
    let seconds = match observed.stage {
        Stage::Cut if stopping => 5,
        Stage::Cut if complete => 120,
        Stage::Fresh if wanted.goal == Goal::Planned && complete => 600,
        _ => 30,
    };
    let wish = Wish {
        age_max: Duration::from_secs(seconds),
        patience: Duration::from_secs(u64::from(object.spec.safety.inventory_timeout_seconds)),
        after_cut,
        wishes: wanted.running == Running::PerInstance,
        reverts,
    };
    let (cloud, kube) = (world.cloud.clone(), world.kube.clone());
    let cluster = world.settings.cluster.clone();
    let without_cluster = world.settings.without_cluster;
    let question = Question {
        region: object.spec.region.clone(),
        key_id: object.spec.key_id.clone(),
        lever: wanted.lever,
        wishes: wish.wishes,
    };
    let owner = uid.clone();
    let begin = move |notes: Notes| {
        tokio::spawn(async move {
            let facts = match without_cluster {
                true => inventory::of_cloud(&cloud, &question).await,
                false => inventory::of_both(&cloud, &kube, &cluster, &question).await,
            };
            let blast = std::sync::Arc::new(blast::join(facts));
            let probe = if after_cut { act::probe(&cloud, &question.region, &blast).await } else { None };
            let at = tokio::time::Instant::now();
            notes.list(&owner, Found { blast, probe, after_cut, wishes: wish.wishes, reverts, at });
        });
    };
    let (inventory, probe) = notes.inventory(&uid, wish, begin);
    if let Inventory::Done(blast) = &inventory {
        observed.self_lockout |= blast.locks_out();
        observed.published = notes.published(&uid, content_of(blast));
        observed.report_namespace = notes.is_published(&uid).then(|| world.settings.namespace.clone());
    }
    observed.inventory = inventory;
    observed.probe = probe;
}

/// A print of a list, to know whether it has changed.
pub fn content_of(blast: &blast::Blast) -> u64 {
    let mut hasher = DefaultHasher::new();
    blast.hash(&mut hasher);
    hasher.finish()
}

/// Evidence and stops: what is due, and what is over.
fn look_at_steps(
    object: &KeyRevocation,
    status: &KeyRevocationStatus,
    wanted: &Wanted,
    notes: &Notes,
    observed: &mut Observed,
) {
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    if needs_list_now(wanted, status) {
        observed.evidence = match &observed.inventory {
            _ if notes.evidence_taken(uid) => Step::Over,
            Inventory::Done(blast) if blast.disks.is_empty() => Step::Over,
            Inventory::Done(_) => Step::Due,
            Inventory::Late => Step::Over,
            Inventory::Unasked | Inventory::Running => Step::Waiting,
        };
    }
    if let Some(stops) = status.stops.as_ref().filter(|stops| !stops.answered) {
        let answered = notes.stops_answered(uid, stops.requested_at.0.as_microsecond());
        // However late: whoever recorded them may have ended before the calls, which bound themselves.
        observed.stops = if answered { Step::Over } else { Step::Due };
    }
    if observed.stage == Stage::Cut
        && let Inventory::Done(blast) = &observed.inventory
    {
        observed.unasked = super::report::unasked(status, blast, wanted.running);
    }
}

/// Instances that were stopped, and are to run again.
async fn look_at_starts(
    object: &KeyRevocation,
    status: &KeyRevocationStatus,
    world: &World,
    notes: &Notes,
    observed: &mut Observed,
) -> Result<(), Fault> {
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let Some(stops) = status.stops.as_ref().filter(|stops| !stops.started) else { return Ok(()) };
    if observed.stage < Stage::Restoring || Some(observed.switch) != observed.prior {
        return Ok(());
    }
    let ids: Vec<String> = stops.instances.iter().chain(&stops.forced).cloned().collect();
    let shown = match world.cloud.instances(&object.spec.region, &ids).await {
        Ok(shown) => shown,
        // The end of the key's part waits for no list of machines.
        Err(_) if !observed.closed => {
            observed.starts = Starts::Due;
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let mut starts = Starts::None;
    for id in &ids {
        let tried = notes.start_try(uid, id);
        let one = act::machines::standing(act::machines::word_of(&shown, id), tried.as_ref());
        starts = match (starts, one) {
            (Starts::Due, _) | (_, Starts::Due) => Starts::Due,
            (Starts::Moving, _) | (_, Starts::Moving) => Starts::Moving,
            (Starts::Refused, _) | (_, Starts::Refused) => Starts::Refused,
            _ => Starts::None,
        };
    }
    observed.starts = starts;
    Ok(())
}
