//! `ecskms plan` as a process, over real sockets, against the embedded Kubernetes API and the simulated cloud.
//!
//! That what it says is what the operator does, `operator/scenarios_plan.rs` shows; here: what it reads, what it refuses, and how it ends.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use axum::Router;
use axum::body::Body;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::ServiceExt;

use ecskms::kinds::EncryptedDisk;

/// The customer key of the starting account.
const KEY: &str = "key-hzz65f0a1b2c3d4e5f6a7b8";

/// Both servers on sockets, and a folder.
struct Servers {
    kube: Client,
    api: Router,
    control: Router,
    cloud: String,
    folder: PathBuf,
    /// Who asks the cloud.
    identity: (&'static str, &'static str),
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Servers {
    async fn start(name: &str) -> Servers {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = sim::kube::Server::new(sim::kube::Options { data_dir: None }).expect("an empty store");
        let api = server.router();
        tokio::spawn(server.serve(listener, std::future::pending()));
        let config = Config::new(format!("http://{address}").parse().expect("a URL"));
        let kube = Client::try_from(config).expect("a client");
        for crd in ecskms::manifests::crds() {
            Api::all(kube.clone()).create(&PostParams::default(), &crd).await.expect("the CRD is accepted");
        }
        let options = sim::cloud::Options { time_scale: 1.0, start_account: true, seed: 7 };
        let control = sim::cloud::Cloud::new(options).router();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let cloud = format!("http://{}", listener.local_addr().expect("an address"));
        let router = control.clone();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let folder = std::env::temp_dir().join(format!("ecskms-plan-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("kubeconfig"), sim::kube::kubeconfig(address)).expect("written");
        let identity = (sim::cloud::ACCESS_KEY_ID, sim::cloud::ACCESS_KEY_SECRET);
        Servers { kube, api, control, cloud, folder, identity }
    }

    fn file(&self, name: &str, objects: &[Value]) -> String {
        let text: Vec<String> = objects.iter().map(Value::to_string).collect();
        let path = self.folder.join(name);
        std::fs::write(&path, text.join("\n---\n")).expect("written");
        path.display().to_string()
    }

    async fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ecskms"));
        command
            .env_clear()
            .env("KUBECONFIG", self.folder.join("kubeconfig"))
            .env("ALIBABA_CLOUD_ACCESS_KEY_ID", self.identity.0)
            .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", self.identity.1)
            .env("ECSKMS_CLOUD_ENDPOINT", &self.cloud)
            .arg("plan")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let input = input.to_owned();
        let done = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().expect("the program starts");
            // Whoever does not read it is told nothing.
            let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
            child.wait_with_output().expect("it ends")
        });
        done.await.expect("it ends")
    }

    async fn json(&self, arguments: &[&str], code: i32) -> Value {
        let (out, err) = ended(&self.run(&[arguments, &["-o", "json"]].concat(), "").await, code);
        assert!(err.is_empty(), "{err}");
        let value: Value = serde_json::from_str(&out).expect("one JSON object");
        assert_eq!(value["exitCode"], code);
        value
    }

    /// The cluster's last version, and how many calls have changed the cloud.
    async fn changes(&self) -> (Value, usize) {
        let list = get(&self.api, "/apis/ecskms.dev/v1alpha1/encrypteddisks").await;
        assert_eq!(list["items"], json!([]));
        let log = get(&self.control, "/_sim/log").await;
        let changed = |entry: &&Value| {
            let action = entry["action"].as_str().unwrap_or_default();
            entry["performed"] == true
                && !["Describe", "Get", "List"].iter().any(|part| action.starts_with(part))
        };
        let calls = log.as_array().map_or(0, |all| all.iter().filter(changed).count());
        (list["metadata"]["resourceVersion"].clone(), calls)
    }
}

async fn get(router: &Router, path: &str) -> Value {
    let request = http::Request::builder().uri(path).body(Body::empty()).expect("a request");
    let response = router.clone().oneshot(request).await.expect("an answer");
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a whole body");
    serde_json::from_slice(&bytes).expect("JSON")
}

async fn put(router: &Router, path: &str, body: &Value) {
    let request = http::Request::builder().method("PUT").uri(path).header("content-type", "application/json");
    let request = request.body(Body::from(body.to_string())).expect("a request");
    assert!(router.clone().oneshot(request).await.expect("an answer").status().is_success(), "{path}");
}

#[track_caller]
fn ended(output: &Output, code: i32) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
    (out, err)
}

fn disk(name: &str, more: Value) -> Value {
    let mut object = json!({ "apiVersion": "ecskms.dev/v1alpha1", "kind": "EncryptedDisk", "metadata": { "name": name },
        "spec": { "region": "cn-hangzhou", "zoneId": "cn-hangzhou-i", "key": { "id": KEY }, "sizeGiB": 40 } });
    for (field, value) in more.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    object
}

