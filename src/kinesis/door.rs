//! The door on its addresses: what all requests share, and one HTTP connection from its first byte to its last.
//!
//! A connection is closed when it is idle too long: before its first request 10 s, later 60 s. That is one rule for
//! clients that say nothing, that send a byte now and then (answered 408 when it is their first request), and that keep a
//! connection they do not need.
//! One that holds answers and does not take them is closed at once when others need the memory.
//! Deliberately absent: who is let in (`listen`), what flows over a connection (`exchange.rs`).

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::action::TABLE;
use super::error::{Fault, Kind};
use super::exchange;
use super::reply::Connection;
use super::signature::Gate;
use super::stream::Streams;
use super::subscription::Subscriptions;
use super::token::{Refused, Tokens, Use};
use crate::broker::{Core, Operation};
use crate::config::KinesisSettings;
use crate::listen::{self, BindError, Budget, Census, Doorway, Guest, Host, Limits, Stop};
use crate::lock::{Mutex, rank};

const FIRST_REQUEST_MS: i64 = 10_000;
const IDLE_MS: i64 = 60_000;
/// How long connections may take to finish when the door closes.
const DRAIN: Duration = Duration::from_secs(3);
/// Read buffer of an HTTP/1.1 connection; also bounds its head, and what it keeps of an answer that is on its way out.
const BUFFER_BYTES: usize = 32 * 1024;
/// Bytes of bodies that an HTTP/2 connection may send ahead of what is read, of all its requests: nobody has counted them
/// yet. As many as the protocol lets a connection send before anybody could tell it otherwise.
const WINDOW_BYTES: u32 = 65_535;
/// Requests in flight of an HTTP/2 connection.
const STREAMS_MAX: u32 = 250;
/// So many bodies may always wait for memory.
const AHEAD_MIN: usize = 16;
/// Under what name connections of this door are counted, beside those of the Kafka listeners.
const LISTENER: &str = "KINESIS";
/// What the two budgets are called, and the part of all answers that one connection may hold.
const REQUESTS: &str = "kinesis.queued.max.request.bytes";
const ANSWERS: &str = "kinesis.queued.max.response.bytes";
const SHARES: usize = 4;
/// Where the key of iterators is kept.
const TOKEN_KEY: &str = "kinesis-token-key";

/// What all requests share.
pub(super) struct Shared {
    pub(super) core: Arc<Core>,
    pub(super) settings: KinesisSettings,
    pub(super) gate: Gate,
    pub(super) streams: Arc<Streams>,
    pub(super) tokens: Tokens,
    pub(super) subscriptions: Arc<Subscriptions>,
    /// Memory of what has come and is not answered, and of what is answered and not taken.
    requests: Arc<Budget>,
    answers: Arc<Budget>,
    paces: Mutex<rank::Paces, Paces>,
    /// Counters, one per line of the table.
    pub(super) operations: Vec<Arc<Operation>>,
    /// Counts records that are spread without keys.
    spread: AtomicU64,
    /// Bodies that may wait for memory at a time: of each as much may have come ahead as a connection takes in.
    pub(super) ahead: Semaphore,
    /// When connections shall drain.
    pub(super) stop: Stop,
}

/// When control calls were let in: by place in the table, window, topic and part of it. Rolling windows and not buckets,
/// because the service's daily limits are; they start anew with the broker.
type Paces = HashMap<(usize, i64, Uuid, String), VecDeque<i64>>;

/// Why the door does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The key of iterators cannot be kept.
    #[error(transparent)]
    Topic(#[from] crate::topic::Error),
}

impl Shared {
    /// What the token of a page says.
    pub(super) fn page(&self, purpose: Use, now_ms: i64, token: &str) -> Result<Vec<u8>, Fault> {
        self.tokens.read(purpose, now_ms, token).map_err(|refused| match refused {
            Refused::Forged => Fault::invalid("Invalid NextToken."),
            Refused::Aged(_) => {
                Fault::new(Kind::ExpiredNextToken, "The NextToken is older than 300 seconds.")
            }
        })
    }

    /// A hash for a record that goes anywhere: consecutive ones lie far apart, and evenly.
    pub(super) fn spread(&self) -> u128 {
        // Multiples of the golden ratio.
        let n = self.spread.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        u128::from(n) << 64
    }

    /// What a new connection holds.
    pub(super) fn connection(&self, peer: SocketAddr) -> Arc<Connection> {
        Connection::new(peer, &self.requests, &self.answers)
    }

    pub(super) fn open_shards(&self) -> usize {
        self.streams.all().iter().map(|topic| topic.shards().open_count()).sum()
    }

    /// Takes one call of the operation at `place` of the table out of `most` that are allowed in any `window_ms`, for the
    /// part `of` a topic (nil: the whole account). Says whether it may pass; all may unless rates are held.
    pub(super) fn pace(&self, place: usize, of: (Uuid, &str), most: u32, window_ms: i64) -> bool {
        if !self.settings.limits_control {
            return true;
        }
        let now_ms = self.core.steady_ms();
        let mut paces = self.paces.lock();
        if paces.len() >= paces.capacity() {
            paces.retain(|(_, window_ms, ..), times| times.back().is_some_and(|at| *at > now_ms - window_ms));
        }
        let times = paces.entry((place, window_ms, of.0, of.1.to_owned())).or_default();
        while times.front().is_some_and(|at| *at <= now_ms - window_ms) {
            times.pop_front();
        }
        let passes = times.len() < most as usize;
        if passes {
            times.push_back(now_ms);
        }
        passes
    }
}

