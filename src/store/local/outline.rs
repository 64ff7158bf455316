//! What is kept in memory of the index of a sealed segment: where in its file to look.
//!
//! Invariant: however long an index is, its outline is of at most so many blocks, and each block that is read has the
//! checksum that it had when the whole file checked out. Deliberately absent: reading the file (`segment.rs`).

use std::ops::Range;

use super::index::{ENTRY_BYTES, Entry, HEAD_BYTES, Index};

/// Entries of a block at least: an index of no more is kept whole.
const LEAST_ENTRIES: usize = 512;
/// Blocks of an outline at most.
const MOST_BLOCKS: usize = 512;

/// What is asked of an index.
#[derive(Clone, Copy, Debug)]
pub(super) enum Want {
    /// The last entry at or below an offset, relative to the segment's.
    Offset(i64),
    /// The last entry at or below a position.
    Position(u64),
    /// The last entry before which everything is older.
    Time(i64),
    /// From the last entry at or below the one position to the first at or past the other.
    Span(u64, u64),
}

/// An index whose entries stay in its file.
#[derive(Debug)]
pub(super) struct Outline {
    blocks: Vec<Block>,
    /// Entries of each block but the last.
    entries: usize,
    /// Entries of all.
    count: usize,
    sum: u32,
}

#[derive(Debug)]
struct Block {
    first: Entry,
    crc: u32,
}

impl Outline {
    /// Of an index and the file that it was decoded from; `None` when the index is short.
    pub fn new(index: &Index, file: &[u8]) -> Option<Self> {
        let count = index.entries().len();
        if count <= LEAST_ENTRIES {
            return None;
        }
        let entries = count.div_ceil(MOST_BLOCKS).max(LEAST_ENTRIES);
        let bytes = file.get(HEAD_BYTES..HEAD_BYTES + count * ENTRY_BYTES)?;
        let of = |(some, bytes): (&[Entry], &[u8])| {
            Some(Block { first: *some.first()?, crc: crc32fast::hash(bytes) })
        };
        let blocks = index.entries().chunks(entries).zip(bytes.chunks(entries * ENTRY_BYTES)).map(of);
        Some(Self { blocks: blocks.collect::<Option<_>>()?, entries, count, sum: index.sum() })
    }

    /// The blocks in which the answer is.
    pub fn covering(&self, want: Want) -> Range<usize> {
        let before = |is: &dyn Fn(&Entry) -> bool| self.blocks.partition_point(|block| is(&block.first));
        let last = |end: usize| end.saturating_sub(1)..end.max(1);
        match want {
            Want::Offset(offset) => last(before(&|e| i64::from(e.offset) <= offset)),
            Want::Position(position) => last(before(&|e| u64::from(e.position) <= position)),
            Want::Time(time) => last(before(&|e| e.newest_before < time)),
            Want::Span(from, until) => {
                let first = last(before(&|e| u64::from(e.position) <= from)).start;
                // The entry that ends it may be the first of one block more.
                let end = before(&|e| u64::from(e.position) < until) + 1;
                first..end.clamp(first + 1, self.blocks.len())
            }
        }
    }

    /// Where in the file these blocks are.
    pub fn place(&self, blocks: &Range<usize>) -> (u64, usize) {
        let (from, until) = (blocks.start * self.entries, (blocks.end * self.entries).min(self.count));
        ((HEAD_BYTES + from * ENTRY_BYTES) as u64, until.saturating_sub(from) * ENTRY_BYTES)
    }

    /// These blocks as an index of their own; `None` when they are not what they were.
    pub fn decode(&self, blocks: &Range<usize>, bytes: &[u8]) -> Option<Index> {
        let known = self.blocks.get(blocks.clone())?;
        let mut found = bytes.chunks(self.entries * ENTRY_BYTES);
        let same = known.iter().all(|block| found.next().map(crc32fast::hash) == Some(block.crc));
        let sum = if blocks.end == self.blocks.len() { self.sum } else { 0 };
        same.then(|| Index::of(bytes, sum))?
    }
}

#[cfg(test)]
mod tests {
    use super::super::checkpoint::Part;
    use super::*;
    use crate::batch::{Builder, Record};

    #[test]
    fn an_outline_answers_what_the_whole_index_does() {
        let mut builder = Builder::new();
        builder.push(Record { value: Some(vec![7; 100].into()), ..Record::default() });
        let mut header = *builder.build().unwrap().header();
        let (mut index, mut part) = (Index::default(), Part::empty(1000, 0));
        for n in 0..5000 {
            header.base_offset = 1000 + n;
            header.max_timestamp = n / 3;
            index.push(1000, &header, part.bytes, part.newest.0, 1);
            part.add(&header, index.rest(1000));
        }
        let file = index.encode(&part);
        let outline = Outline::new(&index, &file).unwrap();
        let asked = |want| {
            let blocks = outline.covering(want);
            let (at, len) = outline.place(&blocks);
            let at = at as usize;
            assert!(len <= 4 * LEAST_ENTRIES * ENTRY_BYTES, "{want:?} reads {len} bytes");
            outline.decode(&blocks, &file[at..at + len]).unwrap()
        };
        let bytes = part.bytes / 5000;
        for n in (0..5010).step_by(7).chain(510..516) {
            assert_eq!(asked(Want::Offset(n)).floor_offset(n), index.floor_offset(n));
            let at = n as u64 * bytes + n as u64 % 3;
            assert_eq!(asked(Want::Position(at)).floor_position(at), index.floor_position(at));
            assert_eq!(asked(Want::Time(n / 3)).floor_time(n / 3), index.floor_time(n / 3));
            for until in [at + 1, at + 400 * bytes, at + 513 * bytes] {
                let found = asked(Want::Span(at, until)).anchors(&part, at, until);
                assert_eq!(found, index.anchors(&part, at, until), "{at}..{until}");
            }
        }
        let mut changed = file.clone();
        changed[HEAD_BYTES + 600 * ENTRY_BYTES] ^= 1;
        assert!(
            outline
                .decode(&(1..2), &changed[HEAD_BYTES + 512 * ENTRY_BYTES..][..512 * ENTRY_BYTES])
                .is_none()
        );
        assert!(Outline::new(&Index::default(), &[]).is_none(), "short ones are kept");
    }
}
