//! What clients are told to connect to: each listener its own address, altered while the broker runs.

use super::limits::{alter, house};
use super::*;

/// Host and port of the one broker that Metadata v1 names, which FindCoordinator v0 names too.
fn told(addr: SocketAddr) -> (String, i32) {
    let mut client = Client::connect(addr);
    let mut answer = client.call(3, 1, &Out::new().i32(0));
    assert_eq!((answer.i32(), answer.i32()), (1, 1));
    let told = (answer.string(), answer.i32());
    let mut answer = client.call(10, 0, &Out::new().string("group"));
    assert_eq!((answer.i16(), answer.i32()), (0, 1));
    assert_eq!((answer.string(), answer.i32()), told);
    told
}

fn at(host: &str, port: i32) -> (String, i32) {
    (host.to_owned(), port)
}

#[test]
fn each_listener_tells_its_own_address_and_a_change_counts_at_once() {
    let house = house(&[
        ("listeners", "INNER://127.0.0.1:0,OUTER://127.0.0.1:0,PLAIN://127.0.0.1:0"),
        ("listener.security.protocol.map", "INNER:PLAINTEXT,OUTER:PLAINTEXT,PLAIN:PLAINTEXT"),
        ("advertised.listeners", "OUTER://outer.test:29092,INNER://inner.test:0"),
    ]);
    let &[inner, outer, plain] = house.broker.kafka_addrs() else { panic!("three listeners") };
    assert_eq!(told(inner), at("inner.test", i32::from(inner.port())));
    assert_eq!(told(outer), at("outer.test", 29_092));
    assert_eq!(told(plain), at("127.0.0.1", i32::from(plain.port())));

    let mut client = house.client();
    let key = "advertised.listeners";
    assert_eq!(alter(&mut client, &[(key, "OUTER://moved.test:1,PLAIN://plain.test:2")]), 0);
    assert_eq!(told(inner), at("127.0.0.1", i32::from(inner.port())));
    assert_eq!(told(outer), at("moved.test", 1));
    assert_eq!(told(plain), at("plain.test", 2));

    for wrong in ["NOBODY://h:1", "OUTER://0.0.0.0:1", "OUTER://h", "OUTER://h:99999", ""] {
        assert_eq!(alter(&mut client, &[(key, wrong)]), 42, "{wrong}");
    }
    assert_eq!(told(outer), at("moved.test", 1));
    house.shutdown();
}

#[test]
fn what_was_altered_is_told_after_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::kept(dir.path());
    assert_eq!(alter(&mut house.client(), &[("advertised.listeners", "PLAINTEXT://kept.test:7")]), 0);
    house.shutdown();
    let house = House::kept(dir.path());
    assert_eq!(told(house.broker.kafka_addrs()[0]), at("kept.test", 7));
    house.shutdown();
}
