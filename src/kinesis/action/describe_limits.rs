//! DescribeLimits: open shards and on-demand streams, with what is allowed (`kinesis.shard.limit`).

use super::{Answer, Context, Fault, Field, Item};

/// What the service allows; not enforced here.
const ON_DEMAND_STREAMS: i64 = 50;

pub(super) const FIELDS: &[Field] = &[];

pub(super) fn answer(cx: &Context<'_>, _request: Item<'_>) -> Result<Answer, Fault> {
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let mut on_demand = 0;
    for topic in cx.shared.streams.all() {
        on_demand += i64::from(cx.shared.streams.of(topic, cx.region)?.traits.on_demand);
    }
    Ok(cx.say(|w| {
        w.integer("ShardLimit", count(cx.shared.settings.max_shards));
        w.integer("OpenShardCount", count(cx.shared.open_shards()));
        w.integer("OnDemandStreamCount", on_demand);
        w.integer("OnDemandStreamCountLimit", ON_DEMAND_STREAMS);
        w.integer("ChannelCount", 0);
        w.integer("ChannelCountLimit", 0);
    }))
}
