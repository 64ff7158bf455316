//! Which offset stands for earliest, latest, a time, or one of Kafka's other words.
//!
//! Every expectation here holds on Apache Kafka 4.3.1 as well (`subject.rs` says how to see it).

use std::io::Write;

use super::subject::{Subject, stamped};
use super::{Client, NOBODY, Out, crc32c};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// Error code, timestamp, offset, leader epoch.
type Answer = (i16, i64, i64, i32);

/// One partition in any version from 1 to 11; no leader epoch in an answer below v4 reads as -1.
fn list(client: &mut Client, version: i16, topic: &str, timestamp: i64, leader_epoch: i32) -> Answer {
    let flexible = version >= 6;
    let mut body = Out::new().i32(-1);
    if version >= 2 {
        body = body.i8(0);
    }
    body = if flexible { body.count(1).text(topic).count(1) } else { body.i32(1).string(topic).i32(1) };
    body = body.i32(0);
    if version >= 4 {
        body = body.i32(leader_epoch);
    }
    body = body.i64(timestamp);
    if flexible {
        body = body.tags().tags();
    }
    if version >= 10 {
        body = body.i32(1_000);
    }
    let mut answer = if flexible {
        client.call_flexible(2, version, &body.tags())
    } else {
        client.call(2, version, &body)
    };
    if version >= 2 {
        assert_eq!(answer.i32(), 0);
    }
    if flexible {
        assert_eq!((answer.count(), answer.text(), answer.count()), (1, topic.to_owned(), 1));
    } else {
        assert_eq!((answer.i32(), answer.string(), answer.i32()), (1, topic.to_owned(), 1));
    }
    assert_eq!(answer.i32(), 0);
    let (code, timestamp, offset) = (answer.i16(), answer.i64(), answer.i64());
    let epoch = if version >= 4 { answer.i32() } else { -1 };
    if flexible {
        (0..3).for_each(|_| answer.tags());
    }
    answer.end();
    (code, timestamp, offset, epoch)
}

/// Seven records in three batches, with timestamps that go back at times.
fn seven(subject: &Subject, client: &mut Client) -> String {
    let topic = subject.topic(client, 1, &[("retention.ms", "-1")]);
    for timestamps in [&[100, 200, 300][..], &[250, 500, 500], &[400]] {
        assert_eq!(client.append(&topic, 0, &stamped(NOBODY, timestamps)).0, 0);
    }
    topic
}

#[test]
fn every_version_knows_the_words_of_its_time() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = seven(&subject, &mut client);
    for version in 1..=11 {
        let epoch = if version >= 4 { 0 } else { -1 };
        let unsupported = (35, -1, -1, -1);
        let nothing = (0, -1, -1, -1);
        let since = |from, answer| if version >= from { answer } else { unsupported };
        for (timestamp, expected) in [
            (LATEST, (0, -1, 7, epoch)),
            (EARLIEST, (0, -1, 0, epoch)),
            (MAX_TIMESTAMP, since(7, (0, 500, 4, epoch))),
            (EARLIEST_LOCAL, since(8, (0, -1, 0, epoch))),
            (LATEST_TIERED, since(9, nothing)),
            (EARLIEST_PENDING_UPLOAD, since(11, nothing)),
            (-7, unsupported),
            (i64::MIN, unsupported),
        ] {
            let answer = list(&mut client, version, &topic, timestamp, -1);
            assert_eq!(answer, expected, "v{version} at {timestamp}");
        }
    }
    subject.end();
}

#[test]
fn a_time_is_the_first_record_at_or_after_it() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = seven(&subject, &mut client);
    for (timestamp, expected) in [
        (0, (100, 0)),
        (100, (100, 0)),
        (101, (200, 1)),
        (250, (300, 2)),
        (300, (300, 2)),
        (301, (500, 4)),
        (401, (500, 4)),
        (500, (500, 4)),
        (501, (-1, -1)),
        (i64::MAX, (-1, -1)),
    ] {
        for version in [1, 7] {
            let (code, found, offset, _) = list(&mut client, version, &topic, timestamp, -1);
            assert_eq!((code, (found, offset)), (0, expected), "v{version} at {timestamp}");
        }
    }
    subject.end();
}

