//! One call of the gateway's own to an upstream, such as `ServerReflectionInfo`: questions out, answers back in the same
//! order.
//!
//! Frames are the five-byte ones of gRPC. None are asked for in an encoding; some servers compress all that they send all
//! the same.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, StatusCode, Uri, Version, header};
use prost::Message;

use super::{Error, Origin, printable};
use crate::encoding::{self, Encoding, InflateError};
use crate::grpc;
use crate::pb::grpc::reflection::v1::server_reflection_request::MessageRequest;
use crate::pb::grpc::reflection::v1::server_reflection_response::MessageResponse;
use crate::pb::grpc::reflection::v1::{ServerReflectionRequest, ServerReflectionResponse};

/// Largest reply, in bytes; some servers send a file with all its imports at once.
const MAX_MESSAGE: usize = 32 << 20;
/// Bytes taken from one call. Servers repeat shared imports with every answer, so this is far above what is kept.
const MAX_RECEIVED: usize = 1 << 30;
/// gRPC status of a method that is not there.
const UNIMPLEMENTED: u32 = 12;

#[derive(Debug)]
pub(in crate::upstream) struct Exchange {
    questions: SendStream<Bytes>,
    /// Until the reply's head is there.
    head: Option<ResponseFuture>,
    body: Option<RecvStream>,
    /// How the server compresses its messages, as far as that is known here.
    encoding: Option<Encoding>,
    buffer: BytesMut,
    received: usize,
    answered: usize,
}

impl Exchange {
    pub(in crate::upstream) async fn open(
        sender: SendRequest<Bytes>,
        origin: &Origin,
        path: &'static str,
    ) -> Result<Self, Error> {
        let Origin { scheme, authority } = origin;
        let uri = Uri::builder().scheme(scheme.clone()).authority(authority.clone()).path_and_query(path).build();
        let request = Request::builder()
            .method(Method::POST)
            .uri(uri.unwrap_or_default())
            .version(Version::HTTP_2)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::USER_AGENT, concat!("portico/", env!("CARGO_PKG_VERSION")))
            .body(())
            .map_err(|_| Error::Authority(authority.to_string()))?;
        let (head, questions) = sender.ready().await?.send_request(request, false)?;
        Ok(Self {
            questions,
            head: Some(head),
            body: None,
            encoding: None,
            buffer: BytesMut::new(),
            received: 0,
            answered: 0,
        })
    }

    /// Answers so far.
    pub(in crate::upstream) fn answered(&self) -> usize {
        self.answered
    }

    /// Asks for descriptors. If the server has ended the call meanwhile, [`Self::answer`] tells so.
    pub(super) fn ask(&mut self, question: MessageRequest) {
        self.send(&ServerReflectionRequest { host: String::new(), message_request: Some(question) });
    }

    /// Sends a message.
    pub(in crate::upstream) fn send(&mut self, request: &impl Message) {
        let length = request.encoded_len();
        let mut frame = BytesMut::with_capacity(5 + length);
        frame.put_u8(0);
        frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX)); // names are bounded
        frame.extend_from_slice(&request.encode_to_vec());
        drop(self.questions.send_data(frame.freeze(), false));
    }

    /// Tells the server that nothing more is asked.
    pub(in crate::upstream) fn finish(&mut self) {
        drop(self.questions.send_data(Bytes::new(), true));
    }

    /// The next answer.
    ///
    /// # Errors
    /// The call ended, or what came is not an answer.
    pub(super) async fn answer(&mut self) -> Result<MessageResponse, Error> {
        let response: ServerReflectionResponse = self.receive().await?;
        response.message_response.ok_or(Error::Malformed("a reply is empty"))
    }

    /// The next message.
    ///
    /// # Errors
    /// The call ended, or what came is not such a message.
    pub(in crate::upstream) async fn receive<M: Message + Default>(&mut self) -> Result<M, Error> {
        if let Some(head) = self.head.take() {
            self.begin(head.await?)?;
        }
        loop {
            let Some(body) = &mut self.body else { return Err(Error::Malformed("the call is over")) };
            if let Some((compressed, mut message)) = next_message(&mut self.buffer)? {
                if compressed {
                    message = inflated(self.encoding, &message)?;
                    self.count(message.len())?;
                }
                self.answered += 1;
                return M::decode(message).map_err(|_| Error::Malformed("a reply is not the message that is due"));
            }
            match body.data().await {
                Some(chunk) => {
                    let chunk = chunk?;
                    self.count(chunk.len())?;
                    let Some(body) = &mut self.body else { return Err(Error::Malformed("the call is over")) };
                    body.flow_control().release_capacity(chunk.len())?;
                    self.buffer.extend_from_slice(&chunk);
                }
                None => return Err(ended(body.trailers().await?.as_ref())),
            }
        }
    }

    fn count(&mut self, bytes: usize) -> Result<(), Error> {
        self.received = self.received.saturating_add(bytes);
        if self.received > MAX_RECEIVED {
            return Err(Error::TooLarge(format!("replies exceed the limit of {MAX_RECEIVED} bytes")));
        }
        Ok(())
    }

    fn begin(&mut self, response: http::Response<RecvStream>) -> Result<(), Error> {
        let (head, body) = response.into_parts();
        if head.status == StatusCode::NOT_FOUND {
            return Err(Error::Unimplemented);
        }
        let is_grpc =
            head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if head.headers.contains_key("grpc-status") {
            return Err(ended(Some(&head.headers)));
        }
        if head.status != StatusCode::OK || !is_grpc {
            return Err(Error::NotGrpc(head.status.as_u16()));
        }
        self.encoding = head.headers.get(grpc::ENCODING).and_then(|name| Encoding::parse(name.to_str().ok()?));
        self.body = Some(body);
        Ok(())
    }
}

