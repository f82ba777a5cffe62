//! Snapshots: CreateSnapshot, CopySnapshot, DescribeSnapshots, DeleteSnapshot.
//!
//! Deliberately no snapshot groups, no automatic snapshot policies and no sharing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::disks::Disk;
use super::key_use::{self, KeyTable};
use super::paging::{self, Sizes};
use super::parameters::{tag_view, tags_match};
use super::refusal::{Answer, Refusal};
use super::world::{Call, Event, Moment, World, iso};

/// Simulated seconds that a snapshot takes per GiB.
const SNAPSHOT_SECONDS_PER_GIB: f64 = 1.0;
/// The most manual snapshots of one disk.
const SNAPSHOTS_PER_DISK_MAX: usize = 256;
/// Simulated seconds that a copy of a snapshot takes per GiB.
const COPY_SECONDS_PER_GIB: f64 = 2.0;

/// A snapshot of a disk, or one that an image copy has made.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Snapshot {
    /// `s-…`.
    pub id: String,
    /// The region that holds it.
    pub region: String,
    /// The name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// `progressing`, `accomplished`, `failed`, or whatever a test has set.
    pub status: String,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// The key, if encrypted; the service key's id too.
    pub key_id: Option<String>,
    /// The size of the disk behind it, in GiB.
    pub size_gib: u32,
    /// The disk, which may be gone.
    pub source_disk_id: String,
    /// `system` or `data`.
    pub source_disk_kind: String,
    /// The snapshot that it is a copy of, or empty.
    pub source_snapshot_id: String,
    /// `user` or `auto`.
    pub snapshot_type: String,
    /// Days until it is deleted; 0 means never.
    pub retention_days: i64,
    /// When the creating call was accepted.
    pub created: Moment,
    /// How long the creation takes, in simulated seconds.
    pub seconds: f64,
    /// Own tags.
    pub tags: BTreeMap<String, String>,
    /// The resource group, often empty.
    pub resource_group_id: String,
    /// The event that may change it next; 0 stands for none.
    pub pending: u64,
}

impl Snapshot {
    /// A snapshot of `disk` that has just begun; it inherits the disk's key.
    pub fn of_disk(disk: &Disk, id: &str, now: Moment) -> Snapshot {
        Snapshot {
            id: id.into(),
            region: disk.region.clone(),
            status: "progressing".into(),
            encrypted: disk.encrypted,
            key_id: disk.key_id.clone(),
            size_gib: disk.size_gib,
            source_disk_id: disk.id.clone(),
            source_disk_kind: disk.kind.clone(),
            snapshot_type: "user".into(),
            created: now,
            ..Snapshot::default()
        }
    }

    fn progress(&self, now: Moment) -> u32 {
        if self.status == "accomplished" {
            return 100;
        }
        let share = (now - self.created) as f64 / (self.seconds * 1000.0).max(1.0);
        (share * 100.0).clamp(0.0, 99.0) as u32
    }

    fn usage(&self, world: &World) -> &'static str {
        let image = world
            .images
            .values()
            .any(|image| image.mappings.iter().any(|entry| entry.snapshot_id == self.id));
        let disk = world.disks.values().any(|disk| disk.source_snapshot_id == self.id);
        match (image, disk) {
            (true, true) => "image_disk",
            (true, false) => "image",
            (false, true) => "disk",
            (false, false) => "none",
        }
    }

    fn view(&self, world: &World) -> Value {
        let passed = (world.now - self.created) as f64 / 1000.0;
        let left = if self.status == "progressing" { (self.seconds - passed).max(0.0) as i64 } else { 0 };
        let mut view = json!({
            "SnapshotId": self.id,
            "SnapshotName": self.name,
            "Description": self.description,
            "Status": self.status,
            "Available": self.status == "accomplished",
            "Progress": format!("{}%", self.progress(world.now)),
            "RemainTime": left,
            "Encrypted": self.encrypted,
            "KMSKeyId": self.key_id.clone().unwrap_or_default(),
            "SourceDiskId": self.source_disk_id,
            "SourceDiskSize": self.size_gib.to_string(),
            "SourceDiskType": self.source_disk_kind,
            "SourceSnapshotId": self.source_snapshot_id,
            "SourceStorageType": "disk",
            "SnapshotType": self.snapshot_type,
            "Usage": self.usage(world),
            "Category": "standard",
            "InstantAccess": false,
            "ProductCode": "",
            "RegionId": self.region,
            "ResourceGroupId": self.resource_group_id,
            "CreationTime": iso(self.created),
            "LastModifiedTime": iso(self.created),
            "Tags": tag_view(&self.tags),
        });
        if self.retention_days > 0 {
            view["RetentionDays"] = json!(self.retention_days);
        }
        view
    }
}

