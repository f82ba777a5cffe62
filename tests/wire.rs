//! The Alibaba client at its wire: signatures stage by stage, and every way in which a server can misbehave.
//!
//! The servers here are tiny and know no API; what the real cloud answers is the business of the simulated
//! cloud's tests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use axum::extract::Query;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use ecskms::alibaba::error::local;
use ecskms::alibaba::gateway::REFUSED_HERE;
use ecskms::alibaba::sign::{
    Headers, Message, Stamp, authorization, canonical_query, canonical_request, sha256_hex, sign,
    string_to_sign,
};
use ecskms::alibaba::transport::{Handler, REPLY_BYTES_MAX};
use ecskms::alibaba::{Class, Clock, Cloud, Credentials, Error, Parameters, Settings, Source, Wire};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const VECTORS: &str = include_str!("vectors/acs3.json");
const SECRET: &str = "the-very-secret";
const TOKEN: &str = "the-very-token";
const REGION: &str = "cn-hangzhou";

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().expect(name)
}

fn map(value: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(value.clone()).expect("a map of text")
}

#[test]
fn every_vector_is_signed_the_same_stage_by_stage() {
    let file: Value = serde_json::from_str(VECTORS).expect("JSON");
    let mut compared = 0;
    for vector in file["vectors"].as_array().expect("a list") {
        if vector["anonymous"] == true {
            continue;
        }
        for form in ["minimal", "sdk_full"] {
            compare(vector, &vector[form], &format!("{} {form}", text(vector, "name")));
            compared += 1;
        }
    }
    assert!(compared >= 14, "only {compared} vectors were compared");
}

fn compare(vector: &Value, form: &Value, name: &str) {
    let headers = map(&form["headers"]);
    // What the signer is told to send in addition; it must make the other headers itself.
    let further = ["accept", "user-agent", "content-type", "x-acs-credentials-provider"];
    let further: Vec<(&str, &str)> =
        further.into_iter().filter_map(|name| Some((name, headers.get(name)?.as_str()))).collect();
    let query = map(&vector["query"]);
    let message = Message {
        method: text(vector, "method"),
        host: text(vector, "host"),
        path: text(vector, "path"),
        action: &headers["x-acs-action"],
        version: &headers["x-acs-version"],
        query: &query,
        headers: &further,
        body: text(vector, "body").as_bytes(),
    };
    let stamp = Stamp { date: text(vector, "date").to_owned(), nonce: text(vector, "nonce").to_owned() };
    let id = text(vector, "access_key_id");
    let credentials =
        Credentials::new(id, text(vector, "access_key_secret"), vector["security_token"].as_str());
    let signed = sign(&message, &credentials, &stamp);
    assert_eq!(sha256_hex(message.body), text(vector, "hashed_payload"), "{name}: body");
    assert_eq!(signed.headers, headers, "{name}: headers");
    assert_eq!(signed.canonical_query, text(vector, "canonical_query"), "{name}: query");
    assert_eq!(*signed.canonical_request, text(form, "canonical_request"), "{name}: canonical request");
    let expected = format!("ACS3-HMAC-SHA256\n{}", text(form, "canonical_request_sha256"));
    assert_eq!(signed.string_to_sign, expected, "{name}: string to sign");
    assert_eq!(string_to_sign(&signed.canonical_request), expected, "{name}: string to sign");
    assert_eq!(signed.authorization, text(form, "authorization"), "{name}: authorization");
}

proptest::proptest! {
    #[test]
    fn no_parameter_can_make_the_wire_differ_from_what_was_signed(
        query in proptest::collection::btree_map("\\PC{1,8}", "(?s).{0,12}", 0..6)
    ) {
        let signed = canonical_query(&query);
        let mut address = reqwest::Url::parse("https://ecs.example.com/").expect("an address");
        address.set_query(Some(&signed));
        proptest::prop_assert_eq!(address.query(), Some(signed.as_str()));
        let decoded: Parameters = address.query_pairs().into_owned().collect();
        proptest::prop_assert_eq!(decoded, query);
    }
}

