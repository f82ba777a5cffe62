//! Looks at one region, and at the cluster. Reads only; what was not read is named, and judged as not known.
//!
//! A region is held in memory in short form while it is judged, and let go of then. Who remembers what came of it, when a scan is due
//! and what is tried again stands elsewhere, so that the command line can do the same without a cluster.

use std::collections::{BTreeMap, BTreeSet};

use kube::Client;

use super::judge::{self, DefaultFact, Facts, ImageFact, Judgement, KeyClass, Policy, Sort, Storage};
use super::outcome::{ClusterOutcome, Gap, RegionOutcome};
use crate::alibaba::{Cloud, DefaultEncryption, Disk, Image, ImageStatus, KeyState, Snapshot};
use crate::decision::Reason;
use crate::kind::Fault;
use crate::kind::cluster::{self, Trouble};

/// The region whose endpoint lists the regions, where nobody named one.
pub const HOME: &str = "cn-hangzhou";
/// Regions that are read at the same time.
pub const REGIONS_AT_ONCE: usize = 2;
/// How often in all a region is tried that may be there in a moment, before the scan ends without it.
pub const TRIES_MAX: u32 = 4;
/// Characters of an error in status.
const TEXT_MAX: usize = 400;

/// What a scan needs to know.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is required.
    pub policy: Policy,
    /// Findings of each region that are kept, the worst ones.
    pub keep: usize,
    /// Now, in seconds since 1970.
    pub now: i64,
}

/// True for a region and key that a KeyRevocation holds.
pub type Held<'a> = dyn Fn(&str, &str) -> bool + Send + Sync + 'a;

/// What came of a region, and the first failure, for whoever must say why nothing was read.
pub type Read = (RegionOutcome, Option<Fault>);

/// Reads and judges a region.
pub async fn region(
    cloud: &Cloud,
    name: &str,
    plan: &Plan,
    namespaces: &BTreeMap<String, String>,
    held: &Held<'_>,
) -> Read {
    let mut gaps = Gaps::default();
    let (mut facts, read) = facts(cloud, name, plan, namespaces, &mut gaps).await;
    let key_error = keys(cloud, name, &mut facts, held, &mut gaps).await;
    let judgement = judge::region(&plan.policy, &facts, plan.now).keep(plan.keep);
    let default = facts.default;
    let outcome = RegionOutcome { at: plan.now, judgement, gaps: gaps.list, read, key_error, default };
    (outcome, gaps.first)
}

/// Reads a region but for its keys, and says whether anything could be read.
async fn facts(
    cloud: &Cloud,
    name: &str,
    plan: &Plan,
    namespaces: &BTreeMap<String, String>,
    gaps: &mut Gaps,
) -> (Facts, bool) {
    let mut facts = Facts { region: name.to_owned(), ..Facts::default() };
    let policy = &plan.policy;
    let default = async {
        if !policy.account_default {
            return Ok(None);
        }
        cloud.default_encryption(name).await.map(Some)
    };
    let instances = async {
        let mut tags = BTreeMap::new();
        if policy.asks_for_tags() {
            let note = |instance: crate::alibaba::Instance| {
                tags.insert(instance.id, policy.tags(&instance.tags));
            };
            cloud.each_instance(name, note).await?;
        }
        Ok::<_, crate::alibaba::Error>(tags)
    };
    let (mut disks, mut snapshots) = (BTreeMap::new(), BTreeMap::new());
    let images_first = async {
        // One that is made meanwhile has a snapshot that only a later list shows.
        let images = cloud.own_images(name).await;
        let note =
            |snapshot: Snapshot| drop(snapshots.insert(snapshot.id.clone(), of_snapshot(snapshot, policy)));
        (images, cloud.each_snapshot(name, note).await)
    };
    let (disks_read, (images, snapshots_read), default, instances) = tokio::join!(
        cloud.each_disk(name, |disk| drop(disks.insert(disk.id.clone(), of_disk(disk, policy)))),
        images_first,
        default,
        instances,
    );
    // A list that ended too early counts for nothing.
    if gaps.note("disks", &[Sort::Disk, Sort::Instance], disks_read).is_some() {
        let of_here = namespaces.iter().filter(|(disk, _)| disks.contains_key(*disk));
        facts.namespaces = of_here.map(|(disk, namespace)| (disk.clone(), namespace.clone())).collect();
        facts.disks = disks;
    }
    // What an image or an instance that is not shown may let off is not judged either.
    let of_images: &[Sort] = match policy.may_let_off_images(plan.now) {
        true => &[Sort::Image, Sort::Snapshot],
        false => &[Sort::Image],
    };
    let images = gaps.note("images", of_images, images);
    facts.images_unread = images.is_none();
    if gaps.note("snapshots", &[Sort::Snapshot, Sort::Image], snapshots_read).is_some() {
        facts.snapshots = snapshots;
        let images = images.into_iter().flatten();
        facts.images = images.map(|image| (image.id.clone(), of_image(image, policy))).collect();
    }
    let default = gaps.note("default encryption", &[Sort::AccountDefault], default).flatten();
    facts.default = default.map(of_default);
    // The list of instances does not count: it is empty, and no error, for whoever may see none.
    let read = gaps.list.len() < 3 + usize::from(policy.account_default);
    let instances = gaps.note("tags of instances", &[Sort::Disk, Sort::Instance], instances);
    facts.instances_unread = instances.is_none();
    facts.instances = instances.unwrap_or_default();
    (facts, read)
}

