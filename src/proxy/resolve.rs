//! Which method a request means.

use std::borrow::Cow;

use http::{HeaderValue, Method, Version, request};
use smallvec::SmallVec;

use super::call::{Call, Target};
use super::protocol::{CONNECT_VERSION, Codec, Framing};
use super::transcoder::Transcoder;
use super::{connect, local};
use crate::error::{Error, Reason};
use crate::route::{Allow, BadPath, Miss};
use crate::snapshot::{Known, Snapshot};
use crate::telemetry::Protocol;

/// What is to be done with a request.
#[derive(Debug)]
pub(crate) enum Route<'p> {
    /// Pass its messages on, in JSON by that plan; the target is in the call.
    Grpc(Option<Transcoder>),
    /// The same for a stream of Connect.
    ConnectStream(Option<Transcoder>),
    /// One message each way.
    ConnectUnary(Transcoder),
    /// Turn it into a message.
    Rest {
        /// Index of the binding; `None` for a call by the method's own name.
        binding: Option<usize>,
        /// How.
        plan: Transcoder,
        /// The decoded text of the template's variables, in order.
        captures: Captures<'p>,
    },
    /// Answer it here.
    Local(local::Service),
    /// Say which methods the path takes.
    Options(HeaderValue),
}

/// Decoded path variables; few methods have more than four.
pub(crate) type Captures<'p> = SmallVec<[Cow<'p, str>; 4]>;

/// Finds out what a request means, and notes its target in the call.
///
/// # Errors
/// Nothing is meant, or not by this HTTP method or in this form.
pub(crate) fn resolve<'p>(
    snapshot: &Snapshot,
    call: &mut Call,
    parts: &request::Parts,
    path: &'p str,
) -> Result<Route<'p>, Error> {
    if !path.starts_with('/') {
        return Err(Error::new(Reason::InvalidPath, BadPath::NoLeadingSlash.to_string()));
    }
    match call.protocol {
        Protocol::Grpc | Protocol::GrpcWeb => grpc(snapshot, call, parts, path),
        Protocol::Connect => connect(snapshot, call, parts, path),
        Protocol::Rest | Protocol::WebSocket => rest(snapshot, call, parts, path),
    }
}

fn grpc<'p>(snapshot: &Snapshot, call: &mut Call, parts: &request::Parts, path: &'p str) -> Result<Route<'p>, Error> {
    let native = call.protocol == Protocol::Grpc;
    if native && parts.version != Version::HTTP_2 {
        return Err(Error::new(Reason::MethodUnsupported, "gRPC needs HTTP/2, this request came over HTTP/1"));
    }
    if parts.method != Method::POST {
        let message = format!("gRPC calls are POST requests, this is {}", parts.method);
        return Err(Error::new(Reason::MethodNotAllowed, message).with_allow(HeaderValue::from_static("POST")));
    }
    if call.dialect.codec == Codec::Unknown {
        return Err(Error::new(Reason::MethodUnsupported, "messages are in proto or json, nothing else is known here"));
    }
    if native && let Some(service) = local::Service::at(path, snapshot.config.serve) {
        return Ok(Route::Local(service));
    }
    match snapshot.resolve(path) {
        Known::Method(index) => call.set_target(Target::Method(index)),
        Known::Upstream(index) => call.set_target(Target::Upstream(index)),
        Known::Nobody => return Err(unknown_method(snapshot, path)),
    }
    let plan = match (call.dialect.codec, call.target()) {
        (Codec::Json, Target::Method(index)) => Some(Transcoder::of_method(&call.prepared, index)),
        // Only a schema knows what JSON means.
        (Codec::Json, _) => return Err(unknown_method(snapshot, path)),
        (Codec::Proto | Codec::Unknown, _) => None,
    };
    Ok(Route::Grpc(plan))
}

fn connect<'p>(
    snapshot: &Snapshot,
    call: &mut Call,
    parts: &request::Parts,
    path: &'p str,
) -> Result<Route<'p>, Error> {
    let index = snapshot.method_at(path).ok_or_else(|| unknown_method(snapshot, path))?;
    call.set_target(Target::Method(index));
    let method = &snapshot.methods[index];
    let is_get = call.dialect.framing == Framing::ConnectGet;
    if is_get {
        call.dialect.codec = connect::codec_of(parts.uri.query().unwrap_or_default());
    }
    let allowed = if is_get { method.side_effect_free } else { parts.method == Method::POST };
    if !allowed {
        let allow = if method.side_effect_free { "GET, POST" } else { "POST" };
        return Err(not_allowed(parts, HeaderValue::from_static(allow)));
    }
    if let Some(version) = parts.headers.get(CONNECT_VERSION).filter(|version| *version != "1") {
        return Err(Error::new(Reason::InvalidHeader, format!("header {CONNECT_VERSION} is {version:?}, expected 1")));
    }
    let streams = !method.is_unary();
    let framed = call.dialect.framing == Framing::ConnectStream;
    if call.dialect.codec == Codec::Unknown || streams != framed {
        let family = if streams { "application/connect+" } else { "application/" };
        let message = format!("{} takes {family}proto and {family}json", method.name);
        return Err(Error::new(Reason::UnsupportedMediaType, message));
    }
    Ok(match call.dialect.codec {
        Codec::Json if framed => Route::ConnectStream(Some(Transcoder::of_method(&call.prepared, index))),
        Codec::Proto | Codec::Unknown if framed => Route::ConnectStream(None),
        Codec::Json | Codec::Proto | Codec::Unknown => {
            Route::ConnectUnary(Transcoder::of_method(&call.prepared, index))
        }
    })
}

