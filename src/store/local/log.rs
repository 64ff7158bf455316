//! One log on files: append, read, trim, seal, and the turns that its threads take.
//!
//! Invariant: `start <= end`. No file exists before the first append. `writer.rs` has the appends, `reader.rs`
//! the reads, `upkeep.rs` what threads do. Deliberately absent: retention policy, checks of batches.

mod reader;
mod upkeep;
mod writer;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;

use self::writer::{Active, Writer};
use super::ballast::Need;
use super::disk::{File, is_unreadable};
use super::marks::Slot;
use super::place::in_place;
use super::segment::{Owner, Segment};
use super::sync::{Again, Job, Turn};
use super::{Shared, locked};
use crate::lock::{Mutex, RwLock, rank};
use crate::store::{
    Error, Kind, Log, LogId, LogOptions, Note, Placed, Result, Segment as Listed, Slice, Span, Watermark,
};

/// The checkpoint's name in a log's directory.
pub(super) const CHECKPOINT: &str = "checkpoint";
/// The name of a segment file made ahead of its need.
pub(super) const SPARE: &str = "spare";

/// A log.
pub(super) struct LocalLog {
    id: LogId,
    this: Weak<Self>,
    dir: Arc<Path>,
    shared: Arc<Shared>,
    start: AtomicI64,
    end: AtomicI64,
    durable: Watermark,
    segments: RwLock<rank::Segments, Vec<Arc<Segment>>>,
    interval: AtomicU32,
    writer: Mutex<rank::LogWriter, Writer>,
    flushing: Mutex<rank::Flushing, ()>,
    syncing: Turn,
    tidying: Turn,
    state: Mutex<rank::CheckpointState, Kept>,
    checkpointing: Mutex<rank::Checkpointing, ()>,
    spare: Mutex<rank::Spare, Option<Arc<dyn File>>>,
    written_back: AtomicU64,
    deleted: AtomicBool,
    /// Where the log ended when it was opened: past its last segment where what followed is lost.
    opened_end: i64,
    /// Where it is told how far the log is durable; taken at the first sync.
    mark: OnceLock<Option<Slot>>,
    /// See [`Log::may_use_reserve`].
    essential: AtomicBool,
}

/// What the checkpoint keeps beside the segments.
struct Kept {
    notes: Vec<Note>,
    /// The file is behind what is asked for.
    wanted: bool,
    /// Bytes synced since the file was written.
    synced_bytes: u64,
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
            Active { segment: segment.clone(), part, reserved: part.bytes, torn: false }
        });
        Arc::new_cyclic(|this| Self {
            this: own(this, &found.segments),
            id,
            dir,
            shared,
            start: AtomicI64::new(found.start),
            end: AtomicI64::new(found.end),
            durable: Watermark::new(found.end),
            segments: RwLock::new(found.segments),
            interval: options.index_interval_bytes.into(),
            writer: Mutex::new(Writer { options, active, dir_ready, settled: false }),
            flushing: Mutex::default(),
            syncing: Turn::default(),
            tidying: Turn::default(),
            state: Mutex::new(Kept { notes: found.notes, wanted: false, synced_bytes: 0 }),
            checkpointing: Mutex::default(),
            spare: Mutex::default(),
            written_back: AtomicU64::new(0),
            deleted: AtomicBool::new(false),
            opened_end: found.end,
            mark: OnceLock::new(),
            essential: AtomicBool::new(false),
        })
    }

    fn list(&self) -> Vec<Arc<Segment>> {
        self.segments.read().clone()
    }

    /// The newest segment.
    fn last(&self) -> Option<Arc<Segment>> {
        self.segments.read().last().cloned()
    }

    /// The segment that holds `offset`.
    fn holding(&self, offset: i64) -> Option<Arc<Segment>> {
        let segments = self.segments.read();
        let after = segments.partition_point(|s| s.base <= offset);
        segments.get(after.checked_sub(1)?).cloned()
    }

    fn interval(&self) -> u32 {
        self.interval.load(Ordering::Relaxed)
    }

    fn out_of_range(&self) -> Error {
        Error::OutOfRange { start: self.start.load(Ordering::Acquire), end: self.end.load(Ordering::Acquire) }
    }

    /// Notes a failure, once, where it leaves the log; of a deleted log nothing is wrong.
    fn noted<T>(&self, kind: Kind, outcome: Result<T>) -> Result<T> {
        if outcome.is_err() && self.deleted.load(Ordering::Acquire) {
            return outcome;
        }
        self.shared.noted(kind, outcome)
    }

    /// As [`LocalLog::noted`], of a verb that may have fenced the log: that was told then.
    fn noted_unless_fenced<T>(&self, kind: Kind, outcome: Result<T>) -> Result<T> {
        if self.durable.is_fenced() { outcome } else { self.noted(kind, outcome) }
    }

    /// Takes the log out of service; its files are the caller's to remove.
    pub fn retire(&self) {
        {
            let _writer = locked(&self.writer);
            self.deleted.store(true, Ordering::Release);
            self.durable.delete();
            locked(&self.shared.reserving).remove(&self.id);
        }
        // Whoever syncs has done with it.
        let _flush = locked(&self.flushing);
    }

    fn drop_below(&self, start: i64) {
        let dropped: Vec<_> = {
            let mut segments = self.segments.write();
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
            self.shared.incidents.clear_below(&segment.path());
            let (path, gone) = (segment.path(), segment.path().with_extension("deleted"));
            if disk.rename(&path, &gone).is_ok() {
                self.shared.tidier.submit(Job::RemoveFile(disk.clone(), gone));
            }
            // There may be none, or one of its front.
            self.shared.tidier.submit(Job::RemoveFile(disk.clone(), segment.index_path()));
        }
    }
}

