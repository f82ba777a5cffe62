//! The whole operator against both servers: what users and their clouds do to it, one sentence each.
//!
//! Goal: every wish ends in its promise or in a reason that a human can act on, with no call and no write too many.

use std::time::Duration;

use ecskms::engine::lease::{Elector, LEASE_DURATION};
use serde_json::{Value, json};

use crate::stage::{IMAGE, KEY, Stage, condition, disk, image, message};

const HOUR: Duration = Duration::from_secs(3600);

fn with(mut object: Value, field: &str, value: Value) -> Value {
    object["spec"][field] = value;
    object
}

async fn another_image(stage: &Stage, id: &str, gib: u32) {
    let fields = json!({"name": id, "sizeGib": gib, "status": "Available", "ownerAlias": "self"});
    stage
        .order(
            "POST",
            "resources",
            json!({"do": "create", "kind": "image", "id": id, "region": "cn-hangzhou", "fields": fields}),
        )
        .await;
}

async fn set(stage: &Stage, kind: &str, id: &str, fields: Value) {
    let order = json!({"do": "set", "kind": kind, "id": id, "region": "cn-hangzhou", "fields": fields});
    stage.order("POST", "resources", order).await;
}

async fn set_key(stage: &Stage, state: &str) {
    set(stage, "key", KEY, json!({"state": state})).await;
}

/// An image as the cloud has it.
async fn real_image(stage: &Stage, id: &str) -> Value {
    stage.control("state").await["images"][id].clone()
}

async fn calls(stage: &Stage, action: &str) -> u64 {
    let counters = stage.control("counters").await;
    counters[action]
        .as_object()
        .map(|codes| codes.values().filter_map(Value::as_u64).sum())
        .unwrap_or_default()
}

/// Accepted writes to the API by the operator and the test, and how many of them changed nothing.
async fn writes(stage: &Stage) -> (u64, u64) {
    let stats = stage.api_control("/_kube/stats").await;
    (stats["writes"].as_u64().expect("a number"), stats["writesUnchanged"].as_u64().expect("a number"))
}

#[tokio::test(start_paused = true)]
async fn a_disk_costs_three_writes_and_one_creation() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let (before, _) = writes(&stage).await;
    stage.apply(disk("one")).await;
    stage.until_ready("EncryptedDisk", "one").await;
    tokio::time::sleep(HOUR).await;
    let (after, unchanged) = writes(&stage).await;
    // The test's own apply, then finalizer, intent and Ready. No Event tells what goes well from the start.
    assert_eq!((after - before, unchanged), (4, 0), "{:#?}", process.gate.log());
    assert_eq!(calls(&stage, "ecs:CreateDisk").await, 1);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn many_disks_share_their_reads_and_a_restart_writes_nothing() {
    const DISKS: u64 = 60;
    let stage = Stage::new().await;
    let first = stage.start().await;
    for number in 0..DISKS {
        stage.apply(disk(&format!("d{number}"))).await;
    }
    for number in 0..DISKS {
        stage.until_ready("EncryptedDisk", &format!("d{number}")).await;
    }
    assert_eq!(calls(&stage, "ecs:CreateDisk").await, DISKS);
    first.kill().await;
    let (before, _) = writes(&stage).await;
    let reads = calls(&stage, "ecs:DescribeDisks").await;
    let second = stage.start().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(writes(&stage).await.0, before, "a restart writes nothing: {:#?}", second.gate.log());
    let reads = calls(&stage, "ecs:DescribeDisks").await - reads;
    assert!(reads <= 3, "{reads} list calls for {DISKS} disks after a restart");
    second.kill().await;
}

