//! Performs one mutation of an EncryptedImage. Decides nothing.

use super::api::EncryptedImage;
use super::decide::{Amendment, ImageEffect};
use crate::alibaba::{self, ImageAmendment, ResourceType};
use crate::kind::{Fault, Owner, World, recorded_request};

/// Exactly one mutating call.
pub async fn act(object: &EncryptedImage, world: &World, effect: &ImageEffect) -> Result<(), Fault> {
    let region = &object.spec.region;
    match effect {
        ImageEffect::Claim(_) => Err(Fault::defect("Claim", "a claim is written by the engine, never acted")),
        ImageEffect::Copy { attempt } => {
            let parameters = recorded_request(object, *attempt)?;
            let uid = object.metadata.uid.as_deref().unwrap_or_default();
            world.send_once(uid, *attempt, world.cloud.copy_image(region, parameters)).await
        }
        ImageEffect::Amend { id, amendment } => amend(object, world, id, amendment).await,
        ImageEffect::Cancel { id } => {
            verify_ours(object, world, id).await?;
            gone_is_fine(world.cloud.cancel_copy_image(region, id).await)
        }
        ImageEffect::Delete { id } => {
            verify_ours(object, world, id).await?;
            gone_is_fine(world.cloud.delete_image(region, id).await)
        }
        // Disks that were made of it live on; the image that it stood behind is gone.
        ImageEffect::DeleteSnapshot { id } => {
            gone_is_fine(world.cloud.delete_used_snapshot(region, id).await)
        }
    }
}

async fn amend(object: &EncryptedImage, world: &World, id: &str, amendment: &Amendment) -> Result<(), Fault> {
    if object.spec.adopt.is_none() {
        verify_ours(object, world, id).await?;
    }
    let (region, Amendment { name, description, tags }) = (&object.spec.region, amendment.clone());
    let names = ImageAmendment { name, description };
    if names != ImageAmendment::default() {
        // One call for each effect; the tags follow with the next look.
        return Ok(world.cloud.amend_image(region, id, &names).await?);
    }
    Ok(world.cloud.tag_resource(region, ResourceType::Image, id, &tags).await?)
}

fn gone_is_fine(result: Result<(), alibaba::Error>) -> Result<(), Fault> {
    match result {
        Err(error) if error.class == alibaba::Class::NotFound => Ok(()),
        other => Ok(other?),
    }
}

/// Reads the tags once more before anything is changed: a cached look must never touch a stranger's image.
async fn verify_ours(object: &EncryptedImage, world: &World, id: &str) -> Result<(), Fault> {
    let owner = Owner::of(&world.settings.cluster, object);
    match world.cloud.image(&object.spec.region, id).await? {
        Some(image) if !owner.owns(&image.tags) => Err(Fault::conflict(
            "the image's tags no longer show that it belongs to this object; looking again",
        )),
        _ => Ok(()),
    }
}
