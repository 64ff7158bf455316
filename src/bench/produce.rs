//! Produce: pre-encoded batches, one partition per request, several requests in flight.
//!
//! Invariant: afterwards the partitions' end offsets add up to the records that were acknowledged.
//! Deliberately absent: waiting for batches to fill (they were filled before the clock started).

use super::apis;
use super::conn::Conn;
use super::load::{self, Drive, Lane, Outcome, Request, Window};
use super::payload::{self, Payload};
use super::progress::Progress;
use super::report::Line;
use super::topics::{self, Topics};
use super::{Codec, Error, Options, Scenario};

/// One produce load, its defaults filled in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) record_bytes: usize,
    pub(super) batch_bytes: usize,
    pub(super) codec: Codec,
    pub(super) acks: i16,
    pub(super) idempotent: bool,
    pub(super) in_flight: usize,
    pub(super) connections: usize,
    pub(super) partitions: i32,
}

impl Shape {
    /// What `options` ask of `scenario`.
    fn of(scenario: Scenario, options: &Options) -> Self {
        let one = scenario == Scenario::ProduceOne;
        Self {
            record_bytes: options.record_bytes.unwrap_or(if one { 100 } else { 1024 }).clamp(1, 1 << 20),
            batch_bytes: if one { 1 } else { options.batch_bytes.unwrap_or(16 << 10).min(16 << 20) },
            codec: options.codec,
            acks: options.acks,
            idempotent: options.idempotent,
            in_flight: options.in_flight.unwrap_or(if one { 1 } else { 5 }).max(1),
            connections: options.connections(),
            partitions: options.partitions(),
        }
    }

    /// Adds the parameters to a line.
    pub(super) fn describe(&self, line: &mut Line) {
        line.integer("record_bytes", self.record_bytes).integer("batch_bytes", self.batch_bytes);
        line.text("codec", self.codec.name()).integer("acks", self.acks).flag("idempotent", self.idempotent);
        line.integer("in_flight", self.in_flight).integer("connections", self.connections);
        line.integer("partitions", self.partitions);
    }
}

/// Runs `produce` or `produce-one`.
pub(super) fn run(scenario: Scenario, options: &Options, progress: &Progress) -> Result<Line, Error> {
    let shape = Shape::of(scenario, options);
    let (_topics, topic) = Topics::one(options.addr, scenario.name(), shape.partitions)?;
    let mut conn = Conn::open(options.addr)?;
    let (payload, outcome) = drive(options, &shape, &topic, options.window(), progress)?;
    let held = topics::end(&mut conn, &topic, shape.partitions)?;
    let sent = outcome.all_requests * u64::try_from(payload.records).unwrap_or(0);

    let mut line = Line::new(scenario.name());
    shape.describe(&mut line);
    line.integer("version", conn.version(apis::PRODUCE)?);
    figures(&mut line, &outcome, payload.value_bytes);
    line.flag("verified", u64::try_from(held).is_ok_and(|held| held == sent));
    Ok(line)
}

/// Sends until the window is over.
pub(super) fn drive(
    options: &Options,
    shape: &Shape,
    topic: &str,
    window: Window,
    progress: &Progress,
) -> Result<(Payload, Outcome), Error> {
    let payload = payload::batch(shape.record_bytes, shape.batch_bytes, shape.codec, None)?;
    let mut lanes = Vec::new();
    for number in 0..shape.connections {
        lanes.push(lane(Conn::open(options.addr)?, number, shape, topic, &payload)?);
    }
    let conn = Conn::open(options.addr)?;
    let (produce, list) = (conn.version(apis::PRODUCE)?, conn.version(apis::LIST_OFFSETS)?);
    let barrier = apis::list_offsets(list, topic, 1, apis::LATEST);
    let drive = Drive {
        depth: shape.in_flight,
        check: &|answer| apis::produce_answer(produce, answer).map(|_| ()),
        barrier: (shape.acks == 0).then_some(&barrier),
        progress,
    };
    Ok((payload, load::run(lanes, drive, window)?))
}

/// Connection `number` with a request for each of its partitions: every `connections`-th, or a shared one.
fn lane(mut conn: Conn, number: usize, shape: &Shape, topic: &str, plain: &Payload) -> Result<Lane, Error> {
    let version = conn.version(apis::PRODUCE)?;
    let mut payload = plain.clone();
    if shape.idempotent {
        let init = conn.version(apis::INIT_PRODUCER_ID)?;
        let answer = conn.call(&mut apis::init_producer_id(init))?;
        let producer = apis::init_producer_id_answer(init, answer)?;
        payload = payload::batch(shape.record_bytes, shape.batch_bytes, shape.codec, Some(producer))?;
    }
    let records = i32::try_from(payload.records).unwrap_or(i32::MAX);
    let partitions = usize::try_from(shape.partitions).unwrap_or(1);
    let mut mine: Vec<usize> = (number..partitions).step_by(shape.connections).collect();
    if mine.is_empty() {
        mine.push(number % partitions);
    }
    let requests = mine.into_iter().map(|partition| {
        let partition = i32::try_from(partition).unwrap_or(0);
        let (frame, at) = apis::produce(version, topic, partition, shape.acks, &payload.bytes);
        Request { frame, sequenced: shape.idempotent.then_some((at, records)) }
    });
    Ok(Lane { requests: requests.collect(), conn })
}

/// Rates, latencies and costs; `value_bytes` is what one request carries.
#[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
pub(super) fn figures(line: &mut Line, outcome: &Outcome, value_bytes: usize) {
    let requests = outcome.requests as f64;
    let gb = requests * value_bytes as f64 / 1e9;
    line.number("seconds", outcome.seconds).integer("requests", outcome.requests);
    line.number("requests_per_s", requests / outcome.seconds);
    if value_bytes > 0 {
        line.number("mb_per_s", gb * 1e3 / outcome.seconds);
    }
    line.latency(&outcome.latency).usage(outcome.usage);
    if let Some((before, after)) = outcome.usage {
        let cpu_s = after.cpu_s - before.cpu_s;
        line.number("cpu_us_per_request", cpu_s * 1e6 / requests);
        if value_bytes > 0 {
            line.number("cpu_s_per_gb", cpu_s / gb);
        }
    }
}
