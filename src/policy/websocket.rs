//! The opening handshake of a WebSocket: who asks for one, who may have it, and the headers that answer.
//!
//! [RFC 6455 §4](https://www.rfc-editor.org/rfc/rfc6455#section-4) over HTTP/1.1, and
//! [RFC 8441 §5](https://www.rfc-editor.org/rfc/rfc8441#section-5) over HTTP/2, where there is no key to prove.
//!
//! Pure. Browsers let a page set no header of a handshake but the subprotocols, so that a token may come there: as
//! `Bearer, <token>` or as `base64url.bearer.authorization.portico.<token in base64url>`. **Invariant**: a token is never
//! echoed to the client.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use http::header::{
    AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Version};

/// What a key is hashed with: RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The name that announces a token as the next subprotocol.
const BEARER: &str = "Bearer";
/// What comes before a token in a subprotocol of its own.
const TOKEN_PREFIX: &str = "base64url.bearer.authorization.portico.";
/// The only version there is: RFC 6455 §4.4.
const VERSION: HeaderValue = HeaderValue::from_static("13");
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// What is wrong with a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadHandshake {
    /// Another version of the protocol; [`other_version`] has the headers of the reply.
    Version,
    /// No key, several, or not one of 16 bytes.
    Key,
    /// Subprotocols that are none, or a token that cannot be one.
    Protocol,
}

/// What a good handshake comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// Headers of the reply.
    pub reply: HeaderMap,
    /// The value of `authorization` that a subprotocol stands for.
    pub authorization: Option<HeaderValue>,
}

/// Whether a request asks for a WebSocket.
pub fn is_wanted(method: &Method, version: Version, headers: &HeaderMap, extensions: &Extensions) -> bool {
    if version == Version::HTTP_2 {
        return *method == Method::CONNECT && is_extended_connect(extensions);
    }
    *method == Method::GET
        && version == Version::HTTP_11
        && tokens(headers, &UPGRADE).any(|token| token.eq_ignore_ascii_case("websocket"))
        && tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
}

/// Whether a CONNECT of HTTP/2 is for a WebSocket, by its pseudo-header `:protocol`.
pub fn is_extended_connect(extensions: &Extensions) -> bool {
    extensions.get::<h2::ext::Protocol>().is_some_and(|protocol| protocol.as_str() == "websocket")
}

/// Answers a handshake.
///
/// # Errors
/// See [`BadHandshake`].
pub fn accept(version: Version, headers: &HeaderMap) -> Result<Handshake, BadHandshake> {
    if only(headers, &SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
        return Err(BadHandshake::Version);
    }
    let mut reply = HeaderMap::with_capacity(6);
    if version != Version::HTTP_2 {
        let key = only(headers, &SEC_WEBSOCKET_KEY).ok_or(BadHandshake::Key)?;
        let bytes = BASE64_STANDARD.decode(key.as_bytes()).map_err(|_| BadHandshake::Key)?;
        if bytes.len() != 16 {
            return Err(BadHandshake::Key);
        }
        reply.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        reply.insert(UPGRADE, WEBSOCKET);
        reply.insert(SEC_WEBSOCKET_ACCEPT, proof(key.as_bytes()));
    }
    let Protocols { chosen, authorization } = protocols(headers)?;
    if let Some(chosen) = chosen {
        reply.insert(SEC_WEBSOCKET_PROTOCOL, chosen);
    }
    let authorization = authorization.filter(|_| !headers.contains_key(AUTHORIZATION));
    Ok(Handshake { reply, authorization })
}

