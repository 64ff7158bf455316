//! Produce (key 0), versions 0-13, flexible from 9. Read and written by hand: the hot path.
//!
//! Behaviour: batches are checked, placed and appended in request order, all batches of one socket read with
//! one write per partition; the reply waits for durability when acks=-1 and `flush=group`.
//! A shard's write limits never cost a record: the batch is taken, the answer names the time to wait, and
//! the connection is not read meanwhile (law 8).
//! acks=0 is silent; an error under acks=0 closes the connection, as in Apache Kafka.
//!
//! - v0-2: stay in the range because librdkafka before 2.11 tests for v0 (KAFKA-18659); answered with 35.
//! - v3: transactional id, record batches v2 (KIP-98); exactly one batch per partition.
//! - v5: log start offset in the response (KIP-107).
//! - v6: throttling happens after the response (KIP-219).
//! - v7: zstd (KIP-110). v8: record errors and messages (KIP-467).
//! - v9: flexible (KIP-482). v10: leader hints (KIP-951; one node, so never sent).
//! - v12: implicit partitions in transactions (KIP-890; no transactions yet).
//! - v13: topic ids instead of names (KIP-516).
//!
//! Known deviations from Apache Kafka: with `shard.quota.mode=reject` a batch over the limits is answered with
//! NOT_ENOUGH_REPLICAS, which every client retries; compressed records that come to more than `max.decompressed.bytes`,
//! or to more than 1000 times their bytes (above 16 MiB), are refused; the retry of an idempotent batch tells the append time on log-append-time topics only; a produce with
//! a transactional id is INVALID_TXN_STATE, because there are no transactions yet; `timeout.ms` is not used (one node acknowledges at once or fails).

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use uuid::Uuid;

use super::{Answer, Context, Entry};
use crate::batch::{Batch, Invalid, Rules};
use crate::broker::{Core, Receipt, StoreError, Wave};
use crate::kafka::connection::Close;
use crate::kafka::error::{self, Code};
use crate::kafka::out::Body;
use crate::kafka::wire::{Malformed, Reader, Writer};
use crate::topic::{Appended, Error, Topic};

pub(in crate::kafka) const KEY: i16 = 0;
pub(super) const ENTRY: Entry = Entry { key: KEY, name: "Produce", min: 0, max: 13, answer };

const FLEXIBLE_FROM: i16 = 9;
const TOPIC_IDS_FROM: i16 = 13;
/// First version whose clients know zstd.
const ZSTD_FROM: i16 = 7;
/// First version that carries v2 record batches.
const BATCHES_FROM: i16 = 3;

/// Plain bytes of compressed records that one request has decompressed on a worker.
const PLAIN_BYTES_ON_WORKER: usize = 512 << 10;
/// How many plain bytes each byte of a request may stand for, beyond `max.decompressed.bytes`: a batch may be denser, but
/// a request of many such batches is a bomb.
const PLAIN_BYTES_PER_BYTE: usize = 64;

const DENSE: Invalid = Invalid::Record("the batches of this request decompress past the cap");

/// Longest time that a client is told to wait for a shard's limit, and that its connection is not read: below every
/// client's request timeout. What is left of a debt counts in the next answer.
pub(in crate::kafka) const THROTTLE_MS_MAX: u32 = 5_000;

/// A produce request between its append and its response.
pub(in crate::kafka) struct Reply {
    version: i16,
    acks: i16,
    throttle_ms: u32,
    topics: Vec<TopicReply>,
}

struct TopicReply {
    key: TopicKey,
    partitions: Vec<PartitionReply>,
}

enum TopicKey {
    Known(Arc<str>),
    Unknown(Box<str>),
    Id(Uuid),
}

/// Why a partition's batch was not appended.
struct Refusal {
    code: Code,
    message: Option<String>,
    /// Records that are to blame, by their place in the batch (KIP-467).
    records: Vec<i32>,
}

struct PartitionReply {
    index: i32,
    state: State,
}

enum State {
    /// In the wave, at this place.
    Queued(usize),
    Waiting(Receipt, Appended),
    Done(Appended),
    Failed(Refusal),
}

fn answer(cx: &mut Context<'_>, version: i16, body: Bytes) -> Result<Answer, Close> {
    let mut reader = Reader::new(&body, version >= FLEXIBLE_FROM);
    let before = cx.wave.len();
    match (Request { version, bytes: body.len(), reader: &mut reader }).run(cx) {
        Ok(_) if !cx.unopened.is_empty() => {
            cx.wave.truncate(before);
            Ok(Answer::Now(Body::default()))
        }
        Ok(Some(reply)) => {
            let meter = cx.meters.and_then(|meters| meters.produce.as_ref());
            let throttle_ms = meter.map_or(0, |meter| super::charge(cx.core, meter, body.len() as u64));
            Ok(Answer::Produce(reply.throttled(throttle_ms)))
        }
        // All of it is done again where there is time.
        Ok(None) => {
            cx.wave.truncate(before);
            Ok(Answer::Long)
        }
        Err(malformed) => {
            // Nothing of a request that does not read is appended.
            cx.wave.truncate(before);
            Err(malformed.into())
        }
    }
}

