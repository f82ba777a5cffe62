//! Looks at the instance, its disks, its keys and its image. Reads only.
//!
//! An instance that no list shows may exist: DescribeInstances answers an empty list to whoever may not see it. So whatever
//! is missing is asked for once more, by its disks: DescribeDisks refuses instead of hiding.

use std::collections::{BTreeMap, BTreeSet};

use super::api::{EncryptedInstance, EncryptedInstanceStatus};
use super::decide::{
    Desired, Disk, ImageChoice, ImageFact, Instance, InstanceState, KeyChoice, Observed, UserDataFact,
    Wanted, chosen, unborn,
};
use super::request::{self, USER_DATA, USER_DATA_VERSION};
use super::user_data;
use crate::alibaba;
use crate::decision::creation::{Claim, Creation};
use crate::decision::key::{KeyFact, Protection};
use crate::kind::{Fault, Owner, World, standing_refusal};
use crate::resource::tag;

/// Everything that `decide` needs to know.
pub async fn observe(
    object: &EncryptedInstance,
    desired: &Desired,
    world: &World,
) -> Result<Observed, Fault> {
    let began = world.clock.now();
    let owner = Owner::of(&world.settings.cluster, object);
    let status = object.status.clone().unwrap_or_default();
    let mut observed = Observed {
        keys: BTreeMap::new(),
        image: ImageFact::Unasked,
        user_data: UserDataFact::Unasked,
        instances: BTreeSet::new(),
        hidden: None,
        known: status.instance_id.clone(),
        born: ran(&status) || object.spec.adopt.is_some(),
        missed: status.missing_since.is_some(),
        creation: world.creation(&owner.uid, status.shared.intent.as_ref(), began),
        refusal: standing_refusal(object),
        namesake: None,
        repointed: BTreeSet::new(),
    };
    let wanted = match desired {
        Desired::Present(wanted) if wanted.suspend => return Ok(observed),
        Desired::Present(wanted) => Some(&**wanted),
        Desired::Absent { .. } => None,
    };
    match wanted {
        Some(wanted) => look_at_keys(wanted, &status, world, &mut observed).await?,
        None => observed.keys = revoked_keys(object, desired, &status, world).await?,
    }
    find_instances(object, wanted, &owner, world, &mut observed).await?;
    match (wanted, observed.instances.is_empty()) {
        (_, true) => ask_again(object, desired, &owner, world, &mut observed).await?,
        (Some(wanted), false) => look_at_disks(wanted, &owner, world, &mut observed).await?,
        (None, false) => {}
    }
    if let Some(wanted) = wanted.filter(|_| observed.instances.is_empty() && observed.hidden.is_none()) {
        look_at_sources(object, wanted, world, &mut observed).await?;
    }
    Ok(observed)
}

/// True if the instance got further than its first start. The frozen request is dropped with the first Ready, and coverage is
/// written as soon as the instance runs, however long something else keeps it from being Ready.
fn ran(status: &EncryptedInstanceStatus) -> bool {
    let was_ready = status.shared.intent.as_ref().is_some_and(|intent| intent.parameters.is_empty());
    was_ready || status.coverage.is_some()
}

/// On deletion only what a KeyRevocation holds matters, because what is under such a key is evidence. No call.
async fn revoked_keys(
    object: &EncryptedInstance,
    desired: &Desired,
    status: &EncryptedInstanceStatus,
    world: &World,
) -> Result<BTreeMap<String, KeyFact>, Fault> {
    let mut held = BTreeMap::new();
    if !matches!(desired, Desired::Absent { delete: true, .. }) {
        return Ok(held);
    }
    let spec = &object.spec;
    let own = std::iter::once(&spec.system_disk.key).chain(spec.data_disks.iter().map(|disk| &disk.key));
    let named = std::iter::once(&spec.key).chain(own.flatten()).filter_map(|key| key.id.as_deref());
    let ids: BTreeSet<String> =
        named.chain(status.keys.iter().map(|key| &*key.key_id)).map(str::to_owned).collect();
    for id in ids {
        let fact = world.revoked(&spec.region, &id).await?;
        held.extend(fact.map(|fact| (id, fact)));
    }
    Ok(held)
}

