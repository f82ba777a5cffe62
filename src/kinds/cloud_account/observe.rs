//! Asks STS whose credentials these are, and RAM for ECS's role. Reads only.

use super::api::CloudAccount;
use super::decide::{Desired, Observed, RoleFact};
use super::plan::plan;
use crate::alibaba::Cloud;
use crate::kind::{Fault, World};

/// Everything that `decide` needs to know.
pub async fn observe(object: &CloudAccount, desired: &Desired, world: &World) -> Result<Observed, Fault> {
    let pinned = object.status.as_ref().and_then(|status| status.shared.account_id.clone());
    if matches!(desired, Desired::Absent | Desired::Suspended) {
        return Ok(Observed { account: None, pinned, role: RoleFact::Unasked });
    }
    let cloud = cloud(object, world).await?;
    let account = cloud.caller_identity().await?.account_id;
    let mut observed = Observed { account: Some(account), pinned, role: RoleFact::Unasked };
    if observed.pinned.is_none() || observed.pinned == observed.account {
        let role = cloud.ecs_role().await?;
        observed.role = match role.exists {
            false => RoleFact::Missing,
            true => RoleFact::Present {
                trusts_ecs: role.trusts_ecs,
                policy_attached: role.policy_attached,
                others: role.other_policies.into_iter().collect(),
            },
        };
    }
    Ok(observed)
}

/// The account's client, the same that objects use which name it.
pub async fn cloud(object: &CloudAccount, world: &World) -> Result<Cloud, Fault> {
    let plan = plan(object).map_err(|invalid| Fault::defect("Plan", invalid.message))?;
    world.accounts.client(world, &plan).await
}
