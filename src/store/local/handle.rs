//! An open segment file as its readers use it: the descriptor, its map and its index.
//!
//! Invariant: a reader's thread waits for the disk only in its place; bytes that are handed out mapped were in memory a
//! moment before. Deliberately absent: how many descriptors are open (`segment.rs`), batches.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::disk::{Disk, File};
use super::index::Index;
use super::map::Mapping;
use super::outline::Outline;
use super::place::{Place, in_place};
use crate::lock::{Mutex, rank};
use crate::store::{Error, Incidents, Result};

/// Maps grow in powers of two from here, so that an active segment is mapped a few times only.
const MIN_MAP_BYTES: usize = 1 << 20;
/// Read at a time of what is to be in memory.
const WARM_BYTES: usize = 128 << 10;

/// An open descriptor with what hangs on it.
pub(super) struct Handle {
    pub file: Arc<dyn File>,
    pub disk: Arc<dyn Disk>,
    pub place: Place,
    pub incidents: Arc<Incidents>,
    map: Mutex<rank::FileMap, Option<Arc<Mapping>>>,
    pub index: Mutex<rank::FileIndex, Known>,
}

/// What is known of the index of a sealed segment.
#[derive(Clone, Default)]
pub(super) enum Known {
    #[default]
    Nothing,
    Whole(Arc<Index>),
    /// Where in its file to look, and what was read there last.
    Outline(Arc<Outline>, Range<usize>, Arc<Index>),
}

impl Handle {
    /// Nothing is mapped or loaded yet.
    pub fn new(file: Arc<dyn File>, disk: Arc<dyn Disk>, place: Place, incidents: Arc<Incidents>) -> Self {
        Self { file, disk, place, incidents, map: Mutex::new(None), index: Mutex::default() }
    }

    /// Fills the front of `buf` with what is at `at`: all of it, unless the file ends before.
    pub fn read(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read_some(rest, at + done as u64)? {
                0 => break,
                read => done += read,
            }
        }
        Ok(done)
    }

    fn read_some(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        match self.file.read_cached(buf, at) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
        // Some file systems cannot tell by reading.
        if self.is_resident(at, buf.len()) {
            return self.file.read_at(buf, at);
        }
        in_place(self.place, || self.file.read_at(buf, at))
    }

    fn is_resident(&self, at: u64, len: usize) -> bool {
        let Ok(at) = usize::try_from(at) else { return false };
        self.mapping((at + len) as u64).is_some_and(|map| map.is_resident(at, len))
    }

    /// `len` bytes at `at` for a socket; `None` where the system grants no map. Fewer bytes in the file than that are an error.
    pub fn mapped(self: &Arc<Self>, at: usize, len: usize) -> io::Result<Option<Mapped>> {
        let Some(map) = self.mapping((at + len) as u64) else { return Ok(None) };
        if !map.is_resident(at, len) {
            in_place(self.place, || self.warm(at, len))?;
        }
        Ok(Some(Mapped { map, handle: self.clone(), at, len }))
    }

    /// Has the kernel bring in what is mapped. Read, not touched through the map: so a file that cannot be read says so.
    fn warm(&self, at: usize, len: usize) -> io::Result<()> {
        let mut buf = vec![0; len.min(WARM_BYTES)];
        let mut done = 0;
        while done < len {
            let some = buf.get_mut(..(len - done).min(WARM_BYTES)).unwrap_or_default();
            match self.file.read_at(some, (at + done) as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => done += read,
            }
        }
        Ok(())
    }

    /// A map that covers the first `until` bytes, if the system grants one.
    fn mapping(&self, until: u64) -> Option<Arc<Mapping>> {
        let until = usize::try_from(until).ok()?;
        let mut map = self.map.lock();
        if map.as_ref().is_none_or(|map| map.len() < until) {
            let bytes = until.max(MIN_MAP_BYTES).checked_next_power_of_two()?;
            *map = Some(Arc::new(self.file.map(bytes)?));
        }
        map.clone()
    }
}

/// Whole batches inside a mapping. Keeps the mapping and the file open, deleted or not.
#[derive(Clone)]
pub struct Mapped {
    map: Arc<Mapping>,
    handle: Arc<Handle>,
    at: usize,
    len: usize,
}

impl std::fmt::Debug for Mapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mapped").field("at", &self.at).field("len", &self.len).finish_non_exhaustive()
    }
}

impl Mapped {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The address range, for a vectored write only.
    #[must_use]
    pub fn for_socket(&self) -> &[u8] {
        self.map.range(self.at, self.len)
    }

    /// The first `bytes` of it.
    pub(in crate::store) fn first(&self, bytes: usize) -> Self {
        Self { len: bytes.min(self.len), ..self.clone() }
    }

    /// A copy through the file, not through the map.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn to_bytes(&self) -> Result<Bytes> {
        let mut buf = vec![0; self.len];
        let failed = |e| Error::Io { op: "read", path: "segment".into(), source: Arc::new(e) };
        match self.handle.read(&mut buf, self.at as u64).map_err(failed)? {
            read if read == self.len => Ok(buf.into()),
            _ => Err(failed(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::disk::RealDisk;
    use super::*;

    thread_local! {
        static WAITS: Cell<usize> = const { Cell::new(0) };
    }

    fn place(work: &mut dyn FnMut()) {
        WAITS.set(WAITS.get() + 1);
        work();
    }

    #[test]
    fn what_is_not_in_memory_is_brought_there_in_the_place_before_it_is_handed_out() {
        const BYTES: usize = 3 << 20;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, vec![7; BYTES]).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let handle = Arc::new(Handle::new(disk.open(&path).unwrap(), disk.clone(), place, Arc::default()));
        assert_eq!(
            handle.mapped(1000, BYTES - 1000).unwrap().unwrap().to_bytes().unwrap().len(),
            BYTES - 1000
        );
        assert_eq!(WAITS.get(), 0, "just written");
        handle.file.sync().unwrap();
        let file = std::fs::File::open(&path).unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let gone = !handle.is_resident(0, BYTES);
        let mapped = handle.mapped(1000, BYTES - 2000).unwrap().unwrap();
        assert!(handle.is_resident(1000, BYTES - 2000));
        // Not every file system lets go of what it holds.
        assert_eq!(WAITS.get(), usize::from(gone));
        assert!(mapped.to_bytes().unwrap().iter().all(|byte| *byte == 7));
        assert!(handle.mapped(BYTES - 10, 20).is_err(), "more than there is");
    }
}
