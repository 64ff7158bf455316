//! The Kafka door from outside: raw bytes over TCP against a broker in this process.
//!
//! Owns: the blocking client and the classic encoding that these tests share. Invariant: every read and
//! write has a timeout. Deliberately absent: every library that could err in the same way as the broker.
//! Source of the encodings: <https://kafka.apache.org/protocol>.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use weir_broker::Broker;

mod access;
mod client_quotas;
mod fetch;
mod flexible;
mod full;
mod groups;
mod hostile;
mod idempotence;
mod keys;
mod limits;
mod list_offsets;
mod listeners;
mod membership;
mod metadata;
mod model;
mod offsets;
mod produce;
mod restart;
mod shards;
mod subject;
mod topics;
mod wire;

/// A broker and the runtime under it.
struct House {
    runtime: tokio::runtime::Runtime,
    broker: Broker,
}

impl House {
    fn ephemeral() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let broker = runtime.block_on(Broker::builder().ephemeral().start()).unwrap();
        Self { runtime, broker }
    }

    fn kept(dir: &std::path::Path) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let start = Broker::builder().data_dir(dir.to_path_buf()).start();
        let broker = runtime.block_on(start).unwrap();
        Self { runtime, broker }
    }

    fn client(&self) -> Client {
        Client::connect(self.broker.kafka_addrs()[0])
    }

    fn shutdown(self) {
        self.runtime.block_on(self.broker.shutdown()).unwrap();
    }
}

/// One connection; correlation ids count up from 0.
pub(crate) struct Client {
    stream: TcpStream,
    next: i32,
}

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(5)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, next: 0 }
    }

    /// Sends a request with header v1; its correlation id.
    fn send(&mut self, key: i16, version: i16, body: &Out) -> i32 {
        let id = self.next;
        self.next += 1;
        let head = Out::new().i16(key).i16(version).i32(id).string("test");
        let length = i32::try_from(head.0.len() + body.0.len()).unwrap();
        let frame = [&length.to_be_bytes()[..], &head.0, &body.0].concat();
        self.stream.write_all(&frame).unwrap();
        id
    }

    /// The next answer: its correlation id and body.
    fn receive(&mut self) -> (i32, In) {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap();
        assert!(length < 64 << 20, "an answer of {length} bytes");
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).unwrap();
        let mut answer = In { bytes, at: 0 };
        (answer.i32(), answer)
    }

    fn call(&mut self, key: i16, version: i16, body: &Out) -> In {
        let sent = self.send(key, version, body);
        let (id, answer) = self.receive();
        assert_eq!(id, sent, "the answer to another request");
        answer
    }

    /// CreateTopics v2 of one topic with one partition; its error code.
    pub(crate) fn create_topic(&mut self, name: &str, configs: &[(&str, &str)]) -> i16 {
        let mut body = Out::new().i32(1).string(name).i32(1).i16(1).i32(0).i32(configs.len() as i32);
        for (key, value) in configs {
            body = body.string(key).string(value);
        }
        let mut answer = self.call(19, 2, &body.i32(5_000).i8(0));
        answer.i32();
        assert_eq!(answer.i32(), 1);
        assert_eq!(answer.string(), name);
        answer.i16()
    }

    /// DeleteRecords v1 of so many partitions of a topic; the bytes of the request and of its answer.
    pub(crate) fn delete_records_of(&mut self, topic: &str, partitions: i32) -> (usize, usize) {
        let body = Out::new().i32(1).string(topic).i32(partitions);
        let body = (0..partitions).fold(body, |body, partition| body.i32(partition).i64(0)).i32(30_000);
        self.stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let answer = self.call(21, 1, &body);
        (body.0.len(), answer.bytes.len())
    }

    /// Produce v7 to partition 0: error code, base offset, append time.
    pub(crate) fn produce(&mut self, topic: &str, acks: i16, records: &[u8]) -> (i16, i64, i64) {
        produced(self.call(0, 7, &produce_body(topic, acks, records)))
    }

    /// ListOffsets v1 of partition 0: error code and offset.
    pub(crate) fn list_offset(&mut self, topic: &str, timestamp: i64) -> (i16, i64) {
        let body = Out::new().i32(-1).i32(1).string(topic).i32(1).i32(0).i64(timestamp);
        let mut answer = self.call(2, 1, &body);
        answer.i32();
        answer.string();
        answer.i32();
        answer.i32();
        let code = answer.i16();
        answer.i64();
        (code, answer.i64())
    }
}

