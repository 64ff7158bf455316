//! One segment: a file of consecutive batches, byte-identical to Kafka's `.log`.
//!
//! Owns: the summary and index of its bytes, the walk over batch headers, the cached descriptor.
//! Invariant: `tail` moves only after the bytes it names have been written. Descriptors are bounded by
//! [`Files`]; a reader keeps the one it uses alive. Deliberately absent: rolling, syncing, checksums.

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use super::checkpoint::{Part, Rest, read_all, write_whole};
use super::disk::{Disk, File, is_unreadable, read_exact};
use super::handle::{Handle, Known};
use super::hole::{self, Hole, Holes};
use super::index::{Anchor, Index};
use super::outline::{Outline, Want};
use super::place::{Place, in_place};
use super::scan::Scan;
use super::verify::{Checked, Verified, between, check};
use super::window::Window;
use super::{failed, locked};
use crate::batch::{HEADER_BYTES, Header};
use crate::lock::{Mutex, rank};
use crate::store::{Error, Incidents, Kind, Result};

/// Where a batch begins, or the last one ends: position, and the offset of the record that stands there or is to come.
pub(super) type Boundary = (u64, i64);

/// Descriptors looked at when one comes too many: with more than these pinned, the cache is over its limit for a while.
const SWEEP: usize = 64;
/// Bytes that are walked for an index that nobody misses.
const REBUILT_BYTES: u64 = 1 << 20;
/// Blocks of an index that are kept when they were read: a lookup reads one, the next chunk to verify may need another.
const KEPT_BLOCKS: usize = 2;
/// Batch boundaries remembered beside the index: where tailing readers start.
const RECENT: usize = 32;

/// What is written of a segment, and how to find batches in it.
pub(super) struct Tail {
    pub part: Part,
    pub sealed: bool,
    /// `None` once sealed and written to its file.
    pub index: Option<Index>,
    recent: VecDeque<(i64, u64)>,
}

/// One segment.
pub(super) struct Segment {
    pub base: i64,
    dir: Arc<Path>,
    handle: Mutex<rank::FileHandle, Option<Arc<Handle>>>,
    used: AtomicBool,
    pub tail: Mutex<rank::Tail, Tail>,
    /// What an earlier life left, as its record says.
    recorded: Part,
    /// What the last sync covered.
    synced: Mutex<rank::Synced, Part>,
    /// Bytes that are written or about to be, and those that a sync covered: what the cache of descriptors has to
    /// know without a lock.
    dirty_to: AtomicU64,
    synced_to: AtomicU64,
    /// Damaged places.
    pub holes: Holes,
    /// What has been verified since it came from the disk.
    pub verified: Verified,
    /// Bytes that its index file covers.
    pub indexed: AtomicU64,
    /// How often its index was made anew.
    remade: AtomicU64,
    /// Whether its name in the directory is durable.
    pub named: AtomicBool,
    owner: OnceLock<Weak<dyn Owner>>,
}

/// Who can make a segment's bytes durable.
pub(super) trait Owner: Send + Sync {
    /// Asks for it.
    fn sync_soon(&self);
    /// Does it, and waits for the disk.
    fn sync_now(&self);
}

impl Segment {
    /// A segment whose file exists (or is about to) with `part` written and synced, of which nobody in this life has
    /// looked at the front that a record names.
    pub fn new(
        dir: &Arc<Path>,
        part: Part,
        holes: Vec<Hole>,
        index: Option<Index>,
        sealed: bool,
        recorded: Part,
    ) -> Self {
        Self {
            base: part.base,
            dir: dir.clone(),
            handle: Mutex::new(None),
            used: AtomicBool::new(false),
            tail: Mutex::new(Tail { part, sealed, index, recent: VecDeque::new() }),
            holes: Holes::new(holes),
            verified: Verified::new(recorded.bytes),
            recorded,
            synced: Mutex::new(part),
            dirty_to: AtomicU64::new(part.bytes),
            synced_to: AtomicU64::new(part.bytes),
            indexed: AtomicU64::new(0),
            remade: AtomicU64::new(0),
            named: AtomicBool::new(true),
            owner: OnceLock::new(),
        }
    }

