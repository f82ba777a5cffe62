//! How images come into being: CopyImage with its queue, CancelCopyImage and CreateImage.
//!
//! Deliberately no resumption: a copy that fails stays `CreateFailed` until somebody deletes it.

use serde_json::json;

use super::images::{CopyJob, Image, Mapping, check_name, own_image};
use super::key_use::{self, KeyTable};
use super::refusal::{Answer, Refusal};
use super::snapshots::Snapshot;
use super::world::{Call, Event, World};

/// Simulated seconds that a copy within a region takes per GiB of all its disks.
const COPY_SECONDS_PER_GIB: f64 = 3.0;
/// Simulated seconds that CreateImage takes per GiB.
const CREATE_SECONDS_PER_GIB: f64 = 1.0;
/// How much longer a copy into another region takes.
const ACROSS_REGIONS_FACTOR: f64 = 2.0;

/// CopyImage. Answers at once; the copy waits for one of the places of the destination region and then runs.
pub fn copy(world: &mut World, call: &Call) -> Answer {
    let parameters = call.parameters;
    let source_id = parameters.required("ImageId")?.to_string();
    let destination = parameters.text("DestinationRegionId").unwrap_or(call.region).to_string();
    if !super::topology::region_exists(&destination) {
        // assumption: destination-region-code
        let text = "The specified destination region does not exist.";
        return Err(Refusal::new(400, "IncorrectDestinationRegion", text));
    }
    let name = parameters.text("DestinationImageName").unwrap_or_default().to_string();
    if !name.is_empty() {
        check_name(world, &destination, &name, "")?;
    }
    check_description(parameters.text("DestinationDescription"))?;
    let tags = parameters.tags()?;
    let source = own_image(world, call.region, &source_id)?.clone();
    check_source(world, &source)?;
    let key_id = key_of_copy(world, call, &source, &destination)?;
    check_room(world, &destination)?;
    if parameters.flag("DryRun")? {
        return Err(Refusal::dry_run());
    }
    let id = world.names.ecs_id("m", &destination);
    let gib: u32 = source.mappings.iter().map(|mapping| mapping.size_gib).sum();
    let factor = if destination == call.region { 1.0 } else { ACROSS_REGIONS_FACTOR };
    let seconds = world.plausible_seconds(COPY_SECONDS_PER_GIB * factor * f64::from(gib), call.label(&id));
    let order = world.images.values().filter_map(|image| image.copy.as_ref()).map(|job| job.order).max();
    let job = CopyJob {
        source_id,
        plan: source.mappings.clone(),
        key_id,
        seconds,
        began: None,
        order: order.unwrap_or(0) + 1,
    };
    let image = Image {
        // assumption: copy-without-name
        name: if name.is_empty() { id.clone() } else { name },
        id: id.clone(),
        region: destination.clone(),
        description: parameters.text("DestinationDescription").unwrap_or_default().to_string(),
        status: "Waiting".into(),
        owner_alias: "self".into(),
        is_copied: true,
        created: world.now,
        tags,
        resource_group_id: parameters.text("ResourceGroupId").unwrap_or_default().to_string(),
        mappings: Vec::new(),
        copy: Some(job),
        pending: 0,
        ..source
    };
    world.images.insert(id.clone(), image);
    world.start_waiting_copies(&destination);
    Ok(json!({ "ImageId": id }))
}

fn check_source(world: &World, source: &Image) -> Result<(), Refusal> {
    if source.status != "Available" {
        let text = "The status of the image does not support this operation.";
        return Err(Refusal::new(403, "IncorrectImageStatus", text));
    }
    // assumption: size-limit-of-copies
    if source.size_gib > world.settings.image_size_limit_gib {
        return Err(Refusal::new(403, "SizeExceed.Image", "The image is too large to be copied."));
    }
    let being_copied =
        world.images.values().any(|image| image.copy.as_ref().is_some_and(|job| job.source_id == source.id));
    if being_copied {
        return Err(Refusal::new(
            403,
            "OperationDenied.ImageCopying",
            "The specified image is being copied.",
        ));
    }
    Ok(())
}

