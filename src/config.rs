//! What the broker was told: every value with its true source, checked when it is set.
//!
//! Owns: [`Config`], the broker's table of keys ([`keys`]), the readers of `server.properties` and of
//! `KAFKA_*` variables, and the plain structs ([`settings`], [`listeners`]) that are handed down in slices.
//! Invariant: a value inside a [`Config`] passed the check of its key, so reading it cannot fail.
//! Precedence: default < file < environment < command line < dynamic default < dynamic.
//! Deliberately absent: sockets, threads, globals; what a topic can be told is `topic::config`.

pub mod environment;
pub mod keys;
pub mod listeners;
pub mod properties;
pub mod report;
pub mod settings;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

pub use crate::topic::config::{Check, Effect, Kind, Refusal};
pub use keys::{KEYS, Key};
pub use listeners::{Listener, Listeners};
pub use report::Report;
pub use settings::{
    AdminSettings, AdmissionSettings, ConnectionSettings, DemandSettings, Flush, GroupSettings, Identity,
    KinesisSettings, QuotaProfile, SocketSettings, StoreSettings, TopicSettings,
};

use crate::topic::config::{self as topic_config, check, entries, parse_bool};

/// Where a value came from, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The table, or a program that moves a default (the command line listens on 9092, not on a free port).
    Default,
    /// `server.properties`.
    File,
    /// `KAFKA_*` or `KAFKA_CFG_*`.
    Environment,
    /// A flag or `-X`.
    CommandLine,
    /// AlterConfigs on all brokers (the resource with an empty name).
    DynamicDefault,
    /// AlterConfigs on this broker.
    Dynamic,
}

/// What became of a value that was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It changes what weir does.
    Applied,
    /// Known, kept, without effect; the reason.
    NoEffect(&'static str),
    /// Nobody knows this key; the nearest name that somebody knows.
    Unknown(Option<&'static str>),
}

/// Every value that was set, by key and source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    values: BTreeMap<String, BTreeMap<Source, String>>,
}

/// One key of the broker with the value in force, as DescribeConfigs shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Name.
    pub name: &'static str,
    /// Value in force; `None` is null, or hidden when `sensitive`.
    pub value: Option<String>,
    /// Type.
    pub kind: Kind,
    /// Where the value came from.
    pub source: Source,
    /// Whether it can change only with a restart.
    pub read_only: bool,
    /// Whether the value must not be shown.
    pub sensitive: bool,
    /// One line for people.
    pub doc: &'static str,
    /// The table's default; `None` is null.
    pub default: Option<&'static str>,
    /// Whether it changes anything.
    pub effect: Effect,
    /// Every source with a value, strongest first; empty texts when `sensitive`.
    pub synonyms: Vec<(Source, String)>,
}

/// Why a file could not be read as configuration.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Not a properties file.
    #[error("{}: {source}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: properties::Malformed,
    },
    /// Values that are not accepted.
    #[error("{}", lines(.0))]
    Refused(Vec<Refusal>),
}

impl Config {
    /// Sets a value. Keys that nobody knows are kept and reported, because Kafka ignores them too; only
    /// at run time (a dynamic source) they are refused.
    ///
    /// # Errors
    /// [`Refusal`]: wrong type, out of range, bad syntax, or not alterable while running.
    pub fn set(&mut self, key: &str, text: &str, source: Source) -> Result<Accepted, Refusal> {
        let (key, text) = (key.trim(), text.trim());
        let accepted = Self::judge(key, text, source)?;
        self.values.entry(key.to_owned()).or_default().insert(source, text.to_owned());
        Ok(accepted)
    }

    /// Whether `set` would accept the value, without setting it.
    ///
    /// # Errors
    /// As [`Config::set`].
    pub fn judge(key: &str, text: &str, source: Source) -> Result<Accepted, Refusal> {
        let running = source >= Source::DynamicDefault;
        let Some(row) = keys::find(key) else {
            return match keys::inert_prefix(key) {
                Some(why) => Ok(Accepted::NoEffect(why)),
                None if running => Err(Refusal::new(key, text, "unknown broker configuration")),
                None => Ok(Accepted::Unknown(report::nearest(key))),
            };
        };
        let shown = if row.kind == Kind::Password { HIDDEN } else { text };
        let refuse = |reason: String| Refusal::new(key, shown, reason);
        if running && !row.dynamic {
            return Err(refuse("cannot change while the broker runs".to_owned()));
        }
        check(row.kind, row.check, text).map_err(refuse)?;
        listeners::check_value(key, text).map_err(refuse)?;
        if let Some(why) = topic_config::unheeded(key, text) {
            return Ok(Accepted::NoEffect(why));
        }
        Ok(match row.effect {
            Effect::Applied => Accepted::Applied,
            Effect::NoEffect => Accepted::NoEffect(row.doc),
        })
    }

    /// Takes back what `source` said, so that the next weaker source counts. Returns whether it had said anything.
    pub fn unset(&mut self, key: &str, source: Source) -> bool {
        let Some(by_source) = self.values.get_mut(key) else { return false };
        let said = by_source.remove(&source).is_some();
        if by_source.is_empty() {
            self.values.remove(key);
        }
        said
    }

