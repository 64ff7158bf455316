//! Committed offsets: who may commit, what comes back, and when they go.
//!
//! Every expectation here holds on Apache Kafka 4.3.1 as well (`subject.rs` says how to see it), but where it
//! says so.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use weir_broker::config::{Config, Source};
use weir_broker::{Broker, Clock};

use super::membership::{Join, consumer, join_body, joined, subscription};
use super::subject::Subject;
use super::{Client, House, Out};

/// A simple consumer: no membership.
const NOBODY: (i32, &str, Option<&str>) = (-1, "", None);

#[test]
fn metadata_comes_back_byte_for_byte() {
    let subject = Subject::start();
    let mut client = subject.client();
    let (group, topic) = (&subject.name("g"), subject.topic(&mut client, 1, &[]));
    let long = "x".repeat(4_096);
    let wide = "é".repeat(4_096);
    for metadata in [
        "",
        "note",
        r#"{"topologyId":"t-1-1700000000","taskId":3,"threadName":"Thread-17-spout"}"#,
        "\"'\\\u{0}\n\t",
        "🦀 übers Wehr",
        &long,
        &wide,
    ] {
        assert_eq!(client.commit(group, NOBODY, (&topic, 0, 7), Some(metadata)), 0, "{metadata:.20}");
        assert_eq!(client.committed(group, &topic, 0), (0, 7, metadata.to_owned()));
    }
    assert_eq!(client.commit(group, NOBODY, (&topic, 0, 8), Some(&format!("{long}x"))), 12);
    assert_eq!(client.committed(group, &topic, 0), (0, 7, wide), "a refused commit changes nothing");
    assert_eq!(client.commit(group, NOBODY, (&topic, 0, 9), None), 0);
    assert_eq!(client.committed(group, &topic, 0), (0, 9, String::new()));
    subject.end();
}

#[test]
fn who_is_no_member_commits_only_while_the_group_has_none() {
    let subject = Subject::start();
    let mut client = subject.client();
    let (group, topic) = (&subject.name("g"), subject.topic(&mut client, 1, &[]));
    assert_eq!(client.commit(group, NOBODY, (&topic, 0, 1), None), 0);
    let me = client.join(consumer(group));
    assert_eq!(client.commit(group, NOBODY, (&topic, 0, 2), None), 25);
    // Its generation has no plan yet.
    let member = (1, me.member.as_str(), None);
    assert_eq!(client.commit(group, member, (&topic, 0, 3), None), 27);
    client.sync(group, member, &[(&me.member, b"")]);
    assert_eq!(client.commit(group, member, (&topic, 0, 4), None), 0);
    assert_eq!(client.commit(group, NOBODY, (&topic, 0, 5), None), 25);
    assert_eq!(client.commit(group, (-1, &me.member, None), (&topic, 0, 6), None), 22);
    assert_eq!(client.committed(group, &topic, 0).1, 4);
    assert_eq!(client.leave(group, &me.member, None), 0);
    assert_eq!(client.commit(group, NOBODY, (&topic, 0, 5), None), 0);
    assert_eq!(client.commit(group, member, (&topic, 0, 6), None), 25);
    assert_eq!(client.committed(group, &topic, 0).1, 5);
    subject.end();
}

#[test]
fn a_member_may_still_commit_while_the_others_join() {
    let subject = Subject::start();
    let (mut a, mut b) = (subject.client(), subject.client());
    let (group, topic) = (&subject.name("g"), subject.topic(&mut a, 1, &[]));
    let me = a.settle(consumer(group));
    let id = joined(5, b.call(11, 5, &join_body(5, consumer(group)))).member;
    b.send_join(Join { member: &id, ..consumer(group) });
    while a.group_state(group) != "PreparingRebalance" {}
    assert_eq!(a.commit(group, (1, &me.member, None), (&topic, 0, 11), None), 0);
    assert_eq!(a.join(Join { member: &me.member, ..consumer(group) }).generation, 2);
    assert_eq!(a.commit(group, (1, &me.member, None), (&topic, 0, 12), None), 22, "too late");
    assert_eq!(a.committed(group, &topic, 0).1, 11);
    subject.end();
}

#[test]
fn what_does_not_exist_cannot_be_committed_and_reads_as_minus_1() {
    let subject = Subject::start();
    let mut client = subject.client();
    let (group, topic) = (&subject.name("g"), subject.topic(&mut client, 1, &[]));
    assert_eq!(client.committed(group, &topic, 0), (0, -1, String::new()), "an unknown group");
    assert_eq!(client.commit(group, NOBODY, (&topic, 1, 1), None), 3);
    assert_eq!(client.commit(group, NOBODY, ("nowhere-at-all", 0, 1), None), 3);
    assert_eq!(client.commit(group, NOBODY, (&topic, 0, 1), None), 0);
    assert_eq!(client.committed(group, &topic, 7), (0, -1, String::new()));
    assert_eq!(client.committed(group, "nowhere-at-all", 0), (0, -1, String::new()));
    subject.end();
}

