//! Persistence of the embedded Kubernetes API: what a restart keeps, and what a crash may leave behind.
//!
//! Crashes are simulated by editing the files, as they would be found afterwards.

mod kube_client;

use std::io::Write;
use std::path::{Path, PathBuf};

use kube_client::{CONFIG_MAPS, Client, definition};
use serde_json::json;
use sim::kube::{Options, Server};

/// A fresh folder below the build's scratch space.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    drop(std::fs::remove_dir_all(&folder));
    folder
}

#[tokio::test]
async fn a_restart_keeps_objects_kinds_and_the_revision() {
    let folder = folder("restart");
    let client = Client::stored_in(&folder);
    let made = client.config_map("one", json!({})).await;
    client.config_map("two", json!({})).await;
    client.delete(&format!("{CONFIG_MAPS}/two")).await;
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    assert_eq!(client.post(path, definition("gears", "Gear")).await.code, 201);
    let revision = client.get("/_kube/stats").await.body["revision"].clone();
    drop(client);
    let client = Client::stored_in(&folder);
    assert_eq!(client.get(&format!("{CONFIG_MAPS}/one")).await.body, made);
    assert_eq!(client.get(&format!("{CONFIG_MAPS}/two")).await.code, 404);
    assert_eq!(client.get("/apis/tests.example/v1/gears").await.code, 200);
    assert_eq!(client.get("/_kube/stats").await.body["revision"], revision);
    let version = made["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = client.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={version}")).await;
    assert_eq!(watch.next().await.unwrap().unwrap()["object"]["code"], 410);
}

#[tokio::test]
async fn a_half_written_last_line_is_dropped() {
    let folder = folder("torn");
    let client = Client::stored_in(&folder);
    let made = client.config_map("one", json!({})).await;
    drop(client);
    let log = folder.join("kube-log.jsonl");
    let mut file = std::fs::OpenOptions::new().append(true).open(log).unwrap();
    file.write_all(b"{\"put\":{\"revision\":9999,\"store\":\"configm").unwrap();
    drop(file);
    let client = Client::stored_in(&folder);
    assert_eq!(client.get(&format!("{CONFIG_MAPS}/one")).await.body, made);
    client.config_map("two", json!({})).await;
    drop(client);
    assert_eq!(Client::stored_in(&folder).get(&format!("{CONFIG_MAPS}/two")).await.code, 200);
}

#[tokio::test]
async fn a_log_older_than_the_snapshot_is_skipped() {
    let folder = folder("older");
    let client = Client::stored_in(&folder);
    client.config_map("one", json!({})).await;
    drop(client);
    let (log, old) = (folder.join("kube-log.jsonl"), folder.join("old"));
    std::fs::copy(&log, &old).unwrap();
    // Opening folds the log into the snapshot; a crash before the log was emptied would leave it as it was.
    let client = Client::stored_in(&folder);
    client.delete(&format!("{CONFIG_MAPS}/one")).await;
    drop(client);
    drop(Client::stored_in(&folder));
    std::fs::copy(&old, &log).unwrap();
    assert_eq!(Client::stored_in(&folder).get(&format!("{CONFIG_MAPS}/one")).await.code, 404);
}

#[tokio::test]
async fn a_snapshot_that_does_not_parse_is_an_error() {
    let folder = folder("broken");
    drop(Client::stored_in(&folder));
    std::fs::write(folder.join("kube-snapshot.json"), "{").unwrap();
    assert!(Server::new(Options { data_dir: Some(folder) }).is_err());
}
