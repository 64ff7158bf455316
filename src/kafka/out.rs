//! What waits to be written to one connection: small answers in one buffer, slices of logs beside it.
//!
//! Invariant: bytes leave in the order they were pushed; record bytes are never copied here.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::task::{Poll, ready};

use bytes::{BufMut, Bytes};

use crate::broker::Slice;

/// Answers above this leave in the memory in which they were made; smaller ones are copied behind each other.
const LARGE_BYTES: usize = 16 * 1024;
/// What the buffer of small answers keeps when it is empty.
const TAIL_BYTES: usize = 64 * 1024;

/// A response body: bytes, with what comes from elsewhere to be sent before the byte at each position.
#[derive(Default)]
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    /// Ascending positions in `bytes`.
    pub(super) pieces: Vec<(usize, Piece)>,
}

/// Bytes that are not the answer's own.
pub(super) enum Piece {
    /// Of a log.
    Log(Slice),
    /// Of an answer that many connections send; whoever made it counts its memory.
    Shared(Bytes),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Log(slice) => slice.for_socket(),
            Self::Shared(bytes) => bytes,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Log(slice) => slice.len(),
            Self::Shared(bytes) => bytes.len(),
        }
    }

    /// Its own and what it takes to queue it, behind the bytes before it.
    fn heap_len(&self) -> usize {
        let bytes = match self {
            Self::Log(slice) => slice.heap_len(),
            Self::Shared(_) => 0,
        };
        QUEUED_BYTES + bytes
    }
}

/// What a queue takes of memory for each of its pieces: two parts, and a buffer of small bytes.
pub(super) const QUEUED_BYTES: usize = 2 * size_of::<Part>() + 64;

impl Body {
    /// Bytes on the wire, without the frame's own.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() + self.pieces.iter().map(|(_, piece)| piece.len()).sum::<usize>()
    }

    /// Bytes of memory that it alone holds.
    pub(super) fn heap_len(&self) -> usize {
        self.bytes.len() + self.pieces.iter().map(|(_, piece)| piece.heap_len()).sum::<usize>()
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, pieces: Vec::new() }
    }
}

enum Part {
    Heap(Vec<u8>),
    Piece(Piece),
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Piece(piece) => piece.bytes(),
        }
    }

    fn heap_len(&self) -> usize {
        match self {
            Self::Heap(bytes) => bytes.len(),
            Self::Piece(piece) => piece.heap_len(),
        }
    }
}

/// Parts per vectored write; Linux takes 1024, more than a few dozen win nothing.
const IO_SLICES: usize = 64;

/// The queue of one connection.
#[derive(Default)]
pub(super) struct Out {
    parts: VecDeque<Part>,
    /// Bytes after the last part; reused, so small answers cost no allocation here.
    tail: Vec<u8>,
    /// How much of the first part (or of the tail, when there is no part) has left.
    sent: usize,
    queued: usize,
    /// Memory of `parts`.
    parts_heap: usize,
    /// Bytes that have left in all.
    sent_ever: u64,
}