    /// Says whose it is.
    pub fn belongs_to(&self, owner: Weak<dyn Owner>) {
        let _ = self.owner.set(owner);
    }

    /// What is written now.
    pub fn part(&self) -> Part {
        locked(&self.tail).part
    }

    /// Where the log goes on behind it: past offsets that no record ever had.
    pub fn goes_on_at(&self) -> i64 {
        let gap = self.holes.list().iter().find(|hole| hole.is_gap()).map(|gap| gap.to);
        gap.unwrap_or_else(|| self.part().next_offset)
    }

    /// What the last sync covered.
    pub fn synced(&self) -> Part {
        *locked(&self.synced)
    }

    /// A sync has covered `part`.
    pub fn mark_synced(&self, part: Part) {
        *locked(&self.synced) = part;
        self.synced_to.store(part.bytes, Ordering::SeqCst);
    }

    /// The file is about to be written up to `bytes`. Said before the descriptor is asked for, so that this one stays open
    /// until the bytes are synced: a write error is only sure to be reported to descriptors that were open at the time.
    pub fn about_to_write(&self, bytes: u64) {
        self.dirty_to.store(bytes, Ordering::SeqCst);
    }

    fn is_unsynced(&self) -> bool {
        self.dirty_to.load(Ordering::SeqCst) != self.synced_to.load(Ordering::SeqCst)
    }

    /// The file of batches.
    pub fn path(&self) -> PathBuf {
        log_path(&self.dir, self.base)
    }

    /// The file of the index.
    pub fn index_path(&self) -> PathBuf {
        self.path().with_extension("index")
    }

    /// The descriptor, opened again if the cache had dropped it.
    pub fn handle(self: &Arc<Self>, files: &Files) -> Result<Arc<Handle>> {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        let cached = locked(&self.handle).clone();
        if let Some(handle) = cached {
            return Ok(handle);
        }
        let path = self.path();
        let file = in_place(files.place, || files.disk.open(&path)).map_err(failed("open", &path))?;
        Ok(self.adopt(file, files))
    }

    /// Puts an open descriptor into the cache; whoever was faster has put in the one that counts.
    pub fn adopt(self: &Arc<Self>, file: Arc<dyn File>, files: &Files) -> Arc<Handle> {
        let handle = Arc::new(Handle::new(file, files.disk.clone(), files.place, files.incidents.clone()));
        {
            let mut cached = locked(&self.handle);
            if let Some(other) = &*cached {
                return other.clone();
            }
            *cached = Some(handle.clone());
        }
        files.admit(self);
        handle
    }

    /// Drops the cached descriptor; users of it keep theirs.
    pub fn forget_handle(&self) {
        let dropped = locked(&self.handle).take();
        drop(dropped);
    }

    /// Drops the cached descriptor unless it is pinned; whether it did.
    fn evict_handle(&self, pin_unsynced: bool) -> bool {
        let dropped = {
            let mut cached = locked(&self.handle);
            // Looked at under the lock: whoever says that it is going to write asks for the descriptor after that.
            if pin_unsynced && self.is_unsynced() {
                return false;
            }
            cached.take()
        };
        drop(dropped);
        true
    }

    /// Records batches that have been written.
    pub fn publish(&self, headers: impl Iterator<Item = Header>, interval: u32, now_ms: i64) -> Part {
        let mut tail = locked(&self.tail);
        if tail.part.opened_ms < 0 {
            tail.part.opened_ms = now_ms;
        }
        headers.for_each(|header| tail.push(&header, interval));
        self.dirty_to.store(tail.part.bytes, Ordering::SeqCst);
        tail.part
    }

