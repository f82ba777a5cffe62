//! `ecskms audit`: what of an account is encrypted and what is not, without any cluster.
//!
//! The very scan and judge of the operator. Of a cluster it knows nothing: neither StorageClasses nor namespaces are judged, and a key
//! that a revocation holds counts as disabled.

use std::collections::BTreeMap;
use std::process::ExitCode;

use futures::future::join_all;

use super::output;
use crate::alibaba::{self, Cloud, Network, Source};
use crate::decision::Decision;
use crate::engine::pace::{self, Pace};
use crate::kind::{Fault, Lane};
use crate::kinds::EncryptionAudit;
use crate::kinds::encryption_audit::api::{AccountDefaultPolicy, AuditFinding, Requirement};
use crate::kinds::encryption_audit::decide::{Desired, Observed, Scan, Wanted};
use crate::kinds::encryption_audit::outcome::{Compliance, Outcome, RegionOutcome};
use crate::kinds::encryption_audit::scan::{self, Plan};
use crate::kinds::encryption_audit::{self, EncryptionAuditSpec, EncryptionAuditStatus, report};

mod html;
mod table;

/// Arguments of `ecskms audit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A region to look at, for example cn-hangzhou; may be given more than once, or as a list with commas. Without it, every
    /// region of the account.
    // Not ECSKMS_REGION: whoever sets that for `ecskms run` means where the operator is at home, and narrows no audit.
    #[arg(long = "region", env = "ECSKMS_AUDIT_REGION", value_delimiter = ',', value_name = "REGION")]
    regions: Vec<String>,
    /// CustomerKey (default): only a customer key satisfies, because access to the service key cannot be revoked; or AnyKey.
    #[arg(long, env = "ECSKMS_REQUIRE", value_parser = requirement, value_name = "WHAT")]
    require: Option<Requirement>,
    /// The id of a key that satisfies, and none but these; may be given more than once, or as a list with commas.
    #[arg(
        long = "allowed-key-id",
        env = "ECSKMS_ALLOWED_KEY_ID",
        value_delimiter = ',',
        value_name = "KEYID"
    )]
    allowed_key_ids: Vec<String>,
    /// Does not judge what regions do with new disks for which nobody asks for encryption.
    #[arg(long, env = "ECSKMS_IGNORE_ACCOUNT_DEFAULT")]
    ignore_account_default: bool,
    /// table, json with all findings, or html: one page that needs nothing else.
    #[arg(long, short, env = "ECSKMS_AUDIT_OUTPUT", default_value = "table", value_name = "FORM")]
    output: Form,
    /// Sends every product's calls to this address.
    #[arg(long, env = "ECSKMS_CLOUD_ENDPOINT", value_name = "URL")]
    cloud_endpoint: Option<String>,
    /// Uses the cloud's VPC endpoints, which serve only their own region.
    #[arg(long, env = "ECSKMS_VPC")]
    vpc: bool,
}

/// For whom the outcome is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Lines for people.
    Table,
    /// One JSON object.
    Json,
    /// One page.
    Html,
}

fn requirement(word: &str) -> Result<Requirement, String> {
    let value = serde_json::Value::String(word.to_owned());
    serde_json::from_value(value).map_err(|_| "must be AnyKey or CustomerKey".to_owned())
}

/// The exit code of flags that cannot work.
const WRONG: u8 = 2;
/// The exit code of an account in which something is not as required.
const NOT_COMPLIANT: u8 = 3;
/// The exit code of an account in which nothing is amiss, as far as it could be read.
const INCOMPLETE: u8 = 4;

/// What is printed.
struct Findings {
    status: EncryptionAuditStatus,
    findings: Vec<AuditFinding>,
    compliance: Compliance,
    at: jiff::Timestamp,
}

/// Looks at the account and says what was found.
pub async fn run(args: Args) -> ExitCode {
    match go(&args).await {
        Ok(code) | Err(code) => code,
    }
}

