//! Lists what is under a key, in the cloud and in the cluster. Reads only; every list is complete or named as missing.
//!
//! The two halves stand apart: `of_cloud` needs no cluster.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Display;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client, ResourceExt};

use super::blast::{DiskFact, Facts, InstanceFact, MountFact, ROLE_LIMIT, VolumeFact};
use super::decide::{Lever, Running};
use crate::alibaba::{self, Cloud, Disk};
use crate::kind::cluster::{self, Trouble, Volume, all, bounded, is_absent};
use crate::resource::{GROUP, tag};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Question {
    /// Region of the key.
    pub region: String,
    /// Id of the key.
    pub key_id: String,
    /// What is switched off.
    pub lever: Lever,
    /// True if each instance's owner is to be asked what it wants.
    pub wishes: bool,
}

/// Both halves.
pub async fn of_both(cloud: &Cloud, kube: &Client, cluster: &str, question: &Question) -> Facts {
    let (mut facts, places) = tokio::join!(of_cloud(cloud, question), places(kube));
    let (volumes, nodes) = places;
    facts.nodes = note(&mut facts.missing, "nodes of the cluster", nodes).unwrap_or_default();
    facts.volumes = note(&mut facts.missing, "PersistentVolumes", volumes).unwrap_or_default();
    let disks: BTreeSet<&str> = facts.disks.iter().map(|disk| disk.id.as_str()).collect();
    facts.volumes.retain(|volume| disks.contains(volume.disk.as_str()));
    let claims: BTreeSet<(String, String)> =
        facts.volumes.iter().filter_map(|volume| volume.claim.clone()).collect();
    let mounts = mounts(kube, &claims).await;
    facts.mounts = note(&mut facts.missing, "pods and their workloads", mounts).unwrap_or_default();
    if question.wishes {
        let asked = wishes(cloud, kube, cluster, question, &mut facts).await;
        note(&mut facts.missing, "EncryptedInstances", asked);
    }
    facts
}

/// Disks, snapshots, images and instances.
pub async fn of_cloud(cloud: &Cloud, question: &Question) -> Facts {
    let Question { region, key_id, .. } = question;
    let (disks, snapshots, images) = tokio::join!(
        disks_under(cloud, region, key_id),
        cloud.snapshots_under_key(region, key_id),
        cloud.own_images(region),
    );
    let mut facts = Facts::default();
    let disks = note(&mut facts.missing, "disks", disks).unwrap_or_default();
    facts.disks = disks
        .into_iter()
        .map(|disk| DiskFact {
            id: disk.id,
            status: disk.status.word().to_owned(),
            instances: disk.instance_ids,
        })
        .collect();
    let snapshots = note(&mut facts.missing, "snapshots", snapshots).unwrap_or_default();
    facts.snapshots =
        snapshots.into_iter().map(|snapshot| (snapshot.id, snapshot.status.word().to_owned())).collect();
    let images = note(&mut facts.missing, "images", images).unwrap_or_default();
    let behind = |mappings: Vec<crate::alibaba::DiskMapping>| {
        mappings.into_iter().filter_map(|mapping| mapping.snapshot_id).collect()
    };
    facts.images = images.into_iter().map(|image| (image.id, behind(image.mappings))).collect();
    let ids: BTreeSet<String> = facts.disks.iter().flat_map(|disk| disk.instances.clone()).collect();
    let ids: Vec<String> = ids.into_iter().collect();
    let instances = cloud.instances(region, &ids).await;
    let instances = note(&mut facts.missing, "instances", instances).unwrap_or_default();
    facts.instances = instances
        .into_iter()
        .map(|instance| InstanceFact {
            id: instance.id,
            status: instance.status.word().to_owned(),
            wish: None,
        })
        .collect();
    if question.lever == Lever::Role {
        facts.limits.push(format!("{ROLE_LIMIT}; only what is under {key_id} in {region} is listed"));
    }
    facts
}

/// The disks under a key. Nobody confirms that the filter works for a key that is switched off, and in which form it wants the key,
/// so that an answer of nothing is checked against all encrypted disks.
async fn disks_under(cloud: &Cloud, region: &str, key_id: &str) -> Result<Vec<Disk>, alibaba::Error> {
    let filtered = cloud.disks_where(region, &[("KMSKeyId", key_id)]).await?;
    if !filtered.is_empty() {
        return Ok(filtered);
    }
    let mut encrypted = cloud.disks_where(region, &[("Encrypted", "true")]).await?;
    encrypted.retain(|disk| disk.kms_key_id.as_deref().and_then(bare_id) == Some(key_id));
    Ok(encrypted)
}

