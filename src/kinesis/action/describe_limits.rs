//! DescribeLimits: open shards and on-demand streams, with what is allowed (`kinesis.shard.limit`).

use super::{Answer, Context, Fault, Field, Item};
use crate::topic::config::ShardMode;

/// What the service allows; held with its rates.
const ON_DEMAND_STREAMS: usize = 50;

pub(super) const FIELDS: &[Field] = &[];

pub(super) fn answer(cx: &Context<'_>, _request: Item<'_>) -> Result<Answer, Fault> {
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    Ok(cx.say(|w| {
        w.integer("ShardLimit", count(cx.shared.settings.max_shards));
        w.integer("OpenShardCount", count(cx.shared.open_shards()));
        w.integer("OnDemandStreamCount", count(on_demand_streams(cx)));
        w.integer("OnDemandStreamCountLimit", count(ON_DEMAND_STREAMS));
        w.integer("ChannelCount", 0);
        w.integer("ChannelCountLimit", 0);
    }))
}

fn on_demand_streams(cx: &Context<'_>) -> usize {
    let all = cx.shared.streams.all();
    all.iter().filter(|topic| topic.config().shard_mode == ShardMode::OnDemand).count()
}

/// Refuses another on-demand stream where there are as many as the service allows.
pub(super) fn check_on_demand(cx: &Context<'_>) -> Result<(), Fault> {
    if on_demand_streams(cx) < ON_DEMAND_STREAMS {
        return Ok(());
    }
    Err(Fault::limit(format!(
        "This request would exceed the limit of {ON_DEMAND_STREAMS} on-demand streams for the account {}.",
        cx.shared.settings.account_id
    )))
}
