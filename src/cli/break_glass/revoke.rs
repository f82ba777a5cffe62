//! `ecskms revoke`: takes a key from ECS, and says who is hit.

use std::path::Path;
use std::process::ExitCode;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::record::{Lock, Others, Record};
use super::{Means, account, can_confirm, check, confirm, may_have_acted, neighbours, unusable, wrong};
use crate::cli::output;
use crate::kinds::KeyRevocation;
use crate::kinds::key_revocation::api::{
    DesiredState, KeyRevocationSpec, Method, RestoreTo, RunningInstances, Safety,
};

/// Seconds that the cut waits for the stop calls, unless the command line says otherwise.
const STOP_DEADLINE_SECONDS: u32 = 5;

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
    /// DisableKey (default), or DetachEcsRole, which hits every customer key in every region of the account.
    #[arg(long, env = "ECSKMS_METHOD", value_parser = method, value_name = "METHOD")]
    method: Option<Method>,
    /// Needed with DetachEcsRole: that is meant, although it hits every customer key of the account.
    #[arg(long, env = "ECSKMS_ACKNOWLEDGE_ACCOUNT_WIDE")]
    acknowledge_account_wide: bool,
    /// What a restoration returns to: Recorded (default), or Enabled, which needs no reading of the key before the cut.
    #[arg(long, env = "ECSKMS_RESTORE_TO", value_parser = restore_to, value_name = "STATE")]
    restore_to: Option<RestoreTo>,
    /// What is done to running instances before the cut: Leave (default), Stop or ForceStop. Can be raised later.
    #[arg(long, env = "ECSKMS_RUNNING_INSTANCES", value_parser = running, value_name = "WHAT")]
    running_instances: Option<RunningInstances>,
    /// Seconds that the cut waits at most for the answers to the stop calls; 5 by default.
    #[arg(long, env = "ECSKMS_STOP_DEADLINE_SECONDS", value_parser = clap::value_parser!(u32).range(1..=60), value_name = "SECONDS")]
    stop_deadline_seconds: Option<u32>,
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
    let fresh = KeyRevocation { metadata: identity(args), spec: spec(args), status: None };
    // Before there is a record: what cannot begin must not leave one behind.
    check(&fresh)?;
    let cloud = args.means.cloud()?;
    if args.plan {
        let record = Record::begin(fresh, None, Others::Ignored)
            .map_err(|trouble| wrong("the plan cannot be begun", &trouble, "Please report this."))?;
        return args.means.drive(record, cloud).await;
    }
    let path = args.means.record_path(&args.key_id);
    // To the very end: whoever restores with the same record would have the key taken away again.
    let _lock = Lock::take(&path).map_err(|trouble| unusable(&path, &trouble))?;
    let found = Record::read(&path).map_err(|trouble| unusable(&path, &trouble))?;
    let is_bound = found.as_ref().is_some_and(may_have_acted);
    let mut object = match found {
        Some(found) => taken_up(found, fresh, args).map_err(|refusal| {
            let what = format!("the record {} cannot be used", path.display());
            wrong(&what, &refusal.why, &format!("Nothing was done. {}", refusal.next))
        })?,
        None => fresh,
    };
    can_confirm(args.means.yes)?;
    let account = account::ask(&cloud, object.spec.method).await?;
    account::bind(&mut object, account.as_deref(), &path)?;
    tell_neighbours(&path, &object);
    confirm(args.means.yes, &announcement(&object.spec, account.as_deref()), &args.key_id)?;
    if !is_bound {
        ask_now(&mut object);
    }
    let record = Record::begin(object, Some(path.clone()), Others::Count)
        .map_err(|trouble| unusable(&path, &trouble))?;
    args.means.drive(record, cloud).await
}

