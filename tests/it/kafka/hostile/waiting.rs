//! Rows that are about time: each has a broker of its own, so that they can wait at once.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::served::{assert_closed, fetch_body};
use super::{Row, Served, driven, framing, request};

/// Properties of the broker, and the row.
pub(super) fn rows() -> Vec<(&'static [&'static str], Row)> {
    const IDLE: &[&str] = &["connections.max.idle.ms=1000"];
    vec![
        (
            &[],
            driven(7, "length 104,857,600, then a byte every 5 s", |broker| {
                trickles(broker, &104_857_600i32.to_be_bytes());
            })
            .peak_kib(1024),
        ),
        // A remote desktop's first bytes are the length of a legal frame, 48 MiB, that never comes.
        (
            &[],
            driven(12, "RDP", |broker| {
                trickles(broker, b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0");
            })
            .peak_kib(1024),
        ),
        (
            &[],
            driven(13, "connected, and silent", |broker| {
                let took = silence(broker.connect());
                assert!((9..17).contains(&took.as_secs()), "{took:?}");
            }),
        ),
        (
            IDLE,
            driven(18, "1,000 pipelined fetches whose answers nobody ever reads", |broker| {
                framing::unread(broker);
                let base = broker.open_files();
                let mut stream = broker.connect();
                stream.write_all(&request(1, 4, &fetch_body("row-18", 0).0).repeat(1_000)).unwrap();
                broker.closes_files(base, Duration::from_secs(15));
            })
            .peak_kib(64 * 1024),
        ),
        (
            IDLE,
            driven(100, "a fetch that waits for ever, on a broker that does not", |broker| {
                let wait = [0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff];
                let rest = &fetch_body("canary", 10).0[12..];
                let mut stream = broker.connect();
                stream.write_all(&request(1, 4, &[&wait, rest].concat())).unwrap();
                let took = silence(stream);
                assert!(took < Duration::from_secs(10), "{took:?}");
            }),
        ),
    ]
}

/// Sends `first`, then a byte every five seconds; the broker closes within 20 seconds.
fn trickles(broker: &Served, first: &[u8]) {
    let begun = Instant::now();
    let mut stream = broker.connect();
    stream.write_all(first).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    while stream.peek(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock) {
        assert!(begun.elapsed() < Duration::from_secs(20), "still open");
        // The next look may find it closed.
        let _ = stream.write_all(&[0]);
    }
    assert_closed(stream, first);
}

/// How long until the broker closes.
fn silence(stream: TcpStream) -> Duration {
    let begun = Instant::now();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_closed(stream, b"");
    begun.elapsed()
}
