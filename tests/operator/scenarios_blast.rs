//! Who is hit by a revocation inside of the cluster: disk, volume, claim, pod, workload, namespace, node.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::revocation::{
    DB, cloud_key, instance, phase, revocation, revoke, set_desired, set_key, starts, verified, with,
};
use crate::stage::{KEY, Stage, condition, message};

const LIMIT: Duration = Duration::from_secs(300);

/// Creates the object and says its uid: an owner that does not exist would take its dependents with it.
async fn create<K>(api: Api<K>, object: Value) -> String
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let object = serde_json::from_value(object).expect("it fits the type");
    let created = api.create(&PostParams::default(), &object).await.expect("it is accepted");
    created.meta().uid.clone().expect("a uid")
}

async fn namespace(stage: &Stage, name: &str) {
    let api: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(stage.client.clone());
    create(api, json!({"metadata": {"name": name}})).await;
}

/// Two volumes on the two disks of the database, one for each driver, used by a Deployment and by a StatefulSet.
async fn workloads(stage: &Stage) {
    let client = || stage.client.clone();
    namespace(stage, "payments").await;
    let volume = |name: &str, claim: &str, source: Value| {
        let mut spec = json!({"capacity": {"storage": "40Gi"}, "accessModes": ["ReadWriteOnce"],
            "claimRef": {"namespace": "payments", "name": claim}});
        spec.as_object_mut().expect("an object").extend(source.as_object().expect("an object").clone());
        json!({"metadata": {"name": name}, "spec": spec})
    };
    let csi = json!({"csi": {"driver": "diskplugin.csi.alibabacloud.com", "volumeHandle": "d-bp1dbdata00000000004"}});
    let flex =
        json!({"flexVolume": {"driver": "alicloud/disk", "options": {"volumeId": "d-bp1dbsys000000000005"}}});
    let other = json!({"csi": {"driver": "diskplugin.csi.alibabacloud.com", "volumeHandle": "d-bp1webdata0000000003"}});
    for body in
        [volume("pv-csi", "ledger", csi), volume("pv-flex", "old", flex), volume("pv-other", "free", other)]
    {
        create::<k8s_openapi::api::core::v1::PersistentVolume>(Api::all(client()), body).await;
    }
    let owner = |kind: &str, name: &str, uid: &str| json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true}]);
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let sets = |name: &str, owners: Value| {
        json!({"metadata": {"name": name, "ownerReferences": owners}, "spec": {"serviceName": name,
            "selector": {"matchLabels": {"a": "b"}}, "template": template}})
    };
    let plain = |name: &str| {
        let mut body = sets(name, json!([]));
        body["spec"].as_object_mut().expect("an object").remove("serviceName");
        body
    };
    use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
    let web = create::<Deployment>(Api::namespaced(client(), "payments"), plain("web")).await;
    let mut set = plain("web-1");
    set["metadata"]["ownerReferences"] = owner("Deployment", "web", &web);
    let web_1 = create::<ReplicaSet>(Api::namespaced(client(), "payments"), set).await;
    let db = create::<StatefulSet>(Api::namespaced(client(), "payments"), sets("db", json!([]))).await;
    let idle = create::<StatefulSet>(Api::namespaced(client(), "payments"), sets("idle", json!([]))).await;
    let pod = |name: &str, claim: &str, owner: Value| {
        json!({"metadata": {"name": name, "ownerReferences": owner}, "spec": {
            "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]}})
    };
    for body in [
        pod("web-1-x", "ledger", owner("ReplicaSet", "web-1", &web_1)),
        pod("db-0", "old", owner("StatefulSet", "db", &db)),
        pod("idle-0", "free", owner("StatefulSet", "idle", &idle)),
    ] {
        create::<k8s_openapi::api::core::v1::Pod>(Api::namespaced(client(), "payments"), body).await;
    }
}

async fn node(stage: &Stage, instance: &str) {
    let body =
        json!({"metadata": {"name": "worker-1"}, "spec": {"providerID": format!("cn-hangzhou.{instance}")}});
    create::<k8s_openapi::api::core::v1::Node>(Api::all(stage.client.clone()), body).await;
}

#[tokio::test(start_paused = true)]
async fn teams_are_named_and_the_whole_list_lies_in_a_config_map() {
    let stage = Stage::new().await;
    namespace(&stage, "ecskms-system").await;
    workloads(&stage).await;
    let process = stage.start().await;
    stage.apply(with(revocation("plan", json!({})), "desiredState", json!("Planned"))).await;
    let reported = |object: &Value| object["status"]["reportRef"].is_object();
    let object = stage.until("KeyRevocation", "plan", Duration::from_secs(60), reported).await;
    let radius = &object["status"]["blastRadius"];
    assert_eq!(
        radius["workloads"],
        json!(["payments/Deployment/web", "payments/StatefulSet/db"]),
        "{radius:#}"
    );
    assert_eq!((&radius["namespaces"], &radius["persistentVolumes"]), (&json!(["payments"]), &json!(2)));
    assert_eq!((&radius["complete"], &radius["selfLockout"]), (&json!(true), &json!(false)));
    let name = object["status"]["reportRef"]["name"].as_str().expect("a name");
    let api: Api<k8s_openapi::api::core::v1::ConfigMap> =
        Api::namespaced(stage.client.clone(), "ecskms-system");
    let text = api.get(name).await.expect("the ConfigMap is there").data.expect("data").remove("report.json");
    let whole: Value = serde_json::from_str(&text.expect("the report")).expect("JSON");
    assert_eq!((&whole["digest"], &whole["truncated"]), (&radius["digest"], &json!(false)));
    let claims: Vec<_> =
        whole["items"].as_array().expect("items").iter().filter_map(|item| item["claim"].as_str()).collect();
    assert_eq!(claims, ["payments/ledger", "payments/old"]);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_does_not_revoke_the_key_of_its_own_nodes_unless_that_is_allowed() {
    let stage = Stage::new().await;
    node(&stage, DB).await;
    let process = stage.start().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    stage.apply(revocation("one", json!({}))).await;
    stage.until_reason("KeyRevocation", "one", "SelfLockout").await;
    stage.apply(revocation("two", json!({"runningInstances": "Stop"}))).await;
    stage.until_reason("KeyRevocation", "two", "SelfLockout").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(
        (cloud_key(&stage, KEY).await.as_str(), instance(&stage, DB).await.as_str()),
        ("Enabled", "Running")
    );
    stage.apply(revocation("three", json!({"safety": {"allowSelfLockout": true}}))).await;
    let object = revoke(&stage, "three").await;
    assert_eq!(object["status"]["blastRadius"]["selfLockout"], true);
    assert_eq!(object["status"]["blastRadius"]["items"][0]["node"], "worker-1");
    process.kill().await;
}

/// A revocation of ECS's grant.
fn wide(name: &str, desired: &str) -> Value {
    let fields = json!({"method": "DetachEcsRole", "safety": {"acknowledgeAccountWide": true}, "desiredState": desired});
    revocation(name, fields)
}

#[tokio::test(start_paused = true)]
async fn a_new_process_knows_its_nodes_before_it_cuts() {
    let stage = Stage::new().await;
    node(&stage, DB).await;
    stage.order("PUT", "faults", json!([{"action": "DescribeDisks", "delayMs": 3_000}])).await;
    // Ordered while nobody was there.
    stage.apply(revocation("own", json!({}))).await;
    let process = stage.start().await;
    stage.until_reason("KeyRevocation", "own", "SelfLockout").await;
    process.kill().await;
    // And held by a process that is gone; the next one may not even list its nodes.
    // And KMS does not answer at first, so that Ready says something else meanwhile.
    let denied = json!({"action": "DescribeDisks", "status": 403, "code": "Forbidden.RAM"});
    let broken =
        json!({"action": "DescribeKey", "status": 503, "code": "ServiceUnavailableTemporary", "times": 5});
    stage.order("PUT", "faults", json!([denied, broken])).await;
    let process = stage.start().await;
    stage.until_reason("KeyRevocation", "own", "CloudUnavailable").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let object = stage.get("KeyRevocation", "own").await;
    assert_eq!(
        (condition(&object, "Ready").1.as_str(), condition(&object, "SelfLockout").0.as_str()),
        ("SelfLockout", "True")
    );
    assert_eq!(cloud_key(&stage, KEY).await, "Enabled");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_just_joined_is_guarded_by_the_plan_that_names_it_and_soon_without_one() {
    for planned in [true, false] {
        let stage = Stage::new().await;
        let process = stage.start().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        node(&stage, DB).await;
        if planned {
            stage.apply(with(revocation("new", json!({})), "desiredState", json!("Planned"))).await;
            stage.until_reason("KeyRevocation", "new", "Planned").await;
            set_desired(&stage, "new", "Revoked").await;
        } else {
            tokio::time::sleep(Duration::from_secs(60)).await;
            stage.apply(revocation("new", json!({}))).await;
        }
        stage.until_reason("KeyRevocation", "new", "SelfLockout").await;
        assert_eq!(cloud_key(&stage, KEY).await, "Enabled");
        process.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_its_role_ecs_locks_a_cluster_out_only_if_its_nodes_use_customer_keys() {
    let stage = Stage::new().await;
    node(&stage, DB).await;
    let process = stage.start().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    // The guard is of the whole account, whichever key is named.
    stage.apply(with(wide("one", "Revoked"), "keyId", json!("key-hzz65f0a1b2c3d4e5f6a7c9"))).await;
    let held = stage.until_reason("KeyRevocation", "one", "SelfLockout").await;
    let told = message(&held, "Ready");
    assert!(told.contains("customer keys") && !told.contains("key-hzz"), "{told}");
    process.kill().await;

    let stage = Stage::new().await;
    node(&stage, "i-bp1web000000000000a1").await;
    let service = json!({"encrypted": true, "keyId": "9d1e7f42-6c8b-4a35-b0d1-e2f3a4b5c6d7"});
    let order = json!({"do": "set", "kind": "disk", "id": "d-bp1websys00000000002", "region": "cn-hangzhou", "fields": service});
    stage.order("POST", "resources", order).await;
    let process = stage.start().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    stage.apply(wide("one", "Revoked")).await;
    let object = revoke(&stage, "one").await;
    assert_eq!(condition(&object, "Contained").0, "False", "{object:#}");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_plan_for_the_role_is_planned_and_says_what_it_does_not_list() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    for field in ["maxAffectedInstances", "acknowledgedDigest"] {
        let mut object = wide("guarded", "Revoked");
        object["spec"]["safety"][field] = if field.starts_with("max") { json!(3) } else { json!("ab12") };
        let refused = stage.try_apply(object).await.expect_err("nothing could satisfy it");
        assert!(refused.to_string().contains("leave out safety.maxAffectedInstances"), "{refused}");
    }
    stage.apply(wide("plan", "Planned")).await;
    let object = stage.until_reason("KeyRevocation", "plan", "Planned").await;
    assert_eq!((phase(&object), condition(&object, "Ready").0.as_str()), ("Planned", "True"));
    let radius = &object["status"]["blastRadius"];
    assert_eq!((&radius["complete"], &radius["disks"]), (&json!(false), &json!(2)));
    for told in [&radius["missing"][0], &json!(message(&object, "Planned"))] {
        assert!(told.as_str().is_some_and(|text| text.contains("every customer key")), "{object:#}");
    }
    assert!(message(&object, "Ready").contains("every customer key"), "{object:#}");
    stage.apply(wide("plan", "Revoked")).await;
    let object = revoke(&stage, "plan").await;
    assert_eq!(condition(&object, "Planned").0, "True", "{object:#}");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn each_instance_is_stopped_as_its_owner_in_this_cluster_says_and_stays_so() {
    for (wish, status) in [("ForceStop", "Stopped"), ("Stop", "Stopped"), ("Leave", "Running")] {
        let stage = Stage::new().await;
        let process = stage.start().await;
        stage.apply(with(crate::stage::instance("db"), "onRevocation", json!(wish))).await;
        let owner = stage.until_ready("EncryptedInstance", "db").await;
        let owned = owner["status"]["instanceId"].as_str().expect("an id");
        stage.apply(revocation("one", json!({"runningInstances": "PerInstance"}))).await;
        revoke(&stage, "one").await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(instance(&stage, owned).await, status, "{wish}");
        assert_eq!(instance(&stage, DB).await, "Running", "nobody here owns it");
        let object = stage.get("KeyRevocation", "one").await;
        let readable = object["status"]["stillReadable"]["instances"].as_array().expect("a list");
        let readable: BTreeSet<&str> = readable.iter().filter_map(|one| one["id"].as_str()).collect();
        let expected = BTreeSet::from_iter([DB].into_iter().chain((status == "Running").then_some(owned)));
        assert_eq!(readable, expected, "{wish}");
        // Its owner wants it running, and leaves it alone.
        tokio::time::sleep(Duration::from_secs(900)).await;
        assert_eq!((instance(&stage, owned).await.as_str(), starts(&stage).await), (status, 0), "{wish}");
        let stopped = json!({"do": "set", "kind": "instance", "id": DB, "fields": {"status": "Stopped"}});
        stage.order("POST", "resources", stopped).await;
        tokio::time::sleep(Duration::from_secs(300)).await;
        let object = stage.get("KeyRevocation", "one").await;
        let contained = if status == "Stopped" { "True" } else { "False" };
        assert_eq!(condition(&object, "Contained").0, contained, "{wish}: {}", phase(&object));
        process.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_journal_outlives_its_object_and_names_the_request_of_every_call() {
    let stage = Stage::new().await;
    namespace(&stage, "ecskms-system").await;
    let process = stage.start().await;
    let fields = json!({"evidenceSnapshots": true, "runningInstances": "Stop"});
    stage.apply(revocation("one", fields)).await;
    stage.until("KeyRevocation", "one", LIMIT, |object| phase(object) == "Contained").await;
    set_desired(&stage, "one", "Restored").await;
    let done = |object: &Value| phase(object) == "Restored" && condition(object, "Ready").0 == "True";
    let object = stage.until("KeyRevocation", "one", LIMIT, done).await;
    let (uid, report) = (object["metadata"]["uid"].clone(), object["status"]["reportRef"]["name"].clone());
    // A record goes once no late call of another process can arrive any more.
    tokio::time::sleep(Duration::from_secs(120)).await;
    stage.delete("KeyRevocation", "one").await;
    stage.until_gone("KeyRevocation", "one").await;
    let api: Api<k8s_openapi::api::core::v1::ConfigMap> =
        Api::namespaced(stage.client.clone(), "ecskms-system");
    let map = api.get(report.as_str().expect("a name")).await.expect("the ConfigMap is there");
    let data = map.data.expect("data");
    assert!(data.contains_key("report.json"), "the list stays beside the journal");
    let kept: Value = serde_json::from_str(&data["journal.json"]).expect("JSON");
    assert_eq!((&kept["name"], &kept["uid"]), (&json!("one"), &uid));
    verified(&json!({"metadata": {"uid": uid}, "status": kept}));
    let entries = kept["journal"].as_array().expect("entries");
    let told: Vec<&str> = entries.iter().filter_map(|entry| entry["action"].as_str()).collect();
    let own = ["RecordStops", "Contained", "BeginRestore", "ObjectDeleted"];
    for action in
        ["RecordPriorState", "CreateSnapshot", "StopInstances", "DisableKey", "EnableKey", "StartInstances"]
    {
        assert!(told.contains(&action), "{action} of {told:?}");
    }
    assert_eq!(told.last(), Some(&"ObjectDeleted"));
    let silent: Vec<&Value> = entries.iter().filter(|entry| entry["requestId"].is_null()).collect();
    assert!(
        silent.iter().all(|entry| own.contains(&entry["action"].as_str().expect("an action"))),
        "{silent:#?}"
    );
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_late_is_called_incomplete_and_counts_nothing() {
    let stage = Stage::new().await;
    stage.order("PUT", "faults", json!([{"action": "DescribeDisks", "delayMs": 25_000}])).await;
    let process = stage.start().await;
    stage.apply(revocation("one", json!({"safety": {"inventoryTimeoutSeconds": 1}}))).await;
    let listed = |object: &Value| object["status"]["blastRadius"].is_object();
    let object = stage.until("KeyRevocation", "one", LIMIT, listed).await;
    let radius = &object["status"]["blastRadius"];
    assert_eq!(radius["complete"], json!(false));
    assert!(radius["instancesAffected"].is_null(), "nought would mean that nobody is hit: {radius:#}");
    assert_eq!(condition(&object, "Planned").0, "False");
    let whole = |object: &Value| object["status"]["blastRadius"]["complete"] == true;
    let object = stage.until("KeyRevocation", "one", LIMIT, whole).await;
    assert_eq!(object["status"]["blastRadius"]["instancesAffected"], 1);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_prior_state_that_the_journal_does_not_tell_of_is_an_alarm() {
    let stage = Stage::new().await;
    set_key(&stage, "Disabled").await;
    let process = stage.start().await;
    stage.apply(revocation("one", json!({}))).await;
    let object = revoke(&stage, "one").await;
    assert_eq!(condition(&object, "JournalBroken").0, "");
    let patch = Patch::Merge(json!({"status": {"priorState": {"keyState": "Enabled"}}}));
    let api = stage.objects("KeyRevocation");
    api.patch_status("one", &PatchParams::default(), &patch).await.expect("the patch is accepted");
    let told = |object: &Value| condition(object, "JournalBroken").0 == "True";
    stage.until("KeyRevocation", "one", LIMIT, told).await;
    process.kill().await;
}
