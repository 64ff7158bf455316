//! A batch's records under another codec, for topics whose `compression.type` names one.
//!
//! Invariant: the records stay byte for byte; only the codec bits, the length and the CRC change. What is written
//! every client reads: LZ4 blocks are independent of each other (Kafka refuses others), snappy blocks stand in the
//! framing of xerial's snappy-java (the Java client reads no other). Deliberately absent: which codec (topic).

use std::io::Write;

use super::build::sealed;
use super::check::{Batch, Invalid};
use super::codec::{Codec, XERIAL_MAGIC};
use super::header::{HEADER_BYTES, Header, LENGTH_PREFIX_BYTES};

/// Plain bytes of one block in xerial's framing, as snappy-java cuts them.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;
/// Version of xerial's framing, and the oldest that reads it.
const XERIAL_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];

/// The bits of a batch's attributes that name its codec.
const CODEC_BITS: i16 = 0x07;

const REFUSED: Invalid = Invalid::Record("records cannot be compressed");

impl Batch {
    /// This batch with its records in `codec`; as it is when they are already. `level` is the codec's own, where it has
    /// levels. Decompresses to at most what [`Batch::walked`] allows.
    ///
    /// # Errors
    /// [`Invalid::Record`] when the records are damaged or too large.
    pub fn recode(self, codec: Codec, level: Option<i32>, max_plain_bytes: usize) -> Result<Self, Invalid> {
        if Codec::of(self.header())? == codec {
            return Ok(self);
        }
        let (batch, section) = self.check_deep(max_plain_bytes)?;
        let mut out = Vec::with_capacity(HEADER_BYTES + section.len() / 2);
        out.resize(HEADER_BYTES, 0);
        let out = compress(codec, level, &section, out).map_err(|_| REFUSED)?;
        let length = i32::try_from(out.len() - LENGTH_PREFIX_BYTES).map_err(|_| REFUSED)?;
        let attributes = batch.header().attributes & !CODEC_BITS | codec.number();
        Ok(sealed(Header { length, attributes, ..*batch.header() }, out, batch.seen()))
    }
}

impl Codec {
    /// Its number in the attributes.
    fn number(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }
}

/// Appends `section` to `out`.
fn compress(codec: Codec, level: Option<i32>, section: &[u8], mut out: Vec<u8>) -> std::io::Result<Vec<u8>> {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    match codec {
        Codec::None => out.extend_from_slice(section),
        Codec::Gzip => {
            let level = level.and_then(|level| u32::try_from(level).ok());
            let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
            let mut encoder = flate2::write::GzEncoder::new(out, level);
            encoder.write_all(section)?;
            out = encoder.finish()?;
        }
        Codec::Snappy => {
            out.extend_from_slice(XERIAL_MAGIC);
            out.extend_from_slice(&XERIAL_VERSIONS);
            let mut encoder = snap::raw::Encoder::new();
            for block in section.chunks(XERIAL_BLOCK_BYTES) {
                let block = encoder.compress_vec(block)?;
                out.extend_from_slice(&u32::try_from(block.len()).unwrap_or(u32::MAX).to_be_bytes());
                out.extend_from_slice(&block);
            }
        }
        Codec::Lz4 => {
            let frame = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
            let mut encoder = FrameEncoder::with_frame_info(frame, out);
            encoder.write_all(section)?;
            out = encoder.finish()?;
        }
        Codec::Zstd => {
            let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
            let mut encoder = zstd::stream::write::Encoder::new(out, level)?;
            encoder.write_all(section)?;
            out = encoder.finish()?;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Builder, MAX_PLAIN_BYTES, Record, Records, Rules};

    const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// More than one block of every framing, keys, headers, a null value, and a producer's place.
    fn batch() -> Batch {
        let mut builder = Builder::new().producer(7, 1, 40);
        for n in 0..50_i64 {
            // Words in no order: a codec has something to look for.
            let words = (0..400).map(|at: i64| format!("word{} ", (n * 400 + at) * 7_919 % 1_009 % 97));
            let value = (n != 3).then(|| words.collect::<String>().into());
            let headers = vec![("h".into(), Some("x".into()))];
            builder.push(Record { timestamp_ms: 1_000 + n, key: Some("k".into()), value, headers });
        }
        builder.build().unwrap()
    }

    #[test]
    fn records_survive_every_way_from_codec_to_codec() {
        let plain = batch();
        for from in ALL {
            let from = plain.clone().recode(from, None, MAX_PLAIN_BYTES).unwrap();
            for to in ALL {
                let there = from.clone().recode(to, None, MAX_PLAIN_BYTES).unwrap();
                let header = *there.header();
                assert_eq!(Codec::of(&header), Ok(to));
                let kept = (header.producer_id, header.producer_epoch, header.base_sequence);
                assert_eq!((kept, header.record_count, header.max_timestamp), ((7, 1, 40), 50, 1_049));
                // As a client's would be, and as a stored one.
                let checked = Batch::check(there.bytes().clone(), Rules::default()).unwrap();
                let (_, section) = checked.check_deep(MAX_PLAIN_BYTES).unwrap();
                assert_eq!(section, plain.bytes().slice(HEADER_BYTES..), "{to:?}");
                assert_eq!(Records::new(&section, 50).count(), 50);
                assert!(Batch::stored(there.bytes().clone()).is_ok());
            }
        }
    }

    #[test]
    fn a_batch_that_is_in_the_codec_stays_as_it_is_and_levels_count() {
        let gzip = |level| batch().recode(Codec::Gzip, Some(level), MAX_PLAIN_BYTES).unwrap();
        let zstd = |level| batch().recode(Codec::Zstd, Some(level), MAX_PLAIN_BYTES).unwrap();
        let one = gzip(1);
        assert_eq!(one.clone().recode(Codec::Gzip, Some(9), 0).unwrap().bytes(), one.bytes());
        assert!(gzip(9).bytes().len() < one.bytes().len());
        assert!(zstd(19).bytes().len() < zstd(-100).bytes().len());
        for level in [-1, i32::MAX] {
            assert!(gzip(level.min(9)).bytes().len() > HEADER_BYTES);
        }
    }

    #[test]
    fn a_lie_about_the_size_is_refused_within_the_cap() {
        let packed = batch().recode(Codec::Zstd, None, MAX_PLAIN_BYTES).unwrap();
        assert!(matches!(packed.recode(Codec::Gzip, None, 1_000), Err(Invalid::Record(_))));
    }
}
