//! Decimal numbers, exactly.
//!
//! Integers never pass through a float: `9007199254740993` and `1.5e1` keep every digit. Protobuf's JSON mapping takes
//! an integer in any notation as long as its value is integral and in range
//! (<https://protobuf.dev/programming-guides/json/>).

use super::words;
use crate::schema::Kind;

/// An integer of any size up to 64 bits, with its sign apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Integer {
    pub(super) negative: bool,
    pub(super) magnitude: u64,
}

/// Why a text is not the number that was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotNumber {
    /// Not in JSON's grammar.
    Syntax,
    /// Not integral.
    Fraction,
    /// Too large for its type.
    Range,
}

/// Length of the number by JSON's grammar (RFC 8259 §6) at the start of `text`; 0 if there is none.
pub(super) fn scan(text: &[u8]) -> usize {
    let mut at = usize::from(text.first() == Some(&b'-'));
    let whole = at;
    at = digits(text, at);
    if at == whole {
        return 0;
    }
    if text.get(whole) == Some(&b'0') {
        at = whole + 1;
    }
    if text.get(at) == Some(&b'.') {
        let fraction = at + 1;
        at = digits(text, fraction);
        if at == fraction {
            return 0;
        }
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        let exponent = at + 1 + usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        at = digits(text, exponent);
        if at == exponent {
            return 0;
        }
    }
    at
}

/// Offset of the first byte at or after `at` that is no digit.
#[inline]
fn digits(text: &[u8], mut at: usize) -> usize {
    while text.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

/// The integer without fraction or exponent at `at`, and where it ends; `None` for everything else.
#[inline(always)]
pub(super) fn plain_integer(text: &[u8], at: usize) -> Option<(Integer, usize)> {
    let negative = text.get(at) == Some(&b'-');
    let start = at + usize::from(negative);
    let (magnitude, end) = some_digits(text, start, 0);
    let is_plain = end > start && end - start <= MAX_DIGITS && !has_leading_zero(text, start, end);
    if !is_plain || matches!(text.get(end), Some(b'.' | b'e' | b'E')) {
        return None;
    }
    Some((Integer { negative, magnitude }, end))
}

/// A number whose value is `magnitude` / 10^`places`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal {
    negative: bool,
    magnitude: u64,
    places: usize,
}

/// The number without exponent at `at`, and where it ends; `None` for everything else, also for more than 18 digits.
#[inline(always)]
pub(super) fn plain_decimal(text: &[u8], at: usize) -> Option<(Decimal, usize)> {
    let negative = text.get(at) == Some(&b'-');
    let start = at + usize::from(negative);
    let (mut magnitude, mut end) = some_digits(text, start, 0);
    let (mut places, mut length) = (0, end - start);
    if length == 0 || has_leading_zero(text, start, end) {
        return None;
    }
    if text.get(end) == Some(&b'.') {
        let fraction = end + 1;
        (magnitude, end) = some_digits(text, fraction, magnitude);
        places = end - fraction;
        if places == 0 {
            return None;
        }
        length += places;
    }
    if length > MAX_DIGITS || matches!(text.get(end), Some(b'e' | b'E')) {
        return None;
    }
    Some((Decimal { negative, magnitude, places }, end))
}

impl Decimal {
    /// The double nearest to it.
    #[inline]
    pub(super) fn nearest(self) -> f64 {
        // One division of two numbers that are exact is rounded once
        // (W. D. Clinger, How to Read Floating Point Numbers Accurately, 1990).
        let value = if self.magnitude <= 1 << 53 {
            self.magnitude as f64 / self.divisor() as f64
        } else {
            self.nearest_of_long()
        };
        // The sign is put on last, so that -0 keeps it.
        if self.negative { -value } else { value }
    }

