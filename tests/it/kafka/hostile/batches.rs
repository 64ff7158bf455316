//! Rows 51 to 84 and 93 to 97: record batches and produce requests, without compression.

use std::time::{Duration, Instant, SystemTime};

use super::super::{Producer, crc32c, produce_body};
use super::forged::{Forged, forged, of_records, record, record_of, valid, valid_of, varint};
use super::served::fetch_body;
use super::{Case, In, Out, Row, Served, driven, produced, refused, request, row};

const CORRUPT: i16 = 2;
const TOO_LARGE: i16 = 10;
const OUT_OF_ORDER: i16 = 45;
const INVALID_TIMESTAMP: i16 = 32;
const INVALID: i16 = 87;

pub(super) fn rows() -> Vec<Row> {
    let good = valid().bytes();
    let crc32 = crc32fast::hash(&good[21..]);
    let end = |rest: &[u8]| of_records(1, record_of(0, &[&[2, b'k', 2, b'v'], rest].concat()));
    let length = |length: i32| forged(|b| b.length = Some(length));
    let magic = |magic: i8| forged(|b| b.magic = magic);
    let two =
        |one: i32, other: i32| of_records(2, [record(one, b"k", b"v"), record(other, b"k", b"v")].concat());
    let long_varint = [&[0x80; 9][..], &[0]].concat();
    let headers = |count: usize| [varint(count as i64), b"\x02h\x00".repeat(count)].concat();
    let sequence = |id, epoch, sequence| forged(|b| b.producer = Producer { id, epoch, sequence });
    let mut bit = good.clone();
    bit[65] ^= 1;
    vec![
        driven(51, "no records", |broker| {
            let mut client = broker.client();
            assert_eq!(client.create_topic("row-51", &[]), 0);
            let body = Out::new().i16(-1).i16(-1).i32(5_000).i32(1).string("row-51").i32(1).i32(0).i32(-1);
            assert_eq!(produced(client.call(0, 7, &body)).0, INVALID);
        }),
        refused(52, "records of no bytes", INVALID, [vec![]]),
        refused(53, "two batches", INVALID, [[good.clone(), good.clone()].concat()]),
        refused(
            54,
            "impossible batch lengths",
            CORRUPT,
            [length(-1), length(0), length(48), length(i32::MAX)],
        ),
        refused(55, "a batch longer than its bytes", CORRUPT, [length(good.len() as i32 - 11)]),
        refused(56, "a batch shorter than its bytes", INVALID, [length(good.len() as i32 - 13)]),
        // The magic is looked at before the length: 43 tells an old client to up-convert.
        refused(57, "magic 0 and 1", 43, [magic(0), magic(1)]),
        refused(58, "magic 3, -1, 127", INVALID, [magic(3), magic(-1), magic(127)]),
        refused(59, "a CRC that is off by one bit", CORRUPT, [bit]),
        refused(60, "a CRC-32 that is not Castagnoli's", CORRUPT, [forged(|b| b.crc = Some(crc32))]),
        refused(
            61,
            "record count -1 and 0",
            INVALID,
            [
                forged(|b| b.count = -1),
                forged(|b| b.count = 0),
                forged(|b| (b.count, b.last_offset_delta) = (0, -1)),
            ],
        ),
        refused(
            62,
            "record count 2^31 - 1",
            INVALID,
            [
                forged(|b| b.count = i32::MAX),
                forged(|b| (b.count, b.last_offset_delta) = (i32::MAX, i32::MAX - 1)),
            ],
        )
        .peak_kib(1024),
        refused(
            63,
            "one record more or less than counted",
            INVALID,
            [of_records(2, valid_of(1).records), of_records(2, valid_of(3).records)],
        ),
        refused(
            64,
            "last offset delta that is not count - 1",
            INVALID,
            [forged(|b| b.last_offset_delta = 1)],
        ),
        refused(65, "last offset delta 2^31 - 1", INVALID, [forged(|b| b.last_offset_delta = i32::MAX)]),
        // As Kafka: a producer writes 0, so this is no producer's batch.
        refused(
            66,
            "base offset that is not 0",
            INVALID,
            [5, -1, i64::MAX].map(|n| forged(|b| b.base_offset = n)),
        ),
        // Kafka takes the first two from an uncompressed batch and rewrites them; no producer sends them.
        refused(
            67,
            "offset deltas that repeat, descend, or start late",
            INVALID,
            [two(0, 0), two(1, 0), two(1, 2)],
        ),
        refused(
            68,
            "record lengths",
            INVALID,
            [
                of_records(1, varint(-5)),
                of_records(1, [&varint(1_000)[..], &[0; 9]].concat()),
                of_records(1, [&varint(i32::MAX.into())[..], &[0; 9]].concat()),
                of_records(1, [&long_varint[..], &[0; 9]].concat()),
            ],
        ),
        refused(
            69,
            "key, value and header lengths",
            INVALID,
            [
                of_records(1, record_of(0, &[varint(-2), vec![2, b'v', 0]].concat())),
                of_records(1, record_of(0, &[vec![2, b'k'], varint(-2), vec![0]].concat())),
                end(&[varint(1), varint(-1), vec![2, b'v']].concat()),
            ],
        ),
        refused(70, "header count 2^31 - 1", INVALID, [end(&varint(i32::MAX.into()))]).peak_kib(1024),
        refused(71, "header count -1", INVALID, [end(&varint(-1))]),
        // A limit that Kafka lacks, far above any client's record.
        refused(72, "more than 10,000 headers", INVALID, [end(&headers(100_000)), end(&headers(10_001))]),
        row(72, "10,000 headers", Case::Appended(1, vec![end(&headers(10_000))])),
        refused(73, "codecs 5, 6, 7", 76, [5, 6, 7].map(|codec| forged(|b| b.attributes = codec))),
        // As Kafka: stored as received, since the CRC covers them.
        driven(74, "attribute bits without a meaning", |broker| {
            let mut client = broker.client();
            assert_eq!(client.create_topic("row-74", &[]), 0);
            let odd = forged(|b| b.attributes = !0x7f);
            assert_eq!(client.produce("row-74", -1, &odd).0, 0);
            let stored = fetched(client.call(1, 4, &fetch_body("row-74", 0))).1;
            assert_eq!(stored[16..], odd[16..]);
        }),
        refused(74, "the bit of a delete horizon", INVALID, [forged(|b| b.attributes = 0x40)]),
        refused(
            75,
            "a control batch",
            INVALID,
            [
                forged(|b| b.attributes = 0x20),
                forged(|b| (b.attributes, b.producer) = (0x30, Producer { id: 1, epoch: 0, sequence: 0 })),
            ],
        ),
        refused(76, "transactional without a producer id", INVALID, [forged(|b| b.attributes = 0x10)]),
        refused(77, "a producer id without a sequence", INVALID, [sequence(7, 0, -1)]),
        refused(78, "a producer id without an epoch", INVALID, [sequence(7, -1, 0)]),
        row(79, "an unknown producer that starts at 0", Case::Appended(1, vec![sequence(1_079, 0, 0)])),
        row(79, "an unknown producer in its middle", Case::Appended(1, vec![sequence(2_079, 0, 5)])),
        driven(80, "sequences with a gap, and round the end", sequences),
        driven(81, "duplicates of the last batches", duplicates),
        driven(82, "timestamps out of this world", timestamps),
        driven(83, "a largest timestamp that is not", |broker| {
            let mut client = broker.client();
            assert_eq!(client.create_topic("row-83", &[]), 0);
            for (offset, wrong) in [(0, 5), (1, i64::MAX), (2, -1)] {
                let batch = forged(|b| b.max_timestamp = wrong);
                assert_eq!(client.produce("row-83", -1, &batch).0, 0);
                let stored = fetched(client.call(1, 4, &fetch_body("row-83", offset))).1;
                assert_eq!(stored[35..43], 1_000i64.to_be_bytes(), "corrected from {wrong}");
                assert_eq!(stored[17..21], crc32c(&stored[21..]).to_be_bytes());
            }
        }),
        driven(84, "one byte more than max.message.bytes", |broker| {
            let mut client = broker.client();
            assert_eq!(client.create_topic("row-84", &[("max.message.bytes", "10000")]), 0);
            let sized = |bytes: usize| {
                let rest = bytes - of_records(1, record(0, b"k", &vec![0; 9_000])).len();
                of_records(1, record(0, b"k", &vec![0; 9_000 + rest]))
            };
            assert_eq!(sized(10_001).len(), 10_001);
            assert_eq!(client.produce("row-84", -1, &sized(10_001)).0, TOO_LARGE);
            assert_eq!(client.produce("row-84", -1, &sized(10_000)).0, 0);
        }),
        driven(93, "acks 2 and -2", |broker| {
            let mut client = broker.client();
            assert_eq!(client.create_topic("row-93", &[]), 0);
            for acks in [2, -2] {
                assert_eq!(client.produce("row-93", acks, &valid().bytes()).0, 21);
            }
            assert_eq!(client.list_offset("row-93", -1), (0, 0));
        }),
        driven(94, "acks 0 with an invalid batch", |broker| {
            assert_eq!(broker.client().create_topic("row-94", &[]), 0);
            let body = produce_body("row-94", 0, &forged(|b| b.crc = Some(1)));
            broker.closes(&request(0, 7, &body.0));
        }),
        // One node never waits for others, so there is nothing to time out.
        driven(95, "a negative timeout", |broker| {
            let mut client = broker.client();
            assert_eq!(client.create_topic("row-95", &[]), 0);
            let body = Out::new().i16(-1).i16(1).i32(-1).i32(1).string("row-95").i32(1).i32(0);
            let begun = Instant::now();
            assert_eq!(produced(client.call(0, 7, &body.blob(&valid().bytes()))).0, 0);
            assert!(begun.elapsed() < Duration::from_secs(1));
        }),
        driven(96, "one partition twice in a request", twice),
        driven(97, "partitions and topics that are not there", nowhere),
    ]
}

