//! What a broker still knows when it is started again on its directory.
//!
//! Deliberately absent: crashes of the machine (`crash/`): a killed process loses nothing that it wrote.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::idempotence::producer;
use super::membership::{Join, consumer};
use super::subject::{AT_ONCE, Ask, batches, from};
use super::{Client, House, Out, Producer, batch};
use crate::cli::Serving;

/// The binary on a directory, and a connection to it.
fn serve(dir: &Path) -> (Serving, Client) {
    let data = dir.to_str().unwrap();
    let settings = ["-X", "group.min.session.timeout.ms=500"];
    let args = [&["serve", "--data-dir", data, "--listen", "127.0.0.1:0"][..], &settings].concat();
    let serving = Serving::start(&args);
    let client = Client::connect(serving.address().parse().unwrap());
    (serving, client)
}

/// kill -9, and the next life.
fn killed(life: (Serving, Client), dir: &Path) -> (Serving, Client) {
    let (serving, mut client) = life;
    serving.signal(Signal::KILL);
    // The connection ends when the process has.
    let end = std::io::Read::read(&mut client.stream, &mut [0]);
    assert_eq!(end.unwrap_or(0), 0);
    drop(serving);
    serve(dir)
}

#[test]
fn records_and_producer_state_survive_a_shutdown() {
    let dir = tempfile::tempdir().unwrap();
    let records = batch(Producer { id: 7, epoch: 0, sequence: 0 }, 2, b"v");
    let house = House::kept(dir.path());
    let mut client = house.client();
    assert_eq!(client.create_topic("t", &[("max.message.bytes", "200")]), 0);
    assert_eq!(client.produce("t", -1, &records).1, 0);
    drop(client);
    house.shutdown();

    let house = House::kept(dir.path());
    let mut client = house.client();
    assert_eq!(client.list_offset("t", -1), (0, 2));
    let (code, offset, _) = client.produce("t", -1, &records);
    assert_eq!((code, offset), (0, 0), "a duplicate is still recognised");
    assert_eq!(client.list_offset("t", -1), (0, 2));
    let large = batch(super::NOBODY, 30, b"value");
    assert_eq!(client.produce("t", -1, &large).0, 10, "the topic's config is still there");
    house.shutdown();
}

#[test]
fn requests_that_wait_for_logs_to_be_opened_are_answered_in_order_and_carried_out_once() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::kept(dir.path());
    let mut client = house.client();
    for topic in ["t", "u"] {
        assert_eq!(client.create_topic(topic, &[]), 0);
        assert_eq!(client.produce(topic, -1, &batch(super::NOBODY, 2, b"v")).1, 0);
    }
    drop(client);
    house.shutdown();

    let house = House::kept(dir.path());
    let mut client = house.client();
    let one = batch(super::NOBODY, 1, b"v");
    let latest = |topic| Out::new().i32(-1).i32(1).string(topic).i32(1).i32(0).i64(-1);
    // Large enough for a lane.
    let ends = |topic| {
        let body = Out::new().i32(-2).i32(1).string(topic).i32(1_000);
        (0..1_000).fold(body, |body, index| body.i32(index).i32(-1).i32(0))
    };
    // All of it is in the broker's hands before the first log is open.
    let mut sent = Vec::new();
    for topic in ["t", "u", "t"] {
        sent.push((client.send(23, 3, &ends(topic)), "end"));
        sent.push((client.send(0, 7, &super::produce_body(topic, -1, &one)), "produce"));
        sent.push((client.send(0, 7, &super::produce_body(topic, 1, &one)), "produce"));
        sent.push((client.send(2, 1, &latest(topic)), "latest"));
        sent.push((client.send(18, 0, &Out::new()), "versions"));
    }
    let mut told = Vec::new();
    for (id, what) in sent {
        let (answered, mut answer) = client.receive();
        assert_eq!(answered, id, "in order");
        if what == "produce" {
            let (code, offset, _) = super::produced(answer);
            assert_eq!(code, 0);
            told.push(offset);
        } else if what == "latest" {
            let _skipped = (answer.i32(), answer.string(), answer.i32(), answer.i32());
            assert_eq!(answer.i16(), 0);
            answer.i64();
            told.push(answer.i64());
        } else if what == "end" {
            let _skipped = (answer.i32(), answer.i32(), answer.string(), answer.i32());
            assert_eq!((answer.i16(), answer.i32(), answer.i32()), (0, 0, 0));
            told.push(answer.i64());
        }
    }
    assert_eq!(told, [2, 2, 3, 4, 2, 2, 3, 4, 4, 4, 5, 6], "each of them once");
    house.shutdown();
}

