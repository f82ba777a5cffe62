//! What the tests of audits share: objects, waits, and what is read of a status.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, PersistentVolume};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::api::{Patch, PostParams};
use serde_json::{Value, json};

use crate::revocation::calls;
use crate::stage::{KEY, Stage, condition};

/// An hour of paused time.
pub const HOUR: Duration = Duration::from_secs(3600);
/// The kind.
pub const KIND: &str = "EncryptionAudit";
/// A machine with two plain disks.
pub const WEB: &str = "i-bp1web000000000000a1";

/// An audit of some regions, with other fields.
pub fn audit(name: &str, regions: &[&str], fields: Value) -> Value {
    let mut object = json!({
        "apiVersion": "ecskms.dev/v1alpha1", "kind": KIND, "metadata": {"name": name},
        "spec": {"regions": regions},
    });
    object["spec"].as_object_mut().expect("a spec").extend(fields.as_object().expect("fields").clone());
    object
}

pub async fn scanned(stage: &Stage, name: &str) -> Value {
    stage.until_reason(KIND, name, "Scanned").await
}

/// Waits for a scan that ended after the one that the object tells of.
pub async fn next_scan(stage: &Stage, before: &Value, limit: Duration) -> Value {
    let name = before["metadata"]["name"].as_str().expect("a name");
    let last = before["status"]["lastScanTime"].clone();
    let newer = |object: &Value| {
        object["status"]["lastScanTime"] != last
            && condition(object, "Ready") == ("True".into(), "Scanned".into())
    };
    stage.until(KIND, name, limit, newer).await
}

/// Asks for a scan now.
pub async fn ask(stage: &Stage, before: &Value, word: &str) -> Value {
    let patch = json!({"metadata": {"annotations": {"ecskms.dev/reconcile-requested-at": word}}});
    let name = before["metadata"]["name"].as_str().expect("a name");
    stage.objects(KIND).patch(name, &Default::default(), &Patch::Merge(patch)).await.expect("it is accepted");
    next_scan(stage, before, Duration::from_secs(120)).await
}

pub fn tally<'a>(object: &'a Value, sort: &str) -> &'a Value {
    let all = object["status"]["byResource"].as_array().expect("counts");
    all.iter().find(|line| line["type"] == sort).unwrap_or(&Value::Null)
}

/// Type, id and reason of each finding, in the order of status.
pub fn findings(object: &Value) -> Vec<(String, String, String)> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = object["status"]["findings"].as_array().cloned().unwrap_or_default();
    all.iter().map(|one| (word(&one["type"]), word(&one["id"]), word(&one["reason"]))).collect()
}

pub fn reason(object: &Value, id: &str) -> String {
    findings(object)
        .into_iter()
        .find(|(_, found, _)| found == id)
        .map(|(.., reason)| reason)
        .unwrap_or_default()
}

pub async fn set(stage: &Stage, verb: &str, kind: &str, id: &str, region: &str, fields: Value) {
    let order = json!({"do": verb, "kind": kind, "id": id, "region": region, "fields": fields});
    stage.order("POST", "resources", order).await;
}

/// What the limited identity may do, in these regions.
pub async fn allow(stage: &Stage, actions: &[&str], regions: &[&str]) {
    let resources: Vec<String> = regions
        .iter()
        .flat_map(|region| [format!("acs:ecs:{region}:*:*"), format!("acs:kms:{region}:*:*")])
        .collect();
    let policy =
        json!({"Version": "1", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": resources}]});
    stage.order("PUT", "settings", json!({ "limitedPolicy": policy })).await;
}

pub async fn limited(stage: &Stage) -> crate::stage::Process {
    stage.start_as(sim::cloud::LIMITED_ACCESS_KEY_ID, sim::cloud::LIMITED_ACCESS_KEY_SECRET).await
}

pub async fn writes(stage: &Stage) -> u64 {
    stage.api_control("/_kube/stats").await["writes"].as_u64().expect("a number")
}

/// Calls of every list and every key.
pub async fn reads(stage: &Stage) -> u64 {
    let mut sum = 0;
    for action in ["ecs:DescribeDisks", "ecs:DescribeSnapshots", "ecs:DescribeImages", "kms:DescribeKey"] {
        sum += calls(stage, action).await;
    }
    sum
}

/// Creates an object of Kubernetes itself.
pub async fn create<K>(api: Api<K>, object: Value)
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let object = serde_json::from_value(object).expect("it fits the type");
    api.create(&PostParams::default(), &object).await.expect("it is accepted");
}

/// A StorageClass of the disk driver.
pub async fn class(stage: &Stage, name: &str, parameters: Value) {
    let driver = "diskplugin.csi.alibabacloud.com";
    let class = json!({"metadata": {"name": name}, "provisioner": driver, "parameters": parameters});
    create::<StorageClass>(Api::all(stage.client.clone()), class).await;
}

/// A node that says in which region the cluster is.
pub async fn node(stage: &Stage) {
    let node =
        json!({"metadata": {"name": "worker-1"}, "spec": {"providerID": format!("cn-hangzhou.{WEB}")}});
    create::<Node>(Api::all(stage.client.clone()), node).await;
}

/// Two volumes of one team, three classes, and a node that says in which region all this is.
pub async fn cluster(stage: &Stage) {
    let driver = "diskplugin.csi.alibabacloud.com";
    for (name, disk) in [("pv-a", "d-bp1webdata0000000003"), ("pv-b", "d-bp1dbdata00000000004")] {
        let spec = json!({"capacity": {"storage": "40Gi"}, "accessModes": ["ReadWriteOnce"],
            "claimRef": {"namespace": "payments", "name": name}, "csi": {"driver": driver, "volumeHandle": disk}});
        create::<PersistentVolume>(
            Api::all(stage.client.clone()),
            json!({"metadata": {"name": name}, "spec": spec}),
        )
        .await;
    }
    for (name, provisioner, parameters) in [
        ("plain", driver, json!({"type": "cloud_essd"})),
        ("service", "alicloud/disk", json!({"encrypted": "true"})),
        ("good", driver, json!({"encrypted": "true", "kmsKeyId": KEY})),
        ("files", "nasplugin.csi.alibabacloud.com", json!({})),
    ] {
        let class = json!({"metadata": {"name": name}, "provisioner": provisioner, "parameters": parameters});
        create::<StorageClass>(Api::all(stage.client.clone()), class).await;
    }
    node(stage).await;
}
