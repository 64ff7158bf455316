//! Limits of shards as a Kafka client meets them: told to wait, held when it does not, never short of a record.

use std::thread;
use std::time::{Duration, Instant};

use super::{Client, House, In, NOBODY, Out, Producer, batch, produce_body};

/// A batch of about 3.5 KB.
fn large() -> Vec<u8> {
    batch(NOBODY, 60, &[b'v'; 50])
}

/// Error code, base offset and `throttle_time_ms` of a Produce v7 to one partition.
fn outcome(mut answer: In) -> (i16, i64, i32) {
    answer.i32();
    answer.string();
    answer.i32();
    answer.i32();
    let (code, offset) = (answer.i16(), answer.i64());
    answer.i64();
    answer.i64();
    (code, offset, answer.i32())
}

fn produce(client: &mut Client, topic: &str, records: &[u8]) -> (i16, i64, i32) {
    outcome(client.call(0, 7, &produce_body(topic, 1, records)))
}

fn create(client: &mut Client, partitions: i32, configs: &[(&str, &str)]) {
    let mut body = Out::new().i32(1).string("t").i32(partitions).i16(1).i32(0).i32(configs.len() as i32);
    for (key, value) in configs {
        body = body.string(key).string(value);
    }
    let mut answer = client.call(19, 2, &body.i32(5_000).i8(0));
    answer.i32();
    answer.i32();
    answer.string();
    assert_eq!(answer.i16(), 0);
}

/// IncrementalAlterConfigs v0 of topic `t`; the error code.
fn alter(client: &mut Client, key: &str, value: &str) -> i16 {
    let body = Out::new().i32(1).i8(2).string("t").i32(1).string(key).i8(0).string(value).i8(0);
    let mut answer = client.call(44, 0, &body);
    answer.i32();
    answer.i32();
    answer.i16()
}

/// Fetch v4 of partitions of `t`: `throttle_time_ms`, and bytes of records per partition.
fn fetch(client: &mut Client, wait_ms: i32, partitions: &[i32]) -> (i32, Vec<usize>) {
    let mut body = Out::new().i32(-1).i32(wait_ms).i32(1).i32(1 << 20).i8(0);
    body = body.i32(1).string("t").i32(partitions.len() as i32);
    for partition in partitions {
        body = body.i32(*partition).i64(0).i32(1 << 20);
    }
    let mut answer = client.call(1, 4, &body);
    let throttle_ms = answer.i32();
    assert_eq!(answer.i32(), 1);
    answer.string();
    let mut found = Vec::new();
    for _ in 0..answer.i32() {
        answer.i32();
        assert_eq!(answer.i16(), 0);
        answer.i64();
        answer.i64();
        answer.i32();
        found.push(answer.blob().len());
    }
    (throttle_ms, found)
}

#[test]
fn a_batch_over_the_limit_is_taken_and_its_connection_held_for_as_long_as_was_told() {
    let house = House::ephemeral();
    let (mut client, mut other) = (house.client(), house.client());
    create(&mut client, 1, &[("shard.write.bytes.per.second", "1500")]);
    let bytes = large().len();
    assert!((3_300..3_900).contains(&bytes), "{bytes}");
    let sent = Instant::now();
    let (code, offset, throttle_ms) = produce(&mut client, "t", &large());
    let told = (bytes as i32 - 1_500) * 1_000 / 1_500;
    assert_eq!((code, offset), (0, 0));
    assert!((told - 2..told + 2).contains(&throttle_ms), "{throttle_ms} for {told}");
    assert!(sent.elapsed() < Duration::from_millis(500), "answered at once");
    // Whoever does not send to that shard is not held.
    assert_eq!(other.list_offset("t", -1), (0, 60));
    assert_eq!(other.create_topic("free", &[]), 0);
    assert_eq!(produce(&mut other, "free", &large()), (0, 0, 0));
    assert!(sent.elapsed() < Duration::from_millis(500));
    // This client does not wait, so it is made to.
    assert_eq!(client.list_offset("t", -1), (0, 60));
    let held = sent.elapsed().as_millis() as i32;
    assert!((told - 50..told + 1_000).contains(&held), "{held} for {told}");
    house.shutdown();
}

