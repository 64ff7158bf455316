//! Keeps the groups' journal small: where it has grown, partitions that hold several times what is alive in them are
//! written anew, the largest first.
//!
//! A rewrite rolls the log at S, its end, appends what is alive of the partition behind it, waits until that is durable, and
//! trims the log to S. The groups' lock is held for one piece at a time. What changes meanwhile stands behind S anyway, so a
//! crash at any point leaves a journal that says the same (`group/snapshot.rs`).
//! What a partition holds and nobody can read goes with a rewrite. So there is none where records are none of a group, and
//! where a damaged place still hides commits: the place itself is what tells the next life of them.
//! Deliberately absent: compaction of topics by key.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::JOURNAL;
use crate::broker::{Core, Receipt};
use crate::group::{JournalRecord, Snapshot};
use crate::topic::{self, Partition};

/// How often somebody looks which partitions have grown.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// While the whole journal holds no more than this, or than one of its segments where those are smaller, it is left alone.
const FLOOR_BYTES: u64 = 4 << 20;
/// A partition below this is never worth the syncs: about ten of them.
const LEAST_BYTES: u64 = 64 << 10;
/// A partition may hold so many times what is alive in it: what is written for that is a third of what clients wrote.
const LIVE_SHARE: u64 = 4;
/// What memory takes for what is alive is at least twice its records, but for very long names.
const WEIGHT_SHARE: u64 = 2;
/// Appended under one holding of the lock.
const PIECE_BYTES: usize = 64 << 10;
/// Between two pieces, so that whoever waits for the lock gets it.
const PAUSE: Duration = Duration::from_millis(1);
/// So much may be written where the disk is full, out of what is kept back for commits as well.
const FULL_DISK_BYTES: u64 = 2 << 20;

/// How large the journal, and each partition of it, may get before it is rewritten.
#[derive(Default)]
pub(super) struct Limits {
    floor: u64,
    by_partition: HashMap<i32, u64>,
}

/// A partition that is being rewritten.
pub(super) struct Rewrite {
    partition: Arc<Partition>,
    /// Where the log was rolled: whatever lies before goes.
    from: i64,
    walk: Snapshot,
    /// Bytes of records that are written, and where they end.
    pub(super) written: u64,
    end: i64,
}

impl Limits {
    /// What became of a rewrite of a partition that held so many bytes.
    fn note(&mut self, index: i32, bytes: u64, outcome: &topic::Result<Option<u64>>) {
        match outcome {
            Ok(Some(live)) => {
                tracing::info!(partition = index, bytes, live, "{JOURNAL} was written anew");
                self.by_partition.insert(index, LIVE_SHARE * live);
            }
            // Not now: what stands in the way ends by itself.
            Ok(None) => {}
            // What was written for nothing, and takes space that commits may need, is written again for a reason only.
            Err(error) => {
                tracing::debug!(partition = index, "{JOURNAL} was not written anew: {error}");
                self.by_partition.insert(index, bytes + LEAST_BYTES.max(bytes / 4));
            }
        }
    }
}

