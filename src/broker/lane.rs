//! Long work of the processor's, off the runtime's workers.
//!
//! A worker that computes for milliseconds makes every connection on it wait. Such work takes a lane: a thread of
//! the runtime's for blocking work, of which half as many as the machine has processors compute at a time, so that the
//! workers always find one. Whoever comes later waits without a thread, and goes before those who have had more of the lanes (`fair.rs`).

use std::sync::Arc;

use super::Core;
use super::append::may_block;
use super::fair::{Asker, FairPlaces};

/// What a worker does in one go of what is parsed, decompressed or told, bytes: about a millisecond.
pub const IN_PLACE_BYTES: usize = 256 * 1024;

/// How much may be computed at a time.
pub(super) struct Lanes(pub(super) Arc<FairPlaces>);

impl Default for Lanes {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self(FairPlaces::new((processors / 2).max(1)))
    }
}

impl Core {
    /// The lanes, for tests that hold them.
    #[cfg(test)]
    pub fn lanes(&self) -> &Arc<FairPlaces> {
        &self.lanes.0
    }

    /// Computes `work` in a lane, begun when the future is polled first; `None` when it panicked.
    pub fn compute<T: Send + 'static>(
        &self,
        asker: Asker,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Option<T>> + Send + 'static {
        let lanes = Arc::clone(&self.lanes.0);
        async move {
            let lane = lanes.take(asker).await;
            let computed = tokio::task::spawn_blocking(move || {
                let _lane = lane;
                work()
            });
            computed.await.ok()
        }
    }

    /// Does work on about so many bytes where it is asked for; where they are many, as [`Core::in_lane`].
    pub async fn work<T>(&self, asker: Asker, bytes: usize, work: impl FnOnce() -> T) -> T {
        if bytes <= IN_PLACE_BYTES { work() } else { self.in_lane(asker, work).await }
    }

    /// Computes where it is asked for, what borrows, in a lane: the scheduler gives what else this worker has to do to another
    /// thread meanwhile. Nothing of it is left when its caller leaves: it waits before it begins, and only then.
    pub(super) async fn in_lane<T>(&self, asker: Asker, work: impl FnOnce() -> T) -> T {
        let _lane = Arc::clone(&self.lanes.0).take(asker).await;
        if may_block() { tokio::task::block_in_place(work) } else { work() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn no_more_is_computed_at_a_time_than_there_are_lanes() {
        let core = crate::broker::in_memory(crate::config::Config::default()).unwrap();
        let lanes = core.lanes.0.free();
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = |n: usize| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            core.compute(None, move || {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::yield_now();
                now.fetch_sub(1, Ordering::SeqCst);
                n
            })
        };
        let tasks: Vec<_> = (0..50).map(|n| tokio::spawn(work(n))).collect();
        for (n, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), Some(n));
        }
        assert!((1..=lanes).contains(&most.load(Ordering::SeqCst)));
        assert_eq!(core.compute(None, || panic!("as planned")).await, None::<()>);
        assert_eq!(core.lanes.0.free(), lanes, "a panic gives its lane back");
    }
}
