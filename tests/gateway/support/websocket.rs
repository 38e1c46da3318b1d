//! A WebSocket client over both versions of HTTP. Frames are made by tungstenite, or written by a test itself.
#![allow(dead_code, reason = "a toolbox: not every test run uses every tool")]

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tungstenite::protocol::{Role, WebSocketContext};
use tungstenite::{Error, Message};

use super::client::Version;
use super::grpc::soon;

/// An open WebSocket. Dropping it closes its connection without a word.
pub(crate) struct Socket {
    io: Box<dyn Io>,
    context: WebSocketContext,
    wire: Wire,
    /// Of the handshake's reply.
    pub(crate) headers: HeaderMap,
}

/// A refusal, as plain HTTP.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Bytes both ways.
trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// The headers of every handshake over HTTP/1.1.
const UPGRADE: &[(&str, &str)] = &[
    ("connection", "keep-alive, Upgrade"),
    ("upgrade", "WebSocket"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-version", "13"),
];

impl Socket {
    /// Opens a WebSocket that must be granted.
    pub(crate) async fn open(address: SocketAddr, version: Version, path: &str, headers: &[(&str, &str)]) -> Self {
        soon(Self::ask(address, version, path, headers)).await.expect("the WebSocket is opened")
    }

    /// Asks for a WebSocket. The headers take the place of the usual ones of that name.
    pub(crate) async fn ask(
        address: SocketAddr,
        version: Version,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, Refusal> {
        let mut all = HeaderMap::new();
        let usual = match version {
            Version::Http1 => UPGRADE,
            Version::Http2 => &UPGRADE[3..],
        };
        for (name, value) in usual.iter().filter(|(name, _)| !headers.iter().any(|(own, _)| own == name)).chain(headers)
        {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            all.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        let (io, headers, early) = match version {
            Version::Http1 => over_http1(address, path, &all).await?,
            Version::Http2 => over_http2(address, path, all).await?,
        };
        let wire = Wire { input: early, ..Wire::default() };
        Ok(Self { io, context: WebSocketContext::new(Role::Client, None), wire, headers })
    }

    pub(crate) async fn text(&mut self, text: &str) {
        self.send(Message::text(text)).await;
    }

    pub(crate) async fn binary(&mut self, message: &impl prost::Message) {
        self.send(Message::binary(message.encode_to_vec())).await;
    }

    pub(crate) async fn send(&mut self, message: Message) {
        self.context.write(&mut self.wire, message).expect("memory takes it");
        self.context.flush(&mut self.wire).expect("memory takes it");
        self.flush().await;
    }

    /// Bytes as they are.
    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.expect("the gateway reads");
        self.io.flush().await.expect("the gateway reads");
    }

    async fn flush(&mut self) {
        // A gateway that has closed takes nothing any more.
        self.io.write_all(&self.wire.output.split()).await.ok();
        self.io.flush().await.ok();
    }

    /// The next frame that is no ping; `None` when the connection is at its end.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            match self.context.read(&mut self.wire) {
                Ok(Message::Ping(_)) => {}
                Ok(message) => {
                    self.context.flush(&mut self.wire).ok();
                    self.flush().await;
                    return Some(message);
                }
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.flush().await;
                    let mut buffer = vec![0; 16 << 10];
                    let read = tokio::time::timeout(Duration::from_secs(20), self.io.read(&mut buffer)).await;
                    match read.expect("the gateway says something") {
                        Ok(0) | Err(_) => self.wire.is_over = true,
                        Ok(read) => self.wire.input = Bytes::copy_from_slice(&buffer[..read]),
                    }
                }
                Err(_) => return None,
            }
        }
    }

    /// The next message, which must be JSON.
    pub(crate) async fn json(&mut self) -> Value {
        let text = match self.next().await {
            Some(Message::Text(text)) => Ok(text),
            other => Err(other),
        };
        serde_json::from_str(&text.expect("a text frame comes next")).expect("JSON")
    }

    /// The next message, which must be protobuf.
    pub(crate) async fn proto<M: prost::Message + Default>(&mut self) -> M {
        let bytes = match self.next().await {
            Some(Message::Binary(bytes)) => Ok(bytes),
            other => Err(other),
        };
        M::decode(bytes.expect("a binary frame comes next")).expect("a message")
    }

    /// Code and reason of the close frame, which must come next, and be followed by the end of the connection.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        let close = match self.next().await {
            Some(Message::Close(Some(close))) => Ok((u16::from(close.code), close.reason.to_string())),
            other => Err(other),
        };
        assert_eq!(self.next().await, None, "nothing follows the close frame");
        close.expect("a close frame comes next")
    }

    /// The error that must come next, and the close frame behind it.
    pub(crate) async fn failed(&mut self) -> (Value, u16, String) {
        let error = self.json().await["error"].take();
        assert!(error.is_object(), "an error is expected");
        let (code, reason) = self.closed().await;
        (error, code, reason)
    }
}

