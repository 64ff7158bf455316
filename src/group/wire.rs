//! Kafka's primitive types as the journal uses them: bounded reading, plain writing.
//!
//! Invariant: a length is compared with the bytes that remain before anything is taken or allocated.
//! Deliberately absent: writing of more of the flexible versions than the journal uses.

use bytes::{BufMut, Bytes, BytesMut};

use super::JournalError;

pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// Compact lengths and tagged fields (KIP-482).
    pub flexible: bool,
}

impl<'a> Reader<'a> {
    pub fn new(rest: &'a [u8]) -> Self {
        Self { rest, flexible: false }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], JournalError> {
        let (head, tail) = self.rest.split_at_checked(len).ok_or(JournalError::Truncated)?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], JournalError> {
        self.take(N)?.try_into().map_err(|_| JournalError::Truncated)
    }

    pub fn i16(&mut self) -> Result<i16, JournalError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub fn i32(&mut self) -> Result<i32, JournalError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, JournalError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn uvarint(&mut self) -> Result<u64, JournalError> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(JournalError::Malformed)
    }

    /// A length with `None` for null, from a compact varint or from `fixed`.
    fn length(
        &mut self,
        fixed: fn(&mut Self) -> Result<i64, JournalError>,
    ) -> Result<Option<usize>, JournalError> {
        let len = if self.flexible { self.uvarint()?.cast_signed() - 1 } else { fixed(self)? };
        if len < 0 {
            return Ok(None);
        }
        usize::try_from(len).map(Some).map_err(|_| JournalError::Malformed)
    }

    pub fn nullable_string(&mut self) -> Result<Option<String>, JournalError> {
        let Some(len) = self.length(|r| r.i16().map(i64::from))? else { return Ok(None) };
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| JournalError::Malformed)?;
        Ok(Some(text.to_owned()))
    }

    pub fn string(&mut self) -> Result<String, JournalError> {
        self.nullable_string()?.ok_or(JournalError::Malformed)
    }

    pub fn bytes(&mut self) -> Result<Bytes, JournalError> {
        let len = self.length(|r| r.i32().map(i64::from))?.unwrap_or(0);
        Ok(Bytes::copy_from_slice(self.take(len)?))
    }

    /// An array's count. Every element has at least one byte, so no count may pass what remains.
    pub fn count(&mut self) -> Result<usize, JournalError> {
        let count = self.length(|r| r.i32().map(i64::from))?.unwrap_or(0);
        if count > self.rest.len() { Err(JournalError::Malformed) } else { Ok(count) }
    }

    /// Skips the tagged fields that end every structure of a flexible version.
    pub fn tags(&mut self) -> Result<(), JournalError> {
        self.each_tag(|_, _| Ok(()))
    }

    /// Shows each tagged field: number and bytes.
    pub fn each_tag(
        &mut self,
        mut see: impl FnMut(u64, &'a [u8]) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.uvarint()? {
            let tag = self.uvarint()?;
            let len = usize::try_from(self.uvarint()?).map_err(|_| JournalError::Malformed)?;
            see(tag, self.take(len)?)?;
        }
        Ok(())
    }
}

/// Strings are bounded to `i16::MAX` bytes when they enter the coordinator.
pub(super) fn put_string(out: &mut BytesMut, text: &str) {
    debug_assert!(i16::try_from(text.len()).is_ok());
    out.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
    out.put_slice(text.as_bytes());
}

pub(super) fn put_nullable_string(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_string(out, text),
        None => out.put_i16(-1),
    }
}

pub(super) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
    out.put_slice(bytes);
}

fn low_bits(value: u64) -> u8 {
    u8::try_from(value & 0x7f).unwrap_or(0)
}

fn put_uvarint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.put_u8(low_bits(value));
}

pub(super) fn put_compact_string(out: &mut BytesMut, text: &str) {
    put_uvarint(out, text.len() as u64 + 1);
    out.put_slice(text.as_bytes());
}

/// The end of a structure of a flexible version, with at most one tagged field.
pub(super) fn put_tags(out: &mut BytesMut, field: Option<(u64, &[u8])>) {
    let Some((tag, bytes)) = field else { return out.put_u8(0) };
    out.put_u8(1);
    put_uvarint(out, tag);
    put_uvarint(out, bytes.len() as u64);
    out.put_slice(bytes);
}
