//! `weir shard` beside a real broker, under a Kafka producer, and without any.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::{Serving, refusal, run, text};
use crate::kafka::{Client, NOBODY, batch};

const MIDDLE: &str = "170141183460469231731687303715884105728";
const LAST: &str = "340282366920938463463374607431768211455";

/// A broker with its admin door, and a topic of one shard.
struct Stand {
    broker: Serving,
}

impl Stand {
    fn new() -> Self {
        let args = ["--ephemeral", "--listen", "127.0.0.1:0", "--kinesis", "off", "--admin", "127.0.0.1:0"];
        let stand = Self { broker: Serving::start(&args) };
        assert_eq!(stand.kafka().create_topic("orders", &[]), 0);
        stand
    }

    fn kafka(&self) -> Client {
        Client::connect(self.broker.address().parse().unwrap())
    }

    fn admin(&self) -> &str {
        let ready = &self.broker.ready;
        ready[ready.find("admin=").expect(ready) + 6..].split(' ').next().unwrap()
    }

    /// What is printed by a command that succeeds, line by line, blanks made one.
    fn shard(&self, args: &[&str]) -> Vec<String> {
        let output = run(&[&["shard"], args, &["--admin", self.admin()]].concat());
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{args:?}");
        let said = text(&output.stdout);
        said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    /// The one line of a command that the broker refuses.
    fn refused(&self, args: &[&str]) -> String {
        let (code, said) = refusal(&[&["shard"], args, &["--admin", self.admin()]].concat());
        assert_eq!(code, Some(1), "{said}");
        said
    }
}

const HEAD: &str = "SHARD STATE PARTITION OFFSETS PARENTS KEYS HASHES";

#[test]
fn shards_are_listed_split_and_merged_with_open_ones_first() {
    let stand = Stand::new();
    assert_eq!(
        stand.shard(&["list", "orders"]),
        ["orders: 1 shard open, 0 closed, 1 partition", HEAD, &format!("0 open 0 0.. 100.00 % 0..{LAST}")]
    );
    stand.kafka().produce("orders", -1, &batch(NOBODY, 3, b"v"));
    let below = MIDDLE.replace("728", "727");
    let two = [
        "orders: 2 shards open, 1 closed, 2 partitions".to_owned(),
        HEAD.to_owned(),
        format!("1 open 0 3.. 0 50.00 % 0..{below}"),
        format!("2 open 1 0.. 0 50.00 % {MIDDLE}..{LAST}"),
        format!("0 closed 0 0..3 100.00 % 0..{LAST}"),
    ];
    assert_eq!(stand.shard(&["split", "orders", "0"]), two);
    assert_eq!(stand.shard(&["list", "orders"]), two);
    let split = stand.shard(&[
        "split",
        "orders",
        "shardId-000000000002",
        "--at",
        LAST.replace("455", "454").as_str(),
    ]);
    assert!(split[4].starts_with("4 open 2 0.. 2 0.00 % "), "{split:?}");
    let merged = stand.shard(&["merge", "orders", "shardId-000000000003", "4"]);
    assert_eq!(merged[0], "orders: 2 shards open, 4 closed, 3 partitions");
    assert_eq!(merged[3], format!("5 open 1 0.. 3 4 50.00 % {MIDDLE}..{LAST}"));
    assert_eq!(merged.last().unwrap(), "without an open shard, read-only: partition 2");
    let json = run(&["shard", "list", "orders", "--json", "--admin", stand.admin()]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["shards"].as_array().unwrap().len(), 6);
    assert_eq!(json["shards"][5]["shard_id"], "shardId-000000000005");
}

#[test]
fn scaling_goes_up_and_down_and_kafka_clients_see_partitions_that_only_grow() {
    let stand = Stand::new();
    let open = |lines: &[String]| lines.iter().filter(|line| line.split(' ').nth(1) == Some("open")).count();
    for (count, summary) in [
        ("16", "orders: 16 shards open, 1 closed, 16 partitions"),
        ("4", "orders: 4 shards open, "),
        ("4", "orders: 4 shards open, "),
    ] {
        let lines = stand.shard(&["scale", "orders", count]);
        assert!(lines[0].starts_with(summary), "{lines:?}");
        assert_eq!(open(&lines).to_string(), count);
    }
    let idle = stand.shard(&["list", "orders"]).pop().unwrap();
    assert_eq!(idle.split(',').count() - 1, 12, "{idle}");
    assert!(stand.shard(&["scale", "orders", "8", "--force"])[0].ends_with(" 16 partitions"), "reused");
}

#[test]
fn a_merge_under_a_producer_is_refused_then_forced_and_loses_nothing_that_was_acknowledged() {
    let stand = Stand::new();
    stand.shard(&["split", "orders", "0"]);
    let stop = Arc::new(AtomicBool::new(false));
    let producing = {
        let (mut client, stop) = (stand.kafka(), Arc::clone(&stop));
        thread::spawn(move || {
            let mut acknowledged = 0;
            while !stop.load(Ordering::Relaxed) {
                match client.produce("orders", -1, &batch(NOBODY, 1, b"v")) {
                    (0, offset, _) => assert_eq!(offset, acknowledged),
                    (code, ..) => return (code, acknowledged),
                }
                acknowledged += 1;
            }
            (0, acknowledged)
        })
    };
    while stand.kafka().list_offset("orders", -1).1 < 20 {
        thread::sleep(Duration::from_millis(5));
    }
    // The producer writes to partition 0, which is shard 1's.
    assert_eq!(
        stand.refused(&["merge", "orders", "2", "1"]),
        "weir: Kafka producers wrote to partition 0 of topic 'orders' within the last minute (client \"test\" at 127.0.0.1), \
         and would be refused there afterwards: its keys go to shardId-000000000003. Stop them, or force it: \
         weir shard merge orders shardId-000000000002 shardId-000000000001 --force\n"
    );
    assert!(!producing.is_finished(), "the producer has seen nothing of it");
    let merged = stand.shard(&["merge", "orders", "shardId-000000000002", "shardId-000000000001", "--force"]);
    let (code, acknowledged) = producing.join().unwrap();
    stop.store(true, Ordering::Relaxed);
    assert_eq!(code, 44, "POLICY_VIOLATION");
    assert_eq!(merged[2], format!("3 open 1 0.. 2 1 100.00 % 0..{LAST}"));
    let closed = format!("1 closed 0 0..{acknowledged} 0 50.00 % ");
    assert!(merged.iter().any(|line| line.starts_with(&closed)), "{closed}: {merged:?}");
    assert_eq!(stand.kafka().list_offset("orders", -1), (0, acknowledged));
}

#[test]
fn a_refusal_is_one_line_that_names_the_cure() {
    let stand = Stand::new();
    for (args, words) in [
        (&["list", "nope"][..], "weir: no topic 'nope'; kcat -L and kafka-topics --list name"),
        (&["list", "a/../orders\r\nx"], "weir: no topic 'a/../orders\\r\\nx'; "),
        (&["list", ""], "answers 404: "),
        (
            &["split", "orders", "7"],
            "weir: no shard 7 in topic 'orders'; weir shard list orders shows the shards",
        ),
        (&["split", "orders", "0", "--at", "0"], "weir: hash key 0 is not strictly inside 0 to "),
        (
            &["merge", "orders", "0", "0"],
            "weir: shards 0 and 0 are not adjacent; weir shard list orders shows",
        ),
        (
            &["scale", "orders", "10001"],
            "weir: 10001 partitions are more than max.partitions.per.topic = 10000",
        ),
    ] {
        let said = stand.refused(args);
        assert!(said.contains(words), "{args:?}: {said}");
    }
    for (args, words) in [
        (&["split", "orders", "shard-1"][..], "expected a number or shardId-000000000003"),
        (&["split", "orders", "4294967296"], "expected a number or shardId-000000000003"),
        (&["split", "orders", "0", "--at", "0x7"], "'--at <HASH>'"),
        (&["scale", "orders", "0"], "0 is not in 1.."),
        (&["merge", "orders", "0"], "<ADJACENT>"),
    ] {
        let output = run(&[&["shard"], args, &["--admin", stand.admin()]].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(words), "{args:?}: {output:?}");
    }
}

#[test]
fn whoever_is_no_admin_door_is_called_so() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (code, said) = refusal(&["shard", "list", "t", "--admin", &nobody]);
    let start = format!("weir: cannot ask the admin door at {nobody}: ");
    assert_eq!(
        (code, said.starts_with(&start), said.contains("--admin HOST:PORT")),
        (Some(1), true, true),
        "{said}"
    );
    for (answer, words) in [
        ("", "ended early, or is not HTTP"),
        ("\u{0}\u{1}\u{2}", "ended early, or is not HTTP"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "ended early"),
        ("HTTP/1.1 200 OK\r\n\r\n{}", "ended early"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "does not answer like weir's admin door"),
        ("HTTP/1.1 502 Bad\r\nContent-Length: 7\r\n\r\n<html>\n", "answers 502: <html>"),
        ("HTTP/1.1 421 No\r\nContent-Length: 0\r\n\r\n", "answers 421: nothing"),
    ] {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap().to_string();
        let answering = thread::spawn(move || {
            let (mut socket, _) = other.accept().unwrap();
            let mut head = [0; 1024];
            let length = socket.read(&mut head).unwrap();
            socket.write_all(answer.as_bytes()).unwrap();
            text(&head[..length])
        });
        let (code, said) = refusal(&["shard", "list", "t", "--admin", &address]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(words), "{answer:?}: {said}");
        assert!(answering.join().unwrap().starts_with("GET /v1/topics/t/shards HTTP/1.1\r\n"));
    }
}

