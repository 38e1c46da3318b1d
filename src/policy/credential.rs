//! Where a request has its credential, and how one is taken out of a query.
//!
//! Nothing is judged here but the form. A credential that stands twice in one place is none: two readers could take
//! different ones.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, COOKIE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use crate::config::authentication::Places;

/// What a request shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown<'r> {
    /// No credential.
    Nothing,
    /// This one; never empty.
    Credential(Cow<'r, [u8]>),
    /// Something that can be none.
    Malformed,
}

/// The credential of a request: that of the first place which has one.
pub fn find<'r>(places: &Places, headers: &'r HeaderMap, uri: &'r Uri) -> Shown<'r> {
    let mut shown = in_header(&places.header, headers);
    if let (Shown::Nothing, Some(name)) = (&shown, &places.cookie) {
        shown = one(cookies(headers, name).map(|value| Cow::Borrowed(unquoted(value))));
    }
    if let (Shown::Nothing, Some(name)) = (&shown, &places.query) {
        let pairs = uri.query().into_iter().flat_map(|query| query.split('&'));
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        shown = one(pairs.filter(|(key, _)| decode(key) == name.as_bytes()).map(|(_, value)| decode(value)));
    }
    shown
}

/// Whether a credential stands in the header, which comes before every other place.
pub fn is_in_header(places: &Places, headers: &HeaderMap) -> bool {
    in_header(&places.header, headers) != Shown::Nothing
}

/// Whether a credential stands in a cookie, and in no place that comes before it.
pub fn is_in_cookie(places: &Places, headers: &HeaderMap) -> bool {
    let has = |name: &str| cookies(headers, name).next().is_some();
    places.cookie.as_deref().is_some_and(has) && !is_in_header(places, headers)
}

/// The credentials of `authorization` behind a scheme, which is written in any case
/// ([RFC 9110 §11.4](https://www.rfc-editor.org/rfc/rfc9110#section-11.4)). Another scheme shows nothing; two headers are wrong,
/// whatever their schemes.
pub fn of_scheme<'r>(scheme: &str, headers: &'r HeaderMap) -> Shown<'r> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Shown::Malformed;
    }
    one(first.into_iter().filter_map(|value| {
        let value = value.as_bytes();
        let (given, rest) = value.split_at_checked(scheme.len())?;
        let is_end = rest.first().is_none_or(|byte| *byte == b' ');
        (is_end && given.eq_ignore_ascii_case(scheme.as_bytes())).then(|| Cow::Borrowed(rest.trim_ascii()))
    }))
}

/// Takes a credential out of the headers, wherever it stands. One in a query is taken out in any case, see
/// [`without_parameter`].
pub fn remove(places: &Places, headers: &mut HeaderMap) {
    headers.remove(&places.header);
    let Some(name) = &places.cookie else { return };
    let is_it = |pair: &&str| pair.trim().split_once('=').is_some_and(|(key, _)| key == &**name);
    let texts = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let kept: Vec<&str> = texts.flat_map(|text| text.split(';')).filter(|pair| !is_it(pair)).map(str::trim).collect();
    match HeaderValue::try_from(kept.join("; ")) {
        Ok(value) if !value.is_empty() => headers.insert(COOKIE, value),
        _ => headers.remove(COOKIE),
    };
}

/// The same address without a parameter of its query; `None` when it has none of that name.
pub fn without_parameter(uri: &Uri, name: &str) -> Option<Uri> {
    let query = uri.query()?;
    let is_it = |pair: &&str| decode(pair.split_once('=').map_or(*pair, |(key, _)| key)) == name.as_bytes();
    if !query.split('&').any(|pair| is_it(&pair)) {
        return None;
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_it(pair)).collect();
    let target = if kept.is_empty() { uri.path().to_owned() } else { format!("{}?{}", uri.path(), kept.join("&")) };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = PathAndQuery::try_from(target).ok();
    Uri::from_parts(parts).ok()
}

fn in_header<'r>(name: &HeaderName, headers: &'r HeaderMap) -> Shown<'r> {
    if *name == AUTHORIZATION {
        return of_scheme("bearer", headers);
    }
    one(headers.get_all(name).iter().map(|value| Cow::Borrowed(value.as_bytes().trim_ascii())))
}

/// The values of a cookie as they came ([RFC 6265 §4.2.1](https://www.rfc-editor.org/rfc/rfc6265#section-4.2.1)).
pub fn cookies<'r>(headers: &'r HeaderMap, name: &str) -> impl Iterator<Item = &'r [u8]> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).filter_map(move |pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// A value of a cookie without quotes around it.
fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

