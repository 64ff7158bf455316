//! What a log's threads do for it: syncs, and the work that must not hold up a writer.
//!
//! Invariant: the durable watermark moves only after a sync that covered the bytes and after the file's name is
//! durable; a failed sync fences the log and is never retried. Deliberately absent: the threads (`sync.rs`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::ballast::Need;
use super::super::checkpoint::{Record, Records, replace, replace_unnamed, write_whole};
use super::super::disk::File;
use super::super::handle::Handle;
use super::super::hole::Hole;
use super::super::outline::Want;
use super::super::segment::Segment;
use super::super::sync::{Again, Job, Workers, side_by_side};
use super::super::{failed, locked};
use super::{CHECKPOINT, LocalLog, SPARE};
use crate::store::{Error, Kind, LogOptions, Note, Result};

/// Dirty bytes after which writeback is started early, so that a sync finds little to do.
pub(super) const WRITEBACK_BYTES: u64 = 8 << 20;
/// Synced bytes past the last checkpoint after which a new one is written: bounds the recovery scan.
const CHECKPOINT_BYTES: u64 = 64 << 20;
/// Bytes of the active segment past its saved index from which on that is written again.
const INDEX_BYTES: u64 = 1 << 20;

/// A whole index.
const ALL: Want = Want::Span(0, u64::MAX);

/// Why a flush did not come to its end.
enum Setback {
    /// The disk was not asked to make anything durable, or will be asked for all of it again: it may work later.
    Refused(Error),
    /// A sync failed: nobody can tell what is on the disk, and the next one would not say.
    Lost(Error),
}

impl LocalLog {
    /// Syncs what is not synced yet, in order, and advances the durable watermark.
    pub fn flush(&self) -> Result<()> {
        let _one = locked(&self.flushing);
        if self.deleted.load(Ordering::Acquire) {
            return Ok(());
        }
        if self.durable.is_fenced() {
            return Err(Error::Fenced);
        }
        self.flush_segments().map_err(|setback| match setback {
            Setback::Refused(error) => error,
            Setback::Lost(error) => {
                // A log that is deleted meanwhile has lost its files to that, not to the disk.
                if !self.deleted.load(Ordering::Acquire) {
                    self.fence(&error);
                }
                error
            }
        })
    }

    /// Takes no more writes until a restart has read what the disk holds.
    pub(super) fn fence(&self, error: &Error) {
        let text = format_args!("{error}: the log is fenced for writes until a restart reads it again");
        self.shared.incidents.raise(Kind::SyncFailed, &self.dir.to_string_lossy(), &text);
        self.durable.fence();
    }

    fn flush_segments(&self) -> std::result::Result<(), Setback> {
        let mut dirty = Vec::new();
        for segment in self.unsynced() {
            let part = segment.part();
            if part.bytes != segment.synced().bytes {
                let handle = segment.handle(&self.shared.files).map_err(Setback::Refused)?;
                dirty.push((segment, part, handle));
            }
        }
        if dirty.is_empty() {
            return Ok(());
        }
        self.shared.settle().map_err(Setback::Refused)?;
        // One, or two after a roll, but where syncs are slower than appends. They count in order, whenever they were made.
        let mut ahead: Vec<_> = dirty.iter().map(|_| None).collect();
        if dirty.len() > 2 && self.shared.side_by_side > 1 {
            let sync = |(_, _, handle): &(_, _, Arc<Handle>)| handle.file.sync();
            for (at, synced) in side_by_side(&dirty, self.shared.side_by_side, sync) {
                if let Some(ahead) = ahead.get_mut(at) {
                    *ahead = Some(synced);
                }
            }
        }
        for ((segment, part, handle), ahead) in dirty.into_iter().zip(ahead) {
            let lost = |error| Setback::Lost(failed("fdatasync", &segment.path())(error));
            ahead.unwrap_or_else(|| handle.file.sync()).map_err(lost)?;
            if !segment.named.load(Ordering::Acquire) {
                self.sync_names()?;
                segment.named.store(true, Ordering::Release);
            }
            let before = segment.synced();
            segment.mark_synced(part);
            locked(&self.state).synced_bytes += part.bytes - before.bytes;
            if let Some(slot) = self.mark.get_or_init(|| self.shared.marks.slot(self.id)) {
                slot.tell(self.id, part.next_offset);
            }
            self.durable.advance(part.next_offset);
        }
        Ok(())
    }

