//! Rows 85 to 92: bombs, streams that are cut or garbled, what decoders would allocate.
//!
//! Streams are packed by hand where they lie, and by the codecs' own encoders where they are valid.

use std::io::Write;

use super::super::produce_body;
use super::forged::{Forged, record, uvarint, valid, valid_of, varint};
use super::served::fetch_body;
use super::{Case, Row, Served, driven, figure, produced, refused, row};

const GZIP: i16 = 1;
const SNAPPY: i16 = 2;
const LZ4: i16 = 3;
const ZSTD: i16 = 4;
const INVALID: i16 = 87;
const XERIAL: &[u8] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// What a bomb holds.
const BOMB_MIB: usize = 1_000;
const COMPACTED: &[(&str, &str)] = &[("cleanup.policy", "compact")];
const FRAME: &[(&str, &str)] = &[("compression.validation", "frame")];

pub(super) fn rows() -> Vec<Row> {
    let one = valid().records;
    let member = |plain: &[u8]| gzip(plain);
    let cut = |codec, stream: &[u8], bytes: usize| packed(codec, &stream[..stream.len() - bytes]);
    let behind = |codec, stream: &[u8]| packed(codec, &[stream, b"junk"].concat());
    let xerial = |tail: &[u8]| packed(SNAPPY, &[XERIAL, tail].concat());
    let mut bad_sum = lz4(&one);
    bad_sum[6] ^= 1;
    let size_lie = [&[0x04, 0x22, 0x4d, 0x18, 0x68, 0x40][..], &u64::MAX.to_le_bytes(), &[0; 5]].concat();
    vec![
        driven(85, "1 GB of zeros in 1 MB of gzip", |broker| {
            explodes(broker, packed(GZIP, &gzip_bomb(None)));
        })
        .peak_kib(70 * 1024),
        driven(85, "the same, and its trailer lies", |broker| {
            explodes(broker, packed(GZIP, &gzip_bomb(Some(1 << 20))));
        }),
        // The last member of two is small and honest.
        driven(85, "the same, and a member behind it", |broker| {
            let members =
                [gzip_bomb(None), gzip(&(0..9_999_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>())];
            explodes(broker, packed(GZIP, &members.concat()));
        }),
        driven(86, "the same in zstd", |broker| explodes(broker, packed(ZSTD, &zstd_bomb())))
            .peak_kib(70 * 1024),
        driven(86, "the same in lz4", |broker| explodes(broker, packed(LZ4, &lz4_bomb())))
            .peak_kib(70 * 1024),
        driven(86, "the same in snappy", |broker| explodes(broker, packed(SNAPPY, &snappy_bomb())))
            .peak_kib(70 * 1024),
        driven(86, "snappy of 2^32 - 1 bytes", |broker| {
            explodes(broker, packed(SNAPPY, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0, b'a']));
        }),
        driven(87, "zstd with a window of 2 GiB, and with a dictionary", |broker| {
            explodes(broker, packed(ZSTD, &zstd_window(21 << 3)));
            explodes(broker, packed(ZSTD, b"\x28\xb5\x2f\xfd\x23\x05\xff\x0a\0\0"));
        })
        .peak_kib(16 * 1024),
        // What zstd writes at levels 20 to 22, and what Kafka's decoder (and every other by default) takes.
        driven(87, "zstd with a window of 128 MiB", |broker| {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(27).unwrap();
            encoder.write_all(&one_record()).unwrap();
            let stream = encoder.finish().unwrap();
            assert_eq!(stream[5], 17 << 3, "the window");
            let mut client = broker.client();
            for (topic, configs) in [("row-87", &[][..]), ("row-87-compacted", COMPACTED)] {
                client.create_topic(topic, configs);
                assert_eq!(client.produce(topic, -1, &packed(ZSTD, &stream)).0, 0, "{topic}");
            }
        })
        .peak_kib(16 * 1024),
        driven(88, "gzip in gzip", |broker| {
            let inner = gzip(&gzip(b"inner"));
            let sent = packed(GZIP, &gzip(&record(0, b"k", &inner)));
            let mut client = broker.client();
            assert_eq!(client.create_topic("row-88", &[]), 0);
            assert_eq!(client.produce("row-88", -1, &sent).0, 0);
            let stored = client.call(1, 4, &fetch_body("row-88", 0)).bytes;
            assert!(stored.ends_with(&sent[16..]), "stored as received");
        }),
        refused(
            89,
            "streams that are cut",
            INVALID,
            [
                cut(GZIP, &gzip(&one), 12),
                cut(GZIP, &gzip(&one), 1),
                cut(SNAPPY, &snappy(&one), 1),
                cut(LZ4, &lz4(&one), 4),
                cut(LZ4, &lz4(&one), 1),
                cut(ZSTD, &zstd(&one), 1),
                packed(GZIP, &gzip(b"")[..10]),
            ],
        ),
        refused(
            89,
            "bytes behind a stream",
            INVALID,
            [
                behind(GZIP, &gzip(&one)),
                behind(SNAPPY, &snappy(&one)),
                behind(LZ4, &lz4(&one)),
                behind(ZSTD, &zstd(&one)),
            ],
        ),
        // One stream after another is a stream to gzip (RFC 1952) and to Java's GZIPInputStream.
        row(
            89,
            "gzip members",
            Case::Appended(1, vec![packed(GZIP, &[member(&one[..3]), member(&one[3..])].concat())]),
        ),
        refused(
            90,
            "xerial blocks",
            INVALID,
            [
                xerial(&[0; 4]),
                xerial(&[0; 4_000]),
                xerial(b"\xff\xff\xff\xffabc"),
                xerial(b"\0\0\0\x09\x01\0a"),
                xerial(b""),
            ],
        ),
        refused(91, "lz4 headers", INVALID, [packed(LZ4, &bad_sum), packed(LZ4, &size_lie)]),
        driven(89, "streams of what is wrong", wrong_inside).peak_kib(16 * 1024),
        driven(89, "framings", framings),
        driven(92, "zstd before Produce v7", |broker| {
            let mut client = broker.client();
            assert_eq!(client.create_topic("row-92", &[]), 0);
            let body = produce_body("row-92", -1, &packed(ZSTD, &zstd(&one_record())));
            for version in 3..7 {
                assert_eq!(produced(client.call(0, version, &body)).0, 76, "v{version}");
            }
            assert_eq!(produced(client.call(0, 7, &body)).0, 0);
        }),
    ]
}

