//! The API table: one line per API, in key order; ApiVersions, the README and the wire tests read it.
//!
//! To add an API: one file here, one `mod` line, one table line. Two phases for free: `answer` is a plain
//! function. What its body does happens in request order; a future that it returns completes out of order
//! (`Phased`; `Waits` where it hangs on other clients) or holds back the next request (`Alone`), and is always written in order.
//! What is answered on a worker is short work with a short answer: a large request, and one whose answer may be large
//! (`is_large`), is answered in a lane (`broker::Core::compute`), once there is memory for its answer.
//! Deliberately absent: frames and sockets.

#[cfg(test)]
mod admin_tests;
mod alter_client_quotas;
mod alter_configs;
mod api_versions;
mod create_acls;
mod create_partitions;
mod create_topics;
mod delete_acls;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_acls;
mod describe_client_quotas;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_topic_partitions;
pub(super) mod fetch;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
#[cfg(test)]
mod lane_tests;
mod leave_group;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod operations;
pub(super) mod produce;
mod resource;
mod sync_group;
mod throttle;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, Waker};

use bytes::Bytes;
use kafka_protocol::protocol::{Decodable, Encodable, Request};
use tokio::time::Instant;

use super::answers::Answers;
use super::connection::Close;
use super::out::Body;
use super::schema;
use super::wire::Malformed;
use crate::broker::clients::{Meter, Meters};
use crate::broker::{Core, IncidentKind, Refused, Unopened, Wave};
use crate::listen::Lease;
use crate::topic::{Error, Partition};

/// Requests above this are answered in a lane, save those that carry records.
const LARGE_BYTES: usize = 8 * 1024;
/// Fetches above this are decoded in a lane; below that is done where they are asked, and all are read in steps.
const LARGE_FETCH_BYTES: usize = 64 * 1024;
/// Produce requests above this are checked and appended in a lane.
const LARGE_PRODUCE_BYTES: usize = 4 * 1024 * 1024;
/// How many times the bytes of a request it takes to read and to answer it, about: its elements are structures, and so are
/// those of its answer.
const READ_FACTOR: usize = 8;
/// With less memory than that no answer of unknown size is made.
const LARGE_ANSWER_BYTES: usize = 64 * 1024;
/// Elements of an answer that are still made on a worker.
const FEW: usize = 64;

/// A future that completes an answer.
pub(super) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What an API may use to answer.
pub(super) struct Context<'a> {
    pub(super) core: &'a Arc<Core>,
    /// Appends of this wake-up.
    pub(super) wave: &'a mut Wave,
    /// Name of the listener that the client came through. Its advertised address is looked up at every use, so
    /// that it can be altered while running.
    pub(super) listener: &'a str,
    pub(super) client_id: Option<&'a str>,
    pub(super) peer: SocketAddr,
    /// The address that the client connected to.
    pub(super) local: SocketAddr,
    /// What the answers of the door share.
    pub(super) answers: &'a Arc<Answers>,
    /// Whether this is a worker of the runtime's, which others wait for.
    pub(super) on_worker: bool,
    /// Quotas of this user and client id, if there are any at all.
    pub(super) meters: Option<&'a Meters>,
    /// How long this client has to wait for its own quota of requests. Milliseconds, set by [`answer`].
    pub(super) throttle_ms: u32,
    /// Memory that an answer which is still to come takes beside its request, set by the API.
    pub(super) held_bytes: usize,
    /// Logs that the request needs and that nobody has opened: with any of them it is answered anew once they are open, and
    /// what it was answered before is dropped.
    pub(super) unopened: Unopened,
    /// Logs that could not be opened for this request.
    pub(super) refused: Refused,
}

#[cfg(test)]
impl<'a> Context<'a> {
    /// Of a test, on a worker, before any log was found closed.
    pub(super) fn of_test(core: &'a Arc<Core>, wave: &'a mut Wave, answers: &'a Arc<Answers>) -> Self {
        let addr = SocketAddr::from(([127, 0, 0, 1], 9092));
        Self {
            core,
            wave,
            listener: "PLAINTEXT",
            client_id: None,
            peer: addr,
            local: addr,
            answers,
            on_worker: true,
            meters: None,
            throttle_ms: 0,
            held_bytes: 0,
            unopened: Unopened::new(),
            refused: Refused::new(),
        }
    }
}

