//! Batches made once and sent many times: text that compresses about 2.7 times, in v2 record batches.
//!
//! Invariant: the same arguments give the same bytes, on every machine. Deliberately absent: keys and
//! headers, and snappy and gzip (their cost to a broker lies between none and zstd).
//! Source of the format: <https://kafka.apache.org/documentation/#recordbatch>.

use super::{Codec, Error};

/// Every record's timestamp, ms: fixed, so that a run is repeatable; topics are created to keep it.
const TIMESTAMP_MS: i64 = 1_767_225_600_000;
/// Bytes of a v2 batch before its records.
const HEADER_BYTES: usize = 61;
/// Where the CRC lies, and the bytes that it covers begin.
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;
/// Where the base sequence lies.
const SEQUENCE_AT: usize = 53;

/// One encoded batch and what is in it.
#[derive(Clone, Debug)]
pub(super) struct Payload {
    pub(super) bytes: Vec<u8>,
    pub(super) records: usize,
    /// Bytes of record values before compression: what every GB of a produce result counts.
    pub(super) value_bytes: usize,
}

/// Builds a batch of `record_bytes` values that fills `batch_bytes` before compression (one record at least).
/// `producer` is the id and epoch of an idempotent producer.
pub(super) fn batch(
    record_bytes: usize,
    batch_bytes: usize,
    codec: Codec,
    producer: Option<(i64, i16)>,
) -> Result<Payload, Error> {
    let (records, count) = records(record_bytes, batch_bytes);
    let body = compress(codec, records)?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    let (id, epoch) = producer.unwrap_or((-1, -1));
    bytes.extend_from_slice(&0i64.to_be_bytes());
    bytes.extend_from_slice(&length(HEADER_BYTES - 12 + body.len()).to_be_bytes());
    bytes.extend_from_slice(&(-1i32).to_be_bytes());
    bytes.push(2);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&codec.bits().to_be_bytes());
    bytes.extend_from_slice(&(length(count) - 1).to_be_bytes());
    bytes.extend_from_slice(&TIMESTAMP_MS.to_be_bytes());
    bytes.extend_from_slice(&TIMESTAMP_MS.to_be_bytes());
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(&epoch.to_be_bytes());
    bytes.extend_from_slice(&(if producer.is_some() { 0i32 } else { -1 }).to_be_bytes());
    bytes.extend_from_slice(&length(count).to_be_bytes());
    bytes.extend_from_slice(&body);
    stamp_crc(&mut bytes);
    Ok(Payload { bytes, records: count, value_bytes: count * record_bytes })
}

/// Gives the batch another base sequence, and the CRC that goes with it.
pub(super) fn stamp_sequence(batch: &mut [u8], sequence: i32) {
    if let Some(field) = batch.get_mut(SEQUENCE_AT..).and_then(|rest| rest.first_chunk_mut::<4>()) {
        *field = sequence.to_be_bytes();
    }
    stamp_crc(batch);
}

/// CRC-32C of the bytes that a batch's checksum covers.
pub(super) fn crc(batch: &[u8]) -> u32 {
    let covered = batch.get(CRC_FROM..).unwrap_or_default();
    #[allow(clippy::cast_possible_truncation, reason = "a 32-bit checksum in a wider return type")]
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, covered) as u32;
    crc
}

fn stamp_crc(batch: &mut [u8]) {
    let crc = crc(batch);
    if let Some(field) = batch.get_mut(CRC_AT..).and_then(|rest| rest.first_chunk_mut::<4>()) {
        *field = crc.to_be_bytes();
    }
}

fn records(record_bytes: usize, batch_bytes: usize) -> (Vec<u8>, usize) {
    let mut text = Text::new();
    let (mut out, mut count) = (Vec::with_capacity(batch_bytes), 0);
    loop {
        let mut record = vec![0u8]; // attributes
        signed(&mut record, 0); // timestamp delta
        signed(&mut record, count);
        signed(&mut record, -1); // null key
        signed(&mut record, i64::from(length(record_bytes)));
        text.extend(&mut record, record_bytes);
        signed(&mut record, 0); // headers
        let mut size = Vec::new();
        signed(&mut size, i64::from(length(record.len())));
        if count > 0 && HEADER_BYTES + out.len() + size.len() + record.len() > batch_bytes {
            return (out, usize::try_from(count).unwrap_or(0));
        }
        out.append(&mut size);
        out.append(&mut record);
        count += 1;
    }
}

fn compress(codec: Codec, records: Vec<u8>) -> Result<Vec<u8>, Error> {
    let failed = |e: String| Error::Usage(format!("compressing a batch: {e}"));
    match codec {
        Codec::None => Ok(records),
        Codec::Zstd => zstd::bulk::compress(&records, 3).map_err(|e| failed(e.to_string())),
        Codec::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            std::io::Write::write_all(&mut encoder, &records).map_err(|e| failed(e.to_string()))?;
            encoder.finish().map_err(|e| failed(e.to_string()))
        }
    }
}

