//! AddTagsToStream: adds or replaces tags, at most 50 in all.

use super::{Answer, Context, Fault, Field, Item};
use crate::kinesis::stream::{STREAM_ARN, STREAM_ID, STREAM_NAME};

pub(super) const FIELDS: &[Field] =
    &[STREAM_NAME, STREAM_ARN, STREAM_ID, Field::tags("Tags").required().between(1, 200)];

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let stream = cx.settled_stream(request)?;
    let added = super::tag_resource::tags_of(request)?;
    cx.shared.streams.change(&stream, |traits| super::tag_resource::add(&mut traits.tags, added)).await?;
    Ok(Context::done())
}
