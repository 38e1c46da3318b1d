//! Every way to call a method of the echo service: protocol, codec, form of the stream, version of HTTP.
//!
//! A [`Way`] begins a call, sends messages while it runs, reads what comes, or leaves. What comes back is told in the same
//! words for all: messages and a gRPC code.
#![allow(dead_code, reason = "a toolbox: not every test run uses every tool")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderName, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use portico::encoding::Encoding;
use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tungstenite::Message;

use super::backend::act;
use super::client::{Reply, Version};
use super::grpc::{COLLECT, CONVERSE, REPEAT, Raw, SAY, soon};
use super::rpc::{Dialect, decode, dialects, encode};
use super::websocket::Socket;

/// The kinds of methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Unary,
    ServerStream,
    ClientStream,
    Bidi,
}

/// One way to call one method.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) kind: Kind,
    pub(crate) version: Version,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// gRPC, gRPC-Web, Connect.
    Rpc(Dialect),
    ConnectGet,
    /// The form of a streamed reply, and that of a streamed request.
    Rest {
        accept: &'static str,
        media: &'static str,
    },
    /// Whether messages are protobuf.
    Socket {
        binary: bool,
    },
}

/// Bytes that come although nobody reads.
const WINDOW: u32 = 16 << 10;
const LINES: &str = "application/x-ndjson";
const JSON: &str = "application/json";
const FORMS: [&str; 4] = [JSON, LINES, "text/event-stream", "application/json-seq"];

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Unary, Self::ServerStream, Self::ClientStream, Self::Bidi];

    pub(crate) fn streams_requests(self) -> bool {
        matches!(self, Self::ClientStream | Self::Bidi)
    }

    pub(crate) fn streams_replies(self) -> bool {
        matches!(self, Self::ServerStream | Self::Bidi)
    }

    fn path(self) -> &'static str {
        match self {
            Self::Unary => SAY,
            Self::ServerStream => REPEAT,
            Self::ClientStream => COLLECT,
            Self::Bidi => CONVERSE,
        }
    }

    /// The type of its replies.
    fn reply(self) -> &'static str {
        match self {
            Self::Unary | Self::ServerStream | Self::Bidi => "SayReply",
            Self::ClientStream => "CollectReply",
        }
    }
}

impl Way {
    /// All ways to call a method of that kind.
    pub(crate) fn all(kind: Kind) -> Vec<Self> {
        let mut ways = Vec::new();
        for version in Version::BOTH {
            let mut add = |form| ways.push(Self { kind, version, form });
            dialects(version, kind.path()).for_each(|dialect| add(Form::Rpc(dialect)));
            for media in [JSON, LINES].into_iter().take(if kind.streams_requests() { 2 } else { 1 }) {
                for accept in FORMS.into_iter().take(if kind.streams_replies() { 4 } else { 1 }) {
                    add(Form::Rest { accept, media });
                }
            }
            if kind == Kind::Unary {
                add(Form::ConnectGet);
            } else {
                add(Form::Socket { binary: false });
                add(Form::Socket { binary: true });
            }
        }
        ways
    }