#[test]
fn a_second_broker_on_one_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::kept(dir.path());
    let second = weir_broker::Broker::builder().data_dir(dir.path().to_path_buf()).start();
    assert!(matches!(house.runtime.block_on(second), Err(weir_broker::StartError::DataDir(_))));
    house.shutdown();
}

#[test]
fn committed_offsets_survive_a_kill_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (serving, mut client) = serve(dir.path());
    assert_eq!(client.create_topic("t", &[]), 0);
    let storm = r#"{"topologyId":"t-1","taskId":3,"threadName":"spout"}"#;
    for (n, group) in ["a", "b", "c"].into_iter().enumerate() {
        for offset in 0..20 {
            assert_eq!(client.commit(group, (-1, "", None), ("t", 0, offset + n as i64), Some(storm)), 0);
        }
    }
    assert_eq!(client.delete_group("b"), 0);
    let (serving, mut client) = killed((serving, client), dir.path());
    for (group, expected) in [("a", (19, storm)), ("b", (-1, "")), ("c", (21, storm))] {
        assert_eq!(client.committed(group, "t", 0), (0, expected.0, expected.1.to_owned()), "{group}");
    }
    drop((serving, client));
}

#[test]
fn a_stable_group_goes_on_in_its_generation_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let (serving, mut client) = serve(dir.path());
    assert_eq!(client.create_topic("t", &[]), 0);
    let fixed = Join { instance: Some("i"), ..consumer("static") };
    let (me, same) = (client.settle(consumer("dynamic")), client.settle(fixed));
    assert_eq!(client.commit("dynamic", (1, &me.member, None), ("t", 0, 5), None), 0);

    let (serving, mut client) = killed((serving, client), dir.path());
    let described = client.describe("dynamic");
    assert_eq!((described.1.as_str(), described.3.as_str()), ("Stable", "range"));
    assert_eq!((&described.4[0].0, &described.4[0].4), (&me.member, &b"mine".to_vec()));
    assert_eq!(client.heartbeat("dynamic", (1, &me.member, None)), 0);
    assert_eq!(client.sync("dynamic", (1, &me.member, None), &[]), (0, b"mine".to_vec()));
    assert_eq!(client.commit("dynamic", (1, &me.member, None), ("t", 0, 6), None), 0);
    assert_eq!(client.commit("dynamic", (-1, "", None), ("t", 0, 7), None), 25, "the group has a member");
    assert_eq!(client.committed("dynamic", "t", 0).1, 6);
    assert_eq!(client.join(Join { member: &me.member, ..consumer("dynamic") }).generation, 2);

    // The static member comes back under a new id, without a rebalance, and its older self is fenced.
    let back = client.join(fixed);
    assert_eq!((back.code, back.generation), (0, 1));
    assert_ne!(back.member, same.member);
    assert_eq!(client.sync("static", (1, &back.member, Some("i")), &[]), (0, b"mine".to_vec()));
    assert_eq!(client.heartbeat("static", (1, &same.member, Some("i"))), 82);

    let (serving, mut client) = killed((serving, client), dir.path());
    assert_eq!(client.heartbeat("static", (1, &back.member, Some("i"))), 0, "the take-over was journaled");
    assert_eq!(client.heartbeat("static", (1, &same.member, Some("i"))), 82);
    drop((serving, client));
}

#[test]
fn a_rebalance_that_a_kill_cuts_off_leaves_the_generation_before() {
    let dir = tempfile::tempdir().unwrap();
    let (serving, mut client) = serve(dir.path());
    let me = client.settle(consumer("g"));
    let again = client.join(Join { member: &me.member, ..consumer("g") });
    assert_eq!(again.generation, 2);
    let (serving, mut client) = killed((serving, client), dir.path());
    // The plan of generation 2 was never made: whoever was told of it joins again.
    assert_eq!(client.heartbeat("g", (2, &me.member, None)), 22);
    assert_eq!(client.sync("g", (2, &me.member, None), &[(&me.member, b"late")]).0, 22);
    assert_eq!(client.heartbeat("g", (1, &me.member, None)), 0);
    let next = client.join(Join { member: &me.member, ..consumer("g") });
    assert_eq!((next.code, next.generation), (0, 2));
    drop((serving, client));
}