    /// Sets many values, going on after a refusal.
    ///
    /// # Errors
    /// Every refusal.
    pub fn set_all<K: AsRef<str>, V: AsRef<str>>(
        &mut self,
        pairs: impl IntoIterator<Item = (K, V)>,
        source: Source,
    ) -> Result<(), Vec<Refusal>> {
        let refused: Vec<_> = pairs
            .into_iter()
            .filter_map(|(key, value)| self.set(key.as_ref(), value.as_ref(), source).err())
            .collect();
        if refused.is_empty() { Ok(()) } else { Err(refused) }
    }

    /// Reads a `server.properties` file of at most [`properties::MAX_BYTES`].
    ///
    /// # Errors
    /// [`FileError`].
    pub fn read_file(&mut self, path: &Path) -> Result<(), FileError> {
        let io = |source| FileError::Io { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(io)?;
        file.take(properties::MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
        let pairs = properties::parse(&bytes)
            .map_err(|source| FileError::Syntax { path: path.to_owned(), source })?;
        self.set_all(pairs, Source::File).map_err(FileError::Refused)
    }

    /// Reads environment variables (see [`environment`]).
    ///
    /// # Errors
    /// Every refusal.
    pub fn read_environment(
        &mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), Vec<Refusal>> {
        let pairs = variables.into_iter().filter_map(|(name, value)| Some((environment::key(&name)?, value)));
        self.set_all(pairs, Source::Environment)
    }

    /// The value in force; `None` is null (or a key that nobody knows and nobody set).
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.set_value(key).map(|(_, text)| text).or_else(|| keys::find(key)?.default)
    }

    /// The value in force and its source, if anybody set it.
    #[must_use]
    pub fn set_value(&self, key: &str) -> Option<(Source, &str)> {
        self.values.get(key)?.last_key_value().map(|(&source, text)| (source, text.as_str()))
    }

    /// Where the value in force came from.
    #[must_use]
    pub fn source(&self, key: &str) -> Source {
        self.set_value(key).map_or(Source::Default, |(source, _)| source)
    }

    /// What `source` said, by key: what must be kept to say it again after a restart.
    pub fn said_by(&self, source: Source) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().filter_map(move |(key, by)| Some((key.as_str(), by.get(&source)?.as_str())))
    }

    /// Every key of the table with its value in force.
    #[must_use]
    pub fn describe(&self) -> Vec<Described> {
        keys::all().map(|row| self.describe_row(row)).collect()
    }

    /// One key with its value in force; `None` for a name that is not in the table.
    #[must_use]
    pub fn describe_key(&self, name: &str) -> Option<Described> {
        keys::find(name).map(|row| self.describe_row(row))
    }

    fn describe_row(&self, row: &'static Key) -> Described {
        let sensitive = row.kind == Kind::Password;
        let shown = |text: &str| if sensitive { String::new() } else { text.to_owned() };
        let mut synonyms: Vec<_> = self
            .values
            .get(row.name)
            .into_iter()
            .flat_map(|by| by.iter().rev().map(|(&source, text)| (source, shown(text))))
            .collect();
        let moved = synonyms.last().is_some_and(|(source, _)| *source == Source::Default);
        synonyms.extend(row.default.filter(|_| !moved).map(|text| (Source::Default, shown(text))));
        Described {
            name: row.name,
            value: self.value(row.name).filter(|_| !sensitive).map(str::to_owned),
            kind: row.kind,
            source: self.source(row.name),
            read_only: !row.dynamic,
            sensitive,
            doc: row.doc,
            default: row.default,
            effect: row.effect,
            synonyms,
        }
    }

    /// What was set, sorted by what became of it.
    #[must_use]
    pub fn report(&self) -> Report {
        Report::new(self)
    }

    /// The listeners, each with its own advertised address.
    ///
    /// # Errors
    /// [`Refusal`]: the keys contradict each other, or ask for a protocol that weir does not speak.
    pub fn listeners(&self) -> Result<Vec<Listener>, Refusal> {
        listeners::read(self)
    }

    /// The data directory that a file, the environment or `-X` asked for; the first, when `log.dirs` has several.
    #[must_use]
    pub fn data_dir(&self) -> Option<PathBuf> {
        let (_, text) = self.set_value("log.dirs").or_else(|| self.set_value("log.dir"))?;
        entries(text).next().map(PathBuf::from)
    }

    /// A value as an integer. Values were checked when they were set; null reads as `None`.
    fn integer(&self, key: &str) -> Option<i64> {
        debug_assert!(keys::find(key).is_some(), "{key} is not in the table");
        self.value(key)?.trim().parse().ok()
    }

    fn boolean(&self, key: &str) -> bool {
        debug_assert!(keys::find(key).is_some(), "{key} is not in the table");
        self.value(key).and_then(parse_bool).unwrap_or_default()
    }
}

/// One refusal per line.
fn lines(refused: &[Refusal]) -> String {
    refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Shown in place of a secret.
const HIDDEN: &str = "[hidden]";

#[cfg(test)]
mod tests;
