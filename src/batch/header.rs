//! The 61-byte header of a v2 batch, read in place.
//!
//! Invariant: reading never allocates and never looks past [`HEADER_BYTES`].

/// Bytes before the first record of a v2 batch.
pub const HEADER_BYTES: usize = 61;

/// Bytes of base offset and length, which the `length` field does not count.
pub(crate) const LENGTH_PREFIX_BYTES: usize = 12;

/// Where the CRC-32C starts to cover: the attributes.
pub(crate) const CRC_FROM: usize = 21;

/// Where magic stands, in every message format that ever was.
pub(crate) const MAGIC_AT: usize = 16;

/// Attribute bits.
pub(super) const LOG_APPEND_TIME: i16 = 0x08;
pub(super) const TRANSACTIONAL: i16 = 0x10;
pub(super) const CONTROL: i16 = 0x20;
const DELETE_HORIZON: i16 = 0x40;

/// Whether record timestamps are the client's or the broker's (attribute bit 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// Each record carries the client's own timestamp.
    Create,
    /// Every record counts as stamped with the batch's max timestamp, set by the broker.
    LogAppend,
}

/// The header fields of one v2 batch, copied out of its bytes. All integers are big-endian on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Offset of the first record (byte 0).
    pub base_offset: i64,
    /// Bytes after this field; the whole batch is `length + 12` bytes (byte 8).
    pub length: i32,
    /// Leader epoch of the append (byte 12). Outside the CRC.
    pub leader_epoch: i32,
    /// Format version, 2 here (byte 16).
    pub magic: i8,
    /// CRC-32C of byte 21 to the end (byte 17).
    pub crc: u32,
    /// Codec (bits 0-2), timestamp type (3), transactional (4), control (5), delete horizon (6) (byte 21).
    pub attributes: i16,
    /// Offset of the last record minus the base offset (byte 23).
    pub last_offset_delta: i32,
    /// Timestamp that the records' deltas add to, ms (byte 27).
    pub base_timestamp: i64,
    /// Largest record timestamp, ms (byte 35).
    pub max_timestamp: i64,
    /// Producer id, -1 for none (byte 43).
    pub producer_id: i64,
    /// Producer epoch, -1 for none (byte 51).
    pub producer_epoch: i16,
    /// Sequence of the first record, -1 for none (byte 53).
    pub base_sequence: i32,
    /// Number of records (byte 57).
    pub record_count: i32,
}

impl Header {
    /// Reads a header from the front of `bytes`; `None` if fewer than [`HEADER_BYTES`] are there.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let b: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        Some(Self {
            base_offset: i64::from_be_bytes(field(b, 0)),
            length: i32::from_be_bytes(field(b, 8)),
            leader_epoch: i32::from_be_bytes(field(b, 12)),
            magic: i8::from_be_bytes(field(b, 16)),
            crc: u32::from_be_bytes(field(b, 17)),
            attributes: i16::from_be_bytes(field(b, 21)),
            last_offset_delta: i32::from_be_bytes(field(b, 23)),
            base_timestamp: i64::from_be_bytes(field(b, 27)),
            max_timestamp: i64::from_be_bytes(field(b, 35)),
            producer_id: i64::from_be_bytes(field(b, 43)),
            producer_epoch: i16::from_be_bytes(field(b, 51)),
            base_sequence: i32::from_be_bytes(field(b, 53)),
            record_count: i32::from_be_bytes(field(b, 57)),
        })
    }

    /// Size of the whole batch in bytes, or `None` when the length field cannot be a v2 batch's.
    #[must_use]
    pub fn total_bytes(&self) -> Option<usize> {
        let total = usize::try_from(self.length).ok()?.checked_add(LENGTH_PREFIX_BYTES)?;
        (total >= HEADER_BYTES).then_some(total)
    }

    /// Writes the header as it stands on disk.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            #[allow(clippy::indexing_slicing, reason = "the widths below add up to the array")]
            out[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&self.base_offset.to_be_bytes());
        put(&self.length.to_be_bytes());
        put(&self.leader_epoch.to_be_bytes());
        put(&self.magic.to_be_bytes());
        put(&self.crc.to_be_bytes());
        put(&self.attributes.to_be_bytes());
        put(&self.last_offset_delta.to_be_bytes());
        put(&self.base_timestamp.to_be_bytes());
        put(&self.max_timestamp.to_be_bytes());
        put(&self.producer_id.to_be_bytes());
        put(&self.producer_epoch.to_be_bytes());
        put(&self.base_sequence.to_be_bytes());
        put(&self.record_count.to_be_bytes());
        out
    }

    /// Offset of the last record. Saturates, for headers that nobody has checked yet.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Offset after the last record: where the next batch starts.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Whether the timestamps are the client's or the broker's.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME == 0 { TimestampType::Create } else { TimestampType::LogAppend }
    }

    /// Attribute bit 4: part of a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Attribute bit 5: a transaction marker, never sent by a client.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Attribute bit 6: the base timestamp is when compaction may drop tombstones (KIP-534).
    #[must_use]
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes & DELETE_HORIZON != 0
    }
}

/// The `N` bytes at `at` of a header-sized array; the callers' constants keep `at + N` inside it.
fn field<const N: usize>(b: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    #[allow(clippy::indexing_slicing, reason = "constant positions inside a fixed array")]
    out.copy_from_slice(&b[at..at + N]);
    out
}
