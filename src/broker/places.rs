//! Places that are waited for, and the watch over everything that somebody waits for.
//!
//! Whatever is bounded has a line, and a line that does not move is how a hang looks: no error, no work, a process that
//! answers "ready". So each of them says how many wait and how many were served ([`Progress`]), and one watch looks at all of
//! them once a second: a line in which somebody waited at ten looks in a row while nobody was served stands still, and is an
//! incident until somebody is. Looks are counted and not time, so a process that was stopped for a while alarms nobody.
//! Deliberately absent: what the places are for, who comes first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::{Core, IncidentKind};
use crate::lock::{Mutex, rank};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A line that has not moved for so many looks stands still.
const LOOKS: u32 = 10;

/// One of the places, until it is dropped.
pub type Place = OwnedSemaphorePermit;

/// So many places, and the line of those who wait for one, in the order in which they came.
pub struct Places {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    served: AtomicU64,
}

/// A line as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How many wait.
    pub waiting: usize,
    /// How many of those who waited were served so far.
    pub served: u64,
}

/// Somebody who waits.
pub(super) struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    pub(super) fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Places {
    /// `count` of them.
    #[must_use]
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(count)),
            waiting: AtomicUsize::new(0),
            served: AtomicU64::new(0),
        })
    }

    /// Takes a place, or stands in line for one from when the future is polled first.
    ///
    /// # Errors
    /// None: nobody closes the places.
    pub async fn take(self: Arc<Self>) -> Result<Place, AcquireError> {
        // There is none free while somebody stands in line.
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(place);
        }
        let waiting = Waiting::new(&self.waiting);
        let place = Arc::clone(&self.free).acquire_owned().await;
        drop(waiting);
        self.served.fetch_add(1, Ordering::Relaxed);
        place
    }

    /// How its line stands.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress {
            waiting: self.waiting.load(Ordering::Relaxed),
            served: self.served.load(Ordering::Relaxed),
        }
    }

    /// How many are free.
    #[cfg(test)]
    pub fn free(&self) -> usize {
        self.free.available_permits()
    }

    /// All that are free, as if somebody had each.
    #[cfg(test)]
    pub fn take_all(&self) -> Place {
        let all = u32::try_from(self.free.available_permits()).unwrap();
        Arc::clone(&self.free).try_acquire_many_owned(all).unwrap()
    }
}

/// Everything that is waited for.
#[derive(Default)]
pub(super) struct Watch(Mutex<rank::Watched, Vec<Line>>);

/// A line that is watched.
struct Line {
    /// What its people wait for.
    what: String,
    progress: Box<dyn Fn() -> Progress + Send + Sync>,
    /// How many had been served at the last look, and for how many looks that was all.
    served: u64,
    still: u32,
}

/// What a look found.
enum Found {
    Moves,
    StandsStill { waiting: usize },
}

impl Line {
    fn look(&mut self) -> Found {
        let Progress { waiting, served } = (self.progress)();
        self.still = if waiting == 0 || served != self.served { 0 } else { self.still + 1 };
        self.served = served;
        if self.still < LOOKS { Found::Moves } else { Found::StandsStill { waiting } }
    }
}

impl Core {
    /// Watches a line from now on: of people who wait for `what`.
    pub fn watch(&self, what: impl Into<String>, progress: impl Fn() -> Progress + Send + Sync + 'static) {
        let line = Line { what: what.into(), progress: Box::new(progress), served: 0, still: 0 };
        self.watch.0.lock().push(line);
    }

    pub(super) fn watch_places(&self, what: &str, places: &Arc<Places>) {
        let places = Arc::clone(places);
        self.watch(what, move || places.progress());
    }

    /// Looks at all lines until `stopped`.
    pub(super) async fn watch_lines(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = stopped.changed() => return,
                _ = look.tick() => self.look_at_lines(),
            }
        }
    }

    /// One look at all lines: what stands still is an incident from now on, and what moves again is none any more.
    pub fn look_at_lines(&self) {
        let found: Vec<_> =
            self.watch.0.lock().iter_mut().map(|line| (line.what.clone(), line.look())).collect();
        let incidents = self.incidents();
        for (what, found) in found {
            match found {
                Found::Moves => incidents.clear(IncidentKind::Standstill, &what),
                Found::StandsStill { waiting } if !incidents.stands_for(IncidentKind::Standstill, &what) => {
                    let text = format_args!("{waiting} wait for {what}, and nobody was served in {LOOKS} s");
                    incidents.raise(IncidentKind::Standstill, &what, &text);
                }
                Found::StandsStill { .. } => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::broker::in_memory;
    use crate::config::Config;

    /// Stands in line, and is not polled again unless somebody does.
    fn stand(
        places: &Arc<Places>,
    ) -> (bool, std::pin::Pin<Box<impl Future<Output = Result<Place, AcquireError>>>>) {
        let mut waits = Box::pin(Arc::clone(places).take());
        let polled = waits.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        (matches!(polled, Poll::Ready(Ok(_))), waits)
    }

    #[test]
    fn a_line_is_as_long_as_those_in_it_and_who_leaves_was_not_served() {
        let places = Places::new(1);
        assert!(stand(&places).0, "and gives it back");
        assert_eq!(places.progress(), Progress { waiting: 0, served: 0 }, "who finds a place does not wait");
        let held = places.take_all();
        let (first, second) = (stand(&places), stand(&places));
        assert!(!first.0 && !second.0);
        assert_eq!(places.progress(), Progress { waiting: 2, served: 0 });
        drop(first);
        assert_eq!(places.progress(), Progress { waiting: 1, served: 0 });
        drop(held);
        assert!(!stand(&places).0, "nobody overtakes");
        let mut second = second.1;
        assert!(second.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        assert_eq!(places.progress(), Progress { waiting: 0, served: 1 });
    }

    #[tokio::test]
    async fn a_line_that_stands_still_degrades_health_until_it_moves() {
        let core = in_memory(Config::default()).unwrap();
        let places = Places::new(1);
        core.watch_places("a place", &places);
        let held = places.take_all();
        // Somebody who was granted a place and does not take it is not served, either: that is how a door hangs.
        let (_, mut waits) = stand(&places);
        let look = |times: u32| (0..times).for_each(|_| core.look_at_lines());
        look(LOOKS - 1);
        assert_eq!(core.reasons(), []);
        drop(held);
        look(2);
        let reasons = core.reasons();
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        assert!(reasons[0].standing && reasons[0].text.contains("1 wait for a place"), "{reasons:?}");
        look(LOOKS);
        assert_eq!(
            core.incidents().counted(IncidentKind::Standstill),
            1,
            "one incident, however long it holds"
        );
        assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        look(1);
        assert!(!core.incidents().stands(IncidentKind::Standstill));
    }

    #[tokio::test]
    async fn a_line_that_is_long_and_moves_is_no_incident() {
        let core = in_memory(Config::default()).unwrap();
        let served = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&served);
        core.watch("something", move || Progress { waiting: 1000, served: told.load(Ordering::Relaxed) });
        for _ in 0..3 * LOOKS {
            core.look_at_lines();
            if core.watch.0.lock().iter().any(|line| line.still == LOOKS - 1) {
                served.fetch_add(1, Ordering::Relaxed);
            }
        }
        assert_eq!(core.reasons(), []);
        (0..LOOKS).for_each(|_| core.look_at_lines());
        assert_eq!(core.reasons().len(), 1);
    }
}