/// The error for a method that nobody serves, or whose schema is not there.
fn unknown_method(snapshot: &Snapshot, path: &str) -> Error {
    match schema_is_complete(snapshot) {
        Ok(()) => Error::new(Reason::MethodUnknown, format!("no upstream serves the method {path}")),
        Err(error) => error,
    }
}

fn rest<'p>(snapshot: &Snapshot, call: &mut Call, parts: &request::Parts, path: &'p str) -> Result<Route<'p>, Error> {
    let direct = snapshot.method_at(path);
    if let Some(index) = direct.filter(|_| parts.method == Method::POST) {
        call.set_target(Target::Method(index));
        let plan = Transcoder::of_method(&call.prepared, index);
        return Ok(Route::Rest { binding: None, plan, captures: Captures::new() });
    }
    match snapshot.router.find(&parts.method, path) {
        Ok(found) => {
            let binding = &snapshot.bindings[*found.target];
            let captures = found.captures.iter().map(|capture| capture.decode(path)).collect::<Result<_, _>>();
            let captures = captures.map_err(bad_path)?;
            call.set_target(Target::Method(binding.method));
            let plan = Transcoder::of_binding(&call.prepared, *found.target);
            Ok(Route::Rest { binding: Some(*found.target), plan, captures })
        }
        Err(Miss::BadPath(problem)) => Err(bad_path(problem)),
        Err(Miss::Options(allow)) => Ok(Route::Options(with_post(allow, direct.is_some()))),
        Err(Miss::MethodNotAllowed(allow)) => Err(not_allowed(parts, with_post(allow, direct.is_some()))),
        Err(Miss::NotFound)
            if parts.method == Method::GET && direct.is_some_and(|index| snapshot.methods[index].side_effect_free) =>
        {
            let message = "GET at a method's own path is a call of Connect: it takes connect=v1, encoding and message";
            Err(Error::new(Reason::InvalidRequest, message.to_owned()))
        }
        Err(Miss::NotFound) if direct.is_some() => {
            let allow = HeaderValue::from_static("OPTIONS, POST");
            if parts.method == Method::OPTIONS { Ok(Route::Options(allow)) } else { Err(not_allowed(parts, allow)) }
        }
        Err(miss @ Miss::NotFound) => Err(missed(snapshot, &miss, path)),
    }
}

/// Nothing is served at a path, or it is none.
pub(crate) fn missed(snapshot: &Snapshot, miss: &Miss, path: &str) -> Error {
    match miss {
        Miss::BadPath(problem) => bad_path(*problem),
        Miss::NotFound | Miss::MethodNotAllowed(_) | Miss::Options(_) => schema_is_complete(snapshot)
            .err()
            .unwrap_or_else(|| Error::new(Reason::RouteNotFound, format!("nothing is served at {path}"))),
    }
}

pub(crate) fn bad_path(problem: BadPath) -> Error {
    Error::new(Reason::InvalidPath, problem.to_string())
}

/// A path that templates match may be the name of a method too, which takes POST.
fn with_post(allow: Allow, direct: bool) -> HeaderValue {
    let text = allow.0.to_str().unwrap_or_default();
    if !direct || text.split(", ").any(|method| method == "POST") {
        return allow.0;
    }
    HeaderValue::try_from(format!("{text}, POST")).unwrap_or(allow.0)
}

fn not_allowed(parts: &request::Parts, allow: HeaderValue) -> Error {
    let message = format!("{} is not allowed here, only {}", parts.method, allow.to_str().unwrap_or_default());
    Error::new(Reason::MethodNotAllowed, message).with_allow(allow)
}

/// Nothing can be said to be unknown as long as a schema is missing.
fn schema_is_complete(snapshot: &Snapshot) -> Result<(), Error> {
    match snapshot.missing().next() {
        None => Ok(()),
        Some((upstream, why)) => {
            let message = format!("the schema of upstream {} is not there yet", upstream.config.name);
            Err(Error::new(Reason::SchemaUnavailable, message).with_note(why))
        }
    }
}
