//! EncryptionAudit as the operator answers it: counts, findings, and what could not be read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resource::{SharedStatus, StatusTime};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EncryptionAuditStatus {
    /// What holds data, in numbers: disks and snapshots. Images and instances are judged by them and counted in byResource
    /// only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<AuditSummary>,
    /// The same by sort of resource.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub by_resource: Vec<ResourceTally>,
    /// The disks under volumes of this cluster, by the namespace of their claim; the 100 namespaces with most violations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 100),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["namespace"])
    )]
    pub by_namespace: Vec<NamespaceTally>,
    /// Why it is not known which disk belongs to which namespace; absent while it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub namespaces_error: Option<String>,
    /// Why StorageClasses of the cluster could not be judged, or a key of theirs not be read; absent while all could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub storage_classes_error: Option<String>,
    /// Where was looked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 100),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub regions: Vec<AuditedRegion>,
    /// What is not as required, worst first; the first 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub findings: Vec<AuditFinding>,
    /// True if there are more findings or namespaces than are listed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// When the account was looked at last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_scan_time: Option<StatusTime>,
    /// When it is looked at next, unless the object changes before. If that fails, nothing is Compliant after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_scan_time: Option<StatusTime>,
    /// Generation of the object as which was scanned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scanned_generation: Option<i64>,
    /// Value of the reconcile-requested-at annotation that the last scan answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub scanned_request: Option<String>,
    #[serde(flatten)]
    #[allow(missing_docs)]
    pub shared: SharedStatus,
}

/// Disks and snapshots in numbers. What is unencrypted, under a service key, under a customer key, and unknown makes up the total.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditSummary {
    /// All.
    pub total: u32,
    /// Under a customer key.
    pub customer_key: u32,
    /// Under the service key, which cannot be revoked.
    pub service_key: u32,
    /// Not encrypted.
    pub unencrypted: u32,
    /// Under a key that is not known.
    pub unknown: u32,
    /// Not as required, and exempted.
    pub exempt: u32,
    /// Not as required, and not exempted.
    pub violations: u32,
    /// Findings of every sort. Disks of one instance, and snapshots of one image, are one finding.
    pub findings: u32,
    /// Percent that are known to be encrypted, rounded down; absent if there is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    pub coverage_percent: Option<u32>,
    /// Percent under a customer key, to which access can be revoked, rounded down; absent if there is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    pub revocable_percent: Option<u32>,
}

/// One sort of resource in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceTally {
    /// Disk, Snapshot, Image, Instance, StorageClass or AccountDefault. The worst part of an image or instance counts.
    #[serde(rename = "type")]
    #[schemars(length(max = 32))]
    pub type_: String,
    /// All.
    pub total: u32,
    /// Under a customer key.
    pub customer_key: u32,
    /// Under the service key.
    pub service_key: u32,
    /// Not encrypted, at least in part.
    pub unencrypted: u32,
    /// Under a key that is not known.
    pub unknown: u32,
    /// Not as required, and exempted.
    pub exempt: u32,
    /// Not as required, and not exempted.
    pub violations: u32,
}

/// The disks of one namespace in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceTally {
    /// The namespace of the claims.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Disks.
    pub total: u32,
    /// Under a customer key.
    pub customer_key: u32,
    /// Under the service key.
    pub service_key: u32,
    /// Not encrypted.
    pub unencrypted: u32,
    /// Under a key that is not known.
    pub unknown: u32,
    /// Not as required, and exempted.
    pub exempt: u32,
    /// Not as required, and not exempted.
    pub violations: u32,
}

/// One region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditedRegion {
    /// Its name.
    #[schemars(length(max = 64))]
    pub name: String,
    /// When it was read last, in full or in part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_scan_time: Option<StatusTime>,
    /// What could not be read, and why; absent if everything could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub error: Option<String>,
    /// The first key that could not be read, and why; what is under it is a finding with the reason KeyUnknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub key_error: Option<String>,
    /// What new disks get for which nobody asks for encryption: Off, On, Unavailable if the region has no such feature, or
    /// Unknown.
    #[schemars(length(max = 16))]
    pub default_encryption: String,
    /// The key that they get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub default_key_id: Option<String>,
}

/// Something that is not as required.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditFinding {
    /// Disk, Snapshot, Image, Instance, StorageClass or AccountDefault.
    #[serde(rename = "type")]
    #[schemars(length(max = 32))]
    pub type_: String,
    /// Its id; the name of a StorageClass, the region of an AccountDefault.
    #[schemars(length(max = 253))]
    pub id: String,
    /// Its region; absent for a StorageClass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub region: Option<String>,
    /// The instance that uses the disk; the first of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub instance_id: Option<String>,
    /// The namespace of this cluster that has a volume on the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
    /// Why, as in the table of reasons.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// The key that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub key_id: Option<String>,
    /// The disks of an instance, or the snapshots of an image, that are meant; the first 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(max = 64)))]
    pub parts: Vec<String>,
    /// What is wrong, and what to do.
    #[schemars(length(max = 512))]
    pub message: String,
    /// Since when it has been in this list.
    pub first_seen: StatusTime,
}
