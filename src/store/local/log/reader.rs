//! The reading end of a log: slices, times, and the replay at an open.
//!
//! Invariant: nothing past the end that a reader saw is handed out. Deliberately absent: a cache of our own.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::failed;
use super::super::map::Mapped;
use super::super::segment::{Boundary, Handle, Segment, read_exact};
use super::LocalLog;
use crate::store::{Result, Slice};

/// Reads up to this size are copied to the heap: cheaper than faulting a map.
const HEAP_READ_BYTES: u64 = 16 << 10;

impl LocalLog {
    pub(super) fn read_slice(&self, offset: i64, max_bytes: usize, until: i64) -> Result<Slice> {
        let end = self.end.load(Ordering::Acquire);
        if offset < self.start.load(Ordering::Acquire) || offset > end {
            return Err(self.out_of_range());
        }
        let until = until.min(end);
        if offset >= until {
            return Ok(Slice::empty(offset));
        }
        let segment = self.holding(offset).ok_or_else(|| self.out_of_range())?;
        let handle = segment.handle(&self.shared.files)?;
        let (from, _) = segment.locate(&handle, offset, self.interval())?;
        let limit = segment.locate(&handle, until, self.interval())?;
        if limit.0 <= from {
            return Ok(Slice::empty(offset));
        }
        let cut = segment.cut(&handle, from, limit, max_bytes as u64, self.interval())?;
        self.slice(&segment, &handle, from, cut)
    }

    fn slice(
        &self,
        segment: &Segment,
        handle: &Arc<Handle>,
        from: u64,
        (until, next_offset): Boundary,
    ) -> Result<Slice> {
        let at = usize::try_from(from).map_err(|_| segment.corrupt(from, "past the address space"))?;
        let len =
            usize::try_from(until - from).map_err(|_| segment.corrupt(from, "past the address space"))?;
        if until - from > HEAP_READ_BYTES
            && let Some(map) = handle.mapping(until)
        {
            return Ok(Slice::mapped(Mapped { map, file: handle.file.clone(), at, len }, next_offset));
        }
        let mut buf = vec![0; len];
        match read_exact(&*handle.file, &mut buf, from) {
            Ok(()) => Ok(Slice::heap(buf.into(), next_offset)),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(segment.corrupt(from, "cut off")),
            Err(e) => Err(failed("read", &segment.path())(e)),
        }
    }

    pub(super) fn first_batch_since(&self, timestamp: i64) -> Result<Option<i64>> {
        let start = self.start.load(Ordering::Acquire);
        for segment in self.list() {
            let part = segment.part();
            if part.newest.0 < timestamp || part.next_offset <= start {
                continue;
            }
            let handle = segment.handle(&self.shared.files)?;
            let mut from =
                segment.with_index(&handle, self.interval(), |index| index.floor_time(timestamp))?;
            if start > segment.base {
                from = from.max(segment.locate(&handle, start, self.interval())?.0);
            }
            let found = segment.walk(&handle, from, part.bytes, |header, _| {
                let hit = header.max_timestamp >= timestamp && header.last_offset() >= start;
                if hit { ControlFlow::Break(header.base_offset) } else { ControlFlow::Continue(()) }
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    pub(super) fn newest_batch(&self, from: i64) -> Result<Option<(i64, i64)>> {
        let start = from.max(self.start.load(Ordering::Acquire));
        let mut best: Option<(i64, i64)> = None;
        for segment in self.list() {
            let part = segment.part();
            if part.bytes == 0 || part.next_offset <= start || best.is_some_and(|(_, t)| t >= part.newest.0) {
                continue;
            }
            if part.newest.1 >= start {
                best = Some((part.newest.1, part.newest.0));
                continue;
            }
            // The newest batch may begin below the start: look at what is left of this segment.
            let handle = segment.handle(&self.shared.files)?;
            let (from, _) = segment.locate(&handle, start, self.interval())?;
            segment.walk::<()>(&handle, from, part.bytes, |header, _| {
                if header.base_offset >= start && best.is_none_or(|(_, t)| header.max_timestamp > t) {
                    best = Some((header.base_offset, header.max_timestamp));
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(best)
    }

    /// Shows the headers of every batch from `offset` on.
    pub fn replay(&self, offset: i64, replay: &mut dyn FnMut(&crate::batch::Header)) -> Result<()> {
        for segment in self.list() {
            let part = segment.part();
            if part.next_offset <= offset || part.bytes == 0 {
                continue;
            }
            let handle = segment.handle(&self.shared.files)?;
            let (from, _) = segment.locate(&handle, offset.max(part.base), self.interval())?;
            segment.walk::<()>(&handle, from, part.bytes, |header, _| {
                replay(header);
                ControlFlow::Continue(())
            })?;
        }
        Ok(())
    }
}
