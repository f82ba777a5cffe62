//! What Settled means for an EncryptedImage: exactly what a reviewer must believe.

use super::decide::{Amendment, CopyState, Desired, Observed};
use crate::decision::key::{KeyFact, Protection};

/// True if the world is as the object promises.
pub fn holds(desired: &Desired, observed: &Observed) -> bool {
    match desired {
        Desired::Present(wanted) => {
            let mut copies = observed.copies.iter();
            let (Some(copy), None) = (copies.next(), copies.next()) else { return false };
            copy.state == CopyState::Available
                && copy.protection == Protection::Exact
                && (!wanted.manage || copy.amendment == Amendment::default())
                && matches!(observed.key, KeyFact::Usable { .. })
        }
        Desired::Absent { manage, delete_image, delete_snapshots } => {
            let mut own = observed.copies.iter().filter(|copy| copy.own);
            let gone = match delete_image {
                true => own.next().is_none() && (!delete_snapshots || observed.leftover_snapshots.is_empty()),
                false => !manage || own.all(|copy| copy.state != CopyState::Copying),
            };
            gone && (observed.creation.nothing_in_flight(observed.known.is_some())
                || !observed.copies.is_empty())
        }
    }
}
