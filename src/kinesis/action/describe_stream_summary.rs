//! DescribeStreamSummary: the stream without its shards, and how many are open.

use super::{Answer, Context, Fault, Field, Item, put_stream};
use crate::kinesis::stream::{STREAM_ARN, STREAM_ID, STREAM_NAME};

pub(super) const FIELDS: &[Field] = &[STREAM_NAME, STREAM_ARN, STREAM_ID];

pub(super) fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let stream = cx.stream(request)?;
    let traits = &stream.traits;
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    Ok(cx.say(|w| {
        w.map("StreamDescriptionSummary", |w| {
            put_stream(w, cx, &stream);
            w.integer("OpenShardCount", count(stream.topic.shards().open_count()));
            w.integer("ConsumerCount", count(traits.consumers.len()));
            if let Some(warm) = traits.warm_mibps {
                w.map("WarmThroughput", |w| {
                    w.integer("TargetMiBps", warm);
                    w.integer("CurrentMiBps", warm);
                });
            }
            w.integer("MaxRecordSizeInKiB", traits.max_record_kib);
            let strategy = if traits.auto_distribution { "AUTO" } else { "USER_PARTITION_KEY" };
            w.text("RecordDistributionStrategy", strategy);
            w.integer("ChannelCount", 0);
            w.integer("QueueCount", 0);
        });
    }))
}
