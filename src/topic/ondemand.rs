//! When a topic on demand splits a hot shard or merges two cold neighbours: samples in, at most one decision out.
//!
//! A shard is hot when every sample of the window lies above one rate, two neighbours are cold when they stay below
//! another together. A new shard has no samples, so nothing happens to it for a whole window.
//! Deliberately absent: clocks and timers, carrying it out, reading of configuration.

use std::collections::{BTreeMap, VecDeque};

use super::{Reshape, Shard, Shards};

/// Samples that make up the window.
pub const SAMPLES: usize = 6;

/// When to act. Rates are bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// A shard above this all the time is split.
    pub split_above: u64,
    /// Two neighbours below this together all the time are merged.
    pub merge_below: u64,
    /// No merge leaves fewer shards.
    pub min_shards: usize,
    /// No split leaves more shards.
    pub max_shards: usize,
}

/// What was written to the open shards of a topic lately.
#[derive(Debug, Default)]
pub struct History {
    at_ms: i64,
    shards: BTreeMap<u32, Samples>,
}

#[derive(Debug, Default)]
struct Samples {
    /// Bytes in all, at the last sample.
    written: u64,
    /// Bytes per second, oldest first.
    rates: VecDeque<u64>,
}

impl History {
    /// Takes a sample at `now_ms` of a time that does not jump: `written` says how many bytes a partition has taken since the
    /// start.
    pub fn sample(&mut self, shards: &Shards, now_ms: i64, written: &dyn Fn(i32) -> u64) {
        let elapsed_ms = u64::try_from(now_ms.saturating_sub(self.at_ms)).unwrap_or(0).max(1);
        self.at_ms = now_ms;
        self.shards.retain(|id, _| shards.by_id(*id).is_some_and(Shard::is_open));
        for shard in shards.open() {
            let total = written(shard.partition);
            match self.shards.get_mut(&shard.id) {
                None => {
                    drop(self.shards.insert(shard.id, Samples { written: total, rates: VecDeque::new() }))
                }
                Some(samples) => {
                    let bytes = total.saturating_sub(std::mem::replace(&mut samples.written, total));
                    samples.rates.push_back(bytes.saturating_mul(1000) / elapsed_ms);
                    if samples.rates.len() > SAMPLES {
                        samples.rates.pop_front();
                    }
                }
            }
        }
    }

    /// What to do now. `may_retire` says whether nobody would miss a partition that takes no more records.
    #[must_use]
    pub fn decide(
        &self,
        shards: &Shards,
        thresholds: Thresholds,
        may_retire: &dyn Fn(i32) -> bool,
    ) -> Option<Reshape> {
        let count = shards.open_count();
        if count < thresholds.max_shards
            && let Some(hot) = self.hottest(shards, thresholds.split_above)
        {
            return Some(Reshape::Split { shard: hot.id, start_hash: middle(hot) });
        }
        if count > thresholds.min_shards.max(1) {
            return self.coldest(shards, thresholds.merge_below, may_retire);
        }
        None
    }

    /// Highest and lowest rate of a whole window.
    fn extremes(&self, shard: &Shard) -> Option<(u64, u64)> {
        let rates = &self.shards.get(&shard.id).filter(|s| s.rates.len() == SAMPLES)?.rates;
        Some((*rates.iter().max()?, *rates.iter().min()?))
    }

    fn hottest<'a>(&self, shards: &'a Shards, above: u64) -> Option<&'a Shard> {
        let hot = shards.open().filter(|s| s.end_hash - s.start_hash >= 2);
        let hot = hot.filter_map(|s| Some((self.extremes(s)?.1, s))).filter(|(low, _)| *low > above);
        hot.max_by_key(|(low, _)| *low).map(|(_, shard)| shard)
    }

    fn coldest(&self, shards: &Shards, below: u64, may_retire: &dyn Fn(i32) -> bool) -> Option<Reshape> {
        let neighbours = shards.open().zip(shards.open().skip(1));
        let cold = neighbours.filter_map(|(one, other)| {
            let rate = self.extremes(one)?.0.saturating_add(self.extremes(other)?.0);
            // The second one's partition is the one that ends.
            let pair = if may_retire(other.partition) {
                (one.id, other.id)
            } else if may_retire(one.partition) {
                (other.id, one.id)
            } else {
                return None;
            };
            (rate < below).then_some((rate, pair))
        });
        let (_, (shard, adjacent)) = cold.min_by_key(|(rate, _)| *rate)?;
        Some(Reshape::Merge { shard, adjacent })
    }
}

