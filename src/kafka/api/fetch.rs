//! Fetch (key 1), versions 4-18, flexible from 12. Read and written by hand: the hot path.
//!
//! Behaviour: whole batches, the first one even if it is larger than every limit (KIP-74); a long poll waits on
//! the high watermarks of its partitions and is woken by the append itself; no record byte is copied.
//! A partition whose shard has used up its read limit comes back empty, the others full; the answer names the time
//! to wait. A fetch that finds nothing else is held until the limit allows more.
//! Fetch sessions are declined (session id 0, which KIP-227 allows).
//!
//! - v4: isolation level, last stable offset, aborted transactions (KIP-98). v5: log start offset (KIP-107).
//! - v7: sessions (KIP-227). v9: leader epoch (KIP-320). v10: zstd (KIP-110). v11: rack (KIP-392).
//! - v12: flexible, diverging epoch (KIP-595). v13: topic ids (KIP-516). v15: replica state tag (KIP-903).
//! - v16: leader hints (KIP-951; one node, so never sent). v17: KIP-853. v18: KIP-1166.
//!
//! Known deviations from Apache Kafka: no fetch sessions; `replica_id` is ignored (a client that claims to be
//! a replica reads as a consumer and moves nothing); an unknown topic or partition ends a long poll at once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Sleep;
use uuid::Uuid;

use super::produce::THROTTLE_MS_MAX;
use super::{Answer, Context, Entry};
use crate::broker::clients::Meter;
use crate::broker::{Core, Registration, Slice};
use crate::kafka::connection::Close;
use crate::kafka::error::{self, Code};
use crate::kafka::out::Body;
use crate::kafka::wire::{Malformed, Reader, Writer};
use crate::topic::{Error, Partition, Route, Topic};

const KEY: i16 = 1;
pub(super) const ENTRY: Entry = Entry { key: KEY, name: "Fetch", min: 4, max: 18, answer };

const FLEXIBLE_FROM: i16 = 12;
const TOPIC_IDS_FROM: i16 = 13;

/// What is asked of one broker by one request.
struct Plan {
    core: Arc<Core>,
    /// The client's own quota of fetched bytes.
    meter: Option<Meter>,
    version: i16,
    max_wait_ms: u64,
    min_bytes: usize,
    max_bytes: usize,
    read_committed: bool,
    topics: Vec<TopicPlan>,
}

struct TopicPlan {
    key: TopicKey,
    partitions: Vec<PartitionPlan>,
}

enum TopicKey {
    Known(Arc<str>),
    Unknown(Box<str>),
    Id(Uuid),
}

struct PartitionPlan {
    index: i32,
    leader_epoch: i32,
    offset: i64,
    last_fetched_epoch: i32,
    max_bytes: usize,
    partition: Result<Arc<Partition>, Error>,
}

/// What one attempt found for one partition.
struct Found {
    code: Code,
    high_watermark: i64,
    log_start: i64,
    diverging: Option<(i32, i64)>,
    slice: Slice,
    /// There is more, and the shard's read limit allows none of it for so long. Milliseconds.
    held_ms: Option<u32>,
}

/// What one attempt found.
struct Attempt {
    found: Vec<Found>,
    /// The answer is due: enough bytes, or something else to say.
    enough: bool,
    /// When a shard's read limit will allow more. Milliseconds.
    held_ms: Option<u32>,
}

fn answer(cx: &mut Context<'_>, version: i16, body: Bytes) -> Result<Answer, Close> {
    let mut reader = Reader::new(&body, version >= FLEXIBLE_FROM);
    let (plan, session) = read(cx, version, &mut reader)?;
    if let Session::Unknown = session {
        return Ok(Answer::Now(plan.encode(Code::FETCH_SESSION_ID_NOT_FOUND, Vec::new())));
    }
    let attempt = plan.attempt();
    if attempt.enough || plan.max_wait_ms == 0 {
        return Ok(Answer::Now(plan.encode(Code::NONE, attempt.found)));
    }
    drop(attempt);
    Ok(Answer::Phased(Box::pin(LongPoll::new(plan))))
}

enum Session {
    None,
    Unknown,
}

