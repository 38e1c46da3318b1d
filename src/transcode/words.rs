//! Eight bytes at a time, in the registers that every CPU has.
//!
//! A word holds the first byte in its lowest bits. Tests mark a byte by its high bit ([`HIGH`]).

const ONES: u64 = 0x0101_0101_0101_0101;
/// The high bit of every byte; of a text, where it is not ASCII.
pub(super) const HIGH: u64 = 0x8080_8080_8080_8080;

/// The bytes from `at` on, filled up with zeros where they end.
#[inline]
pub(super) fn load(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    match rest.first_chunk::<8>() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => load_short(rest),
    }
}

/// The same from the middle of a text, whose end is rarely near.
#[inline]
pub(super) fn load_inside(text: &[u8], at: usize) -> u64 {
    #[cold]
    #[inline(never)]
    fn load_at_end(text: &[u8], at: usize) -> u64 {
        load(text, at)
    }
    match text.get(at..).and_then(<[u8]>::first_chunk) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => load_at_end(text, at),
    }
}

/// Fewer than eight bytes: two loads that may overlap, where the same bytes meet.
#[inline]
fn load_short(bytes: &[u8]) -> u64 {
    let length = bytes.len();
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let (first, last) = (u64::from(u32::from_le_bytes(*first)), u64::from(u32::from_le_bytes(*last)));
        return first | last << (8 * (length - 4));
    }
    match bytes {
        [] => 0,
        [first, ..] => {
            let (middle, last) = (bytes[length / 2], bytes[length - 1]);
            u64::from(*first) | u64::from(middle) << (8 * (length / 2)) | u64::from(last) << (8 * (length - 1))
        }
    }
}

/// How many bytes stand before the lowest mark, 8 if there is none.
#[inline]
pub(super) fn before(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
}

/// Marks quotes, backslashes and control characters, zeros behind the end among them; here every mark is right.
#[inline]
pub(super) fn special(word: u64) -> u64 {
    // No sum of these crosses into the next byte.
    let low = word & !HIGH;
    let not_zero = |low: u64| low.wrapping_add(!HIGH);
    let plain = not_zero(low ^ (ONES * 0x22)) & not_zero(low ^ (ONES * 0x5c)) & low.wrapping_add(ONES * 0x60);
    !(plain | word) & HIGH
}

/// Whether all are ASCII and none is special.
#[inline]
pub(super) fn is_plain_ascii(block: &[u8; 32]) -> bool {
    // As a signed number a byte beyond ASCII is less than a space too. Written so that it compiles to vectors.
    let marks = block.map(|byte| u8::from((byte.cast_signed() < 0x20) | (byte == b'"') | (byte == b'\\')));
    marks == [0; 32]
}

/// Offset of the first quote, backslash or control character at or after `at`, or the end.
#[inline]
pub(super) fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    // Most strings are short.
    let mut found = before(special(load_inside(bytes, at)));
    if found == 8 {
        at += 8;
        let long = at + 96;
        while bytes.get(at..).and_then(<[u8]>::first_chunk).is_some_and(is_plain_ascii) {
            at += 32;
            if at > long {
                return at + long_plain_end(bytes.get(at..).unwrap_or_default());
            }
        }
        found = before(special(load_inside(bytes, at)));
        while found == 8 {
            at += 8;
            found = before(special(load_inside(bytes, at)));
        }
    }
    (at + found).min(bytes.len())
}

/// The same for the rest of a text that went on for long: looks for the end with the vectors of the CPU, and for control
/// characters in a second pass over what is still near, which compiles to vectors too.
#[inline(never)]
fn long_plain_end(bytes: &[u8]) -> usize {
    let mut at = 0;
    for near in bytes.chunks(1024) {
        let found = memchr::memchr2(b'"', b'\\', near);
        let plain = near.get(..found.unwrap_or(near.len())).unwrap_or_default();
        if plain.iter().fold(u8::MAX, |lowest, byte| lowest.min(*byte)) < b' ' {
            return at + plain.iter().position(|byte| *byte < b' ').unwrap_or_default();
        }
        at += plain.len();
        if found.is_some() {
            break;
        }
    }
    at
}

/// Length of the decimal digits in front, and what they stand for.
#[inline]
pub(super) fn digits(word: u64) -> (usize, u64) {
    let digits = word ^ (ONES * 0x30);
    // A carry may mark a byte wrongly, but only above one that is marked rightly.
    let length = before((digits.wrapping_add(ONES * 0x76) | digits) & HIGH);
    if length == 0 {
        return (0, 0);
    }
    // As the last of eight digits, with zeros in front; then pairs, fours and all of them are added up.
    let pairs = (digits << (8 * (8 - length))).wrapping_mul(1 + (10 << 8)) >> 8 & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(1 + (100 << 16)) >> 16 & 0x0000_ffff_0000_ffff;
    (length, fours.wrapping_mul(1 + (10_000 << 32)) >> 32)
}

/// The reverse: eight digits, with zeros in front, as numbers and not as text yet.
#[inline]
pub(super) fn to_digits(number: u64) -> u64 {
    debug_assert!(number < 100_000_000, "eight digits");
    // Halved three times; the factors and shifts divide exactly what can stand in their lanes.
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = (fours * 10_486) >> 20 & 0x0000_007f_0000_007f;
    let pairs = hundreds | (fours - hundreds * 100) << 16;
    let tens = (pairs * 103) >> 10 & 0x000f_000f_000f_000f;
    tens | (pairs - tens * 10) << 8
}

/// Digits as text.
#[inline]
pub(super) fn digits_text(digits: u64) -> u64 {
    digits | (ONES * 0x30)
}

