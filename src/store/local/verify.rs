//! What of a segment has been verified since it came from the disk, and how a part of it is.
//!
//! A segment is verified in chunks, each at its first read: checksums, offsets that follow one another between two
//! entries of the index, and the index's own sum over the bytes that Kafka's checksum does not cover. Invariant: what
//! was appended, or scanned by a recovery, in this life counts as verified. Deliberately absent: what becomes of damage.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::hole::{self, Hole};
use super::index::{Anchor, sum_of};
use super::window::Window;

/// Bytes of a chunk, as a power of two.
const CHUNK_BITS: u32 = 20;

/// Which chunks of a segment are verified.
pub(super) struct Verified {
    /// Everything from here on is.
    from: AtomicU64,
    chunks: Box<[AtomicU64]>,
}

impl Verified {
    /// Nothing before `from` is, everything after it is.
    pub fn new(from: u64) -> Self {
        let words = (from >> CHUNK_BITS) / 64 + 1;
        let words = if from == 0 { 0 } else { words };
        Self { from: AtomicU64::new(from), chunks: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Where what this life has written, or looked at, begins.
    pub fn fresh(&self) -> u64 {
        self.from.load(Ordering::Acquire)
    }

    /// Where the first batch that is not verified may begin, at or past `at`; the largest number when none may.
    pub fn until(&self, at: u64) -> u64 {
        let from = self.from.load(Ordering::Acquire);
        let mut chunk = at >> CHUNK_BITS;
        while chunk << CHUNK_BITS < from {
            if !self.has(chunk) {
                return if at < from { at.max(chunk << CHUNK_BITS) } else { u64::MAX };
            }
            chunk += 1;
        }
        u64::MAX
    }

    /// The bytes in which the batches of the chunk around `at` begin.
    pub fn chunk(at: u64) -> (u64, u64) {
        let chunk = at >> CHUNK_BITS;
        (chunk << CHUNK_BITS, (chunk + 1) << CHUNK_BITS)
    }

    /// The chunk around `at` checked out.
    pub fn mark(&self, at: u64) {
        let chunk = at >> CHUNK_BITS;
        if let Some(word) = usize::try_from(chunk / 64).ok().and_then(|word| self.chunks.get(word)) {
            word.fetch_or(1 << (chunk % 64), Ordering::AcqRel);
        }
    }

    /// Everything was looked at.
    pub fn mark_all(&self) {
        self.from.store(0, Ordering::Release);
    }

    fn has(&self, chunk: u64) -> bool {
        let word = usize::try_from(chunk / 64).ok().and_then(|word| self.chunks.get(word));
        word.is_some_and(|word| word.load(Ordering::Acquire) & (1 << (chunk % 64)) != 0)
    }
}

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// Checksums and offsets are right, and so is the sum over what the checksums do not cover.
    Same,
    /// As far as anybody knows.
    Fine,
    /// Checksums and offsets are right, that sum is not.
    Sum,
    /// Checksums and offsets are right. A hole keeps the sum from being checked, and leader epochs change.
    Odd,
    Bad,
}

/// Whether the batches between the first and the last anchor check out, but for the holes that are known.
pub(super) fn check(window: &mut Window<'_>, anchors: &[Anchor], holes: &[Hole]) -> io::Result<Checked> {
    for pair in anchors.windows(2) {
        let [from, to] = pair else { continue };
        match between(window, from, to, holes)? {
            Checked::Same | Checked::Fine => {}
            bad => return Ok(bad),
        }
    }
    Ok(Checked::Fine)
}

/// The same between two of them.
pub(super) fn between(
    window: &mut Window<'_>,
    from: &Anchor,
    to: &Anchor,
    holes: &[Hole],
) -> io::Result<Checked> {
    let (mut at, mut expected, mut sum, mut whole) = (from.position, from.offset, 0, true);
    let (mut epoch, mut odd) = (None, false);
    while at < to.position {
        if let Some(hole) = hole::around(holes, at) {
            (at, expected, whole) = (hole.until, hole.to, false);
            continue;
        }
        match window.batch(at)? {
            Ok((header, total)) if header.base_offset == expected => {
                sum = sum_of(sum, &header);
                at += total;
                expected = header.next_offset();
                odd |= epoch.replace(header.leader_epoch).is_some_and(|before| before != header.leader_epoch);
            }
            _ => return Ok(Checked::Bad),
        }
    }
    // A hole may reach past the anchor.
    let covered = hole::around(holes, to.position).is_some_and(|hole| hole.at < to.position);
    if !covered && (at != to.position || expected != to.offset) {
        return Ok(Checked::Bad);
    }
    Ok(match whole {
        true if to.sum == 0 => Checked::Fine,
        true if to.sum == sum => Checked::Same,
        true => Checked::Sum,
        false if odd => Checked::Odd,
        false => Checked::Fine,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_verified_one_by_one_up_to_what_this_life_wrote() {
        let chunk = 1u64 << CHUNK_BITS;
        let verified = Verified::new(3 * chunk + 5);
        assert_eq!((verified.until(7), verified.until(chunk)), (7, chunk));
        assert_eq!(verified.until(3 * chunk + 5), u64::MAX);
        verified.mark(7);
        assert_eq!(verified.until(9), chunk);
        verified.mark(2 * chunk);
        assert_eq!((verified.until(9), verified.until(2 * chunk)), (chunk, 3 * chunk));
        verified.mark(chunk);
        verified.mark(3 * chunk + 1);
        assert_eq!(verified.until(0), u64::MAX);
        let verified = Verified::new(200 * chunk);
        verified.mark(130 * chunk);
        assert_eq!((verified.until(130 * chunk), verified.until(66 * chunk)), (131 * chunk, 66 * chunk));
        verified.mark_all();
        assert_eq!(verified.until(66 * chunk), u64::MAX);
        assert_eq!(Verified::new(0).until(0), u64::MAX);
    }
}
