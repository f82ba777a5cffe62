//! The kill switch against both servers: what happens while a key is lost, what may go wrong, and how it comes back.
//!
//! Goal: each run ends in the promised state with a journal that verifies, and the key is never switched on before that is asked.

use std::time::Duration;

use serde_json::{Value, json};

use crate::revocation::{
    CUT_LIMIT, DB, SECOND, action_order, calls, cloud_key, entries, granted, instance, of_the_role, phase,
    revocation, revoke, set_desired, set_grant, set_key, verified, with,
};
use crate::stage::{KEY, Process, Stage, condition, disk, message};

const HOUR: Duration = Duration::from_secs(3600);
/// Long enough for many rounds.
const LONG: Duration = Duration::from_secs(600);

#[tokio::test(start_paused = true)]
async fn a_key_is_lost_in_one_reading_one_write_and_one_call_and_comes_back_exactly() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(revocation("one", json!({}))).await;
    let object = revoke(&stage, "one").await;
    let mutations = process.gate.log();
    assert!(mutations[0].ends_with("/keyrevocations/one/status"), "the record comes first: {mutations:#?}");
    assert_eq!(mutations[1], "DisableKey", "and nothing between the record and the cut: {mutations:#?}");
    assert_eq!(cloud_key(&stage, KEY).await, "Disabled");
    assert_eq!(condition(&object, "Ready").1, "Revoked");
    assert_eq!(object["status"]["priorState"]["keyState"], "Enabled");
    let radius = &object["status"]["blastRadius"];
    assert_eq!(
        (&radius["disks"], &radius["instancesRunning"], &radius["images"]),
        (&json!(2), &json!(1), &json!(1))
    );
    assert_eq!(condition(&object, "Contained").0, "False");
    assert_eq!(object["status"]["stillReadable"]["instances"][0]["id"], DB);
    assert_eq!(condition(&object, "Verified").0, "True");
    verified(&object);
    set_desired(&stage, "one", "Restored").await;
    let object = stage.until_reason("KeyRevocation", "one", "Restored").await;
    assert_eq!((cloud_key(&stage, KEY).await.as_str(), phase(&object)), ("Enabled", "Restored"));
    assert_eq!(condition(&object, "Revoked").0, "False");
    assert_eq!(instance(&stage, DB).await, "Running", "nobody touched it");
    verified(&object);
    assert_eq!((calls(&stage, "kms:DisableKey").await, calls(&stage, "kms:EnableKey").await), (1, 1));
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_declared_end_is_record_enough_and_the_cut_comes_first() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(revocation("one", json!({"restoreTo": "Enabled"}))).await;
    let object = revoke(&stage, "one").await;
    let mutations = process.gate.log();
    assert_eq!(mutations[0], "DisableKey", "nothing before the cut: {mutations:#?}");
    assert!(mutations[1].ends_with("/keyrevocations/one/status"), "then the record: {mutations:#?}");
    let order = action_order(&stage, &["DisableKey", "DescribeKey"]).await;
    assert_eq!(order[0], "DisableKey", "not even a reading: {order:?}");
    assert_eq!(object["status"]["priorState"]["keyState"], "Enabled");
    let (actions, results): (Vec<_>, Vec<_>) = entries(&object, "journal")
        .into_iter()
        .map(|entry| (entry["action"].clone(), entry["result"].clone()))
        .unzip();
    assert_eq!(actions[..3], [json!("DisableKey"), json!("RecordPriorState"), json!("Revoked")]);
    assert_eq!(results[..2], [json!("Accepted"), json!("Enabled, as declared")]);
    let timings = &object["status"]["timings"];
    assert_eq!(
        timings["revokedAt"],
        entries(&object, "journal")[0]["time"],
        "the time of the call: {timings}"
    );
    verified(&object);
    set_desired(&stage, "one", "Restored").await;
    stage.until_reason("KeyRevocation", "one", "Restored").await;
    assert_eq!(cloud_key(&stage, KEY).await, "Enabled");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_declared_cut_meets_is_told_as_ever() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let declared = |name: &str| revocation(name, json!({"restoreTo": "Enabled"}));
    stage.apply(with(declared("missing"), "keyId", json!("key-nobody"))).await;
    stage.until_reason("KeyRevocation", "missing", "KeyNotFound").await;
    // Guards hold it back, and then the key is read before anything else.
    stage.apply(with(declared("guarded"), "safety", json!({"maxAffectedInstances": 0}))).await;
    stage.until_reason("KeyRevocation", "guarded", "TooManyAffected").await;
    stage.apply(with(declared("alone"), "approvalsRequired", json!(1))).await;
    stage.until_reason("KeyRevocation", "alone", "ApprovalMissing").await;
    set_desired(&stage, "alone", "Restored").await;
    stage.until_reason("KeyRevocation", "alone", "NothingToRestore").await;
    assert_eq!(
        (cloud_key(&stage, KEY).await.as_str(), calls(&stage, "kms:DisableKey").await),
        ("Enabled", 1)
    );
    // Throttled at first, and lost afterwards: one more try each, on the way that records first.
    for fault in [
        json!({"action": "DisableKey", "status": 429, "code": "Rejected.Throttling", "times": 3}),
        json!({"action": "DisableKey", "when": "after", "body": "truncated", "times": 1}),
    ] {
        set_key(&stage, "Enabled").await;
        stage.order("PUT", "faults", json!([fault])).await;
        let name = if fault["status"].is_null() { "lost" } else { "throttled" };
        stage.apply(declared(name)).await;
        let object = revoke(&stage, name).await;
        assert_eq!(object["status"]["priorState"]["keyState"], "Enabled", "{fault}");
        verified(&object);
        set_desired(&stage, name, "Restored").await;
        stage.until_reason("KeyRevocation", name, "Restored").await;
        assert_eq!(cloud_key(&stage, KEY).await, "Enabled", "{fault}");
    }
    // A restoration that nobody revoked before enables nothing, whatever it declares.
    set_key(&stage, "Disabled").await;
    stage.apply(with(declared("backdoor"), "desiredState", json!("Restored"))).await;
    stage.until_reason("KeyRevocation", "backdoor", "NothingToRestore").await;
    assert_eq!(cloud_key(&stage, KEY).await, "Disabled");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_plan_lists_who_is_hit_and_changes_nothing() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(with(revocation("plan", json!({})), "desiredState", json!("Planned"))).await;
    let object = stage.until_reason("KeyRevocation", "plan", "Planned").await;
    tokio::time::sleep(LONG).await;
    assert_eq!(cloud_key(&stage, KEY).await, "Enabled");
    assert_eq!(calls(&stage, "kms:DisableKey").await, 0);
    assert_eq!(object["status"]["blastRadius"]["digest"].as_str().map(str::len), Some(64));
    // The digest that was read lets a careful revocation through, and another one does not.
    let careful = |name: &str, digest: &str| {
        with(revocation(name, json!({})), "safety", json!({"acknowledgedDigest": digest}))
    };
    stage.apply(careful("wrong", &"0".repeat(64))).await;
    let wrong = stage.until_reason("KeyRevocation", "wrong", "DigestMismatch").await;
    let digest = object["status"]["blastRadius"]["digest"].as_str().expect("a digest");
    assert!(message(&wrong, "Ready").contains(digest), "{}", message(&wrong, "Ready"));
    assert_eq!(cloud_key(&stage, KEY).await, "Enabled");
    stage.apply(careful("wrong", digest)).await;
    stage.until_reason("KeyRevocation", "wrong", "Revoked").await;
    process.kill().await;
}

