//! Small state in one redb file.
//!
//! Owns: the file `meta` and its one table of key -> version, value. Every write commits with redb's
//! immediate durability (fdatasync inside). Invariant: after a failed sync nothing is written again (redb
//! refuses everything after an error); a write that only found no space ends that database, not the file:
//! it is opened anew, which repairs it. A file that is gone, empty or damaged is never taken for a new one where there was
//! one before: it is restored from its copy, or the store does not open. Deliberately absent: caches of our own beside
//! redb's small one.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use redb::backends::FileBackend;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, StorageError, TableDefinition,
};

use super::copy::{Copy, Entries, Said};
use super::locked;
use crate::lock::{Mutex, rank};
use crate::store::{Error, Incidents, Kind, Meta, Put, Result, Versioned};

const TABLE: TableDefinition<'static, &str, (u64, &[u8])> = TableDefinition::new("state");
const VERSIONS: TableDefinition<'static, (), u64> = TableDefinition::new("versions");
/// redb would take 1 GiB; small state needs little, and idle brokers should be small.
const CACHE_BYTES: usize = 1 << 20;

/// The name of the thread on which a file is checked.
const CHECK_THREAD: &str = "weir-check";
/// More changes than anybody loses with the file.
const LEAP: u64 = 1 << 32;

/// Small state of a local store.
pub(super) struct RedbMeta {
    path: PathBuf,
    syncs: bool,
    opened: Mutex<rank::MetaDatabase, Option<Opened>>,
    /// One change at a time: the copy has them in the order in which they were made.
    order: Mutex<rank::MetaOrder, ()>,
    copy: Copy,
}

/// What a store knows when it asks for its small state.
pub(super) struct Before<'a> {
    /// An earlier life left logs here.
    pub has_logs: bool,
    /// Where what cannot be used is kept.
    pub quarantine: &'a Path,
    pub incidents: &'a Incidents,
}

struct Opened {
    database: Database,
    health: Arc<Health>,
}

