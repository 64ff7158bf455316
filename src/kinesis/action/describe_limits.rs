//! DescribeLimits: open shards and on-demand streams, with what is allowed (`kinesis.shard.limit`).

use super::{Answer, Context, Fault, Field, Item};
use crate::topic::config::ShardMode;

/// What the service allows; not enforced here.
const ON_DEMAND_STREAMS: i64 = 50;

pub(super) const FIELDS: &[Field] = &[];

pub(super) fn answer(cx: &Context<'_>, _request: Item<'_>) -> Result<Answer, Fault> {
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let all = cx.shared.streams.all();
    let on_demand = all.iter().filter(|topic| topic.config().shard_mode == ShardMode::OnDemand).count();
    Ok(cx.say(|w| {
        w.integer("ShardLimit", count(cx.shared.settings.max_shards));
        w.integer("OpenShardCount", count(cx.shared.open_shards()));
        w.integer("OnDemandStreamCount", count(on_demand));
        w.integer("OnDemandStreamCountLimit", ON_DEMAND_STREAMS);
        w.integer("ChannelCount", 0);
        w.integer("ChannelCountLimit", 0);
    }))
}
