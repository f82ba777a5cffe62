//! The guard of this cluster's own nodes: a cluster that cuts their key cannot start them again.

use std::time::Duration;

use super::api::{KeyRevocation, KeyRevocationStatus};
use super::decide::{Desired, Goal, Stage, Wanted};
use super::notes::Notes;
use super::observe::{named_key, stage};
use super::{inventory, promise};
use crate::kind::World;

/// How long a look at this cluster's own nodes may take before a cut.
const OWN_KEYS_MAX: Duration = Duration::from_secs(5);

/// True if the plan has seen nodes of this cluster under the key that the last look at them does not know. They are looked at anew,
/// for this object alone: its account may see other disks than the operator's own. Doubt holds the order back.
///
/// Waits for the first look of a process that has just begun. Only an order that nothing was done for yet is guarded.
pub async fn are_told(
    object: &KeyRevocation,
    desired: &Desired,
    status: &KeyRevocationStatus,
    world: &World,
    notes: &Notes,
) -> bool {
    let guarded = |wanted: &Wanted| wanted.goal == Goal::Revoked && !wanted.allow_self_lockout;
    if !matches!(desired, Desired::Present(wanted) if guarded(wanted))
        || stage(status) != Stage::Fresh
        || world.settings.without_cluster
    {
        return false;
    }
    notes.look_for_own_keys().await;
    let key = named_key(object);
    let concerned = key.is_some() || object.spec.account_ref.is_none();
    let told = status.blast_radius.as_ref().is_some_and(|radius| radius.self_lockout);
    if !concerned || !told || are_hit(object, notes) {
        return false;
    }
    let look = inventory::own_keys(&world.cloud, &world.kube);
    match tokio::time::timeout(OWN_KEYS_MAX, look).await {
        Ok(Ok(keys)) => match key {
            Some(key) => keys.contains(&(object.spec.region.clone(), key.to_owned())),
            None => !keys.is_empty(),
        },
        _ => true,
    }
}

/// True if nodes of this cluster are known to need what is taken. Without ECS's role in another account, they lose nothing. Where
/// they cannot be listed, what status says of an earlier look counts.
pub fn are_hit(object: &KeyRevocation, notes: &Notes) -> bool {
    let key = named_key(object);
    if key.is_none() && object.spec.account_ref.is_some() {
        return false;
    }
    notes.is_own_key(&object.spec.region, key).unwrap_or_else(|| {
        object.status.as_ref().is_some_and(|status| {
            status.shared.conditions.iter().any(|condition| condition.type_ == promise::SELF_LOCKOUT)
                || status.blast_radius.as_ref().is_some_and(|radius| radius.self_lockout)
        })
    })
}
