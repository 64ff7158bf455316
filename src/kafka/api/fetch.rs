//! Fetch (key 1), versions 4-18, flexible from 12. Read and written by hand: the hot path.
//!
//! Behaviour: whole batches, the first one even if it is larger than every limit (KIP-74); no record byte is copied.
//! A long poll waits on the high watermarks of its partitions and is woken by the append itself: then it counts the
//! new bytes of the partitions that moved, and reads all of them once there are enough. Many partitions are read in
//! steps, between which other connections come.
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
use std::task::{Context as Task, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Sleep;
use uuid::Uuid;

use super::produce::THROTTLE_MS_MAX;
use super::{Answer, Context, Entry, FEW};
use crate::broker::clients::Meter;
use crate::broker::{Core, Registration, Slice};
use crate::kafka::answers::{Answers, NextTurn, Turn};
use crate::kafka::budget::SMALL_BYTES;
use crate::kafka::connection::Close;
use crate::kafka::error::{self, Code};
use crate::kafka::out::{Body, Piece};
use crate::kafka::wire::{Malformed, Reader, Writer};
use crate::lock::{Mutex, rank};
use crate::topic::{Error, Partition, Route, Topic};

pub(super) const KEY: i16 = 1;
pub(super) const ENTRY: Entry = Entry { key: KEY, name: "Fetch", min: 4, max: 18, answer };

const FLEXIBLE_FROM: i16 = 12;
const TOPIC_IDS_FROM: i16 = 13;
/// About what a partition takes of memory while a fetch waits for it.
const PLACE_BYTES: usize = 256;
/// Partitions that are looked at before other connections come.
const STEP: usize = 256;

/// What is asked of one broker by one request.
struct Plan {
    core: Arc<Core>,
    answers: Arc<Answers>,
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

/// One reading of all partitions, in steps.
struct Attempt {
    found: Vec<Found>,
    bytes: usize,
    /// What the request still allows.
    left: usize,
    /// There is something else than bytes to say.
    notable: bool,
    /// How long the client's own quota allows nothing.
    owed_ms: u32,
    /// When a shard's read limit will allow more. Milliseconds.
    held_ms: Option<u32>,
}

fn answer(cx: &mut Context<'_>, version: i16, body: Bytes) -> Result<Answer, Close> {
    let mut reader = Reader::new(&body, version >= FLEXIBLE_FROM);
    let (plan, session) = read(cx, version, &mut reader)?;
    if let Session::Unknown = session {
        return Ok(Answer::Now(plan.encode(Code::FETCH_SESSION_ID_NOT_FOUND, Vec::new())));
    }
    if !cx.unopened.is_empty() {
        return Ok(Answer::Now(Body::default()));
    }
    let mut attempt = plan.attempt();
    // What takes longer waits for its turn.
    if plan.is_long() || !plan.step(&mut attempt) || plan.waits_after(&attempt) {
        cx.held_bytes = plan.partitions().count() * PLACE_BYTES;
        return Ok(Answer::Phased(Box::pin(LongPoll::new(plan, attempt))));
    }
    Ok(Answer::Now(plan.encode(Code::NONE, attempt.found)))
}

enum Session {
    None,
    Unknown,
}

fn read(cx: &mut Context<'_>, version: i16, reader: &mut Reader<'_>) -> Result<(Plan, Session), Malformed> {
    if version < 15 {
        let _replica_id = reader.i32()?;
    }
    let max_wait_ms = u64::try_from(reader.i32()?).unwrap_or(0);
    let min_bytes = usize::try_from(reader.i32()?).unwrap_or(0);
    let max_bytes =
        usize::try_from(reader.i32()?).unwrap_or(0).min(cx.core.connection_settings().fetch_max_bytes);
    // As in Kafka: nobody waits for more than it may get.
    let min_bytes = min_bytes.min(max_bytes);
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
    let (core, answers) = (Arc::clone(cx.core), Arc::clone(cx.answers));
    let meter = cx.meters.and_then(|meters| meters.fetch.clone());
    let plan =
        Plan { core, answers, meter, version, max_wait_ms, min_bytes, max_bytes, read_committed, topics };
    Ok((plan, session))
}

fn read_topic(cx: &mut Context<'_>, version: i16, reader: &mut Reader<'_>) -> Result<TopicPlan, Malformed> {
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
        partitions.push(read_partition(cx, version, topic.as_ref(), reader)?);
    }
    reader.tags()?;
    Ok(TopicPlan { key, partitions })
}

fn read_partition(
    cx: &mut Context<'_>,
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
    let partition = topic.map_err(Clone::clone).and_then(|topic| {
        let partition = topic.partition(index)?;
        cx.is_open(&partition)?;
        Ok(partition)
    });
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

    /// Whether it takes more than a moment to read its partitions.
    fn is_long(&self) -> bool {
        self.partitions().count() > FEW
    }

    /// A reading of all partitions, not begun.
    fn attempt(&self) -> Attempt {
        let owed_ms = self.meter.as_ref().map_or(0, |meter| super::charge(&self.core, meter, 0));
        // What is copied from logs is copied in small pieces only; those that are mapped cost no memory.
        let tight = self.answers.budget.is_used_up();
        Attempt {
            found: Vec::with_capacity(self.partitions().count()),
            bytes: 0,
            left: if tight { self.max_bytes.min(SMALL_BYTES) } else { self.max_bytes },
            notable: false,
            owed_ms,
            held_ms: (owed_ms > 0).then_some(owed_ms),
        }
    }

    /// Reads the next partitions; whether all have been read.
    fn step(&self, attempt: &mut Attempt) -> bool {
        let done = attempt.found.len();
        for part in self.partitions().skip(done).take(STEP) {
            // Only the first partition with data may exceed the limits, and only by its first batch.
            let may_read = attempt.owed_ms == 0 && (attempt.bytes == 0 || attempt.left > 0);
            let limit = may_read.then(|| attempt.left.min(part.max_bytes));
            let found = part.read(&self.core, limit, attempt.bytes == 0);
            attempt.bytes += found.slice.len();
            attempt.left = attempt.left.saturating_sub(found.slice.len());
            attempt.notable |= found.code != Code::NONE || found.diverging.is_some();
            attempt.held_ms = attempt.held_ms.into_iter().chain(found.held_ms).min();
            attempt.found.push(found);
        }
        attempt.found.len() - done < STEP || attempt.found.len() == self.partitions().count()
    }

    /// Whether the client is to wait: not for the answer when there are enough bytes, or anything else to say.
    fn waits_after(&self, attempt: &Attempt) -> bool {
        let nothing_asked = attempt.found.is_empty();
        let enough = attempt.notable || nothing_asked || attempt.bytes >= self.min_bytes;
        !enough && self.max_wait_ms > 0
    }

    fn encode(&self, code: Code, found: Vec<Found>) -> Body {
        let mut w = Writer::new(self.version >= FLEXIBLE_FROM, 64 + found.len() * 64);
        w.i32(self.charge(&found));
        if self.version >= 7 {
            w.i16(code.0);
            w.i32(0);
        }
        let mut pieces = Vec::new();
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
                self.encode_partition(part.index, found, &mut w, &mut pieces);
            }
            w.tags();
        }
        w.tags();
        Body { bytes: w.finish(), pieces }
    }

    /// Counts and charges what leaves now; how long the client is to wait before it reads on. Milliseconds.
    fn charge(&self, found: &[Found]) -> i32 {
        let waits = self.partitions().zip(found).filter_map(|(part, found)| {
            let partition = part.partition.as_ref().ok()?;
            if !found.slice.is_empty() {
                // What lies before the offset in its batch is skipped by the client.
                let records = found.slice.next_offset().saturating_sub(part.offset);
                partition.tally().read(
                    Route::Client,
                    found.slice.len(),
                    usize::try_from(records).unwrap_or(0),
                );
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
        let of_shards = waits.max().unwrap_or(0).min(THROTTLE_MS_MAX);
        let bytes: usize = found.iter().map(|found| found.slice.len()).sum();
        let own = self.meter.as_ref().map_or(0, |meter| super::charge(&self.core, meter, bytes as u64));
        i32::try_from(of_shards.max(own)).unwrap_or(0)
    }

    fn encode_partition(&self, index: i32, found: Found, w: &mut Writer, pieces: &mut Vec<(usize, Piece)>) {
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
            pieces.push((w.len(), Piece::Log(found.slice)));
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
                slice: Slice::empty(self.offset),
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
            slice: Slice::empty(self.offset),
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
    /// Among those who have much to do, when there are many partitions.
    next_turn: Option<NextTurn>,
    turn: Option<Turn>,
    deadline: Pin<Box<Sleep>>,
    /// When a shard's read limit allows more.
    refill: Option<Pin<Box<Sleep>>>,
    phase: Phase,
    places: Vec<Place>,
    bell: Arc<Bell>,
    /// What all places have.
    available: usize,
}

enum Phase {
    /// Reads every partition; the answer is what it finds, if it `is_last` and no limit hides anything.
    Reading { attempt: Attempt, is_last: bool },
    /// Goes to wait at the partitions from this one on.
    Settling(usize),
    /// Looks at those that moved.
    Waiting,
}

/// A partition that is waited for.
struct Place {
    /// Which topic of the plan, and which partition of that.
    at: (usize, usize),
    partition: Arc<Partition>,
    registration: Registration,
    /// Where bytes that were not counted yet begin.
    seen: i64,
    /// How many bytes it may still add to the answer.
    room: usize,
    waker: Waker,
}

/// Collects which places moved, and wakes the task once for all of them.
#[derive(Default)]
struct Bell(Mutex<rank::Bell, Rung>);

#[derive(Default)]
struct Rung {
    moved: Vec<usize>,
    task: Option<Waker>,
}

/// What one partition wakes.
struct Clapper {
    bell: Arc<Bell>,
    place: usize,
}

impl Bell {
    fn ring(&self, place: usize) {
        let task = {
            let mut rung = self.0.lock();
            rung.moved.push(place);
            if rung.moved.len() == 1 { rung.task.clone() } else { None }
        };
        if let Some(task) = task {
            task.wake();
        }
    }

    /// What moved, at most `most`; `task` is woken when there is more.
    fn take(&self, most: usize, task: &Waker) -> Vec<usize> {
        let mut rung = self.0.lock();
        if !rung.task.as_ref().is_some_and(|known| known.will_wake(task)) {
            rung.task = Some(task.clone());
        }
        if rung.moved.len() <= most {
            return std::mem::take(&mut rung.moved);
        }
        let from = rung.moved.len() - most;
        let some = rung.moved.split_off(from);
        drop(rung);
        task.wake_by_ref();
        some
    }
}

impl Wake for Clapper {
    fn wake(self: Arc<Self>) {
        self.bell.ring(self.place);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.bell.ring(self.place);
    }
}

impl LongPoll {
    /// Goes on with an attempt that was begun.
    fn new(plan: Plan, attempt: Attempt) -> Self {
        let deadline = Box::pin(tokio::time::sleep(Duration::from_millis(plan.max_wait_ms)));
        let is_last = plan.max_wait_ms == 0;
        Self {
            plan,
            next_turn: None,
            turn: None,
            deadline,
            refill: None,
            phase: Phase::Reading { attempt, is_last },
            places: Vec::new(),
            bell: Arc::default(),
            available: 0,
        }
    }

    /// Whether the next step may be done now.
    fn has_turn(&mut self, task: &mut Task<'_>) -> bool {
        if self.turn.is_some() || !self.plan.is_long() {
            return true;
        }
        match self.next_turn.get_or_insert_with(|| self.plan.answers.next_turn()).as_mut().poll(task) {
            Poll::Ready(turn) => {
                self.next_turn = None;
                self.turn = turn.ok();
                true
            }
            Poll::Pending => false,
        }
    }

    /// Reads all partitions anew.
    fn read(&mut self, is_last: bool) {
        self.leave();
        self.phase = Phase::Reading { attempt: self.plan.attempt(), is_last };
    }

    /// Gives every place back.
    fn leave(&mut self) {
        for mut place in self.places.drain(..) {
            place.give_back();
        }
    }

    /// What was read is not enough: from here on only what is added counts.
    fn settle(&mut self, attempt: &Attempt) {
        let refill = |ms: u32| Box::pin(tokio::time::sleep(Duration::from_millis(ms.into())));
        self.refill = attempt.held_ms.map(refill);
        self.available = attempt.bytes;
        self.bell = Arc::default();
        let topics = self.plan.topics.iter().enumerate();
        let at = topics.flat_map(|(t, topic)| (0..topic.partitions.len()).map(move |p| (t, p)));
        self.places = at
            .zip(self.plan.partitions().zip(&attempt.found))
            .filter_map(|(at, (part, found))| {
                let partition = Arc::clone(part.partition.as_ref().ok()?);
                let seen = found.slice.next_offset().max(part.offset);
                // A slice that ends before the watermark is all that an answer takes from here; what is held until
                // a limit allows it is read again then.
                let room = if seen < found.high_watermark {
                    0
                } else {
                    part.max_bytes.saturating_sub(found.slice.len())
                };
                Some(Place {
                    at,
                    partition,
                    registration: Registration::default(),
                    seen,
                    room,
                    waker: Waker::noop().clone(),
                })
            })
            .collect();
        self.phase = Phase::Settling(0);
    }

    /// Waits at the next places; whether it does so at all of them now.
    fn take_places(&mut self, from: usize) -> bool {
        for (n, place) in self.places.iter_mut().enumerate().skip(from).take(STEP) {
            place.waker = Waker::from(Arc::new(Clapper { bell: Arc::clone(&self.bell), place: n }));
            if place.wait() {
                self.bell.ring(n);
            }
        }
        from + STEP >= self.places.len()
    }

    /// Counts what was added where something moved; whether the answer is due.
    fn count(&mut self, task: &Task<'_>) -> bool {
        let moved = self.bell.take(STEP, task.waker());
        if self.plan.min_bytes <= 1 && !moved.is_empty() {
            return true;
        }
        for n in moved {
            let Some(place) = self.places.get_mut(n) else { continue };
            let topic = self.plan.topics.get(place.at.0);
            let Some(part) = topic.and_then(|topic| topic.partitions.get(place.at.1)) else { continue };
            // Bytes are counted in the order of the log, so that none is counted twice.
            let from = PartitionPlan {
                offset: place.seen,
                last_fetched_epoch: -1,
                partition: Ok(Arc::clone(&place.partition)),
                ..*part
            };
            let found = from.read(&self.plan.core, Some(place.room), true);
            if found.code != Code::NONE || found.held_ms.is_some() {
                return true;
            }
            let bytes = found.slice.len();
            place.seen = found.slice.next_offset().max(place.seen);
            self.available += bytes.min(place.room);
            place.room = place.room.saturating_sub(bytes);
            if place.wait() {
                self.bell.ring(n);
            }
        }
        self.available >= self.plan.min_bytes
    }
}

impl Place {
    /// Waits for more than was seen; whether there is more already. One that may not add anything still waits for its
    /// partition to go.
    fn wait(&mut self) -> bool {
        let target = if self.room == 0 { i64::MAX } else { self.seen + 1 };
        match self.partition.high_watermark() {
            Ok(mark) => mark.poll_reach(target, &mut self.registration, &self.waker).is_ready(),
            Err(_) => true,
        }
    }

    fn give_back(&mut self) {
        if let Ok(mark) = self.partition.high_watermark() {
            mark.forget(&mut self.registration);
        }
    }
}

impl Future for LongPoll {
    type Output = Body;

    fn poll(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Body> {
        let polled = self.advance(task);
        self.turn = None;
        polled
    }
}

impl LongPoll {
    fn advance(&mut self, task: &mut Task<'_>) -> Poll<Body> {
        let this = self;
        let over = this.deadline.as_mut().poll(task).is_ready();
        let mut refilled = this.refill.as_mut().is_some_and(|refill| refill.as_mut().poll(task).is_ready());
        loop {
            if !matches!(this.phase, Phase::Waiting) && !this.has_turn(task) {
                return Poll::Pending;
            }
            match std::mem::replace(&mut this.phase, Phase::Waiting) {
                Phase::Reading { mut attempt, is_last } => {
                    if !this.plan.step(&mut attempt) {
                        this.phase = Phase::Reading { attempt, is_last };
                        task.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    let is_last = is_last && attempt.held_ms.is_none();
                    if is_last || over || !this.plan.waits_after(&attempt) {
                        return Poll::Ready(this.plan.encode(Code::NONE, attempt.found));
                    }
                    this.settle(&attempt);
                    // The new timer wakes this task only once it was asked.
                    refilled =
                        this.refill.as_mut().is_some_and(|refill| refill.as_mut().poll(task).is_ready());
                }
                Phase::Settling(from) => {
                    if !this.take_places(from) {
                        this.phase = Phase::Settling(from + STEP);
                        task.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                Phase::Waiting => {
                    let due = this.count(task);
                    if over || refilled || due {
                        let is_counted = this.available >= this.plan.min_bytes;
                        this.read(over || is_counted);
                    } else {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl Drop for LongPoll {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Builder, Record};
    use crate::broker::{Wave, in_memory};
    use crate::config::Config;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Rig {
        core: Arc<Core>,
        topic: Arc<Topic>,
        count: Arc<Count>,
        waker: Waker,
    }

    async fn rig(partitions: i32) -> Rig {
        let core = in_memory(Config::default()).unwrap();
        let topic =
            core.create_topic("t".to_owned(), partitions, std::collections::BTreeMap::new()).await.unwrap();
        let count = Arc::<Count>::default();
        Rig { core, topic, waker: Waker::from(Arc::clone(&count)), count }
    }

    impl Rig {
        /// Appends one batch; its bytes.
        fn append(&self, partition: i32) -> usize {
            let mut builder = Builder::new();
            builder.push(Record {
                timestamp_ms: 1,
                key: None,
                value: Some(Bytes::from_static(b"value")),
                headers: Vec::new(),
            });
            let batch = builder.build().unwrap();
            let bytes = batch.bytes().len();
            let mut wave = Wave::default();
            wave.push(self.topic.partition(partition).unwrap(), batch);
            wave.commit(self.core.now_ms());
            wave.outcome(0).unwrap();
            bytes
        }

        fn plan(&self, min_bytes: usize, max_wait_ms: u64) -> Plan {
            let part = |index: i32| PartitionPlan {
                index,
                leader_epoch: -1,
                offset: 0,
                last_fetched_epoch: -1,
                max_bytes: 1 << 20,
                partition: self.topic.partition(index),
            };
            let count = i32::try_from(self.topic.partitions().len()).unwrap();
            Plan {
                core: Arc::clone(&self.core),
                answers: Answers::new(None),
                meter: None,
                version: 4,
                max_wait_ms,
                min_bytes,
                max_bytes: 50 << 20,
                read_committed: false,
                topics: vec![TopicPlan {
                    key: TopicKey::Known(Arc::clone(self.topic.name())),
                    partitions: (0..count).map(part).collect(),
                }],
            }
        }

        fn wait(&self, min_bytes: usize) -> LongPoll {
            let plan = self.plan(min_bytes, 600_000);
            let attempt = plan.attempt();
            LongPoll::new(plan, attempt)
        }

        fn poll(&self, poll: &mut LongPoll) -> Poll<Body> {
            Pin::new(poll).poll(&mut Task::from_waker(&self.waker))
        }

        fn woken(&self) -> usize {
            self.count.0.swap(0, Ordering::Relaxed)
        }
    }

    fn seen(poll: &LongPoll) -> Vec<i64> {
        poll.places.iter().map(|place| place.seen).collect()
    }

    #[tokio::test]
    async fn a_waiting_fetch_looks_at_what_moved_and_wakes_once_for_all_of_it() {
        let rig = rig(1_000).await;
        let mut poll = rig.wait(1_000_000);
        let mut turns = 1;
        while { rig.poll(&mut poll).is_pending() } && rig.woken() == 1 {
            turns += 1;
        }
        // Four steps to read a thousand partitions, and four to wait at them, the first of which go together.
        assert_eq!(turns, 7);
        assert!(matches!(poll.phase, Phase::Waiting));
        assert_eq!(seen(&poll), vec![0; 1_000]);

        let bytes = rig.append(7);
        rig.append(7);
        rig.append(400);
        assert_eq!(rig.woken(), 1);
        assert_eq!(poll.bell.0.lock().moved, [7, 400]);
        assert!(rig.poll(&mut poll).is_pending());
        assert_eq!(rig.woken(), 0);
        assert_eq!((poll.available, seen(&poll).iter().sum::<i64>()), (3 * bytes, 3));
        assert_eq!((poll.places[7].seen, poll.places[400].seen), (2, 1));

        // Nothing is told twice, and what comes next is counted from there.
        rig.append(7);
        assert_eq!(poll.bell.0.lock().moved, [7]);
        assert!(rig.poll(&mut poll).is_pending());
        assert_eq!((poll.available, poll.places[7].seen), (4 * bytes, 3));
        drop(poll);
        let waited =
            rig.topic.partitions().iter().filter(|p| p.high_watermark().unwrap().has_waiters()).count();
        assert_eq!(waited, 0, "every place was given back");
    }

    #[tokio::test]
    async fn enough_bytes_are_answered_with_all_of_them() {
        let rig = rig(3).await;
        let bytes = rig.append(0);
        let mut poll = rig.wait(3 * bytes);
        assert!(rig.poll(&mut poll).is_pending());
        assert_eq!(poll.available, bytes);
        rig.append(2);
        assert!(rig.poll(&mut poll).is_pending());
        rig.append(2);
        let Poll::Ready(body) = rig.poll(&mut poll) else { panic!("{} bytes are enough", poll.available) };
        let told: usize =
            body.pieces.iter().map(|(_, piece)| if let Piece::Log(s) = piece { s.len() } else { 0 }).sum();
        assert_eq!(told, 3 * bytes);
    }

    #[tokio::test]
    async fn a_partition_that_goes_ends_the_wait_and_one_that_is_full_does_not() {
        let rig = rig(2).await;
        let bytes = rig.append(0);
        let mut plan = rig.plan(10 * bytes, 600_000);
        plan.topics[0].partitions[0].max_bytes = bytes;
        let attempt = plan.attempt();
        let mut poll = LongPoll::new(plan, attempt);
        assert!(rig.poll(&mut poll).is_pending());
        for _ in 0..20 {
            rig.append(0);
        }
        assert_eq!((rig.woken(), poll.available), (0, bytes), "an answer takes no more from there");
        rig.core.topics().delete(rig.topic.id()).unwrap();
        assert_eq!(rig.woken(), 1);
        assert!(rig.poll(&mut poll).is_ready());
    }

    #[tokio::test]
    async fn an_answer_without_a_wait_is_read_in_steps_too() {
        let rig = rig(600).await;
        let bytes = rig.append(599);
        let plan = rig.plan(1, 0);
        let mut attempt = plan.attempt();
        assert!(!plan.step(&mut attempt));
        assert_eq!(attempt.found.len(), STEP);
        let mut poll = LongPoll::new(plan, attempt);
        assert!(rig.poll(&mut poll).is_pending());
        assert_eq!(rig.woken(), 1);
        let Poll::Ready(body) = rig.poll(&mut poll) else { panic!("all has been read") };
        assert_eq!(
            body.pieces
                .iter()
                .map(|(_, piece)| matches!(piece, Piece::Log(s) if s.len() == bytes))
                .collect::<Vec<_>>(),
            [true]
        );
    }

    #[tokio::test]
    async fn when_memory_of_answers_is_used_up_little_is_copied_from_logs() {
        let rig = rig(300).await;
        for partition in 0..300 {
            for _ in 0..5 {
                rig.append(partition);
            }
        }
        let mut plan = rig.plan(1, 0);
        plan.answers = Answers::new(Some(10));
        let mut holder = plan.answers.budget.share();
        holder.hold(10);
        let mut attempt = plan.attempt();
        while !plan.step(&mut attempt) {}
        assert!((1..=SMALL_BYTES).contains(&attempt.bytes), "{}", attempt.bytes);
        holder.hold(0);
        let mut attempt = plan.attempt();
        while !plan.step(&mut attempt) {}
        assert!(attempt.bytes > 2 * SMALL_BYTES, "{}", attempt.bytes);
    }

    #[tokio::test]
    async fn many_partitions_are_read_in_turns_of_their_own_and_few_at_once() {
        let rig = rig(100).await;
        rig.append(99);
        let plan = rig.plan(1, 1_000);
        let turns = Arc::clone(&plan.answers.turns);
        let all = turns.available_permits();
        let taken = Arc::clone(&turns).try_acquire_many_owned(u32::try_from(all).unwrap()).unwrap();
        let attempt = plan.attempt();
        let mut poll = LongPoll::new(plan, attempt);
        assert!(rig.poll(&mut poll).is_pending());
        assert!(matches!(&poll.phase, Phase::Reading { attempt, .. } if attempt.found.is_empty()));
        assert_eq!(rig.woken(), 0, "it does not run in circles meanwhile");
        drop(taken);
        assert_eq!(rig.woken(), 1);
        assert!(rig.poll(&mut poll).is_ready());
        assert_eq!(turns.available_permits(), all);
        let mut few = rig.plan(1, 1_000);
        few.answers = Answers::new(None);
        few.topics[0].partitions.drain(..50);
        assert!(!few.is_long());
    }
}
