//! Capped decompression of a batch's records.
//!
//! Invariant: no length inside the bytes chooses an allocation. Output grows as it is produced and stops
//! at the cap; what a decoder allocates for itself (window, block) is bounded by a constant.
//! Deliberately absent: compression (`recode.rs`), dictionaries, lz4's legacy frame.

use std::borrow::Cow;
use std::io::Read;

use bytes::Bytes;

use super::check::Invalid;
use super::frame::is_one_lz4_frame;
use super::header::Header;

/// Largest zstd window taken, as a power of two: 128 MiB, what level 22 writes, and the default limit of the
/// zstd library, which is that of Kafka's clients too. The decoder asks for a whole window, and of that the
/// plain bytes alone are ever touched.
pub(super) const ZSTD_WINDOW_LOG: u32 = 27;

/// First eight bytes of snappy-java's framing, which the Java client writes; then two i32 of versions.
pub(super) const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
pub(super) const XERIAL_HEADER_BYTES: usize = 16;

/// Snappy's densest element: a 3-byte copy of 64 bytes.
const SNAPPY_MAX_RATIO: usize = 22;

pub(super) const DAMAGED: Invalid = Invalid::Record("damaged compressed records");
pub(super) const TOO_LARGE: Invalid = Invalid::Record("records decompress past the cap");

/// The codec bits 0-2 of a batch's attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// 0: stored plain.
    None,
    /// 1: gzip members.
    Gzip,
    /// 2: snappy, raw (librdkafka) or framed by xerial's snappy-java (the Java client).
    Snappy,
    /// 3: LZ4 frame.
    Lz4,
    /// 4: zstandard frame.
    Zstd,
}

impl Codec {
    /// The codec of a batch with these attributes.
    ///
    /// # Errors
    /// [`Invalid::Codec`] for 5, 6 and 7, which name no codec.
    pub fn of(header: &Header) -> Result<Self, Invalid> {
        match header.attributes & 0x07 {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            unknown => Err(Invalid::Codec(unknown)),
        }
    }
}

/// Decompresses `records` into at most `max_bytes`; plain records come back as a slice, whatever their size.
///
/// # Errors
/// [`Invalid::Record`] when the stream is damaged or larger than the cap.
pub fn decompress(codec: Codec, records: &Bytes, max_bytes: usize) -> Result<Bytes, Invalid> {
    match plain(codec, records, max_bytes)? {
        Cow::Borrowed(_) => Ok(records.clone()),
        Cow::Owned(section) => Ok(section.into()),
    }
}

/// [`decompress`] for borrowed bytes.
pub(super) fn plain(codec: Codec, records: &[u8], max_bytes: usize) -> Result<Cow<'_, [u8]>, Invalid> {
    let section = match codec {
        Codec::None => return Ok(Cow::Borrowed(records)),
        Codec::Gzip => drain(flate2::bufread::MultiGzDecoder::new(records), records.len(), max_bytes)?,
        Codec::Snappy => snappy(records, max_bytes)?,
        Codec::Lz4 if !is_one_lz4_frame(records) => return Err(DAMAGED),
        Codec::Lz4 => drain(lz4_flex::frame::FrameDecoder::new(records), records.len(), max_bytes)?,
        Codec::Zstd => zstd(records, max_bytes)?,
    };
    Ok(Cow::Owned(section))
}

/// Reads to the end, at most `max_bytes`. Starts from the compressed size (bytes we hold) and doubles.
fn drain(mut from: impl Read, compressed_bytes: usize, max_bytes: usize) -> Result<Vec<u8>, Invalid> {
    let mut out = Vec::new();
    let mut filled = 0;
    let mut room = compressed_bytes.saturating_mul(4).max(4096).min(max_bytes);
    loop {
        out.reserve_exact(room - out.len());
        out.resize(room, 0);
        while let Some(space) = out.get_mut(filled..).filter(|space| !space.is_empty()) {
            match from.read(space).map_err(|_| DAMAGED)? {
                0 => {
                    out.truncate(filled);
                    return Ok(out);
                }
                n => filled += n,
            }
        }
        if room == max_bytes {
            let more = from.read(&mut [0]).map_err(|_| DAMAGED)?;
            return if more == 0 { Ok(out) } else { Err(TOO_LARGE) };
        }
        room = room.saturating_mul(2).min(max_bytes);
    }
}

/// How many bytes `records` decompress to, none of them kept. A snappy stream says so by itself
/// (`frame.rs`) and so never comes here.
///
/// # Errors
/// [`Invalid::Record`] when the stream is damaged or larger than the cap.
pub(super) fn plain_bytes(codec: Codec, records: &[u8], max_bytes: usize) -> Result<usize, Invalid> {
    match codec {
        Codec::None | Codec::Snappy => Ok(plain(codec, records, max_bytes)?.len()),
        Codec::Gzip => count(flate2::bufread::MultiGzDecoder::new(records), max_bytes),
        Codec::Lz4 => count(lz4_flex::frame::FrameDecoder::new(records), max_bytes),
        Codec::Zstd => count(zstd_decoder(records)?, max_bytes),
    }
}

fn count(mut from: impl Read, max_bytes: usize) -> Result<usize, Invalid> {
    let mut space = [0; 8192];
    let mut total = 0;
    loop {
        match from.read(&mut space).map_err(|_| DAMAGED)? {
            0 => return Ok(total),
            n if n > max_bytes - total => return Err(TOO_LARGE),
            n => total += n,
        }
    }
}

/// zstd refuses by itself frames that name a dictionary and frames that end early.
fn zstd(records: &[u8], max_bytes: usize) -> Result<Vec<u8>, Invalid> {
    drain(zstd_decoder(records)?, records.len(), max_bytes)
}

fn zstd_decoder(records: &[u8]) -> Result<zstd::stream::read::Decoder<'static, &[u8]>, Invalid> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(records).map_err(|_| DAMAGED)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(|_| DAMAGED)?;
    Ok(decoder)
}

fn snappy(records: &[u8], max_bytes: usize) -> Result<Vec<u8>, Invalid> {
    let mut out = Vec::new();
    if !records.starts_with(XERIAL_MAGIC) {
        snappy_block(records, &mut out, max_bytes)?;
        return Ok(out);
    }
    let mut rest = records.get(XERIAL_HEADER_BYTES..).ok_or(DAMAGED)?;
    while !rest.is_empty() {
        let (length, tail) = rest.split_first_chunk().ok_or(DAMAGED)?;
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| DAMAGED)?;
        let (block, tail) = tail.split_at_checked(length).ok_or(DAMAGED)?;
        snappy_block(block, &mut out, max_bytes)?;
        rest = tail;
    }
    Ok(out)
}

/// Appends one raw snappy block. Its length prefix is believed only as far as the cap and as far as so few
/// bytes can reach, before room is made for it. An empty block is an error of the decoder.
fn snappy_block(block: &[u8], out: &mut Vec<u8>, max_bytes: usize) -> Result<(), Invalid> {
    let length = snap::raw::decompress_len(block).map_err(|_| DAMAGED)?;
    if length > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(DAMAGED);
    }
    let start = out.len();
    if length > max_bytes.saturating_sub(start) {
        return Err(TOO_LARGE);
    }
    out.resize(start + length, 0);
    let space = out.get_mut(start..).unwrap_or_default();
    snap::raw::Decoder::new().decompress(block, space).map_err(|_| DAMAGED)?;
    Ok(())
}
