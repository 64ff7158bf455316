//! Every key that the start report calls *applied* changes what happens, and here is where that is shown.
//!
//! Owns: the table of proofs, the test that fails when a key has none, and the proofs of keys that no other file is about.
//! A key that nothing reads is a lie to whoever set it: it says *no effect*, in `config/keys/inert.rs`.
//! Deliberately absent: defaults and ranges (unit tests of `config`).

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use weir_broker::batch;
use weir_broker::batch::{Builder, Record};
use weir_broker::config::{Effect, KEYS};
use weir_broker::topic::config::KEYS as TOPIC_KEYS;

use super::membership::{Join, consumer, join_body, joined};
use super::subject::{house, stamped};
use super::{Client, House, NOBODY, Out};
use crate::cli::Serving;

/// Keys, the file of the test in which they change something, and its name. The test names each of its keys, unless it goes
/// through all of a kind.
const PROOFS: &[(&[&str], &str, &str)] = &[
    (&["admin.hosts"], "tests/it/admin/http.rs", "a_page_that_rebinds_its_name_reads_nothing"),
    (
        &["admin.queued.max.response.bytes"],
        "tests/it/admin/many.rs",
        "a_scrape_that_nobody_reads_holds_the_memory_of_the_next_one_where_that_is_bounded",
    ),
    (
        &["advertised.listeners", "listeners", "listener.security.protocol.map"],
        "tests/it/kafka/listeners.rs",
        "each_listener_tells_its_own_address_and_a_change_counts_at_once",
    ),
    (
        &["auto.create.topics.enable", "num.partitions"],
        HERE,
        "topics_come_by_themselves_with_as_many_partitions",
    ),
    (&["broker.id", "node.id", "broker.rack", "cluster.id"], HERE, "who_the_broker_is"),
    (&["compression.type"], HERE, "a_topic_stores_the_codec_that_it_was_told_to"),
    (&["compression.gzip.level", "compression.zstd.level"], HERE, "levels_of_a_codec_count"),
    (
        &["compression.validation"],
        "tests/it/kafka/hostile/compression.rs",
        "what_is_in_a_stream_is_looked_at_unless_a_broker_or_a_topic_says_frame",
    ),
    (
        &["connection.first.frame.timeout.ms", "connections.max.idle.ms"],
        "tests/it/kafka/limits.rs",
        "silence_and_stalled_frames_end_and_slow_ones_that_move_do_not",
    ),
    (
        &["connection.max.in.flight.requests"],
        "tests/it/kafka/limits.rs",
        "requests_above_the_number_in_flight_start_when_one_is_answered",
    ),
    (&["controller.listener.names"], HERE, "listeners_of_a_controller_are_not_bound"),
    (
        &["delete.topic.enable"],
        "src/kafka/api/admin_tests.rs",
        "topics_are_deleted_by_name_or_id_once_and_only_when_allowed",
    ),
    (&["fetch.max.bytes"], HERE, "a_fetch_answers_no_more_than_the_broker_allows"),
    (
        &["flush", "flush.interval.ms"],
        "src/broker/upkeep.rs",
        "who_waits_for_a_sync_and_who_makes_it_is_for_flush_to_say",
    ),
    (&["group.initial.rebalance.delay.ms"], HERE, "a_new_group_waits_for_more_members"),
    (
        &["group.min.session.timeout.ms", "group.max.session.timeout.ms", "group.max.size", "max.groups"],
        HERE,
        "groups_have_the_bounds_that_they_were_told",
    ),
    (
        &["kinesis.access.keys", "kinesis.auth"],
        "tests/it/kinesis/wire.rs",
        "a_strict_door_lets_nobody_in_who_signs_with_other_keys",
    ),
    (
        &["kinesis.account.id", "kinesis.quota.profile", "kinesis.shard.limit"],
        "tests/it/kinesis/limits.rs",
        "account_shards_and_limits_are_those_of_the_configuration",
    ),
    (
        &["kinesis.control.rates"],
        "tests/it/kinesis/limits.rs",
        "control_calls_have_rates_when_they_are_asked_for",
    ),
    (
        &["kinesis.create.delay.ms"],
        "tests/it/kinesis/limits.rs",
        "a_new_stream_is_creating_as_long_as_it_is_told_to",
    ),
    (&["log.dir", "log.dirs"], HERE, "the_data_directory_is_where_it_was_told_to_be"),
    (&["log.max.open.files"], HERE, "no_more_segment_files_are_open_than_allowed"),
    (
        &["log.retention.check.interval.ms", "retention.bytes", "retention.ms"],
        HERE,
        "retention_comes_as_often_as_it_was_told_to",
    ),
    (
        &["max.connection.creation.rate"],
        "tests/it/kafka/limits.rs",
        "connections_above_the_rate_are_accepted_later_and_none_is_lost",
    ),
    (
        &["max.connections", "max.connections.per.ip", "max.connections.per.ip.overrides"],
        "tests/it/kafka/limits.rs",
        "limits_of_connections_follow_a_change_at_once",
    ),
    (
        &["max.decompressed.bytes"],
        "tests/it/kafka/hostile/compression.rs",
        "the_cap_on_plain_records_is_the_configured_one",
    ),
    (
        &["max.partitions", "max.partitions.per.topic", "max.request.partition.size.limit"],
        HERE,
        "partitions_are_bounded_in_number_and_in_an_answer",
    ),
    (
        &["max.producer.ids.per.partition"],
        "src/broker/upkeep.rs",
        "producer_ids_are_bounded_where_no_checkpoint_comes",
    ),
    (
        &["producer.id.expiration.ms"],
        "src/broker/upkeep.rs",
        "an_altered_expiration_of_producer_ids_counts_from_the_next_checkpoint_on",
    ),
    (
        &["metrics.labels"],
        "tests/it/admin/names.rs",
        "every_name_that_a_published_dashboard_asks_for_is_there_with_the_labels_that_it_selects_by",
    ),
    (
        &["offset.metadata.max.bytes", "offsets.topic.num.partitions", "offsets.topic.segment.bytes"],
        HERE,
        "commits_and_their_journal_are_as_told",
    ),
    (
        &["offsets.retention.check.interval.ms", "offsets.retention.minutes"],
        "tests/it/kafka/offsets.rs",
        "offsets_expire_after_their_retention_and_the_group_with_them",
    ),
    (
        &["queued.max.response.bytes"],
        "tests/it/kafka/limits.rs",
        "clients_that_do_not_read_hold_no_more_than_is_allowed_and_the_others_are_served",
    ),
    (&["group.state.max.bytes"], HERE, "groups_hold_no_more_memory_than_they_may"),
    (
        &["kinesis.allowed.origins"],
        "tests/it/kinesis/signed.rs",
        "pages_of_origins_that_are_allowed_are_served_and_others_are_not",
    ),
    (
        &["kinesis.queued.max.request.bytes"],
        "tests/it/kinesis/memory.rs",
        "bodies_that_do_not_come_on_shut_nobody_out",
    ),
    (
        &["kinesis.queued.max.response.bytes"],
        "tests/it/kinesis/memory.rs",
        "many_connections_that_read_nothing_hold_no_more_than_all_may_and_give_way",
    ),
    (&["connection.max.queued.response.bytes"], HERE, "who_does_not_read_is_not_answered_beyond_a_limit"),
    (
        &["queued.max.request.bytes"],
        "tests/it/kafka/limits.rs",
        "more_large_requests_than_memory_are_all_answered",
    ),
    (
        &[
            "shard.ondemand.max.shards",
            "shard.ondemand.merge.bytes.per.second",
            "shard.ondemand.min.shards",
            "shard.ondemand.split.bytes.per.second",
            "shard.ondemand.window.ms",
        ],
        "src/broker/ondemand.rs",
        "what_is_hot_cold_few_and_many_is_for_the_configuration_to_say",
    ),
    (
        &["shard.quota.profile"],
        "src/topic/config.rs",
        "the_profile_gives_a_shard_the_limits_of_kinesis_and_a_topic_may_differ",
    ),
    (
        &["socket.listen.backlog.size", "socket.receive.buffer.bytes", "socket.send.buffer.bytes"],
        "src/listen/mod.rs",
        "a_socket_has_the_buffers_and_the_queue_that_it_was_told_to",
    ),
    (&["socket.request.max.bytes"], HERE, "a_request_above_the_limit_ends_its_connection"),
    // Topics.
    (&["cleanup.policy"], HERE, "a_compacted_topic_wants_keys_and_keeps_everything"),
    (&["index.interval.bytes"], HERE, "an_index_is_as_dense_as_it_was_told_to_be"),
    (&["max.message.bytes"], "tests/it/kafka/produce.rs", "a_batch_above_max_message_bytes_is_10"),
    (
        &["message.timestamp.before.max.ms", "message.timestamp.after.max.ms"],
        HERE,
        "timestamps_out_of_bounds_are_refused",
    ),
    (
        &["message.timestamp.type"],
        "tests/it/kafka/produce.rs",
        "log_append_time_is_told_and_create_time_is_not",
    ),
    (&["segment.bytes"], "tests/it/kafka/fetch.rs", "reading_goes_on_across_segments_while_they_roll"),
    (&["segment.ms"], HERE, "a_segment_is_rolled_when_it_is_old"),
    (
        &["segment.jitter.ms"],
        "src/topic/partition_tests.rs",
        "jitter_takes_a_part_off_segment_ms_that_differs_between_partitions",
    ),
    (
        &["shard.mode"],
        "src/broker/ondemand.rs",
        "a_hot_stream_grows_a_cold_one_shrinks_and_a_provisioned_one_stays",
    ),
    (
        &["shard.quota.mode"],
        "tests/it/kafka/shards.rs",
        "reject_answers_with_what_clients_retry_and_moves_no_sequence",
    ),
    (
        &["shard.read.bytes.per.second", "shard.read.calls.per.second"],
        "src/broker/shards/tests.rs",
        "reads_are_limited_by_calls_and_by_bytes_and_each_fan_out_reader_by_its_own",
    ),
    (
        &["shard.write.bytes.per.second", "shard.write.records.per.second"],
        "src/broker/shards/tests.rs",
        "records_over_the_limit_are_refused_one_by_one_and_the_rest_is_stored",
    ),
];

