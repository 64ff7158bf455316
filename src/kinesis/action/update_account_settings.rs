//! UpdateAccountSettings: keeps whether a throughput is committed to. Kept and told, and changes nothing: nobody
//! sends a bill.

use super::{Answer, Context, Fault, Field, Item};
use crate::kinesis::account;

const STATUS: &[Field] = &[Field::text("Status").required().one_of(&["ENABLED", "DISABLED"])];

pub(super) const FIELDS: &[Field] =
    &[Field::structure("MinimumThroughputBillingCommitment", STATUS).required()];

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let wanted = request.field("MinimumThroughputBillingCommitment").and_then(|c| c.text("Status"));
    let (version, present) = account::read(&cx.shared.core)?;
    let next = present.turned(wanted == Some("ENABLED"), cx.now_ms);
    account::write(&cx.shared.core, &next, version).await?;
    Ok(cx.say(|w| next.put(w)))
}