impl Core {
    /// Rewrites partitions of the journal, one at a time, until `stopped`.
    pub(in crate::broker) async fn compact_journal(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut limits = Limits::default();
        loop {
            tokio::select! {
                _ = stopped.changed() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            for (index, bytes) in self.grown_partitions(&mut limits) {
                if *stopped.borrow() {
                    return;
                }
                // One that is stopped in the middle is begun anew in the next life; what it wrote harms nobody.
                let outcome = tokio::select! {
                    _ = stopped.changed() => return,
                    outcome = self.rewrite(index) => outcome,
                };
                limits.note(index, bytes, &outcome);
            }
        }
    }

    /// The partitions to rewrite so that the journal holds no more than it may, with what they hold.
    pub(super) fn grown_partitions(&self, limits: &mut Limits) -> Vec<(i32, u64)> {
        let Some(topic) = self.topics.by_name(JOURNAL) else { return Vec::new() };
        limits.floor = FLOOR_BYTES.min(topic.config().segment_bytes);
        let mut held = Vec::new();
        for partition in topic.partitions().iter() {
            // One that takes no more writes does not grow either.
            if let Some((_, bytes, false)) = partition.glance() {
                held.push((partition.id().partition, bytes));
            }
        }
        held.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let mut total: u64 = held.iter().map(|(_, bytes)| bytes).sum();
        held.retain(|(index, bytes)| {
            let grown = total > limits.floor && *bytes > LEAST_BYTES && *bytes > self.limit(limits, *index);
            if grown {
                total -= bytes;
            }
            grown
        });
        held
    }

    /// What a partition may hold. An earlier life may have rewritten it a moment ago: then what its state weighs says so.
    fn limit(&self, limits: &mut Limits, index: i32) -> u64 {
        *limits.by_partition.entry(index).or_insert_with(|| {
            let weight = self.groups.state.lock().coordinator.weight_of(index);
            LIVE_SHARE / WEIGHT_SHARE * weight as u64
        })
    }

    /// Rewrites a partition; the bytes that are alive in it, or none when it has to stay as it is.
    pub(super) async fn rewrite(self: &Arc<Self>, index: i32) -> topic::Result<Option<u64>> {
        let Some(mut rewrite) = self.blocking(move |core| core.begin_rewrite(index)).await? else {
            return Ok(None);
        };
        let mut more = true;
        while more {
            (more, rewrite) = self
                .blocking(move |core| Ok((core.write_piece(&mut rewrite, PIECE_BYTES)?, rewrite)))
                .await?;
            tokio::time::sleep(PAUSE).await;
        }
        self.end_rewrite(rewrite).await.map(Some)
    }

    /// Makes durable what is written, and drops what lies before.
    pub(super) async fn end_rewrite(self: &Arc<Self>, rewrite: Rewrite) -> topic::Result<u64> {
        Receipt::new(&rewrite.partition, rewrite.end)?.await?;
        self.blocking(move |_| {
            rewrite.partition.delete_records(rewrite.from)?;
            Ok(rewrite.written)
        })
        .await
    }

    /// Rolls the partition and begins the walk, under one lock: what lies before the roll is in the state.
    pub(super) fn begin_rewrite(&self, index: i32) -> topic::Result<Option<Rewrite>> {
        let partition = self.topics.by_name(JOURNAL).ok_or(topic::Error::UnknownTopic)?.partition(index)?;
        let state = self.groups.state.lock();
        if state.coordinator.is_damaged(index) || state.foreign.contains(&index) {
            return Ok(None);
        }
        let weight = state.coordinator.weight_of(index);
        let free = self.capacity().map_or(u64::MAX, |capacity| capacity.free_bytes);
        if weight as u64 > free.max(FULL_DISK_BYTES) {
            return Ok(None);
        }
        // The lock that is held here orders all appends to the journal.
        let log = partition.log()?;
        log.seal().map_err(topic::Error::from)?;
        let from = log.span().end;
        drop(state);
        Ok(Some(Rewrite { partition, from, walk: Snapshot::new(index), written: 0, end: from }))
    }

    /// Appends the next piece; whether there may be more. It is not replayed: it says what is.
    pub(super) fn write_piece(&self, rewrite: &mut Rewrite, bytes: usize) -> topic::Result<bool> {
        let mut state = self.groups.state.lock();
        let records = state.coordinator.next_piece(&mut rewrite.walk, bytes);
        let more = !rewrite.walk.is_through();
        if records.is_empty() {
            return Ok(more);
        }
        let index = rewrite.partition.id().partition;
        let (_, end) = self.append_records(index, &records.iter().collect::<Vec<_>>(), self.group_now())?;
        rewrite.end = end;
        rewrite.written += records.iter().map(JournalRecord::bytes).sum::<usize>() as u64;
        Ok(more)
    }
}

#[cfg(test)]
mod tests;