/// Keys that are read, and whose proof is still to be written. This list only shrinks.
const OWED: &[&str] = &[];

const HERE: &str = "tests/it/kafka/keys.rs";

/// Broker keys that are nothing but the default of a topic key are proved together, for all of them, by
/// `every_broker_key_changes_what_it_is_the_default_of` in `src/topic/config.rs`.
fn is_a_default(name: &str) -> bool {
    TOPIC_KEYS
        .iter()
        .any(|key| key.effect == Effect::Applied && key.broker_keys.iter().any(|(broker, _)| *broker == name))
}

#[test]
fn every_key_that_is_applied_names_the_test_in_which_it_changes_something() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut proved = BTreeSet::new();
    for (keys, file, test) in PROOFS {
        let source = std::fs::read_to_string(root.join(file)).unwrap();
        let begin = source.find(&format!("fn {test}()")).unwrap_or_else(|| panic!("{file} has no {test}"));
        // To the brace that ends a function at the test's own depth.
        let depth = source[..begin].lines().last().map_or(0, |line| line.len() - line.trim_start().len());
        let end = format!("\n{}}}\n", " ".repeat(depth));
        let body = &source[begin..][..source[begin..].find(&end).unwrap()];
        for key in *keys {
            // By itself, or by a constant of its file.
            let named = source.split("const ").find(|rest| {
                rest.lines().next().is_some_and(|line| line.ends_with(&format!("= \"{key}\";")))
            });
            let named = named.and_then(|rest| rest.split(':').next());
            assert!(
                body.contains(key) || named.is_some_and(|name| body.contains(name)),
                "{test} says nothing of {key}"
            );
            assert!(proved.insert(*key), "{key} is proved twice");
        }
    }
    let broker = KEYS.iter().copied().flatten().filter(|key| key.effect == Effect::Applied);
    let topic = TOPIC_KEYS.iter().filter(|key| key.effect == Effect::Applied).map(|key| key.name);
    let applied: BTreeSet<_> =
        broker.map(|key| key.name).filter(|name| !is_a_default(name)).chain(topic).collect();
    let wanted: Vec<_> = applied.difference(&proved).filter(|key| !OWED.contains(key)).collect();
    assert!(wanted.is_empty(), "applied, and no test shows it: {wanted:?}");
    assert!(OWED.iter().all(|key| applied.contains(key) && !proved.contains(key)), "{OWED:?}");
    let stray: Vec<_> = proved.iter().filter(|key| !applied.contains(*key) && !is_a_default(key)).collect();
    assert!(stray.is_empty(), "no such key is applied: {stray:?}");
}

