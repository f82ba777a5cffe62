//! What Settled means for an EncryptedDisk: exactly what a reviewer must believe.

use super::decide::{Desired, DiskState, Observed};
use crate::decision::key::{KeyFact, Protection};

/// True if the world is as the object promises.
pub fn holds(desired: &Desired, observed: &Observed) -> bool {
    match desired {
        Desired::Present(wanted) => {
            let mut disks = observed.disks.iter();
            let (Some(disk), None) = (disks.next(), disks.next()) else { return false };
            matches!(disk.state, DiskState::Available | DiskState::InUse)
                && disk.protection == Protection::Exact
                && matches!(observed.key, KeyFact::Usable { .. })
                && (!wanted.manage || wanted.size_gib.is_none_or(|size| disk.size_gib >= size))
        }
        Desired::Absent { delete } => {
            let gone = !delete || observed.disks.iter().all(|disk| !disk.own);
            gone && (observed.creation.nothing_in_flight(observed.known.is_some())
                || !observed.disks.is_empty())
        }
    }
}
