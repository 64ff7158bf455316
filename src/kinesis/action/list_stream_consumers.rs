//! ListStreamConsumers: consumers by the second of their registration and by name, paged by a token of the stream. A
//! consumer that has gone meanwhile does not lead back to the start.

use super::register_stream_consumer::put_consumer;
use super::{Answer, Context, Fault, Field, Item};
use crate::kinesis::shape::Pattern;
use crate::kinesis::stream::{Consumer, STREAM_ID, Stream};
use crate::kinesis::token::Use;

/// Consumers of an answer, also where MaxResults says more: as the service has it.
const PAGE: i64 = 100;
pub(super) const ROOM: usize = 64 * 1024;

pub(super) const FIELDS: &[Field] = &[
    Field::text("StreamARN").required().between(1, 2048).pattern(Pattern::StreamArn),
    Field::text("NextToken").between(1, 1_048_576),
    Field::integer("MaxResults").between(1, 10_000),
    Field::time("StreamCreationTimestamp"),
    STREAM_ID,
];

pub(super) fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    if request.field("NextToken").is_some() && request.field("StreamCreationTimestamp").is_some() {
        return Err(Fault::invalid("NextToken and StreamCreationTimestamp cannot be provided together."));
    }
    let stream = cx.stream_created(request)?;
    cx.admit(stream.topic.id(), "")?;
    let last = request.text("NextToken").map(|token| read(cx, &stream, token)).transpose()?;
    let mut consumers: Vec<&Consumer> = stream.traits.consumers.iter().collect();
    consumers.sort_by_key(|consumer| place(consumer));
    let limit = usize::try_from(request.integer("MaxResults").unwrap_or(PAGE).min(PAGE)).unwrap_or(1);
    let is_new = |consumer: &&Consumer| {
        last.as_ref().is_none_or(|(second, name)| place(consumer) > (*second, name.as_str()))
    };
    let mut rest = consumers.into_iter().filter(is_new);
    Ok(cx.say(|w| {
        let mut last = None;
        w.list("Consumers", |w| {
            for consumer in rest.by_ref().take(limit) {
                last = Some(consumer);
                w.item(|w| put_consumer(w, &stream, consumer, "ACTIVE"));
            }
        });
        if let Some(last) = last.filter(|_| rest.next().is_some()) {
            let says =
                [&stream.topic.id().as_bytes()[..], &last.created_s.to_be_bytes(), last.name.as_bytes()]
                    .concat();
            w.text("NextToken", &cx.shared.tokens.issue(Use::Consumers, cx.now_ms, &says));
        }
    }))
}

/// Where a consumer stands in the list.
fn place(consumer: &Consumer) -> (i64, &str) {
    (consumer.created_s, &consumer.name)
}

/// The place of the last consumer of a page.
fn read(cx: &Context<'_>, stream: &Stream, token: &str) -> Result<(i64, String), Fault> {
    let says = cx.shared.page(Use::Consumers, cx.now_ms, token)?;
    let read = || {
        let (topic, rest) = says.split_first_chunk()?;
        let (second, name) = rest.split_first_chunk()?;
        let is_its_own = uuid::Uuid::from_bytes(*topic) == stream.topic.id();
        is_its_own.then(|| (i64::from_be_bytes(*second), String::from_utf8_lossy(name).into_owned()))
    };
    read().ok_or_else(|| Fault::invalid("Invalid NextToken."))
}
