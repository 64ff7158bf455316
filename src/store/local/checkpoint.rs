//! What is known to be durable, in a file: one record per log (`checkpoint`), all of them at a clean close.
//!
//! Invariant: a record names only bytes that had been synced when it was written. Files are replaced
//! whole (temporary file, sync, rename, sync of the directory); one that does not check out is ignored.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::path::Path;

use bytes::{Buf, BufMut, Bytes};
use uuid::Uuid;

use super::disk::{Disk, File, read_over};
use super::hole::Hole;
use crate::batch::Header;
use crate::store::{LogId, Note};

const MAGIC: &[u8; 8] = b"weirckp4";
/// Knows neither what could not be read nor when its records were made.
const MAGIC_3: &[u8; 8] = b"weirckp3";
/// Knows no rests.
const MAGIC_2: &[u8; 8] = b"weirckp2";
/// Knows no damage: the end is that of the last part.
const MAGIC_1: &[u8; 8] = b"weirckp1";

/// The synced front of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub base: i64,
    pub next_offset: i64,
    pub bytes: u64,
    /// Largest max-timestamp and the base offset of the first batch that carries it.
    pub newest: (i64, i64),
    pub opened_ms: i64,
    pub rest: Rest,
}

/// The last batches of a part, from the last entry of its index on: no entry behind them has their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rest {
    pub at: u64,
    pub offset: i64,
    /// Sum over what Kafka's checksum leaves out of them; 0 when nobody knows.
    pub sum: u32,
}

impl Part {
    /// A segment without bytes.
    pub fn empty(base: i64, opened_ms: i64) -> Self {
        Self { base, next_offset: base, bytes: 0, newest: (-1, base), opened_ms, rest: Rest::default() }
    }

    /// Counts one more batch, after the index has; `rest` is what that says.
    pub fn add(&mut self, header: &Header, rest: Rest) {
        self.rest = rest;
        self.bytes += header.total_bytes().unwrap_or(0) as u64;
        self.next_offset = header.next_offset();
        if header.max_timestamp > self.newest.0 {
            self.newest = (header.max_timestamp, header.base_offset);
        }
    }
}

/// The synced front of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// The store's generation (its count of opens) when it was made.
    pub made_in: u64,
    pub start: i64,
    /// Offset after the last synced batch, or after those that are known to have been there.
    pub end: i64,
    pub parts: Vec<Part>,
    /// Damaged places inside the parts, each with the base offset of its part.
    pub holes: Vec<(i64, Hole)>,
    pub notes: Vec<Note>,
}

impl Record {
    /// Offset that the next batch gets.
    pub fn end(&self) -> i64 {
        let last = self.parts.last().map_or(self.start, |part| part.next_offset);
        self.end.max(last).max(self.start)
    }

    /// The damaged places of one part.
    pub fn holes_of(&self, base: i64) -> Vec<Hole> {
        self.holes.iter().filter(|(of, _)| *of == base).map(|(_, hole)| *hole).collect()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.made_in);
        out.put_i64(self.start);
        out.put_i64(self.end);
        out.put_u32(count(self.parts.len()));
        for part in &self.parts {
            out.put_i64(part.base);
            out.put_i64(part.next_offset);
            out.put_u64(part.bytes);
            out.put_i64(part.newest.0);
            out.put_i64(part.newest.1);
            out.put_i64(part.opened_ms);
            out.put_u64(part.rest.at);
            out.put_i64(part.rest.offset);
            out.put_u32(part.rest.sum);
        }
        out.put_u32(count(self.holes.len()));
        for (base, hole) in &self.holes {
            out.put_i64(*base);
            out.put_u64(hole.at);
            out.put_u64(hole.until);
            out.put_i64(hole.from);
            out.put_i64(hole.to);
            out.put_u8(hole.unread.into());
        }
        out.put_u32(count(self.notes.len()));
        for note in &self.notes {
            out.put_i64(note.offset);
            out.put_u32(count(note.bytes.len()));
            out.put_slice(&note.bytes);
        }
    }

    fn decode(from: &mut Bytes, version: u8, generation: u64) -> Option<Self> {
        let made_in = if version >= 4 { from.try_get_u64().ok()? } else { generation };
        let mut record = Self { made_in, start: from.try_get_i64().ok()?, ..Self::default() };
        if version >= 2 {
            record.end = from.try_get_i64().ok()?;
        }
        for _ in 0..from.try_get_u32().ok()? {
            record.parts.push(Part {
                base: from.try_get_i64().ok()?,
                next_offset: from.try_get_i64().ok()?,
                bytes: from.try_get_u64().ok()?,
                newest: (from.try_get_i64().ok()?, from.try_get_i64().ok()?),
                opened_ms: from.try_get_i64().ok()?,
                rest: if version >= 3 { Rest::decode(from)? } else { Rest::default() },
            });
        }
        for _ in 0..if version >= 2 { from.try_get_u32().ok()? } else { 0 } {
            let base = from.try_get_i64().ok()?;
            let (at, until) = (from.try_get_u64().ok()?, from.try_get_u64().ok()?);
            let (first, to) = (from.try_get_i64().ok()?, from.try_get_i64().ok()?);
            let unread = version >= 4 && from.try_get_u8().ok()? != 0;
            record.holes.push((base, Hole { at, until, from: first, to, unread }));
        }
        for _ in 0..from.try_get_u32().ok()? {
            let offset = from.try_get_i64().ok()?;
            let len = usize::try_from(from.try_get_u32().ok()?).ok()?;
            let bytes = (len <= from.len()).then(|| from.split_to(len))?;
            record.notes.push(Note { offset, bytes: Bytes::copy_from_slice(&bytes) });
        }
        Some(record)
    }
}

