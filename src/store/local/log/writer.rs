//! The writing end of a log: the active segment, its roll, and blocks reserved ahead of it.
//!
//! Invariant: after a failed write the log ends where it did, and what the write left, if anything, is cut before the next
//! one. Deliberately absent: syncs, save the one that makes such a cut durable.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::checkpoint::Part;
use super::super::disk::File;
use super::super::index::Index;
use super::super::place::in_place;
use super::super::recovery::free_name;
use super::super::segment::{Segment, log_path, remove_index};
use super::super::{failed, locked};
use super::{LocalLog, SPARE};
use crate::batch::PREFIX_BYTES;
use crate::store::{Error, Kind, LogOptions, Placed, Result};

/// Blocks are reserved ahead: as many again as the segment holds, and no more than this.
const RESERVE_BYTES: u64 = 64 << 20;
/// A segment below this reserves nothing: thousands of logs may hold a record each.
const UNRESERVED_BYTES: u64 = 1 << 20;
/// Nothing is reserved where less than this share of the disk is free: its space is for what is written.
const FREE_SHARE: u64 = 8;
/// Batches whose vectors fit on the stack.
const STACK_BATCHES: usize = 16;
/// Batches per system call (two vectors each; the kernel's IOV_MAX is 1024).
const CALL_BATCHES: usize = 512;

/// The writer's own view of the active segment.
pub(super) struct Writer {
    pub(super) options: LogOptions,
    pub(super) active: Option<Active>,
    pub(super) dir_ready: bool,
    /// Whether this life's numbers are durable: without them no sync begins, and nobody should wait for one.
    pub(super) settled: bool,
}

pub(super) struct Active {
    pub(super) segment: Arc<Segment>,
    pub(super) part: Part,
    pub(super) reserved: u64,
    /// A failed write may have left bytes past the end that must be cut before the next one.
    pub(super) torn: bool,
}

impl LocalLog {
    pub(super) fn write(&self, writer: &mut Writer, batches: &[Placed], now_ms: i64) -> Result<()> {
        if self.deleted.load(Ordering::Acquire) {
            return Err(Error::Deleted);
        }
        if self.durable.is_fenced() {
            return Err(Error::Fenced);
        }
        let place = self.shared.files.place;
        if !writer.settled {
            // Most often the open has done it, which may wait.
            in_place(place, || self.shared.settle())?;
            writer.settled = true;
        }
        let total: u64 = batches.iter().map(|b| b.batch.bytes().len() as u64).sum();
        if writer.active.as_ref().is_some_and(|active| writer.options.must_roll(&active.part, total, now_ms))
        {
            self.roll(writer)?;
        }
        if writer.active.is_none() {
            in_place(place, || self.open_segment(writer, now_ms))?;
        }
        let Some(active) = &mut writer.active else { return Err(Error::Fenced) };
        if let Err(error) = self.write_to(active, batches, total) {
            if !active.torn {
                // Nothing of it is there, and nobody is going to sync it.
                active.segment.about_to_write(active.part.bytes);
            }
            return Err(error);
        }
        let headers = batches.iter().map(|placed| {
            let mut header = *placed.batch.header();
            header.base_offset = placed.base_offset;
            header.leader_epoch = placed.leader_epoch;
            header
        });
        active.part = active.segment.publish(headers, writer.options.index_interval_bytes, now_ms);
        self.end.store(active.part.next_offset, Ordering::Release);
        let spare_due = active.part.bytes >= writer.options.segment_bytes / 10 * 9;
        let writeback_due = self.shared.early_writeback
            && active.part.bytes > self.written_back.load(Ordering::Relaxed) + super::upkeep::WRITEBACK_BYTES;
        if writeback_due || (spare_due && locked(&self.spare).is_none()) {
            self.ask_tidy();
        }
        Ok(())
    }

    /// Writes behind what is there; what that leaves when it fails is cut at once, if it can be.
    fn write_to(&self, active: &mut Active, batches: &[Placed], total: u64) -> Result<()> {
        active.segment.about_to_write(active.part.bytes + total);
        let handle = active.segment.handle(&self.shared.files)?;
        self.mend(active, &*handle.file)?;
        if active.part.bytes + total > active.reserved.max(UNRESERVED_BYTES) {
            in_place(self.shared.files.place, || self.reserve(active, &*handle.file, total));
        }
        write_batches(&*handle.file, batches, active.part.bytes).map_err(|error| {
            active.torn = true;
            drop(self.mend(active, &*handle.file));
            failed("write", &active.segment.path())(error)
        })
    }

