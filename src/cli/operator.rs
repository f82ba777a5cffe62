//! Puts the operator together: the world, the controllers of every kind, and their end.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use tokio::sync::watch;

use super::lane::EmergencyLane;
use super::output;
use crate::alibaba::Cloud;
use crate::engine::health::Readiness;
use crate::engine::lease::Elector;
use crate::engine::metrics::Metrics;
use crate::kind::{Clock, Fresh, Lane, Revocations, Settings, World};
use crate::kinds;
use crate::manifests::LEASE_NAME;

/// How long passes that have begun may take to finish after a request to stop.
const GRACE: Duration = Duration::from_secs(20);

/// Everything that the operator needs to be given.
pub struct Operator {
    /// Client of the cluster.
    pub kube: Client,
    /// Client of the cloud.
    pub cloud: Cloud,
    /// How the emergency lane reaches the cluster, with a client of its own.
    pub emergency_kube: kube::Config,
    /// The emergency lane's own client of the cloud.
    pub emergency_cloud: Cloud,
    /// The region whose connections the emergency lane keeps open before anybody needs them.
    pub home_region: Option<String>,
    /// Name of this process.
    pub identity: String,
    /// How much faster than real the cloud lives.
    pub tempo: f64,
    /// Only this namespace, or all.
    pub namespace: Option<String>,
    /// The operator's own namespace: of its Lease, of the Secrets of accounts, and of the reports of revocations.
    pub own_namespace: String,
    /// True if there is to be an election.
    pub election: bool,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What is still missing before the process is ready.
    pub readiness: Readiness,
}

impl Operator {
    /// Runs until `stop` turns true. The exit code says whether the end was asked for.
    pub async fn run(self, stop: watch::Receiver<bool>) -> ExitCode {
        self.readiness.expect("Kubernetes API");
        let Some(cluster) = self.cluster_id(stop.clone()).await else { return ExitCode::SUCCESS };
        self.readiness.done("Kubernetes API");
        let revocations = Arc::<Revocations>::default();
        let settings = self.settings(cluster);
        let lane = EmergencyLane {
            kube: self.emergency_kube.clone(),
            cloud: self.emergency_cloud.clone(),
            revocations: revocations.clone(),
            metrics: self.metrics.clone(),
            readiness: self.readiness.clone(),
            settings: settings.clone(),
        };
        // Before the election and whoever wins it: a key must be lost although nobody leads.
        let thread = match lane.start(stop.clone()) {
            Ok(thread) => thread,
            Err(error) => {
                return output::fail("the emergency lane cannot start", &error, "Are threads used up?");
            }
        };
        let code = self.lead(&settings, revocations, stop).await;
        if code == ExitCode::SUCCESS {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        code
    }

    /// Waits for the lease, if there is to be an election, and works as long as it is held.
    async fn lead(
        &self,
        settings: &Settings,
        revocations: Arc<Revocations>,
        stop: watch::Receiver<bool>,
    ) -> ExitCode {
        if !self.election {
            self.metrics.set_leader(true);
            self.work(settings, revocations, stop).await;
            return ExitCode::SUCCESS;
        }
        let mut elector = Elector::new(self.kube.clone(), &self.own_namespace, LEASE_NAME, &self.identity);
        tokio::select! {
            () = elector.acquire() => {}
            () = stopped(stop.clone()) => return ExitCode::SUCCESS,
        }
        tracing::info!(identity = self.identity, "this process leads");
        self.metrics.set_leader(true);
        let (end, ended) = watch::channel(false);
        let work = self.work(settings, revocations, either(stop.clone(), ended));
        let mut work = std::pin::pin!(work);
        tokio::select! {
            () = &mut work => {}
            released = elector.hold(stopped(stop)) => {
                let _ = end.send(true);
                if !released {
                    // Nobody fences the cloud: a process that may no longer lead must not do anything any more.
                    return output::fail("the lease was lost", &"another process may lead now", "This process ends and starts anew.");
                }
                work.await;
            }
        }
        self.metrics.set_leader(false);
        elector.release().await;
        ExitCode::SUCCESS
    }

    /// The uid of kube-system: the name of a cluster that nobody has to give it. Waits for the API server.
    async fn cluster_id(&self, stop: watch::Receiver<bool>) -> Option<String> {
        const PAUSE: Duration = Duration::from_secs(2);
        let namespaces: Api<Namespace> = Api::all(self.kube.clone());
        loop {
            let look = tokio::time::timeout(Duration::from_secs(10), namespaces.get("kube-system"));
            tokio::select! {
                () = stopped(stop.clone()) => return None,
                found = look => match found {
                    Ok(Ok(namespace)) => return namespace.metadata.uid,
                    Ok(Err(error)) => tracing::warn!("cannot read namespace kube-system: {error}. Is the API server up, and may the operator get it?"),
                    Err(_) => tracing::warn!("the Kubernetes API does not answer"),
                },
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn settings(&self, cluster: String) -> Settings {
        let settings = Settings::standard(cluster, self.own_namespace.clone(), self.identity.clone());
        Settings { tempo: self.tempo, home_region: self.home_region.clone(), ..settings }
    }

    async fn work(&self, settings: &Settings, revocations: Arc<Revocations>, stop: watch::Receiver<bool>) {
        let world = Arc::new(World {
            kube: self.kube.clone(),
            cloud: self.cloud.clone(),
            clock: Clock::System,
            account: None,
            accounts: kinds::accounts(),
            claims: Arc::default(),
            revocations,
            fresh: Arc::<Fresh>::default(),
            settings: settings.clone(),
        });
        let readiness = self.readiness.clone();
        let mut tasks = kinds::start(
            Lane::Ordinary,
            world,
            self.metrics.clone(),
            readiness,
            self.namespace.clone(),
            stop.clone(),
        );
        stopped(stop).await;
        let finish = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, finish).await.is_err() {
            tracing::warn!("passes did not finish in time; what they left is taken up at the next start");
        }
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Turns true when either does.
fn either(mut first: watch::Receiver<bool>, mut second: watch::Receiver<bool>) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = first.wait_for(|stop| *stop) => {}
            _ = second.wait_for(|stop| *stop) => {}
        }
        let _ = sender.send(true);
    });
    receiver
}

/// Copies the counters of both gateways into the metrics and encodes them.
pub fn metrics_text(metrics: &Metrics, clouds: [&Cloud; 2]) -> String {
    let mut calls = clouds[0].counters();
    for (what, count) in clouds[1].counters() {
        *calls.entry(what).or_default() += count;
    }
    for ((service, action, class), count) in calls {
        metrics.set_cloud_calls(service, action, class, count);
    }
    metrics.encode()
}
