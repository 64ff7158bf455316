//! Metadata (key 3), versions 0-13, flexible from 9.
//!
//! Behaviour: one broker, leader of everything; a topic that is asked for by name is created when the
//! client and the broker both allow it, and the answer already names its leader: nobody retries. All topics are encoded
//! once for everybody, until they change. A topic that is named more than once is answered once, as in Kafka.
//!
//! - v0: an empty list means all topics. v1: null means all, empty means none; controller, rack.
//! - v2: cluster id. v4: `allow_auto_topic_creation`. v5: offline replicas. v7: leader epoch (KIP-320).
//! - v8: authorized operations, where asked for (KIP-430). v9: flexible. v10: topic ids (KIP-516).
//! - v11: cluster operations moved to DescribeCluster. v12: topics by id. v13: top-level error (KIP-1102).
//!
//! Known deviations from Apache Kafka: the answer never carries LEADER_NOT_AVAILABLE.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use kafka_protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{Answer, Api, Context, FEW, Reply, operations};
use crate::broker::Core;
use crate::kafka::connection::Close;
use crate::kafka::error::{self, Code};
use crate::kafka::out::{Body, Piece};
use crate::topic::{Topic, check_name};

pub(super) struct Metadata;

const FLEXIBLE_FROM: i16 = 9;

/// Versions that carry the cluster's authorized operations.
const CLUSTER_OPERATIONS_IN: RangeInclusive<i16> = 8..=10;

impl Api for Metadata {
    type Request = MetadataRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=13;
    /// librdkafka 2.x leaves a four-byte count where its request for all topics has a one-byte null.
    const IGNORES_BYTES_AFTER_THE_END: bool = true;

    fn is_large(cx: &Context<'_>, request: &MetadataRequest) -> bool {
        let topics = cx.core.topics();
        let partitions = |asked: &MetadataRequestTopic| {
            let topic = match &asked.name {
                Some(name) => topics.by_name(name),
                None => topics.by_id(asked.topic_id),
            };
            topic.map_or(1, |topic| topic.partitions().len())
        };
        request.topics.iter().flatten().map(partitions).sum::<usize>() > FEW
    }

    fn ready(cx: &mut Context<'_>, version: i16, request: &MetadataRequest) -> Result<Option<Answer>, Close> {
        let all = request.topics.as_ref().is_none_or(|topics| version == 0 && topics.is_empty());
        if all { all_topics(cx, version, request).map(Some) } else { Ok(None) }
    }

    fn answer(cx: &mut Context<'_>, version: i16, request: MetadataRequest) -> Reply<MetadataResponse> {
        let core = Arc::clone(cx.core);
        let response = skeleton(cx, version, &request);
        let may = topic_operations(&request);
        let mut asked = request.topics.unwrap_or_default();
        let mut named = HashSet::new();
        asked.retain(|topic| named.insert((topic.name.clone(), topic.topic_id)));
        drop(named);
        let may_create = (version < 4 || request.allow_auto_topic_creation) && core.auto_creates_topics();
        let missing: Vec<String> = if may_create { missing(&core, &asked) } else { Vec::new() };
        if missing.is_empty() {
            let topics = asked.into_iter().map(|t| look_up(&core, t, may)).collect();
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
            let topics = asked.into_iter().map(|t| look_up(&core, t, may)).collect();
            response.with_topics(topics)
        })
    }
}

/// The answer to who asks for every topic: what is between its head and its tail was encoded once for all.
fn all_topics(cx: &mut Context<'_>, version: i16, request: &MetadataRequest) -> Result<Answer, Close> {
    let mut bytes = Metadata::encode(version, &skeleton(cx, version, request))?;
    // After the topics: operations on the cluster, a top-level error, tags.
    let operations = if CLUSTER_OPERATIONS_IN.contains(&version) { 4 } else { 0 };
    let error = if version >= 13 { 2 } else { 0 };
    let flexible = version >= FLEXIBLE_FROM;
    let tail = operations + error + usize::from(flexible);
    let count = if flexible { 1 } else { 4 };
    let head = bytes.len().saturating_sub(tail + count);
    let form = (version, request.include_topic_authorized_operations);
    let state = cx.core.topics().version();
    let topics = match cx.answers.find(form, state) {
        Some(topics) => topics,
        None if cx.on_worker && cx.core.topics().partition_count() > FEW => return Ok(Answer::Long),
        None => {
            let may = topic_operations(request);
            let all = cx.core.topics().all().iter().map(|t| describe(cx.core, t, may)).collect();
            let whole = Metadata::encode(version, &skeleton(cx, version, request).with_topics(all))?;
            let topics = whole.get(head..whole.len().saturating_sub(tail)).unwrap_or_default();
            match cx.answers.keep(form, state, topics.to_vec()) {
                Ok(topics) => topics,
                Err(_) => return Ok(Answer::Now(whole.into())),
            }
        }
    };
    bytes.drain(head..head + count);
    Ok(Answer::Now(Body { bytes, pieces: vec![(head, Piece::Shared(topics))] }))
}