/// Metadata v4 of one topic: broker id, its rack, the cluster's id, the topic's code and how many partitions it has.
fn metadata(client: &mut Client, topic: &str) -> (i32, String, String, i16, i32) {
    let mut answer = client.call(3, 4, &Out::new().i32(1).string(topic).i8(1));
    assert_eq!((answer.i32(), answer.i32()), (0, 1));
    let id = answer.i32();
    let _skipped = (answer.string(), answer.i32());
    let (rack, cluster) = (answer.string(), answer.string());
    let _skipped = (answer.i32(), answer.i32());
    let code = answer.i16();
    let _skipped = (answer.string(), answer.i8());
    (id, rack, cluster, code, answer.i32())
}

fn create(client: &mut Client, configs: &[(&str, &str)]) {
    assert_eq!(client.create_topic("t", configs), 0);
}

/// One batch with one record of that many bytes, all alike.
fn large(bytes: usize) -> Vec<u8> {
    let mut builder = Builder::new();
    let value = Some(vec![7; bytes].into());
    builder.push(Record { timestamp_ms: 1, value, ..Record::default() });
    builder.build().unwrap().bytes().to_vec()
}

/// Waits for what happens in the background.
fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The files of the only topic with that ending, and their bytes, by name.
fn files(dir: &Path, ending: &str) -> Vec<(String, u64)> {
    let topics = std::fs::read_dir(dir.join("topics")).unwrap().map(|topic| topic.unwrap().path().join("0"));
    let mut found: Vec<_> = topics
        .flat_map(|partition| std::fs::read_dir(partition).unwrap())
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().map_or(0, |m| m.len())))
        .filter(|(name, _)| name.ends_with(ending))
        .collect();
    found.sort();
    found
}

