//! Fetch from offset 0 of what has just been written, by one consumer that asks as clients do: 1 MiB of a
//! partition, 50 MiB in all, the next request behind the last answer.
//!
//! Invariant: before the clock runs, one pass checks every batch's CRC-32C and that offsets follow each
//! other to the end. The timed passes look at batch headers only. GB counts batches as sent.
//! Deliberately absent: fetch sessions, and a cold page cache.

use std::time::{Duration, Instant};

use crate::batch::Header;

use super::apis::{self, FetchFrom};
use super::conn::Conn;
use super::histogram::Histogram;
use super::load::Window;
use super::process::Usage;
use super::produce::{self, Shape};
use super::progress::Progress;
use super::report::Line;
use super::topics::{self, Topics};
use super::{Error, Options, payload};

/// What is written before it is read, unless `max_bytes` is less.
const WRITTEN_BYTES: u64 = 1_000_000_000;

/// Writes up to 1 GB, then reads it again and again until the window is over.
pub(super) fn run(options: &Options, progress: &Progress) -> Result<Line, Error> {
    let shape = Shape {
        record_bytes: options.record_bytes.unwrap_or(1024).clamp(1, 1 << 20),
        batch_bytes: options.batch_bytes.unwrap_or(16 << 10).min(16 << 20),
        codec: options.codec,
        acks: 1,
        idempotent: false,
        in_flight: 5,
        connections: 1,
        partitions: 1,
    };
    let (_topics, topic) = Topics::one(options.addr, "fetch", 1)?;
    let bytes = options.max_bytes.min(WRITTEN_BYTES);
    let second = Duration::from_secs(60);
    let window =
        Window { warm_up: Duration::ZERO, min: second, max: second, max_bytes: bytes, ..options.window() };
    let (payload, written) = produce::drive(options, &shape, &topic, window, progress)?;
    let mut consumer = Consumer::open(options, &topic)?;
    let end = topics::end(&mut consumer.conn, &topic, 1)?;
    let records = written.all_requests * u64::try_from(payload.records).unwrap_or(0);
    let verified = consumer.verify(end)? && u64::try_from(end).is_ok_and(|end| end == records);

    let mut line = Line::new("fetch");
    shape.describe(&mut line);
    line.integer("version", consumer.version).integer(
        "written_bytes",
        written.all_requests.saturating_mul(u64::try_from(payload.bytes.len()).unwrap_or(0)),
    );
    consumer.timed(options.window(), end, &mut line, progress)?;
    line.flag("verified", verified);
    Ok(line)
}

/// A consumer of one partition; knows only the offset it wants next.
pub(super) struct Consumer<'a> {
    pub(super) conn: Conn,
    topic: &'a str,
    version: i16,
    pub(super) offset: i64,
}

impl<'a> Consumer<'a> {
    pub(super) fn open(options: &Options, topic: &'a str) -> Result<Self, Error> {
        let conn = Conn::open(options.addr)?;
        Ok(Self { version: conn.version(apis::FETCH)?, conn, topic, offset: 0 })
    }

    /// One fetch; `each` sees every whole batch. The bytes of the answer's records.
    pub(super) fn fetch(&mut self, each: &mut dyn FnMut(&Header, &[u8])) -> Result<usize, Error> {
        let from = FetchFrom {
            topic: self.topic,
            partition: 0,
            offset: self.offset,
            max_wait_ms: 500,
            partition_max_bytes: 1 << 20,
        };
        let answer = self.conn.call(&mut apis::fetch(self.version, from))?;
        let records = apis::fetch_answer(self.version, answer)?;
        let mut rest = records;
        while let Some(header) = Header::read(rest)
            && let Some((batch, behind)) = header.total_bytes().and_then(|total| rest.split_at_checked(total))
        {
            each(&header, batch);
            self.offset = header.next_offset();
            rest = behind;
        }
        Ok(records.len() - rest.len())
    }

    /// Whether all batches up to `end` are whole, sound and without a gap.
    fn verify(&mut self, end: i64) -> Result<bool, Error> {
        let (mut sound, mut next) = (true, 0);
        while self.offset < end && sound {
            let bytes = self.fetch(&mut |header, batch| {
                sound &= header.base_offset == next && payload::crc(batch) == header.crc;
                next = header.next_offset();
            })?;
            sound &= bytes > 0;
        }
        Ok(sound && next == end)
    }

    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    fn timed(&mut self, window: Window, end: i64, line: &mut Line, progress: &Progress) -> Result<(), Error> {
        let before = Usage::of_option(window.pid)?;
        let (began, mut latency) = (Instant::now(), Histogram::new());
        let (mut bytes, mut requests, mut after) = (0u64, 0u64, before);
        loop {
            self.offset = 0;
            while self.offset < end {
                let sent = Instant::now();
                let got = self.fetch(&mut |_, _| ())?;
                latency.record(sent.elapsed());
                bytes += u64::try_from(got).unwrap_or(0);
                requests += 1;
                progress.tick(|| format!("{} MB", bytes / 1_000_000));
            }
            after = Usage::of_option(window.pid)?.or(after);
            let spent =
                before.zip(after).is_none_or(|(before, after)| after.cpu_s - before.cpu_s >= window.cpu_s);
            if end == 0 || began.elapsed() >= window.max || (spent && began.elapsed() >= window.min) {
                break;
            }
        }
        let (seconds, gb) = (began.elapsed().as_secs_f64(), bytes as f64 / 1e9);
        line.number("seconds", seconds).integer("requests", requests);
        line.number("requests_per_s", requests as f64 / seconds).number("mb_per_s", gb * 1e3 / seconds);
        line.latency(&latency).usage(before.zip(after));
        if let (Some(before), Some(after)) = (before, after) {
            line.number("cpu_s_per_gb", (after.cpu_s - before.cpu_s) / gb);
        }
        Ok(())
    }
}
