//! `ecskms revoke` and `ecskms restore`: the emergency lever without any cluster.
//!
//! The very loop, decisions, order and journal of the operator run on one KeyRevocation that lives in a file ([`record`]) instead
//! of a cluster. So the same command takes up what was interrupted, and a restoration gives back exactly what was recorded.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::output;
use crate::alibaba::{self, Cloud, Network, Source};
use crate::decision::Reason;
use crate::engine::Context;
use crate::engine::metrics::Metrics;
use crate::engine::reconcile::reconcile;
use crate::kind::{Clock, Kind, Settings, World};
use crate::kinds::key_revocation::api::{BlastRadius, DesiredState};
use crate::kinds::key_revocation::{self, journal};
use crate::kinds::{self, KeyRevocation};
use crate::resource::SharedStatus;
use record::{Record, Trouble};

mod account;
mod neighbours;
mod record;
pub mod restore;
pub mod revoke;
mod tell;

/// Pause between two passes: what throttles or fails for the moment is asked again this soon.
const PAUSE: Duration = Duration::from_millis(250);
/// The same while a restoration is only watched.
const CALM: Duration = Duration::from_secs(1);
/// The exit code of what has not come to its end: the same command goes on with it.
const NOT_YET: u8 = 1;
/// The exit code of what cannot be done as it was asked for. Nothing was done, and only another command or file helps.
const WRONG: u8 = 2;
/// The exit code of what was held back: by a guard, by the cloud for good, or because nobody confirmed it.
const HELD_BACK: u8 = 3;

/// How the cloud is reached and how the outcome is told.
#[derive(Debug, clap::Args)]
pub struct Means {
    /// Region of the key, for example cn-hangzhou.
    #[arg(long, env = "ECSKMS_REGION", value_name = "REGION")]
    region: String,
    /// Why, in 10 characters or more; stands in the record.
    #[arg(long, env = "ECSKMS_REASON", value_name = "TEXT")]
    reason: String,
    /// Does not ask for a confirmation.
    #[arg(long, env = "ECSKMS_YES")]
    yes: bool,
    /// The file of the record; by default ecskms-revocation-KEYID.json in the working directory.
    #[arg(long, env = "ECSKMS_RECORD", value_name = "FILE")]
    record: Option<PathBuf>,
    /// text, or json: the journal as JSON lines, and the result as the last of them. In pipes json is the default.
    #[arg(long, short, env = "ECSKMS_OUTPUT", value_name = "FORM")]
    output: Option<tell::Form>,
    /// Seconds after which to give up waiting for the end; what was begun stays begun, and the same command goes on with it.
    #[arg(long, env = "ECSKMS_TIMEOUT_SECONDS", default_value_t = 120, value_name = "SECONDS")]
    timeout_seconds: u64,
    /// Sends every product's calls to this address.
    #[arg(long, env = "ECSKMS_CLOUD_ENDPOINT", value_name = "URL")]
    cloud_endpoint: Option<String>,
    /// Uses the cloud's VPC endpoints, which serve only their own region.
    #[arg(long, env = "ECSKMS_VPC")]
    vpc: bool,
}

impl Means {
    fn record_path(&self, key_id: &str) -> PathBuf {
        // Only letters, digits and hyphens: a key's id must not lead out of the directory.
        let safe: String = key_id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        self.record.clone().unwrap_or_else(|| PathBuf::from(format!("ecskms-revocation-{safe}.json")))
    }

    fn form(&self) -> tell::Form {
        // Whatever NO_COLOR says: it is about colours, and nobody reads JSON at a terminal.
        let at_terminal = std::io::stdout().is_terminal();
        self.output.unwrap_or(if at_terminal { tell::Form::Text } else { tell::Form::Json })
    }

    fn cloud(&self) -> Result<Cloud, ExitCode> {
        Cloud::new(self.settings(), Source::Chain).map_err(|error| {
            wrong("the cloud client cannot be set up", &error, "Check --cloud-endpoint and --region.")
        })
    }

    /// As in the lane that revokes keys: one throttled call must not keep this command from its own next ones, and a lost answer
    /// must not cost half a minute. Between two passes there is a pause.
    fn settings(&self) -> alibaba::Settings {
        alibaba::Settings {
            endpoint_override: self.cloud_endpoint.clone(),
            network: if self.vpc { Network::Vpc } else { Network::Public },
            sts_region: Some(self.region.clone()),
            urgent: true,
            ..alibaba::Settings::default()
        }
    }

