//! Rows 1 to 20: lengths, other protocols, connections that are cut, and many requests at once.

use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use super::super::{Client, produce_body};
use super::forged::{of_records, record, valid};
use super::served::{assert_closed, fetch_body};
use super::{Row, Served, closed, driven, request};

/// Pipelined requests in rows 17 and 18.
const MANY: i32 = 1_000;

pub(super) fn rows() -> Vec<Row> {
    let length = |length: i32| length.to_be_bytes().to_vec();
    let too_short = [1, 2, 3, 4, 5, 6, 7].map(|n: u8| [&length(n.into())[..], &vec![0; n.into()]].concat());
    vec![
        closed(1, "length -1", [length(-1)]),
        closed(2, "length 0x80000000", [length(i32::MIN)]),
        closed(3, "length 0", [length(0)]),
        closed(4, "a frame shorter than a header", too_short),
        closed(5, "length 0x7fffffff, then silence", [length(i32::MAX)]).peak_kib(1024),
        closed(6, "length 104,857,601", [length(104_857_601)]).peak_kib(1024),
        driven(9, "HTTP", |broker| {
            broker.closes(b"GET / HTTP/1.1\r\n\r\n");
            broker.says("speaks HTTP");
        }),
        driven(10, "TLS", |broker| {
            broker.closes(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
            broker.says("speaks TLS");
        }),
        driven(12, "SSH", |broker| {
            broker.closes(b"SSH-2.0-OpenSSH_9.2p1\r\n");
            broker.says("speaks SSH");
        }),
        closed(12, "line ends", [b"\r\n".repeat(1000)]),
        driven(14, "half-closed at once", |broker| {
            let stream = broker.connect();
            stream.shutdown(Shutdown::Write).unwrap();
            assert_closed(stream, b"");
        }),
        driven(15, "reset in the middle of a frame", cut_off),
        driven(16, "a frame byte by byte", |broker| {
            let mut client = broker.client();
            for byte in request(18, 0, &[]) {
                client.stream.write_all(&[byte]).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
            let (id, mut answer) = client.receive();
            assert_eq!((id, answer.i16()), (7, 0));
        }),
        driven(17, "1,000 pipelined ApiVersions", |broker| {
            let mut client = broker.client();
            let all: Vec<u8> = (0..MANY).flat_map(|id| numbered(18, 0, id, &[])).collect();
            client.stream.write_all(&all).unwrap();
            for id in 0..MANY {
                let (answered, mut answer) = client.receive();
                assert_eq!((answered, answer.i16()), (id, 0));
            }
        }),
        // 64 MiB is the row's own figure: answers that nobody reads wait here and in the socket.
        driven(18, "1,000 pipelined fetches whose answers nobody reads", unread).peak_kib(64 * 1024),
        driven(19, "a byte behind the request", |broker| {
            let mut client = broker.client();
            assert_eq!(client.create_topic("row-19", &[]), 0);
            let body = produce_body("row-19", -1, &valid().bytes()).i8(0);
            broker.closes(&request(0, 7, &body.0));
            assert_eq!(client.list_offset("row-19", -1), (0, 0), "something was appended");
        }),
        driven(20, "a request cut short by its frame", |broker| {
            let mut client = broker.client();
            assert_eq!(client.create_topic("row-20", &[]), 0);
            let body = produce_body("row-20", -1, &valid().bytes());
            broker.closes(&request(0, 7, &body.0[..body.0.len() - 1]));
            assert_eq!(client.list_offset("row-20", -1), (0, 0), "something was appended");
        }),
    ]
}

fn numbered(key: i16, version: i16, id: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = request(key, version, body);
    frame[8..12].copy_from_slice(&id.to_be_bytes());
    frame
}

fn cut_off(broker: &Served) {
    let base = broker.open_files();
    for _ in 0..50 {
        let mut stream = broker.connect();
        stream.write_all(&request(18, 0, &[])[..9]).unwrap();
        // Closing without lingering sends a reset.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    broker.closes_files(base, Duration::from_secs(3));
}

/// Sends 1,000 fetches of almost 1 MB each and reads nothing for a while; then a few of the answers.
pub(super) fn unread(broker: &Served) {
    let mut client = broker.client();
    assert_eq!(client.create_topic("row-18", &[]), 0);
    let large = of_records(1, record(0, b"k", &vec![7; 900_000]));
    assert_eq!(client.produce("row-18", 1, &large).0, 0);
    let mut client: Client = broker.client();
    let all: Vec<u8> = (0..MANY).flat_map(|id| numbered(1, 4, id, &fetch_body("row-18", 0).0)).collect();
    client.stream.write_all(&all).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    broker.canary().unwrap();
    for id in 0..20 {
        let (answered, answer) = client.receive();
        assert_eq!(answered, id);
        assert!(answer.bytes.len() > 900_000, "{} bytes", answer.bytes.len());
    }
}