/// Cuts the next message off, if it is there as a whole; and whether it is compressed.
fn next_message(buffer: &mut BytesMut) -> Result<Option<(bool, Bytes)>, Error> {
    let Some((&[flag, a, b, c, d], rest)) = buffer.split_first_chunk::<5>() else { return Ok(None) };
    if flag > 1 {
        return Err(Error::Malformed("a reply is no frame of gRPC"));
    }
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if length > MAX_MESSAGE {
        return Err(Error::TooLarge(format!("a reply of {length} bytes exceeds the limit of {MAX_MESSAGE}")));
    }
    if rest.len() < length {
        return Ok(None);
    }
    buffer.advance(5);
    Ok(Some((flag == 1, buffer.split_to(length).freeze())))
}

fn inflated(encoding: Option<Encoding>, message: &[u8]) -> Result<Bytes, Error> {
    let encoding =
        encoding.ok_or(Error::Malformed("a reply is compressed unasked, and in no way that is known here"))?;
    encoding::inflated(encoding, message, MAX_MESSAGE).map_err(|error| match error {
        InflateError::TooLarge { limit } => {
            Error::TooLarge(format!("a reply exceeds the limit of {limit} bytes once it is decompressed"))
        }
        InflateError::Malformed(_) | InflateError::Truncated(_) => {
            Error::Malformed("a reply is not compressed as its head says")
        }
    })
}

/// The end of a call as an error.
fn ended(trailers: Option<&HeaderMap>) -> Error {
    let text = |name| trailers.and_then(|trailers| trailers.get(name)).and_then(|value| value.to_str().ok());
    match text("grpc-status").map(str::parse) {
        Some(Ok(UNIMPLEMENTED)) => Error::Unimplemented,
        Some(Ok(code)) => Error::Ended { code, message: printable(text("grpc-message").unwrap_or_default()) },
        Some(Err(_)) | None => Error::Malformed("the call ends without a gRPC status"),
    }
}