/// The README's example, to the letter.
const PLAN: &str = "\
5 shards: records written decide

limit                  stream      a shard  shards   used
bytes written       0.70 MB/s    1.05 MB/s       1   14 %
records written        5000/s       1000/s       5  100 %
bytes read          1.40 MB/s    2.10 MB/s       1   14 %
records read          10000/s      50000/s       1    4 %

in 0.70 MB/s, out 1.40 MB/s
polling: 2 consumers share 2 MiB/s and 5 calls/s (10000 records each) of a shard: each may ask it every 400 ms
";

#[test]
fn a_plan_says_how_many_shards_which_limit_decides_and_how_often_consumers_may_ask() {
    let load = ["shard", "plan", "--record-bytes", "140", "--records-per-second", "5000", "--consumers", "2"];
    let planned = |more: &[&str]| {
        let output = run(&[&load, more].concat());
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
        text(&output.stdout)
    };
    assert_eq!(planned(&[]), PLAN);
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    assert!(readme.contains(&format!("$ weir {}\n{PLAN}", load.join(" "))), "README.md shows another plan");
    let fan_out = planned(&["--fan-out"]);
    assert!(fan_out.starts_with("5 shards: records written decide\n"), "{fan_out}");
    assert!(fan_out.contains("bytes read          0.70 MB/s    2.10 MB/s       1    7 %\n"), "{fan_out}");
    assert!(fan_out.ends_with(
        "out 1.40 MB/s\nfan-out: 2 consumers, each with 2 MiB/s of a shard of its own, pushed without calls\n"
    ));
    let json: serde_json::Value = serde_json::from_str(&planned(&["--json"])).unwrap();
    assert_eq!(
        (&json["shards"], &json["decides"], &json["poll_ms"], &json["out_bytes_per_second"]),
        (&5.into(), &"write_records".into(), &400.into(), &1_400_000.into())
    );
}

#[test]
fn a_plan_for_nothing_or_for_too_much_is_refused() {
    for (bytes, records, consumers, words) in [
        ("0", "1", "1", "a record has 1 to 10485760 bytes"),
        ("10485761", "1", "1", "a record has 1 to 10485760 bytes"),
        ("1", "0", "1", "at least 1 record per second"),
        ("1", "1", "0", "1 to 1000 consumers"),
        ("1", "1", "1001", "1 to 1000 consumers"),
        (
            "1048576",
            "18446744073709551615",
            "1",
            "that takes 18446744073709551615 shards, and a topic has at most 10000",
        ),
    ] {
        let load = ["--record-bytes", bytes, "--records-per-second", records, "--consumers", consumers];
        let (code, said) = refusal(&[&["shard", "plan"], &load[..]].concat());
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(words), "{said}");
    }
    let (code, said) = refusal(&[
        "shard",
        "plan",
        "--fan-out",
        "--record-bytes",
        "1",
        "--records-per-second",
        "1",
        "--consumers",
        "21",
    ]);
    assert_eq!((code, said.as_str()), (Some(2), "weir: a stream has 1 to 20 consumers with fan-out\n"));
}
