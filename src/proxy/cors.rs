//! CORS in the pipeline: whose policy holds for a request, what a preflight is answered, and what every reply says.
//!
//! What the headers say is decided in [`policy`]. Invariant: a preflight is answered by the policy of the method that it
//! asks for, before anything else is asked of the request, and carries nothing upstream.

use http::{HeaderMap, HeaderValue, Method, Response, request};

use super::body::ReplyBody;
use super::call::{Call, Target};
use super::reply;
use crate::config::cors::Cors;
use crate::error::{Error, Reason};
use crate::policy::cors as policy;
use crate::snapshot::Snapshot;

/// What a preflight is answered: the headers that allow the call, or why it is not allowed.
pub(crate) type Verdict = Result<HeaderMap, Error>;

/// What pages of other origins may make of the reply to one request.
#[derive(Debug)]
pub(crate) struct Grant<'s> {
    cors: Option<&'s Cors>,
    /// The request's, when it may call.
    origin: Option<HeaderValue>,
}

/// Decides on a preflight; `None` when the request is none, or no policy holds for the method that it asks for.
pub(crate) fn preflight(snapshot: &Snapshot, parts: &request::Parts) -> Option<Verdict> {
    let method = policy::preflight_for(&parts.method, &parts.headers)?;
    let cors = wanted(snapshot, &method, parts.uri.path())?;
    Some(policy::preflight(cors, &parts.headers, &method).ok_or_else(|| {
        let origin = parts.headers.get(http::header::ORIGIN).map(HeaderValue::as_bytes).unwrap_or_default();
        let origin = String::from_utf8_lossy(origin);
        Error::new(Reason::OriginNotAllowed, format!("pages of {origin} may not call this by {method}"))
    }))
}

/// Answers a preflight.
pub(crate) fn answer(call: Box<Call>, verdict: Verdict) -> Response<ReplyBody> {
    match verdict {
        Ok(headers) => reply::no_content(call, headers),
        Err(error) => {
            let mut response = reply::error(call, &error);
            response.headers_mut().append(http::header::VARY, HeaderValue::from_static("origin"));
            response
        }
    }
}

/// The policy that holds for a call. Calls that mean no method, or one that no schema knows, go by their path.
pub(crate) fn of<'s>(snapshot: &'s Snapshot, call: &Call) -> Option<&'s Cors> {
    match call.target() {
        Target::Method(index) => snapshot.methods[index].cors.as_deref(),
        Target::Upstream(_) | Target::Unknown => by_name(snapshot, call.uri.path()),
    }
}

/// The policy of the method that a request by `method` would mean. The protocol is not known yet: a preflight says
/// nothing of the content type.
fn wanted<'s>(snapshot: &'s Snapshot, method: &Method, path: &str) -> Option<&'s Cors> {
    let named = snapshot.method_at(path);
    let routed = || snapshot.router.find(method, path).ok().map(|found| snapshot.bindings[*found.target].method);
    match named.filter(|_| method == Method::POST).or_else(routed).or(named) {
        Some(index) => snapshot.methods[index].cors.as_deref(),
        None => by_name(snapshot, path),
    }
}

fn by_name<'s>(snapshot: &'s Snapshot, path: &str) -> Option<&'s Cors> {
    snapshot.config.cors(path.strip_prefix('/').unwrap_or_default()).map(AsRef::as_ref)
}

impl<'s> Grant<'s> {
    pub(crate) fn of(snapshot: &'s Snapshot, call: &Call, parts: &request::Parts) -> Self {
        // A preflight for a method without a policy has come this far as the OPTIONS request that it is too. What that
        // means has no method, and the policy for such requests must not speak for the one that was asked for.
        let is_preflight = policy::preflight_for(&parts.method, &parts.headers).is_some();
        let cors = if is_preflight { None } else { of(snapshot, call) };
        Self { cors, origin: cors.and_then(|cors| policy::allowed(cors, &parts.headers)).cloned() }
    }

    /// The reply, with what browsers have to know.
    pub(crate) fn give(&self, mut response: Response<ReplyBody>) -> Response<ReplyBody> {
        if let Some(cors) = self.cors {
            policy::reply(cors, self.origin.as_ref(), response.headers_mut());
        }
        response
    }
}
