//! One partition: the only writer of its log, and its readers.
//!
//! Order of an append: what it asks of the records (before, without the lock), size, quota, producer sequence, place (offset and leader epoch), one
//! `Log::append` for all batches of the wave, then the high watermark. A failed append leaves no trace.
//! The log is opened at first use: a partition that nobody touched costs no file and no scan.
//! Limits of the shard are charged here for clients that address the partition; whoever routes by shards takes from
//! [`Partition::buckets`] record by record before it builds a batch.
//! Deliberately absent: waiting, for durability (the caller holds [`Partition::sync`]) as for a quota.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;

use super::append::{Append, Appended, Route};
use super::buckets::Buckets;
use super::config::QuotaMode;
use super::history::History;
use super::producers::{Entry, Producers, Verdict};
use super::tally::Tally;
use super::{Error, Result, TopicConfig, admission, buckets};
use crate::batch::{Batch, Batches, Header, Rules, TimestampType};
use crate::lock::{Mutex, MutexGuard, RwLock, rank};
use crate::quota::Steady;
use crate::store::{
    self, Kind, Log, LogId, LogOptions, Placed, Replayed, Segment, Slice, Span, Store, Watermark,
};

/// What a read found.
#[derive(Clone, Debug)]
pub struct ReadOutcome {
    /// Whole batches from the one that contains the asked offset.
    pub slice: Slice,
    /// Readable end.
    pub high_watermark: i64,
    /// First readable offset.
    pub log_start: i64,
}

/// A partition of a topic.
pub struct Partition {
    id: LogId,
    leader_epoch: i32,
    store: Arc<dyn Store>,
    config: Arc<RwLock<rank::TopicConfig, Arc<TopicConfig>>>,
    /// Whether it is one of the broker's own: its appends go on when the disk is full.
    essential: bool,
    log: OnceLock<Arc<dyn Log>>,
    high_watermark: Watermark,
    deleted: AtomicBool,
    /// The log is opened once.
    opening: Mutex<rank::LogOpening, ()>,
    writer: Mutex<rank::PartitionWriter, Writer>,
    dirty: Arc<Dirty>,
    buckets: Buckets,
    steady: Arc<Steady>,
    /// Whether reads are limited: a flag, so that a fetch of what is not limited costs no look at the configuration.
    limits_reads: AtomicBool,
    /// When a client that chose the partition itself last wrote. Milliseconds.
    client_wrote_ms: AtomicI64,
    tally: Tally,
    /// Who that was, as of the last second in which it changed.
    client: Mutex<rank::LastClient, Option<Arc<str>>>,
    /// The last shard that was closed here and where it ends, from before the table of shards says so.
    closed: Mutex<rank::ClosedShard, Option<(u32, i64)>>,
}

/// Partitions that were written since upkeep last looked: upkeep never walks the idle ones.
#[derive(Default)]
pub(super) struct Dirty {
    listed: Mutex<rank::DirtyPartitions, Listed>,
    /// Most producer ids that a partition remembers.
    producers_max: AtomicUsize,
}

#[derive(Default)]
struct Listed {
    partitions: Vec<Weak<Partition>>,
    /// Length at which those that are gone leave: without syncs nobody takes the list.
    sweep_at: usize,
}

/// Partitions that are listed before anybody looks for those that are gone.
const UNSWEPT: usize = 64;

#[derive(Default)]
struct Writer {
    history: History,
    placed: Vec<Placed>,
    undo: Vec<(i64, Option<Entry>)>,
    listed_dirty: bool,
    /// There is no open shard here: nothing is taken, and that shard has the keys now.
    retired: Option<Option<u32>>,
}

impl Dirty {
    /// Takes the list. What is written from here on is listed again, so that whoever looks at the log after this call
    /// misses nothing.
    pub(super) fn take(&self) -> Vec<Arc<Partition>> {
        let taken = std::mem::take(&mut self.listed().partitions);
        let taken: Vec<_> = taken.iter().filter_map(Weak::upgrade).collect();
        taken.iter().for_each(|partition| partition.writer().listed_dirty = false);
        taken
    }

