//! The binary as people meet it: the ready line, signals, exit codes, one clear line for each refusal.
//!
//! Every process is started here, on a free port, and ended by its own handle.

mod degraded;
mod doors;
mod inspect;
mod refusals;
mod shard;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The binary with an environment of its own.
fn weir(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(args).env_clear().stdin(Stdio::null());
    // These doors have ports of their own, which tests side by side cannot share.
    for door in ["--kinesis", "--admin"] {
        if args.contains(&"--listen") && !args.contains(&door) {
            command.args([door, "off"]);
        }
    }
    command
}

fn run(args: &[&str]) -> Output {
    weir(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Exit code and what was said, for a run that must say one line on stderr and nothing on stdout.
fn refusal(args: &[&str]) -> (Option<i32>, String) {
    let output = weir(args).env("WEIR_LOG", "error").output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(text(&output.stdout), "", "{args:?}");
    assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
    (output.status.code(), said)
}

/// A serving broker; killed when a test fails.
pub(crate) struct Serving {
    child: Child,
    ready: String,
}

impl Serving {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::spawn(&mut weir(args))
    }

    /// Says warnings and errors only: nobody reads what a running broker says, and its pipe is not large.
    pub(crate) fn quiet(args: &[&str]) -> Self {
        Self::spawn(weir(args).env("WEIR_LOG", "warn"))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        Self { child, ready }
    }

    pub(crate) fn address(&self) -> &str {
        let from = self.ready.find("kafka=").expect(&self.ready) + 6;
        self.ready[from..].split([' ', ',']).next().unwrap()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Exit code and stderr, within ten seconds.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let until = Instant::now() + Duration::from_secs(10);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "still running");
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.code(), said)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_ready_line_means_that_connections_are_accepted_and_a_signal_drains() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let broker =
            Serving::start(&["serve", "--data-dir", data.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
        assert!(broker.ready.starts_with("weir ready kafka=127.0.0.1:"), "{}", broker.ready);
        TcpStream::connect(broker.address()).unwrap();
        let health = run(&["health", "--kafka", broker.address()]);
        assert!(health.status.success(), "{health:?}");
        broker.signal(signal);
        let (code, said) = broker.end();
        assert_eq!(code, Some(0), "{said}");
        assert!(!said.contains('\u{1b}'), "colours in a pipe: {said:?}");
    }
}

#[test]
fn a_drain_with_open_connections_ends_in_order_too() {
    let broker = Serving::start(&["--ephemeral", "--listen", "127.0.0.1:0"]);
    let idle: Vec<_> = (0..3).map(|_| TcpStream::connect(broker.address()).unwrap()).collect();
    run(&["health", "--kafka", broker.address()]);
    broker.signal(Signal::TERM);
    let (code, said) = broker.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    drop(idle);
}

#[test]
fn several_listeners_get_a_port_each_and_localhost_is_both_loopbacks() {
    let broker = Serving::start(&["--ephemeral", "--listen", "localhost:0", "--listen", "127.0.0.1:0"]);
    let list = broker.ready.split_whitespace().find_map(|word| word.strip_prefix("kafka=")).unwrap();
    for address in list.split(',') {
        TcpStream::connect(address).unwrap();
    }
    assert!(list.split(',').count() >= 2, "{list}");
}

#[test]
fn an_ephemeral_broker_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = weir(&["--ephemeral", "--listen", "127.0.0.1:0"]);
    let mut child =
        command.env("TMPDIR", dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
    let broker = Serving { child, ready };
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    broker.signal(Signal::TERM);
    assert_eq!(broker.end().0, Some(0));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    assert!(!Path::new("weir-data").exists());
}

#[test]
fn an_ephemeral_broker_that_cannot_start_leaves_nothing_behind_either() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = weir(&["--ephemeral", "--listen", &address]).env("TMPDIR", dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_start_says_what_was_applied_has_no_effect_or_is_unknown() {
    let broker = Serving::start(&[
        "--ephemeral",
        "--listen",
        "127.0.0.1:0",
        "-X",
        "num.partitions=4",
        "-X",
        "num.partition=4",
        "-X",
        "zookeeper.connect=z",
    ]);
    broker.signal(Signal::TERM);
    let (code, said) = broker.end();
    assert_eq!(code, Some(0));
    for words in ["num.partitions=4 (command line) applied", "did you mean num.partitions?", "No effect"] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
}

#[test]
fn a_wrong_command_line_exits_2_and_suggests() {
    for args in [&["--lisen", "x"][..], &["-X", "novalue"], &["--listen", "nowhere"], &["srve"]] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).starts_with("error: "), "{output:?}");
    }
    assert!(text(&run(&["--lisen", "x"]).stderr).contains("--listen"));
}

#[test]
fn a_refused_configuration_exits_3_with_one_line() {
    for (args, words) in [
        (&["--ephemeral", "-X", "num.partitions=0"][..], "num.partitions: must be from 1"),
        (&["--ephemeral", "-X", "flush=maybe"], "flush: must be one of group, interval, never"),
        (&["--ephemeral", "--listen", "SSL://127.0.0.1:0"], "asks for SSL"),
        (&["--ephemeral", "-X", "advertised.listeners=OTHER://h:1"], "no listener named OTHER"),
        (
            &["--ephemeral", "--config", "/nowhere/server.properties"],
            "cannot read /nowhere/server.properties",
        ),
    ] {
        let (code, said) = refusal(args);
        assert_eq!(code, Some(3), "{said}");
        assert!(said.starts_with("weir: ") && said.contains(words), "{said}");
    }
}

