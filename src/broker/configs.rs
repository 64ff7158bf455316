//! Changes of configuration while the broker runs: of a topic, of this node, of all nodes.
//!
//! Invariant: changes happen one at a time, so that two that edit the same list both count; a change is
//! durable in `Meta` before it is visible, and visible before the call returns.
//! Deliberately absent: which keys exist and what they accept (`config`, `topic::config`); wire numbers.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use super::Core;
use crate::config::{Config, Kind, Refusal, Source, keys};
use crate::store::{self, Meta, Put};
use crate::topic::config::entries;
use crate::topic::{self, Error, Topic};

/// Longest value: what a string of the Kafka protocol can carry back.
const VALUE_BYTES_MAX: usize = 32_767;

/// What is to become of the values that were set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These and no others are set from now on.
    Replace(BTreeMap<String, String>),
    /// Keys that are not named stay as they are. A key is named once.
    Edit(Vec<(String, Edit)>),
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Sets the value.
    Set(String),
    /// Takes the value back; the default counts again.
    Remove,
    /// Adds entries to a list, to the value in force; those that are there stay once.
    Append(String),
    /// Takes entries out of a list, out of the value in force.
    Subtract(String),
}

/// For whom a broker key is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This node.
    Node,
    /// All nodes; the node's own value wins.
    Cluster,
}

impl Scope {
    /// The source that such a value has.
    #[must_use]
    pub fn source(self) -> Source {
        match self {
            Self::Node => Source::Dynamic,
            Self::Cluster => Source::DynamicDefault,
        }
    }

    fn meta_key(self) -> &'static str {
        match self {
            Self::Node => "broker-config/node",
            Self::Cluster => "broker-config/cluster",
        }
    }
}

/// Whether a broker key can be changed while the broker runs. Secrets, and what names a file or a class
/// to load, come from those who start the process alone.
#[must_use]
pub fn is_alterable(name: &str) -> bool {
    keys::find(name).is_some_and(|key| {
        key.dynamic && key.kind != Kind::Password && !name.starts_with("ssl.") && !name.starts_with("sasl.")
    })
}

/// Who may connect, and how fast: the settings with their hosts looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Most connections at a time.
    pub connections: usize,
    /// Most new connections per second.
    pub per_second: u32,
    per_ip: usize,
    by_ip: HashMap<IpAddr, usize>,
}

impl Admission {
    /// Looks up the hosts of `max.connections.per.ip.overrides`. Waits for the resolver.
    pub(super) fn new(config: &Config) -> Result<Self, Refusal> {
        let settings = config.admission_settings();
        let mut by_ip = HashMap::new();
        for (host, max) in &settings.max_connections_by_host {
            let key = "max.connections.per.ip.overrides";
            let found = (host.as_str(), 0).to_socket_addrs().map_err(|error| {
                Refusal::new(key, config.value(key).unwrap_or_default(), format!("{host}: {error}"))
            })?;
            by_ip.extend(found.map(|addr| (addr.ip(), *max)));
        }
        Ok(Self {
            connections: settings.max_connections,
            per_second: settings.max_connections_per_second,
            per_ip: settings.max_connections_per_ip,
            by_ip,
        })
    }

    /// Most connections at a time from one address.
    #[must_use]
    pub fn connections_of(&self, ip: IpAddr) -> usize {
        self.by_ip.get(&ip).copied().unwrap_or(self.per_ip)
    }
}

impl Change {
    /// The values after the change. `list` gives the value in force of a list key, `None` for other keys.
    fn apply(
        self,
        present: &BTreeMap<String, String>,
        list: &dyn Fn(&str) -> Option<String>,
    ) -> topic::Result<BTreeMap<String, String>> {
        let edits = match self {
            Self::Replace(all) => return Ok(all),
            Self::Edit(edits) => edits,
        };
        let mut values = present.clone();
        for (name, edit) in edits {
            let edited = match edit {
                Edit::Set(value) => Some(value),
                Edit::Remove => None,
                Edit::Append(added) => Some(append(&list_of(&name, list)?, &added)),
                Edit::Subtract(gone) => Some(subtract(&list_of(&name, list)?, &gone)),
            };
            match edited {
                Some(value) if value.len() > VALUE_BYTES_MAX => {
                    return Err(Error::InvalidConfig(format!("{name}: longer than {VALUE_BYTES_MAX} bytes")));
                }
                Some(value) => values.insert(name, value),
                None => values.remove(&name),
            };
        }
        Ok(values)
    }
}

fn list_of(name: &str, list: &dyn Fn(&str) -> Option<String>) -> topic::Result<String> {
    list(name)
        .ok_or_else(|| Error::InvalidConfig(format!("{name}: not a list, nothing can be added or taken out")))
}

