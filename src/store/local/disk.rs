//! The seam below the local engine: every file operation it makes.
//!
//! Owns: [`Disk`] and [`File`], and the real ones. A second disk, which loses unsynced bytes, tears writes
//! and fails the n-th call, lives with the crash tests. Deliberately absent: retries, policies, logging.

use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Read, Seek, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::FallocateFlags;

use super::map::{self, Mapping};
use crate::lock::{Waits, about_to_wait};
use crate::store::Capacity;

/// What holding the data directory means; dropping it releases the lock.
pub type Guard = Box<dyn std::any::Any + Send + Sync>;

/// Something in a directory; symbolic links and other oddities are neither file nor directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name without the directory; names that are not UTF-8 are listed with replacement characters.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Whether it is a plain file.
    pub is_file: bool,
    /// Size of a file in bytes.
    pub bytes: u64,
}

/// Operations on names. Nothing is durable before [`Disk::sync_dir`] of the directory that holds the name.
pub trait Disk: Send + Sync {
    /// Creates a directory and its parents.
    ///
    /// # Errors
    /// The system's.
    fn create_dirs(&self, dir: &Path) -> io::Result<()>;
    /// Creates or empties a file for reading and writing.
    ///
    /// # Errors
    /// The system's.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Creates a file for reading and writing that must not be there yet.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::AlreadyExists`].
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens an existing file for reading and writing; never through a symbolic link.
    ///
    /// # Errors
    /// The system's.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens a directory, to make durable what is created, renamed and removed in it.
    ///
    /// # Errors
    /// The system's; nothing was asked of the disk yet.
    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn Directory>>;
    /// Makes creations, renames and removals in `dir` durable.
    ///
    /// # Errors
    /// The system's.
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.open_dir(dir)?.sync()
    }
    /// Renames atomically.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// The system's.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with all that is in it.
    ///
    /// # Errors
    /// The system's.
    fn remove_dirs(&self, dir: &Path) -> io::Result<()>;
    /// Removes a directory in which nothing is.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::DirectoryNotEmpty`].
    fn remove_empty_dir(&self, dir: &Path) -> io::Result<()>;
    /// What is in a directory, in no order; empty when there is no such directory.
    ///
    /// # Errors
    /// The system's.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;
    /// Size of a plain file, `None` when there is none.
    ///
    /// # Errors
    /// The system's.
    fn file_bytes(&self, path: &Path) -> io::Result<Option<u64>>;
    /// Takes the lock file, and the directory that it is in, and writes the owner into it; `Err(text)` inside is the present
    /// owner's text.
    ///
    /// # Errors
    /// The system's.
    fn lock(&self, path: &Path, owner: &str) -> io::Result<Result<Guard, String>>;
    /// What tells the directory at `dir` from another one at the same path.
    ///
    /// # Errors
    /// The system's.
    fn identity(&self, _dir: &Path) -> io::Result<(u64, u64)> {
        Ok((0, 0))
    }
    /// Space of the file system that holds `path`.
    ///
    /// # Errors
    /// The system's.
    fn space(&self, path: &Path) -> io::Result<Capacity>;
    /// Writes out everything that is dirty on the file system of `dir`, so that many syncs to come find
    /// nothing left to do. A hint: what must be durable is still synced one by one, with its errors seen.
    fn sync_ahead(&self, _dir: &Path) {}
}

/// An open directory.
pub trait Directory {
    /// `fsync`.
    ///
    /// # Errors
    /// The system's; afterwards nobody can tell which names are on disk.
    fn sync(&self) -> io::Result<()>;
}

