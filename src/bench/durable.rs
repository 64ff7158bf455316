//! acks=all beside what the disk allows: one sync can serve all requests in flight, so n of them are worth
//! n times the rate at which this machine appends and syncs n batches.
//!
//! Invariant: short windows of the raw loop and of the broker alternate, because a shared disk changes its
//! speed tenfold within seconds; the ratio is the median over the pairs, each broker window beside the raw
//! ones next to it. Deliberately absent: any claim when the broker does not sync (Apache Kafka by default):
//! its ratio then only shows that.

use std::time::Duration;

use super::floor::Appender;
use super::histogram::Histogram;
use super::load::{Outcome, Window};
use super::process::Usage;
use super::produce::{self, Shape};
use super::progress::Progress;
use super::report::Line;
use super::topics::{self, Topics};
use super::{Codec, Error, Options};

/// Broker windows per line.
const PAIRS: usize = 15;
/// Requests in flight in all, and the connections that they spread over.
const LAYOUTS: [(usize, usize); 5] = [(1, 1), (16, 1), (16, 16), (256, 1), (256, 16)];
/// Connections when only the requests in flight were given, at most.
const CONNECTIONS: usize = 16;

/// One line for each layout, or for the one that was asked for.
pub(super) fn run(
    options: &Options,
    progress: &Progress,
    print: &mut dyn FnMut(Line) -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(depth) = options.in_flight.map(|depth| depth.max(1)) else {
        return LAYOUTS.into_iter().try_for_each(|layout| print(one(options, layout, progress)?));
    };
    let connections = options.connections.unwrap_or(depth.min(CONNECTIONS)).clamp(1, depth);
    print(one(options, (depth, connections), progress)?)
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn one(options: &Options, (depth, connections): (usize, usize), progress: &Progress) -> Result<Line, Error> {
    let shape = Shape {
        record_bytes: options.record_bytes.unwrap_or(1024).clamp(1, 1 << 20),
        batch_bytes: options.batch_bytes.unwrap_or(16 << 10).min(16 << 20),
        codec: Codec::None,
        acks: -1,
        idempotent: false,
        in_flight: depth.div_ceil(connections),
        connections,
        partitions: options.partitions(),
    };
    let (_topics, topic) = Topics::one(options.addr, "durable", shape.partitions)?;
    let time = Duration::from_secs_f64(options.seconds.unwrap_or(0.2).clamp(0.05, 60.0));
    let window = Window { warm_up: time / 10, min: time, max: time, ..options.window() };
    let block = shape.batch_bytes.saturating_mul(depth);
    let mut appender = Appender::open(&options.disk_dir)?;
    let mut raw = vec![appender.syncs_per_s(block, time)?];
    let (mut rates, mut sent, mut value_bytes) = (Vec::new(), 0, 0);
    let before = Usage::of_option(options.pid)?;
    let mut whole =
        Outcome { seconds: 0.0, requests: 0, all_requests: 0, latency: Histogram::new(), usage: None };
    for _ in 0..PAIRS {
        let (payload, outcome) = produce::drive(options, &shape, &topic, window, progress)?;
        sent += outcome.all_requests * u64::try_from(payload.records).unwrap_or(0);
        rates.push(outcome.requests as f64 / outcome.seconds);
        value_bytes = payload.value_bytes;
        whole.seconds += outcome.seconds;
        whole.requests += outcome.requests;
        whole.latency.merge(&outcome.latency);
        raw.push(appender.syncs_per_s(block, time)?);
    }
    whole.usage = before.zip(Usage::of_option(options.pid)?);
    let held = topics::end(&mut super::conn::Conn::open(options.addr)?, &topic, shape.partitions)?;

    let mut ratios: Vec<f64> = rates
        .iter()
        .zip(raw.windows(2))
        .map(|(rate, beside)| rate / (beside.iter().sum::<f64>() / beside.len() as f64 * depth as f64))
        .collect();
    let mut line = Line::new("durable");
    line.integer("requests_in_flight", depth);
    shape.describe(&mut line);
    produce::figures(&mut line, &whole, value_bytes);
    line.number("median_requests_per_s", median(&mut rates)).number("disk_syncs_per_s", median(&mut raw));
    line.number("disk_allows_requests_per_s", median(&mut raw) * depth as f64);
    line.integer("pairs", ratios.len()).number("ratio", median(&mut ratios));
    line.number("ratio_low", quartile(&ratios, 1)).number("ratio_high", quartile(&ratios, 3));
    line.flag("verified", u64::try_from(held).is_ok_and(|held| held == sent));
    Ok(line)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
    let lower = values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(upper);
    f64::midpoint(lower, upper)
}

/// The value below which `n` quarters of the sorted `values` lie.
fn quartile(values: &[f64], n: usize) -> f64 {
    values.get(values.len() * n / 4).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&mut [9.0, 1.0, 2.0]), 2.0);
        assert!(median(&mut []).is_nan());
    }

    #[test]
    fn quartiles_lie_around_the_median() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
        assert_eq!((quartile(&values, 1), quartile(&values, 3)), (2.0, 6.0));
        assert!(quartile(&[], 1).is_nan());
    }
}
