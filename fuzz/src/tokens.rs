//! Signed tokens, key sets, and where requests have their credentials.

use std::str::FromStr;
use std::sync::LazyLock;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use portico::config::authentication::{Audiences, Jwt, Keys, Places};
use portico::config::claim::ClaimPath;
use portico::config::password::PasswordHash;
use portico::jose::{Algorithm, Algorithms, Key, KeySet, Token};
use portico::policy::credential::{self, Shown};
use portico::policy::jwt;

/// Whatever the bytes are: without the key, no token is good.
pub fn tokens(input: &[u8]) {
    static RULES: LazyLock<Jwt> = LazyLock::new(|| {
        let key = Key::from_secret(&[7; 64], Algorithm::HS256).expect("long enough");
        Jwt {
            issuer: "i".into(),
            audiences: Audiences::Any,
            algorithms: Algorithms::ALL,
            leeway: Duration::from_secs(30),
            types: None,
            from: places(),
            keys: Keys::Fixed(KeySet::of(vec![key])),
        }
    });
    let Keys::Fixed(keys) = &RULES.keys else { return };
    assert!(jwt::verify(input, &RULES, keys, 1_000_000).is_err(), "a token that nobody signed is good");
    if let Ok(token) = Token::parse(input) {
        assert!(input.len() <= Token::MAX_LENGTH && input.iter().filter(|byte| **byte == b'.').count() == 2);
        assert!(keys.candidates(token.key_id.as_deref(), token.algorithm).all(|key| !token.is_signed_by(key)));
    }
    if let Ok(read) = KeySet::from_text(input, Algorithms::ALL) {
        assert!(!read.keys.is_empty());
        // A set from outside never holds a secret.
        assert!(read.keys.candidates(None, Algorithm::HS256).next().is_none());
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(path) = ClaimPath::from_str(text) {
        assert_eq!(path.to_string().parse().as_ref(), Ok(&path));
    }
    let _ = PasswordHash::from_str(text);
    request(text);
}

fn places() -> Places {
    Places { header: HeaderName::from_static("authorization"), cookie: Some("c".into()), query: Some("q".into()) }
}

/// What is taken out of a query is not found there again.
fn request(text: &str) {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert("authorization", value.clone());
        headers.insert("cookie", value);
    }
    if let Shown::Credential(credential) = credential::find(&places(), &headers, &Uri::from_static("/")) {
        assert!(!credential.is_empty() && credential.len() <= text.len());
    }
    let Ok(uri) = format!("/p?{text}").parse::<Uri>() else { return };
    let none = HeaderMap::new();
    let shown = credential::find(&places(), &none, &uri);
    match credential::without_parameter(&uri, "q") {
        None => assert_eq!(shown, Shown::Nothing),
        Some(rest) => {
            assert_ne!(shown, Shown::Nothing);
            assert_eq!(credential::find(&places(), &none, &rest), Shown::Nothing, "{uri} became {rest}");
        }
    }
}
