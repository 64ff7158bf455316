//! The requests this client sends and what it needs of the answers, encoded by hand.
//!
//! Owns: one constant per API with the versions spoken here, one fn per request, one per answer. The
//! versions stop at Produce 12 and Fetch 12, the last that name topics by name, so that every broker is
//! driven alike. Deliberately absent: every field that a load driver has no use for.
//! Source: the message schemas in apache/kafka `clients/src/main/resources/common/message`.

use super::Error;
use super::wire::{Reader, Writer};

/// An API and the versions of it that this file encodes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Api {
    pub(super) name: &'static str,
    pub(super) key: i16,
    pub(super) min: i16,
    pub(super) max: i16,
    /// First flexible version (KIP-482).
    flexible: i16,
}

const fn api(name: &'static str, key: i16, min: i16, max: i16, flexible: i16) -> Api {
    Api { name, key, min, max, flexible }
}

pub(super) const PRODUCE: Api = api("Produce", 0, 3, 12, 9);
pub(super) const FETCH: Api = api("Fetch", 1, 4, 12, 12);
pub(super) const LIST_OFFSETS: Api = api("ListOffsets", 2, 1, 7, 6);
pub(super) const METADATA: Api = api("Metadata", 3, 8, 12, 9);
pub(super) const OFFSET_FETCH: Api = api("OffsetFetch", 9, 5, 5, 6);
pub(super) const FIND_COORDINATOR: Api = api("FindCoordinator", 10, 1, 2, 3);
pub(super) const JOIN_GROUP: Api = api("JoinGroup", 11, 5, 5, 6);
pub(super) const HEARTBEAT: Api = api("Heartbeat", 12, 3, 3, 4);
pub(super) const LEAVE_GROUP: Api = api("LeaveGroup", 13, 3, 3, 4);
pub(super) const SYNC_GROUP: Api = api("SyncGroup", 14, 3, 3, 4);
pub(super) const API_VERSIONS: Api = api("ApiVersions", 18, 3, 3, 3);
pub(super) const CREATE_TOPICS: Api = api("CreateTopics", 19, 2, 4, 5);
pub(super) const DELETE_TOPICS: Api = api("DeleteTopics", 20, 1, 3, 4);
pub(super) const INIT_PRODUCER_ID: Api = api("InitProducerId", 22, 0, 1, 2);

impl Api {
    pub(super) fn request(self, version: i16) -> Writer {
        Writer::request(self.key, version, version >= self.flexible)
    }

    /// A reader over an answer's bytes after its correlation id.
    pub(super) fn answer(self, version: i16, bytes: &[u8]) -> Result<Reader<'_>, Error> {
        Reader::new(bytes, version >= self.flexible)
    }

    /// `code` as an error that names this API, unless it is 0.
    pub(super) fn ok(self, code: i16) -> Result<(), Error> {
        if code == 0 { Ok(()) } else { Err(Error::Broker { api: self.name, code }) }
    }
}

/// ApiVersions v3.
pub(super) fn api_versions() -> Vec<u8> {
    let mut w = API_VERSIONS.request(3);
    w.string("weir-bench");
    w.string(env!("CARGO_PKG_VERSION"));
    w.tags();
    w.frame()
}

/// `(key, min, max)` of every API that the broker speaks.
pub(super) fn api_versions_answer(bytes: &[u8]) -> Result<Vec<(i16, i16, i16)>, Error> {
    let mut r = Reader::headless(bytes, true);
    API_VERSIONS.ok(r.i16()?)?;
    let mut ranges = Vec::new();
    for _ in 0..r.array()? {
        ranges.push((r.i16()?, r.i16()?, r.i16()?));
        r.tags()?;
    }
    Ok(ranges)
}

