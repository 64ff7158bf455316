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
use crate::kafka::connection::Close;
use crate::kafka::error::{self, Code};
use crate::topic::{Error, Partition};

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
        let places: Vec<Place> = asked().map(|(topic, p)| place(cx, &topic.name, p)).collect();
        if !cx.unopened.is_empty() {
            return Reply::Now(ListOffsetsResponse::default());
        }
        let most = cx.core.topic_settings().max_decompressed_bytes;
        if asked().any(|(_, p)| is_sought(p.timestamp)) {
            let core = Arc::clone(cx.core);
            return Reply::phased(async move {
                let found = core.in_line(move |_| {
                    let answer = |place: &Place, p: &_| look_up(most, version, place, p);
                    Ok(answer_all(&request, &twice, &places, answer))
                });
                // Only a look-up that panicked has none; the client asks again.
                found.await.unwrap_or_default()
            });
        }
        Reply::Now(answer_all(&request, &twice, &places, |place, p| look_up(most, version, place, p)))
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

/// A partition that is asked for, whose log is open, or why not.
type Place = Result<Arc<Partition>, Error>;

fn place(cx: &mut Context<'_>, topic: &str, asked: &ListOffsetsPartition) -> Place {
    let topic = cx.core.topics().by_name(topic).ok_or(Error::UnknownTopic)?;
    let partition = topic.partition(asked.partition_index)?;
    partition.check_epoch(asked.current_leader_epoch)?;
    cx.is_open(&partition)?;
    Ok(partition)
}

/// `places` are those of the partitions in the order in which they are asked for.
fn answer_all(
    request: &ListOffsetsRequest,
    twice: &HashSet<(TopicName, i32)>,
    places: &[Place],
    answer: impl Fn(&Place, &ListOffsetsPartition) -> ListOffsetsPartitionResponse,
) -> ListOffsetsResponse {
    let mut places = places.iter();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(places.by_ref()).map(|(p, place)| {
            if twice.contains(&(topic.name.clone(), p.partition_index)) {
                return refused(p, Code::INVALID_REQUEST);
            }
            answer(place, p)
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

/// Decompresses to at most `most` bytes.
fn look_up(
    most: usize,
    version: i16,
    place: &Place,
    asked: &ListOffsetsPartition,
) -> ListOffsetsPartitionResponse {
    let of = |e: &Error| error::of_topic(e);
    let found = place.as_ref().map_err(of).and_then(|partition| find(most, version, partition, asked));
    match found {
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
    most: usize,
    version: i16,
    partition: &Partition,
    asked: &ListOffsetsPartition,
) -> Result<(i64, i64, i32), Code> {
    let of = |e: Error| error::of_topic(&e);
    let epoch = partition.leader_epoch();
    let nothing = (-1, -1, -1);
    Ok(match asked.timestamp {
        -1 => (partition.high_watermark().map_err(of)?.value(), -1, epoch),
        -2 => (partition.span().map_err(of)?.start, -1, epoch),
        -3 if version >= 7 => {
            partition.max_timestamp(most).map_err(of)?.map_or(nothing, |(o, t)| (o, t, epoch))
        }
        -4 if version >= 8 => (partition.span().map_err(of)?.start, -1, epoch),
        // No tiered storage: nothing is tiered, nothing waits to be.
        -5 if version >= 9 => nothing,
        -6 if version >= 11 => nothing,
        timestamp if timestamp < 0 => return Err(Code::UNSUPPORTED_VERSION),
        timestamp => {
            let found = partition.offset_for_time(timestamp, most).map_err(of)?;
            found.map_or(nothing, |(o, t)| (o, t, epoch))
        }
    })
}
