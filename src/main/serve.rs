//! `weir serve`: from wishes to a running broker, and from a signal to a clean end.
//!
//! Owns: how flags, file and environment become one [`Config`]; the ready line; what signals do.
//! Invariant: the ready line is printed when, and only when, connections are accepted.
//! Deliberately absent: clap, and anything that the broker itself decides.

use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};
use weir_broker::config::{Config, Refusal, Report, Source};
use weir_broker::{Broker, StartError};

use crate::Failure;

/// What the command line asks for.
pub(crate) struct Wishes {
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) listen: Vec<Listen>,
    pub(crate) config: Option<PathBuf>,
    pub(crate) properties: Vec<(String, String)>,
    pub(crate) dev: bool,
    pub(crate) ephemeral: bool,
    pub(crate) kafka_ready_words: bool,
    pub(crate) kinesis: Option<AddressOrOff>,
    pub(crate) admin: Option<AddressOrOff>,
}

/// Where a door opens, if it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AddressOrOff(Option<String>);

/// One `--listen`: a name, if it has one, and `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    name: Option<String>,
    address: String,
}

/// Reads a `--listen`.
pub(crate) fn listen_address(text: &str) -> Result<Listen, String> {
    let (name, address) =
        text.split_once("://").map_or((None, text), |(name, address)| (Some(name.to_owned()), address));
    let whole = format!("{}://{address}", name.as_deref().unwrap_or("PLAINTEXT"));
    if address.contains(',') {
        return Err("one address; repeat --listen for more".to_owned());
    }
    // The reason names the entry, which the caller names too, and without the name that was put before it.
    let bare =
        |reason: String| reason.strip_prefix(&format!("{whole}: ")).map(str::to_owned).unwrap_or(reason);
    Config::judge("listeners", &whole, Source::CommandLine).map_err(|refusal| bare(refusal.reason))?;
    Ok(Listen { name, address: address.to_owned() })
}

