//! OffsetCommit (key 8), versions 0-10, flexible from 8. Read and written by hand: `kafka_protocol` lacks 0, 1, 10.
//!
//! Behaviour: answered when the journal is durable. Metadata comes back byte for byte (Storm parses its own
//! JSON out of it). A commit with generation -1 and no member id is a simple consumer's. Of a partition that is named again, the
//! last mention counts, and its result stands at each of them.
//!
//! - v0: no generation. v1: a commit time per partition. v2-4: retention time for all. v3: throttle time.
//! - v5: no retention time. v6: leader epoch (KIP-320). v7: static members (KIP-345). v8: flexible.
//! - v9: KIP-848. v10: topic ids (KIP-848).
//!
//! Known deviations from Apache Kafka: v0 and v1 (removed there) are served, and kept in the journal, not ZooKeeper. Where the last
//! mention of a partition is refused (its metadata is too long), Kafka keeps the one before.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::{Answer, Context, Entry};
use crate::group::{self, Commit, CommitPartition, CommitTopic, CommittedTopic, Error, Event};
use crate::kafka::connection::Close;
use crate::kafka::error::{self, Code};
use crate::kafka::out::Body;
use crate::kafka::wire::{Malformed, Reader, Writer};

pub(super) const ENTRY: Entry = Entry { key: 8, name: "OffsetCommit", min: 0, max: 10, answer };

const FLEXIBLE_FROM: i16 = 8;
const TOPIC_IDS_FROM: i16 = 10;

/// A topic as the client named it, and what can be said of it before the coordinator is asked.
struct Asked {
    name: String,
    id: Uuid,
    /// Partition and its refusal, if it does not exist.
    partitions: Vec<(i32, Option<Code>)>,
}

fn answer(cx: &mut Context<'_>, version: i16, body: Bytes) -> Result<Answer, Close> {
    let mut reader = Reader::new(&body, version >= FLEXIBLE_FROM);
    let (commit, asked) = read(cx, version, &mut reader)?;
    if commit.topics.is_empty() && !asked.is_empty() {
        return Ok(Answer::Now(encode(version, &asked, Ok(Vec::new())).into()));
    }
    let commit = Event::CommitOffsets(commit);
    let answer = move |reply| {
        let committed = match reply {
            Ok(group::Reply::CommitOffsets(committed)) => committed,
            Ok(_) | Err(_) => Err(Error::Storage),
        };
        Body::from(encode(version, &asked, committed))
    };
    if !cx.core.has_journal() {
        let reply = Arc::clone(cx.core).first_group(commit);
        return Ok(Answer::Alone(Box::pin(async move { answer(reply.await) })));
    }
    let reply = cx.core.group(commit);
    Ok(Answer::Phased(Box::pin(async move { answer(reply.await) })))
}

fn read(cx: &Context<'_>, version: i16, reader: &mut Reader<'_>) -> Result<(Commit, Vec<Asked>), Malformed> {
    let mut commit = Commit { group: reader.string()?.to_owned(), generation: -1, ..Commit::default() };
    if version >= 1 {
        commit.generation = reader.i32()?;
        commit.member_id = reader.string()?.to_owned();
    }
    if version >= 7 {
        commit.instance_id = reader.nullable_string()?.map(str::to_owned);
    }
    if (2..=4).contains(&version) {
        commit.retention_ms = Some(reader.i64()?).filter(|ms| *ms != -1);
    }
    let mut asked = Vec::new();
    for _ in 0..reader.count(if version >= TOPIC_IDS_FROM { 17 } else { 3 })? {
        let (topic, named) = read_topic(cx, version, reader)?;
        if !topic.partitions.is_empty() {
            commit.topics.push(topic);
        }
        asked.push(named);
    }
    reader.tags()?;
    reader.end()?;
    Ok((commit, asked))
}

fn read_topic(
    cx: &Context<'_>,
    version: i16,
    reader: &mut Reader<'_>,
) -> Result<(CommitTopic, Asked), Malformed> {
    let (name, id, topic, missing) = if version >= TOPIC_IDS_FROM {
        let id = reader.uuid()?;
        let topic = cx.core.topics().by_id(id);
        let name = topic.as_ref().map_or_else(String::new, |t| t.name().to_string());
        (name, id, topic, Code::UNKNOWN_TOPIC_ID)
    } else {
        let name = reader.string()?;
        (name.to_owned(), Uuid::nil(), cx.core.topics().by_name(name), Code::UNKNOWN_TOPIC_OR_PARTITION)
    };
    let count = topic.as_ref().map(|t| t.partitions().len());
    let id_now = topic.map(|t| t.id());
    let mut known = CommitTopic { name: name.clone(), id: id_now, gone: false, partitions: Vec::new() };
    let mut asked = Asked { name, id, partitions: Vec::new() };
    for _ in 0..reader.count(12)? {
        let partition = read_partition(version, reader)?;
        let refusal = match count {
            None => Some(missing),
            Some(count) if usize::try_from(partition.partition).is_ok_and(|i| i < count) => None,
            Some(_) => Some(Code::UNKNOWN_TOPIC_OR_PARTITION),
        };
        asked.partitions.push((partition.partition, refusal));
        if refusal.is_none() {
            known.partitions.push(partition);
        }
    }
    reader.tags()?;
    Ok((known, asked))
}

fn read_partition(version: i16, reader: &mut Reader<'_>) -> Result<CommitPartition, Malformed> {
    let partition = reader.i32()?;
    let offset = reader.i64()?;
    let leader_epoch = if version >= 6 { reader.i32()? } else { -1 };
    let commit_ms = if version == 1 { Some(reader.i64()?).filter(|ms| *ms != -1) } else { None };
    let metadata = reader.nullable_string()?.unwrap_or_default().to_owned();
    reader.tags()?;
    Ok(CommitPartition { partition, offset, leader_epoch, metadata, commit_ms })
}

fn encode(version: i16, asked: &[Asked], committed: Result<Vec<CommittedTopic>, Error>) -> Vec<u8> {
    // The coordinator answers once for each partition, without those that were refused here.
    let whole = committed.as_ref().err().map(|e| refusal_code(version, e));
    let mut outcomes: HashMap<(&str, i32), Code> = HashMap::new();
    for topic in committed.iter().flatten() {
        let code =
            |(index, result): &(i32, _)| ((topic.name.as_str(), *index), error::of_group_result(result));
        outcomes.extend(topic.partitions.iter().map(code));
    }
    let outcome = |name: &str, index| outcomes.get(&(name, index)).copied();
    let mut w = Writer::new(version >= FLEXIBLE_FROM, 64);
    if version >= 3 {
        w.i32(0);
    }
    w.count(asked.len());
    for topic in asked {
        if version >= TOPIC_IDS_FROM {
            w.uuid(topic.id)
        } else {
            w.string(&topic.name)
        }
        w.count(topic.partitions.len());
        for (index, refusal) in &topic.partitions {
            let code = refusal.or(whole).or_else(|| outcome(&topic.name, *index));
            let code = code.unwrap_or(Code::UNKNOWN_SERVER_ERROR);
            w.i32(*index);
            w.i16(code.0);
            w.tags();
        }
        w.tags();
    }
    w.tags();
    w.finish()
}

/// Clients before v9 do not know that a commit may miss its group.
fn refusal_code(version: i16, refusal: &Error) -> Code {
    match refusal {
        Error::GroupIdNotFound if version < 9 => Code::ILLEGAL_GENERATION,
        refusal => error::of_group(refusal),
    }
}
