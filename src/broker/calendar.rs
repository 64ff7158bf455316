//! The wall clock as far as it is believed: what expires by its age must not go because somebody set the clock.
//!
//! Rule: an age of `window` is measured by the least that the wall clock has been ahead of the steady one during the last
//! `window`. So nothing that was stamped in this life goes before it has really been there that long, wherever the clock
//! jumps to and back, and a clock that was set right is believed once it has stood for as long as the age in question.
//! At the start the wall clock is believed: nobody knows what passed before.
//! Invariant: the entries rise, in time as in what they say, and there are at most [`ENTRIES_MAX`] of them.
//! Deliberately absent: reading a clock.

use crate::lock::{Mutex, rank};

/// A clock that gains less than this was not set.
const STEP_MS: i64 = 1_000;
/// Jumps forward that are told apart; of more, the least is forgotten.
const ENTRIES_MAX: usize = 64;

/// What the wall clock has done in this life.
#[derive(Debug, Default)]
pub(super) struct Calendar(Mutex<rank::Calendar, Vec<Entry>>);

/// From a steady time on, until the next entry, the wall clock was ahead by at least this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    since_ms: i64,
    ahead_ms: i64,
}

impl Calendar {
    /// Takes a look at the clocks.
    pub(super) fn look(&self, steady_ms: i64, wall_ms: i64) {
        look(&mut self.0.lock(), steady_ms, wall_ms);
    }

    /// The time by which an age of `window_ms` is measured; never past `wall_ms`. Milliseconds since the epoch.
    pub(super) fn believed_ms(&self, steady_ms: i64, wall_ms: i64, window_ms: i64) -> i64 {
        let mut entries = self.0.lock();
        look(&mut entries, steady_ms, wall_ms);
        let from_ms = steady_ms.saturating_sub(window_ms.max(0));
        // Each entry holds until the next begins: the first that still held in the window is the least.
        let passed = entries.iter().skip(1).take_while(|next| next.since_ms < from_ms).count();
        let ahead_ms = entries.get(passed).map_or(0, |entry| entry.ahead_ms);
        steady_ms.saturating_add(ahead_ms).min(wall_ms)
    }
}

