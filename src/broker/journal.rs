//! Reads the groups' journal at the start, and goes on behind what does not read.
//!
//! Every batch is checked before a record of it counts: a damaged one would be served as a commit. What does not read is
//! named (file, place, the groups that can be made out in it) and marks its partition: what is not found there may have
//! been in it. What the system refuses for another reason (no descriptor left, no permission) says nothing about the records:
//! then the start is refused, for a broker without them would serve older commits as the last ones.
//! Deliberately absent: what a mark means for a group (`group/damage.rs`), repair.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use crate::batch::{Batches, MAX_PLAIN_BYTES, Records, StoredBatch};
use crate::group::{Coordinator, Now, Snapshot, group_of};
use crate::store::{self, LogId};
use crate::topic::{self, Partition};

/// Bytes per read while the journal is loaded.
const LOAD_BYTES: usize = 1 << 20;
/// Groups named in the line about a damaged place.
const NAMES_MAX: usize = 8;
/// Groups named that may read older commits.
const OUTDATED_MAX: usize = 200;
/// Places named in that line.
const PLACES_MAX: usize = 8;

/// The disk cannot read what lies there, or says so.
const EIO: i32 = 5;

/// What reading a partition of the journal found beside groups.
#[derive(Default)]
pub(super) struct Found {
    /// What of it does not read, in words.
    pub damage: Option<String>,
    /// Sound records that are none of a group: somebody else may know what they are.
    pub foreign: bool,
}

/// Replays a partition of the journal.
///
/// # Errors
/// Whatever keeps it from being read and is no damage.
pub(super) fn load(
    partition: &Arc<Partition>,
    coordinator: &mut Coordinator,
    now: Now,
    location: &Path,
) -> topic::Result<Found> {
    let LogId { topic, partition: index } = partition.id();
    let places = Vec::new();
    let mut reading = Reading {
        coordinator,
        partition: index,
        now,
        newest_ms: 0,
        open: false,
        lost: 0,
        last: -1,
        places,
        bad: 0,
        since: HashSet::new(),
    };
    reading.all(partition)?;
    reading.newest_ms = now.wall_ms;
    reading.end();
    let outdated = reading.outdated();
    let Reading { places, lost, bad, .. } = reading;
    if lost == 0 && bad == 0 {
        return Ok(Found::default());
    }
    let folder = location.join("topics").join(topic.to_string()).join(index.to_string());
    let places = places.join("; ");
    // In full here; the ledger keeps the beginning, and a line a second.
    tracing::warn!(
        "__consumer_offsets partition {index} in {}: {lost} damaged place(s), {bad} sound record(s) that are none of a \
         group: {places}. Groups that are hashed to it may miss commits. Where nothing else is known, OffsetFetch answers \
         KAFKA_STORAGE_ERROR until they commit again, are deleted, or offsets.retention.minutes have passed. Groups that have \
         commits from before and none since, and may read older ones: {outdated}",
        folder.display(),
    );
    let damage = format!(
        "__consumer_offsets partition {index} in {}: {lost} damaged place(s), {bad} unknown record(s): {places}; may read \
         older commits: {outdated}",
        folder.display()
    );
    Ok(Found { damage: Some(damage), foreign: bad > 0 })
}

/// One partition while it is read.
struct Reading<'a> {
    coordinator: &'a mut Coordinator,
    partition: i32,
    now: Now,
    /// The largest time of a batch so far. Milliseconds.
    newest_ms: i64,
    /// Something did not read, and nothing after it has yet.
    open: bool,
    /// How many places did not read, and the last of them.
    lost: u64,
    last: i64,
    /// The first of them, in words.
    places: Vec<String>,
    /// Records of sound batches that are none of a group.
    bad: u64,
    /// The keys behind the last place that did not read.
    since: HashSet<Vec<u8>>,
}

