//! An external authorizer of Envoy's protocol, on a tonic server of its own, that answers as a test says.
#![allow(dead_code, reason = "a toolbox: not every test run uses every tool")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use portico::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use portico::pb::envoy::service::auth::v3::authorization_server::{Authorization, AuthorizationServer};
use portico::pb::envoy::service::auth::v3::check_response::HttpResponse;
use portico::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse};
use portico::pb::envoy::r#type::v3::HttpStatus;
use portico::pb::google::rpc::Status as RpcStatus;
use tokio::net::TcpListener;
use tonic::transport::server::{Server, TcpIncoming};
use tonic::{Request, Response, Status};

/// Makes an answer of a question; `None` is none at all, for ever.
pub(crate) type Decide = fn(&CheckRequest) -> Option<Result<CheckResponse, Status>>;

/// A running authorizer, for as long as the test.
pub(crate) struct Authorizer {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<CheckRequest>>>,
}

struct Service {
    decide: Decide,
    asked: Arc<Mutex<Vec<CheckRequest>>>,
}

impl Authorizer {
    pub(crate) async fn start(decide: Decide) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let asked = Arc::new(Mutex::default());
        let service = AuthorizationServer::new(Service { decide, asked: Arc::clone(&asked) });
        tokio::spawn(Server::builder().serve_with_incoming(service, TcpIncoming::from(listener)));
        Self { address, asked }
    }

    /// Every question so far.
    pub(crate) fn asked(&self) -> Vec<CheckRequest> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[tonic::async_trait]
impl Authorization for Service {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let question = request.into_inner();
        let answer = (self.decide)(&question);
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(question);
        match answer {
            Some(answer) => answer.map(Response::new),
            None => std::future::pending().await,
        }
    }
}

/// A header of a question.
pub(crate) fn header<'q>(question: &'q CheckRequest, name: &str) -> Option<&'q str> {
    let http = question.attributes.as_ref()?.request.as_ref()?.http.as_ref()?;
    http.headers.get(name).map(String::as_str)
}

/// A header of an answer.
pub(crate) fn set(name: &str, value: &str) -> HeaderValueOption {
    let header = HeaderValue { key: name.into(), value: value.into(), raw_value: Vec::new() };
    HeaderValueOption { header: Some(header), ..HeaderValueOption::default() }
}

/// The call passes.
pub(crate) fn allowed(ok: OkHttpResponse) -> CheckResponse {
    CheckResponse { status: Some(RpcStatus::default()), http_response: Some(HttpResponse::OkResponse(ok)) }
}

/// It does not.
pub(crate) fn denied(code: i32, status: i32, headers: Vec<HeaderValueOption>, body: &str) -> CheckResponse {
    let denied = DeniedHttpResponse {
        status: (status != 0).then_some(HttpStatus { code: status }),
        headers,
        body: body.to_owned(),
    };
    CheckResponse {
        status: Some(RpcStatus { code, ..RpcStatus::default() }),
        http_response: Some(HttpResponse::DeniedResponse(denied)),
    }
}
