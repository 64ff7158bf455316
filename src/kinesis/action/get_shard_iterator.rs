//! GetShardIterator: a place in a shard, as a signed token that lives 300 seconds; nothing is kept for it.
//!
//! LATEST is fixed when the iterator is issued. A time before the oldest record is the oldest record; one ahead of
//! the clock is refused. A number of another shard or stream is refused, and so is one that the shard has not come to. A
//! closed shard that retention has emptied is not there any more.

use std::sync::Arc;

use super::{Answer, Context, Fault, Field, Item};
use crate::kinesis::sequence::Sequence;
use crate::kinesis::shape::Pattern;
use crate::kinesis::stream::{STREAM_ARN, STREAM_ID, STREAM_NAME, Stream, parse_shard_id, shard_id};
use crate::kinesis::token;
use crate::topic::{Error, Limit, Shard};

pub(super) const TYPES: &[&str] =
    &["AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER", "TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"];
pub(super) const FIELDS: &[Field] = &[
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
    Field::text("ShardId").required().between(1, 128).pattern(Pattern::Name),
    Field::text("ShardIteratorType").required().one_of(TYPES),
    Field::text("StartingSequenceNumber"),
    Field::time("Timestamp"),
    Field::bool("DryRun"),
];

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let stream = cx.serving_stream(request)?;
    let shard = find_shard(cx, &stream, request.text("ShardId").unwrap_or_default())?;
    // The service answers with the refusal of reads, in its words.
    let often = |_| stream.fault_in(&Error::Throttled { limit: Limit::ReadCalls, wait_ms: 0 }, shard.id);
    cx.admit(stream.topic.id(), &shard_id(shard.id)).map_err(often)?;
    let start = Start {
        kind: request.text("ShardIteratorType").unwrap_or_default(),
        number: request.text("StartingSequenceNumber"),
        time_ms: request.time_ms("Timestamp"),
    };
    let offset = start.offset(cx, &stream, &shard).await?;
    Context::not_dry(request)?;
    let place = token::Iterator { topic: stream.topic.id(), shard: shard.id, offset };
    Ok(cx.say(|w| w.text("ShardIterator", &cx.shared.tokens.iterator(cx.now_ms, place))))
}

/// A shard, open or closed, by its name.
pub(super) fn find_shard(cx: &Context<'_>, stream: &Stream, name: &str) -> Result<Shard, Fault> {
    stream.shard(name, &cx.shared.core).ok_or_else(|| {
        let name = parse_shard_id(name).map_or_else(|| name.to_owned(), shard_id);
        Fault::not_found(format!(
            "Shard {name} in stream {} under account {} does not exist",
            stream.name(),
            stream.account
        ))
    })
}

/// Where a reader wants to start.
pub(super) struct Start<'a> {
    pub(super) kind: &'a str,
    pub(super) number: Option<&'a str>,
    pub(super) time_ms: Option<i64>,
}

impl Start<'_> {
    /// The offset of that place.
    pub(super) async fn offset(
        &self,
        cx: &Context<'_>,
        stream: &Stream,
        shard: &Shard,
    ) -> Result<i64, Fault> {
        let fail = |error: crate::topic::Error| stream.fault_in(&error, shard.id);
        let until = shard.until.unwrap_or(i64::MAX);
        if self.number.is_some() && !self.kind.ends_with("SEQUENCE_NUMBER") {
            return Err(Fault::invalid(format!(
                "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) \
                 TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified {} and also a \
                 StartingSequenceNumber.",
                self.kind
            )));
        }
        match self.kind {
            "AT_SEQUENCE_NUMBER" | "AFTER_SEQUENCE_NUMBER" => {
                let (text, number) = self.number(stream, shard)?;
                let after = i64::from(number.after || self.kind == "AFTER_SEQUENCE_NUMBER");
                // The end of a closed shard is after its last record.
                if number.is_end() && shard.until.is_some() {
                    return Ok(until);
                }
                let partition = cx.open(stream, shard).await?;
                let end = partition.high_watermark().map_err(fail)?.value();
                if number.offset >= end {
                    return Err(invalid_number(text, stream, shard, ""));
                }
                Ok((number.offset + after).clamp(shard.from, until))
            }
            "AT_TIMESTAMP" => {
                let ms = self.time_ms.ok_or_else(|| {
                    Fault::invalid("Must either specify timestamp or iteratorType other than AT_TIMESTAMP.")
                })?;
                if ms > cx.now_ms {
                    return Err(Fault::invalid(format!(
                        "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. \
                         timestampInMillis: {ms}, currentTimestampInMillis: {}",
                        cx.now_ms
                    )));
                }
                let partition = cx.open(stream, shard).await?;
                let ms = ms.max(cx.shared.core.horizon_ms(&stream.topic));
                let sought = Arc::clone(&partition);
                let found = cx.shared.core.in_line(move |core| {
                    sought.offset_for_time(ms, core.topic_settings().max_decompressed_bytes)
                });
                let found = found.await.map_err(fail)?;
                let end = partition.high_watermark().map_err(fail)?.value();
                Ok(found.map_or(end, |(offset, _)| offset).clamp(shard.from, until))
            }
            "LATEST" => {
                let partition = cx.open(stream, shard).await?;
                Ok(partition.high_watermark().map_err(fail)?.value().clamp(shard.from, until))
            }
            _ => Ok(shard.from),
        }
    }

    /// A sequence number of this very shard.
    fn number(&self, stream: &Stream, shard: &Shard) -> Result<(&str, Sequence), Fault> {
        let text = self.number.ok_or_else(|| {
            Fault::invalid(format!(
                "Must either specify (1) {} and StartingSequenceNumber or (2) TRIM_HORIZON or (3) LATEST or (4) AT_TIMESTAMP and \
                 Timestamp for Shard {} in Stream {} under Account {}.",
                self.kind,
                shard_id(shard.id),
                stream.name(),
                stream.account
            ))
        })?;
        let number = Sequence::parse(text).ok_or_else(|| invalid_number(text, stream, shard, ""))?;
        if number.shard != shard.id {
            return Err(Fault::invalid(format!(
                "Invalid StartingSequenceNumber. It encodes {}, while it was used in a call to a shard with {}",
                shard_id(number.shard),
                shard_id(shard.id)
            )));
        }
        if number.created_s != shard.created_s || ![0, stream.mark].contains(&number.mark) {
            return Err(invalid_number(text, stream, shard, " because it did not come from this stream"));
        }
        Ok((text, number))
    }
}

fn invalid_number(text: &str, stream: &Stream, shard: &Shard, why: &str) -> Fault {
    Fault::invalid(format!(
        "StartingSequenceNumber {} used in GetShardIterator on shard {} in stream {} under account {} is invalid{why}.",
        text.get(..text.floor_char_boundary(129)).unwrap_or_default(),
        shard_id(shard.id),
        stream.name(),
        stream.account
    ))
}
