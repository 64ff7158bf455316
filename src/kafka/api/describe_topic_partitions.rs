//! DescribeTopicPartitions (key 75), version 0, flexible.
//!
//! Behaviour: topics by name, in order, at most as many partitions as the client and
//! `max.request.partition.size.limit` allow; a cursor names the next one. No names means all topics.
//!
//! - v0: KIP-966. No eligible leader replicas: the one replica leads.
//!
//! Known deviations from Apache Kafka: none.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, DescribeTopicPartitionsRequest};
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor as NextCursor, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{BrokerId, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{Api, Context, Reply, operations};
use crate::broker::Core;
use crate::kafka::error::{self, Code};
use crate::topic::{Partition, Topic, check_name};

pub(super) struct DescribeTopicPartitions;

impl Api for DescribeTopicPartitions {
    type Request = DescribeTopicPartitionsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    /// Some fifty bytes for each partition, up to two thousand.
    fn is_large(_cx: &Context<'_>, _request: &DescribeTopicPartitionsRequest) -> bool {
        true
    }

    fn answer(
        cx: &mut Context<'_>,
        _version: i16,
        request: DescribeTopicPartitionsRequest,
    ) -> Reply<DescribeTopicPartitionsResponse> {
        let all = request.topics.is_empty();
        let mut names: BTreeSet<StrBytes> = if all {
            let name = |t: &std::sync::Arc<Topic>| StrBytes::from_string(t.name().to_string());
            cx.core.topics().all().iter().map(name).collect()
        } else {
            request.topics.into_iter().map(|t| t.name.0).collect()
        };
        if let Some(cursor) = &request.cursor {
            if cursor.partition_index < 0 {
                return Reply::Now(refuse_all(names));
            }
            names.retain(|name| name.as_str() >= cursor.topic_name.as_str());
        }
        let limit = cx.core.connection_settings().max_described_partitions;
        let asked = usize::try_from(request.response_partition_limit).unwrap_or_default();
        Reply::Now(page(cx.core, names, request.cursor.as_ref(), limit.min(asked).max(1)))
    }
}

/// There is no top-level error in this response.
fn refuse_all(names: BTreeSet<StrBytes>) -> DescribeTopicPartitionsResponse {
    let topics = names.into_iter().map(|name| refused(name, Code::INVALID_REQUEST)).collect();
    DescribeTopicPartitionsResponse::default().with_topics(topics)
}

fn page(
    core: &Core,
    names: BTreeSet<StrBytes>,
    cursor: Option<&Cursor>,
    limit: usize,
) -> DescribeTopicPartitionsResponse {
    let next = |name: StrBytes, index: usize| {
        let index = i32::try_from(index).unwrap_or(i32::MAX);
        Some(NextCursor::default().with_topic_name(TopicName(name)).with_partition_index(index))
    };
    let mut response = DescribeTopicPartitionsResponse::default();
    let mut left = limit;
    for name in names {
        let Some(topic) = core.topics().by_name(&name) else {
            let code =
                check_name(&name).map_or_else(|e| error::of_topic(&e), |()| Code::UNKNOWN_TOPIC_OR_PARTITION);
            response.topics.push(refused(name, code));
            continue;
        };
        if left == 0 {
            response.next_cursor = next(name, 0);
            break;
        }
        // A cursor at a topic that is gone starts with the first topic after it.
        let from = cursor
            .filter(|c| c.topic_name.0 == name)
            .map_or(0, |c| usize::try_from(c.partition_index).unwrap_or_default());
        let all = topic.partitions();
        let partitions: Vec<_> = all.iter().skip(from).take(left).map(|p| describe(core, p)).collect();
        left -= partitions.len();
        let end = from.saturating_add(partitions.len());
        response.topics.push(
            DescribeTopicPartitionsResponseTopic::default()
                .with_name(Some(TopicName(name.clone())))
                .with_topic_id(topic.id())
                .with_is_internal(topic.is_internal())
                .with_partitions(partitions)
                .with_topic_authorized_operations(operations::TOPIC),
        );
        if end < all.len() {
            response.next_cursor = next(name, end);
            break;
        }
    }
    response
}

fn refused(name: StrBytes, code: Code) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(code.0)
        .with_name(Some(TopicName(name)))
        .with_topic_authorized_operations(operations::TOPIC)
}

fn describe(core: &Core, partition: &Partition) -> DescribeTopicPartitionsResponsePartition {
    let node = BrokerId(core.node_id());
    DescribeTopicPartitionsResponsePartition::default()
        .with_partition_index(partition.id().partition)
        .with_leader_id(node)
        .with_leader_epoch(partition.leader_epoch())
        .with_replica_nodes(vec![node])
        .with_isr_nodes(vec![node])
        .with_eligible_leader_replicas(Some(Vec::new()))
        .with_last_known_elr(Some(Vec::new()))
}
