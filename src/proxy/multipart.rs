//! REST, `multipart/form-data`: the parts of a form become fields, whole for a unary call and as they come for a stream.
//!
//! In a stream the parts that have room in one message go into one. A file is cut: its first piece goes with the parts
//! before it, the next pieces have messages of their own, which hold nothing else. What path, query and bound headers set
//! is in all the other messages, so that no part of any can say otherwise. **Invariant**: beside the piece of the body that came last no more than one message is
//! kept, and the client's window opens only when that piece is used up.

use std::borrow::Cow;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderMap, request};

use super::bound::Bound;
use super::call::Call;
use super::coding::{self, Content};
use super::forward::Outgoing;
use super::pump::Source;
use super::rest;
use super::transcoder::{Transcoder, invalid};
use super::upload::PIECE;
use crate::body::RequestBody;
use crate::config::Json;
use crate::error::{Error, Reason};
use crate::multipart::{self, Event, Head, MultipartError, Reader};
use crate::transcode::{Input, Part, Place};

/// Parts of one message; more are refused.
const MAX_PARTS: usize = 1000;

/// Whether a request says that its body is a form of parts.
pub(super) fn is_form(headers: &HeaderMap) -> bool {
    rest::media_type(headers).is_some_and(|media| multipart::boundary(media).is_some())
}

/// The boundary that a content type gives, `None` if it is not that of a form of parts.
///
/// # Errors
/// It should give one and does not.
pub(super) fn boundary(media: &str) -> Result<Option<String>, Error> {
    multipart::boundary(media).transpose().map_err(|error| malformed(&error))
}

/// The parts of a whole body.
///
/// # Errors
/// It is no form, or has more than [`MAX_PARTS`].
pub(super) fn parts(boundary: &str, content: Bytes) -> Result<Vec<Part>, Error> {
    let mut reader = Reader::new(boundary);
    reader.push(content);
    let mut parts: Vec<Part> = Vec::new();
    while let Some(event) = reader.take().map_err(|error| malformed(&error))? {
        match event {
            Event::Part(_) if parts.len() == MAX_PARTS => return Err(too_many()),
            Event::Part(head) => parts.push(part(head)),
            // All of it, as all of the body is here.
            Event::Data(data) => {
                if let Some(part) = parts.last_mut() {
                    part.data = data;
                }
            }
            Event::End => {}
        }
    }
    reader.finish().map_err(|error| malformed(&error))?;
    Ok(parts)
}

/// Makes the call upstream out of a form whose method takes a stream. Nothing of the body is read here.
///
/// # Errors
/// The content type has no boundary, the body's encoding is not known, or a header cannot be passed on.
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
    let boundary = boundary(rest::media_type(&parts.headers).unwrap_or_default())?.unwrap_or_default();
    let frames = PartFrames {
        content: Content::new(body, coding::of(&parts.headers)?),
        reader: Reader::new(&boundary),
        current: None,
        piece: Bytes::new(),
        parts: Vec::new(),
        places: Vec::new(),
        size: 0,
        // Half of a small limit is left for what else is in the message.
        most: PIECE.min(limit / 2).max(1),
        bound: Bound::of(&plan.request, captures, parts),
        has_begun: false,
        is_over: false,
        plan: plan.clone(),
        json: settings.json,
        limit,
    };
    Ok(Outgoing { path, headers, body: Source::Parts(Box::new(frames)) })
}

/// The parts of a form as frames of gRPC.
#[derive(Debug)]
pub(crate) struct PartFrames {
    content: Content,
    reader: Reader,
    /// The part that is being read.
    current: Option<Current>,
    /// Of its content, if that is cut: not yet sent on.
    piece: Bytes,
    /// Parts that wait for others to go with.
    parts: Vec<Part>,
    /// Where they go, each place once.
    places: Vec<Place>,
    /// Their bytes, and those of the current part.
    size: usize,
    /// Bytes of a piece.
    most: usize,
    bound: Bound,
    /// Whether a message was made.
    has_begun: bool,
    is_over: bool,
    plan: Transcoder,
    json: Json,
    limit: usize,
}

/// A part of which more may come.
#[derive(Debug)]
struct Current {
    /// Without its data.
    part: Part,
    place: Place,
    /// All so far, if it is not cut.
    data: BytesMut,
    /// Whether a piece of it is on its way.
    is_cut: bool,
}