/// Whose batches these are, in words for people.
pub(in crate::kafka) fn client(client_id: &str, peer: SocketAddr) -> Arc<str> {
    format!("{} at {}", super::named(Some(client_id)), peer.ip()).into()
}

struct Request<'r, 'b> {
    version: i16,
    bytes: usize,
    reader: &'r mut Reader<'b>,
}

impl Request<'_, '_> {
    /// `None`: there is more to decompress than a worker has time for.
    fn run(self, cx: &mut Context<'_>) -> Result<Option<Reply>, Malformed> {
        let Self { version, bytes, reader } = self;
        let transactional = version >= BATCHES_FROM && reader.nullable_string()?.is_some();
        let acks = reader.i16()?;
        let _timeout_ms = reader.i32()?;
        let refusal = if version < BATCHES_FROM {
            Some(Code::UNSUPPORTED_VERSION)
        } else if !(-1..=1).contains(&acks) {
            Some(Code::INVALID_REQUIRED_ACKS)
        } else if transactional {
            Some(Code::INVALID_TXN_STATE)
        } else {
            None
        };
        let count = reader.count(if version >= TOPIC_IDS_FROM { 17 } else { 3 })?;
        let most = cx.core.topic_settings().max_decompressed_bytes;
        let mut budget = if cx.on_worker {
            PLAIN_BYTES_ON_WORKER
        } else {
            most.saturating_add(bytes.saturating_mul(PLAIN_BYTES_PER_BYTE))
        };
        let mut topics = Vec::with_capacity(count);
        for _ in 0..count {
            let (key, topic) = find(cx.core, version, reader)?;
            let mut partitions = Vec::with_capacity(1);
            for _ in 0..reader.count(5)? {
                let index = reader.i32()?;
                let records = reader.records()?;
                reader.tags()?;
                let state = match refusal {
                    Some(code) => Some(State::Failed(Refusal { code, message: None, records: Vec::new() })),
                    None => queue(cx, version, topic.as_ref(), index, records, &mut budget),
                };
                let Some(state) = state else { return Ok(None) };
                partitions.push(PartitionReply { index, state });
            }
            reader.tags()?;
            topics.push(TopicReply { key, partitions });
        }
        reader.tags()?;
        reader.end()?;
        Ok(Some(Reply { version, acks, throttle_ms: 0, topics }))
    }
}

fn find(
    core: &Core,
    version: i16,
    reader: &mut Reader<'_>,
) -> Result<(TopicKey, Result<Arc<Topic>, Error>), Malformed> {
    if version >= TOPIC_IDS_FROM {
        let id = reader.uuid()?;
        return Ok((TopicKey::Id(id), core.topics().by_id(id).ok_or(Error::UnknownTopicId)));
    }
    let name = reader.string()?;
    Ok(match core.topics().by_name(name) {
        Some(topic) => (TopicKey::Known(Arc::clone(topic.name())), Ok(topic)),
        None => (TopicKey::Unknown(name.into()), Err(Error::UnknownTopic)),
    })
}

/// Checks one partition's records and queues them; nothing is appended before the wave is committed. `None` when the
/// budget of plain bytes is not enough.
fn queue(
    cx: &mut Context<'_>,
    version: i16,
    topic: Result<&Arc<Topic>, &Error>,
    index: i32,
    records: Option<Bytes>,
    budget: &mut usize,
) -> Option<State> {
    let plain_bytes_max = cx.core.topic_settings().max_decompressed_bytes;
    let now_ms = cx.core.now_ms();
    let check = || {
        let topic = topic.map_err(Clone::clone)?;
        if topic.is_internal() {
            return Err(Error::InvalidName(format!("topic '{}' is internal", topic.name())));
        }
        let partition = topic.partition(index)?;
        if !cx.is_open(&partition)? {
            return Err(Error::Storage(StoreError::Fenced));
        }
        let records = records.unwrap_or_default();
        let rules = Rules { zstd: version >= ZSTD_FROM, plain_bytes_max, ..Rules::default() };
        let rules = partition.rules(records.len(), rules)?;
        if cx.on_worker && partition.recodes() {
            return Ok(None);
        }
        let Some(batch) = Batch::check_within(records, rules, budget)? else {
            return if cx.on_worker { Ok(None) } else { Err(Error::Invalid(DENSE)) };
        };
        Ok(Some((partition.admit(batch, plain_bytes_max, now_ms)?, partition)))
    };
    match check() {
        Ok(Some((batch, partition))) => Some(State::Queued(cx.wave.push(partition, batch))),
        Ok(None) => None,
        Err(error) => Some(failed(&error)),
    }
}

