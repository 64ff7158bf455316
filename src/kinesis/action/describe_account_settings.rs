//! DescribeAccountSettings: what UpdateAccountSettings kept.

use super::{Answer, Context, Fault, Field, Item};
use crate::kinesis::account;

pub(super) const FIELDS: &[Field] = &[];

pub(super) fn answer(cx: &Context<'_>, _request: Item<'_>) -> Result<Answer, Fault> {
    let (_, commitment) = account::read(&cx.shared.core)?;
    Ok(cx.say(|w| commitment.put(w)))
}
