//! The shape of a compressed records section, checked without decompressing it.
//!
//! Compressed batches are stored as received, but truncated streams, garbage and bombs must be refused while
//! their producer still listens. Headers, block sizes and trailers tell most of it for a fraction of the
//! price of inflating: how the stream ends, and between which bounds its plain size lies.
//! Invariant: nothing is allocated by what the bytes say. Only where the bounds leave open whether the
//! section is within the cap (gzip of several members or very dense, hundreds of blocks) it is
//! decompressed, to a small buffer and at most to the cap.
//! Deliberately absent: damage inside a block of deflate, zstd, lz4 or a snappy copy's offset. The CRC covers
//! the way here, so only a producer that compressed wrongly can send it; its consumers get the error.
//! Source: RFC 1952, RFC 8878, lz4 frame format 1.6, snappy `format_description.txt`.

use super::check::Invalid;
use super::codec::{
    Codec, DAMAGED, TOO_LARGE, XERIAL_HEADER_BYTES, XERIAL_MAGIC, ZSTD_WINDOW_LOG, plain_bytes,
};
use super::records::MIN_RECORD_BYTES;

/// Deflate's densest code: 258 bytes for two bits, and change.
const DEFLATE_MAX_RATIO: usize = 1032;

/// Above this a gzip trailer is not believed by itself: real records are seldom so dense, and a stream cut
/// by one byte reads as 256 times its size.
const GZIP_BELIEVED_RATIO: usize = 64;

/// Most bytes that one zstd block stands for.
const ZSTD_BLOCK_BYTES: usize = 128 << 10;

/// An lz4 length byte adds at most 255 bytes.
const LZ4_MAX_RATIO: usize = 255;

/// Bounds of the plain size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    least: usize,
    most: usize,
}

/// Checks that `records` look like one stream of `codec` that can hold `count` records and stays within
/// `max_bytes`.
///
/// # Errors
/// [`Invalid::Record`] when they are not.
pub(super) fn check(codec: Codec, records: &[u8], count: i32, max_bytes: usize) -> Result<(), Invalid> {
    let needed = usize::try_from(count).unwrap_or(0).saturating_mul(MIN_RECORD_BYTES);
    let extent = match codec {
        Codec::None => return Ok(()),
        Codec::Gzip => gzip(records, needed),
        Codec::Snappy => snappy(records, max_bytes),
        Codec::Lz4 => lz4(records),
        Codec::Zstd => zstd(records),
    };
    let Extent { least, most } = extent.ok_or(DAMAGED)?;
    if least > max_bytes {
        return Err(TOO_LARGE);
    }
    let holds = if most > max_bytes { plain_bytes(codec, records, max_bytes)? } else { most };
    if holds < needed { Err(Invalid::Record("more records than the bytes can hold")) } else { Ok(()) }
}

/// Whether `records` are exactly one LZ4 frame with its end mark. `lz4_flex` takes the end of its input for
/// the end of the frame, and would take frames that follow and the legacy format too.
pub(super) fn is_one_lz4_frame(records: &[u8]) -> bool {
    lz4(records).is_some()
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    rest.split_off(..bytes)
}

