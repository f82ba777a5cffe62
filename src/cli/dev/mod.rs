//! `ecskms dev`: Kubernetes API, simulated cloud, operator and samples in one process, over real sockets on loopback.
//!
//! For newcomers and for CI. Nothing here is used by `ecskms run`, and the image of the operator is built without it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::watch;

use super::client::connect;
use super::operator::Operator;
use super::{apiserver, output, sim as cli_sim};
use crate::alibaba::{self, Cloud, Credentials, Source};
use crate::engine::health::Readiness;
use crate::engine::metrics::Metrics;

mod install;
mod progress;
mod summary;

use install::Manifest;

/// Arguments of `ecskms dev`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ends when every object has come to rest: 0 if all promises hold, 1 with the reasons otherwise.
    #[arg(long, env = "ECSKMS_DEV_ONCE")]
    once: bool,
    /// Your own manifests instead of the samples; may be given more than once.
    #[arg(short, long = "file", value_name = "FILE", num_args = 1..)]
    files: Vec<PathBuf>,
    /// Keeps the Kubernetes objects and the simulated cloud in this directory; without it, in memory.
    #[arg(long, env = "ECSKMS_DEV_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to write the kubeconfig.
    #[arg(long, env = "ECSKMS_DEV_KUBECONFIG", default_value = "./.ecskms/kubeconfig", value_name = "FILE")]
    kubeconfig: PathBuf,
    /// Where the Kubernetes API listens; port 0 takes a free one.
    #[arg(long, env = "ECSKMS_DEV_LISTEN", default_value = "127.0.0.1:0", value_name = "ADDR")]
    listen: SocketAddr,
    /// Where the simulated cloud listens; port 0 takes a free one.
    #[arg(long, env = "ECSKMS_DEV_CLOUD_LISTEN", default_value = "127.0.0.1:0", value_name = "ADDR")]
    cloud_listen: SocketAddr,
    /// Simulated seconds per real second: a copy of half an hour takes a minute and a half.
    #[arg(long, env = "ECSKMS_DEV_TIME_SCALE", default_value_t = 20.0, value_name = "FACTOR")]
    time_scale: f64,
    /// Seconds after which --once gives up.
    #[arg(long, env = "ECSKMS_DEV_TIMEOUT", default_value_t = 180, value_name = "SECONDS")]
    timeout: u64,
}

/// Builds the little world, fills it, shows what happens in it, and serves it.
pub async fn run(args: Args) -> ExitCode {
    match play(args).await {
        Ok(code) | Err(code) => code,
    }
}

async fn play(args: Args) -> Result<ExitCode, ExitCode> {
    // The manifests first: a mistake in them is told before anything is started.
    let manifests = install::read(&args.files)?;
    if !(args.time_scale.is_finite() && args.time_scale > 0.0) {
        return Err(output::fail("--time-scale", &"must be a positive number", "Leave it out for 20."));
    }
    let (stop, stopped) = watch::channel(false);
    let little = LittleWorld::start(&args, stopped.clone()).await?;
    install::crds(&little.kube).await?;
    let metrics = Arc::new(Metrics::default());
    let operator = Operator {
        kube: little.kube.clone(),
        cloud: little.cloud.clone(),
        emergency_kube: little.config.clone(),
        emergency_cloud: little.urgent.clone(),
        home_region: None,
        identity: "ecskms-dev".to_owned(),
        tempo: args.time_scale,
        namespace: None,
        own_namespace: crate::manifests::NAMESPACE.to_owned(),
        service_account: crate::manifests::NAME.to_owned(),
        election: false,
        metrics: metrics.clone(),
        readiness: Readiness::default(),
    };
    let operator = tokio::spawn(operator.run(stopped));
    install::apply(&little.kube, &manifests).await?;

    let limit = args.once.then(|| Duration::from_secs(args.timeout));
    let interrupted = output::stop_signal();
    let mut interrupted = std::pin::pin!(interrupted);
    let rested = tokio::select! {
        rested = progress::follow(&little.kube, &manifests, limit) => rested,
        () = &mut interrupted => {
            let _ = stop.send(true);
            return Ok(ExitCode::from(130));
        }
    };
    summary::print(&rested, &metrics, [&little.cloud, &little.urgent]);
    summary::next(&rested, args.once, &args.kubeconfig, little.cloud_address);
    let code = summary::code(&rested);
    if !args.once {
        interrupted.await;
    }
    let _ = stop.send(true);
    let _ = tokio::time::timeout(Duration::from_secs(10), operator).await;
    Ok(if args.once { code } else { ExitCode::SUCCESS })
}

