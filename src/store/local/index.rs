//! The sparse index of a segment: offset, position and time in one list, and its file.
//!
//! Between two entries it also keeps a sum over the bytes of the batches that Kafka's checksum does not cover (base
//! offset, length, leader epoch, magic, checksum). Invariant: an index is a hint that can be rebuilt from the segment
//! alone; a file whose checksum or base offset does not fit is thrown away. Entries lie on batch boundaries and ascend.
//! The file may cover the front of its segment only. Deliberately absent: the segment's summary, which the checkpoint keeps.

use bytes::{Buf, BufMut};

use super::checkpoint::{Part, Rest};
use crate::batch::{CRC_FROM, Header};

const MAGIC: &[u8; 8] = b"weiridx2";
pub(super) const ENTRY_BYTES: usize = 20;
/// Magic, base offset, and what is covered.
pub(super) const HEAD_BYTES: usize = 8 + 8 + 8 + 8 + 8 + 4;

/// One batch boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Offset of the batch at `position`, minus the segment's base offset.
    pub offset: u32,
    /// Where the batch starts.
    pub position: u32,
    /// Largest max-timestamp of all batches before it.
    pub newest_before: i64,
    /// Sum over the batches since the entry before; 0 when nobody knows.
    pub sum: u32,
}

/// A batch boundary as a verification needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Anchor {
    pub position: u64,
    pub offset: i64,
    /// Sum over the batches since the anchor before; 0 when nobody knows.
    pub sum: u32,
}

/// Entries of one segment, or of what lies past its front.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    entries: Vec<Entry>,
    /// What is not indexed yet.
    front: Option<Part>,
    last_position: u64,
    /// Sum over the batches since the last entry.
    sum: u32,
    /// Some of those could not be read: their sum is not known.
    unsummed: bool,
}

impl Index {
    /// An index that knows nothing before the end of `part`.
    pub fn after(part: &Part) -> Self {
        let mut index = Self { last_position: part.bytes, ..Self::default() };
        index.front = (part.bytes > 0).then_some(*part);
        if part.bytes > 0
            && let (Ok(offset), Ok(position)) =
                (u32::try_from(part.next_offset - part.base), u32::try_from(part.bytes))
        {
            index.entries.push(Entry { offset, position, newest_before: part.newest.0, sum: 0 });
        }
        index
    }

    /// The entries in `bytes`, as they stand in a file, with the sum over the batches since the last of them. `None` where they
    /// do not ascend.
    pub fn of(mut bytes: &[u8], sum: u32) -> Option<Self> {
        let mut entries = Vec::with_capacity(bytes.len() / ENTRY_BYTES);
        while bytes.has_remaining() {
            entries.push(Entry {
                offset: bytes.try_get_u32().ok()?,
                position: bytes.try_get_u32().ok()?,
                newest_before: bytes.try_get_i64().ok()?,
                sum: bytes.try_get_u32().ok()?,
            });
        }
        let ascending = entries.is_sorted_by(|a, b| a.offset < b.offset && a.position < b.position);
        let last_position = entries.last().map_or(0, |e| u64::from(e.position));
        ascending.then_some(Self { entries, last_position, sum, ..Self::default() })
    }

    /// All of them.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Sum over the batches since the last entry; 0 when nobody knows.
    pub fn sum(&self) -> u32 {
        if self.unsummed { 0 } else { self.sum }
    }

    /// Batches that cannot be read come now. When they can be again, what is here must not contradict them.
    pub fn lose_sum(&mut self) {
        self.unsummed = true;
    }

    /// The front that is not indexed yet.
    pub fn missing(&self) -> Option<Part> {
        self.front
    }

    /// Puts the index of the missing front before this one.
    pub fn prepend(&mut self, mut front: Self) {
        let end = self.front.map_or(0, |part| part.bytes);
        if let Some(joint) = self.entries.first_mut().filter(|joint| u64::from(joint.position) == end) {
            joint.sum = front.sum();
        }
        front.entries.append(&mut self.entries);
        self.entries = front.entries;
        self.front = front.front;
    }

    /// Sees one more batch; remembers it when `interval` bytes have passed since the last entry.
    pub fn push(&mut self, base: i64, header: &Header, position: u64, newest_before: i64, interval: u32) {
        let total = header.total_bytes().unwrap_or(0) as u64;
        if position + total - self.last_position > u64::from(interval)
            && let (Ok(offset), Ok(at)) = (u32::try_from(header.base_offset - base), u32::try_from(position))
        {
            self.last_position = position;
            if position > self.front.map_or(0, |part| part.bytes) {
                let sum = self.sum();
                self.entries.push(Entry { offset, position: at, newest_before, sum });
                (self.sum, self.unsummed) = (0, false);
            }
        }
        self.sum = sum_of(self.sum, header);
    }

    /// What has been pushed since the last entry, of the segment with this base offset.
    pub fn rest(&self, base: i64) -> Rest {
        match self.entries.last() {
            Some(last) => {
                Rest { at: last.position.into(), offset: base + i64::from(last.offset), sum: self.sum() }
            }
            None if self.front.is_none() => Rest { at: 0, offset: base, sum: self.sum() },
            None => Rest::default(),
        }
    }

