//! RunInstances and ReplaceSystemDisk: the two calls that write an image onto a system disk.
//!
//! Deliberately does not check networks: security groups are taken as given, and vSwitches unless the settings name them.

use std::collections::BTreeMap;

use serde_json::json;

use super::disk_creation::{DiskWish, blank, check_size_and_category, settle_key};
use super::disks::Disk;
use super::images::Image;
use super::instance_life::PENDING_SECONDS;
use super::instances::{Instance, own_instance, refuse_locked};
use super::key_use::KeyTable;
use super::parameters::Parameters;
use super::refusal::{Answer, Refusal};
use super::topology::{INSTANCE_TYPES, any_zone, zone_exists};
use super::world::{Call, Event, World};

/// The smallest system disk, in GiB.
const SYSTEM_DISK_GIB_MIN: u32 = 20;
/// The system disk that RunInstances makes when no size is named, in GiB.
const SYSTEM_DISK_GIB_DEFAULT: u32 = 40;
/// Simulated seconds that ReplaceSystemDisk takes.
const REPLACE_SECONDS: f64 = 20.0;

/// A checked disk of a machine to be made.
struct Planned {
    wish: DiskWish,
    size_gib: u32,
    key_id: Option<String>,
    device: String,
    delete_with_instance: bool,
    name: String,
}

/// RunInstances.
pub fn run(world: &mut World, call: &Call) -> Answer {
    let parameters = call.parameters;
    let type_name = parameters.required("InstanceType")?;
    let known = INSTANCE_TYPES.iter().find(|(name, _, _)| *name == type_name);
    let (_, cpu, memory_mib) = *known.ok_or_else(|| {
        // assumption: instance-type-code
        Refusal::new(
            404,
            "InvalidInstanceType.ValueNotSupported",
            "The specified instance type is not on sale.",
        )
    })?;
    let zone = parameters.text("ZoneId").unwrap_or(any_zone(call.region)).to_string();
    if !zone_exists(call.region, &zone) {
        return Err(Refusal::not_found("InvalidZoneId.NotFound"));
    }
    let amount = parameters.whole("Amount")?.unwrap_or(1);
    if !(1..=100).contains(&amount) {
        return Err(Refusal::invalid("Amount"));
    }
    let image = image_to_write(world, call)?;
    check_network(world, call)?;
    let tags = parameters.tags()?;
    let plan = plan_disks(world, call, &image, &zone)?;
    if world.settings.arrears {
        return Err(Refusal::new(
            400,
            "InvalidAccountStatus.NotEnoughBalance",
            "Your balance is not enough.",
        ));
    }
    if parameters.flag("DryRun")? {
        return Err(Refusal::dry_run());
    }
    let mut ids = Vec::new();
    for number in 0..amount {
        let id = world.names.ecs_id("i", call.region);
        let instance = Instance {
            zone: zone.clone(),
            image_id: image.id.clone(),
            instance_type: type_name.to_string(),
            cpu,
            memory_mib,
            tags: tags.clone(),
            private_address: format!(
                "192.168.{}.{}",
                10 + world.instances.len() / 250,
                1 + world.instances.len() % 250
            ),
            ..described(world, call, &id)?
        };
        let seconds = world.plausible_seconds(PENDING_SECONDS, &format!("{}{number}", call.label(&id)));
        let pending = world.schedule(seconds, Event::InstanceNext(id.clone()));
        world.instances.insert(id.clone(), Instance { pending, ..instance });
        for planned in &plan {
            let disk_id = insert_disk(world, call.region, &zone, &id, &image.id, planned);
            // "The tags to add to the instance, disks, and primary ENI" (official SDK models).
            if let Some(disk) = world.disks.get_mut(&disk_id) {
                disk.tags = tags.clone();
            }
        }
        ids.push(id);
    }
    Ok(json!({"InstanceIdSets": {"InstanceIdSet": ids}, "OrderId": "", "TradePrice": 0.1}))
}

/// A vSwitch must exist, where the settings say which ones do.
fn check_network(world: &World, call: &Call) -> Result<(), Refusal> {
    // assumption: networks-are-not-checked
    let known = &world.settings.vswitches;
    match call.parameters.text("VSwitchId") {
        Some(id) if !known.is_empty() && !known.iter().any(|known| known == id) => {
            Err(Refusal::not_found("InvalidVSwitchId.NotFound"))
        }
        _ => Ok(()),
    }
}

