//! What a stream still is after its broker stopped without a word.

use super::House;

#[test]
fn a_stream_its_consumers_tags_records_and_iterators_survive_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut house = House::kept(dir.path());
    let mut client = house.client();
    client.create("s", 2);
    client.must("AddTagsToStream", r#"{"StreamName":"s","Tags":{"team":"blue"}}"#);
    client.must("IncreaseStreamRetentionPeriod", r#"{"StreamName":"s","RetentionPeriodHours":48}"#);
    let arn = client.must("DescribeStreamSummary", r#"{"StreamName":"s"}"#).field("StreamARN");
    assert_eq!(arn, "arn:aws:kinesis:eu-west-1:000000000000:stream/s", "the region is the signature's");
    let consumer = format!(r#"{{"StreamARN":"{arn}","ConsumerName":"c"}}"#);
    let registered = client.must("RegisterStreamConsumer", &consumer).field("ConsumerARN");
    client.must("MergeShards", r#"{"StreamName":"s","ShardToMerge":"shardId-000000000000","AdjacentShardToMerge":"shardId-000000000001"}"#);
    let number = client.put("s", "k", "YQ==").field("SequenceNumber");
    let iterator = client.iterator("s", 2, r#""ShardIteratorType":"TRIM_HORIZON""#);
    drop(client);
    // Not shut down: like a process that was killed.
    drop(house.broker.take());
    drop(house);

    let house = House::kept(dir.path());
    let mut client = house.client();
    let got = client.must("GetRecords", &format!(r#"{{"ShardIterator":"{iterator}"}}"#));
    assert_eq!((got.field("SequenceNumber"), got.field("Data")), (number, "YQ==".to_owned()));
    assert_eq!(client.must("ListTagsForStream", r#"{"StreamName":"s"}"#).field("Value"), "blue");
    let summary = client.must("DescribeStreamSummary", r#"{"StreamName":"s"}"#);
    assert_eq!(
        (summary.field("RetentionPeriodHours"), summary.field("OpenShardCount")),
        ("48".into(), "1".into())
    );
    assert_eq!(client.must("DescribeStreamConsumer", &consumer).field("ConsumerARN"), registered);
    assert_eq!(client.must("ListShards", r#"{"StreamName":"s"}"#).count("ShardId"), 3);
    house.shutdown();
}
