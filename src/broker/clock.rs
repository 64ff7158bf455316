//! The only clocks and the only randomness of the house, so that tests drive them.
//!
//! Two clocks: the wall's says when something happened, to people and across restarts, and may jump. Whatever waits,
//! or measures how long something took, counts in the steady one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

/// Where time and random ids come from.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's.
    #[default]
    System,
    /// A test's: time stands until it is moved, ids count up.
    Manual(Arc<Manual>),
}

/// State of a test's clock.
#[derive(Debug, Default)]
pub struct Manual {
    /// Milliseconds of both clocks.
    pub now_ms: AtomicI64,
    /// How far somebody has set the wall clock away from there. Milliseconds.
    pub set_by_ms: AtomicI64,
    /// Next id.
    pub next_id: AtomicU64,
}

impl Clock {
    /// Milliseconds since the epoch.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        match self {
            Self::System => {
                #[allow(
                    clippy::disallowed_methods,
                    reason = "this is the one place that reads the wall clock"
                )]
                let now = SystemTime::now();
                let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            }
            Self::Manual(manual) => {
                manual.now_ms.load(Ordering::Relaxed) + manual.set_by_ms.load(Ordering::Relaxed)
            }
        }
    }

    /// Milliseconds of a time that goes on evenly whatever becomes of the wall clock. Comparable within this life only.
    #[must_use]
    pub fn steady_ms(&self) -> i64 {
        match self {
            Self::System => {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
                now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000)
            }
            Self::Manual(manual) => manual.now_ms.load(Ordering::Relaxed),
        }
    }

    /// A fresh random id (version 4).
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        match self {
            Self::System => {
                let mut bytes = [0; 16];
                // The kernel's generator fails only before it is seeded at boot; ids then still differ by time.
                #[allow(clippy::disallowed_methods, reason = "this file is where randomness comes from")]
                if getrandom::fill(&mut bytes).is_err() {
                    bytes = u128::from(self.now_ms().unsigned_abs()).to_be_bytes();
                }
                uuid::Builder::from_random_bytes(bytes).into_uuid()
            }
            Self::Manual(manual) => {
                let n = manual.next_id.fetch_add(1, Ordering::Relaxed);
                uuid::Builder::from_random_bytes(u128::from(n).to_be_bytes()).into_uuid()
            }
        }
    }
}
