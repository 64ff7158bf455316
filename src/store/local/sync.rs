//! The threads behind the appends: up to four that sync, one that tidies.
//!
//! Invariant: a log is in a queue at most once per kind of work, but for one that waits among many and is wanted alone; what is
//! asked for while that work runs is done in one more turn, so one `fdatasync` serves all who asked meanwhile (group commit). Threads start
//! with the first job. A sync that the system refused to begin is tried again after a pause. Deliberately absent: timers.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::disk::Disk;
use super::log::LocalLog;
use super::sweep::Wanted;
use super::{Shared, failed, locked};
use crate::lock::{Condvar, Mutex, rank};
use crate::store::{Incidents, Kind};

/// Files that one turn removes: large ones take a file system a while.
const REMOVED_AT_ONCE: usize = 16;

/// Work for a thread.
pub(super) enum Job {
    /// Make a log's bytes durable.
    Sync(Arc<LocalLog>),
    /// Make the store's own numbers durable.
    Settle(Arc<Shared>),
    /// Whatever a log has to do off its writer's path.
    Tidy(Arc<LocalLog>),
    /// Remove a renamed segment.
    RemoveFile(Arc<dyn Disk>, PathBuf),
    /// Remove a renamed log, and the directory above it when it was the last there.
    RemoveDirs(Arc<dyn Disk>, PathBuf),
    /// Keep space back for bad days.
    Ballast(Arc<Shared>),
    /// Find what no topic needs.
    Sweep(Arc<Shared>, Wanted),
}

/// Whether work is wanted once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    No,
    /// Somebody asked meanwhile.
    Now,
    /// It could not be begun.
    Later,
}

impl Job {
    /// Whether the next life finds it again.
    fn is_removal(&self) -> bool {
        matches!(self, Self::RemoveFile(..) | Self::RemoveDirs(..) | Self::Sweep(..))
    }

    /// Does the work, and says whether it is wanted once more.
    fn run(&self, incidents: &Incidents) -> Again {
        match self {
            Self::Sync(log) => return log.sync_turn(),
            Self::Settle(shared) => {
                // The first write tries again.
                if let Err(error) = shared.settle() {
                    incidents.note_error(Kind::UpkeepFailed, &error);
                }
            }
            Self::Tidy(log) => return log.tidy_turn(),
            Self::RemoveFile(disk, path) => removed(disk.remove_file(path), path, incidents),
            Self::RemoveDirs(disk, path) => {
                match remove_some(&**disk, path) {
                    Ok(true) => return Again::Now,
                    outcome => removed(outcome.map(drop), path, incidents),
                }
                // Most often other partitions' are there still.
                let above = path.parent().map(|above| disk.remove_empty_dir(above));
                drop(above);
            }
            Self::Ballast(shared) => shared.ballast.take(incidents),
            Self::Sweep(shared, wanted) => {
                if let Err(error) = shared.sweep(wanted) {
                    incidents.note_error(Kind::UpkeepFailed, &error);
                }
            }
        }
        Again::No
    }

    /// Does the work on this thread for as long as it is wanted. What cannot be begun now is left to whoever asks next.
    fn finish(self, incidents: &Incidents) {
        loop {
            match (self.run(incidents), &self) {
                (Again::Now, _) => {}
                (Again::Later, Self::Sync(log)) => return log.abandon_sync(),
                (Again::Later | Again::No, _) => return,
            }
        }
    }
}

/// Removes a part of what `dir` holds, or all with it; true when something is left. Others wait for the same thread.
fn remove_some(disk: &dyn Disk, dir: &Path) -> std::io::Result<bool> {
    let entries = disk.list(dir)?;
    if let Some(below) = entries.iter().find(|entry| entry.is_dir) {
        remove_some(disk, &dir.join(&below.name))?;
        return Ok(true);
    }
    if entries.len() <= REMOVED_AT_ONCE {
        return disk.remove_dirs(dir).map(|()| false);
    }
    entries.iter().take(REMOVED_AT_ONCE).try_for_each(|entry| disk.remove_file(&dir.join(&entry.name)))?;
    Ok(true)
}

/// What could not be removed is tried again at the next open.
fn removed(outcome: std::io::Result<()>, path: &Path, incidents: &Incidents) {
    if let Err(error) = outcome
        && error.kind() != std::io::ErrorKind::NotFound
    {
        incidents.note_error(Kind::UpkeepFailed, &failed("remove", path)(error));
    }
}

/// Does `work` for each item on up to `threads` threads, the caller's among them; what became of each, in no order. One is
/// missing where its thread panicked.
pub(super) fn side_by_side<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<(usize, R)> {
    let next = AtomicUsize::new(0);
    let run = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return done };
            done.push((at, work(item)));
        }
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(items.len()))
            .map_while(|_| std::thread::Builder::new().spawn_scoped(scope, run).ok())
            .collect();
        let mut done = run();
        done.extend(others.into_iter().filter_map(|other| other.join().ok()).flatten());
        done
    })
}

/// Threads with one queue.
pub(super) struct Workers {
    name: &'static str,
    limit: usize,
    incidents: Arc<Incidents>,
    /// Jobs wait until [`Workers::run_one`].
    held: bool,
    state: Mutex<rank::Workers, State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    idle: usize,
    stopped: bool,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Up to `limit` threads; with 0 every job runs on the thread that submits it.
    /// `held`: no threads, and what is submitted waits until somebody runs it.
    pub fn new(name: &'static str, limit: usize, held: bool, incidents: Arc<Incidents>) -> Arc<Self> {
        Arc::new(Self { name, limit, incidents, held, state: Mutex::default(), wake: Condvar::default() })
    }

