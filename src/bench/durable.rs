//! acks=all beside what the disk allows: one sync can serve all requests in flight, so n of them are worth
//! n times the rate at which this machine appends and syncs n batches.
//!
//! Invariant: the raw loop runs before and after each broker run, in the same minute, since a shared disk
//! drifts; the ratio is of medians over rounds. Deliberately absent: any claim when the broker does not
//! sync (Apache Kafka by default): its ratio then only shows that.

use std::time::Duration;

use super::floor;
use super::load::Window;
use super::produce::{self, Shape};
use super::progress::Progress;
use super::report::Line;
use super::topics::{self, Topics};
use super::{Codec, Error, Options};

/// Broker runs per number of requests in flight; odd, for a median.
const ROUNDS: usize = 3;
/// Connections that the requests in flight spread over, at most.
const CONNECTIONS: usize = 16;

/// One line for each of 1, 16 and 256 requests in flight, or for the one that was asked for.
pub(super) fn run(
    options: &Options,
    progress: &Progress,
    print: &mut dyn FnMut(Line) -> Result<(), Error>,
) -> Result<(), Error> {
    let depths = options.in_flight.map_or(vec![1, 16, 256], |depth| vec![depth.max(1)]);
    for depth in depths {
        print(one(options, depth, progress)?)?;
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn one(options: &Options, depth: usize, progress: &Progress) -> Result<Line, Error> {
    let connections = options.connections.unwrap_or(depth.min(CONNECTIONS)).clamp(1, depth);
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
    let time = Duration::from_secs_f64(options.seconds.unwrap_or(1.5).clamp(0.1, 60.0));
    let window = Window { warm_up: time / 10, min: time, max: time, ..options.window() };
    let block = shape.batch_bytes.saturating_mul(depth);
    let (mut raw, mut rates) = (vec![floor::syncs_per_s(&options.disk_dir, block, time / 2)?], Vec::new());
    let (mut sent, mut last) = (0, None);
    for _ in 0..ROUNDS {
        let (payload, outcome) = produce::drive(options, &shape, &topic, window, progress)?;
        sent += outcome.all_requests * u64::try_from(payload.records).unwrap_or(0);
        rates.push(outcome.requests as f64 / outcome.seconds);
        last = Some((payload, outcome));
        raw.push(floor::syncs_per_s(&options.disk_dir, block, time / 2)?);
    }
    let held = topics::end(&mut super::conn::Conn::open(options.addr)?, &topic, shape.partitions)?;

    let allowed = median(&mut raw) * depth as f64;
    let reached = median(&mut rates);
    let mut line = Line::new("durable");
    line.integer("requests_in_flight", depth);
    shape.describe(&mut line);
    if let Some((payload, outcome)) = &last {
        produce::figures(&mut line, outcome, payload.value_bytes);
    }
    line.number("median_requests_per_s", reached).number("disk_syncs_per_s", allowed / depth as f64);
    line.number("disk_allows_requests_per_s", allowed).number("ratio", reached / allowed);
    line.flag("verified", u64::try_from(held).is_ok_and(|held| held == sent));
    Ok(line)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
    let lower = values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(upper);
    f64::midpoint(lower, upper)
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
}
