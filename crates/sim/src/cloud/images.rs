//! Images: what they are, how DescribeImages shows them, and the calls that change or delete them.
//!
//! Deliberately not here: how images come into being (`image_copies`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::paging::{self, Sizes};
use super::parameters::{Parameters, tag_view, tags_match};
use super::refusal::{Answer, Refusal};
use super::world::{Call, Moment, World, iso};

/// An image, own or public.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Image {
    /// `m-…` for own images, a file name for public ones.
    pub id: String,
    /// The region that holds it.
    pub region: String,
    /// The name, unique among the own images of a region.
    pub name: String,
    /// Free text.
    pub description: String,
    /// The image family.
    pub family: String,
    /// `Creating`, `Waiting`, `Available`, `UnAvailable`, `CreateFailed`, `Deprecated`, or whatever a test
    /// has set.
    pub status: String,
    /// `self`, `system`, `others` or `marketplace`.
    pub owner_alias: String,
    /// True if CopyImage made it.
    pub is_copied: bool,
    /// When the creating call was accepted.
    pub created: Moment,
    /// Own tags.
    pub tags: BTreeMap<String, String>,
    /// The size of the system disk in GiB.
    pub size_gib: u32,
    /// The snapshots behind the image, the system disk first.
    pub mappings: Vec<Mapping>,
    /// For example `Aliyun`.
    pub platform: String,
    /// The name of the operating system.
    pub os_name: String,
    /// The resource group, often empty.
    pub resource_group_id: String,
    /// The copy that makes this image, while it waits or runs.
    pub copy: Option<CopyJob>,
    /// The event that may change this image next; 0 stands for none.
    pub pending: u64,
}

/// One disk of an image.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Mapping {
    /// For example `/dev/xvda`.
    pub device: String,
    /// `system` or `data`.
    pub kind: String,
    /// GiB.
    pub size_gib: u32,
    /// The snapshot behind it; empty for public images.
    pub snapshot_id: String,
}

/// A copy in progress.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CopyJob {
    /// The image that is copied; empty when the image is made from a machine or from snapshots.
    pub source_id: String,
    /// The disks to copy, as the source has them.
    pub plan: Vec<Mapping>,
    /// The key of the copy; `None` for a plain copy.
    pub key_id: Option<String>,
    /// How long the copy takes once it runs, in simulated seconds.
    pub seconds: f64,
    /// When it began to run; `None` while it waits.
    pub began: Option<Moment>,
    /// Its place in the order of arrival.
    pub order: u64,
}

impl Image {
    /// Progress in percent, 100 when nothing is left to do.
    pub fn progress(&self, now: Moment) -> u32 {
        match &self.copy {
            None => 100,
            Some(job) => job.progress(now),
        }
    }

    fn view(&self, world: &World) -> Value {
        let progress = self.progress(world.now);
        let used = world.instances.values().any(|instance| instance.image_id == self.id);
        let own = self.owner_alias == "self";
        let mappings: Vec<Value> = self.mappings.iter().map(|mapping| mapping.view(self, world)).collect();
        json!({
            "ImageId": self.id,
            "ImageName": self.name,
            "Description": self.description,
            "ImageFamily": self.family,
            "ImageVersion": "",
            "Status": self.status,
            "Progress": format!("{progress}%"),
            "ImageOwnerAlias": self.owner_alias,
            "IsSelfShared": "",
            "IsCopied": self.is_copied,
            "IsPublic": !own,
            "IsSubscribed": false,
            "IsSupportCloudinit": true,
            "IsSupportIoOptimized": true,
            "CreationTime": iso(self.created),
            "Size": self.size_gib,
            "Usage": if used { "instance" } else { "none" },
            "Usable": self.status == "Available",
            "Architecture": "x86_64",
            "BootMode": "UEFI-Preferred",
            "OSType": "linux",
            "OSName": self.os_name,
            "OSNameEn": self.os_name,
            "Platform": self.platform,
            "ProductCode": "",
            "ResourceGroupId": self.resource_group_id,
            "DiskDeviceMappings": {"DiskDeviceMapping": mappings},
            "Tags": tag_view(&self.tags),
        })
    }
}

impl CopyJob {
    fn progress(&self, now: Moment) -> u32 {
        let Some(began) = self.began else { return 0 };
        let share = (now - began) as f64 / (self.seconds * 1000.0).max(1.0);
        (share * 100.0).clamp(0.0, 99.0) as u32
    }

    fn remaining_seconds(&self, now: Moment) -> i64 {
        let passed = self.began.map_or(0.0, |began| (now - began) as f64 / 1000.0);
        (self.seconds - passed).max(0.0) as i64
    }
}

impl Mapping {
    fn view(&self, image: &Image, world: &World) -> Value {
        let encrypted = world.snapshots.get(&self.snapshot_id).is_some_and(|snapshot| snapshot.encrypted);
        let mut view = json!({
            "Device": self.device,
            "Type": self.kind,
            "Size": self.size_gib.to_string(),
            "SnapshotId": self.snapshot_id,
            "Encrypted": encrypted,
            "Format": "",
            "ImportOSSBucket": "",
            "ImportOSSObject": "",
        });
        if let Some(job) = &image.copy {
            view["Progress"] = json!(format!("{}%", job.progress(world.now)));
            view["RemainTime"] = json!(job.remaining_seconds(world.now));
        }
        view
    }
}