    /// How many are listed, gone ones too.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.listed().partitions.len()
    }

    /// At most this many producer ids per partition from now on.
    pub(super) fn limit_producers(&self, max: usize) {
        self.producers_max.store(max, Ordering::Relaxed);
    }

    fn push(&self, partition: &Arc<Partition>) {
        let mut listed = self.listed();
        if listed.partitions.len() >= listed.sweep_at {
            listed.partitions.retain(|partition| partition.strong_count() > 0);
            listed.sweep_at = 2 * listed.partitions.len() + UNSWEPT;
        }
        listed.partitions.push(Arc::downgrade(partition));
    }

    fn listed(&self) -> MutexGuard<'_, rank::DirtyPartitions, Listed> {
        self.listed.lock()
    }
}

impl Partition {
    pub(super) fn new(
        id: LogId,
        leader_epoch: i32,
        store: Arc<dyn Store>,
        config: Arc<RwLock<rank::TopicConfig, Arc<TopicConfig>>>,
        dirty: Arc<Dirty>,
        steady: Arc<Steady>,
        essential: bool,
    ) -> Self {
        let limits_reads = config.read().shard_read_bytes.is_some();
        Self {
            id,
            leader_epoch,
            store,
            config,
            limits_reads: AtomicBool::new(limits_reads),
            essential,
            log: OnceLock::new(),
            high_watermark: Watermark::new(0),
            deleted: AtomicBool::new(false),
            opening: Mutex::default(),
            writer: Mutex::default(),
            dirty,
            buckets: Buckets::default(),
            steady,
            client_wrote_ms: AtomicI64::new(i64::MIN),
            tally: Tally::default(),
            client: Mutex::default(),
            closed: Mutex::default(),
        }
    }

