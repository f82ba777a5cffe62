//! Disks: what they are, how DescribeDisks shows them, and the calls on an existing disk.
//!
//! Deliberately not here: CreateDisk, which has rules enough for a file of its own (`disk_creation`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::key_use::{self, KeyTable};
use super::paging::{self, Sizes};
use super::parameters::{Parameters, tag_view, tags_match};
use super::refusal::{Answer, Refusal};
use super::world::{Call, Event, Moment, World, iso};

/// Simulated seconds from `Attaching` to `In_use`.
const ATTACH_SECONDS: f64 = 5.0;
/// Simulated seconds from `Detaching` to `Available`: the page of DetachDisk says about a minute.
const DETACH_SECONDS: f64 = 60.0;
/// The most disks on one instance, the system disk included.
const DISKS_PER_INSTANCE_MAX: usize = 17;

/// A disk.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Disk {
    /// `d-…`.
    pub id: String,
    /// The region that holds it.
    pub region: String,
    /// The zone that holds it.
    pub zone: String,
    /// The name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// `Creating`, `Available`, `Attaching`, `In_use`, `Detaching`, `ReIniting`, or whatever a test has set.
    pub status: String,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// The key, if encrypted; the service key's id too.
    pub key_id: Option<String>,
    /// The instance that it is, or is being, attached to.
    pub instance_id: Option<String>,
    /// The device name on that instance.
    pub device: String,
    /// `system` or `data`.
    pub kind: String,
    /// For example `cloud_essd`.
    pub category: String,
    /// `PL0` to `PL3` for `cloud_essd`, empty for others.
    pub performance_level: String,
    /// GiB.
    pub size_gib: u32,
    /// The image of a system disk.
    pub image_id: String,
    /// The snapshot that it was made from, or empty.
    pub source_snapshot_id: String,
    /// Whether it can be detached and kept.
    pub portable: bool,
    /// Whether it goes with its instance.
    pub delete_with_instance: bool,
    /// Whether its automatic snapshots go with it.
    pub delete_auto_snapshot: bool,
    /// Whether automatic snapshots are on.
    pub enable_auto_snapshot: bool,
    /// When the creating call was accepted.
    pub created: Moment,
    /// When it was attached last.
    pub attached: Option<Moment>,
    /// When it was detached last.
    pub detached: Option<Moment>,
    /// True once it was attached to anything.
    pub ever_attached: bool,
    /// Own tags.
    pub tags: BTreeMap<String, String>,
    /// The resource group, often empty.
    pub resource_group_id: String,
    /// Lock reasons, for example `financial` or `security`.
    pub locks: Vec<String>,
    /// The event that may change it next; 0 stands for none.
    pub pending: u64,
}

impl Disk {
    fn view(&self) -> Value {
        let time = |moment: Option<Moment>| moment.map(iso).unwrap_or_default();
        let instance = self.instance_id.clone().unwrap_or_default();
        let attachments: Vec<Value> = match &self.instance_id {
            Some(id) => {
                vec![json!({"InstanceId": id, "Device": self.device, "AttachedTime": time(self.attached)})]
            }
            None => Vec::new(),
        };
        let locks: Vec<Value> = self.locks.iter().map(|reason| json!({ "LockReason": reason })).collect();
        json!({
            "DiskId": self.id,
            "DiskName": self.name,
            "Description": self.description,
            "RegionId": self.region,
            "ZoneId": self.zone,
            "Status": self.status,
            "Encrypted": self.encrypted,
            "KMSKeyId": self.key_id.clone().unwrap_or_default(),
            "InstanceId": instance,
            "Device": self.device,
            "Attachments": {"Attachment": attachments},
            "MountInstances": {"MountInstance": []},
            "MountInstanceNum": 0,
            "Type": self.kind,
            "Category": self.category,
            "PerformanceLevel": self.performance_level,
            "Size": self.size_gib,
            "ImageId": self.image_id,
            "SourceSnapshotId": self.source_snapshot_id,
            "Portable": self.portable,
            "DeleteWithInstance": self.delete_with_instance,
            "DeleteAutoSnapshot": self.delete_auto_snapshot,
            "EnableAutoSnapshot": self.enable_auto_snapshot,
            "EnableAutomatedSnapshotPolicy": false,
            "AutoSnapshotPolicyId": "",
            "DiskChargeType": "PostPaid",
            "MultiAttach": "Disabled",
            "ProductCode": "",
            "ResourceGroupId": self.resource_group_id,
            "SerialNumber": self.id.trim_start_matches("d-"),
            "OperationLocks": {"OperationLock": locks},
            "CreationTime": iso(self.created),
            "AttachedTime": time(self.attached),
            "DetachedTime": time(self.detached),
            "ExpiredTime": "2999-09-08T16:00Z",
            "Tags": tag_view(&self.tags),
        })
    }
}

