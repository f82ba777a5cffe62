//! The operator is killed at every mutation of a revocation and of its restoration, in three ways each, and started again.
//!
//! Goal: the key is lost and comes back exactly as it was, what was stopped runs again, nothing is switched on before that was asked,
//! and the journal verifies. Method: a run without faults numbers the mutations; then each number is struck.

use std::time::Duration;

use serde_json::{Value, json};

mod revocation;
mod stage;
use revocation::{DB, action_order, cloud_key, instance, phase, revocation, set_desired, set_key, verified};
use stage::{KEY, Mode, Process, Stage, condition};

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
}

const CASES: [Case; 4] = [
    Case { before: "Enabled", thorough: true, declared: false },
    Case { before: "Enabled", thorough: false, declared: false },
    Case { before: "Disabled", thorough: true, declared: false },
    Case { before: "Enabled", thorough: false, declared: true },
];

/// A machine whose key is gone already refuses to stop.
fn stops(case: Case) -> bool {
    case.thorough && case.before == "Enabled"
}

/// Revokes, waits, restores, waits.
async fn play(stage: &Stage, case: Case) {
    let fields = match case.thorough {
        true => json!({"runningInstances": "ForceStop", "evidenceSnapshots": true}),
        false if case.declared => json!({"restoreTo": "Enabled"}),
        false => json!({}),
    };
    stage.apply(revocation("one", fields)).await;
    let revoked = |object: &Value| {
        condition(object, "Ready").0 == "True"
            && phase(object) == if stops(case) { "Contained" } else { "Revoked" }
            && !object["metadata"]["finalizers"].is_null()
    };
    stage.until("KeyRevocation", "one", LIMIT, revoked).await;
    assert_ne!(cloud_key(stage, KEY).await, "Enabled", "{case:?}");
    set_desired(stage, "one", "Restored").await;
    let restored = |object: &Value| condition(object, "Ready") == ("True".to_owned(), "Restored".to_owned());
    stage.until("KeyRevocation", "one", LIMIT, restored).await;
}

async fn judge(stage: &Stage, case: Case, context: &str) {
    tokio::time::sleep(LIMIT).await;
    assert_eq!(cloud_key(stage, KEY).await, case.before, "{context}");
    assert_eq!(instance(stage, DB).await, "Running", "{context}");
    let object = stage.get("KeyRevocation", "one").await;
    assert_eq!(phase(&object), "Restored", "{context}: {object:#}");
    let prior = &object["status"]["priorState"]["keyState"];
    assert_eq!(prior, case.before, "{context}");
    verified(&object);
    let order = action_order(stage, &["DisableKey", "EnableKey", "StopInstances"]).await;
    let enabled = order.iter().position(|action| action == "EnableKey");
    let cut = order.iter().rposition(|action| action == "DisableKey");
    assert!(enabled.is_none() || cut < enabled, "{context}: {order:?}");
    let stop = order.iter().position(|action| action == "StopInstances");
    let first_cut = order.iter().position(|action| action == "DisableKey");
    if case.thorough && first_cut.is_some() {
        assert!(stop < first_cut, "{context}: {order:?}");
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
async fn a_crash_anywhere_over_a_key_that_was_disabled_leaves_it_disabled() {
    every_point(CASES[2]).await;
}
