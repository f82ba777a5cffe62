//! The exact parameters of a CreateDisk. Pure; the result is frozen in status and replayed, never rebuilt.

use std::collections::BTreeMap;

use super::decide::{Desired, Observed};
use crate::decision::key::KeyFact;
use crate::kind::Owner;

/// The role that a disk plays for its object; part of the token.
const ROLE: &str = "disk";

/// CreateDisk without InstanceId: with one, the cloud drops the key, the tags and the token silently (API reference §2.2).
pub fn create_disk(
    desired: &Desired,
    observed: &Observed,
    owner: &Owner,
    attempt: u32,
) -> BTreeMap<String, String> {
    let mut parameters = owner.parameters(ROLE, attempt);
    let Desired::Present(wanted) = desired else { return parameters };
    let mut set = |name: &str, value: String| parameters.insert(name.to_owned(), value);
    set("RegionId", wanted.region.clone());
    set("ZoneId", wanted.zone_id.clone());
    set("DiskCategory", wanted.category.clone());
    set("DiskName", wanted.disk_name.clone().unwrap_or_else(|| owner.console_name()));
    set("Encrypted", "true".to_owned());
    if let KeyFact::Usable { id, .. } = &observed.key
        && !id.starts_with("alias/")
    {
        set("KMSKeyId", id.clone());
    }
    let optional = [
        ("PerformanceLevel", wanted.performance_level.clone()),
        ("Size", wanted.size_gib.map(|size| size.to_string())),
        ("SnapshotId", wanted.snapshot_id.clone()),
        ("Description", wanted.description.clone()),
        ("ResourceGroupId", wanted.resource_group_id.clone()),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            set(name, value);
        }
    }
    owner.add_tags(&mut parameters, &wanted.tags);
    parameters
}
