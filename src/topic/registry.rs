//! The registry of topics: names, ids, partition counts, overrides; persisted in the store's `Meta`.
//!
//! Owns also what doors keep beside a topic (attachments): opaque here, gone with the topic.
//! Invariant: a change is durable in `Meta` first, then visible to every caller, then reported: nobody ever
//! waits for metadata. Changes are serialised; look-ups take a short read lock.
//! Deliberately absent: randomness (ids are passed in), defaults' origin (the broker passes them in).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, BufMut, Bytes};
use uuid::Uuid;

use super::partition::{Dirty, Partition};
use super::{Error, Plan, Reshape, Result, Shard, Shards, TopicConfig};
use crate::lock::{Mutex, ReadGuard, RwLock, rank};
use crate::quota::Steady;
use crate::store::{self, LogId, Put, Store, Watermark};

/// Longest topic name, as in Kafka.
const NAME_BYTES_MAX: usize = 249;

/// Prefix of topic records in `Meta`.
const PREFIX: &str = "topic/";

/// Prefix of what doors keep beside topics.
const ATTACHMENTS: &str = "attachment/";

/// How long the lineage of an emptied span stays on a topic that keeps for ever.
const LINEAGE_MS: i64 = 86_400_000;

/// A topic.
pub struct Topic {
    id: Uuid,
    name: Arc<str>,
    /// The store's incarnation when it was created: leader epochs count from there.
    born: i32,
    created_ms: i64,
    config: Arc<RwLock<rank::TopicConfig, Arc<TopicConfig>>>,
    overrides: RwLock<rank::TopicOverrides, Arc<BTreeMap<String, String>>>,
    partitions: RwLock<rank::TopicPartitions, Arc<[Arc<Partition>]>>,
    /// None until somebody asks, on a topic that was never resharded.
    shards: RwLock<rank::TopicShards, Option<Arc<Shards>>>,
    /// Counts the changes of the shards; fenced when the topic is deleted.
    changes: Watermark,
    version: Mutex<rank::TopicVersion, u64>,
}

/// A topic to be created.
#[derive(Clone, Debug)]
pub struct NewTopic {
    /// Fresh id.
    pub id: Uuid,
    /// Legal name ([`check_name`]).
    pub name: String,
    /// At least 1.
    pub partitions: i32,
    /// Config overrides by Kafka's names.
    pub overrides: BTreeMap<String, String>,
    /// Milliseconds since the epoch.
    pub created_ms: i64,
}

/// A topic as `Meta` keeps it.
struct Kept {
    new: NewTopic,
    born: i32,
    /// Of a topic that was resharded.
    shards: Option<Arc<Shards>>,
}

/// The broker's value of a broker key, where topics take a default from.
pub type Defaults = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// All topics of a broker.
pub struct Registry {
    store: Arc<dyn Store>,
    defaults: RwLock<rank::TopicDefaults, Defaults>,
    maps: RwLock<rank::TopicMaps, Maps>,
    /// What `Meta` holds of attachments, so that a look never waits for the disk or for a change.
    attachments: RwLock<rank::Attachments, Attachments>,
    /// Serialises changes, so that a look-up never waits for the disk.
    changes: Mutex<rank::TopicChanges, ()>,
    partitions_max: usize,
    partitions_per_topic_max: i32,
    dirty: Arc<Dirty>,
    steady: Arc<Steady>,
    version: AtomicU64,
}

/// By topic and name: version and bytes.
type Attachments = BTreeMap<(Uuid, String), (u64, Bytes)>;

#[derive(Default)]
struct Maps {
    by_name: BTreeMap<Arc<str>, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
    /// Names with `.` and `_` made alike: they collide in metric names, so Kafka refuses the second.
    by_metric_name: HashMap<String, Arc<str>>,
    partition_count: usize,
}

