//! Whether a browser may have been made to send a call by a page of somebody else.
//!
//! Browsers add cookies, passwords that they remember and certificates to whatever a page makes them send, so that such a
//! credential says who the browser belongs to and not who wants the call. A token in a header needs no such question: no
//! other page can set it.
//!
//! The browser says whose page it was: by `sec-fetch-site`
//! ([Fetch Metadata §2.3](https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header)), which no page can set, and by
//! `origin`. A request with neither comes from no browser of today.

use std::sync::Arc;

use http::header::ORIGIN;
use http::{HeaderMap, HeaderName, Method};

use super::cors::{self, Own};
use super::credential;
use super::identity::Identities;
use crate::config::authentication::{Kind, Provider};
use crate::config::cors::Cors;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a request only reads. No page of another origin sees what it brings unless CORS lets it. The GET that opens a
/// WebSocket is not asked here: whoever has one may do anything.
pub fn is_safe(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

/// Whether a call that does something may go on although browsers add its credentials by themselves.
pub fn permits(policy: Option<&Cors>, headers: &HeaderMap, own: &Own<'_>) -> bool {
    // With credentials only: without them the page is trusted with nothing.
    let policy = policy.filter(|cors| cors.credentials);
    let site = headers.get(SEC_FETCH_SITE).map(http::HeaderValue::as_bytes);
    match site {
        Some(b"same-origin" | b"none") => true,
        Some(_) if !headers.contains_key(ORIGIN) => false,
        Some(_) | None => cors::admits(policy, headers, own),
    }
}

/// Whether something that was proven of the caller was proven by what its browser adds by itself (a cookie, a password that it
/// remembers, a certificate), and nothing by a header, which no page of somebody else can set. A credential in the query
/// proves nothing of the page: that of its own owner stands there as well as the caller's.
pub fn may_be_forged(identities: &Identities, providers: &[Arc<Provider>], headers: &HeaderMap) -> bool {
    let mut by_browser = false;
    for identity in identities.iter() {
        let provider = providers.iter().find(|provider| *provider.name == *identity.source());
        let Some(kind) = provider.map(|provider| &provider.kind) else { continue };
        match kind.places() {
            Some(places) if credential::is_in_header(places, headers) => return false,
            Some(places) => by_browser |= credential::is_in_cookie(places, headers),
            None => by_browser |= matches!(kind, Kind::Basic(_) | Kind::Certificate),
        }
    }
    by_browser
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Uri;

    use super::*;
    use crate::config::cors::{Names, Origins};

    fn permitted(policy: Option<&Cors>, headers: &[(&'static str, &'static str)]) -> bool {
        let uri = Uri::from_static("https://api.example.com/v1/books");
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), http::HeaderValue::from_static(value)))
            .collect();
        permits(policy, &headers, &Own { uri: &uri, tls: true })
    }

    #[test]
    fn pages_of_others_may_not_act_by_cookie() {
        let origins = Origins::Listed(vec!["https://app.example.com".parse().expect("an origin")]);
        let none = || Names::Listed(Vec::new());
        let with =
            Cors { origins, allow_headers: none(), expose_headers: none(), credentials: true, max_age: Duration::ZERO };
        let without = Cors { credentials: false, ..with.clone() };
        let (own, app, evil) = ("https://api.example.com", "https://app.example.com", "https://evil.example.org");
        for (policy, headers, expected) in [
            (None, vec![], true),
            (None, vec![("origin", own)], true),
            (None, vec![("origin", app)], false),
            (Some(&with), vec![("origin", app)], true),
            (Some(&without), vec![("origin", app)], false),
            (Some(&with), vec![("origin", evil)], false),
            (Some(&with), vec![("origin", "null")], false),
            (None, vec![("sec-fetch-site", "same-origin"), ("origin", own)], true),
            (None, vec![("sec-fetch-site", "none")], true),
            (None, vec![("sec-fetch-site", "cross-site")], false),
            (None, vec![("sec-fetch-site", "same-site"), ("origin", app)], false),
            (Some(&with), vec![("sec-fetch-site", "same-site"), ("origin", app)], true),
            (Some(&with), vec![("sec-fetch-site", "cross-site"), ("origin", evil)], false),
            (Some(&with), vec![("sec-fetch-site", "cross-site")], false),
        ] {
            assert_eq!(permitted(policy, &headers), expected, "{headers:?}");
        }
    }
}
