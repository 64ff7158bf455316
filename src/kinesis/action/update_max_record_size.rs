//! UpdateMaxRecordSize: the largest record of a stream, key and data together, 1 to 10 MiB.

use super::{Answer, Context, Fault, Field, Item};
use crate::kinesis::stream::{STREAM_ARN, STREAM_ID, STREAM_NAME};

pub(super) const FIELDS: &[Field] = &[
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
    Field::integer("MaxRecordSizeInKiB").required().between(1024, 10_240),
];

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let stream = cx.settled_stream(request)?;
    let kib = request.integer("MaxRecordSizeInKiB").unwrap_or(1024);
    cx.shared
        .streams
        .change(&stream, |traits| {
            traits.max_record_kib = kib;
            Ok(())
        })
        .await?;
    Ok(Context::done())
}
