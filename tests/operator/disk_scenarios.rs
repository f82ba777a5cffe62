//! Disks at instances, and disks in the place of others: the whole operator against both servers, one sentence each.
//!
//! Goal: a disk is where the object says and nowhere that somebody else chose, and no write of a replaced disk is missing.

use std::time::Duration;

use serde_json::{Value, json};

use crate::stage::{KEY, Mode, Process, Stage, condition, disk, message};

const HOUR: Duration = Duration::from_secs(3600);
const RUNNING: &str = "i-bp1web000000000000a1";
const STOPPED: &str = "i-bp1idle00000000000c3";
/// A plain data disk of 100 GiB at RUNNING.
const USED: &str = "d-bp1webdata0000000003";
/// A plain data disk of 20 GiB that was attached once.
const FREE: &str = "d-bp1archive0000000001";

fn with(mut object: Value, field: &str, value: Value) -> Value {
    object["spec"][field] = value;
    object
}

fn at(name: &str, instance: &str) -> Value {
    with(disk(name), "attachment", json!({ "instanceId": instance }))
}

/// A successor of `source` that stays when its object goes.
fn successor(name: &str, source: &str, cutover: &str) -> Value {
    let mut object = with(disk(name), "source", json!({ "diskId": source }));
    object["spec"]["cutover"] = json!(cutover);
    object["spec"]["deletionPolicy"] = json!("Retain");
    object["spec"].as_object_mut().expect("a spec").remove("sizeGiB");
    object
}

async fn set(stage: &Stage, kind: &str, id: &str, fields: Value) {
    let order = json!({"do": "set", "kind": kind, "id": id, "region": "cn-hangzhou", "fields": fields});
    stage.order("POST", "resources", order).await;
}

/// What somebody does in the console.
async fn move_by_hand(stage: &Stage, id: &str, instance: Option<&str>) {
    let now = stage.control("state").await["now"].clone();
    let fields = match instance {
        Some(instance) => json!({"status": "In_use", "instanceId": instance, "attached": now}),
        None => json!({"status": "Available", "instanceId": null, "detached": now, "everAttached": true}),
    };
    set(stage, "disk", id, fields).await;
}

async fn real(stage: &Stage, id: &Value) -> Value {
    stage.control("state").await["disks"][id.as_str().expect("an id")].clone()
}

async fn calls(stage: &Stage, action: &str) -> u64 {
    let counters = stage.control("counters").await;
    counters[action]
        .as_object()
        .map(|codes| codes.values().filter_map(Value::as_u64).sum())
        .unwrap_or_default()
}

async fn all_calls(stage: &Stage) -> (u64, Vec<String>) {
    let counters = stage.control("counters").await;
    let mut lines = Vec::new();
    let mut sum = 0;
    for (action, codes) in counters.as_object().into_iter().flatten() {
        let count: u64 =
            codes.as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
        sum += count;
        lines.push(format!("{action} {count}"));
    }
    (sum, lines)
}

async fn writes(stage: &Stage) -> u64 {
    stage.api_control("/_kube/stats").await["writes"].as_u64().expect("a number")
}

async fn ready_at(stage: &Stage, name: &str, instance: &str) -> Value {
    let there =
        |object: &Value| condition(object, "Ready").0 == "True" && object["status"]["attachedTo"] == instance;
    stage.until("EncryptedDisk", name, HOUR, there).await
}

/// The cloud's mutations in their order.
fn mutations(process: &Process) -> Vec<String> {
    process.gate.log().into_iter().filter(|name| !name.contains(' ')).collect()
}

