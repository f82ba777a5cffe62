//! `ecskms check` as a process, over real sockets: what it says of a cloud and a cluster, and how it ends.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Patch;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const KEY: &str = "key-hzz65f0a1b2c3d4e5f6a7b8";
const SHANGHAI_KEY: &str = "4c5d6e7f-8091-4a2b-93c4-d5e6f7a8b9c0";
const REGION: [&str; 3] = ["--cloud-only", "--region", "cn-hangzhou"];

/// A simulated cloud, or a kubeconfig, on a port of its own for as long as the test runs.
struct Stage {
    cloud: String,
    kubeconfig: Option<PathBuf>,
    client: reqwest::Client,
    credentials: (String, String),
    /// More variables, for other ways to sign in.
    variables: Vec<(&'static str, String)>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.kubeconfig.iter().for_each(|file| drop(std::fs::remove_file(file)));
    }
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    (listener, address)
}

impl Stage {
    async fn new() -> Stage {
        let (listener, cloud) = listen().await;
        let options = sim::cloud::Options { time_scale: 1.0, start_account: true, seed: 3 };
        tokio::spawn(sim::cloud::Cloud::new(options).serve(listener, std::future::pending()));
        // Fails if another test of this process was faster.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let credentials = (sim::cloud::ACCESS_KEY_ID.to_owned(), sim::cloud::ACCESS_KEY_SECRET.to_owned());
        Stage { cloud, kubeconfig: None, client, credentials, variables: Vec::new() }
    }

    /// With a kubeconfig that names this server.
    fn with_server(mut self, server: &str) -> Stage {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\nusers: [{{name: a, user: {{}}}}]\n\
             clusters: [{{name: a, cluster: {{server: '{server}'}}}}]\n\
             contexts: [{{name: a, context: {{cluster: a, user: a}}}}, {{name: the other, context: {{cluster: a, user: a}}}}]\n"
        );
        let port = server.rsplit(':').next().unwrap_or_default();
        let file = std::env::temp_dir().join(format!("ecskms-check-{}-{port}", std::process::id()));
        std::fs::write(&file, text).expect("written");
        self.kubeconfig = Some(file);
        self
    }

    /// With an embedded Kubernetes API, in which nothing is installed.
    async fn with_cluster(self) -> (Stage, Client) {
        let (listener, address) = listen().await;
        let server = sim::kube::Server::new(sim::kube::Options { data_dir: None }).expect("an empty store");
        tokio::spawn(server.serve(listener, std::future::pending()));
        let config = kube::Config::new(address.parse().expect("a URL"));
        (self.with_server(&address), Client::try_from(config).expect("a client"))
    }

    async fn order(&self, method: reqwest::Method, path: &str, body: Value) {
        let request = self.client.request(method, format!("{}/_sim/{path}", self.cloud)).json(&body);
        let status = request.send().await.expect("the cloud answers").status();
        assert!(status.is_success(), "{path}: {status}");
    }

    async fn check(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ecskms"));
        command.env_clear().env("HOME", "/nonexistent");
        if !self.credentials.0.is_empty() {
            command.env("ALIBABA_CLOUD_ACCESS_KEY_ID", &self.credentials.0);
            command.env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", &self.credentials.1);
        }
        command.env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true").envs(self.variables.clone());
        command.envs(self.kubeconfig.iter().map(|file| ("KUBECONFIG", file)));
        command.args(["check", "--cloud-endpoint", &self.cloud]).args(arguments);
        tokio::task::spawn_blocking(move || command.output().expect("the program starts"))
            .await
            .expect("it ends")
    }

    /// The lines, after an end with this code.
    #[track_caller]
    fn lines(output: &Output, code: i32) -> Vec<Value> {
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
        serde_json::from_str(&out).expect("a JSON list")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// The one line whose check begins so.
#[track_caller]
fn line<'a>(lines: &'a [Value], check: &str) -> &'a Value {
    let found: Vec<&Value> = lines
        .iter()
        .filter(|line| line["check"].as_str().is_some_and(|name| name.starts_with(check)))
        .collect();
    assert_eq!(found.len(), 1, "{check}: {lines:#?}");
    found[0]
}

