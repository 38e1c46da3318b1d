//! The demo's gRPC server: one TCP listener, the services chosen by the first segment of the path.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::transport::server::{Server, TcpIncoming};

use super::health::Health;
use super::library::Library;
use super::reflection::Reflection;
use crate::pb::grpc::health::v1::health_check_response::ServingStatus;
use crate::pb::grpc::health::v1::health_server::HealthServer;
use crate::pb::grpc::reflection::v1::server_reflection_server::ServerReflectionServer;
use crate::pb::grpc::reflection::v1alpha::server_reflection_server::ServerReflectionServer as AlphaServer;
use crate::pb::portico::library::v1::library_server::LibraryServer;

/// Calls at once on one connection.
const MOST_STREAMS: u32 = 256;
/// How long calls may take to end once the server is to stop.
const GRACE: Duration = Duration::from_secs(1);

/// Serves the demo on `listener` until `shutdown` completes and the calls then running have ended, at most a second
/// later.
///
/// The listener is bound by the caller, who thereby knows the address before the server runs.
///
/// # Errors
/// The listener cannot be used with the runtime, or accepting failed for good.
///
/// # Cancel safety
/// Dropping the future stops accepting; connections made before live on until their clients leave.
pub async fn start(listener: TcpListener, shutdown: impl Future<Output = ()> + Send) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener)?).with_nodelay(Some(true));
    let (state, states) = watch::channel(ServingStatus::Serving);
    let library = Library::new();
    let reflection = Reflection::new();
    let services = Services {
        library: LibraryServer::new(library.clone()),
        health: HealthServer::new(Health::new(states)),
        reflection: ServerReflectionServer::new(reflection.clone()),
        reflection_alpha: AlphaServer::new(reflection),
    };
    let (stopping, mut stopped) = watch::channel(());
    let closing = async move {
        shutdown.await;
        state.send_replace(ServingStatus::NotServing);
        library.close();
        // Dropping `state` ends the health watches, dropping `stopping` starts the clock of the last second.
        drop(stopping);
    };
    let server = Server::builder()
        .max_concurrent_streams(MOST_STREAMS)
        .serve_with_incoming_shutdown(services, incoming, closing);
    let out_of_time = async {
        // Fails when the sender is dropped, which is the signal.
        stopped.changed().await.ok();
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = server => served.map_err(io::Error::other),
        () = out_of_time => Ok(()),
    }
}

/// Every service of the demo behind one port.
#[derive(Debug, Clone)]
struct Services {
    library: LibraryServer<Library>,
    health: HealthServer<Health>,
    reflection: ServerReflectionServer<Reflection>,
    reflection_alpha: AlphaServer<Reflection>,
}

impl Service<Request<Body>> for Services {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match request.uri().path().split('/').nth(1) {
            Some("grpc.health.v1.Health") => self.health.call(request),
            Some("grpc.reflection.v1.ServerReflection") => self.reflection.call(request),
            Some("grpc.reflection.v1alpha.ServerReflection") => self.reflection_alpha.call(request),
            // Answers UNIMPLEMENTED for whatever is not its own.
            _ => self.library.call(request),
        }
    }
}