    /// Reserves blocks ahead of the write; a file system that cannot is not asked again for this segment.
    fn reserve(&self, active: &mut Active, file: &dyn File, more: u64) {
        let need = active.part.bytes + more;
        let bytes = active.part.bytes.clamp(UNRESERVED_BYTES, RESERVE_BYTES).max(more);
        let room = self.shared.files.disk.space(&self.shared.dir);
        if room.is_ok_and(|room| room.free_bytes < (room.total_bytes / FREE_SHARE).max(4 * bytes)) {
            // Asked again as many bytes later.
            active.reserved = need + bytes;
            return;
        }
        let from = active.reserved.clamp(active.part.bytes, need);
        if file.reserve(from, need + bytes - from).is_ok() {
            active.reserved = need + bytes;
            locked(&self.shared.reserving).insert(self.id, self.this.clone());
        } else {
            // Blocks that a full disk granted in part are given back.
            active.reserved = u64::MAX;
            drop(file.set_len(active.part.bytes));
        }
    }

    /// Gives back blocks past the end, unless the log is being written to.
    pub fn give_back(&self) {
        if let Some(mut writer) = self.writer.try_lock() {
            self.give_back_own(&mut writer);
        }
    }

    pub(super) fn give_back_own(&self, writer: &mut Writer) {
        let Some(active) = writer.active.as_mut().filter(|active| active.reserved > active.part.bytes) else {
            return;
        };
        // The bytes past the end of a torn write are cut by whoever writes next.
        if !active.torn
            && let Ok(handle) = active.segment.handle(&self.shared.files)
        {
            drop(self.trim_blocks(&active.segment, &*handle.file, active.part.bytes));
            active.reserved = active.part.bytes;
        }
    }

    /// Cuts what a failed write left, durably, so that nothing past the end can ever pass for a batch. Where it left nothing the
    /// file is not touched: a cut, also to the size that it has, reads the page that it ends in, which the disk may not give.
    fn mend(&self, active: &mut Active, file: &dyn File) -> Result<()> {
        if !active.torn {
            return Ok(());
        }
        in_place(self.shared.files.place, || {
            let path = active.segment.path();
            if file.bytes().map_err(failed("stat", &path))? <= active.part.bytes {
                active.torn = false;
                return Ok(());
            }
            file.set_len(active.part.bytes).map_err(failed("truncate", &path))?;
            if let Err(error) = file.sync() {
                let error = failed("fdatasync", &path)(error);
                self.fence(&error);
                return Err(error);
            }
            active.torn = false;
            active.reserved = active.part.bytes;
            Ok(())
        })
    }

    /// The active segment becomes a sealed one; its file is finished in the background.
    pub(super) fn roll(&self, writer: &mut Writer) -> Result<()> {
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
            // The numbers are settled: a directory with topics and no format file would be taken for a foreign one.
            self.shared.check_place()?;
            disk.create_dirs(&self.dir).map_err(failed("create", &self.dir))?;
            self.shared.forget_past(self.id, &self.dir)?;
            writer.dir_ready = true;
        }
        let path = log_path(&self.dir, base);
        if disk.file_bytes(&path).map_err(failed("stat", &path))?.is_some() {
            // Nobody knows of it, and a segment never shares its name with what somebody else may read or cut.
            let aside = free_name(disk, &path).map_err(failed("stat", &path))?;
            disk.rename(&path, &aside).map_err(failed("rename", &path))?;
            let text =
                format_args!("{}: in the next segment's place, kept as {}", path.display(), aside.display());
            self.shared.incidents.note(Kind::TailCut, &text);
        }
        remove_index(disk, &path)?;
        let spare = locked(&self.spare).take();
        let file = match spare {
            Some(file) if disk.rename(&self.dir.join(SPARE), &path).is_ok() => file,
            _ => disk.create_new(&path).map_err(failed("create", &path))?,
        };
        let part = Part::empty(base, now_ms);
        let segment = Segment::new(&self.dir, part, Vec::new(), Some(Index::default()), false, part);
        let segment = Arc::new(segment);
        segment.belongs_to(self.this.clone());
        segment.named.store(false, Ordering::Release);
        segment.adopt(file, &self.shared.files);
        self.segments.write().push(segment.clone());
        self.written_back.store(0, Ordering::Relaxed);
        writer.active = Some(Active { segment, part, reserved: 0, torn: false });
        Ok(())
    }
}

impl LogOptions {
    fn must_roll(&self, part: &Part, more: u64, now_ms: i64) -> bool {
        let full = part.bytes + more > self.segment_bytes.min(u64::from(u32::MAX));
        let old = part.opened_ms >= 0 && now_ms.saturating_sub(part.opened_ms) > self.segment_ms;
        part.bytes > 0 && (full || old)
    }
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
        prefixes.iter_mut().zip(some).for_each(|(to, placed)| *to = placed.prefix());
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
