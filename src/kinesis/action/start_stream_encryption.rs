//! StartStreamEncryption: the stream says that it is encrypted with that key. A flag, for clients that look: weir
//! encrypts nothing and knows no keys.

use super::{Answer, Context, Fault, Field, Item};
use crate::kinesis::stream::{STREAM_ARN, STREAM_ID, STREAM_NAME};

/// Calls for a stream in 24 hours.
pub(super) const DAILY: u32 = 25;

pub(super) const FIELDS: &[Field] = &[
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
    Field::text("EncryptionType").required().one_of(&["NONE", "KMS"]),
    Field::text("KeyId").required().between(1, 2048),
];

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let stream = cx.settled_stream(request)?;
    if request.text("EncryptionType") != Some("KMS") {
        return Err(Fault::invalid("EncryptionType must be KMS."));
    }
    cx.admit_daily(&stream, DAILY)?;
    let key_id = request.text("KeyId").map(str::to_owned);
    cx.shared
        .streams
        .change(&stream, |traits| {
            traits.key_id = key_id;
            Ok(())
        })
        .await?;
    Ok(Context::done())
}