impl Topic {
    /// Topic id, never reused.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether it is one of the broker's own.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        is_internal(&self.name)
    }

    /// When it was created, ms since the epoch; 0 for a topic of weir 0.1.
    #[must_use]
    pub fn created_ms(&self) -> i64 {
        self.created_ms
    }

    /// Its shards now.
    #[must_use]
    pub fn shards(&self) -> Arc<Shards> {
        if let Some(shards) = &*self.shards.read() {
            return Arc::clone(shards);
        }
        let mut shards = self.shards.write();
        let uniform = || {
            let count = i32::try_from(self.partitions().len()).unwrap_or(i32::MAX);
            Arc::new(Shards::uniform(count, self.created_ms.div_euclid(1000)))
        };
        Arc::clone(shards.get_or_insert_with(uniform))
    }

    /// Its shards if it was ever resharded or asked for them; else shard n is partition n, and nothing is made for it.
    #[must_use]
    pub fn known_shards(&self) -> Option<Arc<Shards>> {
        self.shards.read().clone()
    }

    /// The effective configuration.
    #[must_use]
    pub fn config(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.config.read())
    }

    /// What was set on this topic, by Kafka's names.
    #[must_use]
    pub fn overrides(&self) -> Arc<BTreeMap<String, String>> {
        Arc::clone(&self.overrides.read())
    }

    /// Counts the changes of its shards; whoever waits for one registers here. Fails when the topic is deleted.
    #[must_use]
    pub fn changes(&self) -> &Watermark {
        &self.changes
    }

    /// The partitions, by index.
    #[must_use]
    pub fn partitions(&self) -> Arc<[Arc<Partition>]> {
        Arc::clone(&self.partitions.read())
    }

    /// One partition.
    ///
    /// # Errors
    /// [`Error::UnknownPartition`].
    pub fn partition(&self, index: i32) -> Result<Arc<Partition>> {
        let partitions = self.partitions.read();
        usize::try_from(index).ok().and_then(|i| partitions.get(i)).cloned().ok_or(Error::UnknownPartition)
    }
}

impl Registry {
    /// Loads every topic from `store`'s `Meta`; opens no log.
    ///
    /// # Errors
    /// [`Error::Storage`]; a topic record that does not read is an error, never dropped.
    pub fn load(
        store: Arc<dyn Store>,
        defaults: Defaults,
        partitions_max: usize,
        partitions_per_topic_max: i32,
    ) -> Result<Self> {
        let registry = Self {
            store,
            defaults: RwLock::new(defaults),
            maps: RwLock::default(),
            attachments: RwLock::default(),
            changes: Mutex::default(),
            partitions_max,
            partitions_per_topic_max,
            dirty: Arc::default(),
            steady: Arc::default(),
            version: AtomicU64::new(0),
        };
        let mut deleted = HashMap::new();
        for (key, versioned) in registry.store.meta().list(PREFIX)? {
            let damaged = || store::Error::Corrupt {
                path: key.clone().into(),
                position: 0,
                what: "topic record does not read".into(),
            };
            if versioned.value.is_empty() {
                let id = key.get(PREFIX.len()..).and_then(|id| Uuid::parse_str(id).ok());
                deleted.insert(id.ok_or_else(damaged)?, (key, versioned.version));
                continue;
            }
            let kept = decode(versioned.value).ok_or_else(damaged)?;
            let topic = registry.build(kept, versioned.version)?;
            registry.insert(topic);
        }
        registry.load_attachments()?;
        registry.sweep_logs(deleted);
        Ok(registry)
    }

    /// Has the store free what belongs to no topic. A deleted topic's record stays, empty, until nothing of it is left:
    /// so the logs of a deletion that a crash cut short are told from those that nobody can explain.
    fn sweep_logs(&self, mut deleted: HashMap<Uuid, (String, u64)>) {
        let gone = self.store.gone(&deleted.keys().copied().collect());
        let keys: Vec<_> = gone.unwrap_or_default().iter().filter_map(|id| deleted.remove(id)).collect();
        if let Err(error) = self.store.meta().delete_all(&keys) {
            tracing::warn!("records of deleted topics stay until the next start: {error}");
        }
        let count = |topic: &Arc<Topic>| i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
        let topics = self.all().iter().map(|topic| (topic.id, count(topic))).collect();
        self.store.sweep(topics, deleted.into_keys().collect());
    }

