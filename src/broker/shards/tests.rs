//! Puts and gets through live reshards: nothing lost, nothing doubled, every key in order.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use super::*;
use crate::batch::Batches;
use crate::broker::{Clock, Wave, in_memory, open};
use crate::config::Config;
use crate::quota::Bucket;
use crate::topic::{Limit, Shard, Shards};

const PUTTERS: u32 = 4;
const KEYS: u32 = 50;

/// Spreads keys over the whole key space.
fn hash_of(key: &[u8]) -> u128 {
    let half = |seed: u64| {
        key.iter().fold(seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
    };
    u128::from(half(0xcbf2_9ce4_8422_2325).rotate_left(32)) << 64 | u128::from(half(7))
}

pub(super) fn record(key: &str, value: u64) -> Record {
    Record {
        timestamp_ms: -1,
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        value: Some(Bytes::copy_from_slice(&value.to_be_bytes())),
        headers: Vec::new(),
    }
}

pub(super) fn put_of(key: &str, value: u64) -> Put {
    Put { hash: hash_of(key.as_bytes()), record: record(key, value) }
}

/// What comes without anybody else's help.
pub(super) fn now<T>(work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return done;
        }
        std::thread::yield_now();
    }
}

/// As a client that chooses the partition.
fn write(core: &Core, partition: &Arc<Partition>, key: &str, value: u64) -> topic::Result<()> {
    let mut wave = Wave::default();
    let mut builder = Builder::new();
    builder.push(record(key, value));
    let place = wave.push(Arc::clone(partition), builder.build().unwrap());
    wave.commit(core.now_ms());
    wave.outcome(place).map(drop)
}

async fn topic(core: &Arc<Core>, partitions: i32, configs: &[(&str, &str)]) -> Arc<Topic> {
    let configs = configs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    core.create_topic("t".into(), partitions, configs).await.unwrap()
}

fn all_of(core: &Core, topic: &Topic, shard: &Shard) -> Vec<GotRecord> {
    let mut all = Vec::new();
    let mut offset = shard.from;
    loop {
        let got = now(core.get(topic, shard, offset, &Most::new(700, 100_000), ReadCharge::Shared)).unwrap();
        let idle = got.records.is_empty();
        assert!(got.next_offset > offset || idle);
        assert!(got.at_end == shard.until.is_some_and(|until| got.next_offset >= until));
        all.extend(got.records);
        offset = got.next_offset;
        if idle || got.at_end {
            return all;
        }
    }
}

