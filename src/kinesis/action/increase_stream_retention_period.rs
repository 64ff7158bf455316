//! IncreaseStreamRetentionPeriod: 24 to 8760 hours, no fewer than now. The same setting as `retention.ms`.

use super::{Answer, Context, Fault, Field, Item};
use crate::kinesis::stream::{STREAM_ARN, STREAM_ID, STREAM_NAME, Stream};

const HOURS_MIN: i64 = 24;
const HOURS_MAX: i64 = 8760;

pub(super) const FIELDS: &[Field] =
    &[STREAM_NAME, STREAM_ARN, STREAM_ID, Field::integer("RetentionPeriodHours").required()];

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let (stream, hours) = asked(cx, request)?;
    let present = stream.retention_hours();
    if hours < present {
        return Err(Fault::invalid(format!(
            "Requested retention period ({hours} hours) for stream {} can not be shorter than existing retention period \
             ({present} hours). Use DecreaseRetentionPeriod API.",
            stream.name()
        )));
    }
    set(cx, &stream, hours).await
}

/// The stream and the hours that a request asks for.
pub(super) fn asked(cx: &Context<'_>, request: Item<'_>) -> Result<(Stream, i64), Fault> {
    let stream = cx.settled_stream(request)?;
    let hours = request.integer("RetentionPeriodHours").unwrap_or_default();
    if hours < HOURS_MIN {
        return Err(Fault::invalid(format!(
            "Minimum allowed retention period is {HOURS_MIN} hours. Requested retention period ({hours} hours) is too short."
        )));
    }
    if hours > HOURS_MAX {
        return Err(Fault::invalid(format!(
            "Maximum allowed retention period is {HOURS_MAX} hours. Requested retention period ({hours} hours) is too long."
        )));
    }
    Ok((stream, hours))
}

/// After how long a segment of a stream ends, ms: what is kept on disk beyond the retention is a small part of it.
pub(super) fn segment_ms(retention_ms: i64) -> i64 {
    (retention_ms / 24).clamp(60_000, 7 * 86_400_000)
}

pub(super) async fn set(cx: &Context<'_>, stream: &Stream, hours: i64) -> Result<Answer, Fault> {
    let ms = hours.saturating_mul(3_600_000);
    let pairs = [("retention.ms", ms.to_string()), ("segment.ms", segment_ms(ms).to_string())];
    cx.configure(stream, pairs).await?;
    Ok(Context::done())
}
