//! Reads a JSON body into a [`Document`].
//!
//! Strict where readers differ (RFC 8259): a key twice, a lone surrogate, a number that no double holds, a
//! control character in a string are refused. Strings without escapes are borrowed.

use std::borrow::Cow;

use memchr::memchr2;

use super::document::{DEPTH_MAX, Document, Malformed, Node, Result};

/// Parses a whole body.
pub(super) fn parse(body: &[u8]) -> Result<Document<'_>> {
    let text = std::str::from_utf8(body).map_err(|_| Malformed("not UTF-8"))?;
    let mut parser = Parser { text, at: 0, document: Document::new() };
    parser.value(0)?;
    parser.skip_blank();
    if parser.at < text.len() {
        return Err(Malformed("bytes behind the value"));
    }
    Ok(parser.document)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    document: Document<'a>,
}

impl<'a> Parser<'a> {
    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.bytes().first().copied()
    }

    fn skip_blank(&mut self) {
        let blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n');
        self.at += self.bytes().iter().take_while(|b| blank(b)).count();
    }

    /// Takes `byte` if it comes next, blanks aside.
    fn took(&mut self, byte: u8) -> bool {
        self.skip_blank();
        let here = self.peek() == Some(byte);
        self.at += usize::from(here);
        here
    }

    fn value(&mut self, depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(Malformed("nested too deeply"));
        }
        self.skip_blank();
        match self.peek() {
            Some(b'{') => self.map(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => {
                let text = self.string()?;
                self.document.push(Node::Text(text))
            }
            Some(b't') => self.word("true", Node::Bool(true)),
            Some(b'f') => self.word("false", Node::Bool(false)),
            Some(b'n') => self.word("null", Node::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(Malformed("no value where one was expected")),
        }
    }

    fn map(&mut self, depth: usize) -> Result<()> {
        self.at += 1;
        let place = self.document.open(Node::Map { end: 0 })?;
        if !self.took(b'}') {
            loop {
                self.skip_blank();
                if self.peek() != Some(b'"') {
                    return Err(Malformed("no key where one was expected"));
                }
                let key = self.string()?;
                self.document.key(place, key)?;
                if !self.took(b':') {
                    return Err(Malformed("no colon after a key"));
                }
                self.value(depth + 1)?;
                if !self.took(b',') {
                    break;
                }
            }
            if !self.took(b'}') {
                return Err(Malformed("a map that does not end"));
            }
        }
        self.document.close(place);
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<()> {
        self.at += 1;
        let place = self.document.open(Node::List { end: 0 })?;
        if !self.took(b']') {
            loop {
                self.value(depth + 1)?;
                if !self.took(b',') {
                    break;
                }
            }
            if !self.took(b']') {
                return Err(Malformed("a list that does not end"));
            }
        }
        self.document.close(place);
        Ok(())
    }

    fn word(&mut self, word: &str, node: Node<'a>) -> Result<()> {
        if !self.bytes().starts_with(word.as_bytes()) {
            return Err(Malformed("no value where one was expected"));
        }
        self.at += word.len();
        self.document.push(node)
    }

    /// -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?
    fn number(&mut self) -> Result<()> {
        const BAD: Malformed = Malformed("not a number");
        let from = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        let whole_from = self.at;
        let whole = self.digits();
        if whole == 0 || (whole > 1 && self.text.as_bytes().get(whole_from) == Some(&b'0')) {
            return Err(BAD);
        }
        let mut real = false;
        if self.peek() == Some(b'.') {
            (self.at, real) = (self.at + 1, true);
            if self.digits() == 0 {
                return Err(BAD);
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            (self.at, real) = (self.at + 1, true);
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            if self.digits() == 0 {
                return Err(BAD);
            }
        }
        let text = self.text.get(from..self.at).ok_or(BAD)?;
        let integer = (!real).then(|| text.parse().ok()).flatten();
        let node = match integer {
            Some(value) => Node::Integer(value),
            None => Node::Real(text.parse().ok().filter(|value: &f64| value.is_finite()).ok_or(BAD)?),
        };
        self.document.push(node)
    }

    fn digits(&mut self) -> usize {
        let count = self.bytes().iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += count;
        count
    }

    /// A string, from its opening quote on.
    fn string(&mut self) -> Result<Cow<'a, str>> {
        const OPEN: Malformed = Malformed("a string that does not end");
        self.at += 1;
        let end = memchr2(b'"', b'\\', self.bytes()).ok_or(OPEN)?;
        let plain = self.piece(end)?;
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(plain));
        }
        let mut owned = plain.to_owned();
        loop {
            match self.peek().ok_or(OPEN)? {
                b'"' => {
                    self.at += 1;
                    return Ok(Cow::Owned(owned));
                }
                _ => owned.push(self.escape()?),
            }
            let end = memchr2(b'"', b'\\', self.bytes()).ok_or(OPEN)?;
            owned.push_str(self.piece(end)?);
        }
    }

    /// Takes `length` bytes of a string that holds no escape.
    fn piece(&mut self, length: usize) -> Result<&'a str> {
        let piece = self.text.get(self.at..self.at + length).ok_or(Malformed("not UTF-8"))?;
        // The least of all, and not a search, so that the compiler makes vectors of it.
        if piece.bytes().fold(u8::MAX, u8::min) < 0x20 {
            return Err(Malformed("a control character in a string"));
        }
        self.at += length;
        Ok(piece)
    }

    fn escape(&mut self) -> Result<char> {
        const BAD: Malformed = Malformed("no such escape");
        let kind = self.bytes().get(1).copied().ok_or(BAD)?;
        self.at += 2;
        Ok(match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.unit()?;
                let code = match unit {
                    0xd800..=0xdbff => {
                        if !self.bytes().starts_with(b"\\u") {
                            return Err(Malformed("half a surrogate pair"));
                        }
                        self.at += 2;
                        let low = self.unit()?;
                        if !(0xdc00..=0xdfff).contains(&low) {
                            return Err(Malformed("half a surrogate pair"));
                        }
                        0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
                    }
                    other => other,
                };
                char::from_u32(code).ok_or(Malformed("half a surrogate pair"))?
            }
            _ => return Err(BAD),
        })
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Result<u32> {
        let digits = self.bytes().get(..4).filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        let text = digits.and_then(|d| std::str::from_utf8(d).ok()).ok_or(Malformed("no such escape"))?;
        self.at += 4;
        u32::from_str_radix(text, 16).map_err(|_| Malformed("no such escape"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_written() {
        let body = br#" {"a":[1,-2.5,1e3,true,null,{}],"b\n\u00e9\ud83d\ude00":"x\/\"", "c" : 9223372036854775808} "#;
        let document = parse(body).unwrap();
        let root = document.root();
        let list: Vec<_> = root.field("a").unwrap().items().map(|i| i.node().clone()).collect();
        let expected = [Node::Integer(1), Node::Real(-2.5), Node::Real(1000.0), Node::Bool(true), Node::Null];
        assert_eq!(list[..5], expected);
        assert_eq!(root.text("b\né😀"), Some("x/\""));
        assert_eq!(root.integer("c"), Some(i64::MAX));
        assert!(root.field("d").is_none());
    }

    #[test]
    fn a_plain_string_is_borrowed() {
        let document = parse(br#"{"Data":"aGVsbG8="}"#).unwrap();
        let node = document.root().field("Data").unwrap().node().clone();
        assert!(matches!(node, Node::Text(Cow::Borrowed("aGVsbG8="))));
    }

    #[test]
    fn hostile_bodies_are_refused() {
        let deep = "[".repeat(100_000);
        let wide = format!("[{}1]", "1,".repeat(40_000));
        for body in [
            "",
            " ",
            "{",
            "[",
            "[1,]",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "{a:1}",
            "nul",
            "01",
            "1.",
            "1e",
            "-",
            "+1",
            "1e400",
            "\"",
            "\"\\",
            "\"\\x\"",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"\\udc00\"",
            "\"\\u12g4\"",
            "\"\n\"",
            "{\"a\":1,\"a\":2}",
            "{} {}",
            "{}x",
            deep.as_str(),
            wide.as_str(),
        ] {
            assert!(parse(body.as_bytes()).is_err(), "{body:.40}");
        }
        assert!(parse(b"\"\xff\"").is_err());
        assert!(parse(b"{\"a\":1,\"b\":2}").is_ok());
    }
}