    /// Runs the oldest job that waits; false when there is none.
    pub fn run_one(&self) -> bool {
        let Some(job) = locked(&self.state).queue.pop_front() else { return false };
        if job.run(&self.incidents) != Again::No {
            locked(&self.state).queue.push_back(job);
        }
        true
    }

    /// Queues a job.
    pub fn submit(self: &Arc<Self>, job: Job) {
        let mut state = locked(&self.state);
        if self.held && !state.stopped {
            return state.queue.push_back(job);
        }
        if state.stopped && job.is_removal() {
            return;
        }
        if self.limit == 0 || state.stopped {
            drop(state);
            return job.finish(&self.incidents);
        }
        state.queue.push_back(job);
        if state.queue.len() <= state.idle {
            drop(state);
            self.wake.notify_one();
        } else if state.threads.len() < self.limit {
            let this = self.clone();
            let thread = std::thread::Builder::new().name(self.name.to_owned()).stack_size(256 << 10);
            match thread.spawn(move || this.serve()) {
                Ok(thread) => state.threads.push(thread),
                Err(error) if state.threads.is_empty() => {
                    let text = format_args!("no thread for {}, done inline: {error}", self.name);
                    self.incidents.note(Kind::UpkeepFailed, &text);
                    let job = state.queue.pop_back();
                    drop(state);
                    job.into_iter().for_each(|job| job.finish(&self.incidents));
                }
                Err(_) => {}
            }
        }
    }

    fn serve(&self) {
        let mut state = locked(&self.state);
        loop {
            if let Some(job) = state.queue.pop_front() {
                drop(state);
                let again = job.run(&self.incidents);
                state = locked(&self.state);
                match (again, &job) {
                    (Again::No, _) => {}
                    (_, removal) if state.stopped && removal.is_removal() => {}
                    // It might be so for ever, and somebody waits for this thread.
                    (Again::Later, Job::Sync(log)) if state.stopped => log.abandon_sync(),
                    // Behind what the others want, and without waking a second thread for it.
                    _ => state.queue.push_back(job),
                }
                if again == Again::Later && !state.stopped {
                    state.idle += 1;
                    state = self.wake.wait_for(state, PAUSE);
                    state.idle -= 1;
                }
            } else if state.stopped {
                return;
            } else {
                state.idle += 1;
                state = self.wake.wait(state);
                state.idle -= 1;
            }
        }
    }

    /// Whether nobody waits for long work any more.
    pub fn is_stopped(&self) -> bool {
        locked(&self.state).stopped
    }

    /// Ends the threads, each after the job that it is at. Later jobs run where they are submitted, but for removals, of which
    /// there may be many: they are the next life's.
    pub fn stop(&self) {
        let (threads, dropped) = {
            let mut state = locked(&self.state);
            state.stopped = true;
            (std::mem::take(&mut state.threads), std::mem::take(&mut state.queue))
        };
        self.wake.notify_all();
        drop(dropped);
        for thread in threads {
            if thread.thread().id() != std::thread::current().id() {
                drop(thread.join());
            }
        }
    }
}

/// How long a thread lets pass after work that could not be begun.
const PAUSE: Duration = Duration::from_millis(50);

/// Whether work on a log is wanted, queued or running.
#[derive(Default)]
pub(super) struct Turn(AtomicU8);

const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
const AGAIN: u8 = 3;
/// Queued behind many others, which whoever wants it alone does not wait for.
const AMONG_MANY: u8 = 4;

impl Turn {
    /// Asks for a turn; true when the caller has to queue it.
    pub fn ask(&self) -> bool {
        let asked = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| match now {
            IDLE | AMONG_MANY => Some(QUEUED),
            RUNNING => Some(AGAIN),
            _ => None,
        });
        matches!(asked, Ok(IDLE | AMONG_MANY))
    }

    /// Asks for a turn behind many others; true when the caller has to queue it there.
    pub fn ask_among_many(&self) -> bool {
        let asked = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| match now {
            IDLE => Some(AMONG_MANY),
            RUNNING => Some(AGAIN),
            _ => None,
        });
        asked == Ok(IDLE)
    }

    /// Takes the turn at once; true when nobody runs one or waits for it in front of a few. Of one among many the queued turn
    /// finds nothing left.
    pub fn take(&self) -> bool {
        let taken = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| match now {
            IDLE | AMONG_MANY => Some(RUNNING),
            _ => None,
        });
        taken.is_ok()
    }

    /// The turn begins: what is asked for from now on needs another one.
    pub fn begin(&self) {
        self.0.store(RUNNING, Ordering::SeqCst);
    }

    /// The turn ends, and its holder takes it again later.
    pub fn keep(&self) {
        self.0.store(QUEUED, Ordering::SeqCst);
    }

    /// A turn that was kept is not taken after all.
    pub fn abandon(&self) {
        self.0.store(IDLE, Ordering::SeqCst);
    }

    /// The turn ends; true when the caller has to queue another.
    pub fn end(&self) -> bool {
        let ended = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
            Some(if now == AGAIN { QUEUED } else { IDLE })
        });
        ended == Ok(AGAIN)
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::RealDisk;
    use super::*;

    #[test]
    fn a_stop_leaves_removals_to_the_next_life() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gone");
        std::fs::create_dir(&path).unwrap();
        let workers = Workers::new("weir-test", 1, false, Arc::default());
        workers.stop();
        workers.submit(Job::RemoveDirs(Arc::new(RealDisk), path.clone()));
        assert!(path.exists() && workers.is_stopped());
    }
}
