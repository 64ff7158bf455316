//! Rows 98 to 108: offsets, limits, replicas, sessions and epochs of readers.

use std::io::Write;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::forged::{of_records, record, valid};
use super::{Client, In, Out, Row, Served, driven, request};

const OUT_OF_RANGE: i16 = 1;
const UNSUPPORTED_VERSION: i16 = 35;
const INVALID_REQUEST: i16 = 42;
/// Bytes of the batches that the limits of row 99 are tried on.
const BATCH_BYTES: usize = 600_000;

pub(super) fn rows() -> Vec<Row> {
    vec![
        driven(98, "offsets outside the log", |broker| {
            let mut client = with_record(broker, "row-98");
            for offset in [-1, -2, i64::MIN, i64::MAX, 2] {
                let found = fetch(&mut client, &Asked { offset, ..asked("row-98") });
                assert_eq!(found.code, OUT_OF_RANGE, "{offset}");
            }
            assert_eq!(
                fetch(&mut client, &Asked { offset: 1, ..asked("row-98") }).code,
                0,
                "the end is inside"
            );
        }),
        driven(99, "limits of nothing and of everything", limits),
        // The row's own figure: 16 KiB for each of 1,000 connections.
        driven(100, "1,000 fetches that wait for ever", parked).peak_kib(16 * 1024),
        // As Kafka without an authorizer to anybody: it reads as a consumer.
        driven(101, "a client that says it is replica 1", |broker| {
            let mut client = with_record(broker, "row-101");
            let found = fetch(&mut client, &Asked { replica: 1, offset: 0, ..asked("row-101") });
            assert_eq!((found.code, found.high_watermark), (0, 1));
            assert!(!found.records.is_empty());
            let end = fetch(&mut client, &Asked { replica: 1, offset: 1, ..asked("row-101") });
            assert_eq!((end.code, end.high_watermark), (0, 1));
            assert_eq!(client.list_offset("row-101", -1), (0, 1));
        }),
        // There are no sessions: none is known, whatever its epoch, and epoch -1 reads without one.
        driven(102, "sessions that are not there", |broker| {
            let mut client = with_record(broker, "row-102");
            for (id, epoch, code) in
                [(7, 1, 70), (7, i32::MAX, 70), (0, 1, 70), (7, -1, 0), (7, 0, 0), (0, -1, 0)]
            {
                let mut answer = client.call(1, 7, &session_body("row-102", id, epoch));
                answer.i32();
                assert_eq!((answer.i16(), answer.i32()), (code, 0), "session {id} epoch {epoch}");
            }
        }),
        driven(103, "10,000 sessions opened and left", |broker| {
            drop(with_record(broker, "row-103"));
            for _ in 0..100 {
                let mut client = broker.client();
                let all = request(1, 7, &session_body("row-103", 0, 0).0).repeat(100);
                client.stream.write_all(&all).unwrap();
                for _ in 0..100 {
                    let mut answer = client.receive().1;
                    answer.i32();
                    assert_eq!((answer.i16(), answer.i32()), (0, 0));
                }
            }
        }),
        driven(104, "leader epochs from the future and the past", |broker| {
            let mut client = with_record(broker, "row-104");
            for (epoch, code) in [(1, 75), (i32::MAX, 75), (-2, 74), (i32::MIN, 74), (0, 0), (-1, 0)] {
                let head = Out::new().i32(-1).i32(0).i32(0).i32(1 << 20).i8(0).i32(0).i32(-1);
                let body = head.i32(1).string("row-104").i32(1).i32(0).i32(epoch).i64(0).i64(-1).i32(1 << 20);
                let mut answer = client.call(1, 9, &body.i32(0));
                answer.take(4 + 2 + 4 + 4);
                answer.string();
                answer.take(4 + 4);
                assert_eq!(answer.i16(), code, "epoch {epoch}");
            }
        }),
        // Kafka answers -1 (unknown error); nothing is hidden from a client by reading too much.
        driven(105, "isolation level 7", |broker| {
            let mut client = with_record(broker, "row-105");
            let found = fetch(&mut client, &Asked { isolation: 7, ..asked("row-105") });
            assert_eq!((found.code, found.aborted), (0, -1), "read_uncommitted has no list of aborted ones");
        }),
        driven(106, "timestamps that mean nothing, partitions asked for twice", |broker| {
            let mut client = with_record(broker, "row-106");
            for timestamp in [-6, -5, -4, -3, -7, i64::MIN] {
                let found = list_offsets(&mut client, "row-106", &[(0, timestamp)]);
                assert_eq!(found, [(0, UNSUPPORTED_VERSION, -1)], "{timestamp}");
            }
            let found = list_offsets(&mut client, "row-106", &[(0, -1), (0, -2), (5, -1)]);
            assert_eq!(found, [(0, INVALID_REQUEST, -1), (0, INVALID_REQUEST, -1), (5, 3, -1)]);
        }),
        driven(107, "DeleteRecords past the end and before the start", |broker| {
            let mut client = with_record(broker, "row-107");
            for offset in [2, i64::MAX, -2, i64::MIN] {
                let body = Out::new().i32(1).string("row-107").i32(1).i32(0).i64(offset).i32(5_000);
                let mut answer = client.call(21, 0, &body);
                answer.take(4 + 4);
                answer.string();
                answer.take(4 + 4);
                assert_eq!((answer.i64(), answer.i16()), (-1, OUT_OF_RANGE), "{offset}");
            }
            assert_eq!(client.list_offset("row-107", -2), (0, 0));
        }),
        driven(108, "OffsetForLeaderEpoch of an epoch to come", |broker| {
            let mut client = with_record(broker, "row-108");
            for epoch in [i32::MAX, 1, -1, i32::MIN] {
                let body = Out::new().i32(-1).i32(1).string("row-108").i32(1).i32(0).i32(-1).i32(epoch);
                let mut answer = client.call(23, 3, &body);
                answer.take(4 + 4);
                answer.string();
                answer.take(4);
                assert_eq!((answer.i16(), answer.i32()), (0, 0), "epoch {epoch}");
                assert_eq!((answer.i32(), answer.i64()), (-1, -1), "epoch {epoch}");
            }
        }),
    ]
}

