//! KeyRevocation as the operator answers it: how far it has come, who is hit, what was recorded, what is proven.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resource::SharedStatus;

/// What has happened so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRevocationStatus {
    /// How far it has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// What stood before the first change: the state to which Restored returns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior_state: Option<PriorState>,
    /// When what happened.
    #[serde(default)]
    pub timings: Timings,
    /// Who is hit, in short; the whole is in the ConfigMap that reportRef names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blast_radius: Option<BlastRadius>,
    /// Running instances that may still hold a data key of the key in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub still_readable: Option<StillReadable>,
    /// What was checked, and what came of it. Unknown never counts as a pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["check"])
    )]
    pub verification: Vec<Verification>,
    /// How often somebody took the revocation back out of band and it was made again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reverts: u32,
    /// The instances that this revocation asked to stop; Restored starts these and no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stops: Option<Stops>,
    /// The snapshots that were asked for before the cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// The ConfigMap that holds the whole report as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report_ref: Option<ConfigMapReference>,
    /// The last 50 entries of what was done. Only appended to; each hash covers the one before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub journal: Vec<JournalEntry>,
    /// The entry before the first one in journal, once older ones were dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal_anchor: Option<JournalAnchor>,
    #[serde(flatten)]
    #[allow(missing_docs)]
    pub shared: SharedStatus,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// How far a revocation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// The list of what would be hit is being made.
    Planning,
    /// Only looked at; nothing was changed.
    Planned,
    /// Something holds the cut back: an approval, a limit, a digest, or the guard against locking oneself out.
    Held,
    /// The prior state is recorded; the cut is under way.
    Revoking,
    /// Key calls are rejected; running instances may still hold data keys.
    Revoked,
    /// Key calls are rejected and no running instance holds a data key.
    Contained,
    /// The recorded state is being given back.
    Restoring,
    /// The recorded state stands again.
    Restored,
}

/// What stood before the first change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PriorState {
    /// State of the key in the words of KMS.
    #[schemars(length(max = 64))]
    pub key_state: String,
    /// Policies of the role through which ECS uses customer keys, as `Type/Name`; only for DetachEcsRole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 160)))]
    pub ecs_role_policies: Option<Vec<String>>,
    /// When it was read.
    pub captured_at: MicroTime,
    /// Name of the earlier revocation of the same key from which the state was taken over, because that one
    /// had already changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub inherited_from: Option<String>,
}

/// When what happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timings {
    /// When the revocation was asked for, or first seen by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<MicroTime>,
    /// When the first call that changes something was allowed to be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_call_at: Option<MicroTime>,
    /// When the cloud had accepted the cut, or was found to have made it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<MicroTime>,
    /// When no running instance held a data key any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contained_at: Option<MicroTime>,
    /// When the last check had passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<MicroTime>,
    /// When the recorded state stood again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_at: Option<MicroTime>,
    /// When the record was closed: a minute after restoredAt the recorded state still stood, so that no late call of the revocation
    /// can take it away any more. What becomes of the key from then on is its owner's business.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<MicroTime>,
    /// Milliseconds from requestedAt to revokedAt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_revoke_ms: Option<i64>,
    /// Milliseconds from requestedAt to containedAt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_contain_ms: Option<i64>,
}

/// Who is hit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlastRadius {
    /// Hash of the ids of everything that is hit: the value for safety.acknowledgedDigest. Empty before anything is listed.
    #[schemars(length(max = 64))]
    pub digest: String,
    /// False if a listing failed, was denied or took too long, and always with method DetachEcsRole: then there
    /// may be more than is listed.
    pub complete: bool,
    /// What is not listed, and why; empty if complete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 512)))]
    pub missing: Vec<String>,
    /// Instances, running, stopped or unknown, with a disk under the key. This and the other counts are absent before anything is listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances_affected: Option<u32>,
    /// Those of them that are not stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances_running: Option<u32>,
    /// Those of them that are stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances_stopped: Option<u32>,
    /// Disks under the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disks: Option<u32>,
    /// Custom images with a snapshot under the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<u32>,
    /// Snapshots under the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<u32>,
    /// PersistentVolumes of this cluster on these disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volumes: Option<u32>,
    /// Workloads of this cluster on these volumes, as `Namespace/Kind/Name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 600)))]
    pub workloads: Vec<String>,
    /// Namespaces of these workloads and claims.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 63)))]
    pub namespaces: Vec<String>,
    /// True if nodes of this very cluster have disks under the key.
    pub self_lockout: bool,
    /// The first 100 things that are hit, nodes and running instances first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub items: Vec<AffectedItem>,
    /// True if a list here was cut; the whole is in the ConfigMap that reportRef names.
    pub truncated: bool,
}

