//! An idempotent producer's batches are stored once and in order, whatever it sends twice.
//!
//! Every expectation here holds on Apache Kafka 4.3.1 as well (`subject.rs` says how to see it), but where it
//! says so. Deliberately absent: restarts (`restart.rs`).

use super::subject::{AT_ONCE, Subject, batches, from, stamped};
use super::{Client, Out, Producer, batch, produce_body, produced};

/// InitProducerId v1.
pub(super) fn producer(client: &mut Client) -> Producer {
    let mut answer = client.call(22, 1, &Out::new().i16(-1).i32(0));
    assert_eq!((answer.i32(), answer.i16()), (0, 0));
    Producer { id: answer.i64(), epoch: answer.i16(), sequence: 0 }
}

impl Producer {
    pub(super) fn at(self, sequence: i32) -> Self {
        Self { sequence, ..self }
    }
}

/// One record of now: Kafka forgets producers by the time of their records.
fn recent(me: Producer) -> Vec<u8> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    stamped(me, &[i64::try_from(now).unwrap()])
}

#[test]
fn the_last_five_batches_may_come_again_and_older_ones_may_not() {
    let subject = Subject::start();
    let mut client = subject.client();
    let (topic, me) = (subject.topic(&mut client, 1, &[]), producer(&mut client));
    for n in 0..6 {
        assert_eq!(client.append(&topic, 0, &batch(me.at(n * 3), 3, b"v")), (0, i64::from(n) * 3));
    }
    for n in 1..6 {
        assert_eq!(client.append(&topic, 0, &batch(me.at(n * 3), 3, b"v")), (0, i64::from(n) * 3));
    }
    assert_eq!(client.append(&topic, 0, &batch(me.at(0), 3, b"v")).0, 45, "the sixth is forgotten");
    // What overlaps a batch without being it is no duplicate.
    assert_eq!(client.append(&topic, 0, &batch(me.at(15), 2, b"v")).0, 45);
    assert_eq!(client.append(&topic, 0, &batch(me.at(16), 3, b"v")).0, 45);
    assert_eq!(client.list_offset_of(&topic, 0, -1), (0, 18));
    assert_eq!(client.append(&topic, 0, &batch(me.at(18), 1, b"v")), (0, 18));
    subject.end();
}

#[test]
fn a_gap_is_45_and_nothing_after_it_is_taken_until_it_is_filled() {
    let subject = Subject::start();
    let mut client = subject.client();
    let (topic, me) = (subject.topic(&mut client, 1, &[]), producer(&mut client));
    assert_eq!(client.append(&topic, 0, &batch(me, 1, b"v")), (0, 0));
    for sequence in [2, 3, 100, i32::MAX] {
        assert_eq!(client.append(&topic, 0, &batch(me.at(sequence), 1, b"v")).0, 45, "{sequence}");
    }
    for sequence in [1, 2, 3] {
        let appended = client.append(&topic, 0, &batch(me.at(sequence), 1, b"v"));
        assert_eq!(appended, (0, i64::from(sequence)));
    }
    subject.end();
}

#[test]
fn a_stranger_may_start_anywhere_and_goes_on_from_there() {
    let subject = Subject::start();
    let mut client = subject.client();
    let (topic, me) = (subject.topic(&mut client, 1, &[]), producer(&mut client));
    let me = Producer { epoch: 3, ..me };
    assert_eq!(client.append(&topic, 0, &recent(me.at(5))), (0, 0));
    assert_eq!(client.append(&topic, 0, &recent(me.at(5))), (0, 0), "a duplicate");
    for sequence in [0, 4, 7] {
        assert_eq!(client.append(&topic, 0, &recent(me.at(sequence))).0, 45, "{sequence}");
    }
    assert_eq!(client.append(&topic, 0, &recent(me.at(6))), (0, 1));
    assert_eq!(client.append(&topic, 0, &recent(Producer { epoch: 2, ..me }.at(7))).0, 47);
    assert_eq!(client.append(&topic, 0, &recent(Producer { epoch: 4, ..me }.at(7))).0, 45);
    subject.end();
}

