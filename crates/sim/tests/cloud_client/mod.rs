//! A small signing client that calls a cloud in process, for the tests of the cloud.
//!
//! Deliberately not the operator's client: these tests stand on the published signature rules and on nothing
//! else of the project.

#![allow(dead_code, reason = "each test binary uses its own part of the client")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, Request};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sim::cloud::names::hex;
use sim::cloud::verify::{Signed, canonical_request, encode, string_to_sign};
use sim::cloud::{
    ACCESS_KEY_ID, ACCESS_KEY_SECRET, Cloud, LIMITED_ACCESS_KEY_ID, LIMITED_ACCESS_KEY_SECRET, Options,
};
use tower::ServiceExt;

pub const REGION: &str = "cn-hangzhou";
pub const ZONE: &str = "cn-hangzhou-i";
pub const KEY: &str = "key-hzz65f0a1b2c3d4e5f6a7b8";
pub const SECOND_KEY: &str = "key-hzz65f0a1b2c3d4e5f6a7c9";
pub const DISABLED_KEY: &str = "key-hzz65f0a1b2c3d4e5f6a7d0";
pub const DOOMED_KEY: &str = "key-hzz65f0a1b2c3d4e5f6a7e1";
pub const RSA_KEY: &str = "key-hzz65f0a1b2c3d4e5f6a7f2";
pub const SHANGHAI_KEY: &str = "4c5d6e7f-8091-4a2b-93c4-d5e6f7a8b9c0";
pub const SERVICE_KEY: &str = "9d1e7f42-6c8b-4a35-b0d1-e2f3a4b5c6d7";
pub const WEB: &str = "m-bp1web40g00000000001";
pub const APP: &str = "m-bp1app20g00000000002";
pub const ALL: &str = "Creating,Waiting,Available,UnAvailable,CreateFailed,Deprecated";

static NONCE: AtomicU64 = AtomicU64::new(1);

/// A caller of one cloud.
#[derive(Clone)]
pub struct Client {
    pub router: axum::Router,
    pub key_id: String,
    pub secret: String,
    pub token: Option<String>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
    pub body: Value,
}

/// The administrator of a fresh starting account at real pace.
pub fn client() -> Client {
    client_of(Options::default())
}

/// The administrator of a fresh cloud.
pub fn client_of(options: Options) -> Client {
    let router = Cloud::new(options).router();
    Client { router, key_id: ACCESS_KEY_ID.into(), secret: ACCESS_KEY_SECRET.into(), token: None }
}

