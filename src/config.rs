//! STUB
use std::collections::BTreeMap;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush { Group, Interval, Never }
#[derive(Clone, Debug)]
pub struct Limits {
    pub frame_bytes_max: usize, pub connections_max: usize, pub connections_per_ip_max: usize,
    pub first_frame_timeout_ms: u64, pub stalled_timeout_ms: u64, pub stalled_bytes_min: usize, pub idle_timeout_ms: u64,
    pub fetch_bytes_max: usize, pub partitions_max: usize, pub partitions_per_topic_max: i32, pub producers_per_partition_max: usize,
}
#[derive(Clone, Debug, Default)]
pub struct Config { pub values: BTreeMap<String, String> }
pub struct Listener { pub name: String, pub host: String, pub port: u16 }
impl Config {
    pub fn bool(&self, key: &str) -> bool { self.values.get(key).is_none_or(|v| v == "true") }
    pub fn int(&self, key: &str) -> i64 { self.values.get(key).and_then(|v| v.parse().ok()).unwrap_or(match key { "log.retention.check.interval.ms" => 300_000, "producer.id.expiration.ms" => 86_400_000, "flush.interval.ms" => 1000, _ => 1 }) }
    pub fn advertised(&self, _listener: &str) -> Option<(Option<String>, Option<u16>)> { None }
    pub fn limits(&self) -> Limits { Limits { frame_bytes_max: 104_857_600, connections_max: 10_000, connections_per_ip_max: 10_000, first_frame_timeout_ms: 10_000, stalled_timeout_ms: 10_000, stalled_bytes_min: 1024, idle_timeout_ms: 600_000, fetch_bytes_max: 57_671_680, partitions_max: 20_000, partitions_per_topic_max: 10_000, producers_per_partition_max: 10_000 } }
    pub fn flush(&self) -> Flush { match self.values.get("flush").map(String::as_str) { Some("never") => Flush::Never, _ => Flush::Group } }
    pub fn cluster_id(&self) -> Option<String> { None }
    pub fn value(&self, _key: &str) -> Option<String> { None }
    pub fn listeners(&self) -> Result<Vec<Listener>, String> { Ok(vec![Listener { name: "PLAINTEXT".into(), host: "127.0.0.1".into(), port: self.values.get("port").and_then(|p| p.parse().ok()).unwrap_or(0) }]) }
}
