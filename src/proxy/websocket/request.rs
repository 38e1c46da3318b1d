//! A client's messages on their way upstream: each frame of the WebSocket becomes one of gRPC.
//!
//! What path, query and bound headers set holds for every message. A text frame is read as a JSON body of the binding is; a
//! binary frame is the whole request message, over which they are set.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::request;

use super::socket::{Kind, Received, Socket};
use crate::config::Json;
use crate::error::{Error, Reason};
use crate::grpc::frame;
use crate::proxy::bound::Bound;
use crate::proxy::call::Call;
use crate::proxy::pump::no_message;
use crate::proxy::transcoder::{Transcoder, framed, invalid};
use crate::transcode::Input;

/// The messages of a WebSocket as frames of gRPC.
#[derive(Debug)]
pub(crate) struct MessageFrames {
    socket: Rc<RefCell<Socket>>,
    /// The binding's own.
    plan: Transcoder,
    /// For the JSON of a binding that takes no body: path and query are set over the whole message.
    whole: Option<Transcoder>,
    /// What is set in every message.
    bound: Bound,
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
        method: usize,
        plan: &Transcoder,
        captures: &[Cow<'_, str>],
        parts: &request::Parts,
        socket: Rc<RefCell<Socket>>,
    ) -> Result<Self, Error> {
        let whole = Transcoder::of_method(&call.prepared, method);
        let method = &call.prepared.snapshot.methods[method];
        if plan.request.takes_http_body() {
            let message = format!("{} takes raw bodies; they cannot be sent over a WebSocket", method.name);
            return Err(Error::new(Reason::MethodUnsupported, message));
        }
        let settings = call.settings();
        Ok(Self {
            socket,
            plan: plan.clone(),
            whole: Some(whole).filter(|_| !plan.request.takes_body()),
            bound: Bound::of(&plan.request, captures, parts),
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
        let bytes = &*received.bytes;
        let mut message = frame::open(bytes.len() + 64);
        let (plan, bound) = (&self.plan.request, self.bound.input());
        let encoded = match (received.kind, &self.whole) {
            (Kind::Text, None) => plan.encode(&Input { body: bytes, ..bound }, self.json, &mut message),
            (Kind::Text, Some(whole)) => {
                let mut text = BytesMut::new();
                whole
                    .request
                    .encode(&Input { body: bytes, ..Input::default() }, self.json, &mut text)
                    .and_then(|()| plan.encode_over(&text, &bound, self.json, &mut message))
            }
            (Kind::Binary, _) if self.bound.is_empty() => {
                message.put_slice(bytes);
                Ok(())
            }
            (Kind::Binary, _) => plan.encode_over(bytes, &bound, self.json, &mut message),
        };
        encoded.map_err(|error| invalid(&error))?;
        framed(message, self.limit)
    }
}
