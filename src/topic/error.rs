//! What a topic or partition may answer instead of doing what was asked: one variant per outcome.
//!
//! Each door maps every variant to its own dialect in one exhaustive match (`kafka/error.rs`).

use crate::batch;
use crate::store;

/// An operating outcome of a topic or partition.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No topic of that name.
    #[error("no such topic")]
    UnknownTopic,
    /// No topic with that id.
    #[error("no topic with that id")]
    UnknownTopicId,
    /// The topic has no such partition.
    #[error("no such partition")]
    UnknownPartition,
    /// A topic of that name exists.
    #[error("topic '{0}' already exists")]
    TopicExists(String),
    /// Not a legal topic name, or it collides with another in metric names.
    #[error("{0}")]
    InvalidName(String),
    /// Partition count out of bounds.
    #[error("{0}")]
    InvalidPartitions(String),
    /// A limit of this broker was reached.
    #[error("{0}")]
    LimitReached(String),
    /// A topic config was refused.
    #[error("{0}")]
    InvalidConfig(String),
    /// The offset is outside the readable log.
    #[error("offset is outside {start}..={end}")]
    OffsetOutOfRange {
        /// Log start offset.
        start: i64,
        /// High watermark.
        end: i64,
    },
    /// The bytes are not an acceptable batch.
    #[error(transparent)]
    Invalid(#[from] batch::Invalid),
    /// Records without a key on a compacted topic, by their place in the batch.
    #[error("Compacted topic cannot accept message without key.")]
    MissingKeys(Vec<i32>),
    /// Larger than `max.message.bytes`.
    #[error("batch of {bytes} bytes is larger than max.message.bytes = {limit}")]
    TooLarge {
        /// Size of the batch.
        bytes: usize,
        /// The topic's limit.
        limit: usize,
    },
    /// Larger than `segment.bytes`.
    #[error("batch of {bytes} bytes is larger than segment.bytes = {limit}")]
    LargerThanSegment {
        /// Size of the batch.
        bytes: usize,
        /// The topic's limit.
        limit: u64,
    },
    /// A timestamp outside what the topic accepts, or log-append time set by a client.
    #[error("{why}")]
    InvalidTimestamp {
        /// Which, in words for people.
        why: String,
        /// The records to blame, by their place in the batch; empty when all are.
        records: Vec<i32>,
    },
    /// A sequence number that is not the next one.
    #[error("sequence {got} where {expected} was expected")]
    OutOfSequence {
        /// First sequence of the batch.
        got: i32,
        /// The one that would have been accepted.
        expected: i32,
    },
    /// A producer epoch older than one seen.
    #[error("producer epoch {got} is older than {current}")]
    StaleProducerEpoch {
        /// Epoch of the batch.
        got: i16,
        /// Newest epoch seen.
        current: i16,
    },
    /// A transactional batch without an ongoing transaction.
    #[error("no transaction is ongoing for this producer")]
    NoTransaction,
    /// The client's leader epoch is older than the partition's.
    #[error("leader epoch {got} is older than {current}")]
    FencedLeaderEpoch {
        /// What the client believes.
        got: i32,
        /// The partition's.
        current: i32,
    },
    /// The client's leader epoch is newer than the partition's.
    #[error("leader epoch {got} is newer than {current}")]
    UnknownLeaderEpoch {
        /// What the client believes.
        got: i32,
        /// The partition's.
        current: i32,
    },
    /// The topic has no shard with that id (any more).
    #[error("no shard {0}")]
    UnknownShard(u32),
    /// The shards cannot be changed like that.
    #[error("{0}")]
    InvalidReshard(String),
    /// Not now; the message says what is in the way.
    #[error("{0}")]
    InUse(String),
    /// The shard of this partition was merged into another, whose partition takes its records.
    #[error("partition {partition} takes no records: its shard was merged{}", into(*.shard))]
    Merged {
        /// The partition.
        partition: i32,
        /// The shard that has the keys now, unless retention took the lineage.
        shard: Option<u32>,
    },
    /// A shard's limit is used up.
    #[error("{limit} of the shard exceeded, {wait_ms} ms to wait")]
    Throttled {
        /// Which limit.
        limit: Limit,
        /// When it would pass if nothing else came.
        wait_ms: u64,
    },
    /// The partition's log is still being opened, which may take a recovery.
    #[error("the log is being opened; try again")]
    Opening,
    /// The engine failed.
    #[error(transparent)]
    Storage(store::Error),
}

impl From<store::Error> for Error {
    /// A log that was deleted while somebody used it is no failure of the engine.
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Deleted => Self::UnknownPartition,
            error => Self::Storage(error),
        }
    }
}

/// A limit of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Bytes written per second.
    WriteBytes,
    /// Records written per second.
    WriteRecords,
    /// Bytes read per second.
    ReadBytes,
    /// Read calls per second.
    ReadCalls,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::WriteBytes => "write bytes per second",
            Self::WriteRecords => "write records per second",
            Self::ReadBytes => "read bytes per second",
            Self::ReadCalls => "read calls per second",
        })
    }
}

fn into(shard: Option<u32>) -> String {
    shard.map_or_else(String::new, |id| format!(" into shardId-{id:012}"))
}
