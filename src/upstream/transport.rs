//! The socket to an endpoint, in clear text or over TLS, before anything of HTTP/2.
//!
//! The same for calls, for reflection and for health checks. Over TLS the server must agree to HTTP/2 by ALPN
//! ([RFC 9113 §3.2](https://www.rfc-editor.org/rfc/rfc9113#section-3.2)): one that does not is no gRPC server, and to find
//! that out later would cost calls.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::Scheme;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::Upstream;
use crate::config::tls::{ClientTls, H2};

/// How an upstream's servers are spoken to.
#[derive(Debug, Clone, Default)]
pub struct Security {
    tls: Option<ClientTls>,
    /// The host that certificates must be for, where the endpoint's own address says nothing of it.
    host: Option<Box<str>>,
}

/// An open socket.
#[derive(Debug)]
pub enum Transport {
    /// What is sent can be read on the way.
    Clear(TcpStream),
    /// It cannot.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address does not resolve or refuses connections.
    #[error(transparent)]
    Tcp(io::Error),
    /// The server has no certificate that is trusted, does not take the gateway's, or does not speak TLS.
    #[error("TLS handshake failed: {0}")]
    Tls(io::Error),
    /// It speaks something else than HTTP/2.
    #[error("the server does not agree to HTTP/2 (ALPN h2), which gRPC needs")]
    NoHttp2,
}

impl Security {
    /// As configured.
    pub fn of(upstream: &Upstream) -> Self {
        let tls = upstream.tls.clone();
        // Whoever is told another authority, or looks a name up, means that one and not the address that was found.
        let host = tls.as_ref().and_then(|_| {
            let endpoint = "".into();
            let authority = upstream.authority_of(&endpoint);
            Some(host_of(&authority)).filter(|host| !host.is_empty()).map(Into::into)
        });
        Self { tls, host }
    }

    /// `:scheme` of requests.
    pub fn scheme(&self) -> Scheme {
        if self.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP }
    }

    /// Opens a socket to `host:port`. Has no timeout of its own.
    ///
    /// # Errors
    /// There is no connection, or none that can be trusted.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect(&self, address: &str) -> Result<Transport, ConnectError> {
        let stream = TcpStream::connect(address).await.map_err(ConnectError::Tcp)?;
        prepare(&stream).map_err(ConnectError::Tcp)?;
        let Some(tls) = &self.tls else { return Ok(Transport::Clear(stream)) };
        let host = self.host.as_deref().unwrap_or_else(|| host_of(address));
        let name = tls.name_at(host).map_err(|message| ConnectError::Tls(io::Error::other(message)))?;
        let stream = TlsConnector::from(tls.client()).connect(name, stream).await.map_err(ConnectError::Tls)?;
        if stream.get_ref().1.alpn_protocol() != Some(H2) {
            return Err(ConnectError::NoHttp2);
        }
        Ok(Transport::Tls(Box::new(stream)))
    }
}

/// `host` of `host:port` or of `host` alone.
fn host_of(address: &str) -> &str {
    match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        Some(_) | None => address,
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3);
    socket.set_tcp_keepalive(&keepalive)?;
    // What was sent and is not acknowledged keeps the system from probing; this bounds that case.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(KEEPALIVE * 2))?;
    Ok(())
}

/// Silence after which the system asks whether the peer is still there, so that one that vanished without a word is found
/// out within a minute.
const KEEPALIVE: Duration = Duration::from_secs(30);

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_what_stands_before_the_port() {
        for (address, host) in [("a.b:1", "a.b"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("a", "a"), ("", "")] {
            assert_eq!(host_of(address), host);
        }
    }
}