/// Produce of one batch to one partition: the frame, and where in it the batch starts.
pub(super) fn produce(
    version: i16,
    topic: &str,
    partition: i32,
    acks: i16,
    batch: &[u8],
) -> (Vec<u8>, usize) {
    let mut w = PRODUCE.request(version);
    w.null_string();
    w.i16(acks);
    w.i32(30_000);
    w.array(1);
    w.string(topic);
    w.array(1);
    w.i32(partition);
    w.blob(batch);
    let batch_at = w.len() - batch.len();
    w.tags();
    w.tags();
    w.tags();
    (w.frame(), batch_at)
}

/// Checks that the one partition of a produce answer carries no error; its base offset.
pub(super) fn produce_answer(version: i16, bytes: &[u8]) -> Result<i64, Error> {
    let mut r = PRODUCE.answer(version, bytes)?;
    if r.array()? != 1 {
        return Err(Error::Protocol("Produce answered other topics than asked".into()));
    }
    r.string()?;
    if r.array()? != 1 {
        return Err(Error::Protocol("Produce answered other partitions than asked".into()));
    }
    r.i32()?;
    PRODUCE.ok(r.i16()?)?;
    r.i64()
}

/// What a fetch asks of one partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct FetchFrom<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) max_wait_ms: i32,
    pub(super) partition_max_bytes: i32,
}

/// Sessionless Fetch of one partition, 1 byte at least and 50 MiB at most, as clients do.
pub(super) fn fetch(version: i16, from: FetchFrom<'_>) -> Vec<u8> {
    let mut w = FETCH.request(version);
    w.i32(-1);
    w.i32(from.max_wait_ms);
    w.i32(1);
    w.i32(50 << 20);
    w.i8(0);
    if version >= 7 {
        w.i32(0);
        w.i32(-1);
    }
    w.array(1);
    w.string(from.topic);
    w.array(1);
    w.i32(from.partition);
    if version >= 9 {
        w.i32(-1);
    }
    w.i64(from.offset);
    if version >= 12 {
        w.i32(-1);
    }
    if version >= 5 {
        w.i64(-1);
    }
    w.i32(from.partition_max_bytes);
    w.tags();
    w.tags();
    if version >= 7 {
        w.array(0);
    }
    if version >= 11 {
        w.string("");
    }
    w.tags();
    w.frame()
}

/// The records of the one partition of a fetch answer.
pub(super) fn fetch_answer(version: i16, bytes: &[u8]) -> Result<&[u8], Error> {
    let mut r = FETCH.answer(version, bytes)?;
    r.i32()?;
    if version >= 7 {
        FETCH.ok(r.i16()?)?;
        r.i32()?;
    }
    if r.array()? == 0 {
        return Ok(&[]);
    }
    r.string()?;
    if r.array()? == 0 {
        return Ok(&[]);
    }
    r.i32()?;
    FETCH.ok(r.i16()?)?;
    r.skip(if version >= 5 { 24 } else { 16 })?;
    for _ in 0..r.array()? {
        r.skip(16)?;
        r.tags()?;
    }
    if version >= 11 {
        r.i32()?;
    }
    r.blob()
}

/// ListOffsets timestamps with a meaning of their own.
pub(super) const LATEST: i64 = -1;
pub(super) const EARLIEST: i64 = -2;

/// ListOffsets of partitions `0..partitions` at `timestamp`.
pub(super) fn list_offsets(version: i16, topic: &str, partitions: i32, timestamp: i64) -> Vec<u8> {
    let mut w = LIST_OFFSETS.request(version);
    w.i32(-1);
    if version >= 2 {
        w.i8(0);
    }
    w.array(1);
    w.string(topic);
    w.array(usize::try_from(partitions).unwrap_or(0));
    for partition in 0..partitions {
        w.i32(partition);
        if version >= 4 {
            w.i32(-1);
        }
        w.i64(timestamp);
        w.tags();
    }
    w.tags();
    w.tags();
    w.frame()
}