#[test]
fn topics_come_by_themselves_with_as_many_partitions() {
    let open = house(&[("num.partitions", "3")]);
    assert_eq!((metadata(&mut open.client(), "t").3, metadata(&mut open.client(), "t").4), (0, 3));
    let shut = house(&[("auto.create.topics.enable", "false")]);
    assert_eq!(metadata(&mut shut.client(), "t").3, 3);
    open.shutdown();
    shut.shutdown();
}

#[test]
fn who_the_broker_is() {
    let house = house(&[("node.id", "7"), ("broker.rack", "r1"), ("cluster.id", "AAAAAAAAAAAAAAAAAAAAAQ")]);
    let told = metadata(&mut house.client(), "t");
    assert_eq!((told.0, told.1, told.2), (7, "r1".into(), "AAAAAAAAAAAAAAAAAAAAAQ".into()));
    house.shutdown();
    let old = super::subject::house(&[("broker.id", "9")]);
    assert_eq!(metadata(&mut old.client(), "t").0, 9);
    old.shutdown();
}

/// The stored batch of a topic: its codec and its bytes.
fn stored(client: &mut Client) -> (i16, usize) {
    let asked = super::subject::from("t", 0, 0);
    let got = client.fetch(super::subject::AT_ONCE, &[asked]);
    assert_eq!(got[0].code, 0);
    let records = &got[0].records;
    let whole = batch::Batch::stored(records.clone().into()).unwrap();
    let (_, section) = whole.clone().check_deep(1 << 30).unwrap();
    assert!(section.windows(1_000).any(|bytes| bytes.iter().all(|byte| *byte == 7)), "not what was sent");
    (whole.header().attributes & 7, records.len())
}

