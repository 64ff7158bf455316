//! Subscriptions: pushed at once, told the end, one per consumer and shard.

use std::io::Read;
use std::time::{Duration, Instant};

use super::{Client, House, JSON, request};

/// A subscription's connection.
struct Events(Client);

impl Events {
    fn open(house: &House, consumer: &str, position: &str) -> Self {
        let mut client = house.client();
        let body = format!(
            r#"{{"ConsumerARN":"{consumer}","ShardId":"shardId-000000000000","StartingPosition":{{"Type":"{position}"}}}}"#
        );
        client.send(&request(JSON, "SubscribeToShard", body.as_bytes()));
        let head = client.receive().unwrap();
        assert!(head.head.contains("application/vnd.amazon.eventstream"), "{}", head.head);
        Self(client)
    }

    /// The next message, headers and payload as text; empty at the end of the stream.
    fn next(&mut self) -> String {
        let size = self.line();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        self.0.stream.read_exact(&mut chunk).unwrap();
        chunk.truncate(size);
        if size > 0 {
            assert_eq!(
                u32::from_be_bytes(chunk[..4].try_into().unwrap()) as usize,
                size,
                "one message per chunk"
            );
        }
        String::from_utf8_lossy(&chunk).into_owned()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut self.0.stream, &mut line).unwrap();
        line
    }
}

fn subscribed(house: &House) -> (Client, String) {
    let mut client = house.client();
    client.create("s", 1);
    let arn = client.must("DescribeStreamSummary", r#"{"StreamName":"s"}"#).field("StreamARN");
    let body = format!(r#"{{"StreamARN":"{arn}","ConsumerName":"c"}}"#);
    let consumer = client.must("RegisterStreamConsumer", &body).field("ConsumerARN");
    (client, consumer)
}

#[test]
fn a_record_is_pushed_at_once_and_a_split_ends_the_stream_with_its_children() {
    let house = House::ephemeral();
    let (mut client, consumer) = subscribed(&house);
    client.put("s", "k", "YQ==");
    let mut events = Events::open(&house, &consumer, "TRIM_HORIZON");
    assert!(events.next().contains("initial-response"));
    let first = events.next();
    assert!(first.contains(r#""Data":"YQ==""#) && first.contains("ContinuationSequenceNumber"), "{first}");
    let begin = Instant::now();
    client.put("s", "k", "Yg==");
    assert!(events.next().contains(r#""Data":"Yg==""#));
    assert!(begin.elapsed() < Duration::from_secs(2), "not at the next keep-alive");
    let begin = Instant::now();
    client.must(
        "SplitShard",
        r#"{"StreamName":"s","ShardToSplit":"shardId-000000000000","NewStartingHashKey":"99"}"#,
    );
    let last = events.next();
    assert!(last.contains("ChildShards") && !last.contains("ContinuationSequenceNumber"), "{last}");
    assert!(begin.elapsed() < Duration::from_secs(2), "not at the next keep-alive");
    assert_eq!(events.next(), "");
    house.shutdown();
}

#[test]
fn a_second_subscription_waits_five_seconds_and_then_takes_over() {
    let house = House::ephemeral();
    let (mut client, consumer) = subscribed(&house);
    let mut first = Events::open(&house, &consumer, "LATEST");
    assert!(first.next().contains("initial-response"));
    assert!(first.next().contains("MillisBehindLatest"));
    let body = format!(
        r#"{{"ConsumerARN":"{consumer}","ShardId":"shardId-000000000000","StartingPosition":{{"Type":"LATEST"}}}}"#
    );
    assert_eq!(client.call("SubscribeToShard", &body).outcome().1, "ResourceInUseException");
    assert!(first.next().contains(r#""Records":[]"#), "something is said every five seconds");
    std::thread::sleep(Duration::from_millis(300));
    let mut second = Events::open(&house, &consumer, "LATEST");
    assert!(second.next().contains("initial-response"));
    let taken = first.next();
    assert!(taken.contains("ResourceInUseException"), "{taken}");
    assert!(taken.contains("000000000000:s:shardId-000000000000:c"), "{taken}");
    assert_eq!(first.next(), "");
    let arn = consumer.split_once("/consumer").unwrap().0;
    client.must("DeregisterStreamConsumer", &format!(r#"{{"StreamARN":"{arn}","ConsumerName":"c"}}"#));
    assert!(second.next().contains("MillisBehindLatest"));
    let last = second.next();
    assert!(last.contains("ResourceNotFoundException") && last.contains("Consumer c, account"), "{last}");
    assert_eq!(second.next(), "", "a consumer that is gone gets nothing more");
    house.shutdown();
}

#[test]
fn a_subscription_goes_on_where_an_event_left_off_whether_at_or_after_its_number() {
    let house = House::ephemeral();
    let (mut client, consumer) = subscribed(&house);
    client.put("s", "k", "YQ==");
    let number = |event: &str| {
        let (_, rest) = event.split_once(r#""ContinuationSequenceNumber":""#).unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    };
    let mut events = Events::open(&house, &consumer, "TRIM_HORIZON");
    assert!(events.next().contains("initial-response"));
    let full = events.next();
    assert!(full.contains(r#""Data":"YQ==""#), "{full}");
    let idle = events.next();
    assert!(idle.contains(r#""Records":[]"#), "{idle}");
    drop(events);
    let told = |kind: &str, number: &str| {
        let how = format!(r#""ShardIteratorType":"{kind}","StartingSequenceNumber":"{number}""#);
        let iterator = house.client().iterator("s", 0, &how);
        house.client().must("GetRecords", &format!(r#"{{"ShardIterator":"{iterator}"}}"#)).text()
    };
    client.put("s", "k", "Yg==");
    std::thread::sleep(Duration::from_millis(1_000));
    for (event, kind) in
        [(&full, "AT_SEQUENCE_NUMBER"), (&idle, "AT_SEQUENCE_NUMBER"), (&idle, "AFTER_SEQUENCE_NUMBER")]
    {
        let text = told(kind, &number(event));
        assert!(!text.contains("YQ==") && text.contains("Yg=="), "{kind}: {text}");
    }
    house.shutdown();
}

#[test]
fn a_stream_that_is_deleted_ends_its_subscriptions() {
    let house = House::ephemeral();
    let (mut client, consumer) = subscribed(&house);
    let mut events = Events::open(&house, &consumer, "LATEST");
    assert!(events.next().contains("initial-response"));
    assert!(events.next().contains("MillisBehindLatest"));
    client.must("DeleteStream", r#"{"StreamName":"s","EnforceConsumerDeletion":true}"#);
    let last = events.next();
    assert!(last.contains("ResourceNotFoundException") && last.contains("Stream s under account"), "{last}");
    assert_eq!(events.next(), "");
    house.shutdown();
}

#[test]
fn a_broker_that_stops_ends_its_subscriptions() {
    let house = House::ephemeral();
    let (_client, consumer) = subscribed(&house);
    let mut events = Events::open(&house, &consumer, "LATEST");
    assert!(events.next().contains("initial-response"));
    assert!(events.next().contains("MillisBehindLatest"));
    let begin = Instant::now();
    house.shutdown();
    assert_eq!(events.next(), "", "ended as it should, not cut off");
    assert!(begin.elapsed() < Duration::from_secs(3));
}
