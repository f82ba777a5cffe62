//! [`Cloud`]: the one handle through which an operator talks to Alibaba Cloud.
//!
//! It joins what must be shared by all objects: the HTTP client, the memory of throttled actions, the pace of
//! KMS calls, the gathering of single readings into lists, short-lived facts about keys and the role, and
//! counters. The typed calls stand in `ecs`, `kms`, `ram` and `sts`. It does not retry, but
//! for a security token that the cloud calls expired, and does not decide
//! how long a caller waits.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::credentials::{Credentials, Keeper, Source};
use super::emergency::is_urgent;
use super::endpoint::{Endpoints, Network, check_region};
use super::error::{Class, Error, local};
use super::facts::{Disk, Snapshot};
use super::gather::{self, Answer, Batch, Gather, Start};
use super::instance_facts::Instance;
use super::kms::Key;
use super::ledger::{Ledger, Pacer, locked};
use super::memory::Memory;
use super::ram::EcsRole;
use super::request::{Parameters, Request, Service};
use super::sweep::{self, Sweep};
use super::transport::{Clock, Reply, TOTAL_TIMEOUT, Transport, URGENT_TIMEOUT, Wire};

/// Calls by service, action and outcome: `ok`, the name of a [`Class`], or [`REFUSED_HERE`].
pub type Counters = BTreeMap<(&'static str, &'static str, &'static str), u64>;

/// The outcome under which calls are counted that were never sent.
pub const REFUSED_HERE: &str = "refused_here";

/// How to reach the cloud.
#[derive(Clone, Default)]
pub struct Settings {
    /// One address for every product and region, for example `http://127.0.0.1:8080`.
    pub endpoint_override: Option<String>,
    /// Addresses of single products; they win over `endpoint_override`.
    pub service_endpoints: BTreeMap<Service, String>,
    /// Which endpoints to use without an override.
    pub network: Network,
    /// The region whose STS answers; without one, the central STS does, which no VPC can reach without the
    /// internet.
    pub sts_region: Option<String>,
    /// For the lane that revokes keys: what was throttled is tried again at once, changes of keys wait for no turn, and KMS, RAM
    /// and STS have little time to answer. Reads are paced by the lane's own share, because each `Cloud` has a pacer of its own (what a cut
    /// waits for goes [`Cloud::ahead`] of it): the leader and the emergency lanes of two replicas stay within the twenty reads a second
    /// that KMS grants, and the ordinary lane writes nothing to KMS.
    pub urgent: bool,
    /// Time of day and nonces.
    pub clock: Clock,
    /// What carries the requests.
    pub wire: Wire,
    /// Where the instance's metadata service is, if not at the address that it has on ECS.
    pub metadata_endpoint: Option<String>,
}

/// Who signs a call.
pub(crate) enum Signer<'a> {
    /// The account's own credentials, renewed if need be.
    Own,
    /// These.
    Given(&'a Credentials),
    /// Nobody: the call proves itself by a token of the operator's own pod, so it goes to the operator's own endpoint.
    Nobody,
}

/// The cloud of one account. Clones share everything but their place in the queue.
#[derive(Clone)]
pub struct Cloud {
    shared: Arc<Shared>,
    ahead: bool,
}

struct Shared {
    settings: Settings,
    transport: Transport,
    keeper: Keeper,
    endpoints: Endpoints,
    /// The operator's own, whatever the account's object names: where its pod's token may go.
    home: Endpoints,
    sts_region: String,
    urgent: bool,
    ledger: Ledger,
    kms_pace: Pacer,
    disks: Gather<Disk>,
    snapshots: Gather<Snapshot>,
    instances: Gather<Instance>,
    disk_lookups: Sweep<Disk>,
    keys: Memory<(String, String), Option<Key>>,
    role: Memory<(), EcsRole>,
    account: Memory<(), String>,
    counters: Arc<Mutex<Counters>>,
}

impl Cloud {
    /// Opens nothing yet: connections are made by calls.
    ///
    /// Errors: `Local.InvalidEndpoint`, `Local.InvalidRegion`, `Local.Client`.
    pub fn new(settings: Settings, source: Source) -> Result<Cloud, Error> {
        Cloud::counting(settings, source, Arc::default(), None)
    }

    /// Another account behind the same wire: other credentials, and other endpoints for the products that are
    /// named. It shares nothing with this one but the counters. The token of the operator's own pod goes to the operator's
    /// own STS all the same: whoever may name an endpoint would else be handed the operator's identity.
    ///
    /// Errors: as [`Cloud::new`].
    pub fn sibling(&self, source: Source, endpoints: &BTreeMap<Service, String>) -> Result<Cloud, Error> {
        let mut settings = self.shared.settings.clone();
        settings.service_endpoints.extend(endpoints.iter().map(|(service, url)| (*service, url.clone())));
        Cloud::counting(settings, source, self.shared.counters.clone(), Some(self.shared.home.clone()))
    }

    fn counting(
        settings: Settings,
        source: Source,
        counters: Arc<Mutex<Counters>>,
        home: Option<Endpoints>,
    ) -> Result<Cloud, Error> {
        let override_for_all = settings.endpoint_override.as_deref();
        let endpoints = Endpoints::new(override_for_all, &settings.service_endpoints, settings.network)?;
        if let Some(region) = &settings.sts_region {
            check_region(Service::Sts, "Configure", region)?;
        }
        let timeout = if settings.urgent { URGENT_TIMEOUT } else { TOTAL_TIMEOUT };
        let home = home.unwrap_or_else(|| endpoints.clone());
        let loopback = endpoints.all_loopback() && home.all_loopback();
        let transport = Transport::new(settings.wire.clone(), settings.clock.clone(), loopback, timeout)?;
        let shared = Shared {
            transport,
            keeper: Keeper::new(source),
            endpoints,
            home,
            sts_region: settings.sts_region.clone().unwrap_or_default(),
            urgent: settings.urgent,
            kms_pace: Pacer::new(if settings.urgent { Pacer::URGENT } else { Pacer::ORDINARY }),
            settings,
            ledger: Ledger::default(),
            disks: Gather::new(),
            snapshots: Gather::new(),
            instances: Gather::new(),
            disk_lookups: Sweep::new(),
            keys: Memory::new(),
            role: Memory::new(),
            account: Memory::lasting(),
            counters,
        };
        Ok(Cloud { shared: Arc::new(shared), ahead: false })
    }

    /// The same cloud for a call that something urgent waits for: it takes its turn, so that others wait the longer, but does not
    /// wait for it.
    pub fn ahead(&self) -> Cloud {
        Cloud { shared: self.shared.clone(), ahead: true }
    }

    /// Takes credentials as a call would. Until when they last; None: they have no end.
    pub async fn sign_in(&self) -> Result<Option<jiff::Timestamp>, Error> {
        self.shared.keeper.get(self).await?;
        Ok(self.shared.keeper.end())
    }

    /// True for the client of what cuts keys.
    pub(crate) fn is_urgent(&self) -> bool {
        self.shared.urgent
    }

    /// How many calls ended how, since the start of the process.
    pub fn counters(&self) -> Counters {
        locked(&self.shared.counters).clone()
    }

    /// Makes one call: refused here if it is hopeless, else sent once, then counted and logged.
    pub(crate) async fn call(
        &self,
        service: Service,
        region: &str,
        action: &'static str,
        parameters: Parameters,
    ) -> Result<Reply, Error> {
        self.call_as(Signer::Own, service, region, action, parameters).await
    }

    /// The same, signed by somebody else.
    pub(crate) async fn call_as(
        &self,
        signer: Signer<'_>,
        service: Service,
        region: &str,
        action: &'static str,
        mut parameters: Parameters,
    ) -> Result<Reply, Error> {
        if service == Service::Kms && self.shared.endpoints.is_overridden(service) {
            // A regional host says which region is meant; one address for all of them cannot.
            parameters.entry("RegionId".to_owned()).or_insert_with(|| region.to_owned());
        }
        let request = Request { service, region: region.to_owned(), action, parameters };
        let began = Instant::now();
        let result = match self.admit(&request).await {
            Ok(()) => self.send(&request, signer).await,
            Err(error) => Err(error),
        };
        let outcome = match &result {
            Ok(_) => "ok",
            Err(error) if error.http_status.is_none() && error.definite() => REFUSED_HERE,
            Err(error) => error.class.name(),
        };
        *locked(&self.shared.counters).entry((service.name(), action, outcome)).or_default() += 1;
        let (code, request_id) = match &result {
            Ok(reply) => ("ok", reply.request_id.as_deref()),
            Err(error) => (error.code.as_str(), error.request_id.as_deref()),
        };
        let (service, milliseconds) = (service.name(), began.elapsed().as_millis() as u64);
        tracing::debug!(service, action, region, code, request_id, milliseconds, "cloud call");
        result
    }

    /// What time it is.
    pub(crate) fn now(&self) -> jiff::Timestamp {
        self.shared.transport.clock().now()
    }

    /// What carries requests.
    pub(crate) fn transport(&self) -> &Transport {
        &self.shared.transport
    }

    /// Where the metadata service is, if somebody said so.
    pub(crate) fn metadata_endpoint(&self) -> Option<&str> {
        self.shared.settings.metadata_endpoint.as_deref()
    }

    /// The region that STS is asked in; empty for the central one.
    pub(crate) fn sts_region(&self) -> &str {
        &self.shared.sts_region
    }

    /// Facts about keys, by region and the text that names the key.
    pub(crate) fn keys(&self) -> &Memory<(String, String), Option<Key>> {
        &self.shared.keys
    }

    /// Facts about the role through which ECS uses keys.
    pub(crate) fn role(&self) -> &Memory<(), EcsRole> {
        &self.shared.role
    }

    /// Whose credentials these are.
    pub(crate) fn account(&self) -> &Memory<(), String> {
        &self.shared.account
    }

    /// One item by id, read together with what others ask for at the same time.
    pub(crate) async fn gathered<T: Gathered>(&self, region: &str, id: &str) -> Answer<T> {
        let (receiver, start) = T::gather(self).join(region, id);
        // The call runs in a task of its own: no caller that gives up may take the others' answer with it.
        match start {
            Start::Nothing => {}
            Start::Timer => {
                let (cloud, region) = (self.clone(), region.to_owned());
                tokio::spawn(async move {
                    tokio::time::sleep(gather::WINDOW).await;
                    let batch = T::gather(&cloud).take(&region);
                    cloud.serve(&region, batch).await;
                });
            }
            Start::Call(batch) => {
                let (cloud, region) = (self.clone(), region.to_owned());
                tokio::spawn(async move { cloud.serve(&region, batch).await });
            }
        }
        receiver.await.unwrap_or_else(|_| {
            let text = "the shared reading was given up";
            Err(Error::local(Service::Ecs, T::ACTION, local::INTERRUPTED, text))
        })
    }

    /// Looks disks up by tag, together with everybody who asks at the same time.
    pub(crate) async fn swept_disks(
        &self,
        region: &str,
        tags: Vec<(String, String)>,
    ) -> Result<Vec<Disk>, Error> {
        let (receiver, opened) = self.shared.disk_lookups.join(region, &tags);
        if opened {
            let (cloud, region) = (self.clone(), region.to_owned());
            tokio::spawn(async move {
                tokio::time::sleep(gather::WINDOW).await;
                let callers = cloud.shared.disk_lookups.take(&region, &tags);
                let list = |tags: Vec<(String, String)>| {
                    let (cloud, region) = (cloud.clone(), region.clone());
                    async move {
                        let tags: Vec<_> = tags.iter().map(|(key, value)| (&**key, &**value)).collect();
                        cloud.list_disks(&region, &tags).await
                    }
                };
                sweep::serve(callers, |disk: &Disk| &disk.tags, list).await;
            });
        }
        receiver.await.unwrap_or_else(|_| {
            let text = "the shared lookup was given up";
            Err(Error::local(Service::Ecs, "DescribeDisks", local::INTERRUPTED, text))
        })
    }

    async fn serve<T: Gathered>(&self, region: &str, batch: Batch<T>) {
        gather::serve(batch, T::id, |ids| T::read(self.clone(), region.to_owned(), ids)).await;
    }

    /// Waits for its turn, or refuses a call that the cloud would refuse.
    async fn admit(&self, request: &Request) -> Result<(), Error> {
        if self.shared.urgent && is_urgent(request.action) {
            return Ok(());
        }
        self.refuse_if_throttled(request)?;
        if request.service == Service::Kms && self.ahead {
            self.shared.kms_pace.take(Instant::now(), &request.region);
        } else if request.service == Service::Kms {
            match self.shared.kms_pace.reserve(Instant::now(), &request.region) {
                // A sleep of nothing lasts a millisecond: the runtime's timer keeps whole ones.
                Ok(start) if start <= Instant::now() => {}
                Ok(start) => tokio::time::sleep_until(start).await,
                Err(wait) => {
                    return Err(refused_here(request, wait, "too many calls to KMS are waiting already"));
                }
            }
            // Another call may have been throttled while this one waited.
            self.refuse_if_throttled(request)?;
        }
        Ok(())
    }

    fn refuse_if_throttled(&self, request: &Request) -> Result<(), Error> {
        match self.shared.ledger.remaining(request.service, &request.region, request.action) {
            Some(wait) => {
                let text = "the cloud throttled this action a moment ago, so it is not called now";
                Err(refused_here(request, wait, text))
            }
            None => Ok(()),
        }
    }

    async fn send(&self, request: &Request, signer: Signer<'_>) -> Result<Reply, Error> {
        let shared = &self.shared;
        let endpoints = if matches!(signer, Signer::Nobody) { &shared.home } else { &shared.endpoints };
        let endpoint = endpoints.url(request.service, &request.region, request.action)?;
        let mut result = match signer {
            Signer::Own => self.send_own(request, &endpoint).await,
            Signer::Given(credentials) => shared.transport.send(request, &endpoint, Some(credentials)).await,
            Signer::Nobody => shared.transport.send(request, &endpoint, None).await,
        };
        if let Err(error) = &mut result
            && error.class == Class::Throttled
            && !shared.urgent
        {
            let now = shared.transport.clock().now();
            let Request { service, region, action, .. } = request;
            let wait = shared.ledger.note(now, *service, region, action, error.retry_after);
            error.retry_after = Some(wait);
        }
        result
    }
}

impl Cloud {
    /// Sends with the account's credentials. A token that the cloud calls expired is replaced once and the same
    /// request sent once more, which is safe: such a refusal comes before anything else is looked at.
    async fn send_own(&self, request: &Request, endpoint: &reqwest::Url) -> Result<Reply, Error> {
        let shared = &self.shared;
        let credentials = shared.keeper.get(self).await?;
        match shared.transport.send(request, endpoint, Some(&credentials)).await {
            Err(error) if error.is_stale_token() => match shared.keeper.replace(self, &credentials).await? {
                Some(others) => shared.transport.send(request, endpoint, Some(&others)).await,
                None => Err(error),
            },
            other => other,
        }
    }
}

impl fmt::Debug for Cloud {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Cloud").finish_non_exhaustive()
    }
}

