//! Latencies in logarithmic buckets: fixed memory, one shift and one add per sample.
//!
//! Invariant: a reported percentile is at most 1/64 above the true one (64 buckets per power of two).
//! Deliberately absent: subtraction, decay, anything below a nanosecond.

use std::time::Duration;

/// Buckets per power of two.
const STEPS: usize = 64;
/// Covers 1 ns to 2^40 ns (18 minutes); what lasts longer lands in the last bucket.
const BUCKETS: usize = 36 * STEPS;

/// A histogram of durations.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: Duration,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max: Duration::ZERO }
    }

    pub(super) fn record(&mut self, sample: Duration) {
        let at = bucket(u64::try_from(sample.as_nanos()).unwrap_or(u64::MAX));
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.total += 1;
        self.max = self.max.max(sample);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    pub(super) fn count(&self) -> u64 {
        self.total
    }

    pub(super) fn max_ms(&self) -> f64 {
        self.max.as_secs_f64() * 1e3
    }

    /// The smallest bucket bound that at least `quantile` (0 to 1) of the samples do not exceed, in ms.
    pub(super) fn quantile_ms(&self, quantile: f64) -> f64 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures for people")]
        let rank = ((self.total as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return (upper_ns(at) / 1e6).min(self.max_ms());
            }
        }
        self.max_ms()
    }
}

/// Values below `STEPS` have a bucket each; above, the top six bits after the leading one choose.
fn bucket(ns: u64) -> usize {
    let at = if ns < STEPS as u64 {
        ns
    } else {
        let shift = 63 - u64::from(ns.leading_zeros()) - 6;
        (shift + 1) * STEPS as u64 + ((ns >> shift) - STEPS as u64)
    };
    usize::try_from(at).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

/// The largest value that lands in bucket `at`, ns.
#[allow(clippy::cast_precision_loss, reason = "bounds need no more than 53 bits")]
fn upper_ns(at: usize) -> f64 {
    if at < STEPS {
        return at as f64;
    }
    let shift = at / STEPS - 1;
    (((at % STEPS + STEPS + 1) as u64) << shift) as f64 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_percentile_is_within_a_64th_of_the_truth() {
        let mut histogram = Histogram::new();
        for us in 1..=100_000u64 {
            histogram.record(Duration::from_micros(us));
        }
        for quantile in [0.5, 0.9, 0.99, 0.999] {
            let truth = 100.0 * quantile;
            let told = histogram.quantile_ms(quantile);
            assert!(told >= truth && told <= truth * (1.0 + 1.0 / 64.0), "{quantile}: {told} for {truth}");
        }
        assert_eq!(histogram.max_ms(), 100.0);
        assert_eq!(histogram.count(), 100_000);
    }

    #[test]
    fn every_value_lies_in_the_bucket_that_bounds_it() {
        for ns in (0..200).chain([1_000, 65_535, 65_536, 1 << 30, (1 << 40) - 1]) {
            let at = bucket(ns);
            assert!(ns as f64 <= upper_ns(at), "{ns}");
            assert!(at == 0 || ns as f64 > upper_ns(at - 1), "{ns}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn merging_counts_every_sample_of_both() {
        let (mut a, mut b) = (Histogram::new(), Histogram::new());
        a.record(Duration::from_millis(1));
        b.record(Duration::from_millis(9));
        a.merge(&b);
        assert_eq!(a.count(), 2);
        assert_eq!(a.quantile_ms(1.0), 9.0);
    }

    #[test]
    fn an_empty_histogram_has_no_latency() {
        assert_eq!(Histogram::new().quantile_ms(0.99), 0.0);
    }
}
