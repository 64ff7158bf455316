//! ListStreamConsumers: consumers in the order of their registration, paged by a token.

use super::register_stream_consumer::put_consumer;
use super::{Answer, Context, Fault, Field, Item};
use crate::kinesis::shape::Pattern;
use crate::kinesis::stream::STREAM_ID;
use crate::kinesis::token::Use;

const PAGE: i64 = 100;

pub(super) const FIELDS: &[Field] = &[
    Field::text("StreamARN").required().between(1, 2048).pattern(Pattern::StreamArn),
    Field::text("NextToken").between(1, 1_048_576),
    Field::integer("MaxResults").between(1, 10_000),
    Field::time("StreamCreationTimestamp"),
    STREAM_ID,
];

pub(super) fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let stream = cx.stream(request)?;
    cx.admit(stream.topic.id(), "")?;
    let last = request
        .text("NextToken")
        .map(|token| cx.shared.page(Use::Consumers, cx.now_ms, token))
        .transpose()?;
    let consumers = &stream.traits.consumers;
    let seen =
        |last: &Vec<u8>| consumers.iter().position(|c| c.name.as_bytes() == last).map_or(0, |at| at + 1);
    let skipped = last.as_ref().map_or(0, seen);
    let limit = usize::try_from(request.integer("MaxResults").unwrap_or(PAGE)).unwrap_or(1);
    let mut rest = consumers.iter().skip(skipped);
    Ok(cx.say(|w| {
        let mut last = None;
        w.list("Consumers", |w| {
            for consumer in rest.by_ref().take(limit) {
                last = Some(consumer);
                w.item(|w| put_consumer(w, &stream, consumer, "ACTIVE"));
            }
        });
        if let Some(last) = last.filter(|_| rest.next().is_some()) {
            w.text("NextToken", &cx.shared.tokens.issue(Use::Consumers, cx.now_ms, last.name.as_bytes()));
        }
    }))
}
