//! Read-only mappings of segments and the one system call without a safe wrapper.
//!
//! The only `unsafe` of the crate. Invariant: mapped bytes are handed to the kernel by address and are
//! never loaded here, because a file that somebody cuts underneath turns a load into SIGBUS, while a
//! vectored write answers EFAULT. Deliberately absent: writable mappings, msync.

#![allow(unsafe_code, reason = "the one file that may; each block says why it is sound")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use bytes::Bytes;

use super::disk;
use crate::store::{Error, Result};

/// A read-only mapping of the front of a file.
#[derive(Debug)]
pub struct Mapping(memmap2::Mmap);

impl Mapping {
    /// Maps `bytes` bytes from the front; they may lie past the present end of the file, where they must
    /// not be touched. `None` when the system refuses (limits on maps or address space).
    pub(super) fn new(file: &File, bytes: usize) -> Option<Self> {
        // SAFETY: private to this module, read-only, and only ever lent to the kernel (see the head).
        let map = unsafe { memmap2::MmapOptions::new().len(bytes).map(file) };
        map.ok().map(Self)
    }

    /// Length of the mapping.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Whole batches inside a mapping. Keeps the mapping and the file open, deleted or not.
#[derive(Clone)]
pub struct Mapped {
    pub(super) map: Arc<Mapping>,
    pub(super) file: Arc<dyn disk::File>,
    pub(super) at: usize,
    pub(super) len: usize,
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
        self.map.0.get(self.at..self.at + self.len).unwrap_or_default()
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
        match disk::read_exact(&*self.file, &mut buf, self.at as u64) {
            Ok(()) => Ok(buf.into()),
            Err(e) => Err(Error::Io { op: "read", path: "segment".into(), source: Arc::new(e) }),
        }
    }
}

/// Starts writing dirty pages of a range (`sync_file_range`, Linux); a hint, so errors mean nothing.
#[cfg(target_os = "linux")]
pub(super) fn start_writeback(file: &File, at: u64, bytes: u64) {
    let (Ok(at), Ok(bytes)) = (i64::try_from(at), i64::try_from(bytes)) else { return };
    // SAFETY: a system call on an open descriptor with plain integers.
    unsafe { libc::sync_file_range(file.as_raw_fd(), at, bytes, libc::SYNC_FILE_RANGE_WRITE) };
}

/// No such hint elsewhere.
#[cfg(not(target_os = "linux"))]
pub(super) fn start_writeback(_file: &File, _at: u64, _bytes: u64) {}
