//! What goes into the coordinator and what comes out: events, replies, errors, all plain data.
//!
//! Invariant: one reply variant per event variant, one error variant per outcome that an operator can tell
//! apart. Deliberately absent: Kafka's error codes and versions; what a version changes comes in as a flag.

#![allow(missing_docs, reason = "fields carry the protocol's own names")]

use bytes::Bytes;
use thiserror::Error as ThisError;
use uuid::Uuid;

use super::protocols::Protocols;
use super::{CommittedOffset, JournalRecord, Settings};

/// What a member takes beside its words.
pub(super) const MEMBER_BYTES: usize = 768;
/// How often a member's id is kept.
pub(super) const MEMBER_NAMES: usize = 5;
/// What a member takes in the group's record beside its words.
pub(super) const RECORD_BYTES: usize = 32;

/// Names one waiting caller; chosen by the caller, opaque here.
pub type Token = u64;

/// A request to the coordinator. Group ids, member ids and metadata are kept byte for byte.
#[derive(Debug, Clone)]
pub enum Event {
    Join(Join),
    Sync(Sync),
    Heartbeat(Heartbeat),
    Leave(Leave),
    CommitOffsets(Commit),
    /// Many groups at once (OffsetFetch v8+).
    FetchOffsets(Vec<FetchGroup>),
    DeleteGroups(Vec<String>),
    DeleteOffsets(DeleteOffsets),
    DescribeGroups(Vec<String>),
    /// Empty filters match everything; names are compared without case.
    ListGroups {
        states: Vec<String>,
        types: Vec<String>,
        /// Only those behind this one.
        after: Option<String>,
    },
}

/// JoinGroup. The reason of KIP-800 is for logs of the door and does not come here.
#[derive(Debug, Clone, Default)]
pub struct Join {
    pub group: String,
    /// Empty for a member that has no id yet.
    pub member_id: String,
    /// `client_id-uuid`, or `instance_id-uuid` for a static member: used when a new id is needed.
    pub new_member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i32,
    /// In v0, which has no such field, the session timeout.
    pub rebalance_timeout_ms: i32,
    pub protocol_type: String,
    /// Names with subscriptions, most preferred first.
    pub protocols: Vec<(String, Bytes)>,
    /// KIP-394, JoinGroup v4+: a new dynamic member is told its id and joins again with it.
    pub requires_known_member_id: bool,
    /// KIP-814, JoinGroup v9+.
    pub supports_skip_assignment: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Sync {
    pub group: String,
    pub member_id: String,
    pub instance_id: Option<String>,
    pub generation: i32,
    /// KIP-559, SyncGroup v5+; `None` is not checked.
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    /// Member id to assignment; only the leader's counts.
    pub assignments: Vec<(String, Bytes)>,
}

#[derive(Debug, Clone, Default)]
pub struct Heartbeat {
    pub group: String,
    pub member_id: String,
    pub instance_id: Option<String>,
    pub generation: i32,
}

#[derive(Debug, Clone, Default)]
pub struct Leave {
    pub group: String,
    pub members: Vec<LeavingMember>,
}

/// A member that leaves, by member id, or by instance id with an empty member id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeavingMember {
    pub member_id: String,
    pub instance_id: Option<String>,
}

/// What became of one leaving member.
pub type LeaveResult = (LeavingMember, Result<(), Error>);

#[derive(Debug, Clone, Default)]
pub struct Commit {
    pub group: String,
    /// Empty with generation -1 for a simple consumer that assigns by hand (every Storm spout).
    pub member_id: String,
    pub instance_id: Option<String>,
    pub generation: i32,
    /// OffsetCommit v2-4 `retention_time_ms`; `None` for -1 and for other versions.
    pub retention_ms: Option<i64>,
    pub topics: Vec<CommitTopic>,
}

#[derive(Debug, Clone)]
pub struct CommitTopic {
    pub name: String,
    /// The id of the topic that the client means.
    pub id: Option<Uuid>,
    /// That topic is gone by now: its partitions are refused.
    pub gone: bool,
    pub partitions: Vec<CommitPartition>,
}

#[derive(Debug, Clone)]
pub struct CommitPartition {
    pub partition: i32,
    pub offset: i64,
    /// -1 when unknown.
    pub leader_epoch: i32,
    pub metadata: String,
    /// OffsetCommit v1 carries its own time; else `None`.
    pub commit_ms: Option<i64>,
}

#[derive(Debug, Clone, Default)]
pub struct FetchGroup {
    pub group: String,
    /// `None` asks for everything committed.
    pub topics: Option<Vec<TopicPartitions>>,
    /// Of everything, only what is behind this topic and partition.
    pub after: Option<(String, i32)>,
}

