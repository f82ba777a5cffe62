//! What a kind must provide to be reconciled, and the only handle to reality that it gets.
//!
//! Names no kind and performs no loop: `engine` drives what is defined here, `kinds` implements it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

use kube::core::DeserializeGuard;
use kube::{Api, Client, CustomResourceExt, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::alibaba::gateway::Cloud;
use crate::decision::reason::Mover;
use crate::decision::report::{Fact, Report};
use crate::decision::{Decision, Machine, Reason};
use crate::resource::{AccountReference, FLUX_RECONCILE_ANNOTATION, RECONCILE_ANNOTATION, SharedStatus};

pub mod accounts;
pub mod call;
pub mod claims;
pub mod cluster;
pub mod dependency;
pub mod fault;
pub mod fresh;
pub mod key;
pub mod owner;
pub mod reference;
pub mod revocations;

pub use accounts::{Accounts, Obstacle};
pub use call::Call;
pub use claims::Claims;
pub use dependency::Dependency;
pub use fault::{Fault, FaultClass};
pub use fresh::Fresh;
pub use owner::Owner;
pub use reference::Reference;
pub use revocations::{Incident, Revocations};

/// The desired, observed and effect types of a kind.
pub type DesiredOf<K> = <<K as Kind>::Machine as Machine>::Desired;
/// See [`DesiredOf`].
pub type ObservedOf<K> = <<K as Kind>::Machine as Machine>::Observed;
/// See [`DesiredOf`].
pub type EffectOf<K> = <<K as Kind>::Machine as Machine>::Effect;

/// One custom resource kind.
pub trait Kind:
    Resource<DynamicType = ()>
    + CustomResourceExt
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// The kind's brain.
    type Machine: Machine;
    /// The kind's status.
    type Status: KindStatus;
    /// What the objects of this kind share inside one process, for example a queue.
    type Shared: Default + Send + Sync + 'static;
    /// Whether the kind waits for the lease like all others, or runs in every replica, apart from everything else.
    const LANE: Lane = Lane::Ordinary;
    /// False for a kind that never holds its objects back with a finalizer: the operator then needs no right to write them, but
    /// their status.
    const FINALIZES: bool = true;
    /// Conditions of which people must hear as soon as they are true, whatever Ready says.
    const ALARMS: &[&str] = &[];
    /// True for a kind that changes nothing in the cloud, whatever its objects say.
    const LOOKS_ONLY: bool = false;
    /// The RAM actions that looking at an object can take.
    const READS: &[&str];
    /// Conditions by which something is not as promised although Ready is True, where their reason says that somebody must move.
    const CONCERNS: &[&str] = &["KeyUsable", "Encrypted", "Drifted"];
    /// True if what is made for an object is in one account for good, so that credentials of another one are not used for it. Not
    /// in the emergency lane, which asks nobody.
    const PINNED: bool = true;

    /// Everything in the cluster that is of this kind, or in one namespace.
    fn api(client: Client, namespace: Option<&str>) -> Api<Self>;
    /// The same, for a watch that one object which does not fit the type cannot stop.
    fn guarded(client: Client, namespace: Option<&str>) -> Api<DeserializeGuard<Self>>;
    /// True if nothing in the cloud is deleted with the object.
    fn keeps_what_it_made(&self) -> bool {
        false
    }
    /// The account that the object names; None: the operator's own. The engine hands `observe` and `act` a world whose
    /// cloud is that account's.
    fn account(&self) -> Option<&AccountReference> {
        None
    }
    /// The status as it stands in the object.
    fn status(&self) -> Option<&Self::Status>;
    /// Validates the object. A deletion timestamp yields the absent state before the spec is looked at, so that no bad spec
    /// can ever block a deletion.
    fn desired(&self) -> Result<DesiredOf<Self>, Invalid>;
    /// Looks; never changes anything.
    fn observe(
        &self,
        desired: &DesiredOf<Self>,
        world: &World,
        shared: &Self::Shared,
    ) -> impl Future<Output = Result<ObservedOf<Self>, Fault>> + Send;
    /// Performs exactly one mutation. Claims never come here.
    fn act(
        &self,
        world: &World,
        shared: &Self::Shared,
        effect: &EffectOf<Self>,
    ) -> impl Future<Output = Result<(), Fault>> + Send;
    /// The exact parameters of a new creation attempt, ClientToken and ownership tags included. Pure.
    fn request(
        &self,
        desired: &DesiredOf<Self>,
        observed: &ObservedOf<Self>,
        owner: &Owner,
        attempt: u32,
    ) -> BTreeMap<String, String>;
    /// What would be seen after the decision, if all goes well and nobody interferes; None where nothing follows by itself. Pure.
    fn foresee(
        &self,
        desired: &DesiredOf<Self>,
        observed: &ObservedOf<Self>,
        decision: &Decision<EffectOf<Self>>,
    ) -> Option<ObservedOf<Self>>;
    /// The calls by which an effect changes the cloud, as `act` makes them. Pure.
    fn calls(
        &self,
        desired: &DesiredOf<Self>,
        observed: &ObservedOf<Self>,
        owner: &Owner,
        effect: &EffectOf<Self>,
    ) -> Vec<Call>;
    /// The same object asking only for a look, where what that shows belongs to what would be done.
    fn preview(&self) -> Option<Self> {
        None
    }
    /// Adds to a look what the preview has shown, and the look did not ask for.
    fn remember(_preview: &ObservedOf<Self>, _observed: &mut ObservedOf<Self>) {}
    /// What to tell the user. Pure; starts from the present status, so that facts that were not observed anew stay.
    fn report(
        &self,
        desired: &DesiredOf<Self>,
        observed: &ObservedOf<Self>,
        decision: &Decision<EffectOf<Self>>,
        now: jiff::Timestamp,
    ) -> Report<Self::Status>;
    /// The reason of Ready once the promise holds.
    fn settled(&self, _desired: &DesiredOf<Self>, _observed: &ObservedOf<Self>) -> Reason {
        Reason::Available
    }
    /// True if the object must not vanish before the operator has let go of it. It comes before the first effect, except for
    /// kinds whose deletion undoes nothing and whose first effect cannot wait for another write.
    fn wants_finalizer(&self, decision: &Decision<EffectOf<Self>>) -> bool {
        let made = self.status().is_some_and(|status| status.shared().intent.is_some());
        made || matches!(decision, Decision::Do(_))
    }
    /// How soon the object wants to be looked at again, if that is sooner than the outcome of its pass would have it. It has no say
    /// after a fault, whose delay is a back-off.
    fn look_again(&self, _shared: &Self::Shared, _now: jiff::Timestamp) -> Option<std::time::Duration> {
        None
    }
    /// What the kind's own conditions must say in place of what they say, once a look failed; `lasting` if that does not pass by
    /// itself. Empty where they stand, or say it already.
    fn in_doubt(&self, _now: jiff::Timestamp, _lasting: bool) -> Vec<Fact> {
        Vec::new()
    }
    /// False while what was last asked for with the reconcile-requested-at annotation is still being done, so that its value is not
    /// echoed beside an older answer.
    fn answered(&self, _status: &Self::Status) -> bool {
        true
    }
    /// Told that the object is not there any more.
    fn gone(&self, _shared: &Self::Shared) {}
    /// What the object stands on besides its account: it is looked at when a key of it is revoked or a Secret of it changes, and
    /// whoever asks why it is not Ready looks there.
    fn depends_on(&self) -> Vec<Dependency> {
        Vec::new()
    }
    /// The incident that the object is, while it is not over.
    fn incident(&self) -> Option<Incident> {
        None
    }
    /// Told of every status that was accepted, before anything is done about it.
    fn written(&self, _after: &Self) {}
    /// The last that is done for an object that goes: what must outlive it. An error keeps it for another try.
    fn last_words(&self, _world: &World) -> impl Future<Output = Result<(), Fault>> + Send {
        std::future::ready(Ok(()))
    }
    /// Told of every event of the kind's watch, before any pass sees it.
    fn notice(_event: &kube::runtime::watcher::Event<Self>, _world: &World) {}
    /// Told that the cluster does not know the kind: there can be no object of it.
    fn unserved(_world: &World) {}
    /// Runs beside the passes for as long as they do, for example to keep connections warm.
    fn companion(_world: &World, _shared: &Self::Shared) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// What a kind waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// The lease, and its turn.
    Ordinary,
    /// Nothing: every replica runs it from the start, with clients, threads and shares of quotas of its own. Everything that
    /// such a kind does must be harmless when all replicas do it at once.
    Emergency,
}

