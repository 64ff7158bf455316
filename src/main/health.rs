//! `weir health`: one question to a running broker, for HEALTHCHECK lines and scripts without a Kafka client.
//!
//! Invariant: answers within [`PATIENCE`] per address.
//! Deliberately absent: retries; the caller has its own.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use weir_broker::config::Config;

use crate::Failure;

/// Asks the admin listener when it is named, else a Kafka listener.
pub(crate) fn run(kafka: Option<String>, admin: Option<String>, out: &mut dyn Write) -> Result<(), Failure> {
    let (address, asked) = match (admin, kafka) {
        (Some(address), _) => (address.clone(), ready(&address)),
        (None, Some(address)) => (address.clone(), api_versions(&address)),
        (None, None) => {
            let address = from_environment();
            (address.clone(), api_versions(&address))
        }
    };
    asked.map_err(|error| Failure::Run(format!("{address} does not serve: {error}")))?;
    writeln!(out, "{address} serves")?;
    Ok(())
}

/// The first listener that `KAFKA_LISTENERS` names, as this machine reaches it.
fn from_environment() -> String {
    let mut config = Config::default();
    let variables =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    // What is refused here was refused by the broker too.
    let _ = config.read_environment(variables);
    let named = config.listeners().unwrap_or_default().into_iter().find(|listener| listener.port != 0);
    named.map_or_else(
        || "127.0.0.1:9092".to_owned(),
        |listener| {
            let host = match listener.host.as_str() {
                "" | "0.0.0.0" | "::" => "127.0.0.1".to_owned(),
                host if host.contains(':') => format!("[{host}]"),
                host => host.to_owned(),
            };
            format!("{host}:{}", listener.port)
        },
    )
}

/// ApiVersions v0, which every broker answers before login, and its error code 0.
fn api_versions(address: &str) -> io::Result<()> {
    let mut socket = connect(address)?;
    socket.write_all(&API_VERSIONS_V0)?;
    let mut answer = [0; 10];
    socket.read_exact(&mut answer)?;
    let [_, _, _, _, correlation @ .., high, low] = answer;
    if correlation == CORRELATION && [high, low] == [0, 0] {
        Ok(())
    } else {
        Err(io::Error::other("the answer is not a Kafka broker's"))
    }
}

/// `GET /readyz` and its status 200.
fn ready(address: &str) -> io::Result<()> {
    let mut socket = connect(address)?;
    write!(socket, "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; 12];
    socket.read_exact(&mut status)?;
    if status.ends_with(b" 200") {
        Ok(())
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&status).into_owned()))
    }
}

/// The first of its addresses that takes a connection.
pub(crate) fn connect(address: &str) -> io::Result<TcpStream> {
    let mut refused = io::Error::other("no such host");
    for addr in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&addr, PATIENCE) {
            Ok(socket) => {
                socket.set_read_timeout(Some(PATIENCE))?;
                socket.set_write_timeout(Some(PATIENCE))?;
                return Ok(socket);
            }
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

const PATIENCE: Duration = Duration::from_secs(3);
const CORRELATION: [u8; 4] = *b"weir";

/// Length 10; key 18, version 0; the correlation id; no client id.
const API_VERSIONS_V0: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, b'w', b'e', b'i', b'r', 0xff, 0xff];
