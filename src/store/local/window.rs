//! A file seen through a buffer: headers and checksums of batches at any place.
//!
//! Invariant: nothing past the given end is read, and no length in the bytes chooses an allocation.
//! Deliberately absent: what follows what.

use std::io;
use std::ops::Range;

use super::disk::{File, read_over};
use crate::batch::{CRC_FROM, HEADER_BYTES, Header, crc32c};

/// Read at a time.
const WINDOW_BYTES: usize = 256 << 10;
/// Places that cannot be read: with more than so many it is not the file, and each costs a slow disk seconds.
const MOST_UNREADABLE: usize = 1024;
/// Why there is no batch where the disk does not give its bytes.
pub(super) const UNREADABLE: &str = "unreadable";

/// The first `until` bytes of a file.
pub(super) struct Window<'a> {
    file: &'a dyn File,
    until: u64,
    buf: Vec<u8>,
    buf_at: u64,
    /// What could not be read: no batch that reaches in there is whole.
    unreadable: Vec<Range<u64>>,
}

impl<'a> Window<'a> {
    /// Nothing is read yet.
    pub fn new(file: &'a dyn File, until: u64) -> Self {
        Self { file, until, buf: Vec::new(), buf_at: 0, unreadable: Vec::new() }
    }

    /// Where it ends.
    pub fn until(&self) -> u64 {
        self.until
    }

    /// The whole batch at `at` with its size, or why there is none.
    pub fn batch(&mut self, at: u64) -> io::Result<Result<(Header, u64), &'static str>> {
        if self.until.saturating_sub(at) < HEADER_BYTES as u64 {
            return Ok(Err("less than a header"));
        }
        let Some((header, total)) = self.plausible(at)? else {
            let zeros = self.peek(at)?.get(..HEADER_BYTES).is_some_and(|b| b.iter().all(|byte| *byte == 0));
            if self.is_unread(at, at + HEADER_BYTES as u64) {
                return Ok(Err(UNREADABLE));
            }
            return Ok(Err(if zeros { "zeros" } else { "impossible length or magic" }));
        };
        let checksum = self.checksum(at, total)?;
        if self.is_unread(at, at + total) {
            return Ok(Err(UNREADABLE));
        }
        if checksum != header.crc {
            return Ok(Err("checksum mismatch"));
        }
        Ok(Ok((header, total)))
    }

    /// Whether some of `from..until` was asked for, and the disk did not give it.
    pub fn is_unread(&self, from: u64, until: u64) -> bool {
        self.unreadable.iter().any(|bad| bad.start < until && from < bad.end)
    }

    /// The header at `at` and the bytes of its batch, if they can be one's and are in the file.
    pub fn plausible(&mut self, at: u64) -> io::Result<Option<(Header, u64)>> {
        let until = self.until;
        let found = self.plausible_length(at)?.filter(|(header, total)| {
            *total <= until - at && header.base_offset >= 0 && header.last_offset_delta >= 0
        });
        Ok(found)
    }

    /// The same, for a batch that may reach past the end.
    pub fn plausible_length(&mut self, at: u64) -> io::Result<Option<(Header, u64)>> {
        if self.until.saturating_sub(at) < HEADER_BYTES as u64 {
            return Ok(None);
        }
        let header = Header::read(self.peek(at)?).filter(|header| header.magic == 2);
        Ok(header.and_then(|header| Some((header, header.total_bytes()? as u64))))
    }

    /// At least a header's worth of bytes at `at`, unless the file ends before.
    pub fn peek(&mut self, at: u64) -> io::Result<&[u8]> {
        if self.from(at).is_none_or(|rest| rest.len() < HEADER_BYTES) {
            self.fill(at)?;
        }
        Ok(self.from(at).unwrap_or_default())
    }

    /// Whether there is nothing but zeros from `at` on.
    pub fn only_zeros(&mut self, mut at: u64) -> io::Result<bool> {
        while at < self.until {
            self.fill(at)?;
            if self.buf.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += self.buf.len() as u64;
        }
        Ok(true)
    }

    /// CRC-32C of what a batch's checksum covers.
    pub fn checksum(&mut self, at: u64, total: u64) -> io::Result<u32> {
        let whole = usize::try_from(total).ok().and_then(|total| self.from(at)?.get(CRC_FROM..total));
        if let Some(covered) = whole {
            return Ok(crc32c(covered));
        }
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        let (mut at, until) = (at + CRC_FROM as u64, at + total);
        while at < until {
            let Some(rest) = self.from(at).filter(|rest| !rest.is_empty()) else {
                self.fill(at)?;
                continue;
            };
            let some = rest.get(..usize::try_from(until - at).unwrap_or(usize::MAX)).unwrap_or(rest);
            digest.update(some);
            at += some.len() as u64;
        }
        #[allow(clippy::cast_possible_truncation, reason = "a 32-bit checksum in a wider return type")]
        let crc = digest.finalize() as u32;
        Ok(crc)
    }

    /// What is in the buffer from `at` on.
    fn from(&self, at: u64) -> Option<&[u8]> {
        self.buf.get(usize::try_from(at.checked_sub(self.buf_at)?).ok()?..)
    }

    fn fill(&mut self, at: u64) -> io::Result<()> {
        let want = usize::try_from(self.until.saturating_sub(at)).unwrap_or(WINDOW_BYTES).min(WINDOW_BYTES);
        self.buf.resize(want, 0);
        self.buf_at = at;
        for bad in read_over(self.file, &mut self.buf, at)? {
            if !self.unreadable.contains(&bad) {
                self.unreadable.push(bad);
            }
        }
        if self.unreadable.len() > MOST_UNREADABLE {
            return Err(io::Error::from(rustix::io::Errno::IO));
        }
        Ok(())
    }
}