impl RedbMeta {
    /// Opens the file, restores it, or creates the first; without `syncs` a write is in the page cache when it returns.
    ///
    /// # Errors
    /// [`Error::Refused`] when small state is gone and there is no copy to restore it from; [`Error::Io`].
    pub fn open(path: &Path, syncs: bool, before: &Before<'_>) -> Result<Self> {
        let copy = Copy::at(path.with_extension("copy"));
        let said = copy.read().map_err(super::failed("read", copy.path()))?;
        let copied = fs::metadata(copy.path()).is_ok_and(|found| found.len() > 0);
        if copied && said.as_ref().is_none_or(|said| !said.whole) {
            let text =
                format_args!("{}: does not check out to its end and is made anew", copy.path().display());
            before.incidents.note(Kind::FileDamaged, &text);
        }
        let bytes = match fs::metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            found => Some(found.map_err(super::failed("stat", path))?.len()),
        };
        let is_first = said.as_ref().is_none_or(|said| said.entries.is_empty()) && !before.has_logs;
        let mut harm = match bytes {
            None | Some(0) if is_first => None,
            None => Some("is missing"),
            Some(0) => Some("is empty"),
            Some(_) => (!Opened::check(path, syncs, before.incidents)?).then_some("is damaged"),
        };
        let mut meta =
            Self { path: path.to_owned(), syncs, opened: Mutex::default(), order: Mutex::default(), copy };
        if harm.is_none() {
            if meta.follow_from(said.as_ref(), before.incidents)? {
                return Ok(meta);
            }
            // Closed, because it is locked.
            meta.opened = Mutex::default();
            harm = Some("lacks changes that its copy has");
        }
        let harm = harm.unwrap_or_default();
        let Some(kept) = said.map(|said| said.entries).filter(|kept| !kept.is_empty()) else {
            return Err(Error::Refused(format!(
                "{} {harm}, and {} cannot replace it: topics, configuration and producer ids are in there. Put the file back \
                 from a backup of the same data directory; to start without them, move the whole data directory away. \
                 Nothing was touched.",
                path.display(),
                meta.copy.path().display()
            )));
        };
        if bytes.is_some() {
            set_aside(path, before.quarantine)?;
        }
        meta.restore(&kept)?;
        let text = format_args!(
            "{} {harm}: restored from {}, {} keys; a change that a power cut took from the copy is gone",
            path.display(),
            meta.copy.path().display(),
            kept.len()
        );
        before.incidents.note(Kind::StateFailed, &text);
        Ok(meta)
    }

    /// Has the copy follow a database that is as it was left; false when the copy has changes that it lacks.
    fn follow_from(&self, said: Option<&Said>, incidents: &Incidents) -> Result<bool> {
        let (entries, last) = (self.list("")?, self.last_version()?);
        // Changes are appended in the order in which they were made.
        if let Some(kept) = said.filter(|said| said.whole).map(|said| &said.entries) {
            let newest = kept.values().map(|kept| kept.version).max().unwrap_or(0);
            let deleted =
                |(key, found): &(String, Versioned)| found.version < newest && !kept.contains_key(key);
            if newest > last || entries.iter().any(deleted) {
                return Ok(false);
            }
        }
        let same = |said: &Said| said.whole && said.entries.clone().into_iter().eq(entries.iter().cloned());
        // A full disk costs the copy, not the start.
        let followed = if said.is_some_and(same) { self.copy.keep() } else { self.copy.make(&entries) };
        if let Err(error) = followed {
            let text = format_args!("{}: {error}", self.copy.path().display());
            incidents.note(Kind::UpkeepFailed, &text);
        }
        Ok(true)
    }

    fn last_version(&self) -> Result<u64> {
        self.with(|database| {
            let read = database.begin_read().map_err(self.io("begin"))?;
            let table = match read.open_table(VERSIONS) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(0),
                table => table.map_err(self.io("open table of"))?,
            };
            let last = table.get(()).map_err(self.io("read"))?;
            Ok(last.map_or(0, |last| last.value()))
        })
    }

    /// Makes the file anew from its copy: whole, or not there.
    fn restore(&self, kept: &Entries) -> Result<()> {
        let temporary = self.path.with_extension("restored");
        match fs::remove_file(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(super::failed("remove", &temporary)(e));
            }
            _ => {}
        }
        let opened = Opened::open(&temporary, true)?;
        let write = opened.database.begin_write().map_err(self.io("begin"))?;
        {
            let mut table = write.open_table(TABLE).map_err(self.io("open table of"))?;
            for (key, kept) in kept {
                table.insert(key.as_str(), (kept.version, &kept.value[..])).map_err(self.io("write"))?;
            }
            // Keys that are gone may have had larger ones.
            let last = kept.values().map(|kept| kept.version).max().unwrap_or(0) + LEAP;
            let mut versions = write.open_table(VERSIONS).map_err(self.io("open table of"))?;
            versions.insert((), last).map_err(self.io("write"))?;
        }
        write.commit().map_err(self.io("write"))?;
        drop(opened);
        fs::rename(&temporary, &self.path).map_err(super::failed("rename", &temporary))?;
        if let Some(dir) = self.path.parent() {
            super::disk::Disk::sync_dir(&super::disk::RealDisk, dir).map_err(super::failed("sync", dir))?;
        }
        self.copy.keep().map_err(super::failed("open", self.copy.path()))
    }

    /// Has the copy follow a change that redb has.
    fn follow(&self, key: &str, kept: Option<&Versioned>) {
        if self.copy.append(key, kept) {
            return;
        }
        let made = self
            .list("")
            .and_then(|entries| self.copy.make(&entries).map_err(super::failed("write", self.copy.path())));
        if let Err(error) = made {
            tracing::debug!(%error, "the copy of small state is behind; the next change tries again");
        }
    }

    /// Works on the database; on a new one when the last ran out of space.
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        let mut opened = locked(&self.opened);
        // Dropped before the file is opened again: it is locked.
        let usable = opened.take().filter(|opened| !opened.health.only_ran_out_of_space());
        let usable = usable.map_or_else(|| Opened::open(&self.path, self.syncs), Ok)?;
        work(&opened.insert(usable).database)
    }

    fn io<E: Into<redb::Error>>(&self, op: &'static str) -> impl Fn(E) -> Error {
        let path = self.path.clone();
        move |e| failed(op, &path, e)
    }

    fn write(&self, key: &str, expected: Option<u64>, value: Option<&[u8]>) -> Result<Put> {
        self.with(|database| {
            let write = database.begin_write().map_err(self.io("begin"))?;
            let version = {
                let mut table = write.open_table(TABLE).map_err(self.io("open table of"))?;
                let found = table.get(key).map_err(self.io("read"))?.map(|v| v.value().0);
                if found != expected {
                    return Ok(Put::Lost);
                }
                match value {
                    Some(value) => {
                        let mut versions = write.open_table(VERSIONS).map_err(self.io("open table of"))?;
                        let last = versions.get(()).map_err(self.io("read"))?.map_or(0, |v| v.value());
                        versions.insert((), last + 1).map_err(self.io("write"))?;
                        table.insert(key, (last + 1, value)).map_err(self.io("write"))?;
                        last + 1
                    }
                    None => {
                        table.remove(key).map_err(self.io("write"))?;
                        0
                    }
                }
            };
            // A failed commit leaves open whether it reached the disk.
            Ok(write.commit().map_or(Put::Unknown, |()| Put::Won(version)))
        })
    }

    /// What became of a write: where only space was missing, the file opened anew tells.
    fn settled(&self, key: &str, expected: Option<u64>, outcome: Put) -> Result<Put> {
        let full = || locked(&self.opened).as_ref().is_some_and(|o| o.health.only_ran_out_of_space());
        if outcome != Put::Unknown || !full() {
            return Ok(outcome);
        }
        match self.get(key)?.map(|found| found.version) {
            found if found == expected => Err(Error::Full { path: self.path.clone() }),
            found => Ok(Put::Won(found.unwrap_or(0))),
        }
    }
}

