//! Request schemas of data and its offsets, every version that Kafka 3.9 or 4.4 reads.
//!
//! Invariant: fields stand in wire order; the vocabulary is in `field.rs`.
//! Deliberately absent: responses, defaults, and what a field means.
//! Source: the message definitions (`common/message/*Request.json`) of kafka-clients 3.9.1 and 4.4.0.

use crate::kafka::schema::field::{
    Api, INT32, array, boolean, int8, int16, int32, int64, list, object, records, string, uuid,
};

pub(super) static PRODUCE: Api = Api {
    key: 0,
    name: "Produce",
    versions: 0..=13,
    flexible: 9,
    fields: &[
        string("transactional_id").since(3).null_from(3),
        int16("acks"),
        int32("timeout_ms"),
        list(
            "topic_data",
            &[
                string("name").until(12),
                uuid("topic_id").since(13),
                list("partition_data", &[int32("index"), records("records").null_from(0)]),
            ],
        ),
    ],
};

pub(super) static FETCH: Api = Api {
    key: 1,
    name: "Fetch",
    versions: 0..=18,
    flexible: 12,
    fields: &[
        string("cluster_id").tag(0).since(12).null_from(12),
        int32("replica_id").until(14),
        object("replica_state", &[int32("replica_id"), int64("replica_epoch")]).tag(1).since(15),
        int32("max_wait_ms"),
        int32("min_bytes"),
        int32("max_bytes").since(3),
        int8("isolation_level").since(4),
        int32("session_id").since(7),
        int32("session_epoch").since(7),
        list(
            "topics",
            &[
                string("topic").until(12),
                uuid("topic_id").since(13),
                list(
                    "partitions",
                    &[
                        int32("partition"),
                        int32("current_leader_epoch").since(9),
                        int64("fetch_offset"),
                        int32("last_fetched_epoch").since(12),
                        int64("log_start_offset").since(5),
                        int32("partition_max_bytes"),
                        uuid("replica_directory_id").tag(0).since(17),
                        int64("high_watermark").tag(1).since(18),
                    ],
                ),
            ],
        ),
        list(
            "forgotten_topics_data",
            &[string("topic").until(12), uuid("topic_id").since(13), array("partitions", &INT32)],
        )
        .since(7),
        string("rack_id").since(11),
    ],
};

pub(super) static LIST_OFFSETS: Api = Api {
    key: 2,
    name: "ListOffsets",
    versions: 0..=11,
    flexible: 6,
    fields: &[
        int32("replica_id"),
        int8("isolation_level").since(2),
        list(
            "topics",
            &[
                string("name"),
                list(
                    "partitions",
                    &[
                        int32("partition_index"),
                        int32("current_leader_epoch").since(4),
                        int64("timestamp"),
                        int32("max_num_offsets").until(0),
                    ],
                ),
            ],
        ),
        int32("timeout_ms").since(10),
    ],
};

pub(super) static METADATA: Api = Api {
    key: 3,
    name: "Metadata",
    versions: 0..=13,
    flexible: 9,
    fields: &[
        list("topics", &[uuid("topic_id").since(10), string("name").null_from(10)]).null_from(1),
        boolean("allow_auto_topic_creation").since(4),
        boolean("include_cluster_authorized_operations").since(8).until(10),
        boolean("include_topic_authorized_operations").since(8),
    ],
};

pub(super) static DELETE_RECORDS: Api = Api {
    key: 21,
    name: "DeleteRecords",
    versions: 0..=2,
    flexible: 2,
    fields: &[
        list("topics", &[string("name"), list("partitions", &[int32("partition_index"), int64("offset")])]),
        int32("timeout_ms"),
    ],
};

pub(super) static OFFSET_FOR_LEADER_EPOCH: Api = Api {
    key: 23,
    name: "OffsetForLeaderEpoch",
    versions: 0..=4,
    flexible: 4,
    fields: &[
        int32("replica_id").since(3),
        list(
            "topics",
            &[
                string("topic"),
                list(
                    "partitions",
                    &[int32("partition"), int32("current_leader_epoch").since(2), int32("leader_epoch")],
                ),
            ],
        ),
    ],
};

pub(super) static DESCRIBE_PRODUCERS: Api = Api {
    key: 61,
    name: "DescribeProducers",
    versions: 0..=0,
    flexible: 0,
    fields: &[list("topics", &[string("name"), array("partition_indexes", &INT32)])],
};

pub(super) static DESCRIBE_TOPIC_PARTITIONS: Api = Api {
    key: 75,
    name: "DescribeTopicPartitions",
    versions: 0..=0,
    flexible: 0,
    fields: &[
        list("topics", &[string("name")]),
        int32("response_partition_limit"),
        object("cursor", &[string("topic_name"), int32("partition_index")]).null_from(0),
    ],
};
