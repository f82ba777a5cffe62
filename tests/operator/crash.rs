//! The operator is killed at every mutation that it makes, in three ways each, and started again.
//!
//! Goal: whatever is lost, there is in the end exactly one cloud resource for each object, none without an object, and status tells
//! the truth. Method: a run without faults numbers the mutations; then each number is struck. An unreached number fails the test.

use std::time::Duration;

use serde_json::Value;

use crate::stage::{Mode, Stage, condition, disk, image, instance};

/// What is asked of the operator while it is killed.
#[derive(Clone, Copy, Debug)]
enum Scenario {
    Create,
    DeleteWhenReady,
    DeleteWhileCreating,
}

const MODES: [Mode; 3] = [Mode::Before, Mode::AfterEffect, Mode::AfterAnswer];

#[derive(Clone, Copy)]
struct Case {
    kind: &'static str,
    sort: &'static str,
    object: fn(&str) -> Value,
}

const CASES: [Case; 3] = [
    Case { kind: "EncryptedDisk", sort: "disks", object: disk },
    Case { kind: "EncryptedImage", sort: "images", object: image },
    Case { kind: "EncryptedInstance", sort: "instances", object: instance },
];

/// Plays the scenario up to the end that is wished for.
async fn play(stage: &Stage, case: Case, scenario: Scenario) {
    match scenario {
        Scenario::Create => {
            stage.apply((case.object)("one")).await;
            stage.until_ready(case.kind, "one").await;
        }
        Scenario::DeleteWhenReady => {
            stage.apply((case.object)("one")).await;
            stage.until_ready(case.kind, "one").await;
            stage.delete(case.kind, "one").await;
            stage.until_gone(case.kind, "one").await;
        }
        Scenario::DeleteWhileCreating => {
            stage.apply((case.object)("one")).await;
            let intended = |object: &Value| !object["status"]["intent"].is_null();
            stage.until(case.kind, "one", Duration::from_secs(3600), intended).await;
            stage.delete(case.kind, "one").await;
            stage.until_gone(case.kind, "one").await;
        }
    }
}

/// One resource for a living object, none for a deleted one, at the end and for ever.
async fn judge(stage: &Stage, case: Case, scenario: Scenario, context: &str) {
    // Long enough for every request that could still be under way, and for every look that could still go wrong.
    tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
    let owned = stage.owned(case.sort).await;
    match scenario {
        Scenario::Create => {
            assert_eq!(owned.len(), 1, "{context}: {owned:#?}");
            let object = stage.get(case.kind, "one").await;
            assert_eq!(condition(&object, "Ready").0, "True", "{context}: {object:#}");
            assert_eq!(condition(&object, "Encrypted").0, "True", "{context}: {object:#}");
            let ids = ["diskId", "imageId", "instanceId"];
            let id = ids.iter().find_map(|field| object["status"][*field].as_str());
            assert_eq!(id, Some(owned[0].0.as_str()), "{context}: status names the resource");
        }
        Scenario::DeleteWhenReady | Scenario::DeleteWhileCreating => {
            assert!(owned.is_empty(), "{context}: {owned:#?}");
            assert!(stage.get(case.kind, "one").await.is_null(), "{context}");
        }
    }
}

/// The mutations of a run without faults.
async fn rehearse(case: Case, scenario: Scenario) -> Vec<String> {
    let stage = Stage::new().await;
    let process = stage.start().await;
    play(&stage, case, scenario).await;
    let mut log = process.gate.log();
    // A pass that lost a race for the last write repeats it; that is no point of its own.
    log.dedup();
    judge(&stage, case, scenario, "without faults").await;
    process.kill().await;
    log
}

/// Runs that may miss their point because two passes raced; a point that is missed every time fails the test.
const TRIES: usize = 3;

async fn strike(case: Case, scenario: Scenario, number: usize, mode: Mode, name: &str) {
    let mut reached = false;
    for _ in 0..TRIES {
        reached = reached || strike_once(case, scenario, number, mode, name).await;
    }
    assert!(reached, "{} {scenario:?}: mutation {number} ({name}) was not reached", case.kind);
}

/// False if the run ended before its point was reached.
async fn strike_once(case: Case, scenario: Scenario, number: usize, mode: Mode, name: &str) -> bool {
    let context = format!("{} {scenario:?}, killed {mode:?} mutation {number} ({name})", case.kind);
    let stage = Stage::new().await;
    let first = stage.start_with(|gate| gate.crash_at(number, mode)).await;
    let gate = first.gate.clone();
    let revive = async {
        let reached = tokio::time::timeout(Duration::from_secs(3600), gate.crashed()).await.is_ok();
        first.kill().await;
        (stage.start().await, reached)
    };
    let ((second, reached), ()) = tokio::join!(revive, play(&stage, case, scenario));
    judge(&stage, case, scenario, &context).await;
    second.kill().await;
    reached
}

async fn every_point(scenario: Scenario) {
    for case in CASES {
        let log = rehearse(case, scenario).await;
        assert!(log.len() >= 3, "{}: {log:#?}", case.kind);
        for (index, name) in log.iter().enumerate() {
            for mode in MODES {
                strike(case, scenario, index + 1, mode, name).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_anywhere_during_creation_leaves_exactly_one_resource() {
    every_point(Scenario::Create).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_anywhere_until_deletion_leaves_nothing() {
    every_point(Scenario::DeleteWhenReady).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_anywhere_while_a_creation_is_taken_back_leaves_nothing() {
    every_point(Scenario::DeleteWhileCreating).await;
}