/// The values of every key in the order in which a reader sees them who drains parents before children.
pub(super) fn by_key(core: &Core, topic: &Topic) -> HashMap<Bytes, Vec<u64>> {
    let shards = topic.shards();
    let mut read: HashMap<Bytes, Vec<u64>> = HashMap::new();
    let mut done = HashSet::new();
    // Ids are in the order of creation, so parents come first.
    for shard in shards.iter() {
        assert!(shard.parents.iter().flatten().all(|p| done.contains(p)));
        done.insert(shard.id);
        for got in all_of(core, topic, shard) {
            // Records without a key come from clients that choose partitions.
            let Some(key) = got.key else { continue };
            let hash = hash_of(&key);
            assert!(
                (shard.start_hash..=shard.end_hash).contains(&hash),
                "a record in a shard that does not own it"
            );
            read.entry(key).or_default().push(u64::from_be_bytes(got.value.unwrap()[..].try_into().unwrap()));
        }
    }
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_stay_in_order_while_shards_split_and_merge_under_putters() {
    let core = in_memory(Config::default()).unwrap();
    let topic = topic(&core, 1, &[]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let putters: Vec<_> = (0..PUTTERS)
        .map(|putter| {
            let (core, topic, stop) = (Arc::clone(&core), Arc::clone(&topic), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut round = 0;
                while !stop.load(Ordering::Relaxed) {
                    let entries = (0..KEYS).map(|key| put_of(&format!("{putter}-{key}"), round)).collect();
                    let stored = core.put(&topic, entries).await.unwrap();
                    assert_eq!(stored.len(), usize::try_from(KEYS).unwrap());
                    assert!(stored.iter().all(Result::is_ok), "{stored:?}");
                    round += 1;
                }
                round
            })
        })
        .collect();
    let mut reshards = 0;
    for count in [2, 3, 16, 5, 4, 1, 2, 8, 3, 1, 7] {
        tokio::time::sleep(std::time::Duration::from_millis(15)).await;
        core.scale_shards(&topic, count, false).await.unwrap();
        reshards += 1;
        let shards = topic.shards();
        let widest = shards.open().max_by_key(|s| s.end_hash - s.start_hash).unwrap();
        core.split_shard(
            &topic,
            widest.id,
            widest.start_hash + 1 + (widest.end_hash - widest.start_hash) / 3,
        )
        .await
        .unwrap();
        let shards = topic.shards();
        let pair: Vec<u32> = shards.open().take(2).map(|s| s.id).collect();
        core.merge_shards(&topic, pair[1], pair[0], false).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let mut rounds = Vec::new();
    for putter in putters {
        rounds.push(putter.await.unwrap());
    }
    assert!(rounds.iter().all(|r| *r > reshards), "too slow to show anything: {rounds:?}");
    let read = by_key(&core, &topic);
    for (putter, rounds) in (0..PUTTERS).zip(rounds) {
        for key in 0..KEYS {
            let key = format!("{putter}-{key}");
            let seen = read.get(key.as_bytes()).map(Vec::as_slice);
            assert_eq!(seen, Some(&(0..rounds).collect::<Vec<_>>()[..]), "{key}");
        }
    }
    // Under Kafka nothing was sealed: every record is once in its partition, and offsets have no hole.
    let partitions = topic.partitions();
    let total: i64 = partitions.iter().map(|p| p.span().unwrap().end).sum();
    let read: usize = read.values().map(Vec::len).sum();
    assert_eq!(usize::try_from(total).unwrap(), read);
}

#[tokio::test]
async fn records_for_one_shard_are_one_batch_and_each_knows_its_place() {
    let core = in_memory(Config::default()).unwrap();
    let topic = topic(&core, 2, &[]).await;
    let entries = (0..100).map(|n| put_of(&format!("k{n}"), n)).collect();
    let stored: Vec<Stored> =
        core.put(&topic, entries).await.unwrap().into_iter().map(Result::unwrap).collect();
    for partition in topic.partitions().iter() {
        let bytes = partition.read(0, 1 << 20, true).unwrap().slice.to_bytes().unwrap();
        assert_eq!(Batches::new(&bytes).count(), 1);
    }
    for (n, stored) in (0..).zip(&stored) {
        let shards = topic.shards();
        let shard = shards.by_id(stored.shard).unwrap();
        let got =
            core.get(&topic, shard, stored.offset, &Most::new(1, 1 << 20), ReadCharge::Shared).await.unwrap();
        assert_eq!(got.records[0].key.as_deref(), Some(format!("k{n}").as_bytes()));
        assert_eq!((got.records[0].offset, got.records[0].time_ms), (stored.offset, stored.time_ms));
        assert_eq!(got.next_offset, stored.offset + 1);
    }
}

#[tokio::test]
async fn more_than_a_batch_may_hold_goes_in_several() {
    let core = in_memory(Config::default()).unwrap();
    let topic = topic(&core, 1, &[("max.message.bytes", "5000")]).await;
    let big = |n: u64, bytes: usize| Put {
        hash: 1,
        record: Record { value: Some(vec![0; bytes].into()), ..record("k", n) },
    };
    let outcomes =
        core.put(&topic, vec![big(0, 3000), big(1, 3000), big(2, 6000), big(3, 10)]).await.unwrap();
    let offsets: Vec<_> = outcomes.iter().map(|o| o.as_ref().map(|s| s.offset).ok()).collect();
    assert_eq!(offsets, [Some(0), Some(1), None, Some(2)]);
    assert!(matches!(outcomes[2], Err(Error::TooLarge { .. })));
}

#[tokio::test]
async fn records_over_the_limit_are_refused_one_by_one_and_the_rest_is_stored() {
    let clock = Arc::new(crate::broker::clock::Manual::default());
    clock.now_ms.store(1_700_000_000_000, Ordering::Relaxed);
    let core = crate::broker::open::open_on(
        Arc::new(crate::store::memory::Memory::new()),
        "memory".into(),
        Config::default(),
        Clock::Manual(Arc::clone(&clock)),
    )
    .unwrap();
    let topic = topic(
        &core,
        1,
        &[("shard.write.records.per.second", "10"), ("shard.write.bytes.per.second", "1000")],
    )
    .await;
    let burst = |n: u64| (0..n).map(|n| put_of("k", n)).collect::<Vec<_>>();
    let outcomes = core.put(&topic, burst(15)).await.unwrap();
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 10);
    assert!(
        outcomes[10..]
            .iter()
            .all(|o| matches!(o, Err(Error::Throttled { limit: Limit::WriteRecords, wait_ms: 100 })))
    );
    clock.now_ms.fetch_add(300, Ordering::Relaxed);
    let outcomes = core.put(&topic, burst(5)).await.unwrap();
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 3);
    assert_eq!(topic.partitions()[0].span().unwrap().end, 13);
    // The other limit, and that a refusal by one takes nothing from the other.
    clock.now_ms.fetch_add(10_000, Ordering::Relaxed);
    let large = Record { value: Some(vec![0; 700].into()), ..record("k", 0) };
    let entries = std::iter::repeat_with(|| Put { hash: 0, record: large.clone() }).take(3).collect();
    let outcomes = core.put(&topic, entries).await.unwrap();
    assert!(outcomes[0].is_ok());
    assert!(matches!(outcomes[1], Err(Error::Throttled { limit: Limit::WriteBytes, .. })));
    assert_eq!(core.put(&topic, burst(12)).await.unwrap().iter().filter(|o| o.is_ok()).count(), 9);
}

