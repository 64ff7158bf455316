//! UpdateStreamMode: between provisioned and on-demand. Shards and records stay as they are.

use super::describe_limits::check_on_demand;
use super::{Answer, Context, Fault, Field, Item};
use crate::kinesis::shape::Pattern;
use crate::kinesis::stream::STREAM_ID;

const MODE: &[Field] = &[Field::text("StreamMode").required().one_of(&["PROVISIONED", "ON_DEMAND"])];

/// Calls for a stream in 24 hours.
const DAILY: u32 = 2;

/// The topic's key that says the same.
pub(super) const SHARD_MODE: &str = "shard.mode";

pub(super) const MODE_DETAILS: Field = Field::structure("StreamModeDetails", MODE);
pub(super) const FIELDS: &[Field] = &[
    Field::text("StreamARN").required().between(1, 2048).pattern(Pattern::StreamArn),
    STREAM_ID,
    MODE_DETAILS.required(),
    Field::integer("WarmThroughputMiBps").at_least(0),
];

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let stream = cx.settled_stream(request)?;
    cx.admit_daily(&stream, DAILY)?;
    let mode = request.field("StreamModeDetails").and_then(|details| details.text("StreamMode"));
    let on_demand = mode == Some("ON_DEMAND");
    if on_demand && !stream.on_demand() && cx.shared.settings.limits_control {
        check_on_demand(cx)?;
    }
    let warm = request.integer("WarmThroughputMiBps");
    cx.configure(&stream, [(SHARD_MODE, mode_value(on_demand).to_owned())]).await?;
    cx.shared
        .streams
        .change(&stream, |traits| {
            // Spreading without keys is for on-demand streams.
            traits.auto_distribution &= on_demand;
            traits.warm_mibps = warm.or(traits.warm_mibps).filter(|_| on_demand);
            Ok(())
        })
        .await?;
    Ok(Context::done())
}

/// A mode in the words of [`SHARD_MODE`].
pub(super) fn mode_value(on_demand: bool) -> &'static str {
    if on_demand { "on-demand" } else { "provisioned" }
}
