//! Listeners: bind, accept within limits, one task per connection, drain at the end.
//!
//! Deliberately absent: what flows over a connection (`connection.rs`).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connection::Connection;
use crate::broker::Core;
use crate::config::ConnectionSettings;

/// Connections that the kernel may hold before they are accepted.
const BACKLOG: i32 = 1024;
/// Pause after an accept that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One listener of the Kafka door. Its advertised address is looked up by name at every Metadata, so that it
/// can be altered while running.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Name, for example `PLAINTEXT`.
    pub name: String,
    /// Where to bind; a port of 0 takes the port of the listener's first address, or any.
    pub addr: SocketAddr,
    /// Whether a failure to bind ends the start (a machine without IPv6 still serves `localhost`).
    pub required: bool,
}

/// What the connections of one listener share.
pub(super) struct Shared {
    pub(super) core: Arc<Core>,
    pub(super) listener: Listener,
    stop: watch::Receiver<bool>,
    census: Arc<Census>,
}

impl Shared {
    pub(super) fn settings(&self) -> &ConnectionSettings {
        self.core.connection_settings()
    }

    /// Completes when connections shall drain.
    pub(super) fn stopping(&self) -> impl Future<Output = ()> + use<> {
        let mut stop = self.stop.clone();
        async move {
            // An error means that the door itself is gone: the same thing.
            let _ = stop.wait_for(|stopped| *stopped).await;
        }
    }
}

/// How many connections there are, in all and per address.
#[derive(Default)]
struct Census {
    total: AtomicUsize,
    per_ip: Mutex<HashMap<IpAddr, usize>>,
}

/// The open Kafka door.
pub struct Door {
    addrs: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    accepting: JoinSet<()>,
}

impl Door {
    /// Binds every listener and starts to accept.
    ///
    /// # Errors
    /// The address that could not be bound, and why.
    pub fn open(core: &Arc<Core>, listeners: Vec<Listener>) -> Result<Self, (SocketAddr, io::Error)> {
        let (stop, stopped) = watch::channel(false);
        let census = Arc::new(Census::default());
        let mut addrs = Vec::new();
        let mut accepting = JoinSet::new();
        let mut bound = Vec::new();
        let mut first: Option<(String, u16)> = None;
        for mut listener in listeners {
            if let Some((_, port)) = first.as_ref().filter(|(name, _)| *name == listener.name)
                && listener.addr.port() == 0
            {
                listener.addr.set_port(*port);
            }
            let socket = match bind(listener.addr) {
                Ok(socket) => socket,
                Err(error) if !listener.required => {
                    tracing::debug!(addr = %listener.addr, "not bound: {error}");
                    continue;
                }
                Err(error) => return Err((listener.addr, error)),
            };
            let addr = socket.local_addr().map_err(|e| (listener.addr, e))?;
            if first.as_ref().is_none_or(|(name, _)| *name != listener.name) {
                first = Some((listener.name.clone(), addr.port()));
            }
            addrs.push(addr);
            bound.push((listener, socket));
        }
        for (listener, socket) in bound {
            let shared = Arc::new(Shared {
                core: Arc::clone(core),
                listener,
                stop: stopped.clone(),
                census: Arc::clone(&census),
            });
            accepting.spawn(accept(socket, shared));
        }
        Ok(Self { addrs, stop, accepting })
    }

    /// The bound addresses, in the order of the listeners.
    #[must_use]
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Stops accepting, lets connections finish what they have read, and waits for them.
    pub async fn close(mut self) {
        // Nobody listening is fine: then there is nothing to stop.
        let _ = self.stop.send(true);
        while self.accepting.join_next().await.is_some() {}
    }
}

fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // A restarted broker must get its port back while old connections linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

async fn accept(socket: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let stopping = shared.stopping();
    tokio::pin!(stopping);
    loop {
        tokio::select! {
            () = &mut stopping => break,
            accepted = socket.accept() => match accepted {
                Ok((stream, peer)) => admit(stream, peer, &shared, &mut connections),
                Err(error) => {
                    tracing::warn!(listener = %shared.listener.name, "accept: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(socket);
    while connections.join_next().await.is_some() {}
}

/// Starts a connection unless a limit says no; then it is closed at once.
fn admit(stream: TcpStream, peer: SocketAddr, shared: &Arc<Shared>, connections: &mut JoinSet<()>) {
    let Some(seat) = Seat::take(&shared.census, peer.ip(), shared.settings()) else {
        tracing::debug!(%peer, "connection refused: limit reached");
        return;
    };
    match Connection::new(stream, peer, Arc::clone(shared)) {
        Ok(connection) => {
            connections.spawn(async move {
                let _seat = seat;
                connection.serve().await;
            });
        }
        Err(error) => tracing::debug!(%peer, "connection lost at once: {error}"),
    }
}

/// One connection's place in the census.
struct Seat {
    census: Arc<Census>,
    ip: IpAddr,
}

impl Seat {
    fn take(census: &Arc<Census>, ip: IpAddr, settings: &ConnectionSettings) -> Option<Self> {
        let mut per_ip = census.per_ip.lock().unwrap_or_else(PoisonError::into_inner);
        let here = per_ip.get(&ip).copied().unwrap_or(0);
        if census.total.load(Ordering::Relaxed) >= settings.max_connections
            || here >= settings.max_connections_per_ip
        {
            return None;
        }
        per_ip.insert(ip, here + 1);
        census.total.fetch_add(1, Ordering::Relaxed);
        Some(Self { census: Arc::clone(census), ip })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut per_ip = self.census.per_ip.lock().unwrap_or_else(PoisonError::into_inner);
        self.census.total.fetch_sub(1, Ordering::Relaxed);
        if let Some(count) = per_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                per_ip.remove(&self.ip);
            }
        }
    }
}
