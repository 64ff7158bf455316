//! Listening: what all doors do before a connection says its first byte, and after the last one is wanted.
//!
//! Owns: sockets on their addresses, the accept loop, who is let in (`census.rs`), what memory connections share
//! (`budget.rs`), the signal to stop, and the wait until everybody has left. A failed accept is no end: the next one follows after a pause.
//! Deliberately absent: what flows over a connection (each door's), names of hosts (looked up before).

mod budget;
mod census;
mod line;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use budget::{Account, Budget, Debt, Duty, Lease, OWN_BYTES};
pub use census::{Census, Limits, Open, Seat};
pub use line::line;

use crate::config::SocketSettings;
use census::{Complaint, Listener};

/// Pause after an accept that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long connections may take to end once their door closes; each door asks less of its own.
const LEAVE_WITHIN: Duration = Duration::from_secs(15);

/// What a door does with who comes to one of its listeners.
pub trait Host: Send + Sync + 'static {
    /// What bounds connections, as it stands: it may change while the door is open.
    fn limits(&self, ip: IpAddr) -> Limits;

    /// Serves a connection to its end, which comes soon once the door stops.
    fn serve(self: Arc<Self>, guest: Guest) -> impl Future<Output = ()> + Send + 'static;
}

/// A connection that was let in.
pub struct Guest {
    /// The connection; it sends small answers at once.
    pub stream: TcpStream,
    /// Who called.
    pub peer: SocketAddr,
    /// The address that was called.
    pub local: SocketAddr,
    /// Dropped when the connection is over.
    pub seat: Seat,
}

/// Sockets that nobody accepts from yet, with their addresses.
pub type Bound = Vec<(SocketAddr, TcpListener)>;

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr}: {source}")]
pub struct BindError {
    /// The address.
    pub addr: SocketAddr,
    /// The system's answer.
    pub source: io::Error,
}

impl BindError {
    /// Whether somebody else listens there.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

/// Binds one listener. Of several addresses the first must be bound (a machine without IPv6 still serves
/// `localhost`), and a port of 0 takes the first's.
///
/// # Errors
/// [`BindError`].
pub fn bind(addrs: Vec<SocketAddr>, settings: &SocketSettings) -> Result<Bound, BindError> {
    let mut bound = Bound::new();
    for mut addr in addrs {
        if let Some((first, _)) = bound.first().filter(|_| addr.port() == 0) {
            addr.set_port(first.port());
        }
        match socket(addr, settings).and_then(|socket| Ok((socket.local_addr()?, socket))) {
            Ok(pair) => bound.push(pair),
            Err(source) if bound.is_empty() => return Err(BindError { addr, source }),
            Err(error) => tracing::debug!(%addr, "not bound: {error}"),
        }
    }
    Ok(bound)
}

fn socket(addr: SocketAddr, settings: &SocketSettings) -> io::Result<TcpListener> {
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

/// The side of a door that faces the street: all its listeners. Dropping it cuts every connection off.
pub struct Doorway {
    door: &'static str,
    census: Arc<Census>,
    addrs: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    accepting: JoinSet<()>,
}

/// Tells when the door is to close.
#[derive(Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Whether it is so already.
    #[must_use]
    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Completes when connections shall finish what they have begun.
    pub fn wait(&self) -> impl Future<Output = ()> + use<> {
        let mut stop = self.0.clone();
        async move {
            // An error means that the door itself is gone: the same thing.
            let _ = stop.wait_for(|stopped| *stopped).await;
        }
    }
}

impl Doorway {
    /// One that nobody can enter yet.
    #[must_use]
    pub fn new(door: &'static str, census: &Arc<Census>) -> Self {
        let (stop, _) = watch::channel(false);
        Self { door, census: Arc::clone(census), addrs: Vec::new(), stop, accepting: JoinSet::new() }
    }

    /// When this door is to close.
    #[must_use]
    pub fn stop(&self) -> Stop {
        Stop(self.stop.subscribe())
    }

