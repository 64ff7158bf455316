//! The Kinesis dialect of every domain error, and the door's own refusals: name, status and text.
//!
//! One exhaustive match per room, as in the Kafka door. Texts follow the service where somebody recorded them.
//! Source of names and statuses: the service model of botocore 1.44.5, the service's page of common errors.

use std::borrow::Cow;

use super::stream::{Place, shard_id};
use crate::batch::Invalid;
use crate::broker::StoreError;
use crate::topic::{self, Limit};

/// Longest text of an answer, bytes: it may repeat what the client sent.
const MESSAGE_BYTES_MAX: usize = 16_384;

/// The name of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    AccessDenied,
    DryRun,
    ExpiredIterator,
    ExpiredNextToken,
    IncompleteSignature,
    InternalFailure,
    InvalidArgument,
    InvalidSignature,
    LimitExceeded,
    MissingAuthentication,
    RequestTimeout,
    RequestTooLarge,
    ResourceInUse,
    ResourceNotFound,
    Serialization,
    ThroughputExceeded,
    Unavailable,
    UnknownOperation,
    UnrecognizedClient,
    Validation,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AccessDenied => "AccessDeniedException",
            Self::DryRun => "DryRunOperationException",
            Self::ExpiredIterator => "ExpiredIteratorException",
            Self::ExpiredNextToken => "ExpiredNextTokenException",
            Self::IncompleteSignature => "IncompleteSignatureException",
            Self::InternalFailure => "InternalFailureException",
            Self::InvalidArgument => "InvalidArgumentException",
            Self::InvalidSignature => "InvalidSignatureException",
            Self::LimitExceeded => "LimitExceededException",
            Self::MissingAuthentication => "MissingAuthenticationTokenException",
            Self::RequestTimeout => "RequestTimeoutException",
            Self::RequestTooLarge => "RequestEntityTooLargeException",
            Self::ResourceInUse => "ResourceInUseException",
            Self::ResourceNotFound => "ResourceNotFoundException",
            Self::Serialization => "SerializationException",
            Self::ThroughputExceeded => "ProvisionedThroughputExceededException",
            Self::Unavailable => "ServiceUnavailableException",
            Self::UnknownOperation => "UnknownOperationException",
            Self::UnrecognizedClient => "UnrecognizedClientException",
            Self::Validation => "ValidationException",
        }
    }

    pub(super) fn status(self) -> u16 {
        match self {
            Self::AccessDenied
            | Self::IncompleteSignature
            | Self::InvalidSignature
            | Self::UnrecognizedClient => 403,
            Self::RequestTimeout => 408,
            Self::RequestTooLarge => 413,
            Self::InternalFailure => 500,
            Self::Unavailable => 503,
            _ => 400,
        }
    }
}

/// What a client is told instead of an answer.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) message: Cow<'static, str>,
}

impl Fault {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        Self { kind, message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::InvalidArgument, message)
    }

    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::new(Kind::Validation, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::ResourceNotFound, message)
    }

    pub(super) fn in_use(message: impl Into<String>) -> Self {
        Self::new(Kind::ResourceInUse, message)
    }

    pub(super) fn limit(message: impl Into<String>) -> Self {
        Self::new(Kind::LimitExceeded, message)
    }

    pub(super) fn internal() -> Self {
        Self::new(Kind::InternalFailure, "The request processing has failed because of an unknown error.")
    }
}

/// What the core answered about a stream.
pub(super) fn of_topic(error: &topic::Error, place: &Place<'_>) -> Fault {
    use topic::Error as E;
    let Place { stream, account, .. } = place;
    match error {
        E::UnknownTopic | E::UnknownTopicId => {
            Fault::not_found(format!("Stream {stream} under account {account} not found."))
        }
        E::UnknownPartition => Fault::not_found(format!(
            "Could not find shard {} in stream {stream} under account {account}.",
            place.shard_id()
        )),
        E::TopicExists(_) => {
            Fault::in_use(format!("Stream {stream} under account {account} already exists."))
        }
        E::LimitReached(why) => Fault::limit(why.clone()),
        E::InvalidName(why)
        | E::InvalidPartitions(why)
        | E::InvalidConfig(why)
        | E::InvalidTimestamp { why, .. } => Fault::invalid(why.clone()),
        E::TooLarge { .. } | E::LargerThanSegment { .. } | E::MissingKeys(_) => {
            Fault::invalid(error.to_string())
        }
        // Of an iterator; the log behind it has lost its end.
        E::OffsetOutOfRange { .. } => Fault::invalid(format!(
            "Invalid ShardIterator. It is beyond the end of shard {} in stream {stream} under account {account}.",
            place.shard_id()
        )),
        E::Invalid(Invalid::Corrupt(_) | Invalid::Record(_) | Invalid::Magic(_) | Invalid::Codec(_)) => {
            Fault::internal()
        }
        // Of Kafka producers alone; a put has neither id nor epoch.
        E::OutOfSequence { .. }
        | E::StaleProducerEpoch { .. }
        | E::NoTransaction
        | E::FencedLeaderEpoch { .. }
        | E::UnknownLeaderEpoch { .. } => Fault::internal(),
        E::UnknownShard(id) => Fault::not_found(format!(
            "Could not find shard {} in stream {stream} under account {account}.",
            shard_id(*id)
        )),
        E::InvalidReshard(why) => Fault::invalid(why.clone()),
        E::InUse(why) => Fault::in_use(why.clone()),
        E::Merged { .. } => Fault::internal(),
        E::Throttled { limit, .. } => throttled(*limit, place),
        E::Opening => Fault::new(Kind::Unavailable, "The shard is being opened."),
        E::Storage(storage) => of_store(storage),
    }
}

/// The texts that SDKs and their users know.
fn throttled(limit: Limit, place: &Place<'_>) -> Fault {
    let Place { stream, account, .. } = place;
    let shard = place.shard_id();
    let text = match limit {
        Limit::WriteBytes | Limit::WriteRecords => {
            format!("Rate exceeded for shard {shard} in stream {stream} under account {account}.")
        }
        Limit::ReadBytes | Limit::ReadCalls => {
            format!("Rate exceeded for Shard - {account}/{stream}/{shard}")
        }
    };
    Fault::new(Kind::ThroughputExceeded, text)
}

fn of_store(error: &StoreError) -> Fault {
    match error {
        StoreError::Full { .. } | StoreError::Fenced => Fault::new(
            Kind::InternalFailure,
            "The log takes no records: its disk is full or a write to it failed.",
        ),
        StoreError::Io { .. }
        | StoreError::Corrupt { .. }
        // The topic room says "no such partition" instead.
        | StoreError::Deleted
        | StoreError::Damaged { .. }
        | StoreError::OutOfRange { .. }
        | StoreError::Refused(_) => Fault::internal(),
    }
}