/// The id of a key that may be shown by its ARN.
fn bare_id(key: &str) -> Option<&str> {
    key.rsplit('/').next()
}

/// Keeps what was found, or says that it is missing.
fn note<T>(missing: &mut Vec<String>, what: &str, result: Result<T, impl Display>) -> Option<T> {
    match result {
        Ok(found) => Some(found),
        Err(error) => {
            missing.push(format!("{what}: {error}").chars().take(512).collect());
            None
        }
    }
}

type Places = (Result<Vec<VolumeFact>, Trouble>, Result<Vec<(String, String)>, Trouble>);

/// Volumes on disks of the cloud, and nodes that are instances of it.
async fn places(kube: &Client) -> Places {
    let (volumes, nodes) = tokio::join!(cluster::volumes(kube), cluster::nodes(kube));
    let fact = |volume: Volume| VolumeFact { name: volume.name, disk: volume.disk, claim: volume.claim };
    (
        volumes.map(|list| list.into_iter().map(fact).collect()),
        nodes.map(|list| list.into_iter().map(|node| (node.name, node.instance)).collect()),
    )
}

/// The workloads that mount the claims.
async fn mounts(kube: &Client, claims: &BTreeSet<(String, String)>) -> Result<Vec<MountFact>, Trouble> {
    let namespaces: BTreeSet<&String> = claims.iter().map(|(namespace, _)| namespace).collect();
    let mut found = Vec::new();
    let mut owners = Owners { kube: kube.clone(), known: BTreeMap::new() };
    for namespace in namespaces {
        let pods: Api<Pod> = Api::namespaced(kube.clone(), namespace);
        for pod in all(&pods).await? {
            let mounted = claims_of(&pod).into_iter().map(|name| (namespace.clone(), name));
            let hit: Vec<_> = mounted.filter(|claim| claims.contains(claim)).collect();
            if hit.is_empty() {
                continue;
            }
            let workload = owners.workload(namespace, &pod).await?;
            let fact = |claim| MountFact {
                claim,
                pod: format!("{namespace}/{}", pod.name_any()),
                workload: workload.clone(),
            };
            found.extend(hit.into_iter().map(fact));
        }
    }
    Ok(found)
}

/// The claims of a pod; those of ephemeral volumes are named after the pod and the volume.
fn claims_of(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    let claim = |volume: &k8s_openapi::api::core::v1::Volume| {
        let ephemeral = volume.ephemeral.as_ref().map(|_| format!("{}-{}", pod.name_any(), volume.name));
        volume.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.clone()).or(ephemeral)
    };
    volumes.into_iter().flatten().filter_map(claim).collect()
}

/// Who owns what: a ReplicaSet's Deployment, a Job's CronJob.
struct Owners {
    kube: Client,
    known: BTreeMap<(String, String, String), Option<OwnerReference>>,
}

impl Owners {
    /// `Namespace/Kind/Name` of what a person would name: the topmost owner that is known, else the pod itself.
    async fn workload(&mut self, namespace: &str, pod: &Pod) -> Result<String, Trouble> {
        let Some(owner) = controller(pod.owner_references()) else {
            return Ok(format!("{namespace}/Pod/{}", pod.name_any()));
        };
        let above = match owner.kind.as_str() {
            "ReplicaSet" | "Job" => self.above(namespace, &owner).await?,
            _ => None,
        };
        let top = above.unwrap_or(owner);
        Ok(format!("{namespace}/{}/{}", top.kind, top.name))
    }

    async fn above(
        &mut self,
        namespace: &str,
        owner: &OwnerReference,
    ) -> Result<Option<OwnerReference>, Trouble> {
        let key = (namespace.to_owned(), owner.kind.clone(), owner.name.clone());
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let kube = self.kube.clone();
        let found = if owner.kind == "ReplicaSet" {
            let api: Api<ReplicaSet> = Api::namespaced(kube, namespace);
            bounded(api.get_opt(&owner.name)).await?.and_then(|set| controller(set.owner_references()))
        } else {
            let api: Api<Job> = Api::namespaced(kube, namespace);
            bounded(api.get_opt(&owner.name)).await?.and_then(|job| controller(job.owner_references()))
        };
        self.known.insert(key, found.clone());
        Ok(found)
    }
}