#[test]
fn one_wait_is_five_seconds_at_most_and_the_rest_stays_owed() {
    let house = House::ephemeral();
    let mut client = house.client();
    create(&mut client, 1, &[("shard.write.records.per.second", "2")]);
    let sent = Instant::now();
    assert_eq!(produce(&mut client, "t", &large()), (0, 0, 5_000));
    // 60 records at 2 per second: 29 seconds of debt, of which 5 are over when the next one is read.
    assert_eq!(produce(&mut client, "t", &batch(NOBODY, 1, b"v")), (0, 60, 5_000));
    assert!((5..8).contains(&sent.elapsed().as_secs()), "{:?}", sent.elapsed());
    // Another connection cannot make the debt go away either.
    let mut other = house.client();
    assert_eq!(produce(&mut other, "t", &batch(NOBODY, 1, b"v")), (0, 61, 5_000));
    let stopping = Instant::now();
    house.shutdown();
    assert!(stopping.elapsed() < Duration::from_secs(2), "nobody waits for a client that is held");
}

#[test]
fn many_connections_that_never_wait_share_the_rate() {
    const CONNECTIONS: i64 = 8;
    const RATE: i64 = 600;
    let house = House::ephemeral();
    let mut client = house.client();
    create(&mut client, 1, &[("shard.write.records.per.second", "600")]);
    let begun = Instant::now();
    let senders: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let mut sender = house.client();
            thread::spawn(move || {
                let body = produce_body("t", 1, &large());
                // More than a read takes from the socket.
                for _ in 0..40 {
                    sender.send(0, 7, &body);
                }
                sender
            })
        })
        .collect();
    let senders: Vec<_> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
    let mut stored = |after_ms: u64| {
        thread::sleep(Duration::from_millis(after_ms).saturating_sub(begun.elapsed()));
        (client.list_offset("t", -1).1, begun.elapsed().as_millis() as i64)
    };
    // Nobody owed anything when a first read brought many requests in; from then on it is one each.
    let (first, from_ms) = stored(1_000);
    for at_ms in (1_500..=7_000).step_by(500) {
        let (records, now_ms) = stored(at_ms);
        let most = RATE * (now_ms - from_ms) / 1_000 + CONNECTIONS * 60;
        assert!(
            records - first <= most,
            "{} records, not {most}, in {} ms",
            records - first,
            now_ms - from_ms
        );
        let least = RATE / 2 + RATE * now_ms / 1_000;
        assert!(records >= least, "{records} records, not {least}: held for longer than they owe");
    }
    drop(senders);
    house.shutdown();
}

#[test]
fn a_client_that_never_waits_gets_the_rate_and_loses_nothing() {
    const COUNT: usize = 3_000;
    const RATE: usize = 2_000_000;
    let house = House::ephemeral();
    let mut client = house.client();
    create(&mut client, 1, &[("shard.write.bytes.per.second", "2000000")]);
    let mut sender = Client { stream: client.stream.try_clone().unwrap(), next: 0 };
    let begun = Instant::now();
    let sending = thread::spawn(move || {
        let body = produce_body("t", 1, &large());
        for _ in 0..COUNT {
            sender.send(0, 7, &body);
        }
    });
    let mut throttled = 0;
    let mut arrived = Vec::new();
    for n in 0..COUNT {
        let (code, offset, throttle_ms) = outcome(client.receive().1);
        assert_eq!((code, offset), (0, n as i64 * 60));
        throttled += usize::from(throttle_ms > 0);
        arrived.push(begun.elapsed().as_secs_f64());
    }
    sending.join().unwrap();
    assert!(throttled > COUNT / 2, "told {throttled} times");
    // A full bucket holds a second's worth; the rest comes at the rate.
    let total = COUNT * large().len();
    let expected = (total - RATE) as f64 / RATE as f64;
    let took = arrived[COUNT - 1];
    assert!((expected * 0.97..expected * 1.1).contains(&took), "{took} s for {expected}");
    // Never more than the bucket and the rate, and what a read of the socket may bring.
    for (n, at) in arrived.iter().enumerate() {
        let most = RATE as f64 * (1.0 + at) + 150_000.0;
        assert!(((n + 1) * large().len()) as f64 <= most, "{n} after {at} s");
    }
    house.shutdown();
}

