//! A call on its way back to the client of a WebSocket, from the handshake to the last close frame.
//!
//! ```text
//!           upstream's head         end, failure                client's close frame, CLOSE_TIMEOUT
//! Sending ───────────────▶ Running ──────────────▶ Closing ───────────────────────────────────────▶ Over
//!    └───────────────────────┴── client's close frame, or it is gone ──────────────────────────────▶
//! ```
//!
//! Invariants: the upstream's stream lives in `Sending` and `Running` only, so that leaving them resets it; frames that
//! were begun are always sent whole, unless the client is gone.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::time::{Sleep, sleep};

use super::socket::{Inbound, Kind, Socket};
use crate::body::Part;
use crate::encoding::Encoding;
use crate::error::{Error, Reason};
use crate::grpc::messages::{Message, Messages};
use crate::proxy::body::Abort;
use crate::proxy::call::Call;
use crate::proxy::exchange::{Exchange, reply_frame_error};
use crate::proxy::forward::{self, Incoming, Trail};
use crate::proxy::pump::too_many_messages;
use crate::proxy::transcoder::Transcoder;
use crate::proxy::unary::too_large;
use crate::proxy::{negotiate, reply, rest};

/// For the client to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages that are ready together are sent together, up to so many bytes.
const JOINED: usize = 16 << 10;
/// Close codes of failures: this and the code of gRPC. RFC 6455 §7.4.2 leaves 4000 to 4999 to applications.
const FAILED: u16 = 4000;
/// Close codes of RFC 6455 §7.4.1.
const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;

/// A call being sent, until its reply begins.
pub(super) type Sending = Pin<Box<dyn Future<Output = (Trail, Result<Incoming, Error>)>>>;

/// The reply of a WebSocket, as bytes.
pub(crate) struct SocketBody {
    socket: Rc<RefCell<Socket>>,
    stage: Stage,
    messages: Messages,
    /// How the upstream compresses them, as far as that is known.
    encoding: Option<Encoding>,
    plan: Transcoder,
    call: Box<Call>,
}

enum Stage {
    Sending(Sending),
    Running(Box<Exchange>),
    Closing(Pin<Box<Sleep>>),
    /// With what happened to a client that did not close.
    Over(Option<Abort>),
}

impl SocketBody {
    pub(super) fn new(socket: Rc<RefCell<Socket>>, sending: Sending, plan: Transcoder, call: Box<Call>) -> Self {
        let messages = Messages::new(call.settings().max_response_message);
        Self { socket, stage: Stage::Sending(sending), messages, encoding: None, plan, call }
    }

    pub(crate) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Abort>>> {
        loop {
            if matches!(self.stage, Stage::Sending(_) | Stage::Running(_)) {
                // Notes that the client is gone; the next step sees it.
                let _noted = self.socket.borrow_mut().poll_ping(cx);
            }
            let stepped = self.poll_step(cx);
            let output = self.socket.borrow_mut().take_output();
            if !output.is_empty() {
                self.call.response_bytes += output.len() as u64;
                return Poll::Ready(Some(Ok(Part::Data(output))));
            }
            if let Stage::Over(end) = &mut self.stage {
                return Poll::Ready(end.take().map(Err));
            }
            ready!(stepped);
        }
    }