fn read(cx: &Context<'_>, version: i16, reader: &mut Reader<'_>) -> Result<(Plan, Session), Malformed> {
    if version < 15 {
        let _replica_id = reader.i32()?;
    }
    let max_wait_ms = u64::try_from(reader.i32()?).unwrap_or(0);
    let min_bytes = usize::try_from(reader.i32()?).unwrap_or(0);
    let max_bytes =
        usize::try_from(reader.i32()?).unwrap_or(0).min(cx.core.connection_settings().fetch_max_bytes);
    let read_committed = reader.i8()? == 1;
    let mut session = Session::None;
    if version >= 7 {
        let _session_id = reader.i32()?;
        if reader.i32()? > 0 {
            session = Session::Unknown;
        }
    }
    let count = reader.count(if version >= TOPIC_IDS_FROM { 17 } else { 3 })?;
    let mut topics = Vec::new();
    for _ in 0..count {
        let topic = read_topic(cx, version, reader)?;
        // As in Kafka, a topic without partitions asks for nothing and is not answered.
        if !topic.partitions.is_empty() {
            topics.push(topic);
        }
    }
    if version >= 7 {
        skip_forgotten(version, reader)?;
    }
    if version >= 11 {
        let _rack = reader.string()?;
    }
    reader.tags()?;
    reader.end()?;
    let core = Arc::clone(cx.core);
    let meter = cx.meters.and_then(|meters| meters.fetch.clone());
    Ok((Plan { core, meter, version, max_wait_ms, min_bytes, max_bytes, read_committed, topics }, session))
}

fn read_topic(cx: &Context<'_>, version: i16, reader: &mut Reader<'_>) -> Result<TopicPlan, Malformed> {
    let (key, topic) = if version >= TOPIC_IDS_FROM {
        let id = reader.uuid()?;
        (TopicKey::Id(id), cx.core.topics().by_id(id).ok_or(Error::UnknownTopicId))
    } else {
        let name = reader.string()?;
        match cx.core.topics().by_name(name) {
            Some(topic) => (TopicKey::Known(Arc::clone(topic.name())), Ok(topic)),
            None => (TopicKey::Unknown(name.into()), Err(Error::UnknownTopic)),
        }
    };
    let count = reader.count(16)?;
    let mut partitions = Vec::with_capacity(count);
    for _ in 0..count {
        partitions.push(read_partition(version, topic.as_ref(), reader)?);
    }
    reader.tags()?;
    Ok(TopicPlan { key, partitions })
}

fn read_partition(
    version: i16,
    topic: Result<&Arc<Topic>, &Error>,
    reader: &mut Reader<'_>,
) -> Result<PartitionPlan, Malformed> {
    let index = reader.i32()?;
    let leader_epoch = if version >= 9 { reader.i32()? } else { -1 };
    let offset = reader.i64()?;
    let last_fetched_epoch = if version >= 12 { reader.i32()? } else { -1 };
    if version >= 5 {
        let _log_start_of_a_replica = reader.i64()?;
    }
    let max_bytes = usize::try_from(reader.i32()?).unwrap_or(0);
    reader.tags()?;
    let partition = topic.map_err(Clone::clone).and_then(|t| t.partition(index));
    Ok(PartitionPlan { index, leader_epoch, offset, last_fetched_epoch, max_bytes, partition })
}

/// Forgotten topics matter only to sessions.
fn skip_forgotten(version: i16, reader: &mut Reader<'_>) -> Result<(), Malformed> {
    for _ in 0..reader.count(if version >= TOPIC_IDS_FROM { 17 } else { 3 })? {
        if version >= TOPIC_IDS_FROM {
            reader.uuid()?;
        } else {
            reader.string()?;
        }
        for _ in 0..reader.count(4)? {
            reader.i32()?;
        }
        reader.tags()?;
    }
    Ok(())
}

impl Plan {
    fn partitions(&self) -> impl Iterator<Item = &PartitionPlan> {
        self.topics.iter().flat_map(|t| &t.partitions)
    }

