//! Shards in use: records go to the shard that holds their hash and come back by shard; shards split and merge.
//!
//! Invariant: routing and append happen behind a gate of the topic that a reshard closes, so no record of a key is
//! appended for a child before the last one for its parent, and what lies below the parents' ends is durable before
//! the record of the reshard is. Kafka producers are never held up by it.
//! Deliberately absent: what a reshard comes to (topic/shards.rs), hashing of keys and wire formats (the doors).

#[cfg(test)]
mod power_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use uuid::Uuid;

use super::{Core, Receipt};
use crate::batch::{Batches, Builder, Record, Records};
use crate::quota::{Bucket, Verdict};
use crate::store;
use crate::topic::{self, Append, Error, Limit, Partition, Plan, Reshape, Route, Shard, Topic};

use crate::lock::{Mutex, rank};

/// A merge is refused while clients that choose the partition themselves wrote to it this lately.
const CLIENT_WRITES_MS: i64 = 60_000;

/// Framing of one record in a batch: an upper bound without its headers.
const RECORD_FRAMING_BYTES: usize = 32;

/// A record on its way to the shard that holds `hash`.
#[derive(Clone, Debug)]
pub struct Put {
    /// Where in the key space.
    pub hash: u128,
    /// The record.
    pub record: Record,
}

/// Where a record was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The shard.
    pub shard: u32,
    /// The offset in the shard's partition.
    pub offset: i64,
    /// The record's time as readers see it, ms since the epoch.
    pub time_ms: i64,
}

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
    /// What a record takes of that.
    pub weigh: &'a dyn Fn(&GotRecord) -> usize,
}