/// Code and records of the one partition in an answer to Fetch v4.
fn fetched(mut answer: In) -> (i16, Vec<u8>) {
    answer.take(4 + 4);
    answer.string();
    answer.take(4 + 4);
    let code = answer.i16();
    answer.take(8 + 8 + 4);
    (code, answer.blob())
}

fn sequences(broker: &Served) {
    let mut client = broker.client();
    assert_eq!(client.create_topic("row-80", &[]), 0);
    let mut send = |id, sequence, count| {
        let mut batch = valid_of(count);
        batch.producer = Producer { id, epoch: 0, sequence };
        client.produce("row-80", -1, &batch.bytes()).0
    };
    assert_eq!(send(80, 0, 1), 0);
    assert_eq!(send(80, 2, 1), OUT_OF_ORDER);
    assert_eq!(send(80, 1, 1), 0);
    // Once records were deleted a producer may be one whose past went with them, and may start anywhere.
    let body = Out::new().i32(1).string("row-80").i32(1).i32(0).i64(-1).i32(5_000);
    let mut answer = broker.client().call(21, 0, &body);
    answer.take(4 + 4);
    answer.string();
    answer.take(4 + 4 + 8);
    assert_eq!(answer.i16(), 0);
    assert_eq!(send(81, i32::MAX - 1, 3), 0, "over the end inside a batch");
    assert_eq!(send(81, 1, 1), 0);
    assert_eq!(send(82, i32::MAX, 1), 0);
    assert_eq!(send(82, 1, 1), OUT_OF_ORDER);
    assert_eq!(send(82, 0, 1), 0, "over the end between batches");
}

