//! `golden.txt`: requests as kcat and the Java clients send them, and the bytes that Apache Kafka answered.
//!
//! weir answers the same bytes to the same requests, but for what each broker chooses itself (cluster id,
//! topic id, member ids) and the differences that are listed here with their reasons.

use super::exchange;
use crate::kafka::subject::house;
use crate::kafka::{Client, House};

/// What the recorded Kafka called its cluster.
const CLUSTER: &[u8] = b"AAAAAAAAAAAAAAAAAAAAAQ";

struct Frame {
    name: &'static str,
    version: i16,
    request: Vec<u8>,
    answer: Vec<u8>,
}

fn frames() -> Vec<Frame> {
    let lines = include_str!("golden.txt").lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let [_, name, version, request, answer] =
                line.split(' ').collect::<Vec<_>>().try_into().expect("five words");
            Frame { name, version: version.parse().unwrap(), request: bytes(request), answer: bytes(answer) }
        })
        .collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    format!("{bytes:02x?}")
}

fn find(within: &[u8], wanted: &[u8]) -> Option<usize> {
    within.windows(wanted.len()).position(|window| window == wanted)
}

/// What Kafka chose, and what this broker chose in its place; both of one length.
#[derive(Default)]
struct Choices(Vec<(Vec<u8>, Vec<u8>)>);

impl Choices {
    fn translate(&self, frame: &[u8]) -> Vec<u8> {
        let mut frame = frame.to_vec();
        for (theirs, ours) in &self.0 {
            while let Some(at) = find(&frame, theirs) {
                frame[at..at + theirs.len()].copy_from_slice(ours);
            }
        }
        frame
    }

    /// Both answers name a thing right after `mark`, `length` bytes long.
    fn learn(&mut self, theirs: &[u8], ours: &[u8], mark: &[u8], length: usize) {
        let named = |frame: &[u8]| {
            let at = find(frame, mark).expect("the answer names it") + mark.len();
            frame[at..at + length].to_vec()
        };
        let pair = (named(theirs), named(ours));
        assert_ne!(pair.0, pair.1);
        self.0.push(pair);
    }
}

/// A broker as the recorded one was configured.
fn as_recorded() -> House {
    house(&[
        ("node.id", "1"),
        ("advertised.listeners", "PLAINTEXT://127.0.0.1:19292"),
        ("offsets.topic.num.partitions", "4"),
    ])
}

#[test]
fn real_requests_get_the_bytes_that_apache_kafka_answers() {
    let house = as_recorded();
    let mut client = house.client();
    let mut choices = Choices(vec![(CLUSTER.to_vec(), house.broker.cluster_id().as_bytes().to_vec())]);
    let mut compared = 0;
    for Frame { name, version, request, answer } in frames() {
        let got = exchange(&mut client, &choices.translate(&request));
        let mut expected = choices.translate(&answer);
        match (name, version) {
            // The list of APIs is each broker's own; see below.
            ("ApiVersions", _) => continue,
            // The topic's effective configuration follows the fields: weir has keys of its own.
            ("CreateTopics", 7) => {
                choices.learn(&expected, &got, b"\x07golden", 16);
                let common = find(&answer, b"\x01\x00\x01").expect("one partition, one replica");
                expected = choices.translate(&expected)[..common].to_vec();
                assert_eq!(hex(&got[..common]), hex(&expected), "CreateTopics");
                continue;
            }
            // Kafka writes the name of error 0 where weir writes an empty string: both mean that there is no error.
            ("FindCoordinator", 2) => {
                let at = find(&expected, b"\x00\x04NONE").unwrap();
                expected.splice(at..at + 6, [0, 0]);
            }
            // The first answer to a join is an error that carries the new member's id (KIP-394).
            ("JoinGroup", 5) if got[8..10] == [0, 79] => {
                choices.learn(&expected, &got, b"\x00\x29kcat-", 36);
                expected = choices.translate(&expected);
            }
            ("JoinGroup", 9) if got[9..11] == [0, 79] => {
                choices.learn(&expected, &got, b"\x36console-consumer-", 36);
                expected = choices.translate(&expected);
            }
            // Kafka grants the fetch session that was asked for; weir declines it, as KIP-227 allows.
            ("Fetch", 18) => {
                assert_ne!(expected[11..15], [0; 4]);
                expected[11..15].fill(0);
            }
            _ => {}
        }
        assert_eq!(hex(&got), hex(&expected), "{name} v{version}, asked {}", hex(&request));
        compared += 1;
    }
    assert!(compared > 25, "{compared} frames");
    drop(client);
    house.shutdown();
}

/// Key, least and greatest version, out of an ApiVersions answer of v3 or later.
fn advertised(answer: &[u8]) -> Vec<(i16, i16, i16)> {
    let i16_at = |at: usize| i16::from_be_bytes(answer[at..at + 2].try_into().unwrap());
    assert_eq!(i16_at(4), 0);
    let count = usize::from(answer[6]) - 1;
    assert!(count < 127, "a count of one byte");
    (0..count).map(|n| 7 + n * 7).map(|at| (i16_at(at), i16_at(at + 2), i16_at(at + 4))).collect()
}

#[test]
fn what_apache_kafka_advertises_of_an_api_that_weir_serves_weir_advertises_too() {
    let house = as_recorded();
    for Frame { version, request, answer, .. } in frames().into_iter().filter(|f| f.name == "ApiVersions") {
        let ours = advertised(&exchange(&mut house.client(), &request));
        let mut shared = 0;
        for (key, min, max) in advertised(&answer) {
            let Some((_, from, to)) = ours.iter().find(|(ours, ..)| *ours == key) else { continue };
            assert!(
                *from <= min && *to >= max,
                "API {key}: {from}-{to}, Kafka {min}-{max}, asked v{version}"
            );
            shared += 1;
        }
        assert_eq!(shared, ours.len(), "weir serves an API that Kafka 4.3.1 does not");
    }
    house.shutdown();
}

#[test]
fn an_answer_is_the_same_however_the_request_is_cut_into_segments() {
    let house = as_recorded();
    let frame = frames().into_iter().find(|f| (f.name, f.version) == ("Metadata", 4)).unwrap().request;
    let whole = exchange(&mut house.client(), &frame);
    let mut client: Client = house.client();
    let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
    for byte in [&length[..], &frame].concat() {
        std::io::Write::write_all(&mut client.stream, &[byte]).unwrap();
        std::thread::yield_now();
    }
    let (id, answer) = client.receive();
    assert_eq!([&id.to_be_bytes()[..], &answer.bytes[4..]].concat(), whole);
    house.shutdown();
}
