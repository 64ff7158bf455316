//! Reads a segment batch by batch and believes only those that check out; past a bad place it looks for the next.
//!
//! Invariant: what it takes has a right checksum, follows the batch before it, and does not stand alone with its epoch. What it
//! takes for the next batch past a bad place is led to or leads on, and ends where the log is known to end at the latest. The
//! search for it is bounded in what it checksums, whatever lengths the bytes there pretend to.
//! Deliberately absent: what a bad place means (`recovery.rs`).

use std::io;
use std::sync::Arc;

use super::checkpoint::Part;
use super::disk::File;
use super::hole::{self, Hole};
use super::index::Index;
use super::window::{UNREADABLE, Window};
use crate::batch::{HEADER_BYTES, Header, MAX_RECORDS};

/// What a disk writes whole or not at all; a multiple of it is one, too.
const SECTOR_BYTES: u64 = 512;
/// Zeros before the end of a sector that tell of a write that was lost. Fewer are seen in good batches.
const LOST_BYTES: usize = 16;
/// Bytes at the front of a batch that may be zeros in good ones, too: its offset, and all but the last of its length.
const ZERO_FRONT_BYTES: u64 = 11;
/// Bytes that a search may checksum beside four times those that it looks through.
const SEARCH_BYTES: u64 = 256 << 20;

/// A walk over one file.
pub(super) struct Scan<'a> {
    window: Window<'a>,
    /// What has been taken.
    pub part: Part,
    pub index: Index,
    /// Found or stepped over, in no order.
    pub holes: Vec<Hole>,
    /// Those to step over.
    known: Arc<[Hole]>,
    interval: u32,
    /// The last two batches taken, the older one first, each with what was known before it.
    recent: [Option<(Part, Header)>; 2],
    taken: u64,
}

