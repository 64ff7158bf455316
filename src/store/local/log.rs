//! One log on files: append, read, trim, seal, and the turns that its threads take.
//!
//! Invariant: `start <= end`; `durable` is advanced only after an `fdatasync` that covered the bytes and
//! after the file's name is durable; once a sync has failed nothing is written again. No file exists
//! before the first append. Deliberately absent: retention policy, checks of batches.

use std::io::{self, IoSlice};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use bytes::Bytes;

use super::checkpoint::{Part, Record, Records, replace};
use super::disk::File;
use super::index::Index;
use super::map::Mapped;
use super::segment::{Handle, Segment, log_path, read_exact};
use super::sync::{Job, Turn};
use super::{Shared, failed, locked};
use crate::store::{
    Error, Log, LogId, LogOptions, Note, PREFIX_BYTES, Placed, Result, Segment as Listed, Slice, Span,
    Watermark, prefix,
};

/// Reads up to this size are copied to the heap: cheaper than faulting a map.
const HEAP_READ_BYTES: u64 = 16 << 10;
/// Blocks are reserved ahead in chunks that grow up to the last of these.
const RESERVE_BYTES: [u64; 4] = [64 << 10, 1 << 20, 16 << 20, 64 << 20];
/// Dirty bytes after which writeback is started early, so that a sync finds little to do.
const WRITEBACK_BYTES: u64 = 8 << 20;
/// Synced bytes past the last checkpoint after which a new one is written: bounds the recovery scan.
const CHECKPOINT_BYTES: u64 = 64 << 20;
/// Batches whose vectors fit on the stack.
const STACK_BATCHES: usize = 16;
/// Batches per system call (two vectors each; the kernel's IOV_MAX is 1024).
const CALL_BATCHES: usize = 512;

/// A log.
pub(super) struct LocalLog {
    id: LogId,
    this: Weak<Self>,
    dir: Arc<Path>,
    shared: Arc<Shared>,
    start: AtomicI64,
    end: AtomicI64,
    durable: Watermark,
    segments: RwLock<Vec<Arc<Segment>>>,
    interval: std::sync::atomic::AtomicU32,
    writer: Mutex<Writer>,
    flushing: Mutex<()>,
    syncing: Turn,
    tidying: Turn,
    state: Mutex<Kept>,
    checkpointing: Mutex<()>,
    spare: Mutex<Option<Arc<dyn File>>>,
    written_back: AtomicU64,
    deleted: AtomicBool,
}

/// What the checkpoint keeps beside the segments.
struct Kept {
    notes: Vec<Note>,
    /// The file is behind what is asked for.
    wanted: bool,
    /// Bytes synced since the file was written.
    synced_bytes: u64,
}

/// The writer's own view of the active segment.
struct Writer {
    options: LogOptions,
    active: Option<Active>,
    dir_ready: bool,
}

struct Active {
    segment: Arc<Segment>,
    part: Part,
    reserved: u64,
    chunk: usize,
    /// A failed write left bytes past the end that must be cut before the next one.
    torn: bool,
}

impl LocalLog {
    /// A log as recovery found it: every byte in `segments` is durable.
    pub fn new(
        id: LogId,
        dir: Arc<Path>,
        shared: Arc<Shared>,
        options: LogOptions,
        found: super::recovery::Found,
    ) -> Arc<Self> {
        let dir_ready = found.dir_ready;
        let active = found.segments.last().filter(|s| !locked(&s.tail).sealed).map(|segment| {
            let part = segment.part();
            Active { segment: segment.clone(), part, reserved: part.bytes, chunk: 0, torn: false }
        });
        Arc::new_cyclic(|this| Self {
            id,
            this: this.clone(),
            dir,
            shared,
            start: AtomicI64::new(found.start),
            end: AtomicI64::new(found.end),
            durable: Watermark::new(found.end),
            segments: RwLock::new(found.segments),
            interval: options.index_interval_bytes.into(),
            writer: Mutex::new(Writer { options, active, dir_ready }),
            flushing: Mutex::default(),
            syncing: Turn::default(),
            tidying: Turn::default(),
            state: Mutex::new(Kept { notes: found.notes, wanted: false, synced_bytes: 0 }),
            checkpointing: Mutex::default(),
            spare: Mutex::default(),
            written_back: AtomicU64::new(0),
            deleted: AtomicBool::new(false),
        })
    }