fn append(list: &str, added: &str) -> String {
    let mut all: Vec<&str> = entries(list).collect();
    for entry in entries(added) {
        if !all.contains(&entry) {
            all.push(entry);
        }
    }
    all.join(",")
}

fn subtract(list: &str, gone: &str) -> String {
    let rest: Vec<&str> = entries(list).filter(|entry| !entries(gone).any(|g| g == *entry)).collect();
    rest.join(",")
}

impl Core {
    /// Changes a topic's overrides (only checks, with `validate_only`). Waits for the disk.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], [`Error::Storage`].
    pub fn alter_topic_config(
        &self,
        topic: &Arc<Topic>,
        change: Change,
        validate_only: bool,
    ) -> topic::Result<()> {
        let _change = self.config_changes.lock();
        let config = self.config();
        let broker = |key: &str| config.value(key).map(str::to_owned);
        let present = topic.overrides();
        let list = |name: &str| {
            let known = topic::config::describe(&broker, &present).into_iter().find(|d| d.name == name)?;
            (known.kind == Kind::List).then_some(known.value)
        };
        let wanted = change.apply(&present, &list)?;
        self.topics.configure(topic, wanted, validate_only)?;
        if !validate_only {
            self.say_unheeded(topic);
        }
        Ok(())
    }

    /// Says in the log what a topic was told and weir does not do yet.
    pub(super) fn say_unheeded(&self, topic: &Topic) {
        let unheeded = |(key, value): (&String, &String)| topic::config::unheeded(key, value);
        if !topic.is_internal()
            && let Some(why) = topic.overrides().iter().find_map(unheeded)
            && self.lines().unheeded.admit().is_some()
        {
            tracing::warn!(topic = %topic.name(), "cleanup.policy: {why}");
        }
    }

    /// Changes broker keys (only checks, with `validate_only`). Waits for the disk.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`]: unknown, not alterable while running, out of range, or in contradiction
    /// to another key; [`Error::Storage`].
    pub fn alter_broker_config(
        &self,
        scope: Scope,
        change: Change,
        validate_only: bool,
    ) -> topic::Result<()> {
        let _change = self.config_changes.lock();
        let source = scope.source();
        let mut config = Config::clone(&self.config());
        let present: BTreeMap<String, String> =
            config.said_by(source).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let list = |name: &str| {
            let known = config.describe_key(name).filter(|d| d.kind == Kind::List)?;
            Some(known.value.unwrap_or_default())
        };
        let wanted = change.apply(&present, &list)?;
        for name in present.keys().filter(|name| !wanted.contains_key(*name)) {
            config.unset(name, source);
        }
        for (name, value) in wanted.iter().filter(|(name, value)| present.get(*name) != Some(value)) {
            if !is_alterable(name) {
                let why = format!("Cannot update these configs dynamically: [{name}]");
                return Err(Error::InvalidConfig(why));
            }
            config.set(name, value, source).map_err(|refusal| Error::InvalidConfig(refusal.to_string()))?;
        }
        let invalid = |refusal: Refusal| Error::InvalidConfig(refusal.to_string());
        let advertised = super::advertised(&config).map_err(invalid)?;
        let admission = Admission::new(&config).map_err(invalid)?;
        if validate_only {
            return Ok(());
        }
        save(self.store.meta(), scope, &wanted)?;
        let config = Arc::new(config);
        *self.advertised.write() = advertised;
        *self.admission.write() = Arc::new(admission);
        *self.config.write() = Arc::clone(&config);
        self.topics.set_defaults(super::topic_defaults(&config));
        Ok(())
    }
}

/// Says again what was said before the restart. A value that is no longer accepted is reported and left out.
pub(super) fn load(meta: &dyn Meta, config: &mut Config) -> store::Result<()> {
    for scope in [Scope::Cluster, Scope::Node] {
        let Some(kept) = meta.get(scope.meta_key())? else { continue };
        let values = decode(kept.value).ok_or_else(|| store::Error::Corrupt {
            path: scope.meta_key().into(),
            position: 0,
            what: "broker configuration does not read".into(),
        })?;
        for (name, value) in values {
            if let Err(refusal) = config.set(&name, &value, scope.source()) {
                tracing::warn!("dynamic configuration left out: {refusal}");
            }
        }
    }
    Ok(())
}

fn save(meta: &dyn Meta, scope: Scope, values: &BTreeMap<String, String>) -> topic::Result<()> {
    let version = meta.get(scope.meta_key())?.map(|kept| kept.version);
    match meta.put_if(scope.meta_key(), &encode(values), version)? {
        Put::Won(_) => Ok(()),
        Put::Lost | Put::Unknown => Err(Error::Storage(store::Error::Fenced)),
    }
}

