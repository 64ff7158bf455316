//! PutRecord: one record; on stable storage when it returns. Over the shard's limits it is refused at once.

use super::{Answer, Context, Fault, Field, Item};
use crate::broker::{Fate, Stored};
use crate::kinesis::records::{Intake, sequence_of};
use crate::kinesis::sequence::Sequence;
use crate::kinesis::shape::Pattern;
use crate::kinesis::stream::{STREAM_ARN, STREAM_ID, STREAM_NAME, shard_id};
use crate::topic::Error;

pub(super) const DATA: Field = Field::blob("Data").required().between(0, 10_485_760);
pub(super) const PARTITION_KEY: Field = Field::text("PartitionKey").between(1, 256);
pub(super) const EXPLICIT_HASH_KEY: Field = Field::text("ExplicitHashKey").pattern(Pattern::HashKey);
pub(super) const FIELDS: &[Field] = &[
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
    DATA,
    PARTITION_KEY,
    EXPLICIT_HASH_KEY,
    Field::text("SequenceNumberForOrdering").pattern(Pattern::SequenceNumber),
    Field::bool("DryRun"),
];

/// What became of a record.
pub(super) fn fate_of(outcome: &Result<Stored, Error>) -> Fate {
    match outcome {
        Ok(_) => Fate::Stored,
        Err(Error::Throttled { .. }) => Fate::Throttled,
        Err(_) => Fate::Failed,
    }
}

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let stream = cx.serving_stream(request)?;
    if let Some(text) = request.text("SequenceNumberForOrdering")
        && Sequence::parse(text).is_none_or(|number| number.second > cx.now_ms.div_euclid(1000))
    {
        return Err(Fault::invalid(format!(
            "ExclusiveMinimumSequenceNumber {text} used in PutRecord on stream {} under account {} is invalid.",
            stream.name(),
            stream.account
        )));
    }
    let mut intake = Intake::new(cx.body, &stream, cx.now_ms, 1);
    let take = || intake.take(request, &str::to_owned, || cx.shared.spread());
    cx.shared.core.work(Some(cx.client.peer), cx.body.len(), take).await?;
    Context::not_dry(request)?;
    let puts = intake.puts();
    let hash = puts.first().map_or(0, |put| put.hash);
    let outcome = cx.shared.core.put(&stream.topic, puts).await.map_err(|error| stream.fault(&error))?;
    let shards = stream.topic.shards();
    let stored = outcome.into_iter().next().unwrap_or(Err(Error::UnknownPartition));
    cx.operation.records(fate_of(&stored), 1);
    let stored = stored.map_err(|error| stream.fault_in(&error, shards.holding(hash).id))?;
    let shard = shards.by_id(stored.shard).ok_or_else(Fault::internal)?;
    Ok(cx.say(|w| {
        w.text("ShardId", &shard_id(shard.id));
        w.text(
            "SequenceNumber",
            sequence_of(stream.mark, shard, stored.offset, stored.time_ms).digits().as_str(),
        );
        w.text("EncryptionType", stream.traits.encryption_type());
    }))
}
