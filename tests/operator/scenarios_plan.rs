//! What is planned is what is done: rehearses objects, lets the whole operator do it, and compares every call that changed the cloud.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ecskms::engine::rehearse::{End, Rehearsal, Step, rehearse};
use ecskms::kind::{Kind, World};
use ecskms::kinds::{
    CloudAccount, EncryptedDisk, EncryptedImage, EncryptedInstance, EncryptionAudit, KeyRevocation,
};
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use crate::stage::{IMAGE, KEY, Stage, disk, image, instance};

/// Long enough for everything here.
const HOUR: Duration = Duration::from_secs(3600);
/// The second customer key of the starting account.
const SECOND: &str = "alias/ecskms-second";
/// A running instance of the starting account.
const WEB: &str = "i-bp1web000000000000a1";

/// One call: product and action, and its parameters.
type Asked = (String, BTreeMap<String, String>);

/// The world in which somebody plans.
async fn world(stage: &Stage) -> World {
    let world = stage.world().await;
    KeyRevocation::notice(&Event::Init, &world);
    let all = KeyRevocation::api(stage.client.clone(), None).list(&Default::default()).await;
    for object in all.expect("a list") {
        KeyRevocation::notice(&Event::InitApply(object), &world);
    }
    KeyRevocation::notice(&Event::InitDone, &world);
    world
}

async fn plan_one<K: Kind>(stage: &Stage, world: &World, name: &str) -> Rehearsal {
    let object = serde_json::from_value(stage.get(&K::kind(&()), name).await).expect("an object of the kind");
    rehearse::<K>(object, world, false).await
}

async fn plan(stage: &Stage, kind: &str, name: &str) -> Rehearsal {
    let world = world(stage).await;
    match kind {
        "EncryptedDisk" => plan_one::<EncryptedDisk>(stage, &world, name).await,
        "EncryptedImage" => plan_one::<EncryptedImage>(stage, &world, name).await,
        "EncryptedInstance" => plan_one::<EncryptedInstance>(stage, &world, name).await,
        "KeyRevocation" => plan_one::<KeyRevocation>(stage, &world, name).await,
        "CloudAccount" => plan_one::<CloudAccount>(stage, &world, name).await,
        "EncryptionAudit" => plan_one::<EncryptionAudit>(stage, &world, name).await,
        other => unreachable!("{other} is no kind"),
    }
}

/// The ids of everything that is there now.
async fn ids(stage: &Stage) -> BTreeSet<String> {
    let state = stage.control("state").await;
    let sorts = ["disks", "images", "instances", "snapshots"].map(|sort| state[sort].as_object().cloned());
    sorts.into_iter().flatten().flat_map(|all| all.into_iter().map(|(id, _)| id)).collect()
}

/// What stands for something that was not there when it was planned.
fn veiled(parameters: BTreeMap<String, String>, old: &BTreeSet<String>) -> BTreeMap<String, String> {
    let is_id = |text: &str| ["d-", "m-", "i-", "s-"].iter().any(|prefix| text.starts_with(prefix));
    let veil = |text: String| match text.starts_with('<') || (is_id(&text) && !old.contains(&text)) {
        true => "<new>".to_owned(),
        false => text,
    };
    // The simulator's record keeps no parameter whose name speaks of tokens.
    let kept = parameters.into_iter().filter(|(name, _)| name != "HttpTokens");
    kept.map(|(name, value)| (name, veil(value))).collect()
}

fn planned(rehearsal: &Rehearsal, old: &BTreeSet<String>) -> Vec<Asked> {
    let one = |call: &ecskms::kind::Call| {
        let tags = call.tags.iter().map(|(key, value)| (format!("tag:{key}"), value.clone()));
        let all = call.parameters.clone().into_iter().chain(tags).collect();
        (format!("{}:{}", call.product, call.action), veiled(all, old))
    };
    rehearsal.calls().map(one).collect()
}

