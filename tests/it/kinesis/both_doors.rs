//! One log behind two doors: what a Kafka client wrote is read here, and what was put here is in the topic.

use super::House;
use crate::kafka;

#[test]
fn a_topic_is_a_stream_and_records_without_key_or_value_are_told() {
    let house = House::ephemeral();
    let mut kafka = kafka::Client::connect(house.broker().kafka_addrs()[0]);
    // The batch says 1970, which is older than what a topic keeps.
    assert_eq!(kafka.create_topic("t", &[("retention.ms", "-1")]), 0);
    assert_eq!(kafka.produce("t", -1, &kafka::batch(kafka::NOBODY, 2, b"from kafka")).0, 0);
    let mut client = house.client();
    assert!(client.must("ListStreams", "{}").text().contains(r#""StreamNames":["t"]"#));
    let got = client.read("t", 0);
    assert_eq!((got.count("Data"), got.field("Data")), (2, "ZnJvbSBrYWZrYQ==".to_owned()));
    assert!(!got.has("PartitionKey"), "a null key is left out");
    client.put("t", "k", "YQ==");
    assert_eq!(kafka.list_offset("t", -1), (0, 3));
    house.shutdown();
}

#[test]
fn a_stream_is_a_topic_of_a_day_and_its_limits() {
    let house = House::ephemeral();
    let mut client = house.client();
    client.create("s", 1);
    let mut kafka = kafka::Client::connect(house.broker().kafka_addrs()[0]);
    let records = [r#"{"Data":"YQ==","PartitionKey":"k"}"#; 5].join(",");
    client.must("PutRecords", &format!(r#"{{"StreamName":"s","Records":[{records}]}}"#));
    assert_eq!(kafka.list_offset("s", -1), (0, 5));
    assert_eq!(
        client.must("DescribeStreamSummary", r#"{"StreamName":"s"}"#).field("RetentionPeriodHours"),
        "24"
    );
    assert_eq!(
        client.call("CreateStream", r#"{"StreamName":"s","ShardCount":1}"#).outcome().1,
        "ResourceInUseException"
    );
    house.shutdown();
}
