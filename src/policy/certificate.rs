//! Whom a client's certificate names.
//!
//! The listener has verified it; here its names are read: the URIs and DNS names of its SAN, and its subject.

use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value};

use crate::config::der::element;

/// What a certificate says of its owner, as claims: `sub` (the SPIFFE ID, else the first URI, DNS name, or the subject),
/// `uris`, `dns_names`, `subject`, and `spiffe_id` if there is one.
///
/// `None` for a certificate that cannot be read or that names nobody.
pub fn claims(certificate: &CertificateDer<'_>) -> Option<Map<String, Value>> {
    let read = webpki::EndEntityCert::try_from(certificate).ok()?;
    let uris: Vec<&str> = read.valid_uri_names().collect();
    let names: Vec<&str> = read.valid_dns_names().collect();
    let subject = subject(read.subject());
    // SPIFFE X509-SVID §2: exactly one URI, which is the ID.
    let spiffe = match uris.as_slice() {
        [only] if only.starts_with("spiffe://") => Some(*only),
        _ => None,
    };
    let sub = spiffe
        .or_else(|| uris.first().copied())
        .or_else(|| names.first().copied())
        .map(str::to_owned)
        .or_else(|| subject.clone())?;
    let mut claims = Map::new();
    claims.insert("sub".to_owned(), sub.into());
    claims.insert("uris".to_owned(), uris.into());
    claims.insert("dns_names".to_owned(), names.into());
    if let Some(subject) = subject {
        claims.insert("subject".to_owned(), subject.into());
    }
    if let Some(spiffe) = spiffe {
        claims.insert("spiffe_id".to_owned(), spiffe.into());
    }
    Some(claims)
}

/// A subject as [RFC 4514](https://www.rfc-editor.org/rfc/rfc4514) writes it, last part first: `CN=billing,O=Example`. `None` for an
/// empty one, or one with parts that are not understood.
///
/// ```text
/// Name ::= SEQUENCE OF SET OF SEQUENCE { type OBJECT IDENTIFIER, value ANY }
/// ```
fn subject(mut name: &[u8]) -> Option<String> {
    let mut parts: Vec<String> = Vec::new();
    while !name.is_empty() {
        let (SET, mut set, rest) = element(name)? else { return None };
        name = rest;
        let mut part: Vec<String> = Vec::new();
        while !set.is_empty() {
            let (SEQUENCE, pair, rest) = element(set)? else { return None };
            set = rest;
            let (OBJECT, kind, rest) = element(pair)? else { return None };
            let (form, value, _) = element(rest)?;
            let kind = KINDS.iter().find(|(known, _)| *known == kind)?.1;
            part.push(format!("{kind}={}", escape(&text(form, value)?)));
        }
        parts.push(part.join("+"));
    }
    parts.reverse();
    (!parts.is_empty()).then(|| parts.join(","))
}

fn text(form: u8, value: &[u8]) -> Option<String> {
    match form {
        UTF8 | PRINTABLE | IA5 => std::str::from_utf8(value).ok().map(str::to_owned),
        _ => None,
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (index, character) in text.chars().enumerate() {
        let at_end = (index == 0 && matches!(character, ' ' | '#')) || (index == last && character == ' ');
        if at_end || matches!(character, '"' | '+' | ',' | ';' | '<' | '>' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

const OBJECT: u8 = 0x06;
const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const IA5: u8 = 0x16;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// Kinds of parts that subjects are made of: those of RFC 4514 §3, the serial number, and the address of RFC 2985.
const KINDS: [(&[u8], &str); 11] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress"),
];

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};
    use serde_json::json;

    use super::*;

    fn made(names: &[&str], uris: &[&str], subject: &[(DnType, &str)]) -> CertificateDer<'static> {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).expect("names");
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().expect("a URI"))));
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate").der().clone()
    }

    #[test]
    fn the_best_name_is_the_subject_of_the_claims() {
        let spiffe = made(&["a.example.com"], &["spiffe://example.org/ns/a"], &[(DnType::CommonName, "a")]);
        assert_eq!(
            claims(&spiffe).map(Value::Object),
            Some(json!({
                "sub": "spiffe://example.org/ns/a", "spiffe_id": "spiffe://example.org/ns/a", "subject": "CN=a",
                "uris": ["spiffe://example.org/ns/a"], "dns_names": ["a.example.com"],
            }))
        );
        let two = made(&[], &["https://a/b", "spiffe://example.org/a"], &[]);
        assert_eq!(claims(&two).map(|claims| claims["sub"].clone()), Some(json!("https://a/b")));
        let dns = made(&["b.example.com"], &[], &[]);
        assert_eq!(claims(&dns).map(|claims| claims["sub"].clone()), Some(json!("b.example.com")));
        let subject = made(&[], &[], &[(DnType::OrganizationName, "A, B + C"), (DnType::CommonName, "#1 ")]);
        assert_eq!(claims(&subject).map(|claims| claims["sub"].clone()), Some(json!("CN=\\#1\\ ,O=A\\, B \\+ C")));
        assert_eq!(claims(&made(&[], &[], &[])), None);
    }

    #[test]
    fn what_is_no_certificate_names_nobody() {
        let whole = made(&["a.example.com"], &[], &[]);
        for length in 0..whole.len() {
            assert_eq!(claims(&CertificateDer::from(&whole[..length])), None);
        }
    }
}
