//! The stage: both servers and the whole operator in one process under paused time, with every mutation numbered.
//!
//! Requests are real HTTP values through the real routers, signing and parsing included; only the sockets are missing, because a
//! paused clock must not meet real ones. Hours pass in milliseconds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use ecskms::alibaba::{self, Cloud, Credentials, Source, Wire};
use ecskms::engine::health::Readiness;
use ecskms::engine::metrics::Metrics;
use ecskms::kind::{Clock, Fresh, Lane, Revocations, Settings, World};
use ecskms::kinds;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

/// The customer key of the starting account.
pub const KEY: &str = "key-hzz65f0a1b2c3d4e5f6a7b8";
/// A plain custom image of 20 GiB in the starting account.
pub const IMAGE: &str = "m-bp1app20g00000000002";

/// What a crash does to the mutation at which it strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The request never leaves.
    Before,
    /// The effect happens; the answer is lost.
    AfterEffect,
    /// The answer arrives; nothing follows.
    AfterAnswer,
}

/// Numbers the operator's mutations and stops the process at one of them.
#[derive(Default)]
pub struct Gate {
    passed: AtomicUsize,
    log: Mutex<Vec<String>>,
    watches: Mutex<Vec<String>>,
    crash: Mutex<Option<(usize, Mode)>>,
    dead: AtomicBool,
    crashed: Notify,
}

impl Gate {
    /// The process ends at mutation `number`, counted from 1.
    pub fn crash_at(&self, number: usize, mode: Mode) {
        *self.crash.lock().expect("nobody panics while holding it") = Some((number, mode));
    }

    /// Waits for the end.
    pub async fn crashed(&self) {
        self.crashed.notified().await;
    }

    /// The mutations so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("nobody panics while holding it").clone()
    }

    /// The watches so far, with their queries.
    pub fn watches(&self) -> Vec<String> {
        self.watches.lock().expect("nobody panics while holding it").clone()
    }

    async fn die(&self) -> ! {
        self.dead.store(true, Ordering::SeqCst);
        self.crashed.notify_one();
        std::future::pending::<()>().await;
        unreachable!("a pending future does not end")
    }

    /// Passes one request through; a reading after the end waits for ever.
    async fn pass<T>(&self, mutation: Option<String>, effect: impl Future<Output = T>) -> T {
        if self.dead.load(Ordering::SeqCst) {
            self.die().await;
        }
        let Some(name) = mutation else { return effect.await };
        let number = self.passed.fetch_add(1, Ordering::SeqCst) + 1;
        self.log.lock().expect("nobody panics while holding it").push(name);
        let strike = (*self.crash.lock().expect("nobody panics while holding it"))
            .filter(|(at, _)| *at == number)
            .map(|(_, mode)| mode);
        match strike {
            None => effect.await,
            Some(Mode::Before) => self.die().await,
            Some(Mode::AfterEffect) => {
                let _ = effect.await;
                self.die().await
            }
            Some(Mode::AfterAnswer) => {
                let answer = effect.await;
                self.dead.store(true, Ordering::SeqCst);
                self.crashed.notify_one();
                answer
            }
        }
    }
}

/// The two servers.
pub struct Stage {
    api: Router,
    cloud: Router,
    /// The test's own client: not numbered.
    pub client: Client,
    /// One clock for all processes, those to come included.
    clock: Clock,
}

/// One operator process.
pub struct Process {
    /// Its mutations.
    pub gate: Arc<Gate>,
    tasks: Vec<JoinSet<()>>,
    stop: watch::Sender<bool>,
}

impl Process {
    /// The end of the process, without any farewell.
    pub async fn kill(mut self) {
        // What runs beside the tasks ends with the process as well: it gets no answer any more.
        self.gate.dead.store(true, Ordering::SeqCst);
        for tasks in &mut self.tasks {
            tasks.abort_all();
            while tasks.join_next().await.is_some() {}
        }
    }

    /// The orderly end.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(Duration::from_secs(30), async {
            for tasks in &mut self.tasks {
                while tasks.join_next().await.is_some() {}
            }
        })
        .await;
    }
}

