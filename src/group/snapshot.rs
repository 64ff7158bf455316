//! What is alive of a partition of the journal, as records, piece by piece.
//!
//! Whoever appends the pieces behind a place S of the journal, each under the lock that orders it, may drop what lies
//! before S once the last of them is durable. Why that is so: a piece says what the state is at that moment, so to replay
//! it changes nothing, whatever was written before it; and every group that had something before S is written again,
//! has ended since, or came anew since, and then all of it is behind S. A group's record is the journal's own last one, byte
//! for byte, and not what memory knows by now: a generation that has no plan yet must not survive a crash as one.
//! Deliberately absent: when, and how it is appended (the broker's `groups/compaction.rs`).

use super::coordinator::{Coordinator, Group};
use super::journal::{JournalRecord, offset_record, raw_group_record};
use super::step::{Place, Step, Walk};

/// A walk over the groups that a partition of the journal holds.
#[derive(Debug)]
pub struct Snapshot {
    partition: i32,
    walk: Walk,
}

impl Snapshot {
    /// Begins a walk over what is alive of a partition of the journal.
    pub fn new(partition: i32) -> Self {
        Self { partition, walk: Walk::default() }
    }

    /// All is written.
    pub fn is_through(&self) -> bool {
        self.walk.is_through()
    }
}

impl Coordinator {
    /// The next records of a walk, until they have `bytes` or more. There may be none although it is not through: most groups are
    /// of other partitions.
    pub fn next_piece(&mut self, snapshot: &mut Snapshot, bytes: usize) -> Vec<JournalRecord> {
        let mut records = Vec::new();
        let partitions = self.journal_partitions();
        let Snapshot { partition, walk } = snapshot;
        walk.go_on(&mut self.groups, &mut Step::of(bytes), |id, group, after, step| {
            if group.partition != *partition {
                return None;
            }
            group.write(partitions, id, after, step, &mut records)
        });
        records
    }
}

impl Group {
    /// Writes what is alive of it behind a place; where it stopped.
    fn write(
        &self,
        partitions: i32,
        id: &str,
        after: Option<Place>,
        step: &mut Step,
        records: &mut Vec<JournalRecord>,
    ) -> Option<Place> {
        let mut push = |record: JournalRecord| {
            step.look();
            step.make(record.bytes());
            records.push(record);
            step.is_over()
        };
        let record = self.classic().journaled.as_ref().filter(|_| after.is_none());
        if let Some(value) = record {
            push(raw_group_record(partitions, id, Some(value.clone())));
        }
        let after = after.as_ref().map(|(topic, at)| (topic.as_str(), *at));
        for (topic, partition, offset) in self.offsets.after(after) {
            if push(offset_record(partitions, id, topic, partition, Some(offset))) {
                return Some((topic.to_owned(), partition));
            }
        }
        None
    }
}
