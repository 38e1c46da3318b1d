//! The TLS handshake of a connection, before anything of HTTP.
//!
//! What was negotiated says which HTTP follows; without ALPN the first bytes will ([`super::detect`]). A client that speaks
//! clear text is told so. Invariant: a handshake takes no longer than its timeout, and no longer than the gateway runs.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::tls::{H2, HTTP_1_1, Tls};
use crate::io::Prefixed;
use crate::server::drain::{Ended, Local, Stage, bounded};
use crate::server::refuse;

/// Bytes read before it is known that the client speaks TLS: its first flight fits, so that it costs one read.
const READ: usize = 2048;
/// The type of a record of the handshake ([RFC 8446 §5.1](https://www.rfc-editor.org/rfc/rfc8446#section-5.1)).
const HANDSHAKE: u8 = 22;

/// Which HTTP a client will speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Agreed {
    /// Nothing was said of it.
    Nothing,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// How a handshake ended.
#[derive(Debug)]
pub(super) enum Handshake<S> {
    /// The connection is encrypted.
    Done(Box<TlsStream<Prefixed<S>>>, Agreed),
    /// It is not, and the client was told why, as far as it can be.
    Failed(io::Error),
    /// The client left without a word, or the gateway does.
    Closed,
}

/// Does the server's part of the handshake.
pub(super) async fn accept<S>(stream: S, tls: &Tls, timeout: Duration, drain: &Rc<Local>) -> Handshake<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let deadline = Instant::now() + timeout;
    let mut stream = Prefixed::new(stream);
    match bounded(poll_fn(|cx| stream.poll_read_ahead(READ, cx)), deadline, Stage::Ending, drain).await {
        Ended::Done(Ok(1..)) => {}
        Ended::Done(Ok(0) | Err(_)) | Ended::Closed => return Handshake::Closed,
        Ended::TimedOut => return Handshake::Failed(io::ErrorKind::TimedOut.into()),
    }
    if stream.prefix().first() != Some(&HANDSHAKE) {
        refuse::clear_text(stream).await;
        return Handshake::Failed(io::Error::new(io::ErrorKind::InvalidData, "the client does not speak TLS"));
    }
    let handshake = TlsAcceptor::from(tls.server()).accept(stream).into_fallible();
    // A client that has said something is served, even late.
    match bounded(handshake, deadline, Stage::Draining, drain).await {
        Ended::Done(Ok(stream)) => {
            let agreed = match stream.get_ref().1.alpn_protocol() {
                Some(H2) => Agreed::Http2,
                Some(HTTP_1_1) => Agreed::Http1,
                Some(_) | None => Agreed::Nothing,
            };
            Handshake::Done(Box::new(stream), agreed)
        }
        Ended::Done(Err((error, mut stream))) => {
            // The alert is on its way.
            if stream.shutdown().await.is_ok() {
                refuse::linger(stream).await;
            }
            Handshake::Failed(error)
        }
        Ended::TimedOut => Handshake::Failed(io::ErrorKind::TimedOut.into()),
        Ended::Closed => Handshake::Closed,
    }
}
