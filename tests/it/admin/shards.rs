//! Shards over the admin door: what is listed, what changes, and who is refused.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::House;
use crate::kafka::{NOBODY, batch};

const JSON: &str = "application/json";

impl House {
    /// POST with a content type; status and body.
    fn post(&self, path: &str, kind: &str, body: &str) -> (u16, Value) {
        let length = body.len();
        read(&self.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )))
    }

    fn change(&self, topic: &str, body: &str) -> (u16, Value) {
        self.post(&format!("/v1/topics/{topic}/shards"), JSON, body)
    }

    fn list(&self, topic: &str) -> (u16, Value) {
        read(&self.get(&format!("/v1/topics/{topic}/shards")))
    }
}

fn read(answer: &str) -> (u16, Value) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(!head.to_lowercase().contains("access-control"), "{head}");
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// Ids of all shards, and whether each is open.
fn ids(list: &Value) -> Vec<(u64, bool)> {
    let shards = list["shards"].as_array().unwrap_or_else(|| panic!("{list}"));
    shards.iter().map(|shard| (shard["id"].as_u64().unwrap(), shard["open"].as_bool().unwrap())).collect()
}

fn error(answer: &(u16, Value)) -> &str {
    answer.1["error"].as_str().unwrap_or_else(|| panic!("{answer:?}"))
}

#[test]
fn pages_of_other_sites_change_nothing() {
    let house = with_topic();
    let asked = |origin: &str| {
        let body = r#"{"split":{"shard":0}}"#;
        let answer = house.send(&format!(
            "POST /v1/topics/t/shards HTTP/1.1\r\nHost: localhost:9644\r\nConnection: close\r\nContent-Type: {JSON}\r\n\
             Content-Length: {}\r\nOrigin: {origin}\r\n\r\n{body}",
            body.len()
        ));
        read(&answer).0
    };
    for origin in
        ["http://evil.example", "null", "http://localhost:9644.evil.example", "http://localhost:1", ""]
    {
        assert_eq!(asked(origin), 403, "{origin}");
    }
    assert_eq!(ids(&house.list("t").1), [(0, true)], "nothing happened");
    assert_eq!(asked("http://localhost:9644"), 200);
}

fn with_topic() -> House {
    let house = House::configured(&[]);
    assert_eq!(house.kafka().create_topic("t", &[]), 0);
    house
}

