//! The broker's table of keys: what weir honours, and what it knows and leaves alone.
//!
//! Owns: name, type, default, range, whether it may change while running, and one line for people.
//! Invariant: each list is sorted by name and no name is in both.
//! Deliberately absent: values in force, and Java classes that a key names.
//!
//! Names, types, ranges and defaults are those of Apache Kafka 4.3 (`AbstractKafkaConfig`) save where a
//! row's line says otherwise; keys marked `own` are weir's.

use crate::topic::config::{Check, Effect, Kind};

/// One key of the broker.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Name, as in server.properties.
    pub name: &'static str,
    /// Type.
    pub kind: Kind,
    /// Value when nobody says anything; `None` is null.
    pub default: Option<&'static str>,
    /// Range.
    pub check: Check,
    /// Whether it changes anything.
    pub effect: Effect,
    /// Whether AlterConfigs may change it while the broker runs.
    pub dynamic: bool,
    /// Whether the key is weir's own and unknown to Kafka.
    pub own: bool,
    /// One line for people; for a key without effect, why.
    pub doc: &'static str,
}

/// A row that weir honours.
const fn live(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    check: Check,
    doc: &'static str,
) -> Key {
    Key { name, kind, default, check, effect: Effect::Applied, dynamic: false, own: false, doc }
}

/// A row that is known, described and left alone.
const fn inert(name: &'static str, kind: Kind, default: Option<&'static str>, doc: &'static str) -> Key {
    Key { name, kind, default, check: Check::Any, effect: Effect::NoEffect, dynamic: false, own: false, doc }
}

impl Key {
    const fn dynamic(mut self) -> Self {
        self.dynamic = true;
        self
    }

    /// The key is known and checked, but nothing reads it yet: the start report must not say "applied".
    const fn not_yet(mut self) -> Self {
        self.effect = Effect::NoEffect;
        self
    }

    const fn own(mut self) -> Self {
        self.own = true;
        self
    }
}

/// The row of a key.
#[must_use]
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter()
        .find_map(|list| list.binary_search_by(|key| key.name.cmp(name)).ok().and_then(|at| list.get(at)))
}

/// Every row, honoured ones first.
pub fn all() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().copied().flatten()
}

/// Why a key that starts with this is known and left alone.
#[must_use]
pub fn inert_prefix(name: &str) -> Option<&'static str> {
    INERT_PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|&(_, why)| why)
}

const QUORUM: &str = "No effect: there is no controller quorum.";
const REPLICAS: &str = "No effect: one process, nothing is replicated.";
const TIER: &str = "No effect: there is no remote tier.";
const SECURITY: &str = "No effect yet: listeners are PLAINTEXT and there is no authorizer.";
const TRANSACTIONS: &str = "No effect yet: there are no transactions.";
const GROUPS: &str = "No effect yet: groups speak the classic protocol.";
const ENGINE: &str = "No effect: an inner matter of Kafka's engine.";
const METRICS: &str = "No effect: weir has its own metrics.";
const PLUGINS: &str = "No effect: Java classes cannot be loaded.";
const OLD: &str = "No effect: gone from Kafka 4.";

const INERT_PREFIXES: &[(&str, &str)] = &[
    ("confluent.", PLUGINS),
    ("listener.name.", SECURITY),
    ("rest.", PLUGINS),
    ("rlmm.config.", TIER),
    ("rsm.config.", TIER),
    ("zookeeper.", OLD),
];

/// Both lists: honoured, and known without effect.
pub const KEYS: [&[Key]; 2] = [LIVE, INERT];

