//! Request schemas of topics, configs, quotas, access and the cluster, every version that Kafka 3.9 or 4.4 reads.
//!
//! Invariant: fields stand in wire order; the vocabulary is in `field.rs`.
//! Deliberately absent: responses, defaults, and what a field means.
//! Source: the message definitions (`common/message/*Request.json`) of kafka-clients 3.9.1 and 4.4.0.

use crate::kafka::schema::field::{
    Api, INT8, INT32, STRING, array, boolean, bytes, float64, int8, int16, int32, list, string, uuid,
};

pub(super) static CREATE_TOPICS: Api = Api {
    key: 19,
    name: "CreateTopics",
    versions: 0..=7,
    flexible: 5,
    fields: &[
        list(
            "topics",
            &[
                string("name"),
                int32("num_partitions"),
                int16("replication_factor"),
                list("assignments", &[int32("partition_index"), array("broker_ids", &INT32)]),
                list("configs", &[string("name"), string("value").null_from(0)]),
            ],
        ),
        int32("timeout_ms"),
        boolean("validate_only").since(1),
    ],
};

pub(super) static DELETE_TOPICS: Api = Api {
    key: 20,
    name: "DeleteTopics",
    versions: 0..=6,
    flexible: 4,
    fields: &[
        list("topics", &[string("name").null_from(6), uuid("topic_id")]).since(6),
        array("topic_names", &STRING).until(5),
        int32("timeout_ms"),
    ],
};

pub(super) static DESCRIBE_ACLS: Api = Api {
    key: 29,
    name: "DescribeAcls",
    versions: 0..=3,
    flexible: 2,
    fields: &[
        int8("resource_type_filter"),
        string("resource_name_filter").null_from(0),
        int8("pattern_type_filter").since(1),
        string("principal_filter").null_from(0),
        string("host_filter").null_from(0),
        int8("operation"),
        int8("permission_type"),
    ],
};

pub(super) static CREATE_ACLS: Api = Api {
    key: 30,
    name: "CreateAcls",
    versions: 0..=3,
    flexible: 2,
    fields: &[list(
        "creations",
        &[
            int8("resource_type"),
            string("resource_name"),
            int8("resource_pattern_type").since(1),
            string("principal"),
            string("host"),
            int8("operation"),
            int8("permission_type"),
        ],
    )],
};

pub(super) static DELETE_ACLS: Api = Api {
    key: 31,
    name: "DeleteAcls",
    versions: 0..=3,
    flexible: 2,
    fields: &[list(
        "filters",
        &[
            int8("resource_type_filter"),
            string("resource_name_filter").null_from(0),
            int8("pattern_type_filter").since(1),
            string("principal_filter").null_from(0),
            string("host_filter").null_from(0),
            int8("operation"),
            int8("permission_type"),
        ],
    )],
};

pub(super) static DESCRIBE_CONFIGS: Api = Api {
    key: 32,
    name: "DescribeConfigs",
    versions: 0..=4,
    flexible: 4,
    fields: &[
        list(
            "resources",
            &[
                int8("resource_type"),
                string("resource_name"),
                array("configuration_keys", &STRING).null_from(0),
            ],
        ),
        boolean("include_synonyms").since(1),
        boolean("include_documentation").since(3),
    ],
};

pub(super) static ALTER_CONFIGS: Api = Api {
    key: 33,
    name: "AlterConfigs",
    versions: 0..=2,
    flexible: 2,
    fields: &[
        list(
            "resources",
            &[
                int8("resource_type"),
                string("resource_name"),
                list("configs", &[string("name"), string("value").null_from(0)]),
            ],
        ),
        boolean("validate_only"),
    ],
};

pub(super) static ALTER_REPLICA_LOG_DIRS: Api = Api {
    key: 34,
    name: "AlterReplicaLogDirs",
    versions: 0..=2,
    flexible: 2,
    fields: &[list(
        "dirs",
        &[string("path"), list("topics", &[string("name"), array("partitions", &INT32)])],
    )],
};

pub(super) static DESCRIBE_LOG_DIRS: Api = Api {
    key: 35,
    name: "DescribeLogDirs",
    versions: 0..=5,
    flexible: 2,
    fields: &[list("topics", &[string("topic"), array("partitions", &INT32)]).null_from(0)],
};

pub(super) static CREATE_PARTITIONS: Api = Api {
    key: 37,
    name: "CreatePartitions",
    versions: 0..=3,
    flexible: 2,
    fields: &[
        list(
            "topics",
            &[
                string("name"),
                int32("count"),
                list("assignments", &[array("broker_ids", &INT32)]).null_from(0),
            ],
        ),
        int32("timeout_ms"),
        boolean("validate_only"),
    ],
};

