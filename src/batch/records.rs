//! The bounded walk over the records of a batch, without allocation.
//!
//! Owns: the parse of one record, shared by the check of every produce and by every reader, so that there
//! is one opinion of what a record is.
//! Invariant: a record is yielded only when its length, key, value and headers fill it exactly.
//! Deliberately absent: decompression (the section comes in plain) and limits on size.
//! Source: apache/kafka DefaultRecord.java (`readFrom`).

use super::check::Invalid;
use super::varint::{take_i32, take_i64};

/// Headers of one record. Kafka has no limit; a real record has a handful.
pub const MAX_HEADERS: usize = 10_000;

/// Smallest record: length, attributes, two deltas, key and value length, header count, 1 byte each.
pub(super) const MIN_RECORD_BYTES: usize = 7;

/// One record, borrowed from the (decompressed) records section of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Offset minus the batch's base offset.
    pub offset_delta: i32,
    /// Timestamp minus the batch's base timestamp, ms.
    pub timestamp_delta: i64,
    /// Key, `None` for null.
    pub key: Option<&'a [u8]>,
    /// Value, `None` for null.
    pub value: Option<&'a [u8]>,
    /// The headers section from its count on, undecoded; [`RecordView::header_pairs`] reads it.
    pub headers: &'a [u8],
}

impl<'a> RecordView<'a> {
    /// The headers in order as `(name, value)`; names may repeat and a value may be null.
    #[must_use]
    pub fn header_pairs(&self) -> Headers<'a> {
        let mut rest = self.headers;
        let left = take_i32(&mut rest).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        Headers { rest, left }
    }
}

/// Iterates over the headers of one record as `(name, value)`. Ends early where the bytes are damaged,
/// which those of a yielded [`RecordView`] are not.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name = take_field(&mut self.rest)??;
        Some((name, take_field(&mut self.rest)?))
    }
}

/// Iterates over the plain records section of a batch. After an error it ends; bytes behind the last
/// record are an error.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    left: i32,
}

impl<'a> Records<'a> {
    /// The `count` records of the plain (decompressed) `section`.
    #[must_use]
    pub fn new(section: &'a [u8], count: i32) -> Self {
        Self { rest: section, left: count }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordView<'a>, Invalid>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            let trailing = !std::mem::take(&mut self.rest).is_empty();
            return trailing.then_some(Err(TRAILING));
        }
        self.left -= 1;
        let record = take_record(&mut self.rest);
        if record.is_err() {
            (self.rest, self.left) = (&[], 0);
        }
        Some(record.map_err(Invalid::Record))
    }
}

pub(super) const TRAILING: Invalid = Invalid::Record("bytes behind the last record");
pub(super) const UNORDERED: Invalid = Invalid::Record("offset deltas are not 0, 1, 2 ...");
pub(super) const CUT: Invalid = Invalid::Record("record longer than its batch");

/// What a walk meets of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Met {
    pub offset_delta: i32,
    pub timestamp_delta: i64,
    pub has_key: bool,
}

impl Met {
    #[inline(always)]
    pub fn of(record: &RecordView<'_>) -> Self {
        Self {
            offset_delta: record.offset_delta,
            timestamp_delta: record.timestamp_delta,
            has_key: record.key.is_some(),
        }
    }
}

/// Walks a client's plain records section: exactly `count` records, offset deltas 0, 1, 2 ... in order,
/// nothing behind them. Shows `visit` each.
#[inline(always)]
pub(super) fn walk(section: &[u8], count: i32, mut visit: impl FnMut(Met)) -> Result<(), Invalid> {
    let mut rest = section;
    for expected in 0..count {
        let record = take_record(&mut rest).map_err(Invalid::Record)?;
        if record.offset_delta != expected {
            return Err(UNORDERED);
        }
        visit(Met::of(&record));
    }
    if rest.is_empty() { Ok(()) } else { Err(TRAILING) }
}

/// Takes one record off the front of `rest`. Its attributes byte is unused in v2 and ignored, as in Kafka.
#[inline(always)]
pub(super) fn take_record<'a>(rest: &mut &'a [u8]) -> Result<RecordView<'a>, &'static str> {
    let length = take_i32(rest).and_then(|n| usize::try_from(n).ok()).ok_or("bad record length")?;
    let (body, tail) = rest.split_at_checked(length).ok_or("record longer than its batch")?;
    *rest = tail;
    let (_attributes, mut body) = body.split_first().ok_or("empty record")?;
    let timestamp_delta = take_i64(&mut body).ok_or("bad timestamp delta")?;
    let offset_delta = take_i32(&mut body).ok_or("bad offset delta")?;
    let key = take_field(&mut body).ok_or("bad key length")?;
    let value = take_field(&mut body).ok_or("bad value length")?;
    // No headers is the hot path: one comparison.
    if body != [0] {
        check_headers(body)?;
    }
    Ok(RecordView { offset_delta, timestamp_delta, key, value, headers: body })
}

/// Takes a length (-1 is null) and that many bytes; `None` when the length is impossible.
#[inline(always)]
fn take_field<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = take_i32(rest)?;
    if length == -1 {
        return Some(None);
    }
    let (field, tail) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = tail;
    Some(Some(field))
}

/// Checks that `section` is a count and exactly that many headers, no name null.
fn check_headers(section: &[u8]) -> Result<(), &'static str> {
    let mut rest = section;
    let count = take_i32(&mut rest).and_then(|n| usize::try_from(n).ok()).ok_or("bad header count")?;
    if too_many_headers(count, rest.len()) {
        return Err("too many headers");
    }
    for _ in 0..count {
        take_field(&mut rest).flatten().ok_or("bad header name")?;
        take_field(&mut rest).ok_or("bad header value")?;
    }
    if rest.is_empty() { Ok(()) } else { Err("bytes behind a record's headers") }
}

/// Whether so many headers are more than allowed, or than fit the bytes that are left for them.
pub(super) fn too_many_headers(count: usize, bytes: usize) -> bool {
    count > MAX_HEADERS || count > bytes / 2
}