impl Out {
    /// Bytes that have not left yet.
    pub(super) fn len(&self) -> usize {
        self.queued - self.sent
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory held by what has not left yet.
    pub(super) fn heap_len(&self) -> usize {
        self.parts_heap + self.tail.len()
    }

    /// Bytes that have left since the connection began.
    pub(super) fn sent_ever(&self) -> u64 {
        self.sent_ever
    }

    /// Queues one response: length, correlation id, the header's empty tag section if `flexible`, body.
    pub(super) fn push(&mut self, correlation_id: i32, flexible: bool, body: Body) {
        let len = 4 + usize::from(flexible) + body.len();
        self.tail.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
        self.tail.put_i32(correlation_id);
        if flexible {
            self.tail.put_u8(0);
        }
        self.queued += 4 + len;
        let mut from = 0;
        for (at, piece) in body.pieces {
            self.tail.extend_from_slice(body.bytes.get(from..at).unwrap_or_default());
            from = at;
            self.close_tail();
            self.put(Part::Piece(piece));
        }
        if from == 0 && body.bytes.len() >= LARGE_BYTES {
            self.close_tail();
            let mut bytes = body.bytes;
            bytes.shrink_to_fit();
            self.put(Part::Heap(bytes));
            return;
        }
        self.tail.extend_from_slice(body.bytes.get(from..).unwrap_or_default());
    }

    fn close_tail(&mut self) {
        let tail = Part::Heap(std::mem::take(&mut self.tail));
        self.put(tail);
    }

    fn put(&mut self, part: Part) {
        self.parts_heap += part.heap_len();
        self.parts.push_back(part);
    }

    /// Offers the front of the queue to `write` (a vectored write) and drops what it took.
    pub(super) fn poll_write_with(
        &mut self,
        write: impl FnOnce(&[IoSlice<'_>]) -> Poll<std::io::Result<usize>>,
    ) -> Poll<std::io::Result<usize>> {
        let mut io = [IoSlice::new(&[]); IO_SLICES];
        let mut count = 0;
        let mut skip = self.sent;
        let tail = std::iter::once(self.tail.as_slice());
        for bytes in self.parts.iter().map(Part::bytes).chain(tail) {
            let Some(slot) = io.get_mut(count) else { break };
            *slot = IoSlice::new(bytes.get(skip..).unwrap_or_default());
            skip = 0;
            count += 1;
        }
        let taken = ready!(write(io.get(..count).unwrap_or_default()))?;
        self.advance(taken);
        Poll::Ready(Ok(taken))
    }

    fn advance(&mut self, taken: usize) {
        self.sent += taken;
        self.sent_ever += taken as u64;
        while let Some(part) = self.parts.front() {
            let len = part.bytes().len();
            if self.sent < len {
                return;
            }
            self.sent -= len;
            self.queued -= len;
            self.parts_heap -= part.heap_len();
            self.parts.pop_front();
        }
        if self.sent == self.tail.len() {
            self.queued -= self.sent;
            self.sent = 0;
            self.tail.clear();
            if self.tail.capacity() > TAIL_BYTES {
                self.tail = Vec::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn bytes_leave_in_order_whatever_the_socket_takes_at_once() {
        for step in 1..40 {
            let mut out = Out::default();
            out.push(1, false, Body::from(vec![10, 11]));
            let slice = Slice::heap(Bytes::from_static(&[50, 51, 52]), 1);
            out.push(2, true, Body { bytes: vec![20, 21, 22], pieces: vec![(2, Piece::Log(slice))] });
            let mut sent = Vec::new();
            while !out.is_empty() {
                let before = out.len();
                let taken = out.poll_write_with(|io| {
                    let all: Vec<u8> = io.iter().flat_map(|s| s.to_vec()).collect();
                    let n = all.len().min(step);
                    sent.extend_from_slice(all.get(..n).unwrap_or_default());
                    Poll::Ready(Ok(n))
                });
                let Poll::Ready(Ok(taken)) = taken else { unreachable!() };
                assert_eq!(out.len(), before - taken);
            }
            assert_eq!(
                sent,
                [
                    &[0, 0, 0, 6, 0, 0, 0, 1, 10, 11][..],
                    &[0, 0, 0, 11, 0, 0, 0, 2, 0, 20, 21, 50, 51, 52, 22]
                ]
                .concat()
            );
        }
    }

    #[test]
    fn memory_is_what_answers_hold_alone_until_they_have_left() {
        let shared = Bytes::from(vec![7; 1 << 20]);
        let logged = Slice::heap(Bytes::from(vec![8; 100]), 1);
        let body =
            Body { bytes: vec![1, 2], pieces: vec![(1, Piece::Shared(shared)), (2, Piece::Log(logged))] };
        assert_eq!((body.len(), body.heap_len()), ((1 << 20) + 102, 102 + 2 * QUEUED_BYTES));
        let mut out = Out::default();
        out.push(1, false, body);
        out.push(2, false, Body::from(vec![0; LARGE_BYTES]));
        assert_eq!(out.heap_len(), 8 + 102 + 2 * QUEUED_BYTES + 8 + LARGE_BYTES);
        let mut sent = 0;
        while !out.is_empty() {
            let taken = out.poll_write_with(|io| Poll::Ready(Ok(io.iter().map(|s| s.len()).sum())));
            sent += match taken {
                Poll::Ready(Ok(taken)) => taken as u64,
                _ => unreachable!(),
            };
        }
        assert_eq!((out.heap_len(), out.sent_ever()), (0, sent));
        assert_eq!(sent, (1 << 20) + 102 + 16 + LARGE_BYTES as u64);
    }
}
