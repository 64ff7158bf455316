//! Committed offsets: who has read how far, kept by (group, topic, partition).
//!
//! Invariant: offsets change only by `Offsets::put` and `remove`, which only `replay` calls.
//! Metadata comes back byte for byte (Storm keeps JSON in it).
//! Deliberately absent: offsets of open transactions.

use std::collections::BTreeMap;
use std::ops::Bound;

use uuid::Uuid;

use super::classic::Classic;
use super::event::{
    Commit, CommitPartition, CommittedTopic, DeleteOffsets, Error, FetchGroup, FetchedGroup, FetchedTopic,
    Found, State,
};
use super::journal::{JournalRecord, offset_record};
use super::step::{Place, Step};
use super::{Now, Settings};

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
    /// The topic that it is of, which a later one of the same name is not; `None` in records that bear no id.
    pub topic_id: Option<Uuid>,
}

impl CommittedOffset {
    /// Whether it is of the topic that has this id; one without an id is of whatever has the name.
    pub fn is_of(&self, topic: Option<Uuid>) -> bool {
        self.topic_id.is_none() || self.topic_id == topic
    }
}

/// What an offset takes beside its words.
const OFFSET_BYTES: usize = 192;
/// What a topic with offsets takes beside its name.
const TOPIC_BYTES: usize = 256;

/// An offset as it is kept.
#[derive(Debug)]
struct Kept {
    offset: CommittedOffset,
    /// Its record does not read: that something was committed is all that is known.
    unreadable: bool,
    /// From when its age counts: its commit, or when that was found to lie in the future.
    since_ms: i64,
}

/// The offsets of one group.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    topics: BTreeMap<String, BTreeMap<i32, Kept>>,
    count: usize,
    bytes: usize,
}