async fn over_http1(
    address: SocketAddr,
    path: &str,
    headers: &HeaderMap,
) -> Result<(Box<dyn Io>, HeaderMap, Bytes), Refusal> {
    let socket = TcpSocket::new_v4().expect("a socket");
    // So that what nobody reads is soon felt.
    socket.set_recv_buffer_size(16 << 10).expect("a size");
    let mut stream = socket.connect(address).await.expect("the gateway listens");
    let mut request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {}\r\n", value.to_str().expect("text")));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.expect("the gateway reads");
    let mut read = BytesMut::new();
    let end = loop {
        if let Some(at) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break at + 4;
        }
        assert!(stream.read_buf(&mut read).await.expect("the gateway answers") > 0, "the reply has an end");
    };
    let head = String::from_utf8(read.split_to(end).to_vec()).expect("text");
    let status = head.get(9..12).unwrap_or_default().parse().expect("a status");
    let headers: HeaderMap = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value")))
        .collect();
    if status == 101 {
        return Ok((Box::new(stream), headers, read.freeze()));
    }
    let length = headers["content-length"].to_str().expect("text").parse().expect("a length");
    while read.len() < length {
        assert!(stream.read_buf(&mut read).await.expect("the gateway answers") > 0, "the body is whole");
    }
    Err(Refusal { status, headers, body: read.freeze() })
}

async fn over_http2(
    address: SocketAddr,
    path: &str,
    headers: HeaderMap,
) -> Result<(Box<dyn Io>, HeaderMap, Bytes), Refusal> {
    let stream = TcpStream::connect(address).await.expect("the gateway listens");
    let (mut sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    extended(&sender).await;
    let mut request = Request::builder().method(Method::CONNECT).uri(format!("http://{address}{path}")).body(());
    let request = request.as_mut().expect("a good request");
    *request.headers_mut() = headers;
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    let (reply, mut sending) =
        sender.send_request(std::mem::replace(request, Request::new(())), false).expect("the connection takes it");
    let (head, mut body) = reply.await.expect("there is a reply").into_parts();
    if head.status != 200 {
        let mut bytes = BytesMut::new();
        while let Some(Ok(data)) = body.data().await {
            bytes.extend_from_slice(&data);
        }
        return Err(Refusal { status: head.status.as_u16(), headers: head.headers, body: bytes.freeze() });
    }
    let (near, far) = tokio::io::duplex(64 << 10);
    let (mut from, mut to) = tokio::io::split(far);
    tokio::spawn(async move {
        while let Some(Ok(data)) = body.data().await {
            body.flow_control().release_capacity(data.len()).expect("it was taken");
            if to.write_all(&data).await.is_err() {
                return;
            }
        }
        to.shutdown().await.ok();
    });
    tokio::spawn(async move {
        let _connection = sender;
        let mut buffer = vec![0; 16 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            if sending.send_data(Bytes::copy_from_slice(&buffer[..read]), false).is_err() {
                return;
            }
        }
        sending.send_data(Bytes::new(), true).ok();
    });
    Ok((Box::new(near), head.headers, Bytes::new()))
}

/// Waits for the settings of a server that takes extended CONNECT.
pub(crate) async fn extended(sender: &h2::client::SendRequest<Bytes>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let settings = async {
        while !sender.is_extended_connect_protocol_enabled() {
            ticks.tick().await;
        }
    };
    soon(settings).await;
}

/// Both directions in memory.
#[derive(Debug, Default)]
struct Wire {
    input: Bytes,
    is_over: bool,
    output: BytesMut,
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() && !self.is_over {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = into.len().min(self.input.len());
        self.input.copy_to_slice(&mut into[..taken]);
        Ok(taken)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