/// A status of which the engine can read and write the shared part.
pub trait KindStatus:
    Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync
{
    /// The shared part.
    fn shared(&self) -> &SharedStatus;
    /// The shared part, to be written.
    fn shared_mut(&mut self) -> &mut SharedStatus;
}

/// A spec that cannot work, found before any call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// InvalidSpec, SourceTooLarge, ImmutableFieldChanged, …
    pub reason: Reason,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Invalid {
    /// An invalid value of one field.
    pub fn field(path: &str, problem: impl std::fmt::Display) -> Invalid {
        Invalid { reason: Reason::InvalidSpec, message: format!("{path}: {problem}") }
    }
}

/// The frozen request of the recorded attempt.
pub fn recorded_request<K: Kind>(object: &K, attempt: u32) -> Result<&BTreeMap<String, String>, Fault> {
    let recorded = object.status().and_then(|status| status.shared().intent.as_ref());
    match recorded {
        Some(record) if record.attempt == attempt && !record.parameters.is_empty() => Ok(&record.parameters),
        _ => Err(Fault::conflict("the recorded request is not there any more; looking again")),
    }
}

/// A refusal that stands until the object changes: repeating the same request would be refused again.
///
/// A new value of the reconcile-requested-at annotation lifts it once.
pub fn standing_refusal<K: Kind>(object: &K) -> Option<Reason> {
    let shared = object.status()?.shared();
    let error = shared.last_error.as_ref()?;
    let reason = Reason::parse(&error.reason)?;
    let same_object = Some(error.generation) == object.meta().generation;
    let asked_again =
        requested_at(object).is_some_and(|value| Some(value) != shared.last_handled_reconcile_at.as_deref());
    let stands = error.class == FaultClass::Refused.as_str() && reason.mover() == Mover::Object;
    (same_object && stands && !asked_again).then_some(reason)
}

