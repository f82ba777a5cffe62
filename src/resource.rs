//! The fields that the resources of group `ecskms.dev` have in common: key references, policies, recorded
//! intents.
//!
//! Types and their schema only; what they mean for a cloud resource is decided in `kinds/`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub mod check;
pub mod selector;

/// API group of every kind.
pub const GROUP: &str = "ecskms.dev";
/// The finalizer that holds an object until its cloud side is settled.
pub const FINALIZER: &str = "ecskms.dev/finalizer";
/// Any new value makes the operator look at the object at once; echoed in `status.lastHandledReconcileAt`.
pub const RECONCILE_ANNOTATION: &str = "ecskms.dev/reconcile-requested-at";
/// Flux's spelling of the same wish.
pub const FLUX_RECONCILE_ANNOTATION: &str = "reconcile.fluxcd.io/requestedAt";

/// Tag keys of every cloud resource that the operator creates, and what is amiss among the tags that the user wants.
pub mod tag {
    use std::collections::BTreeMap;

    /// The uid of the cluster's kube-system namespace.
    pub const CLUSTER: &str = "ecskms:cluster";
    /// The object's namespace.
    pub const NAMESPACE: &str = "ecskms:namespace";
    /// The object's name.
    pub const NAME: &str = "ecskms:name";
    /// The object's uid: the proof of ownership.
    pub const UID: &str = "ecskms:uid";
    /// The object's kind, on an instance and the disks that were made with it: without it, a disk that an instance brought
    /// along would look like that of a disk object of the same name.
    pub const KIND: &str = "ecskms:kind";

    /// The wanted tags that a resource has not, or with another value.
    pub fn amiss(wanted: &[(String, String)], real: &BTreeMap<String, String>) -> Vec<(String, String)> {
        wanted.iter().filter(|(key, value)| real.get(key) != Some(value)).cloned().collect()
    }

    /// Field, wanted value and real value of each tag that is amiss.
    pub fn drift(
        wanted: &[(String, String)],
        real: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = (String, String, String)> {
        amiss(wanted, real).into_iter().map(|(key, value)| {
            let seen = real.get(&key).cloned().unwrap_or_default();
            (format!("spec.tags[{key}]"), value, seen)
        })
    }
}

/// Which KMS key encrypts the resource: exactly one of `id`, `alias` and `service`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.id), has(self.alias), has(self.service)].filter(x, x).size() == 1")
    .message("exactly one of id, alias and service must be set"))]
pub struct KeyReference {
    /// Id of a customer key in the same region, for example `key-hzz62f1cb66fa42qo****`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9-]*$"))]
    pub id: Option<String>,
    /// Alias of a customer key in the same region, for example `alias/payments`. Resolved once and pinned in
    /// status.keyId.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 7, max = 255), regex(pattern = r"^alias/[A-Za-z0-9_/-]+$"))]
    #[x_kube(validation = Rule::new("!self.startsWith('alias/acs')")
        .message("aliases that begin with alias/acs belong to Alibaba Cloud; use service: true"))]
    pub alias: Option<String>,
    /// True: the service key of ECS (`alias/acs/ecs`). It can never be disabled, so access to it cannot be
    /// revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self")
        .message("service can only be true; leave it out to use a customer key"))]
    pub service: Option<bool>,
}

/// Which CloudAccount's credentials to use.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccountReference {
    /// Name of a CloudAccount.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What the operator may do to the cloud resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ManagementPolicy {
    /// Create it, keep it as described, and remove it as `deletionPolicy` says.
    #[default]
    Manage,
    /// Only report on it.
    Observe,
}

/// What happens to the cloud resource when the object is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It stays.
    #[default]
    Retain,
    /// It is deleted, if it is the operator's own and nobody uses it.
    Delete,
}

/// An existing cloud resource to take over instead of creating one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Adoption {
    /// Id of the existing resource. It must already be encrypted under the key; it is never deleted by the
    /// operator.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[a-z]-[a-z0-9]+$"))]
    pub external_id: String,
}

/// Value of a tag: up to 128 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct TagValue(#[schemars(length(max = 128))] pub String);

/// The one creation that an object is allowed to have, recorded before anything is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IntentRecord {
    /// Number of the creation attempt, from 1; each attempt has its own ClientToken.
    pub attempt: u32,
    /// What is created, in kinds that create more than one sort of resource; absent for the kind's own resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub role: Option<String>,
    /// How often the request may have been sent, counted before each send.
    pub sends: u32,
    /// How many sends were definitely answered.
    pub answered: u32,
    /// True once the cloud accepted the request.
    #[serde(default)]
    pub accepted: bool,
    /// When the right to send was last taken.
    pub recorded_at: MicroTime,
    /// The exact request, ClientToken included; replayed, never rebuilt. Dropped once the resource is there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 256, "additionalProperties" = parameter_schema()))]
    pub parameters: BTreeMap<String, String>,
}

/// A parameter's value: descriptions, of up to 256 characters, are the longest; in bytes they can be four
/// times that.
fn parameter_schema() -> serde_json::Value {
    serde_json::json!({ "type": "string", "description": "Value of one parameter.", "maxLength": 1024 })
}

/// The last thing that went wrong, as the cloud said it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// The cloud's error code, or a word of the operator's where no answer came.
    #[schemars(length(max = 256))]
    pub code: String,
    /// The cloud's request id, for a support ticket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub request_id: Option<String>,
    /// Transient, Throttled, Denied, Conflict, Gone, Refused or Defect.
    #[schemars(length(max = 32))]
    pub class: String,
    /// The reason that the conditions showed.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Generation of the object that met it.
    pub generation: i64,
}

/// One difference between the object and the cloud resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drift {
    /// Field of the object.
    #[schemars(length(max = 256))]
    pub path: String,
    /// What the object asks for.
    #[schemars(length(max = 256))]
    pub desired: String,
    /// What the cloud shows.
    #[schemars(length(max = 256))]
    pub observed: String,
}

impl Drift {
    /// Field, wanted value and real value, cut to the limits of status.
    pub fn of((path, desired, observed): (String, String, String)) -> Drift {
        let cut = |text: String| text.chars().take(256).collect();
        Drift { path: cut(path), desired: cut(desired), observed: cut(observed) }
    }

    /// The first difference, its real value in words, and how many more there are.
    pub fn first(list: &[Drift]) -> Option<(&Drift, &str, String)> {
        let first = list.first()?;
        let observed = if first.observed.is_empty() { "nothing" } else { &first.observed };
        let more = match list.len() {
            1 => String::new(),
            count => format!(" And {} more, see status.drift.", count - 1),
        };
        Some((first, observed, more))
    }
}

/// The part of status that the engine itself reads and writes; every kind's status contains it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SharedStatus {
    /// Generation of the object that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The last handled value of the reconcile-requested-at annotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_reconcile_at: Option<String>,
    /// Id of the account of the resource, or that a CloudAccount stands for, pinned at the first sight: credentials of another
    /// account are not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub account_id: Option<String>,
    /// The recorded creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<IntentRecord>,
    /// The last thing that went wrong; absent while all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// Ready always; Reconciling and Stalled only while True; then what the kind itself observed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
}

/// A moment in status, with seconds.
pub type StatusTime = Time;
