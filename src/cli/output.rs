//! Words to a human or a pipe: what happened, why, and what to do next.

#![allow(clippy::print_stdout)] // The command line is the one place that writes to standard output.

use std::fmt::Display;
use std::future::Future;
use std::io::{ErrorKind, IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::OnceLock;

use comfy_table::{Table, presets};
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

/// Text of the cluster or the cloud without what could move the cursor, turn the direction of writing or hide.
pub fn clean(text: &str) -> String {
    let is_hidden = |c: char| {
        matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    let shown = text.chars().filter(|c| !is_hidden(*c));
    shown.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The text as one word of a command that people copy into a shell.
pub fn word(text: &str) -> String {
    let text = clean(text);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// The error and what is behind it: kube's own words for a refused connection say nothing.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut inner = error.source();
    while let Some(cause) = inner {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        inner = cause.source();
    }
    clean(&text)
}

/// The text in a colour of the terminal's, if there is one that wants colours.
pub fn paint(text: &str, colour: u8) -> String {
    if is_terminal() { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// A table with borders at a terminal, and columns alone elsewhere.
pub fn table<const COLUMNS: usize>(head: [&str; COLUMNS]) -> Table {
    let mut table = Table::new();
    let preset = if is_terminal() { presets::UTF8_BORDERS_ONLY } else { presets::NOTHING };
    table.load_style(preset).set_header(head);
    table
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_neither_move_nor_turn_nor_hide_nor_become_a_command() {
        assert_eq!([word("a@b"), word("a b'$c"), word("")], ["a@b", r"'a b'\''$c'", "''"]);
        assert_eq!(clean("a\u{1b}[31mb\nc\u{9b}2Jd\u{202e}e\u{200b}f密钥"), "a [31mb c 2Jdef密钥");
    }
}
