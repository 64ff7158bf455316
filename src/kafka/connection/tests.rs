//! When a connection gives way.

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::broker::{Core, in_memory};
use crate::config::{Config, Source};
use crate::kafka::door::{Listener, open};
use crate::listen::{Budget, Census, Doorway};

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

/// A Fetch v4 that names one partition so many times.
fn wide_fetch(count: u16) -> Vec<u8> {
    let mut body = BytesMut::new();
    [-1, 0, 1, 1 << 20].into_iter().for_each(|value| body.put_i32(value));
    body.put_slice(&[0, 0, 0, 0, 1, 0, 1, b't']);
    body.put_i32(count.into());
    for _ in 0..count {
        body.put_slice(&[0; 12]);
        body.put_i32(1 << 20);
    }
    frame(1, 4, &body)
}

/// A JoinGroup v1 of a group whose first generation is a minute away.
fn join(group: [u8; 5]) -> Vec<u8> {
    let times = [0, 0, 0xea, 0x60].repeat(2);
    let rest = b"\0\0\0\x08consumer\0\0\0\x01\0\x05range\0\0\0\0";
    frame(11, 1, &[b"\0\x05", &group[..], &times, rest].concat())
}

/// A topic's name, of 200 bytes.
fn long_name(n: usize) -> String {
    format!("{n:0>200}")
}

const TOPICS: usize = 400;

/// A Metadata v1 for all topics.
fn list() -> Vec<u8> {
    frame(3, 1, &(-1_i32).to_be_bytes())
}

/// The same for so many, by their names.
fn named(topics: usize) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_u32(u32::try_from(topics).unwrap());
    for n in 0..topics {
        body.put_u16(200);
        body.put_slice(long_name(n).as_bytes());
    }
    frame(3, 1, &body)
}

/// A door whose budget of requests is 1 MiB and whose sockets hold little.
struct Rig {
    core: Arc<Core>,
    census: Arc<Census>,
    door: Doorway,
    requests: Arc<Budget>,
    answers: Arc<Budget>,
}

impl Rig {
    async fn new(answer_bytes: usize) -> Self {
        let mut config = Config::default();
        for (key, value) in [
            ("queued.max.request.bytes", 1024 * KIB),
            ("queued.max.response.bytes", answer_bytes),
            ("socket.send.buffer.bytes", 4 * KIB),
            ("group.initial.rebalance.delay.ms", 60_000),
        ] {
            config.set(key, &value.to_string(), Source::CommandLine).unwrap();
        }
        let core = in_memory(config).unwrap();
        core.create_topic("t".into(), 1, [].into()).await.unwrap();
        for n in 0..TOPICS {
            core.create_topic(long_name(n), 1, [].into()).await.unwrap();
        }
        let census = Arc::<Census>::default();
        let addrs = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        let door = open(&core, &census, vec![Listener { name: "PLAINTEXT".into(), addrs }]).unwrap();
        let [requests, answers] = <[_; 2]>::try_from(census.budgets()).ok().unwrap();
        Self { core, census, door, requests, answers }
    }

    async fn connect(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(self.door.addrs()[0]).await.unwrap()
    }

