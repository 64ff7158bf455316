//! Names that published dashboards and alert rules ask for. Sources: Strimzi's strimzi-kafka and
//! strimzi-kafka-exporter dashboards and rules, kafka_exporter's README.

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

const NOT_A_MEMBER: (i32, &str, Option<&str>) = (-1, "", None);

#[test]
fn every_name_that_a_published_dashboard_asks_for_is_there_with_the_labels_that_it_selects_by() {
    let house = House::configured(&[("metrics.labels", "namespace=kafka,strimzi_io_cluster=my \"weir\"")]);
    let mut client = house.kafka();
    assert_eq!(client.create_topic("t", &[]), 0);
    client.produce("t", -1, &batch(NOBODY, 1, b"v"));
    assert_eq!(client.commit("g", NOT_A_MEMBER, ("t", 0, 0), None), 0);
    let metrics = house.metrics();
    let missing: Vec<_> = NAMES.iter().filter(|name| metrics.count(name) == 0).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for sample in metrics.0.keys() {
        assert!(sample.contains(r#"namespace="kafka",strimzi_io_cluster="my \"weir\""}"#), "{sample}");
    }
    house.shutdown();
}