/// The two servers and the clients to them.
struct LittleWorld {
    kube: Client,
    config: kube::Config,
    cloud: Cloud,
    urgent: Cloud,
    cloud_address: SocketAddr,
}

impl LittleWorld {
    async fn start(args: &Args, stopped: watch::Receiver<bool>) -> Result<LittleWorld, ExitCode> {
        let (api_listener, api_address) = apiserver::listen_on_loopback(args.listen, "--listen").await?;
        let (cloud_listener, cloud_address) =
            apiserver::listen_on_loopback(args.cloud_listen, "--cloud-listen").await?;
        let end = |mut stopped: watch::Receiver<bool>| async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let server = sim::kube::Server::new(sim::kube::Options {
            data_dir: args.data.as_ref().map(|dir| dir.join("kubernetes")),
        })
        .map_err(|error| {
            output::fail("the stored objects cannot be read", &error, "Choose another directory with --data.")
        })?;
        tokio::spawn(server.serve(api_listener, end(stopped.clone())));
        let options = sim::cloud::Options { time_scale: args.time_scale, start_account: true, seed: 1 };
        // Both or neither: objects whose resources are gone with the last process would all say so.
        let pretended = cli_sim::cloud(options, args.data.as_deref())?;
        tokio::spawn(pretended.serve(cloud_listener, end(stopped)));
        apiserver::write_kubeconfig(&args.kubeconfig, api_address).map_err(|error| {
            let what = format!("cannot write {}", args.kubeconfig.display());
            output::fail(&what, &error, "Choose another file with --kubeconfig.")
        })?;
        let settings = alibaba::Settings {
            endpoint_override: Some(format!("http://{cloud_address}")),
            ..alibaba::Settings::default()
        };
        let credentials = Credentials::new(sim::cloud::ACCESS_KEY_ID, sim::cloud::ACCESS_KEY_SECRET, None);
        let cloud = |settings| {
            Cloud::new(settings, Source::Static(credentials.clone())).map_err(|error| {
                output::fail("the cloud client cannot be set up", &error, "Please report this.")
            })
        };
        let urgent = cloud(alibaba::Settings { urgent: true, ..settings.clone() })?;
        let cloud = cloud(settings)?;
        let (config, kube) = client(api_address)?;
        Ok(LittleWorld { kube, config, cloud, urgent, cloud_address })
    }
}

fn client(address: SocketAddr) -> Result<(kube::Config, Client), ExitCode> {
    let uri = format!("http://{address}").parse::<http::Uri>();
    let uri = uri
        .map_err(|error| output::fail("the address is no URL", &error, "Choose 127.0.0.1 with --listen."))?;
    let mut config = kube::Config::new(uri);
    config.default_retry = false;
    let client = connect(config.clone()).map_err(|error| {
        output::fail("the Kubernetes client cannot be set up", &error, "Please report this.")
    })?;
    Ok((config, client))
}

/// Where an object stands, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Which object.
    pub manifest: Manifest,
    /// Whether it is Ready.
    pub ready: bool,
    /// True if it will not move by itself.
    pub stalled: bool,
    /// The reason of Ready.
    pub reason: String,
    /// The message of Ready.
    pub message: String,
    /// Percent, where the kind shows it.
    pub progress: Option<u64>,
    /// Id of the cloud resource.
    pub resource: String,
    /// Id of the key.
    pub key: String,
}
