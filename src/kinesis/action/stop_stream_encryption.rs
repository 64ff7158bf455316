//! StopStreamEncryption: the stream says that it is not encrypted any more.

use super::{Answer, Context, Fault, Field, Item};

pub(super) const FIELDS: &[Field] = super::start_stream_encryption::FIELDS;

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let stream = cx.settled_stream(request)?;
    if request.text("EncryptionType") != Some("KMS") {
        return Err(Fault::invalid("EncryptionType must be KMS."));
    }
    cx.admit_daily(&stream, super::start_stream_encryption::DAILY)?;
    cx.shared
        .streams
        .change(&stream, |traits| {
            traits.key_id = None;
            Ok(())
        })
        .await?;
    Ok(Context::done())
}
