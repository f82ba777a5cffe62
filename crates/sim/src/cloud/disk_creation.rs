//! CreateDisk, with the trap that real clouds have: together with an InstanceId it drops key, tags and
//! ClientToken without a word.
//!
//! Deliberately does not model stock: a zone either sells a category or does not.

use serde_json::json;

use super::disks::{Disk, free_device};
use super::key_use::{self, KeyTable};
use super::parameters::Parameters;
use super::refusal::{Answer, Refusal};
use super::world::{Call, Event, World};

/// Simulated seconds until a blank disk is `Available`.
const BLANK_SECONDS: f64 = 3.0;
/// Simulated seconds until a disk made from a snapshot is `Available`.
const FROM_SNAPSHOT_SECONDS: f64 = 20.0;
/// The categories that take encrypted system disks and encrypted disks from snapshots.
const ESSD_FAMILY: [&str; 4] = ["cloud_essd", "cloud_essd_entry", "cloud_auto", "cloud_regional_disk_auto"];

/// What is asked of a disk, by CreateDisk, RunInstances or ReplaceSystemDisk.
#[derive(Clone, Debug, Default)]
pub struct DiskWish {
    /// The category, for example `cloud_essd`.
    pub category: String,
    /// `PL0` to `PL3`, or empty.
    pub performance_level: String,
    /// GiB; 0 means as large as the snapshot.
    pub size_gib: u32,
    /// The snapshot to start from, or empty.
    pub snapshot_id: String,
    /// What the caller said about encryption; `None` if nothing.
    pub encrypted: Option<bool>,
    /// The key that the caller named.
    pub key_id: Option<String>,
    /// True for system disks.
    pub system: bool,
}

/// CreateDisk.
pub fn create(world: &mut World, call: &Call) -> Answer {
    let parameters = call.parameters;
    let instance_id = parameters.text("InstanceId").map(str::to_string);
    let (zone, instance_id) = match (parameters.text("ZoneId"), instance_id) {
        (Some(_), Some(_)) => {
            // assumption: zone-and-instance
            let text = "ZoneId and InstanceId exclude each other.";
            return Err(Refusal::new(400, "InvalidParameter.Conflict", text));
        }
        (None, None) => return Err(Refusal::missing("ZoneId")),
        (Some(zone), None) => (zone.to_string(), None),
        (None, Some(id)) => {
            let instance = super::instances::own_instance(world, call.region, &id)?;
            super::instances::refuse_locked(instance)?;
            (instance.zone.clone(), Some(id))
        }
    };
    if !super::topology::zone_exists(call.region, &zone) {
        return Err(Refusal::not_found("InvalidZoneId.NotFound"));
    }
    super::image_copies::check_description(parameters.text("Description"))?;
    check_disk_name(parameters.text("DiskName"))?;
    let mut wish = wish_of(parameters)?;
    let mut tags = parameters.tags()?;
    let mut resource_group = parameters.text("ResourceGroupId").unwrap_or_default().to_string();
    if instance_id.is_some() {
        // assumption: dropped-with-instance
        wish.key_id = None;
        tags.clear();
        resource_group.clear();
    }
    if world.settings.arrears {
        return Err(Refusal::new(403, "Account.Arrearage", "Your account has an outstanding payment."));
    }
    let size_gib = check_size_and_category(world, call.region, &zone, &wish)?;
    let key_id = settle_key(world, call.region, &wish, KeyTable::Disk)?;
    let id = world.names.ecs_id("d", call.region);
    let base = if wish.snapshot_id.is_empty() { BLANK_SECONDS } else { FROM_SNAPSHOT_SECONDS };
    let seconds = world.plausible_seconds(base, call.label(&id));
    let device = instance_id.as_ref().map(|instance| free_device(world, instance, None)).unwrap_or_default();
    let disk = Disk {
        id: id.clone(),
        region: call.region.to_string(),
        zone,
        name: parameters.text("DiskName").unwrap_or_default().to_string(),
        description: parameters.text("Description").unwrap_or_default().to_string(),
        attached: instance_id.as_ref().map(|_| world.now),
        device,
        instance_id,
        tags,
        resource_group_id: resource_group,
        created: world.now,
        pending: world.schedule(seconds, Event::DiskNext(id.clone())),
        ..blank(&wish, size_gib, key_id)
    };
    world.disks.insert(id.clone(), disk);
    Ok(json!({"DiskId": id, "OrderId": ""}))
}

/// A new disk as `wish` describes it, in status `Creating`, without identity and place.
pub fn blank(wish: &DiskWish, size_gib: u32, key_id: Option<String>) -> Disk {
    Disk {
        status: "Creating".into(),
        kind: if wish.system { "system" } else { "data" }.into(),
        category: wish.category.clone(),
        performance_level: match (wish.category.as_str(), wish.performance_level.as_str()) {
            ("cloud_essd", "") => "PL1".into(),
            (_, level) => level.into(),
        },
        size_gib,
        source_snapshot_id: wish.snapshot_id.clone(),
        encrypted: key_id.is_some(),
        key_id,
        portable: true,
        delete_auto_snapshot: true,
        ..Disk::default()
    }
}

fn wish_of(parameters: &Parameters) -> Result<DiskWish, Refusal> {
    let size = parameters.whole("Size")?.unwrap_or(0);
    if parameters.text("Size").is_none() && parameters.text("SnapshotId").is_none() {
        return Err(Refusal::missing("Size"));
    }
    Ok(DiskWish {
        // assumption: default-disk-category
        category: parameters.text("DiskCategory").unwrap_or("cloud").to_string(),
        performance_level: parameters.text("PerformanceLevel").unwrap_or_default().to_string(),
        size_gib: u32::try_from(size).map_err(|_| Refusal::invalid("Size"))?,
        snapshot_id: parameters.text("SnapshotId").unwrap_or_default().to_string(),
        encrypted: parameters.optional_flag("Encrypted")?,
        key_id: parameters.text("KMSKeyId").map(str::to_string),
        system: false,
    })
}