impl Reading<'_> {
    fn all(&mut self, partition: &Partition) -> topic::Result<()> {
        let span = match partition.span() {
            Err(error) if after_damage(&error, 0).is_some() => {
                self.lost(i64::MAX, format!("{error}"));
                return Ok(());
            }
            span => span?,
        };
        let mut offset = span.start;
        while offset < span.end {
            let read =
                |bytes| partition.read(offset, bytes, true).and_then(|read| partition.bytes_of(&read.slice));
            // Up to what does not read, batch by batch.
            let next = match read(LOAD_BYTES).or_else(|_| read(1)) {
                Ok(bytes) => self.take(&bytes, offset),
                Err(error) => {
                    self.lost(offset, format!("offset {offset}: {error}"));
                    after_damage(&error, offset).ok_or(error)?
                }
            };
            offset = if next > offset { next } else { behind(partition, offset)?.unwrap_or(span.end) };
            offset = partition.goes_on_at(offset)?;
        }
        Ok(())
    }

    /// Replays the batches of a read; the offset after the last that is sound.
    fn take(&mut self, bytes: &[u8], offset: i64) -> i64 {
        let mut next = offset;
        for batch in Batches::new(bytes) {
            match batch.map(|batch| (batch, batch.verify().err())) {
                Ok((batch, None)) => next = self.replay(&batch, next),
                Ok((batch, Some(error))) => {
                    self.lost(next, format!("offset {next}: {error}{}", names(&batch)));
                }
                Err(error) => self.lost(next, format!("offset {next}: {error}")),
            }
        }
        if next == offset {
            self.lost(offset, format!("offset {offset}: no whole batch"));
        }
        next
    }

    /// Replays a batch that is sound; the offset after it. Where it stands is no part of its checksum.
    fn replay(&mut self, batch: &StoredBatch<'_>, expected: i64) -> i64 {
        let header = &batch.header;
        // Behind a damaged place only the batch itself says how much was lost.
        let placed = header.base_offset >= expected && (self.open || header.base_offset == expected);
        if header.base_offset != expected && !self.open {
            self.lost(expected, format!("offset {expected}: a batch that says {}", header.base_offset));
        }
        self.newest_ms = self.newest_ms.max(header.max_timestamp);
        self.end();
        if !header.is_control() {
            match batch.section(MAX_PLAIN_BYTES) {
                Ok(section) => self.records(&section, header.record_count),
                Err(error) => self.lost(expected, format!("offset {expected}: {error}")),
            }
        }
        let from = if placed { header.base_offset } else { expected };
        from.saturating_add(i64::from(header.last_offset_delta)).saturating_add(1)
    }

    fn records(&mut self, section: &[u8], count: i32) {
        for record in Records::new(section, count) {
            if self.lost > 0
                && let Ok(record) = &record
            {
                self.since.insert(record.key.unwrap_or_default().to_vec());
            }
            let applied = record.map(|record| {
                self.coordinator.replay(record.key.unwrap_or_default(), record.value, self.now)
            });
            if !matches!(applied, Ok(Ok(()))) {
                self.bad += 1;
            }
        }
    }

    /// Something at `offset` does not read.
    fn lost(&mut self, offset: i64, what: String) {
        self.open = true;
        if std::mem::replace(&mut self.last, offset) == offset {
            return;
        }
        self.lost += 1;
        self.since.clear();
        if self.places.len() < PLACES_MAX {
            self.places.push(what);
        }
    }

    /// The groups with offsets that were committed before the last place that did not read, and not since, in words.
    fn outdated(&mut self) -> String {
        let mut groups = BTreeSet::new();
        if self.lost > 0 {
            let mut walk = Snapshot::new(self.partition);
            while !walk.is_through() {
                let all = self.coordinator.next_piece(&mut walk, LOAD_BYTES);
                let old =
                    all.iter().filter(|record| record.is_offset() && !self.since.contains(&*record.key));
                groups.extend(old.filter_map(|record| group_of(&record.key)));
            }
        }
        let more = groups.len().saturating_sub(OUTDATED_MAX);
        let named: Vec<_> = groups.into_iter().take(OUTDATED_MAX).collect();
        if more > 0 { format!("{named:?} and {more} more") } else { format!("{named:?}") }
    }

    /// Something reads again: what did not is older.
    fn end(&mut self) {
        if std::mem::take(&mut self.open) {
            let before_ms = self.newest_ms.min(self.now.wall_ms);
            self.coordinator.journal_damaged(self.partition, before_ms);
        }
    }
}

/// Where to read on when the records at `offset` cannot be read any more; `None` when that is not what the error says.
fn after_damage(error: &topic::Error, offset: i64) -> Option<i64> {
    match error {
        topic::Error::Storage(store::Error::Damaged { to, .. }) => Some(*to),
        topic::Error::Storage(store::Error::Corrupt { .. }) => Some(offset),
        topic::Error::Storage(store::Error::Io { source, .. }) if source.raw_os_error() == Some(EIO) => {
            Some(offset)
        }
        _ => None,
    }
}

/// Where the next part of the log begins.
fn behind(partition: &Partition, offset: i64) -> topic::Result<Option<i64>> {
    Ok(partition.segments()?.into_iter().map(|segment| segment.base_offset).find(|base| *base > offset))
}

/// The groups that can be made out in a batch that is not sound, in words: what they say may be damaged itself.
fn names(batch: &StoredBatch<'_>) -> String {
    let mut said = String::new();
    let Ok(section) = batch.section(MAX_PLAIN_BYTES) else { return said };
    let mut seen = BTreeSet::new();
    for record in Records::new(&section, batch.header.record_count).map_while(Result::ok) {
        if let Some(group) = group_of(record.key.unwrap_or_default()).filter(|_| seen.len() < NAMES_MAX) {
            seen.insert(group);
        }
    }
    if !seen.is_empty() {
        let _ = write!(said, " (groups there, as far as it reads: {seen:?})");
    }
    said
}
