//! Finds what a log's directory holds: trusts what a checkpoint names, scans what lies past it.
//!
//! Invariant: a bad place is damage where what it held had been synced, or where whole batches follow and it does not look
//! like lost writes: it stays, its offsets are never used again, and the log is read up to it and after it. Anything
//! else is a torn tail: kept aside, then cut. What was scanned is synced before it counts as durable, and no two
//! segments want one name. Deliberately absent: replay of headers for the layer above.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoint::{Part, Record, Records, read_all};
use super::disk::{Disk, Entry, File, is_unreadable, read_exact};
use super::hole::{self, Hole};
use super::index::Index;
use super::log::CHECKPOINT;
use super::reread::look_again;
use super::scan::{Ahead, Bounds, Scan};
use super::segment::{Segment, log_path, remove_index};
use super::{failed, is_full};
use crate::batch::Header;
use crate::store::{Incidents, Kind, LogId, Note, Result};

/// Copied at a time.
const COPY_BYTES: usize = 256 << 10;

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
    /// There are files that no record names: a kill may have come before their names, or those above, were durable.
    pub unnamed: bool,
    /// Notes that the checkpoint names do not fit.
    pub notes_dropped: bool,
    /// Names have changed.
    pub renamed: bool,
    /// Leftovers to remove.
    pub leftovers: Vec<std::path::PathBuf>,
}

/// What is known of a log before looking: its record, and whether the store was closed cleanly after it.
pub(super) struct Known {
    pub record: Option<Record>,
    /// Of this life.
    pub generation: u64,
    pub clean: bool,
    /// Everything below had been told durable; `None` when nobody knows.
    pub mark: Option<i64>,
}

/// Looks into `dir`.
pub(super) fn find(
    disk: &dyn Disk,
    dir: &Arc<Path>,
    id: LogId,
    known: Known,
    interval: u32,
    incidents: &Incidents,
) -> Result<Found> {
    let (clean, mark, unclear) = (known.clean, known.mark.unwrap_or(0), known.mark.is_none());
    if let Some(record) = known.record.as_ref().filter(|_| clean)
        && sizes_fit(disk, dir, record)?
    {
        let mut record = record.clone();
        let changed = look_again(disk, dir, &mut record)?;
        return Ok(Found { changed, ..trusted(dir, &record) });
    }
    let entries = disk.list(dir).map_err(failed("list", dir))?;
    let mut present = true;
    if entries.is_empty() {
        let above = dir.parent().unwrap_or(dir);
        present = holds(&disk.list(above).map_err(failed("list", above))?, id);
        let parts = known.record.as_ref().map_or(0, |record| record.parts.len());
        if !present && parts == 0 && mark == 0 {
            return Ok(Found::default());
        }
    }
    let generation = known.generation;
    let (mut record, damaged) = newest_record(disk, dir, id, known, incidents)?;
    // The count of lives was set back: what this one knows counts from now on.
    let from_later = record.as_ref().is_some_and(|record| record.made_in > generation);
    let changed = record.as_mut().map(|record| look_again(disk, dir, record)).transpose()?;
    let unclear = unclear || damaged;
    let finder = Finder { disk, dir, interval, incidents, damaged, unclear, mark, present };
    let found = finder.run(&entries, record)?;
    Ok(Found { changed: found.changed || from_later || changed == Some(true), ..found })
}

fn holds(above: &[Entry], id: LogId) -> bool {
    above.iter().any(|entry| entry.name == id.partition.to_string())
}

