//! ListShards: shards by id, through a filter, paged by tokens of 300 seconds.
//!
//! A closed shard leaves the list when retention has emptied it. The filters count from when a shard's parents
//! closed to when it closed itself; a time before the horizon counts as the horizon.

use super::{Answer, Context, Fault, Field, Item, put_shard};
use crate::kinesis::shape::Pattern;
use crate::kinesis::stream::{STREAM_ARN, STREAM_ID, STREAM_NAME, Stream};
use crate::kinesis::token::Use;
use crate::topic::{Shard, Shards};

/// Most shards of one answer, whatever MaxResults says.
const PAGE: i64 = 1000;
pub(super) const ROOM: usize = 512 * 1024;
const SHARD_ID: Field = Field::text("ShardId").between(1, 128).pattern(Pattern::Name);
const FILTERS: &[&str] = &[
    "AFTER_SHARD_ID",
    "AT_TRIM_HORIZON",
    "FROM_TRIM_HORIZON",
    "AT_LATEST",
    "AT_TIMESTAMP",
    "FROM_TIMESTAMP",
];
const FILTER: &[Field] =
    &[Field::text("Type").required().one_of(FILTERS), SHARD_ID, Field::time("Timestamp")];

pub(super) const FIELDS: &[Field] = &[
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
    Field::text("NextToken").between(1, 1_048_576),
    Field::text("ExclusiveStartShardId").between(1, 128).pattern(Pattern::Name),
    Field::integer("MaxResults").between(1, 10_000),
    Field::time("StreamCreationTimestamp"),
    Field::structure("ShardFilter", FILTER),
];

/// Which shards are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    All,
    After(u32),
    OpenAt(i64),
    OpenSince(i64),
    Open,
}

pub(super) fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let (stream, filter, after) = match request.text("NextToken") {
        Some(token) => {
            for other in
                ["StreamName", "StreamARN", "StreamCreationTimestamp", "ExclusiveStartShardId", "ShardFilter"]
            {
                if request.field(other).is_some() {
                    return Err(Fault::invalid(format!(
                        "NextToken and {other} cannot be provided together."
                    )));
                }
            }
            continued(cx, token)?
        }
        None => {
            let stream = cx.stream_created(request)?;
            let filter =
                request.field("ShardFilter").map_or(Ok(Filter::All), |filter| read(cx, &stream, filter))?;
            let after = request.text("ExclusiveStartShardId");
            let after = after.map(|name| stream.past_or_present(name)).transpose()?;
            (stream, filter, after)
        }
    };
    stream.settled(cx.now_ms)?;
    cx.admit(stream.topic.id(), "")?;
    let limit = usize::try_from(request.integer("MaxResults").unwrap_or(PAGE).min(PAGE)).unwrap_or(1);
    let lineage = stream.topic.shards();
    let listed = stream.shards(&cx.shared.core);
    let mut found = listed
        .iter()
        .filter(|shard| after.is_none_or(|after| shard.id > after))
        .filter(|shard| filter.admits(shard, &lineage));
    Ok(cx.say(|w| {
        let mut last = None;
        w.list("Shards", |w| {
            for shard in found.by_ref().take(limit) {
                last = Some(shard.id);
                w.item(|w| put_shard(w, stream.mark, shard));
            }
        });
        if let Some(last) = last.filter(|_| found.next().is_some()) {
            let says = [&stream.topic.id().as_bytes()[..], &last.to_be_bytes(), &filter.encode()].concat();
            w.text("NextToken", &cx.shared.tokens.issue(Use::Shards, cx.now_ms, &says));
        }
    }))
}

fn read(cx: &Context<'_>, stream: &Stream, filter: Item<'_>) -> Result<Filter, Fault> {
    let horizon = horizon_ms(cx, stream);
    let time = || {
        let ms = filter.time_ms("Timestamp");
        ms.map(|ms| ms.max(horizon))
            .ok_or_else(|| Fault::invalid("Timestamp must be provided for this ShardFilter type."))
    };
    match filter.text("Type").unwrap_or_default() {
        "AFTER_SHARD_ID" => {
            let id = filter.text("ShardId").ok_or_else(|| {
                Fault::invalid("ShardId must be provided for ShardFilter type AFTER_SHARD_ID.")
            })?;
            stream.past_or_present(id).map(Filter::After)
        }
        "AT_TRIM_HORIZON" => Ok(Filter::OpenAt(horizon)),
        "FROM_TRIM_HORIZON" => Ok(Filter::All),
        "AT_LATEST" => Ok(Filter::Open),
        "AT_TIMESTAMP" => time().map(Filter::OpenAt),
        _ => time().map(Filter::OpenSince),
    }
}

/// The time of the oldest record that may be there.
fn horizon_ms(cx: &Context<'_>, stream: &Stream) -> i64 {
    cx.shared.core.horizon_ms(&stream.topic).max(stream.topic.created_ms())
}

fn continued(cx: &Context<'_>, token: &str) -> Result<(Stream, Filter, Option<u32>), Fault> {
    let says = cx.shared.page(Use::Shards, cx.now_ms, token)?;
    let read = || {
        let (topic, rest) = says.split_first_chunk()?;
        let (last, rest) = rest.split_first_chunk()?;
        Some((uuid::Uuid::from_bytes(*topic), u32::from_be_bytes(*last), Filter::decode(rest)?))
    };
    let (topic, last, filter) = read().ok_or_else(|| Fault::invalid("Invalid NextToken."))?;
    let topic = cx.shared.core.topics().by_id(topic);
    let topic = topic.ok_or_else(|| Fault::not_found("The stream of this NextToken is no more."))?;
    Ok((cx.shared.streams.of(topic, cx.region)?, filter, Some(last)))
}

impl Filter {
    fn admits(self, shard: &Shard, lineage: &Shards) -> bool {
        let opened = || {
            let parents = shard.parents.iter().flatten().filter_map(|id| lineage.by_id(*id)?.closed_ms);
            parents.max().unwrap_or(i64::MIN)
        };
        // A moment at which a shard closes belongs to its children.
        let open_after = |ms: i64| shard.closed_ms.is_none_or(|closed| closed > ms);
        match self {
            Self::All => true,
            Self::After(id) => shard.id > id,
            Self::Open => shard.closed_ms.is_none(),
            Self::OpenAt(ms) => opened() <= ms && open_after(ms),
            Self::OpenSince(ms) => open_after(ms),
        }
    }

    fn encode(self) -> [u8; 9] {
        let (kind, value) = match self {
            Self::All => (0, 0),
            Self::After(id) => (1, i64::from(id)),
            Self::OpenAt(ms) => (2, ms),
            Self::OpenSince(ms) => (3, ms),
            Self::Open => (4, 0),
        };
        let mut out = [kind; 9];
        if let Some((_, rest)) = out.split_first_chunk_mut::<1>() {
            rest.copy_from_slice(&value.to_be_bytes());
        }
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, value) = bytes.split_first()?;
        let value = i64::from_be_bytes(value.try_into().ok()?);
        match kind {
            0 => Some(Self::All),
            1 => u32::try_from(value).ok().map(Self::After),
            2 => Some(Self::OpenAt(value)),
            3 => Some(Self::OpenSince(value)),
            4 => Some(Self::Open),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_reads_back() {
        for filter in
            [Filter::All, Filter::After(7), Filter::OpenAt(i64::MIN), Filter::OpenSince(5), Filter::Open]
        {
            assert_eq!(Filter::decode(&filter.encode()), Some(filter));
        }
        assert_eq!(Filter::decode(&[9; 9]), None);
        assert_eq!(Filter::decode(&[]), None);
    }
}
