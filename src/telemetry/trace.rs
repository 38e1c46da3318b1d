//! The identifiers of a call: `x-request-id` and `traceparent`.
//!
//! What a client sends is kept if it is well-formed, and made if not. No spans are recorded yet, so the gateway is not a
//! node of the trace: it passes `traceparent` on unchanged, as
//! [W3C Trace Context §3.4](https://www.w3.org/TR/2021/REC-trace-context-1-20211123/#mutating-the-traceparent-field)
//! allows.
//!
//! **Invariant**: both types hold visible ASCII only, fit for a header and for a log line.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};

use http::{HeaderMap, HeaderName, HeaderValue};

/// Names one request across the systems that it passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The header that carries it.
    pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

    /// The client's identifier if it is 1 to 128 characters of visible ASCII, else a new one: 32 random hexadecimal
    /// digits.
    pub fn of(headers: &HeaderMap) -> Self {
        headers
            .get(&Self::HEADER)
            .filter(|value| is_request_id(value.as_bytes()))
            .map_or_else(|| Self(value(&hex::<32>(random()))), |client| Self(unindexed(client.clone())))
    }

    /// As a header.
    pub fn value(&self) -> &HeaderValue {
        &self.0
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

/// Which trace a call belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceParent {
    value: HeaderValue,
    made: bool,
}

impl TraceParent {
    /// The header that carries it.
    pub const HEADER: HeaderName = HeaderName::from_static("traceparent");

    /// The header that belongs to it, see [`Self::is_new`].
    pub const STATE: HeaderName = HeaderName::from_static("tracestate");

    /// The client's trace if there is exactly one well-formed header, else a new one that is not sampled.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(Self::HEADER).iter();
        match (values.next(), values.next()) {
            (Some(client), None) if is_traceparent(client.as_bytes()) => {
                Self { value: unindexed(client.clone()), made: false }
            }
            _ => Self { value: made(random(), random()), made: true },
        }
    }

    /// Whether the trace begins here. A `tracestate` that the client sent is then to be dropped
    /// ([§3.3](https://www.w3.org/TR/2021/REC-trace-context-1-20211123/#tracestate-header)).
    pub fn is_new(&self) -> bool {
        self.made
    }

    /// As a header.
    pub fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// The 32 hexadecimal digits of the trace.
    pub fn trace_id(&self) -> &str {
        self.value.to_str().ok().and_then(|text| text.get(3..35)).unwrap_or_default()
    }
}

/// Keeps a value that no other call has out of HPACK's tables, where it would only push out what is used again.
fn unindexed(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

fn is_request_id(bytes: &[u8]) -> bool {
    (1..=128).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
}

/// `version "-" trace-id "-" parent-id "-" trace-flags`, all in lower-case hexadecimal
/// ([§3.2](https://www.w3.org/TR/2021/REC-trace-context-1-20211123/#traceparent-header)).
///
/// Version `ff` is forbidden, as are identifiers of zeros. Later versions than `00` may have more behind a dash.
fn is_traceparent(bytes: &[u8]) -> bool {
    let Some((known, more)) = bytes.split_at_checked(55) else { return false };
    let mut parts = known.split(|byte| *byte == b'-');
    let mut part = |length: usize| {
        let part = parts.next().unwrap_or_default();
        let hex = part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        Some(part).filter(|_| part.len() == length && hex)
    };
    let (Some(version), Some(trace), Some(parent), Some(_flags)) = (part(2), part(32), part(16), part(2)) else {
        return false;
    };
    let nonzero = |id: &[u8]| id.iter().any(|byte| *byte != b'0');
    let length = match version {
        b"ff" => false,
        b"00" => more.is_empty(),
        _ => more.first().is_none_or(|byte| *byte == b'-') && more.iter().all(u8::is_ascii_graphic),
    };
    length && nonzero(trace) && nonzero(parent)
}

/// Version `00`, not sampled: nobody here records spans.
fn made(trace: u128, parent: u128) -> HeaderValue {
    let mut text = [b'-'; 55];
    let parts: [(usize, &[u8]); 4] =
        [(0, b"00"), (3, &hex::<32>(trace | 1)), (36, &hex::<16>(parent | 1)), (53, b"00")];
    for (start, part) in parts {
        for (target, byte) in text.iter_mut().skip(start).zip(part) {
            *target = *byte;
        }
    }
    value(&text)
}

fn value(text: &[u8]) -> HeaderValue {
    unindexed(HeaderValue::from_bytes(text).expect("hexadecimal digits and dashes are a header value"))
}

/// The lowest digits of a number, an even number of them.
fn hex<const DIGITS: usize>(number: u128) -> [u8; DIGITS] {
    let mut text = [b'0'; DIGITS];
    for (pair, byte) in text.rchunks_exact_mut(2).zip(number.to_le_bytes()) {
        pair.copy_from_slice(&HEX[usize::from(byte)]);
    }
    text
}

/// The digits of each byte.
const HEX: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    pairs
};

/// Not for secrets: fast, and seeded by the operating system once per thread.
//
// Two generators, because one has 64 bits of state and many replicas soon make as many identifiers as it takes for
// two of them to meet.
fn random() -> u128 {
    thread_local! {
        static GENERATORS: RefCell<[fastrand::Rng; 2]> =
            RefCell::new([0, 1].map(|half: u8| fastrand::Rng::with_seed(RandomState::new().hash_one(half))));
    }
    GENERATORS.with_borrow_mut(|[high, low]| u128::from(high.u64(..)) << 64 | u128::from(low.u64(..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn keeps_the_request_id_of_the_client() {
        for id in ["1", "a_b:c/d=", &"x".repeat(128)] {
            assert_eq!(RequestId::of(&headers(&RequestId::HEADER, &[id])).as_str(), id);
        }
    }

    #[test]
    fn makes_a_request_id_when_the_client_has_none_or_a_bad_one() {
        for id in [&[][..], &[""], &["a b"], &["\u{e9}"], &["a\tb"], &[&"x".repeat(129)]] {
            let made = RequestId::of(&headers(&RequestId::HEADER, id));

            assert_eq!(made.as_str().len(), 32);
            assert!(made.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()));
            assert_ne!(made, RequestId::of(&HeaderMap::new()));
        }
    }

    #[test]
    fn keeps_a_well_formed_traceparent() {
        for value in [
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes-later",
        ] {
            let trace = TraceParent::of(&headers(&TraceParent::HEADER, &[value]));

            assert_eq!(trace.value(), value);
            assert_eq!(trace.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
            assert!(!trace.is_new());
        }
    }

    #[test]
    fn begins_a_trace_when_the_traceparent_is_missing_or_malformed() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for values in [
            &[][..],
            &[""],
            &["00"],
            &["00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"],
            &["00-00000000000000000000000000000000-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"],
            &["ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x"],
            &["00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01"],
            &["00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01"],
            &["cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more"],
            &[good, good],
        ] {
            let trace = TraceParent::of(&headers(&TraceParent::HEADER, values));

            assert!(trace.is_new(), "{values:?}");
            assert!(is_traceparent(trace.value().as_bytes()));
            assert!(trace.value().as_bytes().ends_with(b"-00"));
            assert_eq!(trace.trace_id().len(), 32);
        }
    }

    #[test]
    fn never_makes_identifiers_of_zeros() {
        assert_eq!(made(0, 0), "00-00000000000000000000000000000001-0000000000000001-00");
        assert_eq!(made(u128::MAX, u128::MAX), "00-ffffffffffffffffffffffffffffffff-ffffffffffffffff-00");
    }
}
