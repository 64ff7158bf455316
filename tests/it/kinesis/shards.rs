//! Iterators, resharding and the end of a shard.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use weir_broker::{Broker, Clock};

use super::House;

const HALF: &str = "170141183460469231731687303715884105728";

#[test]
fn an_iterator_is_absent_exactly_where_children_are_told() {
    let house = House::ephemeral();
    let mut client = house.client();
    client.create("s", 1);
    client.put("s", "k", "YQ==");
    client.put("s", "k", "Yg==");
    let before = client.read("s", 0);
    assert!(before.has("NextShardIterator") && !before.has("ChildShards"));
    client.must(
        "SplitShard",
        &format!(
            r#"{{"StreamName":"s","ShardToSplit":"shardId-000000000000","NewStartingHashKey":"{HALF}"}}"#
        ),
    );
    let iterator = client.iterator("s", 0, r#""ShardIteratorType":"TRIM_HORIZON""#);
    let first = client.must("GetRecords", &format!(r#"{{"ShardIterator":"{iterator}","Limit":1}}"#));
    assert!(first.has("NextShardIterator") && !first.text().contains("ChildShards"), "{}", first.text());
    let next = first.field("NextShardIterator");
    let last = client.must("GetRecords", &format!(r#"{{"ShardIterator":"{next}"}}"#));
    assert!(!last.has("NextShardIterator"), "{}", last.text());
    assert_eq!((last.count("ParentShards"), last.count("Data")), (2, 1));
    let child =
        client.must("PutRecord", r#"{"StreamName":"s","PartitionKey":"k","ExplicitHashKey":"0","Data":""}"#);
    assert_eq!(child.field("ShardId"), "shardId-000000000001");
    let listed = client.must("ListShards", r#"{"StreamName":"s"}"#);
    assert!(
        child.field("SequenceNumber") > listed.field("EndingSequenceNumber"),
        "children come after their parents"
    );
    house.shutdown();
}

#[test]
fn an_iterator_of_somebody_else_is_refused_and_an_old_one_expires() {
    let clock = Arc::default();
    let house = House::start(Broker::builder().ephemeral().clock(Clock::Manual(Arc::clone(&clock))));
    clock.now_ms.store(1_800_000_000_000, Ordering::Relaxed);
    let mut client = house.client();
    client.create("s", 1);
    let iterator = client.iterator("s", 0, r#""ShardIteratorType":"LATEST""#);
    let mut outcome = |iterator: &str| {
        client.call("GetRecords", &format!(r#"{{"ShardIterator":"{iterator}"}}"#)).outcome().1
    };
    let mut forged = iterator.clone().into_bytes();
    forged[40] ^= 1;
    assert_eq!(outcome(std::str::from_utf8(&forged).unwrap()), "InvalidArgumentException");
    assert_eq!(outcome("AAAA"), "InvalidArgumentException");
    assert_eq!(outcome(&"A".repeat(1 << 20)), "ValidationException");
    clock.now_ms.fetch_add(300_000, Ordering::Relaxed);
    assert_eq!(outcome(&iterator), "ok");
    clock.now_ms.fetch_add(1, Ordering::Relaxed);
    assert_eq!(outcome(&iterator), "ExpiredIteratorException");
    let mut client = house.client();
    let iterator = client.iterator("s", 0, r#""ShardIteratorType":"LATEST""#);
    client.must("DeleteStream", r#"{"StreamName":"s"}"#);
    client.create("s", 1);
    let answer = client.call("GetRecords", &format!(r#"{{"ShardIterator":"{iterator}"}}"#));
    assert_eq!(
        answer.outcome().1,
        "ResourceNotFoundException",
        "a stream of the same name is another stream"
    );
    house.shutdown();
}

#[test]
fn a_sequence_number_of_another_shard_is_refused() {
    let house = House::ephemeral();
    let mut client = house.client();
    client.create("s", 2);
    let put = client
        .must("PutRecord", r#"{"StreamName":"s","PartitionKey":"k","ExplicitHashKey":"0","Data":"YQ=="}"#);
    let number = put.field("SequenceNumber");
    let ask = |shard: u32, number: &str| {
        format!(
            r#"{{"StreamName":"s","ShardId":"shardId-{shard:012}","ShardIteratorType":"AT_SEQUENCE_NUMBER","StartingSequenceNumber":"{number}"}}"#
        )
    };
    assert_eq!(client.call("GetShardIterator", &ask(0, &number)).outcome().1, "ok");
    assert_eq!(client.call("GetShardIterator", &ask(1, &number)).outcome().1, "InvalidArgumentException");
    assert_eq!(client.call("GetShardIterator", &ask(0, "123")).outcome().1, "InvalidArgumentException");
    assert_eq!(client.read("s", 0).field("SequenceNumber"), number, "a record keeps its number");
    house.shutdown();
}

#[test]
fn records_of_an_auto_stream_are_spread_over_all_shards() {
    let house = House::ephemeral();
    let mut client = house.client();
    client.must(
        "CreateStream",
        r#"{"StreamName":"s","StreamModeDetails":{"StreamMode":"ON_DEMAND"},"RecordDistributionStrategy":"AUTO"}"#,
    );
    let record = r#"{"Data":"YQ==","PartitionKey":"same"}"#;
    client
        .must("PutRecords", &format!(r#"{{"StreamName":"s","Records":[{}]}}"#, vec![record; 100].join(",")));
    let counts: Vec<usize> = (0..4).map(|shard| client.read("s", shard).count("Data")).collect();
    assert_eq!(counts.iter().sum::<usize>(), 100);
    assert!(counts.iter().all(|count| (20..=30).contains(count)), "{counts:?}");
    house.shutdown();
}