impl Stage {
    /// Both servers, the starting account and the CRDs.
    pub async fn new() -> Stage {
        let api =
            sim::kube::Server::new(sim::kube::Options { data_dir: None }).expect("an empty store").router();
        // Ten times as fast as the operator looks, so that a copy is seen begun and done and the number of writes is always the same.
        let options = sim::cloud::Options { time_scale: 10.0, start_account: true, seed: 7 };
        let cloud = sim::cloud::Cloud::new(options).router();
        let client = client(api.clone(), Arc::default());
        let clock = Clock::Virtual { origin: jiff::Timestamp::now(), started: tokio::time::Instant::now() };
        let stage = Stage { api, cloud, client, clock };
        let crds: Api<
            k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
        > = Api::all(stage.client.clone());
        for crd in ecskms::manifests::crds() {
            crds.create(&Default::default(), &crd).await.expect("the CRD is accepted");
        }
        stage
    }

    /// Starts an operator process that knows nothing of earlier ones.
    pub async fn start(&self) -> Process {
        self.start_with(|_| {}).await
    }

    /// Starts one with a crash point or other settings of its gate.
    pub async fn start_with(&self, prepare: impl FnOnce(&Gate)) -> Process {
        let gate = Arc::new(Gate::default());
        prepare(&gate);
        let kube = client(self.api.clone(), gate.clone());
        let credentials = (sim::cloud::ACCESS_KEY_ID, sim::cloud::ACCESS_KEY_SECRET);
        self.run(gate, kube, credentials, &[Lane::Ordinary, Lane::Emergency]).await
    }

    /// Starts one that waits for the lease: only its emergency lane runs.
    pub async fn start_standby(&self) -> Process {
        let gate = Arc::new(Gate::default());
        let kube = client(self.api.clone(), gate.clone());
        let credentials = (sim::cloud::ACCESS_KEY_ID, sim::cloud::ACCESS_KEY_SECRET);
        self.run(gate, kube, credentials, &[Lane::Emergency]).await
    }

    /// Starts one with other credentials.
    pub async fn start_as(&self, key_id: &str, secret: &str) -> Process {
        let gate = Arc::new(Gate::default());
        let kube = client(self.api.clone(), gate.clone());
        self.run(gate, kube, (key_id, secret), &[Lane::Ordinary, Lane::Emergency]).await
    }

    async fn run(
        &self,
        gate: Arc<Gate>,
        kube: Client,
        (key_id, secret): (&str, &str),
        lanes: &[Lane],
    ) -> Process {
        let cluster = self.cluster().await;
        let settings = Settings::standard(cluster, "ecskms-system".to_owned(), "test".to_owned());
        let revocations = Arc::<Revocations>::default();
        let (stop, stopped) = watch::channel(false);
        let metrics = Arc::new(Metrics::default());
        let cloud = self.cloud_client(gate.clone(), key_id, secret, false);
        let start = |lane: &Lane| {
            let cloud = match lane {
                Lane::Ordinary => cloud.clone(),
                Lane::Emergency => self.cloud_client(gate.clone(), key_id, secret, true),
            };
            let world = World {
                kube: kube.clone(),
                cloud,
                clock: self.clock,
                account: None,
                accounts: kinds::accounts(),
                claims: Arc::default(),
                revocations: revocations.clone(),
                fresh: Arc::<Fresh>::default(),
                settings: settings.clone(),
            };
            let readiness = Readiness::default();
            kinds::start(*lane, Arc::new(world), metrics.clone(), readiness, None, stopped.clone())
        };
        let tasks = lanes.iter().map(start).collect();
        Process { gate, tasks, stop }
    }

    /// Sets the faults of the Kubernetes API; the test's own client suffers them too.
    pub async fn kube_faults(&self, rules: Value) {
        request(&self.api, "PUT", "/_kube/faults", Some(json!({ "rules": rules }))).await;
    }

    /// The world of an emergency lane that no loop drives.
    pub async fn world(&self) -> World {
        let (gate, cluster) = (Arc::<Gate>::default(), self.cluster().await);
        let credentials = (sim::cloud::ACCESS_KEY_ID, sim::cloud::ACCESS_KEY_SECRET);
        World {
            kube: self.client.clone(),
            cloud: self.cloud_client(gate, credentials.0, credentials.1, true),
            clock: self.clock,
            account: None,
            accounts: kinds::accounts(),
            claims: Arc::default(),
            revocations: Arc::default(),
            fresh: Arc::default(),
            settings: Settings::standard(cluster, "ecskms-system".to_owned(), "test".to_owned()),
        }
    }

