//! Reads a segment batch by batch and believes only those that check out; past a bad place it looks for the next.
//!
//! Invariant: what it takes has a right checksum, follows the batch before it and does not go back in epochs. The search for
//! whole batches past a bad place is bounded in what it checksums, whatever lengths the bytes there pretend to.
//! Deliberately absent: what a bad place means (`recovery.rs`).

use std::io;

use super::checkpoint::Part;
use super::disk::File;
use super::hole::Hole;
use super::index::Index;
use super::window::Window;
use crate::batch::{HEADER_BYTES, Header, MAX_RECORDS};

/// What a disk writes whole or not at all; a multiple of it is one, too.
const SECTOR_BYTES: u64 = 512;
/// Zeros before the end of a sector that tell of a write that was lost. Fewer are seen in good batches.
const LOST_BYTES: usize = 16;
/// Bytes that a search may checksum beside four times those that it looks through.
const SEARCH_BYTES: u64 = 256 << 20;

/// A walk over one file.
pub(super) struct Scan<'a> {
    window: Window<'a>,
    /// What has been taken.
    pub part: Part,
    pub index: Index,
    pub holes: Vec<Hole>,
    interval: u32,
    epoch: i32,
    /// What was known before the one batch that has raised the epoch so far.
    raised: Option<(Part, i32)>,
}

/// Why a batch was not taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bad {
    pub what: &'static str,
    /// Its header, when it is whole and only its place is wrong.
    pub whole: Option<Header>,
}

/// What comes after a bad place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ahead {
    /// A whole batch at this position, with this base offset.
    Batch(u64, i64),
    /// Nothing whole.
    Nothing,
    /// More that could be batches than may be looked at.
    TooMuch,
}

impl<'a> Scan<'a> {
    /// Begins behind `part`, in a file of `until` bytes.
    pub fn new(file: &'a dyn File, part: Part, until: u64, interval: u32) -> Self {
        let (window, index) = (Window::new(file, until), Index::after(&part));
        Self { window, part, index, holes: Vec::new(), interval, epoch: i32::MIN, raised: None }
    }

    /// Runs to the end or to the first batch that does not fit, and says why it does not.
    pub fn run(&mut self) -> io::Result<Option<Bad>> {
        while self.part.bytes < self.window.until() {
            let at = self.part.bytes;
            let (header, total) = match self.window.batch(at)? {
                Ok(found) => found,
                Err(what) => return Ok(Some(Bad { what, whole: None })),
            };
            if header.base_offset != self.part.next_offset {
                return Ok(Some(Bad { what: "offset does not follow", whole: Some(header) }));
            }
            if header.leader_epoch < self.epoch {
                // The checksum does not cover the epoch. Either this batch's is wrong, or that of the only one with the higher.
                let next = self.window.plausible(at + total)?.map(|(next, _)| next.leader_epoch);
                let raised = self.raised.take().filter(|(_, epoch)| header.leader_epoch >= *epoch);
                let Some((before, epoch)) = raised.filter(|_| next.is_none_or(|next| next < self.epoch))
                else {
                    return Ok(Some(Bad { what: "leader epoch goes back", whole: Some(header) }));
                };
                let behind = std::mem::replace(&mut self.part, before);
                self.epoch = epoch;
                self.skip(behind.bytes, behind.next_offset);
            }
            self.raised = (header.leader_epoch > self.epoch).then_some((self.part, self.epoch));
            self.epoch = header.leader_epoch;
            self.index.push(self.part.base, &header, at, self.part.newest.0, self.interval);
            self.part.add(&header, self.index.rest(self.part.base));
        }
        Ok(None)
    }

    /// Whether a whole batch stands at the front, and with the offset of the file's name.
    pub fn first_fits(&mut self) -> io::Result<bool> {
        let base = self.part.base;
        Ok(self.window.batch(0)?.is_ok_and(|(header, _)| header.base_offset == base))
    }

    /// Leaves the bad place behind: what follows it begins at `until` with offset `to`.
    pub fn skip(&mut self, until: u64, to: i64) {
        let hole = Hole { at: self.part.bytes, until, from: self.part.next_offset, to };
        self.holes.push(hole);
        (self.part.bytes, self.part.next_offset) = (until, to);
        self.raised = None;
    }

    /// Runs to the end over places that do not check out; what follows the last of them begins with offset `end`.
    pub fn run_over(&mut self, end: i64) -> io::Result<()> {
        while self.run()?.is_some() {
            match self.ahead()? {
                Ahead::Batch(until, to) if to <= end => self.skip(until, to),
                _ => self.skip(self.window.until(), end.max(self.part.next_offset)),
            }
        }
        Ok(())
    }

    /// Looks past the bad place for a whole batch that may follow what has been taken.
    pub fn ahead(&mut self) -> io::Result<Ahead> {
        let (at, expected) = (self.part.bytes, self.part.next_offset);
        // Most often only the batch's inside is damaged, and its length leads to the next.
        if let Some((_, total)) = self.window.plausible(at)?
            && let Some(base) = self.follows(at + total)?
        {
            return Ok(Ahead::Batch(at + total, base));
        }
        let mut budget = 4 * (self.window.until() - at) + SEARCH_BYTES;
        let mut position = at + 1;
        while position + HEADER_BYTES as u64 <= self.window.until() {
            // A header's magic is its byte 16.
            let bytes = self.window.peek(position)?;
            let Some(skip) = bytes.get(16..).and_then(|rest| rest.iter().position(|byte| *byte == 2)) else {
                position += (bytes.len() - 16) as u64;
                continue;
            };
            position += skip as u64;
            if let Some((header, total)) = self.window.plausible(position)?
                && header.base_offset >= expected
                && header.base_offset - expected <= most_records(position - at)
                && header.leader_epoch >= self.epoch
                && header.record_count <= header.last_offset_delta.saturating_add(1)
            {
                if budget < total {
                    return Ok(Ahead::TooMuch);
                }
                budget -= total;
                // What a client wrote into a record may look like a batch; it does not lead to the next one.
                if self.window.checksum(position, total)? == header.crc {
                    let next = position + total;
                    let more = self.window.plausible(next)?.map_or(0, |(_, total)| total);
                    if budget < more {
                        return Ok(Ahead::TooMuch);
                    }
                    budget -= more;
                    if next == self.window.until() || self.follows(next)? == Some(header.next_offset()) {
                        return Ok(Ahead::Batch(position, header.base_offset));
                    }
                }
            }
            position += 1;
        }
        Ok(Ahead::Nothing)
    }

