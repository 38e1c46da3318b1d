//! Calls through the gateway, as clients make them.

use std::error::Error as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tonic::codegen::Service;
use tonic::transport::{Channel, Endpoint};

use crate::backend::pb::echo_client::EchoClient;
use crate::backend::pb::{Behaviour, Failure, SayRequest};
use crate::backend::{self, act};
use crate::load::{Entry, Kind};
use crate::tls::{self, Authority};

/// After which a client gives up a call that is not answered.
const SHORT: Duration = Duration::from_millis(20);

/// A connection to the gateway.
pub(crate) enum Client {
    Grpc(Box<EchoClient<Channel>>),
    /// The last one is whether it can take no more requests.
    Rest(http1::SendRequest<Full<Bytes>>, SocketAddr, bool),
}

impl Client {
    pub(crate) async fn connect(entry: &Entry, kind: Kind) -> Self {
        let gateway = entry.gateway;
        match &entry.authority {
            None if kind.is_grpc() => Self::Grpc(Box::new(backend::client(gateway).await)),
            None => {
                let stream = TcpStream::connect(gateway).await.expect("the gateway listens");
                stream.set_nodelay(true).expect("a socket");
                Self::rest(stream, gateway).await
            }
            Some(authority) if kind.is_grpc() => {
                let endpoint = Endpoint::from_shared(format!("http://{gateway}")).expect("an address makes a URI");
                let handshake = Handshake { gateway, authority: Arc::clone(authority) };
                let channel = endpoint.connect_with_connector(handshake).await.expect("a handshake");
                Self::Grpc(Box::new(EchoClient::new(channel)))
            }
            Some(authority) => {
                let stream = tls::connect(gateway, authority.client(&["http/1.1"], None)).await;
                Self::rest(stream.expect("a handshake"), gateway).await
            }
        }
    }

    async fn rest<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, gateway: SocketAddr) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        Self::Rest(sender, gateway, false)
    }

    /// Whether the next call needs another connection. gRPC finds that out by itself.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Rest(_, _, true))
    }

    pub(crate) async fn call(&mut self, kind: Kind) -> Result<(), String> {
        match self {
            Self::Grpc(client) => {
                let called = match grpc(client, kind).await {
                    // What other clients of gRPC do by themselves.
                    Err(status) if was_never_sent(&status) => grpc(client, kind).await,
                    called => called,
                };
                called.map_err(|status| format!("{:?}: {}", status.code(), status.message()))
            }
            Self::Rest(sender, gateway, over) => {
                let errand = Errand::of(kind);
                sender.ready().await.map_err(|error| error.to_string())?;
                let reply = sender.send_request(errand.request(*gateway)).await.map_err(|error| error.to_string())?;
                let status = reply.status();
                *over = reply.headers().get("connection").is_some_and(|value| value == "close");
                let mut body = reply.into_body();
                let body = if kind == Kind::RestStreamGivenUp {
                    *over = true;
                    let frame = body.frame().await.ok_or("no message")?.map_err(|error| error.to_string())?;
                    frame.into_data().unwrap_or_default()
                } else {
                    body.collect().await.map_err(|error| error.to_string())?.to_bytes()
                };
                let text = String::from_utf8_lossy(&body);
                errand.is_done_by(status, &text).then_some(()).ok_or_else(|| format!("{status}: {text}"))
            }
        }
    }
}

/// A request over HTTP/1.1, and what has to come back.
struct Errand {
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    /// A request without one is a GET.
    body: Bytes,
    status: StatusCode,
    /// What the reply's body contains so many times.
    words: &'static str,
    times: usize,
}

impl Errand {
    fn of(kind: Kind) -> Self {
        const SAY: &str = "/portico.test.v1.Echo/Say";
        match kind {
            Kind::Rest | Kind::RestBrief => Self::get("/test/v1/say/a"),
            Kind::RestStream => Self { times: 5, ..Self::get("/test/v1/repeat/a?behaviour.count=5") },
            Kind::RestStreamGivenUp => Self::get("/test/v1/repeat/a?behaviour.count=1&behaviour.stall=true"),
            Kind::RestNotFound => Self {
                status: StatusCode::NOT_FOUND,
                words: "\"code\":5",
                ..Self::get("/test/v1/say/a?behaviour.failure.code=5")
            },
            Kind::RestRefused => Self {
                status: StatusCode::BAD_REQUEST,
                words: "\"code\":3",
                ..Self::post("/test/v1/say", &[("content-type", "application/json")], "{\"text\":".into())
            },
            Kind::Connect => {
                let headers = &[("content-type", "application/json"), ("connect-protocol-version", "1")];
                Self::post(SAY, headers, "{\"text\":\"a\"}".into())
            }
            Kind::GrpcWeb => {
                let body = act::framed(&say(None).encode_to_vec());
                let call = Self::post(SAY, &[("content-type", "application/grpc-web+proto")], body);
                Self { words: "grpc-status: 0\r\n", ..call }
            }
            Kind::Grpc | Kind::GrpcOnce | Kind::GrpcStream | Kind::GrpcBrief => unreachable!("a call of gRPC"),
            Kind::GrpcNotFound | Kind::GrpcGivenUp | Kind::GrpcStreamGivenUp => unreachable!("a call of gRPC"),
        }
    }

