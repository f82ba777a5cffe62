//! `ecskms journal`: prints the journal of a revocation, and says whether its chain of hashes is whole. Changes nothing.
//!
//! Whoever reads it needs neither the operator's word nor its cluster: a saved object, a record of `ecskms revoke`, a report, and
//! what this command printed itself are enough.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, FromArgMatches};
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, CustomResourceExt};
use serde_json::{Value, json};

use super::{client, output};
use crate::kinds::KeyRevocation;
use crate::kinds::key_revocation::journal::{self, Broken};
use document::Document;

mod document;
mod table;

/// Arguments of `ecskms journal`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "ecskms journal [OPTIONS] <NAME>\n       ecskms journal [OPTIONS] --file <FILE>",
    after_help = "Exit codes: 0 the journal is whole; 1 it cannot be read; 2 wrong arguments; 3 it is broken."
)]
struct Given {
    /// Name of a KeyRevocation in the cluster of the kubeconfig.
    #[arg(value_name = "NAME", required_unless_present = "file")]
    name: Option<String>,
    /// Reads a file instead, or standard input for `-`: a KeyRevocation as JSON or YAML, a record of `ecskms revoke`, the
    /// ConfigMap of its report or the journal.json in that, or what this command printed as JSON. Not beside NAME.
    #[arg(long, short, env = "ECSKMS_FILE", value_name = "FILE")]
    file: Option<PathBuf>,
    /// The context of the kubeconfig; without it, the current one. Not beside a file.
    #[arg(long, env = "ECSKMS_CONTEXT", value_name = "CONTEXT")]
    context: Option<String>,
    /// table, or json: the entries as JSON lines, and the result as the last of them. In pipes json is the default.
    #[arg(long, short, env = "ECSKMS_OUTPUT", value_name = "FORM")]
    output: Option<Form>,
}

/// [`Given`], of which what is typed goes before what is in the environment.
#[derive(Debug)]
pub struct Args {
    source: Source,
    output: Option<Form>,
}

/// Where the journal is.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    File(PathBuf),
    Cluster { name: String, context: Option<String> },
}

impl FromArgMatches for Args {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Args, clap::Error> {
        let Given { name, file, context, output } = Given::from_arg_matches(matches)?;
        let is_typed = |id| matches.value_source(id) == Some(ValueSource::CommandLine);
        let conflict = |text| Err(clap::Error::raw(ErrorKind::ArgumentConflict, text));
        let source = match (name, file) {
            (Some(_), Some(_)) if is_typed("file") => {
                return conflict("give a NAME or a --file, not both: a journal is read from one place\n");
            }
            (None, Some(_)) if is_typed("context") => {
                return conflict("--context is for a NAME in a cluster, not for a --file\n");
            }
            (None, Some(file)) => Source::File(file),
            (name, _) => Source::Cluster { name: name.unwrap_or_default(), context },
        };
        Ok(Args { source, output })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Args::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Args {
    fn augment_args(command: clap::Command) -> clap::Command {
        Given::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Given::augment_args_for_update(command)
    }
}

/// For people, or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// A table.
    #[value(alias = "text")]
    Table,
    /// One JSON object in each line.
    Json,
}

/// The exit code of a journal that is not as it was written.
const BROKEN: u8 = 3;
/// How long the cluster may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a chain of hashes can never show.
const LIMITS: &str = "What the chain cannot show: a journal that somebody who may write it has written anew as a whole, and entries \
                      that are cut off from its end. Compare its end with the operator's log, which has every entry, and the request \
                      ids with ActionTrail.";
/// What to do with a journal that is broken.
const NEXT: &str = "Keep it as it is. Compare every entry with the operator's log and the request ids with ActionTrail, and find out \
                    who could write it: keyrevocations/status in the cluster, or the file.";

/// What is said of a journal.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    /// The number of the first entry that does not fit; None if what is broken is not known any more.
    at: Option<i64>,
    /// How it is broken; None if it is whole.
    how: Option<String>,
}

/// Reads, prints and judges.
pub async fn run(args: Args) -> ExitCode {
    match go(&args).await {
        Ok(code) | Err(code) => code,
    }
}

async fn go(args: &Args) -> Result<ExitCode, ExitCode> {
    let document = match &args.source {
        Source::File(file) => from_file(file)?,
        Source::Cluster { name, context } => from_cluster(name, context.as_deref()).await?,
    };
    let verdict = judge(&document);
    let at_terminal = std::io::stdout().is_terminal();
    let code = if verdict.how.is_none() { 0 } else { BROKEN };
    match args.output.unwrap_or(if at_terminal { Form::Table } else { Form::Json }) {
        Form::Table => table::print(&document, &verdict),
        Form::Json => {
            document.entries.iter().for_each(|entry| output::say(json!(entry)));
            output::say(result(&document, &verdict, code));
            if verdict.how.is_some() {
                // Whoever sends the lines to a file sees this.
                let _ = output::fail("the journal is broken", &words(&document, &verdict), NEXT);
            }
        }
    }
    Ok(ExitCode::from(code))
}

