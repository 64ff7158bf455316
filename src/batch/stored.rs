//! Reading stored bytes: whole batches in a slice, and records by time inside one batch.
//!
//! For recovery, fetch checks, ListOffsets and tests.
//! Invariant: what is yielded is one whole batch of the slice; a cut-off batch at its end is not an error
//! but where the iteration stops ([`Batches::position`]).
//! Deliberately absent: files, maps, indexes.

use std::borrow::Cow;

use super::check::{Invalid, check_crc, check_stored_header, read_whole};
use super::codec::{Codec, plain};
use super::header::{HEADER_BYTES, Header, TimestampType};
use super::records::Records;

/// Iterates over the whole batches of a slice. Only lengths and magic are looked at;
/// [`StoredBatch::verify`] checks the rest. After an error it ends.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    position: usize,
    failed: bool,
}

impl<'a> Batches<'a> {
    /// The batches of `bytes`, which start at a batch boundary.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0, failed: false }
    }

    /// Bytes of the whole batches yielded so far: where the next one starts.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<StoredBatch<'a>, Invalid>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let rest = self.bytes.get(self.position..)?;
        let header = Header::read(rest)?;
        let Some(total) = header.total_bytes() else {
            self.failed = true;
            return Some(Err(Invalid::Corrupt("impossible length")));
        };
        let bytes = rest.get(..total)?;
        match read_whole(bytes) {
            Ok(header) => {
                let position = self.position;
                self.position += total;
                Some(Ok(StoredBatch { header, position, bytes }))
            }
            Err(invalid) => {
                self.failed = true;
                Some(Err(invalid))
            }
        }
    }
}

/// One whole batch in stored bytes, not yet verified.
#[derive(Clone, Copy, Debug)]
pub struct StoredBatch<'a> {
    /// Its header, base offset and leader epoch as stored.
    pub header: Header,
    /// Where it starts in the slice.
    pub position: usize,
    /// All its bytes.
    pub bytes: &'a [u8],
}

impl<'a> StoredBatch<'a> {
    /// Checks CRC-32C, counts and offsets, as [`super::Batch::stored`] does, without owning the bytes.
    ///
    /// # Errors
    /// [`Invalid`], the first rule that is broken.
    pub fn verify(&self) -> Result<(), Invalid> {
        check_crc(&self.header, self.bytes)?;
        check_stored_header(&self.header)
    }

    /// The plain records section, decompressed to at most `max_bytes` where it is compressed;
    /// [`Records::new`] iterates over it.
    ///
    /// # Errors
    /// [`Invalid`] when the section is damaged or larger than the cap.
    pub fn section(&self, max_bytes: usize) -> Result<Cow<'a, [u8]>, Invalid> {
        plain(Codec::of(&self.header)?, self.bytes.get(HEADER_BYTES..).unwrap_or_default(), max_bytes)
    }

    /// Offset and timestamp of the first record from offset `start` on that is stamped at or after `timestamp`
    /// (ms), for ListOffsets: a log may start inside a batch.
    ///
    /// # Errors
    /// [`Invalid`] when the records are damaged or larger than `max_bytes`.
    pub fn first_at_or_after(
        &self,
        timestamp: i64,
        start: i64,
        max_bytes: usize,
    ) -> Result<Option<(i64, i64)>, Invalid> {
        if self.header.max_timestamp < timestamp {
            return Ok(None);
        }
        let section = self.section(max_bytes)?;
        for record in Records::new(&section, self.header.record_count) {
            let record = record?;
            let (offset, stamped) =
                (self.offset_of(record.offset_delta), self.timestamp_of(record.timestamp_delta));
            if stamped >= timestamp && offset >= start {
                return Ok(Some((offset, stamped)));
            }
        }
        Ok(None)
    }

    /// Offset and timestamp of the first record that carries the largest timestamp of those from offset `start` on;
    /// `None` where there are none.
    ///
    /// # Errors
    /// [`Invalid`] when the records are damaged or larger than `max_bytes`.
    pub fn first_of_max(&self, start: i64, max_bytes: usize) -> Result<Option<(i64, i64)>, Invalid> {
        let section = self.section(max_bytes)?;
        let mut best: Option<(i64, i64)> = None;
        for record in Records::new(&section, self.header.record_count) {
            let record = record?;
            let (offset, stamped) =
                (self.offset_of(record.offset_delta), self.timestamp_of(record.timestamp_delta));
            if offset >= start && best.is_none_or(|(_, largest)| stamped > largest) {
                best = Some((offset, stamped));
            }
        }
        Ok(best)
    }

    fn offset_of(&self, delta: i32) -> i64 {
        self.header.base_offset.saturating_add(i64::from(delta))
    }

    /// With log append time every record counts as stamped with the batch's max timestamp.
    fn timestamp_of(&self, delta: i64) -> i64 {
        match self.header.timestamp_type() {
            TimestampType::Create => self.header.base_timestamp.saturating_add(delta),
            TimestampType::LogAppend => self.header.max_timestamp,
        }
    }
}
