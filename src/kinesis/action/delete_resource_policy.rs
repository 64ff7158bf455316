//! DeleteResourcePolicy: forgets the policy of a stream or a consumer, which must have one.

use super::{
    Answer, Context, Fault, Field, Item, put_resource_policy::policy_in, tag_resource::RESOURCE_ARN,
};
use crate::kinesis::stream::STREAM_ID;

pub(super) const FIELDS: &[Field] = &[RESOURCE_ARN, STREAM_ID];

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let arn = request.text("ResourceARN").unwrap_or_default();
    let (stream, consumer) = cx.shared.streams.by_resource(arn, cx.region)?;
    cx.shared
        .streams
        .change(&stream, |traits| {
            let unknown = || Fault::not_found(format!("No resource policy found for resource ARN {arn}."));
            policy_in(traits, consumer.as_ref())?.take().map(drop).ok_or_else(unknown)
        })
        .await?;
    Ok(Context::done())
}