/// The record of the newer generation; a checkpoint that does not check out counts as absent.
fn newest_record(
    disk: &dyn Disk,
    dir: &Path,
    id: LogId,
    known: Known,
    incidents: &Incidents,
) -> Result<(Option<Record>, bool)> {
    let path = dir.join(CHECKPOINT);
    let bytes = read_all(disk, &path).map_err(failed("read", &path))?;
    let present = bytes.is_some();
    let own = bytes.and_then(Records::decode);
    let own = own.and_then(|mut own| own.logs.remove(&id));
    if present && own.is_none() {
        let text = format_args!("{} does not check out: the log is scanned", path.display());
        incidents.note(Kind::FileDamaged, &text);
    }
    let damaged = present && own.is_none();
    match (own, known.record) {
        (Some(own), Some(record)) if own.made_in <= record.made_in => Ok((Some(record), damaged)),
        (own, record) => Ok((own.or(record), damaged)),
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
    let last = live.len().saturating_sub(1);
    let segments = live.iter().enumerate().map(|(i, part)| {
        let holes = record.holes_of(part.base);
        // Where the last one ends before the log, or in damage, the next append begins another.
        let active = i == last && part.next_offset == record.end() && !hole::ends(&holes, part.bytes);
        let index = active.then(|| Index::after(part));
        Arc::new(Segment::new(dir, **part, holes, index, !active, **part))
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
    incidents: &'a Incidents,
    /// A checkpoint is there but unreadable: what is known is older.
    damaged: bool,
    /// Nothing says what had been synced: that, or the log's mark is unreadable.
    unclear: bool,
    /// Everything below was on stable storage.
    mark: i64,
    /// Whether the directory is there.
    present: bool,
}

/// A segment as found, before it is known whether it is the last.
struct Piece {
    part: Part,
    index: Option<Index>,
    holes: Vec<Hole>,
    /// What a record names of it, and nobody has looked at.
    recorded: Part,
    /// Whether it may be appended to.
    whole: bool,
}

/// One name in the directory, or in the record.
struct Place {
    base: i64,
    /// Size of the file, if there is one.
    bytes: Option<u64>,
    part: Option<Part>,
}

impl Finder<'_> {
    fn run(&self, entries: &[Entry], record: Option<Record>) -> Result<Found> {
        let mut found = Found { dir_ready: self.present, ..Found::default() };
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
        let known = record.as_ref();
        let start = known.map_or(i64::MIN, |record| record.start);
        let trimmed =
            |entry: &&Entry| index_base(entry).is_some_and(|base| base < start && !has(&files, base));
        found.leftovers.extend(entries.iter().filter(trimmed).map(|entry| self.dir.join(&entry.name)));
        // A log begins at 0, and a later start is always recorded.
        let first = files.first().filter(|_| self.damaged).map_or(0, |(base, _)| *base);
        found.start = known.map_or(first, |record| record.start);
        let parts = known.map(|record| record.parts.as_slice()).unwrap_or_default();
        let live: Vec<Part> = parts.iter().filter(|part| part.next_offset > found.start).copied().collect();
        found.end = known.map_or(first, |record| live.first().map_or(record.end(), |part| part.base));
        let places = places(&files, &live);
        let (mut pieces, mut torn) = (Vec::new(), false);
        let recorded = places.iter().rposition(|place| place.part.is_some());
        for (i, place) in places.iter().enumerate() {
            let later = places.get(i + 1..).unwrap_or_default();
            if recorded.is_none_or(|last| i > last) {
                // Past what a record names the log goes on where it says, whatever is lost before that.
                found.end = found.end.max(known.map_or(0, Record::end));
            }
            let Some(bytes) = place.bytes else {
                let end = place.part.map_or(place.base, |part| part.next_offset);
                if self.damaged && pieces.is_empty() {
                    // The record is an older one than the checkpoint that cannot be read, which may have named a later start.
                    found.start = found.start.max(later.first().map_or(end, |next| next.base));
                    self.tell_start(found.start);
                    (found.end, found.changed) = (found.end.max(found.start), true);
                    continue;
                }
                self.say(place.base, 0, "segment is missing", found.end, end);
                (found.end, found.changed) = (found.end.max(end), true);
                continue;
            };
            if place.part.is_none() && place.base < found.end {
                let next = later.first().map_or(found.start, |next| next.base);
                if pieces.is_empty() && next <= found.start {
                    // Trimmed in an earlier life, which ended before the file was gone.
                    found.leftovers.push(log_path(self.dir, place.base));
                } else {
                    self.set_aside(&mut found, place.base, bytes, "segment overlaps the one before it")?;
                }
                continue;
            }
            if place.base > found.end && place.part.is_none() && !torn {
                torn = !self.was_durable(found.end);
                if !torn {
                    self.say(place.base, 0, "segments before it are missing", found.end, place.base);
                    (found.end, found.changed) = (place.base, true);
                }
            }
            if torn && place.part.is_none() {
                self.set_aside(&mut found, place.base, bytes, "segment past a torn tail")?;
                continue;
            }
            if place.base > found.end && torn {
                // What a record names was durable, and so was what came before it.
                self.say(place.base, 0, "records before it are missing", found.end, place.base);
                (found.end, found.changed) = (place.base, true);
            }
            let holes = known.map(|record| record.holes_of(place.base)).unwrap_or_default();
            torn = self.take(&mut found, &mut pieces, place, bytes, holes, later)?;
        }
        let known_end = known.map_or(0, Record::end).max(self.mark).max(found.start);
        if found.end < known_end {
            self.say(found.end, 0, "records are missing at the end", found.end, known_end);
            (found.end, found.changed) = (known_end, true);
        }
        self.finish(&mut found, pieces, record)?;
        Ok(found)
    }

    /// Whether bytes at `offset` had been synced, as far as anybody can tell.
    fn was_durable(&self, offset: i64) -> bool {
        self.unclear || offset < self.mark
    }

    /// Takes what is readable of one file into `found`; true when its tail was torn off, and nothing may follow.
    fn take(
        &self,
        found: &mut Found,
        pieces: &mut Vec<Piece>,
        place: &Place,
        bytes: u64,
        holes: Vec<Hole>,
        later: &[Place],
    ) -> Result<bool> {
        let next = later.iter().find_map(|later| later.part);
        // What a record names of a later one was synced after all of this one.
        let is_all = |part: &Part| {
            next.is_some_and(|next| {
                bytes == part.bytes || (bytes > part.bytes && next.base <= part.next_offset)
            })
        };
        if let Some(part) = place.part.filter(is_all) {
            if bytes > part.bytes {
                self.say(part.base, part.bytes, "longer than when it was sealed: the rest is not read", 0, 0);
            }
            found.end = part.next_offset;
            pieces.push(Piece { part, index: None, holes, recorded: part, whole: false });
            return Ok(false);
        }
        let path = log_path(self.dir, place.base);
        let file = self.disk.open(&path).map_err(failed("open", &path))?;
        // Where less is there than had been synced, nothing of it is believed unseen.
        let cut = place.part.filter(|part| bytes < part.bytes);
        let known = place.part.filter(|_| cut.is_none()).unwrap_or_else(|| Part::empty(place.base, -1));
        let holes = if cut.is_some() { Vec::new() } else { holes };
        let mut scan = Scan::new(&*file, known, bytes, self.interval);
        scan.holes = holes;
        // Offsets below this are this file's, whatever is left of it.
        let floor = match (cut, place.part, next) {
            (Some(part), ..) => part.next_offset,
            (None, Some(_), Some(next)) => next.base,
            _ => 0,
        };
        let read = failed("read", &path);
        let end = self.scan(&mut scan, place.base, bytes, floor, later).map_err(read)?;
        if scan.part.next_offset < floor {
            self.say(place.base, bytes, "shorter than what had been synced", scan.part.next_offset, floor);
        }
        if place.base == scan.part.next_offset {
            // It says nothing, and its name is wanted by whoever appends next.
            self.set_aside(found, place.base, bytes, "nothing readable in a segment")?;
            found.end = found.end.max(floor);
            return Ok(end == End::Torn);
        }
        if matches!(end, End::Torn | End::Surplus) && scan.part.bytes < bytes {
            self.cut(found, &*file, &mut scan, bytes)?;
        }
        if scan.part.bytes != known.bytes || end != End::Whole || cut.is_some() {
            file.sync().map_err(failed("fdatasync", &path))?;
            found.changed = true;
        }
        found.end = scan.part.next_offset.max(floor);
        let Scan { part, index, holes, .. } = scan;
        let whole = end != End::Damaged && cut.is_none();
        pieces.push(Piece { part, index: Some(index), holes, recorded: known, whole });
        Ok(end == End::Torn)
    }

    /// Scans to the file's end, over places that are damaged.
    fn scan(
        &self,
        scan: &mut Scan<'_>,
        base: i64,
        bytes: u64,
        floor: i64,
        later: &[Place],
    ) -> io::Result<End> {
        while let Some(bad) = scan.run()? {
            let (at, expected) = (scan.part.bytes, scan.part.next_offset);
            let certain = expected < floor || self.was_durable(expected);
            // The next segment tells where the records of this one end; else what is known to have been there.
            let next = later.iter().find(|later| later.part.is_some() || self.begins_whole(later));
            let told = next.map(|next| next.base).filter(|to| *to >= expected);
            let bounds =
                Bounds { limit: told.unwrap_or(i64::MAX), told: floor.max(told.map_or(self.mark, |_| 0)) };
            let ahead = scan.ahead(bounds)?;
            // What the disk does not give was not lost by a write: it may have been told durable, and come back.
            let unread = scan.is_unread(if let Ahead::Batch(until, _) = ahead { until } else { bytes });
            let (until, to) = match ahead {
                Ahead::Batch(until, to) if certain || !scan.may_be_inside(until, to)? => {
                    if !certain && !unread && scan.lost_writes(until)? {
                        return Ok(End::Torn);
                    }
                    (until, to)
                }
                Ahead::Batch(..) if !unread => return Ok(End::Torn),
                // The records go on in the next one: nothing is lost with what stands here.
                _ if told == Some(expected) && at > 0 => return Ok(End::Surplus),
                ahead => {
                    // Whole, but from elsewhere: at the front it is another segment's content.
                    let here = |header: &Header| told.is_none() && (at > 0 || header.base_offset > expected);
                    let misplaced = bad.whole.filter(here).map(|header| {
                        expected.saturating_add(i64::from(header.last_offset_delta)).saturating_add(1)
                    });
                    let damage = certain
                        || unread
                        || ahead == Ahead::TooMuch
                        || ((told.is_some() || misplaced.is_some()) && !scan.lost_writes(bytes)?);
                    if !damage {
                        return Ok(End::Torn);
                    }
                    let known = if next.is_some() { floor } else { floor.max(self.mark) };
                    let unseen = if unread { scan.past_all() } else { expected };
                    let to = told.or(misplaced).unwrap_or(unseen).max(known);
                    if to == expected && ahead == Ahead::Nothing {
                        return Ok(End::Torn);
                    }
                    (bytes, to)
                }
            };
            self.say(base, at, bad.what, expected, to);
            scan.skip(until, to);
            if until == bytes {
                return Ok(End::Damaged);
            }
        }
        Ok(End::Whole)
    }

    /// Whether a file that no record names begins with a batch that belongs there.
    fn begins_whole(&self, place: &Place) -> bool {
        let Some(bytes) = place.bytes.filter(|bytes| *bytes > 0) else { return false };
        let Ok(file) = self.disk.open(&log_path(self.dir, place.base)) else { return false };
        let mut scan = Scan::new(&*file, Part::empty(place.base, -1), bytes, self.interval);
        scan.first_fits().unwrap_or(false)
    }

    /// Cuts a torn tail, after it has been copied aside: nothing in it is whole, and it was not told durable.
    fn cut(&self, found: &mut Found, file: &dyn File, scan: &mut Scan<'_>, bytes: u64) -> Result<()> {
        let path = log_path(self.dir, scan.part.base);
        let position = scan.part.bytes;
        if !scan.only_zeros().map_err(failed("read", &path))? {
            match self.copy_aside(file, &path, position, bytes) {
                Err(error) if is_full(&error) || is_unreadable(&error) => {
                    // Then it stays where it is, as a place without records.
                    let text =
                        format_args!("{}: torn tail from byte {position} stays: {error}", path.display());
                    self.incidents.note(Kind::TailCut, &text);
                    scan.skip(bytes, scan.part.next_offset);
                    return Ok(());
                }
                copied => copied.map_err(failed("keep aside the tail of", &path))?,
            }
        }
        let text = format_args!("{}: torn tail is cut at byte {position} of {bytes}", path.display());
        self.incidents.note(Kind::TailCut, &text);
        file.set_len(position).map_err(failed("truncate", &path))?;
        found.renamed = true;
        Ok(())
    }

    fn copy_aside(&self, file: &dyn File, path: &Path, from: u64, until: u64) -> io::Result<()> {
        let aside = self.free_name(path)?;
        let copy = self.disk.create_new(&aside)?;
        let copied = copy_range(file, &*copy, from, until).and_then(|()| copy.sync());
        if copied.is_err() {
            // Half a copy of what is still in its place.
            self.disk.remove_file(&aside)?;
        }
        copied?;
        self.disk.sync_dir(self.dir)
    }

    /// Keeps a file that is not part of the log under another name; one without bytes is removed.
    fn set_aside(&self, found: &mut Found, base: i64, bytes: u64, why: &str) -> Result<()> {
        let path = log_path(self.dir, base);
        found.renamed = true;
        remove_index(self.disk, &path)?;
        if bytes == 0 {
            let text = format_args!("{why}: {} is empty and removed", path.display());
            self.incidents.note(Kind::TailCut, &text);
            return self.disk.remove_file(&path).map_err(failed("remove", &path));
        }
        let aside = self.free_name(&path).map_err(failed("stat", &path))?;
        let text = format_args!("{why}: {} is kept as {}", path.display(), aside.display());
        self.incidents.note(Kind::TailCut, &text);
        self.disk.rename(&path, &aside).map_err(failed("rename", &path))
    }

    fn free_name(&self, path: &Path) -> io::Result<PathBuf> {
        free_name(self.disk, path)
    }

    /// One segment after the other: all but the last are sealed, and that one, too, where the log goes on behind it.
    fn finish(&self, found: &mut Found, pieces: Vec<Piece>, record: Option<Record>) -> Result<()> {
        let last = pieces.len().saturating_sub(1);
        let end = found.end;
        found.unnamed = self.present && pieces.iter().any(|piece| piece.recorded.bytes == 0);
        found.segments = pieces
            .into_iter()
            .enumerate()
            .map(|(i, piece)| {
                let cut_off = !piece.whole || hole::ends(&piece.holes, piece.part.bytes);
                let active = i == last && !cut_off && piece.part.next_offset == end;
                let index = piece.index.or_else(|| active.then(|| Index::after(&piece.part)));
                Arc::new(Segment::new(self.dir, piece.part, piece.holes, index, !active, piece.recorded))
            })
            .collect();
        if found.renamed {
            // Before a file of such a name is made again.
            self.disk.sync_dir(self.dir).map_err(failed("sync", self.dir))?;
            found.changed = true;
        }
        self.settle_notes(found, record);
        Ok(())
    }

    fn settle_notes(&self, found: &mut Found, record: Option<Record>) {
        let notes = record.map(|record| record.notes).unwrap_or_default();
        let before = notes.len();
        found.notes = notes;
        let end = found.end;
        found.notes.retain(|note| note.offset <= end);
        // A note that does not fit must not come back when the log has grown past it again.
        found.notes_dropped = found.notes.len() < before;
        found.changed |= found.notes_dropped;
    }

    fn tell_start(&self, start: i64) {
        let path = self.dir.join(CHECKPOINT);
        let text = format_args!(
            "{} cannot be read and files before offset {start} are gone: the log starts there",
            path.display()
        );
        self.incidents.note(Kind::FileDamaged, &text);
    }

    fn say(&self, base: i64, position: u64, what: &str, from: i64, to: i64) {
        let path = log_path(self.dir, base);
        let text = format_args!(
            "{}, byte {position}: {what}; offsets {from} to {to} are lost, the rest is served",
            path.display()
        );
        self.incidents.raise(Kind::LogDamaged, &path.to_string_lossy(), &text);
    }
}

/// How a scan ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// At the file's end.
    Whole,
    /// In a damaged place that reaches to the file's end.
    Damaged,
    /// At a tail that was never synced.
    Torn,
    /// At bytes that hold no records: the next segment goes on from before them.
    Surplus,
}

/// Files and what the record names, by base offset.
fn places(files: &[(i64, u64)], live: &[Part]) -> Vec<Place> {
    let part_of = |base| live.iter().find(|part| part.base == base).copied();
    let present =
        files.iter().map(|(base, bytes)| Place { base: *base, bytes: Some(*bytes), part: part_of(*base) });
    let missing = live.iter().filter(|part| !has(files, part.base));
    let missing = missing.map(|part| Place { base: part.base, bytes: None, part: Some(*part) });
    let mut places: Vec<_> = present.chain(missing).collect();
    places.sort_unstable_by_key(|place| place.base);
    places
}

/// A name beside `path` that nobody has.
pub(super) fn free_name(disk: &dyn Disk, path: &Path) -> io::Result<PathBuf> {
    for n in 0..u32::MAX {
        let aside = path.with_extension(format!("cut{n}"));
        if disk.file_bytes(&aside)?.is_none() {
            return Ok(aside);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn copy_range(from: &dyn File, to: &dyn File, mut at: u64, until: u64) -> io::Result<()> {
    let start = at;
    let mut buf = vec![0; COPY_BYTES];
    while at < until {
        let len = usize::try_from(until - at).unwrap_or(COPY_BYTES).min(COPY_BYTES);
        let part = buf.get_mut(..len).unwrap_or_default();
        read_exact(from, part, at)?;
        let mut done = 0;
        while let Some(rest) = part.get(done..).filter(|rest| !rest.is_empty()) {
            match to.write_at(&[io::IoSlice::new(rest)], at - start + done as u64)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => done += written,
            }
        }
        at += len as u64;
    }
    Ok(())
}

fn has(files: &[(i64, u64)], base: i64) -> bool {
    files.iter().any(|(of, _)| *of == base)
}

fn base_offset(entry: &Entry) -> Option<i64> {
    base_of(entry, ".log")
}

/// Of the segment that an index belongs to.
fn index_base(entry: &Entry) -> Option<i64> {
    base_of(entry, ".index")
}

fn base_of(entry: &Entry, suffix: &str) -> Option<i64> {
    let digits = entry.name.strip_suffix(suffix).filter(|d| d.len() == 20 && entry.is_file)?;
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
