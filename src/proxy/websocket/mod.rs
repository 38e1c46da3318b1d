//! WebSocket for methods with a stream: text frames are JSON, binary frames are protobuf, each one message.
//!
//! A connection given over to the protocol is a request's body of bytes and a reply's body of bytes, whichever version of
//! HTTP it came by, so that nothing here knows of sockets. [`Socket`] reads and writes frames over those bytes;
//! [`MessageFrames`] makes frames of gRPC out of what it reads, and [`SocketBody`] writes what comes back.
//!
//! **Invariant**: the handshake is answered before the upstream has said anything; until then every refusal is plain HTTP.

mod reply;
mod request;
mod socket;

use std::cell::RefCell;
use std::rc::Rc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Response, StatusCode, Version, request as http_request};

use super::admit::admit;
use super::body::ReplyBody;
use super::call::{Call, Target};
use super::forward::{self, Outgoing};
use super::pump::Source;
use super::resolve::{self, Captures};
use super::timer::Timer;
use super::transcoder::Transcoder;
use super::worker::Worker;
use super::{cors, date, limits, reply as replies, rest, spread};
use crate::body::RequestBody;
use crate::error::{Error, Reason};
use crate::policy;
use crate::policy::cors::Own;
use crate::policy::websocket::{self, BadHandshake, Handshake};
use crate::snapshot::Snapshot;
use crate::transcode::Input;
use crate::upstream::{Cluster, Pick};
use reply::Sending;
use socket::Socket;

pub(crate) use reply::SocketBody;
pub(crate) use request::MessageFrames;

/// Answers a request for a WebSocket.
pub(crate) async fn answer(
    mut call: Box<Call>,
    parts: http_request::Parts,
    body: RequestBody,
    worker: &Worker,
) -> Response<ReplyBody> {
    match open(&mut call, parts, body, worker).await {
        Ok(opened) => {
            let status = match call.version {
                // RFC 8441 §5: over HTTP/2 a tunnel is a success, not another protocol.
                Version::HTTP_2 => StatusCode::OK,
                _ => StatusCode::SWITCHING_PROTOCOLS,
            };
            let mut headers = opened.headers;
            date::put(&mut headers, call.version);
            replies::echo_identifiers(&mut headers, &call);
            call.http_status = Some(status);
            let body = SocketBody::new(opened.socket, opened.sending, opened.plan, call);
            let mut response = Response::new(ReplyBody::socket(Box::new(body)));
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            response
        }
        Err(error) => replies::error(call, &error),
    }
}

/// A WebSocket whose handshake is good.
struct Opened {
    headers: HeaderMap,
    socket: Rc<RefCell<Socket>>,
    sending: Sending,
    plan: Transcoder,
}

async fn open(
    call: &mut Call,
    parts: http_request::Parts,
    body: RequestBody,
    worker: &Worker,
) -> Result<Opened, Error> {
    let prepared = Rc::clone(&call.prepared);
    let path = parts.uri.path().to_owned();
    let found = find(&prepared.snapshot, call, &path)?;
    let Ready { headers, socket, mut outgoing, mut timer, cluster, pick } =
        prepare(call, &found, parts, body, worker).await?;
    let rules = call.attempt_rules();
    call.forwarded();
    let sending = Box::pin(async move {
        let mut trail = forward::Trail::default();
        if let Err(refused) = outgoing.body.open(&mut timer).await {
            return (trail, Err(refused));
        }
        let sent = forward::send(&cluster, outgoing, pick, timer, rules, &mut trail).await;
        (trail, sent)
    });
    Ok(Opened { headers, socket, sending, plan: found.plan })
}

/// A WebSocket whose handshake is good, and its call before any of it is sent.
pub(super) struct Ready {
    headers: HeaderMap,
    socket: Rc<RefCell<Socket>>,
    pub(super) outgoing: Outgoing,
    pub(super) timer: Timer,
    cluster: Rc<Cluster>,
    pick: Pick,
}

