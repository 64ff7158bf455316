//! The records of `__consumer_offsets`, byte for byte as Apache Kafka writes them, so that its tools read ours.
//!
//! Keys: OffsetCommitKey v1 (0 is the same layout), GroupMetadataKey v2. Values written: OffsetCommitValue v4 with the
//! topic's id, or v1 when it carries an expiry; GroupMetadataValue v3. Read: 0 to 4.
//! (Layouts: apache/kafka group-coordinator/src/main/resources/common/message.)
//! Deliberately absent: keys of other kinds (KIP-848 and share groups); they are reported when read.

#![allow(missing_docs, reason = "fields carry the protocol's own names")]

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error as ThisError;
use uuid::Uuid;

use super::offsets::CommittedOffset;
use super::partition_of;
use super::wire::{Reader, put_bytes, put_compact_string, put_nullable_string, put_string, put_tags};

/// OffsetCommitValue v4: the tagged field `topicId`.
const TOPIC_ID_TAG: u64 = 0;

/// What a record takes in a batch beside key and value, at most.
const BATCHED_BYTES: usize = 32;

/// One record for the journal; no value is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRecord {
    /// Partition of `__consumer_offsets` that holds the group.
    pub partition: i32,
    pub key: Bytes,
    pub value: Option<Bytes>,
}

impl JournalRecord {
    /// Whether it is of an offset, or of its end.
    pub fn is_offset(&self) -> bool {
        matches!(self.key.get(..2), Some([0, 0 | 1]))
    }

