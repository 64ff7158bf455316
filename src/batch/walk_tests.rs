//! Laws of the walk over compressed records: it is of one opinion with the walk over plain ones, wherever the pieces
//! of a stream end; caps and budgets count what is produced.

use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::batch::records::walk;
use crate::batch::{Builder, Record};

const UNLIMITED: usize = usize::MAX;

fn zstd_of(section: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(section, 1).unwrap()
}

fn gzip_of(section: &[u8]) -> Vec<u8> {
    let mut w = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    w.write_all(section).unwrap();
    w.finish().unwrap()
}

fn lz4_of(section: &[u8]) -> Vec<u8> {
    let info = lz4_flex::frame::FrameInfo::new().block_size(lz4_flex::frame::BlockSize::Max64KB);
    let mut w = lz4_flex::frame::FrameEncoder::with_frame_info(info.content_checksum(true), Vec::new());
    w.write_all(section).unwrap();
    w.finish().unwrap()
}

fn xerial_of(section: &[u8], chunk_bytes: usize) -> Vec<u8> {
    let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for chunk in section.chunks(chunk_bytes) {
        let packed = snap::raw::Encoder::new().compress_vec(chunk).unwrap();
        out.extend_from_slice(&u32::try_from(packed.len()).unwrap().to_be_bytes());
        out.extend_from_slice(&packed);
    }
    out
}

/// The same section in pieces of several sizes.
fn streams(section: &[u8]) -> Vec<(Codec, Vec<u8>)> {
    let members: Vec<u8> = section.chunks(1000.max(section.len() / 20)).flat_map(gzip_of).collect();
    let frames: Vec<u8> = section.chunks(1000.max(section.len() / 20)).flat_map(zstd_of).collect();
    vec![
        (Codec::Gzip, gzip_of(section)),
        (Codec::Gzip, members),
        (Codec::Snappy, snap::raw::Encoder::new().compress_vec(section).unwrap()),
        (Codec::Snappy, xerial_of(section, 7.max(section.len() / 500))),
        (Codec::Snappy, xerial_of(section, 40_000)),
        (Codec::Lz4, lz4_of(section)),
        (Codec::Zstd, zstd_of(section)),
        (Codec::Zstd, frames),
    ]
}

fn plain_walk(section: &[u8], count: i32) -> Option<Vec<Met>> {
    let mut met = Vec::new();
    walk(section, count, |record| met.push(record)).ok().map(|()| met)
}

fn compressed_walk(codec: Codec, stream: &[u8], count: i32, max_bytes: usize) -> Result<Vec<Met>, Halt> {
    let mut met = Vec::new();
    walk_compressed(codec, stream, count, max_bytes, &mut { UNLIMITED }, |record| met.push(record))?;
    Ok(met)
}

/// Every stream of `section` says what the plain walk says.
fn agree(section: &[u8], count: i32) {
    let expected = plain_walk(section, count);
    for (codec, stream) in streams(section) {
        let found = compressed_walk(codec, &stream, count, section.len());
        assert_eq!(found.ok(), expected, "{codec:?} of {} bytes, {count} records", section.len());
    }
}

fn section_of(records: Vec<Record>) -> (Vec<u8>, i32) {
    let count = i32::try_from(records.len()).unwrap();
    let mut builder = Builder::new();
    records.into_iter().for_each(|record| builder.push(record));
    (builder.build().unwrap().bytes()[61..].to_vec(), count)
}

fn large(bytes: usize) -> Option<bytes::Bytes> {
    Some((0..bytes).map(|n| u8::try_from(n / 64 % 251).unwrap()).collect::<Vec<_>>().into())
}

#[test]
fn records_that_do_not_fit_a_window_are_passed_over() {
    let header = |bytes| vec![("h".into(), None), ("name".into(), large(bytes)), ("n".into(), None)];
    let small = || Record { timestamp_ms: 7, value: large(3), ..Record::default() };
    for (key, value, head) in [
        (None, large(LARGE_RECORD_BYTES - 20), 0),
        (large(LARGE_RECORD_BYTES - 14), None, 0),
        (large(200_000), large(300_000), 400_000),
        (None, None, 500_000),
        (large(0), large(1 << 20), 0),
    ] {
        let record = Record { timestamp_ms: 9, key, value, headers: header(head) };
        let (section, count) = section_of(vec![small(), record.clone(), small(), record, small()]);
        agree(&section, count);
        agree(&section, count - 1);
        agree(&section, count + 1);
        agree(&section[..section.len() - 1], count);
    }
}

#[test]
fn damage_in_a_large_record_is_seen_where_a_walk_over_plain_bytes_sees_it() {
    let record = Record {
        timestamp_ms: 9,
        key: large(70_000),
        value: large(90_000),
        headers: vec![("name".into(), large(5)), ("n".into(), None)],
    };
    let (section, count) = section_of(vec![record]);
    // Lengths and deltas stand at the front, behind the key, behind the value and at the end.
    let places = [0..9, 70_008..70_012, section.len() - 14..section.len()].into_iter().flatten();
    for at in places {
        for byte in [0, 3, 0x80, section[at] ^ 0x40] {
            let mut damaged = section.clone();
            damaged[at] = byte;
            let expected = plain_walk(&damaged, count);
            let found = compressed_walk(Codec::Lz4, &lz4_of(&damaged), count, damaged.len()).ok();
            assert_eq!(found, expected, "{byte} at {at}");
        }
    }
}