const LIVE: &[Key] = &[
    live(
        "admin.hosts",
        Kind::List,
        None,
        Check::Any,
        "Host names with a dot by which the admin door may be called, or * for any; addresses and plain names always may.",
    )
    .own(),
    live(
        "advertised.listeners",
        Kind::List,
        None,
        Check::Any,
        "What clients are told to connect to, per listener; unset means what they connected to.",
    )
    .dynamic(),
    live(
        "auto.create.topics.enable",
        Kind::Bool,
        Some("true"),
        Check::Any,
        "Create a topic when a client asks for its metadata.",
    ),
    live("broker.id", Kind::Int, Some("-1"), Check::Any, "Old name of node.id."),
    live("broker.rack", Kind::Text, None, Check::Any, "Rack that Metadata names."),
    live("cluster.id", Kind::Text, None, Check::Any, "Cluster id of a new data directory; kept with it.")
        .own(),
    live(
        "compression.gzip.level",
        Kind::Int,
        Some("-1"),
        Check::RangeOrMinusOne(1, 9),
        "Default of the topic key of that name.",
    )
    .dynamic(),
    live(
        "compression.lz4.level",
        Kind::Int,
        Some("9"),
        Check::Range(1, 17),
        "Default of the topic key of that name.",
    )
    .dynamic(),
    live(
        "compression.type",
        Kind::Text,
        Some("producer"),
        Check::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        "Default of the topic key of that name.",
    )
    .dynamic(),
    live(
        "compression.zstd.level",
        Kind::Int,
        Some("3"),
        Check::Range(-131_072, 22),
        "Default of the topic key of that name.",
    )
    .dynamic(),
    live(
        "connection.first.frame.timeout.ms",
        Kind::Int,
        Some("10000"),
        Check::Min(1),
        "How long a connection may take to its first whole request.",
    )
    .own(),
    live(
        "connection.max.in.flight.requests",
        Kind::Int,
        Some("64"),
        Check::Range(1, 100_000),
        "Requests of a connection that wait for their answer; its socket is not read above it.",
    )
    .own(),
    live(
        "connections.max.idle.ms",
        Kind::Long,
        Some("600000"),
        Check::Any,
        "A connection that says nothing for this long is closed; -1 is never.",
    ),
    live(
        "controller.listener.names",
        Kind::List,
        Some(""),
        Check::Any,
        "Listeners of these names are accepted and not bound: there is no controller.",
    ),
    live("delete.topic.enable", Kind::Bool, Some("true"), Check::Any, "Whether DeleteTopics is allowed."),
    live(
        "fetch.max.bytes",
        Kind::Int,
        Some("57671680"),
        Check::Min(1_024),
        "Most bytes that one Fetch answers.",
    ),
    live(
        "flush",
        Kind::Text,
        Some("group"),
        Check::OneOf(&["group", "interval", "never"]),
        "When acks=all counts: synced with its neighbours, synced in time, or written to the page cache.",
    )
    .own(),
    live(
        "flush.interval.ms",
        Kind::Long,
        Some("1000"),
        Check::Range(1, 86_400_000),
        "Time between two syncs with flush=interval.",
    )
    .own(),
    live(
        "group.initial.rebalance.delay.ms",
        Kind::Int,
        Some("0"),
        Check::Min(0),
        "How long a new group waits for more members; 0 here, 3000 in Kafka.",
    ),
    live(
        "group.max.session.timeout.ms",
        Kind::Int,
        Some("1800000"),
        Check::Min(1),
        "Longest session timeout that a member may ask for.",
    ),
    live(
        "group.max.size",
        Kind::Int,
        Some("1000"),
        Check::Min(1),
        "Most members of a group; unlimited in Kafka.",
    ),
    live(
        "group.min.session.timeout.ms",
        Kind::Int,
        Some("6000"),
        Check::Min(1),
        "Shortest session timeout that a member may ask for.",
    ),
    live(
        "kinesis.access.keys",
        Kind::Password,
        None,
        Check::Any,
        "Keys of kinesis.auth=strict, as ID:SECRET,ID:SECRET.",
    )
    .own(),
    live(
        "kinesis.account.id",
        Kind::Text,
        Some("000000000000"),
        Check::Any,
        "The account in ARNs and messages of the Kinesis door: 12 digits.",
    )
    .own(),
    live(
        "kinesis.auth",
        Kind::Text,
        Some("wellformed"),
        Check::OneOf(&["wellformed", "strict"]),
        "wellformed takes any signature of the right form; strict verifies it with kinesis.access.keys.",
    )
    .own(),
    live(
        "kinesis.control.rates",
        Kind::Text,
        Some("off"),
        Check::OneOf(&["off", "kinesis"]),
        "kinesis holds control calls to the service's rates, for tests of back-off.",
    )
    .own(),
    live(
        "kinesis.create.delay.ms",
        Kind::Long,
        Some("0"),
        Check::Range(0, 600_000),
        "How long a new stream is CREATING, for tests of clients that wait.",
    )
    .own(),
    live(
        "kinesis.quota.profile",
        Kind::Text,
        Some("kinesis"),
        Check::OneOf(&["off", "kinesis"]),
        "Shard limits of streams made by CreateStream.",
    )
    .own(),
    live(
        "kinesis.shard.limit",
        Kind::Int,
        Some("6000"),
        Check::Range(1, 1_000_000),
        "Open shards of all streams that the Kinesis door allows.",
    )
    .own(),
    live(
        "listener.security.protocol.map",
        Kind::Text,
        Some("SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT"),
        Check::Any,
        "Security protocol of each listener name.",
    ),
    live(
        "listeners",
        Kind::List,
        Some("PLAINTEXT://127.0.0.1:0"),
        Check::Any,
        "What to listen on; 127.0.0.1 unless told otherwise, a free port when embedded, 9092 from the command line.",
    ),
    live(
        "log.cleaner.delete.retention.ms",
        Kind::Long,
        Some("86400000"),
        Check::Min(0),
        "Default of delete.retention.ms.",
    )
    .dynamic(),
    live(
        "log.cleaner.max.compaction.lag.ms",
        Kind::Long,
        Some("9223372036854775807"),
        Check::Min(1),
        "Default of max.compaction.lag.ms.",
    )
    .dynamic(),
    live(
        "log.cleaner.min.cleanable.ratio",
        Kind::Double,
        Some("0.5"),
        Check::Ratio,
        "Default of min.cleanable.dirty.ratio.",
    )
    .dynamic(),
    live(
        "log.cleaner.min.compaction.lag.ms",
        Kind::Long,
        Some("0"),
        Check::Min(0),
        "Default of min.compaction.lag.ms.",
    )
    .dynamic(),
    live(
        "log.cleanup.policy",
        Kind::List,
        Some("delete"),
        Check::Each(&["compact", "delete"]),
        "Default of cleanup.policy.",
    )
    .dynamic(),
    live("log.dir", Kind::List, Some("./weir-data"), Check::Any, "Data directory when log.dirs is unset."),
    live("log.dirs", Kind::List, None, Check::Any, "Data directory; --data-dir wins, and only one is used."),
    live(
        "log.flush.interval.messages",
        Kind::Long,
        Some("9223372036854775807"),
        Check::Min(1),
        "Default of flush.messages.",
    )
    .dynamic(),
    live("log.flush.interval.ms", Kind::Long, None, Check::Min(0), "Default of flush.ms.").dynamic(),
    live(
        "log.flush.scheduler.interval.ms",
        Kind::Long,
        Some("9223372036854775807"),
        Check::Min(0),
        "Default of flush.ms when log.flush.interval.ms is unset.",
    ),
    live(
        "log.index.interval.bytes",
        Kind::Int,
        Some("4096"),
        Check::Min(0),
        "Default of index.interval.bytes.",
    )
    .dynamic(),
    live(
        "log.max.open.files",
        Kind::Int,
        Some("1024"),
        Check::Range(16, 1_000_000),
        "Segment files kept open or mapped; the longest unused go first.",
    )
    .own(),
    live(
        "log.message.timestamp.after.max.ms",
        Kind::Long,
        Some("9223372036854775807"),
        Check::Min(0),
        "Default of message.timestamp.after.max.ms; unlimited here, one hour in Kafka.",
    )
    .dynamic(),
    live(
        "log.message.timestamp.before.max.ms",
        Kind::Long,
        Some("9223372036854775807"),
        Check::Min(0),
        "Default of message.timestamp.before.max.ms.",
    )
    .dynamic(),
    live(
        "log.message.timestamp.type",
        Kind::Text,
        Some("CreateTime"),
        Check::OneOf(&["CreateTime", "LogAppendTime"]),
        "Default of message.timestamp.type.",
    )
    .dynamic(),
    live("log.retention.bytes", Kind::Long, Some("-1"), Check::Any, "Default of retention.bytes.").dynamic(),
    live(
        "log.retention.check.interval.ms",
        Kind::Long,
        Some("300000"),
        Check::Min(1),
        "How often segments are looked at for retention.",
    ),
    live(
        "log.retention.hours",
        Kind::Int,
        Some("168"),
        Check::Any,
        "Default of retention.ms, in hours; the weakest of three.",
    ),
    live("log.retention.minutes", Kind::Int, None, Check::Any, "Default of retention.ms, in minutes."),
    live("log.retention.ms", Kind::Long, None, Check::Min(-1), "Default of retention.ms.").dynamic(),
    live("log.roll.hours", Kind::Int, Some("168"), Check::Min(1), "Default of segment.ms, in hours."),
    live(
        "log.roll.jitter.hours",
        Kind::Int,
        Some("0"),
        Check::Min(0),
        "Default of segment.jitter.ms, in hours.",
    ),
    live("log.roll.jitter.ms", Kind::Long, None, Check::Min(0), "Default of segment.jitter.ms.").dynamic(),
    live("log.roll.ms", Kind::Long, None, Check::Min(1), "Default of segment.ms.").dynamic(),
    live(
        "log.segment.bytes",
        Kind::Int,
        Some("1073741824"),
        Check::Min(1_048_576),
        "Default of segment.bytes.",
    )
    .dynamic(),
    live(
        "max.connection.creation.rate",
        Kind::Int,
        Some("500"),
        Check::Min(1),
        "New connections per second, over 10 s; more are accepted later. Unlimited in Kafka.",
    )
    .dynamic(),
    live(
        "max.connections",
        Kind::Int,
        Some("10000"),
        Check::Min(0),
        "Connections at a time; more are closed at once. Unlimited in Kafka, which lets them wait.",
    )
    .dynamic(),
    live(
        "max.connections.per.ip",
        Kind::Int,
        Some("10000"),
        Check::Min(0),
        "Connections at a time from one address; more are closed at once. Unlimited in Kafka.",
    )
    .dynamic(),
    live(
        "max.connections.per.ip.overrides",
        Kind::Text,
        Some(""),
        Check::Any,
        "host:count,...: exceptions from max.connections.per.ip.",
    )
    .dynamic(),
    live(
        "max.decompressed.bytes",
        Kind::Int,
        Some("67108864"),
        Check::Min(1024),
        "Largest records of a compressed batch once decompressed; a batch that holds more is refused.",
    )
    .own(),
    live("max.groups", Kind::Int, Some("20000"), Check::Min(1), "Consumer groups at a time.").own(),
    live(
        "max.incremental.fetch.session.cache.slots",
        Kind::Int,
        Some("1000"),
        Check::Min(0),
        "No effect yet. Fetch sessions kept (KIP-227).",
    )
    .not_yet(),
    live("max.partitions", Kind::Int, Some("20000"), Check::Min(1), "Partitions of all topics.").own(),
    live(
        "max.partitions.per.topic",
        Kind::Int,
        Some("10000"),
        Check::Range(1, 100_000),
        "Partitions of one topic.",
    )
    .own(),
    live(
        "max.producer.ids.per.partition",
        Kind::Int,
        Some("10000"),
        Check::Min(1),
        "Producer ids that a partition remembers; the longest idle goes first.",
    )
    .own(),
    live(
        "max.request.partition.size.limit",
        Kind::Int,
        Some("2000"),
        Check::Min(1),
        "Most partitions that one DescribeTopicPartitions answers.",
    ),
    live("message.max.bytes", Kind::Int, Some("1048588"), Check::Min(0), "Default of max.message.bytes.")
        .dynamic(),
    live(
        "metrics.labels",
        Kind::List,
        None,
        Check::Any,
        "Labels of every metric, as name=value,name=value; dashboards select by them.",
    )
    .own(),
    live("node.id", Kind::Int, Some("1"), Check::Min(0), "Id that clients see for this broker."),
    live(
        "num.partitions",
        Kind::Int,
        Some("1"),
        Check::Range(1, 10_000),
        "Partitions of a topic that does not say how many.",
    ),
    live(
        "offset.metadata.max.bytes",
        Kind::Int,
        Some("4096"),
        Check::Range(0, 32_767),
        "Longest metadata string of an offset commit.",
    ),
    live(
        "offsets.retention.check.interval.ms",
        Kind::Long,
        Some("600000"),
        Check::Min(1),
        "How often committed offsets are looked at for expiry.",
    ),
    live(
        "offsets.retention.minutes",
        Kind::Int,
        Some("10080"),
        Check::Min(1),
        "How long offsets of an empty group are kept.",
    ),
    live(
        "offsets.topic.num.partitions",
        Kind::Int,
        Some("50"),
        Check::Range(1, 10_000),
        "Partitions of __consumer_offsets, fixed when it is created.",
    ),
    live(
        "offsets.topic.segment.bytes",
        Kind::Int,
        Some("104857600"),
        Check::Min(1),
        "segment.bytes of __consumer_offsets.",
    ),
    live(
        "producer.id.expiration.ms",
        Kind::Int,
        Some("86400000"),
        Check::Min(1),
        "How long an idle producer id is remembered.",
    )
    .dynamic(),
    live(
        "queued.max.request.bytes",
        Kind::Long,
        Some("268435456"),
        Check::RangeOrMinusOne(1, i64::MAX),
        "Memory of all requests in flight; above it large ones wait, one is read at a time. -1, as in Kafka: no limit.",
    ),
    live(
        "shard.ondemand.max.shards",
        Kind::Int,
        Some("128"),
        Check::Min(1),
        "Most shards that a topic with shard.mode=on-demand grows to.",
    )
    .own()
    .dynamic(),
    live(
        "shard.ondemand.merge.bytes.per.second",
        Kind::Long,
        Some("128000"),
        Check::Min(0),
        "Two neighbours that stay below this together are merged, on demand.",
    )
    .own()
    .dynamic(),
    live(
        "shard.ondemand.min.shards",
        Kind::Int,
        Some("4"),
        Check::Min(1),
        "Fewest shards that a topic with shard.mode=on-demand shrinks to.",
    )
    .own()
    .dynamic(),
    live(
        "shard.ondemand.split.bytes.per.second",
        Kind::Long,
        Some("512000"),
        Check::Min(1),
        "A shard that stays above this is split, on demand.",
    )
    .own()
    .dynamic(),
    live(
        "shard.ondemand.window.ms",
        Kind::Long,
        Some("60000"),
        Check::Min(60),
        "How long a shard must stay above or below, on demand.",
    )
    .own()
    .dynamic(),
    live(
        "shard.quota.profile",
        Kind::Text,
        Some("off"),
        Check::OneOf(&["off", "kinesis"]),
        "kinesis gives every shard the limits of a Kinesis shard, unless its topic says otherwise.",
    )
    .own()
    .dynamic(),
    live(
        "socket.listen.backlog.size",
        Kind::Int,
        Some("1024"),
        Check::Min(1),
        "Connections that wait to be accepted; 50 in Kafka.",
    ),
    live(
        "socket.receive.buffer.bytes",
        Kind::Int,
        Some("-1"),
        Check::RangeOrMinusOne(1, 1_073_741_824),
        "SO_RCVBUF; -1 leaves it to the system.",
    ),
    live("socket.request.max.bytes", Kind::Int, Some("104857600"), Check::Min(1), "Largest request."),
    live(
        "socket.send.buffer.bytes",
        Kind::Int,
        Some("-1"),
        Check::RangeOrMinusOne(1, 1_073_741_824),
        "SO_SNDBUF; -1 leaves it to the system.",
    ),
];