/// DescribeDisks. All filters must match.
pub fn describe(world: &mut World, call: &Call) -> Answer {
    let parameters = call.parameters;
    let ids = parameters.json_list("DiskIds", 100, "InvalidDiskIds.Malformed")?;
    let tags = parameters.tag_filters();
    let flags = [
        parameters.optional_flag("Portable")?,
        parameters.optional_flag("DeleteWithInstance")?,
        parameters.optional_flag("DeleteAutoSnapshot")?,
        // assumption: encrypted-filter-false
        parameters.optional_flag("Encrypted")?.filter(|wanted| *wanted),
    ];
    let matching = world.disks.values().filter(|disk| {
        disk.region == call.region
            && world.listed(disk.created)
            && ids.as_ref().is_none_or(|ids| ids.contains(&disk.id))
            && matches_filters(disk, parameters, flags)
            && tags_match(&disk.tags, &tags)
    });
    let items: Vec<Value> = matching.map(Disk::view).collect();
    let sizes = Sizes { minimum: 10, maximum: 500, default: 10 };
    Ok(paging::by_token(parameters, items, "DiskId", sizes)?.body("Disks", "Disk"))
}

fn matches_filters(disk: &Disk, parameters: &Parameters, flags: [Option<bool>; 4]) -> bool {
    let is = |name: &str, value: &str, any: &str| {
        parameters.text(name).is_none_or(|want| want == value || want == any)
    };
    let has = [disk.portable, disk.delete_with_instance, disk.delete_auto_snapshot, disk.encrypted];
    flags.iter().zip(has).all(|(wanted, value)| wanted.is_none_or(|wanted| wanted == value))
        // assumption: key-filter-of-listings
        && is("KMSKeyId", disk.key_id.as_deref().unwrap_or_default(), "")
        && is("Status", &disk.status, "All")
        && is("InstanceId", disk.instance_id.as_deref().unwrap_or_default(), "")
        && is("SnapshotId", &disk.source_snapshot_id, "")
        && is("DiskType", &disk.kind, "all")
        && is("Category", &disk.category, "all")
        && is("ZoneId", &disk.zone, "")
        && is("DiskName", &disk.name, "")
        && is("PerformanceLevel", &disk.performance_level, "")
        && is("ResourceGroupId", &disk.resource_group_id, "")
        && parameters.text("LockReason").is_none_or(|wanted| disk.locks.iter().any(|reason| reason == wanted))
}

/// DeleteDisk. Only a disk that is attached to nothing goes.
pub fn delete(world: &mut World, call: &Call) -> Answer {
    let id = call.parameters.required("DiskId")?.to_string();
    // assumption: deleting-what-is-gone
    let disk = own_disk(world, &id)?;
    match disk.status.as_str() {
        "Available" => {}
        "Creating" => {
            return Err(Refusal::new(403, "IncorrectDiskStatus.Initializing", "The disk is being created."));
        }
        "In_use" | "Attaching" | "Detaching" => {
            return Err(Refusal::new(403, "IncorrectDiskStatus", "The disk must be detached first."));
        }
        _ => return Err(Refusal::new(403, "IncorrectDiskStatus", "The disk's status does not allow this.")),
    }
    let busy = |snapshot: &super::snapshots::Snapshot| {
        snapshot.source_disk_id == id
            && snapshot.source_snapshot_id.is_empty()
            && snapshot.status == "progressing"
    };
    if world.snapshots.values().any(busy) {
        return Err(Refusal::new(403, "DiskCreatingSnapshot", "A snapshot of the disk is in process."));
    }
    world.disks.remove(&id);
    Ok(json!({}))
}