    /// The topic of that name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<Arc<Topic>> {
        self.maps().by_name.get(name).cloned()
    }

    /// The topic with that id.
    #[must_use]
    pub fn by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.maps().by_id.get(&id).cloned()
    }

    /// Every topic, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Topic>> {
        self.maps().by_name.values().cloned().collect()
    }

    /// Refuses what [`Registry::create`] would refuse, and changes nothing.
    ///
    /// # Errors
    /// As [`Registry::create`], storage aside.
    pub fn check(&self, new: &NewTopic) -> Result<TopicConfig> {
        check_name(&new.name)?;
        let config = self.effective(&new.name, &new.overrides)?;
        let maps = self.maps();
        if maps.by_name.contains_key(new.name.as_str()) {
            return Err(Error::TopicExists(new.name.clone()));
        }
        if let Some(other) = maps.by_metric_name.get(&metric_name(&new.name)) {
            return Err(Error::InvalidName(format!(
                "topic '{}' collides with existing topic '{other}' ('.' and '_' are alike in metric names)",
                new.name
            )));
        }
        // The broker's own are let in whatever is there: without them there are no groups.
        let added = if is_internal(&new.name) { 0 } else { new.partitions };
        self.check_count(new.partitions, added, &maps)?;
        Ok(config)
    }

    /// Creates a topic: durable, then visible, then returned.
    ///
    /// # Errors
    /// [`Error::InvalidName`], [`Error::TopicExists`], [`Error::InvalidPartitions`],
    /// [`Error::LimitReached`], [`Error::InvalidConfig`], [`Error::Storage`].
    pub fn create(&self, new: NewTopic) -> Result<Arc<Topic>> {
        self.create_with(new, &[])
    }

    /// Creates a topic with what a door keeps beside it, by name: nobody ever sees the one without the other.
    ///
    /// # Errors
    /// As [`Registry::create`].
    pub fn create_with(&self, new: NewTopic, beside: &[(&str, Bytes)]) -> Result<Arc<Topic>> {
        let _change = self.changes.lock();
        self.check(&new)?;
        // First, because what belongs to no topic is swept at the next start.
        let mut kept_beside = Attachments::new();
        for (name, bytes) in beside {
            let version = won(self.store.meta().put_if(&attachment_key(new.id, name), bytes, None)?)?;
            kept_beside.insert((new.id, (*name).to_owned()), (version, bytes.clone()));
        }
        let born = self.store.incarnation();
        let kept = Kept { new, born, shards: None };
        let version = self.save(kept.new.id, &encode(&kept), None)?;
        let topic = self.build(kept, version)?;
        self.attachments.write().append(&mut kept_beside);
        self.insert(Arc::clone(&topic));
        Ok(topic)
    }

    /// Deletes a topic and its logs. What of them cannot be removed is left to the sweep of the next start.
    ///
    /// # Errors
    /// [`Error::UnknownTopicId`]; [`Error::Storage`], the first of several: without a topic of that id it is deleted all the same.
    pub fn delete(&self, id: Uuid) -> Result<Arc<Topic>> {
        let _change = self.changes.lock();
        let topic = self.by_id(id).ok_or(Error::UnknownTopicId)?;
        let version = *topic.version.lock();
        won(self.store.meta().put_if(&key(id), &[], Some(version))?)?;
        {
            let mut maps = self.maps.write();
            maps.by_name.remove(&topic.name);
            maps.by_id.remove(&id);
            maps.by_metric_name.remove(&metric_name(&topic.name));
            maps.partition_count = maps.partition_count.saturating_sub(topic.partitions().len());
        }
        self.changed();
        // None is left standing because another could not be removed.
        let removed = topic.partitions().iter().map(|partition| partition.delete()).fold(Ok(()), Result::and);
        self.attachments.write().retain(|(topic, _), _| *topic != id);
        for (name, kept) in self.store.meta().list(&attachment_key(id, ""))? {
            // One that changed since is swept at the next start.
            self.store.meta().delete_if(&name, kept.version)?;
        }
        removed.map(|()| topic)
    }

    /// How many partitions `count` adds to a topic.
    ///
    /// # Errors
    /// [`Error::InvalidPartitions`] when that is no growth, [`Error::LimitReached`].
    pub fn growth(&self, topic: &Arc<Topic>, count: i32) -> Result<u32> {
        let present = topic.partitions();
        let added = i64::from(count) - i64::try_from(present.len()).unwrap_or(i64::MAX);
        if added <= 0 {
            return Err(Error::InvalidPartitions(format!(
                "The topic currently has {} partition(s); {count} would not be an increase.",
                present.len()
            )));
        }
        self.check_count(count, i32::try_from(added).unwrap_or(i32::MAX), &self.maps())?;
        Ok(u32::try_from(added).unwrap_or(u32::MAX))
    }

    /// What a reshape of the topic's shards comes to; nothing changes yet.
    ///
    /// # Errors
    /// [`Error::UnknownShard`], [`Error::InvalidReshard`], [`Error::InvalidPartitions`], [`Error::LimitReached`].
    pub fn plan(&self, topic: &Topic, reshape: &Reshape) -> Result<Plan> {
        let present = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
        if let Reshape::Scale { count } = *reshape {
            // Before that many ranges are laid out in memory.
            self.check_count(i32::try_from(count).unwrap_or(i32::MAX), 0, &self.maps())?;
        }
        let plan = topic.shards().plan(present, reshape)?;
        self.check_count(plan.partitions, plan.partitions - present, &self.maps())?;
        Ok(plan)
    }

    /// Carries out a plan: one record in `Meta`, then new partitions, then the new shards are visible. `ends` are the
    /// ends of the partitions that the plan touches; everything below them is on stable storage. The caller
    /// lets nobody route by the old shards meanwhile, and carries out one plan of a topic at a time.
    ///
    /// # Errors
    /// [`Error::Storage`]: nothing changed, unless it is [`store::Error::Fenced`], which means that nobody knows;
    /// [`Error::UnknownTopicId`] when the topic was deleted.
    pub fn reshard(
        &self,
        topic: &Arc<Topic>,
        plan: &Plan,
        ends: &BTreeMap<i32, i64>,
        now_ms: i64,
    ) -> Result<()> {
        let _change = self.changes.lock();
        self.by_id(topic.id).ok_or(Error::UnknownTopicId)?;
        let shards = topic.shards().after(plan, now_ms, &|p| ends.get(&p).copied().unwrap_or(0));
        self.show(topic, Arc::new(shards), plan.partitions)
    }

    /// Forgets the lineage that retention has emptied.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn expire_shards(&self, topic: &Arc<Topic>, now_ms: i64) -> Result<()> {
        let shards = topic.shards();
        if shards.open_count() == shards.iter().len() {
            return Ok(());
        }
        let retention_ms = topic.config().retention_ms;
        let kept_ms = if retention_ms < 0 { LINEAGE_MS } else { retention_ms };
        let emptied = |shard: &Shard| {
            let old = shard.closed_ms.is_some_and(|closed| now_ms.saturating_sub(closed) > kept_ms);
            let start = || topic.partition(shard.partition).and_then(|p| p.span()).map(|span| span.start);
            old && shard.until.is_none_or(|until| until <= shard.from || start().is_ok_and(|s| s >= until))
        };
        if shards.without(&emptied).is_none() {
            return Ok(());
        }
        let _change = self.changes.lock();
        let partitions = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
        match topic.shards().without(&emptied) {
            Some(shards) => self.show(topic, Arc::new(shards), partitions),
            None => Ok(()),
        }
    }

    /// Durable, then visible.
    fn show(&self, topic: &Arc<Topic>, shards: Arc<Shards>, count: i32) -> Result<()> {
        self.persist(topic, count, &topic.overrides(), Some(Arc::clone(&shards)))?;
        let present = topic.partitions();
        let mut grown = present.to_vec();
        for index in i32::try_from(present.len()).unwrap_or(i32::MAX)..count {
            grown.push(self.partition(topic.id, index, topic.born, &topic.config, topic.is_internal()));
        }
        let added = grown.len() - present.len();
        if added > 0 {
            *topic.partitions.write() = grown.into();
            self.maps.write().partition_count += added;
            self.changed();
        }
        *topic.shards.write() = Some(Arc::clone(&shards));
        retire(&shards, &topic.partitions());
        topic.changes.advance(topic.changes.value() + 1);
        Ok(())
    }

    /// What a door keeps beside a topic under `name`, and its version. Waits for nothing.
    #[must_use]
    pub fn attachment(&self, topic: Uuid, name: &str) -> Option<(u64, Bytes)> {
        self.attachments.read().get(&(topic, name.to_owned())).cloned()
    }

    /// Keeps `bytes` beside a topic until it is deleted, if the version there is `expected` (`None`: nothing is
    /// there); the new version. Durable when it returns.
    ///
    /// # Errors
    /// [`Error::UnknownTopicId`], [`Error::InUse`] when somebody else was faster, [`Error::Storage`].
    pub fn attach(&self, topic: Uuid, name: &str, bytes: &[u8], expected: Option<u64>) -> Result<u64> {
        let _change = self.changes.lock();
        self.by_id(topic).ok_or(Error::UnknownTopicId)?;
        let place = (topic, name.to_owned());
        match self.store.meta().put_if(&attachment_key(topic, name), bytes, expected)? {
            Put::Won(version) => {
                self.attachments.write().insert(place, (version, Bytes::copy_from_slice(bytes)));
                Ok(version)
            }
            Put::Lost => Err(Error::InUse(format!("{name} changed meanwhile"))),
            Put::Unknown => Err(Error::Storage(store::Error::Fenced)),
        }
    }

    /// Reads what is kept beside topics. A crash between the deletion of a topic and that of its attachments leaves them behind, and so does one between their
    /// creation and the topic's.
    fn load_attachments(&self) -> Result<()> {
        for (key, kept) in self.store.meta().list(ATTACHMENTS)? {
            let place = key.get(ATTACHMENTS.len()..).and_then(|rest| rest.split_once('/'));
            let place = place.and_then(|(id, name)| Some((Uuid::parse_str(id).ok()?, name.to_owned())));
            match place.filter(|(id, _)| self.by_id(*id).is_some()) {
                Some(place) => drop(self.attachments.write().insert(place, (kept.version, kept.value))),
                None => drop(self.store.meta().delete_if(&key, kept.version)?),
            }
        }
        Ok(())
    }

    /// Replaces a topic's overrides (only checks, with `validate_only`).
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], [`Error::Storage`].
    pub fn configure(
        &self,
        topic: &Arc<Topic>,
        overrides: BTreeMap<String, String>,
        validate_only: bool,
    ) -> Result<()> {
        let _change = self.changes.lock();
        let config = self.effective(&topic.name, &overrides)?;
        if validate_only {
            return Ok(());
        }
        let count = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
        let shards = topic.shards();
        // Ids of a topic that was never resharded end with its partitions.
        let resharded = shards.next_id() != u32::try_from(count).unwrap_or(u32::MAX);
        self.persist(topic, count, &overrides, resharded.then_some(shards))?;
        *topic.overrides.write() = Arc::new(overrides);
        set_config(topic, config);
        Ok(())
    }

    /// Changes the defaults that topics without an override follow.
    pub fn set_defaults(&self, defaults: Defaults) {
        let _change = self.changes.lock();
        *self.defaults.write() = defaults;
        for topic in self.all() {
            // Overrides that were legal stay legal: defaults are not part of their check.
            if let Ok(config) = self.effective(&topic.name, &topic.overrides()) {
                set_config(&topic, config);
            }
        }
    }

    /// Counts the changes of topics and of their partitions. What was made from the topics after a look at it is
    /// good for as long as it stays.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Only after a change is visible: a look before it must not make the old state pass for the new one.
    fn changed(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// How many partitions exist.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.maps().partition_count
    }

    /// How many topics exist.
    #[must_use]
    pub fn count(&self) -> usize {
        self.maps().by_id.len()
    }

    /// Partitions on the list of the written ones, gone ones too.
    #[cfg(test)]
    pub fn listed(&self) -> usize {
        self.dirty.len()
    }

    /// At most this many producer ids per partition from now on.
    pub fn limit_producers(&self, max: usize) {
        self.dirty.limit_producers(max);
    }

    /// Partitions written since the last call. What is written after it is in the next one, so whoever syncs what it
    /// returns misses nothing; a partition that is not done with is given back ([`Partition::relist`]).
    #[must_use]
    pub fn take_dirty(&self) -> Vec<Arc<Partition>> {
        self.dirty.take()
    }

    fn maps(&self) -> ReadGuard<'_, rank::TopicMaps, Maps> {
        self.maps.read()
    }

    fn effective(&self, name: &str, overrides: &BTreeMap<String, String>) -> Result<TopicConfig> {
        let defaults = self.defaults.read();
        let config = TopicConfig::from_overrides(&**defaults, overrides)
            .map_err(|refusal| Error::InvalidConfig(refusal.to_string()))?;
        // The broker's own journals are not slowed down by a profile that is meant for streams.
        Ok(if is_internal(name) { config.without_shard_limits() } else { config })
    }

    fn check_count(&self, count: i32, added: i32, maps: &Maps) -> Result<()> {
        if count < 1 {
            return Err(Error::InvalidPartitions("Number of partitions must be larger than 0.".into()));
        }
        if count > self.partitions_per_topic_max {
            return Err(Error::InvalidPartitions(format!(
                "{count} partitions are more than max.partitions.per.topic = {}",
                self.partitions_per_topic_max
            )));
        }
        let total = maps.partition_count + usize::try_from(added).unwrap_or(0);
        if total > self.partitions_max {
            return Err(Error::LimitReached(format!(
                "{total} partitions in all are more than max.partitions = {}",
                self.partitions_max
            )));
        }
        Ok(())
    }

    fn persist(
        &self,
        topic: &Topic,
        partitions: i32,
        overrides: &BTreeMap<String, String>,
        shards: Option<Arc<Shards>>,
    ) -> Result<()> {
        let new = NewTopic {
            id: topic.id,
            name: topic.name.to_string(),
            partitions,
            overrides: overrides.clone(),
            created_ms: topic.created_ms,
        };
        let record = encode(&Kept { new, born: topic.born, shards });
        let mut version = topic.version.lock();
        *version = self.save(topic.id, &record, Some(*version))?;
        Ok(())
    }

    fn save(&self, id: Uuid, value: &[u8], expected: Option<u64>) -> Result<u64> {
        won(self.store.meta().put_if(&key(id), value, expected)?)
    }

    fn build(&self, kept: Kept, version: u64) -> Result<Arc<Topic>> {
        let Kept { new, born, shards } = kept;
        let config = Arc::new(RwLock::new(Arc::new(self.effective(&new.name, &new.overrides)?)));
        let partitions: Arc<[_]> = {
            let internal = is_internal(&new.name);
            (0..new.partitions).map(|index| self.partition(new.id, index, born, &config, internal)).collect()
        };
        if let Some(shards) = &shards {
            retire(shards, &partitions);
        }
        Ok(Arc::new(Topic {
            id: new.id,
            name: new.name.into(),
            born,
            created_ms: new.created_ms,
            config,
            overrides: RwLock::new(Arc::new(new.overrides)),
            partitions: RwLock::new(partitions),
            shards: RwLock::new(shards),
            changes: Watermark::new(0),
            version: Mutex::new(version),
        }))
    }

    fn partition(
        &self,
        topic: Uuid,
        index: i32,
        born: i32,
        config: &Arc<RwLock<rank::TopicConfig, Arc<TopicConfig>>>,
        internal: bool,
    ) -> Arc<Partition> {
        // Never below 0: somebody may have put back a file that counts fewer lives.
        let epoch = self.store.incarnation().saturating_sub(born).max(0);
        let id = LogId { topic, partition: index };
        Arc::new(Partition::new(
            id,
            epoch,
            Arc::clone(&self.store),
            Arc::clone(config),
            Arc::clone(&self.dirty),
            Arc::clone(&self.steady),
            internal,
        ))
    }

    fn insert(&self, topic: Arc<Topic>) {
        let mut maps = self.maps.write();
        maps.partition_count += topic.partitions().len();
        maps.by_metric_name.insert(metric_name(&topic.name), Arc::clone(&topic.name));
        maps.by_name.insert(Arc::clone(&topic.name), Arc::clone(&topic));
        maps.by_id.insert(topic.id, topic);
        drop(maps);
        self.changed();
    }
}

