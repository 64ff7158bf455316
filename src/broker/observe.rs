//! The broker as it is seen from outside: one copy of all its numbers, made when somebody asks.
//!
//! Invariant: looking never takes a partition's writer lock and opens no log. A log that nobody has opened since the
//! start is opened after the look, in the background, so that the next look sees where it stands.
//! What is kept between two looks is the time of the records at committed offsets: a record's time never changes.
//! Deliberately absent: names and formats of metrics (the admin door).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Core, SeenOperation};
use crate::group::{Event, Reply};
use crate::quota::Rate;
use crate::store::{Capacity, LogId, Seen as SeenIncident};
use crate::topic::{Counted, Partition, Topic};

/// Offsets copied under one hold of the coordinator's lock.
const OFFSETS_AT_A_TIME: usize = 1_000;
/// Records whose time is looked up in one look: each may cost a read of the disk. The others follow in later ones.
const TIMES_MAX: usize = 2_000;

/// Looks at a broker again and again.
pub struct Observer {
    core: Arc<Core>,
    started: Instant,
    times: Times,
    opening: Option<JoinHandle<()>>,
    /// Whether opening is to stop.
    ended: Arc<AtomicBool>,
    /// Time that the workers had spent, and when, at the last look.
    busy: (f64, Instant),
}

/// Times of records, by where they are.
type Times = HashMap<(LogId, i64), i64>;

/// Everything, at about one time.
#[derive(Debug)]
pub struct Seen {
    /// Id of this node.
    pub node_id: i32,
    /// Id of the cluster.
    pub cluster_id: String,
    /// Seconds since the doors opened.
    pub uptime_s: u64,
    /// Topics, by name.
    pub topics: Vec<SeenTopic>,
    /// Consumer groups.
    pub groups: Vec<SeenGroup>,
    /// Operations of doors that count theirs, if they were called.
    pub operations: Vec<SeenOperation>,
    /// What went wrong, by kind.
    pub incidents: Vec<SeenIncident>,
    /// Whether health is degraded.
    pub degraded: bool,
    /// See [`Core::refuses_writes`].
    pub refuses_writes: bool,
    /// What the state of consumer groups takes and may take. Bytes.
    pub group_state: (usize, usize),
    /// Bytes of the engine's space: all, free.
    pub capacity: Option<(u64, u64)>,
    /// Part of the workers' time since the last look that was idle, in thousandths.
    pub idle_permille: i64,
}

/// A topic.
#[derive(Debug)]
pub struct SeenTopic {
    /// Name.
    pub name: Arc<str>,
    /// Id of the node that has its partitions.
    pub node_id: i32,
    /// Open shards.
    pub open_shards: usize,
    /// Limits of each shard, units per second: bytes and records written, bytes read, read calls.
    pub limits: [Option<u64>; 4],
    /// By index.
    pub partitions: Vec<SeenPartition>,
}

/// A partition.
#[derive(Debug)]
pub struct SeenPartition {
    /// Index.
    pub index: i32,
    /// Its open shard, or the last one it had.
    pub shard: u32,
    /// Where its log stands, when it is known.
    pub log: Option<SeenLog>,
    /// What passed through it.
    pub counted: Counted,
    /// What is left in the buckets of those limits, in thousandths; negative is debt.
    pub fill_permille: [i64; 4],
}

/// Where a log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenLog {
    /// First readable offset.
    pub start: i64,
    /// Offset after the last record.
    pub end: i64,
    /// Bytes of all its batches.
    pub bytes: u64,
    /// A sync failed: it takes no more records.
    pub fenced: bool,
}

/// A consumer group.
#[derive(Debug)]
pub struct SeenGroup {
    /// Id.
    pub id: String,
    /// How many members it has.
    pub members: usize,
    /// What it committed, by topic.
    pub topics: Vec<(String, Vec<SeenCommit>)>,
}

/// A committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenCommit {
    /// Index of the partition.
    pub partition: i32,
    /// Next offset that the group reads.
    pub offset: i64,
    /// How many records follow that are still there, when the log's end is known.
    pub lag: Option<i64>,
    /// How old the record at that offset is; 0 when there is none. Milliseconds.
    pub age_ms: Option<i64>,
}

impl Seen {
    /// What this copy takes of memory, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let topic = |topic: &SeenTopic| {
            size_of::<SeenTopic>() + topic.partitions.capacity() * size_of::<SeenPartition>()
        };
        let of_topic = |(name, commits): &(String, Vec<SeenCommit>)| {
            size_of::<(String, Vec<SeenCommit>)>() + name.len() + commits.capacity() * size_of::<SeenCommit>()
        };
        let group = |group: &SeenGroup| {
            size_of::<SeenGroup>() + group.id.len() + group.topics.iter().map(of_topic).sum::<usize>()
        };
        self.topics.iter().map(topic).sum::<usize>() + self.groups.iter().map(group).sum::<usize>()
    }
}