fn duplicates(broker: &Served) {
    let mut client = broker.client();
    assert_eq!(client.create_topic("row-81", &[]), 0);
    let mut send = |sequence| {
        let mut batch = valid();
        batch.producer = Producer { id: 81, epoch: 0, sequence };
        let (code, offset, _) = client.produce("row-81", -1, &batch.bytes());
        (code, offset)
    };
    for sequence in 0..6 {
        assert_eq!(send(sequence), (0, sequence.into()));
    }
    for sequence in 1..6 {
        assert_eq!(send(sequence), (0, sequence.into()), "one of the last five");
    }
    assert_eq!(send(0).0, OUT_OF_ORDER, "the sixth last");
    assert_eq!(client.list_offset("row-81", -1), (0, 6));
}

fn timestamps(broker: &Served) {
    const HOUR_MS: &str = "3600000";
    let mut client = broker.client();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64;
    let year_ms = 365 * 86_400_000;
    let at = |timestamp| forged(|b| (b.base_timestamp, b.max_timestamp) = (timestamp, timestamp));
    let bounds = [("message.timestamp.after.max.ms", HOUR_MS), ("message.timestamp.before.max.ms", HOUR_MS)];
    assert_eq!(client.create_topic("row-82", &bounds), 0);
    for timestamp in [now + year_ms, now - year_ms, i64::MAX, i64::MIN] {
        assert_eq!(client.produce("row-82", -1, &at(timestamp)).0, INVALID_TIMESTAMP, "{timestamp}");
    }
    // Whichever record it is, and whatever the codec.
    for codec in [0, 4] {
        for (third, code) in [(2 * 3_600_000, INVALID_TIMESTAMP), (-2 * 3_600_000, INVALID_TIMESTAMP), (5, 0)]
        {
            let later = |n: i32, by: i64| {
                let body =
                    [&[0][..], &varint(by), &varint(n.into()), &varint(-1), &varint(-1), &[0]].concat();
                [varint(body.len() as i64), body].concat()
            };
            let plain = [later(0, 0), later(1, 1), later(2, third), later(3, -1 - now)].concat();
            let records = if codec == 0 { plain } else { zstd::bulk::compress(&plain, 1).unwrap() };
            let batch = Forged {
                attributes: codec,
                base_timestamp: now,
                max_timestamp: now + third.max(1),
                records,
                ..valid_of(4)
            };
            let body = produce_body("row-82", -1, &batch.bytes());
            let mut answer = client.call(0, 8, &body);
            assert_eq!((answer.i32(), answer.string(), answer.i32()), (1, "row-82".to_owned(), 1));
            assert_eq!((answer.i32(), answer.i16()), (0, code), "codec {codec}, {third} ms");
            answer.take(8 + 8 + 8);
            // The record to blame is named (KIP-467).
            assert_eq!(answer.i32(), i32::from(code != 0));
            if code != 0 {
                assert_eq!(answer.i32(), 2, "codec {codec}, {third} ms");
            }
        }
    }
    // -1 is "no timestamp".
    for timestamp in [now, -1] {
        assert_eq!(client.produce("row-82", -1, &at(timestamp)).0, 0, "{timestamp}");
    }
    // A topic without bounds takes them all; retention must live with them.
    for (topic, timestamp) in [("row-82-far", i64::MAX), ("row-82-past", i64::MIN)] {
        assert_eq!(client.create_topic(topic, &[("retention.ms", HOUR_MS)]), 0);
        assert_eq!(client.produce(topic, -1, &at(timestamp)).0, 0, "{timestamp}");
    }
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(client.list_offset("row-82-far", -2), (0, 0), "what comes later than now is not old");
    for topic in ["row-82-far", "row-82-past"] {
        assert_eq!(client.list_offset(topic, -1), (0, 1));
        assert_eq!(client.list_offset(topic, now).0, 0);
        assert_eq!(client.produce(topic, -1, &at(now)).0, 0);
    }
}

