//! EncryptionAudit as users write it. Schema, columns and CEL only; what the operator answers stands in `status`.

#![expect(clippy::duplicated_attributes, reason = "printer columns share a type and a priority")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resource::{AccountReference, StatusTime};

pub mod status;

pub use status::{
    AuditFinding, AuditSummary, AuditedRegion, EncryptionAuditStatus, NamespaceTally, ResourceTally,
};

/// Which account is looked at, how often, and what is required of it.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "ecskms.dev",
    version = "v1alpha1",
    kind = "EncryptionAudit",
    plural = "encryptionaudits",
    singular = "encryptionaudit",
    shortname = "eaudit",
    category = "ecskms",
    category = "alicloud",
    status = "EncryptionAuditStatus",
    derive = "PartialEq",
    doc = "EncryptionAudit says what in an account is encrypted, under which sort of key, and what is not. It only reads.",
    printcolumn(
        name = "Total",
        type_ = "integer",
        json_path = ".status.summary.total",
        description = "Disks and snapshots that were found."
    ),
    printcolumn(
        name = "Unencrypted",
        type_ = "integer",
        json_path = ".status.summary.unencrypted",
        description = "How many of them are not encrypted."
    ),
    printcolumn(
        name = "ServiceKey",
        type_ = "integer",
        json_path = ".status.summary.serviceKey",
        description = "How many are under the service key, which cannot be revoked."
    ),
    printcolumn(
        name = "Coverage",
        type_ = "integer",
        json_path = ".status.summary.coveragePercent",
        description = "Percent that are known to be encrypted, rounded down."
    ),
    printcolumn(
        name = "Compliant",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Compliant")].status"#,
        description = "Whether all that was found is as required."
    ),
    printcolumn(
        name = "LastScan",
        type_ = "date",
        json_path = ".status.lastScanTime",
        description = "When the account was looked at last."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Age of the object."
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        priority = 1,
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the scan ran."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        priority = 1,
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why."
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        description = "What was found, and what to do next."
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
        "has(self.accountRef) == has(oldSelf.accountRef) && (!has(self.accountRef) || self.accountRef \
         == oldSelf.accountRef)"
    )
    .message("accountRef is immutable; create a new object"))]
pub struct EncryptionAuditSpec {
    /// Whose account; the operator's own where it is left out. Cannot change. With another account, the StorageClasses of this cluster are
    /// not judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_ref: Option<AccountReference>,
    /// Regions to look at, for example `cn-hangzhou`; empty: every region of the account.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 3, max = 40), regex(pattern = r"^[a-z]{2,4}-[a-z0-9-]+$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub regions: Vec<String>,
    /// How long from one scan to the next, as hours, minutes and seconds such as `6h` or `90m`; at least 10m, at most
    /// 168h.
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('10m') && duration(self) <= duration('168h')")
            .message("interval must be between 10m and 168h")
    )]
    #[serde(default = "default_interval")]
    #[schemars(length(min = 2, max = 16), regex(pattern = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"))]
    pub interval: String,
    /// CustomerKey: only a customer key satisfies, because access to the service key cannot be revoked. AnyKey: the
    /// service key does too.
    #[serde(default)]
    pub require: Requirement,
    /// Ids of the only keys that satisfy; empty: every key that `require` allows. An id, never an alias or an ARN.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9-]*$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub allowed_key_ids: Vec<String>,
    /// What is let off, why, and until when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub exemptions: Vec<AuditExemption>,
    /// Report: judge as well what a region does with new disks for which nobody asks for encryption. Ignore: do not. It is
    /// never changed.
    #[serde(default)]
    pub account_default: AccountDefaultPolicy,
    /// True: nothing is looked at; what was found last stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// Six hours: what is new is known the same day, and a scan of a large account costs some hundred calls.
fn default_interval() -> String {
    "6h".to_owned()
}

/// What satisfies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Requirement {
    /// Encryption under whatever key.
    AnyKey,
    /// Encryption under a customer key.
    #[default]
    CustomerKey,
}

/// What is done about the default of a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AccountDefaultPolicy {
    /// It is not judged.
    Ignore,
    /// It is judged.
    #[default]
    Report,
}

/// Something that is let off for a while: exactly one of `resourceId` and `tag`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.resourceId) != has(self.tag)")
    .message("exactly one of resourceId and tag must be set"))]
pub struct AuditExemption {
    /// Id of a resource, name of a StorageClass, or, for the default of a region, the region. With an instance go its disks,
    /// with an image the snapshots behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
    pub resource_id: Option<String>,
    /// Everything in the cloud that carries this tag, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<ExemptTag>,
    /// Why, in 10 to 512 characters.
    #[schemars(length(min = 10, max = 512))]
    pub reason: String,
    /// When it ends. What is still not as required then is a finding with the reason ExemptionExpired.
    pub expires_at: StatusTime,
}

/// A tag in the cloud.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExemptTag {
    /// Key of the tag.
    #[schemars(length(min = 1, max = 128))]
    pub key: String,
    /// Value of the tag; may be empty.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub value: String,
}
