//! The server as a value: shared state, start-up, serving, shutdown.
//!
//! Requests are handled in `http`; this room owns the lock, the wake-up signal of watches and the collector's
//! task.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::serve::ListenerExt;
use jiff::Timestamp;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch::{self, Receiver, Sender};

use super::call::stamp;
use super::collector;
use super::http;
use super::journal::Journal;
use super::state::State;
use super::store::Store;
use super::write::random_uid;

/// Namespaces that exist from the start.
const NAMESPACES_FIRST: &[&str] = &["default", "kube-node-lease", "kube-public", "kube-system"];

/// How to start a server.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Directory for its objects; without one they live in memory only.
    pub data_dir: Option<PathBuf>,
}

/// What watches wake up for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signal {
    /// Counts wake-ups.
    pub ticks: u64,
    /// Whether the server is shutting down.
    pub closing: bool,
}

/// An embedded Kubernetes API server. Clones share everything.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    signal: Sender<Signal>,
}

impl Server {
    /// Opens the data directory, if one is given, and makes the first namespaces. Fails if the directory
    /// cannot be read or written.
    pub fn new(options: Options) -> io::Result<Server> {
        let journal = options.data_dir.as_deref().map(Journal::open).transpose()?;
        let mut state = State::new(Store::open(journal));
        first_objects(&mut state).map_err(|refusal| io::Error::other(refusal.message))?;
        state.store.compact();
        let shared = Shared { state: Mutex::new(state), signal: watch::channel(Signal::default()).0 };
        Ok(Server { shared: Arc::new(shared) })
    }

    /// The server as a service, for example for a client in the same process.
    pub fn router(&self) -> Router {
        http::router(self.clone())
    }

    /// Serves on a loopback socket until `shutdown` resolves; running watches are ended then. Any other
    /// address is refused, because nothing here authenticates anybody.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() {
            let words =
                format!("the embedded Kubernetes API serves on loopback addresses only, not on {address}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, words));
        }
        let closing = self.clone();
        let shutdown = async move {
            shutdown.await;
            closing.shared.signal.send_modify(|signal| signal.closing = true);
        };
        // Watch events are small writes that must not wait for an acknowledgement.
        let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
        axum::serve(listener, self.router()).with_graceful_shutdown(shutdown).await
    }

    /// The state, locked. Never held across an await.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A receiver that wakes up after changes.
    pub(super) fn subscribe(&self) -> Receiver<Signal> {
        self.shared.signal.subscribe()
    }

    /// Wakes the watches and, if there is work, starts the collector.
    pub(super) fn changed(&self, work: bool) {
        self.shared.signal.send_modify(|signal| signal.ticks += 1);
        if work {
            let server = self.clone();
            tokio::spawn(async move { server.collect().await });
        }
    }

    async fn collect(self) {
        loop {
            let more = collector::run(&mut self.lock(), Timestamp::now());
            self.shared.signal.send_modify(|signal| signal.ticks += 1);
            if !more {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// A kubeconfig for a server at `address`: one context, `ecskms`, without credentials.
pub fn kubeconfig(address: SocketAddr) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: ecskms\n\
         clusters:\n- name: ecskms\n  cluster:\n    server: http://{address}\n\
         contexts:\n- name: ecskms\n  context:\n    cluster: ecskms\n    user: ecskms\n\
         \x20   namespace: default\n\
         users:\n- name: ecskms\n  user: {{}}\n"
    )
}

fn first_objects(state: &mut State) -> Result<(), super::status::Refusal> {
    let Some(resource) = state.registry.find("", "v1", "namespaces").cloned() else { return Ok(()) };
    let time = stamp(Timestamp::now());
    for name in NAMESPACES_FIRST {
        if state.store.get("namespaces", name).is_none() {
            let object = json!({
                "kind": "Namespace", "apiVersion": "v1",
                "metadata": {
                    "name": name, "uid": random_uid(), "creationTimestamp": time,
                    "labels": { "kubernetes.io/metadata.name": name },
                },
                "spec": { "finalizers": ["kubernetes"] },
                "status": { "phase": "Active" },
            });
            state.save(&resource, name, object)?;
        }
    }
    Ok(())
}
