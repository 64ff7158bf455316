//! The Kinesis door from outside: raw HTTP/1.1 over TCP against a broker in this process.
//!
//! Owns: the blocking client that these tests share. Invariant: every read and write has a timeout.
//! Deliberately absent: every library that could err in the same way as the broker; SDKs (`tests/clients`).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use weir_broker::config::{Config, Source};
use weir_broker::{Broker, Builder};

mod both_doors;
mod limits;
mod memory;
mod restart;
mod shards;
mod signed;
mod subscribe;
mod wire;

/// A broker and the runtime under it.
struct House {
    runtime: tokio::runtime::Runtime,
    broker: Option<Broker>,
}

impl House {
    fn ephemeral() -> Self {
        Self::start(Broker::builder().ephemeral())
    }

    fn configured(pairs: &[(&str, &str)]) -> Self {
        let mut config = Config::default();
        for (key, value) in pairs {
            config.set(key, value, Source::CommandLine).unwrap();
        }
        Self::start(Broker::builder().ephemeral().config(config))
    }

    fn kept(dir: &Path) -> Self {
        Self::start(Broker::builder().data_dir(dir.to_path_buf()))
    }

    fn start(builder: Builder) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let broker = runtime.block_on(builder.kinesis("127.0.0.1:0").start()).unwrap();
        Self { runtime, broker: Some(broker) }
    }

    fn broker(&self) -> &Broker {
        self.broker.as_ref().unwrap()
    }

    fn addr(&self) -> SocketAddr {
        self.broker().kinesis_addrs()[0]
    }

    fn client(&self) -> Client {
        Client::connect(self.addr())
    }

    fn shutdown(mut self) {
        self.runtime.block_on(self.broker.take().unwrap().shutdown()).unwrap();
    }
}

const JSON: &str = "application/x-amz-json-1.1";
const CBOR: &str = "application/x-amz-cbor-1.1";
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-west-1/kinesis/aws4_request, \
    SignedHeaders=host;x-amz-date;x-amz-target, Signature=0000000000000000000000000000000000000000000000000000000000000000";

/// A response.
pub(crate) struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Status and name of a refusal; "ok" for an answer.
    pub(crate) fn outcome(&self) -> (u16, String) {
        if self.status == 200 {
            return (200, "ok".to_owned());
        }
        (self.status, value_of(&self.text(), "__type").unwrap_or_default())
    }

    /// The text of the first field of that name.
    pub(crate) fn field(&self, name: &str) -> String {
        value_of(&self.text(), name).unwrap_or_else(|| panic!("no {name} in {}", self.text()))
    }

    fn has(&self, name: &str) -> bool {
        value_of(&self.text(), name).is_some()
    }

    /// How often a field of that name is there.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.text().matches(&format!("\"{name}\":")).count()
    }
}

/// What stands behind the first `"name":` of a JSON text: a text without its quotes, or a number.
fn value_of(json: &str, name: &str) -> Option<String> {
    let key = format!("\"{name}\":");
    let rest = &json[json.find(&key)? + key.len()..];
    Some(match rest.strip_prefix('"') {
        Some(text) => text[..text.find('"')?].to_owned(),
        None => rest[..rest.find([',', '}', ']'])?].to_owned(),
    })
}

/// One connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(5)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    fn send(&mut self, bytes: &[u8]) {
        // A peer that has answered and closed does not want the rest.
        let _ = self.stream.get_mut().write_all(bytes);
    }

    /// The next response; nothing when the connection is closed.
    fn receive(&mut self) -> Option<Answer> {
        let mut head = String::new();
        loop {
            let from = head.len();
            if self.stream.read_line(&mut head).unwrap_or(0) == 0 {
                return None;
            }
            if head[from..].trim().is_empty() {
                break;
            }
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let lower = head.to_ascii_lowercase();
        let length = lower
            .split_once("content-length: ")
            .map_or(0, |(_, rest)| rest.split_once("\r\n").unwrap().0.trim().parse::<usize>().unwrap());
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        Some(Answer { status, head: lower, body })
    }

    pub(crate) fn call(&mut self, operation: &str, body: &str) -> Answer {
        self.call_in(JSON, operation, body.as_bytes())
    }

    fn call_in(&mut self, form: &str, operation: &str, body: &[u8]) -> Answer {
        self.send(&request(form, operation, body));
        self.receive().expect("an answer")
    }

    /// An answer that must be one.
    pub(crate) fn must(&mut self, operation: &str, body: &str) -> Answer {
        let answer = self.call(operation, body);
        assert_eq!(answer.status, 200, "{operation} {body}: {}", answer.text());
        answer
    }

    pub(crate) fn create(&mut self, name: &str, shards: u32) {
        self.must("CreateStream", &format!(r#"{{"StreamName":"{name}","ShardCount":{shards}}}"#));
    }

    pub(crate) fn put(&mut self, name: &str, key: &str, data: &str) -> Answer {
        let body = format!(r#"{{"StreamName":"{name}","PartitionKey":"{key}","Data":"{data}"}}"#);
        self.must("PutRecord", &body)
    }

    fn iterator(&mut self, name: &str, shard: u32, how: &str) -> String {
        let body = format!(r#"{{"StreamName":"{name}","ShardId":"shardId-{shard:012}",{how}}}"#);
        self.must("GetShardIterator", &body).field("ShardIterator")
    }

    /// Everything from the start of a shard, in one answer.
    pub(crate) fn read(&mut self, name: &str, shard: u32) -> Answer {
        let iterator = self.iterator(name, shard, r#""ShardIteratorType":"TRIM_HORIZON""#);
        self.must("GetRecords", &format!(r#"{{"ShardIterator":"{iterator}"}}"#))
    }
}

fn request(form: &str, operation: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: {form}\r\nX-Amz-Target: Kinesis_20131202.{operation}\r\n\
         X-Amz-Date: 20260101T000000Z\r\nAuthorization: {AUTHORIZATION}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
