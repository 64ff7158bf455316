//! The shape of a compressed records section, checked without decompressing it.
//!
//! For topics that store compressed batches as received without looking inside: headers, block sizes and
//! trailers tell truncated streams, garbage and bombs for a fraction of the price of inflating.
//! Invariant: nothing is allocated by what the bytes say, and no size that they declare is believed: the plain
//! size is bounded by what the blocks can stand for, and a declared one only has to agree. Where those bounds
//! leave open whether the section is within the cap (gzip from a thousandth of the cap on, hundreds of blocks)
//! it is decompressed, to a small buffer and at most to the cap.
//! Deliberately absent: damage inside a block of deflate, zstd, lz4 or a snappy copy's offset, and whether the
//! plain bytes are records: `walk.rs` sees that.
//! Source: RFC 1952, RFC 8878, lz4 frame format 1.6, snappy `format_description.txt`; for what Kafka's own readers
//! take: apache/kafka Lz4BlockInputStream.java (one frame, independent blocks).

use twox_hash::XxHash32;

use super::check::Invalid;
use super::codec::{
    Codec, DAMAGED, TOO_LARGE, XERIAL_HEADER_BYTES, XERIAL_MAGIC, ZSTD_WINDOW_LOG, plain_bytes,
};
use super::plain::Halt;
use super::records::MIN_RECORD_BYTES;

/// Deflate's densest code: 258 bytes for two bits, and change.
const DEFLATE_MAX_RATIO: usize = 1032;

/// Above this a gzip trailer is looked into: real records are seldom so dense, and a stream cut by one byte reads
/// as 256 times its size.
const GZIP_USUAL_RATIO: usize = 64;

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
/// `max_bytes`. Takes from `budget` what it has to decompress for that.
///
/// # Errors
/// [`Halt::Invalid`] when they are not, [`Halt::Spent`] when the budget is not enough to tell.
pub(super) fn check(
    codec: Codec,
    records: &[u8],
    count: i32,
    max_bytes: usize,
    budget: &mut usize,
) -> Result<(), Halt> {
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
        return Err(TOO_LARGE.into());
    }
    let holds = if most > max_bytes { plain_bytes(codec, records, max_bytes, budget)? } else { most };
    if holds < needed { Err(Invalid::Record("more records than the bytes can hold").into()) } else { Ok(()) }
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

/// Takes the header of a gzip member.
pub(super) fn gzip_head(rest: &mut &[u8]) -> Option<()> {
    let member = *rest;
    *rest = rest.strip_prefix(b"\x1f\x8b\x08")?;
    let flags = *rest.split_off_first()?;
    if flags & 0xe0 != 0 {
        return None;
    }
    take(rest, 6)?;
    if flags & 0x04 != 0 {
        let extra = take_le_usize(rest, 2)?;
        take(rest, extra)?;
    }
    // File name and comment, each up to a zero byte.
    for _ in 0..(flags & 0x18).count_ones() {
        let end = rest.iter().position(|&byte| byte == 0)?;
        take(rest, end + 1)?;
    }
    if flags & 0x02 != 0 {
        let sum = crc32fast::hash(member.get(..member.len() - rest.len())?);
        if take_le(rest, 2)? != u64::from(sum & 0xffff) {
            return None;
        }
    }
    Some(())
}

/// Where a member ends only inflating finds, so bytes alone bound the plain size. A trailer that does not look
/// like that of one member of real records is a reason to inflate, and so is a section that could reach the cap.
fn gzip(records: &[u8], needed: usize) -> Option<Extent> {
    let mut rest = records;
    gzip_head(&mut rest)?;
    let (body, mut trailer) = rest.split_at_checked(rest.len().checked_sub(8)?)?;
    // Block type 3 is reserved.
    if body.len() < 2 || body.first()? & 0x06 == 0x06 {
        return None;
    }
    take(&mut trailer, 4)?;
    let declared = take_le_usize(&mut trailer, 4)?;
    let odd = declared < needed || declared > records.len().saturating_mul(GZIP_USUAL_RATIO);
    Some(Extent { least: 0, most: if odd { usize::MAX } else { records.len() * DEFLATE_MAX_RATIO } })
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

/// What the header of an LZ4 frame says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lz4Frame {
    /// Most plain bytes of a block.
    pub block_bytes: usize,
    block_sums: bool,
    /// Whether a checksum of all plain bytes follows the end mark.
    pub content_sum: bool,
    /// Plain bytes of the frame.
    declared: Option<usize>,
}

