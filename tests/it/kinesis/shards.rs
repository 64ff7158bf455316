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

/// A house on a clock of the test's own, at a time that is not the system's, and what moves it on, ms.
fn on_a_clock() -> (House, impl Fn(i64)) {
    let clock = Arc::default();
    let house = House::start(Broker::builder().ephemeral().clock(Clock::Manual(Arc::clone(&clock))));
    clock.now_ms.store(1_800_000_000_000, Ordering::Relaxed);
    (house, move |ms| {
        clock.now_ms.fetch_add(ms, Ordering::Relaxed);
    })
}

#[test]
fn no_read_by_shard_returns_what_is_older_than_the_stream_keeps() {
    let (house, later) = on_a_clock();
    let mut client = house.client();
    client.create("s", 1);
    let first = client.put("s", "k", "YQ==").field("SequenceNumber");
    later(86_400_000 - 1_000);
    client.put("s", "k", "Yg==");
    let at =
        |ms: i64| format!(r#""ShardIteratorType":"AT_TIMESTAMP","Timestamp":{}.{:03}"#, ms / 1000, ms % 1000);
    let hows = [
        r#""ShardIteratorType":"TRIM_HORIZON""#.to_owned(),
        at(1_800_000_000_000),
        format!(r#""ShardIteratorType":"AT_SEQUENCE_NUMBER","StartingSequenceNumber":"{first}""#),
    ];
    let mut told = || {
        let texts = hows.iter().map(|how| {
            // Five calls a second are allowed.
            later(200);
            let iterator = client.iterator("s", 0, how);
            client.must("GetRecords", &format!(r#"{{"ShardIterator":"{iterator}"}}"#)).text()
        });
        texts.collect::<Vec<_>>()
    };
    for text in told() {
        assert!(text.contains("YQ==") && text.contains("Yg=="), "{text}");
    }
    later(1_000);
    for text in told() {
        assert!(!text.contains("YQ==") && text.contains("Yg=="), "{text}");
    }
    later(86_400_000);
    for text in told() {
        assert!(text.contains(r#""Records":[]"#) && text.contains(r#""MillisBehindLatest":0"#), "{text}");
    }
    house.shutdown();
}

#[test]
fn a_closed_shard_is_gone_when_nothing_of_it_is_kept() {
    let (house, later) = on_a_clock();
    let mut client = house.client();
    client.create("s", 1);
    client.put("s", "k", "YQ==");
    let split = format!(
        r#"{{"StreamName":"s","ShardToSplit":"shardId-000000000000","NewStartingHashKey":"{HALF}"}}"#
    );
    client.must("SplitShard", &split);
    later(86_400_000 - 10_000);
    let iterator = client.iterator("s", 0, r#""ShardIteratorType":"TRIM_HORIZON""#);
    later(10_001);
    let none = (400, "ResourceNotFoundException".to_owned());
    assert_eq!(client.call("GetRecords", &format!(r#"{{"ShardIterator":"{iterator}"}}"#)).outcome(), none);
    let ask = r#"{"StreamName":"s","ShardId":"shardId-000000000000","ShardIteratorType":"TRIM_HORIZON"}"#;
    assert_eq!(client.call("GetShardIterator", ask).outcome(), none);
    assert_eq!(client.call("SplitShard", &split).outcome(), none);
    let listed =
        client.must("ListShards", r#"{"StreamName":"s","ExclusiveStartShardId":"shardId-000000000000"}"#);
    assert_eq!(listed.count("ShardId"), 2, "a list goes on after one that has gone");
    house.shutdown();
}

#[test]
fn a_list_that_starts_after_a_shard_that_never_was_is_refused() {
    let house = House::ephemeral();
    let mut client = house.client();
    client.create("s", 2);
    for name in ["shardId-000000000002", "nothing", "shardId-x", "shardId-99999999999"] {
        for (operation, body) in [
            ("DescribeStream", format!(r#"{{"StreamName":"s","ExclusiveStartShardId":"{name}"}}"#)),
            ("ListShards", format!(r#"{{"StreamName":"s","ExclusiveStartShardId":"{name}"}}"#)),
            (
                "ListShards",
                format!(
                    r#"{{"StreamName":"s","ShardFilter":{{"Type":"AFTER_SHARD_ID","ShardId":"{name}"}}}}"#
                ),
            ),
        ] {
            let answer = client.call(operation, &body);
            assert_eq!(answer.outcome(), (400, "ResourceNotFoundException".to_owned()), "{operation} {name}");
            let told = format!("Could not find shard {name} in stream s under account 000000000000.");
            assert_eq!(answer.field("message"), told);
        }
    }
    let last = r#"{"StreamName":"s","ExclusiveStartShardId":"shardId-000000000001"}"#;
    assert_eq!(client.must("ListShards", last).count("ShardId"), 0);
    house.shutdown();
}

#[test]
fn a_number_counts_only_in_its_own_stream_and_where_the_shard_has_come_to() {
    let (house, later) = on_a_clock();
    let mut client = house.client();
    let ask = |number: &str, how: &str| {
        format!(
            r#"{{"StreamName":"s","ShardId":"shardId-000000000000","ShardIteratorType":"{how}","StartingSequenceNumber":"{number}"}}"#
        )
    };
    let invalid = (400, "InvalidArgumentException".to_owned());
    let mut numbers = Vec::new();
    // All in one second: the numbers of most differ in nothing but the stream.
    for _ in 0..4 {
        client.create("s", 1);
        client.put("s", "k", "YQ==");
        later(10);
        numbers.push(client.put("s", "k", "Yg==").field("SequenceNumber"));
        let number = numbers.last().unwrap();
        assert_eq!(client.call("GetShardIterator", &ask(number, "AT_SEQUENCE_NUMBER")).outcome().0, 200);
        client.must("DeleteStream", r#"{"StreamName":"s"}"#);
    }
    client.create("s", 1);
    client.put("s", "k", "YQ==");
    client.put("s", "k", "Yg==");
    for how in ["AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"] {
        for number in &numbers {
            let answer = client.call("GetShardIterator", &ask(number, how));
            assert_eq!(answer.outcome(), invalid, "{how} {number}");
            let told = "is invalid because it did not come from this stream.";
            assert!(answer.field("message").ends_with(told), "{}", answer.text());
        }
    }
    // The place after the last record is one, the one behind that is not.
    let listed = client.must("ListShards", r#"{"StreamName":"s"}"#).field("StartingSequenceNumber");
    assert_eq!(client.call("GetShardIterator", &ask(&listed, "AFTER_SEQUENCE_NUMBER")).outcome().0, 200);
    let last = client.put("s", "k", "Yw==").field("SequenceNumber");
    assert_eq!(client.call("GetShardIterator", &ask(&last, "AFTER_SEQUENCE_NUMBER")).outcome().0, 200);
    house.shutdown();
}

#[test]
fn what_contradicts_itself_is_refused() {
    let house = House::ephemeral();
    let mut client = house.client();
    client.create("s", 2);
    let put = client
        .must("PutRecord", r#"{"StreamName":"s","PartitionKey":"k","ExplicitHashKey":"0","Data":"YQ=="}"#);
    let number = put.field("SequenceNumber");
    for kind in ["LATEST", "TRIM_HORIZON", "AT_TIMESTAMP"] {
        let answer = client.call(
            "GetShardIterator",
            &format!(
                r#"{{"StreamName":"s","ShardId":"shardId-000000000000","ShardIteratorType":"{kind}","StartingSequenceNumber":"{number}","Timestamp":1}}"#
            ),
        );
        assert_eq!(answer.outcome(), (400, "InvalidArgumentException".to_owned()));
        assert!(answer.field("message").ends_with("and also a StartingSequenceNumber."), "{}", answer.text());
    }
    let merge = |one: u32, other: u32| {
        format!(
            r#"{{"StreamName":"s","ShardToMerge":"shardId-{one:012}","AdjacentShardToMerge":"shardId-{other:012}"}}"#
        )
    };
    let answer = client.call("MergeShards", &merge(1, 0));
    assert_eq!(answer.outcome(), (400, "InvalidArgumentException".to_owned()));
    assert!(answer.field("message").contains("are not an adjacent pair of shards eligible for merging"));
    client.must("MergeShards", &merge(0, 1));
    client.create("other", 1);
    let iterator = client.iterator("s", 2, r#""ShardIteratorType":"LATEST""#);
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/other";
    let body = format!(r#"{{"ShardIterator":"{iterator}","StreamARN":"{arn}"}}"#);
    assert_eq!(client.call("GetRecords", &body).outcome().1, "InvalidArgumentException");
    house.shutdown();
}

#[test]
fn no_two_iterators_are_the_same_and_an_old_one_says_when_it_was() {
    let (house, later) = on_a_clock();
    let mut client = house.client();
    client.create("s", 1);
    let mut iterator = client.iterator("s", 0, r#""ShardIteratorType":"LATEST""#);
    let other = client.iterator("s", 0, r#""ShardIteratorType":"LATEST""#);
    assert_ne!(iterator, other);
    for _ in 0..3 {
        let next = client.must("GetRecords", &format!(r#"{{"ShardIterator":"{iterator}"}}"#));
        let next = next.field("NextShardIterator");
        assert_ne!(next, iterator);
        iterator = next;
    }
    later(300_001);
    let expired = client.call("GetRecords", &format!(r#"{{"ShardIterator":"{other}"}}"#));
    assert_eq!(
        expired.field("message"),
        "Iterator expired. The iterator was created at time Fri Jan 15 08:00:00 UTC 2027 while right now it is Fri Jan 15 \
         08:05:00 UTC 2027 which is further in the future than the tolerated delay of 300000 milliseconds."
    );
    house.shutdown();
}

#[test]
fn a_time_of_this_very_millisecond_is_not_ahead() {
    let (house, _) = on_a_clock();
    let mut client = house.client();
    client.create("s", 1);
    let ask = |time: &str| {
        format!(
            r#"{{"StreamName":"s","ShardId":"shardId-000000000000","ShardIteratorType":"AT_TIMESTAMP","Timestamp":{time}}}"#
        )
    };
    for time in ["1800000000", "1800000000.000999", "1.8E9", "1800000000.000000123", "1799999999.999999"] {
        assert_eq!(client.call("GetShardIterator", &ask(time)).outcome().0, 200, "{time}");
    }
    for time in ["1800000000.001", "1800000001"] {
        assert_eq!(
            client.call("GetShardIterator", &ask(time)).outcome().1,
            "InvalidArgumentException",
            "{time}"
        );
    }
    house.shutdown();
}

#[test]
fn a_tag_has_the_characters_that_the_service_takes() {
    let house = House::ephemeral();
    let mut client = house.client();
    client.create("s", 1);
    let tags = |key: &str, value: &str| format!(r#"{{"StreamName":"s","Tags":{{"{key}":"{value}"}}}}"#);
    for (key, value) in [("ü0 _.", "/=+-%@"), ("a:b", ""), ("日本", "x y")] {
        client.must("AddTagsToStream", &tags(key, value));
    }
    let refused = (400, "InvalidArgumentException".to_owned());
    for (key, value) in
        [("a;", "b"), ("a", "b;"), ("a", "<b>"), ("a\\n", "b"), ("😀", ""), ("aws:x", "b"), ("a", "\\t#")]
    {
        assert_eq!(client.call("AddTagsToStream", &tags(key, value)).outcome(), refused, "{key} {value}");
    }
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
    for (operation, body) in [
        ("TagResource", format!(r#"{{"ResourceARN":"{arn}","Tags":{{"a":"!"}}}}"#)),
        ("UntagResource", format!(r#"{{"ResourceARN":"{arn}","TagKeys":["!"]}}"#)),
        ("RemoveTagsFromStream", r#"{"StreamName":"s","TagKeys":["!"]}"#.to_owned()),
        ("CreateStream", r#"{"StreamName":"t","ShardCount":1,"Tags":{"a":"!"}}"#.to_owned()),
        (
            "RegisterStreamConsumer",
            format!(r#"{{"StreamARN":"{arn}","ConsumerName":"c","Tags":{{"!":""}}}}"#),
        ),
    ] {
        assert_eq!(client.call(operation, &body).outcome(), refused, "{operation}");
    }
    assert_eq!(client.must("ListTagsForStream", r#"{"StreamName":"s"}"#).count("Key"), 3);
    house.shutdown();
}

#[test]
fn a_list_is_of_the_stream_that_was_created_then_and_not_of_another_of_its_name() {
    let clock = Arc::default();
    let house = House::start(Broker::builder().ephemeral().clock(Clock::Manual(Arc::clone(&clock))));
    clock.now_ms.store(1_800_000_000_250, Ordering::Relaxed);
    let mut client = house.client();
    client.create("s", 1);
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
    for (operation, of) in
        [("ListShards", r#""StreamName":"s""#), ("ListStreamConsumers", &format!(r#""StreamARN":"{arn}""#))]
    {
        let mut outcome = |seconds: &str, more: &str| {
            let body = format!(r#"{{{of},"StreamCreationTimestamp":{seconds}{more}}}"#);
            client.call(operation, &body).outcome().1
        };
        for seconds in ["1800000000.25", "1800000000"] {
            assert_eq!(outcome(seconds, ""), "ok", "{operation} {seconds}");
        }
        for seconds in ["1799999999", "1800000001", "0"] {
            assert_eq!(outcome(seconds, ""), "ResourceNotFoundException", "{operation} {seconds}");
        }
        let both = outcome("1800000000", r#","NextToken":"AAAA""#);
        assert_eq!(both, "InvalidArgumentException", "{operation}: a token names its stream");
    }
    house.shutdown();
}

#[test]
fn a_list_of_consumers_goes_on_when_its_last_one_has_gone() {
    let house = House::ephemeral();
    let mut client = house.client();
    client.create("s", 1);
    client.create("t", 1);
    let arn = |stream: &str| format!("arn:aws:kinesis:us-east-1:000000000000:stream/{stream}");
    for name in ["a", "b", "c"] {
        let body = format!(r#"{{"StreamARN":"{}","ConsumerName":"{name}"}}"#, arn("s"));
        client.must("RegisterStreamConsumer", &body);
    }
    let page =
        client.must("ListStreamConsumers", &format!(r#"{{"StreamARN":"{}","MaxResults":2}}"#, arn("s")));
    let token = page.field("NextToken");
    client.must("DeregisterStreamConsumer", &format!(r#"{{"StreamARN":"{}","ConsumerName":"b"}}"#, arn("s")));
    let next = |stream: &str| format!(r#"{{"StreamARN":"{}","NextToken":"{token}"}}"#, arn(stream));
    let rest = client.must("ListStreamConsumers", &next("s"));
    assert_eq!((rest.count("ConsumerName"), rest.field("ConsumerName")), (1, "c".to_owned()));
    assert_eq!(client.call("ListStreamConsumers", &next("t")).outcome().1, "InvalidArgumentException");
    house.shutdown();
}
