//! What a read costs, and where that is paid.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use super::*;
use crate::batch::{Builder, Codec, Record};
use crate::broker::clock::Manual;
use crate::broker::shards::tests::{put_of, record};
use crate::broker::{Clock, Put, Wave, in_memory};
use crate::config::Config;

const MOST: usize = 10 << 20;

fn timed(clock: &Arc<Manual>) -> Arc<Core> {
    clock.now_ms.store(1_700_000_000_000, Ordering::Relaxed);
    let store = Arc::new(crate::store::memory::Memory::new());
    let clock = Clock::Manual(Arc::clone(clock));
    crate::broker::open::open_on(store, "memory".into(), Config::default(), clock).unwrap()
}

async fn topic(core: &Arc<Core>, configs: &[(&str, &str)]) -> Arc<Topic> {
    let configs = configs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    core.create_topic("t".into(), 1, configs).await.unwrap()
}

fn first(topic: &Topic) -> Shard {
    topic.shards().by_id(0).unwrap().clone()
}

/// As a Kafka client that compresses: 300 records of 10,000 bytes, which are nearly nothing then.
fn write_dense(core: &Core, topic: &Topic) {
    let mut builder = Builder::new();
    for n in 0..300 {
        let value = Some(vec![0; 10_000].into());
        builder.push(Record { timestamp_ms: core.now_ms(), value, ..record("k", n) });
    }
    let batch = builder.build().unwrap().recode(Codec::Gzip, None, MOST).unwrap();
    let mut wave = Wave::default();
    let place = wave.push(topic.partition(0).unwrap(), batch);
    wave.commit(core.now_ms());
    wave.outcome(place).unwrap();
}

