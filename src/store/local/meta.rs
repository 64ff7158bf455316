//! Small state in one redb file.
//!
//! Owns: the file `meta` and its one table of key -> version, value. Every write commits with redb's
//! immediate durability (fdatasync inside). Invariant: after a failed sync nothing is written again (redb
//! refuses everything after an error); a write that only found no space ends that database, not the file:
//! it is opened anew, which repairs it. Deliberately absent: caches of our own beside redb's small one.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use super::locked;
use crate::lock::{Mutex, rank};
use crate::store::{Error, Meta, Put, Result, Versioned};

const TABLE: TableDefinition<'static, &str, (u64, &[u8])> = TableDefinition::new("state");
const VERSIONS: TableDefinition<'static, (), u64> = TableDefinition::new("versions");
/// redb would take 1 GiB; small state needs little, and idle brokers should be small.
const CACHE_BYTES: usize = 1 << 20;

/// Small state of a local store.
pub(super) struct RedbMeta {
    path: PathBuf,
    syncs: bool,
    opened: Mutex<rank::MetaDatabase, Option<Opened>>,
}

struct Opened {
    database: Database,
    health: Arc<Health>,
}

impl RedbMeta {
    /// Opens or creates the file; without `syncs` a write is in the page cache when it returns.
    pub fn open(path: &Path, syncs: bool) -> Result<Self> {
        let opened = Mutex::new(Some(Opened::open(path, syncs)?));
        Ok(Self { path: path.to_owned(), syncs, opened })
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
    fn open(path: &Path, syncs: bool) -> Result<Self> {
        let io = |e: io::Error| failed("open", path, redb::Error::Io(e));
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        let health = Arc::new(Health::default());
        let mut builder = Database::builder();
        let builder = builder.set_cache_size(CACHE_BYTES);
        let database = FileBackend::new(file)
            .and_then(|file| builder.create_with_backend(Watched { file, syncs, health: health.clone() }))
            .map_err(|e| failed("open", path, e))?;
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

impl Meta for RedbMeta {
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
        let outcome = self.write(key, expected, Some(value))?;
        self.settled(key, expected, outcome)
    }

    fn delete_if(&self, key: &str, expected: u64) -> Result<Put> {
        let outcome = self.write(key, Some(expected), None)?;
        self.settled(key, Some(expected), outcome)
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

fn versioned((version, value): (u64, &[u8])) -> Versioned {
    Versioned { version, value: Bytes::copy_from_slice(value) }
}

fn failed(op: &'static str, path: &Path, error: impl Into<redb::Error>) -> Error {
    super::failed(op, path)(match error.into() {
        redb::Error::Io(e) => e,
        other => io::Error::other(other),
    })
}
