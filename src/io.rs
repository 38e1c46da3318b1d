//! Sockets as the protocol libraries want them: with the first bytes put back, and with writes collected.
//!
//! [`Prefixed`] replays what protocol detection has read. [`Batch`] stands under h2, which flushes after nearly every
//! DATA frame: it collects the writes of one turn of the connection and lets the driver send them with one system call.
//! Invariant: `Batch` holds at most [`BATCH`] bytes more than the single write that filled it, and whoever owns the
//! connection calls [`Batch::poll_drain`] before it waits.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Bytes collected before a write has to reach the socket.
const BATCH: usize = 256 << 10;
/// Buffers kept by a worker for its connections; only those in the middle of a turn or of a stall need one.
const SPARE_BUFFERS: usize = 16;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A stream of which some bytes were read ahead. The next reads give them again.
#[derive(Debug)]
pub(crate) struct Prefixed<S> {
    stream: S,
    prefix: Vec<u8>,
    replayed: usize,
}

impl<S: AsyncRead + Unpin> Prefixed<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, prefix: Vec::new(), replayed: 0 }
    }

    /// The bytes read ahead so far.
    pub(crate) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Reads up to `limit` more bytes ahead; 0 at the end of the stream.
    pub(crate) fn poll_read_ahead(&mut self, limit: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let filled = self.prefix.len();
        self.prefix.resize(filled + limit, 0);
        let mut buffer = ReadBuf::new(&mut self.prefix[filled..]);
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut buffer);
        let read = buffer.filled().len();
        self.prefix.truncate(filled + read);
        polled.map_ok(|()| read)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let left = this.prefix.get(this.replayed..).unwrap_or_default();
        if left.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        let taken = left.len().min(buffer.remaining());
        buffer.put_slice(&left[..taken]);
        this.replayed += taken;
        if this.replayed == this.prefix.len() {
            this.prefix = Vec::new();
            this.replayed = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A stream whose flush does nothing until [`Batch::poll_drain`]. Clones are the same stream: h2 has one, the driver
/// of the connection the other.
#[derive(Debug)]
pub(crate) struct Batch<S>(Rc<RefCell<Collected<S>>>);

#[derive(Debug)]
struct Collected<S> {
    stream: S,
    buffer: Vec<u8>,
    sent: usize,
    /// A write was refused because the buffer was full; the writer has to be polled again once there is room.
    refused: bool,
    /// Since when the socket takes nothing.
    stalled: Option<Instant>,
}

impl<S> Clone for Batch<S> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<S: AsyncWrite + Unpin> Batch<S> {
    pub(crate) fn new(stream: S) -> Self {
        let collected = Collected { stream, buffer: Vec::new(), sent: 0, refused: false, stalled: None };
        Self(Rc::new(RefCell::new(collected)))
    }

    /// Sends what was collected as far as the socket takes it; the task is woken when it takes more.
    ///
    /// Returns whether a writer that found the buffer full should be polled again.
    pub(crate) fn poll_drain(&self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut this = self.0.borrow_mut();
        if let Poll::Ready(Err(error)) = this.poll_send(cx) {
            return Err(error);
        }
        let room = this.buffer.len() - this.sent < BATCH;
        Ok(room && mem::take(&mut this.refused))
    }

    /// Whether nothing waits to be sent.
    pub(super) fn is_drained(&self) -> bool {
        self.0.borrow().buffer.is_empty()
    }

    /// Since when the socket has taken nothing of what waits.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        self.0.borrow().stalled
    }

    /// The stream again, when this is its last owner; what was collected and not sent is lost.
    pub(crate) fn into_stream(self) -> Option<S> {
        Rc::into_inner(self.0).map(|collected| collected.into_inner().stream)
    }
}

impl<S: AsyncWrite + Unpin> Collected<S> {
    /// Ready when nothing is left to send.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.buffer.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.buffer[self.sent..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.sent += written;
                    self.stalled = None;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.stalled.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
            }
        }
        // TLS takes what it encrypts before the socket has taken it. Nothing counts as sent before it has.
        if !self.buffer.is_empty() && Pin::new(&mut self.stream).poll_flush(cx)?.is_pending() {
            self.stalled.get_or_insert_with(Instant::now);
            return Poll::Pending;
        }
        self.stalled = None;
        self.give_back();
        Poll::Ready(Ok(()))
    }

    /// Whether more may be collected.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buffer.len() - self.sent >= BATCH {
            let sent = self.poll_send(cx)?;
            if sent.is_pending() && self.buffer.len() - self.sent >= BATCH {
                self.refused = true;
                return Poll::Pending;
            }
        }
        if self.buffer.capacity() == 0 {
            self.buffer = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        } else if self.sent >= BATCH {
            // Half the buffer or more is behind us; moving the rest keeps the whole from growing without end.
            self.buffer.drain(..self.sent);
            self.sent = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Leaves the empty buffer to other connections: an idle one holds none.
    fn give_back(&mut self) {
        self.sent = 0;
        let mut buffer = mem::take(&mut self.buffer);
        buffer.clear();
        if buffer.capacity() > 0 && buffer.capacity() <= 2 * BATCH {
            SPARE.with_borrow_mut(|spare| {
                if spare.len() < SPARE_BUFFERS {
                    spare.push(buffer);
                }
            });
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Batch<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Batch<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut this = self.0.borrow_mut();
        ready!(this.poll_room(cx))?;
        this.buffer.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut this = self.0.borrow_mut();
        ready!(this.poll_room(cx))?;
        for slice in slices {
            this.buffer.extend_from_slice(slice);
        }
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    /// So that h2 hands over payloads from where they are instead of copying them into a buffer of its own.
    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing: the driver flushes, once per turn.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.0.borrow_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes every byte at once, as TLS does, and gives none away before it is told to.
    #[derive(Default)]
    struct Hoarder {
        taken: Vec<u8>,
        gives: bool,
    }

    impl AsyncWrite for Hoarder {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.taken.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.gives { Poll::Ready(Ok(())) } else { Poll::Pending }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_a_stream_has_taken_and_not_flushed_is_not_sent() {
        let mut batch = Batch::new(Hoarder::default());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut batch).poll_write(&mut cx, b"hello").is_ready());

        batch.poll_drain(&mut cx).expect("no error");
        batch.poll_drain(&mut cx).expect("no error");

        assert!(!batch.is_drained() && batch.stalled_since().is_some());
        batch.0.borrow_mut().stream.gives = true;
        batch.poll_drain(&mut cx).expect("no error");
        assert!(batch.is_drained() && batch.stalled_since().is_none());
        assert_eq!(batch.into_stream().expect("the last owner").taken, b"hello");
    }
}