    fn list(&self) -> Vec<Arc<Segment>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The newest segment.
    fn last(&self) -> Option<Arc<Segment>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).last().cloned()
    }

    /// Segments with bytes that no sync has covered, oldest first: few, and always the newest.
    fn unsynced(&self) -> Vec<Arc<Segment>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let dirty = |segment: &&Arc<Segment>| {
            let tail = locked(&segment.tail);
            !tail.sealed || tail.part.bytes != locked(&segment.synced).bytes
        };
        let mut found: Vec<_> = segments.iter().rev().take_while(dirty).cloned().collect();
        found.reverse();
        found
    }

    /// The segment that holds `offset`.
    fn holding(&self, offset: i64) -> Option<Arc<Segment>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let after = segments.partition_point(|s| s.base <= offset);
        segments.get(after.checked_sub(1)?).cloned()
    }

    fn interval(&self) -> u32 {
        self.interval.load(Ordering::Relaxed)
    }

    fn out_of_range(&self) -> Error {
        Error::OutOfRange { start: self.start.load(Ordering::Acquire), end: self.end.load(Ordering::Acquire) }
    }

    fn write(&self, writer: &mut Writer, batches: &[Placed], now_ms: i64) -> Result<()> {
        if self.durable.is_fenced() || self.deleted.load(Ordering::Acquire) {
            return Err(Error::Fenced);
        }
        let total: u64 = batches.iter().map(|b| b.batch.bytes().len() as u64).sum();
        if writer.active.as_ref().is_some_and(|active| writer.options.must_roll(&active.part, total, now_ms))
        {
            self.roll(writer)?;
        }
        if writer.active.is_none() {
            self.open_segment(writer, now_ms)?;
        }
        let Some(active) = &mut writer.active else { return Err(Error::Fenced) };
        let handle = active.segment.handle(&self.shared.files)?;
        self.mend(active, &*handle.file)?;
        active.reserve(&*handle.file, total);
        if let Err(error) = write_batches(&*handle.file, batches, active.part.bytes) {
            active.torn = true;
            drop(self.mend(active, &*handle.file));
            return Err(failed("write", &active.segment.path())(error));
        }
        let headers = batches.iter().map(|placed| {
            let mut header = *placed.batch.header();
            header.base_offset = placed.base_offset;
            header
        });
        active.part = active.segment.publish(headers, writer.options.index_interval_bytes, now_ms);
        self.end.store(active.part.next_offset, Ordering::Release);
        let spare_due = active.part.bytes >= writer.options.segment_bytes / 10 * 9;
        let writeback_due = self.shared.early_writeback
            && active.part.bytes > self.written_back.load(Ordering::Relaxed) + WRITEBACK_BYTES;
        if writeback_due || (spare_due && locked(&self.spare).is_none()) {
            self.ask_tidy();
        }
        Ok(())
    }

    /// Cuts what a failed write left, durably, so that nothing past the end can ever pass for a batch.
    fn mend(&self, active: &mut Active, file: &dyn File) -> Result<()> {
        if active.torn {
            let path = active.segment.path();
            file.set_len(active.part.bytes).map_err(failed("truncate", &path))?;
            if let Err(error) = file.sync() {
                self.durable.fence();
                return Err(failed("fdatasync", &path)(error));
            }
            active.torn = false;
            active.reserved = active.part.bytes;
        }
        Ok(())
    }

    /// The active segment becomes a sealed one; its file is finished in the background.
    fn roll(&self, writer: &mut Writer) -> Result<()> {
        // An empty one (its first write failed) stays: the next would have the same name.
        if let Some(active) = writer.active.as_mut().filter(|active| active.part.bytes > 0) {
            let handle = active.segment.handle(&self.shared.files)?;
            self.mend(active, &*handle.file)?;
            locked(&active.segment.tail).seal();
            writer.active = None;
            locked(&self.state).wanted = true;
            self.ask_tidy();
        }
        Ok(())
    }

    fn open_segment(&self, writer: &mut Writer, now_ms: i64) -> Result<()> {
        let disk = &*self.shared.files.disk;
        let base = self.end.load(Ordering::Acquire);
        if !writer.dir_ready {
            // A directory with topics and no format file would be taken for a foreign one.
            self.shared.settle()?;
            disk.create_dirs(&self.dir).map_err(failed("create", &self.dir))?;
            self.shared.forget_past(self.id, &self.dir)?;
            writer.dir_ready = true;
        }
        let path = log_path(&self.dir, base);
        let spare = locked(&self.spare).take();
        let file = match spare {
            Some(file) if disk.rename(&self.dir.join(SPARE), &path).is_ok() => file,
            _ => disk.create(&path).map_err(failed("create", &path))?,
        };
        let part = Part::empty(base, now_ms);
        let segment = Arc::new(Segment::new(&self.dir, part, Some(Index::default()), false));
        segment.named.store(false, Ordering::Release);
        segment.adopt(file, &self.shared.files);
        self.segments.write().unwrap_or_else(PoisonError::into_inner).push(segment.clone());
        self.written_back.store(0, Ordering::Relaxed);
        writer.active = Some(Active { segment, part, reserved: 0, chunk: 0, torn: false });
        Ok(())
    }

    /// Syncs what is not synced yet, in order, and advances the durable watermark.
    pub fn flush(&self) -> Result<()> {
        let _one = locked(&self.flushing);
        if self.deleted.load(Ordering::Acquire) {
            return Ok(());
        }
        if self.durable.is_fenced() {
            return Err(Error::Fenced);
        }
        let flushed = self.flush_segments();
        if let Err(error) = &flushed {
            tracing::error!(log = %self.dir.display(), %error, "sync failed: the log is fenced for writes");
            self.durable.fence();
        }
        flushed
    }

    fn flush_segments(&self) -> Result<()> {
        let mut end = None;
        for segment in self.unsynced() {
            let part = segment.part();
            let before = *locked(&segment.synced);
            if part.bytes == before.bytes {
                continue;
            }
            self.shared.settle()?;
            let handle = segment.handle(&self.shared.files)?;
            handle.file.sync().map_err(failed("fdatasync", &segment.path()))?;
            if !segment.named.load(Ordering::Acquire) {
                self.sync_names()?;
                segment.named.store(true, Ordering::Release);
            }
            *locked(&segment.synced) = part;
            locked(&self.state).synced_bytes += part.bytes - before.bytes;
            end = Some(part.next_offset);
        }
        if let Some(end) = end {
            self.durable.advance(end);
        }
        Ok(())
    }

    /// Makes the log's directory entries durable, and those of the directories above it up to the store's.
    fn sync_names(&self) -> Result<()> {
        let disk = &*self.shared.files.disk;
        let [partition, topic, topics, store] = [0, 1, 2, 3].map(|n| self.dir.ancestors().nth(n));
        // A topic's own name is made durable once, by the first of its logs.
        let above =
            if locked(&self.shared.named).contains(&self.id.topic) { [None, None] } else { [store, topics] };
        for dir in above.into_iter().chain([topic, partition]).flatten() {
            disk.sync_dir(dir).map_err(failed("sync", dir))?;
        }
        locked(&self.shared.named).insert(self.id.topic);
        Ok(())
    }

    /// Bytes that a recovery would have to scan.
    fn unsaved_bytes(&self) -> u64 {
        let unsynced = self.unsynced().iter().map(|s| s.part().bytes - locked(&s.synced).bytes).sum::<u64>();
        locked(&self.state).synced_bytes + unsynced
    }

    /// Whether a sync has something to do.
    pub fn is_dirty(&self) -> bool {
        self.durable.value() < self.end.load(Ordering::Acquire)
    }

    /// One turn of a sync thread; true when another is wanted.
    pub fn sync_turn(&self) -> bool {
        self.syncing.begin();
        if self.flush().is_ok() && locked(&self.state).synced_bytes >= CHECKPOINT_BYTES {
            locked(&self.state).wanted = true;
            self.ask_tidy();
        }
        self.syncing.end()
    }

    fn queue_sync(&self) {
        if let Some(this) = self.this.upgrade() {
            self.shared.syncers.submit(Job::Sync(this));
        }
    }

    fn ask_tidy(&self) {
        if self.tidying.ask() {
            self.queue_tidy();
        }
    }

    fn queue_tidy(&self) {
        if let Some(this) = self.this.upgrade() {
            self.shared.tidier.submit(Job::Tidy(this));
        }
    }

    /// One turn of the background thread; true when another is wanted.
    pub fn tidy_turn(&self) -> bool {
        self.tidying.begin();
        if let Err(error) = self.tidy() {
            tracing::warn!(log = %self.dir.display(), %error, "upkeep failed; it is tried again with the next");
        }
        self.tidying.end()
    }

    fn tidy(&self) -> Result<()> {
        if self.deleted.load(Ordering::Acquire) {
            return Ok(());
        }
        self.prepare_spare();
        self.write_back();
        if !locked(&self.state).wanted {
            return Ok(());
        }
        self.flush()?;
        self.finish_sealed()?;
        self.write_checkpoint(i64::MIN)
    }

    /// Creates the next segment's file near the end of the active one, off the writer's path.
    fn prepare_spare(&self) {
        let Some(active) = self.last() else { return };
        let near = active.part().bytes >= self.shared.spare_from(&self.writer_options())
            && !locked(&active.tail).sealed;
        let mut spare = locked(&self.spare);
        if near && spare.is_none() {
            *spare = self.shared.files.disk.create(&self.dir.join(SPARE)).ok();
        }
    }

    fn writer_options(&self) -> LogOptions {
        // Taken without waiting: a turn that runs on the writer's own thread holds the lock already.
        self.writer
            .try_lock()
            .map_or(LogOptions { segment_bytes: u64::MAX, segment_ms: 0, index_interval_bytes: 0 }, |w| {
                w.options
            })
    }

    fn write_back(&self) {
        let Some(active) = self.last() else { return };
        let (bytes, from) = (active.part().bytes, self.written_back.load(Ordering::Relaxed));
        if self.shared.early_writeback
            && bytes > from + WRITEBACK_BYTES
            && let Ok(handle) = active.handle(&self.shared.files)
        {
            handle.file.start_writeback(from, bytes - from);
            self.written_back.store(bytes, Ordering::Relaxed);
        }
    }

    /// Writes the index of each sealed segment that has none yet and gives back its surplus blocks.
    fn finish_sealed(&self) -> Result<()> {
        let _one = locked(&self.checkpointing);
        for segment in self.list() {
            let pending = {
                let tail = locked(&segment.tail);
                tail.sealed && tail.index.is_some()
            };
            if !pending {
                continue;
            }
            let part = segment.part();
            let handle = segment.handle(&self.shared.files)?;
            trim_blocks(&segment, &*handle.file, part.bytes)?;
            if let Err(error) = handle.file.sync() {
                self.durable.fence();
                return Err(failed("fdatasync", &segment.path())(error));
            }
            let file =
                segment.with_index(&handle, self.interval(), |index| index.encode(part.base, part.bytes))?;
            let path = segment.index_path();
            replace(&*self.shared.files.disk, &path, &file).map_err(failed("write", &path))?;
            locked(&segment.tail).index = None;
        }
        Ok(())
    }

    /// What is durable of this log now.
    pub fn record(&self) -> Record {
        let start = self.start.load(Ordering::Acquire);
        let parts = self.list().iter().map(|s| *locked(&s.synced)).filter(|p| p.bytes > 0).collect();
        Record { start, parts, notes: locked(&self.state).notes.clone() }
    }

    /// Writes the checkpoint where recovery found something else than it says.
    pub fn rewrite_checkpoint(&self) -> Result<()> {
        self.write_checkpoint(i64::MIN)
    }

    /// Writes what is durable, with the start at `start` or where it is if that is higher; the start moves
    /// once that is on disk.
    fn write_checkpoint(&self, start: i64) -> Result<()> {
        let _one = locked(&self.checkpointing);
        {
            let mut state = locked(&self.state);
            state.wanted = false;
            state.synced_bytes = 0;
        }
        let mut record = self.record();
        record.start = record.start.max(start);
        let file = Records::encode(self.shared.generation, [(&self.id, &record)].into_iter());
        let path = self.dir.join(CHECKPOINT);
        self.shared.settle()?;
        replace(&*self.shared.files.disk, &path, &file).map_err(failed("write", &path))?;
        self.start.fetch_max(record.start, Ordering::AcqRel);
        Ok(())
    }

    /// Ends the log for a clean close: everything synced, surplus blocks given back.
    pub fn finish(&self) -> Result<Record> {
        // First, and with no sync of its own: blocks that a crash leaves past the end harm nobody.
        if let Some(active) = &mut locked(&self.writer).active
            && active.reserved > active.part.bytes
        {
            let handle = active.segment.handle(&self.shared.files)?;
            trim_blocks(&active.segment, &*handle.file, active.part.bytes)?;
            active.reserved = active.part.bytes;
        }
        self.flush()?;
        self.finish_sealed()?;
        Ok(self.record())
    }

    /// Takes the log out of service; its files are the caller's to remove.
    pub fn retire(&self) {
        let _writer = locked(&self.writer);
        self.deleted.store(true, Ordering::Release);
        self.durable.fence();
        let _flush = locked(&self.flushing);
    }

    /// Shows the headers of every batch from `offset` on.
    pub fn replay(&self, offset: i64, replay: &mut dyn FnMut(&crate::batch::Header)) -> Result<()> {
        for segment in self.list() {
            let part = segment.part();
            if part.next_offset <= offset || part.bytes == 0 {
                continue;
            }
            let handle = segment.handle(&self.shared.files)?;
            let from = segment.locate(&handle, offset.max(part.base), self.interval())?;
            segment.walk::<()>(&handle, from, part.bytes, |header, _| {
                replay(header);
                ControlFlow::Continue(())
            })?;
        }
        Ok(())
    }

    fn slice(&self, segment: &Segment, handle: &Arc<Handle>, from: u64, until: u64) -> Result<Slice> {
        let at = usize::try_from(from).map_err(|_| segment.corrupt(from, "past the address space"))?;
        let len =
            usize::try_from(until - from).map_err(|_| segment.corrupt(from, "past the address space"))?;
        if until - from > HEAP_READ_BYTES
            && let Some(map) = handle.mapping(until)
        {
            return Ok(Slice::Mapped(Mapped { map, file: handle.file.clone(), at, len }));
        }
        let mut buf = vec![0; len];
        match read_exact(&*handle.file, &mut buf, from) {
            Ok(()) => Ok(Slice::Heap(buf.into())),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(segment.corrupt(from, "cut off")),
            Err(e) => Err(failed("read", &segment.path())(e)),
        }
    }

    fn drop_below(&self, start: i64) {
        let dropped: Vec<_> = {
            let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
            let below = |segment: &&Arc<Segment>| {
                let tail = locked(&segment.tail);
                tail.sealed && tail.part.next_offset <= start
            };
            let below = segments.iter().take_while(below).count();
            segments.drain(..below).collect()
        };
        let disk = &self.shared.files.disk;
        for segment in dropped {
            segment.forget_handle();
            let (path, gone) = (segment.path(), segment.path().with_extension("deleted"));
            if disk.rename(&path, &gone).is_ok() {
                self.shared.tidier.submit(Job::RemoveFile(disk.clone(), gone));
            }
            if locked(&segment.tail).index.is_none() {
                self.shared.tidier.submit(Job::RemoveFile(disk.clone(), segment.index_path()));
            }
        }
    }
}