pub(super) static ELECT_LEADERS: Api = Api {
    key: 43,
    name: "ElectLeaders",
    versions: 0..=2,
    flexible: 2,
    fields: &[
        int8("election_type").since(1),
        list("topic_partitions", &[string("topic"), array("partitions", &INT32)]).null_from(0),
        int32("timeout_ms"),
    ],
};

pub(super) static INCREMENTAL_ALTER_CONFIGS: Api = Api {
    key: 44,
    name: "IncrementalAlterConfigs",
    versions: 0..=1,
    flexible: 1,
    fields: &[
        list(
            "resources",
            &[
                int8("resource_type"),
                string("resource_name"),
                list("configs", &[string("name"), int8("config_operation"), string("value").null_from(0)]),
            ],
        ),
        boolean("validate_only"),
    ],
};

pub(super) static ALTER_PARTITION_REASSIGNMENTS: Api = Api {
    key: 45,
    name: "AlterPartitionReassignments",
    versions: 0..=1,
    flexible: 0,
    fields: &[
        int32("timeout_ms"),
        boolean("allow_replication_factor_change").since(1),
        list(
            "topics",
            &[
                string("name"),
                list("partitions", &[int32("partition_index"), array("replicas", &INT32).null_from(0)]),
            ],
        ),
    ],
};

pub(super) static LIST_PARTITION_REASSIGNMENTS: Api = Api {
    key: 46,
    name: "ListPartitionReassignments",
    versions: 0..=0,
    flexible: 0,
    fields: &[
        int32("timeout_ms"),
        list("topics", &[string("name"), array("partition_indexes", &INT32)]).null_from(0),
    ],
};

pub(super) static DESCRIBE_CLIENT_QUOTAS: Api = Api {
    key: 48,
    name: "DescribeClientQuotas",
    versions: 0..=1,
    flexible: 1,
    fields: &[
        list("components", &[string("entity_type"), int8("match_type"), string("match").null_from(0)]),
        boolean("strict"),
    ],
};

pub(super) static ALTER_CLIENT_QUOTAS: Api = Api {
    key: 49,
    name: "AlterClientQuotas",
    versions: 0..=1,
    flexible: 1,
    fields: &[
        list(
            "entries",
            &[
                list("entity", &[string("entity_type"), string("entity_name").null_from(0)]),
                list("ops", &[string("key"), float64("value"), boolean("remove")]),
            ],
        ),
        boolean("validate_only"),
    ],
};

pub(super) static DESCRIBE_USER_SCRAM_CREDENTIALS: Api = Api {
    key: 50,
    name: "DescribeUserScramCredentials",
    versions: 0..=0,
    flexible: 0,
    fields: &[list("users", &[string("name")]).null_from(0)],
};

pub(super) static ALTER_USER_SCRAM_CREDENTIALS: Api = Api {
    key: 51,
    name: "AlterUserScramCredentials",
    versions: 0..=0,
    flexible: 0,
    fields: &[
        list("deletions", &[string("name"), int8("mechanism")]),
        list(
            "upsertions",
            &[
                string("name"),
                int8("mechanism"),
                int32("iterations"),
                bytes("salt"),
                bytes("salted_password"),
            ],
        ),
    ],
};

pub(super) static DESCRIBE_QUORUM: Api = Api {
    key: 55,
    name: "DescribeQuorum",
    versions: 0..=2,
    flexible: 0,
    fields: &[list("topics", &[string("topic_name"), list("partitions", &[int32("partition_index")])])],
};

pub(super) static UPDATE_FEATURES: Api = Api {
    key: 57,
    name: "UpdateFeatures",
    versions: 0..=2,
    flexible: 0,
    fields: &[
        int32("timeout_ms"),
        list(
            "feature_updates",
            &[
                string("feature"),
                int16("max_version_level"),
                boolean("allow_downgrade").until(0),
                int8("upgrade_type").since(1),
            ],
        ),
        boolean("validate_only").since(1),
    ],
};

pub(super) static DESCRIBE_CLUSTER: Api = Api {
    key: 60,
    name: "DescribeCluster",
    versions: 0..=2,
    flexible: 0,
    fields: &[
        boolean("include_cluster_authorized_operations"),
        int8("endpoint_type").since(1),
        boolean("include_fenced_brokers").since(2),
    ],
};

pub(super) static LIST_CONFIG_RESOURCES: Api = Api {
    key: 74,
    name: "ListConfigResources",
    versions: 0..=1,
    flexible: 0,
    fields: &[array("resource_types", &INT8).since(1)],
};
