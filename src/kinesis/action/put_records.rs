//! PutRecords: up to 500 records and 10 MiB; all that go to one shard become one batch. On stable storage when it
//! returns. Records over their shard's limits are refused one by one, the others are stored.

use super::put_record::{DATA, EXPLICIT_HASH_KEY, PARTITION_KEY, fate_of};
use super::{Answer, Context, Fault, Field, Item};
use crate::broker::Fate;
use crate::kinesis::error::Kind;
use crate::kinesis::records::{Intake, sequence_of};
use crate::kinesis::shape::Rule;
use crate::kinesis::stream::{STREAM_ARN, STREAM_ID, STREAM_NAME, shard_id};

const RECORD: Rule = Rule::structure(&[DATA, EXPLICIT_HASH_KEY, PARTITION_KEY]);
/// About what an answer takes per record.
const ANSWER_BYTES: usize = 128;

pub(super) const FIELDS: &[Field] = &[
    Field::list("Records", &RECORD).required().between(1, 500),
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
    Field::bool("DryRun"),
];

/// What the answer to so many records takes.
pub(super) fn room(request: Item<'_>) -> usize {
    1024 + request.field("Records").map_or(0, |records| records.items().count()) * 2 * ANSWER_BYTES
}

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let stream = cx.serving_stream(request)?;
    let records = request.field("Records");
    let count = records.map_or(0, |records| records.items().count());
    let mut intake = Intake::new(cx.body, &stream, cx.now_ms, count);
    let take = || -> Result<(), Fault> {
        for (at, record) in records.into_iter().flat_map(Item::items).enumerate() {
            let place = |field: &str| format!("records.{}.member.{field}", at + 1);
            intake.take(record, &place, || cx.shared.spread())?;
        }
        Ok(())
    };
    cx.shared.core.work(Some(cx.client.peer), cx.body.len(), take).await?;
    Context::not_dry(request)?;
    let puts = intake.puts();
    let hashes: Vec<u128> = puts.iter().map(|put| put.hash).collect();
    let outcomes = cx.shared.core.put(&stream.topic, puts).await.map_err(|error| stream.fault(&error))?;
    let shards = stream.topic.shards();
    let failed = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    cx.operation.records(Fate::Stored, outcomes.len() - failed);
    for outcome in outcomes.iter().filter(|outcome| outcome.is_err()) {
        cx.operation.records(fate_of(outcome), 1);
    }
    // The id of a shard is written once per run of records.
    let mut name = (u32::MAX, String::new());
    Ok(cx.say(|w| {
        w.reserve(outcomes.len() * ANSWER_BYTES);
        w.integer("FailedRecordCount", i64::try_from(failed).unwrap_or(i64::MAX));
        w.text("EncryptionType", stream.traits.encryption_type());
        w.list("Records", |w| {
            for (outcome, hash) in outcomes.iter().zip(hashes) {
                w.item(|w| match outcome {
                    Ok(stored) => {
                        if name.0 != stored.shard {
                            name = (stored.shard, shard_id(stored.shard));
                        }
                        if let Some(shard) = shards.by_id(stored.shard) {
                            let number = sequence_of(stream.mark, shard, stored.offset, stored.time_ms);
                            w.text("SequenceNumber", number.digits().as_str());
                        }
                        w.text("ShardId", &name.1);
                    }
                    Err(error) => {
                        let fault = stream.fault_in(error, shards.holding(hash).id);
                        // The model knows two.
                        let kind = match fault.kind {
                            Kind::ThroughputExceeded => fault.kind.name(),
                            _ => "InternalFailure",
                        };
                        w.text("ErrorCode", kind);
                        w.text("ErrorMessage", &fault.message);
                    }
                });
            }
        });
    }))
}
