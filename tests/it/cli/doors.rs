//! Doors whose address is taken: one that was asked for ends the start, one that only would be nice stays shut.

use std::net::TcpListener;

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
