//! What a test may change about the cloud while it runs (`PUT /_sim/settings`).
//!
//! Deliberately no faults: those are in `faults`. Settings change what the cloud *is*, faults what one call
//! *meets*.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Every setting with its default. Unknown names are refused, so that a misspelt one cannot pass unseen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Calls per simulated minute and region, by action; overrides `quota_default`.
    pub quotas: BTreeMap<String, u32>,
    /// Calls per simulated minute, region and action of ECS, RAM and STS.
    pub quota_default: u32,
    /// KMS management reads per simulated second and region.
    pub kms_reads_per_second: u32,
    /// KMS management writes per simulated second and region.
    pub kms_writes_per_second: u32,
    /// How long a new resource stays out of every listing, in simulated seconds.
    pub list_lag_seconds: f64,
    /// How long a ClientToken is remembered, in simulated seconds.
    pub token_lifetime_seconds: f64,
    /// Whether a refused creation is remembered under its ClientToken.
    pub token_remembers_failures: bool,
    /// The account owes money.
    pub arrears: bool,
    /// KMS has been opened in the account.
    pub kms_opened: bool,
    /// Whether StopInstance asks for the key, as its error table says it may.
    pub stop_checks_key: bool,
    /// Copies of images that run at once in one region.
    pub concurrent_copies: usize,
    /// Snapshots of disks that are made at once in one region; 0 for no limit.
    pub concurrent_snapshots: usize,
    /// Disks that are on their way to one instance at once; 0 for no limit.
    pub concurrent_attachments: usize,
    /// Disks that are on their way from one instance at once; 0 for no limit.
    pub concurrent_detachments: usize,
    /// The largest image that CopyImage takes, in GiB.
    pub image_size_limit_gib: u32,
    /// Own images per region.
    pub image_quota: usize,
    /// Customer keys outside of a KMS instance, per region.
    pub default_keys_per_region: usize,
    /// Actions that answer an empty list to a caller without permission.
    pub empty_when_denied: Vec<String>,
    /// The policy of the limited access key.
    pub limited_policy: Value,
    /// Seconds by which the gateway's clock is ahead of real time when it judges `x-acs-date`.
    pub clock_skew_seconds: i64,
    /// The vSwitches that exist; while there are none, every one is taken as given.
    pub vswitches: Vec<String>,
    /// So many of the next accepted instances vanish instead of starting, as when a zone has no stock.
    pub stock_failures: u32,
    /// The role that the metadata service lends; empty for an instance without one.
    pub metadata_role: String,
    /// Whether the metadata service answers only to who shows a token of its own.
    pub metadata_token_required: bool,
    /// The region of a call that names none by parameter, header or host.
    pub home_region: String,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            quotas: BTreeMap::new(),
            // assumption: quota-figures
            quota_default: 1000,
            kms_reads_per_second: 20,
            kms_writes_per_second: 10,
            list_lag_seconds: 0.0,
            // assumption: token-lifetime
            token_lifetime_seconds: 24.0 * 3600.0,
            // assumption: token-failures
            token_remembers_failures: true,
            arrears: false,
            kms_opened: true,
            // assumption: stop-needs-key
            stop_checks_key: true,
            concurrent_copies: 5,
            // assumption: limits-on-what-runs-at-once
            concurrent_snapshots: 0,
            concurrent_attachments: 0,
            concurrent_detachments: 0,
            image_size_limit_gib: 500,
            image_quota: 100,
            default_keys_per_region: 1,
            empty_when_denied: vec!["DescribeInstances".into(), "DescribeInstanceStatus".into()],
            limited_policy: working_policy(),
            clock_skew_seconds: 0,
            vswitches: Vec::new(),
            stock_failures: 0,
            metadata_role: "ecskms-operator".into(),
            metadata_token_required: true,
            home_region: "cn-hangzhou".into(),
        }
    }
}

impl Settings {
    /// These settings with the named ones replaced.
    pub fn patched(&self, patch: &Value) -> Result<Settings, String> {
        let mut all = serde_json::to_value(self).map_err(|error| error.to_string())?;
        let changes = patch.as_object().ok_or("settings must be a JSON object")?;
        for (name, value) in changes {
            all[name.as_str()] = value.clone();
        }
        serde_json::from_value(all).map_err(|error| error.to_string())
    }
}

/// What the limited key may do at first: the normal work of an encryption operator, no revocation, no key
/// creation.
fn working_policy() -> Value {
    json!({"Version": "1", "Statement": [
        {"Effect": "Allow", "Resource": "*", "Action": [
            "ecs:Describe*", "ecs:ListTagResources", "ecs:CopyImage", "ecs:CancelCopyImage",
            "ecs:DeleteImage",
            "ecs:ModifyImageAttribute", "ecs:CreateSnapshot", "ecs:CopySnapshot", "ecs:DeleteSnapshot",
            "ecs:CreateDisk", "ecs:ModifyDiskAttribute", "ecs:AttachDisk", "ecs:DetachDisk",
            "ecs:TagResources"]},
        {"Effect": "Allow", "Resource": "*", "Action": ["kms:DescribeKey", "kms:List*"]},
        {"Effect": "Allow", "Resource": "*", "Action": [
            "ram:GetRole", "ram:ListPoliciesForRole", "ram:GetPolicy"]}
    ]})
}
