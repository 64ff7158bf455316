//! One member of a classic group: what it can do, what it holds, whom it keeps waiting.
//!
//! Invariant: at most one join and one sync wait at a time.

use bytes::Bytes;

use super::event::{DescribedMember, JoinedMember, MEMBER_BYTES, MEMBER_NAMES, RECORD_BYTES, State, Token};
use super::journal::MemberValue;
use super::protocols::Protocols;

#[derive(Debug)]
pub(super) struct Member {
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub protocols: Protocols,
    pub assignment: Bytes,
    pub awaiting_join: Option<Token>,
    pub awaiting_sync: Option<Token>,
    /// Its first join has not completed: it may expire although it waits.
    pub is_new: bool,
    /// `i64::MAX` while a waiting request stands for the heartbeat.
    pub expires_ms: i64,
}

impl Member {
    /// A loaded member knows the one protocol that was chosen.
    pub fn from_journal(value: &MemberValue, protocol: &str) -> Self {
        Self {
            instance_id: value.instance_id.clone(),
            client_id: value.client_id.clone(),
            client_host: value.client_host.clone(),
            rebalance_timeout_ms: value.rebalance_timeout_ms,
            session_timeout_ms: value.session_timeout_ms,
            protocols: Protocols::new(vec![(protocol.to_owned(), value.subscription.clone())]),
            assignment: value.assignment.clone(),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
            expires_ms: i64::MAX,
        }
    }

    pub fn to_journal(&self, member_id: &str, protocol: &str, assignment: Bytes) -> MemberValue {
        MemberValue {
            member_id: member_id.to_owned(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.subscription(protocol),
            assignment,
        }
    }

    /// What it takes under that id, its part of the group's record included.
    pub fn bytes(&self, member_id: &str) -> usize {
        let instance = self.instance_id.as_ref().map_or(0, String::len);
        let names =
            MEMBER_NAMES * member_id.len() + 2 * instance + self.client_id.len() + self.client_host.len();
        let own = MEMBER_BYTES + names + self.protocols.bytes() + self.assignment.len();
        own + self.record_bytes(member_id)
    }

    /// What its part of the group's record takes, at most.
    pub fn record_bytes(&self, member_id: &str) -> usize {
        let instance = self.instance_id.as_ref().map_or(0, String::len);
        let names = member_id.len() + instance + self.client_id.len() + self.client_host.len();
        RECORD_BYTES + names + self.protocols.largest() + self.assignment.len()
    }

    pub fn subscription(&self, protocol: &str) -> Bytes {
        self.protocols.subscription(protocol)
    }

    /// A request in flight stands for the heartbeat, except for a member that never got in.
    pub fn is_excused(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }

    pub fn joined(&self, member_id: &str, protocol: &str) -> JoinedMember {
        JoinedMember {
            member_id: member_id.to_owned(),
            instance_id: self.instance_id.clone(),
            metadata: self.subscription(protocol),
        }
    }

    pub fn described(&self, member_id: &str, state: State, protocol: &str) -> DescribedMember {
        DescribedMember {
            member_id: member_id.to_owned(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            metadata: if state == State::Stable { self.subscription(protocol) } else { Bytes::new() },
            assignment: self.assignment.clone(),
        }
    }
}
