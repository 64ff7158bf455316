//! OffsetFetch (key 9), versions 0-10, flexible from 6. Read and written by hand: `kafka_protocol` lacks 0, 10.
//!
//! Behaviour: a partition without an offset answers -1 and no error. Null topics ask for everything committed. What is
//! asked for twice is answered once. Groups past 64 MiB of one answer are COORDINATOR_LOAD_IN_PROGRESS: clients ask again.
//! What may have been committed in a damaged part of the journal answers KAFKA_STORAGE_ERROR for its partition: -1 would
//! let a consumer begin somewhere else without a word.
//!
//! - v0, v1: one layout. v2: null topics, error for the group. v3: throttle time. v5: leader epoch (KIP-320).
//! - v6: flexible. v7: `require_stable` (KIP-447; nothing is unstable without transactions).
//! - v8: many groups (KIP-709). v9: member id and epoch (KIP-848). v10: topic ids (KIP-848).
//!
//! Known deviations from Apache Kafka: v0 (removed there) is served from the journal, not ZooKeeper.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::{Answer, Context, Entry, FEW};
use crate::broker::Core;
use crate::group::{
    self, CommittedOffset, Error, Event, FetchGroup, FetchedGroup, FetchedTopic, TopicPartitions,
};
use crate::kafka::connection::Close;
use crate::kafka::error::{self, Code};
use crate::kafka::out::Body;
use crate::kafka::wire::{Malformed, Reader, Writer};
use crate::listen::OWN_BYTES;

pub(super) const ENTRY: Entry = Entry { key: 9, name: "OffsetFetch", min: 0, max: 10, answer };

/// Bytes of one answer.
const BYTES_MAX: usize = 64 * 1024 * 1024;

const FLEXIBLE_FROM: i16 = 6;
const GROUPS_FROM: i16 = 8;
const TOPIC_IDS_FROM: i16 = 10;

/// Topics that were asked for by an id that nobody has, per group.
type UnknownIds = Vec<Vec<(Uuid, Vec<i32>)>>;

fn answer(cx: &mut Context<'_>, version: i16, body: Bytes) -> Result<Answer, Close> {
    let mut reader = Reader::new(&body, version >= FLEXIBLE_FROM);
    let (groups, unknown) = read(cx.core, version, &mut reader)?;
    if cx.on_worker && is_large(cx.core, &groups) {
        return Ok(Answer::Long);
    }
    let core = Arc::clone(cx.core);
    Ok(Answer::Phased(Box::pin(async move {
        let mut all = Vec::with_capacity(groups.len());
        let mut bytes = 0;
        for asked in groups {
            let id = asked.group.clone();
            if bytes > BYTES_MAX {
                all.push((id, Err(Error::CoordinatorLoading)));
                continue;
            }
            match core.group(Event::FetchOffsets(vec![asked])).await {
                Ok(group::Reply::FetchOffsets(fetched)) => {
                    bytes += fetched.iter().map(|(_, found)| found.as_ref().map_or(0, size)).sum::<usize>();
                    all.extend(fetched);
                }
                Ok(_) | Err(_) => all.push((id, Err(Error::Storage))),
            }
        }
        Body::from(encode(&core, version, all, &unknown))
    })))
}

/// Whether the answer may be more than some kilobytes: many partitions, or all that was committed where that is much.
fn is_large(core: &Core, groups: &[FetchGroup]) -> bool {
    let partitions = |group: &FetchGroup| {
        let topics = group.topics.as_ref()?;
        Some(topics.iter().map(|topic| topic.partitions.len()).sum::<usize>())
    };
    let named = groups.iter().map(partitions).try_fold(0, |sum, n| Some(sum + n?));
    let all = || core.bytes_of_groups(groups.iter().map(|group| group.group.as_str())) > OWN_BYTES;
    groups.len() > FEW || named.map_or_else(all, |sum| sum > FEW)
}

/// About what a group takes in the answer.
fn size(found: &FetchedGroup) -> usize {
    let topic = |one: &FetchedTopic| {
        let found = one.partitions.iter().map(|(_, found)| found.as_ref().ok()?.as_ref());
        let bytes =
            |found: Option<&Box<CommittedOffset>>| 20 + found.map_or(0, |offset| offset.metadata.len());
        one.name.len() + found.map(bytes).sum::<usize>()
    };
    found.topics.iter().map(topic).sum()
}

fn read(
    core: &Core,
    version: i16,
    reader: &mut Reader<'_>,
) -> Result<(Vec<FetchGroup>, UnknownIds), Malformed> {
    let mut groups = Vec::new();
    let mut unknown = Vec::new();
    let count = if version >= GROUPS_FROM { reader.count(3)? } else { 1 };
    let mut seen = HashSet::new();
    for _ in 0..count {
        let (group, missing) = read_group(core, version, reader)?;
        if seen.insert(group.group.clone()) {
            groups.push(group);
            unknown.push(missing);
        }
    }
    if version >= 7 {
        let _require_stable = reader.bool()?;
    }
    reader.tags()?;
    reader.end()?;
    Ok((groups, unknown))
}

