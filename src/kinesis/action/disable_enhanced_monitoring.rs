//! DisableEnhancedMonitoring: the stream says that shard-level metrics are off.

use super::enable_enhanced_monitoring::switch;
use super::{Answer, Context, Fault, Field, Item};

pub(super) const FIELDS: &[Field] = super::enable_enhanced_monitoring::FIELDS;

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    switch(cx, request, |present, asked| present && !asked).await
}
