//! A watch that cannot be stopped by one bad object or one lost version.
//!
//! Two traps of the client library are stepped over here: an HTTP-level 410 at the start of a watch repeats for ever on the
//! same version, and one object that does not fit the type fails the whole list.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::controller::as_ecskms;
use crate::decision::Reason;
use crate::kind::{Kind, Lane};
use crate::resource::FINALIZER;

/// Watch starts that may be answered 410 in a row before the watch is begun anew from a list.
const GONE_MAX: u32 = 2;
/// Pauses between attempts, the last one repeated.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(8),
    Duration::from_secs(20),
];

/// The longest pause of the emergency lane: who waits for a revocation has no time for more.
const EMERGENCY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Seconds after which the emergency lane's watch ends by itself and is resumed at the version that it has seen. A connection that
/// is dead without a word is noticed five seconds later; with the client's own limit of 290 seconds, a replica would be blind for
/// five minutes. It costs one request every half minute, and no list.
const EMERGENCY_WATCH_SECONDS: u32 = 30;

/// Events of one kind, pruned of what no pass reads; never ends and never fails.
pub fn watch<K: Kind>(
    guarded: Api<DeserializeGuard<K>>,
    malformed: Malformed,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send {
    let events = begin(&guarded, true);
    let state =
        Watching { events, api: guarded, malformed, failures: 0, gone: 0, streaming: true, listed: false };
    stream::unfold(state, |mut state| async move {
        loop {
            match state.events.next().await {
                Some(Ok(event)) => {
                    state.note(&event);
                    if let Some(event) = state.malformed.sift(event) {
                        return Some((Ok(event), state));
                    }
                }
                Some(Err(error)) => state.recover(&error).await,
                None => state.events = begin(&state.api, state.streaming),
            }
        }
    })
}

struct Watching<K: Kind> {
    api: Api<DeserializeGuard<K>>,
    events: BoxStream<'static, watcher::Result<Event<DeserializeGuard<K>>>>,
    malformed: Malformed,
    failures: usize,
    gone: u32,
    streaming: bool,
    /// True once this attempt has brought the whole list.
    listed: bool,
}

impl<K: Kind> Watching<K> {
    /// Init says only that an attempt was begun; everything else shows that the server answers.
    fn note(&mut self, event: &Event<DeserializeGuard<K>>) {
        match event {
            Event::Init => self.listed = false,
            Event::InitDone => (self.listed, self.failures, self.gone) = (true, 0, 0),
            Event::InitApply(_) | Event::Apply(_) | Event::Delete(_) => (self.failures, self.gone) = (0, 0),
        }
    }

    async fn recover(&mut self, error: &watcher::Error) {
        tracing::debug!(kind = %K::kind(&()), "watch: {error}");
        // The emergency lane asks every second: an outage must not fill the log.
        if self.failures.is_power_of_two() {
            tracing::warn!(kind = %K::kind(&()), failures = self.failures, "the watch fails: {error}");
        }
        let gone = status_code(error) == Some(410);
        self.gone = if gone { self.gone + 1 } else { 0 };
        // A version that is too old is the answer of a server that is well: the list is asked for at once.
        let is_answer = gone && self.gone < GONE_MAX;
        // Servers without streaming lists say so in many ways (422 in 1.33, an ERROR event where etcd is too old); a plain list
        // gets on with all of them, and getting on is worth more than the memory that a streaming list saves.
        if self.streaming && !self.listed {
            self.streaming = false;
            self.events = begin(&self.api, false);
        }
        if self.gone >= GONE_MAX {
            self.gone = 0;
            self.events = begin(&self.api, self.streaming);
        }
        if is_answer {
            self.failures = 0;
        }
        let pause = PAUSES[self.failures.min(PAUSES.len() - 1)];
        self.failures += 1;
        let pause = if K::LANE == Lane::Emergency { pause.min(EMERGENCY_PAUSE_MAX) } else { pause };
        tokio::time::sleep(pause).await;
    }
}

fn begin<K: Kind>(
    api: &Api<DeserializeGuard<K>>,
    streaming: bool,
) -> BoxStream<'static, watcher::Result<Event<DeserializeGuard<K>>>> {
    let config = watcher::Config::default();
    let config = if streaming { config.streaming_lists() } else { config };
    let config = match K::LANE {
        Lane::Ordinary => config,
        Lane::Emergency => config.timeout(EMERGENCY_WATCH_SECONDS),
    };
    watcher::watcher(api.clone(), config).boxed()
}