/// Operations on one open file.
pub trait File: Send + Sync {
    /// Writes some or all of `parts` at `at`; answers how many bytes.
    ///
    /// # Errors
    /// The system's.
    fn write_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<usize>;
    /// Reads up to `buf.len()` bytes at `at`; 0 at the end.
    ///
    /// # Errors
    /// The system's.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;
    /// As [`File::read_at`], but only what is in memory already; may be less than there is.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::WouldBlock`] where the disk would have to be waited for, or where nobody can tell.
    fn read_cached(&self, _buf: &mut [u8], _at: u64) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
    /// `fdatasync`.
    ///
    /// # Errors
    /// The system's; afterwards nobody can tell which bytes are on disk.
    fn sync(&self) -> io::Result<()>;
    /// Size in bytes.
    ///
    /// # Errors
    /// The system's.
    fn bytes(&self) -> io::Result<u64>;
    /// Bytes of the disk that the file holds: less than its size where it has holes, more where blocks are reserved.
    ///
    /// # Errors
    /// The system's.
    fn held_bytes(&self) -> io::Result<u64> {
        self.bytes()
    }
    /// Cuts the file; also gives back blocks reserved past that size.
    ///
    /// # Errors
    /// The system's.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Reserves blocks without changing the size (`FALLOC_FL_KEEP_SIZE`).
    ///
    /// # Errors
    /// The system's, and "unsupported" where the file system cannot.
    fn reserve(&self, at: u64, bytes: u64) -> io::Result<()>;
    /// Hints that these bytes should go to the disk soon.
    fn start_writeback(&self, at: u64, bytes: u64);
    /// A read-only mapping of the first `bytes`, which may lie past the end; `None` where there is none.
    fn map(&self, bytes: usize) -> Option<Mapping>;
}

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dirs(&self, dir: &Path) -> io::Result<()> {
        about_to_wait(Waits::Files);
        fs::create_dir_all(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        about_to_wait(Waits::Files);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Arc::new(file))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).create_new(true).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        about_to_wait(Waits::Files);
        use std::os::unix::fs::OpenOptionsExt;
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
        Ok(Arc::new(file))
    }

    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn Directory>> {
        about_to_wait(Waits::Files);
        // The parent of a relative name of one part is "".
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        Ok(Box::new(RealDirectory(fs::File::open(dir)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        about_to_wait(Waits::Files);
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        about_to_wait(Waits::Disk);
        fs::remove_file(path)
    }

    fn remove_dirs(&self, dir: &Path) -> io::Result<()> {
        about_to_wait(Waits::Disk);
        fs::remove_dir_all(dir)
    }

    fn remove_empty_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        about_to_wait(Waits::Files);
        let entries = match fs::read_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        entries
            .map(|entry| {
                let entry = entry?;
                let kind = entry.file_type()?;
                let bytes = if kind.is_file() { entry.metadata()?.len() } else { 0 };
                let name = entry.file_name().to_string_lossy().into_owned();
                Ok(Entry { name, is_dir: kind.is_dir(), is_file: kind.is_file(), bytes })
            })
            .collect()
    }

    fn file_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        about_to_wait(Waits::Files);
        match fs::symlink_metadata(path) {
            Ok(found) => Ok(found.is_file().then_some(found.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn lock(&self, path: &Path, owner: &str) -> io::Result<Result<Guard, String>> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                file.take(256).read_to_string(&mut text)?;
                return Ok(Err(text.trim().to_owned()));
            }
            Err(TryLockError::Error(e)) => return Err(e),
        }
        // Somebody may remove the file; the directory stays. Not every file system locks one.
        let dir = path.parent().map(fs::File::open).transpose()?;
        if let Some(Err(TryLockError::WouldBlock)) = dir.as_ref().map(fs::File::try_lock) {
            return Ok(Err("whose lock file somebody has removed".to_owned()));
        }
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(owner.as_bytes())?;
        Ok(Ok(Box::new((file, dir))))
    }

    fn identity(&self, dir: &Path) -> io::Result<(u64, u64)> {
        use std::os::unix::fs::MetadataExt;
        about_to_wait(Waits::Files);
        let found = fs::metadata(dir)?;
        Ok((found.dev(), found.ino()))
    }

    fn space(&self, path: &Path) -> io::Result<Capacity> {
        let found = rustix::fs::statvfs(path)?;
        let block = found.f_frsize;
        Ok(Capacity { total_bytes: found.f_blocks * block, free_bytes: found.f_bavail * block })
    }

    #[cfg(target_os = "linux")]
    fn sync_ahead(&self, dir: &Path) {
        about_to_wait(Waits::Disk);
        if let Ok(dir) = fs::File::open(dir) {
            let _hint = rustix::fs::syncfs(dir);
        }
    }
}

struct RealDirectory(fs::File);

impl Directory for RealDirectory {
    fn sync(&self) -> io::Result<()> {
        about_to_wait(Waits::Disk);
        self.0.sync_all()
    }
}

impl File for fs::File {
    fn write_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        about_to_wait(Waits::Files);
        loop {
            match rustix::io::pwritev(self, parts, at) {
                Err(rustix::io::Errno::INTR) => {}
                written => return Ok(written?),
            }
        }
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        about_to_wait(Waits::Files);
        FileExt::read_at(self, buf, at)
    }

    fn read_cached(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        map::read_cached(self, buf, at)
    }

    fn sync(&self) -> io::Result<()> {
        about_to_wait(Waits::Disk);
        self.sync_data()
    }

    fn bytes(&self) -> io::Result<u64> {
        about_to_wait(Waits::Files);
        Ok(self.metadata()?.len())
    }

    fn held_bytes(&self) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt;
        about_to_wait(Waits::Files);
        // Blocks of 512 bytes, whatever the file system's are.
        Ok(self.metadata()?.blocks() * 512)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        about_to_wait(Waits::Files);
        Self::set_len(self, bytes)
    }

    fn reserve(&self, at: u64, bytes: u64) -> io::Result<()> {
        about_to_wait(Waits::Files);
        Ok(rustix::fs::fallocate(self, FallocateFlags::KEEP_SIZE, at, bytes)?)
    }

    fn start_writeback(&self, at: u64, bytes: u64) {
        map::start_writeback(self, at, bytes);
    }

    fn map(&self, bytes: usize) -> Option<Mapping> {
        about_to_wait(Waits::Files);
        Mapping::new(self, bytes)
    }
}

