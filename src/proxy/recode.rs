//! Requests whose messages stand in frames that the upstream would not take as they are: in base64, in JSON, or
//! compressed in a way that it has not shown to know.
//!
//! [`Recode`] makes gRPC frames of them, one message at a time. It opens the client's window itself, by what it has read
//! when the upstream took what was made of it.

use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, Bytes, BytesMut};

use super::pump::{no_message, request_frame_error, too_many_messages};
use super::transcoder::Transcoder;
use super::unary::too_large;
use crate::body::RequestBody;
use crate::config::Json;
use crate::encoding::{self, Encoding, InflateError};
use crate::error::{Error, Reason};
use crate::grpc::frame;
use crate::grpc::messages::{Message, Messages};
use crate::grpc::text::{NotBase64, TextReader};
use crate::transcode::Input;

/// A client's messages on their way into gRPC frames.
#[derive(Debug)]
pub(crate) struct Recode {
    body: RequestBody,
    /// Reads base64, if that is what the body is.
    text: Option<TextReader>,
    messages: Messages,
    reader: Reader,
    /// Whether exactly one message is due.
    unary: bool,
    count: u64,
    /// Bytes read for which the client's window is still closed.
    owed: usize,
    /// Bytes read in all.
    read: u64,
    ended: bool,
}

/// What one message is written in.
#[derive(Debug)]
pub(crate) struct Reader {
    /// How compressed messages are; `None`: there are none.
    pub(crate) encoding: Option<Encoding>,
    /// Whether they pass compressed.
    pub(crate) passes: bool,
    /// For messages in JSON.
    pub(crate) plan: Option<(Transcoder, Json)>,
    /// Of one message in bytes, in every form that it has here.
    pub(crate) limit: usize,
}

impl Recode {
    pub(crate) fn new(body: RequestBody, text: bool, reader: Reader, unary: bool) -> Self {
        let messages = Messages::new(reader.limit);
        let text = text.then(TextReader::default);
        Self { body, text, messages, reader, unary, count: 0, owed: 0, read: 0, ended: false }
    }

    /// The next frame, `None` at the end.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            match self.messages.take().map_err(request_frame_error) {
                Ok(Some(message)) => return Poll::Ready(Some(self.write(message))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            if self.ended {
                return Poll::Ready(self.check_end().err().map(Err));
            }
            self.body.release(std::mem::take(&mut self.owed));
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(data)) => {
                    self.owed = data.len();
                    self.read += data.len() as u64;
                    match &mut self.text {
                        Some(text) => self.messages.push(text.read(&data).map_err(not_base64)?),
                        None => self.messages.push(data),
                    }
                }
                Some(Err(broken)) => return Poll::Ready(Some(Err(broken.into()))),
                None => {
                    self.ended = true;
                    if let Some(text) = &mut self.text {
                        self.messages.push(text.finish().map_err(not_base64)?);
                    }
                }
            }
        }
    }

    /// Bytes of the request's body that were read.
    pub(crate) fn bytes(&self) -> u64 {
        self.read
    }

    /// Whether the end is known already, and is where it may be.
    pub(crate) fn is_end(&self) -> bool {
        self.text.is_none() && self.body.is_end() && self.check_end().is_ok()
    }

    fn write(&mut self, message: Message) -> Result<Bytes, Error> {
        self.count += 1;
        if self.unary && self.count > 1 {
            return Err(too_many_messages());
        }
        self.reader.frame(message)
    }

    fn check_end(&self) -> Result<(), Error> {
        self.messages.finish().map_err(request_frame_error)?;
        if self.unary && self.count == 0 { Err(no_message()) } else { Ok(()) }
    }
}

impl Reader {
    /// The gRPC frame of one message.
    ///
    /// # Errors
    /// It is larger than allowed, or not what the client says that it is.
    pub(crate) fn frame(&self, message: Message) -> Result<Bytes, Error> {
        let Message { compressed, bytes } = message;
        if compressed && self.passes && self.encoding.is_some() {
            return self.finish(1, start(&bytes));
        }
        let bytes = if compressed { self.inflate(&bytes)? } else { bytes };
        let Some((plan, json)) = &self.plan else { return self.finish(0, start(&bytes)) };
        plan.frame(&Input { body: &bytes, ..Input::default() }, *json, self.limit)
    }

    fn inflate(&self, bytes: &[u8]) -> Result<Bytes, Error> {
        let encoding = self.encoding.ok_or_else(|| {
            Error::new(Reason::InvalidFrame, "a request message is compressed although no encoding was announced")
        })?;
        encoding::inflated(encoding, bytes, self.limit).map_err(|error| match error {
            InflateError::TooLarge { .. } => {
                let message =
                    format!("request message exceeds the limit of {} bytes once it is decompressed", self.limit);
                Error::new(Reason::RequestTooLarge, message)
            }
            InflateError::Malformed(_) | InflateError::Truncated(_) => {
                Error::new(Reason::InvalidRequest, format!("request message: {error}"))
            }
        })
    }

    /// Writes the prefix, for which there is room.
    fn finish(&self, flags: u8, frame: BytesMut) -> Result<Bytes, Error> {
        frame::close(frame, flags, self.limit).ok_or_else(|| too_large(self.limit))
    }
}

/// Room for a prefix, then the message.
fn start(bytes: &[u8]) -> BytesMut {
    let mut frame = frame::open(bytes.len());
    frame.put_slice(bytes);
    frame
}

fn not_base64(error: NotBase64) -> Error {
    Error::new(Reason::InvalidFrame, error.to_string())
}
