//! Whether the caller may make a call, and what the upstream learns of the caller.
//!
//! The deciders are in `policy`; here they are given what they ask for, external authorizers are awaited, and verdicts
//! become errors and changed headers. Which rule refused a call stands in the log and in no reply.

use std::rc::Rc;
use std::time::UNIX_EPOCH;

use http::header::{AUTHORIZATION, HOST, HeaderValue};
use http::{Version, request};
use smallvec::SmallVec;

use super::ask;
use super::call::Call;
use super::cors;
use super::timer::Timer;
use crate::config::authentication::Kind;
use crate::config::authorization::Authorization;
use crate::error::{Error, Reason};
use crate::policy::authorize::{Denial, Facts, decide};
use crate::policy::authorizer::{Circumstances, Verdict, question};
use crate::policy::cors::Own;
use crate::policy::{credential, csrf, headers, identity_headers};
use crate::telemetry::Protocol;
use crate::telemetry::decisions::Decision;

/// Takes out of the request what could be read as the gateway's word on who calls, after names are what they will be
/// upstream. Also for methods without policies: their upstream may trust the same names.
pub(super) fn strip(call: &Call, parts: &mut request::Parts) {
    if matches!(call.protocol, Protocol::Rest | Protocol::WebSocket) {
        headers::take_off_prefix(&mut parts.headers);
    }
    let names = &call.prepared.snapshot.config.identity_headers;
    if !names.is_empty() {
        identity_headers::strip(&mut parts.headers, names);
    }
}

/// Refuses what a page of somebody else may have made a browser send with credentials that it adds by itself.
///
/// # Errors
/// It may.
pub(super) fn forbid_forgery(call: &Call, parts: &request::Parts) -> Result<(), Error> {
    let providers = &call.prepared.snapshot.config.authentication;
    if !csrf::may_be_forged(&call.identity, providers, &parts.headers) {
        return Ok(());
    }
    let own = Own { uri: &parts.uri, tls: call.peer.tls };
    let policy = cors::of(&call.prepared.snapshot, call);
    let is_safe = call.protocol != Protocol::WebSocket && csrf::is_safe(&parts.method);
    if is_safe || csrf::permits(policy, &parts.headers, &own) {
        return Ok(());
    }
    let message = "pages of that origin may not call this method by what a browser adds to its requests";
    Err(Error::new(Reason::OriginNotAllowed, message).with_note("a cookie, password or certificate, from another site"))
}

/// Asks the rules and, once they hold, the external authorizers; then tells the upstream who calls.
///
/// # Errors
/// A rule does not hold, or an authorizer refuses the call or does not answer.
pub(super) async fn authorize(call: &mut Call, parts: &mut request::Parts, timer: &mut Timer) -> Result<(), Error> {
    let Some(authorization) = &call.settings().authorize else { return Ok(()) };
    // Not the authorization itself: all workers would write its reference count.
    let authorizers: SmallVec<[usize; 2]> = authorization.external.iter().copied().collect();
    if !authorization.rules.is_empty() {
        let decided = by_rules(call, parts, authorization);
        let decision = if decided.is_ok() { Decision::Allowed } else { Decision::Denied };
        call.prepared.rules().count(decision);
        decided?;
    }
    for authorizer in authorizers {
        // Boxed, so that calls which ask nobody are no larger for it.
        Box::pin(by_authorizer(call, parts, authorizer, timer)).await?;
    }
    Ok(())
}

/// Tells the upstream who calls, as the method's policy says.
pub(super) fn forward_identity(call: &Call, parts: &mut request::Parts) {
    let Some(forwarded) = &call.settings().identity else { return };
    if !forwarded.credentials {
        let all = &call.prepared.snapshot.config.authentication;
        // Who need not show any may have sent them all the same.
        let asked = call.settings().authenticate.as_ref();
        let asked = asked.map_or_else(|| (0..all.len()).collect(), |requirement| requirement.rule.providers());
        for provider in asked.into_iter().filter_map(|index| all.get(index)) {
            if matches!(provider.kind, Kind::Basic(_)) {
                parts.headers.remove(AUTHORIZATION);
            }
            provider.kind.places().into_iter().for_each(|places| credential::remove(places, &mut parts.headers));
        }
    }
    identity_headers::set(&mut parts.headers, forwarded, &call.identity);
}

