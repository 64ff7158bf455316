//! A batch on its way into a partition, and what became of it.
//!
//! Deliberately absent: the append itself (`partition.rs`).

use std::sync::Arc;

use super::Result;
use crate::batch::Batch;

/// A batch on its way into a partition, and what became of it.
#[derive(Debug)]
pub struct Append {
    /// The checked batch.
    pub batch: Batch,
    /// Who chose the partition.
    pub route: Route,
    /// The broker's own: no limit of the topic is held against it.
    pub own: bool,
    /// The client, in words for people.
    pub client: Option<Arc<str>>,
    /// Filled in by `Partition::append`.
    pub outcome: Option<Result<Appended>>,
}

/// Who chose the partition of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The client.
    Client,
    /// The broker, by shard; the limits of the shard were charged.
    Shard,
}

impl Append {
    /// A batch for the partition that its client chose.
    #[must_use]
    pub fn new(batch: Batch) -> Self {
        Self { batch, route: Route::Client, own: false, client: None, outcome: None }
    }

    /// A batch of the broker's own, which may be of any size.
    #[must_use]
    pub fn own(batch: Batch) -> Self {
        Self { own: true, ..Self::new(batch) }
    }

    /// A batch for a shard that has been charged for it.
    #[must_use]
    pub fn routed(batch: Batch) -> Self {
        Self { batch, route: Route::Shard, own: false, client: None, outcome: None }
    }
}

/// Where a batch now stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset after its last record: durable once the log's durable watermark reaches it.
    pub next_offset: i64,
    /// The broker's timestamp on a log-append-time topic, else -1. Milliseconds.
    pub log_append_time_ms: i64,
    /// First readable offset of the partition.
    pub log_start: i64,
    /// How long the client has to wait before it sends more to this shard. Milliseconds.
    pub throttle_ms: u32,
}
