//! Where to listen and what to tell clients: `listeners`, `advertised.listeners` and the protocol map.
//!
//! Owns: the syntax `NAME://host:port` and the rules between the three keys; the syntax `host:count` of
//! `max.connections.per.ip.overrides`.
//! Invariant: names of listeners are unique and in upper case, whatever case they were written in, as in Kafka
//! (`ListenerName.normalised`); addresses with a fixed port are unique.
//! Deliberately absent: sockets and name resolution.
//!
//! Tolerated because real tools send it: an empty host, a comma at the end (Testcontainers for .NET),
//! custom names, IPv6 in brackets, a CONTROLLER listener (accepted, never bound).

use super::{Config, Refusal};
use crate::topic::config::entries;

/// A place to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Name, for example `PLAINTEXT`.
    pub name: String,
    /// Host without brackets; empty is every interface.
    pub host: String,
    /// Port; 0 picks a free one.
    pub port: u16,
    /// What clients are told; `None` is the address that they connected to. Port 0 is the bound port.
    pub advertised: Option<(String, u16)>,
}

/// Every listener.
pub type Listeners = Vec<Listener>;

impl Listener {
    /// What to bind, the first at least: `localhost` is both loopbacks (clients that try ::1 first must not
    /// wait), an empty host is every interface.
    #[must_use]
    pub fn hosts(&self) -> Vec<&str> {
        match self.host.as_str() {
            "" => vec!["0.0.0.0", "::"],
            "localhost" => vec!["127.0.0.1", "::1"],
            host => vec![host],
        }
    }
}

/// Checks the syntax of one of these keys; other keys pass.
pub(super) fn check_value(key: &str, text: &str) -> Result<(), String> {
    match key {
        "listeners" => endpoints(text).map(drop),
        "advertised.listeners" if text != AUTO => endpoints(text).map(drop),
        "listener.security.protocol.map" => protocols(text).map(drop),
        OVERRIDES => overrides(text).map(drop),
        _ => Ok(()),
    }
}

/// The listeners of a configuration, in their order, without those of the controller.
pub(super) fn read(config: &Config) -> Result<Listeners, Refusal> {
    let refuse = |key: &str, reason: String| Refusal::new(key, config.value(key).unwrap_or_default(), reason);
    let text = config.value(LISTENERS).unwrap_or_default();
    let controllers: Vec<&str> =
        entries(config.value("controller.listener.names").unwrap_or_default()).collect();
    let mut found: Listeners = endpoints(text)
        .map_err(|reason| refuse(LISTENERS, reason))?
        .into_iter()
        .filter(|endpoint| !is_controller(&endpoint.name, &controllers))
        .map(|Endpoint { name, host, port }| Listener { name, host, port, advertised: None })
        .collect();
    if found.is_empty() {
        return Err(refuse(LISTENERS, "needs at least one listener that clients can use".to_owned()));
    }
    check_unique(&found).map_err(|reason| refuse(LISTENERS, reason))?;
    check_protocols(config, &found)?;
    advertise(config, &controllers, &mut found).map_err(|reason| refuse(ADVERTISED, reason))?;
    Ok(found)
}

struct Endpoint {
    name: String,
    host: String,
    port: u16,
}

fn endpoints(text: &str) -> Result<Vec<Endpoint>, String> {
    let found: Vec<_> = entries(text).map(endpoint).collect::<Result<_, _>>()?;
    match found.len() {
        0 => Err("expected NAME://host:port".to_owned()),
        n if n > MAX_LISTENERS => Err(format!("more than {MAX_LISTENERS} listeners")),
        _ => Ok(found),
    }
}

/// Reads `NAME://host:port`; a host with colons stands in brackets.
fn endpoint(entry: &str) -> Result<Endpoint, String> {
    let wrong = |what: &str| format!("{entry}: {what}");
    let (name, address) = entry.split_once("://").ok_or_else(|| wrong("expected NAME://host:port"))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        return Err(wrong("a listener's name has letters, digits, '_', '-' and '.'"));
    }
    let (host, port) = address.rsplit_once(':').ok_or_else(|| wrong("the port is missing"))?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if bare.is_none() && host.contains([':', '[', ']']) {
        return Err(wrong("an IPv6 address stands in brackets"));
    }
    let host = bare.unwrap_or(host);
    if host.chars().any(|c| c.is_whitespace() || c.is_control() || c == '/') || host.len() > 255 {
        return Err(wrong("this is not a host name"));
    }
    let port = port.parse().map_err(|_| wrong("the port is a number from 0 to 65535"))?;
    Ok(Endpoint { name: name.to_ascii_uppercase(), host: host.to_owned(), port })
}

