//! What would be seen of a KeyRevocation after a decision if all goes well, and the calls that its effects stand for. Pure.

use super::api::KeyRevocation;
use super::decide::{
    Deed, Desired, Goal, Inventory, Lever, Observed, RevocationEffect, Running, Stage, Starts, Step, Switch,
    Wanted,
};
use super::request::{self, BATCH};
use super::{promise, report};
use crate::decision::Decision;
use crate::kind::call::{ECS_ROLE_NAME, ECS_ROLE_POLICY};
use crate::kind::{Call, Owner};

/// The RAM actions that looking takes: StartInstance only as a rehearsal, whether a stopped instance still starts.
pub const READS: &[&str] = &[
    "ecs:DescribeDisks",
    "ecs:DescribeImages",
    "ecs:DescribeInstances",
    "ecs:DescribeSnapshots",
    "ecs:StartInstance",
    "kms:DescribeKey",
    "ram:ListPoliciesForRole",
];

/// The next look; None where nothing follows by itself.
pub fn after(
    object: &KeyRevocation,
    desired: &Desired,
    before: &Observed,
    decision: &Decision<RevocationEffect>,
) -> Option<Observed> {
    let mut seen = before.clone();
    match (decision, desired) {
        (Decision::Do(effect), Desired::Present(wanted)) => done(object, wanted, before, effect, &mut seen),
        (Decision::Do(_), Desired::Absent) => seen.farewell = true,
        // A list that is under way is waited for, not foretold.
        (Decision::Wait(_), Desired::Present(_)) if before.inventory == Inventory::Running => return None,
        (Decision::Wait(_), Desired::Present(wanted)) => passed(wanted, &mut seen),
        // A drill ends by itself.
        (Decision::Settled, Desired::Present(wanted)) if wanted.goal == Goal::Revoked && wanted.drill => {
            seen.drill_over = true;
        }
        _ => return None,
    }
    (seen != *before).then_some(seen)
}

fn done(
    object: &KeyRevocation,
    wanted: &Wanted,
    before: &Observed,
    effect: &RevocationEffect,
    seen: &mut Observed,
) {
    match effect {
        RevocationEffect::Record => {
            seen.stage = Stage::Cutting;
            seen.prior = Some(if wanted.declared { Switch::On } else { before.switch });
            // Written with the record.
            seen.deeds.clear();
            let listed = |blast: &super::blast::Blast| !blast.disks.is_empty();
            let has_disks = matches!(&before.inventory, Inventory::Done(blast) if listed(blast));
            seen.evidence = if wanted.evidence && has_disks { Step::Due } else { Step::None };
            seen.stops = if to_stop(object, wanted, before) > 0 { Step::Due } else { Step::None };
        }
        RevocationEffect::RecordStops => (seen.stops, seen.unasked) = (Step::Due, 0),
        RevocationEffect::TakeEvidence => seen.evidence = Step::Over,
        RevocationEffect::Stop => {
            seen.stops = Step::Over;
            stand_still(wanted, seen);
        }
        RevocationEffect::Cut => {
            seen.switch = Switch::Off;
            if before.stage == Stage::Fresh {
                seen.deeds.push(accepted(wanted.lever));
            }
        }
        RevocationEffect::Reassert => seen.stage = Stage::Cutting,
        RevocationEffect::NoteCut => (seen.stage, seen.switch) = (Stage::Cut, Switch::Off),
        RevocationEffect::BeginRestore => (seen.stage, seen.inherited) = (Stage::Restoring, None),
        RevocationEffect::Return { on } => {
            seen.switch = if *on { Switch::On } else { Switch::Off };
            let stops = object.status.as_ref().and_then(|status| status.stops.as_ref());
            let stopped =
                |stops: &super::api::Stops| !stops.started && stops.instances.len() + stops.forced.len() > 0;
            seen.starts = if stops.is_some_and(stopped) { Starts::Due } else { Starts::None };
        }
        RevocationEffect::EndRestore => {
            seen.closed |= before.stage == Stage::Restored;
            seen.stage = Stage::Restored;
        }
        RevocationEffect::Start => seen.starts = Starts::None,
        RevocationEffect::Publish => seen.published = true,
        RevocationEffect::Farewell => seen.farewell = true,
    }
}

/// What is asked to stop stands still.
fn stand_still(wanted: &Wanted, seen: &mut Observed) {
    let Inventory::Done(blast) = &mut seen.inventory else { return };
    let (gentle, forced) = blast.to_stop(wanted.running);
    for id in gentle.iter().chain(&forced) {
        if let Some(instance) = blast.instances.get_mut(id) {
            instance.status = Some("Stopped".to_owned());
        }
    }
}

