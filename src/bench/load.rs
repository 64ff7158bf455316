//! The closed loop behind produce and ping-pong: connections that keep a number of requests in flight.
//!
//! Owns: the window. It begins after a warm-up, with a look at the broker's CPU, and ends when that clock
//! has moved enough to be read (ticks are 10 ms), the time is over, or enough bytes are written.
//! Invariant: what is counted was answered (with acks 0: was followed by an answer on its connection).
//! Requests that become due together leave in one write, so that the client costs little.
//! Deliberately absent: pacing (`e2e.rs`).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Error;
use super::conn::Conn;
use super::histogram::Histogram;
use super::payload;
use super::process::Usage;
use super::progress::Progress;

/// When a window ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) pid: Option<u32>,
    /// Before the window: connections and caches get warm.
    pub(super) warm_up: Duration,
    pub(super) min: Duration,
    pub(super) max: Duration,
    /// Broker CPU to wait for, when there is a pid.
    pub(super) cpu_s: f64,
    /// Request bytes after which the window ends in any case (disk and memory of the broker).
    pub(super) max_bytes: u64,
}

/// One request that a connection sends again and again.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) frame: Vec<u8>,
    /// For an idempotent producer: where the batch begins, and how many records it has.
    pub(super) sequenced: Option<(usize, i32)>,
}

/// What one connection does.
pub(super) struct Lane {
    pub(super) conn: Conn,
    /// Sent in turn.
    pub(super) requests: Vec<Request>,
}

/// How the lanes are driven.
#[derive(Clone, Copy)]
pub(super) struct Drive<'a> {
    pub(super) depth: usize,
    /// Looks at one answer.
    pub(super) check: &'a (dyn Fn(&[u8]) -> Result<(), Error> + Sync),
    /// Instead of answers (acks 0): a request whose answer shows that all before it were handled.
    pub(super) barrier: Option<&'a [u8]>,
    pub(super) progress: &'a Progress,
}

/// What a window saw.
pub(super) struct Outcome {
    pub(super) seconds: f64,
    /// Requests inside the window.
    pub(super) requests: u64,
    /// Requests from the first to the last, warm-up included.
    pub(super) all_requests: u64,
    pub(super) latency: Histogram,
    pub(super) usage: Option<(Usage, Usage)>,
}

struct Shared {
    stop: AtomicBool,
    timing: AtomicBool,
    done: AtomicU64,
    bytes: AtomicU64,
}

