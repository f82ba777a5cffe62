//! Performs one mutation of an EncryptedDisk. Decides nothing.

use super::api::EncryptedDisk;
use super::decide::DiskEffect;
use crate::alibaba;
use crate::kind::{Fault, Owner, World, recorded_request};

/// Exactly one mutating call.
pub async fn act(object: &EncryptedDisk, world: &World, effect: &DiskEffect) -> Result<(), Fault> {
    let region = &object.spec.region;
    match effect {
        DiskEffect::Claim(_) => Err(Fault::defect("Claim", "a claim is written by the engine, never acted")),
        DiskEffect::Create { attempt } => {
            let parameters = recorded_request(object, *attempt)?;
            let uid = object.metadata.uid.as_deref().unwrap_or_default();
            world.send_once(uid, *attempt, world.cloud.create_disk(region, parameters)).await
        }
        DiskEffect::Resize { id, size_gib, online } => {
            verify_ours(object, world, id).await?;
            Ok(world.cloud.resize_disk(region, id, *size_gib, *online).await?)
        }
        DiskEffect::Delete { id } => {
            verify_ours(object, world, id).await?;
            match world.cloud.delete_disk(region, id).await {
                Err(error) if error.class == alibaba::Class::NotFound => Ok(()),
                other => Ok(other?),
            }
        }
    }
}

/// Reads the tags once more before anything that cannot be taken back: a cached look must never touch a stranger's disk.
async fn verify_ours(object: &EncryptedDisk, world: &World, id: &str) -> Result<(), Fault> {
    let owner = Owner::of(&world.settings.cluster, object);
    match world.cloud.disk(&object.spec.region, id).await? {
        Some(disk) if !owner.owns(&disk.tags) && object.spec.adopt.is_none() => Err(Fault::conflict(
            "the disk's tags no longer show that it belongs to this object; looking again",
        )),
        _ => Ok(()),
    }
}
