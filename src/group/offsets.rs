//! Committed offsets: who has read how far, kept by (group, topic, partition).
//!
//! Invariant: offsets change only by `Offsets::put` and `remove`, which only `replay` calls.
//! Metadata comes back byte for byte (Storm keeps JSON in it).
//! Deliberately absent: offsets of open transactions.

use std::collections::BTreeMap;

use super::Settings;
use super::classic::Classic;
use super::event::{
    Commit, CommitPartition, CommittedTopic, DeleteOffsets, Error, FetchedGroup, FetchedTopic, State,
    TopicPartitions,
};
use super::journal::{JournalRecord, offset_record};

/// One committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Next offset to read.
    pub offset: i64,
    /// -1 when unknown.
    pub leader_epoch: i32,
    /// The client's own words, byte for byte.
    pub metadata: String,
    /// When it was committed, ms.
    pub commit_ms: i64,
    /// Set by OffsetCommit v2-4 only; beats the broker's retention.
    pub expire_ms: Option<i64>,
}

/// The offsets of one group.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    topics: BTreeMap<String, BTreeMap<i32, CommittedOffset>>,
}

impl Offsets {
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub fn put(&mut self, topic: String, partition: i32, offset: CommittedOffset) {
        self.topics.entry(topic).or_default().insert(partition, offset);
    }

    pub fn remove(&mut self, topic: &str, partition: i32) {
        if let Some(partitions) = self.topics.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    fn at(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.topics.get(topic)?.get(&partition)
    }

    pub fn fetch(&self, topics: Option<Vec<TopicPartitions>>) -> FetchedGroup {
        let Some(asked) = topics else {
            let all = self.topics.iter().map(|(name, partitions)| FetchedTopic {
                name: name.clone(),
                partitions: partitions.iter().map(|(p, offset)| (*p, Some(offset.clone()))).collect(),
            });
            return FetchedGroup { topics: all.collect() };
        };
        let found = asked.into_iter().map(|topic| {
            let at = |p: i32| (p, self.at(&topic.name, p).cloned());
            let partitions = topic.partitions.into_iter().map(at).collect();
            FetchedTopic { name: topic.name, partitions }
        });
        FetchedGroup { topics: found.collect() }
    }

    /// Tombstones for every offset of `topic`.
    pub fn forget_topic(
        &self,
        settings: &Settings,
        group: &str,
        topic: &str,
        records: &mut Vec<JournalRecord>,
    ) {
        for partition in self.topics.get(topic).into_iter().flat_map(BTreeMap::keys) {
            records.push(offset_record(settings.journal_partitions, group, topic, *partition, None));
        }
    }

    /// Tombstones for everything.
    pub fn forget_all(&self, settings: &Settings, group: &str, records: &mut Vec<JournalRecord>) {
        for topic in self.topics.keys() {
            self.forget_topic(settings, group, topic, records);
        }
    }

    /// Tombstones for what has expired; true when nothing stays.
    pub fn expire(
        &self,
        settings: &Settings,
        now_ms: i64,
        group: &str,
        classic: &Classic,
        records: &mut Vec<JournalRecord>,
    ) -> bool {
        let mut all = true;
        for (topic, partitions) in &self.topics {
            let subscribed = classic.subscribes_to(topic);
            for (partition, offset) in partitions {
                let base_ms = classic.retention_base_ms(offset.commit_ms).filter(|_| !subscribed);
                let ended = base_ms.is_some_and(|base_ms| match offset.expire_ms {
                    Some(expire_ms) => now_ms >= expire_ms,
                    None => now_ms.saturating_sub(base_ms) >= settings.offsets_retention_ms,
                });
                if ended {
                    records.push(offset_record(settings.journal_partitions, group, topic, *partition, None));
                }
                all &= ended;
            }
        }
        all
    }

    /// OffsetDelete: refused for topics the group reads, and for groups that are not consumers while in use.
    pub fn delete(
        &self,
        settings: &Settings,
        classic: &Classic,
        asked: DeleteOffsets,
        records: &mut Vec<JournalRecord>,
    ) -> Result<Vec<CommittedTopic>, Error> {
        if classic.state != State::Empty && !classic.is_consumer() {
            return Err(Error::NonEmptyGroup);
        }
        let mut results = Vec::with_capacity(asked.topics.len());
        for topic in asked.topics {
            let subscribed = classic.subscribes_to(&topic.name);
            for partition in
                topic.partitions.iter().filter(|p| !subscribed && self.at(&topic.name, **p).is_some())
            {
                let (partitions, group) = (settings.journal_partitions, &asked.group);
                records.push(offset_record(partitions, group, &topic.name, *partition, None));
            }
            let result = if subscribed { Err(Error::GroupSubscribedToTopic) } else { Ok(()) };
            let partitions = topic.partitions.into_iter().map(|p| (p, result.clone())).collect();
            results.push(CommittedTopic { name: topic.name, partitions });
        }
        Ok(results)
    }
}

/// May this commit be made? The rules of apache/kafka `ClassicGroup.validateOffsetCommit`.
pub(super) fn check_commit(classic: &Classic, commit: &Commit) -> Result<(), Error> {
    let instance = commit.instance_id.as_deref();
    if commit.generation < 0 && classic.state == State::Empty {
        return Ok(());
    }
    if commit.generation < 0 && commit.member_id.is_empty() && instance.is_none() {
        return Err(Error::UnknownMember);
    }
    classic.check_member(&commit.member_id, instance)?;
    if commit.generation != classic.generation {
        return Err(Error::IllegalGeneration);
    }
    // The next generation's plan is being made: its member must not commit before it knows the plan.
    if classic.state == State::CompletingRebalance { Err(Error::RebalanceInProgress) } else { Ok(()) }
}

/// Records of an allowed commit; one partition that fails does not hold up the others (G5).
pub(super) fn commit_records(
    settings: &Settings,
    now_ms: i64,
    commit: Commit,
    records: &mut Vec<JournalRecord>,
) -> Vec<CommittedTopic> {
    let expire_ms = commit.retention_ms.filter(|ms| *ms >= 0).map(|ms| now_ms.saturating_add(ms));
    let mut results = Vec::with_capacity(commit.topics.len());
    for topic in commit.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let partition = asked.partition;
            let result = check_partition(settings, &topic.name, &asked);
            if result.is_ok() {
                let offset = CommittedOffset {
                    offset: asked.offset,
                    leader_epoch: asked.leader_epoch,
                    metadata: asked.metadata,
                    commit_ms: asked.commit_ms.unwrap_or(now_ms),
                    expire_ms,
                };
                let into = settings.journal_partitions;
                records.push(offset_record(into, &commit.group, &topic.name, partition, Some(&offset)));
            }
            partitions.push((partition, result));
        }
        results.push(CommittedTopic { name: topic.name, partitions });
    }
    results
}

fn check_partition(settings: &Settings, topic: &str, asked: &CommitPartition) -> Result<(), Error> {
    // Kafka's longest topic name; the journal's strings end at 32,767 bytes.
    if topic.len() > 249 {
        return Err(Error::InvalidRequest);
    }
    let too_long = asked.metadata.encode_utf16().count() > settings.metadata_max_chars
        || i16::try_from(asked.metadata.len()).is_err();
    if too_long { Err(Error::OffsetMetadataTooLarge) } else { Ok(()) }
}
