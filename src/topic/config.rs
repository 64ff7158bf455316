//! What can be configured on a topic: one table of keys, and [`TopicConfig`], the values in force.
//!
//! Owns: names, types, ranges, defaults and one line of documentation per key; which broker keys a
//! default comes from; which keys change behaviour and which are only accepted.
//! Invariant: every key of [`KEYS`] that is [`Effect::Applied`] is a field of [`TopicConfig`].
//! Deliberately absent: the broker's own table. Broker values come in through a lookup, so this room
//! never imports `config`.
//!
//! Names, types, ranges and defaults are those of Apache Kafka 4.3 (`LogConfig`, `TopicConfig.java`) with
//! one exception: `message.timestamp.after.max.ms` is unlimited here. Kafka 4.0 rejects records stamped
//! more than an hour ahead (KIP-1030), which surprises tests that play with time.

mod value;

use std::collections::BTreeMap;

pub use value::{Check, Kind, Refusal, check, entries, parse_bool};

use crate::batch::{Codec, TimestampType};
use crate::quota::Rate;

/// Whether a key changes what weir does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Honoured.
    Applied,
    /// Accepted, kept and described, because tools send it; changes nothing here.
    NoEffect,
}

/// One key of a topic.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Name on the wire.
    pub name: &'static str,
    /// Type.
    pub kind: Kind,
    /// Range.
    pub check: Check,
    /// Default when neither topic nor broker says anything.
    pub default: &'static str,
    /// Broker keys that give the default, strongest first, each with the factor that turns its unit
    /// into this key's (`log.retention.hours` counts 3,600,000 ms).
    pub broker_keys: &'static [(&'static str, i64)],
    /// Whether it changes anything.
    pub effect: Effect,
    /// One line for people.
    pub doc: &'static str,
}

/// How records of a topic grow old. Both may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Whole segments are dropped by age and size.
    pub delete: bool,
    /// Older records of a key are dropped.
    pub compact: bool,
}

/// Codec that a topic stores, by its configuration name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As the producer sent it: `producer`.
    Producer,
    /// `uncompressed`.
    Uncompressed,
    /// `gzip`.
    Gzip,
    /// `snappy`.
    Snappy,
    /// `lz4`.
    Lz4,
    /// `zstd`.
    Zstd,
}

/// Who decides how many shards a topic has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardMode {
    /// People.
    Provisioned,
    /// The broker, by what is written.
    OnDemand,
}

/// What becomes of a Kafka produce over the write limits of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaMode {
    /// It is taken, and the client waits.
    Throttle,
    /// It is refused with an error that clients retry.
    Reject,
}

/// Every value that weir honours on a topic. -1 in a limit means none, except where a field says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// Age after which a segment goes, ms; -1 keeps for ever.
    pub retention_ms: i64,
    /// Bytes of a partition above which its oldest segments go; -1 keeps all.
    pub retention_bytes: i64,
    /// A segment is rolled before it grows past this.
    pub segment_bytes: u64,
    /// A segment is rolled when it is older than this, ms.
    pub segment_ms: i64,
    /// Upper bound of a random part taken off `segment_ms`, ms.
    pub segment_jitter_ms: i64,
    /// Largest batch that is accepted, bytes.
    pub max_message_bytes: u32,
    /// Whose timestamps count.
    pub timestamp_type: TimestampType,
    /// How far behind the broker's clock a record's timestamp may be, ms.
    pub timestamp_before_max_ms: i64,
    /// How far ahead of the broker's clock a record's timestamp may be, ms.
    pub timestamp_after_max_ms: i64,
    /// How records grow old.
    pub cleanup_policy: CleanupPolicy,
    /// Stored codec.
    pub compression_type: Compression,
    /// gzip level, -1 for the codec's own.
    pub compression_gzip_level: i32,
    /// Zstandard level.
    pub compression_zstd_level: i32,
    /// Whether compressed records are decompressed and checked when they are produced.
    pub compression_strict: bool,
    /// At most this many bytes between two index entries.
    pub index_interval_bytes: u32,
    /// Write limit of a shard, bytes per second.
    pub shard_write_bytes: Option<Rate>,
    /// Write limit of a shard, records per second.
    pub shard_write_records: Option<Rate>,
    /// Read limit of a shard, bytes per second.
    pub shard_read_bytes: Option<Rate>,
    /// Read limit of a shard on the Kinesis door, calls per second.
    pub shard_read_calls: Option<Rate>,
    /// What becomes of a Kafka produce over the write limits.
    pub shard_quota_mode: QuotaMode,
    /// Who decides how many shards there are.
    pub shard_mode: ShardMode,
}

