//! Reading and writing of the protocol's primitive types, for the APIs that are written by hand: the hot
//! ones (Produce, Fetch), those before login (ApiVersions), and versions that `kafka-protocol` lacks.
//!
//! Invariant: a count or length is checked against the bytes that remain before anything is done with it; the
//! counts of one body add up to at most [`MAX_ELEMENTS`], as in the schema walk; no read allocates. Source: <https://kafka.apache.org/protocol#protocol_types>, KIP-482 (flexible versions).

use bytes::{BufMut, Bytes};
use uuid::Uuid;

use super::schema::MAX_ELEMENTS;

/// The bytes are not what the schema says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub(super) struct Malformed {
    /// What was expected or found.
    pub(super) what: &'static str,
    /// Position in the body.
    pub(super) at: usize,
}

type Result<T> = std::result::Result<T, Malformed>;

/// A cursor over a request body.
pub(super) struct Reader<'a> {
    body: &'a Bytes,
    at: usize,
    flexible: bool,
    elements_left: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(body: &'a Bytes, flexible: bool) -> Self {
        Self { body, at: 0, flexible, elements_left: MAX_ELEMENTS }
    }

    fn malformed<T>(&self, what: &'static str) -> Result<T> {
        Err(Malformed { what, at: self.at })
    }

    fn rest(&self) -> &'a [u8] {
        self.body.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let Some(bytes) = self.rest().get(..count) else { return self.malformed("body is cut short") };
        self.at += count;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some(bytes) = self.rest().first_chunk::<N>() else { return self.malformed("body is cut short") };
        self.at += N;
        Ok(*bytes)
    }

    pub(super) fn i8(&mut self) -> Result<i8> {
        self.array().map(i8::from_be_bytes)
    }

    pub(super) fn bool(&mut self) -> Result<bool> {
        Ok(self.i8()? != 0)
    }

    pub(super) fn i16(&mut self) -> Result<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    pub(super) fn uuid(&mut self) -> Result<Uuid> {
        self.array().map(Uuid::from_bytes)
    }

    fn uvarint(&mut self) -> Result<u32> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).or_else(|_| self.malformed("varint is larger than 32 bits"));
            }
        }
        self.malformed("varint is longer than 5 bytes")
    }

    /// A length or count: `None` for null.
    fn length(&mut self, short: bool) -> Result<Option<usize>> {
        if self.flexible {
            return Ok(self.uvarint()?.checked_sub(1).map(|n| n as usize));
        }
        let n = if short { i32::from(self.i16()?) } else { self.i32()? };
        match usize::try_from(n) {
            Ok(n) => Ok(Some(n)),
            Err(_) if n == -1 => Ok(None),
            Err(_) => self.malformed("negative length"),
        }
    }

    /// A nullable string.
    pub(super) fn nullable_string(&mut self) -> Result<Option<&'a str>> {
        let Some(len) = self.length(true)? else { return Ok(None) };
        if len > i16::MAX as usize {
            return self.malformed("string is longer than 32767 bytes");
        }
        match std::str::from_utf8(self.take(len)?) {
            Ok(text) => Ok(Some(text)),
            Err(_) => self.malformed("string is not UTF-8"),
        }
    }

    /// A string that must be there.
    pub(super) fn string(&mut self) -> Result<&'a str> {
        match self.nullable_string()? {
            Some(text) => Ok(text),
            None => self.malformed("null where a string must be"),
        }
    }

    /// The `records` field: a slice of the frame, not a copy.
    pub(super) fn records(&mut self) -> Result<Option<Bytes>> {
        let Some(len) = self.length(false)? else { return Ok(None) };
        let from = self.at;
        self.take(len)?;
        Ok(Some(self.body.slice(from..self.at)))
    }

    /// The count of an array whose elements take at least `element_bytes_min` each; null counts as `None`.
    pub(super) fn nullable_count(&mut self, element_bytes_min: usize) -> Result<Option<usize>> {
        let Some(count) = self.length(false)? else { return Ok(None) };
        if count > self.rest().len() / element_bytes_min.max(1) {
            return self.malformed("array count is larger than the bytes that remain");
        }
        let Some(left) = self.elements_left.checked_sub(count) else {
            return self.malformed("more elements than one request may have");
        };
        self.elements_left = left;
        Ok(Some(count))
    }

    /// The count of an array that must be there.
    pub(super) fn count(&mut self, element_bytes_min: usize) -> Result<usize> {
        match self.nullable_count(element_bytes_min)? {
            Some(count) => Ok(count),
            None => self.malformed("null where an array must be"),
        }
    }

    /// Skips a tagged-field section, if this version has one.
    pub(super) fn tags(&mut self) -> Result<()> {
        if !self.flexible {
            return Ok(());
        }
        let count = self.uvarint()?;
        let mut last = None;
        for _ in 0..count {
            let tag = self.uvarint()?;
            if last.is_some_and(|last| tag <= last) {
                return self.malformed("tags do not ascend");
            }
            last = Some(tag);
            let size = self.uvarint()? as usize;
            self.take(size)?;
        }
        Ok(())
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<()> {
        if self.at == self.body.len() { Ok(()) } else { self.malformed("bytes after the end of the request") }
    }
}