#[track_caller]
fn is(lines: &[Value], check: &str, result: &str, words: &str) {
    let line = line(lines, check);
    assert_eq!(line["result"], result, "{line}");
    assert!(line.to_string().contains(words), "{words} is not in {line}");
    let is_told = line["fix"].as_str().is_some_and(|fix| !fix.is_empty());
    assert!(is_told || ["ok", "skipped"].contains(&result), "what fails has a fix: {line}");
}

async fn install(client: &Client) {
    let crds = Api::all(client.clone());
    for crd in ecskms::manifests::crds() {
        crds.create(&Default::default(), &crd).await.expect("the CRD is accepted");
    }
    let (policies, bindings) = (Api::all(client.clone()), Api::all(client.clone()));
    for (policy, binding) in
        ecskms::manifests::admission::policies().iter().zip(ecskms::manifests::admission::bindings())
    {
        policies.create(&Default::default(), policy).await.expect("the policy is accepted");
        bindings.create(&Default::default(), &binding).await.expect("the binding is accepted");
    }
    let namespace: Namespace =
        serde_json::from_value(json!({"metadata": {"name": "ecskms-system"}})).expect("a namespace");
    Api::all(client.clone()).create(&Default::default(), &namespace).await.expect("it is made");
    lead(client, jiff::Timestamp::now()).await;
}

async fn lead(client: &Client, renewed: jiff::Timestamp) {
    let lease: Lease = serde_json::from_value(json!({
        "metadata": {"name": "ecskms-leader"},
        "spec": {"holderIdentity": "pod-a", "leaseDurationSeconds": 15, "renewTime": format!("{renewed:.6}")},
    }))
    .expect("a Lease");
    let leases: Api<Lease> = Api::namespaced(client.clone(), "ecskms-system");
    let _ = leases.delete("ecskms-leader", &Default::default()).await;
    leases.create(&Default::default(), &lease).await.expect("it is made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_is_well_and_nothing_was_changed() {
    let (stage, client) = Stage::new().await.with_cluster().await;
    install(&client).await;
    let arguments =
        ["--region", "cn-hangzhou", "--key", "alias/ecskms-demo", "--key", "alias/acs/ecs", "-o", "json"];
    let lines = Stage::lines(&stage.check(&arguments).await, 0);
    is(&lines, "credentials", "ok", "ALIBABA_CLOUD_ACCESS_KEY_ID");
    is(&lines, "identity", "ok", "account 1234567890123456");
    is(&lines, "clock", "ok", "15 minutes");
    is(&lines, "ecs role", "ok", "AliyunECSDiskEncryptRolePolicy");
    is(&lines, "ecs:DescribeInstances cn-hangzhou", "ok", "");
    is(&lines, "kms:DescribeKey cn-hangzhou", "ok", "activated");
    is(&lines, "key alias/ecskms-demo", "ok", KEY);
    is(&lines, "key alias/acs/ecs", "ok", "never be revoked");
    is(&lines, "ram write actions", "skipped", "deploy/ram/policy.json");
    is(&lines, "kubernetes api", "ok", "v1.");
    is(&lines, "crd encrypteddisks.ecskms.dev", "ok", "same");
    is(&lines, "rbac ClusterRole ecskms", "ok", "--as-service-account");
    is(&lines, "namespace ecskms-system", "ok", "");
    is(&lines, "leader", "ok", "pod-a");
    is(
        &lines,
        "admission policies",
        "ok",
        "the same as in this program, each bound to Deny; approvalsMin is 0",
    );
    assert!(lines.iter().all(|line| line["result"] == "ok" || line["result"] == "skipped"), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.to_string().contains(sim::cloud::ACCESS_KEY_SECRET)));

    let log = stage.client.get(format!("{}/_sim/log", stage.cloud)).send().await.expect("a log");
    let log: Value = log.json().await.expect("JSON");
    let mut actions: Vec<&str> = Vec::new();
    collect(&log, &mut actions);
    assert!(actions.len() > 10, "{log}");
    let looks = |action: &&str| ["Describe", "Get", "List"].iter().any(|verb| action.starts_with(verb));
    assert!(actions.iter().all(looks), "{actions:?}");
}

