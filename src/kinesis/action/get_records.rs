//! GetRecords: records from an iterator on, up to 10,000 and 10 MiB, and the iterator to go on with.
//!
//! At the end of a closed shard the answer that holds its last record has ChildShards and no NextShardIterator: KCL
//! refuses every answer where one is there without the other. MillisBehindLatest is 0 only at the tip.
//! Over the shard's read limits (bytes, calls) it is refused at once.

use super::{Answer, Context, Fault, Field, Item, child_shards};
use crate::broker::{Fate, ReadCharge};
use crate::kinesis::error::Kind;
use crate::kinesis::records::put_record;
use crate::kinesis::stream::{STREAM_ARN, STREAM_ID};
use crate::kinesis::token::{self, AGE_MAX_MS, Refused};
use crate::topic::Error;

const RECORDS_MAX: i64 = 10_000;
const BYTES_MAX: usize = 10 << 20;

pub(super) const FIELDS: &[Field] = &[
    Field::text("ShardIterator").required().between(1, 512),
    Field::integer("Limit").between(1, RECORDS_MAX),
    STREAM_ARN,
    STREAM_ID,
    Field::bool("DryRun"),
];

pub(super) fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let text = request.text("ShardIterator").unwrap_or_default();
    let place = cx.shared.tokens.read_iterator(cx.now_ms, text).map_err(|refused| match refused {
        Refused::Forged => Fault::invalid("Invalid ShardIterator."),
        Refused::Aged(issued_ms) => Fault::new(
            Kind::ExpiredIterator,
            format!(
                "Iterator expired. The iterator was created at time {} ms while right now it is {} ms which is further in the \
                 future than the tolerated delay of {AGE_MAX_MS} milliseconds.",
                issued_ms, cx.now_ms
            ),
        ),
    })?;
    let unknown = || Fault::not_found("The stream of this ShardIterator is no more.");
    let topic = cx.shared.core.topics().by_id(place.topic).ok_or_else(unknown)?;
    let stream = cx.shared.streams.of(topic, cx.region)?;
    let shards = stream.topic.shards();
    let shard = shards.by_id(place.shard).ok_or_else(|| stream.fault(&Error::UnknownShard(place.shard)))?;
    Context::not_dry(request)?;
    let limit = usize::try_from(request.integer("Limit").unwrap_or(RECORDS_MAX)).unwrap_or(1);
    let got = cx.shared.core.get(&stream.topic, shard, place.offset, limit, BYTES_MAX, ReadCharge::Shared);
    let got = got.map_err(|error| stream.fault_in(&error, shard.id))?;
    cx.operation.records(Fate::Read, got.records.len());
    Ok(cx.say(|w| {
        w.list("Records", |w| {
            got.records.iter().for_each(|record| w.item(|w| put_record(w, shard, record, &stream.traits)));
        });
        if got.at_end {
            child_shards(w, &stream, shard);
        } else {
            let next = token::Iterator { offset: got.next_offset, ..place };
            w.text("NextShardIterator", &cx.shared.tokens.iterator(cx.now_ms, next));
        }
        w.integer("MillisBehindLatest", got.behind_ms);
    }))
}