/// version u8 = 1, count u32, then key and value of each; strings as u32 length + UTF-8.
fn encode(values: &BTreeMap<String, String>) -> Vec<u8> {
    let mut out = vec![1];
    out.put_u32(u32::try_from(values.len()).unwrap_or(u32::MAX));
    for text in values.iter().flat_map(|(name, value)| [name, value]) {
        out.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        out.put_slice(text.as_bytes());
    }
    out
}

fn decode(mut bytes: Bytes) -> Option<BTreeMap<String, String>> {
    if bytes.try_get_u8().ok()? != 1 {
        return None;
    }
    let mut values = BTreeMap::new();
    for _ in 0..bytes.try_get_u32().ok()? {
        let name = decode_text(&mut bytes)?;
        values.insert(name, decode_text(&mut bytes)?);
    }
    bytes.is_empty().then_some(values)
}

fn decode_text(bytes: &mut Bytes) -> Option<String> {
    let len = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
    if len > bytes.len() {
        return None;
    }
    String::from_utf8(bytes.split_to(len).to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Clock;
    use crate::store::{Store, memory::Memory};

    fn open(store: &Arc<dyn Store>) -> Arc<Core> {
        crate::broker::open::open_on(Arc::clone(store), "memory".into(), Config::default(), Clock::System)
            .unwrap()
    }

    fn set(name: &str, value: &str) -> Change {
        Change::Edit(vec![(name.to_owned(), Edit::Set(value.to_owned()))])
    }

    #[test]
    fn a_list_grows_from_the_value_in_force_and_shrinks_to_what_is_left() {
        let in_force = |name: &str| (name == "list").then(|| "delete".to_owned());
        let edit = |edit| Change::Edit(vec![("list".to_owned(), edit)]).apply(&BTreeMap::new(), &in_force);
        let only = |value: &str| BTreeMap::from([("list".to_owned(), value.to_owned())]);
        assert_eq!(edit(Edit::Append("compact,delete".into())).unwrap(), only("delete,compact"));
        assert_eq!(edit(Edit::Subtract("delete".into())).unwrap(), only(""));
        let other = Change::Edit(vec![("number".to_owned(), Edit::Append("1".into()))]);
        assert!(matches!(other.apply(&BTreeMap::new(), &in_force), Err(Error::InvalidConfig(_))));
    }

    #[test]
    fn a_dynamic_value_is_followed_by_topics_at_once_and_survives_a_restart() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let core = open(&store);
        let new = topic::NewTopic {
            id: core.clock().uuid(),
            name: "t".into(),
            partitions: 1,
            overrides: BTreeMap::new(),
            created_ms: 0,
        };
        let topic = core.topics().create(new).unwrap();
        core.alter_broker_config(Scope::Cluster, set("log.retention.ms", "5"), true).unwrap();
        assert_eq!(topic.config().retention_ms, 604_800_000);
        core.alter_broker_config(Scope::Cluster, set("log.retention.ms", "5"), false).unwrap();
        assert_eq!(topic.config().retention_ms, 5);
        core.alter_broker_config(Scope::Node, set("log.retention.ms", "6"), false).unwrap();
        let core = open(&store);
        assert_eq!(core.topics().by_name("t").unwrap().config().retention_ms, 6);
        core.alter_broker_config(Scope::Node, Change::Replace(BTreeMap::new()), false).unwrap();
        assert_eq!(core.topics().by_name("t").unwrap().config().retention_ms, 5);
    }

    #[test]
    fn what_names_files_secrets_or_identity_is_not_changed_over_the_network() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let core = open(&store);
        for name in
            ["sasl.jaas.config", "ssl.keystore.location", "log.dirs", "node.id", "confluent.x", "no.such"]
        {
            let outcome = core.alter_broker_config(Scope::Node, set(name, "1"), false);
            assert!(matches!(outcome, Err(Error::InvalidConfig(_))), "{name}");
        }
        assert!(store.meta().get(Scope::Node.meta_key()).unwrap().is_none());
    }

    #[test]
    fn a_new_advertised_address_is_told_at_once() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let core = open(&store);
        let local = "127.0.0.1:1".parse().unwrap();
        core.alter_broker_config(Scope::Node, set("advertised.listeners", "PLAINTEXT://host:7"), false)
            .unwrap();
        assert_eq!(core.advertised("PLAINTEXT", local), ("host".to_owned(), 7));
        let wrong = set("advertised.listeners", "NOBODY://host:7");
        assert!(matches!(core.alter_broker_config(Scope::Node, wrong, false), Err(Error::InvalidConfig(_))));
    }

    #[test]
    fn kept_values_read_back_and_damage_is_noticed() {
        let values = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]);
        assert_eq!(decode(encode(&values).into()), Some(values.clone()));
        let bytes = encode(&values);
        for len in 0..bytes.len() {
            assert_eq!(decode(bytes[..len].to_vec().into()), None, "{len}");
        }
    }
}
