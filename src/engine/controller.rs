//! Runs one kind: its watch, its store, its workers, and what its passes share.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::{FutureExt, Stream, StreamExt, stream};
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use rand::RngExt;
use serde_json::json;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::events::Announcer;
use super::metrics::Metrics;
use super::pace::Outcome;
use super::reconcile::reconcile;
use super::urgent;
use super::watch::{Malformed, watch};
use crate::kind::revocations::Hold;
use crate::kind::{Fault, FaultClass, Kind, Lane, World, requested_at};
use crate::resource::FINALIZER;

/// Passes that run at the same time for one kind; the gateway joins their reads.
const WORKERS: u16 = 128;
/// Objects that are looked at again after the same delay wake on common ticks, this many in a delay, so that their reads share
/// list calls: without ticks, ten thousand disks at rest would cost ten thousand calls a round instead of a hundred.
const TICKS: u32 = 10;
/// How long one call to the Kubernetes API may take.
pub(super) const CALL_MAX: Duration = Duration::from_secs(15);

/// What the passes of one kind share.
pub struct Context<K: Kind> {
    /// Everything outside.
    pub world: Arc<World>,
    /// What the kind's objects share.
    pub shared: K::Shared,
    /// Counters.
    pub metrics: Arc<Metrics>,
    announcer: Announcer,
    failures: Mutex<HashMap<String, u32>>,
    seen: Mutex<HashMap<String, u64>>,
    started: tokio::time::Instant,
}

/// Runs the kind until `shutdown`; passes that have begun are finished. Returns its store through `ready` once it is complete.
pub async fn run<K: Kind>(
    world: Arc<World>,
    metrics: Arc<Metrics>,
    namespace: Option<String>,
    ready: tokio::sync::oneshot::Sender<Store<K>>,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let api = K::guarded(world.kube.clone(), namespace.as_deref());
    let (store, writer) = reflector::store();
    let ctx = Arc::new(Context::<K>::new(world.clone(), metrics));
    let malformed = Malformed::new(world.kube.clone());
    let (noticing, unserved) = (world.clone(), world.clone());
    let remembering = ctx.clone();
    let events = watch(api, malformed, move || K::unserved(&unserved)).inspect(move |event| {
        if let Ok(event) = event {
            K::notice(event, &noticing);
        }
        if let Ok(Event::Delete(object)) = event {
            object.gone(&remembering.shared);
        }
    });
    let (told, news) = unbounded();
    let fill = fill(writer, events, told);
    let filter = ctx.clone();
    let news = news.filter(move |object| futures::future::ready(filter.is_news(object)));
    let trigger = stream::select(news, concerned(&world, store.clone()));
    let complete = store.clone();
    let announce = async move {
        if complete.wait_until_ready().await.is_ok() {
            let _ = ready.send(complete);
        }
        futures::future::pending::<()>().await
    };
    let work = match K::LANE {
        Lane::Ordinary => passes(trigger, store, ctx.clone(), shutdown).boxed(),
        Lane::Emergency => urgent_passes(trigger, store, ctx.clone(), shutdown).boxed(),
    };
    tokio::select! {
        () = work => {}
        () = K::companion(&ctx.world, &ctx.shared) => tracing::error!(kind = %K::kind(&()), "the companion ended"),
        () = fill => tracing::error!(kind = %K::kind(&()), "the watch ended"),
        () = announce => {}
    }
}

/// Keeps the store, and tells of every object once it is there.
///
/// Not by subscribing to the writer: a subscription to kube's reflector sleeps for ever over an object that is gone by the time
/// that it is told of, and then holds up the store.
async fn fill<K: Kind>(
    writer: Writer<K>,
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    told: UnboundedSender<Arc<K>>,
) {
    let store = writer.as_reader();
    let mut stored = std::pin::pin!(reflector::reflector(writer, events));
    while let Some(event) = stored.next().await {
        if let Ok(event) = event {
            pass_on(&event, &store, &told);
        }
    }
}

