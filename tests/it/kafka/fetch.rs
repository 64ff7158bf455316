//! What a reader gets, and when.
//!
//! Every expectation here holds on Apache Kafka 4.3.1 as well (`subject.rs` says how to see it), but where it
//! says so.

use std::time::{Duration, Instant};

use super::subject::{AT_ONCE, Ask, Got, Limits, Subject, batches, fetch_body, fetched, from};
use super::{Client, NOBODY, Out, batch};

/// Longer than any test waits in vain.
const LONG: Limits = Limits { wait_ms: 8_000, min_bytes: 1, max_bytes: 1 << 20 };
/// Far less than `LONG`: what came within it was woken.
const SOON: Duration = Duration::from_secs(3);

fn only(mut all: Vec<Got>) -> Got {
    assert_eq!(all.len(), 1);
    all.remove(0)
}

#[test]
fn an_append_wakes_a_waiting_fetch() {
    let subject = Subject::start();
    let (mut reader, mut writer) = (subject.client(), subject.client());
    let topic = subject.topic(&mut writer, 1, &[]);
    let started = Instant::now();
    reader.send(1, 11, &fetch_body(LONG, &[from(&topic, 0, 0)]));
    std::thread::sleep(Duration::from_millis(200));
    writer.append(&topic, 0, &batch(NOBODY, 3, b"v"));
    let got = only(fetched(reader.receive().1));
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    assert_eq!((got.code, got.high_watermark, batches(&got.records)), (0, 3, vec![(0, 3)]));
    subject.end();
}

#[test]
fn a_hundred_waiting_fetches_are_all_woken_by_one_append() {
    let subject = Subject::start();
    let mut writer = subject.client();
    let topic = subject.topic(&mut writer, 1, &[]);
    let mut readers: Vec<Client> = (0..100).map(|_| subject.client()).collect();
    let started = Instant::now();
    for reader in &mut readers {
        reader.send(1, 11, &fetch_body(LONG, &[from(&topic, 0, 0)]));
    }
    std::thread::sleep(Duration::from_millis(200));
    writer.append(&topic, 0, &batch(NOBODY, 1, b"v"));
    for reader in &mut readers {
        assert_eq!(batches(&only(fetched(reader.receive().1)).records), [(0, 1)]);
    }
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    subject.end();
}

#[test]
fn min_bytes_counts_over_all_partitions_and_a_wait_ends_when_they_are_there() {
    let subject = Subject::start();
    let (mut reader, mut writer) = (subject.client(), subject.client());
    let topic = subject.topic(&mut writer, 3, &[]);
    let one = batch(NOBODY, 1, b"v");
    let asks: Vec<Ask<'_>> = (0..3).map(|p| from(&topic, p, 0)).collect();
    let limits = Limits { min_bytes: 3 * one.len() as i32, ..LONG };
    let started = Instant::now();
    reader.send(1, 11, &fetch_body(limits, &asks));
    for partition in [0, 2] {
        writer.append(&topic, partition, &one);
    }
    std::thread::sleep(Duration::from_millis(300));
    // Two of three: not yet. The reader's socket stays silent.
    reader.stream.set_nonblocking(true).unwrap();
    assert!(reader.stream.peek(&mut [0]).is_err(), "answered before min_bytes");
    reader.stream.set_nonblocking(false).unwrap();
    writer.append(&topic, 1, &one);
    let all = fetched(reader.receive().1);
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    let mut found: Vec<_> = all.iter().map(|got| (got.partition, batches(&got.records))).collect();
    found.sort();
    assert_eq!(found, [(0, vec![(0, 1)]), (1, vec![(0, 1)]), (2, vec![(0, 1)])]);
    subject.end();
}

#[test]
fn a_wait_in_vain_ends_after_max_wait_without_records() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = subject.topic(&mut client, 1, &[]);
    client.append(&topic, 0, &batch(NOBODY, 2, b"v"));
    let started = Instant::now();
    let got = only(client.fetch(Limits { wait_ms: 400, ..LONG }, &[from(&topic, 0, 2)]));
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(390) && waited < SOON, "{waited:?}");
    assert_eq!((got.code, got.high_watermark, got.records.len()), (0, 2, 0));
    subject.end();
}

