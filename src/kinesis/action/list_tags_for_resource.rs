//! ListTagsForResource: all tags of a stream or a consumer, by key.

use super::{Answer, Context, Fault, Field, Item, tag_resource::RESOURCE_ARN};
use crate::kinesis::stream::STREAM_ID;

pub(super) const FIELDS: &[Field] = &[RESOURCE_ARN, STREAM_ID];

pub(super) fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let arn = request.text("ResourceARN").unwrap_or_default();
    let (stream, consumer) = cx.shared.streams.by_resource(arn, cx.region)?;
    let tags = consumer.as_ref().map_or(&stream.traits.tags, |consumer| &consumer.tags);
    Ok(cx.say(|w| {
        w.list("Tags", |w| {
            for (key, value) in tags {
                w.item(|w| {
                    w.text("Key", key);
                    w.text("Value", value);
                });
            }
        });
    }))
}