#[allow(clippy::type_complexity, reason = "the group, and ids that no topic has with their partitions")]
fn read_group(
    core: &Core,
    version: i16,
    reader: &mut Reader<'_>,
) -> Result<(FetchGroup, Vec<(Uuid, Vec<i32>)>), Malformed> {
    let group = reader.string()?.to_owned();
    if version >= 9 {
        let _member_id = reader.nullable_string()?;
        let _member_epoch = reader.i32()?;
    }
    let least = if version >= TOPIC_IDS_FROM { 17 } else { 3 };
    let count = if version >= 2 { reader.nullable_count(least)? } else { Some(reader.count(least)?) };
    let mut unknown = Vec::new();
    let mut topics = count.map(|_| Vec::new());
    for _ in 0..count.unwrap_or(0) {
        let named = if version >= TOPIC_IDS_FROM {
            let id = reader.uuid()?;
            core.topics().by_id(id).map(|t| t.name().to_string()).ok_or(id)
        } else {
            Ok(reader.string()?.to_owned())
        };
        let mut partitions = Vec::new();
        let mut seen = HashSet::new();
        for _ in 0..reader.count(4)? {
            let index = reader.i32()?;
            if seen.insert(index) {
                partitions.push(index);
            }
        }
        reader.tags()?;
        match named {
            Ok(name) => topics.get_or_insert_default().push(TopicPartitions { name, partitions }),
            Err(id) => unknown.push((id, partitions)),
        }
    }
    if version >= GROUPS_FROM {
        reader.tags()?;
    }
    Ok((FetchGroup { group, topics, after: None }, unknown))
}

fn encode(
    core: &Core,
    version: i16,
    fetched: Vec<(String, Result<FetchedGroup, Error>)>,
    unknown: &UnknownIds,
) -> Vec<u8> {
    let mut w = Writer::new(version >= FLEXIBLE_FROM, 64);
    if version >= 3 {
        w.i32(0);
    }
    if version < GROUPS_FROM {
        let first = fetched.into_iter().next().map_or(Err(Error::Storage), |(_, found)| found);
        let code = error::of_group_result(&first);
        encode_topics(core, version, &first.unwrap_or_default(), &[], code, &mut w);
        if version >= 2 {
            w.i16(code.0);
        }
    } else {
        w.count(fetched.len());
        for (at, (id, found)) in fetched.into_iter().enumerate() {
            let code = error::of_group_result(&found);
            w.string(&id);
            let missing = unknown.get(at).map_or(&[][..], Vec::as_slice);
            encode_topics(core, version, &found.unwrap_or_default(), missing, code, &mut w);
            w.i16(code.0);
            w.tags();
        }
    }
    w.tags();
    w.finish()
}

fn encode_topics(
    core: &Core,
    version: i16,
    found: &FetchedGroup,
    unknown: &[(Uuid, Vec<i32>)],
    code: Code,
    w: &mut Writer,
) {
    // By id, only topics that still have one can be named. The group's error stands at its own place from v2 on.
    let id = |name: &str| core.topics().by_name(name).map(|t| t.id());
    let named = || found.topics.iter().filter(|t| version < TOPIC_IDS_FROM || id(&t.name).is_some());
    w.count(named().count() + unknown.len());
    for topic in named() {
        match id(&topic.name).filter(|_| version >= TOPIC_IDS_FROM) {
            Some(id) => w.uuid(id),
            None => w.string(&topic.name),
        }
        w.count(topic.partitions.len());
        for (index, offset) in &topic.partitions {
            let (offset, code) = match offset {
                Ok(offset) => (offset.as_deref(), if version < 2 { code } else { Code::NONE }),
                Err(refusal) => (None, error::of_group(refusal)),
            };
            encode_partition(version, *index, offset, code, w);
        }
        w.tags();
    }
    for (id, partitions) in unknown {
        w.uuid(*id);
        w.count(partitions.len());
        for index in partitions {
            encode_partition(version, *index, None, Code::UNKNOWN_TOPIC_ID, w);
        }
        w.tags();
    }
}

fn encode_partition(version: i16, index: i32, offset: Option<&CommittedOffset>, code: Code, w: &mut Writer) {
    w.i32(index);
    w.i64(offset.map_or(-1, |o| o.offset));
    if version >= 5 {
        w.i32(offset.map_or(-1, |o| o.leader_epoch));
    }
    w.nullable_string(Some(offset.map_or("", |o| o.metadata.as_str())));
    w.i16(code.0);
    w.tags();
}
