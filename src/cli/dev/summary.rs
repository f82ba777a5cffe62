//! What was encrypted under which key, what is left to mend, and what to try next.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use comfy_table::{Table, presets};

use super::Standing;
use crate::alibaba::Cloud;
use crate::cli::operator::metrics_text;
use crate::cli::output;
use crate::engine::metrics::Metrics;

/// Prints the outcome.
pub fn print(standings: &[Standing], metrics: &Metrics, clouds: [&Cloud; 2]) {
    let (ready, others): (Vec<_>, Vec<_>) = standings.iter().partition(|standing| standing.ready);
    output::say("");
    if output::is_terminal() {
        table(&ready);
    } else {
        for standing in &ready {
            let Standing { manifest, resource, key, message, .. } = standing;
            // What has no resource of its own says in words what came of it.
            let resource = if resource.is_empty() { message } else { resource };
            let name = format!("{}/{}", manifest.kind, manifest.name);
            match key.is_empty() {
                true => output::say(format_args!("ready      {name}  {resource}")),
                false => output::say(format_args!("encrypted  {name}  {resource}  key {key}")),
            }
        }
    }
    for standing in &others {
        let manifest = &standing.manifest;
        output::say(format_args!(
            "not ready  {}/{}  {}: {}",
            manifest.kind, manifest.name, standing.reason, standing.message
        ));
    }
    let calls: u64 = clouds.iter().flat_map(|cloud| cloud.counters().into_values()).sum();
    output::say(format_args!(
        "{} of {} promises hold; {calls} cloud calls, {} writes to the Kubernetes API.",
        ready.len(),
        standings.len(),
        writes(&metrics_text(metrics, clouds)),
    ));
}

fn table(ready: &[&Standing]) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(["KIND", "NAME", "ENCRYPTED RESOURCE", "KEY"]);
    for standing in ready {
        let manifest = &standing.manifest;
        let resource = if standing.resource.is_empty() { &standing.message } else { &standing.resource };
        table.add_row([&manifest.kind, &manifest.name, resource, &standing.key]);
    }
    output::say(table);
}

/// The sum of the operator's writes, read off the same text that a scraper reads.
fn writes(metrics: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with("ecskms_kubernetes_writes_total"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// What to try while the servers serve; with `--once` they are about to go, so it says how to keep them.
pub fn next(standings: &[Standing], once: bool, kubeconfig: &Path, cloud: SocketAddr) {
    output::say("");
    if once {
        output::say("Without --once everything goes on serving, for kubectl and for you: cargo run -- dev");
        return;
    }
    output::say("Try next, in another terminal:");
    output::say(format_args!("  export KUBECONFIG={}", absolute(kubeconfig)));
    output::say("  kubectl get ecskms -A");
    if let Some(first) = standings.iter().find(|standing| !standing.manifest.cluster) {
        let manifest = &first.manifest;
        output::say(format_args!(
            "  kubectl describe {} {} -n {}",
            manifest.resource.plural, manifest.name, manifest.namespace
        ));
    }
    output::say("  kubectl explain encryptedimage.spec");
    output::say(format_args!("  curl http://{cloud}/_sim/log"));
    output::say("Serving until Ctrl-C.");
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// 0 if every promise holds.
pub fn code(standings: &[Standing]) -> ExitCode {
    match standings.iter().all(|standing| standing.ready) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
