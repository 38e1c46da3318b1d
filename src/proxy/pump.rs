//! Moves a call's request upstream, with flow control end to end and enough memory to start again.
//!
//! The client's window opens only by what the upstream took, or by a small request that is all here. What was sent is remembered up to a limit, so that a call can
//! be sent to another endpoint. Small pieces that are here together go out together (docs/decisions/0020).

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::SendStream;
use tokio::time::Instant;

use super::gate::Gated;
use super::multipart::PartFrames;
use super::recode::Recode;
use super::timer::Timer;
use super::upload::UploadFrames;
use super::values::ValueFrames;
use super::websocket::MessageFrames;
use crate::body::RequestBody;
use crate::error::{Error, Reason};
use crate::grpc::frame::{FrameError, Scanner};

/// Pieces of a request kept for another attempt, each of which may keep the larger buffer alive that it was read into.
const REPLAY_CHUNKS: usize = 64;
/// Pieces below this are sent together when they are here together: an upstream that is built on h2 takes many small DATA
/// frames that it has not read for an attack, and closes the connection that other calls share.
const SMALL: usize = 1 << 10;
/// Bytes of pieces joined at most.
const JOINED: usize = 16 << 10;
/// Small pieces of a call that go out without waiting a turn for others to join them.
const FEW: u32 = 16;

/// A request on its way upstream.
#[derive(Debug)]
pub(crate) struct Pump {
    source: Source,
    stream: Option<SendStream<Bytes>>,
    /// Whether nothing was sent on it yet.
    fresh: bool,
    /// Read from the source, not yet taken by the upstream; and how much of it the client's window still waits for.
    chunk: Bytes,
    /// Read behind that, when small pieces were joined.
    next: Option<Taken>,
    /// Small pieces sent, and the length of the one that has waited a turn for more.
    small: u32,
    waited: usize,
    replay: Replay,
    /// Request bytes kept for another attempt; a call that sent more is not sent again.
    limit: usize,
    /// Bytes that were read and for which the client's window is still closed.
    owed: usize,
    bytes: u64,
    /// When the last of them went out.
    sent: Option<Instant>,
    /// Whether the frames are the client's own.
    from_client: bool,
}

/// What a source gives when it is ready.
type Taken = Option<Result<Bytes, Error>>;

/// Where a request's frames come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// One frame, whole.
    Frame(Bytes),
    /// The client's own frames, as they come.
    Stream(Frames),
    /// The client's messages, in frames made here.
    Recoded(Box<Recode>),
    /// Frames made of the client's JSON, as it comes.
    Values(Box<ValueFrames>),
    /// Frames made of the messages of a WebSocket, as they come.
    Socket(Box<MessageFrames>),
    /// Frames made of the client's bytes, as they come.
    Upload(Box<UploadFrames>),
    /// Frames made of the parts of a form, as they come.
    Parts(Box<PartFrames>),
    /// Any of these behind limits that need its messages.
    Gated(Box<Gated>),
    /// Nothing more.
    End,
}

/// A client's frames, counted and bounded.
#[derive(Debug)]
pub(crate) struct Frames {
    body: RequestBody,
    scanner: Scanner,
    /// Whether exactly one message is due.
    unary: bool,
}

impl Frames {
    pub(crate) fn new(body: RequestBody, limit: usize, unary: bool) -> Self {
        Self { body, scanner: Scanner::new(limit), unary }
    }

    /// The same from a client that named no encoding: none of its messages may be compressed.
    pub(crate) fn plain(self) -> Self {
        Self { scanner: self.scanner.plain(), ..self }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let next = match ready!(self.body.poll_data(cx)) {
            Some(Ok(data)) => Some(self.check(&data).map(|()| data)),
            Some(Err(broken)) => Some(Err(broken.into())),
            None => self.check_end().err().map(Err),
        };
        Poll::Ready(next)
    }

    fn check(&mut self, data: &[u8]) -> Result<(), Error> {
        self.scanner.scan(data).map_err(request_frame_error)?;
        if self.unary && self.scanner.messages() > 1 {
            return Err(too_many_messages());
        }
        Ok(())
    }

    fn check_end(&self) -> Result<(), Error> {
        self.scanner.finish().map_err(request_frame_error)?;
        if self.unary && self.scanner.messages() == 0 {
            return Err(no_message());
        }
        Ok(())
    }

    /// Whether the end is known already, and is where it may be.
    fn is_end(&self) -> bool {
        self.body.is_end() && self.check_end().is_ok()
    }
}

