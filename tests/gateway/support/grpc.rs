//! A gRPC client without manners: frames, headers and windows are what a test says, over one HTTP/2 connection.
#![allow(dead_code, reason = "a toolbox: not every test run uses every tool")]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, StatusCode};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::backend::act;
pub(crate) use super::backend::act::Entries;

/// Paths of the four kinds of methods.
pub(crate) const SAY: &str = "/portico.test.v1.Echo/Say";
pub(crate) const REPEAT: &str = "/portico.test.v1.Echo/Repeat";
pub(crate) const COLLECT: &str = "/portico.test.v1.Echo/Collect";
pub(crate) const CONVERSE: &str = "/portico.test.v1.Echo/Converse";

/// A connection to a gateway.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    sender: SendRequest<Bytes>,
    address: SocketAddr,
}

/// A call that was begun. Dropping it resets its stream.
#[derive(Debug)]
pub(crate) struct RawCall {
    reply: ResponseFuture,
    pub(crate) request: SendStream<Bytes>,
}

/// All that came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, 65_535).await
    }

    /// Connects with that receive window for each stream; nothing releases it but the test.
    pub(crate) async fn connect_with(address: SocketAddr, window: u32) -> Self {
        let stream = TcpStream::connect(address).await.expect("the gateway listens");
        Self::over(stream, address, window).await
    }

    /// Speaks over a connection that is there already.
    pub(crate) async fn over<S>(stream: S, address: SocketAddr, window: u32) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(16 << 20);
        let (sender, connection) = builder.handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        Self { sender, address }
    }

    /// Begins a call with the usual headers and these.
    pub(crate) async fn begin(&mut self, path: &str, headers: Entries<'_>, end: bool) -> RawCall {
        let mut all = act::entries(&[("content-type", "application/grpc"), ("te", "trailers")]);
        all.extend(act::entries(headers));
        self.begin_as(Method::POST, path, all, end).await
    }

    /// Begins a call whose head is exactly this.
    pub(crate) async fn begin_as(&mut self, method: Method, path: &str, headers: HeaderMap, end: bool) -> RawCall {
        let uri = format!("http://{}{path}", self.address);
        let mut request = Request::builder().method(method).uri(uri).body(()).expect("a good request");
        *request.headers_mut() = headers;
        let ready = self.sender.clone().ready().await.expect("the connection stands");
        let (reply, request) = { ready }.send_request(request, end).expect("the connection takes a call");
        RawCall { reply, request }
    }

    /// A whole call with these bytes as its body.
    pub(crate) async fn call(&mut self, path: &str, headers: Entries<'_>, body: impl Into<Bytes>) -> Answer {
        let body = body.into();
        let mut call = self.begin(path, headers, body.is_empty()).await;
        if !body.is_empty() {
            call.send(body, true);
        }
        call.answer().await.expect("there is a reply")
    }
}

impl RawCall {
    /// Hands bytes to h2, which sends them as the window opens.
    pub(crate) fn send(&mut self, bytes: impl Into<Bytes>, end: bool) {
        self.request.send_data(bytes.into(), end).expect("the stream is open");
    }

    /// Sends a message in its frame.
    pub(crate) fn message(&mut self, message: &impl Message, end: bool) {
        self.send(framed(message), end);
    }

    /// Waits for the head.
    pub(crate) async fn head(self) -> Result<(http::response::Parts, RecvStream, SendStream<Bytes>), h2::Error> {
        let (head, body) = soon(self.reply).await?.into_parts();
        Ok((head, body, self.request))
    }

    /// Reads all that comes.
    pub(crate) async fn answer(self) -> Result<Answer, h2::Error> {
        let (head, body, _request) = self.head().await?;
        soon(rest(head, body)).await
    }

    /// Why the gateway reset the stream.
    pub(crate) async fn reset(mut self) -> Option<Reason> {
        soon(std::future::poll_fn(|cx| self.request.poll_reset(cx))).await.ok()
    }
}

/// Reads a reply to its end.
pub(crate) async fn rest(head: http::response::Parts, mut body: RecvStream) -> Result<Answer, h2::Error> {
    let mut bytes = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    Ok(Answer { status: head.status, headers: head.headers, body: bytes.freeze(), trailers })
}

impl Answer {
    /// `grpc-status`, of the trailers or of a reply that has nothing else.
    pub(crate) fn code(&self) -> u32 {
        let value = self.trailers.get("grpc-status").or_else(|| self.headers.get("grpc-status"));
        assert!(value.is_some(), "no status: {self:?}");
        let text = value.and_then(|value| value.to_str().ok());
        text.and_then(|text| text.parse().ok()).expect("digits")
    }

    /// `grpc-message`, decoded.
    pub(crate) fn message(&self) -> String {
        let value = self.trailers.get("grpc-message").or_else(|| self.headers.get("grpc-message"));
        let encoded = value.map_or("", |value| value.to_str().expect("ASCII"));
        let mut parts = encoded.split('%');
        let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
        for part in parts {
            let (digits, rest) = part.split_at(2);
            bytes.push(u8::from_str_radix(digits, 16).expect("two digits after a percent sign"));
            bytes.extend_from_slice(rest.as_bytes());
        }
        String::from_utf8(bytes).expect("UTF-8")
    }

    /// Whether everything was said in the head.
    pub(crate) fn is_trailers_only(&self) -> bool {
        self.headers.contains_key("grpc-status") && self.body.is_empty() && self.trailers.is_empty()
    }

    /// The messages, out of their frames.
    pub(crate) fn messages<M: Message + Default>(&self) -> Vec<M> {
        let (mut body, mut messages) = (&*self.body, Vec::new());
        while let Some((&[_, a, b, c, d], rest)) = body.split_first_chunk::<5>() {
            let (message, rest) = rest.split_at(u32::from_be_bytes([a, b, c, d]) as usize);
            messages.push(M::decode(message).expect("a good message"));
            body = rest;
        }
        assert!(body.is_empty(), "half a prefix: {body:?}");
        messages
    }
}

/// A message behind its prefix.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    act::framed(&message.encode_to_vec())
}

/// Bounds what must not take long.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    // On a machine that is busy with other things as well.
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it does not take twenty seconds")
}
