//! The bounded walk over the records of a batch, without allocation.

/// One record, borrowed from the (decompressed) records section of a batch.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// Offset minus the batch's base offset.
    pub offset_delta: i32,
    /// Timestamp minus the batch's base timestamp, ms.
    pub timestamp_delta: i64,
    /// Key, `None` for null.
    pub key: Option<&'a [u8]>,
    /// Value, `None` for null.
    pub value: Option<&'a [u8]>,
    /// The headers section, undecoded.
    pub headers: &'a [u8],
}

/// Iterates over the records section of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a> {
    #[allow(dead_code, reason = "the walk is built next")]
    rest: &'a [u8],
}