    /// Makes the log's directory entries durable, and those of the directories above it up to the store's.
    fn sync_names(&self) -> std::result::Result<(), Setback> {
        let disk = &*self.shared.files.disk;
        let [partition, topic, topics, store] = [0, 1, 2, 3].map(|n| self.dir.ancestors().nth(n));
        // A topic's own name is made durable once, by the first of its logs.
        let above =
            if locked(&self.shared.named).contains(&self.id.topic) { [None, None] } else { [store, topics] };
        for dir in above.into_iter().chain([topic, partition]).flatten() {
            let open = disk.open_dir(dir).map_err(|error| Setback::Refused(failed("open", dir)(error)))?;
            open.sync().map_err(|error| Setback::Lost(failed("sync", dir)(error)))?;
        }
        locked(&self.shared.named).insert(self.id.topic);
        Ok(())
    }

    /// Segments with bytes that no sync has covered, oldest first: few, and always the newest.
    fn unsynced(&self) -> Vec<Arc<Segment>> {
        let segments = self.segments.read();
        let dirty = |segment: &&Arc<Segment>| {
            let tail = locked(&segment.tail);
            !tail.sealed || tail.part.bytes != segment.synced().bytes
        };
        let mut found: Vec<_> = segments.iter().rev().take_while(dirty).cloned().collect();
        found.reverse();
        found
    }

    /// Bytes that a recovery would have to scan.
    pub(super) fn unsaved_bytes(&self) -> u64 {
        let unsynced = self.unsynced().iter().map(|s| s.part().bytes - s.synced().bytes).sum::<u64>();
        locked(&self.state).synced_bytes + unsynced
    }

    /// Whether a sync has something to do.
    pub fn is_dirty(&self) -> bool {
        self.durable.value() < self.end.load(Ordering::Acquire)
    }

    /// One turn of a sync thread.
    pub fn sync_turn(&self) -> Again {
        self.syncing.begin();
        let flushed = self.flush();
        if flushed.is_ok() && locked(&self.state).synced_bytes >= CHECKPOINT_BYTES {
            locked(&self.state).wanted = true;
            self.ask_tidy();
        }
        // Whoever waits for the sync waits until it works, or until it is known that it cannot.
        if let Err(error) = &flushed
            && !self.durable.is_fenced()
            && !self.deleted.load(Ordering::Acquire)
        {
            self.shared.incidents.note_error(Kind::UpkeepFailed, error);
            self.syncing.keep();
            return Again::Later;
        }
        if self.syncing.end() { Again::Now } else { Again::No }
    }

    /// Nobody is going to take the turn that was wanted; whoever asks next queues it anew.
    pub fn abandon_sync(&self) {
        self.syncing.abandon();
    }

    pub(super) fn queue_sync(&self, syncers: &Arc<Workers>) {
        if let Some(this) = self.this.upgrade() {
            syncers.submit(Job::Sync(this));
        }
    }

    pub(super) fn ask_tidy(&self) {
        if self.tidying.ask() {
            self.queue_tidy();
        }
    }

    fn queue_tidy(&self) {
        if let Some(this) = self.this.upgrade() {
            self.shared.tidier.submit(Job::Tidy(this));
        }
    }

    /// One turn of the background thread.
    pub fn tidy_turn(&self) -> Again {
        self.tidying.begin();
        // A sync that failed was told, and a deleted log has nothing to tell; anything else is tried again with the next.
        if let Err(error) = self.tidy()
            && !self.durable.is_fenced()
            && !self.deleted.load(Ordering::Acquire)
        {
            self.shared.incidents.note_error(Kind::UpkeepFailed, &error);
        }
        if self.tidying.end() { Again::Now } else { Again::No }
    }

