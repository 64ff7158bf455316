//! Reading and writing the primitive types of the Kafka protocol, classic and flexible.
//!
//! Invariant: a [`Reader`] never looks past its bytes and never allocates; a short or lying answer is
//! [`Error::Protocol`]. Deliberately absent: messages (`apis.rs`), sockets (`conn.rs`), tagged fields
//! with a value (this client sends none and skips all).
//! Source of the encodings: <https://kafka.apache.org/protocol#protocol_types>, KIP-482.

use super::Error;

/// Writes one request; `flexible` chooses compact lengths and tag sections.
pub(super) struct Writer {
    bytes: Vec<u8>,
    flexible: bool,
}

impl Writer {
    /// A request frame up to its body: room for the length, then header v1 or, if `flexible`, v2.
    pub(super) fn request(key: i16, version: i16, flexible: bool) -> Self {
        let mut writer = Self { bytes: vec![0; 4], flexible };
        writer.i16(key);
        writer.i16(version);
        writer.i32(0);
        writer.i16(4);
        writer.bytes.extend_from_slice(b"weir");
        writer.tags();
        writer
    }

    /// A bare value of the classic encoding, for what nests in a bytes field.
    pub(super) fn bare() -> Self {
        Self { bytes: Vec::new(), flexible: false }
    }

    pub(super) fn i8(&mut self, value: i8) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn i16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn string(&mut self, value: &str) {
        if self.flexible {
            self.unsigned(value.len() + 1);
        } else {
            self.i16(i16::try_from(value.len()).unwrap_or(i16::MAX));
        }
        self.bytes.extend_from_slice(value.as_bytes());
    }

    pub(super) fn null_string(&mut self) {
        if self.flexible { self.unsigned(0) } else { self.i16(-1) }
    }

    /// The count of an array whose elements follow.
    pub(super) fn array(&mut self, count: usize) {
        if self.flexible {
            self.unsigned(count + 1);
        } else {
            self.i32(i32::try_from(count).unwrap_or(i32::MAX));
        }
    }

    pub(super) fn null_array(&mut self) {
        if self.flexible { self.unsigned(0) } else { self.i32(-1) }
    }

    /// A bytes or records field.
    pub(super) fn blob(&mut self, value: &[u8]) {
        self.array(value.len());
        self.bytes.extend_from_slice(value);
    }

    /// The empty tag section that closes every flexible structure.
    pub(super) fn tags(&mut self) {
        if self.flexible {
            self.bytes.push(0);
        }
    }

    /// How many bytes have been written, the length field included.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The frame, its length filled in.
    pub(super) fn frame(mut self) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len().saturating_sub(4)).unwrap_or(u32::MAX);
        if let Some(field) = self.bytes.first_chunk_mut::<4>() {
            *field = length.to_be_bytes();
        }
        self.bytes
    }

    /// The bytes of a bare value.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn unsigned(&mut self, value: usize) {
        let mut rest = value;
        while rest >= 0x80 {
            #[allow(clippy::cast_possible_truncation, reason = "masked to seven bits")]
            self.bytes.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        #[allow(clippy::cast_possible_truncation, reason = "below 0x80 here")]
        self.bytes.push(rest as u8);
    }
}

/// Reads one response.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    flexible: bool,
}

impl<'a> Reader<'a> {
    /// Over the bytes after a response's correlation id; skips the header's tags if `flexible`.
    pub(super) fn new(bytes: &'a [u8], flexible: bool) -> Result<Self, Error> {
        let mut reader = Self { rest: bytes, flexible };
        reader.tags()?;
        Ok(reader)
    }

    /// Over the body of ApiVersions, whose response header never has tags (KIP-511).
    pub(super) fn headless(bytes: &'a [u8], flexible: bool) -> Self {
        Self { rest: bytes, flexible }
    }

    pub(super) fn i8(&mut self) -> Result<i8, Error> {
        Ok(i8::from_be_bytes(self.chunk()?))
    }