/// The least that a system reads of a file.
const PAGE_BYTES: u64 = 4096;
/// Stands for bytes that cannot be read: neither zeros, which would look like a lost write, nor the magic of a batch.
const UNREADABLE: u8 = 0xEE;

/// Whether the disk has lost what was asked for. Anything else may work the next time.
pub(super) fn is_unreadable(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let known = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(known, Some(Errno::IO | Errno::BADMSG | Errno::UCLEAN))
}

/// As [`read_exact`], over bytes that cannot be read: answers which.
pub(super) fn read_over(file: &dyn File, buf: &mut [u8], at: u64) -> io::Result<Vec<Range<u64>>> {
    match read_exact(file, buf, at) {
        Err(error) if is_unreadable(&error) => {}
        read => return read.map(|()| Vec::new()),
    }
    let (mut bad, mut from, until) = (Vec::new(), at, at + buf.len() as u64);
    let mut rest = buf;
    while from < until {
        let end = (from / PAGE_BYTES + 1) * PAGE_BYTES;
        let len = usize::try_from(end.min(until) - from).unwrap_or(rest.len());
        let (page, more) = rest.split_at_mut(len.min(rest.len()));
        match read_exact(file, page, from) {
            Err(error) if is_unreadable(&error) => {
                page.fill(UNREADABLE);
                bad.push(from..end);
            }
            read => read?,
        }
        (rest, from) = (more, end);
    }
    Ok(bad)
}

/// Fills `buf` from `at` or fails with `UnexpectedEof`.
pub(super) fn read_exact(file: &dyn File, buf: &mut [u8], at: u64) -> io::Result<()> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + done as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => done += read,
        }
    }
    Ok(())
}