    /// Runs the loop on the record until its state is reached, or cannot be, and says how it ended.
    async fn drive(&self, record: Record, cloud: Cloud) -> Result<ExitCode, ExitCode> {
        let settings = Settings::standard("command-line".into(), "command-line".into(), "ecskms".into());
        let settings = Settings { without_cluster: true, ..settings };
        let world = Arc::new(World {
            kube: record.client(),
            cloud,
            clock: Clock::System,
            account: None,
            accounts: kinds::accounts(),
            claims: Arc::default(),
            revocations: Arc::default(),
            fresh: Arc::default(),
            settings,
        });
        let ctx = Arc::new(Context::<KeyRevocation>::new(world, Arc::new(Metrics::default())));
        let mut teller = tell::Teller::new(self.form(), &record.object());
        let began = Instant::now();
        let stop = output::stop_signal();
        let mut stop = std::pin::pin!(stop);
        loop {
            let pass = reconcile(Arc::new(record.object()), ctx.clone());
            tokio::select! {
                _ = pass => {}
                () = &mut stop => break,
            }
            let object = record.object();
            teller.entries(&object);
            let late = began.elapsed() >= Duration::from_secs(self.timeout_seconds);
            if late || is_over(&object) || record.unwritten().is_some() {
                break;
            }
            teller.aside(&object);
            // Nothing is in a hurry any more.
            let calm = object.spec.desired_state == DesiredState::Restored && holds(&object, "Ready");
            tokio::select! {
                () = tokio::time::sleep(if calm { CALM } else { PAUSE }) => {}
                () = &mut stop => break,
            }
        }
        let object = record.object();
        teller.entries(&object);
        if let Some(unwritten) = record.unwritten() {
            // What was done meanwhile stands nowhere else.
            teller.entries(&unwritten.object);
            return Err(not_written(&record, &unwritten.why));
        }
        let code = code(&object);
        teller.end(&object, code, record.path());
        Ok(ExitCode::from(code))
    }
}

/// Says that the record could not be written, and whether it matters to the key.
fn not_written(record: &Record, why: &str) -> ExitCode {
    let what = format!("the record {} cannot be written", record.path().unwrap_or(Path::new("-")).display());
    match may_have_acted(&record.object()) {
        true => {
            let next = "The key may have been switched: keep what is printed here, make the file writable, and run this command \
                        again, which looks and writes it down.";
            let _ = output::fail(&what, &why, next);
            ExitCode::from(NOT_YET)
        }
        false => wrong(&what, &why, "Nothing was done. Name another file with --record."),
    }
}

fn wrong(what: &str, why: &dyn std::fmt::Display, next: &str) -> ExitCode {
    let _ = output::fail(what, why, next);
    ExitCode::from(WRONG)
}

/// Says why a record cannot be used, and what then.
fn unusable(path: &Path, trouble: &Trouble) -> ExitCode {
    let what = format!("the record {} cannot be used", path.display());
    match trouble {
        Trouble::Busy => {
            let next = "Nothing was done. Wait for its end, or end it, and run this command again.";
            let _ = output::fail(&what, trouble, next);
            ExitCode::from(NOT_YET)
        }
        _ => {
            let next =
                "Nothing was done. Name another file with --record, in a directory that can be written to.";
            wrong(&what, trouble, next)
        }
    }
}

/// Fields of the resource, and the arguments that fill them.
const ARGUMENTS: &[(&str, &str)] = &[
    ("spec.keyId", "KEYID"),
    ("spec.region", "--region"),
    ("spec.reason", "--reason"),
    ("spec.requestedBy", "--requested-by"),
    ("spec.safety.acknowledgeAccountWide", "--acknowledge-account-wide"),
    ("spec.safety", "--max-affected-instances and --acknowledged-digest"),
];

/// What the kind refuses is refused before there is a record: one that can never begin would only be in the way.
fn check(object: &KeyRevocation) -> Result<(), ExitCode> {
    let Err(invalid) = object.desired() else { return Ok(()) };
    let (field, problem) = invalid.message.split_once(": ").unwrap_or(("", &invalid.message));
    let argument = ARGUMENTS.iter().find(|(name, _)| *name == field).map_or(field, |(_, argument)| argument);
    Err(wrong("wrong arguments", &format_args!("{argument}: {problem}"), "Nothing was done."))
}

/// True if something was done, or may have been, that only this record can undo.
fn may_have_acted(object: &KeyRevocation) -> bool {
    object.status.as_ref().is_some_and(|status| status.prior_state.is_some())
        || key_revocation::may_have_cut(object)
}