/// No less than the copy of a look takes (see [`Seen::bytes`]), without looking.
#[must_use]
pub fn weight(core: &Core) -> usize {
    let topic =
        |topic: &Arc<Topic>| size_of::<SeenTopic>() + topic.partitions().len() * size_of::<SeenPartition>();
    // Whatever a group has takes more in its state than what is told of it.
    core.topics().all().iter().map(topic).sum::<usize>() + core.group_state_bytes().0
}

impl Observer {
    /// Looks at `core`.
    #[must_use]
    pub fn new(core: Arc<Core>) -> Self {
        let now = Instant::now();
        Self {
            core,
            started: now,
            times: Times::new(),
            opening: None,
            ended: Arc::default(),
            busy: (busy_s(), now),
        }
    }

    /// Takes a look. Comes to its end also when nobody waits for it: whoever bounds looks holds on to their place meanwhile.
    pub async fn look(&mut self) -> Seen {
        let ids = group_ids(&self.core).await;
        let (core, mut times) = (Arc::clone(&self.core), std::mem::take(&mut self.times));
        // Thousands of partitions take milliseconds, and the times of records read the disk.
        let looked = tokio::task::spawn_blocking(move || {
            let topics: Vec<_> = core.topics().all().iter().map(|topic| seen(&core, topic)).collect();
            let mut groups: Vec<_> = ids.into_iter().filter_map(|id| seen_group(&core, id)).collect();
            place(&core, &topics, &mut groups, &mut times);
            (topics, groups, times, core.capacity())
        });
        // A look that panicked saw nothing.
        let (topics, groups, times, capacity) = looked.await.unwrap_or_default();
        self.times = times;
        self.open_logs(&topics);
        Seen {
            node_id: self.core.node_id(),
            cluster_id: self.core.cluster_id().to_owned(),
            uptime_s: self.started.elapsed().as_secs(),
            topics,
            groups,
            group_state: self.core.group_state_bytes(),
            operations: self.core.operations().seen(),
            incidents: self.core.incidents().seen(),
            degraded: !self.core.incidents().reasons().is_empty(),
            refuses_writes: self.core.refuses_writes(),
            capacity: capacity.map(|Capacity { total_bytes, free_bytes }| (total_bytes, free_bytes)),
            idle_permille: self.idle_permille(),
        }
    }

    /// Looks no more: when this returns, nothing is being opened.
    pub async fn end(mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(opening) = self.opening.take() {
            // Whether it came to its end or panicked, it is over.
            let _ = opening.await;
        }
    }

    /// Opens what is not open yet, unless that is under way.
    fn open_logs(&mut self, topics: &[SeenTopic]) {
        let closed = topics.iter().any(|topic| topic.partitions.iter().any(|p| p.log.is_none()));
        if !closed || self.opening.as_ref().is_some_and(|opening| !opening.is_finished()) {
            return;
        }
        let (core, ended) = (Arc::clone(&self.core), Arc::clone(&self.ended));
        self.opening = Some(tokio::task::spawn_blocking(move || {
            for topic in core.topics().all() {
                for partition in topic.partitions().iter().filter(|p| p.glance().is_none()) {
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Err(error) = partition.span() {
                        tracing::debug!(topic = %topic.name(), "not seen: {error}");
                    }
                }
            }
        }));
    }

    fn idle_permille(&mut self) -> i64 {
        let now = (busy_s(), Instant::now());
        let before = std::mem::replace(&mut self.busy, now);
        let workers = tokio::runtime::Handle::current().metrics().num_workers() as f64;
        let passed = (now.1 - before.1).as_secs_f64() * workers;
        let busy = if passed > 0.0 { (now.0 - before.0) / passed } else { 0.0 };
        #[allow(clippy::cast_possible_truncation, reason = "between 0 and 1000")]
        let idle = ((1.0 - busy).clamp(0.0, 1.0) * 1000.0) as i64;
        idle
    }
}

/// Seconds that the workers of this runtime were busy.
fn busy_s() -> f64 {
    let metrics = tokio::runtime::Handle::current().metrics();
    (0..metrics.num_workers()).map(|worker| metrics.worker_total_busy_duration(worker).as_secs_f64()).sum()
}

/// The ids of all groups, in order.
async fn group_ids(core: &Core) -> Vec<String> {
    let listed = core.group(Event::ListGroups { states: Vec::new(), types: Vec::new(), after: None }).await;
    let Ok(Reply::ListGroups(Ok(listed))) = listed else { return Vec::new() };
    let mut ids: Vec<String> = listed.into_iter().map(|group| group.group).collect();
    ids.sort_unstable();
    ids
}

