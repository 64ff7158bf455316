//! One blocking connection to the broker: negotiated versions, frames out, frames in.
//!
//! Invariant: answers come back in the order of the requests; a correlation id that does not match is
//! an error. A frame is bounded by [`MAX_FRAME_BYTES`] before anything is allocated for it.
//! Deliberately absent: TLS, SASL, reconnecting, and following leaders (one node is driven).

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::Error;
use super::apis::{self, Api};

/// Larger than the largest answer that this client asks for (50 MiB of records).
const MAX_FRAME_BYTES: usize = 64 << 20;
/// An answer that takes longer than this ends the run: a bench is bounded in time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
/// Where a request's correlation id lies in its frame.
const CORRELATION_AT: usize = 8;

/// A connection with the ranges that the broker told.
pub(super) struct Conn {
    stream: TcpStream,
    ranges: Vec<(i16, i16, i16)>,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
    sent: i32,
    received: i32,
}

impl Conn {
    /// Connects and asks for the API versions.
    pub(super) fn open(addr: SocketAddr) -> Result<Self, Error> {
        let stream =
            TcpStream::connect_timeout(&addr, Duration::from_secs(5)).map_err(Error::io("connecting"))?;
        stream.set_nodelay(true).map_err(Error::io("TCP_NODELAY"))?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(Error::io("read timeout"))?;
        let buffer = vec![0; 64 << 10];
        let mut conn = Self { stream, ranges: Vec::new(), buffer, from: 0, to: 0, sent: 0, received: 0 };
        let answer = conn.call(&mut apis::api_versions())?;
        conn.ranges = apis::api_versions_answer(answer)?;
        Ok(conn)
    }

    /// The newest version of `api` that both sides speak.
    pub(super) fn version(&self, api: Api) -> Result<i16, Error> {
        let none = || Error::Protocol(format!("{} {} to {} is not spoken here", api.name, api.min, api.max));
        let &(_, min, max) = self.ranges.iter().find(|range| range.0 == api.key).ok_or_else(none)?;
        let version = max.min(api.max);
        if version < min.max(api.min) { Err(none()) } else { Ok(version) }
    }

    /// Sends one request and waits for its answer: the bytes after the correlation id.
    pub(super) fn call(&mut self, frame: &mut [u8]) -> Result<&[u8], Error> {
        self.send(frame)?;
        self.receive()
    }

    /// Sends one request, stamped with the next correlation id.
    pub(super) fn send(&mut self, frame: &mut [u8]) -> Result<(), Error> {
        let id = self.next_id();
        if let Some(field) = frame.get_mut(CORRELATION_AT..).and_then(|rest| rest.first_chunk_mut::<4>()) {
            *field = id.to_be_bytes();
        }
        self.stream.write_all(frame).map_err(Error::io("sending"))
    }

    /// Sends several requests in one write, none of them copied: each is cut behind its correlation id and
    /// the id comes from elsewhere, so that one frame can be in flight many times.
    pub(super) fn send_all(&mut self, frames: &[&[u8]]) -> Result<(), Error> {
        let mut heads = Vec::with_capacity(frames.len());
        for frame in frames {
            let mut head = *frame.first_chunk::<{ CORRELATION_AT + 4 }>().unwrap_or(&[0; CORRELATION_AT + 4]);
            if let Some(field) = head.last_chunk_mut::<4>() {
                *field = self.next_id().to_be_bytes();
            }
            heads.push(head);
        }
        let rests = frames.iter().map(|frame| frame.get(CORRELATION_AT + 4..).unwrap_or_default());
        let mut parts: Vec<IoSlice<'_>> = heads
            .iter()
            .zip(rests)
            .flat_map(|(head, rest)| [IoSlice::new(head), IoSlice::new(rest)])
            .collect();
        let mut left = parts.as_mut_slice();
        while !left.is_empty() {
            let written = self.stream.write_vectored(left).map_err(Error::io("sending"))?;
            IoSlice::advance_slices(&mut left, written);
        }
        Ok(())
    }

    /// Waits for the next answer: the bytes after its correlation id.
    pub(super) fn receive(&mut self) -> Result<&[u8], Error> {
        let length = self.await_frame()?;
        let frame = self.buffer.get(self.from + 4..self.from + 4 + length).unwrap_or_default();
        self.from += 4 + length;
        self.received += 1;
        match frame.split_first_chunk::<4>() {
            Some((id, rest)) if i32::from_be_bytes(*id) == self.received => Ok(rest),
            _ => Err(Error::Protocol("an answer is out of order".into())),
        }
    }

    /// Whether a whole answer has already been read from the socket.
    pub(super) fn has_answer(&self) -> bool {
        self.buffered_length().is_some_and(|length| self.to - self.from >= 4 + length)
    }

    /// A second handle on the socket, to send from one thread and receive in another.
    pub(super) fn split(self) -> Result<(Self, Self), Error> {
        let stream = self.stream.try_clone().map_err(Error::io("cloning a socket"))?;
        let ranges = self.ranges.clone();
        let sender =
            Self { stream, ranges, buffer: Vec::new(), from: 0, to: 0, sent: self.sent, received: 0 };
        Ok((sender, self))
    }

    /// The ids count from 1 for every request, also for those that get no answer (acks 0).
    fn next_id(&mut self) -> i32 {
        self.sent += 1;
        self.sent
    }

    /// Tells the receiver that the last `count` requests get no answer.
    pub(super) fn unanswered(&mut self, count: usize) {
        self.received += i32::try_from(count).unwrap_or(0);
    }

    fn buffered_length(&self) -> Option<usize> {
        let length = self.buffer.get(self.from..self.to)?.first_chunk::<4>()?;
        usize::try_from(i32::from_be_bytes(*length)).ok()
    }

    fn await_frame(&mut self) -> Result<usize, Error> {
        loop {
            let mut wanted = 4;
            if let Some(length) = self.buffered_length() {
                if length > MAX_FRAME_BYTES {
                    return Err(Error::Protocol(format!("an answer of {length} bytes")));
                }
                wanted += length;
            }
            if wanted > 4 && self.to - self.from >= wanted {
                return Ok(wanted - 4);
            }
            self.read_some(wanted)?;
        }
    }

    fn read_some(&mut self, wanted: usize) -> Result<(), Error> {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        }
        if self.from + wanted > self.buffer.len() {
            self.buffer.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
            self.buffer.resize(self.buffer.len().max(wanted), 0);
        }
        let room = self.buffer.get_mut(self.to..).unwrap_or_default();
        match self.stream.read(room) {
            Ok(0) => Err(Error::Protocol("the broker closed the connection".into())),
            Ok(count) => {
                self.to += count;
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(e) => Err(Error::io("receiving")(e)),
        }
    }
}