/// Reads a `-X`.
pub(crate) fn property(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').filter(|(key, _)| !key.trim().is_empty()).ok_or("expected key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Reads a `--kinesis` or an `--admin`.
pub(crate) fn address_or_off(text: &str) -> Result<AddressOrOff, String> {
    if text == "off" {
        return Ok(AddressOrOff(None));
    }
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    if !matches!(port, Some(Ok(_))) {
        return Err("expected HOST:PORT or off".to_owned());
    }
    Ok(AddressOrOff(Some(text.to_owned())))
}

/// Serves until a signal.
pub(crate) fn run(wishes: Wishes) -> Result<(), Failure> {
    let config = configuration(&wishes, std::env::vars_os().filter_map(utf8))?;
    tell(&config.report());
    raise_open_files();
    // Sockets are asked for news after so many turns of connections, each of which may take 250 us; 61 is usual.
    let runtime = tokio::runtime::Builder::new_multi_thread().event_interval(5).enable_all().build()?;
    let outcome = runtime.block_on(serve(wishes, config));
    // A second signal does not wait for what a blocking thread still syncs.
    runtime.shutdown_background();
    outcome
}

/// Default < file < environment < command line; `--dev` is the weakest of the command line.
fn configuration(
    wishes: &Wishes,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, Failure> {
    let refused = |all: Vec<Refusal>| {
        Failure::Config(all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    };
    let mut config = Config::default();
    config.set_all([("listeners", "PLAINTEXT://127.0.0.1:9092")], Source::Default).map_err(refused)?;
    if let Some(file) = &wishes.config {
        config.read_file(file)?;
    }
    config.read_environment(variables).map_err(refused)?;
    if wishes.dev {
        config.set_all(DEV, Source::CommandLine).map_err(refused)?;
    }
    let properties = wishes.properties.iter().map(|(key, value)| (key, value));
    config.set_all(properties, Source::CommandLine).map_err(refused)?;
    listen(&mut config, &wishes.listen).map_err(|refusal| refused(vec![refusal]))?;
    config.listeners().map_err(|refusal| refused(vec![refusal]))?;
    Ok(config)
}

/// Turns `--listen`s into listeners; those without a name get one, and a line in the protocol map.
fn listen(config: &mut Config, wanted: &[Listen]) -> Result<(), Refusal> {
    if wanted.is_empty() {
        return Ok(());
    }
    let mut listeners = Vec::new();
    let mut given = Vec::new();
    for (at, Listen { name, address }) in wanted.iter().enumerate() {
        let name = match (name, at) {
            (Some(name), _) => name.clone(),
            (None, 0) => "PLAINTEXT".to_owned(),
            (None, _) => {
                let name = format!("PLAINTEXT-{}", at + 1);
                given.push(format!("{name}:PLAINTEXT"));
                name
            }
        };
        listeners.push(format!("{name}://{address}"));
    }
    if !given.is_empty() {
        given.extend(config.value(PROTOCOLS).map(str::to_owned));
        config.set(PROTOCOLS, &given.join(","), Source::CommandLine)?;
    }
    config.set("listeners", &listeners.join(","), Source::CommandLine).map(drop)
}

async fn serve(wishes: Wishes, config: Config) -> Result<(), Failure> {
    // Registered first: a signal that comes while the broker opens is not lost.
    let mut end = End::new()?;
    // A file that hits the process's size limit is an error of that write, not the end of the process.
    let _too_large = signal(SignalKind::from_raw(libc::SIGXFSZ))?;
    let node_id = config.identity().node_id;
    let dir = wishes.data_dir.or_else(|| config.data_dir()).unwrap_or_else(|| PathBuf::from("weir-data"));
    let mut builder = Broker::builder().config(config);
    builder = match &wishes.kinesis {
        Some(AddressOrOff(Some(address))) => builder.kinesis(address),
        Some(AddressOrOff(None)) => builder,
        None => builder.kinesis_if_free(KINESIS),
    };
    builder = match &wishes.admin {
        Some(AddressOrOff(Some(address))) => builder.admin(address),
        Some(AddressOrOff(None)) => builder,
        None => builder.admin_if_free(ADMIN),
    };
    builder = if wishes.ephemeral { builder.ephemeral() } else { builder.data_dir(dir.clone()) };
    let broker = tokio::select! {
        started = builder.start() => started.map_err(start_failure)?,
        () = end.second() => return Err(Failure::Run("stopped while starting".to_owned())),
    };
    let note = broker.on_panic();
    std::panic::set_hook(Box::new(move |panic| note(panic)));
    let place = if wishes.ephemeral { "ephemeral".to_owned() } else { dir.display().to_string() };
    announce(&broker, &place, wishes.kafka_ready_words.then_some(node_id))?;
    end.first().await;
    info!("draining");
    tokio::select! {
        stopped = broker.shutdown() => stopped.map_err(|error| Failure::Run(error.to_string())),
        () = end.second() => Err(Failure::Run("stopped by a second signal before everything was drained".to_owned())),
    }
}

fn start_failure(error: StartError) -> Failure {
    let text = error.to_string();
    match error {
        StartError::Config(_) => Failure::Config(text),
        StartError::DataDir(_) => Failure::DataDir(format!("cannot use the data directory: {text}")),
        StartError::Bind { .. } => Failure::Address(format!(
            "{text}; choose another with --listen HOST:PORT (port 0 picks a free one)"
        )),
        StartError::BindKinesis { .. } => Failure::Address(format!(
            "{text}; choose another with --kinesis HOST:PORT (port 0 picks a free one) or --kinesis off"
        )),
        StartError::BindAdmin { .. } => Failure::Address(format!(
            "{text}; choose another with --admin HOST:PORT (port 0 picks a free one) or --admin off"
        )),
        StartError::Io(_) => Failure::Run(text),
    }
}

/// The ready line on stdout, and on stderr how to attach.
fn announce(broker: &Broker, place: &str, ready_words: Option<i32>) -> Result<(), Failure> {
    let list = |addrs: &[SocketAddr]| addrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let all = list(broker.kafka_addrs());
    let door = |name: &str, addrs: &[SocketAddr]| match list(addrs) {
        none if none.is_empty() => none,
        some => format!(" {name}={some}"),
    };
    let kinesis = door("kinesis", broker.kinesis_addrs());
    let admin = door("admin", broker.admin_addrs());
    let mut text = format!("weir ready kafka={all}{kinesis}{admin} data={place}\n");
    if let Some(node_id) = ready_words {
        text.extend([
            &format!("[KafkaServer id={node_id}] started\n"),
            "Transitioning from RECOVERY to RUNNING\n",
            "Kafka Server started\n",
        ]);
    }
    info!("attach Kafka clients with bootstrap.servers={all}");
    if let Some(addr) = broker.kinesis_addrs().first() {
        info!("attach Kinesis clients with the endpoint http://{addr}");
    }
    if let Some(addr) = broker.admin_addrs().first() {
        info!("metrics at http://{addr}/metrics");
    }
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// What became of everything that was said.
fn tell(report: &Report) {
    let note = |note: &str| if note.is_empty() { String::new() } else { format!("; {note}") };
    for line in &report.applied {
        info!("{}={} ({}) applied{}", line.key, line.value, line.source, note(&line.note));
    }
    for line in &report.no_effect {
        info!("{}={} ({}): {}", line.key, line.value, line.source, line.note);
    }
    for line in &report.unknown {
        warn!("{}={} ({}) unknown{}", line.key, line.value, line.source, note(&line.note));
    }
}

/// SIGTERM and SIGINT, counted.
struct End {
    terminate: Signal,
    interrupt: Signal,
    seen: u8,
}

impl End {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            seen: 0,
        })
    }

    async fn first(&mut self) {
        self.reach(1).await;
    }

    async fn second(&mut self) {
        self.reach(2).await;
    }

    async fn reach(&mut self, count: u8) {
        while self.seen < count {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            self.seen += 1;
        }
    }
}

/// Takes as many open files as the system lets this process have; shells give 1024.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where it is refused the store and the listeners keep to what there is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

fn utf8((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

/// Where the doors beside the Kafka one open unless somebody says otherwise.
const KINESIS: &str = "127.0.0.1:4567";
const ADMIN: &str = "127.0.0.1:9644";

const PROTOCOLS: &str = "listener.security.protocol.map";

const DEV: [(&str, &str); 3] =
    [("flush", "never"), ("auto.create.topics.enable", "true"), ("group.initial.rebalance.delay.ms", "0")];

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(listen: &[&str], properties: &[(&str, &str)], dev: bool) -> Wishes {
        Wishes {
            data_dir: None,
            listen: listen.iter().map(|text| listen_address(text).unwrap()).collect(),
            config: None,
            properties: properties.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect(),
            dev,
            ephemeral: true,
            kafka_ready_words: false,
            kinesis: None,
            admin: None,
        }
    }

    fn read(wishes: &Wishes, variables: &[(&str, &str)]) -> Config {
        let variables = variables.iter().map(|&(k, v)| (k.to_owned(), v.to_owned()));
        configuration(wishes, variables).unwrap_or_else(|failure| panic!("{}", failure.parts().1))
    }

    #[test]
    fn the_command_line_listens_on_9092_unless_somebody_says_otherwise() {
        assert_eq!(
            read(&wishes(&[], &[], false), &[]).value("listeners"),
            Some("PLAINTEXT://127.0.0.1:9092")
        );
        let env = [("KAFKA_LISTENERS", "PLAINTEXT://:19092")];
        assert_eq!(read(&wishes(&[], &[], false), &env).value("listeners"), Some("PLAINTEXT://:19092"));
        let flag = read(&wishes(&["localhost:0"], &[], false), &env);
        assert_eq!(flag.value("listeners"), Some("PLAINTEXT://localhost:0"));
    }

    #[test]
    fn listeners_without_a_name_get_one_each() {
        let config = read(
            &wishes(
                &["127.0.0.1:1", "PLAINTEXT-X://[::1]:2", "127.0.0.1:3"],
                &[("listener.security.protocol.map", "PLAINTEXT-X:PLAINTEXT")],
                false,
            ),
            &[],
        );
        let names: Vec<_> = config.listeners().unwrap().into_iter().map(|l| (l.name, l.port)).collect();
        let expected = [("PLAINTEXT", 1), ("PLAINTEXT-X", 2), ("PLAINTEXT-3", 3)];
        assert_eq!(names, expected.map(|(name, port)| (name.to_owned(), port)));
    }

    #[test]
    fn dev_gives_way_to_a_property_and_wins_over_the_environment() {
        let env = [("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "3000"), ("KAFKA_FLUSH", "interval")];
        let config = read(&wishes(&[], &[("flush", "group")], true), &env);
        assert_eq!(config.value("flush"), Some("group"));
        assert_eq!(config.value("group.initial.rebalance.delay.ms"), Some("0"));
    }

    #[test]
    fn a_listener_that_is_none_is_refused() {
        for text in ["", "localhost", "localhost:x", "a b:1", "1.2.3.4:5,1.2.3.4:6", "::1:9092"] {
            assert!(listen_address(text).is_err(), "{text}");
        }
    }
}