/// Refused at little cost, by topics that look into records and by those that look at the shape of a stream.
fn explodes(broker: &Served, batch: Vec<u8>) {
    let mut client = broker.client();
    for (topic, configs) in [("bombs", &[][..]), ("bombs-compacted", COMPACTED), ("bombs-frame", FRAME)] {
        // The topics are the same for all bombs.
        client.create_topic(topic, &[configs, &[("max.message.bytes", "2000000")]].concat());
        let before = broker.cpu();
        assert_eq!(client.produce(topic, 1, &batch).0, INVALID, "{topic}");
        let took = broker.cpu().saturating_sub(before);
        assert_eq!(client.list_offset(topic, -1), (0, 0), "{topic}");
        assert!(took < figure(750), "{topic}: {took:?}");
    }
}

/// A topic that looks into its records refuses them all, and one that looks at the shape of streams takes them.
fn wrong_inside(broker: &Served) {
    // Large enough that their count tells nothing.
    let one = |delta| record(delta, b"k", b"a value of some bytes");
    let plain = [one(0), one(1), one(2)].concat();
    let mut deflate = gzip(&plain);
    deflate[14] ^= 0x55;
    let mut sum = zstd_summed(&plain);
    let last = sum.len() - 1;
    sum[last] ^= 1;
    let mut client = broker.client();
    for (topic, configs) in [("inside", &[][..]), ("inside-frame", FRAME)] {
        assert_eq!(client.create_topic(topic, configs), 0);
    }
    let mut taken = 0;
    for (name, codec, stream) in [
        ("fewer records than the count", ZSTD, zstd(&[one(0), one(1)].concat())),
        ("more records than the count", ZSTD, zstd(&[plain.clone(), one(3)].concat())),
        ("bytes behind the records", LZ4, lz4(&[&plain[..], b"xx"].concat())),
        ("offset deltas that repeat", SNAPPY, snappy(&[one(0), one(0), one(0)].concat())),
        ("offset deltas with a hole", GZIP, gzip(&[one(0), one(2), one(3)].concat())),
        ("no records", ZSTD, zstd(&b"garbage, and nothing else ".repeat(4))),
        ("damage in deflate", GZIP, deflate),
        ("a checksum that is not the content's", ZSTD, sum),
    ] {
        let batch = Forged { attributes: codec, records: stream, ..valid_of(3) }.bytes();
        assert_eq!(client.produce("inside", -1, &batch).0, INVALID, "{name}");
        assert_eq!(client.list_offset("inside", -1), (0, 0), "{name}");
        assert_eq!(client.produce("inside-frame", -1, &batch).0, 0, "{name}");
        taken += 3;
        assert_eq!(client.list_offset("inside-frame", -1), (0, taken), "{name}");
    }
}

