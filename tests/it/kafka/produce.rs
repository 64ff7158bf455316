//! What a producer is told about what it sent.

use super::{House, NOBODY, Out, Producer, batch, crc32c, produce_body, produced};

fn producer_id(client: &mut super::Client) -> Producer {
    let mut answer = client.call(22, 1, &Out::new().i16(-1).i32(0));
    answer.i32();
    assert_eq!(answer.i16(), 0);
    Producer { id: answer.i64(), epoch: answer.i16(), sequence: 0 }
}

#[test]
fn acks_1_and_all_are_answered_and_acks_0_is_not() {
    let house = House::ephemeral();
    let mut client = house.client();
    assert_eq!(client.create_topic("t", &[]), 0);
    let records = batch(NOBODY, 2, b"v");
    client.send(0, 7, &produce_body("t", 0, &records));
    // The next answer on the wire is that of the next request: `call` checks its correlation id.
    assert_eq!(client.produce("t", 1, &records).1, 2);
    assert_eq!(client.produce("t", -1, &records).1, 4);
    assert_eq!(client.list_offset("t", -1), (0, 6));
    house.shutdown();
}

#[test]
fn requests_that_come_together_share_their_syncs_and_are_answered_in_order() {
    let house = House::ephemeral();
    let mut client = house.client();
    let topics = ["one", "two", "three"];
    topics.iter().for_each(|topic| assert_eq!(client.create_topic(topic, &[]), 0));
    let records = batch(NOBODY, 2, b"v");
    for round in 0..40 {
        // One log in even rounds, several at once in odd ones; acks=1 among acks=all.
        let sent: Vec<_> = (0..12)
            .map(|n| {
                let topic = topics[if round % 2 == 0 { 0 } else { n % 3 }];
                (client.send(0, 7, &produce_body(topic, if n % 4 == 3 { 1 } else { -1 }, &records)), topic)
            })
            .collect();
        for (id, topic) in sent {
            let (answered, mut answer) = client.receive();
            assert_eq!(answered, id);
            answer.i32();
            assert_eq!(answer.string(), topic);
            answer.i32();
            answer.i32();
            assert_eq!(answer.i16(), 0);
        }
    }
    let ends: i64 = topics.iter().map(|topic| client.list_offset(topic, -1).1).sum();
    assert_eq!(ends, 40 * 12 * 2);
    house.shutdown();
}

#[test]
fn a_duplicate_of_the_last_five_batches_gets_its_first_offset_and_appends_nothing() {
    let house = House::ephemeral();
    let mut client = house.client();
    assert_eq!(client.create_topic("t", &[]), 0);
    let producer = producer_id(&mut client);
    let at = |sequence| batch(Producer { sequence, ..producer }, 1, b"v");
    for sequence in 0..5 {
        assert_eq!(client.produce("t", -1, &at(sequence)).1, i64::from(sequence));
    }
    for sequence in 0..5 {
        let (code, offset, _) = client.produce("t", -1, &at(sequence));
        assert_eq!((code, offset), (0, i64::from(sequence)));
    }
    assert_eq!(client.list_offset("t", -1), (0, 5));
    house.shutdown();
}

#[test]
fn a_gap_in_the_sequence_is_45_and_an_unknown_producer_in_its_middle_is_appended() {
    let house = House::ephemeral();
    let mut client = house.client();
    assert_eq!(client.create_topic("t", &[]), 0);
    let producer = producer_id(&mut client);
    assert_eq!(client.produce("t", -1, &batch(producer, 1, b"v")).0, 0);
    let gap = batch(Producer { sequence: 2, ..producer }, 1, b"v");
    assert_eq!(client.produce("t", -1, &gap).0, 45);
    let unknown = producer_id(&mut client);
    let middle = batch(Producer { sequence: 5, ..unknown }, 1, b"v");
    assert_eq!(client.produce("t", -1, &middle).0, 0);
    assert_eq!(client.list_offset("t", -1), (0, 2));
    house.shutdown();
}

