//! `ecskms run`: the operator against a real cluster and a real, or simulated, account.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::watch;

use super::client;
use super::operator::{Operator, metrics_text};
use super::output;
use crate::alibaba::{self, Cloud, Network, Source};
use crate::engine::health::{self, Readiness};
use crate::engine::metrics::Metrics;

/// Arguments of `ecskms run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Sends every product's calls to this address, for example a simulated cloud at http://127.0.0.1:8000.
    #[arg(long, env = "ECSKMS_CLOUD_ENDPOINT", value_name = "URL")]
    cloud_endpoint: Option<String>,
    /// Allows a --cloud-endpoint on this machine for a cluster that is elsewhere. A simulated cloud knows none of that cluster's
    /// resources, so that all its objects would be told that theirs are gone.
    #[arg(long, env = "ECSKMS_ALLOW_LOOPBACK_CLOUD")]
    allow_loopback_cloud: bool,
    /// Region whose STS is asked who the operator is, for example cn-hangzhou; objects name their own regions.
    #[arg(long, env = "ECSKMS_REGION", value_name = "REGION")]
    region: Option<String>,
    /// Uses the cloud's VPC endpoints, which serve only their own region.
    #[arg(long, env = "ECSKMS_VPC")]
    vpc: bool,
    /// Where /metrics is served.
    #[arg(long, env = "ECSKMS_METRICS_ADDR", default_value = "0.0.0.0:8080", value_name = "ADDR")]
    metrics_addr: SocketAddr,
    /// Where /livez and /readyz are served.
    #[arg(long, env = "ECSKMS_HEALTH_ADDR", default_value = "0.0.0.0:8081", value_name = "ADDR")]
    health_addr: SocketAddr,
    /// Waits for a Lease before doing anything, so that several replicas can run.
    #[arg(long, env = "ECSKMS_LEADER_ELECT")]
    leader_elect: bool,
    /// The operator's own namespace: of its Lease, of the Secrets that CloudAccounts name, and of the reports of revocations.
    #[arg(long, env = "ECSKMS_LEASE_NAMESPACE", default_value = crate::manifests::NAMESPACE, value_name = "NAMESPACE")]
    lease_namespace: String,
    /// The operator's own ServiceAccount, which messages name where a grant is missing.
    #[arg(long, env = "ECSKMS_SERVICE_ACCOUNT", default_value = crate::manifests::NAME, value_name = "NAME")]
    service_account: String,
    /// Watches only this namespace; without it, all.
    #[arg(long, env = "ECSKMS_NAMESPACE", value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Name of this process in Leases and Events; in a pod, the pod's name.
    #[arg(long, env = "ECSKMS_IDENTITY", value_name = "NAME")]
    identity: Option<String>,
    /// How much faster than the real cloud the cloud lives; only for a simulated one.
    #[arg(long, env = "ECSKMS_TEMPO", default_value_t = 1.0, value_name = "FACTOR", hide = true)]
    tempo: f64,
}

/// Runs until Ctrl-C or SIGTERM.
pub async fn run(args: Args) -> ExitCode {
    match prepare(args).await {
        Ok(code) | Err(code) => code,
    }
}