async fn go(args: &Args) -> Result<ExitCode, ExitCode> {
    let object = EncryptionAudit::new("command-line", spec(args));
    let wanted = encryption_audit::wanted(&object.spec).map_err(|invalid| wrong(&invalid.message))?;
    let settings = alibaba::Settings {
        endpoint_override: args.cloud_endpoint.clone(),
        network: if args.vpc { Network::Vpc } else { Network::Public },
        sts_region: args.regions.first().cloned(),
        ..alibaba::Settings::default()
    };
    let cloud = Cloud::new(settings, Source::Chain).map_err(|error| {
        let _ =
            output::fail("the cloud client cannot be set up", &error, "Check --cloud-endpoint and --region.");
        ExitCode::from(WRONG)
    })?;
    let (outcome, first) = look(&cloud, &wanted).await.map_err(|fault| nothing(&fault))?;
    if outcome.read_nothing() {
        let fault = first.unwrap_or_else(|| Fault::defect("Empty", "no region was read"));
        return Err(nothing(&fault));
    }
    let compliance = outcome.compliance(0);
    let at = jiff::Timestamp::now();
    let findings = outcome.findings().into_iter().map(|finding| report::listed(finding, at)).collect();
    let observed = Observed { scan: Scan::Done(Box::new(outcome)), told: false };
    let desired = Desired::Present(Box::new(wanted));
    let status = report::report(&object, &desired, &observed, &Decision::Settled, at).status;
    let result = Findings { status, findings, compliance, at };
    match args.output {
        Form::Table => table::print(&result),
        Form::Json => output::say(json(&result)),
        Form::Html => output::say(html::page(&result)),
    }
    Ok(ExitCode::from(code(compliance)))
}

fn code(compliance: Compliance) -> u8 {
    match compliance {
        Compliance::Yes => 0,
        Compliance::No => NOT_COMPLIANT,
        Compliance::Unknown => INCOMPLETE,
    }
}

fn word(compliance: Compliance) -> &'static str {
    match compliance {
        Compliance::Yes => "True",
        Compliance::No => "False",
        Compliance::Unknown => "Unknown",
    }
}

/// Fields of the resource, and the flags that fill them.
const FLAGS: &[(&str, &str)] = &[("spec.regions", "--region"), ("spec.allowedKeyIds", "--allowed-key-id")];

fn wrong(message: &str) -> ExitCode {
    let (field, problem) = message.split_once(": ").unwrap_or(("", message));
    let flag = FLAGS.iter().find(|(name, _)| *name == field).map_or(field, |(_, flag)| flag);
    let _ = output::fail("wrong arguments", &format_args!("{flag}: {problem}"), "Nothing was looked at.");
    ExitCode::from(WRONG)
}

fn nothing(fault: &Fault) -> ExitCode {
    let text = fault.message.trim_end_matches('.');
    let next = "The audit needs the permissions of deploy/ram/audit.json, and credentials as in README, Credentials.";
    output::fail("nothing could be read", &text, next)
}

fn spec(args: &Args) -> EncryptionAuditSpec {
    EncryptionAuditSpec {
        account_ref: None,
        regions: args.regions.clone(),
        // Looked at once; the field only has to be valid.
        interval: "6h".to_owned(),
        require: args.require.unwrap_or_default(),
        allowed_key_ids: args.allowed_key_ids.clone(),
        exemptions: Vec::new(),
        account_default: match args.ignore_account_default {
            true => AccountDefaultPolicy::Ignore,
            false => AccountDefaultPolicy::Report,
        },
        suspend: false,
    }
}

/// Reads every region, and those again that may be there in a moment, after the pauses that the operator makes too. Also the first
/// failure, for whoever must say why nothing was read.
async fn look(cloud: &Cloud, wanted: &Wanted) -> Result<(Outcome, Option<Fault>), Fault> {
    let mut outcome = Outcome::default();
    let mut left = names(cloud, wanted).await?;
    let mut first = None;
    for tries in 1..=scan::TRIES_MAX {
        let mut passing: Option<Fault> = None;
        let mut again = Vec::new();
        for few in left.chunks(scan::REGIONS_AT_ONCE) {
            let now = jiff::Timestamp::now().as_second();
            let plan = Plan { policy: wanted.policy.clone(), keep: usize::MAX, now };
            let (nobody, nothing) = (BTreeMap::new(), |_: &str, _: &str| false);
            let reads = few.iter().map(|name| scan::region(cloud, name, &plan, &nobody, &nothing));
            for (name, (region, fault)) in few.iter().zip(join_all(reads).await) {
                let fault_passes = fault.as_ref().is_some_and(Fault::is_passing);
                if fault_passes && tries < scan::TRIES_MAX {
                    again.push(name.clone());
                    passing = longer(passing, fault.clone());
                }
                told(name, &region, fault_passes && tries < scan::TRIES_MAX);
                first = first.or(fault);
                // What a try has read is not lost to a later one that reads less.
                let reads_less = |before: &RegionOutcome| region.gaps.len() > before.gaps.len();
                if !outcome.regions.get(name).is_some_and(reads_less) {
                    outcome.regions.insert(name.clone(), region);
                }
            }
        }
        let Some(fault) = passing else { break };
        if let Pace::After(delay) = pace::pace(Lane::Ordinary, &pace::Outcome::Fault(fault), tries) {
            tokio::time::sleep(delay).await;
        }
        left = again;
    }
    outcome.at = jiff::Timestamp::now().as_second();
    outcome.next = outcome.at;
    Ok((outcome, first))
}

