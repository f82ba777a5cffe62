//! Performs one mutation of an EncryptedInstance. Decides nothing.

use super::api::EncryptedInstance;
use super::decide::InstanceEffect;
use super::request::{USER_DATA, USER_DATA_VERSION};
use super::user_data;
use crate::alibaba;
use crate::kind::{Fault, Owner, World, recorded_request};

/// Exactly one mutating call.
pub async fn act(object: &EncryptedInstance, world: &World, effect: &InstanceEffect) -> Result<(), Fault> {
    let region = &object.spec.region;
    match effect {
        InstanceEffect::Claim(_) => {
            Err(Fault::defect("Claim", "a claim is written by the engine, never acted"))
        }
        InstanceEffect::Create { attempt } => {
            let parameters =
                with_user_data(object, world, recorded_request(object, *attempt)?.clone()).await?;
            let uid = object.metadata.uid.as_deref().unwrap_or_default();
            world.send_once(uid, *attempt, world.cloud.run_instances(region, &parameters)).await
        }
        InstanceEffect::Start { id } => Ok(world.cloud.start_instance(region, id).await?),
        InstanceEffect::Stop { id } => {
            verify_ours(object, world, id).await?;
            Ok(world.cloud.stop_instance(region, id, false).await?)
        }
        InstanceEffect::Protect { id, on } => {
            verify_ours(object, world, id).await?;
            let change = alibaba::InstanceChange { deletion_protection: Some(*on), ..Default::default() };
            Ok(world.cloud.modify_instance_attribute(region, id, &change).await?)
        }
        InstanceEffect::Rename { id, name } => {
            let change = alibaba::InstanceChange { name: Some(name.clone()), ..Default::default() };
            Ok(world.cloud.modify_instance_attribute(region, id, &change).await?)
        }
        InstanceEffect::Tag { id, tags } => {
            verify_ours(object, world, id).await?;
            Ok(world.cloud.tag_resource(region, alibaba::ResourceType::Instance, id, tags).await?)
        }
        InstanceEffect::Delete { id } => {
            verify_ours(object, world, id).await?;
            match world.cloud.delete_instance(region, id).await {
                Err(error) if error.class == alibaba::Class::NotFound => Ok(()),
                other => Ok(other?),
            }
        }
    }
}

/// Puts the user data in the place of the version that was recorded, and refuses any other version: under the same token
/// the cloud would either complain or, worse, remember the first text.
async fn with_user_data(
    object: &EncryptedInstance,
    world: &World,
    mut parameters: alibaba::Parameters,
) -> Result<alibaba::Parameters, Fault> {
    let Some(recorded) = parameters.get(USER_DATA) else { return Ok(parameters) };
    let changed =
        || Fault::conflict("the Secret with the user data is not the recorded one any more; looking again");
    let reference = object.spec.user_data_secret_ref.as_ref().ok_or_else(changed)?;
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let found = user_data::read(world, namespace, &reference.name, &reference.key).await?;
    let same = |data: &user_data::UserData| recorded.strip_prefix(USER_DATA_VERSION) == Some(&*data.version);
    let content = found.filter(same).and_then(|data| data.base64).ok_or_else(changed)?;
    parameters.insert(USER_DATA.to_owned(), content);
    Ok(parameters)
}

/// Reads the tags once more before anything that hurts if it hits the wrong machine.
async fn verify_ours(object: &EncryptedInstance, world: &World, id: &str) -> Result<(), Fault> {
    let owner = Owner::of(&world.settings.cluster, object);
    match world.cloud.instance(&object.spec.region, id).await? {
        Some(instance) if !owner.owns(&instance.tags) && object.spec.adopt.is_none() => Err(Fault::conflict(
            "the instance's tags no longer show that it belongs to this object; looking again",
        )),
        _ => Ok(()),
    }
}
