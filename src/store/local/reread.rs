//! Places that the disk did not give in an earlier life: what it gives of them now takes their place in the log's record.
//!
//! A cable that is put right brings bytes back, and then nothing is wrong with them. Invariant: what was found damaged stays so,
//! and no offset that a place may have held is given anew, whatever is found there. Those that it turns out not to have held are
//! a gap, in which nothing is lost. Deliberately absent: the search for such
//! places (`scan.rs`).

use std::io;
use std::path::Path;

use super::checkpoint::{Part, Record};
use super::disk::{Disk, File, is_unreadable};
use super::failed;
use super::hole::Hole;
use super::scan::Scan;
use super::segment::{log_path, remove_index};
use crate::batch::MAX_RECORDS;
use crate::store::Result;

/// Looks at the places of `record` that could not be read; whether that changed anything.
pub(super) fn look_again(disk: &dyn Disk, dir: &Path, record: &mut Record) -> Result<bool> {
    if !record.holes.iter().any(|(_, hole)| hole.unread) {
        return Ok(false);
    }
    record.end = record.end();
    let (before, mut changed) = (std::mem::take(&mut record.holes), false);
    for (base, hole) in before {
        let part = record.parts.iter_mut().find(|part| part.base == base).filter(|_| hole.unread);
        let again = part.map(|part| look_at(disk, dir, part, hole)).transpose()?.flatten();
        changed |= again.is_some();
        let holes = again.unwrap_or_else(|| vec![hole]);
        record.holes.extend(holes.into_iter().map(|hole| (base, hole)));
    }
    Ok(changed)
}

/// What there is in place of `hole`, if it is something else.
fn look_at(disk: &dyn Disk, dir: &Path, part: &mut Part, hole: Hole) -> Result<Option<Vec<Hole>>> {
    let path = log_path(dir, part.base);
    if disk.file_bytes(&path).map_err(failed("stat", &path))? < Some(part.bytes) {
        return Ok(None);
    }
    let file = disk.open(&path).map_err(failed("open", &path))?;
    let (seen, mut holes) = match scan(&*file, part.base, &hole) {
        Err(error) if is_unreadable(&error) => return Ok(None),
        scanned => scanned.map_err(failed("read", &path))?,
    };
    // Of the last place nobody knew how many records it held.
    let fits = seen.next_offset == hole.to || (hole.until == part.bytes && seen.next_offset < hole.to);
    if !fits || *holes == [hole] {
        return Ok(None);
    }
    if hole.until == part.bytes {
        part.next_offset = seen.next_offset;
        // The log had leapt over all that the place might have held, which was more than that. Fewer are what a file has lost
        // that was cut.
        if hole.to - seen.next_offset >= i64::from(MAX_RECORDS) {
            let (at, from) = (part.bytes, seen.next_offset);
            holes.push(Hole { at, until: at, from, to: hole.to, unread: false });
        }
    }
    let (newest, oldest) = (seen.newest.0 > part.newest.0, seen.newest.1 < part.newest.1);
    if newest || (seen.newest.0 == part.newest.0 && oldest) {
        part.newest = seen.newest;
    }
    // Its times were counted without them.
    remove_index(disk, &path)?;
    tracing::info!(path = %path.display(), at = hole.at, "the disk gives again what it did not give before");
    Ok(Some(holes))
}

/// What ends with the place, and what of it is still bad.
fn scan(file: &dyn File, base: i64, hole: &Hole) -> io::Result<(Part, Vec<Hole>)> {
    let front = Part { bytes: hole.at, next_offset: hole.from, ..Part::empty(base, -1) };
    let mut scan = Scan::new(file, front, hole.until, u32::MAX);
    scan.run_over(hole.to)?;
    Ok((scan.part, scan.holes))
}