fn look(entries: &mut Vec<Entry>, steady_ms: i64, wall_ms: i64) {
    let ahead_ms = wall_ms.saturating_sub(steady_ms);
    let mut since_ms = steady_ms;
    while let Some(last) = entries.last().filter(|last| last.ahead_ms >= ahead_ms) {
        // The clock went back: what it said meanwhile is forgotten.
        since_ms = last.since_ms;
        entries.pop();
    }
    if entries.last().is_none_or(|last| ahead_ms.saturating_sub(last.ahead_ms) >= STEP_MS) {
        entries.push(Entry { since_ms, ahead_ms });
    }
    if entries.len() > ENTRIES_MAX {
        let rise = |at: &usize| match (entries.get(at - 1), entries.get(*at)) {
            (Some(before), Some(entry)) => entry.ahead_ms - before.ahead_ms,
            _ => i64::MAX,
        };
        // What it said begins to count later then: the careful side.
        if let Some(least) = (1..entries.len()).min_by_key(rise) {
            entries.remove(least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;
    const WALL_MS: i64 = 1_700_000_000_000;

    /// Looks every ten seconds for so long, with the wall clock ahead by `ahead_ms`; the steady time then.
    fn pass(calendar: &Calendar, from_ms: i64, for_ms: i64, ahead_ms: i64) -> i64 {
        for at_ms in (from_ms..=from_ms + for_ms).step_by(10_000) {
            calendar.look(at_ms, at_ms + ahead_ms);
        }
        from_ms + for_ms
    }

    #[test]
    fn a_clock_that_nobody_sets_is_believed() {
        let calendar = Calendar::default();
        let now_ms = pass(&calendar, 5, DAY_MS, WALL_MS);
        assert_eq!(calendar.believed_ms(now_ms, now_ms + WALL_MS, DAY_MS), now_ms + WALL_MS);
        // A clock that is slewed is followed, a step behind at most.
        let mut ahead_ms = WALL_MS;
        for n in 0..20_000 {
            ahead_ms += 5;
            let now_ms = now_ms + n * 10_000;
            let believed_ms = calendar.believed_ms(now_ms, now_ms + ahead_ms, 3_600_000);
            let behind_ms = now_ms + ahead_ms - believed_ms;
            assert!((0..STEP_MS + 2_000).contains(&behind_ms), "{behind_ms} behind after {n} looks");
        }
        assert!(calendar.0.lock().len() <= ENTRIES_MAX);
    }

    #[test]
    fn a_jump_forward_counts_once_it_is_as_old_as_the_age_that_is_asked_for() {
        let calendar = Calendar::default();
        let jumped_ms = pass(&calendar, 0, DAY_MS, WALL_MS);
        let ahead_ms = WALL_MS + 30 * DAY_MS;
        let now_ms = pass(&calendar, jumped_ms, 3_600_000, ahead_ms);
        let wall_ms = now_ms + ahead_ms;
        assert_eq!(calendar.believed_ms(now_ms, wall_ms, 7 * DAY_MS), now_ms + WALL_MS, "not for a week");
        assert_eq!(calendar.believed_ms(now_ms, wall_ms, 1_800_000), wall_ms, "but for half an hour");
        let now_ms = pass(&calendar, now_ms, 7 * DAY_MS, ahead_ms);
        assert_eq!(calendar.believed_ms(now_ms, now_ms + ahead_ms, 7 * DAY_MS), now_ms + ahead_ms);
    }

    #[test]
    fn a_step_back_counts_at_once_and_undoes_what_was_said_meanwhile() {
        let calendar = Calendar::default();
        let jumped_ms = pass(&calendar, 0, DAY_MS, WALL_MS);
        let now_ms = pass(&calendar, jumped_ms, DAY_MS, WALL_MS + DAY_MS);
        assert_eq!(calendar.believed_ms(now_ms, now_ms + WALL_MS - DAY_MS, 0), now_ms + WALL_MS - DAY_MS);
        let now_ms = pass(&calendar, now_ms, 3_600_000, WALL_MS);
        assert_eq!(calendar.believed_ms(now_ms, now_ms + WALL_MS, 0), now_ms + WALL_MS);
        assert_eq!(calendar.believed_ms(now_ms, now_ms + WALL_MS, DAY_MS), now_ms + WALL_MS - DAY_MS);
    }

    /// Whatever the clock does, a thing stamped with it is never older by the calendar than it is.
    #[test]
    fn nothing_is_older_than_it_is() {
        let mut random = 7_u64;
        let mut below = move |n: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((random >> 33) % n).cast_signed()
        };
        let calendar = Calendar::default();
        let (mut now_ms, mut ahead_ms) = (0, WALL_MS);
        let mut stamped = Vec::new();
        for _ in 0..20_000 {
            now_ms += below(20_000);
            if below(50) == 0 {
                ahead_ms += below(200_000) - 100_000;
            }
            calendar.look(now_ms, now_ms + ahead_ms);
            stamped.push((now_ms, now_ms + ahead_ms));
            let (at_ms, stamp_ms) =
                stamped[stamped.len() - 1 - below(stamped.len().min(500) as u64) as usize];
            let age_ms = now_ms - at_ms;
            for window_ms in [age_ms + 1, age_ms + 100_000] {
                let believed_ms = calendar.believed_ms(now_ms, now_ms + ahead_ms, window_ms);
                assert!(believed_ms - stamp_ms < window_ms, "{age_ms} old, but {}", believed_ms - stamp_ms);
            }
        }
        assert!(calendar.0.lock().len() <= ENTRIES_MAX);
    }
}
