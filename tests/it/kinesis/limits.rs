//! Limits of requests and shards, and the words in which they are told.

use std::time::Instant;

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
