//! Consumer groups as pure state machines: who reads what, and how far they have come.
//!
//! Shape (after Apache Kafka's `GroupCoordinatorShard`): `Coordinator::handle` turns an event into journal
//! records and replies; `Coordinator::replay` applies one record and is the same for a live broker and for one
//! that starts. What must survive a crash (offsets, assignments, deletions) changes only in `replay`; what a
//! crash may forget (who waits for a join, session deadlines) changes in `handle` and `tick`.
//! Time is passed in as [`Now`]: waits count in a time that does not jump, what is kept bears the wall clock's.
//! Deliberately absent: I/O, clocks, randomness (ids are passed in), wire formats of
//! requests, error codes (the Kafka door has the table), KIP-848 groups and transactions (`Kind` has room).

mod classic;
mod coordinator;
mod damage;
mod ends;
mod event;
mod journal;
mod member;
mod offsets;
mod pieces;
mod protocols;
mod rejoin;
mod snapshot;
mod step;
mod subscription;
mod wire;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

pub use coordinator::Coordinator;
pub use ends::Forgetting;
pub use event::{
    Commit, CommitPartition, CommitTopic, CommittedTopic, DeleteOffsets, Described, DescribedMember, Error,
    Event, FetchGroup, FetchedGroup, FetchedTopic, Found, GroupType, Heartbeat, Join, Joined, JoinedMember,
    Leave, LeaveResult, LeavingMember, Listed, Outcome, Reply, State, Sync, Synced, Token, TopicPartitions,
};
pub use journal::{JournalError, JournalRecord, group_of};
pub use offsets::CommittedOffset;
pub use pieces::Pieces;
pub use snapshot::Snapshot;
pub use step::Walk;

/// Numbers a coordinator is bound by; plain data, read once. Defaults are Kafka's where Kafka has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `group.min.session.timeout.ms`.
    pub session_timeout_min_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_max_ms: i32,
    /// `group.initial.rebalance.delay.ms`: how long the first join of an empty group waits for company.
    pub initial_rebalance_delay_ms: i32,
    /// A member that has joined for the first time may wait this long for its group (5 minutes in Kafka).
    pub new_member_join_timeout_ms: i32,
    /// `group.max.size`.
    pub group_max_size: usize,
    /// `offset.metadata.max.bytes`; counted in UTF-16 units, as Kafka does.
    pub metadata_max_chars: usize,
    /// `offsets.retention.minutes`.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`: pause between two sweeps for expired offsets and empty groups.
    pub retention_check_interval_ms: i64,
    /// Partitions that `__consumer_offsets` has, or gets when it is created; [`Coordinator::found_journal`] says which.
    pub journal_partitions: i32,
    /// Most subscription bytes one member may keep over all its protocols.
    pub subscription_max_bytes: usize,
    /// Most protocols of one member. Each is an assignor: clients list one to three.
    pub protocols_max: usize,
    /// Most groups; the next one is `GroupMaxSizeReached`.
    pub groups_max: usize,
    /// Most member ids handed out and not yet used (KIP-394); the oldest makes room. Whoever comes at once with the id it got
    /// is let in, however many others ask for one and whatever sessions they name.
    pub pending_members_max: usize,
    /// Longest life of such an id; a shorter session timeout wins.
    pub pending_expiry_ms: i64,
    /// Memory for the state of all groups: members with their metadata, assignments, offsets. Joins and the commits
    /// of new groups leave an eighth of it to the commits of groups that are there.
    pub state_max_bytes: usize,
    /// Memory for the members of one group, which are also one record of the journal: whoever plans makes everybody wait for
    /// that. Kafka's own groups end where the record is larger than `message.max.bytes`, 1 MiB.
    pub group_max_bytes: usize,
}

/// The times that a step may need, at one moment. Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Does not jump, and means nothing across a restart: sessions, rebalances and all other waits count in it.
    pub steady_ms: i64,
    /// The wall clock's: written down with what is kept.
    pub wall_ms: i64,
    /// The wall clock's as far as it is believed, never past `wall_ms`: what is kept expires by it.
    pub calendar_ms: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            session_timeout_min_ms: 6_000,
            session_timeout_max_ms: 1_800_000,
            initial_rebalance_delay_ms: 0,
            new_member_join_timeout_ms: 300_000,
            group_max_size: 1_000,
            metadata_max_chars: 4_096,
            offsets_retention_ms: 7 * 24 * 3_600_000,
            retention_check_interval_ms: 600_000,
            journal_partitions: 50,
            subscription_max_bytes: 1 << 20,
            protocols_max: 100,
            groups_max: 20_000,
            pending_members_max: 5_000,
            pending_expiry_ms: 60_000,
            state_max_bytes: 256 << 20,
            group_max_bytes: 8 << 20,
        }
    }
}

/// The partition of `__consumer_offsets` (out of 50) that holds a group, as every Kafka tool computes it.
pub fn partition_for(group: &str) -> i32 {
    partition_of(group, 50)
}

/// Java's `String.hashCode` over UTF-16 units, sign bit cleared as `Utils.abs` does, modulo `partitions`.
fn partition_of(group: &str, partitions: i32) -> i32 {
    let hash = group.encode_utf16().fold(0i32, |h, unit| h.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Utils.abs maps i32::MIN to 0 and is the absolute value elsewhere.
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}
