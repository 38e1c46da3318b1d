//! Refusals made without the proxy: bare messages for what is no valid HTTP, outside the limits, or too slow.
//!
//! They carry no body, because the caller's protocol is not known at this point.

use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH};
use http::uri::Authority;
use http::{HeaderValue, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time;

use crate::io::Prefixed;

/// [RFC 9110 §15.5.9](https://www.rfc-editor.org/rfc/rfc9110#section-15.5.9).
const REQUEST_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
/// Empty SETTINGS, the server's preface, then GOAWAY: last stream 0, PROTOCOL_ERROR.
/// [RFC 9113 §6.8](https://www.rfc-editor.org/rfc/rfc9113#section-6.8).
const GOAWAY: &[u8] = &[
    0, 0, 0, 4, 0, 0, 0, 0, 0, // SETTINGS
    0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, // GOAWAY
];
/// To whoever speaks clear text where TLS is spoken, with a word for the people behind it.
const CLEAR_TEXT: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\n\
    content-length: 39\r\n\r\nthis port speaks TLS; use https:// here";
/// A closing connection is read on for at most this long and this much.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 256 << 10;

/// Whether a `host` can be one: empty, or host and port without user information. It goes upstream as metadata, so it
/// must not be just any bytes ([RFC 9112 §3.2](https://www.rfc-editor.org/rfc/rfc9112#section-3.2)).
pub(super) fn is_host(value: &HeaderValue) -> bool {
    let text = value.as_bytes();
    text.is_empty() || (!text.contains(&b'@') && Authority::try_from(text).is_ok())
}

/// A reply of which the client learns no more than the status.
pub(super) fn bare(status: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}

/// As [`bare`], and the HTTP/1.1 connection ends with it.
pub(super) fn bare_and_close(status: StatusCode) -> Response<()> {
    let mut response = bare(status);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Tells a client that its first bytes took too long, in the protocol that they hint at, and closes.
pub(super) async fn too_slow<S: AsyncRead + AsyncWrite + Unpin>(stream: Prefixed<S>) {
    let farewell = match stream.prefix() {
        // A connection opened in advance and never used; an answer to no request would only confuse.
        b"" => return,
        [b'P', b'R', ..] => GOAWAY,
        _ => REQUEST_TIMEOUT,
    };
    say_and_close(stream, farewell).await;
}

/// Tells a client in clear text that this port speaks TLS, and closes.
pub(super) async fn clear_text<S: AsyncRead + AsyncWrite + Unpin>(stream: Prefixed<S>) {
    let farewell = match stream.prefix() {
        [b'P', b'R', ..] => GOAWAY,
        [b'A'..=b'Z', ..] => CLEAR_TEXT,
        // Neither HTTP nor TLS.
        _ => return,
    };
    say_and_close(stream, farewell).await;
}

/// Tells a client that does not speak the version of HTTP which was agreed upon, and closes. One of the two sides takes it
/// for HTTP/2, and so GOAWAY is what is understood if anything is.
pub(super) async fn not_as_agreed<S: AsyncRead + AsyncWrite + Unpin>(stream: Prefixed<S>) {
    say_and_close(stream, GOAWAY).await;
}

/// Tells an HTTP/1.1 client that the head of its request took too long, and closes.
pub(super) async fn head_too_slow<S: AsyncRead + AsyncWrite + Unpin>(stream: S) {
    say_and_close(stream, REQUEST_TIMEOUT).await;
}

async fn say_and_close<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, farewell: &[u8]) {
    let said = async {
        stream.write_all(farewell).await?;
        stream.shutdown().await
    };
    if matches!(time::timeout(LINGER, said).await, Ok(Ok(()))) {
        linger(stream).await;
    }
}

/// Reads on after the last word: closing a socket with unread input resets the connection, and the reset can overtake
/// what was said ([RFC 9112 §9.6](https://www.rfc-editor.org/rfc/rfc9112#section-9.6)).
pub(super) async fn linger<S: AsyncRead + Unpin>(stream: S) {
    let mut rest = stream.take(LINGER_BYTES);
    let discard = async {
        let mut buffer = [0; 2048];
        while matches!(rest.read(&mut buffer).await, Ok(1..)) {}
    };
    time::timeout(LINGER, discard).await.ok();
}
