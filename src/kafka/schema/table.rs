//! The request schemas by API key: one constant array, one lookup.
//!
//! Owns: which APIs and versions can be walked. That is more than what is served: the API table of the
//! door decides what is advertised, and it can only name versions that stand here.
//! Invariant: a key appears once; `versions` never exceeds what the fields describe.
//! Deliberately absent: inter-broker APIs, share and streams groups, responses.

mod admin;
mod data;
mod groups;
mod session;
mod transactions;

use super::field::Api;
use admin::{
    ALTER_CLIENT_QUOTAS, ALTER_CONFIGS, ALTER_PARTITION_REASSIGNMENTS, ALTER_REPLICA_LOG_DIRS,
    ALTER_USER_SCRAM_CREDENTIALS, CREATE_ACLS, CREATE_PARTITIONS, CREATE_TOPICS, DELETE_ACLS, DELETE_TOPICS,
    DESCRIBE_ACLS, DESCRIBE_CLIENT_QUOTAS, DESCRIBE_CLUSTER, DESCRIBE_CONFIGS, DESCRIBE_LOG_DIRS,
    DESCRIBE_QUORUM, DESCRIBE_USER_SCRAM_CREDENTIALS, ELECT_LEADERS, INCREMENTAL_ALTER_CONFIGS,
    LIST_CONFIG_RESOURCES, LIST_PARTITION_REASSIGNMENTS, UPDATE_FEATURES,
};
use data::{
    DELETE_RECORDS, DESCRIBE_PRODUCERS, DESCRIBE_TOPIC_PARTITIONS, FETCH, LIST_OFFSETS, METADATA,
    OFFSET_FOR_LEADER_EPOCH, PRODUCE,
};
use groups::{
    CONSUMER_GROUP_DESCRIBE, CONSUMER_GROUP_HEARTBEAT, DELETE_GROUPS, DESCRIBE_GROUPS, FIND_COORDINATOR,
    HEARTBEAT, JOIN_GROUP, LEAVE_GROUP, LIST_GROUPS, OFFSET_COMMIT, OFFSET_DELETE, OFFSET_FETCH, SYNC_GROUP,
};
use session::{API_VERSIONS, GET_TELEMETRY_SUBSCRIPTIONS, PUSH_TELEMETRY, SASL_AUTHENTICATE, SASL_HANDSHAKE};
use transactions::{
    ADD_OFFSETS_TO_TXN, ADD_PARTITIONS_TO_TXN, DESCRIBE_TRANSACTIONS, END_TXN, INIT_PRODUCER_ID,
    LIST_TRANSACTIONS, TXN_OFFSET_COMMIT,
};

/// Highest API key with a schema, plus one.
const KEYS: usize = 76;

static ALL: [&Api; 55] = [
    &PRODUCE,
    &FETCH,
    &LIST_OFFSETS,
    &METADATA,
    &OFFSET_COMMIT,
    &OFFSET_FETCH,
    &FIND_COORDINATOR,
    &JOIN_GROUP,
    &HEARTBEAT,
    &LEAVE_GROUP,
    &SYNC_GROUP,
    &DESCRIBE_GROUPS,
    &LIST_GROUPS,
    &SASL_HANDSHAKE,
    &API_VERSIONS,
    &CREATE_TOPICS,
    &DELETE_TOPICS,
    &DELETE_RECORDS,
    &INIT_PRODUCER_ID,
    &OFFSET_FOR_LEADER_EPOCH,
    &ADD_PARTITIONS_TO_TXN,
    &ADD_OFFSETS_TO_TXN,
    &END_TXN,
    &TXN_OFFSET_COMMIT,
    &DESCRIBE_ACLS,
    &CREATE_ACLS,
    &DELETE_ACLS,
    &DESCRIBE_CONFIGS,
    &ALTER_CONFIGS,
    &ALTER_REPLICA_LOG_DIRS,
    &DESCRIBE_LOG_DIRS,
    &SASL_AUTHENTICATE,
    &CREATE_PARTITIONS,
    &DELETE_GROUPS,
    &ELECT_LEADERS,
    &INCREMENTAL_ALTER_CONFIGS,
    &ALTER_PARTITION_REASSIGNMENTS,
    &LIST_PARTITION_REASSIGNMENTS,
    &OFFSET_DELETE,
    &DESCRIBE_CLIENT_QUOTAS,
    &ALTER_CLIENT_QUOTAS,
    &DESCRIBE_USER_SCRAM_CREDENTIALS,
    &ALTER_USER_SCRAM_CREDENTIALS,
    &DESCRIBE_QUORUM,
    &UPDATE_FEATURES,
    &DESCRIBE_CLUSTER,
    &DESCRIBE_PRODUCERS,
    &DESCRIBE_TRANSACTIONS,
    &LIST_TRANSACTIONS,
    &CONSUMER_GROUP_HEARTBEAT,
    &CONSUMER_GROUP_DESCRIBE,
    &GET_TELEMETRY_SUBSCRIPTIONS,
    &PUSH_TELEMETRY,
    &LIST_CONFIG_RESOURCES,
    &DESCRIBE_TOPIC_PARTITIONS,
];

static BY_KEY: [Option<&Api>; KEYS] = by_key();

/// Spreads [`ALL`] over its keys, so that a lookup is one load.
#[allow(clippy::indexing_slicing, reason = "evaluated at compile time: a wrong index does not build")]
#[allow(clippy::cast_sign_loss, reason = "keys of the table are not negative")]
const fn by_key() -> [Option<&'static Api>; KEYS] {
    let mut table: [Option<&'static Api>; KEYS] = [None; KEYS];
    let mut i = 0;
    while i < ALL.len() {
        let key = ALL[i].key as usize;
        assert!(table[key].is_none(), "an API key stands twice in the table");
        table[key] = Some(ALL[i]);
        i += 1;
    }
    table
}

/// The schema of an API, if the table has one.
pub(super) fn of(api_key: i16) -> Option<&'static Api> {
    *BY_KEY.get(usize::try_from(api_key).ok()?)?
}

/// Every schema, ascending by key.
#[cfg(test)]
pub(super) fn all() -> &'static [&'static Api] {
    &ALL
}
