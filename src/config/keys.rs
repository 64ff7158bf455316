//! The broker's table of keys: what weir honours, and what it knows and leaves alone.
//!
//! Owns: name, type, default, range, whether it may change while running, and one line for people.
//! Invariant: each list is sorted by name and no name is in both.
//! Deliberately absent: values in force, and Java classes that a key names.
//!
//! Names, types, ranges and defaults are those of Apache Kafka 4.3 (`AbstractKafkaConfig`) save where a
//! row's line says otherwise; keys marked `own` are weir's.

mod inert;
mod live;

use inert::{INERT, INERT_PREFIXES};
use live::LIVE;

use crate::topic::config::{Check, Effect, Kind};

/// One key of the broker.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Name, as in server.properties.
    pub name: &'static str,
    /// Type.
    pub kind: Kind,
    /// Value when nobody says anything; `None` is null.
    pub default: Option<&'static str>,
    /// Range.
    pub check: Check,
    /// Whether it changes anything.
    pub effect: Effect,
    /// Whether AlterConfigs may change it while the broker runs.
    pub dynamic: bool,
    /// Whether the key is weir's own and unknown to Kafka.
    pub own: bool,
    /// One line for people; for a key without effect, why.
    pub doc: &'static str,
}

/// A row that weir honours.
const fn live(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    check: Check,
    doc: &'static str,
) -> Key {
    Key { name, kind, default, check, effect: Effect::Applied, dynamic: false, own: false, doc }
}

/// A row that is known, described and left alone.
const fn inert(name: &'static str, kind: Kind, default: Option<&'static str>, doc: &'static str) -> Key {
    Key { name, kind, default, check: Check::Any, effect: Effect::NoEffect, dynamic: false, own: false, doc }
}

impl Key {
    const fn dynamic(mut self) -> Self {
        self.dynamic = true;
        self
    }

    const fn own(mut self) -> Self {
        self.own = true;
        self
    }
}

/// The row of a key.
#[must_use]
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter()
        .find_map(|list| list.binary_search_by(|key| key.name.cmp(name)).ok().and_then(|at| list.get(at)))
}

/// Every row, honoured ones first.
pub fn all() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().copied().flatten()
}

/// Why a key that starts with this is known and left alone.
#[must_use]
pub fn inert_prefix(name: &str) -> Option<&'static str> {
    INERT_PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|&(_, why)| why)
}

/// Both lists: honoured, and known without effect.
pub const KEYS: [&[Key]; 2] = [LIVE, INERT];
