//! `ecskms status` and `ecskms why` as processes, over real sockets, against the embedded Kubernetes API.
//!
//! Most objects here are written with the status that they should be told by; the last test has the operator write it.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use ecskms::kind::Kind;
use ecskms::kinds::{
    CloudAccount, EncryptedDisk, EncryptedImage, EncryptedInstance, EncryptionAudit, KeyRevocation,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tower::ServiceExt;

/// What the API answers to the program: its own answer, or what a test wants.
#[derive(Default)]
struct Door {
    /// Parts of paths, and the status code that they are refused with.
    refused: Vec<(&'static str, u16)>,
    /// How many continuations of lists have expired, still.
    expired: u32,
    /// What the program asked for.
    asked: Vec<String>,
}

/// An embedded Kubernetes API on a port of its own. The test's own client goes past the door.
struct Cluster {
    client: Client,
    door: Arc<Mutex<Door>>,
    kubeconfig: PathBuf,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.kubeconfig);
    }
}

impl Cluster {
    async fn start() -> Cluster {
        Cluster::start_without(&[]).await
    }

    /// Without these kinds, by their plural names.
    async fn start_without(missing: &[&str]) -> Cluster {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = sim::kube::Server::new(sim::kube::Options { data_dir: None }).expect("an empty store");
        let router = server.router();
        let inner = router.clone();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            inner.clone().oneshot(request.map(Body::new))
        });
        let client = Client::new(service, "default");
        let door = Arc::<Mutex<Door>>::default();
        let guarded = router.layer(middleware::from_fn_with_state(door.clone(), pass));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, guarded).await });
        let crds = Api::all(client.clone());
        for crd in ecskms::manifests::crds() {
            if !missing.contains(&crd.spec.names.plural.as_str()) {
                crds.create(&PostParams::default(), &crd).await.expect("the CRD is accepted");
            }
        }
        let kubeconfig =
            std::env::temp_dir().join(format!("ecskms-status-{}-{}", std::process::id(), address.port()));
        std::fs::write(&kubeconfig, sim::kube::kubeconfig(address)).expect("written");
        Cluster { client, door, kubeconfig }
    }

    fn door(&self) -> std::sync::MutexGuard<'_, Door> {
        self.door.lock().expect("nobody panics while holding it")
    }

    async fn namespace(&self, name: &str) {
        let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        let api: Api<Namespace> = Api::all(self.client.clone());
        api.create(&PostParams::default(), &serde_json::from_value(body).expect("a namespace"))
            .await
            .expect("it is new");
    }

    /// Creates an object, and writes the status if there is one.
    async fn put<K: Kind>(
        &self,
        namespace: Option<&str>,
        name: &str,
        spec: Value,
        status: Option<Value>,
    ) -> K {
        let body = json!({ "apiVersion": K::api_version(&()), "kind": K::kind(&()),
            "metadata": { "name": name, "namespace": namespace }, "spec": spec });
        let api = K::api(self.client.clone(), namespace);
        let object: K = serde_json::from_value(body).expect("it fits its type");
        let made = api.create(&PostParams::default(), &object).await.expect("the object is accepted");
        let Some(status) = status else { return made };
        let patch = Patch::Merge(json!({ "status": status }));
        api.patch_status(name, &PatchParams::default(), &patch).await.expect("the status is accepted")
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ecskms"));
        command.env_clear().env("KUBECONFIG", &self.kubeconfig).args(arguments);
        tokio::task::spawn_blocking(move || command.output().expect("the program starts"))
            .await
            .expect("it ends")
    }

    /// What it printed, if it ended with that code.
    async fn text(&self, arguments: &[&str], code: i32) -> String {
        let (out, err) = ended(&self.run(arguments).await, code);
        assert!(err.is_empty(), "{err}");
        out
    }

    async fn json(&self, arguments: &[&str], code: i32) -> Value {
        let out = self.text(&[arguments, &["-o", "json"]].concat(), code).await;
        let value: Value = serde_json::from_str(&out).expect("one JSON object");
        assert_eq!(value["exitCode"], code);
        value
    }
}

async fn pass(
    axum::extract::State(door): axum::extract::State<Arc<Mutex<Door>>>,
    request: Request,
    next: Next,
) -> Response {
    let asked = format!("{} {}", request.method(), request.uri());
    let refusal = {
        let mut door = door.lock().expect("nobody panics while holding it");
        door.asked.push(asked.clone());
        let refused = door.refused.iter().find(|(part, _)| asked.contains(part)).map(|(_, code)| *code);
        let expires = asked.contains("continue=") && door.expired > 0;
        door.expired -= u32::from(expires);
        if expires { Some(410) } else { refused }
    };
    let Some(code) = refusal else { return next.run(request).await };
    let body = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": if code == 403 { "Forbidden" } else { "Expired" }, "message": format!("refused\u{1b}[31m with {code}") });
    (StatusCode::from_u16(code).expect("a code"), axum::Json(body)).into_response()
}

#[track_caller]
fn ended(output: &Output, code: i32) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
    assert!(!out.contains('\u{1b}') && !err.contains('\u{1b}'), "no colours and no tricks in a pipe");
    (out, err)
}