#[cfg(test)]
impl Most<'_> {
    /// Bounds by records and bytes alone.
    pub(super) fn new(records: usize, bytes: usize) -> Self {
        Self { records, bytes, weight: usize::MAX, weigh: &|_| 0 }
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

/// One gate per topic that was ever put to or resharded.
#[derive(Default)]
pub(super) struct Gates(Mutex<rank::Gates, HashMap<Uuid, Arc<RwLock<Gate>>>>);

/// What is known behind a gate.
#[derive(Default)]
struct Gate {
    /// Nobody knows whether a reshard reached the disk: only a restart can tell.
    broken: bool,
}

impl Gates {
    fn of(&self, topic: Uuid) -> Arc<RwLock<Gate>> {
        let mut gates = self.0.lock();
        Arc::clone(gates.entry(topic).or_default())
    }

    async fn enter(&self, topic: Uuid) -> topic::Result<OwnedRwLockReadGuard<Gate>> {
        let gate = self.of(topic).read_owned().await;
        if gate.broken { Err(Error::Storage(store::Error::Fenced)) } else { Ok(gate) }
    }

    async fn close(&self, topic: Uuid) -> topic::Result<OwnedRwLockWriteGuard<Gate>> {
        let gate = self.of(topic).write_owned().await;
        if gate.broken { Err(Error::Storage(store::Error::Fenced)) } else { Ok(gate) }
    }

    /// Forgets a topic that was deleted.
    pub(super) fn forget(&self, topic: Uuid) {
        self.0.lock().remove(&topic);
    }

    /// How many topics have one.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Forgets topics that are gone, and those whose last put came after the deletion.
    pub(super) fn retain(&self, known: impl Fn(Uuid) -> bool) {
        self.0.lock().retain(|id, _| known(*id));
    }
}

/// Records for one batch, with their places in the request.
#[derive(Default)]
struct Load {
    builder: Builder,
    places: Vec<usize>,
    times_ms: Vec<i64>,
    bytes: usize,
}

/// Everything for one shard, in order.
struct Cargo {
    shard: u32,
    partition: Arc<Partition>,
    loads: Vec<Load>,
}

impl Core {
    /// Splits an open shard at `start_hash`. Puts and reads go on.
    ///
    /// # Errors
    /// [`Error::UnknownShard`], [`Error::InvalidReshard`], [`Error::InvalidPartitions`], [`Error::LimitReached`],
    /// [`Error::Storage`].
    pub async fn split_shard(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        shard: u32,
        start_hash: u128,
    ) -> topic::Result<()> {
        self.reshape(topic, Reshape::Split { shard, start_hash }, false).await
    }

    /// Merges two open shards whose ranges touch.
    ///
    /// # Errors
    /// As [`Core::split_shard`]; [`Error::InUse`] when clients write to a partition that would take no more records,
    /// unless `force`.
    pub async fn merge_shards(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        shard: u32,
        adjacent: u32,
        force: bool,
    ) -> topic::Result<()> {
        self.reshape(topic, Reshape::Merge { shard, adjacent }, force).await
    }

    /// Goes to `target` shards: more of equal ranges, fewer by merging whole neighbours.
    ///
    /// # Errors
    /// As [`Core::merge_shards`].
    pub async fn scale_shards(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        target: u32,
        force: bool,
    ) -> topic::Result<()> {
        self.reshape(topic, Reshape::Scale { count: target }, force).await
    }

    /// Goes to `count` partitions, each new one with a half of one of the widest shards.
    ///
    /// # Errors
    /// As [`Core::split_shard`].
    pub async fn grow_shards(self: &Arc<Self>, topic: &Arc<Topic>, count: i32) -> topic::Result<()> {
        let added = self.topics.growth(topic, count)?;
        self.reshape(topic, Reshape::Grow { added }, false).await
    }

    /// Carries out a reshape to its end, also when the caller stops waiting for it.
    pub(super) async fn reshape(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        how: Reshape,
        force: bool,
    ) -> topic::Result<()> {
        let (core, topic) = (Arc::clone(self), Arc::clone(topic));
        let work = tokio::spawn(async move { core.reshape_to_the_end(&topic, &how, force).await });
        // It panicked: nothing is known about what it did.
        work.await.unwrap_or(Err(Error::Storage(store::Error::Fenced)))
    }

    async fn reshape_to_the_end(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        how: &Reshape,
        force: bool,
    ) -> topic::Result<()> {
        let mut gate = self.gates.close(topic.id()).await?;
        let plan = self.topics.plan(topic, how)?;
        if plan.is_empty() {
            return Ok(());
        }
        if !force {
            self.check_unused(topic, how, &plan)?;
        }
        // From here on these partitions take nothing, so that their ends are the ends.
        for (index, heir) in &plan.retiring {
            topic.partition(*index)?.retire(Some(*heir));
        }
        let outcome = match durable_ends(self, topic, &plan).await {
            Ok(ends) => {
                let (topic, plan) = (Arc::clone(topic), plan.clone());
                let work = move |core: &Arc<Self>| core.topics.reshard(&topic, &plan, &ends, core.now_ms());
                let outcome = self.blocking(work).await;
                gate.broken = matches!(outcome, Err(Error::Storage(store::Error::Fenced)));
                outcome
            }
            Err(error) => Err(error),
        };
        if outcome.is_err() && !gate.broken {
            for index in plan.retiring.keys() {
                topic.partition(*index)?.revive();
            }
            for index in plan.touched(&topic.shards()).into_keys() {
                // A partition that was still to come has nothing to go on with.
                topic.partition(index).into_iter().for_each(|partition| partition.reopen_shard());
            }
        }
        if outcome.is_ok() {
            let open = topic.shards().open_count();
            tracing::info!(topic = %topic.name(), partitions = plan.partitions, open, "shards after {how:?}");
        }
        outcome
    }

    /// Whether clients that choose the partition themselves wrote to it lately.
    pub(super) fn clients_write_to(&self, partition: &Partition) -> bool {
        let now_ms = i64::try_from(partition.bucket_ns(self.now_ms()) / 1_000_000).unwrap_or(i64::MAX);
        let since = now_ms.saturating_sub(CLIENT_WRITES_MS);
        partition.client_wrote_ms().is_some_and(|at| at >= since)
    }

    fn check_unused(&self, topic: &Topic, how: &Reshape, plan: &Plan) -> topic::Result<()> {
        for (index, heir) in &plan.retiring {
            let partition = topic.partition(*index)?;
            if self.clients_write_to(&partition) {
                return Err(Error::InUse(format!(
                    "Kafka producers wrote to partition {index} of topic '{}' within the last minute (client {}), and \
                     would be refused there afterwards: its keys go to shardId-{heir:012}. Stop them{}",
                    topic.name(),
                    partition.client().as_deref().unwrap_or("unknown"),
                    forcing(topic.name(), how)
                )));
            }
        }
        Ok(())
    }

    /// Stores each record in the shard that holds its hash; all records of a shard become one batch (more where it
    /// would be larger than the topic allows). A record over the shard's limits is refused, the others are stored.
    /// As durable as `acks=all` when it returns.
    ///
    /// # Errors
    /// [`Error::Storage`] when nothing can be stored at all; else each record has its own outcome.
    pub async fn put(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        entries: Vec<Put>,
    ) -> topic::Result<Vec<topic::Result<Stored>>> {
        let gate = self.gates.enter(topic.id()).await?;
        let mut outcomes: Vec<topic::Result<Stored>> =
            std::iter::repeat_with(|| Err(Error::UnknownPartition)).take(entries.len()).collect();
        let cargo = load(topic, entries, self.now_ms(), &mut outcomes)?;
        for cargo in &cargo {
            // One that does not open says so at the append.
            let _ = self.open_log(&cargo.partition).await;
        }
        let mut waits = Vec::new();
        for cargo in cargo {
            let most = self.topic_settings.max_decompressed_bytes;
            let end = store(cargo, self.now_ms(), most, &mut outcomes);
            waits.extend(end.filter(|_| self.acks_wait_for_sync()));
        }
        drop(gate);
        // All of them ask for their sync before the first is waited for.
        let receipts: Vec<_> = waits
            .into_iter()
            .map(|(partition, places, end)| (Receipt::new(&partition, end), places))
            .collect();
        for (receipt, places) in receipts {
            let durable = match receipt {
                Ok(receipt) => receipt.await,
                Err(error) => Err(error),
            };
            if let Err(error) = durable {
                places.iter().for_each(|at| set(&mut outcomes, *at, Err(error.clone())));
            }
        }
        Ok(outcomes)
    }

    /// Reads a shard from `offset`. Records that are older than the topic keeps them are not there any more, whether or not
    /// their segment has gone; a read that meets many of them may find nothing and still go on.
    ///
    /// # Errors
    /// [`Error::Throttled`], [`Error::OffsetOutOfRange`] past the end, [`Error::Storage`], [`Error::Invalid`].
    pub fn get(
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
        if config.shard_read_bytes.is_some() && bytes.wait_ns(now_ns) > 0 {
            partition.tally().throttled_read();
            return Err(throttled(Limit::ReadBytes, bytes.wait_ns(now_ns)));
        }
        let plain_bytes = self.topic_settings.max_decompressed_bytes;
        let bounds = Bounds { most, plain_bytes, horizon_ms: self.horizon_ms(topic) };
        let mut found = read(&partition, shard, offset, bounds, now_ms)?;
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

    /// What a door keeps beside a topic under `name`, and its version.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn attachment(&self, topic: Uuid, name: &str) -> topic::Result<Option<(u64, Bytes)>> {
        Ok(self.topics.attachment(topic, name))
    }

    /// Keeps `bytes` beside a topic under `name` if the version there is `expected` (`None`: nothing is there); the new
    /// version. Durable when it returns, and gone with the topic.
    ///
    /// # Errors
    /// [`Error::UnknownTopicId`], [`Error::InUse`] when somebody else was faster, [`Error::Storage`].
    pub async fn set_attachment(
        self: &Arc<Self>,
        topic: Uuid,
        name: &str,
        bytes: Bytes,
        expected: Option<u64>,
    ) -> topic::Result<u64> {
        let name = name.to_owned();
        self.blocking(move |core| core.topics.attach(topic, &name, &bytes, expected)).await
    }
}

impl GotRecord {
    /// Bytes of key and value: what limits of reading count.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// Where the partitions that a plan touches end; everything below is on stable storage.
async fn durable_ends(core: &Arc<Core>, topic: &Topic, plan: &Plan) -> topic::Result<BTreeMap<i32, i64>> {
    let mut ends = BTreeMap::new();
    let mut receipts = Vec::new();
    for (index, closing) in plan.touched(&topic.shards()) {
        // A partition that is still to come starts at 0.
        let Ok(partition) = topic.partition(index) else { continue };
        core.open_log(&partition).await?;
        let end = partition.close_shard(closing)?;
        ends.insert(index, end);
        receipts.push(Receipt::new(&partition, end)?);
    }
    for receipt in receipts {
        receipt.await?;
    }
    Ok(ends)
}

/// How an operator carries out what was refused; ids as every door knows them.
fn forcing(topic: &str, how: &Reshape) -> String {
    match *how {
        Reshape::Merge { shard, adjacent } => {
            format!(
                ", or force it: weir shard merge {topic} shardId-{shard:012} shardId-{adjacent:012} --force"
            )
        }
        Reshape::Scale { count } => format!(", or force it: weir shard scale {topic} {count} --force"),
        // These leave no partition without a shard.
        Reshape::Split { .. } | Reshape::Grow { .. } => String::new(),
    }
}

fn throttled(limit: Limit, wait_ns: u64) -> Error {
    Error::Throttled { limit, wait_ms: wait_ns.div_ceil(1_000_000) }
}

fn set(outcomes: &mut [topic::Result<Stored>], at: usize, outcome: topic::Result<Stored>) {
    if let Some(slot) = outcomes.get_mut(at) {
        *slot = outcome;
    }
}

/// Sorts records by shard, and takes from the limits of each shard.
fn load(
    topic: &Topic,
    entries: Vec<Put>,
    now_ms: i64,
    outcomes: &mut [topic::Result<Stored>],
) -> topic::Result<Vec<Cargo>> {
    let shards = topic.shards();
    let config = topic.config();
    let most = usize::try_from(config.max_message_bytes).unwrap_or(usize::MAX);
    let mut all: BTreeMap<u32, Cargo> = BTreeMap::new();
    for (at, Put { hash, record }) in entries.into_iter().enumerate() {
        let shard = shards.holding(hash);
        let cargo = match all.entry(shard.id) {
            std::collections::btree_map::Entry::Occupied(cargo) => cargo.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                let partition = topic.partition(shard.partition)?;
                place.insert(Cargo { shard: shard.id, partition, loads: Vec::new() })
            }
        };
        match cargo.partition.take_write(&config, now_ms, charged_bytes(&record), 1) {
            Ok(()) => cargo.push(at, record, most),
            Err(error) => set(outcomes, at, Err(error)),
        }
    }
    Ok(all.into_values().collect())
}

/// What a record costs of the write limit: key and value.
fn charged_bytes(record: &Record) -> u64 {
    (record.key.as_ref().map_or(0, Bytes::len) + record.value.as_ref().map_or(0, Bytes::len)) as u64
}

impl Cargo {
    fn push(&mut self, at: usize, record: Record, most: usize) {
        let headers: usize = record
            .headers
            .iter()
            .map(|(name, value)| 10 + name.len() + value.as_ref().map_or(0, Bytes::len))
            .sum();
        let bytes =
            RECORD_FRAMING_BYTES + headers + usize::try_from(charged_bytes(&record)).unwrap_or(usize::MAX);
        let fits = self.loads.last().is_some_and(|l| l.bytes + bytes + crate::batch::HEADER_BYTES <= most);
        if !fits {
            self.loads.push(Load::default());
        }
        if let Some(load) = self.loads.last_mut() {
            load.bytes += bytes;
            load.places.push(at);
            load.times_ms.push(record.timestamp_ms);
            load.builder.push(record);
        }
    }
}

/// Appends what goes to one shard; the partition, the places in the request, and the end to wait for.
fn store(
    cargo: Cargo,
    now_ms: i64,
    max_plain_bytes: usize,
    outcomes: &mut [topic::Result<Stored>],
) -> Option<(Arc<Partition>, Vec<usize>, i64)> {
    let Cargo { shard, partition, loads } = cargo;
    let mut appends = Vec::with_capacity(loads.len());
    let mut stubs = Vec::with_capacity(loads.len());
    for Load { builder, places, times_ms, .. } in loads {
        let batch = builder
            .build()
            .map_err(Error::Invalid)
            .and_then(|batch| super::admit(&partition, batch, max_plain_bytes, now_ms));
        match batch {
            Ok(batch) => {
                appends.push(Append::routed(batch));
                stubs.push((places, times_ms));
            }
            Err(error) => places.iter().for_each(|at| set(outcomes, *at, Err(error.clone()))),
        }
    }
    partition.append(now_ms, &mut appends.iter_mut().collect::<Vec<_>>());
    let mut stored = Vec::new();
    let mut end = None;
    for (append, (places, times_ms)) in appends.into_iter().zip(stubs) {
        match append.outcome.unwrap_or(Err(Error::UnknownPartition)) {
            Ok(appended) => {
                for ((offset, at), time_ms) in (appended.base_offset..).zip(&places).zip(times_ms) {
                    let time_ms =
                        if appended.log_append_time_ms >= 0 { appended.log_append_time_ms } else { time_ms };
                    set(outcomes, *at, Ok(Stored { shard, offset, time_ms }));
                }
                stored.extend(places);
                end = Some(appended.next_offset);
            }
            Err(error) => places.iter().for_each(|at| set(outcomes, *at, Err(error.clone()))),
        }
    }
    end.map(|end| (partition, stored, end))
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

/// The least that a read looks through when it finds nothing to give.
const LOOK_BYTES: usize = 1 << 20;

/// Records of a shard's span. Control batches are passed over; offsets may have holes.
fn read(
    partition: &Partition,
    shard: &Shard,
    offset: i64,
    bounds: Bounds<'_>,
    now_ms: i64,
) -> topic::Result<Got> {
    let Bounds { most, plain_bytes, horizon_ms } = bounds;
    let until = shard.until.unwrap_or(i64::MAX);
    let start = partition.span()?.start;
    let mut got = Got { next_offset: offset.max(shard.from).max(start).min(until), ..Got::default() };
    // What does not fit is not read: a record weighs no less than its bytes.
    let wanted = most.bytes.min(most.weight);
    let (mut bytes, mut weight, mut seen) = (0, 0, 0);
    // The timestamp of the newest record that was seen.
    let mut newest_ms = None;
    let mut full = false;
    while !full && got.next_offset < until {
        let outcome = match partition.read(got.next_offset, wanted.saturating_sub(bytes).max(1)) {
            // What lies before lost records is given first; whoever asks at them is told.
            Err(Error::Storage(store::Error::Damaged { .. })) if !got.records.is_empty() => break,
            outcome => outcome?,
        };
        if outcome.slice.is_empty() {
            break;
        }
        let slice = partition.bytes_of(&outcome.slice)?;
        for batch in Batches::new(&slice) {
            let batch = batch?;
            let header = batch.header;
            let stamped = header.timestamp_type() == crate::batch::TimestampType::LogAppend;
            // The broker's own time counts for all records of a batch; a client's is looked at record by record.
            if stamped && is_before(header.max_timestamp, horizon_ms) {
                newest_ms = Some(header.max_timestamp);
            } else if !header.is_control() {
                let section = match batch.section(plain_bytes)? {
                    std::borrow::Cow::Borrowed(part) => slice.slice_ref(part),
                    std::borrow::Cow::Owned(plain) => plain.into(),
                };
                for record in Records::new(&section, header.record_count) {
                    let record = record?;
                    let offset = header.base_offset + i64::from(record.offset_delta);
                    if offset < got.next_offset {
                        continue;
                    }
                    if offset >= until || got.records.len() >= most.records {
                        full = true;
                        break;
                    }
                    let owned = |part: &[u8]| section.slice_ref(part);
                    let found = GotRecord {
                        offset,
                        time_ms: if stamped {
                            header.max_timestamp
                        } else {
                            header.base_timestamp.saturating_add(record.timestamp_delta)
                        },
                        key: record.key.map(owned),
                        value: record.value.map(owned),
                        headers: record.header_pairs().map(|(n, v)| (owned(n), v.map(owned))).collect(),
                    };
                    newest_ms = Some(found.time_ms);
                    if is_before(found.time_ms, horizon_ms) {
                        got.next_offset = offset + 1;
                        continue;
                    }
                    bytes += found.bytes();
                    weight += (most.weigh)(&found);
                    if weight > most.weight && got.records.is_empty() {
                        return Ok(Got { next_offset: offset, heavy: Some(weight), ..got });
                    }
                    if weight > most.weight || bytes > most.bytes && !got.records.is_empty() {
                        full = true;
                        break;
                    }
                    got.next_offset = offset + 1;
                    got.records.push(found);
                }
            }
            if full {
                break;
            }
            got.next_offset = got.next_offset.max(header.next_offset()).min(until);
        }
        seen += slice.len();
        if got.records.is_empty() && !full {
            // Old ones may be many: a log that the broker stamped is in order of time.
            if newest_ms.is_some_and(|newest| is_before(newest, horizon_ms))
                && partition.config().timestamp_type == crate::batch::TimestampType::LogAppend
            {
                let found = partition.offset_for_time(horizon_ms, plain_bytes)?;
                let end = partition.high_watermark()?.value();
                got.next_offset = got.next_offset.max(found.map_or(end, |(offset, _)| offset)).min(until);
            }
            full = seen >= most.bytes.max(LOOK_BYTES);
        }
    }
    got.at_end = got.next_offset >= until;
    let tip = got.next_offset >= until.min(partition.high_watermark()?.value());
    if !tip {
        got.behind_ms = newest_ms.map_or(0, |newest| now_ms.saturating_sub(newest).max(0));
    }
    Ok(got)
}

/// Whether a record of this time is older than `horizon_ms`; one without a time is of any age.
fn is_before(time_ms: i64, horizon_ms: i64) -> bool {
    (0..horizon_ms).contains(&time_ms)
}
