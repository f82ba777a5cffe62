//! What ECS says of images, disks and snapshots, as our own types.
//!
//! Field names and words follow the API pages (DescribeImages, DescribeDisks, DescribeSnapshots) and the
//! official SDK models. Only what somebody reads is kept. Nothing is judged here: whether an image is
//! encrypted enough is the business of its kind.

use std::collections::{BTreeMap, BTreeSet};

use super::error::Error;
use super::reply::{Fields, words};

words! {
    /// The states of an image.
    ImageStatus {
        /// A copy that has its turn later.
        Waiting = "Waiting",
        /// Being made or copied.
        Creating = "Creating",
        /// Usable.
        Available = "Available",
        /// Not usable, for example after a failure.
        UnAvailable = "UnAvailable",
        /// The creation failed.
        CreateFailed = "CreateFailed",
        /// Usable for instances, but neither for copies nor for sharing.
        Deprecated = "Deprecated",
    }
}

words! {
    /// The states of a disk.
    DiskStatus {
        /// Being made.
        Creating = "Creating",
        /// Attached to nothing.
        Available = "Available",
        /// On its way to an instance.
        Attaching = "Attaching",
        /// Attached.
        InUse = "In_use",
        /// On its way from an instance.
        Detaching = "Detaching",
        /// Being set back.
        ReIniting = "ReIniting",
    }
}

words! {
    /// The states of a snapshot.
    SnapshotStatus {
        /// Being made.
        Progressing = "progressing",
        /// Complete.
        Accomplished = "accomplished",
        /// Failed.
        Failed = "failed",
    }
}

words! {
    /// What a disk serves as.
    DiskKind {
        /// Holds the operating system.
        System = "system",
        /// Holds data.
        Data = "data",
    }
}

/// An image as DescribeImages shows it. It names no key; the snapshots behind it do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Unique in its region.
    pub id: String,
    /// Unique among the account's images of the region.
    pub name: String,
    /// The description in the console.
    pub description: String,
    /// The resource group; None if the reply does not say.
    pub resource_group_id: Option<String>,
    /// The state.
    pub status: ImageStatus,
    /// Progress of the creation, 0 to 100.
    pub progress: Option<u8>,
    /// The size of the image; 0 if the reply does not say.
    pub size_gib: u32,
    /// `self`, `system`, `others`, `marketplace`, …; empty if the reply does not say.
    pub owner_alias: String,
    /// True if the image was made by CopyImage.
    pub is_copied: bool,
    /// UTC, as the cloud writes it.
    pub creation_time: Option<String>,
    /// All tags.
    pub tags: BTreeMap<String, String>,
    /// The disks that an instance gets from the image. Empty while a copy waits.
    pub mappings: Vec<DiskMapping>,
}

/// One disk of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskMapping {
    /// For example `/dev/xvda`; empty if the reply does not say.
    pub device: String,
    /// System or data.
    pub kind: DiskKind,
    /// 0 if the reply does not say.
    pub size_gib: u32,
    /// The snapshot that holds the content.
    pub snapshot_id: Option<String>,
    /// As the image says; the snapshot itself is the better witness.
    pub encrypted: Option<bool>,
    /// Progress of the copy, 0 to 100.
    pub progress: Option<u8>,
}

