//! `ecskms audit` as a process, over real sockets: what it prints where, and how it ends.

use std::process::{Command, Output};

use serde_json::{Value, json};

/// The simulated cloud on a port of its own, for as long as the test runs.
struct Cloud {
    address: String,
    client: reqwest::Client,
}

impl Cloud {
    async fn start() -> Cloud {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let options = sim::cloud::Options { time_scale: 1.0, start_account: true, seed: 3 };
        tokio::spawn(sim::cloud::Cloud::new(options).serve(listener, std::future::pending()));
        // Fails if another test of this process was faster.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        Cloud { address, client }
    }

    async fn order(&self, method: reqwest::Method, path: &str, body: Value) {
        let request = self.client.request(method, format!("{}/_sim/{path}", self.address)).json(&body);
        let status = request.send().await.expect("the cloud answers").status();
        assert!(status.is_success(), "{path}: {status}");
    }

    async fn audit(&self, arguments: &[&str]) -> Output {
        self.audit_as(sim::cloud::ACCESS_KEY_ID, sim::cloud::ACCESS_KEY_SECRET, arguments).await
    }

    async fn audit_as(&self, id: &str, secret: &str, arguments: &[&str]) -> Output {
        self.audit_with(&[], id, secret, arguments).await
    }

    async fn audit_with(
        &self,
        environment: &[(&str, &str)],
        id: &str,
        secret: &str,
        arguments: &[&str],
    ) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ecskms"));
        command
            .env_clear()
            .env("ALIBABA_CLOUD_ACCESS_KEY_ID", id)
            .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", secret)
            .envs(environment.iter().copied());
        command.args(["audit", "--cloud-endpoint", &self.address]).args(arguments);
        tokio::task::spawn_blocking(move || command.output().expect("the program starts"))
            .await
            .expect("it ends")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[track_caller]
fn ended(output: &Output, code: i32) -> (String, String) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
    (out, err)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_is_not_compliant_ends_with_three_in_each_form() {
    let cloud = Cloud::start().await;
    let (out, err) = ended(&cloud.audit(&["--region", "cn-hangzhou,cn-shanghai"]).await, 3);
    assert!(out.contains("not compliant") && out.contains("d-uf6data0000000000001"), "{out}");
    assert!(!out.contains('\u{1b}'), "no colours in a pipe");
    for region in ["cn-hangzhou: ", "cn-shanghai: "] {
        let told = out.lines().any(|line| line.starts_with(region));
        assert!(err.contains(region) && !told, "progress is for standard error: {err}");
    }
    let (out, _) = ended(&cloud.audit(&["-o", "json"]).await, 3);
    let value: Value = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!((&value["compliant"], &value["exitCode"]), (&json!("False"), &json!(3)));
    assert_eq!(value["regions"].as_array().map(Vec::len), Some(4), "every region of the account");
    assert!(
        value["findings"].as_array().is_some_and(|list| list.iter().all(|one| one["message"].is_string()))
    );
    let (out, _) = ended(&cloud.audit(&["--region", "cn-hangzhou", "-o", "html"]).await, 3);
    assert!(out.starts_with("<!doctype html>") && out.trim_end().ends_with("</html>"));
    assert!(out.contains("d-bp1archive0000000001") && !out.contains("<script"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_has_all_findings_and_not_only_as_many_as_fit_into_status() {
    let cloud = Cloud::start().await;
    for number in 0..130 {
        let order = json!({"do": "create", "kind": "disk", "id": format!("d-2ze{number:04}"), "region": "cn-beijing", "fields": {"sizeGib": 20}});
        cloud.order(reqwest::Method::POST, "resources", order).await;
    }
    let (out, _) =
        ended(&cloud.audit(&["--region", "cn-beijing", "-o", "json", "--ignore-account-default"]).await, 3);
    let value: Value = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!(value["findings"].as_array().map(Vec::len), Some(130));
    assert_eq!(value["summary"]["total"], 130);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compliant_incomplete_nothing_and_wrong_each_have_their_code() {
    let cloud = Cloud::start().await;
    let (out, _) = ended(&cloud.audit(&["--region", "cn-beijing", "--ignore-account-default"]).await, 0);
    assert!(out.contains("compliant (Compliant True) in cn-beijing: "), "{out}");

    let read = ["acs:ecs:cn-beijing:*:*", "acs:kms:cn-beijing:*:*"];
    let statement =
        json!({"Effect": "Allow", "Action": ["ecs:Describe*", "kms:DescribeKey"], "Resource": read});
    let policy = json!({"Version": "1", "Statement": [statement]});
    cloud.order(reqwest::Method::PUT, "settings", json!({ "limitedPolicy": policy })).await;
    let limited = (sim::cloud::LIMITED_ACCESS_KEY_ID, sim::cloud::LIMITED_ACCESS_KEY_SECRET);
    let both = ["--region", "cn-beijing", "--region", "cn-shanghai", "--ignore-account-default"];
    let (out, err) = ended(&cloud.audit_as(limited.0, limited.1, &both).await, 4);
    assert!(out.contains("incomplete") && out.contains("not read  cn-shanghai"), "{out}");
    assert!(err.contains("cn-shanghai: ") && err.contains("ecs:DescribeDisks"), "{err}");
    let (_, err) = ended(&cloud.audit_as(limited.0, limited.1, &["--region", "cn-shanghai"]).await, 1);
    assert!(err.contains("nothing could be read") && err.contains("deploy/ram/audit.json"), "{err}");
    let (_, err) = ended(&cloud.audit_as("nobody", "nothing", &[]).await, 1);
    assert!(err.contains("nothing could be read"), "{err}");

    for (arguments, words) in [
        (&["--region", "Hangzhou"][..], "--region: \"Hangzhou\" is not a region"),
        (&["--allowed-key-id", "alias/a"], "--allowed-key-id: \"alias/a\" is not the id of a key"),
        (&["--require", "Everything"], "must be AnyKey or CustomerKey"),
        (&["-o", "pdf"], "pdf"),
    ] {
        let (out, err) = ended(&cloud.audit(arguments).await, 2);
        assert!(err.contains(words) && out.is_empty(), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_home_of_the_operator_narrows_no_audit_and_the_verdict_says_where_was_looked() {
    let cloud = Cloud::start().await;
    let (id, secret) = (sim::cloud::ACCESS_KEY_ID, sim::cloud::ACCESS_KEY_SECRET);
    let home = [("ECSKMS_REGION", "cn-beijing")];
    let (out, _) = ended(&cloud.audit_with(&home, id, secret, &["--ignore-account-default"]).await, 3);
    assert!(out.contains(" in ap-southeast-1, cn-beijing, cn-hangzhou, cn-shanghai: "), "{out}");
    let narrowed = [("ECSKMS_AUDIT_REGION", "cn-beijing")];
    let (out, _) = ended(&cloud.audit_with(&narrowed, id, secret, &["--ignore-account-default"]).await, 0);
    assert!(out.contains(" in cn-beijing: "), "{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_for_a_moment_is_read_again() {
    let cloud = Cloud::start().await;
    let fault =
        json!([{"action": "DescribeImages", "times": 1, "status": 503, "code": "ServiceUnavailable"}]);
    cloud.order(reqwest::Method::PUT, "faults", fault).await;
    let (out, err) = ended(&cloud.audit(&["--region", "cn-beijing", "--ignore-account-default"]).await, 0);
    assert!(err.contains("tried again") && out.contains("Compliant True"), "{out}\n{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_try_has_read_is_not_lost_to_the_next() {
    let cloud = Cloud::start().await;
    let order = json!({"do": "create", "kind": "disk", "id": "d-2zeplain", "region": "cn-beijing", "fields": {"sizeGib": 20}});
    cloud.order(reqwest::Method::POST, "resources", order).await;
    let fault = |action: &str, nth: u64| json!({"action": action, "nth": nth, "status": 503, "code": "ServiceUnavailable"});
    let mut faults = vec![fault("DescribeImages", 1)];
    for nth in 2..=4 {
        faults.extend(
            ["DescribeImages", "DescribeDisks", "DescribeSnapshots"].map(|action| fault(action, nth)),
        );
    }
    cloud.order(reqwest::Method::PUT, "faults", json!(faults)).await;
    let (out, _) = ended(&cloud.audit(&["--region", "cn-beijing", "--ignore-account-default"]).await, 3);
    assert!(out.contains("d-2zeplain") && out.contains("not read  cn-beijing"), "{out}");
}