/// Says which version is spoken here: RFC 6455 §4.4, RFC 9110 §15.5.22.
pub fn other_version(version: Version, headers: &mut HeaderMap) {
    headers.insert(SEC_WEBSOCKET_VERSION, VERSION);
    if version != Version::HTTP_2 {
        headers.insert(UPGRADE, WEBSOCKET);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

struct Protocols {
    chosen: Option<HeaderValue>,
    authorization: Option<HeaderValue>,
}

/// Chooses the first subprotocol that is no token. What it is called is the client's business.
fn protocols(headers: &HeaderMap) -> Result<Protocols, BadHandshake> {
    let (mut chosen, mut token) = (None, None);
    let mut offered = tokens(headers, &SEC_WEBSOCKET_PROTOCOL);
    while let Some(protocol) = offered.next() {
        let found = match protocol.strip_prefix(TOKEN_PREFIX) {
            Some(encoded) => {
                let bytes = BASE64_URL_SAFE_NO_PAD.decode(encoded).map_err(|_| BadHandshake::Protocol)?;
                Some(String::from_utf8(bytes).map_err(|_| BadHandshake::Protocol)?)
            }
            None => {
                chosen = chosen.or(Some(protocol));
                match protocol {
                    BEARER => Some(offered.next().ok_or(BadHandshake::Protocol)?.to_owned()),
                    _ => None,
                }
            }
        };
        if found.is_some() && token.is_some() {
            return Err(BadHandshake::Protocol);
        }
        token = token.or(found);
    }
    let authorization = token.map(|token| {
        let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| BadHandshake::Protocol)?;
        value.set_sensitive(true);
        Ok(value)
    });
    let chosen = chosen.map(|chosen| HeaderValue::from_str(chosen).map_err(|_| BadHandshake::Protocol));
    Ok(Protocols { chosen: chosen.transpose()?, authorization: authorization.transpose()? })
}

/// `Sec-WebSocket-Accept`: that the key was read, not that anything is secret.
fn proof(key: &[u8]) -> HeaderValue {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(GUID);
    HeaderValue::try_from(BASE64_STANDARD.encode(hash.finish())).expect("base64 is visible ASCII")
}

/// The elements of a header that is a list.
fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// A header that stands there once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(entries: &[(HeaderName, &'static str)]) -> HeaderMap {
        entries.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    fn offer(protocols: &'static str) -> HeaderMap {
        headers(&[
            (SEC_WEBSOCKET_VERSION, "13"),
            (SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
            (SEC_WEBSOCKET_PROTOCOL, protocols),
        ])
    }

    #[test]
    fn proves_the_key_as_the_rfc_does() {
        let handshake = accept(Version::HTTP_11, &offer("")).expect("a good handshake");

        assert_eq!(handshake.reply[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!handshake.reply.contains_key(SEC_WEBSOCKET_PROTOCOL));
        assert_eq!(handshake.authorization, None);
    }

    #[test]
    fn a_token_by_subprotocol_is_not_echoed() {
        for (offered, chosen, authorization) in [
            ("chat, superchat", Some("chat"), None),
            ("Bearer, a.b-c", Some("Bearer"), Some("Bearer a.b-c")),
            ("chat, base64url.bearer.authorization.portico.YS5iLWM", Some("chat"), Some("Bearer a.b-c")),
            ("base64url.bearer.authorization.portico.YS5iLWM", None, Some("Bearer a.b-c")),
        ] {
            let handshake = accept(Version::HTTP_2, &offer(offered)).expect("a good handshake");

            assert_eq!(handshake.reply.get(SEC_WEBSOCKET_PROTOCOL).map(|value| value.to_str().unwrap()), chosen);
            assert_eq!(handshake.authorization.as_ref().map(|value| value.to_str().unwrap()), authorization);
        }
    }

    #[test]
    fn bad_handshakes_are_refused() {
        for protocols in ["Bearer", "Bearer, a, Bearer, b", "base64url.bearer.authorization.portico.!"] {
            assert_eq!(accept(Version::HTTP_11, &offer(protocols)), Err(BadHandshake::Protocol), "{protocols}");
        }
        let mut short = offer("");
        short.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("AAAA"));
        assert_eq!(accept(Version::HTTP_11, &short), Err(BadHandshake::Key));
        assert_eq!(accept(Version::HTTP_11, &HeaderMap::new()), Err(BadHandshake::Version));
    }
}
