//! The façade that the doors hold: opens everything, creates topics, journals group records, runs upkeep.
//!
//! Invariant: what a verb returns is as durable as it says and visible to every other caller.
//! Deliberately absent: wire formats, sockets, clap; policy of topics and groups (their rooms have it).

mod append;
mod calendar;
mod client_quotas;
mod clock;
mod configs;
mod fair;
mod groups;
mod health;
mod journal;
mod lane;
mod notes;
mod observe;
mod ondemand;
mod open;
mod opening;
mod operations;
mod places;
mod producer_ids;
mod shards;
mod upkeep;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::config::{Config, ConnectionSettings, Flush, TopicSettings};
use crate::lock::{Mutex, RwLock, rank};
use crate::store::Store;
use crate::topic::{self, NewTopic, Registry, Topic};

pub use crate::quota::clients;
// What a door holds of the engine: bytes on their way out, a place in a queue of waiters, a failure.
pub use crate::store::{
    Error as StoreError, Incidents, Kind as IncidentKind, Reason, Registration, Slice, Watermark,
};
pub use crate::topic::Error as TopicError;
pub use append::{Receipt, Wave, admit};
pub use clock::Clock;
pub use configs::{Admission, Change, Edit, Scope, is_alterable};
pub use fair::Asker;
pub use health::Lines;
pub use lane::IN_PLACE_BYTES;
pub use observe::{Observer, Seen, SeenCommit, SeenGroup, SeenPartition, SeenTopic, weight as seen_weight};
#[cfg(test)]
pub use open::in_memory;
pub use open::{OpenError, open};
pub use opening::{Refused, Unopened};
pub use operations::{Fate, Operation, Operations, SeenOperation, WITHIN_US};
pub use places::{Place, Places};
pub use shards::{Got, GotRecord, Most, Put, ReadCharge, Stored};
pub use upkeep::Upkeep;

use producer_ids::ProducerIds;

/// One broker: everything that is not a door.
pub struct Core {
    store: Arc<dyn Store>,
    topics: Registry,
    producer_ids: ProducerIds,
    groups: groups::Groups,
    gates: shards::Gates,
    operations: Operations,
    opening: Arc<opening::Opening>,
    client_quotas: crate::quota::clients::Clients,
    clock: Clock,
    calendar: calendar::Calendar,
    /// Where the engine keeps its bytes.
    location: PathBuf,
    config: RwLock<rank::Config, Arc<Config>>,
    /// Serialises changes of configuration: each is a read, an edit and a write.
    config_changes: Mutex<rank::ConfigChanges, ()>,
    /// Advertised address per listener; a listener without one advertises what the client connected to.
    advertised: RwLock<rank::Advertised, HashMap<String, (String, u16)>>,
    admission: RwLock<rank::Admission, Arc<Admission>>,
    connection_settings: ConnectionSettings,
    topic_settings: TopicSettings,
    flush: Flush,
    cluster_id: String,
    node_id: i32,
    lines: Lines,
    lanes: lane::Lanes,
    sections: shards::Sections,
    watch: places::Watch,
}

/// Advertised addresses by listener.
fn advertised(config: &Config) -> Result<HashMap<String, (String, u16)>, crate::config::Refusal> {
    Ok(config.listeners()?.into_iter().filter_map(|l| Some((l.name, l.advertised?))).collect())
}

/// What topics take their defaults from.
fn topic_defaults(config: &Arc<Config>) -> topic::Defaults {
    let config = Arc::clone(config);
    Box::new(move |key| config.value(key).map(str::to_owned))
}

impl Core {
    /// Milliseconds since the epoch.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Milliseconds of a time that does not jump: whatever waits counts in it.
    #[must_use]
    pub fn steady_ms(&self) -> i64 {
        self.clock.steady_ms()
    }

    /// The time by which an age of `window_ms` is measured before something goes: the wall clock as far as it is
    /// believed. Milliseconds since the epoch.
    pub(in crate::broker) fn calendar_ms(&self, window_ms: i64) -> i64 {
        self.calendar.believed_ms(self.clock.steady_ms(), self.clock.now_ms(), window_ms)
    }

    /// The time before which records of a topic are older than it keeps them, by the calendar, as retention counts it:
    /// readers miss nothing because somebody set the clock. 0 where age does not count. Milliseconds since the epoch.
    #[must_use]
    pub fn horizon_ms(&self, topic: &Topic) -> i64 {
        let config = topic.config();
        config.horizon_ms(self.calendar_ms(config.retention_ms))
    }

    /// Time and ids.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The topics.
    #[must_use]
    pub fn topics(&self) -> &Registry {
        &self.topics
    }

    /// The engine.
    #[must_use]
    pub fn capacity(&self) -> Option<crate::store::Capacity> {
        self.store.capacity()
    }