/// Runs `lanes` until the window is over.
pub(super) fn run(lanes: Vec<Lane>, drive: Drive<'_>, window: Window) -> Result<Outcome, Error> {
    let shared = Shared {
        stop: AtomicBool::new(false),
        timing: AtomicBool::new(false),
        done: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
    };
    thread::scope(|scope| {
        let threads: Vec<_> =
            lanes.into_iter().map(|lane| scope.spawn(|| Worker::new(lane, drive, &shared).run())).collect();
        let ready = || !shared.stop.load(Ordering::Relaxed);
        nap(window.warm_up, ready);
        let before = Usage::of_option(window.pid);
        let (began, first) = (Instant::now(), shared.done.load(Ordering::Relaxed));
        shared.timing.store(true, Ordering::Relaxed);
        while ready() && !over(&window, began, before.as_ref().ok().copied().flatten(), &shared) {
            drive.progress.tick(|| format!("{} requests", shared.done.load(Ordering::Relaxed)));
            thread::sleep(Duration::from_millis(20));
        }
        shared.stop.store(true, Ordering::Relaxed);
        let mut latency = Histogram::new();
        let mut failed = None;
        for thread in threads {
            match thread.join() {
                Ok(Ok(histogram)) => latency.merge(&histogram),
                Ok(Err(e)) => failed = Some(e),
                Err(_) => failed = Some(Error::Protocol("a connection's thread panicked".into())),
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        let after = Usage::of_option(window.pid)?;
        if let Some(e) = failed {
            return Err(e);
        }
        let all_requests = shared.done.load(Ordering::Relaxed);
        let usage = before?.zip(after);
        Ok(Outcome { seconds, requests: all_requests - first, all_requests, latency, usage })
    })
}

/// Sleeps for `time`, less when `ready` turns false.
fn nap(time: Duration, ready: impl Fn() -> bool) {
    let until = Instant::now() + time;
    while ready() && Instant::now() < until {
        thread::sleep(Duration::from_millis(10).min(time));
    }
}

fn over(window: &Window, began: Instant, before: Option<Usage>, shared: &Shared) -> bool {
    let elapsed = began.elapsed();
    if elapsed >= window.max || shared.bytes.load(Ordering::Relaxed) >= window.max_bytes {
        return true;
    }
    let spent = || match (window.pid, before) {
        (Some(pid), Some(before)) => Usage::of(pid).map_or(f64::INFINITY, |now| now.cpu_s - before.cpu_s),
        _ => f64::INFINITY,
    };
    elapsed >= window.min && spent() >= window.cpu_s
}

/// One connection's loop.
struct Worker<'a> {
    lane: Lane,
    drive: Drive<'a>,
    shared: &'a Shared,
    next: usize,
    sequences: Vec<i32>,
    in_flight: VecDeque<Instant>,
    latency: Histogram,
}

impl<'a> Worker<'a> {
    fn new(lane: Lane, drive: Drive<'a>, shared: &'a Shared) -> Self {
        let sequences = vec![0; lane.requests.len()];
        let latency = Histogram::new();
        Self { lane, drive, shared, next: 0, sequences, in_flight: VecDeque::new(), latency }
    }

    fn run(mut self) -> Result<Histogram, Error> {
        let result = if self.drive.barrier.is_some() { self.pour() } else { self.pump() };
        // Whoever fails ends the window for all.
        self.shared.stop.store(true, Ordering::Relaxed);
        result.map(|()| self.latency)
    }

    /// Answers wanted: refill, then take every answer that is there.
    fn pump(&mut self) -> Result<(), Error> {
        loop {
            if !self.shared.stop.load(Ordering::Relaxed) {
                self.fill(self.drive.depth)?;
            }
            if self.in_flight.is_empty() {
                return Ok(());
            }
            loop {
                let answer = self.lane.conn.receive()?;
                (self.drive.check)(answer)?;
                let sent = self.in_flight.pop_front();
                if let Some(sent) = sent
                    && self.shared.timing.load(Ordering::Relaxed)
                {
                    self.latency.record(sent.elapsed());
                }
                self.shared.done.fetch_add(1, Ordering::Relaxed);
                if !self.lane.conn.has_answer() {
                    break;
                }
            }
        }
    }

    /// No answers: send until told to stop, then wait for the barrier.
    fn pour(&mut self) -> Result<(), Error> {
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.fill(self.drive.depth)?;
            let sent = self.in_flight.len();
            self.in_flight.clear();
            self.lane.conn.unanswered(sent);
            self.shared.done.fetch_add(u64::try_from(sent).unwrap_or(0), Ordering::Relaxed);
        }
        if let Some(barrier) = self.drive.barrier {
            self.lane.conn.call(&mut barrier.to_vec())?;
        }
        Ok(())
    }

    /// Sends until `depth` requests are in flight: all in one write, unless sequences must be stamped.
    fn fill(&mut self, depth: usize) -> Result<(), Error> {
        let due = depth.saturating_sub(self.in_flight.len());
        let now = Instant::now();
        if self.lane.requests.iter().any(|request| request.sequenced.is_some()) {
            for _ in 0..due {
                self.send_sequenced()?;
                self.in_flight.push_back(Instant::now());
            }
            return Ok(());
        }
        let turn = self.lane.requests.iter().cycle().skip(self.next);
        let frames: Vec<&[u8]> = turn.take(due).map(|request| request.frame.as_slice()).collect();
        let bytes: usize = frames.iter().map(|frame| frame.len()).sum();
        self.lane.conn.send_all(&frames)?;
        self.next = (self.next + due) % self.lane.requests.len().max(1);
        self.in_flight.extend(std::iter::repeat_n(now, due));
        self.shared.bytes.fetch_add(u64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }

    fn send_sequenced(&mut self) -> Result<(), Error> {
        let at = self.next;
        self.next = (self.next + 1) % self.lane.requests.len().max(1);
        let (Some(request), Some(sequence)) = (self.lane.requests.get_mut(at), self.sequences.get_mut(at))
        else {
            return Ok(());
        };
        if let Some((batch_at, records)) = request.sequenced {
            payload::stamp_sequence(batch_of(&mut request.frame, batch_at), *sequence);
            // Kafka's sequences wrap from the largest to 0 (DefaultRecordBatch.incrementSequence).
            *sequence = sequence.checked_add(records).unwrap_or_else(|| records - (i32::MAX - *sequence) - 1);
        }
        self.shared.bytes.fetch_add(u64::try_from(request.frame.len()).unwrap_or(0), Ordering::Relaxed);
        self.lane.conn.send(&mut request.frame)
    }
}

/// The batch inside a produce frame: from `at` to where its own length says it ends.
fn batch_of(frame: &mut [u8], at: usize) -> &mut [u8] {
    let batch = frame.get_mut(at..).unwrap_or_default();
    let total = crate::batch::Header::read(batch).and_then(|header| header.total_bytes()).unwrap_or(0);
    batch.get_mut(..total).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Codec, apis};

    #[test]
    fn the_batch_inside_a_produce_frame_is_found_again() {
        for version in [3, 8, 9, 12] {
            let batch = payload::batch(100, 2000, Codec::None, Some((1, 0))).unwrap();
            let (mut frame, at) = apis::produce(version, "topic", 3, 1, &batch.bytes);
            assert_eq!(batch_of(&mut frame, at), batch.bytes.as_slice(), "version {version}");
        }
    }
}
