//! Topics and their partitions: registry, the one writer, readers, producer sequences, retention.
//!
//! Invariant: a partition has one writer (a short lock that is never held across an await); readers never
//! queue behind it. Whatever a caller was told is already visible to every other caller.
//! Deliberately absent: `kafka_protocol`, HTTP, groups, clocks (time is passed in), waiting (watermarks are
//! handed out instead).

mod admission;
mod append;
mod buckets;
pub mod config;
mod error;
mod history;
pub mod ondemand;
mod partition;
mod producers;
mod registry;
mod retention;
mod shards;
mod tally;

pub use append::{Append, Appended, Route};
pub use buckets::Buckets;
pub use config::TopicConfig;
pub use error::{Error, Limit};
pub use partition::{Partition, ReadOutcome};
pub use registry::{Defaults, NewTopic, Registry, Topic, check_name, is_internal};
pub use shards::{Plan, Reshape, Shard, Shards};
pub use tally::{Counted, Passed, Tally};

/// Result of the topic room.
pub type Result<T> = std::result::Result<T, Error>;