/// Checks category, performance level and size, and answers the size that the disk will have.
pub fn check_size_and_category(
    world: &World,
    region: &str,
    zone: &str,
    wish: &DiskWish,
) -> Result<u32, Refusal> {
    // assumption: disk-validation-codes
    let level = wish.performance_level.as_str();
    let Some((smallest, largest)) = size_range(&wish.category, level) else {
        let text = "The specified disk category or performance level is not supported.";
        return Err(Refusal::new(400, "InvalidDiskCategory.NotSupported", text));
    };
    if !super::topology::sells(zone, &wish.category) {
        let text = "The zone does not sell the specified disk category.";
        return Err(Refusal::new(403, "Zone.NotOnSale", text));
    }
    let mut size = wish.size_gib;
    if !wish.snapshot_id.is_empty() {
        let snapshot = super::snapshots::own_snapshot(world, region, &wish.snapshot_id)?;
        if snapshot.status != "accomplished" {
            return Err(Refusal::new(
                403,
                "InvalidSnapshotId.NotReady",
                "The specified snapshot is not ready.",
            ));
        }
        if size != 0 && size < snapshot.size_gib {
            let text = "The disk must be at least as large as the snapshot.";
            return Err(Refusal::new(403, "InvalidDiskSize.TooSmall", text));
        }
        size = size.max(snapshot.size_gib).max(smallest);
    }
    if !(smallest..=largest).contains(&size) {
        let text = format!("The size must be {smallest} to {largest} GiB.");
        return Err(Refusal::new(400, "InvalidDiskSize.NotSupported", text));
    }
    Ok(size)
}

fn size_range(category: &str, level: &str) -> Option<(u32, u32)> {
    match (category, level) {
        ("cloud", "") => Some((5, 2_000)),
        ("cloud_efficiency" | "cloud_ssd", "") => Some((20, 32_768)),
        ("cloud_essd_entry", "") => Some((10, 32_768)),
        ("cloud_auto", "") => Some((1, 65_536)),
        ("cloud_regional_disk_auto", "") => Some((10, 65_536)),
        ("cloud_essd", "PL0") => Some((1, 65_536)),
        ("cloud_essd", "PL1" | "") => Some((20, 65_536)),
        ("cloud_essd", "PL2") => Some((461, 65_536)),
        ("cloud_essd", "PL3") => Some((1_261, 65_536)),
        ("elastic_ephemeral_disk_standard" | "elastic_ephemeral_disk_premium", "") => Some((64, 8_192)),
        _ => None,
    }
}

/// The key that the disk is written with, `None` for a plain disk; refuses every contradiction about
/// encryption.
pub fn settle_key(
    world: &mut World,
    region: &str,
    wish: &DiskWish,
    table: KeyTable,
) -> Result<Option<String>, Refusal> {
    let encrypted = wish.encrypted.unwrap_or(false);
    let snapshot = world.snapshots.get(&wish.snapshot_id).cloned();
    if wish.key_id.is_some() && !encrypted {
        let text = "KMSKeyId needs Encrypted to be true.";
        return Err(Refusal::new(400, "InvalidEncrypted.NotMatchKmsKeyId", text));
    }
    if !encrypted && snapshot.as_ref().is_some_and(|snapshot| snapshot.encrypted) {
        let text = "A disk from an encrypted snapshot must be encrypted.";
        return Err(Refusal::new(403, "InvalidEncrypted.NotMatchSnapshot", text));
    }
    if !encrypted {
        if world.encryption_defaults.get(region).is_some_and(|default| default.on) {
            let text = "Default encryption is on in this region: plain disks are refused.";
            return Err(Refusal::new(403, "InvalidEncrypted.NotMatchDiskDefaultEncryption", text));
        }
        return Ok(None);
    }
    if (wish.system || snapshot.is_some()) && !ESSD_FAMILY.contains(&wish.category.as_str()) {
        let text = "The disk category does not support encryption from a snapshot.";
        return Err(Refusal::new(403, "NotSupportSnapshotEncrypted.DiskCategory", text));
    }
    if wish.category.starts_with("elastic_ephemeral") {
        let text = "The disk category does not support encryption.";
        return Err(Refusal::new(400, "InvalidParameter.EncryptedNotSupported", text));
    }
    let inherited = snapshot.and_then(|snapshot| snapshot.key_id);
    let key_id = match wish.key_id.clone().or(inherited) {
        Some(key_id) => key_id,
        None => key_use::unnamed_key(world, region),
    };
    key_use::use_key(world, region, &key_id, table)?;
    Ok(Some(key_id))
}

fn check_disk_name(name: Option<&str>) -> Result<(), Refusal> {
    let valid = name.is_none_or(|name| {
        let length = name.chars().count();
        let start = name.chars().next().is_some_and(char::is_alphabetic);
        let alphabet = name.chars().all(|sign| sign.is_alphanumeric() || ".:_-".contains(sign));
        (2..=128).contains(&length) && start && alphabet && !name.starts_with("http")
    });
    let refusal = || Refusal::new(400, "InvalidDiskName.Malformed", "The specified disk name is not valid.");
    if valid { Ok(()) } else { Err(refusal()) }
}
