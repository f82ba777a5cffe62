//! The registry: every kind is named here, once. Controllers, CRDs, RBAC, readiness and laws follow from this line.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::engine::health::Readiness;
use crate::engine::metrics::Metrics;
use crate::engine::{self};
use crate::kind::{Accounts, Kind, Lane, World};

pub mod cloud_account;
pub mod encrypted_disk;
pub mod encrypted_image;
pub mod encrypted_instance;
pub mod key_revocation;

#[cfg(test)]
mod laws;

pub use cloud_account::CloudAccount;
pub use encrypted_disk::EncryptedDisk;
pub use encrypted_image::EncryptedImage;
pub use encrypted_instance::EncryptedInstance;
pub use key_revocation::KeyRevocation;

/// Something that is done for every kind.
pub trait Visitor {
    /// Does it for one kind.
    fn visit<K: Kind>(&mut self);
}

macro_rules! kinds {
    ($($kind:ty),+ $(,)?) => {
        /// Visits every kind, in the order of the documentation.
        pub fn visit(visitor: &mut impl Visitor) {
            $(visitor.visit::<$kind>();)+
        }
    };
}

kinds![EncryptedImage, EncryptedDisk, EncryptedInstance, KeyRevocation, CloudAccount];

/// The accounts that objects of every kind may name.
pub fn accounts() -> Arc<Accounts> {
    Arc::new(Accounts::new(cloud_account::plan::load))
}

/// Starts the controllers of the kinds of one lane; each ends after `shutdown` turns true and its passes have finished.
pub fn start(
    lane: Lane,
    world: Arc<World>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    namespace: Option<String>,
    shutdown: watch::Receiver<bool>,
) -> JoinSet<()> {
    struct Starter {
        lane: Lane,
        world: Arc<World>,
        metrics: Arc<Metrics>,
        readiness: Readiness,
        namespace: Option<String>,
        shutdown: watch::Receiver<bool>,
        tasks: JoinSet<()>,
    }
    impl Visitor for Starter {
        fn visit<K: Kind>(&mut self) {
            if K::LANE != self.lane {
                return;
            }
            let name = format!("{} store", K::kind(&()));
            self.readiness.expect(&name);
            let (sender, complete) = tokio::sync::oneshot::channel();
            let readiness = self.readiness.clone();
            self.tasks.spawn(async move {
                if complete.await.is_ok() {
                    readiness.done(&name);
                }
            });
            let mut shutdown = self.shutdown.clone();
            let stop = async move {
                // An error means that the sender is gone, which is a request to stop as well.
                let _ = shutdown.wait_for(|stop| *stop).await;
            };
            self.tasks.spawn(engine::run::<K>(
                self.world.clone(),
                self.metrics.clone(),
                self.namespace.clone(),
                sender,
                stop,
            ));
        }
    }
    let mut starter = Starter { lane, world, metrics, readiness, namespace, shutdown, tasks: JoinSet::new() };
    visit(&mut starter);
    starter.tasks
}
