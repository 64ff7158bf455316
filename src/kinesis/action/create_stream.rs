//! CreateStream: a topic with the limits and the retention of a stream. ACTIVE when it returns, unless
//! `kinesis.create.delay.ms` says otherwise. The topic and what is kept of the stream beside it come into being together.
//!
//! Deviations: WarmThroughputMiBps is kept and told; an on-demand stream starts with four shards.

use std::collections::BTreeMap;

use super::describe_limits::check_on_demand;
use super::increase_stream_retention_period::segment_ms;
use super::update_stream_mode::{MODE_DETAILS, SHARD_MODE, mode_value};
use super::{Answer, Context, Fault, Field, Item};
use super::{tag_resource, update_shard_count::check_limit};
use crate::config::QuotaProfile;
use crate::kinesis::error::of_topic;
use crate::kinesis::shape::Pattern;
use crate::kinesis::stream::{Place, Traits};
use crate::topic::is_internal;

/// Shards of a new on-demand stream.
const ON_DEMAND_SHARDS: i64 = 4;
/// Room for one request's records of one shard, so that they become one batch.
const MAX_MESSAGE_BYTES: &str = "11534336";
const DAY_MS: i64 = 86_400_000;
/// Streams that may be CREATING at a time, with the service's rates held.
const CREATING_MAX: usize = 5;
/// The limits of a Kinesis shard.
const LIMITS: [(&str, &str); 4] = [
    ("shard.write.bytes.per.second", "1048576"),
    ("shard.write.records.per.second", "1000"),
    ("shard.read.bytes.per.second", "2097152"),
    ("shard.read.calls.per.second", "5"),
];

pub(super) const STRATEGIES: &[&str] = &["AUTO", "USER_PARTITION_KEY"];
pub(super) const FIELDS: &[Field] = &[
    Field::text("StreamName").required().between(1, 128).pattern(Pattern::Name),
    Field::integer("ShardCount").at_least(1),
    MODE_DETAILS,
    Field::tags("Tags").between(1, 200),
    Field::integer("WarmThroughputMiBps").at_least(0),
    Field::integer("MaxRecordSizeInKiB").between(1024, 10_240),
    Field::text("RecordDistributionStrategy").one_of(STRATEGIES),
];

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let shared = cx.shared;
    let name = request.text("StreamName").unwrap_or_default();
    let place = Place { stream: name, account: &shared.settings.account_id, shard: None };
    let mode = request.field("StreamModeDetails").and_then(|details| details.text("StreamMode"));
    let on_demand = mode == Some("ON_DEMAND");
    let auto_distribution = request.text("RecordDistributionStrategy") == Some("AUTO");
    let count = match (request.integer("ShardCount"), on_demand) {
        (Some(_), true) => {
            return Err(Fault::validation("ShardCount is not allowed for a stream in On-Demand mode."));
        }
        (Some(count), false) => count,
        (None, true) => ON_DEMAND_SHARDS,
        (None, false) => {
            return Err(Fault::validation("ShardCount is required for a stream in Provisioned mode."));
        }
    };
    if auto_distribution && !on_demand {
        return Err(Fault::invalid("RecordDistributionStrategy AUTO is for streams in On-Demand mode."));
    }
    if is_internal(name) {
        return Err(Fault::invalid(format!("{name} is a topic of the broker's own.")));
    }
    if shared.core.topics().by_name(name).is_some() {
        return Err(of_topic(&crate::topic::Error::TopicExists(name.to_owned()), &place));
    }
    check_limit(cx, count)?;
    if shared.settings.limits_control {
        check_creating(cx)?;
        if on_demand {
            check_on_demand(cx)?;
        }
    }
    let mut tags = BTreeMap::new();
    tag_resource::add(&mut tags, tag_resource::tags_of(request)?)?;
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    let delay_ms = shared.settings.create_delay_ms;
    let traits = Traits {
        auto_distribution,
        tags,
        warm_mibps: request.integer("WarmThroughputMiBps"),
        max_record_kib: request.integer("MaxRecordSizeInKiB").unwrap_or(1024),
        creating_until_ms: if delay_ms > 0 { cx.now_ms + delay_ms } else { 0 },
        ..Traits::default()
    };
    let overrides = overrides(shared.settings.quota_profile, on_demand);
    let created = shared.core.create_topic_with(name.to_owned(), count, overrides, vec![traits.kept()]).await;
    created.map_err(|error| of_topic(&error, &place))?;
    Ok(Context::done())
}

/// Refuses another stream while as many as may be are being created.
fn check_creating(cx: &Context<'_>) -> Result<(), Fault> {
    let mut creating = 0;
    for topic in cx.shared.streams.all() {
        creating += usize::from(cx.shared.streams.of(topic, cx.region)?.status(cx.now_ms) == "CREATING");
    }
    if creating >= CREATING_MAX {
        return Err(Fault::limit(format!(
            "This request would exceed the limit of {CREATING_MAX} streams in CREATING for the account {}.",
            cx.shared.settings.account_id
        )));
    }
    Ok(())
}

fn overrides(profile: QuotaProfile, on_demand: bool) -> BTreeMap<String, String> {
    let (retention, segment) = (DAY_MS.to_string(), segment_ms(DAY_MS).to_string());
    let limits = LIMITS.map(|(key, on)| (key, if profile == QuotaProfile::Kinesis { on } else { "-1" }));
    [
        ("retention.ms", retention.as_str()),
        ("segment.ms", segment.as_str()),
        ("message.timestamp.type", "LogAppendTime"),
        ("max.message.bytes", MAX_MESSAGE_BYTES),
    ]
    .into_iter()
    .chain(limits)
    .chain([(SHARD_MODE, mode_value(on_demand))])
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}
