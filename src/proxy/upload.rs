//! REST, client streaming of `google.api.HttpBody`: a body of any type, cut into messages as it comes.
//!
//! The first message has what path, query and bound headers set, and the content type; those behind it have data alone.
//! There is always a first one, also for an empty body. **Invariant**: beside the piece of the body that came last no more
//! than one message of [`PIECE`] bytes is kept, and the client's window opens only when that piece is used up.

use std::borrow::Cow;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::request;
use http::uri::PathAndQuery;

use super::bound::Bound;
use super::call::Call;
use super::coding::{self, Content};
use super::forward::Outgoing;
use super::pump::Source;
use super::rest;
use super::transcoder::Transcoder;
use crate::body::RequestBody;
use crate::config::Json;
use crate::error::Error;
use crate::transcode::Input;

/// Data of one message.
pub(super) const PIECE: usize = 64 << 10;

/// Makes the call upstream out of a REST request whose body is sent on as it is. Nothing of the body is read here.
///
/// # Errors
/// The body's encoding is not known, or a header cannot be passed on.
pub(crate) fn adapt_in(
    call: &Call,
    path: PathAndQuery,
    plan: &Transcoder,
    captures: &[Cow<'_, str>],
    parts: &request::Parts,
    body: RequestBody,
) -> Result<Outgoing, Error> {
    let headers = rest::metadata(call, parts)?;
    let settings = call.settings();
    let limit = settings.max_request_message;
    let upload = UploadFrames {
        content: Content::new(body, coding::of(&parts.headers)?),
        piece: Bytes::new(),
        // Half of a small limit is left for what else is in the message.
        most: PIECE.min(limit / 2).max(1),
        first: Some(Bound::of(&plan.request, captures, parts)),
        content_type: rest::media_type(&parts.headers).map(str::to_owned),
        plan: plan.clone(),
        json: settings.json,
        limit,
    };
    Ok(Outgoing { path, headers, body: Source::Upload(Box::new(upload)) })
}

/// A body on its way upstream, as frames of gRPC.
#[derive(Debug)]
pub(crate) struct UploadFrames {
    content: Content,
    /// Read, not yet sent on.
    piece: Bytes,
    /// Data of one message, in bytes.
    most: usize,
    /// Gone when the first message is made.
    first: Option<Bound>,
    content_type: Option<String>,
    plan: Transcoder,
    json: Json,
    limit: usize,
}

impl UploadFrames {
    /// The frame of the next message, `None` at the end.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        if self.piece.is_empty() {
            match ready!(self.content.poll_piece(cx)) {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None if self.first.is_none() => return Poll::Ready(None),
                None => {}
            }
        }
        let data = self.piece.split_to(self.piece.len().min(self.most));
        Poll::Ready(Some(self.frame(&data)))
    }

    /// Bytes of the body that were read.
    pub(super) fn bytes(&self) -> u64 {
        self.content.bytes()
    }

    fn frame(&mut self, data: &[u8]) -> Result<Bytes, Error> {
        let first = self.first.take();
        let input = match &first {
            Some(first) => Input { body: data, content_type: self.content_type.as_deref(), ..first.input() },
            None => Input { body: data, ..Input::default() },
        };
        self.plan.frame(&input, self.json, self.limit)
    }
}
