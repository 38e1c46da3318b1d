//! A signed token in its compact form ([RFC 7515 §7.1](https://www.rfc-editor.org/rfc/rfc7515#section-7.1)), taken apart.
//!
//! ```text
//! BASE64URL(header) "." BASE64URL(claims) "." BASE64URL(signature)
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::{Algorithm, Key, json};

/// A token of which nothing is verified yet.
#[derive(Debug)]
pub struct Token<'t> {
    /// What it says that it is signed by.
    pub algorithm: Algorithm,
    /// The key that it names.
    pub key_id: Option<Box<str>>,
    /// `typ`, in lower case and without `application/`.
    pub kind: Option<Box<str>>,
    /// What it claims.
    pub claims: Map<String, Value>,
    signed: &'t [u8],
    signature: Vec<u8>,
}

/// Why a text is no token. The words are for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadToken {
    /// Over [`Token::MAX_LENGTH`].
    TooLong,
    /// Not three parts of base64url, no JSON, or a name stands twice.
    Malformed,
    /// `alg` is missing, `none`, or not known.
    Algorithm,
    /// It has extensions that whoever reads it has to understand.
    Critical,
}

impl BadToken {
    /// For the log.
    pub fn word(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Critical => "crit",
        }
    }
}

impl<'t> Token<'t> {
    /// Bytes of a token.
    pub const MAX_LENGTH: usize = 16 << 10;

    /// Takes a token apart. Keys that it brings itself (`jwk`, `jku`, `x5u`, `x5c`) are not looked at.
    ///
    /// # Errors
    /// See [`BadToken`].
    pub fn parse(text: &'t [u8]) -> Result<Self, BadToken> {
        if text.len() > Self::MAX_LENGTH {
            return Err(BadToken::TooLong);
        }
        let mut dots = memchr::memchr_iter(b'.', text);
        let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
            return Err(BadToken::Malformed);
        };
        let part = |range: std::ops::Range<usize>| {
            let part = text.get(range).unwrap_or_default();
            URL_SAFE_NO_PAD.decode(part).map_err(|_| BadToken::Malformed)
        };
        let header = json::object(&part(0..first)?).map_err(|_| BadToken::Malformed)?;
        // RFC 7515 §4.1.11: what is not understood must not be passed over. `b64` changes what is signed.
        if header.contains_key("crit") || header.contains_key("b64") || header.contains_key("zip") {
            return Err(BadToken::Critical);
        }
        let text_of = |name: &str| match header.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(BadToken::Malformed),
        };
        let algorithm = text_of("alg")?.and_then(|name| name.parse().ok()).ok_or(BadToken::Algorithm)?;
        let kind = text_of("typ")?.map(|kind| {
            let kind = kind.to_ascii_lowercase();
            kind.strip_prefix("application/").unwrap_or(&kind).into()
        });
        let claims = json::object(&part(first + 1..second)?).map_err(|_| BadToken::Malformed)?;
        let signature = part(second + 1..text.len())?;
        Ok(Self {
            algorithm,
            key_id: text_of("kid")?.map(Into::into),
            kind,
            claims,
            signed: text.get(..second).unwrap_or_default(),
            signature,
        })
    }

    /// Whether the key, by one of its own algorithms, signed the token.
    pub fn is_signed_by(&self, key: &Key) -> bool {
        key.verifies(self.algorithm, self.signed, &self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str) -> String {
        format!("{}.{}.AA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    fn bad(text: &str) -> Option<BadToken> {
        Token::parse(text.as_bytes()).err()
    }

    #[test]
    fn takes_a_token_apart() {
        let text = token(r#"{"alg":"ES256","typ":"application/at+JWT","kid":"k","jwk":{},"x5u":1}"#, r#"{"sub":"a"}"#);

        let token = Token::parse(text.as_bytes()).expect("a token");

        assert_eq!(
            (token.algorithm, token.key_id.as_deref(), token.kind.as_deref()),
            (Algorithm::ES256, Some("k"), Some("at+jwt"))
        );
        assert_eq!((token.claims["sub"].as_str(), token.signature), (Some("a"), vec![0]));
    }

    #[test]
    fn refuses_whatever_is_ambiguous() {
        let good = token(r#"{"alg":"RS256"}"#, "{}");
        assert_eq!(bad(&good), None);
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"None"}"#,
            r#"{"alg":"rs256"}"#,
            r#"{"alg":""}"#,
            "{}",
            r#"{"alg":"RS1"}"#,
            r#"{"alg":"ES256K"}"#,
            r#"{"alg":"dir"}"#,
        ] {
            assert_eq!(bad(&token(header, "{}")), Some(BadToken::Algorithm), "{header}");
        }
        for header in
            [r#"{"alg":"RS256","crit":[]}"#, r#"{"alg":"RS256","b64":true}"#, r#"{"alg":"RS256","zip":"DEF"}"#]
        {
            assert_eq!(bad(&token(header, "{}")), Some(BadToken::Critical), "{header}");
        }
        for header in
            [r#"{"alg":["RS256"]}"#, r#"{"alg":"RS256","alg":"RS256"}"#, r#"{"alg":"RS256","kid":1}"#, "[]", ""]
        {
            assert_eq!(bad(&token(header, "{}")), Some(BadToken::Malformed), "{header}");
        }
        for claims in ["", "[]", "null", "{\"a\":1,\"a\":1}", "{\"a\":1e999}"] {
            assert_eq!(bad(&token(r#"{"alg":"RS256"}"#, claims)), Some(BadToken::Malformed), "{claims}");
        }
        let (head, _) = good.rsplit_once('.').expect("parts");
        for text in [
            "",
            ".",
            "..",
            "...",
            head,
            &format!("{good}."),
            &format!("{good}.AA"),
            &format!(" {good}"),
            &format!("{good}=="),
            &format!("{good}\n"),
            &format!("{head}.A"),
            &format!("{head}.AB"),
            &good.replace('.', ".."),
            &format!("{head}.+/"),
        ] {
            assert_eq!(bad(text), Some(BadToken::Malformed), "{text:?}");
        }
        assert_eq!(bad(&"a".repeat(Token::MAX_LENGTH + 1)), Some(BadToken::TooLong));
    }
}
