//! `ecskms crds`: the CustomResourceDefinitions as YAML, ready for `kubectl apply --server-side -f -`.

use std::process::ExitCode;

use super::output;
use crate::manifests;

/// Arguments of `ecskms crds`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints them.
pub fn run(_args: &Args) -> ExitCode {
    for (_, text) in manifests::crd_files() {
        output::say(text.trim_end());
    }
    ExitCode::SUCCESS
}