/// What the answer tells of operations on topics.
fn topic_operations(request: &MetadataRequest) -> i32 {
    operations::when(request.include_topic_authorized_operations, operations::TOPIC)
}

fn skeleton(cx: &Context<'_>, version: i16, request: &MetadataRequest) -> MetadataResponse {
    let for_cluster =
        request.include_cluster_authorized_operations && CLUSTER_OPERATIONS_IN.contains(&version);
    let (host, port) = cx.core.advertised(cx.listener, cx.local);
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(cx.core.node_id()))
        .with_host(StrBytes::from_string(host))
        .with_port(i32::from(port))
        .with_rack(cx.core.config().identity().rack.map(StrBytes::from_string));
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(StrBytes::from_string(cx.core.cluster_id().to_owned())))
        .with_controller_id(BrokerId(cx.core.node_id()))
        .with_cluster_authorized_operations(operations::when(for_cluster, operations::CLUSTER))
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

/// `may`: what the answer tells of authorized operations.
fn look_up(core: &Core, asked: MetadataRequestTopic, may: i32) -> MetadataResponseTopic {
    let Some(name) = asked.name else {
        return match core.topics().by_id(asked.topic_id) {
            Some(topic) => describe(core, &topic, may),
            None => refused(None, Code::UNKNOWN_TOPIC_ID, operations::UNASKED).with_topic_id(asked.topic_id),
        };
    };
    match core.topics().by_name(&name) {
        Some(topic) => describe(core, &topic, may),
        None => {
            let code =
                check_name(&name).map_or_else(|e| error::of_topic(&e), |()| Code::UNKNOWN_TOPIC_OR_PARTITION);
            refused(Some(name), code, may)
        }
    }
}

fn refused(name: Option<TopicName>, code: Code, may: i32) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_error_code(code.0)
        .with_name(name)
        .with_topic_authorized_operations(may)
}

fn describe(core: &Core, topic: &Topic, may: i32) -> MetadataResponseTopic {
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
        .with_topic_authorized_operations(may)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::broker::{Wave, in_memory};
    use crate::config::Config;
    use crate::kafka::answers::Answers;

    fn on_the_wire(answer: Answer) -> (Vec<u8>, *const u8) {
        let Answer::Now(body) = answer else { panic!("it is there") };
        let [(at, Piece::Shared(topics))] = body.pieces.as_slice() else { panic!("one part is shared") };
        let (head, tail) = body.bytes.split_at(*at);
        ([head, topics, tail].concat(), topics.as_ptr())
    }

    #[tokio::test]
    async fn all_topics_are_encoded_once_in_every_version_until_they_change() {
        let core = in_memory(Config::default()).unwrap();
        let (mut wave, answers) = (Wave::default(), Answers::new(None));
        for n in 0..100 {
            core.create_topic(format!("topic-{n}"), 1 + n % 3, BTreeMap::new()).await.unwrap();
        }
        let mut cx = Context { on_worker: false, ..Context::of_test(&core, &mut wave, &answers) };
        for version in Metadata::VERSIONS {
            for asks in [false, version >= 8] {
                let request = MetadataRequest::default()
                    .with_include_topic_authorized_operations(asks)
                    .with_include_cluster_authorized_operations(asks && version <= 10);
                let may = topic_operations(&request);
                let all = || cx.core.topics().all().iter().map(|t| describe(cx.core, t, may)).collect();
                let whole = skeleton(&cx, version, &request).with_topics(all());
                let whole = Metadata::encode(version, &whole).unwrap();
                let (first, made) = on_the_wire(all_topics(&mut cx, version, &request).unwrap());
                assert!(first == whole, "v{version}");
                cx.on_worker = true;
                let (again, shared) = on_the_wire(all_topics(&mut cx, version, &request).unwrap());
                assert!(again == whole && shared == made, "v{version}: the same bytes");
                cx.on_worker = false;
            }
        }
        // Each kind of change makes the next one new.
        let plain = MetadataRequest::default();
        let mut last = on_the_wire(all_topics(&mut cx, 9, &plain).unwrap()).0;
        let topic = core.topics().by_name("topic-0").unwrap();
        let plan = core.topics().plan(&topic, &crate::topic::Reshape::Scale { count: 2 }).unwrap();
        core.create_topic("later".to_owned(), 1, BTreeMap::new()).await.unwrap();
        for change in 0..3 {
            match change {
                0 => {}
                1 => core.topics().reshard(&topic, &plan, &BTreeMap::new(), 1).unwrap(),
                _ => drop(core.topics().delete(topic.id()).unwrap()),
            }
            cx.on_worker = true;
            assert!(matches!(all_topics(&mut cx, 9, &plain).unwrap(), Answer::Long), "not made on a worker");
            cx.on_worker = false;
            let now = on_the_wire(all_topics(&mut cx, 9, &plain).unwrap()).0;
            assert!(now != last, "change {change}");
            last = now;
        }
    }
}