    /// The same without the sign, for more digits than a double holds: a division of integers to 63 bits or 64. The lowest
    /// of them stands for all that follow, as rounding to 53 asks no more than whether there are any.
    fn nearest_of_long(self) -> f64 {
        let divisor = self.divisor();
        let (up, down) = (self.magnitude.leading_zeros(), divisor.leading_zeros());
        // With both highest bits set the quotient is more than 2^62 and less than 2^64.
        let dividend = u128::from(self.magnitude << up) << 63;
        let divisor = u128::from(divisor << down);
        let quotient = dividend / divisor;
        let has_rest = u64::from(quotient * divisor != dividend);
        let rounded = (u64::try_from(quotient).unwrap_or(u64::MAX) | has_rest) as f64;
        // A power of two between 2^-69 and 2^-4: the product is exact.
        rounded * f64::from_bits(u64::from(1023 - 63 + down - up) << 52)
    }

    /// 10^`places`: exact as a double too, there are no more than [`MAX_DIGITS`].
    #[inline]
    fn divisor(self) -> u64 {
        const POWERS: [u64; MAX_DIGITS + 1] = {
            let mut powers = [1; MAX_DIGITS + 1];
            let mut place = 1;
            while place <= MAX_DIGITS {
                powers[place] = powers[place - 1] * 10;
                place += 1;
            }
            powers
        };
        POWERS[self.places]
    }
}

/// So many digits cannot overflow 64 bits.
const MAX_DIGITS: usize = 18;

/// The digits at `at`, appended to `magnitude`, and where they end. Whoever asks must see to it that there are some, and
/// not more than [`MAX_DIGITS`].
#[inline(always)]
fn some_digits(text: &[u8], mut at: usize, mut magnitude: u64) -> (u64, usize) {
    const POWERS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];
    loop {
        let (length, value) = words::digits(words::load_inside(text, at));
        magnitude = magnitude.wrapping_mul(POWERS[length]).wrapping_add(value);
        at += length;
        if length < 8 {
            return (magnitude, at);
        }
    }
}

#[inline]
fn has_leading_zero(text: &[u8], start: usize, end: usize) -> bool {
    end - start > 1 && text.get(start) == Some(&b'0')
}

/// The integer that `token` stands for; `token` is a number of JSON's grammar.
pub(super) fn integer(token: &str) -> Result<Integer, NotNumber> {
    let (negative, unsigned) = token.strip_prefix('-').map_or((false, token), |rest| (true, rest));
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // Beyond this any digit but zero is out of range or a fraction, however long the text may be.
    const FAR: i64 = 1 << 40;
    let (exponent_sign, exponent) = match exponent.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, exponent.strip_prefix('+').unwrap_or(exponent)),
    };
    let exponent = exponent_sign
        * exponent.bytes().fold(0i64, |value, digit| (value * 10 + i64::from(digit.wrapping_sub(b'0'))).min(FAR));
    let point = i64::try_from(whole.len()).unwrap_or(FAR).saturating_add(exponent);

    let mut magnitude = 0u64;
    let mut at = 0i64;
    for digit in whole.bytes().chain(fraction.bytes()) {
        let digit = u64::from(digit.wrapping_sub(b'0'));
        if at < point {
            magnitude = magnitude.checked_mul(10).and_then(|value| value.checked_add(digit)).ok_or(NotNumber::Range)?;
        } else if digit != 0 {
            return Err(NotNumber::Fraction);
        }
        at += 1;
    }
    while magnitude != 0 && at < point {
        magnitude = magnitude.checked_mul(10).ok_or(NotNumber::Range)?;
        at += 1;
    }
    Ok(Integer { negative, magnitude })
}

/// The wire bits of an integer, for a field of an integer kind.
#[inline]
pub(super) fn integer_bits(kind: Kind, Integer { negative, magnitude }: Integer) -> Result<u64, NotNumber> {
    let signed = |limit: u64| {
        if magnitude > limit - u64::from(!negative) {
            return Err(NotNumber::Range);
        }
        Ok(if negative { magnitude.wrapping_neg() } else { magnitude })
    };
    let unsigned = |limit: u64| {
        if magnitude > limit || (negative && magnitude != 0) { Err(NotNumber::Range) } else { Ok(magnitude) }
    };
    match kind {
        Kind::Int32 | Kind::Enum(_) => signed(1 << 31),
        Kind::Sfixed32 => signed(1 << 31).map(|bits| bits & 0xffff_ffff),
        Kind::Sint32 => signed(1 << 31).map(|bits| zigzag(bits.cast_signed()) & 0xffff_ffff),
        Kind::Int64 | Kind::Sfixed64 => signed(1 << 63),
        Kind::Sint64 => signed(1 << 63).map(|bits| zigzag(bits.cast_signed())),
        Kind::Uint32 | Kind::Fixed32 => unsigned(u64::from(u32::MAX)),
        Kind::Uint64 | Kind::Fixed64 => unsigned(u64::MAX),
        Kind::Double | Kind::Float | Kind::Bool | Kind::String | Kind::Bytes | Kind::Message(_) | Kind::Group(_) => {
            Err(NotNumber::Syntax)
        }
    }
}