/// What of a region was not read.
#[derive(Default)]
struct Gaps {
    list: Vec<Gap>,
    first: Option<Fault>,
}

impl Gaps {
    fn note<T>(&mut self, what: &str, sorts: &[Sort], read: Result<T, crate::alibaba::Error>) -> Option<T> {
        match read {
            Ok(found) => Some(found),
            Err(error) => {
                let fault = Fault::from(error);
                let passing = fault.is_passing();
                let text = format!("{what}: {}", fault.message).chars().take(TEXT_MAX).collect();
                self.list.push(Gap { text, sorts: sorts.to_vec(), passing });
                // What heals by itself is the better reason to come back soon.
                if self.first.as_ref().is_none_or(|first| passing && !first.is_passing()) {
                    self.first = Some(fault);
                }
                None
            }
        }
    }
}

/// Reads each key that anything is under, once. Says why the first one could not be read.
async fn keys(
    cloud: &Cloud,
    region: &str,
    facts: &mut Facts,
    held: &Held<'_>,
    gaps: &mut Gaps,
) -> Option<String> {
    let storages = facts.disks.values().chain(facts.snapshots.values());
    let default = match &facts.default {
        Some(DefaultFact::On(key)) => key.clone(),
        _ => None,
    };
    let named: BTreeSet<String> = storages.filter_map(|storage| storage.key.clone()).chain(default).collect();
    let Keys { classes, unread, .. } = classes(cloud, region, named, held).await;
    facts.keys = classes;
    let (key, error) = unread?;
    let fault = Fault::from(error.clone());
    let text = format!("{key}: {}", fault.message).chars().take(TEXT_MAX).collect();
    if fault.is_passing() {
        // The region is read again; what is under the keys is not known until then.
        gaps.note("keys", &[], Err::<(), _>(error));
    }
    Some(text)
}

/// What is known of keys.
#[derive(Default)]
struct Keys {
    /// By id, and by the text that names them.
    classes: BTreeMap<String, KeyClass>,
    /// Their ids by the text that names them.
    ids: BTreeMap<String, String>,
    /// The first one that could not be read.
    unread: Option<(String, crate::alibaba::Error)>,
}

/// Reads the keys that are named by id, ARN or alias.
async fn classes(cloud: &Cloud, region: &str, named: BTreeSet<String>, held: &Held<'_>) -> Keys {
    let mut keys = Keys::default();
    for name in named {
        match cloud.key(region, &name).await {
            Ok(Some(key)) => {
                let class = class(&key, held(region, &key.id));
                keys.classes.extend([(key.id.clone(), class), (name.clone(), class)]);
                keys.ids.insert(name, key.id);
            }
            Ok(None) => drop(keys.classes.insert(name, KeyClass::Missing)),
            Err(error) => {
                let passing = Fault::from(error.clone()).is_passing();
                keys.unread.get_or_insert((name, error));
                // What fails now fails for the next key too; the region is read again anyway.
                if passing {
                    break;
                }
            }
        }
    }
    keys
}

