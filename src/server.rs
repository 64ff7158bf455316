//! Builds the house: opens the broker, then its doors, and hands out the one handle to all of it.
//!
//! Deliberately absent: globals, signals, exit (those are `main.rs`'s).

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::broker::{self, Clock, Core, IncidentKind, OpenError};
use crate::config::Config;
use crate::listen::{BindError, Census, Doorway};
use crate::{admin, kafka, kinesis};

/// A running broker. Dropping it without [`Broker::shutdown`] stops it like a crash: nothing that was
/// acknowledged is lost, and the next start recovers.
pub struct Broker {
    core: Arc<Core>,
    kafka: Doorway,
    kinesis: Option<Doorway>,
    admin: Option<admin::Door>,
    upkeep: broker::Upkeep,
    ephemeral: Option<Ephemeral>,
}

/// A directory that goes when nobody needs it any more, also when a start fails.
struct Ephemeral(PathBuf);

impl Drop for Ephemeral {
    fn drop(&mut self) {
        // A directory that stays behind in the system's temporary space harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Where a door opens beside the Kafka one.
#[derive(Debug)]
struct DoorAt {
    address: String,
    /// Whether the start fails when the address is in use.
    required: bool,
}

/// Settings of a broker that is about to start.
#[derive(Debug, Default)]
pub struct Builder {
    config: Config,
    data_dir: Option<PathBuf>,
    ephemeral: bool,
    kinesis: Option<DoorAt>,
    admin: Option<DoorAt>,
    clock: Clock,
}

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration was refused.
    #[error("{0}")]
    Config(String),
    /// The data directory cannot be used: locked, foreign, newer, unreadable.
    #[error("{0}")]
    DataDir(String),
    /// A listener could not be bound, or its host is not known.
    #[error("cannot listen on {addr}: {source}")]
    Bind {
        /// The address, as it was configured.
        addr: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The Kinesis door could not be bound.
    #[error("cannot listen for Kinesis clients on {addr}: {source}")]
    BindKinesis {
        /// The address.
        addr: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The admin door could not be bound.
    #[error("cannot listen for health and metrics on {addr}: {source}")]
    BindAdmin {
        /// The address.
        addr: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The system refused something else.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Builder {
    /// Takes a whole configuration; the default serves 127.0.0.1 on a free port.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Keeps the data here.
    #[must_use]
    pub fn data_dir(mut self, dir: PathBuf) -> Self {
        self.data_dir = Some(dir);
        self
    }

    /// Keeps the data in a temporary directory that [`Broker::shutdown`] removes.
    #[must_use]
    pub fn ephemeral(mut self) -> Self {
        self.ephemeral = true;
        self
    }

    /// Opens the Kinesis door at `host:port`; port 0 picks a free one. Without this it stays shut.
    #[must_use]
    pub fn kinesis(mut self, address: impl Into<String>) -> Self {
        self.kinesis = Some(DoorAt { address: address.into(), required: true });
        self
    }

    /// As [`Builder::kinesis`], but the door stays shut, with a warning, where the address is in use.
    #[must_use]
    pub fn kinesis_if_free(mut self, address: impl Into<String>) -> Self {
        self.kinesis = Some(DoorAt { address: address.into(), required: false });
        self
    }

    /// Opens the admin door (health, metrics) at `host:port`; port 0 picks a free one. Without this it stays shut.
    #[must_use]
    pub fn admin(mut self, address: impl Into<String>) -> Self {
        self.admin = Some(DoorAt { address: address.into(), required: true });
        self
    }

    /// As [`Builder::admin`], but the door stays shut, with a warning, where the address is in use.
    #[must_use]
    pub fn admin_if_free(mut self, address: impl Into<String>) -> Self {
        self.admin = Some(DoorAt { address: address.into(), required: false });
        self
    }

    /// Takes time and ids from here: a test moves its own clock.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the data and the doors. Needs a running tokio runtime.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(self) -> Result<Broker, StartError> {
        let clock = self.clock;
        // Not by a clock that tests drive: two of those give the same ids.
        let temporary = || std::env::temp_dir().join(format!("weir-{}", Clock::System.uuid().simple()));
        let ephemeral = self.ephemeral.then(|| Ephemeral(temporary()));
        let kept = ephemeral.as_ref().map(|dir| dir.0.clone());
        let dir = kept.or(self.data_dir).unwrap_or_else(|| PathBuf::from("weir-data"));
        let listeners = listeners(&self.config).await?;
        let census = Arc::<Census>::default();
        let addrs = match &self.kinesis {
            Some(at) => Some((at.required, door_addrs("kinesis", &at.address).await?)),
            None => None,
        };
        let admin = match &self.admin {
            Some(at) => {
                let settings = self.config.admin_settings().map_err(|e| StartError::Config(e.to_string()))?;
                let addrs = door_addrs("admin", &at.address).await?;
                match admin::Door::open(&census, settings, addrs) {
                    Ok(door) => Some(door),
                    Err(error) if !at.required && error.is_in_use() => stays_shut("admin", error.addr),
                    Err(BindError { addr, source }) => return Err(StartError::BindAdmin { addr, source }),
                }
            }
            None => None,
        };
        let settings = self.config.kinesis_settings().map_err(|e| StartError::Config(e.to_string()))?;
        let config = self.config;
        let core = tokio::task::spawn_blocking(move || broker::open(&dir, config, clock))
            .await
            .map_err(io::Error::other)?
            .map_err(StartError::from)?;
        let kafka = kafka::open(&core, &census, listeners)
            .map_err(|BindError { addr, source }| StartError::Bind { addr: addr.to_string(), source })?;
        let kinesis = match addrs {
            Some((required, addrs)) => match kinesis::open(&core, &census, settings, addrs).await {
                Ok(door) => Some(door),
                Err(kinesis::OpenError::Bind(error)) if !required && error.is_in_use() => {
                    stays_shut("kinesis", error.addr)
                }
                Err(error) => return Err(error.into()),
            },
            None => None,
        };
        let upkeep = broker::Upkeep::start(&core);
        if let Some(admin) = &admin {
            admin.ready(&core);
        }
        Ok(Broker { core, kafka, kinesis, admin, upkeep, ephemeral })
    }
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Config(why) => Self::Config(why),
            OpenError::Store(_) | OpenError::Topic(_) | OpenError::Groups(_) => {
                Self::DataDir(error.to_string())
            }
        }
    }
}

impl From<kinesis::OpenError> for StartError {
    fn from(error: kinesis::OpenError) -> Self {
        match error {
            kinesis::OpenError::Bind(BindError { addr, source }) => Self::BindKinesis { addr, source },
            kinesis::OpenError::Topic(_) => Self::DataDir(error.to_string()),
        }
    }
}

impl Broker {
    /// Settings for a new broker.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Addresses of the Kafka listeners, in the order of the configuration.
    #[must_use]
    pub fn kafka_addrs(&self) -> &[SocketAddr] {
        self.kafka.addrs()
    }

    /// Addresses of the Kinesis door; none when it is shut.
    #[must_use]
    pub fn kinesis_addrs(&self) -> &[SocketAddr] {
        self.kinesis.as_ref().map_or(&[], Doorway::addrs)
    }

    /// Addresses of the admin door; none when it is shut.
    #[must_use]
    pub fn admin_addrs(&self) -> &[SocketAddr] {
        self.admin.as_ref().map_or(&[], admin::Door::addrs)
    }

    /// Id of the cluster.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        self.core.cluster_id()
    }

    /// What a panic hook tells: counted, said once a second at most, and a reason for being degraded.
    pub fn on_panic(&self) -> impl Fn(&dyn std::fmt::Display) + Send + Sync + use<> {
        let incidents = Arc::clone(self.core.incidents());
        move |panic| incidents.note(IncidentKind::Internal, panic)
    }

    /// Drains the connections, makes everything durable, marks the data clean.
    ///
    /// # Errors
    /// The engine's, when something could not be made durable.
    pub async fn shutdown(self) -> Result<(), crate::store::Error> {
        if let Some(admin) = &self.admin {
            admin.drain().await;
        }
        if let Some(kinesis) = self.kinesis {
            kinesis.close().await;
        }
        self.kafka.close().await;
        self.upkeep.stop().await;
        let core = self.core;
        let closed = tokio::task::spawn_blocking(move || core.close()).await;
        if let Some(admin) = self.admin {
            admin.close().await;
        }
        drop(self.ephemeral);
        closed.unwrap_or(Err(crate::store::Error::Fenced))
    }
}

/// A second broker on this machine must not fail over a door that nobody asked for.
fn stays_shut<T>(door: &str, addr: SocketAddr) -> Option<T> {
    tracing::warn!(
        "{addr} is in use: no {door} door; open it elsewhere with --{door} HOST:PORT, or --{door} off"
    );
    None
}

/// Resolves the address of a door.
async fn door_addrs(door: &str, address: &str) -> Result<Vec<SocketAddr>, StartError> {
    let refuse = |why: String| StartError::Config(format!("{door}: '{address}': {why}"));
    let addrs = resolve(address).await.map_err(|e| refuse(e.to_string()))?;
    if addrs.is_empty() { Err(refuse("no such host".to_owned())) } else { Ok(addrs) }
}

/// Resolves the configured listeners to addresses.
async fn listeners(config: &Config) -> Result<Vec<kafka::Listener>, StartError> {
    let mut found = Vec::new();
    for listener in config.listeners().map_err(|e| StartError::Config(e.to_string()))? {
        let mut addrs = Vec::new();
        for host in listener.hosts() {
            addrs.extend(
                resolve((host, listener.port)).await.map_err(|source| StartError::Bind {
                    addr: format!("{host}:{}", listener.port),
                    source,
                })?,
            );
        }
        found.push(kafka::Listener { name: listener.name, addrs });
    }
    Ok(found)
}

/// IPv4 first: the first address is the one that must be bound.
async fn resolve(host: impl tokio::net::ToSocketAddrs) -> io::Result<Vec<SocketAddr>> {
    let mut addrs: Vec<_> = tokio::net::lookup_host(host).await?.collect();
    addrs.sort_by_key(SocketAddr::is_ipv6);
    Ok(addrs)
}
