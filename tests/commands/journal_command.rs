//! `ecskms journal` as a process: from a cluster over real sockets, from files and from a pipe, and how each ends.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ecskms::kinds::KeyRevocation;
use ecskms::kinds::key_revocation::journal::{self, Line};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

/// An embedded Kubernetes API with one KeyRevocation, and a folder; both go with the test.
struct Cluster {
    folder: PathBuf,
    address: SocketAddr,
    api: Api<KeyRevocation>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Cluster {
    async fn start(name: &str) -> Cluster {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let server = sim::kube::Server::new(sim::kube::Options { data_dir: None }).expect("an empty store");
        tokio::spawn(server.serve(listener, std::future::pending()));
        let config = kube::Config::new(format!("http://{address}").parse().expect("a URL"));
        let client = Client::try_from(config).expect("a client");
        let crds = Api::all(client.clone());
        for crd in ecskms::manifests::crds() {
            crds.create(&Default::default(), &crd).await.expect("the CRD is accepted");
        }
        let folder = std::env::temp_dir().join(format!("ecskms-journal-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("kubeconfig"), sim::kube::kubeconfig(address)).expect("written");
        let api = Api::all(client);
        let spec = json!({
            "region": "cn-hangzhou", "keyId": "key-a", "desiredState": "Revoked",
            "reason": "a leaked credential", "requestedBy": "alice",
        });
        let object = KeyRevocation::new("leak", serde_json::from_value(spec).expect("a spec"));
        let mut until = 0;
        while let Err(error) = api.create(&Default::default(), &object).await {
            until += 1;
            assert!(until < 100, "{error}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        Cluster { folder, address, api }
    }

    /// Writes a journal of so many entries into status, as the operator would.
    async fn write(&self, count: i64) {
        let uid = self.api.get("leak").await.expect("it is there").metadata.uid.expect("a uid");
        let (mut entries, mut anchor) = (Vec::new(), None);
        for number in 0..count {
            let line = Line {
                time: jiff::Timestamp::now(),
                action: "DisableKey".into(),
                target: format!("key-{number}"),
                request_id: Some(format!("R-{number}")),
                result: "Accepted".into(),
            };
            journal::append(&uid, &mut entries, &mut anchor, line);
        }
        self.patch(json!({"status": {"journal": entries, "journalAnchor": anchor}})).await;
    }

    async fn patch(&self, status: Value) {
        let patched = self.api.patch_status("leak", &PatchParams::default(), &Patch::Merge(status)).await;
        patched.expect("status is accepted");
    }

    /// Runs to the end in the folder.
    async fn run(&self, arguments: &[&str], input: &str) -> Output {
        run(&self.folder, arguments, input).await
    }
}

async fn run(folder: &Path, arguments: &[&str], input: &str) -> Output {
    run_with(folder, &[], arguments, input).await
}

async fn run_with(folder: &Path, set: &[(&str, &str)], arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecskms"));
    command.env_clear().current_dir(folder).env("KUBECONFIG", folder.join("kubeconfig"));
    command.envs(set.iter().copied());
    command.arg("journal").args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let input = input.to_owned();
    let done = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().expect("the program starts");
        // Whoever does not read it is told nothing.
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        child.wait_with_output().expect("it ends")
    });
    done.await.expect("it ends")
}

#[track_caller]
fn ended(output: &Output, code: i32) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
    (out, err)
}

fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_of_the_cluster_is_printed_and_verified_wherever_it_is_saved() {
    let cluster = Cluster::start("whole").await;
    let (out, _) = ended(&cluster.run(&["leak"], "").await, 0);
    assert!(lines(&out)[0]["message"].as_str().is_some_and(|text| text.contains("no entry yet")), "{out}");
    for count in [3, 130] {
        cluster.write(count).await;
        let (out, _) = ended(&cluster.run(&["leak"], "").await, 0);
        let printed = lines(&out);
        let (result, entries) = printed.split_last().expect("lines");
        assert_eq!(entries.len() as i64, count.min(50));
        assert_eq!(entries.last().expect("entries")["seq"], count);
        assert_eq!(
            (&result["whole"], &result["exitCode"], &result["name"]),
            (&json!(true), &json!(0), &json!("leak"))
        );
        let object = cluster.api.get("leak").await.expect("it is there");
        let yaml = serde_saphyr::to_string(&object).expect("YAML");
        std::fs::write(cluster.folder.join("leak.yaml"), &yaml).expect("written");
        for (arguments, input) in [
            (["-f", "leak.yaml"], ""),
            (["-f", "-"], yaml.as_str()),
            (["-f", "-"], &serde_json::to_string_pretty(&object).expect("JSON")),
            (["-f", "-"], &out),
        ] {
            let (again, _) = ended(&cluster.run(&arguments, input).await, 0);
            assert_eq!(lines(&again)[..], printed[..], "{arguments:?}");
        }
        let (table, _) = ended(&cluster.run(&["leak", "-o", "table"], "").await, 0);
        assert!(table.contains("R-2") || count > 50, "{table}");
        assert!(table.contains("whole: entries") && table.contains("cannot show"), "{table}");
        assert!(!table.contains('\u{1b}'), "no colours in a pipe");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_was_changed_ends_with_three_and_names_the_entry() {
    let cluster = Cluster::start("broken").await;
    cluster.write(5).await;
    let object = cluster.api.get("leak").await.expect("it is there");
    let mut entries = json!(object.status.expect("a status").journal);
    entries[3]["result"] = json!("Denied\u{1b}[2J");
    cluster.patch(json!({"status": {"journal": entries}})).await;
    let (out, err) = ended(&cluster.run(&["leak"], "").await, 3);
    let result = lines(&out).pop().expect("a line");
    assert_eq!((&result["whole"], &result["brokenAt"]), (&json!(false), &json!(4)));
    assert!(err.contains("entry 4: an entry was changed") && err.contains("ActionTrail"), "{err}");
    let (table, _) = ended(&cluster.run(&["leak", "-o", "table"], "").await, 3);
    assert!(table.contains("BROKEN: entry 4") && !table.contains('\u{1b}'), "{table}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_ends_with_one_and_what_cannot_be_meant_with_two() {
    let cluster = Cluster::start("unread").await;
    for (arguments, input, words) in [
        (&["gone"][..], "", "KeyRevocation gone cannot be read"),
        (&["leak", "--context", "elsewhere"], "", "no cluster"),
        (&["-f", "not-there.yaml"], "", "not-there.yaml cannot be read"),
        (&["-f", "-"], "{", "standard input cannot be read: it is not JSON"),
        (&["-f", "-"], "kind: Secret\n", "it is a Secret, not a KeyRevocation"),
        (&["-f", "kubeconfig"], "", "it is a Config, not a KeyRevocation"),
    ] {
        let (out, err) = ended(&cluster.run(arguments, input).await, 1);
        assert!(out.is_empty() && err.contains(words), "{arguments:?}: {err}");
    }
    for arguments in [&[][..], &["leak", "-f", "-"], &["leak", "-o", "yaml"], &["leak", "other"]] {
        ended(&cluster.run(arguments, "").await, 2);
    }
    // Nobody listens there.
    let nowhere = sim::kube::kubeconfig("127.0.0.1:1".parse().expect("an address"));
    std::fs::write(cluster.folder.join("kubeconfig"), nowhere).expect("written");
    let (_, err) = ended(&cluster.run(&["leak"], "").await, 1);
    assert!(err.contains("refused") && err.contains("way to the cluster"), "{err} {}", cluster.address);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_typed_goes_before_the_environment() {
    let cluster = Cluster::start("typed").await;
    let object = json!(cluster.api.get("leak").await.expect("it is there")).to_string();
    std::fs::write(cluster.folder.join("leak.json"), &object).expect("written");
    let with = |set: &'static [(&'static str, &'static str)], arguments: &'static [&'static str]| {
        run_with(&cluster.folder, set, arguments, "")
    };
    ended(&with(&[("ECSKMS_CONTEXT", "elsewhere")], &["-f", "leak.json"]).await, 0);
    ended(&with(&[("ECSKMS_FILE", "not-there.json")], &["leak"]).await, 0);
    ended(&with(&[("ECSKMS_FILE", "leak.json")], &[]).await, 0);
    for arguments in [&["leak", "-f", "leak.json"][..], &["-f", "leak.json", "--context", "ecskms"]] {
        let (_, err) = ended(&with(&[], arguments).await, 2);
        assert!(err.contains("not"), "{err}");
    }
    let (help, _) = ended(&with(&[], &["--help"]).await, 0);
    assert!(help.contains("Exit codes: 0 the journal is whole;") && help.contains("ECSKMS_FILE"), "{help}");
}

/// An API that answers everything with one status code.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refusal_has_its_own_remedy() {
    let cluster = Cluster::start("refused").await;
    for (code, words) in [(401, "Sign in again"), (403, "ecskms-revocation-auditor"), (503, "Try again")] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let answer = move || async move {
            let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "reason": "Refused", "message": "refused", "code": code});
            (axum::http::StatusCode::from_u16(code).expect("a code"), axum::Json(body))
        };
        let app = axum::Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, app).await });
        std::fs::write(cluster.folder.join("kubeconfig"), sim::kube::kubeconfig(address)).expect("written");
        let (_, err) = ended(&cluster.run(&["leak"], "").await, 1);
        assert!(err.contains(words), "{code}: {err}");
        assert_eq!(err.contains("ecskms-revocation-auditor"), code == 403, "{err}");
    }
}