    /// Begins a call, with its first message if there is one.
    /// A call by GET has no other than the first.
    pub(crate) async fn begin(self, gateway: SocketAddr, deadline: Option<u32>, first: Option<&Value>) -> Call {
        let rpc = self.kind.path().to_owned();
        let rest = rpc.replace("/portico.test.v1.Echo/", "/test/v1/").to_lowercase();
        let mut headers = HeaderMap::new();
        if let Some(millis) = deadline {
            let (name, value) = match self.form {
                Form::Rpc(dialect) => dialect.timeout(millis),
                Form::ConnectGet => ("connect-timeout-ms", millis.to_string()),
                Form::Rest { .. } => ("x-server-timeout", format!("{}", f64::from(millis) / 1000.0)),
                Form::Socket { .. } => ("grpc-timeout", format!("{millis}m")),
            };
            headers.insert(HeaderName::from_static(name), value.parse().expect("a header value"));
        }
        match self.form {
            Form::Socket { .. } => {
                let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str())).collect();
                let headers: Vec<_> = headers.into_iter().map(|(name, value)| (name, value.expect("ASCII"))).collect();
                let socket = Socket::open(gateway, self.version, &rest, &headers).await;
                let mut call = Call { way: self, count: 0, wire: Wire::Socket(Box::new(socket)) };
                call.send_first(first).await;
                return call;
            }
            Form::Rpc(dialect) => headers.extend(dialect.head()),
            Form::Rest { accept, media } => {
                headers.extend(act::entries(&[("content-type", media), ("accept", accept)]))
            }
            Form::ConnectGet => {}
        }
        let (method, path) = match self.form {
            Form::ConnectGet => {
                let message = query(&first.unwrap_or_default().to_string());
                (Method::GET, format!("{rpc}?connect=v1&encoding=json&message={message}"))
            }
            Form::Rest { .. } => (Method::POST, rest),
            Form::Rpc(_) | Form::Socket { .. } => (Method::POST, rpc),
        };
        let wire = match self.version {
            Version::Http1 => Wire::http1(gateway, method, &path, headers).await,
            Version::Http2 => Wire::http2(gateway, method, &path, headers).await,
        };
        let mut call = Call { way: self, count: 0, wire };
        if self.form == Form::ConnectGet {
            call.finish().await;
        } else {
            call.send_first(first).await;
        }
        call
    }

    /// Whether all of the request stands in its head.
    pub(crate) fn is_get(self) -> bool {
        self.form == Form::ConnectGet
    }

    /// The bytes of the message with that number.
    fn write(self, message: &Value, number: usize) -> Bytes {
        match self.form {
            Form::Rpc(dialect) => dialect.write(message, Encoding::Identity),
            Form::ConnectGet | Form::Socket { .. } => Bytes::new(),
            Form::Rest { .. } if !self.kind.streams_requests() => message.to_string().into(),
            Form::Rest { media: JSON, .. } if number == 0 => format!("[{message}\n").into(),
            Form::Rest { media: JSON, .. } => format!(",{message}\n").into(),
            Form::Rest { .. } => format!("{message}\n").into(),
        }
    }

    /// What stands behind the last message.
    fn write_end(self) -> Bytes {
        let is_array = matches!(self.form, Form::Rest { media: JSON, .. }) && self.kind.streams_requests();
        Bytes::from_static(if is_array { b"]" } else { b"" })
    }

    fn read(self, reply: Reply) -> Told {
        if let Form::Rpc(dialect) = self.form {
            let told = dialect.read(self.kind.path(), reply);
            return Told { messages: told.messages, code: Some(told.code) };
        }
        if reply.status != StatusCode::OK {
            let json = reply.json();
            let code = json["code"].as_u64().and_then(|code| usize::try_from(code).ok());
            // Connect names its codes; those that a GET meets here have a status of their own.
            let named = ["resource_exhausted", "deadline_exceeded", "failed_precondition"].into_iter().zip([8, 4, 9]);
            let named = named.into_iter().find(|(name, _)| json["code"] == *name).map(|(_, code)| code);
            return Told { messages: Vec::new(), code: code.or(named) };
        }
        if !self.kind.streams_replies() {
            return Told { messages: vec![reply.json()], code: Some(0) };
        }
        let mut messages = values(&reply);
        let failed = messages.pop_if(|last| last.get("error").is_some());
        let code = failed.map_or(Some(0), |last| usize::try_from(last["error"]["code"].as_u64()?).ok());
        Told { messages, code }
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) messages: Vec<Value>,
    /// None when the reply was broken off without words.
    pub(crate) code: Option<usize>,
}

