//! The text of the metrics, page by page: Prometheus' text format 0.0.4.
//!
//! Invariant: a page is made when the connection has room for it, so a scrape of any size holds one copy of the
//! broker's numbers and one page; a sample allocates nothing. All samples of a family stand together, its head first.
//! Deliberately absent: names (`families.rs`, `redpanda.rs`).

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::families::{Family, Of};
use crate::broker::Seen;
use crate::listen::{Budget, Census, Lease, Open};

/// Bytes from which on a page is full.
const PAGE_BYTES: usize = 64 * 1024;

/// An answer's body.
pub(super) enum Reply {
    Whole(Bytes),
    Pages(Box<Pages>),
}

/// Labels of every sample, as they are written after a sample's own.
pub(super) struct Labels(Vec<u8>);

/// The metrics of one scrape.
pub(super) struct Pages {
    table: &'static [Family],
    seen: Seen,
    connections: Vec<Open>,
    budgets: Vec<Arc<Budget>>,
    labels: Labels,
    family: usize,
    /// Place among the topics or groups, and among the partitions of that topic.
    place: (usize, usize),
    headed: bool,
    _held: (OwnedSemaphorePermit, Lease),
}

/// Where the samples of one family go.
pub(super) struct Lines<'a> {
    out: &'a mut Vec<u8>,
    family: &'static Family,
    labels: &'a [u8],
    headed: &'a mut bool,
}

/// The value of a label.
#[derive(Clone, Copy)]
pub(super) enum Label<'a> {
    Text(&'a str),
    Index(i32),
    /// Seconds, given in microseconds.
    Seconds(u64),
    /// A shard's id, as Kinesis clients know it.
    Shard(u32),
}

/// The value of a sample.
#[derive(Clone, Copy)]
pub(super) enum Value {
    Whole(u64),
    Signed(i64),
    Thousandths(i64),
    /// Seconds, given in microseconds.
    Micros(u64),
}

impl Labels {
    pub(super) fn new(pairs: &[(String, String)]) -> Self {
        let mut out = Vec::new();
        for (name, value) in pairs {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"=\"");
            put_escaped(&mut out, value);
            out.extend_from_slice(b"\",");
        }
        Self(out)
    }
}

impl Pages {
    pub(super) fn new(
        table: &'static [Family],
        seen: Seen,
        census: &Census,
        labels: Labels,
        held: (OwnedSemaphorePermit, Lease),
    ) -> Self {
        let (connections, budgets) = (census.open(), census.budgets());
        Self {
            table,
            seen,
            connections,
            budgets,
            labels,
            family: 0,
            place: (0, 0),
            headed: false,
            _held: held,
        }
    }

    /// The next page; nothing when all has been said.
    fn next(&mut self) -> Option<Bytes> {
        let mut out = Vec::with_capacity(PAGE_BYTES + PAGE_BYTES / 4);
        while out.len() < PAGE_BYTES
            && let Some(family) = self.table.get(self.family)
        {
            if !self.step(family, &mut out) {
                self.family += 1;
                self.place = (0, 0);
                self.headed = false;
            }
        }
        (!out.is_empty()).then(|| out.into())
    }

    /// Writes some of a family; whether there is more.
    fn step(&mut self, family: &'static Family, out: &mut Vec<u8>) -> bool {
        let mut lines = Lines { out, family, labels: &self.labels.0, headed: &mut self.headed };
        let (at, within) = self.place;
        match family.of {
            Of::Broker(say) => {
                say(&self.seen, &mut lines);
                return false;
            }
            Of::Connections(say) => {
                say(&self.connections, &mut lines);
                return false;
            }
            Of::Budget(say) => {
                let Some(budget) = self.budgets.get(at) else { return false };
                say(budget.key(), budget.used() as u64, &mut lines);
            }
            Of::Sum(count) => {
                if at == 0 {
                    let all = self.seen.topics.iter().map(count).sum();
                    lines.put(&[], Value::Whole(all));
                }
                let Some(topic) = self.seen.topics.get(at) else { return false };
                lines.put(&[("topic", Label::Text(&topic.name))], Value::Whole(count(topic)));
            }
            Of::Topic(say) => {
                let Some(topic) = self.seen.topics.get(at) else { return false };
                say(topic, &mut lines);
            }
            Of::Group(say) => {
                let Some(group) = self.seen.groups.get(at) else { return false };
                say(group, &mut lines);
            }
            Of::Partition(say) => {
                let Some(topic) = self.seen.topics.get(at) else { return false };
                for (n, partition) in topic.partitions.iter().enumerate().skip(within) {
                    if lines.out.len() >= PAGE_BYTES {
                        self.place = (at, n);
                        return true;
                    }
                    say(topic, partition, &mut lines);
                }
            }
        }
        self.place = (at + 1, 0);
        true
    }
}

