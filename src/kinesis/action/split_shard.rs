//! SplitShard: the shard closes, two children open; done when it returns.

use super::update_shard_count::{check_limit, check_provisioned};
use super::{Answer, Context, Fault, Field, Item};
use crate::kinesis::records::parse_hash;
use crate::kinesis::shape::Pattern;
use crate::kinesis::stream::{STREAM_ARN, STREAM_ID, STREAM_NAME, Stream, shard_id};
use crate::topic::Shard;

pub(super) const FIELDS: &[Field] = &[
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
    Field::text("ShardToSplit").required().between(1, 128).pattern(Pattern::Name),
    Field::text("NewStartingHashKey").required().pattern(Pattern::HashKey),
];

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let stream = cx.settled_stream(request)?;
    check_provisioned(&stream)?;
    let shard = open_shard(cx, &stream, request.text("ShardToSplit").unwrap_or_default())?;
    let text = request.text("NewStartingHashKey").unwrap_or_default();
    let inside =
        |at: &u128| shard.start_hash.checked_add(1).is_some_and(|low| *at > low) && *at < shard.end_hash;
    let at = parse_hash(text).filter(inside).ok_or_else(|| {
        Fault::invalid(format!(
            "NewStartingHashKey {text} used in SplitShard() on shard {} in stream {} under account {} is not both greater than \
             one plus the shard's StartingHashKey {} and less than the shard's EndingHashKey {}.",
            shard_id(shard.id),
            stream.name(),
            stream.account,
            shard.start_hash,
            shard.end_hash
        ))
    })?;
    check_limit(cx, 1)?;
    let split = cx.shared.core.split_shard(&stream.topic, shard.id, at).await;
    split.map_err(|error| stream.fault(&error))?;
    Ok(Context::done())
}

/// A shard of that name that takes records.
pub(super) fn open_shard(cx: &Context<'_>, stream: &Stream, name: &str) -> Result<Shard, Fault> {
    let (stream_name, account) = (stream.name(), &stream.account);
    let shard = stream.shard(name, &cx.shared.core).ok_or_else(|| {
        Fault::not_found(format!(
            "Could not find shard {name} in stream {stream_name} under account {account}."
        ))
    })?;
    if !shard.is_open() {
        return Err(Fault::invalid(format!(
            "Shard {} in stream {stream_name} under account {account} has already been merged or split, and thus is not \
             eligible for merging or splitting.",
            shard_id(shard.id)
        )));
    }
    Ok(shard)
}