/// What changed the cloud since the entry of that number, in its order.
async fn done(stage: &Stage, since: usize, old: &BTreeSet<String>) -> Vec<Asked> {
    let journal = stage.control("log").await;
    let entries = journal.as_array().cloned().unwrap_or_default();
    let changes = entries.into_iter().skip(since).filter(|entry| {
        let action = entry["action"].as_str().unwrap_or_default();
        let reads = ["Describe", "Get", "List"].iter().any(|prefix| action.starts_with(prefix));
        let rehearses = entry["parameters"]["DryRun"] == "true";
        entry["performed"] == true && !reads && !rehearses
    });
    let one = |entry: Value| {
        let raw = entry["parameters"].as_object().cloned().unwrap_or_default();
        let text = |name: &str| raw.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut all = BTreeMap::new();
        for name in raw.keys() {
            match name.strip_prefix("Tag.") {
                Some(rest) => {
                    if let Some(index) = rest.strip_suffix(".Key").filter(|_| text(name) != "ecskms:uid") {
                        all.insert(format!("tag:{}", text(name)), text(&format!("Tag.{index}.Value")));
                    }
                }
                None if name == "ClientToken" => {}
                None => drop(all.insert(name.clone(), text(name))),
            }
        }
        let action = format!(
            "{}:{}",
            entry["service"].as_str().unwrap_or_default(),
            entry["action"].as_str().unwrap_or_default()
        );
        (action, veiled(all, old))
    };
    changes.map(one).collect()
}

async fn entries(stage: &Stage) -> usize {
    stage.control("log").await.as_array().map_or(0, Vec::len)
}

/// Plans the object as it stands, starts the operator, waits until the object stands as it was planned to end, and compares.
async fn check(stage: &Stage, kind: &str, name: &str) -> Rehearsal {
    let old = ids(stage).await;
    let since = entries(stage).await;
    let rehearsal = plan(stage, kind, name).await;
    assert_eq!(done(stage, since, &old).await, [], "a plan changes nothing");
    let process = stage.start().await;
    assert_ne!(rehearsal.end, End::Unknown, "{rehearsal:#?}");
    let status = if rehearsal.end == End::Settled { "True" } else { "" };
    let reason = rehearsal.reason;
    if stage.get(kind, name).await["metadata"]["deletionTimestamp"].is_null() {
        let reached = |object: &Value| {
            let (seen, why) = crate::stage::condition(object, "Ready");
            let told = object["status"]["observedGeneration"] == object["metadata"]["generation"];
            told && (status.is_empty() || seen == status) && why == reason.as_str()
        };
        stage.until(kind, name, HOUR, reached).await;
    } else {
        stage.until_gone(kind, name).await;
    }
    let (mut expected, mut seen) = (planned(&rehearsal, &old), done(stage, since, &old).await);
    process.kill().await;
    // Machines are started in whatever order.
    expected.sort();
    seen.sort();
    assert_eq!(expected, seen, "{rehearsal:#?}");
    rehearsal
}

fn with(mut object: Value, field: &str, value: Value) -> Value {
    object["spec"][field] = value;
    object
}

#[tokio::test(start_paused = true)]
async fn a_disk_is_created_and_attached_as_planned_and_grows_moves_and_goes_so() {
    let stage = Stage::new().await;
    let data = with(disk("data"), "attachment", json!({ "instanceId": WEB }));
    stage.apply(with(data.clone(), "tags", json!({ "team": "x" }))).await;
    let first = check(&stage, "EncryptedDisk", "data").await;
    let waits = first.steps.iter().filter(|step| matches!(step, Step::Wait { .. })).count();
    assert_eq!((first.calls().count(), waits), (2, 1), "{first:#?}");

    let larger = with(with(data, "sizeGiB", json!(60)), "tags", json!({ "team": "y", "more": "z" }));
    stage.apply(with(larger.clone(), "diskName", json!("renamed"))).await;
    let second = check(&stage, "EncryptedDisk", "data").await;
    assert_eq!(second.calls().count(), 3, "{second:#?}");
    assert!(!check(&stage, "EncryptedDisk", "data").await.changes(), "what was done is not planned again");

    stage.delete("EncryptedDisk", "data").await;
    let last = check(&stage, "EncryptedDisk", "data").await;
    assert_eq!(last.calls().map(|call| call.action).collect::<Vec<_>>(), ["DetachDisk", "DeleteDisk"]);
}

