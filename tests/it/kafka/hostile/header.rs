//! Rows 21 to 34: API keys, versions, client ids, tagged sections of the header, correlation ids.

use std::io::Write;

use super::super::produce_body;
use super::forged::{uvarint, valid};
use super::served::frame;
use super::{In, Out, Row, Served, closed, driven, request};

/// Metadata, whose last version is 13.
const METADATA: i16 = 3;

pub(super) fn rows() -> Vec<Row> {
    // Metadata v9 of no topic, its header's tagged section these bytes.
    let tagged = |tags: &[u8]| flexible(METADATA, 9, tags, &[1, 0, 0, 0, 0]);
    let client =
        |length: i16, id: &[u8]| frame(&Out::new().i16(METADATA).i16(1).i32(7).i16(length).raw(id).0);
    vec![
        closed(21, "an API that is not served", [-1, 1_000, 32_767].map(|key| request(key, 0, &[]))),
        driven(22, "ApiVersions v99", |broker| {
            // Kafka closes when the header is the old one; a client that asks either way is told.
            for sent in [request(18, 99, &[]), flexible(18, 99, &[0], &[2, b'a', 2, b'1', 0])] {
                let mut client = broker.client();
                client.stream.write_all(&sent).unwrap();
                let (id, mut answer) = client.receive();
                assert_eq!((id, answer.i16(), answer.i32()), (7, 35, 1));
                assert_eq!((answer.i16(), answer.i16(), answer.i16()), (18, 0, 5));
            }
        }),
        closed(23, "Metadata of no version", [-1, 14].map(|version| request(METADATA, version, &[0; 4]))),
        // Listed since old librdkafka tests for v0 by exact version, and answered with the error.
        driven(24, "Produce v0 to v2", |broker| {
            let mut client = broker.client();
            assert_eq!(client.create_topic("row-24", &[]), 0);
            for version in 0..3 {
                let whole = produce_body("row-24", -1, &valid().bytes());
                let answer = client.call(0, version, &Out::new().raw(&whole.0[2..]));
                assert_eq!(code_of(answer), 35, "v{version}");
            }
            assert_eq!(client.list_offset("row-24", -1), (0, 0));
        }),
        driven(25, "no client id", |broker| serves(broker, -1, &[])),
        closed(26, "client id of length -2", [client(-2, &[])]),
        closed(27, "client id of length 32,767 in three bytes", [client(32_767, b"abc")]),
        // No metric carries it yet; the length of a label is for the tests of metrics.
        driven(28, "client id of 32,767 bytes", |broker| serves(broker, 32_767, &[b'A'; 32_767])),
        // Accepted, as Kafka does, which replaces what is not UTF-8. The log is looked at after every row.
        driven(29, "client ids that are not text", |broker| {
            for id in [
                &b"\xff\xfe\xfd"[..],
                b"\xed\xa0\x80",
                b"a\xc3",
                b"a\0b",
                b"a\nb\r",
                b"\x1b[31mred\x1b]0;t\x07",
            ] {
                serves(broker, id.len() as i16, id);
                // A client id becomes part of a member id; a topic that cannot be has its name in the log.
                joins(broker, id);
                is_no_name(broker, id);
            }
        }),
        closed(30, "4 billion tags in the header", [tagged(&[0xff, 0xff, 0xff, 0xff, 0x0f])]),
        closed(31, "a tag larger than its frame", [tagged(&[1, 0, 100, 1, 2])]),
        closed(
            32,
            "tags that repeat or descend",
            [tagged(&[2, 9, 1, 1, 9, 1, 1]), tagged(&[2, 9, 1, 1, 8, 1, 1])],
        ),
        closed(
            33,
            "varints longer than five bytes",
            [
                tagged(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
                tagged(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]),
            ],
        ),
        driven(34, "correlation ids that repeat and are negative", |broker| {
            let mut client = broker.client();
            for id in [-1, -1, 5, 5, i32::MIN, i32::MAX] {
                let head = Out::new().i16(18).i16(0).i32(id).string("hostile");
                client.stream.write_all(&frame(&head.0)).unwrap();
                let (answered, mut answer) = client.receive();
                assert_eq!((answered, answer.i16()), (id, 0));
            }
        }),
    ]
}

/// The code in an answer to Produce.
fn code_of(mut answer: In) -> i16 {
    answer.take(4);
    answer.string();
    answer.take(4 + 4);
    answer.i16()
}

/// A framed request with header v2.
fn flexible(key: i16, version: i16, tags: &[u8], body: &[u8]) -> Vec<u8> {
    frame(&Out::new().i16(key).i16(version).i32(7).string("hostile").raw(tags).raw(body).0)
}

fn with_client_id(key: i16, version: i16, length: i16, id: &[u8], body: &Out) -> Vec<u8> {
    frame(&Out::new().i16(key).i16(version).i32(7).i16(length).raw(id).raw(&body.0).0)
}

/// Metadata v1 of no topic is answered, whoever asks.
fn serves(broker: &Served, length: i16, id: &[u8]) {
    let mut client = broker.client();
    client.stream.write_all(&with_client_id(METADATA, 1, length, id, &Out::new().i32(0))).unwrap();
    let (answered, mut answer) = client.receive();
    assert_eq!((answered, answer.i32()), (7, 1), "brokers");
}

/// JoinGroup v0 gives a member id that starts with the client's, as text.
fn joins(broker: &Served, id: &[u8]) {
    let group = format!("row-29-{id:x?}");
    let join = Out::new().string(&group).i32(10_000).string("").string("consumer");
    let join = join.i32(1).string("range").blob(b"");
    let mut client = broker.client();
    client.stream.write_all(&with_client_id(11, 0, id.len() as i16, id, &join)).unwrap();
    let (answered, mut answer) = client.receive();
    assert_eq!((answered, answer.i16()), (7, 0));
    let (_generation, _protocol, leader) = (answer.i32(), answer.string(), answer.string());
    assert!(leader.starts_with(&*String::from_utf8_lossy(id)), "{leader:?}");
}

/// What is text here names neither a topic nor a client's software.
fn is_no_name(broker: &Served, name: &[u8]) {
    let Ok(name) = std::str::from_utf8(name) else { return };
    let mut client = broker.client();
    client.call(METADATA, 1, &Out::new().i32(1).string(name));
    assert_eq!(client.create_topic(name, &[]), 17);
    let software = [&uvarint(name.len() as u64 + 1), name.as_bytes(), &[2, b'1', 0]].concat();
    client.stream.write_all(&flexible(18, 3, &[0], &software)).unwrap();
    assert_eq!(client.receive().1.i16(), 42);
}
