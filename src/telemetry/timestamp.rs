//! Moments as text: [RFC 3339](https://www.rfc-editor.org/rfc/rfc3339#section-5.6) in UTC with milliseconds, and the date
//! of HTTP headers.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes a moment such as `2026-11-23T18:53:41.007Z`. Moments before 1970 are written as 1970, those after the year
/// 9999 with more digits.
pub(crate) fn write(out: &mut Vec<u8>, time: SystemTime) {
    thread_local! {
        /// The last second that this thread wrote, and its text.
        static LAST: RefCell<(u64, Vec<u8>)> = const { RefCell::new((u64::MAX, Vec::new())) };
    }
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    LAST.with_borrow_mut(|(last, text)| {
        if *last != since.as_secs() {
            *last = since.as_secs();
            text.clear();
            write_second(text, *last);
        }
        out.extend_from_slice(text);
    });
    digits(out, since.subsec_millis().into(), 3);
    out.push(b'Z');
}

/// Everything but the milliseconds.
fn write_second(out: &mut Vec<u8>, seconds: u64) {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    digits(out, year, 4);
    out.push(b'-');
    digits(out, month, 2);
    out.push(b'-');
    digits(out, day, 2);
    out.push(b'T');
    digits(out, second / 3600, 2);
    out.push(b':');
    digits(out, second / 60 % 60, 2);
    out.push(b':');
    digits(out, second % 60, 2);
    out.push(b'.');
}

/// Writes an [IMF-fixdate](https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7) such as `Sun, 06 Nov 1994 08:49:37 GMT`,
/// from seconds after 1970.
pub(crate) fn write_http(out: &mut Vec<u8>, seconds: u64) {
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let name = |names: &[&'static str], index: u64| {
        usize::try_from(index).ok().and_then(|index| names.get(index)).copied().unwrap_or_default()
    };
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    out.extend_from_slice(name(&WEEKDAYS, days % 7).as_bytes());
    out.extend_from_slice(b", ");
    digits(out, day, 2);
    out.push(b' ');
    out.extend_from_slice(name(&MONTHS, month - 1).as_bytes());
    out.push(b' ');
    digits(out, year, 4);
    out.push(b' ');
    digits(out, second / 3600, 2);
    out.push(b':');
    digits(out, second / 60 % 60, 2);
    out.push(b':');
    digits(out, second % 60, 2);
    out.extend_from_slice(b" GMT");
}

/// Year, month and day of the Gregorian calendar, days after 1970-01-01.
//
// Years are counted from March, so that the leap day is the last of its year; four hundred of them have 146,097 days.
fn date(days: u64) -> (u64, u64, u64) {
    // Days from 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // From March on, five months have 153 days: 31, 30, 31, 30, 31.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = year + 400 * era;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

fn digits(out: &mut Vec<u8>, number: u64, width: usize) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(number).as_bytes();
    out.extend(std::iter::repeat_n(b'0', width.saturating_sub(text.len())));
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn written(millis: u64) -> String {
        let mut out = Vec::new();
        write(&mut out, UNIX_EPOCH + Duration::from_millis(millis));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn writes_rfc_3339() {
        assert_eq!(written(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(written(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(written(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(written(951_868_800_000), "2000-03-01T00:00:00.000Z");
        assert_eq!(written(1_795_460_021_007), "2026-11-23T18:53:41.007Z");
        assert_eq!(written(4_107_542_399_000), "2100-02-28T23:59:59.000Z");
        assert_eq!(written(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
        assert_eq!(written(253_402_300_799_999), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn writes_dates_of_http() {
        let written = |seconds| {
            let mut out = Vec::new();
            write_http(&mut out, seconds);
            String::from_utf8(out).unwrap()
        };

        assert_eq!(written(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(written(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(written(1_795_460_021), "Mon, 23 Nov 2026 18:53:41 GMT");
    }

    #[test]
    fn counts_every_day_of_four_centuries_once() {
        let mut expected = (1970, 1, 1);
        for days in 0..146_097 {
            assert_eq!(date(days), expected);
            let (year, month, day) = expected;
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 => 28 + u64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = match (month, day == length) {
                (_, false) => (year, month, day + 1),
                (12, true) => (year + 1, 1, 1),
                (_, true) => (year, month + 1, 1),
            };
        }
    }
}
