//! A request body as a flat list of nodes, whichever form it came in.
//!
//! Owns: [`Document`], what the two parsers (`json.rs`, `cbor.rs`) fill, and [`Item`], a place in it.
//! Invariant: bytes from outside choose neither the depth nor the number of nodes; a map holds no key twice.
//! One vector for the whole body: a record of a PutRecords costs no allocation, and its text is borrowed.
//! Deliberately absent: what an action expects (`shape.rs`).

use std::borrow::Cow;

/// Deepest nesting. The deepest request of the API has four levels.
pub(super) const DEPTH_MAX: usize = 32;
/// Most nodes of a body: 500 records of seven nodes take 3,500.
pub(super) const NODES_MAX: usize = 32_768;
/// What a millisecond may be short of after it was written as a decimal of a second and read as a double.
const ROUNDING_MS: f64 = 0.000_5;
/// Most entries of one map: bounds the search for keys that come twice.
const ENTRIES_MAX: usize = 1024;

/// Why a body is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

pub(super) type Result<T> = std::result::Result<T, Malformed>;

/// One value. A list's or a map's nodes follow it, up to `end`; a map's keys are texts before their values.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node<'a> {
    Null,
    Bool(bool),
    Integer(i64),
    Real(f64),
    Text(Cow<'a, str>),
    /// A byte string, which only CBOR has.
    Blob(Cow<'a, [u8]>),
    /// A point in time, which only CBOR marks: milliseconds since the epoch.
    Time(i64),
    List {
        end: usize,
    },
    Map {
        end: usize,
    },
}

/// A parsed body.
#[derive(Debug)]
pub(super) struct Document<'a> {
    nodes: Vec<Node<'a>>,
}

/// A value and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Item<'d> {
    nodes: &'d [Node<'d>],
    at: usize,
}

impl<'a> Document<'a> {
    pub(super) fn new() -> Self {
        Self { nodes: Vec::new() }
    }

    /// What it takes of memory beside the body, about.
    pub(super) fn bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node<'_>>()
    }

    pub(super) fn root(&self) -> Item<'_> {
        Item { nodes: &self.nodes, at: 0 }
    }

    pub(super) fn push(&mut self, node: Node<'a>) -> Result<()> {
        if self.nodes.len() >= NODES_MAX {
            return Err(Malformed("too many values"));
        }
        self.nodes.push(node);
        Ok(())
    }

    /// Opens a list or a map; returns its place for [`Document::close`].
    pub(super) fn open(&mut self, node: Node<'a>) -> Result<usize> {
        self.push(node)?;
        Ok(self.nodes.len() - 1)
    }

    pub(super) fn close(&mut self, place: usize) {
        let here = self.nodes.len();
        if let Some(Node::List { end } | Node::Map { end }) = self.nodes.get_mut(place) {
            *end = here;
        }
    }

    /// Adds a key to the map that was opened at `place`.
    pub(super) fn key(&mut self, place: usize, key: Cow<'a, str>) -> Result<()> {
        let map = Item { nodes: &self.nodes, at: place };
        for (count, (other, _)) in map.entries_up_to(self.nodes.len()).enumerate() {
            if other == key {
                return Err(Malformed("a key comes twice"));
            }
            if count >= ENTRIES_MAX {
                return Err(Malformed("too many keys"));
            }
        }
        self.push(Node::Text(key))
    }
}

impl<'d> Item<'d> {
    pub(super) fn node(self) -> &'d Node<'d> {
        self.nodes.get(self.at).unwrap_or(&Node::Null)
    }

    /// The value of a key of this map; a null is no value.
    pub(super) fn field(self, name: &str) -> Option<Self> {
        self.entries()
            .find(|(key, value)| *key == name && !matches!(value.node(), Node::Null))
            .map(|(_, v)| v)
    }

    /// Keys and values of a map.
    pub(super) fn entries(self) -> impl Iterator<Item = (&'d str, Self)> {
        let end = if let Node::Map { end } = self.node() { *end } else { 0 };
        self.entries_up_to(end)
    }

    fn entries_up_to(self, end: usize) -> impl Iterator<Item = (&'d str, Self)> {
        let nodes = self.nodes;
        let mut at = self.at + 1;
        std::iter::from_fn(move || {
            let Some(Node::Text(key)) = nodes.get(at).filter(|_| at < end) else { return None };
            let value = Self { nodes, at: at + 1 };
            at = value.next();
            Some((key.as_ref(), value))
        })
    }

    /// Values of a list.
    pub(super) fn items(self) -> impl Iterator<Item = Self> {
        let end = if let Node::List { end } = self.node() { *end } else { 0 };
        let nodes = self.nodes;
        let mut at = self.at + 1;
        std::iter::from_fn(move || {
            let item = (at < end).then_some(Self { nodes, at })?;
            at = item.next();
            Some(item)
        })
    }

    /// Where the value after this one stands.
    fn next(self) -> usize {
        match self.node() {
            Node::List { end } | Node::Map { end } => *end,
            _ => self.at + 1,
        }
    }

    pub(super) fn as_text(self) -> Option<&'d str> {
        if let Node::Text(text) = self.node() { Some(text) } else { None }
    }

    /// A number as the service reads it: cut to a whole one.
    pub(super) fn as_integer(self) -> Option<i64> {
        match self.node() {
            Node::Integer(value) => Some(*value),
            #[allow(clippy::cast_possible_truncation, reason = "saturates, as the service's own numbers do")]
            Node::Real(value) => Some(value.trunc() as i64),
            _ => None,
        }
    }

    /// A time in milliseconds: CBOR says so itself, a number of JSON counts seconds. Cut to the whole millisecond, as a clock
    /// is: rounded up, the client's present would be ahead of ours.
    pub(super) fn as_time_ms(self) -> Option<i64> {
        match self.node() {
            Node::Time(ms) => Some(*ms),
            Node::Integer(seconds) => Some(seconds.saturating_mul(1000)),
            #[allow(clippy::cast_possible_truncation, reason = "saturates")]
            Node::Real(seconds) => Some((seconds * 1000.0 + ROUNDING_MS).floor() as i64),
            _ => None,
        }
    }

    // What an action reads; the shape has been checked, so another kind is an absent field.

    pub(super) fn text(self, name: &str) -> Option<&'d str> {
        self.field(name)?.as_text()
    }

    pub(super) fn integer(self, name: &str) -> Option<i64> {
        self.field(name)?.as_integer()
    }

    pub(super) fn time_ms(self, name: &str) -> Option<i64> {
        self.field(name)?.as_time_ms()
    }

    pub(super) fn bool(self, name: &str) -> bool {
        matches!(self.field(name).map(Self::node), Some(Node::Bool(true)))
    }

    /// Texts of a list.
    pub(super) fn texts(self, name: &str) -> impl Iterator<Item = &'d str> {
        self.field(name).into_iter().flat_map(Self::items).filter_map(Self::as_text)
    }
}
