//! MergeShards: two adjacent shards close, one child opens; done when it returns.
//!
//! Deviation: refused with ResourceInUseException while Kafka producers write to the partition that would take no
//! more records.

use super::split_shard::open_shard;
use super::{Answer, Context, Fault, Field, Item, update_shard_count::check_provisioned};
use crate::kinesis::shape::Pattern;
use crate::kinesis::stream::{STREAM_ARN, STREAM_ID, STREAM_NAME, shard_id};

pub(super) const FIELDS: &[Field] = &[
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
    Field::text("ShardToMerge").required().between(1, 128).pattern(Pattern::Name),
    Field::text("AdjacentShardToMerge").required().between(1, 128).pattern(Pattern::Name),
];

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let stream = cx.settled_stream(request)?;
    check_provisioned(&stream)?;
    let [one, other] =
        ["ShardToMerge", "AdjacentShardToMerge"].map(|field| request.text(field).unwrap_or_default());
    let (one, other) = (open_shard(cx, &stream, one)?, open_shard(cx, &stream, other)?);
    // In this order: the adjacent one is the upper.
    if one.end_hash.checked_add(1) != Some(other.start_hash) {
        return Err(Fault::invalid(format!(
            "Shards {} and {} in stream {} under account {} are not an adjacent pair of shards eligible for merging",
            shard_id(one.id),
            shard_id(other.id),
            stream.name(),
            stream.account
        )));
    }
    let merged = cx.shared.core.merge_shards(&stream.topic, one.id, other.id, false).await;
    merged.map_err(|error| stream.fault(&error))?;
    Ok(Context::done())
}
