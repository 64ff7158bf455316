//! Builds one v2 batch from records: for Kinesis puts, group journals, tests and the load driver.
//!
//! Deliberately absent: compression of client data (batches are stored as received).

use bytes::Bytes;

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

/// Collects records and encodes them as one uncompressed v2 batch.
#[derive(Debug, Default)]
pub struct Builder {
    records: Vec<Record>,
    producer: Option<(i64, i16, i32)>,
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

    /// Adds a record.
    pub fn push(&mut self, record: Record) {
        self.records.push(record);
    }
}
