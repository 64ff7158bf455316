//! The configuration in slices: one plain struct per part of the house.
//!
//! Owns: the structs and how they are read from a [`Config`]. A limit of `None` is no limit. What topics
//! default to is read by `topic::config` through [`Config::value`].
//! Deliberately absent: defaults and ranges, which are the table's; listeners, which have their own file.

use super::Config;

/// Who this broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Broker id that clients see.
    pub node_id: i32,
    /// Rack that Metadata names.
    pub rack: Option<String>,
    /// Cluster id for a new data directory; an existing one keeps its own.
    pub cluster_id: Option<String>,
}

/// weir's one durability dial (DESIGN law 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// acks=all waits for a sync that it shares with its neighbours.
    Group,
    /// acks=all waits for nothing; a sync runs at this interval, ms.
    Interval,
    /// acks=all waits for nothing; the kernel writes when it likes.
    Never,
}

/// Shard limits of topics made through the Kafka door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaProfile {
    /// None.
    Off,
    /// Kinesis' own: 1 MiB/s and 1000 records/s in, 2 MiB/s and 5 calls/s out.
    Kinesis,
}

/// Consumer groups and their offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// How long a new group waits for more members, ms.
    pub initial_rebalance_delay_ms: i64,
    /// Shortest session timeout, ms.
    pub min_session_timeout_ms: i32,
    /// Longest session timeout, ms.
    pub max_session_timeout_ms: i32,
    /// Longest metadata string of a commit, bytes.
    pub offset_metadata_max_bytes: usize,
    /// How long offsets of an empty group are kept, ms.
    pub offsets_retention_ms: i64,
    /// How often offsets are looked at for expiry, ms.
    pub offsets_retention_check_interval_ms: u64,
    /// Partitions of `__consumer_offsets`, used when it is created.
    pub offsets_topic_partitions: i32,
    /// Segment size of `__consumer_offsets`, bytes.
    pub offsets_topic_segment_bytes: u64,
}

/// What may be used up, and how much of it (DESIGN law 11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest request, bytes.
    pub frame_bytes_max: usize,
    /// Largest request of a connection that has not spoken yet, bytes.
    pub first_frame_bytes_max: usize,
    /// Time to a connection's first whole request, ms.
    pub first_frame_timeout_ms: u64,
    /// A request that is under way must bring `stalled_bytes_min` in this time, ms.
    pub stalled_timeout_ms: u64,
    /// See `stalled_timeout_ms`.
    pub stalled_bytes_min: usize,
    /// Silence after which a connection is closed, ms; `u64::MAX` is never.
    pub idle_timeout_ms: u64,
    /// Memory of all requests in flight, bytes.
    pub in_flight_bytes_max: Option<usize>,
    /// Requests of a connection that wait for their answer.
    pub in_flight_requests_max: usize,
    /// Connections at a time.
    pub connections_max: usize,
    /// Connections at a time from one address.
    pub connections_per_ip_max: usize,
    /// New connections per second.
    pub connections_per_second_max: u32,
    /// Most bytes that one Fetch answers.
    pub fetch_bytes_max: usize,
    /// Fetch sessions kept.
    pub fetch_sessions_max: usize,
    /// Most partitions that one DescribeTopicPartitions answers.
    pub described_partitions_max: usize,
    /// Partitions of all topics.
    pub partitions_max: usize,
    /// Partitions of one topic.
    pub partitions_per_topic_max: i32,
    /// Producer ids that a partition remembers.
    pub producers_per_partition_max: usize,
    /// Largest batch after decompression, bytes.
    pub decompressed_bytes_max: usize,
    /// Consumer groups.
    pub groups_max: usize,
    /// Members of a group.
    pub group_members_max: usize,
}

/// How sockets are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketSettings {
    /// Connections that wait to be accepted.
    pub backlog: i32,
    /// SO_SNDBUF, bytes; `None` leaves it to the system.
    pub send_buffer_bytes: Option<usize>,
    /// SO_RCVBUF, bytes; `None` leaves it to the system.
    pub receive_buffer_bytes: Option<usize>,
}

