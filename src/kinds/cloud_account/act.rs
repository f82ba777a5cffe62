//! Performs one mutation of a CloudAccount. Decides nothing.

use super::api::CloudAccount;
use super::decide::AccountEffect;
use super::observe::cloud;
use crate::kind::{Fault, World};

/// Exactly one mutating call.
pub async fn act(object: &CloudAccount, world: &World, effect: &AccountEffect) -> Result<(), Fault> {
    let cloud = cloud(object, world).await?;
    let result = match effect {
        AccountEffect::CreateRole => cloud.create_ecs_role().await,
        AccountEffect::AttachPolicy => cloud.attach_ecs_policy().await,
    };
    Ok(result?)
}
