//! Laws of the room as a whole: what a client may not send, what comes back as it was built, and that the
//! fast walk and the caps hold against a slow reference and against bombs.

use std::io::Write;

use bytes::Bytes;
use proptest::prelude::*;

use super::check::crc32c;
use super::header::CRC_FROM;
use super::*;

fn text(s: &'static str) -> Option<Bytes> {
    Some(Bytes::from_static(s.as_bytes()))
}

fn record(timestamp_ms: i64, key: Option<Bytes>, value: Option<Bytes>) -> Record {
    Record { timestamp_ms, key, value, headers: Vec::new() }
}

fn built(records: impl IntoIterator<Item = Record>) -> Batch {
    let mut builder = Builder::new();
    records.into_iter().for_each(|record| builder.push(record));
    builder.build().unwrap()
}

fn three() -> Batch {
    let headers = vec![(Bytes::from_static(b"h"), text("1")), (Bytes::from_static(b"h"), None)];
    let last = Record { headers, ..record(1005, None, text("c")) };
    built([record(1000, text("k"), text("a")), record(1020, text("k"), None), last])
}

/// A batch with other header fields and other records, length and CRC made to fit.
fn forged(header: Header, section: &[u8]) -> Bytes {
    let length = i32::try_from(section.len() + HEADER_BYTES - 12).unwrap();
    let mut bytes = Header { length, ..header }.encode().to_vec();
    bytes.extend_from_slice(section);
    resealed(bytes)
}