/// One key of a topic with the value in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// Name.
    pub name: &'static str,
    /// Value in force.
    pub value: String,
    /// Where the value came from.
    pub origin: Origin,
    /// Every origin that has a value, strongest first, the one in force included (DescribeConfigs' synonyms). Each in the
    /// unit of its own key: `log.retention.hours` in hours.
    pub synonyms: Vec<(Origin, String)>,
    /// Type.
    pub kind: Kind,
    /// Whether it changes anything.
    pub effect: Effect,
    /// One line for people.
    pub doc: &'static str,
}

/// Where a topic's value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Set on the topic.
    Topic,
    /// The broker's value of this key; ask the broker's table whether that was set or its default.
    Broker(&'static str),
    /// The table's default.
    Default,
}

/// A broker's value in force by the broker's key name; `None` when null or unknown.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Default for TopicConfig {
    fn default() -> Self {
        Self::read(&|key| key.default.to_owned())
    }
}

impl TopicConfig {
    /// The values in force for a topic with these `overrides` on a broker with these defaults.
    ///
    /// # Errors
    /// [`Refusal`] for the first override that is unknown or out of range.
    pub fn from_overrides(broker: Lookup<'_>, overrides: &BTreeMap<String, String>) -> Result<Self, Refusal> {
        for (name, value) in overrides {
            validate(name, value)?;
        }
        Ok(Self::read(&|key| in_force(key, broker, overrides)))
    }

    /// The time before which records are older than the topic keeps them, ms since the epoch; 0 where age does not count.
    #[must_use]
    pub fn horizon_ms(&self, now_ms: i64) -> i64 {
        let ages = self.retention_ms >= 0 && self.cleanup_policy.delete;
        if ages { now_ms.saturating_sub(self.retention_ms) } else { 0 }
    }

    /// Whether writes to a shard are limited at all.
    #[must_use]
    pub fn limits_writes(&self) -> bool {
        self.shard_write_bytes.is_some() || self.shard_write_records.is_some()
    }

    /// Whether reads of a shard's bytes or calls are limited at all.
    #[must_use]
    pub fn limits_reads(&self) -> bool {
        self.shard_read_bytes.is_some() || self.shard_read_calls.is_some()
    }

    /// Codec that is stored and its level, where it has levels and one was chosen; `None` as batches come.
    pub(super) fn codec(&self) -> Option<(Codec, Option<i32>)> {
        let chosen = |level: i32| (level != -1).then_some(level);
        match self.compression_type {
            Compression::Producer => None,
            Compression::Uncompressed => Some((Codec::None, None)),
            Compression::Gzip => Some((Codec::Gzip, chosen(self.compression_gzip_level))),
            Compression::Snappy => Some((Codec::Snappy, None)),
            Compression::Lz4 => Some((Codec::Lz4, None)),
            Compression::Zstd => Some((Codec::Zstd, Some(self.compression_zstd_level))),
        }
    }

    /// The same, with no limit on shards.
    pub(super) fn without_shard_limits(self) -> Self {
        Self {
            shard_write_bytes: None,
            shard_write_records: None,
            shard_read_bytes: None,
            shard_read_calls: None,
            ..self
        }
    }

