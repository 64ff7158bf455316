//! DescribeStreamConsumer: a consumer, by its ARN or by its name and its stream's ARN.

use super::register_stream_consumer::{CONSUMER_NAME, put_consumer};
use super::{Answer, Context, Fault, Field, Item};
use crate::kinesis::shape::Pattern;
use crate::kinesis::stream::{Consumer, STREAM_ARN, STREAM_ID, Stream};

pub(super) const CONSUMER_ARN: Field =
    Field::text("ConsumerARN").between(1, 2048).pattern(Pattern::ConsumerArn);
pub(super) const FIELDS: &[Field] = &[STREAM_ARN, CONSUMER_NAME, CONSUMER_ARN, STREAM_ID];

pub(super) fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let (stream, consumer) = find(cx, request)?;
    cx.admit(stream.topic.id(), "")?;
    Ok(cx.say(|w| {
        w.map("ConsumerDescription", |w| {
            put_consumer(w, &stream, &consumer, "ACTIVE");
            w.text("StreamARN", &stream.arn);
        });
    }))
}

/// The consumer that a request names.
pub(super) fn find(cx: &Context<'_>, request: Item<'_>) -> Result<(Stream, Consumer), Fault> {
    if let Some(arn) = request.text("ConsumerARN") {
        return cx.shared.streams.by_consumer_arn(arn, cx.region);
    }
    let (Some(_), Some(name)) = (request.text("StreamARN"), request.text("ConsumerName")) else {
        // Spelt as the service spells it.
        return Err(Fault::invalid(
            "Both streamARN and consumer name must be provided if consumerARN is not provied.",
        ));
    };
    let stream = cx.stream(request)?;
    let consumer = stream.traits.consumer(name).cloned();
    let unknown = || Fault::not_found(format!("Consumer {name}, account {} not found.", stream.account));
    Ok((stream.clone(), consumer.ok_or_else(unknown)?))
}