#[tokio::test]
async fn reads_are_limited_by_calls_and_by_bytes_and_each_fan_out_reader_by_its_own() {
    let clock = Arc::new(crate::broker::clock::Manual::default());
    clock.now_ms.store(1_700_000_000_000, Ordering::Relaxed);
    let core = crate::broker::open::open_on(
        Arc::new(crate::store::memory::Memory::new()),
        "memory".into(),
        Config::default(),
        Clock::Manual(Arc::clone(&clock)),
    )
    .unwrap();
    let topic =
        topic(&core, 1, &[("shard.read.calls.per.second", "5"), ("shard.read.bytes.per.second", "1000")])
            .await;
    let large = Record { value: Some(vec![0; 5999].into()), ..record("k", 0) };
    core.put(&topic, vec![Put { hash: 0, record: large }]).await.unwrap()[0].as_ref().unwrap();
    let shards = topic.shards();
    let shard = shards.by_id(0).unwrap();
    let get = |charge| now(core.get(&topic, shard, 0, &Most::new(10, 1 << 20), charge));
    // Six seconds' worth of bytes with one second there: five seconds of refusals.
    assert_eq!(get(ReadCharge::Shared).unwrap().records.len(), 1);
    for later in [0, 4_999] {
        clock.now_ms.fetch_add(later, Ordering::Relaxed);
        let refused = get(ReadCharge::Shared);
        assert!(matches!(refused, Err(Error::Throttled { limit: Limit::ReadBytes, .. })), "{refused:?}");
    }
    let own = Bucket::default();
    assert!(get(ReadCharge::Own(&own)).is_ok());
    assert!(matches!(get(ReadCharge::Own(&own)), Err(Error::Throttled { .. })));
    clock.now_ms.fetch_add(2, Ordering::Relaxed);
    assert!(get(ReadCharge::Shared).is_ok());
    clock.now_ms.fetch_add(60_000, Ordering::Relaxed);
    let empty = || now(core.get(&topic, shard, 1, &Most::new(10, 1 << 20), ReadCharge::Shared));
    assert!((0..5).all(|_| empty().is_ok()));
    assert!(matches!(empty(), Err(Error::Throttled { limit: Limit::ReadCalls, wait_ms: 200 })));
}

