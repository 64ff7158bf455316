//! The walk: a cursor that moves over a body as its schema says and refuses the first lie.
//!
//! Owns: every rule of size (see [`Why`]) and the two budgets of a body, elements and unknown tags.
//! Invariant: it moves exactly as kafka-protocol's decoder will, so a count that passed here is the count
//! that crate allocates for; nothing is allocated, and the recursion is as deep as the schema.
//! Deliberately absent: values. Ranges, names and ids are judged by the API that reads them.
//!
//! Known tags are walked inside their stated size and must fill it: kafka-protocol 0.18 reads them by
//! their type and ignores the size, so skipping by size would let a lying tag move the two apart.

use super::field::{Field, Kind, least_bytes, least_bytes_of};
use super::{MAX_ELEMENTS, MAX_STRING_BYTES, MAX_TAGS, MAX_UNKNOWN_TAGS, Malformed, Why};

/// A cursor over one body or header.
pub(super) struct Walk<'a> {
    rest: &'a [u8],
    /// Bytes of the whole, to tell a position.
    whole: usize,
    version: i16,
    flexible: bool,
    elements_left: usize,
    unknown_tags_left: usize,
}

type Step<T = ()> = Result<T, Malformed>;

impl<'a> Walk<'a> {
    pub(super) fn new(bytes: &'a [u8], version: i16, flexible: bool) -> Self {
        Self {
            rest: bytes,
            whole: bytes.len(),
            version,
            flexible,
            elements_left: MAX_ELEMENTS,
            unknown_tags_left: MAX_UNKNOWN_TAGS,
        }
    }

    /// Bytes walked so far.
    pub(super) fn position(&self) -> usize {
        self.whole - self.rest.len()
    }

    /// Walks the fields of one struct and, in flexible versions, its tagged section.
    pub(super) fn fields(&mut self, fields: &[Field]) -> Step {
        for field in fields {
            if field.in_line(self.version) {
                self.value(field.name, &field.kind, field.nullable(self.version))?;
            }
        }
        if self.flexible { self.tags(fields) } else { Ok(()) }
    }

