//! Looks at the disk, its key, its source and its place. Reads only.
//!
//! A disk that was seen before is read by its id, a hundred in one call; only a disk that nobody has seen yet is looked up by tag.

use std::collections::BTreeSet;

use super::api::EncryptedDisk;
use super::decide::{
    Amendment, Desired, Disk, DiskState, Heritage, Observed, Role, SourceFact, Target, Wanted,
};
use crate::alibaba;
use crate::decision::creation::{Claim, Creation};
use crate::decision::key::{KeyFact, Protection};
use crate::kind::{Fault, Owner, World, standing_refusal};
use crate::resource::tag;

mod heritage;
mod place;

/// Everything that `decide` needs to know.
pub async fn observe(object: &EncryptedDisk, desired: &Desired, world: &World) -> Result<Observed, Fault> {
    let look = Look::begin(object, desired, world);
    let status = object.status.clone().unwrap_or_default();
    let mut observed = Observed {
        key: KeyFact::Unasked,
        repointed: None,
        source: SourceFact::Blank,
        disks: BTreeSet::new(),
        known: status.disk_id.clone(),
        creation: look.creation.clone(),
        role: look.role,
        refusal: standing_refusal(object),
        namesake: None,
        target: Target::Nowhere,
        placed: status.attachment.as_ref().map(place::of_record),
        heritage: Heritage::default(),
    };
    if look.wanted.is_some_and(|wanted| wanted.suspend) {
        return Ok(observed);
    }
    if let Some(wanted) = look.wanted {
        let pinned = status.key_id.as_deref();
        observed.key = world.key_fact(&wanted.region, &wanted.key, wanted.service_key, pinned).await?;
        observed.repointed = world.repointed(&wanted.region, &wanted.key, pinned).await;
    }
    let ((disks, namesake), heritage) =
        tokio::try_join!(find_disks(&look), heritage::heritage(&look, &observed.key))?;
    if let (Desired::Absent { delete: true }, Some(key)) = (desired, status.key_id.as_deref())
        && (disks.iter().any(|disk| look.owner.owns(&disk.tags)) || !heritage.snapshots.is_empty())
    {
        // What is under a key that was taken away is evidence: it is not deleted before the key is back.
        observed.key =
            world.key_fact(&object.spec.region, key, object.spec.key.service == Some(true), None).await?;
    }
    observed.disks = disks.iter().map(|disk| fact(disk, &look, &observed.key)).collect();
    (observed.namesake, observed.heritage) = (namesake, heritage);
    if let Some(wanted) = look.wanted {
        observed.target = place::target(&look, wanted, &observed).await?;
        if observed.disks.is_empty() {
            observed.source = source(wanted, world).await?;
        }
    }
    Ok(observed)
}

/// What one look is about.
struct Look<'a> {
    object: &'a EncryptedDisk,
    wanted: Option<&'a Wanted>,
    world: &'a World,
    owner: Owner,
    creation: Creation,
    role: Role,
    /// The id that the cloud answered to the creation, if it was answered.
    answered: Option<String>,
}

