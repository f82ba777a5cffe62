//! Performs one mutation of an EncryptedDisk. Decides nothing.

use super::api::EncryptedDisk;
use super::decide::{Amendment, DiskEffect, DiskMachine, Place, Role};
use super::observe::observe;
use crate::alibaba::{self, DiskAmendment, ResourceType};
use crate::decision::{Decision, Machine};
use crate::kind::{Fault, FaultClass, Kind, Owner, World, recorded_request};

/// Exactly one mutating call.
pub async fn act(object: &EncryptedDisk, world: &World, effect: &DiskEffect) -> Result<(), Fault> {
    let (region, cloud) = (&object.spec.region, &world.cloud);
    match effect {
        DiskEffect::Claim(..) | DiskEffect::Note(_) => {
            Err(Fault::defect("Claim", "a claim or a note is written by the engine, never acted"))
        }
        DiskEffect::Create { role, attempt } => {
            let parameters = recorded_request(object, *attempt)?;
            let uid = object.metadata.uid.as_deref().unwrap_or_default();
            match role {
                Role::Disk => world.send_once(uid, *attempt, cloud.create_disk(region, parameters)).await,
                Role::Snapshot => {
                    world.send_once(uid, *attempt, cloud.create_snapshot(region, parameters)).await
                }
            }
        }
        DiskEffect::Attach { id, place } => attach(object, world, id, place).await,
        DiskEffect::Detach { id, instance } => {
            verify_ours(object, world, id).await?;
            detach(object, world, id, instance).await
        }
        DiskEffect::DetachSource { id, instance } => {
            verify_source(object, id)?;
            detach(object, world, id, instance).await
        }
        DiskEffect::Amend { id, amendment } => {
            verify_ours(object, world, id).await?;
            amend(object, world, id, amendment).await
        }
        DiskEffect::Resize { id, size_gib, online } => {
            // Grown by a call whose answer was lost, or that the decision had not seen yet.
            match verify_ours(object, world, id).await? {
                Some(disk) if disk.size_gib >= *size_gib => Ok(()),
                _ => match cloud.resize_disk(region, id, *size_gib, *online).await {
                    // It has grown already, and the list does not show it yet.
                    Err(error) if error.code == "InvalidDiskSize.TooSmall" => Err(Fault {
                        class: FaultClass::Transient,
                        ..Fault::conflict("the disk has been resized, which its list does not show yet")
                    }),
                    other => Ok(other?),
                },
            }
        }
        DiskEffect::Delete { id } => {
            verify_ours(object, world, id).await?;
            gone(cloud.delete_disk(region, id).await)
        }
        DiskEffect::RetireSource { id } => retire(object, world, id).await,
        DiskEffect::DeleteSnapshot { id } => {
            verify_snapshot(object, world, id).await?;
            gone(cloud.delete_used_snapshot(region, id).await)
        }
    }
}

/// Reads the disk once more: an attachment has no token, and a cached look must not repeat it.
async fn attach(object: &EncryptedDisk, world: &World, id: &str, place: &Place) -> Result<(), Fault> {
    let region = &object.spec.region;
    let found = verify_ours(object, world, id).await?;
    match found.as_ref().and_then(|disk| disk.instance_id.as_ref()) {
        Some(instance) if *instance == place.instance => Ok(()),
        Some(_) => Err(Fault::conflict("the disk is attached to another instance meanwhile; looking again")),
        None => Ok(world.cloud.attach_disk(region, id, &place.instance, place.delete_with_instance).await?),
    }
}

/// Detaches from exactly that instance; a disk that is detached already is as good.
async fn detach(object: &EncryptedDisk, world: &World, id: &str, instance: &str) -> Result<(), Fault> {
    gone(world.cloud.detach_disk(&object.spec.region, id, instance).await)
}

async fn amend(object: &EncryptedDisk, world: &World, id: &str, amendment: &Amendment) -> Result<(), Fault> {
    let Amendment { name, description, tags, delete_with_instance } = amendment.clone();
    let names = DiskAmendment { name, description, delete_with_instance };
    if names != DiskAmendment::default() {
        // One call for each effect; the tags follow with the next look.
        return Ok(world.cloud.amend_disk(&object.spec.region, id, &names).await?);
    }
    Ok(world.cloud.tag_resource(&object.spec.region, ResourceType::Disk, id, &tags).await?)
}

/// Reads everything once more and asks the same question again, because this cannot be taken back and a process may have been
/// paused since its decision: the source must be free and unchanged, and its successor encrypted in its place.
async fn retire(object: &EncryptedDisk, world: &World, id: &str) -> Result<(), Fault> {
    verify_source(object, id)?;
    let desired = object.desired().map_err(|invalid| Fault::conflict(&invalid.message))?;
    let observed = observe(object, &desired, world).await?;
    let again = DiskMachine::decide(&desired, &observed);
    if again != Decision::Do(DiskEffect::RetireSource { id: id.to_owned() }) {
        return Err(Fault::conflict("the source disk may not be deleted any more; looking again"));
    }
    gone(world.cloud.delete_disk(&object.spec.region, id).await)
}

/// What is gone already is as good as removed.
fn gone(result: Result<(), alibaba::Error>) -> Result<(), Fault> {
    match result {
        Err(error) if error.class == alibaba::Class::NotFound => Ok(()),
        other => Ok(other?),
    }
}

/// Only the disk that the object names as its source is ever detached or deleted in its place.
fn verify_source(object: &EncryptedDisk, id: &str) -> Result<(), Fault> {
    let source = object.spec.source.as_ref().and_then(|source| source.disk_id.as_deref());
    match source == Some(id) {
        true => Ok(()),
        false => Err(Fault::defect("Source", "the disk is not the source of this object")),
    }
}

/// Reads the tags once more before anything that cannot be taken back: a cached look must never touch a stranger's disk.
async fn verify_ours(
    object: &EncryptedDisk,
    world: &World,
    id: &str,
) -> Result<Option<alibaba::Disk>, Fault> {
    let owner = Owner::of(&world.settings.cluster, object);
    match world.cloud.disk(&object.spec.region, id).await? {
        Some(disk) if !owner.owns(&disk.tags) && object.spec.adopt.is_none() => Err(Fault::conflict(
            "the disk's tags no longer show that it belongs to this object; looking again",
        )),
        found => Ok(found),
    }
}

/// The same for a snapshot.
async fn verify_snapshot(object: &EncryptedDisk, world: &World, id: &str) -> Result<(), Fault> {
    let owner = Owner::of(&world.settings.cluster, object);
    let found = world.cloud.snapshots(&object.spec.region, &[id.to_owned()]).await?;
    match found.iter().all(|snapshot| owner.owns(&snapshot.tags)) {
        true => Ok(()),
        false => Err(Fault::conflict(
            "the snapshot's tags no longer show that it belongs to this object; looking again",
        )),
    }
}
