//! KeyRevocation as users write it. Schema, columns and CEL only; what the operator answers stands in `status`.
//!
//! One object is one incident record: what it speaks of cannot change, and it only goes forward.

#![expect(clippy::duplicated_attributes, reason = "printer columns share a type and a priority")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resource::AccountReference;

pub mod status;

pub use status::{
    AffectedItem, BlastRadius, ConfigMapReference, Evidence, JournalAnchor, JournalEntry,
    KeyRevocationStatus, Phase, PriorState, RefusedStop, StillReadable, StillReadableInstance, Stops,
    Timings, Verification, VerificationResult,
};

/// Which key ECS must lose, and what else is asked for.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "ecskms.dev",
    version = "v1alpha1",
    kind = "KeyRevocation",
    plural = "keyrevocations",
    singular = "keyrevocation",
    shortname = "krev",
    category = "ecskms",
    category = "alicloud",
    status = "KeyRevocationStatus",
    derive = "PartialEq",
    doc = "KeyRevocation takes the use of one KMS key from ECS, says who is hit, and gives it back only on demand. \
           Deleting the object undoes nothing.",
    selectable = ".spec.keyId",
    printcolumn(
        name = "Key",
        type_ = "string",
        json_path = ".spec.keyId",
        description = "Id of the KMS key."
    ),
    printcolumn(
        name = "Desired",
        type_ = "string",
        json_path = ".spec.desiredState",
        description = "What is asked for."
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "How far it has come."
    ),
    printcolumn(
        name = "StillReadable",
        type_ = "integer",
        json_path = ".status.stillReadable.count",
        description = "Running instances that may still hold a data key of the key."
    ),
    printcolumn(
        name = "Affected",
        type_ = "integer",
        json_path = ".status.blastRadius.instancesAffected",
        description = "Instances, running or stopped, with a disk under the key."
    ),
    printcolumn(
        name = "TTR",
        type_ = "integer",
        json_path = ".status.timings.timeToRevokeMs",
        description = "Milliseconds from the request to the accepted revocation."
    ),
    printcolumn(
        name = "Incident",
        type_ = "string",
        json_path = ".spec.incidentRef",
        description = "The incident that this belongs to."
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
        description = "Whether the observed state equals the desired one."
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
        description = "What happened and what to do next."
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.region == oldSelf.region")
        .message("region is immutable; create a new object")
        .field_path(".region"),
    validation = Rule::new("self.keyId == oldSelf.keyId")
        .message("keyId is immutable; create a new object")
        .field_path(".keyId"),
    validation = Rule::new("self.reason == oldSelf.reason")
        .message("reason is immutable: the object is a record")
        .field_path(".reason"),
    validation = Rule::new("self.requestedBy == oldSelf.requestedBy")
        .message("requestedBy is immutable: the object is a record; leave it as it is, whoever changes the rest")
        .field_path(".requestedBy"),
    validation = Rule::new(
            "has(self.method) == has(oldSelf.method) && (!has(self.method) || self.method == oldSelf.method)"
        )
        .message("method is immutable; create a new object"),
    validation = Rule::new(
            "has(self.restoreTo) == has(oldSelf.restoreTo) && \
             (!has(self.restoreTo) || self.restoreTo == oldSelf.restoreTo)"
        )
        .message("restoreTo is immutable; create a new object"),
    validation = Rule::new(
            "has(self.stopDeadlineSeconds) == has(oldSelf.stopDeadlineSeconds) && \
             (!has(self.stopDeadlineSeconds) || self.stopDeadlineSeconds == oldSelf.stopDeadlineSeconds)"
        )
        .message("stopDeadlineSeconds is immutable; create a new object"),
    validation = Rule::new(
            "has(self.evidenceSnapshots) == has(oldSelf.evidenceSnapshots) && \
             (!has(self.evidenceSnapshots) || self.evidenceSnapshots == oldSelf.evidenceSnapshots)"
        )
        .message("evidenceSnapshots is immutable; create a new object"),
    validation = Rule::new(
            "has(self.approvalsRequired) == has(oldSelf.approvalsRequired) && \
             (!has(self.approvalsRequired) || self.approvalsRequired == oldSelf.approvalsRequired)"
        )
        .message("approvalsRequired is immutable; create a new object"),
    validation = Rule::new(
            "has(self.incidentRef) == has(oldSelf.incidentRef) && (!has(self.incidentRef) || \
             self.incidentRef == oldSelf.incidentRef)"
        )
        .message("incidentRef is immutable: the object is a record"),
    validation = Rule::new(
            "has(self.drill) == has(oldSelf.drill) && (!has(self.drill) || self.drill == oldSelf.drill)"
        )
        .message("drill is immutable; create a new object"),
    validation = Rule::new(
            "has(self.accountRef) == has(oldSelf.accountRef) && (!has(self.accountRef) || self.accountRef \
             == oldSelf.accountRef)"
        )
        .message("accountRef is immutable; create a new object"),
    validation = Rule::new(
            "self.desiredState == oldSelf.desiredState || \
             (oldSelf.desiredState == 'Planned' && self.desiredState == 'Revoked') || \
             (oldSelf.desiredState == 'Revoked' && self.desiredState == 'Restored')"
        )
        .message("desiredState only goes forward: Planned, Revoked, Restored; create a new object to revoke again"),
    validation = Rule::new(
            "self.runningInstances == oldSelf.runningInstances || oldSelf.runningInstances == 'Leave' || \
             (oldSelf.runningInstances == 'PerInstance' && self.runningInstances in ['Stop', 'ForceStop']) || \
             (oldSelf.runningInstances == 'Stop' && self.runningInstances == 'ForceStop')"
        )
        .message("runningInstances only goes up: Leave, PerInstance, Stop, ForceStop"),
    validation = Rule::new(
            "!has(oldSelf.approvals) || (has(self.approvals) && oldSelf.approvals.all(old, \
             self.approvals.exists(new, new.approver == old.approver)))"
        )
        .message("approvals are only added, never taken back"),
    validation = Rule::new("!has(self.approvals) || self.approvals.all(a, a.approver != self.requestedBy)")
        .message("whoever asked for the revocation cannot approve it"),
    validation = Rule::new(
            "!has(self.method) || self.method != 'DetachEcsRole' || (has(self.safety) && \
             has(self.safety.acknowledgeAccountWide) && self.safety.acknowledgeAccountWide)"
        )
        .message(
            "method DetachEcsRole takes every customer key in every region of the account from ECS; set \
             safety.acknowledgeAccountWide: true if that is meant"
        ),
    validation = Rule::new(
            "!has(self.method) || self.method != 'DetachEcsRole' || !has(self.safety) || \
             (!has(self.safety.maxAffectedInstances) && !has(self.safety.acknowledgedDigest))"
        )
        .message(
            "method DetachEcsRole hits every customer key in every region of the account, and only what is under keyId is \
             listed: leave out safety.maxAffectedInstances and safety.acknowledgedDigest, which could not hold it back rightly"
        )
)]
pub struct KeyRevocationSpec {
    /// Whose account; the operator's own credentials where it is left out. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_ref: Option<AccountReference>,
    /// Region of the key, for example `cn-hangzhou`. Cannot change.
    #[schemars(length(min = 3, max = 40), regex(pattern = r"^[a-z]{2,4}-[a-z0-9-]+$"))]
    pub region: String,
    /// Id of the customer key, for example `key-hzz62f1cb66fa42qo****`. Never an alias, which could be
    /// re-pointed during an attack. Cannot change.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9-]*$"))]
    pub key_id: String,
    /// Planned only looks who would be hit. Revoked takes the key from ECS. Restored gives back exactly what
    /// was recorded before. Only goes forward, so that one object is the record of one incident.
    #[serde(default)]
    pub desired_state: DesiredState,
    /// DisableKey disables the key, for every cloud service that uses it. DetachEcsRole takes the grant
    /// from ECS, for every customer key in every region of the account, and needs
    /// safety.acknowledgeAccountWide. Cannot change.
    #[serde(default)]
    pub method: Method,
    /// What the key goes back to. Recorded: its state is read and written down before the cut, and that is what it
    /// goes back to. Enabled: you say that the key is enabled, or shall be once this is over; the cut then waits
    /// neither for the reading nor for the record, and is as fast as one call can be. Cannot change.
    #[serde(default)]
    pub restore_to: RestoreTo,
    /// What is done to running instances, which keep their data key in memory until they stop. Leave: nothing,
    /// the cut comes at once. PerInstance: what each EncryptedInstance says in spec.onRevocation. Stop and
    /// ForceStop: all are stopped. Can only go up.
    #[serde(default)]
    pub running_instances: RunningInstances,
    /// Seconds that the cut waits at most for the answers to the stop calls. Cannot change.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 60))]
    pub stop_deadline_seconds: u32,
    /// True: a snapshot of every affected disk is asked for before the cut, because none can be made after
    /// it. The cut does not wait for it longer than safety.inventoryTimeoutSeconds; status says what is
    /// missing. Cannot change.
    #[serde(default)]
    pub evidence_snapshots: bool,
    /// What holds the cut back.
    #[serde(default)]
    pub safety: Safety,
    /// Why, in 10 to 1024 characters. Cannot change.
    #[schemars(length(min = 10, max = 1024))]
    pub reason: String,
    /// The incident or ticket that this belongs to. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub incident_ref: Option<String>,
    /// User name of whoever asks for the revocation, as the Kubernetes API knows it; the shipped
    /// ValidatingAdmissionPolicy binds it to the real user. Cannot change.
    #[schemars(length(min = 1, max = 512))]
    pub requested_by: String,
    /// How many people other than the requester must approve before the cut. Cannot change.
    #[serde(default)]
    #[schemars(range(min = 0, max = 2))]
    pub approvals_required: u32,
    /// Approvals, each added by the approver. The shipped ValidatingAdmissionPolicy allows an entry to be
    /// added only by the user whose name it carries; the operator counts distinct approvers other than
    /// requestedBy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["approver"])
    )]
    pub approvals: Vec<Approval>,
    /// Makes this a rehearsal: the same steps, and then it is restored by itself. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<Drill>,
}