/// Appends primitive types to a response body.
pub(super) struct Writer {
    out: Vec<u8>,
    flexible: bool,
}

impl Writer {
    pub(super) fn new(flexible: bool, capacity: usize) -> Self {
        Self { out: Vec::with_capacity(capacity), flexible }
    }

    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out
    }

    pub(super) fn i8(&mut self, value: i8) {
        self.out.put_i8(value);
    }

    pub(super) fn i16(&mut self, value: i16) {
        self.out.put_i16(value);
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.out.put_i32(value);
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.out.put_i64(value);
    }

    pub(super) fn uuid(&mut self, value: Uuid) {
        self.out.put_slice(value.as_bytes());
    }

    fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.out.put_u8((value & 0x7f) as u8);
    }

    /// An array count.
    pub(super) fn count(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX - 1);
        if self.flexible { self.uvarint(count + 1) } else { self.out.put_u32(count) }
    }

    /// A null array.
    pub(super) fn null_array(&mut self) {
        if self.flexible { self.uvarint(0) } else { self.out.put_i32(-1) }
    }

    /// The length of a `records` field whose bytes follow from elsewhere.
    pub(super) fn records_len(&mut self, len: usize) {
        self.count(len);
    }

    pub(super) fn nullable_string(&mut self, text: Option<&str>) {
        match (text, self.flexible) {
            (Some(text), _) => {
                // Longer texts are ours alone (error messages) and are cut, never sent with a wrong length.
                let bytes = text.as_bytes();
                let bytes = bytes.get(..bytes.len().min(i16::MAX as usize)).unwrap_or_default();
                let len = u16::try_from(bytes.len()).unwrap_or(0);
                if self.flexible {
                    self.uvarint(u32::from(len) + 1)
                } else {
                    self.out.put_u16(len)
                }
                self.out.put_slice(bytes);
            }
            (None, true) => self.uvarint(0),
            (None, false) => self.out.put_i16(-1),
        }
    }

    pub(super) fn string(&mut self, text: &str) {
        self.nullable_string(Some(text));
    }

    /// An empty tagged-field section, if this version has one (law 6: no tag with its default).
    pub(super) fn tags(&mut self) {
        if self.flexible {
            self.out.put_u8(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_writer_writes_the_reader_reads() {
        for flexible in [false, true] {
            let mut w = Writer::new(flexible, 0);
            w.string("abc");
            w.nullable_string(None);
            w.count(200);
            w.i64(-5);
            w.tags();
            let mut body = w.finish();
            body.extend_from_slice(&[0; 300]);
            let body = Bytes::from(body);
            let mut r = Reader::new(&body, flexible);
            assert_eq!(r.string(), Ok("abc"));
            assert_eq!(r.nullable_string(), Ok(None));
            assert_eq!(r.count(1), Ok(200));
            assert_eq!(r.i64(), Ok(-5));
            assert_eq!(r.tags(), Ok(()));
            assert!(r.end().is_err());
        }
    }

    #[test]
    fn a_lying_count_is_refused() {
        let body = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 0]);
        assert!(Reader::new(&body, false).count(1).is_err());
        let body = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]);
        assert!(Reader::new(&body, true).count(1).is_err());
        let body = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        assert!(Reader::new(&body, true).count(1).is_err());
        let body = Bytes::from_static(&[0xff, 0xff, 0xff, 0xfe]);
        assert!(Reader::new(&body, false).nullable_count(1).is_err());
    }
}
