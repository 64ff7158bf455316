//! How many shards a load takes, and which limit of a shard decides: arithmetic before anything is made.
//!
//! Source of the numbers: the service's quotas of a provisioned shard, which are what `shard.quota.profile=kinesis` sets.
//! Invariant: with so many shards, and keys that spread evenly, every limit holds; with one less, one does not.
//! Deliberately absent: what a topic is really limited to, skew of keys.

use thiserror::Error;

const WRITE_BYTES: u64 = 1 << 20;
const WRITE_RECORDS: u64 = 1_000;
const READ_BYTES: u64 = 2 << 20;
const READ_CALLS: u64 = 5;
/// Most records that one call brings. Its 10 MiB are no limit of their own: five of them are more than `READ_BYTES`.
const RECORDS_PER_CALL: u64 = 10_000;

/// Largest record of the service.
const RECORD_BYTES_MAX: u64 = 10 << 20;
/// Of one stream, as the service has it.
const FAN_OUT_MAX: u64 = 20;
/// Beyond that a consumer polls so rarely that its iterators, which live 300 s, are close to their end.
const POLLING_MAX: u64 = 1_000;
/// What a topic may have (`max.partitions.per.topic`).
const SHARDS_MAX: u64 = 10_000;

/// What is written to a stream, and who reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Key and value of a record.
    pub record_bytes: u64,
    /// How many of them are written.
    pub records_per_second: u64,
    /// Applications that each read everything.
    pub consumers: u64,
    /// Whether each of them has a limit of its own, and is pushed to.
    pub fan_out: bool,
}

/// What one limit takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// What is limited.
    pub what: What,
    /// What the stream asks for, units per second.
    pub asked: u128,
    /// What a shard allows, units per second.
    pub per_shard: u64,
}

/// What a limit of a shard counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Bytes written.
    WriteBytes,
    /// Records written.
    WriteRecords,
    /// Bytes read: by all polling consumers together, or by one with fan-out.
    ReadBytes,
    /// Records that calls to read bring to all polling consumers.
    ReadRecords,
}

/// How many shards a load takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// That many.
    pub shards: u64,
    /// The one of `needs` that decides.
    pub decides: Need,
    /// Every limit that counts.
    pub needs: Vec<Need>,
    /// Bytes per second into the stream.
    pub in_bytes: u128,
    /// Bytes per second out of it, to all consumers.
    pub out_bytes: u128,
    /// How often each polling consumer may ask a shard, at best.
    pub poll_ms: Option<u64>,
}

/// A load that no stream has.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Absurd {
    /// Nothing, or more than a record holds.
    #[error("a record has 1 to {RECORD_BYTES_MAX} bytes")]
    RecordBytes,
    /// Nothing is written.
    #[error("at least 1 record per second is written")]
    Records,
    /// Nobody reads, or more than can take turns.
    #[error(
        "1 to {POLLING_MAX} consumers share a shard: each may read it every (consumers / {READ_CALLS}) seconds"
    )]
    Consumers,
    /// Nobody reads, or more than a stream has.
    #[error("a stream has 1 to {FAN_OUT_MAX} consumers with fan-out")]
    FanOut,
    /// More than a topic has.
    #[error("that takes {0} shards, and a topic has at most {SHARDS_MAX}")]
    Shards(u128),
}

impl Need {
    /// Shards that it takes.
    #[must_use]
    pub fn shards(&self) -> u128 {
        self.asked.div_ceil(self.per_shard.into()).max(1)
    }

    /// How much of the limit is used with so many shards, rounded up.
    #[must_use]
    pub fn used_percent(&self, shards: u64) -> u128 {
        (self.asked * 100).div_ceil(u128::from(self.per_shard) * u128::from(shards.max(1)))
    }
}

