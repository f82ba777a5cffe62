//! EncryptedDisk as users write and read it. Schema, columns and CEL only.

#![expect(clippy::duplicated_attributes, reason = "printer columns share a type and a priority")]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resource::{
    AccountReference, Adoption, DeletionPolicy, Drift, KeyReference, ManagementPolicy, SharedStatus, TagValue,
};

/// What the disk should be.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "ecskms.dev",
    version = "v1alpha1",
    kind = "EncryptedDisk",
    plural = "encrypteddisks",
    singular = "encrypteddisk",
    shortname = "edisk",
    category = "ecskms",
    category = "alicloud",
    namespaced,
    status = "EncryptedDiskStatus",
    derive = "PartialEq",
    doc = "EncryptedDisk is a data disk of Alibaba Cloud ECS that is encrypted from birth under a KMS key.",
    selectable = ".spec.region",
    printcolumn(
        name = "Disk",
        type_ = "string",
        json_path = ".status.diskId",
        description = "Id of the disk."
    ),
    printcolumn(
        name = "Zone",
        type_ = "string",
        json_path = ".spec.zoneId",
        description = "Zone of the disk."
    ),
    printcolumn(
        name = "Size",
        type_ = "integer",
        json_path = ".status.sizeGiB",
        description = "Size in GiB."
    ),
    printcolumn(
        name = "Key",
        type_ = "string",
        json_path = ".status.keyId",
        description = "Id of the KMS key."
    ),
    printcolumn(
        name = "Attached",
        type_ = "string",
        json_path = ".status.attachedTo",
        description = "Instance that uses the disk."
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the disk exists, encrypted under the key."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Age of the object."
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        priority = 1,
        json_path = ".status.phase",
        description = "Which step is under way."
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        description = "What happened and what to do next."
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.region == oldSelf.region")
        .message("region is immutable; create a new object")
        .field_path(".region"),
    validation = Rule::new("self.zoneId == oldSelf.zoneId")
        .message("zoneId is immutable; create a new object")
        .field_path(".zoneId"),
    validation = Rule::new("self.key == oldSelf.key")
        .message("key is immutable: a disk cannot change its key; create a new object")
        .field_path(".key"),
    validation = Rule::new(
            "has(self.source) == has(oldSelf.source) && (!has(self.source) || self.source == oldSelf.source)"
        )
        .message("source is immutable; create a new object"),
    validation = Rule::new(
            "(has(self.category) ? self.category : 'cloud_essd') == \
             (has(oldSelf.category) ? oldSelf.category : 'cloud_essd')"
        )
        .message("category is immutable; create a new object"),
    validation = Rule::new(
            "has(self.performanceLevel) == has(oldSelf.performanceLevel) && (!has(self.performanceLevel) || \
             self.performanceLevel == oldSelf.performanceLevel)"
        )
        .message("performanceLevel is immutable; create a new object"),
    validation = Rule::new(
            "has(self.accountRef) == has(oldSelf.accountRef) && (!has(self.accountRef) || self.accountRef \
             == oldSelf.accountRef)"
        )
        .message("accountRef is immutable; create a new object"),
    validation = Rule::new(
            "has(self.adopt) == has(oldSelf.adopt) && (!has(self.adopt) || self.adopt == oldSelf.adopt)"
        )
        .message("adopt is immutable; create a new object"),
    validation = Rule::new(
            "has(self.resourceGroupId) == has(oldSelf.resourceGroupId) && (!has(self.resourceGroupId) || \
             self.resourceGroupId == oldSelf.resourceGroupId)"
        )
        .message("resourceGroupId is immutable; create a new object"),
    validation = Rule::new("!has(oldSelf.sizeGiB) || (has(self.sizeGiB) && self.sizeGiB >= oldSelf.sizeGiB)")
        .message("sizeGiB can only grow"),
    validation = Rule::new("has(self.sizeGiB) || has(self.source) || has(self.adopt)")
        .message("sizeGiB is required for a blank disk"),
    validation = Rule::new("self.zoneId.startsWith(self.region)")
        .message("zoneId must be a zone of region")
        .field_path(".zoneId"),
    validation = Rule::new(
            "!has(self.performanceLevel) || !has(self.category) || self.category == 'cloud_essd'"
        )
        .message("performanceLevel needs category cloud_essd"),
    validation = Rule::new(
            "!has(self.cutover) || (has(self.source) && has(self.source.diskId))"
        )
        .message("cutover needs source.diskId"),
    validation = Rule::new(
            "!has(self.retireSource) || !self.retireSource || (has(self.source) && has(self.source.diskId))"
        )
        .message("retireSource needs source.diskId"),
    validation = Rule::new("!has(self.adopt) || !has(self.source) || !has(self.source.diskId)")
        .message("adopt and source.diskId exclude each other: one takes a disk over, the other makes one")
)]
pub struct EncryptedDiskSpec {
    /// Whose account; the operator's own credentials where it is left out. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_ref: Option<AccountReference>,
    /// Region of the disk and of its key, for example `cn-hangzhou`. Cannot change.
    #[schemars(length(min = 3, max = 40), regex(pattern = r"^[a-z]{2,4}-[a-z0-9-]+$"))]
    pub region: String,
    /// Zone of the disk, for example `cn-hangzhou-h`; only an instance in the same zone can use it. Cannot
    /// change.
    #[schemars(length(min = 3, max = 50), regex(pattern = r"^[a-z]{2,4}-[a-z0-9-]+$"))]
    pub zone_id: String,
    /// The key that encrypts the disk. Required: nothing falls back to the service key. Cannot change.
    pub key: KeyReference,
    /// Category of the disk. The cloud's default for the zone would differ from place to place, so ours is
    /// cloud_essd. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<DiskCategory>,
    /// Performance level of a cloud_essd disk. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub performance_level: Option<PerformanceLevel>,
    /// Size in GiB. Required for a blank disk; with a source, at least the source's size, which is also the
    /// default. Can only grow.
    #[serde(default, rename = "sizeGiB", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65536))]
    pub size_gib: Option<u32>,
    /// What the disk starts with; blank where it is left out. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<DiskSource>,
    /// With source.diskId only: when the encrypted successor takes the place of the source disk. Manual, the
    /// default: everything is checked and nothing is done. WhenDetached: as soon as somebody has detached the
    /// source disk. Now: the operator detaches it itself; unmount it first. The successor is made of a
    /// snapshot that is always taken after the detachment, so that no write is missing from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cutover: Option<Cutover>,
    /// With source.diskId only. True: once the successor is verified in its place, delete the source disk,
    /// unless somebody attached it again meanwhile, and then the snapshot that the operator took. False:
    /// keep both.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retire_source: bool,
    /// The instance that should have the disk. May change: the disk is then detached and attached anew.
    /// Where it is left out, a disk that the operator attached is detached, one that somebody else attached
    /// stays where it is, and the successor of a disk takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<DiskAttachment>,
    /// Name of the disk in the console: 2 to 128 characters. Default: `ecskms-`, the object's namespace and
    /// its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 128), regex(pattern = r"^[A-Za-z][A-Za-z0-9:_.-]*$"))]
    pub disk_name: Option<String>,
    /// Description of the disk in the console: 2 to 256 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 256))]
    pub description: Option<String>,
    /// Tags of the disk, besides the operator's own four: up to 16, keys and values of up to 128 characters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    #[x_kube(validation = Rule::new(
            "self.all(key, size(key) > 0 && size(key) <= 128 && !key.startsWith('aliyun') && \
             !key.startsWith('acs:') && !key.startsWith('ecskms:') && !key.startsWith('http://') && \
             !key.startsWith('https://'))"
        )
        .message(
            "a tag's key has 1 to 128 characters and does not begin with aliyun, acs:, ecskms:, http:// or \
             https://"
        ))]
    pub tags: BTreeMap<String, TagValue>,
    /// Resource group of the disk. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 4, max = 64), regex(pattern = r"^rg-[a-z0-9]+$"))]
    pub resource_group_id: Option<String>,
    /// An existing encrypted disk to take over instead of creating one. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopt: Option<Adoption>,
    /// Manage: create the disk, keep it as described and remove it as deletionPolicy says. Observe: only
    /// report on it.
    #[serde(default)]
    pub management_policy: ManagementPolicy,
    /// When the object is deleted: Retain keeps the disk, Delete deletes it. A disk in use is never deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// True: do nothing for this object, except when it is deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// What a disk starts with: exactly one of `snapshotId` and `diskId`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.snapshotId) != has(self.diskId)")
    .message("exactly one of snapshotId and diskId must be set"))]
