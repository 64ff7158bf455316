//! The steps: each asks the broker and the model the same, and compares.

use std::io::Read;

use rustix::process::Signal;

use super::Dice;
use super::state::{Sent, State, Stored};
use crate::cli::Serving;
use crate::kafka::subject::{Ask, Got, Limits, from};
use crate::kafka::{Client, NOBODY, Out, Producer, crc32c, idempotence, produced};

const TOPICS: [&str; 5] = ["a", "b", "c", "d", "e"];
const GROUPS: [&str; 3] = ["g", "h", "i"];

pub struct Run {
    dice: Dice,
    state: State,
    dir: tempfile::TempDir,
    life: Option<(Serving, Client)>,
    producers: Vec<Producer>,
    /// Large batches, made once: a checksum by hand is slow.
    large: Vec<Sent>,
    pub log: Vec<String>,
}

/// One batch of records with those timestamps; the values are `size` bytes together.
fn build(producer: Producer, timestamps: Vec<i64>, size: usize) -> Sent {
    let zigzag = |n: i64| ((n << 1) ^ (n >> 63)) as usize;
    let (first, last, count) = (timestamps[0], *timestamps.iter().max().unwrap(), timestamps.len() as i32);
    let mut tail = Out::new().i16(0).i32(count - 1).i64(first).i64(last);
    tail = tail.i64(producer.id).i16(producer.epoch).i32(producer.sequence).i32(count);
    for (n, timestamp) in timestamps.iter().enumerate() {
        let value = vec![b'a' + (n % 26) as u8; size / timestamps.len()];
        let record = Out::new().i8(0).varint(zigzag(timestamp - first)).varint(zigzag(n as i64));
        let record = record.varint(zigzag(-1)).varint(zigzag(value.len() as i64)).raw(&value).varint(0);
        tail = tail.varint(zigzag(record.0.len() as i64)).raw(&record.0);
    }
    let crc = crc32c(&tail.0).to_be_bytes();
    let bytes = Out::new().i64(0).i32(tail.0.len() as i32 + 9).i32(-1).i8(2).raw(&crc).raw(&tail.0).0;
    let producer = (producer.id >= 0).then_some((producer.id, producer.sequence));
    Sent { bytes, timestamps, producer }
}

fn serve(dir: &std::path::Path) -> (Serving, Client) {
    let data = dir.to_str().unwrap();
    let serving = Serving::start(&["serve", "--data-dir", data, "--listen", "127.0.0.1:0"]);
    let client = Client::connect(serving.address().parse().unwrap());
    (serving, client)
}

impl Run {
    pub fn start(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut life = serve(dir.path());
        let producers = (0..3).map(|_| idempotence::producer(&mut life.1)).collect();
        let sizes = [30_000, 100_000, 200_000];
        let large = sizes.map(|size| build(NOBODY, vec![50, 70, 60], size)).to_vec();
        let (dice, state, log) = (Dice::new(seed), State::default(), Vec::new());
        Self { dice, state, dir, life: Some(life), producers, large, log }
    }

    pub fn step(&mut self) {
        match self.dice.below(100) {
            0..6 => self.create(),
            6..8 => self.delete(),
            8..43 => self.produce(),
            43..63 => self.fetch(),
            63..75 => self.list_offsets(),
            75..80 => self.delete_records(),
            80..88 => self.commit(),
            88..93 => self.committed(),
            93..94 => self.delete_group(),
            94..96 => self.restart(),
            96..98 => self.kill(),
            _ => self.kill_while_producing(),
        }
    }

    /// The last word: everything is there, and is still there after a shutdown.
    pub fn finish(&mut self) {
        self.verify();
        self.restart();
        self.life = None;
    }

    /// What the broker wrote to stderr in its last life.
    pub fn last_words(&mut self) -> String {
        let Some((serving, _)) = self.life.take() else { return String::new() };
        serving.signal(Signal::TERM);
        serving.end().1
    }

    fn say(&mut self, step: String) {
        self.log.push(step);
    }

    fn client(&mut self) -> &mut Client {
        &mut self.life.as_mut().unwrap().1
    }