impl Context<'_> {
    /// Whether the partition can be asked without a wait; if not, the request waits until it can ([`Context::unopened`]).
    /// Nothing is opened here, also in a lane: others wait for that.
    ///
    /// # Errors
    /// Why its log could not be opened.
    pub(super) fn is_open(&mut self, partition: &Arc<Partition>) -> Result<bool, Error> {
        if partition.is_open() {
            return Ok(true);
        }
        if let Some(error) = self.refused.get(&partition.id()) {
            return Err(error.clone());
        }
        self.unopened.insert(partition.id(), Arc::clone(partition));
        Ok(false)
    }
}

/// An encoded answer, or one that is still to come.
pub(super) enum Answer {
    /// Done.
    Now(Body),
    /// Done once the wave is committed and durable.
    Produce(produce::Reply),
    /// All effects have happened in order; only the response is still to come.
    Phased(BoxFuture<Body>),
    /// The same, and it waits for other clients: it keeps nothing of the request, whose memory others may need.
    Waits(BoxFuture<Body>),
    /// The same, of a fetch, which may have much to do.
    Fetch(Box<fetch::LongPoll>),
    /// Nothing after it on this connection starts before it is done.
    Alone(BoxFuture<Body>),
    /// Too long for a worker: nothing has happened yet.
    Long,
    /// Work that waits for memory, not begun. Nothing after it starts before it is done.
    Deferred(Work),
}

/// Work that has begun.
pub(super) type Begun = BoxFuture<Result<Outcome, Close>>;

/// What came of deferred work.
pub(super) enum Outcome {
    Done(Late),
    /// Nothing: answers hold too much memory, try again later.
    TooMuch,
    /// Nothing: these logs are not open, and no lane waits for that. It is answered anew once they are.
    Unopened(Vec<Arc<Partition>>),
}

/// Deferred work: of a lane, or of a worker once there is memory for it.
pub(super) struct Work {
    /// Begins it, told whether it is done whatever memory answers hold.
    pub(super) begin: Box<dyn Fn(bool) -> Begun + Send>,
    /// Memory that the request takes once it is read, beside its bytes.
    pub(super) read_bytes: usize,
    /// Memory without which its answer is not made: none where that asks for its own.
    pub(super) answer_bytes: usize,
}

/// What deferred work answered.
pub(super) struct Late {
    pub(super) answer: Answer,
    /// How long this client has to wait for its own quota of requests. Milliseconds.
    pub(super) throttle_ms: u32,
    /// Memory that the answer takes beside its request while it is still to come.
    pub(super) held_bytes: usize,
    /// Counts the answer's memory from before the lane is free until the connection does.
    _lease: Lease,
}

/// A typed answer of an API that is encoded by `kafka_protocol`.
pub(super) enum Reply<R> {
    Now(R),
    Phased(BoxFuture<R>),
    Waits(BoxFuture<R>),
    Alone(BoxFuture<R>),
}

impl<R> Reply<R> {
    pub(super) fn phased(future: impl Future<Output = R> + Send + 'static) -> Self {
        Self::Phased(Box::pin(future))
    }

    pub(super) fn waits(future: impl Future<Output = R> + Send + 'static) -> Self {
        Self::Waits(Box::pin(future))
    }

    pub(super) fn alone(future: impl Future<Output = R> + Send + 'static) -> Self {
        Self::Alone(Box::pin(future))
    }
}

type ResponseOf<A> = <<A as Api>::Request as Request>::Response;

/// An API whose messages `kafka_protocol` decodes and encodes. The body has been walked against its schema.
pub(super) trait Api {
    type Request: Request<Response: Send + 'static>;
    /// What ApiVersions says; complete over the whole range.
    const VERSIONS: RangeInclusive<i16>;
    /// Whether bytes after the request are ignored, as Apache Kafka ignores them everywhere. Only where a
    /// client is known to send them: elsewhere they mean that client and broker disagree.
    const IGNORES_BYTES_AFTER_THE_END: bool = false;

