//! Deadlines as header values.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderValue;

/// Reads a `grpc-timeout`: one to eight digits and a unit of `H M S m u n` (PROTOCOL-HTTP2 "Timeout").
pub fn parse_grpc(value: &[u8]) -> Option<Duration> {
    let (&unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount = digits.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// Reads `x-server-timeout` and `request-timeout`: seconds, with a fraction if wanted.
pub fn parse_seconds(value: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?;
    // `f64` also reads signs, exponents, infinities and NaN, which are no durations.
    if text.len() > 20 || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

/// Reads a `connect-timeout-ms`: one to ten digits (<https://connectrpc.com/docs/protocol#unary-request>).
pub fn parse_millis(value: &[u8]) -> Option<Duration> {
    if value.is_empty() || value.len() > 10 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(Duration::from_millis(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))))
}

/// Writes a `grpc-timeout`, rounded up so that a deadline never becomes zero by rounding, in the finest unit that
/// fits into eight digits.
pub fn grpc_value(left: Duration) -> HeaderValue {
    const LIMIT: u128 = 100_000_000;
    let nanos = left.as_nanos();
    let (amount, unit) = [(1, b'n'), (1_000, b'u'), (1_000_000, b'm'), (1_000_000_000, b'S'), (60_000_000_000, b'M')]
        .into_iter()
        .map(|(scale, unit)| (nanos.div_ceil(scale), unit))
        .find(|(amount, _)| *amount < LIMIT)
        .unwrap_or_else(|| (nanos.div_ceil(3_600_000_000_000).min(LIMIT - 1), b'H'));
    let mut digits = itoa::Buffer::new();
    let mut text = BytesMut::with_capacity(9);
    text.extend_from_slice(digits.format(amount).as_bytes());
    text.extend_from_slice(&[unit]);
    let mut value = HeaderValue::from_maybe_shared(Bytes::from(text)).expect("digits and a letter are a header value");
    // Nearly every call has another one: in HPACK's table it would push out what is used again.
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit_and_nothing_else() {
        assert_eq!(parse_grpc(b"1H"), Some(Duration::from_secs(3600)));
        assert_eq!(parse_grpc(b"20M"), Some(Duration::from_secs(1200)));
        assert_eq!(parse_grpc(b"99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(parse_grpc(b"5m"), Some(Duration::from_millis(5)));
        assert_eq!(parse_grpc(b"7u"), Some(Duration::from_micros(7)));
        assert_eq!(parse_grpc(b"0n"), Some(Duration::ZERO));
        for bad in [&b""[..], b"S", b"1", b"100000000S", b"-1S", b"1.5S", b"1s", b"1 S"] {
            assert_eq!(parse_grpc(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn reads_seconds_with_a_fraction_and_nothing_else() {
        assert_eq!(parse_seconds(b"1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(parse_seconds(b"30"), Some(Duration::from_secs(30)));
        for bad in [&b""[..], b".", b"-1", b"1e3", b"inf", b"NaN", b"1s", b"1.2.3"] {
            assert_eq!(parse_seconds(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn reads_up_to_ten_digits_of_milliseconds() {
        assert_eq!(parse_millis(b"1500"), Some(Duration::from_millis(1500)));
        assert_eq!(parse_millis(b"9999999999"), Some(Duration::from_millis(9_999_999_999)));
        for bad in [&b""[..], b"10000000000", b"-1", b"1.5", b"1s"] {
            assert_eq!(parse_millis(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn writes_eight_digits_at_most_and_never_less_than_is_left() {
        for nanos in [0, 1, 99_999_999, 100_000_000, 14_999_999_999, u64::MAX] {
            let left = Duration::from_nanos(nanos);
            let value = grpc_value(left);
            let read = parse_grpc(value.as_bytes()).unwrap();
            assert!(read >= left && value.len() <= 9, "{value:?}");
        }
        assert_eq!(grpc_value(Duration::from_secs(15)), "15000000u");
    }
}