fn class(key: &crate::alibaba::Key, held: bool) -> KeyClass {
    match &key.state {
        _ if key.is_service_key => KeyClass::Service,
        KeyState::Enabled => KeyClass::Customer,
        KeyState::Disabled if held => KeyClass::Held,
        KeyState::Disabled => KeyClass::Unusable(Reason::KeyDisabled),
        KeyState::PendingDeletion => KeyClass::Unusable(Reason::KeyPendingDeletion),
        KeyState::PendingImport => KeyClass::Unusable(Reason::KeyPendingImport),
        KeyState::Unknown(_) => KeyClass::Unknown,
    }
}

/// The namespaces that have a volume on a disk, by disk; or why that is not known.
pub async fn namespaces(kube: &Client) -> Result<BTreeMap<String, String>, String> {
    let volumes = cluster::volumes(kube).await.map_err(|trouble| told("PersistentVolumes", &trouble))?;
    Ok(volumes.into_iter().filter_map(|volume| Some((volume.disk, volume.claim?.0))).collect())
}

/// Judges the classes of the cluster. Their keys are those of the region in which its nodes are; `home` where no node says. A class
/// whose key nobody can say where to look for is not judged.
pub async fn classes_of_cluster(
    cloud: &Cloud,
    kube: &Client,
    home: Option<&str>,
    plan: &Plan,
    held: &Held<'_>,
) -> ClusterOutcome {
    let mut found = match cluster::disk_classes(kube).await {
        Ok(found) => found,
        Err(trouble) => {
            let passing = is_passing_trouble(&trouble);
            let text = told("StorageClasses", &trouble);
            let gap = Some(Gap { text, sorts: vec![Sort::StorageClass], passing });
            return ClusterOutcome { gap, ..ClusterOutcome::default() };
        }
    };
    let named: BTreeSet<String> =
        found.iter_mut().filter_map(|class| judge::class_key(&mut class.parameters).cloned()).collect();
    let mut outcome = ClusterOutcome::default();
    let mut keys = Keys::default();
    if !named.is_empty() {
        match region_of_cluster(kube, home).await {
            Ok(region) => keys = classes(cloud, &region, named, held).await,
            Err(gap) => {
                found.retain_mut(|class| judge::class_key(&mut class.parameters).is_none());
                outcome.gap = Some(gap);
            }
        }
    }
    if let Some((key, error)) = keys.unread {
        let fault = Fault::from(error);
        let text = format!("keys of StorageClasses: {key}: {}", fault.message);
        let text: String = text.chars().take(TEXT_MAX).collect();
        match fault.is_passing() {
            true => outcome.gap = Some(Gap { text, sorts: Vec::new(), passing: true }),
            false => outcome.key_error = Some(text),
        }
    }
    let mut judgement = Judgement::default();
    for mut class in found {
        // Named by an alias or an ARN, it is the same key.
        if let Some(key) = judge::class_key(&mut class.parameters)
            && let Some(id) = keys.ids.get(key.as_str())
        {
            key.clone_from(id);
        }
        let known = &keys.classes;
        judge::storage_class(&plan.policy, &class.name, &class.parameters, known, plan.now, &mut judgement);
    }
    outcome.judgement = judgement.keep(plan.keep);
    outcome
}

/// The region in which the cluster's nodes are, or why nobody can say.
async fn region_of_cluster(kube: &Client, home: Option<&str>) -> Result<String, Gap> {
    let gap = |text, passing| Gap { text, sorts: vec![Sort::StorageClass], passing };
    let nodes = cluster::nodes(kube)
        .await
        .map_err(|trouble| gap(told("Nodes", &trouble), is_passing_trouble(&trouble)))?;
    let region = nodes.into_iter().next().map(|node| node.region).or(home.map(str::to_owned));
    let text = "Keys of StorageClasses: no node says in which region the cluster is, so nobody knows where to look for them. Start the \
                operator with --region (cloud.region of the chart).";
    region.ok_or_else(|| gap(text.to_owned(), false))
}

fn is_passing_trouble(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Slow => true,
        Trouble::Refused(kube::Error::Api(status)) => status.code >= 500 || status.code == 429,
        Trouble::Refused(_) => true,
    }
}

fn told(what: &str, trouble: &Trouble) -> String {
    let hint = match trouble {
        Trouble::Refused(kube::Error::Api(status)) if status.code == 403 => {
            " Let the operator's ClusterRole list them."
        }
        _ => "",
    };
    let text: String = format!("{what}: {trouble}").chars().take(TEXT_MAX).collect();
    format!("{text}{}{hint}", if text.ends_with('.') { "" } else { "." })
}

