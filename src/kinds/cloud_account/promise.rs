//! What Settled means for a CloudAccount: exactly what a reviewer must believe.

use super::decide::{Desired, Observed};

/// True if the world is as the object promises.
pub fn holds(desired: &Desired, observed: &Observed) -> bool {
    match desired {
        Desired::Absent => true,
        Desired::Suspended => false,
        Desired::Present { ensure_role } => {
            observed.account.is_some()
                && (observed.pinned.is_none() || observed.pinned == observed.account)
                && (!ensure_role || observed.role.authorizes())
        }
    }
}
