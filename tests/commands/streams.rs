//! The program as a process whose streams fail, and flags from its environment: what is lost is told, and nothing panics.

use std::fs::File;
use std::process::{Command, Output, Stdio};

const KEY: &str = "key-hzz65f0a1b2c3d4e5f6a7b8";

/// A simulated cloud on a port of its own; it ends with the test.
async fn cloud() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let options = sim::cloud::Options { time_scale: 1.0, start_account: true, seed: 3 };
    tokio::spawn(sim::cloud::Cloud::new(options).serve(listener, std::future::pending()));
    address
}

/// Runs the program with nothing in its environment but credentials and these.
async fn run(line: &[&str], environment: &[(&str, &str)], out: Stdio, err: Stdio) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecskms"));
    command
        .env_clear()
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", sim::cloud::ACCESS_KEY_ID)
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", sim::cloud::ACCESS_KEY_SECRET)
        .envs(environment.iter().copied())
        .args(line)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err);
    let wait = move || command.spawn().expect("the program starts").wait_with_output().expect("it ends");
    tokio::task::spawn_blocking(wait).await.expect("it ends")
}

/// A disk without room.
fn full() -> Stdio {
    File::options().write(true).open("/dev/full").expect("Linux has one").into()
}

/// A pipe whose reader has gone.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_that_does_not_fit_on_the_disk_is_no_success() {
    let cloud = cloud().await;
    let audit = ["audit", "--cloud-endpoint", &cloud, "--region", "cn-hangzhou", "-o", "json"];
    for line in [&["crds"][..], &audit] {
        let output = run(line, &[], full(), Stdio::piped()).await;
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line:?}: {err}");
        assert_eq!(err.lines().filter(|line| line.starts_with("ecskms: ")).count(), 1, "{err}");
        assert!(err.contains("standard output could not be written"), "{err}");
        let output = run(line, &[], closed(), Stdio::piped()).await;
        assert!(matches!(output.status.code(), Some(0 | 3)), "a reader may go: {}", text(&output.stderr));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_cut_and_recorded_although_nobody_can_be_told() {
    let cloud = cloud().await;
    let record = std::env::temp_dir().join(format!("ecskms-streams-{}.json", std::process::id()));
    let path = record.display().to_string();
    let line = ["revoke", KEY, "--region", "cn-hangzhou", "--reason", "a leaked credential", "--yes"];
    let line = [&line[..], &["--record", &path, "--cloud-endpoint", &cloud]].concat();
    let output = run(&line, &[], full(), Stdio::piped()).await;
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("the record on disk has all of it"), "{err}");
    let written: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&record).expect("a record")).expect("JSON");
    assert_eq!(written["status"]["priorState"]["keyState"], "Enabled", "{written}");
    let output = run(&line, &[], Stdio::piped(), Stdio::piped()).await;
    assert_eq!(output.status.code(), Some(0), "the same command tells the outcome: {output:?}");
    let _ = std::fs::remove_file(&record);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_standard_error_changes_no_exit_code() {
    let cloud = cloud().await;
    let audit = ["audit", "--cloud-endpoint", &cloud, "--region", "cn-hangzhou"];
    let refused = ["audit", "--cloud-endpoint", "http://127.0.0.1:1", "--region", "Hangzhou"];
    let unconfirmed = ["revoke", KEY, "--region", "cn-hangzhou", "--reason", "a leaked credential"];
    let unconfirmed = [&unconfirmed[..], &["--record", "/nowhere/record.json"]].concat();
    for (line, code) in [(&audit[..], 3), (&refused, 2), (&unconfirmed, 2)] {
        for log in ["off", "debug", "no=such=filter"] {
            let output = run(line, &[("ECSKMS_LOG", log)], Stdio::piped(), closed()).await;
            assert_eq!(output.status.code(), Some(code), "{line:?} with {log}: {}", text(&output.stdout));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flags_in_the_environment_take_the_usual_words_and_one_command_leaves_the_other_alone() {
    let cloud = cloud().await;
    let line = ["revoke", KEY, "--region", "cn-hangzhou", "--reason", "a leaked credential"];
    let line = [&line[..], &["--cloud-endpoint", &cloud, "-o", "json"]].concat();
    for word in ["1", "yes", "on", "true"] {
        let environment = [("ECSKMS_PLAN", word), ("ECSKMS_AUDIT_OUTPUT", "html"), ("ECSKMS_YES", "0")];
        let output = run(&line, &environment, Stdio::piped(), Stdio::piped()).await;
        assert_eq!(output.status.code(), Some(0), "{word}: {}", text(&output.stderr));
        assert!(text(&output.stdout).contains("\"Planned\""), "{word}: {}", text(&output.stdout));
    }
    let output = run(&line, &[("ECSKMS_PLAN", "perhaps")], Stdio::piped(), Stdio::piped()).await;
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("perhaps"), "{}", text(&output.stderr));
}