#[track_caller]
fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in:\n{text}");
    }
}

fn disk(account: Option<&str>, key: &str) -> Value {
    let mut spec =
        json!({ "region": "cn-hangzhou", "zoneId": "cn-hangzhou-i", "sizeGiB": 20, "key": { "id": key } });
    if let Some(account) = account {
        spec["accountRef"] = json!({ "name": account });
    }
    spec
}

/// The status of an object of generation 1 that was looked at.
fn status(ready: &str, reason: &str, message: &str) -> Value {
    let condition = |kind: &str, truth: &str| {
        json!({ "type": kind, "status": truth, "reason": reason, "message": message,
            "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z" })
    };
    let mut conditions = vec![condition("Ready", ready)];
    match ready {
        "False" => conditions.push(condition("Stalled", "True")),
        "Unknown" => conditions.push(condition("Reconciling", "True")),
        _ => {}
    }
    json!({ "observedGeneration": 1, "conditions": conditions })
}

fn available() -> Value {
    status("True", "Available", "Disk d-1 exists, encrypted under key-a.")
}

/// A revocation that holds key-a, and is well.
async fn incident(cluster: &Cluster) {
    let spec = json!({ "region": "cn-hangzhou", "keyId": "key-a", "desiredState": "Revoked",
        "reason": "the key was found in public", "requestedBy": "ann", "incidentRef": "INC-7" });
    let mut status = status("True", "Revoked", "Key key-a is taken from ECS; 3 instances still read.");
    status["phase"] = json!("Revoked");
    status["priorState"] = json!({ "keyState": "Enabled", "capturedAt": "2026-01-01T00:00:00.000000Z" });
    status["timings"] = json!({});
    status["stillReadable"] = json!({ "count": 3, "instances": [{ "id": "i-bp1a", "status": "Running" }, { "id": "i-bp1b", "status": "Running" }] });
    status["blastRadius"] = json!({ "digest": "abc", "complete": false, "instancesAffected": 4, "instancesRunning": 3,
        "instancesStopped": 1, "disks": 9, "images": 0, "snapshots": 0, "persistentVolumes": 0,
        "namespaces": ["shop"], "selfLockout": false, "truncated": false });
    let verified = json!({ "type": "Verified", "status": "Unknown", "reason": "NotVerified", "message": "No probe.",
        "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z" });
    status["conditions"].as_array_mut().expect("conditions").push(verified);
    cluster.put::<KeyRevocation>(None, "inc-7", spec, Some(status)).await;
}

/// An account without credentials and what it holds up, a live revocation and what it holds, and some that are well.
async fn troubled() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.namespace("shop").await;
    let broken = status("False", "CredentialsInvalid", "Secret ecskms-system/prod is missing. Create it.");
    let spec = json!({ "credentials": { "secretRef": { "name": "prod" } } });
    cluster.put::<CloudAccount>(None, "prod", spec, Some(broken)).await;
    let words = "CloudAccount prod is not Ready: Secret ecskms-system/prod is missing. Create it.";
    for number in 0..12 {
        let held_up = Some(status("False", "CredentialsInvalid", words));
        let name = format!("p-{number:02}");
        cluster.put::<EncryptedDisk>(Some("shop"), &name, disk(Some("prod"), "key-b"), held_up).await;
    }
    incident(&cluster).await;
    for name in ["r-1", "r-2", "r-3"] {
        let words = "Key key-a is held by a KeyRevocation.";
        let held = Some(status("False", "KeyRevoked", words));
        cluster.put::<EncryptedDisk>(Some("shop"), name, disk(None, "key-a"), held).await;
    }
    let put = |name: &'static str, status| {
        let cluster = &cluster;
        async move { cluster.put::<EncryptedDisk>(Some("shop"), name, disk(None, "key-b"), status).await }
    };
    put("well", Some(available())).await;
    put("new", None).await;
    put("making", Some(status("Unknown", "Creating", "The disk is being created."))).await;
    put("resting", Some(resting())).await;
    cluster
}

