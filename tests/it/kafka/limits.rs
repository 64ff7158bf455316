//! Limits of connections, frames, memory and time, from outside: what happens when each is reached, and that the
//! others go on meanwhile.
//!
//! Source of the answers: the table of limits in README.md. Deliberately absent: limits of topics and groups.

use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use weir_broker::config::{Config, Source};

use super::*;

const KIB: usize = 1024;
const MIB: usize = 1024 * 1024;

pub(super) fn house(settings: &[(&str, &str)]) -> House {
    let mut config = Config::default();
    config.set_all(settings.iter().copied(), Source::CommandLine).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let broker = runtime.block_on(Broker::builder().config(config).ephemeral().start()).unwrap();
    House { runtime, broker }
}

/// One batch of one record whose value has `bytes` bytes.
fn large_batch(bytes: usize) -> Vec<u8> {
    let varint = |n: usize| {
        let mut rest = n * 2;
        let mut out = Vec::new();
        while rest >= 0x80 {
            out.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
            rest >>= 7;
        }
        out.push(u8::try_from(rest).unwrap());
        out
    };
    let body = [&[0, 0, 0, 1][..], &varint(bytes), &vec![b'x'; bytes], &[0]].concat();
    let tail = Out::new().i16(0).i32(0).i64(1_000).i64(1_000).i64(-1).i16(-1).i32(-1).i32(1);
    let tail = tail.raw(&varint(body.len())).raw(&body);
    let length = i32::try_from(tail.0.len() + 9).unwrap();
    Out::new().i64(0).i32(length).i32(-1).i8(2).raw(&crc32c(&tail.0).to_be_bytes()).raw(&tail.0).0
}

/// Whether ApiVersions v0 is answered.
fn is_served(client: &mut Client) -> bool {
    let frame = [&10_i32.to_be_bytes()[..], &18_i16.to_be_bytes(), &[0, 0, 0, 0, 0, 7, 0xff, 0xff]].concat();
    let mut length = [0; 4];
    if client.stream.write_all(&frame).is_err() || client.stream.read_exact(&mut length).is_err() {
        return false;
    }
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
    client.stream.read_exact(&mut answer).is_ok() && answer[..6] == [0, 0, 0, 7, 0, 0]
}

/// Whether the broker has closed the connection, or does so within `patience`.
fn is_closed(client: &mut Client, patience: Duration) -> bool {
    client.stream.set_read_timeout(Some(patience)).unwrap();
    match client.stream.read(&mut [0; 1]) {
        Ok(0) => true,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        Ok(_) => panic!("an answer to nothing"),
    }
}

/// IncrementalAlterConfigs v0 of this broker's keys; the first error code.
pub(super) fn alter(client: &mut Client, settings: &[(&str, &str)]) -> i16 {
    let mut body = Out::new().i32(1).i8(4).string("1").i32(settings.len() as i32);
    for (key, value) in settings {
        body = body.string(key).i8(0).string(value);
    }
    let mut answer = client.call(44, 0, &body.i8(0));
    answer.i32();
    assert_eq!(answer.i32(), 1);
    answer.i16()
}

// --- memory of requests --------------------------------------------------------------------------------------

#[test]
fn more_large_requests_than_memory_are_all_answered() {
    let limit = (2 * MIB).to_string();
    let house = house(&[("queued.max.request.bytes", &limit), ("flush", "never")]);
    assert_eq!(house.client().create_topic("t", &[]), 0);
    let batch = Arc::new(large_batch(MIB - KIB));
    let clients: Vec<_> = (0..30)
        .map(|_| {
            let (mut client, batch) = (house.client(), Arc::clone(&batch));
            thread::spawn(move || (0..3).map(|_| client.produce("t", -1, &batch).0).collect::<Vec<_>>())
        })
        .collect();
    for client in clients {
        assert_eq!(client.join().unwrap(), [0, 0, 0]);
    }
    assert_eq!(house.client().list_offset("t", -1), (0, 90));
    house.shutdown();
}

