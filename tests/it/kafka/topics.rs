//! Topics made, grown and deleted: what is refused, and what is there afterwards.
//!
//! Every expectation here holds on Apache Kafka 4.3.1 as well (`subject.rs` says how to see it), but where it
//! says so. Deliberately absent: configurations (unit tests of the API), visibility (`metadata.rs`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use weir_broker::batch::{Builder, Record};

use super::subject::{AT_ONCE, Subject, batches, from};
use super::{Client, NOBODY, Out, batch};
use crate::cli::Serving;

/// One topic of a CreateTopics request.
#[derive(Clone, Copy)]
struct New<'a> {
    name: &'a str,
    partitions: i32,
    replicas: i16,
    /// Partition and its brokers.
    assignments: &'a [(i32, &'a [i32])],
    configs: &'a [(&'a str, &'a str)],
}

fn plain(name: &str) -> New<'_> {
    New { name, partitions: 1, replicas: 1, assignments: &[], configs: &[] }
}

/// CreateTopics v4: codes by name, sorted.
fn create(client: &mut Client, validate_only: bool, topics: &[New<'_>]) -> Vec<(String, i16)> {
    let mut body = Out::new().i32(topics.len() as i32);
    for new in topics {
        body = body.string(new.name).i32(new.partitions).i16(new.replicas).i32(new.assignments.len() as i32);
        for (partition, brokers) in new.assignments {
            body = body.i32(*partition).i32(brokers.len() as i32);
            body = brokers.iter().fold(body, |body, broker| body.i32(*broker));
        }
        body = body.i32(new.configs.len() as i32);
        for (key, value) in new.configs {
            body = body.string(key).string(value);
        }
    }
    let mut answer = client.call(19, 4, &body.i32(5_000).i8(i8::from(validate_only)));
    assert_eq!(answer.i32(), 0);
    let mut codes = Vec::new();
    for _ in 0..answer.i32() {
        codes.push((answer.string(), answer.i16()));
        answer.string();
    }
    answer.end();
    codes.sort();
    codes
}

fn code(client: &mut Client, new: New<'_>) -> i16 {
    let codes = create(client, false, &[new]);
    assert_eq!((codes.len(), codes[0].0.as_str()), (1, new.name));
    codes[0].1
}

/// Metadata v1 of one topic, which does not create it: its code and its partitions, sorted.
fn partitions(client: &mut Client, topic: &str) -> (i16, Vec<i32>) {
    let mut answer = client.call(3, 4, &Out::new().i32(1).string(topic).i8(0));
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
    answer.take(1);
    let mut found = Vec::new();
    for _ in 0..answer.i32() {
        assert_eq!(answer.i16(), 0);
        found.push(answer.i32());
        answer.i32();
        for _ in 0..2 {
            assert_eq!((answer.i32(), answer.i32() >= 0), (1, true), "one replica, in sync");
        }
    }
    answer.end();
    found.sort_unstable();
    (code, found)
}

/// CreatePartitions v1 of one topic: its code.
fn grow(client: &mut Client, topic: &str, count: i32) -> i16 {
    let body = Out::new().i32(1).string(topic).i32(count).i32(-1).i32(5_000).i8(0);
    let mut answer = client.call(37, 1, &body);
    assert_eq!((answer.i32(), answer.i32(), answer.string()), (0, 1, topic.to_owned()));
    answer.i16()
}

#[test]
fn what_is_no_name_is_17() {
    let subject = Subject::start();
    let mut client = subject.client();
    let stem = subject.name("");
    let longest = format!("{}{stem}", "x".repeat(249 - stem.len()));
    for name in ["", ".", "..", "a b", "a/b", "a\u{0}", "ä", "../x", &format!("{longest}x")] {
        assert_eq!(code(&mut client, plain(name)), 17, "{name:?}");
    }
    assert_eq!(code(&mut client, plain(&longest)), 0);
    let dotted = subject.name("a.b_c");
    assert_eq!(code(&mut client, plain(&dotted)), 0);
    assert_eq!(code(&mut client, plain(&dotted)), 36);
    // Names of metrics would be the same.
    let alike = dotted.replace('.', "_");
    assert_eq!(code(&mut client, plain(&alike)), 17);
    subject.end();
}

#[test]
fn what_cannot_be_created_says_why_and_leaves_nothing() {
    let subject = Subject::start();
    let mut client = subject.client();
    let name = &subject.name("t");
    for (new, expected) in [
        (New { partitions: 0, ..plain(name) }, 37),
        (New { partitions: -2, ..plain(name) }, 37),
        (New { replicas: 0, ..plain(name) }, 38),
        (New { replicas: 2, ..plain(name) }, 38),
        (New { configs: &[("no.such.key", "1")], ..plain(name) }, 40),
        (New { configs: &[("retention.ms", "soon")], ..plain(name) }, 40),
        (New { configs: &[("cleanup.policy", "shred")], ..plain(name) }, 40),
        (New { assignments: &[(0, &[1])], ..plain(name) }, 42),
        (New { partitions: -1, replicas: -1, assignments: &[(0, &[77])], ..plain(name) }, 39),
        (New { partitions: -1, replicas: -1, assignments: &[(1, &[1])], ..plain(name) }, 39),
    ] {
        assert_eq!(code(&mut client, new), expected, "{} {}", new.partitions, new.replicas);
        assert_eq!(create(&mut client, true, &[new])[0].1, expected, "validate only");
        assert_eq!(partitions(&mut client, name).0, 3);
    }
    let twice = create(&mut client, false, &[plain(name), plain(name)]);
    assert_eq!(twice, [(name.clone(), 42)]);
    assert_eq!(create(&mut client, true, &[plain(name)])[0].1, 0);
    assert_eq!(partitions(&mut client, name).0, 3, "validated, not created");
    subject.end();
}

#[test]
fn one_bad_topic_does_not_hold_up_the_others() {
    let subject = Subject::start();
    let mut client = subject.client();
    let (good, bad) = (subject.name("a"), subject.name("b"));
    let topics = [plain(&good), New { partitions: 0, ..plain(&bad) }];
    assert_eq!(create(&mut client, false, &topics), [(good.clone(), 0), (bad.clone(), 37)]);
    assert_eq!((partitions(&mut client, &good).0, partitions(&mut client, &bad).0), (0, 3));
    subject.end();
}

#[test]
fn minus_1_is_the_brokers_default_and_assignments_count_for_themselves() {
    let subject = Subject::start();
    let mut client = subject.client();
    let (defaults, assigned) = (&subject.name("t"), &subject.name("t"));
    assert_eq!(code(&mut client, New { partitions: -1, replicas: -1, ..plain(defaults) }), 0);
    assert_eq!(partitions(&mut client, defaults).1.len(), if subject.is_weir() { 1 } else { 4 });
    let three: &[(i32, &[i32])] = &[(0, &[1]), (1, &[1]), (2, &[1])];
    let new = New { partitions: -1, replicas: -1, assignments: three, ..plain(assigned) };
    assert_eq!(code(&mut client, new), 0);
    assert_eq!(partitions(&mut client, assigned), (0, vec![0, 1, 2]));
    subject.end();
}

#[test]
fn a_topic_grows_and_never_shrinks_and_keeps_what_it_has() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = subject.topic(&mut client, 2, &[]);
    assert_eq!(client.append(&topic, 1, &batch(NOBODY, 3, b"v")), (0, 0));
    for count in [2, 1, 0, -1] {
        assert_eq!(grow(&mut client, &topic, count), 37, "{count}");
    }
    assert_eq!(grow(&mut client, "nowhere-at-all", 3), 3);
    assert_eq!(grow(&mut client, &topic, 4), 0);
    if subject.is_weir() {
        assert_eq!(partitions(&mut client, &topic), (0, vec![0, 1, 2, 3]));
        assert_eq!(client.append(&topic, 3, &batch(NOBODY, 1, b"v")), (0, 0));
    }
    let got = client.fetch(AT_ONCE, &[from(&topic, 1, 0)]).remove(0);
    assert_eq!(batches(&got.records), [(0, 3)]);
    subject.end();
}