    /// Where the batch that contains `offset` begins; the end when `offset` is the next one.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it lies in a hole.
    pub fn locate(self: &Arc<Self>, handle: &Handle, offset: i64, interval: u32) -> Result<Boundary> {
        let (part, recent) = {
            let tail = locked(&self.tail);
            let recent = tail.recent.iter().rev().find(|(at, _)| *at == offset).map(|(_, p)| *p);
            (tail.part, recent)
        };
        if offset >= part.next_offset {
            return Ok((part.bytes, part.next_offset));
        }
        if let Some(position) = recent {
            return Ok((position, offset));
        }
        let relative = offset - self.base;
        let from = self.floor(handle, interval, Want::Offset(relative), |i| i.floor_offset(relative))?;
        if let Some(hole) = hole::of(&self.holes.list(), offset) {
            return Err(self.damaged(hole.at, offset, hole.to));
        }
        let found = self.walk_verified(handle, from, part.bytes, interval, |header, at| {
            if header.last_offset() >= offset {
                ControlFlow::Break((at, header.base_offset))
            } else {
                ControlFlow::Continue(())
            }
        })?;
        match found {
            Some((at, base)) if base <= offset => Ok((at, base)),
            Some((at, base)) => Err(self.damaged(at, offset, base)),
            None => Err(self.damaged(part.bytes, offset, part.next_offset)),
        }
    }

    /// Where the first batch at or past `offset` begins that can be read.
    pub fn locate_readable(
        self: &Arc<Self>,
        handle: &Handle,
        offset: i64,
        interval: u32,
    ) -> Result<Boundary> {
        let mut offset = offset;
        loop {
            match self.locate(handle, offset, interval) {
                Err(Error::Damaged { to, .. }) if to > offset => offset = to,
                found => return found,
            }
        }
    }

    /// A boundary from the index, verified with what follows it.
    pub fn floor(
        &self,
        handle: &Handle,
        interval: u32,
        want: Want,
        ask: impl Fn(&Index) -> u64,
    ) -> Result<u64> {
        loop {
            let index = self.remade.load(Ordering::Acquire);
            let from = self.with_index(handle, interval, want, &ask)?;
            self.verify(handle, from, interval)?;
            // It may have been the boundary of something else.
            if self.remade.load(Ordering::Acquire) == index {
                return Ok(from);
            }
        }
    }

    /// The largest batch boundary in `from..=until` at most `max_bytes` past `from`, but one batch at least.
    pub fn cut(
        self: &Arc<Self>,
        handle: &Handle,
        from: u64,
        until: Boundary,
        max: u64,
        interval: u32,
    ) -> Result<Boundary> {
        if until.0 - from <= max {
            return Ok(until);
        }
        let (near, offset) = self.with_index(handle, interval, Want::Position(from + max), |index| {
            index.floor_position(from + max)
        })?;
        if near > from {
            return Ok((near, self.base + offset));
        }
        let cut = self.walk(handle, from, until.0, |header, at| {
            let next = at + header.total_bytes().unwrap_or(0) as u64;
            if at > from && next - from > max {
                ControlFlow::Break((at, header.base_offset))
            } else {
                ControlFlow::Continue(())
            }
        })?;
        Ok(cut.unwrap_or(until))
    }

    /// Asks the index, building what is missing of it first. `ask` is shown what answers `want`, at least.
    pub fn with_index<T>(
        &self,
        handle: &Handle,
        interval: u32,
        want: Want,
        ask: impl Fn(&Index) -> T,
    ) -> Result<T> {
        loop {
            let (missing, part) = {
                let tail = locked(&self.tail);
                match &tail.index {
                    Some(index) => match index.missing() {
                        None => return Ok(ask(index)),
                        missing => (missing, tail.part),
                    },
                    None => (None, tail.part),
                }
            };
            if let Some(missing) = missing {
                let (front, _) = in_place(handle.place, || self.load_index(handle, &missing, interval))?;
                if let Some(index) = &mut locked(&self.tail).index
                    && index.missing() == Some(missing)
                {
                    index.prepend(front);
                }
            } else if let Some(answer) = self.with_file(handle, &part, interval, want, &ask)? {
                return Ok(answer);
            }
        }
    }