    /// See [`ReplyBody::poll_aside`](super::super::body::ReplyBody::poll_aside). The client is not reading: what it is told
    /// waits, but its leaving and the call's failing have their effect upstream at once.
    pub(crate) fn poll_aside(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.borrow_mut().forgive_silence();
        loop {
            match &self.stage {
                Stage::Over(Some(_)) => {
                    self.socket.borrow_mut().take_output();
                    return Poll::Ready(());
                }
                Stage::Over(None) => return Poll::Pending,
                Stage::Sending(_) | Stage::Running(_) | Stage::Closing(_) => {}
            }
            if self.poll_heard(cx).is_ready() {
                continue;
            }
            self.step_aside(cx);
            // As in `poll_step`.
            if self.poll_heard(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Moves the call without writing any of its messages.
    fn step_aside(&mut self, cx: &mut Context<'_>) {
        let failed = match &mut self.stage {
            Stage::Running(exchange) => exchange.poll_aside(cx, &mut self.call.trail).is_ready(),
            Stage::Sending(_) => {
                let _sent = self.poll_sending(cx);
                false
            }
            Stage::Closing(_) | Stage::Over(_) => false,
        };
        if failed
            && let Stage::Running(exchange) = &mut self.stage
            && let Poll::Ready(Err(error)) = exchange.poll(cx, &mut self.call.trail)
        {
            self.fail(&error);
        }
    }

    /// The last words before the connection is cut.
    pub(crate) fn farewell(&mut self) -> Bytes {
        let mut socket = self.socket.borrow_mut();
        if matches!(self.stage, Stage::Sending(_) | Stage::Running(_)) {
            let error = Error::new(Reason::ShutDown, "the gateway is shutting down");
            socket.close(GOING_AWAY, error.message());
            self.call.failed(&error);
        }
        socket.take_output()
    }

    /// Makes something of what has come from either side; ready when something changed.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_heard(cx).is_ready() {
            return Poll::Ready(());
        }
        let stepped = match &mut self.stage {
            Stage::Sending(_) => self.poll_sending(cx),
            Stage::Running(_) => self.poll_running(cx),
            Stage::Closing(timeout) => {
                let timed_out = timeout.as_mut().poll(cx);
                if timed_out.is_ready() {
                    self.stage = Stage::Over(None);
                }
                timed_out
            }
            Stage::Over(_) => Poll::Ready(()),
        };
        // The call may have taken the message that waited; whatever comes behind it has to wake us too.
        if stepped.is_pending() { self.poll_heard(cx) } else { stepped }
    }

    /// What the client says, but for the messages that the call takes. Ready when something changed.
    fn poll_heard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if matches!(self.stage, Stage::Over(_)) {
            return Poll::Pending;
        }
        let mut socket = self.socket.borrow_mut();
        ready!(socket.poll_receive(cx));
        let is_closing = matches!(self.stage, Stage::Closing(_));
        let inbound = socket.inbound().clone();
        if is_closing && inbound != Inbound::Open {
            self.stage = Stage::Over(None);
            return Poll::Ready(());
        }
        match inbound {
            Inbound::Open if is_closing => drop(socket.poll_message(cx)),
            Inbound::Open if socket.expects_message() => return Poll::Pending,
            Inbound::Open => {
                let received = socket.poll_message(cx);
                let extra = matches!(received, Poll::Ready(Some(received)) if !received.is_half_close());
                drop(socket);
                if extra {
                    self.fail(&self.one_too_many());
                }
            }
            Inbound::Closed | Inbound::Gone | Inbound::TooLarge | Inbound::Broken(..) => {
                drop(socket);
                self.ended_by_client();
            }
        }
        Poll::Ready(())
    }

    fn one_too_many(&self) -> Error {
        if self.call.method().is_some_and(|method| method.client_streaming) {
            return Error::new(Reason::InvalidFrame, "a message came after the empty frame that ends the request");
        }
        too_many_messages()
    }

    fn poll_sending(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Stage::Sending(sending) = &mut self.stage else { return Poll::Pending };
        let (trail, sent) = ready!(sending.as_mut().poll(cx));
        self.call.trail = trail;
        match sent {
            Ok(incoming) => {
                let is_over = forward::is_trailers_only(&incoming.head, &incoming.body);
                let unary = self.call.method().is_some_and(|method| !method.server_streaming);
                let (exchange, head) = Exchange::new(incoming, self.call.settings().max_response_message, unary);
                if is_over {
                    let ended = exchange.end(&head.headers);
                    self.end(ended);
                } else {
                    self.encoding = negotiate::sent(&head.headers);
                    self.stage = Stage::Running(Box::new(exchange));
                }
            }
            Err(error) => self.fail(&error),
        }
        Poll::Ready(())
    }

