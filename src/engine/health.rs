//! /livez, /readyz and /metrics over HTTP. The caller owns the sockets and the stop signal.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;

/// What must be true before the process is ready, by name.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<String, bool>>>);

impl Readiness {
    /// Names something that is not true yet.
    pub fn expect(&self, name: &str) {
        self.set(name, false);
    }

    /// It is true now.
    pub fn done(&self, name: &str) {
        self.set(name, true);
    }

    /// What is still missing.
    pub fn missing(&self) -> Vec<String> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.iter().filter(|(_, done)| !**done).map(|(name, _)| name.clone()).collect()
    }

    fn set(&self, name: &str, done: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), done);
    }
}

/// The probes: /livez answers as long as the process can, /readyz names what is missing.
pub fn probes(readiness: Readiness) -> Router {
    let ready = move || {
        let missing = readiness.missing();
        async move {
            match missing.is_empty() {
                true => (StatusCode::OK, "ok\n".to_owned()),
                false => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for: {}\n", missing.join(", "))),
            }
        }
    };
    Router::new().route("/livez", get(|| async { "ok\n" })).route("/readyz", get(ready))
}

/// /metrics, from whatever text the caller makes.
pub fn metrics(text: impl Fn() -> String + Clone + Send + Sync + 'static) -> Router {
    let kind = [("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    Router::new().route("/metrics", get(move || async move { (kind, text()) }))
}

/// Serves a router until `shutdown`.
pub async fn serve(
    router: Router,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}
