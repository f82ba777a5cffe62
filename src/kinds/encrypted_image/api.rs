//! EncryptedImage as users write and read it. Schema, columns and CEL only.

#![expect(clippy::duplicated_attributes, reason = "printer columns share a type and a priority")]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resource::{
    AccountReference, Adoption, DeletionPolicy, Drift, KeyReference, ManagementPolicy, SharedStatus,
    StatusTime, TagValue,
};

/// What the image should be.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "ecskms.dev",
    version = "v1alpha1",
    kind = "EncryptedImage",
    plural = "encryptedimages",
    singular = "encryptedimage",
    shortname = "eimg",
    category = "ecskms",
    category = "alicloud",
    namespaced,
    status = "EncryptedImageStatus",
    derive = "PartialEq",
    doc = "EncryptedImage is a copy of a custom image of Alibaba Cloud ECS, encrypted under a KMS key, so \
           that system disks made from it are encrypted.",
    selectable = ".spec.region",
    printcolumn(
        name = "Image",
        type_ = "string",
        json_path = ".status.imageId",
        description = "Id of the encrypted image."
    ),
    printcolumn(
        name = "Region",
        type_ = "string",
        json_path = ".spec.region",
        description = "Region of the encrypted image."
    ),
    printcolumn(
        name = "Key",
        type_ = "string",
        json_path = ".status.keyId",
        description = "Id of the KMS key."
    ),
    printcolumn(
        name = "Progress",
        type_ = "integer",
        json_path = ".status.progress",
        description = "Percent of the copy that is done."
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the image exists, encrypted under the key."
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
        name = "Source",
        type_ = "string",
        priority = 1,
        json_path = ".spec.source.imageId",
        description = "The image that is copied."
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
    validation = Rule::new("self.key == oldSelf.key")
        .message("key is immutable: an image cannot change its key; create a new object")
        .field_path(".key"),
    validation = Rule::new("self.source == oldSelf.source")
        .message("source is immutable; create a new object")
        .field_path(".source"),
    validation = Rule::new(
            "has(self.imageName) == has(oldSelf.imageName) && (!has(self.imageName) || self.imageName == \
             oldSelf.imageName)"
        )
        .message("imageName is immutable; create a new object"),
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
    validation = Rule::new("!has(self.source.region) || self.source.region == self.region")
        .message(
            "a source in another region cannot be copied and encrypted in one step; copy it across first"
        )
        .field_path(".source.region")
)]
pub struct EncryptedImageSpec {
    /// Whose account; the operator's own credentials where it is left out. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_ref: Option<AccountReference>,
    /// Region of the encrypted image and of its key, for example `cn-hangzhou`. Cannot change.
    #[schemars(length(min = 3, max = 40), regex(pattern = r"^[a-z]{2,4}-[a-z0-9-]+$"))]
    pub region: String,
    /// The image that is copied. Cannot change.
    pub source: ImageSource,
    /// The key that encrypts every snapshot behind the copy. Required: nothing falls back to the service key.
    /// Cannot change.
    pub key: KeyReference,
    /// Name of the image, unique in the region: 2 to 128 characters. Default: `ecskms-`, the object's
    /// namespace, its name and a part of its uid. Cannot change, and is kept so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 128), regex(pattern = r"^[A-Za-z][A-Za-z0-9:_.-]*$"))]
    pub image_name: Option<String>,
    /// Description of the image in the console: 2 to 256 characters. Kept so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 256))]
    pub description: Option<String>,
    /// How long a copy may take before it is called failed, as hours, minutes and seconds such as `2h` or
    /// `90m`. It may still end well later.
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('168h')")
            .message("copyTimeout must be between 1m and 168h")
    )]
    #[serde(default = "default_copy_timeout")]
    #[schemars(length(min = 2, max = 16), regex(pattern = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"))]
    pub copy_timeout: String,
    /// When the image is deleted: Retain keeps the snapshots behind it, which cost money until they are
    /// deleted; Delete deletes them.
    #[serde(default)]
    pub snapshot_policy: DeletionPolicy,
    /// Tags of the image, besides the operator's own four: up to 16, keys and values of up to 128 characters.
    /// Kept so; a tag that is taken out of the object stays in the cloud.
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
    /// Resource group of the image. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 4, max = 64), regex(pattern = r"^rg-[a-z0-9]+$"))]
    pub resource_group_id: Option<String>,
    /// An existing encrypted image to take over instead of making a copy. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopt: Option<Adoption>,
    /// Manage: create the image, keep it as described and remove it as deletionPolicy says. Observe: only
    /// report on it.
    #[serde(default)]
    pub management_policy: ManagementPolicy,
    /// When the object is deleted: Retain keeps the image, Delete deletes it. A copy that is still running is
    /// cancelled in either case.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// True: do nothing for this object, except when it is deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// Two hours: several times what Alibaba's own examples take.
fn default_copy_timeout() -> String {
    "2h".to_owned()
}

/// The image that is copied.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageSource {
    /// Id of a custom image of up to 500 GiB, for example `m-bp67acfmxazb4p****`.
    #[schemars(length(min = 3, max = 64), regex(pattern = r"^m-[a-z0-9]+$"))]
    pub image_id: String,
    /// Region of the source; must be the object's region, which is also the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 40), regex(pattern = r"^[a-z]{2,4}-[a-z0-9-]+$"))]
    pub region: Option<String>,
}

/// What the image is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EncryptedImageStatus {
    /// Id of the encrypted image, once it was seen in the cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub image_id: Option<String>,
    /// Status of the image in the words of the ECS API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub image_state: Option<String>,
    /// Percent of the copy that is done, in steps of ten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub progress: Option<u8>,
    /// Place in the queue of copies of the region, from 1; absent while the copy runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<u32>,
    /// The snapshots behind the image, one for each disk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub snapshots: Vec<ImageSnapshot>,
    /// Size of the image in GiB.
    #[serde(default, rename = "sizeGiB", skip_serializing_if = "Option::is_none")]
    pub size_gib: Option<u32>,
    /// Id of the key: resolved once and pinned, because an alias can be re-pointed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub key_id: Option<String>,
    /// When the copy was first seen running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_started_at: Option<StatusTime>,
    /// When the copy was first seen complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_finished_at: Option<StatusTime>,
    /// Differences that the operator does not mend by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub drift: Vec<Drift>,
    #[serde(flatten)]
    #[allow(missing_docs)]
    pub shared: SharedStatus,
}

/// One snapshot behind the image.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageSnapshot {
    /// Id of the snapshot.
    #[schemars(length(max = 64))]
    pub id: String,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// The key that it shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub key_id: Option<String>,
}