    /// Asks the index of a sealed segment; `None` when what is known of its file does not hold any more.
    fn with_file<T>(
        &self,
        handle: &Handle,
        part: &Part,
        interval: u32,
        want: Want,
        ask: impl Fn(&Index) -> T,
    ) -> Result<Option<T>> {
        let known = locked(&handle.index).clone();
        let (outline, read, index) = match known {
            Known::Whole(index) => return Ok(Some(ask(&index))),
            Known::Outline(outline, read, index) => (outline, read, index),
            Known::Nothing => {
                let (index, outline) = in_place(handle.place, || self.load_index(handle, part, interval))?;
                let answer = ask(&index);
                let mut known = locked(&handle.index);
                // Unless it was made anew meanwhile.
                if matches!(*known, Known::Nothing) {
                    *known = match outline {
                        Some(outline) => Known::Outline(Arc::new(outline), 0..0, Arc::default()),
                        None => Known::Whole(Arc::new(index)),
                    };
                }
                return Ok(Some(answer));
            }
        };
        let blocks = outline.covering(want);
        if read.start <= blocks.start && blocks.end <= read.end {
            return Ok(Some(ask(&index)));
        }
        let found = in_place(handle.place, || self.read_index(handle, &outline, &blocks));
        let Some(index) = found.map(Arc::new) else {
            *locked(&handle.index) = Known::Nothing;
            return Ok(None);
        };
        let answer = ask(&index);
        if blocks.len() <= KEPT_BLOCKS {
            *locked(&handle.index) = Known::Outline(outline, blocks, index);
        }
        Ok(Some(answer))
    }

    /// Some blocks of the index, from its file.
    fn read_index(&self, handle: &Handle, outline: &Outline, blocks: &Range<usize>) -> Option<Index> {
        let (at, len) = outline.place(blocks);
        let mut bytes = vec![0; len];
        let file = handle.disk.open(&self.index_path()).ok()?;
        read_exact(&*file, &mut bytes, at).ok()?;
        outline.decode(blocks, &bytes)
    }

    /// The index of the front of the segment that `part` names: from its file as far as that goes, else from the bytes.
    /// With its outline when it is long and its file has all of it.
    fn load_index(&self, handle: &Handle, part: &Part, interval: u32) -> Result<(Index, Option<Outline>)> {
        let path = self.index_path();
        let bytes = read_all(&*handle.disk, &path).ok().flatten().unwrap_or_default();
        if let Some((index, covered)) = Index::decode(&bytes, part) {
            let whole = (covered.bytes, covered.next_offset) == (part.bytes, part.next_offset);
            if whole {
                let outline = Outline::new(&index, &bytes);
                return Ok((index, outline));
            }
            if let Some(mut rest) = self.scan_behind(handle, covered, part, interval)? {
                rest.prepend(index);
                return Ok((rest, None));
            }
        }
        if !bytes.is_empty() || part.bytes > REBUILT_BYTES {
            let text = format_args!("{} is missing or does not fit: made anew", path.display());
            handle.incidents.note(Kind::FileDamaged, &text);
        }
        let index = self.scan(handle, part, interval)?;
        self.check_rest(handle)?;
        self.replace_index(handle, &index, part);
        // Whoever looks at more than the front looks at all of it.
        self.verified.mark_all();
        Ok((index, None))
    }

