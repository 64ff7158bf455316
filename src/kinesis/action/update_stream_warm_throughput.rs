//! UpdateStreamWarmThroughput: keeps and tells what an on-demand stream should be ready for.

use super::{Answer, Context, Fault, Field, Item};
use crate::kinesis::stream::{STREAM_ARN, STREAM_ID, STREAM_NAME};

pub(super) const FIELDS: &[Field] =
    &[STREAM_NAME, STREAM_ARN, STREAM_ID, Field::integer("WarmThroughputMiBps").required().at_least(0)];

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let stream = cx.settled_stream(request)?;
    let warm = request.integer("WarmThroughputMiBps").unwrap_or_default();
    if !stream.on_demand() {
        return Err(Fault::validation(format!(
            "Request is invalid. Stream {} under account {} is not in On-Demand mode.",
            stream.name(),
            stream.account
        )));
    }
    let before = cx
        .shared
        .streams
        .change(&stream, |traits| Ok(traits.warm_mibps.replace(warm).unwrap_or_default()))
        .await?;
    Ok(cx.say(|w| {
        w.text("StreamARN", &stream.arn);
        w.text("StreamName", stream.name());
        w.map("WarmThroughput", |w| {
            w.integer("TargetMiBps", warm);
            w.integer("CurrentMiBps", before);
        });
    }))
}
