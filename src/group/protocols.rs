//! What members can speak: the protocols of one member, and how many members know each.
//!
//! Invariant: `Supported` counts what the members of its group list, each name once a member. So whether all know a protocol is
//! one look, however many members and protocols there are (as apache/kafka `ClassicGroup.supportedProtocols`).
//! Deliberately absent: what a subscription says (`subscription.rs`).

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

/// What a protocol takes beside its words.
const PROTOCOL_BYTES: usize = 128;

/// The protocols of one member with its subscriptions, most preferred first. A name that is listed again does not count.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Protocols {
    listed: Vec<(String, Bytes)>,
    bytes: usize,
    largest: usize,
}

/// How many members of a group know each protocol.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Supported(BTreeMap<String, usize>);

impl Protocols {
    pub fn new(mut listed: Vec<(String, Bytes)>) -> Self {
        let mut seen = HashSet::new();
        let first: Vec<bool> = listed.iter().map(|(name, _)| seen.insert(name.as_str())).collect();
        let mut first = first.into_iter();
        listed.retain(|_| first.next().unwrap_or(true));
        let (bytes, largest) = (Self::bytes_of(&listed), Self::largest_of(&listed));
        Self { listed, bytes, largest }
    }

    /// What such a list takes in memory; the names stand in [`Supported`] as well.
    pub fn bytes_of(listed: &[(String, Bytes)]) -> usize {
        listed.iter().map(|(name, bytes)| PROTOCOL_BYTES + 2 * name.len() + bytes.len()).sum()
    }

    /// Its largest subscription.
    pub fn largest_of(listed: &[(String, Bytes)]) -> usize {
        listed.iter().map(|(_, bytes)| bytes.len()).max().unwrap_or(0)
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn largest(&self) -> usize {
        self.largest
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.listed.iter().map(|(name, _)| name.as_str())
    }

    pub fn subscription(&self, protocol: &str) -> Bytes {
        let found = self.listed.iter().find(|(name, _)| name == protocol);
        found.map(|(_, bytes)| bytes.clone()).unwrap_or_default()
    }
}

impl Supported {
    pub fn add(&mut self, protocols: &Protocols) {
        protocols.names().for_each(|name| *self.0.entry(name.to_owned()).or_default() += 1);
    }

    pub fn remove(&mut self, protocols: &Protocols) {
        for name in protocols.names() {
            if let Some(members) = self.0.get_mut(name) {
                *members -= 1;
                if *members == 0 {
                    self.0.remove(name);
                }
            }
        }
    }

    /// Whether that many members know it.
    pub fn is_known_to(&self, members: usize, protocol: &str) -> bool {
        self.0.get(protocol).copied().unwrap_or(0) == members
    }
}
