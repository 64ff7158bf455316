//! Laws of the buckets, over generated loads.

use std::sync::Arc;
use std::thread;

use proptest::prelude::*;

use super::*;

const SECOND: u64 = NS_PER_SECOND;
/// Some time that is not zero, as real ones are.
const START: u64 = 1_700_000_000 * SECOND;

fn rate(per_second: u64) -> Rate {
    Rate::new(i64::try_from(per_second).unwrap()).unwrap()
}

/// What was accepted, and when.
type Accepted = Vec<(u64, u64)>;

/// The most and the least that was accepted in any window of `length` that lies between `from` and `until`.
fn windows(accepted: &Accepted, length: u64, from: u64, until: u64) -> (u64, u64) {
    let (mut most, mut least) = (0, u64::MAX);
    for (start, _) in accepted.iter().filter(|(at, _)| *at >= from && at + length <= until) {
        let sum =
            accepted.iter().filter(|(at, _)| (*start..start + length).contains(at)).map(|(_, n)| n).sum();
        most = most.max(sum);
        least = least.min(sum);
    }
    (most, least)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Everybody asks for three times the rate and takes a refusal for an answer.
    #[test]
    fn what_is_admitted_follows_the_rate_whatever_the_sizes(
        per_second in 200u64..50_000_000,
        shares in prop::collection::vec(1u64..200, 40),
        gaps in prop::collection::vec(50u64..150, 40),
    ) {
        let (rate, bucket) = (rate(per_second), Bucket::default());
        let (mut now, end, mut accepted) = (START, START + 25 * SECOND, Accepted::new());
        let mut at = 0;
        while now < end {
            // At most a twentieth of the rate; the gap makes it three times too much.
            let units = (per_second * shares[at % 40] / 4000).max(1);
            now += units * SECOND / per_second * gaps[at % 40] / 300 + 1;
            if bucket.take(rate, units, now) == Verdict::Admitted {
                accepted.push((now, units));
            }
            at += 1;
        }
        let (most, _) = windows(&accepted, SECOND, START, end);
        prop_assert!(most <= 2 * per_second, "{most} in a second at {per_second}");
        // The first seconds use up what the full bucket held.
        let (most, least) = windows(&accepted, 10 * SECOND, START + 2 * SECOND, end);
        prop_assert!(most * 100 <= 1010 * per_second && least * 100 >= 990 * per_second, "{least}..{most} at {per_second}");
    }

    /// A client that sends whatever it has and then waits as long as it is told.
    #[test]
    fn a_client_that_waits_as_told_gets_the_rate(
        per_second in 1_000u64..50_000_000,
        shares in prop::collection::vec(1u64..100, 40),
    ) {
        let (rate, bucket) = (rate(per_second), Bucket::default());
        let (mut now, end, mut accepted) = (START, START + 25 * SECOND, Accepted::new());
        let mut at = 0;
        while now < end {
            let units = (per_second * shares[at % 40] / 1000).max(1);
            now += bucket.charge(rate, units, now);
            accepted.push((now, units));
            at += 1;
        }
        let (most, least) = windows(&accepted, 10 * SECOND, START + 2 * SECOND, end);
        prop_assert!(most * 100 <= 1010 * per_second && least * 100 >= 990 * per_second, "{least}..{most} at {per_second}");
    }

    /// Whatever the clock does, no more passes than the time that went forward allows.
    #[test]
    fn a_clock_that_steps_back_grants_nothing(
        steps in prop::collection::vec(-3_000_000_000i64..3_000_000_000, 1..60),
    ) {
        let (rate, bucket) = (rate(1000), Bucket::default());
        let (mut now, mut latest, mut passed) = (START, START, 0);
        while bucket.take(rate, 10, now) == Verdict::Admitted {
            passed += 10;
        }
        for step in steps {
            now = now.saturating_add_signed(step);
            latest = latest.max(now);
            while bucket.take(rate, 10, now) == Verdict::Admitted {
                passed += 10;
            }
        }
        prop_assert!(passed <= 1000 + (latest - START) / 1_000_000);
    }

    #[test]
    fn a_steady_clock_never_goes_back_and_keeps_the_pace(
        steps in prop::collection::vec(prop_oneof![0i64..2000, -10_000_000i64..0], 1..60),
    ) {
        let steady = Steady::default();
        let mut wall = 1_700_000_000_000i64;
        let first = steady.ns(wall);
        let (mut last, mut forward) = (first, 0);
        for step in steps {
            wall += step;
            forward += u64::try_from(step).unwrap_or(0);
            let now = steady.ns(wall);
            prop_assert!(now >= last);
            last = now;
        }
        // What a step within the jitter swallows is not caught up on.
        prop_assert!((last - first) / 1_000_000 <= forward);
    }
}

