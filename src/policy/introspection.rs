//! What an issuer says of a token that means nothing by itself ([RFC 7662](https://www.rfc-editor.org/rfc/rfc7662)).

use serde_json::{Map, Value};

use super::jwt;
use crate::config::authentication::Introspection;
use crate::jose::json;

/// The form that asks about a token ([§2.1](https://www.rfc-editor.org/rfc/rfc7662#section-2.1)).
pub fn question(token: &[u8]) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut body = b"token=".to_vec();
    for byte in token {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            body.push(*byte);
        } else {
            body.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
    body.extend_from_slice(b"&token_type_hint=access_token");
    body
}

/// A token that is active.
#[derive(Debug)]
pub struct Active {
    /// What is known of it.
    pub claims: Map<String, Value>,
    /// Seconds since the Unix epoch from which on it is not good any more, if that was said.
    pub until: Option<u64>,
}

/// Why a token lets nobody in. The words are for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// The token is not good.
    Bad(&'static str),
    /// The answer is none.
    NoAnswer,
}

/// Reads an answer ([§2.2](https://www.rfc-editor.org/rfc/rfc7662#section-2.2)) at `now`, in seconds since the Unix epoch.
///
/// # Errors
/// See [`Flaw`]. Whatever is not a plain `"active": true` lets nobody in.
pub fn read(answer: &[u8], rules: &Introspection, now: u64) -> Result<Active, Flaw> {
    let mut claims = json::object(answer).map_err(|_| Flaw::NoAnswer)?;
    match claims.remove("active") {
        Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => return Err(Flaw::Bad("inactive")),
        Some(_) | None => return Err(Flaw::NoAnswer),
    }
    if let Some(issuer) = &rules.issuer
        && claims.get("iss").and_then(Value::as_str) != Some(&**issuer)
    {
        return Err(Flaw::Bad("issuer"));
    }
    jwt::audience(&claims, &rules.audiences).map_err(Flaw::Bad)?;
    let until = jwt::time(claims.get("exp")).map_err(Flaw::Bad)?;
    if until.is_some_and(|until| now >= until) {
        return Err(Flaw::Bad("expired"));
    }
    if jwt::time(claims.get("nbf")).map_err(Flaw::Bad)?.is_some_and(|from| from > now) {
        return Err(Flaw::Bad("not_yet_valid"));
    }
    Ok(Active { claims, until })
}
