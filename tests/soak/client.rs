//! Calls through the gateway, as clients make them.

use std::error::Error as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::codegen::Service;
use tonic::transport::{Channel, Endpoint};

use crate::backend;
use crate::backend::pb::echo_client::EchoClient;
use crate::backend::pb::{Behaviour, SayRequest};
use crate::load::{Entry, Kind};
use crate::tls::{self, Authority};

/// A connection to the gateway.
pub(crate) enum Client {
    Grpc(Box<EchoClient<Channel>>),
    /// The last one is whether the gateway has said that it takes no more requests here.
    Rest(http1::SendRequest<Full<Bytes>>, SocketAddr, bool),
}

impl Client {
    pub(crate) async fn connect(entry: &Entry, kind: Kind) -> Self {
        let gateway = entry.gateway;
        let grpc = matches!(kind, Kind::Grpc | Kind::GrpcOnce | Kind::GrpcStream);
        match &entry.authority {
            None if grpc => Self::Grpc(Box::new(backend::client(gateway).await)),
            None => {
                let stream = TcpStream::connect(gateway).await.expect("the gateway listens");
                stream.set_nodelay(true).expect("a socket");
                Self::rest(stream, gateway).await
            }
            Some(authority) if grpc => {
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
                let (path, lines) = match kind {
                    Kind::RestStream => ("/test/v1/repeat/a?behaviour.count=5", 5),
                    Kind::Grpc | Kind::GrpcOnce | Kind::GrpcStream | Kind::Rest => ("/test/v1/say/a", 1),
                };
                let request = Request::builder()
                    .method(Method::GET)
                    .uri(path)
                    .header("host", gateway.to_string())
                    .header("accept", "application/x-ndjson, application/json")
                    .body(Full::default())
                    .expect("a good request");
                sender.ready().await.map_err(|error| error.to_string())?;
                let reply = sender.send_request(request).await.map_err(|error| error.to_string())?;
                let status = reply.status();
                *over = reply.headers().get("connection").is_some_and(|value| value == "close");
                let body = reply.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
                let text = String::from_utf8_lossy(&body);
                let whole = status.is_success() && text.lines().count() == lines && !text.contains("\"error\"");
                whole.then_some(()).ok_or_else(|| format!("{status}: {text}"))
            }
        }
    }
}

async fn grpc(client: &mut EchoClient<Channel>, kind: Kind) -> Result<(), tonic::Status> {
    let request = |behaviour| SayRequest { text: "a".into(), behaviour };
    match kind {
        Kind::GrpcStream => {
            let behaviour = Behaviour { count: 5, ..Behaviour::default() };
            let mut replies = client.repeat(request(Some(behaviour))).await?.into_inner();
            let mut count = 0;
            while replies.message().await?.is_some() {
                count += 1;
            }
            (count == 5).then_some(()).ok_or_else(|| tonic::Status::data_loss(format!("{count} messages")))
        }
        Kind::GrpcOnce => client.plain(request(None)).await.map(drop),
        Kind::Grpc | Kind::Rest | Kind::RestStream => client.say(request(None)).await.map(drop),
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
