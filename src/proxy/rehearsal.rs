//! What would become of a request, without sending it: the pipeline up to the point where the upstream is called.
//!
//! It runs the same steps as [`Proxy::handle`], with the same errors in the same form, so that an explanation cannot say
//! anything else than the gateway does.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, request};

use super::call::{Call, Target};
use super::forward::Outgoing;
use super::resolve::{self, Route};
use super::timer::Timer;
use super::{Peer, Proxy, cors, local, websocket};
use crate::body::{RequestBody, Tunnel};
use crate::config::retry::{Hedge, Retry};
use crate::error::Error;
use crate::grpc::frame::PREFIX;
use crate::policy;
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
    /// The HTTP route that it matched, or the one that its WebSocket is at.
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
    /// When it would be sent again.
    pub retry: Option<Arc<Retry>>,
    /// When it would be sent to several endpoints.
    pub hedge: Option<Arc<Hedge>>,
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
            None if policy::websocket::is_wanted(&parts.method, parts.version, &parts.headers, &parts.extensions) => {
                call.protocol = Protocol::WebSocket;
                self.rehearse_websocket(&mut call, parts, &mut matched).await.map(Verdict::Sent)
            }
            None => match resolve::resolve(&prepared.snapshot, &mut call, &parts, uri.path()) {
                Ok(Route::Local(service)) => local::admit(&mut call, service, &mut parts).await.map(|_| Verdict::Local),
                Ok(Route::Options(allow)) => Ok(Verdict::Options(allow)),
                Ok(route) => {
                    if let Route::Rest { binding, captures, plan: _ } = &route {
                        let captures = captures.iter().cloned().map(Cow::into_owned).collect();
                        matched = Some(Matched { binding: *binding, captures });
                    }
                    let adapted = self.prepare(&mut call, route, parts, body).await;
                    adapted.map(|adapted| Verdict::Sent(sent(&call, adapted.outgoing, &adapted.timer)))
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

    async fn rehearse_websocket(
        &self,
        call: &mut Call,
        parts: request::Parts,
        matched: &mut Option<Matched>,
    ) -> Result<Sent, Error> {
        let prepared = Rc::clone(&call.prepared);
        let path = parts.uri.path().to_owned();
        let found = websocket::find(&prepared.snapshot, call, &path)?;
        let captures = found.captures.iter().cloned().map(Cow::into_owned).collect();
        *matched = Some(Matched { binding: found.binding, captures });
        // Nobody says anything over it.
        let (_entrance, tunnel) = Tunnel::new();
        let ready = websocket::prepare(call, &found, parts, RequestBody::Tunnel(tunnel), &self.worker).await?;
        Ok(sent(call, ready.outgoing, &ready.timer))
    }
}

fn sent(call: &Call, outgoing: Outgoing, timer: &Timer) -> Sent {
    let rules = call.attempt_rules();
    Sent {
        path: outgoing.path.to_string(),
        headers: outgoing.headers,
        deadline: timer.deadline().map(|deadline| deadline - call.started),
        message: outgoing.body.frame().map(|frame| frame.slice(PREFIX..)),
        retry: rules.retry.clone(),
        hedge: rules.hedge.clone(),
    }
}
