//! Capped decompression of a batch's records.
//!
//! Invariant: no length inside the bytes chooses an allocation. Output grows as it is produced and stops
//! at the cap; what a decoder allocates for itself (window, block) is bounded by a constant.
//! Deliberately absent: how a stream is read (`plain.rs`), compression (`recode.rs`), dictionaries, lz4's legacy frame.

use std::borrow::Cow;

use bytes::Bytes;

use super::check::Invalid;
use super::header::Header;
use super::plain::{Halt, Plain, with_kept};

/// Largest zstd window taken, as a power of two: 128 MiB, what level 22 writes, and the default limit of the
/// zstd library, which is that of Kafka's clients too. The decoder asks for a whole window, and of that the
/// plain bytes alone are ever touched.
pub(super) const ZSTD_WINDOW_LOG: u32 = 27;

/// First eight bytes of snappy-java's framing, which the Java client writes; then two i32 of versions.
pub(super) const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
pub(super) const XERIAL_HEADER_BYTES: usize = 16;

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
    if codec == Codec::None {
        return Ok(Cow::Borrowed(records));
    }
    with_kept(|kept| {
        let mut stream = Plain::new(codec, records, max_bytes, kept)?;
        // The answer takes the place of the window, and grows with what is really there.
        let window = std::mem::take(&mut kept.window);
        let mut filled = 0;
        let answer = loop {
            match stream.more(kept, filled, &mut { usize::MAX }) {
                Ok(0) => break Ok(()),
                Ok(got) => filled += got,
                Err(Halt::Invalid(invalid)) => break Err(invalid),
                // An unlimited budget is never spent.
                Err(Halt::Spent) => break Err(TOO_LARGE),
            }
        };
        let mut section = std::mem::replace(&mut kept.window, window);
        section.truncate(filled);
        answer.map(|()| Cow::Owned(section))
    })
}

/// How many bytes `records` decompress to, none of them kept. Takes from `budget` what that costs.
///
/// # Errors
/// [`Halt::Invalid`] when the stream is damaged or larger than the cap, [`Halt::Spent`] when the budget is not enough.
pub(super) fn plain_bytes(
    codec: Codec,
    records: &[u8],
    max_bytes: usize,
    budget: &mut usize,
) -> Result<usize, Halt> {
    if codec == Codec::None {
        return Ok(records.len());
    }
    with_kept(|kept| {
        let mut stream = Plain::new(codec, records, max_bytes, kept)?;
        loop {
            if stream.more(kept, 0, budget)? == 0 {
                return Ok(stream.produced());
            }
        }
    })
}