/// What Kafka 4.3.1 takes and what it does not.
fn framings(broker: &Served) {
    let plain = valid_of(3).records;
    let (front, back) = plain.split_at(plain.len() / 2);
    let skippable = b"\x50\x2a\x4d\x18\x03\0\0\0\x07\x07\x07";
    let named =
        [&b"\x1f\x8b\x08\x1c\0\0\0\0\0\xff\x03\0abcname\0comment\0"[..], &gzip(&plain)[10..]].concat();
    let linked = {
        let info = lz4_flex::frame::FrameInfo::new().block_mode(lz4_flex::frame::BlockMode::Linked);
        let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&plain).unwrap();
        encoder.finish().unwrap()
    };
    let summed = {
        let info = lz4_flex::frame::FrameInfo::new().block_checksums(true).content_checksum(true);
        let info = info.content_size(Some(plain.len() as u64));
        let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&plain).unwrap();
        encoder.finish().unwrap()
    };
    let xerial = |chunks: &[&[u8]]| {
        let chunk = |plain: &&[u8]| {
            let packed = snappy(plain);
            [&(packed.len() as u32).to_be_bytes()[..], &packed].concat()
        };
        [XERIAL, &chunks.iter().flat_map(chunk).collect::<Vec<_>>()].concat()
    };
    let mut client = broker.client();
    for (topic, configs) in [("framings", &[][..]), ("framings-frame", FRAME)] {
        assert_eq!(client.create_topic(topic, configs), 0);
        for (name, code, codec, stream) in [
            ("gzip members", 0, GZIP, [gzip(front), gzip(back)].concat()),
            ("gzip with fields", 0, GZIP, named.clone()),
            ("xerial chunks", 0, SNAPPY, xerial(&[front, back])),
            ("zstd frames", 0, ZSTD, [zstd(front), zstd(back)].concat()),
            ("zstd behind a skippable frame", 0, ZSTD, [&skippable[..], &zstd(&plain)].concat()),
            ("lz4 with sums and size", 0, LZ4, summed.clone()),
            ("lz4 with dependent blocks", INVALID, LZ4, linked.clone()),
            ("lz4 frames", INVALID, LZ4, [lz4(front), lz4(back)].concat()),
            ("lz4 behind a skippable frame", INVALID, LZ4, [&skippable[..], &lz4(&plain)].concat()),
        ] {
            let batch = Forged { attributes: codec, records: stream, ..valid_of(3) }.bytes();
            assert_eq!(client.produce(topic, -1, &batch).0, code, "{name} to {topic}");
        }
    }
}

