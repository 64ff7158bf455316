//! The reading end of a log: slices, times, and the replay at an open.
//!
//! Invariant: nothing past the end that a reader saw is handed out. Deliberately absent: a cache of our own.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::disk::is_unreadable;
use super::super::handle::Handle;
use super::super::hole;
use super::super::outline::Want;
use super::super::segment::{Boundary, Segment, log_path};
use super::super::{failed, locked};
use super::LocalLog;
use crate::store::{Error, Kind, Result, Slice};

/// Reads up to this size are copied to the heap: cheaper than faulting a map.
const HEAP_READ_BYTES: u64 = 16 << 10;
/// A read whose verified bytes end sooner than this has the next ones verified, too.
const LEAST_BYTES: u64 = 64 << 10;

impl LocalLog {
    /// Reads, and once more where a trim has moved the start meanwhile: what it took away from under the read is no damage.
    pub(super) fn reading<T>(&self, read: impl Fn() -> Result<T>) -> Result<T> {
        loop {
            let start = self.start.load(Ordering::Acquire);
            let outcome = read();
            if outcome.is_ok() || self.start.load(Ordering::Acquire) == start {
                return self.noted(Kind::ReadFailed, outcome);
            }
        }
    }

    pub(super) fn read_slice(
        &self,
        offset: i64,
        max_bytes: u64,
        min_one_message: bool,
        until: i64,
    ) -> Result<Slice> {
        let end = self.end.load(Ordering::Acquire);
        if offset < self.start.load(Ordering::Acquire) || offset > end {
            return Err(self.out_of_range());
        }
        let until = until.min(end);
        if offset >= until {
            return Ok(Slice::empty(offset));
        }
        let segment = match self.holding(offset) {
            Some(segment) if offset < segment.part().next_offset => segment,
            Some(segment) if offset < segment.goes_on_at() => {
                return self.read_slice(segment.goes_on_at(), max_bytes, min_one_message, until);
            }
            _ => return Err(self.missing(offset)),
        };
        let handle = segment.handle(&self.shared.files)?;
        let read_once = || self.read_verified(&segment, &handle, offset, max_bytes, min_one_message, until);
        let mut read = read_once();
        if let Err(Error::Io { source, .. }) = &read
            && is_unreadable(source)
        {
            segment.look_again(&handle, self.interval())?;
            read = read_once();
        }
        self.tell_damage(&segment);
        read
    }

    fn read_verified(
        &self,
        segment: &Arc<Segment>,
        handle: &Arc<Handle>,
        offset: i64,
        max_bytes: u64,
        min_one_message: bool,
        until: i64,
    ) -> Result<Slice> {
        let interval = self.interval();
        let (from, _) = segment.locate(handle, offset, interval)?;
        let mut limit = segment.locate(handle, until, interval)?;
        if !min_one_message
            && let Ok((first, _)) = segment.cut(handle, from, limit, max_bytes, interval)
            && first > from + max_bytes
        {
            // Not worth the sum of its bytes: a length that lies is found out when somebody has room for it.
            return Ok(Slice::empty(offset));
        }
        let mut ready = segment.verify(handle, from, interval)?;
        if ready < limit.0 && ready - from < max_bytes.min(LEAST_BYTES) {
            ready = segment.verify(handle, ready, interval)?;
        }
        let holes = segment.holes.list();
        if let Some(hole) = hole::around(&holes, from) {
            return Err(segment.damaged(hole.at, offset, hole.to));
        }
        if let Some(hole) = hole::next(&holes, from).filter(|hole| hole.at < limit.0) {
            limit = (hole.at, hole.from);
        }
        if limit.0 <= from {
            return Ok(Slice::empty(offset));
        }
        // What is not verified yet is the next read's.
        let cut = segment.cut(handle, from, limit, max_bytes.min(ready - from), interval)?;
        self.slice(segment, handle, from, cut)
    }

    /// Says what was found damaged, and has it kept with the next checkpoint.
    fn tell_damage(&self, segment: &Segment) {
        if segment.holes.take_news() {
            for hole in segment.holes.list().iter().filter(|hole| !hole.is_gap()) {
                let error = segment.damaged(hole.at, hole.from, hole.to);
                self.shared.incidents.raise(Kind::LogDamaged, &segment.path().to_string_lossy(), &error);
            }
            locked(&self.state).wanted = true;
            self.ask_tidy();
        }
    }

    /// No segment holds an offset between start and end: the file that did is gone.
    fn missing(&self, offset: i64) -> Error {
        let next = self.list().iter().map(|segment| segment.base).find(|base| *base > offset);
        let to = next.unwrap_or_else(|| self.end.load(Ordering::Acquire));
        Error::Damaged { path: log_path(&self.dir, offset), position: 0, from: offset, to }
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
        let failed = |e: io::Error| match e.kind() {
            io::ErrorKind::UnexpectedEof => segment.corrupt(from, "cut off"),
            _ => failed("read", &segment.path())(e),
        };
        if until - from > HEAP_READ_BYTES
            && let Some(mapped) = handle.mapped(at, len).map_err(failed)?
        {
            return Ok(Slice::mapped(mapped, next_offset));
        }
        let mut buf = vec![0; len];
        match handle.read(&mut buf, from).map_err(failed)? {
            read if read == len => Ok(Slice::heap(buf.into(), next_offset)),
            _ => Err(segment.corrupt(from, "cut off")),
        }
    }

    pub(super) fn first_batch_since(&self, timestamp: i64, from: i64) -> Result<Option<i64>> {
        let start = self.start.load(Ordering::Acquire).max(from);
        for segment in self.list() {
            let part = segment.part();
            if part.newest.0 < timestamp || part.next_offset <= start {
                continue;
            }
            let handle = segment.handle(&self.shared.files)?;
            let mut from = segment.floor(&handle, self.interval(), Want::Time(timestamp), |index| {
                index.floor_time(timestamp)
            })?;
            if start > segment.base {
                from = from.max(segment.locate_readable(&handle, start, self.interval())?.0);
            }
            let found = segment.walk_verified(&handle, from, part.bytes, self.interval(), |header, _| {
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
            let damaged = hole::of(&segment.holes.list(), part.newest.1).is_some();
            if part.newest.1 >= start && !damaged {
                best = Some((part.newest.1, part.newest.0));
                continue;
            }
            // The newest batch may begin below the start, or be damaged: look at what is left of this segment.
            let handle = segment.handle(&self.shared.files)?;
            let (from, _) = segment.locate_readable(&handle, start.max(part.base), self.interval())?;
            segment.walk_verified::<()>(&handle, from, part.bytes, self.interval(), |header, _| {
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
            let (from, _) = segment.locate_readable(&handle, offset.max(part.base), self.interval())?;
            segment.walk_verified::<()>(&handle, from, part.bytes, self.interval(), |header, _| {
                replay(header);
                ControlFlow::Continue(())
            })?;
            self.tell_damage(&segment);
        }
        Ok(())
    }
}
