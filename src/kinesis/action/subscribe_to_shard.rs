//! SubscribeToShard: records of a shard as they come, as an event stream of five minutes (`subscription.rs`).
//!
//! A second call within five seconds of the first is refused; a later one takes over.

use super::get_shard_iterator::{Start, TYPES, find_shard};
use super::{Answer, Context, Fault, Field, Item, describe_stream_consumer::CONSUMER_ARN};
use crate::kinesis::shape::Pattern;
use crate::kinesis::stream::STREAM_ID;
use crate::kinesis::subscription::Feed;

const POSITION: &[Field] = &[
    Field::text("Type").required().one_of(TYPES),
    Field::text("SequenceNumber").pattern(Pattern::SequenceNumber),
    Field::time("Timestamp"),
];

pub(super) const FIELDS: &[Field] = &[
    CONSUMER_ARN.required(),
    STREAM_ID,
    Field::text("ShardId").required().between(1, 128).pattern(Pattern::Name),
    Field::structure("StartingPosition", POSITION).required(),
    Field::bool("DryRun"),
];

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let arn = request.text("ConsumerARN").unwrap_or_default();
    let (stream, consumer) = cx.shared.streams.by_consumer_arn(arn, cx.region)?;
    stream.serving(cx.now_ms)?;
    let shard = find_shard(cx, &stream, request.text("ShardId").unwrap_or_default())?;
    cx.admit(stream.topic.id(), &format!("{}/{}", shard.id, consumer.name))?;
    let position = request.field("StartingPosition");
    let start = Start {
        kind: position.and_then(|p| p.text("Type")).unwrap_or_default(),
        number: position.and_then(|p| p.text("SequenceNumber")),
        time_ms: position.and_then(|p| p.time_ms("Timestamp")),
    };
    let offset = start.offset(cx, &stream, &shard).await?;
    Context::not_dry(request)?;
    Feed::open(cx, stream, &consumer, &shard, offset).map(Answer::Feed)
}
