//! The HTTP side of the backend: chooses the service by path, notes the head of each request for it, and adds the
//! trailers that it wants, which tonic has no way to say.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, CompressionEncoding, Service};

use portico::pb::grpc::health::v1::health_server::HealthServer;

use super::echo::Echo;
use super::health::Health;
use super::pb::echo_server::EchoServer;
use super::reflection::Reflector;
use super::{Options, Seen, Tally};

/// Largest message that the backend takes: more than any limit of the gateway.
const LARGEST_MESSAGE: usize = 256 << 20;

/// All that one backend serves.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    echo: EchoServer<Echo>,
    reflector: Reflector,
    health: Option<HealthServer<Health>>,
    gzip_unasked: bool,
}

/// Left by the service in the response's extensions.
#[derive(Debug, Clone)]
pub(crate) struct Trailers(pub(crate) HeaderMap);

impl Services {
    pub(crate) fn new(options: &Options, tally: &Tally) -> Self {
        let mut echo = EchoServer::new(Echo::new(tally.clone()))
            .max_decoding_message_size(LARGEST_MESSAGE)
            .accept_compressed(CompressionEncoding::Gzip);
        if options.gzip || options.gzip_unasked {
            echo = echo.send_compressed(CompressionEncoding::Gzip);
        }
        let health = options.health.clone().map(HealthServer::new);
        let health = health.map(|health| health.send_compressed(CompressionEncoding::Gzip));
        let reflector = Reflector::new(options.reflection, &options.descriptors);
        Self { echo, reflector, health, gzip_unasked: options.gzip_unasked }
    }
}

impl Service<Request<Body>> for Services {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let seen = Seen::of(&request);
        request.extensions_mut().insert(seen);
        if self.gzip_unasked {
            // tonic itself compresses only for those who ask.
            request.headers_mut().insert("grpc-accept-encoding", HeaderValue::from_static("gzip"));
        }
        let response = match self.reflector.call(&mut request) {
            Some(response) => response,
            None => match &mut self.health {
                Some(health) if request.uri().path().starts_with("/grpc.health.v1.Health/") => health.call(request),
                _ => self.echo.call(request),
            },
        };
        Box::pin(async move {
            let mut response = response.await?;
            Ok(match response.extensions_mut().remove::<Trailers>() {
                Some(Trailers(trailers)) => response.map(|body| Body::new(WithTrailers { body, trailers })),
                None => response,
            })
        })
    }
}

/// A body whose trailers have more entries.
struct WithTrailers {
    body: Body,
    trailers: HeaderMap,
}

impl http_body::Body for WithTrailers {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            trailers.extend(std::mem::take(&mut self.trailers));
        }
        Poll::Ready(frame)
    }
}
