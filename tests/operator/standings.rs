//! What pipelines judge: the conditions that the operator really writes in the states that Argo CD and Flux tell apart.
//!
//! `UPDATE=1 cargo test --test operator standings` rewrites `tests/vectors/standings.json`. What the examples of deploy/argocd and
//! deploy/flux make of it is tested in `tests/clients/argocd.py` and `tests/generated/samples.rs`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ecskms::decision::Reason;
use serde_json::{Value, json};

use crate::revocation::{phase, revocation, revoke, set_desired, set_key, with};
use crate::stage::{KEY, Stage, condition, disk, image};

/// In use in the starting account.
const USED: &str = "d-bp1webdata0000000003";
/// More than any wait here takes.
const LIMIT: Duration = Duration::from_secs(300);

#[tokio::test(start_paused = true)]
async fn the_standings_that_pipelines_are_judged_by_are_what_the_operator_writes() {
    let mut standings = BTreeMap::new();
    resources(&mut standings).await;
    revocations(&mut standings).await;
    meddled(&mut standings).await;
    for (name, object) in &standings {
        for condition in object["status"]["conditions"].as_array().expect("conditions") {
            let reason = condition["reason"].as_str().expect("a reason");
            assert!(Reason::parse(reason).is_some(), "{name}: {reason} is no reason");
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/standings.json");
    let text = serde_json::to_string_pretty(&standings).expect("JSON") + "\n";
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        std::fs::write(&path, &text).expect("the file can be written");
    }
    let current = std::fs::read_to_string(&path).unwrap_or_default() == text;
    assert!(current, "not current; run UPDATE=1 cargo test --test operator standings\n{text}");
}

/// What a script or an expression reads of an object, without times and sentences.
fn standing(object: &Value) -> Value {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|one| json!({"type": one["type"], "status": one["status"], "reason": one["reason"]}))
        .collect();
    let status =
        json!({"observedGeneration": object["status"]["observedGeneration"], "conditions": conditions});
    json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"], "status": status,
        "metadata": {"name": object["metadata"]["name"], "generation": object["metadata"]["generation"]},
    })
}

async fn resources(standings: &mut BTreeMap<&str, Value>) {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let mut keep = |name, object: &Value| assert!(standings.insert(name, standing(object)).is_none());
    stage.apply(image("copy")).await;
    keep("copied", &stage.until_reason("EncryptedImage", "copy", "Copying").await);
    stage.apply(disk("plain")).await;
    keep("ready", &stage.until_ready("EncryptedDisk", "plain").await);
    stage.apply(with(disk("plain"), "suspend", json!(true))).await;
    keep("suspended", &stage.until_reason("EncryptedDisk", "plain", "Suspended").await);
    for (name, cutover) in [("cutover", "Manual"), ("detachment", "WhenDetached")] {
        let mut wish = with(disk(name), "source", json!({"diskId": USED}));
        wish["spec"]["cutover"] = json!(cutover);
        wish["spec"].as_object_mut().expect("a spec").remove("sizeGiB");
        stage.apply(wish).await;
        keep(name, &stage.until_reason("EncryptedDisk", name, "CutoverPending").await);
        stage.delete("EncryptedDisk", name).await;
        stage.until_gone("EncryptedDisk", name).await;
    }
    set_key(&stage, "Disabled").await;
    stage.apply(disk("late")).await;
    keep("key disabled", &stage.until_reason("EncryptedDisk", "late", "KeyDisabled").await);
    process.kill().await;
}

async fn revocations(standings: &mut BTreeMap<&str, Value>) {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let mut keep = |name, object: &Value| assert!(standings.insert(name, standing(object)).is_none());
    let wish = revocation("one", json!({"approvalsRequired": 1}));
    stage.apply(with(wish, "desiredState", json!("Planned"))).await;
    keep("planned, not approved", &stage.until_reason("KeyRevocation", "one", "Planned").await);
    set_desired(&stage, "one", "Revoked").await;
    keep("held for approval", &stage.until_reason("KeyRevocation", "one", "ApprovalMissing").await);
    stage.apply(revocation("limited", json!({"safety": {"maxAffectedInstances": 0}}))).await;
    keep("held by a limit", &stage.until_reason("KeyRevocation", "limited", "TooManyAffected").await);
    stage.apply(revocation("two", json!({}))).await;
    keep("revoked, machines run", &revoke(&stage, "two").await);
    stage.apply(revocation("three", json!({}))).await;
    revoke(&stage, "three").await;
    let overlapping = |object: &Value| condition(object, "OverlappingRevocation").0 == "True";
    keep("one of two", &stage.until("KeyRevocation", "three", LIMIT, overlapping).await);
    set_desired(&stage, "three", "Restored").await;
    keep("kept by another", &stage.until_reason("KeyRevocation", "three", "OverlappingRevocation").await);
    process.kill().await;
}

async fn meddled(standings: &mut BTreeMap<&str, Value>) {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let mut keep = |name, object: &Value| assert!(standings.insert(name, standing(object)).is_none());
    stage.apply(revocation("one", json!({}))).await;
    revoke(&stage, "one").await;
    set_key(&stage, "Enabled").await;
    let again = |object: &Value| {
        object["status"]["reverts"] == 1
            && phase(object) == "Revoked"
            && condition(object, "Ready").0 == "True"
    };
    keep("reverted", &stage.until("KeyRevocation", "one", LIMIT, again).await);
    set_desired(&stage, "one", "Restored").await;
    keep("reverted, then restored", &stage.until_reason("KeyRevocation", "one", "Restored").await);
    stage.apply(revocation("two", json!({}))).await;
    let object = revoke(&stage, "two").await;
    let mut journal = object["status"]["journal"].clone();
    journal[0]["target"] = json!("key-of-somebody-else");
    let patch = kube::api::Patch::Merge(json!({"status": {"journal": journal}}));
    let api = stage.objects("KeyRevocation");
    api.patch_status("two", &Default::default(), &patch).await.expect("the patch is accepted");
    let told = |object: &Value| condition(object, "JournalBroken").0 == "True";
    keep("journal changed", &stage.until("KeyRevocation", "two", LIMIT, told).await);
    assert_eq!(crate::revocation::cloud_key(&stage, KEY).await, "Disabled");
    process.kill().await;
}
