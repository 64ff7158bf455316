//! A connection of an HTTP door that can still be told why it ends.
//!
//! hyper closes a connection whose first head does not come in time without a word (1.12 has no 408). The door keeps a
//! [`LastWord`] and says it then. Nothing is said into an answer that has begun, nor to HTTP/2, nor to who never said anything.
//! Deliberately absent: when that is (each door's).

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::lock::{Mutex, MutexGuard, rank};

/// Bytes have come.
const HEARD: u8 = 1;
/// They begin like HTTP/2.
const HTTP_2: u8 = 2;
/// Bytes have gone out.
const SAID: u8 = 4;

const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What hyper reads and writes.
pub struct Line {
    read: OwnedReadHalf,
    wire: Arc<Wire>,
}

/// What the door keeps of it.
pub struct LastWord(Arc<Wire>);

struct Wire {
    /// hyper's, until the last word.
    write: Mutex<rank::WriteHalf, OwnedWriteHalf>,
    state: AtomicU8,
}

/// A connection for hyper, and the door's last word on it.
#[must_use]
pub fn line(stream: TcpStream) -> (Line, LastWord) {
    let (read, write) = stream.into_split();
    let wire = Arc::new(Wire { write: Mutex::new(write), state: AtomicU8::new(0) });
    (Line { read, wire: Arc::clone(&wire) }, LastWord(wire))
}

impl Wire {
    fn write(&self) -> MutexGuard<'_, rank::WriteHalf, OwnedWriteHalf> {
        self.write.lock()
    }
}

impl LastWord {
    /// Answers 408 to a first request whose head has begun and did not come. Nothing can be said after it.
    pub fn too_slow(&self) {
        if self.0.state.load(Ordering::Relaxed) == HEARD {
            let write = self.0.write();
            // Whoever does not take these few bytes is not waited for.
            let _ = write.try_write(TOO_SLOW);
            let _ = SockRef::from(write.as_ref()).shutdown(Shutdown::Write);
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.read).poll_read(task, buf))?;
        let new = buf.filled().get(before..).unwrap_or_default();
        if !new.is_empty() && self.wire.state.load(Ordering::Relaxed) & HEARD == 0 {
            let http_2 = if new.starts_with(b"PRI ") { HTTP_2 } else { 0 };
            self.wire.state.fetch_or(HEARD | http_2, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, task: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(task, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.wire.state.fetch_or(SAID, Ordering::Relaxed);
        Pin::new(&mut *self.wire.write()).poll_write_vectored(task, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.wire.write()).poll_flush(task)
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.wire.write()).poll_shutdown(task)
    }
}