#[test]
fn a_deleted_topic_is_gone_and_its_name_begins_anew() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = subject.topic(&mut client, 1, &[]);
    assert_eq!(client.append(&topic, 0, &batch(NOBODY, 3, b"v")), (0, 0));
    assert_eq!(client.delete_topic(&topic), 0);
    assert_eq!(client.delete_topic("nowhere-at-all"), 3);
    if subject.is_weir() {
        assert_eq!(client.delete_topic(&topic), 3);
        assert_eq!(client.append(&topic, 0, &batch(NOBODY, 1, b"v")).0, 3);
        assert_eq!(client.list_offset_of(&topic, 0, -1).0, 3);
        assert_eq!(client.create_partitioned(&topic, 1, &[]), 0);
        assert_eq!(client.list_offset_of(&topic, 0, -1), (0, 0));
        assert_eq!(client.append(&topic, 0, &batch(NOBODY, 1, b"v")), (0, 0));
    }
    subject.end();
}

/// DeleteTopics v6: by name or by id; code and name.
fn delete(client: &mut Client, name: Option<&str>, id: &[u8; 16]) -> (i16, String) {
    let body = Out::new().count(1);
    let body = if let Some(name) = name { body.text(name) } else { body.null() };
    let mut answer = client.call_flexible(20, 6, &body.raw(id).tags().i32(5_000).tags());
    assert_eq!((answer.i32(), answer.count()), (0, 1));
    let name = answer.text();
    answer.take(16);
    let code = answer.i16();
    answer.bytes();
    answer.tags();
    answer.tags();
    answer.end();
    (code, name)
}

