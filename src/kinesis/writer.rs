//! Writes an answer, as JSON 1.1 or as CBOR, straight into its bytes: no tree is built.
//!
//! A large answer comes in pieces, so that what its client has taken is free before the rest is.
//! Times: fractional seconds in JSON, tag 1 with integer milliseconds in CBOR (see `cbor.rs`). Maps and lists
//! of CBOR have indefinite lengths, as the service's own have.

use std::io::Write as _;

/// How a body is written. The client's request says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Cbor,
}

impl Form {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/x-amz-json-1.1",
            Self::Cbor => "application/x-amz-cbor-1.1",
        }
    }
}

/// How large a piece is.
const PIECE_BYTES: usize = 64 * 1024;
/// What may stand behind its end, so that it need not grow: the rest of a record, with a usual key.
const SLACK_BYTES: usize = 1024;

/// An answer that grows.
#[derive(Debug)]
pub(super) struct Writer {
    /// Pieces that are full.
    pieces: Vec<Vec<u8>>,
    bytes: Vec<u8>,
    /// From how many bytes on a piece is full.
    full: usize,
    form: Form,
    /// Nothing was written yet in the innermost map or list.
    fresh: bool,
}

impl Writer {
    pub(super) fn new(form: Form) -> Self {
        Self { pieces: Vec::new(), bytes: Vec::new(), full: usize::MAX, form, fresh: true }
    }

    /// A whole map in pieces.
    pub(super) fn pieces(form: Form, fill: impl FnOnce(&mut Self)) -> Vec<Vec<u8>> {
        let mut writer = Self { full: PIECE_BYTES, ..Self::new(form) };
        writer.nest(b'{', b'}', 0xbf, fill);
        writer.turn_over(0);
        writer.pieces
    }

    /// A whole map, as every answer is one.
    pub(super) fn object(form: Form, fill: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut writer = Self::new(form);
        writer.nest(b'{', b'}', 0xbf, fill);
        writer.bytes
    }

