//! The table of `/public_metrics`: what Redpanda's dashboards and alert rules ask for there, by its names and labels.
//!
//! On a page of its own, as at Redpanda: whoever scrapes both pages gets no sample twice, and `/metrics` does not grow.
//! All topics are in the namespace `kafka`, as clients' topics and `__consumer_offsets` are there.
//! Deliberately absent: latencies, and numbers of Raft, of Seastar's shards and of tiers that are not here.

use super::exposition::Label::{Index, Text};
use super::exposition::{Label, Value};
use super::families::{ALL_PARTITIONS, Family, Of, counter, fenced, gauge, sum, whole};
use crate::broker::{SeenPartition, SeenTopic};

/// Free space below which the broker has little left: Redpanda's default, 5 %, as a part of all.
const LOW_SPACE_PART: u64 = 20;
/// Free space that does not hold one more batch of the default size.
const NO_SPACE_BYTES: u64 = 1 << 20;

pub(super) const FAMILIES: &[Family] = &[
    gauge(
        "redpanda_application_build",
        "Who this is; always 1.",
        Of::Broker(|_, lines| {
            let version = ("redpanda_version", Text(env!("CARGO_PKG_VERSION")));
            lines.put(&[("redpanda_revision", Text("weir")), version], Value::Whole(1));
        }),
    ),
    counter(
        "redpanda_application_uptime_seconds_total",
        "Seconds since the broker serves.",
        Of::Broker(|seen, lines| lines.put(&[], Value::Whole(seen.uptime_s))),
    ),
    gauge(
        "redpanda_cluster_brokers",
        "Number of brokers in the cluster.",
        Of::Broker(|_, lines| lines.put(&[], Value::Whole(1))),
    ),
    gauge(
        "redpanda_cluster_topics",
        "Number of topics.",
        Of::Broker(|seen, lines| lines.put(&[], whole(seen.topics.len()))),
    ),
    gauge("redpanda_cluster_partitions", "Number of partitions.", ALL_PARTITIONS),
    gauge(
        "redpanda_cluster_unavailable_partitions",
        "Partitions that take no more records, because a sync failed.",
        Of::Broker(|seen, lines| lines.put(&[], whole(fenced(seen)))),
    ),
    gauge(
        "redpanda_storage_disk_total_bytes",
        "Bytes of the space that the data lives on.",
        Of::Broker(|seen, lines| {
            seen.capacity.into_iter().for_each(|(total, _)| lines.put(&[], Value::Whole(total)));
        }),
    ),
    gauge(
        "redpanda_storage_disk_free_bytes",
        "Bytes of that space that are free.",
        Of::Broker(|seen, lines| {
            seen.capacity.into_iter().for_each(|(_, free)| lines.put(&[], Value::Whole(free)));
        }),
    ),
    gauge(
        "redpanda_storage_disk_free_space_alert",
        "0: there is space. 1: 5 % or less are free. 2: no space for another batch.",
        Of::Broker(|seen, lines| {
            seen.capacity.into_iter().for_each(|space| lines.put(&[], Value::Whole(alert(space))));
        }),
    ),
    gauge(
        "redpanda_rpc_active_connections",
        "Open connections.",
        Of::Connections(|open, lines| {
            let kafka = open.iter().filter(|open| open.door == "kafka").map(|open| open.connections).sum();
            lines.put(&[("redpanda_server", Text("kafka"))], Value::Whole(kafka));
        }),
    ),
    gauge(
        "redpanda_kafka_partitions",
        "Number of partitions of the topic.",
        Of::Topic(|topic, lines| lines.put(&topic_of(topic), whole(topic.partitions.len()))),
    ),
    gauge(
        "redpanda_kafka_replicas",
        "Number of replicas of the topic.",
        Of::Topic(|topic, lines| lines.put(&topic_of(topic), Value::Whole(1))),
    ),
    counter(
        "redpanda_kafka_request_bytes_total",
        "Bytes appended and read.",
        Of::Topic(|topic, lines| {
            let written = sum(topic, |p| p.counted.written.iter().map(|passed| passed.bytes).sum());
            let read = sum(topic, |p| p.counted.read.iter().map(|passed| passed.bytes).sum());
            for (request, bytes) in [("produce", written), ("consume", read)] {
                let [namespace, topic] = topic_of(topic);
                lines.put(&[namespace, ("redpanda_request", Text(request)), topic], Value::Whole(bytes));
            }
        }),
    ),
    gauge(
        "redpanda_kafka_max_offset",
        "Offset after the last record that can be read.",
        Of::Partition(|topic, partition, lines| {
            if let Some(log) = partition.log {
                lines.put(&partition_of(topic, partition), Value::Signed(log.end));
            }
        }),
    ),
    gauge(
        "redpanda_kafka_under_replicated_replicas",
        "One node has one copy.",
        Of::Partition(|topic, partition, lines| {
            lines.put(&partition_of(topic, partition), Value::Whole(0));
        }),
    ),
    gauge(
        "redpanda_kafka_consumer_group_consumers",
        "Number of members of the group.",
        Of::Group(|group, lines| {
            lines.put(&[("redpanda_group", Text(&group.id))], whole(group.members));
        }),
    ),
    gauge(
        "redpanda_kafka_consumer_group_topics",
        "Number of topics that the group committed offsets of.",
        Of::Group(|group, lines| {
            lines.put(&[("redpanda_group", Text(&group.id))], whole(group.topics.len()));
        }),
    ),
    gauge(
        "redpanda_kafka_consumer_group_committed_offset",
        "Offset that the group committed.",
        Of::Group(|group, lines| {
            for (topic, commits) in &group.topics {
                for commit in commits {
                    let labels = [
                        ("redpanda_group", Text(&group.id)),
                        ("redpanda_partition", Index(commit.partition)),
                        ("redpanda_topic", Text(topic)),
                    ];
                    lines.put(&labels, Value::Signed(commit.offset));
                }
            }
        }),
    ),
];

fn topic_of(topic: &SeenTopic) -> [(&'static str, Label<'_>); 2] {
    [("redpanda_namespace", Text("kafka")), ("redpanda_topic", Text(&topic.name))]
}

fn partition_of<'a>(topic: &'a SeenTopic, partition: &SeenPartition) -> [(&'static str, Label<'a>); 3] {
    let [namespace, topic] = topic_of(topic);
    [namespace, ("redpanda_partition", Index(partition.index)), topic]
}

fn alert((total, free): (u64, u64)) -> u64 {
    if free < NO_SPACE_BYTES { 2 } else { u64::from(free <= total / LOW_SPACE_PART) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_space_is_one_and_no_space_is_two() {
        const GIB: u64 = 1 << 30;
        assert_eq!(alert((100 * GIB, 5 * GIB + 1)), 0);
        assert_eq!(alert((100 * GIB, 5 * GIB)), 1);
        assert_eq!(alert((100 * GIB, NO_SPACE_BYTES)), 1);
        assert_eq!(alert((100 * GIB, NO_SPACE_BYTES - 1)), 2);
    }
}
