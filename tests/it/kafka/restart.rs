//! What a broker still knows when it is started again on its directory.
//!
//! Deliberately absent: crashes of the machine (`crash/`).

use super::{House, Producer, batch};

#[test]
fn records_and_producer_state_survive_a_shutdown() {
    let dir = tempfile::tempdir().unwrap();
    let records = batch(Producer { id: 7, epoch: 0, sequence: 0 }, 2, b"v");
    let house = House::kept(dir.path());
    let mut client = house.client();
    assert_eq!(client.create_topic("t", &[("max.message.bytes", "200")]), 0);
    assert_eq!(client.produce("t", -1, &records).1, 0);
    drop(client);
    house.shutdown();

    let house = House::kept(dir.path());
    let mut client = house.client();
    assert_eq!(client.list_offset("t", -1), (0, 2));
    let (code, offset, _) = client.produce("t", -1, &records);
    assert_eq!((code, offset), (0, 0), "a duplicate is still recognised");
    assert_eq!(client.list_offset("t", -1), (0, 2));
    let large = batch(super::NOBODY, 30, b"value");
    assert_eq!(client.produce("t", -1, &large).0, 10, "the topic's config is still there");
    house.shutdown();
}

#[test]
fn a_second_broker_on_one_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::kept(dir.path());
    let second = weir_broker::Broker::builder().data_dir(dir.path().to_path_buf()).start();
    assert!(matches!(house.runtime.block_on(second), Err(weir_broker::StartError::DataDir(_))));
    house.shutdown();
}