    /// Position of the last entry at or below `offset` (relative), 0 when there is none.
    pub fn floor_offset(&self, offset: i64) -> u64 {
        let at = self.entries.partition_point(|e| i64::from(e.offset) <= offset);
        self.before(at)
    }

    /// Position and relative offset of the last entry at or below `position`, zeros when there is none.
    pub fn floor_position(&self, position: u64) -> (u64, i64) {
        let at = self.entries.partition_point(|e| u64::from(e.position) <= position);
        let entry = at.checked_sub(1).and_then(|at| self.entries.get(at));
        entry.map_or((0, 0), |e| (e.position.into(), e.offset.into()))
    }

    /// Where to start looking for the first batch whose max-timestamp is at least `timestamp`.
    pub fn floor_time(&self, timestamp: i64) -> u64 {
        let at = self.entries.partition_point(|e| e.newest_before < timestamp);
        self.before(at)
    }

    fn before(&self, at: usize) -> u64 {
        at.checked_sub(1).and_then(|i| self.entries.get(i)).map_or(0, |e| u64::from(e.position))
    }

    /// The boundaries from the last one at or below `from` to the first one at or past `until`, the end of `part`
    /// if there is none.
    pub fn anchors(&self, part: &Part, from: u64, until: u64) -> Vec<Anchor> {
        let anchor = |e: &Entry| Anchor {
            position: e.position.into(),
            offset: part.base + i64::from(e.offset),
            sum: e.sum,
        };
        let first = self.entries.partition_point(|e| u64::from(e.position) <= from);
        let last = self.entries.partition_point(|e| u64::from(e.position) < until);
        let front = Anchor { position: 0, offset: part.base, sum: 0 };
        let mut anchors = vec![first.checked_sub(1).and_then(|i| self.entries.get(i)).map_or(front, anchor)];
        anchors.extend(
            self.entries.get(first..(last + 1).min(self.entries.len())).into_iter().flatten().map(anchor),
        );
        if last >= self.entries.len() {
            anchors.push(Anchor { position: part.bytes, offset: part.next_offset, sum: self.sum() });
        }
        anchors
    }

    /// The file of a whole index: magic, base offset, what is covered (bytes, offset after it, largest timestamp in
    /// it, sum since the last entry), entries, CRC-32 of all before.
    pub fn encode(&self, part: &Part) -> Vec<u8> {
        self.encode_until(self.entries.len(), part, self.sum())
    }

    /// The file of the front that ends at the last entry within the first `bytes`; `None` when there is none, or
    /// something is missing before it.
    pub fn encode_front(&self, part: &Part, bytes: u64) -> Option<(u64, Vec<u8>)> {
        let last = self.entries.partition_point(|e| u64::from(e.position) <= bytes).checked_sub(1)?;
        let end = self.entries.get(last).filter(|_| self.front.is_none())?;
        let covered = Part {
            bytes: end.position.into(),
            next_offset: part.base + i64::from(end.offset),
            newest: (end.newest_before, part.base),
            ..*part
        };
        Some((covered.bytes, self.encode_until(last, &covered, end.sum)))
    }

    fn encode_until(&self, count: usize, covered: &Part, sum: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + count * ENTRY_BYTES + 4);
        out.put_slice(MAGIC);
        out.put_i64(covered.base);
        out.put_u64(covered.bytes);
        out.put_i64(covered.next_offset);
        out.put_i64(covered.newest.0);
        out.put_u32(sum);
        for entry in self.entries.iter().take(count) {
            out.put_u32(entry.offset);
            out.put_u32(entry.position);
            out.put_i64(entry.newest_before);
            out.put_u32(entry.sum);
        }
        out.put_u32(crc32fast::hash(&out));
        out
    }

    /// Reads a file back, with the front of the segment that it covers; `None` when it is damaged or belongs to
    /// another segment, or a longer one.
    pub fn decode(bytes: &[u8], part: &Part) -> Option<(Self, Part)> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(body) != u32::from_be_bytes(*crc) {
            return None;
        }
        let mut body = body.strip_prefix(MAGIC)?;
        if body.try_get_i64().ok()? != part.base {
            return None;
        }
        let (bytes, next_offset) = (body.try_get_u64().ok()?, body.try_get_i64().ok()?);
        let newest = (body.try_get_i64().ok()?, part.base);
        let covered = Part { next_offset, bytes, newest, ..*part };
        let sum = body.try_get_u32().ok()?;
        if bytes > part.bytes || next_offset > part.next_offset || !body.len().is_multiple_of(ENTRY_BYTES) {
            return None;
        }
        let index = Self::of(body, sum)?;
        (index.last_position < bytes.max(1)).then_some((index, covered))
    }
}

/// Adds a batch to a sum over the bytes before those that its checksum covers; never 0.
pub(super) fn sum_of(sum: u32, header: &Header) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(sum);
    hasher.update(header.encode().get(..CRC_FROM).unwrap_or_default());
    hasher.finalize().max(1)
}
