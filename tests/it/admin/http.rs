//! Who may ask what: hosts, methods, paths, heads.

use super::House;

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

#[test]
fn health_and_metrics_have_their_paths_and_other_tools_paths_too() {
    let house = House::configured(&[]);
    for (path, words) in [
        ("/livez", r#"{"status":"live"}"#),
        ("/readyz", r#"{"status":"ready"}"#),
        ("/v1/status/ready", r#"{"status":"ready"}"#),
        ("/metrics", "\nkafka_brokers 1\n"),
        ("/public_metrics", "\nredpanda_cluster_brokers 1\n"),
        ("/", "/metrics"),
    ] {
        let answer = house.get(path);
        assert_eq!(status(&answer), "200", "{path}: {answer:.200}");
        assert!(answer.contains(words), "{path}: {answer:.200}");
    }
    assert_eq!(status(&house.get("/nowhere")), "404");
    house.shutdown();
}

#[test]
fn only_reading_is_allowed() {
    let house = House::configured(&[]);
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = house.send(&format!(
            "{method} /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        ));
        assert_eq!(status(&answer), "405", "{method}");
        assert!(!answer.to_lowercase().contains("access-control"), "{answer}");
    }
    let head = house.send("HEAD /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!((status(&head), head.ends_with("\r\n\r\n")), ("200", true), "{head}");
    house.shutdown();
}

#[test]
fn a_head_that_does_not_come_is_answered_408() {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::{Duration, Instant};
    let house = House::configured(&[]);
    let connect = || {
        let stream = TcpStream::connect(house.broker.admin_addrs()[0]).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    };
    let (mut slow, mut silent) = (connect(), connect());
    slow.write_all(b"GET /livez HT").unwrap();
    let begun = Instant::now();
    let mut answers = [String::new(), String::new()];
    slow.read_to_string(&mut answers[0]).unwrap();
    silent.read_to_string(&mut answers[1]).unwrap();
    assert_eq!((status(&answers[0]), answers[1].as_str()), ("408", ""));
    assert!((8..18).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    house.shutdown();
}

#[test]
fn a_page_that_rebinds_its_name_reads_nothing() {
    let house = House::configured(&[("admin.hosts", "Metrics.Example.org,other.example")]);
    let asked = |head: &str| house.send(&format!("GET {head}\r\nConnection: close\r\n\r\n"));
    for (host, expected) in [
        ("127.0.0.1:9644", "200"),
        ("[::1]:9644", "200"),
        ("localhost", "200"),
        ("weir:9644", "200"),
        ("metrics.example.org", "200"),
        ("evil.example.org", "421"),
        ("127.0.0.1.evil.example", "421"),
    ] {
        assert_eq!(status(&asked(&format!("/metrics HTTP/1.1\r\nHost: {host}"))), expected, "{host}");
    }
    assert_eq!(status(&asked("http://evil.example/metrics HTTP/1.1\r\nHost: localhost")), "421");
    assert_eq!(status(&asked("/metrics HTTP/1.1")), "400");
    assert_eq!(status(&asked("/metrics HTTP/1.1\r\nHost: localhost\r\nHost: localhost")), "400");
    house.shutdown();
}

#[test]
fn heads_have_limits_and_the_door_goes_on_serving() {
    let house = House::configured(&[]);
    let many = "x-one: 1\r\n".repeat(100);
    assert_eq!(status(&house.send(&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"))), "431");
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nx-long: {}\r\n\r\n", "a".repeat(20_000));
    assert_eq!(status(&house.send(&long)), "431");
    assert_eq!(status(&house.send("\u{16}\u{3}\u{1} not http\r\n\r\n")), "400");
    assert_eq!(status(&house.get("/readyz")), "200");
    house.shutdown();
}

#[test]
fn a_label_that_is_none_is_refused_at_the_start() {
    use weir_broker::config::{Config, Source};
    for labels in ["novalue", "1a=b", "a-b=c", "topic=x", "a=b,a=c"] {
        let mut config = Config::default();
        config.set("metrics.labels", labels, Source::CommandLine).unwrap();
        let refusal = config.admin_settings().unwrap_err();
        assert_eq!(refusal.key, "metrics.labels", "{labels}");
    }
}