    pub(super) fn i16(&mut self) -> Result<i16, Error> {
        Ok(i16::from_be_bytes(self.chunk()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, Error> {
        Ok(i32::from_be_bytes(self.chunk()?))
    }

    pub(super) fn i64(&mut self) -> Result<i64, Error> {
        Ok(i64::from_be_bytes(self.chunk()?))
    }

    pub(super) fn skip(&mut self, count: usize) -> Result<(), Error> {
        self.take(count).map(|_| ())
    }

    /// A string or null; null reads as empty, which no caller needs to tell apart.
    pub(super) fn string(&mut self) -> Result<&'a str, Error> {
        let length = if self.flexible { self.compact()? } else { usize::try_from(self.i16()?).unwrap_or(0) };
        std::str::from_utf8(self.take(length)?).map_err(|_| Error::Protocol("a string is not UTF-8".into()))
    }

    /// The count of an array; null reads as 0.
    pub(super) fn array(&mut self) -> Result<usize, Error> {
        if self.flexible { self.compact() } else { Ok(usize::try_from(self.i32()?).unwrap_or(0)) }
    }

    /// A bytes or records field; null reads as empty.
    pub(super) fn blob(&mut self) -> Result<&'a [u8], Error> {
        let length = self.array()?;
        self.take(length)
    }

    /// Skips the tag section that closes every flexible structure.
    pub(super) fn tags(&mut self) -> Result<(), Error> {
        if self.flexible {
            for _ in 0..self.unsigned()? {
                self.unsigned()?;
                let size = self.unsigned()?;
                self.skip(size)?;
            }
        }
        Ok(())
    }

    fn compact(&mut self) -> Result<usize, Error> {
        Ok(self.unsigned()?.saturating_sub(1))
    }

    fn unsigned(&mut self) -> Result<usize, Error> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.chunk::<1>()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::Protocol("a varint has more than five bytes".into()))
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (chunk, rest) = self.rest.split_first_chunk().ok_or_else(short)?;
        self.rest = rest;
        Ok(*chunk)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(short)?;
        self.rest = rest;
        Ok(taken)
    }
}

fn short() -> Error {
    Error::Protocol("an answer ends early".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(flexible: bool) {
        let long = "x".repeat(300);
        let mut writer = Writer { bytes: Vec::new(), flexible };
        writer.tags();
        writer.i8(-1);
        writer.i16(-2);
        writer.i32(-3);
        writer.i64(-4);
        writer.string(&long);
        writer.null_string();
        writer.array(200);
        writer.blob(b"blob");
        writer.tags();
        let bytes = writer.into_bytes();
        let mut reader = Reader::new(&bytes, flexible).unwrap();
        assert_eq!(reader.i8().unwrap(), -1);
        assert_eq!(reader.i16().unwrap(), -2);
        assert_eq!(reader.i32().unwrap(), -3);
        assert_eq!(reader.i64().unwrap(), -4);
        assert_eq!(reader.string().unwrap(), long);
        assert_eq!(reader.string().unwrap(), "");
        assert_eq!(reader.array().unwrap(), 200);
        assert_eq!(reader.blob().unwrap(), b"blob");
        reader.tags().unwrap();
        assert!(reader.rest.is_empty());
    }

    #[test]
    fn what_is_written_classic_reads_back() {
        round_trip(false);
    }

    #[test]
    fn what_is_written_flexible_reads_back() {
        round_trip(true);
    }

    #[test]
    fn a_short_answer_is_an_error_at_every_length() {
        let mut writer = Writer::bare();
        writer.i32(7);
        writer.string("topic");
        let bytes = writer.into_bytes();
        for cut in 0..bytes.len() {
            let mut reader = Reader::headless(&bytes[..cut], false);
            assert!(reader.i32().and_then(|_| reader.string()).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_frame_starts_with_its_length_and_a_version_2_header() {
        let frame = Writer::request(18, 3, true).frame();
        assert_eq!(frame, [0, 0, 0, 15, 0, 18, 0, 3, 0, 0, 0, 0, 0, 4, b'w', b'e', b'i', b'r', 0]);
    }
}
