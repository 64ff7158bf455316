//! The in-memory engine: for tests of the rooms above and as the second subject of the conformance suite.
//!
//! Owns: one vector of patched batches per log, one ordered map of small state. Everything counts as
//! durable at once. Deliberately absent: segments by time of their own, files, threads, limits.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};

use super::{
    Capacity, Error, Incidents, Log, LogId, LogOptions, Meta, Note, Opened, Placed, Put, Replayed, Result,
    Segment, Slice, Span, Store, Versioned, Watermark,
};
use crate::batch::Header;
use crate::lock::{Mutex, MutexGuard, Rank, rank};

/// A store that forgets everything when it is dropped.
#[derive(Default)]
pub struct Memory {
    logs: Mutex<rank::MemoryLogs, HashMap<LogId, Arc<MemoryLog>>>,
    meta: MemoryMeta,
    incidents: Arc<Incidents>,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Store for Memory {
    fn open_log(
        &self,
        id: LogId,
        options: LogOptions,
        replay: &mut dyn FnMut(Replayed<'_>),
    ) -> Result<Opened> {
        let log = locked(&self.logs).entry(id).or_insert_with(|| Arc::new(MemoryLog::new(options))).clone();
        log.set_options(options);
        let note = {
            let state = locked(&log.state);
            let from = state.note.as_ref().map_or(state.start, |note| note.offset);
            if let Some(note) = &state.note {
                replay(Replayed::Note(note));
            }
            let batches = state.batches.iter().map(|b| &b.header).filter(|h| h.last_offset() >= from);
            batches.for_each(|header| replay(Replayed::Batch(header)));
            state.note.clone()
        };
        Ok(Opened { log, note })
    }

    fn delete_log(&self, id: LogId) -> Result<()> {
        if let Some(log) = locked(&self.logs).remove(&id) {
            log.deleted.store(true, Ordering::Release);
            log.durable.delete();
        }
        Ok(())
    }

    fn logs(&self) -> Result<Vec<LogId>> {
        let logs = locked(&self.logs);
        let mut ids: Vec<_> = logs
            .iter()
            .filter(|(_, log)| !locked(&log.state).batches.is_empty())
            .map(|(id, _)| *id)
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }

    fn meta(&self) -> &dyn Meta {
        &self.meta
    }

    fn incidents(&self) -> &Arc<Incidents> {
        &self.incidents
    }

    fn incarnation(&self) -> i32 {
        0
    }

    fn capacity(&self) -> Option<Capacity> {
        None
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }
}

struct Stored {
    header: Header,
    bytes: Bytes,
}

struct State {
    options: LogOptions,
    start: i64,
    end: i64,
    batches: Vec<Stored>,
    parts: Vec<Segment>,
    note: Option<Note>,
}

struct MemoryLog {
    state: Mutex<rank::MemoryLog, State>,
    durable: Watermark,
    deleted: AtomicBool,
}

impl MemoryLog {
    fn new(options: LogOptions) -> Self {
        let state = State { options, start: 0, end: 0, batches: Vec::new(), parts: Vec::new(), note: None };
        Self { state: Mutex::new(state), durable: Watermark::new(0), deleted: AtomicBool::new(false) }
    }
}

impl State {
    fn push(&mut self, placed: &Placed, now_ms: i64) {
        let stored = stored(placed);
        let bytes = stored.bytes.len() as u64;
        let full = self.parts.last().is_none_or(|part| {
            part.sealed
                || part.bytes + bytes > self.options.segment_bytes
                || now_ms.saturating_sub(part.opened_ms) > self.options.segment_ms
        });
        if full {
            self.seal();
            self.parts.push(Segment {
                base_offset: self.end,
                next_offset: self.end,
                bytes: 0,
                max_timestamp: -1,
                opened_ms: now_ms,
                sealed: false,
            });
        }
        self.end = placed.next_offset();
        if let Some(part) = self.parts.last_mut() {
            part.bytes += bytes;
            part.next_offset = self.end;
            part.max_timestamp = part.max_timestamp.max(stored.header.max_timestamp);
        }
        self.batches.push(stored);
    }

    fn seal(&mut self) {
        if let Some(part) = self.parts.last_mut() {
            part.sealed = true;
        }
    }

    fn check(&self, inside: bool) -> Result<()> {
        if inside { Ok(()) } else { Err(Error::OutOfRange { start: self.start, end: self.end }) }
    }
}

impl Log for MemoryLog {
    fn append(&self, batches: &[Placed], now_ms: i64) -> Result<()> {
        if self.deleted.load(Ordering::Acquire) {
            return Err(Error::Deleted);
        }
        if self.durable.is_fenced() {
            return Err(Error::Fenced);
        }
        let end = {
            let mut state = locked(&self.state);
            batches.iter().for_each(|placed| state.push(placed, now_ms));
            state.end
        };
        self.durable.advance(end);
        Ok(())
    }

    fn read(&self, offset: i64, max_bytes: usize, min_one_message: bool, until: i64) -> Result<Slice> {
        let state = locked(&self.state);
        state.check(offset >= state.start && offset <= state.end)?;
        let first = state.batches.partition_point(|b| b.header.last_offset() < offset);
        let (mut out, mut next_offset) = (BytesMut::new(), offset);
        for batch in state.batches.iter().skip(first) {
            let fits = min_one_message && out.is_empty() || out.len() + batch.bytes.len() <= max_bytes;
            if !fits || batch.header.next_offset() > until {
                break;
            }
            out.extend_from_slice(&batch.bytes);
            next_offset = batch.header.next_offset();
        }
        Ok(Slice::heap(out.freeze(), next_offset))
    }

    fn seek_time(&self, timestamp: i64, from: i64) -> Result<Option<i64>> {
        let state = locked(&self.state);
        let from = from.max(state.start);
        let mut live = state.batches.iter().map(|b| &b.header).filter(|h| h.last_offset() >= from);
        Ok(live.find(|h| h.max_timestamp >= timestamp).map(|h| h.base_offset))
    }

    fn max_timestamp(&self, from: i64) -> Result<Option<(i64, i64)>> {
        let state = locked(&self.state);
        let from = from.max(state.start);
        let live = state.batches.iter().map(|b| &b.header).filter(|h| h.base_offset >= from);
        let newest = live.min_by_key(|h| (std::cmp::Reverse(h.max_timestamp), h.base_offset));
        Ok(newest.map(|h| (h.base_offset, h.max_timestamp)))
    }

    fn trim_to(&self, offset: i64) -> Result<()> {
        let mut state = locked(&self.state);
        state.check(offset <= state.end)?;
        state.start = state.start.max(offset);
        let start = state.start;
        state.parts.retain(|part| part.next_offset > start);
        let kept = state.parts.first().map_or(state.end, |part| part.base_offset);
        state.batches.retain(|b| b.header.base_offset >= kept);
        Ok(())
    }

    fn span(&self) -> Span {
        let state = locked(&self.state);
        Span { start: state.start, durable: self.durable.value(), end: state.end }
    }

    fn segments(&self) -> Vec<Segment> {
        locked(&self.state).parts.clone()
    }

    fn durable(&self) -> &Watermark {
        &self.durable
    }

    fn sync(&self) {}

    fn seal(&self) -> Result<()> {
        locked(&self.state).seal();
        Ok(())
    }

    fn checkpoint(&self, note: &[u8]) -> Result<()> {
        let mut state = locked(&self.state);
        state.note = Some(Note { offset: state.end, bytes: Bytes::copy_from_slice(note) });
        Ok(())
    }

    fn set_options(&self, options: LogOptions) {
        locked(&self.state).options = options;
    }
}

/// The batch as it stands in a log: base offset and leader epoch written over the sender's.
fn stored(placed: &Placed) -> Stored {
    let bytes = placed.batch.placed(placed.base_offset, placed.leader_epoch);
    let mut header = *placed.batch.header();
    header.base_offset = placed.base_offset;
    header.leader_epoch = placed.leader_epoch;
    Stored { header, bytes }
}

/// Small state in an ordered map.
#[derive(Default)]
struct MemoryMeta {
    state: Mutex<rank::MemoryMeta, (u64, BTreeMap<String, Versioned>)>,
}

impl Meta for MemoryMeta {
    fn get(&self, key: &str) -> Result<Option<Versioned>> {
        Ok(locked(&self.state).1.get(key).cloned())
    }

    fn put_if(&self, key: &str, value: &[u8], expected: Option<u64>) -> Result<Put> {
        let mut state = locked(&self.state);
        if state.1.get(key).map(|found| found.version) != expected {
            return Ok(Put::Lost);
        }
        state.0 += 1;
        let version = state.0;
        state.1.insert(key.to_owned(), Versioned { version, value: Bytes::copy_from_slice(value) });
        Ok(Put::Won(version))
    }

    fn delete_if(&self, key: &str, expected: u64) -> Result<Put> {
        let mut state = locked(&self.state);
        if state.1.get(key).map(|found| found.version) != Some(expected) {
            return Ok(Put::Lost);
        }
        state.1.remove(key);
        Ok(Put::Won(0))
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>> {
        let state = locked(&self.state);
        let from = state.1.range(prefix.to_owned()..);
        Ok(from.take_while(|(k, _)| k.starts_with(prefix)).map(|(k, v)| (k.clone(), v.clone())).collect())
    }
}

fn locked<R: Rank, T>(mutex: &Mutex<R, T>) -> MutexGuard<'_, R, T> {
    mutex.lock()
}
