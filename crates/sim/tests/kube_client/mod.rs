//! A small HTTP client for the tests of the embedded Kubernetes API: requests in process, answers as JSON.
//!
//! It knows nothing of Kubernetes; the tests write the paths and bodies themselves.
#![allow(dead_code, reason = "each test file uses its part of the client")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "whatever fails here fails the test")]

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use futures::StreamExt;
use serde_json::{Value, json};
use sim::kube::{Options, Server};
use tower::ServiceExt;

/// Longest wait for something that another task does, in tries of ten milliseconds.
const TRIES_MAX: usize = 500;

/// An answer.
pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub body: Value,
    pub text: String,
}

/// A server and the way to ask it.
#[derive(Clone)]
pub struct Client {
    pub server: Server,
}

impl Client {
    pub fn new() -> Client {
        Client { server: Server::new(Options::default()).unwrap() }
    }

    pub fn stored_in(folder: &std::path::Path) -> Client {
        Client { server: Server::new(Options { data_dir: Some(folder.to_owned()) }).unwrap() }
    }

    pub async fn send(&self, method: &str, path: &str, kind: &str, body: impl Into<Body>) -> Answer {
        self.send_with(method, path, &[("content-type", kind)], body).await
    }

    pub async fn send_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("user-agent", "tests/1.0");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let reply = self.server.router().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = reply.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { code: parts.status.as_u16(), headers: parts.headers, body, text }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", Body::empty()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, "application/json", body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send("PUT", path, "application/json", body.to_string()).await
    }

    pub async fn merge(&self, path: &str, body: Value) -> Answer {
        self.send("PATCH", path, "application/merge-patch+json", body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, "", Body::empty()).await
    }

    pub async fn delete_with(&self, path: &str, options: Value) -> Answer {
        self.send("DELETE", path, "application/json", options.to_string()).await
    }

    /// Creates a ConfigMap in the default namespace.
    pub async fn config_map(&self, name: &str, metadata: Value) -> Value {
        let mut metadata = metadata;
        metadata["name"] = json!(name);
        let made = self.post(CONFIG_MAPS, json!({ "metadata": metadata, "data": { "key": "value" } })).await;
        assert_eq!(made.code, 201, "{}", made.text);
        made.body
    }

    /// Begins a watch.
    pub async fn watch(&self, path: &str) -> Watch {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let reply = self.server.router().oneshot(request).await.unwrap();
        assert_eq!(reply.status().as_u16(), 200);
        Watch { frames: reply.into_body().into_data_stream().boxed() }
    }

    /// Waits until the path answers with this code.
    pub async fn until(&self, path: &str, code: u16) {
        for _ in 0..TRIES_MAX {
            if self.get(path).await.code == code {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{path} never answered {code}");
    }
}

pub const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A watch in progress; every frame is one event.
pub struct Watch {
    frames: futures::stream::BoxStream<'static, Result<axum::body::Bytes, axum::Error>>,
}

impl Watch {
    /// The next event, or nothing at the end. `Err` is a stream that broke off.
    pub async fn next(&mut self) -> Result<Option<Value>, axum::Error> {
        let frame = tokio::time::timeout(std::time::Duration::from_secs(10), self.frames.next());
        let frame = frame.await.expect("the watch went silent");
        frame.transpose().map(|frame| frame.map(|bytes| serde_json::from_slice(&bytes).unwrap()))
    }

    /// The next event as `TYPE name`.
    pub async fn short(&mut self) -> String {
        let event = self.next().await.unwrap().expect("the watch ended");
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        format!("{} {name}", event["type"].as_str().unwrap()).trim().to_owned()
    }
}

/// A CustomResourceDefinition of a namespaced kind with a status.
pub fn definition(plural: &str, kind: &str) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.tests.example") },
        "spec": {
            "group": "tests.example",
            "scope": "Namespaced",
            "names": { "plural": plural, "kind": kind },
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": { "status": {} },
                "selectableFields": [{ "jsonPath": ".spec.color" }],
                "schema": { "openAPIV3Schema": { "type": "object", "properties": {
                    "spec": { "type": "object", "properties": {
                        "size": { "type": "integer" }, "color": { "type": "string" },
                    } },
                    "status": { "type": "object", "properties": { "phase": { "type": "string" } } },
                } } },
            }],
        },
    })
}
