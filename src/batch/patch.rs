//! What a broker writes over a batch: its place in the log, and its time.
//!
//! Invariant: the place (offset, epoch) lies before the bytes that the CRC covers and costs no copy; the
//! time lies inside them and costs one copy and one CRC.
//! Source: apache/kafka DefaultRecordBatch.java (`setPartitionLeaderEpoch`, `setMaxTimestamp`).

use bytes::{Bytes, BytesMut};

use super::check::{Batch, crc32c};
use super::header::{CRC_FROM, Header, LOG_APPEND_TIME};

/// Bytes of base offset, length and leader epoch: what [`Batch::prefix`] replaces.
pub const PREFIX_BYTES: usize = 16;

impl Batch {
    /// The first [`PREFIX_BYTES`] bytes of this batch at its place in a log, for a vectored write in front
    /// of [`Batch::after_prefix`].
    #[must_use]
    pub fn prefix(&self, base_offset: i64, leader_epoch: i32) -> [u8; PREFIX_BYTES] {
        let mut prefix = [0; PREFIX_BYTES];
        let (offset, rest) = prefix.split_at_mut(8);
        let (length, epoch) = rest.split_at_mut(4);
        offset.copy_from_slice(&base_offset.to_be_bytes());
        length.copy_from_slice(&self.header().length.to_be_bytes());
        epoch.copy_from_slice(&leader_epoch.to_be_bytes());
        prefix
    }

    /// Everything behind [`Batch::prefix`], as received.
    #[must_use]
    pub fn after_prefix(&self) -> Bytes {
        self.bytes().slice(PREFIX_BYTES..)
    }

    /// The whole batch at its place in a log, as one copy (for engines and tests without vectored writes).
    #[must_use]
    pub fn placed(&self, base_offset: i64, leader_epoch: i32) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.bytes().len());
        bytes.extend_from_slice(&self.prefix(base_offset, leader_epoch));
        bytes.extend_from_slice(&self.after_prefix());
        bytes.freeze()
    }

    /// This batch with the broker's time, for topics with `message.timestamp.type=LogAppendTime`: attribute
    /// bit 3 and the max timestamp, which then counts for every record. One copy, new CRC.
    #[must_use]
    pub fn stamped(&self, now_ms: i64) -> Self {
        self.patched(self.header().attributes | LOG_APPEND_TIME, now_ms)
    }

    /// A copy with other attributes and max timestamp, and the CRC that fits them.
    pub(super) fn patched(&self, attributes: i16, max_timestamp: i64) -> Self {
        let mut header = Header { attributes, max_timestamp, ..*self.header() };
        let mut bytes = BytesMut::with_capacity(self.bytes().len());
        bytes.extend_from_slice(&header.encode());
        bytes.extend_from_slice(self.section());
        header.crc = crc32c(bytes.get(CRC_FROM..).unwrap_or_default());
        if let Some(front) = bytes.first_chunk_mut() {
            *front = header.encode();
        }
        Self::trusted(header, bytes.freeze(), self.seen())
    }
}
