//! The emergency lane of a process: a thread and a runtime of its own, with its own clients of the cluster and the cloud.
//!
//! It runs in every replica, from before the election until the end of the process. What the other kinds do, how long the lease
//! is held by nobody, and what throttles whom, is nothing to it.

use std::sync::Arc;

use kube::Config;
use tokio::sync::watch;

use super::{client, tasks};
use crate::alibaba::Cloud;
use crate::engine::health::Readiness;
use crate::engine::metrics::Metrics;
use crate::kind::{Clock, Fresh, Lane, Revocations, Settings, World};
use crate::kinds;

/// What the lane is made of.
pub struct EmergencyLane {
    /// How to reach the cluster: the client is made on the lane's own runtime.
    pub kube: Config,
    /// The lane's own client of the cloud.
    pub cloud: Cloud,
    /// Shared with the other lane.
    pub revocations: Arc<Revocations>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What is still missing before the process is ready.
    pub readiness: Readiness,
    /// Figures and names.
    pub settings: Settings,
}

impl EmergencyLane {
    /// Starts the thread. It ends after `stop` turns true; where it ends without being asked, it turns `end` true and answers false.
    pub fn start(
        self,
        stop: watch::Receiver<bool>,
        end: watch::Sender<bool>,
    ) -> std::io::Result<std::thread::JoinHandle<bool>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("ecskms-emergency".to_owned()).spawn(move || {
            let asked = runtime.block_on(self.run(stop, &end));
            let _ = end.send(true);
            asked
        })
    }

    async fn run(self, stop: watch::Receiver<bool>, end: &watch::Sender<bool>) -> bool {
        let kube = match client::connect(self.kube) {
            Ok(kube) => kube,
            Err(error) => {
                tracing::error!("the emergency lane has no client of the cluster: {error}");
                return false;
            }
        };
        let world = World {
            kube,
            cloud: self.cloud,
            clock: Clock::System,
            account: None,
            accounts: kinds::accounts(),
            claims: Arc::default(),
            revocations: self.revocations,
            fresh: Arc::<Fresh>::default(),
            settings: self.settings,
        };
        let mut running =
            kinds::start(Lane::Emergency, Arc::new(world), self.metrics, self.readiness, None, stop.clone());
        let asked = tasks::asked_to_stop(stop, &mut running).await;
        let _ = end.send(true);
        if !tasks::finish(&mut running).await {
            tracing::warn!(
                "revocations did not finish in time; what they left is taken up at the next start"
            );
        }
        asked
    }
}
