//! The registry: every kind is named here, once. Controllers, CRDs, RBAC, readiness and laws follow from this line.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
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
pub mod encryption_audit;
pub mod key_revocation;

#[cfg(test)]
mod laws;

pub use cloud_account::CloudAccount;
pub use encrypted_disk::EncryptedDisk;
pub use encrypted_image::EncryptedImage;
pub use encrypted_instance::EncryptedInstance;
pub use encryption_audit::EncryptionAudit;
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

kinds![EncryptedImage, EncryptedDisk, EncryptedInstance, KeyRevocation, EncryptionAudit, CloudAccount];

/// The accounts that objects of every kind may name.
pub fn accounts() -> Arc<Accounts> {
    Arc::new(Accounts::new(cloud_account::plan::load, cloud_account::plan::usable))
}

/// Starts the controllers of the kinds of one lane, one task for each; each ends after `shutdown` turns true and its passes have
/// finished. One that ends before that, or panics, is logged with its kind.
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
            let ready = async move {
                if complete.await.is_ok() {
                    readiness.done(&name);
                }
            };
            let (mut shutdown, asked) = (self.shutdown.clone(), self.shutdown.clone());
            let stop = async move {
                // An error means that the sender is gone, which is a request to stop as well.
                let _ = shutdown.wait_for(|stop| *stop).await;
            };
            let run = engine::run::<K>(
                self.world.clone(),
                self.metrics.clone(),
                self.namespace.clone(),
                sender,
                stop,
            );
            self.tasks.spawn(async move {
                // One task for each kind, so that whoever waits for it knows that the kind is nobody's any more.
                let (ended, ()) = futures::join!(AssertUnwindSafe(run).catch_unwind(), ready);
                match ended {
                    Err(_) => tracing::error!(kind = %K::kind(&()), "the controller panicked"),
                    Ok(()) if !*asked.borrow() => {
                        tracing::error!(kind = %K::kind(&()), "the controller ended, though nobody asked it to");
                    }
                    Ok(()) => {}
                }
            });
        }
    }
    let mut starter = Starter { lane, world, metrics, readiness, namespace, shutdown, tasks: JoinSet::new() };
    visit(&mut starter);
    starter.tasks
}
