//! What has passed through a partition since the start: plain counters, for whoever looks from outside.
//!
//! Invariant: an append costs three plain stores and a read two additions, never one per record; everything else is
//! counted only when something was held back or went wrong. Counters only grow.
//! Deliberately absent: names, rates, time.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::Route;

/// The counters of one partition.
#[derive(Debug)]
pub struct Tally {
    written: [Flow; 2],
    read: [Flow; 2],
    refused_batches: AtomicU64,
    failed_reads: AtomicU64,
    throttled_records: AtomicU64,
    throttled_ms: AtomicU64,
    throttled_reads: AtomicU64,
    behind_ms: AtomicI64,
}

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
    /// Records; of what a client reads that chose the partition nobody counts them.
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
    /// How far the last reader by shard was behind; `None`: there was none. Milliseconds.
    pub behind_ms: Option<i64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            written: Default::default(),
            read: Default::default(),
            refused_batches: AtomicU64::new(0),
            failed_reads: AtomicU64::new(0),
            throttled_records: AtomicU64::new(0),
            throttled_ms: AtomicU64::new(0),
            throttled_reads: AtomicU64::new(0),
            behind_ms: AtomicI64::new(-1),
        }
    }
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
        flow.calls.fetch_add(1, Ordering::Relaxed);
        if records > 0 {
            flow.records.fetch_add(records as u64, Ordering::Relaxed);
        }
    }

    /// Says how far a reader by shard is behind.
    pub fn behind(&self, ms: i64) {
        self.behind_ms.store(ms, Ordering::Relaxed);
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

    /// The numbers now, each for itself.
    #[must_use]
    pub fn counted(&self) -> Counted {
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
            behind_ms: Some(self.behind_ms.load(Ordering::Relaxed)).filter(|ms| *ms >= 0),
        }
    }
}

fn at(flows: &[Flow; 2], route: Route) -> &Flow {
    let [client, shard] = flows;
    match route {
        Route::Client => client,
        Route::Shard => shard,
    }
}
