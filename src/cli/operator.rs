//! Puts the operator together: the world, the controllers of every kind, and their end.

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use tokio::sync::watch;

use super::lane::EmergencyLane;
use super::{output, tasks};
use crate::alibaba::Cloud;
use crate::engine::health::Readiness;
use crate::engine::lease::Elector;
use crate::engine::metrics::Metrics;
use crate::kind::{Clock, Fresh, Lane, Revocations, Settings, World};
use crate::kinds;
use crate::manifests::LEASE_NAME;

/// How the time of an operator as leader ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Somebody asked for it.
    Asked,
    /// A controller ended, though nobody asked it to.
    Broken,
    /// Another process may lead now.
    Lost,
}

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
    /// The operator's own ServiceAccount.
    pub service_account: String,
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
        let (end, ended) = watch::channel(false);
        let stop = either(stop, ended);
        // Before the election and whoever wins it: a key must be lost although nobody leads.
        let thread = match lane.start(stop.clone(), end.clone()) {
            Ok(thread) => thread,
            Err(error) => {
                return output::fail("the emergency lane cannot start", &error, "Are threads used up?");
            }
        };
        let led = self.lead(&settings, revocations, stop).await;
        if led == End::Lost {
            // Nobody fences the cloud: a process that may no longer lead must not do anything any more.
            return output::fail(
                "the lease was lost",
                &"another process may lead now",
                "This process ends and starts anew.",
            );
        }
        let _ = end.send(true);
        let lane = tokio::task::spawn_blocking(move || thread.join()).await;
        if led == End::Asked && matches!(lane, Ok(Ok(true))) {
            return ExitCode::SUCCESS;
        }
        let why = "nobody asked it to, and its objects would be nobody's; the log says which";
        output::fail("a controller ended", &why, "This process ends and starts anew.")
    }

    /// Waits for the lease, if there is to be an election, and works as long as it is held.
    ///
    /// It is renewed until the last pass has finished: passes take longer to finish than it lasts, and a second leader beside them
    /// would look at half of what they do.
    async fn lead(
        &self,
        settings: &Settings,
        revocations: Arc<Revocations>,
        stop: watch::Receiver<bool>,
    ) -> End {
        if !self.election {
            self.metrics.set_leader(true);
            return self.work(settings, revocations, stop).await;
        }
        let mut elector = Elector::new(self.kube.clone(), &self.own_namespace, LEASE_NAME, &self.identity);
        tokio::select! {
            () = elector.acquire() => {}
            () = stopped(stop.clone()) => return End::Asked,
        }
        tracing::info!(identity = self.identity, "this process leads");
        self.metrics.set_leader(true);
        let work = self.work(settings, revocations, stop);
        let Some(end) = while_held(&mut elector, work).await else { return End::Lost };
        self.metrics.set_leader(false);
        elector.release().await;
        end
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
        let (home_region, service_account) = (self.home_region.clone(), self.service_account.clone());
        Settings { tempo: self.tempo, home_region, service_account, ..settings }
    }

    async fn work(
        &self,
        settings: &Settings,
        revocations: Arc<Revocations>,
        stop: watch::Receiver<bool>,
    ) -> End {
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
        let (end, ended) = watch::channel(false);
        let stop = either(stop, ended);
        let mut running = kinds::start(
            Lane::Ordinary,
            world,
            self.metrics.clone(),
            readiness,
            self.namespace.clone(),
            stop.clone(),
        );
        let asked = tasks::asked_to_stop(stop, &mut running).await;
        let _ = end.send(true);
        if !tasks::finish(&mut running).await {
            tracing::warn!("passes did not finish in time; what they left is taken up at the next start");
        }
        if asked { End::Asked } else { End::Broken }
    }
}

/// Works while the lease is renewed, to the very end of the work. None if the lease was lost, and the work dropped with it.
async fn while_held<T>(elector: &mut Elector, work: impl Future<Output = T>) -> Option<T> {
    let (done, finished) = tokio::sync::oneshot::channel::<()>();
    let work = async move {
        let end = work.await;
        drop(done);
        Ok(end)
    };
    let hold = async move {
        let finished = async { drop(finished.await) };
        if elector.hold(finished).await { Ok(()) } else { Err(()) }
    };
    futures::future::try_join(work, hold).await.ok().map(|(end, ())| end)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::lease::LEASE_DURATION;
    use tower::ServiceExt;

    fn client() -> Client {
        let router =
            sim::kube::Server::new(sim::kube::Options { data_dir: None }).expect("no store").router();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            router.clone().oneshot(request.map(axum::body::Body::new))
        });
        Client::new(service, "default")
    }

    /// A pass may take longer to finish than the lease lasts.
    #[tokio::test(start_paused = true)]
    async fn nobody_else_leads_until_the_work_has_finished_and_then_at_once() {
        let kube = client();
        let elector = |name: &str| Elector::new(kube.clone(), "default", LEASE_NAME, name);
        let (mut first, mut second) = (elector("a"), elector("b"));
        first.acquire().await;
        tokio::select! {
            end = while_held(&mut first, tokio::time::sleep(LEASE_DURATION * 4)) => assert!(end.is_some()),
            () = second.acquire() => panic!("two leaders"),
        }
        first.release().await;
        let began = tokio::time::Instant::now();
        second.acquire().await;
        assert!(began.elapsed() < LEASE_DURATION / 2, "it was released");
        // Its end is that of the work.
        assert_eq!(while_held(&mut first, std::future::pending::<()>()).await, None);
    }
}
