//! The body of an HTTP response: pieces that are there, or a subscription's events as they come; and what a connection holds.
//!
//! Every byte of a body is counted from before it is made until the transport has let go of it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::subscription::Feed;
use crate::listen::{Account, Budget, Debt, Lease};

/// One connection: what it is busy with (idle ones are closed, busy ones are not) and what memory it holds.
pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    opened: Instant,
    in_flight: AtomicUsize,
    /// When the last request began or ended, ms after `opened`; -1 before the first.
    last_ms: AtomicI64,
    /// Of its requests.
    pub(super) requests: Arc<Account>,
    /// Of its answers.
    pub(super) answers: Arc<Account>,
    /// Told when it holds answers that it does not take, and others need the memory.
    pub(super) cut: Arc<Notify>,
}

/// One request in flight.
pub(super) struct Busy(pub(super) Arc<Connection>);

impl Connection {
    pub(super) fn new(peer: SocketAddr, requests: &Arc<Budget>, answers: &Arc<Budget>) -> Arc<Self> {
        Arc::new(Self {
            peer,
            opened: Instant::now(),
            in_flight: AtomicUsize::new(0),
            last_ms: AtomicI64::new(-1),
            requests: requests.account(),
            answers: answers.account(),
            cut: Arc::default(),
        })
    }

    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.touch();
        Busy(Arc::clone(self))
    }

    fn touch(&self) {
        self.last_ms.store(self.age_ms(), Ordering::Relaxed);
    }

    fn age_ms(&self) -> i64 {
        i64::try_from(self.opened.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Milliseconds without a request, and whether there never was one.
    pub(super) fn idle_ms(&self) -> (i64, bool) {
        let last = self.last_ms.load(Ordering::Relaxed);
        if self.in_flight.load(Ordering::Relaxed) > 0 {
            (0, false)
        } else {
            (self.age_ms() - last.max(0), last < 0)
        }
    }

    /// Bytes of a body that are given back to `lease`'s budget one by one, as the transport lets go of them. The client has
    /// to take them as long as they are there.
    pub(super) fn owed(&self, bytes: Vec<Vec<u8>>, mut lease: Lease) -> impl Iterator<Item = Bytes> {
        lease.settle(bytes.iter().map(Vec::capacity).sum());
        let debt = lease.is_shared().then(|| Arc::new(self.answers.owe(&self.cut)));
        bytes.into_iter().filter(|piece| !piece.is_empty()).map(move |bytes| {
            let lease = lease.split(bytes.capacity());
            Bytes::from_owner(Piece { bytes, debt: debt.clone(), lease })
        })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.touch();
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A piece of a body; its memory is counted as long as somebody has it.
struct Piece {
    bytes: Vec<u8>,
    debt: Option<Arc<Debt>>,
    lease: Lease,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.lease.account().know();
        if let Some(debt) = &self.debt {
            debt.moved(self.bytes.len());
        }
    }
}

/// What an action answers.
pub(super) enum Answer {
    /// A body that fits what was held for it.
    Whole(Vec<Vec<u8>>),
    /// A body with what is held for it.
    Held(Vec<Vec<u8>>, Lease),
    Feed(Box<Feed>),
}

type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Box<Feed>)>> + Send>>;

/// A response's body.
pub(super) struct Reply {
    content: Content,
    _busy: Busy,
}

enum Content {
    Pieces(VecDeque<Bytes>),
    Events(Next),
    Done,
}

impl Reply {
    /// A body that is there.
    pub(super) fn whole(bytes: Vec<Vec<u8>>, lease: Lease, busy: Busy) -> Self {
        let pieces = busy.0.owed(bytes, lease).collect();
        Self { content: Content::Pieces(pieces), _busy: busy }
    }

    pub(super) fn empty(busy: Busy) -> Self {
        Self { content: Content::Done, _busy: busy }
    }

    pub(super) fn feed(feed: Box<Feed>, busy: Busy) -> Self {
        Self { content: Content::Events(Box::pin(feed.next())), _busy: busy }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match std::mem::replace(&mut self.content, Content::Done) {
            Content::Pieces(mut pieces) => {
                let next = pieces.pop_front();
                if !pieces.is_empty() {
                    self.content = Content::Pieces(pieces);
                }
                Poll::Ready(next.map(|piece| Ok(Frame::data(piece))))
            }
            Content::Done => Poll::Ready(None),
            Content::Events(mut next) => match next.as_mut().poll(cx) {
                Poll::Pending => {
                    self.content = Content::Events(next);
                    Poll::Pending
                }
                Poll::Ready(None) => Poll::Ready(None),
                Poll::Ready(Some((bytes, feed))) => {
                    self.content = Content::Events(Box::pin(feed.next()));
                    Poll::Ready(Some(Ok(Frame::data(bytes))))
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Pieces(pieces) => pieces.is_empty(),
            Content::Events(_) => false,
            Content::Done => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Pieces(pieces) => {
                SizeHint::with_exact(pieces.iter().map(|piece| piece.len() as u64).sum())
            }
            Content::Events(_) => SizeHint::default(),
            Content::Done => SizeHint::with_exact(0),
        }
    }
}
