//! Batches with any field wrong: everything that the format computes can be said otherwise here.
//!
//! Deliberately absent: weir's own builder, which cannot be made to lie.

use super::super::{NOBODY, Out, Producer, crc32c};

/// The fields of a batch, valid for one record until somebody changes them.
#[derive(Clone)]
pub(super) struct Forged {
    pub(super) base_offset: i64,
    /// Instead of the true one.
    pub(super) length: Option<i32>,
    pub(super) magic: i8,
    /// Instead of the true one.
    pub(super) crc: Option<u32>,
    pub(super) attributes: i16,
    pub(super) last_offset_delta: i32,
    pub(super) base_timestamp: i64,
    pub(super) max_timestamp: i64,
    pub(super) producer: Producer,
    pub(super) count: i32,
    pub(super) records: Vec<u8>,
}

/// A valid batch of one record.
pub(super) fn valid() -> Forged {
    valid_of(1)
}

/// A valid batch of so many records.
pub(super) fn valid_of(count: i32) -> Forged {
    Forged {
        base_offset: 0,
        length: None,
        magic: 2,
        crc: None,
        attributes: 0,
        last_offset_delta: count - 1,
        base_timestamp: 1_000,
        max_timestamp: 1_000,
        producer: NOBODY,
        count,
        records: (0..count).flat_map(|n| record(n, b"k", b"v")).collect(),
    }
}

impl Forged {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let Producer { id, epoch, sequence } = self.producer;
        let tail = Out::new().i16(self.attributes).i32(self.last_offset_delta);
        let tail = tail.i64(self.base_timestamp).i64(self.max_timestamp);
        let tail = tail.i64(id).i16(epoch).i32(sequence).i32(self.count).raw(&self.records).0;
        let length = self.length.unwrap_or_else(|| i32::try_from(tail.len() + 9).unwrap());
        let crc = self.crc.unwrap_or_else(|| crc32c(&tail));
        let head = Out::new().i64(self.base_offset).i32(length).i32(-1).i8(self.magic);
        head.raw(&crc.to_be_bytes()).raw(&tail).0
    }
}

/// The valid one-record batch with some fields changed.
pub(super) fn forged(change: impl FnOnce(&mut Forged)) -> Vec<u8> {
    let mut batch = valid();
    change(&mut batch);
    batch.bytes()
}

/// A valid batch whose records are something else.
pub(super) fn of_records(count: i32, records: Vec<u8>) -> Vec<u8> {
    Forged { records, ..valid_of(count) }.bytes()
}

/// One record without headers, 0 ms after the base timestamp.
pub(super) fn record(delta: i32, key: &[u8], value: &[u8]) -> Vec<u8> {
    record_of(delta, &[&varint(key.len() as i64), key, &varint(value.len() as i64), value, &[0]].concat())
}

/// One record whose key, value and headers are these bytes.
pub(super) fn record_of(delta: i32, rest: &[u8]) -> Vec<u8> {
    let body = [&[0, 0], &varint(i64::from(delta))[..], rest].concat();
    [varint(body.len() as i64), body].concat()
}

/// A zigzag varint.
pub(super) fn varint(value: i64) -> Vec<u8> {
    uvarint((value << 1 ^ value >> 63) as u64)
}

pub(super) fn uvarint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}
