//! An HTTP client with one connection, for both versions alike.
#![allow(dead_code, reason = "a toolbox: not every test run uses every tool")]

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Which HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

impl Version {
    /// For tests of a matrix.
    pub(crate) const BOTH: [Self; 2] = [Self::Http1, Self::Http2];
}

/// A connection to a gateway.
pub(crate) struct Client {
    address: SocketAddr,
    sender: Sender,
}

enum Sender {
    Http1(hyper::client::conn::http1::SendRequest<Full<Bytes>>),
    Http2(h2::client::SendRequest<Bytes>),
}

/// A whole reply.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, version: Version) -> Self {
        let stream = TcpStream::connect(address).await.expect("the gateway listens");
        Self::over(stream, address, version).await
    }

    /// Speaks over a connection that is there already.
    pub(crate) async fn over<S>(stream: S, address: SocketAddr, version: Version) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let sender = match version {
            Version::Http1 => {
                let (sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
                tokio::spawn(connection);
                Sender::Http1(sender)
            }
            Version::Http2 => {
                let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        };
        Self { address, sender }
    }

    /// Sends a request and reads its whole reply.
    pub(crate) async fn send(&mut self, request: Request<Bytes>) -> Reply {
        self.try_send(request).await.expect("there is a reply")
    }

    /// Sends a request and reads its whole reply, unless the stream or connection breaks.
    pub(crate) async fn try_send(
        &mut self,
        request: Request<Bytes>,
    ) -> Result<Reply, Box<dyn std::error::Error + Send + Sync>> {
        let (mut parts, body) = request.into_parts();
        let target = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        match &mut self.sender {
            Sender::Http1(sender) => {
                parts.uri = target.parse()?;
                if !parts.headers.contains_key("host") {
                    parts.headers.insert("host", self.address.to_string().parse()?);
                }
                let reply = sender.send_request(Request::from_parts(parts, Full::new(body))).await?;
                let (head, body) = reply.into_parts();
                let collected = body.collect().await?;
                let trailers = collected.trailers().cloned().unwrap_or_default();
                Ok(Reply { status: head.status, headers: head.headers, body: collected.to_bytes(), trailers })
            }
            Sender::Http2(sender) => {
                parts.uri = format!("http://{}{target}", self.address).parse()?;
                parts.version = http::Version::HTTP_2;
                let (reply, mut stream) =
                    sender.clone().ready().await?.send_request(Request::from_parts(parts, ()), body.is_empty())?;
                if !body.is_empty() {
                    stream.send_data(body, true)?;
                }
                let (head, mut body) = reply.await?.into_parts();
                let mut bytes = BytesMut::new();
                while let Some(data) = body.data().await {
                    let data = data?;
                    body.flow_control().release_capacity(data.len())?;
                    bytes.extend_from_slice(&data);
                }
                let trailers = body.trailers().await?.unwrap_or_default();
                Ok(Reply { status: head.status, headers: head.headers, body: bytes.freeze(), trailers })
            }
        }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Reply {
        self.send(request(Method::GET, path, &[], "")).await
    }

    /// Sends a JSON body.
    pub(crate) async fn json(&mut self, method: Method, path: &str, body: &str) -> Reply {
        self.send(request(method, path, &[("content-type", "application/json")], body)).await
    }
}

/// A request to a path of the gateway.
pub(crate) fn request(method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Request<Bytes> {
    let mut builder = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Bytes::copy_from_slice(body.as_bytes())).expect("a good request")
}

impl Reply {
    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// `reason` of the `ErrorInfo` in a `google.rpc.Status`.
    pub(crate) fn reason(&self) -> String {
        let json = self.json();
        let details = json["details"].as_array().cloned().unwrap_or_default();
        details.iter().find_map(|detail| detail["reason"].as_str()).unwrap_or_default().to_owned()
    }
}
