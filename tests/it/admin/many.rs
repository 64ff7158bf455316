//! Many partitions, and scrapes while records come in.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::House;
use crate::kafka::{NOBODY, batch};

#[test]
fn ten_thousand_partitions_are_all_told() {
    let house = House::configured(&[]);
    assert_eq!(house.kafka().create_partitioned("t", 10_000, &[]), 0);
    for round in 0..3 {
        let [metrics, public] = ["/metrics", "/public_metrics"].map(|page| {
            let begin = Instant::now();
            let answer = house.get(page);
            // Without an assertion: a machine that does other things says nothing about the door.
            eprintln!("scrape {round}: {page}, {} bytes in {:?}", answer.len(), begin.elapsed());
            super::Metrics::read(&answer)
        });
        assert_eq!(public.count("redpanda_kafka_under_replicated_replicas"), 10_000);
        assert_eq!(public.of("redpanda_cluster_partitions"), "10000");
        assert_eq!(metrics.count("kafka_topic_partition_leader"), 10_000);
        assert_eq!(metrics.count("weir_shard_incoming_bytes_total"), 10_000);
        assert_eq!(metrics.of("kafka_server_replicamanager_partitioncount"), "10000");
    }
    house.shutdown();
}

#[test]
fn a_scrape_that_nobody_reads_holds_the_memory_of_the_next_one_where_that_is_bounded() {
    for (limit, second) in [("16384", "HTTP/1.1 503 "), ("-1", "HTTP/1.1 200 ")] {
        let house = House::configured(&[("admin.queued.max.response.bytes", limit)]);
        // Far more than sockets hold.
        assert_eq!(house.kafka().create_partitioned("t", 10_000, &[]), 0);
        let mut unread = TcpStream::connect(house.broker.admin_addrs()[0]).unwrap();
        unread.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut begin = [0; 15];
        unread.read_exact(&mut begin).unwrap();
        assert_eq!(&begin, b"HTTP/1.1 200 OK");
        let answer = house.get("/metrics");
        assert!(answer.starts_with(second), "{limit}: {}", answer.lines().next().unwrap());
        drop(unread);
        house.shutdown();
    }
}

#[test]
fn scrapes_hold_up_no_producer_and_never_go_back() {
    const BATCHES: i64 = 300;
    let house = House::configured(&[("flush", "never")]);
    assert_eq!(house.kafka().create_topic("t", &[]), 0);
    let records = r#"weir_shard_incoming_records_total{topic="t",shard="shardId-000000000000",door="kafka"}"#;
    let end = r#"kafka_topic_partition_current_offset{topic="t",partition="0"}"#;
    std::thread::scope(|scope| {
        let mut client = house.kafka();
        let producer = scope.spawn(move || {
            for n in 0..BATCHES {
                assert_eq!(client.produce("t", 1, &batch(NOBODY, 2, b"v")).1, n * 2);
            }
        });
        let (mut before, mut scrapes) = (0.0, 0);
        while !producer.is_finished() {
            let now = house.metrics().of(records).parse().unwrap();
            assert!(now >= before, "{before} {now}");
            (before, scrapes) = (now, scrapes + 1);
        }
        producer.join().unwrap();
        assert!(scrapes > 0);
    });
    let metrics = house.metrics();
    assert_eq!((metrics.of(records), metrics.of(end)), ("600", "600"));
    house.shutdown();
}
