//! Command line, runtime, signals: builds the house and opens the doors.
//!
//! Owns: every flag (`clap` is nowhere else), the exit codes, what goes to stdout and what to stderr.
//! Invariant: stdout carries results and the one ready line; logs and failures go to stderr, a failure as
//! one line.
//! Deliberately absent: anything a broker does; an embedded one needs none of this file.

#[path = "main/health.rs"]
mod health;
#[path = "main/inspect.rs"]
mod inspect;
#[path = "main/serve.rs"]
mod serve;
#[path = "main/shard.rs"]
mod shard;

use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use weir_broker::bench;
use weir_broker::config::{Config, FileError};
use weir_broker::quota::plan::Load;

/// Memory that was used once goes back to the system while nobody needs it, and as much is in use as the budgets count, about.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// One broker, two front doors over one log.
#[derive(Parser)]
#[command(name = "weir", version, args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    serve: Serve,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT (the default)
    Serve(Serve),
    /// Look at a configuration without serving
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the batches of a segment (a .log file, weir's or Kafka's), verify each, and tell what is damaged
    Inspect {
        /// The segment, or the directory of a log with all of its segments
        segment: PathBuf,
    },
    /// Ask a running broker whether it serves
    Health(Health),
    /// Look at the shards of a topic and change them, while everybody goes on; or plan how many it takes
    #[command(subcommand)]
    Shard(Shard),
    /// Measure a broker: one line of JSON per scenario
    Bench(Box<Bench>),
    /// Print a shell's completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the man page, or write all of them to a directory
    Man {
        /// The directory
        dir: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Say what of a server.properties file is applied, has no effect, is unknown; exits 1 on an unknown
    /// key and 3 on a value that is refused
    Check {
        /// The file
        file: PathBuf,
    },
}

#[derive(Args)]
struct Serve {
    /// Where the data lives [default: log.dirs of the configuration, else ./weir-data]
    #[arg(long, value_name = "DIR", conflicts_with = "ephemeral")]
    data_dir: Option<PathBuf>,
    /// Where to listen for Kafka clients; port 0 picks a free one; may repeat [default: 127.0.0.1:9092]
    #[arg(long, value_name = "[NAME://]HOST:PORT", value_parser = serve::listen_address)]
    listen: Vec<serve::Listen>,
    /// Where to listen for Kinesis clients; port 0 picks a free one [default: 127.0.0.1:4567 if it is free]
    #[arg(long, value_name = "HOST:PORT|off", value_parser = serve::address_or_off)]
    kinesis: Option<serve::AddressOrOff>,
    /// Where to listen for health checks and Prometheus; port 0 picks a free one [default: 127.0.0.1:9644 if it is free]
    #[arg(long, value_name = "HOST:PORT|off", value_parser = serve::address_or_off)]
    admin: Option<serve::AddressOrOff>,
    /// Read a server.properties file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a broker property by its Kafka name; may repeat
    #[arg(short = 'X', value_name = "key=value", value_parser = serve::property)]
    property: Vec<(String, String)>,
    /// For tests and development: flush=never, auto-create, no join delay
    #[arg(long)]
    dev: bool,
    /// Keep the data in a temporary directory that is removed at exit
    #[arg(long)]
    ephemeral: bool,
    /// Also print the words by which tools tell that Apache Kafka is ready (Testcontainers)
    #[arg(long, hide = true)]
    kafka_ready_words: bool,
}

#[derive(Args)]
struct Health {
    /// A Kafka listener [default: the one that the environment names, else 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["admin", "strict"])]
    kafka: Option<String>,
    /// The admin listener [default: WEIR_ADMIN, else 127.0.0.1:9644; not needed without --strict]
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
    /// Exit 1 while the broker is degraded, too: it serves, and a disk, a log or a file is not well
    #[arg(long)]
    strict: bool,
}

