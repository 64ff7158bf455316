//! Limits of requests and shards, and the words in which they are told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use weir_broker::config::{Config, Source};
use weir_broker::{Broker, Clock};

use super::House;

const VALIDATION: &str = "ValidationException";
const THROUGHPUT: &str = "ProvisionedThroughputExceededException";

fn base64_zeros(bytes: usize) -> String {
    assert_eq!(bytes % 3, 0);
    "A".repeat(bytes / 3 * 4)
}

#[test]
fn a_request_over_a_limit_of_the_model_is_a_validation_exception() {
    let house = House::ephemeral();
    let mut client = house.client();
    client.create("s", 2);
    let mut outcome = |operation: &str, body: String| client.call(operation, &body).outcome();
    let record = r#"{"Data":"","PartitionKey":"k"}"#;
    let records = |count: usize, record: &str| {
        format!(r#"{{"StreamName":"s","Records":[{}]}}"#, vec![record; count].join(","))
    };
    assert_eq!(outcome("PutRecords", records(500, record)).0, 200);
    assert_eq!(outcome("PutRecords", records(501, record)), (400, VALIDATION.into()));
    assert_eq!(outcome("PutRecords", records(0, record)), (400, VALIDATION.into()));
    let large = format!(r#"{{"Data":"{}","PartitionKey":"k"}}"#, base64_zeros(1_047_999));
    assert_eq!(
        outcome("PutRecords", records(11, &large)),
        (400, VALIDATION.into()),
        "10 MiB and more in one request"
    );
    let put =
        |data: &str, key: &str| format!(r#"{{"StreamName":"s","Data":"{data}","PartitionKey":"{key}"}}"#);
    assert_eq!(outcome("PutRecord", put(&base64_zeros(1_048_578), "k")), (400, VALIDATION.into()));
    assert_eq!(outcome("PutRecord", put("", &"k".repeat(257))), (400, VALIDATION.into()));
    assert_eq!(outcome("PutRecord", put("", "")), (400, VALIDATION.into()));
    assert_eq!(outcome("PutRecord", r#"{"StreamName":"s","Data":""}"#.into()), (400, VALIDATION.into()));
    assert_eq!(
        outcome("PutRecord", r#"{"Data":"","PartitionKey":"k"}"#.into()).1,
        "InvalidArgumentException"
    );
    house.shutdown();
}

#[test]
fn a_shard_gives_five_answers_and_two_megabytes_a_second() {
    let house = House::ephemeral();
    let mut client = house.client();
    client.create("s", 1);
    client.put("s", "k", "YQ==");
    let iterator = client.iterator("s", 0, r#""ShardIteratorType":"TRIM_HORIZON""#);
    let body = format!(r#"{{"ShardIterator":"{iterator}"}}"#);
    let begin = Instant::now();
    let outcomes: Vec<_> = (0..8).map(|_| client.call("GetRecords", &body)).collect();
    if begin.elapsed().as_millis() < 150 {
        let refused = outcomes.iter().find(|answer| answer.status != 200).expect("eight calls in an instant");
        assert_eq!(refused.outcome(), (400, THROUGHPUT.into()));
        assert_eq!(refused.field("message"), "Rate exceeded for Shard - 000000000000/s/shardId-000000000000");
    }
    assert!(outcomes.iter().take(5).all(|answer| answer.status == 200));
    house.shutdown();
}

#[test]
fn what_was_read_over_two_megabytes_a_second_is_waited_for() {
    let clock = Arc::default();
    let house = House::start(Broker::builder().ephemeral().clock(Clock::Manual(Arc::clone(&clock))));
    clock.now_ms.store(1_800_000_000_000, Ordering::Relaxed);
    let mut client = house.client();
    client.create("s", 1);
    for _ in 0..4 {
        client.put("s", "k", &base64_zeros(1_047_999));
        clock.now_ms.fetch_add(2_000, Ordering::Relaxed);
    }
    let iterator = client.iterator("s", 0, r#""ShardIteratorType":"TRIM_HORIZON""#);
    let body = format!(r#"{{"ShardIterator":"{iterator}"}}"#);
    assert_eq!(client.must("GetRecords", &body).count("Data"), 4);
    // Four megabytes of a bucket of two: the other two take a second.
    clock.now_ms.fetch_add(900, Ordering::Relaxed);
    let answer = client.call("GetRecords", &body);
    assert_eq!(answer.outcome(), (400, THROUGHPUT.into()));
    assert_eq!(answer.field("message"), "Rate exceeded for Shard - 000000000000/s/shardId-000000000000");
    clock.now_ms.fetch_add(200, Ordering::Relaxed);
    assert_eq!(client.must("GetRecords", &body).count("Data"), 4);
    house.shutdown();
}

#[test]
fn records_over_the_write_limit_are_refused_one_by_one_with_shard_stream_and_account() {
    let house = House::ephemeral();
    let mut client = house.client();
    client.create("s", 2);
    let hot = format!(r#"{{"Data":"{}","PartitionKey":"k","ExplicitHashKey":"0"}}"#, base64_zeros(30_000));
    let cool =
        r#"{"Data":"","PartitionKey":"k","ExplicitHashKey":"340282366920938463463374607431768211455"}"#;
    let all = format!("{},{cool}", vec![hot; 100].join(","));
    let answer = client.must("PutRecords", &format!(r#"{{"StreamName":"s","Records":[{all}]}}"#));
    let failed: usize = answer.field("FailedRecordCount").parse().unwrap();
    // One second's worth is 34 records; the slowest machine takes less than a second for the call.
    assert!((33..=66).contains(&failed), "{failed}");
    assert_eq!(answer.count("ErrorCode"), failed);
    assert_eq!(answer.field("ErrorCode"), THROUGHPUT);
    assert_eq!(
        answer.field("ErrorMessage"),
        "Rate exceeded for shard shardId-000000000000 in stream s under account 000000000000."
    );
    assert!(
        answer.text().ends_with(r#""ShardId":"shardId-000000000001"}]}"#),
        "the other shard's record is stored"
    );
    assert_eq!(client.read("s", 0).count("Data"), 100 - failed, "what was refused is not there");
    house.shutdown();
}

#[test]
fn control_calls_have_rates_when_they_are_asked_for() {
    let house = House::configured(&[("kinesis.control.rates", "kinesis")]);
    let mut client = house.client();
    let outcomes: Vec<_> = (0..3).map(|_| client.call("DescribeLimits", "{}").outcome().1).collect();
    assert_eq!(outcomes[0], "ok");
    assert!(outcomes.contains(&"LimitExceededException".to_owned()), "{outcomes:?}");
    house.shutdown();
}

#[test]
fn rates_are_for_an_account_a_stream_or_a_shard_and_some_for_a_day() {
    let clock = Arc::default();
    let mut config = Config::default();
    for (key, value) in [("kinesis.control.rates", "kinesis"), ("kinesis.create.delay.ms", "1000")] {
        config.set(key, value, Source::CommandLine).unwrap();
    }
    let builder = Broker::builder().ephemeral().config(config);
    let house = House::start(builder.clock(Clock::Manual(Arc::clone(&clock))));
    clock.now_ms.store(1_800_000_000_000, Ordering::Relaxed);
    let later = |ms: i64| clock.now_ms.fetch_add(ms, Ordering::Relaxed);
    let mut client = house.client();
    let limited = (400, "LimitExceededException".to_owned());
    let create = |name: &str| format!(r#"{{"StreamName":"{name}","ShardCount":2}}"#);
    for name in ["a", "b", "c", "d", "e"] {
        client.must("CreateStream", &create(name));
        later(190);
    }
    // 950 ms since the first: all five are CREATING, and the account had its five calls.
    assert_eq!(client.call("CreateStream", &create("f")).outcome(), limited);
    later(1_000);
    client.must("CreateStream", &create("f"));
    later(1_000);
    let of = |stream: &str, shard: u32| {
        format!(r#"{{"StreamName":"{stream}","ShardId":"shardId-{shard:012}","ShardIteratorType":"LATEST"}}"#)
    };
    for _ in 0..5 {
        client.must("GetShardIterator", &of("a", 0));
    }
    let refused = client.call("GetShardIterator", &of("a", 0));
    assert_eq!(refused.outcome(), (400, THROUGHPUT.into()));
    assert_eq!(refused.field("message"), "Rate exceeded for Shard - 000000000000/a/shardId-000000000000");
    client.must("GetShardIterator", &of("a", 1));
    client.must("GetShardIterator", &of("b", 0));
    let arn =
        |name: &str| format!(r#"{{"StreamARN":"arn:aws:kinesis:eu-west-1:000000000000:stream/{name}"}}"#);
    for _ in 0..5 {
        client.must("ListStreamConsumers", &arn("a"));
    }
    assert_eq!(client.call("ListStreamConsumers", &arn("a")).outcome(), limited);
    client.must("ListStreamConsumers", &arn("b"));
    let scale = |name: &str, count: u32| {
        format!(r#"{{"StreamName":"{name}","TargetShardCount":{count},"ScalingType":"UNIFORM_SCALING"}}"#)
    };
    for round in 0..10 {
        client.must("UpdateShardCount", &scale("a", 1 + round % 2));
        later(3_600_000);
    }
    assert_eq!(client.call("UpdateShardCount", &scale("a", 1)).outcome(), limited);
    client.must("UpdateShardCount", &scale("b", 1));
    later(14 * 3_600_000);
    client.must("UpdateShardCount", &scale("a", 1));
    assert_eq!(client.call("UpdateShardCount", &scale("a", 2)).outcome(), limited, "the window rolls");
    house.shutdown();
}

#[test]
fn a_new_stream_is_creating_as_long_as_it_is_told_to() {
    let house = House::configured(&[("kinesis.create.delay.ms", "600")]);
    let mut client = house.client();
    client.create("s", 1);
    let summary = r#"{"StreamName":"s"}"#;
    assert_eq!(client.must("DescribeStreamSummary", summary).field("StreamStatus"), "CREATING");
    let put = r#"{"StreamName":"s","PartitionKey":"k","Data":""}"#;
    assert_eq!(client.call("PutRecord", put).outcome().1, "ResourceNotFoundException");
    let until = Instant::now() + std::time::Duration::from_secs(10);
    while client.must("DescribeStreamSummary", summary).field("StreamStatus") != "ACTIVE" {
        assert!(Instant::now() < until);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    client.must("PutRecord", put);
    house.shutdown();
}

#[test]
fn a_dry_run_does_nothing() {
    let house = House::ephemeral();
    let mut client = house.client();
    client.create("s", 1);
    let put = r#"{"StreamName":"s","PartitionKey":"k","Data":"","DryRun":true}"#;
    assert_eq!(client.call("PutRecord", put).outcome().1, "DryRunOperationException");
    let bad = r#"{"StreamName":"none","PartitionKey":"k","Data":"","DryRun":true}"#;
    assert_eq!(client.call("PutRecord", bad).outcome().1, "ResourceNotFoundException");
    assert_eq!(client.read("s", 0).count("Data"), 0);
    house.shutdown();
}

#[test]
fn account_shards_and_limits_are_those_of_the_configuration() {
    let house = House::configured(&[
        ("kinesis.account.id", "123456789012"),
        ("kinesis.shard.limit", "2"),
        ("kinesis.quota.profile", "off"),
    ]);
    let mut client = house.client();
    let three = client.call("CreateStream", r#"{"StreamName":"three","ShardCount":3}"#);
    assert_eq!(three.outcome(), (400, "LimitExceededException".into()));
    client.create("s", 1);
    let told = client.must("DescribeStreamSummary", r#"{"StreamName":"s"}"#);
    assert_eq!(told.field("StreamARN"), "arn:aws:kinesis:eu-west-1:123456789012:stream/s");
    // More than the 1 MiB that a second has otherwise.
    for _ in 0..8 {
        assert_eq!(client.put("s", "k", &base64_zeros(900_000)).outcome().0, 200);
    }
    house.shutdown();
}
