//! EncryptedInstance as users write and read it. Schema, columns and CEL only.

#![expect(clippy::duplicated_attributes, reason = "printer columns share a type and a priority")]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resource::{AccountReference, Adoption, DeletionPolicy, KeyReference, ManagementPolicy, TagValue};

mod status;

pub use status::{DiskStatus, EncryptedInstanceStatus, PinnedKey};

/// What the instance should be.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "ecskms.dev",
    version = "v1alpha1",
    kind = "EncryptedInstance",
    plural = "encryptedinstances",
    singular = "encryptedinstance",
    shortname = "einst",
    category = "ecskms",
    category = "alicloud",
    namespaced,
    status = "EncryptedInstanceStatus",
    derive = "PartialEq",
    doc = "EncryptedInstance is an instance of Alibaba Cloud ECS whose disks are all encrypted under KMS keys from birth.",
    selectable = ".spec.region",
    printcolumn(
        name = "Instance",
        type_ = "string",
        json_path = ".status.instanceId",
        description = "Id of the instance."
    ),
    printcolumn(
        name = "Type",
        type_ = "string",
        json_path = ".spec.instanceType",
        description = "Instance type."
    ),
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = ".status.instanceStatus",
        description = "Status of the instance in the words of the ECS API."
    ),
    printcolumn(
        name = "Coverage",
        type_ = "string",
        json_path = ".status.coverage",
        description = "Attached disks that are encrypted under an allowed key, of all attached disks."
    ),
    printcolumn(
        name = "Key",
        type_ = "string",
        json_path = ".status.keyId",
        description = "Id of the KMS key."
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the instance is as described, with every disk encrypted under an allowed key."
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
    validation = Rule::new("self.instanceType == oldSelf.instanceType")
        .message("instanceType is immutable; create a new object")
        .field_path(".instanceType"),
    validation = Rule::new("self.image == oldSelf.image")
        .message("image is immutable; create a new object")
        .field_path(".image"),
    validation = Rule::new("self.systemDisk == oldSelf.systemDisk")
        .message("systemDisk is immutable; create a new object")
        .field_path(".systemDisk"),
    validation = Rule::new("self.network == oldSelf.network")
        .message("network is immutable; create a new object")
        .field_path(".network"),
    validation = Rule::new("self.key == oldSelf.key")
        .message("key is immutable: a disk cannot change its key; create a new object")
        .field_path(".key"),
    validation = Rule::new(
            "has(self.dataDisks) == has(oldSelf.dataDisks) && (!has(self.dataDisks) || self.dataDisks == \
             oldSelf.dataDisks)"
        )
        .message("dataDisks is immutable; attach further disks to the instance with EncryptedDisk"),
    validation = Rule::new(
            "has(self.ramRoleName) == has(oldSelf.ramRoleName) && (!has(self.ramRoleName) || \
             self.ramRoleName == oldSelf.ramRoleName)"
        )
        .message("ramRoleName is immutable; create a new object"),
    validation = Rule::new(
            "has(self.keyPairName) == has(oldSelf.keyPairName) && (!has(self.keyPairName) || \
             self.keyPairName == oldSelf.keyPairName)"
        )
        .message("keyPairName is immutable; create a new object"),
    validation = Rule::new(
            "has(self.userDataSecretRef) == has(oldSelf.userDataSecretRef) && (!has(self.userDataSecretRef) \
             || self.userDataSecretRef == oldSelf.userDataSecretRef)"
        )
        .message("userDataSecretRef is immutable; create a new object"),
    validation = Rule::new(
            "has(self.requireMetadataToken) == has(oldSelf.requireMetadataToken) && \
             (!has(self.requireMetadataToken) || self.requireMetadataToken == oldSelf.requireMetadataToken)"
        )
        .message("requireMetadataToken is immutable; create a new object"),
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
    validation = Rule::new("self.zoneId.startsWith(self.region)")
        .message("zoneId must be a zone of region")
        .field_path(".zoneId")
)]
pub struct EncryptedInstanceSpec {
    /// Whose account; the operator's own credentials where it is left out. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_ref: Option<AccountReference>,
    /// Region of the instance and of its keys, for example `cn-hangzhou`. Cannot change.
    #[schemars(length(min = 3, max = 40), regex(pattern = r"^[a-z]{2,4}-[a-z0-9-]+$"))]
    pub region: String,
    /// Zone of the instance and its disks, for example `cn-hangzhou-h`. Cannot change.
    #[schemars(length(min = 3, max = 50), regex(pattern = r"^[a-z]{2,4}-[a-z0-9-]+$"))]
    pub zone_id: String,
    /// Instance type, for example `ecs.g7.large`. Cannot change.
    #[schemars(length(min = 5, max = 64), regex(pattern = r"^ecs\.[a-z0-9.-]+$"))]
    pub instance_type: String,
    /// The key that encrypts every disk without a key of its own. Required: nothing falls back to the service
    /// key. Cannot change.
    pub key: KeyReference,
    /// What the system disk starts with. Cannot change.
    pub image: InstanceImage,
    /// The system disk. Cannot change.
    pub system_disk: SystemDisk,
    /// Data disks that are made together with the instance, up to 16. Cannot change: further ones are attached
    /// with EncryptedDisk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub data_disks: Vec<DataDisk>,
    /// Where the instance is in the network. Cannot change.
    pub network: InstanceNetwork,
    /// RAM role that programs on the instance may take. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9._-]+$"))]
    pub ram_role_name: Option<String>,
    /// Name of the SSH key pair. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 128), regex(pattern = r"^[A-Za-z][A-Za-z0-9:_-]*$"))]
    pub key_pair_name: Option<String>,
    /// User data that the instance runs at its first start, up to 16 KiB. Read when the instance is made and
    /// stored nowhere. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data_secret_ref: Option<SecretKeyReference>,
    /// True: the metadata service answers only with a token (IMDSv2). Cannot change.
    #[serde(default = "yes")]
    pub require_metadata_token: bool,
    /// True: the cloud, too, refuses to delete the instance.
    #[serde(default = "yes")]
    pub deletion_protection: bool,
    /// Running or Stopped. A stopped instance goes on being paid for, so that it is sure to start again.
    #[serde(default)]
    pub power_state: PowerState,
    /// What a KeyRevocation may do to the instance when it takes one of its keys away.
    #[serde(default)]
    pub on_revocation: OnRevocation,
    /// Name of the instance in the console: 2 to 128 characters. Default: `ecskms-`, the object's namespace and
    /// its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 128), regex(pattern = r"^[A-Za-z][A-Za-z0-9:_.-]*$"))]
    pub instance_name: Option<String>,
    /// Description of the instance in the console: 2 to 256 characters. Used when the instance is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 256))]
    pub description: Option<String>,
    /// Tags of the instance and its disks, besides the operator's own five: up to 15, keys and values of up to
    /// 128 characters. Kept so on the instance; its disks get them when it is made. A tag that is taken out of
    /// the object stays in the cloud.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 15))]
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
    /// Resource group of the instance. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 4, max = 64), regex(pattern = r"^rg-[a-z0-9]+$"))]
    pub resource_group_id: Option<String>,
    /// An existing instance, all of whose disks are encrypted, to take over instead of creating one. Cannot
    /// change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopt: Option<Adoption>,
    /// Manage: create the instance, keep it as described and remove it as deletionPolicy says. Observe: only
    /// report on it.
    #[serde(default)]
    pub management_policy: ManagementPolicy,
    /// When the object is deleted: Retain keeps the instance; Delete stops and deletes it, unless it is
    /// protected from deletion.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// True: do nothing for this object, except when it is deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

fn yes() -> bool {
    true
}

/// What a system disk starts with: exactly one of `imageRef` and `imageId`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.imageId) != has(self.imageRef)")
    .message("exactly one of imageId and imageRef must be set"))]
