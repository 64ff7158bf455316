//! Reads of shards: the records of a span from an offset on, as far as their reader has room for them.
//!
//! A look goes on from batch to batch. What costs little is done where it is asked for, what costs more goes on in a lane,
//! and what costs much more than it finds ends early: its reader goes on from there.
//! Records that are older than the topic keeps them are not there any more, whether or not their segment has gone.
//! Deliberately absent: which shards there are (topic/shards.rs), routing (shards.rs), how records are told (the doors).

#[cfg(test)]
mod tests;

use bytes::Bytes;

use super::sections::Sections;
use crate::batch::{Batches, Codec, Header, Records, StoredBatch, TimestampType};
use crate::broker::{Asker, Core, IN_PLACE_BYTES};
use crate::quota::{Bucket, Verdict};
use crate::store;
use crate::topic::{self, Error, Limit, Partition, Route, Shard, Topic};

/// Which limits a read is charged to.
#[derive(Clone, Copy, Debug)]
pub enum ReadCharge<'a> {
    /// The shard's own, with one call.
    Shared,
    /// The reader's own bucket, at the shard's rate of bytes.
    Own(&'a Bucket),
}

/// How much one read of a shard may bring: at least one record, unless that one is too heavy.
#[derive(Clone, Copy)]
pub struct Most<'a> {
    /// Records.
    pub records: usize,
    /// Bytes of keys and values, about.
    pub bytes: usize,
    /// What the caller has room for, in its own measure.
    pub weight: usize,
    /// Who reads.
    pub asker: Asker,
    /// What a record takes of that.
    pub weigh: &'a (dyn Fn(&GotRecord) -> usize + Sync),
}

#[cfg(test)]
impl Most<'_> {
    /// Bounds by records and bytes alone.
    pub(in crate::broker) fn new(records: usize, bytes: usize) -> Self {
        Self { records, bytes, weight: usize::MAX, asker: None, weigh: &|_| 0 }
    }
}

/// What a read of a shard found.
#[derive(Clone, Debug, Default)]
pub struct Got {
    /// In order of offsets.
    pub records: Vec<GotRecord>,
    /// Where to go on.
    pub next_offset: i64,
    /// The shard is closed and everything in it has been read.
    pub at_end: bool,
    /// How far the last record lies behind now; 0 when there is nothing after it.
    pub behind_ms: i64,
    /// What the next record weighs, when that alone is more than there is room for: nothing was read then, nor charged.
    pub heavy: Option<usize>,
}

/// A record of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GotRecord {
    /// Its offset in the partition.
    pub offset: i64,
    /// Its timestamp, ms since the epoch.
    pub time_ms: i64,
    /// Key, `None` for null.
    pub key: Option<Bytes>,
    /// Value, `None` for null.
    pub value: Option<Bytes>,
    /// Headers in order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

