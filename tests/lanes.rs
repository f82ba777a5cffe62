//! The emergency lane of real processes: it needs neither the lease nor a turn of the other lane.
//!
//! Time and sockets are real here. How fast a cut is, `latency_revocation.rs` measures.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::serve::ListenerExt;
use futures::StreamExt;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower::ServiceExt;

/// The customer key of the starting account.
const KEY: &str = "key-hzz65f0a1b2c3d4e5f6a7b8";
/// What is waited for comes in a second or so; a machine on which others work as well may take longer.
const LIMIT: Duration = Duration::from_secs(30);

/// Ends with its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Both servers on sockets.
struct Servers {
    kube: Client,
    kubeconfig: PathBuf,
    cloud: String,
    /// The cloud's control plane, without a connection.
    control: Router,
    /// Connections that the cloud has accepted.
    connections: Arc<AtomicUsize>,
    /// How many those were when the first DisableKey arrived.
    cut: watch::Receiver<Option<usize>>,
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.kubeconfig);
    }
}

impl Servers {
    async fn start(name: &str) -> Servers {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let api = format!("http://{}", listener.local_addr().expect("an address"));
        let server = sim::kube::Server::new(sim::kube::Options { data_dir: None }).expect("an empty store");
        tokio::spawn(server.serve(listener, std::future::pending()));
        let kube = Client::try_from(kube::Config::new(api.parse().expect("a URL"))).expect("a client");
        for crd in ecskms::manifests::crds() {
            Api::all(kube.clone()).create(&PostParams::default(), &crd).await.expect("the CRD is accepted");
        }
        let kubeconfig = std::env::temp_dir().join(format!("ecskms-lanes-{name}-{}", std::process::id()));
        let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": api}}], "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
        std::fs::write(&kubeconfig, text.to_string()).expect("a file");

        let options = sim::cloud::Options { time_scale: 1.0, start_account: true, seed: 7 };
        let control = sim::cloud::Cloud::new(options).router();
        let connections = Arc::<AtomicUsize>::default();
        let (told, cut) = watch::channel(None);
        let (told, counted) = (Arc::new(told), connections.clone());
        let notice = from_fn(move |request: Request, next: Next| {
            let (told, counted) = (told.clone(), counted.clone());
            async move {
                if request.headers().get("x-acs-action").is_some_and(|action| action == "DisableKey") {
                    told.send_if_modified(|cut| {
                        let first = cut.is_none();
                        cut.get_or_insert(counted.load(Ordering::SeqCst));
                        first
                    });
                }
                next.run(request).await
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let cloud = format!("http://{}", listener.local_addr().expect("an address"));
        let counted = connections.clone();
        let listener = listener.tap_io(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let router = control.clone().layer(notice);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Servers { kube, kubeconfig, cloud, control, connections, cut }
    }

    fn operator(&self, arguments: &[&str]) -> Process {
        let process = Command::new(env!("CARGO_BIN_EXE_ecskms"))
            .args(["run", "--region", "cn-hangzhou", "--cloud-endpoint", &self.cloud])
            .args(["--metrics-addr", "127.0.0.1:0", "--health-addr", "127.0.0.1:0"])
            .args(["--lease-namespace", "default"])
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("ALIBABA_CLOUD_ACCESS_KEY_ID", sim::cloud::ACCESS_KEY_ID)
            .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", sim::cloud::ACCESS_KEY_SECRET)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Process(process.expect("the program starts"))
    }

    async fn control(&self, method: &str, path: &str) -> Value {
        let request =
            http::Request::builder().method(method).uri(format!("/_sim/{path}")).body(Body::empty());
        let response = self.control.clone().oneshot(request.expect("a request")).await.expect("an answer");
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a whole body");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    /// How often an action of KMS was answered, and how often with this code.
    async fn answers(&self, action: &str, code: &str) -> (u64, u64) {
        let codes = self.control("GET", "counters").await[format!("kms:{action}")].clone();
        let all = codes.as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
        (all, codes[code].as_u64().unwrap_or_default())
    }

    async fn answered(&self, action: &str, count: u64) {
        let begun = Instant::now();
        while self.answers(action, "").await.0 < count {
            assert!(begun.elapsed() < LIMIT, "{action} was not called {count} times");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn create(&self, body: Value) {
        let kind = body["kind"].as_str().expect("a kind");
        let resource = ApiResource {
            group: "ecskms.dev".into(),
            version: "v1alpha1".into(),
            api_version: "ecskms.dev/v1alpha1".into(),
            kind: kind.into(),
            plural: format!("{}s", kind.to_lowercase()),
        };
        let api: Api<DynamicObject> = match kind {
            "KeyRevocation" => Api::all_with(self.kube.clone(), &resource),
            _ => Api::namespaced_with(self.kube.clone(), "default", &resource),
        };
        let object = serde_json::from_value(body).expect("an object");
        api.create(&PostParams::default(), &object).await.expect("the object is accepted");
    }

    /// Orders a cut, and says how long it took to arrive and how many connections there were then.
    async fn cut(&self, restore_to: &str) -> (Duration, usize) {
        let begun = Instant::now();
        let body = json!({"apiVersion": "ecskms.dev/v1alpha1", "kind": "KeyRevocation", "metadata": {"name": "one"},
            "spec": {"region": "cn-hangzhou", "keyId": KEY, "desiredState": "Revoked", "restoreTo": restore_to,
                "reason": "a leaked credential", "requestedBy": "alice"}});
        self.create(body).await;
        let mut cut = self.cut.clone();
        let arrived =
            tokio::time::timeout(LIMIT, cut.wait_for(Option::is_some)).await.expect("the key is still on");
        let connections = arrived.expect("the cloud is there").expect("it was waited for");
        (begun.elapsed(), connections)
    }
}

#[tokio::test]
async fn a_process_without_the_lease_keeps_a_connection_to_kms_and_cuts_through_it() {
    let servers = Servers::start("standby").await;
    let lease = json!({"metadata": {"name": "ecskms-leader"}, "spec": {"holderIdentity": "another",
        "leaseDurationSeconds": 3600, "renewTime": "2026-01-01T00:00:00.000000Z", "leaseTransitions": 1}});
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> =
        Api::namespaced(servers.kube.clone(), "default");
    let lease = serde_json::from_value(lease).expect("a Lease");
    leases.create(&PostParams::default(), &lease).await.expect("it is accepted");
    let _standby = servers.operator(&["--leader-elect"]);
    servers.answered("DescribeRegions", 2).await;
    let open = servers.connections.load(Ordering::SeqCst);
    let (_, connections) = servers.cut("Enabled").await;
    assert_eq!(connections, open, "the cut had to open a connection");
    let lease = leases.get("ecskms-leader").await.expect("it is there").spec.expect("a spec");
    assert_eq!(lease.holder_identity.as_deref(), Some("another"));
}

#[tokio::test]
async fn a_cut_waits_for_none_of_the_calls_that_the_other_lane_has_queued() {
    // So many calls that the other lane is busy for half a minute.
    const OTHERS: u64 = 300;
    let servers = Servers::start("busy").await;
    let _process = servers.operator(&[]);
    // A key for each, because facts about a key are shared; that it does not exist is as good.
    let disk = |number: u64| {
        json!({"apiVersion": "ecskms.dev/v1alpha1", "kind": "EncryptedDisk",
        "metadata": {"name": format!("other-{number}")}, "spec": {"region": "cn-hangzhou", "zoneId": "cn-hangzhou-i",
            "key": {"id": format!("key-hzz0000000000000{number:04}")}, "sizeGiB": 40}})
    };
    let create = |number| servers.create(disk(number));
    futures::stream::iter(0..OTHERS).for_each_concurrent(8, create).await;
    // The first ten come at once; then it waits for its turns.
    servers.answered("DescribeKey", 25).await;
    servers.control("DELETE", "log").await;
    let begun = Instant::now();
    let (took, _) = servers.cut("Recorded").await;
    // In the queue of the other lane it would stand for twelve seconds.
    assert!(took < Duration::from_secs(6), "{took:?}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (reads, throttled) = servers.answers("DescribeKey", "Rejected.Throttling").await;
    // KMS grants twenty reads a second, and the other lane leaves half of them alone.
    let most = 10 * (begun.elapsed().as_secs() + 1) + 8;
    assert!((10..=most).contains(&reads), "{reads} reads in {:?}", begun.elapsed());
    assert_eq!(throttled, 0);
}