fn protocols(text: &str) -> Result<Vec<(&str, &str)>, String> {
    entries(text)
        .map(|entry| {
            let (name, protocol) =
                entry.split_once(':').ok_or_else(|| format!("{entry}: expected NAME:PROTOCOL"))?;
            let known = ALL_PROTOCOLS.iter().any(|p| p.eq_ignore_ascii_case(protocol));
            if known { Ok((name, protocol)) } else { Err(format!("{entry}: unknown protocol")) }
        })
        .collect()
}

/// Reads `host:count,…`; an IPv6 address may stand in brackets.
pub(super) fn overrides(text: &str) -> Result<Vec<(String, usize)>, String> {
    entries(text)
        .map(|entry| {
            let (host, count) =
                entry.rsplit_once(':').ok_or_else(|| format!("{entry}: expected host:count"))?;
            let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
            let count: i32 = count.trim().parse().map_err(|_| format!("{entry}: the count is a number"))?;
            let count = usize::try_from(count).map_err(|_| format!("{entry}: must be at least 0"))?;
            if bare.is_empty() || bare.chars().any(char::is_whitespace) {
                return Err(format!("{entry}: expected host:count"));
            }
            Ok((bare.to_owned(), count))
        })
        .collect()
}

/// A listener of the controller quorum. Without `controller.listener.names` the usual name counts.
fn is_controller(name: &str, controllers: &[&str]) -> bool {
    if controllers.is_empty() {
        name == "CONTROLLER"
    } else {
        controllers.iter().any(|controller| controller.eq_ignore_ascii_case(name))
    }
}

fn check_unique(found: &[Listener]) -> Result<(), String> {
    for (at, one) in found.iter().enumerate() {
        for other in found.iter().skip(at + 1) {
            if one.name == other.name {
                return Err(format!("two listeners are named {}", one.name));
            }
            let hosts = other.hosts();
            let shared = one.port == other.port && one.hosts().iter().any(|host| hosts.contains(host));
            if one.port != 0 && shared {
                return Err(format!("{} and {} share an address", one.name, other.name));
            }
        }
    }
    Ok(())
}

/// Every listener speaks PLAINTEXT, by its name or by the map. What is to blame is the key that somebody set: the map
/// where it names the listener, else the list of listeners.
fn check_protocols(config: &Config, found: &[Listener]) -> Result<(), Refusal> {
    let refuse = |key: &str, reason: String| Refusal::new(key, config.value(key).unwrap_or_default(), reason);
    let map =
        protocols(config.value(PROTOCOLS).unwrap_or_default()).map_err(|reason| refuse(PROTOCOLS, reason))?;
    let is_set = config.set_value(PROTOCOLS).is_some();
    for Listener { name, .. } in found {
        let mapped = map.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|&(_, protocol)| protocol);
        let by_name = ALL_PROTOCOLS.iter().find(|p| p.eq_ignore_ascii_case(name)).copied();
        let Some(protocol) = mapped.or(by_name) else {
            let key = if is_set { PROTOCOLS } else { LISTENERS };
            let reason = format!("no protocol for the listener {name}; add {name}:PLAINTEXT to {PROTOCOLS}");
            return Err(refuse(key, reason));
        };
        if !protocol.eq_ignore_ascii_case("PLAINTEXT") {
            let key = if is_set && mapped.is_some() { PROTOCOLS } else { LISTENERS };
            let reason =
                format!("the listener {name} asks for {protocol}; weir speaks PLAINTEXT only so far");
            return Err(refuse(key, reason));
        }
    }
    Ok(())
}

fn advertise(config: &Config, controllers: &[&str], found: &mut [Listener]) -> Result<(), String> {
    let Some(text) = config.value(ADVERTISED).filter(|text| *text != AUTO && !text.is_empty()) else {
        return Ok(());
    };
    for Endpoint { name, host, port } in endpoints(text)? {
        if is_controller(&name, controllers) {
            continue;
        }
        let listener = found
            .iter_mut()
            .find(|listener| listener.name == name)
            .ok_or_else(|| format!("there is no listener named {name}"))?;
        if matches!(host.as_str(), "0.0.0.0" | "::") {
            return Err(format!("{name}: nobody can connect to {host}; name the host that clients reach"));
        }
        // Without a host Kafka takes the machine's name; the address that the client used is surer.
        listener.advertised = (!host.is_empty()).then_some((host, port));
    }
    Ok(())
}

pub(super) const OVERRIDES: &str = "max.connections.per.ip.overrides";

const LISTENERS: &str = "listeners";
const ADVERTISED: &str = "advertised.listeners";
const PROTOCOLS: &str = "listener.security.protocol.map";
const ALL_PROTOCOLS: [&str; 4] = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];

/// Advertise what the client connected to, for every listener.
const AUTO: &str = "auto";

const MAX_LISTENERS: usize = 64;