/// What is known of where a segment's records end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// None of them has this offset or a larger one.
    pub limit: i64,
    /// At least those below were there.
    pub told: i64,
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
        let (holes, known) = (Vec::new(), Arc::default());
        Self { window, part, index, holes, known, interval, recent: [None, None], taken: 0 }
    }

    /// Steps over places that are known to be damaged.
    pub fn over(self, known: Arc<[Hole]>) -> Self {
        Self { known, ..self }
    }

    /// Runs to the end or to the first batch that does not fit, and says why it does not.
    pub fn run(&mut self) -> io::Result<Option<Bad>> {
        while self.part.bytes < self.window.until() {
            let at = self.part.bytes;
            if let Some(hole) = hole::around(&self.known, at) {
                self.step(hole.until, hole.to, hole.unread);
                continue;
            }
            let (header, _) = match self.window.batch(at)? {
                Ok(found) => found,
                Err(what) => return Ok(Some(Bad { what, whole: None })),
            };
            if header.base_offset != self.part.next_offset {
                return Ok(Some(Bad { what: "offset does not follow", whole: Some(header) }));
            }
            self.set_lone_epochs_aside(header.leader_epoch);
            let [_, last] = self.recent;
            self.recent = [last, Some((self.part, header))];
            self.taken += 1;
            self.index.push(self.part.base, &header, at, self.part.newest.0, self.interval);
            self.part.add(&header, self.index.rest(self.part.base));
        }
        Ok(None)
    }

    /// The checksum does not cover the epoch. One that differs from those before and after it, which are the same, is damage;
    /// so is that of the very first batch if those after it are smaller. Anything else is how the log went, even if it went back.
    fn set_lone_epochs_aside(&mut self, next: i32) {
        let [Some((before_first, first)), Some((before, last))] = self.recent else { return };
        if first.leader_epoch == next && last.leader_epoch != next {
            self.set_aside(before, &last);
            self.recent = [None, Some((before_first, first))];
        } else if self.taken == 2 && last.leader_epoch == next && first.leader_epoch > next {
            self.set_aside(before_first, &first);
            self.recent = [None, Some((before, last))];
            if last.max_timestamp > self.part.newest.0 {
                self.part.newest = (last.max_timestamp, last.base_offset);
            }
        }
    }

    /// Takes back a batch, with what was known `before` it.
    fn set_aside(&mut self, before: Part, batch: &Header) {
        let until = before.bytes + batch.total_bytes().unwrap_or(0) as u64;
        let (from, to) = (batch.base_offset, batch.next_offset());
        self.holes.push(Hole { at: before.bytes, until, from, to, unread: false });
        if self.part.newest.1 == batch.base_offset {
            self.part.newest = before.newest;
        }
    }

    /// Whether a whole batch stands at the front, and with the offset of the file's name. Where that is damaged and others follow,
    /// or the disk does not give it, the name is believed.
    pub fn first_fits(&mut self) -> io::Result<bool> {
        let base = self.part.base;
        Ok(match self.window.batch(0)? {
            Ok((header, _)) => header.base_offset == base,
            Err(UNREADABLE) => true,
            Err(_) => {
                let anywhere = Bounds { limit: i64::MAX, told: 0 };
                matches!(self.ahead(anywhere)?, Ahead::Batch(..))
            }
        })
    }

    /// Whether the disk did not give some of the bad place that reaches to `until`.
    pub fn is_unread(&self, until: u64) -> bool {
        self.window.is_unread(self.part.bytes, until)
    }

    /// More than any offset that the rest of the file can have held.
    pub fn past_all(&self) -> i64 {
        let bytes = self.window.until().saturating_sub(self.part.bytes);
        self.part.next_offset.saturating_add(most_records(bytes))
    }

    /// Leaves the bad place behind: what follows it begins at `until` with offset `to`.
    pub fn skip(&mut self, until: u64, to: i64) {
        self.step(until, to, self.is_unread(until));
    }

    fn step(&mut self, until: u64, to: i64, unread: bool) {
        self.holes.push(Hole { at: self.part.bytes, until, from: self.part.next_offset, to, unread });
        if unread {
            self.index.lose_sum();
            self.part.rest = self.index.rest(self.part.base);
        }
        (self.part.bytes, self.part.next_offset) = (until, to);
    }

    /// Runs to the end over places that do not check out; what follows the last of them begins with offset `end`.
    pub fn run_over(&mut self, end: i64) -> io::Result<()> {
        while self.run()?.is_some() {
            match self.ahead(Bounds { limit: end, told: end })? {
                Ahead::Batch(until, to) => self.skip(until, to),
                _ => self.skip(self.window.until(), end.max(self.part.next_offset)),
            }
        }
        Ok(())
    }

    /// Looks past the bad place for a whole batch that may follow what has been taken.
    pub fn ahead(&mut self, bounds: Bounds) -> io::Result<Ahead> {
        let (at, expected) = (self.part.bytes, self.part.next_offset);
        // Most often only the batch's inside is damaged, and its length leads to the next.
        if let Some((bad, total)) = self.window.plausible(at)?
            && let Ok((header, more)) = self.window.batch(at + total)?
        {
            let led_to = header.base_offset == expected.saturating_add(records(&bad));
            if (led_to && header.next_offset() <= bounds.limit)
                || self.belongs(&header, at + total, more, bounds)?
            {
                return Ok(Ahead::Batch(at + total, header.base_offset));
            }
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
                && self.may_follow(&header, position, bounds.limit)
                && header.record_count <= header.last_offset_delta.saturating_add(1)
            {
                if budget < total {
                    return Ok(Ahead::TooMuch);
                }
                budget -= total;
                // What a client wrote into a record may look like a batch; it does not lead to the next one.
                if self.window.checksum(position, total)? == header.crc
                    && self.belongs(&header, position, total, bounds)?
                {
                    return Ok(Ahead::Batch(position, header.base_offset));
                }
            }
            position += 1;
        }
        Ok(Ahead::Nothing)
    }

    /// Whether a batch at `at` with this header has offsets that it can have.
    fn may_follow(&self, header: &Header, at: u64, limit: i64) -> bool {
        let lost = header.base_offset.saturating_sub(self.part.next_offset);
        (0..=most_records(at.saturating_sub(self.part.bytes))).contains(&lost)
            && header.next_offset() <= limit
    }

    /// Whether the whole batch at `at` is what follows the bad place: its own offset may be damaged, so something else must say
    /// the same. What is known of the end does, or the batch behind it.
    fn belongs(&mut self, header: &Header, at: u64, total: u64, bounds: Bounds) -> io::Result<bool> {
        let (next, end) = (at + total, header.next_offset());
        if !self.may_follow(header, at, bounds.limit) {
            return Ok(false);
        }
        let last = next == self.window.until() && bounds.told <= self.part.next_offset;
        Ok(last || end == bounds.limit || end == bounds.told || self.leads_on(next, end)?)
    }

    /// Whether what stands at `at` begins with `offset`, whole or not, or what stands behind that goes on from there.
    fn leads_on(&mut self, at: u64, offset: i64) -> io::Result<bool> {
        if let Some(hole) = hole::around(&self.known, at) {
            return Ok(hole.at == at && hole.from == offset);
        }
        let Some((header, total)) = self.window.plausible_length(at)? else { return Ok(false) };
        let behind = self.window.plausible(at.saturating_add(total))?.map(|(behind, _)| behind.base_offset);
        Ok(header.base_offset == offset || behind == Some(offset.saturating_add(records(&header))))
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
            // The sector that the bad place ends in may have taken the front of the next batch along, of which it shows nothing.
            let end_here = if end.saturating_sub(until) <= ZERO_FRONT_BYTES { end } else { end.min(until) };
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

    /// Whether the batches from `at` on, the first with offset `next`, may be what a record of the bad one holds: they do not reach
    /// the end of what that claims to be.
    pub fn may_be_inside(&mut self, mut at: u64, mut next: i64) -> io::Result<bool> {
        let from = self.part.bytes;
        let claimed = self.window.plausible_length(from)?.map_or(0, |(_, total)| total);
        while at < (from + claimed).min(self.window.until()) {
            match self.window.plausible(at)? {
                Some((header, total)) if header.base_offset == next => {
                    (at, next) = (at + total, header.next_offset());
                }
                _ => return Ok(true),
            }
        }
        Ok(false)
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
    let bounds = Bounds { limit: i64::MAX, told: 0 };
    let found = Scan::new(file, part, file.metadata()?.len(), u32::MAX).ahead(bounds)?;
    Ok(if let Ahead::Batch(position, offset) = found { Some((position, offset)) } else { None })
}

/// How many offsets a batch with this header takes.
fn records(header: &Header) -> i64 {
    i64::from(header.last_offset_delta).saturating_add(1)
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
