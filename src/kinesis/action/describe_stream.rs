//! DescribeStream: the stream with its shards, open and closed, paged by the last shard seen.

use super::{Answer, Context, Fault, Field, Item, put_shard, put_stream};
use crate::kinesis::shape::Pattern;
use crate::kinesis::stream::{STREAM_ARN, STREAM_ID, STREAM_NAME};

/// Shards of an answer, also where Limit says more: as the service has it.
const PAGE: i64 = 100;
pub(super) const ROOM: usize = 64 * 1024;

pub(super) const FIELDS: &[Field] = &[
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
    Field::integer("Limit").between(1, 10_000),
    Field::text("ExclusiveStartShardId").between(1, 128).pattern(Pattern::Name),
];

pub(super) fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let stream = cx.stream(request)?;
    let after = request.text("ExclusiveStartShardId").map(|name| stream.past_or_present(name)).transpose()?;
    let limit = usize::try_from(request.integer("Limit").unwrap_or(PAGE).min(PAGE)).unwrap_or(1);
    let shards =
        if stream.status(cx.now_ms) == "CREATING" { Vec::new() } else { stream.shards(&cx.shared.core) };
    let mut shards = shards.iter().filter(|shard| after.is_none_or(|after| shard.id > after));
    Ok(cx.say(|w| {
        w.map("StreamDescription", |w| {
            put_stream(w, cx, &stream);
            w.list("Shards", |w| {
                shards.by_ref().take(limit).for_each(|shard| w.item(|w| put_shard(w, stream.mark, shard)))
            });
            w.boolean("HasMoreShards", shards.next().is_some());
        });
    }))
}
