//! The whole operator against both servers, for instances: what users and their clouds do to them, one sentence each.
//!
//! Goal: every wish ends in its promise or in a reason that a human can act on; no machine is made twice, started without
//! its key or called encrypted because a list was empty.

use std::time::Duration;

use serde_json::{Value, json};

use crate::revocation::{revocation, revoke, set_desired};
use crate::stage::{IMAGE, KEY, Stage, condition, disk, image, instance, message};

const HOUR: Duration = Duration::from_secs(3600);
const KIND: &str = "EncryptedInstance";
const SECOND_KEY: &str = "key-hzz65f0a1b2c3d4e5f6a7c9";

fn with(mut object: Value, field: &str, value: Value) -> Value {
    object["spec"][field] = value;
    object
}

async fn calls(stage: &Stage, action: &str) -> u64 {
    let counters = stage.control("counters").await;
    counters[action]
        .as_object()
        .map(|codes| codes.values().filter_map(Value::as_u64).sum())
        .unwrap_or_default()
}

async fn set(stage: &Stage, kind: &str, id: &Value, fields: Value) {
    let order = json!({"do": "set", "kind": kind, "id": id, "region": "cn-hangzhou", "fields": fields});
    stage.order("POST", "resources", order).await;
}

async fn attach_plain(stage: &Stage, id: &str, instance: &Value) {
    let fields = json!({"instanceId": instance, "status": "In_use", "zone": "cn-hangzhou-i", "sizeGib": 20});
    let order = json!({"do": "create", "kind": "disk", "id": id, "region": "cn-hangzhou", "fields": fields});
    stage.order("POST", "resources", order).await;
}

/// The disks of an instance as the cloud has them.
async fn disks_of(stage: &Stage, instance: &Value) -> Vec<Value> {
    let state = stage.control("state").await;
    let all = state["disks"].as_object().cloned().unwrap_or_default();
    all.into_iter().map(|(_, disk)| disk).filter(|disk| disk["instanceId"] == *instance).collect()
}

