//! The Kafka dialect of every domain error: one exhaustive match per room, and nowhere else.
//!
//! Source of the numbers: apache/kafka Errors.java, <https://kafka.apache.org/protocol#protocol_error_codes>.

use kafka_protocol::protocol::StrBytes;

use crate::batch::Invalid;
use crate::broker::StoreError;
use crate::group;
use crate::topic;

/// A Kafka error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code(pub(super) i16);

#[rustfmt::skip]
impl Code {
    pub(super) const UNKNOWN_SERVER_ERROR: Self = Self(-1);
    pub(super) const NONE: Self = Self(0);
    pub(super) const OFFSET_OUT_OF_RANGE: Self = Self(1);
    pub(super) const CORRUPT_MESSAGE: Self = Self(2);
    pub(super) const UNKNOWN_TOPIC_OR_PARTITION: Self = Self(3);
    pub(super) const NOT_LEADER_OR_FOLLOWER: Self = Self(6);
    pub(super) const MESSAGE_TOO_LARGE: Self = Self(10);
    pub(super) const OFFSET_METADATA_TOO_LARGE: Self = Self(12);
    pub(super) const COORDINATOR_LOAD_IN_PROGRESS: Self = Self(14);
    pub(super) const COORDINATOR_NOT_AVAILABLE: Self = Self(15);
    pub(super) const INVALID_TOPIC_EXCEPTION: Self = Self(17);
    pub(super) const RECORD_LIST_TOO_LARGE: Self = Self(18);
    pub(super) const NOT_ENOUGH_REPLICAS: Self = Self(19);
    pub(super) const INVALID_REQUIRED_ACKS: Self = Self(21);
    pub(super) const ILLEGAL_GENERATION: Self = Self(22);
    pub(super) const INCONSISTENT_GROUP_PROTOCOL: Self = Self(23);
    pub(super) const INVALID_GROUP_ID: Self = Self(24);
    pub(super) const UNKNOWN_MEMBER_ID: Self = Self(25);
    pub(super) const INVALID_SESSION_TIMEOUT: Self = Self(26);
    pub(super) const REBALANCE_IN_PROGRESS: Self = Self(27);
    pub(super) const INVALID_TIMESTAMP: Self = Self(32);
    pub(super) const UNSUPPORTED_VERSION: Self = Self(35);
    pub(super) const TOPIC_ALREADY_EXISTS: Self = Self(36);
    pub(super) const INVALID_PARTITIONS: Self = Self(37);
    pub(super) const INVALID_REPLICATION_FACTOR: Self = Self(38);
    pub(super) const INVALID_REPLICA_ASSIGNMENT: Self = Self(39);
    pub(super) const INVALID_CONFIG: Self = Self(40);
    pub(super) const INVALID_REQUEST: Self = Self(42);
    pub(super) const UNSUPPORTED_FOR_MESSAGE_FORMAT: Self = Self(43);
    pub(super) const POLICY_VIOLATION: Self = Self(44);
    pub(super) const OUT_OF_ORDER_SEQUENCE_NUMBER: Self = Self(45);
    pub(super) const INVALID_PRODUCER_EPOCH: Self = Self(47);
    pub(super) const INVALID_TXN_STATE: Self = Self(48);
    pub(super) const INVALID_TRANSACTION_TIMEOUT: Self = Self(50);
    pub(super) const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: Self = Self(53);
    pub(super) const SECURITY_DISABLED: Self = Self(54);
    pub(super) const KAFKA_STORAGE_ERROR: Self = Self(56);
    pub(super) const NON_EMPTY_GROUP: Self = Self(68);
    pub(super) const GROUP_ID_NOT_FOUND: Self = Self(69);
    pub(super) const FETCH_SESSION_ID_NOT_FOUND: Self = Self(70);
    pub(super) const TOPIC_DELETION_DISABLED: Self = Self(73);
    pub(super) const FENCED_LEADER_EPOCH: Self = Self(74);
    pub(super) const UNKNOWN_LEADER_EPOCH: Self = Self(75);
    pub(super) const UNSUPPORTED_COMPRESSION_TYPE: Self = Self(76);
    pub(super) const MEMBER_ID_REQUIRED: Self = Self(79);
    pub(super) const GROUP_MAX_SIZE_REACHED: Self = Self(81);
    pub(super) const FENCED_INSTANCE_ID: Self = Self(82);
    pub(super) const GROUP_SUBSCRIBED_TO_TOPIC: Self = Self(86);
    pub(super) const INVALID_RECORD: Self = Self(87);
    pub(super) const UNKNOWN_TOPIC_ID: Self = Self(100);
    pub(super) const MISMATCHED_ENDPOINT_TYPE: Self = Self(114);
    pub(super) const UNSUPPORTED_ENDPOINT_TYPE: Self = Self(115);
    pub(super) const REBOOTSTRAP_REQUIRED: Self = Self(129);
}

/// Longest message in a response, bytes: it may repeat what the client sent.
const MESSAGE_BYTES_MAX: usize = 1024;

/// A code with words for people, where the response has room for both.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) code: Code,
    /// Shared by its clones: one refusal may stand for each of 100,000 topics.
    message: StrBytes,
}

impl Refused {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        Self { code, message: StrBytes::from_string(message) }
    }

    /// The words, as response fields take them.
    pub(super) fn message(&self) -> Option<StrBytes> {
        Some(self.message.clone())
    }

    /// Error fields of a response: code and words, or no error.
    pub(super) fn fields<T>(outcome: &Result<T, Self>) -> (i16, Option<StrBytes>) {
        match outcome {
            Ok(_) => (Code::NONE.0, None),
            Err(refused) => (refused.code.0, refused.message()),
        }
    }
}