pub struct InstanceImage {
    /// Id of a custom image of the region, plain or encrypted, or of a public one. The system disk is encrypted
    /// under its own key in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 128), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
    pub image_id: Option<String>,
    /// An EncryptedImage of the same namespace. The instance is made once that is Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_ref: Option<ObjectReference>,
}

/// Another object of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub name: String,
}

/// One key of a Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub name: String,
    /// Key in the Secret's data.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9._-]+$"))]
    pub key: String,
}

/// The system disk of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
        "!has(self.performanceLevel) || !has(self.category) || self.category == 'cloud_essd'"
    )
    .message("performanceLevel needs category cloud_essd"))]
pub struct SystemDisk {
    /// Size in GiB, at least that of the image.
    #[serde(rename = "sizeGiB")]
    #[schemars(range(min = 20, max = 2048))]
    pub size_gib: u32,
    /// Category. Encrypted system disks need one of the ESSD family; the default is cloud_essd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<EssdCategory>,
    /// Performance level of a cloud_essd disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub performance_level: Option<EssdLevel>,
    /// A key of its own; without one, the key of the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyReference>,
}

/// A data disk that is made together with its instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
        "!has(self.performanceLevel) || !has(self.category) || self.category == 'cloud_essd'"
    )
    .message("performanceLevel needs category cloud_essd"))]