/// Takes the header of an LZ4 frame with independent blocks. Kafka's own reader knows no others, and neither the
/// legacy format nor skippable frames.
pub(super) fn lz4_head(rest: &mut &[u8]) -> Option<Lz4Frame> {
    *rest = rest.strip_prefix(&0x184D_2204_u32.to_le_bytes())?;
    let descriptor = *rest;
    let flags = *rest.split_off_first()?;
    let block = *rest.split_off_first()?;
    // Version 01, independent blocks, reserved bit clear, no dictionary.
    if flags & 0xe3 != 0x60 || block & 0x8f != 0 || block < 0x40 {
        return None;
    }
    let size_bytes = if flags & 0x08 == 0 { 0 } else { 8 };
    let declared = take_le_usize(rest, size_bytes)?;
    let [_, sum, ..] = XxHash32::oneshot(0, descriptor.get(..2 + size_bytes)?).to_le_bytes();
    (*rest.split_off_first()? == sum).then_some(Lz4Frame {
        block_bytes: 1 << (8 + 2 * (block >> 4)),
        block_sums: flags & 0x10 != 0,
        content_sum: flags & 0x04 != 0,
        declared: (size_bytes > 0).then_some(declared),
    })
}

impl Lz4Frame {
    /// Most plain bytes of a compressed block of so many.
    pub fn most_plain_bytes(&self, block_bytes: usize) -> usize {
        self.block_bytes.min(block_bytes.saturating_mul(LZ4_MAX_RATIO))
    }

    /// Takes a block off the front: whether it is stored plain, and its bytes. `Some(None)` is the end mark.
    #[allow(clippy::type_complexity, reason = "damaged, at the end, or a block")]
    pub fn block<'a>(&self, rest: &mut &'a [u8]) -> Option<Option<(bool, &'a [u8])>> {
        let word = take_le_usize(rest, 4)?;
        let size = word & 0x7fff_ffff;
        if word == 0 {
            return Some(None);
        }
        if size == 0 || size > self.block_bytes {
            return None;
        }
        let block = take(rest, size)?;
        if self.block_sums && take_le(rest, 4)? != u64::from(XxHash32::oneshot(0, block)) {
            return None;
        }
        Some(Some((word != size, block)))
    }

    /// Takes what follows the end mark; nothing else may. Whether the frame is one of so many plain bytes with
    /// such a checksum.
    pub fn end(&self, rest: &mut &[u8], plain_bytes: usize, sum: u32) -> bool {
        let sum_fits = !self.content_sum || take_le(rest, 4) == Some(sum.into());
        sum_fits && rest.is_empty() && self.declared.is_none_or(|declared| declared == plain_bytes)
    }
}

/// One LZ4 frame, its blocks walked to the end mark; nothing may follow.
fn lz4(records: &[u8]) -> Option<Extent> {
    let mut rest = records;
    let frame = lz4_head(&mut rest)?;
    let mut extent = Extent { least: 0, most: 0 };
    while let Some((stored, block)) = frame.block(&mut rest)? {
        extent.least += if stored { block.len() } else { 0 };
        extent.most += if stored { block.len() } else { frame.most_plain_bytes(block.len()) };
    }
    if frame.content_sum {
        take(&mut rest, 4)?;
    }
    if rest.is_empty() { agreeing(extent, frame.declared) } else { None }
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
        2 => agreeing(blocks, Some(declared + 256)),
        _ => agreeing(blocks, Some(declared)),
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

/// The extent of a frame, `None` when its blocks cannot come to what it declares.
fn agreeing(blocks: Extent, declared: Option<usize>) -> Option<Extent> {
    declared.is_none_or(|size| (blocks.least..=blocks.most).contains(&size)).then_some(blocks)
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