impl From<topic::Error> for Refused {
    fn from(error: topic::Error) -> Self {
        Self::new(of_topic(&error), error.to_string())
    }
}

/// What a topic or partition answered.
pub(super) fn of_topic(error: &topic::Error) -> Code {
    use topic::Error as E;
    match error {
        E::UnknownTopic | E::UnknownPartition => Code::UNKNOWN_TOPIC_OR_PARTITION,
        E::UnknownTopicId => Code::UNKNOWN_TOPIC_ID,
        E::TopicExists(_) => Code::TOPIC_ALREADY_EXISTS,
        E::InvalidName(_) => Code::INVALID_TOPIC_EXCEPTION,
        E::InvalidPartitions(_) => Code::INVALID_PARTITIONS,
        E::LimitReached(_) => Code::POLICY_VIOLATION,
        E::InvalidConfig(_) => Code::INVALID_CONFIG,
        E::OffsetOutOfRange { .. } => Code::OFFSET_OUT_OF_RANGE,
        E::Invalid(invalid) => of_batch(invalid),
        E::MissingKeys(_) => Code::INVALID_RECORD,
        E::TooLarge { .. } => Code::MESSAGE_TOO_LARGE,
        E::LargerThanSegment { .. } => Code::RECORD_LIST_TOO_LARGE,
        E::InvalidTimestamp { .. } => Code::INVALID_TIMESTAMP,
        E::OutOfSequence { .. } => Code::OUT_OF_ORDER_SEQUENCE_NUMBER,
        E::StaleProducerEpoch { .. } => Code::INVALID_PRODUCER_EPOCH,
        E::NoTransaction => Code::INVALID_TXN_STATE,
        E::FencedLeaderEpoch { .. } => Code::FENCED_LEADER_EPOCH,
        E::UnknownLeaderEpoch { .. } => Code::UNKNOWN_LEADER_EPOCH,
        E::UnknownShard(_) | E::InvalidReshard(_) => Code::INVALID_REQUEST,
        E::InUse(_) | E::Merged { .. } => Code::POLICY_VIOLATION,
        // Every client retries this one (law 8: never 89, which librdkafka takes for a loss).
        E::Throttled { .. } => Code::NOT_ENOUGH_REPLICAS,
        // What a Kafka that has just started answers of partitions that it has not loaded. Every client asks again for it without
        // a word to its user; 56 is an error to some (Sarama).
        E::Opening => Code::NOT_LEADER_OR_FOLLOWER,
        E::Storage(storage) => of_store(storage),
    }
}

/// What the group coordinator answered.
pub(super) fn of_group(error: &group::Error) -> Code {
    use group::Error as E;
    match error {
        E::UnknownMember => Code::UNKNOWN_MEMBER_ID,
        E::IllegalGeneration => Code::ILLEGAL_GENERATION,
        E::RebalanceInProgress => Code::REBALANCE_IN_PROGRESS,
        E::InconsistentProtocol => Code::INCONSISTENT_GROUP_PROTOCOL,
        E::InvalidSessionTimeout => Code::INVALID_SESSION_TIMEOUT,
        E::MemberIdRequired(_) => Code::MEMBER_ID_REQUIRED,
        E::FencedInstance => Code::FENCED_INSTANCE_ID,
        E::GroupMaxSizeReached => Code::GROUP_MAX_SIZE_REACHED,
        E::InvalidGroupId => Code::INVALID_GROUP_ID,
        E::NonEmptyGroup => Code::NON_EMPTY_GROUP,
        E::GroupIdNotFound => Code::GROUP_ID_NOT_FOUND,
        E::GroupSubscribedToTopic => Code::GROUP_SUBSCRIBED_TO_TOPIC,
        E::OffsetMetadataTooLarge => Code::OFFSET_METADATA_TOO_LARGE,
        E::CoordinatorLoading => Code::COORDINATOR_LOAD_IN_PROGRESS,
        // The log is fenced or full: clients look for the coordinator again, and come back.
        E::Storage => Code::COORDINATOR_NOT_AVAILABLE,
        E::InvalidRequest => Code::INVALID_REQUEST,
        // It passes, and every client looks again for a coordinator after a pause.
        E::CoordinatorFull => Code::COORDINATOR_NOT_AVAILABLE,
        E::UnknownTopic => Code::UNKNOWN_TOPIC_OR_PARTITION,
        // No client retries this one: somebody has to look.
        E::Unreadable => Code::KAFKA_STORAGE_ERROR,
    }
}

/// 0, or the code of the error.
pub(super) fn of_group_result<T>(result: &Result<T, group::Error>) -> Code {
    result.as_ref().map_or_else(of_group, |_| Code::NONE)
}

fn of_batch(invalid: &Invalid) -> Code {
    match invalid {
        Invalid::Corrupt(_) => Code::CORRUPT_MESSAGE,
        Invalid::Record(_) => Code::INVALID_RECORD,
        Invalid::Magic(_) => Code::UNSUPPORTED_FOR_MESSAGE_FORMAT,
        Invalid::Codec(_) => Code::UNSUPPORTED_COMPRESSION_TYPE,
    }
}

fn of_store(error: &StoreError) -> Code {
    match error {
        StoreError::Corrupt { .. } | StoreError::Damaged { .. } => Code::CORRUPT_MESSAGE,
        StoreError::OutOfRange { .. } => Code::OFFSET_OUT_OF_RANGE,
        StoreError::Deleted => Code::UNKNOWN_TOPIC_OR_PARTITION,
        StoreError::Io { .. } | StoreError::Full { .. } | StoreError::Fenced | StoreError::Refused(_) => {
            Code::KAFKA_STORAGE_ERROR
        }
    }
}
