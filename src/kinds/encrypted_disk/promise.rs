//! What Settled means for an EncryptedDisk: exactly what a reviewer must believe.

use super::decide::{Desired, Disk, DiskState, Observed, Target, Wanted, is_concluded};
use crate::decision::key::{KeyFact, Protection};

/// True if the world is as the object promises.
pub fn holds(desired: &Desired, observed: &Observed) -> bool {
    match desired {
        Desired::Present(wanted) => {
            let mut disks = observed.disks.iter();
            let (Some(disk), None) = (disks.next(), disks.next()) else { return false };
            matches!(disk.state, DiskState::Available | DiskState::InUse | DiskState::Moving)
                && disk.protection == Protection::Exact
                && matches!(observed.key, KeyFact::Usable { .. })
                && (!wanted.manage || as_described(wanted, observed, disk))
        }
        Desired::Absent { delete } => {
            let disks_gone = observed.disks.iter().all(|disk| !disk.own);
            let snapshots_gone = observed.heritage.snapshots.is_empty() || !observed.heritage.may_forget();
            let nothing_follows = super::decide::over(observed);
            (!delete || (disks_gone && snapshots_gone)) && nothing_follows
        }
    }
}

/// Large enough, attached where it should be and nowhere that the operator chose before, and in its source's place.
fn as_described(wanted: &Wanted, observed: &Observed, disk: &Disk) -> bool {
    let attached = disk.attached_to.as_ref();
    let in_place = match &observed.target {
        Target::Nowhere => {
            attached.is_none() || observed.placed.as_ref().map(|place| &place.instance) != attached
        }
        Target::Pending => false,
        Target::At(place, _) => attached == Some(&place.instance) && disk.state == DiskState::InUse,
    };
    wanted.size_gib.is_none_or(|size| disk.size_gib >= size) && in_place && is_concluded(wanted, observed)
}
