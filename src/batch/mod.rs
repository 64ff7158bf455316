//! The v2 record batch as bytes: the one format that every room shares.
//!
//! Owns: the 61-byte header view, the CRC-32C check, patching of base offset and leader epoch, the
//! bounded record walk, capped decompression, and the builder.
//! Invariant: a [`Batch`] in hand has been checked; its bytes are exactly one whole batch.
//! Deliberately absent: topics, offsets assignment, I/O, any other room.
//!
//! The checksum of a v2 batch is CRC-32C (Castagnoli), from byte 21 to the end. `crc32fast` computes
//! CRC-32/ISO-HDLC: right for legacy message sets and for weir's own files, wrong here.
//! Source: apache/kafka DefaultRecordBatch.java; <https://kafka.apache.org/documentation/#recordbatch>.

mod build;
mod check;
mod codec;
mod header;
mod records;

pub use build::{Builder, Record};
pub use check::{Batch, Invalid};
pub use codec::{Codec, decompress};
pub(crate) use header::CRC_FROM;
pub use header::{HEADER_BYTES, Header, TimestampType};
pub use records::{RecordView, Records};