#[tokio::test]
async fn a_read_finds_nothing_that_is_older_than_the_topic_keeps_whoever_gave_it_its_time() {
    let clock = Arc::new(crate::broker::clock::Manual::default());
    clock.now_ms.store(1_700_000_000_000, Ordering::Relaxed);
    let core = crate::broker::open::open_on(
        Arc::new(crate::store::memory::Memory::new()),
        "memory".into(),
        Config::default(),
        Clock::Manual(Arc::clone(&clock)),
    )
    .unwrap();
    for stamps in ["LogAppendTime", "CreateTime"] {
        let pairs = [("retention.ms", "5000"), ("message.timestamp.type", stamps)];
        let overrides = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let topic = core.create_topic(stamps.into(), 1, overrides).await.unwrap();
        for n in 0..20 {
            // Two records a batch; a client's times run backwards in it.
            let at = |older| Put {
                hash: 0,
                record: Record { timestamp_ms: core.now_ms() - older, ..record("k", n) },
            };
            core.put(&topic, vec![at(0), at(1_000)]).await.unwrap();
            clock.now_ms.fetch_add(500, Ordering::Relaxed);
        }
        let shards = topic.shards();
        let get = |offset, most: &Most<'_>| {
            now(core.get(&topic, shards.by_id(0).unwrap(), offset, most, ReadCharge::Shared)).unwrap()
        };
        let horizon = core.now_ms() - 5_000;
        let got = get(0, &Most::new(100, 1 << 20));
        let expected: usize = if stamps == "CreateTime" { 10 + 8 } else { 20 };
        assert_eq!(got.records.len(), expected, "{stamps}");
        assert!(got.records.iter().all(|record| record.time_ms >= horizon), "{stamps}");
        assert_eq!((got.next_offset, got.behind_ms), (40, 0));
        // A clock that somebody sets for a while hides nothing: a reader that passed over it would not come back.
        clock.set_by_ms.store(2 * 86_400_000, Ordering::Relaxed);
        assert_eq!(get(0, &Most::new(100, 1 << 20)).records.len(), expected, "{stamps}");
        clock.set_by_ms.store(0, Ordering::Relaxed);
        // One at a time from the start: the first is the oldest that is kept.
        assert_eq!(get(3, &Most::new(1, 1 << 20)).records[0].offset, 20, "{stamps}");
        clock.now_ms.fetch_add(60_000, Ordering::Relaxed);
        let none = get(7, &Most::new(100, 1 << 20));
        assert_eq!((none.records.len(), none.next_offset, none.behind_ms), (0, 40, 0), "{stamps}");
    }
}