    fn get(path: &'static str) -> Self {
        let headers = &[("accept", "application/x-ndjson, application/json")];
        Self { path, headers, body: Bytes::new(), status: StatusCode::OK, words: "\"text\":\"a\"", times: 1 }
    }

    fn post(path: &'static str, headers: &'static [(&'static str, &'static str)], body: Bytes) -> Self {
        Self { headers, body, ..Self::get(path) }
    }

    fn request(&self, gateway: SocketAddr) -> Request<Full<Bytes>> {
        let method = if self.body.is_empty() { Method::GET } else { Method::POST };
        let mut request = Request::builder().method(method).uri(self.path).header("host", gateway.to_string());
        for (name, value) in self.headers {
            request = request.header(*name, *value);
        }
        request.body(Full::new(self.body.clone())).expect("a good request")
    }

    fn is_done_by(&self, status: StatusCode, body: &str) -> bool {
        // A stream that fails after its beginning says so in its body.
        let failed = status.is_success() && body.contains("\"error\"");
        status == self.status && body.matches(self.words).count() == self.times && !failed
    }
}

fn say(behaviour: Option<Behaviour>) -> SayRequest {
    SayRequest { text: "a".into(), behaviour }
}

async fn grpc(client: &mut EchoClient<Channel>, kind: Kind) -> Result<(), tonic::Status> {
    let stalled = Behaviour { count: 1, stall: true, ..Behaviour::default() };
    match kind {
        Kind::Grpc | Kind::GrpcBrief => client.say(say(None)).await.map(drop),
        Kind::GrpcOnce => client.plain(say(None)).await.map(drop),
        Kind::GrpcStream => {
            let behaviour = Behaviour { count: 5, ..Behaviour::default() };
            let mut replies = client.repeat(say(Some(behaviour))).await?.into_inner();
            let mut count = 0;
            while replies.message().await?.is_some() {
                count += 1;
            }
            (count == 5).then_some(()).ok_or_else(|| tonic::Status::data_loss(format!("{count} messages")))
        }
        Kind::GrpcNotFound => {
            let failure = Failure { code: tonic::Code::NotFound.into(), ..Failure::default() };
            let behaviour = Behaviour { failure: Some(failure), ..Behaviour::default() };
            match client.say(say(Some(behaviour))).await {
                Err(status) if status.code() == tonic::Code::NotFound => Ok(()),
                ended => ended.and(Err(tonic::Status::data_loss("a reply in place of an error"))),
            }
        }
        Kind::GrpcGivenUp => match timeout(SHORT, client.say(say(Some(stalled)))).await {
            Err(_given_up) => Ok(()),
            Ok(ended) => ended.and(Err(tonic::Status::data_loss("a reply that nobody sent"))),
        },
        Kind::GrpcStreamGivenUp => {
            let mut replies = client.repeat(say(Some(stalled))).await?.into_inner();
            replies.message().await?.map(drop).ok_or_else(|| tonic::Status::data_loss("no message"))
        }
        Kind::Rest | Kind::RestStream | Kind::RestBrief | Kind::RestNotFound => unreachable!("no call of gRPC"),
        Kind::RestRefused | Kind::RestStreamGivenUp | Kind::Connect | Kind::GrpcWeb => unreachable!("no call of gRPC"),
    }
}

/// Whether the client gave a call up because the gateway had said GOAWAY, before it was sent or before it was looked at
/// (RFC 9113 §6.8).
fn was_never_sent(status: &tonic::Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        let closed = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
        let told = error.downcast_ref::<h2::Error>().filter(|told| told.is_go_away() && told.is_remote());
        if closed || told.is_some_and(|told| told.reason() == Some(h2::Reason::NO_ERROR)) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Connects gRPC in TLS.
struct Handshake {
    gateway: SocketAddr,
    authority: Arc<Authority>,
}

impl Service<Uri> for Handshake {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connecting = tls::connect(self.gateway, self.authority.client(&["h2"], None));
        Box::pin(async { connecting.await.map(TokioIo::new) })
    }
}