/// The checkpoint's name in a log's directory.
pub(super) const CHECKPOINT: &str = "checkpoint";
/// The name of a segment file made ahead of its need.
pub(super) const SPARE: &str = "spare";

impl Log for LocalLog {
    fn append(&self, batches: &[Placed], now_ms: i64) -> Result<()> {
        if batches.is_empty() {
            return Ok(());
        }
        self.write(&mut locked(&self.writer), batches, now_ms)
    }

    fn read(&self, offset: i64, max_bytes: usize, until: i64) -> Result<Slice> {
        let end = self.end.load(Ordering::Acquire);
        if offset < self.start.load(Ordering::Acquire) || offset > end {
            return Err(self.out_of_range());
        }
        let until = until.min(end);
        if offset >= until {
            return Ok(Slice::empty());
        }
        let segment = self.holding(offset).ok_or_else(|| self.out_of_range())?;
        let handle = segment.handle(&self.shared.files)?;
        let from = segment.locate(&handle, offset, self.interval())?;
        let limit = segment.locate(&handle, until, self.interval())?;
        if limit <= from {
            return Ok(Slice::empty());
        }
        let cut = segment.cut(&handle, from, limit, max_bytes as u64, self.interval())?;
        self.slice(&segment, &handle, from, cut)
    }

