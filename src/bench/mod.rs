//! The load driver behind `weir bench`: a client that costs little, for any Kafka broker.
//!
//! Owns: the scenarios, each of which prints one line of JSON; their result is what the broker costs, so
//! batches are encoded once, sockets block, and one write carries all requests that are due.
//! Invariant: every figure was verified (written records are counted again at the broker, read ones
//! checked) or says `"verified":false`, and then the run fails. GB and MB are 10^9 and 10^6 bytes.
//! Deliberately absent: more than one node, TLS, SASL, tokio, and the crate that the Kafka door speaks
//! with (a second, independent encoding finds what one alone would hide).

#![allow(clippy::disallowed_methods, reason = "a load driver measures real time and blocks on purpose")]

mod apis;
mod conn;
mod durable;
mod e2e;
mod fetch;
mod first_record;
mod floor;
mod histogram;
mod load;
mod partitions;
mod payload;
mod pingpong;
mod process;
mod produce;
mod progress;
mod report;
mod start;
mod topics;
mod wire;

use std::fmt;
use std::io;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use load::Window;
use progress::Progress;
use report::Line;

/// What to run, against which broker, and how. Plain data; `None` means the scenario's own default.
#[derive(Clone, Debug)]
pub struct Options {
    /// The broker's Kafka listener.
    pub addr: SocketAddr,
    /// In this order.
    pub scenarios: Vec<Scenario>,
    /// The broker's process on this machine: adds CPU and memory to the lines.
    pub pid: Option<u32>,
    /// Bytes of a record's value; 1024, but 100 for `produce-one`, `e2e` and the group.
    pub record_bytes: Option<usize>,
    /// Bytes of a batch before compression; 16 KiB.
    pub batch_bytes: Option<usize>,
    /// Compression of the batches.
    pub codec: Codec,
    /// 0, 1 or -1 (all).
    pub acks: i16,
    /// Stamp producer id and sequences.
    pub idempotent: bool,
    /// Requests in flight per connection; 5 for `produce`, 1 for ping-pong, in total for `durable`.
    pub in_flight: Option<usize>,
    /// Connections; 1.
    pub connections: Option<usize>,
    /// Partitions; 1, for `partitions` 10,000.
    pub partitions: Option<i32>,
    /// Least seconds of a window; 3, for `e2e` 10.
    pub seconds: Option<f64>,
    /// Most seconds of a window.
    pub max_seconds: f64,
    /// Broker CPU seconds to wait for, when `pid` is known: its clock ticks every 10 ms.
    pub cpu_seconds: f64,
    /// Request bytes after which a produce window ends; also what `fetch` writes at first (at most 1 GB).
    pub max_bytes: u64,
    /// Messages per second of `e2e`.
    pub rate: u32,
    /// Repetitions of `first-record` and `start`.
    pub repeat: usize,
    /// Where `durable` and `floor` measure this machine's disk; a file is made and removed.
    pub disk_dir: PathBuf,
    /// Leave the topics of `partitions` behind, for `usable` after a restart.
    pub keep_topics: bool,
    /// Command line of `start`, which listens on `addr`; `{n}` becomes the number of the repetition.
    pub command: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 9092)),
            scenarios: vec![
                Scenario::Produce,
                Scenario::ProduceOne,
                Scenario::ListOffsets,
                Scenario::Fetch,
                Scenario::EndToEnd,
                Scenario::FirstRecord,
            ],
            pid: None,
            record_bytes: None,
            batch_bytes: None,
            codec: Codec::None,
            acks: 1,
            idempotent: false,
            in_flight: None,
            connections: None,
            partitions: None,
            seconds: None,
            max_seconds: 20.0,
            cpu_seconds: 2.0,
            max_bytes: 3_000_000_000,
            rate: 1000,
            repeat: 10,
            disk_dir: PathBuf::from("."),
            keep_topics: false,
            command: Vec::new(),
        }
    }
}

impl Options {
    fn window(&self) -> Window {
        let min = Duration::from_secs_f64(self.seconds.unwrap_or(3.0).clamp(0.05, 3600.0));
        Window {
            pid: self.pid,
            warm_up: min.div_f64(10.0),
            min,
            max: min.max(Duration::from_secs_f64(self.max_seconds.clamp(0.05, 3600.0))),
            cpu_s: self.cpu_seconds,
            max_bytes: self.max_bytes,
        }
    }

    fn connections(&self) -> usize {
        self.connections.unwrap_or(1).max(1)
    }

    fn partitions(&self) -> i32 {
        self.partitions.unwrap_or(1).max(1)
    }
}

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Batches, several in flight.
    Produce,
    /// One record per request, by default one at a time.
    ProduceOne,
    /// ApiVersions ping-pong.
    ApiVersions,
    /// Metadata of one topic, ping-pong.
    Metadata,
    /// ListOffsets of one partition, ping-pong or several deep.
    ListOffsets,
    /// From offset 0, what has just been written, again and again.
    Fetch,
    /// Time from the moment a message was due to be sent to its arrival at a long-polling consumer.
    EndToEnd,
    /// The first record through a fresh group.
    FirstRecord,
    /// acks=all beside what the disk's sync allows.
    Durable,
    /// Creating many partitions, and their memory.
    Partitions,
    /// How long until the partitions that exist have leaders: run it when the broker restarts.
    Usable,
    /// From exec to the first answer, and idle memory.
    Start,
    /// Loopback and file without a broker: what no broker can beat.
    Floor,
}