#[test]
fn an_empty_partition_starts_and_ends_at_0_and_has_no_times() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = subject.topic(&mut client, 1, &[]);
    for (timestamp, expected) in [
        (LATEST, (0, -1, 0, 0)),
        (EARLIEST, (0, -1, 0, 0)),
        (MAX_TIMESTAMP, (0, -1, -1, -1)),
        (EARLIEST_LOCAL, (0, -1, 0, 0)),
        (LATEST_TIERED, (0, -1, -1, -1)),
        (0, (0, -1, -1, -1)),
    ] {
        assert_eq!(list(&mut client, 9, &topic, timestamp, -1), expected, "at {timestamp}");
    }
    subject.end();
}

#[test]
fn deleted_records_are_no_answer() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = seven(&subject, &mut client);
    assert_eq!(client.delete_records(&topic, 0, 5), (0, 5));
    for (timestamp, expected) in [
        (LATEST, (0, -1, 7, 0)),
        (EARLIEST, (0, -1, 5, 0)),
        (EARLIEST_LOCAL, (0, -1, 5, 0)),
        (450, (0, 500, 5, 0)),
        (0, (0, 500, 5, 0)),
        (250, (0, 500, 5, 0)),
        // Kafka names offset 4, which is gone; weir the first that can be read.
        (MAX_TIMESTAMP, (0, 500, if subject.is_weir() { 5 } else { 4 }, 0)),
    ] {
        assert_eq!(list(&mut client, 9, &topic, timestamp, -1), expected, "at {timestamp}");
    }
    assert_eq!(client.delete_records(&topic, 0, -1), (0, 7));
    for (timestamp, expected) in [(0, -1), (LATEST, 7), (EARLIEST, 7)] {
        assert_eq!(list(&mut client, 9, &topic, timestamp, -1).2, expected, "at {timestamp}");
    }
    // Kafka still names offset 4.
    assert_eq!(list(&mut client, 9, &topic, MAX_TIMESTAMP, -1).2, if subject.is_weir() { -1 } else { 4 });
    subject.end();
}

#[test]
fn the_leader_epoch_is_checked_and_unknown_partitions_are_3() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = seven(&subject, &mut client);
    for (epoch, code) in [(-1, 0), (0, 0), (1, 75), (i32::MAX, 75)] {
        for version in [4, 6, 11] {
            let answer = list(&mut client, version, &topic, LATEST, epoch);
            assert_eq!(answer.0, code, "v{version} in epoch {epoch}");
        }
    }
    assert_eq!(list(&mut client, 5, "nowhere-at-all", LATEST, -1), (3, -1, -1, -1));
    assert_eq!(client.list_offset_of(&topic, 1, LATEST), (3, -1));
    subject.end();
}

#[test]
fn log_append_time_is_the_time_that_is_searched() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = subject.topic(&mut client, 1, &[("message.timestamp.type", "LogAppendTime")]);
    for timestamps in [&[100, 200][..], &[300]] {
        assert_eq!(client.append(&topic, 0, &stamped(NOBODY, timestamps)).0, 0);
    }
    let (code, timestamp, offset, _) = list(&mut client, 7, &topic, 400, -1);
    assert_eq!((code, offset), (0, 0));
    assert!(timestamp > 1_700_000_000_000, "{timestamp}");
    assert_eq!(list(&mut client, 7, &topic, i64::MAX, -1).2, -1);
    subject.end();
}