/// Plans the shards of a stream.
///
/// # Errors
/// [`Absurd`].
pub fn plan(load: &Load) -> Result<Plan, Absurd> {
    if !(1..=RECORD_BYTES_MAX).contains(&load.record_bytes) {
        return Err(Absurd::RecordBytes);
    }
    if load.records_per_second == 0 {
        return Err(Absurd::Records);
    }
    if load.fan_out && !(1..=FAN_OUT_MAX).contains(&load.consumers) {
        return Err(Absurd::FanOut);
    }
    if !load.fan_out && !(1..=POLLING_MAX).contains(&load.consumers) {
        return Err(Absurd::Consumers);
    }
    // 24 bits times 64 times 10: it fits.
    let records = u128::from(load.records_per_second);
    let in_bytes = records * u128::from(load.record_bytes);
    let sharing = if load.fan_out { 1 } else { u128::from(load.consumers) };
    let need = |what, asked, per_shard| Need { what, asked, per_shard };
    let first = need(What::WriteBytes, in_bytes, WRITE_BYTES);
    let mut needs = vec![
        first,
        need(What::WriteRecords, records, WRITE_RECORDS),
        need(What::ReadBytes, in_bytes * sharing, READ_BYTES),
    ];
    if !load.fan_out {
        needs.push(need(What::ReadRecords, records * sharing, READ_CALLS * RECORDS_PER_CALL));
    }
    // The one that is used most: a / b > c / d.
    let tighter = |a: &Need, b: &Need| a.asked * u128::from(b.per_shard) > b.asked * u128::from(a.per_shard);
    let decides = needs.iter().fold(first, |best, need| if tighter(need, &best) { *need } else { best });
    let shards = u64::try_from(decides.shards()).ok().filter(|shards| *shards <= SHARDS_MAX);
    let shards = shards.ok_or(Absurd::Shards(decides.shards()))?;
    let poll_ms = (!load.fan_out).then_some(load.consumers * 1_000 / READ_CALLS);
    let out_bytes = in_bytes * u128::from(load.consumers);
    Ok(Plan { shards, decides, needs, in_bytes, out_bytes, poll_ms })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::quota::{Bucket, NS_PER_SECOND, Rate, Verdict};

    fn load(record_bytes: u64, records_per_second: u64, consumers: u64, fan_out: bool) -> Load {
        Load { record_bytes, records_per_second, consumers, fan_out }
    }

    /// Shards, what decides, and the polling interval.
    fn outcome(load: Load) -> (u64, What, Option<u64>) {
        let plan = plan(&load).unwrap();
        (plan.shards, plan.decides.what, plan.poll_ms)
    }

    #[test]
    fn each_limit_decides_where_it_is_the_tightest() {
        use What::{ReadBytes, ReadRecords, WriteBytes, WriteRecords};
        for (load, expected) in [
            (load(140, 5_000, 2, false), (5, WriteRecords, Some(400))),
            (load(140, 5_000, 2, true), (5, WriteRecords, None)),
            (load(1_048, 1_000, 1, false), (1, WriteRecords, Some(200))),
            (load(1_049, 1_000, 1, false), (2, WriteBytes, Some(200))),
            (load(1 << 20, 10, 2, false), (10, WriteBytes, Some(400))),
            (load(1 << 20, 10, 3, false), (15, ReadBytes, Some(600))),
            (load(1 << 20, 10, 3, true), (10, WriteBytes, None)),
            (load(1_000, 100, 30, false), (2, ReadBytes, Some(6_000))),
            // Each polls every 20 s, when twice as many records wait as a call brings.
            (load(1, 10_000, 100, false), (20, ReadRecords, Some(20_000))),
            (load(10 << 20, 1, 1, false), (10, WriteBytes, Some(200))),
            (load(1, 1, 1, false), (1, WriteRecords, Some(200))),
        ] {
            assert_eq!(outcome(load), expected, "{load:?}");
        }
    }

    #[test]
    fn what_flows_in_comes_out_once_per_consumer_and_says_how_much_is_used() {
        let plan = plan(&load(140, 5_000, 2, false)).unwrap();
        assert_eq!((plan.in_bytes, plan.out_bytes), (700_000, 1_400_000));
        let used: Vec<_> = plan.needs.iter().map(|need| (need.shards(), need.used_percent(5))).collect();
        assert_eq!(used, [(1, 14), (5, 100), (1, 14), (1, 4)]);
    }

    #[test]
    fn nothing_and_too_much_are_refused() {
        for (load, refusal) in [
            (load(0, 1, 1, false), Absurd::RecordBytes),
            (load((10 << 20) + 1, 1, 1, false), Absurd::RecordBytes),
            (load(1, 0, 1, false), Absurd::Records),
            (load(1, 1, 0, false), Absurd::Consumers),
            (load(1, 1, 1_001, false), Absurd::Consumers),
            (load(1, 1, 0, true), Absurd::FanOut),
            (load(1, 1, 21, true), Absurd::FanOut),
            (load(1, 10_000_001, 1, false), Absurd::Shards(10_001)),
            (
                load(10 << 20, u64::MAX, 1_000, false),
                Absurd::Shards(u128::from(u64::MAX) * (10 << 20) * 1_000 / (2 << 20)),
            ),
        ] {
            assert_eq!(plan(&load), Err(refusal), "{load:?}");
        }
        assert_eq!(plan(&load(1, 10_000_000, 1, false)).unwrap().shards, 10_000);
    }

    proptest! {
        /// Enough for every limit, and one less would not be.
        #[test]
        fn so_many_are_enough_and_one_less_is_not(
            record_bytes in 1u64..20_000, records in 1u64..400_000, consumers in 1u64..20, fan_out: bool,
        ) {
            let Ok(plan) = plan(&load(record_bytes, records, consumers, fan_out)) else { return Ok(()) };
            let holds = |shards: u64| {
                plan.needs.iter().all(|need| need.asked <= u128::from(need.per_shard) * u128::from(shards))
            };
            prop_assert!(holds(plan.shards));
            prop_assert!(plan.shards == 1 || !holds(plan.shards - 1));
            let most = plan.needs.iter().map(Need::shards).max();
            prop_assert_eq!(most, Some(u128::from(plan.shards)));
            prop_assert_eq!(plan.decides.shards(), u128::from(plan.shards));
            prop_assert!(plan.needs.iter().all(|need| need.used_percent(plan.shards) <= 100));
        }

        /// The buckets of a shard admit what the plan sends to it, second after second.
        #[test]
        fn the_buckets_of_a_shard_admit_what_it_is_sent(
            record_bytes in 1u64..20_000, records in 1u64..400_000, consumers in 1u64..20,
        ) {
            let Ok(plan) = plan(&load(record_bytes, records, consumers, false)) else { return Ok(()) };
            for need in &plan.needs {
                let rate = Rate::new(i64::try_from(need.per_shard).unwrap()).unwrap();
                let bucket = Bucket::default();
                for second in 1..20 {
                    let units = u64::try_from(need.asked / u128::from(plan.shards)).unwrap();
                    prop_assert_eq!(bucket.take(rate, units, second * NS_PER_SECOND), Verdict::Admitted);
                }
            }
        }

        /// More of anything never takes fewer shards, and a limit of one's own never more.
        #[test]
        fn more_takes_no_fewer(
            record_bytes in 1u64..20_000, records in 1u64..400_000, consumers in 1u64..19, more in 1u64..50,
        ) {
            let shards = |load: Load| plan(&load).map_or(u64::MAX, |plan| plan.shards);
            let base = shards(load(record_bytes, records, consumers, false));
            prop_assert!(base <= shards(load(record_bytes + more, records, consumers, false)));
            prop_assert!(base <= shards(load(record_bytes, records + more, consumers, false)));
            prop_assert!(base <= shards(load(record_bytes, records, consumers + more, false)));
            prop_assert!(shards(load(record_bytes, records, consumers, true)) <= base);
        }
    }
}