#[test]
fn fetches_that_wait_and_frames_that_stall_do_not_keep_producers_out() {
    let limit = (2 * MIB).to_string();
    let house = house(&[("queued.max.request.bytes", &limit), ("flush", "never")]);
    let mut known = house.client();
    assert_eq!(known.create_topic("t", &[]), 0);
    // Fetches of the same partition thousands of times that wait for days take all that there is.
    let entry = |body: Out| body.i32(0).i64(0).i32(MIB as i32);
    let body = Out::new().i32(-1).i32(i32::MAX).i32(1).i32(MIB as i32).i8(0).i32(1).string("t").i32(2_000);
    let body = (0..2_000).fold(body, |body, _| entry(body));
    let mut waiting: Vec<_> = (0..16).map(|_| house.client()).collect();
    waiting.iter_mut().for_each(|client| {
        client.send(1, 4, &body);
    });
    // And whose frame lacks one byte needs less than everybody else.
    let mut stalled: Vec<_> = (0..4).map(|_| house.client()).collect();
    for client in &mut stalled {
        assert!(is_served(client));
        client.stream.write_all(&[&(17_000_i32).to_be_bytes()[..], &vec![0; 16_999]].concat()).unwrap();
    }
    let large = large_batch(100 * KIB);
    for mut client in [house.client(), known, house.client()] {
        client.stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        for _ in 0..3 {
            assert_eq!(client.produce("t", 1, &large).0, 0);
        }
    }
    // Nobody waits in vain: what was held up is answered with what there is.
    for client in &mut waiting {
        client.stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        client.receive();
    }
    house.shutdown();
}

#[test]
fn large_frames_that_never_end_hold_up_nobody_for_long() {
    let limit = MIB.to_string();
    let house = house(&[("queued.max.request.bytes", &limit), ("flush", "never")]);
    let mut client = house.client();
    assert_eq!(client.create_topic("t", &[]), 0);
    let mut slow: Vec<_> = (0..3).map(|_| house.client()).collect();
    for client in &mut slow {
        assert!(is_served(client));
        client.stream.write_all(&(100 * MIB as i32).to_be_bytes()).unwrap();
        client.stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
        // What the broker does not read the kernel keeps, and then no more.
        let _ = client.stream.write_all(&vec![0; 600 * KIB]);
    }
    let begin = Instant::now();
    for _ in 0..20 {
        assert_eq!(client.produce("t", -1, &batch(NOBODY, 1, b"small")).0, 0);
    }
    assert!(begin.elapsed() < Duration::from_secs(2), "small ones pass: {:?}", begin.elapsed());
    client.stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    client.stream.set_write_timeout(Some(Duration::from_secs(40))).unwrap();
    let large = large_batch(MIB - KIB);
    assert_eq!(client.produce("t", -1, &large).0, 0);
    for client in &mut slow {
        assert!(is_closed(client, Duration::from_secs(40)));
    }
    assert!(begin.elapsed() < Duration::from_secs(40), "{:?}", begin.elapsed());
    let again = Instant::now();
    assert_eq!(client.produce("t", -1, &large).0, 0);
    assert!(again.elapsed() < Duration::from_secs(5), "the memory is back: {:?}", again.elapsed());
    house.shutdown();
}

// --- memory of answers ---------------------------------------------------------------------------------------

#[test]
fn many_answers_to_one_read_wait_within_the_queue_and_come_in_order() {
    let broker = Process::start(&[], None);
    let mut client = broker.client();
    let body = Out::new().i32(1).string("wide").i32(5_000).i16(1).i32(0).i32(0).i32(20_000).i8(0);
    client.call(19, 2, &body);
    let mut answer = client.call(3, 1, &Out::new().i32(-1));
    let answer_bytes = answer.bytes.len();
    assert!(answer_bytes > 100 * KIB && answer.i32() == 1, "{answer_bytes}");
    let before = broker.anonymous_bytes();
    let first = client.next;
    for _ in 0..2_000 {
        client.send(3, 1, &Out::new().i32(-1));
    }
    let mut other = broker.client();
    assert!(is_served(&mut other));
    thread::sleep(Duration::from_millis(500));
    let grown = broker.anonymous_bytes().saturating_sub(before);
    assert!(grown < 16 * MIB, "{grown} bytes wait for a reader that does not read");
    for id in first..first + 100 {
        assert_eq!(client.receive().0, id);
    }
}