    /// The bound addresses, in the order of the listeners.
    #[must_use]
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Lets people in through one listener, whose connections are counted under `name`.
    pub fn accept(&mut self, name: &str, bound: Bound, host: &Arc<impl Host>) {
        let listener: Listener = (name.into(), self.door);
        for (addr, socket) in bound {
            self.addrs.push(addr);
            let (listener, host, census) = (listener.clone(), Arc::clone(host), Arc::clone(&self.census));
            self.accepting.spawn(accept(socket, listener, host, census, self.stop()));
        }
    }

    /// Stops accepting, lets connections finish what they have begun, and waits for them.
    pub async fn close(mut self) {
        self.stop.send_replace(true);
        while self.accepting.join_next().await.is_some() {}
    }
}

async fn accept(
    socket: TcpListener,
    listener: Listener,
    host: Arc<impl Host>,
    census: Arc<Census>,
    stop: Stop,
) {
    let mut connections = JoinSet::new();
    let mut failed = Complaint::default();
    let mut pause = None;
    let stopping = stop.wait();
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
                Ok((stream, peer)) => {
                    let (seat, pause) = census.seat(&listener, peer.ip(), host.limits(peer.ip()));
                    if let (Some(seat), Ok(local)) = (seat, stream.local_addr()) {
                        // Whether it was lost at once is found out by whoever reads it.
                        let _ = stream.set_nodelay(true);
                        connections.spawn(Arc::clone(&host).serve(Guest { stream, peer, local, seat }));
                    }
                    pause
                }
                Err(error) => {
                    if let Some(times) = failed.count() {
                        tracing::warn!(listener = %listener.0, times, "accept: {error}");
                    }
                    Some(Instant::now() + ACCEPT_PAUSE)
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(socket);
    let left = leave(&mut connections, LEAVE_WITHIN).await;
    if left > 0 {
        tracing::warn!(listener = %listener.0, left, "connections were cut: they did not end by themselves");
    }
}

/// Waits until all have left, at most for so long; how many had to be cut then.
async fn leave(connections: &mut JoinSet<()>, within: Duration) -> usize {
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(within, all).await;
    let left = connections.len();
    connections.shutdown().await;
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Source};

    #[tokio::test]
    async fn a_connection_that_does_not_end_holds_up_no_end() {
        let mut connections = JoinSet::new();
        connections.spawn(async {});
        connections.spawn(std::future::pending());
        let end =
            tokio::time::timeout(Duration::from_secs(60), leave(&mut connections, Duration::from_millis(20)));
        assert_eq!(end.await.ok(), Some(1));
        assert_eq!(leave(&mut connections, Duration::from_secs(60)).await, 0);
    }

    #[tokio::test]
    async fn a_socket_has_the_buffers_and_the_queue_that_it_was_told_to() {
        let bound = |pairs: &[(&str, &str)]| {
            let mut config = Config::default();
            for (key, value) in pairs {
                config.set(key, value, Source::CommandLine).unwrap();
            }
            let addr = "127.0.0.1:0".parse().unwrap();
            bind(vec![addr], &config.connection_settings().sockets).unwrap().remove(0)
        };
        let sizes = [("socket.receive.buffer.bytes", "20000"), ("socket.send.buffer.bytes", "30000")];
        let (_, listener) = bound(&sizes);
        let socket = socket2::SockRef::from(&listener);
        // Linux doubles what it is asked for, for its own needs.
        let told = (socket.recv_buffer_size().unwrap(), socket.send_buffer_size().unwrap());
        assert!(told == (40_000, 60_000) || told == (20_000, 30_000), "{told:?}");

        // Nobody accepts: who finds no place in the queue is not connected.
        let connected = |backlog| {
            let (addr, _listener) = bound(&[("socket.listen.backlog.size", backlog)]);
            let connect =
                |_| std::net::TcpStream::connect_timeout(&addr, std::time::Duration::from_millis(200)).ok();
            (0..8).map(connect).collect::<Vec<_>>().iter().flatten().count()
        };
        assert!(connected("1") < 8);
        assert_eq!(connected("100"), 8);
    }
}
