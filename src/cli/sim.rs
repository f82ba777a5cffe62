//! `ecskms sim`: the simulated Alibaba Cloud alone, for any client that can be pointed at an address.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::output;

/// Arguments of `ecskms sim`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to listen; every product is served on this one port.
    #[arg(long, env = "ECSKMS_SIM_LISTEN", default_value = "127.0.0.1:8000", value_name = "ADDR")]
    listen: SocketAddr,
    /// Simulated seconds per real second.
    #[arg(long, env = "ECSKMS_SIM_TIME_SCALE", default_value_t = 1.0, value_name = "FACTOR")]
    time_scale: f64,
    /// Starts with an empty account.
    #[arg(long, env = "ECSKMS_SIM_EMPTY")]
    empty: bool,
    /// Seed of everything that is drawn by lot.
    #[arg(long, env = "ECSKMS_SIM_SEED", default_value_t = 1, value_name = "NUMBER")]
    seed: u64,
    /// Keeps the cloud in this directory; without it, in memory.
    #[arg(long, env = "ECSKMS_SIM_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Lists what the simulator assumes about the real cloud, and ends.
    #[arg(long)]
    assumptions: bool,
}

/// Serves until Ctrl-C.
pub async fn run(args: Args) -> ExitCode {
    if args.assumptions {
        for assumption in sim::cloud::assumptions() {
            output::say(format_args!("{}  {} [{}]", assumption.id, assumption.text, assumption.reference));
        }
        return ExitCode::SUCCESS;
    }
    if !(args.time_scale.is_finite() && args.time_scale > 0.0) {
        return output::fail("--time-scale", &"must be a positive number", "Leave it out for real time.");
    }
    let options =
        sim::cloud::Options { time_scale: args.time_scale, start_account: !args.empty, seed: args.seed };
    let listener = match output::listen(args.listen, "--listen").await {
        Ok(listener) => listener,
        Err(code) => return code,
    };
    let cloud = match cloud(options, args.data.as_deref()) {
        Ok(cloud) => cloud,
        Err(code) => return code,
    };
    output::say(format_args!(
        "Simulated Alibaba Cloud on http://{}",
        listener.local_addr().unwrap_or(args.listen)
    ));
    output::say(format_args!("  export ALIBABA_CLOUD_ACCESS_KEY_ID={}", sim::cloud::ACCESS_KEY_ID));
    output::say(format_args!("  export ALIBABA_CLOUD_ACCESS_KEY_SECRET={}", sim::cloud::ACCESS_KEY_SECRET));
    output::say(format_args!(
        "  a second account: {} / {}",
        sim::cloud::SECOND_ACCESS_KEY_ID,
        sim::cloud::SECOND_ACCESS_KEY_SECRET
    ));
    output::say("  GET /_sim/state, /_sim/log, /_sim/counters; PUT /_sim/faults, /_sim/clock");
    match cloud.serve(listener, output::stop_signal()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output::fail("the simulated cloud ended", &error, "Start it again."),
    }
}

/// The simulated cloud, which goes on where the one that was kept in the directory has ended.
pub fn cloud(options: sim::cloud::Options, data: Option<&Path>) -> Result<sim::cloud::Cloud, ExitCode> {
    let Some(folder) = data else { return Ok(sim::cloud::Cloud::new(options)) };
    sim::cloud::Cloud::kept(options, &folder.join("cloud.json")).map_err(|error| {
        output::fail("the stored cloud cannot be read", &error, "Choose another directory with --data.")
    })
}