    fn answer(cx: &mut Context<'_>, version: i16, request: Self::Request) -> Reply<ResponseOf<Self>>;

    /// Whether the answer of a short request may take more than a moment or some kilobytes.
    fn is_large(_cx: &Context<'_>, _request: &Self::Request) -> bool {
        false
    }

    /// An answer that is not encoded anew for everybody who asks.
    fn ready(
        _cx: &mut Context<'_>,
        _version: i16,
        _request: &Self::Request,
    ) -> Result<Option<Answer>, Close> {
        Ok(None)
    }

    /// Versions that the crate lacks are read by hand in the API's own file.
    fn decode(version: i16, body: &mut Bytes) -> Result<Self::Request, Close> {
        Self::Request::decode(body, version).map_err(|e| Close::Refused(format!("request body: {e}")))
    }

    /// Versions that the crate lacks are written by hand in the API's own file.
    fn encode(version: i16, response: &ResponseOf<Self>) -> Result<Vec<u8>, Close> {
        let mut out = Vec::new();
        response.encode(&mut out, version).map_err(|e| Close::Refused(format!("response body: {e}")))?;
        Ok(out)
    }
}

/// A line of the table.
pub(super) struct Entry {
    pub(super) key: i16,
    pub(super) name: &'static str,
    pub(super) min: i16,
    pub(super) max: i16,
    answer: fn(&mut Context<'_>, i16, Bytes) -> Result<Answer, Close>,
}

impl Entry {
    /// The largest request that is answered on a worker.
    fn bytes_on_worker(&self) -> usize {
        match self.key {
            produce::KEY => LARGE_PRODUCE_BYTES,
            fetch::KEY => LARGE_FETCH_BYTES,
            _ => LARGE_BYTES,
        }
    }

    /// The largest request that does not wait for memory.
    fn bytes_at_once(&self, version: i16) -> usize {
        match self.key {
            fetch::KEY => fetch::bytes_at_once(version),
            _ => self.bytes_on_worker(),
        }
    }