#[tokio::test(start_paused = true)]
async fn a_disk_is_created_and_then_attached_with_few_calls_and_writes() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let before = writes(&stage).await;
    stage.apply(at("one", RUNNING)).await;
    let object = ready_at(&stage, "one", RUNNING).await;
    assert_eq!(object["status"]["phase"], "Ready", "{object:#}");
    assert_eq!(object["status"]["attachment"]["instanceId"], RUNNING, "{object:#}");
    let held = real(&stage, &object["status"]["diskId"]).await;
    assert_eq!(
        (&held["status"], &held["instanceId"], &held["keyId"]),
        (&json!("In_use"), &json!(RUNNING), &json!(KEY))
    );
    let (count, lines) = all_calls(&stage).await;
    println!("one attached disk: {count} cloud calls {lines:?}, {} writes", writes(&stage).await - before);
    assert_eq!(mutations(&process), ["CreateDisk", "AttachDisk"]);
    assert!(count <= 20, "{lines:?}");
    tokio::time::sleep(HOUR).await;
    // The test's own apply, then finalizer, intent with the place, Attaching, Ready, and two Events at most.
    assert!(writes(&stage).await - before <= 7, "{:#?}", process.gate.log());
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn another_instance_moves_the_disk_and_no_attachment_brings_it_back() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(at("one", RUNNING)).await;
    ready_at(&stage, "one", RUNNING).await;
    stage.apply(at("one", STOPPED)).await;
    ready_at(&stage, "one", STOPPED).await;
    stage.apply(disk("one")).await;
    let free =
        |object: &Value| condition(object, "Ready").0 == "True" && object["status"]["attachedTo"].is_null();
    let object = stage.until("EncryptedDisk", "one", HOUR, free).await;
    assert!(object["status"]["attachment"].is_null(), "{object:#}");
    assert_eq!(mutations(&process), ["CreateDisk", "AttachDisk", "DetachDisk", "AttachDisk", "DetachDisk"]);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_its_fate_needs_no_detachment() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(at("one", RUNNING)).await;
    let object = ready_at(&stage, "one", RUNNING).await;
    let fate = json!({"instanceId": RUNNING, "deleteWithInstance": true});
    stage.apply(with(disk("one"), "attachment", fate)).await;
    let done = |object: &Value| object["status"]["attachment"]["deleteWithInstance"] == true;
    stage.until("EncryptedDisk", "one", HOUR, done).await;
    stage.until_ready("EncryptedDisk", "one").await;
    assert_eq!(real(&stage, &object["status"]["diskId"]).await["deleteWithInstance"], true);
    assert_eq!(calls(&stage, "ecs:DetachDisk").await, 0);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn deletion_detaches_what_the_operator_attached() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(at("one", RUNNING)).await;
    ready_at(&stage, "one", RUNNING).await;
    stage.delete("EncryptedDisk", "one").await;
    stage.until_gone("EncryptedDisk", "one").await;
    assert!(stage.owned("disks").await.is_empty());
    assert_eq!(mutations(&process), ["CreateDisk", "AttachDisk", "DetachDisk", "DeleteDisk"]);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn deletion_never_takes_a_disk_from_somebody_else() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(disk("one")).await;
    let object = stage.until_ready("EncryptedDisk", "one").await;
    let id = object["status"]["diskId"].clone();
    move_by_hand(&stage, id.as_str().expect("an id"), Some(RUNNING)).await;
    stage.delete("EncryptedDisk", "one").await;
    stage.until_reason("EncryptedDisk", "one", "InUse").await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(real(&stage, &id).await["instanceId"], RUNNING);
    assert_eq!(calls(&stage, "ecs:DetachDisk").await, 0);
    move_by_hand(&stage, id.as_str().expect("an id"), None).await;
    stage.until_gone("EncryptedDisk", "one").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_retained_disk_stays_attached() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(with(at("one", RUNNING), "deletionPolicy", json!("Retain"))).await;
    let object = ready_at(&stage, "one", RUNNING).await;
    stage.delete("EncryptedDisk", "one").await;
    stage.until_gone("EncryptedDisk", "one").await;
    assert_eq!(real(&stage, &object["status"]["diskId"]).await["instanceId"], RUNNING);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_instance_or_disk_is_waited_for() {
    for code in [
        "OperationConflict",
        "OperationConflict.DisksAttachingParallellyExceed",
        "IncorrectDiskStatus",
        "IncorrectInstanceStatus",
        "InvalidOperation.Conflict",
    ] {
        let stage = Stage::new().await;
        let fault =
            json!([{"action": "AttachDisk", "status": 403, "code": code, "when": "before", "times": 3}]);
        stage.order("PUT", "faults", fault).await;
        let process = stage.start().await;
        stage.apply(at("one", RUNNING)).await;
        let object = stage.until_reason("EncryptedDisk", "one", "DependencyNotReady").await;
        assert_eq!(condition(&object, "Reconciling").0, "True", "{code}: {object:#}");
        assert_eq!(condition(&object, "Stalled").0, "", "{code}: {object:#}");
        let object = ready_at(&stage, "one", RUNNING).await;
        assert!(object["status"]["lastError"].is_null(), "{code}: {object:#}");
        assert_eq!(stage.owned("disks").await.len(), 1, "{code}");
        process.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_between_two_states_is_waited_for() {
    let stage = Stage::new().await;
    set(&stage, "instance", STOPPED, json!({"status": "Starting"})).await;
    let process = stage.start().await;
    stage.apply(at("one", STOPPED)).await;
    let object = stage.until_reason("EncryptedDisk", "one", "DependencyNotReady").await;
    assert!(message(&object, "Ready").contains(STOPPED), "{object:#}");
    assert_eq!(calls(&stage, "ecs:AttachDisk").await, 0, "not even tried");
    set(&stage, "instance", STOPPED, json!({"status": "Running"})).await;
    ready_at(&stage, "one", STOPPED).await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_cannot_have_the_disk_is_refused_before_any_change() {
    let stage = Stage::new().await;
    let fields = json!({"zone": "cn-hangzhou-j", "status": "Running"});
    let order = json!({"do": "create", "kind": "instance", "id": "i-bp1far", "region": "cn-hangzhou", "fields": fields});
    stage.order("POST", "resources", order).await;
    let process = stage.start().await;
    stage.apply(at("far", "i-bp1far")).await;
    let object = stage.until_reason("EncryptedDisk", "far", "InvalidSpec").await;
    let told = message(&object, "Ready");
    assert!(told.contains("cn-hangzhou-j") && told.contains("cn-hangzhou-i"), "{told}");
    stage.apply(at("none", "i-bp1nobody")).await;
    let object = stage.until_reason("EncryptedDisk", "none", "InstanceNotFound").await;
    assert!(message(&object, "Ready").contains("i-bp1nobody"), "{object:#}");
    assert_eq!(condition(&object, "Stalled").0, "True");
    assert_eq!(mutations(&process), Vec::<String>::new());
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_somebody_moved_is_reported_and_left_there() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(at("one", RUNNING)).await;
    let object = ready_at(&stage, "one", RUNNING).await;
    let id = object["status"]["diskId"].clone();
    move_by_hand(&stage, id.as_str().expect("an id"), Some(STOPPED)).await;
    let object = stage.until_reason("EncryptedDisk", "one", "AttachedElsewhere").await;
    assert!(message(&object, "Ready").contains(STOPPED), "{object:#}");
    let drift = json!([{"path": "spec.attachment", "desired": RUNNING, "observed": STOPPED}]);
    assert_eq!(object["status"]["drift"], drift, "{object:#}");
    assert_eq!(condition(&object, "Drifted").0, "True");
    tokio::time::sleep(HOUR).await;
    assert_eq!(real(&stage, &id).await["instanceId"], STOPPED);
    assert_eq!(calls(&stage, "ecs:DetachDisk").await, 0);
    // Naming that instance makes peace.
    stage.apply(at("one", STOPPED)).await;
    let object = ready_at(&stage, "one", STOPPED).await;
    assert!(object["status"]["drift"].is_null(), "{object:#}");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_attached_while_the_key_is_disabled() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(disk("one")).await;
    stage.until_ready("EncryptedDisk", "one").await;
    set(&stage, "key", KEY, json!({"state": "Disabled"})).await;
    // What is known of a key is up to five seconds old.
    tokio::time::sleep(Duration::from_secs(10)).await;
    stage.apply(at("one", RUNNING)).await;
    stage.until_reason("EncryptedDisk", "one", "KeyDisabled").await;
    stage.delete("EncryptedDisk", "one").await;
    let held = |object: &Value| message(object, "Ready").contains("Nothing under key");
    let object = stage.until("EncryptedDisk", "one", HOUR, held).await;
    assert_eq!(condition(&object, "Ready").1, "KeyDisabled");
    assert_eq!(mutations(&process), ["CreateDisk"]);
    set(&stage, "key", KEY, json!({"state": "Enabled"})).await;
    stage.until_gone("EncryptedDisk", "one").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn only_names_and_tags_are_corrected() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let mut wish = disk("one");
    wish["spec"]["diskName"] = json!("orders");
    wish["spec"]["description"] = json!("orders of the shop");
    wish["spec"]["tags"] = json!({"team": "shop"});
    stage.apply(wish.clone()).await;
    let object = stage.until_ready("EncryptedDisk", "one").await;
    let id = object["status"]["diskId"].clone();
    let mut tags = real(&stage, &id).await["tags"].clone();
    tags["team"] = json!("thieves");
    tags["theirs"] = json!("stays");
    let fields = json!({"name": "renamed", "description": "x", "tags": tags, "category": "cloud_auto"});
    set(&stage, "disk", id.as_str().expect("an id"), fields).await;
    let drifted = |object: &Value| object["status"]["drift"][0]["path"] == "spec.category";
    let object = stage.until("EncryptedDisk", "one", HOUR, drifted).await;
    assert_eq!(condition(&object, "Ready").0, "True", "{object:#}");
    let seen = real(&stage, &id).await;
    assert_eq!((&seen["name"], &seen["description"]), (&json!("orders"), &json!("orders of the shop")));
    assert_eq!((&seen["tags"]["team"], &seen["tags"]["theirs"]), (&json!("shop"), &json!("stays")));
    assert_eq!(seen["category"], "cloud_auto", "shown, never mended");
    assert_eq!(mutations(&process), ["CreateDisk", "ModifyDiskAttribute", "TagResources"]);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_alias_that_was_pointed_elsewhere_is_drift_and_changes_nothing() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(with(disk("one"), "key", json!({"alias": "alias/ecskms-demo"}))).await;
    stage.until_ready("EncryptedDisk", "one").await;
    let other = "key-hzz65f0a1b2c3d4e5f6a7c9";
    let order = json!({"do": "create", "kind": "alias", "id": "alias/ecskms-demo", "region": "cn-hangzhou", "fields": {"keyId": other}});
    stage.order("POST", "resources", order).await;
    let drifted = |object: &Value| object["status"]["drift"].is_array();
    let object = stage.until("EncryptedDisk", "one", HOUR, drifted).await;
    let drift = json!([{"path": "spec.key.alias", "desired": KEY, "observed": other}]);
    assert_eq!((&object["status"]["drift"], &object["status"]["keyId"]), (&drift, &json!(KEY)));
    assert_eq!(condition(&object, "Ready").0, "True", "the disk is what it was: {object:#}");
    assert_eq!(condition(&object, "Drifted").0, "True");
    process.kill().await;
}

/// The successor at the place of the source, and the source kept.
async fn replaced(stage: &Stage, name: &str, source: &str, place: Option<&str>) -> Value {
    let object = stage.until_ready("EncryptedDisk", name).await;
    let status = &object["status"];
    assert_eq!(status["replacedDiskId"], source, "{object:#}");
    assert_eq!(status["attachedTo"].as_str(), place, "{object:#}");
    let made = real(stage, &status["diskId"]).await;
    assert_eq!((&made["encrypted"], &made["keyId"]), (&json!(true), &json!(KEY)));
    assert_eq!(made["sourceSnapshotId"], status["sourceSnapshotId"], "{object:#}");
    object
}

#[tokio::test(start_paused = true)]
async fn a_used_disk_is_replaced_in_its_place_and_kept() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    set(&stage, "disk", USED, json!({"deleteWithInstance": true})).await;
    let (before, (called, _)) = (writes(&stage).await, all_calls(&stage).await);
    stage.apply(successor("one", USED, "Now")).await;
    let object = replaced(&stage, "one", USED, Some(RUNNING)).await;
    let (count, lines) = all_calls(&stage).await;
    println!(
        "one successor: {} cloud calls {lines:?}, {} writes",
        count - called,
        writes(&stage).await - before
    );
    assert_eq!(mutations(&process), ["DetachDisk", "CreateSnapshot", "CreateDisk", "AttachDisk"]);
    let made = real(&stage, &object["status"]["diskId"]).await;
    assert_eq!((&made["sizeGib"], &made["deleteWithInstance"]), (&json!(100), &json!(true)));
    let old = real(&stage, &json!(USED)).await;
    assert_eq!((&old["status"], &old["instanceId"]), (&json!("Available"), &Value::Null));
    assert!(message(&object, "Ready").contains("retireSource"), "{object:#}");
    // The detachment takes about a minute, in which the disk is looked at; how often depends on where in a tick it ends: 63 to 71 calls.
    assert!(count - called <= 76, "{lines:?}");
    tokio::time::sleep(HOUR).await;
    assert!(writes(&stage).await - before <= 14, "{:#?}", process.gate.log());
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_manual_cutover_checks_everything_and_does_nothing() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let mut wish = successor("one", USED, "Manual");
    stage.apply(wish.clone()).await;
    let object = stage.until_reason("EncryptedDisk", "one", "CutoverPending").await;
    assert!(message(&object, "Ready").contains("spec.cutover to Now"), "{object:#}");
    assert_eq!(condition(&object, "Stalled").0, "", "it waits, nothing is wrong: {object:#}");
    assert_eq!(object["status"]["phase"], "AwaitingCutover");
    tokio::time::sleep(HOUR).await;
    assert_eq!(mutations(&process), Vec::<String>::new());
    set(&stage, "key", KEY, json!({"state": "Disabled"})).await;
    stage.until_reason("EncryptedDisk", "one", "KeyDisabled").await;
    set(&stage, "key", KEY, json!({"state": "Enabled"})).await;
    stage.until_reason("EncryptedDisk", "one", "CutoverPending").await;
    wish["spec"]["cutover"] = json!("Now");
    stage.apply(wish).await;
    replaced(&stage, "one", USED, Some(RUNNING)).await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_cutover_when_detached_waits_for_somebody_and_takes_the_place() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(successor("one", USED, "WhenDetached")).await;
    let object = stage.until_reason("EncryptedDisk", "one", "CutoverPending").await;
    assert_eq!(object["status"]["sourceAttachment"]["instanceId"], RUNNING, "{object:#}");
    tokio::time::sleep(HOUR).await;
    assert_eq!(mutations(&process), Vec::<String>::new());
    move_by_hand(&stage, USED, None).await;
    replaced(&stage, "one", USED, Some(RUNNING)).await;
    assert_eq!(mutations(&process), ["CreateSnapshot", "CreateDisk", "AttachDisk"]);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_free_disk_is_replaced_by_a_free_one_and_retired_when_asked() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let wish = successor("one", FREE, "WhenDetached");
    stage.apply(wish.clone()).await;
    let object = replaced(&stage, "one", FREE, None).await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(real(&stage, &json!(FREE)).await["status"], "Available", "kept until asked");
    stage.apply(with(wish, "retireSource", json!(true))).await;
    let gone = |object: &Value| {
        condition(object, "Ready").0 == "True"
            && object["spec"]["retireSource"] == true
            && object["status"]["observedGeneration"] == object["metadata"]["generation"]
    };
    stage.until("EncryptedDisk", "one", HOUR, gone).await;
    assert!(real(&stage, &json!(FREE)).await.is_null());
    assert!(stage.owned("snapshots").await.is_empty());
    assert_eq!(real(&stage, &object["status"]["diskId"]).await["status"], "Available");
    let expected = ["CreateSnapshot", "CreateDisk", "DeleteDisk", "DeleteSnapshot"];
    assert_eq!(mutations(&process), expected);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_came_back_is_neither_retired_nor_replaced() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(successor("late", FREE, "WhenDetached")).await;
    replaced(&stage, "late", FREE, None).await;
    // Somebody used the old disk again for a while: what was written meanwhile is nowhere else.
    move_by_hand(&stage, FREE, Some(STOPPED)).await;
    tokio::time::sleep(HOUR).await;
    move_by_hand(&stage, FREE, None).await;
    stage.apply(with(successor("late", FREE, "WhenDetached"), "retireSource", json!(true))).await;
    let object = stage.until_reason("EncryptedDisk", "late", "SourceChanged").await;
    assert!(message(&object, "Ready").contains(FREE), "{object:#}");
    // And one that came back while its snapshot was being taken.
    stage.apply(successor("early", USED, "Now")).await;
    stage.until_reason("EncryptedDisk", "early", "Snapshotting").await;
    move_by_hand(&stage, USED, Some(RUNNING)).await;
    stage.until_reason("EncryptedDisk", "early", "SourceChanged").await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(real(&stage, &json!(USED)).await["instanceId"], RUNNING);
    assert_eq!(calls(&stage, "ecs:DeleteDisk").await, 0);
    assert_eq!(calls(&stage, "ecs:CreateDisk").await, 1, "of the first alone");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn sources_that_cannot_be_replaced_are_refused_in_words() {
    let stage = Stage::new().await;
    let far = json!({"zone": "cn-hangzhou-j", "sizeGib": 20});
    let order =
        json!({"do": "create", "kind": "disk", "id": "d-bp1far", "region": "cn-hangzhou", "fields": far});
    stage.order("POST", "resources", order).await;
    let process = stage.start().await;
    for (name, source, reason, word) in [
        ("missing", "d-bp1nothing", "SourceNotFound", "d-bp1nothing"),
        ("far", "d-bp1far", "InvalidSpec", "cn-hangzhou-j"),
        ("system", "d-bp1websys00000000002", "InvalidSpec", "not a data disk"),
        ("encrypted", "d-bp1dbdata00000000004", "InvalidSpec", "already encrypted"),
    ] {
        stage.apply(successor(name, source, "Now")).await;
        let object = stage.until_reason("EncryptedDisk", name, reason).await;
        assert!(message(&object, "Ready").contains(word), "{object:#}");
        assert_eq!(condition(&object, "Stalled").0, "True", "{object:#}");
    }
    let mut small = successor("small", USED, "Now");
    small["spec"]["sizeGiB"] = json!(40);
    stage.apply(small).await;
    let object = stage.until_reason("EncryptedDisk", "small", "InvalidSpec").await;
    assert!(message(&object, "Ready").contains("sizeGiB"), "{object:#}");
    assert_eq!(mutations(&process), Vec::<String>::new());
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_under_another_key_is_brought_under_this_one() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let second = json!({"alias": "alias/ecskms-second"});
    stage.apply(with(successor("one", "d-bp1dbdata00000000004", "Now"), "key", second)).await;
    let object = stage.until_ready("EncryptedDisk", "one").await;
    let made = real(&stage, &object["status"]["diskId"]).await;
    assert_eq!(made["keyId"], "key-hzz65f0a1b2c3d4e5f6a7c9");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn two_operators_make_one_snapshot_and_one_successor() {
    let stage = Stage::new().await;
    let (first, second) = (stage.start().await, stage.start().await);
    stage.apply(with(successor("one", USED, "Now"), "retireSource", json!(true))).await;
    let object = stage.until_ready("EncryptedDisk", "one").await;
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(stage.owned("disks").await.len(), 1);
    assert!(stage.owned("snapshots").await.is_empty(), "the snapshot went with the source");
    assert!(real(&stage, &json!(USED)).await.is_null());
    assert_eq!(real(&stage, &object["status"]["diskId"]).await["instanceId"], RUNNING);
    first.kill().await;
    second.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_successor_leaves_the_source_alone() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let wish = with(successor("one", USED, "Now"), "deletionPolicy", json!("Delete"));
    stage.apply(wish).await;
    stage.until_reason("EncryptedDisk", "one", "Snapshotting").await;
    stage.delete("EncryptedDisk", "one").await;
    stage.until_gone("EncryptedDisk", "one").await;
    tokio::time::sleep(2 * HOUR).await;
    assert!(stage.owned("disks").await.is_empty());
    assert!(stage.owned("snapshots").await.is_empty());
    assert_eq!(real(&stage, &json!(USED)).await["status"], "Available");
    process.kill().await;
}

/// At every moment the data is in the source, or in a successor that was verified.
async fn watch_data(stage: &Stage, context: &str) {
    let state = stage.control("state").await;
    let source = !state["disks"][USED].is_null();
    let successor = state["disks"].as_object().into_iter().flatten().any(|(_, disk)| {
        disk["tags"]["ecskms:uid"].is_string() && disk["status"] == "In_use" && disk["keyId"] == KEY
    });
    assert!(source || successor, "{context}: the data is in no place");
}

/// Replaces a used disk and retires it; ends when that is done.
async fn play(stage: &Stage, context: &str) {
    stage.apply(with(successor("one", USED, "Now"), "retireSource", json!(true))).await;
    let begun = tokio::time::Instant::now();
    while condition(&stage.get("EncryptedDisk", "one").await, "Ready").0 != "True" {
        watch_data(stage, context).await;
        assert!(begun.elapsed() < 4 * HOUR, "{context}: {:#}", stage.get("EncryptedDisk", "one").await);
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
}

async fn judge(stage: &Stage, context: &str) {
    tokio::time::sleep(2 * HOUR).await;
    let object = stage.get("EncryptedDisk", "one").await;
    assert_eq!(condition(&object, "Ready").0, "True", "{context}: {object:#}");
    let owned = stage.owned("disks").await;
    assert_eq!(owned.len(), 1, "{context}: {owned:#?}");
    assert_eq!(object["status"]["diskId"], owned[0].0, "{context}");
    assert_eq!(
        (&owned[0].2["instanceId"], &owned[0].2["keyId"]),
        (&json!(RUNNING), &json!(KEY)),
        "{context}"
    );
    assert!(stage.owned("snapshots").await.is_empty(), "{context}");
    assert!(real(stage, &json!(USED)).await.is_null(), "{context}: the source is retired");
}

#[tokio::test(start_paused = true)]
async fn a_crash_anywhere_in_a_succession_is_resumed() {
    let rehearsal = Stage::new().await;
    let process = rehearsal.start().await;
    play(&rehearsal, "without faults").await;
    judge(&rehearsal, "without faults").await;
    let mut log = process.gate.log();
    log.dedup();
    process.kill().await;
    assert!(log.len() >= 10, "{log:#?}");
    for (index, name) in log.iter().enumerate() {
        for mode in [Mode::Before, Mode::AfterEffect, Mode::AfterAnswer] {
            let context = format!("killed {mode:?} mutation {} ({name})", index + 1);
            let stage = Stage::new().await;
            let first = stage.start_with(|gate| gate.crash_at(index + 1, mode)).await;
            let gate = first.gate.clone();
            let revive = async {
                let _ = tokio::time::timeout(HOUR, gate.crashed()).await;
                first.kill().await;
                stage.start().await
            };
            let (second, ()) = tokio::join!(revive, play(&stage, &context));
            judge(&stage, &context).await;
            second.kill().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_referenced_instance_is_waited_for() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(with(disk("one"), "attachment", json!({"instanceRef": {"name": "web"}}))).await;
    let object = stage.until_reason("EncryptedDisk", "one", "DependencyNotReady").await;
    assert!(message(&object, "Ready").contains("EncryptedInstance web"), "{object:#}");
    stage.apply(crate::stage::instance("web")).await;
    let instance = stage.until_ready("EncryptedInstance", "web").await;
    let id = instance["status"]["instanceId"].as_str().expect("an instance");
    ready_at(&stage, "one", id).await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn limits_on_what_runs_at_once_only_cost_time() {
    let stage = Stage::new().await;
    let limits = json!({"concurrentSnapshots": 1, "concurrentAttachments": 1, "concurrentDetachments": 1});
    stage.order("PUT", "settings", limits).await;
    // Somebody else's snapshot, which takes long enough to be met.
    let others = json!({"do": "create", "kind": "snapshot", "id": "s-bp1others", "region": "cn-hangzhou",
        "fields": {"status": "progressing", "sourceDiskId": "d-bp1others"}});
    stage.order("POST", "resources", others).await;
    let process = stage.start().await;
    for name in ["one", "two", "three"] {
        stage.apply(at(name, RUNNING)).await;
    }
    stage.apply(successor("next", USED, "Now")).await;
    for name in ["one", "two", "three"] {
        ready_at(&stage, name, RUNNING).await;
    }
    let object = stage.until_reason("EncryptedDisk", "next", "DependencyNotReady").await;
    let error = object["status"]["lastError"]["code"].as_str().unwrap_or_default();
    assert_eq!(error, "QuotaExceed.ConcurrentSnapshotQuota", "{object:#}");
    assert_eq!(condition(&object, "Stalled").0, "", "it ends by itself: {object:#}");
    set(&stage, "snapshot", "s-bp1others", json!({"status": "accomplished"})).await;
    replaced(&stage, "next", USED, Some(RUNNING)).await;
    for name in ["one", "two", "three"] {
        stage.apply(disk(name)).await;
    }
    for name in ["one", "two", "three"] {
        let free = |object: &Value| {
            condition(object, "Ready").0 == "True" && object["status"]["attachedTo"].is_null()
        };
        stage.until("EncryptedDisk", name, HOUR, free).await;
    }
    let counters = stage.control("counters").await;
    for (action, code) in [
        ("ecs:AttachDisk", "OperationConflict.DisksAttachingParallellyExceed"),
        ("ecs:DetachDisk", "DisksDetachingOnEcsExceeded"),
    ] {
        assert!(counters[action][code].as_u64() > Some(0), "{action} met no {code}: {counters:#}");
    }
    process.kill().await;
}