#[test]
fn what_is_there_comes_at_max_wait_though_it_is_less_than_min_bytes() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = subject.topic(&mut client, 1, &[]);
    client.append(&topic, 0, &batch(NOBODY, 2, b"v"));
    let limits = Limits { wait_ms: 400, min_bytes: 10_000, ..LONG };
    let started = Instant::now();
    let got = only(client.fetch(limits, &[from(&topic, 0, 0)]));
    assert!(started.elapsed() >= Duration::from_millis(390));
    assert_eq!(batches(&got.records), [(0, 2)]);
    subject.end();
}

#[test]
fn an_offset_inside_a_batch_brings_the_whole_batch() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = subject.topic(&mut client, 1, &[]);
    let sent = batch(NOBODY, 10, b"v");
    for base in [0, 10, 20] {
        assert_eq!(client.append(&topic, 0, &sent), (0, base));
    }
    for offset in 0..30 {
        let got = only(client.fetch(AT_ONCE, &[from(&topic, 0, offset)]));
        let base = offset / 10 * 10;
        let expected: Vec<_> = (base..30).step_by(10).map(|base| (base, 10)).collect();
        assert_eq!(batches(&got.records), expected, "from {offset}");
        // Byte for byte what was sent, but for the offset and the leader epoch in front of the CRC.
        assert_eq!(got.records[16..sent.len()], sent[16..]);
    }
    subject.end();
}

#[test]
fn the_first_batch_comes_whole_however_small_the_limits_are() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = subject.topic(&mut client, 2, &[]);
    let large = batch(NOBODY, 60, &[b'x'; 55]);
    for partition in 0..2 {
        client.append(&topic, partition, &large);
        client.append(&topic, partition, &large);
    }
    let asks = [0, 1].map(|p| Ask { max_bytes: 1, ..from(&topic, p, 0) });
    for max_bytes in [1, 1_000] {
        let all = client.fetch(Limits { max_bytes, ..AT_ONCE }, &asks);
        let sizes: Vec<usize> = all.iter().map(|got| got.records.len()).collect();
        assert_eq!(sizes, [large.len(), 0], "max_bytes {max_bytes}");
        assert_eq!(all[1].high_watermark, 120, "watermarks are told all the same");
    }
    subject.end();
}

#[test]
fn max_bytes_of_a_partition_and_of_the_whole_answer_hold() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = subject.topic(&mut client, 3, &[]);
    let one = batch(NOBODY, 1, &[b'x'; 50]);
    for partition in 0..3 {
        (0..10).for_each(|_| assert_eq!(client.append(&topic, partition, &one).0, 0));
    }
    let size = one.len() as i32;
    let of_partition = [0, 1, 2].map(|p| Ask { max_bytes: 3 * size, ..from(&topic, p, 0) });
    let sizes = |all: &[Got]| all.iter().map(|got| batches(&got.records).len()).collect::<Vec<_>>();
    // 3 per partition by its own limit; 7 over all by the other.
    assert_eq!(sizes(&client.fetch(AT_ONCE, &of_partition)), [3, 3, 3]);
    let limits = Limits { max_bytes: 7 * size, ..AT_ONCE };
    assert_eq!(sizes(&client.fetch(limits, &of_partition)), [3, 3, 1]);
    let open = [0, 1, 2].map(|p| from(&topic, p, 0));
    assert_eq!(sizes(&client.fetch(limits, &open)), [7, 0, 0]);
    subject.end();
}

#[test]
fn offsets_outside_the_log_are_1_and_the_end_itself_is_empty() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = subject.topic(&mut client, 1, &[]);
    client.append(&topic, 0, &batch(NOBODY, 5, b"v"));
    assert_eq!(only(client.fetch(AT_ONCE, &[from(&topic, 0, 5)])).code, 0);
    let started = Instant::now();
    for offset in [6, i64::MAX, -1, i64::MIN] {
        // An error does not wait.
        let got = only(client.fetch(LONG, &[from(&topic, 0, offset)]));
        let nothing = Got { partition: 0, code: 1, high_watermark: -1, log_start: -1, records: Vec::new() };
        assert_eq!(got, nothing, "offset {offset}");
    }
    assert!(started.elapsed() < SOON);
    subject.end();
}

