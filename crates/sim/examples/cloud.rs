//! Serves the simulated cloud alone, for manual runs and for the scripts in `tests/clients`.
//!
//! Deliberately without options but the address and the pace: `cargo run -p ecskms-sim --example cloud --
//! 127.0.0.1:4200 60`.

use std::io::{Error, Write};

use sim::cloud::{Cloud, Options};

/// Simulated seconds per real second when the command line names none.
const TIME_SCALE_DEFAULT: f64 = 60.0;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:4200".into());
    let time_scale = match arguments.next() {
        Some(text) => text.parse().map_err(|_| Error::other("the pace must be a number"))?,
        None => TIME_SCALE_DEFAULT,
    };
    let listener = tokio::net::TcpListener::bind(&address).await?;
    // Scripts that bind port 0 read the port from here.
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    let cloud = Cloud::new(Options { time_scale, ..Options::default() });
    let shutdown = async {
        // Without a signal handler the process simply ends on the signal.
        let _ = tokio::signal::ctrl_c().await;
    };
    cloud.serve(listener, shutdown).await
}