/// The value with which somebody asked for a look at the object; of two times the later one.
pub fn requested_at<K: Resource>(object: &K) -> Option<&str> {
    let annotations = object.meta().annotations.as_ref()?;
    let asked = |name| annotations.get(name).map(String::as_str);
    let seconds = |value: &str| jiff::Timestamp::from_second(value.parse().ok()?).ok();
    let time = |value: &str| value.parse::<jiff::Timestamp>().ok().or_else(|| seconds(value));
    match (asked(RECONCILE_ANNOTATION), asked(FLUX_RECONCILE_ANNOTATION)) {
        (Some(ours), Some(flux)) => match (time(ours), time(flux)) {
            (Some(our_time), Some(flux_time)) if our_time < flux_time => Some(flux),
            (None, Some(_)) => Some(flux),
            _ => Some(ours),
        },
        (ours, flux) => ours.or(flux),
    }
}

/// Everything outside of this process. If it is not in the signature, the function is pure. Clones share it.
#[derive(Clone)]
pub struct World {
    /// The Kubernetes API.
    pub kube: Client,
    /// Alibaba Cloud: the account of the object at hand.
    pub cloud: Cloud,
    /// Name of that account's object; None: the operator's own account.
    pub account: Option<String>,
    /// The other accounts.
    pub accounts: Arc<Accounts>,
    /// What time it is.
    pub clock: Clock,
    /// What this process knows of its own sends.
    pub claims: Arc<Claims>,
    /// The keys that are revoked; the lanes share it.
    pub revocations: Arc<Revocations>,
    /// Which versions of objects this process has just had from the API server itself.
    pub fresh: Arc<Fresh>,
    /// Figures and names that hold for the whole process.
    pub settings: Settings,
}