    /// What went wrong, in the engine and above it.
    #[must_use]
    pub fn incidents(&self) -> &Arc<Incidents> {
        self.store.incidents()
    }

    /// Where the engine keeps its bytes, as an absolute path.
    #[must_use]
    pub fn location(&self) -> &Path {
        &self.location
    }

    /// The configuration as it stands.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read())
    }

    /// Limits of connections and requests.
    #[must_use]
    pub fn connection_settings(&self) -> &ConnectionSettings {
        &self.connection_settings
    }

    /// What became of the operations of doors that count theirs.
    #[must_use]
    pub fn operations(&self) -> &Operations {
        &self.operations
    }

    /// Who may connect, and how fast, as it stands.
    #[must_use]
    pub fn admission(&self) -> Arc<Admission> {
        Arc::clone(&self.admission.read())
    }

    /// Limits and defaults of topics.
    #[must_use]
    pub fn topic_settings(&self) -> &TopicSettings {
        &self.topic_settings
    }

    /// Id of the cluster, kept with the data directory.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Id of this node.
    #[must_use]
    pub fn node_id(&self) -> i32 {
        self.node_id
    }

    /// Whether `acks=all` waits for stable storage (law 4).
    #[must_use]
    pub fn acks_wait_for_sync(&self) -> bool {
        self.flush == Flush::Group
    }

    /// Whether Metadata may create topics.
    #[must_use]
    pub fn auto_creates_topics(&self) -> bool {
        self.topic_settings.auto_create
    }

    /// What clients of a listener are told to connect to; without an advertised address, what this client
    /// connected to (`local`).
    #[must_use]
    pub fn advertised(&self, listener: &str, local: SocketAddr) -> (String, u16) {
        let advertised = self.advertised.read();
        match advertised.get(listener) {
            Some((host, 0)) => (host.clone(), local.port()),
            Some((host, port)) => (host.clone(), *port),
            // A v4 client of a v6 socket must not be told an address that it cannot parse.
            None => (local.ip().to_canonical().to_string(), local.port()),
        }
    }

    /// Creates a topic off the caller's thread; visible and durable when it returns.
    ///
    /// # Errors
    /// As [`Registry::create`].
    pub async fn create_topic(
        self: &Arc<Self>,
        name: String,
        partitions: i32,
        overrides: BTreeMap<String, String>,
    ) -> topic::Result<Arc<Topic>> {
        self.create_topic_with(name, partitions, overrides, Vec::new()).await
    }

    /// Creates a topic with what a door keeps beside it ([`Core::attachment`]): both are there, or neither.
    ///
    /// # Errors
    /// As [`Registry::create`].
    pub async fn create_topic_with(
        self: &Arc<Self>,
        name: String,
        partitions: i32,
        overrides: BTreeMap<String, String>,
        beside: Vec<(&'static str, Bytes)>,
    ) -> topic::Result<Arc<Topic>> {
        let new =
            NewTopic { id: self.clock.uuid(), name, partitions, overrides, created_ms: self.clock.now_ms() };
        self.blocking(move |core| {
            let topic = core.topics.create_with(new, &beside)?;
            core.say_unheeded(&topic);
            Ok(topic)
        })
        .await
    }

    /// Creates a topic with `num.partitions` partitions. One that appeared meanwhile is fine.
    ///
    /// # Errors
    /// As [`Registry::create`].
    pub async fn create_topic_with_defaults(self: &Arc<Self>, name: String) -> topic::Result<Arc<Topic>> {
        match self.create_topic(name, self.topic_settings.default_partitions, BTreeMap::new()).await {
            Err(topic::Error::TopicExists(name)) => {
                self.topics.by_name(&name).ok_or(topic::Error::UnknownTopic)
            }
            outcome => outcome,
        }
    }

    /// Deletes a topic with its logs and what is kept for it: offsets of groups, its gate.
    ///
    /// # Errors
    /// As [`Registry::delete`].
    pub fn delete_topic(&self, id: uuid::Uuid) -> topic::Result<()> {
        let topic = self.topics.by_id(id).ok_or(topic::Error::UnknownTopicId)?;
        let deleted = self.topics.delete(id);
        // It is gone, too, when a log of it could not be removed.
        if self.topics.by_id(id).is_none() {
            self.forget_topic(&topic);
            self.gates.forget(id);
        }
        deleted.map(drop)
    }

    /// A producer id that was never given before, also not before a restart.
    ///
    /// # Errors
    /// [`topic::Error::Storage`].
    pub async fn next_producer_id(self: &Arc<Self>) -> topic::Result<i64> {
        if let Some(id) = self.producer_ids.take() {
            return Ok(id);
        }
        self.blocking(|core| core.producer_ids.refill(core.store.meta())).await
    }
}