#[test]
fn a_partition_over_its_read_limit_comes_back_empty_and_the_others_full() {
    let house = House::ephemeral();
    let mut client = house.client();
    create(&mut client, 2, &[("shard.read.bytes.per.second", "2000")]);
    for partition in [0, 1] {
        let records = large();
        let body =
            Out::new().i16(-1).i16(1).i32(5_000).i32(1).string("t").i32(1).i32(partition).blob(&records);
        assert_eq!(outcome(client.call(0, 7, &body)), (0, 0, 0));
    }
    let bytes = large().len();
    let owed = (bytes as i32 - 2_000) / 2;
    let begun = Instant::now();
    let (throttle_ms, found) = fetch(&mut client, 0, &[0]);
    assert_eq!(found, [bytes]);
    assert!((owed - 5..owed + 5).contains(&throttle_ms), "{throttle_ms} for {owed}");
    let (throttle_ms, found) = fetch(&mut client, 0, &[0, 1]);
    assert_eq!(found, [0, bytes]);
    assert!(throttle_ms > 0);
    // Nothing but what is over the limit: held until it may be read, though longer was allowed.
    let (_, found) = fetch(&mut client, 8_000, &[0]);
    assert_eq!(found, [bytes]);
    let held = begun.elapsed().as_millis() as i32;
    assert!((owed - 5..owed + 1_500).contains(&held), "{held} for {owed}");
    house.shutdown();
}

#[test]
fn reject_answers_with_what_clients_retry_and_moves_no_sequence() {
    let house = House::ephemeral();
    let mut client = house.client();
    create(&mut client, 1, &[("shard.write.records.per.second", "1"), ("shard.quota.mode", "reject")]);
    let mut id = client.call(22, 1, &Out::new().i16(-1).i32(0));
    id.i32();
    assert_eq!(id.i16(), 0);
    let producer = Producer { id: id.i64(), epoch: id.i16(), sequence: 0 };
    let at = |sequence| batch(Producer { sequence, ..producer }, 1, b"v");
    let begun = Instant::now();
    assert_eq!(produce(&mut client, "t", &at(0)), (0, 0, 0));
    for sequence in [1, 2] {
        assert_eq!(produce(&mut client, "t", &at(sequence)), (19, -1, 0), "NOT_ENOUGH_REPLICAS");
    }
    assert!(begun.elapsed() < Duration::from_millis(900), "nobody is held");
    thread::sleep(Duration::from_millis(1_050).saturating_sub(begun.elapsed()));
    assert_eq!(produce(&mut client, "t", &at(2)).0, 45, "a batch is missing before it");
    assert_eq!(produce(&mut client, "t", &at(1)), (0, 1, 0), "and the refused one took nothing");
    house.shutdown();
}

#[test]
fn limits_come_and_go_while_producers_run() {
    let house = House::ephemeral();
    let mut client = house.client();
    create(&mut client, 1, &[]);
    assert_eq!(produce(&mut client, "t", &large()), (0, 0, 0));
    for bad in ["0", "-2", "many"] {
        assert_eq!(alter(&mut client, "shard.write.records.per.second", bad), 40, "{bad}");
    }
    assert_eq!(alter(&mut client, "shard.quota.mode", "drop"), 40);
    assert_eq!(alter(&mut client, "shard.write.records.per.second", "50"), 0);
    let (code, offset, throttle_ms) = produce(&mut client, "t", &large());
    assert_eq!((code, offset), (0, 60));
    assert!((150..=201).contains(&throttle_ms), "{throttle_ms} for ten records too many");
    assert_eq!(alter(&mut client, "shard.write.records.per.second", "-1"), 0);
    assert_eq!(produce(&mut client, "t", &large()), (0, 120, 0));
    house.shutdown();
}

#[test]
fn more_partitions_are_there_at_once_and_the_old_one_goes_on() {
    let house = House::ephemeral();
    let mut client = house.client();
    create(&mut client, 1, &[]);
    assert_eq!(produce(&mut client, "t", &batch(NOBODY, 2, b"v")), (0, 0, 0));
    let mut answer = client.call(37, 0, &Out::new().i32(1).string("t").i32(3).i32(-1).i32(5_000).i8(0));
    answer.i32();
    answer.i32();
    answer.string();
    assert_eq!(answer.i16(), 0);
    assert_eq!(produce(&mut client, "t", &batch(NOBODY, 2, b"v")), (0, 2, 0));
    let records = batch(NOBODY, 1, b"v");
    let body = Out::new().i16(-1).i16(-1).i32(5_000).i32(1).string("t").i32(1).i32(2).blob(&records);
    assert_eq!(outcome(client.call(0, 7, &body)), (0, 0, 0));
    house.shutdown();
}