/// What is about to happen, and to how much.
fn announcement(spec: &KeyRevocationSpec, account: Option<&str>) -> String {
    let (key, region) = (&spec.key_id, &spec.region);
    let account = account::words(account);
    let what = match spec.method {
        Method::DisableKey => format!("Key {key} in {region} {account} is"),
        Method::DetachEcsRole => {
            format!("EVERY customer key in EVERY region {account}, not only {key} in {region}, is")
        }
    };
    format!(
        "{what} about to be taken from ECS ({:?}; running instances: {:?}).",
        spec.method, spec.running_instances
    )
}

/// The time to revoke counts from here: neither the typing of the confirmation nor a command that was held back belongs to it.
fn ask_now(object: &mut KeyRevocation) {
    object.metadata.creation_timestamp = Some(Time(jiff::Timestamp::now()));
    if let Some(status) = &mut object.status {
        status.timings.requested_at = None;
    }
}

/// Says which other records count: the key comes back with the last of them, and to what was first recorded.
fn tell_neighbours(path: &Path, object: &KeyRevocation) {
    let found = neighbours::look(path, object);
    for other in &found.records {
        output::note(format_args!(
            "ecskms: the record {} is of the same, and not at its end: what it recorded first counts, and the key returns with the \
             last of them.",
            other.metadata.name.as_deref().unwrap_or_default()
        ));
    }
    for unread in &found.unread {
        output::note(format_args!(
            "ecskms: there may be another record of the same, but it cannot be read: {unread}."
        ));
    }
}

/// Why the record that is there does not serve this command, and what then.
#[derive(Debug)]
struct Refusal {
    why: String,
    next: &'static str,
}

/// What this command is about, where there is a record already: the recorded revocation, with what may be raised, or a fresh one
/// in its place if that one did nothing. Nothing that the command line says is passed over.
fn taken_up(found: KeyRevocation, fresh: KeyRevocation, args: &Args) -> Result<KeyRevocation, Refusal> {
    if !may_have_acted(&found) {
        return Ok(if found.spec == fresh.spec { found } else { fresh });
    }
    let before = &found.spec;
    if before.key_id != args.key_id || before.region != args.means.region {
        return Err(Refusal {
            why: format!(
                "it is the record of another revocation, of key {} in {}, not of key {} in {}",
                before.key_id, before.region, args.key_id, args.means.region
            ),
            next: "Correct KEYID or --region, or name another file with --record.",
        });
    }
    if before.desired_state != DesiredState::Revoked {
        let restored = found.status.as_ref().is_some_and(|status| status.timings.restored_at.is_some());
        return Err(match restored {
            true => Refusal {
                why: "it is the record of a revocation that was restored".to_owned(),
                next: "Keep it, and name another file with --record to revoke the key again.",
            },
            // A new record would take the state of now, which is this one's doing, for the one before.
            false => Refusal {
                why: "its restoration was asked for and is not done".to_owned(),
                next: "Run ecskms restore with this record until it is, and only then revoke the key anew with another file.",
            },
        });
    }
    let differing = differing(before, args);
    if !differing.is_empty() {
        return Err(Refusal {
            why: format!("it is the record of a revocation that has begun: {}", differing.join("; ")),
            next: "What is left out stays as it is recorded.",
        });
    }
    raised(found, args.running_instances)
}

