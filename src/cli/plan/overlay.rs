//! The cluster as it would stand once the files were applied: what is planned, over what is there. Nothing is written.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Method, Request, Response};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::super::manifest::Document;

/// Objects that are not there yet, or not so, by the path under which they would be read.
#[derive(Clone, Default)]
pub struct Overlay(Arc<Mutex<BTreeMap<String, Value>>>);

impl Overlay {
    /// From now on, the object under that path is this one.
    pub fn put(&self, path: String, object: Value) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(path, object);
    }

    /// Secrets of the same files, which accounts and user data may name, and the labels of Namespaces, which accounts ask for.
    pub fn put_support(&self, document: &Document, namespace: &str) {
        match (&*document.api_version, &*document.kind) {
            ("v1", "Secret") => self.put_secret(document, namespace),
            ("v1", "Namespace") => {
                let mut labels = document.body["metadata"]["labels"].as_object().cloned().unwrap_or_default();
                labels.insert("kubernetes.io/metadata.name".to_owned(), json!(document.name));
                let metadata = json!({ "name": document.name, "labels": labels });
                let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata });
                self.put(format!("/api/v1/namespaces/{}", document.name), object);
            }
            _ => {}
        }
    }

    fn put_secret(&self, document: &Document, namespace: &str) {
        let Ok(mut secret) = serde_json::from_value::<Secret>(document.body.clone()) else { return };
        let text = secret.string_data.take().unwrap_or_default();
        let bytes = text.into_iter().map(|(name, value)| (name, ByteString(value.into_bytes())));
        secret.data.get_or_insert_default().extend(bytes);
        let namespace = document.namespace.as_deref().unwrap_or(namespace);
        let path = format!("/api/v1/namespaces/{namespace}/secrets/{}", document.name);
        if let Ok(value) = serde_json::to_value(&secret) {
            self.put(path, value);
        }
    }

    fn find(&self, request: &Request<Body>) -> Option<Value> {
        let reads = request.method() == Method::GET;
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reads.then(|| all.get(request.uri().path()).cloned()).flatten()
    }

    /// A client that reads planned objects as if they were there, and everything else from the cluster. It writes nothing.
    pub fn client(&self, cluster: Client) -> Client {
        let overlay = self.clone();
        let namespace = cluster.default_namespace().to_owned();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (found, cluster) = (overlay.find(&request), cluster.clone());
            async move {
                match found {
                    Some(object) => {
                        Ok::<_, tower::BoxError>(Response::new(Body::from(object.to_string().into_bytes())))
                    }
                    None if request.method() == Method::GET => Ok(cluster.send(request).await?),
                    None => Err("a plan writes nothing; please report this".into()),
                }
            }
        });
        Client::new(service, namespace)
    }
}