#[test]
fn a_refused_data_directory_exits_4_with_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let foreign = dir.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("letters.txt"), "dear").unwrap();
    let (code, said) = refusal(&["--listen", "127.0.0.1:0", "--data-dir", foreign.to_str().unwrap()]);
    assert_eq!((code, said.contains("letters.txt")), (Some(4), true), "{said}");
    assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1);

    let data = dir.path().join("data");
    let args = ["--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()];
    let owner = Serving::start(&args);
    let (code, said) = refusal(&args);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains(&owner.child.id().to_string()), "names its owner: {said}");
    TcpStream::connect(owner.address()).unwrap();

    let file = foreign.join("letters.txt");
    let (code, said) = refusal(&["--listen", "127.0.0.1:0", "--data-dir", file.to_str().unwrap()]);
    assert_eq!(code, Some(4), "{said}");
}

#[test]
fn a_busy_port_exits_5_and_names_the_flag_that_moves_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (code, said) = refusal(&["--ephemeral", "--listen", &taken.local_addr().unwrap().to_string()]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("--listen"), "{said}");
    let busy = taken.local_addr().unwrap().to_string();
    let (code, said) = refusal(&["--ephemeral", "--listen", "127.0.0.1:0", "--kinesis", &busy]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("--kinesis HOST:PORT") && said.contains("--kinesis off"), "{said}");
    let (code, said) = refusal(&["--ephemeral", "--listen", "127.0.0.1:0", "--admin", &busy]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("--admin HOST:PORT") && said.contains("--admin off"), "{said}");
}

#[test]
fn the_ready_line_names_the_kinesis_door_when_it_is_open() {
    let broker = Serving::start(&["--ephemeral", "--listen", "127.0.0.1:0", "--kinesis", "127.0.0.1:0"]);
    let from = broker.ready.find("kinesis=").expect(&broker.ready) + 8;
    TcpStream::connect(broker.ready[from..].split(' ').next().unwrap()).unwrap();
    broker.signal(Signal::TERM);
    assert_eq!(broker.end().0, Some(0));
    let closed = Serving::start(&["--ephemeral", "--listen", "127.0.0.1:0", "--kinesis", "off"]);
    assert!(!closed.ready.contains("kinesis="), "{}", closed.ready);
}

#[test]
fn the_ready_line_names_the_admin_door_and_health_asks_it() {
    let broker = Serving::start(&["--ephemeral", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let from = broker.ready.find("admin=").expect(&broker.ready) + 6;
    let address = broker.ready[from..].split(' ').next().unwrap();
    let health = run(&["health", "--admin", address]);
    assert!(health.status.success(), "{health:?}");
    let closed = Serving::start(&["--ephemeral", "--listen", "127.0.0.1:0", "--admin", "off"]);
    assert!(!closed.ready.contains("admin="), "{}", closed.ready);
}

#[test]
fn config_check_exits_0_for_good_1_for_unknown_and_3_for_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("server.properties");
    for (content, expected, words) in [
        ("num.partitions=4\nzookeeper.connect=z\n", 0, "no effect"),
        ("num.partition=4\n", 1, "did you mean num.partitions?"),
        ("num.partitions=no\n", 3, ""),
        ("listeners=SSL://:1\n", 3, ""),
        ("a=\\u1\n", 3, ""),
    ] {
        fs::write(&file, content).unwrap();
        let output = run(&["config", "check", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(expected), "{content}: {output:?}");
        assert!(text(&output.stdout).contains(words), "{output:?}");
    }
    assert_eq!(run(&["config", "check", "/nowhere"]).status.code(), Some(3));
}

#[test]
fn health_exits_1_when_nobody_or_somebody_else_answers() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    assert_eq!(refusal(&["health", "--kafka", &nobody]).0, Some(1));
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let answer = std::thread::spawn(move || {
        use std::io::Write as _;
        let (mut socket, _) = other.accept().unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    assert_eq!(refusal(&["health", "--kafka", &address]).0, Some(1));
    answer.join().unwrap();
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    for args in [&["man"][..], &["shard", "plan", "--record-bytes", "1", "--records-per-second", "1"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = weir(args).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn help_names_the_exit_codes_and_completions_and_man_pages_come_from_it() {
    let help = text(&run(&["--help"]).stdout);
    assert!(help.contains("Exit codes:") && help.contains("--ephemeral"), "{help}");
    assert!(text(&run(&["completions", "bash"]).stdout).contains("--ephemeral"));
    assert!(text(&run(&["man"]).stdout).starts_with(".ie"));
    let dir = tempfile::tempdir().unwrap();
    assert!(run(&["man", dir.path().to_str().unwrap()]).status.success());
    assert!(dir.path().join("weir-serve.1").exists());
}
