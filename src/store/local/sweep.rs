//! Finds what no topic needs: what deletions of earlier lives left behind, and what nobody can explain.
//!
//! Invariant: only what a name or the caller's record proves to be deleted is removed; the rest is set aside by rename and
//! said. Deliberately absent: topics' names, the list of topics (it is passed in).

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use super::disk::Entry;
use super::sync::Job;
use super::{Shared, failed, locked};
use crate::store::{Kind, LogId, Result};

/// What exists, and what is known to be deleted.
pub(super) struct Wanted {
    pub topics: HashMap<Uuid, i32>,
    pub deleted: HashSet<Uuid>,
}

impl Shared {
    /// Looks at every directory below `topics`, once in a life.
    pub(super) fn sweep(self: &Arc<Self>, wanted: &Wanted) -> Result<()> {
        let swept = self.sweep_topics(wanted);
        locked(&self.past).opened = None;
        swept
    }

    /// Whether a log was opened in this life: asked after its directory was listed, this tells those that are newer than
    /// the list of topics.
    fn is_opened(&self, is: impl Fn(&LogId) -> bool) -> bool {
        locked(&self.past).opened.iter().flatten().any(is)
    }

    fn sweep_topics(self: &Arc<Self>, wanted: &Wanted) -> Result<()> {
        let (disk, topics) = (&self.files.disk, self.dir.join("topics"));
        for topic in disk.list(&topics).map_err(failed("list", &topics))? {
            if self.tidier.is_stopped() {
                return Ok(());
            }
            let dir = topics.join(&topic.name);
            let known = topic.name.split('.').next().and_then(|name| Uuid::parse_str(name).ok());
            let Some(id) = known.filter(|_| topic.is_dir) else {
                self.tell_foreign(&dir);
                continue;
            };
            if wanted.deleted.contains(&id) {
                self.tidier.submit(Job::RemoveDirs(disk.clone(), dir));
            } else if let Some(count) = wanted.topics.get(&id) {
                self.sweep_topic(id, &dir, *count)?;
            } else if !self.is_opened(|log| log.topic == id) && !self.remove_deleted(&dir)? {
                self.quarantine_topic(id, &dir)?;
            }
        }
        Ok(())
    }

    /// What is left of the deletions of single logs and segments in a topic that exists.
    fn sweep_topic(&self, topic: Uuid, dir: &Path, count: i32) -> Result<()> {
        let disk = &self.files.disk;
        for entry in disk.list(dir).map_err(failed("list", dir))? {
            let path = dir.join(&entry.name);
            let partition = entry.name.parse::<i32>().ok().filter(|n| entry.name == n.to_string());
            match partition.filter(|_| entry.is_dir) {
                Some(partition) if (0..count).contains(&partition) => {
                    let files = disk.list(&path).map_err(failed("list", &path))?;
                    for name in left_by_trims(&files) {
                        self.tidier.submit(Job::RemoveFile(disk.clone(), path.join(name)));
                    }
                }
                Some(partition) if self.is_opened(|log| *log == LogId { topic, partition }) => {}
                Some(partition) => self.quarantine(LogId { topic, partition }, &path)?,
                None if is_deleted(&entry.name) && entry.is_dir => {
                    self.tidier.submit(Job::RemoveDirs(disk.clone(), path));
                }
                None => self.tell_foreign(&path),
            }
        }
        Ok(())
    }

    /// Removes a topic's directory that holds nothing but deleted logs; false when there is more.
    fn remove_deleted(&self, dir: &Path) -> Result<bool> {
        let disk = &self.files.disk;
        let entries = disk.list(dir).map_err(failed("list", dir))?;
        let all = entries.iter().all(|entry| entry.is_dir && is_deleted(&entry.name));
        if all {
            if entries.is_empty() {
                drop(disk.remove_empty_dir(dir));
            }
            for entry in entries {
                self.tidier.submit(Job::RemoveDirs(disk.clone(), dir.join(entry.name)));
            }
        }
        Ok(all)
    }

    fn tell_foreign(&self, path: &Path) {
        let text = format_args!("{}: no log's directory, left alone", path.display());
        self.incidents.note(Kind::Foreign, &text);
    }

    fn quarantine_topic(&self, id: Uuid, dir: &Path) -> Result<()> {
        let path = self.set_aside(dir, &format!("{id}.topic"))?;
        let text = format_args!("no topic is known for {}: it is kept as {}", dir.display(), path.display());
        self.incidents.raise(Kind::Quarantined, &path.to_string_lossy(), &text);
        Ok(())
    }

    /// Those of `deleted` of which nothing is left on the disk.
    pub(super) fn gone(&self, deleted: &HashSet<Uuid>) -> Result<Vec<Uuid>> {
        if deleted.is_empty() {
            return Ok(Vec::new());
        }
        let (disk, topics) = (&self.files.disk, self.dir.join("topics"));
        let entries = disk.list(&topics).map_err(failed("list", &topics))?;
        let there: HashSet<Uuid> =
            entries.iter().filter_map(|entry| Uuid::parse_str(&entry.name).ok()).collect();
        if !entries.is_empty() {
            disk.sync_dir(&topics).map_err(failed("sync", &topics))?;
        }
        Ok(deleted.iter().filter(|id| !there.contains(id)).copied().collect())
    }

    /// Every log that has a directory.
    pub(super) fn walk_topics(&self) -> Result<Vec<LogId>> {
        let (disk, topics) = (&*self.files.disk, self.dir.join("topics"));
        let mut ids = Vec::new();
        for entry in disk.list(&topics).map_err(failed("list", &topics))? {
            let Some(topic) = Uuid::parse_str(&entry.name).ok().filter(|_| entry.is_dir) else { continue };
            let dir = topics.join(&entry.name);
            let logs = disk.list(&dir).map_err(failed("list", &dir))?;
            ids.extend(logs.iter().filter(|entry| entry.is_dir).filter_map(|entry| {
                let partition = entry.name.parse::<i32>().ok().filter(|n| entry.name == n.to_string())?;
                Some(LogId { topic, partition })
            }));
        }
        Ok(ids)
    }
}

/// Renamed segments, and indexes of segments before the first that is there.
fn left_by_trims(files: &[Entry]) -> impl Iterator<Item = &str> {
    let segments = files.iter().filter_map(|file| file.name.strip_suffix(".log"));
    let first = segments.min();
    files.iter().filter(|file| file.is_file).map(|file| file.name.as_str()).filter(move |name| {
        let trimmed = |base: &str| first.is_none_or(|first| base < first);
        name.ends_with(".deleted") || name.strip_suffix(".index").is_some_and(trimmed)
    })
}

/// The name that a log gets when it is deleted.
fn is_deleted(name: &str) -> bool {
    name.contains(".deleted-")
}
