//! Listeners: bind, accept within limits, one task per connection, drain at the end.
//!
//! Limits: connections in all, of one address, and of this process's file descriptors (closed at once beyond);
//! new connections per second (accepted later, as in Kafka). Each is read at every accept: they change while
//! the broker runs. A failed accept is no end: the next one follows after a pause.
//! Deliberately absent: what flows over a connection (`connection.rs`).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::budget::Budget;
use super::connection::Connection;
use crate::broker::{Admission, Core, Visit};
use crate::config::ConnectionSettings;

/// Pause after an accept that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The rate of new connections is kept over this long: so much may come at once after a quiet time.
const PACE_WINDOW: Duration = Duration::from_secs(10);
/// Descriptors that neither connections nor segments may take: listeners, runtime, small files.
const SPARE_DESCRIPTORS: usize = 32;
/// Time between two lines about the same trouble.
const SAY_EVERY: Duration = Duration::from_secs(1);

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
    pub(super) budget: Arc<Budget>,
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

/// How many connections there are, in all and per address, and when the next one may come.
struct Census {
    /// What this process's descriptors allow.
    descriptors_max: usize,
    count: Mutex<Count>,
}

struct Count {
    total: usize,
    per_ip: HashMap<IpAddr, usize>,
    /// When the next connection is due at the present rate; the past is credit.
    due: Instant,
    refused: Complaint,
}

/// Something that goes wrong often and is said seldom.
#[derive(Default)]
struct Complaint {
    said: Option<Instant>,
    silent: u64,
}

impl Complaint {
    /// How often it happened since the last line, when it is time for one.
    fn count(&mut self) -> Option<u64> {
        self.silent += 1;
        let now = Instant::now();
        if self.said.is_some_and(|said| now.duration_since(said) < SAY_EVERY) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.silent))
    }
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
        let census = Arc::new(Census::new());
        let settings = core.connection_settings();
        let budget = Budget::new(settings.max_in_flight_bytes);
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
            let socket = match bind(listener.addr, settings) {
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
                budget: Arc::clone(&budget),
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

fn bind(addr: SocketAddr, settings: &ConnectionSettings) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // A restarted broker must get its port back while old connections linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit both sizes.
    if let Some(bytes) = settings.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = settings.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(settings.backlog)?;
    TcpListener::from_std(socket.into())
}

async fn accept(socket: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut failed = Complaint::default();
    let mut pause = None;
    let stopping = shared.stopping();
    tokio::pin!(stopping);
    loop {
        let accepted = async {
            if let Some(until) = pause {
                tokio::time::sleep_until(until).await;
            }
            socket.accept().await
        };
        tokio::select! {
            () = &mut stopping => break,
            accepted = accepted => pause = match accepted {
                Ok((stream, peer)) => admit(stream, peer, &shared, &mut connections),
                Err(error) => {
                    if let Some(times) = failed.count() {
                        tracing::warn!(listener = %shared.listener.name, times, "accept: {error}");
                    }
                    Some(Instant::now() + ACCEPT_PAUSE)
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(socket);
    while connections.join_next().await.is_some() {}
}

/// Starts a connection unless a limit says no; then it is closed at once. Says until when the next one must wait.
fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    shared: &Arc<Shared>,
    connections: &mut JoinSet<()>,
) -> Option<Instant> {
    let (seat, pause) = shared.census.seat(peer.ip(), &shared.core.admission());
    if let Some(mut seat) = seat {
        seat.visit = Some(shared.core.visitors().enter(&shared.listener.name));
        match Connection::new(stream, peer, Arc::clone(shared), seat) {
            Ok(connection) => drop(connections.spawn(connection.serve())),
            Err(error) => tracing::debug!(%peer, "connection lost at once: {error}"),
        }
    }
    pause
}

impl Census {
    fn new() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        // The other half is for segments.
        let half = limit.map_or(usize::MAX, |all| usize::try_from(all / 2).unwrap_or(usize::MAX));
        let count = Count {
            total: 0,
            per_ip: HashMap::new(),
            due: Instant::now().checked_sub(PACE_WINDOW).unwrap_or_else(Instant::now),
            refused: Complaint::default(),
        };
        Self { descriptors_max: half.saturating_sub(SPARE_DESCRIPTORS).max(1), count: Mutex::new(count) }
    }

    /// A place for a connection that has come from `ip`, if there is one, and until when the next one must wait.
    fn seat(self: &Arc<Self>, ip: IpAddr, admission: &Admission) -> (Option<Seat>, Option<Instant>) {
        let mut count = self.count();
        let pause = count.pace(Instant::now(), admission.per_second);
        if let Some(limit) = count.limit_reached(ip, admission, self.descriptors_max) {
            if let Some(times) = count.refused.count() {
                tracing::warn!(times, "connection refused: {limit}");
            }
            return (None, pause);
        }
        count.enter(ip);
        (Some(Seat { census: Arc::clone(self), ip, visit: None }), pause)
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Count {
    /// Which limit one more connection from `ip` would break.
    fn limit_reached(&self, ip: IpAddr, admission: &Admission, descriptors_max: usize) -> Option<String> {
        let max = admission.connections;
        let of_ip = self.per_ip.get(&ip).copied().unwrap_or(0);
        let max_of_ip = admission.connections_of(ip);
        if self.total >= max {
            Some(format!("there are {max} (max.connections)"))
        } else if of_ip >= max_of_ip {
            Some(format!("there are {max_of_ip} from {ip} (max.connections.per.ip)"))
        } else if self.total >= descriptors_max {
            Some(format!("there are {descriptors_max}, half of this process's open files (ulimit -n)"))
        } else {
            None
        }
    }

    fn enter(&mut self, ip: IpAddr) {
        self.total += 1;
        *self.per_ip.entry(ip).or_default() += 1;
    }

    fn leave(&mut self, ip: IpAddr) {
        self.total -= 1;
        if let Some(of_ip) = self.per_ip.get_mut(&ip) {
            *of_ip -= 1;
            if *of_ip == 0 {
                self.per_ip.remove(&ip);
            }
        }
    }

    /// Counts a connection that came at `now`; until when the next one must wait.
    fn pace(&mut self, now: Instant, per_second: u32) -> Option<Instant> {
        let cost = Duration::from_secs(1) / per_second.max(1);
        // One costs nothing at all: what is saved up is a window's worth less that one.
        let saved = now.checked_sub(PACE_WINDOW.saturating_sub(cost)).unwrap_or(now);
        self.due = self.due.max(saved) + cost;
        (self.due > now).then_some(self.due)
    }
}

/// One connection's place in the census.
pub(super) struct Seat {
    census: Arc<Census>,
    ip: IpAddr,
    /// Its place in what is seen from outside.
    visit: Option<Visit>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.census.count().leave(self.ip);
    }
}
