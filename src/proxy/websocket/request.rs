//! A client's messages on their way upstream: each frame of the WebSocket becomes one of gRPC.
//!
//! What path and query set holds for every message. A text frame is read as a JSON body of the binding is; a binary frame
//! is the whole request message, over which path and query are then set, as protobuf merges what is written twice.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::Uri;

use super::socket::{Kind, Received, Socket};
use crate::config::Json;
use crate::error::{Error, Reason};
use crate::grpc::frame;
use crate::proxy::call::Call;
use crate::proxy::pump::no_message;
use crate::proxy::resolve;
use crate::proxy::rest::too_large;
use crate::snapshot::{Method, Transcoding};
use crate::transcode::{Input, RequestPlan};

/// The messages of a WebSocket as frames of gRPC.
#[derive(Debug)]
pub(crate) struct MessageFrames {
    socket: Rc<RefCell<Socket>>,
    /// The binding's own.
    plan: RequestPlan,
    /// For the JSON of a binding that takes no body: path and query are set over the whole message.
    whole: Option<RequestPlan>,
    captures: Box<[Cow<'static, str>]>,
    uri: Uri,
    json: Json,
    limit: usize,
    /// Whether exactly one message is due.
    single: bool,
    /// Messages taken.
    count: u64,
    is_over: bool,
}

impl MessageFrames {
    /// # Errors
    /// The method takes raw bodies, which are no messages.
    pub(super) fn new(
        call: &Call,
        method: &Method,
        plan: &Transcoding,
        captures: &[Cow<'_, str>],
        uri: &Uri,
        socket: Rc<RefCell<Socket>>,
    ) -> Result<Self, Error> {
        if plan.request.takes_http_body() {
            let message = format!("{} takes raw bodies; they cannot be sent over a WebSocket", method.name);
            return Err(Error::new(Reason::MethodUnsupported, message));
        }
        let settings = call.settings();
        Ok(Self {
            socket,
            plan: plan.request.clone(),
            whole: (!plan.request.takes_body()).then(|| method.direct.request.clone()),
            captures: resolve::owned(captures),
            uri: uri.clone(),
            json: settings.json,
            limit: settings.max_request_message,
            single: !method.client_streaming,
            count: 0,
            is_over: false,
        })
    }

    /// The frame of the next message, `None` at the end.
    pub(in crate::proxy) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let received = ready!(self.socket.borrow_mut().poll_message(cx));
        let Some(received) = received else {
            // How it ended is known to the socket, and told by the reply.
            return Poll::Ready(Some(Err(Error::new(Reason::ClientGone, "the client closed the WebSocket"))));
        };
        let half_close = received.is_half_close();
        if half_close || self.single {
            self.is_over = true;
            self.socket.borrow_mut().expect_no_message();
        }
        if half_close {
            return Poll::Ready(self.single.then(|| Err(no_message())));
        }
        self.count += 1;
        let number = self.count;
        let frame = self.frame(&received);
        Poll::Ready(Some(if self.single { frame } else { frame.map_err(|error| error.in_message(number)) }))
    }

    /// Whether the last message was taken.
    pub(in crate::proxy) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Bytes that came from the client, frames included.
    pub(in crate::proxy) fn bytes(&self) -> u64 {
        self.socket.borrow().bytes()
    }

    fn frame(&self, received: &Received) -> Result<Bytes, Error> {
        let mut message = frame::open(received.bytes.len() + 64);
        match (received.kind, &self.whole) {
            (Kind::Text, None) => {
                self.encode(&self.plan, &self.captures, self.uri.query(), &received.bytes, &mut message)?
            }
            (Kind::Text, Some(whole)) => {
                self.encode(whole, &[], None, &received.bytes, &mut message)?;
                self.bind(&mut message)?;
            }
            (Kind::Binary, _) => {
                message.put_slice(&received.bytes);
                self.bind(&mut message)?;
            }
        }
        frame::close(message, 0, self.limit).ok_or_else(|| too_large(self.limit))
    }

    /// Sets what path and query say over the message before.
    fn bind(&self, message: &mut BytesMut) -> Result<(), Error> {
        if self.captures.is_empty() && self.uri.query().is_none_or(str::is_empty) {
            return Ok(());
        }
        self.encode(&self.plan, &self.captures, self.uri.query(), &[], message)
    }

    fn encode(
        &self,
        plan: &RequestPlan,
        captures: &[Cow<'_, str>],
        query: Option<&str>,
        body: &[u8],
        message: &mut BytesMut,
    ) -> Result<(), Error> {
        let input = Input { captures, query, body, ..Input::default() };
        plan.encode(&input, self.json, message).map_err(|error| Error::invalid(error.field.clone(), error.describe()))
    }
}
