//! `ecskms check`: whether cloud and cluster are as the operator needs them, one line for each thing, with the fix.
//!
//! It only reads. What could not be asked is not known, and never passes.

use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::output;
use crate::alibaba::{self, Cloud, Network, Source, endpoint, request};
use crate::manifests;

mod access;
mod cloud;
mod cluster;
mod definitions;
mod line;
mod policies;
mod print;

use line::{Line, Verdict};

/// Checks that cloud and cluster are as the operator needs them; only reads.
///
/// One line for each check: ok, failed, unknown (it could not be checked) or skipped, what was seen, and the fix.
/// Exit codes: 0 nothing failed and everything could be checked; 1 something failed; 2 wrong arguments; 3 nothing failed, but
/// something could not be checked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A region to ask ECS and KMS in, for example cn-hangzhou; may be given more than once, or as a list with commas.
    #[arg(long = "region", env = "ECSKMS_REGION", value_delimiter = ',', value_parser = region, value_name = "REGION")]
    regions: Vec<String>,
    /// The id or alias of a key that ECS shall encrypt under; may be given more than once, or as a list with commas.
    #[arg(
        long = "key",
        env = "ECSKMS_KEY",
        value_delimiter = ',',
        value_parser = key,
        requires = "regions",
        value_name = "KEY"
    )]
    keys: Vec<String>,
    /// Leaves the cluster out.
    #[arg(long, env = "ECSKMS_CLOUD_ONLY", conflicts_with = "cluster_only")]
    cloud_only: bool,
    /// Leaves the cloud out.
    #[arg(long, env = "ECSKMS_CLUSTER_ONLY")]
    cluster_only: bool,
    /// Asks what this ServiceAccount of the operator's namespace may do in the cluster, instead of whoever runs the command; ecskms
    /// where no name is given.
    #[arg(
        long,
        env = "ECSKMS_AS_SERVICE_ACCOUNT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = manifests::NAME,
        value_name = "NAME"
    )]
    as_service_account: Option<String>,
    /// The context of the kubeconfig; without it, the current one.
    #[arg(long, env = "ECSKMS_CONTEXT", value_name = "CONTEXT")]
    context: Option<String>,
    /// The operator's own namespace.
    #[arg(long, env = "ECSKMS_LEASE_NAMESPACE", default_value = manifests::NAMESPACE, value_name = "NAMESPACE")]
    lease_namespace: String,
    /// table, or json: a list of objects with check, result, seen, fix and requestId.
    #[arg(long, short, env = "ECSKMS_OUTPUT", default_value = "table", value_name = "FORM")]
    output: Form,
    /// How long one answer may take.
    #[arg(long, env = "ECSKMS_TIMEOUT", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=600), value_name = "SECONDS")]
    timeout: u64,
    /// Sends every product's calls to this address.
    #[arg(long, env = "ECSKMS_CLOUD_ENDPOINT", value_name = "URL")]
    cloud_endpoint: Option<String>,
    /// Uses the cloud's VPC endpoints, which serve only their own region.
    #[arg(long, env = "ECSKMS_VPC")]
    vpc: bool,
}

/// For whom the lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// For people: a table at a terminal, a line for each check elsewhere.
    #[value(alias = "text")]
    Table,
    /// One JSON list.
    Json,
}

impl Args {
    /// The context that was named; a variable that is set to nothing names none.
    fn context(&self) -> Option<&str> {
        self.context.as_deref().filter(|context| !context.is_empty())
    }
}

fn region(text: &str) -> Result<String, String> {
    let problem = || "not a region id such as cn-hangzhou".to_owned();
    endpoint::is_region(text).then(|| text.to_owned()).ok_or_else(problem)
}

fn key(text: &str) -> Result<String, String> {
    request::check_key("DescribeKey", text).map_err(|error| error.message.into_string())?;
    Ok(text.to_owned())
}

/// The exit code of something that failed.
const FAILED: u8 = 1;
/// The exit code of flags that cannot work.
const WRONG: u8 = 2;
/// The exit code where nothing failed, but something is not known.
const UNKNOWN: u8 = 3;

/// How to ask, whoever is asked.
struct Asking {
    limit: Duration,
    progress: ProgressBar,
}

/// Checks, prints, and says by the exit code how it stands.
pub async fn run(args: Args) -> ExitCode {
    let settings = alibaba::Settings {
        endpoint_override: args.cloud_endpoint.clone(),
        network: if args.vpc { Network::Vpc } else { Network::Public },
        sts_region: args.regions.first().cloned(),
        ..alibaba::Settings::default()
    };
    let cloud = match Cloud::new(settings, Source::Chain) {
        Ok(cloud) => cloud,
        Err(error) => {
            let _ = output::fail("the cloud client cannot be set up", &error, "Check --cloud-endpoint.");
            return ExitCode::from(WRONG);
        }
    };
    let asking = Asking { limit: Duration::from_secs(args.timeout), progress: progress() };
    let (of_cloud, of_cluster) = tokio::join!(
        async {
            match args.cluster_only {
                true => vec![Line::skipped("cloud", "--cluster-only was given")],
                false => cloud::lines(&args, &cloud, &asking).await,
            }
        },
        async {
            match args.cloud_only {
                true => vec![Line::skipped("cluster", "--cloud-only was given")],
                false => cluster::lines(&args, &asking).await,
            }
        }
    );
    asking.progress.finish_and_clear();
    let lines = [of_cloud, of_cluster].concat().into_iter().map(|line| line.in_context(args.context()));
    let lines: Vec<Line> = lines.collect();
    match args.output {
        Form::Json => output::say(print::json(&lines)),
        Form::Table if output::is_terminal() => output::say(print::table(&lines)),
        Form::Table => output::say(print::plain(&lines)),
    }
    ExitCode::from(code(&lines))
}

/// Shown at a terminal only; standard output stays what it is.
fn progress() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} answers, {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn code(lines: &[Line]) -> u8 {
    match line::worst(lines) {
        Verdict::Failed => FAILED,
        Verdict::Unknown => UNKNOWN,
        Verdict::Ok | Verdict::Skipped => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(words: &[&str]) -> Result<Args, clap::Error> {
        Program::try_parse_from([&["check"], words].concat()).map(|program| program.args)
    }

    #[test]
    fn what_cannot_work_is_refused_before_anything_is_asked() {
        let args = parsed(&["--region", "cn-a,cn-b", "--region", "cn-c", "--key", "alias/a,key-1"]);
        let args = args.expect("good arguments");
        assert_eq!((args.regions.len(), args.keys.len(), args.as_service_account), (3, 2, None));
        let named = parsed(&["--as-service-account=other"]).expect("a name").as_service_account;
        let unnamed = parsed(&["--as-service-account"]).expect("no name").as_service_account;
        assert_eq!((named.as_deref(), unnamed.as_deref()), (Some("other"), Some("ecskms")));
        for wrong in [
            &["--region", "Hangzhou"][..],
            &["--key", "alias/a"],
            &["--key", "a b", "--region", "cn-a"],
            &["--cloud-only", "--cluster-only"],
            &["--timeout", "0"],
            &["-o", "html"],
        ] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn each_end_has_a_code_of_its_own() {
        let ok = Line::ok("a", "seen");
        let skipped = Line::skipped("b", "why");
        let unknown = Line::unknown("c", "seen", "fix");
        let failed = Line::failed("d", "seen", "fix");
        assert_eq!(code(&[ok.clone(), skipped]), 0);
        assert_eq!(code(&[ok.clone(), unknown.clone()]), 3);
        assert_eq!(code(&[failed, unknown, ok]), 1);
    }
}
