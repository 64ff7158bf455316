//! DeleteRecords (key 21), versions 0-2, flexible from 2.
//!
//! Behaviour: moves the start of a partition up to an offset, -1 for its high watermark; durable before the
//! answer leaves. Offsets past the high watermark are OFFSET_OUT_OF_RANGE.
//!
//! - v0: KIP-107. v1: throttling happens after the response (KIP-219). v2: flexible.
//!
//! Known deviations from Apache Kafka: none.

use std::ops::RangeInclusive;
use std::sync::Arc;

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
            for topic in request.topics {
                topics.push(delete_in(&core, topic).await);
            }
            DeleteRecordsResponse::default().with_topics(topics)
        })
    }
}

async fn delete_in(core: &Arc<Core>, topic: DeleteRecordsTopic) -> DeleteRecordsTopicResult {
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for asked in &topic.partitions {
        let (low_watermark, code) = match delete(core, &topic.name, asked.partition_index, asked.offset).await
        {
            Ok(start) => (start, Code::NONE),
            Err(code) => (-1, code),
        };
        partitions.push(
            DeleteRecordsPartitionResult::default()
                .with_partition_index(asked.partition_index)
                .with_low_watermark(low_watermark)
                .with_error_code(code.0),
        );
    }
    DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions)
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
