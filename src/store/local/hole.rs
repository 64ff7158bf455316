//! Damaged places of a segment: bytes that hold no readable batch, between batches that do.
//!
//! Invariant: holes of a segment ascend, do not touch batches, and their offsets are never given to other records.
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
}

/// The holes of one segment; none in nearly every one, which costs its readers a look at a flag.
pub(super) struct Holes {
    any: AtomicBool,
    /// Found since somebody asked.
    news: AtomicBool,
    list: Mutex<rank::Holes, Arc<[Hole]>>,
}

impl Holes {
    /// As recovery found them, in order.
    pub fn new(list: Vec<Hole>) -> Self {
        let news = AtomicBool::new(!list.is_empty());
        Self { any: AtomicBool::new(!list.is_empty()), news, list: Mutex::new(list.into()) }
    }

    /// All of them.
    pub fn list(&self) -> Arc<[Hole]> {
        if self.any.load(Ordering::Acquire) { locked(&self.list).clone() } else { Arc::default() }
    }

    /// Whether some were found since the last call.
    pub fn take_news(&self) -> bool {
        self.news.load(Ordering::Relaxed) && self.news.swap(false, Ordering::AcqRel)
    }

    /// Remembers several.
    pub fn add_all(&self, holes: &[Hole]) {
        for hole in holes {
            self.add(*hole);
        }
    }

    /// Remembers one more; false when one is there already.
    pub fn add(&self, hole: Hole) -> bool {
        let mut list = locked(&self.list);
        if list.iter().any(|known| known.at < hole.until && hole.at < known.until) {
            return false;
        }
        let mut grown = list.to_vec();
        grown.push(hole);
        grown.sort_unstable_by_key(|hole| hole.at);
        *list = grown.into();
        self.any.store(true, Ordering::Release);
        self.news.store(true, Ordering::Release);
        true
    }
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