pub struct DiskSource {
    /// A snapshot in the same region, plain or encrypted, under whichever key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 64), regex(pattern = r"^s-[a-z0-9]+$"))]
    pub snapshot_id: Option<String>,
    /// An existing data disk in the same zone, plain or under another key, of which this disk becomes the
    /// encrypted successor. It is only detached if cutover is Now, and only deleted if retireSource is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 64), regex(pattern = r"^d-[a-z0-9]+$"))]
    pub disk_id: Option<String>,
}

/// When the successor takes the place of its source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Cutover {
    /// Not before this field says otherwise.
    #[default]
    Manual,
    /// Once somebody has detached the source disk.
    WhenDetached,
    /// At once: the operator detaches the source disk.
    Now,
}

/// The instance that should have the disk: exactly one of `instanceRef` and `instanceId`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.instanceRef) != has(self.instanceId)")
    .message("exactly one of instanceRef and instanceId must be set"))]
pub struct DiskAttachment {
    /// An EncryptedInstance in the namespace of this object; waited for until it has its instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_ref: Option<InstanceReference>,
    /// Id of an instance in the zone of the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 64), regex(pattern = r"^i-[a-z0-9]+$"))]
    pub instance_id: Option<String>,
    /// True: the disk is deleted with its instance. False, the default: it is detached and stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delete_with_instance: bool,
}