/// The regions, each once. Asking for them is tried again as a region is.
async fn names(cloud: &Cloud, wanted: &Wanted) -> Result<Vec<String>, Fault> {
    if !wanted.regions.is_empty() {
        let mut names = wanted.regions.clone();
        names.sort();
        names.dedup();
        return Ok(names);
    }
    let mut tries = 1;
    loop {
        let fault = match cloud.regions(scan::HOME).await.map_err(Fault::from) {
            Err(fault) if fault.is_passing() && tries < scan::TRIES_MAX => fault,
            other => return other,
        };
        if let Pace::After(delay) = pace::pace(Lane::Ordinary, &pace::Outcome::Fault(fault), tries) {
            tokio::time::sleep(delay).await;
        }
        tries += 1;
    }
}

/// The fault after which must be waited longer.
fn longer(one: Option<Fault>, other: Option<Fault>) -> Option<Fault> {
    [one, other].into_iter().flatten().max_by_key(|fault| fault.retry_after)
}

/// One line for each region, to standard error.
fn told(name: &str, region: &RegionOutcome, again: bool) {
    let counted: u32 = region.judgement.sorts.values().map(|tally| tally.total).sum();
    let gaps: Vec<&str> = region.gaps.iter().map(|gap| gap.text.as_str()).collect();
    let rest = match (gaps.is_empty(), again) {
        (true, _) => String::new(),
        (false, true) => format!("; tried again: {}", gaps.join(" ")),
        (false, false) => format!("; not read: {}", gaps.join(" ")),
    };
    output::note(format_args!(
        "{name}: {counted} resources and settings, {} findings{rest}",
        region.judgement.found
    ));
}

fn json(result: &Findings) -> serde_json::Value {
    let findings = result.findings.iter().map(|finding| {
        let mut value = serde_json::json!(finding);
        // Nothing is remembered from one run to the next.
        value.as_object_mut().map(|fields| fields.remove("firstSeen"));
        value
    });
    let status = &result.status;
    serde_json::json!({
        "compliant": word(result.compliance),
        "exitCode": code(result.compliance),
        "time": result.at.to_string(),
        "summary": status.summary,
        "byResource": status.by_resource,
        "regions": status.regions,
        "findings": findings.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(line: &[&str]) -> Result<Args, clap::Error> {
        Line::try_parse_from([&["audit"], line].concat()).map(|line| line.args)
    }

    #[test]
    fn flags_are_the_fields_of_the_resource_and_are_checked_as_these() {
        let args =
            parsed(&["--region", "cn-a,cn-b", "--region", "cn-c", "--require", "AnyKey", "-o", "html"]);
        let args = args.expect("good arguments");
        assert_eq!(args.regions, ["cn-a", "cn-b", "cn-c"]);
        assert_eq!((args.require, args.output), (Some(Requirement::AnyKey), Form::Html));
        assert!(encryption_audit::wanted(&spec(&args)).is_ok());
        for (line, field) in [
            (["--region", "Hangzhou"], "spec.regions"),
            (["--allowed-key-id", "alias/a"], "spec.allowedKeyIds"),
        ] {
            let invalid =
                encryption_audit::wanted(&spec(&parsed(&line).expect("text"))).expect_err("refused");
            assert!(invalid.message.starts_with(field), "{}", invalid.message);
            assert!(FLAGS.iter().any(|(name, _)| *name == field), "{field} has a flag");
        }
        assert!(parsed(&["--require", "Anything"]).is_err());
        assert!(parsed(&["-o", "pdf"]).is_err());
    }

    #[test]
    fn each_end_has_a_code_of_its_own() {
        assert_eq!([Compliance::Yes, Compliance::No, Compliance::Unknown].map(code), [0, 3, 4]);
    }
}
