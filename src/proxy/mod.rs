//! The pipeline: what happens to a request, from its head to the last byte of its reply. Start reading here.
//!
//! [`Proxy::handle`] is the whole of it: resolve the route, adapt the request to gRPC, forward it, adapt the reply
//! back. gRPC is the only protocol on the inside. The adapters are [`native`] (gRPC), with [`recode`] and [`framed`] for
//! gRPC-Web and the streams of Connect, [`connect`] for its unary calls, [`rest`], with [`values`], [`upload`],
//! [`multipart`] and [`stream`], and [`websocket`]. Whatever goes wrong becomes one [`Error`] and is rendered in one place, [`reply`].
//!
//! **Invariant**: a [`call::Call`] is counted and logged exactly once, when its reply ends or is dropped.

mod admission;
mod admit;
mod ask;
mod attempt;
mod authenticate;
mod authorize;
pub mod body;
mod bound;
mod call;
pub(crate) mod coding;
mod compression;
mod connect;
mod cors;
mod date;
mod deadline;
mod exchange;
mod form;
mod forward;
mod framed;
mod gate;
mod hedge;
mod limits;
mod local;
mod multipart;
mod native;
mod negotiate;
mod protocol;
mod pump;
mod recode;
pub mod rehearsal;
mod remote;
mod reply;
mod resolve;
mod rest;
mod retry;
mod room;
mod spread;
mod stream;
mod timer;
mod transcoder;
mod unanswered;
mod unary;
mod upload;
mod upstream_body;
mod values;
mod websocket;
pub mod worker;

use std::cell::{Cell, OnceCell};
use std::net::SocketAddr;
use std::rc::Rc;

use http::{HeaderValue, Request, Response, request};
use rustls_pki_types::CertificateDer;

use crate::body::RequestBody;
use crate::config;
use crate::error::{Error, Reason};
use crate::grpc;
use crate::policy;
use crate::telemetry::Protocol;
use crate::upstream::{Cluster, Pick};
use body::ReplyBody;
use call::{Call, Target};
use cors::Grant;
use form::Form;
use forward::{Incoming, Outgoing};
use resolve::Route;
use room::Room;
use timer::Timer;
use transcoder::Transcoder;
use worker::Worker;

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Of the client, or of the proxy before us.
    pub address: SocketAddr,
    /// Of the listener.
    pub local: SocketAddr,
    /// Whether the connection is TLS.
    pub tls: bool,
    /// That the client showed, verified by the listener.
    pub certificate: Option<CertificateDer<'static>>,
    /// Settings of the listener.
    pub listener: Rc<config::Listener>,
    /// The client's address as it is logged.
    text: Box<str>,
    /// Its IP address as upstreams are told.
    ip: HeaderValue,
    is_cut: Cell<bool>,
    /// For its large replies, once there is one.
    room: OnceCell<Rc<Room>>,
}

impl Peer {
    /// The client of one connection, without a certificate so far; what every call tells of it is written here, once.
    pub fn new(address: SocketAddr, local: SocketAddr, tls: bool, listener: Rc<config::Listener>) -> Self {
        let ip = policy::headers::ip_value(address.ip());
        Self {
            address,
            local,
            tls,
            certificate: None,
            listener,
            text: address.to_string().into(),
            ip,
            is_cut: Cell::new(false),
            room: OnceCell::new(),
        }
    }

    /// The gateway waits no longer for the calls of this connection.
    pub fn cut(&self) {
        self.is_cut.set(true);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    fn room(&self) -> &Rc<Room> {
        self.room.get_or_init(|| Room::new(self.listener.limits.max_concurrent_streams))
    }
}

/// One worker's pipeline.
#[derive(Debug)]
pub struct Proxy {
    worker: Rc<Worker>,
}

/// What turns a reply into the caller's protocol; plans are for messages in JSON. Beside them are the encodings that the
/// upstream was told to be taken.
enum Way {
    Grpc(Option<Transcoder>, Option<HeaderValue>),
    ConnectStream(Option<Transcoder>, Option<HeaderValue>),
    ConnectUnary(Transcoder, Option<HeaderValue>),
    Rest(Transcoder),
}

/// A request in the form of a gRPC call, where it goes, and what turns the reply back.
struct Adapted {
    outgoing: Outgoing,
    cluster: Rc<Cluster>,
    pick: Pick,
    way: Way,
    timer: Timer,
}

impl Proxy {
    /// A pipeline over what one worker keeps.
    pub fn new(worker: Rc<Worker>) -> Rc<Self> {
        Rc::new(Self { worker })
    }

