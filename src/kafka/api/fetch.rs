//! Fetch (key 1), versions 4-18, flexible from 12. Read and written by hand: the hot path.
//!
//! Behaviour: whole batches, the first one even if it is larger than every limit (KIP-74); no record byte is copied.
//! A long poll waits on the high watermarks of its partitions and is woken by the append itself: then it counts the
//! new bytes of the partitions that moved, and reads all of them once there are enough. Many partitions are read in
//! steps, between which other connections come.
//! A partition whose shard has used up its read limit comes back empty, the others full; the answer names the time
//! to wait. A fetch that finds nothing else is held until the limit allows more.
//! Fetch sessions are declined (session id 0, which KIP-227 allows).
//!
//! - v4: isolation level, last stable offset, aborted transactions (KIP-98). v5: log start offset (KIP-107).
//! - v7: sessions (KIP-227). v9: leader epoch (KIP-320). v10: zstd (KIP-110). v11: rack (KIP-392).
//! - v12: flexible, diverging epoch (KIP-595). v13: topic ids (KIP-516). v15: replica state tag (KIP-903).
//! - v16: leader hints (KIP-951; one node, so never sent). v17: KIP-853. v18: KIP-1166.
//!
//! Known deviations from Apache Kafka: no fetch sessions; `replica_id` is ignored (a client that claims to be
//! a replica reads as a consumer and moves nothing); an unknown topic or partition ends a long poll at once.

mod plan;
mod wait;

use std::sync::Arc;

use bytes::Bytes;

use self::plan::{FLEXIBLE_FROM, PartitionPlan, Plan, TopicKey, TopicPlan};
pub(in crate::kafka) use self::wait::{LongPoll, Step};
use super::{Answer, Context, Entry};
use crate::kafka::connection::Close;
use crate::kafka::error::Code;
use crate::kafka::out::Body;
use crate::kafka::wire::{Malformed, Reader};
use crate::listen::OWN_BYTES;
use crate::topic::{Error, Topic};

pub(super) const KEY: i16 = 1;
pub(super) const ENTRY: Entry = Entry { key: KEY, name: "Fetch", min: 4, max: 18, answer };

const TOPIC_IDS_FROM: i16 = 13;
/// What a partition takes of memory while it is read or waited for.
const PLACE_BYTES: usize = 256;
const _: () = assert!(size_of::<PartitionPlan>() + size_of::<plan::Found>() <= PLACE_BYTES);

/// What a partition takes in a request at the least. Bytes.
fn asked_bytes(version: i16) -> usize {
    let epoch = if version >= 9 { 4 } else { 0 };
    let log_start = if version >= 5 { 8 } else { 0 };
    let last_epoch_and_tags = if version >= FLEXIBLE_FROM { 5 } else { 0 };
    16 + epoch + log_start + last_epoch_and_tags
}

/// Larger requests are decoded once there is memory for that.
pub(super) fn bytes_at_once(version: i16) -> usize {
    OWN_BYTES / PLACE_BYTES * asked_bytes(version)
}

/// Memory that a request of so many bytes takes once it is read.
pub(super) fn read_bytes(version: i16, bytes: usize) -> usize {
    bytes / asked_bytes(version) * PLACE_BYTES
}

fn answer(cx: &mut Context<'_>, version: i16, body: Bytes) -> Result<Answer, Close> {
    let mut reader = Reader::new(&body, version >= FLEXIBLE_FROM);
    let (plan, session) = read(cx, version, &mut reader)?;
    if let Session::Unknown = session {
        return Ok(Answer::Now(plan.encode(Code::FETCH_SESSION_ID_NOT_FOUND, Vec::new())));
    }
    if !cx.unopened.is_empty() {
        return Ok(Answer::Now(Body::default()));
    }
    let mut attempt = plan.attempt();
    // What takes longer waits for its turn.
    if plan.is_long() || !plan.step(&mut attempt) || plan.waits_after(&attempt) {
        cx.held_bytes = plan.partitions().count() * PLACE_BYTES;
        return Ok(Answer::Fetch(Box::new(LongPoll::new(plan, attempt))));
    }
    Ok(Answer::Now(plan.encode(Code::NONE, attempt.found)))
}

enum Session {
    None,
    Unknown,
}