/// The sum of the offsets in a ListOffsets answer (the offset itself when one partition was asked).
pub(super) fn list_offsets_answer(version: i16, bytes: &[u8]) -> Result<i64, Error> {
    let mut r = LIST_OFFSETS.answer(version, bytes)?;
    if version >= 2 {
        r.i32()?;
    }
    let mut sum = 0;
    for _ in 0..r.array()? {
        r.string()?;
        for _ in 0..r.array()? {
            r.i32()?;
            LIST_OFFSETS.ok(r.i16()?)?;
            r.i64()?;
            sum += r.i64()?;
            if version >= 4 {
                r.i32()?;
            }
            r.tags()?;
        }
        r.tags()?;
    }
    Ok(sum)
}

/// Metadata of the named topics, of all topics for `None`; creates none.
pub(super) fn metadata(version: i16, topics: Option<&[String]>) -> Vec<u8> {
    let mut w = METADATA.request(version);
    match topics {
        Some(topics) => w.array(topics.len()),
        None => w.null_array(),
    }
    for topic in topics.unwrap_or_default() {
        if version >= 10 {
            w.i64(0);
            w.i64(0);
        }
        w.string(topic);
        w.tags();
    }
    w.i8(0);
    if version <= 10 {
        w.i8(0);
    }
    w.i8(0);
    w.tags();
    w.frame()
}

/// How many partitions of a Metadata answer have a leader and no error.
pub(super) fn metadata_answer(version: i16, bytes: &[u8]) -> Result<usize, Error> {
    let mut r = METADATA.answer(version, bytes)?;
    r.i32()?;
    for _ in 0..r.array()? {
        r.i32()?;
        r.string()?;
        r.i32()?;
        r.string()?;
        r.tags()?;
    }
    r.string()?;
    r.i32()?;
    let mut led = 0;
    for _ in 0..r.array()? {
        let topic_error = r.i16()?;
        r.string()?;
        if version >= 10 {
            r.skip(16)?;
        }
        r.i8()?;
        for _ in 0..r.array()? {
            let error = r.i16()?;
            r.i32()?;
            let leader = r.i32()?;
            r.i32()?;
            for _ in 0..3 {
                let nodes = r.array()?;
                r.skip(nodes.saturating_mul(4))?;
            }
            r.tags()?;
            led += usize::from(topic_error == 0 && error == 0 && leader >= 0);
        }
        r.i32()?;
        r.tags()?;
    }
    Ok(led)
}

/// CreateTopics of one topic: one replica, kept for ever (the driver's records carry a fixed timestamp).
pub(super) fn create_topic(version: i16, topic: &str, partitions: i32) -> Vec<u8> {
    let mut w = CREATE_TOPICS.request(version);
    w.array(1);
    w.string(topic);
    w.i32(partitions);
    w.i16(1);
    w.array(0);
    w.array(1);
    w.string("retention.ms");
    w.string("-1");
    w.i32(60_000);
    w.i8(0);
    w.frame()
}

/// The error code of the one topic.
pub(super) fn create_topic_answer(version: i16, bytes: &[u8]) -> Result<i16, Error> {
    let mut r = CREATE_TOPICS.answer(version, bytes)?;
    r.i32()?;
    if r.array()? != 1 {
        return Err(Error::Protocol("CreateTopics answered other topics than asked".into()));
    }
    r.string()?;
    r.i16()
}

/// DeleteTopics; the answer is not looked at, since it only frees space for what follows.
pub(super) fn delete_topics(version: i16, topics: &[String]) -> Vec<u8> {
    let mut w = DELETE_TOPICS.request(version);
    w.array(topics.len());
    for topic in topics {
        w.string(topic);
    }
    w.i32(60_000);
    w.frame()
}

/// InitProducerId without a transactional id.
pub(super) fn init_producer_id(version: i16) -> Vec<u8> {
    let mut w = INIT_PRODUCER_ID.request(version);
    w.null_string();
    w.i32(60_000);
    w.frame()
}

/// Producer id and epoch.
pub(super) fn init_producer_id_answer(version: i16, bytes: &[u8]) -> Result<(i64, i16), Error> {
    let mut r = INIT_PRODUCER_ID.answer(version, bytes)?;
    r.i32()?;
    INIT_PRODUCER_ID.ok(r.i16()?)?;
    Ok((r.i64()?, r.i16()?))
}

