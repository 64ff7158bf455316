//! Opens a broker: store, cluster id, topics; nothing is scanned that has not changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::producer_ids::ProducerIds;
use super::{Clock, Core, Lines};
use crate::config::{Config, Flush};
use crate::lock::{Mutex, RwLock};
use crate::store::local::{Local, LocalOptions};
use crate::store::{self, Meta, Put, Store};
use crate::topic::{self, Registry};

const CLUSTER_ID: &str = "cluster-id";

/// Why a broker does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration contradicts itself or the data directory.
    #[error("{0}")]
    Config(String),
    /// The data directory cannot be used.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A topic cannot be loaded.
    #[error(transparent)]
    Topic(#[from] topic::Error),
    /// The journal of groups cannot be read, although nothing says that it is damaged.
    #[error(
        "the offsets of consumer groups cannot be read, and without them groups would begin elsewhere: {0}"
    )]
    Groups(topic::Error),
}

/// Space kept back, so that deletes, commits and small state work on a full disk.
const BALLAST_BYTES: u64 = 8 << 20;

/// Opens the local engine in `data_dir` and everything above it.
///
/// # Errors
/// [`OpenError`].
pub fn open(data_dir: &Path, config: Config, clock: Clock) -> Result<Arc<Core>, OpenError> {
    let settings = config.store_settings();
    let options = LocalOptions {
        early_writeback: settings.flush != Flush::Never,
        max_files: Some(settings.max_open_files),
        place: super::append::in_place,
        ballast_bytes: if settings.flush == Flush::Never { 0 } else { BALLAST_BYTES },
        meta_syncs: settings.flush != Flush::Never,
        ..LocalOptions::default()
    };
    let store: Arc<dyn Store> = Arc::new(Local::open_with(data_dir, options)?);
    let location = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    open_on(store, location, config, clock)
}

/// Opens a broker on any engine.
///
/// # Errors
/// [`OpenError`].
pub(super) fn open_on(
    store: Arc<dyn Store>,
    location: PathBuf,
    mut config: Config,
    clock: Clock,
) -> Result<Arc<Core>, OpenError> {
    super::configs::load(store.meta(), &mut config)?;
    let cluster_id = cluster_id(store.meta(), &config, &clock)?;
    let config = Arc::new(config);
    let defaults = super::topic_defaults(&config);
    let topic_settings = config.topic_settings();
    let topics = Registry::load(
        Arc::clone(&store),
        defaults,
        topic_settings.max_partitions,
        topic_settings.max_partitions_per_topic,
    )?;
    topics.limit_producers(topic_settings.max_producer_ids_per_partition);
    let core = Arc::new(Core {
        groups: super::groups::Groups::new(&config),
        gates: super::shards::Gates::default(),
        operations: super::Operations::default(),
        opening: Arc::default(),
        client_quotas: super::client_quotas::load(store.meta())?,
        topics,
        producer_ids: ProducerIds::default(),
        clock,
        calendar: super::calendar::Calendar::default(),
        advertised: RwLock::new(super::advertised(&config).map_err(|e| OpenError::Config(e.to_string()))?),
        admission: RwLock::new(Arc::new(
            super::Admission::new(&config).map_err(|e| OpenError::Config(e.to_string()))?,
        )),
        connection_settings: config.connection_settings(),
        topic_settings,
        flush: config.store_settings().flush,
        cluster_id,
        lines: Lines::default(),
        node_id: config.identity().node_id,
        lanes: super::lane::Lanes::default(),
        sections: super::shards::Sections::default(),
        watch: super::places::Watch::default(),
        location,
        config: RwLock::new(config),
        config_changes: Mutex::default(),
        store,
    });
    let lanes = Arc::clone(&core.lanes.0);
    core.watch("a lane (long work of a request)", move || lanes.progress());
    core.opening.watch(&core);
    core.load_groups().map_err(OpenError::Groups)?;
    Ok(core)
}

/// A broker without files, for tests of the doors.
#[cfg(test)]
pub fn in_memory(config: Config) -> Result<Arc<Core>, OpenError> {
    open_on(Arc::new(store::memory::Memory::new()), "memory".into(), config, Clock::System)
}

/// The id that is kept with the data; a new directory takes the configured one or a random one.
fn cluster_id(meta: &dyn Meta, config: &Config, clock: &Clock) -> Result<String, OpenError> {
    if let Some(kept) = meta.get(CLUSTER_ID)? {
        return Ok(String::from_utf8_lossy(&kept.value).into_owned());
    }
    let id = config.identity().cluster_id.unwrap_or_else(|| base64_url(clock.uuid()));
    match meta.put_if(CLUSTER_ID, id.as_bytes(), None)? {
        Put::Won(_) => Ok(id),
        Put::Lost | Put::Unknown => Err(OpenError::Store(store::Error::Fenced)),
    }
}

/// 22 characters of URL-safe base64, as Kafka prints a `Uuid`.
fn base64_url(id: Uuid) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = u128::from_be_bytes(*id.as_bytes());
    (0..22)
        .map(|n| {
            // 128 bits are 21 groups of six and one of two, which is padded on the right.
            let group = if n < 21 { bits >> (122 - 6 * n) } else { bits << 4 } & 0x3f;
            #[allow(clippy::indexing_slicing, reason = "six bits index 64 letters")]
            char::from(ALPHABET[usize::try_from(group).unwrap_or(0)])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_prints_as_kafka_prints_it() {
        // Kafka's well-known ids: METADATA_TOPIC_ID is AAAAAAAAAAAAAAAAAAAAAQ (apache/kafka Uuid.java).
        assert_eq!(base64_url(Uuid::from_u128(1)), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(base64_url(Uuid::from_u128(u128::MAX)), "_____________________w");
    }
}