/// A disk as DescribeDisks shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Unique in its region.
    pub id: String,
    /// Not unique.
    pub name: String,
    /// The state.
    pub status: DiskStatus,
    /// False also if the reply does not say.
    pub encrypted: bool,
    /// The key; whether it is given for disks under the service key is not documented.
    pub kms_key_id: Option<String>,
    /// The instance that the disk is attached to; the first of several.
    pub instance_id: Option<String>,
    /// All of them: a disk with multi-attach can have more than one.
    pub instance_ids: BTreeSet<String>,
    /// For example `cloud_essd`.
    pub category: String,
    /// `PL0` to `PL3`, for `cloud_essd` only.
    pub performance_level: Option<String>,
    /// 0 if the reply does not say.
    pub size_gib: u32,
    /// Empty for regional disks.
    pub zone_id: String,
    /// System or data.
    pub kind: DiskKind,
    /// The snapshot that the disk was made from.
    pub source_snapshot_id: Option<String>,
    /// All tags.
    pub tags: BTreeMap<String, String>,
    /// True if the disk goes with its instance.
    pub delete_with_instance: Option<bool>,
    /// True if its automatic snapshots go with it.
    pub delete_auto_snapshot: Option<bool>,
    /// True if it can be detached and live on its own.
    pub portable: Option<bool>,
    /// UTC, as the cloud writes it.
    pub creation_time: Option<String>,
    /// When it was last attached to an instance; UTC, as the cloud writes it.
    pub attached_time: Option<String>,
    /// When it was last detached from an instance; UTC, as the cloud writes it.
    pub detached_time: Option<String>,
    /// As in the console; empty if the reply does not say.
    pub description: String,
}

/// A snapshot as DescribeSnapshots shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Unique in its region.
    pub id: String,
    /// The state.
    pub status: SnapshotStatus,
    /// False also if the reply does not say.
    pub encrypted: bool,
    /// The key of an encrypted snapshot.
    pub kms_key_id: Option<String>,
    /// 0 if the reply does not say.
    pub source_disk_size_gib: u32,
    /// The disk that the snapshot was taken of.
    pub source_disk_id: Option<String>,
    /// 0 to 100.
    pub progress: Option<u8>,
    /// All tags.
    pub tags: BTreeMap<String, String>,
    /// `image`, `disk`, `image_disk` or `none`: what was made of it.
    pub usage: Option<String>,
    /// UTC, as the cloud writes it.
    pub creation_time: Option<String>,
}

impl Image {
    pub(crate) fn read(fields: Fields) -> Result<Image, Error> {
        Ok(Image {
            id: fields.required("ImageId")?,
            name: fields.text("ImageName").unwrap_or_default(),
            description: fields.text("Description").unwrap_or_default(),
            resource_group_id: fields.text("ResourceGroupId"),
            status: ImageStatus::from_word(&fields.text("Status").unwrap_or_default()),
            progress: fields.percent("Progress"),
            size_gib: fields.number("Size").unwrap_or_default(),
            owner_alias: fields.text("ImageOwnerAlias").unwrap_or_default(),
            is_copied: fields.flag("IsCopied").unwrap_or_default(),
            creation_time: fields.text("CreationTime"),
            tags: fields.tags(),
            mappings: fields
                .details("DiskDeviceMappings", "DiskDeviceMapping")
                .into_iter()
                .map(DiskMapping::read)
                .collect(),
        })
    }
}

impl DiskMapping {
    fn read(fields: Fields) -> DiskMapping {
        DiskMapping {
            device: fields.text("Device").unwrap_or_default(),
            kind: DiskKind::from_word(&fields.text("Type").unwrap_or_default()),
            size_gib: fields.number("Size").unwrap_or_default(),
            snapshot_id: fields.text("SnapshotId"),
            encrypted: fields.flag("Encrypted"),
            progress: fields.percent("Progress"),
        }
    }
}

impl Disk {
    pub(crate) fn read(fields: Fields) -> Result<Disk, Error> {
        let attachments = fields.details("Attachments", "Attachment");
        let attached: Vec<_> =
            attachments.iter().filter_map(|attachment| attachment.text("InstanceId")).collect();
        let instance_id = fields.text("InstanceId").or_else(|| attached.first().cloned());
        Ok(Disk {
            id: fields.required("DiskId")?,
            name: fields.text("DiskName").unwrap_or_default(),
            status: DiskStatus::from_word(&fields.text("Status").unwrap_or_default()),
            encrypted: fields.flag("Encrypted").unwrap_or_default(),
            kms_key_id: fields.text("KMSKeyId"),
            instance_ids: instance_id.iter().cloned().chain(attached).collect(),
            instance_id,
            category: fields.text("Category").unwrap_or_default(),
            performance_level: fields.text("PerformanceLevel"),
            size_gib: fields.number("Size").unwrap_or_default(),
            zone_id: fields.text("ZoneId").unwrap_or_default(),
            kind: DiskKind::from_word(&fields.text("Type").unwrap_or_default()),
            source_snapshot_id: fields.text("SourceSnapshotId"),
            tags: fields.tags(),
            delete_with_instance: fields.flag("DeleteWithInstance"),
            delete_auto_snapshot: fields.flag("DeleteAutoSnapshot"),
            portable: fields.flag("Portable"),
            creation_time: fields.text("CreationTime"),
            attached_time: fields.text("AttachedTime"),
            detached_time: fields.text("DetachedTime"),
            description: fields.text("Description").unwrap_or_default(),
        })
    }
}

