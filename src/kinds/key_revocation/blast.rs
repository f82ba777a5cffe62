//! Who is hit when a key is lost: joins what the cloud and the cluster say into disk, instance, volume, claim, workload. Pure.
//!
//! Whoever lists says what could not be listed; nothing is concluded here from what is not shown.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::decide::Running;

/// How the limit of a list for the role begins.
pub const ROLE_LIMIT: &str = "method DetachEcsRole hits every customer key in every region of the account";

/// What was listed, as it came.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Disks under the key.
    pub disks: Vec<DiskFact>,
    /// Snapshots under the key: id and status.
    pub snapshots: Vec<(String, String)>,
    /// Custom images: id and the snapshots behind them.
    pub images: Vec<(String, Vec<String>)>,
    /// Instances that could be seen.
    pub instances: Vec<InstanceFact>,
    /// PersistentVolumes on disks of the cloud.
    pub volumes: Vec<VolumeFact>,
    /// Which workload mounts which claim.
    pub mounts: Vec<MountFact>,
    /// Nodes of this cluster: name and instance.
    pub nodes: Vec<(String, String)>,
    /// What could not be listed, and why.
    pub missing: Vec<String>,
    /// What is hit and never listed.
    pub limits: Vec<String>,
}

/// A disk under the key.
#[derive(Clone, Debug, Default)]
pub struct DiskFact {
    /// Its id.
    pub id: String,
    /// Its status.
    pub status: String,
    /// The instances that use it; a shared disk has several.
    pub instances: BTreeSet<String>,
}

/// An instance.
#[derive(Clone, Debug, Default)]
pub struct InstanceFact {
    /// Its id.
    pub id: String,
    /// Its status.
    pub status: String,
    /// What its owner wants to be done with it when its key is revoked.
    pub wish: Option<Running>,
}

/// A volume of this cluster.
#[derive(Clone, Debug, Default)]
pub struct VolumeFact {
    /// Its name.
    pub name: String,
    /// The disk.
    pub disk: String,
    /// Namespace and name of its claim.
    pub claim: Option<(String, String)>,
}

/// A claim that is mounted.
#[derive(Clone, Debug, Default)]
pub struct MountFact {
    /// Namespace and name of the claim.
    pub claim: (String, String),
    /// `Namespace/Name` of the pod.
    pub pod: String,
    /// `Namespace/Kind/Name` of the workload.
    pub workload: String,
}

/// Who is hit. Everything by id, so that the same world is always the same value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Blast {
    /// Disks under the key.
    pub disks: BTreeMap<String, DiskHit>,
    /// Snapshots under the key, and their status.
    pub snapshots: BTreeMap<String, String>,
    /// Custom images with at least one snapshot under the key.
    pub images: BTreeSet<String>,
    /// Instances with at least one disk under the key.
    pub instances: BTreeMap<String, InstanceHit>,
    /// What could not be listed, and why.
    pub missing: Vec<String>,
    /// What is hit and never listed: no further try would find it.
    pub limits: Vec<String>,
}

/// A disk that is hit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct DiskHit {
    /// Its status.
    pub status: String,
    /// The instances that use it; a shared disk has several.
    pub instances: BTreeSet<String>,
    /// The volume of this cluster on it.
    pub volume: Option<String>,
    /// `Namespace/Name` of that volume's claim.
    pub claim: Option<String>,
    /// The namespace of the claim.
    pub namespace: Option<String>,
    /// The pods that mount the claim, as `Namespace/Name`.
    pub pods: BTreeSet<String>,
    /// Their workloads, as `Namespace/Kind/Name`.
    pub workloads: BTreeSet<String>,
}

/// An instance that is hit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct InstanceHit {
    /// Its status; None if the listing does not show it, which is no proof that it is gone or stopped.
    pub status: Option<String>,
    /// The node of this cluster that it is.
    pub node: Option<String>,
    /// What its owner wants.
    pub wish: Option<Running>,
}

impl InstanceHit {
    /// Only an instance that is shown to be stopped has lost its data keys.
    pub fn is_stopped(&self) -> bool {
        self.status.as_deref() == Some("Stopped")
    }

    /// True if a stop call could do something.
    pub fn is_running(&self) -> bool {
        self.status.as_deref() == Some("Running")
    }
}