    pub(super) fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    // --- fields of a map

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        self.string(value);
    }

    pub(super) fn optional(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    pub(super) fn integer(&mut self, key: &str, value: i64) {
        self.key(key);
        match self.form {
            Form::Json => self.print(format_args!("{value}")),
            Form::Cbor => self.cbor_integer(value),
        }
    }

    pub(super) fn boolean(&mut self, key: &str, value: bool) {
        self.key(key);
        match (self.form, value) {
            (Form::Json, true) => self.bytes.extend_from_slice(b"true"),
            (Form::Json, false) => self.bytes.extend_from_slice(b"false"),
            (Form::Cbor, value) => self.bytes.push(0xf4 + u8::from(value)),
        }
    }

    pub(super) fn time_ms(&mut self, key: &str, ms: i64) {
        self.key(key);
        match self.form {
            Form::Json => {
                let sign = if ms < 0 { "-" } else { "" };
                let ms = ms.unsigned_abs();
                self.print(format_args!("{sign}{}.{:03}", ms / 1000, ms % 1000));
            }
            Form::Cbor => {
                self.bytes.push(0xc1);
                self.cbor_integer(ms);
            }
        }
    }

    pub(super) fn blob(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        match self.form {
            Form::Json => {
                self.bytes.push(b'"');
                self.pour(value, (3, 4), |part, out| base64_simd::STANDARD.encode_append(part, out));
                self.bytes.push(b'"');
            }
            Form::Cbor => {
                self.cbor_head(2, value.len() as u64);
                self.pour(value, (1, 1), |part, out| out.extend_from_slice(part));
            }
        }
    }

    /// Writes a value piece by piece, each to its end; so many bytes of it become so many.
    fn pour(&mut self, mut value: &[u8], (of, to): (usize, usize), put: impl Fn(&[u8], &mut Vec<u8>)) {
        while !value.is_empty() {
            let room = self.full.saturating_sub(self.bytes.len()) / to * of;
            if room == 0 {
                self.turn_over(PIECE_BYTES + SLACK_BYTES);
                continue;
            }
            let (part, rest) = value.split_at(room.min(value.len()));
            if !rest.is_empty() {
                self.bytes.reserve_exact(PIECE_BYTES + SLACK_BYTES - self.bytes.len());
            }
            put(part, &mut self.bytes);
            value = rest;
        }
    }

    /// Ends the present piece; the next one begins with room for so many bytes.
    fn turn_over(&mut self, room: usize) {
        let mut piece = std::mem::replace(&mut self.bytes, Vec::with_capacity(room));
        if piece.capacity() - piece.len() > SLACK_BYTES {
            piece.shrink_to_fit();
        }
        self.pieces.push(piece);
    }

    pub(super) fn map(&mut self, key: &str, fill: impl FnOnce(&mut Self)) {
        self.key(key);
        self.nest(b'{', b'}', 0xbf, fill);
    }

    pub(super) fn list(&mut self, key: &str, fill: impl FnOnce(&mut Self)) {
        self.key(key);
        self.nest(b'[', b']', 0x9f, fill);
    }

    /// A list of texts.
    pub(super) fn texts<'a>(&mut self, key: &str, values: impl IntoIterator<Item = &'a str>) {
        self.list(key, |list| {
            for value in values {
                list.separate();
                list.string(value);
            }
        });
    }

    // --- elements of a list

    pub(super) fn item(&mut self, fill: impl FnOnce(&mut Self)) {
        if self.bytes.len() >= self.full {
            self.turn_over(PIECE_BYTES + SLACK_BYTES);
        }
        self.separate();
        self.nest(b'{', b'}', 0xbf, fill);
    }

    // --- below

    fn nest(&mut self, open: u8, close: u8, cbor_open: u8, fill: impl FnOnce(&mut Self)) {
        let (open, close) = if self.form == Form::Json { (open, close) } else { (cbor_open, 0xff) };
        self.bytes.push(open);
        self.fresh = true;
        fill(self);
        self.bytes.push(close);
        self.fresh = false;
    }

    fn separate(&mut self) {
        if self.form == Form::Json && !self.fresh {
            self.bytes.push(b',');
        }
        self.fresh = false;
    }

    fn key(&mut self, key: &str) {
        self.separate();
        self.string(key);
        if self.form == Form::Json {
            self.bytes.push(b':');
        }
    }

    fn string(&mut self, text: &str) {
        match self.form {
            Form::Json => self.json_string(text),
            Form::Cbor => {
                self.cbor_head(3, text.len() as u64);
                self.bytes.extend_from_slice(text.as_bytes());
            }
        }
    }

    fn json_string(&mut self, text: &str) {
        self.bytes.push(b'"');
        if text.bytes().any(|b| b < 0x20 || b == b'"' || b == b'\\') {
            for byte in text.bytes() {
                match byte {
                    b'"' | b'\\' => self.bytes.extend_from_slice(&[b'\\', byte]),
                    0..=0x1f => self.print(format_args!("\\u{byte:04x}")),
                    _ => self.bytes.push(byte),
                }
            }
        } else {
            self.bytes.extend_from_slice(text.as_bytes());
        }
        self.bytes.push(b'"');
    }

    fn print(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a vector does not fail.
        let _ = self.bytes.write_fmt(text);
    }

    fn cbor_integer(&mut self, value: i64) {
        match u64::try_from(value) {
            Ok(value) => self.cbor_head(0, value),
            Err(_) => self.cbor_head(1, value.unsigned_abs() - 1),
        }
    }

    fn cbor_head(&mut self, major: u8, argument: u64) {
        let major = major << 5;
        match (u8::try_from(argument), u16::try_from(argument), u32::try_from(argument)) {
            (Ok(small), ..) if small < 24 => self.bytes.push(major | small),
            (Ok(value), ..) => self.bytes.extend_from_slice(&[major | 0x18, value]),
            (_, Ok(value), _) => {
                self.bytes.push(major | 0x19);
                self.bytes.extend_from_slice(&value.to_be_bytes());
            }
            (_, _, Ok(value)) => {
                self.bytes.push(major | 0x1a);
                self.bytes.extend_from_slice(&value.to_be_bytes());
            }
            _ => {
                self.bytes.push(major | 0x1b);
                self.bytes.extend_from_slice(&argument.to_be_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(w: &mut Writer) {
        w.text("t", "a\"\\\n\u{e9}");
        w.integer("i", -1234);
        w.boolean("b", true);
        w.time_ms("at", 1_700_000_000_007);
        w.blob("d", b"hello");
        w.map("m", |_| {});
        w.list("l", |l| {
            l.item(|i| i.integer("n", 70_000));
            l.item(|i| i.integer("n", 3));
        });
        w.texts("s", ["x", "y"]);
        w.optional("none", None);
    }

    #[test]
    fn json_reads_as_it_should() {
        let text = String::from_utf8(Writer::object(Form::Json, fill)).unwrap();
        assert_eq!(
            text,
            r#"{"t":"a\"\\\u000aé","i":-1234,"b":true,"at":1700000000.007,"d":"aGVsbG8=","m":{},"l":[{"n":70000},{"n":3}],"s":["x","y"]}"#
        );
    }

    #[test]
    fn pieces_are_the_same_bytes_and_none_is_much_larger_than_another() {
        let data: Vec<u8> = (0..1_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
        for form in [Form::Json, Form::Cbor] {
            let fill = |w: &mut Writer| {
                w.list("l", |l| {
                    for size in [0, 1, 100, 30_000, 300_000, 1_000_000] {
                        l.item(|i| i.blob("d", &data[..size]));
                    }
                });
            };
            let pieces = Writer::pieces(form, fill);
            assert!(pieces.len() > 20);
            assert!(pieces.iter().all(|piece| piece.capacity() <= PIECE_BYTES + SLACK_BYTES), "{form:?}");
            let room: usize = pieces.iter().map(Vec::capacity).sum();
            assert!(room < pieces.concat().len() + 2 * PIECE_BYTES, "{form:?}: {room}");
            assert_eq!(pieces.concat(), Writer::object(form, fill));
        }
    }

    #[test]
    fn both_forms_read_back() {
        for form in [Form::Json, Form::Cbor] {
            let bytes = Writer::object(form, fill);
            let document = match form {
                Form::Json => super::super::json::parse(&bytes),
                Form::Cbor => super::super::cbor::parse(&bytes),
            }
            .unwrap();
            let root = document.root();
            assert_eq!(root.text("t"), Some("a\"\\\n\u{e9}"));
            assert_eq!(root.integer("i"), Some(-1234));
            assert!(root.bool("b"));
            assert_eq!(root.time_ms("at"), Some(1_700_000_000_007));
            assert_eq!(
                root.field("l").unwrap().items().map(|i| i.integer("n")).collect::<Vec<_>>(),
                [Some(70_000), Some(3)]
            );
            assert_eq!(root.texts("s").collect::<Vec<_>>(), ["x", "y"]);
        }
    }
}