/// AttachDisk: `Available` → `Attaching` → `In_use`.
pub fn attach(world: &mut World, call: &Call) -> Answer {
    let parameters = call.parameters;
    let instance_id = parameters.required("InstanceId")?.to_string();
    let disk_id = parameters.required("DiskId")?.to_string();
    let with_instance = parameters.flag("DeleteWithInstance")?;
    let disk = own_disk(world, &disk_id)?.clone();
    let instance = super::instances::own_instance(world, &disk.region, &instance_id)?.clone();
    super::instances::refuse_locked(&instance)?;
    if disk.instance_id.is_some() {
        return Err(Refusal::new(403, "InvalidDisk.InUse", "The disk is attached to an instance."));
    }
    match disk.status.as_str() {
        "Available" => {}
        "Creating" => {
            return Err(Refusal::new(403, "IncorrectDiskStatus.Initializing", "The disk is being created."));
        }
        _ => return Err(Refusal::new(403, "IncorrectDiskStatus", "The disk's status does not allow this.")),
    }
    if disk.zone != instance.zone {
        // assumption: attach-across-zones
        return Err(Refusal::new(
            403,
            "ResourcesNotInSameZone",
            "Disk and instance are not in the same zone.",
        ));
    }
    let ready: &[&str] = if disk.kind == "system" { &["Stopped"] } else { &["Running", "Stopped"] };
    if !ready.contains(&instance.status.as_str()) {
        let text = "The instance's status does not allow this.";
        return Err(Refusal::new(403, "IncorrectInstanceStatus", text));
    }
    let attached =
        world.disks.values().filter(|other| other.instance_id.as_ref() == Some(&instance_id)).count();
    if attached >= DISKS_PER_INSTANCE_MAX {
        return Err(Refusal::new(403, "InstanceDiskLimitExceeded", "The instance has too many disks."));
    }
    if is_full(world, &instance_id, "Attaching", world.settings.concurrent_attachments) {
        let text = "Too many disks are being attached to the instance.";
        return Err(Refusal::new(400, "OperationConflict.DisksAttachingParallellyExceed", text));
    }
    if let Some(key_id) = &disk.key_id {
        key_use::use_key(world, &disk.region, key_id, KeyTable::Attach)?;
    }
    let device = free_device(world, &instance_id, parameters.text("Device"));
    let seconds = world.plausible_seconds(ATTACH_SECONDS, &disk_id);
    let pending = world.schedule(seconds, Event::DiskNext(disk_id.clone()));
    let now = world.now;
    if let Some(disk) = world.disks.get_mut(&disk_id) {
        disk.status = "Attaching".into();
        disk.instance_id = Some(instance_id);
        disk.device = device;
        disk.delete_with_instance = with_instance;
        disk.attached = Some(now);
        disk.pending = pending;
    }
    Ok(json!({}))
}

/// True if as many disks of the instance as may be are in this status.
fn is_full(world: &World, instance_id: &str, status: &str, limit: usize) -> bool {
    let moving = |disk: &&Disk| disk.instance_id.as_deref() == Some(instance_id) && disk.status == status;
    limit > 0 && world.disks.values().filter(moving).count() >= limit
}

/// The device that a new disk of `instance_id` gets.
pub fn free_device(world: &World, instance_id: &str, wished: Option<&str>) -> String {
    let taken: Vec<&str> = world
        .disks
        .values()
        .filter(|disk| disk.instance_id.as_deref() == Some(instance_id))
        .map(|disk| disk.device.as_str())
        .collect();
    let free =
        ('b'..='z').map(|letter| format!("/dev/xvd{letter}")).find(|name| !taken.contains(&name.as_str()));
    match wished.filter(|name| !taken.contains(name)) {
        Some(name) => name.to_string(),
        None => free.unwrap_or_else(|| "/dev/xvdz".into()),
    }
}

/// DetachDisk: `In_use` → `Detaching` → `Available`. Asks for no key.
pub fn detach(world: &mut World, call: &Call) -> Answer {
    let instance_id = call.parameters.required("InstanceId")?.to_string();
    let disk_id = call.parameters.required("DiskId")?.to_string();
    let with_instance = call.parameters.optional_flag("DeleteWithInstance")?;
    let disk = own_disk(world, &disk_id)?.clone();
    let instance = super::instances::own_instance(world, &disk.region, &instance_id)?.clone();
    super::instances::refuse_locked(&instance)?;
    match disk.instance_id.as_deref() {
        None => {
            return Err(Refusal::new(404, "InvalidDisk.AlreadyDetached", "The disk is detached already."));
        }
        Some(other) if other != instance_id => {
            return Err(Refusal::new(
                403,
                "DependencyViolation",
                "The disk is not attached to this instance.",
            ));
        }
        Some(_) => {}
    }
    if disk.status == "Detaching" {
        let text = "The disk is being detached from this instance.";
        return Err(Refusal::new(403, "InvalidOperation.DiskDetachingFromThisEcs", text));
    }
    if disk.status != "In_use" {
        return Err(Refusal::new(403, "IncorrectDiskStatus", "The disk's status does not allow this."));
    }
    if !disk.portable {
        return Err(Refusal::new(403, "DiskNotPortable", "The disk is not portable."));
    }
    let ready: &[&str] = if disk.kind == "system" { &["Stopped"] } else { &["Running", "Stopped"] };
    if !ready.contains(&instance.status.as_str()) {
        let text = "The instance's status does not allow this.";
        return Err(Refusal::new(403, "IncorrectInstanceStatus", text));
    }
    if is_full(world, &instance_id, "Detaching", world.settings.concurrent_detachments) {
        let text = "Too many disks are being detached from the instance.";
        return Err(Refusal::new(400, "DisksDetachingOnEcsExceeded", text));
    }
    let seconds = world.plausible_seconds(DETACH_SECONDS, &disk_id);
    let pending = world.schedule(seconds, Event::DiskNext(disk_id.clone()));
    if let Some(disk) = world.disks.get_mut(&disk_id) {
        disk.status = "Detaching".into();
        disk.delete_with_instance = with_instance.unwrap_or(disk.kind == "system");
        disk.pending = pending;
    }
    Ok(json!({}))
}

