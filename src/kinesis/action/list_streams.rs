//! ListStreams: names and summaries by name, paged by a token or by the last name seen.

use super::{Answer, Context, Fault, Field, Item};
use crate::kinesis::shape::Pattern;
use crate::kinesis::stream::Stream;
use crate::kinesis::token::Use;

/// Streams of an answer, also where Limit says more: as the service has it.
const PAGE: i64 = 100;
pub(super) const ROOM: usize = 96 * 1024;

pub(super) const FIELDS: &[Field] = &[
    Field::integer("Limit").between(1, 10_000),
    Field::text("ExclusiveStartStreamName").between(1, 128).pattern(Pattern::Name),
    Field::text("NextToken").between(1, 1_048_576),
];

pub(super) fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let page =
        request.text("NextToken").map(|token| cx.shared.page(Use::Streams, cx.now_ms, token)).transpose()?;
    let page = page.map(|says| String::from_utf8_lossy(&says).into_owned());
    let after = page.as_deref().or(request.text("ExclusiveStartStreamName"));
    let limit = usize::try_from(request.integer("Limit").unwrap_or(PAGE).min(PAGE)).unwrap_or(1);
    let all = cx.shared.streams.all();
    let mut rest = all.into_iter().filter(|topic| after.is_none_or(|after| topic.name().as_ref() > after));
    let streams: Vec<_> = rest
        .by_ref()
        .take(limit)
        .map(|topic| cx.shared.streams.of(topic, cx.region))
        .collect::<Result<_, _>>()?;
    let more = rest.next().is_some();
    Ok(cx.say(|w| {
        w.texts("StreamNames", streams.iter().map(Stream::name));
        w.boolean("HasMoreStreams", more);
        if let Some(last) = streams.last().filter(|_| more) {
            w.text("NextToken", &cx.shared.tokens.issue(Use::Streams, cx.now_ms, last.name().as_bytes()));
        }
        w.list("StreamSummaries", |w| {
            for stream in &streams {
                w.item(|w| {
                    w.text("StreamName", stream.name());
                    w.text("StreamARN", &stream.arn);
                    w.text("StreamStatus", stream.status(cx.now_ms));
                    w.map("StreamModeDetails", |w| w.text("StreamMode", stream.mode()));
                    w.time_ms("StreamCreationTimestamp", stream.topic.created_ms());
                });
            }
        });
    }))
}
