//! The command line: parses purely, then opens the world. One file for each subcommand; nobody imports this room.

use std::process::ExitCode;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};

#[cfg(feature = "dev")]
pub mod apiserver;
pub mod audit;
pub mod break_glass;
pub mod check;
pub mod client;
pub mod crds;
#[cfg(feature = "dev")]
pub mod dev;
pub mod journal;
pub mod lane;
pub mod manifest;
pub mod operator;
pub mod output;
pub mod plan;
pub mod reading;
pub mod run;
#[cfg(feature = "dev")]
pub mod sim;
pub mod status;
pub mod tasks;
pub mod why;

/// Encrypts Alibaba Cloud workloads: keeps ECS images, disks and instances encrypted under KMS keys, from Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "ecskms", version, propagate_version = true, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What to log to standard error, in the form of tracing's EnvFilter, for example `debug` or `ecskms=debug,warn`.
    #[arg(long, global = true, env = "ECSKMS_LOG", value_name = "FILTER")]
    log: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The operator: reconciles the cluster that the kubeconfig, or the pod's service account, names.
    Run(run::Args),
    /// Everything on this machine in one process: Kubernetes API, simulated cloud, operator and samples.
    #[cfg(feature = "dev")]
    Dev(dev::Args),
    /// Only the simulated Alibaba Cloud.
    #[cfg(feature = "dev")]
    Sim(sim::Args),
    /// Only the embedded Kubernetes API.
    #[cfg(feature = "dev")]
    Apiserver(apiserver::Args),
    /// Prints the CustomResourceDefinitions.
    Crds(crds::Args),
    /// Checks that cloud and cluster are as the operator needs them; only reads.
    Check(check::Args),
    /// What of the cluster's objects is not as promised, by its causes, the most harmful first; and the live revocations.
    Status(status::Args),
    /// One object in full: why it is not Ready, what is behind that, and what to type next.
    Why(why::Args),
    /// The calls to the cloud that applying manifests would cause; changes nothing.
    Plan(Box<plan::Args>),
    /// Without any cluster: says what in the account is encrypted, under which sort of key, and what is not.
    Audit(audit::Args),
    /// Emergency, without any cluster: takes a key from ECS and says who is hit.
    Revoke(Box<break_glass::revoke::Args>),
    /// Gives back exactly what `revoke` recorded.
    Restore(break_glass::restore::Args),
    /// Prints the journal of a revocation, of the cluster or of a file, and says whether its chain of hashes is whole.
    Journal(journal::Args),
}

/// The command line, whose flags may be switched by `1` and `yes` in the environment too, not by `true` alone.
fn command() -> clap::Command {
    Cli::command().mut_subcommands(|command| {
        command.mut_args(|argument| match argument.get_action() {
            ArgAction::SetTrue => argument.value_parser(BoolishValueParser::new()),
            _ => argument,
        })
    })
}

/// Parses the process's arguments and does what they say.
pub fn main() -> ExitCode {
    let parsed = command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        // There, 2 means that something would change.
        Err(error) if error.use_stderr() && std::env::args().nth(1).as_deref() == Some("plan") => {
            let _ = error.print();
            return ExitCode::FAILURE;
        }
        Err(error) => error.exit(),
    };
    // Fails only if a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let quiet = !matches!(cli.command, Command::Run(_));
    output::start_log(cli.log.as_deref().unwrap_or(if quiet { "error,kube_client=off" } else { "info" }));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return output::fail(
                "the runtime cannot start",
                &error,
                "Are threads or file descriptors used up?",
            );
        }
    };
    let next = match cli.command {
        Command::Revoke(_) | Command::Restore(_) => {
            "What was done is done, and the record on disk has all of it; the same command tells the outcome again."
        }
        _ => "Make room, or write elsewhere, and run it again.",
    };
    let code = match cli.command {
        Command::Run(args) => runtime.block_on(run::run(args)),
        #[cfg(feature = "dev")]
        Command::Dev(args) => runtime.block_on(dev::run(args)),
        #[cfg(feature = "dev")]
        Command::Sim(args) => runtime.block_on(sim::run(args)),
        #[cfg(feature = "dev")]
        Command::Apiserver(args) => runtime.block_on(apiserver::run(args)),
        Command::Crds(args) => crds::run(&args),
        Command::Check(args) => runtime.block_on(check::run(args)),
        Command::Status(args) => runtime.block_on(status::run(args)),
        Command::Why(args) => runtime.block_on(why::run(args)),
        Command::Plan(args) => runtime.block_on(plan::run(*args)),
        Command::Audit(args) => runtime.block_on(audit::run(args)),
        Command::Revoke(args) => runtime.block_on(break_glass::revoke::run(*args)),
        Command::Restore(args) => runtime.block_on(break_glass::restore::run(args)),
        Command::Journal(args) => runtime.block_on(journal::run(args)),
    };
    output::settle(code, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn help_begins_by_saying_what_this_is() {
        let help = Cli::command().render_help().to_string();
        assert!(help.starts_with("Encrypts Alibaba Cloud workloads"), "{help}");
    }
}
