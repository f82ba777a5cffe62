//! Performs one mutation of an EncryptedImage. Decides nothing.

use super::api::EncryptedImage;
use super::decide::ImageEffect;
use crate::alibaba;
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
        ImageEffect::Cancel { id } => {
            verify_ours(object, world, id).await?;
            gone_is_fine(world.cloud.cancel_copy_image(region, id).await)
        }
        ImageEffect::Delete { id } => {
            verify_ours(object, world, id).await?;
            gone_is_fine(world.cloud.delete_image(region, id).await)
        }
        ImageEffect::DeleteSnapshot { id } => gone_is_fine(world.cloud.delete_snapshot(region, id).await),
    }
}

fn gone_is_fine(result: Result<(), alibaba::Error>) -> Result<(), Fault> {
    match result {
        Err(error) if error.class == alibaba::Class::NotFound => Ok(()),
        other => Ok(other?),
    }
}

/// Reads the tags once more before anything that cannot be taken back: a cached look must never touch a stranger's image.
async fn verify_ours(object: &EncryptedImage, world: &World, id: &str) -> Result<(), Fault> {
    let owner = Owner::of(&world.settings.cluster, object);
    match world.cloud.image(&object.spec.region, id).await? {
        Some(image) if !owner.owns(&image.tags) => Err(Fault::conflict(
            "the image's tags no longer show that it belongs to this object; looking again",
        )),
        _ => Ok(()),
    }
}
