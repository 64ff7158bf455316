//! The table of `/metrics`: what each is called, what it means, where its samples come from.
//!
//! Three families of names, so that published dashboards and alert rules work as they are: those that the JMX exporter
//! makes with Strimzi's rules (`kafka_server_…`, `kafka_log_…`), those of kafka_exporter (`kafka_topic_…`,
//! `kafka_consumergroup_…`), and weir's own (`weir_…`), which say per shard what CloudWatch says of a Kinesis shard.
//! A family of shards has a sample only where it can be other than 0: where there is a limit, or something happened.
//! Deliberately absent: numbers of the JVM, of ZooKeeper and KRaft, of replication beyond the constants of one node.

use super::exposition::Label::{Index, Seconds, Shard, Text};
use super::exposition::{Lines, Value};
use crate::broker::{Seen, SeenGroup, SeenPartition, SeenTopic, WITHIN_US};
use crate::listen::Open;

/// One line of the table.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) help: &'static str,
    pub(super) of: Of,
}

/// Who has the samples.
pub(super) enum Of {
    Broker(fn(&Seen, &mut Lines<'_>)),
    /// By name of the listener.
    Connections(fn(&[Open], &mut Lines<'_>)),
    /// One per budget of connections' memory: its name in the configuration, and what is held of it.
    Budget(fn(&str, u64, &mut Lines<'_>)),
    /// One per topic, and before them one without a topic for all, as the JMX exporter has it.
    Sum(fn(&SeenTopic) -> u64),
    Topic(fn(&SeenTopic, &mut Lines<'_>)),
    Partition(fn(&SeenTopic, &SeenPartition, &mut Lines<'_>)),
    Group(fn(&SeenGroup, &mut Lines<'_>)),
}

pub(super) const FAMILIES: &[Family] = &[
    // --- weir
    gauge(
        "weir_info",
        "Who this is; always 1.",
        Of::Broker(|seen, lines| {
            let labels = [
                ("version", Text(env!("CARGO_PKG_VERSION"))),
                ("cluster_id", Text(&seen.cluster_id)),
                ("node_id", Index(seen.node_id)),
            ];
            lines.put(&labels, Value::Whole(1));
        }),
    ),
    gauge(
        "weir_uptime_seconds",
        "Seconds since the broker serves.",
        Of::Broker(|seen, lines| lines.put(&[], Value::Whole(seen.uptime_s))),
    ),
    gauge(
        "weir_group_state_bytes",
        "What members, metadata and offsets of consumer groups take in memory, and may take (group.state.max.bytes).",
        Of::Broker(|seen, lines| {
            let (taken, most) = seen.group_state;
            lines.put(&[("state", Text("used"))], Value::Whole(taken as u64));
            lines.put(&[("state", Text("limit"))], Value::Whole(most as u64));
        }),
    ),
    gauge(
        "weir_disk_bytes",
        "Bytes of the space that the data lives on.",
        Of::Broker(|seen, lines| {
            if let Some((total, free)) = seen.capacity {
                lines.put(&[("state", Text("total"))], Value::Whole(total));
                lines.put(&[("state", Text("free"))], Value::Whole(free));
            }
        }),
    ),
    counter(
        "weir_incidents_total",
        "What went wrong, by kind: failures of the disk, damage, records of groups that were refused.",
        Of::Broker(|seen, lines| {
            for incident in &seen.incidents {
                lines.put(&[("kind", Text(incident.kind.name()))], Value::Whole(incident.count));
            }
        }),
    ),
    gauge(
        "weir_incidents_standing",
        "What is wrong now and until somebody mends it, by kind: fenced logs, damaged files, a full disk.",
        Of::Broker(|seen, lines| {
            for incident in &seen.incidents {
                lines.put(&[("kind", Text(incident.kind.name()))], whole(incident.standing));
            }
        }),
    ),
    gauge(
        "weir_degraded",
        "1: something stands, or a fault happened within the last minute; /readyz says what.",
        Of::Broker(|seen, lines| lines.put(&[], Value::Whole(seen.degraded.into()))),
    ),
    gauge(
        "weir_memory_in_flight_bytes",
        "Memory of requests or answers in flight that a budget of the configuration bounds.",
        Of::Budget(|key, used, lines| lines.put(&[("budget", Text(key))], Value::Whole(used))),
    ),
    gauge(
        "weir_topic_open_shards",
        "Shards that take records.",
        Of::Topic(|topic, lines| {
            lines.put(&[("topic", Text(&topic.name))], whole(topic.open_shards));
        }),
    ),
    gauge(
        "weir_shard_limit_per_second",
        "Limit of each shard of the topic; none where it is switched off.",
        Of::Topic(|topic, lines| {
            for (dimension, limit) in DIMENSIONS.into_iter().zip(topic.limits) {
                if let Some(limit) = limit {
                    let labels = [("topic", Text(&topic.name)), ("dimension", Text(dimension))];
                    lines.put(&labels, Value::Whole(limit));
                }
            }
        }),
    ),
    counter(
        "weir_shard_incoming_bytes_total",
        "Bytes of batches appended (CloudWatch: IncomingBytes).",
        Of::Partition(|topic, partition, lines| {
            by_door(topic, partition, lines, partition.counted.written.map(|passed| passed.bytes));
        }),
    ),
    counter(
        "weir_shard_incoming_records_total",
        "Records appended (CloudWatch: IncomingRecords).",
        Of::Partition(|topic, partition, lines| {
            by_door(topic, partition, lines, partition.counted.written.map(|passed| passed.records));
        }),
    ),
    counter(
        "weir_shard_outgoing_bytes_total",
        "Bytes read: of batches by Kafka clients, of keys and data by Kinesis clients (CloudWatch: OutgoingBytes).",
        Of::Partition(|topic, partition, lines| {
            by_door(topic, partition, lines, partition.counted.read.map(|passed| passed.bytes));
        }),
    ),
    counter(
        "weir_shard_outgoing_records_total",
        "Records read (CloudWatch: OutgoingRecords).",
        Of::Partition(|topic, partition, lines| {
            by_door(topic, partition, lines, partition.counted.read.map(|passed| passed.records));
        }),
    ),
    counter(
        "weir_shard_write_throttled_records_total",
        "Records refused, or taken into debt, by a limit (CloudWatch: WriteProvisionedThroughputExceeded).",
        Of::Partition(|topic, partition, lines| {
            limited(topic, partition, lines, Value::Whole(partition.counted.throttled_records));
        }),
    ),
    counter(
        "weir_shard_write_throttle_seconds_total",
        "Time that Kafka producers were told to wait.",
        Of::Partition(|topic, partition, lines| {
            let ms = i64::try_from(partition.counted.throttled_ms).unwrap_or(i64::MAX);
            limited(topic, partition, lines, Value::Thousandths(ms));
        }),
    ),
    counter(
        "weir_shard_read_throttled_calls_total",
        "Reads refused, or answered with a time to wait, by a limit (CloudWatch: ReadProvisionedThroughputExceeded).",
        Of::Partition(|topic, partition, lines| {
            limited(topic, partition, lines, Value::Whole(partition.counted.throttled_reads));
        }),
    ),
    gauge(
        "weir_shard_bucket_fill_ratio",
        "What is left of a second's worth of the limit; below 0 is debt.",
        Of::Partition(|topic, partition, lines| {
            let buckets = DIMENSIONS.into_iter().zip(topic.limits).zip(partition.fill_permille);
            for ((dimension, _), fill) in buckets.filter(|((_, limit), _)| limit.is_some()) {
                let [topic, shard] = shard_of(topic, partition);
                lines.put(&[topic, shard, ("dimension", Text(dimension))], Value::Thousandths(fill));
            }
        }),
    ),
    gauge(
        "weir_shard_iterator_age_seconds",
        "How far behind the last of the Kinesis readers of the shard in the last minute was (CloudWatch: IteratorAgeMilliseconds).",
        Of::Partition(|topic, partition, lines| {
            if let Some(ms) = partition.counted.behind_ms {
                lines.put(&shard_of(topic, partition), Value::Thousandths(ms));
            }
        }),
    ),
    counter(
        "weir_kinesis_requests_total",
        "Calls of the Kinesis door by operation and outcome (CloudWatch: PutRecord.Success and its like).",
        Of::Broker(|seen, lines| {
            for operation in &seen.operations {
                let succeeded = std::iter::once(("ok", operation.succeeded));
                for (code, count) in succeeded.chain(operation.refused.iter().copied()) {
                    let labels = [("operation", Text(operation.name)), ("code", Text(code))];
                    lines.put(&labels, Value::Whole(count));
                }
            }
        }),
    ),
    Family {
        name: "weir_kinesis_request_seconds",
        kind: "histogram",
        help: "Time of calls of the Kinesis door, from the head to the answer (CloudWatch: GetRecords.Latency and its like).",
        of: Of::Broker(|seen, lines| {
            for operation in &seen.operations {
                let name = ("operation", Text(operation.name));
                for (us, count) in WITHIN_US.into_iter().zip(operation.within) {
                    lines.put_part("_bucket", &[name, ("le", Seconds(us))], Value::Whole(count));
                }
                let calls = Value::Whole(operation.calls());
                lines.put_part("_bucket", &[name, ("le", Text("+Inf"))], calls);
                lines.put_part("_sum", &[name], Value::Micros(operation.took_us));
                lines.put_part("_count", &[name], calls);
            }
        }),
    },
    counter(
        "weir_kinesis_records_total",
        "Records of calls of the Kinesis door (CloudWatch: PutRecords.ThrottledRecords, GetRecords.Records and their like).",
        Of::Broker(|seen, lines| {
            for operation in &seen.operations {
                let fates = FATES.into_iter().zip(operation.records).filter(|(_, count)| *count > 0);
                for (fate, count) in fates {
                    let labels = [("operation", Text(operation.name)), ("outcome", Text(fate))];
                    lines.put(&labels, Value::Whole(count));
                }
            }
        }),
    ),
    gauge(
        "weir_consumer_iterator_age_seconds",
        "Age of the record that the group reads next; 0 when there is none.",
        Of::Group(|group, lines| {
            for_commits(group, lines, |commit| commit.age_ms.map(Value::Thousandths));
        }),
    ),
    // --- kafka_exporter
    gauge(
        "kafka_brokers",
        "Number of brokers in the cluster.",
        Of::Broker(|_, lines| lines.put(&[], Value::Whole(1))),
    ),
    gauge(
        "kafka_topic_partitions",
        "Number of partitions of the topic.",
        Of::Topic(|topic, lines| lines.put(&[("topic", Text(&topic.name))], whole(topic.partitions.len()))),
    ),
    gauge(
        "kafka_topic_partition_current_offset",
        "Offset after the partition's last record.",
        Of::Partition(|topic, partition, lines| {
            if let Some(log) = partition.log {
                lines.put(&partition_of(topic, partition), Value::Signed(log.end));
            }
        }),
    ),
    gauge(
        "kafka_topic_partition_oldest_offset",
        "First offset of the partition.",
        Of::Partition(|topic, partition, lines| {
            if let Some(log) = partition.log {
                lines.put(&partition_of(topic, partition), Value::Signed(log.start));
            }
        }),
    ),
    gauge(
        "kafka_topic_partition_leader",
        "Id of the partition's leader.",
        Of::Partition(|topic, partition, lines| {
            lines.put(&partition_of(topic, partition), Value::Signed(topic.node_id.into()));
        }),
    ),
    gauge("kafka_topic_partition_leader_is_preferred", "1: the leader is the preferred one.", ONE_EACH),
    gauge("kafka_topic_partition_replicas", "Number of replicas.", ONE_EACH),
    gauge("kafka_topic_partition_in_sync_replica", "Number of replicas in sync.", ONE_EACH),
    gauge(
        "kafka_topic_partition_under_replicated_partition",
        "1: fewer replicas in sync than there are.",
        Of::Partition(|topic, partition, lines| {
            lines.put(&partition_of(topic, partition), Value::Whole(0));
        }),
    ),
    gauge(
        "kafka_consumergroup_members",
        "Number of members of the group.",
        Of::Group(|group, lines| {
            lines.put(&[("consumergroup", Text(&group.id))], whole(group.members));
        }),
    ),
    gauge(
        "kafka_consumergroup_current_offset",
        "Offset that the group committed.",
        Of::Group(|group, lines| for_commits(group, lines, |commit| Some(Value::Signed(commit.offset)))),
    ),
    gauge(
        "kafka_consumergroup_current_offset_sum",
        "Offsets that the group committed in the topic, added up.",
        Of::Group(|group, lines| for_topics(group, lines, |commit| Some(commit.offset))),
    ),
    gauge(
        "kafka_consumergroup_lag",
        "Records that the group has still to read.",
        Of::Group(|group, lines| for_commits(group, lines, |commit| commit.lag.map(Value::Signed))),
    ),
    gauge(
        "kafka_consumergroup_lag_sum",
        "Records of the topic that the group has still to read.",
        Of::Group(|group, lines| for_topics(group, lines, |commit| commit.lag)),
    ),
    // --- the JMX exporter, with Strimzi's rules
    counter(
        "kafka_server_brokertopicmetrics_messagesin_total",
        "Records appended.",
        Of::Sum(|topic| sum(topic, |p| p.counted.written.iter().map(|passed| passed.records).sum())),
    ),
    counter(
        "kafka_server_brokertopicmetrics_bytesin_total",
        "Bytes of batches appended.",
        Of::Sum(|topic| sum(topic, |p| p.counted.written.iter().map(|passed| passed.bytes).sum())),
    ),
    counter(
        "kafka_server_brokertopicmetrics_bytesout_total",
        "Bytes read.",
        Of::Sum(|topic| sum(topic, |p| p.counted.read.iter().map(|passed| passed.bytes).sum())),
    ),
    counter(
        "kafka_server_brokertopicmetrics_totalproducerequests_total",
        "Batches appended by Kafka clients: one per partition of a request.",
        Of::Sum(|topic| sum(topic, |p| p.counted.written.first().map_or(0, |passed| passed.calls))),
    ),
    counter(
        "kafka_server_brokertopicmetrics_totalfetchrequests_total",
        "Reads by Kafka clients that found something: one per partition of a request.",
        Of::Sum(|topic| sum(topic, |p| p.counted.read.first().map_or(0, |passed| passed.calls))),
    ),
    counter(
        "kafka_server_brokertopicmetrics_failedproducerequests_total",
        "Batches that the partition refused for another reason than a limit of the shard.",
        Of::Sum(|topic| sum(topic, |p| p.counted.refused_batches)),
    ),
    counter(
        "kafka_server_brokertopicmetrics_failedfetchrequests_total",
        "Reads that failed at the disk.",
        Of::Sum(|topic| sum(topic, |p| p.counted.failed_reads)),
    ),
    gauge("kafka_server_replicamanager_leadercount", "Partitions led by this broker.", ALL_PARTITIONS),
    gauge("kafka_server_replicamanager_partitioncount", "Partitions on this broker.", ALL_PARTITIONS),
    gauge("kafka_server_replicamanager_underreplicatedpartitions", "One node has one copy.", NONE),
    gauge("kafka_server_replicamanager_underminisrpartitioncount", "One node has one copy.", NONE),
    gauge(
        "kafka_controller_kafkacontroller_activecontrollercount",
        "This node decides.",
        Of::Broker(|_, lines| lines.put(&[], Value::Whole(1))),
    ),
    gauge(
        "kafka_controller_kafkacontroller_offlinepartitionscount",
        "Partitions that take no more records, because a sync failed.",
        Of::Broker(|seen, lines| lines.put(&[], whole(fenced(seen)))),
    ),
    counter("kafka_controller_controllerstats_uncleanleaderelections_total", "One node elects nobody.", NONE),
    gauge("kafka_cluster_partition_atminisr", "For all partitions; one node has one copy.", NONE),
    gauge("kafka_cluster_partition_underminisr", "For all partitions; one node has one copy.", NONE),
    gauge(
        "kafka_log_log_size",
        "Bytes of the partition's log.",
        Of::Partition(|topic, partition, lines| {
            if let Some(log) = partition.log {
                lines.put(&partition_of(topic, partition), Value::Whole(log.bytes));
            }
        }),
    ),
    gauge(
        "kafka_log_logmanager_offlinelogdirectorycount",
        "1: the data directory is full, its small state fails, or it has a log that takes no more records.",
        Of::Broker(|seen, lines| {
            lines.put(&[], Value::Whole((seen.refuses_writes || fenced(seen) > 0).into()));
        }),
    ),
    gauge(
        "kafka_server_socket_server_metrics_connection_count",
        "Open connections.",
        Of::Connections(|open, lines| {
            // A Kafka listener may have the name of another door's.
            for same in open.chunk_by(|one, next| one.listener == next.listener) {
                let name = same.first().map_or("", |open| &open.listener);
                let connections = same.iter().map(|open| open.connections).sum();
                lines.put(&[("listener", Text(name))], Value::Whole(connections));
            }
        }),
    ),
    gauge(
        "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent",
        "Part of the workers' time since the last look that was idle, from 0 to 1.",
        Of::Broker(|seen, lines| lines.put(&[], Value::Thousandths(seen.idle_permille))),
    ),
];

const DIMENSIONS: [&str; 4] = ["write_bytes", "write_records", "read_bytes", "read_calls"];
const FATES: [&str; 4] = ["stored", "throttled", "failed", "read"];
const DOORS: [&str; 2] = ["kafka", "kinesis"];

const NONE: Of = Of::Broker(|_, lines| lines.put(&[], Value::Whole(0)));
pub(super) const ALL_PARTITIONS: Of = Of::Broker(|seen, lines| {
    lines.put(&[], whole(seen.topics.iter().map(|topic| topic.partitions.len()).sum()));
});
const ONE_EACH: Of = Of::Partition(|topic, partition, lines| {
    lines.put(&partition_of(topic, partition), Value::Whole(1));
});

pub(super) const fn gauge(name: &'static str, help: &'static str, of: Of) -> Family {
    Family { name, kind: "gauge", help, of }
}

pub(super) const fn counter(name: &'static str, help: &'static str, of: Of) -> Family {
    Family { name, kind: "counter", help, of }
}

pub(super) fn whole(count: usize) -> Value {
    Value::Whole(count as u64)
}

type Named<'a> = (&'static str, super::exposition::Label<'a>);

fn shard_of<'a>(topic: &'a SeenTopic, partition: &SeenPartition) -> [Named<'a>; 2] {
    [("topic", Text(&topic.name)), ("shard", Shard(partition.shard))]
}

fn partition_of<'a>(topic: &'a SeenTopic, partition: &SeenPartition) -> [Named<'a>; 2] {
    [("topic", Text(&topic.name)), ("partition", Index(partition.index))]
}

fn has_limits(topic: &SeenTopic) -> bool {
    topic.limits.iter().any(Option::is_some)
}

/// One sample per door; none of a door that nothing came through, unless the topic looks like a stream.
fn by_door(topic: &SeenTopic, partition: &SeenPartition, lines: &mut Lines<'_>, values: [u64; 2]) {
    for (door, value) in DOORS.into_iter().zip(values) {
        if door == "kafka" || value > 0 || has_limits(topic) {
            let [topic, shard] = shard_of(topic, partition);
            lines.put(&[topic, shard, ("door", Text(door))], Value::Whole(value));
        }
    }
}

fn limited(topic: &SeenTopic, partition: &SeenPartition, lines: &mut Lines<'_>, value: Value) {
    if has_limits(topic) || !matches!(value, Value::Whole(0) | Value::Thousandths(0)) {
        lines.put(&shard_of(topic, partition), value);
    }
}

pub(super) fn sum(topic: &SeenTopic, count: impl Fn(&SeenPartition) -> u64) -> u64 {
    topic.partitions.iter().map(count).sum()
}

pub(super) fn fenced(seen: &Seen) -> usize {
    let logs = seen.topics.iter().flat_map(|topic| &topic.partitions).filter_map(|partition| partition.log);
    logs.filter(|log| log.fenced).count()
}

fn for_commits(
    group: &SeenGroup,
    lines: &mut Lines<'_>,
    value: impl Fn(&crate::broker::SeenCommit) -> Option<Value>,
) {
    for (topic, commits) in &group.topics {
        for commit in commits {
            let Some(value) = value(commit) else { continue };
            let labels = [
                ("consumergroup", Text(&group.id)),
                ("topic", Text(topic)),
                ("partition", Index(commit.partition)),
            ];
            lines.put(&labels, value);
        }
    }
}

fn for_topics(
    group: &SeenGroup,
    lines: &mut Lines<'_>,
    value: impl Fn(&crate::broker::SeenCommit) -> Option<i64>,
) {
    for (topic, commits) in &group.topics {
        let known: Vec<i64> = commits.iter().filter_map(&value).collect();
        if !known.is_empty() {
            let labels = [("consumergroup", Text(&group.id)), ("topic", Text(topic))];
            lines.put(&labels, Value::Signed(known.iter().sum()));
        }
    }
}
