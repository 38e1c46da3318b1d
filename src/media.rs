//! Media types, as `content-type` and the ranges of `accept` have them
//! ([RFC 9110 §8.3.1](https://www.rfc-editor.org/rfc/rfc9110#section-8.3.1)).
//!
//! Only what stands where: what a type is good for is said where it is used. Names are compared in any case; parameters are left
//! as they came, for whoever has a use for them.

/// A type and what follows its first semicolon.
pub fn split(media: &str) -> (&str, &str) {
    let (essence, parameters) = media.split_once(';').unwrap_or((media, ""));
    (essence.trim(), parameters)
}

/// A type without its parameters.
pub fn essence(media: &str) -> &str {
    split(media).0
}

/// The same of a header whose parameters may be no text.
pub fn essence_of_bytes(media: &[u8]) -> &[u8] {
    media.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

/// Whether it is that type, with whatever parameters.
pub fn is(media: &str, name: &str) -> bool {
    essence(media).eq_ignore_ascii_case(name)
}

/// Whether it is JSON, or something that is written in JSON
/// ([RFC 6839 §3.1](https://www.rfc-editor.org/rfc/rfc6839#section-3.1)).
pub fn is_json(media: &str) -> bool {
    let essence = essence(media);
    let suffix = essence.len().checked_sub(JSON_SUFFIX.len()).and_then(|at| essence.get(at..));
    is(essence, "application/json") || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(JSON_SUFFIX))
}

const JSON_SUFFIX: &str = "+json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_in_any_case_and_with_parameters() {
        for (media, expected, json) in [
            ("application/json", "application/json", true),
            (" Application/JSON ; charset=utf-8", "Application/JSON", true),
            ("application/problem+json;a=\"b;c\"", "application/problem+json", true),
            ("application/json-seq", "application/json-seq", false),
            ("application/jsonx", "application/jsonx", false),
            ("text/plain;charset=utf-8", "text/plain", false),
            ("+json", "+json", true),
            ("äöü", "äöü", false),
            ("", "", false),
            (";", "", false),
        ] {
            assert_eq!((essence(media), is_json(media)), (expected, json), "{media:?}");
            assert_eq!(essence_of_bytes(media.as_bytes()), expected.as_bytes());
            assert!(is(media, &expected.to_ascii_uppercase()), "{media:?}");
        }
        assert_eq!(split("a/b ; q=1; x"), ("a/b", " q=1; x"));
    }
}
