//! Headers that tell an upstream who calls: taken out of every request, in all spellings, then set from what was proven.
//!
//! Servers do not agree on what a name is: many read `X_User` as `x-user`, and REST callers may write metadata with a
//! prefix. So a name is compared by what it may be taken for. Invariant: what an upstream reads under one of these names,
//! the gateway has written.

use std::borrow::Cow;
use std::fmt::Write as _;

use http::header::CONNECTION;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::headers::remove_if;
use super::identity::Identities;
use crate::config::authorization::Forwarded;
use crate::grpc::metadata;
use crate::grpc::status::encode_binary;

/// Takes out whatever could be read as one of `names`, and the power of `connection` to take such a header out later.
pub fn strip(headers: &mut HeaderMap, names: &[HeaderName]) {
    let means_one = |text: &str| names.iter().any(|name| is_alias(text, name.as_str()));
    remove_if(headers, |name| means_one(name.as_str()));
    let listed = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    if listed.flat_map(|value| value.split(',')).any(|token| means_one(token.trim())) {
        // The rest of what it lists speaks of a connection that ends here.
        headers.remove(CONNECTION);
    }
}

/// Whether a server may take one name for another: whatever stands between the words, in any case, with the prefix that
/// the gateway itself takes off.
fn is_alias(text: &str, name: &str) -> bool {
    let mut text = text;
    while let Some((prefix, rest)) = text.split_at_checked(metadata::PREFIX.len()) {
        if !metadata::is_alike(prefix, metadata::PREFIX) {
            break;
        }
        text = rest;
    }
    metadata::is_alike(text, name)
}

/// Sets the headers of a policy from what was proven. A claim that is not there, or is null, sets none.
pub fn set(headers: &mut HeaderMap, forwarded: &Forwarded, identities: &Identities) {
    for (name, path) in &forwarded.headers {
        let Some(claim) = identities.claim(path) else { continue };
        let value = match (claim, metadata::is_binary(name)) {
            (Value::Array(items), false) if forwarded.joined => HeaderValue::try_from(joined(items)),
            (claim, is_binary) => match (text(claim), is_binary) {
                (None, _) => continue,
                (Some(text), true) => Ok(encode_binary(text.as_bytes())),
                (Some(text), false) => HeaderValue::try_from(printable(&text, "").into_owned()),
            },
        };
        if let Ok(value) = value {
            headers.insert(name, value);
        }
    }
}

/// A list as one text, in which a comma of an item cannot be taken for one between items.
fn joined(items: &[Value]) -> String {
    let texts: Vec<String> = items.iter().filter_map(|item| Some(printable(&text(item)?, ",").into_owned())).collect();
    texts.join(",")
}

/// A claim as text: scalars as they are, lists and maps as JSON.
fn text(claim: &Value) -> Option<Cow<'_, str>> {
    Some(match claim {
        Value::Null => return None,
        Value::String(text) => Cow::Borrowed(text),
        Value::Bool(_) | Value::Number(_) => Cow::Owned(claim.to_string()),
        Value::Array(_) | Value::Object(_) => Cow::Owned(ascii(&claim.to_string())),
    })
}

/// Text as a value of metadata may have it, which is printable ASCII: the rest is percent-encoded, and so is `%`, and
/// what else is given.
fn printable<'t>(text: &'t str, more: &str) -> Cow<'t, str> {
    let passes = |byte: u8| (0x20..=0x7e).contains(&byte) && byte != b'%' && !more.as_bytes().contains(&byte);
    // A space at either end would not survive.
    if text.bytes().all(passes) && text.trim_ascii() == text {
        return Cow::Borrowed(text);
    }
    let (first, last) = (0, text.len().saturating_sub(1));
    let mut out = String::with_capacity(text.len() + 16);
    for (index, byte) in text.bytes().enumerate() {
        let is_edge = byte == b' ' && (index == first || index == last);
        if passes(byte) && !is_edge {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            write!(out, "%{byte:02X}").ok();
        }
    }
    Cow::Owned(out)
}

