//! The client of the cluster, as kube builds it, but without Nagle's algorithm: a write whose head and body leave in two pieces
//! would wait 40 ms for the other side's delayed acknowledgement, more than everything else that a revocation takes. And with
//! keepalive: a peer that vanishes without a word says nothing on a watch, and nothing is what a quiet watch says as well.

use std::time::Duration;

use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt;
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

use super::output;

/// A connection on which nothing came for so long is asked whether its other end is still there: often enough that a revocation
/// does not wait, and still only an empty packet on a quiet connection.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
/// The pause between two such questions; longer than any path within a region takes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// Questions without an answer after which the connection is given up: one or two may be lost on a path that works.
const KEEPALIVE_RETRIES: u32 = 3;
/// The same limit for what was sent and not acknowledged, in which case the kernel asks no questions but repeats for minutes.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(11);

/// The cluster of the kubeconfig's context; without a name, of its current one, or else of the pod. An error is for people.
pub async fn config(context: Option<&str>) -> Result<Config, String> {
    // A variable that is set to nothing names none.
    match context.filter(|context| !context.is_empty()) {
        None => Config::infer().await.map_err(|error| output::causes(&error)),
        Some(context) => {
            let options = KubeConfigOptions { context: Some(context.to_owned()), ..Default::default() };
            Config::from_kubeconfig(&options).await.map_err(|error| output::causes(&error))
        }
    }
}

/// Makes the client on the present runtime.
pub fn connect(config: Config) -> kube::Result<Client> {
    // Proxies, and credentials of a program that expire, need more than is built here.
    if config.proxy_url.is_some() || config.auth_info.exec.is_some() {
        return Client::try_from(config);
    }
    let connector = config.rustls_https_connector_with_connector(connector())?;
    let mut connector = TimeoutConnector::new(connector);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(legacy::Builder::new(TokioExecutor::new()).build(connector));
    Ok(Client::new(service, config.default_namespace))
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_keepalive(Some(KEEPALIVE_IDLE));
    connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    #[cfg(target_os = "linux")]
    connector.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX));
    connector
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's own word: in /proc/net/tcp, 02 is the timer of keepalive.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_quiet_connection_is_asked_whether_its_other_end_is_there() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let client = connect(Config::new(format!("http://127.0.0.1:{port}").parse().expect("a URL")));
        let client = client.expect("a client");
        let asking = tokio::spawn(async move { client.apiserver_version().await });
        let (_silent, _) = listener.accept().await.expect("a connection");
        let timer = || {
            let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux has it");
            let towards = format!(":{port:04X}");
            let row = table
                .lines()
                .find(|row| row.split_whitespace().nth(2).is_some_and(|remote| remote.ends_with(&towards)));
            row.and_then(|row| row.split_whitespace().nth(5)).map(str::to_owned)
        };
        let mut seen = None;
        for _ in 0..50 {
            seen = timer();
            if seen.as_ref().is_some_and(|timer| timer.starts_with("02:")) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let seen = seen.expect("the connection is in the table");
        let left = u64::from_str_radix(seen.trim_start_matches("02:"), 16).expect("hundredths of a second");
        assert!(seen.starts_with("02:") && left <= 500, "{seen}");
        asking.abort();
    }
}