/// What the command line says otherwise than the record, each with both values. What may be raised is not among it.
fn differing(before: &KeyRevocationSpec, args: &Args) -> Vec<String> {
    fn text(value: Option<impl ToString>) -> Option<String> {
        value.map(|value| value.to_string())
    }
    fn word(value: Option<impl std::fmt::Debug>) -> Option<String> {
        value.map(|value| format!("{value:?}"))
    }
    let set = |value: bool| value.then(|| "set".to_owned());
    let safety = &before.safety;
    let lowered = args.running_instances.filter(|asked| *asked < before.running_instances);
    [
        ("--reason", Some(args.means.reason.clone()), Some(before.reason.clone())),
        ("--method", word(args.method), word(Some(before.method))),
        ("--restore-to", word(args.restore_to), word(Some(before.restore_to))),
        ("--running-instances", word(lowered), word(Some(before.running_instances))),
        (
            "--stop-deadline-seconds",
            text(args.stop_deadline_seconds),
            text(Some(before.stop_deadline_seconds)),
        ),
        ("--evidence-snapshots", set(args.evidence_snapshots), set(before.evidence_snapshots)),
        ("--max-affected-instances", text(args.max_affected_instances), text(safety.max_affected_instances)),
        // It holds back a cut, and this one has come.
        ("--acknowledged-digest", args.acknowledged_digest.clone(), safety.acknowledged_digest.clone()),
        (
            "--acknowledge-account-wide",
            set(args.acknowledge_account_wide),
            set(safety.acknowledge_account_wide),
        ),
        ("--incident-ref", args.incident_ref.clone(), before.incident_ref.clone()),
        ("--requested-by", args.requested_by.clone(), Some(before.requested_by.clone())),
    ]
    .into_iter()
    .filter(|(_, asked, recorded)| asked.is_some() && asked != recorded)
    .map(|(flag, asked, recorded)| {
        let asked = asked.unwrap_or_default();
        format!("{flag} is {asked} here and {} there", recorded.as_deref().unwrap_or("not set"))
    })
    .collect()
}

/// More is asked for than before: to stop what was left running.
fn raised(mut object: KeyRevocation, asked: Option<RunningInstances>) -> Result<KeyRevocation, Refusal> {
    let Some(asked) = asked.filter(|asked| *asked > object.spec.running_instances) else { return Ok(object) };
    let before = object.spec.running_instances;
    object.spec.running_instances = asked;
    object.metadata.generation = object.metadata.generation.map(|generation| generation + 1);
    match may_have_acted(&object) {
        true => Ok(object),
        // A declared cut whose record is not written yet would no longer be one that may stand.
        false => Err(Refusal {
            why: format!(
                "its cut is not recorded yet: --running-instances is {asked:?} here and {before:?} there"
            ),
            next: "Run this command without --running-instances first, and then again with it.",
        }),
    }
}