    /// Reads every field from checked text.
    fn read(text: &dyn Fn(&Key) -> String) -> Self {
        let value = |name: &str| find(name).map(text).unwrap_or_default();
        let long = |name: &str| value(name).trim().parse::<i64>().unwrap_or_default();
        let int = |name: &str| value(name).trim().parse::<i32>().unwrap_or_default();
        let size = |name: &str| value(name).trim().parse::<u32>().unwrap_or_default();
        Self {
            retention_ms: long("retention.ms"),
            retention_bytes: long("retention.bytes"),
            segment_bytes: u64::from(size("segment.bytes")),
            segment_ms: long("segment.ms"),
            segment_jitter_ms: long("segment.jitter.ms"),
            max_message_bytes: size("max.message.bytes"),
            timestamp_type: timestamp_type(&value("message.timestamp.type")),
            timestamp_before_max_ms: long("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: long("message.timestamp.after.max.ms"),
            cleanup_policy: cleanup_policy(&value("cleanup.policy")),
            compression_type: compression(&value("compression.type")),
            compression_gzip_level: int("compression.gzip.level"),
            compression_zstd_level: int("compression.zstd.level"),
            compression_strict: value("compression.validation").trim() == "strict",
            index_interval_bytes: size("index.interval.bytes"),
            shard_write_bytes: Rate::new(long("shard.write.bytes.per.second")),
            shard_write_records: Rate::new(long("shard.write.records.per.second")),
            shard_read_bytes: Rate::new(long("shard.read.bytes.per.second")),
            shard_read_calls: Rate::new(long("shard.read.calls.per.second")),
            shard_quota_mode: quota_mode(&value("shard.quota.mode")),
            shard_mode: shard_mode(&value("shard.mode")),
        }
    }
}

/// The row of a key.
#[must_use]
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Why a value of a key that is otherwise honoured has no effect, or only some; the same for the broker's key of its
/// default.
#[must_use]
pub fn unheeded(name: &str, value: &str) -> Option<&'static str> {
    let policy = matches!(name, "cleanup.policy" | "log.cleanup.policy");
    (policy && cleanup_policy(value).compact).then_some(COMPACTS_NOTHING)
}

/// Checks one override.
///
/// # Errors
/// [`Refusal`]: unknown key, wrong type, out of range.
pub fn validate(name: &str, value: &str) -> Result<(), Refusal> {
    let key =
        find(name).ok_or_else(|| Refusal::new(name, value, format!("Unknown topic config name: {name}")))?;
    check(key.kind, key.check, value).map_err(|reason| Refusal::new(name, value, reason))
}

/// Every key of a topic with its value in force, in the order of [`KEYS`].
#[must_use]
pub fn describe(broker: Lookup<'_>, overrides: &BTreeMap<String, String>) -> Vec<Described> {
    KEYS.iter()
        .map(|key| {
            let all: Vec<Candidate> = candidates(key, broker, overrides).collect();
            let (origin, value) = all
                .first()
                .map_or_else(|| (Origin::Default, key.default.to_owned()), |c| (c.origin, c.value.clone()));
            Described {
                name: key.name,
                value,
                origin,
                synonyms: all.into_iter().map(|c| (c.origin, c.said)).collect(),
                kind: key.kind,
                effect: key.effect,
                doc: key.doc,
            }
        })
        .collect()
}

fn in_force(key: &Key, broker: Lookup<'_>, overrides: &BTreeMap<String, String>) -> String {
    candidates(key, broker, overrides).next().map_or_else(|| key.default.to_owned(), |c| c.value)
}

/// A value that somebody gave.
struct Candidate {
    origin: Origin,
    /// In the topic key's unit.
    value: String,
    /// As it was said.
    said: String,
}

/// The topic's own value, then the broker's values, strongest first.
fn candidates<'a>(
    key: &'a Key,
    broker: Lookup<'a>,
    overrides: &BTreeMap<String, String>,
) -> impl Iterator<Item = Candidate> + use<'a> {
    let own = overrides.get(key.name).map(|value| Candidate {
        origin: Origin::Topic,
        value: value.clone(),
        said: value.clone(),
    });
    own.into_iter().chain(key.broker_keys.iter().filter_map(move |&(name, factor)| {
        let said = broker(name)?;
        let value = match (name, factor) {
            (PROFILE, limit) => (said == "kinesis").then(|| limit.to_string())?,
            (_, 1) => said.clone(),
            (_, factor) => scaled(&said, factor)?,
        };
        Some(Candidate { origin: Origin::Broker(name), value, said })
    }))
}

