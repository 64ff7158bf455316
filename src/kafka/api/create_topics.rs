//! CreateTopics (key 19), versions 0-7, flexible from 5. v0-1 are read and written by hand.
//!
//! Behaviour: each topic is created or refused for itself; a created one is durable and can be produced to
//! by everybody before the answer leaves. -1 partitions means `num.partitions`, -1 replicas means 1.
//! Assignments may only name this node.
//!
//! - v0: name, partitions, replicas, assignments, configs. v1: validate only (KIP-4); error message.
//! - v2: throttle time. v3: throttling happens after the response (KIP-219). v4: -1 defaults (KIP-464).
//! - v5: flexible; the answer has partitions, replicas and configs (KIP-525).
//! - v6: THROTTLING_QUOTA_EXCEEDED may be answered (KIP-599). v7: topic id (KIP-516).
//!
//! Known deviations from Apache Kafka: -1 is understood in every version; v0-1 are gone from Kafka 4
//! (KIP-896); the broker's own topics cannot be created; `timeout.ms` is not used, the answer waits until
//! everything is done.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse,
};
use kafka_protocol::messages::{BrokerId, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use uuid::Uuid;

use super::{Api, Context, Reply, describe_configs, resource};
use crate::broker::Core;
use crate::kafka::connection::Close;
use crate::kafka::error::{Code, Refused};
use crate::kafka::wire::{Malformed, Reader, Writer};
use crate::topic::{NewTopic, check_name, is_internal};

pub(super) struct CreateTopics;

/// Oldest version that `kafka_protocol` has.
const CRATE_MIN: i16 = 2;
/// First version whose answer has partitions, replicas and configs.
const DETAILS_FROM: i16 = 5;
/// First version whose answer has the topic id.
const TOPIC_IDS_FROM: i16 = 7;
/// Partitions that one request may create, as in Kafka's controller (`MAX_RECORDS_PER_USER_OP`).
const PARTITIONS_MAX: i64 = 10_000;

/// A topic as asked for: what to create, or why not.
struct Plan {
    name: TopicName,
    new: Result<NewTopic, Refused>,
}

impl Api for CreateTopics {
    type Request = CreateTopicsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=7;

    /// The answer has every key of every topic.
    fn is_large(_cx: &Context<'_>, request: &CreateTopicsRequest) -> bool {
        request.topics.len() > 4
    }

    fn answer(
        cx: &mut Context<'_>,
        version: i16,
        request: CreateTopicsRequest,
    ) -> Reply<CreateTopicsResponse> {
        // Each topic has at least one partition: nothing needs to be planned.
        let least = i64::try_from(request.topics.len()).unwrap_or(i64::MAX);
        if least > PARTITIONS_MAX {
            let why = too_many(least);
            let refuse = |topic: CreatableTopic| result(cx.core, version, topic.name, Err(why.clone()));
            let topics = request.topics.into_iter().map(refuse).collect();
            return Reply::Now(CreateTopicsResponse::default().with_topics(topics));
        }
        let core = Arc::clone(cx.core);
        let plans = plan_all(&core, request.topics);
        let validate_only = request.validate_only;
        Reply::alone(async move {
            let mut topics = Vec::with_capacity(plans.len());
            for Plan { name, new } in plans {
                let outcome = match new {
                    Ok(new) => carry_out(&core, new, validate_only).await,
                    Err(refused) => Err(refused),
                };
                topics.push(result(&core, version, name, outcome));
            }
            CreateTopicsResponse::default().with_topics(topics)
        })
    }

    fn decode(version: i16, body: &mut Bytes) -> Result<CreateTopicsRequest, Close> {
        if version < CRATE_MIN {
            return Ok(decode_old(version, body)?);
        }
        CreateTopicsRequest::decode(body, version).map_err(|e| Close::Refused(format!("request body: {e}")))
    }

    fn encode(version: i16, response: &CreateTopicsResponse) -> Result<Vec<u8>, Close> {
        if version < CRATE_MIN {
            return Ok(encode_old(version, response));
        }
        let mut out = Vec::new();
        response.encode(&mut out, version).map_err(|e| Close::Refused(format!("response body: {e}")))?;
        Ok(out)
    }
}

/// One plan per name; a name that is asked for twice is not created at all.
fn plan_all(core: &Core, topics: Vec<CreatableTopic>) -> Vec<Plan> {
    let twice = resource::repeated(topics.iter().map(|t| t.name.clone()));
    let mut plans: Vec<Plan> = twice
        .iter()
        .map(|name| Plan {
            name: name.clone(),
            new: Err(Refused::new(Code::INVALID_REQUEST, "the topic is named more than once")),
        })
        .collect();
    plans.extend(topics.into_iter().filter(|t| !twice.contains(&t.name)).map(|topic| {
        let name = topic.name.clone();
        Plan { name, new: plan(core, topic) }
    }));
    let wanted: i64 = plans.iter().filter_map(|p| Some(i64::from(p.new.as_ref().ok()?.partitions))).sum();
    if wanted > PARTITIONS_MAX {
        let new = Err(too_many(wanted));
        for plan in plans.iter_mut().filter(|p| p.new.is_ok()) {
            plan.new = new.clone();
        }
    }
    plans
}

fn too_many(partitions: i64) -> Refused {
    let why = format!("{partitions} partitions in one request are more than {PARTITIONS_MAX}");
    Refused::new(Code::POLICY_VIOLATION, why)
}

fn plan(core: &Core, topic: CreatableTopic) -> Result<NewTopic, Refused> {
    check_name(&topic.name)?;
    if is_internal(&topic.name) {
        return Err(Refused::new(Code::INVALID_TOPIC_EXCEPTION, "the topic is the broker's own"));
    }
    let partitions =
        if topic.assignments.is_empty() { counted(core, &topic)? } else { assigned(core, &topic)? };
    let mut overrides = BTreeMap::new();
    for CreatableTopicConfig { name, value, .. } in topic.configs {
        let refuse = |why| Refused::new(Code::INVALID_CONFIG, format!("{}: {why}", name.as_str()));
        let value = value.ok_or_else(|| refuse("null is not a value"))?;
        if overrides.insert(name.to_string(), value.to_string()).is_some() {
            return Err(Refused::new(
                Code::INVALID_REQUEST,
                format!("{}: named more than once", name.as_str()),
            ));
        }
    }
    Ok(NewTopic { id: Uuid::nil(), name: topic.name.to_string(), partitions, overrides, created_ms: 0 })
}

/// Partitions of a topic that leaves the assignment to the broker.
fn counted(core: &Core, topic: &CreatableTopic) -> Result<i32, Refused> {
    let partitions = match topic.num_partitions {
        -1 => core.topic_settings().default_partitions,
        count => count,
    };
    // One topic's limit is the registry's; here a sum of them must not overflow into legality.
    if partitions < 1 || partitions > core.topic_settings().max_partitions_per_topic {
        let why = format!(
            "{partitions} partitions: must be from 1 to max.partitions.per.topic = {}",
            core.topic_settings().max_partitions_per_topic
        );
        return Err(Refused::new(Code::INVALID_PARTITIONS, why));
    }
    match topic.replication_factor {
        -1 | 1 => Ok(partitions),
        other => {
            let why = format!("{other} replicas: there is one broker, so 1 or -1");
            Err(Refused::new(Code::INVALID_REPLICATION_FACTOR, why))
        }
    }
}

/// Partitions of a topic that comes with an assignment.
fn assigned(core: &Core, topic: &CreatableTopic) -> Result<i32, Refused> {
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        let why = "with an assignment, partitions and replicas must be -1";
        return Err(Refused::new(Code::INVALID_REQUEST, why));
    }
    let mut indexes: Vec<i32> = topic.assignments.iter().map(|a| a.partition_index).collect();
    indexes.sort_unstable();
    if !indexes.iter().copied().eq((0..).take(indexes.len())) {
        let why = "partitions of an assignment must count up from 0, each once";
        return Err(Refused::new(Code::INVALID_REPLICA_ASSIGNMENT, why));
    }
    check_brokers(core, topic.assignments.iter().map(|a| a.broker_ids.as_slice()))?;
    Ok(i32::try_from(indexes.len()).unwrap_or(i32::MAX))
}

