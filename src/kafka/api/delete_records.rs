//! DeleteRecords (key 21), versions 0-2, flexible from 2.
//!
//! Behaviour: moves the start of a partition up to an offset, -1 for its high watermark; durable before the
//! answer leaves. Offsets past the high watermark are OFFSET_OUT_OF_RANGE. A partition that is named again is trimmed and answered
//! once, at the offset of the last mention, as in Kafka: each trim is some syncs.
//!
//! - v0: KIP-107. v1: throttling happens after the response (KIP-219). v2: flexible.
//!
//! Known deviations from Apache Kafka: none.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsRequest, DeleteRecordsTopic};
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsResponse, DeleteRecordsTopicResult,
};

use super::{Api, Context, Reply};
use crate::broker::Core;
use crate::kafka::error::{self, Code};

pub(super) struct DeleteRecords;

impl Api for DeleteRecords {
    type Request = DeleteRecordsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    fn answer(
        cx: &mut Context<'_>,
        _version: i16,
        request: DeleteRecordsRequest,
    ) -> Reply<DeleteRecordsResponse> {
        let core = Arc::clone(cx.core);
        Reply::alone(async move {
            let mut topics = Vec::with_capacity(request.topics.len());
            for (name, offsets) in last_mentions(request.topics) {
                topics.push(delete_in(&core, name, offsets).await);
            }
            DeleteRecordsResponse::default().with_topics(topics)
        })
    }
}

/// Topics in the order in which they are named first, with the offset that each partition is named with last.
fn last_mentions(topics: Vec<DeleteRecordsTopic>) -> Vec<(TopicName, BTreeMap<i32, i64>)> {
    let mut places: HashMap<TopicName, usize> = HashMap::new();
    let mut last: Vec<(TopicName, BTreeMap<i32, i64>)> = Vec::new();
    for topic in topics {
        let at = *places.entry(topic.name.clone()).or_insert(last.len());
        if at == last.len() {
            last.push((topic.name, BTreeMap::new()));
        }
        if let Some((_, offsets)) = last.get_mut(at) {
            offsets.extend(topic.partitions.iter().map(|asked| (asked.partition_index, asked.offset)));
        }
    }
    last
}

async fn delete_in(
    core: &Arc<Core>,
    name: TopicName,
    offsets: BTreeMap<i32, i64>,
) -> DeleteRecordsTopicResult {
    let mut partitions = Vec::with_capacity(offsets.len());
    for (index, offset) in offsets {
        let (low_watermark, code) = match delete(core, &name, index, offset).await {
            Ok(start) => (start, Code::NONE),
            Err(code) => (-1, code),
        };
        partitions.push(
            DeleteRecordsPartitionResult::default()
                .with_partition_index(index)
                .with_low_watermark(low_watermark)
                .with_error_code(code.0),
        );
    }
    DeleteRecordsTopicResult::default().with_name(name).with_partitions(partitions)
}

/// The new start of the partition.
async fn delete(core: &Arc<Core>, topic: &str, partition: i32, offset: i64) -> Result<i64, Code> {
    let topic = core.topics().by_name(topic).ok_or(Code::UNKNOWN_TOPIC_OR_PARTITION)?;
    if topic.is_internal() {
        return Err(Code::INVALID_TOPIC_EXCEPTION);
    }
    let partition = topic.partition(partition).map_err(|e| error::of_topic(&e))?;
    if !partition.config().cleanup_policy.delete {
        return Err(Code::POLICY_VIOLATION);
    }
    core.open_log(&partition).await.map_err(|e| error::of_topic(&e))?;
    core.blocking(move |_| partition.delete_records(offset)).await.map_err(|e| error::of_topic(&e))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::delete_records_request::DeleteRecordsPartition;
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    #[test]
    fn a_partition_that_is_named_again_is_trimmed_once_where_it_is_named_last() {
        let name = |name| TopicName(StrBytes::from_static_str(name));
        let topic = |topic, offsets: &[(i32, i64)]| {
            let asked = offsets.iter().map(|(index, offset)| {
                DeleteRecordsPartition::default().with_partition_index(*index).with_offset(*offset)
            });
            DeleteRecordsTopic::default().with_name(name(topic)).with_partitions(asked.collect())
        };
        let many: Vec<_> = (0..10_000).map(|n| (0, n)).collect();
        let asked = vec![topic("b", &many), topic("a", &[(1, 5)]), topic("b", &[(1, 3), (0, 7)])];
        let last = last_mentions(asked);
        assert_eq!(
            last,
            [(name("b"), BTreeMap::from([(0, 7), (1, 3)])), (name("a"), BTreeMap::from([(1, 5)]))]
        );
    }
}