fn middle(shard: &Shard) -> u128 {
    shard.start_hash + (shard.end_hash - shard.start_hash) / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds =
        Thresholds { split_above: 1000, merge_below: 200, min_shards: 2, max_shards: 4 };

    /// A topic that is written at given rates, ten seconds a sample.
    struct Toy {
        shards: Shards,
        partitions: i32,
        history: History,
        now_ms: i64,
        written: BTreeMap<i32, u64>,
    }

    impl Toy {
        fn new(partitions: i32) -> Self {
            let shards = Shards::uniform(partitions, 0);
            let mut toy =
                Self { shards, partitions, history: History::default(), now_ms: 5, written: BTreeMap::new() };
            toy.sample(&[]);
            toy
        }

        fn sample(&mut self, rates: &[u64]) {
            self.now_ms += 10_000;
            for (partition, rate) in (0..).zip(rates) {
                *self.written.entry(partition).or_default() += rate * 10;
            }
            let written = |p: i32| self.written.get(&p).copied().unwrap_or(0);
            self.history.sample(&self.shards, self.now_ms, &written);
        }

        fn window(&mut self, rates: &[u64]) {
            (0..SAMPLES).for_each(|_| self.sample(rates));
        }

        fn decide(&self) -> Option<Reshape> {
            self.history.decide(&self.shards, THRESHOLDS, &|_| true)
        }

        fn apply(&mut self, reshape: &Reshape) {
            let plan = self.shards.plan(self.partitions, reshape).unwrap();
            self.shards = self.shards.after(&plan, self.now_ms, &|_| 0);
            self.partitions = plan.partitions;
        }
    }

    #[test]
    fn the_hottest_is_split_in_the_middle_once_it_was_hot_for_a_whole_window() {
        let mut toy = Toy::new(2);
        for _ in 0..SAMPLES - 1 {
            toy.sample(&[1001, 2000]);
            assert_eq!(toy.decide(), None);
        }
        toy.sample(&[1001, 2000]);
        let split = Reshape::Split { shard: 1, start_hash: 3 << 126 };
        assert_eq!(toy.decide(), Some(split.clone()));
        toy.apply(&split);
        assert_eq!(toy.shards.open_count(), 3);
    }

    #[test]
    fn one_quiet_sample_starts_the_window_again() {
        let mut toy = Toy::new(2);
        toy.window(&[5000, 500]);
        toy.sample(&[1000, 500]);
        for _ in 0..SAMPLES - 1 {
            assert_eq!(toy.decide(), None);
            toy.sample(&[5000, 500]);
        }
        toy.sample(&[5000, 500]);
        assert!(matches!(toy.decide(), Some(Reshape::Split { shard: 0, .. })));
    }

    #[test]
    fn children_are_left_alone_for_a_window() {
        let mut toy = Toy::new(1);
        toy.window(&[9000]);
        let split = toy.decide().unwrap();
        toy.apply(&split);
        for _ in 0..=SAMPLES {
            assert_eq!(toy.decide(), None);
            toy.sample(&[4500, 4500]);
        }
        assert!(matches!(toy.decide(), Some(Reshape::Split { .. })));
    }

    #[test]
    fn the_coldest_neighbours_are_merged_down_to_the_least_and_not_below() {
        let mut toy = Toy::new(4);
        toy.window(&[150, 60, 30, 100]);
        let merge = Reshape::Merge { shard: 1, adjacent: 2 };
        assert_eq!(toy.decide(), Some(merge.clone()));
        toy.apply(&merge);
        assert_eq!(toy.decide(), None, "the child has no samples, and the others do not touch");
        toy.window(&[500, 60, 0, 100]);
        toy.sample(&[500, 60, 0, 100]);
        let merge = toy.decide().unwrap();
        assert_eq!(merge, Reshape::Merge { shard: 4, adjacent: 3 });
        toy.apply(&merge);
        toy.window(&[0, 0, 0, 0]);
        toy.sample(&[0, 0, 0, 0]);
        assert_eq!(toy.decide(), None, "two are the least");
    }

    #[test]
    fn a_partition_that_is_missed_is_not_retired() {
        let mut toy = Toy::new(3);
        toy.window(&[0, 0, 0]);
        let but = |kept: &'static [i32]| {
            toy.history.decide(&toy.shards, THRESHOLDS, &|partition| !kept.contains(&partition))
        };
        assert_eq!(but(&[1]), Some(Reshape::Merge { shard: 1, adjacent: 0 }));
        assert_eq!(but(&[0, 1]), Some(Reshape::Merge { shard: 1, adjacent: 2 }));
        assert_eq!(but(&[0, 1, 2]), None);
    }

    #[test]
    fn no_split_goes_past_the_most() {
        let mut toy = Toy::new(4);
        toy.window(&[9000, 9000, 9000, 9000]);
        assert_eq!(toy.decide(), None);
    }

    #[test]
    fn a_rate_between_the_thresholds_changes_nothing_for_ever() {
        let mut toy = Toy::new(3);
        for _ in 0..50 {
            toy.sample(&[900, 150, 60]);
            assert_eq!(toy.decide(), None);
        }
    }
}