/// The wire bits of a decimal number, for a field of any numeric kind; `token` is a number of JSON's grammar.
pub(super) fn bits(kind: Kind, token: &str) -> Result<u64, NotNumber> {
    match kind {
        Kind::Double => match token.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value.to_bits()),
            Ok(_) => Err(NotNumber::Range),
            Err(_) => Err(NotNumber::Syntax),
        },
        Kind::Float => match token.parse::<f32>() {
            Ok(value) if value.is_finite() => Ok(u64::from(value.to_bits())),
            Ok(_) => Err(NotNumber::Range),
            Err(_) => Err(NotNumber::Syntax),
        },
        _ => integer_bits(kind, integer(token)?),
    }
}

/// The wire bits of a number given as text: in quotes, as a map key, in a path or a query.
pub(super) fn bits_of_text(kind: Kind, text: &str) -> Result<u64, NotNumber> {
    if matches!(kind, Kind::Double | Kind::Float) {
        let special = match text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        };
        if let Some(value) = special {
            return Ok(if kind == Kind::Double { value.to_bits() } else { float_bits(value) });
        }
    }
    if text.is_empty() || scan(text.as_bytes()) != text.len() {
        return Err(NotNumber::Syntax);
    }
    bits(kind, text)
}

/// Bits of a not finite number as `float`.
fn float_bits(value: f64) -> u64 {
    let float = if value.is_nan() {
        f32::NAN
    } else if value > 0.0 {
        f32::INFINITY
    } else {
        f32::NEG_INFINITY
    };
    u64::from(float.to_bits())
}

/// Small magnitudes of either sign become small numbers.
#[inline]
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// The reverse of [`zigzag`].
#[inline]
pub(super) fn unzigzag(bits: u64) -> i64 {
    ((bits >> 1) ^ (bits & 1).wrapping_neg()).cast_signed()
}

