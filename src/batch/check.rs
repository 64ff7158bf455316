//! The checks that a client's batch passes before anybody trusts it.
//!
//! Owns: [`Batch`], the only proof that the checks have been made, and [`Invalid`], why they failed.
//! Order: length, magic, CRC, header, records. The CRC comes before the header's rules, because bytes that
//! were damaged on the way must be answered as corrupt (clients retry) and never as invalid (they give up).
//! Deliberately absent: limits of topics (max.message.bytes, timestamps, log-append-time bits set by a
//! client, keys on compacted topics): those are the topic's.
//! Source: apache/kafka LogValidator.java, DefaultRecordBatch.java (`ensureValid`).

use bytes::Bytes;

use super::codec::{Codec, decompress};
use super::frame;
use super::header::{CRC_FROM, HEADER_BYTES, Header, MAGIC_AT, TimestampType};
use super::plain::Halt;
use super::records::{MIN_RECORD_BYTES, Met, walk};
use super::walk::walk_compressed;

/// Largest records section that any check decompresses to, unless its caller says otherwise.
pub const MAX_PLAIN_BYTES: usize = 64 << 20;

/// Most records in one batch.
pub const MAX_RECORDS: i32 = 1_000_000;

/// How many times larger than its compressed bytes a records section may be, above 16 MiB: what is less dense costs
/// little more to look at than to receive.
const MAX_RATIO: usize = 1000;
const SMALL_PLAIN_BYTES: usize = 16 << 20;

/// The timestamp of a record that has none.
const NO_TIMESTAMP: i64 = -1;

/// Exactly one whole v2 batch whose header, length and CRC-32C have been checked.
#[derive(Clone, Debug)]
pub struct Batch {
    header: Header,
    bytes: Bytes,
    seen: Option<Seen>,
}

/// What the records of a batch are known to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Smallest timestamp of a record that has one, ms.
    pub earliest: Option<i64>,
    /// Whether every record has a key.
    pub all_keyed: bool,
}

/// What [`Batch::check`] lets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Whether zstd is allowed: from Produce v7 on (KIP-110).
    pub zstd: bool,
    /// Whether the records of an uncompressed batch are walked. Off trusts clients with their counts.
    pub walk: bool,
    /// Whether compressed records are decompressed and walked. Off looks at the shape of their stream alone.
    pub strict: bool,
    /// Largest plain size of compressed records, bytes.
    pub plain_bytes_max: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self { zstd: true, walk: true, strict: true, plain_bytes_max: MAX_PLAIN_BYTES }
    }
}

