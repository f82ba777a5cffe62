//! The exact parameters of a CreateDisk, or of a CreateSnapshot. Pure; the result is frozen in status and replayed, never rebuilt.

use std::collections::BTreeMap;

use super::decide::{Desired, Observed, Role, Wanted};
use crate::decision::key::KeyFact;
use crate::kind::Owner;

/// The parameters of an attempt.
pub fn request(
    desired: &Desired,
    observed: &Observed,
    owner: &Owner,
    role: Role,
    attempt: u32,
) -> BTreeMap<String, String> {
    let parameters = owner.parameters(role.word(), attempt);
    match (desired, role) {
        (Desired::Present(wanted), Role::Disk) => create_disk(wanted, observed, owner, parameters),
        (Desired::Present(wanted), Role::Snapshot) => create_snapshot(wanted, owner, parameters),
        (Desired::Absent { .. }, _) => parameters,
    }
}

/// A snapshot takes over whether and how its disk is encrypted; it is kept until somebody deletes it.
fn create_snapshot(
    wanted: &Wanted,
    owner: &Owner,
    mut parameters: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let Some(succession) = &wanted.succession else { return parameters };
    for (name, value) in [
        ("RegionId", wanted.region.clone()),
        ("DiskId", succession.disk_id.clone()),
        ("SnapshotName", owner.console_name()),
    ] {
        parameters.insert(name.to_owned(), value);
    }
    owner.add_tags(&mut parameters, &wanted.tags);
    parameters
}

/// CreateDisk without InstanceId: with one, the cloud drops the key, the tags and the token silently (API reference §2.2).
fn create_disk(
    wanted: &Wanted,
    observed: &Observed,
    owner: &Owner,
    mut parameters: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let taken = observed.heritage.snapshot().map(|snapshot| snapshot.id.clone());
    let snapshot_id = wanted.snapshot_id.clone().or(taken.filter(|_| wanted.succession.is_some()));
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
        ("SnapshotId", snapshot_id),
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