#[test]
fn a_member_that_does_not_come_back_after_a_kill_is_out_after_its_session() {
    let dir = tempfile::tempdir().unwrap();
    let (serving, mut client) = serve(dir.path());
    let me = client.settle(Join { session_ms: 600, ..consumer("g") });
    let (serving, mut client) = killed((serving, client), dir.path());
    let started = Instant::now();
    assert_eq!(client.group_state("g"), "Stable", "it has a whole session to come back");
    while client.group_state("g") != "Empty" {
        assert!(started.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(started.elapsed() > Duration::from_millis(300), "{:?}", started.elapsed());
    assert_eq!(client.heartbeat("g", (1, &me.member, None)), 25);
    let next = client.join(consumer("g"));
    assert!(next.generation > 1, "generation {} was there before", next.generation);
    drop((serving, client));
}

#[test]
fn records_topics_and_starts_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let (serving, mut client) = serve(dir.path());
    for (topic, partitions) in [("t", 3), ("gone", 1), ("trimmed", 1)] {
        assert_eq!(client.create_partitioned(topic, partitions, &[("max.message.bytes", "500")]), 0);
    }
    let sent = batch(super::NOBODY, 3, b"v");
    for n in 0..30_i64 {
        assert_eq!(client.append("t", (n % 3) as i32, &sent), (0, n / 3 * 3));
        assert_eq!(client.append("trimmed", 0, &sent), (0, n * 3));
    }
    assert_eq!(client.delete_records("trimmed", 0, 40), (0, 40));
    assert_eq!(client.delete_topic("gone"), 0);
    let id = client.topic_id("t");

    let (serving, mut client) = killed((serving, client), dir.path());
    assert_eq!(client.topic_id("t"), id);
    for partition in 0..3 {
        let got = &client.fetch(AT_ONCE, &[from("t", partition, 0)])[0];
        let expected: Vec<_> = (0..10).map(|n| (n * 3, 3)).collect();
        assert_eq!((got.code, batches(&got.records)), (0, expected));
    }
    let got = &client.fetch(AT_ONCE, &[from("trimmed", 0, 40)])[0];
    assert_eq!((got.code, got.log_start, got.high_watermark), (0, 40, 90));
    assert_eq!(client.fetch(AT_ONCE, &[from("trimmed", 0, 39)])[0].code, 1);
    assert_eq!(client.fetch(AT_ONCE, &[from("gone", 0, 0)])[0].code, 3);
    assert_eq!(client.append("t", 0, &batch(super::NOBODY, 30, b"v")).0, 0);
    assert_eq!(client.append("t", 0, &batch(super::NOBODY, 60, b"long")).0, 10, "its config is kept");
    drop((serving, client));
}

#[test]
fn a_partition_that_was_only_looked_at_takes_its_first_record_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (serving, mut client) = serve(dir.path());
    assert_eq!(client.create_partitioned("t", 2, &[]), 0);
    assert_eq!(client.fetch(AT_ONCE, &[from("t", 0, 0)])[0].code, 0);
    serving.signal(Signal::TERM);
    assert_eq!(serving.end().0, Some(0));
    drop(client);
    let (serving, mut client) = serve(dir.path());
    for partition in 0..2 {
        assert_eq!(client.append("t", partition, &batch(super::NOBODY, 1, b"v")), (0, 0), "{partition}");
    }
    drop((serving, client));
}

#[test]
fn producers_are_known_after_a_kill_and_no_id_is_given_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut life = serve(dir.path());
    assert_eq!(life.1.create_topic("t", &[]), 0);
    let me = producer(&mut life.1);
    let mut ids = std::collections::BTreeSet::from([me.id]);
    for round in 0..3 {
        let client = &mut life.1;
        for n in round * 2..round * 2 + 2 {
            assert_eq!(client.append("t", 0, &batch(me.at(n), 1, b"v")), (0, i64::from(n)));
        }
        (0..3).for_each(|_| assert!(ids.insert(producer(client).id)));
        life = killed(life, dir.path());
        let client = &mut life.1;
        for n in (round * 2 - 3).max(0)..round * 2 + 2 {
            let again = client.append("t", 0, &batch(me.at(n), 1, b"v"));
            assert_eq!(again, (0, i64::from(n)), "round {round}: the last five are known");
        }
        assert_eq!(client.append("t", 0, &batch(me.at(100), 1, b"v")).0, 45);
    }
    let next = Producer { epoch: me.epoch + 1, ..me };
    assert_eq!(life.1.append("t", 0, &batch(next, 1, b"v")), (0, 6));
    life = killed(life, dir.path());
    assert_eq!(life.1.append("t", 0, &batch(me.at(6), 1, b"v")).0, 47, "fenced in the life before");
    assert_eq!(life.1.append("t", 0, &batch(next.at(1), 1, b"v")), (0, 7));
    drop(life);
}

