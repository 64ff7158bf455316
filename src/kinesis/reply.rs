//! The body of an HTTP response: bytes that are there, or a subscription's events as they come.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::subscription::Feed;

/// What a connection is busy with: idle ones are closed, busy ones are not.
pub(super) struct Activity {
    opened: Instant,
    in_flight: AtomicUsize,
    /// When the last request began or ended, ms after `opened`; -1 before the first.
    last_ms: AtomicI64,
}

/// One request in flight.
pub(super) struct Busy(Arc<Activity>);

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { opened: Instant::now(), in_flight: AtomicUsize::new(0), last_ms: AtomicI64::new(-1) })
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
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.touch();
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What an action answers.
pub(super) enum Answer {
    Whole(Vec<u8>),
    Feed(Box<Feed>),
}

type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Box<Feed>)>> + Send>>;

/// A response's body.
pub(super) struct Reply {
    content: Content,
    _busy: Option<Busy>,
}

enum Content {
    Whole(Bytes),
    Events(Next),
    Done,
}

impl Reply {
    pub(super) fn new(answer: Answer, busy: Option<Busy>) -> Self {
        let content = match answer {
            Answer::Whole(bytes) => Content::Whole(bytes.into()),
            Answer::Feed(feed) => Content::Events(Box::pin(feed.next())),
        };
        Self { content, _busy: busy }
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
            Content::Whole(bytes) if !bytes.is_empty() => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Content::Whole(_) | Content::Done => Poll::Ready(None),
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
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Events(_) => false,
            Content::Done => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Events(_) => SizeHint::default(),
            Content::Done => SizeHint::with_exact(0),
        }
    }
}