#[test]
fn a_topic_stores_the_codec_that_it_was_told_to() {
    let codecs = [("uncompressed", 0), ("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4)];
    let sent: Vec<_> = {
        let plain = batch::Batch::check(large(100_000).into(), batch::Rules::default()).unwrap();
        [batch::Codec::None, batch::Codec::Lz4, batch::Codec::Zstd]
            .map(|codec| plain.clone().recode(codec, None, 1 << 30).unwrap().bytes().to_vec())
            .into()
    };
    for (name, number) in codecs {
        for sent in &sent {
            let house = super::subject::house(&[]);
            let mut client = house.client();
            create(&mut client, &[("compression.type", name)]);
            assert_eq!(client.produce("t", -1, sent).0, 0);
            assert_eq!(stored(&mut client).0, number, "{name}");
            house.shutdown();
        }
    }
    // As it came, unless somebody says otherwise; and the broker's default counts.
    for (settings, number) in [(&[][..], 4), (&[("compression.type", "gzip")], 1)] {
        let house = super::subject::house(settings);
        let mut client = house.client();
        create(&mut client, &[]);
        assert_eq!(client.produce("t", -1, &sent[2]).0, 0);
        assert_eq!(stored(&mut client).0, number);
        house.shutdown();
    }
}

#[test]
fn levels_of_a_codec_count() {
    for (codec, key, low, high) in
        [("gzip", "compression.gzip.level", "1", "9"), ("zstd", "compression.zstd.level", "-1000", "19")]
    {
        let bytes = |level| {
            let house = house(&[]);
            let mut client = house.client();
            create(&mut client, &[("compression.type", codec), (key, level)]);
            let mut value = vec![7; 1_000];
            // Words in no order: there is something to look for.
            let mut state = 1_u32;
            while value.len() < 500_000 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                value.extend_from_slice(format!("word{} ", state >> 25).as_bytes());
            }
            let mut builder = Builder::new();
            builder.push(Record { timestamp_ms: 1, value: Some(value.into()), ..Record::default() });
            assert_eq!(client.produce("t", -1, builder.build().unwrap().bytes()).0, 0);
            let stored = stored(&mut client).1;
            house.shutdown();
            stored
        };
        assert!(bytes(high) < bytes(low), "{codec}");
    }
}

#[test]
fn listeners_of_a_controller_are_not_bound() {
    let house = house(&[
        ("listeners", "A://127.0.0.1:0,QUORUM://127.0.0.1:0"),
        ("listener.security.protocol.map", "A:PLAINTEXT,QUORUM:PLAINTEXT"),
        ("controller.listener.names", "QUORUM"),
    ]);
    assert_eq!(house.broker.kafka_addrs().len(), 1);
    house.shutdown();
}

#[test]
fn a_fetch_answers_no_more_than_the_broker_allows() {
    for (settings, batches) in [(&[][..], 3), (&[("fetch.max.bytes", "1024")], 1)] {
        let house = super::subject::house(settings);
        let mut client = house.client();
        create(&mut client, &[]);
        for _ in 0..3 {
            assert_eq!(client.produce("t", -1, &large(900)).0, 0);
        }
        let got = client.fetch(super::subject::AT_ONCE, &[super::subject::from("t", 0, 0)]);
        assert_eq!(super::subject::batches(&got[0].records).len(), batches);
        house.shutdown();
    }
}

#[test]
fn a_new_group_waits_for_more_members() {
    let house = house(&[("group.initial.rebalance.delay.ms", "3000")]);
    let (mut one, mut other) = (house.client(), house.client());
    // v3 members are given their ids at once.
    let body = join_body(3, consumer("g"));
    one.send(11, 3, &body);
    other.send(11, 3, &body);
    let both = [joined(3, one.receive().1), joined(3, other.receive().1)];
    assert_eq!(both.each_ref().map(|j| (j.code, j.generation)), [(0, 1); 2]);
    assert_eq!(both.iter().map(|j| j.members.len()).sum::<usize>(), 2, "one leader saw both");
    house.shutdown();
}

#[test]
fn groups_have_the_bounds_that_they_were_told() {
    let house = house(&[
        ("group.min.session.timeout.ms", "9000"),
        ("group.max.session.timeout.ms", "11000"),
        ("group.max.size", "1"),
        ("max.groups", "1"),
    ]);
    let mut client = house.client();
    for session_ms in [8_999, 11_001] {
        assert_eq!(client.join(Join { session_ms, ..consumer("g") }).code, 26, "{session_ms}");
    }
    assert_eq!(client.join(consumer("g")).code, 0);
    assert_eq!(client.join(consumer("g")).code, 81, "a second member");
    assert_eq!(client.join(consumer("h")).code, 81, "a second group");
    house.shutdown();
}

#[test]
fn groups_hold_no_more_memory_than_they_may() {
    for (settings, is_bounded) in [(&[][..], false), (&[("group.state.max.bytes", "1048576")], true)] {
        let house = super::subject::house(settings);
        let mut client = house.client();
        let large = vec![0; 50_000];
        let metadata = [("range", &large[..])];
        let codes: BTreeSet<_> = (0..60)
            .map(|n| {
                let group = format!("g{n}");
                let join = Join { protocols: &metadata, ..consumer(&group) };
                joined(3, client.call(11, 3, &join_body(3, join))).code
            })
            .collect();
        assert_eq!(codes.len() > 1, is_bounded, "{codes:?}");
        house.shutdown();
    }
}

#[test]
fn the_data_directory_is_where_it_was_told_to_be() {
    for key in ["log.dirs", "log.dir"] {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let broker =
            Serving::start(&["serve", "--listen", "127.0.0.1:0", "-X", &format!("{key}={}", data.display())]);
        Client::connect(broker.address().parse().unwrap()).create_topic("t", &[]);
        assert!(data.join("lock").exists(), "{key}");
    }
}

#[test]
fn no_more_segment_files_are_open_than_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let broker = Serving::quiet(&[
        "serve",
        "--data-dir",
        data,
        "--listen",
        "127.0.0.1:0",
        "-X",
        "log.max.open.files=16",
    ]);
    let mut client = Client::connect(broker.address().parse().unwrap());
    assert_eq!(client.create_partitioned("t", 60, &[]), 0);
    for partition in 0..60 {
        assert_eq!(client.append("t", partition, &super::batch(NOBODY, 1, b"v")), (0, 0));
    }
    let open = || {
        let links = std::fs::read_dir(format!("/proc/{}/fd", broker.id())).unwrap();
        let targets = links.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
        targets.filter(|target| target.extension().is_some_and(|ending| ending == "log")).count()
    };
    // Who is syncing a file holds it a little longer.
    wait("too many files stay open", || (1..=16).contains(&open()));
}

