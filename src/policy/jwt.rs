//! Whether a signed token is good ([RFC 7519](https://www.rfc-editor.org/rfc/rfc7519),
//! [RFC 8725](https://www.rfc-editor.org/rfc/rfc8725)).
//!
//! Keys, rules and time are arguments. What is cheap to look at comes before the signature, so that tokens for others cost
//! little.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::config::authentication::{Audiences, Jwt};
use crate::jose::{Key, KeySet, Token};

/// A token that is good.
#[derive(Debug)]
pub struct Verified {
    /// What it claims.
    pub claims: Map<String, Value>,
    /// By which key.
    pub key: Arc<Key>,
    /// Seconds since the Unix epoch from which on it is not good any more, the leeway included.
    pub until: u64,
}

/// Why a token is not good. The words are for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// This, for good.
    Bad(&'static str),
    /// No key is known that it can be signed by; perhaps there are newer ones.
    UnknownKey,
}

/// Checks a token at `now`, in seconds since the Unix epoch.
///
/// # Errors
/// See [`Flaw`].
pub fn verify(text: &[u8], rules: &Jwt, keys: &KeySet, now: u64) -> Result<Verified, Flaw> {
    let token = Token::parse(text).map_err(|bad| Flaw::Bad(bad.word()))?;
    if let Some(kinds) = &rules.types
        && !kinds.iter().any(|kind| Some(&**kind) == token.kind.as_deref())
    {
        return Err(Flaw::Bad("type"));
    }
    let until = claims(&token.claims, rules, now).map_err(Flaw::Bad)?;
    if !rules.algorithms.contains(token.algorithm) {
        return Err(Flaw::Bad("algorithm"));
    }
    let id = token.key_id.as_deref();
    let mut candidates = keys.candidates(id, token.algorithm).take(MAX_CANDIDATES).peekable();
    if candidates.peek().is_none() {
        // One that is known by name, but for another algorithm, does not become another by being fetched again.
        let is_known = id.is_some_and(|id| keys.knows(id));
        return Err(if is_known { Flaw::Bad("algorithm") } else { Flaw::UnknownKey });
    }
    match candidates.find(|key| token.is_signed_by(key)) {
        Some(key) => Ok(Verified { key: Arc::clone(key), claims: token.claims, until }),
        None => Err(Flaw::Bad("signature")),
    }
}

/// Checks who issued the token for whom and for how long; gives the second from which on it is not good any more.
fn claims(claims: &Map<String, Value>, rules: &Jwt, now: u64) -> Result<u64, &'static str> {
    if claims.get("iss").and_then(Value::as_str) != Some(&*rules.issuer) {
        return Err("issuer");
    }
    audience(claims, &rules.audiences)?;
    let leeway = rules.leeway.as_secs();
    // RFC 7519 §4.1.4: on or after that time it is not good; parts of a second count as none.
    let until = time(claims.get("exp"))?.ok_or("no_expiry")?.saturating_add(leeway);
    if now >= until {
        return Err("expired");
    }
    let latest = now.saturating_add(leeway);
    if time(claims.get("nbf"))?.is_some_and(|from| from > latest) {
        return Err("not_yet_valid");
    }
    if time(claims.get("iat"))?.is_some_and(|issued| issued > latest) {
        return Err("issued_in_the_future");
    }
    Ok(until)
}

/// Whether claims are meant for one of those who are wanted. `aud` is a text or a list of texts
/// ([RFC 7519 §4.1.3](https://www.rfc-editor.org/rfc/rfc7519#section-4.1.3)).
pub(super) fn audience(claims: &Map<String, Value>, wanted: &Audiences) -> Result<(), &'static str> {
    let Audiences::Of(wanted) = wanted else { return Ok(()) };
    let is_wanted = |text: &str| wanted.iter().any(|wanted| **wanted == *text);
    let is_for_us = match claims.get("aud") {
        Some(Value::String(text)) => is_wanted(text),
        Some(Value::Array(list)) => {
            list.iter().all(Value::is_string) && list.iter().filter_map(Value::as_str).any(is_wanted)
        }
        Some(_) | None => false,
    };
    if is_for_us { Ok(()) } else { Err("audience") }
}

/// Seconds since the Unix epoch, perhaps with a fraction ([RFC 7519 §2](https://www.rfc-editor.org/rfc/rfc7519#section-2)), which is
/// cut off. Times before the epoch are as long ago as that; those beyond the year 9999 are milliseconds, or worse.
pub(super) fn time(claim: Option<&Value>) -> Result<Option<u64>, &'static str> {
    let Some(claim) = claim else { return Ok(None) };
    let seconds = claim.as_f64().ok_or("time")?;
    match Duration::try_from_secs_f64(seconds.max(0.0)) {
        Ok(since) if since <= LATEST => Ok(Some(since.as_secs())),
        Ok(_) | Err(_) => Err("time"),
    }
}

/// The end of the year 9999.
const LATEST: Duration = Duration::from_secs(253_402_300_799);
/// Keys that one token is tried with.
const MAX_CANDIDATES: usize = 16;