#[tokio::test]
async fn a_read_stops_at_what_its_caller_has_room_for_and_charges_nothing_when_that_is_nothing() {
    let core = in_memory(Config::default()).unwrap();
    let topic = topic(&core, 1, &[("shard.read.calls.per.second", "1")]).await;
    for n in 0..5 {
        core.put(&topic, vec![put_of("k", n)]).await.unwrap();
    }
    let shards = topic.shards();
    let weigh = |record: &GotRecord| 100 + usize::try_from(record.offset).unwrap();
    let get = |weight| {
        let most = Most { weight, weigh: &weigh, ..Most::new(100, 1 << 20) };
        now(core.get(&topic, shards.by_id(0).unwrap(), 1, &most, ReadCharge::Shared))
    };
    for _ in 0..5 {
        let nothing = get(100).unwrap();
        assert_eq!((nothing.heavy, nothing.records.len(), nothing.next_offset), (Some(101), 0, 1));
    }
    let some = get(101 + 102 + 102).unwrap();
    assert_eq!((some.heavy, some.records.len(), some.next_offset), (None, 2, 3));
    assert!(some.behind_ms > 0);
    assert!(matches!(get(1_000), Err(Error::Throttled { limit: Limit::ReadCalls, .. })));
}

#[tokio::test]
async fn a_merge_under_clients_that_choose_partitions_is_refused_and_when_forced_they_are_told() {
    let core = in_memory(Config::default()).unwrap();
    let topic = topic(&core, 2, &[]).await;
    let produce = |partition: usize| {
        let mut wave = Wave::default();
        wave.set_client("'loader' at 10.0.0.7".into());
        let mut builder = Builder::new();
        builder.push(record("k", 0));
        let place = wave.push(Arc::clone(&topic.partitions()[partition]), builder.build().unwrap());
        wave.commit(core.now_ms());
        wave.outcome(place)
    };
    assert!(produce(1).is_ok());
    let refused = core.merge_shards(&topic, 0, 1, false).await;
    let Err(Error::InUse(why)) = refused else { panic!("{refused:?}") };
    let who = "Kafka producers wrote to partition 1 of topic 't' within the last minute (client 'loader' at 10.0.0.7), and \
               would be refused there afterwards: its keys go to shardId-000000000002. Stop them, or force it: ";
    let merge = "weir shard merge t shardId-000000000000 shardId-000000000001 --force";
    assert_eq!(why, format!("{who}{merge}"));
    let refused = core.scale_shards(&topic, 1, false).await;
    let Err(Error::InUse(why)) = refused else { panic!("{refused:?}") };
    assert_eq!(why, format!("{who}weir shard scale t 1 --force"));
    assert!(produce(1).is_ok());
    // The other way round only partition 0 would take no more, and nobody wrote to it.
    core.merge_shards(&topic, 0, 1, true).await.unwrap();
    let told = produce(1);
    assert!(matches!(told, Err(Error::Merged { partition: 1, shard: Some(2) })), "{told:?}");
    assert!(told.unwrap_err().to_string().contains("shardId-000000000002"));
    assert!(produce(0).is_ok());
    // What the parents had is theirs, what came later is the child's.
    let shards = topic.shards();
    let counts: Vec<usize> = shards.iter().map(|s| all_of(&core, &topic, s).len()).collect();
    assert_eq!(counts, [0, 2, 1]);
}

#[tokio::test]
async fn a_forced_merge_under_a_busy_client_loses_nothing_that_was_acknowledged() {
    let core = in_memory(Config::default()).unwrap();
    let topic = topic(&core, 2, &[]).await;
    let (writer, partition) = (Arc::clone(&core), Arc::clone(&topic.partitions()[1]));
    let busy = tokio::task::spawn_blocking(move || {
        (0..u64::MAX).find(|n| write(&writer, &partition, "k", *n).is_err()).unwrap()
    });
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    core.merge_shards(&topic, 0, 1, true).await.unwrap();
    let acknowledged = busy.await.unwrap();
    let shards = topic.shards();
    let read = all_of(&core, &topic, shards.by_id(1).unwrap());
    assert_eq!(read.len(), usize::try_from(acknowledged).unwrap());
    assert_eq!(shards.by_id(1).unwrap().until, Some(i64::try_from(acknowledged).unwrap()));
}

