//! A number that only grows, and the tasks that wait for it.
//!
//! Used for durability (the engine advances it) and for high watermarks (the partition's writer does).
//! Advancing costs one store and one load when nobody waits: no lock, no task per waiter, no polling. Waiters are kept
//! by what they wait for: one costs the logarithm of how many there are, and those that wait for more are not looked at.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicUsize, Ordering};
use std::task::{Poll, Waker};

use super::Error;
use crate::lock::{Mutex, rank};

/// It may still advance.
const OPEN: u8 = 0;
/// It will never advance again: something failed.
const FENCED: u8 = 1;
/// It will never advance again: what it marks is gone. Outweighs a fence.
const DELETED: u8 = 2;

/// A growing offset with waiters.
#[derive(Debug)]
pub struct Watermark {
    value: AtomicI64,
    state: AtomicU8,
    waiting: AtomicUsize,
    waiters: Mutex<rank::Waiters, Waiters>,
}

/// What somebody waits for, and a number that makes it one of its kind.
type Key = (i64, u64);

#[derive(Debug, Default)]
struct Waiters {
    next_id: u64,
    by_target: BTreeMap<Key, Waker>,
}

/// A waiter's place; give it back with [`Watermark::forget`] or reach the target.
#[derive(Debug, Default)]
pub struct Registration(Option<Key>);

impl Watermark {
    /// A watermark that starts at `value`.
    #[must_use]
    pub fn new(value: i64) -> Self {
        Self {
            value: AtomicI64::new(value),
            state: AtomicU8::new(OPEN),
            waiting: AtomicUsize::new(0),
            waiters: Mutex::default(),
        }
    }

    /// The value now.
    #[must_use]
    pub fn value(&self) -> i64 {
        self.value.load(Ordering::Acquire)
    }

    /// Whether it will never advance again.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.state.load(Ordering::Acquire) != OPEN
    }

    /// Whether anybody waits.
    #[must_use]
    pub fn has_waiters(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Raises the value (a lower one is ignored) and wakes whoever waited for it.
    pub fn advance(&self, value: i64) {
        if self.value.fetch_max(value, Ordering::SeqCst) < value {
            self.wake(value);
        }
    }

    /// Fails every waiter, now and later, with [`Error::Fenced`].
    pub fn fence(&self) {
        self.stop(FENCED);
    }

    /// Fails every waiter, now and later, with [`Error::Deleted`]: nothing went wrong.
    pub fn delete(&self) {
        self.stop(DELETED);
    }

    fn stop(&self, state: u8) {
        self.state.fetch_max(state, Ordering::SeqCst);
        self.wake(i64::MAX);
    }

    /// Why it will never advance again, if so.
    fn stopped(&self) -> Option<Error> {
        match self.state.load(Ordering::Acquire) {
            OPEN => None,
            DELETED => Some(Error::Deleted),
            _ => Some(Error::Fenced),
        }
    }

    /// Ready when the value has reached `target`; otherwise registers `waker` under `place`
    /// (again on every call, so a moved task is woken where it now lives).
    ///
    /// # Errors
    /// [`Error::Fenced`] or [`Error::Deleted`] when the target can no longer be reached.
    pub fn poll_reach(
        &self,
        target: i64,
        place: &mut Registration,
        waker: &Waker,
    ) -> Poll<Result<(), Error>> {
        if self.value() >= target {
            self.forget(place);
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = self.stopped() {
            self.forget(place);
            return Poll::Ready(Err(error));
        }
        self.register(target, place, waker);
        // The value may have moved between the look and the registration.
        if self.value.load(Ordering::SeqCst) >= target {
            self.forget(place);
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = self.stopped() {
            self.forget(place);
            return Poll::Ready(Err(error));
        }
        Poll::Pending
    }

    /// Gives a place back.
    pub fn forget(&self, place: &mut Registration) {
        let Some(key) = place.0.take() else { return };
        let mut waiters = self.waiters.lock();
        waiters.by_target.remove(&key);
        self.waiting.store(waiters.by_target.len(), Ordering::SeqCst);
    }

    fn register(&self, target: i64, place: &mut Registration, waker: &Waker) {
        let mut waiters = self.waiters.lock();
        if let Some(key) = place.0 {
            if key.0 == target
                && let Some(entry) = waiters.by_target.get_mut(&key)
            {
                entry.clone_from(waker);
                return;
            }
            waiters.by_target.remove(&key);
        }
        let key = (target, waiters.next_id);
        waiters.next_id += 1;
        waiters.by_target.insert(key, waker.clone());
        self.waiting.store(waiters.by_target.len(), Ordering::SeqCst);
        place.0 = Some(key);
    }

    /// Wakes those who wait for `reached` or less.
    fn wake(&self, reached: i64) {
        if !self.has_waiters() {
            return;
        }
        let mut woken = Vec::new();
        {
            let mut waiters = self.waiters.lock();
            while let Some(first) = waiters.by_target.first_entry().filter(|first| first.key().0 <= reached) {
                woken.push(first.remove());
            }
            self.waiting.store(waiters.by_target.len(), Ordering::SeqCst);
        }
        woken.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiter_is_ready_once_the_value_reaches_its_target() {
        let mark = Watermark::new(3);
        let mut place = Registration::default();
        assert!(mark.poll_reach(5, &mut place, Waker::noop()).is_pending());
        assert!(mark.has_waiters());
        mark.advance(4);
        assert!(mark.has_waiters());
        mark.advance(5);
        assert!(!mark.has_waiters());
        assert!(matches!(mark.poll_reach(5, &mut place, Waker::noop()), Poll::Ready(Ok(()))));
    }

    #[test]
    fn a_fenced_mark_fails_those_above_it_and_no_one_below() {
        let mark = Watermark::new(3);
        let mut place = Registration::default();
        assert!(mark.poll_reach(5, &mut place, Waker::noop()).is_pending());
        mark.fence();
        assert!(matches!(mark.poll_reach(5, &mut place, Waker::noop()), Poll::Ready(Err(Error::Fenced))));
        assert!(matches!(mark.poll_reach(3, &mut place, Waker::noop()), Poll::Ready(Ok(()))));
        assert!(!mark.has_waiters());
    }

    /// A waker that counts.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_waits_for_less_is_woken_once_and_the_others_keep_their_place() {
        let mark = Watermark::new(0);
        let count = std::sync::Arc::<Count>::default();
        let waker = Waker::from(std::sync::Arc::clone(&count));
        let mut places: Vec<Registration> = (0..2_000).map(|_| Registration::default()).collect();
        for (place, target) in places.iter_mut().zip(1..) {
            assert!(mark.poll_reach(target, place, &waker).is_pending());
        }
        mark.advance(500);
        assert_eq!((count.0.load(Ordering::Relaxed), mark.waiters.lock().by_target.len()), (500, 1_500));
        // Another target moves the place, the same one keeps it.
        assert!(mark.poll_reach(5_000, &mut places[500], &waker).is_pending());
        assert!(mark.poll_reach(502, &mut places[501], &waker).is_pending());
        assert_eq!(mark.waiters.lock().by_target.len(), 1_500);
        for place in &mut places[..1_000] {
            mark.forget(place);
        }
        mark.advance(1_600);
        assert_eq!((count.0.load(Ordering::Relaxed), mark.waiters.lock().by_target.len()), (1_100, 400));
        mark.fence();
        assert_eq!((count.0.load(Ordering::Relaxed), mark.has_waiters()), (1_500, false));
    }
}
