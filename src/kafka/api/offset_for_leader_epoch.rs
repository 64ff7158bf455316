//! OffsetForLeaderEpoch (key 23), versions 2-4, flexible from 4.
//!
//! Behaviour: the end offset of the largest epoch at or below the asked one, by which a consumer notices
//! that the log was cut under it (after an unclean start the log may end earlier, in a newer epoch).
//! -1 and -1 when the epoch is newer than all.
//!
//! - v2: current leader epoch, throttle time (KIP-320). v3: replica id, -2 for consumers (KIP-392).
//! - v4: flexible.
//!
//! Known deviations from Apache Kafka: none.

use std::ops::RangeInclusive;

use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};

use super::{Api, Context, Reply};
use crate::kafka::error::{self, Code};
use crate::topic::Error;

pub(super) struct OffsetForLeaderEpoch;

impl Api for OffsetForLeaderEpoch {
    type Request = OffsetForLeaderEpochRequest;
    const VERSIONS: RangeInclusive<i16> = 2..=4;

    fn answer(
        cx: &mut Context<'_>,
        _version: i16,
        request: OffsetForLeaderEpochRequest,
    ) -> Reply<OffsetForLeaderEpochResponse> {
        let topics = request
            .topics
            .into_iter()
            .map(|topic| {
                let partitions = topic.partitions.iter().map(|p| look_up(cx, &topic.topic, p)).collect();
                OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions)
            })
            .collect();
        Reply::Now(OffsetForLeaderEpochResponse::default().with_topics(topics))
    }
}

fn look_up(cx: &mut Context<'_>, topic: &str, asked: &OffsetForLeaderPartition) -> EpochEndOffset {
    let answer = EpochEndOffset::default().with_partition(asked.partition);
    match find(cx, topic, asked) {
        Ok(Some((epoch, end))) => answer.with_leader_epoch(epoch).with_end_offset(end),
        Ok(None) => answer,
        Err(code) => answer.with_error_code(code.0),
    }
}

/// Epoch and its end offset.
fn find(
    cx: &mut Context<'_>,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<Option<(i32, i64)>, Code> {
    let of = |e: Error| error::of_topic(&e);
    let topic = cx.core.topics().by_name(topic).ok_or(Code::UNKNOWN_TOPIC_OR_PARTITION)?;
    let partition = topic.partition(asked.partition).map_err(of)?;
    partition.check_epoch(asked.current_leader_epoch).map_err(of)?;
    if !cx.is_open(&partition).map_err(of)? {
        return Ok(None);
    }
    partition.epoch_end(asked.leader_epoch).map_err(of)
}
