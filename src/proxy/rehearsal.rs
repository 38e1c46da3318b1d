//! What would become of a request, without sending it: the pipeline up to the point where the upstream is called.
//!
//! It runs the same steps as [`Proxy::handle`], with the same errors in the same form, so that an explanation cannot say
//! anything else than the gateway does.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};

use super::call::{Call, Target};
use super::resolve::{self, Route};
use super::{Adapted, Peer, Proxy, cors, local};
use crate::body::RequestBody;
use crate::error::Error;
use crate::grpc::frame::PREFIX;
use crate::telemetry::Protocol;

/// How far a request came.
#[derive(Debug)]
pub struct Rehearsal {
    /// What it speaks.
    pub protocol: Protocol,
    /// Index of its method in the snapshot, when a schema knows it.
    pub method: Option<usize>,
    /// Index of its upstream in the snapshot.
    pub upstream: Option<usize>,
    /// The providers that vouch for its caller.
    pub callers: Vec<String>,
    /// The HTTP route that it matched.
    pub matched: Option<Matched>,
    /// How it would end.
    pub verdict: Verdict,
}

/// A match of a REST request.
#[derive(Debug)]
pub struct Matched {
    /// Index of the binding in the snapshot; `None` for a call by the method's own name.
    pub binding: Option<usize>,
    /// Decoded values of the template's variables, in order.
    pub captures: Vec<String>,
}

/// How a request would end.
#[derive(Debug)]
pub enum Verdict {
    /// It would be sent upstream.
    Sent(Sent),
    /// The gateway answers it itself: reflection or health.
    Local,
    /// It asks which methods the path takes, and this is the answer.
    Options(HeaderValue),
    /// It asks whether a page of another origin may call, and this is the answer.
    Preflight(HeaderMap),
    /// It would be refused.
    Refused(Error),
}

/// What the upstream would get.
#[derive(Debug)]
pub struct Sent {
    /// `:path`.
    pub path: String,
    /// Without `grpc-timeout`, which stands for `deadline`.
    pub headers: HeaderMap,
    /// Time until the whole call must be over.
    pub deadline: Option<Duration>,
    /// The encoded request; `None` when the client's own messages pass.
    pub message: Option<Bytes>,
}

impl Proxy {
    /// Does everything but to send the request and to answer it.
    pub async fn rehearse(&self, peer: Rc<Peer>, request: Request<Bytes>) -> Rehearsal {
        let prepared = self.worker.prepared();
        let request = request.map(RequestBody::Whole);
        let mut call = Call::begin(&self.worker, Rc::clone(&prepared), peer, &request);
        call.rehearsed = true;
        let (mut parts, body) = request.into_parts();
        let uri = parts.uri.clone();
        let mut matched = None;
        let outcome = match cors::preflight(&prepared.snapshot, &parts) {
            Some(verdict) => verdict.map(Verdict::Preflight),
            None => match resolve::resolve(&prepared.snapshot, &mut call, &parts, uri.path()) {
                Ok(Route::Local(service)) => local::admit(&mut call, service, &mut parts).await.map(|_| Verdict::Local),
                Ok(Route::Options(allow)) => Ok(Verdict::Options(allow)),
                Ok(route) => {
                    if let Route::Rest { binding, captures, plan: _ } = &route {
                        let captures = captures.iter().cloned().map(Cow::into_owned).collect();
                        matched = Some(Matched { binding: *binding, captures });
                    }
                    self.prepare(&mut call, route, parts, body).await.map(|adapted| Verdict::Sent(sent(&call, adapted)))
                }
                Err(error) => Err(error),
            },
        };
        let method = match call.target() {
            Target::Method(index) => Some(index),
            Target::Upstream(_) | Target::Unknown => None,
        };
        Rehearsal {
            protocol: call.protocol,
            method,
            upstream: call.upstream_index(),
            callers: call.identity.iter().map(|identity| identity.source().to_owned()).collect(),
            matched,
            verdict: outcome.unwrap_or_else(Verdict::Refused),
        }
    }
}

fn sent(call: &Call, adapted: Adapted) -> Sent {
    let Adapted { outgoing, timer, cluster: _, pick: _, way: _ } = adapted;
    Sent {
        path: outgoing.path.to_string(),
        headers: outgoing.headers,
        deadline: timer.deadline().map(|deadline| deadline - call.started),
        message: outgoing.body.frame().map(|frame| frame.slice(PREFIX..)),
    }
}
