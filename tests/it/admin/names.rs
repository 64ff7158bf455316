//! Names that published dashboards and alert rules ask for. Sources: Strimzi's strimzi-kafka and
//! strimzi-kafka-exporter dashboards and rules, kafka_exporter's README; for the public page Redpanda's dashboards
//! (redpanda-data/observability), what of them one node without tiers, proxies and histograms can tell.

use super::House;
use crate::kafka::{NOBODY, batch};

const NAMES: &[&str] = &[
    "kafka_brokers",
    "kafka_cluster_partition_atminisr",
    "kafka_cluster_partition_underminisr",
    "kafka_consumergroup_current_offset",
    "kafka_consumergroup_current_offset_sum",
    "kafka_consumergroup_lag",
    "kafka_consumergroup_lag_sum",
    "kafka_consumergroup_members",
    "kafka_controller_controllerstats_uncleanleaderelections_total",
    "kafka_controller_kafkacontroller_activecontrollercount",
    "kafka_controller_kafkacontroller_offlinepartitionscount",
    "kafka_log_log_size",
    "kafka_log_logmanager_offlinelogdirectorycount",
    "kafka_server_brokertopicmetrics_bytesin_total",
    "kafka_server_brokertopicmetrics_bytesout_total",
    "kafka_server_brokertopicmetrics_failedfetchrequests_total",
    "kafka_server_brokertopicmetrics_failedproducerequests_total",
    "kafka_server_brokertopicmetrics_messagesin_total",
    "kafka_server_brokertopicmetrics_totalfetchrequests_total",
    "kafka_server_brokertopicmetrics_totalproducerequests_total",
    "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent",
    "kafka_server_replicamanager_leadercount",
    "kafka_server_replicamanager_partitioncount",
    "kafka_server_replicamanager_underminisrpartitioncount",
    "kafka_server_replicamanager_underreplicatedpartitions",
    "kafka_server_socket_server_metrics_connection_count",
    "kafka_topic_partition_current_offset",
    "kafka_topic_partition_in_sync_replica",
    "kafka_topic_partition_leader",
    "kafka_topic_partition_leader_is_preferred",
    "kafka_topic_partition_oldest_offset",
    "kafka_topic_partition_replicas",
    "kafka_topic_partition_under_replicated_partition",
    "kafka_topic_partitions",
];

const PUBLIC_NAMES: &[&str] = &[
    "redpanda_application_build",
    "redpanda_application_uptime_seconds_total",
    "redpanda_cluster_brokers",
    "redpanda_cluster_partitions",
    "redpanda_cluster_topics",
    "redpanda_cluster_unavailable_partitions",
    "redpanda_kafka_consumer_group_committed_offset",
    "redpanda_kafka_consumer_group_consumers",
    "redpanda_kafka_consumer_group_topics",
    "redpanda_kafka_max_offset",
    "redpanda_kafka_partitions",
    "redpanda_kafka_replicas",
    "redpanda_kafka_request_bytes_total",
    "redpanda_kafka_under_replicated_replicas",
    "redpanda_rpc_active_connections",
    "redpanda_storage_disk_free_bytes",
    "redpanda_storage_disk_free_space_alert",
    "redpanda_storage_disk_total_bytes",
];

const NOT_A_MEMBER: (i32, &str, Option<&str>) = (-1, "", None);

#[test]
fn every_name_that_a_published_dashboard_asks_for_is_there_with_the_labels_that_it_selects_by() {
    let house = House::configured(&[("metrics.labels", "namespace=kafka,strimzi_io_cluster=my \"weir\"")]);
    let mut client = house.kafka();
    assert_eq!(client.create_topic("t", &[]), 0);
    client.produce("t", -1, &batch(NOBODY, 1, b"v"));
    assert_eq!(client.commit("g", NOT_A_MEMBER, ("t", 0, 0), None), 0);
    for (metrics, names, public) in
        [(house.metrics(), NAMES, false), (house.public_metrics(), PUBLIC_NAMES, true)]
    {
        let missing: Vec<_> = names.iter().filter(|name| metrics.count(name) == 0).collect();
        assert!(missing.is_empty(), "{missing:?}");
        for sample in metrics.0.keys() {
            assert!(sample.contains(r#"namespace="kafka",strimzi_io_cluster="my \"weir\""}"#), "{sample}");
            assert_eq!(sample.starts_with("redpanda_"), public, "no name is on both pages: {sample}");
        }
    }
    house.shutdown();
}
