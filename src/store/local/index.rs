//! The sparse index of a segment: offset, position and time in one list, and its file.
//!
//! Invariant: an index is a hint that can be rebuilt from the segment alone; a file whose checksum, base
//! offset or segment size does not fit is thrown away. Entries lie on batch boundaries and ascend.
//! Deliberately absent: the segment's summary, which the checkpoint keeps.

use bytes::{Buf, BufMut};

use crate::batch::Header;

const MAGIC: &[u8; 8] = b"weiridx1";
const ENTRY_BYTES: usize = 16;

/// One batch boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Offset of the batch at `position`, minus the segment's base offset.
    pub offset: u32,
    /// Where the batch starts.
    pub position: u32,
    /// Largest max-timestamp of all batches before it.
    pub newest_before: i64,
}

/// Entries of one segment from byte `from` on; what lies before is not indexed yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    entries: Vec<Entry>,
    from: u64,
    last_position: u64,
}

impl Index {
    /// An index that knows nothing before `position`.
    pub fn starting_at(position: u64) -> Self {
        Self { entries: Vec::new(), from: position, last_position: position }
    }

    /// Bytes at the front that are not indexed yet.
    pub fn missing_bytes(&self) -> u64 {
        self.from
    }

    /// Puts the index of the missing front before this one.
    pub fn prepend(&mut self, mut front: Self) {
        front.entries.append(&mut self.entries);
        self.entries = front.entries;
        self.from = 0;
    }

    /// Sees one more batch; remembers it when `interval` bytes have passed since the last entry.
    pub fn push(&mut self, base: i64, header: &Header, position: u64, newest_before: i64, interval: u32) {
        let total = header.total_bytes().unwrap_or(0) as u64;
        if position + total - self.last_position <= u64::from(interval) {
            return;
        }
        let (Ok(offset), Ok(at)) = (u32::try_from(header.base_offset - base), u32::try_from(position)) else {
            return;
        };
        self.last_position = position;
        if position > 0 {
            self.entries.push(Entry { offset, position: at, newest_before });
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

    /// The file: magic, base offset, segment bytes, entries, CRC-32 of all before.
    pub fn encode(&self, base: i64, segment_bytes: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(28 + self.entries.len() * ENTRY_BYTES);
        out.put_slice(MAGIC);
        out.put_i64(base);
        out.put_u64(segment_bytes);
        for entry in &self.entries {
            out.put_u32(entry.offset);
            out.put_u32(entry.position);
            out.put_i64(entry.newest_before);
        }
        out.put_u32(crc32fast::hash(&out));
        out
    }

    /// Reads a file back; `None` when it is damaged or belongs to another segment.
    pub fn decode(bytes: &[u8], base: i64, segment_bytes: u64) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(body) != u32::from_be_bytes(*crc) {
            return None;
        }
        let mut body = body.strip_prefix(MAGIC)?;
        let fits = body.try_get_i64().ok()? == base && body.try_get_u64().ok()? == segment_bytes;
        if !fits || !body.len().is_multiple_of(ENTRY_BYTES) {
            return None;
        }
        let mut entries = Vec::with_capacity(body.len() / ENTRY_BYTES);
        while body.has_remaining() {
            entries.push(Entry {
                offset: body.try_get_u32().ok()?,
                position: body.try_get_u32().ok()?,
                newest_before: body.try_get_i64().ok()?,
            });
        }
        let ascending = entries.is_sorted_by(|a, b| a.offset < b.offset && a.position < b.position);
        let last_position = entries.last().map_or(0, |e| u64::from(e.position));
        (ascending && last_position < segment_bytes.max(1)).then_some(Self {
            entries,
            from: 0,
            last_position,
        })
    }
}