impl Lines<'_> {
    /// Writes a sample.
    pub(super) fn put(&mut self, labels: &[(&str, Label<'_>)], value: Value) {
        self.put_part("", labels, value);
    }

    /// Writes a sample of a part of a histogram: `_bucket`, `_sum` or `_count`.
    pub(super) fn put_part(&mut self, part: &str, labels: &[(&str, Label<'_>)], value: Value) {
        let (out, name) = (&mut *self.out, self.family.name.as_bytes());
        if !std::mem::replace(self.headed, true) {
            for (word, text) in [("HELP", self.family.help), ("TYPE", self.family.kind)] {
                for part in ["# ", word, " ", self.family.name, " ", text, "\n"] {
                    out.extend_from_slice(part.as_bytes());
                }
            }
        }
        out.extend_from_slice(name);
        out.extend_from_slice(part.as_bytes());
        if !labels.is_empty() || !self.labels.is_empty() {
            out.push(b'{');
            for (name, label) in labels {
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b"=\"");
                label.put(out);
                out.extend_from_slice(b"\",");
            }
            out.extend_from_slice(self.labels);
            // The last comma.
            out.pop();
            out.push(b'}');
        }
        out.push(b' ');
        value.put(out);
        out.push(b'\n');
    }
}

impl Label<'_> {
    fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => put_escaped(out, text),
            Self::Index(index) => Value::Signed(index.into()).put(out),
            Self::Seconds(us) => Value::Micros(us).put(out),
            Self::Shard(id) => {
                out.extend_from_slice(b"shardId-");
                put_digits(out, id.into(), 12);
            }
        }
    }
}

impl Value {
    fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::Whole(value) => put_digits(out, value, 1),
            Self::Signed(value) => {
                put_sign(out, value);
                put_digits(out, value.unsigned_abs(), 1);
            }
            Self::Micros(value) => {
                put_digits(out, value / 1_000_000, 1);
                out.push(b'.');
                put_digits(out, value % 1_000_000, 6);
            }
            Self::Thousandths(value) => {
                put_sign(out, value);
                put_digits(out, value.unsigned_abs() / 1000, 1);
                out.push(b'.');
                put_digits(out, value.unsigned_abs() % 1000, 3);
            }
        }
    }
}

fn put_sign(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
}

/// In decimal, with zeros in front up to `width` digits.
fn put_digits(out: &mut Vec<u8>, mut value: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        if value == 0 {
            break;
        }
        *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        used += 1;
    }
    out.extend_from_slice(digits.get(digits.len() - used.max(width)..).unwrap_or_default());
}

fn put_escaped(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            plain => out.push(plain),
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let page = match &mut *self {
            Self::Whole(bytes) => Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty()),
            Self::Pages(pages) => pages.next(),
        };
        Poll::Ready(page.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Pages(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(put: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        put(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_written_as_rust_writes_them() {
        for n in [0, 1, 9, 10, 1_234_567_890_123, u64::MAX] {
            assert_eq!(text(|out| Value::Whole(n).put(out)), n.to_string());
        }
        for n in [0, -1, i64::MIN, i64::MAX] {
            assert_eq!(text(|out| Value::Signed(n).put(out)), n.to_string());
        }
        for (n, expected) in [(0, "0.000"), (1, "0.001"), (-1500, "-1.500"), (12_345, "12.345")] {
            assert_eq!(text(|out| Value::Thousandths(n).put(out)), expected);
        }
        assert_eq!(text(|out| Label::Shard(7).put(out)), "shardId-000000000007");
    }

    #[test]
    fn a_label_is_escaped() {
        assert_eq!(text(|out| Label::Text("a\"b\\c\nd").put(out)), r#"a\"b\\c\nd"#);
        let labels = Labels::new(&[("namespace".into(), "a\"".into()), ("cluster".into(), "b".into())]);
        assert_eq!(text(|out| out.extend_from_slice(&labels.0)), r#"namespace="a\"",cluster="b","#);
    }
}