/// Every `action` of the log.
fn collect<'a>(value: &'a Value, actions: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            actions.extend(fields.get("action").and_then(Value::as_str));
            fields.values().for_each(|field| collect(field, actions));
        }
        Value::Array(list) => list.iter().for_each(|one| collect(one, actions)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_that_is_missing_is_named_also_where_the_cloud_hides_it() {
    let mut stage = Stage::new().await;
    let allowed = ["ecs:DescribeDisks", "ecs:DescribeRegions", "ecs:DescribeImages", "ram:GetRole"];
    let statement = json!({"Effect": "Allow", "Action": allowed, "Resource": "*"});
    let policy = json!({"Version": "1", "Statement": [statement]});
    stage.order(reqwest::Method::PUT, "settings", json!({ "limitedPolicy": policy })).await;
    stage.credentials =
        (sim::cloud::LIMITED_ACCESS_KEY_ID.to_owned(), sim::cloud::LIMITED_ACCESS_KEY_SECRET.to_owned());
    let lines = Stage::lines(&stage.check(&[&REGION[..], &["-o", "json"]].concat()).await, 1);
    is(&lines, "ecs:DescribeDisks", "ok", "");
    is(&lines, "ecs:DescribeSnapshots", "failed", "ecs:DescribeSnapshots: attach deploy/ram/policy.json");
    assert!(line(&lines, "ecs:DescribeSnapshots")["requestId"].is_string());
    is(&lines, "ecs:DescribeInstances", "failed", "although a disk is attached to i-");
    is(&lines, "kms:DescribeKey", "failed", "kms:DescribeKey");
    is(&lines, "ecs role", "failed", "ram:ListPoliciesForRole");

    // Where no disk is attached either, an empty list is neither.
    let elsewhere = ["--cloud-only", "--region", "cn-beijing", "-o", "json"];
    let lines = Stage::lines(&stage.check(&elsewhere).await, 1);
    is(&lines, "ecs:DescribeInstances", "unknown", "also what the cloud shows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_are_missing_wrong_or_late_are_told_apart() {
    let mut stage = Stage::new().await;
    stage.order(reqwest::Method::PUT, "settings", json!({"clockSkewSeconds": 3600})).await;
    let arguments = [&REGION[..], &["-o", "json"]].concat();
    let lines = Stage::lines(&stage.check(&arguments).await, 1);
    is(&lines, "clock", "failed", "timedatectl");
    is(&lines, "identity", "failed", "timedatectl");
    is(&lines, "ecs role, reads and keys", "unknown", "Set the clock first");

    stage.order(reqwest::Method::PUT, "settings", json!({"clockSkewSeconds": 0})).await;
    let forbidden = json!([{"action": "GetCallerIdentity", "status": 403, "code": "NoPermission"}]);
    stage.order(reqwest::Method::PUT, "faults", forbidden).await;
    let lines = Stage::lines(&stage.check(&arguments).await, 1);
    is(&lines, "identity", "failed", "sts:GetCallerIdentity");
    is(&lines, "clock", "ok", "accepted a signature, though not the call");
    is(&lines, "ecs:DescribeDisks", "ok", "");

    stage.order(reqwest::Method::PUT, "faults", json!([])).await;
    stage.credentials.1 = "wrong".to_owned();
    let lines = Stage::lines(&stage.check(&arguments).await, 1);
    is(&lines, "credentials", "ok", "");
    is(&lines, "identity", "failed", "secret is probably wrong");
    is(&lines, "clock", "unknown", "");

    stage.credentials = (String::new(), String::new());
    let lines = Stage::lines(&stage.check(&arguments).await, 1);
    is(&lines, "credentials", "failed", "README, Credentials");
    assert_eq!(lines.len(), 3, "one cause, one line for what follows, and the cluster: {lines:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_way_of_signing_in_is_named_and_nothing_that_is_secret() {
    let mut stage = Stage::new().await;
    stage.credentials = (String::new(), String::new());
    stage.variables = vec![("ALIBABA_CLOUD_CREDENTIALS_URI", format!("{}/_sim/credentials", stage.cloud))];
    let lines = Stage::lines(&stage.check(&["--cloud-only", "-o", "json"]).await, 3);
    is(&lines, "credentials", "ok", "ALIBABA_CLOUD_CREDENTIALS_URI, lent until 20");
    is(&lines, "identity", "ok", "assumed-role");
    assert!(!line(&lines, "credentials").to_string().contains("_sim"), "an address may hold a secret");

    stage.variables = vec![
        ("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1234567890123456:role/ecskms-operator".to_owned()),
        (
            "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
            "acs:ram::1234567890123456:oidc-provider/ack-rrsa-pretend".to_owned(),
        ),
        ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", "/nonexistent/token".to_owned()),
    ];
    let lines = Stage::lines(&stage.check(&["--cloud-only", "-o", "json"]).await, 1);
    is(&lines, "credentials", "failed", "RRSA: acs:ram::1234567890123456:role/ecskms-operator");
    stage.variables.pop();
    let lines = Stage::lines(&stage.check(&["--cloud-only", "-o", "json"]).await, 1);
    is(&lines, "credentials", "failed", "ALIBABA_CLOUD_OIDC_TOKEN_FILE is missing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_role_and_kms_say_what_mends_them() {
    let stage = Stage::new().await;
    let keys = ["--key", "alias/ecskms-disabled,alias/ecskms-doomed,alias/ecskms-rsa,key-nothing"];
    let arguments = [&REGION[..], &keys, &["-o", "json"]].concat();
    let lines = Stage::lines(&stage.check(&arguments).await, 1);
    is(&lines, "key alias/ecskms-disabled", "failed", "aliyun kms EnableKey --region cn-hangzhou");
    is(&lines, "key alias/ecskms-doomed", "failed", "CancelKeyDeletion");
    is(&lines, "key alias/ecskms-rsa", "failed", "Aliyun_SM4");
    is(&lines, "key key-nothing", "failed", "no such key");
    is(&lines, "kms:DescribeKey", "ok", "");

    // The id of another region says nothing of this one, and the service key does.
    let elsewhere = ["--key", SHANGHAI_KEY, "--region", "cn-shanghai", "-o", "json"];
    let lines = Stage::lines(&stage.check(&[&REGION[..], &elsewhere].concat()).await, 3);
    is(&lines, "kms:DescribeKey cn-hangzhou", "ok", "may be called");
    is(&lines, "ecs:DescribeInstances cn-shanghai", "unknown", "no instance is shown");
    assert_eq!(lines.iter().filter(|line| line["result"] == "unknown").count(), 1, "{lines:#?}");
    is(&lines, &format!("key {SHANGHAI_KEY}"), "ok", "cn-shanghai");

    let role = json!({"do": "delete", "kind": "role", "id": "AliyunECSDiskEncryptDefaultRole"});
    stage.order(reqwest::Method::POST, "resources", role).await;
    stage.order(reqwest::Method::PUT, "settings", json!({"kmsOpened": false})).await;
    let lines = Stage::lines(&stage.check(&[&REGION[..], &["-o", "json"]].concat()).await, 1);
    is(&lines, "ecs role", "failed", "aliyun ram CreateRole --RoleName AliyunECSDiskEncryptDefaultRole");
    is(&lines, "kms:DescribeKey", "failed", "Activate KMS");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_answer_is_not_known_and_holds_nothing_up() {
    let mut stage = Stage::new().await;
    let hang = json!([{"action": "DescribeSnapshots", "delayMs": 20_000}]);
    stage.order(reqwest::Method::PUT, "faults", hang).await;
    let arguments = [&REGION[..], &["--timeout", "1", "-o", "json"]].concat();
    let began = Instant::now();
    let lines = Stage::lines(&stage.check(&arguments).await, 3);
    is(&lines, "ecs:DescribeSnapshots", "unknown", "within 1s");
    is(&lines, "ecs:DescribeDisks", "ok", "");

    // Both ends accept connections and say nothing.
    let (silent, address) = listen().await;
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((socket, _)) = silent.accept().await {
            open.push(socket);
        }
    });
    stage.cloud = address.clone();
    let stage = stage.with_server(&address);
    let lines =
        Stage::lines(&stage.check(&["--region", "cn-hangzhou", "--timeout", "1", "-o", "json"]).await, 1);
    is(&lines, "identity", "unknown", "within 1s");
    is(&lines, "ecs reads cn-hangzhou", "unknown", "within 1s");
    is(&lines, "kms:DescribeKey", "unknown", "within 1s");
    is(&lines, "kubernetes api", "failed", "within 1s");
    is(&lines, "crds, rbac", "unknown", "not asked");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_cluster_and_a_changed_one_are_told_with_their_commands() {
    let (stage, client) = Stage::new().await.with_cluster().await;
    let arguments = ["--cluster-only", "-o", "json"];
    let lines = Stage::lines(&stage.check(&arguments).await, 1);
    is(&lines, "crd keyrevocations.ecskms.dev", "failed", "ecskms crds | kubectl apply --server-side -f -");
    is(&lines, "namespace", "failed", "kubectl create namespace ecskms-system");
    is(&lines, "leader", "unknown", "no Lease");
    is(&lines, "admission policies", "skipped", "optional");
    is(&lines, "cloud", "skipped", "--cluster-only");

    install(&client).await;
    let crds: Api<
        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    > = Api::all(client.clone());
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/sizeGiB/maximum";
    let patch =
        serde_json::from_value(json!([{"op": "replace", "path": path, "value": 7}])).expect("a patch");
    let patch = kube::api::Patch::<()>::Json(patch);
    crds.patch("encrypteddisks.ecskms.dev", &Default::default(), &patch).await.expect("it is changed");
    lead(&client, "2026-01-01T00:00:00Z".parse().expect("a time")).await;
    let lines = Stage::lines(&stage.check(&arguments).await, 1);
    is(&lines, "crd encrypteddisks.ecskms.dev", "failed", "first at v1alpha1.spec.sizeGiB.maximum");
    is(&lines, "crd encryptedimages.ecskms.dev", "ok", "");
    is(&lines, "leader", "failed", "renewed last 2026-01-01T00:00:00Z");

    // This API has no users, and does not serve the question for others.
    let lines =
        Stage::lines(&stage.check(&["--cluster-only", "--as-service-account", "-o", "json"]).await, 1);
    is(&lines, "rbac ClusterRole ecskms", "unknown", "subjectaccessreviews");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_that_are_there_and_guard_nothing_are_told_one_by_one() {
    let (stage, client) = Stage::new().await.with_cluster().await;
    install(&client).await;
    let (policies, bindings): (Api<ValidatingAdmissionPolicy>, Api<ValidatingAdmissionPolicyBinding>) =
        (Api::all(client.clone()), Api::all(client));
    let merged = |spec: Value| Patch::Merge(json!({ "spec": spec }));
    let weak = merged(json!({"failurePolicy": "Ignore", "validations": [{"expression": "true"}]}));
    policies.patch("ecskms-revocation-changes", &Default::default(), &weak).await.expect("it is changed");
    let narrow = merged(json!({"matchResources": {"objectSelector": {"matchLabels": {"never": "set"}}}}));
    bindings.patch("ecskms-revocation-status", &Default::default(), &narrow).await.expect("it is changed");
    let lines = Stage::lines(&stage.check(&["--cluster-only", "-o", "json"]).await, 1);
    for words in [
        "ecskms-revocation-changes: failurePolicy is Ignore, not Fail",
        "desiredState Revoked needs the verb revoke",
        "the rule true is only in the cluster",
        "binding ecskms-revocation-status: matchResources.objectSelector is only in the cluster",
        "kubectl delete validatingadmissionpolicy/ecskms-revocation-changes \
         validatingadmissionpolicybinding/ecskms-revocation-status, because",
    ] {
        is(&lines, "admission policies", "failed", words);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_context_is_asked_and_every_command_that_is_told_reaches_it() {
    let (mut stage, _) = Stage::new().await.with_cluster().await;
    let arguments = ["--cluster-only", "-o", "json"];
    let named = [&arguments[..], &["--context", "the other"]].concat();
    let lines = Stage::lines(&stage.check(&named).await, 1);
    is(&lines, "crd keyrevocations", "failed", "| kubectl --context 'the other' apply --server-side");
    is(&lines, "namespace", "failed", "kubectl --context 'the other' create namespace");
    is(&lines, "admission policies", "skipped", "helm upgrade --kube-context 'the other'");
    let fixes: Vec<&str> = lines.iter().filter_map(|line| line["fix"].as_str()).collect();
    let reaches =
        |fix: &&str| fix.matches("kubectl ").count() == fix.matches("kubectl --context 'the other' ").count();
    assert!(!fixes.is_empty() && fixes.iter().all(reaches), "{fixes:#?}");

    stage.variables = vec![("ECSKMS_CONTEXT", "no such".to_owned())];
    let lines = Stage::lines(&stage.check(&arguments).await, 1);
    is(&lines, "kubernetes api", "failed", "no such");
    // Whoever names a context names a cluster, so that its absence is no reason to leave it out.
    stage.kubeconfig = None;
    let lines = Stage::lines(&stage.check(&["--region", "cn-hangzhou", "-o", "json"]).await, 1);
    is(&lines, "kubernetes api", "failed", "");
    stage.variables = vec![("ECSKMS_CONTEXT", String::new())];
    let lines = Stage::lines(&stage.check(&["--region", "cn-hangzhou", "-o", "json"]).await, 0);
    is(&lines, "cluster", "skipped", "no kubeconfig");
}

/// Questions for rights, as the API server got them.
type Asked = Arc<Mutex<Vec<Value>>>;

/// An API server that knows a version, who asks, and rights: everything but status of disks.
async fn rights_server() -> (String, Asked) {
    let asked = Asked::default();
    let answer = |State(asked): State<Asked>, Json(mut review): Json<Value>| async move {
        asked.lock().expect("nobody panics while holding it").push(review["spec"].clone());
        let attributes = &review["spec"]["resourceAttributes"];
        let allowed = !(attributes["resource"] == "encrypteddisks" && attributes["subresource"] == "status");
        review["status"] = json!({ "allowed": allowed });
        (StatusCode::CREATED, Json(review))
    };
    let who = |Json(mut review): Json<Value>| async move {
        review["status"] = json!({"userInfo": {"username": "ali\u{1b}[31mce"}});
        (StatusCode::CREATED, Json(review))
    };
    let nothing = || async {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "message": "not for you", "code": 403});
        (StatusCode::FORBIDDEN, Json(status))
    };
    let version = || async { Json(json!({"major": "1", "minor": "32+", "gitVersion": "v1.32.9"})) };
    let router = axum::Router::new()
        .route("/version", get(version))
        .route("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", post(answer))
        .route("/apis/authorization.k8s.io/v1/subjectaccessreviews", post(answer))
        .route("/apis/authentication.k8s.io/v1/selfsubjectreviews", post(who))
        .fallback(nothing)
        .with_state(asked.clone());
    let (listener, address) = listen().await;
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, asked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_right_of_the_roles_is_asked_for_and_what_is_refused_is_named() {
    let (address, asked) = rights_server().await;
    let stage = Stage::new().await.with_server(&address);
    let lines = Stage::lines(&stage.check(&["--cluster-only", "-o", "json"]).await, 1);
    is(&lines, "rbac ClusterRole ecskms", "failed", "may not patch ecskms.dev/encrypteddisks/status (1 of ");
    is(&lines, "rbac Role ecskms-leader-election", "ok", "ali [31mce");
    is(&lines, "kubernetes api", "failed", "1.33");
    is(&lines, "crd encrypteddisks", "unknown", "not for you");
    is(&lines, "admission policies", "unknown", "not for you");
    let attributes = |spec: &Value| spec["resourceAttributes"].clone();
    let specs: Vec<Value> = asked.lock().expect("nobody panics while holding it").drain(..).collect();
    let lease = json!({"group": "coordination.k8s.io", "resource": "leases", "verb": "update", "name": "ecskms-leader", "namespace": "ecskms-system"});
    assert!(specs.iter().any(|spec| attributes(spec) == lease), "{specs:#?}");

    let arguments = ["--cluster-only", "--as-service-account", "--lease-namespace", "own", "-o", "json"];
    let lines = Stage::lines(&stage.check(&arguments).await, 1);
    is(&lines, "rbac ClusterRole ecskms", "failed", "system:serviceaccount:own:ecskms may not");
    is(&lines, "rbac ClusterRole ecskms", "failed", "kubectl apply --server-side -k deploy");
    let others: Vec<Value> = asked.lock().expect("nobody panics while holding it").drain(..).collect();
    assert_eq!(others.len(), specs.len());
    let groups = json!(["system:serviceaccounts", "system:serviceaccounts:own", "system:authenticated"]);
    assert!(
        others
            .iter()
            .all(|spec| spec["user"] == "system:serviceaccount:own:ecskms" && spec["groups"] == groups)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_nobody_names_is_skipped_and_one_that_cannot_be_read_is_not() {
    let mut stage = Stage::new().await;
    let output = stage.check(&["--region", "cn-hangzhou"]).await;
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{out}");
    assert!(out.contains("skipped cluster: no kubeconfig") && !out.contains('\u{1b}'), "{out}");
    assert!(out.trim_end().ends_with("2 skipped") && text(&output.stderr).is_empty(), "{out}");
    // Without a region most is not known, and that is no pass.
    let lines = Stage::lines(&stage.check(&["-o", "json"]).await, 3);
    is(&lines, "regions", "unknown", "--region cn-hangzhou");
    let lines = Stage::lines(&stage.check(&["--cluster-only", "-o", "json"]).await, 1);
    is(&lines, "cluster", "failed", "KUBECONFIG");

    stage.kubeconfig = Some(PathBuf::from("/nonexistent/kubeconfig"));
    let lines = Stage::lines(&stage.check(&["--region", "cn-hangzhou", "-o", "json"]).await, 1);
    is(&lines, "kubernetes api", "failed", "/nonexistent/kubeconfig");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_arguments_end_with_two_before_anything_is_asked() {
    let mut stage = Stage::new().await;
    for (arguments, words) in [
        (&["--region", "Hangzhou"][..], "not a region id"),
        (&["--key", "alias/a"], "--region"),
        (&["--region", "cn-hangzhou", "--key", "a b"], "KeyId is not a key id"),
        (&["--cloud-only", "--cluster-only"], "cannot be used with"),
        (&["--timeout", "0"], "0 is not in"),
        (&["-o", "html"], "html"),
    ] {
        let output = stage.check(arguments).await;
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {err}");
        assert!(err.contains(words) && output.stdout.is_empty(), "{arguments:?}: {err}");
    }
    stage.cloud = "ftp://a".to_owned();
    let output = stage.check(&[]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("Check --cloud-endpoint"), "{}", text(&output.stderr));
}
