//! Small questions that touch no record: what a request costs before it does anything.
//!
//! Deliberately absent: requests that create or change something.

use super::apis::{self, Api};
use super::conn::Conn;
use super::load::{self, Drive, Lane, Request};
use super::progress::Progress;
use super::report::Line;
use super::topics::{self, Topics};
use super::{Error, Options, Scenario, produce};

/// Runs `apiversions`, `metadata` or `listoffsets` on a topic of one partition with one record.
pub(super) fn run(scenario: Scenario, options: &Options, progress: &Progress) -> Result<Line, Error> {
    let (topics, topic) = Topics::one(options.addr, scenario.name(), 1)?;
    let mut conn = Conn::open(options.addr)?;
    topics::put_one(&mut conn, &topic, 0)?;
    let api = match scenario {
        Scenario::ApiVersions => apis::API_VERSIONS,
        Scenario::Metadata => apis::METADATA,
        _ => apis::LIST_OFFSETS,
    };
    let version = conn.version(api)?;
    let frame = match scenario {
        Scenario::ApiVersions => apis::api_versions(),
        Scenario::Metadata => apis::metadata(version, Some(&topics.names)),
        _ => apis::list_offsets(version, &topic, 1, apis::LATEST),
    };
    let mut lanes = Vec::new();
    for _ in 0..options.connections() {
        let requests = vec![Request { frame: frame.clone(), sequenced: None }];
        lanes.push(Lane { conn: Conn::open(options.addr)?, requests });
    }
    let depth = options.in_flight.unwrap_or(1).max(1);
    let check = |answer: &[u8]| check(api, version, answer);
    let outcome =
        load::run(lanes, Drive { depth, check: &check, barrier: None, progress }, options.window())?;
    let mut line = Line::new(scenario.name());
    line.integer("version", version)
        .integer("in_flight", depth)
        .integer("connections", options.connections());
    produce::figures(&mut line, &outcome, 0);
    Ok(line)
}

/// Every answer is read whole: one partition led, one record there.
fn check(api: Api, version: i16, answer: &[u8]) -> Result<(), Error> {
    let right = match api.key {
        18 => !apis::api_versions_answer(answer)?.is_empty(),
        3 => apis::metadata_answer(version, answer)? == 1,
        _ => apis::list_offsets_answer(version, answer)? == 1,
    };
    if right { Ok(()) } else { Err(Error::Protocol(format!("{} answered something else", api.name))) }
}