fn described(world: &World, call: &Call, id: &str) -> Result<Instance, Refusal> {
    let parameters = call.parameters;
    let mut groups = parameters.list("SecurityGroupIds");
    groups.extend(parameters.text("SecurityGroupId").map(str::to_string));
    Ok(Instance {
        id: id.to_string(),
        region: call.region.to_string(),
        name: parameters.text("InstanceName").unwrap_or(id).to_string(),
        host_name: parameters.text("HostName").unwrap_or(id).to_string(),
        description: parameters.text("Description").unwrap_or_default().to_string(),
        status: "Pending".into(),
        stopped_mode: "Not-applicable".into(),
        security_groups: groups,
        vswitch_id: parameters.text("VSwitchId").unwrap_or_default().to_string(),
        created: world.now,
        deletion_protection: parameters.flag("DeletionProtection")?,
        resource_group_id: parameters.text("ResourceGroupId").unwrap_or_default().to_string(),
        key_pair_name: parameters.text("KeyPairName").unwrap_or_default().to_string(),
        ram_role_name: parameters.text("RamRoleName").unwrap_or_default().to_string(),
        http_tokens: parameters.text("HttpTokens").unwrap_or("optional").to_string(),
        user_data: parameters.text("UserData").unwrap_or_default().to_string(),
        ..Instance::default()
    })
}

fn image_to_write(world: &World, call: &Call) -> Result<Image, Refusal> {
    let parameters = call.parameters;
    let here = |image: &&Image| image.region == call.region;
    let found = match (parameters.text("ImageId"), parameters.text("ImageFamily")) {
        (Some(id), _) => world.images.get(id).filter(here),
        (None, Some(family)) => {
            let of_family = |image: &&Image| image.family == family && image.status == "Available";
            world.images.values().filter(here).filter(of_family).max_by_key(|image| image.created)
        }
        (None, None) => return Err(Refusal::missing("ImageId")),
    };
    let image = found.cloned().ok_or_else(|| Refusal::not_found("InvalidImageId.NotFound"))?;
    // A deprecated image still creates instances.
    if !matches!(image.status.as_str(), "Available" | "Deprecated") {
        let text = "The image's status does not allow this.";
        return Err(Refusal::new(403, "IncorrectImageStatus", text));
    }
    Ok(image)
}

/// System disk, the image's data disks, and the caller's own data disks, each checked.
fn plan_disks(world: &mut World, call: &Call, image: &Image, zone: &str) -> Result<Vec<Planned>, Refusal> {
    let parameters = call.parameters;
    let mut plan = vec![plan_system_disk(world, call, image, zone)?];
    let data = parameters.objects("DataDisk");
    if data.len() > 16 {
        return Err(Refusal::new(403, "InstanceDiskLimitExceeded", "At most 16 data disks are allowed."));
    }
    let from_image: Vec<Parameters> = image
        .mappings
        .iter()
        .filter(|mapping| mapping.kind == "data")
        .filter(|mapping| !data.iter().any(|disk| disk.text("Device") == Some(&mapping.device)))
        .map(|mapping| data_disk_of_image(world, mapping))
        .collect();
    for (index, disk) in from_image.iter().chain(&data).enumerate() {
        let size = disk.whole("Size")?.unwrap_or(0);
        let wish = DiskWish {
            category: disk.text("Category").unwrap_or("cloud_essd").to_string(),
            performance_level: disk.text("PerformanceLevel").unwrap_or_default().to_string(),
            size_gib: u32::try_from(size).map_err(|_| Refusal::invalid("DataDisk.Size"))?,
            snapshot_id: disk.text("SnapshotId").unwrap_or_default().to_string(),
            encrypted: disk.optional_flag("Encrypted")?,
            key_id: disk.text("KMSKeyId").map(str::to_string),
            system: false,
        };
        let size_gib = check_size_and_category(world, call.region, zone, &wish)?;
        let key_id = settle_key(world, call.region, &wish, KeyTable::Image)?;
        let letter = char::from(b'b' + (index % 25) as u8);
        plan.push(Planned {
            device: disk.text("Device").map_or_else(|| format!("/dev/xvd{letter}"), str::to_string),
            delete_with_instance: disk.optional_flag("DeleteWithInstance")?.unwrap_or(true),
            name: disk.text("DiskName").unwrap_or_default().to_string(),
            wish,
            size_gib,
            key_id,
        });
    }
    Ok(plan)
}

/// The data disk that an image brings along: encrypted exactly as its snapshot is.
fn data_disk_of_image(world: &World, mapping: &super::images::Mapping) -> Parameters {
    // assumption: data-disks-of-encrypted-images
    let encrypted = world.snapshots.get(&mapping.snapshot_id).is_some_and(|snapshot| snapshot.encrypted);
    Parameters(BTreeMap::from([
        ("SnapshotId".to_string(), mapping.snapshot_id.clone()),
        ("Device".to_string(), mapping.device.clone()),
        ("Encrypted".to_string(), encrypted.to_string()),
    ]))
}