fn accepted(lever: Lever) -> Deed {
    let action = match lever {
        Lever::Key => "DisableKey",
        Lever::Role => "DetachPolicyFromRole",
    };
    Deed {
        at: 0,
        action,
        target: String::new(),
        request_id: None,
        result: promise::ACCEPTED.to_owned(),
        details: Vec::new(),
    }
}

fn to_stop(object: &KeyRevocation, wanted: &Wanted, observed: &Observed) -> usize {
    let Inventory::Done(blast) = &observed.inventory else { return 0 };
    if wanted.running == Running::Leave {
        return 0;
    }
    report::unasked(&object.status.clone().unwrap_or_default(), blast, wanted.running)
}

/// Time passes: the cut is seen, and machines arrive where they go. A list that nobody asked for stays unknown.
fn passed(wanted: &Wanted, seen: &mut Observed) {
    if seen.starts == Starts::Moving {
        seen.starts = Starts::Due;
    }
    if seen.stage == Stage::Cutting && promise::rejected(seen.switch) {
        seen.stage = Stage::Cut;
    } else if seen.stage == Stage::Cut && seen.inventory == Inventory::Unasked {
        seen.inventory = Inventory::Late;
    }
    if seen.stage == Stage::Cut && wanted.running == Running::Leave {
        seen.unasked = 0;
    }
}

/// The calls that an effect stands for.
pub fn calls(
    object: &KeyRevocation,
    desired: &Desired,
    observed: &Observed,
    owner: &Owner,
    effect: &RevocationEffect,
) -> Vec<Call> {
    let Desired::Present(wanted) = desired else { return Vec::new() };
    let spec = &object.spec;
    let key = [("RegionId", &*spec.region), ("KeyId", &*spec.key_id)];
    let switch = |on: bool| match (wanted.lever, on) {
        (Lever::Key, on) => Call::new("kms", if on { "EnableKey" } else { "DisableKey" }, key),
        (Lever::Role, on) => Call::new(
            "ram",
            if on { "AttachPolicyToRole" } else { "DetachPolicyFromRole" },
            [("RoleName", ECS_ROLE_NAME), ("PolicyName", ECS_ROLE_POLICY), ("PolicyType", "System")],
        ),
    };
    match effect {
        RevocationEffect::Cut => vec![switch(false)],
        RevocationEffect::Return { on } => vec![switch(*on)],
        RevocationEffect::TakeEvidence => match &observed.inventory {
            Inventory::Done(blast) => {
                let requests = blast.disks.keys().map(|disk| request::evidence(object, owner, disk));
                requests.map(|request| Call::creation("CreateSnapshot", request)).collect()
            }
            _ => Vec::new(),
        },
        RevocationEffect::Stop => of_machines(object, "StopInstances"),
        RevocationEffect::Start => of_machines(object, "StartInstances"),
        RevocationEffect::Record
        | RevocationEffect::Reassert
        | RevocationEffect::RecordStops
        | RevocationEffect::NoteCut
        | RevocationEffect::BeginRestore
        | RevocationEffect::EndRestore
        | RevocationEffect::Publish
        | RevocationEffect::Farewell => Vec::new(),
    }
}

/// One call for each batch of the machines that status names.
fn of_machines(object: &KeyRevocation, action: &'static str) -> Vec<Call> {
    let Some(stops) = object.status.as_ref().and_then(|status| status.stops.as_ref()) else {
        return Vec::new();
    };
    let stop = action == "StopInstances";
    let batches = |ids: &[String], force: bool| -> Vec<Call> {
        let one = |batch: &[String]| {
            let call = Call::new("ecs", action, [("RegionId", &*object.spec.region)]);
            let numbered = batch.iter().enumerate();
            let call = numbered
                .fold(call, |call, (index, id)| call.with(&format!("InstanceId.{}", index + 1), Some(id)));
            call.with("ForceStop", stop.then_some(force))
                .with("StoppedMode", stop.then_some("KeepCharging"))
                .with("BatchOptimization", Some("SuccessFirst"))
        };
        ids.chunks(BATCH).map(one).collect()
    };
    match stop {
        true => [batches(&stops.instances, false), batches(&stops.forced, true)].concat(),
        false => batches(&[&stops.instances[..], &stops.forced[..]].concat(), false),
    }
}