/// ModifyDiskAttribute on one disk (`DiskId`) or several (`DiskIds.N`). Encryption cannot be changed.
pub fn modify(world: &mut World, call: &Call) -> Answer {
    let parameters = call.parameters;
    let mut ids = parameters.list("DiskIds");
    match (parameters.text("DiskId"), ids.is_empty()) {
        (Some(id), true) => ids.push(id.to_string()),
        (None, false) => {}
        (None, true) => return Err(Refusal::missing("DiskId")),
        (Some(_), false) => return Err(Refusal::invalid("DiskIds")),
    }
    for id in &ids {
        own_disk(world, id)?;
    }
    let with_instance = parameters.optional_flag("DeleteWithInstance")?;
    let auto_delete = parameters.optional_flag("DeleteAutoSnapshot")?;
    let auto_enable = parameters.optional_flag("EnableAutoSnapshot")?;
    for id in &ids {
        let Some(disk) = world.disks.get_mut(id) else { continue };
        if let Some(name) = parameters.text("DiskName") {
            disk.name = name.to_string();
        }
        if let Some(description) = parameters.text("Description") {
            disk.description = description.to_string();
        }
        disk.delete_with_instance = with_instance.unwrap_or(disk.delete_with_instance);
        disk.delete_auto_snapshot = auto_delete.unwrap_or(disk.delete_auto_snapshot);
        disk.enable_auto_snapshot = auto_enable.unwrap_or(disk.enable_auto_snapshot);
    }
    Ok(json!({}))
}

/// ResizeDisk. Sizes only grow.
pub fn resize(world: &mut World, call: &Call) -> Answer {
    let id = call.parameters.required("DiskId")?.to_string();
    call.parameters.required("NewSize")?;
    let size = call.parameters.whole("NewSize")?.unwrap_or(0);
    let disk = own_disk(world, &id)?.clone();
    if size <= i64::from(disk.size_gib) || size > 65_536 {
        // assumption: resize-size-code
        return Err(Refusal::new(
            403,
            "InvalidDiskSize.TooSmall",
            "The new size must exceed the current one.",
        ));
    }
    if !matches!(disk.status.as_str(), "Available" | "In_use") {
        return Err(Refusal::new(403, "IncorrectDiskStatus", "The disk's status does not allow this."));
    }
    if let Some(key_id) = &disk.key_id {
        key_use::use_key(world, &disk.region, key_id, KeyTable::Disk)?;
    }
    if let Some(disk) = world.disks.get_mut(&id) {
        disk.size_gib = u32::try_from(size).unwrap_or(disk.size_gib);
    }
    Ok(json!({"OrderId": ""}))
}

/// The disk `id`, wherever it is: ids are unique over all regions.
pub fn own_disk<'a>(world: &'a World, id: &str) -> Result<&'a Disk, Refusal> {
    world.disks.get(id).ok_or_else(|| Refusal::not_found("InvalidDiskId.NotFound"))
}

impl World {
    /// The next step of a disk's life.
    pub fn step_disk(&mut self, id: &str, number: u64) {
        let now = self.now;
        let Some(disk) = self.disks.get_mut(id).filter(|disk| disk.pending == number) else { return };
        match disk.status.as_str() {
            "Creating" if disk.instance_id.is_none() => disk.status = "Available".into(),
            "Creating" | "Attaching" => {
                disk.status = "In_use".into();
                disk.ever_attached = true;
            }
            "Detaching" => {
                // assumption: times-of-attachment
                disk.status = "Available".into();
                disk.instance_id = None;
                disk.device.clear();
                disk.detached = Some(now);
            }
            _ => {}
        }
    }
}
