//! Words to a human or a pipe: what happened, why, and what to do next.

#![allow(clippy::print_stdout)] // The command line is the one place that writes to standard output.

use std::fmt::Display;
use std::future::Future;
use std::io::{ErrorKind, IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::OnceLock;

use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

/// Why something that was to be said is lost, for the end of the command.
static LOST: OnceLock<String> = OnceLock::new();

/// Sends logs to standard error: JSON in pipes, text at a terminal.
pub fn start_log(filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|error| {
        note(format_args!("ecskms: log filter not understood ({error}); using info"));
        EnvFilter::new("info")
    });
    // A log that cannot be written has nowhere to say so.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    match std::io::stderr().is_terminal() {
        true => builder.init(),
        false => builder.json().init(),
    }
}

/// One line to standard output. What cannot be written stops nothing that is under way; [`settle`] tells it.
pub fn say(line: impl Display) {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        // A closed pipe is nobody's fault.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => drop(LOST.set(error.to_string())),
        _ => {}
    }
}

/// The exit code of a command that ended with `code`: failure, told in one line, if what it said is not all there.
pub fn settle(code: ExitCode, next: &str) -> ExitCode {
    match LOST.get() {
        Some(why) => fail("standard output could not be written, so what is there is cut off", why, next),
        None => code,
    }
}

/// One line to standard error, which may be closed: there is nowhere else to say it.
pub fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// An error in the house's form, and the exit code of failure.
pub fn fail(what: &str, why: &dyn Display, next: &str) -> ExitCode {
    note(format_args!("ecskms: {what}: {why}. {next}"));
    ExitCode::FAILURE
}

/// True if standard output is a terminal that wants colours and bars.
pub fn is_terminal() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Binds a socket, or says what to do about it.
pub async fn listen(address: SocketAddr, flag: &str) -> Result<TcpListener, ExitCode> {
    TcpListener::bind(address).await.map_err(|error| {
        let next = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("Stop what uses it, or choose another address with {flag}.")
            }
            _ => format!("Choose another address with {flag}."),
        };
        fail(&format!("cannot listen on {address}"), &error, &next)
    })
}

/// Waits for Ctrl-C or SIGTERM.
pub fn stop_signal() -> impl Future<Output = ()> + Send + 'static {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = signal(SignalKind::terminate());
    async move {
        match terminate {
            Ok(mut terminate) => {
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    _ = terminate.recv() => {}
                }
            }
            Err(_) => {
                let _ = tokio::signal::ctrl_c().await;
            }
        }
    }
}