fn zstd_summed(plain: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// A batch of one record that says it is compressed.
fn packed(codec: i16, stream: &[u8]) -> Vec<u8> {
    Forged { attributes: codec, records: stream.to_vec(), ..valid() }.bytes()
}

fn one_record() -> Vec<u8> {
    valid().records
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn snappy(plain: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(plain).unwrap()
}

fn lz4(plain: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(plain, 3).unwrap()
}

/// The bytes of one record before and after its value of that many zeros.
fn around(zeros: usize) -> (Vec<u8>, Vec<u8>) {
    let rest = [&[0, 0, 0, 2, b'k'][..], &varint(zeros as i64)].concat();
    ([varint((rest.len() + zeros + 1) as i64), rest].concat(), vec![0])
}

/// Its trailer says the true size, or another.
fn gzip_bomb(size: Option<u32>) -> Vec<u8> {
    let (first, last) = around(BOMB_MIB << 20);
    let zeros = vec![0; 1 << 20];
    let mut deflate = flate2::Compress::new(flate2::Compression::best(), false);
    let mut part = |plain: &[u8], flush| {
        let mut out = Vec::with_capacity(1 << 16);
        deflate.compress_vec(plain, &mut out, flush).unwrap();
        out
    };
    // After a full flush nothing refers back, so one MiB of zeros can be said again and again.
    let full = flate2::FlushCompress::Full;
    let (head, middle, tail) =
        (part(&first, full), part(&zeros, full), part(&last, flate2::FlushCompress::Finish));
    let (mut crc, mut one_mib) = (crc32fast::Hasher::new(), crc32fast::Hasher::new());
    crc.update(&first);
    one_mib.update(&zeros);
    (0..BOMB_MIB).for_each(|_| crc.combine(&one_mib));
    crc.update(&last);
    let size = size.unwrap_or((first.len() + (BOMB_MIB << 20) + last.len()) as u32);
    let trailer = [crc.finalize().to_le_bytes(), size.to_le_bytes()].concat();
    [&b"\x1f\x8b\x08\0\0\0\0\0\0\xff"[..], &head, &middle.repeat(BOMB_MIB), &tail, &trailer].concat()
}

/// A window of 128 KiB, a raw block, then blocks of one repeated byte.
fn zstd_bomb() -> Vec<u8> {
    let zeros = BOMB_MIB << 20;
    let (first, last) = around(zeros);
    let block =
        |kind: usize, size: usize, last: usize| (size << 3 | kind << 1 | last).to_le_bytes()[..3].to_vec();
    let run = [block(1, 128 << 10, 0), vec![0]].concat().repeat(zeros >> 17);
    let head = b"\x28\xb5\x2f\xfd\0\x38";
    [&head[..], &block(0, first.len(), 0), &first, &run, &block(0, 1, 1), &last].concat()
}

/// Declares all of it and holds 20 MiB.
fn snappy_bomb() -> Vec<u8> {
    let (first, last) = around(BOMB_MIB << 20);
    let plain = first.len() + (BOMB_MIB << 20) + last.len();
    let literal = [&[(first.len() as u8) << 2][..], &first, &[0]].concat();
    [&uvarint(plain as u64)[..], &literal, &b"\xfe\x01\0".repeat((20 << 20) / 64)].concat()
}

/// Blocks of 4 MiB, each a literal and one long match.
fn lz4_bomb() -> Vec<u8> {
    const BLOCK_BYTES: usize = 4 << 20;
    let block = |literal: &[u8]| {
        let run = BLOCK_BYTES - literal.len() - 5 - 19;
        let token = [&[0xff, literal.len() as u8 - 15][..], literal, &[1, 0]].concat();
        let length = [&vec![0xff; run / 255][..], &[(run % 255) as u8]].concat();
        let block = [&token[..], &length, &[5 << 4], &[0; 5]].concat();
        [&(block.len() as u32).to_le_bytes()[..], &block].concat()
    };
    let (first, _) = around(BOMB_MIB << 20);
    let head = b"\x04\x22\x4d\x18\x60\x70\x73";
    [&head[..], &block(&first), &block(&[0; 15]).repeat(50), &[0; 4]].concat()
}

/// One raw block of a zstd frame with that window descriptor.
fn zstd_window(descriptor: u8) -> Vec<u8> {
    [&b"\x28\xb5\x2f\xfd\0"[..], &[descriptor], &[(1 << 3) | 1, 0, 0], b"a"].concat()
}

#[test]
fn the_cap_on_plain_records_is_the_configured_one() {
    let broker = Served::start(&["max.decompressed.bytes=100000"]);
    let mut client = broker.client();
    for (topic, configs) in [("plain", &[][..]), ("compacted", COMPACTED), ("frame", FRAME)] {
        assert_eq!(client.create_topic(topic, configs), 0);
        for (value_bytes, code) in [(90_000, 0), (100_000, INVALID)] {
            // Not too dense, so that no other limit is met.
            let value: Vec<u8> = (0..value_bytes).map(|n: usize| (n / 100) as u8).collect();
            let plain = record(0, b"k", &value);
            assert_eq!(client.produce(topic, -1, &packed(0, &plain)).0, 0, "what is not compressed");
            for (codec, stream) in
                [(GZIP, gzip(&plain)), (SNAPPY, snappy(&plain)), (LZ4, lz4(&plain)), (ZSTD, zstd(&plain))]
            {
                let answered = client.produce(topic, -1, &packed(codec, &stream)).0;
                assert_eq!(answered, code, "codec {codec}, {value_bytes} bytes to {topic}");
            }
        }
    }
    for topic in ["plain", "compacted", "frame"] {
        assert_eq!(client.list_offset(topic, 1), (0, 0), "{topic} by time");
    }
    broker.end();
}

#[test]
fn what_is_in_a_stream_is_looked_at_unless_a_broker_or_a_topic_says_frame() {
    let garbage = packed(ZSTD, &zstd(&b"garbage, and nothing else ".repeat(4)));
    for (broker, [by_default, strict, frame]) in
        [(&[][..], [INVALID, INVALID, 0]), (&["compression.validation=frame"][..], [0, INVALID, 0])]
    {
        let broker = Served::start(broker);
        let mut client = broker.client();
        for (topic, configs, code) in [
            ("by-default", &[][..], by_default),
            ("strict", &[("compression.validation", "strict")][..], strict),
            ("frame", FRAME, frame),
        ] {
            assert_eq!(client.create_topic(topic, configs), 0);
            assert_eq!(client.produce(topic, -1, &garbage).0, code, "{topic}");
        }
        broker.end();
    }
}