#[test]
fn the_cap_counts_what_is_produced() {
    let (section, count) = section_of(vec![Record { value: large(300_000), ..Record::default() }; 3]);
    for (codec, stream) in streams(&section) {
        assert!(compressed_walk(codec, &stream, count, section.len()).is_ok());
        for max_bytes in [section.len() - 1, 299_000, 1, 0] {
            let refused = compressed_walk(codec, &stream, count, max_bytes).unwrap_err();
            let too_large = Invalid::Record("records decompress past the cap");
            assert_eq!(refused, Halt::Invalid(too_large), "{codec:?} at {max_bytes}");
        }
    }
}

#[test]
fn a_budget_is_spent_by_what_is_produced_and_ends_the_walk() {
    let (section, count) = section_of(vec![Record { value: large(300_000), ..Record::default() }; 3]);
    for (codec, stream) in streams(&section) {
        let walked = |budget: &mut usize| walk_compressed(codec, &stream, count, UNLIMITED, budget, |_| ());
        let mut plenty = 10 << 20;
        assert_eq!(walked(&mut plenty), Ok(()));
        let spent = (10 << 20) - plenty;
        // Ends of frames produce nothing.
        assert!((section.len()..section.len() + (8 << 10)).contains(&spent), "{codec:?}: {spent}");
        let mut little = section.len() / 2;
        assert_eq!(walked(&mut little), Err(Halt::Spent), "{codec:?}");
    }
}

/// `section` and then as many bytes that hold nothing.
fn streams_that_produce_nothing(section: &[u8], idle_bytes: usize) -> Vec<(&'static str, Codec, Vec<u8>)> {
    let many = |part: &[u8]| part.repeat(idle_bytes / part.len());
    let behind = |mut stream: Vec<u8>, part: &[u8]| {
        stream.extend_from_slice(&many(part));
        stream
    };
    // Four empty blocks with deflate's fixed codes, and the last one of a member.
    let blocks = (1_u64 << 1 | 1 << 11 | 1 << 21 | 1 << 31).to_le_bytes();
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let member = [&head[..], &many(&blocks[..5]), &[3, 0], &[0; 8]].concat();
    let mut lz4 = lz4_of(section);
    let end = lz4.split_off(lz4.len() - 8);
    let lz4 = [behind(lz4, &[1, 0, 0, 0, 0]), end].concat();
    let [skippable, empty] = [0x184D_2A50_u64.to_le_bytes().to_vec(), zstd_of(&[])];
    vec![
        ("members", Codec::Gzip, behind(gzip_of(section), &gzip_of(&[]))),
        ("blocks in a member", Codec::Gzip, [gzip_of(section), member].concat()),
        ("chunks", Codec::Snappy, behind(xerial_of(section, 40_000), &[0, 0, 0, 1, 0])),
        ("blocks", Codec::Lz4, lz4),
        ("skippable frames", Codec::Zstd, behind(zstd_of(section), &skippable)),
        ("empty frames", Codec::Zstd, behind(zstd_of(section), &empty)),
    ]
}

/// Work that produces nothing is work: it goes where there is time for it, and within the budget little of it is done.
#[test]
fn a_budget_is_spent_by_what_produces_nothing() {
    let (section, count) = section_of(vec![Record { value: large(3), ..Record::default() }]);
    for (what, codec, stream) in streams_that_produce_nothing(&section, 200_000) {
        let walked = |budget: &mut usize| walk_compressed(codec, &stream, count, UNLIMITED, budget, |_| ());
        assert_eq!(walked(&mut { UNLIMITED }), Ok(()), "{what}");
        assert_eq!(walked(&mut { 512 << 10 }), Err(Halt::Spent), "{what}");
    }
}

#[test]
fn a_thread_keeps_little() {
    let (section, count) = section_of(vec![Record { value: large(5 << 20), ..Record::default() }]);
    let snappy = snap::raw::Encoder::new().compress_vec(&section).unwrap();
    assert!(compressed_walk(Codec::Snappy, &snappy, count, UNLIMITED).is_ok());
    with_kept(|kept| assert_eq!(kept.window.len(), 0));
    let small = section_of(vec![Record { value: large(1000), ..Record::default() }]);
    assert!(compressed_walk(Codec::Zstd, &zstd_of(&small.0), small.1, UNLIMITED).is_ok());
    with_kept(|kept| assert!((1..=1 << 20).contains(&kept.window.len())));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn both_walks_agree_on_damaged_records(
        values in proptest::collection::vec(0usize..200, 1..6),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
        more in -1i32..2,
    ) {
        let record = |bytes: usize| Record {
            timestamp_ms: bytes as i64,
            key: (!bytes.is_multiple_of(3)).then(|| vec![7; bytes % 9].into()),
            value: large(bytes),
            headers: (0..bytes % 3).map(|n| ("h".into(), large(n))).collect(),
        };
        let (mut section, count) = section_of(values.into_iter().map(record).collect());
        let at = at.index(section.len());
        section[at] = byte;
        agree(&section, count + more);
    }

    #[test]
    fn no_bytes_make_the_walk_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let _ = compressed_walk(codec, &bytes, 1, 1000);
        }
    }
}