impl Told {
    /// The texts in all messages, but for empty ones.
    pub(crate) fn texts(&self) -> Vec<&str> {
        let one = self.messages.iter().map(|message| &message["text"]);
        let many = self.messages.iter().filter_map(|message| message["texts"].as_array()).flatten();
        one.chain(many).filter_map(Value::as_str).filter(|text| !text.is_empty()).collect()
    }
}

/// A call that runs.
pub(crate) struct Call {
    way: Way,
    /// Messages sent.
    count: usize,
    wire: Wire,
}

enum Wire {
    Http1 {
        body: Option<mpsc::Sender<Bytes>>,
        reply: Replying,
        connection: JoinHandle<()>,
    },
    Http2 {
        call: super::grpc::RawCall,
        /// Keeps the connection open.
        client: Raw,
    },
    Socket(Box<Socket>),
}

/// A reply's head, and what keeps its connection.
type Replying = Pin<Box<dyn Future<Output = hyper::Result<(http::Response<Incoming>, SendRequest<Pieces>)>> + Send>>;

impl Wire {
    async fn http1(gateway: SocketAddr, method: Method, path: &str, headers: HeaderMap) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(WINDOW).expect("a size");
        let stream = socket.connect(gateway).await.expect("the gateway listens");
        stream.set_nodelay(true).expect("an open socket");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
        let connection = tokio::spawn(async { drop(connection.await) });
        let (body, pieces) = mpsc::channel(1 << 10);
        let mut request = Request::builder().method(method).uri(path).body(Pieces(pieces)).expect("a good request");
        *request.headers_mut() = headers;
        request.headers_mut().insert("host", gateway.to_string().parse().expect("a header value"));
        let sent = sender.send_request(request);
        let reply = Box::pin(async move {
            // The connection lives no longer than its sender.
            sent.await.map(|reply| (reply, sender))
        });
        Self::Http1 { body: Some(body), reply, connection }
    }

    async fn http2(gateway: SocketAddr, method: Method, path: &str, headers: HeaderMap) -> Self {
        let mut client = Raw::connect_with(gateway, WINDOW).await;
        let call = client.begin_as(method, path, headers, false).await;
        Self::Http2 { call, client }
    }
}

/// A request's body out of a channel.
struct Pieces(mpsc::Receiver<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(http_body::Frame::data(piece))))
    }
}

impl Call {
    async fn send_first(&mut self, first: Option<&Value>) {
        if let Some(first) = first {
            self.send(first).await;
        }
    }

    /// Sends the next message.
    pub(crate) async fn send(&mut self, message: &Value) {
        let bytes = self.way.write(message, self.count);
        self.count += 1;
        if let (Wire::Socket(socket), Form::Socket { binary }) = (&mut self.wire, self.way.form) {
            return match binary {
                true => socket.send(Message::binary(encode(false, message))).await,
                false => socket.text(&message.to_string()).await,
            };
        }
        self.put(bytes).await;
    }

    /// Sends the next message in many small pieces.
    pub(crate) async fn drip(&mut self, message: &Value) {
        let bytes = self.way.write(message, self.count);
        self.count += 1;
        if let (Wire::Socket(socket), Form::Socket { binary }) = (&mut self.wire, self.way.form) {
            let (opcode, payload) = match binary {
                true => (0x82, encode(false, message)),
                false => (0x81, message.to_string().into_bytes()),
            };
            let length = u8::try_from(payload.len()).ok().filter(|length| *length < 126).expect("it is short");
            // A mask of zeros leaves the payload as it is.
            let frame = [&[opcode, 0x80 | length, 0, 0, 0, 0][..], &payload].concat();
            for piece in frame.chunks(2) {
                socket.raw(piece).await;
            }
            return;
        }
        for at in (0..bytes.len()).step_by(3) {
            self.put(bytes.slice(at..bytes.len().min(at + 3))).await;
        }
    }

