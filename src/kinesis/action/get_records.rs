//! GetRecords: records from an iterator on, up to 10,000 and 10 MiB, and the iterator to go on with.
//!
//! Memory for the answer is held before the answer is made, and it is as large as there is memory for: a client goes on from
//! its iterator. One record that is larger than that waits for its place.
//! At the end of a closed shard the answer that holds its last record has ChildShards and no NextShardIterator: KCL
//! refuses every answer where one is there without the other. MillisBehindLatest is 0 only at the tip.
//! Over the shard's read limits (bytes, calls) it is refused at once.

use super::{Answer, Context, Fault, Field, Item, child_shards};
use crate::broker::{Fate, GotRecord, Most, ReadCharge};
use crate::kinesis::date::Date;
use crate::kinesis::error::Kind;
use crate::kinesis::exchange::hold;
use crate::kinesis::records::{put_record, weight};
use crate::kinesis::stream::{STREAM_ARN, STREAM_ID, Stream};
use crate::kinesis::token::{self, AGE_MAX_MS, Refused};
use crate::kinesis::writer::Writer;
use crate::topic::Error;

const RECORDS_MAX: i64 = 10_000;
const BYTES_MAX: usize = 10 << 20;
/// What stands around the records.
const FRAME_BYTES: usize = 2 * 1024;
/// With less than this nothing is read.
const LEAST_BYTES: usize = 4 * 1024;
/// The most that an answer can want: all data in base64, and what stands around that of as many records as there may be.
const WANT_BYTES: usize = BYTES_MAX / 3 * 4 + 2_500_000;

pub(super) const FIELDS: &[Field] = &[
    Field::text("ShardIterator").required().between(1, 512),
    Field::integer("Limit").between(1, RECORDS_MAX),
    STREAM_ARN,
    STREAM_ID,
    Field::bool("DryRun"),
];

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let text = request.text("ShardIterator").unwrap_or_default();
    let place = cx.shared.tokens.read_iterator(cx.now_ms, text).map_err(|refused| match refused {
        Refused::Forged => Fault::invalid("Invalid ShardIterator."),
        Refused::Aged(issued_ms) => Fault::new(
            Kind::ExpiredIterator,
            format!(
                "Iterator expired. The iterator was created at time {} while right now it is {} which is further in the \
                 future than the tolerated delay of {AGE_MAX_MS} milliseconds.",
                Date::of(issued_ms),
                Date::of(cx.now_ms)
            ),
        ),
    })?;
    let unknown = || Fault::not_found("The stream of this ShardIterator is no more.");
    let topic = cx.shared.core.topics().by_id(place.topic).ok_or_else(unknown)?;
    let stream = cx.shared.streams.of(topic, cx.region)?;
    check_arn(cx, request, &stream)?;
    let gone = || stream.fault(&Error::UnknownShard(place.shard));
    let shard = &stream.shard_by_id(place.shard, &cx.shared.core).ok_or_else(gone)?;
    Context::not_dry(request)?;
    cx.open(&stream, shard).await?;
    let limit = usize::try_from(request.integer("Limit").unwrap_or(RECORDS_MAX)).unwrap_or(1);
    let weigh = |record: &GotRecord| weight(cx.form, record);
    let mut lease = cx.client.answers.lease();
    let mut least = LEAST_BYTES;
    let got = loop {
        let room = hold(&mut lease, least, WANT_BYTES.max(least)).await? - FRAME_BYTES;
        let most = Most {
            records: limit,
            bytes: BYTES_MAX,
            weight: room,
            asker: Some(cx.client.peer),
            weigh: &weigh,
        };
        let got = cx.shared.core.get(&stream.topic, shard, place.offset, &most, ReadCharge::Shared);
        let got = got.await.map_err(|error| stream.fault_in(&error, shard.id))?;
        match got.heavy {
            // What was read is let go of while this waits.
            Some(weight) => least = weight + FRAME_BYTES,
            None => break got,
        }
        lease.shrink(0);
    };
    cx.operation.records(Fate::Read, got.records.len());
    let weight = got.records.iter().map(weigh).sum::<usize>();
    lease.shrink(weight + FRAME_BYTES);
    let say = |w: &mut Writer| {
        w.list("Records", |w| {
            got.records
                .iter()
                .for_each(|record| w.item(|w| put_record(w, (stream.mark, shard), record, &stream.traits)));
        });
        if got.at_end {
            child_shards(w, &stream, shard);
        } else {
            let next = token::Iterator { offset: got.next_offset, ..place };
            w.text("NextShardIterator", &cx.shared.tokens.iterator(cx.now_ms, next));
        }
        w.integer("MillisBehindLatest", got.behind_ms);
    };
    let bytes = cx.shared.core.work(Some(cx.client.peer), weight, || Writer::pieces(cx.form, say)).await;
    Ok(Answer::Held(bytes, lease))
}

/// The stream that the request names beside its iterator must be the iterator's.
fn check_arn(cx: &Context<'_>, request: Item<'_>, stream: &Stream) -> Result<(), Fault> {
    match request.text("StreamARN") {
        Some(arn) if cx.shared.streams.by_arn(arn, cx.region)?.topic.id() != stream.topic.id() => {
            Err(Fault::invalid("Invalid ShardIterator."))
        }
        _ => Ok(()),
    }
}
