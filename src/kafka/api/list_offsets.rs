//! ListOffsets (key 2), versions 1-11, flexible from 6.
//!
//! Behaviour: -1 latest (high watermark), -2 earliest, -3 first offset that carries the largest timestamp,
//! -4 earliest local, -5 latest tiered, -6 earliest pending upload, else the first record at or after the timestamp.
//! A partition that is asked for twice is INVALID_REQUEST.
//!
//! - v1: one offset and its timestamp (KIP-79).
//! - v2: isolation level (KIP-98). v4: leader epoch (KIP-320). v6: flexible. v7: max timestamp (KIP-734).
//! - v8: -4 (KIP-405). v9: -5 (KIP-1005). v10: timeout (KIP-1075). v11: -6 (KIP-1023).
//!
//! Known deviations from Apache Kafka: a repeated partition is answered (with the error) as often as it is asked
//! for; -3 never names a record that DeleteRecords removed.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable};

use super::{Api, Context, Reply, resource};
use crate::broker::Core;
use crate::kafka::connection::Close;
use crate::kafka::error::{self, Code};
use crate::topic::Error;

pub(super) struct ListOffsets;

/// Newest version that `kafka_protocol` 0.18 has; v11 has the same layout.
const CRATE_MAX: i16 = 10;

impl Api for ListOffsets {
    type Request = ListOffsetsRequest;
    const VERSIONS: RangeInclusive<i16> = 1..=11;

    fn answer(cx: &mut Context<'_>, version: i16, request: ListOffsetsRequest) -> Reply<ListOffsetsResponse> {
        let twice = resource::repeated(
            request
                .topics
                .iter()
                .flat_map(|topic| topic.partitions.iter().map(|p| (topic.name.clone(), p.partition_index))),
        );
        let asked =
            || request.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |p| (topic, p)));
        if asked().any(|(_, p)| is_sought(p.timestamp)) {
            let core = Arc::clone(cx.core);
            return Reply::phased(async move {
                let found = core.in_line(move |core| {
                    let answer = |topic: &str, p: &ListOffsetsPartition| look_up(core, version, topic, p);
                    Ok(answer_all(&request, &twice, answer))
                });
                // Only a look-up that panicked has none; the client asks again.
                found.await.unwrap_or_default()
            });
        }
        for (topic, p) in asked() {
            let found =
                cx.core.topics().by_name(&topic.name).and_then(|t| t.partition(p.partition_index).ok());
            // An error is the partition's own, below.
            let _ = found.map(|partition| cx.is_open(&partition));
        }
        if !cx.unopened.is_empty() {
            return Reply::Now(ListOffsetsResponse::default());
        }
        let answer = |topic: &str, p: &ListOffsetsPartition| look_up(cx.core, version, topic, p);
        Reply::Now(answer_all(&request, &twice, answer))
    }

    fn decode(version: i16, body: &mut Bytes) -> Result<ListOffsetsRequest, Close> {
        ListOffsetsRequest::decode(body, version.min(CRATE_MAX))
            .map_err(|e| Close::Refused(format!("request body: {e}")))
    }

    fn encode(version: i16, response: &ListOffsetsResponse) -> Result<Vec<u8>, Close> {
        let mut out = Vec::new();
        response
            .encode(&mut out, version.min(CRATE_MAX))
            .map_err(|e| Close::Refused(format!("response body: {e}")))?;
        Ok(out)
    }
}

/// Whether the answer is sought in the log, which may take long.
fn is_sought(timestamp: i64) -> bool {
    timestamp >= 0 || timestamp == -3
}

fn answer_all(
    request: &ListOffsetsRequest,
    twice: &HashSet<(TopicName, i32)>,
    answer: impl Fn(&str, &ListOffsetsPartition) -> ListOffsetsPartitionResponse,
) -> ListOffsetsResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| {
            if twice.contains(&(topic.name.clone(), p.partition_index)) {
                return refused(p, Code::INVALID_REQUEST);
            }
            answer(&topic.name, p)
        });
        let partitions = partitions.collect();
        ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

fn refused(asked: &ListOffsetsPartition, code: Code) -> ListOffsetsPartitionResponse {
    let answer = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
    answer.with_error_code(code.0)
}

fn look_up(
    core: &Core,
    version: i16,
    topic: &str,
    asked: &ListOffsetsPartition,
) -> ListOffsetsPartitionResponse {
    match find(core, version, topic, asked) {
        Ok((offset, timestamp, epoch)) => {
            let epoch = if version >= 4 { epoch } else { -1 };
            ListOffsetsPartitionResponse::default()
                .with_partition_index(asked.partition_index)
                .with_offset(offset)
                .with_timestamp(timestamp)
                .with_leader_epoch(epoch)
        }
        Err(code) => refused(asked, code),
    }
}

/// Offset, timestamp and leader epoch; (-1, -1) when nothing matches.
fn find(
    core: &Core,
    version: i16,
    topic: &str,
    asked: &ListOffsetsPartition,
) -> Result<(i64, i64, i32), Code> {
    let of = |e: Error| error::of_topic(&e);
    let topic = core.topics().by_name(topic).ok_or(Code::UNKNOWN_TOPIC_OR_PARTITION)?;
    let partition = topic.partition(asked.partition_index).map_err(of)?;
    partition.check_epoch(asked.current_leader_epoch).map_err(of)?;
    let epoch = partition.leader_epoch();
    let nothing = (-1, -1, -1);
    let max_plain_bytes = core.topic_settings().max_decompressed_bytes;
    Ok(match asked.timestamp {
        -1 => (partition.high_watermark().map_err(of)?.value(), -1, epoch),
        -2 => (partition.span().map_err(of)?.start, -1, epoch),
        -3 if version >= 7 => {
            partition.max_timestamp(max_plain_bytes).map_err(of)?.map_or(nothing, |(o, t)| (o, t, epoch))
        }
        -4 if version >= 8 => (partition.span().map_err(of)?.start, -1, epoch),
        // No tiered storage: nothing is tiered, nothing waits to be.
        -5 if version >= 9 => nothing,
        -6 if version >= 11 => nothing,
        timestamp if timestamp < 0 => return Err(Code::UNSUPPORTED_VERSION),
        timestamp => {
            let found = partition.offset_for_time(timestamp, max_plain_bytes).map_err(of)?;
            found.map_or(nothing, |(o, t)| (o, t, epoch))
        }
    })
}