#[test]
fn a_topic_is_deleted_by_its_id_too() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = subject.topic(&mut client, 1, &[]);
    let id = client.topic_id(&topic);
    assert_eq!(delete(&mut client, Some(&topic), &id).0, 42, "a name or an id, not both");
    assert_eq!(delete(&mut client, None, &[0; 16]).0, 42);
    assert_eq!(delete(&mut client, None, &[7; 16]), (100, String::new()));
    assert_eq!(delete(&mut client, None, &id), (0, topic.clone()));
    assert_eq!(delete(&mut client, None, &id).0, 100);
    subject.end();
}

#[test]
fn the_brokers_own_topic_takes_no_records_of_clients() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = subject.topic(&mut client, 1, &[]);
    assert_eq!(client.commit("g", (-1, "", None), (&topic, 0, 1), None), 0);
    assert_eq!(client.append("__consumer_offsets", 0, &batch(NOBODY, 1, b"v")).0, 17);
    assert_eq!(client.delete_records("__consumer_offsets", 0, 0).0, 17);
    subject.end();
}

/// Clients that go on writing and reading are told that the topic is unknown, and nothing in the log looks like a dying
/// disk: files that vanish under an append, a read or upkeep were deleted.
#[test]
fn topics_deleted_under_load_are_unknown_and_no_news_of_the_disk() {
    const TOPICS: usize = 4;
    let dir = tempfile::tempdir().unwrap();
    let broker = Serving::quiet(&[
        "serve",
        "--data-dir",
        dir.path().to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "-X",
        "log.segment.bytes=1048576",
        "-X",
        "log.max.open.files=16",
        "-X",
        "log.retention.check.interval.ms=20",
        "-X",
        "auto.create.topics.enable=false",
    ]);
    let addr: SocketAddr = broker.address().parse().unwrap();
    let mut large = Builder::new();
    large.push(Record { timestamp_ms: 1, value: Some(vec![7; 300_000].into()), ..Record::default() });
    let large = large.build().unwrap();
    let (stop, seen) = (AtomicBool::new(false), Mutex::new(BTreeMap::<i16, u32>::new()));
    std::thread::scope(|scope| {
        for thread in 0..TOPICS {
            let (stop, seen, large) = (&stop, &seen, large.bytes());
            scope.spawn(move || {
                let mut client = Client::connect(addr);
                let topic = format!("t{thread}");
                while !stop.load(Ordering::Relaxed) {
                    let codes = [
                        client.produce(&topic, -1, large).0,
                        client.produce(&topic, 1, large).0,
                        client.fetch(AT_ONCE, &[from(&topic, 0, 0)])[0].code,
                        client.list_offset(&topic, 0).0,
                    ];
                    let mut seen = seen.lock().unwrap();
                    codes.into_iter().for_each(|code| *seen.entry(code).or_default() += 1);
                }
            });
        }
        let mut client = Client::connect(addr);
        for round in 0..120 {
            let topic = format!("t{}", round % TOPICS);
            if client.create_topic(&topic, &[("retention.bytes", "0")]) == 36 {
                assert_eq!(client.delete_topic(&topic), 0);
                assert_eq!(client.create_topic(&topic, &[]), 0);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let seen = seen.into_inner().unwrap();
    assert!(seen.keys().all(|code| [0, 1, 3].contains(code)) && seen.contains_key(&0), "{seen:?}");
    broker.signal(rustix::process::Signal::TERM);
    let (code, said) = broker.end();
    assert_eq!(code, Some(0), "{said}");
    let bad: Vec<_> = said.lines().filter(|l| l.contains("WARN") || l.contains("ERROR")).take(5).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}
