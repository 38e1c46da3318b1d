//! `google.protobuf.Timestamp` and `Duration` as text, both ways.
//!
//! Timestamps are RFC 3339 in UTC, years 0001 to 9999; any offset is read, `Z` is written. Durations are seconds with up
//! to nine digits after the point and an `s`. Both are written with 0, 3, 6 or 9 digits
//! (<https://protobuf.dev/programming-guides/json/>). Leap seconds do not exist here, as in protobuf itself.

/// Seconds and nanoseconds, as both messages hold them in their fields 1 and 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) seconds: i64,
    pub(super) nanos: i32,
}

/// Longest text that the functions here write.
pub(super) const MAX_TEXT: usize = 32;

const MIN_SECONDS: i64 = -62_135_596_800;
const MAX_SECONDS: i64 = 253_402_300_799;
/// Bounds the seconds alone: any fraction may stand beside them (`google/protobuf/duration.proto`).
const MAX_DURATION: i64 = 315_576_000_000;
const DAY: i64 = 86_400;

/// Reads RFC 3339, `None` if it is not or out of range.
pub(super) fn parse_timestamp(text: &str) -> Option<Moment> {
    let bytes = text.as_bytes();
    let (head, rest) = bytes.split_at_checked(19)?;
    let field = |from: usize, to: usize| head.get(from..to).and_then(number);
    let separators = [head.get(4)?, head.get(7)?, head.get(10)?, head.get(13)?, head.get(16)?];
    if separators != [&b'-', &b'-', &b'T', &b':', &b':'] {
        return None;
    }
    let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    let (hour, minute, second) = (field(11, 13)?, field(14, 16)?, field(17, 19)?);
    let sound = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !sound {
        return None;
    }
    let (nanos, zone) = match rest.split_first() {
        Some((b'.', fraction)) => {
            let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (digits, zone) = fraction.split_at_checked(length)?;
            (nanoseconds(digits)?, zone)
        }
        _ => (0, rest),
    };
    let offset = match zone {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3600 + minutes * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let seconds = days_from_civil(year, month, day) * DAY + hour * 3600 + minute * 60 + second - offset;
    (MIN_SECONDS..=MAX_SECONDS).contains(&seconds).then_some(Moment { seconds, nanos })
}

/// Reads seconds such as `-1.5s`, `None` if the text is no duration or out of range.
pub(super) fn parse_duration(text: &str) -> Option<Moment> {
    let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let body = rest.strip_suffix('s')?;
    let (whole, fraction) = match body.split_once('.') {
        Some((whole, fraction)) => (whole, nanoseconds(fraction.as_bytes())?),
        None => (body, 0),
    };
    if whole.is_empty() || whole.len() > 12 {
        return None;
    }
    let seconds = number(whole.as_bytes())?;
    if seconds > MAX_DURATION {
        return None;
    }
    Some(if negative { Moment { seconds: -seconds, nanos: -fraction } } else { Moment { seconds, nanos: fraction } })
}

impl Moment {
    /// Writes RFC 3339 to the front of `text` and gives its length, `None` if the moment is out of range.
    pub(super) fn write_timestamp(self, text: &mut [u8; MAX_TEXT]) -> Option<usize> {
        let nanos = u32::try_from(self.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
        if !(MIN_SECONDS..=MAX_SECONDS).contains(&self.seconds) {
            return None;
        }
        let (year, month, day) = civil_from_days(self.seconds.div_euclid(DAY));
        let second = self.seconds.rem_euclid(DAY);
        text[..19].copy_from_slice(b"0000-00-00T00:00:00");
        two_digits(&mut text[0..2], year / 100);
        two_digits(&mut text[2..4], year % 100);
        two_digits(&mut text[5..7], month);
        two_digits(&mut text[8..10], day);
        two_digits(&mut text[11..13], second / 3600);
        two_digits(&mut text[14..16], second / 60 % 60);
        two_digits(&mut text[17..19], second % 60);
        let end = write_fraction(text, 19, nanos);
        text[end] = b'Z';
        Some(end + 1)
    }

    /// Writes a duration to the front of `text` and gives its length, `None` if it is out of range or its parts differ
    /// in sign.
    pub(super) fn write_duration(self, text: &mut [u8; MAX_TEXT]) -> Option<usize> {
        let (seconds, nanos) = (self.seconds.unsigned_abs(), self.nanos.unsigned_abs());
        let mixed = (self.seconds > 0 && self.nanos < 0) || (self.seconds < 0 && self.nanos > 0);
        if mixed || nanos >= 1_000_000_000 || seconds > MAX_DURATION.unsigned_abs() {
            return None;
        }
        let mut at = 0;
        if self.seconds < 0 || self.nanos < 0 {
            text[0] = b'-';
            at = 1;
        }
        let mut digits = itoa::Buffer::new();
        let whole = digits.format(seconds).as_bytes();
        text[at..at + whole.len()].copy_from_slice(whole);
        let end = write_fraction(text, at + whole.len(), nanos);
        text[end] = b's';
        Some(end + 1)
    }
}

/// Writes nothing, or a point and 3, 6 or 9 digits; gives the end.
fn write_fraction(text: &mut [u8; MAX_TEXT], at: usize, nanos: u32) -> usize {
    if nanos == 0 {
        return at;
    }
    let digits = match nanos {
        nanos if nanos.is_multiple_of(1_000_000) => 3,
        nanos if nanos.is_multiple_of(1_000) => 6,
        _ => 9,
    };
    text[at] = b'.';
    let mut rest = nanos / 10u32.pow(9 - digits);
    let end = at + 1 + digits as usize;
    for place in text[at + 1..end].iter_mut().rev() {
        *place = digit(rest % 10);
        rest /= 10;
    }
    end
}

fn two_digits(place: &mut [u8], value: i64) {
    let value = u32::try_from(value).unwrap_or(0);
    place[0] = digit(value / 10 % 10);
    place[1] = digit(value % 10);
}

fn digit(value: u32) -> u8 {
    b'0' + (value & 15) as u8
}

/// Digits only.
fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0i64, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
}

/// One to nine digits after a point.
fn nanoseconds(digits: &[u8]) -> Option<i32> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    let missing = 10i64.pow(9 - u32::try_from(digits.len()).ok()?);
    i32::try_from(number(digits)? * missing).ok()
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar. Years are counted from March, so that the leap day is
/// the last one; `153 / 5` is the average length of the months that follow.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a number of days since 1970-01-01.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamp(seconds: i64, nanos: i32) -> Option<String> {
        let mut text = [0; MAX_TEXT];
        let length = Moment { seconds, nanos }.write_timestamp(&mut text)?;
        Some(String::from_utf8(text[..length].to_vec()).unwrap())
    }

    fn duration(seconds: i64, nanos: i32) -> Option<String> {
        let mut text = [0; MAX_TEXT];
        let length = Moment { seconds, nanos }.write_duration(&mut text)?;
        Some(String::from_utf8(text[..length].to_vec()).unwrap())
    }

    #[test]
    fn reads_timestamps_of_any_offset() {
        let table: &[(&str, Option<(i64, i32)>)] = &[
            ("1970-01-01T00:00:00Z", Some((0, 0))),
            ("1970-01-01T01:00:00+01:00", Some((0, 0))),
            ("1969-12-31T23:59:59.5Z", Some((-1, 500_000_000))),
            ("0001-01-01T00:00:00Z", Some((MIN_SECONDS, 0))),
            ("9999-12-31T23:59:59.999999999Z", Some((MAX_SECONDS, 999_999_999))),
            ("2024-02-29T12:00:00-08:30", Some((1_709_238_600, 0))),
            ("2023-02-29T12:00:00Z", None),
            ("0001-01-01T00:00:00+01:00", None),
            ("9999-12-31T23:59:59-00:01", None),
            ("0000-01-01T00:00:00Z", None),
            ("1970-01-01T00:00:00", None),
            ("1970-01-01t00:00:00Z", None),
            ("1970-01-01T00:00:00z", None),
            ("1970-01-01T24:00:00Z", None),
            ("1970-01-01T00:00:60Z", None),
            ("1970-01-01T00:00:00.Z", None),
            ("1970-01-01T00:00:00.1234567890Z", None),
            ("1970-01-01T00:00:00+0100", None),
            ("1970-1-01T00:00:00Z", None),
            (" 1970-01-01T00:00:00Z", None),
            ("1970-01-01T00:00:00é", None),
            ("", None),
        ];
        for (text, expected) in table {
            let found = parse_timestamp(text).map(|moment| (moment.seconds, moment.nanos));

            assert_eq!(&found, expected, "{text}");
        }
    }

    #[test]
    fn writes_timestamps_with_as_many_digits_as_needed() {
        assert_eq!(timestamp(0, 0).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(timestamp(0, 10_000_000).as_deref(), Some("1970-01-01T00:00:00.010Z"));
        assert_eq!(timestamp(-1, 1_000).as_deref(), Some("1969-12-31T23:59:59.000001Z"));
        assert_eq!(timestamp(MAX_SECONDS, 999_999_999).as_deref(), Some("9999-12-31T23:59:59.999999999Z"));
        assert_eq!(timestamp(MIN_SECONDS, 0).as_deref(), Some("0001-01-01T00:00:00Z"));
        assert_eq!(timestamp(MAX_SECONDS + 1, 0), None);
        assert_eq!(timestamp(MIN_SECONDS - 1, 0), None);
        assert_eq!(timestamp(0, -1), None);
        assert_eq!(timestamp(0, 1_000_000_000), None);
    }

    #[test]
    fn calendar_is_its_own_reverse() {
        for days in (-719_162..2_932_896).step_by(17) {
            let (year, month, day) = civil_from_days(days);

            assert_eq!(days_from_civil(year, month, day), days);
        }
    }

    #[test]
    fn reads_and_writes_durations() {
        #[allow(clippy::type_complexity, reason = "a table: text, what it means, how that is written")]
        let table: &[(&str, Option<(i64, i32)>, Option<&str>)] = &[
            ("0s", Some((0, 0)), Some("0s")),
            ("1.5s", Some((1, 500_000_000)), Some("1.500s")),
            ("-0.5s", Some((0, -500_000_000)), Some("-0.500s")),
            ("-1.000000001s", Some((-1, -1)), Some("-1.000000001s")),
            ("315576000000s", Some((MAX_DURATION, 0)), Some("315576000000s")),
            ("315576000001s", None, None),
            ("-315576000000.999999999s", Some((-MAX_DURATION, -999_999_999)), Some("-315576000000.999999999s")),
            ("1", None, None),
            ("s", None, None),
            (".5s", None, None),
            ("1.s", None, None),
            ("+1s", None, None),
            ("--1s", None, None),
            ("1.1234567890s", None, None),
            ("99999999999999999999s", None, None),
        ];
        for (text, expected, written) in table {
            let found = parse_duration(text).map(|moment| (moment.seconds, moment.nanos));

            assert_eq!(&found, expected, "{text}");
            assert_eq!(found.and_then(|(seconds, nanos)| duration(seconds, nanos)).as_deref(), *written, "{text}");
        }
        assert_eq!(duration(1, -1), None);
        assert_eq!(duration(MAX_DURATION + 1, 0), None);
        assert_eq!(duration(i64::MIN, i32::MIN), None);
    }
}