fn read(cx: &mut Context<'_>, version: i16, reader: &mut Reader<'_>) -> Result<(Plan, Session), Malformed> {
    if version < 15 {
        let _replica_id = reader.i32()?;
    }
    let max_wait_ms = u64::try_from(reader.i32()?).unwrap_or(0);
    let min_bytes = usize::try_from(reader.i32()?).unwrap_or(0);
    let max_bytes =
        usize::try_from(reader.i32()?).unwrap_or(0).min(cx.core.connection_settings().fetch_max_bytes);
    // As in Kafka: nobody waits for more than it may get.
    let min_bytes = min_bytes.min(max_bytes);
    let read_committed = reader.i8()? == 1;
    let mut session = Session::None;
    if version >= 7 {
        let _session_id = reader.i32()?;
        if reader.i32()? > 0 {
            session = Session::Unknown;
        }
    }
    let count = reader.count(if version >= TOPIC_IDS_FROM { 17 } else { 3 })?;
    let mut topics = Vec::new();
    for _ in 0..count {
        let topic = read_topic(cx, version, reader)?;
        // As in Kafka, a topic without partitions asks for nothing and is not answered.
        if !topic.partitions.is_empty() {
            topics.push(topic);
        }
    }
    if version >= 7 {
        skip_forgotten(version, reader)?;
    }
    if version >= 11 {
        let _rack = reader.string()?;
    }
    reader.tags()?;
    reader.end()?;
    let (core, answers) = (Arc::clone(cx.core), Arc::clone(cx.answers));
    let meter = cx.meters.and_then(|meters| meters.fetch.clone());
    let plan = Plan {
        core,
        answers,
        throttle_ms: 0,
        meter,
        version,
        max_wait_ms,
        min_bytes,
        max_bytes,
        read_committed,
        topics,
    };
    Ok((plan, session))
}

fn read_topic(cx: &mut Context<'_>, version: i16, reader: &mut Reader<'_>) -> Result<TopicPlan, Malformed> {
    let (key, topic) = if version >= TOPIC_IDS_FROM {
        let id = reader.uuid()?;
        (TopicKey::Id(id), cx.core.topics().by_id(id).ok_or(Error::UnknownTopicId))
    } else {
        let name = reader.string()?;
        match cx.core.topics().by_name(name) {
            Some(topic) => (TopicKey::Known(Arc::clone(topic.name())), Ok(topic)),
            None => (TopicKey::Unknown(name.into()), Err(Error::UnknownTopic)),
        }
    };
    let count = reader.count(16)?;
    let mut partitions = Vec::with_capacity(count);
    for _ in 0..count {
        partitions.push(read_partition(cx, version, topic.as_ref(), reader)?);
    }
    reader.tags()?;
    Ok(TopicPlan { key, partitions })
}

fn read_partition(
    cx: &mut Context<'_>,
    version: i16,
    topic: Result<&Arc<Topic>, &Error>,
    reader: &mut Reader<'_>,
) -> Result<PartitionPlan, Malformed> {
    let index = reader.i32()?;
    let leader_epoch = if version >= 9 { reader.i32()? } else { -1 };
    let offset = reader.i64()?;
    let last_fetched_epoch = if version >= 12 { reader.i32()? } else { -1 };
    if version >= 5 {
        let _log_start_of_a_replica = reader.i64()?;
    }
    let max_bytes = usize::try_from(reader.i32()?).unwrap_or(0);
    reader.tags()?;
    let partition = topic.map_err(Clone::clone).and_then(|topic| {
        let partition = topic.partition(index)?;
        cx.is_open(&partition)?;
        Ok(partition)
    });
    Ok(PartitionPlan { index, leader_epoch, offset, last_fetched_epoch, max_bytes, partition })
}

/// Forgotten topics matter only to sessions.
fn skip_forgotten(version: i16, reader: &mut Reader<'_>) -> Result<(), Malformed> {
    for _ in 0..reader.count(if version >= TOPIC_IDS_FROM { 17 } else { 3 })? {
        if version >= TOPIC_IDS_FROM {
            reader.uuid()?;
        } else {
            reader.string()?;
        }
        for _ in 0..reader.count(4)? {
            reader.i32()?;
        }
        reader.tags()?;
    }
    Ok(())
}