/// Whether somebody can confirm it, or need not. Before anything is asked of the cloud.
fn can_confirm(yes: bool) -> Result<(), ExitCode> {
    if yes || std::io::stdin().is_terminal() {
        return Ok(());
    }
    let next = "Give --yes where nobody can type.";
    let _ = output::fail("not confirmed", &"there is no terminal to ask at", next);
    Err(ExitCode::from(HELD_BACK))
}

/// Asks for the key's id, typed by hand.
fn confirm(yes: bool, what: &str, key_id: &str) -> Result<(), ExitCode> {
    use std::io::{BufRead, Write};
    if yes {
        return Ok(());
    }
    let _ = write!(std::io::stderr(), "{what}\nType the key's id to go on: ");
    let mut typed = String::new();
    let read = std::io::stdin().lock().read_line(&mut typed);
    if read.is_ok() && typed.trim() == key_id {
        return Ok(());
    }
    let _ = output::fail("not confirmed", &"what was typed is not the key's id", "Nothing was done.");
    Err(ExitCode::from(HELD_BACK))
}

fn condition(object: &KeyRevocation, name: &str) -> Option<(String, String, String)> {
    let shared: &SharedStatus = &object.status.as_ref()?.shared;
    let found = shared.conditions.iter().find(|condition| condition.type_ == name)?;
    let current = found.observed_generation == object.metadata.generation;
    current.then(|| (found.status.clone(), found.reason.clone(), found.message.clone()))
}

fn holds(object: &KeyRevocation, name: &str) -> bool {
    condition(object, name).is_some_and(|(status, ..)| status == "True")
}

/// True if nothing more will come by itself: the state is reached and told, or somebody must act.
fn is_over(object: &KeyRevocation) -> bool {
    let status = object.status.clone().unwrap_or_default();
    let listed = status.blast_radius.as_ref().is_some_and(BlastRadius::is_listed);
    let told = match object.spec.desired_state {
        DesiredState::Planned => listed,
        DesiredState::Revoked => listed && !status.verification.is_empty(),
        DesiredState::Restored => !may_still_be_cut(object),
    };
    (holds(object, "Ready") && told) || is_held_back(object)
}

/// True if what is asked for is not reached, and will not be by itself.
fn is_held_back(object: &KeyRevocation) -> bool {
    let (_, reason, _) = condition(object, "Ready").unwrap_or_default();
    let is = |other: Reason| reason == other.as_str();
    holds(object, "Stalled")
        || is(Reason::OverlappingRevocation)
        || (is(Reason::InventoryIncomplete) && is_denied(object))
}

/// True if a part of the list of what is hit was refused, so that another look brings no more.
fn is_denied(object: &KeyRevocation) -> bool {
    /// How the cloud's refusals are told; what passes by itself has another status.
    const REFUSED: &str = " (403): ";
    let blast = object.status.as_ref().and_then(|status| status.blast_radius.as_ref());
    blast.is_some_and(|blast| blast.missing.iter().any(|missing| missing.contains(REFUSED)))
}

/// True if what stood before was on, and a cut of this record may still arrive: one whose answer nobody saw. The loop goes on looking
/// until that can no longer be, and then closes the record. Whoever took the state over from another record found it switched off.
fn may_still_be_cut(object: &KeyRevocation) -> bool {
    const ON: [&str; 2] = ["Enabled", "Attached"];
    let Some(status) = &object.status else { return false };
    let Some(prior) = &status.prior_state else { return false };
    ON.contains(&prior.key_state.as_str())
        && prior.inherited_from.is_none()
        && status.timings.closed_at.is_none()
        && !journal::tells_cut(&status.journal)
}

fn code(object: &KeyRevocation) -> u8 {
    let unsettled = object.spec.desired_state == DesiredState::Restored && may_still_be_cut(object);
    match holds(object, "Ready") {
        true if unsettled => NOT_YET,
        true => 0,
        false if is_held_back(object) => HELD_BACK,
        false => NOT_YET,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_reaches_the_cloud_as_urgently_as_the_lane_that_revokes() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            means: Means,
        }
        let line = ["ecskms", "--region", "cn-hangzhou", "--reason", "a leaked credential"];
        let Line { means } = <Line as clap::Parser>::parse_from(line);
        assert!(means.settings().urgent, "a 429 would silence it for as long as the cloud asks");
    }
}