impl LocalLog {
    /// Appends; on a full disk once more with what is only reserved, and with what is kept back where that is for this log.
    fn append_or_make_room(&self, batches: &[Placed], now_ms: i64) -> Result<()> {
        let essential = self.essential.load(Ordering::Relaxed);
        let (ballast, incidents) = (&self.shared.ballast, &self.shared.incidents);
        if if essential { ballast.is_out(incidents) } else { ballast.is_short(incidents) } {
            return Err(Error::Full { path: self.shared.dir.clone() });
        }
        let mut writer = locked(&self.writer);
        match self.write(&mut writer, batches, now_ms) {
            Err(Error::Full { .. }) => in_place(self.shared.files.place, || {
                self.give_back_own(&mut writer);
                self.shared.give_back();
                let again = self.write(&mut writer, batches, now_ms);
                let full = matches!(again, Err(Error::Full { .. }));
                if essential && full && ballast.give_up(Need::Growth, incidents) {
                    return self.write(&mut writer, batches, now_ms);
                }
                again
            }),
            // A page that the disk does not give is not written in part: the next segment has pages of its own.
            Err(Error::Io { op: "write", source, .. }) if is_unreadable(&source) => {
                in_place(self.shared.files.place, || {
                    self.roll(&mut writer)?;
                    self.write(&mut writer, batches, now_ms)
                })
            }
            written => written,
        }
    }
}

/// Tells segments whose they are.
fn own(log: &Weak<LocalLog>, segments: &[Arc<Segment>]) -> Weak<LocalLog> {
    segments.iter().for_each(|segment| segment.belongs_to(log.clone()));
    log.clone()
}

impl Owner for LocalLog {
    fn sync_soon(&self) {
        self.sync();
    }

    fn sync_now(&self) {
        // What was in the way is told by the turn that comes.
        if self.flush().is_err() {
            self.sync();
        }
    }
}

impl Log for LocalLog {
    fn append(&self, batches: &[Placed], now_ms: i64) -> Result<()> {
        if batches.is_empty() {
            return Ok(());
        }
        let written = self.append_or_make_room(batches, now_ms);
        self.shared.files.make_room();
        self.noted_unless_fenced(Kind::WriteFailed, written)
    }

    fn may_use_reserve(&self) {
        self.essential.store(true, Ordering::Relaxed);
    }