impl Opened {
    /// Whether the file is a database all of whose pages check out. redb reads pages without looking at their checksums.
    fn check(path: &Path, syncs: bool, incidents: &Incidents) -> Result<bool> {
        let check = || Self::open_raw(path, syncs)?.database.check_integrity();
        // On some damage redb panics. By the thread's name the binary knows that this is told as damage.
        let checked = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name(CHECK_THREAD.to_owned());
            thread.spawn_scoped(scope, check).map(std::thread::ScopedJoinHandle::join)
        });
        match checked.map_err(super::failed("check", path))? {
            Ok(Ok(whole)) => {
                if !whole {
                    let text = format_args!("{}: repaired by its last whole commit", path.display());
                    incidents.note(Kind::FileDamaged, &text);
                }
                Ok(true)
            }
            Err(_) => Ok(false),
            Ok(Err(error)) => match error {
                DatabaseError::Storage(StorageError::Corrupted(_)) | DatabaseError::UpgradeRequired(_) => {
                    Ok(false)
                }
                DatabaseError::Storage(StorageError::Io(e))
                    if matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
                {
                    Ok(false)
                }
                error => Err(failed("open", path, error)),
            },
        }
    }

    fn open(path: &Path, syncs: bool) -> Result<Self> {
        Self::open_raw(path, syncs).map_err(|error| failed("open", path, error))
    }

    fn open_raw(path: &Path, syncs: bool) -> std::result::Result<Self, DatabaseError> {
        let io = |e: io::Error| DatabaseError::Storage(StorageError::Io(e));
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        let health = Arc::new(Health::default());
        let mut builder = Database::builder();
        let builder = builder.set_cache_size(CACHE_BYTES);
        let database = FileBackend::new(file)
            .and_then(|file| builder.create_with_backend(Watched { file, syncs, health: health.clone() }))?;
        Ok(Self { database, health })
    }
}

/// What has gone wrong with a database's file.
#[derive(Debug, Default)]
struct Health(AtomicU8);

const NO_SPACE: u8 = 1;
const BROKEN: u8 = 2;

impl Health {
    fn note<T>(&self, sync: bool, outcome: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &outcome {
            let full = !sync && super::is_full(error);
            self.0.fetch_or(if full { NO_SPACE } else { BROKEN }, Ordering::SeqCst);
        }
        outcome
    }

