//! ListTagsForStream: tags by key, paged by the last key seen.

use super::{Answer, Context, Fault, Field, Item};
use crate::kinesis::stream::{STREAM_ARN, STREAM_ID, STREAM_NAME};

const PAGE: i64 = 50;

pub(super) const FIELDS: &[Field] = &[
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
    Field::text("ExclusiveStartTagKey").between(1, 128),
    Field::integer("Limit").between(1, PAGE),
];

pub(super) fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let stream = cx.stream(request)?;
    let after = request.text("ExclusiveStartTagKey");
    let limit = usize::try_from(request.integer("Limit").unwrap_or(PAGE)).unwrap_or(1);
    let mut tags =
        stream.traits.tags.iter().filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
    Ok(cx.say(|w| {
        w.list("Tags", |w| {
            for (key, value) in tags.by_ref().take(limit) {
                w.item(|w| {
                    w.text("Key", key);
                    w.text("Value", value);
                });
            }
        });
        w.boolean("HasMoreTags", tags.next().is_some());
    }))
}
