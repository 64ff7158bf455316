//! CreatePartitions (key 37), versions 0-3, flexible from 2.
//!
//! Behaviour: grows topics; each succeeds or fails for itself; new partitions can be produced to before the
//! answer leaves. Assignments may only name this node.
//!
//! - v0: KIP-195. v1: throttling happens after the response (KIP-219). v2: flexible.
//! - v3: THROTTLING_QUOTA_EXCEEDED may be answered (KIP-599).
//!
//! Known deviations from Apache Kafka: the broker's own topics cannot grow (groups are hashed over them).

use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use kafka_protocol::messages::create_partitions_response::{
    CreatePartitionsResponse, CreatePartitionsTopicResult,
};

use super::create_topics::check_brokers;
use super::{Api, Context, Reply, resource};
use crate::broker::Core;
use crate::kafka::error::{Code, Refused};

pub(super) struct CreatePartitions;

impl Api for CreatePartitions {
    type Request = CreatePartitionsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=3;

    fn answer(
        cx: &mut Context<'_>,
        _version: i16,
        request: CreatePartitionsRequest,
    ) -> Reply<CreatePartitionsResponse> {
        let core = Arc::clone(cx.core);
        let twice = resource::repeated(request.topics.iter().map(|t| t.name.clone()));
        Reply::alone(async move {
            let mut results = Vec::with_capacity(request.topics.len());
            for topic in request.topics {
                let name = topic.name.clone();
                let outcome = if twice.contains(&name) {
                    Err(Refused::new(Code::INVALID_REQUEST, "the topic is named more than once"))
                } else {
                    grow(&core, topic, request.validate_only).await
                };
                let (code, message) = Refused::fields(&outcome);
                results.push(
                    CreatePartitionsTopicResult::default()
                        .with_name(name)
                        .with_error_code(code)
                        .with_error_message(message),
                );
            }
            CreatePartitionsResponse::default().with_results(results)
        })
    }
}

async fn grow(core: &Arc<Core>, asked: CreatePartitionsTopic, validate_only: bool) -> Result<(), Refused> {
    let unknown = || Refused::new(Code::UNKNOWN_TOPIC_OR_PARTITION, "no such topic");
    let topic = core.topics().by_name(&asked.name).ok_or_else(unknown)?;
    if topic.is_internal() {
        return Err(Refused::new(Code::INVALID_TOPIC_EXCEPTION, "the topic is the broker's own"));
    }
    let count = asked.count;
    // The count is judged before the assignment, whose length depends on it.
    core.topics().growth(&topic, count)?;
    if let Some(assignments) = &asked.assignments {
        let present = i64::try_from(topic.partitions().len()).unwrap_or(i64::MAX);
        let added = i64::from(count) - present;
        if i64::try_from(assignments.len()) != Ok(added) {
            let why = format!("{} assignments for {added} new partitions", assignments.len());
            return Err(Refused::new(Code::INVALID_REPLICA_ASSIGNMENT, why));
        }
        check_brokers(core, assignments.iter().map(|a| a.broker_ids.as_slice()))?;
    }
    if !validate_only {
        core.grow_shards(&topic, count).await?;
    }
    Ok(())
}
