//! UpdateStreamRecordDistributionStrategy: whether records of an on-demand stream go by their keys or are spread
//! evenly.

use super::{Answer, Context, Fault, Field, Item, create_stream::STRATEGIES};
use crate::kinesis::shape::Pattern;
use crate::kinesis::stream::STREAM_ID;

pub(super) const FIELDS: &[Field] = &[
    Field::text("StreamARN").required().between(1, 2048).pattern(Pattern::StreamArn),
    STREAM_ID,
    Field::text("RecordDistributionStrategy").required().one_of(STRATEGIES),
];

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let stream = cx.settled_stream(request)?;
    let auto = request.text("RecordDistributionStrategy") == Some("AUTO");
    if auto && !stream.on_demand() {
        return Err(Fault::invalid("RecordDistributionStrategy AUTO is for streams in On-Demand mode."));
    }
    cx.shared
        .streams
        .change(&stream, |traits| {
            traits.auto_distribution = auto;
            Ok(())
        })
        .await?;
    Ok(Context::done())
}
