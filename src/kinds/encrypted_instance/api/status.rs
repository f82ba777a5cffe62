//! What an EncryptedInstance shows of itself. Schema only.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resource::{Drift, SharedStatus, StatusTime};

/// What the instance is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EncryptedInstanceStatus {
    /// Id of the instance, once it was seen in the cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub instance_id: Option<String>,
    /// Status of the instance in the words of the ECS API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub instance_status: Option<String>,
    /// Private addresses.
    #[serde(default, rename = "privateIPs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub private_ips: Vec<String>,
    /// Every disk that is attached, also those that somebody else attached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["diskId"])
    )]
    pub disks: Vec<DiskStatus>,
    /// Attached disks that are encrypted under an allowed key, of all attached disks, for example `3/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub coverage: Option<String>,
    /// Id of the key of the instance: resolved once and pinned, because an alias can be re-pointed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub key_id: Option<String>,
    /// Ids of all keys that the object names, each resolved once and pinned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 18),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["reference"])
    )]
    pub keys: Vec<PinnedKey>,
    /// Since when the cloud shows neither the instance nor its disks, though they were seen before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_since: Option<StatusTime>,
    /// Differences that the operator does not mend by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub drift: Vec<Drift>,
    #[serde(flatten)]
    #[allow(missing_docs)]
    pub shared: SharedStatus,
}

/// One attached disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiskStatus {
    /// System or Data.
    #[schemars(length(max = 16))]
    pub role: String,
    /// Name of the data disk in the object; absent for the system disk and for disks that the object does not
    /// name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub name: Option<String>,
    /// Id of the disk.
    #[schemars(length(max = 64))]
    pub disk_id: String,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// The key that the cloud shows for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub key_id: Option<String>,
}

/// A key as the object names it, and what it was when it was first looked up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PinnedKey {
    /// Id or alias, as the object names it.
    #[schemars(length(max = 255))]
    pub reference: String,
    /// Id of the key.
    #[schemars(length(max = 64))]
    pub key_id: String,
}
