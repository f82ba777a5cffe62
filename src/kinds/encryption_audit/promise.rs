//! What Settled means for an EncryptionAudit: exactly what a reviewer must believe.

use super::decide::{Desired, Observed, Scan};

/// True if the object tells of a scan that was made as it asks. Whether the account is compliant is another question.
pub fn holds(desired: &Desired, observed: &Observed) -> bool {
    match desired {
        Desired::Absent => true,
        Desired::Suspended => false,
        Desired::Present(_) => observed.told || matches!(observed.scan, Scan::Done(_)),
    }
}
