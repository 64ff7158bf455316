//! When a connection gives way.

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::time::timeout;

use super::*;
use crate::broker::in_memory;
use crate::config::{Config, Source};
use crate::kafka::door::{Listener, open};
use crate::listen::Census;

const KIB: usize = 1024;
/// Longer than anything here takes.
const AT_MOST: Duration = Duration::from_secs(30);

#[test]
fn a_wake_up_ends_with_its_share_of_bytes_or_of_time() {
    let began = Instant::now();
    let fresh = WakeUp::default();
    assert!(!fresh.is_over(began + WAKE_UP * 100), "nothing was done yet");
    let busy = WakeUp { began: Some(began), bytes: WAKE_UP_BYTES - 1, more: false };
    assert!(!busy.is_over(began));
    assert!(busy.is_over(began + WAKE_UP));
    assert!(WakeUp { bytes: WAKE_UP_BYTES, ..busy }.is_over(began));
    assert!(WakeUp { more: true, ..WakeUp::default() }.is_over(began));
}

/// A frame with a header of version 1.
fn frame(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    frame.put_u32(u32::try_from(10 + body.len()).unwrap());
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(7);
    frame.put_i16(-1);
    frame.put_slice(body);
    frame.to_vec()
}

/// A Fetch v4 that names one partition 10,000 times.
fn wide_fetch() -> Vec<u8> {
    let mut body = BytesMut::new();
    [-1, 1_000, 1, 1 << 20].into_iter().for_each(|value| body.put_i32(value));
    body.put_slice(&[0, 0, 0, 0, 1, 0, 1, b't']);
    body.put_i32(10_000);
    for _ in 0..10_000 {
        body.put_slice(&[0; 12]);
        body.put_i32(1 << 20);
    }
    frame(1, 4, &body)
}

#[tokio::test]
async fn a_request_that_waits_until_its_client_reads_gives_its_memory_to_who_waits_for_some() {
    let mut config = Config::default();
    for (key, value) in [
        ("queued.max.request.bytes", 1024 * KIB),
        ("queued.max.response.bytes", 1024 * KIB),
        ("socket.send.buffer.bytes", 4 * KIB),
    ] {
        config.set(key, &value.to_string(), Source::CommandLine).unwrap();
    }
    let core = in_memory(config).unwrap();
    core.create_topic("t".into(), 1, [].into()).await.unwrap();
    for n in 0..400 {
        core.create_topic(format!("{n:0>200}"), 1, [].into()).await.unwrap();
    }
    let census = Arc::<Census>::default();
    let addrs = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    let door = open(&core, &census, vec![Listener { name: "PLAINTEXT".into(), addrs }]).unwrap();
    let [requests, answers] = <[_; 2]>::try_from(census.budgets()).ok().unwrap();

    let connect = async || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(door.addrs()[0]).await.unwrap()
    };
    // The list of all topics is made once and costs who sends it no memory.
    let list = frame(3, 1, &(-1_i32).to_be_bytes());
    let mut reader = connect().await;
    reader.write_all(&list).await.unwrap();
    let bytes = timeout(AT_MOST, reader.read_u32()).await.unwrap().unwrap();
    assert!(bytes as usize > 80 * KIB);

    let (mut hog, mut others) = (requests.account().lease(), answers.account().lease());
    hog.settle(300 * KIB);
    others.settle(1100 * KIB);
    let mut unread = connect().await;
    let before = requests.used();
    unread.write_all(&list).await.unwrap();
    timeout(AT_MOST, unread.readable()).await.unwrap().unwrap();
    unread.write_all(&wide_fetch()).await.unwrap();
    let holds = async {
        while requests.used() < before + 140 * KIB {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(AT_MOST, holds).await.unwrap();
    let mut turn = requests.account().lease();
    timeout(AT_MOST, turn.grow(700 * KIB, 700 * KIB)).await.unwrap();
    assert!(turn.has_turn());
    let mut waits = requests.account().lease();
    timeout(AT_MOST, waits.grow(60 * KIB, 60 * KIB)).await.unwrap();
    assert!(!waits.has_turn());
    drop((unread, reader));
    door.close().await;
    core.close().unwrap();
}
