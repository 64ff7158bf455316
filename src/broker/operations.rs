//! What became of the operations that a door serves: calls, refusals, time and records, for whoever looks from outside.
//!
//! Invariant: a call costs a few additions, whatever it carries; only a refusal takes a lock. Counters only grow.
//! Deliberately absent: names of operations and refusals (the doors have them), a clock, streams and shards (their
//! partitions count for them).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::lock::{Mutex, rank};

/// Upper bounds of the classes of time, microseconds; what took longer is in none of them.
pub const WITHIN_US: [u64; 12] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000];

/// What became of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They are in the log.
    Stored,
    /// A limit of their shard refused them.
    Throttled,
    /// They were not stored for another reason.
    Failed,
    /// They were handed to a reader.
    Read,
}

/// The counters of one operation.
#[derive(Debug)]
pub struct Operation {
    name: &'static str,
    succeeded: AtomicU64,
    refused: Mutex<rank::Refused, BTreeMap<&'static str, u64>>,
    took_us: AtomicU64,
    within: [AtomicU64; WITHIN_US.len()],
    records: [AtomicU64; 4],
}

/// A copy of an operation's numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenOperation {
    /// Its name.
    pub name: &'static str,
    /// Calls that were answered.
    pub succeeded: u64,
    /// Calls that were refused, by the refusal's name.
    pub refused: Vec<(&'static str, u64)>,
    /// Time of all calls, microseconds.
    pub took_us: u64,
    /// Calls that took at most each of [`WITHIN_US`].
    pub within: [u64; WITHIN_US.len()],
    /// Records stored, throttled, failed and read.
    pub records: [u64; 4],
}

/// The operations of all doors that count theirs.
#[derive(Default)]
pub struct Operations(Mutex<rank::Operations, Vec<Arc<Operation>>>);

impl Operations {
    /// Counts an operation under `name` from now on.
    #[must_use]
    pub fn enrol(&self, name: &'static str) -> Arc<Operation> {
        let operation = Arc::new(Operation {
            name,
            succeeded: AtomicU64::new(0),
            refused: Mutex::default(),
            took_us: AtomicU64::new(0),
            within: Default::default(),
            records: Default::default(),
        });
        self.0.lock().push(Arc::clone(&operation));
        operation
    }

    /// Those that were ever called, as they stand.
    pub(super) fn seen(&self) -> Vec<SeenOperation> {
        let all = self.0.lock();
        all.iter().map(|operation| operation.seen()).filter(|seen| seen.calls() > 0).collect()
    }
}

impl Operation {
    /// Counts a call that took `took`; `refusal` is the name of what it got instead of an answer.
    pub fn ended(&self, took: Duration, refusal: Option<&'static str>) {
        match refusal {
            None => _ = self.succeeded.fetch_add(1, Ordering::Relaxed),
            Some(name) => {
                let mut refused = self.refused.lock();
                *refused.entry(name).or_default() += 1;
            }
        }
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.took_us.fetch_add(us, Ordering::Relaxed);
        if let Some(class) = self.within.get(WITHIN_US.partition_point(|most| *most < us)) {
            class.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts records of a call.
    pub fn records(&self, fate: Fate, count: usize) {
        if let Some(counter) = self.records.get(fate as usize) {
            counter.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    fn seen(&self) -> SeenOperation {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut within = self.within.each_ref().map(load);
        let mut sum = 0;
        for class in &mut within {
            sum += *class;
            *class = sum;
        }
        let refused = self.refused.lock();
        SeenOperation {
            name: self.name,
            succeeded: load(&self.succeeded),
            refused: refused.iter().map(|(name, count)| (*name, *count)).collect(),
            took_us: load(&self.took_us),
            within,
            records: self.records.each_ref().map(load),
        }
    }
}

impl SeenOperation {
    /// Calls in all.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.succeeded + self.refused.iter().map(|(_, count)| count).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_outcome_and_time_and_records_by_fate() {
        let operations = Operations::default();
        let put = operations.enrol("Put");
        let _never_called = operations.enrol("Get");
        put.ended(Duration::from_micros(250), None);
        put.ended(Duration::from_micros(251), Some("Throttled"));
        put.ended(Duration::from_secs(60), Some("Throttled"));
        put.records(Fate::Stored, 3);
        put.records(Fate::Throttled, 2);
        let mut within = [2; WITHIN_US.len()];
        within[0] = 1;
        let expected = SeenOperation {
            name: "Put",
            succeeded: 1,
            refused: vec![("Throttled", 2)],
            took_us: 60_000_501,
            within,
            records: [3, 2, 0, 0],
        };
        assert_eq!(operations.seen(), [expected]);
    }
}