/// Each key once, pinned to what it was at first; and aliases that point elsewhere by now.
async fn look_at_keys(
    wanted: &Wanted,
    status: &EncryptedInstanceStatus,
    world: &World,
    observed: &mut Observed,
) -> Result<(), Fault> {
    for KeyChoice { text, service } in wanted.keys() {
        let pinned = status.keys.iter().find(|key| key.reference == *text).map(|key| &*key.key_id);
        let fact = world.key_fact(&wanted.region, text, *service, pinned).await?;
        observed.keys.insert(text.clone(), fact);
        let (Some(pinned), true) = (pinned, text.starts_with("alias/") && !service) else { continue };
        let now = world.cloud.key(&wanted.region, text).await?;
        if let Some(now) = now.filter(|key| key.id != pinned) {
            observed.repointed.insert((format!("spec.key: {text}"), pinned.to_owned(), now.id));
        }
    }
    Ok(())
}

/// By the adopted id, else by the id that is known, else by tags.
async fn find_instances(
    object: &EncryptedInstance,
    wanted: Option<&Wanted>,
    owner: &Owner,
    world: &World,
    observed: &mut Observed,
) -> Result<(), Fault> {
    let region = &object.spec.region;
    let adopted = object.spec.adopt.as_ref().map(|adopt| adopt.external_id.clone());
    if let Some(id) = adopted.clone().or_else(|| expected(owner, world, observed)) {
        let found = world.cloud.instance(region, &id).await?;
        let accepted = found.filter(|instance| adopted.is_some() || owner.owns(&instance.tags));
        observed.instances.extend(accepted.map(|instance| fact(&instance, wanted, owner)));
        // An id that is gone proves nothing: a late request may have made another one after the first was deleted, or had
        // vanished.
        if adopted.is_some() || !observed.instances.is_empty() {
            return Ok(());
        }
    }
    if wanted.is_none() && observed.creation.intent.is_none() {
        return Ok(());
    }
    let family = owner.family();
    let tags = family.each_ref().map(|(key, value)| (*key, value.as_str()));
    for instance in world.cloud.instances_by_tags(region, &tags).await? {
        match owner.owns(&instance.tags) {
            true => {
                observed.instances.insert(fact(&instance, wanted, owner));
            }
            false => observed.namesake = Some(instance.id),
        }
    }
    Ok(())
}

/// The id that status remembers, or that the cloud has just answered.
fn expected(owner: &Owner, world: &World, observed: &Observed) -> Option<String> {
    let answered = match &observed.creation {
        Creation { claim: Claim::Accepted, intent: Some(intent), .. } => {
            world.claims.view(&owner.uid, intent.attempt, world.settings.send_window).1
        }
        _ => None,
    };
    observed.known.clone().or(answered)
}

/// The second question, about what no list of instances shows: is anything attached to it?
async fn ask_again(
    object: &EncryptedInstance,
    desired: &Desired,
    owner: &Owner,
    world: &World,
    observed: &mut Observed,
) -> Result<(), Fault> {
    let region = &object.spec.region;
    let matters = !matches!(desired, Desired::Absent { delete: false, .. });
    // Before the first send, and while a send is about to happen under a fresh claim, there can be nothing to overlook.
    let sent = observed.creation.intent.is_some() && observed.creation.claim != Claim::Open;
    let adopted = object.spec.adopt.as_ref().map(|adopt| adopt.external_id.clone());
    let known = adopted.or_else(|| observed.known.clone());
    if let Some(id) = known.filter(|_| matters) {
        let attached = world.cloud.disks_of_instance(region, &id).await?;
        observed.hidden = attached.first().map(|disk| disk.id.clone());
    } else if sent && matters {
        let tags = [(tag::CLUSTER, &*owner.cluster), (tag::UID, &*owner.uid)];
        let own = world.cloud.disks_by_tags(region, &tags).await?;
        observed.hidden = own.into_iter().find(|disk| disk.instance_id.is_some()).map(|disk| disk.id);
    }
    Ok(())
}

