//! Paths of `google.protobuf.FieldMask` between their JSON form (`displayName`) and their proto form (`display_name`).
//!
//! Only paths that come back unchanged are translated: anything else would name another field on the other side
//! (<https://protobuf.dev/reference/protobuf/google.protobuf/#json-encoding-field-masks>). A part may be `*`, which stands for
//! every field or element (AIP-134, AIP-157, AIP-161).

/// Writes the proto form of a JSON path, `false` if it has none.
pub(super) fn to_proto(path: &str, mut write: impl FnMut(&[u8])) -> bool {
    if !is_path(path) || path.contains('_') {
        return false;
    }
    for byte in path.bytes() {
        if byte.is_ascii_uppercase() {
            write(&[b'_', byte.to_ascii_lowercase()]);
        } else {
            write(&[byte]);
        }
    }
    true
}

/// Writes the JSON form of a proto path, `false` if it has none: upper-case letters, or an underscore that no lower-case
/// letter follows.
pub(super) fn to_json(path: &str, mut write: impl FnMut(&[u8])) -> bool {
    if !is_path(path) {
        return false;
    }
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'A'..=b'Z' => return false,
            b'_' => match bytes.next() {
                Some(letter @ b'a'..=b'z') => write(&[letter.to_ascii_uppercase()]),
                _ => return false,
            },
            _ => write(&[byte]),
        }
    }
    true
}

/// Whether a path given in a query is in proto form already; both forms are common there.
pub(super) fn is_proto_form(path: &str) -> bool {
    is_path(path) && path.contains('_') && !path.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_path(path: &str) -> bool {
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    path.split('.').all(|part| part == "*" || is_name(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_come_back_are_translated() {
        let table = [
            ("displayName", Some("display_name")),
            ("a.bC.d", Some("a.b_c.d")),
            ("f1", Some("f1")),
            ("*", Some("*")),
            ("authors.*.givenName", Some("authors.*.given_name")),
            ("a*", None),
            ("**", None),
            ("display_name", None),
            ("a..b", None),
            ("a.", None),
            ("a-b", None),
            ("", None),
            ("a b", None),
        ];
        for (json, proto) in table {
            let mut found = Vec::new();
            let sound = to_proto(json, |bytes| found.extend_from_slice(bytes));

            assert_eq!(sound.then_some(found.as_slice()), proto.map(str::as_bytes), "{json}");
        }
        for proto in ["FooBar", "foo__bar", "foo_3", "foo_", ""] {
            assert!(!to_json(proto, |_| {}), "{proto}");
        }
    }

    #[test]
    fn json_form_joins_words_with_capitals() {
        let mut found = Vec::new();

        assert!(to_json("shelf.*.display_name", |bytes| found.extend_from_slice(bytes)));
        assert_eq!(found, b"shelf.*.displayName");
    }
}
