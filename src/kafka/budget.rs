//! Memory of requests, and memory of answers, over all connections of a door: each is one budget.
//!
//! Requests: what has arrived of a frame, and what waits for its answer.
//! Invariant: a frame that has begun can always be finished. Small requests pass at any time; above the limit
//! large ones stop being read and stand in line, and the first in line may read on whatever the sum says, so
//! that the sum goes down. Who needs least goes first: a hundred announced megabytes that never come hold up
//! nobody else. A turn ends in time: who holds memory and does not finish loses its connection.
//! Answers: what clients have not read yet. Small ones pass; above the limit large ones are made one at a time, for
//! whoever has read all that it asked for before, and while somebody waits for that, who does not read loses its
//! connection (`connection.rs` looks). What one connection may hold has a limit of its own there.
//! Cost: nothing for what is read, answered and written in one wake-up, else one addition per wake-up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as Task, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::lock::{Mutex, MutexGuard, rank};

/// What a connection may hold whatever the others do: metadata, heartbeats and small batches go on.
pub(super) const SMALL_BYTES: usize = 16 * 1024;
/// How long the first in line may take to finish its frame, or to read its answer.
const TURN: Duration = Duration::from_secs(5);

/// The sum, and the line of those who wait for it to go down.
pub(super) struct Budget {
    /// What it is about, and the key of its limit.
    what: &'static str,
    limit: usize,
    used: AtomicUsize,
    line: Mutex<rank::MemoryLine, Line>,
}

#[derive(Default)]
struct Line {
    /// The first has its turn; the others by what they need.
    waiting: VecDeque<Waiting>,
    next_ticket: u64,
    said: Option<Instant>,
}

struct Waiting {
    ticket: u64,
    needs: usize,
    waker: Waker,
}

/// What one connection holds of the budget.
pub(super) struct Share {
    budget: Arc<Budget>,
    held: usize,
    ticket: Option<u64>,
    /// When the turn of this one ends, while it is the first in line.
    turn: Option<Instant>,
}

impl Budget {
    /// Memory of `what`. A limit of `None` is none.
    pub(super) fn new(what: &'static str, limit: Option<usize>) -> Arc<Self> {
        let limit = limit.unwrap_or(usize::MAX);
        Arc::new(Self { what, limit, used: AtomicUsize::new(0), line: Mutex::default() })
    }

    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share { budget: Arc::clone(self), held: 0, ticket: None, turn: None }
    }

    /// Whether nobody should keep memory that is not in use.
    fn is_tight(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.limit / 2
    }

    pub(super) fn is_used_up(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.limit
    }

    /// Whether somebody waits for memory.
    pub(super) fn is_pressed(&self) -> bool {
        self.is_used_up() && !self.line().waiting.is_empty()
    }

    fn line(&self) -> MutexGuard<'_, rank::MemoryLine, Line> {
        self.line.lock()
    }
}

impl Line {
    fn wake_first(&self) {
        if let Some(first) = self.waiting.front() {
            first.waker.wake_by_ref();
        }
    }

    fn enter(&mut self, needs: usize, waker: Waker) -> u64 {
        self.next_ticket += 1;
        let ahead = self.waiting.iter().skip(1).take_while(|other| other.needs <= needs).count();
        let at = self.waiting.len().min(1 + ahead);
        self.waiting.insert(at, Waiting { ticket: self.next_ticket, needs, waker });
        self.next_ticket
    }

    /// One line a minute at most.
    fn say(&mut self, what: &str, limit: usize) {
        let now = Instant::now();
        if self.said.is_none_or(|said| now.duration_since(said) >= Duration::from_secs(60)) {
            self.said = Some(now);
            tracing::warn!("{what} hold {limit} bytes: large ones wait");
        }
    }
}