/// Joins the lists.
pub fn join(facts: Facts) -> Blast {
    let volumes: BTreeMap<&str, &VolumeFact> =
        facts.volumes.iter().map(|volume| (volume.disk.as_str(), volume)).collect();
    let nodes: BTreeMap<&str, &str> =
        facts.nodes.iter().map(|(name, instance)| (instance.as_str(), name.as_str())).collect();
    let shown: BTreeMap<&str, &InstanceFact> =
        facts.instances.iter().map(|instance| (instance.id.as_str(), instance)).collect();
    let mut blast = Blast { missing: facts.missing, limits: facts.limits, ..Blast::default() };
    for disk in &facts.disks {
        let mut hit =
            DiskHit { status: disk.status.clone(), instances: disk.instances.clone(), ..DiskHit::default() };
        if let Some(volume) = volumes.get(disk.id.as_str()) {
            hit.volume = Some(volume.name.clone());
            if let Some((namespace, name)) = &volume.claim {
                hit.claim = Some(format!("{namespace}/{name}"));
                hit.namespace = Some(namespace.clone());
                let mounts = facts.mounts.iter().filter(|mount| Some(&mount.claim) == volume.claim.as_ref());
                (hit.pods, hit.workloads) = mounts.map(|m| (m.pod.clone(), m.workload.clone())).unzip();
            }
        }
        for id in &disk.instances {
            let shown = shown.get(id.as_str());
            blast.instances.entry(id.clone()).or_insert_with(|| InstanceHit {
                status: shown.map(|instance| instance.status.clone()),
                node: nodes.get(id.as_str()).map(|name| (*name).to_owned()),
                wish: shown.and_then(|instance| instance.wish),
            });
        }
        blast.disks.insert(disk.id.clone(), hit);
    }
    blast.snapshots = facts.snapshots.into_iter().collect();
    let behind = |snapshots: &[String]| snapshots.iter().any(|id| blast.snapshots.contains_key(id));
    let images = facts.images.into_iter().filter(|(_, snapshots)| behind(snapshots));
    let images: BTreeSet<String> = images.map(|(id, _)| id).collect();
    blast.images = images;
    let hidden = blast.instances.values().filter(|instance| instance.status.is_none()).count();
    if hidden > 0 {
        blast.missing.push(format!(
            "{hidden} instances with disks under the key are not shown by DescribeInstances; they count as running. Allow \
             ecs:DescribeInstances."
        ));
    }
    blast
}

impl Blast {
    /// True if every list was complete.
    pub fn complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// True if nothing is hit but what is listed.
    pub fn is_all(&self) -> bool {
        self.complete() && self.limits.is_empty()
    }

    /// What is not listed, for whatever reason.
    pub fn unlisted(&self) -> impl Iterator<Item = &str> {
        self.missing.iter().chain(&self.limits).map(String::as_str)
    }

    /// Hash of the ids of the instances, disks, images and workloads. Not of snapshots, of which automatic ones come and go by
    /// themselves, and not of states.
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        let mut add = |kind: &str, id: &str| hasher.update(format!("{kind} {id}\n"));
        self.instances.keys().for_each(|id| add("instance", id));
        self.disks.keys().for_each(|id| add("disk", id));
        self.images.iter().for_each(|id| add("image", id));
        self.workloads().iter().for_each(|name| add("workload", name));
        hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Every workload that is hit.
    pub fn workloads(&self) -> BTreeSet<&str> {
        self.disks.values().flat_map(|disk| disk.workloads.iter().map(String::as_str)).collect()
    }

    /// Every namespace that is hit.
    pub fn namespaces(&self) -> BTreeSet<&str> {
        self.disks.values().filter_map(|disk| disk.namespace.as_deref()).collect()
    }

    /// True if nodes of this very cluster are hit.
    pub fn locks_out(&self) -> bool {
        self.instances.values().any(|instance| instance.node.is_some())
    }

    /// Instances that may still hold a data key: all that are not shown to be stopped.
    pub fn still_readable(&self) -> impl Iterator<Item = (&String, &InstanceHit)> {
        self.instances.iter().filter(|(_, instance)| !instance.is_stopped())
    }