    fn tidy(&self) -> Result<()> {
        if self.deleted.load(Ordering::Acquire) {
            return Ok(());
        }
        self.prepare_spare();
        self.write_back();
        // Taken now: what is wanted from here on is the next turn's.
        if !std::mem::take(&mut locked(&self.state).wanted) {
            return Ok(());
        }
        let written = self.flush().and_then(|()| self.finish_sealed()).and_then(|()| {
            self.save_index();
            let write = || self.write_checkpoint(i64::MIN);
            self.shared.ballast.spend(Need::Relief, &self.shared.incidents, write)
        });
        if written.is_err() {
            locked(&self.state).wanted = true;
        }
        written
    }

    /// Writes the index of the active segment as far as its bytes are durable, so that no later life has to walk them. Not
    /// synced, and no harm when it fails: an index that does not check out is made anew.
    fn save_index(&self) {
        // One at a time: the name of the temporary file is the sealed index', too.
        let _one = locked(&self.checkpointing);
        let Some(active) = self.last().filter(|active| !locked(&active.tail).sealed) else { return };
        let (part, synced) = (active.part(), active.synced().bytes);
        if synced < active.indexed.load(Ordering::Relaxed) + INDEX_BYTES {
            return;
        }
        let saved = active.handle(&self.shared.files).and_then(|handle| {
            let file = active
                .with_index(&handle, self.interval(), ALL, |index| index.encode_front(&part, synced))?;
            let Some((covered, bytes)) = file else { return Ok(()) };
            let (disk, path) = (&*self.shared.files.disk, active.index_path());
            write_whole(disk, &path, &bytes).map_err(failed("write", &path))?;
            active.indexed.store(covered, Ordering::Relaxed);
            Ok(())
        });
        if let Err(error) = saved {
            self.shared.incidents.note(Kind::UpkeepFailed, &error);
        }
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

    /// Writes the index of each sealed segment that has none yet and gives back its surplus blocks. An index that cannot be
    /// written stays wanted: nothing but the next reader's time depends on it.
    pub(super) fn finish_sealed(&self) -> Result<()> {
        let _one = locked(&self.checkpointing);
        let mut pending = self.list();
        pending.retain(|segment| {
            let tail = locked(&segment.tail);
            tail.sealed && tail.index.is_some()
        });
        let mut indexed = Vec::new();
        let finish = |segment: &_| self.finish_one(segment);
        for (at, written) in side_by_side(&pending, self.shared.side_by_side, finish) {
            let Some(segment) = pending.get(at) else { continue };
            match written {
                Ok(true) => indexed.push(segment),
                Ok(false) => {}
                // It was trimmed meanwhile, and its file is gone.
                Err(_) if segment.part().next_offset <= self.start.load(Ordering::Acquire) => {}
                Err(error) => return Err(error),
            }
        }
        if !indexed.is_empty() {
            self.shared.files.disk.sync_dir(&self.dir).map_err(failed("sync", &self.dir))?;
        }
        indexed.iter().for_each(|segment| locked(&segment.tail).index = None);
        Ok(())
    }

    /// The newest note, also of what no sync has covered yet: whoever opens a log that is open reads that, too.
    pub fn newest_note(&self) -> Option<Note> {
        locked(&self.state).notes.last().cloned()
    }

    /// Gives back blocks and writes the index, whose name is not durable yet; whether it could be written.
    fn finish_one(&self, segment: &Arc<Segment>) -> Result<bool> {
        let part = segment.part();
        let handle = segment.handle(&self.shared.files)?;
        self.trim_blocks(segment, &*handle.file, part.bytes)?;
        // What was sealed since the flush.
        if segment.synced().bytes != part.bytes
            && let Err(error) = handle.file.sync()
        {
            let error = failed("fdatasync", &segment.path())(error);
            self.fence(&error);
            return Err(error);
        }
        let file = segment.with_index(&handle, self.interval(), ALL, |index| index.encode(&part))?;
        let (disk, path) = (&*self.shared.files.disk, segment.index_path());
        let written = replace_unnamed(disk, &path, &file).map_err(failed("write", &path));
        let written = self.noted(Kind::UpkeepFailed, written);
        if written.is_err() {
            locked(&self.state).wanted = true;
        }
        Ok(written.is_ok())
    }

    /// What is durable of this log now.
    pub fn record(&self) -> Record {
        let start = self.start.load(Ordering::Acquire);
        let segments = self.list();
        // The newest first: by the time that something of one is synced, all of those before it is.
        let mut synced: Vec<_> = segments.iter().rev().map(|s| (s, s.synced())).collect();
        synced.reverse();
        synced.retain(|(_, part)| part.bytes > 0);
        let holes = synced.iter().flat_map(|(segment, part)| {
            let holes = segment.holes.list();
            let inside = |hole: &&Hole| hole.until <= part.bytes;
            holes.iter().filter(inside).map(|hole| (part.base, *hole)).collect::<Vec<_>>()
        });
        let holes = holes.collect();
        let parts = synced.iter().map(|(_, part)| *part).collect();
        let made_in = self.shared.generation;
        let mut record = Record { made_in, start, end: self.opened_end, parts, holes, notes: Vec::new() };
        // A note of what was never synced (a log that a failed sync has fenced) would tell of records that are not there.
        let end = record.end();
        record.notes = locked(&self.state).notes.iter().filter(|note| note.offset <= end).cloned().collect();
        record
    }

    /// Writes the checkpoint where recovery found something else than it says, with durable names for it.
    pub fn record_what_was_found(&self, unnamed: bool) -> Result<()> {
        if unnamed {
            self.shared.settle()?;
            // The log is not open yet: whoever asks again starts from what the disk holds.
            self.sync_names().map_err(|(Setback::Refused(error) | Setback::Lost(error))| error)?;
        }
        self.write_checkpoint(i64::MIN)
    }

    /// Has the checkpoint written with the next turn.
    pub fn want_checkpoint(&self) {
        locked(&self.state).wanted = true;
    }

    /// Writes what is durable, with the start at `start` or where it is if that is higher; the start moves
    /// once that is on disk.
    pub(super) fn write_checkpoint(&self, start: i64) -> Result<()> {
        let _one = locked(&self.checkpointing);
        let covered = locked(&self.state).synced_bytes;
        let mut record = self.record();
        record.start = record.start.max(start);
        let file = Records::encode(self.shared.generation, [(&self.id, &record)].into_iter());
        let path = self.dir.join(CHECKPOINT);
        self.shared.settle()?;
        replace(&*self.shared.files.disk, &path, &file).map_err(failed("write", &path))?;
        locked(&self.state).synced_bytes -= covered;
        self.start.fetch_max(record.start, Ordering::AcqRel);
        Ok(())
    }

    /// Ends the log for a clean close: everything synced, surplus blocks given back.
    pub fn finish(&self) -> Result<()> {
        // First, and with no sync of its own: blocks that a crash leaves past the end harm nobody.
        let trimmed = self.trim_active();
        self.flush()?;
        self.finish_sealed()?;
        self.save_index();
        trimmed
    }

    fn trim_active(&self) -> Result<()> {
        if let Some(active) = &mut locked(&self.writer).active
            && active.reserved > active.part.bytes
        {
            let handle = active.segment.handle(&self.shared.files)?;
            self.trim_blocks(&active.segment, &*handle.file, active.part.bytes)?;
            active.reserved = active.part.bytes;
        }
        Ok(())
    }

    /// Gives back the blocks past a segment's end. Where that fails it is told, and nothing else fails for it: they harm nobody.
    /// A file that somebody cut is left as it is: growing it again would hide the loss behind zeros.
    pub(super) fn trim_blocks(&self, segment: &Segment, file: &dyn File, bytes: u64) -> Result<()> {
        let path = segment.path();
        let found = file.bytes().map_err(failed("stat", &path))?;
        if found < bytes {
            return Err(segment.corrupt(found, "shorter than what was written"));
        }
        drop(self.noted(Kind::UpkeepFailed, file.set_len(bytes).map_err(failed("truncate", &path))));
        Ok(())
    }
}