async fn look_at_disks(
    wanted: &Wanted,
    owner: &Owner,
    world: &World,
    observed: &mut Observed,
) -> Result<(), Fault> {
    let Some(instance) = chosen(observed).filter(|instance| !unborn(instance, observed.born)).cloned() else {
        return Ok(());
    };
    let attached = world.cloud.disks_of_instance(&wanted.region, &instance.id).await?;
    let names: BTreeMap<String, &str> =
        wanted.data.iter().map(|disk| (request::disk_name(owner, &disk.name), &*disk.name)).collect();
    let disks: BTreeSet<Disk> =
        attached.iter().map(|disk| disk_fact(disk, wanted, &names, &observed.keys)).collect();
    let mut drift = instance.drift.clone();
    if wanted.adopt.is_none() {
        for wish in &wanted.data {
            if !disks.iter().any(|disk| disk.name.as_ref() == Some(&wish.name)) {
                drift.insert((
                    format!("spec.dataDisks[{}]", wish.name),
                    "attached".into(),
                    "not attached".into(),
                ));
            }
        }
    }
    observed.instances.remove(&instance);
    observed.instances.insert(Instance { disks, drift, ..instance });
    Ok(())
}

fn disk_fact(
    disk: &alibaba::Disk,
    wanted: &Wanted,
    names: &BTreeMap<String, &str>,
    keys: &BTreeMap<String, KeyFact>,
) -> Disk {
    let against = |choice: &&KeyChoice| {
        let id = keys.get(&choice.text).and_then(KeyFact::id).unwrap_or_default();
        Protection::of(disk.encrypted, disk.kms_key_id.as_deref(), id, choice.service)
    };
    let best = wanted.keys().iter().map(against).min();
    Disk {
        id: disk.id.clone(),
        system: disk.kind == alibaba::DiskKind::System,
        name: names.get(&disk.name).map(|name| (*name).to_owned()),
        protection: best.unwrap_or(Protection::Unproven),
        key_id: disk.kms_key_id.clone(),
    }
}

fn fact(instance: &alibaba::Instance, wanted: Option<&Wanted>, owner: &Owner) -> Instance {
    use alibaba::InstanceStatus;
    let name = wanted.and_then(|wanted| wanted.instance_name.as_ref());
    Instance {
        id: instance.id.clone(),
        state: match instance.status {
            InstanceStatus::Pending => InstanceState::Pending,
            InstanceStatus::Starting => InstanceState::Starting,
            InstanceStatus::Running => InstanceState::Running,
            InstanceStatus::Stopping => InstanceState::Stopping,
            InstanceStatus::Stopped => InstanceState::Stopped,
            InstanceStatus::Unknown(_) => InstanceState::Unknown,
        },
        disks: BTreeSet::new(),
        own: owner.owns(&instance.tags),
        protected: instance.deletion_protection,
        named: name.is_none_or(|name| *name == instance.name),
        tags_amiss: wanted.map(|wanted| tag::amiss(&wanted.tags, &instance.tags)).unwrap_or_default(),
        in_zone: wanted.is_none_or(|wanted| wanted.zone_id == instance.zone_id),
        status: instance.status.word().to_owned(),
        private_ips: instance.private_ips.iter().take(16).cloned().collect(),
        drift: wanted.map(|wanted| drift(instance, wanted)).unwrap_or_default(),
    }
}

