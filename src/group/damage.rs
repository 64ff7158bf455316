//! Parts of the journal that do not read, and what that means for the groups that were there.
//!
//! A partition of the journal with a damaged part may have held commits of every group that is hashed to it. What was
//! committed before or after that part is served. What is not there may have been in it, so whoever asks is told that
//! it is not known, rather than that nothing was committed: a consumer would begin somewhere else without a word.
//! That ends for a group when it is deleted, for an offset when it is committed again, and for all when what was lost
//! would have expired.
//! Deliberately absent: finding damage (the broker reads the journal).

use std::collections::{BTreeMap, BTreeSet};

/// Most groups of a partition that are remembered as settled; more of them have to wait for the end.
const SETTLED_MAX: usize = 10_000;

/// Damaged partitions of the journal.
#[derive(Debug, Default)]
pub(super) struct Damage(BTreeMap<i32, Part>);

#[derive(Debug)]
struct Part {
    /// When all that was lost would have expired, by the calendar.
    until_ms: i64,
    /// Groups that ended after the damaged part: whatever was in it is gone.
    settled: BTreeSet<String>,
}

impl Damage {
    /// A part of `partition` does not read. What was settled before it is not any more.
    pub fn mark(&mut self, partition: i32, until_ms: i64) {
        let part = self.0.entry(partition).or_insert(Part { until_ms, settled: BTreeSet::new() });
        part.until_ms = part.until_ms.max(until_ms);
        part.settled.clear();
    }

    /// The group ended there.
    pub fn settle(&mut self, partition: i32, group: &str) {
        if let Some(part) = self.0.get_mut(&partition).filter(|part| part.settled.len() < SETTLED_MAX) {
            part.settled.insert(group.to_owned());
        }
    }

    /// Whether something of the group may be in what does not read.
    pub fn hides(&self, partition: i32, group: &str, calendar_ms: i64) -> bool {
        let part = self.0.get(&partition).filter(|part| calendar_ms < part.until_ms);
        part.is_some_and(|part| !part.settled.contains(group))
    }

    /// Forgets what matters no more.
    pub fn expire(&mut self, calendar_ms: i64) {
        self.0.retain(|_, part| calendar_ms < part.until_ms);
    }

    /// Whether `partition` has such a part.
    pub fn is_marked(&self, partition: i32) -> bool {
        self.0.contains_key(&partition)
    }
}
