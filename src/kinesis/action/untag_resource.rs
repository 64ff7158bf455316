//! UntagResource: takes tags away from a stream or a consumer.

use super::{Answer, Context, Fault, Field, Item};
use super::{
    remove_tags_from_stream::KEY,
    tag_resource::{RESOURCE_ARN, check_key, tags_in},
};
use crate::kinesis::stream::STREAM_ID;

pub(super) const FIELDS: &[Field] =
    &[RESOURCE_ARN, STREAM_ID, Field::list("TagKeys", &KEY).required().between(1, 50)];

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let arn = request.text("ResourceARN").unwrap_or_default();
    let (stream, consumer) = cx.shared.streams.by_resource(arn, cx.region)?;
    stream.settled(cx.now_ms)?;
    request.texts("TagKeys").try_for_each(check_key)?;
    cx.shared
        .streams
        .change(&stream, |traits| {
            let tags = tags_in(traits, consumer.as_ref())?;
            request.texts("TagKeys").for_each(|key| drop(tags.remove(key)));
            Ok(())
        })
        .await?;
    Ok(Context::done())
}
