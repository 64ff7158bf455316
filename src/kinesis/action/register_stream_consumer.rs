//! RegisterStreamConsumer: a consumer with a read limit of its own, at most 20 per stream. Says CREATING, as
//! the service does; it is ACTIVE for whoever asks next.

use super::{Answer, Context, Fault, Field, Item, tag_resource};
use crate::kinesis::shape::Pattern;
use crate::kinesis::stream::{Consumer, STREAM_ID, Stream};
use crate::kinesis::writer::Writer;

/// Consumers of one stream.
const CONSUMERS_MAX: usize = 20;

pub(super) const CONSUMER_NAME: Field = Field::text("ConsumerName").between(1, 128).pattern(Pattern::Name);
pub(super) const FIELDS: &[Field] = &[
    Field::text("StreamARN").required().between(1, 2048).pattern(Pattern::StreamArn),
    CONSUMER_NAME.required(),
    STREAM_ID,
    Field::tags("Tags").between(1, 200),
];

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let stream = cx.settled_stream(request)?;
    let name = request.text("ConsumerName").unwrap_or_default();
    let mut tags = std::collections::BTreeMap::new();
    tag_resource::add(&mut tags, tag_resource::tags_of(request)?)?;
    let created_s = cx.now_ms.div_euclid(1000);
    let consumer = Consumer { name: name.to_owned(), created_s, tags, policy: None };
    cx.shared
        .streams
        .change(&stream, |traits| {
            if traits.consumer(name).is_some() {
                return Err(Fault::in_use(format!(
                    "Consumer {name} under stream {} already exists.",
                    stream.arn
                )));
            }
            if traits.consumers.len() >= CONSUMERS_MAX {
                let why = "You have reached the maximum number of registered consumers for this stream.";
                return Err(Fault::limit(why));
            }
            traits.consumers.push(consumer.clone());
            Ok(())
        })
        .await?;
    Ok(cx.say(|w| w.map("Consumer", |w| put_consumer(w, &stream, &consumer, "CREATING"))))
}

pub(super) fn put_consumer(w: &mut Writer, stream: &Stream, consumer: &Consumer, status: &str) {
    w.text("ConsumerName", &consumer.name);
    w.text("ConsumerARN", &stream.consumer_arn(consumer));
    w.text("ConsumerStatus", status);
    w.time_ms("ConsumerCreationTimestamp", consumer.created_s.saturating_mul(1000));
}
