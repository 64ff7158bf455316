//! One client connection: reads all complete frames of a socket read, answers them in order, writes.
//!
//! One task and one poll function: no task or channel hop per request. Replies wait in an ordered queue until
//! they are ready (durability, long polls, group joins); the front leaves first, always.
//! Limits: frame size, buffer growth with the bytes received, requests in flight, bytes
//! queued for a slow reader, time without a complete frame.
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
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::api::{self, Answer, BoxFuture, produce};
use super::listener::Shared;
use super::out::{Body, Out};
use super::schema;
use crate::broker::{Core, Wave};

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
const READ_BYTES_MIN: usize = 2 * 1024;
/// Space offered to the reads of a connection that fills what it gets.
const READ_BYTES: usize = 64 * 1024;
/// Frames larger than this are read alone, so that nothing of the next one has to be moved.
const LARGE_FRAME_BYTES: usize = 64 * 1024;
/// What an idle connection may keep of its buffer.
const IDLE_BUFFER_BYTES: usize = 4 * 1024;
/// Response bytes on the heap or in maps that may wait for a slow reader; beyond, the socket is not read.
const QUEUED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A frame that has begun must grow by this much per look, once it is this old.
const STALLED_BYTES_MIN: usize = 1024;
const STALLED_AFTER: Duration = Duration::from_secs(10);
/// How often a connection looks at its own age.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A reply in its place in the queue.
struct Pending {
    correlation_id: i32,
    flexible: bool,
    state: State,
}

enum State {
    Ready(Body),
    Produce(produce::Reply),
    Future(BoxFuture<Body>),
    /// Nothing is sent (acks=0).
    Silent,
}

