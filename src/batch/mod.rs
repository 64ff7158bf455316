//! The v2 record batch as bytes: the one format that every room shares.
//!
//! Owns: the 61-byte header view, the CRC-32C check, patching of base offset and leader epoch, the
//! bounded record walk, capped decompression, another codec for topics that ask for it, and the builder.
//! Invariant: a [`Batch`] in hand has been checked; its bytes are exactly one whole batch.
//! Deliberately absent: topics, offsets assignment, I/O, any other room.
//!
//! The checksum of a v2 batch is CRC-32C (Castagnoli), from byte 21 to the end. `crc32fast` computes
//! CRC-32/ISO-HDLC: right for legacy message sets and for weir's own files, wrong here.
//! Source: apache/kafka DefaultRecordBatch.java; <https://kafka.apache.org/documentation/#recordbatch>.

#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

mod build;
mod check;
mod codec;
mod frame;
mod header;
mod patch;
mod plain;
mod recode;
mod records;
mod stored;
#[cfg(test)]
mod tests;
mod varint;
mod walk;

pub use build::{Builder, Marker, Record};
pub(crate) use check::crc32c;
pub use check::{Batch, Invalid, MAX_PLAIN_BYTES, MAX_RECORDS, Rules};
pub use codec::{Codec, decompress};
pub(crate) use header::CRC_FROM;
pub use header::{HEADER_BYTES, Header, TimestampType};
pub use patch::PREFIX_BYTES;
pub use records::{Headers, MAX_HEADERS, RecordView, Records};
pub use stored::{Batches, StoredBatch};
