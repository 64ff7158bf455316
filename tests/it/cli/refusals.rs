//! What a wrong wish is answered: the exit code, and one line that names what to change.

use super::*;

#[test]
fn a_wrong_address_says_what_is_wrong_with_it() {
    for (address, words) in [
        ("nowhere", "'nowhere' for '--listen <[NAME://]HOST:PORT>': the port is missing"),
        ("127.0.0.1:99999", "the port is a number from 0 to 65535"),
        ("127.0.0.1:1,127.0.0.1:2", "repeat --listen"),
    ] {
        let output = run(&["--listen", address]);
        assert_eq!(output.status.code(), Some(2), "{address}");
        assert!(text(&output.stderr).contains(words), "{output:?}");
    }
    // A label of 64 letters is no name: nobody is asked for it.
    let host = format!("{}:9092", "x".repeat(64));
    let (code, said) = refusal(&["--ephemeral", "--listen", &host]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.starts_with(&format!("weir: cannot listen on {host}: ")), "{said}");
    assert!(said.contains("--listen HOST:PORT"), "{said}");
}

#[test]
fn two_listeners_on_one_address_and_a_name_without_protocol_are_refused() {
    for (listen, words) in [
        (["127.0.0.1:19092", "127.0.0.1:19092"], "PLAINTEXT and PLAINTEXT-2 share an address"),
        (["127.0.0.1:19092", "localhost:19092"], "PLAINTEXT and PLAINTEXT-2 share an address"),
        (
            ["127.0.0.1:0", "DOCKER://127.0.0.1:0"],
            "no protocol for the listener DOCKER; add DOCKER:PLAINTEXT",
        ),
    ] {
        let [first, second] = listen;
        let (code, said) = refusal(&["--ephemeral", "--listen", first, "--listen", second]);
        assert_eq!(code, Some(3), "{said}");
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_protocol_that_is_not_spoken_is_blamed_on_the_key_that_asks_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("server.properties");
    let map = "listener.security.protocol.map";
    for (text_of_file, key) in [
        ("listeners=SASL_SSL://:9093\n".to_owned(), "listeners"),
        (format!("listeners=A://:9093\n{map}=A:SSL\n"), map),
    ] {
        fs::write(&file, text_of_file).unwrap();
        let output = run(&["config", "check", file.to_str().unwrap()]);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(!output.status.success() && said.contains(&format!("for configuration {key}: ")), "{said}");
    }
}

#[test]
fn a_property_needs_a_name() {
    let output = run(&["--ephemeral", "-X", "=4"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("expected key=value"), "{output:?}");
}

#[test]
fn a_data_directory_that_cannot_be_one_is_called_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    for bad in [file.join("below"), file, "/proc/nothing".into()] {
        let bad = bad.to_str().unwrap();
        let (code, said) = refusal(&["--listen", "127.0.0.1:0", "--data-dir", bad]);
        assert_eq!(code, Some(4), "{said}");
        assert!(said.starts_with("weir: cannot use the data directory: ") && said.contains(bad), "{said}");
    }
}

#[test]
fn a_benchmark_without_a_broker_and_a_file_that_is_no_segment_are_called_so() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (code, said) = refusal(&["bench", "--addr", &nobody, "produce"]);
    assert_eq!(
        (code, said.starts_with(&format!("weir: cannot connect to {nobody}: "))),
        (Some(1), true),
        "{said}"
    );
    let output = run(&["inspect", concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("not a segment, or damaged at its begin"), "{output:?}");
}

/// The file that comes with Apache Kafka 4.3, without its comments.
const SERVER_PROPERTIES: &str = "\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/var/lib/kafka-logs
num.partitions=1
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
";

#[test]
fn the_file_that_kafka_ships_is_known_to_the_last_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("server.properties");
    fs::write(&file, SERVER_PROPERTIES).unwrap();
    let output = run(&["config", "check", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = text(&output.stdout);
    assert_eq!(said.lines().count(), SERVER_PROPERTIES.lines().count(), "{said}");
    assert!(
        said.lines().all(|line| line.starts_with("applied ") || line.starts_with("no effect ")),
        "{said}"
    );
}
