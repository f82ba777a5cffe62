//! `ecskms revoke`: takes a key from ECS, and says who is hit.

use std::process::ExitCode;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::record::Record;
use super::{HELD_BACK, Means, confirm};
use crate::cli::output;
use crate::kinds::KeyRevocation;
use crate::kinds::key_revocation::api::{
    DesiredState, KeyRevocationSpec, Method, RestoreTo, RunningInstances, Safety,
};

/// Arguments of `ecskms revoke`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of the customer key; never an alias, which could be re-pointed during an attack.
    #[arg(value_name = "KEYID")]
    key_id: String,
    #[command(flatten)]
    means: Means,
    /// Only looks who would be hit; changes nothing and writes no record.
    #[arg(long, env = "ECSKMS_PLAN")]
    plan: bool,
    /// DisableKey, or DetachEcsRole, which hits every customer key in every region of the account.
    #[arg(long, env = "ECSKMS_METHOD", default_value = "DisableKey", value_parser = method, value_name = "METHOD")]
    method: Method,
    /// Needed with DetachEcsRole: that is meant, although it hits every customer key of the account.
    #[arg(long, env = "ECSKMS_ACKNOWLEDGE_ACCOUNT_WIDE")]
    acknowledge_account_wide: bool,
    /// What a restoration returns to: Recorded, or Enabled, which needs no reading of the key before the cut.
    #[arg(long, env = "ECSKMS_RESTORE_TO", default_value = "Recorded", value_parser = restore_to, value_name = "STATE")]
    restore_to: RestoreTo,
    /// What is done to running instances before the cut: Leave, Stop or ForceStop.
    #[arg(long, env = "ECSKMS_RUNNING_INSTANCES", default_value = "Leave", value_parser = running, value_name = "WHAT")]
    running_instances: RunningInstances,
    /// Seconds that the cut waits at most for the answers to the stop calls.
    #[arg(long, env = "ECSKMS_STOP_DEADLINE_SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=60), value_name = "SECONDS")]
    stop_deadline_seconds: u32,
    /// Asks for a snapshot of every affected disk before the cut, because none can be made after it.
    #[arg(long, env = "ECSKMS_EVIDENCE_SNAPSHOTS")]
    evidence_snapshots: bool,
    /// Holds the cut back while more instances than this would be hit, or while it is not known how many.
    #[arg(long, env = "ECSKMS_MAX_AFFECTED_INSTANCES", value_name = "COUNT")]
    max_affected_instances: Option<u32>,
    /// Holds the cut back unless the list of what is hit has this digest, which --plan shows.
    #[arg(long, env = "ECSKMS_ACKNOWLEDGED_DIGEST", value_name = "DIGEST")]
    acknowledged_digest: Option<String>,
    /// The incident or ticket that this belongs to.
    #[arg(long, env = "ECSKMS_INCIDENT_REF", value_name = "REF")]
    incident_ref: Option<String>,
    /// Who asks for it; by default the user of this machine.
    #[arg(long, env = "ECSKMS_REQUESTED_BY", value_name = "NAME")]
    requested_by: Option<String>,
}

fn method(word: &str) -> Result<Method, String> {
    word_of(word, "DisableKey or DetachEcsRole")
}

fn restore_to(word: &str) -> Result<RestoreTo, String> {
    word_of(word, "Recorded or Enabled")
}

fn running(word: &str) -> Result<RunningInstances, String> {
    match word_of(word, "Leave, Stop or ForceStop")? {
        RunningInstances::PerInstance => {
            Err("PerInstance asks objects of a cluster; say Leave, Stop or ForceStop".to_owned())
        }
        other => Ok(other),
    }
}

/// The word as the resource takes it.
fn word_of<T: serde::de::DeserializeOwned>(word: &str, words: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(word.to_owned())).map_err(|_| format!("must be {words}"))
}

/// Revokes, or only plans.
pub async fn run(args: Args) -> ExitCode {
    match go(&args).await {
        Ok(code) | Err(code) => code,
    }
}

async fn go(args: &Args) -> Result<ExitCode, ExitCode> {
    let fresh = || KeyRevocation { metadata: identity(args), spec: spec(args), status: None };
    if args.plan {
        let record = Record::begin(fresh(), None)
            .map_err(|trouble| output::fail("the plan cannot be begun", &trouble, "Please report this."))?;
        return args.means.drive(record).await;
    }
    let path = args.means.record_path(&args.key_id);
    let told = |trouble: &dyn std::fmt::Display| {
        let what = format!("the record {} cannot be used", path.display());
        output::fail(&what, trouble, "Nothing was done. Name another file with --record.")
    };
    let found = Record::read(&path).map_err(|trouble| told(&trouble))?;
    if let Some(before) = &found
        && (before.spec.key_id != args.key_id
            || before.spec.region != args.means.region
            || before.spec.desired_state != DesiredState::Revoked)
    {
        let _ = told(&"it is the record of another revocation, or of one that was restored");
        return Err(ExitCode::from(HELD_BACK));
    }
    let what = format!(
        "Key {} in {} is about to be taken from ECS ({:?}; running instances: {:?}).",
        args.key_id, args.means.region, args.method, args.running_instances
    );
    confirm(args.means.yes, &what, &args.key_id)?;
    let record =
        Record::begin(found.unwrap_or_else(fresh), Some(path.clone())).map_err(|trouble| told(&trouble))?;
    args.means.drive(record).await
}

fn identity(args: &Args) -> kube::core::ObjectMeta {
    // A name of Kubernetes, whatever was typed: it stands in the addresses that the record answers to.
    let plain = args.key_id.to_ascii_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let uid: String = (0..4).map(|_| format!("{:08x}", rand::random::<u32>())).collect();
    kube::core::ObjectMeta {
        name: Some(format!("command-line-{plain}")),
        uid: Some(uid),
        generation: Some(1),
        creation_timestamp: Some(Time(jiff::Timestamp::now())),
        ..Default::default()
    }
}

fn spec(args: &Args) -> KeyRevocationSpec {
    let user = || std::env::var("USER").ok().filter(|user| !user.is_empty());
    KeyRevocationSpec {
        account_ref: None,
        region: args.means.region.clone(),
        key_id: args.key_id.clone(),
        desired_state: if args.plan { DesiredState::Planned } else { DesiredState::Revoked },
        method: args.method,
        restore_to: args.restore_to,
        running_instances: args.running_instances,
        stop_deadline_seconds: args.stop_deadline_seconds,
        evidence_snapshots: args.evidence_snapshots,
        safety: Safety {
            max_affected_instances: args.max_affected_instances,
            acknowledged_digest: args.acknowledged_digest.clone(),
            acknowledge_account_wide: args.acknowledge_account_wide,
            // Nobody can tell here which machines are nodes of which cluster.
            allow_self_lockout: true,
            ..Safety::default()
        },
        reason: args.means.reason.clone(),
        incident_ref: args.incident_ref.clone(),
        requested_by: args.requested_by.clone().or_else(user).unwrap_or_else(|| "command line".to_owned()),
        approvals_required: 0,
        approvals: Vec::new(),
        drill: None,
    }
}
