//! grpc.health.v1 of the demo: serving from the start, not serving once it stops.
//!
//! See <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>.

use tokio::sync::watch;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::WatchStream;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use crate::pb::grpc::health::v1::health_check_response::ServingStatus;
use crate::pb::grpc::health::v1::{HealthCheckRequest, HealthCheckResponse, health_server};
use crate::pb::portico::library::v1::library_server;

/// The service; one state for the server as a whole and for the library.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    state: watch::Receiver<ServingStatus>,
}

impl Health {
    /// Watches end when the sender behind `state` is dropped.
    pub(crate) fn new(state: watch::Receiver<ServingStatus>) -> Self {
        Self { state }
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        if !is_known(&request.get_ref().service) {
            return Err(Status::not_found("unknown service"));
        }
        Ok(Response::new(reply(*self.state.borrow())))
    }

    type WatchStream = BoxStream<HealthCheckResponse>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let known = is_known(&request.get_ref().service);
        let states = WatchStream::new(self.state.clone());
        // An unknown service is told once and never changes, so later states of the server are left out.
        let mut told = false;
        let replies = states.filter_map(move |state| {
            let repeated = std::mem::replace(&mut told, true) && !known;
            (!repeated).then(|| Ok(reply(if known { state } else { ServingStatus::ServiceUnknown })))
        });
        Ok(Response::new(Box::pin(replies)))
    }
}

fn is_known(service: &str) -> bool {
    service.is_empty() || service == library_server::SERVICE_NAME
}

fn reply(state: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: state.into() }
}