/// The key under which the copy is written; `None` for a plain copy.
fn key_of_copy(
    world: &mut World,
    call: &Call,
    source: &Image,
    destination: &str,
) -> Result<Option<String>, Refusal> {
    let encrypted = call.parameters.flag("Encrypted")?;
    let named = call.parameters.text("KMSKeyId").map(str::to_string);
    let source_key = source.mappings.iter().find_map(|mapping| {
        world.snapshots.get(&mapping.snapshot_id).and_then(|snapshot| snapshot.key_id.clone())
    });
    if !encrypted {
        if named.is_some() {
            let text = "KMSKeyId needs Encrypted to be true.";
            return Err(Refusal::new(400, "InvalidEncrypted.NotMatchKmsKeyId", text));
        }
        if source_key.is_some() {
            let text = "An encrypted snapshot cannot be copied to a plain one.";
            return Err(Refusal::new(403, "OperationDeined.EncryptedSnapshot", text));
        }
        if destination == call.region {
            // assumption: same-region-copy
            let text = "A copy within a region must change the encryption.";
            return Err(Refusal::new(400, "IncorrectDestinationRegion", text));
        }
        return Ok(None);
    }
    if destination != call.region && source_key.is_none() {
        let text = "A plain image cannot be encrypted while it is copied across regions.";
        return Err(Refusal::new(403, "OperationDenied.EncryptSnapshotAcrossRegion", text));
    }
    // The source's own key serves an unnamed copy, but only where that key lives.
    let key_id = match named.or_else(|| source_key.filter(|_| destination == call.region)) {
        Some(key_id) => key_id,
        None => key_use::unnamed_key(world, destination),
    };
    key_use::use_key(world, destination, &key_id, KeyTable::Image)?;
    Ok(Some(key_id))
}

fn check_room(world: &World, region: &str) -> Result<(), Refusal> {
    if world.settings.arrears {
        return Err(Refusal::new(400, "Account.Arrearage", "Your account has an outstanding payment."));
    }
    let own =
        world.images.values().filter(|image| image.region == region && image.owner_alias == "self").count();
    if own >= world.settings.image_quota {
        return Err(Refusal::new(403, "QuotaExceed.Image", "The image quota of the region is exhausted."));
    }
    Ok(())
}

/// Descriptions are 2 to 256 characters and no address.
pub fn check_description(description: Option<&str>) -> Result<(), Refusal> {
    let valid = description.is_none_or(|text| {
        (2..=256).contains(&text.chars().count())
            && !text.starts_with("http://")
            && !text.starts_with("https://")
    });
    // assumption: description-code
    let refusal =
        || Refusal::new(400, "InvalidDescription.Malformed", "The specified description is not valid.");
    if valid { Ok(()) } else { Err(refusal()) }
}

/// CancelCopyImage: removes the unfinished copy and its snapshots.
pub fn cancel(world: &mut World, call: &Call) -> Answer {
    let id = call.parameters.required("ImageId")?.to_string();
    let image = own_image(world, call.region, &id)?;
    if !image.is_copied {
        let text = "The specified image was not created by a copy.";
        return Err(Refusal::new(400, "ImageCreatedNotFromCopy", text));
    }
    if image.copy.is_none() {
        // assumption: cancel-finished-copy
        return Err(Refusal::new(
            403,
            "IncorrectImageStatus",
            "The copy is complete and cannot be cancelled.",
        ));
    }
    let snapshots: Vec<String> = image.mappings.iter().map(|mapping| mapping.snapshot_id.clone()).collect();
    let region = image.region.clone();
    world.images.remove(&id);
    for snapshot in snapshots {
        world.snapshots.remove(&snapshot);
    }
    world.start_waiting_copies(&region);
    Ok(json!({}))
}