    fn poll_running(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.socket.borrow().unsent() >= JOINED {
                // Answers to pings alone; the messages of the last piece must be written before the next.
                return Poll::Ready(());
            }
            match self.write_messages() {
                Ok(true) => return Poll::Ready(()),
                Ok(false) => {}
                Err(error) => {
                    self.fail(&error);
                    return Poll::Ready(());
                }
            }
            let Stage::Running(exchange) = &mut self.stage else { return Poll::Ready(()) };
            match ready!(exchange.poll(cx, &mut self.call.trail)) {
                Ok(Part::Data(data)) => self.messages.push(data),
                Ok(Part::Trailers(trailers)) => {
                    let ended = exchange.end(&trailers);
                    self.end(ended);
                    return Poll::Ready(());
                }
                Err(error) => {
                    self.fail(&error);
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Writes the messages that are here whole. Whether there was one.
    fn write_messages(&mut self) -> Result<bool, Error> {
        let mut wrote = false;
        while self.socket.borrow().unsent() < JOINED {
            let Some(message) = self.messages.take().map_err(reply_frame_error)? else { break };
            self.write(&message)?;
            wrote = true;
        }
        Ok(wrote)
    }

    fn write(&self, message: &Message) -> Result<(), Error> {
        let settings = self.call.settings();
        let upstream = self.call.upstream_name();
        let plain = negotiate::plain(upstream, self.encoding, message, settings.max_response_message)?;
        let mut socket = self.socket.borrow_mut();
        match socket.kind() {
            Kind::Binary => socket.send(Kind::Binary, plain),
            Kind::Text => {
                let mut json = BytesMut::with_capacity(plain.len() * 2 + 64);
                self.plan
                    .reply
                    .decode(&plain, settings.json, settings.max_response_message, &mut json)
                    .map_err(|error| rest::transcode_error(&self.call, &error))?;
                socket.send(Kind::Text, json.freeze());
            }
        }
        Ok(())
    }

    fn end(&mut self, ended: Result<(), Error>) {
        match ended {
            Ok(()) => {
                self.call.complete();
                self.socket.borrow_mut().close(NORMAL, "");
                self.stage = Stage::Closing(Box::pin(sleep(CLOSE_TIMEOUT)));
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Ends the call with an error, which the client is told in a text frame and by the close frame.
    fn fail(&mut self, error: &Error) {
        if error.reason() == Reason::ClientGone {
            // What the call saw of the client's end; the socket knows how it came.
            return self.ended_by_client();
        }
        self.stage = Stage::Closing(Box::pin(sleep(CLOSE_TIMEOUT)));
        self.call.failed(error);
        self.call.complete();
        let status = reply::status_json(&self.call, error);
        let mut text = BytesMut::with_capacity(status.len() + 16);
        text.put_slice(b"{\"error\":");
        text.put_slice(&status);
        text.put_u8(b'}');
        let code = u16::try_from(error.number()).unwrap_or(u16::MAX).min(999);
        let mut socket = self.socket.borrow_mut();
        socket.send(Kind::Text, text.freeze());
        socket.close(FAILED + code, error.message());
    }

    /// The call ended because the client says no more.
    fn ended_by_client(&mut self) {
        let inbound = self.socket.borrow().inbound().clone();
        match inbound {
            Inbound::TooLarge => {
                let error = too_large(self.call.settings().max_request_message);
                self.fail(&error);
            }
            Inbound::Broken(code, problem) => {
                self.call.failed(&Error::new(Reason::InvalidFrame, problem.clone()));
                self.socket.borrow_mut().close(code, &problem);
                self.stage = Stage::Over(None);
            }
            // The call is not complete: it counts as cancelled by the client.
            Inbound::Closed => self.stage = Stage::Over(None),
            Inbound::Open | Inbound::Gone => self.stage = Stage::Over(Some(Abort(h2::Reason::CANCEL))),
        }
    }
}

impl fmt::Debug for SocketBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketBody").field("call", &self.call).finish_non_exhaustive()
    }
}