/// Tells which objects an event that has reached the store concerns: one that is there, or all that a complete list named.
fn pass_on<K: Kind>(event: &Event<K>, store: &Store<K>, told: &UnboundedSender<Arc<K>>) {
    let touched = match event {
        Event::Apply(object) => Vec::from_iter(store.get(&ObjectRef::from_obj(object))),
        Event::InitDone => store.state(),
        Event::Delete(_) | Event::Init | Event::InitApply(_) => Vec::new(),
    };
    // Nobody listens once the passes are over, which is as good.
    touched.into_iter().for_each(|object| drop(told.unbounded_send(object)));
}

/// The passes of the ordinary kinds.
async fn passes<K: Kind>(
    trigger: impl Stream<Item = Arc<K>> + Send + 'static,
    store: Store<K>,
    ctx: Arc<Context<K>>,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let pass = |object, ctx| async move {
        let next = reconcile::<K>(object, ctx).await;
        Ok::<_, Infallible>(next.map_or_else(Action::await_change, Action::requeue))
    };
    Controller::for_shared_stream(trigger, store)
        .with_config(Config::default().concurrency(WORKERS))
        .graceful_shutdown_on(shutdown)
        .run(pass, |_, never, _| match *never {}, ctx)
        .for_each(|_| async {})
        .await;
}

/// The passes of the emergency lane.
async fn urgent_passes<K: Kind>(
    trigger: impl Stream<Item = Arc<K>> + Send,
    store: Store<K>,
    ctx: Arc<Context<K>>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let pass = |key: ObjectRef<K>| {
        let (object, ctx) = (store.get(&key), ctx.clone());
        async move { reconcile(object?, ctx).await }
    };
    urgent::work(trigger.map(|object| ObjectRef::from_obj(&*object)), shutdown, pass).await;
}

/// The objects that something outside of them concerns, so that they show it at once and not in their next round: those under a
/// key whose revocation has begun or ended, and those that stand on a Secret that changed.
fn concerned<K: Kind>(
    world: &World,
    store: Store<K>,
) -> impl Stream<Item = Arc<K>> + Send + 'static + use<K> {
    let under_key = |object: &K, hold: &Hold| match &hold.key_id {
        Some(key_id) => object.depends_on().iter().any(|one| one.is_key(&hold.region, key_id)),
        None => K::LANE == Lane::Ordinary,
    };
    let with_secret = |object: &K, name: &String| object.depends_on().iter().any(|one| one.is_secret(name));
    stream::select(
        of_changes(world.revocations.changes(), store.clone(), under_key),
        of_changes(world.accounts.changed_secrets(), store, with_secret),
    )
}

