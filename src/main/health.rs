//! `weir health`: one question to a running broker, for HEALTHCHECK lines and scripts without a Kafka client.
//!
//! A degraded broker serves, so the exit code is 0 unless somebody asks otherwise: what restarts unhealthy containers must
//! not take away what still works. Invariant: answers within [`PATIENCE`] per address.
//! Deliberately absent: retries; the caller has its own.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use weir_broker::config::Config;

use crate::Failure;

/// Asks the admin listener when it is named or must know, else a Kafka listener; with neither named also the admin
/// listener of this machine, which knows what is degraded, if it answers.
pub(crate) fn run(
    kafka: Option<String>,
    admin: Option<String>,
    strict: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let fails = |address: &str, error| Failure::Run(format!("{address} does not serve: {error}"));
    let (address, reasons) = match (admin, kafka) {
        (None, Some(address)) => {
            api_versions(&address).map_err(|error| fails(&address, error))?;
            (address, Vec::new())
        }
        (None, None) if !strict => {
            let address = from_environment();
            api_versions(&address).map_err(|error| fails(&address, error))?;
            (address, admin_of_environment().and_then(|admin| ready(&admin).ok()).unwrap_or_default())
        }
        (admin, _) => {
            let address = admin.or_else(admin_of_environment).unwrap_or_else(|| ADMIN.to_owned());
            let reasons = ready(&address).map_err(|error| fails(&address, error))?;
            (address, reasons)
        }
    };
    if reasons.is_empty() {
        writeln!(out, "{address} serves")?;
        return Ok(());
    }
    let degraded = format!("{address} serves, degraded:\n  {}", reasons.join("\n  "));
    if strict {
        return Err(Failure::Run(degraded));
    }
    writeln!(out, "{degraded}")?;
    Ok(())
}

/// The admin listener that the environment names, if it is not shut.
fn admin_of_environment() -> Option<String> {
    let named = std::env::var("WEIR_ADMIN").unwrap_or_else(|_| ADMIN.to_owned());
    (named != "off").then_some(named)
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

/// `GET /readyz`, its status 200, and why the broker is degraded, a line each.
fn ready(address: &str) -> io::Result<Vec<String>> {
    let mut socket = connect(address)?;
    write!(socket, "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.get(..12).unwrap_or(&answer);
    if !status.ends_with(" 200") {
        return Err(io::Error::other(status.to_owned()));
    }
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let health: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let reasons = health.get("reasons").and_then(|reasons| reasons.as_array()).cloned().unwrap_or_default();
    Ok(reasons.iter().map(line).collect())
}

/// One reason, as people read it.
fn line(reason: &serde_json::Value) -> String {
    let words = |name: &str| reason.get(name).and_then(|value| value.as_str()).unwrap_or_default();
    let standing = reason.get("standing").and_then(serde_json::Value::as_bool).unwrap_or_default();
    let how_long = if standing { "until mended" } else { "within the last minute" };
    format!("{} ({how_long}): {}", words("kind"), words("text").replace(char::is_control, " "))
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
const ADMIN: &str = "127.0.0.1:9644";
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
const CORRELATION: [u8; 4] = *b"weir";

/// Length 10; key 18, version 0; the correlation id; no client id.
const API_VERSIONS_V0: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, b'w', b'e', b'i', b'r', 0xff, 0xff];