#[test]
fn time_goes_on_at_once_after_the_wall_clock_stepped_back_an_hour() {
    let (steady, rate, bucket) = (Steady::default(), rate(1000), Bucket::default());
    let wall = 1_700_000_000_000;
    assert_eq!(bucket.take(rate, 1000, steady.ns(wall)), Verdict::Admitted);
    let back = wall - 3_600_000;
    assert!(matches!(bucket.take(rate, 100, steady.ns(back)), Verdict::Refused { .. }));
    assert_eq!(bucket.take(rate, 100, steady.ns(back + 100)), Verdict::Admitted);
    assert!(matches!(bucket.take(rate, 100, steady.ns(back + 101)), Verdict::Refused { .. }));
}

#[test]
fn more_than_a_bucket_holds_passes_when_it_is_full_and_is_paid_for() {
    let (rate, bucket) = (rate(1_048_576), Bucket::default());
    assert_eq!(bucket.take(rate, 10 * 1_048_576, START), Verdict::Admitted);
    // Ten seconds' worth were taken, one was there.
    assert_eq!(bucket.wait_ns(rate, START), 9 * SECOND + 1);
    assert_eq!(bucket.fill_permille(START), -9000);
    let small = |at| bucket.take(rate, 1024, at);
    assert!(matches!(small(START + 9 * SECOND), Verdict::Refused { wait_ns } if wait_ns < SECOND / 100));
    assert_eq!(small(START + 9 * SECOND + SECOND / 100), Verdict::Admitted);
    assert!(matches!(bucket.take(rate, 2 * 1_048_576, START + 10 * SECOND), Verdict::Refused { .. }));
    assert_eq!(bucket.take(rate, 2 * 1_048_576, START + 11 * SECOND), Verdict::Admitted);
}

#[test]
fn a_rate_that_is_raised_counts_for_the_debt_and_one_that_is_lowered_for_what_comes() {
    let (slow, fast) = (rate(1000), rate(1_000_000));
    let bucket = Bucket::default();
    assert_eq!(bucket.charge(slow, 501_000, START), 500 * SECOND + 1);
    assert_eq!(bucket.wait_ns(fast, START), 0, "half a second's worth is missing");
    assert_eq!(bucket.fill_permille(START), 499);
    assert_eq!(bucket.take(fast, 499_000, START), Verdict::Admitted);
    assert!(matches!(bucket.take(fast, 1_001, START), Verdict::Refused { .. }));
    assert_eq!(
        bucket.wait_ns(slow, START),
        1,
        "nobody waits a quarter of an hour for a rate that was allowed"
    );
    assert_eq!(bucket.charge(slow, 1000, START), SECOND + 1);
    assert_eq!(bucket.wait_ns(rate(2000), START), 1, "the second behind the bucket's own is half of one");
}

#[test]
fn the_wait_of_a_refusal_is_exact() {
    let (rate, bucket) = (rate(1000), Bucket::default());
    assert_eq!(bucket.take(rate, 1000, START), Verdict::Admitted);
    let Verdict::Refused { wait_ns } = bucket.take(rate, 7, START) else { panic!("the bucket is empty") };
    assert!(matches!(bucket.take(rate, 7, START + wait_ns - 1), Verdict::Refused { wait_ns: 1 }));
    assert_eq!(bucket.take(rate, 7, START + wait_ns), Verdict::Admitted);
}

#[test]
fn what_is_given_back_can_be_taken_again() {
    let (rate, bucket) = (rate(1000), Bucket::default());
    assert_eq!(bucket.take(rate, 1000, START), Verdict::Admitted);
    bucket.give_back(rate, 400);
    assert!(matches!(bucket.take(rate, 401, START), Verdict::Refused { .. }));
    assert_eq!(bucket.take(rate, 400, START), Verdict::Admitted);
}

#[test]
fn concurrent_charges_add_up_exactly() {
    const EACH: u64 = 50_000;
    let (rate, bucket) = (rate(1000), Arc::new(Bucket::default()));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let bucket = Arc::clone(&bucket);
            thread::spawn(move || (0..EACH).map(|_| bucket.charge(rate, 3, START)).max())
        })
        .collect();
    assert!(threads.into_iter().all(|t| t.join().unwrap() > Some(0)));
    // 600,000 units of 1 ms each, less the second that was there.
    assert_eq!(bucket.wait_ns(rate, START), (4 * EACH * 3 - 1000) * 1_000_000 + 1);
}

#[test]
fn concurrent_takers_get_what_is_there_and_not_one_more() {
    let (rate, bucket) = (rate(10_000), Arc::new(Bucket::default()));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let bucket = Arc::clone(&bucket);
            thread::spawn(move || {
                (0..10_000).filter(|_| bucket.take(rate, 1, START) == Verdict::Admitted).count()
            })
        })
        .collect();
    let taken: usize = threads.into_iter().map(|t| t.join().unwrap()).sum();
    assert_eq!(taken, 10_000);
}

#[test]
fn a_limit_below_one_is_none() {
    assert_eq!(Rate::new(-1), None);
    assert_eq!(Rate::new(0), None);
    assert_eq!(Rate::new(5).map(Rate::per_second), Some(5));
}

#[test]
fn huge_units_saturate() {
    let bucket = Bucket::default();
    assert_eq!(bucket.take(rate(1), u64::MAX, START), Verdict::Admitted);
    assert!(bucket.charge(rate(1), u64::MAX, START) > 1 << 60);
}