#[tokio::test]
async fn a_shard_ends_where_it_was_closed_also_before_the_table_says_so() {
    let core = in_memory(Config::default()).unwrap();
    let topic = topic(&core, 1, &[]).await;
    let partition = topic.partition(0).unwrap();
    let shards = topic.shards();
    let shard = shards.by_id(0).unwrap();
    let read = || now(core.get(&topic, shard, 0, &Most::new(100, 100_000), ReadCharge::Shared)).unwrap();
    write(&core, &partition, "k", 0).unwrap();
    assert_eq!(partition.close_shard(Some(0)).unwrap(), 1);
    write(&core, &partition, "k", 1).unwrap();
    let got = read();
    assert_eq!((got.records.len(), got.next_offset, got.at_end, got.behind_ms), (1, 1, false, 0));
    partition.reopen_shard();
    assert_eq!((read().records.len(), read().next_offset), (2, 2), "it goes on after all");

    // Whoever looked before a split, and reads after it.
    core.split_shard(&topic, 0, 1 << 127).await.unwrap();
    write(&core, &partition, "k", 2).unwrap();
    assert_eq!((read().records.len(), read().next_offset), (2, 2), "the third is the child's");
}

/// Reads a shard to its end, its children after it, each partition's records once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_of_shards_get_each_record_of_a_busy_client_once_through_reshards() {
    let core = in_memory(Config::default()).unwrap();
    let topic = topic(&core, 1, &[]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (writer, partition, over) = (Arc::clone(&core), topic.partition(0).unwrap(), Arc::clone(&stop));
    let busy = tokio::task::spawn_blocking(move || {
        let mut written = 0;
        while !over.load(Ordering::Relaxed) && write(&writer, &partition, "k", 0).is_ok() {
            written += 1;
        }
        written
    });
    let all = Arc::new(AtomicBool::new(false));
    let (reader, of, over) = (Arc::clone(&core), Arc::clone(&topic), Arc::clone(&all));
    let reading = tokio::task::spawn_blocking(move || {
        let (mut shard, mut offset, mut seen) = (0, 0, Vec::new());
        loop {
            let last = over.load(Ordering::Relaxed);
            let shards = of.shards();
            let here = shards.by_id(shard).unwrap();
            let got =
                now(reader.get(&of, here, offset, &Most::new(700, 100_000), ReadCharge::Shared)).unwrap();
            let idle = got.records.is_empty();
            seen.extend(got.records.iter().map(|record| record.offset));
            offset = got.next_offset;
            if got.at_end {
                // The child that goes on in this partition.
                let child = shards.children(shard).find(|child| child.partition == 0).unwrap();
                (shard, offset) = (child.id, child.from);
            } else if last && idle {
                return seen;
            }
        }
    });
    for count in [2, 1, 2, 3, 2, 1, 4, 2, 1, 2].iter().cycle().take(100) {
        core.scale_shards(&topic, *count, true).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let written = busy.await.unwrap();
    all.store(true, Ordering::Relaxed);
    let seen = reading.await.unwrap();
    let wrong = seen.iter().zip(0..).find(|(offset, n)| *offset != n);
    assert_eq!((wrong, seen.len()), (None, written));
}

#[tokio::test]
async fn shards_survive_a_restart_and_their_lineage_goes_with_retention() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(crate::broker::clock::Manual::default());
    clock.now_ms.store(1_700_000_000_000, Ordering::Relaxed);
    let start = || open(dir.path(), Config::default(), Clock::Manual(Arc::clone(&clock))).unwrap();
    let core = start();
    let topic = topic(&core, 2, &[("retention.ms", "60000")]).await;
    let id = topic.id();
    let put = |core: &Arc<Core>, topic: &Arc<Topic>, from: u64| {
        let stamped = |put: Put| {
            let record = Record { timestamp_ms: 1_700_000_000_000, ..put.record };
            Put { record, ..put }
        };
        let entries = (from..from + 20).map(|n| stamped(put_of(&format!("k{n}"), n))).collect();
        let (core, topic) = (Arc::clone(core), Arc::clone(topic));
        async move { core.put(&topic, entries).await.unwrap().iter().all(Result::is_ok) }
    };
    assert!(put(&core, &topic, 0).await);
    core.scale_shards(&topic, 5, false).await.unwrap();
    assert!(put(&core, &topic, 20).await);
    core.scale_shards(&topic, 1, false).await.unwrap();
    assert!(put(&core, &topic, 40).await);
    core.set_attachment(id, "tags", Bytes::from_static(b"a"), None).await.unwrap();
    let before = topic.shards();
    let read = by_key(&core, &topic);
    assert_eq!(read.len(), 60);
    drop((topic, core));

    let core = start();
    let topic = core.topics().by_name("t").unwrap();
    assert_eq!((topic.shards(), topic.created_ms()), (before, 1_700_000_000_000));
    assert_eq!(by_key(&core, &topic), read);
    assert_eq!(core.attachment(id, "tags").unwrap().map(|(_, b)| b), Some(Bytes::from_static(b"a")));
    let mut wave = Wave::default();
    let mut builder = Builder::new();
    builder.push(record("k", 0));
    let place = wave.push(Arc::clone(&topic.partitions()[1]), builder.build().unwrap());
    wave.commit(core.now_ms());
    assert!(matches!(wave.outcome(place), Err(Error::Merged { .. })), "still retired");
    drop(wave);

    // Records carry a time long past, so retention takes whole partitions; lineage stays as long as records would.
    let ids = |topic: &Topic| topic.shards().iter().map(|s| s.id).collect::<Vec<_>>();
    for later in [30_000, 40_000] {
        clock.now_ms.fetch_add(later, Ordering::Relaxed);
        for partition in topic.partitions().iter() {
            partition.retain(core.now_ms()).unwrap();
        }
        let all = ids(&topic).len();
        core.topics().expire_shards(&topic, core.now_ms()).unwrap();
        if later == 30_000 {
            assert_eq!(ids(&topic).len(), all);
        }
    }
    let open = topic.shards().open().next().unwrap().id;
    assert_eq!(ids(&topic), [open]);
    drop((topic, core));
    let core = start();
    let topic = core.topics().by_name("t").unwrap();
    assert_eq!(ids(&topic), [open]);
    assert!(topic.shards().next_id() > open);
    assert!(put(&core, &topic, 60).await);
    // Gone with the topic, attachments too.
    core.topics().delete(id).unwrap();
    assert!(core.attachment(id, "tags").unwrap().is_none());
}

