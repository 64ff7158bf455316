//! What a fetch asks for, read in steps, and its answer.
//!
//! Deliberately absent: the request's bytes (`fetch.rs`), waiting (`wait.rs`).

use std::sync::Arc;

use uuid::Uuid;

use crate::broker::clients::Meter;
use crate::broker::{Core, Slice};
use crate::kafka::answers::Answers;
use crate::kafka::api::produce::THROTTLE_MS_MAX;
use crate::kafka::api::{FEW, charge};
use crate::kafka::error::{self, Code};
use crate::kafka::out::{Body, Piece, QUEUED_BYTES};
use crate::kafka::wire::Writer;
use crate::listen::OWN_BYTES;
use crate::topic::{Error, Partition, Route};

/// From this version on the protocol's flexible form is used.
pub(super) const FLEXIBLE_FROM: i16 = 12;
/// What the answer says of a partition, beside its records. Bytes, at most.
pub(super) const HEAD_BYTES: usize = 64;
/// Partitions that are looked at before other connections come.
pub(super) const STEP: usize = 256;

/// What is asked of one broker by one request.
pub(super) struct Plan {
    pub(super) core: Arc<Core>,
    pub(super) answers: Arc<Answers>,
    /// How long the client has to wait whatever is read. Milliseconds.
    pub(super) throttle_ms: u32,
    /// The client's own quota of fetched bytes.
    pub(super) meter: Option<Meter>,
    pub(super) version: i16,
    pub(super) max_wait_ms: u64,
    pub(super) min_bytes: usize,
    pub(super) max_bytes: usize,
    pub(super) read_committed: bool,
    pub(super) topics: Vec<TopicPlan>,
}

pub(super) struct TopicPlan {
    pub(super) key: TopicKey,
    pub(super) partitions: Vec<PartitionPlan>,
}

pub(super) enum TopicKey {
    Known(Arc<str>),
    Unknown(Box<str>),
    Id(Uuid),
}

pub(super) struct PartitionPlan {
    pub(super) index: i32,
    pub(super) leader_epoch: i32,
    pub(super) offset: i64,
    pub(super) last_fetched_epoch: i32,
    pub(super) max_bytes: usize,
    pub(super) partition: Result<Arc<Partition>, Error>,
}

/// What one attempt found for one partition.
pub(super) struct Found {
    pub(super) code: Code,
    pub(super) high_watermark: i64,
    pub(super) log_start: i64,
    pub(super) diverging: Option<(i32, i64)>,
    pub(super) slice: Slice,
    /// There is more, and the shard's read limit allows none of it for so long. Milliseconds.
    pub(super) held_ms: Option<u32>,
    /// There is more, and the limit had no room for it.
    pub(super) is_left_out: bool,
}

/// One reading of all partitions, in steps.
pub(super) struct Attempt {
    pub(super) found: Vec<Found>,
    pub(super) bytes: usize,
    /// What it holds of memory so far.
    pub(super) heap: usize,
    /// What the request still allows.
    pub(super) left: usize,
    /// With so many the client waits no more.
    pub(super) enough: usize,
    /// There is something else than bytes to say.
    pub(super) notable: bool,
    /// How long the client's own quota allows nothing.
    pub(super) owed_ms: u32,
    /// When a shard's read limit will allow more. Milliseconds.
    pub(super) held_ms: Option<u32>,
}

impl Plan {
    pub(super) fn partitions(&self) -> impl Iterator<Item = &PartitionPlan> {
        self.topics.iter().flat_map(|t| &t.partitions)
    }

    /// Whether it takes more than a moment to read its partitions.
    pub(super) fn is_long(&self) -> bool {
        self.partitions().count() > FEW
    }