/// DescribeSnapshots.
pub fn describe(world: &mut World, call: &Call) -> Answer {
    let parameters = call.parameters;
    let ids = parameters.json_list("SnapshotIds", 100, "InvalidSnapshotIds.Malformed")?;
    let tags = parameters.tag_filters();
    // assumption: encrypted-filter-false
    let encrypted_only = parameters.flag("Encrypted")?;
    let is = |name: &str, value: &str, any: &str| {
        parameters.text(name).is_none_or(|want| want == value || want == any)
    };
    let on_instance = |snapshot: &Snapshot| {
        parameters.text("InstanceId").is_none_or(|wanted| {
            let disk = world.disks.get(&snapshot.source_disk_id);
            disk.is_some_and(|disk| disk.instance_id.as_deref() == Some(wanted))
        })
    };
    let matching = world.snapshots.values().filter(|snapshot| {
        snapshot.region == call.region
            && world.listed(snapshot.created)
            && ids.as_ref().is_none_or(|ids| ids.contains(&snapshot.id))
            && (!encrypted_only || snapshot.encrypted)
            // assumption: key-filter-of-listings
            && is("KMSKeyId", snapshot.key_id.as_deref().unwrap_or_default(), "")
            && is("DiskId", &snapshot.source_disk_id, "")
            && is("Status", &snapshot.status, "all")
            && is("SnapshotType", &snapshot.snapshot_type, "all")
            && is("SourceDiskType", &snapshot.source_disk_kind, "")
            && is("SnapshotName", &snapshot.name, "")
            && parameters.text("Usage").is_none_or(|wanted| wanted == snapshot.usage(world))
            && on_instance(snapshot)
            && tags_match(&snapshot.tags, &tags)
    });
    let items: Vec<Value> = matching.map(|snapshot| snapshot.view(world)).collect();
    let sizes = Sizes { minimum: 1, maximum: 100, default: 10 };
    Ok(paging::by_token(parameters, items, "SnapshotId", sizes)?.body("Snapshots", "Snapshot"))
}

/// CreateSnapshot. The snapshot takes over the disk's encryption and key.
pub fn create(world: &mut World, call: &Call) -> Answer {
    let parameters = call.parameters;
    let disk_id = parameters.required("DiskId")?;
    let found = world.disks.get(disk_id).filter(|disk| disk.region == call.region);
    let disk = found.cloned().ok_or_else(|| Refusal::not_found("InvalidDiskId.NotFound"))?;
    check_retention(parameters.whole("RetentionDays")?)?;
    let name = parameters.text("SnapshotName").unwrap_or_default();
    if name.starts_with("auto")
        || name.starts_with("http")
        || name.chars().count() == 1
        || name.chars().count() > 128
    {
        return Err(Refusal::new(
            400,
            "InvalidSnapshotName.Malformed",
            "The specified snapshot name is not valid.",
        ));
    }
    let tags = parameters.tags()?;
    match disk.status.as_str() {
        "In_use" => {}
        "Available" if disk.ever_attached => {}
        "Available" => {
            let text = "The disk has never been attached.";
            return Err(Refusal::new(403, "IncorrectDiskStatus.NeverAttached", text));
        }
        _ => return Err(Refusal::new(403, "IncorrectDiskStatus", "The disk's status does not allow this.")),
    }
    let being_made =
        |snapshot: &Snapshot| snapshot.source_disk_id == disk.id && snapshot.status == "progressing";
    if world.snapshots.values().any(being_made) {
        let text = "A previous snapshot of the disk is in process.";
        return Err(Refusal::new(403, "IncorrectDiskStatus.CreatingSnapshot", text));
    }
    refuse_too_many(world, &disk)?;
    if let Some(key_id) = &disk.key_id {
        key_use::use_key(world, call.region, key_id, KeyTable::Snapshot)?;
    }
    let id = world.names.ecs_id("s", call.region);
    let seconds =
        world.plausible_seconds(SNAPSHOT_SECONDS_PER_GIB * f64::from(disk.size_gib), call.label(&id));
    let snapshot = Snapshot {
        name: name.to_string(),
        description: parameters.text("Description").unwrap_or_default().to_string(),
        retention_days: parameters.whole("RetentionDays")?.unwrap_or(0),
        tags,
        seconds,
        pending: world.schedule(seconds, Event::SnapshotDone(id.clone())),
        ..Snapshot::of_disk(&disk, &id, world.now)
    };
    world.snapshots.insert(id.clone(), snapshot);
    Ok(json!({ "SnapshotId": id }))
}

/// The limits on the snapshots of one disk, and on those that are made at once.
fn refuse_too_many(world: &World, disk: &Disk) -> Result<(), Refusal> {
    let of_disks = || world.snapshots.values().filter(|snapshot| snapshot.source_snapshot_id.is_empty());
    let of_this =
        of_disks().filter(|snapshot| snapshot.source_disk_id == disk.id && snapshot.snapshot_type == "user");
    if of_this.count() >= SNAPSHOTS_PER_DISK_MAX {
        // assumption: snapshots-per-disk-code
        return Err(Refusal::new(
            403,
            "QuotaExceed.Snapshot",
            "The disk has as many snapshots as it may have.",
        ));
    }
    let limit = world.settings.concurrent_snapshots;
    let being_made =
        |snapshot: &&Snapshot| snapshot.region == disk.region && snapshot.status == "progressing";
    if limit > 0 && of_disks().filter(being_made).count() >= limit {
        let text = "Too many snapshots are being made at once.";
        return Err(Refusal::new(403, "QuotaExceed.ConcurrentSnapshotQuota", text));
    }
    Ok(())
}

