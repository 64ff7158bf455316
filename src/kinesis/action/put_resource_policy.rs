//! PutResourcePolicy: keeps a policy with a stream or a consumer. It is told again and not enforced: who
//! knows a key may do everything.

use super::{Answer, Context, Fault, Field, Item, tag_resource::RESOURCE_ARN};
use crate::kinesis::stream::{Consumer, STREAM_ID, Traits, is_json_map};

/// Longest policy, as the service has it.
const POLICY_BYTES_MAX: usize = 20 * 1024;

pub(super) const FIELDS: &[Field] = &[RESOURCE_ARN, STREAM_ID, Field::text("Policy").required()];

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let arn = request.text("ResourceARN").unwrap_or_default();
    let (stream, consumer) = cx.shared.streams.by_resource(arn, cx.region)?;
    let policy = request.text("Policy").unwrap_or_default();
    if policy.len() > POLICY_BYTES_MAX {
        return Err(Fault::limit(format!("A policy has at most {POLICY_BYTES_MAX} bytes.")));
    }
    if !is_json_map(policy) {
        return Err(Fault::invalid("Policy must be valid JSON."));
    }
    cx.shared
        .streams
        .change(&stream, |traits| {
            *policy_in(traits, consumer.as_ref())? = Some(policy.to_owned());
            Ok(())
        })
        .await?;
    Ok(Context::done())
}

/// The policy of a stream, or of one of its consumers.
pub(super) fn policy_in<'t>(
    traits: &'t mut Traits,
    consumer: Option<&Consumer>,
) -> Result<&'t mut Option<String>, Fault> {
    let Some(consumer) = consumer else { return Ok(&mut traits.policy) };
    Ok(&mut traits.kept_of(consumer)?.policy)
}