#[test]
fn retention_comes_as_often_as_it_was_told_to() {
    for limit in [("retention.bytes", "0"), ("retention.ms", "1")] {
        let house = house(&[("log.retention.check.interval.ms", "20")]);
        let mut client = house.client();
        create(&mut client, &[limit]);
        assert_eq!(client.produce("t", -1, &super::batch(NOBODY, 3, b"v")).0, 0);
        wait("nothing was removed", || client.list_offset("t", -2) == (0, 3));
        house.shutdown();
    }
}

#[test]
fn partitions_are_bounded_in_number_and_in_an_answer() {
    let house = house(&[
        ("max.partitions", "4"),
        ("max.partitions.per.topic", "3"),
        ("max.request.partition.size.limit", "2"),
        ("offsets.topic.num.partitions", "2"),
    ]);
    let mut client = house.client();
    assert_eq!(client.create_partitioned("a", 4, &[]), 37);
    assert_eq!(client.create_partitioned("a", 3, &[]), 0);
    assert_eq!(client.create_partitioned("b", 2, &[]), 44);
    assert_eq!(client.create_partitioned("b", 1, &[]), 0);
    assert_eq!(client.commit("g", (-1, "", None), ("a", 0, 1), None), 0, "the journal does not count");
    assert_eq!(client.create_partitioned("c", 1, &[]), 44);
    let body = Out::new().count(1).text("a").tags().i32(10).i8(-1).tags();
    let mut answer = client.call_flexible(75, 0, &body);
    assert_eq!((answer.i32(), answer.count(), answer.i16(), answer.text()), (0, 1, 0, "a".to_owned()));
    answer.take(16);
    answer.i8();
    assert_eq!(answer.count(), 2);
    house.shutdown();
}

