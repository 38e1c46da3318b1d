//! Calendar days and clock time as protobuf timestamps.

use std::time::SystemTime;

use crate::pb::google::protobuf::{Duration, Timestamp};

/// The time of the system's clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
    }
}

/// A time some seconds later.
pub(crate) fn later(time: Timestamp, by: Duration) -> Timestamp {
    Timestamp { seconds: time.seconds.saturating_add(by.seconds), nanos: time.nanos }
}

/// The first second of a day of the Gregorian calendar, in UTC.
pub(crate) fn day(year: i64, month: i64, day: i64) -> Timestamp {
    // Counting years from March puts the leap day last, so that the lengths of the months before it are a formula.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1;
    // 719,468 days lie between the first of March of year 0 and the first of January 1970.
    Timestamp { seconds: (days - 719_468) * 86_400, nanos: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_days_from_the_epoch() {
        assert_eq!(day(1970, 1, 1).seconds, 0);
        assert_eq!(day(2000, 2, 29).seconds, 951_782_400);
        assert_eq!(day(1969, 12, 31).seconds, -86_400);
        assert_eq!(day(1859, 11, 24).seconds, -3_474_576_000);
    }
}
