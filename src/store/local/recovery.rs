//! Finds what a log's directory holds: trusts what a checkpoint names, scans what lies past it.
//!
//! Invariant: a bad batch past the checkpoint is a torn tail and is cut; one before it is damage and is
//! never cut (the caller quarantines). What was scanned is synced before it counts as durable.
//! Deliberately absent: replay of headers for the layer above.

use std::path::Path;
use std::sync::Arc;

use super::checkpoint::{Part, Record, Records, read_all};
use super::disk::{Disk, Entry, File};
use super::failed;
use super::index::Index;
use super::log::CHECKPOINT;
use super::segment::{Segment, add, log_path};
use crate::batch::{CRC_FROM, HEADER_BYTES, Header, crc32c};
use crate::store::{Error, LogId, Note, Result};

/// Read at a time while scanning.
const SCAN_BYTES: usize = 256 << 10;

/// A log's content.
#[derive(Default)]
pub(super) struct Found {
    pub segments: Vec<Arc<Segment>>,
    pub start: i64,
    pub end: i64,
    pub notes: Vec<Note>,
    pub dir_ready: bool,
    /// The checkpoint no longer says what is there.
    pub changed: bool,
    /// Leftovers to remove.
    pub leftovers: Vec<std::path::PathBuf>,
}

/// What is known of a log before looking: its record, and whether the store was closed cleanly after it.
pub(super) struct Known {
    pub record: Option<Record>,
    pub generation: u64,
    pub clean: bool,
}

/// Looks into `dir`.
pub(super) fn find(
    disk: &dyn Disk,
    dir: &Arc<Path>,
    id: LogId,
    known: Known,
    interval: u32,
) -> Result<Found> {
    let clean = known.clean;
    if let Some(record) = known.record.as_ref().filter(|_| clean)
        && sizes_fit(disk, dir, record)?
    {
        return Ok(trusted(dir, record));
    }
    let entries = disk.list(dir).map_err(failed("list", dir))?;
    if entries.is_empty() {
        let above = dir.parent().unwrap_or(dir);
        if !holds(&disk.list(above).map_err(failed("list", above))?, id) {
            return Ok(Found::default());
        }
    }
    let (record, damaged) = newest_record(disk, dir, id, known)?;
    Finder { disk, dir, interval, damaged }.run(&entries, record)
}

fn holds(above: &[Entry], id: LogId) -> bool {
    above.iter().any(|entry| entry.name == id.partition.to_string())
}

/// The record of the newer generation; a checkpoint that does not check out counts as absent.
fn newest_record(disk: &dyn Disk, dir: &Path, id: LogId, known: Known) -> Result<(Option<Record>, bool)> {
    let path = dir.join(CHECKPOINT);
    let bytes = read_all(disk, &path).map_err(failed("read", &path))?;
    let present = bytes.is_some();
    let own = bytes.and_then(Records::decode);
    let generation = own.as_ref().map(|own| own.generation);
    let own = own.and_then(|mut own| own.logs.remove(&id));
    if present && own.is_none() {
        tracing::warn!(path = %path.display(), "checkpoint does not check out: ignored");
    }
    let damaged = present && own.is_none();
    match (own, known.record) {
        (Some(own), Some(_)) if generation > Some(known.generation) => Ok((Some(own), damaged)),
        (Some(own), None) => Ok((Some(own), damaged)),
        (_, record) => Ok((record, damaged)),
    }
}

/// Whether the directory holds exactly the bytes that a clean close left.
fn sizes_fit(disk: &dyn Disk, dir: &Path, record: &Record) -> Result<bool> {
    for part in record.parts.iter().filter(|part| part.next_offset > record.start) {
        let path = log_path(dir, part.base);
        if disk.file_bytes(&path).map_err(failed("stat", &path))? != Some(part.bytes) {
            return Ok(false);
        }
    }
    let next = log_path(dir, record.end());
    Ok(disk.file_bytes(&next).map_err(failed("stat", &next))?.is_none())
}

fn trusted(dir: &Arc<Path>, record: &Record) -> Found {
    let live: Vec<_> = record.parts.iter().filter(|part| part.next_offset > record.start).collect();
    let sealed = live.len().saturating_sub(1);
    let segments = live.iter().enumerate().map(|(i, part)| {
        let index = (i == sealed).then(|| Index::starting_at(part.bytes));
        Arc::new(Segment::new(dir, **part, index, i < sealed))
    });
    Found {
        segments: segments.collect(),
        start: record.start,
        end: record.end(),
        notes: record.notes.clone(),
        // A log that was opened and never written is recorded too, and has no directory.
        dir_ready: record.end() > 0,
        ..Found::default()
    }
}

struct Finder<'a> {
    disk: &'a dyn Disk,
    dir: &'a Arc<Path>,
    interval: u32,
    /// A checkpoint is there but unreadable: nothing says what had been synced.
    damaged: bool,
}