    /// The running instances that are to be stopped, and among them those that are to be stopped by force.
    pub fn to_stop(&self, running: Running) -> (BTreeSet<String>, BTreeSet<String>) {
        let mut gentle = BTreeSet::new();
        let mut forced = BTreeSet::new();
        for (id, instance) in self.instances.iter().filter(|(_, instance)| instance.is_running()) {
            let how = match running {
                Running::PerInstance => instance.wish.unwrap_or_default(),
                all => all,
            };
            match how {
                Running::Stop => gentle.insert(id.clone()),
                Running::ForceStop => forced.insert(id.clone()),
                Running::Leave | Running::PerInstance => false,
            };
        }
        (gentle, forced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(id: &str, instance: Option<&str>) -> DiskFact {
        DiskFact {
            id: id.into(),
            status: "In_use".into(),
            instances: instance.map(str::to_owned).into_iter().collect(),
        }
    }

    fn instance(id: &str, status: &str, wish: Option<Running>) -> InstanceFact {
        InstanceFact { id: id.into(), status: status.into(), wish }
    }

    fn facts() -> Facts {
        let claim = || ("team".to_owned(), "data".to_owned());
        Facts {
            disks: vec![disk("d-1", Some("i-1")), disk("d-2", Some("i-2")), disk("d-3", None)],
            snapshots: vec![("s-1".into(), "accomplished".into())],
            images: vec![("m-1".into(), vec!["s-1".into()]), ("m-2".into(), vec!["s-9".into()])],
            instances: vec![
                instance("i-1", "Running", Some(Running::ForceStop)),
                instance("i-2", "Stopped", None),
            ],
            volumes: vec![VolumeFact { name: "pv-1".into(), disk: "d-1".into(), claim: Some(claim()) }],
            mounts: vec![MountFact {
                claim: claim(),
                pod: "team/web-1".into(),
                workload: "team/Deployment/web".into(),
            }],
            nodes: vec![("node-1".into(), "i-1".into()), ("node-9".into(), "i-9".into())],
            missing: Vec::new(),
            limits: Vec::new(),
        }
    }

    #[test]
    fn a_disk_leads_to_its_volume_claim_workload_namespace_and_node() {
        let blast = join(facts());
        let hit = &blast.disks["d-1"];
        assert_eq!((hit.volume.as_deref(), hit.claim.as_deref()), (Some("pv-1"), Some("team/data")));
        assert_eq!(blast.workloads(), BTreeSet::from(["team/Deployment/web"]));
        assert_eq!(blast.namespaces(), BTreeSet::from(["team"]));
        assert_eq!(blast.instances["i-1"].node.as_deref(), Some("node-1"));
        assert!(blast.locks_out() && blast.complete());
        assert_eq!(blast.images, BTreeSet::from(["m-1".to_owned()]), "only through a snapshot under the key");
    }

    #[test]
    fn every_instance_of_a_shared_disk_is_hit() {
        let mut facts = facts();
        facts.disks[0].instances.insert("i-2".to_owned());
        facts.disks[1].instances.clear();
        let blast = join(facts);
        assert_eq!(blast.instances.keys().collect::<Vec<_>>(), ["i-1", "i-2"]);
    }

    #[test]
    fn an_instance_that_is_not_shown_counts_as_running_and_makes_the_list_incomplete() {
        let blast = join(Facts { instances: Vec::new(), ..facts() });
        assert_eq!(blast.still_readable().count(), 2);
        assert!(!blast.complete(), "an empty list is never nothing");
        assert_eq!(blast.to_stop(Running::Stop).0.len(), 0, "nobody knows whether they run");
    }

    #[test]
    fn only_what_is_shown_to_be_stopped_is_contained() {
        for (status, readable) in
            [("Running", 1), ("Stopping", 1), ("Starting", 1), ("Weird", 1), ("Stopped", 0)]
        {
            let facts = Facts {
                disks: vec![disk("d-1", Some("i-1"))],
                instances: vec![instance("i-1", status, None)],
                ..Facts::default()
            };
            assert_eq!(join(facts).still_readable().count(), readable, "{status}");
        }
    }

    #[test]
    fn the_digest_changes_with_what_is_hit_and_not_with_its_state() {
        let digest = join(facts()).digest();
        assert_eq!(digest.len(), 64);
        let mut stopped = facts();
        stopped.instances[0].status = "Stopped".into();
        stopped.snapshots.push(("s-2".into(), "progressing".into()));
        assert_eq!(join(stopped).digest(), digest);
        let mut more = facts();
        more.disks.push(disk("d-4", None));
        assert_ne!(join(more).digest(), digest);
    }

    #[test]
    fn each_instance_is_stopped_as_its_owner_says_unless_all_are() {
        let blast = join(facts());
        let count = |running| {
            let (gentle, forced) = blast.to_stop(running);
            (gentle.len(), forced.len())
        };
        assert_eq!(count(Running::Leave), (0, 0));
        assert_eq!(count(Running::PerInstance), (0, 1));
        assert_eq!(count(Running::Stop), (1, 0));
        assert_eq!(count(Running::ForceStop), (0, 1));
    }
}
