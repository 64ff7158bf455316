//! Metadata (key 3), versions 0-13, flexible from 9.
//!
//! Behaviour: one broker, leader of everything; a topic that is asked for by name is created when the
//! client and the broker both allow it, and the answer already names its leader: nobody retries.
//!
//! - v0: an empty list means all topics. v1: null means all, empty means none; controller, rack.
//! - v2: cluster id. v4: `allow_auto_topic_creation`. v5: offline replicas. v7: leader epoch (KIP-320).
//! - v8: authorized operations (KIP-430; -2147483648, no authorizer). v9: flexible. v10: topic ids (KIP-516).
//! - v11: cluster operations moved to DescribeCluster. v12: topics by id. v13: top-level error (KIP-1102).
//!
//! Known deviations from Apache Kafka: the answer never carries LEADER_NOT_AVAILABLE.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use kafka_protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{Api, Context, Reply};
use crate::broker::Core;
use crate::kafka::error::{self, Code};
use crate::topic::{Topic, check_name};

pub(super) struct Metadata;

/// "Not asked for" in the authorized-operations fields.
const NO_OPERATIONS: i32 = i32::MIN;

impl Api for Metadata {
    type Request = MetadataRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=13;
    /// librdkafka 2.x leaves a four-byte count where its request for all topics has a one-byte null.
    const IGNORES_BYTES_AFTER_THE_END: bool = true;

    fn answer(cx: &mut Context<'_>, version: i16, request: MetadataRequest) -> Reply<MetadataResponse> {
        let core = Arc::clone(cx.core);
        let response = skeleton(cx);
        let all = match &request.topics {
            None => true,
            Some(topics) => version == 0 && topics.is_empty(),
        };
        if all {
            let topics = core.topics().all().iter().map(|t| describe(&core, t)).collect();
            return Reply::Now(response.with_topics(topics));
        }
        let asked = request.topics.unwrap_or_default();
        let may_create = (version < 4 || request.allow_auto_topic_creation) && core.auto_creates_topics();
        let missing: Vec<String> = if may_create { missing(&core, &asked) } else { Vec::new() };
        if missing.is_empty() {
            let topics = asked.into_iter().map(|t| look_up(&core, t)).collect();
            return Reply::Now(response.with_topics(topics));
        }
        Reply::alone(async move {
            for name in missing {
                // A refusal shows in the look-up below (an illegal name) or as an unknown topic (a limit).
                if let Err(error) = core.create_topic_with_defaults(name.clone()).await {
                    match core.lines().not_created.admit() {
                        Some(suppressed) => tracing::info!(topic = name, suppressed, "not created: {error}"),
                        None => tracing::debug!(topic = name, "not created: {error}"),
                    }
                }
            }
            let topics = asked.into_iter().map(|t| look_up(&core, t)).collect();
            response.with_topics(topics)
        })
    }
}

fn skeleton(cx: &Context<'_>) -> MetadataResponse {
    let (host, port) = cx.core.advertised(cx.listener, cx.local);
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(cx.core.node_id()))
        .with_host(StrBytes::from_string(host))
        .with_port(i32::from(port))
        .with_rack(None);
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(StrBytes::from_string(cx.core.cluster_id().to_owned())))
        .with_controller_id(BrokerId(cx.core.node_id()))
        .with_cluster_authorized_operations(NO_OPERATIONS)
}

/// Legal names that do not exist yet.
fn missing(core: &Core, asked: &[MetadataRequestTopic]) -> Vec<String> {
    asked
        .iter()
        .filter_map(|t| t.name.as_ref())
        .filter(|name| check_name(name).is_ok() && core.topics().by_name(name).is_none())
        .map(|name| name.to_string())
        .collect()
}

fn look_up(core: &Core, asked: MetadataRequestTopic) -> MetadataResponseTopic {
    let Some(name) = asked.name else {
        return match core.topics().by_id(asked.topic_id) {
            Some(topic) => describe(core, &topic),
            None => refused(None, Code::UNKNOWN_TOPIC_ID).with_topic_id(asked.topic_id),
        };
    };
    match core.topics().by_name(&name) {
        Some(topic) => describe(core, &topic),
        None => {
            let code =
                check_name(&name).map_or_else(|e| error::of_topic(&e), |()| Code::UNKNOWN_TOPIC_OR_PARTITION);
            refused(Some(name), code)
        }
    }
}

fn refused(name: Option<TopicName>, code: Code) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_error_code(code.0)
        .with_name(name)
        .with_topic_authorized_operations(NO_OPERATIONS)
}

fn describe(core: &Core, topic: &Topic) -> MetadataResponseTopic {
    let node = BrokerId(core.node_id());
    let partitions = topic
        .partitions()
        .iter()
        .map(|p| {
            MetadataResponsePartition::default()
                .with_partition_index(p.id().partition)
                .with_leader_id(node)
                .with_leader_epoch(p.leader_epoch())
                .with_replica_nodes(vec![node])
                .with_isr_nodes(vec![node])
        })
        .collect();
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name().to_string()))))
        .with_topic_id(topic.id())
        .with_is_internal(topic.is_internal())
        .with_partitions(partitions)
        .with_topic_authorized_operations(NO_OPERATIONS)
}
