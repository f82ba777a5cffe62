//! The simulated Alibaba Cloud: ECS, KMS, RAM and STS over plain HTTP on one port, with signatures verified.
//!
//! Deliberately our reading of public documents and no more: `assumptions` lists every behaviour that is a
//! reading or a guess.

pub mod account;
pub mod actions;
pub mod assumptions;
mod clock;
mod control;
pub mod disk_creation;
pub mod disks;
pub mod ecs_tags;
pub mod encryption_default;
mod envelope;
pub mod faults;
mod http;
pub mod idempotence;
pub mod image_copies;
pub mod images;
pub mod instance_creation;
pub mod instance_life;
pub mod instances;
pub mod journal;
pub mod keep;
pub mod key_catalog;
pub mod key_use;
pub mod keys;
mod metadata;
pub mod names;
pub mod paging;
pub mod parameters;
pub mod permissions;
pub mod quota;
pub mod ram;
pub mod refusal;
pub mod resources;
pub mod settings;
pub mod snapshots;
pub mod sts;
pub mod topology;
pub mod verify;
pub mod world;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use account::{
    ACCESS_KEY_ID, ACCESS_KEY_SECRET, EXTERNAL_ID, LIMITED_ACCESS_KEY_ID, LIMITED_ACCESS_KEY_SECRET,
    OIDC_PROVIDER_ARN, SECOND_ACCESS_KEY_ID, SECOND_ACCESS_KEY_SECRET, SECOND_ACCOUNT,
};
pub use assumptions::{Assumption, assumptions};

/// How a cloud starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Simulated seconds per real second.
    pub time_scale: f64,
    /// Whether the account starts with the resources of `account`; it is empty otherwise.
    pub start_account: bool,
    /// Decides ids and durations.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { time_scale: 1.0, start_account: true, seed: 1 }
    }
}

/// One pretended cloud. Clones share it.
#[derive(Clone)]
pub struct Cloud {
    inner: Arc<Mutex<Inner>>,
}

/// Everything behind the lock.
struct Inner {
    options: Options,
    /// The first account.
    world: world::World,
    /// The second account, which shares nothing with the first but the clock.
    second: world::World,
    clock: clock::Clock,
    nonces: verify::Nonces,
    quotas: [quota::Quotas; 2],
    metadata_tokens: metadata::Tokens,
    faults: faults::Faults,
    journal: journal::Journal,
    /// Where both accounts are kept, if they are.
    file: Option<std::path::PathBuf>,
}

impl Cloud {
    /// A cloud whose time starts now.
    pub fn new(options: Options) -> Cloud {
        let clock = clock::Clock::new(options.time_scale);
        let inner = Inner {
            options,
            world: starting_world(options, clock.now()),
            second: second_world(options, clock.now()),
            clock,
            nonces: Default::default(),
            quotas: Default::default(),
            metadata_tokens: Default::default(),
            faults: Default::default(),
            journal: Default::default(),
            file: None,
        };
        Cloud { inner: Arc::new(Mutex::new(inner)) }
    }

    /// The HTTP face, for a listener or for use in process.
    pub fn router(&self) -> axum::Router {
        let router = http::router(self.clone());
        let kept = self.lock().file.is_some();
        if kept { keep::layer(router, self.clone()) } else { router }
    }

    /// Serves on the caller's socket until `shutdown` is ready.
    pub async fn serve(
        self,
        listener: tokio::net::TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        axum::serve(listener, self.router()).with_graceful_shutdown(shutdown).await
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere cannot leave the world half changed in a way that matters to a simulation.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Lets everything happen that has fallen due.
    fn advance(&mut self) {
        self.world.advance(self.clock.now());
        self.second.advance(self.clock.now());
    }

    /// The account of that number; the first where none is named.
    fn account(&mut self, number: Option<&str>) -> Option<&mut world::World> {
        match number {
            None => Some(&mut self.world),
            Some(number) => {
                [&mut self.world, &mut self.second].into_iter().find(|world| world.account == number)
            }
        }
    }

    /// Back to the start, at the current time: resources, settings, faults, quotas and the record. Used
    /// nonces stay used.
    fn reset(&mut self) {
        self.world = starting_world(self.options, self.clock.now());
        self.second = second_world(self.options, self.clock.now());
        self.quotas = Default::default();
        self.faults = Default::default();
        self.journal = Default::default();
    }
}

fn starting_world(options: Options, now: world::Moment) -> world::World {
    let mut world = world::World::empty(options.seed, now);
    if options.start_account {
        account::fill(&mut world);
    }
    world
}

fn second_world(options: Options, now: world::Moment) -> world::World {
    /// Far from every seed that people choose, so that no id exists in both accounts.
    const APART: u64 = 0x5ec0_0d00_0000_0000;
    let mut world = world::World::empty(options.seed ^ APART, now);
    world.account = SECOND_ACCOUNT.into();
    if options.start_account {
        account::fill_second(&mut world);
    }
    world
}