    /// The index of what lies past the front that a file of an index says it covers; `None` where the bytes do not go on
    /// there. Then nothing that it says is believed: a search that begins inside a batch finds no end of damage.
    fn scan_behind(
        &self,
        handle: &Handle,
        covered: Part,
        part: &Part,
        interval: u32,
    ) -> Result<Option<Index>> {
        let holes = self.holes.list();
        let mut scan = Scan::new(&*handle.file, covered, part.bytes, interval).over(holes);
        let run = scan.run().map_err(failed("read", &self.path()))?;
        if covered.bytes >= part.bytes || (run.is_some() && scan.part.bytes == covered.bytes) {
            return Ok(None);
        }
        scan.run_over(part.next_offset).map_err(failed("read", &self.path()))?;
        self.holes.add(&scan.holes);
        Ok(Some(scan.index))
    }

    /// Looks at every byte of the front that `part` names, from the first on: its index, and its holes are remembered.
    fn scan(&self, handle: &Handle, part: &Part, interval: u32) -> Result<Index> {
        let empty = Part::empty(part.base, part.opened_ms);
        let mut scan = Scan::new(&*handle.file, empty, part.bytes, interval).over(self.holes.list());
        scan.run_over(part.next_offset).map_err(failed("read", &self.path()))?;
        self.holes.add(&scan.holes);
        Ok(scan.index)
    }

    /// Has the index that was made from the bytes stand for the file that was of no use. Without a sync, and no harm when it
    /// fails: then it is made once more.
    fn replace_index(&self, handle: &Handle, index: &Index, part: &Part) {
        let (disk, path) = (&*handle.disk, self.index_path());
        let finished = {
            let tail = locked(&self.tail);
            tail.sealed && tail.index.is_none()
        };
        self.indexed.store(0, Ordering::Relaxed);
        if !finished || write_whole(disk, &path, &index.encode(part)).is_err() {
            drop(disk.remove_file(&path));
        }
    }

    /// Verifies the batches of the chunk around `at` unless that has been done since they came from the disk. What does not
    /// check out becomes a hole. Answers where the next unverified batch may begin.
    pub fn verify(&self, handle: &Handle, at: u64, interval: u32) -> Result<u64> {
        if self.verified.until(at) == at {
            let ((from, to), part, fresh) = (Verified::chunk(at), self.part(), self.verified.fresh());
            let until = to.min(fresh);
            let anchors = self.with_index(handle, interval, Want::Span(from, until), |index| {
                index.anchors(&part, from, until)
            })?;
            // An index that was just made from the bytes has looked at them.
            if self.verified.until(at) == at {
                in_place(handle.place, || {
                    let mut checked = self.check(handle, &anchors, &part)?;
                    if checked == Checked::Fine {
                        checked = self.check(handle, &self.rest_between(from, to), &part)?;
                    }
                    match checked {
                        Checked::Same | Checked::Fine => self.verified.mark(at),
                        _ => self.look_at_all(handle, &part, fresh, interval)?,
                    }
                    Ok(())
                })?;
            }
        }
        Ok(self.verified.until(at))
    }

    /// What is recorded of the last batches of an earlier life, where they reach into `from..to`. The index knows nothing of
    /// them: it was made from the bytes themselves.
    fn rest_between(&self, from: u64, to: u64) -> Vec<Anchor> {
        let (end, rest) = (&self.recorded, self.recorded.rest);
        if rest.sum == 0 || rest.at >= to || end.bytes <= from {
            return Vec::new();
        }
        let front = Anchor { position: rest.at, offset: rest.offset, sum: 0 };
        vec![front, Anchor { position: end.bytes, offset: end.next_offset, sum: rest.sum }]
    }

    /// After a scan, which has set aside what it found.
    fn check_rest(&self, handle: &Handle) -> Result<()> {
        let anchors = self.rest_between(0, u64::MAX);
        if let [from, to] = &*anchors
            && self.check(handle, &anchors, &self.recorded)? == Checked::Sum
        {
            self.holes.add(&[somewhere_between(from, to)]);
        }
        Ok(())
    }

