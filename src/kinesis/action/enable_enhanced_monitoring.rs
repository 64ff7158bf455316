//! EnableEnhancedMonitoring: the stream says which shard-level metrics are on. The admin door shows all of them
//! whatever is set here.

use super::{Answer, Context, Fault, Field, Item};
use crate::kinesis::shape::Rule;
use crate::kinesis::stream::{STREAM_ARN, STREAM_ID, STREAM_NAME, Stream};

/// In the model's order.
const METRICS: &[&str] = &[
    "IncomingBytes",
    "IncomingRecords",
    "OutgoingBytes",
    "OutgoingRecords",
    "WriteProvisionedThroughputExceeded",
    "ReadProvisionedThroughputExceeded",
    "IteratorAgeMilliseconds",
    ALL,
];
const ALL: &str = "ALL";
const METRIC: Rule = Rule::text().one_of(METRICS);

pub(super) const FIELDS: &[Field] =
    &[STREAM_NAME, STREAM_ARN, STREAM_ID, Field::list("ShardLevelMetrics", &METRIC).required().between(1, 7)];

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    switch(cx, request, |present, asked| present || asked).await
}

/// Keeps the metrics for which `keep(present, asked)` holds.
pub(super) async fn switch(
    cx: &Context<'_>,
    request: Item<'_>,
    keep: fn(bool, bool) -> bool,
) -> Result<Answer, Fault> {
    let stream = cx.settled_stream(request)?;
    let asked: Vec<&str> = request.texts("ShardLevelMetrics").collect();
    let is_asked = |metric: &str| asked.contains(&metric) || asked.contains(&ALL);
    let (before, after) = cx
        .shared
        .streams
        .change(&stream, |traits| {
            let present = |metric: &str| traits.metrics.iter().any(|m| m == metric);
            let single = METRICS.iter().filter(|metric| **metric != ALL);
            let after: Vec<String> =
                single.filter(|m| keep(present(m), is_asked(m))).map(|m| (*m).to_owned()).collect();
            let before = std::mem::replace(&mut traits.metrics, after.clone());
            Ok((before, after))
        })
        .await?;
    Ok(tell(cx, &stream, &before, &after))
}

fn tell(cx: &Context<'_>, stream: &Stream, before: &[String], after: &[String]) -> Answer {
    cx.say(|w| {
        w.text("StreamName", stream.name());
        w.texts("CurrentShardLevelMetrics", before.iter().map(String::as_str));
        w.texts("DesiredShardLevelMetrics", after.iter().map(String::as_str));
        w.text("StreamARN", &stream.arn);
    })
}