impl Core {
    /// Reads a shard from `offset`. A read that meets much that it cannot give may find nothing and still go on.
    ///
    /// # Errors
    /// [`Error::Throttled`], [`Error::OffsetOutOfRange`] past the end, [`Error::Storage`], [`Error::Invalid`].
    pub async fn get(
        &self,
        topic: &Topic,
        shard: &Shard,
        offset: i64,
        most: &Most<'_>,
        charge: ReadCharge<'_>,
    ) -> topic::Result<Got> {
        let partition = topic.partition(shard.partition)?;
        let config = topic.config();
        let now_ms = self.now_ms();
        let now_ns = partition.bucket_ns(now_ms);
        let buckets = partition.buckets();
        let bytes = match charge {
            ReadCharge::Shared => &buckets.read_bytes,
            ReadCharge::Own(bucket) => bucket,
        };
        if let (Some(rate), ReadCharge::Shared) = (config.shard_read_calls, charge)
            && let Verdict::Refused { wait_ns } = buckets.read_calls.take(rate, 1, now_ns)
        {
            partition.tally().throttled_read();
            return Err(throttled(Limit::ReadCalls, wait_ns));
        }
        let wait_ns = config.shard_read_bytes.map_or(0, |rate| bytes.wait_ns(rate, now_ns));
        if wait_ns > 0 {
            partition.tally().throttled_read();
            return Err(throttled(Limit::ReadBytes, wait_ns));
        }
        let plain_bytes = self.topic_settings.max_decompressed_bytes;
        let bounds = Bounds { most, plain_bytes, horizon_ms: self.horizon_ms(topic) };
        let mut look = Look::begin(&partition, &self.sections, shard, offset, bounds)?;
        if !look.go_on(Place::Worker)? {
            self.in_lane(most.asker, || look.go_on(Place::Lane)).await?;
        }
        let mut found = look.found(now_ms)?;
        if found.heavy.is_some() {
            if let (Some(rate), ReadCharge::Shared) = (config.shard_read_calls, charge) {
                buckets.read_calls.give_back(rate, 1);
            }
            return Ok(found);
        }
        // It may have been closed since the caller looked, and what lies behind its end is its child's. A partition forgets
        // such an end only for that of a child: then the table has this one.
        let end = partition.shard_end(shard.id);
        let end = end.or_else(|| topic.shards().by_id(shard.id).and_then(|shard| shard.until));
        if let Some(end) = end.filter(|end| found.next_offset > *end) {
            found.records.retain(|record| record.offset < end);
            found = Got { next_offset: end, behind_ms: 0, ..found };
        }
        let got: usize = found.records.iter().map(GotRecord::bytes).sum();
        if let Some(rate) = config.shard_read_bytes {
            bytes.charge(rate, got as u64, now_ns);
        }
        if !found.records.is_empty() {
            partition.tally().read(Route::Shard, got, found.records.len());
        }
        partition.tally().behind(found.behind_ms, now_ns / 1_000_000);
        Ok(found)
    }
}

impl GotRecord {
    /// Bytes of key and value: what limits of reading count.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len)
    }

    /// Lets go of what it is a part of.
    fn detach(&mut self) {
        let copy = |part: &mut Bytes| *part = Bytes::copy_from_slice(part);
        self.key.iter_mut().chain(&mut self.value).for_each(copy);
        for (name, value) in &mut self.headers {
            copy(name);
            value.iter_mut().for_each(copy);
        }
    }
}

/// What bounds one read.
#[derive(Clone, Copy)]
struct Bounds<'a> {
    most: &'a Most<'a>,
    /// Of one batch after decompression.
    plain_bytes: usize,
    /// Before this time nothing is kept.
    horizon_ms: i64,
}

/// What a look may cost beyond what it finds, about; bytes.
const LOOK_BYTES: usize = 1 << 20;
/// What is read of the log at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Where a look goes on, and so how far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Worker,
    Lane,
}

/// A read under way.
struct Look<'a> {
    partition: &'a Partition,
    sections: &'a Sections,
    bounds: Bounds<'a>,
    /// Where the shard ends.
    until: i64,
    got: Got,
    /// Of the records that were found.
    bytes: usize,
    weight: usize,
    /// Bytes that it has looked through, plain ones where they were compressed.
    looked: usize,
    /// The timestamp of the newest record that was seen.
    newest_ms: Option<i64>,
    full: bool,
}

impl<'a> Look<'a> {
    fn begin(
        partition: &'a Partition,
        sections: &'a Sections,
        shard: &Shard,
        offset: i64,
        bounds: Bounds<'a>,
    ) -> topic::Result<Self> {
        let until = shard.until.unwrap_or(i64::MAX);
        let start = partition.span()?.start;
        Ok(Self {
            partition,
            sections,
            bounds,
            until,
            got: Got { next_offset: offset.max(shard.from).max(start).min(until), ..Got::default() },
            bytes: 0,
            weight: 0,
            looked: 0,
            newest_ms: None,
            full: false,
        })
    }

