//! DeleteStream: the topic goes at once, with its records and consumers. A stream with consumers goes only
//! when EnforceConsumerDeletion says so.

use super::{Answer, Context, Fault, Field, Item};
use crate::kinesis::stream::{STREAM_ARN, STREAM_ID, STREAM_NAME};

pub(super) const FIELDS: &[Field] =
    &[STREAM_NAME, STREAM_ARN, STREAM_ID, Field::bool("EnforceConsumerDeletion")];

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let stream = cx.stream(request)?;
    if !stream.traits.consumers.is_empty() && !request.bool("EnforceConsumerDeletion") {
        return Err(Fault::in_use(format!(
            "Stream {} under account {} can not be deleted because it has registered consumers. Deregister them, or set \
             EnforceConsumerDeletion.",
            stream.name(),
            stream.account
        )));
    }
    if !cx.shared.core.topic_settings().delete_allowed {
        return Err(Fault::invalid("delete.topic.enable is false"));
    }
    let id = stream.topic.id();
    let deleted = cx.shared.core.blocking(move |core| core.delete_topic(id));
    deleted.await.map_err(|error| stream.fault(&error))?;
    Ok(Context::done())
}