/// Every list of replicas must be this node and nothing else.
pub(super) fn check_brokers<'a>(
    core: &Core,
    mut replicas: impl Iterator<Item = &'a [BrokerId]>,
) -> Result<(), Refused> {
    let node = core.node_id();
    if replicas.all(|brokers| matches!(brokers, [BrokerId(one)] if *one == node)) {
        return Ok(());
    }
    let why =
        format!("the only broker is {node}: an assignment can name it once per partition, and no other");
    Err(Refused::new(Code::INVALID_REPLICA_ASSIGNMENT, why))
}

async fn carry_out(core: &Arc<Core>, new: NewTopic, validate_only: bool) -> Result<NewTopic, Refused> {
    if validate_only {
        core.topics().check(&new)?;
        return Ok(new);
    }
    let topic = core.create_topic(new.name.clone(), new.partitions, new.overrides.clone()).await?;
    Ok(NewTopic { id: topic.id(), ..new })
}

fn result(
    core: &Core,
    version: i16,
    name: TopicName,
    outcome: Result<NewTopic, Refused>,
) -> CreatableTopicResult {
    let (code, message) = Refused::fields(&outcome);
    let result =
        CreatableTopicResult::default().with_name(name).with_error_code(code).with_error_message(message);
    let Ok(new) = outcome else { return result };
    if version < DETAILS_FROM {
        return result;
    }
    let configs = describe_configs::topic_configs(core, &new.overrides)
        .into_iter()
        .map(|c| {
            CreatableTopicConfigs::default()
                .with_name(c.name)
                .with_value(c.value)
                .with_config_source(c.config_source)
        })
        .collect();
    let result =
        result.with_num_partitions(new.partitions).with_replication_factor(1).with_configs(Some(configs));
    if version < TOPIC_IDS_FROM { result } else { result.with_topic_id(new.id) }
}