fn plan_system_disk(world: &mut World, call: &Call, image: &Image, zone: &str) -> Result<Planned, Refusal> {
    let system = call.parameters.object("SystemDisk");
    let size = system.whole("Size")?.unwrap_or(i64::from(image.size_gib.max(SYSTEM_DISK_GIB_DEFAULT)));
    let size = u32::try_from(size).map_err(|_| Refusal::invalid("SystemDisk.Size"))?;
    if size < image.size_gib.max(SYSTEM_DISK_GIB_MIN) {
        let text = "The system disk must be at least as large as the image.";
        return Err(Refusal::new(403, "InvalidSystemDiskSize.LessThanImageSize", text));
    }
    let snapshot = image.mappings.iter().find(|mapping| mapping.kind == "system");
    let wish = DiskWish {
        category: system.text("Category").unwrap_or("cloud_essd").to_string(),
        performance_level: system.text("PerformanceLevel").unwrap_or_default().to_string(),
        size_gib: size,
        snapshot_id: snapshot.map(|mapping| mapping.snapshot_id.clone()).unwrap_or_default(),
        encrypted: system.optional_flag("Encrypted")?,
        key_id: system.text("KMSKeyId").map(str::to_string),
        system: true,
    };
    let size_gib = check_size_and_category(world, call.region, zone, &wish)?;
    let key_id = settle_key(world, call.region, &wish, KeyTable::Image)?;
    let name = system.text("DiskName").unwrap_or_default().to_string();
    Ok(Planned { wish, size_gib, key_id, device: "/dev/xvda".into(), delete_with_instance: true, name })
}

fn insert_disk(
    world: &mut World,
    region: &str,
    zone: &str,
    instance: &str,
    image: &str,
    planned: &Planned,
) -> String {
    let id = world.names.ecs_id("d", region);
    let disk = Disk {
        id: id.clone(),
        region: region.to_string(),
        zone: zone.to_string(),
        name: planned.name.clone(),
        status: "In_use".into(),
        instance_id: Some(instance.to_string()),
        device: planned.device.clone(),
        delete_with_instance: planned.delete_with_instance,
        image_id: if planned.wish.system { image.to_string() } else { String::new() },
        source_snapshot_id: if planned.wish.system {
            String::new()
        } else {
            planned.wish.snapshot_id.clone()
        },
        created: world.now,
        attached: Some(world.now),
        ever_attached: true,
        ..blank(&planned.wish, planned.size_gib, planned.key_id.clone())
    };
    world.disks.insert(id.clone(), disk);
    id
}

/// ReplaceSystemDisk: the old system disk is released, a new one is written from the image.
pub fn replace_system_disk(world: &mut World, call: &Call) -> Answer {
    let parameters = call.parameters;
    let id = parameters.required("InstanceId")?.to_string();
    parameters.required("ImageId")?;
    let found = world.instances.get(&id).cloned();
    let instance = found.ok_or_else(|| Refusal::not_found("InvalidInstanceId.NotFound"))?;
    let call = Call { region: &instance.region, ..*call };
    own_instance(world, call.region, &id)?;
    refuse_locked(&instance)?;
    if instance.status != "Stopped" {
        let text = "The instance must be Stopped.";
        return Err(Refusal::new(403, "IncorrectInstanceStatus", text));
    }
    let image = image_to_write(world, &call)?;
    let attached =
        world.disks.values().find(|disk| disk.instance_id.as_ref() == Some(&id) && disk.kind == "system");
    let old = attached.cloned().ok_or_else(|| Refusal::not_found("InvalidDiskId.NotFound"))?;
    let size = match parameters.whole("SystemDisk.Size")? {
        None => image.size_gib.max(SYSTEM_DISK_GIB_DEFAULT).max(old.size_gib),
        Some(size) => u32::try_from(size).map_err(|_| Refusal::invalid("SystemDisk.Size"))?,
    };
    if size < old.size_gib.max(image.size_gib) {
        let text = "The system disk must not become smaller.";
        return Err(Refusal::new(403, "InvalidSystemDiskSize.LessThanImageSize", text));
    }
    let snapshot = image.mappings.iter().find(|mapping| mapping.kind == "system");
    let wish = DiskWish {
        category: old.category.clone(),
        performance_level: old.performance_level.clone(),
        size_gib: size,
        snapshot_id: snapshot.map(|mapping| mapping.snapshot_id.clone()).unwrap_or_default(),
        encrypted: parameters.optional_flag("Encrypted")?,
        key_id: parameters.text("KMSKeyId").map(str::to_string),
        system: true,
    };
    let key_id = settle_key(world, call.region, &wish, KeyTable::Image)?;
    world.disks.remove(&old.id);
    let planned = Planned {
        wish,
        size_gib: size,
        key_id,
        device: old.device,
        delete_with_instance: old.delete_with_instance,
        name: old.name,
    };
    let disk_id = insert_disk(world, call.region, &old.zone, &id, &image.id, &planned);
    let seconds = world.plausible_seconds(REPLACE_SECONDS, call.label(&disk_id));
    let pending = world.schedule(seconds, Event::DiskNext(disk_id.clone()));
    if let Some(disk) = world.disks.get_mut(&disk_id) {
        disk.status = "Creating".into();
        disk.pending = pending;
    }
    if let Some(instance) = world.instances.get_mut(&id) {
        instance.image_id = image.id;
    }
    Ok(json!({ "DiskId": disk_id }))
}