/// `-1` means "none" in every unit.
fn scaled(text: &str, factor: i64) -> Option<String> {
    let number: i64 = text.trim().parse().ok()?;
    Some(if number < 0 { number } else { number.saturating_mul(factor) }.to_string())
}

fn timestamp_type(text: &str) -> TimestampType {
    if text.trim() == "LogAppendTime" { TimestampType::LogAppend } else { TimestampType::Create }
}

fn cleanup_policy(text: &str) -> CleanupPolicy {
    CleanupPolicy {
        delete: entries(text).any(|entry| entry == "delete"),
        compact: entries(text).any(|entry| entry == "compact"),
    }
}

fn shard_mode(text: &str) -> ShardMode {
    if text.trim() == "on-demand" { ShardMode::OnDemand } else { ShardMode::Provisioned }
}

fn quota_mode(text: &str) -> QuotaMode {
    if text.trim() == "reject" { QuotaMode::Reject } else { QuotaMode::Throttle }
}

fn compression(text: &str) -> Compression {
    match text.trim() {
        "uncompressed" => Compression::Uncompressed,
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        _ => Compression::Producer,
    }
}

/// A row that weir honours.
const fn key(name: &'static str, kind: Kind, check: Check, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, check, default, broker_keys: &[], effect: Effect::Applied, doc }
}

impl Key {
    /// Takes the default from one broker key of the same unit.
    const fn defaulting_to(mut self, keys: &'static [(&'static str, i64)]) -> Self {
        self.broker_keys = keys;
        self
    }

    /// Known, kept, described; changes nothing.
    const fn inert(mut self) -> Self {
        self.effect = Effect::NoEffect;
        self
    }
}

const COMPACTS_NOTHING: &str = "No effect yet: nothing is compacted; with delete beside it records still go by age and size, alone it keeps them all.";

/// The broker key that switches Kinesis' limits on: its factor is the limit itself.
const PROFILE: &str = "shard.quota.profile";
const LONG_MAX: &str = "9223372036854775807";
const CODECS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;