    fn only_ran_out_of_space(&self) -> bool {
        self.0.load(Ordering::SeqCst) == NO_SPACE
    }
}

impl RedbMeta {
    fn delete_keys(&self, keys: &[(String, u64)]) -> Result<Vec<String>> {
        self.with(|database| {
            let write = database.begin_write().map_err(self.io("begin"))?;
            let mut deleted = Vec::new();
            {
                let mut table = write.open_table(TABLE).map_err(self.io("open table of"))?;
                for (key, version) in keys {
                    let found = table.get(key.as_str()).map_err(self.io("read"))?.map(|v| v.value().0);
                    if found == Some(*version) {
                        table.remove(key.as_str()).map_err(self.io("write"))?;
                        deleted.push(key.clone());
                    }
                }
            }
            write.commit().map_err(self.io("write"))?;
            Ok(deleted)
        })
    }
}

impl Meta for RedbMeta {
    fn delete_all(&self, keys: &[(String, u64)]) -> Result<()> {
        let _one = locked(&self.order);
        self.delete_keys(keys)?.iter().for_each(|key| self.follow(key, None));
        Ok(())
    }

    fn get(&self, key: &str) -> Result<Option<Versioned>> {
        self.with(|database| {
            let read = database.begin_read().map_err(self.io("begin"))?;
            let table = match read.open_table(TABLE) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                table => table.map_err(self.io("open table of"))?,
            };
            let found = table.get(key).map_err(self.io("read"))?;
            Ok(found.map(|v| versioned(v.value())))
        })
    }

    fn put_if(&self, key: &str, value: &[u8], expected: Option<u64>) -> Result<Put> {
        let _one = locked(&self.order);
        let outcome = self.write(key, expected, Some(value))?;
        let put = self.settled(key, expected, outcome)?;
        if let Put::Won(version) = put {
            self.follow(key, Some(&Versioned { version, value: Bytes::copy_from_slice(value) }));
        }
        Ok(put)
    }

    fn delete_if(&self, key: &str, expected: u64) -> Result<Put> {
        let _one = locked(&self.order);
        let outcome = self.write(key, Some(expected), None)?;
        let put = self.settled(key, Some(expected), outcome)?;
        if matches!(put, Put::Won(_)) {
            self.follow(key, None);
        }
        Ok(put)
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>> {
        self.with(|database| {
            let read = database.begin_read().map_err(self.io("begin"))?;
            let table = match read.open_table(TABLE) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                table => table.map_err(self.io("open table of"))?,
            };
            let mut out = Vec::new();
            for entry in table.range(prefix..).map_err(self.io("read"))? {
                let (key, value) = entry.map_err(self.io("read"))?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                out.push((key.value().to_owned(), versioned(value.value())));
            }
            Ok(out)
        })
    }
}

/// The file under a database: remembers how it failed; without `syncs` those are left to the kernel.
#[derive(Debug)]
struct Watched {
    file: FileBackend,
    syncs: bool,
    health: Arc<Health>,
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.health.note(false, self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.syncs { self.health.note(true, self.file.sync_data()) } else { Ok(()) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.health.note(false, self.file.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

/// Moves a file that cannot be used out of the way.
fn set_aside(path: &Path, quarantine: &Path) -> Result<()> {
    fs::create_dir_all(quarantine).map_err(super::failed("create", quarantine))?;
    let free = |n: &u32| !quarantine.join(format!("meta.{n}")).exists();
    let to = quarantine.join(format!("meta.{}", (0..u32::MAX).find(free).unwrap_or(u32::MAX)));
    fs::rename(path, &to).map_err(super::failed("rename", path))
}

fn versioned((version, value): (u64, &[u8])) -> Versioned {
    Versioned { version, value: Bytes::copy_from_slice(value) }
}

fn failed(op: &'static str, path: &Path, error: impl Into<redb::Error>) -> Error {
    super::failed(op, path)(match error.into() {
        redb::Error::Io(e) => e,
        other => io::Error::other(other),
    })
}
