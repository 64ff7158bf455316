//! End to end at a fixed rate: one message per request on one connection, one long-polling consumer.
//!
//! Invariant: latency counts from the moment a message was due, not from when it was sent, so that a broker
//! that stalls the sender cannot hide it (coordinated omission). A message's due time follows from its
//! offset alone: the topic is fresh, the producer is one. Deliberately absent: batching by the producer.

use std::thread;
use std::time::{Duration, Instant};

use super::conn::Conn;
use super::fetch::Consumer;
use super::histogram::Histogram;
use super::process::{self, Usage};
use super::progress::Progress;
use super::report::Line;
use super::topics::Topics;
use super::{Codec, Error, Options, apis, payload};

/// Messages due at once that one write carries at most.
const BURST: usize = 256;

/// The open loop's clock: message `n` is due at `start + n * interval`.
#[derive(Clone, Copy)]
struct Schedule {
    start: Instant,
    interval: Duration,
    messages: u32,
}

impl Schedule {
    fn due(&self, message: u32) -> Instant {
        self.start + self.interval * message
    }
}

/// Sends and receives `rate` messages a second; the first tenth is warm-up and not counted.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures for people")]
pub(super) fn run(options: &Options, progress: &Progress) -> Result<Line, Error> {
    let record_bytes = options.record_bytes.unwrap_or(100).clamp(1, 1 << 20);
    let rate = options.rate.clamp(1, 1_000_000);
    let seconds = options.seconds.unwrap_or(10.0).clamp(0.1, 600.0);
    let (_topics, topic) = Topics::one(options.addr, "e2e", 1)?;
    let batch = payload::batch(record_bytes, 1, Codec::None, None)?;
    let sender = Conn::open(options.addr)?;
    let version = sender.version(apis::PRODUCE)?;
    let (frame, _) = apis::produce(version, &topic, 0, options.acks, &batch.bytes);
    let mut consumer = Consumer::open(options, &topic)?;
    let (sender, receiver) = sender.split()?;

    let interval = Duration::from_secs(1) / rate;
    let messages = (seconds * f64::from(rate)) as u32;
    let schedule = Schedule { start: Instant::now() + Duration::from_millis(50), interval, messages };
    let before = Usage::of_option(options.pid)?;
    let (latency, verified) = thread::scope(|scope| {
        let sending = scope.spawn(|| send(sender, &frame, schedule));
        let acks =
            scope.spawn(|| if options.acks == 0 { Ok(()) } else { take_acks(receiver, version, messages) });
        let seen = consume(&mut consumer, schedule, progress);
        for thread in [sending, acks] {
            thread.join().map_err(|_| Error::Protocol("a thread panicked".into()))??;
        }
        seen
    })?;
    let after = Usage::of_option(options.pid)?;

    let mut line = Line::new("e2e");
    line.integer("rate", rate).integer("record_bytes", record_bytes).integer("acks", options.acks);
    line.integer("messages", messages).latency(&latency).usage(before.zip(after));
    if let Some((before, after)) = before.zip(after) {
        line.number("cpu_us_per_message", (after.cpu_s - before.cpu_s) * 1e6 / f64::from(messages));
    }
    line.flag("verified", verified);
    Ok(line)
}

fn send(mut conn: Conn, frame: &[u8], schedule: Schedule) -> Result<(), Error> {
    process::wake_on_time();
    let mut next = 0;
    while next < schedule.messages {
        let now = Instant::now();
        if let Some(wait) = schedule.due(next).checked_duration_since(now) {
            thread::sleep(wait);
        }
        let now = Instant::now();
        let mut due = 0;
        while due < BURST && next < schedule.messages && schedule.due(next) <= now {
            due += 1;
            next += 1;
        }
        if due > 0 {
            conn.send_all(&vec![frame; due])?;
        }
    }
    Ok(())
}

fn take_acks(mut conn: Conn, version: i16, messages: u32) -> Result<(), Error> {
    for _ in 0..messages {
        apis::produce_answer(version, conn.receive()?)?;
    }
    Ok(())
}

/// Latencies of all but the first tenth, and whether every offset came once, in order.
fn consume(
    consumer: &mut Consumer<'_>,
    schedule: Schedule,
    progress: &Progress,
) -> Result<(Histogram, bool), Error> {
    let (mut latency, mut sound, mut next) = (Histogram::new(), true, 0i64);
    let patience = schedule.due(schedule.messages) + Duration::from_secs(30);
    while consumer.offset < i64::from(schedule.messages) {
        if Instant::now() > patience {
            return Ok((latency, false));
        }
        consumer.fetch(&mut |header, _| {
            let now = Instant::now();
            sound &= header.base_offset == next;
            for offset in header.base_offset..header.next_offset() {
                let message = u32::try_from(offset).unwrap_or(u32::MAX).min(schedule.messages);
                if message >= schedule.messages / 10 {
                    latency.record(now.saturating_duration_since(schedule.due(message)));
                }
            }
            next = header.next_offset();
        })?;
        progress.tick(|| format!("{} of {} messages", consumer.offset, schedule.messages));
    }
    Ok((latency, sound && next == i64::from(schedule.messages)))
}
