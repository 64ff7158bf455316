//! The first record through a group that did not exist: what a test that starts a consumer waits for.
//!
//! Every repetition connects, negotiates, finds the coordinator, joins (twice, KIP-394), syncs, beats once,
//! asks for the committed and the first offset, and fetches. Invariant: the record arrives or the run fails.
//! Deliberately absent: a client library's own waiting, and a second member.

use std::thread;
use std::time::{Duration, Instant};

use super::apis::{self, Api};
use super::conn::Conn;
use super::fetch::Consumer;
use super::histogram::Histogram;
use super::process::Usage;
use super::progress::Progress;
use super::report::Line;
use super::topics::{self, Topics};
use super::{Error, Options};

/// COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR: ask again.
const NOT_YET: [i16; 3] = [14, 15, 16];
/// MEMBER_ID_REQUIRED: join again with the id from the answer.
const MEMBER_ID_REQUIRED: i16 = 79;
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `repeat` fresh groups; the first is told apart, it makes the broker build what all groups share.
pub(super) fn run(options: &Options, progress: &Progress) -> Result<Line, Error> {
    let (_topics, topic) = Topics::one(options.addr, "group", 1)?;
    topics::put_one(&mut Conn::open(options.addr)?, &topic, 0)?;
    let mut latency = Histogram::new();
    let mut first_ms = 0.0;
    let before = Usage::of_option(options.pid)?;
    for number in 0..=options.repeat.max(1) {
        let took = once(options, &topic, &format!("{topic}-{number}"))?;
        if number == 0 {
            first_ms = took.as_secs_f64() * 1e3;
        } else {
            latency.record(took);
        }
        progress.tick(|| format!("{number} groups"));
    }
    let mut line = Line::new("first-record");
    line.integer("repeat", options.repeat.max(1)).number("first_ms", first_ms).latency(&latency);
    line.usage(before.zip(Usage::of_option(options.pid)?));
    Ok(line)
}

fn once(options: &Options, topic: &str, group: &str) -> Result<Duration, Error> {
    let began = Instant::now();
    let mut consumer = Consumer::open(options, topic)?;
    let conn = &mut consumer.conn;
    settle(began, || {
        let version = conn.version(apis::FIND_COORDINATOR)?;
        let answer = conn.call(&mut apis::find_coordinator(version, group))?;
        apis::FIND_COORDINATOR.ok(apis::find_coordinator_answer(version, answer)?)
    })?;
    let (generation, member) = join(conn, group, topic, began)?;
    let version = conn.version(apis::SYNC_GROUP)?;
    coded(conn, apis::SYNC_GROUP, apis::sync_group(version, group, generation, &member, topic))?;
    let version = conn.version(apis::HEARTBEAT)?;
    coded(conn, apis::HEARTBEAT, apis::heartbeat(version, group, generation, &member))?;
    let version = conn.version(apis::OFFSET_FETCH)?;
    let committed =
        apis::offset_fetch_answer(version, conn.call(&mut apis::offset_fetch(version, group, topic))?)?;
    let version = conn.version(apis::LIST_OFFSETS)?;
    let mut earliest = apis::list_offsets(version, topic, 1, apis::EARLIEST);
    let start = apis::list_offsets_answer(version, conn.call(&mut earliest)?)?;
    consumer.offset = if committed >= 0 { committed } else { start };
    while consumer.offset < 1 {
        consumer.fetch(&mut |_, _| ())?;
        if began.elapsed() > PATIENCE {
            return Err(Error::Protocol("the record did not arrive".into()));
        }
    }
    let took = began.elapsed();
    let version = consumer.conn.version(apis::LEAVE_GROUP)?;
    coded(&mut consumer.conn, apis::LEAVE_GROUP, apis::leave_group(version, group, &member))?;
    Ok(took)
}

/// Joins as the only member: generation and member id.
fn join(conn: &mut Conn, group: &str, topic: &str, began: Instant) -> Result<(i32, String), Error> {
    let version = conn.version(apis::JOIN_GROUP)?;
    let (mut member, mut generation) = (String::new(), -1);
    settle(began, || {
        loop {
            let answer = conn.call(&mut apis::join_group(version, group, &member, topic))?;
            let code;
            (code, generation, member) = apis::join_group_answer(version, answer)?;
            if code != MEMBER_ID_REQUIRED {
                return apis::JOIN_GROUP.ok(code);
            }
        }
    })?;
    Ok((generation, member))
}

/// Sends a request whose answer begins with throttle time and error code.
fn coded(conn: &mut Conn, api: Api, mut frame: Vec<u8>) -> Result<(), Error> {
    let version = conn.version(api)?;
    api.ok(apis::throttled_code(api, version, conn.call(&mut frame)?)?)
}

/// Repeats `ask` while the coordinator is not there yet.
fn settle(began: Instant, mut ask: impl FnMut() -> Result<(), Error>) -> Result<(), Error> {
    loop {
        match ask() {
            Err(Error::Broker { code, .. }) if NOT_YET.contains(&code) && began.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(1));
            }
            other => return other,
        }
    }
}