/// A request as the server got it.
#[derive(Clone)]
struct Seen {
    headers: HeaderMap,
    query: Parameters,
    raw_query: String,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

type Requests = Arc<Mutex<Vec<Seen>>>;

/// A server that answers everything through `answer`, and the list of what it got.
async fn server(answer: impl Fn(&Seen) -> Response + Clone + Send + Sync + 'static) -> (String, Requests) {
    let requests = Requests::default();
    let log = requests.clone();
    let handle = move |uri: Uri, headers: HeaderMap| {
        let raw_query = uri.query().unwrap_or_default().to_owned();
        let Query(query) = Query::<Parameters>::try_from_uri(&uri).expect("a query");
        let seen = Seen { headers, query, raw_query };
        log.lock().expect("unpoisoned").push(seen.clone());
        std::future::ready(answer(&seen))
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(handle)).await });
    (address, requests)
}

fn source() -> Source {
    Source::Static(Credentials::new("the-id", SECRET, Some(TOKEN)))
}

fn cloud(address: &str) -> Cloud {
    cloud_at(address, Clock::system())
}

fn cloud_at(address: &str, clock: Clock) -> Cloud {
    LazyLock::force(&LOG);
    let settings = Settings { endpoint_override: Some(address.to_owned()), clock, ..Settings::default() };
    Cloud::new(settings, source()).expect("valid settings")
}

