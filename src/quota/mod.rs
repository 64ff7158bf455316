//! Token buckets with debt: the arithmetic of limits. Time is passed in; a verdict comes out; nothing sleeps.
//!
//! A bucket holds one second of its rate and is one atomic number: the time at which it will be full again (GCRA's
//! theoretical arrival time), in nanoseconds. Every charge moves that time ahead by what the units take to
//! flow in; a time more than a second ahead of now is debt. No lock, no timer, nothing to refill.
//! A rate that is raised counts at once, for a debt too; one that is lowered counts for what comes from then on.
//! Invariant: concurrent charges add up exactly; a clock that steps back grants nothing.
//! Deliberately absent: clocks, waiting, what a unit is.

pub mod clients;
pub mod plan;
mod steady;
#[cfg(test)]
mod tests;

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

pub use steady::Steady;

/// What a full bucket holds, as the time that it takes to fill an empty one.
const CAPACITY_NS: u64 = NS_PER_SECOND;
const NS_PER_SECOND: u64 = 1_000_000_000;

/// Units per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(NonZeroU64);

/// A token bucket. A new one is full.
#[derive(Debug, Default)]
pub struct Bucket {
    full_at_ns: AtomicU64,
    /// Units per second that it was last charged at; 0 before the first time.
    rate: AtomicU64,
}

/// Whether something may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may, and was charged.
    Admitted,
    /// It may not, and was not charged.
    Refused {
        /// When it would be admitted if nothing else came.
        wait_ns: u64,
    },
}

impl Rate {
    /// A rate; none for what switches a limit off (below 1).
    #[must_use]
    pub fn new(per_second: i64) -> Option<Self> {
        u64::try_from(per_second).ok().and_then(NonZeroU64::new).map(Self)
    }

    /// Units per second.
    #[must_use]
    pub fn per_second(self) -> u64 {
        self.0.get()
    }

    /// How long `units` take to flow in, rounded up: small units on a fast bucket must cost something.
    fn time_ns(self, units: u64) -> u64 {
        match units.checked_mul(NS_PER_SECOND) {
            Some(scaled) => scaled.div_ceil(self.0.get()),
            None => {
                let scaled = u128::from(units) * u128::from(NS_PER_SECOND);
                u64::try_from(scaled.div_ceil(u128::from(self.0.get()))).unwrap_or(u64::MAX)
            }
        }
    }
}

impl Bucket {
    /// Takes `units` when they are there. More than a full bucket holds passes when it is full, and leaves a debt.
    pub fn take(&self, rate: Rate, units: u64, now_ns: u64) -> Verdict {
        self.follow(rate, now_ns);
        let time = rate.time_ns(units);
        let most = now_ns.saturating_add(CAPACITY_NS - time.min(CAPACITY_NS));
        let mut present = self.full_at_ns.load(Ordering::Relaxed);
        loop {
            if present > most {
                return Verdict::Refused { wait_ns: present - most };
            }
            match self.advance(present, time, now_ns) {
                Ok(_) => return Verdict::Admitted,
                Err(other) => present = other,
            }
        }
    }

    /// Charges `units`, into debt if need be; how long until something is there again.
    pub fn charge(&self, rate: Rate, units: u64, now_ns: u64) -> u64 {
        self.follow(rate, now_ns);
        let time = rate.time_ns(units);
        let mut present = self.full_at_ns.load(Ordering::Relaxed);
        loop {
            match self.advance(present, time, now_ns) {
                Ok(full_at) => return wait(full_at, now_ns),
                Err(other) => present = other,
            }
        }
    }

    /// How long until something is there: 0 when something is.
    #[must_use]
    pub fn wait_ns(&self, rate: Rate, now_ns: u64) -> u64 {
        self.follow(rate, now_ns);
        wait(self.full_at_ns.load(Ordering::Relaxed), now_ns)
    }

    /// Returns units that were taken for something that did not happen.
    pub fn give_back(&self, rate: Rate, units: u64) {
        let time = rate.time_ns(units);
        // Below now is as full as at now.
        let _ = self
            .full_at_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |present| Some(present.saturating_sub(time)));
    }

    /// How much of a full bucket is there, in thousandths; negative is debt.
    #[must_use]
    pub fn fill_permille(&self, now_ns: u64) -> i64 {
        let ahead = self.full_at_ns.load(Ordering::Relaxed).saturating_sub(now_ns);
        let missing = i64::try_from(ahead / (CAPACITY_NS / 1000)).unwrap_or(i64::MAX);
        1000_i64.saturating_sub(missing)
    }

    /// What is missing is there sooner if the rate was raised.
    fn follow(&self, rate: Rate, now_ns: u64) {
        let (last, rate) = (self.rate.load(Ordering::Relaxed), rate.per_second());
        if last == rate {
            return;
        }
        let is_mine = self.rate.compare_exchange(last, rate, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_mine && last != 0 && last < rate {
            let scaled = |ahead: u64| u128::from(ahead) * u128::from(last) / u128::from(rate);
            let _ = self.full_at_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |present| {
                let ahead = present.checked_sub(now_ns)?;
                now_ns.checked_add(u64::try_from(scaled(ahead)).ok()?)
            });
        }
    }

    fn advance(&self, present: u64, time: u64, now_ns: u64) -> Result<u64, u64> {
        let next = present.max(now_ns).saturating_add(time);
        let swap = self.full_at_ns.compare_exchange_weak(present, next, Ordering::Relaxed, Ordering::Relaxed);
        swap.map(|_| next)
    }
}

/// Time from `now_ns` until a bucket that is full at `full_at_ns` holds more than nothing.
fn wait(full_at_ns: u64, now_ns: u64) -> u64 {
    let empty_until = now_ns.saturating_add(CAPACITY_NS);
    if full_at_ns < empty_until { 0 } else { (full_at_ns - empty_until).saturating_add(1) }
}
