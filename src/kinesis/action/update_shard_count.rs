//! UpdateShardCount: straight to that many shards; done when it returns.
//!
//! Up to equal ranges; down by merging whole neighbours where that leaves no range over twice as wide as another, as the
//! service does: readers then drain two parents per child at most, and what is wide enough stays open.
//! At most double, at least half, as the service has it.
//! With the service's rates held, ten times in 24 hours for a stream.
//! Deviation: no chain of intermediate shards.

use super::{Answer, Context, Fault, Field, Item};
use crate::kinesis::stream::{STREAM_ARN, STREAM_ID, STREAM_NAME, Stream};

/// Calls for a stream in 24 hours.
const DAILY: u32 = 10;

pub(super) const FIELDS: &[Field] = &[
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
    Field::integer("TargetShardCount").required().at_least(1),
    Field::text("ScalingType").required().one_of(&["UNIFORM_SCALING"]),
];

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let stream = cx.settled_stream(request)?;
    check_provisioned(&stream)?;
    let target = request.integer("TargetShardCount").unwrap_or(1);
    let current = i64::try_from(stream.topic.shards().open_count()).unwrap_or(i64::MAX);
    let refuse = |what: &str| {
        Err(Fault::invalid(format!(
            "UpdateShardCount cannot scale {what} your current open shard count. Current open shard count: {current}, target \
             shard count: {target}"
        )))
    };
    if target > current.saturating_mul(2) {
        return refuse("up over double");
    }
    if target.saturating_mul(2) < current {
        return refuse("down below half");
    }
    check_limit(cx, target - current)?;
    cx.admit_daily(&stream, DAILY)?;
    let count = u32::try_from(target).unwrap_or(u32::MAX);
    let scaled = cx.shared.core.scale_shards(&stream.topic, count, false).await;
    scaled.map_err(|error| stream.fault(&error))?;
    Ok(cx.say(|w| {
        w.text("StreamName", stream.name());
        w.integer("CurrentShardCount", current);
        w.integer("TargetShardCount", target);
        w.text("StreamARN", &stream.arn);
    }))
}

/// Shards of an on-demand stream are the broker's affair.
pub(super) fn check_provisioned(stream: &Stream) -> Result<(), Fault> {
    if stream.on_demand() {
        return Err(Fault::validation(format!(
            "Request is invalid. Stream {} under account {} is in On-Demand mode.",
            stream.name(),
            stream.account
        )));
    }
    Ok(())
}

/// Refuses `added` shards more than the account may have.
pub(super) fn check_limit(cx: &Context<'_>, added: i64) -> Result<(), Fault> {
    let open = cx.shared.open_shards();
    let limit = cx.shared.settings.max_shards;
    if added > 0 && open.saturating_add(usize::try_from(added).unwrap_or(usize::MAX)) > limit {
        return Err(Fault::limit(format!(
            "This request would exceed the shard limit for the account {} in {}. Current shard count for the account: {open}. \
             Limit: {limit}. Number of additional shards that would have resulted from this request: {added}.",
            cx.shared.settings.account_id, cx.region
        )));
    }
    Ok(())
}