#[test]
fn shards_are_listed_split_merged_and_scaled() {
    let house = with_topic();
    let all = u128::MAX.to_string();
    let (status, list) = house.list("t");
    let shard = &list["shards"][0];
    assert_eq!((status, list["topic"].as_str(), list["partitions"].as_u64()), (200, Some("t"), Some(1)));
    assert_eq!((shard["id"].as_u64(), shard["shard_id"].as_str()), (Some(0), Some("shardId-000000000000")));
    assert_eq!((shard["start_hash"].as_str(), shard["end_hash"].as_str()), (Some("0"), Some(all.as_str())));
    assert_eq!(
        (shard["from"].as_i64(), &shard["until"], &shard["closed_ms"]),
        (Some(0), &Value::Null, &Value::Null)
    );
    assert_eq!((shard["partition"].as_i64(), shard["parents"].as_array().map(Vec::len)), (Some(0), Some(0)));
    assert!(shard["created_s"].as_i64().unwrap() > 1_700_000_000);

    assert_eq!(house.kafka().produce("t", -1, &batch(NOBODY, 3, b"v")).0, 0);
    let (status, list) = house.change("t", r#"{"split":{"shard":0}}"#);
    assert_eq!((status, ids(&list)), (200, vec![(0, false), (1, true), (2, true)]));
    let [parent, low, high] = [0, 1, 2].map(|at| &list["shards"][at]);
    assert_eq!((parent["until"].as_i64(), parent["closed_ms"].as_i64().is_some()), (Some(3), true));
    assert_eq!(high["start_hash"].as_str(), Some((1_u128 << 127).to_string().as_str()), "the middle");
    assert_eq!((low["partition"].as_i64(), low["from"].as_i64()), (Some(0), Some(3)));
    assert_eq!((high["partition"].as_i64(), high["from"].as_i64()), (Some(1), Some(0)));
    assert_eq!((&low["parents"][0], &high["parents"][0]), (&Value::from(0), &Value::from(0)));

    let (status, list) = house.change("t", r#"{"split":{"shard":1,"at":"7"}}"#);
    assert_eq!((status, list["shards"][4]["start_hash"].as_str()), (200, Some("7")));
    let (status, list) = house.change("t", r#"{"merge":{"shard":4,"adjacent":2}}"#);
    assert_eq!((status, list["shards"][5]["parents"].as_array().unwrap().len()), (200, 2));
    let (status, list) = house.change("t", r#"{"scale":{"count":16}}"#);
    assert_eq!((status, ids(&list).iter().filter(|(_, open)| *open).count()), (200, 16));
    let (status, list) = house.change("t", r#"{"scale":{"count":4,"force":true}}"#);
    assert_eq!((status, ids(&list).iter().filter(|(_, open)| *open).count()), (200, 4));
    assert_eq!(house.list("t").1, list, "what a change answers is the list");
    house.shutdown();
}

#[test]
fn sdks_are_told_of_a_kafka_producer_in_the_same_words() {
    let house = with_topic();
    assert_eq!(house.change("t", r#"{"split":{"shard":0}}"#).0, 200);
    assert_eq!(house.kafka().append("t", 1, &batch(NOBODY, 1, b"v")).0, 0);
    let refused = house.change("t", r#"{"merge":{"shard":1,"adjacent":2}}"#);
    assert_eq!(refused.0, 409, "{refused:?}");
    let merge = r#"{"StreamName":"t","ShardToMerge":"shardId-000000000001","AdjacentShardToMerge":"shardId-000000000002"}"#;
    let told = house.kinesis().call("MergeShards", merge);
    assert_eq!(told.outcome(), (400, "ResourceInUseException".to_owned()));
    let told: Value = serde_json::from_str(&told.text()).unwrap();
    assert_eq!(told["message"], error(&refused));
    house.shutdown();
}

#[test]
fn a_merge_under_a_kafka_producer_is_refused_with_who_writes_and_how_to_force_it() {
    let house = with_topic();
    assert_eq!(house.change("t", r#"{"split":{"shard":0}}"#).0, 200);
    let mut producer = house.kafka();
    assert_eq!(producer.produce("t", -1, &batch(NOBODY, 1, b"v")).0, 0);
    let refused = house.change("t", r#"{"merge":{"shard":2,"adjacent":1}}"#);
    assert_eq!(refused.0, 409, "{refused:?}");
    for words in [
        "partition 0 of topic 't'",
        "client \"test\" at 127.0.0.1",
        "weir shard merge t shardId-000000000002 shardId-000000000001 --force",
    ] {
        assert!(error(&refused).contains(words), "{refused:?}");
    }
    let refused = house.change("t", r#"{"scale":{"count":1,"force":false}}"#);
    assert_eq!(
        refused.0, 200,
        "shard 1 goes on in partition 0, and nobody wrote to partition 1: {refused:?}"
    );
    assert_eq!(producer.produce("t", -1, &batch(NOBODY, 1, b"v")).0, 0);
    assert_eq!(house.change("t", r#"{"split":{"shard":3}}"#).0, 200);
    assert_eq!(house.change("t", r#"{"merge":{"shard":5,"adjacent":4,"force":true}}"#).0, 200);
    assert_eq!(producer.produce("t", -1, &batch(NOBODY, 1, b"v")).0, 44, "POLICY_VIOLATION");
    house.shutdown();
}

#[test]
fn what_a_page_in_a_browser_can_send_changes_nothing() {
    let house = with_topic();
    let (path, body) = ("/v1/topics/t/shards", r#"{"split":{"shard":0}}"#);
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=application/json",
        "",
        "json",
    ] {
        let refused = house.post(path, kind, body);
        assert_eq!((refused.0, error(&refused)), (415, "expected content-type: application/json"), "{kind}");
    }
    let twice = format!("{JSON}\r\nContent-Type: text/plain");
    assert_eq!(house.post(path, &twice, body).0, 415);
    let send = |head: &str| {
        read(&house.send(&format!("{head}Connection: close\r\nContent-Length: 21\r\n\r\n{body}")))
    };
    let typed = format!("Content-Type: {JSON}\r\n");
    assert_eq!(send(&format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n")).0, 415, "none");
    assert_eq!(send(&format!("POST {path} HTTP/1.1\r\nHost: evil.example\r\n{typed}")).0, 421);
    assert_eq!(send(&format!("POST {path} HTTP/1.1\r\n{typed}")).0, 400, "no host");
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS"] {
        assert_eq!(
            send(&format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{typed}")).0,
            405,
            "{method}"
        );
    }
    assert_eq!(ids(&house.list("t").1), [(0, true)]);
    let kind = "Application/JSON; charset=utf-8";
    assert_eq!(house.post(path, kind, body).0, 200, "and a program can");
    house.shutdown();
}

#[test]
fn a_body_that_is_no_change_is_refused_with_a_reason() {
    let house = with_topic();
    let deep = "[".repeat(4000);
    let long = format!(r#"{{"split":{{"shard":0,"at":"{}"}}}}"#, "9".repeat(3000));
    for body in [
        "",
        "{",
        "null",
        "[]",
        "{}",
        "\u{0}",
        r#""split""#,
        r#"{"split":{}}"#,
        r#"{"split":{"shard":"0"}}"#,
        r#"{"split":{"shard":-1}}"#,
        r#"{"split":{"shard":1e400}}"#,
        r#"{"split":{"shard":0.5}}"#,
        r#"{"split":{"shard":4294967296}}"#,
        r#"{"split":{"shard":0,"shard":0}}"#,
        r#"{"split":{"shard":0,"force":true}}"#,
        r#"{"split":{"shard":0},"merge":{"shard":0,"adjacent":1}}"#,
        r#"{"split":{"shard":0}}{}"#,
        r#"{"split":{"shard":0,"at":7}}"#,
        r#"{"split":{"shard":0,"at":""}}"#,
        r#"{"split":{"shard":0,"at":"+7"}}"#,
        r#"{"split":{"shard":0,"at":"-7"}}"#,
        r#"{"split":{"shard":0,"at":"0x7"}}"#,
        r#"{"split":{"shard":0,"at":"0"}}"#,
        r#"{"split":{"shard":0,"at":"340282366920938463463374607431768211455"}}"#,
        r#"{"split":{"shard":0,"at":"340282366920938463463374607431768211456"}}"#,
        r#"{"merge":{"shard":0}}"#,
        r#"{"merge":{"shard":0,"adjacent":0}}"#,
        r#"{"merge":{"shard":0,"adjacent":0,"force":"yes"}}"#,
        r#"{"scale":{"count":0}}"#,
        r#"{"scale":{"count":10001}}"#,
        r#"{"scale":{"count":4294967295,"force":true}}"#,
        r#"{"scale":{"count":99999999999999999999}}"#,
        r#"{"grow":{"added":1}}"#,
        &deep,
        &long,
    ] {
        let refused = house.change("t", body);
        assert_eq!(refused.0, 400, "{body:.80}: {refused:?}");
        assert!(!error(&refused).is_empty() && error(&refused).len() < 400, "{refused:?}");
    }
    let refused = house.change("t", r#"{"split":{"shard":9}}"#);
    assert_eq!(
        (refused.0, error(&refused)),
        (404, "no shard 9 in topic 't'; weir shard list t shows the shards")
    );
    assert_eq!(house.change("t", r#"{"merge":{"shard":0,"adjacent":9}}"#).0, 404);
    assert_eq!(ids(&house.list("t").1), [(0, true)]);
    assert_eq!(house.change("t", r#"{"split":{"shard":0}}"#).0, 200);
    let closed = house.change("t", r#"{"split":{"shard":0}}"#);
    assert_eq!((closed.0, error(&closed)), (400, "shard 0 is closed; weir shard list t shows the shards"));
    house.shutdown();
}

#[test]
fn a_path_names_a_topic_or_nothing() {
    let house = with_topic();
    let long = "a".repeat(5000);
    for (topic, status) in [
        ("t", 200),
        ("%74", 200),
        ("nope", 404),
        ("t%2ft", 404),
        ("%2f", 404),
        ("..", 404),
        ("%2e%2e", 404),
        ("%00", 404),
        ("%zz", 404),
        ("%", 404),
        ("%ff", 400),
        (&long, 404),
        ("%0d%0aset-cookie:a", 404),
    ] {
        assert_eq!(house.list(topic).0, status, "{topic:.40}");
        let changed = house.change(topic, r#"{"merge":{"shard":0,"adjacent":0}}"#).0;
        assert_eq!(changed, if status == 200 { 400 } else { status }, "{topic:.40}");
    }
    for path in
        ["/v1/topics//shards", "/v1/topics/t/t/shards", "/v1/topics/t/shards/", "/v1/topics/t", "/v1/topics"]
    {
        let answer = house.get(path);
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
        assert_eq!(house.post(path, JSON, "{}").0, 405, "{path}");
    }
    // What groups stand on is not for operators.
    let mut client = house.kafka();
    assert_eq!(client.commit("g", (-1, "", None), ("t", 0, 0), None), 0);
    let refused = house.change("__consumer_offsets", r#"{"split":{"shard":0}}"#);
    assert_eq!((refused.0, error(&refused)), (400, "topic '__consumer_offsets' is the broker's own"));
    house.shutdown();
}

#[test]
fn a_body_has_limits_of_size_and_time() {
    let house = with_topic();
    let spaces = " ".repeat(4097);
    let refused = house.change("t", &spaces);
    assert_eq!((refused.0, error(&refused)), (413, "the body is larger than 4096 bytes"));
    let head = format!(
        "POST /v1/topics/t/shards HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {JSON}\r\n"
    );
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n1001\r\n{spaces}\r\n0\r\n\r\n");
    assert_eq!(read(&house.send(&chunked)).0, 413);
    // A length that lies about what comes reserves nothing, and its end is not awaited.
    let promised = format!("{head}Content-Length: 999999999999\r\n\r\n{spaces}");
    assert_eq!(read(&house.send(&promised)).0, 413);
    // Just as large as it may be.
    let change = format!("{}{}", r#"{"split":{"shard":0}}"#, &spaces[..4096 - 21]);
    assert_eq!(house.change("t", &change).0, 200);

    let begun = Instant::now();
    let mut slow = TcpStream::connect(house.broker.admin_addrs()[0]).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(slow, "{head}Content-Length: 21\r\n\r\n{{").unwrap();
    let mut drip = slow.try_clone().unwrap();
    let dripping = thread::spawn(move || {
        while begun.elapsed() < Duration::from_secs(7) && drip.write_all(b" ").is_ok() {
            thread::sleep(Duration::from_millis(700));
        }
    });
    assert_eq!(house.list("t").0, 200, "nobody waits for it");
    let mut answer = [0; 12];
    slow.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    assert!((4..8).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    dripping.join().unwrap();
    // One that goes away in the middle leaves nothing behind.
    let mut gone = TcpStream::connect(house.broker.admin_addrs()[0]).unwrap();
    write!(gone, "{head}Content-Length: 21\r\n\r\n{{").unwrap();
    drop(gone);
    for _ in 0..20 {
        assert_eq!(house.list("t").0, 200);
    }
    house.shutdown();
}