/// What a numeric field takes, for messages.
pub(super) fn description(kind: Kind) -> &'static str {
    match kind {
        Kind::Double | Kind::Float => "a number",
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "an integer from -2147483648 to 2147483647",
        Kind::Uint32 | Kind::Fixed32 => "an integer from 0 to 4294967295",
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "an integer from -9223372036854775808 to 9223372036854775807",
        Kind::Uint64 | Kind::Fixed64 => "an integer from 0 to 18446744073709551615",
        Kind::Bool => "true or false",
        Kind::String => "a string",
        Kind::Bytes => "a base64 string",
        Kind::Enum(_) => "the name or number of an enum value",
        Kind::Message(_) | Kind::Group(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar_is_that_of_json() {
        for good in ["0", "-0", "10", "1.0", "-1.5e10", "1E+5", "0.0e-0", "123456789012345678901234567890"] {
            assert_eq!(scan(good.as_bytes()), good.len(), "{good}");
        }
        for bad in ["", "-", "+1", ".5", "1.", "1e", "1e+", "-a", "NaN"] {
            assert_eq!(scan(bad.as_bytes()), 0, "{bad}");
        }
        assert_eq!(scan(b"01"), 1);
        assert_eq!(scan(b"1 "), 1);
    }

    #[test]
    fn doubles_are_the_nearest_ones() {
        let mut texts: Vec<String> = [
            "0",
            "-0",
            "0.0",
            "9007199254740991",
            "9007199254740993",
            "9007199254740995",
            "-9007199254740993",
            "4503599627370497.5",
            "4503599627370498.5",
            "4503599627370497.51",
            "999999999999999999",
            "0.99999999999999999",
            "18014398509481986",
            "18014398509481990",
            "2251799813685249.25",
            "2251799813685249.75",
            "0.10000000000000001",
        ]
        .map(str::to_owned)
        .into();
        let mut random = 0x9e37_79b9_7f4a_7c15u64;
        for round in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut digits = ((random >> 4) % 10u64.pow(15 + round % 4)).to_string();
            let point = (random >> 32) as usize % digits.len();
            if point > 0 {
                digits.insert(point, '.');
            }
            texts.push(digits);
        }
        for text in texts {
            let (decimal, end) = plain_decimal(text.as_bytes(), 0).unwrap();

            assert_eq!(end, text.len());
            assert_eq!(decimal.nearest().to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
        }
    }

    #[test]
    fn integers_are_exact_in_any_notation() {
        let table: &[(&str, Result<i128, NotNumber>)] = &[
            ("9007199254740993", Ok(9_007_199_254_740_993)),
            ("18446744073709551615", Ok(18_446_744_073_709_551_615)),
            ("18446744073709551616", Err(NotNumber::Range)),
            ("-9223372036854775808", Ok(-9_223_372_036_854_775_808)),
            ("1e5", Ok(100_000)),
            ("1.5e1", Ok(15)),
            ("150e-1", Ok(15)),
            ("155e-1", Err(NotNumber::Fraction)),
            ("0.1", Err(NotNumber::Fraction)),
            ("1.0000000000000000000000000000000", Ok(1)),
            ("1.0000000000000000000000000000001", Err(NotNumber::Fraction)),
            ("0e99999999999999999999999", Ok(0)),
            ("0.000e99999999999999999999999", Ok(0)),
            ("1e99999999999999999999999", Err(NotNumber::Range)),
            ("1e-99999999999999999999999", Err(NotNumber::Fraction)),
            ("-0", Ok(0)),
        ];
        for (text, expected) in table {
            let found = integer(text).map(|integer| {
                let magnitude = i128::from(integer.magnitude);
                if integer.negative { -magnitude } else { magnitude }
            });

            assert_eq!(&found, expected, "{text}");
        }
    }

    #[test]
    fn ranges_are_those_of_the_kind() {
        let table: &[(Kind, &str, Result<u64, NotNumber>)] = &[
            (Kind::Int32, "2147483647", Ok(2_147_483_647)),
            (Kind::Int32, "2147483648", Err(NotNumber::Range)),
            (Kind::Int32, "-2147483648", Ok(0xffff_ffff_8000_0000)),
            (Kind::Int32, "-2147483649", Err(NotNumber::Range)),
            (Kind::Sint32, "-2147483648", Ok(0xffff_ffff)),
            (Kind::Sfixed32, "-1", Ok(0xffff_ffff)),
            (Kind::Uint32, "4294967295", Ok(4_294_967_295)),
            (Kind::Uint32, "4294967296", Err(NotNumber::Range)),
            (Kind::Uint32, "-1", Err(NotNumber::Range)),
            (Kind::Uint64, "-0", Ok(0)),
            (Kind::Int64, "9223372036854775808", Err(NotNumber::Range)),
            (Kind::Sint64, "-9223372036854775808", Ok(u64::MAX)),
            (Kind::Float, "3.4028235e38", Ok(u64::from(f32::MAX.to_bits()))),
            (Kind::Float, "3.5e38", Err(NotNumber::Range)),
            (Kind::Double, "1e309", Err(NotNumber::Range)),
            (Kind::Double, "-Infinity", Ok(f64::NEG_INFINITY.to_bits())),
            (Kind::Double, "nan", Err(NotNumber::Syntax)),
            (Kind::Int32, " 1", Err(NotNumber::Syntax)),
            (Kind::Int32, "", Err(NotNumber::Syntax)),
        ];
        for (kind, text, expected) in table {
            assert_eq!(&bits_of_text(*kind, text), expected, "{kind:?} {text}");
        }
    }

    #[test]
    fn zigzag_is_its_own_reverse() {
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
    }
}