impl<'a> Look<'a> {
    fn begin(object: &'a EncryptedDisk, desired: &'a Desired, world: &'a World) -> Look<'a> {
        let began = world.clock.now();
        let owner = Owner::of(&world.settings.cluster, object);
        let recorded = object.status.as_ref().and_then(|status| status.shared.intent.as_ref());
        let creation = world.creation(&owner.uid, recorded, began);
        let answered = match &creation {
            Creation { claim: Claim::Accepted, intent: Some(intent), .. } => {
                world.claims.view(&owner.uid, intent.attempt, world.settings.send_window).1
            }
            _ => None,
        };
        let role = match recorded.and_then(|record| record.role.as_deref()) {
            Some(word) if word == Role::Snapshot.word() => Role::Snapshot,
            _ => Role::Disk,
        };
        let wanted = match desired {
            Desired::Present(wanted) => Some(wanted),
            Desired::Absent { .. } => None,
        };
        Look { object, wanted, world, owner, creation, role, answered }
    }

    fn region(&self) -> &str {
        &self.object.spec.region
    }

    /// The answered id, if the recorded creation is of that role.
    fn answered(&self, role: Role) -> Option<String> {
        self.answered.clone().filter(|_| self.role == role)
    }
}

/// By the adopted id, else by the id that is known, else by tags: the disks of this object, and one of an earlier life of it.
async fn find_disks(look: &Look<'_>) -> Result<(Vec<alibaba::Disk>, Option<String>), Fault> {
    let (owner, cloud) = (&look.owner, &look.world.cloud);
    let adopted = look.object.spec.adopt.as_ref().map(|adopt| adopt.external_id.clone());
    let known = look.object.status.as_ref().and_then(|status| status.disk_id.clone());
    if let Some(id) = adopted.clone().or(known).or(look.answered(Role::Disk)) {
        let found = cloud.disk(look.region(), &id).await?;
        let accepted = found.filter(|disk| adopted.is_some() || owner.owns(&disk.tags));
        // On deletion an id that is gone proves nothing: a late request may have made another disk after the first was deleted.
        let last_look = look.wanted.is_none() && adopted.is_none() && accepted.is_none();
        if !last_look {
            return Ok((Vec::from_iter(accepted), None));
        }
    }
    if look.wanted.is_none() && look.creation.intent.is_none() {
        return Ok((Vec::new(), None));
    }
    let family = owner.family();
    let tags = family.each_ref().map(|(key, value)| (*key, value.as_str()));
    let found = cloud.disks_by_tags(look.region(), &tags).await?;
    let (own, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|disk| owner.owns(&disk.tags));
    // A disk of this name that came along with an instance is no earlier life of this object.
    let namesake = others.into_iter().rfind(|disk| !disk.tags.contains_key(tag::KIND));
    Ok((own, namesake.map(|disk| disk.id)))
}

fn fact(disk: &alibaba::Disk, look: &Look, key: &KeyFact) -> Disk {
    let managed = look.wanted.filter(|wanted| wanted.manage);
    Disk {
        id: disk.id.clone(),
        state: state(&disk.status),
        protection: protection(disk, look.wanted, key),
        attached_to: disk.instance_id.clone().filter(|id| !id.is_empty()),
        delete_with_instance: disk.delete_with_instance.unwrap_or_default(),
        size_gib: disk.size_gib,
        own: look.owner.owns(&disk.tags),
        amendment: managed.map(|wanted| amendment(disk, wanted)).unwrap_or_default(),
        status: disk.status.word().to_owned(),
        drift: look.wanted.map(|wanted| drift(disk, wanted)).unwrap_or_default(),
    }
}

fn protection(disk: &alibaba::Disk, wanted: Option<&Wanted>, key: &KeyFact) -> Protection {
    let service = wanted.is_some_and(|wanted| wanted.service_key);
    Protection::of(disk.encrypted, disk.kms_key_id.as_deref(), key.id().unwrap_or_default(), service)
}

fn state(status: &alibaba::DiskStatus) -> DiskState {
    match status {
        alibaba::DiskStatus::Creating => DiskState::Creating,
        alibaba::DiskStatus::Available => DiskState::Available,
        alibaba::DiskStatus::InUse => DiskState::InUse,
        alibaba::DiskStatus::Attaching | alibaba::DiskStatus::Detaching | alibaba::DiskStatus::ReIniting => {
            DiskState::Moving
        }
        alibaba::DiskStatus::Unknown(_) => DiskState::Unknown,
    }
}

/// Names and tags that differ: the only drift that is mended, because nothing depends on them.
fn amendment(disk: &alibaba::Disk, wanted: &Wanted) -> Amendment {
    let differs = |wish: &Option<String>, real: &str| wish.clone().filter(|wish| wish != real);
    Amendment {
        name: differs(&wanted.disk_name, &disk.name),
        description: differs(&wanted.description, &disk.description),
        tags: tag::amiss(&wanted.tags, &disk.tags),
        delete_with_instance: None,
    }
}

/// Differences that no call can mend, because the disk was made otherwise than the object says now, and those that an object
/// which only observes leaves as they are.
fn drift(disk: &alibaba::Disk, wanted: &Wanted) -> BTreeSet<(String, String, String)> {
    let mut drift = BTreeSet::new();
    let mut compare = |path: &str, desired: &str, observed: &str| {
        if !observed.is_empty() && desired != observed {
            drift.insert((path.to_owned(), desired.to_owned(), observed.to_owned()));
        }
    };
    compare("spec.zoneId", &wanted.zone_id, &disk.zone_id);
    compare("spec.category", &wanted.category, &disk.category);
    if let Some(level) = &wanted.performance_level {
        compare("spec.performanceLevel", level, disk.performance_level.as_deref().unwrap_or_default());
    }
    if !wanted.manage {
        let names = amendment(disk, wanted);
        let mut tell = |path: String, desired: &str, observed: &str| {
            drift.insert((path, desired.to_owned(), observed.to_owned()));
        };
        if let Some(name) = &names.name {
            tell("spec.diskName".to_owned(), name, &disk.name);
        }
        if let Some(text) = &names.description {
            tell("spec.description".to_owned(), text, &disk.description);
        }
        drift.extend(tag::drift(&wanted.tags, &disk.tags));
    }
    drift
}

async fn source(wanted: &Wanted, world: &World) -> Result<SourceFact, Fault> {
    let Some(id) = &wanted.snapshot_id else { return Ok(SourceFact::Blank) };
    let found = world.cloud.snapshots(&wanted.region, std::slice::from_ref(id)).await?;
    Ok(match found.iter().find(|snapshot| snapshot.id == *id) {
        None => SourceFact::Missing,
        Some(snapshot) => match snapshot.status {
            alibaba::SnapshotStatus::Accomplished => {
                SourceFact::Ready { size_gib: snapshot.source_disk_size_gib }
            }
            alibaba::SnapshotStatus::Failed => SourceFact::Missing,
            alibaba::SnapshotStatus::Progressing | alibaba::SnapshotStatus::Unknown(_) => {
                SourceFact::NotReady
            }
        },
    })
}
