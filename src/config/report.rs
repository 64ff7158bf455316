//! What became of everything that was said: applied, without effect, unknown.
//!
//! Owns: [`Report`] and the nearest known name. `weir config check FILE` prints it, and so does a start.
//! Deliberately absent: values of secrets.

use std::fmt;

use super::{Accepted, Config, HIDDEN, Kind, Source, keys};
use crate::topic::config as topic;

/// One value that somebody set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Key as it was given.
    pub key: String,
    /// Value in force, hidden for a secret.
    pub value: String,
    /// Who said so.
    pub source: Source,
    /// Why it has no effect, or which name may have been meant; empty otherwise.
    pub note: String,
}

/// Every value that was set, sorted by what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Changes what weir does.
    pub applied: Vec<Line>,
    /// Known and left alone.
    pub no_effect: Vec<Line>,
    /// Known to nobody.
    pub unknown: Vec<Line>,
}

impl Report {
    pub(super) fn new(config: &Config) -> Self {
        let mut report = Self::default();
        for key in config.values.keys() {
            let Some((source, text)) = config.set_value(key) else { continue };
            let secret =
                keys::find(key).map_or_else(|| key.contains("password"), |k| k.kind == Kind::Password);
            let value = if secret || key.ends_with(".config") { HIDDEN.to_owned() } else { text.to_owned() };
            let (list, note) = match Config::judge(key, text, source) {
                Ok(Accepted::Applied) => (&mut report.applied, several_dirs(key, text)),
                Ok(Accepted::NoEffect(why)) => (&mut report.no_effect, why.to_owned()),
                Ok(Accepted::Unknown(nearest)) => {
                    (&mut report.unknown, nearest.map(|n| format!("did you mean {n}?")).unwrap_or_default())
                }
                Err(refusal) => (&mut report.unknown, refusal.reason),
            };
            list.push(Line { key: key.clone(), value, source, note });
        }
        report
    }

    /// Whether nothing was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.applied.is_empty() && self.no_effect.is_empty() && self.unknown.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (title, list) in
            [("applied", &self.applied), ("no effect", &self.no_effect), ("unknown", &self.unknown)]
        {
            for Line { key, value, source, note } in list {
                let gap = if note.is_empty() { "" } else { "  # " };
                writeln!(f, "{title:<9}  {source:<12}  {key}={value}{gap}{note}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
            Self::CommandLine => "command line",
            Self::DynamicDefault => "dynamic default",
            Self::Dynamic => "dynamic",
        })
    }
}

/// The known name that is nearest to an unknown one: the broker key that sets a topic key's default when a
/// topic key was given, else the one at the smallest edit distance if that is small.
#[must_use]
pub fn nearest(name: &str) -> Option<&'static str> {
    if name.len() > MAX_NAME_BYTES {
        return None;
    }
    if let Some(key) = topic::find(name).and_then(|key| key.broker_keys.first()) {
        return Some(key.0);
    }
    let limit = (name.len() / 4).clamp(1, 4);
    keys::all()
        .filter(|key| key.name.len().abs_diff(name.len()) <= limit)
        .map(|key| (distance(name, key.name), key.name))
        .filter(|&(far, _)| far <= limit)
        .min()
        .map(|(_, name)| name)
}

/// Levenshtein distance in bytes, one row at a time.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut left = i + 1;
        let mut corner = i;
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let best = (corner + usize::from(x != y)).min(*cell + 1).min(left + 1);
            corner = *cell;
            *cell = best;
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

fn several_dirs(key: &str, text: &str) -> String {
    let several = matches!(key, "log.dirs" | "log.dir") && topic::entries(text).nth(1).is_some();
    if several { "only the first directory is used".to_owned() } else { String::new() }
}

const MAX_NAME_BYTES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_and_nothing_far_away() {
        assert_eq!(nearest("num.partition"), Some("num.partitions"));
        assert_eq!(nearest("auto.create.topic.enable"), Some("auto.create.topics.enable"));
        assert_eq!(nearest("retention.ms"), Some("log.retention.ms"));
        assert_eq!(nearest("something.else.entirely"), None);
        assert_eq!(nearest(&"x".repeat(1000)), None);
    }

    #[test]
    fn distance_counts_inserts_deletes_and_changes() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("flush", "flush"), 0);
    }

    #[test]
    fn a_report_sorts_by_effect_and_hides_secrets() {
        let mut config = Config::default();
        for (key, value) in [
            ("num.partitions", "4"),
            ("zookeeper.connect", "z:2181"),
            ("num.partition", "4"),
            ("ssl.key.password", "hunter2"),
            ("listener.name.secure.plain.sasl.jaas.config", "hunter2"),
        ] {
            config.set(key, value, Source::File).unwrap();
        }
        let report = config.report();
        assert_eq!((report.applied.len(), report.no_effect.len(), report.unknown.len()), (1, 3, 1));
        let text = report.to_string();
        assert!(
            text.contains("unknown    file          num.partition=4  # did you mean num.partitions?"),
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
    }
}
