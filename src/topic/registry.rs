//! The registry of topics: names, ids, partition counts, overrides; persisted in the store's `Meta`.
//!
//! Invariant: a change is durable in `Meta` first, then visible to every caller, then reported: nobody ever
//! waits for metadata. Changes are serialised; look-ups take a short read lock.
//! Deliberately absent: randomness (ids are passed in), defaults' origin (the broker passes them in).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::{Buf, BufMut, Bytes};
use uuid::Uuid;

use super::partition::{Dirty, Partition};
use super::{Error, Result, TopicConfig};
use crate::store::{self, LogId, Put, Store};

/// Longest topic name, as in Kafka.
const NAME_BYTES_MAX: usize = 249;

/// Prefix of topic records in `Meta`.
const PREFIX: &str = "topic/";

/// A topic.
pub struct Topic {
    id: Uuid,
    name: Arc<str>,
    /// The store's incarnation when it was created: leader epochs count from there.
    born: i32,
    config: Arc<RwLock<Arc<TopicConfig>>>,
    overrides: RwLock<Arc<BTreeMap<String, String>>>,
    partitions: RwLock<Arc<[Arc<Partition>]>>,
    version: Mutex<u64>,
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
}

/// The broker's value of a broker key, where topics take a default from.
pub type Defaults = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// All topics of a broker.
pub struct Registry {
    store: Arc<dyn Store>,
    defaults: RwLock<Defaults>,
    maps: RwLock<Maps>,
    /// Serialises changes, so that a look-up never waits for the disk.
    changes: Mutex<()>,
    partitions_max: usize,
    partitions_per_topic_max: i32,
    dirty: Arc<Dirty>,
}

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

    /// The effective configuration.
    #[must_use]
    pub fn config(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was set on this topic, by Kafka's names.
    #[must_use]
    pub fn overrides(&self) -> Arc<BTreeMap<String, String>> {
        Arc::clone(&self.overrides.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The partitions, by index.
    #[must_use]
    pub fn partitions(&self) -> Arc<[Arc<Partition>]> {
        Arc::clone(&self.partitions.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// One partition.
    ///
    /// # Errors
    /// [`Error::UnknownPartition`].
    pub fn partition(&self, index: i32) -> Result<Arc<Partition>> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
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
            changes: Mutex::default(),
            partitions_max,
            partitions_per_topic_max,
            dirty: Arc::default(),
        };
        for (key, versioned) in registry.store.meta().list(PREFIX)? {
            let damaged = || store::Error::Corrupt {
                path: key.clone().into(),
                position: 0,
                what: "topic record does not read".into(),
            };
            let (new, born) = decode(versioned.value).ok_or_else(damaged)?;
            let topic = registry.build(new, born, versioned.version)?;
            registry.insert(topic);
        }
        Ok(registry)
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
        let config = self.effective(&new.overrides)?;
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
        self.check_count(new.partitions, new.partitions, &maps)?;
        Ok(config)
    }

    /// Creates a topic: durable, then visible, then returned.
    ///
    /// # Errors
    /// [`Error::InvalidName`], [`Error::TopicExists`], [`Error::InvalidPartitions`],
    /// [`Error::LimitReached`], [`Error::InvalidConfig`], [`Error::Storage`].
    pub fn create(&self, new: NewTopic) -> Result<Arc<Topic>> {
        let _change = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        self.check(&new)?;
        let born = self.store.incarnation();
        let version = self.save(new.id, &encode(&new, born), None)?;
        let topic = self.build(new, born, version)?;
        self.insert(Arc::clone(&topic));
        Ok(topic)
    }

    /// Deletes a topic and its logs.
    ///
    /// # Errors
    /// [`Error::UnknownTopicId`], [`Error::Storage`].
    pub fn delete(&self, id: Uuid) -> Result<Arc<Topic>> {
        let _change = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let topic = self.by_id(id).ok_or(Error::UnknownTopicId)?;
        let version = *topic.version.lock().unwrap_or_else(PoisonError::into_inner);
        won(self.store.meta().delete_if(&key(id), version)?)?;
        {
            let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
            maps.by_name.remove(&topic.name);
            maps.by_id.remove(&id);
            maps.by_metric_name.remove(&metric_name(&topic.name));
            maps.partition_count = maps.partition_count.saturating_sub(topic.partitions().len());
        }
        for partition in topic.partitions().iter() {
            partition.delete()?;
        }
        Ok(topic)
    }

    /// Grows a topic to `count` partitions (only checks, with `validate_only`).
    ///
    /// # Errors
    /// [`Error::InvalidPartitions`] when that is no growth, [`Error::LimitReached`], [`Error::Storage`].
    pub fn grow(&self, topic: &Arc<Topic>, count: i32, validate_only: bool) -> Result<()> {
        let _change = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let present = topic.partitions();
        let added = i64::from(count) - i64::try_from(present.len()).unwrap_or(i64::MAX);
        if added <= 0 {
            return Err(Error::InvalidPartitions(format!(
                "The topic currently has {} partition(s); {count} would not be an increase.",
                present.len()
            )));
        }
        self.check_count(count, i32::try_from(added).unwrap_or(i32::MAX), &self.maps())?;
        if validate_only {
            return Ok(());
        }
        self.persist(topic, count, &topic.overrides())?;
        let mut grown = present.to_vec();
        for index in i32::try_from(present.len()).unwrap_or(i32::MAX)..count {
            grown.push(self.partition(topic.id, index, topic.born, &topic.config));
        }
        let added = grown.len() - present.len();
        *topic.partitions.write().unwrap_or_else(PoisonError::into_inner) = grown.into();
        self.maps.write().unwrap_or_else(PoisonError::into_inner).partition_count += added;
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
        let _change = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let config = self.effective(&overrides)?;
        if validate_only {
            return Ok(());
        }
        let count = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
        self.persist(topic, count, &overrides)?;
        *topic.overrides.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(overrides);
        set_config(topic, config);
        Ok(())
    }

    /// Changes the defaults that topics without an override follow.
    pub fn set_defaults(&self, defaults: Defaults) {
        let _change = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        *self.defaults.write().unwrap_or_else(PoisonError::into_inner) = defaults;
        for topic in self.all() {
            // Overrides that were legal stay legal: defaults are not part of their check.
            if let Ok(config) = self.effective(&topic.overrides()) {
                set_config(&topic, config);
            }
        }
    }

    /// How many partitions exist.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.maps().partition_count
    }

    /// Partitions written since the last call.
    #[must_use]
    pub fn take_dirty(&self) -> Vec<Arc<Partition>> {
        self.dirty.take()
    }

    /// Partitions written since the last [`Registry::take_dirty`], which stay listed.
    #[must_use]
    pub fn written(&self) -> Vec<Arc<Partition>> {
        self.dirty.list()
    }

    fn maps(&self) -> std::sync::RwLockReadGuard<'_, Maps> {
        self.maps.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn effective(&self, overrides: &BTreeMap<String, String>) -> Result<TopicConfig> {
        let defaults = self.defaults.read().unwrap_or_else(PoisonError::into_inner);
        TopicConfig::from_overrides(&**defaults, overrides)
            .map_err(|refusal| Error::InvalidConfig(refusal.to_string()))
    }

    fn check_count(&self, count: i32, added: i32, maps: &Maps) -> Result<()> {
        if count < 1 {
            return Err(Error::InvalidPartitions("Number of partitions must be larger than 0.".into()));
        }
        if count > self.partitions_per_topic_max {
            return Err(Error::InvalidPartitions(format!(
                "{count} partitions are more than partitions.per.topic.max = {}",
                self.partitions_per_topic_max
            )));
        }
        let total = maps.partition_count + usize::try_from(added).unwrap_or(0);
        if total > self.partitions_max {
            return Err(Error::LimitReached(format!(
                "{total} partitions in all are more than partitions.max = {}",
                self.partitions_max
            )));
        }
        Ok(())
    }

    fn persist(&self, topic: &Topic, partitions: i32, overrides: &BTreeMap<String, String>) -> Result<()> {
        let record =
            NewTopic { id: topic.id, name: topic.name.to_string(), partitions, overrides: overrides.clone() };
        let mut version = topic.version.lock().unwrap_or_else(PoisonError::into_inner);
        *version = self.save(topic.id, &encode(&record, topic.born), Some(*version))?;
        Ok(())
    }

    fn save(&self, id: Uuid, value: &[u8], expected: Option<u64>) -> Result<u64> {
        won(self.store.meta().put_if(&key(id), value, expected)?)
    }

    fn build(&self, new: NewTopic, born: i32, version: u64) -> Result<Arc<Topic>> {
        let config = Arc::new(RwLock::new(Arc::new(self.effective(&new.overrides)?)));
        let partitions =
            (0..new.partitions).map(|index| self.partition(new.id, index, born, &config)).collect();
        Ok(Arc::new(Topic {
            id: new.id,
            name: new.name.into(),
            born,
            config,
            overrides: RwLock::new(Arc::new(new.overrides)),
            partitions: RwLock::new(partitions),
            version: Mutex::new(version),
        }))
    }

    fn partition(
        &self,
        topic: Uuid,
        index: i32,
        born: i32,
        config: &Arc<RwLock<Arc<TopicConfig>>>,
    ) -> Arc<Partition> {
        let epoch = self.store.incarnation() - born;
        let id = LogId { topic, partition: index };
        Arc::new(Partition::new(
            id,
            epoch,
            Arc::clone(&self.store),
            Arc::clone(config),
            Arc::clone(&self.dirty),
        ))
    }

    fn insert(&self, topic: Arc<Topic>) {
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        maps.partition_count += topic.partitions().len();
        maps.by_metric_name.insert(metric_name(&topic.name), Arc::clone(&topic.name));
        maps.by_name.insert(Arc::clone(&topic.name), Arc::clone(&topic));
        maps.by_id.insert(topic.id, topic);
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

fn set_config(topic: &Topic, config: TopicConfig) {
    *topic.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    for partition in topic.partitions().iter() {
        partition.reconfigured();
    }
}

fn won(put: Put) -> Result<u64> {
    match put {
        Put::Won(version) => Ok(version),
        Put::Lost | Put::Unknown => Err(Error::Storage(store::Error::Fenced)),
    }
}

fn key(id: Uuid) -> String {
    format!("{PREFIX}{id}")
}

fn metric_name(name: &str) -> String {
    name.replace('.', "_")
}

/// version u8 = 1, id 16 bytes, born i32, partitions i32, name, count u32, then key and value of each override;
/// strings as u32 length + UTF-8.
fn encode(topic: &NewTopic, born: i32) -> Vec<u8> {
    let mut out = vec![1];
    out.put_slice(topic.id.as_bytes());
    out.put_i32(born);
    out.put_i32(topic.partitions);
    put_string(&mut out, &topic.name);
    out.put_u32(u32::try_from(topic.overrides.len()).unwrap_or(u32::MAX));
    for (name, value) in &topic.overrides {
        put_string(&mut out, name);
        put_string(&mut out, value);
    }
    out
}

fn decode(mut input: Bytes) -> Option<(NewTopic, i32)> {
    if input.try_get_u8().ok()? != 1 || input.len() < 16 {
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
    Some((NewTopic { id, name, partitions, overrides }, born))
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
        };
        let bytes = encode(&topic, 4);
        let (read, born) = decode(Bytes::from(bytes.clone())).unwrap_or_else(|| unreachable!());
        assert_eq!((read.id, read.name.as_str(), read.partitions, born), (topic.id, "orders", 3, 4));
        assert_eq!(read.overrides, topic.overrides);
        for cut in 0..bytes.len() {
            assert!(decode(Bytes::copy_from_slice(bytes.get(..cut).unwrap_or_default())).is_none());
        }
    }
}