/// Not Stalled: somebody asked for it.
fn resting() -> Value {
    let mut status = status("False", "Suspended", "Suspended by spec.suspend; set it to false to go on.");
    status["conditions"].as_array_mut().expect("conditions").truncate(1);
    status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_with_one_cause_are_one_group_and_what_lives_is_told() {
    let cluster = troubled().await;
    let out = cluster.text(&["status", "-n", "shop"], 3).await;
    has(
        &out,
        &[
            "20 of 21 objects are not as promised; 3 causes need somebody",
            "2. CloudAccount/prod: CredentialsInvalid, for ",
            "   Secret ecskms-system/prod is missing. Create it.",
            "   Who must move: you, outside of the object",
            "12 objects: EncryptedDisk in shop: p-00, p-01,",
            "; and 2 more (--all)",
            "Look closer: ecskms why CloudAccount/prod",
            "1. KeyRevocation/inc-7: Revoked, for ",
            "   Verified is Unknown: NotVerified: No probe.",
            "3. No operator looks at it",
            "3 objects: EncryptedDisk in shop: r-1, r-2, r-3",
            "LIVE REVOCATIONS",
            "4 instances, 9 disks, namespaces shop, and what could not be listed",
            "not known: NotVerified",
            "inc-7: still readable on i-bp1a i-bp1b",
            "1 object: EncryptedDisk in shop: new",
            "There is no Lease ecskms-leader",
            "1. Creating",
            "1. Suspended",
        ],
    );
    let row = out.lines().find(|line| line.trim_start().starts_with("inc-7 ")).expect("the revocation");
    let words: Vec<&str> = row.split_whitespace().take(5).collect();
    assert_eq!(words, ["inc-7", "Revoked", "key-a", "cn-hangzhou", "3"], "{row}");
    let row = out.lines().find(|line| line.trim_start().starts_with("EncryptedDisk ")).expect("the counts");
    assert_eq!(row.split_whitespace().skip(1).collect::<Vec<_>>(), ["19", "1", "1", "15", "1", "1"], "{row}");
    assert!(!out.contains("p-11"), "bounded");
    has(&cluster.text(&["status", "-n", "shop", "--all"], 3).await, &["p-10, p-11"]);

    let value = cluster.json(&["status", "-A"], 3).await;
    assert_eq!(value["causes"][0]["concerns"], json!(["Verified is Unknown: NotVerified: No probe."]));
    let first = &value["causes"][1];
    assert_eq!(
        first["cause"],
        json!({ "sort": "Object", "kind": "CloudAccount", "namespace": null, "name": "prod" })
    );
    assert_eq!((&first["mover"], &first["urgency"]), (&json!("Outside"), &json!("NeedsSomebody")));
    assert_eq!(first["objects"].as_array().map(Vec::len), Some(13), "the account and what it holds up");
    assert_eq!(
        (&value["revocations"][0]["stillReadable"], &value["revocations"][0]["holdsKey"]),
        (&json!(3), &json!(true))
    );
    assert_eq!((&value["notRead"], &value["namespace"]), (&json!([]), &Value::Null));
    assert!(cluster.door().asked.iter().all(|asked| asked.starts_with("GET ")), "nothing was changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_is_told_in_full_with_the_deepest_cause_first() {
    let cluster = troubled().await;
    let image = json!({ "region": "cn-hangzhou", "source": { "imageId": "m-bp1web40g00000000001" },
        "key": { "id": "key-b" }, "accountRef": { "name": "prod" } });
    let words = status("False", "CredentialsInvalid", "CloudAccount prod is not Ready.");
    cluster.put::<EncryptedImage>(Some("shop"), "web", image, Some(words)).await;
    let instance = json!({ "region": "cn-hangzhou", "zoneId": "cn-hangzhou-i", "instanceType": "ecs.g7.large",
        "image": { "imageRef": { "name": "web" } }, "systemDisk": { "sizeGiB": 40 }, "key": { "id": "key-b" },
        "network": { "vSwitchId": "vsw-1a", "securityGroupIds": ["sg-1a"] } });
    let mut waiting = status("Unknown", "DependencyNotReady", "EncryptedImage web is not Ready yet.");
    waiting["lastError"] = json!({ "code": "Forbidden.RAM", "requestId": "REQ-1", "class": "Denied",
        "reason": "AccessDenied", "generation": 1 });
    waiting["instanceStatus"] = json!("Pending\u{1b}[2J\u{202e}");
    let made = cluster.put::<EncryptedInstance>(Some("shop"), "web", instance, Some(waiting)).await;
    let event = json!({ "apiVersion": "v1", "kind": "Event", "metadata": { "name": "web.1", "namespace": "shop" },
        "type": "Warning", "reason": "AccessDenied", "message": "ecs:RunInstances\u{9b}31m is denied.",
        "lastTimestamp": "2026-01-01T00:00:00Z", "involvedObject": { "kind": "EncryptedInstance", "name": "web",
        "namespace": "shop", "uid": made.metadata.uid, "apiVersion": "ecskms.dev/v1alpha1" } });
    let events: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(cluster.client.clone(), "shop");
    events
        .create(&PostParams::default(), &serde_json::from_value(event).expect("an event"))
        .await
        .expect("taken");

    let out = cluster.text(&["why", "einst/web", "-n", "shop"], 3).await;
    has(
        &out,
        &[
            "EncryptedInstance/web in shop is on its way: DependencyNotReady, for ",
            "Who must move: you, outside of the object",
            "1. CloudAccount/prod: CredentialsInvalid: Secret ecskms-system/prod is missing. Create it.",
            "2. EncryptedImage/web in shop: CredentialsInvalid: CloudAccount prod is not Ready.",
            "3. EncryptedInstance/web in shop (this object)",
            "Denied: Forbidden.RAM, request REQ-1",
            "instanceStatus: Pending [2J",
            "Warning  AccessDenied  ecs:RunInstances 31m is denied.",
            "ecskms why CloudAccount/prod",
            "kubectl annotate encryptedinstances web -n shop --overwrite ecskms.dev/reconcile-requested-at=\"$(date +%s)\"",
        ],
    );
    assert!(!out.contains(['\u{202e}', '\u{9b}']), "{out}");
    let value = cluster.json(&["why", "EncryptedInstances.ecskms.dev", "web", "-n", "shop"], 3).await;
    let names: Vec<_> =
        value["causes"].as_array().expect("a list").iter().map(|one| one["kind"].clone()).collect();
    assert_eq!(names, ["CloudAccount", "EncryptedImage", "EncryptedInstance"]);
    assert_eq!(value["events"][0]["reason"], "AccessDenied");

    has(
        &cluster.text(&["why", "edisk", "r-1", "-n", "shop"], 3).await,
        &[
            "1. KeyRevocation/inc-7: Revoked: Key key-a is taken",
            "2. EncryptedDisk/r-1 in shop (this object)",
            "OTHER OBJECTS WITH THE SAME CAUSE",
            "EncryptedDisk in shop: r-2, r-3",
        ],
    );
    // What holds others up may be Ready itself; what ends it is told.
    let out = cluster.text(&["why", "krev/inc-7"], 3).await;
    has(
        &out,
        &[
            "KeyRevocation/inc-7 is Ready, but: Revoked",
            "docs/runbook-revocation.md",
            "kubectl patch keyrevocations inc-7 --type=merge -p '{\"spec\":{\"desiredState\":\"Restored\"}}'",
            "OBJECTS THAT IT HOLDS UP",
            "still readable on i-bp1a i-bp1b",
            "ecskms status -A",
            "r-1, r-2, r-3",
            "Verified is Unknown",
        ],
    );
    has(
        &cluster.text(&["why", "edisk/well", "-n", "shop"], 0).await,
        &["is Ready", "Who must move: nobody\n"],
    );
    has(
        &cluster.text(&["why", "edisk/new", "-n", "shop"], 3).await,
        &["not looked at yet", "There is no Lease", "Who must move: you, outside of the object"],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_told_with_what_comes_near() {
    let cluster = troubled().await;
    let refused = |arguments: &'static [&'static str], code| {
        let cluster = &cluster;
        async move {
            let (out, err) = ended(&cluster.run(arguments).await, code);
            assert!(out.is_empty(), "{out}");
            err
        }
    };
    has(
        &refused(&["why", "edisk/wel", "-n", "shop"], 1).await,
        &["there is none in namespace shop", "Near it: well."],
    );
    has(
        &refused(&["why", "edisk/well"], 1).await,
        &["there is none in namespace default", "It is in: shop; give -n."],
    );
    has(&refused(&["why", "krev/inc"], 1).await, &["KeyRevocation inc: there is none. Near it: inc-7."]);
    let known = ["pods is no kind of ecskms.dev", "EncryptedDisk (encrypteddisk, encrypteddisks, edisk)"];
    has(&refused(&["why", "pods/a"], 2).await, &known);
    has(&refused(&["why", "edisk"], 2).await, &["the name is missing: ecskms why edisk/NAME"]);
    has(&refused(&["why", "edisk/a/b"], 2).await, &["KIND/NAME"]);
    has(&refused(&["why"], 2).await, &["KIND/NAME"]);
    has(&refused(&["why", "a", "b", "c"], 2).await, &["unexpected"]);
    has(&refused(&["why", "edisk/\u{1b}[31m"], 1).await, &["there is none"]);
    has(&refused(&["status", "-n", "shpo"], 1).await, &["namespace shpo: it does not exist"]);
    has(&refused(&["status", "-n", "a/../b"], 2).await, &["\"a/../b\" is not the name of a namespace"]);
    let wrong = ["\"a/../b\" is not the name of a namespace. Check --lease-namespace."];
    has(&refused(&["status", "--lease-namespace", "a/../b"], 2).await, &wrong);
    has(&refused(&["status", "-o", "html"], 2).await, &["html"]);
    has(&refused(&["status", "--context", "other"], 1).await, &["no cluster", "kubectl config get-contexts"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_never_nothing() {
    let cluster = Cluster::start_without(&["encryptionaudits"]).await;
    cluster.put::<EncryptedDisk>(Some("default"), "well", disk(None, "key-b"), Some(available())).await;
    cluster.door().refused.push(("/keyrevocations", 403));
    let out = cluster.text(&["status"], 1).await;
    has(
        &out,
        &[
            "The one object is as promised (in namespace default and the cluster; -A looks everywhere). Not everything could be read.",
            "not read  KeyRevocation  it is forbidden: refused [31m with 403. ",
            "ClusterRole ecskms-revocation-auditor",
            "not read  EncryptionAudit  the cluster does not know it: CRD encryptionaudits.ecskms.dev is not installed.",
            "ecskms crds | kubectl apply --server-side -f -",
        ],
    );
    let row = out.lines().find(|line| line.trim_start().starts_with("KeyRevocation ")).expect("a row");
    assert!(row.contains('?') && !row.contains('0'), "{row}");
    let value = cluster.json(&["status"], 1).await;
    assert_eq!(value["notRead"].as_array().map(Vec::len), Some(2));
    assert!(value["counts"].as_array().expect("a list").iter().all(|one| one["kind"] != "KeyRevocation"));
    // What needs somebody needs somebody, whatever else there may be.
    let held = Some(status("False", "KeyRevoked", "Key key-a is held by a KeyRevocation."));
    cluster.put::<EncryptedDisk>(Some("default"), "held", disk(None, "key-a"), held).await;
    has(&cluster.text(&["status"], 3).await, &["1. key key-a, region cn-hangzhou: KeyRevoked"]);
    has(
        &cluster.text(&["why", "edisk/held"], 3).await,
        &["not read  KeyRevocation", "Causes there are not seen."],
    );
    let (_, err) = ended(&cluster.run(&["why", "krev/inc"]).await, 1);
    has(&err, &["KeyRevocation inc: it is forbidden"]);
    // Whoever waits for what could not be read is not told to be on its way.
    let mut waiting = disk(None, "key-b");
    waiting["attachment"] = json!({ "instanceRef": { "name": "web" } });
    let words = Some(status("Unknown", "DependencyNotReady", "EncryptedInstance web is not Ready yet."));
    cluster.put::<EncryptedDisk>(Some("default"), "waiting", waiting, words).await;
    cluster.door().refused.push(("/encryptedinstances", 403));
    let out = cluster.text(&["why", "edisk/waiting"], 1).await;
    has(&out, &["EncryptedInstance/web in default, which could not be read", "Who must move: not known"]);
    assert!(!out.contains("goes on by itself"), "{out}");
    // Every kind, each for itself.
    cluster.door().refused.insert(0, ("/apis/ecskms.dev", 403));
    has(&cluster.text(&["status"], 1).await, &["Nothing could be read (in namespace default"]);
    cluster.door().refused.remove(0);
    // Nothing at all.
    cluster.door().refused.push(("/apis/ecskms.dev", 401));
    cluster.door().refused.retain(|(_, code)| *code == 401);
    let (out, err) = ended(&cluster.run(&["status"]).await, 1);
    assert!(out.is_empty() && err.contains("Sign in again"), "{err}");
    std::fs::write(&cluster.kubeconfig, sim::kube::kubeconfig("127.0.0.1:1".parse().expect("an address")))
        .expect("written");
    let (out, err) = ended(&cluster.run(&["status"]).await, 1);
    assert!(out.is_empty() && err.contains("the cluster cannot be read") && err.contains("refused"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_objects_come_in_pages_and_a_list_that_expires_begins_anew() {
    const MANY: usize = 1_020;
    let cluster = Cluster::start().await;
    let made = (0..MANY).map(|number| {
        let cluster = &cluster;
        async move {
            let words = "Key key-a is disabled. Enable it in KMS, or choose another key in a new object.";
            let name = format!("d-{number:04}");
            let status = Some(status("False", "KeyDisabled", words));
            cluster.put::<EncryptedDisk>(Some("default"), &name, disk(None, "key-a"), status).await;
        }
    });
    futures::future::join_all(made).await;
    cluster.door().expired = 2;
    let value = cluster.json(&["status"], 3).await;
    let disks = value["counts"].as_array().expect("a list").iter().find(|one| one["kind"] == "EncryptedDisk");
    assert_eq!(disks.expect("disks")["needsSomebody"], MANY);
    assert_eq!(value["causes"].as_array().map(Vec::len), Some(1));
    assert_eq!(value["causes"][0]["objects"].as_array().map(Vec::len), Some(MANY));
    assert_eq!(value["causes"][0]["cause"]["keyId"], "key-a");
    let asked = cluster.door().asked.clone();
    let lists = asked.iter().filter(|asked| asked.contains("/encrypteddisks?"));
    assert_eq!(lists.clone().count(), 2 + 2 + 3, "two lists that expire, and one of three pages: {asked:?}");
    assert!(lists.clone().all(|asked| asked.contains("limit=500")));
    // One that expires for ever is told, and not taken for its beginning.
    cluster.door().expired = u32::MAX;
    has(&cluster.text(&["status"], 1).await, &["not read  EncryptedDisk  refused [31m with 410."]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_that_nobody_looks_at_are_told_with_the_lease() {
    let cluster = Cluster::start().await;
    has(&cluster.text(&["status"], 0).await, &["There are no objects"]);
    cluster.put::<EncryptedDisk>(Some("default"), "new", disk(None, "key-a"), None).await;
    let stale = json!({ "observedGeneration": 0, "conditions": available()["conditions"] });
    cluster.put::<EncryptedDisk>(Some("default"), "changed", disk(None, "key-a"), Some(stale)).await;
    has(
        &cluster.text(&["status"], 3).await,
        &["perhaps no operator runs", "2 objects: EncryptedDisk in default: changed, new"],
    );
    cluster.namespace("own").await;
    let lease = |at: jiff::Timestamp| {
        let body = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": "ecskms-leader", "namespace": "own" },
            "spec": { "holderIdentity": "pod-1", "leaseDurationSeconds": 15, "renewTime": format!("{at:.6}") } });
        let api: Api<k8s_openapi::api::coordination::v1::Lease> =
            Api::namespaced(cluster.client.clone(), "own");
        let force = PatchParams::apply("test").force();
        async move { api.patch("ecskms-leader", &force, &Patch::Apply(body)).await.expect("taken") }
    };
    lease(jiff::Timestamp::now()).await;
    let there = ["status", "--lease-namespace", "own"];
    has(&cluster.text(&there, 0).await, &["An operator leads (pod-1, renewed "]);
    lease(jiff::Timestamp::now() - jiff::SignedDuration::from_hours(3)).await;
    has(
        &cluster.text(&there, 3).await,
        &["No operator leads: pod-1 holds, but no longer renews,", "last renewed 3h ago"],
    );
    let out = cluster.text(&["why", "edisk/new", "--lease-namespace", "own", "--context", "ecskms"], 3).await;
    has(&out, &["No operator leads", "kubectl get pods -n own --context ecskms"]);
    assert!(!out.contains("goes on by itself"), "{out}");
    // Of what is well, too, nobody knows for how long.
    cluster.put::<EncryptedDisk>(Some("default"), "well", disk(None, "key-b"), Some(available())).await;
    let out = cluster.text(&["why", "edisk/well", "--lease-namespace", "own"], 3).await;
    has(&out, &["is Ready", "No operator leads", "Who must move: you, outside of the object"]);
    let disks: Api<EncryptedDisk> = Api::namespaced(cluster.client.clone(), "default");
    for name in ["new", "changed"] {
        disks.delete(name, &Default::default()).await.expect("it goes");
    }
    let out = cluster.text(&there, 3).await;
    has(&out, &["As far as an operator has looked, all of 1 objects are as promised; no operator leads"]);
    // A time to come that nobody renews proves no leader either.
    lease(jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1)).await;
    has(&cluster.text(&there, 3).await, &["No operator leads", "by a clock that is ahead"]);
    // What may not be looked at is not known, and is never as promised.
    cluster.door().refused.push(("/leases/", 403));
    let right = "let you get leases.coordination.k8s.io in namespace own";
    has(&cluster.text(&there, 1).await, &["Whether an operator leads is not known", right]);
    has(&cluster.text(&["why", "edisk/well", "--lease-namespace", "own"], 0).await, &[right]);
    assert_eq!(cluster.json(&there, 1).await["operator"]["state"], "Unknown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_that_nobody_executes_needs_somebody() {
    let cluster = Cluster::start().await;
    cluster.put::<EncryptedDisk>(Some("default"), "well", disk(None, "key-b"), Some(available())).await;
    let spec = json!({ "region": "cn-hangzhou", "keyId": "key-a", "desiredState": "Revoked",
        "reason": "the key was found in public", "requestedBy": "ann" });
    cluster.put::<KeyRevocation>(None, "inc", spec, None).await;
    let out = cluster.text(&["status"], 3).await;
    has(
        &out,
        &["1 of 2 objects are not as promised; one cause needs somebody", "LIVE REVOCATIONS", "Ordered"],
    );
    let out = cluster.text(&["why", "krev/inc"], 3).await;
    has(
        &out,
        &["1. No operator looks at it", "Who must move: you, outside of the object", "There is no Lease"],
    );
    assert!(!out.contains("goes on by itself"), "{out}");
}

/// Writes another condition into the status of an object.
fn with(mut status: Value, name: &str, truth: &str, reason: &str) -> Value {
    let condition = json!({ "type": name, "status": truth, "reason": reason, "message": format!("{name} says so."),
        "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z" });
    status["conditions"].as_array_mut().expect("conditions").push(condition);
    status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_ready_and_not_as_promised_all_the_same_is_told() {
    let cluster = Cluster::start().await;
    let well = with(status("True", "Available", "Fine."), "EcsRoleAuthorized", "True", "Available");
    cluster
        .put::<CloudAccount>(None, "well", json!({ "credentials": { "ecsRamRole": {} } }), Some(well))
        .await;
    // A record of what is over keeps its conditions, and an unfinished plan waits for no approval yet.
    let spec = |state: &str| {
        json!({ "region": "cn-hangzhou", "keyId": "key-a", "desiredState": state,
            "reason": "the key was found in public", "requestedBy": "ann" })
    };
    let over = with(status("True", "Restored", "It is over."), "Planned", "False", "InventoryIncomplete");
    let mut over = with(with(over, "Verified", "False", "Restoring"), "Contained", "False", "Restoring");
    over["phase"] = json!("Restored");
    over["timings"] = json!({});
    cluster.put::<KeyRevocation>(None, "over", spec("Revoked"), Some(over)).await;
    let mut plan = with(status("True", "Planned", "Listed."), "Approved", "False", "ApprovalMissing");
    plan["phase"] = json!("Planned");
    plan["timings"] = json!({});
    cluster.put::<KeyRevocation>(None, "plan", spec("Planned"), Some(plan)).await;
    has(&cluster.text(&["status"], 0).await, &["All 3 objects are as promised"]);

    let words = status("True", "Available", "Account 1 can be used, but not with customer keys.");
    let account = with(words, "EcsRoleAuthorized", "False", "EcsRoleMissing");
    cluster
        .put::<CloudAccount>(None, "prod", json!({ "credentials": { "ecsRamRole": {} } }), Some(account))
        .await;
    let held_up = Some(status("False", "EcsRoleMissing", "The role is missing."));
    cluster.put::<EncryptedDisk>(Some("default"), "d", disk(Some("prod"), "key-b"), held_up).await;
    let audit = with(status("True", "Scanned", "9 disks; 2 findings."), "Compliant", "False", "NotEncrypted");
    let audit = with(audit, "PartialScan", "True", "InventoryIncomplete");
    cluster.put::<EncryptionAudit>(None, "all", json!({}), Some(audit)).await;
    let out = cluster.text(&["status"], 3).await;
    has(
        &out,
        &[
            "3 of 6 objects are not as promised; 2 causes need somebody",
            "1. EncryptionAudit/all: Scanned, for ",
            "   Compliant is False: NotEncrypted: Compliant says so.",
            "   PartialScan is True: InventoryIncomplete",
            "2. CloudAccount/prod: Available, for ",
            "   EcsRoleAuthorized is False: EcsRoleMissing",
            "   1 object: EncryptedDisk in default: d",
        ],
    );
    let causes = cluster.json(&["status"], 3).await["causes"].take();
    assert_eq!(causes[0]["concerns"].as_array().map(Vec::len), Some(2), "{causes:#}");
    let out = cluster.text(&["why", "eaudit/all"], 3).await;
    has(&out, &["is Ready, but: Scanned", "Who must move: you, outside of the object", "Compliant is False"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incident_that_does_not_fit_this_program_is_told_as_not_read() {
    let cluster = Cluster::start().await;
    incident(&cluster).await;
    cluster.put::<EncryptedDisk>(Some("default"), "well", disk(None, "key-b"), Some(available())).await;
    // The CRD of a newer version knows another phase.
    let crds: Api<
        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    > = Api::all(cluster.client.clone());
    let mut crd = json!(crds.get("keyrevocations.ecskms.dev").await.expect("it is there"));
    let phase = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/phase/enum";
    crd.pointer_mut(phase).and_then(Value::as_array_mut).expect("an enum").push(json!("Sealing"));
    crds.replace(
        "keyrevocations.ecskms.dev",
        &PostParams::default(),
        &serde_json::from_value(crd).expect("a CRD"),
    )
    .await
    .expect("taken");
    let kind = kube::api::ApiResource::erase::<KeyRevocation>(&());
    let api: Api<kube::api::DynamicObject> = Api::all_with(cluster.client.clone(), &kind);
    let patch = Patch::Merge(json!({ "status": { "phase": "Sealing" } }));
    let mut tries = 0;
    while let Err(error) = api.patch_status("inc-7", &PatchParams::default(), &patch).await {
        tries += 1;
        assert!(tries < 100, "{error}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let value = cluster.json(&["status"], 3).await;
    let unread = &value["notRead"][0];
    assert_eq!((&unread["kind"], &unread["name"]), (&json!("KeyRevocation"), &json!("inc-7")), "{value:#}");
    let out = cluster.text(&["status"], 3).await;
    has(
        &out,
        &[
            "not read  KeyRevocation/inc-7  it does not fit this program: ",
            "Sealing",
            "Not everything could be read.",
        ],
    );
    has(&out, &["Use the ecskms of the version that runs in the cluster."]);
    has(&cluster.text(&["why", "krev/inc-7"], 3).await, &["not read  KeyRevocation/inc-7"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_to_be_typed_reaches_the_same_cluster_and_operator() {
    let cluster = Cluster::start_without(&["encryptionaudits"]).await;
    let broken = Some(status("False", "InvalidSpec", "spec.sizeGiB: too small"));
    cluster.put::<EncryptedDisk>(Some("default"), "bad", disk(None, "key-b"), broken).await;
    let place = ["--context", "ecskms", "--lease-namespace", "own"];
    let out = cluster.text(&[&["status"][..], &place].concat(), 3).await;
    has(
        &out,
        &[
            "ecskms crds | kubectl apply --server-side -f - --context ecskms",
            "Look closer: ecskms why EncryptedDisk/bad -n default --context ecskms --lease-namespace own",
        ],
    );
    let out = cluster.text(&[&["why", "edisk/bad"][..], &place].concat(), 3).await;
    has(&out, &["kubectl edit encrypteddisks bad -n default --context ecskms\n"]);
    let (_, err) = ended(&cluster.run(&[&["why", "edisk/other"][..], &place].concat()).await, 1);
    has(&err, &["kubectl get encrypteddisks -A --context ecskms\n"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_comes_first_although_ready_is_true() {
    let cluster = troubled().await;
    let api: Api<KeyRevocation> = Api::all(cluster.client.clone());
    let mut object = api.get("inc-7").await.expect("it is there");
    let broken = json!({ "type": "JournalBroken", "status": "True", "reason": "JournalBroken", "message": "Entry 3 was changed.",
        "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let status = object.status.as_mut().expect("a status");
    status.shared.conditions.push(serde_json::from_value(broken).expect("a condition"));
    let patch = Patch::Merge(json!({ "status": { "conditions": status.shared.conditions } }));
    api.patch_status("inc-7", &PatchParams::default(), &patch).await.expect("taken");
    let value = cluster.json(&["status", "-A"], 3).await;
    assert_eq!(
        (&value["causes"][0]["urgency"], &value["causes"][0]["cause"]["name"]),
        (&json!("Alarm"), &json!("inc-7"))
    );
    assert_eq!(value["causes"][0]["objects"].as_array().map(Vec::len), Some(4));
    let out = cluster.text(&["status", "-A"], 3).await;
    let at = |word: &str| out.find(word).unwrap_or_else(|| panic!("{word} is missing in {out}"));
    assert!(
        at("ALARMS") < at("LIVE REVOCATIONS") && at("LIVE REVOCATIONS") < at("CAUSES THAT NEED SOMEBODY")
    );
    has(&out, &["Entry 3 was changed."]);
}

/// Ends with its test.
struct Operator(std::process::Child);

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Nothing here is written by the test but what users write: conditions, messages and references are the operator's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn causes_are_found_in_what_the_operator_really_writes() {
    const KEY: &str = "key-hzz65f0a1b2c3d4e5f6a7b8";
    let cluster = Cluster::start().await;
    cluster.namespace("ecskms-system").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let cloud = format!("http://{}", listener.local_addr().expect("an address"));
    let options = sim::cloud::Options { time_scale: 20.0, start_account: true, seed: 3 };
    tokio::spawn(sim::cloud::Cloud::new(options).serve(listener, std::future::pending()));
    let disable = json!({ "do": "set", "kind": "key", "id": KEY, "fields": { "state": "Disabled" } });
    let orders = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer =
        orders.post(format!("{cloud}/_sim/resources")).json(&disable).send().await.expect("an answer");
    assert!(answer.status().is_success());

    let spec = json!({ "credentials": { "secretRef": { "name": "keys" } }, "allowedNamespaces": {} });
    cluster.put::<CloudAccount>(None, "prod", spec, None).await;
    for name in ["a", "b"] {
        cluster.put::<EncryptedDisk>(Some("default"), name, disk(Some("prod"), KEY), None).await;
        let name = format!("k-{name}");
        cluster.put::<EncryptedDisk>(Some("default"), &name, disk(None, KEY), None).await;
    }
    let mut waiting = disk(None, KEY);
    waiting["key"] = json!({ "service": true });
    waiting["attachment"] = json!({ "instanceRef": { "name": "nobody" } });
    cluster.put::<EncryptedDisk>(Some("default"), "w", waiting, None).await;

    let child = Command::new(env!("CARGO_BIN_EXE_ecskms"))
        .args(["run", "--cloud-endpoint", &cloud, "--leader-elect", "--tempo", "20"])
        .args(["--metrics-addr", "127.0.0.1:0", "--health-addr", "127.0.0.1:0"])
        .env("KUBECONFIG", &cluster.kubeconfig)
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", sim::cloud::ACCESS_KEY_ID)
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", sim::cloud::ACCESS_KEY_SECRET)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
    let _operator = Operator(child.expect("the program starts"));
    let mut value = Value::Null;
    for _ in 0..150 {
        let output = cluster.run(&["status", "-o", "json"]).await;
        value = serde_json::from_slice(&output.stdout).expect("one JSON object");
        if value["causes"]
            .as_array()
            .is_some_and(|causes| causes.len() == 3 && causes[2]["urgency"] == "NeedsSomebody")
        {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let causes = value["causes"].as_array().expect("a list");
    let of = |sort: &str| causes.iter().find(|one| one["cause"]["sort"] == sort).unwrap_or(&Value::Null);
    assert_eq!(causes.len(), 3, "{value:#}");
    assert_eq!(
        (&of("Object")["cause"]["name"], &of("Object")["reason"]),
        (&json!("prod"), &json!("CredentialsInvalid"))
    );
    assert_eq!(of("Object")["objects"].as_array().map(Vec::len), Some(3), "{value:#}");
    assert_eq!(
        (&of("Outside")["cause"]["keyId"], &of("Outside")["reason"]),
        (&json!(KEY), &json!("KeyDisabled"))
    );
    assert_eq!(of("Outside")["objects"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        (&of("Absent")["cause"]["kind"], &of("Absent")["cause"]["name"]),
        (&json!("EncryptedInstance"), &json!("nobody"))
    );
    assert_eq!(value["operator"]["state"], "Leads");
    let out = cluster.text(&["why", "edisk/a", "--context", "ecskms"], 3).await;
    has(&out, &["1. CloudAccount/prod: CredentialsInvalid: ", "Secret ecskms-system/keys"]);
    has(&out, &["EncryptedDisk in default: b", "ecskms why CloudAccount/prod --context ecskms"]);
    // The Event follows the status; those of objects of the cluster are in namespace default.
    let mut out = String::new();
    for _ in 0..100 {
        out = cluster.text(&["why", "cacct/prod"], 3).await;
        if out.contains("Warning  CredentialsInvalid") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    has(&out, &["Warning  CredentialsInvalid", "OBJECTS THAT IT HOLDS UP"]);
}