fn one<'r>(mut values: impl Iterator<Item = Cow<'r, [u8]>>) -> Shown<'r> {
    match (values.next(), values.next()) {
        (None, _) => Shown::Nothing,
        (Some(value), None) if !value.is_empty() => Shown::Credential(value),
        (Some(_), _) => Shown::Malformed,
    }
}

/// Percent-decodes, with `+` for a space; what is no escape stands for itself.
fn decode(text: &str) -> Cow<'_, [u8]> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                decoded.push(nibble(*high) << 4 | nibble(*low));
                rest = after;
            }
            (b'+', _) => decoded.push(b' '),
            (byte, _) => decoded.push(byte),
        }
    }
    Cow::Owned(decoded)
}

fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(header: &'static str) -> Places {
        let named = |name: &str| Some(name.into());
        Places { header: HeaderName::from_static(header), cookie: named("session"), query: named("access_token") }
    }

    fn shown(header: &'static str, headers: &[(&'static str, &'static str)], uri: &str) -> Option<String> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        match find(&places(header), &headers, &uri.parse().expect("a URI")) {
            Shown::Nothing => None,
            Shown::Credential(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Shown::Malformed => Some("malformed".to_owned()),
        }
    }

    #[test]
    fn the_first_place_that_has_a_credential_counts() {
        let malformed = Some("malformed".to_owned());
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(shown("authorization", &[], "/"), None);
        assert_eq!(shown("authorization", &[("authorization", "Bearer a.b.c")], "/?access_token=x"), some("a.b.c"));
        assert_eq!(shown("authorization", &[("authorization", "bEARER   a ")], "/"), some("a"));
        assert_eq!(shown("authorization", &[("authorization", "Basic eDp5")], "/"), None);
        assert_eq!(shown("authorization", &[("authorization", "Bearerx a")], "/"), None);
        assert_eq!(shown("authorization", &[("authorization", "Bearer")], "/"), malformed);
        assert_eq!(shown("authorization", &[("authorization", "Bearer ")], "/"), malformed);
        let twice = [("authorization", "Bearer a"), ("authorization", "Bearer a")];
        assert_eq!(shown("authorization", &twice, "/"), malformed);
        assert_eq!(shown("x-api-key", &[("x-api-key", "k")], "/"), some("k"));
        assert_eq!(shown("x-api-key", &[("x-api-key", "k"), ("x-api-key", "l")], "/"), malformed);
        assert_eq!(shown("x-api-key", &[("x-api-key", "")], "/"), malformed);
        assert_eq!(shown("x-api-key", &[("cookie", "a=b; session=\"s\""), ("cookie", "c=d")], "/"), some("s"));
        assert_eq!(shown("x-api-key", &[("cookie", "session=s; session=t")], "/"), malformed);
        assert_eq!(shown("x-api-key", &[("cookie", "sessions=s; xsession=t")], "/"), None);
        assert_eq!(shown("x-api-key", &[], "/?a=b&access_token=a%2Bb"), some("a+b"));
        assert_eq!(shown("x-api-key", &[], "/?access%5ftoken=k"), some("k"));
        assert_eq!(shown("x-api-key", &[], "/?access_token=k&access_token=l"), malformed);
        assert_eq!(shown("x-api-key", &[], "/?access_token"), malformed);
    }

    #[test]
    fn a_credential_is_taken_out_of_the_headers() {
        let mut headers: HeaderMap = [("x-api-key", "k"), ("cookie", "a=b; session=s;c=d"), ("cookie", "session=t")]
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .into_iter()
            .collect();

        remove(&places("x-api-key"), &mut headers);

        assert_eq!(headers.len(), 1);
        assert_eq!(headers["cookie"], "a=b; c=d");
        headers.insert(COOKIE, HeaderValue::from_static("session=s"));
        remove(&places("x-api-key"), &mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn a_parameter_is_taken_out_in_every_spelling() {
        for (uri, expected) in [
            ("/a?access_token=k", Some("/a")),
            ("/a?b=c&access_token=k&d", Some("/a?b=c&d")),
            ("http://h:1/a?access%5Ftoken=k&b=%20", Some("http://h:1/a?b=%20")),
            ("/a?access_token&access_token=l&b=", Some("/a?b=")),
            ("/a?access_tokens=k", None),
            ("/a", None),
        ] {
            let uri: Uri = uri.parse().expect("a URI");
            assert_eq!(without_parameter(&uri, "access_token").map(|uri| uri.to_string()).as_deref(), expected);
        }
    }
}