fn resealed(mut bytes: Vec<u8>) -> Bytes {
    let crc = crc32c(&bytes[CRC_FROM..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

fn compressed(codec: Codec, section: &[u8]) -> Vec<u8> {
    match codec {
        Codec::None => section.to_vec(),
        Codec::Gzip => {
            let mut w = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            w.write_all(section).unwrap();
            w.finish().unwrap()
        }
        Codec::Snappy => snap::raw::Encoder::new().compress_vec(section).unwrap(),
        Codec::Lz4 => {
            let mut w = lz4_flex::frame::FrameEncoder::new(Vec::new());
            w.write_all(section).unwrap();
            w.finish().unwrap()
        }
        Codec::Zstd => zstd::stream::encode_all(section, 1).unwrap(),
    }
}

const CODECS: [(i16, Codec); 4] = [(1, Codec::Gzip), (2, Codec::Snappy), (3, Codec::Lz4), (4, Codec::Zstd)];

fn xerial(blocks: &[&[u8]]) -> Vec<u8> {
    let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for block in blocks {
        let packed = compressed(Codec::Snappy, block);
        out.extend_from_slice(&i32::try_from(packed.len()).unwrap().to_be_bytes());
        out.extend_from_slice(&packed);
    }
    out
}

fn check(bytes: impl Into<Bytes>) -> Result<Batch, Invalid> {
    Batch::check(bytes.into(), Rules::default())
}

fn is_record<T>(answer: &Result<T, Invalid>) -> bool {
    matches!(answer, Err(Invalid::Record(_)))
}

#[test]
fn the_checksum_is_castagnoli() {
    assert_eq!(crc32c(b"123456789"), 0xE306_9283);
}

#[test]
fn what_was_built_passes_and_reads_back_in_order() {
    let batch = three();
    let checked = check(batch.bytes().clone()).unwrap();
    assert_eq!(checked.bytes().as_ptr(), batch.bytes().as_ptr(), "a right batch is not copied");
    assert_eq!((checked.header().max_timestamp, checked.header().record_count), (1020, 3));
    let records: Vec<_> = Records::new(batch.section(), 3).map(Result::unwrap).collect();
    assert_eq!(records.iter().map(|r| r.timestamp_delta).collect::<Vec<_>>(), [0, 20, 5]);
    assert_eq!((records[0].key, records[0].value), (Some(&b"k"[..]), Some(&b"a"[..])));
    assert_eq!((records[1].value, records[2].key), (None, None));
    let pairs: Vec<_> = records[2].header_pairs().collect();
    assert_eq!(pairs, [(&b"h"[..], Some(&b"1"[..])), (&b"h"[..], None)]);
}

#[test]
fn bytes_that_are_not_one_whole_batch_are_refused() {
    let whole = three().bytes().to_vec();
    assert!(is_record(&check(Bytes::new())));
    assert!(is_record(&check([&whole[..], &whole[..]].concat())), "two batches");
    assert!(is_record(&check([&whole[..], b"x"].concat())), "trailing byte");
    for cut in 1..whole.len() {
        assert!(matches!(check(whole[..cut].to_vec()), Err(Invalid::Corrupt(_))), "cut at {cut}");
    }
    for length in [-1, 0, 48, i32::MAX, i32::MIN] {
        let mut bytes = whole.clone();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        assert!(matches!(check(bytes), Err(Invalid::Corrupt(_))), "length {length}");
    }
}

#[test]
fn magic_other_than_two_is_named() {
    for magic in [0, 1] {
        let mut bytes = three().bytes().to_vec();
        bytes[16] = magic;
        assert_eq!(check(bytes).unwrap_err(), Invalid::Magic(magic.cast_signed()));
    }
    assert_eq!(check(vec![0; 26]).unwrap_err(), Invalid::Magic(0), "a legacy message is short");
    for magic in [3u8, 0xff, 127] {
        let mut bytes = three().bytes().to_vec();
        bytes[16] = magic;
        assert!(is_record(&check(bytes)));
    }
}

#[test]
fn every_flipped_bit_behind_the_prefix_is_corrupt_even_where_it_breaks_a_rule() {
    let whole = three().bytes().to_vec();
    for bit in 17 * 8..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(check(bytes).unwrap_err(), Invalid::Corrupt("CRC-32C mismatch"), "bit {bit}");
    }
}

#[test]
fn the_wrong_polynomial_is_corrupt() {
    let mut bytes = three().bytes().to_vec();
    let crc = crc32fast::hash(&bytes[CRC_FROM..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(check(bytes).unwrap_err(), Invalid::Corrupt("CRC-32C mismatch"));
}

#[test]
fn a_header_that_breaks_a_rule_is_an_invalid_record() {
    let batch = three();
    let good = *batch.header();
    let with_count = |n: i32| Header { record_count: n, last_offset_delta: n.wrapping_sub(1), ..good };
    let rows = [
        ("base offset", Header { base_offset: 5, ..good }),
        ("base offset", Header { base_offset: -1, ..good }),
        ("base offset", Header { base_offset: i64::MAX, ..good }),
        ("count -1", with_count(-1)),
        ("count 0", with_count(0)),
        ("count 2", with_count(2)),
        ("count 4", with_count(4)),
        ("count max", with_count(i32::MAX)),
        ("count min", with_count(i32::MIN)),
        ("delta", Header { last_offset_delta: 3, ..good }),
        ("delta", Header { last_offset_delta: i32::MAX, ..good }),
        ("control", Header { attributes: 0x20, ..good }),
        ("delete horizon", Header { attributes: 0x40, ..good }),
        ("transaction without producer", Header { attributes: 0x10, ..good }),
        ("no sequence", Header { producer_id: 1, producer_epoch: 0, base_sequence: -1, ..good }),
        ("no epoch", Header { producer_id: 1, producer_epoch: -1, base_sequence: 0, ..good }),
        ("timestamp overflow", Header { base_timestamp: i64::MAX - 1, ..good }),
    ];
    for (name, header) in rows {
        let answer = check(forged(header, batch.section()));
        assert!(is_record(&answer), "{name}: {answer:?}");
    }
    for codec in [5, 6, 7] {
        let answer = check(forged(Header { attributes: codec, ..good }, batch.section()));
        assert_eq!(answer.unwrap_err(), Invalid::Codec(codec));
    }
}

#[test]
fn a_count_that_compressed_bytes_cannot_hold_is_refused_without_decompressing() {
    let header = Header {
        attributes: 1,
        record_count: i32::MAX,
        last_offset_delta: i32::MAX - 1,
        ..*three().header()
    };
    assert!(is_record(&check(forged(header, b"not gzip"))));
}

#[test]
fn zstd_needs_a_rule_that_allows_it() {
    let packed = compressed(Codec::Zstd, three().section());
    let bytes = forged(Header { attributes: 4, ..*three().header() }, &packed);
    assert!(check(bytes.clone()).is_ok(), "compressed records are stored as received");
    let rules = Rules { zstd: false, ..Rules::default() };
    assert_eq!(Batch::check(bytes, rules).unwrap_err(), Invalid::Codec(4));
}

/// Smallest and largest timestamp delta of a plain section.
fn walk(section: &[u8], count: i32) -> Result<(i64, i64), Invalid> {
    let mut deltas = (i64::MAX, i64::MIN);
    super::records::walk(section, count, |met| {
        deltas = (deltas.0.min(met.timestamp_delta), deltas.1.max(met.timestamp_delta));
    })?;
    Ok(deltas)
}

/// One record around `body`, its length in front.
fn framed(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    super::varint::put(&mut out, i64::try_from(body.len()).unwrap());
    out.extend_from_slice(body);
    out
}

#[test]
fn a_damaged_record_is_refused_whatever_its_count_says() {
    // Body: attributes, timestamp delta, offset delta, key length, value length, header count.
    let good = framed(&[0, 0, 0, 1, 2, b'v', 0]);
    assert!(walk(&good, 1).is_ok());
    let rows: &[(&str, Vec<u8>)] = &[
        ("no bytes", vec![]),
        ("negative length", vec![0x01]),
        ("length past the end", vec![0x20, 0, 0, 0, 1, 1, 0]),
        ("overlong length", [vec![0xff; 9], vec![1]].concat()),
        ("length 0", vec![0]),
        ("offset delta 1", framed(&[0, 0, 2, 1, 1, 0])),
        ("offset delta -1", framed(&[0, 0, 1, 1, 1, 0])),
        ("key length -2", framed(&[0, 0, 0, 3, 1, 0])),
        ("value length -2", framed(&[0, 0, 0, 1, 3, 0])),
        ("key past the record", framed(&[0, 0, 0, 40, 1, 0])),
        ("value past the record", framed(&[0, 0, 0, 1, 40, 0])),
        ("header count missing", framed(&[0, 0, 0, 1, 1])),
        ("header count -1", framed(&[0, 0, 0, 1, 1, 1])),
        ("header count huge", framed(&[0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f])),
        ("header name null", framed(&[0, 0, 0, 1, 1, 2, 1, 1])),
        ("header value -2", framed(&[0, 0, 0, 1, 1, 2, 0, 3])),
        ("header cut", framed(&[0, 0, 0, 1, 1, 2, 2, b'n'])),
        ("bytes behind the headers", framed(&[0, 0, 0, 1, 1, 0, 0])),
        ("bytes behind the record", [good.clone(), vec![0]].concat()),
        ("a second record", [good.clone(), good.clone()].concat()),
    ];
    for (name, section) in rows {
        assert!(is_record(&walk(section, 1)), "{name}");
        let answer = Records::new(section, 1).collect::<Result<Vec<_>, _>>();
        assert!(answer.is_err() || name.starts_with("offset"), "{name}");
    }
    assert!(is_record(&walk(&[good.clone(), good].concat(), 2)), "repeated offset delta");
}

#[test]
fn headers_beyond_the_limit_are_refused() {
    for (count, fine) in [(MAX_HEADERS, true), (MAX_HEADERS + 1, false)] {
        let mut body = vec![0, 0, 0, 1, 1];
        super::varint::put(&mut body, i64::try_from(count).unwrap());
        body.extend(std::iter::repeat_n([0, 1], count).flatten());
        assert_eq!(walk(&framed(&body), 1).is_ok(), fine);
    }
}

#[test]
fn a_wrong_max_timestamp_is_corrected_with_a_new_checksum() {
    let batch = three();
    for wrong in [-1, 0, 1000, 1021, i64::MAX] {
        let bytes = forged(Header { max_timestamp: wrong, ..*batch.header() }, batch.section());
        assert_eq!(check(bytes).unwrap().bytes(), batch.bytes());
    }
}

#[test]
fn compressed_records_keep_their_bytes_unless_the_max_timestamp_is_not_theirs() {
    let batch = three();
    let frame = Rules { strict: false, ..Rules::default() };
    for (attributes, codec) in CODECS {
        let packed = compressed(codec, batch.section());
        let right = forged(Header { attributes, ..*batch.header() }, &packed);
        assert_eq!(check(right.clone()).unwrap().bytes().as_ptr(), right.as_ptr(), "not copied");
        // Never set; the last record's, as some clients write it; after all of them.
        for max_timestamp in [-1, 1005, 1021, i64::MAX] {
            let wrong = forged(Header { attributes, max_timestamp, ..*batch.header() }, &packed);
            assert_eq!(check(wrong.clone()).unwrap().bytes(), &right, "{codec:?} {max_timestamp}");
            let unseen = Batch::check(wrong.clone(), frame).unwrap();
            let believed = if max_timestamp < 1000 { &right } else { &wrong };
            assert_eq!(unseen.bytes(), believed, "{codec:?} {max_timestamp}");
        }
        let lie = Header { attributes, record_count: 2, last_offset_delta: 1, ..*batch.header() };
        assert!(is_record(&check(forged(lie, &packed))), "{codec:?}");
        let bad = [&packed[..packed.len() - 1], b""].concat();
        let cut = forged(Header { attributes, ..*batch.header() }, &bad);
        assert!(is_record(&check(cut)), "cut {codec:?}");
    }
}

#[test]
fn place_and_time_are_patched_as_kafka_does() {
    let batch = three();
    let placed = batch.placed(77, 5);
    let stored = Batch::stored(placed.clone()).unwrap();
    assert_eq!((stored.header().base_offset, stored.header().leader_epoch), (77, 5));
    assert_eq!(stored.header().next_offset(), 80);
    assert_eq!([&batch.prefix(77, 5)[..], &batch.after_prefix()].concat(), placed);
    let stamped = batch.stamped(9999);
    assert_eq!(stamped.header().timestamp_type(), TimestampType::LogAppend);
    assert_eq!(stamped.header().max_timestamp, 9999);
    assert_eq!(Batch::stored(stamped.bytes().clone()).unwrap().header(), stamped.header());
}

#[test]
fn a_marker_is_readable_as_stored_and_never_taken_from_a_client() {
    for (kind, bytes) in [(Marker::Abort, [0, 0, 0, 0]), (Marker::Commit, [0, 0, 0, 1])] {
        let batch = Builder::marker(kind, 9, 3, 11, 500).unwrap();
        assert!(is_record(&check(batch.bytes().clone())));
        let stored = Batch::stored(batch.placed(4, 0)).unwrap();
        assert!(stored.header().is_control() && stored.header().is_transactional());
        let record = Records::new(batch.section(), 1).next().unwrap().unwrap();
        assert_eq!((record.key, Marker::read(&record)), (Some(&bytes[..]), Some(kind)));
        assert_eq!(record.value, Some(&[0, 0, 0, 0, 0, 11][..]));
    }
}

#[test]
fn stored_batches_are_walked_up_to_a_torn_tail() {
    let batch = three();
    let mut log = [batch.placed(0, 0), batch.placed(3, 0)].concat();
    let whole = log.len();
    log.extend_from_slice(&batch.placed(6, 0)[..70]);
    let mut batches = Batches::new(&log);
    let offsets: Vec<_> = batches.by_ref().map(|b| b.unwrap()).map(|b| b.header.base_offset).collect();
    assert_eq!((offsets, batches.position()), (vec![0, 3], whole));
    assert!(Batches::new(&log).all(|b| b.unwrap().verify().is_ok()));
    log[whole - 1] ^= 1;
    assert_eq!(Batches::new(&log).filter(|b| b.as_ref().unwrap().verify().is_err()).count(), 1);
    log[8..12].copy_from_slice(&[0; 4]);
    let mut batches = Batches::new(&log);
    assert!(batches.next().unwrap().is_err());
    assert!(batches.next().is_none() && batches.position() == 0);
}

#[test]
fn compaction_may_leave_fewer_records_than_offsets_but_never_more() {
    let batch = three();
    for (count, delta, fine) in [(0, 2, true), (1, 2, true), (4, 2, false), (-1, 2, false), (0, -1, false)] {
        let header = Header { record_count: count, last_offset_delta: delta, ..*batch.header() };
        assert_eq!(Batch::stored(forged(header, batch.section())).is_ok(), fine, "{count} {delta}");
    }
    let header = Header { base_offset: i64::MAX - 1, ..*batch.header() };
    assert!(is_record(&Batch::stored(forged(header, batch.section()))));
}

#[test]
fn records_are_found_by_time_at_their_first_offset() {
    let batch = built([10, 30, 20, 30].map(|t| record(t, None, None)));
    for (attributes, codec) in [(0, Codec::None), (4, Codec::Zstd)] {
        let header = Header { attributes, base_offset: 100, ..*batch.header() };
        let bytes = forged(header, &compressed(codec, batch.section()));
        let stored = Batches::new(&bytes).next().unwrap().unwrap();
        for (t, found) in [
            (i64::MIN, Some((100, 10))),
            (10, Some((100, 10))),
            (11, Some((101, 30))),
            (30, Some((101, 30))),
            (31, None),
        ] {
            assert_eq!(stored.first_at_or_after(t, 0, 1 << 20).unwrap(), found);
        }
        assert_eq!(stored.first_of_max(0, 1 << 20).unwrap(), Some((101, 30)));
        assert_eq!(stored.first_of_max(102, 1 << 20).unwrap(), Some((103, 30)), "from an offset inside on");
        assert_eq!(stored.first_of_max(104, 1 << 20).unwrap(), None);
        let capped = stored.first_of_max(0, 3);
        assert_eq!(is_record(&capped), codec != Codec::None, "the cap is for what has to be decompressed");
    }
    let stamped = batch.stamped(50).placed(100, 0);
    let stored = Batches::new(&stamped).next().unwrap().unwrap();
    assert_eq!(stored.first_at_or_after(50, 0, 1 << 20).unwrap(), Some((100, 50)));
    assert_eq!(stored.first_at_or_after(50, 101, 1 << 20).unwrap().map(|(offset, _)| offset), Some(101));
    assert_eq!(stored.first_of_max(0, 1 << 20).unwrap(), Some((100, 50)));
}

#[test]
fn every_codec_comes_back_at_its_cap_and_not_one_byte_below() {
    let plain: Vec<u8> = (0..100_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
    for (_, codec) in CODECS {
        let packed = Bytes::from(compressed(codec, &plain));
        assert_eq!(decompress(codec, &packed, plain.len()).unwrap(), plain, "{codec:?}");
        assert!(is_record(&decompress(codec, &packed, plain.len() - 1)), "{codec:?}");
    }
    let framed = Bytes::from(xerial(&[&plain[..1000], &plain[1000..]]));
    assert_eq!(decompress(Codec::Snappy, &framed, plain.len()).unwrap(), plain);
    assert!(is_record(&decompress(Codec::Snappy, &framed, plain.len() - 1)));
    let members = [compressed(Codec::Gzip, b"one"), compressed(Codec::Gzip, b"two")].concat();
    assert_eq!(decompress(Codec::Gzip, &members.into(), 100).unwrap(), &b"onetwo"[..]);
}

#[test]
fn damaged_streams_are_refused() {
    let frame = compressed(Codec::Lz4, b"some bytes, some bytes, some bytes");
    let zstd_window_2_gib = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00];
    let zstd_dictionary = [0x28, 0xb5, 0x2f, 0xfd, 0x21, 7, 1, 0x09, 0x00, 0x00, b'x'];
    let xerial_with = |length: i32| [xerial(&[]), length.to_be_bytes().to_vec(), vec![0; 3]].concat();
    let mut bad_header_sum = frame.clone();
    bad_header_sum[6] ^= 1;
    let mut size_lie = vec![0x04, 0x22, 0x4d, 0x18, 0x68, 0x40];
    size_lie.extend_from_slice(&u64::MAX.to_le_bytes());
    size_lie.extend_from_slice(&[0, 0, 0, 0, 0]);
    let rows: Vec<(&str, Codec, Vec<u8>)> = vec![
        ("gzip garbage behind", Codec::Gzip, [compressed(Codec::Gzip, b"x"), b"junk".to_vec()].concat()),
        ("xerial block 0", Codec::Snappy, xerial_with(0)),
        ("xerial block -1", Codec::Snappy, xerial_with(-1)),
        ("xerial block too long", Codec::Snappy, xerial_with(4)),
        ("xerial header cut", Codec::Snappy, b"\x82SNAPPY\0\0\0".to_vec()),
        ("snappy length 2^32-1", Codec::Snappy, vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0]),
        ("snappy empty", Codec::Snappy, vec![]),
        ("lz4 header checksum", Codec::Lz4, bad_header_sum),
        ("lz4 content size", Codec::Lz4, size_lie),
        ("lz4 without end mark", Codec::Lz4, frame[..frame.len() - 4].to_vec()),
        ("lz4 garbage behind", Codec::Lz4, [frame.clone(), vec![1]].concat()),
        ("lz4 two frames", Codec::Lz4, [frame.clone(), frame].concat()),
        ("lz4 legacy", Codec::Lz4, vec![0x02, 0x21, 0x4c, 0x18, 0, 0, 0, 0]),
        ("zstd window", Codec::Zstd, zstd_window_2_gib.to_vec()),
        ("zstd dictionary", Codec::Zstd, zstd_dictionary.to_vec()),
        ("zstd garbage behind", Codec::Zstd, [compressed(Codec::Zstd, b"x"), b"junk".to_vec()].concat()),
    ];
    for (name, codec, bytes) in rows {
        assert!(is_record(&decompress(codec, &bytes.into(), 1 << 30)), "{name}");
    }
}

#[test]
fn a_bomb_stops_at_the_cap() {
    let zeros = vec![0u8; 8 << 20];
    for (attributes, codec) in CODECS {
        let packed = Bytes::from(compressed(codec, &zeros));
        assert!(is_record(&decompress(codec, &packed, 4 << 20)), "{codec:?}");
        // Through a batch the cap also follows the compressed size.
        if codec == Codec::Zstd {
            let dense = compressed(codec, built([record(0, None, Some(vec![0; 24 << 20].into()))]).section());
            let batch = check(forged(
                Header { attributes, record_count: 1, last_offset_delta: 0, ..*three().header() },
                &dense,
            ));
            assert_eq!(batch.unwrap_err(), Invalid::Record("records decompress past the cap"));
        }
    }
}

#[test]
fn what_the_records_are_is_known_after_a_look_and_guessed_before() {
    let stamps = [500, -1, 300, 900];
    let keyed = built(stamps.map(|t| record(t, text("k"), None)));
    assert_eq!((keyed.earliest_timestamp(), keyed.all_keyed()), (300, Some(true)), "as built");
    let keyless = built([record(-1, text("k"), None), record(-1, None, None)]);
    for (batch, found, at_fault) in
        [(keyed, (300, Some(true)), vec![0, 3]), (keyless, (-1, Some(false)), vec![])]
    {
        for (attributes, codec) in CODECS.into_iter().chain([(0, Codec::None)]) {
            let header = Header { attributes, ..*batch.header() };
            let bytes = forged(header, &compressed(codec, batch.section()));
            let seen = check(bytes.clone()).unwrap();
            assert_eq!((seen.earliest_timestamp(), seen.all_keyed()), found, "{codec:?}");
            assert_eq!(seen.places(1 << 20, 10, |t, _| t > 400).unwrap(), at_fault, "{codec:?}");
            assert_eq!(seen.places(1 << 20, 1, |t, _| t > 400).unwrap().len(), at_fault.len().min(1));
            let unseen =
                Batch::check(bytes, Rules { strict: false, walk: false, ..Rules::default() }).unwrap();
            if codec == Codec::None || header.max_timestamp >= header.base_timestamp {
                assert_eq!((unseen.earliest_timestamp(), unseen.all_keyed()), (header.base_timestamp, None));
            }
            assert_eq!(unseen.walked(1 << 20).unwrap().all_keyed(), found.1);
        }
    }
}

#[test]
fn a_builder_refuses_what_it_cannot_encode() {
    assert!(is_record(&Builder::new().build()));
    let mut builder = Builder::new();
    builder.push(record(i64::MIN, None, None));
    builder.push(record(1, None, None));
    assert!(is_record(&builder.build()));
    let builder = Builder::new().producer(4, 2, 9).transactional();
    let mut builder = builder;
    builder.push(record(1, None, None));
    let header = *check(builder.build().unwrap().bytes().clone()).unwrap().header();
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (4, 2, 9));
    assert!(header.is_transactional());
}

/// The walk once more, slow and obvious: positions in a slice, one byte at a time, no shortcuts.
mod reference {
    fn varint(bytes: &[u8], at: &mut usize, end: usize, bits: u32) -> Option<i64> {
        let mut value: u128 = 0;
        for i in 0..bits.div_ceil(7) {
            if *at >= end {
                return None;
            }
            let byte = bytes[*at];
            *at += 1;
            value |= u128::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                if value >> bits != 0 {
                    return None;
                }
                let half = i128::try_from(value >> 1).ok()?;
                return i64::try_from(if value & 1 == 0 { half } else { -half - 1 }).ok();
            }
        }
        None
    }

    fn skip(bytes: &[u8], at: &mut usize, end: usize, least: i64) -> Option<()> {
        let length = varint(bytes, at, end, 32)?;
        if length < least {
            return None;
        }
        *at += usize::try_from(length.max(0)).ok()?;
        (*at <= end).then_some(())
    }

    /// Smallest and largest timestamp delta.
    pub(super) fn walk(bytes: &[u8], count: i32) -> Option<(i64, i64)> {
        let mut at = 0;
        let mut deltas = Vec::new();
        for expected in 0..count {
            let length = varint(bytes, &mut at, bytes.len(), 32)?;
            let end = at + usize::try_from(length).ok()?;
            if end > bytes.len() || at == end {
                return None;
            }
            at += 1;
            deltas.push(varint(bytes, &mut at, end, 64)?);
            if varint(bytes, &mut at, end, 32)? != i64::from(expected) {
                return None;
            }
            skip(bytes, &mut at, end, -1)?;
            skip(bytes, &mut at, end, -1)?;
            let headers = varint(bytes, &mut at, end, 32)?;
            if !(0..=10_000).contains(&headers) {
                return None;
            }
            for _ in 0..headers {
                skip(bytes, &mut at, end, 0)?;
                skip(bytes, &mut at, end, -1)?;
            }
            if at != end {
                return None;
            }
        }
        (at == bytes.len()).then_some((*deltas.iter().min()?, *deltas.iter().max()?))
    }
}

fn agree(section: &[u8], count: i32) -> Result<(), TestCaseError> {
    let fast = walk(section, count).ok();
    prop_assert_eq!(fast, reference::walk(section, count));
    Ok(())
}

fn any_bytes() -> impl Strategy<Value = Option<Bytes>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from))
}

