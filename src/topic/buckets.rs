//! What the open shard of a partition has left of its limits.
//!
//! Deliberately absent: whom a limit holds up (`partition.rs`), the arithmetic (`quota`).

use super::{Error, Limit, Result, TopicConfig};
use crate::quota::{Bucket, Rate, Verdict};

/// What the open shard of a partition has left of its limits.
#[derive(Debug, Default)]
pub struct Buckets {
    /// Bytes written.
    pub write_bytes: Bucket,
    /// Records written.
    pub write_records: Bucket,
    /// Bytes read.
    pub read_bytes: Bucket,
    /// Read calls.
    pub read_calls: Bucket,
}

impl Buckets {
    /// Charges what was written, into debt; how long until it is paid.
    pub(super) fn charge_write(&self, config: &TopicConfig, now_ns: u64, bytes: u64, records: u64) -> u64 {
        let wait =
            |bucket: &Bucket, rate: Option<Rate>, units| rate.map_or(0, |r| bucket.charge(r, units, now_ns));
        let of_bytes = wait(&self.write_bytes, config.shard_write_bytes, bytes);
        of_bytes.max(wait(&self.write_records, config.shard_write_records, records))
    }

    /// Takes for one thing of `bytes` with `records` records, or says which limit is used up.
    ///
    /// # Errors
    /// [`Error::Throttled`]; nothing was taken then.
    pub(super) fn take_write(
        &self,
        config: &TopicConfig,
        now_ns: u64,
        bytes: u64,
        records: u64,
    ) -> Result<()> {
        take(&self.write_records, config.shard_write_records, records, now_ns, Limit::WriteRecords)?;
        take(&self.write_bytes, config.shard_write_bytes, bytes, now_ns, Limit::WriteBytes)
            .inspect_err(|_| give_back(&self.write_records, config.shard_write_records, records))
    }

    /// Returns what [`Buckets::take_write`] took for something that was not written.
    pub(super) fn give_back_write(&self, config: &TopicConfig, bytes: u64, records: u64) {
        give_back(&self.write_bytes, config.shard_write_bytes, bytes);
        give_back(&self.write_records, config.shard_write_records, records);
    }
}

fn give_back(bucket: &Bucket, rate: Option<Rate>, units: u64) {
    if let Some(rate) = rate {
        bucket.give_back(rate, units);
    }
}

/// Rounded up: nobody comes back too early.
pub(super) fn milliseconds(ns: u64) -> u32 {
    u32::try_from(ns.div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

/// Takes `units` from a bucket that has a limit.
fn take(bucket: &Bucket, rate: Option<Rate>, units: u64, now_ns: u64, limit: Limit) -> Result<()> {
    match rate.map(|rate| bucket.take(rate, units, now_ns)) {
        None | Some(Verdict::Admitted) => Ok(()),
        Some(Verdict::Refused { wait_ns }) => {
            Err(Error::Throttled { limit, wait_ms: wait_ns.div_ceil(1_000_000) })
        }
    }
}