fn decode_old(version: i16, body: &Bytes) -> Result<CreateTopicsRequest, Malformed> {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let mut r = Reader::new(body, false);
    let mut topics = Vec::new();
    for _ in 0..r.count(16)? {
        let topic = CreatableTopic::default()
            .with_name(TopicName(text(r.string()?)))
            .with_num_partitions(r.i32()?)
            .with_replication_factor(r.i16()?);
        let mut assignments = Vec::new();
        for _ in 0..r.count(8)? {
            let index = r.i32()?;
            let mut brokers = Vec::new();
            for _ in 0..r.count(4)? {
                brokers.push(BrokerId(r.i32()?));
            }
            assignments.push(
                CreatableReplicaAssignment::default().with_partition_index(index).with_broker_ids(brokers),
            );
        }
        let mut configs = Vec::new();
        for _ in 0..r.count(4)? {
            let name = text(r.string()?);
            let value = r.nullable_string()?.map(text);
            configs.push(CreatableTopicConfig::default().with_name(name).with_value(value));
        }
        topics.push(topic.with_assignments(assignments).with_configs(configs));
    }
    let request = CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(r.i32()?);
    let validate_only = version >= 1 && r.bool()?;
    r.end()?;
    Ok(request.with_validate_only(validate_only))
}

fn encode_old(version: i16, response: &CreateTopicsResponse) -> Vec<u8> {
    let mut w = Writer::new(false, 64);
    w.count(response.topics.len());
    for topic in &response.topics {
        w.string(&topic.name);
        w.i16(topic.error_code);
        if version >= 1 {
            w.nullable_string(topic.error_message.as_ref().map(StrBytes::as_str));
        }
    }
    w.finish()
}