impl Offsets {
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// What they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn put(&mut self, topic: String, partition: i32, offset: CommittedOffset, wall_ms: i64) {
        let since_ms = offset.commit_ms.min(wall_ms);
        self.keep(topic, partition, Kept { offset, unreadable: false, since_ms });
    }

    /// Something was committed, and it does not read.
    pub fn put_unreadable(&mut self, topic: String, partition: i32, wall_ms: i64) {
        let offset = CommittedOffset {
            offset: -1,
            leader_epoch: -1,
            metadata: String::new(),
            commit_ms: wall_ms,
            expire_ms: None,
            topic_id: None,
        };
        self.keep(topic, partition, Kept { offset, unreadable: true, since_ms: wall_ms });
    }

    fn keep(&mut self, topic: String, partition: i32, kept: Kept) {
        if !self.topics.contains_key(&topic) {
            self.bytes += TOPIC_BYTES + topic.len();
        }
        self.count += 1;
        self.bytes += OFFSET_BYTES + kept.offset.metadata.len();
        if let Some(before) = self.topics.entry(topic).or_default().insert(partition, kept) {
            self.gone(&before);
        }
    }

    fn gone(&mut self, kept: &Kept) {
        self.count -= 1;
        self.bytes -= OFFSET_BYTES + kept.offset.metadata.len();
    }

    pub fn remove(&mut self, topic: &str, partition: i32) {
        let Some(partitions) = self.topics.get_mut(topic) else { return };
        let before = partitions.remove(&partition);
        if partitions.is_empty() {
            self.topics.remove(topic);
            self.bytes -= TOPIC_BYTES + topic.len();
        }
        if let Some(before) = before {
            self.gone(&before);
        }
    }

    /// Takes leave of offsets whose group has ended, as many as a step may.
    pub fn discard(&mut self, step: &mut Step) {
        while !step.is_over()
            && let Some((topic, partitions)) = self.topics.first_key_value()
            && let Some(partition) = partitions.keys().next().copied()
        {
            let topic = topic.clone();
            self.remove(&topic, partition);
            step.look();
        }
    }

    /// The offsets behind a place, or all of them, in order.
    pub fn after(&self, place: Option<(&str, i32)>) -> impl Iterator<Item = (&str, i32, &CommittedOffset)> {
        // What does not read is in its record alone.
        let readable = self.kept_after(place).filter(|(.., kept)| !kept.unreadable);
        readable.map(|(topic, partition, kept)| (topic, partition, &kept.offset))
    }

    fn kept_after(&self, place: Option<(&str, i32)>) -> impl Iterator<Item = (&str, i32, &Kept)> {
        let from = place.map_or(Bound::Unbounded, |(topic, _)| Bound::Included(topic));
        let at = place.and_then(|(topic, partition)| Some((self.topics.get_key_value(topic)?.0, partition)));
        self.topics.range::<str, _>((from, Bound::Unbounded)).flat_map(move |(topic, partitions)| {
            let from = match at {
                Some((at, partition)) if at == topic => Bound::Excluded(partition),
                _ => Bound::Unbounded,
            };
            let rest = partitions.range((from, Bound::Unbounded));
            rest.map(move |(partition, kept)| (topic.as_str(), *partition, kept))
        })
    }

    fn at(&self, topic: &str, partition: i32) -> Option<&Kept> {
        self.topics.get(topic)?.get(&partition)
    }

    /// What was asked for, and where it stopped if that is more than a step makes. `hidden`: what is not here may be in a part
    /// of the journal that does not read.
    pub fn fetch(&self, asked: &FetchGroup, hidden: bool, step: &mut Step) -> (FetchedGroup, Option<Place>) {
        let Some(topics) = &asked.topics else { return self.fetch_all(asked.after.as_ref(), hidden, step) };
        let found = topics.iter().map(|topic| {
            let at = |p: &i32| (*p, answer(self.at(&topic.name, *p), hidden));
            FetchedTopic { name: topic.name.clone(), partitions: topic.partitions.iter().map(at).collect() }
        });
        (FetchedGroup { topics: found.collect() }, None)
    }

    fn fetch_all(
        &self,
        after: Option<&Place>,
        hidden: bool,
        step: &mut Step,
    ) -> (FetchedGroup, Option<Place>) {
        let mut found = FetchedGroup::default();
        for (topic, partition, kept) in self.kept_after(after.map(|(topic, at)| (topic.as_str(), *at))) {
            let partitions = vec![(partition, answer(Some(kept), hidden))];
            found.extend(FetchedGroup { topics: vec![FetchedTopic { name: topic.to_owned(), partitions }] });
            step.look();
            step.make(kept.offset.metadata.len());
            if step.is_over() {
                return (found, Some((topic.to_owned(), partition)));
            }
        }
        (found, None)
    }

    /// Tombstones for every offset of the topic that had this name and id, and for those that bear none unless they may be of an
    /// heir to the name, behind a partition; where it stopped.
    pub fn forget_topic(
        &self,
        settings: &Settings,
        group: &str,
        (topic, id, has_heir): (&str, Uuid, bool),
        after: Option<i32>,
        step: &mut Step,
        records: &mut Vec<JournalRecord>,
    ) -> Option<Place> {
        let behind = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let all = self.topics.get(topic).into_iter().flat_map(|partitions| partitions.range(behind));
        let all = all.map(|(partition, kept)| (topic, *partition, kept));
        let goes = |_: &str, kept: &Kept| kept.offset.topic_id.map_or(!has_heir, |of| of == id);
        forget(settings, group, all, goes, step, records)
    }

    /// Tombstones for offsets that bear no topic's id, where there is no topic of that name, behind a place; where it stopped.
    pub fn forget_nameless(
        &self,
        settings: &Settings,
        group: &str,
        topic_id: &dyn Fn(&str) -> Option<Uuid>,
        after: Option<&Place>,
        step: &mut Step,
        records: &mut Vec<JournalRecord>,
    ) -> Option<Place> {
        let all = self.kept_after(after.map(|(topic, at)| (topic.as_str(), *at)));
        let goes = |topic: &str, kept: &Kept| kept.offset.topic_id.is_none() && topic_id(topic).is_none();
        forget(settings, group, all, goes, step, records)
    }

    /// What lies in the future ages from now on: the clock was wrong then, or is now. The next `looks` behind a place.
    pub fn clamp(&mut self, wall_ms: i64, after: Option<&Place>, looks: usize) {
        let from = after.map_or(Bound::Unbounded, |(topic, _)| Bound::Included(topic.as_str()));
        let behind =
            self.topics.range_mut::<str, _>((from, Bound::Unbounded)).flat_map(|(topic, partitions)| {
                let from = match after {
                    Some((at, partition)) if at == topic => Bound::Excluded(*partition),
                    _ => Bound::Unbounded,
                };
                partitions.range_mut((from, Bound::Unbounded))
            });
        behind.take(looks).for_each(|(_, kept)| kept.since_ms = kept.since_ms.min(wall_ms));
    }

    /// Tombstones for what has expired at `now_ms` of the calendar, behind a place; where it stopped.
    pub fn expire(
        &self,
        settings: &Settings,
        now_ms: i64,
        (group, classic): (&str, &Classic),
        after: Option<&Place>,
        step: &mut Step,
        records: &mut Vec<JournalRecord>,
    ) -> Option<Place> {
        let all = self.kept_after(after.map(|(topic, at)| (topic.as_str(), *at)));
        let goes = |topic: &str, kept: &Kept| {
            let base_ms = classic.retention_base_ms(kept.since_ms).filter(|_| !classic.subscribes_to(topic));
            base_ms.is_some_and(|base_ms| match kept.offset.expire_ms {
                Some(expire_ms) => now_ms >= expire_ms,
                None => now_ms.saturating_sub(base_ms) >= settings.offsets_retention_ms,
            })
        };
        forget(settings, group, all, goes, step, records)
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

/// Tombstones for those of `offsets` that `goes` names, until the step is over; where it stopped.
fn forget<'a>(
    settings: &Settings,
    group: &str,
    offsets: impl Iterator<Item = (&'a str, i32, &'a Kept)>,
    goes: impl Fn(&str, &Kept) -> bool,
    step: &mut Step,
    records: &mut Vec<JournalRecord>,
) -> Option<Place> {
    for (topic, partition, kept) in offsets {
        if goes(topic, kept) {
            let end = offset_record(settings.journal_partitions, group, topic, partition, None);
            step.make(end.bytes());
            records.push(end);
        }
        step.look();
        if step.is_over() {
            return Some((topic.to_owned(), partition));
        }
    }
    None
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
    now: Now,
    commit: Commit,
    records: &mut Vec<JournalRecord>,
) -> Vec<CommittedTopic> {
    let expire_ms = commit.retention_ms.filter(|ms| *ms >= 0).map(|ms| now.wall_ms.saturating_add(ms));
    let mut results = Vec::with_capacity(commit.topics.len());
    for topic in commit.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let partition = asked.partition;
            let result = if topic.gone {
                Err(Error::UnknownTopic)
            } else {
                check_partition(settings, &topic.name, &asked)
            };
            if result.is_ok() {
                let offset = CommittedOffset {
                    offset: asked.offset,
                    leader_epoch: asked.leader_epoch,
                    metadata: asked.metadata,
                    commit_ms: asked.commit_ms.unwrap_or(now.wall_ms),
                    expire_ms,
                    topic_id: topic.id,
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

/// What a commit adds to what is kept; 0 for one that only moves offsets.
pub(super) fn added_bytes(known: Option<&Offsets>, commit: &Commit) -> usize {
    let mut added = if known.is_none() { 512 + 3 * commit.group.len() } else { 0 };
    for topic in &commit.topics {
        if known.is_none_or(|offsets| !offsets.topics.contains_key(&topic.name)) {
            added += TOPIC_BYTES + topic.name.len();
        }
        for asked in &topic.partitions {
            let present = known.and_then(|offsets| offsets.at(&topic.name, asked.partition));
            let before = present.map_or(0, |kept| OFFSET_BYTES + kept.offset.metadata.len());
            added += (OFFSET_BYTES + asked.metadata.len()).saturating_sub(before);
        }
    }
    added
}

fn answer(kept: Option<&Kept>, hidden: bool) -> Found {
    match kept {
        Some(kept) if kept.unreadable => Err(Error::Unreadable),
        Some(kept) => Ok(Some(Box::new(kept.offset.clone()))),
        None if hidden => Err(Error::Unreadable),
        None => Ok(None),
    }
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