    /// Answers one request. Whatever happens, there is a reply.
    ///
    /// # Cancel safety
    /// Dropping the future, or the body of its reply, cancels the call upstream.
    pub async fn handle(self: Rc<Self>, peer: Rc<Peer>, request: Request<RequestBody>) -> Response<ReplyBody> {
        let prepared = self.worker.prepared();
        let snapshot = &prepared.snapshot;
        let mut call = Call::begin(&self.worker, Rc::clone(&prepared), peer, &request);
        let (mut parts, body) = request.into_parts();
        // A browser asks whether a page may call before the call, and without its credentials: nothing comes before this.
        if let Some(verdict) = cors::preflight(snapshot, &parts) {
            return cors::answer(call, verdict);
        }
        if policy::websocket::is_wanted(&parts.method, parts.version, &parts.headers, &parts.extensions) {
            call.protocol = Protocol::WebSocket;
            // Boxed, so that other calls are no larger for it.
            return Box::pin(websocket::answer(call, parts, body, &self.worker)).await;
        }
        let uri = parts.uri.clone();
        let resolved = resolve::resolve(snapshot, &mut call, &parts, uri.path());
        // Every reply passes through the grant, errors too: a page can only read what says that it may.
        let grant = Grant::of(snapshot, &call, &parts);
        let route = match resolved {
            Ok(route) => route,
            Err(error) => return grant.give(reply::error(call, &error)),
        };
        let is_rest = matches!(route, Route::Rest { .. });
        let streams = is_rest && call.method().is_some_and(|method| method.server_streaming);
        let form = streams.then(|| Form::wanted(&parts.headers));
        grant.give(match route {
            Route::Local(service) => match local::admit(&mut call, service, &mut parts).await {
                Ok(timer) => {
                    let gate = limits::gate(&mut call, &parts);
                    local::answer(call, service, body, gate, timer, &self.worker)
                }
                Err(error) => reply::error(call, &error),
            },
            Route::Options(allow) => reply::options(call, allow),
            route => match self.forward(&mut call, route, parts, body).await {
                Ok((Way::Grpc(plan, accepted), incoming)) => native::adapt_out(call, plan, accepted.as_ref(), incoming),
                Ok((Way::ConnectStream(plan, accepted), incoming)) => {
                    framed::connect_stream(call, plan, accepted.as_ref(), incoming)
                }
                Ok((Way::ConnectUnary(plan, accepted), incoming)) => {
                    connect::adapt_out(call, &plan, accepted.as_ref(), incoming).await
                }
                Ok((Way::Rest(plan), incoming)) => match form {
                    Some(form) => stream::adapt_out(call, plan, form, incoming).await,
                    None => rest::adapt_out(call, &plan, incoming).await,
                },
                Err(error) => reply::error(call, &error),
            },
        })
    }

    async fn forward(
        &self,
        call: &mut Call,
        route: Route<'_>,
        parts: request::Parts,
        body: RequestBody,
    ) -> Result<(Way, Incoming), Error> {
        let Adapted { outgoing, cluster, pick, way, timer } = self.prepare(call, route, parts, body).await?;
        call.forwarded();
        let rules = call.attempt_rules();
        let incoming = forward::send(&cluster, outgoing, pick, timer, rules, &mut call.trail).await?;
        Ok((way, incoming))
    }

    /// Everything before the upstream: admits the call and adapts it, and lets its first message through the limits.
    async fn prepare(
        &self,
        call: &mut Call,
        route: Route<'_>,
        mut parts: request::Parts,
        body: RequestBody,
    ) -> Result<Adapted, Error> {
        let cluster = call.upstream_index().map(|index| Rc::clone(call.prepared.cluster(index)));
        let cluster = cluster.ok_or_else(|| Error::new(Reason::MethodUnknown, "no upstream serves this method"))?;
        let mut timer = call.timer(&parts)?;
        admit::admit(call, &mut parts, &mut timer).await?;
        let gate = limits::gate(call, &parts);
        let pick = spread::pick(&cluster, call, &parts);
        let (mut outgoing, way) = self.adapt_in(call, route, parts, body, &mut timer).await?;
        if let Some(gate) = gate {
            limits::pass(call, gate, &mut outgoing, &mut timer).await?;
        }
        Ok(Adapted { outgoing, cluster, pick, way, timer })
    }

    /// Everything between admission and the upstream.
    async fn adapt_in(
        &self,
        call: &mut Call,
        route: Route<'_>,
        parts: request::Parts,
        body: RequestBody,
        timer: &mut Timer,
    ) -> Result<(Outgoing, Way), Error> {
        let path = match call.target() {
            Target::Method(index) => call.prepared.path(index, &self.worker),
            Target::Upstream(_) | Target::Unknown => parts
                .uri
                .path()
                .parse()
                .map_err(|_| Error::new(Reason::InvalidPath, "the path cannot be sent upstream"))?,
        };
        Ok(match route {
            Route::Rest { binding: _, plan, captures }
                if plan.request.takes_body() && call.method().is_some_and(|method| method.client_streaming) =>
            {
                let adapt = match () {
                    () if plan.request.takes_http_body() => upload::adapt_in,
                    () if multipart::is_form(&parts.headers) => multipart::adapt_in,
                    () => values::adapt_in,
                };
                (adapt(call, path, &plan, &captures, &parts, body)?, Way::Rest(plan))
            }
            Route::Rest { binding: _, plan, captures } => {
                (rest::adapt_in(call, path, &plan, &captures, &parts, body, timer).await?, Way::Rest(plan))
            }
            Route::ConnectUnary(plan) => {
                let outgoing = connect::adapt_in(call, path, &plan, &parts, body, timer).await?;
                let accepted = accepted(&outgoing);
                (outgoing, Way::ConnectUnary(plan, accepted))
            }
            Route::ConnectStream(plan) => {
                let outgoing = native::adapt_in_framed(call, path, plan.as_ref(), &parts, body)?;
                let accepted = accepted(&outgoing);
                (outgoing, Way::ConnectStream(plan, accepted))
            }
            Route::Grpc(plan) if call.protocol == Protocol::GrpcWeb => {
                let outgoing = native::adapt_in_framed(call, path, plan.as_ref(), &parts, body)?;
                let accepted = accepted(&outgoing);
                (outgoing, Way::Grpc(plan, accepted))
            }
            Route::Grpc(plan) => (native::adapt_in(call, path, plan.as_ref(), parts, body)?, Way::Grpc(plan, None)),
            Route::Local(_) | Route::Options(_) => {
                return Err(Error::new(Reason::MethodUnknown, "no upstream serves this method"));
            }
        })
    }
}

/// The encodings that an upstream is told to be taken.
fn accepted(outgoing: &Outgoing) -> Option<HeaderValue> {
    outgoing.headers.get(grpc::ACCEPT_ENCODING).cloned()
}