/// CreateImage from an instance, from snapshots by device, or from one system disk snapshot.
pub fn create(world: &mut World, call: &Call) -> Answer {
    let parameters = call.parameters;
    let name = parameters.text("ImageName").unwrap_or_default().to_string();
    if !name.is_empty() {
        check_name(world, call.region, &name, "")?;
    }
    let tags = parameters.tags()?;
    let plan = plan_of_creation(world, call)?;
    check_room(world, call.region)?;
    if parameters.flag("DryRun")? {
        return Err(Refusal::dry_run());
    }
    let id = world.names.ecs_id("m", call.region);
    let system = plan.iter().find(|mapping| mapping.kind == "system").map_or(0, |mapping| mapping.size_gib);
    let gib: u32 = plan.iter().map(|mapping| mapping.size_gib).sum();
    let seconds = world.plausible_seconds(CREATE_SECONDS_PER_GIB * f64::from(gib), call.label(&id));
    let pending = world.schedule(seconds, Event::ImageDone(id.clone()));
    let job = CopyJob {
        source_id: String::new(),
        plan: plan.clone(),
        key_id: None,
        seconds,
        began: Some(world.now),
        order: 0,
    };
    let image = Image {
        name: if name.is_empty() { id.clone() } else { name },
        id: id.clone(),
        region: call.region.to_string(),
        description: parameters.text("Description").unwrap_or_default().to_string(),
        family: parameters.text("ImageFamily").unwrap_or_default().to_string(),
        status: "Creating".into(),
        owner_alias: "self".into(),
        created: world.now,
        tags,
        size_gib: system,
        mappings: plan,
        platform: parameters.text("Platform").unwrap_or("Aliyun").to_string(),
        os_name: "Alibaba Cloud Linux 3.2104 LTS 64 bit".into(),
        copy: Some(job),
        pending,
        ..Image::default()
    };
    world.images.insert(id.clone(), image);
    Ok(json!({ "ImageId": id }))
}

/// The disks of the new image. Disks of an instance are snapshotted here and now.
fn plan_of_creation(world: &mut World, call: &Call) -> Result<Vec<Mapping>, Refusal> {
    let parameters = call.parameters;
    if let Some(instance_id) = parameters.text("InstanceId") {
        return snapshot_instance(world, call, instance_id);
    }
    let listed = parameters.objects("DiskDeviceMapping");
    if listed.is_empty() {
        let id = parameters.required("SnapshotId")?.to_string();
        return Ok(vec![mapping_of(world, call.region, &id, "system", "/dev/xvda")?]);
    }
    let mut plan = Vec::new();
    for (index, entry) in listed.iter().enumerate() {
        let kind = entry.text("DiskType").unwrap_or(if index == 0 { "system" } else { "data" }).to_string();
        let letter = char::from(b'a' + (index % 26) as u8);
        let device = entry.text("Device").map_or_else(|| format!("/dev/xvd{letter}"), str::to_string);
        plan.push(mapping_of(world, call.region, entry.required("SnapshotId")?, &kind, &device)?);
    }
    Ok(plan)
}

fn mapping_of(world: &World, region: &str, id: &str, kind: &str, device: &str) -> Result<Mapping, Refusal> {
    let snapshot = super::snapshots::own_snapshot(world, region, id)?;
    if snapshot.status != "accomplished" {
        return Err(Refusal::new(403, "InvalidSnapshotId.NotReady", "The specified snapshot is not ready."));
    }
    let size_gib = snapshot.size_gib;
    Ok(Mapping { device: device.into(), kind: kind.into(), size_gib, snapshot_id: id.into() })
}