/// DescribeImages. Shows `Available` images alone unless `Status` says otherwise.
pub fn describe(world: &mut World, call: &Call) -> Answer {
    let parameters = call.parameters;
    let statuses: Vec<&str> =
        parameters.text("Status").unwrap_or("Available").split(',').map(str::trim).collect();
    let tags = parameters.tag_filters();
    let matching = world.images.values().filter(|image| {
        image.region == call.region
            && world.listed(image.created)
            && (statuses.contains(&"ALL") || statuses.contains(&image.status.as_str()))
            && tags_match(&image.tags, &tags)
            && matches_filters(image, parameters, world)
    });
    let items: Vec<Value> = matching.map(|image| image.view(world)).collect();
    let page = paging::by_number(parameters, items, Sizes { minimum: 1, maximum: 100, default: 10 })?;
    let mut body = page.body("Images", "Image");
    body["RegionId"] = json!(call.region);
    if let Some(fields) = body.as_object_mut() {
        fields.remove("NextToken");
    }
    Ok(body)
}

fn matches_filters(image: &Image, parameters: &Parameters, world: &World) -> bool {
    let is = |name: &str, value: &str| parameters.text(name).is_none_or(|wanted| wanted == value);
    // A comma-separated list is taken as several ids, as consoles and tools send it.
    let id_matches =
        parameters.text("ImageId").is_none_or(|wanted| wanted.split(',').any(|id| id.trim() == image.id));
    // assumption: name-filter-wildcard
    let name_matches = parameters.text("ImageName").is_none_or(|wanted| match wanted.strip_suffix('*') {
        Some(prefix) => image.name.starts_with(prefix.trim_start_matches('*')),
        None => image.name == wanted,
    });
    let snapshot_matches = parameters
        .text("SnapshotId")
        .is_none_or(|wanted| image.mappings.iter().any(|mapping| mapping.snapshot_id == wanted));
    let used = world.instances.values().any(|instance| instance.image_id == image.id);
    id_matches
        && name_matches
        && snapshot_matches
        && is("ImageOwnerAlias", &image.owner_alias)
        && is("ImageFamily", &image.family)
        && is("Usage", if used { "instance" } else { "none" })
        && is("ResourceGroupId", &image.resource_group_id)
        && is("Architecture", "x86_64")
        && is("OSType", "linux")
}

/// DeleteImage. The snapshots behind the image stay.
pub fn delete(world: &mut World, call: &Call) -> Answer {
    let id = call.parameters.required("ImageId")?.to_string();
    let image = own_image(world, call.region, &id)?;
    let copied =
        world.images.values().any(|other| other.copy.as_ref().is_some_and(|job| job.source_id == id));
    if copied || image.copy.is_some() {
        return Err(Refusal::new(
            403,
            "OperationDenied.ImageCopying",
            "The specified image is being copied.",
        ));
    }
    let used = world.instances.values().any(|instance| instance.image_id == id);
    if used && !call.parameters.flag("Force")? {
        return Err(Refusal::new(403, "ImageUsingByInstance", "The image is still used by instances."));
    }
    if call.parameters.flag("DryRun")? {
        return Err(Refusal::dry_run());
    }
    world.images.remove(&id);
    Ok(json!({}))
}

/// ModifyImageAttribute: name, description, family, and the way between `Available` and `Deprecated`.
pub fn modify(world: &mut World, call: &Call) -> Answer {
    let parameters = call.parameters;
    let id = parameters.required("ImageId")?.to_string();
    let status = own_image(world, call.region, &id)?.status.clone();
    if let Some(name) = parameters.text("ImageName") {
        check_name(world, call.region, name, &id)?;
    }
    super::image_copies::check_description(parameters.text("Description"))?;
    // assumption: image-names-in-any-status
    let wanted = parameters.text("Status");
    match (status.as_str(), wanted) {
        (_, None) | ("Available" | "Deprecated", Some("Available" | "Deprecated")) => {}
        _ => {
            return Err(Refusal::new(403, "IncorrectImageStatus", "The image's status does not allow this."));
        }
    }
    let image = world.images.get_mut(&id).ok_or_else(|| Refusal::not_found("InvalidImageId.NotFound"))?;
    let set = |field: &mut String, name: &str| {
        if let Some(value) = parameters.text(name) {
            *field = value.to_string();
        }
    };
    set(&mut image.name, "ImageName");
    set(&mut image.description, "Description");
    set(&mut image.family, "ImageFamily");
    set(&mut image.status, "Status");
    Ok(json!({}))
}

/// The own image `id` of `region`.
pub fn own_image<'a>(world: &'a World, region: &str, id: &str) -> Result<&'a Image, Refusal> {
    // assumption: public-image-is-not-found
    let found = world.images.get(id).filter(|image| image.region == region && image.owner_alias == "self");
    found.ok_or_else(|| Refusal::not_found("InvalidImageId.NotFound"))
}

/// Refuses a malformed or taken image name. `except` is the image that may keep it.
pub fn check_name(world: &World, region: &str, name: &str, except: &str) -> Result<(), Refusal> {
    let length = name.chars().count();
    let start = name.chars().next().is_some_and(char::is_alphabetic);
    let reserved = name.starts_with("acs:") || name.starts_with("aliyun");
    let address = name.contains("http://") || name.contains("https://");
    // assumption: image-name-alphabet
    let alphabet = name.chars().all(|sign| sign.is_alphanumeric() || ".:_-".contains(sign));
    if !(2..=128).contains(&length) || !start || reserved || address || !alphabet {
        return Err(Refusal::new(
            400,
            "InvalidImageName.Malformed",
            "The specified image name is not valid.",
        ));
    }
    let taken = world.images.values().any(|image| {
        image.region == region && image.owner_alias == "self" && image.name == name && image.id != except
    });
    if taken {
        return Err(Refusal::new(
            400,
            "InvalidImageName.Duplicated",
            "The specified image name already exists.",
        ));
    }
    Ok(())
}