/// Every key of a topic, by name.
pub const KEYS: &[Key] = &[
    key(
        "cleanup.policy",
        Kind::List,
        Check::Each(&["compact", "delete"]),
        "delete",
        "How old records go: delete, compact, or both. compact has no effect yet, but that records need keys and that, alone, it keeps them all.",
    )
    .defaulting_to(&[("log.cleanup.policy", 1)]),
    key(
        "compression.gzip.level",
        Kind::Int,
        Check::RangeOrMinusOne(1, 9),
        "-1",
        "Level when the broker compresses with gzip.",
    )
    .defaulting_to(&[("compression.gzip.level", 1)]),
    key(
        "compression.lz4.level",
        Kind::Int,
        Check::Range(1, 17),
        "9",
        "The encoder has one level.",
    )
    .defaulting_to(&[("compression.lz4.level", 1)])
    .inert(),
    key(
        "compression.type",
        Kind::Text,
        Check::OneOf(CODECS),
        "producer",
        "Codec that is stored; producer keeps what was sent, any other costs a compression for each batch that comes otherwise.",
    )
    .defaulting_to(&[("compression.type", 1)]),
    key(
        "compression.validation",
        Kind::Text,
        Check::OneOf(&["strict", "frame"]),
        "strict",
        "strict decompresses what is produced and checks every record; frame looks at the shape of the stream alone.",
    )
    .defaulting_to(&[("compression.validation", 1)]),
    key(
        "compression.zstd.level",
        Kind::Int,
        Check::Range(-131_072, 22),
        "3",
        "Level when the broker compresses with zstd.",
    )
    .defaulting_to(&[("compression.zstd.level", 1)]),
    key(
        "delete.retention.ms",
        Kind::Long,
        Check::Min(0),
        "86400000",
        "Nothing is compacted yet.",
    )
    .defaulting_to(&[("log.cleaner.delete.retention.ms", 1)])
    .inert(),
    key(
        "file.delete.delay.ms",
        Kind::Long,
        Check::Min(0),
        "60000",
        "Files go at once; readers keep what they hold.",
    )
    .defaulting_to(&[("log.segment.delete.delay.ms", 1)])
    .inert(),
    key(
        "flush.messages",
        Kind::Long,
        Check::Min(1),
        LONG_MAX,
        "acks=all is on disk before it is answered; the broker's key flush says otherwise.",
    )
    .defaulting_to(&[("log.flush.interval.messages", 1)])
    .inert(),
    key(
        "flush.ms",
        Kind::Long,
        Check::Min(0),
        LONG_MAX,
        "acks=all is on disk before it is answered; the broker's key flush says otherwise.",
    )
    .defaulting_to(&[("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)])
    .inert(),
    key(
        "follower.replication.throttled.replicas",
        Kind::List,
        Check::Any,
        "",
        "One process: nothing is replicated.",
    )
    .inert(),
    key(
        "index.interval.bytes",
        Kind::Int,
        Check::Min(0),
        "4096",
        "Bytes between two entries of the offset index.",
    )
    .defaulting_to(&[("log.index.interval.bytes", 1)]),
    key(
        "leader.replication.throttled.replicas",
        Kind::List,
        Check::Any,
        "",
        "One process: nothing is replicated.",
    )
    .inert(),
    key("local.retention.bytes", Kind::Long, Check::Min(-2), "-2", "There is no remote tier.")
        .defaulting_to(&[("log.local.retention.bytes", 1)])
        .inert(),
    key("local.retention.ms", Kind::Long, Check::Min(-2), "-2", "There is no remote tier.")
        .defaulting_to(&[("log.local.retention.ms", 1)])
        .inert(),
    key(
        "max.compaction.lag.ms",
        Kind::Long,
        Check::Min(1),
        LONG_MAX,
        "Nothing is compacted yet.",
    )
    .defaulting_to(&[("log.cleaner.max.compaction.lag.ms", 1)])
    .inert(),
    key("max.message.bytes", Kind::Int, Check::Min(0), "1048588", "Largest batch that is accepted.")
        .defaulting_to(&[("message.max.bytes", 1)]),
    key(
        "message.downconversion.enable",
        Kind::Bool,
        Check::Any,
        "true",
        "Gone from Kafka 4; old tools still send it.",
    )
    .defaulting_to(&[("log.message.downconversion.enable", 1)])
    .inert(),
    key(
        "message.format.version",
        Kind::Text,
        Check::Any,
        "3.0-IV1",
        "Gone from Kafka 4; old tools still send it.",
    )
    .defaulting_to(&[("log.message.format.version", 1)])
    .inert(),
    key(
        "message.timestamp.after.max.ms",
        Kind::Long,
        Check::Min(0),
        LONG_MAX,
        "How far ahead of the clock a timestamp may be; unlimited here, one hour in Kafka.",
    )
    .defaulting_to(&[("log.message.timestamp.after.max.ms", 1)]),
    key(
        "message.timestamp.before.max.ms",
        Kind::Long,
        Check::Min(0),
        LONG_MAX,
        "How far behind the clock a timestamp may be.",
    )
    .defaulting_to(&[("log.message.timestamp.before.max.ms", 1)]),
    key(
        "message.timestamp.difference.max.ms",
        Kind::Long,
        Check::Min(0),
        LONG_MAX,
        "Gone from Kafka 4; use before.max and after.max.",
    )
    .defaulting_to(&[("log.message.timestamp.difference.max.ms", 1)])
    .inert(),
    key(
        "message.timestamp.type",
        Kind::Text,
        Check::OneOf(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        "Whose timestamps count: the client's or the broker's.",
    )
    .defaulting_to(&[("log.message.timestamp.type", 1)]),
    key(
        "min.cleanable.dirty.ratio",
        Kind::Double,
        Check::Ratio,
        "0.5",
        "Nothing is compacted yet.",
    )
    .defaulting_to(&[("log.cleaner.min.cleanable.ratio", 1)])
    .inert(),
    key(
        "min.compaction.lag.ms",
        Kind::Long,
        Check::Min(0),
        "0",
        "Nothing is compacted yet.",
    )
    .defaulting_to(&[("log.cleaner.min.compaction.lag.ms", 1)])
    .inert(),
    key("min.insync.replicas", Kind::Int, Check::Min(1), "1", "There is one replica, and it is in sync.")
        .defaulting_to(&[("min.insync.replicas", 1)])
        .inert(),
    key("preallocate", Kind::Bool, Check::Any, "false", "Files always grow in preallocated chunks.")
        .defaulting_to(&[("log.preallocate", 1)])
        .inert(),
    key("remote.copy.lag.bytes", Kind::Long, Check::Min(-2), "-2", "There is no remote tier.").inert(),
    key("remote.copy.lag.ms", Kind::Long, Check::Min(-2), "-2", "There is no remote tier.").inert(),
    key("remote.log.copy.disable", Kind::Bool, Check::Any, "false", "There is no remote tier.").inert(),
    key("remote.log.delete.on.disable", Kind::Bool, Check::Any, "false", "There is no remote tier.").inert(),
    key("remote.storage.enable", Kind::Bool, Check::OneOf(&["false"]), "false", "There is no remote tier.")
        .inert(),
    key(
        "retention.bytes",
        Kind::Long,
        Check::Any,
        "-1",
        "Bytes of a partition above which its oldest segments go; -1 keeps all.",
    )
    .defaulting_to(&[("log.retention.bytes", 1)]),
    key(
        "retention.ms",
        Kind::Long,
        Check::Min(-1),
        "604800000",
        "Age after which a segment goes; -1 keeps for ever.",
    )
    .defaulting_to(&[
        ("log.retention.ms", 1),
        ("log.retention.minutes", MINUTE_MS),
        ("log.retention.hours", HOUR_MS),
    ]),
    key(
        "segment.bytes",
        Kind::Int,
        Check::Min(1_048_576),
        "1073741824",
        "A segment is rolled before it grows past this.",
    )
    .defaulting_to(&[("log.segment.bytes", 1)]),
    key("segment.index.bytes", Kind::Int, Check::Min(4), "10485760", "Indexes are sized by their segment.")
        .defaulting_to(&[("log.index.size.max.bytes", 1)])
        .inert(),
    key("segment.jitter.ms", Kind::Long, Check::Min(0), "0", "Random part taken off segment.ms.")
        .defaulting_to(&[("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", HOUR_MS)]),
    key(
        "segment.ms",
        Kind::Long,
        Check::Min(1),
        "604800000",
        "A segment is rolled when it is older than this.",
    )
    .defaulting_to(&[("log.roll.ms", 1), ("log.roll.hours", HOUR_MS)]),
    key(
        "shard.mode",
        Kind::Text,
        Check::OneOf(&["provisioned", "on-demand"]),
        "provisioned",
        "Whether shards split and merge by themselves with what is written to them.",
    ),
    key(
        "shard.quota.mode",
        Kind::Text,
        Check::OneOf(&["throttle", "reject"]),
        "throttle",
        "A Kafka produce over the write limits is taken and the client slowed down, or refused to be retried.",
    ),
    key(
        "shard.read.bytes.per.second",
        Kind::Long,
        Check::RangeOrMinusOne(1, i64::MAX),
        "-1",
        "Read limit of a shard; -1 is off, Kinesis has 2097152.",
    )
    .defaulting_to(&[(PROFILE, 2_097_152)]),
    key(
        "shard.read.calls.per.second",
        Kind::Long,
        Check::RangeOrMinusOne(1, i64::MAX),
        "-1",
        "Read calls of a shard on the Kinesis door; -1 is off, Kinesis has 5.",
    )
    .defaulting_to(&[(PROFILE, 5)]),
    key(
        "shard.write.bytes.per.second",
        Kind::Long,
        Check::RangeOrMinusOne(1, i64::MAX),
        "-1",
        "Write limit of a shard; -1 is off, Kinesis has 1048576.",
    )
    .defaulting_to(&[(PROFILE, 1_048_576)]),
    key(
        "shard.write.records.per.second",
        Kind::Long,
        Check::RangeOrMinusOne(1, i64::MAX),
        "-1",
        "Record limit of a shard; -1 is off, Kinesis has 1000.",
    )
    .defaulting_to(&[(PROFILE, 1000)]),
    key(
        "unclean.leader.election.enable",
        Kind::Bool,
        Check::Any,
        "false",
        "One process: nothing is elected.",
    )
    .defaulting_to(&[("unclean.leader.election.enable", 1)])
    .inert(),
];

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Lookup<'static> = &|_| None;

    fn overrides(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn every_default_passes_its_own_check_and_names_are_sorted() {
        for key in KEYS {
            assert_eq!(check(key.kind, key.check, key.default), Ok(()), "{}", key.name);
        }
        assert!(KEYS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }

    #[test]
    fn an_override_wins_over_the_broker_and_the_broker_over_the_default() {
        let broker = |name: &str| (name == "log.retention.hours").then(|| "2".to_owned());
        let plain = TopicConfig::from_overrides(&broker, &overrides(&[])).unwrap();
        assert_eq!(plain.retention_ms, 7_200_000);
        let set = TopicConfig::from_overrides(&broker, &overrides(&[("retention.ms", "5")])).unwrap();
        assert_eq!(set.retention_ms, 5);
        assert_eq!(TopicConfig::default().retention_ms, 604_800_000);
    }

    #[test]
    fn the_finest_unit_of_a_broker_key_wins_and_minus_one_is_not_scaled() {
        let broker = |name: &str| match name {
            "log.retention.minutes" => Some("3".to_owned()),
            "log.retention.hours" => Some("168".to_owned()),
            _ => None,
        };
        assert_eq!(TopicConfig::from_overrides(&broker, &overrides(&[])).unwrap().retention_ms, 180_000);
        let forever = |name: &str| (name == "log.retention.hours").then(|| "-1".to_owned());
        assert_eq!(TopicConfig::from_overrides(&forever, &overrides(&[])).unwrap().retention_ms, -1);
    }

    #[test]
    fn a_bad_override_is_refused_with_key_value_and_reason() {
        for (name, value) in [
            ("retention.ms", "-2"),
            ("segment.bytes", "100"),
            ("cleanup.policy", "shred"),
            ("message.timestamp.type", "createtime"),
            ("max.message.bytes", "many"),
            ("no.such.key", "1"),
            ("shard.write.bytes.per.second", "0"),
        ] {
            let refusal = TopicConfig::from_overrides(NOTHING, &overrides(&[(name, value)])).unwrap_err();
            assert_eq!((refusal.key.as_str(), refusal.value.as_str()), (name, value));
        }
    }

    #[test]
    fn the_profile_gives_a_shard_the_limits_of_kinesis_and_a_topic_may_differ() {
        let broker = |name: &str| (name == "shard.quota.profile").then(|| "kinesis".to_owned());
        let config = TopicConfig::from_overrides(&broker, &overrides(&[])).unwrap();
        assert_eq!(config.shard_write_bytes, Rate::new(1 << 20));
        assert_eq!(config.shard_write_records, Rate::new(1000));
        assert_eq!(config.shard_read_bytes, Rate::new(2 << 20));
        assert_eq!(config.shard_read_calls, Rate::new(5));
        let own = overrides(&[("shard.write.records.per.second", "-1"), ("shard.quota.mode", "reject")]);
        let config = TopicConfig::from_overrides(&broker, &own).unwrap();
        assert_eq!((config.shard_write_records, config.shard_quota_mode), (None, QuotaMode::Reject));
        let told = describe(&broker, &own);
        let told = told.iter().find(|d| d.name == "shard.write.bytes.per.second").unwrap();
        assert_eq!((told.value.as_str(), told.origin), ("1048576", Origin::Broker("shard.quota.profile")));
        let off = |name: &str| (name == "shard.quota.profile").then(|| "off".to_owned());
        let config = TopicConfig::from_overrides(&off, &overrides(&[])).unwrap();
        assert!(!config.limits_writes() && !config.limits_reads());
    }

    #[test]
    fn both_cleanup_policies_may_hold() {
        let config =
            TopicConfig::from_overrides(NOTHING, &overrides(&[("cleanup.policy", "compact, delete")]))
                .unwrap();
        assert_eq!(config.cleanup_policy, CleanupPolicy { delete: true, compact: true });
    }

    #[test]
    fn describe_tells_where_each_value_came_from() {
        let broker = |name: &str| (name == "message.max.bytes").then(|| "2000".to_owned());
        let all = describe(&broker, &overrides(&[("max.message.bytes", "1000")]));
        assert_eq!(all.len(), KEYS.len());
        let one = all.iter().find(|d| d.name == "max.message.bytes").unwrap();
        assert_eq!((one.value.as_str(), one.origin), ("1000", Origin::Topic));
        assert_eq!(
            one.synonyms,
            [(Origin::Topic, "1000".to_owned()), (Origin::Broker("message.max.bytes"), "2000".to_owned())]
        );
        assert_eq!(all.iter().find(|d| d.name == "retention.ms").unwrap().origin, Origin::Default);
    }

    /// Each key gives the default of a topic key, and no topic key says "applied" that it does not hold.
    #[test]
    fn every_broker_key_changes_what_it_is_the_default_of() {
        for key in KEYS.iter().filter(|key| key.effect == Effect::Applied) {
            let other = other_value(key);
            let own = TopicConfig::from_overrides(NOTHING, &overrides(&[(key.name, other)])).unwrap();
            assert_ne!(own, TopicConfig::default(), "{} changes no field", key.name);
            for &(name, factor) in key.broker_keys.iter().filter(|(name, _)| *name != PROFILE) {
                let said = if factor == 1 { other } else { "1" };
                let broker = |asked: &str| (asked == name).then(|| said.to_owned());
                let by_default = TopicConfig::from_overrides(&broker, &overrides(&[])).unwrap();
                assert_ne!(by_default, TopicConfig::default(), "{name}");
                assert!(factor != 1 || by_default == own, "{name}");
            }
        }
    }

    /// A value that is not the default and passes the check.
    fn other_value(key: &Key) -> &'static str {
        let candidates = ["7", "2000000", "gzip", "compact", "LogAppendTime", "reject", "on-demand", "frame"];
        candidates.into_iter().find(|value| validate(key.name, value).is_ok()).expect(key.name)
    }

    #[test]
    fn compact_says_that_it_has_no_effect_yet() {
        assert!(unheeded("cleanup.policy", "compact").is_some());
        assert!(unheeded("log.cleanup.policy", "delete, compact").is_some());
        assert!(
            unheeded("cleanup.policy", "delete").is_none() && unheeded("retention.ms", "compact").is_none()
        );
    }

    #[test]
    fn a_synonym_stands_in_the_unit_of_its_own_key() {
        let broker = |name: &str| match name {
            "log.retention.minutes" => Some("30".to_owned()),
            "log.retention.hours" => Some("48".to_owned()),
            _ => None,
        };
        let all = describe(&broker, &overrides(&[]));
        let one = all.iter().find(|d| d.name == "retention.ms").unwrap();
        assert_eq!(one.value, "1800000");
        let said = |name, value: &str| (Origin::Broker(name), value.to_owned());
        assert_eq!(one.synonyms, [said("log.retention.minutes", "30"), said("log.retention.hours", "48")]);
    }
}