impl Finder<'_> {
    fn run(&self, entries: &[Entry], record: Option<Record>) -> Result<Found> {
        let mut found = Found { dir_ready: true, ..Found::default() };
        let mut files = Vec::new();
        for entry in entries {
            match base_offset(entry) {
                Some(base) => files.push((base, entry.bytes)),
                None if half_written(entry) => {
                    let path = self.dir.join(&entry.name);
                    self.disk.remove_file(&path).map_err(failed("remove", &path))?;
                }
                None if leftover(entry) => found.leftovers.push(self.dir.join(&entry.name)),
                None => {}
            }
        }
        files.sort_unstable();
        let trusted = record.as_ref();
        let first = files.first().map_or(0, |(base, _)| *base);
        found.start = trusted.map_or(first, |record| record.start);
        let parts = trusted.map(|record| record.parts.as_slice()).unwrap_or_default();
        let live = parts.iter().find(|part| part.next_offset > found.start).map(|part| part.base);
        found.end = trusted.map_or(first, |record| live.unwrap_or_else(|| record.end()));
        self.check_known(parts, found.start, &files)?;
        let (floor, mut torn) = (found.end, false);
        for (i, (base, bytes)) in files.iter().enumerate() {
            let part = parts.iter().find(|part| part.base == *base).copied();
            let last_known = parts.last().is_none_or(|last| *base >= last.base);
            if *base < floor {
                // Trimmed in an earlier life, which ended before the file was gone.
                found.leftovers.push(log_path(self.dir, *base));
                continue;
            }
            if torn || (*base > found.end && last_known && !self.damaged) {
                self.set_aside(*base)?;
                (torn, found.changed) = (true, true);
                continue;
            }
            if *base != found.end {
                return Err(self.corrupt(*base, 0, "segments do not follow one another"));
            }
            let last = i + 1 == files.len();
            torn = self.take(&mut found, *base, *bytes, part, last_known, last)?;
        }
        found.end = found.end.max(found.start);
        self.settle_notes(&mut found, record);
        Ok(found)
    }

    /// Every byte that a checkpoint names must be there.
    fn check_known(&self, parts: &[Part], start: i64, files: &[(i64, u64)]) -> Result<()> {
        for part in parts.iter().filter(|part| part.next_offset > start) {
            match files.iter().find(|(base, _)| *base == part.base) {
                None => return Err(self.corrupt(part.base, 0, "segment is missing")),
                Some((_, bytes)) if *bytes < part.bytes => {
                    return Err(self.corrupt(part.base, *bytes, "shorter than what had been synced"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Takes one segment into `found`; true when its tail was torn off.
    fn take(
        &self,
        found: &mut Found,
        base: i64,
        bytes: u64,
        part: Option<Part>,
        open: bool,
        last: bool,
    ) -> Result<bool> {
        let known = part.unwrap_or_else(|| Part::empty(base, -1));
        if !open {
            if bytes != known.bytes {
                return Err(self.corrupt(base, known.bytes, "longer than when it was sealed"));
            }
            found.end = known.next_offset;
            found.segments.push(Arc::new(Segment::new(self.dir, known, None, true)));
            return Ok(false);
        }
        let path = log_path(self.dir, base);
        let file = self.disk.open(&path).map_err(failed("open", &path))?;
        let mut scan = Scan::new(&*file, known, bytes, self.interval);
        let tear = scan.run().map_err(failed("read", &path))?;
        if let Some(what) = tear {
            let position = scan.part.bytes;
            if self.damaged && !last {
                return Err(self.corrupt(base, position, what));
            }
            if scan.misplaced {
                return Err(self.corrupt(base, position, what));
            }
            tracing::warn!(path = %path.display(), position, what, "torn tail is cut");
            file.set_len(position).map_err(failed("truncate", &path))?;
        }
        if scan.part.bytes != known.bytes || tear.is_some() {
            file.sync().map_err(failed("fdatasync", &path))?;
            found.changed = true;
        }
        found.end = scan.part.next_offset;
        let sealed = !last && tear.is_none();
        found.segments.push(Arc::new(Segment::new(self.dir, scan.part, Some(scan.index), sealed)));
        Ok(tear.is_some())
    }

    /// A segment past a torn tail was never acknowledged as durable; it is kept under another name.
    fn set_aside(&self, base: i64) -> Result<()> {
        let path = log_path(self.dir, base);
        tracing::warn!(path = %path.display(), "segment past a torn tail is set aside");
        for n in 0.. {
            let aside = path.with_extension(format!("cut{n}"));
            if self.disk.file_bytes(&aside).map_err(failed("stat", &aside))?.is_none() {
                return self.disk.rename(&path, &aside).map_err(failed("rename", &path));
            }
        }
        Ok(())
    }

    fn settle_notes(&self, found: &mut Found, record: Option<Record>) {
        let notes = record.map(|record| record.notes).unwrap_or_default();
        let before = notes.len();
        found.notes = notes;
        let end = found.end;
        found.notes.retain(|note| note.offset <= end);
        // A note that does not fit must not come back when the log has grown past it again.
        found.changed |= found.notes.len() < before;
    }

    fn corrupt(&self, base: i64, position: u64, what: &str) -> Error {
        Error::Corrupt { path: log_path(self.dir, base), position, what: what.to_owned() }
    }
}

fn base_offset(entry: &Entry) -> Option<i64> {
    let digits = entry.name.strip_suffix(".log").filter(|d| d.len() == 20 && entry.is_file)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Removed in no hurry: nobody uses the name again.
fn leftover(entry: &Entry) -> bool {
    entry.is_file && entry.name.ends_with(".deleted")
}

/// Removed before the log opens, which writes files of the same names.
fn half_written(entry: &Entry) -> bool {
    entry.is_file && (entry.name.ends_with(".tmp") || entry.name == super::log::SPARE)
}

/// Reads batches one after the other and believes only those that check out.
struct Scan<'a> {
    file: &'a dyn File,
    part: Part,
    until: u64,
    index: Index,
    interval: u32,
    epoch: i32,
    /// The first batch that does not fit is whole and has a right checksum, but another place.
    misplaced: bool,
    buf: Vec<u8>,
    buf_at: u64,
}

impl<'a> Scan<'a> {
    fn new(file: &'a dyn File, part: Part, until: u64, interval: u32) -> Self {
        let index = Index::starting_at(part.bytes);
        let buf_at = part.bytes;
        Self {
            file,
            part,
            until,
            index,
            interval,
            epoch: i32::MIN,
            misplaced: false,
            buf: Vec::new(),
            buf_at,
        }
    }

    /// Runs to the end or to the first batch that does not fit, and says why it does not.
    fn run(&mut self) -> std::io::Result<Option<&'static str>> {
        while self.part.bytes < self.until {
            let at = self.part.bytes;
            let Some(header) = Header::read(self.peek(at)?) else { return Ok(Some("less than a header")) };
            let total = header.total_bytes().map(|total| total as u64);
            let Some(total) = total.filter(|total| header.magic == 2 && *total <= self.until - at) else {
                return Ok(Some(if header.length == 0 { "zeros" } else { "impossible length or magic" }));
            };
            if header.last_offset_delta < 0 || self.checksum(at, total)? != header.crc {
                return Ok(Some("checksum mismatch"));
            }
            if header.base_offset != self.part.next_offset {
                self.misplaced = true;
                return Ok(Some("offset does not follow"));
            }
            if header.leader_epoch < self.epoch {
                self.misplaced = true;
                return Ok(Some("leader epoch goes back"));
            }
            self.epoch = header.leader_epoch;
            self.index.push(self.part.base, &header, at, self.part.newest.0, self.interval);
            add(&mut self.part, &header);
        }
        Ok(None)
    }

    /// At least a header's worth of bytes at `at`, unless the file ends before.
    fn peek(&mut self, at: u64) -> std::io::Result<&[u8]> {
        let inside = usize::try_from(at - self.buf_at).unwrap_or(usize::MAX);
        if self.buf.get(inside..).is_none_or(|rest| rest.len() < HEADER_BYTES) {
            self.fill(at)?;
            return Ok(&self.buf);
        }
        Ok(self.buf.get(inside..).unwrap_or_default())
    }

    fn fill(&mut self, at: u64) -> std::io::Result<()> {
        let want = usize::try_from(self.until - at).unwrap_or(SCAN_BYTES).min(SCAN_BYTES);
        self.buf.resize(want, 0);
        self.buf_at = at;
        super::segment::read_exact(self.file, &mut self.buf, at)
    }

    fn checksum(&mut self, at: u64, total: u64) -> std::io::Result<u32> {
        let inside = usize::try_from(at - self.buf_at).unwrap_or(usize::MAX);
        let whole =
            usize::try_from(total).ok().and_then(|total| self.buf.get(inside..)?.get(CRC_FROM..total));
        if let Some(covered) = whole {
            return Ok(crc32c(covered));
        }
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        let (mut at, until) = (at + CRC_FROM as u64, at + total);
        while at < until {
            let inside = usize::try_from(at - self.buf_at).unwrap_or(usize::MAX);
            if inside >= self.buf.len() {
                self.fill(at)?;
                continue;
            }
            let rest = self.buf.get(inside..).unwrap_or_default();
            let some = rest.get(..usize::try_from(until - at).unwrap_or(usize::MAX)).unwrap_or(rest);
            digest.update(some);
            at += some.len() as u64;
        }
        #[allow(clippy::cast_possible_truncation, reason = "a 32-bit checksum in a wider return type")]
        let crc = digest.finalize() as u32;
        Ok(crc)
    }
}
