//! Laws of the shape checks: what encoders write passes, what was cut, grown or swollen does not.

use std::io::Write;

use super::*;
use crate::batch::MAX_PLAIN_BYTES;

fn check(codec: Codec, records: &[u8], count: i32) -> Result<(), Invalid> {
    match super::check(codec, records, count, MAX_PLAIN_BYTES, &mut { usize::MAX }) {
        Err(Halt::Invalid(invalid)) => Err(invalid),
        answer => answer.map_err(|_| Invalid::Record("spent")),
    }
}

fn gzip_of(plain: &[u8], name: Option<&str>) -> Vec<u8> {
    let mut builder = flate2::GzBuilder::new();
    if let Some(name) = name {
        builder = builder.filename(name).comment("c").extra(vec![1, 2, 3]);
    }
    let mut w = builder.write(Vec::new(), flate2::Compression::default());
    w.write_all(plain).unwrap();
    w.finish().unwrap()
}

fn lz4_of(plain: &[u8], info: lz4_flex::frame::FrameInfo) -> Vec<u8> {
    let mut w = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    w.write_all(plain).unwrap();
    w.finish().unwrap()
}

fn zstd_of(
    plain: &[u8],
    level: i32,
    tune: impl Fn(&mut zstd::stream::write::Encoder<'static, Vec<u8>>),
) -> Vec<u8> {
    let mut w = zstd::stream::write::Encoder::new(Vec::new(), level).unwrap();
    tune(&mut w);
    w.write_all(plain).unwrap();
    w.finish().unwrap()
}

fn snappy_of(plain: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(plain).unwrap()
}

fn xerial_of(plain: &[u8], chunk_bytes: usize) -> Vec<u8> {
    let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for chunk in plain.chunks(chunk_bytes) {
        let packed = snappy_of(chunk);
        out.extend_from_slice(&u32::try_from(packed.len()).unwrap().to_be_bytes());
        out.extend_from_slice(&packed);
    }
    out
}

/// The same stream as encoders of every client may write it.
fn streams(plain: &[u8]) -> Vec<(&'static str, Codec, Vec<u8>)> {
    use lz4_flex::frame::{BlockSize, FrameInfo};
    let large = FrameInfo::new().block_size(BlockSize::Max4MB);
    let summed = FrameInfo::new().block_checksums(true).content_checksum(true).block_size(BlockSize::Max64KB);
    let sized = summed.clone().content_size(Some(plain.len() as u64));
    let (front, back) = plain.split_at(plain.len() / 2);
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 7, 7, 7][..], &zstd_of(plain, 3, |_| ())].concat();
    let length = plain.len() as u64;
    vec![
        ("gzip", Codec::Gzip, gzip_of(plain, None)),
        ("gzip with fields", Codec::Gzip, gzip_of(plain, Some("name"))),
        ("gzip members", Codec::Gzip, [gzip_of(front, None), gzip_of(back, None)].concat()),
        ("gzip empty last member", Codec::Gzip, [gzip_of(plain, None), gzip_of(b"", None)].concat()),
        ("snappy", Codec::Snappy, snappy_of(plain)),
        ("xerial", Codec::Snappy, xerial_of(plain, 32 << 10)),
        ("xerial small", Codec::Snappy, xerial_of(plain, 100)),
        ("lz4", Codec::Lz4, lz4_of(plain, FrameInfo::new())),
        ("lz4 4 MiB blocks", Codec::Lz4, lz4_of(plain, large)),
        ("lz4 sums", Codec::Lz4, lz4_of(plain, summed)),
        ("lz4 sums and size", Codec::Lz4, lz4_of(plain, sized)),
        ("zstd", Codec::Zstd, zstd_of(plain, 1, |_| ())),
        ("zstd 22", Codec::Zstd, zstd_of(plain, 22, |_| ())),
        ("zstd sized", Codec::Zstd, zstd_of(plain, 3, |w| w.set_pledged_src_size(Some(length)).unwrap())),
        ("zstd sum", Codec::Zstd, zstd_of(plain, 3, |w| w.include_checksum(true).unwrap())),
        ("zstd at once", Codec::Zstd, zstd::bulk::compress(plain, 3).unwrap()),
        ("zstd frames", Codec::Zstd, [zstd_of(front, 3, |_| ()), zstd_of(back, 3, |_| ())].concat()),
        ("zstd skippable", Codec::Zstd, skippable),
    ]
}

