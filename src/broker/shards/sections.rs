//! Plain records of compressed batches that somebody reads a few at a time.
//!
//! Whoever reads record by record decompresses the same batch for each. So where a read stops inside of a batch what was
//! decompressed of it is kept, for whoever goes on there. Invariant: all of it is at most [`KEPT_BYTES`], whoever reads, and so few
//! that they are looked through, because what is soon decompressed again is not kept; what is found is what the bytes of the batch say, because its place and its checksum name it.
//! Deliberately absent: batches that are read in one go, which are all but few.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::batch::Header;
use crate::lock::{Mutex, rank};
use crate::store::LogId;

/// Most that is kept, of all logs; the largest is a half of it.
const KEPT_BYTES: usize = 8 << 20;

/// Least that is kept of a batch.
const LEAST_BYTES: usize = 64 << 10;

/// A batch: its log, where it begins there, its checksum.
type Name = (LogId, i64, u32);

/// The sections that are kept; the last one was used last.
#[derive(Default)]
pub(in crate::broker) struct Sections(Mutex<rank::Sections, VecDeque<Kept>>);

struct Kept {
    name: Name,
    section: Bytes,
    /// The memory behind it.
    pinned: usize,
}

fn name_of(log: LogId, header: &Header) -> Name {
    (log, header.base_offset, header.crc)
}

impl Sections {
    /// The plain records of a batch, if they are kept, and the memory behind them.
    pub(super) fn find(&self, log: LogId, header: &Header) -> Option<(Bytes, usize)> {
        let name = name_of(log, header);
        let mut kept = self.0.lock();
        let at = kept.iter().position(|one| one.name == name)?;
        let found = kept.remove(at)?;
        let section = (found.section.clone(), found.pinned);
        kept.push_back(found);
        Some(section)
    }

    /// Keeps the plain records of a batch in the place of those that nobody used for longest.
    pub(super) fn keep(&self, log: LogId, header: &Header, section: &Bytes, pinned: usize) {
        if !(LEAST_BYTES..=KEPT_BYTES / 2).contains(&pinned) {
            return;
        }
        let name = name_of(log, header);
        let mut kept = self.0.lock();
        kept.retain(|one| one.name != name);
        kept.push_back(Kept { name, section: section.clone(), pinned });
        let mut bytes: usize = kept.iter().map(|one| one.pinned).sum();
        while bytes > KEPT_BYTES {
            bytes -= kept.pop_front().map_or(bytes, |one| one.pinned);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::batch::{Batches, Builder, Record};

    #[test]
    fn what_is_kept_is_bounded_and_goes_by_its_last_use() {
        let mut batch = Builder::new();
        batch.push(Record { timestamp_ms: 1, ..Record::default() });
        let batch = batch.build().unwrap();
        let header = Batches::new(batch.bytes()).next().unwrap().unwrap().header;
        let log = |partition| LogId { topic: Uuid::nil(), partition };
        let sections = Sections::default();
        let section = Bytes::from(vec![0; KEPT_BYTES / 4]);
        for partition in 0..4 {
            sections.keep(log(partition), &header, &section, section.len());
        }
        assert!(sections.find(log(0), &header).is_some());
        assert!(sections.find(log(0), &Header { crc: !header.crc, ..header }).is_none(), "another batch");
        sections.keep(log(4), &header, &section, section.len());
        let found: Vec<_> = (0..5).filter(|p| sections.find(log(*p), &header).is_some()).collect();
        assert_eq!(found, [0, 2, 3, 4]);
        sections.keep(log(5), &header, &section, KEPT_BYTES / 2 + 1);
        assert_eq!(sections.0.lock().len(), 4, "too large");
        // However small the batches are that are read.
        for size in [100, LEAST_BYTES - 1, LEAST_BYTES] {
            let section = Bytes::from(vec![0; size]);
            (0..1_000).for_each(|partition| sections.keep(log(partition), &header, &section, size));
            assert!(sections.0.lock().len() <= KEPT_BYTES / LEAST_BYTES);
        }
        assert!(sections.find(log(999), &header).is_some());
    }
}