fn of_disk(disk: Disk, policy: &Policy) -> Storage {
    Storage {
        encrypted: disk.encrypted,
        key: disk.kms_key_id.as_deref().and_then(bare),
        local: is_local(&disk.category),
        instances: disk.instance_ids,
        tags: policy.tags(&disk.tags),
    }
}

fn of_snapshot(snapshot: Snapshot, policy: &Policy) -> Storage {
    Storage {
        encrypted: snapshot.encrypted,
        key: snapshot.kms_key_id.as_deref().and_then(bare),
        tags: policy.tags(&snapshot.tags),
        ..Storage::default()
    }
}

fn of_image(image: Image, policy: &Policy) -> ImageFact {
    ImageFact {
        unfinished: matches!(
            image.status,
            ImageStatus::Waiting | ImageStatus::Creating | ImageStatus::CreateFailed
        ),
        snapshots: image.mappings.into_iter().map(|mapping| mapping.snapshot_id).collect(),
        tags: policy.tags(&image.tags),
    }
}

fn of_default(found: DefaultEncryption) -> DefaultFact {
    match found {
        DefaultEncryption::Unavailable => DefaultFact::Unavailable,
        DefaultEncryption::Off => DefaultFact::Off,
        DefaultEncryption::On { key_id } => DefaultFact::On(key_id.as_deref().and_then(bare)),
    }
}

/// The id in an id or an ARN.
fn bare(key: &str) -> Option<String> {
    key.rsplit('/').next().filter(|id| !id.is_empty()).map(str::to_owned)
}

/// Disks of the host itself (API reference §3.1): `ephemeral_ssd`, `local_ssd_pro` and their kin. Elastic ephemeral disks are disks
/// of the cloud.
fn is_local(category: &str) -> bool {
    category.starts_with("local_") || category == "ephemeral" || category.starts_with("ephemeral_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_of_the_host_are_told_from_those_of_the_cloud() {
        for local in ["ephemeral", "ephemeral_ssd", "local_ssd_pro", "local_hdd_pro"] {
            assert!(is_local(local), "{local}");
        }
        for cloud in ["cloud_essd", "cloud", "elastic_ephemeral_disk_standard", ""] {
            assert!(!is_local(cloud), "{cloud}");
        }
    }

    #[test]
    fn who_may_not_list_is_told_what_to_allow_and_not_tried_again_at_once() {
        let api = |code: u16| {
            let status =
                serde_json::json!({"status": "Failure", "message": "no", "reason": "x", "code": code});
            Trouble::Refused(kube::Error::Api(serde_json::from_value(status).expect("a status")))
        };
        let text = told("PersistentVolumes", &api(403));
        assert!(text.starts_with("PersistentVolumes: ") && text.ends_with("list them."), "{text}");
        assert!(
            !is_passing_trouble(&api(403))
                && is_passing_trouble(&api(503))
                && is_passing_trouble(&Trouble::Slow)
        );
        assert!(!told("StorageClasses", &api(503)).contains("ClusterRole"));
    }

    #[test]
    fn a_key_is_known_by_its_id_however_it_is_shown() {
        assert_eq!(bare("acs:kms:cn-a:1:key/key-1").as_deref(), Some("key-1"));
        assert_eq!(bare("key-1").as_deref(), Some("key-1"));
        assert_eq!(bare("key/"), None);
    }

    #[test]
    fn a_held_key_is_off_on_purpose_but_not_about_to_be_deleted_on_purpose() {
        let key = |state: KeyState, is_service_key| crate::alibaba::Key {
            id: "k".into(),
            arn: String::new(),
            state,
            spec: String::new(),
            usage: String::new(),
            creator: String::new(),
            origin: String::new(),
            deletion_date: None,
            is_service_key,
        };
        assert_eq!(class(&key(KeyState::Disabled, false), true), KeyClass::Held);
        assert_eq!(class(&key(KeyState::Disabled, false), false), KeyClass::Unusable(Reason::KeyDisabled));
        let doomed = class(&key(KeyState::PendingDeletion, false), true);
        assert_eq!(doomed, KeyClass::Unusable(Reason::KeyPendingDeletion));
        assert_eq!(class(&key(KeyState::Unknown("Napping".into()), false), false), KeyClass::Unknown);
        assert_eq!(class(&key(KeyState::Enabled, true), false), KeyClass::Service);
    }
}
