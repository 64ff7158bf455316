//! Request schemas of idempotent producers and transactions, every version that Kafka 3.9 or 4.4 reads.
//!
//! Invariant: fields stand in wire order; the vocabulary is in `field.rs`.
//! Deliberately absent: responses, defaults, and what a field means.
//! Source: the message definitions (`common/message/*Request.json`) of kafka-clients 3.9.1 and 4.4.0.

use crate::kafka::schema::field::{
    Api, INT32, INT64, STRING, array, boolean, int16, int32, int64, list, string, uuid,
};

pub(super) static INIT_PRODUCER_ID: Api = Api {
    key: 22,
    name: "InitProducerId",
    versions: 0..=6,
    flexible: 2,
    fields: &[
        string("transactional_id").null_from(0),
        int32("transaction_timeout_ms"),
        int64("producer_id").since(3),
        int16("producer_epoch").since(3),
        boolean("enable_2pc").since(6),
        boolean("keep_prepared_txn").since(6),
    ],
};

pub(super) static ADD_PARTITIONS_TO_TXN: Api = Api {
    key: 24,
    name: "AddPartitionsToTxn",
    versions: 0..=5,
    flexible: 3,
    fields: &[
        list(
            "transactions",
            &[
                string("transactional_id"),
                int64("producer_id"),
                int16("producer_epoch"),
                boolean("verify_only"),
                list("topics", &[string("name"), array("partitions", &INT32)]),
            ],
        )
        .since(4),
        string("v3_and_below_transactional_id").until(3),
        int64("v3_and_below_producer_id").until(3),
        int16("v3_and_below_producer_epoch").until(3),
        list("v3_and_below_topics", &[string("name"), array("partitions", &INT32)]).until(3),
    ],
};

pub(super) static ADD_OFFSETS_TO_TXN: Api = Api {
    key: 25,
    name: "AddOffsetsToTxn",
    versions: 0..=4,
    flexible: 3,
    fields: &[string("transactional_id"), int64("producer_id"), int16("producer_epoch"), string("group_id")],
};

pub(super) static END_TXN: Api = Api {
    key: 26,
    name: "EndTxn",
    versions: 0..=5,
    flexible: 3,
    fields: &[
        string("transactional_id"),
        int64("producer_id"),
        int16("producer_epoch"),
        boolean("committed"),
    ],
};

pub(super) static TXN_OFFSET_COMMIT: Api = Api {
    key: 28,
    name: "TxnOffsetCommit",
    versions: 0..=6,
    flexible: 3,
    fields: &[
        string("transactional_id"),
        string("group_id"),
        int64("producer_id"),
        int16("producer_epoch"),
        int32("generation_id_or_member_epoch").since(3),
        string("member_id").since(3),
        string("group_instance_id").since(3).null_from(3),
        list(
            "topics",
            &[
                string("name").until(5),
                uuid("topic_id").since(6),
                list(
                    "partitions",
                    &[
                        int32("partition_index"),
                        int64("committed_offset"),
                        int32("committed_leader_epoch").since(2),
                        string("committed_metadata").null_from(0),
                    ],
                ),
            ],
        ),
    ],
};

pub(super) static DESCRIBE_TRANSACTIONS: Api = Api {
    key: 65,
    name: "DescribeTransactions",
    versions: 0..=0,
    flexible: 0,
    fields: &[array("transactional_ids", &STRING)],
};

pub(super) static LIST_TRANSACTIONS: Api = Api {
    key: 66,
    name: "ListTransactions",
    versions: 0..=2,
    flexible: 0,
    fields: &[
        array("state_filters", &STRING),
        array("producer_id_filters", &INT64),
        int64("duration_filter").since(1),
        string("transactional_id_pattern").since(2).null_from(2),
    ],
};
