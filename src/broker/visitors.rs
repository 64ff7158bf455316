//! Who is connected: open connections by listener, for whoever looks from outside.
//!
//! Deliberately absent: limits (each door has its own).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Open connections by the name of the listener.
#[derive(Default)]
pub struct Visitors(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

/// One connection, as long as it is open.
pub struct Visit(Arc<AtomicU64>);

impl Visitors {
    /// Counts a connection until the visit is dropped.
    #[must_use]
    pub fn enter(&self, listener: &str) -> Visit {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = match all.get(listener) {
            Some(count) => Arc::clone(count),
            None => Arc::clone(all.entry(listener.to_owned()).or_default()),
        };
        count.fetch_add(1, Ordering::Relaxed);
        Visit(count)
    }

    /// How many there are, by listener.
    #[must_use]
    pub fn count(&self) -> Vec<(String, u64)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(name, count)| (name.clone(), count.load(Ordering::Relaxed))).collect()
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
