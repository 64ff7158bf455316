//! Builds one v2 batch from records: for Kinesis puts, group journals, markers, tests and the load driver.
//!
//! Invariant: what is built passes [`Batch::check`] (a marker: [`Batch::stored`]).
//! Deliberately absent: compression (`recode.rs`).

use bytes::Bytes;

use super::check::{Batch, Invalid, MAX_RECORDS, Seen, crc32c};
use super::header::{CONTROL, CRC_FROM, HEADER_BYTES, Header, LENGTH_PREFIX_BYTES, TRANSACTIONAL};
use super::records::{MAX_HEADERS, RecordView};
use super::varint;

/// One record to be built into a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// Key, `None` for null.
    pub key: Option<Bytes>,
    /// Value, `None` for null (a tombstone on compacted topics).
    pub value: Option<Bytes>,
    /// Headers in order; names may repeat.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// How a transaction ended: the type in the key of a control record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// 0: its records must not be read.
    Abort,
    /// 1: its records count.
    Commit,
}

impl Marker {
    /// What the record of a control batch says; `None` for control types that are not transaction markers.
    /// Any key version is taken, as consumers do (KIP-1228 raised it).
    #[must_use]
    pub fn read(record: &RecordView<'_>) -> Option<Self> {
        match record.key? {
            [_, _, 0, 0, ..] => Some(Self::Abort),
            [_, _, 0, 1, ..] => Some(Self::Commit),
            _ => None,
        }
    }
}

/// Collects records and encodes them as one uncompressed v2 batch.
#[derive(Debug, Default)]
pub struct Builder {
    records: Vec<Record>,
    producer: Option<(i64, i16, i32)>,
    attributes: i16,
}

impl Builder {
    /// An empty builder: no producer id, not transactional.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stamps producer id, epoch and the sequence of the first record.
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.producer = Some((id, epoch, base_sequence));
        self
    }

    /// Makes the batch part of the producer's transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.attributes |= TRANSACTIONAL;
        self
    }

    /// Adds a record.
    pub fn push(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Encodes the records, base offset 0, deltas counted from the first record.
    ///
    /// # Errors
    /// [`Invalid::Record`] without records, with too many records or headers, or when timestamps or bytes do
    /// not fit.
    pub fn build(self) -> Result<Batch, Invalid> {
        let first = self.records.first().ok_or(Invalid::Record("no records"))?;
        let base_timestamp = first.timestamp_ms;
        let max_timestamp = self.records.iter().map(|r| r.timestamp_ms).max().unwrap_or(base_timestamp);
        let record_count = i32::try_from(self.records.len()).unwrap_or(i32::MAX);
        if record_count > MAX_RECORDS {
            return Err(Invalid::Record("too many records"));
        }
        let payload: usize = self.records.iter().map(payload_bytes).sum();
        let mut out = Vec::with_capacity(HEADER_BYTES + payload);
        out.resize(HEADER_BYTES, 0);
        for (offset_delta, record) in (0i64..).zip(&self.records) {
            put_record(&mut out, record, base_timestamp, offset_delta)?;
        }
        let length = i32::try_from(out.len() - LENGTH_PREFIX_BYTES);
        let (producer_id, producer_epoch, base_sequence) = self.producer.unwrap_or((-1, -1, -1));
        let header = Header {
            base_offset: 0,
            length: length.map_err(|_| Invalid::Record("batch too large"))?,
            leader_epoch: -1,
            magic: 2,
            crc: 0,
            attributes: self.attributes,
            last_offset_delta: record_count - 1,
            base_timestamp,
            max_timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            record_count,
        };
        let seen = Seen {
            earliest: self.records.iter().map(|r| r.timestamp_ms).filter(|&t| t != -1).min(),
            all_keyed: self.records.iter().all(|r| r.key.is_some()),
        };
        Ok(sealed(header, out, Some(seen)))
    }

    /// The control batch that ends a transaction in one partition. It takes one offset.
    /// Source: apache/kafka EndTransactionMarker.java, ControlRecordType.java.
    ///
    /// # Errors
    /// None in practice: one small record always fits.
    pub fn marker(
        marker: Marker,
        producer_id: i64,
        producer_epoch: i16,
        coordinator_epoch: i32,
        timestamp_ms: i64,
    ) -> Result<Batch, Invalid> {
        let mut builder = Self::new().producer(producer_id, producer_epoch, -1).transactional();
        builder.attributes |= CONTROL;
        let kind = match marker {
            Marker::Abort => 0,
            Marker::Commit => 1,
        };
        let mut value = vec![0, 0];
        value.extend_from_slice(&coordinator_epoch.to_be_bytes());
        builder.push(Record {
            timestamp_ms,
            key: Some(Bytes::copy_from_slice(&[0, 0, 0, kind])),
            value: Some(value.into()),
            headers: Vec::new(),
        });
        builder.build()
    }
}

/// Writes the header, its CRC included, over the first bytes of `out`.
pub(super) fn sealed(mut header: Header, mut out: Vec<u8>, seen: Option<Seen>) -> Batch {
    for crc_known in [false, true] {
        if crc_known {
            header.crc = crc32c(out.get(CRC_FROM..).unwrap_or_default());
        }
        if let Some(front) = out.first_chunk_mut() {
            *front = header.encode();
        }
    }
    Batch::trusted(header, out.into(), seen)
}

/// Room for one record: its bytes and a little for each length.
fn payload_bytes(record: &Record) -> usize {
    let headers = record.headers.iter().map(|(name, value)| 10 + name.len() + length_of(value.as_ref()));
    32 + length_of(record.key.as_ref()) + length_of(record.value.as_ref()) + headers.sum::<usize>()
}

fn put_record(
    out: &mut Vec<u8>,
    record: &Record,
    base_timestamp: i64,
    offset_delta: i64,
) -> Result<(), Invalid> {
    if record.headers.len() > MAX_HEADERS {
        return Err(Invalid::Record("too many headers"));
    }
    let delta = record.timestamp_ms.checked_sub(base_timestamp);
    let timestamp_delta = delta.ok_or(Invalid::Record("timestamp out of range"))?;
    let headers = wide(record.headers.len());
    let body = 1
        + varint::length(timestamp_delta)
        + varint::length(offset_delta)
        + field_bytes(record.key.as_ref())
        + field_bytes(record.value.as_ref())
        + varint::length(headers)
        + record.headers.iter().map(|(n, v)| field_bytes(Some(n)) + field_bytes(v.as_ref())).sum::<usize>();
    varint::put(out, wide(body));
    out.push(0);
    varint::put(out, timestamp_delta);
    varint::put(out, offset_delta);
    put_field(out, record.key.as_ref());
    put_field(out, record.value.as_ref());
    varint::put(out, headers);
    for (name, value) in &record.headers {
        put_field(out, Some(name));
        put_field(out, value.as_ref());
    }
    Ok(())
}

fn put_field(out: &mut Vec<u8>, field: Option<&Bytes>) {
    varint::put(out, field.map_or(-1, |bytes| wide(bytes.len())));
    out.extend_from_slice(field.map_or(&[], |bytes| bytes));
}

fn field_bytes(field: Option<&Bytes>) -> usize {
    varint::length(field.map_or(-1, |bytes| wide(bytes.len()))) + length_of(field)
}

fn length_of(field: Option<&Bytes>) -> usize {
    field.map_or(0, Bytes::len)
}

/// A length in memory always fits.
fn wide(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