/// A new topic with one record in it.
fn with_record(broker: &Served, topic: &str) -> Client {
    let mut client = broker.client();
    assert_eq!(client.create_topic(topic, &[]), 0);
    assert_eq!(client.produce(topic, 1, &valid().bytes()).0, 0);
    client
}

/// Fetch v4 of partition 0.
struct Asked {
    topic: &'static str,
    replica: i32,
    max_wait_ms: i32,
    min_bytes: i32,
    max_bytes: i32,
    isolation: i8,
    offset: i64,
    partition_max_bytes: i32,
}

fn asked(topic: &'static str) -> Asked {
    Asked {
        topic,
        replica: -1,
        max_wait_ms: 0,
        min_bytes: 0,
        max_bytes: 1 << 20,
        isolation: 0,
        offset: 0,
        partition_max_bytes: 1 << 20,
    }
}

impl Asked {
    fn body(&self) -> Out {
        let head = Out::new().i32(self.replica).i32(self.max_wait_ms).i32(self.min_bytes).i32(self.max_bytes);
        let head = head.i8(self.isolation).i32(1).string(self.topic).i32(1).i32(0);
        head.i64(self.offset).i32(self.partition_max_bytes)
    }
}

struct Found {
    code: i16,
    high_watermark: i64,
    /// How many aborted transactions, -1 for none listed.
    aborted: i32,
    records: Vec<u8>,
}

fn fetch(client: &mut Client, asked: &Asked) -> Found {
    let mut answer: In = client.call(1, 4, &asked.body());
    answer.take(4 + 4);
    answer.string();
    answer.take(4 + 4);
    let (code, high_watermark) = (answer.i16(), answer.i64());
    answer.i64();
    Found { code, high_watermark, aborted: answer.i32(), records: answer.blob() }
}

fn limits(broker: &Served) {
    let mut client = broker.client();
    assert_eq!(client.create_topic("row-99", &[]), 0);
    let batch = of_records(1, record(0, b"k", &vec![1; BATCH_BYTES]));
    for _ in 0..4 {
        assert_eq!(client.produce("row-99", 1, &batch).0, 0);
    }
    for (max_bytes, partition_max_bytes) in
        [(0, 1 << 20), (-1, 1 << 20), (1 << 20, 0), (1 << 20, -1), (i32::MIN, i32::MIN), (i32::MAX, i32::MAX)]
    {
        let found = fetch(&mut client, &Asked { max_bytes, partition_max_bytes, ..asked("row-99") });
        // One batch is more than was asked for; two are more than this broker's fetch.max.bytes.
        assert_eq!((found.code, found.records.len()), (0, batch.len()), "{max_bytes} {partition_max_bytes}");
    }
}

fn parked(broker: &Served) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    drop(with_record(broker, "row-100"));
    let base = broker.open_files();
    let waits = Asked { max_wait_ms: i32::MAX, min_bytes: i32::MAX, offset: 1, ..asked("row-100") };
    let sent = request(1, 4, &waits.body().0);
    let streams: Vec<_> = (0..1_000)
        .map(|_| {
            let mut stream = broker.connect();
            stream.write_all(&sent).unwrap();
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    broker.canary().unwrap();
    // An append wakes them all, and is not enough.
    assert_eq!(broker.client().produce("row-100", 1, &valid().bytes()).0, 0);
    broker.canary().unwrap();
    for mut stream in streams {
        stream.set_nonblocking(true).unwrap();
        let silent = std::io::Read::read(&mut stream, &mut [0]).unwrap_err();
        assert_eq!(silent.kind(), std::io::ErrorKind::WouldBlock);
    }
    // Nobody waits for an answer any more, so the broker does not either.
    broker.closes_files(base, Duration::from_secs(8));
}

#[test]
fn a_drain_does_not_wait_for_who_waits_for_ever() {
    let broker = Served::start(&[]);
    let waits = Asked { max_wait_ms: i32::MAX, min_bytes: i32::MAX, ..asked("canary") };
    let mut stream = broker.connect();
    stream.write_all(&request(1, 4, &waits.body().0)).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    broker.end();
}

/// Fetch v7 of partition 0 in a session.
fn session_body(topic: &str, id: i32, epoch: i32) -> Out {
    let head = Out::new().i32(-1).i32(0).i32(0).i32(1 << 20).i8(0).i32(id).i32(epoch);
    head.i32(1).string(topic).i32(1).i32(0).i64(0).i64(-1).i32(1 << 20).i32(0)
}

/// ListOffsets v4: partition, code and offset of each answer.
fn list_offsets(client: &mut Client, topic: &str, asked: &[(i32, i64)]) -> Vec<(i32, i16, i64)> {
    let mut body = Out::new().i32(-1).i8(0).i32(1).string(topic).i32(asked.len() as i32);
    for (partition, timestamp) in asked {
        body = body.i32(*partition).i32(-1).i64(*timestamp);
    }
    let mut answer = client.call(2, 4, &body);
    answer.take(4 + 4);
    answer.string();
    (0..answer.i32())
        .map(|_| {
            let (partition, code, _timestamp) = (answer.i32(), answer.i16(), answer.i64());
            let offset = answer.i64();
            answer.i32();
            (partition, code, offset)
        })
        .collect()
}