    async fn cluster(&self) -> String {
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.client.clone());
        namespaces.get("kube-system").await.expect("it is always there").metadata.uid.expect("it has a uid")
    }

    fn cloud_client(&self, gate: Arc<Gate>, key_id: &str, secret: &str, urgent: bool) -> Cloud {
        let router = self.cloud.clone();
        let wire = Wire::InProcess(Arc::new(move |request: http::Request<String>| {
            let (router, gate) = (router.clone(), gate.clone());
            Box::pin(async move {
                let action = request
                    .headers()
                    .get("x-acs-action")
                    .and_then(|value| value.to_str().ok())
                    .unwrap_or("?")
                    .to_owned();
                let reads = ["Describe", "Get", "List"].iter().any(|prefix| action.starts_with(prefix));
                let effect = async {
                    let response =
                        router.oneshot(request.map(Body::from)).await.expect("a router does not fail");
                    let (head, body) = response.into_parts();
                    let bytes = axum::body::to_bytes(body, usize::MAX).await.expect("a whole body");
                    http::Response::from_parts(head, bytes.to_vec())
                };
                gate.pass((!reads).then_some(action), effect).await
            })
        }));
        let settings = alibaba::Settings {
            endpoint_override: Some("http://127.0.0.1:1".to_owned()),
            wire,
            urgent,
            ..alibaba::Settings::default()
        };
        Cloud::new(settings, Source::Static(Credentials::new(key_id, secret, None))).expect("good settings")
    }

    /// Applies an object of ours.
    pub async fn apply(&self, body: Value) -> DynamicObject {
        self.try_apply(body).await.expect("the object is accepted")
    }

    /// Applies an object of ours, or gets the API server's refusal.
    pub async fn try_apply(&self, body: Value) -> kube::Result<DynamicObject> {
        let name = body["metadata"]["name"].as_str().expect("a name").to_owned();
        let api = self.objects(body["kind"].as_str().expect("a kind"));
        api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(body)).await
    }

    /// Marks an object for deletion.
    pub async fn delete(&self, kind: &str, name: &str) {
        self.objects(kind).delete(name, &DeleteParams::default()).await.expect("it is there");
    }

    /// The objects of a kind: in namespace default, or of the cluster.
    pub fn objects(&self, kind: &str) -> Api<DynamicObject> {
        let plural = format!("{}s", kind.to_lowercase());
        let resource = ApiResource {
            group: "ecskms.dev".into(),
            version: "v1alpha1".into(),
            api_version: "ecskms.dev/v1alpha1".into(),
            kind: kind.into(),
            plural,
        };
        match kind {
            "CloudAccount" | "EncryptionAudit" | "KeyRevocation" => {
                Api::all_with(self.client.clone(), &resource)
            }
            _ => Api::namespaced_with(self.client.clone(), "default", &resource),
        }
    }

    /// The object as it stands, or null.
    pub async fn get(&self, kind: &str, name: &str) -> Value {
        let found = self.objects(kind).get_opt(name).await.expect("the API answers");
        found.map_or(Value::Null, |mut object| {
            // Nothing reads it here, and whoever reads a failure need not either.
            object.metadata.managed_fields = None;
            serde_json::to_value(object).expect("an object is JSON")
        })
    }

    /// Waits, at most `limit` of paused time, until `holds` of the object.
    pub async fn until(
        &self,
        kind: &str,
        name: &str,
        limit: Duration,
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        let begun = tokio::time::Instant::now();
        loop {
            let object = self.get(kind, name).await;
            if holds(&object) {
                return object;
            }
            assert!(
                begun.elapsed() < limit,
                "{kind} {name} did not get there in {limit:?}: {object:#}\n{:#}",
                self.control("log").await
            );
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Waits until Ready is True.
    pub async fn until_ready(&self, kind: &str, name: &str) -> Value {
        self.until(kind, name, Duration::from_secs(3600), |object| condition(object, "Ready").0 == "True")
            .await
    }

    /// Waits until Ready has this reason.
    pub async fn until_reason(&self, kind: &str, name: &str, reason: &str) -> Value {
        self.until(kind, name, Duration::from_secs(3600), |object| condition(object, "Ready").1 == reason)
            .await
    }

    /// Waits until the object is gone.
    pub async fn until_gone(&self, kind: &str, name: &str) {
        self.until(kind, name, Duration::from_secs(7200), Value::is_null).await;
    }

    /// GET of the simulator's control plane.
    pub async fn control(&self, path: &str) -> Value {
        request(&self.cloud, "GET", &format!("/_sim/{path}"), None).await
    }

    /// PUT or POST to it.
    pub async fn order(&self, method: &str, path: &str, body: Value) -> Value {
        request(&self.cloud, method, &format!("/_sim/{path}"), Some(body)).await
    }

    /// GET of the API server's own paths.
    pub async fn api_control(&self, path: &str) -> Value {
        request(&self.api, "GET", path, None).await
    }

    /// PUT to the API server's own paths.
    pub async fn api_order(&self, method: &str, path: &str, body: Value) -> Value {
        request(&self.api, method, path, Some(body)).await
    }

    /// The cloud's resources of a sort (`disks`, `images`) that carry ownership tags: id, uid and the resource.
    pub async fn owned(&self, sort: &str) -> Vec<(String, String, Value)> {
        let state = self.control("state").await;
        let all = state[sort].as_object().cloned().unwrap_or_default();
        let uid = |resource: &Value| resource["tags"]["ecskms:uid"].as_str().map(str::to_owned);
        all.into_iter().filter_map(|(id, resource)| Some((id, uid(&resource)?, resource))).collect()
    }
}

/// Status and reason of a condition; empty words where there is none.
pub fn condition(object: &Value, name: &str) -> (String, String) {
    let list = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = list.into_iter().find(|condition| condition["type"] == name).unwrap_or_default();
    let word = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (word("status"), word("reason"))
}

/// Message of a condition.
pub fn message(object: &Value, name: &str) -> String {
    let list = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = list.into_iter().find(|condition| condition["type"] == name).unwrap_or_default();
    found["message"].as_str().unwrap_or_default().to_owned()
}

/// A blank disk under the customer key that goes with its object.
pub fn disk(name: &str) -> Value {
    json!({
        "apiVersion": "ecskms.dev/v1alpha1", "kind": "EncryptedDisk", "metadata": {"name": name},
        "spec": {"region": "cn-hangzhou", "zoneId": "cn-hangzhou-i", "key": {"id": KEY}, "sizeGiB": 40, "deletionPolicy": "Delete"},
    })
}

/// An encrypted copy of the small image that goes with its object, snapshots included.
pub fn image(name: &str) -> Value {
    json!({
        "apiVersion": "ecskms.dev/v1alpha1", "kind": "EncryptedImage", "metadata": {"name": name},
        "spec": {"region": "cn-hangzhou", "source": {"imageId": IMAGE}, "key": {"id": KEY}, "deletionPolicy": "Delete", "snapshotPolicy": "Delete"},
    })
}

/// A machine with two data disks, one of them under a second key, that goes with its object.
pub fn instance(name: &str) -> Value {
    json!({
        "apiVersion": "ecskms.dev/v1alpha1", "kind": "EncryptedInstance", "metadata": {"name": name},
        "spec": {
            "region": "cn-hangzhou", "zoneId": "cn-hangzhou-i", "instanceType": "ecs.g7.large", "key": {"id": KEY},
            "image": {"imageId": IMAGE}, "systemDisk": {"sizeGiB": 40},
            "dataDisks": [
                {"name": "data", "sizeGiB": 40, "deleteWithInstance": true},
                {"name": "logs", "sizeGiB": 20, "key": {"alias": "alias/ecskms-second"}, "deleteWithInstance": true},
            ],
            "network": {"vSwitchId": "vsw-bp1demo0000000000001", "securityGroupIds": ["sg-bp1demo00000000000001"]},
            "deletionProtection": false, "deletionPolicy": "Delete",
        },
    })
}

fn client(router: Router, gate: Arc<Gate>) -> Client {
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let (router, gate) = (router.clone(), gate.clone());
        async move {
            let reads = request.method() == http::Method::GET;
            if request.uri().query().is_some_and(|query| query.contains("watch=")) {
                gate.watches.lock().expect("nobody panics while holding it").push(request.uri().to_string());
            }
            let name = (!reads).then(|| format!("{} {}", request.method(), request.uri().path()));
            let effect =
                async { router.oneshot(request.map(Body::new)).await.expect("a router does not fail") };
            Ok::<_, std::convert::Infallible>(gate.pass(name, effect).await)
        }
    });
    Client::new(service, "default")
}

async fn request(router: &Router, method: &str, path: &str, body: Option<Value>) -> Value {
    let body = body.map_or(Body::empty(), |body| Body::from(body.to_string()));
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(body);
    let response = router.clone().oneshot(request.expect("a request")).await.expect("a router does not fail");
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a whole body");
    assert!(status.is_success(), "{method} {path}: {status} {}", String::from_utf8_lossy(&bytes));
    serde_json::from_slice(&bytes).unwrap_or(Value::Null)
}

/// How often each of the operator's ids stands in a list.
pub fn count_by<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    items.into_iter().fold(BTreeMap::new(), |mut counts, item| {
        *counts.entry(item).or_default() += 1;
        counts
    })
}