#[derive(Debug, Clone, Default)]
pub struct DeleteOffsets {
    pub group: String,
    pub topics: Vec<TopicPartitions>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicPartitions {
    pub name: String,
    pub partitions: Vec<i32>,
}

/// Why the coordinator says no. Codes live in the Kafka door.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum Error {
    #[error("the group does not know this member")]
    UnknownMember,
    #[error("the group is in another generation")]
    IllegalGeneration,
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    #[error("no protocol is common to the group and this member")]
    InconsistentProtocol,
    #[error("the session timeout is outside the broker's range")]
    InvalidSessionTimeout,
    /// KIP-394: join again with this id.
    #[error("join again as {0}")]
    MemberIdRequired(String),
    #[error("another member with this instance id took over")]
    FencedInstance,
    #[error("the group, or the table of groups, is full")]
    GroupMaxSizeReached,
    /// It passes: members go, offsets expire.
    #[error("the state of all groups takes what it may")]
    CoordinatorFull,
    #[error("there is no such topic")]
    UnknownTopic,
    #[error("the journal is damaged where this was committed, or may have been")]
    Unreadable,
    #[error("the group id is not valid")]
    InvalidGroupId,
    #[error("the group has members")]
    NonEmptyGroup,
    /// OffsetCommit before v9 says ILLEGAL_GENERATION, DescribeGroups before v6 says state Dead.
    #[error("there is no such group")]
    GroupIdNotFound,
    #[error("the group subscribes to this topic")]
    GroupSubscribedToTopic,
    #[error("the metadata of the offset is too long")]
    OffsetMetadataTooLarge,
    #[error("groups are being loaded")]
    CoordinatorLoading,
    #[error("the journal refused the write")]
    Storage,
    #[error("a field is out of its bounds")]
    InvalidRequest,
}

/// What `handle` and `tick` decided.
#[derive(Debug, Default)]
pub struct Outcome {
    /// To append to the journal, in order.
    pub records: Vec<JournalRecord>,
    /// May be sent at once.
    pub replies: Vec<(Token, Reply)>,
    /// May be sent only when `records` are durable; answered with `Error::Storage` when they are not.
    pub after: Vec<(Token, Reply)>,
    /// What of the event is still to be handled, as one of its own.
    pub rest: Option<Event>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Join(Result<Joined, Error>),
    Sync(Result<Synced, Error>),
    Heartbeat(Result<(), Error>),
    /// One result per leaving member, in order.
    Leave(Result<Vec<LeaveResult>, Error>),
    CommitOffsets(Result<Vec<CommittedTopic>, Error>),
    FetchOffsets(Vec<(String, Result<FetchedGroup, Error>)>),
    DeleteGroups(Vec<(String, Result<(), Error>)>),
    DeleteOffsets(Result<Vec<CommittedTopic>, Error>),
    DescribeGroups(Vec<(String, Result<Described, Error>)>),
    ListGroups(Result<Vec<Listed>, Error>),
}

impl Event {
    /// What no client sends: refused before anybody waits for it.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for more protocols than there are assignors, [`Error::UnknownMember`] for a plan for more members
    /// than a group may have.
    pub fn check(&self, settings: &Settings) -> Result<(), Error> {
        match self {
            Event::Join(join) if join.protocols.len() > settings.protocols_max => Err(Error::InvalidRequest),
            Event::Sync(sync) if sync.assignments.len() > settings.group_max_size => {
                Err(Error::UnknownMember)
            }
            _ => Ok(()),
        }
    }

    /// The reply to an event that is not looked at.
    pub fn refused(self, error: Error) -> Reply {
        match self {
            Event::Join(_) => Reply::Join(Err(error)),
            Event::Sync(_) => Reply::Sync(Err(error)),
            Event::Heartbeat(_) => Reply::Heartbeat(Err(error)),
            Event::Leave(_) => Reply::Leave(Err(error)),
            Event::CommitOffsets(_) => Reply::CommitOffsets(Err(error)),
            Event::FetchOffsets(groups) => Reply::FetchOffsets(
                groups.into_iter().map(|asked| (asked.group, Err(error.clone()))).collect(),
            ),
            Event::DeleteGroups(ids) => {
                Reply::DeleteGroups(ids.into_iter().map(|id| (id, Err(error.clone()))).collect())
            }
            Event::DeleteOffsets(_) => Reply::DeleteOffsets(Err(error)),
            Event::DescribeGroups(ids) => {
                Reply::DescribeGroups(ids.into_iter().map(|id| (id, Err(error.clone()))).collect())
            }
            Event::ListGroups { .. } => Reply::ListGroups(Err(error)),
        }
    }
}

