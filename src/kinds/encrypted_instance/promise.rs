//! What Settled means for an EncryptedInstance: exactly what a reviewer must believe.

use super::decide::{Desired, InstanceState, Observed, protection};
use crate::decision::key::{KeyFact, Protection};

/// True if the world is as the object promises.
pub fn holds(desired: &Desired, observed: &Observed) -> bool {
    match desired {
        Desired::Present(wanted) => {
            let mut instances = observed.instances.iter();
            let (Some(instance), None) = (instances.next(), instances.next()) else { return false };
            let powered = match instance.state {
                InstanceState::Running => wanted.running,
                InstanceState::Stopped => !wanted.running,
                InstanceState::Starting | InstanceState::Stopping => !wanted.manage,
                InstanceState::Pending | InstanceState::Unknown => false,
            };
            protection(instance) == Protection::Exact
                && observed.keys.values().all(|key| matches!(key, KeyFact::Usable { .. }))
                && (!wanted.manage
                    || powered && instance.protected == wanted.protect && instance.tags_amiss.is_empty())
                && !matches!(instance.state, InstanceState::Pending | InstanceState::Unknown)
        }
        Desired::Absent { delete, .. } => {
            let gone = !delete
                || observed.hidden.is_none() && observed.instances.iter().all(|instance| !instance.own);
            gone && (observed.creation.nothing_in_flight(observed.known.is_some())
                || !observed.instances.is_empty())
        }
    }
}