#[test]
fn a_producer_goes_on_after_a_kill_though_its_records_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (serving, mut client) = serve(dir.path());
    assert_eq!(client.create_topic("t", &[]), 0);
    let me = producer(&mut client);
    assert_eq!(client.append("t", 0, &batch(me, 4, b"v")), (0, 0));
    assert_eq!(client.append("t", 0, &batch(super::NOBODY, 1, b"v")), (0, 4));
    assert_eq!(client.delete_records("t", 0, 4), (0, 4));
    let (serving, mut client) = killed((serving, client), dir.path());
    assert_eq!(client.append("t", 0, &batch(me, 4, b"v")), (0, 0), "a duplicate");
    assert_eq!(client.append("t", 0, &batch(me.at(5), 1, b"v")).0, 45);
    assert_eq!(client.append("t", 0, &batch(me.at(4), 1, b"v")), (0, 5));
    drop((serving, client));
}

/// The records here are of 1970, as those of a mirror or of an import are old.
#[test]
fn a_producer_of_old_records_is_still_known_two_lives_later() {
    let dir = tempfile::tempdir().unwrap();
    let (serving, mut client) = serve(dir.path());
    assert_eq!(client.create_topic("t", &[("retention.ms", "-1")]), 0);
    let me = producer(&mut client);
    assert_eq!(client.append("t", 0, &batch(me, 4, b"v")), (0, 0));
    let (serving, mut client) = killed((serving, client), dir.path());
    // This write is what the shutdown saves the partition's state for.
    assert_eq!(client.append("t", 0, &batch(super::NOBODY, 1, b"v")), (0, 4));
    serving.signal(Signal::TERM);
    assert_eq!(serving.end().0, Some(0));
    drop(client);
    let (serving, mut client) = serve(dir.path());
    assert_eq!(client.append("t", 0, &batch(me, 4, b"v")), (0, 0), "a duplicate");
    drop((serving, client));
}

/// OffsetForLeaderEpoch v3: error code, epoch, end offset.
fn epoch_end(client: &mut Client, topic: &str, current: i32, asked: i32) -> (i16, i32, i64) {
    let body = Out::new().i32(-2).i32(1).string(topic).i32(1).i32(0).i32(current).i32(asked);
    let mut answer = client.call(23, 3, &body);
    assert_eq!((answer.i32(), answer.i32(), answer.string(), answer.i32()), (0, 1, topic.to_owned(), 1));
    let code = answer.i16();
    assert_eq!(answer.i32(), 0);
    let found = (code, answer.i32(), answer.i64());
    answer.end();
    found
}

#[test]
fn the_leader_epoch_grows_at_a_kill_and_not_at_a_shutdown() {
    let dir = tempfile::tempdir().unwrap();
    let (serving, mut client) = serve(dir.path());
    assert_eq!(client.create_topic("t", &[]), 0);
    assert_eq!(client.append("t", 0, &batch(super::NOBODY, 2, b"v")), (0, 0));
    serving.signal(Signal::TERM);
    assert_eq!(serving.end().0, Some(0));
    drop(client);
    let (serving, mut client) = serve(dir.path());
    assert_eq!(epoch_end(&mut client, "t", 0, 0), (0, 0, 2));

    let (serving, mut client) = killed((serving, client), dir.path());
    assert_eq!(client.append("t", 0, &batch(super::NOBODY, 3, b"v")), (0, 2));
    let code = |client: &mut Client, leader_epoch| {
        client.fetch(AT_ONCE, &[Ask { leader_epoch, ..from("t", 0, 0) }])[0].code
    };
    assert_eq!((code(&mut client, 0), code(&mut client, 1), code(&mut client, 2)), (74, 0, 75));
    assert_eq!(epoch_end(&mut client, "t", 0, 0), (74, -1, -1));
    assert_eq!(epoch_end(&mut client, "t", 1, 0), (0, 0, 2));
    assert_eq!(epoch_end(&mut client, "t", 1, 1), (0, 1, 5));
    assert_eq!(epoch_end(&mut client, "t", -1, 7), (0, -1, -1));
    let records = client.fetch(AT_ONCE, &[from("t", 0, 0)]).remove(0).records;
    let second = records.len() - batch(super::NOBODY, 3, b"v").len();
    assert_eq!(
        (records[12..16].to_vec(), records[second + 12..second + 16].to_vec()),
        (vec![0; 4], vec![0, 0, 0, 1])
    );
    drop((serving, client));
}
