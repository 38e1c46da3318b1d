//! What a scripted backend does with one call: a list of steps, and the lists that many tests want.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::Reason;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;

/// Metadata as tests write it down.
pub(crate) type Entries<'a> = &'a [(&'a str, &'a str)];

/// One thing that a scripted backend does. A call whose steps are over is dropped: the stream is reset if it is open.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Reads the request to its end. Without this step the client's window stays closed.
    Read,
    /// Sends a response head.
    Head(u16, HeaderMap),
    /// Sends a response head that is also the end.
    HeadAndEnd(u16, HeaderMap),
    /// Sends bytes as soon as the client's window takes them.
    Data(Bytes),
    /// Ends the response with trailers.
    Trailers(HeaderMap),
    /// Ends the response without trailers.
    End,
    /// Resets the stream.
    Reset(Reason),
    /// Sends GOAWAY and lets the streams that run come to their end.
    GoAway,
    /// Sends GOAWAY with that error, not excepting this call, and closes the connection.
    Abort(Reason),
    /// Closes the connection in the middle of everything, without a word.
    Close,
    /// Waits.
    Sleep(Duration),
    /// Waits until the client resets the stream.
    Hold,
}

/// A correct reply with one message.
pub(crate) fn reply(message: &impl Message) -> Vec<Step> {
    vec![Step::Read, grpc_head(&[]), Step::Data(framed(&message.encode_to_vec())), status(0, "")]
}

/// A correct refusal after a head: headers, then trailers.
pub(crate) fn fails(code: u32, message: &str) -> Vec<Step> {
    vec![Step::Read, grpc_head(&[]), status(code, message)]
}

/// A refusal in the head alone. Any number will do as a code.
pub(crate) fn trailers_only(code: u32, message: &str) -> Vec<Step> {
    let code = code.to_string();
    let head = [("content-type", "application/grpc"), ("grpc-status", &code), ("grpc-message", message)];
    vec![Step::Read, Step::HeadAndEnd(200, entries(&head))]
}

/// A head with a gRPC content type and no status, that is also the end.
pub(crate) fn head_only() -> Vec<Step> {
    vec![Step::Read, Step::HeadAndEnd(200, entries(&[("content-type", "application/grpc")]))]
}

/// A message, then the end without trailers.
pub(crate) fn no_trailers(message: &impl Message) -> Vec<Step> {
    vec![Step::Read, grpc_head(&[]), Step::Data(framed(&message.encode_to_vec())), Step::End]
}

/// What a proxy or a web server in front of a backend answers.
pub(crate) fn text(status: u16, body: &str) -> Vec<Step> {
    let head = Step::Head(status, entries(&[("content-type", "text/plain")]));
    vec![Step::Read, head, Step::Data(Bytes::copy_from_slice(body.as_bytes())), Step::End]
}

/// These bytes where message frames should be, then a good end.
pub(crate) fn raw_body(bytes: &[u8]) -> Vec<Step> {
    vec![Step::Read, grpc_head(&[]), Step::Data(Bytes::copy_from_slice(bytes)), status(0, "")]
}

/// A frame that promises more bytes than come.
pub(crate) fn cut_frame() -> Vec<Step> {
    raw_body(&[0, 0, 0, 0, 9, 1, 2, 3])
}

/// Resets the stream before anything was answered.
pub(crate) fn reset(reason: Reason) -> Vec<Step> {
    vec![Step::Reset(reason)]
}

/// Says that the call was not looked at, so that it can be made again.
pub(crate) fn refuse() -> Vec<Step> {
    reset(Reason::REFUSED_STREAM)
}

/// A message, then a reset.
pub(crate) fn reset_after_message(message: &impl Message, reason: Reason) -> Vec<Step> {
    vec![Step::Read, grpc_head(&[]), Step::Data(framed(&message.encode_to_vec())), Step::Reset(reason)]
}

/// A message, GOAWAY, another message and a good end.
pub(crate) fn go_away_in_the_middle(message: &impl Message) -> Vec<Step> {
    let data = Step::Data(framed(&message.encode_to_vec()));
    vec![Step::Read, grpc_head(&[]), data.clone(), Step::GoAway, data, status(0, "")]
}

/// A message, then the connection is gone.
pub(crate) fn close_after_message(message: &impl Message) -> Vec<Step> {
    // The pause lets the message out before the connection goes.
    let pause = Step::Sleep(Duration::from_millis(50));
    vec![Step::Read, grpc_head(&[]), Step::Data(framed(&message.encode_to_vec())), pause, Step::Close, Step::Hold]
}

/// Takes the call and never answers.
pub(crate) fn hold() -> Vec<Step> {
    vec![Step::Hold]
}

/// A head as gRPC wants it, with more entries.
pub(crate) fn grpc_head(more: Entries<'_>) -> Step {
    let mut head = entries(&[("content-type", "application/grpc")]);
    head.extend(entries(more));
    Step::Head(200, head)
}

/// Trailers as gRPC wants them. Any number will do as a code.
pub(crate) fn status(code: u32, message: &str) -> Step {
    let code = code.to_string();
    let message = [("grpc-status", code.as_str()), ("grpc-message", message)];
    Step::Trailers(entries(if message[1].1.is_empty() { &message[..1] } else { &message }))
}

/// A message behind its five bytes of prefix, as it goes over the wire.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("a test's message is small"));
    frame.put_slice(message);
    frame.freeze()
}

/// Metadata from pairs.
pub(crate) fn entries(pairs: Entries<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("the test gives a valid header name");
        headers.append(name, HeaderValue::from_str(value).expect("the test gives a valid header value"));
    }
    headers
}