/// JSON in ASCII, by the escapes that JSON has; none of them is needed outside strings.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() && character != '\u{7f}' {
            out.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            write!(out, "\\u{unit:04x}").ok();
        }
    }
    // What is left passes as it is; a percent sign needs no escape in JSON and must stay what it is.
    out.replace('%', "\\u0025")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::identity::{Identity, Kind};
    use super::*;

    fn names() -> Vec<HeaderName> {
        ["x-user", "x-user-roles"].into_iter().map(HeaderName::from_static).collect()
    }

    #[test]
    fn every_spelling_is_taken_out_and_nothing_else() {
        let mut headers = HeaderMap::new();
        let kept =
            ["x-users", "x-use", "user", "x-user-id", "xx-user", "x_user_name", "my_metadata", "grpc-metadata-x-u"];
        let forged = [
            "x-user",
            "X-User",
            "x_user",
            "X_USER",
            "x.user",
            "x_user-roles",
            "x-user_roles",
            "grpc-metadata-x-user",
            "Grpc-Metadata-X_User",
            "grpc_metadata_x_user",
            "grpc-metadata-grpc-metadata-x-user",
        ];
        for name in kept.iter().chain(&forged) {
            headers.append(HeaderName::from_bytes(name.as_bytes()).expect(name), HeaderValue::from_static("v"));
        }

        strip(&mut headers, &names());

        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        let mut kept = kept.to_vec();
        kept.sort_unstable();
        assert_eq!(left, kept);
    }

    #[test]
    fn connection_cannot_take_out_what_the_gateway_sets() {
        for (listed, kept) in
            [("close", true), ("close, X-User", false), ("x_user", false), ("grpc-metadata-x-user,te", false)]
        {
            let mut headers = HeaderMap::from_iter([(CONNECTION, HeaderValue::from_static(listed))]);
            strip(&mut headers, &names());
            assert_eq!(headers.contains_key(CONNECTION), kept, "{listed}");
        }
    }

    fn set_from(claims: Value, joined: bool) -> HeaderMap {
        let Value::Object(claims) = claims else { unreachable!("it is a map") };
        let identities = Identity::new("staff".into(), Kind::ApiKey, claims).into();
        let paths = [("x-user", "sub"), ("x-user-roles", "roles"), ("x-raw-bin", "raw")];
        let headers = paths.map(|(name, path)| (HeaderName::from_static(name), path.parse().expect("a path"))).into();
        let mut out = HeaderMap::new();
        set(&mut out, &Forwarded { headers, joined, credentials: true }, &identities);
        out
    }

    #[test]
    fn claims_become_values() {
        for (claims, joined, name, expected) in [
            (json!({"sub": "ann"}), false, "x-user", Some("ann")),
            (json!({"sub": 7}), false, "x-user", Some("7")),
            (json!({"sub": true}), false, "x-user", Some("true")),
            (json!({"sub": null}), false, "x-user", None),
            (json!({}), false, "x-user", None),
            (json!({"sub": "Zoë 100%"}), false, "x-user", Some("Zo%C3%AB 100%25")),
            (json!({"sub": "a\r\nx-admin: 1\0"}), false, "x-user", Some("a%0D%0Ax-admin: 1%00")),
            (json!({"sub": " a "}), false, "x-user", Some("%20a%20")),
            (json!({"sub": ""}), false, "x-user", Some("")),
            (
                json!({"roles": ["a", "b,c", "é%\u{7f}"]}),
                false,
                "x-user-roles",
                Some(r#"["a","b,c","\u00e9\u0025\u007f"]"#),
            ),
            (json!({"roles": ["a", "b,c", 1]}), true, "x-user-roles", Some("a,b%2Cc,1")),
            (json!({"roles": []}), true, "x-user-roles", Some("")),
            (json!({"roles": {"a": ["𝄞"]}}), true, "x-user-roles", Some(r#"{"a":["\ud834\udd1e"]}"#)),
            (json!({"raw": "é"}), false, "x-raw-bin", Some("w6k")),
        ] {
            let headers = set_from(claims.clone(), joined);
            assert_eq!(headers.get(name).map(|value| value.to_str().expect("ASCII")), expected, "{claims}");
        }
    }

    proptest! {
        #[test]
        fn any_claim_is_a_legal_value_that_reads_back(text in any::<String>()) {
            let headers = set_from(json!({"sub": text, "roles": [text]}), false);
            let value = headers["x-user"].to_str().expect("ASCII");
            prop_assert!(value.bytes().all(|byte| (0x20..=0x7e).contains(&byte)));
            let mut bytes = Vec::new();
            let mut rest = value.as_bytes();
            while let Some((&byte, after)) = rest.split_first() {
                rest = after;
                if byte == b'%' {
                    let (digits, after) = rest.split_at(2);
                    bytes.push(u8::from_str_radix(std::str::from_utf8(digits).expect("digits"), 16).expect("digits"));
                    rest = after;
                } else {
                    bytes.push(byte);
                }
            }
            prop_assert_eq!(bytes, text.as_bytes());
            let list: Value = serde_json::from_str(headers["x-user-roles"].to_str().expect("ASCII")).expect("JSON");
            prop_assert_eq!(list, json!([text]));
        }

        #[test]
        fn spellings_of_a_name_are_one(separators in proptest::collection::vec("[-_.]", 2), upper in any::<[bool; 12]>(), prefixed in 0_usize..3) {
            let plain = format!("x{}user{}roles", separators[0], separators[1]);
            let cased: String = plain.chars().zip(upper.iter().cycle())
                .map(|(c, upper)| if *upper { c.to_ascii_uppercase() } else { c }).collect();
            let spelling = metadata::PREFIX.repeat(prefixed) + &cased;
            prop_assert!(is_alias(&spelling, "x-user-roles"), "{}", spelling);
        }
    }
}
