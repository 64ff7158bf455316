//! What a client is told that it may do, and how what is not served is refused.
//!
//! Every expectation here holds on Apache Kafka 4.3.1 without an authorizer as well (`subject.rs` says how to see it), but
//! where it says so: tools (MirrorMaker 2, Kafdrop, kafkactl, kcl, topicctl) go by these answers.
//! Deliberately absent: an authorizer.

use super::subject::Subject;
use super::{Client, Out};
use crate::cli::Serving;

const UNASKED: i32 = i32::MIN;
const OF_TOPIC: i32 = 0xdf8;
const OF_GROUP: i32 = 0xd48;
const OF_CLUSTER: i32 = 0x1fa0;

/// Metadata v8 of one topic: its code, what may be done to it, what to the cluster.
fn metadata(client: &mut Client, topic: &str, asked: i8) -> (i16, i32, i32) {
    let mut answer = client.call(3, 8, &Out::new().i32(1).string(topic).i8(0).i8(asked).i8(asked));
    answer.i32();
    for _ in 0..answer.i32() {
        answer.i32();
        answer.string();
        answer.i32();
        answer.string();
    }
    answer.string();
    answer.i32();
    assert_eq!(answer.i32(), 1);
    let code = answer.i16();
    answer.string();
    answer.i8();
    for _ in 0..answer.i32() {
        let _skipped = (answer.i16(), answer.i32(), answer.i32(), answer.i32());
        for _ in 0..3 {
            for _ in 0..answer.i32() {
                answer.i32();
            }
        }
    }
    (code, answer.i32(), answer.i32())
}

#[test]
fn authorized_operations_are_told_to_those_who_ask() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = subject.topic(&mut client, 1, &[]);
    assert_eq!(metadata(&mut client, &topic, 1), (0, OF_TOPIC, OF_CLUSTER));
    assert_eq!(metadata(&mut client, &topic, 0), (0, UNASKED, UNASKED));
    assert_eq!(metadata(&mut client, "nobody-made-this", 1), (3, OF_TOPIC, OF_CLUSTER));

    for (asked, told) in [(0, UNASKED), (1, OF_CLUSTER)] {
        let mut answer = client.call_flexible(60, 0, &Out::new().i8(asked).tags());
        let _skipped = (answer.i32(), answer.i16(), answer.varint());
        answer.text();
        answer.i32();
        for _ in 0..answer.count() {
            answer.i32();
            answer.text();
            let _skipped = (answer.i32(), answer.varint(), answer.i8());
        }
        assert_eq!(answer.i32(), told, "DescribeCluster");
    }

    for name in [&topic, "nobody-made-this"] {
        let body = Out::new().count(1).text(name).tags().i32(10).i8(-1).tags();
        let answer = client.call_flexible(75, 0, &body);
        // The last field of the topic, before its tags, no cursor and the tags.
        let told = answer.bytes.len() - 7;
        assert_eq!(answer.bytes[told..told + 4], OF_TOPIC.to_be_bytes(), "{name}");
    }
    subject.end();
}

#[test]
fn a_group_tells_what_may_be_done_to_it() {
    let subject = Subject::start();
    let mut client = subject.client();
    let (topic, group) = (subject.topic(&mut client, 1, &[]), subject.name("g"));
    assert_eq!(client.commit(&group, (-1, "", None), (&topic, 0, 1), None), 0);
    for group in [group.as_str(), "nobody-made-this"] {
        for (asked, told) in [(0, UNASKED), (1, OF_GROUP)] {
            let mut answer = client.call(15, 4, &Out::new().i32(1).string(group).i8(asked));
            let _skipped = (answer.i32(), answer.i32(), answer.i16());
            for _ in 0..4 {
                answer.string();
            }
            assert_eq!((answer.i32(), answer.i32()), (0, told), "{group}");
        }
    }
    subject.end();
}

#[test]
fn acls_are_54_without_an_authorizer() {
    let subject = Subject::start();
    let mut client = subject.client();
    let nobody = |out: Out| out.i16(-1).i16(-1).i8(1).i8(1);
    let mut answer = client.call(29, 1, &nobody(Out::new().i8(1).i16(-1).i8(1)));
    assert_eq!((answer.i32(), answer.i16()), (0, 54));
    assert_eq!(answer.string(), "No Authorizer is configured on the broker");
    let one = Out::new().i32(1).i8(2).string("t").i8(3).string("User:a").string("*").i8(3).i8(3);
    let mut answer = client.call(30, 1, &one);
    assert_eq!((answer.i32(), answer.i32(), answer.i16()), (0, 1, 54));
    assert_eq!(answer.string(), "No Authorizer is configured.");
    let mut answer = client.call(31, 1, &nobody(Out::new().i32(1).i8(1).i16(-1).i8(1)));
    assert_eq!((answer.i32(), answer.i32(), answer.i16()), (0, 1, 54));
    subject.end();
}

#[test]
fn nothing_is_being_reassigned() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = subject.topic(&mut client, 1, &[]);
    let one = Out::new().i32(1_000).count(1).text(&topic).count(1).i32(0).tags().tags();
    for body in [Out::new().i32(1_000).null().tags(), one] {
        let mut answer = client.call_flexible(46, 0, &body);
        assert_eq!((answer.i32(), answer.i16(), answer.varint(), answer.count()), (0, 0, 0, 0));
    }
    subject.end();
}

/// Not Apache Kafka's: weir has no transactions yet. Java prints what comes with INVALID_REQUEST, and librdkafka (FindCoordinator
/// v2) gives up on 53 alone.
#[test]
fn transactions_are_refused_with_words_and_the_log_names_the_client() {
    let broker = Serving::start(&["--ephemeral", "--listen", "127.0.0.1:0"]);
    let mut client = Client::connect(broker.address().parse().unwrap());
    let mut answer = client.call(10, 2, &Out::new().string("tx").i8(1));
    let refused = (answer.i32(), answer.i16(), answer.string());
    assert_eq!(refused, (0, 53, "this broker has no transactions yet".to_owned()));
    let mut answer = client.call_flexible(10, 4, &Out::new().i8(1).count(1).text("tx").tags());
    assert_eq!((answer.i32(), answer.count(), answer.text()), (0, 1, "tx".to_owned()));
    answer.i32();
    answer.text();
    assert_eq!((answer.i32(), answer.i16()), (-1, 42));
    assert_eq!(answer.text(), "this broker has no transactions yet");
    let mut answer = client.call(22, 1, &Out::new().string("tx").i32(60_000));
    assert_eq!((answer.i32(), answer.i16(), answer.i64()), (0, 42, -1));
    broker.signal(rustix::process::Signal::TERM);
    let (_, said) = broker.end();
    let line = said.lines().find(|line| line.contains("transactions are not served")).expect(&said);
    assert!(line.contains("client id \"test\"") && line.contains("127.0.0.1:"), "{line}");
}

#[test]
fn a_version_that_is_not_served_is_said_with_the_client_that_wants_it() {
    let broker = Serving::start(&["--ephemeral", "--listen", "127.0.0.1:0"]);
    let mut client = Client::connect(broker.address().parse().unwrap());
    let from = client.stream.local_addr().unwrap();
    client.send(1, 3, &Out::new());
    assert_eq!(std::io::Read::read(&mut client.stream, &mut [0]).unwrap(), 0, "closed");
    broker.signal(rustix::process::Signal::TERM);
    let (_, said) = broker.end();
    let line = said.lines().find(|line| line.contains("Fetch has no version 3")).expect(&said);
    assert!(line.contains(&from.to_string()) && line.contains("client id \"test\""), "{line}");
}