fn identity(args: &Args) -> kube::core::ObjectMeta {
    // A name of Kubernetes, whatever was typed: it stands in the addresses that the record answers to.
    let plain = args.key_id.to_ascii_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let uid: String = (0..4).map(|_| format!("{:08x}", rand::random::<u32>())).collect();
    kube::core::ObjectMeta {
        name: Some(format!("{}{plain}", neighbours::NAME_PREFIX)),
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
        method: args.method.unwrap_or_default(),
        restore_to: args.restore_to.unwrap_or_default(),
        running_instances: args.running_instances.unwrap_or_default(),
        stop_deadline_seconds: args.stop_deadline_seconds.unwrap_or(STOP_DEADLINE_SECONDS),
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use serde_json::json;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(more: &[&str]) -> Args {
        let given = ["revoke", "key-a", "--region", "cn-hangzhou", "--reason", "a leaked credential"];
        Line::try_parse_from(given.iter().chain(more)).expect("good arguments").args
    }

    fn fresh(args: &Args) -> KeyRevocation {
        KeyRevocation { metadata: identity(args), spec: spec(args), status: None }
    }

    fn with(mut object: KeyRevocation, status: serde_json::Value) -> KeyRevocation {
        object.status = Some(serde_json::from_value(status).expect("a status"));
        object
    }

    fn begun(more: &[&str]) -> KeyRevocation {
        let prior = json!({"keyState": "Enabled", "capturedAt": "2026-01-01T00:00:00.000000Z"});
        with(fresh(&args(more)), json!({"phase": "Revoked", "priorState": prior}))
    }

    fn take(found: KeyRevocation, args: &Args) -> Result<KeyRevocation, Refusal> {
        taken_up(found, fresh(args), args)
    }

    #[test]
    fn a_record_that_did_nothing_does_not_bind() {
        let held = |more: &[&str]| with(fresh(&args(more)), json!({"phase": "Held"}));
        for (first, then) in [
            (&["--max-affected-instances", "0"][..], &["--max-affected-instances", "9"][..]),
            (&["--acknowledged-digest", "ab"], &["--acknowledged-digest", "cd"]),
            (&["--restore-to", "Enabled"], &[]),
            (&["--incident-ref", "one"], &["--method", "DetachEcsRole", "--acknowledge-account-wide"]),
        ] {
            let now = args(then);
            let object = take(held(first), &now).expect("a fresh one");
            assert_eq!((object.spec, object.status), (spec(&now), None), "{first:?} {then:?}");
        }
        let mut elsewhere = held(&[]);
        elsewhere.spec.region = "cn-beijing".into();
        assert_eq!(take(elsewhere, &args(&[])).expect("a fresh one").spec.region, "cn-hangzhou");
        let same = held(&[]);
        assert_eq!(take(same.clone(), &args(&[])).expect("the same").metadata.uid, same.metadata.uid);
    }

    #[test]
    fn a_record_that_did_something_binds_and_names_what_differs() {
        for (first, then, words) in [
            (&[][..], &["--restore-to", "Enabled"][..], "--restore-to is Enabled here and Recorded there"),
            (&[], &["--reason", "another one it is"], "--reason is another one it is here"),
            (
                &["--running-instances", "Stop"],
                &["--running-instances", "Leave"],
                "Leave here and Stop there",
            ),
            (&[], &["--max-affected-instances", "3"], "--max-affected-instances is 3 here and not set there"),
            (&[], &["--evidence-snapshots"], "--evidence-snapshots is set here and not set there"),
            (&[], &["--region", "cn-beijing"], "in cn-hangzhou, not of key key-a in cn-beijing"),
        ] {
            let mut line = vec!["revoke", "key-a"];
            for (flag, value) in [("--region", "cn-hangzhou"), ("--reason", "a leaked credential")] {
                line.extend(Some([flag, value]).filter(|_| !then.contains(&flag)).into_iter().flatten());
            }
            let now = Line::try_parse_from(line.iter().chain(then)).expect("good arguments").args;
            let refusal = take(begun(first), &now).expect_err("another one");
            assert!(refusal.why.contains(words), "{} {words}", refusal.why);
        }
        let mut restored = begun(&[]);
        restored.spec.desired_state = DesiredState::Restored;
        let refusal = take(restored.clone(), &args(&[])).expect_err("not done");
        assert!(
            refusal.why.contains("is not done") && refusal.next.contains("ecskms restore"),
            "{refusal:?}"
        );
        let status = restored.status.as_mut().expect("a status");
        status.timings.restored_at = status.prior_state.as_ref().map(|prior| prior.captured_at.clone());
        assert!(take(restored, &args(&[])).expect_err("restored").why.contains("was restored"));
    }

    #[test]
    fn what_is_left_out_stays_and_what_may_rise_does() {
        let first = ["--running-instances", "Stop", "--restore-to", "Enabled", "--incident-ref", "one"];
        let before = begun(&first);
        let object = take(before.clone(), &args(&[])).expect("goes on");
        assert_eq!((&object.spec, object.metadata.generation), (&before.spec, Some(1)));
        let object = take(before, &args(&["--running-instances", "ForceStop"])).expect("goes on");
        assert_eq!(object.spec.running_instances, RunningInstances::ForceStop);
        assert_eq!(
            object.metadata.generation,
            Some(2),
            "what was told of the old request is not told of this one"
        );
        // A declared cut that is not recorded: to raise it now would make it one that cannot have come.
        let declared = fresh(&args(&["--restore-to", "Enabled"]));
        let now = args(&["--running-instances", "Stop"]);
        assert!(take(declared, &now).expect_err("not yet").why.contains("--running-instances"));
    }

    #[test]
    fn a_command_that_cannot_begin_is_refused_by_itself() {
        let wrong = |more: &[&str]| check(&fresh(&args(more))).is_err();
        assert!(!wrong(&[]) && wrong(&["--requested-by", " "]) && wrong(&["--method", "DetachEcsRole"]));
    }
}
