//! Small state in one redb file.
//!
//! Owns: the file `meta` and its one table of key -> version, value. Every write commits with redb's
//! immediate durability (fdatasync inside). Deliberately absent: caches of our own beside redb's small one.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use crate::store::{Error, Meta, Put, Result, Versioned};

const TABLE: TableDefinition<'static, &str, (u64, &[u8])> = TableDefinition::new("state");
const VERSIONS: TableDefinition<'static, (), u64> = TableDefinition::new("versions");
/// redb would take 1 GiB; small state needs little, and idle brokers should be small.
const CACHE_BYTES: usize = 1 << 20;

/// Small state of a local store.
pub(super) struct RedbMeta {
    path: PathBuf,
    database: Database,
}

impl RedbMeta {
    /// Opens or creates the file; without `syncs` a write is in the page cache when it returns.
    pub fn open(path: &Path, syncs: bool) -> Result<Self> {
        let io = |e: std::io::Error| failed("open", path, redb::Error::Io(e));
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        let mut builder = Database::builder();
        let builder = builder.set_cache_size(CACHE_BYTES);
        let database = match FileBackend::new(file) {
            Ok(file) if !syncs => builder.create_with_backend(Unsynced(file)),
            file => file.and_then(|file| builder.create_with_backend(file)),
        };
        let database = database.map_err(|e| failed("open", path, e))?;
        Ok(Self { path: path.to_owned(), database })
    }

    fn io<E: Into<redb::Error>>(&self, op: &'static str) -> impl Fn(E) -> Error {
        let path = self.path.clone();
        move |e| failed(op, &path, e)
    }

    fn write(&self, key: &str, expected: Option<u64>, value: Option<&[u8]>) -> Result<Put> {
        let write = self.database.begin_write().map_err(self.io("begin"))?;
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
    }
}

impl Meta for RedbMeta {
    fn get(&self, key: &str) -> Result<Option<Versioned>> {
        let read = self.database.begin_read().map_err(self.io("begin"))?;
        let table = match read.open_table(TABLE) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            table => table.map_err(self.io("open table of"))?,
        };
        let found = table.get(key).map_err(self.io("read"))?;
        Ok(found.map(|v| versioned(v.value())))
    }

    fn put_if(&self, key: &str, value: &[u8], expected: Option<u64>) -> Result<Put> {
        self.write(key, expected, Some(value))
    }

    fn delete_if(&self, key: &str, expected: u64) -> Result<Put> {
        self.write(key, Some(expected), None)
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>> {
        let read = self.database.begin_read().map_err(self.io("begin"))?;
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
    }
}

/// A file whose syncs are left to the kernel.
#[derive(Debug)]
struct Unsynced(FileBackend);

impl StorageBackend for Unsynced {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}

fn versioned((version, value): (u64, &[u8])) -> Versioned {
    Versioned { version, value: Bytes::copy_from_slice(value) }
}

fn failed(op: &'static str, path: &Path, error: impl Into<redb::Error>) -> Error {
    let source = match error.into() {
        redb::Error::Io(e) => e,
        other => std::io::Error::other(other),
    };
    Error::Io { op, path: path.to_owned(), source: Arc::new(source) }
}
