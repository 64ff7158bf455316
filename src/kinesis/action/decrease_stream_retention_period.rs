//! DecreaseStreamRetentionPeriod: 24 to 8760 hours, no more than now. The same setting as `retention.ms`.

use super::increase_stream_retention_period::{asked, set};
use super::{Answer, Context, Fault, Field, Item};

pub(super) const FIELDS: &[Field] = super::increase_stream_retention_period::FIELDS;

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let (stream, hours) = asked(cx, request)?;
    let present = stream.retention_hours();
    if hours > present {
        return Err(Fault::invalid(format!(
            "Requested retention period ({hours} hours) for stream {} can not be longer than existing retention period \
             ({present} hours). Use IncreaseRetentionPeriod API.",
            stream.name()
        )));
    }
    set(cx, &stream, hours).await
}
