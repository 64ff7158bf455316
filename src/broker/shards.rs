//! Shards in use: records go to the shard that holds their hash and come back by shard; shards split and merge.
//!
//! Invariant: routing and append happen behind a gate of the topic that a reshard closes, so no record of a key is
//! appended for a child before the last one for its parent, and what lies below the parents' ends is durable before
//! the record of the reshard is. Kafka producers are never held up by it.
//! Deliberately absent: what a reshard comes to (topic/shards.rs), hashing of keys and wire formats (the doors).

#[cfg(test)]
mod power_tests;
mod read;
mod sections;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use uuid::Uuid;

use super::{Core, Receipt};
use crate::batch::{Builder, Record};
use crate::store;
use crate::topic::{self, Append, Error, Partition, Plan, Reshape, Topic};

pub(super) use sections::Sections;

pub use read::{Got, GotRecord, Most, ReadCharge};

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
        let bytes = cargo.iter().flat_map(|cargo| &cargo.loads).map(|load| load.bytes).sum();
        let (now_ms, most) = (self.now_ms(), self.topic_settings.max_decompressed_bytes);
        let store_all = || {
            let stored = cargo.into_iter().filter_map(|cargo| store(cargo, now_ms, most, &mut outcomes));
            stored.filter(|_| self.acks_wait_for_sync()).collect::<Vec<_>>()
        };
        let waits = self.work(None, bytes, store_all).await;
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
