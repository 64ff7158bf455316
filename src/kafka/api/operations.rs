//! What a client may do to a resource (KIP-430), as bit sets of apache/kafka AclOperation.java.
//!
//! There is no authorizer: whoever asks may do all that can be done to a resource of its kind, as in Apache Kafka.
//! Deliberately absent: ACLs.

const READ: i32 = 1 << 3;
const WRITE: i32 = 1 << 4;
const CREATE: i32 = 1 << 5;
const DELETE: i32 = 1 << 6;
const ALTER: i32 = 1 << 7;
const DESCRIBE: i32 = 1 << 8;
const CLUSTER_ACTION: i32 = 1 << 9;
const DESCRIBE_CONFIGS: i32 = 1 << 10;
const ALTER_CONFIGS: i32 = 1 << 11;
const IDEMPOTENT_WRITE: i32 = 1 << 12;

/// Of a topic.
pub(super) const TOPIC: i32 =
    READ | WRITE | CREATE | DELETE | ALTER | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;
/// Of a consumer group.
pub(super) const GROUP: i32 = READ | DELETE | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;
/// Of the cluster.
pub(super) const CLUSTER: i32 =
    CREATE | ALTER | DESCRIBE | CLUSTER_ACTION | DESCRIBE_CONFIGS | ALTER_CONFIGS | IDEMPOTENT_WRITE;

/// "Not asked for", also in the default of the fields.
pub(super) const UNASKED: i32 = i32::MIN;

/// All of them where they are asked for.
pub(super) fn when(asked: bool, all: i32) -> i32 {
    if asked { all } else { UNASKED }
}
