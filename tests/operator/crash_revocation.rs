//! The operator is killed at every mutation of a revocation and of its restoration, in three ways each, and started again.
//!
//! Goal: the key is lost and comes back exactly as it was, what was stopped runs again, nothing is switched on before that was asked,
//! and the journal verifies. Method: a run without faults numbers the mutations; then each number is struck.

use std::time::Duration;

use serde_json::{Value, json};

use crate::revocation::{
    DB, action_order, cloud_key, granted, instance, of_the_role, phase, revocation, set_desired, set_key,
    verified,
};
use crate::stage::{KEY, Mode, Process, Stage, condition};

const MODES: [Mode; 3] = [Mode::Before, Mode::AfterEffect, Mode::AfterAnswer];
const LIMIT: Duration = Duration::from_secs(600);
const DOWNTIME: Duration = Duration::from_secs(10);

/// What is asked of the operator while it is killed.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// State of the key before anything.
    before: &'static str,
    /// True: machines are stopped and evidence is taken.
    thorough: bool,
    /// True: what the key goes back to is declared, so that the cut comes before the record.
    declared: bool,
    /// True: ECS's grant is taken, and not the key.
    role: bool,
}

const CASES: [Case; 5] = [
    Case { before: "Enabled", thorough: true, declared: false, role: false },
    Case { before: "Enabled", thorough: false, declared: false, role: false },
    Case { before: "Disabled", thorough: true, declared: false, role: false },
    Case { before: "Enabled", thorough: false, declared: true, role: false },
    Case { before: "Enabled", thorough: false, declared: false, role: true },
];

/// A machine whose key is gone already refuses to stop.
fn stops(case: Case) -> bool {
    case.thorough && case.before == "Enabled"
}

/// True while ECS can use the key.
async fn usable(stage: &Stage, case: Case) -> bool {
    match case.role {
        true => granted(stage).await,
        false => cloud_key(stage, KEY).await == "Enabled",
    }
}

/// Revokes, waits, restores, waits.
async fn play(stage: &Stage, case: Case) {
    let fields = match case.thorough {
        true => json!({"runningInstances": "ForceStop", "evidenceSnapshots": true}),
        false if case.declared => json!({"restoreTo": "Enabled"}),
        false if case.role => of_the_role(),
        false => json!({}),
    };
    stage.apply(revocation("one", fields)).await;
    let revoked = |object: &Value| {
        condition(object, "Ready").0 == "True"
            && phase(object) == if stops(case) { "Contained" } else { "Revoked" }
            && !object["metadata"]["finalizers"].is_null()
    };
    stage.until("KeyRevocation", "one", LIMIT, revoked).await;
    assert!(!usable(stage, case).await, "{case:?}");
    set_desired(stage, "one", "Restored").await;
    let restored = |object: &Value| condition(object, "Ready") == ("True".to_owned(), "Restored".to_owned());
    stage.until("KeyRevocation", "one", LIMIT, restored).await;
}

async fn judge(stage: &Stage, case: Case, context: &str) {
    tokio::time::sleep(LIMIT).await;
    assert_eq!(cloud_key(stage, KEY).await, case.before, "{context}");
    assert!(granted(stage).await, "{context}");
    assert_eq!(instance(stage, DB).await, "Running", "{context}");
    let object = stage.get("KeyRevocation", "one").await;
    assert_eq!(phase(&object), "Restored", "{context}: {object:#}");
    let prior = &object["status"]["priorState"]["keyState"];
    assert_eq!(prior, if case.role { "Attached" } else { case.before }, "{context}");
    verified(&object);
    let (off, on) =
        if case.role { ("DetachPolicyFromRole", "AttachPolicyToRole") } else { ("DisableKey", "EnableKey") };
    let order = action_order(stage, &[off, on, "StopInstances"]).await;
    let at = |name: &str| order.iter().position(|action| action == name);
    let last_cut = order.iter().rposition(|action| action == off);
    assert!(at(on).is_none() || last_cut < at(on), "{context}: {order:?}");
    if stops(case) {
        assert!(at("StopInstances").is_some() && at("StopInstances") < at(off), "{context}: {order:?}");
    }
    let snapshots = stage.owned("snapshots").await;
    let expected = if stops(case) { 2 } else { 0 };
    assert_eq!(snapshots.len(), expected, "{context}: {snapshots:#?}");
}

async fn begin(case: Case) -> Stage {
    let stage = Stage::new().await;
    set_key(&stage, case.before).await;
    stage
}

async fn rehearse(case: Case) -> Vec<String> {
    let stage = begin(case).await;
    let process = stage.start().await;
    play(&stage, case).await;
    let log = process.gate.log();
    judge(&stage, case, "without faults").await;
    process.kill().await;
    log
}

/// False if the run ended before its point was reached.
async fn strike(case: Case, number: usize, mode: Mode, name: &str) -> bool {
    let context = format!("{case:?}, killed {mode:?} mutation {number} ({name})");
    let stage = begin(case).await;
    let first = stage.start_with(|gate| gate.crash_at(number, mode)).await;
    let gate = first.gate.clone();
    let revive = async {
        let reached = tokio::time::timeout(LIMIT, gate.crashed()).await.is_ok();
        first.kill().await;
        // Every other time nobody is there for longer than the stop calls may take.
        if (number + mode as usize).is_multiple_of(2) {
            tokio::time::sleep(DOWNTIME).await;
        }
        (stage.start().await, reached)
    };
    let ((second, reached), ()) = tokio::join!(revive, play(&stage, case));
    judge(&stage, case, &context).await;
    Process::kill(second).await;
    reached
}

async fn every_point(case: Case) {
    let log = rehearse(case).await;
    assert!(log.len() >= 5, "{case:?}: {log:#?}");
    for (index, name) in log.iter().enumerate() {
        for mode in MODES {
            let mut reached = false;
            for _ in 0..3 {
                reached = reached || strike(case, index + 1, mode, name).await;
            }
            assert!(reached, "{case:?}: mutation {} ({name}) was not reached: {log:#?}", index + 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_anywhere_with_machines_stopped_ends_as_it_began() {
    every_point(CASES[0]).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_anywhere_with_machines_left_ends_as_it_began() {
    every_point(CASES[1]).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_anywhere_with_the_end_declared_ends_as_it_was_declared() {
    every_point(CASES[3]).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_anywhere_with_the_grant_of_ecs_taken_ends_as_it_began() {
    every_point(CASES[4]).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_anywhere_over_a_key_that_was_disabled_leaves_it_disabled() {
    every_point(CASES[2]).await;
}
