//! Revocations in incidents that do not go by the book: records that differ, restorations that nobody watched, machines that are
//! started between two cuts, identities that may cut and not look.
//!
//! Goal: nobody fights, nothing is undone that somebody else did, and status says no more than what was seen.

use std::time::Duration;

use ecskms::alibaba::transport::IDLE_TIMEOUT;
use serde_json::{Value, json};

use crate::revocation::{
    CUT_LIMIT, DB, calls, cloud_key, entries, instance, phase, revocation, revoke, set_desired, set_key,
    verified, with,
};
use crate::stage::{KEY, Stage, condition, message};

/// Longer than an operator looks back after a restoration.
const LOOK_BACK: Duration = Duration::from_secs(90);

async fn deny(stage: &Stage, actions: &[&str]) {
    let denied = |action: &&str| json!({"action": action, "status": 403, "code": "Forbidden.RAM"});
    stage.order("PUT", "faults", actions.iter().map(denied).collect()).await;
}

#[tokio::test(start_paused = true)]
async fn two_records_that_differ_end_in_the_first_one_and_do_not_fight() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    set_key(&stage, "Disabled").await;
    stage.apply(revocation("first", json!({}))).await;
    revoke(&stage, "first").await;
    stage.apply(revocation("second", json!({"restoreTo": "Enabled"}))).await;
    let object = revoke(&stage, "second").await;
    assert_eq!(object["status"]["priorState"]["keyState"], "Enabled", "by its own word");
    set_desired(&stage, "first", "Restored").await;
    set_desired(&stage, "second", "Restored").await;
    let first = stage.until_reason("KeyRevocation", "first", "Restored").await;
    let second = stage.until_reason("KeyRevocation", "second", "Restored").await;
    let prior = &second["status"]["priorState"];
    assert_eq!((&prior["keyState"], &prior["inheritedFrom"]), (&json!("Disabled"), &json!("first")));
    let text = message(&second, "Restored");
    assert!(text.contains("by KeyRevocation first, which was first: Disabled"), "{text}");
    tokio::time::sleep(LOOK_BACK).await;
    assert_eq!(
        (cloud_key(&stage, KEY).await.as_str(), calls(&stage, "kms:EnableKey").await),
        ("Disabled", 0)
    );
    for object in [first, second] {
        verified(&object);
        let name = object["metadata"]["name"].as_str().expect("a name");
        let closed = stage.get("KeyRevocation", name).await;
        assert!(closed["status"]["timings"]["closedAt"].is_string(), "{closed:#}");
    }
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn what_others_do_while_nobody_looks_back_stays_and_is_told() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(revocation("one", json!({}))).await;
    revoke(&stage, "one").await;
    set_desired(&stage, "one", "Restored").await;
    stage.until_reason("KeyRevocation", "one", "Restored").await;
    process.kill().await;
    tokio::time::sleep(LOOK_BACK).await;
    // The next emergency, from another hand.
    set_key(&stage, "Disabled").await;
    let process = stage.start().await;
    let object = stage.until_reason("KeyRevocation", "one", "SwitchedSinceRestored").await;
    let text = message(&object, "Ready");
    assert!(text.contains("is Disabled now") && text.contains("delete this object"), "{text}");
    tokio::time::sleep(LOOK_BACK).await;
    assert_eq!(
        (cloud_key(&stage, KEY).await.as_str(), calls(&stage, "kms:EnableKey").await),
        ("Disabled", 1)
    );
    // Switched by hand to what was recorded, the record closes.
    set_key(&stage, "Enabled").await;
    stage.until_reason("KeyRevocation", "one", "Restored").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_plan_is_not_the_time_of_the_request() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(with(revocation("plan", json!({})), "desiredState", json!("Planned"))).await;
    stage.until_reason("KeyRevocation", "plan", "Planned").await;
    tokio::time::sleep(Duration::from_secs(7200)).await;
    set_desired(&stage, "plan", "Revoked").await;
    let object = revoke(&stage, "plan").await;
    let took = object["status"]["timings"]["timeToRevokeMs"].as_i64().expect("a time");
    assert!(took < 10_000, "{took} ms");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_was_started_between_two_cuts_is_not_contained() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(revocation("one", json!({"runningInstances": "ForceStop"}))).await;
    let contained = |object: &Value| phase(object) == "Contained" && condition(object, "Ready").0 == "True";
    stage.until("KeyRevocation", "one", Duration::from_secs(300), contained).await;
    // Somebody enables the key and starts a machine before the operator looks again.
    set_key(&stage, "Enabled").await;
    let run = json!({"do": "set", "kind": "instance", "id": DB, "region": "cn-hangzhou", "fields": {"status": "Running"}});
    stage.order("POST", "resources", run).await;
    // No more stops get through, so it keeps running.
    deny(&stage, &["StopInstances"]).await;
    let reverted = |object: &Value| object["status"]["reverts"] == 1 && phase(object) != "Revoking";
    let object = stage.until("KeyRevocation", "one", Duration::from_secs(60), reverted).await;
    assert_ne!(condition(&object, "Contained").0, "True", "{object:#}");
    let seen = |object: &Value| condition(object, "Contained") == ("False".into(), "StillReadable".into());
    let object = stage.until("KeyRevocation", "one", Duration::from_secs(60), seen).await;
    assert_eq!(object["status"]["stillReadable"]["count"], 1);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_declared_cut_whose_key_may_not_be_read_is_written_down_and_given_back() {
    let stage = Stage::new().await;
    deny(&stage, &["DescribeKey"]).await;
    let process = stage.start().await;
    stage
        .apply(revocation("drill", json!({"restoreTo": "Enabled", "drill": {"restoreAfterMinutes": 5}})))
        .await;
    let told = |object: &Value| {
        entries(object, "journal").iter().any(|entry| entry["action"] == "RecordPriorState")
            && condition(object, "Ready").0 == "False"
    };
    let object = stage.until("KeyRevocation", "drill", Duration::from_secs(30), told).await;
    assert_eq!(cloud_key(&stage, KEY).await, "Disabled");
    assert_eq!(entries(&object, "journal")[0]["action"], "DisableKey");
    assert!(object["status"]["timings"]["revokedAt"].is_string());
    assert_ne!(condition(&object, "Revoked").0, "True", "nobody saw it: {object:#}");
    assert!(message(&object, "Ready").contains("kms:DescribeKey"), "{}", message(&object, "Ready"));
    verified(&object);
    // The drill's end needs no look either; but it is not called restored.
    tokio::time::sleep(Duration::from_secs(400)).await;
    assert_eq!(cloud_key(&stage, KEY).await, "Enabled");
    let object = stage.get("KeyRevocation", "drill").await;
    assert_ne!(condition(&object, "Restored").0, "True", "nobody saw it: {object:#}");
    assert_eq!(calls(&stage, "kms:EnableKey").await, 1);
    stage.order("DELETE", "faults", Value::Null).await;
    verified(&stage.until_reason("KeyRevocation", "drill", "Restored").await);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_declared_cut_is_repeated_though_the_key_may_not_be_read() {
    for approvals in [0, 1] {
        let stage = Stage::new().await;
        let denied = json!({"action": "DescribeKey", "status": 403, "code": "Forbidden.RAM"});
        let throttled =
            json!({"action": "DisableKey", "status": 429, "code": "Rejected.Throttling", "times": 3});
        stage.order("PUT", "faults", json!([denied, throttled])).await;
        let process = stage.start().await;
        let fields = json!({"restoreTo": "Enabled", "approvalsRequired": approvals});
        stage.apply(revocation("one", fields)).await;
        if approvals > 0 {
            stage.until_reason("KeyRevocation", "one", "ApprovalMissing").await;
            let approval =
                json!({"spec": {"approvals": [{"approver": "bob", "time": "2026-01-01T00:00:00Z"}]}});
            let api = stage.objects("KeyRevocation");
            api.patch("one", &Default::default(), &kube::api::Patch::Merge(approval))
                .await
                .expect("accepted");
        }
        let told = |object: &Value| {
            object["status"]["priorState"].is_object() && condition(object, "Ready").0 == "False"
        };
        let object = stage.until("KeyRevocation", "one", Duration::from_secs(30), told).await;
        assert_eq!(cloud_key(&stage, KEY).await, "Disabled");
        assert_eq!(calls(&stage, "kms:DisableKey").await, 4, "and not once more than it takes");
        let journalled = |object: &Value| {
            let accepted = |entry: &Value| entry["action"] == "DisableKey" && entry["result"] == "Accepted";
            entries(object, "journal").iter().any(accepted)
                && object["status"]["timings"]["revokedAt"].is_string()
        };
        let object_with = stage.until("KeyRevocation", "one", Duration::from_secs(30), journalled).await;
        verified(&object_with);
        assert!(message(&object, "Ready").contains("kms:DescribeKey"), "{}", message(&object, "Ready"));
        // A process that knows nothing of it gives the key back, unseen as it was taken.
        process.kill().await;
        let process = stage.start().await;
        set_desired(&stage, "one", "Restored").await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(cloud_key(&stage, KEY).await, "Enabled");
        process.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_declared_cut_that_was_throttled_waits_for_no_status_either() {
    let stage = Stage::new().await;
    let throttled =
        json!([{"action": "DisableKey", "status": 429, "code": "Rejected.Throttling", "times": 3}]);
    stage.order("PUT", "faults", throttled).await;
    stage
        .kube_faults(
            json!([{"resource": "keyrevocations.ecskms.dev", "subresource": "status", "status": 500}]),
        )
        .await;
    let process = stage.start().await;
    stage.apply(revocation("one", json!({"restoreTo": "Enabled"}))).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(cloud_key(&stage, KEY).await, "Disabled");
    stage.kube_faults(json!([])).await;
    verified(&revoke(&stage, "one").await);
    process.kill().await;
}

/// Every second write of a status is refused, from the first or from the second one on: each rule strikes once, and lets as many
/// pass before as its turn demands.
async fn every_second_status(stage: &Stage, first: usize, after_effect: bool) {
    let rule = |skip: usize| {
        json!({"resource": "keyrevocations.ecskms.dev", "subresource": "status", "status": 500,
        "afterEffect": after_effect, "skip": skip, "times": 1})
    };
    stage.kube_faults((first..first + 60).map(rule).collect()).await;
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_takes_every_second_status_loses_no_step_and_repeats_none() {
    for (first, after_effect) in [(0, false), (1, false), (0, true), (1, true)] {
        let context = format!("from write {}, effect {after_effect}", first + 1);
        let stage = Stage::new().await;
        every_second_status(&stage, first, after_effect).await;
        let process = stage.start().await;
        let begun = tokio::time::Instant::now();
        stage.apply(revocation("one", json!({"runningInstances": "ForceStop"}))).await;
        while cloud_key(&stage, KEY).await != "Disabled" {
            assert!(begun.elapsed() < CUT_LIMIT, "{context}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let contained =
            |object: &Value| phase(object) == "Contained" && condition(object, "Ready").0 == "True";
        stage.until("KeyRevocation", "one", LOOK_BACK, contained).await;
        set_desired(&stage, "one", "Restored").await;
        stage.until_reason("KeyRevocation", "one", "Restored").await;
        tokio::time::sleep(LOOK_BACK).await;
        let faults = stage.api_control("/_kube/faults").await;
        let struck =
            faults["rules"].as_array().expect("rules").iter().filter(|rule| rule["times"] == 0).count();
        assert!((4..60).contains(&struck), "{context}: {struck} writes were refused");
        let object = stage.get("KeyRevocation", "one").await;
        assert_eq!(
            (cloud_key(&stage, KEY).await.as_str(), phase(&object)),
            ("Enabled", "Restored"),
            "{context}"
        );
        assert_eq!(instance(&stage, DB).await, "Running", "{context}");
        assert_eq!(object["status"]["priorState"]["keyState"], "Enabled", "{context}");
        verified(&object);
        for action in ["RecordPriorState", "StopInstances", "DisableKey", "EnableKey", "StartInstances"] {
            let journal = entries(&object, "journal");
            let told = journal.iter().filter(|entry| entry["action"] == action).count();
            assert_eq!(told, 1, "{context}: {action} in {journal:#?}");
        }
        for action in ["kms:DisableKey", "kms:EnableKey", "ecs:StopInstances", "ecs:StartInstances"] {
            assert_eq!(calls(&stage, action).await, 1, "{context}: {action}");
        }
        process.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_declared_end_of_the_role_is_recorded_though_the_key_is_not_there() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let role = json!({"method": "DetachEcsRole", "restoreTo": "Enabled", "keyId": "key-of-another-region",
        "safety": {"acknowledgeAccountWide": true}});
    stage.apply(revocation("role", role)).await;
    let object = revoke(&stage, "role").await;
    assert_eq!(object["status"]["priorState"]["keyState"], "Attached");
    set_desired(&stage, "role", "Restored").await;
    stage.until_reason("KeyRevocation", "role", "Restored").await;
    assert_eq!(calls(&stage, "ram:AttachPolicyToRole").await, 1);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_recorded_cut_whose_key_may_not_be_read_says_which_right_is_missing() {
    let stage = Stage::new().await;
    deny(&stage, &["DescribeKey"]).await;
    let process = stage.start().await;
    stage.apply(revocation("one", json!({}))).await;
    let told = |object: &Value| condition(object, "Ready").0 == "False";
    let object = stage.until("KeyRevocation", "one", Duration::from_secs(30), told).await;
    let text = message(&object, "Ready");
    assert!(text.contains("kms:DescribeKey") && text.contains("restoreTo: Enabled"), "{text}");
    assert_eq!(calls(&stage, "kms:DisableKey").await, 0, "what it goes back to is not known");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn the_role_is_taken_and_given_back_though_the_key_cannot_be_read() {
    let stage = Stage::new().await;
    deny(&stage, &["DescribeKey"]).await;
    let process = stage.start().await;
    let role = json!({"method": "DetachEcsRole", "safety": {"acknowledgeAccountWide": true}});
    stage.apply(revocation("role", role)).await;
    revoke(&stage, "role").await;
    set_desired(&stage, "role", "Restored").await;
    stage.until_reason("KeyRevocation", "role", "Restored").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn ready_ends_where_the_key_is_not_looked_at_any_more() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(revocation("one", json!({}))).await;
    revoke(&stage, "one").await;
    let throttled = json!([{"action": "DescribeKey", "status": 429, "code": "Rejected.Throttling"}]);
    stage.order("PUT", "faults", throttled).await;
    let blind = |object: &Value| condition(object, "Ready").0 != "True";
    let object = stage.until("KeyRevocation", "one", Duration::from_secs(90), blind).await;
    assert!(message(&object, "Ready").contains("DescribeKey"), "{}", message(&object, "Ready"));
    stage.order("DELETE", "faults", Value::Null).await;
    stage.until_reason("KeyRevocation", "one", "Revoked").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_declared_cut_that_was_held_back_restores_nothing() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let held = revocation("held", json!({"restoreTo": "Enabled", "approvalsRequired": 1}));
    stage.apply(held).await;
    stage.until_reason("KeyRevocation", "held", "ApprovalMissing").await;
    set_desired(&stage, "held", "Restored").await;
    stage.until_reason("KeyRevocation", "held", "NothingToRestore").await;
    // Its owner disables the key, and then a belated approval comes.
    set_key(&stage, "Disabled").await;
    let approval = json!({"spec": {"approvals": [{"approver": "bob", "time": "2026-01-01T00:00:00Z"}]}});
    let api = stage.objects("KeyRevocation");
    api.patch("held", &Default::default(), &kube::api::Patch::Merge(approval)).await.expect("accepted");
    tokio::time::sleep(LOOK_BACK).await;
    assert_eq!(
        (cloud_key(&stage, KEY).await.as_str(), calls(&stage, "kms:EnableKey").await),
        ("Disabled", 0)
    );
    // And another one takes nothing over from it.
    stage.apply(revocation("other", json!({}))).await;
    let object = revoke(&stage, "other").await;
    assert_eq!(object["status"]["priorState"]["keyState"], "Disabled");
    process.kill().await;
}

/// That a standby needs no word of the leader, and that its calls stand in no queue behind the leader's. Contention costs nothing
/// here, because time is virtual and both run on one thread; `tests/latency_revocation.rs` measures it.
#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_with_the_order_and_a_backlog_costs_no_second() {
    let stage = Stage::new().await;
    let leader = stage.start().await;
    let standby = stage.start_standby().await;
    stage.order("PUT", "settings", json!({"quotaDefault": 5})).await;
    for number in 0..300 {
        stage.apply(crate::stage::disk(&format!("other-{number}"))).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let begun = tokio::time::Instant::now();
    stage.apply(revocation("one", json!({}))).await;
    leader.kill().await;
    while cloud_key(&stage, KEY).await != "Disabled" {
        assert!(begun.elapsed() < Duration::from_secs(1), "the key is still on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    verified(&revoke(&stage, "one").await);
    assert!(standby.gate.log().iter().any(|mutation| mutation == "DisableKey"));
    standby.kill().await;
}

/// A connection that is dead without a word is noticed only when the watch ends, so it ends often; and must cost next to nothing.
#[tokio::test(start_paused = true)]
async fn the_watch_of_revocations_ends_often_and_is_resumed_without_a_list() {
    let stage = Stage::new().await;
    let process = stage.start_standby().await;
    tokio::time::sleep(Duration::from_secs(605)).await;
    let watches: Vec<String> =
        process.gate.watches().into_iter().filter(|uri| uri.contains("/keyrevocations?")).collect();
    let of_each = |word: &str| watches.iter().filter(|uri| uri.contains(word)).count();
    assert!((20..=22).contains(&watches.len()), "{watches:#?}");
    assert_eq!((of_each("sendInitialEvents=true"), of_each("timeoutSeconds=30")), (1, watches.len()));
    // What is written after it was resumed is noticed all the same.
    stage.apply(revocation("later", json!({}))).await;
    revoke(&stage, "later").await;
    process.kill().await;
}

/// An idle connection is closed after fifteen seconds, and a cut that has to open one loses time to it.
#[tokio::test(start_paused = true)]
async fn a_standby_uses_its_connection_to_kms_more_often_than_it_would_be_closed() {
    let stage = Stage::new().await;
    // A plan says in which region a cut may come.
    stage.apply(with(revocation("plan", json!({})), "desiredState", json!("Planned"))).await;
    let process = stage.start_standby().await;
    let mut used = 0;
    for period in 0..40 {
        tokio::time::sleep(IDLE_TIMEOUT).await;
        let now = calls(&stage, "kms:DescribeRegions").await;
        assert!(now > used, "nothing in period {period}");
        used = now;
    }
    assert!(used < 70, "{used} calls in ten minutes");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_somebody_changed_is_told_by_an_event() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(revocation("one", json!({}))).await;
    let object = revoke(&stage, "one").await;
    let mut journal = object["status"]["journal"].clone();
    journal[0]["result"] = json!("Disabled");
    let patch = kube::api::Patch::Merge(json!({"status": {"journal": journal}}));
    let api = stage.objects("KeyRevocation");
    api.patch_status("one", &Default::default(), &patch).await.expect("accepted");
    let broken = |object: &Value| condition(object, "JournalBroken").0 == "True";
    stage.until("KeyRevocation", "one", Duration::from_secs(300), broken).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let events: kube::Api<k8s_openapi::api::events::v1::Event> = kube::Api::all(stage.client.clone());
    let events = events.list(&Default::default()).await.expect("a list");
    let told =
        |event: &&k8s_openapi::api::events::v1::Event| event.reason.as_deref() == Some("JournalBroken");
    assert_eq!(events.items.iter().filter(told).count(), 1, "once: {events:#?}");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn each_time_that_a_revocation_is_taken_back_is_an_event() {
    let stage = Stage::new().await;
    let replicas = [stage.start_standby().await, stage.start_standby().await];
    stage.apply(revocation("one", json!({}))).await;
    revoke(&stage, "one").await;
    for reverts in 1..=2 {
        set_key(&stage, "Enabled").await;
        let again = |object: &Value| {
            object["status"]["reverts"] == reverts && ["Revoked", "Contained"].contains(&phase(object))
        };
        stage.until("KeyRevocation", "one", Duration::from_secs(120), again).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let events: kube::Api<k8s_openapi::api::events::v1::Event> = kube::Api::all(stage.client.clone());
    let events = events.list(&Default::default()).await.expect("a list").items;
    // The same again within minutes is a series of one Event.
    let times: i32 = events
        .iter()
        .filter(|event| event.reason.as_deref() == Some("RevocationReverted"))
        .map(|event| event.series.as_ref().map_or(1, |series| series.count))
        .sum();
    assert_eq!(times, 2, "{events:#?}");
    for replica in replicas {
        replica.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_declared_order_that_is_refused_outright_becomes_no_record() {
    let stage = Stage::new().await;
    deny(&stage, &["DescribeKey", "DisableKey"]).await;
    let process = stage.start().await;
    stage.apply(revocation("one", json!({"restoreTo": "Enabled"}))).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    let object = stage.get("KeyRevocation", "one").await;
    assert_eq!(
        (&object["status"]["priorState"], condition(&object, "Ready").0.as_str()),
        (&Value::Null, "False")
    );
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_of_the_api_server_an_order_is_seen_within_seconds() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let refused = |verb: &str| json!({"verb": verb, "resource": "keyrevocations.ecskms.dev", "status": 503});
    stage.kube_faults(json!([refused("watch"), refused("list")])).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    stage.kube_faults(json!([])).await;
    let begun = tokio::time::Instant::now();
    stage.apply(revocation("one", json!({}))).await;
    while cloud_key(&stage, KEY).await != "Disabled" {
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    process.kill().await;
}