fn by_rules(call: &Call, parts: &request::Parts, authorization: &Authorization) -> Result<(), Error> {
    decide(authorization, &facts(call, parts)).map_err(|denial| refused(call, denial))
}

fn refused(call: &Call, denial: Denial<'_>) -> Error {
    let Denial { rule, scopes, undecided } = denial;
    let note = match undecided {
        None => format!("rule {rule}"),
        Some(why) => format!("rule {rule}: {why}"),
    };
    // Whoever has proven nothing yet is asked to do so.
    if let Some(requirement) = call.settings().authenticate.as_ref().filter(|_| call.identity.is_empty()) {
        let message = "this call asks for credentials, and the request has none";
        let challenge = requirement.challenge.clone();
        return Error::new(Reason::CredentialsMissing, message).with_challenge(challenge).with_note(note);
    }
    let error = Error::new(Reason::InsufficientScope, "the caller may not make this call").with_note(note);
    if scopes.is_empty() {
        return error;
    }
    // RFC 6750 §3: the scopes that a token for this resource has.
    let challenge = format!("Bearer realm=\"portico\", error=\"insufficient_scope\", scope=\"{}\"", scopes.join(" "));
    match HeaderValue::try_from(challenge) {
        Ok(challenge) => error.with_challenge(challenge),
        Err(_) => error,
    }
}

async fn by_authorizer(call: &mut Call, parts: &mut request::Parts, index: usize, timer: &Timer) -> Result<(), Error> {
    if call.rehearsed {
        return Ok(());
    }
    let prepared = Rc::clone(&call.prepared);
    let Some(authorizer) = prepared.snapshot.config.authorizers.get(index) else { return Ok(()) };
    let metrics = prepared.authorizer(index);
    let asked = question(authorizer, &facts(call, parts), &circumstances(call));
    let begun = tokio::time::Instant::now();
    let answer = ask::authorizer::ask(call, authorizer, &asked, timer).await?;
    metrics.took(begun.elapsed());
    match answer {
        Ok(Verdict::Allowed(changes)) => {
            metrics.count(Decision::Allowed);
            changes.apply(&mut parts.headers);
            call.reply_headers.extend(changes.reply);
            Ok(())
        }
        Ok(Verdict::Denied(refusal)) => {
            metrics.count(Decision::Denied);
            let note = format!("authorizer {}", authorizer.name);
            let words = match &*refusal.body {
                "" => "the caller may not make this call".to_owned(),
                body => body.to_owned(),
            };
            Err(Error::new(Reason::Denied, words).with_refusal(refusal).with_note(note))
        }
        Err(why) => {
            metrics.count(Decision::Failed);
            tracing::debug!(authorizer = %authorizer.name, error = %why, "authorizer did not decide");
            if authorizer.allow_on_failure {
                return Ok(());
            }
            let note = format!("authorizer {}: {why}", authorizer.name);
            Err(Error::new(Reason::AuthorizationUnavailable, "whether the call may pass cannot be found out now")
                .with_note(note))
        }
    }
}

fn facts<'f>(call: &'f Call, parts: &'f request::Parts) -> Facts<'f> {
    let host = || parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let since = call.time().duration_since(UNIX_EPOCH).unwrap_or_default();
    Facts {
        identities: &call.identity,
        method: call.method().map_or_else(|| parts.uri.path().trim_start_matches('/'), |method| &*method.name),
        headers: &parts.headers,
        http_method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        host: parts.uri.authority().map_or_else(host, |authority| authority.as_str()),
        protocol: call.protocol.name(),
        peer: call.peer.address.ip(),
        trusted: &call.peer.listener.trusted_proxies,
        time: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
    }
}

fn circumstances(call: &Call) -> Circumstances<'_> {
    let since = call.time().duration_since(UNIX_EPOCH).unwrap_or_default();
    Circumstances {
        request_id: call.request_id.as_str(),
        port: call.peer.address.port(),
        local: call.peer.local,
        scheme: if call.peer.tls { "https" } else { "http" },
        version: if call.version == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" },
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
    }
}