    /// Ends the request.
    pub(crate) async fn finish(&mut self) {
        let end = self.way.write_end();
        match &mut self.wire {
            Wire::Socket(socket) if self.way.kind.streams_requests() => socket.text("").await,
            Wire::Socket(_) => {}
            Wire::Http1 { .. } => {
                if !end.is_empty() {
                    self.put(end).await;
                }
                if let Wire::Http1 { body, .. } = &mut self.wire {
                    *body = None;
                }
            }
            Wire::Http2 { call, .. } => drop(call.request.send_data(end, true)),
        }
    }

    /// A gateway that has answered may take no more; its answer counts.
    async fn put(&mut self, bytes: Bytes) {
        match &mut self.wire {
            Wire::Http1 { body: Some(body), .. } => drop(body.send(bytes).await),
            Wire::Http1 { body: None, .. } | Wire::Socket(_) => {}
            Wire::Http2 { call, .. } => drop(call.request.send_data(bytes, false)),
        }
    }

    /// Reads to the end.
    pub(crate) async fn end(self) -> Told {
        let way = self.way;
        match self.wire {
            Wire::Socket(socket) => end_of_socket(*socket, way.kind).await,
            Wire::Http1 { body: _body, reply, connection } => {
                let read = async {
                    let (reply, _sender) = reply.await.ok()?;
                    let (head, body) = reply.into_parts();
                    let collected = body.collect().await.ok()?;
                    let trailers = collected.trailers().cloned().unwrap_or_default();
                    Some(Reply { status: head.status, headers: head.headers, body: collected.to_bytes(), trailers })
                };
                let reply = read.await;
                connection.abort();
                reply.map_or(Told { messages: Vec::new(), code: None }, |reply| way.read(reply))
            }
            Wire::Http2 { call, client: _client } => {
                let Ok((head, body, _request)) = call.head().await else {
                    return Told { messages: Vec::new(), code: None };
                };
                match super::grpc::rest(head, body).await {
                    Ok(super::grpc::Answer { status, headers, body, trailers }) => {
                        way.read(Reply { status, headers, body, trailers })
                    }
                    Err(_) => Told { messages: Vec::new(), code: None },
                }
            }
        }
    }

    /// Goes away without a word.
    pub(crate) fn leave(self) {
        match self.wire {
            Wire::Socket(socket) => drop(socket),
            Wire::Http1 { connection, .. } => connection.abort(),
            Wire::Http2 { mut call, client } => {
                call.request.send_reset(Reason::CANCEL);
                // The reset has to be sent by the connection.
                tokio::spawn(async move { soon(call.reset()).await.map(|_| drop(client)) });
            }
        }
    }
}

async fn end_of_socket(mut socket: Socket, kind: Kind) -> Told {
    let mut told = Told { messages: Vec::new(), code: None };
    while let Some(message) = socket.next().await {
        match message {
            Message::Text(text) => {
                let value: Value = serde_json::from_str(&text).expect("JSON");
                if value.get("error").is_none() {
                    told.messages.push(value);
                }
            }
            Message::Binary(bytes) => told.messages.push(decode(false, kind.reply(), &bytes)),
            Message::Close(close) => {
                let code = close.map_or(0, |close| usize::from(u16::from(close.code)));
                told.code = Some(if code == 1000 { 0 } else { code.saturating_sub(4000) });
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
    told
}

/// The values of a streamed reply.
fn values(reply: &Reply) -> Vec<Value> {
    let text = std::str::from_utf8(&reply.body).expect("a reply is text");
    let parse = |text: &str| serde_json::from_str(text).expect("a message is JSON");
    match reply.headers["content-type"].to_str().expect("a content type is text") {
        JSON => reply.json().as_array().expect("an array").clone(),
        "text/event-stream" => {
            let events = text.split_terminator("\n\n").filter(|event| *event != "event: end\ndata: {}");
            events.filter_map(|event| event.split_once("data: ")).map(|(_, data)| parse(data)).collect()
        }
        _ => text.split_terminator('\n').map(|line| parse(line.trim_start_matches('\u{1e}'))).collect(),
    }
}

/// A text as it stands in a query.
fn query(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
