//! STUB
use std::collections::BTreeMap;
use crate::batch::TimestampType;
#[derive(Clone, Debug)]
pub struct TopicConfig { pub retention_ms: i64, pub retention_bytes: i64, pub segment_bytes: u64, pub segment_ms: i64, pub index_interval_bytes: u32, pub max_message_bytes: usize, pub timestamp_type: TimestampType, pub timestamp_before_max_ms: i64, pub timestamp_after_max_ms: i64 }
impl Default for TopicConfig { fn default() -> Self { Self { retention_ms: 604_800_000, retention_bytes: -1, segment_bytes: 1 << 30, segment_ms: 604_800_000, index_interval_bytes: 4096, max_message_bytes: 1_048_588, timestamp_type: TimestampType::Create, timestamp_before_max_ms: i64::MAX, timestamp_after_max_ms: i64::MAX } } }
pub struct Key { pub name: &'static str }
pub const KEYS: &[Key] = &[];
impl TopicConfig {
    pub fn cleanup_deletes(&self) -> bool { true }
    pub fn from_overrides(defaults: &Self, _o: &BTreeMap<String, String>) -> Result<Self, String> { Ok(defaults.clone()) }
}