#[derive(Subcommand)]
enum Shard {
    /// Print the shards of a topic, open ones first
    List {
        /// The topic
        topic: String,
        #[command(flatten)]
        door: AdminDoor,
    },
    /// Split an open shard into two, and print the shards
    Split {
        /// The topic
        topic: String,
        /// The shard: 3 or shardId-000000000003
        #[arg(value_parser = shard::id)]
        shard: u32,
        /// First hash of the second one, in decimal [default: the middle]
        #[arg(long, value_name = "HASH")]
        at: Option<u128>,
        #[command(flatten)]
        door: AdminDoor,
    },
    /// Merge two open shards whose hashes touch, and print the shards; the first one's partition goes on
    Merge {
        /// The topic
        topic: String,
        /// The shard whose partition goes on
        #[arg(value_parser = shard::id)]
        shard: u32,
        /// The one whose partition takes no more records
        #[arg(value_parser = shard::id)]
        adjacent: u32,
        /// Although Kafka producers wrote to that partition within the last minute: they are refused there from then on
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        door: AdminDoor,
    },
    /// Go to that many shards of equal ranges, and print the shards
    Scale {
        /// The topic
        topic: String,
        /// How many
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        count: u32,
        /// Although Kafka producers wrote to partitions that lose their shard within the last minute: they are refused there
        /// from then on
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        door: AdminDoor,
    },
    /// Say how many shards a load takes and which limit decides; asks no broker
    Plan {
        /// Bytes of a record, key and value
        #[arg(long, value_name = "BYTES")]
        record_bytes: u64,
        /// Records written per second
        #[arg(long, value_name = "COUNT")]
        records_per_second: u64,
        /// Applications that each read everything
        #[arg(long, value_name = "COUNT", default_value_t = 1)]
        consumers: u64,
        /// Each consumer has a read limit of its own (SubscribeToShard)
        #[arg(long)]
        fan_out: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct AdminDoor {
    /// The broker's admin listener
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9644")]
    admin: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Bench {
    /// What to measure [default: produce, produce-one, listoffsets, fetch, e2e, first-record]
    scenarios: Vec<bench::Scenario>,
    /// The broker
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092", value_parser = resolve)]
    addr: SocketAddr,
    /// The broker's process: adds CPU and memory
    #[arg(long)]
    pid: Option<u32>,
    /// Bytes of a record's value
    #[arg(long)]
    record_bytes: Option<usize>,
    /// Bytes of a batch before compression
    #[arg(long)]
    batch_bytes: Option<usize>,
    /// none, lz4 or zstd
    #[arg(long, default_value = "none")]
    codec: bench::Codec,
    /// 0, 1 or -1
    #[arg(long, default_value_t = 1, allow_negative_numbers = true, value_parser = clap::value_parser!(i16).range(-1..=1))]
    acks: i16,
    /// Stamp producer ids and sequences
    #[arg(long)]
    idempotent: bool,
    /// Requests in flight per connection
    #[arg(long)]
    in_flight: Option<usize>,
    /// Connections
    #[arg(long)]
    connections: Option<usize>,
    /// Partitions
    #[arg(long)]
    partitions: Option<i32>,
    /// Least seconds of a window
    #[arg(long)]
    seconds: Option<f64>,
    /// Most seconds of a window
    #[arg(long)]
    max_seconds: Option<f64>,
    /// Broker CPU seconds to wait for, when --pid is known
    #[arg(long)]
    cpu_seconds: Option<f64>,
    /// Request bytes after which a window ends
    #[arg(long)]
    max_bytes: Option<u64>,
    /// Messages per second of e2e
    #[arg(long)]
    rate: Option<u32>,
    /// Repetitions of first-record and start
    #[arg(long)]
    repeat: Option<usize>,
    /// Where to measure this machine's disk
    #[arg(long, value_name = "DIR")]
    disk_dir: Option<PathBuf>,
    /// Leave the topics of partitions behind
    #[arg(long)]
    keep_topics: bool,
    /// Command line of start, after --
    #[arg(last = true)]
    command: Vec<String>,
}

const AFTER_HELP: &str = "\
Properties are read from defaults, --config, KAFKA_* variables, flags and -X, a later one wins. \
WEIR_LOG sets the log (error, warn, info, debug); NO_COLOR takes its colours.

Exit codes:
  0  served and drained; checked and found good
  1  failed while running; a health check, a benchmark or a segment is not good; an unknown key in config check;
     the broker refuses a change of shards, or does not answer
  2  the command line is wrong
  3  the configuration is refused
  4  the data directory is refused: in use, foreign, newer, damaged, not writable
  5  an address cannot be listened on: in use, not of this machine, unknown host

SIGTERM and SIGINT drain and exit 0; a second one exits 1 at once.";

/// Why the process ends with a code other than 0.
enum Failure {
    /// 1.
    Run(String),
    /// 2.
    Usage(String),
    /// 3.
    Config(String),
    /// 4.
    DataDir(String),
    /// 5.
    Address(String),
}

impl Failure {
    fn parts(&self) -> (u8, &str) {
        match self {
            Self::Run(text) => (1, text),
            Self::Usage(text) => (2, text),
            Self::Config(text) => (3, text),
            Self::DataDir(text) => (4, text),
            Self::Address(text) => (5, text),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Run(error.to_string())
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::Config(error.to_string())
    }
}

fn main() -> ExitCode {
    quiet_checks();
    let Cli { serve, command } = Cli::parse();
    // Each line of a refusal stands on its own.
    run(command.unwrap_or(Command::Serve(serve))).map_or_else(
        |failure| {
            let (code, text) = failure.parts();
            for line in text.lines() {
                let _ = writeln!(io::stderr(), "weir: {line}");
            }
            ExitCode::from(code)
        },
        |()| ExitCode::SUCCESS,
    )
}

/// On some damage the database of small state panics while it is checked. That is caught, mended and said as damage.
fn quiet_checks() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() != Some("weir-check") {
            say(panic);
        }
    }));
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => {
            log_to_stderr();
            serve::run(args.into())
        }
        Command::Config(ConfigCommand::Check { file }) => check_config(&file),
        Command::Inspect { segment } => quiet_pipe(inspect::run(&segment, &mut io::stdout().lock())),
        Command::Health(Health { kafka, admin, strict }) => {
            health::run(kafka, admin, strict, &mut io::stdout().lock())
        }
        Command::Shard(command) => run_shard(command),
        Command::Bench(args) => run_bench(*args),
        Command::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "weir", &mut out);
            print(&out)
        }
        Command::Man { dir: None } => {
            let mut out = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut out)?;
            print(&out)
        }
        Command::Man { dir: Some(dir) } => {
            let written =
                std::fs::create_dir_all(&dir).and_then(|()| clap_mangen::generate_to(Cli::command(), &dir));
            written.map_err(|error| Failure::Run(format!("{}: {error}", dir.display())))
        }
    }
}