fn produce_body(topic: &str, acks: i16, records: &[u8]) -> Out {
    Out::new().i16(-1).i16(acks).i32(5_000).i32(1).string(topic).i32(1).i32(0).blob(records)
}

fn produced(mut answer: In) -> (i16, i64, i64) {
    answer.i32();
    answer.string();
    answer.i32();
    answer.i32();
    (answer.i16(), answer.i64(), answer.i64())
}

/// Classic values, written.
struct Out(Vec<u8>);

impl Out {
    fn new() -> Self {
        Self(Vec::new())
    }
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
    fn i8(self, value: i8) -> Self {
        self.raw(&value.to_be_bytes())
    }
    fn i16(self, value: i16) -> Self {
        self.raw(&value.to_be_bytes())
    }
    fn i32(self, value: i32) -> Self {
        self.raw(&value.to_be_bytes())
    }
    fn i64(self, value: i64) -> Self {
        self.raw(&value.to_be_bytes())
    }
    fn string(self, value: &str) -> Self {
        self.i16(value.len() as i16).raw(value.as_bytes())
    }
    fn blob(self, value: &[u8]) -> Self {
        self.i32(value.len() as i32).raw(value)
    }
}

/// Classic values, read.
struct In {
    bytes: Vec<u8>,
    at: usize,
}

impl In {
    fn take(&mut self, count: usize) -> &[u8] {
        self.at += count;
        &self.bytes[self.at - count..self.at]
    }
    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take(2).try_into().unwrap())
    }
    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().unwrap())
    }
    fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.take(8).try_into().unwrap())
    }
    fn string(&mut self) -> String {
        let length = usize::try_from(self.i16()).unwrap_or(0);
        String::from_utf8(self.take(length).to_vec()).unwrap()
    }
    fn blob(&mut self) -> Vec<u8> {
        let length = usize::try_from(self.i32()).unwrap_or(0);
        self.take(length).to_vec()
    }
}

/// An idempotent producer's place, or -1 everywhere for none.
#[derive(Clone, Copy)]
pub(crate) struct Producer {
    id: i64,
    epoch: i16,
    sequence: i32,
}

pub(crate) const NOBODY: Producer = Producer { id: -1, epoch: -1, sequence: -1 };

/// One batch, magic 2, uncompressed, of `count` (below 64) records with one value each (below 60 bytes).
pub(crate) fn batch(producer: Producer, count: u8, value: &[u8]) -> Vec<u8> {
    let zigzag = |n: usize| u8::try_from(n * 2).unwrap();
    let mut tail = Out::new().i16(0).i32(i32::from(count) - 1).i64(1_000).i64(1_000);
    tail = tail.i64(producer.id).i16(producer.epoch).i32(producer.sequence).i32(i32::from(count));
    for n in 0..count {
        let length = zigzag(6 + value.len());
        tail = tail.raw(&[length, 0, 0, n * 2, 1, zigzag(value.len())]).raw(value).raw(&[0]);
    }
    let length = i32::try_from(tail.0.len() + 9).unwrap();
    let crc = crc32c(&tail.0);
    Out::new().i64(0).i32(length).i32(-1).i8(2).raw(&crc.to_be_bytes()).raw(&tail.0).0
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0x82f6_3b78 } else { c >> 1 })
    })
}
