//! Doors whose address is taken: one that was asked for ends the start, one that only would be nice stays shut.
//! And who is let in where.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_broker::config::{Config, Source};
use weir_broker::{Broker, StartError};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_taken_address_ends_the_start_only_where_somebody_asked_for_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let builder = || Broker::builder().ephemeral();

    let refused = builder().kinesis(&address).start().await.err();
    assert!(matches!(&refused, Some(StartError::BindKinesis { .. })), "{refused:?}");
    let refused = builder().admin(&address).start().await.err();
    assert!(matches!(&refused, Some(StartError::BindAdmin { .. })), "{refused:?}");

    let broker = builder().kinesis_if_free(&address).admin_if_free(&address).start().await.unwrap();
    assert!(broker.kinesis_addrs().is_empty() && broker.admin_addrs().is_empty());
    assert_eq!(broker.kafka_addrs().len(), 1);
    broker.shutdown().await.unwrap();

    drop(taken);
    let broker = builder().kinesis_if_free(&address).start().await.unwrap();
    assert_eq!(broker.kinesis_addrs().iter().map(ToString::to_string).collect::<Vec<_>>(), [address]);
    broker.shutdown().await.unwrap();
}

/// Whether ApiVersions v0, or this HTTP request, is answered; the other way out is the end of the connection.
async fn is_answered(addr: SocketAddr, request: &[u8]) -> (bool, TcpStream) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    // A peer that has closed does not want it.
    let _ = stream.write_all(request).await;
    let first = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut [0; 1])).await;
    (matches!(first.expect("an answer or an end"), Ok(1)), stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn clients_of_both_doors_are_one_crowd_and_a_full_broker_still_says_how_it_is() {
    let mut config = Config::default();
    config.set("max.connections", "1", Source::CommandLine).unwrap();
    let builder = Broker::builder().ephemeral().config(config);
    let broker = builder.kinesis("127.0.0.1:0").admin("127.0.0.1:0").start().await.unwrap();
    let versions =
        [&10_i32.to_be_bytes()[..], &18_i16.to_be_bytes(), &[0, 0, 0, 0, 0, 7, 0xff, 0xff]].concat();
    let (kafka, kinesis) = (broker.kafka_addrs()[0], broker.kinesis_addrs()[0]);
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes();

    let (served, client) = is_answered(kafka, &versions).await;
    assert!(served);
    assert!(!is_answered(kinesis, &get("/")).await.0, "a Kafka client has the only seat");
    let (healthy, watcher) = is_answered(broker.admin_addrs()[0], &get("/readyz")).await;
    assert!(healthy, "its seats are its own");
    drop(client);
    let mut served = false;
    for _ in 0..100 {
        served = is_answered(kinesis, &get("/")).await.0;
        if served {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(served, "the seat is free again, whoever asks at the admin door");
    drop(watcher);
    broker.shutdown().await.unwrap();
}