    fn check(&self, handle: &Handle, anchors: &[Anchor], part: &Part) -> Result<Checked> {
        let mut window = Window::new(&*handle.file, part.bytes);
        check(&mut window, anchors, &self.holes.list()).map_err(failed("read", &self.path()))
    }

    /// Looks at everything once more: what had been verified cannot be read now.
    pub fn look_again(&self, handle: &Handle, interval: u32) -> Result<()> {
        let (part, fresh) = (self.part(), self.verified.fresh());
        in_place(handle.place, || self.look_at_all(handle, &part, fresh, interval))
    }

    /// Finds the holes of the whole segment; an index that its bytes contradict is made anew.
    fn look_at_all(&self, handle: &Handle, part: &Part, fresh: u64, interval: u32) -> Result<()> {
        let anchors =
            self.with_index(handle, interval, Want::Span(0, fresh), |index| index.anchors(part, 0, fresh))?;
        let index = self.scan(handle, part, interval)?;
        let (holes, mut window) = (self.holes.list(), Window::new(&*handle.file, part.bytes));
        let (mut same, mut wrong, mut foreign) = (0, Vec::new(), false);
        for pair in anchors.windows(2) {
            let [from, to] = pair else { continue };
            match between(&mut window, from, to, &holes).map_err(failed("read", &self.path()))? {
                Checked::Fine | Checked::Odd => {}
                Checked::Same => same += 1,
                Checked::Sum => wrong.push(somewhere_between(from, to)),
                Checked::Bad => foreign = true,
            }
        }
        // Sums of which most are wrong are those of other bytes. What the file did not cover has right ones in any case.
        foreign |= wrong.len() > same;
        if foreign {
            let path = self.index_path();
            let text = format_args!("{} is of another content: made anew", path.display());
            handle.incidents.note(Kind::FileDamaged, &text);
            self.remake_index(handle, index, part);
        } else {
            self.holes.add(&wrong);
        }
        self.check_rest(handle)?;
        self.verified.mark_all();
        Ok(())
    }

    fn remake_index(&self, handle: &Handle, index: Index, part: &Part) {
        self.replace_index(handle, &index, part);
        let mut tail = locked(&self.tail);
        if tail.index.is_some() {
            // Batches may have come since; whoever asks has the front read, which is no longer on file.
            tail.index = Some(Index::after(&tail.part));
        } else {
            drop(tail);
            *locked(&handle.index) = Known::Whole(Arc::new(index));
        }
        self.remade.fetch_add(1, Ordering::AcqRel);
    }

    /// As [`Segment::walk`], over batches that have been verified.
    pub fn walk_verified<T>(
        &self,
        handle: &Handle,
        mut at: u64,
        until: u64,
        interval: u32,
        mut visit: impl FnMut(&Header, u64) -> ControlFlow<T>,
    ) -> Result<Option<T>> {
        enum Stop<T> {
            Found(T),
            Next(u64),
        }
        while at < until {
            let ready = self.verify(handle, at, interval)?;
            let stop = self.walk(handle, at, until, |header, position| {
                if position >= ready {
                    return ControlFlow::Break(Stop::Next(position));
                }
                match visit(header, position) {
                    ControlFlow::Break(found) => ControlFlow::Break(Stop::Found(found)),
                    ControlFlow::Continue(()) => ControlFlow::Continue(()),
                }
            })?;
            match stop {
                Some(Stop::Next(position)) => at = position,
                Some(Stop::Found(found)) => return Ok(Some(found)),
                None => break,
            }
        }
        Ok(None)
    }