const INERT: &[Key] = &[
    inert("add.partitions.to.txn.retry.backoff.max.ms", Kind::Int, Some("100"), TRANSACTIONS),
    inert("add.partitions.to.txn.retry.backoff.ms", Kind::Int, Some("20"), TRANSACTIONS),
    inert("allow.everyone.if.no.acl.found", Kind::Bool, Some("false"), SECURITY),
    inert("alter.config.policy.class.name", Kind::Class, None, PLUGINS),
    inert("alter.log.dirs.replication.quota.window.num", Kind::Int, Some("11"), REPLICAS),
    inert("alter.log.dirs.replication.quota.window.size.seconds", Kind::Int, Some("1"), REPLICAS),
    inert("authorizer.class.name", Kind::Text, Some(""), SECURITY),
    inert("auto.leader.rebalance.enable", Kind::Bool, Some("true"), QUORUM),
    inert("background.threads", Kind::Int, Some("10"), ENGINE).dynamic(),
    inert("broker.heartbeat.interval.ms", Kind::Int, Some("2000"), QUORUM),
    inert("broker.id.generation.enable", Kind::Bool, Some("true"), OLD),
    inert("broker.session.timeout.ms", Kind::Int, Some("9000"), QUORUM),
    inert("client.quota.callback.class", Kind::Class, None, PLUGINS),
    inert("config.providers", Kind::List, Some(""), PLUGINS).dynamic(),
    inert("connection.failed.authentication.delay.ms", Kind::Int, Some("100"), SECURITY),
    inert("connections.max.reauth.ms", Kind::Long, Some("0"), SECURITY),
    inert("control.plane.listener.name", Kind::Text, None, OLD),
    inert("controlled.shutdown.enable", Kind::Bool, Some("true"), ENGINE),
    inert("controller.quorum.append.linger.ms", Kind::Int, Some("25"), QUORUM),
    inert("controller.quorum.auto.join.enable", Kind::Bool, Some("false"), QUORUM),
    inert("controller.quorum.bootstrap.servers", Kind::List, Some(""), QUORUM),
    inert("controller.quorum.election.backoff.max.ms", Kind::Int, Some("1000"), QUORUM),
    inert("controller.quorum.election.timeout.ms", Kind::Int, Some("1000"), QUORUM),
    inert("controller.quorum.fetch.max.bytes", Kind::Int, Some("1048576"), QUORUM),
    inert("controller.quorum.fetch.snapshot.max.bytes", Kind::Int, Some("1048576"), QUORUM),
    inert("controller.quorum.fetch.timeout.ms", Kind::Int, Some("2000"), QUORUM),
    inert("controller.quorum.request.timeout.ms", Kind::Int, Some("2000"), QUORUM),
    inert("controller.quorum.retry.backoff.ms", Kind::Int, Some("20"), QUORUM),
    inert("controller.quorum.voters", Kind::List, Some(""), QUORUM),
    inert("controller.quota.window.num", Kind::Int, Some("11"), QUORUM),
    inert("controller.quota.window.size.seconds", Kind::Int, Some("1"), QUORUM),
    inert("controller.socket.timeout.ms", Kind::Int, Some("30000"), QUORUM),
    inert("cordoned.log.dirs", Kind::List, Some(""), ENGINE).dynamic(),
    inert("create.topic.policy.class.name", Kind::Class, None, PLUGINS),
    inert("default.replication.factor", Kind::Int, Some("1"), REPLICAS),
    inert("delegation.token.expiry.check.interval.ms", Kind::Long, Some("3600000"), SECURITY),
    inert("delegation.token.expiry.time.ms", Kind::Long, Some("86400000"), SECURITY),
    inert("delegation.token.max.lifetime.ms", Kind::Long, Some("604800000"), SECURITY),
    inert("delegation.token.secret.key", Kind::Password, None, SECURITY),
    inert("delete.records.purgatory.purge.interval.requests", Kind::Int, Some("1"), ENGINE),
    inert("early.start.listeners", Kind::List, None, QUORUM),
    inert("fetch.purgatory.purge.interval.requests", Kind::Int, Some("1000"), ENGINE),
    inert("follower.fetch.last.tiered.offset.enable", Kind::Bool, Some("false"), REPLICAS).dynamic(),
    inert("group.consumer.assignment.interval.ms", Kind::Int, Some("1000"), GROUPS).dynamic(),
    inert("group.consumer.assignors", Kind::List, Some("uniform,range"), GROUPS),
    inert("group.consumer.heartbeat.interval.ms", Kind::Int, Some("5000"), GROUPS),
    inert("group.consumer.max.assignment.interval.ms", Kind::Int, Some("15000"), GROUPS),
    inert("group.consumer.max.heartbeat.interval.ms", Kind::Int, Some("15000"), GROUPS),
    inert("group.consumer.max.session.timeout.ms", Kind::Int, Some("60000"), GROUPS),
    inert("group.consumer.max.size", Kind::Int, Some("2147483647"), GROUPS),
    inert("group.consumer.migration.policy", Kind::Text, Some("bidirectional"), GROUPS),
    inert("group.consumer.min.assignment.interval.ms", Kind::Int, Some("0"), GROUPS),
    inert("group.consumer.min.heartbeat.interval.ms", Kind::Int, Some("5000"), GROUPS),
    inert("group.consumer.min.session.timeout.ms", Kind::Int, Some("45000"), GROUPS),
    inert("group.consumer.session.timeout.ms", Kind::Int, Some("45000"), GROUPS),
    inert("group.coordinator.append.linger.ms", Kind::Int, Some("-1"), GROUPS),
    inert("group.coordinator.background.threads", Kind::Int, Some("2"), GROUPS),
    inert("group.coordinator.cached.buffer.max.bytes", Kind::Int, Some("1048588"), GROUPS).dynamic(),
    inert("group.coordinator.rebalance.protocols", Kind::List, Some("classic,consumer,streams"), GROUPS),
    inert("group.coordinator.threads", Kind::Int, Some("4"), GROUPS),
    inert("group.share.assignment.interval.ms", Kind::Int, Some("1000"), GROUPS).dynamic(),
    inert("group.share.assignors", Kind::List, Some("simple"), GROUPS),
    inert("group.share.delivery.count.limit", Kind::Int, Some("5"), GROUPS),
    inert("group.share.heartbeat.interval.ms", Kind::Int, Some("5000"), GROUPS),
    inert("group.share.max.assignment.interval.ms", Kind::Int, Some("15000"), GROUPS),
    inert("group.share.max.delivery.count.limit", Kind::Int, Some("10"), GROUPS),
    inert("group.share.max.heartbeat.interval.ms", Kind::Int, Some("15000"), GROUPS),
    inert("group.share.max.partition.max.record.locks", Kind::Int, Some("4000"), GROUPS),
    inert("group.share.max.record.lock.duration.ms", Kind::Int, Some("60000"), GROUPS),
    inert("group.share.max.session.timeout.ms", Kind::Int, Some("60000"), GROUPS),
    inert("group.share.max.share.sessions", Kind::Int, Some("2000"), GROUPS),
    inert("group.share.max.size", Kind::Int, Some("200"), GROUPS),
    inert("group.share.min.assignment.interval.ms", Kind::Int, Some("0"), GROUPS),
    inert("group.share.min.delivery.count.limit", Kind::Int, Some("2"), GROUPS),
    inert("group.share.min.heartbeat.interval.ms", Kind::Int, Some("5000"), GROUPS),
    inert("group.share.min.partition.max.record.locks", Kind::Int, Some("100"), GROUPS),
    inert("group.share.min.record.lock.duration.ms", Kind::Int, Some("15000"), GROUPS),
    inert("group.share.min.session.timeout.ms", Kind::Int, Some("45000"), GROUPS),
    inert("group.share.partition.max.record.locks", Kind::Int, Some("2000"), GROUPS),
    inert("group.share.record.lock.duration.ms", Kind::Int, Some("30000"), GROUPS),
    inert("group.share.session.timeout.ms", Kind::Int, Some("45000"), GROUPS),
    inert("group.streams.assignment.interval.ms", Kind::Int, Some("1000"), GROUPS).dynamic(),
    inert("group.streams.heartbeat.interval.ms", Kind::Int, Some("5000"), GROUPS),
    inert("group.streams.initial.rebalance.delay.ms", Kind::Int, Some("3000"), GROUPS),
    inert("group.streams.max.assignment.interval.ms", Kind::Int, Some("15000"), GROUPS),
    inert("group.streams.max.heartbeat.interval.ms", Kind::Int, Some("15000"), GROUPS),
    inert("group.streams.max.session.timeout.ms", Kind::Int, Some("60000"), GROUPS),
    inert("group.streams.max.size", Kind::Int, Some("2147483647"), GROUPS),
    inert("group.streams.max.standby.replicas", Kind::Int, Some("2"), GROUPS),
    inert("group.streams.min.assignment.interval.ms", Kind::Int, Some("0"), GROUPS),
    inert("group.streams.min.heartbeat.interval.ms", Kind::Int, Some("5000"), GROUPS),
    inert("group.streams.min.session.timeout.ms", Kind::Int, Some("45000"), GROUPS),
    inert("group.streams.num.standby.replicas", Kind::Int, Some("0"), GROUPS),
    inert("group.streams.session.timeout.ms", Kind::Int, Some("45000"), GROUPS),
    inert("initial.broker.registration.timeout.ms", Kind::Int, Some("60000"), QUORUM),
    inert("inter.broker.listener.name", Kind::Text, None, REPLICAS),
    inert("inter.broker.protocol.version", Kind::Text, Some("3.9-IV0"), OLD),
    inert("kafka.metrics.polling.interval.secs", Kind::Int, Some("10"), METRICS),
    inert("kafka.metrics.reporters", Kind::List, Some(""), METRICS),
    inert("leader.imbalance.check.interval.seconds", Kind::Long, Some("300"), QUORUM),
    inert("log.cleaner.backoff.ms", Kind::Long, Some("15000"), ENGINE).dynamic(),
    inert("log.cleaner.dedupe.buffer.size", Kind::Long, Some("134217728"), ENGINE).dynamic(),
    inert("log.cleaner.enable", Kind::Bool, Some("true"), ENGINE),
    inert("log.cleaner.io.buffer.load.factor", Kind::Double, Some("0.9"), ENGINE).dynamic(),
    inert("log.cleaner.io.buffer.size", Kind::Int, Some("524288"), ENGINE).dynamic(),
    inert("log.cleaner.io.max.bytes.per.second", Kind::Double, Some("1.7976931348623157E308"), ENGINE)
        .dynamic(),
    inert("log.cleaner.threads", Kind::Int, Some("1"), ENGINE).dynamic(),
    inert("log.dir.failure.timeout.ms", Kind::Long, Some("30000"), ENGINE),
    inert("log.flush.offset.checkpoint.interval.ms", Kind::Int, Some("60000"), ENGINE),
    inert("log.flush.start.offset.checkpoint.interval.ms", Kind::Int, Some("60000"), ENGINE),
    inert("log.index.size.max.bytes", Kind::Int, Some("10485760"), ENGINE).dynamic(),
    inert("log.local.retention.bytes", Kind::Long, Some("-2"), TIER).dynamic(),
    inert("log.local.retention.ms", Kind::Long, Some("-2"), TIER).dynamic(),
    inert("log.message.downconversion.enable", Kind::Bool, Some("true"), OLD),
    inert("log.message.format.version", Kind::Text, Some("3.0-IV1"), OLD),
    inert("log.message.timestamp.difference.max.ms", Kind::Long, Some("9223372036854775807"), OLD),
    inert("log.preallocate", Kind::Bool, Some("false"), ENGINE).dynamic(),
    inert("log.segment.delete.delay.ms", Kind::Long, Some("60000"), ENGINE).dynamic(),
    inert("metadata.log.dir", Kind::Text, None, QUORUM),
    inert("metadata.log.max.record.bytes.between.snapshots", Kind::Long, Some("20971520"), QUORUM),
    inert("metadata.log.max.snapshot.interval.ms", Kind::Long, Some("3600000"), QUORUM),
    inert("metadata.log.segment.bytes", Kind::Int, Some("1073741824"), QUORUM),
    inert("metadata.log.segment.ms", Kind::Long, Some("604800000"), QUORUM),
    inert("metadata.max.idle.interval.ms", Kind::Int, Some("500"), QUORUM),
    inert("metadata.max.retention.bytes", Kind::Long, Some("104857600"), QUORUM),
    inert("metadata.max.retention.ms", Kind::Long, Some("604800000"), QUORUM),
    inert("metric.reporters", Kind::List, Some("org.apache.kafka.common.metrics.JmxReporter"), METRICS)
        .dynamic(),
    inert("metrics.num.samples", Kind::Int, Some("2"), METRICS),
    inert("metrics.recording.level", Kind::Text, Some("INFO"), METRICS),
    inert("metrics.sample.window.ms", Kind::Long, Some("30000"), METRICS),
    inert("min.insync.replicas", Kind::Int, Some("1"), REPLICAS).dynamic(),
    inert("num.io.threads", Kind::Int, Some("8"), ENGINE).dynamic(),
    inert("num.network.threads", Kind::Int, Some("3"), ENGINE).dynamic(),
    inert("num.recovery.threads.per.data.dir", Kind::Int, Some("2"), ENGINE).dynamic(),
    inert("num.replica.alter.log.dirs.threads", Kind::Int, None, REPLICAS),
    inert("num.replica.fetchers", Kind::Int, Some("1"), REPLICAS).dynamic(),
    inert("offsets.commit.timeout.ms", Kind::Int, Some("5000"), ENGINE),
    inert("offsets.load.buffer.size", Kind::Int, Some("5242880"), ENGINE),
    inert("offsets.topic.compression.codec", Kind::Int, Some("0"), ENGINE),
    inert("offsets.topic.replication.factor", Kind::Short, Some("3"), REPLICAS),
    inert(
        "principal.builder.class",
        Kind::Class,
        Some("org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder"),
        SECURITY,
    )
    .dynamic(),
    inert("process.roles", Kind::List, None, QUORUM),
    inert("producer.purgatory.purge.interval.requests", Kind::Int, Some("1000"), ENGINE),
    inert("queued.max.requests", Kind::Int, Some("500"), ENGINE),
    inert("quota.window.num", Kind::Int, Some("11"), ENGINE),
    inert("quota.window.size.seconds", Kind::Int, Some("1"), ENGINE),
    inert("remote.fetch.max.wait.ms", Kind::Int, Some("500"), TIER).dynamic(),
    inert("remote.list.offsets.request.timeout.ms", Kind::Long, Some("30000"), TIER).dynamic(),
    inert("remote.log.index.file.cache.total.size.bytes", Kind::Long, Some("1073741824"), TIER).dynamic(),
    inert("remote.log.manager.copier.thread.pool.size", Kind::Int, Some("10"), TIER).dynamic(),
    inert("remote.log.manager.copy.max.bytes.per.second", Kind::Long, Some("9223372036854775807"), TIER)
        .dynamic(),
    inert("remote.log.manager.copy.quota.window.num", Kind::Int, Some("11"), TIER),
    inert("remote.log.manager.copy.quota.window.size.seconds", Kind::Int, Some("1"), TIER),
    inert("remote.log.manager.expiration.thread.pool.size", Kind::Int, Some("10"), TIER).dynamic(),
    inert("remote.log.manager.fetch.max.bytes.per.second", Kind::Long, Some("9223372036854775807"), TIER)
        .dynamic(),
    inert("remote.log.manager.fetch.quota.window.num", Kind::Int, Some("11"), TIER),
    inert("remote.log.manager.fetch.quota.window.size.seconds", Kind::Int, Some("1"), TIER),
    inert("remote.log.manager.follower.thread.pool.size", Kind::Int, Some("2"), TIER).dynamic(),
    inert("remote.log.manager.task.interval.ms", Kind::Long, Some("30000"), TIER),
    inert("remote.log.manager.thread.pool.size", Kind::Int, Some("2"), TIER),
    inert("remote.log.metadata.custom.metadata.max.bytes", Kind::Int, Some("128"), TIER),
    inert(
        "remote.log.metadata.manager.class.name",
        Kind::Text,
        Some("org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager"),
        TIER,
    ),
    inert("remote.log.metadata.manager.class.path", Kind::Text, None, TIER),
    inert("remote.log.metadata.manager.impl.prefix", Kind::Text, Some("rlmm.config."), TIER),
    inert("remote.log.metadata.manager.listener.name", Kind::Text, None, TIER),
    inert("remote.log.reader.max.pending.tasks", Kind::Int, Some("100"), TIER),
    inert("remote.log.reader.threads", Kind::Int, Some("10"), TIER).dynamic(),
    inert("remote.log.storage.manager.class.name", Kind::Text, None, TIER),
    inert("remote.log.storage.manager.class.path", Kind::Text, None, TIER),
    inert("remote.log.storage.manager.impl.prefix", Kind::Text, Some("rsm.config."), TIER),
    inert("remote.log.storage.system.enable", Kind::Bool, Some("false"), TIER),
    inert("replica.fetch.backoff.ms", Kind::Int, Some("1000"), REPLICAS),
    inert("replica.fetch.max.bytes", Kind::Int, Some("1048576"), REPLICAS),
    inert("replica.fetch.min.bytes", Kind::Int, Some("1"), REPLICAS),
    inert("replica.fetch.response.max.bytes", Kind::Int, Some("10485760"), REPLICAS),
    inert("replica.fetch.wait.max.ms", Kind::Int, Some("500"), REPLICAS),
    inert("replica.high.watermark.checkpoint.interval.ms", Kind::Long, Some("5000"), REPLICAS),
    inert("replica.lag.time.max.ms", Kind::Long, Some("30000"), REPLICAS),
    inert("replica.selector.class", Kind::Text, None, REPLICAS),
    inert("replica.socket.receive.buffer.bytes", Kind::Int, Some("65536"), REPLICAS),
    inert("replica.socket.timeout.ms", Kind::Int, Some("30000"), REPLICAS),
    inert("replication.quota.window.num", Kind::Int, Some("11"), REPLICAS),
    inert("replication.quota.window.size.seconds", Kind::Int, Some("1"), REPLICAS),
    inert("request.timeout.ms", Kind::Int, Some("30000"), ENGINE),
    inert("reserved.broker.max.id", Kind::Int, Some("1000"), OLD),
    inert("sasl.client.callback.handler.class", Kind::Class, None, SECURITY),
    inert("sasl.enabled.mechanisms", Kind::List, Some("GSSAPI"), SECURITY).dynamic(),
    inert("sasl.jaas.config", Kind::Password, None, SECURITY).dynamic(),
    inert("sasl.kerberos.kinit.cmd", Kind::Text, Some("/usr/bin/kinit"), SECURITY).dynamic(),
    inert("sasl.kerberos.min.time.before.relogin", Kind::Long, Some("60000"), SECURITY).dynamic(),
    inert("sasl.kerberos.principal.to.local.rules", Kind::List, Some("DEFAULT"), SECURITY).dynamic(),
    inert("sasl.kerberos.service.name", Kind::Text, None, SECURITY).dynamic(),
    inert("sasl.kerberos.ticket.renew.jitter", Kind::Double, Some("0.05"), SECURITY).dynamic(),
    inert("sasl.kerberos.ticket.renew.window.factor", Kind::Double, Some("0.8"), SECURITY).dynamic(),
    inert("sasl.login.callback.handler.class", Kind::Class, None, SECURITY),
    inert("sasl.login.class", Kind::Class, None, SECURITY),
    inert("sasl.login.connect.timeout.ms", Kind::Int, None, SECURITY),
    inert("sasl.login.read.timeout.ms", Kind::Int, None, SECURITY),
    inert("sasl.login.refresh.buffer.seconds", Kind::Short, Some("300"), SECURITY).dynamic(),
    inert("sasl.login.refresh.min.period.seconds", Kind::Short, Some("60"), SECURITY).dynamic(),
    inert("sasl.login.refresh.window.factor", Kind::Double, Some("0.8"), SECURITY).dynamic(),
    inert("sasl.login.refresh.window.jitter", Kind::Double, Some("0.05"), SECURITY).dynamic(),
    inert("sasl.login.retry.backoff.max.ms", Kind::Long, Some("10000"), SECURITY),
    inert("sasl.login.retry.backoff.ms", Kind::Long, Some("100"), SECURITY),
    inert("sasl.mechanism.controller.protocol", Kind::Text, Some("GSSAPI"), REPLICAS),
    inert("sasl.mechanism.inter.broker.protocol", Kind::Text, Some("GSSAPI"), SECURITY).dynamic(),
    inert("sasl.oauthbearer.assertion.algorithm", Kind::Text, Some("RS256"), SECURITY),
    inert("sasl.oauthbearer.assertion.claim.aud", Kind::Text, None, SECURITY),
    inert("sasl.oauthbearer.assertion.claim.exp.seconds", Kind::Int, Some("300"), SECURITY),
    inert("sasl.oauthbearer.assertion.claim.iss", Kind::Text, None, SECURITY),
    inert("sasl.oauthbearer.assertion.claim.jti.include", Kind::Bool, Some("false"), SECURITY),
    inert("sasl.oauthbearer.assertion.claim.nbf.seconds", Kind::Int, Some("60"), SECURITY),
    inert("sasl.oauthbearer.assertion.claim.sub", Kind::Text, None, SECURITY),
    inert("sasl.oauthbearer.assertion.file", Kind::Text, None, SECURITY),
    inert("sasl.oauthbearer.assertion.private.key.file", Kind::Text, None, SECURITY),
    inert("sasl.oauthbearer.assertion.private.key.passphrase", Kind::Password, None, SECURITY),
    inert("sasl.oauthbearer.assertion.template.file", Kind::Text, None, SECURITY),
    inert("sasl.oauthbearer.client.credentials.client.id", Kind::Text, None, SECURITY),
    inert("sasl.oauthbearer.client.credentials.client.secret", Kind::Password, None, SECURITY),
    inert("sasl.oauthbearer.clock.skew.seconds", Kind::Int, Some("30"), SECURITY),
    inert("sasl.oauthbearer.expected.audience", Kind::List, Some(""), SECURITY),
    inert("sasl.oauthbearer.expected.issuer", Kind::Text, None, SECURITY),
    inert("sasl.oauthbearer.jwks.endpoint.refresh.ms", Kind::Long, Some("3600000"), SECURITY),
    inert("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", Kind::Long, Some("10000"), SECURITY),
    inert("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", Kind::Long, Some("100"), SECURITY),
    inert("sasl.oauthbearer.jwks.endpoint.url", Kind::Text, None, SECURITY),
    inert(
        "sasl.oauthbearer.jwt.retriever.class",
        Kind::Class,
        Some("org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever"),
        SECURITY,
    ),
    inert(
        "sasl.oauthbearer.jwt.validator.class",
        Kind::Class,
        Some("org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator"),
        SECURITY,
    ),
    inert("sasl.oauthbearer.scope", Kind::Text, None, SECURITY),
    inert("sasl.oauthbearer.scope.claim.name", Kind::Text, Some("scope"), SECURITY),
    inert("sasl.oauthbearer.sub.claim.name", Kind::Text, Some("sub"), SECURITY),
    inert("sasl.oauthbearer.token.endpoint.url", Kind::Text, None, SECURITY),
    inert("sasl.server.callback.handler.class", Kind::Class, None, SECURITY),
    inert("sasl.server.max.receive.size", Kind::Int, Some("524288"), SECURITY),
    inert("security.inter.broker.protocol", Kind::Text, Some("PLAINTEXT"), REPLICAS),
    inert("security.providers", Kind::Text, None, SECURITY),
    inert("share.coordinator.append.linger.ms", Kind::Int, Some("-1"), GROUPS),
    inert("share.coordinator.cached.buffer.max.bytes", Kind::Int, Some("1048588"), GROUPS).dynamic(),
    inert("share.coordinator.load.buffer.size", Kind::Int, Some("5242880"), GROUPS),
    inert("share.coordinator.snapshot.update.records.per.snapshot", Kind::Int, Some("500"), GROUPS),
    inert("share.coordinator.state.topic.compression.codec", Kind::Int, Some("0"), GROUPS),
    inert("share.coordinator.state.topic.min.isr", Kind::Short, Some("2"), GROUPS),
    inert("share.coordinator.state.topic.num.partitions", Kind::Int, Some("50"), GROUPS),
    inert("share.coordinator.state.topic.replication.factor", Kind::Short, Some("3"), GROUPS),
    inert("share.coordinator.state.topic.segment.bytes", Kind::Int, Some("104857600"), GROUPS),
    inert("share.coordinator.threads", Kind::Int, Some("1"), GROUPS),
    inert("share.coordinator.write.timeout.ms", Kind::Int, Some("5000"), GROUPS),
    inert("share.fetch.purgatory.purge.interval.requests", Kind::Int, Some("1000"), GROUPS),
    inert("socket.connection.setup.timeout.max.ms", Kind::Long, Some("30000"), ENGINE),
    inert("socket.connection.setup.timeout.ms", Kind::Long, Some("10000"), ENGINE),
    inert("ssl.allow.dn.changes", Kind::Bool, Some("false"), SECURITY),
    inert("ssl.allow.san.changes", Kind::Bool, Some("false"), SECURITY),
    inert("ssl.cipher.suites", Kind::List, Some(""), SECURITY).dynamic(),
    inert("ssl.client.auth", Kind::Text, Some("none"), SECURITY).dynamic(),
    inert("ssl.enabled.protocols", Kind::List, Some("TLSv1.2,TLSv1.3"), SECURITY).dynamic(),
    inert("ssl.endpoint.identification.algorithm", Kind::Text, Some("https"), SECURITY).dynamic(),
    inert("ssl.engine.factory.class", Kind::Class, None, SECURITY).dynamic(),
    inert("ssl.key.password", Kind::Password, None, SECURITY).dynamic(),
    inert("ssl.keymanager.algorithm", Kind::Text, Some("SunX509"), SECURITY).dynamic(),
    inert("ssl.keystore.certificate.chain", Kind::Password, None, SECURITY).dynamic(),
    inert("ssl.keystore.key", Kind::Password, None, SECURITY).dynamic(),
    inert("ssl.keystore.location", Kind::Text, None, SECURITY).dynamic(),
    inert("ssl.keystore.password", Kind::Password, None, SECURITY).dynamic(),
    inert("ssl.keystore.type", Kind::Text, Some("JKS"), SECURITY).dynamic(),
    inert("ssl.principal.mapping.rules", Kind::Text, Some("DEFAULT"), SECURITY),
    inert("ssl.protocol", Kind::Text, Some("TLSv1.3"), SECURITY).dynamic(),
    inert("ssl.provider", Kind::Text, None, SECURITY).dynamic(),
    inert("ssl.secure.random.implementation", Kind::Text, None, SECURITY).dynamic(),
    inert("ssl.trustmanager.algorithm", Kind::Text, Some("PKIX"), SECURITY).dynamic(),
    inert("ssl.truststore.certificates", Kind::Password, None, SECURITY).dynamic(),
    inert("ssl.truststore.location", Kind::Text, None, SECURITY).dynamic(),
    inert("ssl.truststore.password", Kind::Password, None, SECURITY).dynamic(),
    inert("ssl.truststore.type", Kind::Text, Some("JKS"), SECURITY).dynamic(),
    inert("super.users", Kind::Text, None, SECURITY),
    inert("telemetry.max.bytes", Kind::Int, Some("1048576"), METRICS),
    inert(
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        Kind::Int,
        Some("10000"),
        TRANSACTIONS,
    ),
    inert("transaction.max.timeout.ms", Kind::Int, Some("900000"), TRANSACTIONS),
    inert("transaction.partition.verification.enable", Kind::Bool, Some("true"), TRANSACTIONS).dynamic(),
    inert(
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        Kind::Int,
        Some("3600000"),
        TRANSACTIONS,
    ),
    inert("transaction.state.log.load.buffer.size", Kind::Int, Some("5242880"), TRANSACTIONS),
    inert("transaction.state.log.min.isr", Kind::Int, Some("2"), TRANSACTIONS),
    inert("transaction.state.log.num.partitions", Kind::Int, Some("50"), TRANSACTIONS),
    inert("transaction.state.log.replication.factor", Kind::Short, Some("3"), TRANSACTIONS),
    inert("transaction.state.log.segment.bytes", Kind::Int, Some("104857600"), TRANSACTIONS),
    inert("transaction.two.phase.commit.enable", Kind::Bool, Some("false"), TRANSACTIONS),
    inert("transactional.id.expiration.ms", Kind::Int, Some("604800000"), TRANSACTIONS),
    inert("unclean.leader.election.enable", Kind::Bool, Some("false"), QUORUM).dynamic(),
    inert("zookeeper.clientCnxnSocket", Kind::Text, None, OLD),
    inert("zookeeper.connect", Kind::Text, None, OLD),
    inert("zookeeper.connection.timeout.ms", Kind::Int, None, OLD),
    inert("zookeeper.max.in.flight.requests", Kind::Int, Some("10"), OLD),
    inert("zookeeper.metadata.migration.enable", Kind::Bool, Some("false"), OLD),
    inert("zookeeper.session.timeout.ms", Kind::Int, Some("18000"), OLD),
    inert("zookeeper.set.acl", Kind::Bool, Some("false"), OLD),
    inert("zookeeper.ssl.client.enable", Kind::Bool, Some("false"), OLD),
];