/// Text-like, repetitive, and not compressible at all.
fn plains() -> Vec<Vec<u8>> {
    let text: Vec<u8> = (0..40_000u32).flat_map(|i| format!("{{\"id\":{i}}}").into_bytes()).collect();
    vec![b"a record".to_vec(), text, vec![0; 300_000], noise(300_000)]
}

#[test]
fn what_encoders_write_passes() {
    for plain in plains() {
        let count = i32::try_from(plain.len() / MIN_RECORD_BYTES).unwrap();
        for (name, codec, stream) in streams(&plain) {
            assert_eq!(check(codec, &stream, count), Ok(()), "{name} of {}", plain.len());
        }
    }
}

#[test]
fn a_cut_stream_is_refused_wherever_it_was_cut() {
    let plain: Vec<u8> = (0..300u32).flat_map(|i| format!("value {i} ").into_bytes()).collect();
    for (name, codec, stream) in streams(&plain) {
        let count = i32::try_from(plain.len() / MIN_RECORD_BYTES).unwrap();
        for cut in 0..stream.len() {
            let shorter = &stream[..cut];
            // Cut between two frames it is a whole stream of fewer records, which zstd's sizes do not tell.
            let whole = plain_bytes(codec, shorter, 1 << 20, &mut { usize::MAX })
                .is_ok_and(|bytes| bytes == plain.len() || (name == "zstd frames" && bytes > 0));
            assert!(
                whole || check(codec, shorter, count).is_err(),
                "{name} cut at {cut} of {}",
                stream.len()
            );
        }
    }
}

#[test]
fn bytes_behind_the_stream_are_refused() {
    for (name, codec, stream) in streams(&b"some bytes, ".repeat(50)) {
        for junk in [&b"junk"[..], &[0xff; 3], &[0; 9]] {
            assert!(check(codec, &[&stream[..], junk].concat(), 1).is_err(), "{name} and {junk:?}");
        }
    }
}

#[test]
fn a_flipped_bit_in_a_magic_or_lz4_header_is_refused() {
    for (name, codec, stream) in streams(&b"some bytes, ".repeat(50)) {
        let header_bytes = match codec {
            Codec::Gzip => 3,
            Codec::Lz4 => 7,
            Codec::Zstd if name != "zstd skippable" => 4,
            _ => continue,
        };
        for bit in 0..header_bytes * 8 {
            let mut bad = stream.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(check(codec, &bad, 1).is_err(), "{name} bit {bit}");
        }
    }
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

/// A gzip stream whose trailer says another size.
fn with_size(mut stream: Vec<u8>, bytes: u32) -> Vec<u8> {
    let at = stream.len() - 4;
    stream[at..].copy_from_slice(&bytes.to_le_bytes());
    stream
}

/// A frame that declares 1000 bytes and holds that many compressed blocks of 128 KiB.
fn lying_zstd(blocks: usize) -> Vec<u8> {
    let one = zstd_of(&[&b"ab"[..], &vec![b'a'; (128 << 10) - 2]].concat(), 1, |_| ());
    // Magic, flags, window, then the block's header with its size from bit 3 on.
    let size = (usize::from(one[6]) | usize::from(one[7]) << 8 | usize::from(one[8]) << 16) >> 3;
    let block = |last: usize| {
        let head = ((size << 3) | 2 << 1 | last).to_le_bytes();
        [&head[..3], &one[9..9 + size]].concat()
    };
    // The size takes 4 bytes.
    let head = [&[0x28, 0xb5, 0x2f, 0xfd, 0x80, one[5]][..], &1000u32.to_le_bytes()].concat();
    [head, block(0).repeat(blocks - 1), block(1)].concat()
}

#[test]
fn a_bomb_is_refused() {
    let zeros = vec![0; MAX_PLAIN_BYTES + (1 << 20)];
    for (name, codec, stream) in [
        ("gzip", Codec::Gzip, gzip_of(&zeros, None)),
        ("gzip members", Codec::Gzip, [gzip_of(&zeros, None), gzip_of(b"", None)].concat()),
        // The last member's size is that of a section of ordinary density.
        ("gzip lying member", Codec::Gzip, [gzip_of(&zeros, None), gzip_of(&noise(300_000), None)].concat()),
        ("gzip lying trailer", Codec::Gzip, with_size(gzip_of(&zeros, None), 900_000)),
        ("zstd lying size", Codec::Zstd, lying_zstd(MAX_PLAIN_BYTES / (128 << 10) + 1)),
        ("snappy", Codec::Snappy, snappy_of(&zeros)),
        ("snappy length", Codec::Snappy, vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0, b'a']),
        ("xerial", Codec::Snappy, xerial_of(&zeros, 1 << 20)),
        ("lz4", Codec::Lz4, lz4_of(&zeros, lz4_flex::frame::FrameInfo::new())),
        ("zstd", Codec::Zstd, zstd_of(&zeros, 1, |_| ())),
        ("zstd sized", Codec::Zstd, zstd::bulk::compress(&zeros, 1).unwrap()),
    ] {
        // The library sees by itself that a frame goes past what it declared.
        let expected = if name == "zstd lying size" { DAMAGED } else { TOO_LARGE };
        assert_eq!(check(codec, &stream, 1), Err(expected), "{name}");
    }
}