/// Everything before the upstream.
pub(super) async fn prepare(
    call: &mut Call,
    found: &Found<'_>,
    mut parts: http_request::Parts,
    body: RequestBody,
    worker: &Worker,
) -> Result<Ready, Error> {
    let prepared = Rc::clone(&call.prepared);
    let method = &prepared.snapshot.methods[found.method];
    let own = Own { uri: &parts.uri, tls: call.peer.tls };
    if !policy::cors::admits(cors::of(&prepared.snapshot, call), &parts.headers, &own) {
        return Err(Error::new(Reason::OriginNotAllowed, "pages of that origin may not open a WebSocket here"));
    }
    let Handshake { reply: headers, authorization } =
        websocket::accept(parts.version, &parts.headers).map_err(refused)?;
    if !matches!(body, RequestBody::Tunnel(_) | RequestBody::Http2(_)) {
        return Err(Error::new(Reason::InvalidHeader, "the handshake of a WebSocket has no body"));
    }
    if let Some(authorization) = authorization {
        parts.headers.insert(AUTHORIZATION, authorization);
    }
    let mut timer = call.timer(&parts)?;
    admit(call, &mut parts, &mut timer).await?;
    let gate = limits::gate(call, &parts);
    let metadata = rest::metadata(call, &parts)?;
    let limit = call.settings().max_request_message;
    let socket = Rc::new(RefCell::new(Socket::new(body, limit)));
    let body = source(call, found, &parts, &socket)?;
    let mut outgoing = Outgoing { path: prepared.path(found.method, worker), headers: metadata, body };
    if let Some(gate) = gate {
        limits::put(gate, &mut outgoing, limit);
    }
    let cluster = Rc::clone(prepared.cluster(method.upstream));
    let pick = spread::pick(&cluster, call, &parts);
    Ok(Ready { headers, socket, outgoing, timer, cluster, pick })
}

/// A method and how its messages are bound.
pub(super) struct Found<'p> {
    method: usize,
    /// Index of the binding whose template it was; `None` for the method's own name.
    pub(super) binding: Option<usize>,
    plan: Transcoder,
    pub(super) captures: Captures<'p>,
}

/// The method that a path means, by its name or by a template, whatever that one's HTTP method.
pub(super) fn find<'p>(snapshot: &Snapshot, call: &mut Call, path: &'p str) -> Result<Found<'p>, Error> {
    let streams = |method: usize| !snapshot.methods[method].is_unary();
    let not_a_stream = |method: usize| {
        let name = &snapshot.methods[method].name;
        Error::new(Reason::NotAStream, format!("{name} has no stream; call it with an ordinary request"))
    };
    if let Some(method) = snapshot.method_at(path) {
        call.set_target(Target::Method(method));
        if !streams(method) {
            return Err(not_a_stream(method));
        }
        let plan = Transcoder::of_method(&call.prepared, method);
        return Ok(Found { method, binding: None, plan, captures: Captures::new() });
    }
    let router = &snapshot.router;
    let found = router.find_any(path, |binding| streams(snapshot.bindings[*binding].method));
    let Ok(found) = found else {
        return Err(match router.find_any(path, |_| true) {
            Ok(unary) => {
                let method = snapshot.bindings[*unary.target].method;
                call.set_target(Target::Method(method));
                not_a_stream(method)
            }
            Err(miss) => resolve::missed(snapshot, &miss, path),
        });
    };
    let binding = &snapshot.bindings[*found.target];
    let captures = found.captures.iter().map(|capture| capture.decode(path)).collect::<Result<_, _>>();
    let captures = captures.map_err(resolve::bad_path)?;
    call.set_target(Target::Method(binding.method));
    let plan = Transcoder::of_binding(&call.prepared, *found.target);
    Ok(Found { method: binding.method, binding: Some(*found.target), plan, captures })
}

fn refused(bad: BadHandshake) -> Error {
    match bad {
        BadHandshake::Version => Error::new(
            Reason::WebSocketVersion,
            "only version 13 of WebSocket is spoken here, named by the header sec-websocket-version",
        ),
        BadHandshake::Key => {
            Error::new(Reason::InvalidHeader, "header sec-websocket-key: expected 16 bytes in base64, once")
        }
        BadHandshake::Protocol => Error::new(
            Reason::InvalidHeader,
            "header sec-websocket-protocol: expected names of protocols, or of one token as documented",
        ),
    }
}

/// Where the messages of the call come from: path and query alone, or the client's frames.
fn source(
    call: &Call,
    found: &Found<'_>,
    parts: &http_request::Parts,
    socket: &Rc<RefCell<Socket>>,
) -> Result<Source, Error> {
    let Found { method, binding: _, plan, captures } = found;
    if call.prepared.snapshot.methods[*method].client_streaming || plan.request.takes_body() {
        return MessageFrames::new(call, *method, plan, captures, parts, Rc::clone(socket))
            .map(|messages| Source::Socket(Box::new(messages)));
    }
    socket.borrow_mut().expect_no_message();
    let input = Input { captures, headers: Some(&parts.headers), query: parts.uri.query(), ..Input::default() };
    let settings = call.settings();
    plan.frame(&input, settings.json, settings.max_request_message).map(Source::Frame)
}