prop_compose! {
    fn any_record()(
        timestamp_ms in -(1i64 << 60)..1 << 60,
        key in any_bytes(),
        value in any_bytes(),
        headers in proptest::collection::vec((any_bytes(), any_bytes()), 0..4),
    ) -> Record {
        let headers = headers.into_iter().map(|(n, v)| (n.unwrap_or_default(), v)).collect();
        Record { timestamp_ms, key, value, headers }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_records_come_back_as_they_were_built(records in proptest::collection::vec(any_record(), 1..80)) {
        let batch = check(built(records.clone()).bytes().clone()).unwrap();
        let base = batch.header().base_timestamp;
        let back: Vec<Record> = Records::new(batch.section(), batch.header().record_count)
            .map(Result::unwrap)
            .map(|r| Record {
                timestamp_ms: base + r.timestamp_delta,
                key: r.key.map(Bytes::copy_from_slice),
                value: r.value.map(Bytes::copy_from_slice),
                headers: r.header_pairs()
                    .map(|(n, v)| (Bytes::copy_from_slice(n), v.map(Bytes::copy_from_slice)))
                    .collect(),
            })
            .collect();
        prop_assert_eq!(&back, &records);
        prop_assert_eq!(batch.header().max_timestamp, records.iter().map(|r| r.timestamp_ms).max().unwrap());
    }

    #[test]
    fn the_fast_walk_and_the_slow_one_agree_on_damaged_records(
        records in proptest::collection::vec(any_record(), 1..8),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
        more in -1i32..2,
    ) {
        let batch = built(records);
        let mut section = batch.section().to_vec();
        let at = at.index(section.len());
        section[at] = byte;
        agree(&section, batch.header().record_count + more)?;
    }

    #[test]
    fn the_fast_walk_and_the_slow_one_agree_on_noise(
        section in proptest::collection::vec(prop_oneof![3 => 0u8..16, 1 => any::<u8>()], 0..64),
        count in 1i32..4,
    ) {
        agree(&section, count)?;
    }

    #[test]
    fn no_bytes_make_a_decoder_or_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        for (_, codec) in CODECS {
            let out = decompress(codec, &bytes, 1000);
            prop_assert!(out.is_err() || out.unwrap().len() <= 1000);
        }
        prop_assert!(Batches::new(&bytes).count() <= 300 / HEADER_BYTES + 1);
        prop_assert!(check(bytes.clone()).is_err());
    }
}