    /// Memory that a request of so many bytes takes once it is read, and that its answer takes at the least where it is made
    /// at once.
    fn needs(&self, version: i16, bytes: usize) -> (usize, usize) {
        match self.key {
            // Records stay where they are.
            produce::KEY => (0, 0),
            fetch::KEY => (fetch::read_bytes(version, bytes), 0),
            _ => (bytes * READ_FACTOR, LARGE_ANSWER_BYTES),
        }
    }
}

const fn entry<A: Api<Request: Request<Response: Send + 'static>>>(name: &'static str) -> Entry {
    Entry {
        key: A::Request::KEY,
        name,
        min: *A::VERSIONS.start(),
        max: *A::VERSIONS.end(),
        answer: typed::<A>,
    }
}

/// Every API that this broker serves, by key.
pub(super) const TABLE: &[Entry] = &[
    produce::ENTRY,
    fetch::ENTRY,
    entry::<list_offsets::ListOffsets>("ListOffsets"),
    entry::<metadata::Metadata>("Metadata"),
    offset_commit::ENTRY,
    offset_fetch::ENTRY,
    entry::<find_coordinator::FindCoordinator>("FindCoordinator"),
    entry::<join_group::JoinGroup>("JoinGroup"),
    entry::<heartbeat::Heartbeat>("Heartbeat"),
    entry::<leave_group::LeaveGroup>("LeaveGroup"),
    entry::<sync_group::SyncGroup>("SyncGroup"),
    entry::<describe_groups::DescribeGroups>("DescribeGroups"),
    entry::<list_groups::ListGroups>("ListGroups"),
    api_versions::ENTRY,
    entry::<create_topics::CreateTopics>("CreateTopics"),
    entry::<delete_topics::DeleteTopics>("DeleteTopics"),
    entry::<delete_records::DeleteRecords>("DeleteRecords"),
    entry::<init_producer_id::InitProducerId>("InitProducerId"),
    entry::<offset_for_leader_epoch::OffsetForLeaderEpoch>("OffsetForLeaderEpoch"),
    entry::<describe_acls::DescribeAcls>("DescribeAcls"),
    entry::<create_acls::CreateAcls>("CreateAcls"),
    entry::<delete_acls::DeleteAcls>("DeleteAcls"),
    entry::<describe_configs::DescribeConfigs>("DescribeConfigs"),
    entry::<alter_configs::AlterConfigs>("AlterConfigs"),
    entry::<describe_log_dirs::DescribeLogDirs>("DescribeLogDirs"),
    entry::<create_partitions::CreatePartitions>("CreatePartitions"),
    entry::<delete_groups::DeleteGroups>("DeleteGroups"),
    entry::<incremental_alter_configs::IncrementalAlterConfigs>("IncrementalAlterConfigs"),
    entry::<list_partition_reassignments::ListPartitionReassignments>("ListPartitionReassignments"),
    entry::<offset_delete::OffsetDelete>("OffsetDelete"),
    entry::<describe_client_quotas::DescribeClientQuotas>("DescribeClientQuotas"),
    entry::<alter_client_quotas::AlterClientQuotas>("AlterClientQuotas"),
    entry::<describe_cluster::DescribeCluster>("DescribeCluster"),
    entry::<describe_topic_partitions::DescribeTopicPartitions>("DescribeTopicPartitions"),
];

/// Key, name and version range of every API served, by key.
pub fn supported_apis() -> impl Iterator<Item = (i16, &'static str, RangeInclusive<i16>)> {
    TABLE.iter().map(|e| (e.key, e.name, e.min..=e.max))
}

#[allow(clippy::indexing_slicing, reason = "at compile time a bad index stops the build")]
const _: () = {
    let mut at = 1;
    while at < TABLE.len() {
        assert!(TABLE[at - 1].key < TABLE[at].key, "the API table is not in key order");
        at += 1;
    }
};

/// Whether the response header of this version has a tag section, and the answer. A refusal names the client: whoever
/// reads the log has to find it.
pub(super) fn answer(
    cx: &mut Context<'_>,
    key: i16,
    version: i16,
    body: Bytes,
) -> Result<(bool, Answer), Close> {
    serve(cx, key, version, body).map_err(|close| match close {
        Close::Refused(why) => Close::Refused(format!("{why}; client id {}", named(cx.client_id))),
        other => other,
    })
}

/// Says in the log who asked for a transaction, once a second at most: the client gives up, and its words alone may not say
/// why.
pub(super) fn refuse_transaction(cx: &Context<'_>) {
    if cx.core.lines().unheeded.admit().is_some() {
        tracing::warn!(peer = %cx.peer, "transactions are not served yet; client id {}", named(cx.client_id));
    }
}

/// A client id for people: nothing raw, and not longer than a line has room for.
fn named(client_id: Option<&str>) -> String {
    let id = client_id.unwrap_or_default();
    let cut = id.floor_char_boundary(CLIENT_ID_BYTES_SHOWN);
    format!("{:?}{}", id.get(..cut).unwrap_or_default(), if cut < id.len() { "…" } else { "" })
}

const CLIENT_ID_BYTES_SHOWN: usize = 100;

fn serve(cx: &mut Context<'_>, key: i16, version: i16, body: Bytes) -> Result<(bool, Answer), Close> {
    let Ok(at) = TABLE.binary_search_by_key(&key, |e| e.key) else {
        return Err(Close::Refused(format!("api key {key} ({}) is not served", schema::name(key))));
    };
    #[allow(clippy::indexing_slicing, reason = "found a line above")]
    let entry = &TABLE[at];
    if version < entry.min || version > entry.max {
        if key == api_versions::KEY {
            return Ok((false, Answer::Now(api_versions::unsupported().into())));
        }
        return Err(Close::Refused(format!("{} has no version {version}", entry.name)));
    }
    // The response header of ApiVersions is v0 in every version (KIP-511).
    let flexible = key != api_versions::KEY && version >= schema::flexible_from(key);
    // As long as it is not begun it can wait for memory.
    if cx.on_worker && body.len() > entry.bytes_at_once(version) {
        return Ok((flexible, Answer::Deferred(later(cx, entry, version, body))));
    }
    Ok((
        flexible,
        match metered(cx, entry, version, body.clone())? {
            Answer::Long => Answer::Deferred(later(cx, entry, version, body)),
            answer => answer,
        },
    ))
}

/// The answer, charged to the client's quota of requests.
fn metered(cx: &mut Context<'_>, entry: &Entry, version: i16, body: Bytes) -> Result<Answer, Close> {
    let Some(meter) = cx.meters.and_then(|meters| meters.request.as_ref()) else {
        return (entry.answer)(cx, version, body);
    };
    let begun = Instant::now();
    let answer = (entry.answer)(cx, version, body)?;
    let spent_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    cx.throttle_ms = charge(cx.core, meter, spent_ns);
    Ok(throttled(answer, entry.key, version, cx.throttle_ms))
}

/// The work of answering once there is memory: in a lane, save a fetch, whose decoding is short.
fn later(cx: &Context<'_>, entry: &'static Entry, version: i16, body: Bytes) -> Work {
    let (core, answers) = (Arc::clone(cx.core), Arc::clone(cx.answers));
    let listener: Arc<str> = cx.listener.into();
    let client_id: Option<Arc<str>> = cx.client_id.map(Into::into);
    let (peer, local, meters) = (cx.peer, cx.local, cx.meters.cloned());
    let is_produce = entry.key == produce::KEY;
    let is_short = entry.key == fetch::KEY && body.len() <= entry.bytes_on_worker();
    let (read_bytes, answer_bytes) = entry.needs(version, body.len());
    let refused = cx.refused.clone();
    let begin: Box<dyn Fn(bool) -> _ + Send> = Box::new(move |at_any_rate| {
        let (core, answers, body, meters) =
            (Arc::clone(&core), Arc::clone(&answers), body.clone(), meters.clone());
        let refused = refused.clone();
        let (listener, client_id) = (Arc::clone(&listener), client_id.clone());
        let lane = Arc::clone(&core);
        let compute = move || {
            if answer_bytes > 0 && !at_any_rate && answers.budget.is_short() {
                return Ok(Outcome::TooMuch);
            }
            let mut wave = Wave::default();
            if is_produce {
                wave.set_client(produce::client(client_id.as_deref().unwrap_or_default(), peer));
            }
            let mut cx = Context {
                core: &core,
                wave: &mut wave,
                listener: &listener,
                client_id: client_id.as_deref(),
                peer,
                local,
                answers: &answers,
                on_worker: false,
                meters: meters.as_ref(),
                throttle_ms: 0,
                held_bytes: 0,
                unopened: Unopened::new(),
                refused,
            };
            let mut answer = metered(&mut cx, entry, version, body)?;
            if !cx.unopened.is_empty() {
                return Ok(Outcome::Unopened(cx.unopened.into_values().collect()));
            }
            let (throttle_ms, held_bytes) = (cx.throttle_ms, cx.held_bytes);
            if let Answer::Produce(reply) = &mut answer {
                wave.commit(core.now_ms());
                reply.settle(&core, &mut wave)?;
                wave.sync_elsewhere();
            }
            let answer = at_once(answer);
            let mut lease = answers.budget.account().lease();
            if let Answer::Now(body) = &answer {
                lease.settle(body.heap_len());
            }
            Ok(Outcome::Done(Late { answer, throttle_ms, held_bytes, _lease: lease }))
        };
        Box::pin(async move {
            let refused = || Close::Refused(format!("{} (key {}) failed", entry.name, entry.key));
            if is_short {
                return compute();
            }
            lane.compute(Some(peer), compute).await.unwrap_or_else(|| Err(refused()))
        }) as BoxFuture<_>
    });
    Work { begin, read_bytes, answer_bytes }
}

/// What has nothing to wait for is encoded in the lane, too.
fn at_once(answer: Answer) -> Answer {
    let mut nobody = Task::from_waker(Waker::noop());
    match answer {
        Answer::Phased(mut future) => match future.as_mut().poll(&mut nobody) {
            Poll::Ready(body) => Answer::Now(body),
            Poll::Pending => Answer::Phased(future),
        },
        Answer::Waits(mut future) => match future.as_mut().poll(&mut nobody) {
            Poll::Ready(body) => Answer::Now(body),
            Poll::Pending => Answer::Waits(future),
        },
        Answer::Alone(mut future) => match future.as_mut().poll(&mut nobody) {
            Poll::Ready(body) => Answer::Now(body),
            Poll::Pending => Answer::Alone(future),
        },
        answer => answer,
    }
}

/// Charges a client's quota; how long it has to wait. Milliseconds, at most [`produce::THROTTLE_MS_MAX`].
pub(super) fn charge(core: &Core, meter: &Meter, units: u64) -> u32 {
    let wait_ns = meter.charge(units, core.client_quotas().ns(core.steady_ms()));
    u32::try_from(wait_ns.div_ceil(1_000_000)).unwrap_or(u32::MAX).min(produce::THROTTLE_MS_MAX)
}

/// The answer, with `throttle_time_ms` of at least `throttle_ms`.
fn throttled(answer: Answer, key: i16, version: i16, throttle_ms: u32) -> Answer {
    if throttle_ms == 0 {
        return answer;
    }
    let raise = move |mut body: Body| {
        throttle::raise(&mut body, key, version, throttle_ms);
        body
    };
    match answer {
        Answer::Now(body) => Answer::Now(raise(body)),
        Answer::Produce(reply) => Answer::Produce(reply.throttled(throttle_ms)),
        Answer::Fetch(poll) => Answer::Fetch(Box::new(poll.throttled(throttle_ms))),
        Answer::Phased(future) => Answer::Phased(Box::pin(async move { raise(future.await) })),
        Answer::Waits(future) => Answer::Waits(Box::pin(async move { raise(future.await) })),
        Answer::Alone(future) => Answer::Alone(Box::pin(async move { raise(future.await) })),
        answer @ (Answer::Long | Answer::Deferred(_)) => answer,
    }
}

fn typed<A: Api<Request: Request<Response: Send + 'static>>>(
    cx: &mut Context<'_>,
    version: i16,
    mut body: Bytes,
) -> Result<Answer, Close> {
    match schema::walk(A::Request::KEY, version, &body) {
        Err(m) if !(A::IGNORES_BYTES_AFTER_THE_END && m.why == schema::Why::TrailingBytes) => {
            return Err(Close::Refused(format!("{} v{version}: {m}", schema::name(A::Request::KEY))));
        }
        Ok(()) | Err(_) => {}
    }
    let request = A::decode(version, &mut body)?;
    let incidents = Arc::clone(cx.core.incidents());
    if let Some(ready) = A::ready(cx, version, &request)? {
        return Ok(ready);
    }
    if cx.on_worker && A::is_large(cx, &request) {
        return Ok(Answer::Long);
    }
    let encode = move |response: &ResponseOf<A>| match A::encode(version, response) {
        Ok(bytes) => Body::from(bytes),
        // Only a response that we built wrong cannot be encoded.
        Err(close) => {
            incidents.note(IncidentKind::Internal, &close);
            debug_assert!(false, "{close}");
            Body::default()
        }
    };
    Ok(match A::answer(cx, version, request) {
        Reply::Now(response) => Answer::Now(encode(&response)),
        Reply::Phased(future) => Answer::Phased(Box::pin(async move { encode(&future.await) })),
        Reply::Waits(future) => Answer::Waits(Box::pin(async move { encode(&future.await) })),
        Reply::Alone(future) => Answer::Alone(Box::pin(async move { encode(&future.await) })),
    })
}

impl From<Malformed> for Close {
    fn from(malformed: Malformed) -> Self {
        Self::Refused(format!("request body: {malformed}"))
    }
}