    /// Goes on as far as it may there; whether it has come to its end.
    fn go_on(&mut self, place: Place) -> topic::Result<bool> {
        let is_lane = place == Place::Lane;
        let most = self.bounds.most;
        while !self.full && self.got.next_offset < self.until {
            let left = if is_lane { PIECE_BYTES } else { IN_PLACE_BYTES.saturating_sub(self.looked) };
            if left == 0 {
                return Ok(false);
            }
            // What does not fit is not read: a record weighs no less than its bytes.
            let wanted = most.bytes.min(most.weight).saturating_sub(self.bytes).clamp(1, left);
            let outcome = match self.partition.read(self.got.next_offset, wanted, true) {
                // What lies before lost records is given first; whoever asks at them is told.
                Err(Error::Storage(store::Error::Damaged { .. })) if !self.got.records.is_empty() => break,
                // Retention took it meanwhile: it goes on where the log begins now, as it does for who comes later.
                Err(Error::OffsetOutOfRange { start, .. }) if self.got.next_offset < start => {
                    self.got.next_offset = start.min(self.until);
                    continue;
                }
                outcome => outcome?,
            };
            if outcome.slice.is_empty() {
                break;
            }
            // The first batch alone is larger.
            if outcome.slice.len() > left && !is_lane {
                return Ok(false);
            }
            let slice = self.partition.bytes_of(&outcome.slice)?;
            for batch in Batches::new(&slice) {
                if !self.take(&slice, &batch?, place)? {
                    return Ok(false);
                }
                // Nobody pays for much more than there is for the reader.
                self.full |= self.looked > 2 * self.bytes + LOOK_BYTES;
                if self.full {
                    break;
                }
            }
            if !self.pass_over(place)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes the records of a batch, as far as they fit; false when that is too much to do here.
    fn take(&mut self, slice: &Bytes, batch: &StoredBatch<'_>, place: Place) -> topic::Result<bool> {
        let header = batch.header;
        let next = header.next_offset().min(self.until);
        // The broker's own time counts for all records of a batch; a client's is looked at record by record.
        let is_old = stamped(&header) && is_before(header.max_timestamp, self.bounds.horizon_ms);
        if is_old || header.is_control() {
            if is_old {
                self.newest_ms = Some(header.max_timestamp);
            }
            self.looked += batch.bytes.len();
            self.got.next_offset = self.got.next_offset.max(next);
            return Ok(true);
        }
        let Some((section, pinned)) = self.section(slice, batch, place)? else { return Ok(false) };
        self.looked += section.len();
        let (before, bytes) = (self.got.records.len(), self.bytes);
        self.take_records(&section, &header)?;
        // A few records do not hold on to all that they came with.
        if (self.bytes - bytes) * 2 + COPIED_BYTES < pinned {
            self.got.records.iter_mut().skip(before).for_each(GotRecord::detach);
        }
        if !self.full {
            self.got.next_offset = self.got.next_offset.max(next);
        } else if is_compressed(&header) && self.got.records.len() > before {
            // Its reader goes on in the middle of it.
            self.sections.keep(self.partition.id(), &header, &section, pinned);
        }
        Ok(true)
    }

    /// The plain records of a batch, and how much memory they hold on to; `None` when that is too much to do here.
    fn section(
        &self,
        slice: &Bytes,
        batch: &StoredBatch<'_>,
        place: Place,
    ) -> topic::Result<Option<(Bytes, usize)>> {
        let kept = || self.sections.find(self.partition.id(), &batch.header);
        if let Some(kept) = is_compressed(&batch.header).then(kept).flatten() {
            return Ok(Some(kept));
        }
        let cap = match place {
            Place::Lane => self.bounds.plain_bytes,
            Place::Worker => self.bounds.plain_bytes.min(IN_PLACE_BYTES),
        };
        match batch.section(cap) {
            Ok(std::borrow::Cow::Borrowed(part)) => Ok(Some((slice.slice_ref(part), part.len()))),
            Ok(std::borrow::Cow::Owned(plain)) => {
                let pinned = plain.capacity();
                Ok(Some((Bytes::from(plain), pinned)))
            }
            // It is larger than that, or something else is wrong: a lane tells.
            Err(_) if cap < self.bounds.plain_bytes => Ok(None),
            Err(invalid) => Err(invalid.into()),
        }
    }

    fn take_records(&mut self, section: &Bytes, header: &Header) -> topic::Result<()> {
        let Bounds { most, horizon_ms, .. } = self.bounds;
        let got = &mut self.got;
        for record in Records::new(section, header.record_count) {
            let record = record?;
            let offset = header.base_offset + i64::from(record.offset_delta);
            if offset < got.next_offset {
                continue;
            }
            if offset >= self.until || got.records.len() >= most.records {
                self.full = true;
                break;
            }
            let owned = |part: &[u8]| section.slice_ref(part);
            let found = GotRecord {
                offset,
                time_ms: if stamped(header) {
                    header.max_timestamp
                } else {
                    header.base_timestamp.saturating_add(record.timestamp_delta)
                },
                key: record.key.map(owned),
                value: record.value.map(owned),
                headers: record.header_pairs().map(|(n, v)| (owned(n), v.map(owned))).collect(),
            };
            self.newest_ms = Some(found.time_ms);
            if is_before(found.time_ms, horizon_ms) {
                got.next_offset = offset + 1;
                continue;
            }
            self.bytes += found.bytes();
            self.weight += (most.weigh)(&found);
            if self.weight > most.weight && got.records.is_empty() {
                got.next_offset = offset;
                got.heavy = Some(self.weight);
                self.full = true;
                break;
            }
            if self.weight > most.weight || self.bytes > most.bytes && !got.records.is_empty() {
                self.full = true;
                break;
            }
            got.next_offset = offset + 1;
            got.records.push(found);
        }
        Ok(())
    }

    /// Passes over old records, of which there may be many: a log that the broker stamped is in order of time. False when
    /// that is too much to do here.
    fn pass_over(&mut self, place: Place) -> topic::Result<bool> {
        let Bounds { horizon_ms, plain_bytes, .. } = self.bounds;
        let is_old = self.newest_ms.is_some_and(|newest| is_before(newest, horizon_ms));
        let nothing = self.got.records.is_empty() && self.got.heavy.is_none();
        if !nothing || !is_old || self.partition.config().timestamp_type != TimestampType::LogAppend {
            return Ok(true);
        }
        if place == Place::Worker {
            return Ok(false);
        }
        let found = self.partition.offset_for_time(horizon_ms, plain_bytes)?;
        let end = self.partition.high_watermark()?.value();
        let next = self.got.next_offset.max(found.map_or(end, |(offset, _)| offset));
        self.got.next_offset = next.min(self.until);
        Ok(true)
    }

    fn found(self, now_ms: i64) -> topic::Result<Got> {
        let mut got = self.got;
        if got.heavy.is_some() {
            return Ok(got);
        }
        got.at_end = got.next_offset >= self.until;
        let tip = got.next_offset >= self.until.min(self.partition.high_watermark()?.value());
        if !tip {
            got.behind_ms = self.newest_ms.map_or(0, |newest| now_ms.saturating_sub(newest)).max(1);
        }
        Ok(got)
    }
}

fn throttled(limit: Limit, wait_ns: u64) -> Error {
    Error::Throttled { limit, wait_ms: wait_ns.div_ceil(1_000_000) }
}

/// What records may hold on to beside themselves.
const COPIED_BYTES: usize = 64 * 1024;

/// Whether all records of a batch have the time that the broker gave it.
fn is_compressed(header: &Header) -> bool {
    Codec::of(header) != Ok(Codec::None)
}

fn stamped(header: &Header) -> bool {
    header.timestamp_type() == TimestampType::LogAppend
}

/// Whether a record of this time is older than `horizon_ms`; one without a time is of any age.
fn is_before(time_ms: i64, horizon_ms: i64) -> bool {
    (0..horizon_ms).contains(&time_ms)
}
