//! What a test of behaviour is run against: a broker in this process, or one that runs already.
//!
//! `WEIR_TEST_BROKER=127.0.0.1:9092` names the outside one, so that every expectation in the files that use
//! this is checked against Apache Kafka itself, by hand. Topics and groups have names of their own per run.
//! Deliberately absent: starting Apache Kafka (tests/clients/kafka does).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use weir_broker::Broker;
use weir_broker::config::{Config, Source};

use super::{Client, House, In, Out, Producer, crc32c};

/// A broker under test.
pub(super) struct Subject {
    house: Option<House>,
    addr: SocketAddr,
}

/// Names that were given out in this process.
static NAMES: AtomicU32 = AtomicU32::new(0);

impl Subject {
    pub(super) fn start() -> Self {
        if let Ok(addr) = std::env::var("WEIR_TEST_BROKER") {
            return Self { house: None, addr: addr.parse().unwrap() };
        }
        // Sessions may be as short as a test has patience for.
        let house = house(&[("group.min.session.timeout.ms", "500")]);
        Self { addr: house.broker.kafka_addrs()[0], house: Some(house) }
    }

    pub(super) fn is_weir(&self) -> bool {
        self.house.is_some()
    }

    pub(super) fn client(&self) -> Client {
        Client::connect(self.addr)
    }

    /// A name that nobody has had.
    pub(super) fn name(&self, stem: &str) -> String {
        format!("{stem}-{}-{}", std::process::id(), NAMES.fetch_add(1, Ordering::Relaxed))
    }

    /// A new topic. Of the outside broker it is asked until it leads what it just created; weir must at once.
    pub(super) fn topic(&self, client: &mut Client, partitions: i32, configs: &[(&str, &str)]) -> String {
        let name = self.name("t");
        assert_eq!(client.create_partitioned(&name, partitions, configs), 0);
        let until = Instant::now() + Duration::from_secs(10);
        for index in 0..partitions {
            while !self.is_weir() && client.list_offset_of(&name, index, -1).0 != 0 {
                assert!(Instant::now() < until, "no leader");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        name
    }

    pub(super) fn end(self) {
        if let Some(house) = self.house {
            house.shutdown();
        }
    }
}

/// A broker with settings.
pub(super) fn house(settings: &[(&str, &str)]) -> House {
    let mut config = Config::default();
    for (key, value) in settings {
        config.set(key, value, Source::CommandLine).unwrap();
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let broker = runtime.block_on(Broker::builder().ephemeral().config(config).start()).unwrap();
    House { runtime, broker }
}

/// What is asked of one partition.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) max_bytes: i32,
    pub(super) leader_epoch: i32,
}

/// One partition, everything, whatever the leader epoch.
pub(super) fn from(topic: &str, partition: i32, offset: i64) -> Ask<'_> {
    Ask { topic, partition, offset, max_bytes: 1 << 20, leader_epoch: -1 }
}

/// Limits of one fetch.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) wait_ms: i32,
    pub(super) min_bytes: i32,
    pub(super) max_bytes: i32,
}

pub(super) const AT_ONCE: Limits = Limits { wait_ms: 0, min_bytes: 0, max_bytes: 1 << 20 };

/// What was answered for one partition.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Got {
    pub(super) partition: i32,
    pub(super) code: i16,
    pub(super) high_watermark: i64,
    pub(super) log_start: i64,
    pub(super) records: Vec<u8>,
}