/// Whether work is done when it was begun, without anybody's help.
async fn at_once<T>(work: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    let mut work = work;
    std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn what_is_much_is_read_in_a_lane_and_what_is_little_where_it_is_asked_for() {
    let core = in_memory(Config::default()).unwrap();
    let topic = topic(&core, &[]).await;
    for n in 0..8 {
        let large = Record { value: Some(vec![7; 100_000].into()), ..record("k", n) };
        core.put(&topic, vec![Put { hash: 0, record: large }]).await.unwrap()[0].as_ref().unwrap();
    }
    let shard = first(&topic);
    let all_taken = core.lanes.0.take_all();
    let (few, many) = (Most::new(1, MOST), Most::new(100, MOST));
    let got = at_once(std::pin::pin!(core.get(&topic, &shard, 3, &few, ReadCharge::Shared))).await;
    assert_eq!(got.unwrap().unwrap().records.len(), 1);
    let mut read = std::pin::pin!(core.get(&topic, &shard, 0, &many, ReadCharge::Shared));
    assert!(at_once(read.as_mut()).await.is_none(), "it waits for a lane");
    drop(all_taken);
    let got = read.await.unwrap();
    assert_eq!((got.records.len(), got.next_offset, got.behind_ms), (8, 8, 0));
    assert!(got.records.iter().map(|record| record.offset).eq(0..8));
}

#[tokio::test]
async fn what_is_little_on_the_disk_and_much_in_memory_is_decompressed_in_a_lane() {
    let core = in_memory(Config::default()).unwrap();
    let topic = topic(&core, &[]).await;
    write_dense(&core, &topic);
    let shard = first(&topic);
    let all_taken = core.lanes.0.take_all();
    let one = Most::new(1, MOST);
    let mut read = std::pin::pin!(core.get(&topic, &shard, 7, &one, ReadCharge::Shared));
    assert!(at_once(read.as_mut()).await.is_none(), "it waits for a lane");
    drop(all_taken);
    let got = read.await.unwrap();
    assert_eq!((got.records.len(), got.records[0].offset, got.next_offset), (1, 7, 8));
    assert!(got.records[0].value.as_ref().unwrap().is_unique(), "the other 299 are let go of");
    // Its reader goes on where it stopped, and nobody decompresses that again.
    let _all_taken = core.lanes.0.take_all();
    let got = at_once(std::pin::pin!(core.get(&topic, &shard, 8, &one, ReadCharge::Shared))).await;
    let got = got.expect("it needs no lane").unwrap();
    assert_eq!((got.records.len(), got.records[0].offset, got.next_offset), (1, 8, 9));
    assert!(got.records[0].value.as_ref().unwrap().is_unique(), "what is kept is not theirs");
}

#[tokio::test]
async fn a_batch_of_which_nothing_was_given_is_not_kept() {
    let core = in_memory(Config::default()).unwrap();
    let topic = topic(&core, &[]).await;
    write_dense(&core, &topic);
    write_dense(&core, &topic);
    let shard = first(&topic);
    let got = core.get(&topic, &shard, 0, &Most::new(300, MOST), ReadCharge::Shared).await.unwrap();
    assert_eq!((got.records.len(), got.next_offset), (300, 300));
    let _all_taken = core.lanes.0.take_all();
    let one = Most::new(1, MOST);
    for offset in [0, 300] {
        let mut read = std::pin::pin!(core.get(&topic, &shard, offset, &one, ReadCharge::Shared));
        assert!(at_once(read.as_mut()).await.is_none(), "it needs a lane again");
    }
}

#[tokio::test]
async fn what_is_put_at_once_in_large_is_built_in_a_lane() {
    let core = in_memory(Config::default()).unwrap();
    let topic = topic(&core, &[]).await;
    let all_taken = core.lanes.0.take_all();
    let small = core.put(&topic, vec![put_of("k", 1)]);
    let small = tokio::time::timeout(std::time::Duration::from_secs(10), small).await;
    assert!(small.expect("it needs no lane").unwrap()[0].is_ok());
    let large = Record { value: Some(vec![7; 20_000].into()), ..record("k", 2) };
    let puts = vec![Put { hash: 0, record: large }; 30];
    let mut put = std::pin::pin!(core.put(&topic, puts));
    assert!(at_once(put.as_mut()).await.is_none(), "it waits for a lane");
    drop(all_taken);
    assert!(put.await.unwrap().iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_read_that_finds_nothing_looks_through_no_more_than_a_little_at_a_time() {
    let clock = Arc::default();
    let core = timed(&clock);
    let topic = topic(&core, &[("retention.ms", "5000")]).await;
    for _ in 0..5 {
        write_dense(&core, &topic);
    }
    clock.now_ms.fetch_add(60_000, Ordering::Relaxed);
    core.put(&topic, vec![put_of("k", 1)]).await.unwrap()[0].as_ref().unwrap();
    let shard = first(&topic);
    let (mut offset, mut reads) = (0, 0);
    let last = loop {
        let got = core.get(&topic, &shard, offset, &Most::new(100, MOST), ReadCharge::Shared).await.unwrap();
        if !got.records.is_empty() {
            break got;
        }
        assert_eq!(got.next_offset, offset + 300, "one batch of three megabytes at a time");
        assert!(got.behind_ms > 0, "this is not the tip");
        (offset, reads) = (got.next_offset, reads + 1);
    };
    assert_eq!((reads, last.records[0].offset, last.behind_ms), (5, 1500, 0));
}

#[tokio::test]
async fn what_retention_takes_while_a_read_is_under_way_is_passed_over() {
    let core = in_memory(Config::default()).unwrap();
    let topic = topic(&core, &[]).await;
    for n in 0..10 {
        core.put(&topic, vec![put_of("k", n)]).await.unwrap()[0].as_ref().unwrap();
    }
    let (shard, partition) = (first(&topic), topic.partition(0).unwrap());
    let most = Most::new(100, MOST);
    let bounds = Bounds { most: &most, plain_bytes: MOST, horizon_ms: i64::MIN };
    let mut look = Look::begin(&partition, &core.sections, &shard, 0, bounds).unwrap();
    partition.delete_records(6).unwrap();
    assert!(look.go_on(Place::Worker).unwrap());
    assert!(look.got.records.iter().map(|record| record.offset).eq(6..10));
    assert_eq!(look.got.next_offset, 10);
}
