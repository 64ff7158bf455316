//! A broker whose disk refuses: what clients, the log, the metrics, health and `weir health` say, and how often.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{Serving, run, text};
use crate::kafka::{Client, NOBODY, batch};

/// A broker with its admin door and a topic.
struct Stand {
    broker: Serving,
    client: Client,
    _dir: tempfile::TempDir,
}

impl Stand {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let broker = Serving::start(&[
            "--data-dir",
            data.to_str().unwrap(),
            "--listen",
            "127.0.0.1:0",
            "--kinesis",
            "off",
            "--admin",
            "127.0.0.1:0",
        ]);
        let mut client = Client::connect(broker.address().parse().unwrap());
        assert_eq!(client.create_topic("t", &[]), 0);
        assert_eq!(client.produce("t", -1, &batch(NOBODY, 1, b"v")).0, 0);
        Self { broker, client, _dir: dir }
    }

    fn admin(&self) -> &str {
        let ready = &self.broker.ready;
        ready[ready.find("admin=").expect(ready) + 6..].split(' ').next().unwrap()
    }

    /// Status and body.
    fn get(&self, path: &str) -> (String, String) {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(self.admin()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].to_owned(), body.to_owned())
    }

    fn metric(&self, name: &str) -> u64 {
        let (_, text) = self.get("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    }

    /// The broker's soft limit of a resource becomes `most`; what it was.
    fn limit(&self, resource: Resource, most: Option<u64>) -> Option<u64> {
        let pid = Some(Pid::from_child(&self.broker.child));
        let before = prlimit(pid, resource, Rlimit { current: most, maximum: None });
        let before = before.or_else(|_| {
            // Without privileges the hard limit must stay.
            let maximum = rustix::process::getrlimit(resource).maximum;
            prlimit(pid, resource, Rlimit { current: most, maximum })
        });
        before.unwrap().current
    }
}

fn lines_of<'a>(said: &'a str, kind: &str) -> Vec<&'a str> {
    let mark = format!("kind=\"{kind}\"");
    said.lines()
        .filter(|line| line.contains(&mark) && (line.contains("ERROR") || line.contains("WARN")))
        .collect()
}

#[test]
fn ten_thousand_refused_writes_are_a_few_lines_a_metric_and_a_reason() {
    const WRITES: u64 = 10_000;
    let mut stand = Stand::new();
    assert_eq!(stand.get("/readyz"), ("200".to_owned(), r#"{"status":"ready"}"#.to_owned()));
    assert_eq!(stand.metric(r#"weir_incidents_total{kind="disk_full"}"#), 0);
    let began = Instant::now();
    stand.limit(Resource::Fsize, Some(1));
    for _ in 0..WRITES {
        assert_eq!(stand.client.produce("t", -1, &batch(NOBODY, 1, b"v")).0, 56);
    }
    assert!(stand.metric(r#"weir_incidents_total{kind="disk_full"}"#) >= WRITES);
    assert_eq!(stand.metric(r#"weir_incidents_standing{kind="disk_full"}"#), 1);
    assert_eq!(
        (stand.metric("weir_degraded"), stand.metric("kafka_log_logmanager_offlinelogdirectorycount")),
        (1, 1)
    );
    let (status, body) = stand.get("/readyz");
    assert!(
        status == "200"
            && body.starts_with(r#"{"status":"degraded","reasons":[{"kind":"disk_full","standing":true"#),
        "{body}"
    );
    assert_eq!(stand.get("/healthz"), ("503".to_owned(), body));
    assert_eq!(stand.get("/livez").0, "200");
    let health = run(&["health", "--admin", stand.admin()]);
    let said = text(&health.stdout);
    assert!(
        health.status.success()
            && said.contains("serves, degraded:\n  disk_full (until mended): no space left"),
        "{said}"
    );
    assert_eq!(run(&["health", "--admin", stand.admin(), "--strict"]).status.code(), Some(1));
    stand.limit(Resource::Fsize, None);
    assert_eq!(stand.client.produce("t", -1, &batch(NOBODY, 1, b"v")).0, 0);
    stand.broker.signal(rustix::process::Signal::TERM);
    let seconds = began.elapsed().as_secs();
    let (code, said) = stand.broker.end();
    assert_eq!(code, Some(0), "{said}");
    let lines = lines_of(&said, "disk_full");
    assert!((1..=seconds + 2).contains(&(lines.len() as u64)), "{} lines in {seconds} s", lines.len());
    assert_eq!(lines_of(&said, "write_failed").len(), 0, "once, and under one kind");
}

#[test]
fn a_log_that_cannot_be_opened_is_told_once_a_second() {
    let mut stand = Stand::new();
    for n in 0..4 {
        assert_eq!(stand.client.create_topic(&format!("u{n}"), &[]), 0);
    }
    // Descriptors below are all taken.
    let before = stand.limit(Resource::Nofile, Some(3));
    let began = Instant::now();
    for n in 0..400 {
        assert_eq!(stand.client.produce(&format!("u{}", n % 4), -1, &batch(NOBODY, 1, b"v")).0, 56);
    }
    stand.limit(Resource::Nofile, before);
    assert!(stand.metric(r#"weir_incidents_total{kind="open_failed"}"#) >= 400);
    let (status, body) = stand.get("/readyz");
    assert!(status == "200" && body.contains(r#""kind":"open_failed","standing":false"#), "{body}");
    for n in 0..4 {
        assert_eq!(stand.client.produce(&format!("u{n}"), -1, &batch(NOBODY, 1, b"v")).0, 0);
    }
    stand.broker.signal(rustix::process::Signal::TERM);
    let seconds = began.elapsed().as_secs();
    let (code, said) = stand.broker.end();
    assert_eq!(code, Some(0), "{said}");
    let lines = lines_of(&said, "open_failed");
    assert!(
        (1..=seconds + 2).contains(&(lines.len() as u64)),
        "{} lines in {seconds} s: {said}",
        lines.len()
    );
}

#[test]
fn clients_that_send_no_requests_are_a_few_lines() {
    use std::io::{Read, Write};
    let stand = Stand::new();
    let began = Instant::now();
    for _ in 0..300 {
        let mut stream = std::net::TcpStream::connect(stand.broker.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        // It is closed without an answer; with bytes of ours unread that is a reset.
        let _ = stream.read(&mut [0; 16]);
    }
    assert_eq!(stand.get("/readyz").1, r#"{"status":"ready"}"#, "clients degrade nothing");
    stand.broker.signal(rustix::process::Signal::TERM);
    let seconds = began.elapsed().as_secs();
    let (code, said) = stand.broker.end();
    assert_eq!(code, Some(0), "{said}");
    let lines = said.lines().filter(|line| line.contains("connection closed")).count() as u64;
    assert!((1..=seconds + 2).contains(&lines), "{lines} lines in {seconds} s: {said}");
}