#[tokio::test(start_paused = true)]
async fn five_copies_run_in_a_region_and_the_others_know_their_place() {
    let stage = Stage::new().await;
    for number in 0..8 {
        another_image(&stage, &format!("m-bp1queue{number}"), 40).await;
    }
    let process = stage.start().await;
    for number in 0..8 {
        let source = json!({"imageId": format!("m-bp1queue{number}")});
        stage.apply(with(image(&format!("i{number}")), "source", source)).await;
    }
    let mut queued = 0;
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let copying = stage
            .owned("images")
            .await
            .into_iter()
            .filter(|(_, _, image)| image["status"] != "Available")
            .count();
        assert!(copying <= 5, "{copying} copies at once");
        for number in 0..8 {
            let object = stage.get("EncryptedImage", &format!("i{number}")).await;
            if condition(&object, "Ready").1 == "CopyQueued" {
                queued += 1;
                assert!(
                    object["status"]["queuePosition"].as_u64().is_some_and(|place| (1..=3).contains(&place)),
                    "{object:#}"
                );
                assert_eq!(condition(&object, "Reconciling").0, "True");
            }
        }
    }
    assert!(queued > 0, "three of eight had to wait");
    for number in 0..8 {
        stage.until_ready("EncryptedImage", &format!("i{number}")).await;
    }
    assert_eq!(calls(&stage, "ecs:CopyImage").await, 8, "nobody was refused");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn one_source_is_copied_once_at_a_time() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(image("first")).await;
    stage.apply(image("second")).await;
    stage.until_ready("EncryptedImage", "first").await;
    stage.until_ready("EncryptedImage", "second").await;
    assert_eq!(calls(&stage, "ecs:CopyImage").await, 2, "nobody was refused");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_copy_is_cancelled_with_its_snapshots() {
    let stage = Stage::new().await;
    let snapshots = |state: Value| state["snapshots"].as_object().map(serde_json::Map::len);
    let before = snapshots(stage.control("state").await);
    let process = stage.start().await;
    another_image(&stage, "m-bp1large", 400).await;
    let before = before.map(|count| count + 1);
    stage
        .apply(with(
            with(image("one"), "source", json!({"imageId": "m-bp1large"})),
            "deletionPolicy",
            json!("Retain"),
        ))
        .await;
    stage.until_reason("EncryptedImage", "one", "Copying").await;
    stage.until("EncryptedImage", "one", HOUR, |object| object["status"]["imageId"].is_string()).await;
    stage.delete("EncryptedImage", "one").await;
    stage.until_gone("EncryptedImage", "one").await;
    assert_eq!(calls(&stage, "ecs:CancelCopyImage").await, 1);
    assert!(stage.owned("images").await.is_empty());
    assert_eq!(snapshots(stage.control("state").await), before);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_over_500_gib_is_refused_before_any_mutating_call() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(with(image("big"), "source", json!({"imageId": "m-bp1big600g0000000003"}))).await;
    let object = stage.until_reason("EncryptedImage", "big", "SourceTooLarge").await;
    assert!(message(&object, "Ready").contains("ticket"));
    assert_eq!(condition(&object, "Stalled").0, "True");
    tokio::time::sleep(HOUR).await;
    assert_eq!(calls(&stage, "ecs:CopyImage").await, 0);
    assert_eq!(calls(&stage, "kms:DescribeKey").await, 0, "not even the key is asked for");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_disabled_key_shows_within_a_round_and_heals() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(disk("one")).await;
    stage.until_ready("EncryptedDisk", "one").await;
    set_key(&stage, "Disabled").await;
    let object = stage.until_reason("EncryptedDisk", "one", "KeyDisabled").await;
    assert_eq!(condition(&object, "KeyUsable").0, "False");
    assert_eq!(condition(&object, "Encrypted").0, "True", "it is still encrypted");
    set_key(&stage, "Enabled").await;
    stage.until_ready("EncryptedDisk", "one").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_role_says_how_to_grant_it_and_only_matters_to_customer_keys() {
    let stage = Stage::new().await;
    let order = json!({"do": "delete", "kind": "role", "id": "AliyunECSDiskEncryptDefaultRole"});
    stage.order("POST", "resources", order).await;
    let process = stage.start().await;
    stage.apply(disk("customer")).await;
    stage.apply(with(disk("service"), "key", json!({"service": true}))).await;
    let object = stage.until_reason("EncryptedDisk", "customer", "EcsRoleMissing").await;
    assert!(message(&object, "Ready").contains("AliyunECSDiskEncryptRolePolicy"));
    let object = stage.until_ready("EncryptedDisk", "service").await;
    assert_eq!(condition(&object, "Revocable"), ("False".into(), "ServiceKey".into()));
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_denied_call_names_the_ram_action_and_the_request() {
    let stage = Stage::new().await;
    let policy = json!({"Version": "1", "Statement": [
        {"Effect": "Allow", "Action": ["ecs:Describe*", "kms:*", "ram:*"], "Resource": "*"}]});
    stage.order("PUT", "settings", json!({"limitedPolicy": policy})).await;
    let process =
        stage.start_as(sim::cloud::LIMITED_ACCESS_KEY_ID, sim::cloud::LIMITED_ACCESS_KEY_SECRET).await;
    stage.apply(disk("one")).await;
    let object = stage.until_reason("EncryptedDisk", "one", "AccessDenied").await;
    assert!(message(&object, "Ready").contains("ecs:CreateDisk"), "{object:#}");
    assert!(object["status"]["lastError"]["requestId"].is_string(), "{object:#}");
    assert_eq!(condition(&object, "Stalled").0, "True");
    stage.order("PUT", "settings", json!({"limitedPolicy": {"Version": "1", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}})).await;
    stage.until_ready("EncryptedDisk", "one").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn wrong_credentials_are_said_without_the_secret() {
    let stage = Stage::new().await;
    let process = stage.start_as(sim::cloud::ACCESS_KEY_ID, "a-wrong-secret-word").await;
    stage.apply(disk("one")).await;
    let object = stage.until_reason("EncryptedDisk", "one", "CredentialsInvalid").await;
    assert!(!object.to_string().contains("a-wrong-secret-word"));
    assert!(!object.to_string().contains("x-acs-"), "the string to sign is not repeated: {object:#}");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_permanent_refusal_is_asked_once_and_again_only_on_request() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(with(disk("one"), "zoneId", json!("cn-hangzhou-zz"))).await;
    let object = stage.until_reason("EncryptedDisk", "one", "RequestRefused").await;
    assert!(message(&object, "Ready").contains("InvalidZoneId.NotFound"), "{object:#}");
    tokio::time::sleep(6 * HOUR).await;
    assert_eq!(calls(&stage, "ecs:CreateDisk").await, 1, "a refused request is not repeated");
    let object = stage.get("EncryptedDisk", "one").await;
    assert!(
        message(&object, "Ready").contains("InvalidZoneId.NotFound"),
        "what the cloud said stays: {object:#}"
    );
    let mut again = with(disk("one"), "zoneId", json!("cn-hangzhou-zz"));
    again["metadata"]["annotations"] = json!({"ecskms.dev/reconcile-requested-at": "now"});
    stage.apply(again).await;
    let handled = |object: &Value| object["status"]["lastHandledReconcileAt"] == "now";
    stage.until("EncryptedDisk", "one", HOUR, handled).await;
    assert_eq!(calls(&stage, "ecs:CreateDisk").await, 2);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn throttling_costs_calls_and_time_but_no_attempt() {
    let stage = Stage::new().await;
    stage.order("PUT", "faults", json!([{"action": "CreateDisk", "status": 400, "code": "Throttling.User", "when": "before", "times": 3}])).await;
    let process = stage.start().await;
    stage.apply(disk("one")).await;
    let object = stage.until_reason("EncryptedDisk", "one", "Throttled").await;
    assert_eq!(condition(&object, "Reconciling").0, "True", "never Stalled: {object:#}");
    let object = stage.until_ready("EncryptedDisk", "one").await;
    assert_eq!(object["status"]["intent"]["attempt"], 1, "{object:#}");
    assert_eq!(object["status"]["intent"]["sends"], 1, "{object:#}");
    assert!(object["status"]["lastError"].is_null());
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_html_cut_off_or_lost_ends_in_one_disk() {
    for fault in [
        json!({"action": "CreateDisk", "body": "html", "when": "after", "times": 1}),
        json!({"action": "CreateDisk", "body": "truncated", "when": "after", "times": 1}),
        json!({"action": "CreateDisk", "status": 500, "code": "InternalError", "when": "after", "times": 2}),
        json!({"action": "CreateDisk", "status": 503, "code": "ServiceUnavailable", "when": "before", "times": 2}),
        json!({"action": "DescribeDisks", "body": "html", "when": "before", "times": 5}),
        json!({"action": "DescribeDisks", "body": "truncated", "when": "before", "times": 5}),
    ] {
        let stage = Stage::new().await;
        stage.order("PUT", "faults", json!([fault])).await;
        let process = stage.start().await;
        stage.apply(disk("one")).await;
        let object = stage.until_ready("EncryptedDisk", "one").await;
        assert_eq!(stage.owned("disks").await.len(), 1, "{fault}: {object:#}");
        process.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn lists_that_lag_behind_do_not_double_anything() {
    let stage = Stage::new().await;
    stage.order("PUT", "settings", json!({"listLagSeconds": 1200})).await;
    let process = stage.start().await;
    stage.apply(disk("one")).await;
    stage.until_ready("EncryptedDisk", "one").await;
    assert_eq!(stage.owned("disks").await.len(), 1);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_status_word_is_waited_for_and_shown() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(disk("one")).await;
    let object = stage.until_ready("EncryptedDisk", "one").await;
    let id = object["status"]["diskId"].as_str().expect("an id").to_owned();
    let set = |status: &str| json!({"do": "set", "kind": "disk", "id": id, "region": "cn-hangzhou", "fields": {"status": status}});
    stage.order("POST", "resources", set("Teleporting")).await;
    let object = stage.until_reason("EncryptedDisk", "one", "StatusUnknown").await;
    assert_eq!(object["status"]["diskStatus"], "Teleporting");
    stage.order("POST", "resources", set("Available")).await;
    stage.until_ready("EncryptedDisk", "one").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_deleted_behind_our_back_is_reported_and_not_made_again() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(disk("one")).await;
    let object = stage.until_ready("EncryptedDisk", "one").await;
    let order =
        json!({"do": "delete", "kind": "disk", "id": object["status"]["diskId"], "region": "cn-hangzhou"});
    stage.order("POST", "resources", order).await;
    stage.until_reason("EncryptedDisk", "one", "ExternalGone").await;
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(calls(&stage, "ecs:CreateDisk").await, 1);
    stage.delete("EncryptedDisk", "one").await;
    stage.until_gone("EncryptedDisk", "one").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_retained_disk_is_not_doubled_by_an_object_of_the_same_name() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let retained = with(disk("one"), "deletionPolicy", json!("Retain"));
    stage.apply(retained.clone()).await;
    let object = stage.until_ready("EncryptedDisk", "one").await;
    let id = object["status"]["diskId"].clone();
    stage.delete("EncryptedDisk", "one").await;
    stage.until_gone("EncryptedDisk", "one").await;
    stage.apply(retained.clone()).await;
    let object = stage.until_reason("EncryptedDisk", "one", "AdoptionMismatch").await;
    assert!(message(&object, "Ready").contains(id.as_str().expect("an id")), "{object:#}");
    stage.delete("EncryptedDisk", "one").await;
    stage.until_gone("EncryptedDisk", "one").await;
    stage.apply(with(retained, "adopt", json!({"externalId": id}))).await;
    let object = stage.until_ready("EncryptedDisk", "one").await;
    assert_eq!(object["status"]["diskId"], id);
    assert_eq!(calls(&stage, "ecs:CreateDisk").await, 1);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn adoption_refuses_a_disk_under_another_key_and_never_deletes_what_it_adopted() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let adopt = |name: &str, id: &str| with(disk(name), "adopt", json!({"externalId": id}));
    stage.apply(adopt("plain", "d-bp1archive0000000001")).await;
    stage.until_reason("EncryptedDisk", "plain", "NotEncrypted").await;
    stage.apply(adopt("other", "d-bp1service0000000008")).await;
    stage.until_reason("EncryptedDisk", "other", "KeyMismatch").await;
    stage.apply(adopt("good", "d-bp1dbdata00000000004")).await;
    stage.until_ready("EncryptedDisk", "good").await;
    for name in ["plain", "other", "good"] {
        stage.delete("EncryptedDisk", name).await;
        stage.until_gone("EncryptedDisk", name).await;
    }
    assert_eq!(calls(&stage, "ecs:DeleteDisk").await, 0);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_under_the_wrong_key_is_never_called_ready() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(with(image("one"), "adopt", json!({"externalId": IMAGE}))).await;
    let object = stage.until_reason("EncryptedImage", "one", "NotEncrypted").await;
    assert_eq!(condition(&object, "Encrypted").0, "False");
    let vault = with(image("two"), "adopt", json!({"externalId": "m-bp1vault40g000000007"}));
    stage.apply(with(vault, "key", json!({"alias": "alias/ecskms-second"}))).await;
    stage.until_reason("EncryptedImage", "two", "KeyMismatch").await;
    process.kill().await;
}

/// A named and described image of the shop.
fn described(name: &str) -> Value {
    let named = with(with(image(name), "imageName", json!("shop-base")), "description", json!("of the shop"));
    with(named, "tags", json!({"team": "shop"}))
}

#[tokio::test(start_paused = true)]
async fn name_description_and_tags_of_an_image_are_put_right() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let wish = with(described("one"), "resourceGroupId", json!("rg-ours"));
    stage.apply(wish.clone()).await;
    let object = stage.until_ready("EncryptedImage", "one").await;
    assert_eq!(condition(&object, "Drifted").0, "", "{object:#}");
    let id = object["status"]["imageId"].as_str().expect("an id").to_owned();
    let mut tags = real_image(&stage, &id).await["tags"].clone();
    (tags["team"], tags["theirs"]) = (json!("thieves"), json!("stays"));
    let fields = json!({"name": "renamed", "description": "x", "tags": tags, "resourceGroupId": "rg-theirs"});
    set(&stage, "image", &id, fields).await;
    let drifted = |object: &Value| object["status"]["drift"].is_array();
    let object = stage.until("EncryptedImage", "one", HOUR, drifted).await;
    let drift = json!([{"path": "spec.resourceGroupId", "desired": "rg-ours", "observed": "rg-theirs"}]);
    assert_eq!(object["status"]["drift"], drift, "{object:#}");
    let object = stage.until_ready("EncryptedImage", "one").await;
    assert_eq!(condition(&object, "Drifted").0, "True", "{object:#}");
    let seen = real_image(&stage, &id).await;
    assert_eq!((&seen["name"], &seen["description"]), (&json!("shop-base"), &json!("of the shop")));
    assert_eq!((&seen["tags"]["team"], &seen["tags"]["theirs"]), (&json!("shop"), &json!("stays")));
    assert_eq!(seen["resourceGroupId"], "rg-theirs", "told, never mended");
    stage.apply(with(wish, "description", json!("told anew"))).await;
    let settled = |object: &Value| {
        object["status"]["observedGeneration"] == object["metadata"]["generation"]
            && condition(object, "Ready").0 == "True"
    };
    stage.until("EncryptedImage", "one", HOUR, settled).await;
    assert_eq!(real_image(&stage, &id).await["description"], "told anew");
    assert_eq!(calls(&stage, "ecs:ModifyImageAttribute").await, 2);
    assert_eq!((calls(&stage, "ecs:TagResources").await, calls(&stage, "ecs:CopyImage").await), (1, 1));
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_another_image_took_is_asked_for_once_and_told() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(described("one")).await;
    let object = stage.until_ready("EncryptedImage", "one").await;
    let id = object["status"]["imageId"].as_str().expect("an id").to_owned();
    set(&stage, "image", &id, json!({"name": "renamed"})).await;
    set(&stage, "image", IMAGE, json!({"name": "shop-base"})).await;
    let object = stage.until_reason("EncryptedImage", "one", "RequestRefused").await;
    assert_eq!(object["status"]["lastError"]["code"], "InvalidImageName.Duplicated", "{object:#}");
    tokio::time::sleep(HOUR).await;
    assert_eq!(calls(&stage, "ecs:ModifyImageAttribute").await, 1);
    set(&stage, "image", IMAGE, json!({"name": "free"})).await;
    let mut again = described("one");
    again["metadata"]["annotations"] = json!({"ecskms.dev/reconcile-requested-at": "now"});
    stage.apply(again).await;
    stage.until_ready("EncryptedImage", "one").await;
    assert_eq!(real_image(&stage, &id).await["name"], "shop-base");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_only_observed_is_told_and_never_changed() {
    const VAULT: &str = "m-bp1vault40g000000007";
    let stage = Stage::new().await;
    let process = stage.start().await;
    let observing = with(described("one"), "adopt", json!({"externalId": VAULT}));
    stage.apply(with(observing.clone(), "managementPolicy", json!("Observe"))).await;
    let object = stage.until_ready("EncryptedImage", "one").await;
    let drift = object["status"]["drift"].as_array().cloned().unwrap_or_default();
    let paths: Vec<_> = drift.iter().filter_map(|drift| drift["path"].as_str()).collect();
    assert_eq!(paths, ["spec.description", "spec.imageName", "spec.tags[team]"], "{object:#}");
    assert_eq!(
        drift[1],
        json!({"path": "spec.imageName", "desired": "shop-base", "observed": "ecskms-demo-vault"})
    );
    assert_eq!(condition(&object, "Drifted").0, "True");
    assert!(message(&object, "Drifted").contains("And 2 more"), "{object:#}");
    tokio::time::sleep(HOUR).await;
    assert_eq!(calls(&stage, "ecs:ModifyImageAttribute").await + calls(&stage, "ecs:TagResources").await, 0);
    // From now on it is managed, although it is not the operator's own.
    stage.apply(with(observing, "managementPolicy", json!("Manage"))).await;
    let mended = |object: &Value| object["status"]["drift"].is_null();
    stage.until("EncryptedImage", "one", HOUR, mended).await;
    stage.until_ready("EncryptedImage", "one").await;
    let seen = real_image(&stage, VAULT).await;
    assert_eq!((&seen["name"], &seen["tags"]["team"]), (&json!("shop-base"), &json!("shop")));
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_alias_of_an_image_that_was_pointed_elsewhere_is_told_and_never_followed() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(with(image("one"), "key", json!({"alias": "alias/ecskms-demo"}))).await;
    stage.until_ready("EncryptedImage", "one").await;
    let other = "key-hzz65f0a1b2c3d4e5f6a7c9";
    let order = json!({"do": "create", "kind": "alias", "id": "alias/ecskms-demo", "region": "cn-hangzhou", "fields": {"keyId": other}});
    stage.order("POST", "resources", order).await;
    let drifted = |object: &Value| object["status"]["drift"].is_array();
    let object = stage.until("EncryptedImage", "one", HOUR, drifted).await;
    let drift = json!([{"path": "spec.key.alias", "desired": KEY, "observed": other}]);
    assert_eq!((&object["status"]["drift"], &object["status"]["keyId"]), (&drift, &json!(KEY)));
    assert_eq!(condition(&object, "Ready").0, "True", "the image is what it was: {object:#}");
    assert!(message(&object, "Drifted").contains("cannot change its key"), "{object:#}");
    assert_eq!(calls(&stage, "ecs:CopyImage").await, 1);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn the_api_server_may_fail_for_a_minute() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(disk("one")).await;
    let rules = json!([{"resource": "encrypteddisks.ecskms.dev", "verb": "patch", "probability": 1.0, "status": 503, "times": 30},
                       {"resource": "encrypteddisks.ecskms.dev", "verb": "watch", "probability": 1.0, "status": 500, "times": 3}]);
    stage.api_order("PUT", "/_kube/faults", json!({"seed": 1, "rules": rules, "dropWatches": true})).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    stage.api_order("DELETE", "/_kube/faults", Value::Null).await;
    stage.apply(disk("two")).await;
    stage.until_ready("EncryptedDisk", "one").await;
    stage.until_ready("EncryptedDisk", "two").await;
    assert_eq!(stage.owned("disks").await.len(), 2);
    let stats = stage.api_control("/_kube/stats").await;
    let refused: u64 =
        stats["requests"].as_array().into_iter().flatten().filter_map(|row| row["refused"].as_u64()).sum();
    assert!(refused >= 3, "the faults did strike: {stats:#}");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_compacted_history_does_not_stop_the_watch() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(disk("one")).await;
    stage.until_ready("EncryptedDisk", "one").await;
    for name in ["two", "three"] {
        stage.api_order("PUT", "/_kube/faults", json!({"dropWatches": true, "compact": true})).await;
        stage.api_order("DELETE", "/_kube/faults", Value::Null).await;
        stage.apply(disk(name)).await;
        stage.until_ready("EncryptedDisk", name).await;
    }
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn one_malformed_object_is_told_so_and_stops_nobody_else() {
    let stage = Stage::new().await;
    open_schema(&stage).await;
    let process = stage.start().await;
    stage.apply(with(disk("bad"), "sizeGiB", json!("forty"))).await;
    stage.apply(disk("good")).await;
    stage.until_ready("EncryptedDisk", "good").await;
    let object = stage.until_reason("EncryptedDisk", "bad", "InvalidSpec").await;
    assert_eq!(condition(&object, "Stalled").0, "True");
    stage.delete("EncryptedDisk", "bad").await;
    stage.until_gone("EncryptedDisk", "bad").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_malformed_object_keeps_what_was_made_for_it_and_is_let_go_however_often_that_fails() {
    let stage = Stage::new().await;
    open_schema(&stage).await;
    let process = stage.start().await;
    stage.apply(disk("made")).await;
    stage.until_ready("EncryptedDisk", "made").await;
    stage.apply(with(disk("made"), "sizeGiB", json!("forty"))).await;
    stage.delete("EncryptedDisk", "made").await;
    let kept = |object: &Value| message(object, "Ready").contains("what was made for it");
    let object = stage.until("EncryptedDisk", "made", Duration::from_secs(60), kept).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let later = stage.get("EncryptedDisk", "made").await;
    assert_eq!(later["metadata"]["resourceVersion"], object["metadata"]["resourceVersion"], "told once");
    assert_eq!(stage.owned("disks").await.len(), 1, "{later:#}");
    stage.apply(with(disk("made"), "sizeGiB", json!(40))).await;
    stage.until_gone("EncryptedDisk", "made").await;
    assert!(stage.owned("disks").await.is_empty(), "it went with its object");
    // Nothing was made for this one, and nothing holds it; but the first tries to say so fail.
    let mut bad = with(disk("bad"), "sizeGiB", json!("forty"));
    bad["metadata"]["finalizers"] = json!(["ecskms.dev/finalizer"]);
    stage.apply(bad).await;
    stage.until_reason("EncryptedDisk", "bad", "InvalidSpec").await;
    stage
        .kube_faults(
            json!([{"verb": "patch", "resource": "encrypteddisks.ecskms.dev", "times": 3, "status": 500}]),
        )
        .await;
    stage.delete("EncryptedDisk", "bad").await;
    stage.until_gone("EncryptedDisk", "bad").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_cloud_accepted_and_does_not_show_is_not_asked_for_again_and_again() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(disk("one")).await;
    stage.until_ready("EncryptedDisk", "one").await;
    let id = stage.get("EncryptedDisk", "one").await["status"]["diskId"].clone();
    // Somebody's habit, a thousand times: every name that is set is another one a moment later.
    let named = with(disk("one"), "diskName", json!("wanted"));
    stage
        .order("PUT", "faults", json!([{"action": "ModifyDiskAttribute", "status": 200, "code": "OK"}]))
        .await;
    stage.apply(named).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let log = stage.control("log").await;
    let tries = log
        .as_array()
        .expect("a list")
        .iter()
        .filter(|entry| entry["action"] == "ModifyDiskAttribute")
        .count();
    assert!((3..40).contains(&tries), "{tries} tries in an hour");
    assert!(id.is_string());
    stage.order("DELETE", "faults", Value::Null).await;
    stage
        .until("EncryptedDisk", "one", Duration::from_secs(3600), |object| {
            object["status"]["observedGeneration"] == 2
        })
        .await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_by_a_request_whose_answer_was_lost_is_waited_for() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let lost = json!({"action": "CopyImage", "nth": 1, "status": 500, "code": "InternalError"});
    let taken =
        json!({"action": "CopyImage", "nth": 2, "status": 400, "code": "InvalidImageName.Duplicated"});
    stage.order("PUT", "faults", json!([lost, taken])).await;
    stage.apply(image("one")).await;
    let begun = tokio::time::Instant::now();
    while condition(&stage.get("EncryptedImage", "one").await, "Ready").0 != "True" {
        let object = stage.get("EncryptedImage", "one").await;
        assert_ne!(condition(&object, "Ready").1, "RequestRefused", "{object:#}");
        assert!(begun.elapsed() < Duration::from_secs(7200), "{object:#}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(stage.owned("images").await.len(), 1);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn the_first_disk_under_a_regions_service_key_is_never_called_one_of_another_key() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let mut first = with(disk("first"), "key", json!({"service": true}));
    (first["spec"]["region"], first["spec"]["zoneId"]) = (json!("cn-shanghai"), json!("cn-shanghai-b"));
    stage.apply(first).await;
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let object = stage.get("EncryptedDisk", "first").await;
        assert_ne!(condition(&object, "Ready").1, "KeyMismatch", "{object:#}");
    }
    let object = stage
        .until("EncryptedDisk", "first", Duration::from_secs(1), |object| {
            condition(object, "Ready").0 == "True"
        })
        .await;
    assert!(!object["status"]["keyId"].as_str().expect("an id").starts_with("alias/"), "{object:#}");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_role_that_does_not_trust_ecs_is_no_use_and_called_so() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let trust = json!({"Version": "1", "Statement": [
        {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": ["oss.aliyuncs.com"]}}]});
    let role = |fields: Value| json!({"do": "set", "kind": "role", "id": "AliyunECSDiskEncryptDefaultRole", "fields": fields});
    let before = stage.control("state").await["roles"]["AliyunECSDiskEncryptDefaultRole"]["trust"].clone();
    stage.order("POST", "resources", role(json!({"trust": trust.to_string()}))).await;
    stage.apply(disk("one")).await;
    let object = stage.until_reason("EncryptedDisk", "one", "EcsRoleForeign").await;
    assert!(message(&object, "Ready").contains("trust policy"), "{object:#}");
    assert_eq!(calls(&stage, "ecs:CreateDisk").await, 0);
    stage.order("POST", "resources", role(json!({"trust": before}))).await;
    stage.until_ready("EncryptedDisk", "one").await;
    // What ECS says of it in the moment between the look and the call.
    let refused = json!([{"action": "CreateDisk", "status": 403, "code": "InvalidParameter.KMSKeyId.KMSUnauthorized", "times": 2}]);
    stage.order("PUT", "faults", refused).await;
    stage.apply(disk("two")).await;
    let object = stage.until_reason("EncryptedDisk", "two", "EcsRoleMissing").await;
    assert!(message(&object, "Ready").contains("AliyunECSDiskEncryptRolePolicy"), "{object:#}");
    stage.until_ready("EncryptedDisk", "two").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn values_that_went_around_the_schema_are_refused_in_words() {
    let stage = Stage::new().await;
    open_schema(&stage).await;
    let process = stage.start().await;
    let cases = [
        ("keys", with(disk("keys"), "key", json!({"id": KEY, "service": true})), "spec.key"),
        ("region", with(disk("region"), "region", json!("evil.com/#")), "spec.region"),
        (
            "snapshot",
            with(disk("snapshot"), "source", json!({"snapshotId": "s-1&Action=DeleteDisk"})),
            "spec.source.snapshotId",
        ),
        ("name", with(disk("name"), "diskName", json!("x".repeat(300))), "spec.diskName"),
        ("unicode", with(disk("unicode"), "description", json!("turn\u{202e}ed\u{0}")), "spec.description"),
        ("tags", with(disk("tags"), "tags", json!({"ecskms:uid": "stolen"})), "spec.tags"),
    ];
    for (name, object, field) in cases {
        stage.apply(object).await;
        let object = stage.until_reason("EncryptedDisk", name, "InvalidSpec").await;
        assert!(message(&object, "Ready").contains(field), "{object:#}");
        assert!(!object["status"].to_string().contains('\u{202e}'));
    }
    assert_eq!(calls(&stage, "ecs:CreateDisk").await, 0);
    process.kill().await;
}

/// Replaces the disks' schema by one that takes anything: as if the objects were older than every rule.
async fn open_schema(stage: &Stage) {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    let crds: kube::Api<CustomResourceDefinition> = kube::Api::all(stage.client.clone());
    let open = json!({"type": "object", "properties": {
        "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"region": {"type": "string"}}},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
    let patch = json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": open}]);
    let patch = kube::api::Patch::<()>::Json(serde_json::from_value(patch).expect("a patch"));
    crds.patch("encrypteddisks.ecskms.dev", &Default::default(), &patch)
        .await
        .expect("an open schema is accepted");
}

#[tokio::test(start_paused = true)]
async fn a_suspended_object_is_left_alone_and_can_still_be_deleted() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(with(disk("one"), "suspend", json!(true))).await;
    let object = stage.until_reason("EncryptedDisk", "one", "Suspended").await;
    assert_eq!(condition(&object, "Stalled").0, "", "somebody asked for it: {object:#}");
    assert_eq!(calls(&stage, "ecs:CreateDisk").await, 0);
    stage.delete("EncryptedDisk", "one").await;
    stage.until_gone("EncryptedDisk", "one").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn two_operators_at_once_make_one_resource_for_each_object() {
    let stage = Stage::new().await;
    let (first, second) = (stage.start().await, stage.start().await);
    for number in 0..10 {
        stage.apply(disk(&format!("d{number}"))).await;
    }
    stage.apply(image("i")).await;
    for number in 0..10 {
        stage.until_ready("EncryptedDisk", &format!("d{number}")).await;
    }
    stage.until_ready("EncryptedImage", "i").await;
    let uids = crate::stage::count_by(stage.owned("disks").await.into_iter().map(|(_, uid, _)| uid));
    assert_eq!((uids.len(), uids.values().max()), (10, Some(&1)));
    assert_eq!(stage.owned("images").await.len(), 1);
    first.kill().await;
    second.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_orderly_stop_finishes_what_was_begun() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(disk("one")).await;
    stage.until("EncryptedDisk", "one", HOUR, |object| !object["status"]["intent"].is_null()).await;
    process.stop().await;
    let next = stage.start().await;
    stage.until_ready("EncryptedDisk", "one").await;
    assert_eq!(stage.owned("disks").await.len(), 1);
    next.kill().await;
}

#[tokio::test(start_paused = true)]
async fn the_lease_goes_to_one_and_to_the_next_when_it_stops_or_falls_silent() {
    let stage = Stage::new().await;
    let elector = |name: &str| Elector::new(stage.client.clone(), "default", "leader", name);
    let (mut first, mut second, mut third) = (elector("a"), elector("b"), elector("c"));
    first.acquire().await;
    let waited = tokio::time::Instant::now();
    second.acquire().await;
    assert!(waited.elapsed() >= LEASE_DURATION, "a silent holder keeps it for its whole duration");
    assert!(!first.hold(std::future::pending()).await, "the old holder notices that it lost");
    let released = second.hold(tokio::time::sleep(Duration::from_secs(30))).await;
    assert!(released);
    second.release().await;
    let waited = tokio::time::Instant::now();
    third.acquire().await;
    assert!(waited.elapsed() < Duration::from_secs(5), "a released lease is taken at once");
}

#[tokio::test(start_paused = true)]
async fn disks_at_rest_are_looked_at_in_lists() {
    const DISKS: u64 = 150;
    let stage = Stage::new().await;
    let process = stage.start().await;
    for number in 0..DISKS {
        stage.apply(disk(&format!("d{number}"))).await;
    }
    for number in 0..DISKS {
        stage.until_ready("EncryptedDisk", &format!("d{number}")).await;
    }
    tokio::time::sleep(HOUR).await;
    let (before, (writes_before, _)) = (calls(&stage, "ecs:DescribeDisks").await, writes(&stage).await);
    tokio::time::sleep(HOUR).await;
    let reads = calls(&stage, "ecs:DescribeDisks").await - before;
    assert!(reads <= 6 * 12, "{reads} calls in an hour for {DISKS} disks");
    assert_eq!(writes(&stage).await.0, writes_before, "nothing is written at rest");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_without_streaming_lists_is_listed_plainly() {
    let stage = Stage::new().await;
    let rules = json!([{"resource": "encrypteddisks.ecskms.dev", "verb": "watch", "probability": 1.0, "status": 500, "times": 2}]);
    stage.api_order("PUT", "/_kube/faults", json!({"seed": 1, "rules": rules})).await;
    let process = stage.start().await;
    stage.apply(disk("one")).await;
    stage.until_ready("EncryptedDisk", "one").await;
    let stats = stage.api_control("/_kube/stats").await;
    let listed = stats["requests"].as_array().into_iter().flatten();
    let lists: u64 = listed
        .filter(|row| row["resource"] == "encrypteddisks.ecskms.dev" && row["verb"] == "list")
        .filter_map(|row| row["requests"].as_u64())
        .sum();
    assert!(lists >= 1, "{stats:#}");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_instances_use_is_told_as_in_use_and_goes_once_they_are_gone() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(image("one")).await;
    let object = stage.until_ready("EncryptedImage", "one").await;
    let id = object["status"]["imageId"].clone();
    set(&stage, "instance", "i-bp1db0000000000000b2", json!({"imageId": id})).await;
    stage.delete("EncryptedImage", "one").await;
    let object = stage.until_reason("EncryptedImage", "one", "InUse").await;
    assert_eq!(condition(&object, "Stalled").0, "True", "{object:#}");
    assert!(message(&object, "Ready").contains("Release the instances"), "{object:#}");
    tokio::time::sleep(HOUR).await;
    assert!(calls(&stage, "ecs:DeleteImage").await < 15, "it is not asked for every few seconds");
    set(&stage, "instance", "i-bp1db0000000000000b2", json!({"imageId": IMAGE})).await;
    stage.until_gone("EncryptedImage", "one").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn snapshots_that_were_never_written_down_go_with_their_image() {
    let stage = Stage::new().await;
    let count = |state: Value| state["snapshots"].as_object().map(serde_json::Map::len);
    let before = count(stage.control("state").await);
    let process = stage.start().await;
    stage.apply(image("one")).await;
    stage.until("EncryptedImage", "one", HOUR, |object| object["status"]["imageId"].is_string()).await;
    process.kill().await;
    tokio::time::sleep(HOUR).await;
    stage.delete("EncryptedImage", "one").await;
    let object = stage.get("EncryptedImage", "one").await;
    assert!(object["status"]["snapshots"].is_null(), "{object:#}");
    let process = stage.start().await;
    stage.until_gone("EncryptedImage", "one").await;
    assert!(stage.owned("images").await.is_empty());
    assert_eq!(count(stage.control("state").await), before);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_was_taken_from_its_object_keeps_its_snapshots() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(image("one")).await;
    let object = stage.until_ready("EncryptedImage", "one").await;
    let id = object["status"]["imageId"].as_str().expect("an id").to_owned();
    set(&stage, "image", &id, json!({"tags": {}})).await;
    stage.delete("EncryptedImage", "one").await;
    stage.until_gone("EncryptedImage", "one").await;
    assert_eq!(real_image(&stage, &id).await["status"], "Available");
    for action in ["ecs:DeleteImage", "ecs:DeleteSnapshot"] {
        assert_eq!(calls(&stage, action).await, 0, "{action}");
    }
    process.kill().await;
}
