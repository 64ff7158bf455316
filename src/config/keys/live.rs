//! The keys that weir reads, by name.
//!
//! Deliberately absent: what they mean for whom (`settings.rs`), keys without effect (`inert.rs`).

use super::{Key, live};
use crate::topic::config::{Check, Kind};

pub(super) const LIVE: &[Key] = &[
    live(
        "admin.hosts",
        Kind::List,
        None,
        Check::Any,
        "Host names with a dot by which the admin door may be called, or * for any; addresses and plain names always may.",
    )
    .own(),
    live(
        "admin.queued.max.response.bytes",
        Kind::Long,
        Some("67108864"),
        Check::RangeOrMinusOne(1, i64::MAX),
        "Memory of all answers of the admin door that are being read; above it answers wait. -1: no limit.",
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
        "compression.type",
        Kind::Text,
        Some("producer"),
        Check::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        "Default of the topic key of that name.",
    )
    .dynamic(),
    live(
        "compression.validation",
        Kind::Text,
        Some("strict"),
        Check::OneOf(&["strict", "frame"]),
        "Default of the topic key of that name.",
    )
    .own()
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
        "connection.max.queued.response.bytes",
        Kind::Int,
        Some("1048576"),
        Check::Min(16_384),
        "Bytes of answers that a connection has not read yet; above it its next request is not begun.",
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
        "group.state.max.bytes",
        Kind::Long,
        Some("268435456"),
        Check::Min(1 << 20),
        "Memory for members, their metadata and offsets of all groups; then who joins is told to come again.",
    )
    .own(),
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
        "kinesis.allowed.origins",
        Kind::List,
        None,
        Check::Any,
        "Origins of web pages that the Kinesis door serves, or * for any; pages of others are refused.",
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
        "kinesis.queued.max.request.bytes",
        Kind::Long,
        Some("268435456"),
        Check::RangeOrMinusOne(1, i64::MAX),
        "Memory of all requests of the Kinesis door in flight; where an eighth of it is left large ones wait. -1: no limit.",
    )
    .own(),
    live(
        "kinesis.queued.max.response.bytes",
        Kind::Long,
        Some("134217728"),
        Check::RangeOrMinusOne(1, i64::MAX),
        "Memory of all answers of the Kinesis door that clients have not taken; above it answers are smaller or wait. \
         -1: no limit.",
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
        "Memory of all requests in flight; where an eighth of it is left large ones wait, one is read at a time. -1, as in Kafka: no limit.",
    ),
    live(
        "queued.max.response.bytes",
        Kind::Long,
        Some("134217728"),
        Check::RangeOrMinusOne(1, i64::MAX),
        "Memory of all answers that clients have not read; above it large ones are made one at a time. -1: no limit.",
    )
    .own(),
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