#[test]
fn other_damage_is_refused() {
    let xerial = |tail: &[u8]| [b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01", tail].concat();
    use lz4_flex::frame::{BlockMode, FrameInfo};
    let one_lz4 = lz4_of(b"some bytes", FrameInfo::new());
    let mut bad_sum = lz4_of(&[7; 3000], FrameInfo::new().block_checksums(true));
    let end = bad_sum.len() - 4;
    bad_sum[end - 1] ^= 1;
    let plain_record = b"\x10\0\0\0\x02k\x02v\0";
    for (name, codec, stream) in [
        ("nothing", Codec::Zstd, vec![]),
        (
            "zstd window 2 GiB",
            Codec::Zstd,
            vec![0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 0x41, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
        ),
        ("zstd dictionary", Codec::Zstd, vec![0x28, 0xb5, 0x2f, 0xfd, 0x21, 7, 1, 0x09, 0, 0, b'x']),
        ("xerial zero blocks", Codec::Snappy, xerial(&[0; 4000])),
        ("xerial -1", Codec::Snappy, xerial(b"\xff\xff\xff\xffabc")),
        ("xerial past the end", Codec::Snappy, xerial(b"\0\0\0\x09\x01\0a")),
        ("xerial empty", Codec::Snappy, xerial(b"")),
        // Kafka's own reader takes neither, and Java consumers end at them.
        (
            "lz4 dependent blocks",
            Codec::Lz4,
            lz4_of(&b"some bytes".repeat(9000), FrameInfo::new().block_mode(BlockMode::Linked)),
        ),
        ("lz4 skippable", Codec::Lz4, [&[0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 7][..], &one_lz4].concat()),
        ("lz4 frames", Codec::Lz4, [&one_lz4[..], &one_lz4].concat()),
        ("lz4 block sum", Codec::Lz4, bad_sum),
        ("lz4 legacy", Codec::Lz4, vec![0x02, 0x21, 0x4c, 0x18, 0, 0, 0, 0]),
        ("plain as gzip", Codec::Gzip, plain_record.to_vec()),
        ("plain as snappy", Codec::Snappy, plain_record.to_vec()),
        ("plain as lz4", Codec::Lz4, plain_record.to_vec()),
        ("plain as zstd", Codec::Zstd, plain_record.to_vec()),
    ] {
        assert!(check(codec, &stream, 1).is_err(), "{name}");
    }
    for (name, codec, stream) in streams(b"seven b") {
        assert!(codec == Codec::Zstd || codec == Codec::Lz4 || check(codec, &stream, 2).is_err(), "{name}");
    }
}

#[test]
fn what_must_be_inflated_is_within_the_budget() {
    let noise = noise(200_000);
    let stream = gzip_of(&noise, None);
    let check = |budget: &mut usize| super::check(Codec::Gzip, &stream, 1, MAX_PLAIN_BYTES, budget);
    let mut budget = 1 << 20;
    assert_eq!(check(&mut budget), Ok(()));
    // Heads of blocks, and the ends of members, produce nothing.
    assert!((noise.len()..noise.len() + (8 << 10)).contains(&((1 << 20) - budget)), "{budget} left");
    assert_eq!(check(&mut 150_000), Err(Halt::Spent));
}
