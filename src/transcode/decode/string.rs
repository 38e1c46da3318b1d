//! Strings as JSON.

use crate::transcode::out::Out;
use crate::transcode::words::{self, HIGH};

/// A quoted string; `text` is UTF-8. Only what RFC 8259 demands is escaped. Tells whether all of it was ASCII, so that
/// nobody needs to look twice.
pub(in crate::transcode) fn write_string(out: &mut Out<'_>, text: &[u8]) -> bool {
    let Some((room, quoted)) = out.window(text.len() + 10).split_first_mut() else { return true };
    *room = b'"';
    let (is_plain, length, all) = copy_plain(quoted, text);
    if is_plain {
        quoted[length] = b'"';
        out.advance(length + 2);
        return all & HIGH == 0;
    }
    out.advance(length + 1);
    let is_ascii = write_rest(out, text.get(length..).unwrap_or_default());
    out.byte(b'"');
    is_ascii && all & HIGH == 0
}

/// Copies the words up to the first with something to escape: whether there is none, how many bytes they are, and all their
/// bits together. There is room for one word more than the text.
#[inline]
fn copy_plain(room: &mut [u8], text: &[u8]) -> (bool, usize, u64) {
    let (mut at, mut all) = (0, 0);
    // What has something to escape often has it near its start, where looking for it costs least.
    if let (Some(bytes), Some(place)) = (chunk::<8>(text, 0), chunk_mut::<8>(room, 0)) {
        let word = u64::from_le_bytes(*bytes);
        if words::special(word) != 0 {
            return (false, 0, 0);
        }
        all = word;
        *place = *bytes;
        at = 8;
    }
    while let (Some(block), Some(place)) = (chunk::<32>(text, at), chunk_mut::<32>(room, at)) {
        if !words::is_plain_ascii(block) {
            break;
        }
        *place = *block;
        at += 32;
    }
    while let (Some(bytes), Some(place)) = (chunk::<8>(text, at), chunk_mut::<8>(room, at)) {
        let word = u64::from_le_bytes(*bytes);
        if words::special(word) != 0 {
            return (false, at, all);
        }
        all |= word;
        *place = *bytes;
        at += 8;
    }
    if at == text.len() {
        return (true, at, all);
    }
    // The last eight bytes, of which some are written again; of a shorter text all, where the zeros behind it are special.
    let word = match text.last_chunk::<8>() {
        Some(bytes) => {
            let last = text.len() - 8;
            let word = u64::from_le_bytes(*bytes);
            if words::special(word) != 0 {
                return (false, at, all);
            }
            if let Some(place) = chunk_mut::<8>(room, last) {
                *place = *bytes;
            }
            word
        }
        None => {
            let word = words::load(text, 0);
            if words::before(words::special(word)) != text.len() {
                return (false, 0, 0);
            }
            if let Some(place) = chunk_mut::<8>(room, 0) {
                *place = word.to_le_bytes();
            }
            word
        }
    };
    (true, text.len(), all | word)
}

#[inline]
fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..).and_then(<[u8]>::first_chunk)
}

#[inline]
fn chunk_mut<const N: usize>(bytes: &mut [u8], at: usize) -> Option<&mut [u8; N]> {
    bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut)
}

/// What is left of a string from something to escape on, word by word. Whether it is ASCII.
fn write_rest(out: &mut Out<'_>, text: &[u8]) -> bool {
    let (mut rest, mut all) = (text, 0);
    while let Some((chunk, behind)) = rest.split_first_chunk() {
        let word = u64::from_le_bytes(*chunk);
        all |= word;
        rest = behind;
        let marks = words::special(word);
        if marks != 0 {
            write_escaped(out, word, 8, marks);
            continue;
        }
        out.word(word, 8);
        if all & HIGH == 0 {
            while let Some((block, behind)) = rest.split_first_chunk().filter(|(block, _)| words::is_plain_ascii(block))
            {
                out.bytes(block);
                rest = behind;
            }
        }
    }
    if !rest.is_empty() {
        let (word, present) = (words::load(rest, 0), rest.len());
        all |= word;
        // What a load finds behind the end are zeros, which are not to be escaped.
        let marks = words::special(word) & (u64::MAX >> (64 - 8 * present));
        if marks == 0 { out.word(word, present) } else { write_escaped(out, word, present, marks) }
    }
    all & HIGH == 0
}

/// The first `present` bytes of a word, those that are marked as their escapes: no more than six bytes for each, and room
/// for the word that is written last.
#[inline]
fn write_escaped(out: &mut Out<'_>, word: u64, present: usize, mut marks: u64) {
    let Some(room) = out.window(64).first_chunk_mut::<64>() else { return };
    let bytes = word.to_le_bytes();
    let (mut start, mut length) = (0, 0);
    while marks != 0 {
        let place = words::before(marks) & 7;
        put(room, length, word >> (8 * start));
        length += place - start;
        let escape = ESCAPES.get(usize::from(bytes[place])).unwrap_or(&[0; 8]);
        put(room, length, u64::from_le_bytes(*escape));
        length += usize::from(escape[7]);
        start = place + 1;
        marks &= marks - 1;
    }
    if start < present {
        put(room, length, word >> (8 * start));
        length += present - start;
    }
    out.advance(length);
}

#[inline]
fn put(room: &mut [u8; 64], at: usize, word: u64) {
    if let Some(place) = room.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = word.to_le_bytes();
    }
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