    fn read(&self, offset: i64, max_bytes: usize, min_one_message: bool, until: i64) -> Result<Slice> {
        self.reading(|| self.read_slice(offset, max_bytes as u64, min_one_message, until))
    }

    fn seek_time(&self, timestamp: i64, from: i64) -> Result<Option<i64>> {
        self.reading(|| self.first_batch_since(timestamp, from))
    }

    fn max_timestamp(&self, from: i64) -> Result<Option<(i64, i64)>> {
        self.reading(|| self.newest_batch(from))
    }

    fn trim_to(&self, offset: i64) -> Result<()> {
        if offset > self.end.load(Ordering::Acquire) {
            return Err(self.out_of_range());
        }
        // What no record ever had goes with what lies before it.
        let offset = self.goes_on_at(offset);
        if offset <= self.start.load(Ordering::Acquire) {
            return Ok(());
        }
        {
            let mut writer = locked(&self.writer);
            if writer.active.as_ref().is_some_and(|active| active.part.next_offset <= offset) {
                let rolled = self.roll(&mut writer);
                self.noted_unless_fenced(Kind::WriteFailed, rolled)?;
            }
        }
        // The writer goes on meanwhile. The record must not name a start past what is durable. Indexes are the tidier's: most
        // of the segments are about to go.
        let record = || self.flush().and_then(|()| self.write_checkpoint(offset));
        let recorded = self.shared.ballast.spend(Need::Relief, &self.shared.incidents, record);
        self.noted_unless_fenced(Kind::UpkeepFailed, recorded)?;
        self.drop_below(offset);
        Ok(())
    }

    fn goes_on_at(&self, offset: i64) -> i64 {
        let before = self.holding(offset).filter(|segment| offset >= segment.part().next_offset);
        before.map_or(offset, |segment| offset.max(segment.goes_on_at()))
    }

    fn span(&self) -> Span {
        let (start, durable) = (self.start.load(Ordering::Acquire), self.durable.value());
        Span { start, durable, end: self.end.load(Ordering::Acquire) }
    }

    fn segments(&self) -> Vec<Listed> {
        let listed = |segment: &Arc<Segment>| {
            let behind = segment.goes_on_at();
            let tail = locked(&segment.tail);
            Listed {
                base_offset: tail.part.base,
                next_offset: tail.part.next_offset.max(behind),
                bytes: tail.part.bytes,
                max_timestamp: tail.part.newest.0,
                opened_ms: tail.part.opened_ms,
                sealed: tail.sealed,
            }
        };
        self.segments.read().iter().map(listed).collect()
    }

    fn damaged(&self) -> Vec<(i64, i64)> {
        let (start, end) = (self.start.load(Ordering::Acquire), self.end.load(Ordering::Acquire));
        let (mut lost, mut next) = (Vec::new(), start);
        for segment in self.list() {
            lost.push((next, segment.base));
            let holes = segment.holes.list();
            lost.extend(holes.iter().filter(|hole| !hole.is_gap()).map(|hole| (hole.from, hole.to)));
            next = segment.goes_on_at();
        }
        lost.push((next, end));
        lost.retain(|(from, to)| from < to && *to > start);
        lost
    }

    fn durable(&self) -> &Watermark {
        &self.durable
    }

    fn sync(&self) {
        if self.is_dirty() && self.syncing.ask() {
            self.queue_sync(&self.shared.syncers);
        }
    }

    fn sync_among_many(&self) {
        if self.is_dirty() && self.syncing.ask_among_many() {
            self.queue_sync(&self.shared.wide_syncers);
        }
    }

    fn sync_in(&self, place: fn(&dyn Fn())) {
        // One sync at a time is made in place, so that no more than one of the caller's threads waits for
        // the disk, whatever the number of logs.
        let here = self.is_dirty() && !self.shared.in_place.swap(true, Ordering::AcqRel);
        let turn = here && self.syncing.take();
        if turn {
            place(&|| {
                if self.sync_turn() != Again::No {
                    self.queue_sync(&self.shared.syncers);
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
        let rolled = self.roll(&mut locked(&self.writer));
        self.noted_unless_fenced(Kind::WriteFailed, rolled)
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
