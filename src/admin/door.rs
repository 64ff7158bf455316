//! The door on its addresses: bind, accept within limits, one task per connection, and the phases of a life.
//!
//! It opens before the broker does and closes after it, so that whoever asks is told "booting" and "stopping".
//! A connection lives a minute: one rule for clients that say nothing, that do not finish, that do not read what they
//! asked for, and that keep a connection. A client that scrapes connects again.
//! Deliberately absent: what is answered (`answer.rs`).

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::answer;
use crate::broker::{Core, Observer};
use crate::config::AdminSettings;

const BACKLOG: i32 = 64;
const CONNECTIONS_MAX: usize = 64;
/// Metrics that are being read at a time: each holds a copy of the broker's numbers.
const SCRAPES_MAX: usize = 4;
/// Requests that work with the broker itself at a time.
const WORK_MAX: u32 = 4;
const LIFE: Duration = Duration::from_secs(60);
/// From the end of an answer, or the start, to the end of the next head.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// How long an answer may take to finish when the connection's life is over or the door closes.
const DRAIN: Duration = Duration::from_secs(5);
/// Longest head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// Pause after an accept that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all requests share.
pub(super) struct Shared {
    pub(super) settings: AdminSettings,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) scrapes: Arc<Semaphore>,
    /// Whoever holds a permit works with the broker itself.
    pub(super) work: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

/// Where the broker is in its life.
#[derive(Clone)]
pub(super) enum Phase {
    /// It opens its data and its doors.
    Booting,
    /// It serves.
    Ready { core: Arc<Core>, observer: Arc<Mutex<Option<Observer>>> },
    /// It drains.
    Stopping,
}

/// The open admin door.
pub struct Door {
    addrs: Vec<SocketAddr>,
    phase: watch::Sender<Phase>,
    stop: watch::Sender<bool>,
    work: Arc<Semaphore>,
    accepting: JoinSet<()>,
}

impl Door {
    /// Binds the addresses and starts to answer. Of several, the first must be bound; a port of 0 takes the first's.
    ///
    /// # Errors
    /// The address that cannot be listened on, and why.
    pub fn open(settings: AdminSettings, addrs: Vec<SocketAddr>) -> Result<Self, (SocketAddr, io::Error)> {
        let mut bound: Vec<(SocketAddr, TcpListener)> = Vec::new();
        for mut addr in addrs {
            if let Some((first, _)) = bound.first().filter(|_| addr.port() == 0) {
                addr.set_port(first.port());
            }
            match bind(addr).and_then(|socket| Ok((socket.local_addr()?, socket))) {
                Ok(pair) => bound.push(pair),
                Err(source) if bound.is_empty() => return Err((addr, source)),
                Err(error) => tracing::debug!(%addr, "not bound: {error}"),
            }
        }
        let (phase, seen) = watch::channel(Phase::Booting);
        let (stop, stopped) = watch::channel(false);
        let scrapes = Arc::new(Semaphore::new(SCRAPES_MAX));
        let work = Arc::new(Semaphore::new(WORK_MAX as usize));
        let shared =
            Arc::new(Shared { settings, phase: seen, scrapes, work: Arc::clone(&work), stop: stopped });
        let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut accepting = JoinSet::new();
        let addrs = bound.iter().map(|(addr, _)| *addr).collect();
        for (_, socket) in bound {
            accepting.spawn(accept(socket, Arc::clone(&shared), Arc::clone(&seats)));
        }
        Ok(Self { addrs, phase, stop, work, accepting })
    }

    /// The bound addresses.
    #[must_use]
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// The broker serves: it is ready, and has metrics.
    pub fn ready(&self, core: &Arc<Core>) {
        let observer = Arc::new(Mutex::new(Some(Observer::new(Arc::clone(core)))));
        self.phase.send_replace(Phase::Ready { core: Arc::clone(core), observer });
    }

