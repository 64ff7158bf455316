//! The encoding of flexible versions (KIP-482), beside the classic one of `mod.rs`.
//!
//! Owns: request header v2, response header v1, compact lengths, empty tagged sections.
//! Deliberately absent: tags with content; whoever expects one reads it with `take`.

use std::io::Write;

use super::{Client, In, Out};

impl Client {
    /// Sends a request with header v2; its correlation id.
    pub(super) fn send_flexible(&mut self, key: i16, version: i16, body: &Out) -> i32 {
        let id = self.next;
        self.next += 1;
        let head = Out::new().i16(key).i16(version).i32(id).string("test").tags();
        let length = i32::try_from(head.0.len() + body.0.len()).unwrap();
        self.stream.write_all(&[&length.to_be_bytes()[..], &head.0, &body.0].concat()).unwrap();
        id
    }

    /// The answer's body, after its header v1.
    pub(super) fn call_flexible(&mut self, key: i16, version: i16, body: &Out) -> In {
        let sent = self.send_flexible(key, version, body);
        let (id, mut answer) = self.receive();
        assert_eq!(id, sent, "the answer to another request");
        answer.tags();
        answer
    }
}

impl Out {
    pub(super) fn varint(mut self, mut value: usize) -> Self {
        while value >= 0x80 {
            self = self.raw(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.raw(&[value as u8])
    }
    /// A count of elements.
    pub(super) fn count(self, count: usize) -> Self {
        self.varint(count + 1)
    }
    /// A null string, blob or array.
    pub(super) fn null(self) -> Self {
        self.varint(0)
    }
    pub(super) fn text(self, value: &str) -> Self {
        self.count(value.len()).raw(value.as_bytes())
    }
    /// An empty tagged section.
    pub(super) fn tags(self) -> Self {
        self.i8(0)
    }
}

impl In {
    pub(super) fn i8(&mut self) -> i8 {
        self.take(1)[0] as i8
    }
    pub(super) fn varint(&mut self) -> usize {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.take(1)[0];
            value |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    }
    /// A count of elements; 0 for null as well.
    pub(super) fn count(&mut self) -> usize {
        self.varint().saturating_sub(1)
    }
    pub(super) fn text(&mut self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }
    pub(super) fn bytes(&mut self) -> Vec<u8> {
        let length = self.count();
        self.take(length).to_vec()
    }
    /// A tagged section that must be empty.
    pub(super) fn tags(&mut self) {
        assert_eq!(self.varint(), 0, "tagged fields that nobody asked for");
    }
    /// The answer has been read whole.
    pub(super) fn end(&self) {
        assert_eq!(self.at, self.bytes.len(), "bytes after the end");
    }
}
