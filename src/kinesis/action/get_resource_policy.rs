//! GetResourcePolicy: the policy of a stream or a consumer; empty without one.
//!
//! Deviation: the service answers `{}` without a policy (localstack recorded it, and moto answers so); the conformance suite of
//! ferrokinesis, to which this door is held whole, wants an empty text in the same place through the same SDK.

use super::{Answer, Context, Fault, Field, Item, tag_resource::RESOURCE_ARN};
use crate::kinesis::stream::STREAM_ID;

/// A policy with everything in it escaped.
pub(super) const ROOM: usize = 128 * 1024;
pub(super) const FIELDS: &[Field] = &[RESOURCE_ARN, STREAM_ID];

pub(super) fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let arn = request.text("ResourceARN").unwrap_or_default();
    let (stream, consumer) = cx.shared.streams.by_resource(arn, cx.region)?;
    let policy = consumer.as_ref().map_or(&stream.traits.policy, |consumer| &consumer.policy);
    Ok(cx.say(|w| w.text("Policy", policy.as_deref().unwrap_or_default())))
}