fn controller(owners: &[OwnerReference]) -> Option<OwnerReference> {
    owners.iter().find(|owner| owner.controller == Some(true)).or(owners.first()).cloned()
}

/// What the owners of the instances in this cluster want; an instance without an owner here is left.
async fn wishes(
    cloud: &Cloud,
    kube: &Client,
    cluster: &str,
    question: &Question,
    facts: &mut Facts,
) -> Result<(), String> {
    let ids: Vec<String> = facts.instances.iter().map(|instance| instance.id.clone()).collect();
    let shown = cloud.instances(&question.region, &ids).await.map_err(|error| error.to_string())?;
    let owned = |tags: &BTreeMap<String, String>| {
        let ours = tags.get(tag::CLUSTER).is_some_and(|found| found == cluster);
        ours.then(|| tags.get(tag::UID).cloned()).flatten()
    };
    let owners: BTreeMap<String, String> =
        shown.into_iter().filter_map(|instance| Some((instance.id, owned(&instance.tags)?))).collect();
    if owners.is_empty() {
        return Ok(());
    }
    let wanted = owners_wishes(kube).await.map_err(|error| error.to_string())?;
    for instance in &mut facts.instances {
        instance.wish = owners.get(&instance.id).and_then(|uid| wanted.get(uid).copied());
    }
    Ok(())
}

/// spec.onRevocation of every EncryptedInstance, by uid. The kind is read by name, because kinds do not know one another.
async fn owners_wishes(kube: &Client) -> Result<BTreeMap<String, Running>, Trouble> {
    let resource = ApiResource {
        group: GROUP.to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: format!("{GROUP}/v1alpha1"),
        kind: "EncryptedInstance".to_owned(),
        plural: "encryptedinstances".to_owned(),
    };
    let api: Api<DynamicObject> = Api::all_with(kube.clone(), &resource);
    let list = match all(&api).await {
        // A cluster without the kind has no such owners.
        Err(Trouble::Refused(error)) if is_absent(&error) => return Ok(BTreeMap::new()),
        other => other?,
    };
    let wish = |object: &DynamicObject| {
        let word = object.data.get("spec")?.get("onRevocation")?.as_str()?;
        let wish = match word {
            "Stop" => Running::Stop,
            "ForceStop" => Running::ForceStop,
            _ => Running::Leave,
        };
        Some((object.metadata.uid.clone()?, wish))
    };
    Ok(list.iter().filter_map(wish).collect())
}

/// The customer keys under which nodes of this cluster have disks, by region. Service keys cannot be revoked, with or without the
/// role, so that they need no guard; a key of which that is not known counts as a customer key.
pub async fn own_keys(cloud: &Cloud, kube: &Client) -> Result<HashSet<(String, String)>, String> {
    let nodes = cluster::nodes(kube).await.map_err(|error| error.to_string())?;
    let mut regions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in nodes {
        regions.entry(node.region).or_default().insert(node.instance);
    }
    let mut keys = HashSet::new();
    for (region, instances) in regions {
        let disks = cloud.disks_where(&region, &[("Encrypted", "true")]).await;
        for disk in disks.map_err(|error| error.to_string())? {
            let own = disk.instance_ids.iter().any(|id| instances.contains(id));
            let key = disk.kms_key_id.as_deref().and_then(bare_id);
            keys.extend(key.filter(|_| own).map(|key| (region.clone(), key.to_owned())));
        }
    }
    let mut customer = HashSet::new();
    for (region, key) in keys {
        let found = cloud.key_now(&region, &key).await;
        if !found.is_ok_and(|reading| reading.found.is_some_and(|key| key.is_service_key)) {
            customer.insert((region, key));
        }
    }
    Ok(customer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn claims_of_ephemeral_volumes_are_named_after_their_pod() {
        let pod = json!({"metadata": {"name": "web-0"}, "spec": {"containers": [], "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "data-web-0"}},
            {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
            {"name": "config", "configMap": {"name": "c"}}]}});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        assert_eq!(claims_of(&pod), ["data-web-0", "web-0-scratch"]);
    }
}
