//! Damaged places of a segment: bytes that hold no readable batch, between batches that do.
//!
//! Invariant: holes of a segment ascend and do not touch one another: what is found beside a known one makes that larger. Their
//! offsets are never given to other records.
//! Deliberately absent: how damage is told from a torn tail (`recovery.rs`), repair.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::locked;
use crate::lock::{Mutex, rank};

/// One damaged place: bytes `at..until` of a segment, where the records `from..to` were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    pub at: u64,
    pub until: u64,
    pub from: i64,
    pub to: i64,
    /// The disk did not give some of it: nobody knows how the rest is, and it is looked at again when the log opens.
    pub unread: bool,
}

impl Hole {
    /// Whether it is none of bytes: the offsets from the segment's end on that no record ever had. Nothing is lost there.
    pub fn is_gap(&self) -> bool {
        self.at == self.until
    }
}

/// The holes of one segment; none in nearly every one, which costs its readers a look at a flag.
pub(super) struct Holes {
    any: AtomicBool,
    /// Found since somebody asked.
    news: AtomicBool,
    list: Mutex<rank::Holes, Arc<[Hole]>>,
}

impl Holes {
    /// As a record or recovery has them.
    pub fn new(list: Vec<Hole>) -> Self {
        let any = AtomicBool::new(!list.is_empty());
        let news = AtomicBool::new(list.iter().any(|hole| !hole.is_gap()));
        Self { any, news, list: Mutex::new(merged(list).into()) }
    }

    /// All of them.
    pub fn list(&self) -> Arc<[Hole]> {
        if self.any.load(Ordering::Acquire) { locked(&self.list).clone() } else { Arc::default() }
    }

    /// Whether some were found since the last call.
    pub fn take_news(&self) -> bool {
        self.news.load(Ordering::Relaxed) && self.news.swap(false, Ordering::AcqRel)
    }

    /// Remembers more, as one with those that they reach into.
    pub fn add(&self, holes: &[Hole]) {
        let mut list = locked(&self.list);
        let grown = merged([&**list, holes].concat());
        if *grown == **list {
            return;
        }
        *list = grown.into();
        self.any.store(true, Ordering::Release);
        self.news.store(true, Ordering::Release);
    }
}

/// In order; those that overlap or touch are one.
pub(super) fn merged(mut holes: Vec<Hole>) -> Vec<Hole> {
    holes.sort_unstable_by_key(|hole| (hole.at, hole.until));
    holes.dedup_by(|next, last| {
        let one = next.at <= last.until && !next.is_gap();
        if one {
            last.until = last.until.max(next.until);
            (last.from, last.to) = (last.from.min(next.from), last.to.max(next.to));
            last.unread |= next.unread;
        }
        one
    });
    holes
}

/// Whether the last bytes of a segment are a damaged place that may have held records, or that cannot be read: then nothing is
/// appended behind them.
pub(super) fn ends(holes: &[Hole], bytes: u64) -> bool {
    holes.iter().any(|hole| hole.until == bytes && (hole.to > hole.from || hole.unread))
}

/// The hole around `position`.
pub(super) fn around(holes: &[Hole], position: u64) -> Option<Hole> {
    holes.iter().find(|hole| hole.at <= position && position < hole.until).copied()
}

/// The hole that `offset` was in.
pub(super) fn of(holes: &[Hole], offset: i64) -> Option<Hole> {
    holes.iter().find(|hole| hole.from <= offset && offset < hole.to).copied()
}

/// The first hole that begins at or past `position`.
pub(super) fn next(holes: &[Hole], position: u64) -> Option<Hole> {
    holes.iter().find(|hole| hole.at >= position).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_that_reaches_into_a_known_one_makes_it_larger() {
        let hole = |at, until, from, to| Hole { at, until, from, to, unread: false };
        let holes = Holes::new(vec![hole(40, 50, 4, 5)]);
        assert!(holes.take_news() && !holes.take_news());
        holes.add(&[hole(42, 48, 4, 5)]);
        assert!(!holes.take_news(), "inside of a known one");
        holes.add(&[hole(40, 60, 4, 6), hole(80, 90, 8, 9), hole(0, 10, 0, 1)]);
        assert!(holes.take_news());
        assert_eq!(*holes.list(), [hole(0, 10, 0, 1), hole(40, 60, 4, 6), hole(80, 90, 8, 9)]);
        holes.add(&[hole(60, 80, 6, 8)]);
        assert_eq!(*holes.list(), [hole(0, 10, 0, 1), hole(40, 90, 4, 9)], "what touches is one");
    }
}