/// Takes a little-endian number of up to 8 bytes.
fn take_le(rest: &mut &[u8], bytes: usize) -> Option<u64> {
    let taken = take(rest, bytes)?;
    Some(taken.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

fn take_le_usize(rest: &mut &[u8], bytes: usize) -> Option<usize> {
    usize::try_from(take_le(rest, bytes)?).ok()
}

/// A gzip stream ends with the plain size of its last member. Where that is too small for the records there
/// may be other members in front, which only inflating finds.
fn gzip(records: &[u8], needed: usize) -> Option<Extent> {
    let mut rest = records.strip_prefix(b"\x1f\x8b\x08")?;
    let flags = *rest.split_off_first()?;
    if flags & 0xe0 != 0 {
        return None;
    }
    take(&mut rest, 6)?;
    if flags & 0x04 != 0 {
        let extra = take_le_usize(&mut rest, 2)?;
        take(&mut rest, extra)?;
    }
    // File name and comment, each up to a zero byte.
    for _ in 0..(flags & 0x18).count_ones() {
        let end = rest.iter().position(|&byte| byte == 0)?;
        take(&mut rest, end + 1)?;
    }
    if flags & 0x02 != 0 {
        take(&mut rest, 2)?;
    }
    let (body, mut trailer) = rest.split_at_checked(rest.len().checked_sub(8)?)?;
    // Block type 3 is reserved.
    if body.len() < 2 || body.first()? & 0x06 == 0x06 {
        return None;
    }
    take(&mut trailer, 4)?;
    let least = take_le_usize(&mut trailer, 4)?;
    if least > records.len().saturating_mul(DEFLATE_MAX_RATIO) {
        return None;
    }
    let open = least < needed || least > records.len().saturating_mul(GZIP_BELIEVED_RATIO);
    Some(Extent { least, most: if open { usize::MAX } else { least } })
}

/// Raw snappy, or chunks of it behind xerial's header. The two versions there are read by no decoder.
fn snappy(records: &[u8], max_bytes: usize) -> Option<Extent> {
    if !records.starts_with(XERIAL_MAGIC) {
        let plain = snappy_block(records, max_bytes)?;
        return Some(Extent { least: plain, most: plain });
    }
    let mut rest = records.get(XERIAL_HEADER_BYTES..)?;
    let mut plain = 0usize;
    while let Some(size) = rest.split_off(..4) {
        let size = usize::try_from(i32::from_be_bytes(size.try_into().ok()?)).ok()?;
        plain = plain.checked_add(snappy_block(take(&mut rest, size)?, max_bytes)?)?;
    }
    rest.is_empty().then_some(Extent { least: plain, most: plain })
}

/// The plain size of a raw snappy block. Its elements are summed up while they are believable: a declared
/// size beyond the cap is refused for that alone.
fn snappy_block(block: &[u8], max_bytes: usize) -> Option<usize> {
    let mut rest = block;
    let mut declared = 0usize;
    for shift in (0..35).step_by(7) {
        let byte = *rest.split_off_first()?;
        declared |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
        if shift == 28 {
            return None;
        }
    }
    if declared > max_bytes {
        return Some(declared);
    }
    let mut at = block.len() - rest.len();
    let mut plain = 0usize;
    while let Some(&tag) = block.get(at) {
        let high = usize::from(tag >> 2);
        let (skip, stands_for) = match tag & 3 {
            0 if high < 60 => (high + 2, high + 1),
            0 => {
                let bytes = high - 59;
                let length = take_le_usize(&mut block.get(at + 1..)?, bytes)? + 1;
                (1 + bytes + length, length)
            }
            1 => (2, 4 + (high & 7)),
            2 => (3, high + 1),
            _ => (5, high + 1),
        };
        at += skip;
        plain += stands_for;
    }
    (at == block.len() && plain == declared).then_some(plain)
}

/// One LZ4 frame, its blocks walked to the end mark; nothing may follow.
fn lz4(records: &[u8]) -> Option<Extent> {
    let mut rest = records.strip_prefix(&0x184D_2204_u32.to_le_bytes())?;
    let descriptor = rest;
    let flags = *rest.split_off_first()?;
    let block = *rest.split_off_first()?;
    // Version 01, reserved bits clear, no dictionary.
    if flags & 0xc3 != 0x40 || block & 0x8f != 0 || block < 0x40 {
        return None;
    }
    let block_bytes = 1usize << (8 + 2 * (block >> 4));
    let has = |bit: u8, bytes: usize| if flags & bit == 0 { 0 } else { bytes };
    let size_bytes = has(0x08, 8);
    let declared = take_le_usize(&mut rest, size_bytes)?;
    let sum = xxh32_short(descriptor.get(..2 + size_bytes)?);
    if *rest.split_off_first()? != sum.to_le_bytes()[1] {
        return None;
    }
    let mut extent = Extent { least: 0, most: 0 };
    loop {
        let word = take_le_usize(&mut rest, 4)?;
        let size = word & 0x7fff_ffff;
        if word == 0 {
            break;
        }
        if size == 0 || size > block_bytes {
            return None;
        }
        take(&mut rest, size + has(0x10, 4))?;
        let stored = word != size;
        extent.least += if stored { size } else { 0 };
        extent.most += if stored { size } else { block_bytes.min(size * LZ4_MAX_RATIO) };
    }
    take(&mut rest, has(0x04, 4))?;
    if !rest.is_empty() {
        return None;
    }
    if size_bytes == 0 { Some(extent) } else { narrowed(extent, declared) }
}

/// zstd frames and skippable frames up to the end.
fn zstd(records: &[u8]) -> Option<Extent> {
    let mut rest = records;
    let mut total = Extent { least: 0, most: 0 };
    while !rest.is_empty() {
        match take_le(&mut rest, 4)? {
            0xFD2F_B528 => {
                let frame = zstd_frame(&mut rest)?;
                total.least = total.least.checked_add(frame.least)?;
                total.most = total.most.checked_add(frame.most)?;
            }
            0x184D_2A50..=0x184D_2A5F => {
                let size = take_le_usize(&mut rest, 4)?;
                take(&mut rest, size)?;
            }
            _ => return None,
        }
    }
    Some(total)
}

/// One frame behind its magic.
fn zstd_frame(rest: &mut &[u8]) -> Option<Extent> {
    let flags = *rest.split_off_first()?;
    if flags & 0x08 != 0 {
        return None;
    }
    let single_segment = flags & 0x20 != 0;
    if !single_segment {
        let window = *rest.split_off_first()?;
        let base = 1u64 << (10 + (window >> 3));
        if base + base / 8 * u64::from(window & 7) > 1 << ZSTD_WINDOW_LOG {
            return None;
        }
    }
    // Id 0 means none, as in the library.
    let dictionary_bytes = (1 << (flags & 3)) >> 1;
    if take_le(rest, dictionary_bytes)? != 0 {
        return None;
    }
    let size_bytes = match flags >> 6 {
        0 => usize::from(single_segment),
        power => 1 << power,
    };
    let declared = take_le_usize(rest, size_bytes)?;
    let blocks = zstd_blocks(rest)?;
    take(rest, if flags & 0x04 == 0 { 0 } else { 4 })?;
    match size_bytes {
        0 => Some(blocks),
        2 => narrowed(blocks, declared + 256),
        _ => narrowed(blocks, declared),
    }
}

fn zstd_blocks(rest: &mut &[u8]) -> Option<Extent> {
    let mut extent = Extent { least: 0, most: 0 };
    loop {
        let head = take_le_usize(rest, 3)?;
        let size = head >> 3;
        if size > ZSTD_BLOCK_BYTES {
            return None;
        }
        let (takes, least, most) = match head >> 1 & 3 {
            0 => (size, size, size),
            1 => (1, size, size),
            2 => (size, 0, ZSTD_BLOCK_BYTES),
            _ => return None,
        };
        take(rest, takes)?;
        extent.least += least;
        extent.most += most;
        if head & 1 != 0 {
            return Some(extent);
        }
    }
}

/// The extent of a frame that declares its plain size, `None` when its blocks cannot come to that.
fn narrowed(blocks: Extent, declared: usize) -> Option<Extent> {
    let fits = (blocks.least..=blocks.most).contains(&declared);
    fits.then_some(Extent { least: declared, most: declared })
}

/// xxHash-32, seed 0, of fewer than 16 bytes: an LZ4 frame descriptor is 2 to 14.
fn xxh32_short(bytes: &[u8]) -> u32 {
    const PRIMES: [u32; 5] = [0x9E37_79B1, 0x85EB_CA77, 0xC2B2_AE3D, 0x27D4_EB2F, 0x1656_67B1];
    let [one, two, three, four, five] = PRIMES;
    #[allow(clippy::cast_possible_truncation, reason = "fewer than 16 bytes")]
    let mut hash = five.wrapping_add(bytes.len() as u32);
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        hash = hash.wrapping_add(u32::from_le_bytes(*word).wrapping_mul(three));
        hash = hash.rotate_left(17).wrapping_mul(four);
    }
    for &byte in tail {
        hash = hash.wrapping_add(u32::from(byte).wrapping_mul(five)).rotate_left(11).wrapping_mul(one);
    }
    hash = (hash ^ hash >> 15).wrapping_mul(two);
    hash = (hash ^ hash >> 13).wrapping_mul(three);
    hash ^ hash >> 16
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
