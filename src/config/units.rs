//! Durations (`250ms`, `10s`, `5m`, `1h`) and sizes (`64KiB`, `10MB`) as an operator types them.
//!
//! A number without a unit is never taken: a reader of the file must not have to know whether it means bytes or
//! kilobytes. What is shown reads back as the same value.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A duration of whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) Duration);

/// A duration, or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OptionalSpan(pub(crate) Option<Duration>);

/// A part of a hundred, 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Percent(pub(crate) u8);

/// A plain number with at most one digit behind its point, in tenths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tenths(pub(crate) u32);

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let milliseconds = quantity(text, DURATIONS, "a duration", "10s or 250ms")?;
        Ok(Self(Duration::from_millis(milliseconds)))
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = quantity(text, &[("%", 1)], "a part", "50%")?;
        u8::try_from(percent)
            .ok()
            .filter(|percent| *percent <= 100)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is more than 100%"))
    }
}

impl FromStr for Tenths {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (whole, tenths) = text.trim().split_once('.').unwrap_or_else(|| (text.trim(), "0"));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let read = || Some(whole.parse::<u32>().ok()?.checked_mul(10)?.checked_add(tenths.parse().ok()?).map(Self))?;
        read().filter(|_| tenths.len() == 1 && digits(whole) && digits(tenths)).ok_or_else(|| {
            format!("a number with at most one digit behind its point, such as 1.9, is needed; found {text:?}")
        })
    }
}

impl FromStr for OptionalSpan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "none" { Ok(Self(None)) } else { text.parse().map(|Span(span)| Self(Some(span))) }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        quantity(text, SIZES, "a size", "4MiB or 64KiB").map(Self)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        write_largest(milliseconds, DURATIONS, f)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

impl fmt::Display for OptionalSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(span) => Span(span).fmt(f),
            None => f.write_str("none"),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_largest(self.0, &SIZES[..BINARY_SIZES], f)
    }
}

fn quantity(text: &str, units: &[(&str, u64)], what: &str, example: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let names = || units.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    if number.is_empty() || unit.starts_with('.') {
        return Err(format!("{what} is a whole number and a unit, such as {example}; found {text:?}"));
    }
    if unit.is_empty() {
        return Err(format!("{what} needs a unit ({}), such as {example}; found {text:?}", names()));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit.trim_start()) else {
        return Err(format!("{:?} is not a unit of {what}; there are {}", unit.trim_start(), names()));
    };
    let value = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
    value.ok_or_else(|| format!("{text:?} is too large"))
}

/// In the largest unit that leaves a whole number.
fn write_largest(value: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let fitting = units.iter().rfind(|(_, factor)| value >= *factor && value.is_multiple_of(*factor));
    match fitting.or_else(|| units.first()) {
        Some((unit, factor)) => write!(f, "{}{unit}", value / factor),
        None => write!(f, "{value}"),
    }
}

/// Smallest first, in milliseconds.
const DURATIONS: &[(&str, u64)] = &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
/// The binary ones first, smallest first, since only those are written; in bytes.
const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1000),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];
const BINARY_SIZES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit() {
        for (text, milliseconds) in [("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("1h", 3_600_000)] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(milliseconds))), "{text}");
        }
        for (text, bytes) in [("7B", 7), ("64KiB", 65_536), ("4MiB", 4 << 20), ("1GiB", 1 << 30), ("10MB", 10_000_000)]
        {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        assert_eq!("2 kB".parse(), Ok(Size(2000)));
    }

    #[test]
    fn refuses_numbers_without_a_unit_and_unknown_units() {
        let cases = [
            ("10", r#"a duration needs a unit (ms, s, m, h), such as 10s or 250ms; found "10""#),
            ("1.5s", r#"a duration is a whole number and a unit, such as 10s or 250ms; found "1.5s""#),
            ("-1s", r#"a duration is a whole number and a unit, such as 10s or 250ms; found "-1s""#),
            ("3 weeks", r#""weeks" is not a unit of a duration; there are ms, s, m, h"#),
            ("99999999999999999999h", r#""99999999999999999999h" is too large"#),
            ("9999999999999999h", r#""9999999999999999h" is too large"#),
        ];

        for (text, expected) in cases {
            assert_eq!(text.parse::<Span>(), Err(expected.to_owned()));
        }
        assert_eq!(
            "4M".parse::<Size>(),
            Err(r#""M" is not a unit of a size; there are B, KiB, MiB, GiB, kB, KB, MB, GB"#.to_owned())
        );
    }

    #[test]
    fn reads_numbers_with_one_digit_behind_the_point() {
        for (text, tenths) in [("1.9", 19), ("2", 20), ("0.5", 5)] {
            assert_eq!(text.parse(), Ok(Tenths(tenths)));
        }
        for text in ["", "1.", "1.95", "-1", "+1", "1,9", "999999999999"] {
            assert!(text.parse::<Tenths>().is_err(), "{text}");
        }
        assert_eq!(Tenths(19).to_string(), "1.9");
    }

    #[test]
    fn shows_the_largest_whole_unit() {
        for text in ["0B", "65535B", "64KiB", "4MiB", "1GiB", "1025MiB"] {
            assert_eq!(text.parse::<Size>().map(|size| size.to_string()), Ok(text.to_owned()));
        }
        for text in ["0ms", "1500ms", "90s", "15m", "25h"] {
            assert_eq!(text.parse::<Span>().map(|span| span.to_string()), Ok(text.to_owned()));
        }
    }
}