/// A character as UTF-8, and its length.
#[inline]
pub(super) fn to_utf8(character: char) -> (u64, usize) {
    let code = u64::from(u32::from(character));
    let continued = |shift: u32| 0x80 | (code >> shift) & 0x3f;
    match code {
        0..0x80 => (code, 1),
        0x80..0x800 => (0xc0 | code >> 6 | continued(0) << 8, 2),
        0x800..0x1_0000 => (0xe0 | code >> 12 | continued(6) << 8 | continued(0) << 16, 3),
        _ => (0xf0 | code >> 18 | continued(12) << 8 | continued(6) << 16 | continued(0) << 24, 4),
    }
}

/// A varint of up to eight bytes, its length in bytes in front.
#[inline]
pub(super) fn to_varint(value: u64) -> Option<(usize, u64)> {
    if value >> 56 != 0 {
        return None;
    }
    let last = (63 - (value | 1).leading_zeros()) / 7;
    Some((last as usize + 1, spread(value) | HIGH & ((1 << (8 * last)) - 1)))
}

/// The first eight bytes of a longer varint; what is left of the value follows as a varint.
#[inline]
pub(super) fn start_of_varint(value: u64) -> u64 {
    spread(value) | HIGH
}

/// The lowest 56 bits, seven in each byte.
#[inline]
fn spread(value: u64) -> u64 {
    let word = value & 0x0fff_ffff | (value & 0x00ff_ffff_f000_0000) << 4;
    let word = word & 0x0000_3fff_0000_3fff | (word & 0x0fff_c000_0fff_c000) << 2;
    word & 0x007f_007f_007f_007f | (word & 0x3f80_3f80_3f80_3f80) << 1
}

/// The reverse of [`to_varint`]: length and value of the varint in front, `None` if it does not end in this word.
#[inline]
pub(super) fn from_varint(word: u64) -> Option<(usize, u64)> {
    let ends = !word & HIGH;
    if ends == 0 {
        return None;
    }
    Some((before(ends) + 1, join(word & (ends ^ ends.wrapping_sub(1)))))
}

/// The reverse of [`start_of_varint`].
#[inline]
pub(super) fn join(word: u64) -> u64 {
    let word = word & !HIGH;
    let word = word & 0x007f_007f_007f_007f | (word & 0x7f00_7f00_7f00_7f00) >> 1;
    let word = word & 0x0000_3fff_0000_3fff | (word & 0x3fff_0000_3fff_0000) >> 2;
    word & 0x0fff_ffff | (word & 0x0fff_ffff_0000_0000) >> 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_what_is_there_and_zeros() {
        for length in 0..12u8 {
            let bytes: Vec<u8> = (1..=length).collect();
            let mut expected = [0; 8];
            for (place, byte) in expected.iter_mut().zip(&bytes) {
                *place = *byte;
            }

            assert_eq!(load(&bytes, 0).to_le_bytes(), expected, "{length} bytes");
            assert_eq!(load_inside(&bytes, 0).to_le_bytes(), expected, "{length} bytes");
        }
        assert_eq!(load(b"abc", 5), 0);
    }

    #[test]
    fn special_bytes_are_found_at_every_place() {
        for special in [b'"', b'\\', 0, 0x1f] {
            for place in 0..90 {
                for filling in [b'x', b' ', b'!', 0x7f, 0x80, 0xff] {
                    for before in [0, 150] {
                        let mut text = vec![filling; before + 90];
                        text[before + place] = special;

                        assert_eq!(plain_end(&text, 0), before + place);
                        assert_eq!(plain_end(&text[..before + place], 0), before + place);
                    }
                }
            }
        }
        assert_eq!(plain_end("é漢字\u{7f} !#".as_bytes(), 0), 12);
        assert_eq!(plain_end(b"abc", 7), 3);
    }

    #[test]
    fn digits_end_at_what_is_none() {
        for text in ["", "0", "7", "42", "007", "12345678", "99999999", "1234567"] {
            for end in ["", ",", "/", ":", "x", "\u{0}", "é", "\u{7f}"] {
                let word = load(format!("{text}{end}").as_bytes(), 0);

                assert_eq!(digits(word), (text.len(), text.parse().unwrap_or(0)), "{text}{end}");
            }
        }
    }

    #[test]
    fn digits_are_written_as_they_are_read() {
        for number in (0..100_000_000).step_by(997).chain(0..20_000).chain([99_999_999]) {
            let text = digits_text(to_digits(number)).to_le_bytes();

            assert_eq!(text.as_slice(), format!("{number:08}").as_bytes());
        }
    }

    #[test]
    fn characters_are_those_of_the_standard_library() {
        for character in (0..0x11_0000).filter_map(char::from_u32) {
            let mut expected = [0; 8];
            let length = character.encode_utf8(&mut expected).len();

            assert_eq!(to_utf8(character), (u64::from_le_bytes(expected), length));
        }
    }

    #[test]
    fn varints_match_the_reference_both_ways() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1 << shift) - 1, 0x5555_5555_5555_5555 >> shift] {
                let mut expected = Vec::new();
                prost::encoding::encode_varint(value, &mut expected);

                let Some((length, word)) = to_varint(value) else {
                    assert!(expected.len() > 8);
                    assert_eq!(start_of_varint(value).to_le_bytes(), expected[..8]);
                    assert_eq!(join(load(&expected, 0)), value & (u64::MAX >> 8));
                    assert_eq!(from_varint(load(&expected, 0)), None);
                    continue;
                };
                assert_eq!(word.to_le_bytes()[..length], expected);
                expected.resize(8, 0xff);
                assert_eq!(from_varint(load(&expected, 0)), Some((length, value)));
            }
        }
    }
}