impl Share {
    /// Says how much the connection holds now.
    pub(super) fn hold(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.held, bytes);
        if bytes > before {
            self.budget.used.fetch_add(bytes - before, Ordering::Relaxed);
        } else if bytes < before {
            let used = self.budget.used.fetch_sub(before - bytes, Ordering::Relaxed);
            if used >= self.budget.limit {
                self.budget.line().wake_first();
            }
        }
    }

    /// Whether what others could use is used up.
    pub(super) fn is_used_up(&self) -> bool {
        self.budget.is_used_up()
    }

    /// Whether somebody waits for memory.
    pub(super) fn is_pressed(&self) -> bool {
        self.budget.is_pressed()
    }

    /// What the connection holds.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Whether a buffer that is empty should not be kept.
    pub(super) fn is_tight(&self) -> bool {
        self.budget.is_tight()
    }

    /// How many more bytes the connection may read now, which `needs` so many for its frame; `None`: none, and
    /// it is woken when that changes.
    pub(super) fn may_grow(&mut self, needs: usize, task: &Task<'_>) -> Option<usize> {
        let small = SMALL_BYTES.saturating_sub(self.held);
        if !self.budget.is_used_up() {
            self.step_aside();
            return Some(usize::MAX);
        }
        if small > 0 {
            self.step_aside();
            return Some(small);
        }
        self.is_first(needs, task).then_some(usize::MAX)
    }

    /// Whether an answer of unknown size may be made now; if not, the connection is woken when that changes.
    pub(super) fn may_answer(&mut self, task: &Task<'_>) -> bool {
        if !self.budget.is_used_up() {
            self.step_aside();
            return true;
        }
        // Nobody makes a second one before the first was read: writing it wakes the connection.
        self.held == 0 && self.is_first(0, task)
    }

    /// Stands in line; whether this is the first there.
    fn is_first(&mut self, needs: usize, task: &Task<'_>) -> bool {
        let mut line = self.budget.line();
        let ticket = *self.ticket.get_or_insert_with(|| {
            line.say(self.budget.what, self.budget.limit);
            line.enter(needs, task.waker().clone())
        });
        if line.waiting.front().is_some_and(|first| first.ticket == ticket) {
            self.turn.get_or_insert_with(|| Instant::now() + TURN);
            return true;
        }
        // The same task polls a connection for all its life: its first waker stays good. Memory that was given
        // back before this one stood in line woke the first, which goes on and wakes the next.
        false
    }

    /// The connection does not want to read more: the next in line is the first.
    pub(super) fn step_aside(&mut self) {
        self.turn = None;
        let Some(ticket) = self.ticket.take() else { return };
        let mut line = self.budget.line();
        line.waiting.retain(|other| other.ticket != ticket);
        line.wake_first();
    }

    /// Whether the connection stands in line and is not read.
    pub(super) fn is_waiting(&self) -> bool {
        self.ticket.is_some() && self.turn.is_none()
    }

    /// Starts the turn of the connection anew.
    pub(super) fn begin_turn(&mut self) {
        self.turn = Some(Instant::now() + TURN);
    }

    /// When the turn of the connection ends, if it has one.
    pub(super) fn turn_ends(&self) -> Option<Instant> {
        self.turn
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.hold(0);
        self.step_aside();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::task::Wake;

    #[derive(Default)]
    struct Bell(AtomicBool);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    impl Bell {
        fn rang(&self) -> bool {
            self.0.swap(false, Ordering::Relaxed)
        }
    }

    fn grow(share: &mut Share, bell: &Arc<Bell>) -> Option<usize> {
        let waker = Waker::from(Arc::clone(bell));
        share.may_grow(100, &Task::from_waker(&waker))
    }

    #[test]
    fn above_the_limit_one_at_a_time_reads_on_and_small_requests_pass() {
        let budget = Budget::new("requests", Some(100_000));
        let bells: Vec<Arc<Bell>> = (0..3).map(|_| Arc::default()).collect();
        let mut shares: Vec<Share> = (0..3).map(|_| budget.share()).collect();
        for (share, bell) in shares.iter_mut().zip(&bells) {
            assert_eq!(grow(share, bell), Some(usize::MAX));
            share.hold(40_000);
        }
        let mut answers = shares.iter_mut().zip(&bells).map(|(share, bell)| grow(share, bell));
        assert_eq!(answers.next(), Some(Some(usize::MAX)), "the first may finish");
        assert!(answers.all(|answer| answer.is_none()), "the others wait");
        let mut small = budget.share();
        small.hold(1_000);
        assert_eq!(grow(&mut small, &Arc::default()), Some(SMALL_BYTES - 1_000));

        // The first finishes: the second is told, goes on, and tells the third.
        shares[0].hold(0);
        shares[0].step_aside();
        assert!(bells[1].rang());
        assert!(shares[1].is_waiting());
        assert_eq!(grow(&mut shares[1], &bells[1]), Some(usize::MAX));
        assert!(bells[2].rang());
        assert_eq!(grow(&mut shares[2], &bells[2]), Some(usize::MAX));
        assert!(budget.line().waiting.is_empty());
    }

    #[test]
    fn who_needs_least_is_next_and_nobody_loses_a_turn() {
        let mut line = Line::default();
        for needs in [50, 70, 10, 70, 20] {
            line.enter(needs, Waker::noop().clone());
        }
        let order: Vec<_> = line.waiting.iter().map(|one| (one.needs, one.ticket)).collect();
        assert_eq!(order, [(50, 1), (10, 3), (20, 5), (70, 2), (70, 4)]);
    }

    #[test]
    fn a_turn_ends_and_a_connection_that_goes_gives_everything_back() {
        let budget = Budget::new("requests", Some(1));
        let bells: Vec<Arc<Bell>> = (0..2).map(|_| Arc::default()).collect();
        let mut shares: Vec<Share> = (0..2).map(|_| budget.share()).collect();
        for (share, bell) in shares.iter_mut().zip(&bells) {
            share.hold(50_000);
            grow(share, bell);
        }
        let later = Instant::now() + TURN;
        assert!(shares[0].turn_ends().is_some_and(|end| end <= later));
        assert_eq!(shares[1].turn_ends(), None);
        drop(shares.remove(0));
        assert!(bells[1].rang());
        assert_eq!(grow(&mut shares[0], &bells[1]), Some(usize::MAX));
        assert!(shares[0].turn_ends().is_some_and(|end| end >= later), "its turn begins when it comes");
        shares.clear();
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
        assert!(budget.line().waiting.is_empty());
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let budget = Budget::new("requests", None);
        let mut share = budget.share();
        share.hold(usize::MAX / 2);
        assert_eq!(grow(&mut share, &Arc::default()), Some(usize::MAX));
    }

    #[test]
    fn above_the_limit_large_answers_are_made_one_at_a_time_for_those_who_hold_none() {
        let budget = Budget::new("answers", Some(100_000));
        let bells: Vec<Arc<Bell>> = (0..3).map(|_| Arc::default()).collect();
        let mut shares: Vec<Share> = (0..3).map(|_| budget.share()).collect();
        let answer = |share: &mut Share, bell: &Arc<Bell>| {
            let waker = Waker::from(Arc::clone(bell));
            share.may_answer(&Task::from_waker(&waker))
        };
        assert!(answer(&mut shares[0], &bells[0]));
        shares[0].hold(150_000);
        assert!(!answer(&mut shares[0], &bells[0]), "it has one to read");
        assert!(!budget.is_pressed(), "and nobody waits for it");
        assert!(answer(&mut shares[1], &bells[1]), "one at a time");
        shares[1].hold(150_000);
        assert!(budget.is_pressed());
        assert!(!answer(&mut shares[1], &bells[1]), "its turn is one answer long");
        assert!(!answer(&mut shares[2], &bells[2]));
        shares[1].hold(0);
        shares[1].step_aside();
        assert!(bells[2].rang());
        assert!(answer(&mut shares[2], &bells[2]));
        drop(shares);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }
}