impl World {
    /// Bounds a reading of the Kubernetes API: the client itself would wait for ever.
    pub async fn read<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<T, Fault> {
        /// How long one reading may take.
        const READ_MAX: std::time::Duration = std::time::Duration::from_secs(15);
        match tokio::time::timeout(READ_MAX, call).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(Fault {
                class: FaultClass::Transient,
                reason: Reason::CloudUnavailable,
                ..Fault::defect("Timeout", "the Kubernetes API did not answer in time")
            }),
        }
    }
}

/// Figures and names that hold for the whole process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// uid of the kube-system namespace: tells clusters apart in tags and tokens.
    pub cluster: String,
    /// The operator's own namespace: the only one in which it writes anything but its kinds and Events, and where the Secrets
    /// of accounts are.
    pub namespace: String,
    /// The operator's own ServiceAccount, in its own namespace: whom to give what is missing.
    pub service_account: String,
    /// Name of this process in Events and Leases.
    pub identity: String,
    /// The region that is likely to be asked for; its connections are kept open before anybody needs them.
    pub home_region: Option<String>,
    /// True where there is no cluster to ask, on the command line: what is hit then ends at the cloud's resources.
    pub without_cluster: bool,
    /// How long after its compare-and-swap a claim may still be used to send.
    pub send_window: std::time::Duration,
    /// How long after the last possible send an empty lookup proves absence: send window, call time-out, validity of a
    /// signature, lag of lists, and skew of clocks together.
    pub settle: std::time::Duration,
    /// How much faster than real the cloud lives: 1 for the real one. Divides the delays between looks.
    pub tempo: f64,
}

impl Settings {
    /// 5 min to send; 30 s each for a call, a renewal of credentials and the call again; 15 min validity of a signature
    /// (ACS3 page); 5 min for lags and skew.
    pub fn standard(cluster: String, namespace: String, identity: String) -> Settings {
        let send_window = std::time::Duration::from_secs(5 * 60);
        let settle = send_window + std::time::Duration::from_secs(3 * 30 + 15 * 60 + 5 * 60);
        Settings {
            cluster,
            namespace,
            service_account: "ecskms".to_owned(),
            identity,
            home_region: None,
            without_cluster: false,
            send_window,
            settle,
            tempo: 1.0,
        }
    }
}

/// The time of day, injected so that tests can let hours pass in no time.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The system's clock.
    System,
    /// An origin plus what tokio's clock says has passed since; stands still where tokio's clock is paused.
    Virtual {
        /// Time of day at `started`.
        origin: jiff::Timestamp,
        /// The moment of the origin.
        started: tokio::time::Instant,
    },
}

impl Clock {
    /// Now.
    pub fn now(&self) -> jiff::Timestamp {
        match self {
            Clock::System => jiff::Timestamp::now(),
            Clock::Virtual { origin, started } => {
                let passed =
                    jiff::SignedDuration::try_from(started.elapsed()).unwrap_or(jiff::SignedDuration::MAX);
                origin.checked_add(passed).unwrap_or(jiff::Timestamp::MAX)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_requests_for_a_look_the_later_one_counts() {
        let asked = |pairs: &[(&str, &str)]| {
            let annotations = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let mut object = k8s_openapi::api::core::v1::ConfigMap::default();
            object.metadata.annotations = Some(annotations.collect());
            requested_at(&object).map(str::to_owned)
        };
        let (ours, flux) = (RECONCILE_ANNOTATION, FLUX_RECONCILE_ANNOTATION);
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00.5+08:00");
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&[(ours, early), (flux, late)]).as_deref(), Some(late));
        assert_eq!(asked(&[(ours, late), (flux, early)]).as_deref(), Some(late));
        assert_eq!(asked(&[(ours, "1767225600"), (flux, late)]).as_deref(), Some(late), "seconds since 1970");
        assert_eq!(asked(&[(ours, "1800000000"), (flux, late)]).as_deref(), Some("1800000000"));
        assert_eq!(asked(&[(ours, "now"), (flux, late)]).as_deref(), Some(late));
    }
}