/// Clients from before groups had to have a name; commits and their reading alone allow it.
#[test]
fn the_group_without_a_name_commits_too() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = subject.topic(&mut client, 1, &[]);
    assert_eq!(client.committed("", &topic, 0), (0, -1, String::new()));
    assert_eq!(client.commit("", NOBODY, (&topic, 0, 5), None), 0);
    assert_eq!(client.committed("", &topic, 0).1, 5);
    assert_eq!(client.delete_group(""), 0);
    assert_eq!(client.committed("", &topic, 0).1, -1);
    subject.end();
}

/// As long as a string of the protocol can be, as in Apache Kafka.
#[test]
fn the_id_of_a_group_may_be_as_long_as_a_string() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = subject.topic(&mut client, 1, &[]);
    for length in [255, 256, 32_767] {
        let mut group = subject.name("g");
        group.push_str(&"x".repeat(length - group.len()));
        assert_eq!(client.commit(&group, NOBODY, (&topic, 0, 5), None), 0, "{length}");
        assert_eq!(client.committed(&group, &topic, 0).1, 5, "{length}");
        let me = client.settle(consumer(&group));
        assert_eq!(client.commit(&group, (1, &me.member, None), (&topic, 0, 6), None), 0, "{length}");
        assert_eq!(client.leave(&group, &me.member, None), 0, "{length}");
        assert_eq!(client.delete_group(&group), 0, "{length}");
        assert_eq!(client.committed(&group, &topic, 0).1, -1, "{length}");
    }
    subject.end();
}

/// OffsetFetch v5 with null topics: (topic, partition, offset), sorted.
fn all_of(client: &mut Client, group: &str) -> Vec<(String, i32, i64)> {
    let mut answer = client.call(9, 5, &Out::new().string(group).i32(-1));
    assert_eq!(answer.i32(), 0);
    let mut all = Vec::new();
    for _ in 0..answer.i32() {
        let topic = answer.string();
        for _ in 0..answer.i32() {
            all.push((topic.clone(), answer.i32(), answer.i64()));
            answer.i32();
            answer.string();
            assert_eq!(answer.i16(), 0);
        }
    }
    assert_eq!(answer.i16(), 0);
    answer.end();
    all.sort();
    all
}

#[test]
fn null_topics_ask_for_everything_and_groups_do_not_mix() {
    let subject = Subject::start();
    let mut client = subject.client();
    let (a, b) = (subject.name("g"), subject.name("g"));
    let (s, t) = (subject.topic(&mut client, 2, &[]), subject.topic(&mut client, 1, &[]));
    for (group, at) in [(&a, (&*s, 0, 1)), (&a, (&s, 1, 2)), (&a, (&t, 0, 3)), (&b, (&t, 0, 4))] {
        assert_eq!(client.commit(group, NOBODY, at, None), 0);
    }
    let mut expected = vec![(s.clone(), 0, 1), (s.clone(), 1, 2), (t.clone(), 0, 3)];
    expected.sort();
    assert_eq!(all_of(&mut client, &a), expected);
    assert_eq!(all_of(&mut client, &b), [(t, 0, 4)]);
    assert_eq!(all_of(&mut client, &subject.name("g")), []);
    subject.end();
}

/// OffsetDelete v0 of one partition: the group's code and the partition's.
fn delete(client: &mut Client, group: &str, topic: &str, partition: i32) -> (i16, Option<i16>) {
    let body = Out::new().string(group).i32(1).string(topic).i32(1).i32(partition);
    let mut answer = client.call(47, 0, &body);
    let (code, throttle, topics) = (answer.i16(), answer.i32(), answer.i32());
    assert_eq!(throttle, 0);
    if topics == 0 {
        return (code, None);
    }
    assert_eq!((answer.string(), answer.i32(), answer.i32()), (topic.to_owned(), 1, partition));
    (code, Some(answer.i16()))
}

#[test]
fn offsets_of_topics_that_nobody_reads_are_deleted_and_others_are_86() {
    let subject = Subject::start();
    let mut client = subject.client();
    let group = &subject.name("g");
    let (read, other) = (subject.topic(&mut client, 1, &[]), subject.topic(&mut client, 1, &[]));
    assert_eq!(delete(&mut client, group, &read, 0), (69, None));
    let words = subscription(&read);
    let me = client.settle(Join { protocols: &[("range", &words)], ..consumer(group) });
    for topic in [&read, &other] {
        assert_eq!(client.commit(group, (1, &me.member, None), (topic, 0, 3), None), 0);
    }
    assert_eq!(delete(&mut client, group, &read, 0), (0, Some(86)));
    assert_eq!(delete(&mut client, group, &other, 0), (0, Some(0)));
    assert_eq!(delete(&mut client, group, &other, 9), (0, Some(3)));
    assert_eq!(delete(&mut client, group, "nowhere-at-all", 0), (0, Some(3)));
    assert_eq!((client.committed(group, &read, 0).1, client.committed(group, &other, 0).1), (3, -1));
    assert_eq!(client.leave(group, &me.member, None), 0);
    assert_eq!(delete(&mut client, group, &read, 0), (0, Some(0)));
    assert_eq!(client.committed(group, &read, 0).1, -1);
    subject.end();
}