impl PartFrames {
    /// The frame of the next message, `None` at the end.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            if !self.piece.is_empty() {
                return Poll::Ready(Some(self.cut()));
            }
            let frame = match self.reader.take().map_err(|error| malformed(&error))? {
                Some(Event::Part(head)) => self.begin(head)?,
                Some(Event::Data(data)) => {
                    self.add(data)?;
                    None
                }
                Some(Event::End) => {
                    self.end();
                    None
                }
                None if self.is_over => return Poll::Ready(None),
                None => match ready!(self.content.poll_piece(cx)).transpose()? {
                    Some(piece) => {
                        self.reader.push(piece);
                        None
                    }
                    None => {
                        self.reader.finish().map_err(|error| malformed(&error))?;
                        self.is_over = true;
                        let is_due = !self.parts.is_empty() || !self.has_begun;
                        is_due.then(|| self.flush(None, false)).transpose()?
                    }
                },
            };
            if let Some(frame) = frame {
                return Poll::Ready(Some(Ok(frame)));
            }
        }
    }

    /// Bytes of the body that were read.
    pub(super) fn bytes(&self) -> u64 {
        self.content.bytes()
    }

    /// A part begins. If there is no room for it in the message, that is complete.
    fn begin(&mut self, head: Head) -> Result<Option<Bytes>, Error> {
        let part = part(head);
        let place = self.plan.request.place(&part, self.json).map_err(|error| invalid(&error))?;
        let has_room = self.places.iter().all(|other| self.plan.request.go_together(other, &place));
        if has_room && self.parts.len() == MAX_PARTS {
            return Err(too_many());
        }
        let frame = if has_room { None } else { Some(self.flush(None, false)?) };
        self.size += part.name.len();
        self.current = Some(Current { part, place, data: BytesMut::new(), is_cut: false });
        Ok(frame)
    }

    fn add(&mut self, data: Bytes) -> Result<(), Error> {
        let Some(current) = &mut self.current else { return Ok(()) };
        if current.place.is_content() {
            self.piece = data;
            return Ok(());
        }
        self.size += data.len();
        if self.size > self.limit {
            let message =
                format!("part {:?}: request message exceeds the limit of {} bytes", current.part.name, self.limit);
            return Err(Error::new(Reason::RequestTooLarge, message));
        }
        current.data.extend_from_slice(&data);
        Ok(())
    }

    /// The part is whole. What was cut is gone by now; content that is empty is a part like others.
    fn end(&mut self) {
        let Some(Current { mut part, place, data, is_cut }) = self.current.take() else { return };
        if !is_cut {
            part.data = data.freeze();
            self.parts.push(part);
            if !self.places.contains(&place) {
                self.places.push(place);
            }
        }
    }

    /// The message of the next piece of content.
    fn cut(&mut self) -> Result<Bytes, Error> {
        let data = self.piece.split_to(self.piece.len().min(self.most));
        let Some(current) = &mut self.current else { return Err(malformed(&MultipartError::NoStart)) };
        let part = Part { data, ..current.part.clone() };
        let goes_on = std::mem::replace(&mut current.is_cut, true);
        if !goes_on {
            // What it is stands in front of it, once.
            current.part.is_file = true;
            current.part.content_type = None;
        }
        self.flush(Some(part), goes_on)
    }

    /// The frame of the message so far, with this part as its last, which may be nothing but more of a file.
    fn flush(&mut self, last: Option<Part>, goes_on: bool) -> Result<Bytes, Error> {
        let mut parts = std::mem::take(&mut self.parts);
        parts.extend(last);
        self.places.clear();
        self.has_begun = true;
        let input = if goes_on { Input::default() } else { self.bound.input() };
        self.size = 0;
        self.plan.frame(&Input { parts: &parts, form: true, ..input }, self.json, self.limit)
    }
}

/// A part without its data.
fn part(head: Head) -> Part {
    let Head { name, is_file, content_type } = head;
    Part { name, is_file, content_type, data: Bytes::new() }
}

fn malformed(error: &MultipartError) -> Error {
    Error::invalid("", error.to_string())
}

fn too_many() -> Error {
    Error::invalid("", format!("more than {MAX_PARTS} parts"))
}
