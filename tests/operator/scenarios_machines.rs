//! The machines under a revoked key against both servers: stop calls that are answered badly, starts that are refused, evidence.
//!
//! Goal: what this operator stopped runs again after the restoration, and nothing of it fills the journal.

use std::time::Duration;

use ecskms::kinds::KeyRevocation;
use ecskms::kinds::key_revocation::act::act;
use ecskms::kinds::key_revocation::decide::RevocationEffect;
use ecskms::kinds::key_revocation::notes::Notes;
use serde_json::{Value, json};

use crate::revocation::{
    CUT_LIMIT, DB, action_order, calls, cloud_key, entries, instance, phase, revocation, revoke, set_desired,
    set_key, starts, verified,
};
use crate::stage::{KEY, Stage, condition, disk};

const HOUR: Duration = Duration::from_secs(3600);

/// The machine cannot start while it is not paid for.
async fn owes(stage: &Stage, so: bool) {
    let locks = if so { json!(["financial"]) } else { json!([]) };
    let order = json!({"do": "set", "kind": "instance", "id": DB, "region": "cn-hangzhou", "fields": {"locks": locks}});
    stage.order("POST", "resources", order).await;
}

/// The results of one action in the journal.
fn results(object: &Value, action: &str) -> Vec<String> {
    let journal = entries(object, "journal");
    let of_action = journal.iter().filter(|entry| entry["action"] == action);
    of_action.map(|entry| entry["result"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_stop_whose_answer_is_not_understood_is_remembered_and_undone() {
    for body in ["truncated", "empty-list", "html"] {
        for times in [Value::Null, json!(1)] {
            let stage = Stage::new().await;
            let fault = json!({"action": "StopInstances", "when": "after", "body": body, "times": times});
            stage.order("PUT", "faults", json!([fault])).await;
            let process = stage.start().await;
            let begun = tokio::time::Instant::now();
            stage.apply(revocation("one", json!({"runningInstances": "Stop"}))).await;
            let object = revoke(&stage, "one").await;
            assert!(begun.elapsed() < CUT_LIMIT, "{:?}", begun.elapsed());
            assert_eq!(
                object["status"]["stops"]["instances"],
                json!([DB]),
                "{body}: {:#}",
                object["status"]["stops"]
            );
            assert_eq!(object["status"]["stops"]["refused"], Value::Null, "{body}");
            let told = results(&object, "StopInstances");
            match times.is_null() {
                true => {
                    assert!(told[0].contains("0 of 1 accepted; 1 may stop all the same"), "{body}: {told:?}")
                }
                false => assert_eq!(told, ["Accepted"], "{body}: it was asked again"),
            }
            stage.until("KeyRevocation", "one", HOUR, |object| phase(object) == "Contained").await;
            assert_eq!(instance(&stage, DB).await, "Stopped", "{body}");
            stage.order("DELETE", "faults", Value::Null).await;
            set_desired(&stage, "one", "Restored").await;
            let object = stage.until_reason("KeyRevocation", "one", "Restored").await;
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(instance(&stage, DB).await, "Running", "{body}: somebody must start it again");
            verified(&object);
            process.kill().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_was_paused_neither_stops_nor_starts_on_an_old_look() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(revocation("one", json!({"runningInstances": "Stop"}))).await;
    let recorded = |object: &Value| phase(object) == "Contained";
    let mut stale = stage.until("KeyRevocation", "one", HOUR, recorded).await;
    set_desired(&stage, "one", "Restored").await;
    let restored = stage.until_reason("KeyRevocation", "one", "Restored").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    process.kill().await;
    // What it looked at before it was paused.
    stale["status"]["phase"] = json!("Revoking");
    stale["status"]["stops"]["answered"] = json!(false);
    let mut restoring = restored.clone();
    restoring["status"]["phase"] = json!("Restoring");
    let (world, notes) = (stage.world().await, Notes::default());
    let mut made = calls(&stage, "ecs:StopInstances").await + calls(&stage, "ecs:StartInstances").await;
    for (object, effect) in [(&stale, RevocationEffect::Stop), (&restoring, RevocationEffect::Start)] {
        let object: KeyRevocation = serde_json::from_value(object.clone()).expect("it is one");
        let fault = act(&object, &world, &notes, &effect).await.expect_err("the object has changed");
        assert_eq!(fault.code, "Conflict", "{effect:?}");
    }
    made = calls(&stage, "ecs:StopInstances").await + calls(&stage, "ecs:StartInstances").await - made;
    assert_eq!((made, instance(&stage, DB).await.as_str()), (0, "Running"));
    // On a look that is true, it does what it is asked for.
    let object = serde_json::from_value(restored).expect("it is one");
    act(&object, &world, &notes, &RevocationEffect::Start).await.expect("nothing has changed");
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_does_not_start_for_hours_leaves_the_journal_alone_and_starts_in_the_end() {
    let stage = Stage::new().await;
    let replicas = [stage.start_standby().await, stage.start_standby().await];
    stage.apply(revocation("one", json!({"runningInstances": "Stop"}))).await;
    stage.until("KeyRevocation", "one", HOUR, |object| phase(object) == "Contained").await;
    owes(&stage, true).await;
    set_desired(&stage, "one", "Restored").await;
    tokio::time::sleep(2 * HOUR).await;
    let asked = calls(&stage, "ecs:StartInstances").await;
    let object = stage.get("KeyRevocation", "one").await;
    assert_eq!(condition(&object, "Ready").1, "InstancesNotStarted", "{object:#}");
    assert!((20..=100).contains(&asked), "{asked} calls in two hours");
    assert_eq!(
        (phase(&object), condition(&object, "Restored").0.as_str()),
        ("Restored", "True"),
        "the key is back"
    );
    assert!(
        object["status"]["timings"]["closedAt"].is_string(),
        "what becomes of the key is its owner's business"
    );
    // The next emergency: somebody disables the key while the machine still waits for its money.
    set_key(&stage, "Disabled").await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(cloud_key(&stage, KEY).await, "Disabled", "nobody fights it");
    // And a revocation of it goes back to what its owner made of it, not to what an earlier incident had recorded.
    stage.apply(revocation("two", json!({}))).await;
    let two = revoke(&stage, "two").await;
    let prior = &two["status"]["priorState"];
    assert_eq!((&prior["keyState"], &prior["inheritedFrom"]), (&json!("Disabled"), &Value::Null));
    set_desired(&stage, "two", "Restored").await;
    stage.until_reason("KeyRevocation", "two", "Restored").await;
    // While it still looks back for a late call, it would take this for one, and undo it.
    tokio::time::sleep(Duration::from_secs(90)).await;
    set_key(&stage, "Enabled").await;
    let journal = entries(&object, "journal");
    assert_eq!(journal[0]["action"], "RecordPriorState", "the incident is still there: {journal:#?}");
    assert!(results(&object, "StartInstances").len() <= 2, "{journal:#?}");
    owes(&stage, false).await;
    let object = stage.until_reason("KeyRevocation", "one", "Restored").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(instance(&stage, DB).await, "Running");
    verified(&object);
    for replica in replicas {
        replica.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_record_of_the_key_ends_also_where_machines_may_be_neither_listed_nor_started() {
    for action in ["StartInstances", "DescribeInstances"] {
        let stage = Stage::new().await;
        let process = stage.start().await;
        stage.apply(revocation("one", json!({"runningInstances": "Stop"}))).await;
        stage.until("KeyRevocation", "one", HOUR, |object| phase(object) == "Contained").await;
        let denied = json!([{"action": action, "status": 403, "code": "Forbidden.RAM"}]);
        stage.order("PUT", "faults", denied).await;
        set_desired(&stage, "one", "Restored").await;
        let object = stage.until("KeyRevocation", "one", HOUR, |object| phase(object) == "Restored").await;
        assert_eq!(object["status"]["stops"]["started"], Value::Null, "{action}");
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_ne!(condition(&stage.get("KeyRevocation", "one").await, "Ready").0, "True", "{action}");
        let closed = |object: &Value| object["status"]["timings"]["closedAt"].is_string();
        stage.until("KeyRevocation", "one", HOUR, closed).await;
        set_key(&stage, "Disabled").await;
        tokio::time::sleep(HOUR).await;
        assert_eq!(cloud_key(&stage, KEY).await, "Disabled", "{action}: nobody fights it");
        set_key(&stage, "Enabled").await;
        stage.order("DELETE", "faults", Value::Null).await;
        stage.until_reason("KeyRevocation", "one", "Restored").await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(instance(&stage, DB).await, "Running", "{action}");
        process.kill().await;
    }
}

/// What each of the other kinds would do about its resource, if it fought.
const EFFORTS: [&str; 4] = ["ecs:RunInstances", "ecs:CreateDisk", "ecs:CopyImage", "ecs:StopInstance"];

#[tokio::test(start_paused = true)]
async fn everybody_shows_a_revocation_in_time_and_nobody_starts_what_it_stopped() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    // The machine is wanted running, which is the default.
    let all = [("EncryptedDisk", "data"), ("EncryptedImage", "image"), ("EncryptedInstance", "web")];
    for object in [disk("data"), crate::stage::image("image"), crate::stage::instance("web")] {
        stage.apply(object).await;
    }
    for (kind, name) in all {
        stage.until_ready(kind, name).await;
    }
    let web = stage.get("EncryptedInstance", "web").await["status"]["instanceId"].clone();
    let web = web.as_str().expect("an id");
    let mut before = Vec::new();
    for action in EFFORTS {
        before.push(calls(&stage, action).await);
    }
    stage.apply(revocation("one", json!({"runningInstances": "ForceStop"}))).await;
    let shown = |object: &Value| {
        condition(object, "KeyRevoked").0 == "True" && condition(object, "Ready").1 == "KeyRevoked"
    };
    for (kind, name) in all {
        stage.until(kind, name, Duration::from_secs(5), shown).await;
    }
    stage.until("KeyRevocation", "one", HOUR, |object| phase(object) == "Contained").await;
    // Everybody looks again several times meanwhile.
    tokio::time::sleep(HOUR).await;
    assert_eq!((instance(&stage, web).await.as_str(), starts(&stage).await), ("Stopped", 0));
    for (kind, name) in all {
        assert!(shown(&stage.get(kind, name).await), "{kind}");
    }
    for (action, before) in EFFORTS.into_iter().zip(before) {
        assert_eq!(calls(&stage, action).await, before, "{action}");
    }
    set_desired(&stage, "one", "Restored").await;
    stage.until_reason("KeyRevocation", "one", "Restored").await;
    for (kind, name) in all {
        stage.until_ready(kind, name).await;
    }
    assert_eq!(
        (instance(&stage, web).await.as_str(), instance(&stage, DB).await.as_str()),
        ("Running", "Running")
    );
    process.kill().await;
}

/// Result and detail of the check of the evidence.
fn evidence(object: &Value) -> Option<(String, String)> {
    let checks = entries(object, "verification");
    let check = checks.iter().find(|check| check["check"] == "EvidenceSnapshots")?;
    Some((check["result"].as_str()?.to_owned(), check["detail"].as_str()?.to_owned()))
}

#[tokio::test(start_paused = true)]
async fn evidence_that_was_asked_for_and_not_taken_is_told() {
    for (fault, key, why) in [
        (
            json!({"action": "DescribeDisks", "delayMs": 25_000}),
            "Enabled",
            "the list of disks did not come in time",
        ),
        (
            json!({"action": "DescribeDisks", "status": 403, "code": "Forbidden.RAM"}),
            "Enabled",
            "not listed: disks",
        ),
        (json!({"action": "CopyImage"}), "Disabled", "it was Disabled already"),
    ] {
        let stage = Stage::new().await;
        set_key(&stage, key).await;
        stage.order("PUT", "faults", json!([fault])).await;
        let process = stage.start().await;
        let fields = json!({"evidenceSnapshots": true, "safety": {"inventoryTimeoutSeconds": 1}});
        stage.apply(revocation("one", fields)).await;
        let object = stage.until("KeyRevocation", "one", HOUR, |object| evidence(object).is_some()).await;
        let (result, detail) = evidence(&object).expect("a check");
        assert_eq!(result, "Fail", "{detail}");
        assert!(detail.starts_with("none was taken: ") && detail.contains(why), "{detail}");
        assert!(results(&object, "CreateSnapshot")[0].contains(why), "{:#}", object["status"]["journal"]);
        tokio::time::sleep(Duration::from_secs(600)).await;
        let object = stage.get("KeyRevocation", "one").await;
        assert_eq!(results(&object, "CreateSnapshot").len(), 1, "it is told once");
        assert_eq!((calls(&stage, "ecs:CreateSnapshot").await, evidence(&object).is_some()), (0, true));
        verified(&object);
        process.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn evidence_that_takes_its_time_does_not_keep_the_cut_from_coming() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    for number in 0..40 {
        stage.apply(disk(&format!("disk-{number}"))).await;
    }
    for number in 0..40 {
        stage.until_ready("EncryptedDisk", &format!("disk-{number}")).await;
    }
    // Forty disks, eight at a time, half a minute each: longer than a pass may take.
    stage.order("PUT", "faults", json!([{"action": "CreateSnapshot", "delayMs": 60_000}])).await;
    let begun = tokio::time::Instant::now();
    let fields = json!({"evidenceSnapshots": true, "safety": {"inventoryTimeoutSeconds": 300}});
    stage.apply(revocation("one", fields)).await;
    let cut = |object: &Value| evidence(object).is_some();
    let object = stage.until("KeyRevocation", "one", HOUR, cut).await;
    assert!(begun.elapsed() < Duration::from_secs(90), "{:?}", begun.elapsed());
    assert_eq!(evidence(&object).expect("a check").0, "Fail", "{:#}", object["status"]["evidence"]);
    assert_eq!(cloud_key(&stage, KEY).await, "Disabled");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn machines_are_asked_to_stop_also_where_the_evidence_outlasts_the_deadline() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.order("PUT", "faults", json!([{"action": "CreateSnapshot", "delayMs": 9_000}])).await;
    let fields = json!({"evidenceSnapshots": true, "runningInstances": "Stop"});
    stage.apply(revocation("one", fields)).await;
    let object = stage.until("KeyRevocation", "one", HOUR, |object| phase(object) == "Contained").await;
    let actions = action_order(&stage, &["CreateSnapshot", "StopInstances", "DisableKey"]).await;
    assert_eq!(actions, ["CreateSnapshot", "CreateSnapshot", "StopInstances", "DisableKey"]);
    assert_eq!(results(&object, "StopInstances"), ["Accepted"]);
    assert_eq!(instance(&stage, DB).await, "Stopped");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_events_store_that_hangs_does_not_hold_an_approved_cut() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let slow = json!({"resource": "events.events.k8s.io", "latencyMilliseconds": 60_000});
    stage.api_order("PUT", "/_kube/faults", json!({"rules": [slow]})).await;
    stage.apply(revocation("one", json!({"approvalsRequired": 1}))).await;
    stage.until_reason("KeyRevocation", "one", "ApprovalMissing").await;
    let begun = tokio::time::Instant::now();
    let approved = json!({"approvalsRequired": 1, "approvals": [{"approver": "bob"}]});
    stage.apply(revocation("one", approved)).await;
    while cloud_key(&stage, KEY).await != "Disabled" {
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    process.kill().await;
}