    /// Visits the headers of the batches in `at..until`; `at` is a boundary.
    pub fn walk<T>(
        &self,
        handle: &Handle,
        mut at: u64,
        until: u64,
        mut visit: impl FnMut(&Header, u64) -> ControlFlow<T>,
    ) -> Result<Option<T>> {
        let mut buf = [0; 4096];
        let (mut from, mut have) = (at, 0);
        let holes = self.holes.list();
        while at < until {
            if let Some(hole) = hole::around(&holes, at) {
                at = hole.until;
                continue;
            }
            let inside = usize::try_from(at - from).ok().filter(|skip| skip + HEADER_BYTES <= have);
            let skip = match inside {
                Some(skip) => skip,
                None => {
                    from = at;
                    let some = usize::try_from(until - at).unwrap_or(usize::MAX).min(buf.len());
                    let some = buf.get_mut(..some).unwrap_or_default();
                    let read = handle.read(some, at).or_else(|error| match some.get_mut(..HEADER_BYTES) {
                        // What cannot be read may lie behind it.
                        Some(header) if is_unreadable(&error) => handle.read(header, at),
                        _ => Err(error),
                    });
                    have = read.map_err(failed("read", &self.path()))?;
                    0
                }
            };
            let header = buf.get(skip..have).and_then(Header::read);
            let Some((header, total)) = header.and_then(|h| Some((h, plausible(&h, at, until)?))) else {
                return Err(self.corrupt(at, "not a batch header"));
            };
            if let ControlFlow::Break(found) = visit(&header, at) {
                return Ok(Some(found));
            }
            at += total;
        }
        Ok(None)
    }

    /// The error of whoever reads an offset in a damaged place; the log goes on at `to`.
    pub fn damaged(&self, position: u64, from: i64, to: i64) -> Error {
        Error::Damaged { path: self.path(), position, from, to }
    }

    /// An error that names a place in this segment.
    pub fn corrupt(&self, position: u64, what: &str) -> Error {
        Error::Corrupt { path: self.path(), position, what: what.to_owned() }
    }
}

impl Tail {
    fn push(&mut self, header: &Header, interval: u32) {
        let part = &mut self.part;
        let mut rest = Rest::default();
        if let Some(index) = &mut self.index {
            index.push(part.base, header, part.bytes, part.newest.0, interval);
            rest = index.rest(part.base);
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((header.base_offset, part.bytes));
        part.add(header, rest);
    }

    /// No more batches: frees what only the active segment needs.
    pub fn seal(&mut self) {
        self.sealed = true;
        self.recent = VecDeque::new();
    }
}

/// Somewhere in here, outside of what Kafka's checksum covers.
fn somewhere_between(from: &Anchor, to: &Anchor) -> Hole {
    Hole { at: from.position, until: to.position, from: from.offset, to: to.offset, unread: false }
}

fn plausible(header: &Header, at: u64, until: u64) -> Option<u64> {
    let total = header.total_bytes()? as u64;
    (header.magic == 2 && header.last_offset_delta >= 0 && total <= until - at).then_some(total)
}

/// Open descriptors, bounded; the one not used since the last sweep goes first (second chance).
pub(super) struct Files {
    pub disk: Arc<dyn Disk>,
    pub place: Place,
    incidents: Arc<Incidents>,
    limit: usize,
    /// Whether files with unsynced bytes stay open: a write error is only sure to be reported to descriptors
    /// that were open at the time. Of no use where nobody syncs.
    pin_unsynced: bool,
    /// There are more than `limit`, for all that could be dropped.
    crowded: AtomicBool,
    open: Mutex<rank::OpenFiles, Open>,
}

/// Segments in the order in which they were opened, about. A segment that is no more takes memory as long as it is listed.
#[derive(Default)]
struct Open {
    segments: VecDeque<Weak<Segment>>,
    /// Those before it were there when they were looked at.
    looked: usize,
}

impl Open {
    fn list(&mut self, segment: &Arc<Segment>) {
        self.segments.push_back(Arc::downgrade(segment));
        // More than one comes, so that those that are gone do not add up.
        for _ in 0..4 {
            match self.segments.get(self.looked) {
                None => self.looked = 0,
                Some(one) if one.strong_count() > 0 => self.looked += 1,
                Some(_) => drop(self.segments.swap_remove_back(self.looked)),
            }
        }
    }
}

impl Files {
    /// At most `limit` descriptors in the cache.
    pub fn new(
        disk: Arc<dyn Disk>,
        place: Place,
        incidents: Arc<Incidents>,
        limit: usize,
        pin_unsynced: bool,
    ) -> Self {
        let crowded = AtomicBool::new(false);
        Self { disk, place, incidents, limit, pin_unsynced, crowded, open: Mutex::default() }
    }

