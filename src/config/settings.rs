//! The configuration in slices: one plain struct per part of the house.
//!
//! Owns: the structs and how they are read from a [`Config`]. A limit of `None` is no limit.
//! Deliberately absent: defaults and ranges, which are the table's; listeners, which have their own file.

use std::collections::BTreeMap;

use super::{Config, Refusal, listeners};
use crate::topic::config::entries;
use crate::topic::ondemand::Thresholds;

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

/// weir's one durability dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// acks=all waits for a sync that it shares with its neighbours.
    Group,
    /// acks=all waits for nothing; a sync runs at this interval, ms.
    Interval {
        /// Time between two syncs, ms.
        interval_ms: u64,
    },
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

/// Bytes on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// When acks=all counts.
    pub flush: Flush,
    /// Segment files kept open or mapped.
    pub max_open_files: usize,
}

/// Topics whose shards follow demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DemandSettings {
    /// When a shard is split and when two are merged.
    pub thresholds: Thresholds,
    /// For how long that must hold, ms.
    pub window_ms: u64,
}

/// Topics and partitions. What a topic's keys default to is read by `topic::config` through [`Config::value`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// Create a topic when a client asks for its metadata.
    pub auto_create: bool,
    /// Whether DeleteTopics is allowed.
    pub delete_allowed: bool,
    /// Partitions of a topic that does not say how many.
    pub default_partitions: i32,
    /// Partitions of one topic.
    pub max_partitions_per_topic: i32,
    /// Partitions of all topics.
    pub max_partitions: usize,
    /// How often segments are looked at for retention, ms.
    pub retention_check_interval_ms: u64,
    /// How long an idle producer id is remembered, ms.
    pub producer_id_expiration_ms: i64,
    /// Producer ids that a partition remembers.
    pub max_producer_ids_per_partition: usize,
    /// Largest batch after decompression, bytes.
    pub max_decompressed_bytes: usize,
    /// Shard limits of topics made through the Kafka door.
    pub quota_profile: QuotaProfile,
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
    /// Most members of a group.
    pub max_members: usize,
    /// Most groups.
    pub max_groups: usize,
    /// Memory for the state of all groups, bytes.
    pub state_max_bytes: usize,
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

/// The Kinesis door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KinesisSettings {
    /// The account in ARNs.
    pub account_id: String,
    /// Secrets by access key id, when signatures are verified.
    pub access_keys: Option<BTreeMap<String, String>>,
    /// Whether control calls are held to the service's rates.
    pub limits_control: bool,
    /// How long a new stream is CREATING, ms.
    pub create_delay_ms: i64,
    /// Shard limits of streams made by CreateStream.
    pub quota_profile: QuotaProfile,
    /// Open shards of all streams.
    pub max_shards: usize,
    /// Origins of web pages that are served; `*` for any.
    pub origins: Vec<String>,
    /// Memory of all requests in flight, bytes.
    pub max_request_bytes: Option<usize>,
    /// Memory of all answers that clients have not taken, bytes.
    pub max_response_bytes: Option<usize>,
}

/// The admin door.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminSettings {
    /// Host names by which it may be called, beside those that anybody may use; `*` for any.
    pub hosts: Vec<String>,
    /// Labels of every metric.
    pub labels: Vec<(String, String)>,
    /// Memory of all answers that are being read, bytes.
    pub max_response_bytes: Option<usize>,
}

/// Connections and requests of the Kafka door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// Largest request, bytes.
    pub max_request_bytes: usize,
    /// Time to a connection's first whole request, ms.
    pub first_frame_timeout_ms: u64,
    /// Memory of all requests in flight, bytes.
    pub max_in_flight_bytes: Option<usize>,
    /// Requests of a connection that wait for their answer.
    pub max_in_flight_requests: usize,
    /// Answers of a connection that were not read yet, bytes.
    pub max_queued_response_bytes: usize,
    /// Memory of all answers that were not read yet, bytes.
    pub max_response_bytes: Option<usize>,
    /// Silence after which a connection is closed, ms.
    pub max_idle_ms: Option<u64>,
    /// Sockets of the Kafka and the Kinesis door.
    pub sockets: SocketSettings,
    /// Most bytes that one Fetch answers.
    pub fetch_max_bytes: usize,
    /// Most partitions that one DescribeTopicPartitions answers.
    pub max_described_partitions: usize,
}

/// Sockets that listen, and those accepted from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketSettings {
    /// Connections that wait to be accepted.
    pub backlog: i32,
    /// SO_SNDBUF, bytes.
    pub send_buffer_bytes: Option<usize>,
    /// SO_RCVBUF, bytes.
    pub receive_buffer_bytes: Option<usize>,
}