#[test]
fn a_group_in_use_that_is_no_consumers_keeps_its_offsets() {
    let subject = Subject::start();
    let mut client = subject.client();
    let (group, topic) = (&subject.name("g"), subject.topic(&mut client, 1, &[]));
    let me = client.settle(Join { kind: "connect", ..consumer(group) });
    assert_eq!(client.commit(group, (1, &me.member, None), (&topic, 0, 3), None), 0);
    assert_eq!(delete(&mut client, group, &topic, 0), (68, None));
    assert_eq!(client.leave(group, &me.member, None), 0);
    assert_eq!(delete(&mut client, group, &topic, 0), (0, Some(0)));
    subject.end();
}

#[test]
fn a_deleted_topic_takes_its_offsets_with_it() {
    let subject = Subject::start();
    let mut client = subject.client();
    let (group, topic) = (&subject.name("g"), subject.topic(&mut client, 1, &[]));
    let kept = subject.topic(&mut client, 1, &[]);
    assert_eq!(client.commit(group, NOBODY, (&topic, 0, 3), None), 0);
    assert_eq!(client.commit(group, NOBODY, (&kept, 0, 4), None), 0);
    assert_eq!(client.delete_topic(&topic), 0);
    // Kafka forgets them a moment later.
    let until = Instant::now() + Duration::from_secs(5);
    while client.committed(group, &topic, 0).1 != -1 {
        assert!(!subject.is_weir() && Instant::now() < until);
    }
    assert_eq!(all_of(&mut client, group), [(kept, 0, 4)]);
    subject.end();
}

/// OffsetCommit v2 with a retention time: error code.
fn commit_for(client: &mut Client, group: &str, topic: &str, retention_ms: i64) -> i16 {
    let body = Out::new().string(group).i32(-1).string("").i64(retention_ms).i32(1).string(topic).i32(1);
    let mut answer = client.call(8, 2, &body.i32(0).i64(3).string(""));
    assert_eq!((answer.i32(), answer.string(), answer.i32(), answer.i32()), (1, topic.to_owned(), 1, 0));
    answer.i16()
}

/// On weir alone: Kafka's time cannot be moved.
#[test]
fn offsets_expire_after_their_retention_and_the_group_with_them() {
    let clock = Clock::Manual(std::sync::Arc::default());
    let Clock::Manual(time) = &clock else { unreachable!() };
    time.now_ms.store(1_000_000, Ordering::Relaxed);
    let time = std::sync::Arc::clone(time);
    let mut config = Config::default();
    for (key, value) in [("offsets.retention.minutes", "10"), ("offsets.retention.check.interval.ms", "20")] {
        config.set(key, value, Source::CommandLine).unwrap();
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let start = Broker::builder().ephemeral().config(config).clock(clock).start();
    let house = House { broker: runtime.block_on(start).unwrap(), runtime };
    let mut client = house.client();
    assert_eq!(client.create_topic("t", &[]), 0);
    assert_eq!(client.create_topic("u", &[]), 0);
    assert_eq!(client.commit("simple", NOBODY, ("t", 0, 1), None), 0);
    assert_eq!(commit_for(&mut client, "brief", "t", 60_000), 0);
    let words = subscription("t");
    let me =
        client.settle(Join { protocols: &[("range", &words)], session_ms: 1_800_000, ..consumer("read") });
    for topic in ["t", "u"] {
        assert_eq!(client.commit("read", (1, &me.member, None), (topic, 0, 1), None), 0);
    }
    let gone = |client: &mut Client, group: &str, topic: &str| {
        let until = Instant::now() + Duration::from_secs(5);
        while client.committed(group, topic, 0).1 != -1 {
            assert!(Instant::now() < until, "{group} keeps {topic}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    time.now_ms.fetch_add(61_000, Ordering::Relaxed);
    gone(&mut client, "brief", "t");
    assert_eq!(client.group_state("brief"), "Dead");
    assert_eq!(client.committed("simple", "t", 0).1, 1);

    time.now_ms.fetch_add(9 * 60_000, Ordering::Relaxed);
    gone(&mut client, "simple", "t");
    assert_eq!(client.group_state("simple"), "Dead");
    // Of a group with members only what nobody subscribes to goes.
    gone(&mut client, "read", "u");
    assert_eq!(client.committed("read", "t", 0).1, 1);

    // From the last member's leave on, the whole group counts.
    assert_eq!(client.leave("read", &me.member, None), 0);
    time.now_ms.fetch_add(9 * 60_000, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(client.committed("read", "t", 0).1, 1, "kept for ten minutes after that");
    time.now_ms.fetch_add(61_000, Ordering::Relaxed);
    gone(&mut client, "read", "t");
    assert_eq!(client.group_state("read"), "Dead");
    drop(client);
    house.shutdown();
}
