//! A clock that does not step back, made of one that may.
//!
//! Buckets count in time: after a step back of the wall clock by an hour, every bucket would look an hour in debt.
//! Invariant: what comes out never goes back, and goes on at the wall's pace after a step.
//! Deliberately absent: reading a clock.

use std::sync::atomic::{AtomicI64, Ordering};

/// Callers that read the clock and come here late are not a step back.
const JITTER_MS: i64 = 1000;

/// Turns wall-clock milliseconds into ones that never go back.
#[derive(Debug, Default)]
pub struct Steady {
    /// The largest that came out.
    last_ms: AtomicI64,
    /// By how much the wall clock has stepped back in all.
    ahead_ms: AtomicI64,
}

impl Steady {
    /// Nanoseconds for a bucket, at the wall clock's `wall_ms`.
    pub fn ns(&self, wall_ms: i64) -> u64 {
        u64::try_from(self.ms(wall_ms)).unwrap_or(0).saturating_mul(1_000_000)
    }

    fn ms(&self, wall_ms: i64) -> i64 {
        let ahead = self.ahead_ms.load(Ordering::Relaxed);
        let now = wall_ms.saturating_add(ahead);
        let last = self.last_ms.load(Ordering::Relaxed);
        if now > last {
            return self.last_ms.fetch_max(now, Ordering::Relaxed).max(now);
        }
        let step = last.saturating_sub(now);
        if step > JITTER_MS {
            // Whoever sees it first says so; the others see what was said.
            let _ = self.ahead_ms.compare_exchange(
                ahead,
                ahead.saturating_add(step),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
        last
    }
}
