//! Where the threads of others wait for the disk.
//!
//! Invariant: whatever a caller's thread does that may wait for the disk goes through here, and nothing that is known to be
//! in memory does. Deliberately absent: schedulers (the place is passed in), the engine's own threads, which may wait.

/// Runs work that may wait for the disk on the caller's thread, after whatever the caller's scheduler has to be told.
pub type Place = fn(&mut dyn FnMut());

/// Does `work` through `place`.
pub(super) fn in_place<T>(place: Place, mut work: impl FnMut() -> T) -> T {
    let mut outcome = None;
    place(&mut || outcome = Some(work()));
    // A place that only listens.
    outcome.unwrap_or_else(work)
}