/// Who may connect, and how fast. Alterable while the broker runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionSettings {
    /// Connections at a time.
    pub max_connections: usize,
    /// Connections at a time from one address.
    pub max_connections_per_ip: usize,
    /// Exceptions from that: a host or an address, and its number.
    pub max_connections_by_host: Vec<(String, usize)>,
    /// New connections per second.
    pub max_connections_per_second: u32,
}

impl Config {
    /// Who this broker is. `broker.id` is the old name of `node.id`.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let old = self.integer("broker.id").filter(|&id| id >= 0 && self.set_value("node.id").is_none());
        let text = |key| self.value(key).filter(|text| !text.is_empty()).map(str::to_owned);
        let node_id = old.unwrap_or_else(|| self.integer("node.id").unwrap_or_default());
        Identity {
            node_id: i32::try_from(node_id).unwrap_or_default(),
            rack: text("broker.rack"),
            cluster_id: text("cluster.id"),
        }
    }

    /// Bytes on disk.
    #[must_use]
    pub fn store_settings(&self) -> StoreSettings {
        let flush = match self.value("flush") {
            Some("never") => Flush::Never,
            Some("interval") => Flush::Interval { interval_ms: self.number("flush.interval.ms") },
            _ => Flush::Group,
        };
        StoreSettings { flush, max_open_files: self.number("log.max.open.files") }
    }

    /// Topics and partitions.
    #[must_use]
    pub fn topic_settings(&self) -> TopicSettings {
        let kinesis = self.value("shard.quota.profile") == Some("kinesis");
        TopicSettings {
            auto_create: self.boolean("auto.create.topics.enable"),
            delete_allowed: self.boolean("delete.topic.enable"),
            default_partitions: self.number("num.partitions"),
            max_partitions_per_topic: self.number("max.partitions.per.topic"),
            max_partitions: self.number("max.partitions"),
            retention_check_interval_ms: self.number("log.retention.check.interval.ms"),
            producer_id_expiration_ms: self.number("producer.id.expiration.ms"),
            max_producer_ids_per_partition: self.number("max.producer.ids.per.partition"),
            max_decompressed_bytes: self.number("max.decompressed.bytes"),
            quota_profile: if kinesis { QuotaProfile::Kinesis } else { QuotaProfile::Off },
        }
    }

    /// Topics whose shards follow demand.
    #[must_use]
    pub fn demand_settings(&self) -> DemandSettings {
        DemandSettings {
            thresholds: Thresholds {
                split_above: self.number("shard.ondemand.split.bytes.per.second"),
                merge_below: self.number("shard.ondemand.merge.bytes.per.second"),
                min_shards: self.number("shard.ondemand.min.shards"),
                max_shards: self.number("shard.ondemand.max.shards"),
            },
            window_ms: self.number("shard.ondemand.window.ms"),
        }
    }

    /// Consumer groups and their offsets.
    #[must_use]
    pub fn group_settings(&self) -> GroupSettings {
        GroupSettings {
            initial_rebalance_delay_ms: self.number("group.initial.rebalance.delay.ms"),
            min_session_timeout_ms: self.number("group.min.session.timeout.ms"),
            max_session_timeout_ms: self.number("group.max.session.timeout.ms"),
            max_members: self.number("group.max.size"),
            max_groups: self.number("max.groups"),
            state_max_bytes: self.number("group.state.max.bytes"),
            offset_metadata_max_bytes: self.number("offset.metadata.max.bytes"),
            offsets_retention_ms: self.number::<i64>("offsets.retention.minutes").saturating_mul(60_000),
            offsets_retention_check_interval_ms: self.number("offsets.retention.check.interval.ms"),
            offsets_topic_partitions: self.number("offsets.topic.num.partitions"),
            offsets_topic_segment_bytes: self.number("offsets.topic.segment.bytes"),
        }
    }

    /// The Kinesis door.
    ///
    /// # Errors
    /// [`Refusal`]: an account that is none, keys that are none, or strict signatures without keys.
    pub fn kinesis_settings(&self) -> Result<KinesisSettings, Refusal> {
        let account_id = self.value("kinesis.account.id").unwrap_or_default();
        if account_id.len() != 12 || !account_id.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Refusal::new("kinesis.account.id", account_id, "expected 12 digits"));
        }
        let keys = self.value("kinesis.access.keys").unwrap_or_default();
        let pairs = entries(keys).map(|entry| {
            let pair = entry.split_once(':').filter(|(id, secret)| !id.is_empty() && !secret.is_empty());
            pair.map(|(id, secret)| (id.to_owned(), secret.to_owned()))
        });
        let access_keys: Option<BTreeMap<_, _>> = pairs.collect();
        let strict = self.value("kinesis.auth") == Some("strict");
        let Some(access_keys) = access_keys.filter(|keys| !strict || !keys.is_empty()) else {
            return Err(Refusal::new("kinesis.access.keys", "[hidden]", "expected ID:SECRET,ID:SECRET"));
        };
        let kinesis = |key: &str| self.value(key) == Some("kinesis");
        Ok(KinesisSettings {
            account_id: account_id.to_owned(),
            access_keys: strict.then_some(access_keys),
            limits_control: kinesis("kinesis.control.rates"),
            create_delay_ms: self.number("kinesis.create.delay.ms"),
            quota_profile: if kinesis("kinesis.quota.profile") {
                QuotaProfile::Kinesis
            } else {
                QuotaProfile::Off
            },
            max_shards: self.number("kinesis.shard.limit"),
            origins: entries(self.value("kinesis.allowed.origins").unwrap_or_default())
                .map(str::to_lowercase)
                .collect(),
            max_request_bytes: self.limit("kinesis.queued.max.request.bytes"),
            max_response_bytes: self.limit("kinesis.queued.max.response.bytes"),
        })
    }

    /// The admin door.
    ///
    /// # Errors
    /// [`Refusal`]: a label that is none.
    pub fn admin_settings(&self) -> Result<AdminSettings, Refusal> {
        const KEY: &str = "metrics.labels";
        let mut labels = Vec::new();
        for entry in entries(self.value(KEY).unwrap_or_default()) {
            let refuse = |why| Refusal::new(KEY, entry, why);
            let (name, value) = entry.split_once('=').ok_or_else(|| refuse("expected name=value"))?;
            if !is_label(name) {
                return Err(refuse("a name is letters, digits and _, and starts with a letter"));
            }
            if OWN_LABELS.contains(&name) || labels.iter().any(|(other, _)| other == name) {
                return Err(refuse("this name is taken"));
            }
            labels.push((name.to_owned(), value.to_owned()));
        }
        let hosts = entries(self.value("admin.hosts").unwrap_or_default()).map(str::to_lowercase).collect();
        let max_response_bytes = self.limit("admin.queued.max.response.bytes");
        Ok(AdminSettings { hosts, labels, max_response_bytes })
    }

    /// Connections and requests of the Kafka door.
    #[must_use]
    pub fn connection_settings(&self) -> ConnectionSettings {
        ConnectionSettings {
            max_request_bytes: self.number("socket.request.max.bytes"),
            first_frame_timeout_ms: self.number("connection.first.frame.timeout.ms"),
            max_in_flight_bytes: self.limit("queued.max.request.bytes"),
            max_in_flight_requests: self.number("connection.max.in.flight.requests"),
            max_queued_response_bytes: self.number("connection.max.queued.response.bytes"),
            max_response_bytes: self.limit("queued.max.response.bytes"),
            max_idle_ms: self.limit("connections.max.idle.ms"),
            sockets: SocketSettings {
                backlog: self.number("socket.listen.backlog.size"),
                send_buffer_bytes: self.limit("socket.send.buffer.bytes"),
                receive_buffer_bytes: self.limit("socket.receive.buffer.bytes"),
            },
            fetch_max_bytes: self.number("fetch.max.bytes"),
            max_described_partitions: self.number("max.request.partition.size.limit"),
        }
    }

    /// Who may connect, and how fast.
    #[must_use]
    pub fn admission_settings(&self) -> AdmissionSettings {
        AdmissionSettings {
            max_connections: self.number("max.connections"),
            max_connections_per_ip: self.number("max.connections.per.ip"),
            max_connections_by_host: self
                .value(listeners::OVERRIDES)
                .and_then(|text| listeners::overrides(text).ok())
                .unwrap_or_default(),
            max_connections_per_second: self.number("max.connection.creation.rate"),
        }
    }

    /// A value whose range in the table fits `T`; a test reads every setting at its default and its extremes.
    fn number<T: TryFrom<i64> + Default>(&self, key: &str) -> T {
        let read = self.integer(key).and_then(|n| T::try_from(n).ok());
        debug_assert!(read.is_some(), "{key} does not fit its setting");
        read.unwrap_or_default()
    }

    /// A value whose negatives mean "no limit".
    fn limit<T: TryFrom<i64>>(&self, key: &str) -> Option<T> {
        self.integer(key).filter(|&n| n >= 0).and_then(|n| T::try_from(n).ok())
    }
}

/// Labels that the metrics have themselves.
const OWN_LABELS: [&str; 21] = [
    "budget",
    "topic",
    "partition",
    "shard",
    "door",
    "dimension",
    "consumergroup",
    "listener",
    "state",
    "version",
    "cluster_id",
    "node_id",
    "quantile",
    "redpanda_group",
    "redpanda_namespace",
    "redpanda_partition",
    "redpanda_request",
    "redpanda_revision",
    "redpanda_server",
    "redpanda_topic",
    "redpanda_version",
];

/// Whether a metric may have a label of that name.
fn is_label(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
}
