//! Looks at the disk, its key and its source. Reads only.
//!
//! A disk that was seen before is read by its id, a hundred in one call; only a disk that nobody has seen yet is looked up by tag.

use std::collections::BTreeSet;

use super::api::EncryptedDisk;
use super::decide::{Desired, Disk, DiskState, Observed, SourceFact, Wanted};
use crate::alibaba;
use crate::decision::creation::{Claim, Creation};
use crate::decision::key::{KeyFact, Protection};
use crate::kind::{Fault, Owner, World, standing_refusal};
use crate::resource::tag;

/// Everything that `decide` needs to know.
pub async fn observe(object: &EncryptedDisk, desired: &Desired, world: &World) -> Result<Observed, Fault> {
    let began = world.clock.now();
    let owner = Owner::of(&world.settings.cluster, object);
    let status = object.status.clone().unwrap_or_default();
    let creation = world.creation(&owner.uid, status.shared.intent.as_ref(), began);
    let wanted = match desired {
        Desired::Present(wanted) => Some(wanted),
        Desired::Absent { .. } => None,
    };
    let key = match wanted {
        Some(wanted) if !wanted.suspend => {
            world.key_fact(&wanted.region, &wanted.key, wanted.service_key, status.key_id.as_deref()).await?
        }
        Some(_) => KeyFact::Unasked,
        None => {
            let id = status.key_id.as_deref().or(object.spec.key.id.as_deref());
            id.and_then(|id| world.revoked(&object.spec.region, id)).unwrap_or(KeyFact::Unasked)
        }
    };
    let mut observed = Observed {
        key,
        source: SourceFact::Blank,
        disks: BTreeSet::new(),
        known: status.disk_id.clone(),
        creation,
        refusal: standing_refusal(object),
        namesake: None,
    };
    if wanted.is_some_and(|wanted| wanted.suspend) {
        return Ok(observed);
    }
    find_disks(object, wanted, &owner, world, &mut observed).await?;
    if let Some(wanted) = wanted
        && observed.disks.is_empty()
    {
        observed.source = source(wanted, world).await?;
    }
    Ok(observed)
}

/// By the adopted id, else by the id that is known, else by tags.
async fn find_disks(
    object: &EncryptedDisk,
    wanted: Option<&Wanted>,
    owner: &Owner,
    world: &World,
    observed: &mut Observed,
) -> Result<(), Fault> {
    let region = &object.spec.region;
    let adopted = object.spec.adopt.as_ref().map(|adopt| adopt.external_id.clone());
    let answered = match &observed.creation {
        Creation { claim: Claim::Accepted, intent: Some(intent), .. } => {
            world.claims.view(&owner.uid, intent.attempt, world.settings.send_window).1
        }
        _ => None,
    };
    if let Some(id) = adopted.clone().or(observed.known.clone()).or(answered) {
        let found = world.cloud.disk(region, &id).await?;
        let accepted = found.filter(|disk| adopted.is_some() || owner.owns(&disk.tags));
        observed.disks.extend(accepted.map(|disk| fact(&disk, wanted, owner, &observed.key)));
        // On deletion an id that is gone proves nothing: a late request may have made another disk after the first was deleted.
        let last_look = wanted.is_none() && adopted.is_none() && observed.disks.is_empty();
        if !last_look {
            return Ok(());
        }
    }
    if wanted.is_none() && observed.creation.intent.is_none() {
        return Ok(());
    }
    let tags =
        [(tag::CLUSTER, &*owner.cluster), (tag::NAMESPACE, &*owner.namespace), (tag::NAME, &*owner.name)];
    for disk in world.cloud.disks_by_tags(region, &tags).await? {
        match owner.owns(&disk.tags) {
            true => {
                observed.disks.insert(fact(&disk, wanted, owner, &observed.key));
            }
            false => observed.namesake = Some(disk.id),
        }
    }
    Ok(())
}

fn fact(disk: &alibaba::Disk, wanted: Option<&Wanted>, owner: &Owner, key: &KeyFact) -> Disk {
    let service = wanted.is_some_and(|wanted| wanted.service_key);
    let protection =
        Protection::of(disk.encrypted, disk.kms_key_id.as_deref(), key.id().unwrap_or_default(), service);
    Disk {
        id: disk.id.clone(),
        state: match disk.status {
            alibaba::DiskStatus::Creating => DiskState::Creating,
            alibaba::DiskStatus::Available => DiskState::Available,
            alibaba::DiskStatus::InUse
            | alibaba::DiskStatus::Attaching
            | alibaba::DiskStatus::Detaching
            | alibaba::DiskStatus::ReIniting => DiskState::InUse,
            alibaba::DiskStatus::Unknown(_) => DiskState::Unknown,
        },
        protection,
        attached_to: disk.instance_id.clone().filter(|id| !id.is_empty()),
        size_gib: disk.size_gib,
        own: owner.owns(&disk.tags),
        status: disk.status.word().to_owned(),
        drift: wanted.map(|wanted| drift(disk, wanted)).unwrap_or_default(),
    }
}

/// Differences that no call can mend: the disk was made otherwise than the object says now.
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
