//! The health service of a backend, whose answers a test can change.

use std::pin::Pin;
use std::sync::Arc;

use portico::pb::grpc::health::v1::health_check_response::ServingStatus;
use portico::pb::grpc::health::v1::health_server;
use portico::pb::grpc::health::v1::{HealthCheckRequest, HealthCheckResponse};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

/// What a backend tells of its health; clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Health(Arc<Told>);

#[derive(Debug)]
struct Told {
    serving: watch::Sender<bool>,
    /// The only service that it knows, if not all are.
    service: Option<&'static str>,
    asked: watch::Sender<usize>,
}

impl Health {
    /// Tells that of every service.
    pub(crate) fn new(serving: bool) -> Self {
        Self(Arc::new(Told { serving: watch::Sender::new(serving), service: None, asked: watch::Sender::new(0) }))
    }

    /// Serves this service and knows no other.
    pub(crate) fn of(service: &'static str) -> Self {
        let (serving, asked) = (watch::Sender::new(true), watch::Sender::new(0));
        Self(Arc::new(Told { serving, service: Some(service), asked }))
    }

    /// Tells something else from now on.
    pub(crate) fn set(&self, serving: bool) {
        self.0.serving.send_replace(serving);
    }

    /// Waits until it was asked so often in all.
    pub(crate) async fn asked(&self, times: usize) {
        let mut asked = self.0.asked.subscribe();
        let waiting = asked.wait_for(|asked| *asked >= times);
        let waited = tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await;
        assert!(waited.is_ok(), "it was not asked {times} times");
    }

    fn answer(serving: bool) -> HealthCheckResponse {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        HealthCheckResponse { status: status.into() }
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        self.0.asked.send_modify(|asked| *asked += 1);
        if self.0.service.is_some_and(|known| known != request.get_ref().service) {
            return Err(Status::not_found("unknown service"));
        }
        Ok(Response::new(Self::answer(*self.0.serving.borrow())))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.0.asked.send_modify(|asked| *asked += 1);
        let told = WatchStream::new(self.0.serving.subscribe()).map(|serving| Ok(Self::answer(serving)));
        Ok(Response::new(Box::pin(told)))
    }
}
