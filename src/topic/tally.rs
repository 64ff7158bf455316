//! What has passed through a partition since the start: plain counters, for whoever looks from outside.
//!
//! Invariant: an append costs three plain stores and a read three additions, never one per record; everything else is
//! counted only when something was held back or went wrong. Counters only grow; what readers are behind is the most
//! that one of them said lately.
//! Deliberately absent: names, rates, a clock.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Route;

/// The counters of one partition.
#[derive(Debug, Default)]
pub struct Tally {
    written: [Flow; 2],
    read: [Flow; 2],
    refused_batches: AtomicU64,
    failed_reads: AtomicU64,
    throttled_records: AtomicU64,
    throttled_ms: AtomicU64,
    throttled_reads: AtomicU64,
    behind: Lately,
}

/// The largest number said in the last 60 to 90 seconds. Each slot holds a span of time above what was said in it, so that
/// one `fetch_max` both starts the slot anew and raises it.
#[derive(Debug, Default)]
struct Lately([AtomicU64; 3]);

const SPAN_MS: u64 = 30_000;
/// Bits of what was said: two years of milliseconds.
const SAID_BITS: u32 = 36;

/// What went one way.
#[derive(Debug, Default)]
struct Flow {
    bytes: AtomicU64,
    records: AtomicU64,
    calls: AtomicU64,
}

/// A copy of [`Flow`]'s numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Bytes of batches.
    pub bytes: u64,
    /// Records.
    pub records: u64,
    /// Batches in; reads that found something out.
    pub calls: u64,
}

/// A copy of [`Tally`]'s numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// By clients that chose the partition, and by shard.
    pub written: [Passed; 2],
    /// To clients that chose the partition, and by shard.
    pub read: [Passed; 2],
    /// Batches that were refused for any reason but a limit of the shard.
    pub refused_batches: u64,
    /// Reads that the engine failed.
    pub failed_reads: u64,
    /// Records that were refused, or taken into debt, by a limit of the shard.
    pub throttled_records: u64,
    /// How long those who wrote into debt were told to wait, in all. Milliseconds.
    pub throttled_ms: u64,
    /// Reads that were refused, or answered with a time to wait, by a limit of the shard.
    pub throttled_reads: u64,
    /// How far behind the last of those was who read by shard in the last minute; `None`: nobody did. Milliseconds.
    pub behind_ms: Option<i64>,
}

impl Tally {
    /// Counts batches that were appended. One caller at a time: the writer.
    pub(super) fn wrote(&self, route: Route, bytes: u64, records: u64, batches: u64) {
        let flow = at(&self.written, route);
        let add = |counter: &AtomicU64, n| {
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
        };
        add(&flow.bytes, bytes);
        add(&flow.records, records);
        add(&flow.calls, batches);
    }

    /// Counts what one read hands out.
    pub fn read(&self, route: Route, bytes: usize, records: usize) {
        let flow = at(&self.read, route);
        flow.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        flow.records.fetch_add(records as u64, Ordering::Relaxed);
        flow.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Says how far a reader by shard is behind, at `now_ms` of a time that does not step back.
    pub fn behind(&self, ms: i64, now_ms: u64) {
        self.behind.say(u64::try_from(ms).unwrap_or(0), now_ms);
    }

    /// Counts a read that a limit of the shard refused or slowed down.
    pub fn throttled_read(&self) {
        self.throttled_reads.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn throttled_write(&self, records: u64, wait_ms: u32) {
        self.throttled_records.fetch_add(records, Ordering::Relaxed);
        self.throttled_ms.fetch_add(u64::from(wait_ms), Ordering::Relaxed);
    }

    pub(super) fn refused(&self, batches: usize) {
        self.refused_batches.fetch_add(batches as u64, Ordering::Relaxed);
    }

    pub(super) fn failed_read(&self) {
        self.failed_reads.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes of all batches that were appended.
    pub(super) fn written_bytes(&self) -> u64 {
        self.written.iter().map(|flow| flow.bytes.load(Ordering::Relaxed)).sum()
    }

    /// The numbers at `now_ms`, each for itself.
    #[must_use]
    pub fn counted(&self, now_ms: u64) -> Counted {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let passed = |flow: &Flow| Passed {
            bytes: load(&flow.bytes),
            records: load(&flow.records),
            calls: load(&flow.calls),
        };
        Counted {
            written: self.written.each_ref().map(passed),
            read: self.read.each_ref().map(passed),
            refused_batches: load(&self.refused_batches),
            failed_reads: load(&self.failed_reads),
            throttled_records: load(&self.throttled_records),
            throttled_ms: load(&self.throttled_ms),
            throttled_reads: load(&self.throttled_reads),
            behind_ms: self.behind.most(now_ms).map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)),
        }
    }
}

impl Lately {
    fn say(&self, what: u64, now_ms: u64) {
        let Self(slots) = self;
        let span = now_ms / SPAN_MS;
        if let Some(slot) = slots.get((span % slots.len() as u64) as usize) {
            slot.fetch_max((span << SAID_BITS) | what.min((1 << SAID_BITS) - 1), Ordering::Relaxed);
        }
    }

    fn most(&self, now_ms: u64) -> Option<u64> {
        let Self(slots) = self;
        let oldest = (now_ms / SPAN_MS).saturating_sub(slots.len() as u64 - 1).max(1);
        let said = slots.iter().map(|slot| slot.load(Ordering::Relaxed));
        said.filter(|said| said >> SAID_BITS >= oldest).map(|said| said & ((1 << SAID_BITS) - 1)).max()
    }
}

fn at(flows: &[Flow; 2], route: Route) -> &Flow {
    let [client, shard] = flows;
    match route {
        Route::Client => client,
        Route::Shard => shard,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reader_who_is_furthest_behind_is_told_for_a_minute_and_not_longer_than_a_half_more() {
        let tally = Tally::default();
        let begin = 1_800_000_000_000;
        let behind = |later_ms| tally.counted(begin + later_ms).behind_ms;
        assert_eq!(behind(0), None);
        tally.behind(7_000, begin);
        tally.behind(40, begin + 10);
        assert_eq!(behind(20), Some(7_000));
        tally.behind(0, begin + 50_000);
        assert_eq!(behind(59_999), Some(7_000));
        assert_eq!(behind(90_000), Some(0), "the one who is at the tip goes on");
        assert_eq!(behind(140_000), None, "nobody reads any more");
        tally.behind(i64::MAX, begin + 140_000);
        assert!(behind(140_000) > Some(730 * 86_400_000));
    }
}