async fn prepare(args: Args) -> Result<ExitCode, ExitCode> {
    let settings = alibaba::Settings {
        endpoint_override: args.cloud_endpoint.clone(),
        network: if args.vpc { Network::Vpc } else { Network::Public },
        sts_region: args.region.clone(),
        ..alibaba::Settings::default()
    };
    let fail = |error: alibaba::Error| {
        output::fail("the cloud client cannot be set up", &error, "Check --cloud-endpoint and --region.")
    };
    let urgent = alibaba::Settings { urgent: true, ..settings.clone() };
    let cloud = Cloud::new(settings, Source::Chain).map_err(fail)?;
    let emergency_cloud = Cloud::new(urgent, Source::Chain).map_err(fail)?;
    let mut config = kube::Config::infer().await.map_err(|error| {
        output::fail("no cluster", &error, "Set KUBECONFIG, or run in a pod with a service account.")
    })?;
    // One layer retries, the reconciler; the client's own would repeat creations for minutes inside one call.
    config.default_retry = false;
    // In a pod, what listens on loopback was put there on purpose.
    let in_cluster = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    if !args.allow_loopback_cloud && !in_cluster {
        refuse_to_mix(args.cloud_endpoint.as_deref(), &config.cluster_url.to_string())?;
    }
    let emergency_kube = config.clone();
    let kube = client::connect(config).map_err(|error| {
        output::fail("the Kubernetes client cannot be set up", &error, "Check the kubeconfig.")
    })?;
    let health_listener = output::listen(args.health_addr, "--health-addr").await?;
    let metrics_listener = output::listen(args.metrics_addr, "--metrics-addr").await?;
    // Beside everything else: an STS that does not answer must hold up neither probes, nor the end, nor a revocation.
    tokio::spawn(who_am_i(cloud.clone()));
    let (stop, stopped) = watch::channel(false);
    let signal = output::stop_signal();
    tokio::spawn(async move {
        signal.await;
        tracing::info!("stopping");
        let _ = stop.send(true);
    });
    let readiness = Readiness::default();
    let metrics = Arc::new(Metrics::default());
    let end = |mut stopped: watch::Receiver<bool>| async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    tokio::spawn(health::serve(health::probes(readiness.clone()), health_listener, end(stopped.clone())));
    let text = {
        let (metrics, cloud, urgent) = (metrics.clone(), cloud.clone(), emergency_cloud.clone());
        move || metrics_text(&metrics, [&cloud, &urgent])
    };
    tokio::spawn(health::serve(health::metrics(text), metrics_listener, end(stopped.clone())));
    let operator = Operator {
        kube,
        cloud,
        emergency_kube,
        emergency_cloud,
        home_region: args.region,
        identity: args.identity.unwrap_or_else(own_name),
        tempo: args.tempo,
        namespace: args.namespace,
        own_namespace: args.lease_namespace,
        service_account: args.service_account,
        election: args.leader_elect,
        metrics,
        readiness,
    };
    Ok(operator.run(stopped).await)
}

/// A simulated cloud and a real cluster: the operator would write into every object there that its resource is gone.
fn refuse_to_mix(cloud: Option<&str>, cluster: &str) -> Result<(), ExitCode> {
    let Some(cloud) = cloud.filter(|cloud| alibaba::is_on_this_machine(cloud)) else { return Ok(()) };
    let anywhere = cluster.contains("://0.0.0.0") || cluster.contains("://[::]");
    if alibaba::is_on_this_machine(cluster) || anywhere {
        return Ok(());
    }
    let why = format!("{cloud} is on this machine, and the cluster at {cluster} is not");
    let next = "Its objects would be told that their resources are gone. Set KUBECONFIG to the embedded API server, leave \
                --cloud-endpoint out, or give --allow-loopback-cloud if this is a way to the real cloud.";
    Err(output::fail("a simulated cloud for a real cluster", &why, next))
}

/// Says early what is wrong with the credentials. Objects show the same; the operator goes on, because it may be mended.
async fn who_am_i(cloud: Cloud) {
    match cloud.caller_identity().await {
        Ok(identity) => {
            tracing::info!(account = identity.account_id, arn = identity.arn, "talking to Alibaba Cloud")
        }
        Err(error) => tracing::error!("Alibaba Cloud does not know the operator: {error}"),
    }
}

/// The host's name, which is the pod's, and something unique.
fn own_name() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "ecskms".to_owned());
    format!("{host}-{:08x}", rand::random::<u32>())
}

#[cfg(test)]
mod tests {
    use super::refuse_to_mix;

    #[test]
    fn a_cloud_on_this_machine_is_for_a_cluster_on_this_machine() {
        let real = "https://10.0.0.1:6443/";
        for cloud in
            ["http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000", "http://127.1:8000"]
        {
            assert!(refuse_to_mix(Some(cloud), real).is_err(), "{cloud}");
            for cluster in [
                "http://127.0.0.1:8001/",
                "https://localhost:6443/",
                "https://[::1]:6443/",
                "https://0.0.0.0:6550/",
            ] {
                assert!(refuse_to_mix(Some(cloud), cluster).is_ok(), "{cloud} {cluster}");
            }
        }
        assert!(refuse_to_mix(None, real).is_ok());
        assert!(refuse_to_mix(Some("https://ecs.internal.example"), real).is_ok());
    }
}