#[test]
fn commits_and_their_journal_are_as_told() {
    let house = house(&[
        ("offset.metadata.max.bytes", "4"),
        ("offsets.topic.num.partitions", "3"),
        ("offsets.topic.segment.bytes", "2000000"),
    ]);
    let mut client = house.client();
    create(&mut client, &[]);
    let mut commit = |metadata| client.commit("g", (-1, "", None), ("t", 0, 1), Some(metadata));
    assert_eq!((commit("1234"), commit("12345")), (0, 12));
    assert_eq!(metadata(&mut client, "__consumer_offsets").4, 3);
    let asked = Out::new().i32(1).i8(2).string("__consumer_offsets").i32(1).string("segment.bytes").i8(0);
    let mut answer = client.call(32, 1, &asked);
    let _skipped = (answer.i32(), answer.i32(), answer.i16(), answer.string(), answer.i8(), answer.string());
    assert_eq!(
        (answer.i32(), answer.string(), answer.string()),
        (1, "segment.bytes".into(), "2000000".into())
    );
    house.shutdown();
}

#[test]
fn who_does_not_read_is_not_answered_beyond_a_limit() {
    for (limit, answered) in [("10000000", true), ("100000", false)] {
        let house = house(&[
            ("connection.max.queued.response.bytes", limit),
            // What the system keeps on its way does not count.
            ("socket.send.buffer.bytes", "10000"),
        ]);
        let (mut client, mut other) = (house.client(), house.client());
        create(&mut client, &[]);
        assert_eq!(client.produce("t", 1, &large(900_000)).0, 0);
        let fetch = super::subject::fetch_body(super::subject::AT_ONCE, &[super::subject::from("t", 0, 0)]);
        for _ in 0..8 {
            client.send(1, 11, &fetch);
        }
        client.send(0, 7, &super::produce_body("t", 1, &super::batch(NOBODY, 1, b"v")));
        if answered {
            wait("it was not answered", || other.list_offset("t", -1) == (0, 2));
        } else {
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!(other.list_offset("t", -1), (0, 1), "{limit}");
        }
        for _ in 0..9 {
            client.receive();
        }
        assert_eq!(other.list_offset("t", -1), (0, 2));
        house.shutdown();
    }
}