fn status_code(error: &watcher::Error) -> Option<u16> {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status)) => Some(status.code),
        WatchError(status) => Some(status.code),
        _ => None,
    }
}

/// Objects that do not fit their type: told once each, kept out of the store, and never in the way of their deletion.
#[derive(Clone)]
pub struct Malformed {
    client: Client,
    told: Arc<Mutex<HashSet<String>>>,
}

impl Malformed {
    /// How many are remembered; beyond that, they are told again.
    const TOLD_MAX: usize = 1_000;

    /// With the client that tells.
    pub fn new(client: Client) -> Malformed {
        Malformed { client, told: Arc::default() }
    }

    fn sift<K: Kind>(&self, event: Event<DeserializeGuard<K>>) -> Option<Event<K>> {
        Some(match event {
            Event::Apply(object) => Event::Apply(self.check(object)?),
            Event::InitApply(object) => Event::InitApply(self.check(object)?),
            Event::Delete(object) => Event::Delete(object.0.ok()?),
            Event::Init => Event::Init,
            Event::InitDone => Event::InitDone,
        })
    }

    fn check<K: Kind>(&self, object: DeserializeGuard<K>) -> Option<K> {
        match object.0 {
            Ok(mut object) => {
                prune(&mut object);
                Some(object)
            }
            Err(invalid) => {
                let key = format!("{:?}/{:?}", invalid.metadata.uid, invalid.metadata.resource_version);
                let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
                if told.len() > Self::TOLD_MAX {
                    told.clear();
                }
                if told.insert(key) {
                    tracing::warn!(kind = %K::kind(&()), name = invalid.metadata.name.as_deref(), "malformed object: {}", invalid.error);
                    tokio::spawn(tell::<K>(self.client.clone(), invalid));
                }
                None
            }
        }
    }
}

/// What no pass reads costs seven eighths of the memory.
fn prune<K: Kind>(object: &mut K) {
    object.managed_fields_mut().clear();
    object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
}

/// Writes the problem into the object's status, or lets the object go if it is being deleted: what cannot be read cannot ask
/// for anything to be deleted in the cloud.
async fn tell<K: Kind>(client: Client, invalid: kube::core::error_boundary::InvalidObject) {
    let meta = invalid.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let api = K::api(client, meta.namespace.as_deref());
    let params = as_ecskms();
    let result = if meta.deletion_timestamp.is_some() {
        let rest: Vec<_> =
            meta.finalizers.iter().flatten().filter(|finalizer| *finalizer != FINALIZER).collect();
        let body = json!({ "metadata": { "uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": rest } });
        raw_patch(api, &name, &params, body, None).await
    } else {
        let message =
            format!("The object cannot be read: {}. Correct it; see kubectl explain.", invalid.error);
        let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::now());
        let condition = |kind: &str, status: &str| {
            json!({ "type": kind, "status": status, "reason": Reason::InvalidSpec.as_str(), "message": message,
                    "observedGeneration": meta.generation, "lastTransitionTime": now })
        };
        let body = json!({ "metadata": { "uid": meta.uid }, "status": {
            "observedGeneration": meta.generation, "conditions": [condition("Ready", "False"), condition("Stalled", "True")] } });
        raw_patch(api, &name, &params, body, Some("status")).await
    };
    if let Err(error) = result {
        tracing::warn!(name, "the malformed object could not be told so: {error}");
    }
}

/// Patches without reading the answer into the kind's type, which it does not fit.
async fn raw_patch<K: Kind>(
    api: Api<K>,
    name: &str,
    params: &PatchParams,
    body: serde_json::Value,
    subresource: Option<&str>,
) -> kube::Result<()> {
    let request = kube::core::Request::new(api.resource_url());
    let patch = Patch::Merge(body);
    let request = match subresource {
        Some(subresource) => request.patch_subresource(subresource, name, params, &patch),
        None => request.patch(name, params, &patch),
    }
    .map_err(kube::Error::BuildRequest)?;
    api.into_client().request::<serde_json::Value>(request).await.map(|_| ())
}
