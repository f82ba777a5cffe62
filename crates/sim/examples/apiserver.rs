//! Runs the embedded Kubernetes API server by itself: `apiserver PORT KUBECONFIG [DATA_DIR]`.
//!
//! For trying it by hand and for the conformance suite; `ecskms apiserver` is the real command.

use std::path::PathBuf;

use sim::kube::{Options, Server, kubeconfig};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let port = arguments.first().and_then(|text| text.parse::<u16>().ok()).unwrap_or(0);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    if let Some(path) = arguments.get(1) {
        std::fs::write(path, kubeconfig(listener.local_addr()?))?;
    }
    let server = Server::new(Options { data_dir: arguments.get(2).map(PathBuf::from) })?;
    let shutdown = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    server.serve(listener, shutdown).await
}