#[test]
fn a_request_above_the_limit_ends_its_connection() {
    let house = house(&[("socket.request.max.bytes", "1000")]);
    let mut client = house.client();
    create(&mut client, &[]);
    client.send(0, 7, &super::produce_body("t", -1, &large(2_000)));
    // With the rest unread, the end may come as a reset.
    let end = std::io::Read::read(&mut client.stream, &mut [0]).map_err(|error| error.kind());
    assert!(matches!(end, Ok(0) | Err(std::io::ErrorKind::ConnectionReset)), "{end:?}");
    house.shutdown();
}

#[test]
fn a_compacted_topic_wants_keys_and_keeps_everything() {
    let house = house(&[("log.retention.check.interval.ms", "20")]);
    let mut client = house.client();
    let limits = [("retention.ms", "1"), ("retention.bytes", "0")];
    create(&mut client, &[&[("cleanup.policy", "compact")], &limits[..]].concat());
    assert_eq!(client.produce("t", -1, &super::batch(NOBODY, 1, b"v")).0, 87);
    let mut builder = Builder::new();
    builder.push(Record {
        timestamp_ms: 1,
        key: Some("k".into()),
        value: Some("v".into()),
        ..Record::default()
    });
    let keyed = builder.build().unwrap();
    assert_eq!(client.produce("t", -1, keyed.bytes()).0, 0);
    // Another topic shows that retention was there.
    assert_eq!(client.create_topic("other", &limits), 0);
    assert_eq!(client.produce("other", -1, keyed.bytes()).0, 0);
    wait("nothing was removed", || client.list_offset("other", -2) == (0, 1));
    assert_eq!(client.list_offset("t", -2), (0, 0));
    house.shutdown();
}

/// A topic on disk with two segments of 1 MiB.
fn two_segments(dir: &Path, configs: &[(&str, &str)]) -> House {
    let house = House::kept(dir);
    let mut client = house.client();
    create(&mut client, &[configs, &[("segment.bytes", "1048576")]].concat());
    for _ in 0..150 {
        assert_eq!(client.produce("t", 1, &large(10_000)).0, 0);
    }
    house
}

#[test]
fn an_index_is_as_dense_as_it_was_told_to_be() {
    let bytes = |interval| {
        let dir = tempfile::tempdir().unwrap();
        let house = two_segments(dir.path(), &[("index.interval.bytes", interval)]);
        wait("no index was written", || !files(dir.path(), ".index").is_empty());
        let bytes = files(dir.path(), ".index")[0].1;
        house.shutdown();
        bytes
    };
    assert!(bytes("4096") > bytes("1000000"));
}

#[test]
fn a_segment_is_rolled_when_it_is_old() {
    for (segment_ms, segments) in [("1", 2), ("600000", 1)] {
        let dir = tempfile::tempdir().unwrap();
        let house = House::kept(dir.path());
        let mut client = house.client();
        create(&mut client, &[("segment.ms", segment_ms)]);
        for _ in 0..2 {
            assert_eq!(client.produce("t", -1, &super::batch(NOBODY, 1, b"v")).0, 0);
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(files(dir.path(), ".log").len(), segments);
        house.shutdown();
    }
}

#[test]
fn timestamps_out_of_bounds_are_refused() {
    let house = house(&[]);
    let mut client = house.client();
    create(
        &mut client,
        &[("message.timestamp.before.max.ms", "60000"), ("message.timestamp.after.max.ms", "60000")],
    );
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let now = i64::try_from(now).unwrap();
    for (timestamp, code) in [(now, 0), (now - 120_000, 32), (now + 120_000, 32), (-1, 0)] {
        assert_eq!(client.produce("t", -1, &stamped(NOBODY, &[timestamp])).0, code, "{}", timestamp - now);
    }
    house.shutdown();
}