#[test]
fn a_batch_above_max_message_bytes_is_10() {
    let house = House::ephemeral();
    let mut client = house.client();
    assert_eq!(client.create_topic("t", &[("max.message.bytes", "100")]), 0);
    assert_eq!(client.produce("t", -1, &batch(NOBODY, 1, b"v")).0, 0);
    assert_eq!(client.produce("t", -1, &batch(NOBODY, 20, b"value")).0, 10);
    assert_eq!(client.list_offset("t", -1), (0, 1));
    house.shutdown();
}

#[test]
fn log_append_time_is_told_and_create_time_is_not() {
    let house = House::ephemeral();
    let mut client = house.client();
    assert_eq!(client.create_topic("a", &[("message.timestamp.type", "LogAppendTime")]), 0);
    assert_eq!(client.create_topic("c", &[]), 0);
    assert!(client.produce("a", -1, &batch(NOBODY, 1, b"v")).2 > 1_000);
    assert_eq!(client.produce("c", -1, &batch(NOBODY, 1, b"v")).2, -1);
    house.shutdown();
}

#[test]
fn answers_come_in_the_order_of_the_requests() {
    let house = House::ephemeral();
    let mut client = house.client();
    assert_eq!(client.create_topic("t", &[]), 0);
    let body = produce_body("t", -1, &batch(NOBODY, 1, b"v"));
    let sent: Vec<i32> = (0..200).map(|_| client.send(0, 7, &body)).collect();
    for (offset, id) in sent.into_iter().enumerate() {
        let (answered, answer) = client.receive();
        assert_eq!(answered, id);
        let (code, base, _) = produced(answer);
        assert_eq!((code, base), (0, offset as i64));
    }
    house.shutdown();
}

/// One record of that value, and what stands behind it, in zstd.
fn zstd(producer: Producer, value: &[u8], behind: &[u8]) -> Vec<u8> {
    let record = Out::new().raw(&[0, 0, 0, 1]).varint(value.len() * 2).raw(value).raw(&[0]).0;
    let records = Out::new().varint(record.len() * 2).raw(&record).raw(behind).0;
    let tail = Out::new().i16(4).i32(0).i64(1_000).i64(1_000).i64(producer.id).i16(producer.epoch);
    let tail = tail.i32(producer.sequence).i32(1).raw(&zstd::bulk::compress(&records, 1).unwrap()).0;
    let crc = crc32c(&tail);
    Out::new().i64(0).i32(tail.len() as i32 + 9).i32(-1).i8(2).raw(&crc.to_be_bytes()).raw(&tail).0
}

#[test]
fn batches_that_take_their_time_to_look_into_keep_their_place() {
    let house = House::ephemeral();
    let mut client = house.client();
    assert_eq!(client.create_topic("t", &[("max.message.bytes", "10000000")]), 0);
    let mut producer = producer_id(&mut client);
    // Of these every second one holds more than a worker decompresses.
    let large: Vec<u8> = (0..1_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 27) as u8).collect();
    for acks in [-1, 1] {
        let sent: Vec<_> = (0..10)
            .map(|n| {
                let value = if n % 2 == 0 { &b"small"[..] } else { &large[..] };
                let records = zstd(producer, value, &[]);
                producer.sequence += 1;
                client.send(0, 7, &produce_body("t", acks, &records))
            })
            .collect();
        for (id, offset) in sent.into_iter().zip(i64::from(producer.sequence) - 10..) {
            let (answered, answer) = client.receive();
            let (code, base_offset, _) = produced(answer);
            assert_eq!((answered, code, base_offset), (id, 0, offset), "acks={acks}");
        }
    }
    // What is wrong in a large one is refused from there, too.
    assert_eq!(client.produce("t", -1, &zstd(NOBODY, &large, b"x")).0, 87);
    assert_eq!(client.list_offset("t", -1), (0, 20));
    house.shutdown();
}