#[test]
fn delete_records_moves_the_start_and_offsets_before_it_are_1() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = subject.topic(&mut client, 1, &[]);
    (0..3).for_each(|_| assert_eq!(client.append(&topic, 0, &batch(NOBODY, 10, b"v")).0, 0));
    assert_eq!(client.delete_records(&topic, 0, 15), (0, 15));
    assert_eq!(client.list_offset_of(&topic, 0, -2), (0, 15));
    assert_eq!(only(client.fetch(AT_ONCE, &[from(&topic, 0, 14)])).code, 1);
    let got = only(client.fetch(AT_ONCE, &[from(&topic, 0, 15)]));
    assert_eq!((got.code, got.high_watermark, got.log_start), (0, 30, 15));
    // The batch that the start lies in comes whole.
    assert_eq!(batches(&got.records), [(10, 10), (20, 10)]);
    // Never back, and never past the end; -1 is the end.
    assert_eq!(client.delete_records(&topic, 0, 5), (0, 15));
    assert_eq!(client.delete_records(&topic, 0, 31), (1, -1));
    assert_eq!(client.delete_records(&topic, 0, -1), (0, 30));
    assert_eq!(only(client.fetch(AT_ONCE, &[from(&topic, 0, 30)])).log_start, 30);
    assert_eq!(client.append(&topic, 0, &batch(NOBODY, 1, b"v")), (0, 30));
    subject.end();
}

#[test]
fn a_reader_in_an_older_leader_epoch_is_74_and_in_a_newer_one_75() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = subject.topic(&mut client, 1, &[]);
    client.append(&topic, 0, &batch(NOBODY, 1, b"v"));
    for (leader_epoch, code) in [(-1, 0), (0, 0), (1, 75), (i32::MAX, 75)] {
        let got = only(client.fetch(AT_ONCE, &[Ask { leader_epoch, ..from(&topic, 0, 0) }]));
        assert_eq!(got.code, code, "epoch {leader_epoch}");
    }
    subject.end();
}

/// Fetch v13 of one partition by topic id: error code and records.
fn fetch_by_id(client: &mut Client, id: &[u8; 16], limits: Limits, offset: i64) -> (i16, Vec<u8>) {
    let body = by_id_body(id, limits, offset);
    fetched_by_id(client.call_flexible(1, 13, &body), id)
}

fn by_id_body(id: &[u8; 16], limits: Limits, offset: i64) -> Out {
    let body = Out::new().i32(-1).i32(limits.wait_ms).i32(limits.min_bytes).i32(limits.max_bytes);
    let body = body.i8(0).i32(0).i32(-1).count(1).raw(id).count(1);
    let body = body.i32(0).i32(-1).i64(offset).i32(-1).i64(-1).i32(1 << 20).tags().tags();
    body.count(0).text("").tags()
}

fn fetched_by_id(mut answer: super::In, id: &[u8; 16]) -> (i16, Vec<u8>) {
    assert_eq!((answer.i32(), answer.i16(), answer.i32(), answer.count()), (0, 0, 0, 1));
    assert_eq!(answer.take(16), id);
    assert_eq!((answer.count(), answer.i32()), (1, 0));
    let code = answer.i16();
    answer.take(24);
    assert_eq!((answer.count(), answer.i32()), (0, -1));
    let records = answer.bytes();
    (0..3).for_each(|_| answer.tags());
    answer.end();
    (code, records)
}

#[test]
fn a_topic_is_read_by_its_id_and_an_unknown_id_is_100() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = subject.topic(&mut client, 1, &[]);
    client.append(&topic, 0, &batch(NOBODY, 2, b"v"));
    let id = client.topic_id(&topic);
    let (code, records) = fetch_by_id(&mut client, &id, AT_ONCE, 0);
    assert_eq!((code, batches(&records)), (0, vec![(0, 2)]));
    let started = Instant::now();
    assert_eq!(fetch_by_id(&mut client, &[7; 16], LONG, 0).0, 100);
    assert!(started.elapsed() < SOON, "an error does not wait");
    subject.end();
}

#[test]
fn a_topic_made_anew_is_another_topic_to_a_reader_by_id() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = subject.topic(&mut client, 1, &[]);
    let old = client.topic_id(&topic);
    assert_eq!(client.delete_topic(&topic), 0);
    if subject.is_weir() {
        assert_eq!(client.create_partitioned(&topic, 1, &[]), 0);
        let new = client.topic_id(&topic);
        assert_ne!(old, new);
        assert_eq!(fetch_by_id(&mut client, &new, AT_ONCE, 0).0, 0);
    }
    let until = Instant::now() + SOON;
    while fetch_by_id(&mut client, &old, AT_ONCE, 0).0 != 100 {
        assert!(!subject.is_weir() && Instant::now() < until);
    }
    subject.end();
}