/// Differences that no call can mend, or that the operator does not mend by itself: names and tags too, where the object only
/// observes.
fn drift(instance: &alibaba::Instance, wanted: &Wanted) -> BTreeSet<(String, String, String)> {
    let mut drift = BTreeSet::new();
    let mut compare = |path: &str, desired: &str, observed: &str| {
        if !observed.is_empty() && desired != observed {
            drift.insert((path.to_owned(), desired.to_owned(), observed.to_owned()));
        }
    };
    compare("spec.zoneId", &wanted.zone_id, &instance.zone_id);
    compare("spec.instanceType", &wanted.instance_type, &instance.instance_type);
    compare("spec.network.vSwitchId", &wanted.vswitch_id, instance.vswitch_id.as_deref().unwrap_or_default());
    if let ImageChoice::Id(id) = &wanted.image {
        compare("spec.image.imageId", id, &instance.image_id);
    }
    let sorted = |groups: &[String]| {
        groups.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",")
    };
    compare(
        "spec.network.securityGroupIds",
        &sorted(&wanted.security_group_ids),
        &sorted(&instance.security_group_ids),
    );
    if !wanted.manage {
        let name = wanted.instance_name.as_ref().filter(|name| **name != instance.name);
        drift.extend(name.map(|name| ("spec.instanceName".to_owned(), name.clone(), instance.name.clone())));
        drift.extend(tag::drift(&wanted.tags, &instance.tags));
    }
    drift
}

/// Image and user data of an instance that is to be made.
async fn look_at_sources(
    object: &EncryptedInstance,
    wanted: &Wanted,
    world: &World,
    observed: &mut Observed,
) -> Result<(), Fault> {
    if wanted.adopt.is_some() || !wanted.manage {
        return Ok(());
    }
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    if observed.creation.claim != Claim::Open {
        observed.image = image(wanted, namespace, world).await?;
    }
    if let Some((name, key)) = &wanted.user_data {
        let recorded = object.status.as_ref().and_then(|status| status.shared.intent.as_ref());
        let recorded = recorded.and_then(|intent| intent.parameters.get(USER_DATA));
        observed.user_data = match user_data::read(world, namespace, name, key).await? {
            None => UserDataFact::Missing,
            Some(data) if data.base64.is_none() => UserDataFact::TooLarge,
            Some(data) => UserDataFact::Ready {
                replayable: recorded
                    .is_none_or(|text| text.strip_prefix(USER_DATA_VERSION) == Some(&*data.version)),
                version: data.version,
            },
        };
    }
    Ok(())
}

async fn image(wanted: &Wanted, namespace: &str, world: &World) -> Result<ImageFact, Fault> {
    let id = match &wanted.image {
        ImageChoice::Id(id) => id.clone(),
        ImageChoice::Object(name) => {
            let found = world.reference("encryptedimages", "EncryptedImage", namespace, name).await?;
            let Some(found) = found.filter(|found| found.ready) else { return Ok(ImageFact::NotReady) };
            // An image is of use only where the instance is; what is elsewhere never will be.
            if found.spec["region"] != *wanted.region {
                return Ok(ImageFact::Missing);
            }
            match found.status["imageId"].as_str() {
                Some(id) => id.to_owned(),
                None => return Ok(ImageFact::NotReady),
            }
        }
    };
    let Some(image) = world.cloud.image(&wanted.region, &id).await? else { return Ok(ImageFact::Missing) };
    let plain = |mapping: &alibaba::DiskMapping| {
        mapping.kind != alibaba::DiskKind::System && mapping.encrypted != Some(true)
    };
    Ok(match image.status {
        alibaba::ImageStatus::Available | alibaba::ImageStatus::Deprecated => {
            // Only disks that the request names are encrypted by it; those of the image stay what their snapshots are.
            match image.mappings.iter().any(plain) {
                true => ImageFact::PlainData,
                false => ImageFact::Ready { id: image.id, size_gib: image.size_gib },
            }
        }
        alibaba::ImageStatus::UnAvailable | alibaba::ImageStatus::CreateFailed => ImageFact::Missing,
        alibaba::ImageStatus::Waiting | alibaba::ImageStatus::Creating | alibaba::ImageStatus::Unknown(_) => {
            ImageFact::NotReady
        }
    })
}