/// Fetch v11, the last classic one; every partition is named with its topic.
pub(super) fn fetch_body(limits: Limits, asks: &[Ask<'_>]) -> Out {
    let mut body = Out::new().i32(-1).i32(limits.wait_ms).i32(limits.min_bytes).i32(limits.max_bytes);
    body = body.i8(0).i32(0).i32(-1).i32(asks.len() as i32);
    for ask in asks {
        body = body.string(ask.topic).i32(1).i32(ask.partition).i32(ask.leader_epoch);
        body = body.i64(ask.offset).i64(-1).i32(ask.max_bytes);
    }
    body.i32(0).string("")
}

pub(super) fn fetched(mut answer: In) -> Vec<Got> {
    assert_eq!((answer.i32(), answer.i16(), answer.i32()), (0, 0, 0));
    let mut all = Vec::new();
    for _ in 0..answer.i32() {
        answer.string();
        for _ in 0..answer.i32() {
            let (partition, code, high_watermark) = (answer.i32(), answer.i16(), answer.i64());
            let (stable, log_start, aborted) = (answer.i64(), answer.i64(), answer.i32());
            assert_eq!((stable, aborted.max(0), answer.i32()), (high_watermark, 0, -1));
            all.push(Got { partition, code, high_watermark, log_start, records: answer.blob() });
        }
    }
    answer.end();
    all
}

/// Offset of the first record and count of the records of every whole batch, in order. Kafka cuts the last
/// batch where a limit ends; weir never does.
pub(super) fn batches(records: &[u8]) -> Vec<(i64, i32)> {
    let mut all = Vec::new();
    let mut rest = In { bytes: records.to_vec(), at: 0 };
    while rest.at < records.len() {
        let base = rest.i64();
        let length = usize::try_from(rest.i32()).unwrap();
        if length > records.len() - rest.at && std::env::var("WEIR_TEST_BROKER").is_ok() {
            break;
        }
        let body = rest.take(length);
        all.push((base, i32::from_be_bytes(body[45..49].try_into().unwrap())));
    }
    all
}

/// One uncompressed batch with a record per timestamp, each with the value `v`.
pub(super) fn stamped(producer: Producer, timestamps: &[i64]) -> Vec<u8> {
    let count = timestamps.len() as i32;
    let (first, last) = (timestamps[0], *timestamps.iter().max().unwrap());
    let mut tail = Out::new().i16(0).i32(count - 1).i64(first).i64(last);
    tail = tail.i64(producer.id).i16(producer.epoch).i32(producer.sequence).i32(count);
    let zigzag = |n: i64| ((n << 1) ^ (n >> 63)) as usize;
    for (n, timestamp) in timestamps.iter().enumerate() {
        let record = Out::new().i8(0).varint(zigzag(timestamp - first)).varint(zigzag(n as i64));
        let record = record.varint(zigzag(-1)).varint(zigzag(1)).raw(b"v").varint(0);
        tail = tail.varint(zigzag(record.0.len() as i64)).raw(&record.0);
    }
    let crc = crc32c(&tail.0);
    Out::new().i64(0).i32(tail.0.len() as i32 + 9).i32(-1).i8(2).raw(&crc.to_be_bytes()).raw(&tail.0).0
}

impl Client {
    /// CreateTopics v2 of one topic; its error code.
    pub(crate) fn create_partitioned(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> i16 {
        let mut body = Out::new().i32(1).string(name).i32(partitions).i16(1).i32(0).i32(configs.len() as i32);
        for (key, value) in configs {
            body = body.string(key).string(value);
        }
        let mut answer = self.call(19, 2, &body.i32(5_000).i8(0));
        assert_eq!((answer.i32(), answer.i32(), answer.string()), (0, 1, name.to_owned()));
        answer.i16()
    }

    /// Produce v7 with acks=all; error code and base offset.
    pub(crate) fn append(&mut self, topic: &str, partition: i32, records: &[u8]) -> (i16, i64) {
        let body = Out::new().i16(-1).i16(-1).i32(5_000).i32(1).string(topic).i32(1).i32(partition);
        let (code, base, _) = super::produced(self.call(0, 7, &body.blob(records)));
        (code, base)
    }

    /// Bytes that a fetch of one partition finds.
    pub(crate) fn read(&mut self, topic: &str, partition: i32, offset: i64) -> usize {
        self.fetch(AT_ONCE, &[from(topic, partition, offset)])[0].records.len()
    }

    pub(super) fn fetch(&mut self, limits: Limits, asks: &[Ask<'_>]) -> Vec<Got> {
        fetched(self.call(1, 11, &fetch_body(limits, asks)))
    }

    /// ListOffsets v1: error code and offset.
    pub(super) fn list_offset_of(&mut self, topic: &str, partition: i32, timestamp: i64) -> (i16, i64) {
        let body = Out::new().i32(-1).i32(1).string(topic).i32(1).i32(partition).i64(timestamp);
        let mut answer = self.call(2, 1, &body);
        answer.i32();
        answer.string();
        answer.i32();
        answer.i32();
        let code = answer.i16();
        answer.i64();
        (code, answer.i64())
    }

    /// DeleteRecords v1: error code and the new start.
    pub(super) fn delete_records(&mut self, topic: &str, partition: i32, before: i64) -> (i16, i64) {
        let body = Out::new().i32(1).string(topic).i32(1).i32(partition).i64(before).i32(5_000);
        let mut answer = self.call(21, 1, &body);
        answer.i32();
        answer.i32();
        answer.string();
        answer.i32();
        answer.i32();
        let start = answer.i64();
        (answer.i16(), start)
    }

    /// DeleteTopics v1; its error code.
    pub(super) fn delete_topic(&mut self, topic: &str) -> i16 {
        let mut answer = self.call(20, 1, &Out::new().i32(1).string(topic).i32(5_000));
        answer.i32();
        answer.i32();
        answer.string();
        answer.i16()
    }

    /// Metadata v12: the topic's id.
    pub(super) fn topic_id(&mut self, topic: &str) -> [u8; 16] {
        let body = Out::new().count(1).raw(&[0; 16]).text(topic).tags().i8(0).i8(0).tags();
        let mut answer = self.call_flexible(3, 12, &body);
        answer.i32();
        for _ in 0..answer.count() {
            answer.i32();
            answer.text();
            answer.i32();
            answer.bytes();
            answer.tags();
        }
        answer.text();
        answer.i32();
        assert_eq!((answer.count(), answer.i16(), answer.text()), (1, 0, topic.to_owned()));
        answer.take(16).try_into().unwrap()
    }
}
