//! The broker under test: the built binary, its memory and files as the kernel counts them, its log.
//!
//! Invariant: it is ended by its own handle, its data go with a temporary directory.
//! Deliberately absent: what is sent to it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::super::{Client, NOBODY, Out, batch};

/// How long a broker may take to close what it will not answer.
const CLOSES_WITHIN: Duration = Duration::from_secs(3);
/// How long a round trip may take after a row.
const CANARY_WITHIN: Duration = Duration::from_secs(1);
/// Round trips that a busy machine may hold up before one is in time; a stuck broker holds up all of them.
const CANARIES: usize = 3;

pub(super) struct Served {
    child: Child,
    pub(super) addr: SocketAddr,
    log: Arc<Mutex<Vec<u8>>>,
    _data: tempfile::TempDir,
}

impl Served {
    /// Starts a broker with these properties and warms it up.
    pub(super) fn start(properties: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args([
            "serve",
            "--ephemeral",
            "--listen",
            "127.0.0.1:0",
            "--kinesis",
            "off",
            "--admin",
            "off",
        ]);
        // A generated row opens thousands of connections at once.
        command.args(["-X", "max.connection.creation.rate=100000"]);
        command.args(properties.iter().flat_map(|property| ["-X", property]));
        command.env_clear().env("TMPDIR", data.path()).env("WEIR_LOG", "debug").stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (mut stderr, said) = (child.stderr.take().unwrap(), Arc::clone(&log));
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut piece) {
                said.lock().unwrap().extend_from_slice(&piece[..count]);
            }
        });
        let mut ready = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        let addr = ready.split_once("kafka=").expect(&ready).1.split([' ', ',', '\n']).next().unwrap();
        let broker = Self { addr: addr.parse().expect(&ready), child, log, _data: data };
        assert_eq!(broker.client().create_topic("canary", &[]), 0);
        for _ in 0..10 {
            broker.canary().unwrap();
        }
        broker
    }

    pub(super) fn client(&self) -> Client {
        Client::connect(self.addr)
    }

    pub(super) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect_timeout(&self.addr, Duration::from_secs(5)).unwrap();
        stream.set_read_timeout(Some(CLOSES_WITHIN)).unwrap();
        stream.set_write_timeout(Some(CLOSES_WITHIN)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// The broker closes a connection that says `input`, and answers nothing.
    pub(super) fn closes(&self, input: &[u8]) {
        let mut stream = self.connect();
        // It may be closed before all of it is sent.
        let _ = stream.write_all(input);
        assert_closed(stream, &input[..input.len().min(80)]);
    }

    /// ApiVersions, and a record that goes in and comes out, within a second.
    pub(super) fn canary(&self) -> Result<(), String> {
        let mut slow = Ok(Duration::ZERO);
        for _ in 0..CANARIES {
            slow = self.round_trip();
            if slow.as_ref().is_ok_and(|took| *took <= CANARY_WITHIN) {
                return Ok(());
            }
            slow.as_ref().map_err(Clone::clone)?;
        }
        slow.and_then(|took| Err(format!("a round trip takes {took:?}")))
    }

    fn round_trip(&self) -> Result<Duration, String> {
        let begun = Instant::now();
        let mut client = self.client();
        let code = client.call(18, 0, &Out::new()).i16();
        let (refused, offset, _) = client.produce("canary", 1, &batch(NOBODY, 1, b"a canary"));
        let fetched = client.call(1, 4, &fetch_body("canary", offset)).bytes;
        let back = fetched.windows(8).any(|bytes| bytes == b"a canary");
        let took = begun.elapsed();
        if code == 0 && refused == 0 && back {
            return Ok(took);
        }
        Err(format!("ApiVersions {code}, Produce {refused}, fetched {back}, {took:?}"))
    }

    /// CPU time of the broker so far, to 10 ms: what else the machine does is not in it.
    pub(super) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Fields 14 and 15, user and system, in hundredths of a second; the name before them is in brackets.
        let fields = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace();
        let ticks: u64 = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    fn status_kib(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().unwrap()
    }

    /// Resident memory: heap, stacks, and what is mapped of files.
    pub(super) fn resident_kib(&self) -> u64 {
        self.status_kib("VmRSS")
    }

    /// The most that was resident since [`Served::forget_peak`].
    pub(super) fn peak_kib(&self) -> u64 {
        self.status_kib("VmHWM")
    }

    pub(super) fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }

    /// Resident memory once it is below `enough`, or after two seconds.
    pub(super) fn settled_kib(&self, enough: u64) -> u64 {
        let until = Instant::now() + Duration::from_secs(2);
        while self.resident_kib() > enough && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.resident_kib()
    }

    pub(super) fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Waits until no more than `base` files are open.
    pub(super) fn closes_files(&self, base: usize, within: Duration) {
        let until = Instant::now() + within;
        while self.open_files() > base {
            assert!(Instant::now() < until, "{} files, {base} before", self.open_files());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(super) fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.lock().unwrap()).into_owned()
    }

    /// Waits until the log says `words`.
    pub(super) fn says(&self, words: &str) {
        let until = Instant::now() + Duration::from_secs(2);
        while !self.log().contains(words) {
            assert!(Instant::now() < until, "the log does not say {words:?}: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A line of the log that must not be there: a panic, or bytes that drive a terminal.
    pub(super) fn shameful_line(&self) -> Option<String> {
        let log = self.log();
        let shameful = |line: &&str| {
            line.contains("panicked")
                || line.contains(" ERROR ")
                || line.chars().any(|c| c.is_control() && c != '\t')
        };
        log.split('\n').find(shameful).map(str::to_owned)
    }

    /// Ends it in order.
    pub(super) fn end(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "still running");
            std::thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nothing more comes from the broker, neither an answer nor silence.
pub(super) fn assert_closed(mut stream: TcpStream, input: &[u8]) {
    let mut answer = [0; 64];
    match stream.read(&mut answer) {
        Ok(0) => {}
        Ok(count) => panic!("answered {:02x?} to {input:02x?}", &answer[..count]),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("neither answered nor closed ({error}) after {input:02x?}"),
    }
}

/// A frame: its length, then the bytes.
pub(super) fn frame(bytes: &[u8]) -> Vec<u8> {
    [&i32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// A framed request with header v1 and correlation id 7.
pub(super) fn request(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    frame(&[&Out::new().i16(key).i16(version).i32(7).string("hostile").0[..], body].concat())
}

/// Fetch v4 of partition 0: at once, at most 1 MiB.
pub(super) fn fetch_body(topic: &str, offset: i64) -> Out {
    let body = Out::new().i32(-1).i32(0).i32(0).i32(1 << 20).i8(0).i32(1).string(topic);
    body.i32(1).i32(0).i64(offset).i32(1 << 20)
}