fn creation() -> Parameters {
    let pairs = [("RegionId", REGION), ("ClientToken", "uid-1"), ("Note", "a b*~+/订"), ("Empty", "")];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The error of a creation against a server that gives this answer.
async fn creation_error(answer: impl Fn(&Seen) -> Response + Clone + Send + Sync + 'static) -> Error {
    let (address, requests) = server(answer).await;
    let error = cloud(&address).create_disk(REGION, &creation()).await.expect_err("a failure");
    assert_eq!(requests.lock().expect("unpoisoned").len(), 1, "one call is one attempt");
    for shown in [format!("{error}"), format!("{error:?}")] {
        assert!(!shown.contains(SECRET) && !shown.contains(TOKEN) && !shown.contains("a b*"), "{shown}");
    }
    error
}

fn json_body(status: u16, body: &Value) -> Response {
    (StatusCode::from_u16(status).expect("a status"), body.to_string()).into_response()
}

#[tokio::test]
async fn what_goes_over_the_wire_is_what_was_signed() {
    let (address, requests) = server(|_| json_body(200, &json!({"DiskId": "d-1", "RequestId": "A-1"}))).await;
    let cloud = cloud(&address);
    let created = cloud.create_disk(REGION, &creation()).await.expect("created");
    assert_eq!((created.id.as_str(), created.request_id.as_deref()), ("d-1", Some("A-1")));
    cloud.create_disk(REGION, &creation()).await.expect("created");
    let requests = requests.lock().expect("unpoisoned").clone();
    for seen in &requests {
        assert_eq!(seen.query, creation(), "recorded parameters are sent exactly as given");
        assert!(seen.raw_query.contains("Note=a%20b%2A~%2B%2F%E8%AE%A2"), "{}", seen.raw_query);
        assert_eq!(seen.header("x-acs-security-token"), TOKEN);
        verify(seen, &address);
    }
    assert_ne!(requests[0].header("x-acs-signature-nonce"), requests[1].header("x-acs-signature-nonce"));
    assert_eq!(cloud.counters(), BTreeMap::from([(("ecs", "CreateDisk", "ok"), 2)]));
}

/// Signs anew what arrived, as a server would, and compares.
fn verify(seen: &Seen, address: &str) {
    assert_eq!(format!("http://{}", seen.header("host")), address);
    let received = seen.header("authorization");
    let names = received.split("SignedHeaders=").nth(1).and_then(|rest| rest.split(',').next());
    let names: Vec<&str> = names.expect("the names of the signed headers").split(';').collect();
    for name in ["host", "accept", "user-agent", "x-acs-date", "x-acs-security-token", "x-acs-accesskey-id"] {
        assert!(names.contains(&name), "{name} is not signed");
    }
    let headers: Headers =
        names.iter().map(|name| ((*name).to_owned(), seen.header(name).to_owned())).collect();
    let query = canonical_query(&seen.query);
    let body = sha256_hex(b"");
    let request = canonical_request("POST", "/", &query, &headers, &body);
    let credentials = Credentials::new("the-id", SECRET, Some(TOKEN));
    let expected = authorization(&credentials, &headers, &string_to_sign(&request));
    assert_eq!(received, expected);
}

#[tokio::test]
async fn html_and_truncated_json_with_200_are_ambiguous_defects() {
    for body in ["<html>maintenance</html>", r#"{"DiskId":"d-1","Req"#, "", "null"] {
        let error = creation_error(move |_| body.into_response()).await;
        assert_eq!((error.class, error.definite(), error.http_status), (Class::Defect, false, Some(200)));
    }
    let error = creation_error(|_| json_body(200, &json!({"RequestId": "A-1"}))).await;
    assert_eq!((error.class, error.definite()), (Class::Defect, false));
    assert_eq!(error.request_id.as_deref(), Some("A-1"));
}

#[tokio::test]
async fn a_huge_body_is_not_read_to_its_end() {
    let error = creation_error(|_| vec![b' '; 10 * 1024 * 1024].into_response()).await;
    assert_eq!((error.code.as_str(), error.definite()), (local::REPLY_TOO_LARGE, false));
    // Without a length in the head, and endless.
    let error = creation_error(|_| {
        let chunks = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 64 * 1024]));
        axum::body::Body::from_stream(chunks).into_response()
    })
    .await;
    assert_eq!((error.code.as_str(), error.definite()), (local::REPLY_TOO_LARGE, false));
    let mut largest = json!({"DiskId": "d-1"}).to_string().into_bytes();
    largest.resize(REPLY_BYTES_MAX, b' ');
    let (address, _) = server(move |_| largest.clone().into_response()).await;
    assert!(cloud(&address).create_disk(REGION, &creation()).await.is_ok(), "the limit itself is allowed");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (elsewhere, visits) = server(|_| json_body(200, &json!({"DiskId": "d-1"}))).await;
    for status in [301, 302, 307, 308] {
        let target = elsewhere.clone();
        let error = creation_error(move |_| {
            let status = StatusCode::from_u16(status).expect("a status");
            (status, [("location", target.clone())]).into_response()
        })
        .await;
        assert_eq!((error.code.as_str(), error.definite()), (local::REDIRECT, false));
    }
    assert!(visits.lock().expect("unpoisoned").is_empty());
}

#[tokio::test]
async fn server_failures_are_transient_and_ambiguous_with_any_body() {
    for body in ["<html>503</html>", r#"{"Code":"ServiceUnavailable","Message":"later"}"#, ""] {
        let error = creation_error(move |_| (StatusCode::SERVICE_UNAVAILABLE, body).into_response()).await;
        assert_eq!((error.class, error.definite(), error.http_status), (Class::Transient, false, Some(503)));
    }
}