pub(super) struct Connection {
    stream: TcpStream,
    shared: Arc<Shared>,
    peer: SocketAddr,
    local: SocketAddr,
    input: BytesMut,
    /// Space offered to the next read: grows while reads fill it.
    read_bytes: usize,
    /// Total length of the frame at the front, once its prefix is here.
    frame_len: Option<usize>,
    pending: VecDeque<Pending>,
    /// A request that must be answered before the next one starts.
    alone: bool,
    out: Out,
    wave: Wave,
    eof: bool,
    /// Until then the socket is not read: a shard's limit is used up, and not every client waits as it is told.
    muted: Option<Pin<Box<Sleep>>>,
    look: Pin<Box<Sleep>>,
    last_frame: Instant,
    frames: u64,
    /// Bytes of an incomplete frame at the last look.
    stalled_at: usize,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        Ok(Self {
            stream,
            shared,
            peer,
            local,
            input: BytesMut::new(),
            read_bytes: READ_BYTES_MIN,
            frame_len: None,
            pending: VecDeque::new(),
            alone: false,
            out: Out::default(),
            wave: Wave::default(),
            eof: false,
            muted: None,
            look: Box::pin(tokio::time::sleep(LOOK_EVERY)),
            last_frame: Instant::now(),
            frames: 0,
            stalled_at: 0,
        })
    }

    /// Serves until the client leaves, misbehaves, or `shared` asks to drain.
    pub(super) async fn serve(mut self) -> Close {
        let stopping = self.shared.stopping();
        tokio::pin!(stopping);
        let mut draining = false;
        let end = poll_fn(|task| {
            draining = draining || stopping.as_mut().poll(task).is_ready();
            loop {
                match self.turn(task, draining) {
                    Ok(true) => {}
                    Ok(false) => return Poll::Pending,
                    Err(close) => return Poll::Ready(close),
                }
            }
        })
        .await;
        if let Close::Refused(why) = &end {
            // One line, with nothing raw from the client in it.
            tracing::info!(peer = %self.peer, "connection closed: {why}");
        }
        end
    }

    /// One round; `Ok(false)` when everything waits for something that will wake this task.
    fn turn(&mut self, task: &mut Task<'_>, draining: bool) -> Result<bool, Close> {
        let mut progress = self.settle(task)?;
        progress |= self.write(task)?;
        if self.is_muted(task) && !draining {
            // Nothing new comes in; what is pending goes out.
        } else if self.may_read(draining) {
            progress |= self.read(task)?;
        } else if (draining || self.eof) && self.pending.is_empty() && self.out.is_empty() {
            return Err(Close::Quiet);
        }
        if !progress && self.look.as_mut().poll(task).is_ready() {
            self.look_at_age()?;
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

    fn may_read(&self, draining: bool) -> bool {
        !self.eof
            && !draining
            && !self.alone
            && self.pending.len() < self.shared.settings().max_in_flight_requests
            && self.out.len() < QUEUED_BYTES_MAX
    }

    /// Moves replies that are ready from the front of the queue to the output.
    fn settle(&mut self, task: &mut Task<'_>) -> Result<bool, Close> {
        let mut progress = false;
        while let Some(front) = self.pending.front_mut() {
            let body = match &mut front.state {
                State::Ready(body) => Some(std::mem::take(body)),
                State::Silent => None,
                State::Produce(reply) => match reply.poll(task.waker()) {
                    Poll::Ready(body) => Some(body),
                    Poll::Pending => break,
                },
                State::Future(future) => match future.as_mut().poll(task) {
                    Poll::Ready(body) => Some(body),
                    Poll::Pending => break,
                },
            };
            if let Some(body) = body {
                self.out.push(front.correlation_id, front.flexible, body);
            }
            self.pending.pop_front();
            progress = true;
            if self.pending.is_empty() && std::mem::take(&mut self.alone) {
                // Frames may have been read together with the one that had to be alone.
                self.dispatch()?;
            }
        }
        Ok(progress)
    }

    fn write(&mut self, task: &mut Task<'_>) -> Result<bool, Close> {
        let mut progress = false;
        while !self.out.is_empty() {
            let stream = Pin::new(&mut self.stream);
            match self.out.poll_write_with(|io| stream.poll_write_vectored(task, io)) {
                Poll::Ready(Ok(0)) => return Err(Close::Quiet),
                Poll::Ready(taken) => progress |= taken? > 0,
                Poll::Pending => break,
            }
        }
        Ok(progress)
    }

    fn read(&mut self, task: &mut Task<'_>) -> Result<bool, Close> {
        self.make_room();
        let room = self.room();
        let mut target = (&mut self.input).limit(room);
        // `read_buf` keeps nothing between polls, so a fresh future each time is the same read.
        match pin!(self.stream.read_buf(&mut target)).poll(task) {
            Poll::Ready(Ok(0)) => {
                self.eof = true;
                Ok(true)
            }
            Poll::Ready(read) => {
                if read? == room {
                    self.read_bytes = (self.read_bytes * 4).min(READ_BYTES);
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
        }
    }

    /// How much of the buffer one read may fill.
    fn room(&self) -> usize {
        let spare = self.input.capacity() - self.input.len();
        match self.frame_len {
            Some(len) if len > LARGE_FRAME_BYTES => spare.min(len - self.input.len()),
            _ => spare,
        }
    }

    /// Answers every complete frame in the buffer, in order, then commits what they appended as one wave.
    fn dispatch(&mut self) -> Result<(), Close> {
        let first = self.pending.len();
        let mut settled = first;
        let end = loop {
            if self.alone {
                break Ok(());
            }
            match self.next_frame() {
                Ok(None) => break Ok(()),
                Ok(Some(frame)) => match self.answer(frame, settled) {
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
        self.last_frame = Instant::now();
        self.frames += 1;
        let mut frame = self.input.split_to(len).freeze();
        frame.advance(4);
        Ok(Some(frame))
    }

    fn frame_limit(&self) -> usize {
        // The smaller limit before a login comes with logins; a listener without them trusts its first frame.
        self.shared.settings().max_request_bytes
    }

    /// Hands one frame to its API. `settled` replies of the queue have their outcomes already.
    fn answer(&mut self, frame: Bytes, settled: usize) -> Result<usize, Close> {
        let header = schema::header(&frame).map_err(|m| Close::Refused(format!("request header: {m}")))?;
        let mut settled = settled;
        // What an earlier request on this connection appended must be there for a later one to see.
        if header.api_key != produce::KEY && !self.wave.is_empty() {
            self.commit(settled)?;
            settled = self.pending.len();
        }
        let mut cx = api::Context {
            core: &self.shared.core,
            wave: &mut self.wave,
            listener: &self.shared.listener,
            client_id: header.client_id,
            peer: self.peer,
            local: self.local,
        };
        let body = frame.slice(header.body_at..);
        let (flexible, answer) = api::answer(&mut cx, header.api_key, header.api_version, body)?;
        let state = match answer {
            Answer::Now(body) => State::Ready(body),
            Answer::Produce(reply) => State::Produce(reply),
            Answer::Phased(future) => State::Future(future),
            Answer::Alone(future) => {
                self.alone = true;
                State::Future(future)
            }
        };
        self.pending.push_back(Pending { correlation_id: header.correlation_id, flexible, state });
        Ok(settled)
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
        if mute_ms > 0 {
            let until = Instant::now() + Duration::from_millis(mute_ms.into());
            self.muted = Some(Box::pin(tokio::time::sleep_until(until)));
        }
        Ok(())
    }

    /// Every few seconds: idle for too long, or a frame that does not come along?
    fn look_at_age(&mut self) -> Result<(), Close> {
        self.look.as_mut().reset(Instant::now() + LOOK_EVERY);
        let settings = self.shared.settings();
        let age = self.last_frame.elapsed();
        if self.frames == 0 && age >= Duration::from_millis(settings.first_frame_timeout_ms) {
            return Err(Close::Refused("no request within the time for the first one".into()));
        }
        let waiting = !self.pending.is_empty() || !self.out.is_empty();
        if !self.input.is_empty() && !waiting {
            let arrived = self.input.len();
            if arrived < self.stalled_at + STALLED_BYTES_MIN && age >= STALLED_AFTER {
                return Err(Close::Refused(format!("a frame stalled after {arrived} bytes")));
            }
            if age >= STALLED_AFTER {
                self.stalled_at = arrived;
            }
        } else {
            self.stalled_at = 0;
        }
        // A client that long-polls is not idle; one that never reads its answers is.
        if settings.max_idle_ms.is_some_and(|ms| age >= Duration::from_millis(ms))
            && (self.pending.is_empty() || !self.out.is_empty())
        {
            return Err(Close::Quiet);
        }
        if self.input.is_empty() && self.input.capacity() > IDLE_BUFFER_BYTES && age >= LOOK_EVERY {
            self.input = BytesMut::new();
            self.read_bytes = READ_BYTES_MIN;
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
