//! The program's start and end where the cloud accepts connections and says nothing.
//!
//! Goal: nothing that the process owes to the cluster waits for the cloud. Time and sockets are real here.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A port that nobody uses.
async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A cloud that accepts every connection and never answers.
async fn silent_cloud() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            open.push(socket);
        }
    });
    format!("http://{address}")
}

/// The kubeconfig of an embedded Kubernetes API; the file goes with its test.
async fn cluster() -> std::path::PathBuf {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = sim::kube::Server::new(sim::kube::Options { data_dir: None }).expect("an empty store");
    tokio::spawn(server.serve(listener, std::future::pending()));
    let config = kube::Config::new(format!("http://{address}").parse().expect("a URL"));
    let crds = kube::Api::all(kube::Client::try_from(config).expect("a client"));
    for crd in ecskms::manifests::crds() {
        crds.create(&Default::default(), &crd).await.expect("the CRD is accepted");
    }
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\nusers: [{{name: a, user: {{}}}}]\n\
         clusters: [{{name: a, cluster: {{server: 'http://{address}'}}}}]\n\
         contexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n"
    );
    let path = std::env::temp_dir().join(format!("ecskms-startup-{}", std::process::id()));
    std::fs::write(&path, text).expect("written");
    path
}

async fn is_alive(port: u16) -> bool {
    let Ok(mut socket) = TcpStream::connect(("127.0.0.1", port)).await else { return false };
    let asked = socket.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    let mut answer = String::new();
    asked.is_ok() && socket.read_to_string(&mut answer).await.is_ok() && answer.starts_with("HTTP/1.1 200")
}

async fn until(what: &str, limit: Duration, mut check: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + limit;
    while !check().await {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Ends with its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_cloud_that_says_nothing_holds_up_neither_the_probes_nor_the_end() {
    let (kubeconfig, cloud, port) = (cluster().await, silent_cloud().await, free_port().await);
    let health = format!("127.0.0.1:{port}");
    let child = Command::new(env!("CARGO_BIN_EXE_ecskms"))
        .args(["run", "--cloud-endpoint", &cloud, "--metrics-addr", "127.0.0.1:0", "--health-addr", &health])
        .env("KUBECONFIG", &kubeconfig)
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", "id")
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "secret")
        .stderr(Stdio::null())
        .spawn();
    let mut process = Process(child.expect("the program starts"));
    until("the probes answer", Duration::from_secs(4), async || is_alive(port).await).await;
    let id = process.0.id().to_string();
    let sent = Command::new("kill").args(["-TERM", &id]).status().expect("kill is there");
    assert!(sent.success());
    let mut code = None;
    until("the process ends", Duration::from_secs(4), async || {
        code = process.0.try_wait().expect("it was started");
        code.is_some()
    })
    .await;
    assert!(code.is_some_and(|code| code.success()), "{code:?}");
    let _ = std::fs::remove_file(kubeconfig);
}
