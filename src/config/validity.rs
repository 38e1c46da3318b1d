//! From when to when a certificate is valid, read out of its DER ([RFC 5280 §4.1](https://www.rfc-editor.org/rfc/rfc5280#section-4.1)).
//!
//! Only for a warning at start: nothing is verified here, and a certificate that is not understood has no dates.

use std::time::{SystemTime, UNIX_EPOCH};

use super::der::element;

/// Seconds since the Unix epoch, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) from: i64,
    pub(crate) until: i64,
}

impl Validity {
    /// ```text
    /// Certificate    ::= SEQUENCE { tbsCertificate, ... }
    /// TBSCertificate ::= SEQUENCE { [0] version OPTIONAL, serialNumber, signature, issuer, validity, ... }
    /// Validity       ::= SEQUENCE { notBefore Time, notAfter Time }
    /// ```
    pub(crate) fn of(certificate: &[u8]) -> Option<Self> {
        let (tag, certificate, _) = element(certificate)?;
        let (inner, mut tbs, _) = element(certificate).filter(|_| tag == SEQUENCE)?;
        if inner != SEQUENCE {
            return None;
        }
        if let Some((VERSION, _, rest)) = element(tbs) {
            tbs = rest;
        }
        for _serial_signature_issuer in 0..3 {
            (_, _, tbs) = element(tbs)?;
        }
        let (tag, validity, _) = element(tbs)?;
        let (kind, from, rest) = element(validity).filter(|_| tag == SEQUENCE)?;
        let from = time(kind, from)?;
        let (kind, until, _) = element(rest)?;
        Some(Self { from, until: time(kind, until)? })
    }

    /// What is wrong with the dates at that time.
    pub(crate) fn complaint(self, now: SystemTime) -> Option<&'static str> {
        let now = now.duration_since(UNIX_EPOCH).ok().and_then(|now| i64::try_from(now.as_secs()).ok())?;
        if now > self.until {
            return Some("has expired");
        }
        (now < self.from).then_some("is not valid yet")
    }
}

/// `YYMMDDHHMMSSZ`, whose years are 1950 to 2049, or `YYYYMMDDHHMMSSZ`.
fn time(kind: u8, text: &[u8]) -> Option<i64> {
    let digits = text.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let number = |digits: &[u8]| digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    let (year, rest) = match (kind, digits.len()) {
        (UTC_TIME, 12) => {
            let (year, rest) = digits.split_at(2);
            (if number(year) < 50 { 2000 + number(year) } else { 1900 + number(year) }, rest)
        }
        (GENERALIZED_TIME, 14) => {
            let (year, rest) = digits.split_at(4);
            (number(year), rest)
        }
        _ => return None,
    };
    let mut parts = rest.chunks(2).map(number);
    let mut next = || parts.next();
    let days = days(year, next()?, next()?);
    Some(((days * 24 + next()?) * 60 + next()?) * 60 + next()?)
}

/// Days from the Unix epoch to a date of the Gregorian calendar, counted in years that begin in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - DAYS_TO_EPOCH
}

/// From March of the year 0 to 1970.
const DAYS_TO_EPOCH: i64 = 719_468;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn certificate(from: i32, until: i32) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(from, 2, 28);
        params.not_after = rcgen::date_time_ymd(until, 3, 1);
        let key = rcgen::KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn dates_are_read_in_both_notations() {
        for (from, until) in [(1970, 2024), (2024, 2049), (2049, 2050), (2000, 2101)] {
            let validity = Validity::of(&certificate(from, until)).expect("dates");
            let unix =
                |date: rcgen::CertificateParams| (date.not_before.unix_timestamp(), date.not_after.unix_timestamp());
            let mut expected = rcgen::CertificateParams::default();
            expected.not_before = rcgen::date_time_ymd(from, 2, 28);
            expected.not_after = rcgen::date_time_ymd(until, 3, 1);
            assert_eq!((validity.from, validity.until), unix(expected), "{from} {until}");
        }
    }

    #[test]
    fn complains_outside_the_dates() {
        let validity = Validity { from: 100, until: 200 };
        let at = |seconds| validity.complaint(UNIX_EPOCH + Duration::from_secs(seconds));

        assert_eq!((at(99), at(100), at(200), at(201)), (Some("is not valid yet"), None, None, Some("has expired")));
    }

    #[test]
    fn what_is_no_certificate_has_no_dates() {
        let whole = certificate(2024, 2030);
        for length in 0..100 {
            assert_eq!(Validity::of(&whole[..length]), None, "{length}");
        }
        for bytes in [&b""[..], b"0", b"0\x84", b"0\x80", b"not a certificate"] {
            assert_eq!(Validity::of(bytes), None, "{bytes:?}");
        }
    }
}
