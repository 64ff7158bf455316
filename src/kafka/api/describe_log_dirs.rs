//! DescribeLogDirs (key 35), versions 1-5, flexible from 2. The answer of v5 is written by hand.
//!
//! Behaviour: one directory, the data directory, with the bytes of every partition (null) or of those asked
//! for; partitions that do not exist are left out, as in Apache Kafka. While the disk is full, small state fails or a log
//! is fenced the directory carries KAFKA_STORAGE_ERROR, as Kafka's offline ones do, beside what it still holds.
//!
//! - v1: throttling happens after the response (KIP-219). v2: flexible. v3: top-level error.
//! - v4: total and usable bytes (KIP-827). v5: is cordoned (KIP-1066), never.
//!
//! Known deviations from Apache Kafka: none.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::describe_log_dirs_request::{DescribableLogDirTopic, DescribeLogDirsRequest};
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::{Api, Context, Reply};
use crate::broker::Core;
use crate::kafka::connection::Close;
use crate::kafka::error::{self, Code};
use crate::kafka::wire::Writer;
use crate::topic::{Partition, Topic};

pub(super) struct DescribeLogDirs;

/// Newest version that `kafka_protocol` 0.18 has; the request of v5 has the same layout.
const CRATE_MAX: i16 = 4;

/// Partitions to look at, by topic.
type Selection = BTreeMap<String, Vec<Arc<Partition>>>;

impl Api for DescribeLogDirs {
    type Request = DescribeLogDirsRequest;
    const VERSIONS: RangeInclusive<i16> = 1..=5;

    /// Every partition is measured.
    fn is_large(_cx: &Context<'_>, _request: &DescribeLogDirsRequest) -> bool {
        true
    }

    fn answer(
        cx: &mut Context<'_>,
        _version: i16,
        request: DescribeLogDirsRequest,
    ) -> Reply<DescribeLogDirsResponse> {
        let core = Arc::clone(cx.core);
        let selection = select(&core, request.topics);
        // One at a time: each takes a thread for as long as it measures.
        Reply::alone(async move {
            // Sizes of logs that nobody touched yet are found by opening them, however long that takes.
            core.open_all(selection.values().flatten().cloned().collect()).await;
            match core.in_line(move |core| Ok(measure(core, &selection))).await {
                Ok(result) => DescribeLogDirsResponse::default().with_results(vec![result]),
                Err(error) => DescribeLogDirsResponse::default().with_error_code(error::of_topic(&error).0),
            }
        })
    }

    fn decode(version: i16, body: &mut Bytes) -> Result<DescribeLogDirsRequest, Close> {
        DescribeLogDirsRequest::decode(body, version.min(CRATE_MAX))
            .map_err(|e| Close::Refused(format!("request body: {e}")))
    }

    fn encode(version: i16, response: &DescribeLogDirsResponse) -> Result<Vec<u8>, Close> {
        if version > CRATE_MAX {
            return Ok(encode_new(response));
        }
        let mut out = Vec::new();
        response.encode(&mut out, version).map_err(|e| Close::Refused(format!("response body: {e}")))?;
        Ok(out)
    }
}

/// Each partition at most once, however often it is asked for.
fn select(core: &Core, asked: Option<Vec<DescribableLogDirTopic>>) -> Selection {
    let all = |topic: &Topic| (topic.name().to_string(), topic.partitions().to_vec());
    let Some(asked) = asked else { return core.topics().all().iter().map(|t| all(t)).collect() };
    let mut wanted: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for topic in asked {
        wanted.entry(topic.topic.to_string()).or_default().extend(topic.partitions);
    }
    let existing = |(name, mut indexes): (String, Vec<i32>)| {
        let topic = core.topics().by_name(&name)?;
        indexes.sort_unstable();
        indexes.dedup();
        Some((name, indexes.into_iter().filter_map(|index| topic.partition(index).ok()).collect()))
    };
    wanted.into_iter().filter_map(existing).collect()
}

fn measure(core: &Core, selection: &Selection) -> DescribeLogDirsResult {
    let topics = selection
        .iter()
        .map(|(name, partitions)| {
            DescribeLogDirsTopic::default()
                .with_name(TopicName(StrBytes::from_string(name.clone())))
                .with_partitions(partitions.iter().filter_map(|p| size(name, p)).collect())
        })
        .collect();
    let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let capacity = core.capacity();
    let code = if core.refuses_writes() { Code::KAFKA_STORAGE_ERROR } else { Code::NONE };
    DescribeLogDirsResult::default()
        .with_error_code(code.0)
        .with_log_dir(StrBytes::from_string(core.location().to_string_lossy().into_owned()))
        .with_topics(topics)
        .with_total_bytes(capacity.map_or(-1, |c| bytes(c.total_bytes)))
        .with_usable_bytes(capacity.map_or(-1, |c| bytes(c.free_bytes)))
}

fn size(topic: &str, partition: &Partition) -> Option<DescribeLogDirsPartition> {
    let index = partition.id().partition;
    if !partition.is_open() {
        return None;
    }
    match partition.segments() {
        Ok(segments) => {
            let bytes = segments.iter().map(|s| s.bytes).fold(0, u64::saturating_add);
            let described = DescribeLogDirsPartition::default().with_partition_index(index);
            Some(described.with_partition_size(i64::try_from(bytes).unwrap_or(i64::MAX)))
        }
        // Deleted meanwhile, or its log does not open, which was told: it is not in this directory.
        Err(error) => {
            tracing::debug!(topic, partition = index, "not measured: {error}");
            None
        }
    }
}

fn encode_new(response: &DescribeLogDirsResponse) -> Vec<u8> {
    let mut w = Writer::new(true, 256);
    w.i32(response.throttle_time_ms);
    w.i16(response.error_code);
    w.count(response.results.len());
    for result in &response.results {
        w.i16(result.error_code);
        w.string(&result.log_dir);
        w.count(result.topics.len());
        for topic in &result.topics {
            w.string(&topic.name);
            w.count(topic.partitions.len());
            for partition in &topic.partitions {
                w.i32(partition.partition_index);
                w.i64(partition.partition_size);
                w.i64(partition.offset_lag);
                w.i8(i8::from(partition.is_future_key));
                w.tags();
            }
            w.tags();
        }
        w.i64(result.total_bytes);
        w.i64(result.usable_bytes);
        w.i8(0);
        w.tags();
    }
    w.tags();
    w.finish()
}