/// Binds the addresses and starts to accept.
///
/// # Errors
/// [`OpenError`].
pub async fn open(
    core: &Arc<Core>,
    census: &Arc<Census>,
    settings: KinesisSettings,
    addrs: Vec<SocketAddr>,
) -> Result<Doorway, OpenError> {
    let bound = listen::bind(addrs, &core.connection_settings().sockets)?;
    let mut doorway = Doorway::new("kinesis", census);
    let shared = Arc::new(shared(core, settings, doorway.stop()).await?);
    [&shared.requests, &shared.answers].into_iter().for_each(|budget| census.show(budget));
    doorway.accept(LISTENER, bound, &shared);
    Ok(doorway)
}

impl Host for Shared {
    fn limits(&self, ip: IpAddr) -> Limits {
        let now = self.core.admission();
        let (connections, of_ip) = (now.connections, now.connections_of(ip));
        Limits::Clients { connections, of_ip, per_second: now.per_second }
    }

    fn serve(self: Arc<Self>, guest: Guest) -> impl Future<Output = ()> + Send + 'static {
        serve(self, guest)
    }
}

pub(super) async fn shared(
    core: &Arc<Core>,
    settings: KinesisSettings,
    stop: Stop,
) -> Result<Shared, OpenError> {
    let gate =
        settings.access_keys.clone().map_or(Gate::WellFormed, |keys| Gate::Keys(HashMap::from_iter(keys)));
    Ok(Shared {
        gate,
        paces: Mutex::default(),
        operations: TABLE.iter().map(|entry| core.operations().enrol(entry.name)).collect(),
        streams: Arc::new(Streams::new(Arc::clone(core), settings.account_id.as_str().into())),
        tokens: Tokens::new(token_key(core).await?),
        subscriptions: Arc::default(),
        requests: Budget::new(REQUESTS, settings.max_request_bytes, None),
        answers: Budget::new(
            ANSWERS,
            settings.max_response_bytes,
            settings.max_response_bytes.map(|bytes| bytes / SHARES),
        ),
        spread: AtomicU64::new(0),
        ahead: Semaphore::new(most_ahead(settings.max_request_bytes)),
        core: Arc::clone(core),
        settings,
        stop,
    })
}

/// How many bodies may wait for memory at a time: what may have come of them is a quarter of it.
fn most_ahead(max_request_bytes: Option<usize>) -> usize {
    let quarter = max_request_bytes.map_or(Semaphore::MAX_PERMITS, |bytes| bytes / 4);
    (quarter / WINDOW_BYTES as usize).clamp(AHEAD_MIN, Semaphore::MAX_PERMITS)
}

/// The key of iterators: made once, kept with the data, so that iterators outlive a restart.
async fn token_key(core: &Arc<Core>) -> Result<[u8; 32], OpenError> {
    let kept = core.note(TOKEN_KEY)?;
    if let Some(key) = kept.as_ref().and_then(|(_, bytes)| bytes.first_chunk()) {
        return Ok(*key);
    }
    let mut key = [0; 32];
    for (half, id) in key.chunks_mut(16).zip([core.clock().uuid(), core.clock().uuid()]) {
        half.copy_from_slice(id.as_bytes());
    }
    core.set_note(TOKEN_KEY, bytes::Bytes::copy_from_slice(&key), kept.map(|(version, _)| version)).await?;
    Ok(key)
}

async fn serve(shared: Arc<Shared>, guest: Guest) {
    let Guest { stream, peer, seat: _seat, .. } = guest;
    let client = shared.connection(peer);
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, busy) = (Arc::clone(&shared), client.begin());
        let (head, body) = request.into_parts();
        // Of all that have come, heads are gone before anything is waited for.
        let asked = exchange::look(&shared, &head, body.is_end_stream(), &client);
        drop(head);
        async move { Ok::<_, Infallible>(exchange::answer(&shared, asked, body, busy).await) }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    // Idleness is looked at here, not by hyper, which cannot tell a pause between requests from a slow head.
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(BUFFER_BYTES)
        .max_headers(64);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(exchange::HEAD_BYTES_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_pending_accept_reset_streams(32);
    let (line, last_word) = listen::line(stream);
    let connection = server.serve_connection(TokioIo::new(line), service);
    tokio::pin!(connection);
    let stopping = shared.stop.wait();
    tokio::pin!(stopping);
    loop {
        let (idle_ms, first) = client.idle_ms();
        let left_ms = if first { FIRST_REQUEST_MS } else { IDLE_MS } - idle_ms;
        if left_ms <= 0 {
            last_word.too_slow();
            break;
        }
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, "connection: {error}");
                }
                return;
            }
            () = &mut stopping => break,
            () = client.cut.notified() => {
                tracing::debug!(%peer, "closed: it does not take its answers, and others need the memory ({ANSWERS})");
                return;
            }
            // Whoever was busy meanwhile gets another look.
            () = tokio::time::sleep(Duration::from_millis(left_ms.unsigned_abs())) => {}
        }
    }
    connection.as_mut().graceful_shutdown();
    // Whoever does not finish in time is cut off.
    let _ = tokio::time::timeout(DRAIN, connection).await;
}