/// What an action may meet at first: too many calls, a cloud that is broken, and answers that are lost after the effect.
fn troubles(action: &str) -> [Value; 4] {
    [
        json!({"action": action, "status": 429, "code": "Rejected.Throttling", "times": 5}),
        json!({"action": action, "status": 500, "code": "InternalFailure", "times": 5}),
        json!({"action": action, "when": "after", "body": "truncated", "times": 1}),
        json!({"action": action, "when": "after", "delayMs": 40_000, "times": 1}),
    ]
}

/// What a reading may meet at first.
fn blindness(action: &str) -> [Value; 2] {
    [
        json!({"action": action, "status": 429, "code": "Rejected.Throttling", "times": 5}),
        json!({"action": action, "status": 503, "body": "html", "times": 5}),
    ]
}

#[tokio::test(start_paused = true)]
async fn the_key_is_lost_whatever_kms_answers_at_first() {
    for fault in troubles("DisableKey").into_iter().chain(blindness("DescribeKey")) {
        let stage = Stage::new().await;
        stage.order("PUT", "faults", json!([fault])).await;
        let process = stage.start().await;
        let begun = tokio::time::Instant::now();
        stage.apply(revocation("one", json!({}))).await;
        stage.until("KeyRevocation", "one", HOUR, |object| phase(object) == "Revoked").await;
        assert!(begun.elapsed() < CUT_LIMIT, "{fault}: {:?}", begun.elapsed());
        assert_eq!(cloud_key(&stage, KEY).await, "Disabled", "{fault}");
        verified(&stage.get("KeyRevocation", "one").await);
        process.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_key_comes_back_whatever_kms_answers_at_first() {
    for fault in troubles("EnableKey").into_iter().chain(blindness("DescribeKey")) {
        let stage = Stage::new().await;
        let process = stage.start().await;
        stage.apply(revocation("one", json!({}))).await;
        revoke(&stage, "one").await;
        stage.order("PUT", "faults", json!([fault])).await;
        let begun = tokio::time::Instant::now();
        set_desired(&stage, "one", "Restored").await;
        let object = stage.until_reason("KeyRevocation", "one", "Restored").await;
        assert!(begun.elapsed() < CUT_LIMIT, "{fault}: {:?}", begun.elapsed());
        assert_eq!(cloud_key(&stage, KEY).await, "Enabled", "{fault}");
        verified(&object);
        process.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_grant_of_ecs_goes_and_comes_back_whatever_ram_answers_at_first() {
    let ways = troubles("DetachPolicyFromRole").into_iter().chain(troubles("AttachPolicyToRole"));
    for fault in ways.chain(blindness("ListPoliciesForRole")) {
        let stage = Stage::new().await;
        stage.order("PUT", "faults", json!([fault])).await;
        let process = stage.start().await;
        let begun = tokio::time::Instant::now();
        stage.apply(revocation("wide", of_the_role())).await;
        stage.until("KeyRevocation", "wide", HOUR, |object| phase(object) == "Revoked").await;
        assert!(begun.elapsed() < CUT_LIMIT, "{fault}: {:?}", begun.elapsed());
        assert!(!granted(&stage).await, "{fault}");
        revoke(&stage, "wide").await;
        // A reading fails on the way back as well.
        if fault["action"] == "ListPoliciesForRole" {
            stage.order("PUT", "faults", json!([fault])).await;
        }
        let begun = tokio::time::Instant::now();
        set_desired(&stage, "wide", "Restored").await;
        let object = stage.until_reason("KeyRevocation", "wide", "Restored").await;
        assert!(begun.elapsed() < CUT_LIMIT, "{fault}: {:?}", begun.elapsed());
        assert!(granted(&stage).await, "{fault}");
        verified(&object);
        process.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_off_before_is_off_afterwards() {
    for (state, back) in
        [("Disabled", "Restored"), ("PendingDeletion", "Restored"), ("PendingImport", "Restored")]
    {
        let stage = Stage::new().await;
        set_key(&stage, state).await;
        let process = stage.start().await;
        stage.apply(revocation("one", json!({}))).await;
        let object = revoke(&stage, "one").await;
        assert_eq!(object["status"]["priorState"]["keyState"], state);
        set_desired(&stage, "one", "Restored").await;
        stage.until_reason("KeyRevocation", "one", back).await;
        tokio::time::sleep(LONG).await;
        assert_eq!(cloud_key(&stage, KEY).await, state);
        for action in ["kms:DisableKey", "kms:EnableKey", "kms:CancelKeyDeletion", "kms:ScheduleKeyDeletion"]
        {
            assert_eq!(calls(&stage, action).await, 0, "{state}: {action}");
        }
        process.kill().await;
    }
}

/// What the runbook says about the way back after the command line has cut the key.
#[tokio::test(start_paused = true)]
async fn what_was_cut_outside_is_taken_over_and_given_back_through_the_object() {
    let stage = Stage::new().await;
    set_key(&stage, "Disabled").await;
    let process = stage.start().await;
    stage.apply(revocation("one", json!({"restoreTo": "Enabled"}))).await;
    let object = revoke(&stage, "one").await;
    assert_eq!(object["status"]["priorState"]["keyState"], "Enabled", "by the declaration");
    assert_eq!(condition(&object, "Verified").0, "True");
    // Not past the object: whatever enables the key elsewhere is disabled again.
    set_key(&stage, "Enabled").await;
    let again = |object: &Value| object["status"]["reverts"] == 1 && phase(object) == "Revoked";
    stage.until("KeyRevocation", "one", Duration::from_secs(60), again).await;
    assert_eq!(cloud_key(&stage, KEY).await, "Disabled");
    set_desired(&stage, "one", "Restored").await;
    let object = stage.until_reason("KeyRevocation", "one", "Restored").await;
    verified(&object);
    tokio::time::sleep(LONG).await;
    assert_eq!(cloud_key(&stage, KEY).await, "Enabled", "and it stays");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_deletion_is_disabled_again_and_a_disabled_key_stays_so() {
    let stage = Stage::new().await;
    set_key(&stage, "Disabled").await;
    let process = stage.start().await;
    stage.apply(revocation("one", json!({}))).await;
    revoke(&stage, "one").await;
    set_key(&stage, "PendingDeletion").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    // CancelKeyDeletion always ends in Enabled.
    set_key(&stage, "Enabled").await;
    let reverted = |object: &Value| object["status"]["reverts"] == 1 && phase(object) == "Revoked";
    let object = stage.until("KeyRevocation", "one", HOUR, reverted).await;
    assert_eq!(cloud_key(&stage, KEY).await, "Disabled");
    assert_eq!(condition(&object, "RevocationReverted").0, "True");
    set_desired(&stage, "one", "Restored").await;
    stage.until_reason("KeyRevocation", "one", "Restored").await;
    assert_eq!(cloud_key(&stage, KEY).await, "Disabled", "as it was recorded, not as it was found");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn what_somebody_enables_out_of_band_is_disabled_again_and_counted() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let standby = stage.start_standby().await;
    stage.apply(revocation("one", json!({}))).await;
    revoke(&stage, "one").await;
    for times in 1..=3 {
        set_key(&stage, "Enabled").await;
        let again = |object: &Value| object["status"]["reverts"] == times && phase(object) == "Revoked";
        let object = stage.until("KeyRevocation", "one", Duration::from_secs(60), again).await;
        assert_eq!(cloud_key(&stage, KEY).await, "Disabled");
        verified(&object);
    }
    tokio::time::sleep(LONG).await;
    let object = stage.get("KeyRevocation", "one").await;
    assert_eq!(object["status"]["reverts"], 3, "two replicas count each of them once");
    process.kill().await;
    standby.kill().await;
}

#[tokio::test(start_paused = true)]
async fn the_key_returns_with_the_last_of_two_revocations_and_exactly() {
    for (first, last) in [("one", "two"), ("two", "one")] {
        let stage = Stage::new().await;
        let process = overlap(&stage, json!({}), first).await;
        assert_eq!(cloud_key(&stage, KEY).await, "Disabled");
        give_back_the_last(&stage, first, last).await;
        assert_eq!(cloud_key(&stage, KEY).await, "Enabled", "{first} first");
        process.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_grant_of_ecs_returns_with_the_last_of_two_revocations_and_exactly() {
    for (first, last) in [("one", "two"), ("two", "one")] {
        let stage = Stage::new().await;
        let process = overlap(&stage, of_the_role(), first).await;
        assert!(!granted(&stage).await);
        give_back_the_last(&stage, first, last).await;
        assert!(granted(&stage).await, "{first} first");
        assert_eq!(calls(&stage, "ram:AttachPolicyToRole").await, 1);
        process.kill().await;
    }
}

/// Two revocations of the same, `one` before `two`; `first` is to be restored, and the other one still stands.
async fn overlap(stage: &Stage, fields: Value, first: &str) -> Process {
    let process = stage.start().await;
    stage.apply(revocation("one", fields.clone())).await;
    revoke(stage, "one").await;
    stage.apply(revocation("two", fields)).await;
    let object = revoke(stage, "two").await;
    assert_eq!(object["status"]["priorState"]["inheritedFrom"], "one", "{object:#}");
    assert_eq!(condition(&object, "OverlappingRevocation").0, "True");
    set_desired(stage, first, "Restored").await;
    stage.until_reason("KeyRevocation", first, "OverlappingRevocation").await;
    tokio::time::sleep(LONG).await;
    process
}

async fn give_back_the_last(stage: &Stage, first: &str, last: &str) {
    set_desired(stage, last, "Restored").await;
    stage.until_reason("KeyRevocation", last, "Restored").await;
    stage.until_reason("KeyRevocation", first, "Restored").await;
}

#[tokio::test(start_paused = true)]
async fn deleting_or_forcing_the_object_away_undoes_nothing() {
    for forced in [false, true] {
        let stage = Stage::new().await;
        let process = stage.start().await;
        stage.apply(revocation("one", json!({}))).await;
        let object = revoke(&stage, "one").await;
        assert_eq!(object["metadata"]["finalizers"], json!(["ecskms.dev/finalizer"]));
        if forced {
            let body = json!({"metadata": {"finalizers": []}});
            let patch = kube::api::Patch::Merge(body);
            let api = stage.objects("KeyRevocation");
            api.patch("one", &Default::default(), &patch).await.expect("the patch is accepted");
        }
        stage.delete("KeyRevocation", "one").await;
        stage.until_gone("KeyRevocation", "one").await;
        tokio::time::sleep(LONG).await;
        assert_eq!(cloud_key(&stage, KEY).await, "Disabled");
        assert_eq!(calls(&stage, "kms:EnableKey").await, 0);
        process.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn others_under_the_key_show_it_at_once_and_do_nothing() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(disk("held")).await;
    stage.until_ready("EncryptedDisk", "held").await;
    stage.apply(revocation("one", json!({}))).await;
    let shown = |object: &Value| condition(object, "KeyRevoked").0 == "True";
    let object = stage.until("EncryptedDisk", "held", Duration::from_secs(5), shown).await;
    assert_eq!(condition(&object, "Ready").1, "KeyRevoked");
    let created = calls(&stage, "ecs:CreateDisk").await;
    stage.apply(disk("new")).await;
    stage.until_reason("EncryptedDisk", "new", "KeyRevoked").await;
    stage.delete("EncryptedDisk", "held").await;
    tokio::time::sleep(LONG).await;
    assert_eq!(calls(&stage, "ecs:CreateDisk").await, created);
    assert_eq!(calls(&stage, "ecs:DeleteDisk").await, 0, "it may be evidence");
    let held = stage.get("EncryptedDisk", "held").await;
    assert_eq!(condition(&held, "Ready").1, "KeyRevoked", "{held:#}");
    set_desired(&stage, "one", "Restored").await;
    stage.until_gone("EncryptedDisk", "held").await;
    stage.until_ready("EncryptedDisk", "new").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn machines_are_asked_to_stop_before_the_cut_and_only_those_are_started_again() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let fields = json!({"runningInstances": "Stop", "evidenceSnapshots": true});
    stage.apply(revocation("one", fields)).await;
    let contained = |object: &Value| condition(object, "Contained").0 == "True";
    let object = stage.until("KeyRevocation", "one", HOUR, contained).await;
    let order = action_order(&stage, &["CreateSnapshot", "StopInstances", "DisableKey"]).await;
    assert_eq!(order, ["CreateSnapshot", "CreateSnapshot", "StopInstances", "DisableKey"]);
    assert_eq!((phase(&object), instance(&stage, DB).await.as_str()), ("Contained", "Stopped"));
    assert_eq!(object["status"]["evidence"]["accepted"], 2);
    assert!(object["status"]["timings"]["timeToContainMs"].is_i64());
    let probed = |object: &Value| {
        entries(object, "verification")
            .iter()
            .any(|check| check["check"] == "StartProbe" && check["result"] == "Pass")
    };
    stage.until("KeyRevocation", "one", HOUR, probed).await;
    set_desired(&stage, "one", "Restored").await;
    let object = stage.until_reason("KeyRevocation", "one", "Restored").await;
    assert_eq!(object["status"]["stops"]["started"], true);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(instance(&stage, DB).await, "Running");
    assert_eq!(calls(&stage, "ecs:StartInstances").await, 1);
    verified(&object);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_refuses_to_stop_does_not_hold_the_cut() {
    for slow in [false, true] {
        let stage = Stage::new().await;
        let fault = match slow {
            false => json!({"action": "StopInstances", "status": 403, "code": "InstanceLockedForSecurity"}),
            true => {
                json!({"action": "StopInstances", "delayMs": 60_000, "status": 500, "code": "InternalError"})
            }
        };
        stage.order("PUT", "faults", json!([fault])).await;
        let process = stage.start().await;
        let begun = tokio::time::Instant::now();
        stage.apply(revocation("one", json!({"runningInstances": "Stop"}))).await;
        let object = revoke(&stage, "one").await;
        assert!(begun.elapsed() < CUT_LIMIT, "{:?}", begun.elapsed());
        assert_eq!(object["status"]["stillReadable"]["count"], 1);
        assert_eq!(condition(&object, "Contained").0, "False");
        if !slow {
            let reason = object["status"]["stillReadable"]["instances"][0]["reason"].as_str();
            assert_eq!(reason, Some("refused to stop: InstanceLockedForSecurity"));
        }
        stage.order("DELETE", "faults", Value::Null).await;
        set_desired(&stage, "one", "Restored").await;
        stage.until_reason("KeyRevocation", "one", "Restored").await;
        assert_eq!(instance(&stage, DB).await, "Running");
        process.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_cut_waits_for_the_stops_as_long_as_the_object_says_and_no_longer() {
    for seconds in [2, 20] {
        let stage = Stage::new().await;
        stage.order("PUT", "faults", json!([{"action": "StopInstances", "delayMs": 60_000}])).await;
        let process = stage.start().await;
        let begun = tokio::time::Instant::now();
        let fields = json!({"runningInstances": "Stop", "stopDeadlineSeconds": seconds});
        stage.apply(revocation("one", fields)).await;
        while cloud_key(&stage, KEY).await != "Disabled" {
            assert!(begun.elapsed() < 60 * SECOND, "{seconds} s: the key is still on");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let deadline = Duration::from_secs(seconds);
        let took = begun.elapsed();
        assert!((deadline..deadline + 2 * SECOND).contains(&took), "{seconds} s: {took:?}");
        process.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_denied_inventory_is_told_and_holds_nothing_but_what_demands_it() {
    let stage = Stage::new().await;
    let denied = |action: &str| json!({"action": action, "status": 403, "code": "Forbidden.RAM"});
    let faults = json!([denied("DescribeDisks"), denied("DescribeSnapshots"), denied("DescribeImages")]);
    stage.order("PUT", "faults", faults).await;
    let process = stage.start().await;
    let limited = json!({"safety": {"maxAffectedInstances": 5}});
    stage.apply(revocation("limited", limited)).await;
    stage.until_reason("KeyRevocation", "limited", "InventoryIncomplete").await;
    assert_eq!(cloud_key(&stage, KEY).await, "Enabled");
    stage.apply(revocation("one", json!({"runningInstances": "Stop"}))).await;
    let object = revoke(&stage, "one").await;
    assert_eq!(object["status"]["blastRadius"]["complete"], false);
    assert_eq!(condition(&object, "Contained").0, "Unknown", "nothing is concluded from nothing");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_list_of_instances_is_never_nothing() {
    let stage = Stage::new().await;
    stage.order("PUT", "faults", json!([{"action": "DescribeInstances", "body": "empty-list"}])).await;
    let process = stage.start().await;
    stage.apply(revocation("one", json!({}))).await;
    let object = revoke(&stage, "one").await;
    assert_eq!(object["status"]["stillReadable"]["count"], 1);
    assert_eq!(object["status"]["stillReadable"]["instances"][0]["status"], "Unknown");
    assert_eq!(object["status"]["blastRadius"]["complete"], false);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_drill_restores_itself() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(revocation("drill", json!({"drill": {"restoreAfterMinutes": 10}}))).await;
    revoke(&stage, "drill").await;
    tokio::time::sleep(Duration::from_secs(9 * 60)).await;
    assert_eq!(cloud_key(&stage, KEY).await, "Disabled");
    stage.until_reason("KeyRevocation", "drill", "Restored").await;
    assert_eq!(cloud_key(&stage, KEY).await, "Enabled");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_drill_restores_itself_though_whoever_began_it_is_gone() {
    const MINUTE: u64 = 60;
    // When the process ends after the cut, and how long nobody is there: also at the drill's own end.
    for (ends, away) in [(3 * MINUTE, 0), (MINUTE, 5 * MINUTE), (MINUTE, 30 * MINUTE)] {
        let stage = Stage::new().await;
        let process = stage.start().await;
        stage.apply(revocation("drill", json!({"drill": {"restoreAfterMinutes": 10}}))).await;
        revoke(&stage, "drill").await;
        let cut = tokio::time::Instant::now();
        tokio::time::sleep(Duration::from_secs(ends)).await;
        process.kill().await;
        tokio::time::sleep(Duration::from_secs(away)).await;
        let process = stage.start().await;
        tokio::time::sleep_until(cut + Duration::from_secs(9 * MINUTE)).await;
        if ends + away < 9 * MINUTE {
            assert_eq!(cloud_key(&stage, KEY).await, "Disabled", "{away} s away: not before its time");
        }
        tokio::time::sleep_until(cut + Duration::from_secs(10 * MINUTE + 15)).await;
        let restored = |object: &Value| condition(object, "Ready").1 == "Restored";
        let object = stage.until("KeyRevocation", "drill", 15 * SECOND, restored).await;
        assert_eq!(cloud_key(&stage, KEY).await, "Enabled", "{away} s away");
        assert_eq!((calls(&stage, "kms:DisableKey").await, calls(&stage, "kms:EnableKey").await), (1, 1));
        verified(&object);
        process.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_before_the_revocations_were_listed_once() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    for object in [disk("data"), crate::stage::image("image"), crate::stage::instance("web")] {
        stage.apply(object).await;
    }
    let all = [("EncryptedDisk", "data"), ("EncryptedImage", "image"), ("EncryptedInstance", "web")];
    for (kind, name) in all {
        stage.until_ready(kind, name).await;
    }
    stage.apply(revocation("one", json!({}))).await;
    revoke(&stage, "one").await;
    process.kill().await;
    // A new process, whose watch of revocations fails, while everything under the key is being deleted.
    stage
        .kube_faults(json!([{"resource": "keyrevocations.ecskms.dev", "verb": "watch", "status": 500},
        {"resource": "keyrevocations.ecskms.dev", "verb": "list", "status": 500}]))
        .await;
    for (kind, name) in all {
        stage.delete(kind, name).await;
    }
    let process = stage.start().await;
    tokio::time::sleep(HOUR).await;
    for action in ["ecs:DeleteDisk", "ecs:DeleteImage", "ecs:StopInstance", "ecs:DeleteInstance"] {
        assert_eq!(calls(&stage, action).await, 0, "{action}: it may be evidence");
    }
    stage.kube_faults(json!([])).await;
    for (kind, name) in all {
        stage.until_reason(kind, name, "KeyRevoked").await;
    }
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn where_revocations_cannot_exist_nobody_waits_for_them() {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    let stage = Stage::new().await;
    let crds: kube::Api<CustomResourceDefinition> = kube::Api::all(stage.client.clone());
    crds.delete("keyrevocations.ecskms.dev", &Default::default()).await.expect("it is there");
    let process = stage.start().await;
    stage.apply(disk("data")).await;
    let ready = |object: &Value| condition(object, "Ready").0 == "True";
    stage.until("EncryptedDisk", "data", Duration::from_secs(60), ready).await;
    stage.delete("EncryptedDisk", "data").await;
    stage.until_gone("EncryptedDisk", "data").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_does_not_lead_revokes_all_the_same() {
    let stage = Stage::new().await;
    let replicas = [stage.start_standby().await, stage.start_standby().await, stage.start_standby().await];
    let begun = tokio::time::Instant::now();
    stage.apply(revocation("one", json!({}))).await;
    let object = revoke(&stage, "one").await;
    assert!(begun.elapsed() < 2 * SECOND, "{:?}", begun.elapsed());
    verified(&object);
    set_desired(&stage, "one", "Restored").await;
    let object = stage.until_reason("KeyRevocation", "one", "Restored").await;
    assert_eq!(cloud_key(&stage, KEY).await, "Enabled");
    verified(&object);
    for replica in replicas {
        replica.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_grant_of_ecs_is_detached_and_attached_only_on_its_own_opt_in() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let refused = stage.try_apply(revocation("wide", json!({"method": "DetachEcsRole"}))).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("every customer key")));
    stage.apply(revocation("wide", of_the_role())).await;
    let object = revoke(&stage, "wide").await;
    assert!(!granted(&stage).await);
    assert_eq!(
        object["status"]["priorState"]["ecsRolePolicies"],
        json!(["System/AliyunECSDiskEncryptRolePolicy"])
    );
    assert_eq!(cloud_key(&stage, KEY).await, "Enabled", "the key itself is not touched");
    set_desired(&stage, "wide", "Restored").await;
    stage.until_reason("KeyRevocation", "wide", "Restored").await;
    assert!(granted(&stage).await);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_somebody_gives_back_is_taken_again_and_whoever_needs_it_says_so() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(disk("held")).await;
    stage.until_ready("EncryptedDisk", "held").await;
    // Under another key than the one that the revocation names: the grant is of them all.
    stage.apply(with(disk("other"), "key", json!({"alias": "alias/ecskms-second"}))).await;
    stage.until_ready("EncryptedDisk", "other").await;
    stage.apply(revocation("wide", of_the_role())).await;
    let shown = |object: &Value| condition(object, "KeyRevoked").0 == "True";
    for name in ["held", "other"] {
        let object = stage.until("EncryptedDisk", name, Duration::from_secs(5), shown).await;
        assert_eq!(condition(&object, "Ready").1, "KeyRevoked", "{name}");
    }
    revoke(&stage, "wide").await;
    for times in 1..=2 {
        set_grant(&stage, true).await;
        let again = |object: &Value| object["status"]["reverts"] == times && phase(object) == "Revoked";
        let object = stage.until("KeyRevocation", "wide", Duration::from_secs(60), again).await;
        assert!(!granted(&stage).await);
        assert_eq!(condition(&object, "RevocationReverted").0, "True");
        verified(&object);
    }
    set_desired(&stage, "wide", "Restored").await;
    stage.until_reason("KeyRevocation", "wide", "Restored").await;
    tokio::time::sleep(LONG).await;
    assert!(granted(&stage).await, "and it stays");
    for name in ["held", "other"] {
        stage.until_ready("EncryptedDisk", name).await;
    }
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_table_says_which_key_how_far_how_fast_and_who_still_reads() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(revocation("one", json!({}))).await;
    let object = revoke(&stage, "one").await;
    process.kill().await;
    let request = http::Request::get("/apis/ecskms.dev/v1alpha1/keyrevocations")
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
        .body(Vec::new())
        .expect("a request");
    let table: Value = stage.client.request(request).await.expect("a table");
    let shown = |column: &str| {
        let columns = table["columnDefinitions"].as_array().expect("columns");
        let index = columns.iter().position(|found| found["name"] == column);
        table["rows"][0]["cells"][index.expect(column)].clone()
    };
    for (column, value) in [
        ("Key", json!(KEY)),
        ("Desired", json!("Revoked")),
        ("Phase", json!("Revoked")),
        ("StillReadable", json!(1)),
        ("Affected", json!(1)),
        ("TTR", object["status"]["timings"]["timeToRevokeMs"].clone()),
        ("Incident", json!("INC-1")),
        ("Ready", json!("True")),
        ("Reason", json!("Revoked")),
    ] {
        assert_eq!(shown(column), value, "{column} of {table:#}");
    }
    assert!(shown("TTR").is_i64() && shown("Age").is_string(), "{table:#}");
}

#[tokio::test(start_paused = true)]
async fn bad_input_gets_a_clear_answer_and_no_call() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let refused = [
        (json!({"keyId": "alias/ecskms-demo"}), "keyId"),
        (json!({"reason": "short"}), "reason"),
        (json!({"approvals": [{"approver": "alice"}]}), "cannot approve"),
        (json!({"approvalsRequired": 3}), "approvalsRequired"),
    ];
    for (fields, word) in refused {
        let error = stage.try_apply(revocation("bad", fields.clone())).await.expect_err("bad input");
        assert!(error.to_string().contains(word), "{fields}: {error}");
    }
    let told = [
        ("service", json!({"keyId": "9d1e7f42-6c8b-4a35-b0d1-e2f3a4b5c6d7"}), "ServiceKeyNotRevocable"),
        ("foreign", json!({"region": "cn-shanghai"}), "KeyNotFound"),
        ("unknown", json!({"keyId": "key-hzz0000000000000000000"}), "KeyNotFound"),
        ("early", json!({"desiredState": "Restored"}), "NothingToRestore"),
        ("alone", json!({"approvalsRequired": 1}), "ApprovalMissing"),
    ];
    for (name, fields, reason) in told {
        stage.apply(revocation(name, fields)).await;
        let object = stage.until_reason("KeyRevocation", name, reason).await;
        assert!(message(&object, "Ready").len() > 40, "{object:#}");
    }
    for action in ["kms:DisableKey", "kms:EnableKey"] {
        assert_eq!(calls(&stage, action).await, 0, "{action}");
    }
    let approved = json!({"approvalsRequired": 1, "approvals": [{"approver": "bob"}]});
    stage.apply(revocation("alone", approved)).await;
    revoke(&stage, "alone").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_somebody_changed_is_told_and_holds_nothing() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(revocation("one", json!({}))).await;
    let object = revoke(&stage, "one").await;
    let mut journal = object["status"]["journal"].clone();
    journal[0]["target"] = json!("key-of-somebody-else");
    let patch = kube::api::Patch::Merge(json!({"status": {"journal": journal}}));
    let api = stage.objects("KeyRevocation");
    api.patch_status("one", &Default::default(), &patch).await.expect("the patch is accepted");
    set_key(&stage, "Enabled").await;
    let told =
        |object: &Value| condition(object, "JournalBroken").0 == "True" && object["status"]["reverts"] == 1;
    stage.until("KeyRevocation", "one", Duration::from_secs(60), told).await;
    stage.until("KeyRevocation", "one", Duration::from_secs(60), |object| phase(object) == "Revoked").await;
    assert_eq!(cloud_key(&stage, KEY).await, "Disabled");
    process.kill().await;
}
