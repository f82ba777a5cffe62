//! The exact parameters of a snapshot before the cut, and how machines are asked together. Pure.

use std::collections::BTreeMap;

use super::api::KeyRevocation;
use crate::kind::Owner;

/// Instances of one batch call.
pub const BATCH: usize = 100;

/// CreateSnapshot of one disk: the same token for the same disk, however often it is asked.
pub fn evidence(object: &KeyRevocation, owner: &Owner, disk: &str) -> BTreeMap<String, String> {
    let mut parameters = owner.parameters(&format!("evidence-{disk}"), 1);
    parameters.insert("RegionId".to_owned(), object.spec.region.clone());
    parameters.insert("DiskId".to_owned(), disk.to_owned());
    parameters.insert("SnapshotName".to_owned(), owner.console_name());
    owner.add_tags(&mut parameters, &[]);
    parameters
}
