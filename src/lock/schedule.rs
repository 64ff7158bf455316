//! Threads of a test that take turns as dice say: at every lock, and wherever one is about to wait.
//!
//! One thread runs at a time, and a seed names the whole interleaving, so what went wrong goes wrong again. When
//! every thread waits for another one the run panics and says who waits for what. Loom and shuttle do as much for
//! programs that take all their primitives from them; here the one file that locks is enough, the threads, the locks
//! and the disk are the real ones, and the test runs with all others. Deliberately absent: weak memory orders.

use std::cell::RefCell;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What a thread does.
#[derive(Clone, Copy, PartialEq)]
enum Status {
    Ready,
    /// It waits for a lock of that rank.
    Waits(&'static str),
    Over,
}

struct State {
    dice: u64,
    threads: Vec<(&'static str, Status)>,
    turn: usize,
    /// Somebody panicked, or everybody waits: all threads end.
    broken: bool,
}

struct Schedule {
    state: Mutex<State>,
    turns: Condvar,
}

thread_local! {
    static ME: RefCell<Option<(Arc<Schedule>, usize)>> = const { RefCell::new(None) };
}

/// A thread with its name.
pub type Thread<'a> = (&'static str, Box<dyn FnOnce() + Send + 'a>);

/// Runs the threads to their ends in the interleaving that `seed` names.
///
/// # Panics
/// As the first of them does, and when all that are left wait for each other.
pub fn run(seed: u64, threads: Vec<Thread<'_>>) {
    let schedule = Arc::new(Schedule {
        state: Mutex::new(State {
            dice: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            threads: threads.iter().map(|(name, _)| (*name, Status::Ready)).collect(),
            turn: 0,
            broken: false,
        }),
        turns: Condvar::new(),
    });
    let panicked = std::thread::scope(|scope| {
        let running: Vec<_> = (0..)
            .zip(threads)
            .map(|(at, (_, work))| {
                let schedule = schedule.clone();
                scope.spawn(move || {
                    ME.with(|me| *me.borrow_mut() = Some((schedule.clone(), at)));
                    let ended = catch_unwind(AssertUnwindSafe(|| {
                        schedule.wait_for_turn(at, schedule.state());
                        work();
                    }));
                    ME.with(|me| *me.borrow_mut() = None);
                    schedule.end(at, ended.is_err());
                    ended
                })
            })
            .collect();
        running.into_iter().filter_map(|thread| thread.join().and_then(|ended| ended).err()).last()
    });
    let story =
        schedule.state().threads.iter().map(|(name, s)| format!("{name} {}", s.says())).collect::<Vec<_>>();
    if let Some(panic) = panicked {
        // Past the harness, which keeps what other threads print to itself.
        drop(writeln!(std::io::stderr(), "seed {seed}: {}", story.join(", ")));
        resume_unwind(panic);
    }
}

/// Here another thread may go on.
pub(super) fn point() {
    pass(Status::Ready);
}

/// Nothing to do here before somebody opened a lock; that it waits for one of rank `name`.
pub(super) fn wait(name: &'static str) {
    pass(Status::Waits(name));
}

/// Whether this thread is one of a schedule.
pub(super) fn is_on() -> bool {
    !std::thread::panicking() && ME.try_with(|me| me.borrow().is_some()).unwrap_or(false)
}

/// A lock was opened: whoever waits for one looks again.
pub(super) fn opened() {
    let me = ME.try_with(|me| me.borrow().clone()).ok().flatten();
    if let Some((schedule, _)) = me {
        for (_, status) in &mut schedule.state().threads {
            if matches!(status, Status::Waits(_)) {
                *status = Status::Ready;
            }
        }
    }
}

fn pass(status: Status) {
    if !is_on() {
        return;
    }
    let me = ME.with(|me| me.borrow().clone());
    if let Some((schedule, at)) = me {
        let mut state = schedule.state();
        state.threads[at].1 = status;
        schedule.choose(&mut state);
        schedule.wait_for_turn(at, state);
    }
}

impl Schedule {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn choose(&self, state: &mut State) {
        let ready = |state: &State| {
            (0..state.threads.len()).filter(|at| state.threads[*at].1 == Status::Ready).count()
        };
        match ready(state) {
            0 => state.broken |= state.threads.iter().any(|(_, status)| *status != Status::Over),
            count => {
                // xorshift64*
                state.dice ^= state.dice >> 12;
                state.dice ^= state.dice << 25;
                state.dice ^= state.dice >> 27;
                let n = (state.dice.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % count;
                let mut all = (0..state.threads.len()).filter(|at| state.threads[*at].1 == Status::Ready);
                state.turn = all.nth(n).unwrap_or(0);
            }
        }
        self.turns.notify_all();
    }

    fn wait_for_turn(&self, at: usize, mut state: MutexGuard<'_, State>) {
        while state.turn != at && !state.broken {
            state = self.turns.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let waits = state.threads[at].1;
        let broken = state.broken;
        drop(state);
        assert!(!broken, "the schedule is broken: this thread {}", waits.says());
    }

    fn end(&self, at: usize, panicked: bool) {
        let mut state = self.state();
        if !panicked {
            state.threads[at].1 = Status::Over;
        }
        state.broken |= panicked;
        self.choose(&mut state);
    }
}

impl Status {
    fn says(self) -> String {
        match self {
            Self::Ready => "runs".to_owned(),
            Self::Waits(name) => format!("waits for {name}"),
            Self::Over => "is over".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Mutex, rank};
    use super::*;

    #[test]
    fn two_threads_that_wait_for_each_other_are_found_and_named() {
        // Tried first, as a lock that the table does not know would be: ranks would find it without a schedule.
        let take = |one: &Mutex<rank::Tail, ()>, other: &Mutex<rank::Synced, ()>, up: bool| {
            let first = || one.try_lock().map(std::mem::forget).is_some();
            let second = || other.try_lock().map(std::mem::forget).is_some();
            let order: [&dyn Fn() -> bool; 2] = if up { [&second, &first] } else { [&first, &second] };
            for lock in order {
                while !lock() {
                    wait("the other");
                }
                point();
            }
        };
        let found = (0..50).filter(|seed| {
            let (one, other) = (Mutex::default(), Mutex::default());
            let run = || {
                run(
                    *seed,
                    vec![
                        ("down", Box::new(|| take(&one, &other, false))),
                        ("up", Box::new(|| take(&one, &other, true))),
                    ],
                );
            };
            catch_unwind(AssertUnwindSafe(run)).is_err()
        });
        assert!(found.count() > 10);
    }

    #[test]
    fn a_seed_names_one_interleaving() {
        let story = |seed| {
            let order = Mutex::<rank::Waiters, Vec<u8>>::default();
            let order = &order;
            let steps = |n: u8| move || (0..5).for_each(|_| order.lock().push(n));
            run(seed, vec![("one", Box::new(steps(1))), ("two", Box::new(steps(2)))]);
            order.lock().clone()
        };
        assert_eq!(story(7), story(7));
        assert!((0..20).any(|seed| story(seed) != story(7)));
    }
}
