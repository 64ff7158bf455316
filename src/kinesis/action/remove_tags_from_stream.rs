//! RemoveTagsFromStream: takes tags away; those that are not there do not matter.

use super::{Answer, Context, Fault, Field, Item};
use crate::kinesis::shape::Rule;
use crate::kinesis::stream::{STREAM_ARN, STREAM_ID, STREAM_NAME};

pub(super) const KEY: Rule = Rule::text().between(1, 128);
pub(super) const FIELDS: &[Field] =
    &[STREAM_NAME, STREAM_ARN, STREAM_ID, Field::list("TagKeys", &KEY).required().between(1, 50)];

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let stream = cx.settled_stream(request)?;
    request.texts("TagKeys").try_for_each(super::tag_resource::check_key)?;
    cx.shared
        .streams
        .change(&stream, |traits| {
            request.texts("TagKeys").for_each(|key| drop(traits.tags.remove(key)));
            Ok(())
        })
        .await?;
    Ok(Context::done())
}
