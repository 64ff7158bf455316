//! Space kept back, so that a full disk still lets go of things: deletes, commits and small state.
//!
//! Owns: the file `ballast` and whether it is there. While it is not, for lack of room, records are refused even where
//! there is some, because that room is what was kept back or should be; they are taken again, and the space with it, once
//! there is more. That holds in every life: a missing file on a full disk is one that an earlier life gave up.
//! Invariant: nothing but blocks is in the file. Deliberately absent: what may use the space (the callers know).

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::disk::{Disk, File};
use super::{failed, is_full, locked};
use crate::lock::{Mutex, rank};
use crate::store::{Error, Incidents, Kind, Result};

/// At least so long between two looks at the free space.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The disk must be this many times as large as what is kept back.
const LEAST_SHARE: u64 = 16;
/// Written at a time where blocks cannot be reserved.
const WRITE_BYTES: usize = 256 << 10;

/// What stands while the space is given up.
const KEY: &str = "ballast";

/// The file.
pub(super) struct Ballast {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// 0: nothing is kept back.
    bytes: u64,
    state: AtomicU8,
    changing: Mutex<rank::Ballast, ()>,
    start: Instant,
    /// Milliseconds since `start` before which nobody looks again.
    next_look_ms: AtomicU64,
}

/// Nobody has looked yet, or there is room and the file cannot be made.
const UNKNOWN: u8 = 0;
const KEPT: u8 = 1;
/// There is no room for it.
const SHORT: u8 = 2;

impl Ballast {
    /// `bytes` in `dir`, less on a small disk; nothing is written yet. Blocks that an earlier life kept count.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path, bytes: u64) -> Self {
        let total = disk.space(dir).map_or(0, |space| space.total_bytes);
        let bytes = bytes.min(total / LEAST_SHARE);
        let kept = held_bytes(&*disk, dir) > 0;
        #[allow(clippy::disallowed_methods, reason = "only paces looks at the file system")]
        let start = Instant::now();
        Self {
            disk,
            dir: dir.to_owned(),
            bytes,
            state: AtomicU8::new(if kept { KEPT } else { UNKNOWN }),
            changing: Mutex::default(),
            start,
            next_look_ms: AtomicU64::new(0),
        }
    }

    /// Keeps the space back, all of it, if there is more than twice as much: the file may be a copy that holds no blocks,
    /// or from a life that kept less. Where there is no room for any of it, records wait.
    pub fn take(&self, incidents: &Incidents) {
        if self.bytes == 0 {
            return;
        }
        let _one = locked(&self.changing);
        let Ok(space) = self.disk.space(&self.dir) else { return };
        let held = held_bytes(&*self.disk, &self.dir);
        let state = if held >= self.bytes {
            KEPT
        } else if space.free_bytes + held > 2 * self.bytes {
            match self.write() {
                Ok(()) => KEPT,
                Err(error) if is_full(&error) => SHORT,
                Err(error) => {
                    incidents.note_error(Kind::UpkeepFailed, &failed("reserve", &file_in(&self.dir))(error));
                    UNKNOWN
                }
            }
        } else if held > 0 {
            KEPT
        } else {
            SHORT
        };
        self.enter(state, incidents);
    }

    fn enter(&self, state: u8, incidents: &Incidents) {
        let before = self.state.swap(state, Ordering::AcqRel);
        if state == SHORT && before != SHORT {
            let text =
                format_args!("no space left in {}: records are refused until there is", self.dir.display());
            incidents.raise(Kind::DiskFull, KEY, &text);
        } else if state != SHORT && before == SHORT {
            incidents.clear(Kind::DiskFull, KEY);
        }
    }

    fn write(&self) -> std::io::Result<()> {
        let path = file_in(&self.dir);
        let file = self.disk.create(&path)?;
        let written = file.reserve(0, self.bytes).or_else(|_| fill(&*file, self.bytes));
        if written.is_err() {
            drop(file);
            // What is left of it counts at the next look.
            drop(self.disk.remove_file(&path));
        }
        written
    }

    /// Gives the space up for what must go on; false when there is none to give.
    pub fn give_up(&self, incidents: &Incidents) -> bool {
        let _one = locked(&self.changing);
        if self.state.load(Ordering::Acquire) != KEPT {
            return false;
        }
        let given = self.disk.remove_file(&file_in(&self.dir)).is_ok();
        if given {
            self.enter(SHORT, incidents);
        }
        given
    }

    /// Runs what must work on a full disk, once more with the space that was kept back if there was none.
    pub fn spend<T>(&self, incidents: &Incidents, mut work: impl FnMut() -> Result<T>) -> Result<T> {
        match work() {
            Err(Error::Full { .. }) if self.give_up(incidents) => work(),
            done => done,
        }
    }

    /// Whether records have to wait for space. Takes it back when there is enough.
    pub fn is_short(&self, incidents: &Incidents) -> bool {
        if self.bytes == 0 || self.state.load(Ordering::Relaxed) == KEPT {
            return false;
        }
        let now_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let next_ms = self.next_look_ms.load(Ordering::Relaxed);
        let every_ms = u64::try_from(LOOK_EVERY.as_millis()).unwrap_or(0);
        let mine = now_ms >= next_ms
            && self
                .next_look_ms
                .compare_exchange(next_ms, now_ms + every_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if mine {
            self.take(incidents);
        }
        self.state.load(Ordering::Acquire) == SHORT
    }
}

