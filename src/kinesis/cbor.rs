//! Reads a CBOR body (RFC 8949) into a [`Document`].
//!
//! Times are tag 1 with an integer of *milliseconds*, against the RFC's seconds: that is what the AWS SDK
//! for Java writes and reads (aws/aws-sdk-java-v2#4661). Other tags are looked through.
//! Every length is compared with the bytes that are left before anything is taken.

use std::borrow::Cow;

use super::document::{DEPTH_MAX, Document, Malformed, Node, Result};

const SHORT: Malformed = Malformed("the body ends inside a value");

/// Parses a whole body.
pub(super) fn parse(body: &[u8]) -> Result<Document<'_>> {
    let mut parser = Parser { rest: body, document: Document::new() };
    parser.value(0)?;
    if !parser.rest.is_empty() {
        return Err(Malformed("bytes behind the value"));
    }
    Ok(parser.document)
}

struct Parser<'a> {
    rest: &'a [u8],
    document: Document<'a>,
}

/// The first byte of a value and its argument; no argument stands for an indefinite length.
struct Head {
    major: u8,
    info: u8,
    argument: Option<u64>,
}

impl<'a> Parser<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8]> {
        let count = usize::try_from(count).map_err(|_| SHORT)?;
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    fn head(&mut self) -> Result<Head> {
        let (&first, rest) = self.rest.split_first().ok_or(SHORT)?;
        self.rest = rest;
        let (major, info) = (first >> 5, first & 31);
        let argument = match info {
            0..=23 => Some(u64::from(info)),
            24..=27 => {
                let bytes = self.take(1 << (info - 24))?;
                Some(bytes.iter().fold(0, |sum, &byte| (sum << 8) | u64::from(byte)))
            }
            31 => None,
            _ => return Err(Malformed("a reserved length")),
        };
        Ok(Head { major, info, argument })
    }

    /// Whether the end mark of an indefinite length comes next; takes it.
    fn took_break(&mut self) -> bool {
        let here = self.rest.first() == Some(&0xff);
        if here {
            self.rest = self.rest.get(1..).unwrap_or_default();
        }
        here
    }

    fn value(&mut self, depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(Malformed("nested too deeply"));
        }
        let head = self.head()?;
        match head.major {
            0 | 1 => {
                let node = integer(&head)?;
                self.document.push(node)
            }
            2 => {
                let blob = self.string(&head)?;
                self.document.push(Node::Blob(blob))
            }
            3 => {
                let text = self.text(&head)?;
                self.document.push(Node::Text(text))
            }
            4 => self.list(head.argument, depth),
            5 => self.map(head.argument, depth),
            6 => self.tagged(&head, depth),
            _ => self.simple(&head),
        }
    }

    fn tagged(&mut self, head: &Head, depth: usize) -> Result<()> {
        if head.argument.ok_or(Malformed("a tag without a number"))? != 1 {
            return self.value(depth + 1);
        }
        let head = self.head()?;
        let ms = match (head.major, integer(&head)) {
            (0 | 1, Ok(Node::Integer(ms))) => ms,
            (7, _) => match float(&head) {
                #[allow(clippy::cast_possible_truncation, reason = "saturates")]
                Some(ms) if ms.is_finite() => ms.floor() as i64,
                _ => return Err(Malformed("a time that is none")),
            },
            _ => return Err(Malformed("a time that is none")),
        };
        self.document.push(Node::Time(ms))
    }

    fn simple(&mut self, head: &Head) -> Result<()> {
        let node = match head.info {
            20 => Node::Bool(false),
            21 => Node::Bool(true),
            22 | 23 => Node::Null,
            _ => match float(head) {
                Some(value) if value.is_finite() => Node::Real(value),
                _ => return Err(Malformed("no such simple value")),
            },
        };
        self.document.push(node)
    }

    /// A byte string, in one piece or in chunks.
    fn string(&mut self, head: &Head) -> Result<Cow<'a, [u8]>> {
        if let Some(length) = head.argument {
            return Ok(Cow::Borrowed(self.take(length)?));
        }
        let mut whole = Vec::new();
        while !self.took_break() {
            let chunk = self.head()?;
            if chunk.major != head.major {
                return Err(Malformed("a chunk of another kind"));
            }
            whole.extend_from_slice(self.take(chunk.argument.ok_or(Malformed("a chunk without a length"))?)?);
        }
        Ok(Cow::Owned(whole))
    }

    fn text(&mut self, head: &Head) -> Result<Cow<'a, str>> {
        const BAD: Malformed = Malformed("not UTF-8");
        Ok(match self.string(head)? {
            Cow::Borrowed(bytes) => Cow::Borrowed(std::str::from_utf8(bytes).map_err(|_| BAD)?),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8(bytes).map_err(|_| BAD)?),
        })
    }

    fn list(&mut self, length: Option<u64>, depth: usize) -> Result<()> {
        let place = self.document.open(Node::List { end: 0 })?;
        let mut left = length;
        while self.goes_on(&mut left) {
            self.value(depth + 1)?;
        }
        self.document.close(place);
        Ok(())
    }

    fn map(&mut self, length: Option<u64>, depth: usize) -> Result<()> {
        let place = self.document.open(Node::Map { end: 0 })?;
        let mut left = length;
        while self.goes_on(&mut left) {
            let head = self.head()?;
            if head.major != 3 {
                return Err(Malformed("a key that is no text"));
            }
            let key = self.text(&head)?;
            self.document.key(place, key)?;
            self.value(depth + 1)?;
        }
        self.document.close(place);
        Ok(())
    }

    /// Whether a list or map has another element; an indefinite one has until its end mark.
    fn goes_on(&mut self, left: &mut Option<u64>) -> bool {
        match left {
            None => !self.took_break(),
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}

fn integer(head: &Head) -> Result<Node<'static>> {
    let value = head.argument.ok_or(Malformed("a number without a value"))?;
    let signed = i64::try_from(value).map(|value| if head.major == 0 { value } else { -1 - value });
    Ok(signed.map_or_else(
        |_| Node::Real(if head.major == 0 { value as f64 } else { -1.0 - value as f64 }),
        Node::Integer,
    ))
}

