//! Request schemas of consumer groups and their offsets, every version that Kafka 3.9 or 4.4 reads.
//!
//! Invariant: fields stand in wire order; the vocabulary is in `field.rs`.
//! Deliberately absent: responses, defaults, and what a field means.
//! Source: the message definitions (`common/message/*Request.json`) of kafka-clients 3.9.1 and 4.4.0.

use crate::kafka::schema::field::{
    Api, INT32, NEVER, STRING, array, boolean, bytes, int8, int32, int64, list, string, uuid,
};

pub(super) static OFFSET_COMMIT: Api = Api {
    key: 8,
    name: "OffsetCommit",
    versions: 0..=10,
    flexible: 8,
    fields: &[
        string("group_id"),
        int32("generation_id_or_member_epoch").since(1),
        string("member_id").since(1),
        string("group_instance_id").since(7).null_from(7),
        int64("retention_time_ms").since(2).until(4),
        list(
            "topics",
            &[
                string("name").until(9),
                uuid("topic_id").since(10),
                list(
                    "partitions",
                    &[
                        int32("partition_index"),
                        int64("committed_offset"),
                        int32("committed_leader_epoch").since(6),
                        int64("commit_timestamp").since(1).until(1),
                        string("committed_metadata").null_from(0),
                    ],
                ),
            ],
        ),
    ],
};

pub(super) static OFFSET_FETCH: Api = Api {
    key: 9,
    name: "OffsetFetch",
    versions: 0..=10,
    flexible: 6,
    fields: &[
        string("group_id").until(7),
        list("topics", &[string("name"), array("partition_indexes", &INT32)]).until(7).null_from(2),
        list(
            "groups",
            &[
                string("group_id"),
                string("member_id").since(9).null_from(9),
                int32("member_epoch").since(9),
                list(
                    "topics",
                    &[
                        string("name").until(9),
                        uuid("topic_id").since(10),
                        array("partition_indexes", &INT32),
                    ],
                )
                .null_from(8),
            ],
        )
        .since(8),
        boolean("require_stable").since(7),
    ],
};

pub(super) static FIND_COORDINATOR: Api = Api {
    key: 10,
    name: "FindCoordinator",
    versions: 0..=6,
    flexible: 3,
    fields: &[string("key").until(3), int8("key_type").since(1), array("coordinator_keys", &STRING).since(4)],
};

pub(super) static JOIN_GROUP: Api = Api {
    key: 11,
    name: "JoinGroup",
    versions: 0..=9,
    flexible: 6,
    fields: &[
        string("group_id"),
        int32("session_timeout_ms"),
        int32("rebalance_timeout_ms").since(1),
        string("member_id"),
        string("group_instance_id").since(5).null_from(5),
        string("protocol_type"),
        list("protocols", &[string("name"), bytes("metadata")]),
        string("reason").since(8).null_from(8),
    ],
};

pub(super) static HEARTBEAT: Api = Api {
    key: 12,
    name: "Heartbeat",
    versions: 0..=4,
    flexible: 4,
    fields: &[
        string("group_id"),
        int32("generation_id"),
        string("member_id"),
        string("group_instance_id").since(3).null_from(3),
    ],
};

pub(super) static LEAVE_GROUP: Api = Api {
    key: 13,
    name: "LeaveGroup",
    versions: 0..=5,
    flexible: 4,
    fields: &[
        string("group_id"),
        string("member_id").until(2),
        list(
            "members",
            &[
                string("member_id"),
                string("group_instance_id").null_from(3),
                string("reason").since(5).null_from(5),
            ],
        )
        .since(3),
    ],
};

pub(super) static SYNC_GROUP: Api = Api {
    key: 14,
    name: "SyncGroup",
    versions: 0..=5,
    flexible: 4,
    fields: &[
        string("group_id"),
        int32("generation_id"),
        string("member_id"),
        string("group_instance_id").since(3).null_from(3),
        string("protocol_type").since(5).null_from(5),
        string("protocol_name").since(5).null_from(5),
        list("assignments", &[string("member_id"), bytes("assignment")]),
    ],
};

pub(super) static DESCRIBE_GROUPS: Api = Api {
    key: 15,
    name: "DescribeGroups",
    versions: 0..=6,
    flexible: 5,
    fields: &[array("groups", &STRING), boolean("include_authorized_operations").since(3)],
};

pub(super) static LIST_GROUPS: Api = Api {
    key: 16,
    name: "ListGroups",
    versions: 0..=5,
    flexible: 3,
    fields: &[array("states_filter", &STRING).since(4), array("types_filter", &STRING).since(5)],
};

pub(super) static DELETE_GROUPS: Api = Api {
    key: 42,
    name: "DeleteGroups",
    versions: 0..=3,
    flexible: 2,
    fields: &[array("groups_names", &STRING)],
};

pub(super) static OFFSET_DELETE: Api = Api {
    key: 47,
    name: "OffsetDelete",
    versions: 0..=0,
    flexible: NEVER,
    fields: &[
        string("group_id"),
        list("topics", &[string("name"), list("partitions", &[int32("partition_index")])]),
    ],
};

pub(super) static CONSUMER_GROUP_HEARTBEAT: Api = Api {
    key: 68,
    name: "ConsumerGroupHeartbeat",
    versions: 0..=1,
    flexible: 0,
    fields: &[
        string("group_id"),
        string("member_id"),
        int32("member_epoch"),
        string("instance_id").null_from(0),
        string("rack_id").null_from(0),
        int32("rebalance_timeout_ms"),
        array("subscribed_topic_names", &STRING).null_from(0),
        string("subscribed_topic_regex").since(1).null_from(1),
        string("server_assignor").null_from(0),
        list("topic_partitions", &[uuid("topic_id"), array("partitions", &INT32)]).null_from(0),
    ],
};

pub(super) static CONSUMER_GROUP_DESCRIBE: Api = Api {
    key: 69,
    name: "ConsumerGroupDescribe",
    versions: 0..=1,
    flexible: 0,
    fields: &[array("group_ids", &STRING), boolean("include_authorized_operations")],
};