/// The objects that each change concerns. Never ends: the end of a trigger would be taken for the end of the kind.
fn of_changes<K: Kind, C: Clone + Send + 'static>(
    changes: broadcast::Receiver<C>,
    store: Store<K>,
    concerns: fn(&K, &C) -> bool,
) -> impl Stream<Item = Arc<K>> + Send + 'static + use<K, C> {
    let touched = stream::unfold((changes, store), move |(mut changes, store)| async move {
        loop {
            match changes.recv().await {
                Ok(change) => {
                    let all = store.state().into_iter();
                    let touched: Vec<_> = all.filter(|object| concerns(object, &change)).collect();
                    return Some((touched, (changes, store)));
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    });
    touched.flat_map(stream::iter)
}

impl<K: Kind> Context<K> {
    /// A fresh context.
    pub fn new(world: Arc<World>, metrics: Arc<Metrics>) -> Self {
        let announcer = Announcer::new(world.kube.clone(), &world.settings.identity);
        Context {
            world,
            shared: K::Shared::default(),
            metrics,
            announcer,
            failures: Mutex::default(),
            seen: Mutex::default(),
            started: tokio::time::Instant::now(),
        }
    }

    /// False for the echo of our own status writes: they change nothing that a pass depends on.
    fn is_news(&self, object: &K) -> bool {
        let meta = object.meta();
        let mut hasher = DefaultHasher::new();
        (meta.generation, meta.deletion_timestamp.is_some(), &meta.finalizers, requested_at(object))
            .hash(&mut hasher);
        let uid = meta.uid.clone().unwrap_or_default();
        let print = hasher.finish();
        lock(&self.seen).insert(uid, print) != Some(print)
    }

    /// Forgets everything about an object that is gone.
    pub fn let_go(&self, object: &K) -> Outcome {
        let uid = object.meta().uid.as_deref().unwrap_or_default();
        self.world.claims.forget(uid);
        self.announcer.forget(uid);
        lock(&self.failures).remove(uid);
        lock(&self.seen).remove(uid);
        Outcome::Gone
    }

    /// Faults in a row so far.
    pub(super) fn failures(&self, uid: &str) -> u32 {
        lock(&self.failures).get(uid).copied().unwrap_or_default()
    }

    /// Faults in a row, this one included; anything else starts anew.
    pub(super) fn count_failure(&self, uid: &str, outcome: &Outcome) -> u32 {
        let mut failures = lock(&self.failures);
        match outcome {
            Outcome::Fault(_) => {
                let count = failures.entry(uid.to_owned()).or_default();
                *count = count.saturating_add(1);
                *count
            }
            _ => {
                failures.remove(uid);
                0
            }
        }
    }

    /// Jitter for faults, common ticks for everything else; and faster where the cloud lives faster.
    pub(super) fn soften(&self, delay: Duration, outcome: &Outcome) -> Duration {
        let delay = delay.div_f64(self.world.settings.tempo.max(1.0)).max(Duration::from_millis(20));
        match outcome {
            Outcome::Fault(_) if K::LANE == Lane::Emergency => {
                delay.mul_f64(rand::rng().random_range(0.0..=1.0))
            }
            Outcome::Fault(fault) if fault.class == FaultClass::Transient => {
                delay.mul_f64(rand::rng().random_range(0.5..=1.0))
            }
            Outcome::Fault(_) => delay.mul_f64(rand::rng().random_range(1.0..=1.1)),
            _ => next_tick(self.started.elapsed(), delay),
        }
    }

    /// The object as it stands now, read past every cache; None if it, or this life of it, is gone.
    pub(super) async fn fetch(&self, object: &K) -> Result<Option<K>, Fault> {
        let api = K::api(self.world.kube.clone(), object.meta().namespace.as_deref());
        let asked = tokio::time::Instant::now();
        let found = self.within(api.get_opt(object.meta().name.as_deref().unwrap_or_default())).await?;
        self.note_fresh(found.as_ref(), asked);
        Ok(found.filter(|fresh| fresh.meta().uid == object.meta().uid))
    }

    /// Remembers that this version has just come from the server itself, for the kinds that must know.
    pub(super) fn note_fresh(&self, object: Option<&K>, asked: tokio::time::Instant) {
        if let Some(object) = object.filter(|_| K::LANE == Lane::Emergency) {
            self.world.fresh.note(object, asked);
        }
    }

    pub(super) async fn add_finalizer(&self, object: &K) -> Result<K, Fault> {
        let mut finalizers = object.meta().finalizers.clone().unwrap_or_default();
        finalizers.push(FINALIZER.to_owned());
        self.write_finalizers(object, finalizers).await
    }

    /// Takes the finalizer off; an object that is already gone is as good.
    pub(super) async fn remove_finalizer(&self, object: &K) -> Result<(), Fault> {
        let before = object.meta().finalizers.clone().unwrap_or_default();
        if !before.iter().any(|name| name == FINALIZER) {
            return Ok(());
        }
        let finalizers = before.into_iter().filter(|name| name != FINALIZER).collect();
        match self.write_finalizers(object, finalizers).await {
            Err(fault) if fault.class == FaultClass::Gone => Ok(()),
            other => other.map(|_| ()),
        }
    }

    async fn write_finalizers(&self, object: &K, finalizers: Vec<String>) -> Result<K, Fault> {
        let meta = object.meta();
        let body = json!({ "metadata": {
            "uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": finalizers,
        }});
        self.metrics.count_write(&K::kind(&()), "finalizer");
        let api = K::api(self.world.kube.clone(), meta.namespace.as_deref());
        let name = meta.name.as_deref().unwrap_or_default();
        let asked = tokio::time::Instant::now();
        let written = self.within(api.patch(name, &as_ecskms(), &Patch::Merge(body))).await?;
        self.note_fresh(Some(&written), asked);
        Ok(written)
    }

    /// The alarms of a status that is followed by another step, which does not wait for them.
    pub(super) async fn alarm(&self, object: &K, status: &K::Status) {
        self.announcer.alarm(object, status, &self.metrics, Duration::ZERO).await;
    }

    pub(super) async fn announce(&self, object: &K, status: &K::Status) {
        self.announcer.announce(object, status, &self.metrics).await;
    }

    /// Bounds a call to the Kubernetes API: the client itself would wait for ever.
    pub(super) async fn within<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<T, Fault> {
        match tokio::time::timeout(CALL_MAX, call).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(Fault {
                class: FaultClass::Transient,
                reason: crate::decision::Reason::CloudUnavailable,
                ..Fault::defect("Timeout", "the Kubernetes API did not answer in time")
            }),
        }
    }
}

/// Who writes, in managedFields.
pub(super) fn as_ecskms() -> PatchParams {
    PatchParams { field_manager: Some("ecskms".to_owned()), ..PatchParams::default() }
}

/// The time from `now` to the first tick that is at least `delay` away.
fn next_tick(now: Duration, delay: Duration) -> Duration {
    let tick = (delay / TICKS).as_millis().max(1);
    let earliest = (now + delay).as_millis();
    let due = earliest.div_ceil(tick) * tick;
    Duration::from_millis(u64::try_from(due - now.as_millis()).unwrap_or(u64::MAX))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_gone_before_anybody_was_told_of_it_stops_nobody() {
        use crate::kinds::CloudAccount;
        let object = |name: &str| {
            let mut object =
                CloudAccount::new(name, serde_json::from_value(json!({"credentials": {}})).expect("a spec"));
            object.metadata.uid = Some(name.to_owned());
            object
        };
        let brief = (0..600).flat_map(|_| [Event::Apply(object("brief")), Event::Delete(object("brief"))]);
        let listed = [Event::Init, Event::InitApply(object("old")), Event::InitDone];
        let events = listed.into_iter().chain(brief).chain([Event::Apply(object("last"))]).map(Ok);
        let (store, writer) = reflector::store();
        let (told, news) = unbounded();
        let filled = fill(writer, stream::iter(events), told);
        tokio::time::timeout(Duration::from_secs(60), filled).await.expect("the store is not held up");
        let mut names: Vec<_> =
            news.map(|object| object.metadata.name.clone().unwrap_or_default()).collect().await;
        names.dedup();
        assert_eq!(names, ["old", "brief", "last"]);
        assert_eq!(store.state().len(), 2);
    }

    #[test]
    fn objects_with_the_same_delay_wake_together_and_never_early() {
        let delay = Duration::from_secs(600);
        let wakes = |now: u64| Duration::from_millis(now) + next_tick(Duration::from_millis(now), delay);
        assert_eq!(wakes(1), wakes(59_999));
        assert_ne!(wakes(1), wakes(60_001));
        for now in [0, 1, 12_345, 599_999] {
            let wait = next_tick(Duration::from_millis(now), delay);
            assert!(wait >= delay && wait <= delay + delay / TICKS, "{now}: {wait:?}");
        }
    }
}