/// Lets simulated time pass; the runtime must be paused.
pub async fn pass(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

impl Client {
    /// The limited caller of the same cloud.
    pub fn limited(&self) -> Client {
        let (key_id, secret) = (LIMITED_ACCESS_KEY_ID.into(), LIMITED_ACCESS_KEY_SECRET.into());
        Client { key_id, secret, ..self.clone() }
    }

    /// A signed call whose answer may be anything.
    pub async fn call(&self, action: &str, parameters: &[(&str, &str)]) -> Reply {
        self.send(self.request(action, parameters)).await
    }

    /// A signed call that must succeed.
    pub async fn ok(&self, action: &str, parameters: &[(&str, &str)]) -> Value {
        let reply = self.call(action, parameters).await;
        assert_eq!(reply.status, 200, "{action} was refused: {}", reply.text);
        reply.body
    }

    /// A signed call that must be refused with this status and code.
    pub async fn refused(&self, status: u16, code: &str, action: &str, parameters: &[(&str, &str)]) -> Value {
        let reply = self.call(action, parameters).await;
        let seen = (reply.status, reply.body["Code"].as_str().unwrap_or("OK").to_string());
        assert_eq!(seen, (status, code.to_string()), "{action} {parameters:?}: {}", reply.text);
        reply.body
    }

    /// Sends any request.
    pub async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.expect("a router cannot fail");
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Reply { status, headers, text, body }
    }

    /// A signed request with a fresh nonce and the present date.
    pub fn request(&self, action: &str, parameters: &[(&str, &str)]) -> Request<Body> {
        let date = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let nonce = format!("nonce-{}", NONCE.fetch_add(1, Ordering::Relaxed));
        self.request_at(action, parameters, &date, &nonce)
    }

    /// A signed request with a given date and nonce.
    pub fn request_at(
        &self,
        action: &str,
        parameters: &[(&str, &str)],
        date: &str,
        nonce: &str,
    ) -> Request<Body> {
        let query: Vec<(String, String)> =
            parameters.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let payload = hex(&Sha256::digest(b""));
        let mut headers = HeaderMap::new();
        let version = version_of(action);
        let mut put = |name: &'static str, value: &str| {
            headers.insert(name, HeaderValue::from_str(value).expect("a header value"));
        };
        put("host", "cloud.test");
        put("x-acs-action", action.split_once(':').map_or(action, |(_, name)| name));
        put("x-acs-version", version);
        put("x-acs-date", date);
        put("x-acs-signature-nonce", nonce);
        put("x-acs-content-sha256", &payload);
        if let Some(token) = &self.token {
            put("x-acs-security-token", token);
            put("x-acs-accesskey-id", &self.key_id);
        }
        let mut names: Vec<String> = headers.keys().map(|name| name.to_string()).collect();
        names.sort();
        headers.insert("accept", HeaderValue::from_static("application/json"));
        let signed = Signed { method: "POST", path: "/", query: &query, headers: &headers, body: b"" };
        let text = string_to_sign(&canonical_request(&signed, &names, &payload));
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).expect("any key will do");
        mac.update(text.as_bytes());
        let signature = hex(&mac.finalize().into_bytes());
        let line = format!(
            "ACS3-HMAC-SHA256 Credential={},SignedHeaders={},Signature={signature}",
            self.key_id,
            names.join(";")
        );
        headers.insert("authorization", HeaderValue::from_str(&line).expect("a header value"));
        let pairs: Vec<String> =
            query.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
        let mut request =
            Request::post(format!("/?{}", pairs.join("&"))).body(Body::empty()).expect("a request");
        *request.headers_mut() = headers;
        request
    }

    /// A call to `/_sim/` that must succeed.
    pub async fn control(&self, method: &str, path: &str, body: Value) -> Value {
        let reply = self.control_reply(method, path, body).await;
        assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text);
        reply.body
    }

    /// A call to `/_sim/` whose answer may be anything.
    pub async fn control_reply(&self, method: &str, path: &str, body: Value) -> Reply {
        let builder = Request::builder().method(method).uri(format!("/_sim/{path}"));
        let builder = builder.header("content-type", "application/json");
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.send(builder.body(body).expect("a request")).await
    }

    /// Changes settings.
    pub async fn settings(&self, patch: Value) {
        self.control("PUT", "settings", patch).await;
    }

    /// Plans faults.
    pub async fn faults(&self, planned: Value) {
        self.control("PUT", "faults", planned).await;
    }

    /// Makes a resource and answers its id.
    pub async fn make(&self, kind: &str, fields: Value) -> String {
        let order = json!({"do": "create", "kind": kind, "fields": fields});
        let made = self.control("POST", "resources", order).await;
        made["id"].as_str().expect("an id").to_string()
    }

    /// The image, seen with every status.
    pub async fn image(&self, id: &str) -> Option<Value> {
        let body = self.ok("DescribeImages", &[("RegionId", REGION), ("ImageId", id), ("Status", ALL)]).await;
        body["Images"]["Image"].as_array().expect("a list").first().cloned()
    }

    /// The disk.
    pub async fn disk(&self, id: &str) -> Option<Value> {
        let ids = json!([id]).to_string();
        let body = self.ok("DescribeDisks", &[("RegionId", REGION), ("DiskIds", &ids)]).await;
        body["Disks"]["Disk"].as_array().expect("a list").first().cloned()
    }

    /// The snapshot.
    pub async fn snapshot(&self, id: &str) -> Option<Value> {
        let ids = json!([id]).to_string();
        let body = self.ok("DescribeSnapshots", &[("RegionId", REGION), ("SnapshotIds", &ids)]).await;
        body["Snapshots"]["Snapshot"].as_array().expect("a list").first().cloned()
    }

    /// The status of an instance, or `gone`.
    pub async fn instance_status(&self, id: &str) -> String {
        let ids = json!([id]).to_string();
        let body = self.ok("DescribeInstances", &[("RegionId", REGION), ("InstanceIds", &ids)]).await;
        body["Instances"]["Instance"][0]["Status"].as_str().unwrap_or("gone").to_string()
    }
}

/// An encrypting copy within the region.
pub fn copy_of<'a>(source: &'a str, name: &'a str, token: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("RegionId", REGION),
        ("ImageId", source),
        ("DestinationRegionId", REGION),
        ("DestinationImageName", name),
        ("Encrypted", "true"),
        ("KMSKeyId", KEY),
        ("ClientToken", token),
    ]
}

/// A blank encrypted disk.
pub fn disk_of<'a>(token: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut all = BTreeMap::from([
        ("RegionId", REGION),
        ("ZoneId", ZONE),
        ("DiskCategory", "cloud_essd"),
        ("Size", "20"),
        ("Encrypted", "true"),
        ("KMSKeyId", KEY),
        ("ClientToken", token),
    ]);
    all.extend(more.iter().copied());
    all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// `kms:X`, `ram:X`, `sts:X`; everything else is ECS.
fn version_of(action: &str) -> &'static str {
    match action.split_once(':').map(|(service, _)| service) {
        Some("kms") => "2016-01-20",
        Some("ram") => "2015-05-01",
        Some("sts") => "2015-04-01",
        _ => "2014-05-26",
    }
}
