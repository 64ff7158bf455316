//! What the metrics say after traffic that is known to the record.

use std::thread;
use std::time::{Duration, Instant};

use weir_broker::Broker;

use super::{House, Metrics};
use crate::kafka::{NOBODY, batch};

const NOT_A_MEMBER: (i32, &str, Option<&str>) = (-1, "", None);

fn is(metrics: &Metrics, expected: &[(&str, &str)]) {
    for (sample, value) in expected {
        assert_eq!(metrics.of(sample), *value, "{sample}");
    }
}

#[test]
fn records_bytes_offsets_and_lag_of_a_topic_are_right_to_the_record() {
    let house = House::a_minute_later();
    let mut client = house.kafka();
    assert_eq!(client.create_partitioned("t", 2, &[]), 0);
    let records = batch(NOBODY, 3, b"value");
    assert_eq!(client.append("t", 1, &records), (0, 0));
    assert_eq!(client.append("t", 1, &records), (0, 3));
    assert_eq!(client.read("t", 1, 3), records.len());
    assert_eq!(client.commit("g\"", NOT_A_MEMBER, ("t", 1, 2), None), 0);
    assert_eq!(client.create_topic("small", &[("max.message.bytes", "10")]), 0);
    assert_eq!(client.produce("small", -1, &records).0, 10);
    let metrics = house.metrics();
    let two = (2 * records.len()).to_string();
    let one = records.len().to_string();
    is(
        &metrics,
        &[
            (
                r#"weir_shard_incoming_records_total{topic="t",shard="shardId-000000000001",door="kafka"}"#,
                "6",
            ),
            (
                r#"weir_shard_incoming_records_total{topic="t",shard="shardId-000000000000",door="kafka"}"#,
                "0",
            ),
            (r#"weir_shard_incoming_bytes_total{topic="t",shard="shardId-000000000001",door="kafka"}"#, &two),
            (r#"weir_shard_outgoing_bytes_total{topic="t",shard="shardId-000000000001",door="kafka"}"#, &one),
            (
                r#"weir_shard_outgoing_records_total{topic="t",shard="shardId-000000000001",door="kafka"}"#,
                "3",
            ),
            (
                r#"weir_shard_incoming_bytes_total{topic="t",shard="shardId-000000000001",door="kinesis"}"#,
                "absent",
            ),
            (r#"weir_topic_open_shards{topic="t"}"#, "2"),
            (r#"kafka_server_brokertopicmetrics_messagesin_total{topic="t"}"#, "6"),
            (r#"kafka_server_brokertopicmetrics_bytesin_total{topic="t"}"#, &two),
            (r#"kafka_server_brokertopicmetrics_bytesout_total{topic="t"}"#, &one),
            (r#"kafka_server_brokertopicmetrics_totalproducerequests_total{topic="t"}"#, "2"),
            (r#"kafka_server_brokertopicmetrics_totalfetchrequests_total{topic="t"}"#, "1"),
            (r#"kafka_server_brokertopicmetrics_failedproducerequests_total{topic="small"}"#, "1"),
            (r#"kafka_server_brokertopicmetrics_failedproducerequests_total{topic="t"}"#, "0"),
            ("kafka_server_brokertopicmetrics_failedproducerequests_total", "1"),
            (r#"kafka_topic_partitions{topic="t"}"#, "2"),
            (r#"kafka_topic_partition_current_offset{topic="t",partition="1"}"#, "6"),
            (r#"kafka_topic_partition_oldest_offset{topic="t",partition="1"}"#, "0"),
            (r#"kafka_topic_partition_leader{topic="t",partition="1"}"#, "1"),
            (r#"kafka_log_log_size{topic="t",partition="1"}"#, &two),
            (r#"kafka_consumergroup_current_offset{consumergroup="g\"",topic="t",partition="1"}"#, "2"),
            (r#"kafka_consumergroup_lag{consumergroup="g\"",topic="t",partition="1"}"#, "4"),
            (r#"kafka_consumergroup_lag_sum{consumergroup="g\"",topic="t"}"#, "4"),
            (r#"kafka_consumergroup_members{consumergroup="g\""}"#, "0"),
            (r#"weir_consumer_iterator_age_seconds{consumergroup="g\"",topic="t",partition="1"}"#, "60.000"),
            (r#"kafka_server_socket_server_metrics_connection_count{listener="PLAINTEXT"}"#, "1"),
        ],
    );
    assert_eq!(client.commit("g\"", NOT_A_MEMBER, ("t", 1, 6), None), 0);
    is(
        &house.metrics(),
        &[
            (r#"kafka_consumergroup_lag{consumergroup="g\"",topic="t",partition="1"}"#, "0"),
            (r#"weir_consumer_iterator_age_seconds{consumergroup="g\"",topic="t",partition="1"}"#, "0.000"),
        ],
    );
    house.shutdown();
}

#[test]
fn a_stream_is_told_in_the_words_of_cloudwatch() {
    let house = House::configured(&[]);
    let mut client = house.kinesis();
    client.create("s", 1);
    for _ in 0..3 {
        client.put("s", "key", "YWJj");
    }
    assert_eq!(client.read("s", 0).count("Data"), 3);
    let metrics = house.metrics();
    let shard = |name: &str, more: &str| format!(r#"{name}{{topic="s",shard="shardId-000000000000"{more}}}"#);
    let kinesis = r#",door="kinesis""#;
    is(
        &metrics,
        &[
            (&shard("weir_shard_incoming_records_total", kinesis), "3"),
            (&shard("weir_shard_outgoing_records_total", kinesis), "3"),
            // Three bytes of key, three of data.
            (&shard("weir_shard_outgoing_bytes_total", kinesis), "18"),
            (&shard("weir_shard_write_throttled_records_total", ""), "0"),
            (&shard("weir_shard_read_throttled_calls_total", ""), "0"),
            (&shard("weir_shard_iterator_age_seconds", ""), "0.000"),
            (r#"weir_shard_limit_per_second{topic="s",dimension="write_bytes"}"#, "1048576"),
            (r#"weir_shard_limit_per_second{topic="s",dimension="read_calls"}"#, "5"),
            (r#"weir_kinesis_requests_total{operation="PutRecord",code="ok"}"#, "3"),
            (r#"weir_kinesis_request_seconds_count{operation="PutRecord"}"#, "3"),
            (r#"weir_kinesis_request_seconds_bucket{operation="PutRecord",le="+Inf"}"#, "3"),
            (r#"weir_kinesis_records_total{operation="PutRecord",outcome="stored"}"#, "3"),
            (r#"weir_kinesis_records_total{operation="GetRecords",outcome="read"}"#, "3"),
            (r#"weir_kinesis_requests_total{operation="DeleteStream",code="ok"}"#, "absent"),
            (r#"kafka_server_socket_server_metrics_connection_count{listener="KINESIS"}"#, "1"),
        ],
    );
    let took = |of: &str| metrics.number(&format!("weir_kinesis_request_seconds_{of}"));
    let within = took(r#"bucket{operation="PutRecord",le="5.000000"}"#);
    assert!(within <= 3.0 && took(r#"bucket{operation="PutRecord",le="0.000250"}"#) <= within);
    assert!((0.0..20.0).contains(&took(r#"sum{operation="PutRecord"}"#)));
    let fill = metrics.number(&shard("weir_shard_bucket_fill_ratio", r#",dimension="read_calls""#));
    assert!((0.0..=1.0).contains(&fill), "{fill}");
    // Five calls a second.
    let refused = (0..12).filter(|_| {
        let iterator = client.must(
            "GetShardIterator",
            r#"{"StreamName":"s","ShardId":"shardId-000000000000","ShardIteratorType":"TRIM_HORIZON"}"#,
        );
        let iterator = iterator.field("ShardIterator");
        client.call("GetRecords", &format!(r#"{{"ShardIterator":"{iterator}"}}"#)).outcome().0 != 200
    });
    let refused = refused.count().to_string();
    let code = r#"{operation="GetRecords",code="ProvisionedThroughputExceededException"}"#;
    is(
        &house.metrics(),
        &[
            (&shard("weir_shard_read_throttled_calls_total", ""), &refused),
            (&format!("weir_kinesis_requests_total{code}"), &refused),
        ],
    );
    assert_ne!(refused, "0");
    house.shutdown();
}

#[test]
fn a_throttled_producer_is_counted_with_the_time_it_was_told_to_wait() {
    let house = House::configured(&[]);
    let mut client = house.kafka();
    assert_eq!(client.create_topic("t", &[("shard.write.records.per.second", "10")]), 0);
    // Full bucket, then debt.
    assert_eq!(client.produce("t", -1, &batch(NOBODY, 60, b"v")).0, 0);
    let metrics = house.metrics();
    let shard = r#"{topic="t",shard="shardId-000000000000"}"#;
    assert_eq!(metrics.of(&format!("weir_shard_write_throttled_records_total{shard}")), "60");
    let told = metrics.number(&format!("weir_shard_write_throttle_seconds_total{shard}"));
    assert!((4.0..=6.0).contains(&told), "{told}");
    let fill =
        r#"weir_shard_bucket_fill_ratio{topic="t",shard="shardId-000000000000",dimension="write_records"}"#;
    assert!(metrics.number(fill) < 0.0, "{}", metrics.of(fill));
    house.shutdown();
}

#[test]
fn after_a_restart_offsets_and_lag_are_there_though_no_client_came() {
    let dir = tempfile::tempdir().unwrap();
    let start = || House::start(Broker::builder().data_dir(dir.path().to_path_buf()));
    let house = start();
    let mut client = house.kafka();
    assert_eq!(client.create_topic("t", &[]), 0);
    client.produce("t", -1, &batch(NOBODY, 3, b"v"));
    assert_eq!(client.commit("g", NOT_A_MEMBER, ("t", 0, 1), None), 0);
    drop(client);
    house.shutdown();
    let house = start();
    let until = Instant::now() + Duration::from_secs(10);
    let lag = r#"kafka_consumergroup_lag{consumergroup="g",topic="t",partition="0"}"#;
    while house.metrics().of(lag) != "2" {
        assert!(Instant::now() < until, "{}", house.metrics().of(lag));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(house.metrics().of(r#"kafka_topic_partition_current_offset{topic="t",partition="0"}"#), "3");
    house.shutdown();
}

#[test]
fn the_public_page_says_the_same_by_redpandas_names() {
    let house = House::configured(&[
        // A name that the Kinesis door's listener has too.
        ("listeners", "KINESIS://127.0.0.1:0"),
        ("listener.security.protocol.map", "KINESIS:PLAINTEXT"),
    ]);
    let mut client = house.kafka();
    assert_eq!(client.create_partitioned("t", 2, &[]), 0);
    let records = batch(NOBODY, 3, b"v");
    assert_eq!(client.produce("t", -1, &records).0, 0);
    assert_eq!(client.commit("g\"", NOT_A_MEMBER, ("t", 0, 2), None), 0);
    let mut stream = house.kinesis();
    stream.create("s", 1);
    let (all, written) = (house.metrics(), records.len().to_string());
    let metrics = house.public_metrics();
    is(
        &metrics,
        &[
            (
                r#"redpanda_kafka_max_offset{redpanda_namespace="kafka",redpanda_partition="0",redpanda_topic="t"}"#,
                "3",
            ),
            (
                r#"redpanda_kafka_consumer_group_committed_offset{redpanda_group="g\"",redpanda_partition="0",redpanda_topic="t"}"#,
                "2",
            ),
            (r#"redpanda_kafka_consumer_group_consumers{redpanda_group="g\""}"#, "0"),
            (r#"redpanda_kafka_consumer_group_topics{redpanda_group="g\""}"#, "1"),
            (r#"redpanda_kafka_partitions{redpanda_namespace="kafka",redpanda_topic="t"}"#, "2"),
            (r#"redpanda_kafka_replicas{redpanda_namespace="kafka",redpanda_topic="t"}"#, "1"),
            (
                r#"redpanda_kafka_request_bytes_total{redpanda_namespace="kafka",redpanda_request="produce",redpanda_topic="t"}"#,
                &written,
            ),
            (
                r#"redpanda_kafka_request_bytes_total{redpanda_namespace="kafka",redpanda_request="consume",redpanda_topic="t"}"#,
                "0",
            ),
            (r#"redpanda_rpc_active_connections{redpanda_server="kafka"}"#, "1"),
            ("redpanda_cluster_brokers", "1"),
            ("redpanda_cluster_unavailable_partitions", "0"),
            // With the groups' own.
            ("redpanda_cluster_topics", "3"),
            ("redpanda_cluster_partitions", all.of("kafka_server_replicamanager_partitioncount")),
            ("redpanda_storage_disk_total_bytes", all.of(r#"weir_disk_bytes{state="total"}"#)),
        ],
    );
    let connections = r#"kafka_server_socket_server_metrics_connection_count{listener="KINESIS"}"#;
    assert_eq!(all.of(connections), "2", "of both doors");
    house.shutdown();
}

#[test]
fn memory_of_large_requests_is_never_more_than_the_sum_and_what_one_turn_needs() {
    const LIMIT: usize = 1 << 20;
    const CLIENTS: usize = 8;
    let limit = LIMIT.to_string();
    let house = House::configured(&[("queued.max.request.bytes", &limit), ("flush", "never")]);
    assert_eq!(house.kafka().create_topic("t", &[]), 0);
    // What it is once it is read is several times its bytes.
    let askers: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = house.kafka();
            thread::spawn(move || client.delete_records_of("t", 40_000))
        })
        .collect();
    let mut most = 0;
    while askers.iter().any(|asker| !asker.is_finished()) {
        let budget = "weir_memory_in_flight_bytes{budget=\"queued.max.request.bytes\"}";
        most = most.max(house.metrics().number(budget) as usize);
    }
    let answered: Vec<_> = askers.into_iter().map(|asker| asker.join().unwrap()).collect();
    let one = 10 * answered[0].0;
    assert!(answered.iter().all(|answered| answered.1 > 40_000 * 14));
    assert!(most > LIMIT / 2, "they were not seen: {most}");
    assert!(most < LIMIT + one + CLIENTS * 64 * 1024, "{most} of {LIMIT} and {one}");
    house.shutdown();
}