/// A unary request without a message.
pub(crate) fn no_message() -> Error {
    Error::new(Reason::MessageCount, "the method takes one request message, the client sent none")
}

/// A unary request with a second message.
pub(crate) fn too_many_messages() -> Error {
    Error::new(Reason::MessageCount, "the method takes one request message, the client sent more")
}

/// What is wrong with the frames of a request.
pub(crate) fn request_frame_error(error: FrameError) -> Error {
    match error {
        FrameError::TooLarge { .. } => Error::new(Reason::RequestTooLarge, format!("request {error}")),
        FrameError::BadFlag(_) | FrameError::Truncated => Error::new(Reason::InvalidFrame, format!("request {error}")),
    }
}

/// What was sent so far.
#[derive(Debug)]
enum Replay {
    Kept {
        chunks: Vec<Bytes>,
        bytes: usize,
    },
    /// Taken again from the front before the source is asked.
    Again {
        chunks: std::vec::IntoIter<Bytes>,
        kept: Vec<Bytes>,
        bytes: usize,
    },
    /// Too much was sent to remember, or no other attempt will be made.
    Gone,
}

impl Pump {
    /// Keeps up to `limit` bytes for another attempt. Boxed, because it is handed on a dozen times in a call.
    pub(crate) fn new(source: Source, limit: usize) -> Box<Self> {
        let from_client = matches!(source.inner(), Source::Stream(_) | Source::Recoded(_));
        Box::new(Self {
            source,
            stream: None,
            fresh: true,
            chunk: Bytes::new(),
            next: None,
            small: 0,
            waited: 0,
            replay: Replay::Kept { chunks: Vec::new(), bytes: 0 },
            limit,
            owed: 0,
            bytes: 0,
            sent: None,
            from_client,
        })
    }

    /// Sends to this stream from now on, from the beginning.
    pub(crate) fn attach(&mut self, stream: SendStream<Bytes>) {
        self.stream = Some(stream);
        self.fresh = true;
    }

    /// Prepares to send everything once more.
    ///
    /// Returns `false` when too much was sent to remember.
    pub(crate) fn rewind(&mut self) -> bool {
        (self.stream, self.sent) = (None, None);
        let (chunks, bytes) = match std::mem::replace(&mut self.replay, Replay::Gone) {
            Replay::Kept { chunks, bytes } => (chunks, bytes),
            Replay::Again { chunks, mut kept, bytes } => {
                kept.extend(chunks);
                (kept, bytes)
            }
            Replay::Gone => return false,
        };
        // The rest of what was remembered whole when it was read.
        self.chunk = Bytes::new();
        self.next.take_if(|next| matches!(next, Some(Ok(_))));
        self.replay = Replay::Again { chunks: chunks.into_iter(), kept: Vec::new(), bytes };
        true
    }

    /// Whether [`Self::rewind`] would succeed.
    pub(crate) fn can_rewind(&self) -> bool {
        !matches!(self.replay, Replay::Gone)
    }

    /// Whether all of it was sent, or the upstream takes no more.
    pub(crate) fn is_sent(&self) -> bool {
        self.stream.is_none()
    }

    /// The whole request once more, if it was sent to its end and is remembered.
    pub(crate) fn whole(&self) -> Option<Source> {
        match &self.replay {
            Replay::Kept { chunks, .. } if self.stream.is_none() && self.source.is_end() => Some(match &**chunks {
                [only] => Source::Frame(only.clone()),
                chunks => Source::Frame(chunks.concat().into()),
            }),
            Replay::Kept { .. } | Replay::Again { .. } | Replay::Gone => None,
        }
    }

    /// Leaves nothing here but the stream, and returns the rest.
    pub(crate) fn detach(self: &mut Box<Self>) -> Box<Self> {
        let mut stays = Self::new(Source::End, 0);
        stays.replay = Replay::Gone;
        stays.stream = self.stream.take();
        std::mem::replace(self, stays)
    }

    /// Forgets everything but the stream, which stays open.
    pub(crate) fn give_up(&mut self) {
        self.source = Source::End;
        (self.chunk, self.next) = (Bytes::new(), None);
        self.replay = Replay::Gone;
    }

    /// Forgets what was sent: the call arrived.
    pub(crate) fn arrived(&mut self) {
        self.replay = Replay::Gone;
    }