impl BlastRadius {
    /// False while it says only that the list did not come in time.
    pub fn is_listed(&self) -> bool {
        !self.digest.is_empty()
    }
}

/// One thing that is hit.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffectedItem {
    /// Instance, Disk, Snapshot or Image.
    #[schemars(length(max = 32))]
    pub kind: String,
    /// Its id in the cloud.
    #[schemars(length(max = 64))]
    pub id: String,
    /// Its status in the words of the ECS API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub status: Option<String>,
    /// The instance that uses a disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub instance_id: Option<String>,
    /// The node of this cluster that an instance is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node: Option<String>,
    /// The PersistentVolume of this cluster on a disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub persistent_volume: Option<String>,
    /// The claim of that volume, as `Namespace/Name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 320))]
    pub claim: Option<String>,
    /// The workload that mounts the claim, as `Namespace/Kind/Name`; the first one where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 600))]
    pub workload: Option<String>,
}

/// Running instances that may still hold a data key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StillReadable {
    /// How many.
    pub count: u32,
    /// The first 50 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub instances: Vec<StillReadableInstance>,
}

/// One instance that may still hold a data key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StillReadableInstance {
    /// Its id.
    #[schemars(length(max = 64))]
    pub id: String,
    /// Its status in the words of the ECS API; Unknown if the listing does not show it.
    #[schemars(length(max = 64))]
    pub status: String,
    /// Why it still runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub reason: Option<String>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// What was checked: KeyState, EcsRolePolicies, StartProbe or EvidenceSnapshots.
    #[schemars(length(max = 64))]
    pub check: String,
    /// What came of it.
    pub result: VerificationResult,
    /// When the result was first seen.
    pub time: MicroTime,
    /// What exactly was seen.
    #[schemars(length(max = 512))]
    pub detail: String,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum VerificationResult {
    /// Proven.
    Pass,
    /// Disproven.
    Fail,
    /// Could not be checked; never counts as a pass.
    Unknown,
}

/// The instances that were asked to stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stops {
    /// When the stop calls were allowed to be sent; stopDeadlineSeconds counts from here.
    pub requested_at: MicroTime,
    /// True once every call was answered or the deadline has passed.
    #[serde(default)]
    pub answered: bool,
    /// Instances that ran before and were asked to stop. What certainly refused is taken off once that is known; what may have
    /// stopped although no answer says so stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5000), inner(length(max = 64)))]
    pub instances: Vec<String>,
    /// The same for instances that were asked to stop as if the power failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5000), inner(length(max = 64)))]
    pub forced: Vec<String>,
    /// Instances that refused to stop, and the cloud's code. Together with instances and forced at most 5000; what is beyond them is
    /// not asked to stop.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5000))]
    pub refused: Vec<RefusedStop>,
    /// True once every instance was asked to start again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub started: bool,
}

/// An instance that refused to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefusedStop {
    /// Its id.
    #[schemars(length(max = 64))]
    pub id: String,
    /// The cloud's code.
    #[schemars(length(max = 128))]
    pub code: String,
    /// True if it was to be stopped as if the power failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forced: bool,
}

/// The snapshots that were asked for before the cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// When they were asked for.
    pub requested_at: MicroTime,
    /// How many were accepted.
    pub accepted: u32,
    /// How many were refused or not answered.
    pub refused: u32,
    /// The first 100 of them, as `disk=snapshot`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 130)))]
    pub snapshots: Vec<String>,
    /// Why there is none at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub missing: Option<String>,
}

/// A ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapReference {
    /// Its namespace: the operator's.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
}

/// One thing that was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JournalEntry {
    /// Counts from 1 without gaps.
    pub seq: i64,
    /// When.
    pub time: MicroTime,
    /// What: an action of the cloud's API, or a step of the operator's.
    #[schemars(length(max = 64))]
    pub action: String,
    /// To what.
    #[schemars(length(max = 256))]
    pub target: String,
    /// The cloud's request id; the first ones of a step that takes several calls, all of which the operator's log has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub request_id: Option<String>,
    /// What came of it: Accepted, Recorded, Observed, or the cloud's code.
    #[schemars(length(max = 256))]
    pub result: String,
    /// SHA-256 over the hash before and all other fields, in hexadecimal digits.
    #[schemars(length(max = 64))]
    pub hash: String,
}

/// Where the journal in status begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JournalAnchor {
    /// Number of the last entry that was dropped.
    pub seq: i64,
    /// Its hash.
    #[schemars(length(max = 64))]
    pub hash: String,
}
