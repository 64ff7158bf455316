//! What a person at a terminal sees while a scenario runs: one line on stderr, rewritten, then removed.
//!
//! Invariant: nothing is written when stderr is not a terminal. Deliberately absent: estimates.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use crate::lock::{Mutex, rank};

/// The progress of one scenario.
pub(super) struct Progress {
    name: String,
    shown: Option<Mutex<rank::Progress, Option<Instant>>>,
}

impl Progress {
    pub(super) fn new(name: &str) -> Self {
        let shown = stderr().is_terminal().then(|| Mutex::new(None));
        let progress = Self { name: name.to_owned(), shown };
        progress.tick(String::new);
        progress
    }

    /// Shows `text()`, at most five times a second.
    pub(super) fn tick(&self, text: impl FnOnce() -> String) {
        if let Some(shown) = &self.shown {
            let mut last = shown.lock();
            if last.is_none_or(|at| at.elapsed() > Duration::from_millis(200)) {
                *last = Some(Instant::now());
                let _ = write!(stderr(), "\r\x1b[K{} {}", self.name, text());
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