    /// Bytes of the request's body that were read from the client, frames included; `None` when the request was made here.
    pub(crate) fn bytes(&self) -> Option<u64> {
        match self.source.inner() {
            Source::Values(values) => Some(values.bytes()),
            Source::Socket(messages) => Some(messages.bytes()),
            Source::Upload(upload) => Some(upload.bytes()),
            Source::Parts(parts) => Some(parts.bytes()),
            Source::Recoded(recode) => Some(recode.bytes()),
            Source::Frame(_) | Source::Stream(_) | Source::Gated(_) | Source::End => {
                self.from_client.then_some(self.bytes)
            }
        }
    }

    /// When the whole request was on its way; `None` while it is not.
    pub(crate) fn sent(&self) -> Option<Instant> {
        self.sent
    }

    /// [`Self::poll`], which keeps the clock from taking a moving request for an idle one.
    ///
    /// # Errors
    /// See there.
    pub(crate) fn poll_touching(&mut self, timer: &mut Timer, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let before = self.bytes();
        let polled = self.poll(cx);
        if self.bytes() != before {
            timer.touch();
        }
        polled
    }

    /// Moves what can be moved; ready when the whole request went out, or the upstream takes no more of it.
    ///
    /// # Errors
    /// The client went away, or broke a rule of framing; the upstream's stream is then to be reset by dropping this.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while self.stream.is_some() {
            if self.chunk.is_empty() {
                match ready!(self.poll_chunk(cx)) {
                    // An empty DATA frame, as clients send to end their stream; there is no capacity to wait for.
                    Some(Ok(chunk)) if chunk.is_empty() => continue,
                    Some(chunk) => self.chunk = chunk?,
                    None => {
                        if let Some(mut stream) = self.stream.take() {
                            // Fails when the upstream closed the stream; its reply tells.
                            stream.send_data(Bytes::new(), true).ok();
                            self.sent = Some(Instant::now());
                        }
                        break;
                    }
                }
            }
            if self.chunk.len() < SMALL && self.poll_join(cx).is_pending() {
                return Poll::Pending;
            }
            let is_last = match &self.next {
                Some(next) => next.is_none(),
                None => self.replay.is_over() && self.source.is_end(),
            };
            let Some(stream) = &mut self.stream else { break };
            // A request that is small and all here may wait in h2. A new stream has no capacity before its connection had a
            // turn, so that most calls would take two turns, and two writes: one for the head, one for this.
            let is_small = self.fresh && is_last && self.chunk.len() <= JOINED;
            let mut capacity = if is_small { self.chunk.len() } else { 0 };
            if capacity == 0 {
                stream.reserve_capacity(self.chunk.len());
                capacity = stream.capacity();
            }
            while capacity == 0 {
                match ready!(stream.poll_capacity(cx)) {
                    Some(Ok(more)) => capacity = more,
                    Some(Err(_)) | None => {
                        self.stream = None;
                        return Poll::Ready(Ok(()));
                    }
                }
            }
            let piece = self.chunk.split_to(capacity.min(self.chunk.len()));
            let taken = piece.len();
            if taken < SMALL {
                (self.small, self.waited) = (self.small.saturating_add(1), 0);
            }
            let end = self.chunk.is_empty() && is_last;
            let sent = stream.send_data(piece, end);
            self.fresh = false;
            let released = taken.min(self.owed);
            self.owed -= released;
            self.source.release(released);
            if end {
                self.sent = Some(Instant::now());
            }
            if end || sent.is_err() {
                self.stream = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The next bytes to send: again what an attempt sent that came to nothing, else fresh from the source.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Taken> {
        if let Some(chunk) = self.replay.next() {
            return Poll::Ready(Some(Ok(chunk)));
        }
        if let Some(next) = self.next.take() {
            return Poll::Ready(next);
        }
        let taken = ready!(self.source.poll_next(cx));
        if let Some(Ok(chunk)) = &taken
            && !chunk.is_empty()
        {
            self.bytes += chunk.len() as u64;
            self.owed += chunk.len();
            self.replay.keep(chunk, self.limit);
        }
        Poll::Ready(taken)
    }

    /// Joins the small piece with those that are here behind it. Where a call has sent many, pending for one turn after
    /// each that came, because HTTP/1.1 gives one piece a turn.
    fn poll_join(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut joined = BytesMut::new();
        let mut length = self.chunk.len();
        let mut waits = false;
        while self.next.is_none() && self.replay.is_over() && !self.source.is_end() {
            match self.poll_chunk(cx) {
                Poll::Ready(Some(Ok(chunk))) if length + chunk.len() <= JOINED => {
                    if joined.is_empty() {
                        joined.extend_from_slice(&self.chunk);
                    }
                    joined.extend_from_slice(&chunk);
                    length += chunk.len();
                }
                Poll::Ready(taken) => self.next = Some(taken),
                Poll::Pending => {
                    waits = self.small >= FEW && self.waited != length;
                    break;
                }
            }
        }
        if !joined.is_empty() {
            self.chunk = joined.freeze();
        }
        if !waits {
            return Poll::Ready(());
        }
        self.waited = length;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Source {
    /// The only frame of a call that has one, made here, as long as it was not taken.
    pub(super) fn frame(&self) -> Option<Bytes> {
        match self {
            Self::Frame(frame) => Some(frame.clone()),
            Self::Gated(gated) => gated.frame(),
            Self::Stream(_)
            | Self::Recoded(_)
            | Self::Values(_)
            | Self::Socket(_)
            | Self::Upload(_)
            | Self::Parts(_)
            | Self::End => None,
        }
    }

    /// The next bytes of the request's frames, `None` at its end.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Taken> {
        match self {
            Self::Frame(frame) => {
                let frame = std::mem::take(frame);
                *self = Self::End;
                Poll::Ready(Some(Ok(frame)))
            }
            Self::Stream(frames) => frames.poll_next(cx),
            Self::Recoded(recode) => recode.poll_next(cx),
            Self::Values(values) => values.poll_next(cx),
            Self::Socket(messages) => messages.poll_next(cx),
            Self::Upload(upload) => upload.poll_next(cx),
            Self::Parts(parts) => parts.poll_next(cx),
            Self::Gated(gated) => gated.poll_next(cx),
            Self::End => Poll::Ready(None),
        }
    }

    /// The upstream took so many bytes of the client's own: its window opens.
    pub(super) fn release(&mut self, bytes: usize) {
        match self {
            Self::Stream(frames) => frames.body.release(bytes),
            Self::Gated(gated) => gated.release(bytes),
            // They open it themselves.
            Self::Frame(_) | Self::Recoded(_) | Self::Values(_) | Self::Socket(_) => {}
            Self::Upload(_) | Self::Parts(_) | Self::End => {}
        }
    }

    /// Waits until the limits on the first message have let it pass, where there are any.
    ///
    /// # Errors
    /// They refuse it, it cannot be read, or the call's time is over.
    pub(super) async fn open(&mut self, timer: &mut Timer) -> Result<(), Error> {
        let Self::Gated(gated) = self else { return Ok(()) };
        poll_fn(|cx| {
            let before = gated.held();
            let opened = gated.poll_open(cx);
            // A first message that takes its time is no idle stream.
            if gated.held() != before {
                timer.touch();
            }
            match opened {
                Poll::Ready(opened) => Poll::Ready(opened),
                Poll::Pending => timer.poll(cx).map(Err),
            }
        })
        .await
    }

    /// Without a gate.
    fn inner(&self) -> &Self {
        match self {
            Self::Gated(gated) => gated.source(),
            other => other,
        }
    }

    pub(super) fn is_end(&self) -> bool {
        match self {
            // The values are over when the body says so, which it is asked for then.
            Self::Frame(_) | Self::Values(_) | Self::Upload(_) | Self::Parts(_) => false,
            Self::Socket(messages) => messages.is_over(),
            Self::Stream(frames) => frames.is_end(),
            Self::Recoded(recode) => recode.is_end(),
            Self::Gated(gated) => gated.is_end(),
            Self::End => true,
        }
    }
}

impl Replay {
    fn keep(&mut self, chunk: &Bytes, limit: usize) {
        match self {
            Self::Kept { chunks, bytes } if *bytes + chunk.len() <= limit && chunks.len() < REPLAY_CHUNKS => {
                *bytes += chunk.len();
                chunks.push(chunk.clone());
            }
            Self::Kept { .. } | Self::Again { .. } => *self = Self::Gone,
            Self::Gone => {}
        }
    }

    fn next(&mut self) -> Option<Bytes> {
        let Self::Again { chunks, kept, bytes } = self else { return None };
        match chunks.next() {
            Some(chunk) => {
                kept.push(chunk.clone());
                Some(chunk)
            }
            None => {
                *self = Self::Kept { chunks: std::mem::take(kept), bytes: *bytes };
                None
            }
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Kept { .. } | Self::Gone => true,
            Self::Again { chunks, .. } => chunks.len() == 0,
        }
    }
}