fn length(of: usize) -> i32 {
    i32::try_from(of).unwrap_or(i32::MAX)
}

/// A zigzag varint.
fn signed(out: &mut Vec<u8>, value: i64) {
    #[allow(clippy::cast_sign_loss, reason = "zigzag is about bits")]
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        #[allow(clippy::cast_possible_truncation, reason = "masked to seven bits")]
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    #[allow(clippy::cast_possible_truncation, reason = "below 0x80 here")]
    out.push(rest as u8);
}

const WORDS: [&str; 32] = [
    "user",
    "order",
    "login",
    "stream",
    "INFO",
    "WARN",
    "request",
    "session",
    "checkout",
    "payment",
    "status=200",
    "status=404",
    "method=GET",
    "method=POST",
    "path=/api/v1/items",
    "path=/cart",
    "latency_ms=",
    "region=eu-west-1",
    "host=web",
    "retry",
    "cache",
    "miss",
    "hit",
    "the",
    "was",
    "accepted",
    "by",
    "shard",
    "trace=",
    "id=",
    "total=",
    "currency=EUR",
];

/// Log-like text: words from a small vocabulary between numbers that do not repeat.
struct Text {
    state: u64,
}

impl Text {
    fn new() -> Self {
        Self { state: 0x9e37_79b9_7f4a_7c15 }
    }

    fn extend(&mut self, out: &mut Vec<u8>, count: usize) {
        let end = out.len() + count;
        while out.len() < end {
            let dice = self.next();
            let word = usize::try_from(dice % 32).ok().and_then(|at| WORDS.get(at)).copied().unwrap_or("");
            out.extend_from_slice(word.as_bytes());
            if (dice >> 8) % 7 < 4 {
                out.extend_from_slice(format!("{:x}", (dice >> 16) & 0xff_ffff).as_bytes());
            }
            out.push(b' ');
        }
        out.truncate(end);
    }

    /// xorshift64.
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Header;

    #[test]
    fn a_batch_says_what_it_holds_and_its_checksum_is_right() {
        for (record_bytes, batch_bytes) in [(100, 1), (100, 16 << 10), (1024, 64 << 10), (1024, 1 << 20)] {
            let payload = batch(record_bytes, batch_bytes, Codec::None, None).unwrap();
            let header = Header::read(&payload.bytes).unwrap();
            assert_eq!(header.total_bytes(), Some(payload.bytes.len()));
            assert_eq!((header.magic, header.attributes, header.producer_id), (2, 0, -1));
            assert_eq!(usize::try_from(header.record_count).unwrap(), payload.records);
            assert_eq!(header.last_offset_delta, header.record_count - 1);
            assert_eq!(header.crc, crc(&payload.bytes));
            assert_eq!(payload.value_bytes, payload.records * record_bytes);
            assert!(payload.records == 1 || payload.bytes.len() <= batch_bytes);
            assert!(payload.records == 1 || payload.bytes.len() + record_bytes + 20 > batch_bytes);
        }
    }

    #[test]
    fn another_sequence_keeps_the_checksum_right() {
        let mut payload = batch(100, 1000, Codec::None, Some((7, 1))).unwrap();
        stamp_sequence(&mut payload.bytes, 41);
        let header = Header::read(&payload.bytes).unwrap();
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (7, 1, 41));
        assert_eq!(header.crc, crc(&payload.bytes));
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        let mut bytes = vec![0; CRC_FROM];
        bytes.extend_from_slice(b"123456789");
        assert_eq!(crc(&bytes), 0xE306_9283);
    }

    #[test]
    fn the_text_compresses_about_as_well_as_logs_do() {
        let plain = batch(1024, 64 << 10, Codec::None, None).unwrap();
        let zstd = batch(1024, 64 << 10, Codec::Zstd, None).unwrap();
        let ratio = plain.bytes.len() as f64 / zstd.bytes.len() as f64;
        assert!((2.4..3.0).contains(&ratio), "zstd {ratio}");
        assert_eq!(Header::read(&zstd.bytes).unwrap().attributes, 4);
    }

    #[test]
    fn compressed_records_decompress_to_the_plain_ones() {
        let plain = batch(100, 16 << 10, Codec::None, None).unwrap();
        let zstd = batch(100, 16 << 10, Codec::Zstd, None).unwrap();
        let lz4 = batch(100, 16 << 10, Codec::Lz4, None).unwrap();
        assert_eq!(zstd::bulk::decompress(&zstd.bytes[61..], 1 << 20).unwrap(), &plain.bytes[61..]);
        let mut out = Vec::new();
        std::io::Read::read_to_end(&mut lz4_flex::frame::FrameDecoder::new(&lz4.bytes[61..]), &mut out)
            .unwrap();
        assert_eq!(out, &plain.bytes[61..]);
    }
}
