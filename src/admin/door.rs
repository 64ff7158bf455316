//! The door on its addresses: one HTTP connection from its first byte to its last, and the phases of a life.
//!
//! It opens before the broker does and closes after it, so that whoever asks is told "booting" and "stopping".
//! A connection lives a minute: one rule for clients that say nothing, that do not finish, that do not read what they
//! asked for, and that keep a connection. A client that scrapes connects again. A head has 10 s (408 when it is the first).
//! Deliberately absent: who is let in (`listen`), what is answered (`answer.rs`).

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Mutex, Semaphore, watch};

use super::answer;
use crate::broker::{Core, Observer};
use crate::config::{AdminSettings, SocketSettings};
use crate::listen::{self, BindError, Budget, Census, Doorway, Guest, Host, Limits, Stop};

const CONNECTIONS_MAX: usize = 64;
const SOCKETS: SocketSettings =
    SocketSettings { backlog: 64, send_buffer_bytes: None, receive_buffer_bytes: None };
/// Under what name connections of this door are counted, beside those of the Kafka listeners.
const LISTENER: &str = "ADMIN";
/// Metrics that are being read at a time: each holds a copy of the broker's numbers.
const SCRAPES_MAX: usize = 4;
/// What the budget of their bytes is called.
const ANSWERS: &str = "admin.queued.max.response.bytes";
/// Requests that work with the broker itself at a time.
const WORK_MAX: u32 = 4;
const LIFE: Duration = Duration::from_secs(60);
/// From the end of an answer, or the start, to the end of the next head.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long an answer may take to finish when the connection's life is over or the door closes.
const DRAIN: Duration = Duration::from_secs(5);
/// Longest head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

/// What all requests share.
pub(super) struct Shared {
    pub(super) settings: AdminSettings,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) scrapes: Arc<Semaphore>,
    /// Memory of answers that are being read.
    pub(super) answers: Arc<Budget>,
    pub(super) census: Arc<Census>,
    /// Whoever holds a permit works with the broker itself.
    pub(super) work: Arc<Semaphore>,
    stop: Stop,
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
    doorway: Doorway,
    phase: watch::Sender<Phase>,
    work: Arc<Semaphore>,
}

impl Door {
    /// Binds the addresses and starts to answer.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn open(
        census: &Arc<Census>,
        settings: AdminSettings,
        addrs: Vec<SocketAddr>,
    ) -> Result<Self, BindError> {
        let bound = listen::bind(addrs, &SOCKETS)?;
        let (phase, seen) = watch::channel(Phase::Booting);
        let mut doorway = Doorway::new("admin", census);
        let work = Arc::new(Semaphore::new(WORK_MAX as usize));
        let answers = Budget::new(ANSWERS, settings.max_response_bytes, None);
        census.show(&answers);
        let shared = Shared {
            settings,
            answers,
            phase: seen,
            scrapes: Arc::new(Semaphore::new(SCRAPES_MAX)),
            census: Arc::clone(census),
            work: Arc::clone(&work),
            stop: doorway.stop(),
        };
        doorway.accept(LISTENER, bound, &Arc::new(shared));
        Ok(Self { doorway, phase, work })
    }

    /// The bound addresses.
    #[must_use]
    pub fn addrs(&self) -> &[SocketAddr] {
        self.doorway.addrs()
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
    pub async fn close(self) {
        self.doorway.close().await;
    }
}

impl Host for Shared {
    fn limits(&self, _: IpAddr) -> Limits {
        Limits::Reserved(CONNECTIONS_MAX)
    }

    fn serve(self: Arc<Self>, guest: Guest) -> impl Future<Output = ()> + Send + 'static {
        serve(self, guest)
    }
}

async fn serve(shared: Arc<Shared>, guest: Guest) {
    let Guest { stream, seat: _seat, .. } = guest;
    let stopping = shared.stop.wait();
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer::answer(&shared, request).await) }
    });
    let (line, last_word) = listen::line(stream);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(line), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = &mut connection => {
            if let Err(error) = ended {
                tracing::debug!("connection: {error}");
                if error.is_timeout() {
                    last_word.too_slow();
                }
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
    use tokio::net::TcpStream;

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
        let door =
            Door::open(&Arc::default(), AdminSettings::default(), vec!["127.0.0.1:0".parse().unwrap()])
                .unwrap();
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
    async fn a_few_at_a_time_work_with_the_broker_and_the_others_are_told() {
        let door =
            Door::open(&Arc::default(), AdminSettings::default(), vec!["127.0.0.1:0".parse().unwrap()])
                .unwrap();
        door.ready(&in_memory(Config::default()).unwrap());
        let mut working = Vec::new();
        for _ in 0..WORK_MAX {
            assert!(ask(&door, "/v1/topics/t/shards").await.starts_with("HTTP/1.1 404 "), "there is room");
            working.push(Arc::clone(&door.work).try_acquire_owned().unwrap());
        }
        assert!(ask(&door, "/v1/topics/t/shards").await.starts_with("HTTP/1.1 503 "));
        assert!(ask(&door, "/readyz").await.starts_with("HTTP/1.1 200 "), "health is not behind them");
        working.pop();
        assert!(ask(&door, "/v1/topics/t/shards").await.starts_with("HTTP/1.1 404 "));
    }

    #[tokio::test]
    async fn a_drain_waits_for_whoever_works_with_the_broker() {
        let door =
            Door::open(&Arc::default(), AdminSettings::default(), vec!["127.0.0.1:0".parse().unwrap()])
                .unwrap();
        door.ready(&in_memory(Config::default()).unwrap());
        let works = Arc::clone(&door.work).acquire_owned().await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(50), door.drain()).await.is_err());
        assert!(ask(&door, "/v1/topics/t/shards").await.starts_with("HTTP/1.1 503 "));
        drop(works);
        tokio::time::timeout(DRAIN, door.drain()).await.unwrap();
    }
}