fn file_in(dir: &Path) -> PathBuf {
    dir.join("ballast")
}

/// What the file keeps back. Its size says nothing: blocks are reserved past its end.
fn held_bytes(disk: &dyn Disk, dir: &Path) -> u64 {
    disk.open(&file_in(dir)).and_then(|file| file.held_bytes()).unwrap_or(0)
}

fn fill(file: &dyn File, bytes: u64) -> std::io::Result<()> {
    let block = vec![0x5A; WRITE_BYTES];
    let mut at = 0;
    while at < bytes {
        let len = usize::try_from(bytes - at).unwrap_or(WRITE_BYTES).min(WRITE_BYTES);
        match file.write_at(&[IoSlice::new(block.get(..len).unwrap_or_default())], at)? {
            0 => return Err(std::io::ErrorKind::WriteZero.into()),
            written => at += written as u64,
        }
    }
    file.sync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::local::disk::RealDisk;

    #[test]
    fn the_space_is_given_up_once_and_taken_back_when_there_is_some() {
        let dir = tempfile::tempdir().unwrap();
        let (incidents, path) = (Incidents::default(), dir.path().join("ballast"));
        let ballast = Ballast::new(Arc::new(RealDisk), dir.path(), 1 << 20);
        assert!(!ballast.give_up(&incidents));
        ballast.take(&incidents);
        assert!(path.exists() && !ballast.is_short(&incidents));
        let full = || Error::Full { path: "d".into() };
        let mut calls = 0;
        let done = ballast.spend(&incidents, || {
            calls += 1;
            if calls == 1 { Err(full()) } else { Ok(calls) }
        });
        assert!(matches!(done, Ok(2)) && !path.exists() && incidents.stands(Kind::DiskFull));
        let refused = ballast.spend(&incidents, || -> Result<()> { Err(full()) });
        assert!(refused.is_err(), "there is nothing left to give");
        // This disk has space again at once.
        assert!(!ballast.is_short(&incidents) && path.exists() && !incidents.stands(Kind::DiskFull));
        assert!(
            Ballast::new(Arc::new(RealDisk), dir.path(), 1 << 20).give_up(&incidents),
            "an earlier life's counts"
        );
    }

    /// Files that came with a copy of the directory, or from a life that was killed while it made one.
    #[test]
    fn a_file_without_blocks_keeps_nothing_back_and_gets_them() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let (incidents, path) = (Incidents::default(), dir.path().join("ballast"));
        let ballast = |bytes| Ballast::new(Arc::new(RealDisk), dir.path(), bytes);
        std::fs::File::create(&path).unwrap().set_len(1 << 20).unwrap();
        assert!(!ballast(1 << 20).give_up(&incidents) && path.exists());
        let held = || std::fs::metadata(&path).unwrap().blocks() * 512;
        for bytes in [1 << 20, 2 << 20] {
            let ballast = ballast(bytes);
            ballast.take(&incidents);
            assert!(held() >= bytes, "{} of {bytes} bytes", held());
        }
    }
}
