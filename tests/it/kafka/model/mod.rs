//! Random steps against a broker and against a tiny model of it, which must agree after every one.
//!
//! The broker is the binary, so that a kill is a kill. Invariant: one seed is one run, step for step; a
//! failure prints its seed and its last steps, and `WEIR_SEED` runs that seed alone.
//! Deliberately absent: group members (src/group's own model has them), concurrency (`fetch.rs`, `idempotence.rs`).

mod state;
mod steps;

use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use steps::Run;

/// Steps of one seed; about three seconds in a debug build.
const STEPS: usize = 500;

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0 up to and without `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let rolled = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16;
        (rolled % bound as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

fn run(seed: u64) {
    let mut run = Run::start(seed);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        (0..STEPS).for_each(|_| run.step());
        run.finish();
    }));
    if let Err(panic) = outcome {
        eprintln!("WEIR_SEED={seed} fails at step {}; the last ones were", run.log.len());
        run.log.iter().rev().take(25).rev().for_each(|line| eprintln!("  {line}"));
        eprintln!("the broker says\n{}", run.last_words());
        resume_unwind(panic);
    }
}

#[test]
fn whatever_is_asked_the_broker_and_the_model_agree() {
    if let Ok(seed) = std::env::var("WEIR_SEED") {
        return run(seed.parse().unwrap());
    }
    // Two that are always the same, and one that nobody has seen.
    let seeds = [1, 2, RandomState::new().hash_one(0) >> 32];
    std::thread::scope(|scope| seeds.map(|seed| scope.spawn(move || run(seed))).map(|t| t.join().unwrap()));
}
