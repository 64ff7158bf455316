//! What a broker should know, in the plainest form: lists of batches, a map of offsets.
//!
//! Deliberately absent: the wire, and everything that makes a broker fast.

use std::collections::{BTreeMap, VecDeque};

/// All of it.
#[derive(Default)]
pub struct State {
    pub topics: BTreeMap<String, Topic>,
    /// Group, topic and partition to offset and metadata.
    pub offsets: BTreeMap<(String, String, i32), (i64, String)>,
}

pub struct Topic {
    pub partitions: Vec<Partition>,
    /// Grows when the broker is killed.
    pub leader_epoch: i32,
}

#[derive(Default)]
pub struct Partition {
    pub start: i64,
    pub end: i64,
    pub batches: Vec<Stored>,
    /// Producer id to the last five batches: first sequence, count, base offset.
    producers: BTreeMap<i64, VecDeque<(i32, i32, i64)>>,
}

pub struct Stored {
    pub base: i64,
    pub leader_epoch: i32,
    /// As sent.
    pub bytes: Vec<u8>,
    pub timestamps: Vec<i64>,
}

/// A batch on its way.
#[derive(Clone)]
pub struct Sent {
    pub bytes: Vec<u8>,
    pub timestamps: Vec<i64>,
    /// Producer id and first sequence.
    pub producer: Option<(i64, i32)>,
}

impl Stored {
    fn next(&self) -> i64 {
        self.base + self.timestamps.len() as i64
    }
}

impl Partition {
    /// Error code and base offset.
    pub fn append(&mut self, sent: &Sent, leader_epoch: i32) -> (i16, i64) {
        let (base, count) = (self.end, sent.timestamps.len());
        if let Some((id, sequence)) = sent.producer {
            let known = self.producers.entry(id).or_default();
            let same = |(first, n, _): &&(i32, i32, i64)| (*first, *n) == (sequence, count as i32);
            if let Some((.., base)) = known.iter().find(same) {
                return (0, *base);
            }
            if sequence != known.back().map_or(0, |(first, n, _)| first + n) {
                return (45, -1);
            }
            known.push_back((sequence, count as i32, base));
            if known.len() > 5 {
                known.pop_front();
            }
        }
        let Sent { bytes, timestamps, .. } = sent.clone();
        self.batches.push(Stored { base, leader_epoch, bytes, timestamps });
        self.end += count as i64;
        (0, base)
    }

    /// The sequence that a producer sends next here, and the batches of it that are remembered.
    pub fn producer(&self, id: i64) -> (i32, Vec<(i32, i32)>) {
        let known = self.producers.get(&id);
        let sent = known.into_iter().flatten().map(|(first, count, _)| (*first, *count)).collect::<Vec<_>>();
        (sent.last().map_or(0, |(first, count)| first + count), sent)
    }

    /// Error code and the new start.
    pub fn delete_records(&mut self, before: i64) -> (i16, i64) {
        let before = if before == -1 { self.end } else { before };
        if before > self.end {
            return (1, -1);
        }
        self.start = self.start.max(before);
        (0, self.start)
    }

    /// Batches from the one that holds `offset`, or the error code.
    pub fn from(&self, offset: i64) -> Result<&[Stored], i16> {
        if offset < self.start || offset > self.end {
            return Err(1);
        }
        Ok(&self.batches[self.batches.partition_point(|batch| batch.next() <= offset)..])
    }

    /// Offset and timestamp of the first readable record at or after a time.
    pub fn at_time(&self, timestamp: i64) -> Option<(i64, i64)> {
        self.records(&self.batches).find(|(_, stamped)| *stamped >= timestamp)
    }

    /// The first readable record that carries the largest timestamp of those that can be read.
    pub fn max_timestamp(&self) -> Option<(i64, i64)> {
        let largest = self.records(&self.batches).map(|(_, timestamp)| timestamp).max()?;
        self.at_time(largest)
    }

    fn records<'a>(&'a self, batches: &'a [Stored]) -> impl Iterator<Item = (i64, i64)> + 'a {
        let all = batches.iter().flat_map(|batch| (batch.base..).zip(batch.timestamps.iter().copied()));
        all.filter(|(offset, _)| *offset >= self.start)
    }
}

impl State {
    pub fn create(&mut self, name: &str, partitions: i32) -> i16 {
        if self.topics.contains_key(name) {
            return 36;
        }
        let partitions = (0..partitions).map(|_| Partition::default()).collect();
        self.topics.insert(name.to_owned(), Topic { partitions, leader_epoch: 0 });
        0
    }

    pub fn delete(&mut self, name: &str) -> i16 {
        self.offsets.retain(|(_, topic, _), _| topic != name);
        if self.topics.remove(name).is_some() { 0 } else { 3 }
    }

    pub fn partition(&mut self, topic: &str, partition: i32) -> Option<(&mut Partition, i32)> {
        let topic = self.topics.get_mut(topic)?;
        let epoch = topic.leader_epoch;
        Some((topic.partitions.get_mut(usize::try_from(partition).ok()?)?, epoch))
    }

    pub fn killed(&mut self) {
        self.topics.values_mut().for_each(|topic| topic.leader_epoch += 1);
    }

    pub fn delete_group(&mut self, group: &str) -> i16 {
        let before = self.offsets.len();
        self.offsets.retain(|(of, ..), _| of != group);
        if self.offsets.len() < before { 0 } else { 69 }
    }
}