async fn secret(stage: &Stage, text: &str) {
    use k8s_openapi::api::core::v1::Secret;
    let secrets: kube::Api<Secret> = kube::Api::namespaced(stage.client.clone(), "default");
    let data = json!({"run": k8s_openapi::ByteString(text.as_bytes().to_vec())});
    let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "boot"}, "data": data});
    let parameters = kube::api::PatchParams::apply("test").force();
    secrets.patch("boot", &parameters, &kube::api::Patch::Apply(body)).await.expect("a Secret is accepted");
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_made_with_every_disk_under_its_key_and_costs_four_writes() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let before = stage.api_control("/_kube/stats").await["writes"].as_u64().expect("a number");
    stage.apply(instance("web")).await;
    let object = stage.until_ready(KIND, "web").await;
    let status = &object["status"];
    assert_eq!(
        (&status["coverage"], &status["instanceStatus"]),
        (&json!("3/3"), &json!("Running")),
        "{object:#}"
    );
    assert_eq!(condition(&object, "Encrypted").0, "True");
    assert_eq!(condition(&object, "Revocable").0, "True");
    assert_eq!(condition(&object, "Drifted").0, "", "{object:#}");
    let made = disks_of(&stage, &status["instanceId"]).await;
    let mut keys: Vec<_> = made.iter().map(|disk| disk["keyId"].as_str().unwrap_or_default()).collect();
    keys.sort_unstable();
    assert_eq!(keys, [KEY, KEY, SECOND_KEY]);
    let names: Vec<_> =
        status["disks"].as_array().expect("a list").iter().map(|disk| &disk["name"]).collect();
    assert!(names.contains(&&json!("data")) && names.contains(&&json!("logs")), "{object:#}");
    assert!(made.iter().all(|disk| disk["tags"]["ecskms:uid"] == object["metadata"]["uid"]), "{made:#?}");
    let (_, _, machine) = stage.owned("instances").await.remove(0);
    assert_eq!((&machine["httpTokens"], &machine["deletionProtection"]), (&json!("required"), &json!(false)));
    tokio::time::sleep(HOUR).await;
    // The test's own apply, then finalizer, intent, first sight and Ready.
    let after = stage.api_control("/_kube/stats").await["writes"].as_u64().expect("a number");
    assert_eq!(after - before, 5, "{:#?}", process.gate.log());
    assert_eq!(calls(&stage, "ecs:RunInstances").await, 1);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn the_image_of_an_object_is_waited_for_and_named() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(with(instance("web"), "image", json!({"imageRef": {"name": "base"}}))).await;
    let object = stage.until_reason(KIND, "web", "DependencyNotReady").await;
    assert!(message(&object, "Ready").contains("EncryptedImage base"), "{object:#}");
    assert_eq!(condition(&object, "Reconciling").0, "True");
    assert_eq!(calls(&stage, "ecs:RunInstances").await, 0);
    stage.apply(image("base")).await;
    let base = stage.until_ready("EncryptedImage", "base").await;
    let object = stage.until_ready(KIND, "web").await;
    let (_, _, machine) = stage.owned("instances").await.remove(0);
    assert_eq!(machine["imageId"], base["status"]["imageId"], "{object:#}");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_of_another_namespace_cannot_be_named() {
    let stage = Stage::new().await;
    let elsewhere = json!({"imageRef": {"name": "other/base"}});
    let error = stage.try_apply(with(instance("web"), "image", elsewhere)).await.expect_err("refused");
    assert!(error.to_string().contains("imageRef"), "{error}");
    let both = json!({"imageRef": {"name": "base"}, "imageId": IMAGE});
    let error = stage.try_apply(with(instance("web"), "image", both)).await.expect_err("refused");
    assert!(error.to_string().contains("exactly one"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_work_is_refused_by_the_schema() {
    let stage = Stage::new().await;
    let data =
        |count: u32| (0..count).map(|number| json!({"name": format!("d{number}"), "sizeGiB": 20})).collect();
    stage.apply(with(instance("most"), "dataDisks", data(16))).await;
    for (field, value, word) in [
        ("dataDisks", data(17), "dataDisks"),
        ("dataDisks", json!([{"name": "a", "sizeGiB": 20}, {"name": "a", "sizeGiB": 20}]), "uplicate"),
        ("systemDisk", json!({"sizeGiB": 40, "category": "cloud_ssd"}), "category"),
        (
            "systemDisk",
            json!({"sizeGiB": 40, "category": "cloud_auto", "performanceLevel": "PL1"}),
            "performanceLevel",
        ),
        ("zoneId", json!("cn-shanghai-b"), "zone of region"),
        ("powerState", json!("Paused"), "powerState"),
    ] {
        let error = stage.try_apply(with(instance("web"), field, value)).await.expect_err(field);
        assert!(error.to_string().contains(word), "{error}");
    }
    let error = stage.try_apply(with(instance("most"), "instanceType", json!("ecs.g7.xlarge"))).await;
    assert!(error.expect_err("immutable").to_string().contains("instanceType is immutable"));
}

#[tokio::test(start_paused = true)]
async fn a_plain_disk_attached_later_is_named_and_takes_ready_away() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(instance("web")).await;
    let object = stage.until_ready(KIND, "web").await;
    attach_plain(&stage, "d-bp1stranger", &object["status"]["instanceId"]).await;
    let object = stage.until_reason(KIND, "web", "NotEncrypted").await;
    assert_eq!(condition(&object, "Encrypted"), ("False".into(), "NotEncrypted".into()));
    for name in ["Ready", "Encrypted", "Drifted"] {
        assert!(message(&object, name).contains("d-bp1stranger"), "{name}: {object:#}");
    }
    assert_eq!(object["status"]["coverage"], "3/4");
    assert_eq!(object["status"]["drift"][0]["path"], "disks[d-bp1stranger].encrypted");
    let order = json!({"do": "delete", "kind": "disk", "id": "d-bp1stranger", "region": "cn-hangzhou"});
    stage.order("POST", "resources", order).await;
    let object = stage.until_ready(KIND, "web").await;
    assert_eq!(condition(&object, "Drifted").0, "", "{object:#}");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_without_stock_is_asked_for_again_under_a_new_token() {
    let stage = Stage::new().await;
    stage.order("PUT", "settings", json!({"stockFailures": 2})).await;
    let process = stage.start().await;
    stage.apply(instance("web")).await;
    let object = stage.until_reason(KIND, "web", "NoStock").await;
    assert!(message(&object, "Ready").contains("ecs.g7.large"), "{object:#}");
    assert_eq!(condition(&object, "Stalled").0, "True");
    let object = stage.until_ready(KIND, "web").await;
    assert_eq!(object["status"]["intent"]["attempt"], 3, "{object:#}");
    assert_eq!(stage.owned("instances").await.len(), 1);
    assert_eq!(calls(&stage, "ecs:RunInstances").await, 3);
    assert!(object["status"]["missingSince"].is_null(), "{object:#}");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn the_power_state_is_kept_and_can_be_changed() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(instance("web")).await;
    let object = stage.until_ready(KIND, "web").await;
    let id = object["status"]["instanceId"].clone();
    set(&stage, "instance", &id, json!({"status": "Stopped"})).await;
    stage.until(KIND, "web", HOUR, |object| condition(object, "Ready").1 == "Adjusting").await;
    stage.until_ready(KIND, "web").await;
    assert_eq!(calls(&stage, "ecs:StartInstance").await, 1);
    stage.apply(with(instance("web"), "powerState", json!("Stopped"))).await;
    let stopped = |object: &Value| {
        object["status"]["instanceStatus"] == "Stopped" && condition(object, "Ready").0 == "True"
    };
    stage.until(KIND, "web", HOUR, stopped).await;
    assert_eq!(calls(&stage, "ecs:StopInstance").await, 1);
    let state = stage.control("state").await;
    assert_eq!(state["instances"][id.as_str().expect("an id")]["stoppedMode"], "KeepCharging");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_started_while_a_key_is_disabled_and_the_message_names_it() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(instance("web")).await;
    let object = stage.until_ready(KIND, "web").await;
    set(&stage, "key", &json!(SECOND_KEY), json!({"state": "Disabled"})).await;
    set(&stage, "instance", &object["status"]["instanceId"], json!({"status": "Stopped"})).await;
    let object = stage.until_reason(KIND, "web", "KeyDisabled").await;
    assert_eq!(condition(&object, "KeyUsable").0, "False");
    assert!(message(&object, "KeyUsable").contains(SECOND_KEY), "{object:#}");
    assert_eq!(condition(&object, "Encrypted").0, "True", "it is still encrypted");
    tokio::time::sleep(HOUR).await;
    assert_eq!(calls(&stage, "ecs:StartInstance").await, 0);
    set(&stage, "key", &json!(SECOND_KEY), json!({"state": "Enabled"})).await;
    stage.until_ready(KIND, "web").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_protected_instance_is_not_deleted_until_its_object_lifts_the_protection() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(with(instance("web"), "deletionProtection", json!(true))).await;
    stage.until_ready(KIND, "web").await;
    let (_, _, machine) = stage.owned("instances").await.remove(0);
    assert_eq!(machine["deletionProtection"], true);
    stage.delete(KIND, "web").await;
    let object = stage.until_reason(KIND, "web", "DeletionProtected").await;
    assert!(message(&object, "Ready").contains("spec.deletionProtection"), "{object:#}");
    assert_eq!(calls(&stage, "ecs:DeleteInstance").await, 0);
    let patch = json!({"spec": {"deletionProtection": false}});
    let patch = kube::api::Patch::Merge(patch);
    stage.objects(KIND).patch("web", &Default::default(), &patch).await.expect("the spec may still change");
    stage.until_gone(KIND, "web").await;
    assert!(stage.owned("instances").await.is_empty());
    assert!(stage.owned("disks").await.is_empty(), "disks that go with their instance are gone");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_retained_instance_stays_and_an_object_of_its_name_says_how_to_adopt_it() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let retained = with(instance("web"), "deletionPolicy", json!("Retain"));
    stage.apply(retained.clone()).await;
    let object = stage.until_ready(KIND, "web").await;
    let id = object["status"]["instanceId"].clone();
    stage.delete(KIND, "web").await;
    stage.until_gone(KIND, "web").await;
    stage.apply(retained.clone()).await;
    let object = stage.until_reason(KIND, "web", "AdoptionMismatch").await;
    assert!(message(&object, "Ready").contains(id.as_str().expect("an id")), "{object:#}");
    stage.delete(KIND, "web").await;
    stage.until_gone(KIND, "web").await;
    let adopting =
        with(with(retained, "adopt", json!({"externalId": id})), "deletionPolicy", json!("Delete"));
    stage.apply(adopting).await;
    let object = stage.until_ready(KIND, "web").await;
    assert_eq!(object["status"]["instanceId"], id);
    stage.delete(KIND, "web").await;
    stage.until_gone(KIND, "web").await;
    assert_eq!(stage.owned("instances").await.len(), 1, "what was adopted is never deleted");
    assert_eq!(calls(&stage, "ecs:RunInstances").await, 1);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn adoption_compares_encryption_key_and_zone() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let adopt = |name: &str, id: &str| {
        with(with(instance(name), "dataDisks", json!([])), "adopt", json!({"externalId": id}))
    };
    stage.apply(adopt("plain", "i-bp1web000000000000a1")).await;
    let object = stage.until_reason(KIND, "plain", "NotEncrypted").await;
    assert!(message(&object, "Ready").contains("d-bp1websys00000000002"), "{object:#}");
    stage.apply(with(adopt("key", "i-bp1db0000000000000b2"), "key", json!({"id": SECOND_KEY}))).await;
    stage.until_reason(KIND, "key", "KeyMismatch").await;
    stage.apply(with(adopt("zone", "i-bp1db0000000000000b2"), "zoneId", json!("cn-hangzhou-h"))).await;
    stage.until_reason(KIND, "zone", "AdoptionMismatch").await;
    stage.apply(adopt("none", "i-bp1nothing")).await;
    stage.until_reason(KIND, "none", "ExternalGone").await;
    stage.apply(adopt("good", "i-bp1db0000000000000b2")).await;
    let object = stage.until_ready(KIND, "good").await;
    assert_eq!(object["status"]["coverage"], "2/2", "{object:#}");
    assert_eq!(object["status"]["drift"][0]["path"], "spec.image.imageId", "{object:#}");
    assert_eq!(calls(&stage, "ecs:RunInstances").await, 0);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn lost_answers_end_in_one_instance() {
    for fault in [
        json!({"action": "RunInstances", "body": "truncated", "when": "after", "times": 1}),
        json!({"action": "RunInstances", "body": "html", "when": "after", "times": 1}),
        json!({"action": "RunInstances", "body": "empty-list", "when": "after", "times": 1}),
        json!({"action": "RunInstances", "status": 500, "code": "InternalError", "when": "after", "times": 2}),
        json!({"action": "RunInstances", "status": 503, "code": "ServiceUnavailable", "when": "before", "times": 2}),
        json!({"action": "DescribeInstances", "body": "truncated", "when": "before", "times": 5}),
        json!({"action": "DescribeDisks", "body": "html", "when": "before", "times": 5}),
    ] {
        let stage = Stage::new().await;
        stage.order("PUT", "faults", json!([fault])).await;
        let process = stage.start().await;
        stage.apply(instance("web")).await;
        let object = stage.until_ready(KIND, "web").await;
        assert_eq!(stage.owned("instances").await.len(), 1, "{fault}: {object:#}");
        process.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn lists_that_lag_behind_do_not_double_an_instance() {
    let stage = Stage::new().await;
    stage.order("PUT", "settings", json!({"listLagSeconds": 1200})).await;
    let process = stage.start().await;
    stage.apply(instance("web")).await;
    stage.until_ready(KIND, "web").await;
    assert_eq!(stage.owned("instances").await.len(), 1);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_may_not_see_instances_concludes_nothing_from_empty_lists() {
    let stage = Stage::new().await;
    let policy = |actions: Value| json!({"limitedPolicy": {"Version": "1", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}});
    let blind = json!(["ecs:DescribeDisks", "ecs:DescribeImages", "ecs:RunInstances", "kms:*", "ram:*"]);
    stage.order("PUT", "settings", policy(blind)).await;
    let process =
        stage.start_as(sim::cloud::LIMITED_ACCESS_KEY_ID, sim::cloud::LIMITED_ACCESS_KEY_SECRET).await;
    stage.apply(instance("web")).await;
    let object = stage.until_reason(KIND, "web", "AccessDenied").await;
    assert!(message(&object, "Ready").contains("ecs:DescribeInstances"), "{object:#}");
    tokio::time::sleep(3 * HOUR).await;
    assert_eq!(calls(&stage, "ecs:RunInstances").await, 1, "it is never made again");
    stage.order("PUT", "settings", policy(json!("*"))).await;
    stage.until_ready(KIND, "web").await;
    let blind = json!(["ecs:DescribeDisks", "ecs:DescribeImages", "ecs:RunInstances", "kms:*", "ram:*"]);
    stage.order("PUT", "settings", policy(blind)).await;
    let object = stage.until_reason(KIND, "web", "AccessDenied").await;
    assert_eq!(condition(&object, "Stalled").0, "True");
    stage.order("PUT", "settings", policy(json!("*"))).await;
    stage.until_ready(KIND, "web").await;
    assert_eq!(stage.owned("instances").await.len(), 1);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_deleted_behind_our_back_is_reported_and_not_made_again() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(instance("web")).await;
    let object = stage.until_ready(KIND, "web").await;
    for disk in disks_of(&stage, &object["status"]["instanceId"]).await {
        let order = json!({"do": "delete", "kind": "disk", "id": disk["id"], "region": "cn-hangzhou"});
        stage.order("POST", "resources", order).await;
    }
    let order = json!({"do": "delete", "kind": "instance", "id": object["status"]["instanceId"], "region": "cn-hangzhou"});
    stage.order("POST", "resources", order).await;
    let object = stage.until_reason(KIND, "web", "ExternalGone").await;
    assert!(object["status"]["missingSince"].is_string(), "{object:#}");
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(calls(&stage, "ecs:RunInstances").await, 1);
    stage.delete(KIND, "web").await;
    stage.until_gone(KIND, "web").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_ran_but_was_never_ready_is_not_made_again() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(instance("web")).await;
    let seen = |object: &Value| object["status"]["instanceId"].is_string();
    let id = stage.until(KIND, "web", HOUR, seen).await["status"]["instanceId"].clone();
    attach_plain(&stage, "d-bp1stranger", &id).await;
    let object = stage.until_reason(KIND, "web", "NotEncrypted").await;
    assert!(!object["status"]["intent"]["parameters"].is_null(), "it was never Ready: {object:#}");
    tokio::time::sleep(HOUR).await;
    for disk in disks_of(&stage, &id).await {
        let order = json!({"do": "delete", "kind": "disk", "id": disk["id"], "region": "cn-hangzhou"});
        stage.order("POST", "resources", order).await;
    }
    let order = json!({"do": "delete", "kind": "instance", "id": id, "region": "cn-hangzhou"});
    stage.order("POST", "resources", order).await;
    stage.until_reason(KIND, "web", "ExternalGone").await;
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(calls(&stage, "ecs:RunInstances").await, 1, "somebody deleted it, so it is not made again");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_under_a_revoked_key_is_neither_stopped_nor_deleted_until_the_key_is_back() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(with(instance("web"), "key", json!({"alias": "alias/ecskms-second"}))).await;
    stage.apply(instance("late")).await;
    stage.until_ready(KIND, "web").await;
    stage.until_ready(KIND, "late").await;
    stage.apply(revocation("one", json!({"keyId": SECOND_KEY}))).await;
    revoke(&stage, "one").await;
    let object = stage.until_reason(KIND, "web", "KeyRevoked").await;
    assert_eq!(condition(&object, "KeyRevoked"), ("True".into(), "KeyRevoked".into()), "{object:#}");
    assert!(message(&object, "KeyRevoked").contains(SECOND_KEY), "{object:#}");
    for name in ["web", "late"] {
        stage.delete(KIND, name).await;
        let leaving = |object: &Value| message(object, "Ready").starts_with("Nothing is stopped or deleted");
        let object = stage.until(KIND, name, HOUR, leaving).await;
        assert!(message(&object, "Ready").contains(SECOND_KEY), "{object:#}");
    }
    tokio::time::sleep(HOUR).await;
    for action in ["ecs:StopInstance", "ecs:DeleteInstance", "ecs:ModifyInstanceAttribute"] {
        assert_eq!(calls(&stage, action).await, 0, "{action}");
    }
    set_desired(&stage, "one", "Restored").await;
    stage.until_gone(KIND, "web").await;
    stage.until_gone(KIND, "late").await;
    assert!(stage.owned("instances").await.is_empty());
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_under_a_foreign_key_is_drift() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(with(instance("web"), "dataDisks", json!([]))).await;
    let id = stage.until_ready(KIND, "web").await["status"]["instanceId"].clone();
    attach_plain(&stage, "d-bp1stranger", &id).await;
    let fields = json!({"encrypted": true, "keyId": SECOND_KEY});
    set(&stage, "disk", &json!("d-bp1stranger"), fields).await;
    let object = stage.until_reason(KIND, "web", "KeyMismatch").await;
    assert_eq!(condition(&object, "Encrypted"), ("False".into(), "KeyMismatch".into()));
    assert_eq!(condition(&object, "Drifted").0, "True", "{object:#}");
    let drift = json!({"path": "disks[d-bp1stranger].keyId", "desired": KEY, "observed": SECOND_KEY});
    assert_eq!(object["status"]["drift"][0], drift);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_wrong_type_vswitch_or_key_is_said_once_with_what_to_correct() {
    let stage = Stage::new().await;
    stage.order("PUT", "settings", json!({"vswitches": ["vsw-bp1demo0000000000001"]})).await;
    let process = stage.start().await;
    stage.apply(with(instance("type"), "instanceType", json!("ecs.none.large"))).await;
    let object = stage.until_reason(KIND, "type", "RequestRefused").await;
    assert!(message(&object, "Ready").contains("InvalidInstanceType.ValueNotSupported"), "{object:#}");
    assert!(object["status"]["lastError"]["requestId"].is_string(), "{object:#}");
    let network = json!({"vSwitchId": "vsw-bp1nowhere", "securityGroupIds": ["sg-bp1demo00000000000001"]});
    stage.apply(with(instance("network"), "network", network)).await;
    let object = stage.until_reason(KIND, "network", "RequestRefused").await;
    assert!(message(&object, "Ready").contains("InvalidVSwitchId.NotFound"), "{object:#}");
    let foreign =
        json!([{"name": "data", "sizeGiB": 20, "key": {"id": "4c5d6e7f-8091-4a2b-93c4-d5e6f7a8b9c0"}}]);
    stage.apply(with(instance("key"), "dataDisks", foreign)).await;
    let object = stage.until_reason(KIND, "key", "KeyNotFound").await;
    assert!(message(&object, "KeyUsable").contains("4c5d6e7f-8091-4a2b-93c4-d5e6f7a8b9c0"), "{object:#}");
    stage.apply(with(instance("image"), "image", json!({"imageId": "m-bp1nowhere"}))).await;
    stage.until_reason(KIND, "image", "SourceNotFound").await;
    stage.apply(with(instance("small"), "image", json!({"imageId": "m-bp1big600g0000000003"}))).await;
    let object = stage.until_reason(KIND, "small", "InvalidSpec").await;
    assert!(message(&object, "Ready").contains("systemDisk.sizeGiB"), "{object:#}");
    stage.apply(with(instance("data"), "image", json!({"imageId": "m-bp1web40g00000000001"}))).await;
    let object = stage.until_reason(KIND, "data", "NotEncrypted").await;
    assert!(message(&object, "Ready").contains("imageRef"), "{object:#}");
    tokio::time::sleep(6 * HOUR).await;
    assert_eq!(calls(&stage, "ecs:RunInstances").await, 2, "a refused request is not repeated");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_public_image_and_the_service_key_work_and_say_what_they_mean() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let public = json!({"imageId": "aliyun_3_x64_20G_alibase_20250117.vhd"});
    stage.apply(with(with(instance("web"), "image", public), "key", json!({"service": true}))).await;
    let object = stage.until_ready(KIND, "web").await;
    assert_eq!(condition(&object, "Revocable"), ("False".into(), "ServiceKey".into()), "{object:#}");
    assert_eq!(object["status"]["coverage"], "3/3");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn user_data_reaches_the_machine_and_stands_nowhere_else() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let object = with(instance("web"), "userDataSecretRef", json!({"name": "boot", "key": "run"}));
    stage.apply(object).await;
    let object = stage.until_reason(KIND, "web", "DependencyNotReady").await;
    assert!(message(&object, "Ready").contains("Secret boot"), "{object:#}");
    stage.order("PUT", "faults", json!([{"action": "RunInstances", "status": 400, "code": "Throttling.User", "when": "before", "times": 1}])).await;
    secret(&stage, "#!/bin/sh\necho hunter2\n").await;
    let object = stage.until_reason(KIND, "web", "Throttled").await;
    let recorded =
        object["status"]["intent"]["parameters"]["UserData"].as_str().expect("a version").to_owned();
    assert!(recorded.starts_with("secret-version:"), "{object:#}");
    let base64 = "IyEvYmluL3NoCmVjaG8gaHVudGVyMgo=";
    assert!(!object.to_string().contains(base64) && !object.to_string().contains("hunter2"), "{object:#}");
    stage.until_ready(KIND, "web").await;
    let (_, _, machine) = stage.owned("instances").await.remove(0);
    assert_eq!(machine["userData"], base64);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn changed_user_data_waits_until_the_old_request_cannot_take_effect() {
    let stage = Stage::new().await;
    secret(&stage, "first").await;
    stage.order("PUT", "faults", json!([{"action": "RunInstances", "status": 503, "code": "ServiceUnavailable", "when": "before", "times": 1}])).await;
    let process = stage.start().await;
    stage.apply(with(instance("web"), "userDataSecretRef", json!({"name": "boot", "key": "run"}))).await;
    stage.until(KIND, "web", HOUR, |object| !object["status"]["lastError"].is_null()).await;
    secret(&stage, "second").await;
    stage.until_reason(KIND, "web", "Settling").await;
    let object = stage.until_ready(KIND, "web").await;
    assert_eq!(object["status"]["intent"]["attempt"], 2, "{object:#}");
    let (_, _, machine) = stage.owned("instances").await.remove(0);
    assert_eq!(machine["userData"], "c2Vjb25k");
    assert_eq!(stage.owned("instances").await.len(), 1);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_and_a_disk_of_the_same_name_do_not_take_each_other_for_their_own() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(instance("web")).await;
    stage.until_ready(KIND, "web").await;
    stage.apply(disk("web")).await;
    stage.until_ready("EncryptedDisk", "web").await;
    stage.delete("EncryptedDisk", "web").await;
    stage.until_gone("EncryptedDisk", "web").await;
    let object = stage.get(KIND, "web").await;
    assert_eq!(disks_of(&stage, &object["status"]["instanceId"]).await.len(), 3);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn names_and_tags_are_mended_and_other_differences_are_told() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let named = with(instance("web"), "instanceName", json!("shop-front"));
    stage.apply(with(named, "tags", json!({"team": "shop", "shift": "night"}))).await;
    let object = stage.until_ready(KIND, "web").await;
    let id = object["status"]["instanceId"].clone();
    let (_, _, machine) = stage.owned("instances").await.remove(0);
    let mut tags = machine["tags"].clone();
    (tags["team"], tags["theirs"]) = (json!("thieves"), json!("stays"));
    tags.as_object_mut().expect("tags").remove("shift");
    let fields = json!({"name": "renamed", "tags": tags, "instanceType": "ecs.g7.xlarge"});
    set(&stage, "instance", &id, fields).await;
    let drifted = |object: &Value| condition(object, "Drifted").0 == "True";
    let object = stage.until(KIND, "web", HOUR, drifted).await;
    let drift = &object["status"]["drift"][0];
    assert_eq!(
        drift,
        &json!({"path": "spec.instanceType", "desired": "ecs.g7.large", "observed": "ecs.g7.xlarge"})
    );
    stage.until_ready(KIND, "web").await;
    let (_, _, machine) = stage.owned("instances").await.remove(0);
    assert_eq!(machine["name"], "shop-front");
    let tags = &machine["tags"];
    assert_eq!(
        (&tags["team"], &tags["shift"], &tags["theirs"]),
        (&json!("shop"), &json!("night"), &json!("stays"))
    );
    assert_eq!(machine["instanceType"], "ecs.g7.xlarge", "shown, never mended");
    assert_eq!(calls(&stage, "ecs:TagResources").await, 1, "{:#?}", process.gate.log());
    let object = stage.get(KIND, "web").await;
    assert_eq!(object["status"]["drift"].as_array().map(Vec::len), Some(1), "{object:#}");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_observes_tells_names_and_tags_and_changes_nothing() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let observing =
        with(with(instance("watched"), "dataDisks", json!([])), "managementPolicy", json!("Observe"));
    let observing = with(observing, "adopt", json!({"externalId": "i-bp1db0000000000000b2"}));
    let observing = with(observing, "instanceName", json!("orders"));
    stage.apply(with(observing, "tags", json!({"team": "shop"}))).await;
    let object = stage.until_ready(KIND, "watched").await;
    let drift = object["status"]["drift"].as_array().cloned().unwrap_or_default();
    for told in [
        json!({"path": "spec.instanceName", "desired": "orders", "observed": "ecskms-demo-db"}),
        json!({"path": "spec.tags[team]", "desired": "shop", "observed": ""}),
    ] {
        assert!(drift.contains(&told), "{object:#}");
    }
    assert_eq!(condition(&object, "Drifted").0, "True");
    tokio::time::sleep(HOUR).await;
    assert_eq!(calls(&stage, "ecs:TagResources").await, 0);
    assert_eq!(calls(&stage, "ecs:ModifyInstanceAttribute").await, 0);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_alias_that_is_pointed_elsewhere_is_told_and_the_pinned_key_stays() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(instance("web")).await;
    let object = stage.until_ready(KIND, "web").await;
    let pinned = object["status"]["keys"].clone();
    let order = json!({"do": "create", "kind": "alias", "id": "alias/ecskms-second", "region": "cn-hangzhou", "fields": {"keyId": KEY}});
    stage.order("POST", "resources", order).await;
    let object = stage.until(KIND, "web", HOUR, |object| condition(object, "Drifted").0 == "True").await;
    assert!(message(&object, "Drifted").contains("alias/ecskms-second"), "{object:#}");
    assert_eq!(object["status"]["keys"], pinned);
    assert_eq!(condition(&object, "Ready").0, "True", "its disks are as they were: {object:#}");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn suspended_and_observed_instances_are_left_alone_and_a_request_is_echoed() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(with(instance("later"), "suspend", json!(true))).await;
    stage.until_reason(KIND, "later", "Suspended").await;
    assert_eq!(calls(&stage, "ecs:RunInstances").await, 0);
    let observing =
        with(with(instance("watched"), "dataDisks", json!([])), "managementPolicy", json!("Observe"));
    let observing = with(observing, "adopt", json!({"externalId": "i-bp1db0000000000000b2"}));
    let mut observing = with(observing, "powerState", json!("Stopped"));
    observing["metadata"]["annotations"] = json!({"ecskms.dev/reconcile-requested-at": "now"});
    stage.apply(observing).await;
    let object = stage.until_ready(KIND, "watched").await;
    assert_eq!(object["status"]["lastHandledReconcileAt"], "now");
    tokio::time::sleep(HOUR).await;
    assert_eq!(calls(&stage, "ecs:StopInstance").await, 0);
    assert_eq!(calls(&stage, "ecs:ModifyInstanceAttribute").await, 0);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn two_operators_at_once_make_one_instance_for_each_object() {
    let stage = Stage::new().await;
    let (first, second) = (stage.start().await, stage.start().await);
    for number in 0..4 {
        stage.apply(instance(&format!("w{number}"))).await;
    }
    for number in 0..4 {
        stage.until_ready(KIND, &format!("w{number}")).await;
    }
    let uids = crate::stage::count_by(stage.owned("instances").await.into_iter().map(|(_, uid, _)| uid));
    assert_eq!((uids.len(), uids.values().max()), (4, Some(&1)));
    first.kill().await;
    second.kill().await;
}