#[test]
fn latest_is_the_offset_after_the_last_record_whatever_the_batches() {
    let subject = Subject::start();
    let mut client = subject.client();
    let topic = subject.topic(&mut client, 1, &[]);
    let mut end = 0;
    for count in [1, 5, 2] {
        assert_eq!(client.append(&topic, 0, &stamped(NOBODY, &vec![1; count])), (0, end));
        end += count as i64;
        assert_eq!(client.list_offset_of(&topic, 0, LATEST), (0, end));
    }
    subject.end();
}

/// That batch with its records compressed, and another largest timestamp in its header.
fn squeezed(batch: &[u8], codec: i16, max_timestamp: i64) -> Vec<u8> {
    let (head, records) = batch.split_at(61);
    let packed = match codec {
        1 => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(records).unwrap();
            encoder.finish().unwrap()
        }
        2 => snap::raw::Encoder::new().compress_vec(records).unwrap(),
        3 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(records).unwrap();
            encoder.finish().unwrap()
        }
        4 => zstd::bulk::compress(records, 3).unwrap(),
        _ => records.to_vec(),
    };
    let tail = Out::new().i16(codec).raw(&head[23..35]).i64(max_timestamp).raw(&head[43..]).raw(&packed).0;
    let crc = crc32c(&tail);
    Out::new().i64(0).i32(tail.len() as i32 + 9).i32(-1).i8(2).raw(&crc.to_be_bytes()).raw(&tail).0
}

#[test]
fn records_tell_the_times_of_a_batch_and_not_its_header() {
    let subject = Subject::start();
    let mut client = subject.client();
    for codec in 0..=4 {
        // Some clients write the last record's time for the largest one, some a time that no record has.
        for wrong in [50, 10_000] {
            let topic = subject.topic(&mut client, 1, &[("retention.ms", "-1")]);
            let batch = stamped(NOBODY, &[100, 5_000, 50]);
            assert_eq!(client.append(&topic, 0, &squeezed(&batch, codec, wrong)).0, 0);
            assert_eq!(client.append(&topic, 0, &squeezed(&stamped(NOBODY, &[200, 300]), codec, 300)).0, 0);
            for (timestamp, expected) in [
                (MAX_TIMESTAMP, (0, 5_000, 1, 0)),
                (101, (0, 5_000, 1, 0)),
                (4_999, (0, 5_000, 1, 0)),
                (5_001, (0, -1, -1, -1)),
            ] {
                let answer = list(&mut client, 9, &topic, timestamp, -1);
                assert_eq!(answer, expected, "codec {codec}, header {wrong}, at {timestamp}");
            }
        }
    }
    subject.end();
}

#[test]
fn the_largest_timestamp_is_looked_for_in_what_is_left_of_the_log() {
    let subject = Subject::start();
    let mut client = subject.client();
    for codec in [0, 4] {
        let topic = subject.topic(&mut client, 1, &[("retention.ms", "-1")]);
        for timestamps in [&[100, 900, 200, 50][..], &[120, 130]] {
            let newest = *timestamps.iter().max().unwrap();
            let batch = squeezed(&stamped(NOBODY, timestamps), codec, newest);
            assert_eq!(client.append(&topic, 0, &batch).0, 0);
        }
        let largest = |client: &mut Client| {
            let (code, timestamp, offset, _) = list(client, 9, &topic, MAX_TIMESTAMP, -1);
            (code, timestamp, offset)
        };
        assert_eq!(largest(&mut client), (0, 900, 1));
        for (start, left) in
            [(1, (900, 1)), (2, (200, 2)), (3, (130, 5)), (4, (130, 5)), (5, (130, 5)), (6, (-1, -1))]
        {
            assert_eq!(client.delete_records(&topic, 0, start), (0, start));
            // Kafka goes on naming the record that is gone.
            let expected = if subject.is_weir() { left } else { (900, 1) };
            assert_eq!(largest(&mut client), (0, expected.0, expected.1), "codec {codec} from {start}");
        }
    }
    subject.end();
}