    /// The broker drains: it is not ready any more. When this returns, nobody looks at it or changes it.
    pub async fn drain(&self) {
        if let Phase::Ready { observer, .. } = self.phase.send_replace(Phase::Stopping)
            && let Some(observer) = observer.lock().await.take()
        {
            observer.end().await;
        }
        // Nobody closes it, so this is whoever still works coming to an end.
        let _ = self.work.acquire_many(WORK_MAX).await;
    }

    /// Stops accepting, lets answers finish, and waits for them.
    pub async fn close(mut self) {
        // Nobody listening is fine: then there is nothing to stop.
        let _ = self.stop.send(true);
        while self.accepting.join_next().await.is_some() {}
    }
}

impl Shared {
    /// Completes when connections shall end.
    fn stopping(&self) -> impl Future<Output = ()> + use<> {
        let mut stop = self.stop.clone();
        async move {
            // An error means that the door itself is gone: the same thing.
            let _ = stop.wait_for(|stopped| *stopped).await;
        }
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

async fn accept(socket: TcpListener, shared: Arc<Shared>, seats: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    let stopping = shared.stopping();
    tokio::pin!(stopping);
    loop {
        tokio::select! {
            () = &mut stopping => break,
            accepted = socket.accept() => match accepted {
                Ok((stream, peer)) => match Arc::clone(&seats).try_acquire_owned() {
                    Ok(seat) => drop(connections.spawn(serve(stream, Arc::clone(&shared), seat))),
                    Err(_) => tracing::debug!(%peer, "connection refused: limit reached"),
                },
                Err(error) => {
                    tracing::warn!("accept: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(socket);
    while connections.join_next().await.is_some() {}
}

async fn serve(stream: TcpStream, shared: Arc<Shared>, _seat: OwnedSemaphorePermit) {
    let stopping = shared.stopping();
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer::answer(&shared, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = &mut connection => {
            if let Err(error) = ended {
                tracing::debug!("connection: {error}");
            }
            return;
        }
        () = stopping => {}
        () = tokio::time::sleep(LIFE) => {}
    }
    connection.as_mut().graceful_shutdown();
    // Whoever does not finish in time is cut off.
    let _ = tokio::time::timeout(DRAIN, connection).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::broker::in_memory;
    use crate::config::Config;

    async fn ask(door: &Door, path: &str) -> String {
        let mut stream = TcpStream::connect(door.addrs()[0]).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(DRAIN, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }

    #[tokio::test]
    async fn a_broker_that_boots_or_drains_lives_and_is_not_ready() {
        let door = Door::open(AdminSettings::default(), vec!["127.0.0.1:0".parse().unwrap()]).unwrap();
        let core = in_memory(Config::default()).unwrap();
        for (status, word) in [("503", "booting"), ("200", "ready"), ("503", "stopping")] {
            match word {
                "ready" => door.ready(&core),
                "stopping" => door.drain().await,
                _ => {}
            }
            let answer = ask(&door, "/readyz").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(answer.ends_with(&format!(r#"{{"status":"{word}"}}"#)), "{answer}");
            assert!(ask(&door, "/livez").await.starts_with("HTTP/1.1 200 "));
            assert!(ask(&door, "/metrics").await.starts_with(&format!("HTTP/1.1 {status} ")));
            let shards = if word == "ready" { "404" } else { "503" };
            let answer = ask(&door, "/v1/topics/t/shards").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {shards} ")), "{answer}");
        }
        let silent = TcpStream::connect(door.addrs()[0]).await.unwrap();
        tokio::time::timeout(DRAIN, door.close()).await.unwrap();
        drop(silent);
    }
    #[tokio::test]
    async fn a_drain_waits_for_whoever_works_with_the_broker() {
        let door = Door::open(AdminSettings::default(), vec!["127.0.0.1:0".parse().unwrap()]).unwrap();
        door.ready(&in_memory(Config::default()).unwrap());
        let works = Arc::clone(&door.work).acquire_owned().await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(50), door.drain()).await.is_err());
        assert!(ask(&door, "/v1/topics/t/shards").await.starts_with("HTTP/1.1 503 "));
        drop(works);
        tokio::time::timeout(DRAIN, door.drain()).await.unwrap();
    }
}