#[tokio::test]
async fn growth_through_the_kafka_door_splits_the_widest_and_old_records_stay_with_the_parent() {
    let core = in_memory(Config::default()).unwrap();
    let topic = topic(&core, 1, &[]).await;
    assert!(core.put(&topic, vec![put_of("a", 0)]).await.unwrap()[0].is_ok());
    core.grow_shards(&topic, 3).await.unwrap();
    assert_eq!((topic.partitions().len(), topic.shards().open_count()), (3, 3));
    assert!(core.put(&topic, vec![put_of("a", 1)]).await.unwrap()[0].is_ok());
    assert_eq!(by_key(&core, &topic), HashMap::from([(Bytes::from_static(b"a"), vec![0, 1])]));
    assert!(matches!(core.grow_shards(&topic, 3).await, Err(Error::InvalidPartitions(_))));
    assert!(matches!(core.grow_shards(&topic, 1_000_000).await, Err(Error::InvalidPartitions(_))));
    for count in [0, 10_001, u32::MAX] {
        let refused = core.scale_shards(&topic, count, true).await;
        assert!(matches!(refused, Err(Error::InvalidPartitions(_))), "{count}: {refused:?}");
    }
}

#[tokio::test]
async fn the_profile_limits_streams_at_once_and_never_the_brokers_own_topics() {
    let core = in_memory(Config::default()).unwrap();
    let topic = topic(&core, 1, &[]).await;
    let journal = core.create_topic("__consumer_offsets".into(), 1, BTreeMap::new()).await.unwrap();
    let profile = |value: &str| {
        let edit = crate::broker::Edit::Set(value.to_owned());
        crate::broker::Change::Edit(vec![("shard.quota.profile".to_owned(), edit)])
    };
    core.alter_broker_config(crate::broker::Scope::Cluster, profile("kinesis"), false).unwrap();
    assert!(topic.config().limits_writes() && topic.partitions()[0].limits_reads());
    assert!(!journal.config().limits_writes() && !journal.partitions()[0].limits_reads());
    core.alter_broker_config(crate::broker::Scope::Cluster, profile("off"), false).unwrap();
    assert!(!topic.config().limits_writes() && !topic.partitions()[0].limits_reads());
}