    /// What this client asks for behind what it asked for before holds memory of requests, until others wait for that.
    async fn gives_way(&self, client: &mut TcpStream) {
        let mut hog = self.requests.account().lease();
        hog.settle(300 * KIB);
        let before = self.requests.used();
        client.write_all(&wide_fetch(10_000)).await.unwrap();
        let holds = async {
            while self.requests.used() < before + 140 * KIB {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(AT_MOST, holds).await.unwrap();
        // One of the two may get it all the same, as the first in line.
        let (mut one, mut other) = (self.requests.account().lease(), self.requests.account().lease());
        timeout(AT_MOST, one.grow(700 * KIB, 700 * KIB)).await.unwrap();
        timeout(AT_MOST, other.grow(600 * KIB, 600 * KIB)).await.unwrap();
    }

    /// Uses up 8 MiB of memory for answers; the second has the turn, too.
    async fn use_up_answers(&self) -> [Lease; 2] {
        let [mut others, mut turn] = [(); 2].map(|()| self.answers.account().lease());
        others.settle(8300 * KIB);
        timeout(AT_MOST, turn.grow(50 * KIB, 50 * KIB)).await.unwrap();
        assert!(turn.has_turn());
        [others, turn]
    }

    /// A client whose first request waits for other clients, behind the one before it.
    async fn joined(&self) -> [TcpStream; 2] {
        // The first of all makes the journal, and waits for that, too.
        let mut first = self.connect().await;
        first.write_all(&join(*b"first")).await.unwrap();
        let has_journal = async {
            while !self.core.has_journal() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(AT_MOST, has_journal).await.unwrap();
        let mut member = self.connect().await;
        member.write_all(&join(*b"group")).await.unwrap();
        [first, member]
    }

    async fn close(self) {
        self.door.close().await;
        self.core.close().unwrap();
    }
}

/// How long a whole answer is.
async fn receive(stream: &mut TcpStream) -> usize {
    let all = async {
        let mut answer = vec![0; stream.read_u32().await.unwrap() as usize];
        stream.read_exact(&mut answer).await.unwrap()
    };
    timeout(AT_MOST, all).await.unwrap()
}

#[tokio::test]
async fn a_request_that_waits_until_its_client_reads_gives_its_memory_to_who_waits_for_some() {
    let rig = Rig::new(1024 * KIB).await;
    // The list of all topics is made once and costs who sends it no memory.
    let mut reader = rig.connect().await;
    reader.write_all(&list()).await.unwrap();
    assert!(receive(&mut reader).await > 80 * KIB);

    let mut others = rig.answers.account().lease();
    others.settle(1100 * KIB);
    let mut unread = rig.connect().await;
    unread.write_all(&list()).await.unwrap();
    timeout(AT_MOST, unread.readable()).await.unwrap().unwrap();
    rig.gives_way(&mut unread).await;
    drop((unread, reader));
    rig.close().await;
}

#[tokio::test]
async fn a_request_behind_one_that_waits_for_other_clients_gives_its_memory_to_who_waits_for_some() {
    let rig = Rig::new(1024 * KIB).await;
    let [first, mut member] = rig.joined().await;
    rig.gives_way(&mut member).await;
    drop((first, member));
    rig.close().await;
}

#[tokio::test]
async fn answers_of_fetches_that_nobody_reads_take_no_more_than_there_is_and_one_turn() {
    let rig = Rig::new(256 * KIB).await;
    let mut crowd = Vec::new();
    for _ in 0..16 {
        let mut unread = rig.connect().await;
        unread.write_all(&wide_fetch(3_000)).await.unwrap();
        crowd.push(unread);
    }
    let mut most = 0;
    for unread in &crowd {
        // It has something, or was closed because it does not read on.
        let served = async {
            while timeout(Duration::from_millis(1), unread.readable()).await.is_err() {
                most = most.max(rig.answers.used());
            }
        };
        timeout(AT_MOST, served).await.unwrap();
        most = most.max(rig.answers.used());
    }
    assert!((50 * KIB..1000 * KIB).contains(&most), "{most}");
    drop(crowd);
    rig.close().await;
}

#[tokio::test]
async fn answers_of_unknown_size_leave_room_for_those_that_need_little() {
    let rig = Rig::new(8192 * KIB).await;
    let [mut others, _turn] = rig.use_up_answers().await;
    others.settle(7600 * KIB);
    // What is left is for small things, and nobody knows how large this gets.
    let mut large = rig.connect().await;
    large.write_all(&named(TOPICS)).await.unwrap();
    assert!(timeout(Duration::from_millis(300), large.readable()).await.is_err(), "answered already");
    let mut small = rig.connect().await;
    small.write_all(&wide_fetch(400)).await.unwrap();
    assert!(receive(&mut small).await > 10 * KIB);
    others.settle(0);
    assert!(receive(&mut large).await > 80 * KIB);
    drop((large, small));
    rig.close().await;
}

#[tokio::test]
async fn a_fetch_waits_in_line_whatever_is_ready_behind_it() {
    let rig = Rig::new(8192 * KIB).await;
    let used_up = rig.use_up_answers().await;
    let mut client = rig.connect().await;
    client.write_all(&[wide_fetch(900), frame(18, 0, &[])].concat()).await.unwrap();
    assert!(timeout(Duration::from_millis(300), client.readable()).await.is_err(), "answered already");
    assert_eq!(rig.answers.waiting(), 1);
    drop(used_up);
    assert!(receive(&mut client).await > 20 * KIB);
    assert!(receive(&mut client).await > 100);
    drop(client);
    rig.close().await;
}

#[tokio::test]
async fn answers_behind_a_request_that_waits_for_other_clients_give_their_memory_to_who_waits_for_some() {
    let rig = Rig::new(1024 * KIB).await;
    let [first, mut member] = rig.joined().await;
    // Each is some 7 KiB.
    for _ in 0..60 {
        member.write_all(&named(30)).await.unwrap();
    }
    let holds = async {
        while rig.answers.used() < 200 * KIB {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(AT_MOST, holds).await.unwrap();
    let (mut one, mut other) = (rig.answers.account().lease(), rig.answers.account().lease());
    timeout(AT_MOST, one.grow(900 * KIB, 900 * KIB)).await.unwrap();
    timeout(AT_MOST, other.grow(800 * KIB, 800 * KIB)).await.unwrap();
    drop((first, member));
    rig.close().await;
}

#[tokio::test]
async fn who_left_with_as_many_requests_as_may_wait_is_seen_to_have_left() {
    let rig = Rig::new(1024 * KIB).await;
    let [first, mut member] = rig.joined().await;
    for _ in 0..200 {
        member.write_all(&named(1)).await.unwrap();
    }
    let of = |census: &Census| census.open().iter().map(|open| open.connections).sum::<u64>();
    assert_eq!(of(&rig.census), 2);
    drop(member);
    let left = async {
        while of(&rig.census) > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(AT_MOST, left).await.unwrap();
    drop(first);
    rig.close().await;
}
