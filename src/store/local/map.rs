//! Read-only mappings of segments and the system calls without a safe wrapper.
//!
//! The only `unsafe` of the crate. Invariant: mapped bytes are handed to the kernel by address and are
//! never loaded here, because a file that somebody cuts underneath turns a load into SIGBUS, while a
//! vectored write answers EFAULT. Deliberately absent: writable mappings, msync.

#![allow(unsafe_code, reason = "the one file that may; each block says why it is sound")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Pages asked for at a time.
#[cfg(target_os = "linux")]
const PAGES: usize = 1024;

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

    /// An address range, for a vectored write only; empty where it is not in the mapping.
    pub(super) fn range(&self, at: usize, len: usize) -> &[u8] {
        self.0.get(at..at.saturating_add(len)).unwrap_or_default()
    }

    /// Whether the kernel has all of these bytes in memory.
    #[cfg(target_os = "linux")]
    pub(super) fn is_resident(&self, at: usize, len: usize) -> bool {
        // SAFETY: asks the C library for a number.
        let Ok(page_bytes @ 1..) = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }) else {
            return false;
        };
        let (mut from, until) = (at - at % page_bytes, at.saturating_add(len));
        while from < until {
            let some = self.range(from, (until - from).min(PAGES * page_bytes));
            let mut pages = [0_u8; PAGES];
            let pages = pages.get_mut(..some.len().div_ceil(page_bytes)).unwrap_or_default();
            // SAFETY: the range lies in a living mapping and begins with a page (the mapping does), `pages` has a byte for
            // each page of it, and nothing is loaded from it.
            let known =
                unsafe { libc::mincore(some.as_ptr().cast_mut().cast(), some.len(), pages.as_mut_ptr()) };
            if some.is_empty() || known != 0 || pages.iter().any(|page| page & 1 == 0) {
                return false;
            }
            from += some.len();
        }
        true
    }

    /// Nobody can tell: they are taken to be.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn is_resident(&self, _at: usize, _len: usize) -> bool {
        true
    }
}

/// Reads only what is in memory (`preadv2`, Linux).
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] where the disk would have to be waited for, or where nobody can tell.
#[cfg(target_os = "linux")]
pub(super) fn read_cached(file: &File, buf: &mut [u8], at: u64) -> io::Result<usize> {
    let at = libc::off64_t::try_from(at).map_err(io::Error::other)?;
    let part = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: a system call on an open descriptor, with one part that names a buffer of ours.
    let read = unsafe { libc::preadv64v2(file.as_raw_fd(), &raw const part, 1, at, libc::RWF_NOWAIT) };
    usize::try_from(read).map_err(|_| match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => io::ErrorKind::WouldBlock.into(),
        error if error.raw_os_error() == Some(libc::ENOSYS) => io::ErrorKind::WouldBlock.into(),
        error => error,
    })
}

/// No such call elsewhere.
#[cfg(not(target_os = "linux"))]
pub(super) fn read_cached(_file: &File, _buf: &mut [u8], _at: u64) -> io::Result<usize> {
    Err(io::ErrorKind::WouldBlock.into())
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