/// FindCoordinator of a group.
pub(super) fn find_coordinator(version: i16, group: &str) -> Vec<u8> {
    let mut w = FIND_COORDINATOR.request(version);
    w.string(group);
    w.i8(0);
    w.frame()
}

/// The error code of a FindCoordinator answer; the address is ignored, one node is driven.
pub(super) fn find_coordinator_answer(version: i16, bytes: &[u8]) -> Result<i16, Error> {
    let mut r = FIND_COORDINATOR.answer(version, bytes)?;
    r.i32()?;
    r.i16()
}

/// JoinGroup v5 of a consumer that subscribes to `topic`.
pub(super) fn join_group(version: i16, group: &str, member: &str, topic: &str) -> Vec<u8> {
    let mut subscription = Writer::bare();
    subscription.i16(0);
    subscription.array(1);
    subscription.string(topic);
    subscription.i32(-1);
    let mut w = JOIN_GROUP.request(version);
    w.string(group);
    w.i32(10_000);
    w.i32(60_000);
    w.string(member);
    w.null_string();
    w.string("consumer");
    w.array(1);
    w.string("range");
    w.blob(&subscription.into_bytes());
    w.frame()
}

/// Error code, generation and member id of a JoinGroup answer.
pub(super) fn join_group_answer(version: i16, bytes: &[u8]) -> Result<(i16, i32, String), Error> {
    let mut r = JOIN_GROUP.answer(version, bytes)?;
    r.i32()?;
    let code = r.i16()?;
    let generation = r.i32()?;
    r.string()?;
    r.string()?;
    Ok((code, generation, r.string()?.to_owned()))
}

/// SyncGroup v3 of the leader, which assigns partition 0 of `topic` to itself.
pub(super) fn sync_group(version: i16, group: &str, generation: i32, member: &str, topic: &str) -> Vec<u8> {
    let mut assignment = Writer::bare();
    assignment.i16(0);
    assignment.array(1);
    assignment.string(topic);
    assignment.array(1);
    assignment.i32(0);
    assignment.i32(-1);
    let mut w = SYNC_GROUP.request(version);
    w.string(group);
    w.i32(generation);
    w.string(member);
    w.null_string();
    w.array(1);
    w.string(member);
    w.blob(&assignment.into_bytes());
    w.frame()
}

/// The error code of a SyncGroup or Heartbeat answer (v3 of both start alike).
pub(super) fn throttled_code(api: Api, version: i16, bytes: &[u8]) -> Result<i16, Error> {
    let mut r = api.answer(version, bytes)?;
    r.i32()?;
    r.i16()
}

/// Heartbeat v3.
pub(super) fn heartbeat(version: i16, group: &str, generation: i32, member: &str) -> Vec<u8> {
    let mut w = HEARTBEAT.request(version);
    w.string(group);
    w.i32(generation);
    w.string(member);
    w.null_string();
    w.frame()
}

/// LeaveGroup v3 of one member.
pub(super) fn leave_group(version: i16, group: &str, member: &str) -> Vec<u8> {
    let mut w = LEAVE_GROUP.request(version);
    w.string(group);
    w.array(1);
    w.string(member);
    w.null_string();
    w.frame()
}

/// OffsetFetch v5 of partition 0 of `topic`.
pub(super) fn offset_fetch(version: i16, group: &str, topic: &str) -> Vec<u8> {
    let mut w = OFFSET_FETCH.request(version);
    w.string(group);
    w.array(1);
    w.string(topic);
    w.array(1);
    w.i32(0);
    w.frame()
}

/// The committed offset of the one partition asked, -1 for none.
pub(super) fn offset_fetch_answer(version: i16, bytes: &[u8]) -> Result<i64, Error> {
    let mut r = OFFSET_FETCH.answer(version, bytes)?;
    r.i32()?;
    if r.array()? == 0 {
        return Ok(-1);
    }
    r.string()?;
    if r.array()? == 0 {
        return Ok(-1);
    }
    r.i32()?;
    r.i64()
}
