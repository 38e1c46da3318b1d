//! Numbers as decimal text, in place.
//!
//! Integers and doubles with few decimals, which prices, coordinates and durations have, are written digit by digit from
//! words; all other doubles by [`zmij`], which finds the shortest text that reads back the same.

use super::out::Out;
use super::words;

/// Digits that one word holds.
const EIGHT: u64 = 100_000_000;

/// Room for any integer, written in whole words, and for any double.
const ROOM: usize = 32;

/// Appends an integer.
#[inline]
pub(super) fn write_integer(out: &mut Out<'_>, negative: bool, magnitude: u64) {
    let Some(room) = out.window(ROOM).first_chunk_mut() else { return };
    room[0] = b'-';
    let end = put_integer(room, usize::from(negative), magnitude);
    out.advance(end);
}

/// The same in quotes.
#[inline]
pub(super) fn write_quoted_integer(out: &mut Out<'_>, negative: bool, magnitude: u64) {
    let Some(room) = out.window(ROOM).first_chunk_mut() else { return };
    room[..2].copy_from_slice(b"\"-");
    let end = put_integer(room, 1 + usize::from(negative), magnitude);
    room[end] = b'"';
    out.advance(end + 1);
}

/// Appends a finite double.
#[inline]
pub(super) fn write_double(out: &mut Out<'_>, value: f64) {
    let Some(millionths) = millionths(value.abs()) else { return write_shortest(out, value) };
    let Some(room) = out.window(ROOM).first_chunk_mut() else { return };
    room[0] = b'-';
    let mut end = put_integer(room, usize::from(value.is_sign_negative()), millionths / MILLION);
    let fraction = millionths % MILLION;
    if fraction != 0 {
        // Two zeros in front of six digits make room for the point.
        let digits = words::to_digits(fraction) >> 8;
        room[end..end + 8].copy_from_slice(&(words::digits_text(digits) & !0xff | u64::from(b'.')).to_le_bytes());
        end += 7 - (digits.leading_zeros() / 8 - 1) as usize;
    }
    out.advance(end);
}

/// Appends the shortest text that reads back as the same finite number of its type.
pub(super) fn write_shortest(out: &mut Out<'_>, value: impl zmij::Float) {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    out.bytes(text.strip_suffix(".0").unwrap_or(text).as_bytes());
}

const MILLION: u64 = 1_000_000;

/// How many millionths a positive number is, if its text with six decimals is the shortest: no more than 15 digits, of which
/// any two are different doubles, and not so small that an exponent would be shorter.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "what does not fit is no number of 15 digits, and compared below")]
fn millionths(value: f64) -> Option<u64> {
    let millionths = (value * 1e6 + 0.5) as u64;
    let is_short = (1_000..1_000_000_000_000_000).contains(&millionths) || value == 0.0;
    // A division of two exact numbers is rounded as their text would be.
    (is_short && millionths as f64 / 1e6 == value).then_some(millionths)
}

/// Puts digits at `at`; gives where they end.
#[inline]
fn put_integer(room: &mut [u8; ROOM], mut at: usize, magnitude: u64) -> usize {
    if magnitude < EIGHT {
        return put_first(room, at, magnitude);
    }
    let (mut above, eight) = (magnitude / EIGHT, magnitude % EIGHT);
    if above >= EIGHT {
        at = put_first(room, at, above / EIGHT);
        above %= EIGHT;
        put(room, at, words::to_digits(above));
        at += 8;
    } else {
        at = put_first(room, at, above);
    }
    put(room, at, words::to_digits(eight));
    at + 8
}

/// Up to eight digits without zeros in front.
#[inline]
fn put_first(room: &mut [u8; ROOM], at: usize, number: u64) -> usize {
    let digits = words::to_digits(number);
    let zeros = words::before(digits | 1 << 56);
    put(room, at, digits >> (8 * zeros));
    at + 8 - zeros
}

#[inline]
fn put(room: &mut [u8; ROOM], at: usize, digits: u64) {
    if let Some(place) = room.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = words::digits_text(digits).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn text(write: impl FnOnce(&mut Out<'_>)) -> String {
        let mut buffer = BytesMut::new();
        write(&mut Out::new(&mut buffer, 0));
        String::from_utf8(buffer.to_vec()).unwrap()
    }

    #[test]
    fn integers_of_any_length_are_as_the_standard_library_writes_them() {
        let powers = (0..20).map(|places| 10u64.pow(places)).flat_map(|power| [power - 1, power, power + 1]);
        for magnitude in powers.chain([7, 42, 12_345_678, 9_876_543_210_123_456_789, u64::MAX]) {
            assert_eq!(text(|out| write_integer(out, false, magnitude)), magnitude.to_string());
            assert_eq!(text(|out| write_quoted_integer(out, true, magnitude)), format!("\"-{magnitude}\""));
        }
    }

    #[test]
    fn doubles_are_as_short_as_can_be() {
        let mut values =
            vec![0.0, -0.0, 0.001, 0.000_999, 1e-7, 0.1, 0.3, 0.1 + 0.2, 17.95, 1e9, 1e15, 1e16, 1e22, 1e300];
        values.extend([999_999_999.999_999, 1_000_000_000.000_001, 123_456_789.5, f64::MAX, f64::MIN_POSITIVE, 5e-324]);
        values.extend((0..64).flat_map(|shift| [(1u64 << shift) as f64, (1u64 << shift) as f64 / 1e6]));
        values.extend((0..20_000u32).map(|n| f64::from(n) * 1.1 + 0.123_456));
        let mut random = 17u64;
        values.extend((0..100_000).map(|round| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Six decimals, some more, and any bits.
            match round % 3 {
                0 => (random >> (14 + round % 40)) as f64 / 1e6,
                1 => (random >> (14 + round % 40)) as f64 / 1e8,
                _ => f64::from_bits(random),
            }
        }));
        for value in values.into_iter().filter(|value| value.is_finite()).flat_map(|value| [value, -value]) {
            assert_eq!(text(|out| write_double(out, value)), text(|out| write_shortest(out, value)), "{value:e}");
        }
    }
}