    fn topic(&mut self) -> &'static str {
        TOPICS[self.dice.below(TOPICS.len())]
    }

    fn group(&mut self) -> &'static str {
        GROUPS[self.dice.below(GROUPS.len())]
    }

    /// A partition that mostly exists.
    fn place(&mut self) -> (&'static str, i32) {
        let existing: Vec<_> = TOPICS.into_iter().filter(|t| self.state.topics.contains_key(*t)).collect();
        if existing.is_empty() || self.dice.one_in(15) {
            return (self.topic(), self.dice.below(4) as i32);
        }
        let topic = existing[self.dice.below(existing.len())];
        let count = self.state.topics[topic].partitions.len();
        (topic, self.dice.below(count) as i32)
    }

    /// An offset near the log of a partition.
    fn offset(&mut self, topic: &str, partition: i32) -> i64 {
        let (start, end) = self.state.partition(topic, partition).map_or((0, 0), |(p, _)| (p.start, p.end));
        match self.dice.below(8) {
            0 => start - 1,
            1 => start,
            2 => end,
            3 => end + 1,
            _ => self.dice.below(end as usize + 1) as i64,
        }
    }

    fn create(&mut self) {
        let (name, partitions) = (self.topic(), 1 + self.dice.below(3) as i32);
        self.say(format!("create {name} with {partitions}"));
        // The timestamps below are of 1970.
        let configs = [("retention.ms", "-1"), ("segment.bytes", "1048576")];
        let code = self.client().create_partitioned(name, partitions, &configs);
        assert_eq!(code, self.state.create(name, partitions));
    }

    fn delete(&mut self) {
        let name = self.topic();
        self.say(format!("delete {name}"));
        assert_eq!(self.client().delete_topic(name), self.state.delete(name));
    }

    /// A batch for a partition: mostly small, at times of a producer that may repeat itself or skip.
    fn batch(&mut self, topic: &str, partition: i32) -> Sent {
        if self.dice.one_in(6) {
            return self.large[self.dice.below(self.large.len())].clone();
        }
        let timestamps: Vec<i64> = (0..=self.dice.below(5)).map(|_| self.dice.below(100) as i64).collect();
        let size = self.dice.below(400);
        if self.dice.one_in(2) {
            return build(NOBODY, timestamps, size);
        }
        let me = self.producers[self.dice.below(self.producers.len())];
        let (next, sent) =
            self.state.partition(topic, partition).map_or((0, Vec::new()), |(p, _)| p.producer(me.id));
        let known = !sent.is_empty();
        match self.dice.below(6) {
            0 if known => {
                let (sequence, count) = sent[self.dice.below(sent.len())];
                build(me.at(sequence), vec![1; count as usize], size)
            }
            1 if known => build(me.at(next + 1 + self.dice.below(9) as i32), timestamps, size),
            _ => build(me.at(next), timestamps, size),
        }
    }

    /// One to three batches, in as many requests and one go.
    fn produce(&mut self) {
        let count = 1 + self.dice.below(3);
        let mut expected = Vec::new();
        for _ in 0..count {
            let (topic, partition) = self.place();
            let sent = self.batch(topic, partition);
            self.send(topic, partition, &sent);
            let place = self.state.partition(topic, partition);
            expected.push(place.map_or((3, -1), |(p, epoch)| p.append(&sent, epoch)));
        }
        for expected in expected {
            let (code, base, _) = produced(self.client().receive().1);
            assert_eq!((code, base), expected);
        }
    }

    fn send(&mut self, topic: &str, partition: i32, sent: &Sent) {
        let (records, producer) = (sent.timestamps.len(), sent.producer);
        self.say(format!(
            "produce {records} to {topic}/{partition}, {} bytes, {producer:?}",
            sent.bytes.len()
        ));
        let body = Out::new().i16(-1).i16(-1).i32(5_000).i32(1).string(topic).i32(1).i32(partition);
        self.client().send(0, 7, &body.blob(&sent.bytes));
    }

    fn fetch(&mut self) {
        let mut places: Vec<(&str, i32)> = (0..=self.dice.below(3)).map(|_| self.place()).collect();
        // A partition is asked for once.
        places.sort_unstable();
        places.dedup();
        let mut asks = Vec::new();
        for (topic, partition) in places {
            let offset = self.offset(topic, partition);
            asks.push(Ask {
                max_bytes: [1, 1_000, 1 << 20][self.dice.below(3)],
                ..from(topic, partition, offset)
            });
        }
        let limits = Limits { wait_ms: 0, min_bytes: 0, max_bytes: [1, 2_000, 1 << 20][self.dice.below(3)] };
        for ask in &asks {
            let Ask { topic, partition, offset, max_bytes, .. } = *ask;
            self.log.push(format!(
                "fetch {topic}/{partition} from {offset}, {max_bytes} of {}",
                limits.max_bytes
            ));
        }
        let all = self.client().fetch(limits, &asks);
        assert_eq!(all.len(), asks.len());
        let mut left = limits.max_bytes as usize;
        let mut first = true;
        for (got, ask) in all.iter().zip(&asks) {
            let limit = left.min(ask.max_bytes as usize);
            self.compare(got, ask, limit, first);
            first &= got.records.is_empty();
            left = left.saturating_sub(got.records.len());
        }
    }

    /// What one partition answers: whole batches from the right one on, as sent, within the limit.
    fn compare(&mut self, got: &Got, ask: &Ask<'_>, limit: usize, first: bool) {
        let Some((partition, _)) = self.state.partition(ask.topic, ask.partition) else {
            assert_eq!((got.code, got.records.len()), (3, 0));
            return;
        };
        let stored = match partition.from(ask.offset) {
            Err(code) => return assert_eq!((got.code, got.records.len()), (code, 0)),
            Ok(stored) => stored,
        };
        let marks = (got.code, got.high_watermark, got.log_start);
        assert_eq!(marks, (0, partition.end, partition.start));
        let read = same(&got.records, stored);
        assert!(got.records.len() <= limit || (first && read == 1), "{} of {limit}", got.records.len());
        let fits = stored.first().is_some_and(|batch| first || batch.bytes.len() <= limit);
        assert!(read > 0 || !fits, "nothing, though a batch would fit {limit}");
    }

    fn list_offsets(&mut self) {
        let (topic, partition) = self.place();
        let timestamp = match self.dice.below(5) {
            0 => -1,
            1 => -2,
            2 => -3,
            _ => self.dice.below(110) as i64 - 5,
        };
        if timestamp < -3 {
            return;
        }
        self.say(format!("list {topic}/{partition} at {timestamp}"));
        let Some((known, epoch)) = self.state.partition(topic, partition) else {
            assert_eq!(self.client().list_offset_of(topic, partition, timestamp), (3, -1));
            return;
        };
        let found = match timestamp {
            -1 => Some((known.end, -1)),
            -2 => Some((known.start, -1)),
            -3 => known.max_timestamp(),
            _ => known.at_time(timestamp),
        };
        let (offset, stamped, epoch) = found.map_or((-1, -1, -1), |(o, t)| (o, t, epoch));
        let body = Out::new().i32(-1).i8(0).count(1).text(topic).count(1).i32(partition).i32(-1);
        let mut answer = self.client().call_flexible(2, 7, &body.i64(timestamp).tags().tags().tags());
        assert_eq!((answer.i32(), answer.count(), answer.text()), (0, 1, topic.to_owned()));
        assert_eq!((answer.count(), answer.i32(), answer.i16()), (1, partition, 0));
        let got = (answer.i64(), answer.i64(), answer.i32());
        assert_eq!((got.1, got.0, got.2), (offset, stamped, epoch), "offset, timestamp, epoch");
    }

    fn delete_records(&mut self) {
        let (topic, partition) = self.place();
        let mut before = self.offset(topic, partition).max(-1);
        // Now and then the whole log, mostly its front.
        if before > 0 && !self.dice.one_in(3) {
            before =
                self.state.partition(topic, partition).map_or(0, |(p, _)| p.start + (before - p.start) / 4);
        }
        self.say(format!("delete records of {topic}/{partition} before {before}"));
        let expected =
            self.state.partition(topic, partition).map_or((3, -1), |(p, _)| p.delete_records(before));
        assert_eq!(self.client().delete_records(topic, partition, before), expected);
    }

    fn commit(&mut self) {
        let (group, (topic, partition), offset) = (self.group(), self.place(), self.dice.below(1_000) as i64);
        let metadata = "é\u{0}\"".repeat(self.dice.below(20));
        self.say(format!("commit {offset} of {topic}/{partition} in {group}"));
        let code = self.client().commit(group, (-1, "", None), (topic, partition, offset), Some(&metadata));
        let exists = self.state.partition(topic, partition).is_some();
        assert_eq!(code, if exists { 0 } else { 3 });
        if exists {
            self.state.offsets.insert((group.to_owned(), topic.to_owned(), partition), (offset, metadata));
        }
    }

    fn committed(&mut self) {
        let (group, (topic, partition)) = (self.group(), self.place());
        self.say(format!("committed {topic}/{partition} in {group}"));
        self.compare_committed(group, topic, partition);
    }

    fn compare_committed(&mut self, group: &str, topic: &str, partition: i32) {
        let key = (group.to_owned(), topic.to_owned(), partition);
        let (offset, metadata) = self.state.offsets.get(&key).cloned().unwrap_or((-1, String::new()));
        assert_eq!(self.client().committed(group, topic, partition), (0, offset, metadata), "{key:?}");
    }

    fn delete_group(&mut self) {
        let group = self.group();
        self.say(format!("delete group {group}"));
        assert_eq!(self.client().delete_group(group), self.state.delete_group(group));
    }

    fn restart(&mut self) {
        self.say("restart".to_owned());
        let (serving, client) = self.life.take().unwrap();
        serving.signal(Signal::TERM);
        let (code, said) = serving.end();
        assert_eq!(code, Some(0), "{said}");
        drop(client);
        self.life = Some(serve(self.dir.path()));
        self.verify();
    }

    fn kill(&mut self) {
        self.say("kill".to_owned());
        self.kill_now();
        self.verify();
    }

    fn kill_now(&mut self) {
        let (serving, mut client) = self.life.take().unwrap();
        serving.signal(Signal::KILL);
        // Answers that were on their way, then the end.
        let _ = client.stream.read_to_end(&mut Vec::new());
        drop(serving);
        self.life = Some(serve(self.dir.path()));
        self.state.killed();
    }

    /// What was not answered may be there or not, but in order: the model takes over what is.
    fn kill_while_producing(&mut self) {
        let (topic, partition) = self.place();
        let batches: Vec<Sent> = (0..=self.dice.below(12))
            .map(|_| build(NOBODY, vec![self.dice.below(100) as i64; 1 + self.dice.below(4)], 10))
            .collect();
        batches.iter().for_each(|sent| self.send(topic, partition, sent));
        self.say("kill before the answers".to_owned());
        let epoch = self.state.topics.get(topic).map_or(0, |topic| topic.leader_epoch);
        self.kill_now();
        if self.state.partition(topic, partition).is_some() {
            let end = self.client().list_offset_of(topic, partition, -1).1;
            let (known, _) = self.state.partition(topic, partition).unwrap();
            for sent in &batches {
                if known.end < end {
                    known.append(sent, epoch);
                }
            }
            assert_eq!(known.end, end, "whole batches, in order");
        }
        self.verify();
    }

    /// Everything that the model knows, read back.
    fn verify(&mut self) {
        let places: Vec<_> = self
            .state
            .topics
            .iter()
            .flat_map(|(t, of)| (0..of.partitions.len()).map(|p| (t.clone(), p as i32)))
            .collect();
        for (topic, partition) in places {
            let known = self.state.partition(&topic, partition).unwrap().0;
            let (mut next, end) = (known.start, known.end);
            while next < end {
                let limits = Limits { wait_ms: 0, min_bytes: 0, max_bytes: 1 << 20 };
                let got = self.client().fetch(limits, &[from(&topic, partition, next)]).remove(0);
                let known = self.state.partition(&topic, partition).unwrap().0;
                assert_eq!(
                    (got.code, got.high_watermark, got.log_start),
                    (0, end, known.start),
                    "{topic}/{partition}"
                );
                let stored = known.from(next).unwrap();
                let read = same(&got.records, stored);
                assert!(read > 0, "{topic}/{partition} has nothing at {next}");
                next = stored[read - 1].base + stored[read - 1].timestamps.len() as i64;
            }
            assert_eq!(self.client().list_offset_of(&topic, partition, -1), (0, end), "{topic}/{partition}");
        }
        for topic in
            TOPICS.into_iter().filter(|topic| !self.state.topics.contains_key(*topic)).collect::<Vec<_>>()
        {
            assert_eq!(self.client().list_offset_of(topic, 0, -1), (3, -1), "{topic} is deleted");
        }
        for (group, topic, partition) in self.state.offsets.keys().cloned().collect::<Vec<_>>() {
            self.compare_committed(&group, &topic, partition);
        }
    }
}

/// How many of `stored` the records are, each whole and as sent but for its place in the log.
fn same(mut records: &[u8], stored: &[Stored]) -> usize {
    let mut count = 0;
    while !records.is_empty() {
        let Stored { base, leader_epoch, bytes, .. } = &stored[count];
        let (batch, rest) = records.split_at(bytes.len());
        assert_eq!(batch[..8], base.to_be_bytes(), "base offset");
        assert_eq!(batch[8..12], bytes[8..12], "length");
        assert_eq!(batch[12..16], leader_epoch.to_be_bytes(), "leader epoch of the batch at {base}");
        assert!(batch[16..] == bytes[16..], "the bytes of the batch at {base}");
        records = rest;
        count += 1;
    }
    count
}