fn check_config(file: &Path) -> Result<(), Failure> {
    let mut config = Config::default();
    let read = config.read_file(file);
    let report = config.report();
    print(report.to_string().as_bytes())?;
    read?;
    config.listeners().map_err(|refusal| Failure::Config(refusal.to_string()))?;
    match report.unknown.len() {
        0 => Ok(()),
        n => Err(Failure::Run(format!("{}: {n} unknown keys", file.display()))),
    }
}

fn run_shard(command: Shard) -> Result<(), Failure> {
    let (topic, wish, door) = match command {
        Shard::List { topic, door } => (topic, shard::Wish::List, door),
        Shard::Split { topic, shard, at, door } => (topic, shard::Wish::Split { shard, at }, door),
        Shard::Merge { topic, shard, adjacent, force, door } => {
            (topic, shard::Wish::Merge { shard, adjacent, force }, door)
        }
        Shard::Scale { topic, count, force, door } => (topic, shard::Wish::Scale { count, force }, door),
        Shard::Plan { record_bytes, records_per_second, consumers, fan_out, json } => {
            return shard::plan(&Load { record_bytes, records_per_second, consumers, fan_out }, json);
        }
    };
    shard::ask(&topic, &wish, &door.admin, door.json)
}

fn run_bench(args: Bench) -> Result<(), Failure> {
    let plain = bench::Options::default();
    let options = bench::Options {
        addr: args.addr,
        scenarios: if args.scenarios.is_empty() { plain.scenarios } else { args.scenarios },
        pid: args.pid,
        record_bytes: args.record_bytes,
        batch_bytes: args.batch_bytes,
        codec: args.codec,
        acks: args.acks,
        idempotent: args.idempotent,
        in_flight: args.in_flight,
        connections: args.connections,
        partitions: args.partitions,
        seconds: args.seconds,
        max_seconds: args.max_seconds.unwrap_or(plain.max_seconds),
        cpu_seconds: args.cpu_seconds.unwrap_or(plain.cpu_seconds),
        max_bytes: args.max_bytes.unwrap_or(plain.max_bytes),
        rate: args.rate.unwrap_or(plain.rate),
        repeat: args.repeat.unwrap_or(plain.repeat),
        disk_dir: args.disk_dir.unwrap_or(plain.disk_dir),
        keep_topics: args.keep_topics,
        command: args.command,
    };
    let addr = options.addr;
    bench::run(&options, &mut io::stdout()).map_err(|error| match error {
        bench::Error::Usage(text) => Failure::Usage(text),
        bench::Error::Io("connecting", error) => Failure::Run(format!("cannot connect to {addr}: {error}")),
        other => Failure::Run(other.to_string()),
    })
}

/// The first address of `host:port`.
fn resolve(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|error| error.to_string())?;
    found.next().ok_or_else(|| "no such host".to_owned())
}

impl From<Serve> for serve::Wishes {
    fn from(args: Serve) -> Self {
        Self {
            data_dir: args.data_dir,
            listen: args.listen,
            config: args.config,
            properties: args.property,
            dev: args.dev,
            ephemeral: args.ephemeral,
            kafka_ready_words: args.kafka_ready_words,
            kinesis: args.kinesis,
            admin: args.admin,
        }
    }
}

/// Writes to stdout; a reader that went away (`weir man | head`) is no failure.
fn print(bytes: &[u8]) -> Result<(), Failure> {
    quiet_pipe(io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()).map_err(Failure::from))
}

fn quiet_pipe(outcome: Result<(), Failure>) -> Result<(), Failure> {
    let broken = io::Error::from_raw_os_error(libc::EPIPE).to_string();
    outcome.or_else(|failure| match failure {
        Failure::Run(text) if text.ends_with(&broken) => Ok(()),
        other => Err(other),
    })
}

/// Logs at `WEIR_LOG`, else at the level that the `apache/kafka` image's variable names, else at info.
fn log_to_stderr() {
    let wanted = std::env::var("WEIR_LOG").or_else(|_| std::env::var("KAFKA_LOG4J_ROOT_LOGLEVEL"));
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing_subscriber::filter::LevelFilter::INFO.into())
        .parse_lossy(wanted.unwrap_or_default().to_lowercase());
    let colours =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(io::stderr).init();
}