#[test]
fn who_writes_much_and_reads_many_partitions_stands_in_one_line_only() {
    let house = house(&[("flush", "never")]);
    let mut client = house.client();
    assert_eq!(client.create_topic("fat", &[]), 0);
    let wide = Out::new().i32(1).string("wide").i32(200).i16(1).i32(0).i32(0).i32(20_000).i8(0);
    client.call(19, 2, &wide);
    assert_eq!(client.produce("fat", 1, &large_batch(300 * KIB)).0, 0);
    let fetch = |topic: &str, partitions: i32| {
        let body =
            Out::new().i32(-1).i32(0).i32(1).i32(MIB as i32).i8(0).i32(1).string(topic).i32(partitions);
        (0..partitions).fold(body, |body, p| body.i32(p).i64(0).i32(MIB as i32))
    };
    let (fat, wide) = (Arc::new(fetch("fat", 1)), Arc::new(fetch("wide", 200)));
    // More than there are turns: any one that is held by who does not run stops all of them.
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let (mut client, fat, wide) = (house.client(), Arc::clone(&fat), Arc::clone(&wide));
            thread::spawn(move || {
                for _ in 0..40 {
                    let sent: Vec<_> =
                        (0..4).flat_map(|_| [client.send(1, 4, &fat), client.send(1, 4, &wide)]).collect();
                    for id in sent {
                        assert_eq!(client.receive().0, id);
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    assert!(is_served(&mut house.client()));
    house.shutdown();
}

/// DescribeConfigs v3 of this broker with all texts: some sixty kilobytes.
fn describe_broker() -> Out {
    Out::new().i32(1).i8(4).string("1").i32(-1).i8(1).i8(1)
}

#[test]
fn clients_that_do_not_read_hold_no_more_than_is_allowed_and_the_others_are_served() {
    let limit = (4 * MIB).to_string();
    let broker = Process::start(&["-X", &format!("queued.max.response.bytes={limit}")], None);
    let mut known = broker.client();
    assert_eq!(known.create_topic("t", &[]), 0);
    let answer_bytes = known.call(32, 3, &describe_broker()).bytes.len();
    assert!(answer_bytes > 30 * KIB, "{answer_bytes}");
    let before = broker.anonymous_bytes();
    let mut strangers: Vec<_> = (0..60).map(|_| broker.client()).collect();
    for stranger in &mut strangers {
        for _ in 0..60 {
            stranger.send(32, 3, &describe_broker());
        }
    }
    // 200 MiB were asked for. Those who are known go on, also with what needs memory.
    for n in 0..200 {
        assert_eq!(known.produce("t", -1, &batch(NOBODY, 1, b"small")), (0, n, -1));
        assert!(is_served(&mut known));
    }
    known.stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    for _ in 0..3 {
        assert_eq!(known.call(32, 3, &describe_broker()).bytes.len(), answer_bytes);
    }
    let grown = broker.anonymous_bytes().saturating_sub(before);
    assert!(grown < 24 * MIB, "{grown} bytes wait for readers that do not read");
    // Meanwhile who did not read was closed, and said to be.
    assert!(broker.lines_with("queued.max.response.bytes") > 0);
}

#[test]
fn fetches_of_many_partitions_are_decoded_once_there_is_memory_for_that() {
    let limit = (8 * MIB).to_string();
    let broker = Process::start(&["-X", &format!("queued.max.request.bytes={limit}")], None);
    let mut known = broker.client();
    assert_eq!(known.create_topic("t", &[]), 0);
    // Small enough not to wait for its bytes, and some 200 KiB once it waits for records.
    let body = Out::new().i32(-1).i32(5_000).i32(1).i32(MIB as i32).i8(0).i32(1).string("t").i32(900);
    let body = (0..900).fold(body, |body, _| body.i32(0).i64(0).i32(MIB as i32));
    let before = broker.anonymous_bytes();
    let mut crowd: Vec<_> = (0..200).map(|_| broker.client()).collect();
    let mut most = 0;
    for client in &mut crowd {
        client.send(1, 4, &body);
        most = most.max(broker.anonymous_bytes());
    }
    assert!(is_served(&mut known));
    for client in &mut crowd {
        client.stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        client.receive();
        most = most.max(broker.anonymous_bytes());
    }
    let grown = most.saturating_sub(before);
    assert!(grown < 24 * MIB, "{grown} bytes for {} fetches", crowd.len());
}

#[test]
fn one_list_of_all_topics_is_sent_to_all_who_do_not_read_it() {
    let broker = Process::start(&[], None);
    let mut client = broker.client();
    let body = Out::new().i32(1).string("wide").i32(10_000).i16(1).i32(0).i32(0).i32(20_000).i8(0);
    client.call(19, 2, &body);
    let list = || Out::new().i32(-1);
    let list_bytes = client.call(3, 1, &list()).bytes.len();
    assert!(list_bytes > 200 * KIB, "{list_bytes}");
    let before = broker.anonymous_bytes();
    let mut crowd: Vec<_> = (0..200).map(|_| broker.client()).collect();
    for stranger in &mut crowd {
        for _ in 0..64 {
            stranger.send(3, 1, &list());
        }
    }
    assert!(is_served(&mut client));
    for stranger in &mut crowd {
        // The first answer is whole, whatever waits behind it.
        assert_eq!(stranger.receive().1.bytes.len(), list_bytes);
    }
    let grown = broker.anonymous_bytes().saturating_sub(before);
    assert!(grown < 24 * MIB, "{grown} bytes for {} lists of {list_bytes}", crowd.len());
}

#[test]
fn answers_come_in_order_whoever_made_them() {
    let house = House::ephemeral();
    let mut client = house.client();
    assert_eq!(client.create_topic("t", &[]), 0);
    for topic in 0..100 {
        assert_eq!(client.create_topic(&format!("t{topic}"), &[]), 0);
    }
    let names = (0..2_000).fold(Out::new().i32(2_000), |body, n| body.string(&format!("no-such-{n}")));
    let mut sent = Vec::new();
    for _ in 0..20 {
        sent.push(client.send(3, 1, &Out::new().i32(-1)));
        sent.push(client.send(0, 7, &produce_body("t", -1, &batch(NOBODY, 1, b"v"))));
        sent.push(client.send(32, 3, &describe_broker()));
        sent.push(client.send(16, 0, &Out::new()));
        sent.push(client.send(3, 4, &Out(names.0.clone()).i8(0)));
        sent.push(client.send(12, 0, &Out::new().string("g").i32(1).string("m")));
    }
    for id in sent {
        assert_eq!(client.receive().0, id);
    }
    assert_eq!(client.list_offset("t", -1), (0, 20));
    house.shutdown();
}

#[test]
fn a_malformed_request_of_any_size_ends_its_connection_only() {
    let house = House::ephemeral();
    let mut good = house.client();
    for bytes in [100, 100 * KIB] {
        let mut client = house.client();
        client.send(3, 1, &Out(vec![0x7f; bytes]));
        assert!(is_closed(&mut client, Duration::from_secs(5)), "{bytes}");
        assert!(is_served(&mut good));
    }
    house.shutdown();
}

#[test]
fn a_large_produce_is_appended_whole_and_in_its_place() {
    let house = house(&[("message.max.bytes", "8388608")]);
    let mut client = house.client();
    assert_eq!(client.create_topic("t", &[]), 0);
    let (small, large) = (batch(NOBODY, 1, b"small"), large_batch(5 * MIB));
    for acks in [-1, 1] {
        let sent: Vec<_> = [&small, &large, &small, &large, &small]
            .map(|records| client.send(0, 7, &produce_body("t", acks, records)))
            .to_vec();
        let base = if acks == -1 { 0 } else { 5 };
        for (n, id) in (base..).zip(sent) {
            let (answered, answer) = client.receive();
            assert_eq!((answered, produced(answer)), (id, (0, n, -1)));
        }
    }
    client.send(0, 7, &produce_body("t", 0, &large));
    assert_eq!(client.list_offset("t", -1), (0, 11), "the next request comes after it");
    house.shutdown();
}

#[test]
fn who_holds_up_everything_does_not_hold_up_the_end() {
    let house = house(&[("queued.max.response.bytes", "100000"), ("queued.max.request.bytes", "100000")]);
    assert_eq!(house.client().create_topic("t", &[]), 0);
    let mut clients: Vec<_> = (0..40).map(|_| house.client()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        match n % 4 {
            // Never reads.
            0 => {
                for _ in 0..50 {
                    client.send(32, 3, &describe_broker());
                }
            }
            // Half a frame.
            1 => client
                .stream
                .write_all(&[&(200_000_i32).to_be_bytes()[..], &vec![0; 20_000]].concat())
                .unwrap(),
            // Waits for ever.
            2 => {
                let body = Out::new().i32(-1).i32(i32::MAX).i32(1).i32(MIB as i32).i8(0).i32(1).string("t");
                client.send(1, 4, &body.i32(1).i32(0).i64(0).i32(MIB as i32));
            }
            // Reads a little.
            _ => {
                client.send(32, 3, &describe_broker());
                let _ = client.stream.read(&mut [0; 1]);
            }
        }
    }
    assert!(is_served(&mut house.client()));
    let begun = Instant::now();
    house.shutdown();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn requests_above_the_number_in_flight_start_when_one_is_answered() {
    let house = house(&[("connection.max.in.flight.requests", "1")]);
    let mut client = house.client();
    assert_eq!(client.create_topic("t", &[]), 0);
    // Fetch v4 of an empty partition, which waits 150 ms.
    let body = Out::new().i32(-1).i32(150).i32(1).i32(MIB as i32).i8(0).i32(1).string("t").i32(1);
    let body = body.i32(0).i64(0).i32(MIB as i32);
    let begin = Instant::now();
    let sent: Vec<_> = (0..6).map(|_| client.send(1, 4, &body)).collect();
    for id in sent {
        assert_eq!(client.receive().0, id);
    }
    assert!(begin.elapsed() >= Duration::from_millis(6 * 150), "{:?}", begin.elapsed());
    house.shutdown();
}

// --- how many, and how fast ----------------------------------------------------------------------------------

#[test]
fn limits_of_connections_follow_a_change_at_once() {
    let house = house(&[]);
    let mut client = house.client();
    let now = Duration::from_secs(5);
    for (key, value) in [
        ("max.connections", "2"),
        ("max.connections.per.ip", "2"),
        ("max.connections.per.ip.overrides", "127.0.0.1:2"),
        ("max.connections.per.ip.overrides", "localhost:2,10.0.0.1:0"),
    ] {
        assert_eq!(alter(&mut client, &[(key, value)]), 0, "{key}");
        let mut second = house.client();
        assert!(is_served(&mut second), "{key}");
        assert!(is_closed(&mut house.client(), now), "{key}={value}");
        assert!(is_served(&mut second) && is_served(&mut client), "those that were there stay");
        let roomy = if key.ends_with("overrides") { "" } else { "100" };
        assert_eq!(alter(&mut client, &[(key, roomy)]), 0, "{key}");
        assert!(is_served(&mut house.client()), "{key}={roomy}");
    }
    assert_eq!(alter(&mut client, &[("max.connections.per.ip.overrides", "nonsense")]), 42);
    // A name with a label of 64 letters is no name; nobody has to be asked.
    let nobody = format!("{}:1", "x".repeat(64));
    assert_eq!(alter(&mut client, &[("max.connections.per.ip.overrides", &nobody)]), 42);
    assert_eq!(alter(&mut client, &[("max.connections", "-1")]), 42);
    house.shutdown();
}

#[test]
fn connections_above_the_rate_are_accepted_later_and_none_is_lost() {
    let house = house(&[("max.connection.creation.rate", "2")]);
    let begin = Instant::now();
    // Twenty are saved up after a quiet time.
    let mut clients: Vec<_> = (0..24).map(|_| house.client()).collect();
    assert!(clients.iter_mut().all(is_served));
    let paced = begin.elapsed();
    assert!(paced >= Duration::from_millis(1_200) && paced < Duration::from_secs(6), "{paced:?}");
    assert_eq!(alter(&mut clients[0], &[("max.connection.creation.rate", "100000")]), 0);
    let begin = Instant::now();
    assert!((0..100).all(|_| is_served(&mut house.client())));
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    house.shutdown();
}

// --- time ----------------------------------------------------------------------------------------------------

#[test]
fn silence_and_stalled_frames_end_and_slow_ones_that_move_do_not() {
    let impatient =
        house(&[("connection.first.frame.timeout.ms", "100"), ("connections.max.idle.ms", "8000")]);
    let mut silent = impatient.client();
    let mut idle = impatient.client();
    assert!(is_served(&mut idle));

    let house = house(&[]);
    let frame = |client: &mut Client| {
        assert!(is_served(client));
        client.stream.write_all(&(MIB as i32).to_be_bytes()).unwrap();
    };
    let (mut stalled, mut slow) = (house.client(), house.client());
    frame(&mut stalled);
    frame(&mut slow);
    let begin = Instant::now();
    let mover = thread::spawn(move || {
        while begin.elapsed() < Duration::from_secs(22) {
            slow.stream.write_all(&[0; 2 * KIB]).unwrap();
            assert!(!is_closed(&mut slow, Duration::from_secs(2)), "{:?}", begin.elapsed());
        }
    });
    assert!(is_closed(&mut silent, Duration::from_secs(8)), "first frame");
    assert!(is_served(&mut idle), "it had its first frame");
    assert!(is_closed(&mut idle, Duration::from_secs(20)), "idle");
    assert!(begin.elapsed() >= Duration::from_secs(8), "{:?}", begin.elapsed());
    assert!(is_closed(&mut stalled, Duration::from_secs(25)), "stalled");
    assert!(begin.elapsed() >= Duration::from_secs(10), "{:?}", begin.elapsed());
    mover.join().unwrap();
    impatient.shutdown();
    house.shutdown();
}

// --- descriptors ---------------------------------------------------------------------------------------------

/// The binary, killed at the end; what it says on stderr is collected.
struct Process {
    child: Child,
    addr: SocketAddr,
    said: Arc<Mutex<Vec<String>>>,
}

impl Process {
    fn start(args: &[&str], descriptors: Option<u64>) -> Self {
        let binary = Path::new(env!("CARGO_BIN_EXE_weir"));
        let limit = descriptors.map_or(String::new(), |n| format!("ulimit -n {n}; "));
        let mut child = Command::new("sh")
            .args(["-c", &format!("{limit}exec \"$0\" \"$@\"")])
            .arg(binary)
            .args(["serve", "--ephemeral", "--listen", "127.0.0.1:0", "--kinesis", "off", "--admin", "off"])
            .args(args)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        let said = Arc::<Mutex<Vec<String>>>::default();
        let (lines, stderr) = (Arc::clone(&said), child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let from = ready.find("kafka=").expect(&ready) + 6;
        let addr = ready[from..].split([' ', ',']).next().unwrap().parse().unwrap();
        Self { child, addr, said }
    }

    fn client(&self) -> Client {
        Client::connect(self.addr)
    }

    fn lines_with(&self, words: &str) -> usize {
        self.said.lock().unwrap().iter().filter(|line| line.contains(words)).count()
    }

    fn anonymous_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * KIB
    }

    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets this process hold its thousand ends of connections.
fn raise_own_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

#[test]
fn a_thousand_clients_on_256_descriptors_disturb_nobody_who_was_there() {
    raise_own_descriptors();
    let broker = Process::start(&["-X", "flush=never"], Some(256));
    let begin = Instant::now();
    let mut old: Vec<_> = (0..10).map(|_| broker.client()).collect();
    let mut crowd: Vec<_> = (0..1_000).map(|_| broker.client()).collect();
    for client in &mut crowd {
        client.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    }
    let served = crowd.iter_mut().filter_map(|client| is_served(client).then_some(())).count();
    assert!((50..200).contains(&served), "{served} of the crowd were served");
    // New topics and segments need descriptors too.
    for (n, client) in old.iter_mut().enumerate() {
        for topic in (0..10).map(|t| format!("t{n}-{t}")) {
            assert_eq!(client.create_topic(&topic, &[]), 0);
            assert_eq!(client.produce(&topic, -1, &batch(NOBODY, 1, b"v")), (0, 0, -1), "{topic}");
        }
    }
    assert!(broker.descriptors() < 256);
    let seconds = usize::try_from(begin.elapsed().as_secs()).unwrap();
    let lines = broker.lines_with("connection refused");
    assert!((1..=seconds + 2).contains(&lines), "{lines} lines in {seconds} s");
    drop(crowd);
    let begin = Instant::now();
    while !is_served(&mut broker.client()) {
        assert!(begin.elapsed() < Duration::from_secs(5), "accepts have not resumed");
    }
    assert!(old.iter_mut().all(is_served));
}

#[test]
fn accepts_survive_the_want_of_descriptors_and_resume() {
    raise_own_descriptors();
    let broker = Process::start(&[], None);
    let mut old: Vec<_> = (0..5).map(|_| broker.client()).collect();
    assert!(old.iter_mut().all(is_served));
    let few = broker.descriptors() as u64 + 5;
    let limit = Rlimit { current: Some(few), maximum: getrlimit(Resource::Nofile).maximum };
    prlimit(Some(Pid::from_child(&broker.child)), Resource::Nofile, limit).unwrap();
    let begin = Instant::now();
    let mut crowd: Vec<_> = (0..40).map(|_| broker.client()).collect();
    while begin.elapsed() < Duration::from_secs(3) {
        assert!(old.iter_mut().all(is_served));
        thread::sleep(Duration::from_millis(20));
    }
    let lines = broker.lines_with("accept: ");
    assert!((1..=5).contains(&lines), "{lines} lines in 3 s");
    let mut last = crowd.pop().unwrap();
    drop(crowd);
    assert!(is_served(&mut last), "it waited in the backlog");
    assert!(is_served(&mut broker.client()));
}
