//! Memory of requests and answers: within its numbers whoever asks and does not read, or sends and does not finish; and
//! whoever does read and finish is served meanwhile.

use std::io::Read;
use std::time::{Duration, Instant};

use weir_broker::Broker;
use weir_broker::config::{Config, Source};

use super::{AUTHORIZATION, Client, House, JSON, request};

const REQUESTS: &str = "kinesis.queued.max.request.bytes";
const ANSWERS: &str = "kinesis.queued.max.response.bytes";
const MIB: usize = 1 << 20;

fn bounded(pairs: &[(&str, usize)]) -> House {
    let mut config = Config::default();
    config.set("kinesis.quota.profile", "off", Source::CommandLine).unwrap();
    for (key, value) in pairs {
        config.set(key, &value.to_string(), Source::CommandLine).unwrap();
    }
    House::start(Broker::builder().ephemeral().config(config).admin("127.0.0.1:0"))
}

/// Bytes that are held of a budget beyond what each connection has of its own.
fn held(house: &House, budget: &str) -> usize {
    let mut client = Client::connect(house.broker().admin_addrs()[0]);
    client.send(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let mut text = String::new();
    client.stream.read_to_string(&mut text).unwrap();
    let line = format!("weir_memory_in_flight_bytes{{budget=\"{budget}\"}} ");
    let (_, rest) = text.split_once(&line).unwrap_or_else(|| panic!("no {line} in {text}"));
    rest.split_once('\n').unwrap().0.trim().parse().unwrap()
}

fn until(mut what: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !what() {
        assert!(Instant::now() < end, "it did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A stream with `count` records of 900 kB, and an iterator to its start.
fn filled(house: &House, count: usize) -> String {
    let mut client = house.client();
    client.create("large", 1);
    for _ in 0..count {
        client.put("large", "k", &"A".repeat(1_200_000));
    }
    client.iterator("large", 0, r#""ShardIteratorType":"TRIM_HORIZON""#)
}

fn ask(iterator: &str) -> String {
    format!(r#"{{"ShardIterator":"{iterator}"}}"#)
}

/// An HTTP/2 connection that sends and never reads.
struct Deaf(Client, u32);

impl Deaf {
    fn open(house: &House) -> Self {
        let mut client = house.client();
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        client.send(&frame(4, 0, 0, &[]));
        Self(client, 1)
    }

    fn post(&mut self, operation: &str, body: &str) {
        self.begin(operation, body.len());
        self.0.send(&frame(0, 1, self.1, body.as_bytes()));
        self.1 += 2;
    }

    /// A head, and no body yet.
    fn begin(&mut self, operation: &str, length: usize) {
        let mut head = Vec::new();
        // Literals that nobody indexes, names and values as they are.
        let length = length.to_string();
        let target = format!("Kinesis_20131202.{operation}");
        for (name, value) in [
            (":method", "POST"),
            (":path", "/"),
            (":scheme", "http"),
            (":authority", "localhost"),
            ("content-type", JSON),
            ("x-amz-target", &target),
            ("x-amz-date", "20260101T000000Z"),
            ("authorization", AUTHORIZATION),
            ("content-length", &length),
        ] {
            head.push(0);
            for text in [name, value] {
                let short = text.len().min(127);
                head.push(u8::try_from(short).unwrap());
                if short == 127 {
                    let mut more = text.len() - 127;
                    while more > 127 {
                        head.push(u8::try_from(more & 127).unwrap() | 128);
                        more >>= 7;
                    }
                    head.push(u8::try_from(more).unwrap());
                }
                head.extend_from_slice(text.as_bytes());
            }
        }
        self.0.send(&frame(1, 4, self.1, &head));
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Small calls, as every client makes them.
fn is_served(house: &House) {
    let mut client = house.client();
    client.put("small", "k", "YQ==");
    assert!(client.read("small", 0).text().contains("YQ=="));
    client.must("DescribeStreamSummary", r#"{"StreamName":"small"}"#);
}

#[test]
fn one_connection_that_reads_nothing_holds_its_share_and_nobody_notices() {
    let house = bounded(&[(ANSWERS, 32 * MIB)]);
    house.client().create("small", 1);
    let iterator = filled(&house, 8);
    let mut deaf = Deaf::open(&house);
    for _ in 0..200 {
        deaf.post("GetRecords", &ask(&iterator));
    }
    // All of them want 9 MiB.
    until(|| held(&house, ANSWERS) > MIB);
    for _ in 0..10 {
        assert!(held(&house, ANSWERS) <= 17 * MIB, "{}", held(&house, ANSWERS));
        is_served(&house);
        assert_eq!(house.client().must("GetRecords", &ask(&iterator)).count("Data"), 8, "all that there is");
    }
    drop(deaf);
    until(|| held(&house, ANSWERS) == 0);
    house.shutdown();
}

#[test]
fn many_connections_that_read_nothing_hold_no_more_than_all_may_and_give_way() {
    let house = bounded(&[(ANSWERS, 16 * MIB)]);
    house.client().create("small", 1);
    let iterator = filled(&house, 8);
    let mut deaf: Vec<Deaf> = (0..30).map(|_| Deaf::open(&house)).collect();
    for connection in &mut deaf {
        connection.post("GetRecords", &ask(&iterator));
    }
    until(|| held(&house, ANSWERS) > 8 * MIB);
    for _ in 0..5 {
        // And one turn: an answer of eight records.
        assert!(held(&house, ANSWERS) <= 27 * MIB, "{}", held(&house, ANSWERS));
        is_served(&house);
    }
    let answer = house.client().must("GetRecords", &ask(&iterator));
    assert!(answer.count("Data") > 0 && answer.text().contains("NextShardIterator"));
    drop(deaf);
    until(|| held(&house, ANSWERS) == 0);
    house.shutdown();
}

#[test]
fn subscriptions_that_nobody_reads_hold_no_more_than_all_may() {
    let house = bounded(&[(ANSWERS, 8 * MIB)]);
    house.client().create("small", 1);
    let _ = filled(&house, 4);
    let mut client = house.client();
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/large";
    let mut deaf: Vec<Deaf> = Vec::new();
    for consumer in 0..20 {
        let body = format!(r#"{{"StreamARN":"{arn}","ConsumerName":"c{consumer}"}}"#);
        let consumer = client.must("RegisterStreamConsumer", &body).field("ConsumerARN");
        let mut connection = Deaf::open(&house);
        connection.post(
            "SubscribeToShard",
            &format!(
                r#"{{"ConsumerARN":"{consumer}","ShardId":"shardId-000000000000","StartingPosition":{{"Type":"TRIM_HORIZON"}}}}"#
            ),
        );
        deaf.push(connection);
    }
    until(|| held(&house, ANSWERS) > MIB);
    for _ in 0..5 {
        assert!(held(&house, ANSWERS) <= 11 * MIB, "{}", held(&house, ANSWERS));
        is_served(&house);
    }
    drop(deaf);
    until(|| held(&house, ANSWERS) == 0);
    house.shutdown();
}

#[test]
fn bodies_that_do_not_come_on_shut_nobody_out() {
    let house = bounded(&[(REQUESTS, 8 * MIB)]);
    house.client().create("small", 1);
    let whole = format!(r#"{{"StreamName":"small","PartitionKey":"k","Data":"{}"}}"#, "A".repeat(1_200_000));
    // Twice as many as there is memory for: each gets a second, and the line is not longer than a client's patience.
    let half: Vec<Client> = (0..14)
        .map(|_| {
            let mut client = house.client();
            let bytes = request(JSON, "PutRecord", whole.as_bytes());
            client.send(&bytes[..bytes.len() - 10]);
            client
        })
        .collect();
    until(|| held(&house, REQUESTS) > 6 * MIB);
    for _ in 0..3 {
        is_served(&house);
        assert_eq!(house.client().call("PutRecord", &whole).outcome(), (200, "ok".to_owned()));
        // And one turn: a body, and what is made of it.
        assert!(held(&house, REQUESTS) <= 13 * MIB, "{}", held(&house, REQUESTS));
    }
    drop(half);
    until(|| held(&house, REQUESTS) == 0);
    house.shutdown();
}

#[test]
fn requests_whose_bodies_do_not_come_are_counted_and_none_is_begun_when_memory_is_used_up() {
    let house = bounded(&[(REQUESTS, MIB / 4)]);
    house.client().create("small", 1);
    let mut deaf: Vec<Deaf> = (0..4).map(|_| Deaf::open(&house)).collect();
    for connection in &mut deaf {
        for _ in 0..40 {
            connection.begin("PutRecord", 100);
            connection.1 += 2;
        }
    }
    until(|| held(&house, REQUESTS) > MIB / 5);
    for _ in 0..5 {
        assert!(held(&house, REQUESTS) <= MIB / 4 + 64 * 1024, "{}", held(&house, REQUESTS));
        is_served(&house);
    }
    drop(deaf);
    until(|| held(&house, REQUESTS) == 0);
    house.shutdown();
}

#[test]
fn one_connection_may_have_as_many_requests_in_flight_as_clients_count_on() {
    let house = bounded(&[(REQUESTS, 64 * MIB)]);
    let mut deaf = Deaf::open(&house);
    for _ in 0..250 {
        deaf.begin("PutRecord", 100);
        deaf.1 += 2;
    }
    // What is its own is not among them.
    until(|| held(&house, REQUESTS) == 250 * 8 * 1024 - 16 * 1024);
    house.shutdown();
}

#[test]
fn a_body_that_came_slowly_is_refused_when_others_need_its_memory_and_not_before() {
    let house = bounded(&[(REQUESTS, MIB)]);
    house.client().create("small", 1);
    let whole = format!(r#"{{"StreamName":"small","PartitionKey":"k","Data":"{}"}}"#, "A".repeat(800_000));
    let bytes = request(JSON, "PutRecord", whole.as_bytes());
    let (begin, end) = bytes.split_at(bytes.len() - 10);
    let mut slow = house.client();
    slow.send(begin);
    until(|| held(&house, REQUESTS) > MIB / 2);
    std::thread::sleep(Duration::from_millis(2_500));
    slow.send(end);
    assert_eq!(slow.receive().unwrap().outcome(), (200, "ok".to_owned()), "nobody else wanted anything");
    let mut slow: Vec<Client> = (0..3)
        .map(|_| {
            let mut client = house.client();
            client.send(begin);
            client
        })
        .collect();
    // One is there and one has the turn, so the third waits until one of them is refused.
    for client in &slow {
        client.stream.get_ref().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    }
    until(|| slow.iter_mut().filter_map(Client::receive).any(|answer| answer.status == 408));
    house.shutdown();
}