    /// Topic id and index.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.id
    }

    /// Leader epoch of this process's ownership; grows at every unclean start.
    #[must_use]
    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// The topic's configuration now.
    #[must_use]
    pub fn config(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.config.read())
    }

    /// What the open shard here has left of its limits.
    #[must_use]
    pub fn buckets(&self) -> &Buckets {
        &self.buckets
    }

    /// The time of [`Partition::buckets`], at the wall clock's `now_ms`.
    #[must_use]
    pub fn bucket_ns(&self, now_ms: i64) -> u64 {
        self.steady.ns(now_ms)
    }

    /// When a client that chose this partition itself last wrote, by the time of [`Partition::buckets`]; `None`: not in
    /// this life. Milliseconds.
    #[must_use]
    pub fn client_wrote_ms(&self) -> Option<i64> {
        let at = self.client_wrote_ms.load(Ordering::Relaxed);
        (at != i64::MIN).then_some(at)
    }

    /// Who that was.
    #[must_use]
    pub fn client(&self) -> Option<Arc<str>> {
        self.client.lock().clone()
    }

    /// Bytes of batches that were taken since the start.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.tally.written_bytes()
    }

    /// What has passed since the start.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Where the log stands, its bytes, and whether it takes no more writes; `None` while nobody has opened it. Opens
    /// nothing and never waits for a writer.
    #[must_use]
    pub fn glance(&self) -> Option<(Span, u64, bool)> {
        let log = self.log.get().filter(|_| !self.deleted.load(Ordering::Acquire))?;
        let bytes = log.segments().iter().map(|segment| segment.bytes).sum();
        Some((log.span(), bytes, log.durable().is_fenced()))
    }

    /// The time of the batch that holds `offset`, from its header alone: its first record's, or the time of the append.
    /// `None` where nothing is readable. Milliseconds.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::OffsetOutOfRange`].
    pub fn time_at(&self, offset: i64) -> Result<Option<i64>> {
        let head = self.noted(self.read(offset, 1, true)?.slice.first(crate::batch::HEADER_BYTES))?;
        Ok(Header::read(&head).map(|header| match header.timestamp_type() {
            TimestampType::LogAppend => header.max_timestamp,
            TimestampType::Create => header.base_timestamp,
        }))
    }

    /// Ends a shard, if one is open here, where the partition ends now; that end. Clients go on writing behind it before the
    /// table of shards says that it is closed, so whoever reads the shard asks for [`Partition::shard_end`] after the read.
    ///
    /// # Errors
    /// [`Error::Storage`] when the log cannot be opened.
    pub fn close_shard(&self, shard: Option<u32>) -> Result<i64> {
        let mark = self.high_watermark()?;
        // Nothing is appended between the look and the word.
        let _writer = self.writer();
        let end = mark.value();
        *self.closed() = shard.map(|shard| (shard, end));
        Ok(end)
    }

    /// The shard that was closed goes on after all.
    pub fn reopen_shard(&self) {
        *self.closed() = None;
    }

    /// Where `shard` ends, when it is the last one that was closed here.
    #[must_use]
    pub fn shard_end(&self, shard: u32) -> Option<i64> {
        self.closed().filter(|(id, _)| *id == shard).map(|(_, end)| end)
    }

    fn closed(&self) -> MutexGuard<'_, rank::ClosedShard, Option<(u32, i64)>> {
        self.closed.lock()
    }

    /// Takes no more records: `heir` has the keys of its last shard.
    pub fn retire(&self, heir: Option<u32>) {
        self.writer().retired = Some(heir);
    }

    /// Takes records again.
    pub fn revive(&self) {
        self.writer().retired = None;
    }

    /// Whether [`Partition::admit`] compresses, and so takes long.
    #[must_use]
    pub fn recodes(&self) -> bool {
        self.config().codec().is_some()
    }

    /// What the format's check of a batch of so many bytes has to look at for this topic, on top of `rules`.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::LargerThanSegment`]: nobody has to look into such a batch.
    pub fn rules(&self, bytes: usize, rules: Rules) -> Result<Rules> {
        let config = self.config();
        admission::check_size(&config, bytes).inspect_err(|_| self.tally.refused(1))?;
        Ok(Rules { strict: config.compression_strict || config.cleanup_policy.compact, ..rules })
    }

    /// Checks what this topic asks of the records of a batch beyond the format, timestamps near enough, and keys where it
    /// is compacted; and brings it into the form that the topic stores: with a codec of its own (`compression.type`) the
    /// records are in that. Decompresses for that, what nobody has looked into, and what is refused, to at most
    /// `max_plain_bytes`, and outside the writer's lock.
    ///
    /// # Errors
    /// [`Error::MissingKeys`], [`Error::InvalidTimestamp`], [`Error::Invalid`], [`Error::TooLarge`].
    pub fn admit(&self, batch: Batch, max_plain_bytes: usize, now_ms: i64) -> Result<Batch> {
        admission::form(&self.config(), batch, max_plain_bytes, now_ms).inspect_err(|_| self.tally.refused(1))
    }

    /// Appends in order, all to one `Log::append`; each gets its own outcome.
    pub fn append(self: &Arc<Self>, now_ms: i64, appends: &mut [&mut Append]) {
        let log = match self.log() {
            Ok(log) => log,
            Err(error) => return self.fail(appends, &error),
        };
        let config = self.config();
        let mut writer = self.writer();
        if self.deleted.load(Ordering::Acquire) {
            return self.fail(appends, &Error::UnknownPartition);
        }
        let span = log.span();
        let mut end = span.end;
        if let Some(shard) = writer.retired {
            return self.fail(appends, &Error::Merged { partition: self.id.partition, shard });
        }
        let Writer { placed, undo, .. } = &mut *writer;
        placed.clear();
        undo.clear();
        for append in appends.iter_mut() {
            let outcome = self.place(&mut writer, &config, now_ms, (span.start, end), append);
            match &outcome {
                Ok(appended) => end = end.max(appended.next_offset),
                Err(Error::Throttled { .. }) => {}
                Err(_) => self.tally.refused(1),
            }
            append.outcome = Some(outcome);
        }
        if writer.placed.is_empty() {
            return;
        }
        if let Err(error) = log.append(&writer.placed, now_ms) {
            while let Some((id, before)) = writer.undo.pop() {
                writer.history.producers.restore(id, before);
            }
            writer.placed.clear();
            let error = Error::from(error);
            for append in appends.iter_mut() {
                if append.outcome.as_ref().is_some_and(|o| o.as_ref().is_ok_and(|a| a.next_offset > span.end))
                {
                    append.outcome = Some(Err(error.clone()));
                    self.tally.refused(1);
                }
            }
            return;
        }
        writer.history.begin(self.leader_epoch, span.end);
        let bytes: usize = writer.placed.iter().map(|placed| placed.batch.bytes().len()).sum();
        let route = appends.first().map_or(Route::Client, |append| append.route);
        let records = (end - span.end).unsigned_abs();
        self.tally.wrote(route, bytes as u64, records, writer.placed.len() as u64);
        writer.placed.clear();
        self.list_dirty(&mut writer);
        self.bound_producers(&mut writer, now_ms);
        // Inside the lock: the mark must not pass a slower writer's bytes before they are there.
        self.high_watermark.advance(end);
        drop(writer);
        self.account(&config, now_ms, span.end, appends);
    }

    /// Producer ids are given to whoever asks: the oldest leave when there is a quarter more than the limit, so that the
    /// look for them costs little per append. Those that are silent leave at the next checkpoint.
    fn bound_producers(&self, writer: &mut Writer, now_ms: i64) {
        let max = self.dirty.producers_max.load(Ordering::Relaxed);
        if max > 0 && writer.history.producers.len() > max + max / 4 {
            writer.history.producers.expire(now_ms, i64::MIN, max);
        }
    }

    /// Charges what clients appended past `before`, and tells them how long to wait. Debt is fine: a limit never
    /// costs a record (law 8).
    fn account(&self, config: &TopicConfig, now_ms: i64, before: i64, appends: &mut [&mut Append]) {
        if let Some(append) = appends.iter().find(|append| append.route == Route::Client) {
            let now_ms = i64::try_from(self.steady.ns(now_ms) / 1_000_000).unwrap_or(i64::MAX);
            let before = self.client_wrote_ms.swap(now_ms, Ordering::Relaxed);
            if before.div_euclid(1000) != now_ms.div_euclid(1000) {
                self.client.lock().clone_from(&append.client);
            }
        }
        if !config.limits_writes() || config.shard_quota_mode == QuotaMode::Reject {
            return;
        }
        let (mut bytes, mut records) = (0, 0);
        for append in appends.iter().filter(|append| append.route == Route::Client) {
            if append.outcome.as_ref().is_some_and(|o| o.as_ref().is_ok_and(|a| a.base_offset >= before)) {
                bytes += append.batch.bytes().len() as u64;
                records += u64::from(append.batch.header().record_count.unsigned_abs());
            }
        }
        let wait_ns = self.buckets.charge_write(config, self.steady.ns(now_ms), bytes, records);
        let throttle_ms = buckets::milliseconds(wait_ns);
        if throttle_ms > 0 {
            self.tally.throttled_write(records, throttle_ms);
        }
        for append in appends.iter_mut().filter(|append| append.route == Route::Client) {
            if let Some(Ok(appended)) = &mut append.outcome {
                appended.throttle_ms = throttle_ms;
            }
        }
    }

    /// Whether the bytes that are read here are limited.
    #[must_use]
    pub fn limits_reads(&self) -> bool {
        self.limits_reads.load(Ordering::Relaxed)
    }

    /// Charges bytes that were read, 0 to ask; how long to wait before the next read. Milliseconds.
    pub fn charge_read(&self, bytes: usize, now_ms: i64) -> u32 {
        let Some(rate) = self.config().shard_read_bytes else { return 0 };
        buckets::milliseconds(self.buckets.read_bytes.charge(rate, bytes as u64, self.steady.ns(now_ms)))
    }

    /// Takes from the write limits for one thing of `bytes` with `records` records, or says which is used up.
    ///
    /// # Errors
    /// [`Error::Throttled`]; nothing was taken then.
    pub fn take_write(&self, config: &TopicConfig, now_ms: i64, bytes: u64, records: u64) -> Result<()> {
        let taken = self.buckets.take_write(config, self.steady.ns(now_ms), bytes, records);
        taken.inspect_err(|_| self.tally.throttled_write(records, 0))
    }

    /// Returns what [`Partition::take_write`] took for something that was not written.
    pub fn give_back_write(&self, config: &TopicConfig, bytes: u64, records: u64) {
        self.buckets.give_back_write(config, bytes, records);
    }

    fn place(
        &self,
        writer: &mut Writer,
        config: &TopicConfig,
        now_ms: i64,
        (log_start, end): (i64, i64),
        append: &Append,
    ) -> Result<Appended> {
        let batch = &append.batch;
        let header = *batch.header();
        if !append.own {
            admission::check_size(config, batch.bytes().len())?;
        }
        let mut appended = Appended {
            base_offset: end,
            next_offset: end + i64::from(header.last_offset_delta) + 1,
            log_append_time_ms: -1,
            log_start,
            throttle_ms: 0,
        };
        if header.is_transactional() {
            return Err(Error::NoTransaction);
        }
        let rejects = append.route == Route::Client && config.shard_quota_mode == QuotaMode::Reject;
        let (bytes, records) = (batch.bytes().len() as u64, u64::from(header.record_count.unsigned_abs()));
        if rejects {
            self.take_write(config, now_ms, bytes, records)?;
        }
        if header.producer_id >= 0 {
            let checked = writer.history.producers.check(&header);
            if rejects && !matches!(checked, Ok(Verdict::Append)) {
                self.give_back_write(config, bytes, records);
            }
            if let Verdict::Duplicate { base_offset, log_append_time_ms } = checked? {
                appended.base_offset = base_offset;
                appended.log_append_time_ms = log_append_time_ms;
                appended.next_offset = base_offset + i64::from(header.last_offset_delta) + 1;
                return Ok(appended);
            }
            let stamp_ms = if config.timestamp_type == TimestampType::LogAppend { now_ms } else { -1 };
            let before = writer.history.producers.record(&header, end, stamp_ms, now_ms);
            writer.undo.push((header.producer_id, before));
        }
        let batch = if config.timestamp_type == TimestampType::LogAppend {
            appended.log_append_time_ms = now_ms;
            batch.stamped(now_ms)
        } else {
            batch.clone()
        };
        writer.placed.push(Placed { base_offset: end, leader_epoch: self.leader_epoch, batch });
        Ok(appended)
    }

    /// Whole batches from the one that contains `offset`, at most `max_bytes` unless the first alone is larger,
    /// below the high watermark.
    ///
    /// # Errors
    /// [`Error::OffsetOutOfRange`], [`Error::Storage`], [`Error::UnknownPartition`] once deleted.
    pub fn read(&self, offset: i64, max_bytes: usize, min_one_message: bool) -> Result<ReadOutcome> {
        let (log, mut outcome) = self.within(offset)?;
        if offset < outcome.high_watermark {
            let read = log.read(offset, max_bytes, min_one_message, outcome.high_watermark);
            outcome.slice = read.map_err(|error| self.failed_read(error))?;
        }
        Ok(outcome)
    }

    /// What [`Partition::read`] says, without records.
    ///
    /// # Errors
    /// As there.
    pub fn look(&self, offset: i64) -> Result<ReadOutcome> {
        self.within(offset).map(|(_, outcome)| outcome)
    }

    fn within(&self, offset: i64) -> Result<(&Arc<dyn Log>, ReadOutcome)> {
        let log = self.log()?;
        let high_watermark = self.high_watermark.value();
        let log_start = log.span().start;
        if offset < log_start || offset > high_watermark {
            return Err(Error::OffsetOutOfRange { start: log_start, end: high_watermark });
        }
        Ok((log, ReadOutcome { slice: Slice::empty(offset), high_watermark, log_start }))
    }

    /// Where records go on from `offset` on: there, or behind offsets that none ever had. [`Partition::read`] does so, too.
    ///
    /// # Errors
    /// [`Error::Storage`] when the log cannot be opened.
    pub fn goes_on_at(&self, offset: i64) -> Result<i64> {
        Ok(self.log()?.goes_on_at(offset))
    }

    /// Readable end; a reader registers here to be woken.
    ///
    /// # Errors
    /// [`Error::Storage`] when the log cannot be opened.
    pub fn high_watermark(&self) -> Result<&Watermark> {
        self.log()?;
        Ok(&self.high_watermark)
    }

    /// Watermark of what is on stable storage, after asking for everything so far to get there.
    ///
    /// # Errors
    /// [`Error::Storage`] when the log cannot be opened.
    pub fn sync(&self) -> Result<Arc<dyn Log>> {
        let log = self.log()?;
        log.sync();
        Ok(Arc::clone(log))
    }

    /// Start, durable end and end.
    ///
    /// # Errors
    /// [`Error::Storage`] when the log cannot be opened.
    pub fn span(&self) -> Result<Span> {
        Ok(self.log()?.span())
    }

    /// The log's parts, oldest first.
    ///
    /// # Errors
    /// [`Error::Storage`] when the log cannot be opened.
    pub fn segments(&self) -> Result<Vec<Segment>> {
        Ok(self.log()?.segments())
    }

    /// First record at or after `timestamp`: (offset, its timestamp). Milliseconds. Decompresses one batch at
    /// a time, to at most `max_plain_bytes`. Waits for the disk, and looks at every header of what follows where a batch names
    /// a time that none of its records has.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn offset_for_time(&self, timestamp: i64, max_plain_bytes: usize) -> Result<Option<(i64, i64)>> {
        let log = self.log()?;
        let mut next = log.seek_time(timestamp, 0).map_err(|error| self.unless_deleted(error))?;
        let end = self.high_watermark.value();
        while let Some(base) = next.filter(|base| *base < end) {
            let read = log.read(base.max(log.span().start), 1, true, end);
            let bytes = self.bytes_of(&read.map_err(|error| self.unless_deleted(error))?)?;
            let Some(batch) = Batches::new(&bytes).next().transpose()? else { break };
            let found = batch.first_at_or_after(timestamp, log.span().start, max_plain_bytes)?;
            if found.is_some() {
                return Ok(found);
            }
            let more = log.seek_time(timestamp, batch.header.next_offset());
            next = more.map_err(|error| self.unless_deleted(error))?;
        }
        Ok(None)
    }

    /// First record that carries the largest timestamp: (offset, timestamp). Decompresses two batches at most, each to
    /// at most `max_plain_bytes`.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Invalid`].
    pub fn max_timestamp(&self, max_plain_bytes: usize) -> Result<Option<(i64, i64)>> {
        let log = self.log()?;
        let (start, end) = (log.span().start, self.high_watermark.value());
        // The first batch from `offset` on that can be read, unless the end comes before.
        let at = |mut offset| loop {
            match log.read(offset, 1, true, end) {
                Err(crate::store::Error::Damaged { to, .. }) if offset < to => offset = to.min(end),
                read => break self.bytes_of(&read.map_err(|error| self.unless_deleted(error))?),
            }
        };
        let bytes = at(start)?;
        let Some(first) = Batches::new(&bytes).next().transpose()? else { return Ok(None) };
        // The batch that the log begins inside of says of itself what is gone by now, too.
        let is_cut = first.header.base_offset < start;
        let left = if is_cut { first.first_of_max(start, max_plain_bytes)? } else { None };
        let later = |timestamp: i64| left.is_none_or(|(_, largest)| timestamp > largest);
        let from = if is_cut { first.header.next_offset() } else { start };
        let mut before = None;
        loop {
            let newest = log.max_timestamp(from).map_err(|error| self.unless_deleted(error))?;
            let Some((base, _)) = newest.filter(|(base, timestamp)| *base < end && later(*timestamp)) else {
                return Ok(left);
            };
            let bytes = at(base)?;
            let Some(newest) = Batches::new(&bytes).next().transpose()? else { return Ok(left) };
            // Its own place was found to be damaged just now: another one is the newest that there is.
            if newest.header.base_offset <= base || before.replace(base) == Some(base) {
                return Ok(newest.first_of_max(start, max_plain_bytes)?.filter(|(_, t)| later(*t)).or(left));
            }
        }
    }

    /// A copy of what was read here, that user space may look into: reads the disk where the slice is a mapping.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn bytes_of(&self, slice: &Slice) -> Result<Bytes> {
        self.noted(slice.to_bytes())
    }

    /// Notes that bytes which the engine had handed out could not be read.
    fn noted(&self, bytes: crate::store::Result<Bytes>) -> Result<Bytes> {
        bytes.map_err(|error| {
            if !self.deleted.load(Ordering::Acquire) {
                self.store.incidents().note_error(Kind::ReadFailed, &error);
            }
            self.unless_deleted(error)
        })
    }

    /// Checks a client's idea of the leader epoch (-1: it has none).
    ///
    /// # Errors
    /// [`Error::FencedLeaderEpoch`], [`Error::UnknownLeaderEpoch`].
    pub fn check_epoch(&self, client: i32) -> Result<()> {
        let current = self.leader_epoch;
        match client {
            -1 => Ok(()),
            got if got < current => Err(Error::FencedLeaderEpoch { got, current }),
            got if got > current => Err(Error::UnknownLeaderEpoch { got, current }),
            _ => Ok(()),
        }
    }

    /// The largest epoch at or below `epoch` that this log knows, and where it ends; `None` when there is none.
    ///
    /// # Errors
    /// [`Error::Storage`] when the log cannot be opened.
    pub fn epoch_end(&self, epoch: i32) -> Result<Option<(i32, i64)>> {
        let log = self.log()?;
        let end = log.span().end;
        if epoch == self.leader_epoch {
            return Ok(Some((epoch, end)));
        }
        let until = self.writer().history.end_of(epoch, end);
        Ok((0..self.leader_epoch).contains(&epoch).then_some(until))
    }

    /// Removes records below `offset` (-1: the high watermark); returns the new log start.
    ///
    /// # Errors
    /// [`Error::OffsetOutOfRange`], [`Error::Storage`].
    pub fn delete_records(&self, offset: i64) -> Result<i64> {
        let log = self.log()?;
        let end = self.high_watermark.value();
        let target = if offset == -1 { end } else { offset };
        if target < 0 || target > end {
            return Err(Error::OffsetOutOfRange { start: log.span().start, end });
        }
        if target > log.span().start {
            self.trim(&**log, target)?;
        }
        Ok(log.span().start)
    }

    /// Applies time and size retention; returns how many bytes of segments went.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn retain(&self, now_ms: i64) -> Result<u64> {
        let config = self.config();
        let log = self.log()?;
        if super::retention::must_seal(&config, &log.segments(), now_ms) {
            let _writer = self.writer();
            log.seal().map_err(|error| self.unless_deleted(error))?;
        }
        let Some(cut) = super::retention::cut(&config, &log.segments(), now_ms) else { return Ok(0) };
        let cut = cut.min(self.high_watermark.value());
        let goes = |segment: &&Segment| segment.sealed && segment.next_offset <= cut;
        let bytes = log.segments().iter().filter(goes).map(|segment| segment.bytes).sum();
        self.trim(&**log, cut)?;
        Ok(bytes)
    }

    /// Removes records, and keeps first what they told of producers and epochs: recovery reads only what is left.
    /// Waits for the disk, and the writer does not wait with it.
    fn trim(&self, log: &dyn Log, offset: i64) -> Result<()> {
        let kept = {
            let writer = self.writer();
            log.checkpoint(&writer.history.note())
        };
        kept.and_then(|()| log.trim_to(offset)).map_err(|error| self.unless_deleted(error))
    }

    /// Saves producer and epoch state with the log, so that recovery replays only what comes later. Producers that were not
    /// heard of since `heard_since_ms` are forgotten.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn checkpoint(&self, now_ms: i64, heard_since_ms: i64, producers_max: usize) -> Result<()> {
        let Some(log) = self.log.get() else { return Ok(()) };
        let mut writer = self.writer();
        writer.history.producers.expire(now_ms, heard_since_ms, producers_max);
        log.checkpoint(&writer.history.note()).map_err(|error| self.unless_deleted(error))
    }

    /// Stays listed as written: whoever took it from the list has not done with it.
    pub fn relist(self: &Arc<Self>) {
        self.list_dirty(&mut self.writer());
    }

    fn list_dirty(self: &Arc<Self>, writer: &mut Writer) {
        if !std::mem::replace(&mut writer.listed_dirty, true) {
            self.dirty.push(self);
        }
    }

    /// How many producer ids the partition remembers.
    #[must_use]
    pub fn producer_count(&self) -> usize {
        self.writer().history.producers.len()
    }

    /// Hands a changed segment configuration to the log.
    pub(super) fn reconfigured(&self) {
        self.limits_reads.store(self.config().shard_read_bytes.is_some(), Ordering::Relaxed);
        if let Some(log) = self.log.get() {
            log.set_options(options(self.id, &self.config()));
        }
    }

    /// No append or read succeeds from here on; waiting readers are woken.
    pub(super) fn delete(&self) -> Result<()> {
        self.deleted.store(true, Ordering::SeqCst);
        let _no_opening = self.opening.lock();
        {
            // Whoever appends has done with it before readers are told.
            let _writer = self.writer();
            self.high_watermark.delete();
        }
        self.store.delete_log(self.id)?;
        Ok(())
    }

    /// Whether the log can be asked without a wait: it is open, or there is none any more.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.log.get().is_some() || self.deleted.load(Ordering::Acquire)
    }

    /// The log, opened (and recovered) at first use, which waits for the disk ([`Partition::is_open`]); whoever appends through
    /// it breaks the partition.
    ///
    /// # Errors
    /// [`Error::Storage`] when it cannot be opened, [`Error::UnknownPartition`] once deleted.
    pub fn log(&self) -> Result<&Arc<dyn Log>> {
        if self.deleted.load(Ordering::Acquire) {
            return Err(Error::UnknownPartition);
        }
        if let Some(log) = self.log.get() {
            return Ok(log);
        }
        let _one = self.opening.lock();
        // Whoever waited here while the partition was deleted must not make its log anew.
        if self.deleted.load(Ordering::Acquire) {
            return Err(Error::UnknownPartition);
        }
        if self.log.get().is_none() {
            // Not under the writer's lock, and not kept: a log may be as long as it likes.
            let mut found = History::default();
            let mut replay = |replayed: Replayed<'_>| match replayed {
                Replayed::Note(note) => found.adopt(&note.bytes),
                Replayed::Batch(header) => found.replay(header),
            };
            let opened = self.store.open_log(self.id, options(self.id, &self.config()), &mut replay)?;
            let mut writer = self.writer();
            writer.history = found;
            if self.essential {
                opened.log.may_use_reserve();
            }
            let from = opened.note.as_ref().map_or(i64::MIN, |note| note.offset);
            if opened.log.damaged().iter().any(|(_, to)| *to > from) {
                // What the lost batches told is not known: nobody is refused, or told of a duplicate, for the lack of it.
                writer.history.producers = Producers::default();
            }
            self.high_watermark.advance(opened.log.span().end);
            // Only this place sets it, one at a time.
            let _ = self.log.set(opened.log);
        }
        self.log.get().ok_or(Error::UnknownPartition)
    }

    /// Keeps the writer from writing.
    #[cfg(test)]
    pub fn stalled(&self) -> impl Sized + '_ {
        self.writer()
    }

    /// What the engine answered, unless that is because the files went while it worked: then nothing is wrong with it.
    fn unless_deleted(&self, error: store::Error) -> Error {
        if self.deleted.load(Ordering::Acquire) { Error::UnknownPartition } else { error.into() }
    }

    fn failed_read(&self, error: store::Error) -> Error {
        let error = self.unless_deleted(error);
        if !matches!(error, Error::UnknownPartition) {
            self.tally.failed_read();
        }
        error
    }

    fn fail(&self, appends: &mut [&mut Append], error: &Error) {
        self.tally.refused(appends.len());
        for append in appends.iter_mut() {
            append.outcome = Some(Err(error.clone()));
        }
    }

    fn writer(&self) -> MutexGuard<'_, rank::PartitionWriter, Writer> {
        // A panic under the lock leaves at worst an unpublished append: `placed` is cleared at the next use.
        self.writer.lock()
    }
}

/// Bytes between two entries of an index at least, whatever a topic asks for: the index of what is written is in memory.
const LEAST_INTERVAL_BYTES: u32 = 4096;

/// What the topic's configuration says about segments. The part that `segment.jitter.ms` takes off is one of the
/// partition's own, so that those of a topic do not all roll at once.
fn options(id: LogId, config: &TopicConfig) -> LogOptions {
    let most = u64::try_from(config.segment_jitter_ms.min(config.segment_ms - 1)).unwrap_or(0);
    let spread =
        id.topic.as_u64_pair().0 ^ u64::from(id.partition.unsigned_abs()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let jitter_ms = most.checked_add(1).map_or(0, |kinds| spread % kinds);
    LogOptions {
        segment_bytes: config.segment_bytes,
        segment_ms: config.segment_ms - i64::try_from(jitter_ms).unwrap_or(0),
        index_interval_bytes: config.index_interval_bytes.max(LEAST_INTERVAL_BYTES),
    }
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;
