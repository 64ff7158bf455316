//! The walk over the records of a compressed section while it is decompressed.
//!
//! Invariant: what it takes and refuses is what the walk over a plain section takes and refuses (`records.rs`);
//! a record that fits the window is read by the same parse. A larger one is read field by field, and its bytes
//! are passed over, so that space is bounded by the pieces of the stream and never by a record.
//! Deliberately absent: decompression (`plain.rs`), limits of topics.

use super::check::Invalid;
use super::codec::Codec;
use super::plain::{Halt, Kept, PIECE_BYTES, Plain, with_kept};
use super::records::{CUT, Met, TRAILING, UNORDERED, take_record, too_many_headers};
use super::varint::{take_i32, take_i64};

/// Records from here on are passed over instead of being kept together.
const LARGE_RECORD_BYTES: usize = PIECE_BYTES;

/// Most bytes of a varint.
const VARINT_BYTES_MAX: usize = 10;

/// Walks `count` records of a compressed section, offset deltas 0, 1, 2 ... in order, nothing behind them, and
/// shows `visit` each. Produces at most `max_bytes`, and takes from `budget` what that costs.
///
/// # Errors
/// [`Halt::Invalid`] with the first rule that is broken, [`Halt::Spent`] before more is produced than the budget has.
pub(super) fn walk_compressed(
    codec: Codec,
    section: &[u8],
    count: i32,
    max_bytes: usize,
    budget: &mut usize,
    visit: impl FnMut(Met),
) -> Result<(), Halt> {
    with_kept(|kept| {
        let plain = Plain::new(codec, section, max_bytes, kept)?;
        let mut walk = Walk { plain, kept, at: 0, filled: 0, budget };
        walk.records(count, visit)
    })
}

struct Walk<'a, 'k> {
    plain: Plain<'a>,
    kept: &'k mut Kept,
    /// What is not walked yet is the window from here ...
    at: usize,
    /// ... to here.
    filled: usize,
    budget: &'k mut usize,
}

impl Walk<'_, '_> {
    fn records(&mut self, count: i32, mut visit: impl FnMut(Met)) -> Result<(), Halt> {
        for expected in 0..count {
            let met = self.record()?;
            if met.offset_delta != expected {
                return Err(UNORDERED.into());
            }
            visit(met);
        }
        if self.at < self.filled || self.refill()? > 0 { Err(TRAILING.into()) } else { Ok(()) }
    }

    fn record(&mut self) -> Result<Met, Halt> {
        loop {
            let mut rest = self.window();
            match take_record(&mut rest) {
                Ok(record) => {
                    let met = Met::of(&record);
                    self.at = self.filled - rest.len();
                    return Ok(met);
                }
                Err(damaged) => match missing(self.window()) {
                    None => return Err(Invalid::Record(damaged).into()),
                    Some(length) if length > LARGE_RECORD_BYTES => return self.large_record(),
                    Some(_) => {
                        if self.refill()? == 0 {
                            return Err(CUT.into());
                        }
                    }
                },
            }
        }
    }

    fn window(&self) -> &[u8] {
        self.kept.window.get(self.at..self.filled).unwrap_or_default()
    }

    /// Moves what is left to the front of the window and adds a piece; how many bytes that has.
    fn refill(&mut self) -> Result<usize, Halt> {
        if self.at > 0 {
            self.kept.window.copy_within(self.at..self.filled, 0);
            self.filled -= self.at;
            self.at = 0;
        }
        let got = self.plain.more(self.kept, self.filled, self.budget)?;
        self.filled += got;
        Ok(got)
    }

    /// One record that need not fit the window.
    fn large_record(&mut self) -> Result<Met, Halt> {
        let mut left = usize::MAX;
        let length =
            usize::try_from(self.i32(&mut left)?).map_err(|_| Invalid::Record("bad record length"))?;
        left = length;
        self.pass(1, &mut left)?;
        let timestamp_delta = self.i64(&mut left)?;
        let offset_delta = self.i32(&mut left)?;
        let has_key = self.pass_field(&mut left)?;
        self.pass_field(&mut left)?;
        let headers =
            usize::try_from(self.i32(&mut left)?).map_err(|_| Invalid::Record("bad header count"))?;
        if too_many_headers(headers, left) {
            return Err(Invalid::Record("too many headers").into());
        }
        for _ in 0..headers {
            if !self.pass_field(&mut left)? {
                return Err(Invalid::Record("bad header name").into());
            }
            self.pass_field(&mut left)?;
        }
        if left != 0 {
            return Err(Invalid::Record("bytes behind a record's headers").into());
        }
        Ok(Met { offset_delta, timestamp_delta, has_key })
    }

    /// Passes over a field; whether it is there.
    fn pass_field(&mut self, left: &mut usize) -> Result<bool, Halt> {
        let length = self.i32(left)?;
        if length == -1 {
            return Ok(false);
        }
        let length = usize::try_from(length).map_err(|_| Invalid::Record("bad field length"))?;
        self.pass(length, left)?;
        Ok(true)
    }

    /// Passes over bytes of the record, of which `left` are left.
    fn pass(&mut self, bytes: usize, left: &mut usize) -> Result<(), Halt> {
        *left = left.checked_sub(bytes).ok_or(Invalid::Record("field longer than its record"))?;
        let mut to_pass = bytes;
        while to_pass > 0 {
            let here = to_pass.min(self.filled - self.at);
            self.at += here;
            to_pass -= here;
            if to_pass > 0 && self.refill()? == 0 {
                return Err(CUT.into());
            }
        }
        Ok(())
    }

    fn i32(&mut self, left: &mut usize) -> Result<i32, Halt> {
        self.varint(left, take_i32)
    }

    fn i64(&mut self, left: &mut usize) -> Result<i64, Halt> {
        self.varint(left, take_i64)
    }

    fn varint<T>(&mut self, left: &mut usize, take: fn(&mut &[u8]) -> Option<T>) -> Result<T, Halt> {
        while self.filled - self.at < VARINT_BYTES_MAX.min(*left) && self.refill()? > 0 {}
        let window = self.window();
        // Not past the record.
        let mut rest = window.get(..window.len().min(*left)).unwrap_or_default();
        let before = rest.len();
        let value = take(&mut rest).ok_or(Invalid::Record("bad length or delta"))?;
        let taken = before - rest.len();
        self.at += taken;
        *left -= taken;
        Ok(value)
    }
}

/// The bytes of the record at the front, its length included, where `window` ends before it does.
fn missing(window: &[u8]) -> Option<usize> {
    let mut rest = window;
    match take_i32(&mut rest) {
        // Five bytes are a length, or never become one.
        None => (window.len() < 5 && window.iter().all(|byte| byte & 0x80 != 0)).then_some(5),
        Some(length) => {
            let length = usize::try_from(length).ok()?;
            (length > rest.len()).then_some(length + window.len() - rest.len())
        }
    }
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
