//! A fetch that waits for data, and one that reads so much that others come in between.
//!
//! Each partition it waits for has a waker of its own, which says where something moved: only the new bytes of those are
//! counted, and all is read again once there are enough.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Wake, Waker};
use std::time::Duration;

use tokio::time::Sleep;

use super::plan::{Attempt, HEAD_BYTES, PartitionPlan, Plan, STEP};
use crate::broker::Registration;
use crate::kafka::error::Code;
use crate::kafka::out::{Body, QUEUED_BYTES};
use crate::lock::{Mutex, rank};
use crate::topic::Partition;

/// A fetch that waits for data. Woken by the appends it waits for, and once by its deadline. It has no turn of its own among
/// those who have much to do: whoever polls it stands in that line, once for all that its connection does.
pub(in crate::kafka) struct LongPoll {
    plan: Plan,
    deadline: Pin<Box<Sleep>>,
    /// When a shard's read limit allows more.
    refill: Option<Pin<Box<Sleep>>>,
    phase: Phase,
    places: Vec<Place>,
    bell: Arc<Bell>,
    /// What all places have.
    available: usize,
}

/// What came of polling it.
pub(in crate::kafka) enum Step {
    Done(Body),
    /// There is more to do, in the next turn.
    More,
    /// It is woken.
    Waits,
}

enum Phase {
    /// Reads every partition; the answer is what it finds, if it `is_last` and no limit hides anything.
    Reading { attempt: Attempt, is_last: bool },
    /// Goes to wait at the partitions from this one on.
    Settling(usize),
    /// Looks at those that moved.
    Waiting,
}

/// A partition that is waited for.
struct Place {
    /// Which topic of the plan, and which partition of that.
    at: (usize, usize),
    partition: Arc<Partition>,
    registration: Registration,
    /// Where bytes that were not counted yet begin.
    seen: i64,
    /// How many bytes it may still add to the answer.
    room: usize,
    waker: Waker,
}

/// Collects which places moved, and wakes the task once for all of them.
#[derive(Default)]
struct Bell(Mutex<rank::Bell, Rung>);

#[derive(Default)]
struct Rung {
    moved: Vec<usize>,
    task: Option<Waker>,
}

/// What one partition wakes.
struct Clapper {
    bell: Arc<Bell>,
    place: usize,
}

impl Bell {
    fn ring(&self, place: usize) {
        let task = {
            let mut rung = self.0.lock();
            rung.moved.push(place);
            if rung.moved.len() == 1 { rung.task.clone() } else { None }
        };
        if let Some(task) = task {
            task.wake();
        }
    }

    /// What moved, at most `most`; `task` is woken when there is more.
    fn take(&self, most: usize, task: &Waker) -> Vec<usize> {
        let mut rung = self.0.lock();
        if !rung.task.as_ref().is_some_and(|known| known.will_wake(task)) {
            rung.task = Some(task.clone());
        }
        if rung.moved.len() <= most {
            return std::mem::take(&mut rung.moved);
        }
        let from = rung.moved.len() - most;
        let some = rung.moved.split_off(from);
        drop(rung);
        task.wake_by_ref();
        some
    }
}

impl Wake for Clapper {
    fn wake(self: Arc<Self>) {
        self.bell.ring(self.place);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.bell.ring(self.place);
    }
}

impl LongPoll {
    /// Goes on with an attempt that was begun.
    pub(super) fn new(plan: Plan, attempt: Attempt) -> Self {
        let deadline = Box::pin(tokio::time::sleep(Duration::from_millis(plan.max_wait_ms)));
        let is_last = plan.max_wait_ms == 0;
        Self {
            plan,
            deadline,
            refill: None,
            phase: Phase::Reading { attempt, is_last },
            places: Vec::new(),
            bell: Arc::default(),
            available: 0,
        }
    }

    /// Memory of what it has read so far.
    pub(in crate::kafka) fn heap_len(&self) -> usize {
        if let Phase::Reading { attempt, .. } = &self.phase { attempt.heap } else { 0 }
    }

    /// Memory that the answer takes beside what is read from logs, where it is about to be made and takes much.
    pub(in crate::kafka) fn answer_bytes(&self) -> usize {
        let is_asked = self.plan.is_long() && !self.waits();
        if is_asked { self.plan.partitions().count() * (HEAD_BYTES + QUEUED_BYTES) } else { 0 }
    }

    /// Whether it waits for records.
    pub(in crate::kafka) fn waits(&self) -> bool {
        !matches!(self.phase, Phase::Reading { .. })
    }

    /// Answers soon with what there is: others need the memory that waiting takes.
    pub(in crate::kafka) fn hurry(&mut self) {
        self.deadline.as_mut().reset(tokio::time::Instant::now());
    }

    /// The client has to wait for so long at least. Milliseconds.
    pub(in crate::kafka::api) fn throttled(mut self, ms: u32) -> Self {
        self.plan.throttle_ms = ms;
        self
    }

    /// Reads all partitions anew.
    fn read(&mut self, is_last: bool) {
        self.leave();
        self.phase = Phase::Reading { attempt: self.plan.attempt(), is_last };
    }

    /// Gives every place back.
    fn leave(&mut self) {
        for mut place in self.places.drain(..) {
            place.give_back();
        }
    }