/// A group with what it committed, page by page; nothing when it has gone meanwhile.
fn seen_group(core: &Core, id: String) -> Option<SeenGroup> {
    let mut group = SeenGroup { id, members: 0, topics: Vec::new() };
    let mut last: Option<(String, i32)> = None;
    loop {
        let after = last.as_ref().map(|(topic, partition)| (topic.as_str(), *partition));
        let (members, page) = core.glance_at_group(&group.id, after, OFFSETS_AT_A_TIME)?;
        group.members = members;
        let is_last = page.len() < OFFSETS_AT_A_TIME;
        last = page.last().map(|(topic, partition, ..)| (topic.clone(), *partition));
        for (topic, partition, offset, of) in page {
            // It is of the topic, and not of a later one that has its name.
            if of.is_some() && of != core.topics().by_name(&topic).map(|topic| topic.id()) {
                continue;
            }
            let commit = SeenCommit { partition, offset, lag: None, age_ms: None };
            match group.topics.last_mut().filter(|(name, _)| *name == topic) {
                Some((_, commits)) => commits.push(commit),
                None => group.topics.push((topic, vec![commit])),
            }
        }
        if is_last {
            return Some(group);
        }
    }
}

fn seen(core: &Core, topic: &Topic) -> SeenTopic {
    let config = topic.config();
    let rates = [
        config.shard_write_bytes,
        config.shard_write_records,
        config.shard_read_bytes,
        config.shard_read_calls,
    ];
    let limited = rates.iter().any(Option::is_some);
    let partitions = topic.partitions();
    let shards = topic.known_shards();
    let mut last: HashMap<i32, u32> = HashMap::new();
    if let Some(shards) = &shards {
        last.extend(shards.iter().map(|shard| (shard.partition, shard.id)));
        last.extend(shards.open().map(|shard| (shard.partition, shard.id)));
    }
    let now_ms = core.now_ms();
    let seen = |partition: &Arc<Partition>| {
        let index = partition.id().partition;
        let log = partition.glance().map(|(span, bytes, fenced)| SeenLog {
            start: span.start,
            end: span.end,
            bytes,
            fenced,
        });
        let now_ns = partition.bucket_ns(now_ms);
        let fill_permille = if limited {
            let buckets = partition.buckets();
            [&buckets.write_bytes, &buckets.write_records, &buckets.read_bytes, &buckets.read_calls]
                .map(|bucket| bucket.fill_permille(now_ns))
        } else {
            [0; 4]
        };
        SeenPartition {
            index,
            shard: last.get(&index).copied().unwrap_or(u32::try_from(index).unwrap_or_default()),
            log,
            counted: partition.tally().counted(now_ns / 1_000_000),
            fill_permille,
        }
    };
    SeenTopic {
        name: Arc::clone(topic.name()),
        node_id: core.node_id(),
        open_shards: shards.map_or(partitions.len(), |shards| shards.open_count()),
        limits: rates.map(|rate| rate.map(Rate::per_second)),
        partitions: partitions.iter().map(seen).collect(),
    }
}