impl Join {
    /// What a member that joins like this takes.
    pub(super) fn bytes(&self) -> usize {
        let id = self.member_id.len().max(self.new_member_id.len());
        let instance = self.instance_id.as_ref().map_or(0, String::len);
        let names = MEMBER_NAMES * id + 2 * instance + self.client_id.len() + self.client_host.len();
        let subscription = Protocols::largest_of(&self.protocols);
        let record =
            RECORD_BYTES + id + instance + self.client_id.len() + self.client_host.len() + subscription;
        MEMBER_BYTES + names + Protocols::bytes_of(&self.protocols) + record
    }
}

impl Reply {
    /// The same reply for a journal that refused some records: those of the groups that `failed` names.
    pub fn refused(self, failed: &dyn Fn(&str) -> bool, error: Error) -> Self {
        match self {
            Reply::DeleteGroups(groups) => {
                let refuse = |(id, result): (String, Result<(), Error>)| {
                    let result = if failed(&id) { result.and(Err(error.clone())) } else { result };
                    (id, result)
                };
                Reply::DeleteGroups(groups.into_iter().map(refuse).collect())
            }
            other => other.with_error(error),
        }
    }

    /// The same reply for a journal that refused the records it waited for.
    pub fn with_error(self, error: Error) -> Self {
        let all =
            |names: Vec<String>| names.into_iter().map(|name| (name, error.clone())).collect::<Vec<_>>();
        match self {
            Reply::Join(_) => Reply::Join(Err(error)),
            Reply::Sync(_) => Reply::Sync(Err(error)),
            Reply::Heartbeat(_) => Reply::Heartbeat(Err(error)),
            Reply::Leave(_) => Reply::Leave(Err(error)),
            Reply::CommitOffsets(_) => Reply::CommitOffsets(Err(error)),
            Reply::DeleteOffsets(_) => Reply::DeleteOffsets(Err(error)),
            Reply::ListGroups(_) => Reply::ListGroups(Err(error)),
            Reply::FetchOffsets(groups) => {
                let names = groups.into_iter().map(|(name, _)| name).collect();
                Reply::FetchOffsets(all(names).into_iter().map(|(name, e)| (name, Err(e))).collect())
            }
            Reply::DeleteGroups(groups) => {
                let names = groups.into_iter().map(|(name, _)| name).collect();
                Reply::DeleteGroups(all(names).into_iter().map(|(name, e)| (name, Err(e))).collect())
            }
            Reply::DescribeGroups(groups) => {
                let names = groups.into_iter().map(|(name, _)| name).collect();
                Reply::DescribeGroups(all(names).into_iter().map(|(name, e)| (name, Err(e))).collect())
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    pub member_id: String,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: String,
    /// Filled for the leader only.
    pub members: Vec<JoinedMember>,
    pub skip_assignment: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub metadata: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignment: Bytes,
}

/// Per partition result of a commit or a deletion, in the order asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedTopic {
    pub name: String,
    pub partitions: Vec<(i32, Result<(), Error>)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchedGroup {
    pub topics: Vec<FetchedTopic>,
}

impl FetchedGroup {
    /// Adds what comes next; the last topic may go on there.
    pub(super) fn extend(&mut self, next: Self) {
        let mut next = next.topics.into_iter().peekable();
        if let Some(last) = self.topics.last_mut()
            && let Some(same) = next.next_if(|topic| topic.name == last.name)
        {
            last.partitions.extend(same.partitions);
        }
        self.topics.extend(next);
    }
}

/// What was committed, `None` where nothing is (offset -1 on the wire): that takes little, for a client may ask for a million of
/// those.
pub type Found = Result<Option<Box<CommittedOffset>>, Error>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedTopic {
    pub name: String,
    pub partitions: Vec<(i32, Found)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub state: State,
    pub protocol_type: String,
    /// Empty unless the group is Stable, as Kafka.
    pub protocol: String,
    pub members: Vec<DescribedMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    /// Empty unless the group is Stable.
    pub metadata: Bytes,
    pub assignment: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub group: String,
    pub protocol_type: String,
    pub state: State,
    pub group_type: GroupType,
}

/// Kafka's state names; a group that is Dead is simply absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

/// Which protocol a group speaks (KIP-848 adds another).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupType {
    Classic,
}

impl GroupType {
    pub fn name(self) -> &'static str {
        match self {
            GroupType::Classic => "classic",
        }
    }
}