fn five() -> u32 {
    5
}

fn ten() -> u32 {
    10
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DesiredState {
    /// Only look who would be hit.
    #[default]
    Planned,
    /// Take the key from ECS and keep it so.
    Revoked,
    /// Give back what was recorded before.
    Restored,
}

/// What the key goes back to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RestoreTo {
    /// The state that is read and written down before the cut.
    #[default]
    Recorded,
    /// Enabled, as the user declares; the cut waits for no record.
    Enabled,
}

/// How ECS loses the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Method {
    /// KMS DisableKey: one key, for every cloud service.
    #[default]
    DisableKey,
    /// RAM DetachPolicyFromRole: every customer key of the account, for ECS alone.
    DetachEcsRole,
}

/// What is done to running instances.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum RunningInstances {
    /// Nothing.
    #[default]
    Leave,
    /// What each EncryptedInstance says; others are left.
    PerInstance,
    /// Stop all.
    Stop,
    /// Stop all as if the power failed.
    ForceStop,
}

/// What holds the cut back, and what lets it go on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
            "has(self.maxAffectedInstances) == has(oldSelf.maxAffectedInstances) && \
             (!has(self.maxAffectedInstances) || self.maxAffectedInstances == oldSelf.maxAffectedInstances)"
        )
        .message("safety.maxAffectedInstances is immutable; create a new object"),
    validation = Rule::new(
            "has(self.allowSelfLockout) == has(oldSelf.allowSelfLockout) && \
             (!has(self.allowSelfLockout) || self.allowSelfLockout == oldSelf.allowSelfLockout)"
        )
        .message("safety.allowSelfLockout is immutable; create a new object"),
    validation = Rule::new(
            "has(self.acknowledgeAccountWide) == has(oldSelf.acknowledgeAccountWide) && \
             (!has(self.acknowledgeAccountWide) || self.acknowledgeAccountWide == oldSelf.acknowledgeAccountWide)"
        )
        .message("safety.acknowledgeAccountWide is immutable; create a new object"),
    validation = Rule::new(
            "has(self.inventoryTimeoutSeconds) == has(oldSelf.inventoryTimeoutSeconds) && \
             (!has(self.inventoryTimeoutSeconds) || \
             self.inventoryTimeoutSeconds == oldSelf.inventoryTimeoutSeconds)"
        )
        .message("safety.inventoryTimeoutSeconds is immutable; create a new object")
)]
pub struct Safety {
    /// The cut is held while more instances than this would be hit, or while it is not known how many. Not with
    /// method DetachEcsRole. Fixed when the object is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub max_affected_instances: Option<u32>,
    /// The cut is held until this equals status.blastRadius.digest: the proof that somebody has read the list.
    /// May be set later; not with method DetachEcsRole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[0-9a-f]+$"))]
    pub acknowledged_digest: Option<String>,
    /// True: revoke even if nodes of this very cluster have disks under the key. Fixed when the object is
    /// created.
    #[serde(default)]
    pub allow_self_lockout: bool,
    /// True: method DetachEcsRole is meant, although it hits every customer key of the account. Fixed when the
    /// object is created.
    #[serde(default)]
    pub acknowledge_account_wide: bool,
    /// Seconds after which a step that wants the list of what is hit goes on without it. The snapshots of
    /// evidenceSnapshots have as long to be accepted, but never more than 60 seconds. Fixed when the object
    /// is created.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 300))]
    pub inventory_timeout_seconds: u32,
}

impl Default for Safety {
    fn default() -> Safety {
        Safety {
            max_affected_instances: None,
            acknowledged_digest: None,
            allow_self_lockout: false,
            acknowledge_account_wide: false,
            inventory_timeout_seconds: ten(),
        }
    }
}

/// One approval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// User name of the approver, as the Kubernetes API knows it; not the requester.
    #[schemars(length(min = 1, max = 512))]
    pub approver: String,
    /// When it was approved, as the approver says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<MicroTime>,
}

/// A rehearsal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drill {
    /// Minutes after the revocation at which it is restored by itself.
    #[schemars(range(min = 1, max = 1440))]
    pub restore_after_minutes: u32,
}