fn failed(error: &Error) -> State {
    let records = match error {
        Error::MissingKeys(records) | Error::InvalidTimestamp { records, .. } => records.clone(),
        _ => Vec::new(),
    };
    State::Failed(Refusal { code: error::of_topic(error), message: Some(error.to_string()), records })
}

impl Reply {
    /// Takes the outcomes of the committed wave; asks for durability where the client did.
    ///
    /// # Errors
    /// [`Close`] when a request without acks failed: closing is the only way to tell.
    pub(in crate::kafka) fn settle(&mut self, core: &Core, wave: &mut Wave) -> Result<(), Close> {
        let durable = self.acks == -1 && core.acks_wait_for_sync();
        for part in self.topics.iter_mut().flat_map(|t| &mut t.partitions) {
            let State::Queued(place) = part.state else { continue };
            let outcome = wave.outcome(place);
            if let Ok(appended) = &outcome {
                self.throttle_ms = self.throttle_ms.max(appended.throttle_ms).min(THROTTLE_MS_MAX);
            }
            part.state = match outcome {
                Ok(appended) if durable => wait(wave, place, appended),
                Ok(appended) => State::Done(appended),
                Err(error) => failed(&error),
            };
        }
        if self.acks == 0
            && let Some(code) = self.parts().find_map(|(_, p)| match &p.state {
                State::Failed(refusal) => Some(refusal.code),
                _ => None,
            })
        {
            return Err(Close::Refused(format!(
                "a produce request with acks=0 failed with error {}",
                code.0
            )));
        }
        Ok(())
    }

    /// Asks the client to wait for at least so long.
    pub(in crate::kafka) fn throttled(mut self, throttle_ms: u32) -> Self {
        self.throttle_ms = self.throttle_ms.max(throttle_ms);
        self
    }

    /// How long the connection must not be read from now on (law 8).
    pub(in crate::kafka) fn throttle_ms(&self) -> u32 {
        self.throttle_ms
    }

    pub(in crate::kafka) fn is_silent(&self) -> bool {
        self.acks == 0
    }

    /// Whether it waits for something to become durable.
    pub(in crate::kafka) fn waits(&self) -> bool {
        self.parts().any(|(_, part)| matches!(part.state, State::Waiting(..)))
    }

    /// Ready when everything is as durable as asked.
    pub(in crate::kafka) fn poll(&mut self, waker: &Waker) -> Poll<Body> {
        let mut pending = false;
        for part in self.topics.iter_mut().flat_map(|t| &mut t.partitions) {
            if let State::Waiting(receipt, appended) = &mut part.state {
                match receipt.poll(waker) {
                    Poll::Ready(Ok(())) => part.state = State::Done(*appended),
                    Poll::Ready(Err(error)) => part.state = failed(&error),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(self.encode().into()) }
    }

    fn parts(&self) -> impl Iterator<Item = (&TopicReply, &PartitionReply)> {
        self.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (t, p)))
    }

    fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new(self.version >= FLEXIBLE_FROM, 64);
        w.count(self.topics.len());
        for topic in &self.topics {
            match &topic.key {
                TopicKey::Known(name) => w.string(name),
                TopicKey::Unknown(name) => w.string(name),
                TopicKey::Id(id) => w.uuid(*id),
            }
            w.count(topic.partitions.len());
            for part in &topic.partitions {
                self.encode_partition(part, &mut w);
            }
            w.tags();
        }
        if self.version >= 1 {
            w.i32(i32::try_from(self.throttle_ms).unwrap_or(i32::MAX));
        }
        w.tags();
        w.finish()
    }

    fn encode_partition(&self, part: &PartitionReply, w: &mut Writer) {
        let (code, refusal, appended) = match &part.state {
            State::Done(appended) | State::Waiting(_, appended) => (Code::NONE, None, *appended),
            State::Failed(refusal) => (refusal.code, Some(refusal), NOTHING),
            State::Queued(_) => (Code::UNKNOWN_SERVER_ERROR, None, NOTHING),
        };
        w.i32(part.index);
        w.i16(code.0);
        w.i64(appended.base_offset);
        if self.version >= 2 {
            w.i64(appended.log_append_time_ms);
        }
        if self.version >= 5 {
            w.i64(appended.log_start);
        }
        if self.version >= 8 {
            let records = refusal.map_or(&[][..], |r| &r.records);
            w.count(records.len());
            for index in records {
                w.i32(*index);
                w.nullable_string(None);
                w.tags();
            }
            w.nullable_string(refusal.and_then(|r| r.message.as_deref()));
        }
        w.tags();
    }
}

const NOTHING: Appended =
    Appended { base_offset: -1, next_offset: -1, log_append_time_ms: -1, log_start: -1, throttle_ms: 0 };

fn wait(wave: &mut Wave, place: usize, appended: Appended) -> State {
    match wave.receipt(place, appended.next_offset) {
        Ok(receipt) => State::Waiting(receipt, appended),
        Err(error) => failed(&error),
    }
}
