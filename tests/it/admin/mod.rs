//! The admin door from outside: raw HTTP/1.1 against a broker in this process.
//!
//! Owns: the blocking client and the reader of metrics that these tests share. Invariant: every read has a timeout.
//! Deliberately absent: phases of a broker's life (beside the door's code).

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use weir_broker::config::{Config, Source};
use weir_broker::{Broker, Builder, Clock};

use crate::{kafka, kinesis};

mod http;
mod many;
mod names;
mod shards;
mod values;

/// A broker and the runtime under it.
struct House {
    runtime: tokio::runtime::Runtime,
    broker: Broker,
}

impl House {
    fn configured(pairs: &[(&str, &str)]) -> Self {
        let mut config = Config::default();
        for (key, value) in pairs {
            config.set(key, value, Source::CommandLine).unwrap();
        }
        Self::start(Broker::builder().ephemeral().config(config))
    }

    /// One whose time stands at a minute past the records of `kafka::batch`.
    fn a_minute_later() -> Self {
        let clock = Clock::Manual(Arc::default());
        let Clock::Manual(time) = &clock else { unreachable!() };
        time.now_ms.store(61_000, Ordering::Relaxed);
        Self::start(Broker::builder().ephemeral().clock(clock))
    }

    fn start(builder: Builder) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let builder = builder.kinesis("127.0.0.1:0").admin("127.0.0.1:0");
        let broker = runtime.block_on(builder.start()).unwrap();
        Self { runtime, broker }
    }

    fn kafka(&self) -> kafka::Client {
        kafka::Client::connect(self.broker.kafka_addrs()[0])
    }

    fn kinesis(&self) -> kinesis::Client {
        kinesis::Client::connect(self.broker.kinesis_addrs()[0])
    }

    /// What is answered to these bytes until the connection ends.
    fn send(&self, bytes: &str) -> String {
        let mut stream = TcpStream::connect(self.broker.admin_addrs()[0]).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // A peer that has answered and closed does not want the rest.
        let _ = stream.write_all(bytes.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    fn get(&self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    fn metrics(&self) -> Metrics {
        Metrics::read(&self.get("/metrics"))
    }

    fn shutdown(self) {
        self.runtime.block_on(self.broker.shutdown()).unwrap();
    }
}

/// Samples by their text before the value.
struct Metrics(BTreeMap<String, String>);

impl Metrics {
    /// Reads an answer, and holds it to the format: one head per family, its samples behind it, no sample twice.
    fn read(answer: &str) -> Self {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
        let text = unchunked(body);
        let mut all = BTreeMap::new();
        let (mut family, mut heads) = (String::new(), std::collections::BTreeSet::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split(' ').next().unwrap().to_owned();
                assert!(heads.insert(family.clone()), "two heads of {family}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let kind = rest.strip_prefix(family.as_str()).unwrap().trim();
                assert_eq!(kind == "counter", family.ends_with("_total"), "{line}");
            } else {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                assert_eq!(sample.split('{').next().unwrap(), family, "{line}");
                value.parse::<f64>().unwrap();
                assert!(all.insert(sample.to_owned(), value.to_owned()).is_none(), "twice: {sample}");
            }
        }
        Self(all)
    }

    /// The value of a sample, named with its labels.
    fn of(&self, sample: &str) -> &str {
        self.0.get(sample).map_or("absent", String::as_str)
    }

    fn number(&self, sample: &str) -> f64 {
        self.of(sample).parse().unwrap_or_else(|_| panic!("{sample} is {}", self.of(sample)))
    }

    /// Samples of a family.
    fn count(&self, family: &str) -> usize {
        self.0.keys().filter(|sample| sample.split('{').next() == Some(family)).count()
    }
}

/// A chunked body, put together.
fn unchunked(mut body: &str) -> String {
    let mut text = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return text;
        }
        text.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
}