/// Why bytes are not a batch that a client may append.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Shorter than its length field, length field impossible, or CRC mismatch (Kafka: CORRUPT_MESSAGE).
    #[error("corrupt batch: {0}")]
    Corrupt(&'static str),
    /// Well-formed but breaks a rule of the format (Kafka: INVALID_RECORD).
    #[error("invalid batch: {0}")]
    Record(&'static str),
    /// Magic 0 or 1 where only 2 is allowed (Kafka: UNSUPPORTED_FOR_MESSAGE_FORMAT).
    #[error("message format v{0} is not accepted here")]
    Magic(i8),
    /// Codec bits that the protocol version does not allow (Kafka: UNSUPPORTED_COMPRESSION_TYPE).
    #[error("compression codec {0} is not accepted here")]
    Codec(i16),
}

impl Batch {
    /// Checks a client's batch: exactly one, whole, magic 2, CRC-32C, counts, control bit, sequence, codec,
    /// and the records themselves, decompressed piece by piece where they are compressed. A wrong max timestamp
    /// is corrected, as Kafka does (one copy, new CRC); else the bytes stay as they came.
    ///
    /// Where the rules are not strict, only the shape of a compressed stream is checked (`frame.rs`). One exception:
    /// a max timestamp before the base timestamp was never set (some clients leave it out), so the true one is
    /// looked up.
    ///
    /// # Errors
    /// [`Invalid`], the first rule that is broken.
    pub fn check(bytes: Bytes, rules: Rules) -> Result<Self, Invalid> {
        let mut unlimited = usize::MAX;
        // An unlimited budget is never spent.
        Self::check_within(bytes, rules, &mut unlimited)?.ok_or(Invalid::Record("not checked"))
    }

    /// [`Batch::check`] that decompresses at most `budget` bytes, and takes from it what it did. `None` when that is not
    /// enough: the batch has to be checked where there is time for it.
    ///
    /// # Errors
    /// [`Invalid`], the first rule that is broken.
    pub fn check_within(bytes: Bytes, rules: Rules, budget: &mut usize) -> Result<Option<Self>, Invalid> {
        let batch = Self::whole(bytes)?;
        let header = &batch.header;
        check_client_header(header, batch.bytes.len() - HEADER_BYTES)?;
        match Codec::of(header)? {
            Codec::Zstd if !rules.zstd => Err(Invalid::Codec(4)),
            Codec::None if !rules.walk => Ok(Some(batch)),
            Codec::None => {
                let mut facts = Facts::new(header);
                walk(batch.section(), header.record_count, |met| facts.see(met))?;
                batch.knowing(facts).map(Some)
            }
            codec if !rules.strict && header.max_timestamp >= header.base_timestamp => {
                let count = header.record_count;
                match frame::check(codec, batch.section(), count, rules.plain_bytes_max, budget) {
                    Ok(()) => Ok(Some(batch)),
                    Err(Halt::Spent) => Ok(None),
                    Err(Halt::Invalid(invalid)) => Err(invalid),
                }
            }
            _ => batch.walked_within(rules.plain_bytes_max, budget),
        }
    }

    /// This batch after a walk over its records, even where they are compressed; the max timestamp is corrected.
    /// Decompresses to at most `max_bytes` and at most 1000 times the compressed bytes (16 MiB are always granted).
    ///
    /// # Errors
    /// [`Invalid::Record`] when the records are damaged, too many or too large.
    pub fn walked(self, max_bytes: usize) -> Result<Self, Invalid> {
        let mut unlimited = usize::MAX;
        self.walked_within(max_bytes, &mut unlimited)?.ok_or(Invalid::Record("not checked"))
    }

    /// [`Batch::walked`], and the plain records section.
    ///
    /// # Errors
    /// As there.
    pub fn check_deep(self, max_bytes: usize) -> Result<(Self, Bytes), Invalid> {
        let batch = if self.seen.is_some() { self } else { self.walked(max_bytes)? };
        let section = decompress(Codec::of(&batch.header)?, &batch.bytes.slice(HEADER_BYTES..), max_bytes)?;
        Ok((batch, section))
    }

    fn walked_within(self, max_bytes: usize, budget: &mut usize) -> Result<Option<Self>, Invalid> {
        // Real records do not shrink.
        if self.section().len() > *budget {
            return Ok(None);
        }
        let mut facts = Facts::new(&self.header);
        match self.each(max_bytes, budget, |met| facts.see(met)) {
            Ok(()) => self.knowing(facts).map(Some),
            Err(Halt::Spent) => Ok(None),
            Err(Halt::Invalid(invalid)) => Err(invalid),
        }
    }

    /// Shows `visit` every record, whatever the codec.
    fn each(&self, max_bytes: usize, budget: &mut usize, visit: impl FnMut(Met)) -> Result<(), Halt> {
        let (section, count) = (self.section(), self.header.record_count);
        match Codec::of(&self.header)? {
            Codec::None => Ok(walk(section, count, visit)?),
            codec => {
                let granted = section.len().saturating_mul(MAX_RATIO).max(SMALL_PLAIN_BYTES);
                walk_compressed(codec, section, count, max_bytes.min(granted), budget, visit)
            }
        }
    }

    /// Places of the records, the first `most` of them, that `wanted` picks by timestamp (ms) and whether there is a
    /// key. For refusals: it walks anew, and decompresses to at most `max_bytes`.
    ///
    /// # Errors
    /// [`Invalid::Record`] when the records are damaged, too many or too large.
    pub fn places(
        &self,
        max_bytes: usize,
        most: usize,
        mut wanted: impl FnMut(i64, bool) -> bool,
    ) -> Result<Vec<i32>, Invalid> {
        let mut found = Vec::new();
        let base = self.header.base_timestamp;
        let mut unlimited = usize::MAX;
        let walked = self.each(max_bytes, &mut unlimited, |met| {
            if found.len() < most && wanted(base.saturating_add(met.timestamp_delta), met.has_key) {
                found.push(met.offset_delta);
            }
        });
        match walked {
            Ok(()) | Err(Halt::Spent) => Ok(found),
            Err(Halt::Invalid(invalid)) => Err(invalid),
        }
    }

    /// Checks a batch that this broker stored: one whole batch, magic 2, CRC-32C, counts that compaction may
    /// have lowered, offsets that stay in range. Control batches are fine, and so are empty ones.
    ///
    /// # Errors
    /// [`Invalid`], the first rule that is broken.
    pub fn stored(bytes: Bytes) -> Result<Self, Invalid> {
        let batch = Self::whole(bytes)?;
        check_stored_header(&batch.header)?;
        Ok(batch)
    }

    /// One whole batch with the right magic and CRC.
    fn whole(bytes: Bytes) -> Result<Self, Invalid> {
        let header = read_whole(&bytes)?;
        check_crc(&header, &bytes)?;
        Ok(Self { header, bytes, seen: None })
    }

    /// A batch that was just encoded here and so needs no check; `bytes` are header and records.
    pub(super) fn trusted(header: Header, bytes: Bytes, seen: Option<Seen>) -> Self {
        debug_assert_eq!(header.total_bytes(), Some(bytes.len()));
        debug_assert_eq!(header.crc, crc32c(bytes.get(CRC_FROM..).unwrap_or_default()));
        Self { header, bytes, seen }
    }

    /// This batch with what a walk has found, its max timestamp set to the true one if it is another.
    fn knowing(mut self, facts: Facts) -> Result<Self, Invalid> {
        let base = self.header.base_timestamp;
        let out_of_range = Invalid::Record("timestamp out of range");
        let largest = base.checked_add(facts.max).ok_or(out_of_range.clone())?;
        let earliest = match facts.min {
            i64::MAX => None,
            least => Some(base.checked_add(least).ok_or(out_of_range)?),
        };
        self.seen = Some(Seen { earliest, all_keyed: !facts.keyless });
        let by_client = self.header.timestamp_type() == TimestampType::Create;
        if by_client && largest != self.header.max_timestamp {
            return Ok(self.patched(self.header.attributes, largest));
        }
        Ok(self)
    }

    /// Smallest timestamp of a record, ms, -1 when none has one. Where nobody looked into the records, the first one's.
    #[must_use]
    pub fn earliest_timestamp(&self) -> i64 {
        match self.seen {
            Some(seen) => seen.earliest.unwrap_or(NO_TIMESTAMP),
            None => self.header.base_timestamp,
        }
    }

    /// Whether every record has a key; `None` where nobody looked into the records.
    #[must_use]
    pub fn all_keyed(&self) -> Option<bool> {
        self.seen.map(|seen| seen.all_keyed)
    }

    pub(super) fn seen(&self) -> Option<Seen> {
        self.seen
    }

    /// The header. Base offset and leader epoch are the sender's.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The whole batch.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The records section as it came, compressed or not.
    pub(super) fn section(&self) -> &[u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or_default()
    }
}

/// What a walk learns.
struct Facts {
    /// Delta of a record without a timestamp.
    unstamped: i64,
    /// Smallest delta of those that have one.
    min: i64,
    max: i64,
    keyless: bool,
}

impl Facts {
    fn new(header: &Header) -> Self {
        let unstamped = NO_TIMESTAMP.wrapping_sub(header.base_timestamp);
        Self { unstamped, min: i64::MAX, max: i64::MIN, keyless: false }
    }

    #[inline(always)]
    fn see(&mut self, met: Met) {
        let delta = met.timestamp_delta;
        if delta != self.unstamped {
            self.min = self.min.min(delta);
        }
        self.max = self.max.max(delta);
        self.keyless |= !met.has_key;
    }
}

/// Reads the header of bytes that must be exactly one whole v2 batch. Magic stands at the same byte in every
/// format, and a legacy message is shorter than a v2 header, so it is looked at first.
pub(super) fn read_whole(bytes: &[u8]) -> Result<Header, Invalid> {
    match bytes.get(MAGIC_AT).map(|b| b.cast_signed()) {
        None if bytes.is_empty() => return Err(Invalid::Record("no batch")),
        Some(2) | None => (),
        Some(legacy @ (0 | 1)) => return Err(Invalid::Magic(legacy)),
        Some(_) => return Err(Invalid::Record("unknown magic")),
    }
    let header = Header::read(bytes).ok_or(Invalid::Corrupt("shorter than a batch header"))?;
    let total = header.total_bytes().ok_or(Invalid::Corrupt("impossible length"))?;
    match total.cmp(&bytes.len()) {
        std::cmp::Ordering::Equal => Ok(header),
        std::cmp::Ordering::Greater => Err(Invalid::Corrupt("shorter than its length")),
        std::cmp::Ordering::Less => Err(Invalid::Record("more than one batch, or bytes behind it")),
    }
}

pub(super) fn check_crc(header: &Header, bytes: &[u8]) -> Result<(), Invalid> {
    let covered = bytes.get(CRC_FROM..).unwrap_or_default();
    if crc32c(covered) == header.crc { Ok(()) } else { Err(Invalid::Corrupt("CRC-32C mismatch")) }
}

/// The rules of a header that a client sent; `section_bytes` is what its records take.
fn check_client_header(header: &Header, section_bytes: usize) -> Result<(), Invalid> {
    let count = header.record_count;
    let broken = if header.base_offset != 0 {
        "base offset is not 0"
    } else if count <= 0 || header.last_offset_delta.checked_add(1) != Some(count) {
        "record count does not match the offsets"
    } else if count > MAX_RECORDS
        || usize::try_from(count).unwrap_or(usize::MAX) > most_records(header, section_bytes)
    {
        "more records than the bytes can hold"
    } else if header.is_control() {
        "control batches are the broker's"
    } else if header.has_delete_horizon() {
        "the delete horizon is the broker's"
    } else if header.producer_id >= 0 && (header.base_sequence < 0 || header.producer_epoch < 0) {
        "producer id without epoch or sequence"
    } else if header.producer_id < 0 && header.is_transactional() {
        "transactional without a producer id"
    } else {
        return Ok(());
    };
    Err(Invalid::Record(broken))
}

/// How many records can be in so many bytes, compressed or not.
fn most_records(header: &Header, section_bytes: usize) -> usize {
    let plain = match header.attributes & 0x07 {
        0 => section_bytes,
        _ => section_bytes.saturating_mul(MAX_RATIO).max(SMALL_PLAIN_BYTES),
    };
    plain / MIN_RECORD_BYTES
}

/// The rules of a header that this broker stored.
pub(super) fn check_stored_header(header: &Header) -> Result<(), Invalid> {
    Codec::of(header)?;
    let delta = header.last_offset_delta;
    let counts = delta >= 0 && (0..=i64::from(delta) + 1).contains(&i64::from(header.record_count));
    let offsets = header.base_offset >= 0 && header.base_offset.checked_add(i64::from(delta) + 1).is_some();
    if counts && offsets { Ok(()) } else { Err(Invalid::Record("impossible counts or offsets")) }
}

/// CRC-32C (Castagnoli, iSCSI) of `bytes`.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    #[allow(clippy::cast_possible_truncation, reason = "a 32-bit checksum in a wider return type")]
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32;
    crc
}