impl Scenario {
    /// Every scenario, in the order of the report.
    pub const ALL: [Self; 13] = [
        Self::Produce,
        Self::ProduceOne,
        Self::ApiVersions,
        Self::Metadata,
        Self::ListOffsets,
        Self::Fetch,
        Self::EndToEnd,
        Self::FirstRecord,
        Self::Durable,
        Self::Partitions,
        Self::Usable,
        Self::Start,
        Self::Floor,
    ];

    /// The name on the command line and in the JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::ProduceOne => "produce-one",
            Self::ApiVersions => "apiversions",
            Self::Metadata => "metadata",
            Self::ListOffsets => "listoffsets",
            Self::Fetch => "fetch",
            Self::EndToEnd => "e2e",
            Self::FirstRecord => "first-record",
            Self::Durable => "durable",
            Self::Partitions => "partitions",
            Self::Usable => "usable",
            Self::Start => "start",
            Self::Floor => "floor",
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scenario {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let known = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|scenario| scenario.name() == name);
        found.ok_or_else(|| Error::Usage(format!("no scenario {name:?}; there are {}", known())))
    }
}

/// Compression of the driver's batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// Plain.
    #[default]
    None,
    /// LZ4 frame.
    Lz4,
    /// zstandard, level 3.
    Zstd,
}

impl Codec {
    /// Attribute bits 0 to 2 of a batch.
    fn bits(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The name on the command line and in the JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl FromStr for Codec {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let found = [Self::None, Self::Lz4, Self::Zstd].into_iter().find(|codec| codec.name() == name);
        found.ok_or_else(|| Error::Usage(format!("no codec {name:?}; there are none, lz4, zstd")))
    }
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The options or the machine do not allow the scenario.
    #[error("{0}")]
    Usage(String),
    /// A socket or file failed.
    #[error("{0}: {1}")]
    Io(&'static str, io::Error),
    /// The broker's bytes are not what the protocol says.
    #[error("{0}")]
    Protocol(String),
    /// The broker answered with a Kafka error code.
    #[error("{api} answered error {code}")]
    Broker {
        /// The API's name.
        api: &'static str,
        /// Kafka's error code.
        code: i16,
    },
    /// Scenarios ran to their end but the broker does not hold what it acknowledged.
    #[error("not verified: {0}")]
    Unverified(String),
}

impl Error {
    fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |e| Self::Io(doing, e)
    }
}

/// Runs `options.scenarios` in order and writes their lines to `out`. A scenario that fails does not keep
/// the next from running.
///
/// # Errors
/// The first failure, after all scenarios ran.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<(), Error> {
    let mut failed = None;
    for &scenario in &options.scenarios {
        if let Err(e) = run_one(scenario, options, out) {
            failed.get_or_insert(e);
        }
    }
    failed.map_or(Ok(()), Err)
}

fn run_one(scenario: Scenario, options: &Options, out: &mut dyn Write) -> Result<(), Error> {
    let progress = Progress::new(scenario.name());
    let mut unverified = false;
    let mut print = |line: Line| {
        let text = line.finish();
        unverified |= text.contains("\"verified\":false");
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(Error::io("writing the result"))
    };
    match scenario {
        Scenario::Produce | Scenario::ProduceOne => print(produce::run(scenario, options, &progress)?)?,
        Scenario::ApiVersions | Scenario::Metadata | Scenario::ListOffsets => {
            print(pingpong::run(scenario, options, &progress)?)?;
        }
        Scenario::Fetch => print(fetch::run(options, &progress)?)?,
        Scenario::EndToEnd => print(e2e::run(options, &progress)?)?,
        Scenario::FirstRecord => print(first_record::run(options, &progress)?)?,
        Scenario::Durable => durable::run(options, &progress, &mut print)?,
        Scenario::Partitions => print(partitions::run(options)?)?,
        Scenario::Usable => print(partitions::usable(options)?)?,
        Scenario::Start => print(start::run(options, &progress)?)?,
        Scenario::Floor => print(floor::run(options)?)?,
    }
    if unverified { Err(Error::Unverified(scenario.name().to_owned())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_known_by_its_name() {
        for scenario in Scenario::ALL {
            assert_eq!(scenario.name().parse::<Scenario>().unwrap(), scenario);
        }
        assert!("Produce".parse::<Scenario>().unwrap_err().to_string().contains("produce-one"));
    }

    #[test]
    fn every_codec_is_known_by_its_name() {
        for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
            assert_eq!(codec.name().parse::<Codec>().unwrap(), codec);
        }
        assert!("gzip".parse::<Codec>().is_err());
    }

    #[test]
    fn a_broker_that_is_not_there_is_an_error_and_no_line() {
        let mut out = Vec::new();
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        let options = Options { addr, scenarios: vec![Scenario::Produce], ..Options::default() };
        assert!(matches!(run(&options, &mut out), Err(Error::Io("connecting", _))));
        assert!(out.is_empty());
    }
}
