//! A watch that cannot be stopped by one bad object or one lost version.
//!
//! Two traps of the client library are stepped over here: an HTTP-level 410 at the start of a watch repeats for ever on the
//! same version, and one object that does not fit the type fails the whole list.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use kube::api::{GetParams, Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::controller::{CALL_MAX, as_ecskms};
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

/// Events of one kind, pruned of what no pass reads; never ends and never fails. `unserved` is called each time that the cluster
/// says that it does not know the kind.
pub fn watch<K: Kind>(
    guarded: Api<DeserializeGuard<K>>,
    malformed: Malformed,
    unserved: impl Fn() + Send + 'static,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send {
    let state = Watching {
        events: begin(&guarded, true),
        api: guarded,
        malformed,
        unserved: Box::new(unserved),
        failures: 0,
        gone: 0,
        streaming: true,
        listed: false,
    };
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
    unserved: Box<dyn Fn() + Send>,
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
        if status_code(error) == Some(404) {
            (self.unserved)();
        }
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

/// Objects that do not fit their type: told once each, kept out of the store, and never in the way of their deletion unless their
/// status names something that was made for them.
#[derive(Clone)]
pub struct Malformed {
    client: Client,
    told: Arc<Mutex<HashSet<String>>>,
}

impl Malformed {
    /// How many are remembered; beyond that, they are told again.
    const TOLD_MAX: usize = 1_000;
    /// How often it is tried to tell one: for about half an hour.
    const TRIES_MAX: usize = 100;

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
                let mut told = self.told();
                if told.len() > Self::TOLD_MAX {
                    told.clear();
                }
                if told.insert(key.clone()) {
                    tracing::warn!(kind = %K::kind(&()), name = invalid.metadata.name.as_deref(), "malformed object: {}", invalid.error);
                    tokio::spawn(self.clone().tell::<K>(invalid, key));
                }
                None
            }
        }
    }

    /// Tells until it was heard: no event would come again by itself. What was never heard is told anew with the next list.
    async fn tell<K: Kind>(self, invalid: InvalidObject, key: String) {
        let name = invalid.metadata.name.as_deref();
        for attempt in 0..Self::TRIES_MAX {
            match tokio::time::timeout(CALL_MAX * 2, tell::<K>(self.client.clone(), &invalid)).await {
                Ok(Ok(())) => return,
                // Gone, or another version by now, which has an event of its own.
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => return,
                Ok(Err(error)) => tracing::warn!(name, "the malformed object could not be told so: {error}"),
                Err(_) => tracing::warn!(name, "the malformed object could not be told so in time"),
            }
            tokio::time::sleep(PAUSES[attempt.min(PAUSES.len() - 1)]).await;
        }
        self.told().remove(&key);
    }

    fn told(&self) -> MutexGuard<'_, HashSet<String>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What no pass reads costs seven eighths of the memory.
fn prune<K: Kind>(object: &mut K) {
    object.managed_fields_mut().clear();
    object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
}

/// Writes the problem into the object's status, or lets the object go if it is being deleted and nothing was made for it: what
/// cannot be read cannot say what is to become of a resource.
async fn tell<K: Kind>(client: Client, invalid: &InvalidObject) -> kube::Result<()> {
    let meta = &invalid.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let api = K::api(client, meta.namespace.as_deref());
    let raw = raw_get(&api, &name).await?;
    // Judged is only what was found malformed; another version may be a corrected one.
    if raw["metadata"]["uid"].as_str() != meta.uid.as_deref()
        || raw["metadata"]["resourceVersion"].as_str() != meta.resource_version.as_deref()
    {
        return Ok(());
    }
    let params = as_ecskms();
    let (leaving, kept) = (meta.deletion_timestamp.is_some(), names_a_resource(&raw["status"]));
    if leaving && !kept {
        let rest: Vec<_> =
            meta.finalizers.iter().flatten().filter(|finalizer| *finalizer != FINALIZER).collect();
        let body = json!({ "metadata": { "uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": rest } });
        return raw_patch(api, &name, &params, body, None).await;
    }
    let advice = match leaving {
        true => {
            "It is being deleted, but its status names what was made for it, so it is not let go. Correct it; removing the \
             finalizer by hand lets it go, and the resource stays."
        }
        false => "Correct it; see kubectl explain.",
    };
    let message = format!("The object cannot be read: {}. {advice}", invalid.error);
    let shown = raw["status"]["conditions"].as_array().into_iter().flatten();
    let says = |condition: &Value| {
        condition["type"] == "Ready"
            && condition["message"] == *message
            && condition["observedGeneration"].as_i64() == meta.generation
    };
    // Each write is a new version, which is found malformed and told in its turn.
    if shown.into_iter().any(says) {
        return Ok(());
    }
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::now());
    let condition = |kind: &str, status: &str| {
        json!({ "type": kind, "status": status, "reason": Reason::InvalidSpec.as_str(), "message": message,
                "observedGeneration": meta.generation, "lastTransitionTime": now })
    };
    let body = json!({ "metadata": { "uid": meta.uid }, "status": {
        "observedGeneration": meta.generation, "conditions": [condition("Ready", "False"), condition("Stalled", "True")] } });
    raw_patch(api, &name, &params, body, Some("status")).await
}

/// True if a raw status holds the intent of a creation, or the id of a resource.
fn names_a_resource(status: &Value) -> bool {
    let names = |(field, value): (&String, &Value)| match field.as_str() {
        "keyId" | "accountId" => false,
        "intent" => !value.is_null(),
        field => field.ends_with("Id") && value.is_string(),
    };
    status.as_object().is_some_and(|fields| fields.iter().any(names))
}

/// Reads without reading the answer into the kind's type, which it does not fit.
async fn raw_get<K: Kind>(api: &Api<K>, name: &str) -> kube::Result<Value> {
    let request = kube::core::Request::new(api.resource_url());
    let request = request.get(name, &GetParams::default()).map_err(kube::Error::BuildRequest)?;
    api.clone().into_client().request::<Value>(request).await
}

/// Patches without reading the answer into the kind's type, which it does not fit.
async fn raw_patch<K: Kind>(
    api: Api<K>,
    name: &str,
    params: &PatchParams,
    body: Value,
    subresource: Option<&str>,
) -> kube::Result<()> {
    let request = kube::core::Request::new(api.resource_url());
    let patch = Patch::Merge(body);
    let request = match subresource {
        Some(subresource) => request.patch_subresource(subresource, name, params, &patch),
        None => request.patch(name, params, &patch),
    }
    .map_err(kube::Error::BuildRequest)?;
    api.into_client().request::<Value>(request).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_that_names_something_made_keeps_an_object() {
        for empty in
            [json!(null), json!({}), json!({"keyId": "k", "accountId": "1", "intent": null, "diskId": null})]
        {
            assert!(!names_a_resource(&empty), "{empty}");
        }
        for made in
            [json!({"diskId": "d-1"}), json!({"intent": {"attempt": 1}}), json!({"intent": "unreadable"})]
        {
            assert!(names_a_resource(&made), "{made}");
        }
    }
}
