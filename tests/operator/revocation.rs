//! What the tests of revocations share: objects, waits, and the judge of journals.

use std::time::Duration;

use ecskms::kinds::key_revocation::{api, journal};
use serde_json::{Value, json};

use crate::stage::{KEY, Stage};

/// The running machine with two disks under the customer key.
pub const DB: &str = "i-bp1db0000000000000b2";
/// The role through which ECS uses customer keys.
const ROLE: &str = "AliyunECSDiskEncryptDefaultRole";
/// One second.
pub const SECOND: Duration = Duration::from_secs(1);
/// How long a cut may take while the cloud answers badly for a while.
pub const CUT_LIMIT: Duration = Duration::from_secs(15);

/// A revocation of the customer key, with other fields.
pub fn revocation(name: &str, fields: Value) -> Value {
    let mut object = json!({
        "apiVersion": "ecskms.dev/v1alpha1", "kind": "KeyRevocation", "metadata": {"name": name},
        "spec": {"region": "cn-hangzhou", "keyId": KEY, "desiredState": "Revoked",
            "reason": "a leaked credential", "requestedBy": "alice", "incidentRef": "INC-1"},
    });
    for (field, value) in fields.as_object().expect("fields") {
        object["spec"][field] = value.clone();
    }
    object
}

/// The object with one other field.
pub fn with(mut object: Value, field: &str, value: Value) -> Value {
    object["spec"][field] = value;
    object
}

/// Waits until the key is lost and the list of who is hit is there.
pub async fn revoke(stage: &Stage, name: &str) -> Value {
    let done = |object: &Value| {
        crate::stage::condition(object, "Ready").0 == "True"
            && ["Revoked", "Contained"].contains(&phase(object))
            && !object["metadata"]["finalizers"].is_null()
    };
    stage.until("KeyRevocation", name, Duration::from_secs(120), done).await
}

/// Asks for another state.
pub async fn set_desired(stage: &Stage, name: &str, state: &str) {
    let patch = kube::api::Patch::Merge(json!({"spec": {"desiredState": state}}));
    let api = stage.objects("KeyRevocation");
    api.patch(name, &Default::default(), &patch).await.expect("the patch is accepted");
}

/// Sets the state of the customer key, as somebody in the console would.
pub async fn set_key(stage: &Stage, state: &str) {
    let order =
        json!({"do": "set", "kind": "key", "id": KEY, "region": "cn-hangzhou", "fields": {"state": state}});
    stage.order("POST", "resources", order).await;
}

/// What makes a revocation one of ECS's grant.
pub fn of_the_role() -> Value {
    json!({"method": "DetachEcsRole", "safety": {"acknowledgeAccountWide": true}})
}

/// Gives ECS the grant, or takes it, as somebody in the console would.
pub async fn set_grant(stage: &Stage, granted: bool) {
    let attached = if granted { json!({"AliyunECSDiskEncryptRolePolicy": 0}) } else { json!({}) };
    let order = json!({"do": "set", "kind": "role", "id": ROLE, "fields": {"attached": attached}});
    stage.order("POST", "resources", order).await;
}

/// True while ECS has the grant.
pub async fn granted(stage: &Stage) -> bool {
    let attached = stage.control("state").await["roles"][ROLE]["attached"].clone();
    !attached.as_object().expect("the role is there").is_empty()
}

/// The state of a key in the cloud.
pub async fn cloud_key(stage: &Stage, id: &str) -> String {
    stage.control("state").await["keys"][id]["state"].as_str().expect("the key is there").to_owned()
}

/// The state of an instance in the cloud.
pub async fn instance(stage: &Stage, id: &str) -> String {
    stage.control("state").await["instances"][id]["status"].as_str().expect("it is there").to_owned()
}

/// The phase in status.
pub fn phase(object: &Value) -> &str {
    object["status"]["phase"].as_str().unwrap_or_default()
}

/// A list in status.
pub fn entries(object: &Value, name: &str) -> Vec<Value> {
    object["status"][name].as_array().cloned().unwrap_or_default()
}

/// Fails unless the journal has an entry and every hash fits.
pub fn verified(object: &Value) {
    let read: Vec<api::JournalEntry> =
        serde_json::from_value(object["status"]["journal"].clone()).expect("a journal");
    let anchor: Option<api::JournalAnchor> =
        serde_json::from_value(object["status"]["journalAnchor"].clone()).expect("an anchor");
    let uid = object["metadata"]["uid"].as_str().expect("a uid");
    assert!(!read.is_empty());
    assert_eq!(journal::verify(uid, &read, anchor.as_ref()), Ok(()), "{:#}", object["status"]["journal"]);
    assert_eq!(crate::stage::condition(object, "JournalBroken").0, "", "{object:#}");
}

/// How often an action was called.
pub async fn calls(stage: &Stage, action: &str) -> u64 {
    let counters = stage.control("counters").await;
    counters[action]
        .as_object()
        .map(|codes| codes.values().filter_map(Value::as_u64).sum())
        .unwrap_or_default()
}

/// How often a machine was asked to start; a rehearsal asks for nothing.
pub async fn starts(stage: &Stage) -> usize {
    let log = stage.control("log").await;
    let starts = |entry: &&Value| {
        matches!(entry["action"].as_str(), Some("StartInstance" | "StartInstances"))
            && entry["parameters"]["DryRun"] != "true"
    };
    log.as_array().expect("a log").iter().filter(starts).count()
}

/// The calls of these actions, in the order of their arrival.
pub async fn action_order(stage: &Stage, actions: &[&str]) -> Vec<String> {
    let log = stage.control("log").await;
    let names = log.as_array().expect("a log").iter().filter_map(|entry| entry["action"].as_str());
    names.filter(|name| actions.contains(name)).map(str::to_owned).collect()
}
