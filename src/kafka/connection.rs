//! One client connection: reads all complete frames of a socket read, answers them in order, writes.
//!
//! One task and one poll function: no task or channel hop per request. Replies wait in an ordered queue until
//! they are ready (durability, long polls, group joins); the front leaves first, always.
//! Limits: frame size, buffer growth with the bytes received, requests in flight, bytes
//! queued for a slow reader, time without a complete frame, work of one wake-up; with all others, memory of requests
//! and of answers (`listen`'s budgets).
//! Deliberately absent: what a request means (`api/`), TLS and SASL (later, before the frames).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::answers::{NextTurn, Turn, poll_room};
use super::api::fetch::{LongPoll, Step};
use super::api::{self, Answer, BoxFuture, produce};
use super::door::Shared;
use super::out::{Body, Out};
use super::schema;
use crate::broker::clients::{self, Meters};
use crate::broker::{Core, IncidentKind, Refused, Unopened, Wave};
use crate::listen::{Account, Duty, Guest, Lease, OWN_BYTES, Seat};
use crate::topic::Partition;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum Close {
    /// The client left, or the broker shuts down.
    #[error("closed")]
    Quiet,
    /// The bytes were not a request that this broker can answer; logged once.
    #[error("{0}")]
    Refused(String),
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Space offered to a connection's first read; thousands of idle clients must cost little.
const READ_BYTES_MIN: usize = 512;
/// Space offered to the reads of a connection that fills what it gets.
const READ_BYTES: usize = 64 * 1024;
/// Frames larger than this are read alone, so that nothing of the next one has to be moved.
const LARGE_FRAME_BYTES: usize = 64 * 1024;
/// What an idle connection may keep of its buffer.
const IDLE_BUFFER_BYTES: usize = 4 * 1024;
/// Bytes of answers made or written in one wake-up, and its length, after which others come first.
const WAKE_UP_BYTES: usize = 256 * 1024;
const WAKE_UP: Duration = Duration::from_micros(250);
/// A frame that has begun must grow by this much in this time.
const STALLED_BYTES_MIN: usize = 1024;
const STALLED_AFTER: Duration = Duration::from_secs(10);
/// Who a client is that did not log in.
const ANONYMOUS: &str = "ANONYMOUS";
/// How often a connection looks at its own age.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long answers may still take once the client has said its last, or the broker stops. A fetch or a join
/// may wait for days, and its client may be gone.
const LEAVE_WITHIN: Duration = Duration::from_secs(3);

/// A reply in its place in the queue.
struct Pending {
    correlation_id: i32,
    flexible: bool,
    /// Bytes of the request that its answer may still need.
    request_bytes: usize,
    state: State,
}

enum State {
    Ready(Body),
    Produce(produce::Reply),
    Future(BoxFuture<Body>),
    /// The same, and it waits for other clients.
    Waits(BoxFuture<Body>),
    Fetch(Box<LongPoll>),
    Deferred {
        work: api::Work,
        /// Before that it waits for memory.
        begun: Option<api::Begun>,
        /// For when it needs logs that are not open.
        frame: Bytes,
    },
    /// Nothing is sent (acks=0).
    Silent,
}

/// What was done in one wake-up of the task.
#[derive(Default)]
struct WakeUp {
    /// When its first frame was taken.
    began: Option<Instant>,
    bytes: usize,
    /// There is more to do that takes a turn.
    more: bool,
}

impl WakeUp {
    /// Whether others come first.
    fn is_over(&self, last_frame: Instant) -> bool {
        self.more
            || self.bytes >= WAKE_UP_BYTES
            || self.began.is_some_and(|began| last_frame.duration_since(began) >= WAKE_UP)
    }
}

/// A request that waits until the logs that it needs are open.
struct Parked {
    frame: Bytes,
    opening: BoxFuture<Refused>,
    /// They are, but for these.
    opened: Option<Refused>,
}

/// Whether a duty that holds as long as `owes` was not done.
fn is_cut(duty: &mut Option<Box<Duty>>, owes: bool, account: &Arc<Account>, task: &mut Task<'_>) -> bool {
    if !owes {
        *duty = None;
        return false;
    }
    duty.get_or_insert_with(|| Box::new(account.duty())).poll_cut(task).is_ready()
}

/// An incomplete frame as it was at some time.
#[derive(Clone, Copy)]
struct Begun {
    /// How many frames had come before it.
    frames: u64,
    bytes: usize,
    at: Instant,
}

pub(super) struct Connection {
    stream: TcpStream,
    shared: Arc<Shared>,
    peer: SocketAddr,
    local: SocketAddr,
    input: BytesMut,
    /// Memory behind `input`, which what was taken out of it does not give back.
    input_bytes: usize,
    /// Space offered to the next read: grows while reads fill it.
    read_bytes: usize,
    /// Total length of the frame at the front, once its prefix is here.
    frame_len: Option<usize>,
    pending: VecDeque<Pending>,
    /// Bytes of their requests that the answers in `pending` may still need.
    pending_bytes: usize,
    /// Bytes of the answers in `pending` that are ready, and the memory that they hold.
    ready_bytes: usize,
    ready_heap: usize,
    /// And what the fetch that is being read has so far.
    fetch_heap: usize,
    /// The next request, while it waits for logs to be opened.
    parked: Option<Box<Parked>>,
    /// A request that must be answered before the next one starts.
    alone: bool,
    /// A whole frame may be in the buffer that could not start yet.
    held_back: bool,
    /// Memory of requests, and what the client is to do for it: go on with a frame.
    requests: Lease,
    to_send: Option<Box<Duty>>,
    /// How much of the frame at the front may be read although memory is used up.
    admitted: usize,
    /// Memory of answers, and what the client is to do for it: take them.
    answers: Lease,
    to_take: Option<Box<Duty>>,
    /// What is held for an answer that is being made.
    answer_room: usize,
    wake_up: WakeUp,
    /// After a wake-up that was over: it waits for its next one.
    go_on: Option<NextTurn>,
    /// Held until that one ends.
    turn: Option<Turn>,
    out: Out,
    wave: Wave,
    eof: bool,
    /// Until then the socket is not read: a limit is used up, and not every client waits as it is told.
    muted: Option<Pin<Box<Sleep>>>,
    /// What it appended last was above a limit.
    in_debt: bool,
    /// The client id of the last produce.
    client_id: Option<Box<str>>,
    /// What this client is limited by; looked up again when quotas or its id change.
    meters: Option<Box<(String, Meters)>>,
    look: Pin<Box<Sleep>>,
    last_frame: Instant,
    frames: u64,
    /// The incomplete frame, when a look saw it move last.
    begun: Option<Begun>,
    _seat: Seat,
}

impl Connection {
    pub(super) fn new(guest: Guest, shared: Arc<Shared>) -> Self {
        let Guest { stream, peer, local, seat } = guest;
        Self {
            stream,
            requests: shared.requests.account().lease(),
            to_send: None,
            admitted: 0,
            answers: shared.answers.budget.account().lease(),
            to_take: None,
            answer_room: 0,
            wake_up: WakeUp::default(),
            go_on: None,
            turn: None,
            shared,
            peer,
            local,
            input: BytesMut::new(),
            input_bytes: 0,
            read_bytes: READ_BYTES_MIN,
            in_debt: false,
            frame_len: None,
            pending: VecDeque::new(),
            pending_bytes: 0,
            ready_bytes: 0,
            ready_heap: 0,
            fetch_heap: 0,
            alone: false,
            held_back: false,
            out: Out::default(),
            wave: Wave::default(),
            parked: None,
            eof: false,
            muted: None,
            client_id: None,
            meters: None,
            look: Box::pin(tokio::time::sleep(LOOK_EVERY)),
            last_frame: Instant::now(),
            frames: 0,
            begun: None,
            _seat: seat,
        }
    }

    /// Serves until the client leaves, misbehaves, or `shared` asks to drain. Not an async fn: those keep a copy
    /// of what they take, and thousands of idle connections must cost little.
    pub(super) fn serve(mut self) -> impl Future<Output = ()> {
        let mut stopping = Box::pin(self.shared.stop.wait());
        let mut draining = false;
        poll_fn(move |task| {
            if !draining && stopping.as_mut().poll(task).is_ready() {
                draining = true;
                self.hurry();
                self.look.as_mut().reset(Instant::now() + LEAVE_WITHIN);
            }
            if self.must_wait(task) {
                return Poll::Pending;
            }
            self.wake_up = WakeUp::default();
            loop {
                match self.turn(task, draining) {
                    Ok(true) => {}
                    Ok(false) => {
                        self.turn = None;
                        if self.wake_up.is_over(self.last_frame) {
                            self.go_on = Some(self.shared.answers.next_turn());
                            // Asks for its next turn, behind everybody who is ready meanwhile.
                            task.waker().wake_by_ref();
                        }
                        return Poll::Pending;
                    }
                    Err(close) => {
                        self.tell(&close);
                        return Poll::Ready(());
                    }
                }
            }
        })
    }

    /// One line a second at most, with nothing raw from the client in it.
    fn tell(&self, close: &Close) {
        let core = &self.shared.core;
        match close {
            Close::Refused(why) => match core.lines().closed.admit() {
                Some(suppressed) => {
                    tracing::info!(peer = %self.peer, suppressed, "connection closed: {why}");
                }
                None => tracing::debug!(peer = %self.peer, "connection closed: {why}"),
            },
            // The kernel could not read what it was to send from a segment's mapping.
            Close::Io(error) if error.raw_os_error() == Some(libc::EFAULT) => {
                let text = "bytes of a segment could not be read while they were sent: its file was cut, or the disk failed";
                core.incidents().note(IncidentKind::ReadFailed, &text);
            }
            Close::Io(_) | Close::Quiet => {}
        }
    }

    /// Whether a connection that has used up its last wake-up waits for others of its kind.
    fn must_wait(&mut self, task: &mut Task<'_>) -> bool {
        let Some(turn) = self.go_on.as_mut() else { return false };
        match turn.as_mut().poll(task) {
            Poll::Pending => true,
            Poll::Ready(permit) => {
                self.turn = permit.ok();
                self.go_on = None;
                false
            }
        }
    }

    /// One round; `Ok(false)` when everything waits for something that will wake this task.
    fn turn(&mut self, task: &mut Task<'_>, draining: bool) -> Result<bool, Close> {
        let mut progress = self.settle(task)?;
        progress |= self.write(task)?;
        self.hold_answers();
        let muted = self.is_muted(task);
        if let Some(parked) = &mut self.parked
            && parked.opened.is_none()
            && let Poll::Ready(refused) = parked.opening.as_mut().poll(task)
        {
            parked.opened = Some(refused);
        }
        if self.held_back && !muted && self.may_start() && !self.wake_up.is_over(self.last_frame) {
            self.dispatch()?;
            progress = true;
        }
        let in_use = self.input_bytes_in_use();
        self.requests.settle(self.pending_bytes + in_use.max(self.admitted));
        let over = self.wake_up.is_over(self.last_frame);
        if !muted && !self.eof && !draining && !self.held_back && !over && self.may_start() {
            if let Some(most) = self.may_read(task) {
                progress |= self.read(task, most)?;
            }
        } else {
            if !over && !matches!(self.pending.front(), Some(Pending { state: State::Deferred { .. }, .. })) {
                self.admitted = 0;
                self.requests.step_aside();
                // It may have been let in at that moment.
                self.requests.settle(self.pending_bytes + in_use);
            }
            let done = self.pending.is_empty() && self.out.is_empty() && !self.held_back;
            if (draining || self.eof) && done {
                return Err(Close::Quiet);
            }
        }
        let reads = !muted && !self.eof && !draining && !self.held_back && self.may_start();
        self.look_at_duties(task, reads)?;
        // Only now, when everything that was there is read: one sync for all of it.
        if !progress && self.wave.owes() {
            self.turn = None;
            self.wave.sync();
            progress = true;
        }
        if !progress && self.look.as_mut().poll(task).is_ready() {
            if draining || self.eof {
                return Err(Close::Quiet);
            }
            self.look_at_age(task)?;
            progress = true;
        }
        Ok(progress)
    }

    fn is_muted(&mut self, task: &mut Task<'_>) -> bool {
        if self.muted.as_mut().is_some_and(|until| until.as_mut().poll(task).is_pending()) {
            return true;
        }
        self.muted = None;
        false
    }

    /// What counts as memory of requests. A large buffer is kept for the next request while there is plenty.
    fn input_bytes_in_use(&mut self) -> usize {
        if !self.input.is_empty() {
            return self.input.len();
        }
        if self.input_bytes <= READ_BYTES {
            return 0;
        }
        if self.requests.budget().is_tight() || self.requests.has_turn() {
            self.drop_buffer();
        }
        self.input_bytes
    }

    fn drop_buffer(&mut self) {
        self.input = BytesMut::new();
        self.input_bytes = 0;
        self.read_bytes = READ_BYTES_MIN;
    }

    /// Whether one more request may be answered.
    fn may_start(&self) -> bool {
        let settings = self.shared.settings();
        !self.alone
            && self.parked.as_ref().is_none_or(|parked| parked.opened.is_some())
            && self.pending.len() < settings.max_in_flight_requests
            && self.out.len() + self.ready_bytes < settings.max_queued_response_bytes
            && (self.answers_heap() < OWN_BYTES || !self.answers.budget().is_used_up())
    }

    /// Memory of answers that have not left.
    fn answers_heap(&self) -> usize {
        self.out.heap_len() + self.ready_heap + self.fetch_heap
    }

    fn hold_answers(&mut self) {
        self.answers.settle(self.answers_heap().max(self.answer_room));
    }

    /// How many bytes may be read now; none while it stands in line for the rest of a frame.
    fn may_read(&mut self, task: &mut Task<'_>) -> Option<usize> {
        let left = self.admitted.saturating_sub(self.input.len());
        if left > 0 {
            return Some(left);
        }
        let own = OWN_BYTES.saturating_sub(self.requests.bytes());
        let must_ask = self.requests.budget().is_short();
        if !must_ask || own > 0 {
            self.requests.step_aside();
            return Some(if must_ask { own } else { usize::MAX });
        }
        // Who has not begun a frame has nothing to stand in line for.
        let Some(missing) = self.frame_len.map(|len| len.saturating_sub(self.input.len())) else {
            return Some(READ_BYTES_MIN);
        };
        // Its turn is for one request: the next one comes when that one's memory is back.
        if self.requests.has_turn() && self.pending_bytes > 0 {
            return None;
        }
        if self.frames > 0 {
            self.requests.account().know();
        }
        let all = self.requests.bytes() + missing;
        if self.requests.poll_grow(all, all, task).is_pending() {
            return None;
        }
        if self.requests.has_turn() {
            // What stands before it waits no more, as what comes.
            self.hurry();
        }
        self.admitted = self.input.len() + missing;
        Some(missing)
    }

    /// Memory that others wait for is given back by whoever holds it: a frame comes along, answers are taken, and a fetch that
    /// waits for records waits no more. A client that does not do its part is closed.
    fn look_at_duties(&mut self, task: &mut Task<'_>, reads: bool) -> Result<(), Close> {
        let tight = |lease: &Lease| lease.has_turn() || lease.is_shared() && lease.budget().is_tight();
        // What stands behind is not begun before, and what is ready does not leave.
        let (waits, hangs) = match self.pending.front().map(|front| &front.state) {
            Some(State::Fetch(poll)) => (poll.waits(), false),
            Some(State::Waits(_)) => (false, true),
            _ => (false, false),
        };
        let stands = waits || hangs || !self.out.is_empty();
        let takes = stands && tight(&self.answers);
        if is_cut(&mut self.to_take, takes, self.answers.account(), task) {
            self.to_take = None;
            let why = "memory for answers is used up (queued.max.response.bytes), and this client does not read its own";
            return self.hurry_or_close(waits, why, task);
        }
        let holds = tight(&self.requests) && !self.requests.is_waiting();
        let sends = reads && !self.input.is_empty();
        if is_cut(&mut self.to_send, holds && (sends || stands), self.requests.account(), task) {
            self.to_send = None;
            let why =
                "memory for requests is used up (queued.max.request.bytes), and this one takes too long";
            return self.hurry_or_close(waits, why, task);
        }
        Ok(())
    }

    fn hurry_or_close(&mut self, waits: bool, why: &str, task: &Task<'_>) -> Result<(), Close> {
        if !waits {
            return Err(Close::Refused(why.into()));
        }
        self.hurry();
        task.waker().wake_by_ref();
        Ok(())
    }

    /// Fetches wait for records no more.
    fn hurry(&mut self) {
        for pending in &mut self.pending {
            if let State::Fetch(poll) = &mut pending.state {
                poll.hurry();
            }
        }
    }

    /// Moves replies that are ready from the front of the queue to the output.
    fn settle(&mut self, task: &mut Task<'_>) -> Result<bool, Close> {
        let mut progress = false;
        let most = self.shared.settings().max_queued_response_bytes;
        while self.out.len() < most
            && !self.wake_up.is_over(self.last_frame)
            && let Some(front) = self.pending.front_mut()
        {
            let body = match &mut front.state {
                State::Ready(body) => {
                    self.ready_bytes -= body.len();
                    self.ready_heap -= body.heap_len();
                    Some(std::mem::take(body))
                }
                State::Silent => None,
                // What it waits for is not asked for yet.
                State::Produce(reply) if self.wave.owes() && reply.waits() => break,
                State::Produce(reply) => match reply.poll(task.waker()) {
                    Poll::Ready(body) => Some(body),
                    Poll::Pending => break,
                },
                State::Future(future) | State::Waits(future) => match future.as_mut().poll(task) {
                    Poll::Ready(body) => {
                        self.wake_up.bytes += body.heap_len();
                        Some(body)
                    }
                    Poll::Pending => break,
                },
                State::Fetch(poll) => {
                    let needs = poll.answer_bytes();
                    if needs > 0 && self.answer_room == 0 {
                        match poll_room(&mut self.answers, &self.out, needs, needs, task) {
                            Poll::Ready(room) => self.answer_room = room,
                            Poll::Pending => break,
                        }
                    }
                    let step = poll.step(task, self.turn.is_some());
                    self.fetch_heap = poll.heap_len();
                    match step {
                        Step::Done(body) => {
                            self.answer_room = 0;
                            self.wake_up.bytes += body.heap_len();
                            Some(body)
                        }
                        Step::More => {
                            self.wake_up.more = true;
                            break;
                        }
                        Step::Waits => {
                            self.answer_room = 0;
                            break;
                        }
                    }
                }
                State::Deferred { work, begun, .. } => {
                    if begun.is_none() {
                        // First for what it is once it is read, then for its answer: who has that waits for nothing more.
                        if self.out.sent_ever() > 0 {
                            self.requests.account().know();
                        }
                        let all = self.requests.bytes() + work.read_bytes;
                        if work.read_bytes > 0 {
                            if self.requests.poll_grow(all, all, task).is_pending() {
                                break;
                            }
                            front.request_bytes += work.read_bytes;
                            self.pending_bytes += std::mem::take(&mut work.read_bytes);
                        }
                        if work.answer_bytes > 0 && self.answer_room == 0 {
                            let least = work.answer_bytes.max(self.answers.budget().large());
                            match poll_room(&mut self.answers, &self.out, work.answer_bytes, least, task) {
                                Poll::Ready(room) => self.answer_room = room,
                                Poll::Pending => break,
                            }
                        }
                    }
                    let has_turn = self.answers.has_turn();
                    match begun.get_or_insert_with(|| (work.begin)(has_turn)).as_mut().poll(task) {
                        Poll::Ready(late) => {
                            self.answer_room = 0;
                            match late? {
                                api::Outcome::Done(late) => self.place(late),
                                // Others were faster: it stands in line.
                                api::Outcome::TooMuch => {
                                    *begun = None;
                                    self.answers.settle(self.out.heap_len() + self.ready_heap);
                                }
                                api::Outcome::Unopened(unopened) => self.park_again(unopened),
                            }
                            progress = true;
                            continue;
                        }
                        Poll::Pending => break,
                    }
                }
            };
            if let Some(body) = body {
                self.out.push(front.correlation_id, front.flexible, body);
            }
            self.pending_bytes -= front.request_bytes;
            self.pending.pop_front();
            self.alone &= !self.pending.is_empty();
            progress = true;
        }
        Ok(progress)
    }

    /// Puts what came of deferred work where that stood, at the front of the queue.
    fn place(&mut self, late: api::Late) {
        let api::Late { answer, throttle_ms, held_bytes, .. } = late;
        let Some(Pending { state: State::Deferred { frame, .. }, request_bytes: asked, .. }) =
            self.pending.front()
        else {
            return;
        };
        let request_bytes = match &answer {
            Answer::Waits(_) => 0,
            // It is known by now what it takes.
            Answer::Fetch(_) => frame.len() + held_bytes,
            _ => asked + held_bytes,
        };
        self.pending_bytes = self.pending_bytes - asked + request_bytes;
        self.mute(throttle_ms);
        // Nothing that came later was begun.
        self.alone = matches!(answer, Answer::Alone(_));
        if let Answer::Produce(reply) = &answer {
            self.mute(reply.throttle_ms());
        }
        let state = match answer {
            Answer::Produce(reply) if reply.is_silent() => State::Silent,
            answer => self.state_of(answer, &Bytes::new()),
        };
        if let Some(front) = self.pending.front_mut() {
            (front.state, front.request_bytes) = (state, request_bytes);
        }
    }

    /// `frame` is the request, which deferred work keeps.
    fn state_of(&mut self, answer: Answer, frame: &Bytes) -> State {
        match answer {
            Answer::Now(body) => {
                self.ready_bytes += body.len();
                self.ready_heap += body.heap_len();
                self.wake_up.bytes += body.heap_len();
                State::Ready(body)
            }
            // What it appends is with the log when this wake-up ends.
            Answer::Produce(reply) => State::Produce(reply),
            Answer::Phased(future) | Answer::Alone(future) => State::Future(future),
            Answer::Waits(future) => State::Waits(future),
            Answer::Fetch(mut poll) => {
                // Who is above what all share does not wait for records, and nobody does at the end.
                if self.requests.has_turn() || self.shared.stop.is_set() {
                    poll.hurry();
                }
                State::Fetch(poll)
            }
            Answer::Deferred(work) => State::Deferred { work, begun: None, frame: frame.clone() },
            Answer::Long => {
                debug_assert!(false, "api::answer defers it");
                State::Silent
            }
        }
    }

    fn write(&mut self, task: &mut Task<'_>) -> Result<bool, Close> {
        let mut progress = false;
        while !self.out.is_empty() {
            let stream = Pin::new(&mut self.stream);
            match self.out.poll_write_with(|io| stream.poll_write_vectored(task, io)) {
                Poll::Ready(Ok(0)) => return Err(Close::Quiet),
                Poll::Ready(taken) => {
                    let taken = taken?;
                    progress |= taken > 0;
                    for duty in self.to_take.iter().chain(&self.to_send) {
                        duty.moved(taken);
                    }
                    self.wake_up.bytes += taken;
                    if self.wake_up.is_over(self.last_frame) {
                        break;
                    }
                }
                Poll::Pending => break,
            }
        }
        Ok(progress)
    }

    /// Reads at most `most` bytes.
    fn read(&mut self, task: &mut Task<'_>, most: usize) -> Result<bool, Close> {
        self.make_room();
        let room = self.room().min(most);
        let before = self.input.len();
        let mut target = (&mut self.input).limit(room);
        // `read_buf` keeps nothing between polls, so a fresh future each time is the same read.
        match pin!(self.stream.read_buf(&mut target)).poll(task) {
            Poll::Ready(Ok(0)) => {
                self.eof = true;
                self.look.as_mut().reset(Instant::now() + LEAVE_WITHIN);
                Ok(true)
            }
            Poll::Ready(read) => {
                if read? == room {
                    self.read_bytes = (self.read_bytes * 4).min(READ_BYTES);
                }
                if let Some(duty) = &self.to_send {
                    duty.moved(self.input.len() - before);
                }
                self.dispatch()?;
                Ok(true)
            }
            Poll::Pending => Ok(false),
        }
    }

    /// The buffer grows with what has arrived, never with what a length declares: it doubles until the frame
    /// at the front fits.
    fn make_room(&mut self) {
        let missing = self.frame_len.map_or(0, |len| len - self.input.len());
        let want = match self.frame_len {
            Some(len) if len > LARGE_FRAME_BYTES => missing.min(self.input.len().max(READ_BYTES)),
            _ => missing.max(self.read_bytes),
        };
        let spare = self.input.capacity() - self.input.len();
        if spare < want.min(READ_BYTES).div_ceil(2) {
            self.input.reserve(want);
            self.input_bytes = self.input.capacity();
        }
    }

    /// How much of the buffer one read may fill.
    fn room(&self) -> usize {
        let spare = self.input.capacity() - self.input.len();
        let missing = self.frame_len.map_or(0, |len| len - self.input.len());
        match self.frame_len {
            Some(len) if len > LARGE_FRAME_BYTES => spare.min(missing),
            // A read of many requests would owe more than a wait may take once many connections share a limit.
            _ if self.in_debt => spare.min(missing.max(READ_BYTES_MIN)),
            _ => spare,
        }
    }

    /// Answers the complete frames in the buffer, in order, as long as limits let them start, then commits what
    /// they appended as one wave.
    fn dispatch(&mut self) -> Result<(), Close> {
        let first = self.pending.len();
        let mut settled = first;
        let end = loop {
            self.held_back = !self.may_start() || self.wake_up.is_over(self.last_frame);
            if self.held_back {
                break Ok(());
            }
            let next = match self.parked.take() {
                Some(parked) => {
                    self.pending_bytes -= parked.frame.len();
                    Ok(Some((parked.frame, parked.opened.unwrap_or_default())))
                }
                None => self.next_frame().map(|frame| Some((frame?, Refused::new()))),
            };
            match next {
                Ok(None) => break Ok(()),
                Ok(Some((frame, refused))) => match self.answer(frame, refused, settled) {
                    Ok(now_settled) => settled = now_settled,
                    Err(close) => break Err(close),
                },
                Err(close) => break Err(close),
            }
        };
        // What came before a bad frame counts, as if the two had come apart.
        self.commit(settled)?;
        end
    }

    fn next_frame(&mut self) -> Result<Option<Bytes>, Close> {
        let Some(prefix) = self.input.first_chunk::<4>() else { return Ok(None) };
        let declared = i32::from_be_bytes(*prefix);
        let limit = self.frame_limit();
        let len = match usize::try_from(declared) {
            Ok(len) if len > 0 && len <= limit => len + 4,
            _ => return Err(Close::Refused(describe_prefix(*prefix, limit))),
        };
        if self.input.len() < len {
            self.frame_len = Some(len);
            return Ok(None);
        }
        self.frame_len = None;
        self.admitted = 0;
        self.last_frame = Instant::now();
        self.wake_up.began.get_or_insert(self.last_frame);
        self.frames += 1;
        let mut frame = self.input.split_to(len).freeze();
        frame.advance(4);
        Ok(Some(frame))
    }

    fn frame_limit(&self) -> usize {
        // The smaller limit before a login comes with logins; a listener without them trusts its first frame.
        self.shared.settings().max_request_bytes
    }

    /// Hands one frame to its API. `settled` replies of the queue have their outcomes already; of the logs that it needs,
    /// `refused` could not be opened.
    fn answer(&mut self, frame: Bytes, refused: Refused, settled: usize) -> Result<usize, Close> {
        let header = schema::header(&frame).map_err(|m| Close::Refused(format!("request header: {m}")))?;
        let mut settled = settled;
        // What an earlier request on this connection appended must be there for a later one to see.
        if header.api_key != produce::KEY && !self.wave.is_empty() {
            self.commit(settled)?;
            settled = self.pending.len();
        }
        let client_id = clients::shortened(header.client_id.as_deref().unwrap_or_default());
        if header.api_key == produce::KEY {
            self.name_client(client_id);
        }
        if self.shared.core.client_quotas().version() != 0 {
            self.look_up_meters(client_id);
        }
        let before = self.wave.len();
        let mut cx = api::Context {
            core: &self.shared.core,
            wave: &mut self.wave,
            listener: &self.shared.listener,
            client_id: header.client_id.as_deref(),
            peer: self.peer,
            local: self.local,
            answers: &self.shared.answers,
            on_worker: true,
            meters: self.meters.as_ref().map(|known| &known.1),
            throttle_ms: 0,
            held_bytes: 0,
            unopened: Unopened::new(),
            refused,
        };
        let body = frame.slice(header.body_at..);
        let (flexible, answer) = api::answer(&mut cx, header.api_key, header.api_version, body)?;
        if !cx.unopened.is_empty() {
            let unopened = std::mem::take(&mut cx.unopened).into_values().collect();
            self.wave.truncate(before);
            self.park(frame, unopened);
            return Ok(settled);
        }
        let (throttle_ms, held_bytes) = (cx.throttle_ms, cx.held_bytes);
        self.mute(throttle_ms);
        let request_bytes = match &answer {
            Answer::Now(_) | Answer::Produce(_) | Answer::Waits(_) | Answer::Long => 0,
            Answer::Phased(_) | Answer::Alone(_) | Answer::Fetch(_) | Answer::Deferred(_) => {
                frame.len() + held_bytes
            }
        };
        self.alone |= matches!(answer, Answer::Alone(_) | Answer::Deferred(_));
        let state = self.state_of(answer, &frame);
        self.pending_bytes += request_bytes;
        self.pending.push_back(Pending {
            correlation_id: header.correlation_id,
            flexible,
            request_bytes,
            state,
        });
        Ok(settled)
    }

    /// A request waits until logs are open, and is answered anew then.
    fn park(&mut self, frame: Bytes, unopened: Vec<Arc<Partition>>) {
        let core = Arc::clone(&self.shared.core);
        self.pending_bytes += frame.len();
        let appends = frame.starts_with(&produce::KEY.to_be_bytes());
        let opening = Box::pin(async move { core.open_logs(unopened, appends).await });
        self.parked = Some(Box::new(Parked { frame, opening, opened: None }));
    }

    /// The same for one that found that when it was begun. It is the last that was begun.
    fn park_again(&mut self, unopened: Vec<Arc<Partition>>) {
        let Some(Pending { state: State::Deferred { frame, .. }, request_bytes, .. }) =
            self.pending.pop_front()
        else {
            return;
        };
        self.pending_bytes -= request_bytes;
        self.alone &= !self.pending.is_empty();
        self.park(frame, unopened);
    }

    /// Commits the wave and gives every produce reply from `settled` on its outcomes.
    fn commit(&mut self, settled: usize) -> Result<(), Close> {
        if self.wave.is_empty() && self.pending.len() == settled {
            return Ok(());
        }
        let core: &Core = &self.shared.core;
        if !self.wave.is_empty() {
            self.wave.commit(core.now_ms());
        }
        let mut mute_ms = 0;
        for pending in self.pending.iter_mut().skip(settled) {
            if let State::Produce(reply) = &mut pending.state {
                reply.settle(core, &mut self.wave)?;
                mute_ms = mute_ms.max(reply.throttle_ms());
                if reply.is_silent() {
                    pending.state = State::Silent;
                }
            }
        }
        self.wave.clear();
        self.in_debt = mute_ms > 0;
        self.mute(mute_ms);
        Ok(())
    }

    /// Does not read the socket for so long, at least.
    fn mute(&mut self, ms: u32) {
        let until = Instant::now() + Duration::from_millis(ms.into());
        if ms > 0 && self.muted.as_ref().is_none_or(|muted| muted.deadline() < until) {
            self.muted = Some(Box::pin(tokio::time::sleep_until(until)));
        }
    }

    /// Says whose batches come: a merge that they are in the way of names them.
    fn name_client(&mut self, client_id: &str) {
        if self.client_id.as_deref() != Some(client_id) {
            self.client_id = Some(client_id.into());
            self.wave.set_client(produce::client(client_id, self.peer));
        }
    }

    fn look_up_meters(&mut self, client_id: &str) {
        let quotas = self.shared.core.client_quotas();
        let known = self.meters.as_ref();
        if known.is_none_or(|known| known.1.version != quotas.version() || known.0 != client_id) {
            let meters = quotas.of(ANONYMOUS, client_id);
            self.meters = Some(Box::new((client_id.to_owned(), meters)));
        }
    }

    /// The incomplete frame at the front; one that does not come along ends the connection.
    fn look_at_frame(&self) -> Result<Begun, Close> {
        let now = Begun { frames: self.frames, bytes: self.input.len(), at: Instant::now() };
        match self.begun {
            Some(then) if then.frames == now.frames && now.bytes < then.bytes + STALLED_BYTES_MIN => {
                if now.at - then.at >= STALLED_AFTER {
                    return Err(Close::Refused(format!("a frame stalled after {} bytes", now.bytes)));
                }
                Ok(then)
            }
            _ => Ok(now),
        }
    }

    /// Whether the client has said its last, whatever of that was not read yet.
    fn is_left(&self, task: &mut Task<'_>) -> bool {
        let ready = pin!(self.stream.ready(Interest::READABLE)).poll(task);
        matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Every few seconds: idle for too long, or a frame that does not come along?
    fn look_at_age(&mut self, task: &mut Task<'_>) -> Result<(), Close> {
        self.look.as_mut().reset(Instant::now() + LOOK_EVERY);
        let settings = self.shared.settings();
        let age = self.last_frame.elapsed();
        // What has arrived and is not read is not late.
        let waits = self.requests.is_waiting() && self.stream.poll_read_ready(task).is_ready();
        let reads = self.may_start() && !self.held_back && !waits && self.muted.is_none();
        // Nobody reads from it while a request is answered alone, or as many as may be: work would go on for nobody.
        if !self.eof && !reads && self.is_left(task) {
            self.eof = true;
            self.look.as_mut().reset(Instant::now() + LEAVE_WITHIN);
        }
        if self.frames == 0 && reads && age >= Duration::from_millis(settings.first_frame_timeout_ms) {
            return Err(Close::Refused("no request within the time for the first one".into()));
        }
        self.begun = if self.input.is_empty() || !reads { None } else { Some(self.look_at_frame()?) };
        // Kafka's rule: also a client that waits for its answer for so long, or never reads it, is idle.
        if settings.max_idle_ms.is_some_and(|ms| age >= Duration::from_millis(ms)) {
            return Err(Close::Quiet);
        }
        if self.input.is_empty() && self.input_bytes > IDLE_BUFFER_BYTES && age >= LOOK_EVERY {
            self.drop_buffer();
        }
        Ok(())
    }
}

/// Says what a bad length prefix looks like: most are another protocol on the wrong port.
fn describe_prefix(prefix: [u8; 4], limit: usize) -> String {
    match &prefix {
        b"GET " | b"POST" | b"PUT " | b"HEAD" | b"OPTI" | b"PRI " => {
            "this is the Kafka port, and the client speaks HTTP".into()
        }
        [0x16, 0x03, ..] => "this is a plaintext port, and the client speaks TLS".into(),
        b"SSH-" => "this is the Kafka port, and the client speaks SSH".into(),
        _ => format!(
            "frame length {} is not within 1..={limit} (socket.request.max.bytes)",
            i32::from_be_bytes(prefix)
        ),
    }
}

#[cfg(test)]
mod tests;