#[tokio::test]
async fn an_attachment_changes_only_from_what_was_seen() {
    let core = in_memory(Config::default()).unwrap();
    let topic = topic(&core, 1, &[]).await;
    let set = |bytes: &'static [u8], expected| {
        core.set_attachment(topic.id(), "mode", Bytes::from_static(bytes), expected)
    };
    let first = set(b"1", None).await.unwrap();
    assert!(matches!(set(b"2", None).await, Err(Error::InUse(_))));
    let second = set(b"2", Some(first)).await.unwrap();
    assert_eq!(core.attachment(topic.id(), "mode").unwrap(), Some((second, Bytes::from_static(b"2"))));
    let nobody = core.set_attachment(Uuid::from_u128(1), "mode", Bytes::new(), None).await;
    assert!(matches!(nobody, Err(Error::UnknownTopicId)));
}

#[tokio::test]
async fn a_reader_far_behind_is_told_how_far() {
    let core = in_memory(Config::default()).unwrap();
    let topic = topic(&core, 1, &[]).await;
    core.put(&topic, (0..3).map(|n| put_of("k", n)).collect()).await.unwrap();
    let shards: Arc<Shards> = topic.shards();
    let shard = shards.by_id(0).unwrap();
    let first = core.get(&topic, shard, 0, &Most::new(1, 1 << 20), ReadCharge::Shared).await.unwrap();
    assert!(first.behind_ms > 1_000_000 && !first.at_end && first.next_offset == 1);
    let rest = core.get(&topic, shard, 1, &Most::new(10, 1 << 20), ReadCharge::Shared).await.unwrap();
    assert_eq!((rest.behind_ms, rest.records.len(), rest.next_offset), (0, 2, 3));
    let past = core.get(&topic, shard, 4, &Most::new(10, 1 << 20), ReadCharge::Shared).await;
    assert!(matches!(past, Err(Error::OffsetOutOfRange { .. })));
    let counts: BTreeMap<u32, usize> =
        shards.iter().map(|s| (s.id, all_of(&core, &topic, s).len())).collect();
    assert_eq!(counts, BTreeMap::from([(0, 3)]));
}

#[tokio::test]
async fn ten_thousand_topics_that_came_and_went_leave_nothing() {
    let core = in_memory(Config::default()).unwrap();
    for n in 0..10_000 {
        let topic = core.create_topic(format!("t{n}"), 1, BTreeMap::new()).await.unwrap();
        // A put opens the topic's gate, and lists its partition for the upkeep, which takes no turn here.
        assert!(core.put(&topic, vec![put_of("k", n)]).await.unwrap()[0].is_ok());
        core.delete_topic(topic.id()).unwrap();
    }
    assert_eq!((core.topics.count(), core.topics.partition_count(), core.gates.len()), (0, 0, 0));
    assert!(core.topics.listed() <= 128, "{} partitions that are gone", core.topics.listed());
    assert!(matches!(core.delete_topic(Uuid::from_u128(1)), Err(Error::UnknownTopicId)));
}