/// Lays commits beside the logs: how much follows, and how old it is.
fn place(core: &Core, topics: &[SeenTopic], groups: &mut [SeenGroup], times: &mut Times) {
    let by_name: HashMap<&str, &SeenTopic> = topics.iter().map(|topic| (&*topic.name, topic)).collect();
    let mut known = std::mem::take(times);
    let mut lookups = 0;
    let now_ms = core.now_ms();
    for (name, commits) in groups.iter_mut().flat_map(|group| &mut group.topics) {
        let Some(topic) = by_name.get(name.as_str()) else { continue };
        let Some(there) = core.topics().by_name(name) else { continue };
        for commit in commits {
            let at = usize::try_from(commit.partition).ok().and_then(|at| topic.partitions.get(at));
            let Some(log) = at.and_then(|partition| partition.log) else { continue };
            // What retention took is read by nobody: what is left counts.
            commit.lag = Some((log.end - commit.offset.max(log.start)).max(0));
            if commit.offset >= log.end {
                commit.age_ms = Some(0);
                continue;
            }
            let offset = commit.offset.max(log.start);
            let key = (LogId { topic: there.id(), partition: commit.partition }, offset);
            let time_ms = times.get(&key).or_else(|| known.get(&key)).copied().or_else(|| {
                lookups += 1;
                let partition = there.partition(commit.partition).ok().filter(|_| lookups <= TIMES_MAX)?;
                partition.time_at(offset).ok().flatten()
            });
            if let Some(time_ms) = time_ms {
                known.remove(&key);
                times.insert(key, time_ms);
                commit.age_ms = Some(now_ms.saturating_sub(time_ms).max(0));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Record;
    use crate::broker::{Most, Put, ReadCharge, in_memory};
    use crate::config::Config;
    use crate::group::{Commit, CommitPartition, CommitTopic};

    async fn with_records(core: &Arc<Core>, count: usize) -> Arc<Topic> {
        let topic = core.create_topic("t".into(), 1, [].into()).await.unwrap();
        let put = Put {
            hash: 0,
            record: Record { timestamp_ms: -1, value: Some("v".into()), ..Record::default() },
        };
        assert!(core.put(&topic, vec![put; count]).await.unwrap().iter().all(Result::is_ok));
        topic
    }

    #[tokio::test]
    async fn what_a_group_committed_is_told_whole_however_many_pages_it_takes_and_weighs_no_more_than_said() {
        let core = in_memory(Config::default()).unwrap();
        let mut topics = Vec::new();
        for n in 0..3 {
            let topic = core.create_topic(format!("t{n}"), 900, [].into()).await.unwrap();
            let partitions = (0..900).map(|partition| CommitPartition {
                partition,
                offset: i64::from(partition) + n,
                leader_epoch: -1,
                metadata: "m".repeat(100),
                commit_ms: None,
            });
            let (id, partitions) = (Some(topic.id()), partitions.collect());
            topics.push(CommitTopic { name: format!("t{n}"), id, gone: false, partitions });
        }
        let commit = Commit { group: "g".into(), generation: -1, topics, ..Commit::default() };
        Arc::clone(&core).first_group(Event::CommitOffsets(commit)).await.unwrap();
        let seen = Observer::new(Arc::clone(&core)).look().await;
        let told: Vec<_> =
            seen.groups[0].topics.iter().map(|(name, all)| (name.as_str(), all.len())).collect();
        assert_eq!(told, [("t0", 900), ("t1", 900), ("t2", 900)]);
        for ((_, commits), n) in seen.groups[0].topics.iter().zip(0..) {
            let there = commits.iter().map(|commit| (commit.partition, commit.offset));
            assert!(there.eq((0..900).map(|p| (p, i64::from(p) + n))));
        }
        let weight = weight(&core);
        assert!((seen.bytes()..seen.bytes() * 20).contains(&weight), "{weight} for {}", seen.bytes());
    }

    #[tokio::test]
    async fn a_look_waits_for_no_writer() {
        let core = in_memory(Config::default()).unwrap();
        let topic = with_records(&core, 3).await;
        let partition = Arc::clone(topic.partitions().first().unwrap());
        // Held by another thread, as a writer would: this one looks.
        let (stalled, is_stalled) = std::sync::mpsc::sync_channel(1);
        let (release, is_released) = std::sync::mpsc::sync_channel::<()>(1);
        let writer = std::thread::spawn(move || {
            let _held = partition.stalled();
            stalled.send(()).unwrap();
            is_released.recv().unwrap_err();
        });
        is_stalled.recv().unwrap();
        let mut observer = Observer::new(Arc::clone(&core));
        let seen = tokio::time::timeout(std::time::Duration::from_secs(10), observer.look()).await.unwrap();
        drop(release);
        writer.join().unwrap();
        let part = &seen.topics[0].partitions[0];
        assert_eq!(part.log.map(|log| (log.start, log.end, log.fenced)), Some((0, 3, false)));
        assert_eq!(part.counted.written.map(|passed| passed.records), [0, 3]);
    }

    #[tokio::test]
    async fn a_log_that_nobody_opened_is_seen_by_the_next_look() {
        let core = in_memory(Config::default()).unwrap();
        core.create_topic("t".into(), 2, [].into()).await.unwrap();
        let mut observer = Observer::new(core);
        let ends =
            |seen: &Seen| seen.topics[0].partitions.iter().map(|p| p.log.map(|l| l.end)).collect::<Vec<_>>();
        assert_eq!(ends(&observer.look().await), [None, None]);
        observer.opening.take().unwrap().await.unwrap();
        assert_eq!(ends(&observer.look().await), [Some(0), Some(0)]);
        assert!(observer.opening.is_none());
    }

    #[tokio::test]
    async fn a_shard_goes_on_with_the_counters_of_its_partition() {
        let core = in_memory(Config::default()).unwrap();
        let topic = with_records(&core, 3).await;
        core.split_shard(&topic, 0, 1 << 127).await.unwrap();
        let shards = topic.shards();
        let most = Most::new(2, 1 << 20);
        core.get(&topic, shards.by_id(0).unwrap(), 0, &most, ReadCharge::Shared).await.unwrap();
        let seen = Observer::new(Arc::clone(&core)).look().await;
        let told: Vec<_> = seen.topics[0].partitions.iter().map(|p| (p.index, p.shard)).collect();
        assert_eq!((told, seen.topics[0].open_shards), (vec![(0, 1), (1, 2)], 2));
        let first = &seen.topics[0].partitions[0].counted;
        assert_eq!((first.written[1].records, first.read[1].records, first.read[1].calls), (3, 2, 1));
        assert!(first.behind_ms.is_some());
    }
}