impl Rest {
    fn decode(from: &mut Bytes) -> Option<Self> {
        let (at, offset) = (from.try_get_u64().ok()?, from.try_get_i64().ok()?);
        Some(Self { at, offset, sum: from.try_get_u32().ok()? })
    }
}

/// What the writer of a file knew.
fn version_of(file: &[u8]) -> Option<u8> {
    let known = [(MAGIC, 4), (MAGIC_3, 3), (MAGIC_2, 2), (MAGIC_1, 1)];
    known.into_iter().find(|(magic, _)| file.starts_with(*magic)).map(|(_, version)| version)
}

/// Records of many logs with the generation of the store that wrote them.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub generation: u64,
    pub logs: HashMap<LogId, Record>,
}

impl Records {
    /// The file: magic, generation, log count, records, CRC-32 of all before.
    pub fn encode<'a>(
        generation: u64,
        logs: impl ExactSizeIterator<Item = (&'a LogId, &'a Record)>,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_slice(MAGIC);
        out.put_u64(generation);
        out.put_u32(count(logs.len()));
        for (id, record) in logs {
            out.put_slice(id.topic.as_bytes());
            out.put_i32(id.partition);
            record.encode(&mut out);
        }
        out.put_u32(crc32fast::hash(&out));
        out
    }

    /// The file of a clean close, without the notes where it would be larger than `most`: they only spare a replay, and a
    /// file that nobody reads costs all of them.
    pub fn encode_at_most(most: u64, generation: u64, logs: &mut HashMap<LogId, Record>) -> Vec<u8> {
        let file = Self::encode(generation, logs.iter());
        if file.len() as u64 <= most {
            return file;
        }
        drop(file);
        logs.values_mut().for_each(|record| record.notes.clear());
        Self::encode(generation, logs.iter())
    }

    /// Reads a file back; `None` when it does not check out.
    pub fn decode(bytes: Vec<u8>) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        let version = version_of(body)?;
        if crc32fast::hash(body) != u32::from_be_bytes(*crc) {
            return None;
        }
        let mut from = Bytes::from(bytes);
        from.truncate(from.len().checked_sub(4)?);
        from.advance(MAGIC.len());
        let mut records = Self { generation: from.try_get_u64().ok()?, ..Self::default() };
        for _ in 0..from.try_get_u32().ok()? {
            let mut topic = [0; 16];
            from.try_copy_to_slice(&mut topic).ok()?;
            let id = LogId { topic: Uuid::from_bytes(topic), partition: from.try_get_i32().ok()? };
            records.logs.insert(id, Record::decode(&mut from, version, records.generation)?);
        }
        Some(records)
    }
}

/// Replaces a small file whole: afterwards either the old or the new content is there, whatever happens.
pub(super) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_unnamed(disk, path, bytes)?;
    path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir))
}

/// The same, but which of the two it is, is only certain once the directory was synced.
pub(super) fn replace_unnamed(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let file = disk.create(&temporary)?;
    write_all(&*file, bytes)?;
    file.sync()?;
    disk.rename(&temporary, path)
}

/// Replaces a small file whole without a sync: after a power cut it may hold anything.
pub(super) fn write_whole(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    write_all(&*disk.create(&temporary)?, bytes)?;
    disk.rename(&temporary, path)
}

/// Writes a small file from its front.
pub(super) fn write_all(file: &dyn File, bytes: &[u8]) -> io::Result<()> {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        match file.write_at(&[IoSlice::new(rest)], done as u64)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => done += written,
        }
    }
    Ok(())
}

/// Most that is read as a file of the engine's own.
pub(super) const MAX_BYTES: u64 = 1 << 30;

/// Reads a small file whole; `None` when there is none. What of it cannot be read makes it one that does not check out. Files
/// of the engine's own stay below the cap.
pub(super) fn read_all(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let bytes = match disk.file_bytes(path)? {
        Some(bytes) if bytes <= MAX_BYTES => bytes,
        _ => return Ok(None),
    };
    let mut buf = vec![0; usize::try_from(bytes).unwrap_or(0)];
    read_over(&*disk.open(path)?, &mut buf, 0)?;
    Ok(Some(buf))
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_left_out_of_a_file_that_would_be_too_large_to_be_read() {
        let id = |n| LogId { topic: Uuid::from_u128(n), partition: 0 };
        let note = Note { offset: 9, bytes: Bytes::from_static(&[7; 1000]) };
        let record = Record { start: 3, end: 9, notes: vec![note], ..Record::default() };
        let kept = |most| {
            let mut logs: HashMap<_, _> = (0..4).map(|n| (id(n), record.clone())).collect();
            Records::decode(Records::encode_at_most(most, 5, &mut logs)).unwrap()
        };
        assert_eq!(kept(5000).logs[&id(1)], record);
        let less = kept(4000);
        assert_eq!((less.generation, less.logs.len()), (5, 4));
        assert_eq!(less.logs[&id(1)], Record { notes: Vec::new(), ..record.clone() });
    }
}