#[tokio::test]
async fn a_dropped_or_refused_connection_is_ambiguous() {
    for half_a_reply in [&b""[..], b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"DiskId\":"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let connections = Arc::new(AtomicU32::new(0));
        let counter = connections.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(half_a_reply).await;
            }
        });
        let error = cloud(&address).create_disk(REGION, &creation()).await.expect_err("dropped");
        assert_eq!((error.code.as_str(), error.class), (local::CONNECTION, Class::Transient));
        assert!(!error.definite());
        assert!(!error.to_string().contains("uid-1"), "{error}");
        assert_eq!(connections.load(Ordering::SeqCst), 1, "a broken request is not repeated");
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound");
    let error = cloud(&format!("http://{closed}")).caller_identity().await.expect_err("nobody listens");
    assert_eq!((error.code.as_str(), error.definite()), (local::NOT_CONNECTED, true), "nothing was sent");
    assert!(error.message.contains("refused"), "{error}");
}

#[tokio::test]
async fn an_echoed_string_to_sign_shows_nothing() {
    let error = creation_error(|seen| {
        let message = format!("server string to sign is:{}{TOKEN}{SECRET}", seen.raw_query);
        json_body(400, &json!({"Code": "SignatureDoesNotMatch", "Message": message, "RequestId": "A-1"}))
    })
    .await;
    assert_eq!((error.class, error.definite()), (Class::Credentials, true));
    assert_eq!(error.request_id.as_deref(), Some("A-1"));
    assert!(!error.to_string().contains("ClientToken"), "{error}");
}