fn one<'a>(plan: &'a Value, name: &str) -> &'a Value {
    let all = plan["objects"].as_array().into_iter().flatten();
    all.into_iter().find(|object| object["name"] == name).expect("it was planned")
}

/// The actions that an object would cause.
fn actions(object: &Value) -> Vec<&str> {
    let steps = object["steps"].as_array().into_iter().flatten();
    steps.filter_map(|step| step["call"]["action"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_samples_are_planned_whole_and_nothing_is_changed() {
    let servers = Servers::start("samples").await;
    let before = servers.changes().await;
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/samples");
    let plan = servers.json(&["-f", samples], 2).await;
    assert_eq!(servers.changes().await, before, "nothing was written");
    let objects = plan["objects"].as_array().expect("a list");
    for object in objects.iter().filter(|object| object["name"] != "ledger") {
        assert_eq!(object["end"]["state"], "Settled", "{object:#}");
    }
    // The Secret of the same files opens the account, which makes the role that its disk waits for.
    assert_eq!(actions(one(&plan, "second")), ["CreateRole", "AttachPolicyToRole"]);
    let ledger = &one(&plan, "ledger")["end"];
    assert_eq!((&ledger["state"], &ledger["reason"]), (&json!("Waiting"), &json!("DependencyNotReady")));
    assert!(
        ledger["message"].as_str().is_some_and(|text| text.contains("CloudAccount second makes the role"))
    );
    assert_eq!(actions(one(&plan, "web-cache")), ["CreateDisk", "AttachDisk"]);
    let calls: usize = objects.iter().map(|object| actions(object).len()).sum();
    assert!(calls >= objects.len() && plan["calls"] == calls, "{}", plan["calls"]);
    let change = plan["ramActions"]["change"].to_string();
    assert!(
        ["ecs:CopyImage", "ecs:RunInstances", "ecs:AttachDisk"].iter().all(|action| change.contains(action))
    );
    assert_eq!(plan["leftOut"], 1, "the Secret");

    let (out, _) = ended(&servers.run(&["-f", samples], "").await, 2);
    assert!(out.contains("EncryptedDisk/web-cache in default (new): 2 calls"), "{out}");
    assert!(out.contains("AttachDisk DeleteWithInstance=false DiskId=<new disk> InstanceId=i-"), "{out}");
    assert!(out.contains(&format!("{calls} calls would change the cloud, 2 of them a deletion")), "{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_the_policy_for_planning_can_plan_and_whoever_lacks_a_part_is_told_which() {
    let mut servers = Servers::start("rights").await;
    let order = json!({ "apiVersion": "ecskms.dev/v1alpha1", "kind": "KeyRevocation", "metadata": { "name": "leak" },
        "spec": { "region": "cn-hangzhou", "keyId": KEY, "desiredState": "Revoked", "reason": "a leaked credential",
            "requestedBy": "alice", "runningInstances": "Stop" } });
    let order = servers.file("order.yaml", &[order]);
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/samples");
    let all = ["-f", samples, "-f", &order];
    let expected = servers.json(&all, 2).await;
    assert_eq!(actions(one(&expected, "leak")), ["StopInstances", "DisableKey"]);
    let shows = one(&expected, "leak")["shows"].as_str().expect("who would be hit");
    assert!(shows.contains("1 instances"), "{shows}");

    servers.identity = (sim::cloud::LIMITED_ACCESS_KEY_ID, sim::cloud::LIMITED_ACCESS_KEY_SECRET);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/ram/plan.json");
    let text = std::fs::read_to_string(path).expect("the policy is there");
    let mut policy: Value = serde_json::from_str(&text).expect("it is JSON");
    put(&servers.control, "/_sim/settings", &json!({ "limitedPolicy": policy })).await;
    assert_eq!(servers.json(&all, 2).await, expected);

    policy["Statement"].as_array_mut().expect("statements").pop();
    put(&servers.control, "/_sim/settings", &json!({ "limitedPolicy": policy })).await;
    let plan = servers.json(&["-f", samples], 1).await;
    let end = &one(&plan, "orders-data")["end"];
    assert_eq!((&end["state"], &end["reason"]), (&json!("Unknown"), &json!("AccessDenied")), "{end:#}");
    assert!(
        end["message"].as_str().is_some_and(|text| text.contains("ram:GetRole"))
            && end["requestId"].is_string()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_it_ends_says_whether_anything_would_change() {
    let servers = Servers::start("codes").await;
    let new = servers.file("new.yaml", &[disk("new", json!({}))]);
    let blocked =
        servers.file("blocked.yaml", &[disk("lost", json!({ "key": { "alias": "alias/nobody" } }))]);
    let resting = servers.file("resting.yaml", &[disk("still", json!({ "suspend": true }))]);
    assert_eq!(servers.json(&["-f", &new], 2).await["calls"], 1);
    let plan = servers.json(&["-f", &blocked], 3).await;
    assert_eq!(one(&plan, "lost")["end"]["reason"], "KeyNotFound");
    servers.json(&["-f", &resting], 0).await;
    // Something that would change outweighs what would not go on.
    servers.json(&["-f", &new, "-f", &blocked], 2).await;
    // From a pipe, and as a List.
    let list =
        json!({ "apiVersion": "v1", "kind": "List", "items": [disk("a", json!({})), disk("b", json!({}))] });
    let (out, _) = ended(&servers.run(&["-f", "-"], &list.to_string()).await, 2);
    assert!(out.contains("2 calls would change the cloud"), "{out}");
    let (out, _) = ended(&servers.run(&["--delete", "-f", &new], "").await, 0);
    assert!(out.contains("There is no such object"), "{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_planned_is_said_with_the_next_step_and_never_counts_as_no_change() {
    let servers = Servers::start("refused").await;
    let wrong = servers.file("wrong.yaml", &[disk("wrong", json!({ "sizeGB": 40 }))]);
    let plan = servers.json(&["-f", &wrong], 1).await;
    let why = one(&plan, "wrong")["error"].as_str().expect("a reason").to_owned();
    assert!(why.contains("sizeGB") && why.contains("kubectl explain"), "{why}");
    let plan = servers.json(&["-f", &wrong, "--server-side", "--field-manager", "flux"], 1).await;
    let why = one(&plan, "wrong")["error"].as_str().expect("a reason").to_owned();
    assert!(why.contains("sizeGB") && why.contains("kubectl explain"), "{why}");
    let invalid = servers.file("invalid.yaml", &[disk("invalid", json!({ "zoneId": "cn-beijing-a" }))]);
    servers.json(&["-f", &invalid], 1).await;
    let mut away = disk("away", json!({}));
    away["metadata"]["namespace"] = json!("nowhere");
    let away = servers.file("away.yaml", &[away]);
    let plan = servers.json(&["-f", &away], 1).await;
    let why = one(&plan, "away")["error"].as_str().expect("a reason").to_owned();
    assert!(why.contains("nowhere"), "{why}");

    let mut misspelt = disk("misspelt", json!({}));
    misspelt["kind"] = json!("EncryptedDsk");
    let misspelt = servers.file("misspelt.yaml", &[misspelt]);
    let plan = servers.json(&["-f", &misspelt], 1).await;
    assert!(
        one(&plan, "misspelt")["error"].as_str().is_some_and(|text| text.contains("EncryptedDsk")),
        "{plan}"
    );
    let odd = servers.file("odd.yaml", &[disk("a/status", json!({})), disk("..", json!({}))]);
    let (out, _) = ended(&servers.run(&["-f", &odd], "").await, 1);
    assert!(
        out.contains("\"a/status\" is no name") && out.contains("Not everything could be planned"),
        "{out}"
    );

    let foreign = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" } });
    let foreign = servers.file("foreign.yaml", &[foreign]);
    for (arguments, word) in [
        (&["-f", &*foreign][..], "nothing to plan"),
        (&["-f", "/does/not/exist"], "cannot read"),
        (&["-f", &*wrong, "--context", "nobody"], "no cluster"),
        (&["-f", &*wrong, "--field-manager", "x"], "--server-side"),
        (&["-f", &*wrong, "--server-side"], "--field-manager"),
        (&["--fil", "x"], "unexpected argument"),
        (&[], "--filename"),
    ] {
        let (out, err) = ended(&servers.run(arguments, "").await, 1);
        assert!(err.contains(word) && out.is_empty(), "{arguments:?}: {out}\n{err}");
    }
    // A cloud that does not answer.
    let new = servers.file("new.yaml", &[disk("new", json!({}))]);
    let silent = servers.run(&["-f", &new, "--cloud-endpoint", "http://127.0.0.1:1"], "").await;
    let (out, err) = ended(&silent, 1);
    assert!(out.contains("not planned") && out.contains("not known"), "{out}\n{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_of_the_same_files_see_one_another_and_what_cannot_come_is_not_planned_as_coming() {
    let servers = Servers::start("together").await;
    let order = json!({ "apiVersion": "ecskms.dev/v1alpha1", "kind": "KeyRevocation", "metadata": { "name": "leak" },
        "spec": { "region": "cn-hangzhou", "keyId": KEY, "desiredState": "Revoked", "reason": "a leaked credential",
            "requestedBy": "alice" } });
    let file = servers.file("cut.yaml", &[disk("late", json!({})), order]);
    let plan = servers.json(&["-f", &file], 2).await;
    assert_eq!(one(&plan, "late")["end"]["reason"], "KeyRevoked", "{plan:#}");

    let image = json!({ "apiVersion": "ecskms.dev/v1alpha1", "kind": "EncryptedImage", "metadata": { "name": "base" },
        "spec": { "region": "cn-hangzhou", "source": { "imageId": "m-nobody" }, "key": { "id": KEY } } });
    let instance = json!({ "apiVersion": "ecskms.dev/v1alpha1", "kind": "EncryptedInstance", "metadata": { "name": "web" },
        "spec": { "region": "cn-hangzhou", "zoneId": "cn-hangzhou-i", "instanceType": "ecs.g7.large", "key": { "id": KEY },
            "image": { "imageRef": { "name": "base" } }, "systemDisk": { "sizeGiB": 40 },
            "network": { "vSwitchId": "vsw-bp1demo0000000000001", "securityGroupIds": ["sg-bp1demo00000000000001"] } } });
    let at = |name: &str| json!({ "attachment": { "instanceRef": { "name": name } } });
    let file =
        servers.file("never.yaml", &[image, instance, disk("one", at("web")), disk("two", at("typo"))]);
    let plan = servers.json(&["-f", &file], 3).await;
    for (name, word) in [
        ("web", "EncryptedImage base"),
        ("one", "EncryptedInstance web"),
        ("two", "no EncryptedInstance typo"),
    ] {
        let end = &one(&plan, name)["end"];
        assert_eq!((&end["state"], actions(one(&plan, name)).len()), (&json!("Waiting"), 0), "{end:#}");
        assert!(end["message"].as_str().is_some_and(|text| text.contains(word)), "{end:#}");
    }

    let file = servers.file("twice.yaml", &[disk("same", json!({})), disk("same", json!({ "sizeGiB": 80 }))]);
    let plan = servers.json(&["-f", &file], 1).await;
    assert_eq!(plan["calls"], 1);
    let space = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "default" } });
    let file = servers.file("space.yaml", &[space, disk("one", json!({}))]);
    let (_, err) = ended(&servers.run(&["--delete", "-f", &file], "").await, 1);
    assert!(err.contains("takes along more than the files name"), "{err}");
    let account = json!({ "apiVersion": "ecskms.dev/v1alpha1", "kind": "CloudAccount", "metadata": { "name": "other" },
        "spec": { "credentials": { "secretRef": { "name": "key" } }, "endpoints": { "sts": "http://127.0.0.1:1" } } });
    let file = servers.file("account.yaml", &[account]);
    let plan = servers.json(&["-f", &file], 1).await;
    let why = one(&plan, "other")["error"].as_str().expect("a reason").to_owned();
    assert!(why.contains("--allow-new-endpoints"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_is_left_out_goes_as_kubectl_would_have_it_or_as_its_manager_would() {
    let servers = Servers::start("fields").await;
    let disks: Api<EncryptedDisk> = Api::namespaced(servers.kube.clone(), "default");
    let adopted = json!({ "adopt": { "externalId": "d-nobody" }, "suspend": true });
    let first = disk("one", adopted.clone());
    let mut kept = first.clone();
    kept["metadata"]["annotations"] =
        json!({ "kubectl.kubernetes.io/last-applied-configuration": first.to_string() });
    let kept: EncryptedDisk = serde_json::from_value(kept).expect("a disk");
    disks.create(&PostParams::default(), &kept).await.expect("accepted");
    let mut awake = first.clone();
    awake["spec"].as_object_mut().expect("a spec").remove("suspend");
    let awake = servers.file("awake.yaml", &[awake]);
    // Without suspend it is no longer at rest: the disk that it takes over is not there.
    let plan = servers.json(&["-f", &awake], 3).await;
    assert_eq!(one(&plan, "one")["end"]["reason"], "ExternalGone", "{plan:#}");

    let second = disk("two", adopted);
    let params = PatchParams::apply("flux");
    disks.patch("two", &params, &Patch::Apply(second.clone())).await.expect("accepted");
    let mut awake = second;
    awake["spec"].as_object_mut().expect("a spec").remove("suspend");
    let awake = servers.file("awake.yaml", &[awake]);
    let by = |manager: &'static str| {
        ["-f", &*awake, "--server-side", "--field-manager", manager].map(str::to_owned)
    };
    let ours = by("flux");
    let plan = servers.json(&ours.each_ref().map(String::as_str), 3).await;
    assert_eq!(one(&plan, "two")["end"]["reason"], "ExternalGone", "{plan:#}");
    let others = by("argo");
    let plan = servers.json(&others.each_ref().map(String::as_str), 0).await;
    assert_eq!(one(&plan, "two")["end"]["reason"], "Suspended", "{plan:#}");
}
