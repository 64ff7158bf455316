//! Many partitions: until all can be used, what they weigh, and the first record into each.
//!
//! Deliberately absent: restarting the broker (`usable` watches while another does).

use std::time::{Duration, Instant};

use super::apis;
use super::conn::Conn;
use super::process::Usage;
use super::report::Line;
use super::topics::{self, Topics};
use super::{Codec, Error, Options, payload};

/// Partitions per topic.
const EACH: i32 = 1000;
/// How long a restarted broker may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Produce requests in flight while every partition gets its first record.
const DEPTH: usize = 5;

/// Creates 10 topics of 1,000 partitions, or as many topics as `partitions` ask for.
pub(super) fn run(options: &Options) -> Result<Line, Error> {
    let wanted = options.partitions.unwrap_or(10_000).clamp(1, 1_000_000);
    let each = wanted.min(EACH);
    let count = wanted / each;
    let all = count * each;
    let before = Usage::of_option(options.pid)?;
    let began = Instant::now();
    let made = Topics::create(options.addr, "partitions", usize::try_from(count).unwrap_or(1), each)?;
    let mut conn = Conn::open(options.addr)?;
    if let Some(last) = made.names.last() {
        topics::put_one(&mut conn, last, each - 1)?;
    }
    let usable_s = began.elapsed().as_secs_f64();
    let after = Usage::of_option(options.pid)?;

    let version = conn.version(apis::METADATA)?;
    let asked = Instant::now();
    let led = apis::metadata_answer(version, conn.call(&mut apis::metadata(version, Some(&made.names)))?)?;
    let metadata_ms = asked.elapsed().as_secs_f64() * 1e3;
    let touched = Instant::now();
    for topic in &made.names {
        touch(&mut conn, topic, each)?;
    }
    let touch_s = touched.elapsed().as_secs_f64();
    let mut held = 0;
    for topic in &made.names {
        held += topics::end(&mut conn, topic, each)?;
    }

    let mut line = Line::new("partitions");
    line.integer("partitions", all).number("create_s", usable_s).number("metadata_ms", metadata_ms);
    line.number("first_record_each_s", touch_s).usage(before.zip(after));
    if let Some((before, after)) = before.zip(after) {
        let written = Usage::of_option(options.pid)?.unwrap_or(after);
        let kb = |now: f64| (now - before.anon_mb) * 1e3 / f64::from(all);
        line.number("anon_kb_each", kb(after.anon_mb)).number("anon_kb_each_written", kb(written.anon_mb));
    }
    line.flag("verified", led == usize::try_from(all).unwrap_or(0) && held == i64::from(all) + 1);
    if options.keep_topics {
        made.keep();
    }
    Ok(line)
}

/// Waits, from now on, until the broker is there and `partitions` have leaders.
pub(super) fn usable(options: &Options) -> Result<Line, Error> {
    let wanted = options.partitions.unwrap_or(10_000).clamp(1, 1_000_000);
    let began = Instant::now();
    let led = loop {
        let led = led(options).unwrap_or(0);
        if led >= usize::try_from(wanted).unwrap_or(0) || began.elapsed() > PATIENCE {
            break led;
        }
        topics::pause(began)?;
    };
    let mut line = Line::new("usable");
    line.integer("partitions", wanted).number("usable_s", began.elapsed().as_secs_f64());
    if let Some(usage) = Usage::of_option(options.pid)? {
        line.number("cpu_s", usage.cpu_s).number("rss_after_mb", usage.rss_mb);
    }
    line.flag("verified", led >= usize::try_from(wanted).unwrap_or(0));
    Ok(line)
}

/// How many partitions of all topics have a leader.
fn led(options: &Options) -> Result<usize, Error> {
    let mut conn = Conn::open(options.addr)?;
    let version = conn.version(apis::METADATA)?;
    apis::metadata_answer(version, conn.call(&mut apis::metadata(version, None))?)
}

/// One record into each partition of `topic`.
fn touch(conn: &mut Conn, topic: &str, partitions: i32) -> Result<(), Error> {
    let version = conn.version(apis::PRODUCE)?;
    let batch = payload::batch(100, 1, Codec::None, None)?;
    let mut waiting = 0;
    for partition in 0..partitions {
        let (mut frame, _) = apis::produce(version, topic, partition, 1, &batch.bytes);
        conn.send(&mut frame)?;
        waiting += 1;
        if waiting == DEPTH {
            apis::produce_answer(version, conn.receive()?)?;
            waiting -= 1;
        }
    }
    for _ in 0..waiting {
        apis::produce_answer(version, conn.receive()?)?;
    }
    Ok(())
}