/// Kafka waits for the partitions that exist; a client would learn of the others only then.
#[test]
fn an_unknown_topic_or_partition_is_3_and_keeps_nobody_waiting() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = subject.topic(&mut client, 1, &[]);
    let started = Instant::now();
    let all = client.fetch(LONG, &[from(&topic, 0, 0), from(&topic, 1, 0), from("nowhere-at-all", 0, 0)]);
    assert!(started.elapsed() < SOON || !subject.is_weir());
    let codes: Vec<_> = all.iter().map(|got| got.code).collect();
    assert_eq!(codes, [0, 3, 3]);
    subject.end();
}

#[test]
fn deleting_a_topic_wakes_who_waits_for_it() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = subject.topic(&mut client, 1, &[]);
    let id = client.topic_id(&topic);
    let (mut by_name, mut by_id) = (subject.client(), subject.client());
    let limits = LONG;
    let started = Instant::now();
    by_name.send(1, 11, &fetch_body(limits, &[from(&topic, 0, 0)]));
    by_id.send_flexible(1, 13, &by_id_body(&id, limits, 0));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(client.delete_topic(&topic), 0);
    let name_code = only(fetched(by_name.receive().1)).code;
    let mut answer = by_id.receive().1;
    answer.tags();
    let (id_code, _) = fetched_by_id(answer, &id);
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    assert_eq!((name_code, id_code), (3, 3));
    subject.end();
}

#[test]
fn reading_goes_on_across_segments_while_they_roll() {
    let subject = Subject::start();
    let (mut writer, mut reader) = (subject.client(), subject.client());
    let topic = subject.topic(&mut writer, 1, &[("segment.bytes", "1048576")]);
    let (large, small) = (batch(NOBODY, 63, &[b'x'; 55]), batch(NOBODY, 1, b"v"));
    // Five segments, in batches of 4 KiB and a few bytes.
    let count = 2_400;
    std::thread::scope(|scope| {
        let name = &topic;
        let writing = scope.spawn(move || {
            let send = |n| writer.append(name, 0, if n % 2 == 0 { &large } else { &small });
            (0..count).map(send).collect::<Vec<_>>()
        });
        let (mut read, mut next) = (Vec::new(), 0);
        while read.len() < count {
            let ask = Ask { max_bytes: 30_000, ..from(name, 0, next) };
            let got = only(reader.fetch(Limits { wait_ms: 1_000, ..LONG }, &[ask]));
            assert_eq!(got.code, 0);
            read.extend(batches(&got.records));
            next = read.last().map_or(0, |(base, count)| base + i64::from(*count));
        }
        let written: Vec<_> = writing.join().unwrap();
        assert_eq!(written, read.iter().map(|(base, _)| (0, *base)).collect::<Vec<_>>());
    });
    subject.end();
}

#[test]
fn fetch_sessions_that_nobody_has_are_70() {
    let subject = Subject::start();
    let mut client = subject.client();
    let body = Out::new().i32(-1).i32(0).i32(0).i32(1 << 20).i8(0).i32(12_345).i32(1).i32(0).i32(0);
    let mut answer = client.call(1, 7, &body);
    assert_eq!((answer.i32(), answer.i16(), answer.i32(), answer.i32()), (0, 70, 0, 0));
    answer.end();
    subject.end();
}

/// Requests behind a long poll wait for it: answers keep their order (KIP-219 clients rely on it).
#[test]
fn what_is_asked_after_a_long_poll_is_answered_after_it() {
    let subject = Subject::start();
    let (mut client, mut writer) = (subject.client(), subject.client());
    let topic = subject.topic(&mut writer, 1, &[]);
    let poll = client.send(1, 11, &fetch_body(LONG, &[from(&topic, 0, 0)]));
    let ask = client.send(18, 0, &Out::new());
    std::thread::sleep(Duration::from_millis(100));
    writer.append(&topic, 0, &batch(NOBODY, 1, b"v"));
    assert_eq!((client.receive().0, client.receive().0), (poll, ask));
    subject.end();
}