    /// The base offset of the whole batch at `at`, if there is one that may follow.
    fn follows(&mut self, at: u64) -> io::Result<Option<i64>> {
        let expected = self.part.next_offset;
        let most = most_records(at.saturating_sub(self.part.bytes));
        Ok(self
            .window
            .batch(at)?
            .ok()
            .map(|(header, _)| header.base_offset)
            .filter(|base| *base >= expected && base.saturating_sub(expected) <= most))
    }

    /// Whether the bytes `..until` of the bad place look like what a power cut leaves of bytes that were never synced:
    /// the file ends in them, or sectors are zeros to their end.
    pub fn lost_writes(&mut self, until: u64) -> io::Result<bool> {
        let at = self.part.bytes;
        let cut_off = match self.window.plausible_length(at)? {
            Some((_, total)) => total > self.window.until() - at,
            None => self.window.until() - at < HEADER_BYTES as u64,
        };
        if cut_off && until == self.window.until() {
            return Ok(true);
        }
        if let Some((header, _)) = self.window.plausible(at)?
            && is_torn_offset(at, header.base_offset, self.part.next_offset)
        {
            return Ok(true);
        }
        let mut end = (at / SECTOR_BYTES + 1) * SECTOR_BYTES;
        loop {
            let end_here = end.min(until);
            if end_here - at >= 12 && (end_here == end || until == self.window.until()) {
                let from = end_here.saturating_sub(LOST_BYTES as u64).max(at);
                let mut zeros = [0; LOST_BYTES];
                let zeros =
                    zeros.get_mut(..usize::try_from(end_here - from).unwrap_or(0)).unwrap_or_default();
                let have = self.window.peek(from)?;
                let same = have.get(..zeros.len()) == Some(&*zeros);
                if same {
                    return Ok(true);
                }
            }
            if end >= until {
                return Ok(false);
            }
            end += SECTOR_BYTES;
        }
    }

    /// Whether the file holds nothing but zeros from the bad place on.
    pub fn only_zeros(&mut self) -> io::Result<bool> {
        self.window.only_zeros(self.part.bytes)
    }
}

/// Where the first whole batch past a damaged place of a segment begins, and its base offset: what stood at byte `at` had
/// offsets from `expected` on. `None` when there is none, or when it cannot be told.
///
/// # Errors
/// The system's.
pub fn batch_behind(file: &std::fs::File, at: u64, expected: i64) -> io::Result<Option<(u64, i64)>> {
    let part = Part { bytes: at, ..Part::empty(expected, -1) };
    let found = Scan::new(file, part, file.metadata()?.len(), u32::MAX).ahead()?;
    Ok(if let Ahead::Batch(position, offset) = found { Some((position, offset)) } else { None })
}

/// How many records so many bytes can have held.
fn most_records(bytes: u64) -> i64 {
    let batches = i64::try_from(bytes / HEADER_BYTES as u64).unwrap_or(i64::MAX);
    batches.saturating_add(1).saturating_mul(i64::from(MAX_RECORDS))
}

/// Whether `found` is what a power cut leaves of the offset `expected` of a batch at `at`: the first sector of the
/// batch was lost, and with it some or all of the offset and at most those bytes of the length that are zero anyway;
/// the next one, with all that the checksum covers, was not.
fn is_torn_offset(at: u64, found: i64, expected: i64) -> bool {
    let lost_bytes = SECTOR_BYTES - at % SECTOR_BYTES;
    let kept = match u32::try_from(lost_bytes * 8) {
        Ok(bits @ 1..=63) => u64::MAX >> bits,
        // With the fourth byte of the length it would be no batch at all.
        Ok(64..=88) => 0,
        _ => return false,
    };
    found != expected && found.cast_unsigned() == expected.cast_unsigned() & kept
}

#[cfg(test)]
mod tests {
    use super::is_torn_offset;

    #[test]
    fn an_offset_is_torn_where_a_sector_ends_in_it_and_only_the_lost_bytes_are_zero() {
        let expected = 0x0102_0304_0506_0708;
        assert!(is_torn_offset(504, 0, expected));
        assert!(is_torn_offset(508, 0x0506_0708, expected));
        assert!(is_torn_offset(1023, 0x0002_0304_0506_0708, expected));
        assert!(!is_torn_offset(508, 0x0506_0709, expected), "another offset");
        assert!(!is_torn_offset(508, expected, expected), "nothing is lost");
        assert!(is_torn_offset(501, 0, expected), "three zeros of its length are lost, too");
        assert!(!is_torn_offset(500, 0, expected), "its length is lost, too");
        assert!(!is_torn_offset(512, 0, expected) && !is_torn_offset(0, 0, expected), "no sector ends in it");
    }
}