    /// Reads every partition once; the answer is due when there are enough bytes, or anything but bytes to say.
    fn attempt(&self) -> Attempt {
        let mut left = self.max_bytes;
        let mut bytes = 0;
        let mut notable = false;
        let owed_ms = self.meter.as_ref().map_or(0, |meter| super::charge(&self.core, meter, 0));
        let mut held_ms = (owed_ms > 0).then_some(owed_ms);
        let mut all = Vec::with_capacity(self.topics.len());
        for part in self.partitions() {
            // Only the first partition with data may exceed the limits, and only by its first batch.
            let may_read = owed_ms == 0 && (bytes == 0 || left > 0);
            let limit = may_read.then(|| left.min(part.max_bytes));
            let found = part.read(&self.core, limit, bytes == 0);
            bytes += found.slice.len();
            left = left.saturating_sub(found.slice.len());
            notable |= found.code != Code::NONE || found.diverging.is_some();
            held_ms = held_ms.into_iter().chain(found.held_ms).min();
            all.push(found);
        }
        let nothing_asked = all.is_empty();
        Attempt { found: all, enough: notable || nothing_asked || bytes >= self.min_bytes, held_ms }
    }

    fn encode(&self, code: Code, found: Vec<Found>) -> Body {
        let mut w = Writer::new(self.version >= FLEXIBLE_FROM, 64 + found.len() * 64);
        w.i32(self.charge(&found));
        if self.version >= 7 {
            w.i16(code.0);
            w.i32(0);
        }
        let mut slices = Vec::new();
        let mut found = found.into_iter();
        w.count(if code == Code::NONE { self.topics.len() } else { 0 });
        for topic in self.topics.iter().filter(|_| code == Code::NONE) {
            match &topic.key {
                TopicKey::Known(name) => w.string(name),
                TopicKey::Unknown(name) => w.string(name),
                TopicKey::Id(id) => w.uuid(*id),
            }
            w.count(topic.partitions.len());
            for (part, found) in topic.partitions.iter().zip(found.by_ref()) {
                self.encode_partition(part.index, found, &mut w, &mut slices);
            }
            w.tags();
        }
        w.tags();
        Body { bytes: w.finish(), slices }
    }

    /// Counts and charges what leaves now; how long the client is to wait before it reads on. Milliseconds.
    fn charge(&self, found: &[Found]) -> i32 {
        let waits = self.partitions().zip(found).filter_map(|(part, found)| {
            let partition = part.partition.as_ref().ok()?;
            if !found.slice.is_empty() {
                partition.tally().read(Route::Client, found.slice.len(), 0);
            } else if found.held_ms.is_none() {
                return None;
            }
            let limited = partition.limits_reads();
            let wait_ms = limited.then(|| partition.charge_read(found.slice.len(), self.core.now_ms()))?;
            if wait_ms > 0 {
                partition.tally().throttled_read();
            }
            Some(wait_ms)
        });
        let of_shards = waits.max().unwrap_or(0);
        let bytes: usize = found.iter().map(|found| found.slice.len()).sum();
        let own = self.meter.as_ref().map_or(0, |meter| super::charge(&self.core, meter, bytes as u64));
        i32::try_from(of_shards.max(own).min(THROTTLE_MS_MAX)).unwrap_or(0)
    }

    fn encode_partition(&self, index: i32, found: Found, w: &mut Writer, slices: &mut Vec<(usize, Slice)>) {
        w.i32(index);
        w.i16(found.code.0);
        w.i64(found.high_watermark);
        // Without transactions everything below the high watermark is stable.
        w.i64(found.high_watermark);
        if self.version >= 5 {
            w.i64(found.log_start);
        }
        if self.read_committed {
            w.count(0)
        } else {
            w.null_array()
        }
        if self.version >= 11 {
            w.i32(-1);
        }
        w.records_len(found.slice.len());
        if !found.slice.is_empty() {
            slices.push((w.len(), found.slice));
        }
        match found.diverging.filter(|_| self.version >= FLEXIBLE_FROM) {
            Some((epoch, end)) => {
                // One tagged field, tag 0: epoch i32, end offset i64, no tags of its own.
                w.i8(1);
                w.i8(0);
                w.i8(13);
                w.i32(epoch);
                w.i64(end);
                w.i8(0);
            }
            None => w.tags(),
        }
    }
}