    /// What it takes in a batch, at most.
    pub fn bytes(&self) -> usize {
        BATCHED_BYTES + self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// Why a record of the journal could not be read; the coordinator is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
pub enum JournalError {
    #[error("a group record ends too early")]
    Truncated,
    #[error("a group record has a field out of its bounds")]
    Malformed,
    #[error("a group record has version {0}, which is not known")]
    Version(i16),
    #[error("a record is of kind {0}, which is not known")]
    Kind(i16),
}

/// What a key names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Key {
    Offset { group: String, topic: String, partition: i32 },
    Group(String),
}

/// GroupMetadataValue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupValue {
    pub protocol_type: String,
    pub generation: i32,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    pub state_since_ms: Option<i64>,
    pub members: Vec<MemberValue>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MemberValue {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub subscription: Bytes,
    pub assignment: Bytes,
}

impl MemberValue {
    /// What it takes in the record, about.
    fn bytes(&self) -> usize {
        let instance = self.instance_id.as_ref().map_or(0, String::len);
        let names = self.member_id.len() + instance + self.client_id.len() + self.client_host.len();
        32 + names + self.subscription.len() + self.assignment.len()
    }
}

pub(super) fn read_key(key: &[u8]) -> Result<Key, JournalError> {
    let mut r = Reader::new(key);
    match r.i16()? {
        0 | 1 => Ok(Key::Offset { group: r.string()?, topic: r.string()?, partition: r.i32()? }),
        2 => Ok(Key::Group(r.string()?)),
        kind => Err(JournalError::Kind(kind)),
    }
}

/// The group that a key names, if it names one.
pub fn group_of(key: &[u8]) -> Option<String> {
    match read_key(key).ok()? {
        Key::Offset { group, .. } | Key::Group(group) => Some(group),
    }
}

/// An offset record; `value` none deletes the offset.
pub(super) fn offset_record(
    partitions: i32,
    group: &str,
    topic: &str,
    partition: i32,
    value: Option<&CommittedOffset>,
) -> JournalRecord {
    let mut key = BytesMut::with_capacity(10 + group.len() + topic.len());
    key.put_i16(1);
    put_string(&mut key, group);
    put_string(&mut key, topic);
    key.put_i32(partition);
    JournalRecord {
        partition: partition_of(group, partitions),
        key: key.freeze(),
        value: value.map(offset_value),
    }
}

fn offset_value(offset: &CommittedOffset) -> Bytes {
    let mut out = BytesMut::with_capacity(32 + offset.metadata.len());
    match offset.expire_ms {
        // Only v1 has an expiry, and v1 has neither leader epoch nor topic id.
        Some(expire_ms) => {
            out.put_i16(1);
            out.put_i64(offset.offset);
            put_string(&mut out, &offset.metadata);
            out.put_i64(offset.commit_ms);
            out.put_i64(expire_ms);
        }
        None => {
            out.put_i16(4);
            out.put_i64(offset.offset);
            out.put_i32(offset.leader_epoch);
            put_compact_string(&mut out, &offset.metadata);
            out.put_i64(offset.commit_ms);
            put_tags(&mut out, offset.topic_id.as_ref().map(|id| (TOPIC_ID_TAG, &id.as_bytes()[..])));
        }
    }
    out.freeze()
}

pub(super) fn read_offset(value: &[u8]) -> Result<CommittedOffset, JournalError> {
    let mut r = Reader::new(value);
    let version = versioned(&mut r)?;
    let offset = r.i64()?;
    let leader_epoch = if version >= 3 { r.i32()? } else { -1 };
    let metadata = r.string()?;
    let commit_ms = r.i64()?;
    let expire_ms = if version == 1 { Some(r.i64()?).filter(|ms| *ms != -1) } else { None };
    let mut topic_id = None;
    r.each_tag(|tag, bytes| {
        if tag == TOPIC_ID_TAG {
            let id = Uuid::from_slice(bytes).map_err(|_| JournalError::Malformed)?;
            topic_id = Some(id).filter(|id| !id.is_nil());
        }
        Ok(())
    })?;
    Ok(CommittedOffset { offset, leader_epoch, metadata, commit_ms, expire_ms, topic_id })
}

/// A group record; `value` none deletes the group.
pub(super) fn group_record(partitions: i32, group: &str, value: Option<&GroupValue>) -> JournalRecord {
    raw_group_record(partitions, group, value.map(group_value))
}

/// A group record with a value that was written before.
pub(super) fn raw_group_record(partitions: i32, group: &str, value: Option<Bytes>) -> JournalRecord {
    let mut key = BytesMut::with_capacity(4 + group.len());
    key.put_i16(2);
    put_string(&mut key, group);
    JournalRecord { partition: partition_of(group, partitions), key: key.freeze(), value }
}

fn group_value(group: &GroupValue) -> Bytes {
    let names = group.members.iter().map(MemberValue::bytes).sum::<usize>() + group.protocol_type.len();
    let mut out = BytesMut::with_capacity(1_024 + names);
    out.put_i16(3);
    put_string(&mut out, &group.protocol_type);
    out.put_i32(group.generation);
    put_nullable_string(&mut out, group.protocol.as_deref());
    put_nullable_string(&mut out, group.leader.as_deref());
    out.put_i64(group.state_since_ms.unwrap_or(-1));
    out.put_i32(i32::try_from(group.members.len()).unwrap_or(i32::MAX));
    for member in &group.members {
        put_string(&mut out, &member.member_id);
        put_nullable_string(&mut out, member.instance_id.as_deref());
        put_string(&mut out, &member.client_id);
        put_string(&mut out, &member.client_host);
        out.put_i32(member.rebalance_timeout_ms);
        out.put_i32(member.session_timeout_ms);
        put_bytes(&mut out, &member.subscription);
        put_bytes(&mut out, &member.assignment);
    }
    out.freeze()
}

pub(super) fn read_group(value: &[u8]) -> Result<GroupValue, JournalError> {
    let mut r = Reader::new(value);
    let version = versioned(&mut r)?;
    let protocol_type = r.string()?;
    let generation = r.i32()?;
    let protocol = r.nullable_string()?;
    let leader = r.nullable_string()?;
    let state_since_ms = if version >= 2 { Some(r.i64()?).filter(|ms| *ms != -1) } else { None };
    // Grows as members are really found: a count alone reserves nothing.
    let mut members = Vec::new();
    for _ in 0..r.count()? {
        members.push(read_member(&mut r, version)?);
    }
    r.tags()?;
    Ok(GroupValue { protocol_type, generation, protocol, leader, state_since_ms, members })
}

fn read_member(r: &mut Reader<'_>, version: i16) -> Result<MemberValue, JournalError> {
    let member_id = r.string()?;
    let instance_id = if version >= 3 { r.nullable_string()? } else { None };
    let client_id = r.string()?;
    let client_host = r.string()?;
    let rebalance_timeout_ms = if version >= 1 { r.i32()? } else { -1 };
    let session_timeout_ms = r.i32()?;
    let subscription = r.bytes()?;
    let assignment = r.bytes()?;
    r.tags()?;
    Ok(MemberValue {
        member_id,
        instance_id,
        client_id,
        client_host,
        // Version 0 had one timeout for both.
        rebalance_timeout_ms: if rebalance_timeout_ms == -1 {
            session_timeout_ms
        } else {
            rebalance_timeout_ms
        },
        session_timeout_ms,
        subscription,
        assignment,
    })
}

fn versioned(r: &mut Reader<'_>) -> Result<i16, JournalError> {
    let version = r.i16()?;
    if !(0..=4).contains(&version) {
        return Err(JournalError::Version(version));
    }
    r.flexible = version >= 4;
    Ok(version)
}