    /// Ends the walk: nothing may be left.
    pub(super) fn finish(self) -> Step {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed("body", Why::TrailingBytes)) }
    }

    fn value(&mut self, name: &'static str, kind: &Kind, nullable: bool) -> Step {
        match kind {
            Kind::Fixed(bytes) => self.skip(name, *bytes),
            Kind::String => self.string(name, nullable),
            Kind::Bytes => match self.length(name, nullable)? {
                Some(bytes) => self.skip(name, bytes),
                None => Ok(()),
            },
            Kind::Array(element) => self.array(name, element, nullable),
            Kind::List(fields) => self.list(name, fields, nullable),
            Kind::Struct(fields) => {
                if nullable && !self.present(name)? {
                    return Ok(());
                }
                self.fields(fields)
            }
        }
    }

    fn string(&mut self, name: &'static str, nullable: bool) -> Step {
        let length = if self.flexible { self.compact(name)? } else { self.legacy_string(name)? };
        match length {
            Some(bytes) if bytes > MAX_STRING_BYTES => Err(self.malformed(name, Why::LongString)),
            Some(bytes) => {
                let text = std::str::from_utf8(self.take(name, bytes)?);
                text.map(|_| ()).map_err(|_| self.malformed(name, Why::NotUtf8))
            }
            None => self.null(name, nullable),
        }
    }

    fn array(&mut self, name: &'static str, element: &Kind, nullable: bool) -> Step {
        let least = least_bytes_of(element, false, self.version, self.flexible);
        let Some(count) = self.count(name, least, nullable)? else { return Ok(()) };
        if let Kind::Fixed(bytes) = element {
            return self.skip(name, count * bytes);
        }
        for _ in 0..count {
            self.value(name, element, false)?;
        }
        Ok(())
    }

    fn list(&mut self, name: &'static str, fields: &[Field], nullable: bool) -> Step {
        let least = least_bytes(fields, self.version, self.flexible);
        let Some(count) = self.count(name, least, nullable)? else { return Ok(()) };
        for _ in 0..count {
            self.fields(fields)?;
        }
        Ok(())
    }

    /// Reads an element count that the bytes left can hold and the budget of the body allows.
    fn count(&mut self, name: &'static str, least: usize, nullable: bool) -> Step<Option<usize>> {
        let Some(count) = self.length(name, nullable)? else { return Ok(None) };
        if count.saturating_mul(least.max(1)) > self.rest.len() {
            return Err(self.malformed(name, Why::CountBeyondBytes));
        }
        let Some(left) = self.elements_left.checked_sub(count) else {
            return Err(self.malformed(name, Why::TooManyElements));
        };
        self.elements_left = left;
        Ok(Some(count))
    }

    /// Reads the tagged section that closes a struct (KIP-482).
    pub(super) fn tags(&mut self, fields: &[Field]) -> Step {
        let count = self.uvarint("tagged fields")?;
        if count == 0 {
            return Ok(());
        }
        if count > MAX_TAGS {
            return Err(self.malformed("tagged fields", Why::TooManyTags));
        }
        let mut previous = None;
        for _ in 0..count {
            let tag = self.uvarint("tag")?;
            if previous.is_some_and(|previous| tag <= previous) {
                return Err(self.malformed("tag", Why::TagOrder));
            }
            previous = Some(tag);
            self.tagged(fields, tag)?;
        }
        Ok(())
    }

    fn tagged(&mut self, fields: &[Field], tag: u32) -> Step {
        let size = self.size("tag size")?;
        let known = fields.iter().find(|field| field.tag == Some(tag) && field.exists(self.version));
        let Some(field) = known else {
            let left = self.unknown_tags_left.checked_sub(1);
            self.unknown_tags_left = left.ok_or_else(|| self.malformed("tagged fields", Why::TooManyTags))?;
            return self.skip("tag", size);
        };
        let Some(after) = self.rest.len().checked_sub(size) else {
            return Err(self.malformed(field.name, Why::CutShort));
        };
        self.value(field.name, &field.kind, field.nullable(self.version))?;
        if self.rest.len() == after { Ok(()) } else { Err(self.malformed(field.name, Why::TagSize)) }
    }

    /// Reads the length of bytes or the count of an array; `None` is null.
    fn length(&mut self, name: &'static str, nullable: bool) -> Step<Option<usize>> {
        let length = if self.flexible { self.compact(name)? } else { self.legacy(name)? };
        if length.is_none() {
            self.null(name, nullable)?;
        }
        Ok(length)
    }

    /// A compact length: unsigned varint of length plus one, 0 for null.
    fn compact(&mut self, name: &'static str) -> Step<Option<usize>> {
        Ok(self.size(name)?.checked_sub(1))
    }

    fn legacy(&mut self, name: &'static str) -> Step<Option<usize>> {
        match i32::from_be_bytes(self.fixed(name)?) {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| self.malformed(name, Why::Negative)),
        }
    }

    pub(super) fn legacy_string(&mut self, name: &'static str) -> Step<Option<usize>> {
        match i16::from_be_bytes(self.fixed(name)?) {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| self.malformed(name, Why::Negative)),
        }
    }

    /// Reads the byte in front of a nullable struct: 1 present, -1 null, the two that Kafka writes.
    fn present(&mut self, name: &'static str) -> Step<bool> {
        match i8::from_be_bytes(self.fixed(name)?) {
            1 => Ok(true),
            -1 => Ok(false),
            _ => Err(self.malformed(name, Why::Negative)),
        }
    }

    fn null(&self, name: &'static str, nullable: bool) -> Step {
        if nullable { Ok(()) } else { Err(self.malformed(name, Why::Null)) }
    }

    fn size(&mut self, name: &'static str) -> Step<usize> {
        usize::try_from(self.uvarint(name)?).map_err(|_| self.malformed(name, Why::CutShort))
    }

    /// Reads an unsigned varint of at most five bytes whose value fits 32 bits.
    fn uvarint(&mut self, name: &'static str) -> Step<u32> {
        if let Some((&byte, rest)) = self.rest.split_first()
            && byte < 0x80
        {
            self.rest = rest;
            return Ok(u32::from(byte));
        }
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed(name)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| self.malformed(name, Why::Varint));
            }
        }
        Err(self.malformed(name, Why::Varint))
    }

    pub(super) fn fixed<const N: usize>(&mut self, name: &'static str) -> Step<[u8; N]> {
        let Some((bytes, rest)) = self.rest.split_first_chunk() else {
            return Err(self.malformed(name, Why::CutShort));
        };
        self.rest = rest;
        Ok(*bytes)
    }

    pub(super) fn take(&mut self, name: &'static str, bytes: usize) -> Step<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(bytes) else {
            return Err(self.malformed(name, Why::CutShort));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn skip(&mut self, name: &'static str, bytes: usize) -> Step {
        self.take(name, bytes).map(|_| ())
    }

    #[cold]
    pub(super) fn malformed(&self, field: &'static str, why: Why) -> Malformed {
        Malformed { field, at: self.position(), why }
    }
}