impl PartitionPlan {
    /// Reads up to `limit` bytes (`None`: the request's budget is used up, only report the watermarks).
    fn read(&self, core: &Core, limit: Option<usize>, first: bool) -> Found {
        match self.try_read(core, limit, first) {
            Ok(found) => found,
            Err(error) => Found {
                code: error::of_topic(&error),
                high_watermark: -1,
                log_start: -1,
                diverging: None,
                slice: Slice::empty(),
                held_ms: None,
            },
        }
    }

    fn try_read(&self, core: &Core, limit: Option<usize>, first: bool) -> Result<Found, Error> {
        let partition = self.partition.as_ref().map_err(Clone::clone)?;
        partition.check_epoch(self.leader_epoch)?;
        let mut found = Found {
            code: Code::NONE,
            high_watermark: 0,
            log_start: 0,
            diverging: self.diverging(partition)?,
            slice: Slice::empty(),
            held_ms: None,
        };
        let outcome = partition.read(self.offset, limit.unwrap_or(0))?;
        found.high_watermark = outcome.high_watermark;
        found.log_start = outcome.log_start;
        if partition.limits_reads() && !outcome.slice.is_empty() {
            let wait_ms = partition.charge_read(0, core.now_ms());
            if wait_ms > 0 {
                found.held_ms = Some(wait_ms);
                return Ok(found);
            }
        }
        let fits = limit.is_some_and(|limit| first || outcome.slice.len() <= limit);
        if fits && found.diverging.is_none() {
            found.slice = outcome.slice;
        }
        Ok(found)
    }

    /// Whether the reader has followed a log that is no longer this one (KIP-595's truncation detection).
    fn diverging(&self, partition: &Partition) -> Result<Option<(i32, i64)>, Error> {
        if self.last_fetched_epoch < 0 {
            return Ok(None);
        }
        Ok(match partition.epoch_end(self.last_fetched_epoch)? {
            Some((epoch, end)) if epoch < self.last_fetched_epoch || end < self.offset => Some((epoch, end)),
            _ => None,
        })
    }
}

/// A fetch that waits for data. Woken by the appends it waits for, and once by its deadline.
struct LongPoll {
    plan: Plan,
    deadline: Pin<Box<Sleep>>,
    /// When a shard's read limit allows more.
    refill: Option<Pin<Box<Sleep>>>,
    /// One per partition, with the watermark value that counts as news.
    places: Vec<(Arc<Partition>, i64, Registration)>,
}

impl LongPoll {
    fn new(plan: Plan) -> Self {
        let deadline = Box::pin(tokio::time::sleep(Duration::from_millis(plan.max_wait_ms)));
        let places = plan
            .partitions()
            .filter_map(|p| p.partition.as_ref().ok())
            .map(|p| (Arc::clone(p), i64::MIN, Registration::default()))
            .collect();
        Self { plan, deadline, refill: None, places }
    }

    /// Whether any partition moved since its target was set.
    fn news(&mut self, task: &Task<'_>) -> bool {
        let mut news = false;
        for (partition, target, place) in &mut self.places {
            let Ok(mark) = partition.high_watermark() else { return true };
            news |= mark.poll_reach(*target, place, task.waker()).is_ready();
        }
        news
    }
}

impl Future for LongPoll {
    type Output = Body;

    fn poll(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Body> {
        let this = &mut *self;
        loop {
            let over = this.deadline.as_mut().poll(task).is_ready();
            let refilled = this.refill.as_mut().is_some_and(|refill| refill.as_mut().poll(task).is_ready());
            if !over && !refilled && !this.news(task) {
                return Poll::Pending;
            }
            // Targets first: an append between the attempt and the registration must count as news.
            for (partition, target, _) in &mut this.places {
                *target = partition.high_watermark().map_or(i64::MIN, |m| m.value() + 1);
            }
            let attempt = this.plan.attempt();
            if attempt.enough || over {
                return Poll::Ready(this.plan.encode(Code::NONE, attempt.found));
            }
            let refill = |ms: u32| Box::pin(tokio::time::sleep(Duration::from_millis(ms.into())));
            this.refill = attempt.held_ms.map(refill);
        }
    }
}

impl Drop for LongPoll {
    fn drop(&mut self) {
        for (partition, _, place) in &mut self.places {
            if let Ok(mark) = partition.high_watermark() {
                mark.forget(place);
            }
        }
    }
}
