//! Space kept back, so that a full disk still lets go of things: deletes, commits and small state.
//!
//! It is kept in two parts. What grows (commits, small state) may take the first; the last is for what frees space or ends the
//! process alone, which otherwise could do neither: a trim needs a checkpoint of some bytes, a close a file of its own.
//!
//! Owns: the files `ballast` and `ballast.last` and whether they are there. While one is not, for lack of room, records are refused even where
//! there is some, because that room is what was kept back or should be; they are taken again, and the space with it, once
//! there is more; while neither is, nothing that grows is taken. That holds in every life: a missing file on a full disk is one that an earlier life gave up.
//! Invariant: nothing but blocks is in the files. Deliberately absent: what may use the space (the callers know).

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

/// One of so many parts of what is kept back is the last one.
const LAST_SHARE: u64 = 4;

/// What somebody needs space for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// What must go on and only takes: commits, small state.
    Growth,
    /// What frees space, or ends or begins the process.
    Relief,
}

/// What stands while the space is given up.
const KEY: &str = "ballast";

/// The file.
pub(super) struct Ballast {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// 0: nothing is kept back.
    bytes: u64,
    /// Of each part.
    states: [AtomicU8; 2],
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
        let held = FILES.map(|name| held_bytes(&*disk, &dir.join(name)) > 0);
        let states = held.map(|held| AtomicU8::new(if held { KEPT } else { UNKNOWN }));
        #[allow(clippy::disallowed_methods, reason = "only paces looks at the file system")]
        let start = Instant::now();
        Self {
            disk,
            dir: dir.to_owned(),
            bytes,
            states,
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
        let last_bytes = self.bytes / LAST_SHARE;
        let last = self.keep(LAST, last_bytes, last_bytes, incidents);
        let first = self.keep(FIRST, self.bytes - last_bytes, 2 * self.bytes, incidents);
        self.enter([first, last], incidents);
    }

    /// Keeps one part back where there is more than `room`, with what is kept.
    fn keep(&self, name: &str, bytes: u64, room: u64, incidents: &Incidents) -> u8 {
        let path = self.dir.join(name);
        let Ok(space) = self.disk.space(&self.dir) else { return UNKNOWN };
        let held = held_bytes(&*self.disk, &path);
        let others = FILES.into_iter().filter(|other| *other != name && room > self.bytes);
        let others: u64 = others.map(|other| held_bytes(&*self.disk, &self.dir.join(other))).sum();
        if held >= bytes {
            KEPT
        } else if space.free_bytes + held + others > room {
            match self.write(&path, bytes) {
                Ok(()) => KEPT,
                Err(error) if is_full(&error) => SHORT,
                Err(error) => {
                    incidents.note_error(Kind::UpkeepFailed, &failed("reserve", &path)(error));
                    UNKNOWN
                }
            }
        } else if held > 0 {
            KEPT
        } else {
            SHORT
        }
    }

    fn states(&self) -> [u8; 2] {
        self.states.each_ref().map(|state| state.load(Ordering::Acquire))
    }

    fn enter(&self, states: [u8; 2], incidents: &Incidents) {
        let (before, short) = (self.states(), |states: [u8; 2]| states.contains(&SHORT));
        self.states.iter().zip(states).for_each(|(of, state)| of.store(state, Ordering::Release));
        if short(states) && !short(before) {
            let text =
                format_args!("no space left in {}: records are refused until there is", self.dir.display());
            incidents.raise(Kind::DiskFull, KEY, &text);
        } else if !short(states) && short(before) {
            incidents.clear(Kind::DiskFull, KEY);
        }
    }

    fn write(&self, path: &Path, bytes: u64) -> std::io::Result<()> {
        let file = self.disk.create(path)?;
        let written = file.reserve(0, bytes).or_else(|_| fill(&*file, bytes));
        if written.is_err() {
            drop(file);
            // What is left of it counts at the next look.
            drop(self.disk.remove_file(path));
        }
        written
    }

    /// Gives a part of the space up, the last one only for relief; false when there is none to give for that.
    pub fn give_up(&self, need: Need, incidents: &Incidents) -> bool {
        let _one = locked(&self.changing);
        let mut states = self.states();
        let may_give = if need == Need::Relief { FILES.len() } else { 1 };
        for (name, state) in FILES.iter().zip(&mut states).take(may_give) {
            if *state == KEPT && self.disk.remove_file(&self.dir.join(name)).is_ok() {
                *state = SHORT;
                self.enter(states, incidents);
                return true;
            }
        }
        false
    }

    /// Runs what must work on a full disk, again with the space that was kept back for it if there was none.
    pub fn spend<T>(
        &self,
        need: Need,
        incidents: &Incidents,
        mut work: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        if need == Need::Growth && self.is_out(incidents) {
            return Err(Error::Full { path: self.dir.clone() });
        }
        loop {
            match work() {
                Err(Error::Full { .. }) if self.give_up(need, incidents) => {}
                done => return done,
            }
        }
    }

    /// Whether nothing may grow: what space there is, is for what frees more.
    pub fn is_out(&self, incidents: &Incidents) -> bool {
        self.is_short(incidents) && self.states() == [SHORT; 2]
    }

    /// Whether records have to wait for space. Takes it back when there is enough.
    pub fn is_short(&self, incidents: &Incidents) -> bool {
        if self.bytes == 0 || self.states() == [KEPT; 2] {
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
        self.states().contains(&SHORT)
    }
}

/// The two parts.
const FIRST: &str = "ballast";
const LAST: &str = "ballast.last";
const FILES: [&str; 2] = [FIRST, LAST];

/// What the file keeps back. Its size says nothing: blocks are reserved past its end.
fn held_bytes(disk: &dyn Disk, path: &Path) -> u64 {
    disk.open(path).and_then(|file| file.held_bytes()).unwrap_or(0)
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
        assert!(!ballast.give_up(Need::Relief, &incidents));
        ballast.take(&incidents);
        assert!(path.exists() && !ballast.is_short(&incidents));
        let full = || Error::Full { path: "d".into() };
        let mut calls = 0;
        let done = ballast.spend(Need::Growth, &incidents, || {
            calls += 1;
            if calls == 1 { Err(full()) } else { Ok(calls) }
        });
        assert!(matches!(done, Ok(2)) && !path.exists() && incidents.stands(Kind::DiskFull));
        let refused = ballast.spend(Need::Relief, &incidents, || -> Result<()> { Err(full()) });
        assert!(refused.is_err(), "there is nothing left to give");
        // This disk has space again at once.
        assert!(!ballast.is_short(&incidents) && path.exists() && !incidents.stands(Kind::DiskFull));
        assert!(
            Ballast::new(Arc::new(RealDisk), dir.path(), 1 << 20).give_up(Need::Growth, &incidents),
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
        assert!(!ballast(1 << 20).give_up(Need::Growth, &incidents) && path.exists());
        let blocks = |path: &Path| std::fs::metadata(path).unwrap().blocks() * 512;
        let held = || blocks(&path) + blocks(&dir.path().join(LAST));
        for bytes in [1 << 20, 2 << 20] {
            let ballast = ballast(bytes);
            ballast.take(&incidents);
            assert!(held() >= bytes, "{} of {bytes} bytes", held());
        }
    }
}