fn refused_here(request: &Request, wait: Duration, text: &str) -> Error {
    let error = Error::local(request.service, request.action, local::THROTTLED, text);
    Error { retry_after: Some(wait), ..error }
}

/// What can be read by id, a hundred at a time.
pub(crate) trait Gathered: Clone + Send + Sync + 'static {
    /// The action that reads a list.
    const ACTION: &'static str;
    /// Where its windows are kept.
    fn gather(cloud: &Cloud) -> &Gather<Self>;
    /// The id by which an answer finds its caller.
    fn id(&self) -> &str;
    /// Reads at most [`gather::IDS_MAX`] ids; what does not exist is left out.
    fn read(cloud: Cloud, region: String, ids: Vec<String>) -> BoxFuture<'static, Result<Vec<Self>, Error>>;
}

impl Gathered for Disk {
    const ACTION: &'static str = "DescribeDisks";

    fn gather(cloud: &Cloud) -> &Gather<Self> {
        &cloud.shared.disks
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn read(cloud: Cloud, region: String, ids: Vec<String>) -> BoxFuture<'static, Result<Vec<Self>, Error>> {
        Box::pin(async move { cloud.disks_by_ids(&region, &ids).await })
    }
}

impl Gathered for Snapshot {
    const ACTION: &'static str = "DescribeSnapshots";

    fn gather(cloud: &Cloud) -> &Gather<Self> {
        &cloud.shared.snapshots
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn read(cloud: Cloud, region: String, ids: Vec<String>) -> BoxFuture<'static, Result<Vec<Self>, Error>> {
        Box::pin(async move { cloud.snapshots_by_ids(&region, &ids).await })
    }
}

impl Gathered for Instance {
    const ACTION: &'static str = "DescribeInstances";

    fn gather(cloud: &Cloud) -> &Gather<Self> {
        &cloud.shared.instances
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn read(cloud: Cloud, region: String, ids: Vec<String>) -> BoxFuture<'static, Result<Vec<Self>, Error>> {
        Box::pin(async move { cloud.instances_by_ids(&region, &ids).await })
    }
}