fn from_file(file: &Path) -> Result<Document, ExitCode> {
    let mut bytes = Vec::new();
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().lock().read_to_end(&mut bytes).map(drop),
        false => std::fs::read(file).map(|found| bytes = found),
    };
    let what = match file.as_os_str() == "-" {
        true => "standard input cannot be read".to_owned(),
        false => format!("{} cannot be read", file.display()),
    };
    read.map_err(|error| output::fail(&what, &error, "Name a file that is there with -f."))?;
    document::read(&bytes).map_err(|why| {
        let next = "It takes the output of kubectl get keyrevocation NAME -o yaml or json, a record of ecskms revoke, the journal.json of \
                    a report, or what ecskms journal printed as JSON.";
        output::fail(&what, &why, next)
    })
}

async fn from_cluster(name: &str, context: Option<&str>) -> Result<Document, ExitCode> {
    let no_cluster = |error: &dyn std::fmt::Display| {
        output::fail("no cluster", error, "Set KUBECONFIG, or read a saved object with -f.")
    };
    let config = client::config(context).await.map_err(|error| no_cluster(&error))?;
    let client = client::connect(config).map_err(|error| no_cluster(&error))?;
    let resource: ApiResource = KeyRevocation::api_resource();
    // Only what the chain is of is read from it: another version's words in other fields do not matter.
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    let what = format!("KeyRevocation {} cannot be read", output::clean(name));
    let object = match tokio::time::timeout(PATIENCE, api.get(name)).await {
        Ok(Ok(object)) => object,
        Ok(Err(kube::Error::Api(status))) => {
            let next = match status.code {
                404 => {
                    "kubectl get keyrevocations lists those that are there; one that was deleted is in what was saved of it, with -f."
                }
                401 => "Sign in again: the cluster does not accept the credentials of the kubeconfig.",
                403 => "The ClusterRole ecskms-revocation-auditor is enough to read it.",
                _ => "Try again, or read a saved object with -f.",
            };
            return Err(output::fail(&what, &output::clean(&status.message), next));
        }
        Ok(Err(error)) => {
            return Err(output::fail(
                &what,
                &output::causes(&error),
                "Check the kubeconfig and the way to the cluster.",
            ));
        }
        Err(_) => {
            return Err(output::fail(
                &what,
                &"the Kubernetes API did not answer in time",
                "Try again, or read a saved object with -f.",
            ));
        }
    };
    let value = serde_json::to_value(object).unwrap_or(Value::Null);
    document::of(&value).map_err(|why| output::fail(&what, &why, "Please report this."))
}

fn judge(document: &Document) -> Verdict {
    if let Err(Broken { seq, how }) =
        journal::verify(&document.uid, &document.entries, document.anchor.as_ref())
    {
        let is_first = document.anchor.is_none() && seq == 1;
        let other = if is_first { ", or it is the journal of another object" } else { "" };
        return Verdict { at: Some(seq), how: Some(format!("{how}{other}")) };
    }
    if let Some(how) = &document.contradiction {
        return Verdict { at: None, how: Some(how.clone()) };
    }
    let how = if document.told_broken {
        // Once older entries were dropped, what is left may fit again.
        Some("the operator has found it changed before (condition JournalBroken), though what is left fits")
    } else if document.acted && document.entries.is_empty() {
        Some("status tells of what was done, and there is no entry at all")
    } else {
        None
    };
    Verdict { at: None, how: how.map(str::to_owned) }
}

/// The verdict as a sentence.
fn words(document: &Document, verdict: &Verdict) -> String {
    if let Some(how) = &verdict.how {
        return match verdict.at {
            Some(at) => format!("entry {at}: {how}"),
            None => how.clone(),
        };
    }
    let (Some(first), Some(last)) = (document.entries.first(), document.entries.last()) else {
        return "whole: there is no entry yet".to_owned();
    };
    let dropped = match document.anchor.is_some() {
        true => format!("; the {} before them were dropped to make room", first.seq - 1),
        false => String::new(),
    };
    format!("whole: entries {} to {} fit, each to the one before{dropped}", first.seq, last.seq)
}

/// The last line: the verdict, and what is needed to verify the lines before it again.
fn result(document: &Document, verdict: &Verdict, code: u8) -> Value {
    let last = document.entries.last().map(|entry| json!({"seq": entry.seq, "hash": entry.hash}));
    let mut value = json!({
        "name": document.name, "uid": document.uid, "entries": document.entries.len(), "last": last,
        "whole": verdict.how.is_none(), "brokenAt": verdict.at, "exitCode": code,
        "message": words(document, verdict), "limits": LIMITS,
    });
    if let Some(anchor) = &document.anchor {
        value["journalAnchor"] = json!(anchor);
    }
    if document.told_broken {
        value["journalBroken"] = json!(true);
    }
    value
}

#[cfg(test)]
mod tests;