fn twice(broker: &Served) {
    let mut client = broker.client();
    assert_eq!(client.create_topic("row-96", &[]), 0);
    let part = |value: &[u8]| Out::new().i32(0).blob(&of_records(1, record(0, b"k", value))).0;
    let body = Out::new().i16(-1).i16(-1).i32(5_000).i32(1).string("row-96");
    let mut answer = client.call(0, 7, &body.i32(2).raw(&part(b"first")).raw(&part(b"second")));
    assert_eq!((answer.i32(), answer.string(), answer.i32()), (1, "row-96".to_owned(), 2));
    for offset in 0..2 {
        assert_eq!((answer.i32(), answer.i16(), answer.i64()), (0, 0, offset));
        answer.take(8 + 8);
    }
    for (offset, value) in [(0, &b"first"[..]), (1, b"second")] {
        let (code, records) = fetched(client.call(1, 4, &fetch_body("row-96", offset)));
        let batch =
            &records[..usize::try_from(i32::from_be_bytes(records[8..12].try_into().unwrap())).unwrap() + 12];
        assert_eq!(code, 0);
        assert!(batch.windows(value.len()).any(|bytes| bytes == value), "offset {offset}");
    }
}

fn nowhere(broker: &Served) {
    let mut client = broker.client();
    assert_eq!(client.create_topic("row-97", &[]), 0);
    assert_eq!(client.create_topic("row-97-gone", &[]), 0);
    let mut answer = client.call(20, 1, &Out::new().i32(1).string("row-97-gone").i32(5_000));
    answer.take(4 + 4);
    assert_eq!((answer.string(), answer.i16()), ("row-97-gone".to_owned(), 0));
    for (topic, partition) in [
        ("row-97", -1),
        ("row-97", 1),
        ("row-97", i32::MAX),
        ("row-97-never", 0),
        ("row-97-gone", 0),
        ("", 0),
    ] {
        let body = Out::new().i16(-1).i16(-1).i32(5_000).i32(1).string(topic).i32(1).i32(partition);
        let answer = client.call(0, 7, &body.blob(&valid().bytes()));
        assert_eq!(produced(answer).0, 3, "{topic:?} {partition}");
    }
    let batch = valid().bytes();
    let body = Out::new().i8(0).i8(0).i16(-1).i32(5_000).i8(2).raw(&[9; 16]).i8(2).i32(0);
    let body = body.i8(batch.len() as i8 + 1).raw(&batch).raw(&[0, 0, 0]);
    let mut answer = client.call(0, 13, &body);
    // A tagged section, one topic, its id, one partition, its index.
    answer.take(1 + 1 + 16 + 1 + 4);
    assert_eq!(answer.i16(), 100);
}