/// Kafka's rule for names: 1 to 249 of `[a-zA-Z0-9._-]`, not `.` or `..`.
///
/// # Errors
/// [`Error::InvalidName`] with Kafka's wording.
pub fn check_name(name: &str) -> Result<()> {
    let refuse = |why: String| Err(Error::InvalidName(why));
    if name.is_empty() {
        return refuse("the empty string is not allowed".into());
    }
    if name == "." || name == ".." {
        return refuse(format!("Topic name cannot be \"{name}\""));
    }
    if name.len() > NAME_BYTES_MAX {
        return refuse(format!("the length of a topic name cannot be larger than {NAME_BYTES_MAX}"));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return refuse(format!(
            "topic name {name:?} contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ));
    }
    Ok(())
}

/// Whether a name is one of the broker's own topics.
#[must_use]
pub fn is_internal(name: &str) -> bool {
    matches!(name, "__consumer_offsets" | "__transaction_state")
}

/// Tells every partition whether it has an open shard, and who has its keys if not.
fn retire(shards: &Shards, partitions: &[Arc<Partition>]) {
    let open: std::collections::HashSet<i32> = shards.open().map(|s| s.partition).collect();
    for partition in partitions {
        let index = partition.id().partition;
        if open.contains(&index) {
            partition.revive();
        } else {
            partition.retire(shards.heir(index));
        }
    }
}

fn attachment_key(topic: Uuid, name: &str) -> String {
    format!("{ATTACHMENTS}{topic}/{name}")
}

fn set_config(topic: &Topic, config: TopicConfig) {
    *topic.config.write() = Arc::new(config);
    for partition in topic.partitions().iter() {
        partition.reconfigured();
    }
}

fn won(put: Put) -> Result<u64> {
    match put {
        Put::Won(version) => Ok(version),
        // Nothing was written. Also after a change whose outcome nobody knows: a restart reads what it was.
        Put::Lost => Err(Error::InUse("the topic's record has changed".into())),
        Put::Unknown => Err(Error::Storage(store::Error::Fenced)),
    }
}

fn key(id: Uuid) -> String {
    format!("{PREFIX}{id}")
}

fn metric_name(name: &str) -> String {
    name.replace('.', "_")
}

/// version u8 = 2, id 16 bytes, born i32, partitions i32, name, count u32, then key and value of each override,
/// created i64 ms, then the shards of a topic that was resharded; strings as u32 length + UTF-8.
/// Version 1 ends after the overrides.
fn encode(kept: &Kept) -> Vec<u8> {
    let topic = &kept.new;
    let mut out = vec![2];
    out.put_slice(topic.id.as_bytes());
    out.put_i32(kept.born);
    out.put_i32(topic.partitions);
    put_string(&mut out, &topic.name);
    out.put_u32(u32::try_from(topic.overrides.len()).unwrap_or(u32::MAX));
    for (name, value) in &topic.overrides {
        put_string(&mut out, name);
        put_string(&mut out, value);
    }
    out.put_i64(topic.created_ms);
    if let Some(shards) = &kept.shards {
        shards.encode(&mut out);
    }
    out
}

fn decode(mut input: Bytes) -> Option<Kept> {
    let version = input.try_get_u8().ok()?;
    if !(1..=2).contains(&version) || input.len() < 16 {
        return None;
    }
    let id = Uuid::from_slice(&input.split_to(16)).ok()?;
    let born = input.try_get_i32().ok()?;
    let partitions = input.try_get_i32().ok()?;
    let name = string(&mut input)?;
    let mut overrides = BTreeMap::new();
    for _ in 0..input.try_get_u32().ok()? {
        overrides.insert(string(&mut input)?, string(&mut input)?);
    }
    let created_ms = if version == 1 { 0 } else { input.try_get_i64().ok()? };
    let shards = if input.is_empty() { None } else { Some(Arc::new(Shards::decode(&mut input)?)) };
    let new = NewTopic { id, name, partitions, overrides, created_ms };
    input.is_empty().then_some(Kept { new, born, shards })
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
    out.put_slice(text.as_bytes());
}

fn string(input: &mut Bytes) -> Option<String> {
    let len = usize::try_from(input.try_get_u32().ok()?).ok()?;
    if len > input.len() {
        return None;
    }
    String::from_utf8(input.split_to(len).to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rule() {
        for bad in ["", ".", "..", "a/b", "../../etc/x", "a\0b", "é", "con ", "x\n", &"a".repeat(250)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "A.b_c-9", "...", &"a".repeat(249)] {
            assert!(check_name(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_topic_record_reads_back_and_a_cut_one_does_not() {
        let topic = NewTopic {
            id: Uuid::from_u128(7),
            name: "orders".into(),
            partitions: 3,
            overrides: BTreeMap::from([("retention.ms".into(), "5".into())]),
            created_ms: 9,
        };
        let plain = encode(&Kept { new: topic.clone(), born: 4, shards: None });
        let shards = Arc::new(Shards::uniform(3, 1));
        let resharded = encode(&Kept { new: topic.clone(), born: 4, shards: Some(Arc::clone(&shards)) });
        for (bytes, shards, may_end_at) in
            [(&plain, None, usize::MAX), (&resharded, Some(shards), plain.len())]
        {
            let kept = decode(Bytes::from(bytes.clone())).unwrap();
            assert_eq!((kept.new.id, kept.new.name.as_str(), kept.new.partitions), (topic.id, "orders", 3));
            assert_eq!((&kept.new.overrides, kept.new.created_ms, kept.born), (&topic.overrides, 9, 4));
            assert_eq!(kept.shards, shards);
            for cut in (0..bytes.len()).filter(|cut| *cut != may_end_at) {
                assert!(decode(Bytes::copy_from_slice(&bytes[..cut])).is_none(), "{cut}");
            }
        }
    }

    #[test]
    fn a_topic_record_of_the_first_version_reads() {
        let topic = NewTopic {
            id: Uuid::from_u128(7),
            name: "orders".into(),
            partitions: 3,
            overrides: BTreeMap::from([("retention.ms".into(), "5".into())]),
            created_ms: 9,
        };
        let mut bytes = encode(&Kept { new: topic, born: 4, shards: None });
        bytes[0] = 1;
        bytes.truncate(bytes.len() - 8);
        let kept = decode(bytes.into()).unwrap();
        assert_eq!((kept.new.partitions, kept.new.created_ms, kept.born), (3, 0, 4));
        assert!(kept.shards.is_none());
    }

    #[test]
    fn a_log_that_cannot_be_removed_keeps_no_other_and_goes_with_the_next_sweep() {
        use crate::batch::{Builder, Record};
        use crate::store::local::{Local, LocalOptions};

        let dir = tempfile::tempdir().unwrap();
        let load = || {
            let options = LocalOptions { inline: true, ..LocalOptions::default() };
            let store = Arc::new(Local::open_with(dir.path(), options).unwrap());
            (store.clone(), Registry::load(store, Box::new(|_| None), 100, 100).unwrap())
        };
        let (store, registry) = load();
        let (id, name) = (Uuid::from_u128(7), "t".to_owned());
        let new = NewTopic { id, name, partitions: 3, overrides: BTreeMap::new(), created_ms: 0 };
        for partition in registry.create(new).unwrap().partitions().iter() {
            let mut builder = Builder::new();
            builder.push(Record::default());
            partition.append(0, &mut [&mut super::super::Append::new(builder.build().unwrap())]);
        }
        let topic = dir.path().join("topics").join(id.to_string());
        // In the way of the first one's removal.
        std::fs::create_dir_all(topic.join("0.deleted-1").join("x")).unwrap();
        assert!(matches!(registry.delete(id), Err(Error::Storage(_))));
        assert!(registry.by_id(id).is_none());
        let there = |name: &str| topic.join(name).exists();
        assert_eq!(["0", "1", "2"].map(there), [true, false, false]);
        store.close().unwrap();
        drop((store, registry));

        let (store, _registry) = load();
        assert!(!topic.exists(), "swept");
        store.close().unwrap();
    }

    #[test]
    fn epochs_do_not_go_below_zero_where_the_count_of_lives_was_set_back() {
        use crate::store::local::Local;

        let dir = tempfile::tempdir().unwrap();
        let load = || {
            let store = Arc::new(Local::open(dir.path()).unwrap());
            (store.clone(), Registry::load(store, Box::new(|_| None), 100, 100).unwrap())
        };
        let new = |n, name: &str| NewTopic {
            id: Uuid::from_u128(n),
            name: name.to_owned(),
            partitions: 1,
            overrides: BTreeMap::new(),
            created_ms: 0,
        };
        let format = dir.path().join("format");
        let mut saved = None;
        for life in 0..4 {
            let (_store, registry) = load();
            registry.create(new(life, &format!("t{life}"))).unwrap();
            // Not closed.
            saved = saved.or_else(|| std::fs::read(&format).ok());
        }
        std::fs::write(&format, saved.unwrap()).unwrap();
        std::fs::remove_file(dir.path().join("life")).unwrap();
        let (_store, registry) = load();
        let epochs: Vec<_> = (0..4)
            .map(|life| registry.by_id(Uuid::from_u128(life)).unwrap().partitions()[0].leader_epoch())
            .collect();
        assert_eq!(epochs, [1, 0, 0, 0]);
    }
}