impl Snapshot {
    pub(crate) fn read(fields: Fields) -> Result<Snapshot, Error> {
        Ok(Snapshot {
            id: fields.required("SnapshotId")?,
            status: SnapshotStatus::from_word(&fields.text("Status").unwrap_or_default()),
            encrypted: fields.flag("Encrypted").unwrap_or_default(),
            kms_key_id: fields.text("KMSKeyId"),
            source_disk_size_gib: fields.number("SourceDiskSize").unwrap_or_default(),
            source_disk_id: fields.text("SourceDiskId"),
            progress: fields.percent("Progress"),
            tags: fields.tags(),
            usage: fields.text("Usage"),
            creation_time: fields.text("CreationTime"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alibaba::Service;
    use serde_json::json;

    #[test]
    fn an_image_is_read_with_its_mappings_and_unknown_words_are_kept() {
        let value = json!({
            "ImageId": "m-1", "ImageName": "base", "Status": "Brewing\u{202e}", "Progress": "37%", "Size": 40,
            "ImageOwnerAlias": "self", "IsCopied": true, "Novelty": {"a": 1},
            "DiskDeviceMappings": {"DiskDeviceMapping": [
                {"Device": "/dev/xvda", "Type": "system", "Size": "40", "SnapshotId": "s-1",
                 "Encrypted": "true"},
                {"Device": "/dev/xvdb", "Type": "data", "Size": "100", "SnapshotId": ""},
            ]},
        });
        let image = Image::read(Fields::new(&value, Service::Ecs, "DescribeImages")).expect("an image");
        assert_eq!(image.status, ImageStatus::Unknown("Brewing".to_owned()));
        assert_eq!((image.progress, image.size_gib, image.is_copied), (Some(37), 40, true));
        assert_eq!(image.mappings[0].snapshot_id.as_deref(), Some("s-1"));
        assert_eq!((image.mappings[0].encrypted, image.mappings[0].size_gib), (Some(true), 40));
        assert_eq!(
            (image.mappings[1].kind.clone(), image.mappings[1].snapshot_id.clone()),
            (DiskKind::Data, None)
        );
    }

    #[test]
    fn only_the_id_is_indispensable() {
        let read = |value: &serde_json::Value| Disk::read(Fields::new(value, Service::Ecs, "DescribeDisks"));
        let bare = read(&json!({"DiskId": "d-1"})).expect("a disk");
        assert_eq!(bare.status, DiskStatus::Unknown(String::new()));
        assert!(!bare.encrypted && bare.tags.is_empty() && bare.instance_id.is_none());
        assert!(read(&json!({"DiskName": "d"})).is_err());
        let attached = json!({"DiskId": "d-1", "Status": "In_use", "InstanceId": "",
            "Attachments": {"Attachment": [{"InstanceId": "i-1"}]}});
        let attached = read(&attached).expect("a disk");
        assert_eq!((attached.status, attached.instance_id.as_deref()), (DiskStatus::InUse, Some("i-1")));
        let shared = json!({"DiskId": "d-1", "InstanceId": "i-2",
            "Attachments": {"Attachment": [{"InstanceId": "i-1"}, {"InstanceId": "i-2"}, {}]}});
        let shared = read(&shared).expect("a disk");
        assert_eq!(shared.instance_id.as_deref(), Some("i-2"));
        assert_eq!(shared.instance_ids, ["i-1", "i-2"].map(str::to_owned).into());
    }
}