impl Config {
    /// Who this broker is. `broker.id` is the old name of `node.id`.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let old = self.parsed("broker.id").filter(|&id| id >= 0 && self.set_value("node.id").is_none());
        let text = |key| self.text(key).filter(|text| !text.is_empty()).map(str::to_owned);
        let node_id = old.unwrap_or_else(|| self.parsed("node.id").unwrap_or_default());
        Identity {
            node_id: i32::try_from(node_id).unwrap_or_default(),
            rack: text("broker.rack"),
            cluster_id: text("cluster.id"),
        }
    }

    /// Cluster id for a new data directory; an existing one keeps its own.
    #[must_use]
    pub fn cluster_id(&self) -> Option<String> {
        self.identity().cluster_id
    }

    /// weir's one durability dial. The time between two syncs of [`Flush::Interval`] is `flush.interval.ms`.
    #[must_use]
    pub fn flush(&self) -> Flush {
        match self.text("flush") {
            Some("never") => Flush::Never,
            Some("interval") => Flush::Interval,
            _ => Flush::Group,
        }
    }

    /// Shard limits of topics made through the Kafka door.
    #[must_use]
    pub fn quota_profile(&self) -> QuotaProfile {
        match self.text("shard.quota.profile") {
            Some("kinesis") => QuotaProfile::Kinesis,
            _ => QuotaProfile::Off,
        }
    }

    /// Consumer groups and their offsets.
    #[must_use]
    pub fn group_settings(&self) -> GroupSettings {
        GroupSettings {
            initial_rebalance_delay_ms: self.number("group.initial.rebalance.delay.ms"),
            min_session_timeout_ms: self.number("group.min.session.timeout.ms"),
            max_session_timeout_ms: self.number("group.max.session.timeout.ms"),
            offset_metadata_max_bytes: self.number("offset.metadata.max.bytes"),
            offsets_retention_ms: self.number::<i64>("offsets.retention.minutes").saturating_mul(60_000),
            offsets_retention_check_interval_ms: self.number("offsets.retention.check.interval.ms"),
            offsets_topic_partitions: self.number("offsets.topic.num.partitions"),
            offsets_topic_segment_bytes: self.number("offsets.topic.segment.bytes"),
        }
    }

    /// What may be used up, and how much of it.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            frame_bytes_max: self.number("socket.request.max.bytes"),
            first_frame_bytes_max: self.number("connection.first.frame.max.bytes"),
            first_frame_timeout_ms: self.number("connection.first.frame.timeout.ms"),
            stalled_timeout_ms: self.number("connection.stalled.timeout.ms"),
            stalled_bytes_min: STALLED_BYTES_MIN,
            idle_timeout_ms: self.limit("connections.max.idle.ms").unwrap_or(u64::MAX),
            in_flight_bytes_max: self.limit("queued.max.request.bytes"),
            in_flight_requests_max: self.number("connection.max.in.flight.requests"),
            connections_max: self.number("max.connections"),
            connections_per_ip_max: self.number("max.connections.per.ip"),
            connections_per_second_max: self.number("max.connection.creation.rate"),
            fetch_bytes_max: self.number("fetch.max.bytes"),
            fetch_sessions_max: self.number("max.incremental.fetch.session.cache.slots"),
            described_partitions_max: self.number("max.request.partition.size.limit"),
            partitions_max: self.number("max.partitions"),
            partitions_per_topic_max: self.number("max.partitions.per.topic"),
            producers_per_partition_max: self.number("max.producer.ids.per.partition"),
            decompressed_bytes_max: self.number("max.decompressed.bytes"),
            groups_max: self.number("max.groups"),
            group_members_max: self.number("group.max.size"),
        }
    }

    /// How sockets are opened.
    #[must_use]
    pub fn socket_settings(&self) -> SocketSettings {
        SocketSettings {
            backlog: self.number("socket.listen.backlog.size"),
            send_buffer_bytes: self.limit("socket.send.buffer.bytes"),
            receive_buffer_bytes: self.limit("socket.receive.buffer.bytes"),
        }
    }

    /// A value whose range in the table fits `T`; a test reads every setting at its default and its extremes.
    fn number<T: TryFrom<i64> + Default>(&self, key: &str) -> T {
        let read = self.parsed(key).and_then(|n| T::try_from(n).ok());
        debug_assert!(read.is_some(), "{key} does not fit its setting");
        read.unwrap_or_default()
    }

    /// A value whose negatives mean "no limit".
    fn limit<T: TryFrom<i64>>(&self, key: &str) -> Option<T> {
        self.parsed(key).filter(|&n| n >= 0).and_then(|n| T::try_from(n).ok())
    }
}

/// A request that brings less than this in [`Limits::stalled_timeout_ms`] is nobody's.
const STALLED_BYTES_MIN: usize = 1024;