    /// What was read is not enough: from here on only what is added counts.
    fn settle(&mut self, attempt: &Attempt) {
        let refill = |ms: u32| Box::pin(tokio::time::sleep(Duration::from_millis(ms.into())));
        self.refill = attempt.held_ms.map(refill);
        self.available = attempt.bytes;
        self.bell = Arc::default();
        let topics = self.plan.topics.iter().enumerate();
        let at = topics.flat_map(|(t, topic)| (0..topic.partitions.len()).map(move |p| (t, p)));
        self.places = at
            .zip(self.plan.partitions().zip(&attempt.found))
            .filter_map(|(at, (part, found))| {
                let partition = Arc::clone(part.partition.as_ref().ok()?);
                let seen = found.slice.next_offset().max(part.offset);
                // A slice that ends before the watermark is all that an answer takes from here; what is held until
                // a limit allows it is read again then.
                let room = if seen < found.high_watermark {
                    0
                } else {
                    part.max_bytes.saturating_sub(found.slice.len())
                };
                Some(Place {
                    at,
                    partition,
                    registration: Registration::default(),
                    seen,
                    room,
                    waker: Waker::noop().clone(),
                })
            })
            .collect();
        self.phase = Phase::Settling(0);
    }

    /// Waits at the next places; whether it does so at all of them now.
    fn take_places(&mut self, from: usize) -> bool {
        for (n, place) in self.places.iter_mut().enumerate().skip(from).take(STEP) {
            place.waker = Waker::from(Arc::new(Clapper { bell: Arc::clone(&self.bell), place: n }));
            if place.wait() {
                self.bell.ring(n);
            }
        }
        from + STEP >= self.places.len()
    }

    /// Counts what was added where something moved; whether the answer is due.
    fn count(&mut self, task: &Task<'_>) -> bool {
        let moved = self.bell.take(STEP, task.waker());
        if self.plan.min_bytes <= 1 && !moved.is_empty() {
            return true;
        }
        for n in moved {
            let Some(place) = self.places.get_mut(n) else { continue };
            let topic = self.plan.topics.get(place.at.0);
            let Some(part) = topic.and_then(|topic| topic.partitions.get(place.at.1)) else { continue };
            // Bytes are counted in the order of the log, so that none is counted twice.
            let from = PartitionPlan {
                offset: place.seen,
                last_fetched_epoch: -1,
                partition: Ok(Arc::clone(&place.partition)),
                ..*part
            };
            let found = from.read(&self.plan.core, Some(place.room), true);
            if found.code != Code::NONE || found.held_ms.is_some() {
                return true;
            }
            let bytes = found.slice.len();
            place.seen = found.slice.next_offset().max(place.seen);
            self.available += bytes.min(place.room);
            place.room = place.room.saturating_sub(bytes);
            if place.wait() {
                self.bell.ring(n);
            }
        }
        self.available >= self.plan.min_bytes
    }
}

impl Place {
    /// Waits for more than was seen; whether there is more already. One that may not add anything still waits for its
    /// partition to go.
    fn wait(&mut self) -> bool {
        let target = if self.room == 0 { i64::MAX } else { self.seen + 1 };
        match self.partition.high_watermark() {
            Ok(mark) => mark.poll_reach(target, &mut self.registration, &self.waker).is_ready(),
            Err(_) => true,
        }
    }

    fn give_back(&mut self) {
        if let Ok(mark) = self.partition.high_watermark() {
            mark.forget(&mut self.registration);
        }
    }
}

impl LongPoll {
    /// Goes on as far as it may: what takes long takes one step, in a turn.
    pub(in crate::kafka) fn step(&mut self, task: &mut Task<'_>, has_turn: bool) -> Step {
        let over = self.deadline.as_mut().poll(task).is_ready();
        let mut refilled = self.refill.as_mut().is_some_and(|refill| refill.as_mut().poll(task).is_ready());
        let mut left = if self.plan.is_long() { usize::from(has_turn) } else { usize::MAX };
        loop {
            if !matches!(self.phase, Phase::Waiting) {
                if left == 0 {
                    return Step::More;
                }
                left -= 1;
            }
            match std::mem::replace(&mut self.phase, Phase::Waiting) {
                Phase::Reading { mut attempt, is_last } => {
                    if !self.plan.step(&mut attempt) {
                        self.phase = Phase::Reading { attempt, is_last };
                        continue;
                    }
                    let is_last = is_last && attempt.held_ms.is_none();
                    if is_last || over || !self.plan.waits_after(&attempt) {
                        return Step::Done(self.plan.encode(Code::NONE, attempt.found));
                    }
                    self.settle(&attempt);
                    // The new timer wakes this task only once it was asked.
                    refilled =
                        self.refill.as_mut().is_some_and(|refill| refill.as_mut().poll(task).is_ready());
                }
                Phase::Settling(from) => {
                    if !self.take_places(from) {
                        self.phase = Phase::Settling(from + STEP);
                    }
                }
                Phase::Waiting => {
                    let due = self.count(task);
                    if !(over || refilled || due) {
                        return Step::Waits;
                    }
                    let is_counted = self.available >= self.plan.min_bytes;
                    self.read(over || is_counted);
                    if self.plan.is_long() {
                        // Once there is memory for what it finds.
                        return Step::More;
                    }
                }
            }
        }
    }
}

impl Drop for LongPoll {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests;
