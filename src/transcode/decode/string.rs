//! Strings as JSON.

use crate::transcode::out::Out;
use crate::transcode::words::{self, HIGH};

/// A quoted string; `text` is UTF-8. Only what RFC 8259 demands is escaped. Tells whether all of it was ASCII, so that
/// nobody needs to look twice.
pub(in crate::transcode) fn write_string(out: &mut Out<'_>, text: &[u8]) -> bool {
    out.byte(b'"');
    let (mut at, mut all) = (0, 0);
    while at < text.len() {
        let (word, present) = (words::load(text, at), (text.len() - at).min(8));
        all |= word;
        // What a load finds behind the end are zeros, which are not to be escaped.
        let mut marks = words::special(word) & (u64::MAX >> (64 - 8 * present));
        let mut start = 0;
        while marks != 0 {
            let place = words::before(marks);
            out.word(word >> (8 * start), place - start);
            escape(out, text[at + place]);
            start = place + 1;
            marks &= marks - 1;
        }
        if start < present {
            out.word(word >> (8 * start), present - start);
        }
        at += present;
        if all & HIGH == 0 && start == 0 {
            while let Some(block) =
                text.get(at..).and_then(<[u8]>::first_chunk).filter(|block| words::is_plain_ascii(block))
            {
                out.bytes(block);
                at += block.len();
            }
        }
    }
    out.byte(b'"');
    all & HIGH == 0
}

#[inline]
fn escape(out: &mut Out<'_>, byte: u8) {
    let escape = ESCAPES.get(usize::from(byte)).unwrap_or(&[0; 8]);
    out.word(u64::from_le_bytes(*escape), usize::from(escape[7]));
}

/// The escape of each byte that needs one, its length in the last place.
const ESCAPES: [[u8; 8]; 0x60] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut escapes = [[0; 8]; 0x60];
    let mut byte = 0;
    while byte < 0x20 {
        escapes[byte] = [b'\\', b'u', b'0', b'0', DIGITS[byte >> 4], DIGITS[byte & 15], 0, 6];
        byte += 1;
    }
    let short = [(b'"', b'"'), (b'\\', b'\\'), (8, b'b'), (12, b'f'), (b'\n', b'n'), (b'\r', b'r'), (b'\t', b't')];
    let mut index = 0;
    while index < short.len() {
        let (byte, letter) = short[index];
        escapes[byte as usize] = [b'\\', letter, 0, 0, 0, 0, 0, 2];
        index += 1;
    }
    escapes
};

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn strings_read_back_as_they_were() {
        let all: String = (0..0x180).filter_map(char::from_u32).collect();
        let long = "a longer sentence without anything special in it, and then: ".repeat(2);
        for text in ["", "plain", "quote\" back\\slash", "漢字😀", &all, &long, &format!("{long}{all}{long}")] {
            let mut buffer = BytesMut::new();
            let ascii = write_string(&mut Out::new(&mut buffer, 0), text.as_bytes());

            assert_eq!(ascii, text.is_ascii());
            assert_eq!(serde_json::from_slice::<String>(&buffer).unwrap(), text);
        }
    }
}