fn float(head: &Head) -> Option<f64> {
    let bits = head.argument?;
    match head.info {
        25 => {
            let bits = u32::try_from(bits).ok()?;
            let (sign, exponent, mantissa) = (bits >> 15, (bits >> 10) & 31, f64::from(bits & 0x3ff));
            let size = match exponent {
                0 => mantissa * 2f64.powi(-24),
                31 => return None,
                _ => (1.0 + mantissa / 1024.0) * 2f64.powi(i32::try_from(exponent).ok()? - 15),
            };
            Some(if sign == 1 { -size } else { size })
        }
        26 => Some(f64::from(f32::from_bits(u32::try_from(bits).ok()?))),
        27 => Some(f64::from_bits(bits)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_texts_bytes_and_times_are_read() {
        // {"a": 500, "b": h'0102', "t": 1(1700000000123), "n": -1, "f": 1.5, "l": [_ true, null], "s": (_ "x", "y")}
        let body = b"\xbf\x61a\x19\x01\xf4\x61b\x42\x01\x02\x61t\xc1\x1b\x00\x00\x01\x8b\xcf\xe5\x68\x7b\x61n\x20\x61f\xf9\x3e\x00\x61l\x9f\xf5\xf6\xff\x61s\x7f\x61x\x61y\xff\xff";
        let document = parse(body).unwrap();
        let root = document.root();
        assert_eq!(root.integer("a"), Some(500));
        assert_eq!(root.field("b").unwrap().node(), &Node::Blob(Cow::Borrowed(&[1, 2])));
        assert_eq!(root.time_ms("t"), Some(1_700_000_000_123));
        assert_eq!(root.integer("n"), Some(-1));
        assert_eq!(root.field("f").unwrap().node(), &Node::Real(1.5));
        assert_eq!(root.field("l").unwrap().items().count(), 2);
        assert_eq!(root.text("s"), Some("xy"));
    }

    #[test]
    fn hostile_bodies_are_refused() {
        let deep = vec![0x9f; 100_000];
        let tags = vec![0xc2; 100_000];
        let wide = [&[0x99, 0xff, 0xff][..], &vec![0x01; 0xffff]].concat();
        for body in [
            &b""[..],
            b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x62a",
            b"\x61\xff",
            b"\xa1\x01\x01",
            b"\xa2\x61a\x01\x61a\x02",
            b"\x5f\x61a\xff",
            b"\x5f\x5f\xff\xff",
            b"\x01\x01",
            b"\xff",
            b"\xc1\x61a",
            b"\xfb\x7f\xf0\x00\x00\x00\x00\x00\x00",
            b"\x1c",
            &deep,
            &tags,
            &wide,
        ] {
            assert!(parse(body).is_err(), "{:02x?}", &body[..body.len().min(12)]);
        }
    }
}
