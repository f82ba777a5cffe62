//! Lists, pages and watches of the embedded Kubernetes API, over the router and over a real socket.
//!
//! The order and shape of events is compared with a real server by the conformance suite; here are the edges.

mod kube_client;

use std::time::Duration;

use kube_client::{CONFIG_MAPS, Client};
use serde_json::{Value, json};
use sim::kube::{Options, Server, kubeconfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn names(list: &Value) -> Vec<&str> {
    list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect()
}

#[tokio::test]
async fn pages_show_one_moment_whatever_happens_between_them() {
    let client = Client::new();
    for name in ["a", "b", "c", "d"] {
        client.config_map(name, json!({})).await;
    }
    let first = client.get(&format!("{CONFIG_MAPS}?limit=2")).await.body;
    assert_eq!((names(&first), &first["metadata"]["remainingItemCount"]), (vec!["a", "b"], &json!(2)));
    client.delete(&format!("{CONFIG_MAPS}/c")).await;
    client.config_map("bb", json!({})).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = client.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await.body;
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert_eq!(names(&client.get(CONFIG_MAPS).await.body), ["a", "b", "bb", "d"]);
}

#[tokio::test]
async fn a_page_after_compaction_is_gone_but_offers_a_way_on() {
    let client = Client::new();
    for name in ["a", "b", "c"] {
        client.config_map(name, json!({})).await;
    }
    let first = client.get(&format!("{CONFIG_MAPS}?limit=1")).await.body;
    client.config_map("d", json!({})).await;
    assert_eq!(client.put("/_kube/faults", json!({ "compact": true })).await.code, 200);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let gone = client.get(&format!("{CONFIG_MAPS}?limit=1&continue={token}")).await;
    assert_eq!((gone.code, &gone.body["reason"]), (410, &json!("Expired")));
}

#[tokio::test]
async fn a_watch_shows_the_present_then_the_changes() {
    let client = Client::new();
    client.config_map("a", json!({})).await;
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = client.watch(&format!("{CONFIG_MAPS}?{query}")).await;
    assert_eq!(watch.short().await, "ADDED a");
    let mark = watch.next().await.unwrap().unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    client.merge(&format!("{CONFIG_MAPS}/a"), json!({ "data": { "key": "new" } })).await;
    client.delete(&format!("{CONFIG_MAPS}/a")).await;
    assert_eq!(watch.short().await, "MODIFIED a");
    assert_eq!(watch.short().await, "DELETED a");
}

#[tokio::test]
async fn an_object_that_leaves_the_selector_is_deleted_for_the_watch() {
    let client = Client::new();
    let mut watch = client.watch(&format!("{CONFIG_MAPS}?watch=1&labelSelector=on%3Dyes")).await;
    client.config_map("a", json!({ "labels": { "on": "no" } })).await;
    let label = |value: &str| json!({ "metadata": { "labels": { "on": value } } });
    client.merge(&format!("{CONFIG_MAPS}/a"), label("yes")).await;
    client.merge(&format!("{CONFIG_MAPS}/a"), label("no")).await;
    assert_eq!(watch.short().await, "ADDED a");
    let left = watch.next().await.unwrap().unwrap();
    assert_eq!(
        (&left["type"], &left["object"]["metadata"]["labels"]["on"]),
        (&json!("DELETED"), &json!("yes"))
    );
}

#[tokio::test]
async fn a_watch_from_before_the_compaction_is_told_so_and_ends() {
    let client = Client::new();
    let made = client.config_map("a", json!({})).await;
    client.config_map("b", json!({})).await;
    client.put("/_kube/faults", json!({ "compact": true })).await;
    let version = made["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = client.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={version}")).await;
    let event = watch.next().await.unwrap().unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert!(watch.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_revision_from_the_future_is_refused_with_a_hint() {
    let client = Client::new();
    let answer = client
        .get(&format!("{CONFIG_MAPS}?resourceVersion=99999999&resourceVersionMatch=NotOlderThan"))
        .await;
    assert_eq!(answer.code, 504);
    assert_eq!(answer.headers["retry-after"], "1");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_gets_a_bookmark_and_ends_in_time() {
    let client = Client::new();
    let version =
        client.get(CONFIG_MAPS).await.body["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let query = format!("watch=1&resourceVersion={version}&allowWatchBookmarks=true&timeoutSeconds=5");
    let mut watch = client.watch(&format!("{CONFIG_MAPS}?{query}")).await;
    let mark = watch.next().await.unwrap().unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert!(watch.next().await.unwrap().is_none());
}

#[tokio::test]
async fn dropped_watches_break_off_in_the_middle() {
    let client = Client::new();
    client.config_map("a", json!({})).await;
    let mut watch = client.watch(&format!("{CONFIG_MAPS}?watch=1")).await;
    assert_eq!(watch.short().await, "ADDED a");
    client.put("/_kube/faults", json!({ "dropWatches": true })).await;
    assert!(watch.next().await.is_err());
    let mut next = client.watch(&format!("{CONFIG_MAPS}?watch=1")).await;
    assert_eq!(next.short().await, "ADDED a");
}

#[tokio::test]
async fn faults_strike_what_they_name_as_often_as_they_say() {
    let client = Client::new();
    let rule = json!({
        "verb": "create", "resource": "configmaps", "skip": 1, "times": 2, "status": 429,
        "retryAfterSeconds": 7,
    });
    assert_eq!(client.put("/_kube/faults", json!({ "rules": [rule] })).await.code, 200);
    let mut codes = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let answer = client.post(CONFIG_MAPS, json!({ "metadata": { "name": name } })).await;
        if answer.code == 429 {
            assert_eq!(answer.headers["retry-after"], "7");
        }
        codes.push(answer.code);
    }
    assert_eq!(codes, [201, 429, 429, 201]);
    assert_eq!(client.get(CONFIG_MAPS).await.code, 200);
    let wrong = client.put("/_kube/faults", json!({ "rules": [{ "status": 418 }] })).await;
    assert_eq!(wrong.code, 400);
}

#[tokio::test]
async fn a_fault_after_the_effect_hides_a_success() {
    let client = Client::new();
    let rule = json!({ "verb": "create", "status": 500, "times": 1, "afterEffect": true });
    client.put("/_kube/faults", json!({ "rules": [rule] })).await;
    let body = json!({ "metadata": { "name": "a" } });
    assert_eq!(client.post(CONFIG_MAPS, body.clone()).await.code, 500);
    assert_eq!(client.post(CONFIG_MAPS, body).await.code, 409);
}

#[tokio::test]
async fn random_faults_repeat_with_their_seed() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let client = Client::new();
        let rule = json!({ "probability": 0.5, "status": 503 });
        client.put("/_kube/faults", json!({ "seed": 7, "rules": [rule] })).await;
        let mut codes = Vec::new();
        for _ in 0..32 {
            codes.push(client.get(CONFIG_MAPS).await.code);
        }
        assert!(codes.contains(&503) && codes.contains(&200));
        runs.push(codes);
    }
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test]
async fn a_server_on_a_socket_answers_and_ends_its_watches_at_shutdown() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = Server::new(Options::default()).unwrap();
    let task = tokio::spawn(server.serve(listener, async move { drop(stopped.await) }));
    assert!(kubeconfig(address).contains(&format!("server: http://{address}")));
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = "GET /api/v1/namespaces?watch=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut buffer = [0; 512];
    let read = socket.read(&mut buffer).await.unwrap();
    assert!(buffer[..read].starts_with(b"HTTP/1.1 200 OK"));
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), task).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn an_address_beyond_loopback_is_refused() {
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let error = Server::new(Options::default()).unwrap().serve(listener, async {}).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}