    fn seek_time(&self, timestamp: i64) -> Result<Option<i64>> {
        let start = self.start.load(Ordering::Acquire);
        for segment in self.list() {
            let part = segment.part();
            if part.newest.0 < timestamp || part.next_offset <= start {
                continue;
            }
            let handle = segment.handle(&self.shared.files)?;
            let mut from =
                segment.with_index(&handle, self.interval(), |index| index.floor_time(timestamp))?;
            if start > segment.base {
                from = from.max(segment.locate(&handle, start, self.interval())?);
            }
            let found = segment.walk(&handle, from, part.bytes, |header, _| {
                let hit = header.max_timestamp >= timestamp && header.last_offset() >= start;
                if hit { ControlFlow::Break(header.base_offset) } else { ControlFlow::Continue(()) }
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn max_timestamp(&self) -> Result<Option<(i64, i64)>> {
        let start = self.start.load(Ordering::Acquire);
        let mut best: Option<(i64, i64)> = None;
        for segment in self.list() {
            let part = segment.part();
            if part.bytes == 0 || part.next_offset <= start || best.is_some_and(|(_, t)| t >= part.newest.0) {
                continue;
            }
            if part.newest.1 >= start {
                best = Some((part.newest.1, part.newest.0));
                continue;
            }
            // The newest batch may lie below the start: look at what is left of this segment.
            let handle = segment.handle(&self.shared.files)?;
            let from = segment.locate(&handle, start, self.interval())?;
            segment.walk::<()>(&handle, from, part.bytes, |header, _| {
                if best.is_none_or(|(_, t)| header.max_timestamp > t) {
                    best = Some((header.base_offset, header.max_timestamp));
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(best)
    }

    fn trim_to(&self, offset: i64) -> Result<()> {
        let mut writer = locked(&self.writer);
        if offset > self.end.load(Ordering::Acquire) {
            return Err(self.out_of_range());
        }
        if offset <= self.start.load(Ordering::Acquire) {
            return Ok(());
        }
        if writer.active.as_ref().is_some_and(|active| active.part.next_offset <= offset) {
            self.roll(&mut writer)?;
        }
        // The record must not name a start past what is durable.
        self.flush()?;
        self.finish_sealed()?;
        self.write_checkpoint(offset)?;
        self.drop_below(offset);
        Ok(())
    }

    fn span(&self) -> Span {
        let (start, durable) = (self.start.load(Ordering::Acquire), self.durable.value());
        Span { start, durable, end: self.end.load(Ordering::Acquire) }
    }

    fn segments(&self) -> Vec<Listed> {
        let listed = |segment: &Arc<Segment>| {
            let tail = locked(&segment.tail);
            Listed {
                base_offset: tail.part.base,
                next_offset: tail.part.next_offset,
                bytes: tail.part.bytes,
                max_timestamp: tail.part.newest.0,
                opened_ms: tail.part.opened_ms,
                sealed: tail.sealed,
            }
        };
        self.segments.read().unwrap_or_else(PoisonError::into_inner).iter().map(listed).collect()
    }

    fn durable(&self) -> &Watermark {
        &self.durable
    }

    fn sync(&self) {
        if self.is_dirty() && self.syncing.ask() {
            self.queue_sync();
        }
    }

    fn sync_in(&self, place: fn(&dyn Fn())) {
        // One sync at a time is made in place, so that no more than one of the caller's threads waits for
        // the disk, whatever the number of logs.
        let here = self.is_dirty() && !self.shared.in_place.swap(true, Ordering::AcqRel);
        let turn = here && self.syncing.take();
        if turn {
            place(&|| {
                if self.sync_turn() {
                    self.queue_sync();
                }
            });
        }
        if here {
            self.shared.in_place.store(false, Ordering::Release);
        }
        if !turn {
            self.sync();
        }
    }

    fn seal(&self) -> Result<()> {
        self.roll(&mut locked(&self.writer))
    }

    fn checkpoint(&self, note: &[u8]) -> Result<()> {
        let offset = self.end.load(Ordering::Acquire);
        {
            let mut state = locked(&self.state);
            state.notes.retain(|kept| kept.offset < offset);
            state.notes.push(Note { offset, bytes: Bytes::copy_from_slice(note) });
            let surplus = state.notes.len().saturating_sub(2);
            state.notes.drain(..surplus);
        }
        // A file costs five syncs, and thousands of logs may ask for one in the same second; while little would
        // have to be scanned without it, the note waits in memory for the next file or the close.
        if self.unsaved_bytes() >= self.shared.checkpoint_bytes && locked(&self.writer).dir_ready {
            locked(&self.state).wanted = true;
            self.ask_tidy();
        }
        Ok(())
    }

    fn set_options(&self, options: LogOptions) {
        locked(&self.writer).options = options;
        self.interval.store(options.index_interval_bytes, Ordering::Relaxed);
    }
}

impl LogOptions {
    fn must_roll(&self, part: &Part, more: u64, now_ms: i64) -> bool {
        let full = part.bytes + more > self.segment_bytes.min(u64::from(u32::MAX));
        let old = part.opened_ms >= 0 && now_ms.saturating_sub(part.opened_ms) > self.segment_ms;
        part.bytes > 0 && (full || old)
    }
}

impl Active {
    /// Reserves blocks ahead of the write; a file system that cannot is not asked again for this segment.
    fn reserve(&mut self, file: &dyn File, more: u64) {
        let need = self.part.bytes + more;
        if need <= self.reserved {
            return;
        }
        let chunk = RESERVE_BYTES.get(self.chunk).or(RESERVE_BYTES.last()).copied().unwrap_or(0);
        let bytes = chunk.max(need - self.reserved);
        if file.reserve(self.reserved, bytes).is_ok() {
            self.reserved += bytes;
            self.chunk += 1;
        } else {
            // Blocks that a full disk granted in part are given back.
            self.reserved = u64::MAX;
            drop(file.set_len(self.part.bytes));
        }
    }
}

/// Gives back the blocks past a segment's end. A file that somebody cut is left as it is: growing it again
/// would hide the loss behind zeros.
fn trim_blocks(segment: &Segment, file: &dyn File, bytes: u64) -> Result<()> {
    let path = segment.path();
    let found = file.bytes().map_err(failed("stat", &path))?;
    if found < bytes {
        return Err(segment.corrupt(found, "shorter than what was written"));
    }
    file.set_len(bytes).map_err(failed("truncate", &path))
}

/// Writes batches at `at`, the log's 16 bytes over the sender's: one system call unless there are very many.
fn write_batches(file: &dyn File, batches: &[Placed], mut at: u64) -> io::Result<()> {
    for some in batches.chunks(CALL_BATCHES) {
        let mut few = [[0; PREFIX_BYTES]; STACK_BATCHES];
        let mut many = Vec::new();
        let prefixes = match few.get_mut(..some.len()) {
            Some(few) => few,
            None => {
                many.resize(some.len(), [0; PREFIX_BYTES]);
                many.as_mut_slice()
            }
        };
        prefixes.iter_mut().zip(some).for_each(|(to, placed)| *to = prefix(placed));
        let mut few_parts = [IoSlice::new(&[]); 2 * STACK_BATCHES];
        let mut many_parts = Vec::new();
        let parts = match few_parts.get_mut(..2 * some.len()) {
            Some(few) => few,
            None => {
                many_parts.resize(2 * some.len(), IoSlice::new(&[]));
                many_parts.as_mut_slice()
            }
        };
        for (pair, (head, placed)) in parts.chunks_exact_mut(2).zip(prefixes.iter().zip(some)) {
            let rest = placed.batch.bytes().get(PREFIX_BYTES..).unwrap_or_default();
            if let [to_head, to_rest] = pair {
                *to_head = IoSlice::new(head);
                *to_rest = IoSlice::new(rest);
            }
        }
        at = write_parts(file, parts, at)?;
    }
    Ok(())
}

fn write_parts(file: &dyn File, mut parts: &mut [IoSlice<'_>], mut at: u64) -> io::Result<u64> {
    while !parts.is_empty() {
        match file.write_at(parts, at)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => {
                at += written as u64;
                IoSlice::advance_slices(&mut parts, written);
            }
        }
    }
    Ok(at)
}
