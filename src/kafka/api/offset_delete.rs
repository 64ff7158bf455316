//! OffsetDelete (key 47), version 0, not flexible (KIP-496).
//!
//! Behaviour: offsets of topics that the group subscribes to are kept (GROUP_SUBSCRIBED_TO_TOPIC); an unknown
//! topic or partition is an error of that partition alone.
//!
//! Known deviations from Apache Kafka: none.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequest, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};

use super::{Api, Context, Reply};
use crate::broker::Core;
use crate::group::{self, CommittedTopic, DeleteOffsets, Error, Event, TopicPartitions};
use crate::kafka::error::{self, Code};

pub(super) struct OffsetDelete;

impl Api for OffsetDelete {
    type Request = OffsetDeleteRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn answer(
        cx: &mut Context<'_>,
        _version: i16,
        request: OffsetDeleteRequest,
    ) -> Reply<OffsetDeleteResponse> {
        let known = request.topics.iter().map(|t| known(cx.core, t)).collect();
        let event = DeleteOffsets { group: request.group_id.to_string(), topics: known };
        let reply = cx.core.group(Event::DeleteOffsets(event));
        Reply::phased(async move {
            let deleted = match reply.await {
                Ok(group::Reply::DeleteOffsets(deleted)) => deleted,
                Ok(_) | Err(_) => Err(Error::Storage),
            };
            match deleted {
                Ok(deleted) => OffsetDeleteResponse::default().with_topics(respond(request.topics, deleted)),
                Err(refusal) => OffsetDeleteResponse::default().with_error_code(error::of_group(&refusal).0),
            }
        })
    }
}

/// The partitions that exist.
fn known(core: &Core, topic: &OffsetDeleteRequestTopic) -> TopicPartitions {
    let count = core.topics().by_name(&topic.name).map_or(0, |t| t.partitions().len());
    let exists = |index: &i32| usize::try_from(*index).is_ok_and(|i| i < count);
    let partitions = topic.partitions.iter().map(|p| p.partition_index).filter(exists).collect();
    TopicPartitions { name: topic.name.to_string(), partitions }
}

fn respond(
    asked: Vec<OffsetDeleteRequestTopic>,
    deleted: Vec<CommittedTopic>,
) -> Vec<OffsetDeleteResponseTopic> {
    // By topic: a long name is looked at once, not for each of its partitions.
    let mut codes: HashMap<&str, HashMap<i32, Code>> = HashMap::new();
    for topic in &deleted {
        let code = |(index, result): &(i32, _)| (*index, error::of_group_result(result));
        codes.entry(&topic.name).or_default().extend(topic.partitions.iter().map(code));
    }
    asked
        .into_iter()
        .map(|topic| {
            let known = codes.get(topic.name.as_str());
            let code = |index| known.and_then(|codes| codes.get(&index)).copied();
            let code = |index| code(index).unwrap_or(Code::UNKNOWN_TOPIC_OR_PARTITION);
            let partitions = topic
                .partitions
                .iter()
                .map(|p| {
                    OffsetDeleteResponsePartition::default()
                        .with_partition_index(p.partition_index)
                        .with_error_code(code(p.partition_index).0)
                })
                .collect();
            OffsetDeleteResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions)
        })
        .collect()
}