/// CopySnapshot, within a region only to change the encryption.
pub fn copy(world: &mut World, call: &Call) -> Answer {
    let parameters = call.parameters;
    let source = own_snapshot(world, call.region, parameters.required("SnapshotId")?)?.clone();
    let destination = parameters.required("DestinationRegionId")?.to_string();
    let name = parameters.required("DestinationSnapshotName")?.to_string();
    let description = parameters.required("DestinationSnapshotDescription")?.to_string();
    check_retention(parameters.whole("RetentionDays")?)?;
    let tags = parameters.tags()?;
    if !super::topology::region_exists(&destination) {
        return Err(Refusal::not_found("InvalidDestinationRegionId.NotFound"));
    }
    if source.status != "accomplished" {
        return Err(Refusal::new(403, "InvalidSnapshotId.NotReady", "The specified snapshot is not ready."));
    }
    let key_id = key_of_copy(world, call, &source, &destination)?;
    let id = world.names.ecs_id("s", &destination);
    let seconds = world.plausible_seconds(COPY_SECONDS_PER_GIB * f64::from(source.size_gib), call.label(&id));
    let snapshot = Snapshot {
        id: id.clone(),
        region: destination,
        name,
        description,
        status: "progressing".into(),
        encrypted: key_id.is_some(),
        key_id,
        source_snapshot_id: source.id.clone(),
        snapshot_type: "user".into(),
        retention_days: parameters.whole("RetentionDays")?.unwrap_or(0),
        created: world.now,
        seconds,
        tags,
        pending: world.schedule(seconds, Event::SnapshotDone(id.clone())),
        ..source
    };
    world.snapshots.insert(id.clone(), snapshot);
    Ok(json!({ "SnapshotId": id }))
}

fn key_of_copy(
    world: &mut World,
    call: &Call,
    source: &Snapshot,
    destination: &str,
) -> Result<Option<String>, Refusal> {
    let named = call.parameters.text("KMSKeyId").map(str::to_string);
    if !call.parameters.flag("Encrypted")? {
        return match (named, source.encrypted, destination == call.region) {
            (Some(_), _, _) => {
                let text = "KMSKeyId needs Encrypted to be true.";
                Err(Refusal::new(403, "InvalidEncrypted.NotMatchKmsKeyId", text))
            }
            (None, true, _) => {
                let text = "An encrypted snapshot cannot be copied to a plain one.";
                Err(Refusal::new(403, "InvalidEncrypted.NotSupportDecrypt", text))
            }
            (None, false, true) => {
                let text = "A snapshot cannot be copied within its region.";
                Err(Refusal::new(403, "InvalidOperation.NotSupportCopyInSameRegion", text))
            }
            (None, false, false) => Ok(None),
        };
    }
    let key_id = match named {
        Some(key_id) => key_id,
        None => key_use::unnamed_key(world, destination),
    };
    key_use::use_key(world, destination, &key_id, KeyTable::SnapshotCopy)?;
    Ok(Some(key_id))
}

fn check_retention(days: Option<i64>) -> Result<(), Refusal> {
    if days.is_none_or(|days| (1..=65_536).contains(&days)) {
        Ok(())
    } else {
        Err(Refusal::invalid("RetentionDays"))
    }
}

/// DeleteSnapshot.
pub fn delete(world: &mut World, call: &Call) -> Answer {
    let id = call.parameters.required("SnapshotId")?.to_string();
    let snapshot =
        world.snapshots.get(&id).ok_or_else(|| Refusal::not_found("InvalidSnapshotId.NotFound"))?;
    match snapshot.usage(world) {
        "image" | "image_disk" => {
            let text = "The snapshot is used by an image.";
            Err(Refusal::new(403, "SnapshotCreatedImage", text))
        }
        "disk" if !call.parameters.flag("Force")? => {
            let text = "The snapshot was used to create a disk; pass Force to delete it.";
            Err(Refusal::new(403, "SnapshotCreatedDisk", text))
        }
        _ => {
            world.snapshots.remove(&id);
            Ok(json!({}))
        }
    }
}

/// The snapshot `id` of `region`.
pub fn own_snapshot<'a>(world: &'a World, region: &str, id: &str) -> Result<&'a Snapshot, Refusal> {
    let found = world.snapshots.get(id).filter(|snapshot| snapshot.region == region);
    found.ok_or_else(|| Refusal::not_found("InvalidSnapshotId.NotFound"))
}

impl World {
    /// The end of a snapshot.
    pub fn finish_snapshot(&mut self, id: &str, number: u64) {
        if let Some(snapshot) = self.snapshots.get_mut(id).filter(|snapshot| snapshot.pending == number) {
            snapshot.status = "accomplished".into();
        }
    }
}
