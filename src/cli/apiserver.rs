//! `ecskms apiserver`: the embedded Kubernetes API alone, for kubectl, Helm or a controller under test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tokio::net::TcpListener;

use super::output;

/// Arguments of `ecskms apiserver`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to listen; only loopback addresses, because nobody is asked who they are.
    #[arg(long, env = "ECSKMS_APISERVER_LISTEN", default_value = "127.0.0.1:8001", value_name = "ADDR")]
    listen: SocketAddr,
    /// Where to write the kubeconfig.
    #[arg(
        long,
        env = "ECSKMS_APISERVER_KUBECONFIG",
        default_value = "./.ecskms/kubeconfig",
        value_name = "FILE"
    )]
    kubeconfig: PathBuf,
    /// Keeps the objects in this directory; without it, in memory.
    #[arg(long, env = "ECSKMS_APISERVER_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Serves until Ctrl-C.
pub async fn run(args: Args) -> ExitCode {
    let (listener, address) = match listen_on_loopback(args.listen, "--listen").await {
        Ok(bound) => bound,
        Err(code) => return code,
    };
    let server = match sim::kube::Server::new(sim::kube::Options { data_dir: args.data.clone() }) {
        Ok(server) => server,
        Err(error) => {
            return output::fail(
                "the stored objects cannot be read",
                &error,
                "Choose another directory with --data.",
            );
        }
    };
    if let Err(error) = write_kubeconfig(&args.kubeconfig, address) {
        let what = format!("cannot write {}", args.kubeconfig.display());
        return output::fail(&what, &error, "Choose another file with --kubeconfig.");
    }
    output::say(format_args!("Kubernetes API on http://{address}"));
    output::say(format_args!("  export KUBECONFIG={}", args.kubeconfig.display()));
    match server.serve(listener, output::stop_signal()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::fail("the Kubernetes API ended", &error, "Choose a loopback address with --listen.")
        }
    }
}

/// Binds a socket that only this machine can reach.
pub async fn listen_on_loopback(
    address: SocketAddr,
    flag: &str,
) -> Result<(TcpListener, SocketAddr), ExitCode> {
    if !address.ip().is_loopback() {
        let next = format!("Choose 127.0.0.1 with {flag}.");
        return Err(output::fail(
            &format!("cannot listen on {address}"),
            &"only loopback addresses, because nobody is asked who they are",
            &next,
        ));
    }
    let listener = output::listen(address, flag).await?;
    let bound = listener.local_addr().unwrap_or(address);
    Ok((listener, bound))
}

/// Writes the kubeconfig of a server at `address`, and the directories above it.
pub fn write_kubeconfig(file: &Path, address: SocketAddr) -> std::io::Result<()> {
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(file, sim::kube::kubeconfig(address))
}