#[tokio::test]
async fn a_throttled_action_fails_here_until_the_cloud_allows_it_again() {
    const LEFT_ALONE: Duration = Duration::from_millis(400);
    let (address, requests) = server(|_| {
        let body = json!({"Code": "Throttling.User", "Message": "slow down", "RequestId": "A-1"}).to_string();
        (StatusCode::BAD_REQUEST, [("x-acs-retry-after", "400")], body).into_response()
    })
    .await;
    let cloud = cloud(&address);
    let first = cloud.create_disk(REGION, &creation()).await.expect_err("throttled");
    assert_eq!((first.class, first.definite()), (Class::Throttled, true));
    assert_eq!(first.retry_after, Some(LEFT_ALONE));
    tokio::time::sleep(LEFT_ALONE / 4).await;
    let second = cloud.create_disk(REGION, &creation()).await.expect_err("not sent");
    assert_eq!((second.code.as_str(), second.definite()), (local::THROTTLED, true));
    let left = second.retry_after.expect("it says how long");
    assert!(left > Duration::ZERO && left <= LEFT_ALONE * 3 / 4, "{left:?}");
    assert_eq!(requests.lock().expect("unpoisoned").len(), 1);
    tokio::time::sleep(left).await;
    assert_eq!(cloud.create_disk(REGION, &creation()).await.expect_err("throttled").http_status, Some(400));
    assert_eq!(requests.lock().expect("unpoisoned").len(), 2);
    let counters = cloud.counters();
    assert_eq!(counters[&("ecs", "CreateDisk", "throttled")], 2);
    assert_eq!(counters[&("ecs", "CreateDisk", REFUSED_HERE)], 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_hint_a_throttled_action_waits_for_the_edge_of_the_minute() {
    let sent = Arc::new(AtomicU32::new(0));
    let counter = sent.clone();
    let handler: Handler = Arc::new(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        let body = json!({"Code": "Throttling", "Message": "slow down"}).to_string().into_bytes();
        let reply = http::Response::builder().status(400).body(body).expect("a reply");
        Box::pin(std::future::ready(reply))
    });
    let start: Timestamp = "2026-01-02T03:04:20Z".parse().expect("a timestamp");
    let settings =
        Settings { clock: Clock::runtime(start), wire: Wire::InProcess(handler), ..Settings::default() };
    let cloud = Cloud::new(settings, source()).expect("valid settings");
    let wait = cloud.delete_disk(REGION, "d-1").await.expect_err("throttled").retry_after;
    assert_eq!(wait, Some(Duration::from_secs(40)));
    for second in 1..40 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let error = cloud.delete_disk(REGION, "d-1").await.expect_err("not sent");
        assert_eq!(error.code, local::THROTTLED);
        assert_eq!(error.retry_after, Some(Duration::from_secs(40 - second)));
    }
    assert_eq!(sent.load(Ordering::SeqCst), 1);
    // Other actions and other regions are not concerned.
    let _ = cloud.delete_snapshot(REGION, "s-1").await;
    let _ = cloud.delete_disk("cn-beijing", "d-1").await;
    assert_eq!(sent.load(Ordering::SeqCst), 3);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let _ = cloud.delete_disk(REGION, "d-1").await;
    assert_eq!(sent.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn two_hundred_and_fifty_readings_are_three_calls() {
    let (address, requests) = server(|seen| {
        let ids: Vec<String> = serde_json::from_str(&seen.query["DiskIds"]).expect("a list of ids");
        assert_eq!(seen.query["MaxResults"], "100");
        let disk = |id: &String| json!({"DiskId": id, "Status": "Available", "Encrypted": true});
        // Disk 7 does not exist.
        let disks: Vec<Value> = ids.iter().filter(|id| *id != "d-7").map(disk).collect();
        json_body(200, &json!({"RequestId": "A-1", "Disks": {"Disk": disks}}))
    })
    .await;
    let cloud = cloud(&address);
    let readings = (0..500).map(|number| {
        let cloud = cloud.clone();
        async move {
            let id = format!("d-{}", number % 250);
            (id.clone(), cloud.disk(REGION, &id).await.expect("an answer"))
        }
    });
    for (id, disk) in futures::future::join_all(readings).await {
        assert_eq!(disk.map(|disk| disk.id), (id != "d-7").then_some(id));
    }
    // 500 readings of 250 disks: the second half may join windows that are open, or make as many calls again.
    let calls = requests.lock().expect("unpoisoned").len();
    assert!((3..=6).contains(&calls), "{calls} calls");
}

/// What all tests of this file log, at every level. It is global because tracing remembers for the whole process
/// which of its call sites nobody listens to.
static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).expect("the only subscriber of this process");
    log
});

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().map_err(|_| std::io::Error::other("poisoned"))?.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn logs_name_the_call_and_show_no_parameter_and_no_header() {
    let (address, _) = server(|seen| {
        let message = format!("you sent {}", seen.header("authorization"));
        json_body(403, &json!({"Code": "Forbidden.RAM", "Message": message, "RequestId": "A-77"}))
    })
    .await;
    let cloud = cloud(&address);
    cloud.create_disk(REGION, &creation()).await.expect_err("denied");
    cloud.disk(REGION, "d-1").await.expect_err("denied");
    let text = String::from_utf8(LOG.0.lock().expect("unpoisoned").clone()).expect("text");
    let line = text
        .lines()
        .find(|line| line.contains("CreateDisk") && line.contains("A-77"))
        .expect("the call is logged");
    for part in ["DEBUG", "ecs", REGION, "Forbidden.RAM", "milliseconds"] {
        assert!(line.contains(part), "{part} is missing in {line}");
    }
    for hidden in [SECRET, TOKEN, "uid-1", "ACS3-HMAC-SHA256", "x-acs-", "the-id"] {
        assert!(!text.contains(hidden), "{hidden} is logged: {text}");
    }
}

#[tokio::test]
async fn missing_credentials_send_nothing() {
    let (address, requests) = server(|_| json_body(200, &json!({}))).await;
    let settings = Settings { endpoint_override: Some(address), ..Settings::default() };
    if std::env::var_os(ecskms::alibaba::credentials::ACCESS_KEY_ID).is_some() {
        eprintln!("skipped: this environment has credentials");
        return;
    }
    let cloud = Cloud::new(settings, Source::Environment).expect("valid settings");
    let error = cloud.caller_identity().await.expect_err("no credentials");
    assert_eq!((error.code.as_str(), error.class), (local::CREDENTIALS_MISSING, Class::Credentials));
    assert!(error.definite() && requests.lock().expect("unpoisoned").is_empty());
}
