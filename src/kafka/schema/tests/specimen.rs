//! Requests made from the table itself: honest bodies with every length noted, to be told lies in.
//!
//! Invariant: the writer shares the table with the walk, but none of its reading; what it writes for a
//! version that kafka-protocol knows, that crate must read and write back byte for byte.
//! Deliberately absent: proptest: a seed and a xorshift give the same bodies on every run.

use crate::kafka::schema::field::{Api, Field, Kind};

/// How a length is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    Int16,
    Int32,
    Compact,
}

/// A length or count inside a body.
#[derive(Debug, Clone, Copy)]
pub struct Length {
    pub at: usize,
    pub bytes: usize,
    pub width: Width,
    pub nullable: bool,
}

/// How full a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// Empty arrays and strings, no tags.
    Least,
    /// One to three elements, some nulls, known tags.
    Full,
    /// Full, and tags that no schema knows.
    Foreign,
}

pub struct Specimen {
    pub body: Vec<u8>,
    pub lengths: Vec<Length>,
}

/// One body of that version.
pub fn specimen(api: &Api, version: i16, fill: Fill, seed: u64) -> Specimen {
    let mut writer = Writer {
        out: Specimen { body: Vec::new(), lengths: Vec::new() },
        version,
        flexible: version >= api.flexible,
        fill,
        dice: Dice::new(seed),
    };
    writer.fields(api.fields);
    writer.out
}

/// xorshift64*: enough chance for tests, the same on every run.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound.max(1) as u64) as usize
    }
}

struct Writer {
    out: Specimen,
    version: i16,
    flexible: bool,
    fill: Fill,
    dice: Dice,
}

impl Writer {
    fn fields(&mut self, fields: &[Field]) {
        let version = self.version;
        for field in fields.iter().filter(|field| field.in_line(version)) {
            let null = field.nullable(version) && self.fill != Fill::Least && self.dice.below(4) == 0;
            self.value(&field.kind, field.nullable(version), null);
        }
        if self.flexible {
            self.tags(fields);
        }
    }

    fn value(&mut self, kind: &Kind, nullable: bool, null: bool) {
        match kind {
            Kind::Fixed(1) => self.out.body.push(u8::from(self.dice.below(2) == 0)),
            Kind::Fixed(bytes) => {
                for _ in 0..*bytes {
                    let byte = 1 + self.dice.below(120) as u8;
                    self.out.body.push(byte);
                }
            }
            Kind::Struct(_) if null => self.out.body.push(0xff),
            Kind::Struct(fields) => {
                if nullable {
                    self.out.body.push(1);
                }
                self.fields(fields);
            }
            Kind::String => self.blob(Width::Int16, nullable, null),
            Kind::Bytes => self.blob(Width::Int32, nullable, null),
            Kind::Array(element) => {
                self.elements(nullable, null, |writer| writer.value(element, false, false));
            }
            Kind::List(fields) => self.elements(nullable, null, |writer| writer.fields(fields)),
        }
    }

    fn blob(&mut self, legacy: Width, nullable: bool, null: bool) {
        let text =
            if self.fill == Fill::Least { "" } else { ["weir", "é", "orders-7", ""][self.dice.below(4)] };
        self.length(legacy, (!null).then_some(text.len()), nullable);
        if !null {
            self.out.body.extend_from_slice(text.as_bytes());
        }
    }

    fn elements(&mut self, nullable: bool, null: bool, element: impl Fn(&mut Self)) {
        let count = if self.fill == Fill::Least { 0 } else { 1 + self.dice.below(3) };
        self.length(Width::Int32, (!null).then_some(count), nullable);
        for _ in 0..if null { 0 } else { count } {
            element(self);
        }
    }

    fn length(&mut self, legacy: Width, length: Option<usize>, nullable: bool) {
        let width = if self.flexible { Width::Compact } else { legacy };
        let at = self.out.body.len();
        match width {
            Width::Int16 => self.out.body.extend_from_slice(&length.map_or(-1, |n| n as i16).to_be_bytes()),
            Width::Int32 => self.out.body.extend_from_slice(&length.map_or(-1, |n| n as i32).to_be_bytes()),
            Width::Compact => self.out.body.extend(varint(length.map_or(0, |n| n as u64 + 1))),
        }
        let bytes = self.out.body.len() - at;
        self.out.lengths.push(Length { at, bytes, width, nullable });
    }

    /// The tagged section. Lengths inside it are not noted: a lie there also breaks the tag's size.
    fn tags(&mut self, fields: &[Field]) {
        let known = fields.iter().filter(|field| field.tag.is_some() && field.exists(self.version));
        let known: Vec<&Field> = if self.fill == Fill::Least { Vec::new() } else { known.collect() };
        let foreign = if self.fill == Fill::Foreign { self.dice.below(3) } else { 0 };
        self.out.body.extend(varint((known.len() + foreign) as u64));
        for field in known {
            self.tag(field);
        }
        for i in 0..foreign {
            self.out.body.extend(varint(100 + i as u64 * 7));
            self.out.body.extend([2, 0xde, 0xad]);
        }
    }

    fn tag(&mut self, field: &Field) {
        let (start, noted) = (self.out.body.len(), self.out.lengths.len());
        self.value(&field.kind, false, false);
        let value = self.out.body.split_off(start);
        self.out.lengths.truncate(noted);
        self.out.body.extend(varint(u64::from(field.tag.expect("a tagged field has a tag"))));
        self.out.body.extend(varint(value.len() as u64));
        self.out.body.extend(value);
    }
}

/// Unsigned varint, of any length.
pub fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}