pub struct DataDisk {
    /// Name of the disk within the object; part of its name in the console.
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,
    /// Size in GiB.
    #[serde(rename = "sizeGiB")]
    #[schemars(range(min = 1, max = 65536))]
    pub size_gib: u32,
    /// Category; the default is cloud_essd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<EssdCategory>,
    /// Performance level of a cloud_essd disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub performance_level: Option<EssdLevel>,
    /// A key of its own; without one, the key of the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyReference>,
    /// True: the disk is deleted together with its instance. False, the default: it stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delete_with_instance: bool,
}

/// Category of a disk, in the words of the ECS API: the family that can be encrypted everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EssdCategory {
    /// Enterprise SSD.
    #[default]
    CloudEssd,
    /// Enterprise SSD, AutoPL.
    CloudAuto,
    /// Enterprise SSD, entry level.
    CloudEssdEntry,
}

impl EssdCategory {
    /// The word of the ECS API.
    pub fn as_str(self) -> &'static str {
        match self {
            EssdCategory::CloudEssd => "cloud_essd",
            EssdCategory::CloudAuto => "cloud_auto",
            EssdCategory::CloudEssdEntry => "cloud_essd_entry",
        }
    }
}

/// Performance level of a cloud_essd disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum EssdLevel {
    /// Up to 10,000 IOPS.
    PL0,
    /// Up to 50,000 IOPS.
    PL1,
    /// Up to 100,000 IOPS.
    PL2,
    /// Up to 1,000,000 IOPS.
    PL3,
}

impl EssdLevel {
    /// The word of the ECS API.
    pub fn as_str(self) -> &'static str {
        match self {
            EssdLevel::PL0 => "PL0",
            EssdLevel::PL1 => "PL1",
            EssdLevel::PL2 => "PL2",
            EssdLevel::PL3 => "PL3",
        }
    }
}

/// Where an instance is in the network.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceNetwork {
    /// The vSwitch, in the zone of the instance.
    #[schemars(length(min = 5, max = 64), regex(pattern = r"^vsw-[a-z0-9]+$"))]
    pub v_switch_id: String,
    /// Security groups of the vSwitch's network: 1 to 16.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 4, max = 64), regex(pattern = r"^sg-[a-z0-9]+$"))
    )]
    pub security_group_ids: Vec<String>,
}

/// Whether an instance runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PowerState {
    /// It runs, and is started again if somebody stops it.
    #[default]
    Running,
    /// It is stopped, and stopped again if somebody starts it.
    Stopped,
}

/// What a revocation may do to an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OnRevocation {
    /// It goes on running until it is stopped by somebody.
    #[default]
    Leave,
    /// It is stopped in an orderly way.
    Stop,
    /// It is stopped like by a power cut.
    ForceStop,
}
