//! The vocabulary of a schema: what a field is, in which versions it exists, whether it may be null.
//!
//! Owns: [`Api`], [`Field`], [`Kind`] and the builders that make the table read like a schema.
//! Invariant: every value is a constant; nothing here looks at bytes.
//! Deliberately absent: defaults, docs of fields, ignorable marks: a walker needs sizes only.

use std::ops::RangeInclusive;

/// No such version: the API has no flexible version, the field no end, or is never null.
pub(super) const NEVER: i16 = i16::MAX;

/// Request schema of one API.
pub(super) struct Api {
    pub key: i16,
    pub name: &'static str,
    /// Versions whose bodies the fields describe.
    pub versions: RangeInclusive<i16>,
    /// First flexible version (compact lengths, tagged fields, request header v2; KIP-482).
    pub flexible: i16,
    pub fields: &'static [Field],
}

/// One field, in wire order among its siblings.
pub(super) struct Field {
    pub name: &'static str,
    pub kind: Kind,
    /// First version that has it.
    pub since: i16,
    /// Last version that has it.
    pub until: i16,
    /// First version in which it may be null.
    pub null_from: i16,
    /// Its tag, if it lives in the tagged section instead of in line.
    pub tag: Option<u32>,
}

/// What the bytes of a field look like.
pub(super) enum Kind {
    /// That many bytes, any value.
    Fixed(usize),
    /// Length and UTF-8, at most 32,767 bytes.
    String,
    /// Length and opaque bytes: `bytes` and `records`.
    Bytes,
    /// Count and plain values.
    Array(&'static Kind),
    /// Count and structs.
    List(&'static [Field]),
    /// Fields in order; in flexible versions a tagged section closes them.
    Struct(&'static [Field]),
}

pub(super) const INT8: Kind = Kind::Fixed(1);
pub(super) const INT32: Kind = Kind::Fixed(4);
pub(super) const INT64: Kind = Kind::Fixed(8);
pub(super) const STRING: Kind = Kind::String;

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, since: 0, until: NEVER, null_from: NEVER, tag: None }
}

pub(super) const fn boolean(name: &'static str) -> Field {
    field(name, Kind::Fixed(1))
}

pub(super) const fn int8(name: &'static str) -> Field {
    field(name, Kind::Fixed(1))
}

pub(super) const fn int16(name: &'static str) -> Field {
    field(name, Kind::Fixed(2))
}

pub(super) const fn int32(name: &'static str) -> Field {
    field(name, Kind::Fixed(4))
}

pub(super) const fn int64(name: &'static str) -> Field {
    field(name, Kind::Fixed(8))
}

pub(super) const fn float64(name: &'static str) -> Field {
    field(name, Kind::Fixed(8))
}

pub(super) const fn uuid(name: &'static str) -> Field {
    field(name, Kind::Fixed(16))
}

pub(super) const fn string(name: &'static str) -> Field {
    field(name, Kind::String)
}

pub(super) const fn bytes(name: &'static str) -> Field {
    field(name, Kind::Bytes)
}

/// Record batches: to the walker a blob, to the `batch` room the payload.
pub(super) const fn records(name: &'static str) -> Field {
    field(name, Kind::Bytes)
}

/// An array of plain values.
pub(super) const fn array(name: &'static str, element: &'static Kind) -> Field {
    field(name, Kind::Array(element))
}

/// An array of structs.
pub(super) const fn list(name: &'static str, fields: &'static [Field]) -> Field {
    field(name, Kind::List(fields))
}

/// One struct in line.
pub(super) const fn object(name: &'static str, fields: &'static [Field]) -> Field {
    field(name, Kind::Struct(fields))
}

impl Field {
    pub(super) const fn since(self, version: i16) -> Self {
        Self { since: version, ..self }
    }

    pub(super) const fn until(self, version: i16) -> Self {
        Self { until: version, ..self }
    }

    pub(super) const fn null_from(self, version: i16) -> Self {
        Self { null_from: version, ..self }
    }

    pub(super) const fn tag(self, tag: u32) -> Self {
        Self { tag: Some(tag), ..self }
    }

    /// Whether the field stands in line in this version.
    pub(super) fn in_line(&self, version: i16) -> bool {
        self.tag.is_none() && self.exists(version)
    }

    pub(super) fn exists(&self, version: i16) -> bool {
        self.since <= version && version <= self.until
    }

    pub(super) fn nullable(&self, version: i16) -> bool {
        version >= self.null_from
    }
}

/// Fewest bytes that fields of one struct can take in line, its empty tagged section included.
///
/// An array count above `remaining / least_bytes` is a lie, whatever follows.
pub(super) fn least_bytes(fields: &[Field], version: i16, flexible: bool) -> usize {
    let in_line = fields.iter().filter(|field| field.in_line(version));
    let own: usize =
        in_line.map(|field| least_bytes_of(&field.kind, field.nullable(version), version, flexible)).sum();
    own + usize::from(flexible)
}

/// Fewest bytes that one value can take.
pub(super) fn least_bytes_of(kind: &Kind, nullable: bool, version: i16, flexible: bool) -> usize {
    match kind {
        Kind::Fixed(bytes) => *bytes,
        Kind::Struct(_) if nullable => 1,
        Kind::Struct(fields) => least_bytes(fields, version, flexible),
        _ if flexible => 1,
        Kind::String => 2,
        Kind::Bytes | Kind::Array(_) | Kind::List(_) => 4,
    }
}
