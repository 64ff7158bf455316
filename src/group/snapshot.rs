//! What is alive of a partition of the journal, as records, piece by piece.
//!
//! Whoever appends the pieces behind a place S of the journal, each under the lock that orders it, may drop what lies
//! before S once the last of them is durable. Why that is so: a piece says what the state is at that moment, so to replay
//! it changes nothing, whatever was written before it; and every group that had something before S is written again,
//! has ended since, or came anew since, and then all of it is behind S. A group's record is the journal's own last one, byte
//! for byte, and not what memory knows by now: a generation that has no plan yet must not survive a crash as one.
//! Deliberately absent: when, and how it is appended (the broker's `groups/compaction.rs`).

use std::sync::Arc;

use super::coordinator::Coordinator;
use super::journal::{JournalRecord, offset_record, raw_group_record};

/// A walk over the groups that a partition of the journal held when it began.
#[derive(Debug)]
pub struct Snapshot {
    groups: std::vec::IntoIter<Arc<str>>,
    underway: Option<Underway>,
    /// What all of it weighs in memory.
    pub weight: usize,
}

/// A group of which something is written.
#[derive(Debug)]
struct Underway {
    id: Arc<str>,
    /// The last of its offsets that is.
    place: Option<(String, i32)>,
}

impl Coordinator {
    /// Begins a walk over what is alive of a partition of the journal.
    pub fn snapshot(&self, partition: i32) -> Snapshot {
        let (groups, weight) = self.groups_of(partition);
        Snapshot { groups: groups.into_iter(), underway: None, weight }
    }

    /// The next records of a walk, until they have `bytes` or more; none when it is through.
    pub fn next_piece(&self, walk: &mut Snapshot, bytes: usize) -> Vec<JournalRecord> {
        let (mut records, mut left) = (Vec::new(), bytes);
        while left > 0 {
            let Some(at) = walk.underway.take().or_else(|| walk.groups.next().map(Underway::begin)) else {
                break;
            };
            walk.underway = self.write_group(at, &mut records, &mut left);
        }
        records
    }

    /// Writes on at a group; where to go on, unless it is through.
    fn write_group(
        &self,
        at: Underway,
        records: &mut Vec<JournalRecord>,
        left: &mut usize,
    ) -> Option<Underway> {
        let (record, offsets) = self.journaled(&at.id)?;
        let partitions = self.journal_partitions();
        let mut push = |record: JournalRecord| {
            *left = left.saturating_sub(record.bytes());
            records.push(record);
            *left > 0
        };
        let Underway { id, mut place } = at;
        if place.is_none()
            && let Some(value) = record
        {
            push(raw_group_record(partitions, &id, Some(value.clone())));
        }
        let from = place.take();
        for (topic, partition, offset) in
            offsets.after(from.as_ref().map(|(topic, at)| (topic.as_str(), *at)))
        {
            if !push(offset_record(partitions, &id, topic, partition, Some(offset))) {
                return Some(Underway { id, place: Some((topic.to_owned(), partition)) });
            }
        }
        None
    }
}

impl Underway {
    fn begin(id: Arc<str>) -> Self {
        Self { id, place: None }
    }
}