#[tokio::test(start_paused = true)]
async fn an_image_is_copied_renamed_and_deleted_with_its_snapshots_as_planned() {
    let stage = Stage::new().await;
    stage.apply(image("web")).await;
    check(&stage, "EncryptedImage", "web").await;
    stage.apply(with(with(image("web"), "description", json!("new")), "tags", json!({ "a": "b" }))).await;
    assert_eq!(check(&stage, "EncryptedImage", "web").await.calls().count(), 2);
    stage.delete("EncryptedImage", "web").await;
    let last = check(&stage, "EncryptedImage", "web").await;
    assert_eq!(last.calls().map(|call| call.action).collect::<Vec<_>>(), ["DeleteImage", "DeleteSnapshot"]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_of_an_image_that_is_being_made_is_run_stopped_and_deleted_as_planned() {
    let stage = Stage::new().await;
    stage.apply(instance("web")).await;
    check(&stage, "EncryptedInstance", "web").await;
    let changed =
        with(with(instance("web"), "powerState", json!("Stopped")), "deletionProtection", json!(true));
    stage.apply(with(changed, "instanceName", json!("renamed"))).await;
    let second = check(&stage, "EncryptedInstance", "web").await;
    assert_eq!(second.calls().count(), 3, "{second:#?}");
    stage.apply(instance("web")).await;
    check(&stage, "EncryptedInstance", "web").await;
    stage.delete("EncryptedInstance", "web").await;
    let last = check(&stage, "EncryptedInstance", "web").await;
    assert_eq!(last.calls().map(|call| call.action).collect::<Vec<_>>(), ["StopInstance", "DeleteInstance"]);
}

#[tokio::test(start_paused = true)]
async fn the_successor_of_a_disk_takes_its_place_as_planned() {
    let stage = Stage::new().await;
    let state = stage.control("state").await;
    let plain =
        state["disks"].as_object().into_iter().flatten().find(|(_, disk)| {
            disk["instanceId"] == WEB && disk["encrypted"] == false && disk["kind"] == "data"
        });
    let source = plain.map(|(id, _)| id.clone()).expect("a plain data disk at the instance");
    let mut next = disk("next");
    next["spec"].as_object_mut().expect("a spec").remove("sizeGiB");
    let next = with(with(next, "source", json!({ "diskId": source })), "cutover", json!("Now"));
    stage.apply(with(next, "retireSource", json!(true))).await;
    let rehearsal = check(&stage, "EncryptedDisk", "next").await;
    assert_eq!(
        rehearsal.calls().map(|call| call.action).collect::<Vec<_>>(),
        ["DetachDisk", "CreateSnapshot", "CreateDisk", "AttachDisk", "DeleteDisk", "DeleteSnapshot"]
    );
}

fn revocation(state: &str) -> Value {
    json!({ "apiVersion": "ecskms.dev/v1alpha1", "kind": "KeyRevocation", "metadata": { "name": "leak" },
        "spec": { "region": "cn-hangzhou", "keyId": KEY, "desiredState": state, "reason": "a leaked credential",
            "requestedBy": "alice", "runningInstances": "Stop", "evidenceSnapshots": true } })
}

#[tokio::test(start_paused = true)]
async fn a_revocation_takes_evidence_stops_cuts_and_gives_back_as_planned() {
    let stage = Stage::new().await;
    stage.apply(revocation("Revoked")).await;
    let cut = check(&stage, "KeyRevocation", "leak").await;
    let actions: BTreeSet<&str> = cut.calls().map(|call| call.action).collect();
    assert_eq!(Vec::from_iter(actions), ["CreateSnapshot", "DisableKey", "StopInstances"], "{cut:#?}");
    assert!(cut.shows.as_ref().is_some_and(|shows| shows.contains("instance")), "{:?}", cut.shows);
    stage.apply(revocation("Restored")).await;
    let back = check(&stage, "KeyRevocation", "leak").await;
    let actions: Vec<&str> = back.calls().map(|call| call.action).collect();
    assert_eq!(actions, ["EnableKey", "StartInstances"], "{back:#?}");
}

#[tokio::test(start_paused = true)]
async fn more_that_is_asked_of_a_live_cut_is_planned_from_who_runs_now() {
    let stage = Stage::new().await;
    let order = |running: &str| with(revocation("Revoked"), "runningInstances", json!(running));
    stage.apply(order("Leave")).await;
    let cut = check(&stage, "KeyRevocation", "leak").await;
    assert!(cut.message.contains("1 running instances may hold"), "the preview's list counts: {cut:#?}");
    assert!(!check(&stage, "KeyRevocation", "leak").await.changes());
    stage.apply(order("ForceStop")).await;
    let more = check(&stage, "KeyRevocation", "leak").await;
    assert_eq!(more.calls().map(|call| call.action).collect::<Vec<_>>(), ["StopInstances"], "{more:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_drill_is_planned_with_its_end() {
    let stage = Stage::new().await;
    let mut drill = revocation("Revoked");
    drill["spec"] = json!({ "region": "cn-hangzhou", "keyId": KEY, "desiredState": "Revoked", "requestedBy": "alice",
        "reason": "the monthly drill", "drill": { "restoreAfterMinutes": 5 } });
    stage.apply(drill).await;
    let rehearsal = check(&stage, "KeyRevocation", "leak").await;
    let actions: Vec<&str> = rehearsal.calls().map(|call| call.action).collect();
    assert_eq!(actions, ["DisableKey", "EnableKey"], "{rehearsal:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_is_under_way_and_an_object_that_leaves_its_disk_behind_end_well() {
    let stage = Stage::new().await;
    stage.apply(image("half")).await;
    let process = stage.start().await;
    let copying = |object: &Value| object["status"]["imageState"] == "Creating";
    stage.until("EncryptedImage", "half", HOUR, copying).await;
    process.kill().await;
    assert!(!check(&stage, "EncryptedImage", "half").await.changes());

    stage.apply(with(disk("kept"), "deletionPolicy", json!("Retain"))).await;
    check(&stage, "EncryptedDisk", "kept").await;
    stage.delete("EncryptedDisk", "kept").await;
    let last = check(&stage, "EncryptedDisk", "kept").await;
    assert!(!last.changes() && last.message.contains("nothing in the cloud"), "{last:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_declared_cut_is_one_call_and_what_is_under_the_key_is_planned_as_blocked() {
    let stage = Stage::new().await;
    let mut order = revocation("Revoked");
    order["spec"] = json!({ "region": "cn-hangzhou", "keyId": KEY, "desiredState": "Revoked", "restoreTo": "Enabled",
        "reason": "a leaked credential", "requestedBy": "alice" });
    stage.apply(order).await;
    let cut = check(&stage, "KeyRevocation", "leak").await;
    assert_eq!(cut.calls().map(|call| call.action).collect::<Vec<_>>(), ["DisableKey"], "{cut:#?}");
    stage.apply(disk("late")).await;
    let late = check(&stage, "EncryptedDisk", "late").await;
    assert_eq!((late.end, late.reason.as_str(), late.changes()), (End::Blocked, "KeyRevoked", false));
}

#[tokio::test(start_paused = true)]
async fn an_order_that_would_lock_the_cluster_out_is_planned_as_held() {
    let stage = Stage::new().await;
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "worker-1" },
        "spec": { "providerID": "cn-hangzhou.i-bp1db0000000000000b2" } });
    stage.api_order("POST", "/api/v1/nodes", node).await;
    let mut order = revocation("Revoked");
    stage.apply(order.clone()).await;
    let held = check(&stage, "KeyRevocation", "leak").await;
    assert_eq!((held.end, held.reason.as_str(), held.changes()), (End::Blocked, "SelfLockout", false));
    order["metadata"]["name"] = json!("meant");
    order["spec"]["safety"] = json!({ "allowSelfLockout": true });
    stage.apply(order).await;
    assert!(plan(&stage, "KeyRevocation", "meant").await.calls().any(|call| call.action == "DisableKey"));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_work_is_planned_as_it_will_be_told() {
    let stage = Stage::new().await;
    stage.apply(with(disk("lost"), "key", json!({ "id": "key-nobody-has-this-one-00" }))).await;
    stage.apply(with(disk("away"), "attachment", json!({ "instanceId": "i-nobody" }))).await;
    stage.apply(with(disk("still"), "suspend", json!(true))).await;
    stage.apply(with(image("none"), "source", json!({ "imageId": "m-nobody" }))).await;
    for (kind, name, reason) in [
        ("EncryptedDisk", "lost", "KeyNotFound"),
        ("EncryptedDisk", "away", "InstanceNotFound"),
        ("EncryptedDisk", "still", "Suspended"),
        ("EncryptedImage", "none", "SourceNotFound"),
    ] {
        let rehearsal = check(&stage, kind, name).await;
        assert_eq!((rehearsal.end, rehearsal.reason.as_str()), (End::Blocked, reason), "{rehearsal:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_stands_on_an_object_that_is_not_ready_waits_for_it_in_the_plan() {
    let stage = Stage::new().await;
    let mut web = instance("web");
    web["spec"]["image"] = json!({ "imageRef": { "name": "base" } });
    stage.apply(web).await;
    stage.apply(image("base")).await;
    let at_web = with(disk("data"), "attachment", json!({ "instanceRef": { "name": "web" } }));
    stage.apply(with(at_web, "key", json!({ "alias": SECOND }))).await;
    let old = ids(&stage).await;
    let mut expected = Vec::new();
    for (kind, name) in [("EncryptedImage", "base"), ("EncryptedInstance", "web"), ("EncryptedDisk", "data")]
    {
        let rehearsal = plan(&stage, kind, name).await;
        assert_eq!(rehearsal.end, End::Settled, "{rehearsal:#?}");
        expected.extend(planned(&rehearsal, &old));
    }
    let since = entries(&stage).await;
    let process = stage.start().await;
    stage.until_ready("EncryptedDisk", "data").await;
    let mut seen = done(&stage, since, &old).await;
    process.kill().await;
    expected.sort();
    seen.sort();
    assert_eq!(expected, seen);
    assert!(expected.iter().any(|(action, call)| action == "ecs:RunInstances" && call["ImageId"] == "<new>"));
    assert_ne!(IMAGE, "<new>");
}

#[tokio::test(start_paused = true)]
async fn an_account_gets_its_role_as_planned_and_an_audit_changes_nothing() {
    let stage = Stage::new().await;
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "second" },
        "stringData": { "ALIBABA_CLOUD_ACCESS_KEY_ID": "pretend-second-key",
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "pretend-second-key-secret" } });
    let namespace =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "ecskms-system" } });
    stage.api_order("POST", "/api/v1/namespaces", namespace).await;
    stage.api_order("POST", "/api/v1/namespaces/ecskms-system/secrets", secret).await;
    stage
        .apply(json!({ "apiVersion": "ecskms.dev/v1alpha1", "kind": "CloudAccount", "metadata": { "name": "second" },
            "spec": { "credentials": { "secretRef": { "name": "second" } }, "ecsRole": "Ensure",
                "allowedNamespaces": {} } }))
        .await;
    let account = check(&stage, "CloudAccount", "second").await;
    assert_eq!(
        account.calls().map(|call| call.action).collect::<Vec<_>>(),
        ["CreateRole", "AttachPolicyToRole"]
    );
    stage
        .apply(json!({ "apiVersion": "ecskms.dev/v1alpha1", "kind": "EncryptionAudit", "metadata": { "name": "all" },
            "spec": {} }))
        .await;
    assert!(!plan(&stage, "EncryptionAudit", "all").await.changes());
}