/// The Java client retries a refusal (59) until the record's time is up, and drops it.
#[test]
fn a_topic_that_is_created_anew_under_a_living_producer_takes_what_comes_next() {
    let subject = Subject::start();
    let mut client = subject.client();
    let (topic, me) = (subject.topic(&mut client, 1, &[]), producer(&mut client));
    for sequence in 0..3 {
        assert_eq!(client.append(&topic, 0, &recent(me.at(sequence))), (0, i64::from(sequence)));
    }
    assert_eq!(client.delete_topic(&topic), 0);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let wait = || {
        assert!(!subject.is_weir() && until > std::time::Instant::now());
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    while client.create_partitioned(&topic, 1, &[]) != 0 {
        wait();
    }
    while client.list_offset_of(&topic, 0, -1).0 != 0 {
        wait();
    }
    assert_eq!(client.append(&topic, 0, &recent(me.at(3))), (0, 0));
    assert_eq!(client.append(&topic, 0, &recent(me.at(3))), (0, 0), "a duplicate");
    assert_eq!(client.append(&topic, 0, &recent(me.at(4))), (0, 1));
    assert_eq!(client.append(&topic, 0, &recent(me.at(2))).0, 45, "it was stored in the old one");
    subject.end();
}

#[test]
fn sequences_go_on_at_0_after_the_largest() {
    let subject = Subject::start();
    let mut client = subject.client();
    let (topic, me) = (subject.topic(&mut client, 1, &[]), producer(&mut client));
    let around = batch(me.at(i32::MAX - 1), 4, b"v");
    assert_eq!(client.append(&topic, 0, &around), (0, 0));
    assert_eq!(client.append(&topic, 0, &around), (0, 0));
    assert_eq!(client.append(&topic, 0, &batch(me.at(3), 1, b"v")).0, 45);
    assert_eq!(client.append(&topic, 0, &batch(me.at(2), 1, b"v")), (0, 4));
    subject.end();
}

#[test]
fn a_duplicate_tells_the_time_of_the_first_append_where_that_counts() {
    let subject = Subject::start();
    let mut client = subject.client();
    let me = producer(&mut client);
    let topic = subject.topic(&mut client, 1, &[("message.timestamp.type", "LogAppendTime")]);
    let mut send = |sequence| client.produce(&topic, -1, &recent(me.at(sequence)));
    let first = send(0);
    assert!(first.0 == 0 && first.2 > 0);
    std::thread::sleep(std::time::Duration::from_millis(5));
    let second = send(1);
    assert_eq!((send(0), send(1)), (first, second));
    subject.end();
}

#[test]
fn a_newer_epoch_starts_at_0_and_fences_the_older() {
    let subject = Subject::start();
    let mut client = subject.client();
    let (topic, me) = (subject.topic(&mut client, 1, &[]), producer(&mut client));
    let next = Producer { epoch: me.epoch + 1, ..me };
    assert_eq!(client.append(&topic, 0, &batch(me, 2, b"v")), (0, 0));
    assert_eq!(client.append(&topic, 0, &batch(next.at(2), 1, b"v")).0, 45);
    assert_eq!(client.append(&topic, 0, &batch(next, 1, b"v")), (0, 2));
    // The next batch of the old epoch, and its duplicate.
    assert_eq!(client.append(&topic, 0, &batch(me.at(2), 1, b"v")).0, 47);
    assert_eq!(client.append(&topic, 0, &batch(me, 2, b"v")).0, 47);
    assert_eq!(client.append(&topic, 0, &batch(next, 1, b"v")), (0, 2));
    assert_eq!(client.append(&topic, 0, &batch(next.at(1), 1, b"v")), (0, 3));
    subject.end();
}

#[test]
fn a_batch_and_its_duplicate_in_one_write_are_stored_once() {
    let subject = Subject::start();
    let mut client = subject.client();
    let (topic, me) = (subject.topic(&mut client, 1, &[]), producer(&mut client));
    let sequences = [0, 1, 1, 0, 2, 4, 3, 2, 4];
    for sequence in sequences {
        client.send(0, 7, &produce_body(&topic, -1, &batch(me.at(sequence), 1, b"v")));
    }
    let answers: Vec<_> = sequences.iter().map(|_| produced(client.receive().1)).collect();
    let seen: Vec<_> = answers.iter().map(|(code, base, _)| (*code, *base)).collect();
    let expected = [(0, 0), (0, 1), (0, 1), (0, 0), (0, 2), (45, -1), (0, 3), (0, 2), (0, 4)];
    assert_eq!(seen, expected);
    assert_eq!(client.list_offset_of(&topic, 0, -1), (0, 5));
    subject.end();
}

#[test]
fn each_partition_counts_for_itself() {
    let subject = Subject::start();
    let mut client = subject.client();
    let (topic, me) = (subject.topic(&mut client, 2, &[]), producer(&mut client));
    assert_eq!(client.append(&topic, 0, &batch(me, 1, b"v")), (0, 0));
    assert_eq!(client.append(&topic, 0, &batch(me.at(1), 1, b"v")), (0, 1));
    assert_eq!(client.append(&topic, 1, &batch(me, 1, b"v")), (0, 0));
    assert_eq!(client.append(&topic, 1, &batch(me.at(2), 1, b"v")).0, 45);
    subject.end();
}

#[test]
fn records_that_are_deleted_do_not_make_a_producer_a_stranger() {
    let subject = Subject::start();
    let mut client = subject.client();
    let (topic, me) = (subject.topic(&mut client, 1, &[]), producer(&mut client));
    assert_eq!(client.append(&topic, 0, &batch(me, 4, b"v")), (0, 0));
    assert_eq!(client.delete_records(&topic, 0, -1), (0, 4));
    assert_eq!(client.append(&topic, 0, &batch(me, 4, b"v")), (0, 0), "still a duplicate");
    assert_eq!(client.append(&topic, 0, &batch(me.at(4), 1, b"v")), (0, 4));
    subject.end();
}

#[test]
fn many_producers_that_repeat_themselves_are_told_apart() {
    let subject = Subject::start();
    let topic = subject.topic(&mut subject.client(), 3, &[]);
    const ROUNDS: i32 = 12;
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let (subject, topic) = (&subject, &topic);
            scope.spawn(move || {
                let mut client = subject.client();
                let producers: Vec<_> = (0..10).map(|_| producer(&mut client)).collect();
                for round in 0..ROUNDS {
                    for (n, me) in producers.iter().enumerate() {
                        let partition = ((n + thread) % 3) as i32;
                        let sent = batch(me.at(round * 2), 2, b"v");
                        let first = client.append(topic, partition, &sent);
                        assert_eq!(first.0, 0);
                        if (round as usize + n).is_multiple_of(2) {
                            assert_eq!(client.append(topic, partition, &sent), first);
                        }
                    }
                }
            });
        }
    });
    let mut client = subject.client();
    let mut records = 0;
    for partition in 0..3 {
        let all = client.fetch(AT_ONCE, &[from(&topic, partition, 0)]);
        let found = batches(&all[0].records);
        records += found.iter().map(|(_, count)| count).sum::<i32>();
        let end = found.last().map(|(base, count)| base + i64::from(*count));
        assert_eq!(Some(client.list_offset_of(&topic, partition, -1).1), end);
    }
    assert_eq!(records, 4 * 10 * ROUNDS * 2);
    subject.end();
}