    fn admit(&self, segment: &Arc<Segment>) {
        for evicted in self.surplus(segment) {
            if !evicted.evict_handle(self.pin_unsynced) {
                locked(&self.open).list(&evicted);
            }
        }
    }

    /// Has the oldest unsynced bytes synced while they keep more descriptors open than there may be: soon, and where appends run
    /// far ahead of that, before the caller goes on. Called without a log's lock.
    pub fn make_room(&self) {
        if !self.pin_unsynced {
            return;
        }
        if !self.crowded.load(Ordering::Relaxed) || !self.crowded.swap(false, Ordering::Relaxed) {
            return;
        }
        let (count, pinned) = {
            let open = locked(&self.open);
            let all = open.segments.iter().filter_map(Weak::upgrade);
            (open.segments.len(), all.filter(|segment| segment.is_unsynced()).take(SWEEP).collect::<Vec<_>>())
        };
        let mut owners = pinned.iter().filter_map(|segment| segment.owner.get()?.upgrade());
        if count > self.limit + self.limit / 4
            && let Some(oldest) = owners.next()
        {
            in_place(self.place, || oldest.sync_now());
        }
        owners.for_each(|owner| owner.sync_soon());
    }

    /// Counts one more descriptor, and names those that go for it. Takes no other lock meanwhile.
    fn surplus(&self, segment: &Arc<Segment>) -> Vec<Arc<Segment>> {
        let mut surplus = Vec::new();
        let mut open = locked(&self.open);
        open.list(segment);
        let open = &mut open.segments;
        let mut sweeps = (2 * open.len()).min(SWEEP);
        while open.len() > self.limit && sweeps > 0 {
            sweeps -= 1;
            let Some(oldest) = open.pop_front() else { break };
            let Some(found) = oldest.upgrade() else { continue };
            if found.used.swap(false, Ordering::Relaxed) || (self.pin_unsynced && found.is_unsynced()) {
                open.push_back(oldest);
            } else {
                surplus.push(found);
            }
        }
        if open.len() > self.limit {
            self.crowded.store(true, Ordering::Relaxed);
        }
        surplus
    }
}

/// Where the batches from `base` on are.
pub(super) fn log_path(dir: &Path, base: i64) -> PathBuf {
    dir.join(format!("{base:020}.log"))
}

/// Removes the index beside `path`, if there is one: it would be taken for that of what is there from now on.
pub(super) fn remove_index(disk: &dyn Disk, path: &Path) -> Result<()> {
    let index = path.with_extension("index");
    if disk.file_bytes(&index).map_err(failed("stat", &index))?.is_some() {
        disk.remove_file(&index).map_err(failed("remove", &index))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_that_are_gone_do_not_stay_on_the_list_of_open_ones() {
        let dir: Arc<Path> = Path::new("nowhere").into();
        let new = || {
            let part = Part::empty(0, 0);
            Arc::new(Segment::new(&dir, part, Vec::new(), Some(Index::default()), false, part))
        };
        let mut open = Open::default();
        let stay: Vec<_> = (0..100).map(|_| new()).collect();
        for nth in 0..10_000 {
            open.list(&new());
            if let Some(one) = stay.get(nth) {
                open.list(one);
            }
        }
        assert!(open.segments.len() < 150, "{}", open.segments.len());
        assert_eq!(open.segments.iter().filter_map(Weak::upgrade).count(), stay.len());
    }
}