    /// A reading of all partitions, not begun.
    pub(super) fn attempt(&self) -> Attempt {
        let owed_ms = self.meter.as_ref().map_or(0, |meter| charge(&self.core, meter, 0));
        Attempt {
            found: Vec::with_capacity(self.partitions().count()),
            bytes: 0,
            heap: 0,
            left: self.max_bytes,
            enough: self.min_bytes,
            notable: false,
            owed_ms,
            held_ms: (owed_ms > 0).then_some(owed_ms),
        }
    }

    /// Reads the next partitions; whether all have been read.
    pub(super) fn step(&self, attempt: &mut Attempt) -> bool {
        let done = attempt.found.len();
        if self.answers.budget.is_used_up() {
            // What is copied from logs is copied in small pieces only; those that are mapped cost no memory.
            attempt.left = attempt.left.min(OWN_BYTES.saturating_sub(attempt.bytes));
            attempt.enough = attempt.enough.min(OWN_BYTES);
        }
        for part in self.partitions().skip(done).take(STEP) {
            // Only the first partition with data may exceed the limits, and only by its first batch.
            let may_read = attempt.owed_ms == 0 && (attempt.bytes == 0 || attempt.left > 0);
            let limit = may_read.then(|| attempt.left.min(part.max_bytes));
            let found = part.read(&self.core, limit, attempt.bytes == 0);
            if found.is_left_out && part.max_bytes >= attempt.left {
                // As in Kafka: there are as many bytes as the client may get, though some of them only in the next answer.
                attempt.enough = 0;
            }
            attempt.bytes += found.slice.len();
            let queued = if found.slice.is_empty() { 0 } else { QUEUED_BYTES + found.slice.heap_len() };
            attempt.heap += HEAD_BYTES + queued;
            attempt.left = attempt.left.saturating_sub(found.slice.len());
            attempt.notable |= found.code != Code::NONE || found.diverging.is_some();
            attempt.held_ms = attempt.held_ms.into_iter().chain(found.held_ms).min();
            attempt.found.push(found);
        }
        attempt.found.len() - done < STEP || attempt.found.len() == self.partitions().count()
    }

    /// Whether the client is to wait: not for the answer when there are enough bytes, or anything else to say.
    pub(super) fn waits_after(&self, attempt: &Attempt) -> bool {
        let nothing_asked = attempt.found.is_empty();
        let enough = attempt.notable || nothing_asked || attempt.bytes >= attempt.enough;
        !enough && self.max_wait_ms > 0
    }

    pub(super) fn encode(&self, code: Code, found: Vec<Found>) -> Body {
        let mut w = Writer::new(self.version >= FLEXIBLE_FROM, 64 + found.len() * HEAD_BYTES);
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
        let own = self.meter.as_ref().map_or(0, |meter| charge(&self.core, meter, bytes as u64));
        i32::try_from(of_shards.max(own).max(self.throttle_ms)).unwrap_or(0)
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
    pub(super) fn read(&self, core: &Core, limit: Option<usize>, first: bool) -> Found {
        match self.try_read(core, limit, first) {
            Ok(found) => found,
            Err(error) => Found {
                code: error::of_topic(&error),
                high_watermark: -1,
                log_start: -1,
                diverging: None,
                slice: Slice::empty(self.offset),
                held_ms: None,
                is_left_out: false,
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
            is_left_out: false,
        };
        let outcome = match limit {
            Some(limit) => partition.read(self.offset, limit, first)?,
            None => partition.look(self.offset)?,
        };
        found.high_watermark = outcome.high_watermark;
        found.log_start = outcome.log_start;
        if partition.limits_reads() && !outcome.slice.is_empty() {
            let wait_ms = partition.charge_read(0, core.now_ms());
            if wait_ms > 0 {
                found.held_ms = Some(wait_ms);
                return Ok(found);
            }
        }
        if found.diverging.is_none() {
            let is_there = limit.is_some() && self.offset < outcome.high_watermark;
            // Offsets that nothing ever had are behind the slice.
            let is_behind = outcome.slice.next_offset() > self.offset;
            found.is_left_out = is_there && outcome.slice.is_empty() && !is_behind;
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