/// An EncryptedInstance in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Category of a disk, in the words of the ECS API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiskCategory {
    /// Basic disk.
    Cloud,
    /// Ultra disk.
    CloudEfficiency,
    /// Standard SSD.
    CloudSsd,
    /// Enterprise SSD.
    #[default]
    CloudEssd,
    /// Enterprise SSD, AutoPL.
    CloudAuto,
    /// Enterprise SSD, entry level.
    CloudEssdEntry,
}

impl DiskCategory {
    /// The word of the ECS API.
    pub fn as_str(self) -> &'static str {
        match self {
            DiskCategory::Cloud => "cloud",
            DiskCategory::CloudEfficiency => "cloud_efficiency",
            DiskCategory::CloudSsd => "cloud_ssd",
            DiskCategory::CloudEssd => "cloud_essd",
            DiskCategory::CloudAuto => "cloud_auto",
            DiskCategory::CloudEssdEntry => "cloud_essd_entry",
        }
    }

    /// Encrypted disks made from a snapshot need the ESSD family (Alibaba's page "Encrypt ECS data").
    pub fn is_essd_family(self) -> bool {
        matches!(self, DiskCategory::CloudEssd | DiskCategory::CloudAuto | DiskCategory::CloudEssdEntry)
    }
}

/// Performance level of a cloud_essd disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PerformanceLevel {
    /// Up to 10,000 IOPS.
    PL0,
    /// Up to 50,000 IOPS.
    PL1,
    /// Up to 100,000 IOPS.
    PL2,
    /// Up to 1,000,000 IOPS.
    PL3,
}

impl PerformanceLevel {
    /// The word of the ECS API.
    pub fn as_str(self) -> &'static str {
        match self {
            PerformanceLevel::PL0 => "PL0",
            PerformanceLevel::PL1 => "PL1",
            PerformanceLevel::PL2 => "PL2",
            PerformanceLevel::PL3 => "PL3",
        }
    }
}

/// An instance, and whether the disk goes with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Id of the instance.
    #[schemars(length(max = 64))]
    pub instance_id: String,
    /// Whether the disk is deleted with the instance.
    #[serde(default)]
    pub delete_with_instance: bool,
}

/// The steps of a disk's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DiskPhase {
    /// Something is missing or wrong; see the conditions.
    Waiting,
    /// The source disk is replaced once cutover allows it.
    AwaitingCutover,
    /// The source disk is being detached.
    DetachingSource,
    /// The last snapshot of the source disk is being taken.
    Snapshotting,
    /// The disk is being created.
    Creating,
    /// The disk is being attached.
    Attaching,
    /// The disk is being detached.
    Detaching,
    /// The disk is being brought in line with the object.
    Amending,
    /// The source disk, or the snapshot of it, is being deleted.
    RetiringSource,
    /// The disk is being deleted.
    Deleting,
    /// The disk is there, encrypted, and where it should be.
    Ready,
}

/// What the disk is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EncryptedDiskStatus {
    /// Id of the disk, once it was seen in the cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub disk_id: Option<String>,
    /// Status of the disk in the words of the ECS API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub disk_status: Option<String>,
    /// Instance that uses the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub attached_to: Option<String>,
    /// Where the operator has attached the disk, or is about to; written before it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<Placement>,
    /// Where the source disk was before it was detached; the successor takes that place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_attachment: Option<Placement>,
    /// Snapshot of the source disk that the operator took, once it was seen in the cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub source_snapshot_id: Option<String>,
    /// Source disk that this disk has replaced; written once this disk was verified in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub replaced_disk_id: Option<String>,
    /// Which step is under way; for people, nothing is decided by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<DiskPhase>,
    /// Size in GiB.
    #[serde(default, rename = "sizeGiB", skip_serializing_if = "Option::is_none")]
    pub size_gib: Option<u32>,
    /// Id of the key: resolved once and pinned, because an alias can be re-pointed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub key_id: Option<String>,
    /// Differences that the operator does not mend by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub drift: Vec<Drift>,
    #[serde(flatten)]
    #[allow(missing_docs)]
    pub shared: SharedStatus,
}