fn snapshot_instance(world: &mut World, call: &Call, instance_id: &str) -> Result<Vec<Mapping>, Refusal> {
    let instance = super::instances::own_instance(world, call.region, instance_id)?;
    if !matches!(instance.status.as_str(), "Running" | "Stopped") {
        return Err(Refusal::new(403, "IncorrectInstanceStatus", "The instance must be Running or Stopped."));
    }
    let mut disks: Vec<super::disks::Disk> = world
        .disks
        .values()
        .filter(|disk| disk.instance_id.as_deref() == Some(instance_id))
        .cloned()
        .collect();
    disks.sort_by(|left, right| right.kind.cmp(&left.kind).then(left.device.cmp(&right.device)));
    for disk in &disks {
        if let Some(key_id) = &disk.key_id {
            key_use::use_key(world, call.region, key_id, KeyTable::Image)?;
        }
    }
    let mut plan = Vec::new();
    for disk in disks {
        let snapshot_id = world.names.ecs_id("s", call.region);
        let snapshot = Snapshot::of_disk(&disk, &snapshot_id, world.now);
        world.snapshots.insert(snapshot_id.clone(), snapshot);
        plan.push(Mapping { device: disk.device, kind: disk.kind, size_gib: disk.size_gib, snapshot_id });
    }
    Ok(plan)
}

impl World {
    /// Starts waiting copies of `region` in the order of their arrival while there is room.
    pub fn start_waiting_copies(&mut self, region: &str) {
        let here = |image: &&Image| image.region == region && image.is_copied && image.copy.is_some();
        let running = self.images.values().filter(here).filter(|image| image.status == "Creating").count();
        let mut waiting: Vec<(u64, String)> = self
            .images
            .values()
            .filter(here)
            .filter(|image| image.status == "Waiting")
            .filter_map(|image| image.copy.as_ref().map(|job| (job.order, image.id.clone())))
            .collect();
        waiting.sort();
        let places = self.settings.concurrent_copies.saturating_sub(running);
        for (_, id) in waiting.into_iter().take(places) {
            self.start_copy(&id);
        }
    }

    fn start_copy(&mut self, id: &str) {
        let Some(image) = self.images.get(id).cloned() else { return };
        let Some(mut job) = image.copy.clone() else { return };
        let mut mappings = Vec::new();
        for mapping in &job.plan {
            let snapshot_id = self.names.ecs_id("s", &image.region);
            let origin = self.snapshots.get(&mapping.snapshot_id).cloned().unwrap_or_default();
            let snapshot = Snapshot {
                id: snapshot_id.clone(),
                region: image.region.clone(),
                name: format!("CopyImage-{id}"),
                status: "progressing".into(),
                encrypted: job.key_id.is_some(),
                key_id: job.key_id.clone(),
                size_gib: mapping.size_gib,
                source_disk_kind: mapping.kind.clone(),
                source_snapshot_id: mapping.snapshot_id.clone(),
                source_disk_id: origin.source_disk_id,
                snapshot_type: "user".into(),
                created: self.now,
                seconds: job.seconds,
                ..Snapshot::default()
            };
            self.snapshots.insert(snapshot_id.clone(), snapshot);
            mappings.push(Mapping { snapshot_id, ..mapping.clone() });
        }
        let pending = self.schedule(job.seconds, Event::ImageDone(id.to_string()));
        job.began = Some(self.now);
        if let Some(image) = self.images.get_mut(id) {
            image.mappings = mappings;
            image.status = "Creating".into();
            image.copy = Some(job);
            image.pending = pending;
        }
    }

    /// The end of a copy or a creation.
    pub fn finish_image(&mut self, id: &str, number: u64) {
        let Some(image) = self.images.get(id).filter(|image| image.pending == number) else { return };
        let region = image.region.clone();
        let key_id = image.copy.as_ref().and_then(|job| job.key_id.clone());
        // assumption: key-lost-during-copy
        let lost = key_id.is_some_and(|key_id| key_use::trouble(self, &region, &key_id).is_some());
        let Some(image) = self.images.get_mut(id) else { return };
        image.status = if lost { "CreateFailed" } else { "Available" }.into();
        image.copy = None;
        let snapshots: Vec<String> =
            image.mappings.iter().map(|mapping| mapping.snapshot_id.clone()).collect();
        for snapshot in snapshots {
            if let Some(snapshot) = self.snapshots.get_mut(&snapshot) {
                snapshot.status = if lost { "failed" } else { "accomplished" }.into();
            }
        }
        self.start_waiting_copies(&region);
    }
}
